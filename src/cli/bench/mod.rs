//! `bench`: a ledger under load, measured from outside.
//!
//! Source: `docs/cli.md`; the open loop after Schroeder et al., 'Open versus closed'. In: a rate or
//! a number of clients. Out: one document of figures.
//! Holds: at a rate, latency counts from the time at which a transaction was due, so a stalled
//! ledger cannot hide; what was acknowledged is read back from the committed order.
//! Elsewhere: load (`load`), processes (`gauge`).

mod gauge;
mod load;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use self::gauge::{Gauge, Reading};
use self::load::{Load, Outcome};
use super::args::{BenchArgs, BenchMode, Common};
use super::failure::{Exit, Failure};
use super::output::{Output, pairs, say};
use super::processes::{Processes, Wish};
use super::reads::follow;
use super::target::{QUICK, Targets, read_genesis, seconds};
use crate::crypto::PublicKey;

/// How long what was acknowledged may take to show in the order, beyond what was waited for.
const READ_BACK: Duration = Duration::from_secs(10);

/// The figures. What cannot be seen from here is null.
#[derive(Serialize)]
struct Report {
    mode: &'static str,
    members: usize,
    size_bytes: usize,
    seconds: f64,
    submitted: u64,
    committed: u64,
    committed_per_second: f64,
    latency_ms: Latency,
    cpu_us_per_tx: Cpu,
    rss_max_mib: Option<f64>,
    log_bytes_per_tx: Option<f64>,
    table_bytes_per_tx: Option<f64>,
    fsyncs_per_second: Option<f64>,
    lost: u64,
    duplicated: u64,
    /// Submissions that were refused or not answered in time.
    failed: u64,
    /// What the first of them met.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_failure: Option<String>,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

#[derive(Serialize)]
struct Cpu {
    members: Option<f64>,
    clients: Option<f64>,
}

pub(crate) async fn run(common: &Common, args: &BenchArgs) -> Result<ExitCode, Failure> {
    refuse_other_modes(args.mode)?;
    let length = seconds(args.seconds, "--seconds")?;
    if !common.api.is_empty() || common.dir.is_some() {
        let targets = Targets::find(common)?;
        let gauge = Gauge::of(&targets);
        let report = measure(common, args, &targets, &gauge, length).await?;
        return print(common, &report);
    }
    let dir = super::dev::temporary("bench")?;
    let wish = Wish::plain(args.members, args.tables);
    let mut signals = super::dev::Signals::listen()?;
    let mut processes = Processes::start(&dir, &wish)?;
    let measured = tokio::select! {
        measured = own(common, args, &mut processes, length) => measured,
        () = signals.any() => Err(Failure::refused("interrupted", "nothing was measured")),
    };
    processes.end().await;
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        say(format!("note: {}: {error}", dir.display()));
    }
    print(common, &measured?)
}

async fn own(
    common: &Common,
    args: &BenchArgs,
    processes: &mut Processes,
    length: Duration,
) -> Result<Report, Failure> {
    processes.ready().await?;
    processes.write()?;
    let common_here = Common {
        dir: Some(processes.dir.clone()),
        ..common.clone()
    };
    let mut targets = Targets::find(&common_here)?;
    targets.genesis = Some(read_genesis(&processes.cluster.genesis)?);
    let gauge = Gauge::of(&targets);
    measure(common, args, &targets, &gauge, length).await
}

fn refuse_other_modes(mode: BenchMode) -> Result<(), Failure> {
    let lacks = match mode {
        BenchMode::R => return Ok(()),
        BenchMode::U => "U: every group is signed and every vote is on disk",
        BenchMode::D => "D: every group is signed",
        BenchMode::S => "S: every vote is on disk before it leaves",
    };
    Err(Failure::refused(
        format!("there is no mode {lacks}, and this release has no switch for less"),
        "--mode R; --wait ordered or executed shows what waiting for less gives",
    ))
}

async fn measure(
    common: &Common,
    args: &BenchArgs,
    targets: &Targets,
    gauge: &Gauge,
    length: Duration,
) -> Result<Report, Failure> {
    let first = sequence(targets).await?;
    let load = Load::new(common, args, targets, length)?;
    let before = gauge.read().await;
    let start = Instant::now();
    let outcome = load.run().await?;
    let took = start.elapsed();
    let after = gauge.read().await;
    let (lost, duplicated) = read_back(targets, first, &outcome).await?;
    Ok(report(
        args,
        targets,
        &outcome,
        (before, after),
        took,
        (lost, duplicated),
    ))
}

/// The highest number of executed transactions that a member tells.
async fn sequence(targets: &Targets) -> Result<u64, Failure> {
    let asks = targets.members.iter().map(|m| m.api.status(QUICK));
    let answers = join_all(asks).await;
    let sequences = answers.into_iter().flatten().map(|s| s.tip.sequence);
    match sequences.max() {
        Some(sequence) => Ok(sequence),
        None => Err(Failure::refused("no member answers", "consortium status")),
    }
}

/// How many acknowledged transactions the committed order lacks, and how many stand in it twice.
async fn read_back(
    targets: &Targets,
    first: u64,
    outcome: &Outcome,
) -> Result<(u64, u64), Failure> {
    let mut seen: BTreeMap<(PublicKey, u64), u64> =
        outcome.committed.iter().map(|named| (*named, 0)).collect();
    let deadline = Instant::now() + READ_BACK;
    let mut next = first;
    loop {
        let end = sequence(targets).await?;
        follow(targets, next, end, |event| {
            if let Some(count) = seen.get_mut(&(event.client, event.client_sequence)) {
                *count += 1;
            }
            Ok(())
        })
        .await?;
        next = next.max(end);
        let lost = seen.values().filter(|count| **count == 0).count() as u64;
        if lost == 0 || Instant::now() > deadline {
            let duplicated = seen.values().filter(|count| **count > 1).count() as u64;
            return Ok((lost, duplicated));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn report(
    args: &BenchArgs,
    targets: &Targets,
    outcome: &Outcome,
    (before, after): (Reading, Reading),
    took: Duration,
    (lost, duplicated): (u64, u64),
) -> Report {
    let committed = outcome.committed.len() as u64;
    let per_tx = |from: Option<f64>, to: Option<f64>| {
        let (from, to) = (from?, to?);
        (committed > 0).then(|| (to - from) / committed as f64)
    };
    let seconds = took.as_secs_f64();
    let syncs = before
        .syncs
        .zip(after.syncs)
        .map(|(from, to)| (to - from) / seconds);
    Report {
        mode: "R",
        members: targets.members.len(),
        size_bytes: args.size,
        seconds,
        submitted: outcome.submitted,
        committed,
        committed_per_second: committed as f64 / seconds,
        latency_ms: latency(&outcome.latencies_us),
        cpu_us_per_tx: Cpu {
            members: per_tx(before.members_us, after.members_us),
            clients: per_tx(before.own_us, after.own_us),
        },
        rss_max_mib: after.rss_max_mib,
        log_bytes_per_tx: per_tx(before.log_bytes, after.log_bytes),
        table_bytes_per_tx: per_tx(before.table_bytes, after.table_bytes),
        fsyncs_per_second: syncs,
        lost,
        duplicated,
        failed: outcome.failed,
        first_failure: outcome.first_failure.clone(),
    }
}

fn latency(sorted_us: &[u64]) -> Latency {
    let at = |share: f64| percentile(sorted_us, share) as f64 / 1_000.0;
    Latency {
        p50: at(0.50),
        p95: at(0.95),
        p99: at(0.99),
        max: at(1.0),
    }
}

/// The smallest value that `share` of `sorted` do not exceed; 0 of nothing.
pub(crate) fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    let index = rank.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or(0)
}

fn print(common: &Common, report: &Report) -> Result<ExitCode, Failure> {
    Output::new(common).document(report, Report::table)?;
    if report.lost > 0 || report.duplicated > 0 {
        let (lost, duplicated) = (report.lost, report.duplicated);
        return Err(Failure::violation(
            format!("{lost} acknowledged transactions are lost, {duplicated} executed twice"),
            "keep the members' folders: consortium verify --dir reads them",
        ));
    }
    if report.committed == 0 {
        let why = report
            .first_failure
            .clone()
            .unwrap_or_else(|| "nothing was due".into());
        let what = format!("nothing was committed: {why}");
        return Err(Failure::new(Exit::TimedOut, what, "consortium status"));
    }
    Ok(ExitCode::SUCCESS)
}

impl Report {
    fn table(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| format!("{v:.1}"));
        let l = &self.latency_ms;
        let mut rows = vec![
            ("mode", self.mode.to_owned()),
            ("members", self.members.to_string()),
            ("size_bytes", self.size_bytes.to_string()),
            ("seconds", format!("{:.1}", self.seconds)),
            ("submitted", self.submitted.to_string()),
            ("committed", self.committed.to_string()),
            (
                "committed_per_second",
                format!("{:.0}", self.committed_per_second),
            ),
            (
                "latency_ms",
                format!(
                    "p50 {:.1}  p95 {:.1}  p99 {:.1}  max {:.1}",
                    l.p50, l.p95, l.p99, l.max
                ),
            ),
            ("cpu_us_per_tx members", number(self.cpu_us_per_tx.members)),
            ("cpu_us_per_tx clients", number(self.cpu_us_per_tx.clients)),
            ("rss_max_mib", number(self.rss_max_mib)),
            ("log_bytes_per_tx", number(self.log_bytes_per_tx)),
            ("table_bytes_per_tx", number(self.table_bytes_per_tx)),
            ("fsyncs_per_second", number(self.fsyncs_per_second)),
            ("lost", self.lost.to_string()),
            ("duplicated", self.duplicated.to_string()),
            ("failed", self.failed.to_string()),
        ];
        if let Some(failure) = &self.first_failure {
            rows.push(("first_failure", failure.clone()));
        }
        pairs(&rows)
    }
}
