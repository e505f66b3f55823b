//! Twins: one seat doubled, every way to part the members, round by round, up to a few rounds.
//!
//! Source: Bano et al., Twins (OPODIS 2021). In: rounds. Out: a [`TwinsReport`] over all scenarios.
//! Holds: both twins are complete correct machines with one key, so together they equivocate, vote
//! twice and forget, and never do what a machine cannot; scenarios that differ only in which twin
//! is which count once; the same scenario is the same history.
//! Elsewhere: the small world of one scenario (`stage`), whole members that do wrong (`villain`).
//!
//! A round is one timeout: what was accepted arrives, every timer that runs runs out, and all
//! that follows is delivered inside the groups, up to the ACCEPTs, which the groups of the next
//! round may tear apart. So a round ends with locks and without decisions, which is where
//! regency changes go wrong.

mod stage;

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

use self::stage::Stage;
use crate::plant::{self, Plant};

/// Machines: four seats, one of them doubled.
const NODES: usize = 5;
/// Groups that a round parts them into, at most.
const GROUPS_MAX: u8 = 3;
/// Scenarios that a thread takes at once.
const CHUNK: u64 = 1_024;
/// Violations that are kept; the first says most.
const VIOLATIONS_MAX: usize = 16;
/// Rounds, at most: 41 partitions to the power of more are not gone through in a day.
pub const TWINS_ROUNDS_MAX: u32 = 4;

/// What came of all scenarios.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TwinsReport {
    /// How many were run.
    pub scenarios: u64,
    /// Rounds before the network heals.
    pub rounds: u32,
    /// What was broken, each with its scenario.
    pub violations: Vec<String>,
    /// Time that passed here.
    pub wall_seconds: f64,
}

/// Which group each machine is in; machine 4 is the twin. Groups are numbered in the order of
/// their first machines, so that one partition has one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Partition([u8; NODES]);

impl Partition {
    const WHOLE: Self = Self([0; NODES]);

    /// Every partition into at most [`GROUPS_MAX`] groups, in order.
    fn all() -> Vec<Self> {
        let mut grown: Vec<Vec<u8>> = vec![Vec::new()];
        for _ in 0..NODES {
            let longer = grown.iter().flat_map(|start| {
                let used = start.iter().max().map_or(0, |most| most + 1);
                let next = 0..(used + 1).min(GROUPS_MAX);
                next.map(|group| start.iter().copied().chain([group]).collect())
            });
            grown = longer.collect();
        }
        let whole = |groups: Vec<u8>| groups.try_into().expect("one group for each machine");
        grown.into_iter().map(whole).map(Self).collect()
    }

    fn is_together(&self, one: usize, other: usize) -> bool {
        self.0[one] == self.0[other]
    }

    /// The same with the twins in each other's places.
    fn swapped(self, doubled: usize) -> Self {
        let mut groups = self.0;
        groups.swap(doubled, NODES - 1);
        let mut names: Vec<u8> = Vec::new();
        for group in &mut groups {
            let name = names.iter().position(|held| held == group);
            let name = name.unwrap_or_else(|| {
                names.push(*group);
                names.len() - 1
            });
            *group = u8::try_from(name).expect("few groups");
        }
        Self(groups)
    }
}

/// One history: whose seat is doubled, and how the machines are parted in each round.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scenario {
    /// The seat that leads this regency has a twin.
    doubled: usize,
    rounds: Vec<Partition>,
}

impl Scenario {
    /// Whether it comes before itself with the twins swapped, or is the same.
    fn is_canonical(&self) -> bool {
        let swapped = self.rounds.iter().map(|round| round.swapped(self.doubled));
        self.rounds.iter().copied().le(swapped)
    }

    /// What it breaks.
    fn run(&self) -> Result<(), String> {
        let mut stage = Stage::new(self.doubled);
        let outcome = self
            .rounds
            .iter()
            .enumerate()
            .try_for_each(|(round, groups)| {
                stage.round(round, groups)?;
                Ok(())
            });
        let outcome = outcome.and_then(|()| stage.heal());
        outcome.map_err(|what: String| format!("{self}: {what}"))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seat {} doubled", self.doubled)?;
        for Partition(groups) in &self.rounds {
            f.write_str(", ")?;
            groups.iter().try_for_each(|group| write!(f, "{group}"))?;
        }
        Ok(())
    }
}

/// All scenarios of so many rounds, by number.
struct Space {
    partitions: Vec<Partition>,
    rounds: u32,
}

impl Space {
    fn new(rounds: u32) -> Self {
        let partitions = Partition::all();
        Self { partitions, rounds }
    }

    /// Numbers, canonical or not.
    fn len(&self) -> u64 {
        stage::SEATS as u64 * (self.partitions.len() as u64).pow(self.rounds)
    }

    fn scenario(&self, number: u64) -> Scenario {
        let digit = |rest: &mut u64, base: u64| {
            let digit = *rest % base;
            *rest /= base;
            usize::try_from(digit).expect("below a small base")
        };
        let mut rest = number;
        let doubled = digit(&mut rest, stage::SEATS as u64);
        let count = self.partitions.len() as u64;
        let rounds = (0..self.rounds).map(|_| self.partitions[digit(&mut rest, count)]);
        let rounds = rounds.collect();
        Scenario { doubled, rounds }
    }
}

/// Runs every scenario of `rounds` rounds, at most [`TWINS_ROUNDS_MAX`], on `threads` threads; the
/// machines have the bug `planted`.
pub fn run_twins(rounds: u32, threads: usize, planted: Option<Plant>) -> TwinsReport {
    let start = Instant::now();
    let space = Space::new(rounds.min(TWINS_ROUNDS_MAX));
    let next = AtomicU64::new(0);
    let total = Mutex::new((0, Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                plant::plant(planted);
                loop {
                    let first = next.fetch_add(CHUNK, Ordering::Relaxed);
                    if first >= space.len() {
                        return;
                    }
                    let (count, broken) = run_chunk(&space, first);
                    let total = total.lock();
                    let mut total = total.unwrap_or_else(std::sync::PoisonError::into_inner);
                    total.0 += count;
                    let room = VIOLATIONS_MAX.saturating_sub(total.1.len());
                    total.1.extend(broken.into_iter().take(room));
                }
            });
        }
    });
    let total = total.into_inner();
    let (scenarios, violations) = total.unwrap_or_else(std::sync::PoisonError::into_inner);
    TwinsReport {
        scenarios,
        rounds: space.rounds,
        violations,
        wall_seconds: start.elapsed().as_secs_f64(),
    }
}

fn run_chunk(space: &Space, first: u64) -> (u64, Vec<String>) {
    let numbers = first..(first + CHUNK).min(space.len());
    let scenarios = numbers.map(|number| space.scenario(number));
    let (mut count, mut broken) = (0, Vec::new());
    for scenario in scenarios.filter(Scenario::is_canonical) {
        count += 1;
        broken.extend(scenario.run().err());
    }
    (count, broken)
}

#[cfg(test)]
mod tests;
