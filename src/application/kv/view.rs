//! One state of the key-value machine, to read from any thread.
//!
//! Source: requests and answers are specified here. In: requests, keys, sealed roots. Out:
//! answers, encoded proofs.
//! Holds: what it reads never changes. Elsewhere: how a state comes about (`kv`), proofs (`map`).

use std::collections::BTreeMap;

use super::super::map::{KEY, Map};
use super::super::{QueryError, Reader};
use super::Operation;
use crate::crypto::Digest;

/// The answer to a request for a key: an encoded [`Operation::Get`].
///
/// Bytes: `00` absent, or `01` and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer(pub Option<Vec<u8>>);

impl Answer {
    /// Reads what [`Reader::query`] gave.
    ///
    /// Errors: [`QueryError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, QueryError> {
        match bytes.split_first() {
            Some((0, [])) => Ok(Self(None)),
            Some((1, value)) => Ok(Self(Some(value.to_vec()))),
            _ => Err(QueryError::Malformed {
                reason: "not an answer".to_owned(),
            }),
        }
    }
}

/// One state and the sealed states before it that must stay provable. A clone costs one count per
/// retained root.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) height: u64,
    pub(super) map: Map,
    pub(super) sealed: BTreeMap<u64, (Digest, Map)>,
}

impl Reader for View {
    fn height(&self) -> u64 {
        self.height
    }

    fn query(&self, request: &[u8]) -> Result<Vec<u8>, QueryError> {
        let malformed = |reason| QueryError::Malformed { reason };
        match Operation::from_bytes(request) {
            Ok(Operation::Get { key }) => Ok(match self.map.get(key) {
                None => vec![0],
                Some(value) => [&[1], &value[..]].concat(),
            }),
            Ok(_) => Err(malformed("only get is a request".to_owned())),
            Err(error) => Err(malformed(error.to_string())),
        }
    }

    fn prove(&self, key: &[u8], root: &Digest) -> Result<Vec<u8>, QueryError> {
        let malformed = |reason: String| QueryError::Malformed { reason };
        KEY.check(key.len())
            .map_err(|error| malformed(error.to_string()))?;
        let mut newest_first = self.sealed.values().rev();
        let (_, map) = newest_first
            .find(|(sealed, _)| sealed == root)
            .ok_or(QueryError::Root { root: *root })?;
        let proof = map.prove(key);
        Ok(proof
            .to_bytes()
            .expect("every value in the map is within its bound"))
    }
}
