//! A log across views: each record is judged by the view that it is of.

use super::*;
use crate::blocks::{Body, ViewChain};
use crate::committee::{Certificate, VoterRecord};
use crate::crypto::Verifier;
use crate::node::views::{Opened, steps};

/// The story of a member whose views last eight blocks, and the heights that ended them.
fn rotating() -> (World, Vec<Record>, Vec<u64>) {
    let world = World::rotating();
    let story = world.story(BLOCKS);
    let mut ends = Vec::new();
    for record in &story {
        if let Record::Block(block) = record
            && let Body::Reconfiguration(_) = block.body
        {
            ends.push(block.header.height.0);
        }
    }
    assert!(ends.len() >= 3, "{ends:?}");
    (world, story, ends)
}

fn certificate_at(story: &mut [Record], height: u64) -> &mut Certificate {
    let certificates = story.iter_mut().filter_map(|record| {
        if let Record::Certificate(held) = record {
            return Some(held);
        }
        None
    });
    let found = { certificates }.find(|held| held.ballot.height.0 == height);
    found.expect("it is in the story")
}

#[test]
fn a_whole_log_across_views_is_ok_and_tells_how_many() {
    let (world, story, ends) = rotating();
    world.write(&story);
    let verdict = world.verify();
    assert_eq!(verdict.faults, [], "{:?}", verdict.notes);
    assert_eq!(verdict.height, Height(BLOCKS));
    assert_eq!(verdict.views, ends.len() as u64 + 1);
}

#[test]
fn the_steps_in_a_log_lead_from_genesis_to_its_last_view() {
    let (world, story, ends) = rotating();
    let index = world.indexed(&story);
    let last = Opened {
        view: ViewId(ends.len() as u64),
        at: Height(ends[ends.len() - 1]),
    };
    let all = steps(&index, ViewId(1), last, (100, 1 << 20)).expect("they are there");
    let heights: Vec<u64> = all.iter().map(|step| step.header.height.0).collect();
    assert_eq!(heights, ends);
    let mut chain = ViewChain::of(&world.genesis).expect("a view");
    assert_eq!(chain.walk(&all, &Verifier::ed25519()), Ok(()));
    assert_eq!(chain.newest().view.id(), last.view);
    // Pages by count and by bytes, and what lies behind the end.
    let page = |first, most| steps(&index, ViewId(first), last, most).expect("they are there");
    assert_eq!(page(2, (1, 1 << 20)), all[1..2]);
    assert_eq!(page(1, (100, 1)), all[..1]);
    assert_eq!(page(last.view.0 + 1, (100, 1 << 20)), []);
    // An earlier view is asked for after a later one.
    let first = Opened {
        view: ViewId(1),
        at: Height(ends[0]),
    };
    let held = steps(&index, ViewId(0), first, (100, 1 << 20)).expect("it is there");
    assert_eq!(held, all[..1]);
}

#[test]
fn a_view_without_the_certificate_that_opens_it_promises_nothing() {
    let (world, mut story, ends) = rotating();
    let end = Height(ends[1]);
    let is_it =
        |record: &Record| matches!(record, Record::Certificate(held) if held.ballot.height == end);
    let place = story.iter().position(is_it).expect("it is in the story");
    story.remove(place);
    world.write_log(&story);
    let verdict = world.verify();
    let what = "a promise of view 2, and no certificate before it opens that view";
    assert_found(&verdict, "data/log/", ends[1] + 1, what);
}

#[test]
fn a_certificate_with_the_keys_of_another_view_is_found() {
    let (world, mut story, ends) = rotating();
    let height = ends[1];
    let (mut voter, view) = {
        // The key of view 2 signs the block that ends view 1.
        let view = world.view.clone();
        let seat = crate::committee::SeatKey {
            member: view.seats()[0].member,
            key: Some(world::key(ViewId(2)).public()),
        };
        let other =
            crate::committee::View::new(ViewId(1), *view.chain(), vec![seat], &Digest::ZERO);
        let other = other.expect("one seat");
        let voter = crate::committee::Voter::new(&other, world::key(ViewId(2)));
        (voter.expect("its seat"), other)
    };
    let digest = certificate_at(&mut story, height).ballot.digest;
    let (_, vote) = voter.persist(Height(height), digest).expect("once");
    let forged = Certificate::assemble(&view, [&vote]).expect("a quorum");
    *certificate_at(&mut story, height) = forged.into_inner();
    world.write_log(&story);
    let verdict = world.verify();
    assert_found(&verdict, "data/log/", height, "signature does not hold");
}

#[test]
fn a_certificate_above_the_end_of_its_view_is_found() {
    let (world, mut story, ends) = rotating();
    let sealed = (ends[0] + 1..).find(|height| height % 4 == 0).expect("one");
    certificate_at(&mut story, sealed).ballot.view = ViewId(0);
    world.write_log(&story);
    let what = format!("of view 0, which block {} ended", ends[0]);
    assert_found(&world.verify(), "data/log/", sealed, &what);
}

#[test]
fn a_vote_above_the_end_of_its_view_is_void_and_no_fault() {
    let (world, mut story, ends) = rotating();
    let above = Height(ends[0] + 1);
    let lock = Lock {
        regency: Regency(0),
        digest: Digest::ZERO,
    };
    let place = block_at(&story, ends[0]);
    let written = VoterRecord::Written(above, lock);
    story.insert(place, Record::Voter(ViewId(0), written));
    world.write_log(&story);
    assert_eq!(world.verify().faults, [], "it is another view's vote");
}

#[test]
fn a_persist_of_an_old_view_for_a_later_block_is_found() {
    let (world, mut story, ends) = rotating();
    let above = ends[0] + 1;
    let place = block_at(&story, above);
    let digest = block_mut(&mut story, place).header.digest();
    let persisted = VoterRecord::Persisted(Height(above), digest);
    story.insert(place + 1, Record::Voter(ViewId(0), persisted));
    world.write_log(&story);
    let verdict = world.verify();
    assert_found(&verdict, "data/log/", above, "PERSIST in view 0 of header");
    assert_eq!(verdict.faults.len(), 1);
}

#[test]
fn a_promise_in_a_view_that_nobody_made_is_found() {
    let (world, mut story, _) = rotating();
    let lock = Lock {
        regency: Regency(0),
        digest: Digest::ZERO,
    };
    let written = VoterRecord::Written(Height(BLOCKS + 1), lock);
    story.push(Record::Voter(ViewId(99), written));
    world.write_log(&story);
    let what = "a promise of view 99, which no block before it made";
    assert_found(&world.verify(), "data/log/", BLOCKS + 1, what);
}

#[test]
fn a_changed_reconfiguration_is_found() {
    let (world, mut story, ends) = rotating();
    let place = block_at(&story, ends[1]);
    let Body::Reconfiguration(body) = &mut block_mut(&mut story, place).body else {
        panic!("it ends a view");
    };
    body.members[0].weight += 1;
    world.write_log(&story);
    let verdict = world.verify();
    assert_found(&verdict, "data/log/", ends[1], "not what its header binds");
}
