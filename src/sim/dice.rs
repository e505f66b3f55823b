//! Chance from a seed: the only source of it in a simulated world.
//!
//! Source: SplitMix64 (Steele, Lea, Flood). In: a seed. Out: numbers. Holds: the same seed gives
//! the
//! same numbers on every machine and in every build; each part of the world rolls dice of its own,
//! so
//! that a change in one does not stir another. Elsewhere: what is decided with it (`world`,
//! `faults`).

/// A stream of numbers.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// The stream `part` of `seed`.
    pub(super) fn new(seed: u64, part: u64) -> Self {
        let mut dice = Self(seed ^ part.wrapping_mul(0xa076_1d64_78bd_642f));
        dice.next();
        dice.next();
        dice
    }

    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "there is a number below n");
        self.next() % n
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Whether something happens that happens `per_mille` times of a thousand.
    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// An index into something of `len` parts, which is not empty.
    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index below a length fits")
    }

    /// A delay around `base`, mostly near it and seldom ten times it; a tenth of it at least.
    pub(super) fn delay(&mut self, base: u64) -> u64 {
        let spread = self.within(base / 10, base + base / 2);
        if self.chance(20) {
            spread + self.below(base * 10 + 1)
        } else {
            spread.max(1)
        }
    }
}
