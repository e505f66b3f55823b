//! What a seat signs beside its votes: what its snapshot is, and where it stands.
//!
//! Source: design, 'checkpoints and bootstrap'. In: a snapshot's figures, a newcomer's nonce. Out:
//! signed statements and the signatures to check.
//! Holds: neither promises anything of ordering, so neither needs a record: said again it says the
//! same. Elsewhere: votes (`ballot`), who gathers them (`consortium`, `bootstrap`).

use serde::{Deserialize, Serialize};

use super::{Height, Seat, View, ViewId};
use crate::crypto::{Check, Digest, SignBytes, Signature, Tag};

/// A snapshot as its taker describes it; equal at every correct member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Taken {
    /// The height behind which it was taken.
    pub height: Height,
    /// The digest of the header there.
    pub header: Digest,
    /// The root of its manifest.
    pub manifest: Digest,
    /// The digest of the whole state, whatever its segments are.
    pub state: Digest,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Segments.
    pub segments: u32,
}

impl Taken {
    /// What a seat of `view` signs.
    pub fn statement(&self, chain: &Digest, view: ViewId) -> SignBytes {
        SignBytes::new(Tag::Checkpoint, chain)
            .u64(view.0)
            .u64(self.height.0)
            .digest(&self.header)
            .digest(&self.manifest)
            .digest(&self.state)
            .u64(self.bytes)
            .u32(self.segments)
    }
}

/// A seat's word on its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointVote {
    /// The view.
    pub view: ViewId,
    /// The snapshot.
    pub taken: Taken,
    /// Who says it.
    pub seat: Seat,
    /// Its signature.
    pub signature: Signature,
}

impl CheckpointVote {
    /// The signature to check; nothing when the view is another or the seat has no key.
    pub fn check(&self, view: &View) -> Option<Check> {
        let statement = self.taken.statement(view.chain(), self.view);
        check(view, self.view, self.seat, statement, self.signature)
    }
}

/// What a newcomer makes up, so that nobody can answer it ahead of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Nonce(pub [u8; 32]);

/// A seat's word on where the chain stands, for one newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorVote {
    /// The view.
    pub view: ViewId,
    /// The newcomer's.
    pub nonce: Nonce,
    /// The newest certified height that the seat holds.
    pub height: Height,
    /// The digest of the header there.
    pub digest: Digest,
    /// Who says it.
    pub seat: Seat,
    /// Its signature.
    pub signature: Signature,
}

impl AnchorVote {
    pub(super) fn statement(&self, chain: &Digest) -> SignBytes {
        SignBytes::new(Tag::Anchor, chain)
            .u64(self.view.0)
            .digest(&Digest(self.nonce.0))
            .u64(self.height.0)
            .digest(&self.digest)
    }

    /// The signature to check; nothing when the view is another or the seat has no key.
    pub fn check(&self, view: &View) -> Option<Check> {
        let statement = self.statement(view.chain());
        check(view, self.view, self.seat, statement, self.signature)
    }
}

fn check(
    view: &View,
    said: ViewId,
    seat: Seat,
    statement: SignBytes,
    signature: Signature,
) -> Option<Check> {
    let key = view.key(seat).filter(|_| said == view.id())?;
    Some(Check {
        key,
        statement,
        signature,
    })
}
