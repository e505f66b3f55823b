//! Proofs that a key has a value, or that it is absent, under a root of the map.
//!
//! Source: this file is the specification. In: a root and a key, or bytes. Out: a verdict, or
//! bytes.
//! Holds: one proof has one encoding; a proof that verifies was made for this key and this root.
//! Elsewhere: the hashes (`node`), who certified the root (`committee`).
//!
//! Bytes: version `01`; kind; then by kind: `00` absent from an empty map: path 32. `01` present:
//! u32 length, value. `02` absent, the walk ends at another leaf: path 32, that leaf's path 32,
//! its value digest 32. Kinds 1 and 2 go on: u16 count, then from the root down (bit u8, sibling
//! 32). Integers are little-endian, bits strictly increase, nothing follows.

use bytes::Bytes;

use super::super::read::{Cursor, ReadError};
use super::node::{
    Leaf, branch_hash, empty_hash, first_difference, key_path, leaf_hash, side, value_digest,
};
use super::{VALUE, VALUE_BYTES_MAX};
use crate::crypto::Digest;

/// The first byte of an encoded proof.
const PROOF_VERSION: u8 = 1;

/// Steps of the longest walk: one per bit of a path.
const STEPS_MAX: usize = 256;

/// Length of the longest encoded proof; longer bytes are refused.
pub const PROOF_BYTES_MAX: usize = 1 + 1 + 4 + VALUE_BYTES_MAX + 2 + STEPS_MAX * 33;

/// A walk from the root to the leaf that a key leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapProof {
    end: End,
    /// From the root down: the bit of a branch and the hash of the child not taken.
    steps: Vec<(u8, Digest)>,
}

/// Where a walk ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// The map is empty.
    Nothing { path: Digest },
    /// At the key's leaf.
    Present { value: Bytes },
    /// At another key's leaf.
    Other {
        path: Digest,
        leaf: Digest,
        value: Digest,
    },
}

impl MapProof {
    pub(super) fn nothing(path: Digest) -> Self {
        Self {
            end: End::Nothing { path },
            steps: Vec::new(),
        }
    }

    pub(super) fn at_leaf(path: Digest, leaf: &Leaf, steps: Vec<(u8, Digest)>) -> Self {
        let end = if leaf.path == path {
            End::Present {
                value: leaf.value.clone(),
            }
        } else {
            End::Other {
                path,
                leaf: leaf.path,
                value: value_digest(&leaf.value),
            }
        };
        Self { end, steps }
    }

    /// The value of `key` under `root`, or `None` where the proof shows that it is absent.
    ///
    /// Errors: [`ProofError::Key`] where the proof is for another key, [`ProofError::Root`] where
    /// it does not lead to `root`, [`ProofError::Walk`] where it is none.
    pub fn verify(&self, root: &Digest, key: &[u8]) -> Result<Option<&Bytes>, ProofError> {
        let asked = key_path(key);
        self.check_shape()?;
        let (leaf, value) = match &self.end {
            End::Nothing { path } | End::Other { path, .. } if *path != asked => {
                return Err(ProofError::Key);
            }
            End::Nothing { .. } => (empty_hash(), None),
            End::Present { value } => (leaf_hash(&asked, &value_digest(value)), Some(value)),
            End::Other { leaf, value, .. } => (leaf_hash(leaf, value), None),
        };
        // Which side was taken follows from the key alone, so a walk cannot be bent to another
        // leaf.
        let folded = self.steps.iter().rev().fold(leaf, |node, (bit, sibling)| {
            let pair = [&node, sibling];
            let high = side(&asked, *bit);
            branch_hash(*bit, [pair[high], pair[1 - high]])
        });
        if folded != *root {
            return Err(ProofError::Root { got: folded });
        }
        Ok(value)
    }

    /// The encoding that the head describes, at most [`PROOF_BYTES_MAX`] bytes.
    ///
    /// Errors: [`ProofError::Read`] where the value is longer than a map may hold.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ProofError> {
        let mut bytes = vec![PROOF_VERSION];
        match &self.end {
            End::Nothing { path } => {
                bytes.push(0);
                bytes.extend_from_slice(path.as_bytes());
                return Ok(bytes);
            }
            End::Present { value } => {
                bytes.push(1);
                VALUE.write(value, &mut bytes)?;
            }
            End::Other { path, leaf, value } => {
                bytes.push(2);
                for digest in [path, leaf, value] {
                    bytes.extend_from_slice(digest.as_bytes());
                }
            }
        }
        let count = u16::try_from(self.steps.len()).expect("a walk has at most 256 steps");
        bytes.extend_from_slice(&count.to_le_bytes());
        for (bit, sibling) in &self.steps {
            bytes.push(*bit);
            bytes.extend_from_slice(sibling.as_bytes());
        }
        Ok(bytes)
    }

    /// Reads what [`MapProof::to_bytes`] wrote.
    ///
    /// Errors: [`ProofError::Read`] and [`ProofError::Walk`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofError> {
        let mut cursor = Cursor(bytes);
        match cursor.u8()? {
            PROOF_VERSION => {}
            value => {
                return Err(ReadError::Unknown {
                    field: "proof version",
                    value,
                }
                .into());
            }
        }
        let kind = cursor.u8()?;
        let end = match kind {
            0 => End::Nothing {
                path: cursor.digest()?,
            },
            1 => End::Present {
                value: Bytes::copy_from_slice(cursor.bytes(VALUE)?),
            },
            2 => End::Other {
                path: cursor.digest()?,
                leaf: cursor.digest()?,
                value: cursor.digest()?,
            },
            value => {
                return Err(ReadError::Unknown {
                    field: "proof kind",
                    value,
                }
                .into());
            }
        };
        let count = if kind == 0 { 0 } else { cursor.u16()? };
        let mut steps = Vec::new();
        for _ in 0..count {
            steps.push((cursor.u8()?, cursor.digest()?));
        }
        cursor.end()?;
        let proof = Self { end, steps };
        proof.check_shape()?;
        Ok(proof)
    }

    /// Bits grow on the way down, and another leaf is another and lies on the same walk.
    fn check_shape(&self) -> Result<(), ProofError> {
        if !self
            .steps
            .is_sorted_by(|(above, _), (below, _)| above < below)
        {
            return Err(ProofError::Walk);
        }
        let End::Other { path, leaf, .. } = &self.end else {
            return Ok(());
        };
        let differ = first_difference(path, leaf).ok_or(ProofError::Walk)?;
        let on_walk = self
            .steps
            .iter()
            .all(|(bit, _)| *bit < differ || side(path, *bit) == side(leaf, *bit));
        if on_walk {
            Ok(())
        } else {
            Err(ProofError::Walk)
        }
    }
}

/// Why a proof proves nothing. Whoever gave it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The bytes are no proof.
    #[error("unreadable proof: {0}")]
    Read(#[from] ReadError),
    /// The steps are none that a map has.
    #[error("the proof's steps are not a walk through a map")]
    Walk,
    /// It was made for another key.
    #[error("the proof is for another key")]
    Key,
    /// It leads to another root: another value, another key or another state.
    #[error("the proof leads to root {got}")]
    Root {
        /// Where it leads.
        got: Digest,
    },
}
