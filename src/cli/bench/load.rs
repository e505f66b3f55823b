//! Load: at a rate whatever the answers do, or by so many that wait for each other's end.
//!
//! Source: `docs/cli.md`, bench. In: clients, a length. Out: what was acknowledged, and when.
//! Holds: at a rate a transaction's time starts when it was due, not when it could be sent.
//! Elsewhere: grouping and sending (`client`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

use crate::api::Wait;
use crate::application::kv::Operation;
use crate::blocks::Parameters;
use crate::cli::args::{BenchArgs, Common};
use crate::cli::failure::Failure;
use crate::cli::output::Meter;
use crate::cli::target::Targets;
use crate::client::{Client, ClientError, Doors, Options, Rules};
use crate::crypto::{PublicKey, SecretKey};

/// Keys that submit, at most; the load is spread over them.
const KEYS_MAX: u32 = 8;
/// Transactions under way at a rate, at most; beyond it they wait, and their time runs.
const UNDER_WAY_MAX: usize = 16_384;
/// Groups under way, at most, which is what one member's door takes with some to spare.
const CONNECTIONS_MAX: usize = 192;
/// Transactions under way where neither a rate nor a number of clients is given.
const CLIENTS: u32 = 64;
/// Bytes of an operation beside its padding: kind, two lengths, and a key of 40 bytes.
const FRAME_BYTES: usize = 9 + 40;

/// One run.
pub(crate) struct Load {
    common: Common,
    clients: Vec<Client>,
    plan: Plan,
    wait: Wait,
    length: Duration,
    run: u64,
    value_bytes: usize,
}

#[derive(Clone, Copy)]
enum Plan {
    Rate(f64),
    Closed(u32),
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) submitted: u64,
    pub(crate) committed: Vec<(PublicKey, u64)>,
    /// Sorted.
    pub(crate) latencies_us: Vec<u64>,
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
}

type Done = (Duration, Result<(PublicKey, u64), ClientError>);

impl Load {
    pub(crate) fn new(
        common: &Common,
        args: &BenchArgs,
        targets: &Targets,
        length: Duration,
    ) -> Result<Self, Failure> {
        let plan = match (args.rate, args.clients) {
            (Some(rate), _) if rate > 0.0 && rate <= 1e6 => Plan::Rate(rate),
            (Some(rate), _) => {
                let what = format!("--rate {rate} is no rate");
                return Err(Failure::usage(
                    what,
                    "give transactions a second, up to a million",
                ));
            }
            (None, clients) => Plan::Closed(clients.unwrap_or(CLIENTS).max(1)),
        };
        let Some(genesis) = &targets.genesis else {
            let what = "bench checks what it counts, and no genesis document is named";
            return Err(Failure::usage(what, "add --genesis FILE"));
        };
        if args.size <= FRAME_BYTES {
            let what = format!("--size {} is too small", args.size);
            return Err(Failure::usage(
                what,
                format!("at least {}", FRAME_BYTES + 1),
            ));
        }
        let mut run = [0; 8];
        draw(&mut run)?;
        Ok(Self {
            clients: clients(
                args,
                targets,
                plan,
                &genesis.parameters,
                &Rules::of(genesis)?,
            )?,
            common: common.clone(),
            plan,
            wait: args.wait.into(),
            length,
            run: u64::from_le_bytes(run),
            value_bytes: args.size - FRAME_BYTES,
        })
    }

    pub(crate) async fn run(&self) -> Result<Outcome, Failure> {
        let start = Instant::now();
        let end = start + self.length;
        let total = u64::try_from(self.length.as_millis()).unwrap_or(u64::MAX);
        let mut meter = Meter::new(&self.common, "bench", total);
        let mut outcome = Outcome::default();
        let mut tasks: JoinSet<Done> = JoinSet::new();
        let (limit, rate) = match self.plan {
            Plan::Rate(rate) => (UNDER_WAY_MAX, Some(rate)),
            Plan::Closed(clients) => (clients as usize, None),
        };
        let places = Arc::new(Semaphore::new(limit));
        let mut number = 0_u64;
        loop {
            let due = rate.map_or_else(Instant::now, |rate| {
                start + Duration::from_secs_f64(number as f64 / rate)
            });
            if due >= end {
                break;
            }
            if rate.is_some() {
                sleep_until(due).await;
            }
            let place = Arc::clone(&places).acquire_owned().await;
            let place = place.expect("nobody closes this semaphore");
            let due = if rate.is_some() { due } else { Instant::now() };
            if Instant::now() >= end {
                break;
            }
            let client = self.client(number);
            let (operation, wait) = (self.operation(number), self.wait);
            tasks.spawn(async move {
                let told = client.submit(operation, wait).await;
                drop(place);
                let named = told.map(|submitted| (submitted.client, submitted.sequence));
                (due.elapsed(), named)
            });
            number += 1;
            while let Some(done) = tasks.try_join_next() {
                outcome.add(done.map_err(panicked)?);
            }
            meter.set(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
        }
        while let Some(done) = tasks.join_next().await {
            outcome.add(done.map_err(panicked)?);
        }
        meter.finish();
        outcome.submitted = number;
        outcome.latencies_us.sort_unstable();
        Ok(outcome)
    }

    fn client(&self, number: u64) -> Client {
        let index = usize::try_from(number).unwrap_or(0) % self.clients.len();
        self.clients[index].clone()
    }

    /// A put of the size asked for, under a key that no other run uses.
    fn operation(&self, number: u64) -> Bytes {
        let key = format!("bench/{:016x}/{number:017x}", self.run);
        let value = vec![b'a' + (number % 26) as u8; self.value_bytes];
        let put = Operation::Put {
            key: key.as_bytes(),
            value: &value,
        };
        Bytes::from(put.to_bytes().unwrap_or_default())
    }
}

impl Outcome {
    fn add(&mut self, (took, told): Done) {
        match told {
            Ok(named) => {
                self.committed.push(named);
                let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.latencies_us.push(us);
            }
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

fn clients(
    args: &BenchArgs,
    targets: &Targets,
    plan: Plan,
    parameters: &Parameters,
    rules: &Rules,
) -> Result<Vec<Client>, Failure> {
    let per_group = usize::from(args.batch_signature);
    let (keys, under_way) = match plan {
        Plan::Rate(_) => (KEYS_MAX, UNDER_WAY_MAX),
        Plan::Closed(clients) => (clients.min(KEYS_MAX), clients as usize),
    };
    let options = Options {
        group_transactions_max: per_group,
        // At a rate with groups, one under way at a time is what makes groups form.
        groups_under_way_max: match per_group {
            1 => under_way
                .div_ceil(keys as usize)
                .min(CONNECTIONS_MAX / keys as usize),
            _ => (under_way / (keys as usize * per_group)).clamp(1, 8),
        },
        limit: targets.limit,
        ..Options::default()
    };
    let doors = Arc::new(Doors(targets.doors()));
    let mut clients = Vec::new();
    for _ in 0..keys {
        let mut seed = Zeroizing::new([0; 32]);
        draw(&mut *seed)?;
        let secret = SecretKey::from_seed(*seed);
        let doors = Arc::clone(&doors);
        let client = Client::new(doors, rules.clone(), parameters, secret, options.clone());
        clients.push(client);
    }
    Ok(clients)
}

fn draw(bytes: &mut [u8]) -> Result<(), Failure> {
    let drawn = SysRng.try_fill_bytes(bytes);
    drawn.map_err(|error| Failure::refused(error, "the system gives no random numbers"))
}

fn panicked(error: tokio::task::JoinError) -> Failure {
    Failure::refused(
        format!("a client task ended badly: {error}"),
        "this is a bug: report it",
    )
}
