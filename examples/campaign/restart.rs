//! A member with a long history is started again and again; how long until it votes.
//!
//! Source: the goals for a start. In: blocks of history. Out: seconds by kind of start.
//! Holds: the history is the replica's own work, with its keys, in views that follow each other;
//! a start is timed from the start of the process to a transaction that is durable.
//! Elsewhere: how the history is made so quickly (`node::order_alone`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use consortium::api::Wait;
use consortium::application::kv::Operation;
use consortium::blocks::Genesis;
use consortium::client::{Api, Client, Doors, Options as ClientOptions, Rules};
use consortium::committee::Height;
use consortium::crypto::SecretKey;
use consortium::node::{Options, order_alone};
use serde_json::{Value, json};

use super::checkpoints::{checkpoint, du, first_log_file};
use super::members::Members;
use super::{Lacking, Plan};

#[derive(Args)]
pub(crate) struct Words {
    /// Blocks of history.
    #[arg(long, default_value_t = 20_000)]
    blocks: u64,
    /// Blocks above the checkpoint behind which they are pruned.
    #[arg(long, default_value_t = 3_000)]
    above: u64,
    /// Blocks of a view.
    #[arg(long, default_value_t = 50_000)]
    rotation_blocks: u64,
    /// Keys that the transactions write, in turn.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Starts of each kind.
    #[arg(long, default_value_t = 5)]
    starts: usize,
    /// Where the ledger is made; what a run left there is used again.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(1_800);
/// Transactions before a member is killed.
const BEFORE_KILL: u64 = 200;
/// What a start may take, in seconds.
const GOAL: f64 = 3.0;

pub(crate) fn run(plan: &Plan, words: &Words) -> Result<Value, Lacking> {
    let folder = tempfile::Builder::new().prefix("campaign-").tempdir();
    let folder = folder.expect("a folder");
    let dir = words.folder.clone();
    let dir = dir.unwrap_or_else(|| folder.path().to_owned());
    let rotation = words.rotation_blocks.to_string();
    let init = ["--rotation-blocks", &rotation, "--checkpoint-blocks", "0"];
    let init = [&init[..], &["--checkpoint-bytes", "0"]].concat();
    let init: Vec<String> = init.into_iter().map(str::to_owned).collect();
    let ledger = dir.join("ledger");
    let mut members = Members::make_with(&plan.program, &ledger, 1, super::LOG_FILE_MIB, &init);
    members.tables.clone_from(&plan.tables);
    let made = make(&members, words, words.blocks);
    let mut starts = vec![measure(&mut members, words, "whole")];
    prune(&mut members);
    make(&members, words, words.blocks + words.above);
    starts.push(measure(&mut members, words, "pruned"));
    let slow = starts.iter().flat_map(slow).collect::<Vec<_>>();
    Ok(json!({
        "campaign": "restart",
        "violations": slow,
        "facts": { "blocks": words.blocks, "making_seconds": made, "starts": starts },
    }))
}

/// Brings the ledger to a height; gives the seconds.
fn make(members: &Members, words: &Words, top: u64) -> f64 {
    let begun = Instant::now();
    let mut options = Options::load(&members.at(0).dir).expect("settings");
    if let Some(engine) = &members.tables {
        options.config.tables.clone_from(engine);
    }
    let keys = words.keys;
    let made = order_alone(&options, Height(top), |height| {
        let key = format!("account/{:08}", height.0 % keys);
        put(&key, height.0)
    });
    made.unwrap_or_else(|error| panic!("no history: {error}"));
    begun.elapsed().as_secs_f64()
}

fn put(key: &str, number: u64) -> Bytes {
    let value = format!("{number:064}");
    let operation = Operation::Put {
        key: key.as_bytes(),
        value: value.as_bytes(),
    };
    operation.to_bytes().expect("within bounds").into()
}

/// Times every kind of start.
fn measure(members: &mut Members, words: &Words, name: &str) -> Value {
    let door = Door::of(members);
    time(members, &door);
    door.put(BEFORE_KILL);
    members.end();
    let data = members.at(0).dir.join("data");
    let disk = |folder: &str| du(&data.join(folder)) >> 20;
    let (log, tables) = (disk("log"), disk("tables"));
    let mut kinds = Vec::new();
    for is_killed in [false, true] {
        for is_cold in [false, true] {
            let mut seconds = Vec::new();
            for _ in 0..words.starts {
                if is_cold && !forget_disk() {
                    break;
                }
                seconds.push(time(members, &door));
                door.put(BEFORE_KILL);
                match is_killed {
                    true => members.kill(0),
                    false => drop(members.end()),
                }
            }
            // What comes first in each follows an end of the other kind.
            let kind = json!({
                "after": if is_killed { "kill -9" } else { "a clean stop" },
                "cache": if is_cold { "cold" } else { "warm" },
                "voting": seconds.iter().skip(1).map(|(voting, _)| voting).collect::<Vec<_>>(),
                "durable": seconds.iter().skip(1).map(|(_, done)| done).collect::<Vec<_>>(),
            });
            eprintln!("{name}: {kind}");
            kinds.push(kind);
        }
    }
    json!({ "history": name, "log_mib": log, "tables_mib": tables, "kinds": kinds })
}

/// Starts the member; gives the seconds until it votes, and until a transaction is durable.
fn time(members: &mut Members, door: &Door) -> (f64, f64) {
    let begun = Instant::now();
    members.start(0);
    until("a member that votes", || {
        members.status(0).is_some_and(|status| {
            let state = status.order.state.as_str();
            ["leader", "follower"].contains(&state)
        })
    });
    let voting = begun.elapsed().as_secs_f64();
    door.put(1);
    (voting, begun.elapsed().as_secs_f64())
}

/// Takes a checkpoint and waits until what lies below it is gone.
fn prune(members: &mut Members) {
    let door = Door::of(members);
    time(members, &door);
    door.put(16);
    let dir = members.at(0).dir.clone();
    let own = dir.display().to_string();
    members.told(&["checkpoint", "now", "--dir", &own]);
    let first = first_log_file(&dir);
    let is_long = fs::read_dir(dir.join("data/log")).is_ok_and(|files| files.count() > 2);
    until("a checkpoint", || {
        door.put(1);
        checkpoint(&dir).is_some()
    });
    until("a log that begins later", || {
        !is_long || first_log_file(&dir) > first
    });
    members.end();
}

/// Starts that took longer than they may.
fn slow(history: &Value) -> Vec<String> {
    let kinds = history["kinds"].as_array().into_iter().flatten();
    let slow = kinds.filter(|kind| {
        let times = kind["durable"].as_array().into_iter().flatten();
        times.filter_map(Value::as_f64).any(|time| time > GOAL)
    });
    let name = &history["history"];
    slow.map(|kind| format!("{name}: over {GOAL} s: {kind}"))
        .collect()
}

/// Whether the system forgot what it holds of the disk; only root may ask for that.
fn forget_disk() -> bool {
    let synced = Command::new("sync")
        .status()
        .is_ok_and(|ended| ended.success());
    synced && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// A client of the only member.
struct Door {
    runtime: tokio::runtime::Runtime,
    genesis: PathBuf,
    address: String,
}

impl Door {
    fn of(members: &Members) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        Self {
            runtime: runtime.expect("a runtime"),
            genesis: members.genesis(),
            address: members.at(0).api.clone(),
        }
    }

    /// Puts so many values, one after the other, durably.
    fn put(&self, count: u64) {
        self.runtime.block_on(async {
            let client = client(&self.genesis, &self.address);
            for number in 0..count {
                let done = client.submit(put("restart", number), Wait::Durable).await;
                done.expect("it is committed");
            }
        });
    }
}

fn client(genesis: &Path, address: &str) -> Client {
    let text = fs::read_to_string(genesis).expect("a genesis document");
    let genesis = Genesis::from_json(&text).expect("a genesis document");
    let mut seed = [0; 32];
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("a clock").as_nanos();
    seed[..16].copy_from_slice(&now.to_le_bytes()); // A client of its own each time.
    Client::new(
        Arc::new(Doors(vec![Api::new(address).expect("an address")])),
        Rules::of(&genesis).expect("a genesis document that holds"),
        &genesis.parameters,
        SecretKey::from_seed(seed),
        ClientOptions {
            limit: LIMIT,
            ..ClientOptions::default()
        },
    )
}

fn until(what: &str, mut look: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !look() {
        assert!(begun.elapsed() < LIMIT, "not seen: {what}");
        std::thread::park_timeout(PAUSE);
    }
}
