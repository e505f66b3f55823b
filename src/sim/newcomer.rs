//! A listed member that has caught up says so, and may be drawn from then on.
//!
//! Source: what `node` does for its member. In: applied blocks, the register. Out: a transaction of
//! the member's own.
//! Holds: one try at a time; what was refused or expired is tried again some blocks later.
//! Elsewhere: what counts as caught up (`membership::register`), who is listed (`operators`).

use super::queue::Happening;
use super::world::World;
use crate::blocks::Transaction;
use crate::committee::Height;
use crate::consortium::Applied;
use crate::consortium::serve::Archive;
use crate::crypto::Digest;
use crate::membership::register::{Marks, Operation, Status};

/// Blocks that a try may wait, if the ledger allows as many.
const EXPIRY_BLOCKS: u64 = 512;
/// Blocks between two tries.
const REST_BLOCKS: u64 = 8;

/// What a member said last.
#[derive(Debug)]
pub(super) struct Tried {
    at: Height,
    group: Digest,
    sequence: u64,
    is_open: bool,
}

impl World {
    /// A member applied a block: operators see it, and who is new says that it has caught up.
    pub(super) fn follow(&mut self, index: usize, applied: &Applied) {
        if !self.oracle.is_faulty(index) {
            self.census.follow(applied);
        }
        self.say_caught_up(index, applied);
    }

    fn say_caught_up(&mut self, index: usize, applied: &Applied) {
        let height = applied.block.header.height;
        let member = &mut self.members[index];
        let identity = member.identity.public();
        if let Some(tried) = &mut member.tried {
            let mut answers = applied.answers.iter();
            tried.is_open &= !answers.any(|a| (a.client, a.sequence) == (identity, tried.sequence));
        }
        let Some(running) = &member.running else {
            return;
        };
        let own = running.replica.ledger().register().get(&member.id);
        if own.is_none_or(|own| own.status != Status::Joining) {
            return;
        }
        let most = self.ground.genesis.parameters.expiry_blocks_max;
        let expiry_blocks = EXPIRY_BLOCKS.min(most.into());
        let waits = member.tried.as_ref().is_some_and(|tried| {
            let is_open = tried.is_open && height <= tried.at.plus(expiry_blocks);
            is_open || height < tried.at.plus(REST_BLOCKS)
        });
        let mark = Marks::height_below(height);
        let digest = match mark {
            Height(0) => Some(self.ground.genesis.header().digest()),
            mark => member.disk.block(mark).map(|block| block.header.digest()),
        };
        let Some(digest) = digest.filter(|_| !waits) else {
            return;
        };
        let sequence = self.dice.next();
        let transaction = Transaction {
            sequence,
            expiry: height.plus(expiry_blocks),
            operation: Operation::CaughtUp(mark, digest).to_bytes().into(),
        };
        let chain = self.ground.genesis.chain();
        let submission = super::clients::signed(&chain, &member.identity, vec![transaction]);
        let group = submission.1.digest;
        let is_open = true;
        member.tried = Some(Tried {
            at: height,
            group,
            sequence,
            is_open,
        });
        let life = member.life;
        self.later(1, Happening::Submit(index, life, submission));
    }

    /// A group was not admitted.
    pub(super) fn refused(&mut self, index: usize, group: &Digest) {
        let tried = self.members[index].tried.as_mut();
        if let Some(tried) = tried.filter(|tried| tried.group == *group) {
            tried.is_open = false;
        }
    }
}
