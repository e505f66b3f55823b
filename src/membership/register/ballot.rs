//! Open ballots: what was moved and who said what of it.
//!
//! Source: design of membership in the chain, votes of n − f listed members. In: votes. Out:
//! whether a motion passes or falls.
//! Holds: a member has one vote on a ballot; only votes of members who have one now count, so who
//! left or was excluded decides nothing. Elsewhere: what a motion does (`act`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::operation::Motion;
use crate::committee::Height;

/// Ballots opened by members, at most; a further one is refused until one is over.
pub const BALLOTS_MAX: usize = 64;
/// Open ballots that one member moved, at most; a further one is refused.
pub const BALLOTS_PER_MEMBER_MAX: usize = 8;
/// Newcomers that asked to be members and were not invited, at most; the oldest without any vote
/// gives way to the next, and where all have votes the next is refused.
pub const REQUESTS_MAX: usize = 64;
/// Blocks after which a ballot or a request is over.
pub const BALLOT_BLOCKS_MAX: u64 = 200_000;

/// How many votes a change needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Majority {
    /// Members who have a vote.
    pub members: usize,
    /// Votes that carry a motion: n − f.
    pub needed: usize,
}

impl Majority {
    /// Of `members` members; none carry nothing.
    pub fn of(members: usize) -> Self {
        let faulty = members.saturating_sub(1) / 3;
        Self {
            members,
            needed: (members - faulty).max(1),
        }
    }

    /// Whether so many rejections leave too few to carry a motion.
    pub fn is_blocked_by(&self, rejections: usize) -> bool {
        self.members.saturating_sub(rejections) < self.needed
    }
}

/// A ballot that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// What would be done.
    pub motion: Motion,
    /// When it was opened.
    pub opened: Height,
    /// The number of the member that moved it; none where a newcomer's request did.
    pub by: Option<u32>,
    /// Numbers of the members who approved it.
    pub approvals: BTreeSet<u32>,
    /// Numbers of the members who rejected it.
    pub rejections: BTreeSet<u32>,
}

impl Ballot {
    /// A ballot on `motion` without any vote.
    pub(super) fn new(motion: Motion, opened: Height, by: Option<u32>) -> Self {
        Self {
            motion,
            opened,
            by,
            approvals: BTreeSet::new(),
            rejections: BTreeSet::new(),
        }
    }

    /// Whether it is over at `height`.
    pub fn is_over(&self, height: Height) -> bool {
        self.opened.plus(BALLOT_BLOCKS_MAX) < height
    }

    /// Whether nobody said anything.
    pub fn is_untouched(&self) -> bool {
        self.approvals.is_empty() && self.rejections.is_empty()
    }

    /// Whether the member of that number voted.
    pub fn has_vote_of(&self, number: u32) -> bool {
        self.approvals.contains(&number) || self.rejections.contains(&number)
    }
}
