//! Pins above a fork: nothing below the pinned view counts before the pinned one fits.

use super::forks::{fork, takes_the_fork};
use super::ledger::Ledger;
use super::world::*;
use crate::bootstrap::shelf::Shelf;
use crate::bootstrap::*;
use crate::committee::ViewId;
use crate::machine::{Input, Span};

/// What opened `view` on the chain of `ledger`.
fn pin(ledger: &Ledger, view: u64) -> Option<Pin> {
    let view = ViewId(view);
    let digest = ledger.opened(view).expect("the view is there");
    Some(Pin { view, digest })
}

fn is_forked(newcomer: &Newcomer) -> bool {
    let mut events = newcomer.events.iter();
    events.any(|event| matches!(event, Event::Forked { .. }))
}

/// Three members of seven have all that the keys of the fork make.
fn divided(seed: u64, truth: &Ledger, lie: &Ledger) -> World {
    let mut world = World::new(seed, truth, 7);
    for server in [3, 5, 6] {
        world.servers[server].ledger = lie.clone();
    }
    world
}

/// It came along the true chain, banned nobody but liars, and has the true steps on its disk.
fn is_true(world: &World, new: usize, truth: &Ledger, place: &str) {
    let newcomer = &world.newcomers[new];
    assert!(is_whole(newcomer, truth) && !is_forked(newcomer), "{place}");
    for who in banned(newcomer) {
        let mut liars = [3, 5, 6].iter().map(|index| world.servers[*index].id);
        assert!(liars.any(|liar| liar == who), "{place}");
    }
    assert_eq!(newcomer.disk.steps, truth.builder.steps, "{place}");
}

#[test]
fn a_pin_above_a_fork_keeps_a_newcomer_in_walk_that_reaches_liars_only() {
    // Keys of view 1 make further views, or vouch where they stand themselves.
    for (more, seed) in [(2, 1), (2, 2), (0, 1), (0, 2)] {
        let (truth, lie) = fork(1, 5, more);
        let mut world = World::new(seed, &lie, 4);
        world.pin = pin(&truth, 4);
        let new = world.join();
        let is_over = world.run(60, |world| {
            !matches!(
                world.newcomers[new].machine.stage(),
                Stage::Idle | Stage::Walk
            )
        });
        let newcomer = &world.newcomers[new];
        assert!(!is_over, "{:?}", newcomer.machine.stage());
        assert!(newcomer.disk.steps.is_empty() && newcomer.disk.target.is_none());
        let asks = |ask: &&Ask| matches!(ask, Ask::Anchor(..));
        assert_eq!(newcomer.asked.iter().filter(asks).count(), 0);
        // It asks on, and does not rush.
        assert!(
            (30..600).contains(&newcomer.asked.len()),
            "{}",
            newcomer.asked.len()
        );
        // A correct member is enough.
        world.servers[2].ledger = truth.clone();
        world.servers[2].is_up = true;
        let reached = |world: &World| world.newcomers[new].machine.views().newest().view.id();
        let arrives = world.run(120, |world| reached(world) >= ViewId(4));
        assert!(arrives && !takes_the_fork(&world, new, &lie));
    }
}

#[test]
fn a_pin_above_a_fork_leads_along_the_true_chain_and_the_fork_stops_nobody() {
    for (at, views, more, pinned) in [(1, 5, 2, 4), (1, 5, 0, 5), (0, 70, 75, 68), (66, 70, 1, 69)]
    {
        let (truth, lie) = fork(at, views, more);
        for seed in 0..6 {
            let mut world = divided(seed, &truth, &lie);
            world.pin = pin(&truth, pinned);
            let new = world.join();
            world.finish(90);
            let place = format!("fork at {at}, pin {pinned}, seed {seed}");
            is_true(&world, new, &truth, &place);
        }
    }
}

#[test]
fn a_pin_given_after_a_fork_was_followed_gives_up_its_steps_and_its_target() {
    for (more, seed) in [(0, 1), (2, 2), (2, 3)] {
        let (truth, lie) = fork(1, 5, more);
        let mut world = World::new(seed, &lie, 4);
        world.servers.iter_mut().for_each(|one| one.pace = 4_000);
        let new = world.join();
        let gathers = |world: &World| world.newcomers[new].machine.stage() == Stage::Gather;
        assert!(world.run(60, gathers));
        let followed = world.newcomers[new].disk.steps.len();
        assert_eq!(followed as u64, 1 + more, "the fork is on the disk");
        world.pin = pin(&truth, 4);
        world.newcomers[new].asked.clear();
        world.crash(new);
        assert_eq!(world.newcomers[new].machine.stage(), Stage::Walk);
        assert!(
            !world.run(20, gathers),
            "a target of a view before the pin is none"
        );
        for server in [0, 1, 2] {
            world.servers[server].ledger = truth.clone();
        }
        world
            .servers
            .iter_mut()
            .for_each(|one| one.pace = 1_000_000);
        world.finish(120);
        assert!(!takes_the_fork(&world, new, &lie));
        is_true(&world, new, &truth, &format!("{more} more, seed {seed}"));
    }
}

#[test]
fn steps_on_the_disk_that_lead_to_the_pin_are_not_walked_again() {
    let (truth, _) = fork(1, 5, 0);
    let mut world = World::new(1, &truth, 4);
    world.pin = pin(&truth, 4);
    let steps = truth.builder.steps[..2].to_vec();
    let new = world.join_with(Disk {
        steps,
        ..Disk::default()
    });
    assert_eq!(
        world.newcomers[new].machine.views().newest().view.id(),
        ViewId(0)
    );
    let is_led = world.run(5, |world| {
        world.newcomers[new].machine.views().newest().view.id() > ViewId(0)
    });
    assert!(is_led);
    assert_eq!(
        world.newcomers[new].machine.views().newest().view.id(),
        ViewId(2)
    );
    world.finish(30);
    is_true(&world, new, &truth, "two held");
}

#[test]
fn a_death_at_any_step_of_a_pinned_walk_changes_nothing() {
    let (truth, lie) = fork(1, 5, 2);
    for at in 1.. {
        let mut world = divided(at, &truth, &lie);
        world.pin = pin(&truth, 4);
        let new = world.join();
        world.run(60, |world| world.newcomers[new].inputs >= at);
        if world.newcomers[new].machine.stage() == Stage::Done {
            assert!(at > 40, "there were steps to die at");
            break;
        }
        world.crash(new);
        world.finish(120);
        is_true(&world, new, &truth, &format!("died at input {at}"));
    }
}

#[test]
fn a_guide_that_gives_a_step_at_a_time_and_slowly_holds_a_pinned_walk_for_its_time_alone() {
    let (truth, lie) = fork(1, 100, 99);
    let mut world = World::new(1, &truth, 4);
    let step = Shelf::step(&lie, ViewId(1)).expect("there are 100");
    world.servers[0].ledger = lie;
    world.servers[0].pace = step.len() as u64 * 4 / 3;
    world.twist(0, |saying| a_step_at_a_time(saying.answers.clone()));
    world.pin = pin(&truth, 99);
    (1..4).for_each(|other| world.servers[other].is_up = false);
    let new = world.join();
    world.run(1, |_| false);
    for other in 1..4 {
        world.servers[other].is_up = true;
        let id = world.servers[other].id;
        world.tell(new, Input::Command(Command::Connected(id)));
    }
    let begun = world.now;
    world.finish(60);
    assert!(world.now - begun < Span::from_ms(15_000));
    assert!(is_whole(&world.newcomers[new], &truth));
}

#[test]
fn a_pinned_walk_over_slow_links_arrives() {
    let ledger = Ledger::with_snapshot(60, 8, 512);
    let mut world = World::new(1, &ledger, 4);
    let way = (1..=60).map(|view| Shelf::step(&ledger, ViewId(view)).expect("there are 60"));
    let bytes: usize = way.map(|step| step.len()).sum();
    // The whole way takes twenty seconds.
    let pace = bytes as u64 / 20;
    world.servers.iter_mut().for_each(|one| one.pace = pace);
    world.pin = pin(&ledger, 60);
    let new = world.join();
    world.finish(150); // It was 423 while a stretch had a second for ever.
    assert!(is_whole(&world.newcomers[new], &ledger));
    assert!(banned(&world.newcomers[new]).is_empty());
}
