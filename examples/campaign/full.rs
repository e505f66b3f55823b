//! A disk that is full: the member on it ends and says why, the others go on, and with room again
//! it catches up.
//!
//! Source: reliability, fault matrix. In: how many cycles. Out: how the member ended each time.
//! Holds: a write that finds no room is never taken for one that was made; nothing acknowledged is
//! lost. Elsewhere: syncs that fail (`syncs`), full disks in the simulator (`sim`).

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::members::talk;
use super::{Lacking, Plan, report, tool};

/// Bytes of the file system: log files, tables, and little else.
const DISK_BYTES: u64 = 1 << 30;
/// Bytes that fill it are written in pieces of so many.
const PIECE_BYTES: usize = 1 << 20;

#[derive(Args)]
pub(crate) struct Words {
    /// How often the disk is filled.
    #[arg(long, default_value_t = 5)]
    cycles: usize,
}

pub(crate) fn run(plan: &Plan, words: &Words) -> Result<Value, Lacking> {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::make(folder.path())?;
    let victim = plan.members - 1;
    let mut run = plan.start("full", |members, _| {
        members.keep_data_in(victim, &disk.mounted.join("data"));
    });
    let mut wrong = Vec::new();
    let mut ends = Vec::new();
    for cycle in 0..words.cycles {
        run.load.wait_for(plan.enough());
        disk.fill();
        let ended = run.members.ended_in_time(victim);
        let said = talk(&run.members.at(victim).dir);
        match ended {
            Some(status) if !status.success() => ends.push(status.to_string()),
            Some(status) => wrong.push(format!("cycle {cycle}: it ends with {status}: {said}")),
            None => wrong.push(format!("cycle {cycle}: it does not end: {said}")),
        }
        if !said.contains("No space left") {
            wrong.push(format!("cycle {cycle}: it does not say why: {said}"));
        }
        run.load.wait_for(plan.enough()); // The others go on without it.
        disk.make_room();
        run.members.start(victim);
        run.load.wait_for(plan.enough());
        eprintln!("{cycle}: goes on");
    }
    let facts = json!({ "cycles": words.cycles, "ends": ends });
    let mut verdict = run.finish();
    verdict.violations.extend(wrong);
    Ok(report("full", &verdict, facts))
}

/// A small file system, mounted until it is dropped.
struct Disk {
    mounted: PathBuf,
}

impl Disk {
    fn make(folder: &Path) -> Result<Self, Lacking> {
        let mounted = folder.join("mounted");
        std::fs::create_dir(&mounted).map_err(|error| Lacking(error.to_string()))?;
        let size = format!("size={DISK_BYTES}");
        let at = mounted.to_string_lossy().into_owned();
        tool(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", &at])?;
        Ok(Self { mounted })
    }

    fn filler(&self) -> PathBuf {
        self.mounted.join("filler")
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).expect("a file can be made");
        for length in [PIECE_BYTES, 4096, 1] {
            while file.write_all(&vec![1; length]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).expect("the filler is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(Lacking(what)) = tool(&["umount", &self.mounted.to_string_lossy()]) {
            eprintln!("still mounted: {what}");
        }
    }
}
