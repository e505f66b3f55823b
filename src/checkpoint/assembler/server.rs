//! One server as the assembler sees it: what it holds, what it was asked, how it does.
//!
//! Source: TCP's slow start and a bound on delay, for the window. In: asks, answers, deadlines.
//! Out: how much more it may be asked.
//! Holds: what is outstanding at a server, and what is remembered of given up asks, is bounded.
//! Elsewhere: which segments are asked of whom (`assembler`).

use std::collections::{BTreeMap, BTreeSet};

use super::Bits;
use crate::machine::{Span, Time};

/// Asks that are open at one server, at most.
pub const ASKS_MAX: usize = 16;
/// Bytes that are outstanding at one server, at most: they find room in what it may have under way
/// to one peer (`net`), and what finds none would be waited for in vain.
pub const WINDOW_BYTES_MAX: u64 = 6 << 20;
/// Bytes that may be outstanding at a server of which nothing is known.
const WINDOW_START: u64 = 64 << 10;
/// Segments that were asked of a server and given up, and may still arrive, at most; the oldest are
/// forgotten, and count as not asked for.
pub const LATE_MAX: usize = 4096;
/// What is answered so soon lets the window grow.
const QUICK: Span = Span::from_ms(400);
/// What takes so long lets it shrink.
const SLOW: Span = Span::from_ms(1_500);
/// How old an ask is, at least, before a second server is asked for what it did not give yet.
const SECOND_AFTER: Span = Span::from_ms(400);
/// The shortest and the longest time that one ask is given.
const PATIENCE_MIN: Span = Span::from_ms(1_000);
const PATIENCE_MAX: Span = Span::from_ms(20_000);
/// How long what a server did not give in time is not asked of it again.
const AGAIN: Span = Span::from_ms(3_000);

/// What a server says that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// It was not asked, or has not answered.
    Unknown,
    /// Nothing of this snapshot.
    Nothing,
    /// Some segments.
    Some(Bits),
    /// Everything.
    All,
}

/// One ask that is open.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// What has not arrived yet.
    pub(super) segments: BTreeSet<u32>,
    /// Bytes of what has not arrived yet, and of all of it.
    left: u64,
    total: u64,
    asked_at: Time,
    deadline: Time,
}

/// A member that may hold segments.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) holds: Holds,
    pub(super) open: Vec<Open>,
    /// Segments that were given up here, and when.
    late: BTreeMap<u32, Time>,
    window: u64,
    patience: Span,
    /// Bytes of segments that it gave and that were of use.
    pub(super) gave: u64,
    /// Where its next ask begins.
    pub(super) cursor: u32,
    /// Segments that it gave and that were asked for.
    pub(super) given: u32,
    /// Answers that nobody asked for.
    pub(super) strays: u32,
    /// The page that it is asked for, and until when.
    pub(super) page: Option<(u32, Time)>,
    /// The page that was given up here last, and may still come.
    late_page: Option<u32>,
    /// Pages that it did not give.
    pub(super) refused_pages: u32,
}

impl Server {
    pub(super) fn new(cursor: u32) -> Self {
        Self {
            holds: Holds::Unknown,
            open: Vec::new(),
            late: BTreeMap::new(),
            window: WINDOW_START,
            patience: PATIENCE_MIN,
            gave: 0,
            cursor,
            given: 0,
            strays: 0,
            page: None,
            late_page: None,
            refused_pages: 0,
        }
    }

    /// Whether it says that it holds this segment.
    pub(super) fn has(&self, segment: u32) -> bool {
        match &self.holds {
            Holds::All => true,
            Holds::Some(bits) => bits.contains(segment),
            Holds::Unknown | Holds::Nothing => false,
        }
    }

    /// Whether it holds anything at all.
    pub(super) fn is_useful(&self) -> bool {
        match &self.holds {
            Holds::All => true,
            Holds::Some(bits) => !bits.is_empty(),
            Holds::Unknown | Holds::Nothing => false,
        }
    }

    /// Bytes that are outstanding.
    pub(super) fn outstanding(&self) -> u64 {
        self.open.iter().map(|open| open.left).sum()
    }

    /// Bytes that it may be asked for now; one segment where nothing is outstanding, however long.
    pub(super) fn room(&self) -> u64 {
        let is_full = self.open.len() >= ASKS_MAX;
        match self.open.is_empty() {
            _ if is_full => 0,
            true => self.window.max(1),
            false => self.window.saturating_sub(self.outstanding()),
        }
    }

    /// Whether this segment was given up here a moment ago.
    pub(super) fn is_late(&self, segment: u32, now: Time) -> bool {
        let given_up = self.late.get(&segment);
        given_up.is_some_and(|at| now - *at < AGAIN)
    }

    /// Whether it was ever asked for this segment, as far as is remembered.
    pub(super) fn was_asked(&self, segment: u32) -> bool {
        self.late.contains_key(&segment) || self.is_asked(segment)
    }

    /// Whether it is asked for this segment now.
    pub(super) fn is_asked(&self, segment: u32) -> bool {
        self.open
            .iter()
            .any(|open| open.segments.contains(&segment))
    }

    pub(super) fn ask(&mut self, now: Time, segments: &[u32], bytes: u64) {
        assert!(self.open.len() < ASKS_MAX, "asks are bounded");
        for segment in segments {
            self.late.remove(segment);
        }
        self.open.push(Open {
            segments: segments.iter().copied().collect(),
            left: bytes,
            total: bytes,
            asked_at: now,
            deadline: now + self.patience,
        });
    }

    /// A segment of `bytes` arrived that was asked for here.
    pub(super) fn settle(&mut self, now: Time, segment: u32, bytes: u64) {
        self.late.remove(&segment);
        for open in &mut self.open {
            if open.segments.remove(&segment) {
                open.left = open.left.saturating_sub(bytes);
            }
        }
        let mut done = Vec::new();
        self.open.retain(|open| {
            let is_done = open.segments.is_empty();
            if is_done {
                done.push((now - open.asked_at, open.total));
            }
            !is_done
        });
        for (took, total) in done {
            if took <= QUICK {
                self.window = (self.window + total).min(WINDOW_BYTES_MAX);
            } else if took >= SLOW {
                self.window = self.window / 4 * 3;
            }
            let patience = Span(took.0.saturating_mul(4));
            self.patience = patience.clamp(PATIENCE_MIN, PATIENCE_MAX);
        }
    }

    /// A segment is not awaited any more, though it may come: a second server gave it.
    pub(super) fn spare(&mut self, now: Time, segment: u32, bytes: u64) {
        if self.is_asked(segment) {
            self.remember(now, segment);
        }
        for open in &mut self.open {
            if open.segments.remove(&segment) {
                open.left = open.left.saturating_sub(bytes);
            }
        }
        self.open.retain(|open| !open.segments.is_empty());
    }

    /// What is given up since its time is over: it is asked for less, and given more time.
    pub(super) fn expire(&mut self, now: Time) -> Vec<u32> {
        let mut expired = Vec::new();
        self.open.retain(|open| {
            let is_over = open.deadline <= now;
            if is_over {
                expired.extend(open.segments.iter().copied());
            }
            !is_over
        });
        if !expired.is_empty() {
            self.window /= 2;
            self.patience = Span(self.patience.0 * 2).min(PATIENCE_MAX);
        }
        for segment in &expired {
            self.remember(now, *segment);
        }
        expired
    }

    /// The link to it fell: what it was asked for may come on the next one.
    pub(super) fn close(&mut self) {
        for segment in self.open.drain(..).flat_map(|open| open.segments) {
            self.late.insert(segment, Time::default()); // It may be asked for again at once.
        }
        self.late_page = self.page.take().map(|(page, _)| page).or(self.late_page);
        (self.holds, self.window, self.refused_pages) = (Holds::Unknown, WINDOW_START, 0);
    }

    fn remember(&mut self, now: Time, segment: u32) {
        self.late.insert(segment, now);
        if self.late.len() > LATE_MAX {
            let oldest = self.late.iter().min_by_key(|(_, at)| **at);
            let oldest = oldest.map(|(segment, _)| *segment);
            oldest.and_then(|oldest| self.late.remove(&oldest));
        }
    }

    /// Its time for a page is over.
    pub(super) fn give_up_page(&mut self) {
        self.late_page = self.page.take().map(|(page, _)| page);
        self.refused_pages += 1;
    }

    /// Whether a page was asked for here; then it is so no more.
    pub(super) fn was_asked_page(&mut self, page: u32) -> bool {
        let is_open = self.page.is_some_and(|(asked, _)| asked == page);
        let is_late = self.late_page == Some(page);
        if is_open {
            self.page = None;
        } else if is_late {
            self.late_page = None;
        }
        is_open || is_late
    }

    /// Everything that is outstanding here.
    pub(super) fn all_open(&self) -> impl Iterator<Item = u32> + '_ {
        self.open
            .iter()
            .flat_map(|open| open.segments.iter().copied())
    }

    /// Segments that take twice as long as asks took here of late.
    pub(super) fn overdue(&self, now: Time) -> impl Iterator<Item = u32> + '_ {
        let most = Span(self.patience.0 / 2).max(SECOND_AFTER);
        let old = self.open.iter();
        let old = old.filter(move |open| now - open.asked_at >= most);
        old.flat_map(|open| open.segments.iter().copied())
    }
}
