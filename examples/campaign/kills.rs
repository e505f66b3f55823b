//! Members are killed, paused and started again at random, one, two or all at once.
//!
//! Source: reliability, crash rows of the fault matrix. In: minutes, a seed. Out: counts by fault.
//! Holds: the seed decides which faults come in which order, not when; after each the ledger goes
//! on with all members. Elsewhere: power loss (`power`), exact places of a crash (`syncs`).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use clap::Args;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::{Lacking, Plan, Run, report};

/// A member that starts says about as many lines at `debug`.
const START_LINES: usize = 20;

#[derive(Args)]
pub(crate) struct Words {
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Decides the faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

type Fault = fn(&mut Run, &mut ChaCha8Rng, usize);

const FAULTS: [(&str, Fault); 7] = [
    ("kill one", kill_one),
    ("kill the leader", kill_the_leader),
    ("kill two", kill_two),
    ("kill all", kill_all),
    ("kill while it starts", kill_while_it_starts),
    ("pause one", pause_one),
    ("pause the leader", pause_the_leader),
];

pub(crate) fn run(plan: &Plan, words: &Words) -> Result<Value, Lacking> {
    let mut dice = ChaCha8Rng::seed_from_u64(words.seed);
    let mut run = plan.start("kills", |_, _| {});
    let end = Instant::now() + Duration::from_secs_f64(words.minutes * 60.0);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    run.load.wait_for(plan.enough());
    while Instant::now() < end {
        let (name, fault) = FAULTS[dice.random_range(0..FAULTS.len())];
        eprintln!("{name}");
        let more = dice.random_range(0..=plan.enough());
        fault(&mut run, &mut dice, more);
        *counts.entry(name).or_default() += 1;
        run.load.wait_for(plan.enough());
        // A fault beyond f would follow where a member still lags.
        let ready = |members: &super::Members| {
            let mut numbers = 0..members.count();
            numbers.all(|number| members.is_ready(number)).then_some(())
        };
        run.members.until("members that are ready", ready);
    }
    let facts = json!({ "minutes": words.minutes, "seed": words.seed, "faults": counts });
    Ok(report("kills", &run.finish(), facts))
}

fn any(run: &Run, dice: &mut ChaCha8Rng) -> usize {
    dice.random_range(0..run.members.count())
}

fn kill_one(run: &mut Run, dice: &mut ChaCha8Rng, more: usize) {
    let number = any(run, dice);
    run.members.kill(number);
    run.load.wait_for(more);
    run.members.start(number);
}

fn kill_the_leader(run: &mut Run, _: &mut ChaCha8Rng, more: usize) {
    let leader = run.members.leader();
    run.members.kill(leader);
    run.load.wait_for(more);
    run.members.start(leader);
}

fn kill_two(run: &mut Run, dice: &mut ChaCha8Rng, _: usize) {
    let first = any(run, dice);
    let second = (first + 1) % run.members.count();
    run.members.kill(first);
    run.members.kill(second);
    run.members.start(second);
    run.members.start(first);
}

fn kill_all(run: &mut Run, _: &mut ChaCha8Rng, _: usize) {
    let numbers = 0..run.members.count();
    numbers
        .clone()
        .for_each(|number| run.members.strike(number));
    for number in numbers {
        run.members.ended(number);
    }
    run.members.start_all();
}

fn kill_while_it_starts(run: &mut Run, dice: &mut ChaCha8Rng, _: usize) {
    let number = any(run, dice);
    run.members.kill(number);
    let talk = run.members.start_heard(number, "debug");
    let lines = BufReader::new(talk).lines();
    lines
        .take(dice.random_range(1..=START_LINES))
        .for_each(drop);
    run.members.kill(number);
    run.members.start(number);
}

fn pause_one(run: &mut Run, dice: &mut ChaCha8Rng, more: usize) {
    let number = any(run, dice);
    run.members.pause(number);
    run.load.wait_for(more);
    run.members.go_on(number);
}

fn pause_the_leader(run: &mut Run, _: &mut ChaCha8Rng, more: usize) {
    let leader = run.members.leader();
    run.members.pause(leader);
    run.load.wait_for(more);
    run.members.go_on(leader);
}
