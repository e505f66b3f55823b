//! The queue before a thread that answers from the disk: bounded for each member, and in all.
//!
//! Source: B1 of `ARCHITECTURE.md`. In: what members want. Out: the same, in order.
//! Holds: one member fills no queue that others wait in; what finds no room is dropped and counted,
//! and asked for again. Elsewhere: the answers, and how many bytes each gets (`library`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::library::Serving;
use crate::checkpoint::assembler::ASKS_MAX;
use crate::committee::MemberId;

/// Wishes that may wait at one desk.
const SERVINGS_MAX: usize = 512;
/// Those of one member: the asks that a newcomer has open at one server, and what keeps its lease.
const OF_ONE_MAX: usize = ASKS_MAX + 4;

/// How many wishes of each member wait.
#[derive(Clone, Debug, Default)]
struct Waiting(Arc<Mutex<BTreeMap<MemberId, usize>>>);

impl Waiting {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<MemberId, usize>) -> T) -> T {
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
    };
    (counter, line)
}

impl Counter {
    /// Takes what `member` wants, where there is room for it.
    pub(crate) fn offer(&self, member: MemberId, serving: Serving) {
        self.waiting.with(|waiting| {
            let count = waiting.get(&member).copied().unwrap_or_default();
            if count < OF_ONE_MAX && self.wishes.try_send((member, serving)).is_ok() {
                waiting.insert(member, count + 1);
            } else {
                self.missed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

impl Line {
    /// The next wish, once there is one; nothing where nobody can have any more.
    pub(crate) fn next(&self) -> Option<(MemberId, Serving)> {
        let (member, serving) = self.wishes.recv().ok()?;
        self.waiting.with(|waiting| {
            let left = waiting.remove(&member).unwrap_or_default() - 1;
            if left > 0 {
                waiting.insert(member, left);
            }
        });
        Some((member, serving))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::committee::Height;
    use crate::consortium::Wanted;
    use crate::crypto::Digest;

    fn member(n: u8) -> MemberId {
        MemberId(Digest([n; 32]))
    }

    fn wish(height: u64) -> Serving {
        Serving::Wanted(Wanted::Blocks(Height(height)))
    }

    #[test]
    fn one_member_fills_no_queue_and_its_place_is_free_again_once_it_was_heard() {
        let missed = Arc::default();
        let (counter, line) = desk(Arc::clone(&missed));
        for height in 0..10_000 {
            counter.offer(member(1), wish(height));
        }
        counter.offer(member(2), wish(7));
        for expected in 0..OF_ONE_MAX as u64 {
            let (who, serving) = line.next().expect("it waits");
            assert!(
                matches!(serving, Serving::Wanted(Wanted::Blocks(Height(at))) if at == expected)
            );
            assert_eq!(who, member(1));
        }
        counter.offer(member(1), wish(1));
        let heard = [line.next(), line.next()].map(|next| next.expect("it waits").0);
        assert_eq!(heard, [member(2), member(1)]);
        let missed = missed.load(Ordering::Relaxed);
        assert_eq!(missed, 10_000 - OF_ONE_MAX as u64);
        drop(counter);
        assert!(line.next().is_none());
    }

    #[test]
    fn all_together_fill_it_and_lose_nothing_that_waits() {
        let missed = Arc::default();
        let (counter, line) = desk(Arc::clone(&missed));
        for height in 0..OF_ONE_MAX as u64 {
            (0..=255).for_each(|n| counter.offer(member(n), wish(height)));
        }
        drop(counter);
        let mut count = 0;
        while line.next().is_some() {
            count += 1;
        }
        assert_eq!(count, SERVINGS_MAX);
        let missed = missed.load(Ordering::Relaxed);
        assert_eq!(missed, (256 * OF_ONE_MAX - SERVINGS_MAX) as u64);
        assert!(line.waiting.with(|waiting| waiting.is_empty()));
    }
}
