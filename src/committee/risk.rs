//! How many seats a drawn committee needs.
//!
//! Source: sampling without replacement; `docs/committee.md` has the table. In: weights, a share of
//! faulty members, how seldom a draw may give more than f of them. Out: the least size 3f + 1.
//! Holds: integers only, every rounding upwards, so that all members find the same size and no
//! chance is understated.
//! Elsewhere: who sits (`draw`), quorums (`sizes`).

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::{Candidates, SEATS_MAX, Sizes};

/// Below so many members all of them sit, unless the rules say otherwise: a sample that is safe
/// would be hardly smaller.
pub const EVERYONE_BELOW: u32 = 100;

/// Parts of a whole.
const PPM: u64 = 1_000_000;

/// What is assumed of the members, and how seldom a committee may turn out worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// The share of all weight that Byzantine members hold, in parts per million.
    pub byzantine_ppm: u32,
    /// The share that crashed members hold besides, in parts per million. A seat that is silent
    /// takes as much from a quorum as one that lies, so f covers both.
    pub crashed_ppm: u32,
    /// Among so many draws one may give more than f faulty seats.
    pub one_in: NonZeroU64,
}

/// Why no size follows. Whoever set the parameters is at fault; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RiskError {
    /// A third or more is assumed faulty: no committee of any size bears that.
    #[error("{faulty_ppm} ppm of the members are assumed faulty, less than a third must be")]
    Share {
        /// Byzantine and crashed together.
        faulty_ppm: u64,
    },
    /// No committee of at most [`SEATS_MAX`] seats is that safe.
    #[error("out of {members} members no {SEATS_MAX} seats or fewer fail only once in {one_in}")]
    OutOfReach {
        /// How many may be drawn.
        members: usize,
        /// The risk that was stated.
        one_in: NonZeroU64,
    },
}

impl Risk {
    /// Byzantine and crashed together, in parts per million.
    pub fn faulty_ppm(&self) -> u64 {
        u64::from(self.byzantine_ppm) + u64::from(self.crashed_ppm)
    }

    /// Whether any committee could bear what is assumed.
    ///
    /// Errors: [`RiskError::Share`].
    pub fn check(&self) -> Result<(), RiskError> {
        let faulty_ppm = self.faulty_ppm();
        if 3 * faulty_ppm >= PPM {
            return Err(RiskError::Share { faulty_ppm });
        }
        Ok(())
    }

    /// The seats of a committee drawn from `candidates`: all where there are fewer than
    /// `everyone_below`, else the least sample that keeps the risk, or all again where none does
    /// and they have room.
    ///
    /// Errors: [`RiskError::Share`]; [`RiskError::OutOfReach`], which a list can also grow into.
    pub fn seats(&self, candidates: &Candidates, everyone_below: u32) -> Result<usize, RiskError> {
        self.check()?;
        let (members, one_in) = (candidates.count(), self.one_in);
        if members < everyone_below as usize {
            return Ok(members);
        }
        let odds = Odds::new(candidates.weights(), self.faulty_ppm());
        match self.least(odds.take(SEATS_MAX)) {
            Some(sample) => Ok(sample.seats),
            None if members <= SEATS_MAX => Ok(members), // no draw, no risk
            None => Err(RiskError::OutOfReach { members, one_in }),
        }
    }

    /// The first of `samples` that has 3f + 1 seats and keeps the risk.
    pub fn least(&self, mut samples: impl Iterator<Item = Sample>) -> Option<Sample> {
        let bearable = Chance::one_in(self.one_in);
        samples.find(|sample| sample.seats % 3 == 1 && sample.failure <= bearable)
    }
}

/// A committee size and what a draw of it risks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Seats.
    pub seats: usize,
    /// The chance that more than f of them are faulty.
    pub failure: Chance,
}

/// A probability: a count of 2⁻¹⁰⁰.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u128);

impl Chance {
    /// Certainty. The 28 bits above it leave room for a product with a number of positions.
    const ONE: u128 = 1 << 100;

    /// Once in so many `draws`.
    pub fn one_in(draws: NonZeroU64) -> Self {
        Self(Self::ONE / u128::from(draws.get()))
    }

    /// For people; nothing is decided by it.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / Self::ONE as f64
    }
}

/// What committees of 1, 2, 3, … seats risk: iterates over [`Sample`]s up to all members.
///
/// The seats are drawn one after another, and the chance of every count of faulty ones is carried
/// along. Where k of j seats are faulty, the faulty members have at most their positions less what
/// the k lightest of all members weigh, and the correct ones at least theirs less what the j − k
/// heaviest weigh; the next seat is taken to be faulty with the chance that follows. With equal
/// weights this is exact, the hypergeometric distribution. With others no choice of faulty members
/// within the share does worse: at an equal count the next seat is never likelier to be faulty than
/// it is here, so a count that starts level can be drawn so that it never overtakes.
#[derive(Clone, Debug)]
pub struct Odds {
    /// Positions of faulty members.
    faulty: u64,
    /// Positions of correct ones.
    correct: u64,
    /// By k, what the k lightest members weigh.
    lightest: Vec<u64>,
    /// By k, what the k heaviest members weigh.
    heaviest: Vec<u64>,
    /// By k, the chance that k of the seats drawn so far are faulty, in 2⁻¹⁰⁰. Each step rounds up
    /// by less than two, so n seats add less than n² · 2⁻¹⁰⁰ to the sum.
    chances: Vec<u128>,
}

impl Odds {
    /// Of members of these `weights`, of which `faulty_ppm` millionths, rounded up to a position,
    /// are in faulty hands. All together weigh less than 2²⁸.
    pub fn new(weights: impl IntoIterator<Item = u32>, faulty_ppm: u64) -> Self {
        let mut weights: Vec<u64> = weights.into_iter().map(u64::from).collect();
        weights.sort_unstable();
        let positions: u64 = weights.iter().sum();
        assert!(positions < 1 << 28, "a product with a chance has 128 bits");
        let faulty = (positions * faulty_ppm.min(PPM)).div_ceil(PPM);
        Self {
            faulty,
            correct: positions - faulty,
            lightest: sums(weights.iter()),
            heaviest: sums(weights.iter().rev()),
            chances: vec![Chance::ONE],
        }
    }

    /// Draws the seat that follows `seats` others.
    fn draw_after(&mut self, seats: usize) {
        self.chances.push(0);
        for k in (0..=seats).rev() {
            let faulty = self.faulty_left(k);
            if faulty == 0 {
                continue; // k stays k
            }
            let (chance, correct) = (self.chances[k], self.correct_left(seats - k));
            self.chances[k] = (chance * correct).div_ceil(faulty + correct);
            self.chances[k + 1] += (chance * faulty).div_ceil(faulty + correct);
        }
    }

    /// At most so many positions are left to faulty members who got `k` seats; none where they
    /// cannot fill one more.
    fn faulty_left(&self, k: usize) -> u128 {
        match self.lightest[k + 1] <= self.faulty {
            true => (self.faulty - self.lightest[k]).into(),
            false => 0,
        }
    }

    /// At least so many are left to correct members who got `k`.
    fn correct_left(&self, k: usize) -> u128 {
        self.correct.saturating_sub(self.heaviest[k]).into()
    }
}

impl Iterator for Odds {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        let (seats, members) = (self.chances.len() - 1, self.lightest.len() - 1);
        if seats == members {
            return None;
        }
        self.draw_after(seats);
        let seats = seats + 1;
        let worse: u128 = self.chances[Sizes::of(seats).f + 1..].iter().sum();
        Some(Sample {
            seats,
            failure: Chance(worse.min(Chance::ONE)),
        })
    }
}

/// The sums of the first none, one, two, … of `weights`.
fn sums<'a>(weights: impl Iterator<Item = &'a u64>) -> Vec<u64> {
    let mut sum = 0;
    let rest = weights.map(|weight| {
        sum += weight;
        sum
    });
    std::iter::once(0).chain(rest).collect()
}
