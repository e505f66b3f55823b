//! What is said of a view follows from what is known of its seats, and from nothing less.

use super::*;
use crate::committee::{Regency, SeatKey};
use crate::consortium::{Losses, PoolOverview};
use crate::crypto::{Digest, SecretKey};

fn member(n: u8) -> MemberId {
    MemberId::of(&SecretKey::from_seed([n; 32]).public())
}

/// A view of `n` seats.
fn view(n: u8) -> View {
    let seats = (0..n).map(|n| SeatKey {
        member: member(n),
        key: Some(SecretKey::from_seed([100 + n; 32]).public()),
    });
    let chain = Digest([1; 32]);
    View::new(ViewId(0), chain, seats.collect(), &chain).expect("a view")
}

/// The overview of a member that lost these seats and reaches so many of the others.
fn overview(lost: &[u8], reachable: usize) -> Overview {
    Overview {
        role: "follower",
        state: "follower",
        regency_state: "normal",
        height: crate::committee::Height(1),
        certified: crate::committee::Height(1),
        view: 0,
        regency: Regency(0),
        leader: None,
        view_state: "serving",
        connected: reachable,
        keys: (0, 0),
        losses: Losses {
            lost: lost.iter().map(|n| member(*n)).collect(),
            reachable,
            is_vacant: false,
        },
        faults: std::collections::BTreeMap::new(),
        pool: PoolOverview {
            has_work: false,
            transactions: 0,
            bytes: 0,
        },
        snapshots: crate::consortium::ledger::Snapshots::default(),
    }
}

#[test]
fn a_view_is_dead_once_its_keys_make_no_quorum() {
    let pulse = Pulse::default();
    for (n, lost, condition) in [
        (4, &[][..], Condition::Live),
        (4, &[0], Condition::Live),
        (4, &[0, 1], Condition::Dead),
        (6, &[0, 1], Condition::Live), // four of six are a quorum
        (6, &[0, 1, 2], Condition::Dead),
        (7, &[0, 1], Condition::Live),
        (7, &[0, 1, 2], Condition::Dead),
    ] {
        let reachable = usize::from(n) - lost.len();
        let (judged, reason) = pulse.judge(&overview(lost, reachable), &view(n));
        assert_eq!(judged, condition, "{n} seats without {lost:?}: {reason:?}");
        let says = reason.is_some_and(|reason| reason.contains("consortium restore"));
        assert_eq!(says, condition == Condition::Dead);
    }
}

#[test]
fn a_view_that_nobody_reaches_has_stalled_after_a_while_and_is_not_dead() {
    let mut pulse = Pulse::default();
    let (view, two) = (view(4), overview(&[], 2));
    pulse.beat(&two, &view);
    assert_eq!(pulse.judge(&two, &view), (Condition::Live, None));
    pulse.starved = pulse.starved.and_then(|at| at.checked_sub(STALLED_AFTER));
    let (judged, reason) = pulse.judge(&two, &view);
    assert_eq!(judged, Condition::Stalled);
    let reason = reason.expect("it is told why");
    assert!(
        reason.starts_with("no quorum: 2 of 4 seats reachable, 3 needed"),
        "{reason}"
    );
    pulse.beat(&overview(&[], 3), &view);
    pulse.beat(&two, &view);
    assert_eq!(
        pulse.judge(&two, &view).0,
        Condition::Live,
        "it counts anew"
    );
}

#[test]
fn evidence_against_more_seats_than_the_view_bears_kills_it() {
    let mut pulse = Pulse::default();
    let (view, all) = (view(4), overview(&[], 4));
    pulse.convicted(1);
    assert_eq!(pulse.judge(&all, &view).0, Condition::Live);
    pulse.convicted(2);
    let (judged, reason) = pulse.judge(&all, &view);
    assert_eq!(judged, Condition::Dead);
    assert!(
        reason
            .expect("it is told why")
            .starts_with("evidence convicts 2 of 4 seats")
    );
}
