//! What each operation does, what each misuse is told, and what holds whatever is done.
//!
//! Source: `docs/formats.md`, design of membership in the chain. In: operations by members and
//! strangers. Out: outcomes and the register behind them.
//! Holds: keys are of the simulated scheme. Elsewhere: operations inside blocks
//! (`consortium::ledger`).

mod forms;
#[cfg(feature = "threshold")]
mod generation;
mod land;
mod misuse;
mod sequences;

use self::land::{Land, open, secret};
use super::*;
use crate::blocks::evidence::{Evidence, FaultKind};
use crate::committee::{Ballot as VoteBallot, Kind, Regency, Seat, Vote};

#[test]
fn a_change_takes_the_votes_of_all_but_a_third() {
    for (members, needed) in [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 3),
        (5, 4),
        (7, 5),
        (10, 7),
        (100, 67),
    ] {
        assert_eq!(Majority::of(members), Majority { members, needed });
        assert!(Majority::of(members).is_blocked_by(members - needed + 1));
        assert!(!Majority::of(members).is_blocked_by(members - needed));
    }
}

#[test]
fn a_newcomer_that_asked_joins_with_the_last_approval_and_is_drawn_once_it_caught_up() {
    let mut land = Land::of(4);
    let ann = secret(20);
    let ballot = land.ballot_of(&ann);
    assert_eq!(land.join(&ann, 60), Ok(open(ballot, 0, 3)));
    assert_eq!(
        land.founder_does(0, Operation::Approve(ballot)),
        Ok(open(ballot, 1, 3))
    );
    assert_eq!(land.invite(1, &ann), Ok(open(ballot, 2, 3)));
    assert_eq!(
        land.founder_does(2, Operation::Approve(ballot)),
        Ok(Done::Effective)
    );
    assert_eq!(land.status(&ann), Some(Status::Joining));
    assert_eq!(land.register.listed().len(), 5);
    assert_eq!(land.register.candidates().len(), 4);
    assert!(!land.register.is_changed(), "nobody new may be drawn yet");
    assert_eq!(land.catch_up(&ann), Ok(Done::Effective));
    assert_eq!(land.register.candidates().len(), 5);
    assert!(land.register.is_changed());
    land.reconfigure();
    assert_eq!(land.status(&ann), Some(Status::Seated));
    assert!(!land.register.is_changed());
    assert_eq!(land.register.majority().needed, 4);
}

#[test]
fn who_is_invited_first_joins_at_once() {
    let mut land = Land::of(4);
    let ann = secret(20);
    land.pass(Motion::Invite(ann.public()));
    assert_eq!(land.status(&ann), Some(Status::Invited));
    assert_eq!(
        land.register.majority().members,
        4,
        "who is invited has no vote"
    );
    assert_eq!(land.join(&ann, 60), Ok(Done::Effective));
    assert_eq!(land.status(&ann), Some(Status::Joining));
    let member = land
        .register
        .get(&MemberId::of(&ann.public()))
        .expect("it joined");
    assert_eq!((&member.name[..], member.weight), ("newcomer", 1));
    assert_eq!(member.tags, ["eu", "region=de"]);
}

#[test]
fn a_ballot_falls_with_the_rejection_that_leaves_too_few() {
    let mut land = Land::of(4);
    let ann = secret(20);
    let ballot = land.ballot_of(&ann);
    land.join(&ann, 60).expect("there is room");
    assert_eq!(
        land.founder_does(0, Operation::Reject(ballot)),
        Ok(open(ballot, 0, 3))
    );
    assert_eq!(
        land.founder_does(1, Operation::Reject(ballot)),
        Ok(Done::Fell)
    );
    assert_eq!(land.register.requests().count(), 0);
    assert_eq!(
        land.founder_does(2, Operation::Approve(ballot)),
        Err(Refusal::NoBallot)
    );
}

#[test]
fn who_voted_may_say_it_again_once_fewer_votes_are_needed() {
    let mut land = Land::of(5);
    let motion = Motion::Weight(land.id(0), 2);
    let ballot = motion.ballot();
    for n in 0..3 {
        assert_eq!(
            land.moves(n, motion.clone()),
            Ok(open(ballot, n as u32 + 1, 4))
        );
    }
    assert_eq!(land.moves(0, motion.clone()), Err(Refusal::AlreadyVoted));
    assert_eq!(land.founder_does(4, Operation::Leave), Ok(Done::Effective));
    assert_eq!(land.moves(0, motion), Ok(Done::Effective));
    assert_eq!(land.register.get(&land.id(0)).map(|m| m.weight), Some(2));
}

#[test]
fn votes_of_those_who_left_do_not_count() {
    let mut land = Land::of(5);
    let motion = Motion::Weight(land.id(0), 2);
    land.moves(4, motion.clone()).expect("it opens");
    land.founder_does(4, Operation::Leave).expect("others stay");
    let ballot = motion.ballot();
    assert_eq!(land.moves(0, motion.clone()), Ok(open(ballot, 1, 3)));
    assert_eq!(land.moves(1, motion.clone()), Ok(open(ballot, 2, 3)));
    assert_eq!(land.moves(2, motion), Ok(Done::Effective));
}

#[test]
fn who_leaves_sits_until_the_next_view_and_has_no_vote() {
    let mut land = Land::of(4);
    land.founder_does(3, Operation::Leave).expect("others stay");
    assert_eq!(land.status_of(3), Some(Status::Leaving));
    assert_eq!(
        land.founder_does(3, Operation::Leave),
        Err(Refusal::Leaving)
    );
    assert_eq!(land.register.majority().members, 3);
    assert!(land.register.is_changed());
    land.reconfigure();
    assert_eq!(land.status_of(3), None);
    assert_eq!(land.register.seats().len(), 3);
}

#[test]
fn who_leaves_behind_a_freeze_sits_for_one_more_view() {
    let mut land = Land::of(4);
    land.register.freeze(land.height);
    land.founder_does(3, Operation::Leave).expect("others stay");
    land.reconfigure_frozen();
    assert_eq!(land.status_of(3), Some(Status::Leaving));
    assert_eq!(land.register.seats().len(), 4);
    assert!(land.register.is_changed(), "another view is due");
    land.reconfigure();
    assert_eq!(land.status_of(3), None);
}

#[test]
fn a_member_is_excluded_by_vote_though_it_objects() {
    let mut land = Land::of(4);
    let motion = Motion::Exclude(land.id(3));
    land.moves(0, motion.clone()).expect("it opens");
    land.founder_does(3, Operation::Reject(motion.ballot()))
        .expect("it may object");
    land.moves(1, motion.clone()).expect("it is open");
    assert_eq!(land.moves(2, motion), Ok(Done::Effective));
    assert_eq!(land.status_of(3), Some(Status::Excluded));
    assert_eq!(
        land.founder_does(3, Operation::Leave),
        Err(Refusal::Excluded)
    );
    land.reconfigure();
    assert_eq!(land.status_of(3), None);
}

fn vote(land: &Land, digest: u8) -> Vote {
    let ballot = VoteBallot {
        kind: Kind::Write,
        view: ViewId(0),
        regency: Regency(1),
        height: Height(9),
        digest: Digest([digest; 32]),
    };
    Vote {
        ballot,
        seat: Seat(3),
        signature: land
            .consensus(3)
            .sign(&ballot.sign_bytes(land.register.chain())),
    }
}

#[test]
fn evidence_excludes_at_once_and_an_innocent_vote_nobody() {
    let mut land = Land::of(4);
    let innocent = Evidence::Votes(vote(&land, 1), vote(&land, 1)).to_bytes();
    let guilty = Evidence::Votes(vote(&land, 1), vote(&land, 2)).to_bytes();
    let accuse =
        |land: &mut Land, bytes: &[u8]| land.founder_does(0, Operation::Convict(bytes.to_vec()));
    assert_eq!(accuse(&mut land, &innocent), Err(Refusal::BadEvidence));
    assert_eq!(accuse(&mut land, &guilty), Ok(Done::Effective));
    assert_eq!(land.status_of(3), Some(Status::Excluded));
    assert_eq!(accuse(&mut land, &guilty), Err(Refusal::NoChange));
    let convicted = Deed::Convicted(FaultKind::Equivocation);
    let audit = land.register.audit();
    assert!(audit.entries().any(|(_, entry)| entry.deed == convicted));
}

#[test]
fn who_changed_its_identity_is_still_convicted_for_what_it_signed() {
    let mut land = Land::of(4);
    let other = secret(20);
    land.rename(3, &other, 60).expect("the key is new");
    let guilty = Evidence::Votes(vote(&land, 1), vote(&land, 2)).to_bytes();
    land.founder_does(0, Operation::Convict(guilty))
        .expect("it is proved");
    assert_eq!(land.status_of(3), Some(Status::Excluded));
    assert_eq!(land.status(&other), None, "nothing counts on it yet");
}

#[test]
fn a_new_identity_takes_weight_vote_and_place_of_the_old_one() {
    let mut land = Land::of(4);
    let other = secret(20);
    land.pass(Motion::Weight(land.id(3), 5));
    let motion = Motion::Weight(land.id(0), 2);
    land.moves(3, motion.clone()).expect("it opens");
    assert_eq!(land.rename(3, &other, 60), Ok(Done::Effective));
    assert_eq!(land.status_of(3), Some(Status::Leaving));
    assert_eq!(land.status(&other), Some(Status::CaughtUp));
    let member = land
        .register
        .get(&MemberId::of(&other.public()))
        .expect("it is listed");
    assert_eq!((member.weight, member.is_seated), (5, false));
    assert_eq!(
        land.act(&other, Operation::Move(motion)),
        Err(Refusal::AlreadyVoted)
    );
    assert_eq!(land.register.majority().members, 4);
    land.reconfigure();
    assert_eq!(land.status_of(3), None);
    assert_eq!(land.status(&other), Some(Status::Seated));
}

#[test]
fn who_is_to_be_excluded_keeps_its_identity() {
    let mut land = Land::of(4);
    land.moves(0, Motion::Exclude(land.id(3)))
        .expect("it opens");
    assert_eq!(land.rename(3, &secret(20), 60), Err(Refusal::UnderBallot));
}

#[test]
fn who_is_replaced_leaves_once_the_other_has_caught_up() {
    let mut land = Land::of(4);
    let ann = secret(20);
    land.pass(Motion::Weight(land.id(3), 7));
    land.join(&ann, 60).expect("there is room");
    land.pass(Motion::Replace(land.id(3), ann.public()));
    assert_eq!(
        (land.status(&ann), land.status_of(3)),
        (Some(Status::Joining), Some(Status::Seated))
    );
    assert_eq!(
        land.register.ballots().count(),
        0,
        "no invitation is left over"
    );
    land.catch_up(&ann).expect("the mark is recent");
    assert_eq!(
        (land.status(&ann), land.status_of(3)),
        (Some(Status::CaughtUp), Some(Status::Leaving))
    );
    assert_eq!(
        land.register
            .get(&MemberId::of(&ann.public()))
            .map(|m| m.weight),
        Some(7)
    );
    land.reconfigure();
    assert_eq!(land.register.seats().len(), 4);
}

#[test]
fn who_rejoins_waits_with_a_fresh_key_until_it_caught_up() {
    let mut land = Land::of(4);
    assert_eq!(land.rejoin(3, 60), Ok(Done::Effective));
    assert_eq!(land.status_of(3), Some(Status::Joining));
    assert!(!land.register.is_changed(), "the present view goes on");
    let founder = land.founder(3);
    land.catch_up(&founder).expect("the mark is recent");
    assert!(land.register.is_changed(), "its key is another");
    land.reconfigure();
    assert_eq!(land.status_of(3), Some(Status::Seated));
    assert!(!land.register.is_changed());
}

#[test]
fn a_key_of_a_reconfiguration_is_the_certified_one_unless_its_member_rejoined_since() {
    let mut land = Land::of(4);
    land.register.freeze(land.height);
    land.rejoin(3, 60).expect("the key is fresh");
    let body = land.reconfigure_frozen();
    let key = |n: usize| land.register.get(&land.id(n)).and_then(|m| m.consensus());
    let fresh = |n: usize| {
        let seat = body.seats.iter().find(|seat| seat.member == land.id(n));
        seat.and_then(|seat| seat.fresh).map(|proof| proof.key)
    };
    assert_eq!(key(0), fresh(0));
    assert_eq!(key(3), Some(secret(60).public()));
    assert_eq!(land.status_of(3), Some(Status::Joining));
}

#[test]
fn who_wants_a_fresh_key_makes_another_view_due_once_in_each() {
    let mut land = Land::of(4);
    land.without_key(3);
    assert_eq!(
        land.founder_does(3, Operation::Renew),
        Err(Refusal::NoKey),
        "it must rejoin"
    );
    for _ in 0..2 {
        assert!(!land.register.is_changed());
        let before = land.register.get(&land.id(0)).and_then(Member::consensus);
        assert_eq!(land.founder_does(0, Operation::Renew), Ok(Done::Effective));
        assert!(land.register.is_changed());
        assert_eq!(
            land.founder_does(0, Operation::Renew),
            Err(Refusal::NoChange)
        );
        assert_eq!(
            land.founder_does(1, Operation::Renew),
            Ok(Done::Effective),
            "each member once"
        );
        let now = land.register.get(&land.id(0)).and_then(Member::consensus);
        assert_eq!(before, now, "no key is certified that nobody has made yet");
        land.reconfigure();
        let now = land.register.get(&land.id(0)).and_then(Member::consensus);
        assert_ne!(before, now);
    }
    let ann = secret(20);
    land.pass(Motion::Invite(ann.public()));
    land.join(&ann, 60).expect("she is invited");
    assert_eq!(land.act(&ann, Operation::Renew), Err(Refusal::NoSeat));
}

#[test]
fn a_founder_without_a_key_is_no_candidate_until_it_rejoined() {
    let mut land = Land::of(4);
    land.without_key(3);
    assert_eq!(land.register.candidates().len(), 3);
    let founder = land.founder(3);
    assert_eq!(land.catch_up(&founder), Err(Refusal::NoKey));
    land.rejoin(3, 60).expect("the key is fresh");
    land.catch_up(&founder).expect("the mark is recent");
    assert!(land.register.is_changed());
}

#[test]
fn clients_are_listed_and_struck_off_by_vote() {
    let client = secret(30).public();
    let mut land = Land::listed(4);
    assert!(!land.register.is_client(&client));
    land.pass(Motion::Client(client, true));
    assert!(land.register.is_client(&client));
    assert_eq!(
        land.moves(0, Motion::Client(client, true)),
        Err(Refusal::NoChange)
    );
    land.pass(Motion::Client(client, false));
    assert!(!land.register.is_client(&client));
    let mut open = Land::of(4);
    assert_eq!(
        open.moves(0, Motion::Client(client, true)),
        Err(Refusal::ClientsOpen)
    );
    assert!(open.register.is_client(&client));
}

#[test]
fn rules_hold_from_the_next_view_on() {
    let mut land = Land::of(4);
    let before = *land.register.rules();
    let rules = ViewRules {
        rotation_blocks: 100,
        ..before
    };
    land.pass(Motion::Rules(rules));
    assert_eq!(*land.register.rules(), rules);
    assert_eq!(*land.register.present_rules(), before);
    assert!(land.register.is_changed());
    land.reconfigure();
    assert_eq!(*land.register.present_rules(), rules);
}

#[test]
fn the_digest_of_the_list_follows_what_a_draw_depends_on() {
    let land = Land::of(4);
    let first = land.register.digest();
    let mut weighed = Land::of(4);
    weighed.pass(Motion::Weight(weighed.id(0), 2));
    let mut moved = Land::of(4);
    moved
        .founder_does(0, Operation::Address("b:1".into()))
        .expect("it is another");
    let mut left = Land::of(4);
    left.founder_does(3, Operation::Leave).expect("others stay");
    let mut joined = Land::of(4);
    joined.join(&secret(20), 60).expect("there is room");
    joined.pass(Motion::Invite(secret(20).public()));
    let joining = joined.register.digest();
    joined.catch_up(&secret(20)).expect("the mark is recent");
    let digests = [
        first,
        weighed.register.digest(),
        moved.register.digest(),
        left.register.digest(),
        joining,
        joined.register.digest(),
    ];
    let distinct: BTreeSet<Digest> = digests.into_iter().collect();
    assert_eq!(distinct.len(), digests.len());
}

#[test]
fn everyone_sits_while_they_are_few_and_the_seed_orders_them() {
    let land = Land::of(7);
    let [one, two] = [1, 2].map(|n| {
        let committee = land.register.committee(&Digest([n; 32]));
        committee.expect("they are few")
    });
    assert_ne!(one, two);
    let sets = [one, two].map(|c| c.into_iter().collect::<BTreeSet<MemberId>>());
    assert_eq!(
        sets[0],
        land.register.members().map(|(id, _)| *id).collect()
    );
    assert_eq!(sets[0], sets[1]);
}

#[test]
fn the_audit_trail_names_height_signer_and_deed_and_keeps_the_newest() {
    let mut land = Land::of(4);
    for n in 0..AUDIT_MAX as u32 {
        land.height = land.height.next();
        let address = format!("host:{n}");
        land.founder_does(0, Operation::Address(address))
            .expect("it is another");
    }
    land.founder_does(1, Operation::Leave).expect("others stay");
    let audit = land.register.audit();
    assert_eq!(audit.count(), AUDIT_MAX as u64 + 1);
    let entries: Vec<_> = audit.entries().collect();
    assert_eq!((entries.len(), entries[0].0), (AUDIT_MAX, 1));
    let (place, last) = entries[AUDIT_MAX - 1];
    assert_eq!(place, AUDIT_MAX as u64);
    let want = Entry {
        height: land.height,
        by: Some(land.id(1)),
        member: Some(land.id(1)),
        deed: Deed::Status(Status::Leaving),
    };
    assert_eq!(*last, want);
}
