//! Views that change: committees are called, keys come, the next view takes over.

use super::*;
use crate::blocks::{Call, NextKey, Step, ViewChain, ViewRules};
use crate::committee::{Regency, View};

/// A key of `n` for a call.
pub(super) fn key_for(n: usize, call: &Call) -> SecretKey {
    let text = [&[u8::try_from(n).expect("few")][..], &call.assemble.0].concat();
    let seed = Digest::of(crate::crypto::Domain::Audit, &text).0;
    SecretKey::simulated(seed, WORLD)
}

impl Bench {
    pub(super) fn make_key(&mut self, n: usize, call: Call) {
        let maker = self.shared.get(&n).copied().unwrap_or(n);
        let seat = self.keys[n].first().filter(|_| self.stale.contains(&n));
        let made = seat.cloned().unwrap_or_else(|| key_for(maker, &call));
        let identity = secret(1, n);
        let chain = genesis().chain();
        let proof = KeyProof::make(&chain, call.next, &call.assemble, &identity, &made);
        self.keys[n].push(made);
        let identity = identity.public();
        let key = NextKey {
            call,
            identity,
            proof,
        };
        self.input(n, Input::Command(Command::Key(Box::new(key))));
    }

    /// The driver's part of a hand-over: all keys but that of the seat are forgotten.
    pub(super) fn step_over(&mut self, n: usize, view: &View) {
        let seat = view.seat_of(&id(n)).and_then(|seat| view.key(seat));
        self.keys[n].retain(|key| Some(key.public()) == seat);
        let key = self.keys[n].first().cloned();
        let enter = Command::Enter(view.id(), key.map(Box::new), true);
        self.input(n, Input::Command(enter));
    }

    fn views(&self) -> Vec<u64> {
        let views = self.replicas.iter().map(|replica| replica.overview().view);
        views.collect()
    }
}

/// Replicas whose views last eight blocks.
fn rotating() -> Bench {
    RULES.set(ViewRules {
        rotation_blocks: 8,
        assemble_blocks: 6,
        ..ViewRules::default()
    });
    Bench::new(fresh)
}

#[test]
fn views_rotate_under_load_and_nothing_is_lost() {
    let mut bench = rotating();
    for sequence in 1..=60 {
        let member = usize::try_from(sequence % 4).expect("few");
        bench.submit(member, sequence);
        bench.pass(40);
    }
    bench.pass(2_000);
    let views = bench.views();
    assert!(views.iter().all(|view| *view >= 4), "{views:?}");
    let replica = &bench.replicas[0];
    assert!(!replica.overview().pool.has_work);
    for sequence in 1..=60 {
        let answer = replica.ledger().answer(&secret(3, 0).public(), sequence);
        assert!(answer.is_some(), "{sequence} is lost");
    }
    // What was voted with is forgotten.
    assert!(bench.keys.iter().all(|keys| keys.len() <= 2));
}

#[test]
fn a_view_rotates_though_one_of_the_next_committee_never_answers() {
    let mut bench = rotating();
    bench.keyless.insert(2);
    for sequence in 1..=12 {
        bench.submit(0, sequence);
        bench.pass(40);
    }
    bench.pass(4_000);
    let views = bench.views();
    assert!(views.iter().all(|view| *view >= 1), "{views:?}");
    let ledger = bench.replicas[2].ledger();
    assert!(ledger.answer(&secret(3, 0).public(), 12).is_some());
}

#[test]
fn a_leader_that_orders_everything_but_the_next_committee_is_replaced() {
    let mut bench = rotating();
    bench.submit(0, 1);
    bench.pass(200);
    let leads = |replica: &Consortium| replica.overview().role == "leader";
    let leader = bench.replicas.iter().position(leads).expect("one leads");
    // It knows of no control body that would be due.
    bench.replicas[leader].options.makes_keys = false;
    let other = (leader + 1) % 4;
    for sequence in 2..=120 {
        bench.submit(other, sequence);
        bench.pass(40);
    }
    let views = bench.views();
    assert!(views[other] >= 1, "{views:?}");
    let regency = bench.replicas[other].overview().regency;
    assert!(
        regency <= Regency(3),
        "one replaced, all is well: {regency}"
    );
}

#[test]
fn a_key_that_two_members_give_counts_once_and_one_in_use_never() {
    for own in [false, true] {
        let mut bench = rotating();
        bench.shared.insert(2, 1);
        if own {
            // The key of its seat once more, as if it were fresh.
            bench.shared.clear();
            bench.stale.insert(2);
        }
        for sequence in 1..=12 {
            bench.submit(0, sequence);
            bench.pass(40);
        }
        bench.pass(4_000);
        let views = bench.views();
        assert!(views.iter().all(|view| *view >= 1), "{views:?}");
        for replica in &bench.replicas {
            assert_eq!(replica.overview().faults, BTreeMap::new());
        }
    }
}

#[test]
fn a_countdown_goes_on_though_the_leader_is_gone_and_nothing_else_is_to_be_ordered() {
    let mut bench = rotating();
    bench.keyless.extend(0..4);
    for sequence in 1..=8 {
        bench.submit(0, sequence);
        bench.pass(40);
    }
    let is_called = |bench: &Bench| bench.replicas[0].ledger().views().announced.is_some();
    while !is_called(&bench) {
        bench.pass(10);
    }
    let leads = |replica: &Consortium| replica.overview().role == "leader";
    let leader = bench.replicas.iter().position(leads).expect("one leads");
    bench.cut = vec![leader];
    bench.keyless.clear();
    let call = bench.replicas[0].ordering.assembly().expect("called").call;
    for n in (0..4).filter(|n| *n != leader) {
        bench.make_key(n, call);
    }
    bench.pass(60_000);
    let views = bench.views();
    assert!(views[(leader + 1) % 4] >= 1, "{views:?}");
}

#[test]
fn without_enough_keys_the_present_view_goes_on_and_calls_anew() {
    let mut bench = rotating();
    bench.keyless.extend([1, 2]);
    for sequence in 1..=40 {
        bench.submit(0, sequence);
        bench.pass(40);
    }
    bench.pass(2_000);
    assert_eq!(bench.views(), [0; 4]);
    let first = bench.replicas[0].ledger().views().announced.clone();
    let first = first.expect("a committee is called");
    bench.keyless.clear();
    for sequence in 41..=60 {
        bench.submit(3, sequence);
        bench.pass(40);
    }
    bench.pass(4_000);
    let views = bench.views();
    assert!(views.iter().all(|view| *view >= 1), "{views:?} {first:?}");
    let ledger = bench.replicas[1].ledger();
    assert!(ledger.answer(&secret(3, 0).public(), 60).is_some());
}

#[test]
fn a_member_that_missed_a_hand_over_walks_the_views_behind_the_others() {
    let mut bench = rotating();
    bench.cut = vec![3];
    for sequence in 1..=60 {
        bench.submit(0, sequence);
        bench.pass(60);
    }
    bench.pass(2_000);
    assert!(bench.views()[0] >= 2, "{:?}", bench.views());
    assert_eq!(bench.views()[3], 0);
    bench.cut.clear();
    bench.connect(3);
    bench.pass(10_000);
    let views = bench.views();
    assert_eq!(views[3], views[0], "{views:?}");
    bench.submit(3, 61);
    bench.pass(2_000);
    let ledger = bench.replicas[0].ledger();
    assert!(ledger.answer(&secret(3, 0).public(), 61).is_some());
}

#[test]
fn who_lags_in_a_view_of_which_nobody_is_left_asks_those_of_later_views() {
    let restored = Restored {
        voter: None,
        ..fresh(0)
    };
    let mut replica = Consortium::new(options(9), restored, Time(0)).expect("a view");
    let mut out = Outbox::new();
    for command in [
        Command::Start,
        Command::Connected(id(8)),
        Command::Elsewhere(id(8), ViewId(3)),
    ] {
        replica.handle(Time(0), Input::Command(command), &mut out);
    }
    out.drain().for_each(drop);
    replica.handle(Time(1), Input::Timer(Timer::Fetch), &mut out);
    let asks = |output: Output<Consortium>| match output {
        Output::Send { to, message } => {
            to == To::One(id(8)) && matches!(message, Message::Request(_))
        }
        Output::Save(_) | Output::Arm { .. } | Output::Cancel(_) | Output::Emit(_) => false,
    };
    assert!(out.drain().any(asks));
}

#[test]
fn what_any_replica_kept_leads_from_genesis_to_its_view() {
    let mut bench = rotating();
    for sequence in 1..=60 {
        bench.submit(0, sequence);
        bench.pass(40);
    }
    bench.pass(2_000);
    for (replica, records) in bench.replicas.iter().zip(&bench.records) {
        let mut certificates = BTreeMap::new();
        for record in records {
            if let Record::Certificate(held) = record {
                certificates.insert(held.ballot.height, held.clone());
            }
        }
        let mut steps = Vec::new();
        for record in records {
            if let Record::Block(block) = record
                && let Body::Reconfiguration(body) = &block.body
                && let Some(certificate) = certificates.remove(&block.header.height)
            {
                steps.push(Step {
                    header: block.header.clone(),
                    body: body.clone(),
                    certificate,
                });
            }
        }
        let mut chain = ViewChain::of(&genesis()).expect("founders make a view");
        let walked = chain.walk(&steps, &Verifier::simulated(WORLD));
        assert_eq!(walked, Ok(()));
        assert!(chain.newest().view.id() >= ViewId(3));
        assert_eq!(chain.newest().view, *replica.view());
    }
}
