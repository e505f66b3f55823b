//! Which member is asked next.
//!
//! Source: `ARCHITECTURE.md`, clients. In: answers, refusals, silences. Out: a member.
//! Holds: the one that answered last is asked first; one that refused rests until it said, or for a
//! time that doubles. Elsewhere: how many at once (`route`), how long to wait (`pace`).

use std::time::Duration;

use tokio::time::Instant;

/// The first rest of a member that failed, in milliseconds.
const REST_MS_FIRST: u64 = 50;
/// The longest rest, in milliseconds, whatever a member asks for.
const REST_MS_MAX: u64 = 5_000;

/// What is known of the members.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    preferred: usize,
    members: Vec<Standing>,
}

#[derive(Clone, Debug, Default)]
struct Standing {
    rests_until: Option<Instant>,
    failures: u32,
}

impl Roster {
    /// `count` members; `first` spreads clients over them.
    pub(crate) fn new(count: usize, first: u64) -> Self {
        let preferred = first.checked_rem(count as u64).unwrap_or(0);
        Self {
            preferred: usize::try_from(preferred).unwrap_or(0),
            members: vec![Standing::default(); count],
        }
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
        let standing = &mut self.members[member];
        let own_ms = REST_MS_FIRST << standing.failures.min(7);
        let rest_ms = asked_ms.unwrap_or(own_ms).min(REST_MS_MAX);
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
