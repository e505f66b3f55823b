//! Proposals: what is voted. A proposal names no parent, regency or result, so it keeps its bytes
//! when a later regency proposes it again.
//!
//! Source: `docs/formats.md`. In: batches or a control body. Out: a digest to vote on.
//! Holds: the digest binds every field, batches by their digest, the carried certificate by its
//! own.
//! Elsewhere: the header that follows from decided proposals (`header`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::codec::{self, DecodeError};
use crate::committee::{Certificate, Height, ViewId};
use crate::crypto::{Digest, Domain, Hasher};

/// The version byte of proposals, headers and bodies.
pub const FORMAT_VERSION: u8 = 1;
/// The encoded bytes of a proposal, at most: one frame of the votes' lane with room for its
/// envelope.
pub const PROPOSAL_BYTES_MAX: usize = 960 << 10;

/// What a leader proposes for one height.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// [`FORMAT_VERSION`].
    pub version: u8,
    /// The chain.
    pub chain: Digest,
    /// The view.
    pub view: ViewId,
    /// The height.
    pub height: Height,
    /// The leader's clock in microseconds since the Unix epoch.
    pub timestamp_us: u64,
    /// Whether the leader asks for PERSIST votes at this height.
    pub is_sealed: bool,
    /// What is ordered.
    pub body: Body,
    /// The newest block certificate that the leader holds; none while that is genesis.
    pub carried: Option<Certificate>,
}

impl Proposal {
    /// What is voted on.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::Proposal);
        hasher.update(&[self.version]);
        hasher.update(self.chain.as_bytes());
        hasher.update(&self.view.0.to_le_bytes());
        hasher.update(&self.height.0.to_le_bytes());
        hasher.update(&self.timestamp_us.to_le_bytes());
        hasher.update(&[self.is_sealed.into(), self.carried.is_some().into()]);
        hasher.update(self.body.root().as_bytes());
        if let Some(certificate) = &self.carried {
            hasher.update(certificate.digest().as_bytes());
        }
        hasher.finish()
    }

    /// Its encoded form.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(codec::encode(self))
    }

    /// Reads an encoded proposal; what depends on chain and view is judged by the replica.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, PROPOSAL_BYTES_MAX)
    }

    /// The height up to which its leader holds a block certificate.
    pub fn carried_height(&self) -> Height {
        self.carried
            .as_ref()
            .map_or(Height(0), |certificate| certificate.ballot.height)
    }
}
