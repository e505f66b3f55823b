//! The estimator and the guard by themselves.

use super::super::guard::{Guard, Step};
use super::super::pace::Pace;
use super::*;

fn pace(first: u64) -> Pace {
    Pace::new(PaceOptions {
        first: Span::from_ms(first),
        least: Span::from_ms(10),
        most: Span::from_ms(10_000),
    })
}

fn at(ms: u64) -> Time {
    Time(ms * 1_000)
}

#[test]
fn a_timeout_decays_to_thrice_the_slowest_lap_of_ninety_nine() {
    let mut pace = pace(10_000);
    pace.begin(at(0));
    for step in 1..=300 {
        // One lap in a hundred takes ten times as long.
        let lap = if step % 100 == 50 { 200 } else { 20 };
        pace.progress(at(step * 20), Some(Span::from_ms(lap)));
    }
    assert_eq!(pace.timeout(), Span::from_ms(60));
}

#[test]
fn heights_that_one_late_message_decides_at_once_are_slow_laps() {
    let mut pace = pace(1_000);
    pace.begin(at(0));
    for burst in 1..=100 {
        pace.progress(at(burst * 400), Some(Span::from_ms(400)));
        // The rest of the burst is applied one by one and tells nothing.
        (1..16).for_each(|i| pace.progress(at(burst * 400 + i), None));
    }
    assert!(pace.timeout() >= Span::from_ms(1_200), "{}", pace.timeout());
}

#[test]
fn a_regency_without_progress_doubles_and_a_false_alarm_is_learnt_from() {
    let mut pace = pace(100);
    pace.ended(at(0), Span(0), false);
    assert_eq!(pace.timeout(), Span::from_ms(200));
    pace.begin(at(0));
    (1..=200).for_each(|i| pace.progress(at(i * 10), Some(Span::from_ms(10))));
    assert_eq!(pace.timeout(), Span::from_ms(30));
    // Twice in a hundred laps the leader is replaced although it was only slow.
    for _ in 0..2 {
        pace.begin(at(5_000));
        pace.progress(at(5_010), Some(Span::from_ms(10)));
        pace.ended(at(5_310), Span(0), false);
    }
    assert!(pace.timeout() >= Span::from_ms(900), "{}", pace.timeout());
}

#[test]
fn who_was_cut_off_does_not_take_its_absence_for_a_slow_leader() {
    let mut pace = pace(100);
    pace.begin(at(0));
    pace.progress(at(20_000), None);
    pace.progress(at(20_010), Some(Span::from_ms(10)));
    assert!(pace.timeout() <= Span::from_ms(100), "{}", pace.timeout());
}

#[test]
fn leaders_that_are_killed_one_after_the_other_are_waited_for_no_longer_each_time() {
    let mut pace = pace(100);
    let mut now = 0;
    for _ in 0..20 {
        pace.begin(at(now));
        (1..=20).for_each(|i| pace.progress(at(now + i * 10), Some(Span::from_ms(10))));
        now += 200 + pace.timeout().0 / 1_000;
        assert!(pace.timeout() <= Span::from_ms(30), "{}", pace.timeout());
        pace.ended(at(now), Span(0), true);
    }
}

#[test]
fn a_change_that_took_long_makes_the_next_timeout_long_within_bounds() {
    let mut pace = pace(100);
    pace.ended(at(0), Span::from_ms(100), false);
    assert_eq!(pace.timeout(), Span::from_ms(800));
    pace.ended(at(0), Span::from_ms(60_000), false);
    assert_eq!(pace.timeout(), Span::from_ms(10_000));
}

#[test]
fn who_has_seen_slower_laps_waits_longer_than_what_was_agreed() {
    let mut pace = pace(1_000);
    pace.begin(at(0));
    (1..=100).for_each(|i| pace.progress(at(i * 300), Some(Span::from_ms(300))));
    pace.adopt(50_000);
    assert!(pace.timeout() >= Span::from_ms(900), "{}", pace.timeout());
    pace.adopt(5_000_000);
    assert_eq!(pace.timeout(), Span::from_ms(5_000));
}

#[test]
fn the_guard_compares_only_leaders_behind_whom_work_stood_all_the_time() {
    let mut guard = Guard::new(4);
    let step = |ordered, oldest| Step {
        ordered,
        lap: Span::from_ms(10),
        oldest: Span::from_ms(oldest),
        timeout: Span::from_ms(100),
    };
    let mut now = 0;
    let mut slow = |regency, ordered, oldest, rounds| {
        let mut complaints = 0;
        for _ in 0..rounds {
            now += 10;
            complaints +=
                u32::from(guard.is_slow(at(now), Regency(regency), &step(ordered, oldest)));
        }
        complaints
    };
    assert_eq!(slow(0, 100, 500, 400), 0, "alone it is the best");
    assert_eq!(slow(1, 10, 15, 4_000), 0, "little is asked of it");
    assert_eq!(slow(1, 90, 500, 4_000), 0, "nine tenths are enough");
    assert_eq!(slow(2, 50, 500, 100), 1, "half is not");
    // Intervals of 80, 160, 320 … rounds: few complaints in whatever time.
    assert!(slow(2, 50, 500, 10_000) <= 7);
    assert_eq!(
        slow(9, 50, 500, 10_000),
        0,
        "the best of long ago is forgotten"
    );
}

/// Time from a leader's death until the others have replaced it, with links that do `links`.
fn outage(links: impl Fn(&mut World, usize)) -> Span {
    let mut world = World::new(4, 11);
    world.run_until(Height(60));
    let least = options().pace.least;
    assert!(world.nodes.iter().all(|node| node.timeout() == least));
    let leader = world.nodes[0].regency().1.index();
    while !world.wires.is_empty() {
        world.step(); // Everybody stands at the same height.
    }
    world.down.insert(leader);
    let start = world.now;
    let alive: Vec<usize> = (0..4).filter(|i| *i != leader).collect();
    loop {
        links(&mut world, leader);
        alive.iter().for_each(|i| world.tell_work(*i, true));
        while !world.wires.is_empty() {
            world.step();
        }
        let regencies = alive.iter().map(|i| world.nodes[*i].regency().0);
        if regencies.min() > Some(Regency(0)) {
            break;
        }
        world.step(); // Nothing is on its way: time goes on.
    }
    world.now - start
}

#[test]
fn a_leader_to_which_no_link_stands_is_given_half_the_time() {
    let least = options().pace.least;
    let silent = outage(|_, _| {});
    assert!(silent >= least, "{silent:?}");
    let lost = outage(|world, leader| world.link(leader, false));
    assert!(lost >= Span(least.0 / 2), "{lost:?}");
    assert!(lost <= Span(least.0 / 4 * 3), "{lost:?}");
}

#[test]
fn a_leader_that_lets_its_links_flap_gains_no_time() {
    let silent = outage(|_, _| {});
    let flapping = outage(|world, leader| {
        world.link(leader, false);
        world.link(leader, true);
    });
    assert!(flapping <= silent, "{flapping:?} against {silent:?}");
}
