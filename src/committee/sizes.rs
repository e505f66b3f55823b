//! Quorum arithmetic for every committee size.
//!
//! Source: n ≥ 3f + 1; q = ⌈(n + f + 1) / 2⌉. In: a number of seats. Out: [`Sizes`].
//! Holds: two quorums meet in more than f seats, so in a correct one; n − f correct seats make a
//! quorum.
//! Elsewhere: which seats (`view`).

use crate::plant::{self, Plant};

/// What follows from the number of seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Seats.
    pub n: usize,
    /// Faulty seats tolerated.
    pub f: usize,
    /// Seats in a quorum.
    pub q: usize,
}

impl Sizes {
    /// The sizes of a committee of `n` seats; `n` is at least 1.
    pub fn of(n: usize) -> Self {
        assert!(n > 0, "a committee has a seat");
        let f = (n - 1) / 3;
        let q = (n + f + 1).div_ceil(2);
        assert!(2 * q > n + f, "two quorums meet in more than f seats");
        assert!(q <= n - f, "the correct seats make a quorum");
        let q = q - usize::from(plant::is(Plant::SmallQuorum) && q > 1);
        Self { n, f, q }
    }
}
