//! Ring orders of a member set.
//!
//! Source: the Consortium's rings; position of a member = H(seed, ring, member id). In: a seed and
//! members.
//! Out: orders. Holds: an order depends on seed and ids alone, never on who is reachable.
//! Elsewhere: drawing a committee for the next view (`fsm::view`).

use super::MemberId;
use crate::crypto::{Digest, Domain, Hasher};

/// The place of `member` on `ring` under `seed`.
pub fn position(seed: &Digest, ring: u32, member: &MemberId) -> Digest {
    let mut hasher = Hasher::new(Domain::Ring);
    hasher
        .update(seed.as_bytes())
        .update(&ring.to_le_bytes())
        .update(member.0.as_bytes());
    hasher.finish()
}

/// The indices of `members` in the order of `ring` under `seed`.
pub fn ring_order(seed: &Digest, ring: u32, members: &[MemberId]) -> Vec<usize> {
    let mut order: Vec<(Digest, usize)> = members
        .iter()
        .enumerate()
        .map(|(i, m)| (position(seed, ring, m), i))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, index)| index).collect()
}
