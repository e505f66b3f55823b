//! Which member is asked next.
//!
//! Source: `ARCHITECTURE.md`, clients. In: answers, refusals, silences. Out: a member.
//! Holds: the one that answered last is asked first; one that refused rests until it said, or for a
//! time that doubles, and up to half as long again by chance, so that clients that were refused
//! together do not come back together.
//! Elsewhere: how many at once (`route`), how long to wait (`pace`).

use std::time::Duration;

use tokio::time::Instant;

/// The first rest of a member that failed, in milliseconds.
const REST_MS_FIRST: u64 = 50;
/// The longest rest before chance adds to it, in milliseconds, whatever a member asks for.
const REST_MS_MAX: u64 = 5_000;

/// What is known of the members.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    preferred: usize,
    members: Vec<Standing>,
    /// Where chance comes from.
    dice: u64,
}

#[derive(Clone, Debug, Default)]
struct Standing {
    rests_until: Option<Instant>,
    failures: u32,
}

impl Roster {
    /// `count` members; `seed` spreads clients over them, and over time.
    pub(crate) fn new(count: usize, seed: u64) -> Self {
        let preferred = seed.checked_rem(count as u64).unwrap_or(0);
        Self {
            preferred: usize::try_from(preferred).unwrap_or(0),
            members: vec![Standing::default(); count],
            dice: seed,
        }
    }

    /// A number below `end`, or 0: splitmix64.
    fn chance(&mut self, end: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(end).unwrap_or(0)
    }

    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The member to ask now, none of `busy`.
    pub(crate) fn pick(&self, now: Instant, busy: &[usize]) -> Option<usize> {
        let count = self.members.len();
        let order = (0..count).map(|step| (self.preferred + step) % count);
        order
            .filter(|member| !busy.contains(member))
            .find(|member| self.members[*member].rests_until.is_none_or(|t| t <= now))
    }

    /// When the first of those that rest may be asked, none of `busy`.
    pub(crate) fn next_rested(&self, busy: &[usize]) -> Option<Instant> {
        let members = self.members.iter().enumerate();
        let rests = members.filter(|(member, _)| !busy.contains(member));
        rests.filter_map(|(_, standing)| standing.rests_until).min()
    }

    /// `member` gave an answer that holds.
    pub(crate) fn answered(&mut self, member: usize) {
        self.preferred = member;
        self.members[member] = Standing::default();
    }

    /// `member` refused, failed or lied; it rests for `asked_ms` where it said so.
    pub(crate) fn failed(&mut self, member: usize, now: Instant, asked_ms: Option<u64>) {
        let own_ms = REST_MS_FIRST << self.members[member].failures.min(7);
        let rest_ms = asked_ms.unwrap_or(own_ms).min(REST_MS_MAX);
        let rest_ms = rest_ms + self.chance(rest_ms / 2);
        let standing = &mut self.members[member];
        standing.failures = standing.failures.saturating_add(1);
        standing.rests_until = Some(now + Duration::from_millis(rest_ms));
        self.pass_over(member);
    }

    /// `member` is silent: another is preferred, though it may still answer.
    pub(crate) fn pass_over(&mut self, member: usize) {
        if self.preferred == member {
            self.preferred = (member + 1) % self.members.len();
        }
    }
}
