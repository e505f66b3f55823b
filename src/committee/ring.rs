//! Ring orders of a member set.
//!
//! Source: the Consortium's rings; position of a member = H(seed, ring, member id). In: a seed and
//! members.
//! Out: orders. Holds: an order depends on seed and ids alone, never on who is reachable.
//! Elsewhere: drawing a committee for the next view (`draw`).

use super::MemberId;
use crate::crypto::{Digest, Domain, Hasher};

/// The place of `member` on `ring` under `seed`.
pub fn position(seed: &Digest, ring: u32, member: &MemberId) -> Digest {
    digest_of(seed, ring, member).finish()
}

/// The virtual positions of `member` on `ring` under `seed`; [`position`] is the first.
///
/// Never ends; a member of weight w has the first w of them.
pub fn positions(
    seed: &Digest,
    ring: u32,
    member: &MemberId,
) -> impl Iterator<Item = Digest> + use<> {
    digest_of(seed, ring, member).stretch()
}

fn digest_of(seed: &Digest, ring: u32, member: &MemberId) -> Hasher {
    let mut hasher = Hasher::new(Domain::Ring);
    hasher
        .update(seed.as_bytes())
        .update(&ring.to_le_bytes())
        .update(member.0.as_bytes());
    hasher
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
