//! Worlds in which one of four does wrong, and what the others make of it.

use super::den::{as_message, say, vote_of};
use super::votes::Equivocator;
use super::*;
use crate::committee::Kind as Of;
use crate::consortium::FaultKind;
use crate::crypto::Digest;
use crate::sim::tests::assert_settles;
use crate::sim::world::World;
use crate::sim::{Options, run};

fn options(seed: u64, kind: &str) -> Options {
    Options {
        seed,
        steps: 3_000,
        faults: "none".parse().expect("known faults"),
        villain: Some(kind.parse().expect("a villain")),
        ..Options::default()
    }
}

/// A world with one villain, which does as `vice` says; and which member it is.
fn world_with(seed: u64, vice: Box<dyn Vice>) -> (World, usize) {
    let mut world = World::new(&options(seed, "silent"));
    let is_villain = |member: &crate::sim::member::Member| member.villain.is_some();
    let villain = world.members.iter().position(is_villain);
    let villain = villain.expect("one is forced");
    let dice = Dice::new(seed, 7);
    world.members[villain].villain = Some(Box::new(Cloak { vice, dice }));
    world.begin();
    (world, villain)
}

/// Whom each correct member has caught contradicting itself, how often.
fn accusations(world: &World, villain: usize) -> Vec<u64> {
    let correct = (0..4).filter(|index| *index != villain);
    let faults = correct.map(|index| {
        let running = world.members[index].running.as_ref();
        let at = running.expect("it is up").replica.overview();
        at.faults
            .get(&FaultKind::Equivocation)
            .copied()
            .unwrap_or(0)
    });
    faults.collect()
}

#[test]
fn no_villain_breaks_a_rule_or_stops_the_others() {
    for (index, kind) in VillainKind::all().enumerate() {
        for seed in [0, 1] {
            let report = run(&options(seed * 100 + index as u64, kind.0));
            let broken = &report.violations;
            assert!(broken.is_empty(), "{broken:#?}");
            assert!(report.blocks > 0, "{kind}: {report:?}");
        }
    }
}

#[test]
fn no_villain_breaks_a_rule_where_everything_else_fails_too() {
    for (index, kind) in VillainKind::all().enumerate() {
        let report = run(&Options {
            faults: "all".parse().expect("known faults"),
            ..options(1_000 + index as u64, kind.0)
        });
        let broken = &report.violations;
        assert!(broken.is_empty(), "{broken:#?}");
    }
}

/// Says every vote of one kind twice, for two digests.
struct Twice(Of);

impl Vice for Twice {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        let vote = vote_of(message).filter(|vote| vote.ballot.kind == self.0);
        let second = vote.and_then(|vote| as_message(den.revote(vote, Digest::ZERO)));
        let said = [Some(message.clone()), second].into_iter().flatten();
        said.map(|message| say(to, message)).collect()
    }
}

#[test]
fn votes_for_two_digests_that_reach_one_member_name_their_signer() {
    for kind in [Of::Write, Of::Accept, Of::Persist] {
        let (mut world, villain) = world_with(4, Box::new(Twice(kind)));
        world.run_for(20_000_000);
        let accusations = accusations(&world, villain);
        let all = accusations.iter().all(|count| *count > 0);
        assert!(all, "{kind:?}: {accusations:?}");
        assert_settles(&mut world);
    }
}

#[test]
fn two_proposals_that_reach_one_member_name_the_leader() {
    // A seed whose villain leads first.
    let lead = |seed| {
        let vice = Equivocator::telling_both();
        let (mut world, villain) = world_with(seed, Box::new(vice));
        world.run_for(1_000_000);
        let leads = world.leader() == Some(villain) && world.oracle.height().0 > 0;
        leads.then_some((world, villain))
    };
    let (mut world, villain) = (0..40).find_map(lead).expect("one of forty leads");
    world.run_for(3_000_000);
    let accusations = accusations(&world, villain);
    assert!(
        accusations.iter().any(|count| *count > 0),
        "{accusations:?}"
    );
    assert_settles(&mut world);
}

#[test]
fn a_villain_reads_back_as_it_is_written() {
    for kind in VillainKind::all() {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert_eq!("saint".parse::<VillainKind>(), Err(UnknownVillain));
}

#[test]
fn at_most_f_members_are_villains_and_often_none() {
    let mut counts = BTreeMap::new();
    for seed in 0..300 {
        for members in [1, 3, 4, 7] {
            let drawn = draw(&Options {
                seed,
                members,
                ..Options::default()
            });
            assert!(
                drawn.len() <= crate::committee::Sizes::of(members).f,
                "{seed}"
            );
            *counts.entry((members, drawn.len())).or_insert(0) += 1;
        }
    }
    let worlds = |members, count| counts.get(&(members, count)).copied().unwrap_or(0);
    assert_eq!(worlds(3, 0), 300, "three members tolerate none");
    assert!(worlds(4, 0) > 50 && worlds(4, 1) > 150, "{counts:?}");
    assert!(worlds(7, 2) > 50, "{counts:?}");
}
