//! `archive`: a member's chain in a folder or an object store.
//!
//! Source: `docs/archive.md`. In: a member's folder, an address. Out: what was written.
//! Holds: the folder is only read; what is archived stays as it is.
//! Elsewhere: what is written (`node`), where it goes (`storage`).

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::time;

use super::args::Common;
use super::failure::Failure;
use super::output::{Meter, Output, pairs, say};
use super::seam;
use crate::crypto::Digest;
use crate::node::{Archiver, Round, Tail};
use crate::storage::without_secrets;

/// Between two looks at the log with `--follow`.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Between two tries with `--follow` where the store does not answer.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// `archive`.
#[derive(Debug, Args)]
pub(crate) struct ArchiveArgs {
    /// Where: a folder, file:///…, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix.
    #[arg(value_name = "URL")]
    url: String,
    /// Goes on with what the member adds, until it is stopped; a line for each change.
    #[arg(long)]
    follow: bool,
}

/// Lets time pass between two looks.
struct Clock(Runtime);

impl Clock {
    fn pass(&self, so_long: Duration) {
        self.0.block_on(async { time::sleep(so_long).await });
    }
}

/// What was done.
#[derive(Serialize)]
struct Done {
    archive: String,
    chain: Digest,
    #[serde(flatten)]
    round: Round,
}

pub(crate) fn run(common: &Common, args: &ArchiveArgs) -> Result<ExitCode, Failure> {
    let Some(dir) = &common.dir else {
        return Err(Failure::usage(
            "of which member? its folder is missing",
            "consortium archive URL --dir MEMBER_DIR",
        ));
    };
    let mut archiver = seam::archive::open(dir, &args.url)?;
    let (output, mut before) = (Output::new(common), None);
    let clock = Clock(super::runtime()?);
    loop {
        let mut meter: Option<Meter> = None;
        let mut progress = |done: u64, total: u64| {
            let meter = meter.get_or_insert_with(|| Meter::new(common, "bytes of the log", total));
            meter.set(done);
        };
        // A meter for every look would be noise; the first is the long one.
        let round = match before.is_none() {
            true => archiver.round(&mut progress),
            false => archiver.round(&mut |_, _| {}),
        };
        if let Some(meter) = meter {
            meter.finish();
        }
        let round = match round {
            Err(error) if args.follow && error.may_pass() => {
                say(format!("{error}; trying again"));
                clock.pass(TRY_AGAIN_AFTER);
                archiver = again(dir, &args.url, &clock)?;
                continue;
            }
            other => other?,
        };
        let done = Done {
            archive: without_secrets(&args.url),
            chain: archiver.chain(),
            round,
        };
        if !args.follow {
            output.document(&done, Done::table)?;
            return Ok(ExitCode::SUCCESS);
        }
        if before != Some(done.round.height) {
            output.line(&done, Done::line)?;
        }
        before = Some(done.round.height);
        clock.pass(LOOK_EVERY);
    }
}

/// Opens the archive again once it answers.
fn again(dir: &Path, url: &str, clock: &Clock) -> Result<Archiver, Failure> {
    loop {
        match seam::archive::reopen(dir, url)? {
            Some(archiver) => return Ok(archiver),
            None => clock.pass(TRY_AGAIN_AFTER),
        }
    }
}

impl Done {
    fn table(&self) -> String {
        let Round {
            written,
            present,
            bytes,
            extents_height,
            height,
            member_height,
            tail,
        } = &self.round;
        let tail = match tail {
            None => "-".into(),
            Some(Tail {
                first,
                last,
                written,
            }) => format!(
                "{first} to {last}{}",
                if *written { ", written" } else { "" }
            ),
        };
        pairs(&[
            ("archive", self.archive.clone()),
            ("chain", self.chain.to_string()),
            ("height", height.to_string()),
            ("member_height", member_height.to_string()),
            ("extents_height", extents_height.to_string()),
            ("extents written", written.to_string()),
            ("extents present", present.to_string()),
            ("tail", tail),
            ("bytes", bytes.to_string()),
        ])
    }

    fn line(&self) -> String {
        let Round {
            written,
            bytes,
            height,
            member_height,
            ..
        } = &self.round;
        format!("height {height} of {member_height}: {written} extents, {bytes} bytes written")
    }
}
