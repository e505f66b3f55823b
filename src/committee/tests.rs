//! Quorums meet, certificates count, and the voter never contradicts itself.

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
        .stop(Regency(4), (Height(0), Digest::ZERO), 1_000, vec![])
        .expect("claims");
    let mut restarted = Voter::new(&view, SecretKey::from_seed([1; 32])).expect("a seat");
    voter
        .records()
        .iter()
        .for_each(|record| restarted.apply(record));
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
        .stop(Regency(4), (Height(9), Digest::ZERO), 2_000, vec![claim])
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
