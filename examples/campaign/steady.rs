//! A ledger under full load for long, with checkpoints: whether its disk use stays.
//!
//! Source: the goals for checkpoints. In: minutes, the size of the state. Out: a series of sizes.
//! Holds: the state has a fixed size; whatever grows besides it is a violation.
//! Elsewhere: what is kept and what is given up (`docs/checkpoints.md`).

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use consortium::api::Wait;
use consortium::application::kv::Operation;
use consortium::blocks::Genesis;
use consortium::client::{Api, Client, Doors, Options, Rules};
use consortium::crypto::SecretKey;
use serde_json::{Value, json};

use super::checkpoints::{amend, du};
use super::members::Members;
use super::{Lacking, Plan};

#[derive(Args)]
pub(crate) struct Words {
    /// How long.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Keys that are written, in turn.
    #[arg(long, default_value_t = 20_000)]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 512)]
    value_bytes: usize,
    /// Puts that wait for an answer at once.
    #[arg(long, default_value_t = 64)]
    lanes: u64,
    /// Blocks between two checkpoints.
    #[arg(long, default_value_t = 2_000)]
    checkpoint_blocks: u64,
    /// Blocks for which an executed transaction is remembered, at most.
    #[arg(long, default_value_t = 2_000)]
    expiry_blocks: u64,
}

/// Between two looks at the disk.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a put may take.
const LIMIT: Duration = Duration::from_secs(120);
/// What the last third may take more than the second, as a factor.
const GROWTH_MAX: f64 = 1.1;
/// Folders of a member that are looked at.
const FOLDERS: [&str; 4] = ["log", "tables", "snapshots", "views"];

pub(crate) fn run(plan: &Plan, words: &Words) -> Result<Value, Lacking> {
    let folder = tempfile::Builder::new().prefix("campaign-").tempdir();
    let folder = folder.expect("a folder");
    let dir = folder.path().join("ledger");
    let mut members = plan.members(&dir);
    settle(&members, words);
    members.start_all();
    members.leader();
    let (ends, begun) = (AtomicBool::new(false), Instant::now());
    let (genesis, doors) = (members.genesis(), members.doors());
    let mut series = Vec::new();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&genesis, &doors, words, &ends));
        while begun.elapsed().as_secs_f64() < words.minutes * 60.0 {
            std::thread::park_timeout(LOOK_EVERY);
            series.push(look(&members, begun));
        }
        ends.store(true, Ordering::Relaxed);
        load.join().expect("the load does not fail");
    });
    members.settle();
    let codes = members.end();
    let most = |part: &[Value], name: &str| {
        let sizes = part.iter().filter_map(|at| at[name].as_f64());
        sizes.fold(0.0, f64::max)
    };
    let third = series.len() / 3;
    let parts = [
        &series[..third],
        &series[third..2 * third],
        &series[2 * third..],
    ];
    let thirds = FOLDERS.map(|name| (name, parts.map(|part| most(part, name))));
    let grown = thirds
        .iter()
        .filter(|(_, [_, second, last])| *last > second * GROWTH_MAX + 1.0);
    let grown: Vec<String> = grown
        .map(|(name, sizes)| format!("{name} grows: {sizes:?} MiB"))
        .collect();
    Ok(json!({
        "campaign": "steady",
        "violations": grown,
        "facts": {
            "most_mib_by_third": Value::from_iter(thirds.map(|(name, sizes)| (name, json!(sizes)))),
            "series": Value::from_iter(series.iter().step_by(series.len() / 20 + 1).cloned()),
            "exit_codes": codes,
        },
    }))
}

/// What the first member takes now.
fn look(members: &Members, begun: Instant) -> Value {
    let data = members.at(0).dir.join("data");
    let mut at = json!({
        "seconds": begun.elapsed().as_secs(),
        "transactions": members.status(0).map(|status| status.tip.sequence),
        "height": members.status(0).map(|status| status.tip.height.0),
    });
    for name in FOLDERS {
        at[name] = json!((du(&data.join(name)) as f64 / 1048576.0 * 10.0).round() / 10.0);
    }
    eprintln!("{at}");
    at
}

/// Checkpoints come often, and what executed is forgotten soon.
fn settle(members: &Members, words: &Words) {
    amend(members, |parameters| {
        parameters["checkpoints"] = json!({
            "every_blocks": words.checkpoint_blocks, "every_bytes": 0, "segment_bytes": 65_536,
        });
        parameters["expiry_blocks_max"] = json!(words.expiry_blocks);
    });
}

/// Writes the same keys again and again until it is to end.
fn load(genesis: &Path, doors: &[String], words: &Words, ends: &AtomicBool) {
    let text = fs::read_to_string(genesis).expect("a genesis document");
    let genesis = Genesis::from_json(&text).expect("a genesis document");
    let apis = doors.iter().map(|door| Api::new(door).expect("an address"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let options = Options {
            limit: LIMIT,
            groups_under_way_max: 8,
            ..Options::default()
        };
        let client = Client::new(
            Arc::new(Doors(apis.collect())),
            Rules::of(&genesis).expect("a genesis document that holds"),
            &genesis.parameters,
            SecretKey::from_seed([9; 32]),
            options,
        );
        let lane = |lane: u64| {
            let client = client.clone();
            async move {
                let mut number = lane;
                while !ends.load(Ordering::Relaxed) {
                    let key = format!("account/{:08}", number % words.keys);
                    let mut value = vec![0; words.value_bytes];
                    value[..8].copy_from_slice(&number.to_le_bytes());
                    let operation = Operation::Put {
                        key: key.as_bytes(),
                        value: &value,
                    };
                    let operation = Bytes::from(operation.to_bytes().expect("within bounds"));
                    let done = client.submit(operation, Wait::Durable).await;
                    done.expect("it is committed");
                    number += words.lanes;
                }
            }
        };
        futures_util::future::join_all((0..words.lanes).map(lane)).await;
    });
}
