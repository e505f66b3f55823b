//! One signed group on its way: one member first, another on silence or refusal.
//!
//! Source: `ARCHITECTURE.md`, clients. In: bytes, a tally. Out: one result per transaction.
//! Holds: every member gets the same bytes, so nothing executes twice; at most f + 1 are asked at
//! once. Elsewhere: what counts (`tally`), who is next (`roster`), how long silence is (`pace`).

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use super::ClientError;
use super::pace::Pace;
use super::roster::Roster;
use super::tally::{Heard, Tally, Told};
use super::transport::{AskError, Transport};
use super::views::{follow, is_ahead};
use crate::api::{Answers, Wait};

/// How long to wait before a member that spoke is asked again.
const AGAIN_MS: u64 = 50;

/// What is known of the members, shared by every group under way.
#[derive(Debug)]
pub(crate) struct Known {
    roster: Mutex<Roster>,
    pace: Mutex<Pace>,
}

impl Known {
    pub(crate) fn new(members_count: usize, seed: u64) -> Self {
        Self {
            roster: Mutex::new(Roster::new(members_count, seed)),
            pace: Mutex::new(Pace::default()),
        }
    }

    pub(crate) fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().expect("no holder of this lock panics")
    }
}

/// What is sent, and for how long.
pub(crate) struct Parcel {
    pub(crate) bytes: Bytes,
    pub(crate) wait: Wait,
    pub(crate) limit: Duration,
}

/// What one attempt met.
type Attempt = (usize, Instant, Result<Answers, AskError>);

/// Sends `parcel` until `tally` is settled or its time is over.
pub(crate) async fn route(
    transport: &dyn Transport,
    known: &Known,
    parcel: &Parcel,
    tally: Tally<'_>,
) -> Vec<Told> {
    let rules = tally.rules();
    let start = Instant::now();
    let mut routing = Routing {
        known,
        allowed: tally.members_want(),
        tally,
        busy: Vec::new(),
        spent: Vec::new(),
        helped: 0,
        last: None,
    };
    let deadline = start + parcel.limit;
    let mut asks = FuturesUnordered::new();
    let mut silence = start + known.pace().timeout();
    loop {
        while let Some(member) = routing.next_member() {
            let ask = transport.submit(
                member,
                parcel.bytes.clone(),
                parcel.wait,
                deadline.saturating_duration_since(Instant::now()),
            );
            let asked = Instant::now();
            asks.push(async move {
                let answer = ask.await;
                let is_ahead = |answers| is_ahead(rules, answers);
                let learned = match answer.as_ref().is_ok_and(is_ahead) {
                    true => follow(rules, transport, member).await,
                    false => Ok(()),
                };
                (member, asked, learned.and(answer))
            });
        }
        let again = routing.again_at();
        tokio::select! {
            biased;
            Some(attempt) = asks.next(), if !asks.is_empty() => {
                routing.hear(attempt);
                if routing.tally.is_settled() {
                    break;
                }
            }
            () = sleep_until(deadline) => break,
            () = sleep_until(silence), if !asks.is_empty() => {
                routing.escalate();
                silence = Instant::now() + known.pace().timeout();
            }
            () = sleep_until(again) => routing.start_over(),
        }
    }
    drop(asks);
    let otherwise = routing.otherwise(parcel.limit);
    routing.tally.into_told(&otherwise)
}

struct Routing<'a> {
    known: &'a Known,
    tally: Tally<'a>,
    /// Members asked in this round, now, those whose answer counts included.
    allowed: usize,
    /// Who is being asked.
    busy: Vec<usize>,
    /// Who spoke in this round and is not asked again before others were.
    spent: Vec<usize>,
    /// How many of these gave an answer that counts.
    helped: usize,
    last: Option<ClientError>,
}

impl Routing<'_> {
    /// Members asked at once, at most.
    fn most(&self) -> usize {
        self.tally.faults_and_one()
    }

    /// The next member to ask, if another may be asked now.
    fn next_member(&mut self) -> Option<usize> {
        if self.busy.len() >= self.most() || self.busy.len() + self.helped >= self.allowed {
            return None;
        }
        let mut others = self.busy.clone();
        others.extend(&self.spent);
        let member = self.known.roster().pick(Instant::now(), &others)?;
        self.busy.push(member);
        Some(member)
    }

    /// When somebody can be asked whom nobody can now.
    fn again_at(&self) -> Instant {
        let now = Instant::now();
        let soon = now + Duration::from_millis(AGAIN_MS);
        let rested = self.known.roster().next_rested(&self.busy);
        rested.map_or(soon, |rested| rested.max(soon))
    }

    /// Those that spoke may be asked again.
    fn start_over(&mut self) {
        if self.busy.is_empty() {
            self.helped = 0;
        }
        self.spent.clear();
    }

    fn hear(&mut self, (member, asked, result): Attempt) {
        self.busy.retain(|other| *other != member);
        self.spent.push(member);
        let heard = match result {
            Ok(answers) => self.tally.hear(member, answers),
            Err(AskError::Problem(problem)) => self.tally.hear_problem(member, &problem),
            Err(AskError::Silent) => {
                self.known.pace().silent();
                Heard::Later(None, "silent".into())
            }
            Err(AskError::Broken(reason)) => {
                self.last = Some(ClientError::Unreachable {
                    reason: reason.clone(),
                });
                self.known.roster().failed(member, Instant::now(), None);
                return;
            }
            Err(AskError::Malformed(reason)) => Heard::Lies(ClientError::Unproved { reason }),
        };
        let mut roster = self.known.roster();
        match heard {
            Heard::Helps => {
                roster.answered(member);
                drop(roster);
                self.helped += 1;
                // All that were asked spoke, and it is not enough: they differ.
                if self.busy.is_empty() && self.helped >= self.allowed {
                    self.allowed = self.helped + 1;
                }
                self.known.pace().answered(asked.elapsed());
            }
            Heard::Later(after_ms, reason) => {
                roster.failed(member, Instant::now(), after_ms);
                self.last = Some(timed_out(Duration::ZERO, reason));
            }
            Heard::Lies(error) => {
                roster.failed(member, Instant::now(), None);
                self.last = Some(error);
            }
        }
    }

    /// Nothing came in time: one more is asked beside those that are silent.
    fn escalate(&mut self) {
        self.known.pace().silent();
        if self.allowed < self.most() + self.helped {
            self.allowed += 1;
        } else if let [oldest, rest @ ..] = self.busy.as_slice()
            && !rest.is_empty()
        {
            // All that may be asked at once are silent. The oldest no longer counts as asked: its
            // answer is still taken, but another may be asked in its place.
            let oldest = *oldest;
            self.busy.retain(|member| *member != oldest);
            self.spent.push(oldest);
        }
        let mut roster = self.known.roster();
        self.busy
            .iter()
            .for_each(|member| roster.pass_over(*member));
    }

    /// Why those that are not settled are not.
    fn otherwise(&self, limit: Duration) -> ClientError {
        match &self.last {
            Some(ClientError::TimedOut { last, .. }) => timed_out(limit, last.clone()),
            // Others were reached, and their answers are still to come.
            Some(ClientError::Unreachable { reason }) if !self.busy.is_empty() => {
                timed_out(limit, reason.clone())
            }
            Some(error) => error.clone(),
            None => timed_out(limit, "silence".into()),
        }
    }
}

fn timed_out(limit: Duration, last: String) -> ClientError {
    let after_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    ClientError::TimedOut { after_ms, last }
}
