//! What a successor ledger names of the one before it.
//!
//! Source: design of views, 'a dead view'; `docs/formats.md`. In: a ledger whose view is dead. Out:
//! a part of the genesis document.
//! Holds: it is part of the chain id, so whoever pins the successor pins where it goes on from.
//! Elsewhere: who makes it (`cli`), the state that is carried over (`node`).

use serde::{Deserialize, Serialize};

use crate::committee::Height;
use crate::crypto::{Digest, SignBytes};

/// The ledger that a successor goes on from, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predecessor {
    /// Its chain id.
    pub chain: Digest,
    /// The height after which the successor goes on.
    pub height: Height,
    /// The header's digest there.
    pub digest: Digest,
    /// The digest of what is carried over: the application's state and the names that are used.
    pub state_digest: Digest,
}

impl Predecessor {
    /// Adds it to what the chain id is made of.
    pub(super) fn write(&self, bytes: SignBytes) -> SignBytes {
        bytes
            .u8(1)
            .digest(&self.chain)
            .u64(self.height.0)
            .digest(&self.digest)
            .digest(&self.state_digest)
    }
}
