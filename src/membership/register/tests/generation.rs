//! Threshold keys that are made in the chain, by members that keep the rules and by some that do
//! not.

use super::super::generation::*;
use super::super::*;
use super::land::{Land, secret};
use crate::blocks::{Call, Link};
use crate::crypto::{Hasher, SecretKey};

const FROM: Height = Height(100);
/// Steps end at 108, 116 and 124.
const WAIT: u32 = 32;

/// Seven founders who are named together, and what each would say.
struct Bench {
    land: Land,
    call: Call,
}

impl Bench {
    fn new() -> Self {
        let mut land = Land::of(7);
        let rules = &mut land.register.base.rules;
        (rules.everyone_below, rules.assemble_blocks) = (5, WAIT);
        land.register.rules = *rules;
        land.register.freeze(FROM);
        let digest = Digest([9; 32]);
        let at = Link {
            height: FROM,
            digest,
        };
        let committee: Vec<MemberId> = (0..7).map(|n| land.id(n)).collect();
        land.register.name(at, ViewId(1), &committee);
        let call = Call {
            next: ViewId(1),
            assemble: digest,
        };
        Self { land, call }
    }

    fn generation(&self) -> &Generation {
        self.land.register.generation().expect("a key is made")
    }

    fn stage(&self, height: u64) -> Stage {
        self.generation().stage(Height(height))
    }

    /// What member `n` owes at `height`.
    fn owed(&self, n: usize, height: u64) -> Option<Operation> {
        let key = fresh(n);
        self.generation()
            .owed(&self.land.id(n), &key, Height(height))
    }

    fn step(&self, n: usize, height: u64) -> Step {
        match self.owed(n, height) {
            Some(Operation::Threshold(_, step)) => step,
            other => panic!("member {n} owes {other:?}"),
        }
    }

    fn say(&mut self, n: usize, height: u64, step: Step) -> Result<Done, Refusal> {
        let operation = Operation::Threshold(self.call, step);
        self.land.height = Height(height);
        let signer = secret(u16::try_from(n).expect("few"));
        self.land.act(&signer, operation)
    }

    /// All of `members` say what they owe at `height`.
    fn all(&mut self, members: impl IntoIterator<Item = usize>, height: u64) {
        for n in members {
            let step = self.step(n, height);
            assert_eq!(self.say(n, height, step), Ok(Done::Effective), "{n}");
        }
    }

    fn key(&self, height: u64) -> Option<ThresholdKey> {
        self.land.register.generated(Height(height))
    }
}

/// The fresh consensus key of member `n`.
fn fresh(n: usize) -> SecretKey {
    secret(u16::try_from(n + 40).expect("few"))
}

#[test]
fn a_key_comes_of_three_steps_that_all_take() {
    let mut bench = Bench::new();
    bench.all(0..7, 101);
    assert_eq!(bench.stage(102), Stage::Dealing);
    // 2f + 1 dealings are enough.
    bench.all(0..5, 102);
    assert_eq!(bench.owed(5, 103).map(|o| o.name()), Some("threshold"));
    assert_eq!(bench.stage(103), Stage::Judging);
    assert_eq!(bench.key(103), None);
    bench.all(0..7, 103);
    assert_eq!(bench.stage(104), Stage::Over);
    let key = bench.key(104).expect("all said their part");
    assert_eq!(key.need(), 3);
    assert!(!bench.land.register.is_generating(Height(104)));
}

#[test]
fn steps_end_by_height_where_f_are_silent() {
    let mut bench = Bench::new();
    bench.all(0..5, 101);
    assert_eq!(bench.stage(108), Stage::Keys);
    assert_eq!(bench.stage(109), Stage::Dealing);
    bench.all(0..3, 109);
    assert_eq!(bench.stage(116), Stage::Dealing);
    assert_eq!(bench.stage(117), Stage::Judging);
    bench.all(0..5, 117);
    assert!(bench.key(118).is_some(), "all who gave a key judged");
}

#[test]
fn too_few_keys_dealings_or_verdicts_make_none() {
    let mut few_keys = Bench::new();
    few_keys.all(0..4, 101);
    assert_eq!(few_keys.stage(109), Stage::Over);
    assert_eq!(few_keys.key(109), None);

    let mut few_dealings = Bench::new();
    few_dealings.all(0..7, 101);
    few_dealings.all(0..2, 102);
    assert_eq!(few_dealings.stage(117), Stage::Over);
    assert_eq!(few_dealings.key(117), None);

    let mut few_verdicts = Bench::new();
    few_verdicts.all(0..7, 101);
    few_verdicts.all(0..5, 102);
    few_verdicts.all(0..4, 103);
    assert_eq!(few_verdicts.stage(125), Stage::Over);
    assert_eq!(few_verdicts.key(125), None);
}

#[test]
fn a_dealer_that_is_shown_to_have_dealt_wrongly_is_left_out() {
    let mut bench = Bench::new();
    bench.all(0..7, 101);
    let Step::Deal(honest) = bench.step(0, 102) else {
        panic!("a dealing is owed");
    };
    let mut crooked = honest.to_vec();
    let last = crooked.len() - 1;
    crooked[last] ^= 1; // in the part for member 6
    let crooked = Step::Deal(Bytes::from(crooked));
    assert_eq!(bench.say(0, 102, crooked), Ok(Done::Effective));
    bench.all(1..5, 102);
    let Step::Judge(complaints) = bench.step(6, 103) else {
        panic!("a verdict is owed");
    };
    assert_eq!(complaints.len(), 1);
    assert_eq!(complaints[0].dealer, 0);
    bench.all(0..7, 103);
    let key = bench.key(104).expect("four dealings are left");
    // The first three that stand: 1, 2 and 3.
    let mut honest = Bench::new();
    honest.all(0..7, 101);
    honest.all(1..6, 102);
    honest.all(0..7, 103);
    assert_eq!(
        honest.key(104).map(|k| k.public().clone()),
        Some(key.public().clone())
    );
}

#[test]
fn a_false_complaint_costs_its_author_the_verdict_and_its_target_nothing() {
    let mut bench = Bench::new();
    bench.all(0..7, 101);
    bench.all(0..5, 102);
    let lie = |dealer| {
        Step::Judge(vec![Complaint {
            dealer,
            opening: Bytes::new(),
        }])
    };
    assert_eq!(bench.say(6, 103, lie(1)), Ok(Done::Fell));
    assert_eq!(
        bench.say(5, 103, lie(6)),
        Ok(Done::Fell),
        "it dealt nothing"
    );
    assert_eq!(bench.say(6, 103, lie(1)), Err(Refusal::NotAsked), "once");
    bench.all(0..5, 103);
    assert!(bench.key(104).is_some(), "five verdicts hold");
}

#[test]
fn parts_out_of_turn_of_strangers_and_of_other_calls_are_refused() {
    let mut bench = Bench::new();
    let key = bench.step(0, 101);
    assert_eq!(bench.say(0, 101, key.clone()), Ok(Done::Effective));
    let before = bench.land.register.clone();
    let deal = Step::Deal(Bytes::from_static(b"no dealing"));
    let taken = bench.say(1, 101, key.clone());
    assert_eq!(taken, Err(Refusal::BadDealing), "another member's key");
    let no_key = Step::Key(Bytes::from_static(&[7; 48]));
    assert_eq!(bench.say(1, 101, no_key), Err(Refusal::BadDealing));
    assert_eq!(bench.say(0, 101, key.clone()), Err(Refusal::NotAsked));
    assert_eq!(bench.say(0, 101, deal.clone()), Err(Refusal::NotAsked));
    let verdict = Step::Judge(Vec::new());
    assert_eq!(bench.say(0, 101, verdict), Err(Refusal::NotAsked));
    let (call, step) = (bench.call, bench.step(2, 101));
    bench.call.next = ViewId(2);
    assert_eq!(bench.say(2, 101, step.clone()), Err(Refusal::NotAsked));
    bench.call = call;
    let stranger = bench
        .land
        .act(&secret(99), Operation::Threshold(call, step));
    assert_eq!(stranger, Err(Refusal::NotAsked));
    assert_eq!(bench.land.register, before);
    bench.all(1..7, 101);
    assert_eq!(bench.say(0, 102, deal), Err(Refusal::BadDealing));
}

#[test]
fn another_secret_than_the_one_whose_key_was_given_owes_nothing() {
    let mut bench = Bench::new();
    bench.all(0..7, 101);
    let other = secret(90);
    let id = bench.land.id(0);
    let owed = bench.generation().owed(&id, &other, Height(102));
    assert_eq!(owed, None);
}

#[test]
fn everybody_seated_makes_no_key() {
    let mut bench = Bench::new();
    bench.land.register.rules.everyone_below = 100;
    bench.land.register.freeze(FROM);
    let committee: Vec<MemberId> = (0..7).map(|n| bench.land.id(n)).collect();
    let at = Link {
        height: FROM,
        digest: Digest([9; 32]),
    };
    bench.land.register.name(at, ViewId(1), &committee);
    assert!(bench.land.register.generation().is_none());
}

#[test]
fn rows_and_digests_have_what_is_under_way() {
    let digest = |register: &Register| {
        let mut hasher = Hasher::new(crate::crypto::Domain::State);
        register.hash_into(&mut hasher);
        hasher.finish()
    };
    let mut bench = Bench::new();
    let mut seen = vec![digest(&bench.land.register)];
    for (members, height) in [(0..7, 101), (0..5, 102), (0..7, 103)] {
        for n in members {
            let step = bench.step(n, height);
            assert_eq!(bench.say(n, height, step), Ok(Done::Effective));
            seen.push(digest(&bench.land.register));
            let rows = bench.land.register.to_rows();
            let chain = *bench.land.register.chain();
            let again = Register::from_rows(&chain, rows.each_ref().map(|row| &row[..]));
            assert_eq!(again.as_ref(), Ok(&bench.land.register));
        }
    }
    let distinct: BTreeSet<Digest> = seen.iter().copied().collect();
    assert_eq!(distinct.len(), seen.len());
}
