//! Forgotten keys: whoever gets every secret that is left, and every store, makes no fork.
//!
//! Source: SmartChain, forgotten keys. In: worlds whose views rotated. Out: what newcomers and
//! replicas say to the best forgery.
//! Holds: with the secrets that were erased the same forgery would pass, so that this can fail.
//! Elsewhere: forging (`forgery`), what a running process has in memory and files
//! (`tests/views.rs`).

use super::*;
use crate::blocks::{Body, Step, ViewChain};
use crate::committee::View;
use crate::consortium::serve::Archive;
use crate::consortium::{Block, Extent, Message};
use crate::crypto::SecretKey;
use crate::sim::forgery::{Pads, certify, usurpers};

/// The member that never erased anything: one of the f.
const HOARDER: usize = 0;
/// The correct member that is cut off for a while and carries its key over.
const ABSENT: usize = 1;

/// Four members whose views last eight blocks, one of them cut off over some of them.
fn rotated(seed: u64) -> World {
    let mut world = World::new(&Options {
        rotation_blocks: 8,
        ..world(seed, "none")
    });
    world.begin();
    let last = |world: &World| world.counts.views;
    let until = |world: &mut World, view: u64| {
        for _ in 0..600 {
            if last(world) >= view {
                return;
            }
            world.run_for(1_000_000);
        }
        panic!("view {view} does not come: {:?}", world.oracle.broken);
    };
    until(&mut world, 2);
    isolate(&mut world, ABSENT, false, true);
    let before = last(&world);
    until(&mut world, before + 3);
    world
}

/// Every secret that is there: all that correct members have left, and all that the hoarder had.
fn loot(world: &World) -> Vec<SecretKey> {
    let held = world.members.iter().flat_map(|member| member.keys.held());
    let hoard = world.members[HOARDER].keys.erased();
    held.chain(hoard).cloned().collect()
}

/// Every secret that there ever was, as if nobody erased any.
fn unforgotten(world: &World) -> Vec<SecretKey> {
    let all = world.members.iter();
    let every = all.flat_map(|member| member.keys.held().chain(member.keys.erased()));
    every.cloned().collect()
}

/// The view chain as the store of a member has it.
fn steps(world: &World) -> Vec<Step> {
    let member = &world.members[2];
    let running = member.running.as_ref().expect("it is up");
    let mut at = running.replica.view().opening().height;
    let mut steps = Vec::new();
    while at > Height(0) {
        let block = member.disk.block(at).expect("it is stored");
        let certificate = member.disk.certificate_at_or_after(at);
        let Body::Reconfiguration(body) = block.body else {
            panic!("another block opened a view");
        };
        at = block.header.reconfiguration.height;
        steps.push(Step {
            header: block.header,
            body,
            certificate: certificate.expect("it is stored"),
        });
    }
    steps.reverse();
    steps
}

/// Forks the chain in place of each true step with `secrets`; gives for each view that ended how
/// many of its seats signed, and whether a newcomer and a replica in that view took it.
fn forge(world: &World, secrets: &[SecretKey]) -> Vec<(usize, bool, bool)> {
    let genesis = &world.ground.genesis;
    let mut walked = ViewChain::of(genesis).expect("the founders make a view");
    let verifier = &world.ground.verifier;
    let mut outcomes = Vec::new();
    for step in steps(world) {
        let view = walked.newest().view.clone();
        let body = usurpers(&world.ground.setting, &view);
        let mut header = step.header.clone();
        header.body = body.root();
        let count = certify(&view, &header, secrets, &Pads::Nothing)
            .signers
            .count();
        let (mut walks, mut follows) = (false, false);
        let stored = Pads::Stored(&step.certificate);
        for pads in [Pads::Nothing, stored, Pads::Repeated] {
            let forged = Step {
                certificate: certify(&view, &header, secrets, &pads),
                header: header.clone(),
                body: body.clone(),
            };
            walks |= walked
                .clone()
                .walk(std::slice::from_ref(&forged), verifier)
                .is_ok();
            follows |= is_followed(world, &view, &forged);
        }
        outcomes.push((count, walks, follows));
        walked
            .walk(&[step], verifier)
            .expect("the true chain holds");
    }
    outcomes
}

/// Whether a replica that stands in `view` takes the certificate or the block from anybody.
fn is_followed(world: &World, view: &View, forged: &Step) -> bool {
    let ears = &world.ground.ears[&view.id()];
    let from = world.members[HOARDER].id;
    let block = Block {
        header: forged.header.clone(),
        body: Body::Reconfiguration(forged.body.clone()),
    };
    let extent = Extent {
        blocks: vec![block],
        certificate: forged.certificate.clone(),
    };
    let said = [
        Message::Extent(extent),
        Message::Certificate(forged.certificate.clone()),
    ];
    let mut heard = said.into_iter().map(|said| ears.hear_message(&from, said));
    heard.any(|heard| heard.is_ok())
}

#[test]
fn whoever_gets_every_secret_that_is_left_and_every_store_makes_no_fork_that_anybody_follows() {
    for seed in [4, 9] {
        let mut world = rotated(seed);
        for signers in [2, 1] {
            let secrets = loot(&world);
            let outcomes = forge(&world, &secrets);
            let most = outcomes.iter().map(|(count, ..)| *count).max();
            assert_eq!(most, Some(signers), "seed {seed}: {outcomes:?}");
            let is_taken = |(_, walks, follows): &(usize, bool, bool)| *walks || *follows;
            assert!(!outcomes.iter().any(is_taken), "seed {seed}: {outcomes:?}");
            // Replicas of the present view hear of no other.
            let newest = world.counts.views;
            let forged = outcomes.len();
            assert_eq!(forged as u64, newest, "every view that ended was tried");
            // The absent member comes back and erases what it carried.
            isolate(&mut world, ABSENT, false, false);
            world.run_for(30_000_000);
        }
        let control = forge(&world, &unforgotten(&world));
        let is_taken =
            |(count, walks, follows): &(usize, bool, bool)| *count >= 3 && *walks && *follows;
        assert!(control.iter().all(is_taken), "seed {seed}: {control:?}");
        assert!(world.oracle.broken.is_empty(), "{:?}", world.oracle.broken);
    }
}
