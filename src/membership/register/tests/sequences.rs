//! Whatever is done in whatever order, the register keeps what its head promises.

use proptest::prelude::*;

use super::super::*;
use super::land::{Land, digest_at, secret};
use crate::committee::{MEMBERS_MAX, POSITIONS_MAX, View};

/// Identities that act: five founders and seven others.
const PEOPLE: [u16; 12] = [0, 1, 2, 3, 4, 20, 21, 22, 23, 24, 25, 26];

/// One step: who, what, about whom, with which number.
type Step = (u8, u8, u8, u16);

fn operation(land: &Land, (who, what, whom, number): Step) -> Operation {
    let person = |n: u8| PEOPLE[usize::from(n) % PEOPLE.len()];
    let (signer, other) = (secret(person(who)), secret(person(whom)));
    let id = MemberId::of(&other.public());
    let key = 60 + number % 12;
    let ballots: Vec<Digest> = land.register.ballots().map(|(id, _)| *id).collect();
    let ballot = ballots.get(usize::from(number) % ballots.len().max(1));
    let ballot = ballot.copied().unwrap_or_default();
    let rules = ViewRules {
        rotation_blocks: u32::from(number % 3) * 8,
        ..ViewRules::default()
    };
    match what % 17 {
        0 => Operation::Move(Motion::Invite(other.public())),
        1 => Operation::Join(land.request(&signer, key)),
        2..=5 => Operation::Approve(ballot),
        6 => Operation::Reject(ballot),
        7 => Operation::Leave,
        8 => Operation::Move(Motion::Exclude(id)),
        9 => Operation::Move(Motion::Replace(
            id,
            secret(person((number % 12) as u8)).public(),
        )),
        10 => Operation::Move(Motion::Weight(id, u32::from(number % 4))),
        11 => Operation::Identity(other.public(), land.proof(&other, key)),
        12 | 13 => Operation::CaughtUp(Height(800), digest_at(800)),
        14 => Operation::Rejoin(land.proof(&signer, key)),
        15 => Operation::Renew,
        _ => Operation::Move(Motion::Rules(rules)),
    }
}

fn check(land: &Land) {
    let register = &land.register;
    assert!(!register.candidates().is_empty(), "somebody can be drawn");
    assert!(register.committee(&Digest::ZERO).is_ok());
    let members: Vec<&Member> = register.members().map(|(_, member)| member).collect();
    for (id, member) in register.members() {
        assert_eq!(*id, MemberId::of(&member.identity));
        assert!(member.number < register.number);
        let is_vote = |key: PublicKey| register.is_consensus(&key);
        assert!(!is_vote(member.identity), "identity keys never vote");
    }
    for (index, one) in members.iter().enumerate() {
        for other in &members[index + 1..] {
            let is_same = one.consensus().is_some() && one.consensus() == other.consensus();
            assert!(
                !is_same || one.number == other.number,
                "keys are one member's"
            );
            let both = one.status.has_vote() && other.status.has_vote();
            assert!(one.number != other.number || !both, "a member has one vote");
        }
    }
    let positions: usize = members.iter().map(|member| member.weight as usize).sum();
    assert!(members.len() <= MEMBERS_MAX && positions <= POSITIONS_MAX);
    assert!(register.list_bytes() <= LIST_BYTES_MAX);
    assert!(register.requests().count() <= REQUESTS_MAX);
    assert!(register.audit().entries().count() <= AUDIT_MAX);
    let of_members = register.ballots().filter(|(_, ballot)| ballot.by.is_some());
    assert!(of_members.count() <= BALLOTS_MAX);
    for (id, ballot) in register.ballots() {
        assert_eq!(*id, ballot.motion.ballot());
        assert!(ballot.approvals.is_disjoint(&ballot.rejections));
        let mut voted = ballot.approvals.iter().chain(&ballot.rejections);
        assert!(voted.all(|number| *number < register.number));
        let asked = ballot.motion.member();
        let has_request = asked.is_some_and(|id| register.requests.contains_key(&id));
        assert!(ballot.by.is_some() || has_request, "somebody wants it");
    }
    let view = View::new(
        register.view(),
        land.register.chain,
        register.seats.clone(),
        &Digest::ZERO,
    );
    assert!(view.is_ok(), "the seats make a view");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_operations_and_views_keeps_the_bounds(
        steps in prop::collection::vec(any::<Step>(), 1..160),
    ) {
        let mut land = Land::of(5);
        for step in steps {
            let (who, what, _, number) = step;
            match what {
                250.. if land.register.frozen().is_some() => drop(land.reconfigure_frozen()),
                240.. => land.register.freeze(land.height),
                _ => {
                    let signer = secret(PEOPLE[usize::from(who) % PEOPLE.len()]);
                    let operation = operation(&land, step);
                    land.act(&signer, operation).ok();
                }
            }
            land.height = land.height.plus(u64::from(number % 7) * (BALLOT_BLOCKS_MAX / 30));
            check(&land);
        }
        let rows = land.register.to_rows();
        let again = Register::from_rows(land.register.chain(), rows.each_ref().map(|row| &row[..]));
        prop_assert_eq!(again, Ok(land.register));
    }
}
