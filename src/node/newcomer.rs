//! A listed member that has caught up says so, and may be drawn from then on.
//!
//! Source: design of admission: nobody is drawn before it has caught up. In: applied blocks, the
//! register. Out: a transaction of our own.
//! Holds: one try at a time. Elsewhere: what counts as caught up (`membership::register`).

use super::ears::Gate;
use super::errand::Errand;
use super::handle::Who;
use super::index::Index;
use super::proofs;
use crate::committee::{Height, MemberId};
use crate::crypto::Digest;
use crate::membership::register::{Marks, Operation, Register, Status};

/// Blocks that a try may wait.
const EXPIRY_BLOCKS: u64 = 512;
/// Blocks between two tries.
const REST_BLOCKS: u64 = 8;

/// What says that we caught up.
pub(crate) struct Newcomer {
    /// The digest of the genesis block's header.
    genesis: Digest,
    me: MemberId,
    errand: Errand,
}

impl Newcomer {
    /// Nothing said yet.
    pub(crate) fn new(who: &Who, gate: Gate) -> Self {
        Self {
            genesis: who.genesis.header().digest(),
            me: who.me,
            errand: Errand::new(who, gate, EXPIRY_BLOCKS, REST_BLOCKS),
        }
    }

    /// The block at `height` was applied, and `register` stands behind it.
    pub(crate) fn applied(&mut self, height: Height, register: &Register, index: &Index) {
        let own = register.get(&self.me);
        let is_awaited = own.is_some_and(|own| own.status == Status::Joining);
        if !is_awaited || self.errand.waits(height) {
            return;
        }
        let mark = Marks::height_below(height);
        let digest = match mark {
            Height(0) => Ok(self.genesis), // No disk holds that block.
            mark => proofs::header_digest(index, mark),
        };
        // A block that is not on the disk yet is named later.
        let Ok(digest) = digest else { return };
        if self.errand.say(height, &Operation::CaughtUp(mark, digest)) {
            tracing::info!(%mark, "this member says that it has caught up");
        }
    }
}
