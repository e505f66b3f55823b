//! A member dies at its n-th sync, or the sync fails: every such place, from outside.
//!
//! Source: reliability, tools, fault injection by `strace`. In: from which sync to which. Out: how
//! the member ended each time. Holds: a fresh ledger for every place; a member whose sync failed
//! ends by itself with a failure. Elsewhere: all places in the simulator (`sim`), whole disks
//! (`power`).

use clap::Args;
use serde_json::{Value, json};

use super::members::talk;
use super::{Lacking, Plan, report, tool};
use crate::judge::Verdict;

#[derive(Args)]
pub(crate) struct Words {
    /// The first sync, counted from 1 by each thread of the member.
    #[arg(long, default_value_t = 1)]
    first: usize,
    /// The last.
    #[arg(long, default_value_t = 60)]
    last: usize,
    /// The sync fails with this, `EIO` or `ENOSPC`, and the member goes on; without it, it is
    /// killed there.
    #[arg(long)]
    error: Option<String>,
    /// Which system calls are syncs.
    #[arg(long, default_value = "fdatasync,fsync")]
    calls: String,
}

pub(crate) fn run(plan: &Plan, words: &Words) -> Result<Value, Lacking> {
    tool(&["strace", "-V"])?;
    let mut all = Verdict {
        sent: 0,
        acknowledged: 0,
        executed: 0,
        reads: 0,
        violations: Vec::new(),
    };
    let mut ends = Vec::new();
    for sync in words.first..=words.last {
        let (end, verdict) = one(plan, words, sync);
        eprintln!("{sync}: {end}");
        if words.error.is_some() && end == json!("exit status: 0") {
            all.violations
                .push(format!("sync {sync} failed, and the member ended well"));
        }
        ends.push(json!({ "sync": sync, "exit": end }));
        all.sent += verdict.sent;
        all.acknowledged += verdict.acknowledged;
        all.executed += verdict.executed;
        all.reads += verdict.reads;
        let of_sync = |what: String| format!("sync {sync}: {what}");
        all.violations
            .extend(verdict.violations.into_iter().map(of_sync));
    }
    let facts = json!({ "error": words.error, "calls": words.calls, "ends": ends });
    Ok(report("syncs", &all, facts))
}

/// One ledger whose last member meets the fault at its sync number `sync`.
fn one(plan: &Plan, words: &Words, sync: usize) -> (Value, Verdict) {
    let act = match &words.error {
        Some(error) => format!("error={error}"),
        None => "signal=KILL".into(),
    };
    let inject = format!("inject={}:{act}:when={sync}", words.calls);
    let trace = format!("trace={}", words.calls);
    let quiet = ["strace", "-f", "-qqq", "-o", "/dev/null"];
    let tracer = [&quiet[..], &["-e", &trace, "-e", &inject]].concat();
    let victim = plan.members - 1;
    let mut run = plan.start("syncs", |members, _| members.start_under(victim, &tracer));
    let ended = run.members.ended_in_time(victim);
    let said = talk(&run.members.at(victim).dir);
    run.members.start(victim);
    run.load.wait_for(plan.enough());
    let mut verdict = run.finish();
    let end = match ended {
        Some(status) => json!(status.to_string()),
        None => {
            verdict.violations.push(format!("it does not end: {said}"));
            Value::Null
        }
    };
    (end, verdict)
}
