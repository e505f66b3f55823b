//! Forged view chains: keys that were not erased lead nobody astray who hears one correct member.

use super::ledger::{Ledger, filler};
use super::world::*;
use crate::bootstrap::shelf::Shelf;
use crate::bootstrap::*;
use crate::committee::ViewId;
use crate::machine::Input;

/// A true chain of `views`, and one that q old keys of view `at` made after it had ended.
pub(super) fn fork(at: u64, views: u64, more: u64) -> (Ledger, Ledger) {
    let base = Ledger::new(at);
    let mut truth = base.clone();
    (at..views).for_each(|_| truth.rotate());
    truth.snapshot((0..20).map(|n| filler(n, 512)).collect());
    let mut lie = base;
    // Another height, so another block.
    lie.advance();
    (0..more).for_each(|_| lie.rotate());
    lie.snapshot((0..20).map(|n| filler(n + 600, 512)).collect());
    (truth, lie)
}

pub(super) fn takes_the_fork(world: &World, new: usize, lie: &Ledger) -> bool {
    let digest = lie.snapshots[0].block.0.digest();
    world.newcomers[new].events.iter().any(|event| {
        matches!(event, Event::Assembled(assembled)
            if assembled.target.checkpoint.digest() == digest)
    })
}

#[test]
fn a_fork_by_forgotten_keys_is_seen_and_never_taken() {
    for (at, views, more) in [(0, 1, 1), (1, 4, 1), (1, 2, 3), (2, 3, 9), (0, 70, 75)] {
        let (truth, lie) = fork(at, views, more);
        for seed in 0..4 {
            for honest in 1..4 {
                let mut world = World::new(seed, &truth, 4);
                // The liars have all seats of their fork; whoever is honest is one of them too.
                for server in honest..4 {
                    world.servers[server].ledger = lie.clone();
                }
                let new = world.join();
                world.run(30, |world| {
                    let stage = world.newcomers[new].machine.stage();
                    matches!(stage, Stage::Done | Stage::Stuck)
                });
                let newcomer = &world.newcomers[new];
                let place = format!("fork at {at}, {honest} honest, seed {seed}");
                assert!(!takes_the_fork(&world, new, &lie), "{place}");
                for server in 0..honest {
                    let who = world.servers[server].id;
                    assert!(!banned(newcomer).contains(&who), "{place}");
                }
                let forked = newcomer.events.iter().find_map(|event| {
                    let Event::Forked { view, .. } = event else {
                        return None;
                    };
                    Some(*view)
                });
                match forked {
                    Some(view) => assert_eq!(view, ViewId(at + 1), "{place}"),
                    None => assert!(is_whole(newcomer, &truth), "{place}"),
                }
            }
        }
    }
}

#[test]
fn a_member_that_is_reached_late_still_shows_a_fork() {
    let (truth, lie) = fork(1, 4, 1);
    let mut world = World::new(1, &lie, 4);
    world.servers[3].ledger = truth;
    world.servers[3].is_up = false;
    world.servers.iter_mut().for_each(|one| one.pace = 4_000);
    let new = world.join();
    let gathers = |world: &World| world.newcomers[new].machine.stage() == Stage::Gather;
    assert!(world.run(30, gathers));
    world.servers[3].is_up = true;
    let late = world.servers[3].id;
    world.tell(new, Input::Command(Command::Connected(late)));
    let is_seen = world.run(30, |world| {
        let mut events = world.newcomers[new].events.iter();
        events.any(|event| {
            matches!(
                event,
                Event::Forked {
                    view: ViewId(2),
                    ..
                }
            )
        })
    });
    assert!(is_seen && !takes_the_fork(&world, new, &lie));
}

#[test]
fn a_pin_tells_which_of_two_is_true() {
    let (truth, lie) = fork(1, 3, 3);
    for seed in 0..4 {
        let mut world = World::new(seed, &truth, 7);
        for server in [3, 5, 6] {
            world.servers[server].ledger = lie.clone();
        }
        let view = ViewId(2);
        let digest = truth.opened(view).expect("the view is there");
        world.pin = Some(Pin { view, digest });
        let new = world.join();
        world.finish(30);
        assert!(is_whole(&world.newcomers[new], &truth));
        for who in banned(&world.newcomers[new]) {
            assert!(
                [3, 5, 6]
                    .iter()
                    .any(|index| world.servers[*index].id == who)
            );
        }
    }
}

#[test]
fn steps_that_do_not_hold_are_refused_and_their_sender_named() {
    let ledger = Ledger::with_snapshot(4, 10, 512);
    let mut caught = [false; 5];
    for (way, seed) in (0..5).flat_map(|way| (0..6).map(move |seed| (way, seed))) {
        let mut world = World::new(seed, &ledger, 4);
        world.twist(0, move |saying| {
            let mut answers = saying.answers.clone();
            for answer in &mut answers {
                let Message::Answer(Answer::Steps(steps)) = answer else {
                    continue;
                };
                if steps.is_empty() {
                    continue;
                }
                match way {
                    0 => steps.reverse(),
                    1 => drop(steps.remove(0)),
                    2 => steps[0] = vec![1, 2, 3].into(),
                    3 => {
                        let mut step =
                            crate::blocks::Step::from_bytes(&steps[0]).expect("it is one");
                        step.certificate.signatures[0].0[3] ^= 1;
                        steps[0] = step.to_bytes().into();
                    }
                    _ => {
                        let last = steps.len() - 1;
                        let mut step =
                            crate::blocks::Step::from_bytes(&steps[last]).expect("it is one");
                        step.body.members[0].address = "elsewhere:1".into();
                        steps[last] = step.to_bytes().into();
                    }
                }
            }
            answers
        });
        let new = world.join();
        world.run(30, |world| {
            matches!(world.newcomers[new].machine.stage(), Stage::Done)
        });
        let newcomer = &world.newcomers[new];
        assert!(is_whole(newcomer, &ledger), "way {way}");
        caught[way] |= banned(newcomer).contains(&world.servers[0].id);
        let honest = world.servers[1..].iter().map(|server| server.id);
        assert!(
            honest
                .into_iter()
                .all(|who| !banned(newcomer).contains(&who))
        );
    }
}

#[test]
fn a_view_that_lost_its_quorum_is_not_fresh_and_a_newer_one_is_walked_to() {
    let old = Ledger::with_snapshot(1, 10, 512);
    let mut newer = old.clone();
    newer.rotate();
    newer.snapshot((0..10).map(|n| filler(n + 70, 512)).collect());
    let mut world = World::new(1, &old, 4);
    for server in [1, 2, 3] {
        world.servers[server].is_up = false;
    }
    let new = world.join();
    world.run(10, |_| false);
    let newcomer = &world.newcomers[new];
    let not_fresh = |event: &&Event| matches!(event, Event::NotFresh { .. });
    assert!(newcomer.events.iter().filter(not_fresh).count() > 1);
    assert!(newcomer.disk.target.is_none());
    for server in [1, 2, 3] {
        world.servers[server].is_up = true;
        world.servers[server].ledger = newer.clone();
        let id = world.servers[server].id;
        let connected = Command::Connected(id);
        world.tell(new, crate::machine::Input::Command(connected));
    }
    world.finish(60);
    assert!(is_whole(&world.newcomers[new], &newer));
}
