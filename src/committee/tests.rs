//! Quorums meet, certificates count, and the voter never contradicts itself.

mod draw;
mod risk;

use proptest::prelude::*;

use super::*;
use crate::crypto::{Digest, Domain, SecretKey, Verifier};

fn digest(n: u8) -> Digest {
    Digest::of(Domain::Proposal, &[n])
}

fn committee(n: u8) -> (View, Vec<Voter>) {
    let secrets: Vec<_> = (0..n).map(|i| SecretKey::from_seed([i + 1; 32])).collect();
    let seats = secrets
        .iter()
        .map(|s| SeatKey {
            member: MemberId::of(&s.public()),
            key: Some(s.public()),
        })
        .collect();
    let view = View::new(ViewId(0), digest(0), seats, &digest(1)).expect("a view");
    let voters = secrets
        .into_iter()
        .map(|s| Voter::new(&view, s).expect("a seat"))
        .collect();
    (view, voters)
}

#[test]
fn quorum_sizes() {
    for (n, f, q) in [
        (1, 0, 1),
        (2, 0, 2),
        (3, 0, 2),
        (4, 1, 3),
        (5, 1, 4),
        (7, 2, 5),
        (10, 3, 7),
    ] {
        assert_eq!(Sizes::of(n), Sizes { n, f, q });
    }
}

proptest! {
    #[test]
    fn two_quorums_of_one_view_meet_in_a_correct_seat(n in 1usize..600) {
        let Sizes { f, q, .. } = Sizes::of(n);
        let least_common = 2 * q - n;
        prop_assert!(least_common > f);
        prop_assert!(n - f >= q);
        prop_assert!(n > 3 * f);
    }
}

#[test]
fn a_certificate_holds_with_a_quorum_and_not_below() {
    let (view, mut voters) = committee(4);
    let votes: Vec<_> = voters
        .iter_mut()
        .map(|v| v.write(Regency(0), Height(1), digest(7)).expect("a vote").1)
        .collect();
    assert_eq!(Certificate::assemble(&view, &votes[..2]), None);
    let twice = [votes[0].clone(), votes[0].clone(), votes[1].clone()];
    assert_eq!(Certificate::assemble(&view, &twice), None);
    let good = Certificate::assemble(&view, &votes)
        .expect("a quorum")
        .into_inner();
    let verifier = Verifier::ed25519();
    assert!(good.clone().verify(&view, &verifier).is_ok());

    let mut short = good.clone();
    short.signers = [Seat(0), Seat(1)].into_iter().collect();
    assert!(matches!(
        short.verify(&view, &verifier),
        Err(CertificateError::Malformed { .. })
    ));
    let mut moved = good.clone();
    moved.ballot.height = Height(2);
    assert_eq!(
        moved.verify(&view, &verifier),
        Err(CertificateError::BadSignature)
    );
    let mut stranger = good.clone();
    stranger.signers = [Seat(0), Seat(1), Seat(9)].into_iter().collect();
    let refused = stranger.verify(&view, &verifier);
    assert_eq!(refused, Err(CertificateError::NoSeat { seat: Seat(9) }));
    let mut other = good;
    other.ballot.view = ViewId(1);
    assert!(matches!(
        other.verify(&view, &verifier),
        Err(CertificateError::OtherView { .. })
    ));
}

#[test]
fn the_voter_signs_one_write_per_regency_and_height() {
    let (_, mut voters) = committee(4);
    let voter = &mut voters[0];
    let (records, first) = voter
        .write(Regency(0), Height(1), digest(1))
        .expect("the first");
    assert_eq!(records.len(), 1);
    let (records, again) = voter
        .write(Regency(0), Height(1), digest(1))
        .expect("the same again");
    assert!(records.is_empty() && again == first);
    let other = voter.write(Regency(0), Height(1), digest(2));
    assert_eq!(other, Err(Refused::Contradiction { height: Height(1) }));
    assert!(voter.write(Regency(1), Height(1), digest(2)).is_ok());
    assert!(matches!(
        voter.write(Regency(0), Height(2), digest(1)),
        Err(Refused::OldRegency { .. })
    ));
}

#[test]
fn a_lock_is_replaced_only_by_a_higher_regency() {
    let (view, mut voters) = committee(4);
    let mut certificate = |regency, content| {
        let votes: Vec<_> = voters
            .iter_mut()
            .skip(1)
            .map(|v| v.write(regency, Height(1), content).expect("a vote").1)
            .collect();
        Certificate::assemble(&view, &votes).expect("a quorum")
    };
    let low = certificate(Regency(1), digest(1));
    let high = certificate(Regency(2), digest(2));
    let voter = &mut committee(4).1[0];
    assert!(voter.accept(&high).is_ok());
    assert!(voter.accept(&low).is_err());
    let lock = voter
        .promise(Height(1))
        .and_then(|p| p.lock.clone())
        .expect("a lock");
    assert_eq!(lock.ballot.digest, digest(2));
}

#[test]
fn promises_survive_a_restart() {
    let (view, mut voters) = committee(4);
    let voter = &mut voters[0];
    voter
        .write(Regency(3), Height(1), digest(1))
        .expect("a vote");
    voter.persist(Height(1), digest(5)).expect("a vote");
    let (_, data) = voter
        .stop(Regency(4), (Height(0), Digest::ZERO), 1_000, vec![], vec![])
        .expect("claims");
    let mut restarted = Voter::new(&view, SecretKey::from_seed([1; 32])).expect("a seat");
    voter
        .records()
        .iter()
        .for_each(|record| restarted.resume(record));
    assert_eq!(restarted.installed(), Regency(4));
    assert!(restarted.write(Regency(3), Height(2), digest(1)).is_err());
    assert!(restarted.persist(Height(1), digest(6)).is_err());
    let claim = Claim {
        height: Height(1),
        is_decided: false,
        lock: Lock {
            regency: Regency(0),
            digest: digest(1),
        },
    };
    let again = restarted
        .stop(
            Regency(4),
            (Height(9), Digest::ZERO),
            2_000,
            vec![claim],
            vec![],
        )
        .expect("again");
    assert_eq!(again, (vec![], data), "the same bytes for the same regency");
}

#[test]
fn leaders_take_turns_over_seats_with_a_key() {
    let (view, _) = committee(4);
    let mut seats = view.seats().to_vec();
    seats[2].key = None;
    let view = View::new(ViewId(0), digest(0), seats, &digest(1)).expect("one dead seat of four");
    let leaders: std::collections::BTreeSet<_> = (0..6).map(|r| view.leader(Regency(r))).collect();
    assert_eq!(leaders, [Seat(0), Seat(1), Seat(3)].into());
    assert_eq!(view.leader(Regency(1)), view.leader(Regency(4)));
}

#[test]
fn a_view_refuses_repeated_members_and_too_many_dead_seats() {
    let (view, _) = committee(4);
    let build = |seats| View::new(ViewId(0), digest(0), seats, &digest(1));
    let mut twice = view.seats().to_vec();
    twice[3] = twice[0];
    assert_eq!(build(twice), Err(ViewError::Repeated { seat: Seat(3) }));
    let mut dead = view.seats().to_vec();
    dead[0].key = None;
    dead[1].key = None;
    assert_eq!(
        build(dead),
        Err(ViewError::TooManyDead { dead: 2, most: 1 })
    );
    assert_eq!(build(vec![]), Err(ViewError::Size { seats: 0 }));
}

#[test]
fn nothing_is_signed_where_promises_are_forgotten() {
    let (view, mut voters) = committee(4);
    let voter = &mut voters[0];
    let first = voter.write(Regency(0), Height(3), digest(1));
    first.expect("a first vote");
    voter.forget_below(Height(4));
    voter.forget_below(Height(2));
    let (height, floor) = (Height(3), Height(4));
    let refused = Err(Refused::Forgotten { height, floor });
    let mut restarted = Voter::new(&view, SecretKey::from_seed([1; 32])).expect("a seat");
    let records = voter.records();
    records.iter().for_each(|record| restarted.resume(record));
    for voter in [voter, &mut restarted] {
        assert_eq!(voter.write(Regency(0), height, digest(2)), refused);
        assert_eq!(voter.propose(Regency(0), height, digest(2)), refused);
        assert_eq!(voter.persist(height, digest(2)), refused);
        assert!(voter.write(Regency(0), floor, digest(2)).is_ok());
    }
}

#[test]
fn a_vote_that_is_replayed_installs_its_regency() {
    let (view, mut voters) = committee(4);
    let (records, _) = voters[0]
        .write(Regency(5), Height(1), digest(1))
        .expect("a vote");
    let written = records.last().expect("the vote's own record");
    let mut restarted = Voter::new(&view, SecretKey::from_seed([1; 32])).expect("a seat");
    restarted.resume(written);
    assert_eq!(restarted.installed(), Regency(5));
}

#[test]
fn a_persist_of_another_regency_is_no_vote() {
    let (view, mut voters) = committee(4);
    let vote = voters[0].persist(Height(1), digest(1)).expect("a vote").1;
    assert!(vote.check(&view).is_some());
    let mut odd = vote.clone().into_inner();
    odd.ballot.regency = Regency(1);
    assert!(odd.check(&view).is_none());
    let mut genesis = vote.into_inner();
    genesis.ballot.height = Height(0);
    assert!(genesis.check(&view).is_none());
}

#[test]
fn votes_of_one_view_make_no_certificate_of_another() {
    let (view, mut voters) = committee(4);
    let votes: Vec<_> = voters
        .iter_mut()
        .map(|v| v.persist(Height(1), digest(1)).expect("a vote").1)
        .collect();
    let small = View::new(ViewId(1), digest(0), view.seats()[..1].to_vec(), &digest(1));
    let small = small.expect("a view of one seat");
    assert_eq!(Certificate::assemble(&small, &votes), None);
    assert!(Certificate::assemble(&view, &votes).is_some());
}

#[test]
fn claims_stand_by_height_above_the_base_and_below_the_regency() {
    let (view, mut voters) = committee(4);
    let claim = |height, regency| Claim {
        height: Height(height),
        is_decided: false,
        lock: Lock {
            regency: Regency(regency),
            digest: digest(1),
        },
    };
    let many = (0..=CLAIMS_MAX as u64).map(|n| claim(6 + n, 0)).collect();
    let bad: [Vec<Claim>; 5] = [
        vec![claim(5, 0)],
        vec![claim(7, 0), claim(6, 0)],
        vec![claim(6, 0), claim(6, 1)],
        vec![claim(6, 2)],
        many,
    ];
    let voter = &mut voters[0];
    for claims in bad {
        let refused = voter.stop(
            Regency(2),
            (Height(5), digest(1)),
            7,
            claims.clone(),
            vec![],
        );
        assert_eq!(refused, Err(Refused::BadClaims));
        let data = StopData {
            view: ViewId(0),
            regency: Regency(2),
            base: Height(5),
            base_digest: digest(1),
            timeout_us: 7,
            claims,
            seat: Seat(0),
            signature: crate::crypto::Signature([0; 64]),
        };
        assert!(data.check(&view).is_none());
    }
    let good = voter.stop(
        Regency(2),
        (Height(5), digest(1)),
        7,
        vec![claim(6, 0), claim(9, 1)],
        vec![],
    );
    let (records, data) = good.expect("canonical claims");
    assert_eq!(records.len(), 1);
    let check = data.check(&view).expect("a seat's claims");
    assert!(Verifier::ed25519().is_valid(&check.key, &check.statement, &check.signature));
}

proptest! {
    #[test]
    fn a_seat_set_is_the_set_that_was_put_in(
        seats in prop::collection::btree_set(0u16..256, 0..40),
    ) {
        let mut set = SeatSet::default();
        for seat in seats.iter().rev() {
            prop_assert!(set.insert(Seat(*seat)));
            prop_assert!(!set.insert(Seat(*seat)));
        }
        let read: std::collections::BTreeSet<u16> = set.iter().map(|seat| seat.0).collect();
        prop_assert_eq!(&read, &seats);
        prop_assert_eq!(set.count(), seats.len());
        prop_assert!(set.is_canonical());
    }
}

#[test]
fn a_seat_beyond_the_largest_committee_makes_no_set() {
    let mut set = SeatSet::default();
    set.insert(Seat(u16::MAX));
    assert!(!set.is_canonical());
    assert_eq!((set.iter().next(), set.count()), (Some(Seat(u16::MAX)), 1));
}

#[test]
fn a_log_knows_every_vote_that_it_led_to_and_no_other() {
    let (view, mut voters) = committee(4);
    let (_, early) = voters[0]
        .write(Regency(0), Height(5), digest(7))
        .expect("a vote");
    let before = Memory::of(&voters[0], Height(0));
    let votes: Vec<_> = { voters.iter_mut() }
        .map(|v| v.write(Regency(1), Height(5), digest(8)).expect("a vote").1)
        .collect();
    let lock = Certificate::assemble(&view, &votes).expect("a quorum");
    let (_, accept) = voters[0].accept(&lock).expect("an ACCEPT");
    let (_, seal) = voters[0].persist(Height(4), digest(9)).expect("a PERSIST");
    let (_, data) = voters[0]
        .stop(
            Regency(2),
            (Height(0), Digest::ZERO),
            1,
            Vec::new(),
            Vec::new(),
        )
        .expect("a STOP-DATA");
    let after = Memory::of(&voters[0], Height(0));
    for vote in [&early, &votes[0], &accept, &seal] {
        assert!(after.knows(vote), "{vote:?}");
    }
    assert!(after.knows_stop_data(&data));
    assert!(before.knows(&early));
    for vote in [&votes[0], &accept, &seal] {
        assert!(!before.knows(vote), "{vote:?}");
    }
    assert!(!before.knows_stop_data(&data));
    // What a certificate settles, and what was forgotten behind one, accuses no log.
    let settled = Memory::of(&committee(4).1[0], Height(5));
    assert!(
        [&votes[0], &accept, &seal]
            .iter()
            .all(|vote| settled.knows(vote))
    );
    let mut forgetful = committee(4).1.remove(0);
    forgetful.resume(&VoterRecord::Forgotten(Height(6)));
    assert!(Memory::of(&forgetful, Height(0)).knows(&accept));
}

#[test]
fn a_voter_whose_log_was_rolled_back_signs_nothing_and_its_record_says_so_for_good() {
    let (view, mut voters) = committee(4);
    let lapse = Lapse {
        holder: Seat(2),
        promise: Promised::StopData(Regency(3)),
    };
    voters[0].resume(&VoterRecord::Lapsed(lapse));
    let mut again = Voter::new(&view, SecretKey::from_seed([1; 32])).expect("a seat");
    voters[0]
        .records()
        .iter()
        .for_each(|record| again.resume(record));
    assert_eq!(again.lapse(), Some(lapse));
    let refused = Some(Refused::Lapsed);
    assert_eq!(
        again.propose(Regency(0), Height(1), digest(1)).err(),
        refused
    );
    assert_eq!(again.write(Regency(0), Height(1), digest(1)).err(), refused);
    assert_eq!(again.persist(Height(1), digest(1)).err(), refused);
    let base = (Height(0), Digest::ZERO);
    assert_eq!(
        again
            .stop(Regency(4), base, 1, Vec::new(), Vec::new())
            .err(),
        refused
    );
    let words = "a STOP-DATA of ours for regency 3";
    assert_eq!(lapse.promise.to_string(), words);
}
