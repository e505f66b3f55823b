//! Links that fall and stand again, and seats that are linked and cannot vote.

use super::super::presence::Presence;
use super::edges::{Alone, REGENCY_STATES, seat};
use super::*;

const LEADS: [bool; 2] = [true, false];

fn link(world: &mut World, i: usize, other: usize, stands: bool) {
    let command = Command::Connected(seat(other), stands);
    world.input(i, Input::Command(command));
}

fn due(world: &World, i: usize) -> Option<Time> {
    let mut timers = world.timers.keys();
    let is_progress = |timer: &Timer| matches!(timer, Timer::Progress(_));
    let due = timers.find(|(_, node, timer)| *node == i && is_progress(timer));
    due.map(|(at, ..)| *at)
}

#[test]
fn links_to_the_leader_that_fall_cut_what_is_left_short_in_every_state_and_give_nothing_back() {
    for (state, leads) in REGENCY_STATES.iter().flat_map(|s| LEADS.map(|l| (*s, l))) {
        let mut alone = Alone::in_state(state, leads);
        let (world, own) = (&mut alone.world, alone.own);
        let leader = world.nodes[own].regency().1.index();
        if leader == own {
            continue; // Nobody is cut off from himself.
        }
        world.tell_work(own, true);
        let quarter = Span(world.nodes[own].timeout().0.div_ceil(4));
        let latest = world.now + quarter;
        link(world, own, leader, false);
        assert_eq!(due(world, own), Some(latest), "{state} {leads}");
        world.now = world.now + Span(quarter.0 / 2);
        for stands in [true, false, true] {
            link(world, own, leader, stands);
            assert_eq!(due(world, own), Some(latest), "{state} {leads}");
        }
    }
}

#[test]
fn links_to_others_than_the_leader_change_no_timer() {
    let mut world = World::new(4, 3);
    world.run_until(Height(5));
    let leader = world.nodes[0].regency().1.index();
    let (own, other) = ((leader + 1) % 4, (leader + 2) % 4);
    world.tell_work(own, true);
    let before = due(&world, own);
    assert!(before.is_some());
    link(&mut world, own, other, false);
    assert_eq!(due(&world, own), before);
}

#[test]
fn who_signs_nothing_any_more_arms_no_timer_when_links_fall() {
    let mut world = World::new(4, 3);
    world.run_until(Height(20));
    let leader = world.nodes[0].regency().1.index();
    let own = (leader + 1) % 4;
    wipe(&mut world, own);
    link(&mut world, own, leader, false);
    assert_eq!(due(&world, own), None);
}

/// A member's log is rolled back, which it learns from the others.
fn wipe(world: &mut World, i: usize) {
    let half = world.logs[i].len() / 2;
    world.logs[i].truncate(half);
    world.cut.insert(i);
    world.restart(i);
    for _ in 0..20_000 {
        world.work();
        world.step();
        if world.nodes[i].state() == "wiped" {
            return;
        }
    }
    panic!("{i} is {}", world.nodes[i].state());
}

#[test]
fn leaders_that_were_lost_before_their_turn_are_given_half_the_time() {
    let spent = |is_lost: bool| {
        let mut world = World::new(7, 9);
        world.run_until(Height(60));
        let first = world.nodes[0].regency().0;
        let start = world.now;
        let gone = [first, first.next()].map(|regency| world.view.leader(regency).index());
        world.down.extend(gone);
        gone.iter()
            .filter(|_| is_lost)
            .for_each(|i| world.link(*i, false));
        let top = world.nodes.iter().map(Ordering::decided).max();
        world.run_until(top.unwrap_or_default().plus(3));
        assert!(world.regencies >= first.0 + 2);
        world.now - start
    };
    let (silent, lost) = (spent(false), spent(true));
    assert!(lost.0 * 4 <= silent.0 * 3, "{lost:?} against {silent:?}");
}

#[test]
fn a_seat_counts_from_its_first_word_as_a_voter_until_its_links_fall_or_it_starts() {
    let world = World::new(4, 1);
    let status = |is_question| {
        let mut status = world.nodes[0].core.status(is_question);
        status.decided = Height(1);
        Message::Status(status)
    };
    let stands_since = |acts: &[(u64, Option<Message>)]| {
        let mut presence = Presence::new(3);
        presence.count(seat(0), true, Time(1));
        presence.heard(seat(1), &status(false), Time(2));
        for (at, message) in acts {
            match message {
                Some(message) => presence.heard(seat(2), message, Time(*at)),
                None => presence.link(seat(2), false),
            }
        }
        presence.short_until(Time(9))
    };
    let asks = Message::Recall(Recall::Ask(7));
    assert_eq!(stands_since(&[]), Time(9));
    assert_eq!(stands_since(&[(3, Some(status(true)))]), Time(9));
    assert_eq!(stands_since(&[(3, Some(status(false)))]), Time(3));
    let answer = Some(status(false));
    assert_eq!(stands_since(&[(3, answer.clone()), (4, None)]), Time(9));
    assert_eq!(
        stands_since(&[(3, answer.clone()), (4, Some(asks.clone()))]),
        Time(9)
    );
    assert_eq!(
        stands_since(&[(3, answer.clone()), (4, Some(asks)), (5, answer)]),
        Time(5)
    );
}

#[test]
fn the_wait_beside_a_wiped_seat_for_a_third_that_can_vote_is_no_pace_of_the_leader() {
    for seed in 0..5 {
        let mut world = World::new(4, seed);
        world.run_until(Height(60));
        let leader = world.nodes[0].regency().1.index();
        let (wiped, absent) = ((leader + 1) % 4, (leader + 2) % 4);
        wipe(&mut world, wiped);
        // In its second life it knows at once, and asks nobody.
        world.restart(wiped);
        world.link(wiped, false);
        world.link(wiped, true);
        let top = world.nodes[leader].decided();
        for _ in 0..20_000 {
            world.work();
            world.step();
            if world.nodes[leader].decided() >= top.plus(30) {
                break;
            }
        }
        world.down.insert(absent);
        world.link(absent, false);
        let (start, minute) = (world.now, Span::from_ms(60_000));
        while world.now - start < minute {
            world.work();
            world.step();
        }
        world.restart(absent);
        world.link(absent, true);
        for _ in 0..400 {
            world.work();
            world.step();
        }
        for i in [leader, (leader + 3) % 4] {
            let timeout = world.nodes[i].timeout();
            let most = Span(options().pace.first.0 * 4);
            assert!(timeout <= most, "seed {seed}: member {i} waits {timeout}");
        }
    }
}

/// Votes and payloads of one height in many regencies, as a log holds them.
#[test]
fn a_restart_keeps_the_bytes_of_its_lock_among_those_of_many_regencies() {
    let world = World::new(4, 1);
    let (height, view) = (Height(1), &world.view);
    let locked = payload(height, 1);
    let mut instance = instance::Instance::default();
    let mut voters: Vec<Voter> = (0..3)
        .map(|i| Voter::new(view, secret(i)).expect("a seat"))
        .collect();
    for voter in &mut voters {
        let written = voter.write(Regency(0), height, locked.digest);
        instance.write(written.expect("nothing was written").1);
    }
    let lock = instance.written(view, Regency(0)).expect("three of four");
    let mut voter = voters.remove(0);
    voter.accept(&lock).expect("a lock of its regency");
    let others = (2..20).map(|content| payload(height, content));
    let payloads = [locked.clone()].into_iter().chain(others);
    let resumed = Resumed {
        voter: Some(voter),
        certificate: None,
        applied: Height(0),
        payloads: payloads.map(|payload| (height, payload)).collect(),
        decisions: Vec::new(),
        is_fresh: false,
    };
    let node = Ordering::new(view.clone(), options(), resumed);
    assert!(node.has_payload(height, &locked.digest));
}

#[test]
fn a_progress_timer_that_is_short_puts_no_question_off() {
    let mut world = World::new(4, 3);
    world.run_until(Height(5));
    let own = world.nodes[0].regency().1.index();
    world.down.insert(own);
    world.run_until(Height(10));
    // Its halves end ten times before the questions are due again.
    world.options.pace = PaceOptions {
        first: Span::from_ms(20),
        least: Span::from_ms(20),
        most: Span::from_ms(20),
    };
    world.down.extend(0..4);
    world.restart(own);
    world.tell_work(own, true);
    let (mut asked, end) = (0, world.now + Span::from_ms(1_000));
    while world.now < end {
        let is_question = |(_, _, message): &(usize, usize, Message)| {
            matches!(message, Message::Recall(Recall::Ask(_)))
        };
        asked += world.wires.drain(..).filter(is_question).count();
        world.step();
    }
    assert!(
        asked > 9,
        "three at the start, and later ones as well: {asked}"
    );
}

#[test]
fn a_proposal_that_nobody_heard_of_is_given_to_those_who_answer_where_they_stand() {
    let mut world = World::new(4, 3);
    world.run_until(Height(5));
    for i in 0..4 {
        world.tell_work(i, false);
    }
    for _ in 0..5_000 {
        world.step();
    }
    let leader = world.nodes[0].regency().1.index();
    let (height, _) = world.nodes[leader].next_height().expect("it leads");
    // Whoever lacks a block certificate asks for it; here nobody has anything to ask for.
    for node in &mut world.nodes {
        let top = node.core.decided;
        let decision = node.core.instances.get(&top).and_then(|one| one.decision());
        let mut base = decision.expect("it was decided").clone();
        base.ballot.kind = Kind::Persist;
        node.core.base = Some(base);
        node.core.instances.clear();
    }
    for _ in 0..5_000 {
        world.step();
    }
    let lost = payload(height, 1);
    world.tell_work(leader, true);
    world.input(leader, Input::Command(Command::Propose(height, lost)));
    // All that the leader says of it is lost, and the others have nothing to wait for.
    world.wires.clear();
    for _ in 0..20_000 {
        world.step();
    }
    let least = world.nodes.iter().map(Ordering::decided).min();
    assert!(least >= Some(height), "{least:?} is below {height}");
}
