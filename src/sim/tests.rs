//! Whole worlds, small and large.

mod checkpoints;
mod forgotten;
mod handover;

use super::dice::Dice;
use super::net::Spread;
use super::queue::Happening;
use super::setting::Setting;
use super::*;
use crate::committee::Height;
use crate::consortium::Command;
use crate::machine::{Input, Span};

fn world(seed: u64, faults: &str) -> Options {
    Options {
        seed,
        members: 4,
        steps: 4_000,
        membership: Some(0),
        faults: faults.parse().expect("known faults"),
        ..Options::default()
    }
}

fn assert_clean(options: &Options) -> Report {
    let report = run(options);
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
    assert!(report.blocks > 0, "no chain: {report:?}");
    report
}

/// A world whose members are up and order, without clients of its own any more.
fn warmed(seed: u64) -> World {
    let mut world = World::new(&world(seed, "none"));
    world.begin();
    world.run_for(3_000_000);
    for _ in 0..20 {
        if world.oracle.height() <= Height(3) {
            world.run_for(3_000_000);
        }
    }
    assert!(world.oracle.height() > Height(3), "it orders");
    world
}

pub(super) fn assert_settles(world: &mut World) {
    world.calm();
    world.settle();
    let broken = &world.oracle.broken;
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn quiet_worlds_order_and_settle_without_a_regency_change_where_delays_are_steady() {
    let quiet = (0..).map(|seed| world(seed, "none"));
    let is_steady = |options: &Options| {
        let setting = Setting::draw(options);
        let (weather, patience) = (setting.weather, setting.pace().first);
        let is_slow = weather.spread != Spread::Constant || weather.delay_us >= 10_000;
        !is_slow && patience >= Span::from_ms(200)
    };
    for options in quiet.filter(is_steady).take(3) {
        let report = assert_clean(&options);
        assert_eq!(report.regencies, 0, "seed {}", options.seed);
    }
}

#[test]
fn two_dozen_short_worlds_of_every_kind_break_no_rule() {
    let options = Options {
        steps: 1_500,
        ..world(1_000, "all")
    };
    let summary = run_many(&options, 24, 2, &|_| {});
    assert!(summary.violations.is_empty(), "{:#?}", summary.violations);
}

#[test]
fn worlds_with_bad_links_order_and_settle() {
    for seed in 10..16 {
        assert_clean(&world(seed, "loss,duplicate,reorder"));
    }
}

#[test]
fn worlds_with_bad_disks_and_clocks_order_and_settle() {
    for seed in [61, 62, 63, 69] {
        let disks = "crash,torn,sync-fails,bit-flip,full,slow-disk,jump,drift";
        assert_clean(&world(seed, disks));
    }
}

#[test]
fn worlds_with_partitions_order_and_settle() {
    for seed in 20..26 {
        assert_clean(&world(
            seed,
            "partition,one-way,isolate,flap,slow-link,clog",
        ));
    }
}

#[test]
fn worlds_with_ambushes_order_and_settle_beside_a_schemer_and_without() {
    let mut sprung = 0;
    for (seed, villain) in [
        (14, None),
        (15, None),
        (16, Some("schemer")),
        (17, Some("schemer")),
    ] {
        let report = assert_clean(&Options {
            steps: 20_000,
            villain: villain.map(|name| name.parse().expect("a villain")),
            ..world(seed, "ambush")
        });
        sprung += report.faults.get("sprung ambushes").copied().unwrap_or(0);
    }
    assert!(sprung > 4, "{sprung} members were cut off");
}

#[test]
fn worlds_with_restarts_and_crashes_order_and_settle() {
    for seed in 30..36 {
        assert_clean(&world(seed, "restart,crash,pause,crash-loop,all-down,torn"));
    }
}

#[test]
fn worlds_with_everything_order_and_settle() {
    for seed in 40..46 {
        assert_clean(&world(seed, "all"));
    }
}

#[test]
fn members_with_an_older_disk_sign_nothing_that_contradicts_them_and_follow() {
    let mut lapses = 0;
    for seed in 60..66 {
        let mut world = warmed(seed);
        for victim in [1, 1, 2] {
            let is_second = victim == 2;
            assert_eq!(
                world.roll_back(victim, &mut Dice::new(seed, 0)),
                !is_second,
                "seed {seed}: f is one"
            );
            world.run_for(1_500_000);
        }
        assert_settles(&mut world);
        let wiped = world.overviews().filter(|at| at.state == "wiped").count();
        assert!(wiped <= 1, "seed {seed}");
        lapses += wiped;
    }
    assert!(
        lapses >= 2,
        "an older disk mostly lacks a vote, not in {lapses} of 3"
    );
}

#[test]
fn committees_of_one_and_of_seven_order_and_settle() {
    for (seed, members) in [(50, 1), (51, 7), (52, 2)] {
        let options = Options {
            members,
            ..world(seed, "all")
        };
        assert_clean(&options);
    }
}

#[test]
fn one_seed_is_one_history() {
    for seed in [47, 49] {
        let (first, second) = (run(&world(seed, "all")), run(&world(seed, "all")));
        assert_eq!(first.audit, second.audit);
        assert_eq!(first.steps, second.steps);
        assert_ne!(first.audit, run(&world(seed + 1, "all")).audit);
    }
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_follows_when_it_returns() {
    let mut world = warmed(3);
    let leader = world.leader().expect("somebody leads");
    let side: Vec<bool> = (0..world.members.len())
        .map(|member| member == leader)
        .collect();
    let before = world.oracle.height();
    world.cut(&side, false, true);
    world.run_for(20_000_000);
    // On links as slow as these a regency may end early, and its turn may come to the absent one.
    for _ in 0..40 {
        if world.leader() != Some(leader) {
            break;
        }
        world.run_for(500_000);
    }
    let stand: Vec<_> = world
        .overviews()
        .map(|at| {
            (
                at.role,
                at.state,
                at.regency_state,
                at.regency,
                at.height,
                at.pool.has_work,
            )
        })
        .collect();
    assert_ne!(world.leader(), Some(leader), "{stand:?}");
    assert!(world.oracle.height() > before.plus(3), "the others go on");
    world.cut(&side, false, false);
    assert_settles(&mut world);
    let regencies: Vec<_> = world.overviews().map(|at| at.regency).collect();
    let seats = &regencies[..4];
    assert!(
        seats.iter().all(|regency| *regency == seats[0]),
        "{seats:?}"
    );
}

#[test]
fn one_member_and_then_all_restart_from_their_logs() {
    let mut world = warmed(5);
    world.restart(1, 1);
    world.run_for(2_000_000);
    let mut dice = Dice::new(5, 0);
    for member in 0..world.members.len() {
        world.lose_power(member, &mut dice);
    }
    let before = world.oracle.certified;
    assert!(before > Height(0), "something was promised");
    for member in 0..world.members.len() {
        world.start(member);
    }
    world.run_for(5_000_000);
    assert!(world.oracle.height() > before, "the chain goes on");
    assert_settles(&mut world);
}

#[cfg(feature = "plants")]
#[test]
fn an_application_that_errs_at_one_member_is_found() {
    let report = run(&Options {
        plant: Some(Plant::OwnResults),
        ..world(8, "none")
    });
    let first = report.violations.first().expect("the planted bug is found");
    assert_eq!(first.oracle, "agreement");
    assert!(first.replay.contains("--seed 8"), "{first:?}");
}

#[cfg(feature = "plants")]
#[test]
fn a_violation_shrinks_to_a_lesser_world_that_shows_it_too() {
    let options = Options {
        plant: Some(Plant::OwnResults),
        ..world(8, "crash,loss,drift")
    };
    let first = run(&options).violations.remove(0);
    let least = shrink(&options, &first.oracle, &mut |_| {});
    assert!(least.steps < options.steps, "{least:?}");
    assert_eq!(least.faults, Faults::none());
    assert_eq!(run(&least).violations[0].oracle, first.oracle);
}

#[test]
fn many_runs_sum_up_in_the_order_of_seeds_on_any_number_of_threads() {
    let options = Options {
        steps: 1_000,
        ..world(60, "all")
    };
    let summary = run_many(&options, 4, 2, &|_| {});
    let alone = run_many(&options, 4, 1, &|_| {});
    assert_eq!(summary.blocks, alone.blocks);
    assert_eq!((summary.seeds, summary.first, summary.cores), (4, 60, 2));
    assert_eq!(summary.violations, alone.violations);
}

#[test]
fn faults_read_back_as_they_are_written() {
    for text in ["none", "all", "loss", "torn,drift", "crash,villains"] {
        assert_eq!(text.parse::<Faults>().expect("known").to_string(), text);
    }
    assert!("bogus".parse::<Faults>().is_err());
}

/// Runs what the environment asks for and prints it.
#[test]
#[ignore = "explores; run by hand with SIM_FIRST, _COUNT, _STEPS, _MEMBERS, _FAULTS, _VILLAIN"]
fn explore() {
    let number = |name: &str, or: u64| {
        std::env::var(name).map_or(or, |text| text.parse().expect("a number"))
    };
    let faults = std::env::var("SIM_FAULTS").unwrap_or("all".into());
    let options = Options {
        seed: number("SIM_FIRST", 0),
        members: usize::try_from(number("SIM_MEMBERS", 4)).expect("a number"),
        steps: number("SIM_STEPS", 6_000),
        faults: faults.parse().expect("faults"),
        villain: std::env::var("SIM_VILLAIN")
            .ok()
            .map(|name| name.parse().expect("a villain")),
        ..Options::default()
    };
    let summary = run_many(&options, number("SIM_COUNT", 10), 2, &|report| {
        println!(
            "{} steps {} sim {:.1} wall {:.2} blocks {} reg {} {:?}",
            report.seed,
            report.steps,
            report.simulated_seconds,
            report.wall_seconds,
            report.blocks,
            report.regencies,
            report.faults
        );
        for violation in &report.violations {
            println!("   {}: {}", violation.oracle, violation.what);
        }
    });
    println!(
        "{} blocks, {:.1} s simulated in {:.1} s",
        summary.blocks, summary.simulated_seconds, summary.wall_seconds
    );
}

/// BFT-SMaRt came to a livelock after one node was cut off and came back.
#[test]
fn each_member_cut_off_in_turn_stops_nobody_else() {
    let mut world = warmed(3);
    for alone in 0..4 {
        let before = world.oracle.height();
        let side: Vec<bool> = (0..world.members.len()).map(|m| m == alone).collect();
        world.cut(&side, false, true);
        world.run_for(60_000_000);
        let height = world.oracle.height();
        assert!(
            height > before.plus(3),
            "{before} to {height} without {alone}"
        );
        world.cut(&side, false, false);
        world.run_for(2_000_000);
    }
    assert_settles(&mut world);
}

/// TigerBeetle met a storm of view changes behind a replica that was heard and heard nothing.
#[test]
fn a_member_that_is_heard_and_hears_nothing_stops_nobody() {
    for deaf in 0..4 {
        let mut world = warmed(4);
        for other in (0..world.members.len()).filter(|other| *other != deaf) {
            world.net.cut(other, deaf, true);
        }
        let mut changes = Vec::new();
        for _ in 0..4 {
            let (height, regency) = (world.oracle.height(), world.counts.regencies);
            world.run_for(45_000_000);
            assert!(
                world.oracle.height() > height.plus(3),
                "it orders beside {deaf}"
            );
            changes.push(world.counts.regencies - regency);
        }
        assert!(changes[3] <= 1, "regencies beside {deaf}: {changes:?}");
        assert_settles(&mut world);
    }
}

#[cfg(feature = "plants")]
#[test]
fn ten_of_the_planted_bugs_break_a_rule_within_five_short_worlds() {
    let quick = [
        Plant::SmallQuorum,
        Plant::BlindAccept,
        Plant::LockLost,
        Plant::RegencyForgotten,
        Plant::WriteTwice,
        Plant::EagerJoin,
        Plant::SequenceForgotten,
        Plant::ExpiryIgnored,
        Plant::OwnResults,
        Plant::EagerPersist,
    ];
    let options = Options {
        steps: 80_000,
        ..Options::default()
    };
    let hunt = hunt(&options, &quick, 5, 2, &|_| {});
    let missed: Vec<_> = hunt.plants.iter().filter(|prey| !prey.found).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// Cuts every link of `alone`, or mends them; where it happens in silence nobody learns of it.
fn isolate(world: &mut World, alone: usize, in_silence: bool, is_cut: bool) {
    for other in (0..world.members.len()).filter(|other| *other != alone) {
        for (from, to) in [(alone, other), (other, alone)] {
            if in_silence {
                world.net.cut(from, to, is_cut);
            } else {
                world.cut_link(from, to, is_cut);
            }
        }
    }
}

/// What one member alone admits while the leader stands still is committed within so long, in
/// microseconds.
fn outcome_of_lone_work(seed: u64, in_silence: bool, is_origin_cut: bool) -> u64 {
    const PAUSE_US: u64 = 90_000_000;
    let mut world = warmed(seed);
    world.is_calm = true; // No more clients: nobody else has any work.
    world.run_for(20_000_000);
    let leader = world.leader().expect("somebody leads");
    let origin = (leader + 2) % 4;
    world.pause(leader, PAUSE_US);
    if is_origin_cut {
        isolate(&mut world, origin, in_silence, true);
        world.run_for(10_000);
    }
    let probe = world.clients.probe(world.oracle.height());
    let names = probe.1.transactions.iter();
    let names: Vec<_> = names.map(|t| (probe.1.client, t.sequence)).collect();
    world.input(origin, Input::Command(Command::Submit(probe)));
    if is_origin_cut {
        world.run_for(3_000_000);
        isolate(&mut world, origin, in_silence, false);
    }
    let start = world.now;
    for _ in 0..1_000 {
        if names.iter().all(|name| world.oracle.is_answered(name)) {
            return world.now - start;
        }
        world.run_for(100_000);
    }
    let at: Vec<_> = world.overviews().collect();
    panic!("seed {seed}: what {origin} admitted waits for {leader}: {at:#?}");
}

#[test]
fn work_that_one_member_alone_admitted_beside_a_leader_that_stands_still_is_committed() {
    for seed in 70..74 {
        for (in_silence, is_origin_cut) in [(false, false), (false, true), (true, true)] {
            let took = outcome_of_lone_work(seed, in_silence, is_origin_cut);
            println!("{seed} {in_silence} {is_origin_cut}: {took}");
            assert!(
                took < 30_000_000,
                "{seed} {in_silence} {is_origin_cut}: {took}"
            );
        }
    }
}

/// L5: regencies stop, whatever share of a leader's links flaps.
#[test]
fn links_of_leaders_that_flap_for_minutes_change_few_regencies_and_then_none() {
    for (seed, share) in [(80, 1), (81, 2), (82, 3), (83, 3)] {
        let mut world = warmed(seed);
        let mut dice = Dice::new(seed, 9);
        let mut changes = Vec::new();
        for _ in 0..4 {
            let (before, height) = (world.counts.regencies, world.oracle.height());
            let end = world.now + 60_000_000;
            while world.now < end {
                // Whoever leads loses so many of its links at once, again and again.
                let one = world.leader().unwrap_or_default();
                let lasts = dice.within(20_000, 900_000);
                for other in (0..4).filter(|other| *other != one).take(share) {
                    world.cut_link(one, other, true);
                    world.later(lasts, Happening::Cut(one, other, false));
                }
                world.run_for(lasts + dice.within(50_000, 900_000));
            }
            assert!(world.oracle.height() > height, "seed {seed}: it orders");
            changes.push(world.counts.regencies - before);
        }
        assert!(changes.iter().sum::<u64>() <= 6, "seed {seed}: {changes:?}");
        assert!(changes[3] <= 1, "seed {seed}: {changes:?}");
        let before = world.counts.regencies;
        world.run_for(60_000_000);
        assert_eq!(world.counts.regencies, before, "seed {seed}: calm links");
        assert_settles(&mut world);
    }
}

#[cfg(feature = "plants")]
#[test]
fn planted_bugs_that_need_the_network_are_found_where_it_does_nothing_else() {
    let subtle = [
        Plant::LowestLock,
        Plant::UnprovedLock,
        Plant::StopDataReused,
        Plant::DecisionProvesBelow,
    ];
    let options = Options {
        seed: 300,
        steps: 60_000,
        faults: Faults::none().with(Fault::Ambush),
        ..Options::default()
    };
    let hunt = hunt(&options, &subtle, 24, 2, &|_| {});
    let missed: Vec<_> = hunt.plants.iter().filter(|prey| !prey.found).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn views_rotate_where_nothing_goes_wrong() {
    for seed in 90..93 {
        let report = assert_clean(&Options {
            seed,
            steps: 20_000,
            faults: Faults::none(),
            rotation_blocks: 8,
            ..Options::default()
        });
        assert!(report.views > 3, "seed {seed}: {} views", report.views);
    }
}

#[cfg(feature = "threshold")]
#[test]
fn samples_are_drawn_where_nothing_goes_wrong() {
    let report = assert_clean(&Options {
        seed: 90,
        members: 6,
        steps: 20_000,
        faults: Faults::none(),
        sample: true,
        ..Options::default()
    });
    assert!(report.views > 3, "{} views", report.views);
}
