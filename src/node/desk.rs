//! The queue before a thread that answers from the disk: bounded for each member, and in all.
//!
//! Source: B1 of `ARCHITECTURE.md`. In: what members want. Out: the same, those of one member in
//! order, members in turn.
//! Holds: one member fills no queue that others wait in; what finds no room is dropped and counted,
//! and asked for again; who has to wait holds nobody back; who begins anew is not given what an
//! earlier process of its asked for.
//! Elsewhere: the answers, and how many bytes each gets (`library`).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::library::Serving;
use crate::checkpoint::assembler::ASKS_MAX;
use crate::committee::MemberId;

/// Wishes that may wait at one desk.
const SERVINGS_MAX: usize = 512;
/// Those of one member: the asks that a newcomer has open at one server, and what keeps its lease.
const OF_ONE_MAX: usize = ASKS_MAX + 4;

/// How many wishes wait, of each member and in all.
#[derive(Clone, Debug, Default)]
struct Waiting(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    of: BTreeMap<MemberId, usize>,
}

impl Counts {
    /// So many wishes of a member wait no more.
    fn left(&mut self, member: MemberId, count: usize) {
        self.all -= count;
        let of = self.of.remove(&member).unwrap_or_default() - count;
        if of > 0 {
            self.of.insert(member, of);
        }
    }
}

impl Waiting {
    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Wishes that found no room, by the thread that would have answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Missed {
    /// Of members that lack blocks or batches.
    pub(crate) librarian: Arc<AtomicU64>,
    /// Of newcomers.
    pub(crate) teacher: Arc<AtomicU64>,
}

/// Where wishes come in.
pub(crate) struct Counter {
    wishes: SyncSender<(MemberId, Serving)>,
    waiting: Waiting,
    missed: Arc<AtomicU64>,
}

/// Where they are taken up.
pub(crate) struct Line {
    wishes: Receiver<(MemberId, Serving)>,
    waiting: Waiting,
    /// What came out of the channel and is not taken up yet, of each member in order.
    lined: BTreeMap<MemberId, VecDeque<Serving>>,
    /// Whose turn was last.
    last: Option<MemberId>,
}

/// An empty queue; wishes that find no room are counted in `missed`.
pub(crate) fn desk(missed: Arc<AtomicU64>) -> (Counter, Line) {
    let (sender, receiver) = sync_channel(SERVINGS_MAX);
    let waiting = Waiting::default();
    let counter = Counter {
        wishes: sender,
        waiting: waiting.clone(),
        missed,
    };
    let line = Line {
        wishes: receiver,
        waiting,
        lined: BTreeMap::new(),
        last: None,
    };
    (counter, line)
}

impl Counter {
    /// Takes what `member` wants, where there is room for it.
    pub(crate) fn offer(&self, member: MemberId, serving: Serving) {
        self.waiting.with(|waiting| {
            let count = waiting.of.entry(member).or_default();
            let has_room = *count < OF_ONE_MAX && waiting.all < SERVINGS_MAX;
            if has_room && self.wishes.try_send((member, serving)).is_ok() {
                *count += 1;
                waiting.all += 1;
                return;
            }
            if *count == 0 {
                waiting.of.remove(&member);
            }
            self.missed.fetch_add(1, Ordering::Relaxed);
        });
    }
}

impl Line {
    /// The next wish of somebody that `may` be answered now, once there is one; it says how long
    /// others wait. Nothing where nobody can have any more.
    pub(crate) fn next(
        &mut self,
        mut may: impl FnMut(MemberId) -> Result<(), Duration>,
    ) -> Option<(MemberId, Serving)> {
        loop {
            while let Ok(wish) = self.wishes.try_recv() {
                self.line_up(wish);
            }
            let mut wait: Option<Duration> = None;
            for member in self.turns() {
                match may(member) {
                    Ok(()) => return Some(self.take(member)),
                    Err(span) => wait = Some(wait.map_or(span, |wait| wait.min(span))),
                }
            }
            let came = match wait {
                Some(wait) => self.wishes.recv_timeout(wait),
                None => self.wishes.recv().map_err(RecvTimeoutError::from),
            };
            match came {
                Ok(wish) => self.line_up(wish),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn line_up(&mut self, (member, serving): (MemberId, Serving)) {
        if serving.begins_anew() {
            let before = self.lined.remove(&member).map_or(0, |lined| lined.len());
            self.waiting.with(|waiting| waiting.left(member, before));
        }
        self.lined.entry(member).or_default().push_back(serving);
    }

    /// Everybody who wants something, the one behind the last first.
    fn turns(&self) -> Vec<MemberId> {
        let Some(last) = self.last else {
            return self.lined.keys().copied().collect();
        };
        let behind = self.lined.range((Excluded(last), Unbounded));
        let upto = self.lined.range(..=last);
        behind.chain(upto).map(|(member, _)| *member).collect()
    }

    fn take(&mut self, member: MemberId) -> (MemberId, Serving) {
        let lined = self.lined.get_mut(&member);
        let lined = lined.expect("who has a turn wants something");
        let serving = lined.pop_front().expect("no line is empty");
        if lined.is_empty() {
            self.lined.remove(&member);
        }
        self.last = Some(member);
        self.waiting.with(|waiting| waiting.left(member, 1));
        (member, serving)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::Ask;
    use crate::committee::{Height, ViewId};
    use crate::consortium::Wanted;
    use crate::crypto::Digest;

    fn member(n: u8) -> MemberId {
        MemberId(Digest([n; 32]))
    }

    fn wish(height: u64) -> Serving {
        Serving::Wanted(Wanted::Blocks(Height(height)))
    }

    /// The next wish where nobody has to wait.
    fn next(line: &mut Line) -> Option<(MemberId, u64)> {
        let (who, serving) = line.next(|_| Ok(()))?;
        Some((who, height(&serving)))
    }

    fn height(serving: &Serving) -> u64 {
        match serving {
            Serving::Wanted(Wanted::Blocks(height)) => height.0,
            Serving::Wanted(_) | Serving::Anchor(_) => unreachable!("nobody wants that here"),
        }
    }

    #[test]
    fn one_member_fills_no_queue_and_its_place_is_free_again_once_it_was_heard() {
        let missed = Arc::default();
        let (counter, mut line) = desk(Arc::clone(&missed));
        for height in 0..10_000 {
            counter.offer(member(1), wish(height));
        }
        counter.offer(member(2), wish(7));
        assert_eq!(next(&mut line), Some((member(1), 0)));
        assert_eq!(next(&mut line), Some((member(2), 7)), "in turn");
        for expected in 1..OF_ONE_MAX as u64 {
            assert_eq!(next(&mut line), Some((member(1), expected)));
        }
        counter.offer(member(1), wish(1));
        assert_eq!(next(&mut line), Some((member(1), 1)));
        let missed = missed.load(Ordering::Relaxed);
        assert_eq!(missed, 10_000 - OF_ONE_MAX as u64);
        drop(counter);
        assert_eq!(next(&mut line), None);
    }

    #[test]
    fn all_together_fill_it_and_lose_nothing_that_waits() {
        let missed = Arc::default();
        let (counter, mut line) = desk(Arc::clone(&missed));
        for height in 0..OF_ONE_MAX as u64 {
            (0..=255).for_each(|n| counter.offer(member(n), wish(height)));
        }
        drop(counter);
        let mut count = 0;
        while next(&mut line).is_some() {
            count += 1;
        }
        assert_eq!(count, SERVINGS_MAX);
        let missed = missed.load(Ordering::Relaxed);
        assert_eq!(missed, (256 * OF_ONE_MAX - SERVINGS_MAX) as u64);
        assert!(
            line.waiting
                .with(|waiting| waiting.of.is_empty() && waiting.all == 0)
        );
    }

    #[test]
    fn who_has_to_wait_holds_nobody_back_and_loses_nothing() {
        let missed = Arc::default();
        let (counter, mut line) = desk(Arc::clone(&missed));
        for height in 0..OF_ONE_MAX as u64 + 5 {
            counter.offer(member(1), wish(height));
        }
        counter.offer(member(2), wish(100));
        let other = line.next(|who| match who == member(1) {
            true => Err(Duration::from_secs(3_600)),
            false => Ok(()),
        });
        assert_eq!(other.expect("it may").0, member(2));
        counter.offer(member(1), wish(200));
        assert_eq!(
            missed.load(Ordering::Relaxed),
            6,
            "what waits has its place"
        );
        let mut asked = 0;
        for expected in 0..OF_ONE_MAX as u64 {
            let wish = line.next(|_| {
                asked += 1;
                match asked % 3 {
                    0 => Ok(()),
                    _ => Err(Duration::ZERO),
                }
            });
            let (who, serving) = wish.expect("it waits");
            assert_eq!((who, height(&serving)), (member(1), expected));
        }
        assert_eq!(
            asked,
            3 * OF_ONE_MAX,
            "it is asked again when the wait is over"
        );
        assert!(line.lined.is_empty());
    }

    #[test]
    fn who_begins_anew_is_not_given_what_it_asked_before() {
        let missed = Arc::default();
        let (counter, mut line) = desk(Arc::clone(&missed));
        let ask = |ask| Serving::Wanted(Wanted::Bootstrap(ask));
        let steps = || ask(Ask::Steps(ViewId(0), Digest::ZERO));
        counter.offer(member(2), wish(1));
        for segment in 0..ASKS_MAX as u32 {
            let segments = Ask::Segments(Digest::ZERO, vec![segment]);
            counter.offer(member(1), ask(segments));
        }
        counter.offer(member(1), steps());
        let (who, heard) = line.next(|_| Ok(())).expect("it waits");
        assert_eq!(who, member(1));
        assert!(heard.begins_anew(), "{heard:?}");
        assert_eq!(next(&mut line), Some((member(2), 1)));
        let counts = line.waiting.with(|waiting| (waiting.all, waiting.of.len()));
        assert_eq!(counts, (0, 0));
        assert_eq!(missed.load(Ordering::Relaxed), 0);
    }
}
