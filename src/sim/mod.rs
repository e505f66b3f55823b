//! A seeded world around real members: the same machines as in `node`, under virtual time and
//! chance.
//!
//! Source: TigerBeetle's VOPR and FoundationDB's simulation, as measured for this project. In: a
//! seed, a
//! committee, faults. Out: a [`Report`] with what was broken and the line that replays it.
//! Holds: one seed is one history on every machine and in every build; an audit digest of every
//! event
//! proves it. Elsewhere: the machines (`consortium`), real processes (`node`).

mod ambush;
mod audit;
mod census;
mod clients;
mod clock;
mod crowd;
mod dice;
mod disk;
mod doom;
mod faults;
mod forgery;
mod handover;
mod hints;
#[cfg(feature = "plants")]
mod hunt;
mod keyring;
mod liars;
mod life;
mod member;
mod net;
mod newcomer;
mod operators;
mod oracle;
mod packed;
mod post;
mod promises;
mod quest;
mod queue;
mod rollback;
mod sample;
mod setting;
mod shelf;
mod shrink;
mod stored;
mod trouble;
mod twins;
mod views;
mod villain;
mod world;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

pub use self::faults::{Fault, Faults, ParseFaultsError};
#[cfg(feature = "plants")]
pub use self::hunt::{Hunt, Prey, hunt};
pub use self::shrink::shrink;
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
    /// Events of the phase with faults, at most; what was admitted must commit afterwards.
    pub steps: u64,
    /// What may go wrong.
    pub faults: Faults,
    /// How hard it goes wrong, of a hundred.
    pub strength: u64,
    /// Blocks after which a view gives way to the next; 0 for never.
    pub rotation_blocks: u32,
    /// Acts of members: joins, leaves, exclusions and the like. None as the seed draws, often 0.
    pub membership: Option<u32>,
    /// Whether a sample of the members sits, drawn by a beacon; of five and more.
    pub sample: bool,
    /// Blocks after which a checkpoint is due, which prunes; 0 for never.
    pub checkpoint_blocks: u32,
    /// Machines that come at once where something was pruned, and fetch a snapshot; none as the
    /// seed draws, often 0. Only with checkpoints.
    pub joiners: Option<u32>,
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
            strength,
            rotation_blocks,
            membership,
            sample,
            checkpoint_blocks,
            joiners,
            villain,
            plant,
        } = self;
        let mut replay = format!(
            "consortium simulate --seed {seed} --members {members} --steps {steps} \
             --faults {faults}"
        );
        if *strength != 100 {
            replay += &format!(" --strength {strength}");
        }
        if *rotation_blocks > 0 {
            replay += &format!(" --rotation-blocks {rotation_blocks}");
        }
        if let Some(acts) = membership {
            replay += &format!(" --membership {acts}");
        }
        if *sample {
            replay += " --sample";
        }
        if *checkpoint_blocks > 0 {
            replay += &format!(" --checkpoint-blocks {checkpoint_blocks}");
        }
        if let Some(joiners) = joiners {
            replay += &format!(" --joiners {joiners}");
        }
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
            steps: 400_000,
            faults: Faults::all(),
            strength: 100,
            rotation_blocks: 0,
            membership: None,
            sample: false,
            checkpoint_blocks: 0,
            joiners: None,
            villain: None,
            plant: None,
        }
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
    /// Time that a processor spent on it, where the system tells; else what passed here.
    pub cpu_seconds: f64,
    /// Faults that struck, of every kind but the weather.
    pub fault_events: u64,
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
    /// Faults of all, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// How fast it was, where a world counts.
    pub speed: Option<Speed>,
    /// What was broken.
    pub violations: Vec<Violation>,
}

/// How much faster than real time a core simulates. Only worlds with many blocks and many faults
/// count: [`Speed::BLOCKS_MIN`], [`Speed::FAULTS_MIN`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Worlds that count.
    pub seeds: u64,
    /// Simulated seconds per second of a processor.
    pub times: f64,
}

impl Speed {
    /// Blocks that a world has at least.
    pub const BLOCKS_MIN: u64 = 200;
    /// Faults that strike in it at least.
    pub const FAULTS_MIN: u64 = 30;

    fn of(reports: &[Report]) -> Option<Self> {
        let counts = |report: &&Report| {
            report.blocks >= Self::BLOCKS_MIN && report.fault_events >= Self::FAULTS_MIN
        };
        let counted: Vec<&Report> = reports.iter().filter(counts).collect();
        let simulated: f64 = counted.iter().map(|report| report.simulated_seconds).sum();
        let spent: f64 = counted.iter().map(|report| report.cpu_seconds).sum();
        (spent > 0.0).then(|| Self {
            seeds: counted.len() as u64,
            times: simulated / spent,
        })
    }
}

/// Seconds that a processor spent on this thread, where the system tells.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = text.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

/// Runs one world.
pub fn run(options: &Options) -> Report {
    let (start, spent) = (Instant::now(), cpu_seconds());
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
    let spent = spent.and_then(|spent| Some(cpu_seconds()? - spent));
    report.cpu_seconds = spent.unwrap_or(report.wall_seconds);
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
    let mut faults = BTreeMap::new();
    for (kind, times) in reports.iter().flat_map(|report| &report.faults) {
        *faults.entry(*kind).or_default() += times;
    }
    Summary {
        speed: Speed::of(&reports),
        faults,
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
