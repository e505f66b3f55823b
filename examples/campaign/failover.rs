//! The leader is killed under load: how long until the ledger commits again?
//!
//! Source: the goals for a killed leader. In: how many kills. Out: times in milliseconds.
//! Holds: seen at a member that was not killed; a fresh commit is one of a transaction that was
//! submitted after the kill, so nothing that was under way before can stand for it.
//! Elsewhere: the members and the load (`tests/support`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use consortium::api::Wait;
use consortium::application::kv::Operation;
use consortium::blocks::Genesis;
use consortium::client::{Api, Client, Doors, EventStream, Options, Rules};
use consortium::crypto::SecretKey;
use serde_json::{Value, json};

use super::history::Put;
use super::{Lacking, Plan, Run, report};

/// Until a commit is given up; it then counts as one that took so long.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct Words {
    /// How often the leader is killed.
    #[arg(long, default_value_t = 100)]
    kills: usize,
}

/// What was seen after one kill.
struct Outage {
    /// Until a transaction that was submitted after the kill was committed.
    fresh: Duration,
    /// The longest time without a commit from the kill to there.
    silent: Duration,
}

pub(crate) fn run(plan: &Plan, words: &Words) -> Result<Value, Lacking> {
    let mut run = plan.start("failover", |_, _| {});
    run.load.wait_for(plan.enough());
    let probe = Probe::new(&run);
    let (mut fresh, mut silent, mut back) = (Vec::new(), Vec::new(), Vec::new());
    let (mut puts, mut stalls) = (Vec::new(), 0);
    for kill in 0..words.kills {
        let leader = run.members.leader();
        let observer = (leader + 1 + kill % (plan.members - 1)) % plan.members;
        // The probe's clock is not the load's: it counts as sent before everything.
        let put = Put {
            key: "probe".into(),
            value: format!("probe-{kill}"),
            sent_us: 0,
            told: None,
        };
        let outage = probe.measure(&mut run, (leader, observer), &put);
        puts.push(put);
        run.members.ended(leader);
        let start = Instant::now();
        run.members.start(leader);
        let tip = run
            .members
            .status(observer)
            .map(|status| status.tip.sequence);
        run.members.reach(leader, tip.unwrap_or_default());
        run.members.until("a ready member", |members| {
            members.is_ready(leader).then_some(())
        });
        back.push(start.elapsed());
        run.load.wait_for(plan.enough());
        stalls += usize::from(outage.fresh >= LIMIT);
        eprintln!(
            "{kill}: {:?} silent, {:?} fresh",
            outage.silent, outage.fresh
        );
        fresh.push(outage.fresh);
        silent.push(outage.silent);
    }
    let facts = json!({
        "kills": words.kills,
        "no_commit_within_30_s": stalls,
        "fresh_commit_ms": spread(fresh),
        "silence_ms": spread(silent),
        "back_and_caught_up_ms": spread(back),
    });
    let verdict = run.finish_with(puts);
    Ok(report("failover", &verdict, facts))
}

/// Nearest-rank percentiles, and every value in order.
fn spread(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    let ms: Vec<u128> = times.iter().map(Duration::as_millis).collect();
    let rank = |percent: usize| ms.get((ms.len() * percent).div_ceil(100).saturating_sub(1));
    json!({ "p50": rank(50), "p90": rank(90), "p99": rank(99), "max": ms.last(), "all": ms })
}

/// A client of its own, and doors to look through.
struct Probe {
    runtime: tokio::runtime::Runtime,
    client: Client,
    doors: Vec<Api>,
}

impl Probe {
    fn new(run: &Run) -> Self {
        // Two threads: what is seen must not wait for what is done.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = runtime.expect("the system gives a runtime");
        let text = std::fs::read_to_string(run.members.genesis()).expect("a genesis document");
        let genesis = Genesis::from_json(&text).expect("a genesis document");
        let doors = run.members.doors();
        let doors: Vec<Api> = doors.iter().flat_map(|door| Api::new(door)).collect();
        let client = runtime.block_on(async {
            Client::new(
                Arc::new(Doors(doors.clone())),
                Rules::of(&genesis).expect("a genesis document that holds"),
                &genesis.parameters,
                SecretKey::from_seed([9; 32]),
                Options::default(),
            )
        });
        Self {
            runtime,
            client,
            doors,
        }
    }

    /// Kills `leader`, submits `put` at once, and watches both arrive at `observer`.
    fn measure(&self, run: &mut Run, (leader, observer): (usize, usize), put: &Put) -> Outage {
        let door = self.doors[observer].clone();
        let events = self.runtime.block_on(async {
            let tip = door.status(LIMIT).await.expect("the observer answers").tip;
            let last = tip.sequence.saturating_sub(1);
            let mut events = door.events(last).await.expect("the observer streams");
            events.next().await.expect("an event that is there already");
            events
        });
        let seen = self.runtime.spawn(watch(events, put.value.clone()));
        let killed = Instant::now();
        run.members.strike(leader);
        let operation = Operation::Put {
            key: put.key.as_bytes(),
            value: put.value.as_bytes(),
        };
        let operation = Bytes::from(operation.to_bytes().expect("a short key and value"));
        let submitted = self.client.submit(operation, Wait::Durable);
        let fresh = self.runtime.block_on(async {
            let both = async { tokio::join!(submitted, seen) };
            let (submitted, seen) = tokio::time::timeout(LIMIT, both).await.ok()?;
            submitted
                .ok()
                .map(|_| seen.expect("a watcher does not panic"))
        });
        let Some(times) = fresh else {
            let (fresh, silent) = (LIMIT, LIMIT);
            return Outage { fresh, silent };
        };
        let after = times.into_iter().filter(|at| *at >= killed);
        let times: Vec<Instant> = std::iter::once(killed).chain(after).collect();
        let silences = times.windows(2).map(|pair| pair[1] - pair[0]);
        Outage {
            silent: silences.max().unwrap_or_default(),
            fresh: times[times.len() - 1] - killed,
        }
    }
}

/// When events came, up to the one that put `value`.
async fn watch(mut events: EventStream, value: String) -> Vec<Instant> {
    let mut times = Vec::new();
    while let Ok(event) = events.next().await {
        times.push(Instant::now());
        if event.operation["put"]["value"] == value.as_str() {
            break;
        }
    }
    times
}
