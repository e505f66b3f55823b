//! Who asks for which regency.
//!
//! Source: Mod-SMaRt, synchronisation phase: f + 1 STOPs join, q install. In: STOPs. Out: the
//! highest regency that enough seats ask for.
//! Holds: a seat's newest word counts, so a STOP can be taken back; a word that is not said again
//! goes out of date, so words of different times never add up to a change.
//! Elsewhere: who says STOP, and when (`regency`).

use std::collections::BTreeMap;

use crate::committee::{Regency, Seat};
use crate::machine::{Span, Time};

/// A word counts for so many times the span after which it is said again.
const LIFE: u64 = 8;

/// What each seat asked for last, and when.
#[derive(Debug)]
pub(super) struct Stops {
    words: BTreeMap<Seat, (Regency, Time)>,
    life: Span,
}

impl Stops {
    /// No words; each is said again after `resend` as long as it holds.
    pub(super) fn new(resend: Span) -> Self {
        Self {
            words: BTreeMap::new(),
            life: Span(resend.0.saturating_mul(LIFE)),
        }
    }

    /// `seat` asks for `regency`, or takes an earlier word back.
    pub(super) fn hear(&mut self, seat: Seat, regency: Regency, now: Time) {
        self.words.insert(seat, (regency, now));
    }

    /// Whether the last word of `seat` is that it asks for `regency`.
    pub(super) fn has_heard(&self, seat: Seat, regency: Regency) -> bool {
        let word = self.words.get(&seat);
        word.is_some_and(|(said, _)| *said == regency)
    }

    /// The highest regency that at least `count` seats but `apart` ask for or for more.
    pub(super) fn wanted_by(&self, count: usize, apart: Option<Seat>, now: Time) -> Regency {
        let said = self
            .words
            .iter()
            .filter(|(seat, (_, at))| Some(**seat) != apart && now - *at <= self.life);
        let mut asked: Vec<Regency> = said.map(|(_, (regency, _))| *regency).collect();
        asked.sort_unstable_by(|a, b| b.cmp(a));
        asked.get(count - 1).copied().unwrap_or_default()
    }
}
