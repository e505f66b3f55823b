//! Long runs of the built program under faults, each of which ends with the history check.
//!
//! Source: reliability, fault matrix. In: words. Out: one JSON document; exit 1 where anything
//! contradicts what clients were told. Holds: the folder of a run that fails is kept and named.
//! Elsewhere: the short forms (`tests/chaos.rs`), the judge (`tests/support`).
//!
//! ```text
//! cargo build --release --bin consortium
//! cargo run --release --example campaign -- failover --kills 100
//! cargo run --release --example campaign -- kills --minutes 10 --seed 1
//! cargo run --release --example campaign -- full --cycles 5            # root, tmpfs
//! cargo run --release --example campaign -- power --cycles 20          # root, loop device, ext4
//! cargo run --release --example campaign -- syncs --last 60            # strace
//! cargo run --release --example campaign -- syncs --last 20 --error EIO
//! cargo run --release --example campaign -- views --most 10
//! cargo run --release --example campaign -- checkpoints --mib 1024 --kills 10
//! cargo run --release --example campaign -- restart --blocks 1000000   # root for cold starts
//! cargo run --release --example campaign -- steady --minutes 60
//! ```

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use serde_json::{Value, json};

use judge::{Verdict, judge};
use load::{Load, Size};
use members::Members;

mod checkpoints;
mod failover;
mod full;
mod kills;
mod power;
mod restart;
mod steady;
mod syncs;
mod views;

#[path = "../../tests/support/history.rs"]
mod history;
#[path = "../../tests/support/judge.rs"]
mod judge;
#[path = "../../tests/support/load.rs"]
mod load;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/support/members.rs"]
mod members;

/// Length of a member's log file in MiB: the program's own default.
const LOG_FILE_MIB: u32 = 64;

#[derive(Parser)]
#[command(about = "Long runs of the built program under faults")]
struct Words {
    /// Members of the ledger.
    #[arg(long, default_value_t = 4, global = true)]
    members: usize,
    /// Clients that put at once.
    #[arg(long, default_value_t = 4, global = true)]
    clients: usize,
    /// Puts of one client that wait for an answer at once.
    #[arg(long, default_value_t = 8, global = true)]
    under_way: usize,
    /// Puts of all clients a second; as many as are answered without it.
    #[arg(long, value_name = "N", global = true)]
    per_second: Option<NonZeroU32>,
    /// What keeps the tables of members; without it what a member chooses.
    #[arg(long, value_name = "ENGINE", global = true)]
    tables: Option<String>,
    /// The program to run; without it the one that was built beside this.
    #[arg(long, value_name = "FILE", global = true)]
    program: Option<PathBuf>,
    #[command(subcommand)]
    campaign: Campaign,
}

#[derive(Subcommand)]
enum Campaign {
    /// Kills the leader again and again; measures how long nothing is committed.
    Failover(failover::Words),
    /// Kills, pauses and restarts members at random.
    Kills(kills::Words),
    /// Fills a member's disk.
    Full(full::Words),
    /// Cuts the power of a real file system below members' logs.
    Power(power::Words),
    /// Kills a member at its n-th sync, or has that sync fail.
    Syncs(syncs::Words),
    /// Grows a ledger to ten members and shrinks it again while its views rotate.
    Views(views::Words),
    /// Wipes a member of a ledger with a large state, which comes back by a checkpoint.
    Checkpoints(checkpoints::Words),
    /// Starts a member with a long history, clean and killed, whole and pruned.
    Restart(restart::Words),
    /// Writes a state of fixed size for long, and looks whether its disk use stays.
    Steady(steady::Words),
}

fn main() -> ExitCode {
    let words = Words::parse();
    let plan = Plan {
        program: words.program.unwrap_or_else(built),
        members: words.members,
        init: Vec::new(),
        tables: words.tables,
        size: Size {
            clients: words.clients,
            under_way: words.under_way,
            per_second: words.per_second,
        },
    };
    let report = match words.campaign {
        Campaign::Failover(words) => failover::run(&plan, &words),
        Campaign::Kills(words) => kills::run(&plan, &words),
        Campaign::Full(words) => full::run(&plan, &words),
        Campaign::Power(words) => power::run(&plan, &words),
        Campaign::Syncs(words) => syncs::run(&plan, &words),
        Campaign::Views(words) => views::run(&plan, &words),
        Campaign::Checkpoints(words) => checkpoints::run(&plan, &words),
        Campaign::Restart(words) => restart::run(&plan, &words),
        Campaign::Steady(words) => steady::run(&plan, &words),
    };
    match report {
        Ok(report) => {
            println!("{report:#}");
            ExitCode::from(u8::from(report["violations"] != json!([])))
        }
        Err(Lacking(what)) => {
            println!("{:#}", json!({ "skipped": what }));
            ExitCode::SUCCESS
        }
    }
}

/// Something that a campaign needs and this machine does not have.
struct Lacking(String);

/// The program is built beside this one.
fn built() -> PathBuf {
    let here = std::env::current_exe().expect("this program has a place");
    let folder = here.parent().and_then(Path::parent);
    let program = folder.expect("examples have a folder").join("consortium");
    assert!(program.exists(), "build it first: {}", program.display());
    program
}

/// What every campaign starts from.
struct Plan {
    program: PathBuf,
    members: usize,
    /// More words for `init`.
    init: Vec<String>,
    tables: Option<String>,
    size: Size,
}

/// A ledger under load, in a folder that goes only when everything held.
struct Run {
    folder: tempfile::TempDir,
    members: Members,
    load: Load,
}

impl Plan {
    /// Members in `dir`.
    fn members(&self, dir: &Path) -> Members {
        let (program, count) = (&self.program, self.members);
        let mut members = Members::make_with(program, dir, count, LOG_FILE_MIB, &self.init);
        members.tables.clone_from(&self.tables);
        members
    }

    /// Makes members, has `furnish` settle them, starts them and the load.
    fn start(&self, name: &str, furnish: impl FnOnce(&mut Members, &Path)) -> Run {
        let folder = tempfile::Builder::new()
            .prefix("campaign-")
            .disable_cleanup(true)
            .tempdir();
        let folder = folder.expect("a folder");
        eprintln!("{name}: in {}", folder.path().display());
        let dir = folder.path().join("ledger");
        let mut members = self.members(&dir);
        furnish(&mut members, folder.path());
        let stopped = (0..self.members).filter(|number| !members.is_running(*number));
        let stopped: Vec<usize> = stopped.collect();
        stopped.into_iter().for_each(|number| members.start(number));
        let load = Load::start(name, &members.genesis(), &members.doors(), self.size);
        Run {
            folder,
            members,
            load,
        }
    }

    /// Acknowledgements that show that the ledger goes on: more than could be under way before.
    fn enough(&self) -> usize {
        4 * self.size.clients * self.size.under_way
    }
}

impl Run {
    /// Ends the load and the members, and judges.
    fn finish(self) -> Verdict {
        self.finish_with(Vec::new())
    }

    /// As [`Run::finish`], where `puts` were sent beside the load.
    fn finish_with(mut self, puts: Vec<history::Put>) -> Verdict {
        let mut history = self.load.finish();
        history.puts.extend(puts);
        let verdict = judge(&mut self.members, &history);
        match verdict.violations.is_empty() {
            true => std::fs::remove_dir_all(self.folder.path()).expect("our own folder"),
            false => eprintln!("violations; kept: {}", self.folder.path().display()),
        }
        verdict
    }
}

/// `facts` with what the judge found; violations stand at the top.
fn report(name: &str, verdict: &Verdict, facts: Value) -> Value {
    json!({
        "campaign": name,
        "facts": facts,
        "history": {
            "sent": verdict.sent,
            "acknowledged": verdict.acknowledged,
            "executed": verdict.executed,
            "reads": verdict.reads,
        },
        "violations": verdict.violations,
    })
}

/// Runs a tool of the system; gives what it said.
fn tool(words: &[&str]) -> Result<String, Lacking> {
    let [program, words @ ..] = words else {
        return Ok(String::new());
    };
    let lacking = |said: &str| Lacking(format!("{program} {}: {said}", words.join(" ")));
    let output = Command::new(program).args(words).output();
    let output = output.map_err(|error| lacking(&error.to_string()))?;
    if !output.status.success() {
        return Err(lacking(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
