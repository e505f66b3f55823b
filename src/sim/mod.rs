//! A seeded world around real members: the same machines as in `node`, under virtual time and
//! chance.
//!
//! Source: TigerBeetle's VOPR and FoundationDB's simulation, as measured for this project. In: a
//! seed, a
//! committee, faults. Out: a [`Report`] with what was broken and the line that replays it.
//! Holds: one seed is one history on every machine and in every build; an audit digest of every
//! event
//! proves it. Elsewhere: the machines (`consortium`), real processes (`node`).

mod audit;
mod clients;
mod dice;
mod disk;
mod life;
mod member;
mod net;
mod oracle;
mod post;
mod queue;
mod setting;
mod trouble;
mod twins;
mod villain;
mod world;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

pub use self::twins::{TWINS_ROUNDS_MAX, TwinsReport, run_twins};
pub use self::villain::{UnknownVillain, VillainKind};
use self::world::World;
use crate::plant::{self, Plant};

/// What a run is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// Members with a seat.
    pub members: usize,
    /// Events of the phase with faults; what was admitted must commit afterwards.
    pub steps: u64,
    /// What may go wrong.
    pub faults: Faults,
    /// One member is a villain of this kind, whatever the seed would draw.
    pub villain: Option<VillainKind>,
    /// Test only: the bug that its machines have; only with the feature `plants`.
    pub plant: Option<Plant>,
}

impl Options {
    /// The command that shows the same world again.
    fn replay(&self) -> String {
        let Self {
            seed,
            members,
            steps,
            faults,
            villain,
            plant,
        } = self;
        let mut replay = format!(
            "consortium simulate --seed {seed} --members {members} --steps {steps} \
             --faults {faults}"
        );
        if let Some(villain) = villain {
            replay += &format!(" --villain {villain}");
        }
        if let Some(plant) = plant {
            replay += &format!(" --plant {}", plant.name());
        }
        replay
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            members: 4,
            steps: 20_000,
            faults: Faults::all(),
            villain: None,
            plant: None,
        }
    }
}

/// What may go wrong; how often is drawn from the seed, never among it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Frames get lost.
    pub loss: bool,
    /// Frames come twice.
    pub duplicate: bool,
    /// Frames overtake each other.
    pub reorder: bool,
    /// Members are cut off from others, the leader among them.
    pub partition: bool,
    /// Members end in good order and start again.
    pub restart: bool,
    /// Members lose power: what is not durable is gone.
    pub crash: bool,
    /// At most f members do wrong on purpose, each in a way of its own.
    pub villains: bool,
}

/// Names of faults, in the order of [`Faults`].
const FAULT_NAMES: [&str; 7] = [
    "loss",
    "duplicate",
    "reorder",
    "partition",
    "restart",
    "crash",
    "villains",
];

impl Faults {
    /// Nothing goes wrong.
    pub const fn none() -> Self {
        Self {
            loss: false,
            duplicate: false,
            reorder: false,
            partition: false,
            restart: false,
            crash: false,
            villains: false,
        }
    }

    /// Everything goes wrong.
    pub const fn all() -> Self {
        Self {
            loss: true,
            duplicate: true,
            reorder: true,
            partition: true,
            restart: true,
            crash: true,
            villains: true,
        }
    }

    fn fields(&mut self) -> [&mut bool; 7] {
        [
            &mut self.loss,
            &mut self.duplicate,
            &mut self.reorder,
            &mut self.partition,
            &mut self.restart,
            &mut self.crash,
            &mut self.villains,
        ]
    }
}

/// Why a text names no faults. The caller's input is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is no fault; there are none, all, {}", FAULT_NAMES.join(", "))]
pub struct ParseFaultsError {
    /// What was not understood.
    name: String,
}

impl FromStr for Faults {
    type Err = ParseFaultsError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut faults = Self::none();
        for name in text.split(',').filter(|name| !name.is_empty()) {
            match (name, FAULT_NAMES.iter().position(|known| *known == name)) {
                ("none", _) => faults = Self::none(),
                ("all", _) => faults = Self::all(),
                (_, Some(index)) => *faults.fields()[index] = true,
                (_, None) => {
                    let name = name.chars().take(80).collect();
                    return Err(ParseFaultsError { name });
                }
            }
        }
        Ok(faults)
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::all() {
            return f.write_str("all");
        }
        let mut copy = *self;
        let flags = copy.fields().map(|flag| *flag);
        let named = FAULT_NAMES.iter().zip(flags).filter(|(_, flag)| *flag);
        let names: Vec<&str> = named.map(|(name, _)| *name).collect();
        let none = names.is_empty();
        f.write_str(&if none { "none".into() } else { names.join(",") })
    }
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The seed of its world.
    pub seed: u64,
    /// Which rule.
    pub oracle: String,
    /// How.
    pub what: String,
    /// The command that shows it again.
    pub replay: String,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Events handled.
    pub steps: u64,
    /// Time that passed in the world.
    pub simulated_seconds: f64,
    /// Time that passed here.
    pub wall_seconds: f64,
    /// The last height.
    pub blocks: u64,
    /// The last regency.
    pub regencies: u64,
    /// Views that ordered.
    pub views: u64,
    /// What went wrong, by kind, and how often.
    pub faults: BTreeMap<&'static str, u64>,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// A digest of every event.
    pub audit: String,
}

/// What came of many runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many.
    pub seeds: u64,
    /// The first.
    pub first: u64,
    /// Blocks of all.
    pub blocks: u64,
    /// Time that passed in the worlds.
    pub simulated_seconds: f64,
    /// Time that passed here.
    pub wall_seconds: f64,
    /// Threads used.
    pub cores: usize,
    /// What was broken.
    pub violations: Vec<Violation>,
}

/// Runs one world.
pub fn run(options: &Options) -> Report {
    let start = Instant::now();
    plant::plant(options.plant);
    let mut world = World::new(options);
    // A machine that panics breaks a rule like any other; its world is not used any further.
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.breaks("panic", text.unwrap_or_default());
    }
    plant::plant(None);
    let mut report = world.report();
    report.wall_seconds = start.elapsed().as_secs_f64();
    report
}

/// Runs `count` worlds from seed `options.seed` on, on `threads` threads; `progress` hears of each.
pub fn run_many(
    options: &Options,
    count: u64,
    threads: usize,
    progress: &(dyn Fn(&Report) + Sync),
) -> Summary {
    let start = Instant::now();
    let next = AtomicU64::new(0);
    let reports = Mutex::new(Vec::new());
    let cores = threads.max(1);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= count {
                        return;
                    }
                    let report = run(&Options {
                        seed: options.seed.wrapping_add(turn),
                        ..options.clone()
                    });
                    progress(&report);
                    let held = reports.lock();
                    held.unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push(report);
                }
            });
        }
    });
    let reports = reports.into_inner();
    let mut reports = reports.unwrap_or_else(std::sync::PoisonError::into_inner);
    reports.sort_by_key(|report| report.seed);
    Summary {
        seeds: count,
        first: options.seed,
        blocks: reports.iter().map(|report| report.blocks).sum(),
        simulated_seconds: reports.iter().map(|report| report.simulated_seconds).sum(),
        wall_seconds: start.elapsed().as_secs_f64(),
        cores,
        violations: reports
            .into_iter()
            .flat_map(|report| report.violations)
            .collect(),
    }
}
