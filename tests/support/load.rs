//! Clients that put and read without pause, and keep what they saw for the judge.
//!
//! Source: `docs/cli.md`, the client. In: doors of members, the genesis document. Out: [`History`].
//! Holds: a put is noted before it is sent, its answer after it came; every value is put once.
//! Elsewhere: what a history must be (`history`), members (`members`).

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use consortium::api::{Submitted, Wait};
use consortium::application::kv::Operation;
use consortium::blocks::Genesis;
use consortium::client::{Api, Client, ClientError, Doors, Options, Rules};
use consortium::crypto::SecretKey;
use tokio::time::{Interval, interval};

use super::history::{History, Place, Put, Read, Told};

/// Keys that are put again and again.
const REGISTERS: usize = 16;
/// Every so many puts one key is read.
const READ_EVERY: usize = 8;
/// How long an answer is waited for in a run.
const LIMIT: Duration = Duration::from_secs(60);

/// How much is done at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) clients: usize,
    /// Puts of one client that wait for an answer at once.
    pub(crate) under_way: usize,
    /// Puts of all of them a second, at most and about; without it as many as are answered.
    pub(crate) per_second: Option<NonZeroU32>,
}

/// What was acknowledged in a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Clients that run until they are told to finish.
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// Where clients wait for their turn to put.
type Turns = tokio::sync::Mutex<Interval>;

struct Shared {
    name: String,
    began: Instant,
    stops: AtomicBool,
    number: AtomicUsize,
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    history: History,
    told: usize,
}

impl Load {
    /// Starts clients at `doors`; `name` makes the values of this run different from others'.
    pub(crate) fn start(name: &str, genesis: &Path, doors: &[String], size: Size) -> Self {
        let shared = Arc::new(Shared {
            name: name.into(),
            began: Instant::now(),
            stops: AtomicBool::new(false),
            number: AtomicUsize::new(0),
            seen: Mutex::default(),
            changed: Condvar::new(),
        });
        let text = std::fs::read_to_string(genesis).expect("a genesis document");
        let genesis = Genesis::from_json(&text).expect("a genesis document");
        let apis = doors.iter().map(|door| Api::new(door).expect("an address"));
        let (apis, run): (Vec<Api>, _) = (apis.collect(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.expect("the system gives a runtime");
            runtime.block_on(run.clients(&genesis, &apis, size));
        });
        Self { shared, thread }
    }

    /// Waits until `more` puts were acknowledged from now on.
    pub(crate) fn wait_for(&self, more: usize) {
        let seen = self.shared.seen();
        let wanted = seen.told + more;
        let waited = self
            .shared
            .changed
            .wait_timeout_while(seen, LIMIT, |seen| seen.told < wanted);
        let (seen, ended) = waited.unwrap_or_else(PoisonError::into_inner);
        let lacking = wanted.saturating_sub(seen.told);
        assert!(
            !ended.timed_out(),
            "{lacking} of {more} answers do not come"
        );
    }

    /// What was acknowledged since `from`, until now.
    pub(crate) fn pace_since(&self, from: Instant) -> Pace {
        let from_us = from.duration_since(self.shared.began).as_micros();
        let (seen, now_us) = (self.shared.seen(), self.shared.now_us());
        let told = seen.history.puts.iter().filter_map(|put| {
            let told = put.told.filter(|told| u128::from(told.at_us) >= from_us)?;
            Some(told.at_us - put.sent_us)
        });
        let mut took: Vec<u64> = told.collect();
        took.sort_unstable();
        let at = |percent: usize| match took.len() {
            0 => f64::NAN,
            count => took[(count * percent / 100).min(count - 1)] as f64 / 1e3,
        };
        Pace {
            per_second: took.len() as f64 * 1e6 / (u128::from(now_us) - from_us) as f64,
            p50_ms: at(50),
            p99_ms: at(99),
        }
    }

    /// Lets every client finish what it waits for; gives what they all saw.
    pub(crate) fn finish(self) -> History {
        self.shared.stops.store(true, Ordering::Relaxed);
        self.thread.join().expect("clients do not panic");
        std::mem::take(&mut self.shared.seen().history)
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).expect("runs of less than an age")
    }

    async fn clients(self: Arc<Self>, genesis: &Genesis, doors: &[Api], size: Size) {
        let rules = Rules::of(genesis).expect("a genesis document that holds");
        let mut tasks = tokio::task::JoinSet::new();
        let pace = size.per_second.map(|count| {
            // What is late is made up for: the load is what was asked for.
            Arc::new(Turns::new(interval(Duration::from_secs(1) / count.get())))
        });
        for number in 0..size.clients {
            // Keys of a test: nothing is behind them.
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&number.to_le_bytes());
            let options = Options {
                limit: LIMIT,
                ..Options::default()
            };
            let client = Client::new(
                Arc::new(Doors(doors.to_vec())),
                rules.clone(),
                &genesis.parameters,
                SecretKey::from_seed(seed),
                options,
            );
            for _ in 0..size.under_way {
                let (run, client, doors) = (Arc::clone(&self), client.clone(), doors.to_vec());
                let pace = pace.clone();
                tasks.spawn(async move { run.client(&client, &doors, pace.as_deref()).await });
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a client does not panic");
        }
    }

    async fn client(&self, client: &Client, doors: &[Api], pace: Option<&Turns>) {
        while !self.stops.load(Ordering::Relaxed) {
            if let Some(pace) = pace {
                pace.lock().await.tick().await;
            }
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let key = format!("register-{}", number % REGISTERS);
            let value = format!("{}-{number}", self.name);
            let put = Operation::Put {
                key: key.as_bytes(),
                value: value.as_bytes(),
            };
            let operation = Bytes::from(put.to_bytes().expect("a short key and value"));
            let slot = self.note(key.clone(), value);
            self.answer(slot, client.submit(operation, Wait::Durable).await);
            if number.is_multiple_of(READ_EVERY) {
                let door = &doors[number / READ_EVERY % doors.len()];
                self.read(door, &key).await;
            }
        }
    }

    fn note(&self, key: String, value: String) -> usize {
        let mut seen = self.seen();
        // Under the lock, so that what is noted is in the order of its times.
        let sent_us = self.now_us();
        let told = None;
        seen.history.puts.push(Put {
            key,
            value,
            sent_us,
            told,
        });
        seen.history.puts.len() - 1
    }

    fn answer(&self, slot: usize, answer: Result<Submitted, ClientError>) {
        let at_us = self.now_us();
        let mut seen = self.seen();
        match answer {
            Ok(submitted) if submitted.result.as_ref().is_some_and(|r| r.code == 0) => {
                let height = submitted.height.0;
                let index = submitted.index.map_or(u64::MAX, u64::from);
                let place = Place { height, index };
                seen.history.puts[slot].told = Some(Told { at_us, place });
                seen.told += 1;
            }
            Ok(submitted) => seen.history.refused.push(format!("{submitted:?}")),
            // It may still execute, or it never will: both are right.
            Err(ClientError::TimedOut { .. } | ClientError::Unreachable { .. }) => {}
            Err(error) => seen.history.refused.push(error.to_string()),
        }
        self.changed.notify_all();
    }

    async fn read(&self, door: &Api, key: &str) {
        // A member that is down or slow is no answer.
        let Ok(value) = door.value(key.as_bytes(), false, LIMIT / 60).await else {
            return;
        };
        let bytes = value.value.and_then(|text| value.encoding.read(&text));
        let read = Read {
            key: key.into(),
            value: bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            height: value.height.0,
        };
        self.seen().history.reads.push(read);
    }
}
