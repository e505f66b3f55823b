//! A member comes back with an older day of its own disk.
//!
//! Source: the rule against amnesia in `ARCHITECTURE.md`. In: a victim. Out: its log cut to a
//! durable prefix, and its start.
//! Holds: at most f members of a world are rolled back; one that signed what its log lacks is found
//! out before it contradicts itself, or the oracles `faultless` and `agreement` break.
//! Elsewhere: how it is found out (`fsm::recall`), crashes that lose nothing durable (`trouble`).

use super::queue::Happening;
use super::world::World;

impl World {
    /// Stops `victim` and starts it again from a prefix of what it held durably; whether there was
    /// one more to roll back.
    pub(super) fn roll_back(&mut self, victim: usize) -> bool {
        if !self.oracle.roll_back(victim) {
            return false;
        }
        self.count("rollbacks");
        self.stop(victim, true);
        let durable = self.members[victim].disk.durable();
        let kept = self.dice.index(durable + 1);
        self.members[victim].disk.roll_back(kept);
        let after = self.dice.within(10_000, 1_000_000);
        self.later(after, Happening::Start(victim));
        true
    }
}
