//! The view machine by itself: its picture, which keys count, when they are enough.

use super::edges::{assert_drawn, watch};
use super::*;
use crate::blocks::Call;
use crate::committee::KeyProof;

const STATES: [&str; 6] = [
    "forming",
    "serving",
    "assembling",
    "ready",
    "ending",
    "over",
];

fn call(number: u8) -> Call {
    Call {
        next: ViewId(1),
        assemble: Digest([number; 32]),
    }
}

fn named(i: usize) -> MemberId {
    MemberId::of(&secret(i).public())
}

/// The fresh key of member `i`, the `number`-th that it makes for `call`.
fn key(i: usize, call: Call, number: u8) -> NextKey {
    let world = Digest::of(Domain::Audit, b"w");
    let mut seed = [number; 32];
    seed[0] = u8::try_from(i).expect("few members");
    let fresh = SecretKey::simulated(seed, world);
    let (chain, identity) = (Digest::ZERO, secret(i));
    NextKey {
        call,
        identity: identity.public(),
        proof: KeyProof::make(&chain, call.next, &call.assemble, &identity, &fresh),
    }
}

/// A committee of four is named, and all of it is waited for up to height 9.
fn assembly(number: u8) -> Assembly {
    Assembly {
        call: call(number),
        committee: (0..4).map(named).collect(),
        patience: Height(9),
    }
}

/// A member of four, of whom nobody is connected but itself.
fn alone() -> Ordering {
    World::new(4, 1).boot(0)
}

fn node_in(state: &str) -> Ordering {
    let mut node = alone();
    if state == "forming" {
        return node;
    }
    for i in 1..4 {
        node.generate(&view::Event::Connected(edges::seat(i)));
    }
    if state == "serving" {
        return node;
    }
    node.generate(&view::Event::Assembled(assembly(1)));
    if state == "assembling" {
        return node;
    }
    for i in 0..4 {
        node.generate(&view::Event::Key(key(i, call(1), 9)));
    }
    if state == "ready" {
        return node;
    }
    node.generate(&view::Event::Reconfigured);
    if state == "over" {
        node.generate(&view::Event::Certified);
    }
    node
}

#[test]
fn every_pair_of_the_view_machine_has_an_outcome_and_its_picture_is_true() {
    watch();
    let events = [
        view::Event::Connected(edges::seat(1)),
        view::Event::Disconnected(edges::seat(1)),
        view::Event::Assembled(assembly(2)),
        view::Event::Key(key(0, call(1), 9)),
        view::Event::Applied(Height(9)),
        view::Event::Reconfigured,
        view::Event::Certified,
    ];
    for state in STATES {
        for event in &events {
            let mut node = node_in(state);
            assert_eq!(node.view_state().0, state);
            node.generate(event);
        }
    }
    // The countdown ends with three keys of four.
    let mut node = node_in("assembling");
    for i in 0..3 {
        node.generate(&view::Event::Key(key(i, call(1), 9)));
    }
    node.generate(&view::Event::Applied(Height(9)));
    let names = [
        "connected",
        "disconnected",
        "assembled",
        "key",
        "applied",
        "reconfigured",
        "certified",
    ];
    assert_drawn(include_str!("../view.rs"), &STATES, &names);
}

#[test]
fn the_first_key_of_each_named_member_counts_and_only_for_the_newest_call() {
    let mut node = node_in("assembling");
    let stranger = key(6, call(1), 1);
    let old = key(1, call(7), 2);
    for key in [key(0, call(1), 3), key(0, call(1), 4), stranger, old] {
        node.generate(&view::Event::Key(key));
    }
    let seats = node.generation.inner().seats();
    let fresh: Vec<_> = seats.iter().map(|seat| seat.fresh).collect();
    assert_eq!(fresh, [Some(key(0, call(1), 3).proof), None, None, None]);
    node.generate(&view::Event::Assembled(assembly(2)));
    let seats = node.generation.inner().seats();
    assert!(seats.iter().all(|seat| seat.fresh.is_none()));
}

#[test]
fn a_key_counts_for_the_first_who_gives_it_and_for_nobody_else() {
    let mut node = node_in("assembling");
    let first = key(0, call(1), 3);
    let (identity, chain) = (secret(1), Digest::ZERO);
    let mut seed = [3; 32];
    seed[0] = 0;
    let fresh = SecretKey::simulated(seed, Digest::of(Domain::Audit, b"w"));
    let same = NextKey {
        call: call(1),
        identity: identity.public(),
        proof: KeyProof::make(&chain, ViewId(1), &call(1).assemble, &identity, &fresh),
    };
    assert_eq!(same.proof.key, first.proof.key);
    for key in [first, same] {
        node.generate(&view::Event::Key(key));
    }
    let seats = node.generation.inner().seats();
    let count = seats.iter().filter(|seat| seat.fresh.is_some()).count();
    assert_eq!(count, 1);
}

#[test]
fn keys_are_enough_with_all_or_with_all_but_f_behind_the_countdown() {
    for (keys, height, is_ready) in [(4, 1, true), (3, 8, false), (3, 9, true), (2, 99, false)] {
        let mut node = node_in("assembling");
        for i in 0..keys {
            node.generate(&view::Event::Key(key(i, call(1), 9)));
        }
        node.generate(&view::Event::Applied(Height(height)));
        assert_eq!(node.next_seats().is_some(), is_ready, "{keys} at {height}");
    }
}
