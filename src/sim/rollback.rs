//! A member comes back with an older day of its own disk.
//!
//! Source: the rule against amnesia in `ARCHITECTURE.md`. In: a victim. Out: its log cut to a
//! durable prefix, and its start.
//! Holds: at most f members of a world are rolled back; one that signed what its log lacks is found
//! out before it contradicts itself, or the oracles `faultless` and `agreement` break.
//! Elsewhere: how it is found out (`fsm::recall`), crashes that lose nothing durable (`trouble`).

use super::dice::Dice;
use super::queue::Happening;
use super::world::World;

impl World {
    /// Stops `victim` and starts it again from a prefix of what it held durably; whether there was
    /// one more to roll back.
    pub(super) fn roll_back(&mut self, victim: usize, dice: &mut Dice) -> bool {
        if !self.spare(victim) {
            return false;
        }
        self.lose_power(victim, dice);
        let disk = &mut self.members[victim].disk;
        disk.roll_back(dice.index(disk.durable() + 1));
        let after = dice.within(10_000, 1_000_000);
        self.later(after, Happening::Start(victim));
        true
    }
}
