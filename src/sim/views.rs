//! Views in the world: keys that members make and erase, and the views that they know of.
//!
//! Source: the driver's part of a hand-over. In: calls, views that begin. Out: keys, commands.
//! Holds: a key is durable before its public half leaves; what a hand-over erases is gone in every
//! later life.
//! Elsewhere: the same with files (`node`), when it happens (`consortium`).

use super::queue::Happening;
use super::world::World;
use crate::blocks::{Call, NextKey};
use crate::committee::{KeyProof, View, ViewId};
use crate::consortium::{Command, Ears};

/// How long a key file takes to be written or erased, in microseconds.
const KEYS_US: u64 = 2_000;

impl World {
    /// The view in which a member stands; that of the founders while it is down.
    pub(super) fn view_at(&self, index: usize) -> &View {
        let running = self.members[index].running.as_ref();
        running.map_or(&self.ground.view, |running| running.replica.view())
    }

    /// A member makes its key for a call, or finds it; while one of an admission is not in force,
    /// it gives none.
    pub(super) fn make_key(&mut self, index: usize, call: Call) {
        let chain = self.ground.genesis.chain();
        let member = &mut self.members[index];
        let Some(running) = &member.running else {
            return;
        };
        let register = running.replica.ledger().register();
        if !member.keys.may_answer(register, &member.id) {
            return;
        }
        let setting = &self.ground.setting;
        let make = || setting.key_for((index, member.life), &call);
        let key = member.keys.answer(call, make);
        let proof = KeyProof::make(&chain, call.next, &call.assemble, &member.identity, &key);
        let identity = member.identity.public();
        let key = NextKey {
            call,
            identity,
            proof,
        };
        self.keys_done(index, Command::Key(Box::new(key)));
    }

    /// A view begins at a member: every key but that of its seat is erased.
    pub(super) fn step_over(&mut self, index: usize, view: &View) {
        self.known_view(index, view);
        let member = &mut self.members[index];
        let (secret, is_fresh) = member.keys.enter(view, &member.id);
        if member.is_wiped && secret.is_some() {
            member.is_wiped = false;
            self.oracle.forgive(index);
        }
        let secret = secret.map(Box::new);
        self.keys_done(index, Command::Enter(view.id(), secret, is_fresh));
    }

    fn keys_done(&mut self, index: usize, command: Command) {
        let life = self.members[index].life;
        let after = self.dice.delay(KEYS_US);
        self.later(after, Happening::Keys(index, life, command));
    }

    /// A view is known to the judges: there is one of each number.
    pub(super) fn known_view(&mut self, index: usize, view: &View) {
        let known = self.ground.ears.get(&view.id()).map(|ears| &ears.view);
        match known {
            Some(known) if known == view => {}
            Some(_) => self.breaks("views", format!("two views {}", view.id())),
            None => {
                let ears = Ears {
                    view: view.clone(),
                    ..self.ground.ears[&ViewId(0)].clone()
                };
                self.ground.ears.insert(view.id(), ears);
                self.oracle.view(view.clone());
                self.judge_view(index, view);
            }
        }
    }
}
