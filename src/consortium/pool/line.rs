//! Batches that a leader may propose, in one line per origin.
//!
//! Source: design of dissemination. In: batches by origin and arrival. Out: the
//! next ones to propose.
//! Holds: within an origin the oldest goes first; over origins the one that got least bytes of this
//! proposal goes next, the oldest head first among equals.
//! Elsewhere: which batches stand here (`pool`).

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;
use std::iter::Peekable;

use super::INLINE_BYTES_MAX;
use crate::committee::MemberId;
use crate::crypto::Digest;

/// A batch in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) digest: Digest,
    pub(super) bytes: usize,
    /// Held by too few: it can only ride inline.
    pub(super) is_inline: bool,
}

/// The batches of one origin, by arrival.
#[derive(Clone, Debug, Default)]
struct Line {
    ready: BTreeMap<u64, Waiting>,
    small: BTreeMap<u64, Waiting>,
}

/// One line per origin that has something to propose.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(BTreeMap<MemberId, Line>);

/// How far a pick has come in one line.
struct Cursor<'a> {
    ready: Peekable<Iter<'a, u64, Waiting>>,
    small: Peekable<Iter<'a, u64, Waiting>>,
    taken: usize,
}

impl Cursor<'_> {
    fn head(&mut self, may_ride: bool) -> Option<(u64, Waiting)> {
        let ready = self.ready.peek().map(|(arrival, w)| (**arrival, **w));
        let small = self.small.peek().map(|(arrival, w)| (**arrival, **w));
        let small = small.filter(|_| may_ride);
        [ready, small].into_iter().flatten().min_by_key(|(a, _)| *a)
    }

    fn step(&mut self, waiting: &Waiting) {
        let line = if waiting.is_inline {
            &mut self.small
        } else {
            &mut self.ready
        };
        line.next();
        self.taken += waiting.bytes;
    }
}

impl Line {
    fn cursor(&self) -> Cursor<'_> {
        Cursor {
            ready: self.ready.iter().peekable(),
            small: self.small.iter().peekable(),
            taken: 0,
        }
    }
}

impl Lines {
    /// Takes a batch out of its line, if it stands there.
    pub(super) fn remove(&mut self, origin: &MemberId, arrival: u64) {
        let Some(line) = self.0.get_mut(origin) else {
            return;
        };
        line.ready.remove(&arrival);
        line.small.remove(&arrival);
        if line.ready.is_empty() && line.small.is_empty() {
            self.0.remove(origin);
        }
    }

    /// Puts a batch into its line, at the place of its arrival.
    pub(super) fn insert(&mut self, origin: MemberId, arrival: u64, waiting: Waiting) {
        let line = self.0.entry(origin).or_default();
        if waiting.is_inline {
            line.small.insert(arrival, waiting);
        } else {
            line.ready.insert(arrival, waiting);
        }
    }

    /// Whether a batch can be proposed by name.
    pub(super) fn has_ready(&self) -> bool {
        self.0.values().any(|line| !line.ready.is_empty())
    }

    /// Whether nothing can be proposed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next batches: at least one if there is any, then as long as they stay within
    /// `bytes_target` in sum and `count_max` in number. Those that ride inline stay within
    /// [`INLINE_BYTES_MAX`] in sum.
    pub(super) fn pick(&self, bytes_target: usize, count_max: usize) -> Vec<Waiting> {
        let mut cursors: Vec<Cursor> = self.0.values().map(Line::cursor).collect();
        let mut picked: Vec<Waiting> = Vec::new();
        let (mut bytes, mut inline_bytes, mut may_ride) = (0, 0, true);
        while picked.len() < count_max {
            let heads = cursors.iter_mut().filter_map(|cursor| {
                let (arrival, waiting) = cursor.head(may_ride)?;
                Some((cursor.taken, arrival, waiting, cursor))
            });
            let next = heads.min_by_key(|(taken, arrival, ..)| (*taken, *arrival));
            let Some((_, _, waiting, cursor)) = next else {
                break;
            };
            if waiting.is_inline && inline_bytes + waiting.bytes > INLINE_BYTES_MAX {
                may_ride = false;
                continue;
            }
            if !picked.is_empty() && bytes + waiting.bytes > bytes_target {
                break;
            }
            cursor.step(&waiting);
            bytes += waiting.bytes;
            inline_bytes += if waiting.is_inline { waiting.bytes } else { 0 };
            picked.push(waiting);
        }
        picked
    }
}
