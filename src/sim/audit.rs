//! The audit: one running hash over everything that happens in a world.
//!
//! Source: TigerBeetle's VOPR, which compares two runs of a seed by it. In: numbers, a few per
//! event. Out: 32 hex digits. Holds: the same events in the same order give the same digits, in
//! every build and on every machine; it tells histories apart and resists nobody.
//! Elsewhere: what is noted (`world`, `post`).

use std::fmt;

use crate::crypto::Digest;

/// The running hash.
#[derive(Clone, Debug)]
pub(super) struct Audit(u64, u64);

impl Audit {
    pub(super) fn new() -> Self {
        Self(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344)
    }

    /// Takes numbers in.
    pub(super) fn note<const N: usize>(&mut self, words: [u64; N]) {
        for word in words {
            let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.0 = mixed.rotate_left(29);
            let mixed = (self.1 ^ mixed).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            self.1 = mixed.rotate_left(31);
        }
    }
}

/// A digest in one number.
pub(super) fn brief(digest: &Digest) -> u64 {
    let (head, _) = digest.0.split_at(8);
    u64::from_le_bytes(head.try_into().expect("eight bytes"))
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0, self.1)
    }
}
