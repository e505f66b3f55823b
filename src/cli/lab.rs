//! `lab`: experiments of the papers that the ledger is built on.
//!
//! Source: `docs/cli.md`. In: the experiment and its flags. Out: rows as a table, JSON or CSV.
//! Holds: what is measured is the code that the ledger runs.
//! Elsewhere: how many seats a committee needs (`committee`), measuring a ledger (`bench`).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::args::Common;
use super::failure::Failure;
use super::output::{Output, table};
use crate::committee::{Odds, Risk};

/// Every experiment.
#[derive(Debug, Subcommand)]
pub(crate) enum LabVerb {
    /// Prints how many seats a drawn committee needs, and how seldom a draw has too many faulty
    /// ones.
    #[command(after_help = COMMITTEE_HELP)]
    Committee(CommitteeArgs),
}

const COMMITTEE_HELP: &str = "\
A ledger seats all of fewer than 100 members, and never more than 256.
Example:  consortium lab committee --members 500,1000 --byzantine 10 --crashed 2.5 -o json";

const HELP: &str = "consortium lab committee --help";

/// `lab committee`.
#[derive(Debug, Args)]
pub(crate) struct CommitteeArgs {
    /// Members of equal weight to draw from.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "100,1000,10000",
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    members: Vec<u32>,
    /// Per cent of them that are Byzantine.
    #[arg(
        long,
        value_name = "PERCENT",
        value_delimiter = ',',
        default_value = "5,10,20"
    )]
    byzantine: Vec<f64>,
    /// Per cent of them that are crashed besides.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    crashed: f64,
    /// One draw in so many may have more faulty seats than the committee bears.
    #[arg(
        long,
        value_name = "DRAWS",
        value_delimiter = ',',
        default_value = "1000000,1000000000,1000000000000"
    )]
    one_in: Vec<std::num::NonZeroU64>,
    /// Writes the rows there as CSV too.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

pub(crate) fn run(common: &Common, verb: &LabVerb) -> Result<ExitCode, Failure> {
    match verb {
        LabVerb::Committee(args) => committee(common, args),
    }
}

#[derive(Serialize)]
struct Committees {
    committees: Vec<Committee>,
}

/// The least committee for one set of assumptions; where there is none, only these.
#[derive(Serialize)]
struct Committee {
    members: u32,
    byzantine_percent: f64,
    crashed_percent: f64,
    one_in: u64,
    seats: Option<usize>,
    /// The chance that one draw has more faulty seats than the committee bears.
    failure: Option<f64>,
    /// Draws after which it has happened with even chances.
    draws_median: Option<f64>,
}

impl Committee {
    const HEADS: [&str; 7] = [
        "members",
        "byzantine_percent",
        "crashed_percent",
        "one_in",
        "seats",
        "failure",
        "draws_median",
    ];

    fn of(members: u32, risk: Risk) -> Self {
        let odds = Odds::new(std::iter::repeat_n(1, members as usize), risk.faulty_ppm());
        let sample = risk.least(odds);
        let failure = sample.map(|sample| sample.failure.as_f64());
        let median = failure.map(|failure| std::f64::consts::LN_2 / -(-failure).ln_1p());
        Self {
            members,
            byzantine_percent: percent(risk.byzantine_ppm),
            crashed_percent: percent(risk.crashed_ppm),
            one_in: risk.one_in.get(),
            seats: sample.map(|sample| sample.seats),
            failure,
            draws_median: median.filter(|draws| draws.is_finite()),
        }
    }

    fn cells(&self) -> Vec<String> {
        let short = |number: f64| format!("{number:.2e}");
        vec![
            self.members.to_string(),
            self.byzantine_percent.to_string(),
            self.crashed_percent.to_string(),
            self.one_in.to_string(),
            self.seats
                .map(|seats| seats.to_string())
                .unwrap_or_default(),
            self.failure.map(short).unwrap_or_default(),
            self.draws_median.map(short).unwrap_or_default(),
        ]
    }
}

fn committee(common: &Common, args: &CommitteeArgs) -> Result<ExitCode, Failure> {
    let committees = committees(args)?;
    let rows: Vec<_> = committees.iter().map(Committee::cells).collect();
    if let Some(path) = &args.csv {
        let text = csv(&Committee::HEADS, &rows);
        std::fs::write(path, text).map_err(|error| Failure::file(path, &error))?;
    }
    Output::new(common).document(&Committees { committees }, |_| {
        table(&Committee::HEADS, &rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A row for every member count, share and risk.
fn committees(args: &CommitteeArgs) -> Result<Vec<Committee>, Failure> {
    let mut rows = Vec::new();
    for &members in &args.members {
        for &byzantine in &args.byzantine {
            for &one_in in &args.one_in {
                let risk = Risk {
                    byzantine_ppm: ppm(byzantine)?,
                    crashed_ppm: ppm(args.crashed)?,
                    one_in,
                };
                let usable = risk.check();
                usable.map_err(|error| Failure::usage(error, HELP))?;
                rows.push(Committee::of(members, risk));
            }
        }
    }
    Ok(rows)
}

/// Parts per million of a share in per cent.
fn ppm(percent: f64) -> Result<u32, Failure> {
    match (0.0..=100.0).contains(&percent) {
        true => Ok((percent * 10_000.0).round() as u32),
        false => Err(Failure::usage(
            format!("{percent} is no share in per cent"),
            HELP,
        )),
    }
}

/// The share in per cent of parts per million.
fn percent(ppm: u32) -> f64 {
    f64::from(ppm) / 10_000.0
}

/// Rows of plain words and numbers under their heads.
fn csv(heads: &[&str], rows: &[Vec<String>]) -> String {
    let lines = rows.iter().map(|row| row.join(","));
    let lines: Vec<_> = std::iter::once(heads.join(",")).chain(lines).collect();
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests;
