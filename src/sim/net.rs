//! Links between members: how long a frame takes, and whether it comes.
//!
//! Source: figures of other simulators. In: frames with sender, receiver and lane. Out: when each
//! copy arrives. Holds: a link that neither loses nor reorders is a stream, lane by lane; a cut
//! link carries nothing; a clogged one delivers everything at its end.
//! Elsewhere: when links are cut (`trouble`), what a frame says (`post`).

use super::dice::Dice;
use crate::consortium::Lane;

/// Bytes that a link carries in a microsecond.
const BYTES_PER_US: u64 = 50;
/// Sixteen equal parts of the exponential distribution, in thousandths of its mean.
const EXPONENTIAL: [u64; 16] = [
    32, 98, 170, 247, 330, 421, 521, 633, 758, 901, 1068, 1269, 1520, 1856, 2367, 3466,
];
/// How often a delay with a heavy tail may double.
const DOUBLINGS_MAX: u32 = 7;

/// How delays are spread around their usual value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Spread {
    /// Always the same.
    #[default]
    Constant,
    /// From a tenth to nineteen tenths.
    Uniform,
    /// Mostly less, at times three times as much.
    Exponential,
    /// Mostly near it, and seldom a hundred times as much.
    HeavyTail,
}

impl Spread {
    pub(super) const ALL: [Self; 4] = [
        Self::Constant,
        Self::Uniform,
        Self::Exponential,
        Self::HeavyTail,
    ];

    fn draw(self, usual: u64, dice: &mut Dice) -> u64 {
        match self {
            Self::Constant => usual,
            Self::Uniform => dice.within(usual / 10, usual * 19 / 10),
            Self::Exponential => usual * EXPONENTIAL[dice.index(16)] / 1000,
            Self::HeavyTail => {
                let doublings = dice.next().trailing_ones() / 2;
                dice.within(usual / 2, usual) << doublings.min(DOUBLINGS_MAX)
            }
        }
    }
}

/// What links do to frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// A usual delay in microseconds, and how it is spread.
    pub(super) delay_us: u64,
    pub(super) spread: Spread,
    /// Frames of a thousand that are lost.
    pub(super) loss: u64,
    /// Frames of a thousand that come twice.
    pub(super) duplicate: u64,
    /// Whether frames overtake each other.
    pub(super) reorder: bool,
}

/// One direction between two members.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    is_cut: bool,
    /// Its delays are so many times longer; 0 is once.
    slow: u64,
    /// Nothing arrives before.
    clogged_until: u64,
    /// When the last frame of each lane arrives.
    last: [u64; 2],
}

/// All links.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) weather: Weather,
    dice: Dice,
    members: usize,
    links: Vec<Link>,
    /// A member all of whose links are cut, whatever else cuts or mends them.
    outcast: Option<usize>,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
}

impl Net {
    pub(super) fn new(weather: Weather, members: usize, dice: Dice) -> Self {
        Self {
            weather,
            dice,
            members,
            links: vec![Link::default(); members * members],
            outcast: None,
            lost: 0,
            duplicated: 0,
        }
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.members + to]
    }

    /// Cuts the link from `from` to `to`, this way only, or mends it.
    pub(super) fn cut(&mut self, from: usize, to: usize, is_cut: bool) {
        self.link(from, to).is_cut = is_cut;
    }

    /// Makes a link slower by a factor.
    pub(super) fn slow(&mut self, from: usize, to: usize, factor: u64) {
        self.link(from, to).slow = factor;
    }

    /// Lets nothing arrive over a link before `until`.
    pub(super) fn clog(&mut self, from: usize, to: usize, until: u64) {
        self.link(from, to).clogged_until = until;
    }

    /// Whether the link from `from` to `to` carries frames.
    pub(super) fn is_up(&self, from: usize, to: usize) -> bool {
        let is_cut = self.links[from * self.members + to].is_cut;
        !is_cut && !self.is_outcast(from) && !self.is_outcast(to)
    }

    /// Cuts off this member and no other, or nobody; gives who was so before.
    pub(super) fn cast_out(&mut self, outcast: Option<usize>) -> Option<usize> {
        std::mem::replace(&mut self.outcast, outcast)
    }

    /// Who is cut off so.
    pub(super) fn outcast(&self) -> Option<usize> {
        self.outcast
    }

    pub(super) fn is_outcast(&self, member: usize) -> bool {
        self.outcast == Some(member)
    }

    /// The weather clears up, and no link is slow any more.
    pub(super) fn calm(&mut self) {
        self.weather.loss = 0;
        self.weather.duplicate = 0;
        self.weather.reorder = false;
        self.links.iter_mut().for_each(|link| link.slow = 0);
    }

    /// When the copies of a frame sent at `now` arrive; none when it is lost.
    pub(super) fn send(
        &mut self,
        now: u64,
        (from, to): (usize, usize),
        lane: Lane,
        bytes: usize,
    ) -> [Option<u64>; 2] {
        if !self.is_up(from, to) || self.dice.chance(self.weather.loss) {
            self.lost += 1;
            return [None, None];
        }
        let first = self.arrival(now, (from, to), lane, bytes);
        if !self.dice.chance(self.weather.duplicate) {
            return [Some(first), None];
        }
        self.duplicated += 1;
        [
            Some(first),
            Some(self.arrival(now, (from, to), lane, bytes)),
        ]
    }

    fn arrival(&mut self, now: u64, (from, to): (usize, usize), lane: Lane, bytes: usize) -> u64 {
        let Weather {
            delay_us,
            spread,
            reorder,
            ..
        } = self.weather;
        let delay = spread.draw(delay_us, &mut self.dice);
        let link = self.link(from, to);
        let carried = bytes as u64 / BYTES_PER_US;
        let at = now + carried + delay * link.slow.max(1);
        let at = at.max(link.clogged_until);
        if reorder {
            return at;
        }
        let last = &mut link.last[usize::from(lane == Lane::Bulk)];
        *last = at.max(*last);
        *last
    }
}
