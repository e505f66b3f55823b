//! Worlds with checkpoints: they prune, and who is too far behind fetches a snapshot.

use super::*;
use crate::bootstrap::Ask;
use crate::committee::{Nonce, ViewId};
use crate::sim::doom::Regained;

fn checkpoints(seed: u64, faults: &str, every: u32) -> Options {
    Options {
        checkpoint_blocks: every,
        steps: 100_000,
        ..world(seed, faults)
    }
}

#[test]
fn checkpoints_prune_where_nothing_goes_wrong() {
    for seed in 0..3 {
        let options = Options {
            membership: Some(0),
            ..checkpoints(seed, "none", 20)
        };
        let report = assert_clean(&options);
        assert!(report.blocks > 40, "seed {seed}");
    }
}

#[test]
fn worlds_with_checkpoints_and_faults_order_and_settle() {
    for seed in [1, 2, 12] {
        assert_clean(&checkpoints(seed, "all", 20));
    }
}

#[test]
fn wiped_members_fetch_a_snapshot_beside_liars() {
    let mut fetched = 0;
    for seed in [3, 5, 15, 29, 33] {
        let options = Options {
            membership: Some(12),
            rotation_blocks: 40,
            steps: 200_000,
            ..checkpoints(seed, "all", 8 + seed as u32 % 3 * 12)
        };
        let report = assert_clean(&options);
        fetched += report.faults.get("snapshots fetched").unwrap_or(&0);
    }
    assert!(fetched > 0, "somebody fetched one");
}

#[test]
fn laggards_take_shorter_ways_and_villains_lead_nobody_astray() {
    let mut times = std::collections::BTreeMap::new();
    // Worlds that are short and in which somebody lags so far.
    for seed in [301, 355] {
        let report = assert_clean(&Options {
            membership: Some(12),
            steps: 200_000,
            ..checkpoints(seed, "all", 20)
        });
        for (name, count) in report.faults {
            *times.entry(name).or_insert(0) += count;
        }
    }
    let count = |name| times.get(name).copied().unwrap_or_default();
    assert!(count("shorter ways taken") > 0, "{times:?}");
    let of_none = count("lies: shorter ways that are none");
    let to_all = count("lies: shorter ways to who lacks nothing");
    assert!(of_none > 0 && to_all > 0, "{times:?}");
}

/// A world to which sixteen newcomers come at once.
fn crowded(seed: u64, faults: &str) -> Options {
    Options {
        joiners: Some(16),
        ..checkpoints(seed, faults, 8)
    }
}

/// Everybody of the crowd that came.
fn crowd(world: &World) -> std::ops::Range<usize> {
    world.crowd.present.saturating_sub(16)..world.crowd.present
}

#[test]
fn sixteen_newcomers_at_once_go_on_from_a_snapshot_and_burden_every_server_alike() {
    let mut world = World::new(&crowded(7, "none"));
    let before = world.crowd.present;
    world.begin();
    let mut most = 0;
    let is_whole = |world: &World, index: usize| {
        let member = &world.members[index];
        member.running.is_some() && member.disk.shelf().base() > Height(0)
    };
    for _ in 0..2_000 {
        world.run_for(100_000);
        let questing = world.members.iter().filter(|one| one.quest.is_some());
        most = most.max(questing.count());
        let has_come = world.crowd.present == before + 16;
        if has_come && crowd(&world).all(|index| is_whole(&world, index)) {
            break;
        }
    }
    assert_settles(&mut world);
    let all: Vec<bool> = crowd(&world).map(|index| is_whole(&world, index)).collect();
    assert_eq!(all, [true; 16]);
    let served: Vec<u64> = world.members.iter().map(|one| one.served).collect();
    let text = format!("{most} at once, {served:?}");
    assert_eq!(most, 16, "{text}");
    let founders = &served[..4];
    let mean = founders.iter().sum::<u64>() as f64 / 4.0;
    let highest = founders.iter().max().copied().unwrap_or_default() as f64;
    assert!(highest <= 1.3 * mean, "{text}");
    let shared: u64 = crowd(&world).map(|index| world.members[index].served).sum();
    assert!(shared > 0, "newcomers serve each other: {text}");
}

#[test]
fn newcomers_that_go_down_at_every_step_resume() {
    let mut lost = std::collections::BTreeMap::new();
    for seed in [0, 3, 5] {
        let report = assert_clean(&Options {
            steps: 30_000,
            ..crowded(seed, "doom,torn")
        });
        for (name, times) in report.faults {
            if name.starts_with("newcomers down at") {
                *lost.entry(name).or_insert(0) += times;
            }
        }
    }
    assert_eq!(lost.len(), 8, "{lost:?}");
}

#[test]
fn a_newcomer_that_asks_for_what_its_disk_gave_back_is_found() {
    let mut world = World::new(&crowded(7, "none"));
    world.begin();
    let has_some = |world: &World, index: usize| {
        let member = &world.members[index];
        let held = member.disk.shelf().to_go_on();
        member.gathers().is_some() && held.segments.len() > 1
    };
    let newcomer = (0..20_000).find_map(|_| {
        world.run_for(10_000);
        crowd(&world).find(|index| has_some(&world, *index))
    });
    let member = &world.members[newcomer.expect("somebody gathers")];
    let gathering = member
        .quest
        .as_ref()
        .and_then(|one| one.machine.gathering());
    let held = member.disk.shelf().to_go_on();
    let mut regained = Regained::of(&held);
    let manifest = gathering
        .map(|one| one.taken().manifest)
        .expect("it gathers");
    let whole = gathering
        .and_then(|one| one.manifest())
        .expect("it has segments");
    let (mut has, mut lacks) = (0, 0);
    for (index, leaf) in (0..).zip(whole.leaves()) {
        let ask = Ask::Segments(manifest, vec![index]);
        let is_again = regained.judge_ask(&ask, gathering).is_some();
        assert_eq!(is_again, held.segments.contains(&leaf.digest));
        *[&mut lacks, &mut has][usize::from(is_again)] += 1;
    }
    assert!(has > 1 && lacks > 0, "{has} and {lacks}");
    let anchor = Ask::Anchor(ViewId(0), Nonce([0; 32]));
    for ask in [anchor, Ask::Page(manifest, 0)] {
        assert!(regained.judge_ask(&ask, gathering).is_some(), "{ask:?}");
    }
    regained.gone();
    assert!(
        regained
            .judge_ask(&Ask::Page(manifest, 0), gathering)
            .is_none()
    );
}

#[test]
fn an_idle_chain_without_a_quorum_offers_no_fresh_block_and_that_is_found() {
    let mut world = World::new(&Options {
        membership: Some(0),
        ..checkpoints(4, "none", 8)
    });
    world.begin();
    world.run_for(60_000_000);
    assert_settles(&mut world);
    let mut dice = Dice::new(4, 0);
    assert!(world.lose_power(0, &mut dice) && world.lose_power(1, &mut dice));
    world.judge_idle();
    let broken: Vec<_> = { world.oracle.broken.iter() }
        .map(|one| one.oracle)
        .collect();
    assert_eq!(broken, ["anchor"]);
}

#[cfg(feature = "plants")]
#[test]
fn planted_bugs_of_newcomers_break_a_rule_within_a_few_worlds() {
    let plants = [Plant::AnySegment, Plant::AnyAnchor];
    // Where the rarer of them comes soon (docs/figures.md).
    let options = Options {
        seed: 20,
        steps: 15_000,
        ..Options::default()
    };
    assert_found(&options, &plants);
}

#[cfg(feature = "plants")]
#[test]
fn planted_bugs_of_shorter_ways_break_a_rule_within_a_few_worlds() {
    let plants = [Plant::LoneHint, Plant::PassedHint];
    // Where the rarer of them shows (docs/figures.md).
    let options = Options {
        seed: 119,
        steps: 15_000,
        ..Options::default()
    };
    assert_found(&options, &plants);
}

#[cfg(feature = "plants")]
fn assert_found(options: &Options, plants: &[Plant]) {
    let hunt = hunt(options, plants, 8, 2, &|_| {});
    let missed: Vec<_> = hunt.plants.iter().filter(|prey| !prey.found).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
