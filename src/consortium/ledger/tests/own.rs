//! Operations of the ledger itself: they change the register and never reach the application.

use super::*;
use crate::blocks::{Clients, Founder};
use crate::committee::{KeyProof, MemberId};
use crate::crypto::{Domain, SecretKey};
use crate::membership::register::{Done, Motion, Operation, Refusal, Status};

const WORLD: Digest = Digest([0xee; 32]);

fn secret(number: u8) -> SecretKey {
    SecretKey::simulated([number; 32], WORLD)
}

pub(super) fn founded(clients: Clients) -> Genesis {
    let zero = Digest::ZERO;
    let founder = |n: u8| Founder {
        name: format!("member-{n}"),
        identity: secret(n).public(),
        consensus: Some(KeyProof::make(
            &zero,
            ViewId(0),
            &zero,
            &secret(n),
            &secret(10 + n),
        )),
        address: String::new(),
    };
    Genesis {
        founders: (0..4).map(founder).collect(),
        ..document(|p| p.clients = clients)
    }
}

pub(super) fn of(genesis: &Genesis) -> Ledger {
    Ledger::genesis(genesis).with_verifier(Verifier::simulated(WORLD))
}

/// A group of one client: its sequences count from `first`.
fn signed(client: PublicKey, first: u64, operations: &[Vec<u8>]) -> Group {
    let transactions = (first..)
        .zip(operations)
        .map(|(sequence, operation)| Transaction {
            sequence,
            expiry: Height(9),
            operation: Bytes::copy_from_slice(operation),
        });
    Group {
        client,
        digest: Digest::of(Domain::Group, &first.to_le_bytes()),
        transactions: transactions.collect(),
    }
}

fn motion(weight: u32) -> Vec<u8> {
    let member = MemberId::of(&secret(0).public());
    Operation::Move(Motion::Weight(member, weight)).to_bytes()
}

fn done(answer: &Answer) -> Option<Done> {
    Done::from_bytes(&told(answer).outcome.bytes)
}

#[test]
fn own_operations_pass_the_application_by_and_their_outcomes_stand_in_their_places() {
    let mut ledger = of(&founded(Clients::Open));
    let me = secret(1).public();
    let groups = vec![signed(
        me,
        1,
        &[b"a".to_vec(), motion(2), b"b".to_vec(), vec![0, 99]],
    )];
    let decided = decided(&ledger, groups.clone());
    let work = ledger.begin(decided);
    assert_eq!(work.operations, [&b"a"[..], b"b"]);
    let applied = ledger
        .finish(execute(&work))
        .expect("one outcome per operation");
    assert_eq!(kinds(&applied), ["executed"; 4]);
    let codes: Vec<u16> = applied
        .answers
        .iter()
        .map(|a| told(a).outcome.code)
        .collect();
    assert_eq!(codes, [0, 0, 0, Refusal::Malformed.code()]);
    assert!(told(&applied.answers[2]).outcome.bytes.ends_with(b"b"));
    assert!(matches!(
        done(&applied.answers[1]),
        Some(Done::Open { approvals: 1, .. })
    ));
    let places: Vec<u32> = applied.answers.iter().map(|a| told(a).index).collect();
    assert_eq!(places, [0, 1, 2, 3]);
    assert_eq!(applied.receipts.len(), 4);
    assert_eq!(applied.register.as_ref(), Some(ledger.register()));

    let again = apply(&mut ledger, groups);
    assert_eq!(kinds(&again), ["repeated"; 4]);
    assert_eq!(again.register, None, "nothing executed twice");
}

#[test]
fn a_change_by_vote_holds_from_its_place_in_the_order() {
    let mut ledger = of(&founded(Clients::Open));
    let groups = (1..4).map(|n| signed(secret(n).public(), 1, &[motion(2), motion(2)]));
    let applied = apply(&mut ledger, groups.collect());
    let codes: Vec<u16> = applied
        .answers
        .iter()
        .map(|a| told(a).outcome.code)
        .collect();
    let (voted, same) = (Refusal::AlreadyVoted.code(), Refusal::NoChange.code());
    assert_eq!(codes, [0, voted, 0, voted, 0, same]);
    assert_eq!(done(&applied.answers[4]), Some(Done::Effective));
    let founder = MemberId::of(&secret(0).public());
    assert_eq!(ledger.register().get(&founder).map(|m| m.weight), Some(2));
}

#[test]
fn where_clients_are_listed_members_may_change_the_register_and_nothing_else() {
    let mut ledger = of(&founded(Clients::Listed(vec![client(1)])));
    let (member, stranger) = (secret(1).public(), secret(30));
    let join = |ledger: &Ledger| {
        let chain = ledger.tip().chain;
        Operation::Join(crate::membership::register::Request {
            name: "ann".into(),
            address: String::new(),
            tags: Vec::new(),
            key: KeyProof::make(&chain, ViewId(0), &Digest::ZERO, &stranger, &secret(31)),
        })
        .to_bytes()
    };
    let (own, foreign) = (motion(2), b"a".to_vec());
    let joins = join(&ledger);
    let cases = [
        (member, vec![own.clone()], true),
        (member, vec![foreign.clone()], false),
        (member, vec![own.clone(), foreign.clone()], false),
        (client(1), vec![own, foreign], true),
        (stranger.public(), vec![joins.clone()], false),
    ];
    for (who, operations, is_admitted) in cases {
        let group = signed(who, 1, &operations);
        assert_eq!(ledger.admits(&group).is_ok(), is_admitted, "{operations:?}");
    }
    let mixed = signed(member, 1, &[motion(3), b"a".to_vec()]);
    assert_eq!(
        kinds(&apply(&mut ledger, vec![mixed])),
        ["executed", "not listed"]
    );

    let invite = Operation::Move(Motion::Invite(stranger.public())).to_bytes();
    apply(&mut ledger, vec![signed(member, 5, &[invite])]);
    let asks = signed(stranger.public(), 1, &[joins]);
    assert_eq!(ledger.admits(&asks), Ok(()), "it is about to be invited");
    assert_eq!(kinds(&apply(&mut ledger, vec![asks])), ["executed"]);
}

#[test]
fn a_restored_ledger_has_the_register_of_the_one_that_was_kept() {
    let genesis = founded(Clients::Open);
    let mut ledger = of(&genesis);
    let leave = Operation::Leave.to_bytes();
    apply(&mut ledger, vec![signed(secret(3).public(), 1, &[leave])]);
    advance(&mut ledger, 20);
    let entries: Vec<_> = ledger
        .entries()
        .map(|(name, e)| (name, e.clone()))
        .collect();
    let kept = Some(Register::clone(ledger.register()));
    let restored = Ledger::restore(&genesis, ledger.parts().clone(), kept, entries.clone());
    let restored = restored.expect("what was kept is whole");
    assert_eq!(restored.digest(), ledger.digest());
    let gone = MemberId::of(&secret(3).public());
    assert_eq!(
        restored.register().get(&gone).map(|m| m.status),
        Some(Status::Leaving)
    );
    let without = Ledger::restore(&genesis, ledger.parts().clone(), None, entries.clone());
    let without = without.expect("a register that never changed is not kept");
    assert_ne!(without.digest(), ledger.digest());
    let other = Register::genesis(&document(|_| {}));
    let got = *other.chain();
    let refused = Ledger::restore(&genesis, ledger.parts().clone(), Some(other), entries);
    let want = genesis.chain();
    assert_eq!(
        refused.err(),
        Some(RestoreError::OtherRegister { got, want })
    );
}

#[test]
fn a_newcomer_catches_up_with_a_marked_block_of_this_chain() {
    let mut ledger = of(&founded(Clients::Open));
    let chain = ledger.tip().chain;
    let proof = KeyProof::make(&chain, ViewId(0), &Digest::ZERO, &secret(3), &secret(40));
    let rejoin = Operation::Rejoin(proof).to_bytes();
    apply(&mut ledger, vec![signed(secret(3).public(), 1, &[rejoin])]);
    advance(&mut ledger, 8);
    let digest = ledger.tip_digest();
    advance(&mut ledger, 8);
    let claim = |digest| Operation::CaughtUp(Height(8), digest).to_bytes();
    let claims = [claim(Digest::ZERO), claim(digest)];
    let applied = apply(&mut ledger, vec![signed(secret(3).public(), 2, &claims)]);
    let codes: Vec<u16> = applied
        .answers
        .iter()
        .map(|a| told(a).outcome.code)
        .collect();
    assert_eq!(codes, [Refusal::BadMark.code(), 0]);
}
