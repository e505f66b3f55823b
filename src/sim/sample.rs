//! Worlds whose committees are samples: members make threshold keys in the chain.
//!
//! Source: what `node` does for its member. In: applied blocks, the register. Out: a transaction of
//! the member's own.
//! Holds: so few members may be faulty that every sample bears them; one try of a part at a time.
//! Elsewhere: keys and draws (`membership::register`, `consortium`).

use super::Options;
use super::clients;
use super::oracle::faulty_max;
use super::queue::Happening;
use super::world::World;
use crate::blocks::{Call, Transaction, ViewRules};
use crate::committee::{Height, Risk};
use crate::consortium::Applied;
use crate::membership::register::Stage;

/// Where so many may be drawn, fewer sit.
const EVERYONE_BELOW: u32 = 5;
/// Seats of a sample: with a tenth of fewer than ten members faulty, four bear the one.
const SEATS: usize = 4;
/// A try waits so many blocks.
const EXPIRY_BLOCKS: u64 = 64;
/// Blocks between two tries of one part.
const REST_BLOCKS: u64 = 4;

/// The part that a member gave last, and when.
pub(super) type Part = (Call, Stage, Height);

/// The rules of a world that draws.
pub(super) fn rules(rules: ViewRules) -> ViewRules {
    ViewRules {
        rotation_blocks: rules.rotation_blocks.max(8),
        assemble_blocks: 4,
        everyone_below: EVERYONE_BELOW,
        risk: Risk {
            byzantine_ppm: 100_000,
            crashed_ppm: 0,
            ..rules.risk
        },
    }
}

impl Options {
    /// Members that may be faulty at once.
    pub(super) fn bearable(&self) -> usize {
        match self.sample {
            true => faulty_max(SEATS),
            false => faulty_max(self.members),
        }
    }
}

impl World {
    /// A member applied a block: it gives its part in the threshold key under way.
    pub(super) fn give_part(&mut self, index: usize, applied: &Applied) {
        let height = applied.block.header.height;
        let member = &mut self.members[index];
        let Some(running) = &member.running else {
            return;
        };
        let register = running.replica.ledger().register();
        let Some(generation) = register.generation() else {
            return;
        };
        let (call, next) = (generation.call(), height.next());
        let stage = generation.stage(next);
        let is_said = member.part.is_some_and(|(of, at, said)| {
            (of, at) == (call, stage) && height < said.plus(REST_BLOCKS)
        });
        let secret = member.keys.called(&call).filter(|_| !is_said);
        let owed = secret.and_then(|secret| generation.owed(&member.id, secret, next));
        let Some(operation) = owed else { return };
        member.part = Some((call, stage, height));
        let most = self.ground.genesis.parameters.expiry_blocks_max;
        let transaction = Transaction {
            sequence: self.dice.next(),
            expiry: height.plus(EXPIRY_BLOCKS.min(most.into())),
            operation: operation.to_bytes().into(),
        };
        let chain = self.ground.genesis.chain();
        let submission = clients::signed(&chain, &member.identity, vec![transaction]);
        let life = member.life;
        self.later(1, Happening::Submit(index, life, submission));
    }
}
