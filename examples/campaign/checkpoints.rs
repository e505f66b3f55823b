//! A ledger with a large state takes a checkpoint under load, and a wiped member comes back by it.
//!
//! Source: the goals for checkpoints. In: the size of the state, kills. Out: times, bytes, rates.
//! Holds: the member is wiped and comes back by the verbs that people type; bytes are those that
//! the others say they sent; what was acknowledged is at every member, once, as far as
//! streams reach. Elsewhere: lying members (`bootstrap::tests`), the cost of a cut (`snapshot`).

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use consortium::api::Wait;
use consortium::application::kv::Operation;
use consortium::blocks::Genesis;
use consortium::client::{Api, Client, Doors, Options, Rules};
use consortium::crypto::SecretKey;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::load::{Load, Pace};
use super::members::Members;
use super::{Lacking, Plan};

#[derive(Args)]
pub(crate) struct Words {
    /// Size of the state in MiB.
    #[arg(long, default_value_t = 256)]
    mib: u64,
    /// Bytes of a value of it.
    #[arg(long, default_value_t = 65_536)]
    value_bytes: usize,
    /// How often the member is killed while it fetches the checkpoint.
    #[arg(long, default_value_t = 0)]
    kills: u32,
    /// Seconds for each measurement of the load.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How nice the member is that fetches: it has no processor of its own here.
    #[arg(long, default_value_t = 0)]
    nice: u8,
    /// Decides when it is killed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How long the whole may take.
const LIMIT: Duration = Duration::from_secs(900);
/// Behind the first checkpoint, until it is calm.
const REST: Duration = Duration::from_secs(15);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// The member that is wiped.
const LOST: usize = 3;

pub(crate) fn run(plan: &Plan, words: &Words) -> Result<Value, Lacking> {
    let folder = tempfile::Builder::new().prefix("campaign-").tempdir();
    let folder = folder.expect("a folder");
    let dir = folder.path().join("ledger");
    let mut members = plan.members(&dir);
    settle(&members, words);
    members.start_all();
    members.leader();
    let started = Instant::now();
    fill(&members, words);
    let filled = started.elapsed().as_secs_f64();
    eprintln!("{} MiB in {filled:.1} s", words.mib);
    let (genesis, doors) = (members.genesis(), members.doors());
    let load = Load::start("checkpoints", &genesis, &doors, plan.size);
    load.wait_for(plan.enough());
    let all = |holds: &dyn Fn(&Path) -> bool| {
        (0..members.count()).all(|number| holds(&members.at(number).dir))
    };
    until("a checkpoint at every member", || {
        all(&|dir| checkpoint(dir).is_some())
    });
    until("logs that begin at a later file", || {
        all(&|dir| first_log_file(dir) > 1)
    });
    let disks = (0..members.count()).map(|number| du(&members.at(number).dir) >> 20);
    let disks: Vec<u64> = disks.collect();
    std::thread::park_timeout(REST); // What filling left on the disk goes first.
    let calm = Stretch::of(&members, &load, words);
    let cut = cut(&members, &load);
    let fetched = come_back(&mut members, &load, words);
    load.finish();
    members.settle();
    let codes = members.end();
    Ok(json!({
        "campaign": "checkpoints",
        "violations": [],
        "facts": {
            "state_mib": words.mib,
            "fill_seconds": filled,
            "disk_mib": disks,
            "calm": calm.report(),
            "while_a_snapshot_is_taken": cut,
            "fetched": fetched,
            "exit_codes": codes,
        },
    }))
}

/// A member is wiped under load and comes back; gives what that took.
fn come_back(members: &mut Members, load: &Load, words: &Words) -> Value {
    let id = members.status(LOST).expect("it runs").member.id.to_string();
    members.kill(LOST);
    let with_three = Stretch::of(members, load, words);
    fs::remove_dir_all(members.at(LOST).dir.join("data")).expect("it is there");
    let doors: Vec<String> = (0..LOST)
        .map(|number| members.at(number).api.clone())
        .collect();
    let own = members.at(LOST).dir.display().to_string();
    members.told(&["rejoin", "--dir", &own, "--api", &doors.join(",")]);
    let sent = |members: &Members| -> Vec<f64> {
        let name = "consortium_sent_bytes_total";
        let to = |number: usize| members.metric_of(number, name, &[&id, "bulk"]);
        (0..LOST)
            .map(|number| to(number).unwrap_or_default())
            .collect()
    };
    let before = sent(members);
    let stretch = Stretch::begin(members);
    let begun = Instant::now();
    start(members, words);
    let kills = fetch(members, words, begun);
    let fetched = begun.elapsed().as_secs_f64();
    let own = members.processor_seconds(LOST);
    let during = stretch.end(members, load);
    let given = sent(members).into_iter().zip(before);
    let given: Vec<f64> = given.map(|(now, then)| now - then).collect();
    until("the member that follows", || {
        let tip = |number| members.status(number).map(|status| status.tip.sequence);
        let tips = tip(LOST).zip(tip(0));
        tips.is_some_and(|(own, other)| own + 10_000 > other)
    });
    let caught_up = begun.elapsed().as_secs_f64();
    talk(&members.at(LOST).dir);
    let bytes = snapshot_bytes(members, LOST).unwrap_or(words.mib << 20) as f64;
    let all: f64 = given.iter().sum();
    let most = given.iter().copied().fold(0.0, f64::max);
    json!({
        "snapshot_bytes": bytes,
        "seconds": fetched,
        "megabytes_per_second": bytes / 1e6 / fetched,
        "caught_up_seconds": caught_up,
        "kills": kills,
        "sent_bytes": given,
        "sent_per_byte": all / bytes,
        "most_of_mean": most / (all / given.len() as f64),
        "before": with_three.report(),
        "meanwhile": during.report(),
        "processor_seconds_of_its_last_process": own,
    })
}

/// What the load and the members that serve did in a while.
struct Stretch {
    pace: Pace,
    seconds: f64,
    /// Processor time of the members that are not wiped.
    processor: f64,
}

struct Begun {
    at: Instant,
    processor: f64,
}

impl Stretch {
    fn begin(members: &Members) -> Begun {
        Begun {
            at: Instant::now(),
            processor: processor(members),
        }
    }

    /// A while of the length that was asked for.
    fn of(members: &Members, load: &Load, words: &Words) -> Self {
        let begun = Self::begin(members);
        std::thread::park_timeout(Duration::from_secs(words.seconds));
        begun.end(members, load)
    }

    fn report(&self) -> Value {
        let Pace {
            per_second,
            p50_ms,
            p99_ms,
        } = self.pace;
        json!({
            "seconds": self.seconds,
            "committed_per_second": per_second,
            "p50_ms": p50_ms,
            "p99_ms": p99_ms,
            "processor_share_of_a_member": self.processor / LOST as f64 / self.seconds,
        })
    }
}

impl Begun {
    fn end(self, members: &Members, load: &Load) -> Stretch {
        Stretch {
            pace: load.pace_since(self.at),
            seconds: self.at.elapsed().as_secs_f64(),
            processor: processor(members) - self.processor,
        }
    }
}

fn processor(members: &Members) -> f64 {
    let seconds = (0..LOST).map(|number| members.processor_seconds(number));
    seconds.sum()
}

/// A snapshot is asked for and becomes a checkpoint, under load.
fn cut(members: &Members, load: &Load) -> Value {
    let begun = Stretch::begin(members);
    let own = members.at(0).dir.display().to_string();
    let made = members.told(&["checkpoint", "now", "--dir", &own, "--timeout", "600"]);
    let stretch = begun.end(members, load);
    let mut report = stretch.report();
    report["height"] = made["height"].clone();
    report
}

fn start(members: &mut Members, words: &Words) {
    let nice = words.nice.to_string();
    members.start_under(LOST, &["nice", "-n", &nice]);
}

/// Waits for the checkpoint of the member that was wiped, and kills it meanwhile; gives how often.
fn fetch(members: &mut Members, words: &Words, begun: Instant) -> u32 {
    let mut dice = ChaCha8Rng::seed_from_u64(words.seed);
    let dir = members.at(LOST).dir.clone();
    let mut kills = 0;
    while checkpoint(&dir).is_none() {
        assert!(
            begun.elapsed() < LIMIT,
            "no checkpoint comes: {}/talk",
            dir.display()
        );
        if kills < words.kills && is_fetching(&dir.join("data")) {
            std::thread::park_timeout(Duration::from_millis(dice.random_range(50..600)));
            if checkpoint(&dir).is_none() {
                members.kill(LOST);
                start(members, words);
                kills += 1;
            }
        }
        std::thread::park_timeout(PAUSE);
    }
    kills
}

/// A checkpoint is due once most of the state is there.
fn settle(members: &Members, words: &Words) {
    amend(members, |parameters| {
        parameters["checkpoints"] = json!({
            "every_blocks": 0, "every_bytes": (words.mib << 20) - (1 << 20),
            "segment_bytes": 65_536,
        });
    });
}

/// Changes the parameters of a ledger that was not started yet, in every copy of its document.
pub(crate) fn amend(members: &Members, change: impl FnOnce(&mut Value)) {
    let path = members.genesis();
    let text = fs::read_to_string(&path).expect("a genesis document");
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut document["parameters"]);
    let copies = (0..members.count()).map(|number| members.at(number).dir.join("genesis.json"));
    let copies = copies.filter(|path| path.exists());
    for path in copies.chain([path]) {
        fs::write(path, document.to_string()).expect("written");
    }
}

fn fill(members: &Members, words: &Words) {
    let text = fs::read_to_string(members.genesis()).expect("a genesis document");
    let genesis = Genesis::from_json(&text).expect("a genesis document");
    let doors = members.doors();
    let apis: Vec<Api> = doors
        .iter()
        .map(|door| Api::new(door).expect("an address"))
        .collect();
    let count = (words.mib << 20) / words.value_bytes as u64;
    let (bytes, lanes) = (words.value_bytes, 32);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let client = Client::new(
            Arc::new(Doors(apis)),
            Rules::of(&genesis).expect("a genesis document that holds"),
            &genesis.parameters,
            SecretKey::from_seed([9; 32]),
            Options {
                limit: LIMIT,
                ..Options::default()
            },
        );
        let mut tasks = tokio::task::JoinSet::new();
        for lane in 0..lanes {
            let client = client.clone();
            tasks.spawn(async move {
                for number in (lane..count).step_by(32) {
                    let key = format!("fill/{number:09}");
                    let mut dice = ChaCha8Rng::seed_from_u64(number);
                    let mut value = vec![0; bytes];
                    dice.fill(&mut value[..]);
                    let operation = Operation::Put {
                        key: key.as_bytes(),
                        value: &value,
                    };
                    let operation = Bytes::from(operation.to_bytes().expect("within bounds"));
                    let done = client.submit(operation, Wait::Durable).await;
                    done.expect("it is committed");
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a client does not panic");
        }
    });
}

fn until(what: &str, mut look: impl FnMut() -> bool) {
    let started = Instant::now();
    while !look() {
        assert!(started.elapsed() < LIMIT, "not seen: {what}");
        std::thread::park_timeout(PAUSE);
    }
}

/// The name of the newest certified snapshot in a member's folder.
pub(crate) fn checkpoint(dir: &Path) -> Option<String> {
    let entries = fs::read_dir(dir.join("data/snapshots")).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".checkpoint")).max()
}

/// Whether segments are being fetched.
fn is_fetching(data: &Path) -> bool {
    data.join("bootstrap/target").exists()
}

fn snapshot_bytes(members: &Members, number: usize) -> Option<u64> {
    let entries = fs::read_dir(members.at(number).dir.join("data/snapshots"))
        .ok()?
        .flatten();
    let packs = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".pack"));
    Some(
        packs
            .filter_map(|entry| entry.metadata().ok())
            .map(|meta| meta.len())
            .sum(),
    )
}

pub(crate) fn first_log_file(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir.join("data/log"))
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let numbers = names.filter_map(|name| name.strip_suffix(".log")?.parse().ok());
    numbers.min().unwrap_or_default()
}

/// Bytes that a folder takes on the disk.
pub(crate) fn du(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => du(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// Shows what the member that came back said of it.
fn talk(dir: &Path) {
    let text = fs::read_to_string(dir.join("talk")).unwrap_or_default();
    let words = [
        "bootstrap",
        "checkpoint",
        "snapshot",
        "segments",
        "replay",
        "http://",
    ];
    let lines = text
        .lines()
        .filter(|line| words.iter().any(|word| line.contains(word)));
    lines.for_each(|line| eprintln!("{line}"));
}
