//! What control bodies effect, and what leaves them empty blocks.

use super::own::{founded, of};
use super::*;
use crate::blocks::body::{Assemble, NextSeat};
use crate::committee::MemberId;

/// A ledger of four founders whose views last eight blocks and wait four for keys.
fn rotating() -> Ledger {
    let mut genesis = founded(Clients::Open);
    genesis.parameters.views.rotation_blocks = 8;
    genesis.parameters.views.assemble_blocks = 4;
    of(&genesis)
}

fn order(ledger: &mut Ledger, body: Body) -> Applied {
    let decided = Decided {
        body,
        ..decided(ledger, Vec::new())
    };
    apply_decided(ledger, decided)
}

/// Every seat carries its key over: what bytes prove is judged elsewhere.
fn seats(ledger: &Ledger) -> Vec<NextSeat> {
    let announced = ledger.views().announced.as_ref().expect("a committee");
    let seat = |member: &MemberId| NextSeat {
        member: *member,
        fresh: None,
    };
    announced.committee.iter().map(seat).collect()
}

fn due(ledger: &Ledger) -> Assemble {
    match ledger.due() {
        Some(Due::Body(Body::Assemble(body))) => body.clone(),
        other => panic!("a committee is due, not {other:?}"),
    }
}

#[test]
fn a_committee_is_due_after_the_blocks_of_a_view_and_not_before() {
    let mut ledger = rotating();
    advance(&mut ledger, 6);
    assert_eq!(ledger.due(), None);
    advance(&mut ledger, 7);
    assert_eq!(due(&ledger).next, ViewId(1));
    assert_eq!(due(&ledger).committee.len(), 4);
}

#[test]
fn another_assemble_body_than_the_one_that_is_due_is_an_empty_block() {
    let mut ledger = rotating();
    advance(&mut ledger, 3);
    let early = Assemble {
        next: ViewId(1),
        beacon: None,
        seed: Digest::ZERO,
        committee: Vec::new(),
    };
    assert_eq!(order(&mut ledger, Body::Assemble(early)).effect, None);
    advance(&mut ledger, 8);
    let mut chosen = due(&ledger);
    chosen.committee.rotate_left(1);
    assert_eq!(order(&mut ledger, Body::Assemble(chosen)).effect, None);
    assert_eq!(ledger.views().announced, None);
    let body = Body::Assemble(due(&ledger));
    assert_eq!(order(&mut ledger, body).effect, Some(Effect::Assembled));
    assert_eq!(ledger.due(), None, "its members are waited for");
}

#[test]
fn the_first_answer_to_the_newest_assemble_block_ends_the_view() {
    let mut ledger = rotating();
    advance(&mut ledger, 8);
    let body = Body::Assemble(due(&ledger));
    order(&mut ledger, body);
    let old = ledger.reconfiguration(seats(&ledger)).expect("an answer");
    // Nobody answers in time, so another one takes its place.
    let called = ledger.height();
    advance(&mut ledger, called.0 + 4);
    let body = Body::Assemble(due(&ledger));
    assert_eq!(order(&mut ledger, body).effect, Some(Effect::Assembled));
    let late = order(&mut ledger, Body::Reconfiguration(old));
    assert_eq!(late.effect, None, "it answers an older one");
    let answer = ledger.reconfiguration(seats(&ledger)).expect("an answer");
    for (what, change) in changes() {
        let mut other = answer.clone();
        change(&mut other);
        let applied = order(&mut ledger, Body::Reconfiguration(other));
        assert_eq!(applied.effect, None, "{what}");
        let empty = Body::Transactions(Vec::new());
        assert_eq!(applied.block.header.body, empty.root(), "{what}");
        assert_eq!(applied.block.body, empty, "{what}");
        assert_eq!(applied.block.header.reconfiguration.height, Height(0));
    }
    let applied = order(&mut ledger, Body::Reconfiguration(answer));
    assert_eq!(applied.effect, Some(Effect::Reconfigured));
    let made = Link {
        height: applied.block.header.height,
        digest: applied.digest,
    };
    assert_eq!(ledger.views().present, ViewId(1));
    assert_eq!(ledger.views().opening, made);
    let next = order(&mut ledger, Body::Transactions(Vec::new()));
    assert_eq!(next.block.header.view, ViewId(1));
    assert_eq!(next.block.header.reconfiguration, made);
}

type Change = (&'static str, fn(&mut Reconfiguration));

fn changes() -> [Change; 4] {
    [
        ("another list", |body| {
            body.members.pop();
        }),
        ("another committee", |body| {
            body.seats.pop();
        }),
        ("another order of seats", |body| body.seats.rotate_left(1)),
        ("another view", |body| body.next = ViewId(2)),
    ]
}

#[test]
fn a_ledger_restored_between_assemble_and_reconfiguration_goes_on_alike() {
    let mut ledger = rotating();
    advance(&mut ledger, 8);
    let body = Body::Assemble(due(&ledger));
    order(&mut ledger, body);
    let mut genesis = founded(Clients::Open);
    genesis.parameters = ledger.parameters().clone();
    let register = Some((**ledger.register()).clone());
    let entries: Vec<_> = ledger.entries().map(|(n, e)| (n, e.clone())).collect();
    let restored = Ledger::restore(&genesis, ledger.parts().clone(), register, entries);
    let mut restored = restored.expect("its own parts");
    let answer = ledger.reconfiguration(seats(&ledger)).expect("an answer");
    let ours = order(&mut ledger, Body::Reconfiguration(answer.clone()));
    let theirs = order(&mut restored, Body::Reconfiguration(answer));
    assert_eq!(ours, theirs);
    assert_eq!(ledger.digest(), restored.digest());
}
