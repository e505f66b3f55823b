//! `simulate`: real members in one process under a seed, virtual time and faults.
//!
//! Source: `docs/cli.md`. In: seeds, members, steps, faults. Out: what was broken, with the line
//! that replays it.
//! Holds: the same seed and source give the same audit; a violation exits 4.
//! Elsewhere: the world (`sim`).

use std::process::ExitCode;
use std::sync::Mutex;

use super::args::{Common, SimulateArgs};
use super::failure::Failure;
use super::output::{Meter, Output, pairs};
use crate::plant::Plant;
use crate::sim::{self, Faults, Options, Report, Summary, TwinsReport, VillainKind, Violation};

pub(crate) fn run(common: &Common, args: &SimulateArgs) -> Result<ExitCode, Failure> {
    if args.shrink {
        let next = "replay the seed with fewer --steps until it passes";
        return Err(Failure::not_yet("simulate --shrink", next));
    }
    if args.twins {
        return twins(common, args.rounds);
    }
    let faults = args.faults.as_deref().map(str::parse::<Faults>).transpose();
    let faults = faults.map_err(|error| Failure::usage(error, "consortium simulate --help"))?;
    let villain = args.villain.as_deref().map(str::parse::<VillainKind>);
    let villain = villain.transpose();
    let villain = villain.map_err(|error| Failure::usage(error, "consortium simulate --help"))?;
    let options = Options {
        seed: args.seed.unwrap_or(args.first),
        members: usize::from(args.members),
        steps: args.steps,
        faults: faults.unwrap_or(Options::default().faults),
        villain,
        plant: plant(args)?,
    };
    if options.members == 0 || options.members > 100 {
        return Err(Failure::usage(
            "a world has 1 to 100 members",
            "simulate --members 4",
        ));
    }
    match args.seeds {
        Some(count) => many(common, &options, count),
        None => one(common, &options),
    }
}

#[cfg(feature = "plants")]
fn plant(args: &SimulateArgs) -> Result<Option<Plant>, Failure> {
    let plant = args.plant.as_deref().map(str::parse::<Plant>).transpose();
    plant.map_err(|error| Failure::usage(error, "consortium simulate --help"))
}

#[cfg(not(feature = "plants"))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "the feature `plants` has a way to fail"
)]
fn plant(_: &SimulateArgs) -> Result<Option<Plant>, Failure> {
    Ok(None)
}

fn one(common: &Common, options: &Options) -> Result<ExitCode, Failure> {
    let report = sim::run(options);
    Output::new(common).document(&report, table)?;
    judge(&report.violations)
}

fn many(common: &Common, options: &Options, count: u64) -> Result<ExitCode, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let meter = Mutex::new((0, Meter::new(common, "seeds", count)));
    let summary = sim::run_many(options, count, threads, &|_| {
        if let Ok(mut meter) = meter.lock() {
            meter.0 += 1;
            let done = meter.0;
            meter.1.set(done);
        }
    });
    if let Ok((_, meter)) = meter.into_inner() {
        meter.finish();
    }
    Output::new(common).document(&summary, summary_table)?;
    judge(&summary.violations)
}

fn twins(common: &Common, rounds: u32) -> Result<ExitCode, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let report = sim::run_twins(rounds, threads);
    Output::new(common).document(&report, twins_table)?;
    match report.violations.first() {
        None => Ok(ExitCode::SUCCESS),
        Some(first) => {
            let replay = format!("consortium simulate --twins --rounds {rounds}");
            Err(Failure::violation(first, replay))
        }
    }
}

fn judge(violations: &[Violation]) -> Result<ExitCode, Failure> {
    match violations.first() {
        None => Ok(ExitCode::SUCCESS),
        Some(first) => {
            let what = format!("seed {}: {}: {}", first.seed, first.oracle, first.what);
            Err(Failure::violation(what, first.replay.clone()))
        }
    }
}

fn table(report: &Report) -> String {
    pairs(&[
        ("seed", report.seed.to_string()),
        ("steps", report.steps.to_string()),
        ("simulated", format!("{:.1} s", report.simulated_seconds)),
        ("wall", format!("{:.2} s", report.wall_seconds)),
        ("blocks", report.blocks.to_string()),
        ("regencies", report.regencies.to_string()),
        ("violations", report.violations.len().to_string()),
        ("audit", report.audit.clone()),
    ])
}

fn summary_table(summary: &Summary) -> String {
    pairs(&[
        ("seeds", format!("{} from {}", summary.seeds, summary.first)),
        ("blocks", summary.blocks.to_string()),
        ("simulated", format!("{:.1} s", summary.simulated_seconds)),
        (
            "wall",
            format!("{:.2} s on {} cores", summary.wall_seconds, summary.cores),
        ),
        ("violations", summary.violations.len().to_string()),
    ])
}

fn twins_table(report: &TwinsReport) -> String {
    pairs(&[
        ("scenarios", report.scenarios.to_string()),
        ("rounds", report.rounds.to_string()),
        ("wall", format!("{:.1} s", report.wall_seconds)),
        ("violations", report.violations.len().to_string()),
    ])
}
