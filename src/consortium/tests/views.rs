//! Views that change: committees are called, keys come, the next view takes over.

use super::*;
use crate::blocks::{Call, NextKey, Step, ViewChain, ViewRules};
use crate::committee::View;

/// A key of `n` for a call.
pub(super) fn key_for(n: usize, call: &Call) -> SecretKey {
    let text = [&[u8::try_from(n).expect("few")][..], &call.assemble.0].concat();
    let seed = Digest::of(crate::crypto::Domain::Audit, &text).0;
    SecretKey::simulated(seed, WORLD)
}

impl Bench {
    pub(super) fn make_key(&mut self, n: usize, call: Call) {
        let (identity, made) = (secret(1, n), key_for(n, &call));
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
