//! Many newcomers at once, and newcomers that die at every step.

use std::collections::BTreeSet;

use super::ledger::Ledger;
use super::world::*;
use crate::bootstrap::*;
use crate::committee::MemberId;
use crate::crypto::{Digest, Domain};
use crate::machine::Input;

#[test]
fn sixteen_at_once_share_what_they_have() {
    let ledger = Ledger::with_snapshot(1, 256, 4096);
    let mut world = World::new(7, &ledger, 4);
    for _ in 0..16 {
        world.join();
    }
    world.finish(120);
    let needed = 256_u64 << 12;
    for newcomer in &world.newcomers {
        assert!(is_whole(newcomer, &ledger));
        assert!(banned(newcomer).is_empty());
        let tally = newcomer.machine.tally();
        assert!(tally.bytes_received <= needed * 3 / 2, "{tally:?}");
    }
    let shared: u64 = world.newcomers.iter().map(|one| one.sent).sum();
    assert!(shared > 0, "newcomers serve each other");
    let sent: Vec<u64> = world.servers.iter().map(|one| one.sent).collect();
    let most = *sent.iter().max().expect("servers") as f64;
    let mean = sent.iter().sum::<u64>() as f64 / 4.0;
    assert!(most <= 1.3 * mean, "{sent:?}");
}

#[test]
fn a_newcomer_that_dies_at_any_step_asks_for_nothing_twice() {
    let ledger = Ledger::with_snapshot(3, 64, 1024);
    let mut at = 1;
    loop {
        let mut world = World::new(at, &ledger, 4);
        let new = world.join();
        let died = world.run(60, |world| world.newcomers[new].inputs >= at);
        if world.newcomers[new].machine.stage() == Stage::Done {
            assert!(at > 80, "there were steps to die at");
            break;
        }
        assert!(died);
        let held: BTreeSet<_> = world.newcomers[new].disk.segments.keys().copied().collect();
        let steps = world.newcomers[new].disk.steps.len();
        let had_target = world.newcomers[new].disk.target.is_some();
        world.newcomers[new].asked.clear();
        world.crash(new);
        world.finish(60);
        let newcomer = &world.newcomers[new];
        assert!(is_whole(newcomer, &ledger), "died at input {at}");
        assert!(banned(newcomer).is_empty(), "died at input {at}");
        let leaves = ledger.snapshots[0].manifest.leaves();
        for segment in asked_segments(&newcomer.asked).keys() {
            let digest = leaves[*segment as usize].digest;
            assert!(!held.contains(&digest), "died at input {at}");
        }
        for ask in &newcomer.asked {
            let is_again = match ask {
                Ask::Steps(view, _) => (view.0 as usize) < steps,
                Ask::Anchor(..) | Ask::Checkpoint(_) => had_target,
                Ask::Page(..) => false,
                Ask::Holding(_) | Ask::Segments(..) => false,
            };
            assert!(!is_again, "died at input {at}: {ask:?}");
        }
        assert_eq!(newcomer.disk.steps, ledger.builder.steps);
        at += 1;
    }
}

#[test]
fn ten_deaths_cost_little() {
    let ledger = Ledger::with_snapshot(1, 1024, 2048);
    let mut world = World::new(3, &ledger, 4);
    let new = world.join();
    let (needed, mut received) = (1024_u64 * 2048, 0);
    for death in 1..=10_u32 {
        let reached = world.run(60, |world| {
            let held = world.newcomers[new].disk.segments.len();
            held as u32 >= death * 1024 / 11
        });
        assert!(reached);
        received += world.newcomers[new].machine.tally().bytes_received;
        world.crash(new);
    }
    world.finish(60);
    received += world.newcomers[new].machine.tally().bytes_received;
    assert!(is_whole(&world.newcomers[new], &ledger));
    assert!(received * 10 <= needed * 13, "{received} of {needed}");
}

#[test]
fn seats_find_a_place_though_others_have_taken_all() {
    let ledger = Ledger::with_snapshot(2, 8, 512);
    let mut world = World::new(1, &ledger, 4);
    let new = world.join();
    for n in 0..2 * PEERS_MAX as u64 {
        let who = MemberId(Digest::of(Domain::Member, &n.to_le_bytes()));
        world.tell(new, Input::Command(Command::Connected(who)));
    }
    world.finish(30);
    assert!(is_whole(&world.newcomers[new], &ledger));
}
