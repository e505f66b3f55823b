//! Threshold keys that are made in the chain, by members that keep the rules and by some that do
//! not.

use super::super::generation::*;
use super::super::*;
use super::land::{Land, secret};
use crate::blocks::body::NextSeat;
use crate::blocks::{Call, Link};
use crate::crypto::{Hasher, SecretKey};

const FROM: Height = Height(100);
/// Steps end at 108, 116 and 124.
const WAIT: u32 = 2;

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
        self.generation().key(Height(height))
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

/// What member `n` deals who takes the seventh receiver for somebody else: the value is wrong.
fn crooked(bench: &Bench, n: usize) -> Step {
    let mut generation = bench.generation().clone();
    let last = generation.keys.remove(&6).expect("a key");
    generation.keys.insert(9, last);
    let owed = generation.owed(&bench.land.id(n), &fresh(n), Height(102));
    match owed {
        Some(Operation::Threshold(_, step)) => step,
        other => panic!("a dealing is owed, not {other:?}"),
    }
}

#[test]
fn a_dealer_that_is_shown_to_have_dealt_wrongly_is_left_out() {
    let mut bench = Bench::new();
    bench.all(0..7, 101);
    let dealing = crooked(&bench, 0);
    assert_eq!(bench.say(0, 102, dealing), Ok(Done::Effective));
    bench.all(1..5, 102);
    let Step::Judge(complaints) = bench.step(6, 103) else {
        panic!("a verdict is owed");
    };
    let accused: Vec<u16> = complaints.iter().map(|c| c.dealer).collect();
    assert_eq!(accused, [0]);
    assert_eq!(bench.step(5, 103), Step::Judge(Vec::new()));
    bench.all(0..7, 103);
    let key = bench.key(104).expect("four dealings are left");
    // The first three that stand: 1, 2 and 3.
    let mut honest = Bench::new();
    honest.all(0..7, 101);
    honest.all(1..6, 102);
    honest.all(0..7, 103);
    let want = honest.key(104).expect("all said their part");
    assert_eq!(key.public(), want.public());
}

#[test]
fn a_false_complaint_costs_its_author_the_verdict_and_its_target_nothing() {
    let mut bench = Bench::new();
    bench.all(0..7, 101);
    bench
        .say(0, 102, crooked(&bench, 0))
        .expect("its form is right");
    bench.all(1..5, 102);
    let lie = |dealer| Complaint {
        dealer,
        opening: Bytes::from_static(&[1; 48]),
    };
    let Step::Judge(mut mixed) = bench.step(6, 103) else {
        panic!("a verdict is owed");
    };
    mixed.push(lie(1));
    assert_eq!(
        bench.say(6, 103, Step::Judge(mixed.clone())),
        Ok(Done::Fell)
    );
    let absent = Step::Judge(vec![lie(6)]);
    assert_eq!(
        bench.say(5, 103, absent),
        Ok(Done::Fell),
        "it dealt nothing"
    );
    let again = bench.say(6, 103, Step::Judge(mixed));
    assert_eq!(again, Err(Refusal::NotAsked), "once");
    bench.all(0..5, 103);
    let key = bench.key(104).expect("five verdicts hold");
    // What the first part of the void verdict showed stays shown.
    assert!(key.dealings.iter().all(|(dealer, _)| *dealer != 0));
    assert_eq!(key.holders, BTreeSet::from([0, 1, 2, 3, 4]));
}

#[test]
fn parts_out_of_turn_of_strangers_and_of_other_calls_are_refused() {
    let mut bench = Bench::new();
    let key = bench.step(0, 101);
    assert_eq!(bench.say(0, 101, key.clone()), Ok(Done::Effective));
    let before = bench.land.register.clone();
    let deal = Step::Deal(Bytes::from_static(b"no dealing"));
    assert_eq!(bench.say(0, 101, key.clone()), Err(Refusal::NotAsked));
    assert_eq!(bench.say(0, 101, deal.clone()), Err(Refusal::NotAsked));
    let verdict = Step::Judge(Vec::new());
    assert_eq!(bench.say(0, 101, verdict), Err(Refusal::NotAsked));
    let (call, step) = (bench.call, bench.step(2, 101));
    bench.call.next = ViewId(2);
    assert_eq!(bench.say(2, 101, step.clone()), Err(Refusal::NotAsked));
    bench.call = call;
    let stranger = Operation::Threshold(call, step);
    let stranger = bench.land.act(&secret(99), stranger);
    assert_eq!(stranger, Err(Refusal::NotAsked));
    assert_eq!(bench.land.register, before);
}

#[test]
fn who_gives_what_is_not_its_own_gives_nothing_more() {
    let mut bench = Bench::new();
    let key = bench.step(0, 101);
    assert_eq!(
        bench.say(1, 101, key.clone()),
        Ok(Done::Fell),
        "a copy, first"
    );
    assert_eq!(bench.say(0, 101, key), Ok(Done::Effective), "costs nobody");
    let own = Bench::new().step(1, 101);
    assert_eq!(bench.say(1, 101, own), Err(Refusal::NotAsked));
    assert_eq!(bench.owed(1, 101), None);
    bench.all(2..7, 101);
    let copied = bench.step(0, 109);
    assert_eq!(bench.say(2, 109, copied.clone()), Ok(Done::Fell));
    assert_eq!(bench.say(0, 109, copied), Ok(Done::Effective));
    assert_eq!(bench.owed(2, 109), None);
}

#[test]
fn a_key_is_held_only_by_seats_with_the_keys_that_it_was_made_for() {
    let mut bench = Bench::new();
    bench.all(0..7, 101);
    bench.all(0..5, 102);
    bench.all(0..6, 103); // the seventh says nothing
    let key = bench.key(125).expect("six verdicts hold");
    let seats = |carriers: &[usize]| {
        let seat = |n: usize| NextSeat {
            member: bench.land.id(n),
            fresh: (!carriers.contains(&n)).then(|| bench.land.proof(&secret(0), 60)),
        };
        (0..7).map(seat).collect::<Vec<_>>()
    };
    assert!(key.is_held(&seats(&[])));
    assert!(key.is_held(&seats(&[0])));
    assert!(!key.is_held(&seats(&[0, 1])));
    assert!(key.is_held(&seats(&[0, 6])), "the seventh has no share");
}

#[test]
fn the_dealings_of_the_largest_committee_have_room() {
    let n = crate::committee::SEATS_MAX;
    let f = crate::committee::Sizes::of(n).f;
    let receivers = vec![
        crate::crypto::threshold::Receiver {
            seat: 0,
            key: Bytes::new(),
        };
        n
    ];
    let terms = crate::crypto::threshold::Terms {
        context: &Digest::ZERO,
        degree: f,
        receivers: &receivers,
    };
    assert!((2 * f + 1) * terms.dealing_bytes() < DEALINGS_BYTES_MAX);
    const { assert!(DEALINGS_BYTES_MAX < crate::blocks::codec::ENCODED_BYTES_MAX) };
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
