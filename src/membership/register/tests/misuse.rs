//! Every misuse is told what is wrong with it, and changes nothing.

use super::super::*;
use super::land::{Land, digest_at, secret};
use crate::committee::{MEMBERS_MAX, POSITIONS_MAX, WEIGHT_MAX};
use crate::crypto::SecretKey;

/// Who does what, and what they are told.
type Case = (SecretKey, Operation, Refusal);

fn moves(n: u16, motion: Motion, refusal: Refusal) -> Case {
    (secret(n), Operation::Move(motion), refusal)
}

/// What strangers and members who have no vote may not do.
fn without_vote(land: &Land) -> Vec<Case> {
    let proof = land.proof(&secret(40), 60);
    let all = |_: &()| {
        vec![
            Operation::Move(Motion::Invite(secret(50).public())),
            Operation::Approve(Digest::ZERO),
            Operation::Reject(Digest::ZERO),
            Operation::Leave,
            Operation::Convict(Vec::new()),
            Operation::Address("x:1".into()),
            Operation::Identity(secret(50).public(), proof),
            Operation::CaughtUp(Height(800), digest_at(800)),
            Operation::Rejoin(proof),
            Operation::Renew,
        ]
    };
    let of = |n: u16, refusal: Refusal| {
        all(&())
            .into_iter()
            .map(move |operation| (secret(n), operation, refusal))
    };
    of(40, Refusal::NotListed)
        .chain(of(2, Refusal::Leaving))
        .chain(of(3, Refusal::Excluded))
        .collect()
}

#[test]
fn who_has_no_vote_is_told_why() {
    let mut land = Land::of(7);
    land.pass(Motion::Exclude(land.id(3)));
    land.founder_does(2, Operation::Leave).expect("others stay");
    for (signer, operation, refusal) in without_vote(&land) {
        assert_eq!(
            land.act(&signer, operation.clone()),
            Err(refusal),
            "{operation:?}"
        );
    }
}

#[test]
fn motions_that_cannot_be_carried_out_are_refused() {
    let mut land = Land::of(7);
    let ann = secret(20).public();
    land.pass(Motion::Invite(ann));
    land.pass(Motion::Exclude(land.id(5)));
    land.founder_does(6, Operation::Leave).expect("others stay");
    let nobody = MemberId::of(&secret(50).public());
    let new = secret(50).public();
    let id = |n: usize| land.id(n);
    let bad_rules = ViewRules {
        assemble_blocks: 0,
        ..*land.register.rules()
    };
    let cases = [
        moves(
            0,
            Motion::Invite(secret(1).public()),
            Refusal::AlreadyListed,
        ),
        moves(0, Motion::Invite(ann), Refusal::AlreadyInvited),
        moves(0, Motion::Invite(secret(5).public()), Refusal::Excluded),
        moves(0, Motion::Invite(secret(6).public()), Refusal::Leaving),
        moves(0, Motion::Invite(secret(11).public()), Refusal::KeyUsed),
        moves(0, Motion::Exclude(nobody), Refusal::NoMember),
        moves(0, Motion::Exclude(id(5)), Refusal::NoChange),
        moves(0, Motion::Replace(nobody, new), Refusal::NoMember),
        moves(0, Motion::Replace(id(5), new), Refusal::Excluded),
        moves(0, Motion::Replace(id(6), new), Refusal::Leaving),
        moves(
            0,
            Motion::Replace(id(1), secret(2).public()),
            Refusal::AlreadyListed,
        ),
        moves(0, Motion::Weight(nobody, 2), Refusal::NoMember),
        moves(0, Motion::Weight(MemberId::of(&ann), 2), Refusal::NoMember),
        moves(0, Motion::Weight(id(1), 1), Refusal::NoChange),
        moves(0, Motion::Weight(id(1), WEIGHT_MAX + 1), Refusal::BadWeight),
        moves(0, Motion::Client(new, true), Refusal::ClientsOpen),
        moves(0, Motion::Rules(*land.register.rules()), Refusal::NoChange),
        moves(0, Motion::Rules(bad_rules), Refusal::BadRules),
    ];
    for (signer, operation, refusal) in cases {
        let told = land.act(&signer, operation.clone());
        assert_eq!(told, Err(refusal), "{operation:?}");
    }
}

#[test]
fn what_members_do_alone_is_checked() {
    let mut land = Land::of(4);
    let zero = Digest::ZERO;
    let caught_up = Operation::CaughtUp(Height(800), digest_at(800));
    for (operation, refusal) in [
        (Operation::Approve(zero), Refusal::NoBallot),
        (Operation::Reject(zero), Refusal::NoBallot),
        (Operation::Address("a:0".into()), Refusal::NoChange),
        (Operation::Convict(vec![1]), Refusal::BadEvidence),
        (caught_up, Refusal::NoChange),
    ] {
        let told = land.founder_does(0, operation.clone());
        assert_eq!(told, Err(refusal), "{operation:?}");
    }
    let told = land.act_bytes(&secret(0), &[0, 99]);
    assert_eq!(told, Err(Refusal::Malformed));
}

#[test]
fn keys_and_proofs_of_newcomers_are_checked() {
    let mut land = Land::of(4);
    let (ann, bob) = (secret(20), secret(21));
    let join = |land: &Land, who: &SecretKey, key: u16| Operation::Join(land.request(who, key));
    let stolen = land.request(&bob, 60); // certified by another identity
    let mut other_chain = land.request(&ann, 60);
    let chain = Digest([1; 32]);
    other_chain.key = KeyProof::make(&chain, ViewId(0), &Digest::ZERO, &ann, &secret(60));
    let cases = [
        (&ann, join(&land, &ann, 11), Refusal::KeyUsed),
        (&ann, join(&land, &ann, 2), Refusal::KeyUsed),
        (&ann, join(&land, &ann, 20), Refusal::KeyUsed),
        (&secret(11), join(&land, &secret(11), 60), Refusal::KeyUsed),
        (
            &secret(1),
            join(&land, &secret(1), 60),
            Refusal::AlreadyListed,
        ),
        (&ann, Operation::Join(stolen), Refusal::BadProof),
        (&ann, Operation::Join(other_chain), Refusal::BadProof),
    ];
    for (signer, operation, refusal) in cases {
        assert_eq!(
            land.act(signer, operation.clone()),
            Err(refusal),
            "{operation:?}"
        );
    }
    land.join(&ann, 60).expect("the key is new");
    land.join(&ann, 60).expect("it may ask again");
    assert_eq!(land.join(&bob, 60), Err(Refusal::KeyUsed));
    assert_eq!(land.rejoin(0, 60), Err(Refusal::KeyUsed));
    assert_eq!(
        land.rejoin(0, 10),
        Err(Refusal::KeyUsed),
        "its own is not fresh"
    );
    assert_eq!(land.rename(0, &ann, 61), Err(Refusal::KeyUsed));
    assert_eq!(land.rename(0, &secret(1), 61), Err(Refusal::KeyUsed));
    let proof = land.proof(&bob, 61);
    let rejoin = Operation::Rejoin(proof);
    assert_eq!(land.founder_does(0, rejoin), Err(Refusal::BadProof));
}

#[test]
fn only_a_recent_marked_block_shows_that_a_newcomer_caught_up() {
    let mut land = Land::of(4);
    land.rejoin(3, 60).expect("the key is fresh");
    let three = secret(3);
    for (height, digest) in [
        (800, digest_at(792)),
        (799, digest_at(799)),
        (0, digest_at(0)),
        (288, digest_at(288)),
        (808, digest_at(808)),
    ] {
        let claim = Operation::CaughtUp(Height(height), digest);
        assert_eq!(
            land.act(&three, claim),
            Err(Refusal::BadMark),
            "height {height}"
        );
    }
    let claim = Operation::CaughtUp(Height(296), digest_at(296));
    assert_eq!(land.act(&three, claim), Ok(Done::Effective));
}

#[test]
fn somebody_can_always_be_drawn() {
    let mut land = Land::of(2);
    land.founder_does(0, Operation::Leave)
        .expect("another stays");
    let last = secret(1);
    let id = land.id(1);
    assert_eq!(land.act(&last, Operation::Leave), Err(Refusal::LastMember));
    assert_eq!(land.moves(1, Motion::Exclude(id)), Err(Refusal::LastMember));
    assert_eq!(
        land.moves(1, Motion::Weight(id, 0)),
        Err(Refusal::LastMember)
    );
    assert_eq!(land.rejoin(1, 60), Err(Refusal::LastMember));
    let newcomer = secret(20);
    land.join(&newcomer, 61).expect("there is room");
    land.pass(Motion::Invite(newcomer.public()));
    assert_eq!(
        land.act(&last, Operation::Leave),
        Err(Refusal::LastMember),
        "who has not caught up does not count"
    );
    land.catch_up(&newcomer).expect("the mark is recent");
    assert_eq!(land.act(&last, Operation::Leave), Ok(Done::Effective));
}

#[test]
fn ballots_are_bounded_in_all_and_for_each_member_and_end() {
    let mut land = Land::of(10);
    let mut opened = 0;
    for n in 0..10 {
        for k in 0..BALLOTS_PER_MEMBER_MAX as u16 {
            let motion = Motion::Invite(secret(200 + n * 20 + k).public());
            match land.moves(n, motion) {
                Ok(_) => opened += 1,
                Err(refusal) => assert_eq!(refusal, Refusal::Full),
            }
        }
        let motion = Motion::Invite(secret(500 + n).public());
        let refusal = if opened == BALLOTS_MAX && n >= 8 {
            Refusal::Full
        } else {
            Refusal::TooManyBallots
        };
        assert_eq!(land.moves(n, motion), Err(refusal));
    }
    assert_eq!(opened, BALLOTS_MAX);
    let old = Motion::Invite(secret(200).public()).ballot();
    land.height = land.height.plus(BALLOT_BLOCKS_MAX + 1);
    assert_eq!(
        land.founder_does(1, Operation::Approve(old)),
        Err(Refusal::NoBallot)
    );
    land.moves(9, Motion::Invite(secret(600).public()))
        .expect("the others are over");
    assert_eq!(land.register.ballots().count(), 1);
}

#[test]
fn the_oldest_request_without_a_vote_gives_way_and_no_other_does() {
    let mut land = Land::of(4);
    let count = REQUESTS_MAX as u16;
    for n in 0..count {
        land.height = land.height.next();
        land.join(&secret(100 + n), 300 + n).expect("there is room");
    }
    land.invite(0, &secret(100)).expect("it is open");
    land.join(&secret(99), 299).expect("another gives way");
    let asked = |land: &Land, n: u16| {
        let id = MemberId::of(&secret(n).public());
        land.register.requests().any(|(other, ..)| *other == id)
    };
    assert_eq!(
        (asked(&land, 100), asked(&land, 101), asked(&land, 99)),
        (true, false, true)
    );
    let waiting: Vec<u16> = (99..100 + count).filter(|n| asked(&land, *n)).collect();
    for n in waiting.iter().filter(|n| **n != 100) {
        // Each founder may approve: one vote protects a request.
        let ballot = land.ballot_of(&secret(*n));
        land.founder_does(1, Operation::Approve(ballot))
            .expect("it is open");
    }
    assert_eq!(land.join(&secret(98), 298), Err(Refusal::Full));
    assert_eq!(land.register.requests().count(), REQUESTS_MAX);
    land.height = land.height.plus(BALLOT_BLOCKS_MAX + 1);
    land.join(&secret(98), 298).expect("the others are over");
    assert_eq!(land.register.requests().count(), 1);
    assert_eq!(land.register.ballots().count(), 1);
}

#[test]
fn the_list_keeps_its_bounds_of_members_bytes_and_positions() {
    let fill = |land: &mut Land, count: usize, weight: u32, address: usize| {
        for n in 0..count as u32 {
            let identity = PublicKey(Digest::of(crate::crypto::Domain::Audit, &n.to_le_bytes()));
            let member = Member {
                weight,
                address: "a".repeat(address),
                ..Member::invited(identity, 100 + n, Height(0))
            };
            land.register
                .members
                .insert(MemberId::of(&identity), member);
        }
    };
    let newcomer = Motion::Invite(secret(20).public());
    for (count, weight, address) in [
        (MEMBERS_MAX - 4, 1, 0),
        (POSITIONS_MAX / 256 - 1, 256, 0),
        (1668, 1, 255),
    ] {
        let mut land = Land::of(4);
        fill(&mut land, count, weight, address);
        let told = land.moves(0, newcomer.clone());
        let want = match count {
            127 => Ok(land.register.standing_of(&newcomer.ballot())), // 252 of 256 are left
            _ => Err(Refusal::Full),
        };
        assert_eq!(told, want, "{count} members");
    }
    let mut land = Land::of(4);
    fill(&mut land, POSITIONS_MAX / 256 - 1, 256, 0);
    assert_eq!(
        land.moves(0, Motion::Weight(land.id(0), 254)),
        Err(Refusal::Full)
    );
    land.moves(0, Motion::Weight(land.id(0), 253))
        .expect("it fits exactly");
}
