//! Everybody is honest: newcomers arrive, by the shortest way, and everybody carries a part.

use super::ledger::{Ledger, filler};
use super::world::*;
use crate::bootstrap::*;
use crate::machine::Input;

#[test]
fn a_newcomer_gathers_the_snapshot_from_four() {
    for seed in 0..8 {
        let ledger = Ledger::with_snapshot(3, 256, 4 << 10);
        let mut world = World::new(seed, &ledger, 4);
        let new = world.join();
        world.finish(60);
        let newcomer = &world.newcomers[new];
        assert!(is_whole(newcomer, &ledger), "seed {seed}");
        assert!(banned(newcomer).is_empty(), "seed {seed}");
        let tally = newcomer.machine.tally();
        assert_eq!(tally.bytes_needed, 256 << 12, "seed {seed}");
        assert_eq!(tally.bytes_received, tally.bytes_needed, "seed {seed}");
        let counts = asked_segments(&newcomer.asked);
        assert!(counts.values().all(|count| *count == 1), "seed {seed}");
        assert_eq!(newcomer.disk.steps, ledger.builder.steps, "seed {seed}");
    }
}

#[test]
fn no_server_sends_more_than_its_share() {
    for (servers, segments, bytes) in [(4, 256, 4096), (7, 256, 4096), (4, 40, 1024), (7, 70, 1024)]
    {
        for seed in 0..6 {
            let ledger = Ledger::with_snapshot(1, segments, bytes);
            let mut world = World::new(seed, &ledger, servers);
            world.join();
            world.finish(60);
            let sent: Vec<u64> = world.servers.iter().map(|one| one.sent).collect();
            let most = *sent.iter().max().expect("servers");
            let all: u64 = sent.iter().sum();
            let (most, mean) = (most as f64, all as f64 / servers as f64);
            assert!(most <= 1.3 * mean, "seed {seed}: {sent:?}");
        }
    }
}

#[test]
fn a_faster_server_sends_more() {
    let ledger = Ledger::with_snapshot(0, 1024, 4 << 10);
    let mut world = World::new(1, &ledger, 4);
    world.servers[2].pace *= 8;
    world.join();
    world.finish(60);
    let sent: Vec<u64> = world.servers.iter().map(|one| one.sent).collect();
    assert!(sent[2] > 2 * sent[0], "{sent:?}");
}

#[test]
fn without_a_checkpoint_blocks_are_enough() {
    for (views, blocks) in [(0, 0), (0, 1), (2, 0), (2, 1)] {
        // An idle chain offers the block that opened its view, or genesis.
        let mut ledger = Ledger::new(views);
        (0..blocks).for_each(|_| ledger.advance());
        let mut world = World::new(views, &ledger, 4);
        let new = world.join();
        world.finish(20);
        let fresh = world.newcomers[new].events.iter().find_map(|event| {
            let Event::Replay(fresh) = event else {
                return None;
            };
            Some(&fresh.header)
        });
        assert_eq!(
            fresh,
            Some(&ledger.newest.0),
            "{views} views, {blocks} blocks"
        );
    }
}

#[test]
fn with_a_ledger_of_its_own_above_the_snapshot_blocks_are_enough() {
    let ledger = Ledger::with_snapshot(1, 8, 1024);
    let taken = ledger.snapshots[0].block.1.taken();
    let mut world = World::new(1, &ledger, 4);
    world.local = taken.height;
    let new = world.join();
    world.finish(20);
    let replays = |event: &Event| matches!(event, Event::Replay(_));
    assert!(world.newcomers[new].events.iter().any(replays));
}

#[test]
fn unchanged_segments_of_an_older_checkpoint_are_not_fetched() {
    let mut ledger = Ledger::with_snapshot(1, 200, 2048);
    let old = ledger.snapshots[0].clone();
    let changed = |index: usize| match index % 10 {
        0 => filler(1_000 + index as u64, 2048),
        _ => old.segments[index].clone(),
    };
    ledger.snapshot((0..200).map(changed).collect());
    let mut world = World::new(1, &ledger, 4);
    let mut disk = Disk::default();
    for (leaf, segment) in old.manifest.leaves().iter().zip(&old.segments) {
        disk.segments.insert(leaf.digest, segment.clone());
    }
    let new = world.join_with(disk);
    world.finish(20);
    let newcomer = &world.newcomers[new];
    assert!(is_whole(newcomer, &ledger));
    assert_eq!(asked_segments(&newcomer.asked).len(), 20);
    assert_eq!(newcomer.machine.tally().bytes_received, 20 * 2048);
}

#[test]
fn a_newer_checkpoint_changes_nothing() {
    let ledger = Ledger::with_snapshot(1, 1024, 4 << 10);
    let (mut world, new) = World::half_way(&ledger);
    for server in &mut world.servers {
        server
            .ledger
            .snapshot((0..9).map(|n| filler(n, 77)).collect());
    }
    world.finish(20);
    assert!(is_whole(&world.newcomers[new], &ledger));
    let tally = world.newcomers[new].machine.tally();
    assert!(tally.bytes_received * 100 <= tally.bytes_needed * 105);
}

#[test]
fn a_snapshot_that_is_gone_everywhere_is_replaced_and_what_is_held_stays() {
    let ledger = Ledger::with_snapshot(1, 1024, 4 << 10);
    let (mut world, new) = World::half_way(&ledger);
    let old = ledger.snapshots[0].segments.clone();
    let mut newer = ledger.clone();
    let mut segments = old.clone();
    segments[200] = filler(9_999, 4 << 10);
    newer.snapshot(segments);
    newer.snapshots.remove(0);
    for server in &mut world.servers {
        server.ledger = newer.clone();
    }
    world.finish(60);
    let newcomer = &world.newcomers[new];
    let gone = |event: &Event| matches!(event, Event::Gone(_));
    assert!(newcomer.events.iter().any(gone));
    assert!(is_whole(newcomer, &newer));
    // What was under way when the snapshot went is all that may be asked for again.
    let all: u32 = asked_segments(&newcomer.asked).values().sum();
    assert!(all < 2 * 1024, "{all}");
}

#[test]
fn links_that_fall_all_at_once_make_no_liars_of_honest_servers() {
    let ledger = Ledger::with_snapshot(1, 1024, 4 << 10);
    let mut world = World::new(1, &ledger, 4);
    let new = world.join();
    for held in [100, 200, 300, 400] {
        let is_there = world.run(20, |world| {
            world.newcomers[new].machine.tally().segments_held > held
        });
        assert!(is_there);
        for server in 0..4 {
            let id = world.servers[server].id;
            world.tell(new, Input::Command(Command::Disconnected(id)));
            world.tell(new, Input::Command(Command::Connected(id)));
        }
    }
    world.finish(20);
    assert!(banned(&world.newcomers[new]).is_empty());
    assert!(is_whole(&world.newcomers[new], &ledger));
}

#[test]
fn lossy_links_delay_and_change_nothing_else() {
    for seed in 0..6 {
        let ledger = Ledger::with_snapshot(2, 200, 2048);
        let mut world = World::new(seed, &ledger, 4);
        world.loss_ppm = 100_000;
        let new = world.join();
        world.finish(180);
        assert!(is_whole(&world.newcomers[new], &ledger), "seed {seed}");
        assert!(banned(&world.newcomers[new]).is_empty(), "seed {seed}");
    }
}

#[test]
fn a_view_chain_longer_than_an_answer_is_walked_in_stretches() {
    let ledger = Ledger::with_snapshot(150, 8, 512);
    let mut world = World::new(1, &ledger, 4);
    let new = world.join();
    world.finish(30);
    assert!(is_whole(&world.newcomers[new], &ledger));
    let told = |event: &&Event| matches!(event, Event::Members(_));
    let told = world.newcomers[new].events.iter().filter(told).count();
    assert_eq!(told, 1 + 3, "at the start, and behind each stretch");
}

#[test]
fn a_seat_that_holds_its_key_counts_in_the_quorum_for_its_anchor() {
    let ledger = Ledger::with_snapshot(1, 20, 512);
    for holds in [false, true] {
        // One of four is dead, and one fell behind: the other two go on with it, or never.
        let mut world = World::new(1, &ledger, 4);
        let key = ledger.builder.keys[3].public();
        world.own.extend(holds.then_some(key));
        world.stop(2);
        world.servers.remove(3);
        let new = world.join_as(ledger.member(3), Disk::default());
        let is_done = world.run(20, |world| world.newcomers[new].done_at.is_some());
        assert_eq!(is_done, holds);
        assert_eq!(is_whole(&world.newcomers[new], &ledger), holds);
    }
}
