//! Ambushes: in a world with a schemer the network is on its side.
//!
//! Source: the adversary of partial synchrony, which has the network until it is calm. In: who has
//! just locked or decided. Out: everything on its way is lost, and that member is cut off while
//! the others change the regency.
//! Holds: no other world has one or rolls dice for it; every cut is mended.
//! Elsewhere: cuts that strike by chance (`trouble`), the schemer (`villain`).

use super::queue::Happening;
use super::world::World;

/// Of a thousand locks and decisions so many are met by an ambush.
const AMBUSHES: u64 = 250;

/// What ambushes leave behind.
#[derive(Debug, Default)]
pub(super) struct Ambush {
    /// Frames sent before were lost.
    pub(super) swept: u64,
    /// When the next may be laid.
    free_at: u64,
}

impl World {
    /// `victim` is about to say that it locked, or has just decided.
    pub(super) fn ambush(&mut self, victim: usize) {
        let villain = self.ground.options.villain;
        let is_schemed = villain.is_some_and(|villain| villain.has_network());
        let is_free = is_schemed && !self.is_calm && self.now >= self.ambush.free_at;
        if !is_free || self.oracle.is_faulty(victim) || !self.dice.chance(AMBUSHES) {
            return;
        }
        self.count("ambushes");
        let timeout = self.ground.setting.pace().first.0;
        let silence = self.dice.within(timeout / 4, timeout * 2);
        let absence = silence + self.dice.below(timeout * 6);
        self.ambush.swept = self.now;
        self.ambush.free_at = self.now + silence;
        let count = self.members.len();
        for (from, to) in (0..count).flat_map(|from| (from + 1..count).map(move |to| (from, to))) {
            self.cut_link(from, to, true);
            self.cut_link(to, from, true);
            let is_victim = from == victim || to == victim;
            let after = if is_victim { absence } else { silence };
            self.later(after, Happening::Cut(from, to, false));
        }
    }
}
