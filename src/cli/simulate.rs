//! `simulate`: real members in one process under a seed, virtual time and faults.
//!
//! Source: `docs/cli.md`. In: seeds, members, steps, faults. Out: what was broken, with the line
//! that replays it.
//! Holds: the same seed and source give the same audit; a violation exits 4.
//! Elsewhere: the world (`sim`).

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Args;

use super::args::Common;
use super::failure::Failure;
#[cfg(feature = "plants")]
use super::output;
use super::output::{Meter, Output, pairs};
use crate::plant::Plant;
use crate::sim::{
    self, Faults, Options, Report, Speed, Summary, TwinsReport, VillainKind, Violation,
};

/// About how many worlds it takes to shrink one.
const WORLDS_TRIED: u64 = 50;
/// What `--plant` calls all bugs, and how many seeds each is given.
#[cfg(feature = "plants")]
const EVERY_PLANT: &str = "all";
#[cfg(feature = "plants")]
const HUNT_SEEDS: u64 = 200;

/// `simulate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SimulateArgs {
    /// One seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// So many seeds in a row.
    #[arg(long)]
    pub(crate) seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Members.
    #[arg(long, default_value_t = 4)]
    members: u16,
    /// Steps of the phase with faults, at most.
    #[arg(long, default_value_t = 400_000)]
    steps: u64,
    /// Which faults may happen: `all`, `none`, or names with commas between them.
    #[arg(long, value_name = "NAMES")]
    faults: Option<String>,
    /// How hard things go wrong, of a hundred.
    #[arg(long, value_name = "PERCENT", default_value_t = 100,
          value_parser = clap::value_parser!(u64).range(1..=100))]
    strength: u64,
    /// Blocks after which a view gives way to the next, at least 8; 0 for never
    #[arg(long, default_value_t = 0, value_name = "N")]
    rotation_blocks: u32,
    /// So many acts of members: joins, leaves, exclusions, fresh keys; 0 for none, else as the seed
    /// draws.
    #[arg(long, value_name = "N")]
    membership: Option<u32>,
    /// A sample of the members sits, drawn by a beacon; wants --members 5 or more, below 10.
    #[arg(long, conflicts_with = "membership")]
    sample: bool,
    /// Blocks after which a checkpoint is due, which prunes; 8 or more, 0 for never. Who is behind
    /// then fetches a snapshot.
    #[arg(long, default_value_t = 0, value_name = "N")]
    checkpoint_blocks: u32,
    /// With --checkpoint-blocks: so many machines, at most 16, come at once where something was
    /// pruned; 0 for none, else as the seed draws.
    #[arg(long, value_name = "N", requires = "checkpoint_blocks",
          value_parser = clap::value_parser!(u32).range(0..=16))]
    joiners: Option<u32>,
    /// One member is a villain of this kind, whatever the seed would draw.
    #[arg(long, value_name = "NAME")]
    villain: Option<String>,
    /// Runs every scenario of one doubled seat among four instead of a seed.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "faults", "villain"])]
    twins: bool,
    /// Rounds of these scenarios before the network heals.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=4))]
    rounds: u32,
    /// Test only, with the feature `plants`: a bug that must be found, or `all` in turn, each in
    /// at most `--seeds` worlds.
    #[cfg(feature = "plants")]
    #[arg(long, value_name = "NAME")]
    plant: Option<String>,
    /// Looks for a shorter run that shows the same.
    #[arg(long)]
    pub(crate) shrink: bool,
}

pub(crate) fn run(common: &Common, args: &SimulateArgs) -> Result<ExitCode, Failure> {
    if args.twins {
        return twins(common, args);
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
        strength: args.strength,
        rotation_blocks: args.rotation_blocks,
        membership: args.membership,
        sample: args.sample,
        checkpoint_blocks: args.checkpoint_blocks,
        joiners: args.joiners,
        villain,
        plant: plant(args)?,
    };
    if options.members == 0 || options.members > 100 {
        return Err(Failure::usage(
            "a world has 1 to 100 members",
            "simulate --members 4",
        ));
    }
    if options.sample && !(5..10).contains(&options.members) {
        return Err(Failure::usage(
            "a sample is drawn of 5 to 9 members",
            "simulate --sample --members 7",
        ));
    }
    #[cfg(feature = "plants")]
    {
        let is_every = args.plant.as_deref() == Some(EVERY_PLANT);
        let one = options.plant.filter(|_| args.seeds.is_some());
        let plants = if is_every { Plant::ALL } else { one.as_slice() };
        if !plants.is_empty() {
            let count = args.seeds.unwrap_or(HUNT_SEEDS);
            return hunt(common, &options, plants, count);
        }
    }
    let violations = match args.seeds {
        Some(count) => many(common, &options, count)?,
        None => one(common, &options)?,
    };
    match violations.into_iter().next() {
        Some(first) if args.shrink => Err(judge(&shrunk(common, &options, first))),
        Some(first) => Err(judge(&first)),
        None => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(feature = "plants")]
fn plant(args: &SimulateArgs) -> Result<Option<Plant>, Failure> {
    let one = args.plant.as_deref().filter(|name| *name != EVERY_PLANT);
    let plant = one.map(str::parse::<Plant>).transpose();
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

/// Plants each of these bugs in turn and looks for a seed that shows it.
#[cfg(feature = "plants")]
fn hunt(
    common: &Common,
    options: &Options,
    plants: &[Plant],
    count: u64,
) -> Result<ExitCode, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let hunt = metered(common, "plants", plants.len() as u64, |told| {
        sim::hunt(options, plants, count, threads, &|_| told())
    });
    Output::new(common).document(&hunt, hunt_table)?;
    let is_whole = hunt.plants.iter().all(|prey| prey.found);
    Ok(ExitCode::from(u8::from(!is_whole)))
}

#[cfg(feature = "plants")]
fn hunt_table(hunt: &sim::Hunt) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or("-".into());
    let row = |prey: &sim::Prey| {
        vec![
            prey.plant.to_owned(),
            or_dash(prey.villain.map(str::to_owned)),
            prey.seeds_tried.to_string(),
            or_dash(prey.seed.map(|seed| seed.to_string())),
            or_dash(prey.oracle.clone()),
            format!("{:.1}", prey.seconds),
        ]
    };
    let rows: Vec<Vec<String>> = hunt.plants.iter().map(row).collect();
    let heads = [
        "plant",
        "villain",
        "seeds tried",
        "seed",
        "oracle",
        "seconds",
    ];
    output::table(&heads, &rows)
}

fn one(common: &Common, options: &Options) -> Result<Vec<Violation>, Failure> {
    let report = sim::run(options);
    Output::new(common).document(&report, table)?;
    Ok(report.violations)
}

fn many(common: &Common, options: &Options, count: u64) -> Result<Vec<Violation>, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let summary = metered(common, "seeds", count, |told| {
        sim::run_many(options, count, threads, &|_| told())
    });
    Output::new(common).document(&summary, summary_table)?;
    Ok(summary.violations)
}

/// Does what tells of each of `count` things when it is done, from any thread, and shows how many
/// are.
fn metered<T>(
    common: &Common,
    what: &'static str,
    count: u64,
    run: impl FnOnce(&(dyn Fn() + Sync)) -> T,
) -> T {
    let meter = Mutex::new((0, Meter::new(common, what, count)));
    let result = run(&|| {
        if let Ok(mut meter) = meter.lock() {
            meter.0 += 1;
            let done = meter.0;
            meter.1.set(done);
        }
    });
    if let Ok((_, meter)) = meter.into_inner() {
        meter.finish();
    }
    result
}

/// The same violation in the least world that was found to have it.
fn shrunk(common: &Common, options: &Options, found: Violation) -> Violation {
    let options = Options {
        seed: found.seed,
        ..options.clone()
    };
    let mut meter = Meter::new(common, "worlds tried", WORLDS_TRIED);
    let mut tried = 0;
    let least = sim::shrink(&options, &found.oracle, &mut |_| {
        tried += 1;
        meter.set(tried);
    });
    meter.finish();
    let shown = sim::run(&least).violations.into_iter().next();
    shown.unwrap_or(found)
}

fn twins(common: &Common, args: &SimulateArgs) -> Result<ExitCode, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let rounds = args.rounds;
    let report = sim::run_twins(rounds, threads, plant(args)?);
    Output::new(common).document(&report, twins_table)?;
    match report.violations.first() {
        None => Ok(ExitCode::SUCCESS),
        Some(first) => {
            let replay = format!("consortium simulate --twins --rounds {rounds}");
            Err(Failure::violation(first, replay))
        }
    }
}

fn judge(first: &Violation) -> Failure {
    let what = format!("seed {}: {}: {}", first.seed, first.oracle, first.what);
    Failure::violation(what, first.replay.clone())
}

fn table(report: &Report) -> String {
    pairs(&[
        ("seed", report.seed.to_string()),
        ("steps", report.steps.to_string()),
        ("simulated", format!("{:.1} s", report.simulated_seconds)),
        ("wall", format!("{:.2} s", report.wall_seconds)),
        ("blocks", report.blocks.to_string()),
        ("faults", faults(&report.faults)),
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
        ("speed", summary.speed.as_ref().map_or("-".into(), speed)),
        ("faults", faults(&summary.faults)),
        ("violations", summary.violations.len().to_string()),
    ])
}

fn speed(speed: &Speed) -> String {
    let Speed { seeds, times } = speed;
    let (blocks, faults) = (Speed::BLOCKS_MIN, Speed::FAULTS_MIN);
    format!(
        "{times:.0} times real time per core ({seeds} seeds with {blocks} blocks, {faults} faults)"
    )
}

fn faults(faults: &BTreeMap<&'static str, u64>) -> String {
    let counted = faults.iter().filter(|(_, times)| **times > 0);
    let counted: Vec<String> = counted
        .map(|(kind, times)| format!("{kind} {times}"))
        .collect();
    counted.join(", ")
}

fn twins_table(report: &TwinsReport) -> String {
    pairs(&[
        ("scenarios", report.scenarios.to_string()),
        ("rounds", report.rounds.to_string()),
        ("wall", format!("{:.1} s", report.wall_seconds)),
        ("violations", report.violations.len().to_string()),
    ])
}
