//! Links between members: how long a frame takes, and whether it comes.
//!
//! Source: `reference` figures of other simulators. In: frames with sender, receiver and lane. Out:
//! when
//! each copy arrives. Holds: a link that neither loses nor reorders is a stream, lane by lane; a
//! cut link
//! carries nothing. Elsewhere: when links are cut (`faults`), what a frame says (`world`).

use std::collections::{BTreeMap, BTreeSet};

use super::dice::Dice;
use crate::consortium::Lane;

/// Bytes that a link carries in a microsecond.
const BYTES_PER_US: u64 = 50;

/// What links do to frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// A usual delay in microseconds.
    pub(super) delay_us: u64,
    /// Frames of a thousand that are lost.
    pub(super) loss: u64,
    /// Frames of a thousand that come twice.
    pub(super) duplicate: u64,
    /// Whether frames overtake each other.
    pub(super) reorder: bool,
}

/// All links.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) weather: Weather,
    dice: Dice,
    cut: BTreeSet<(usize, usize)>,
    /// When the last frame of a stream arrives.
    last: BTreeMap<(usize, usize, bool), u64>,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
}

impl Net {
    pub(super) fn new(weather: Weather, dice: Dice) -> Self {
        Self {
            weather,
            dice,
            cut: BTreeSet::new(),
            last: BTreeMap::new(),
            lost: 0,
            duplicated: 0,
        }
    }

    /// Cuts the link from `from` to `to`, this way only.
    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// Mends every link and gives those that were cut.
    pub(super) fn mend(&mut self) -> BTreeSet<(usize, usize)> {
        std::mem::take(&mut self.cut)
    }

    /// Whether the link from `from` to `to` carries frames.
    pub(super) fn is_up(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// When the copies of a frame sent at `now` arrive; none when it is lost.
    pub(super) fn send(
        &mut self,
        now: u64,
        link: (usize, usize),
        lane: Lane,
        bytes: usize,
    ) -> [Option<u64>; 2] {
        let (from, to) = link;
        if !self.is_up(from, to) || self.dice.chance(self.weather.loss) {
            self.lost += 1;
            return [None, None];
        }
        let first = self.arrival(now, link, lane, bytes);
        if !self.dice.chance(self.weather.duplicate) {
            return [Some(first), None];
        }
        self.duplicated += 1;
        [Some(first), Some(self.arrival(now, link, lane, bytes))]
    }

    fn arrival(&mut self, now: u64, link: (usize, usize), lane: Lane, bytes: usize) -> u64 {
        let carried = bytes as u64 / BYTES_PER_US;
        let at = now + carried + self.dice.delay(self.weather.delay_us);
        if self.weather.reorder {
            return at;
        }
        let last = self
            .last
            .entry((link.0, link.1, lane == Lane::Bulk))
            .or_default();
        *last = at.max(*last);
        *last
    }
}
