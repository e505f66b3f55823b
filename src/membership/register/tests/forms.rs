//! Encodings are those of `docs/formats.md`, and rows read back.

use super::super::*;
use super::land::{Land, secret};
use crate::blocks::Call;
use crate::blocks::codec::ENCODED_BYTES_MAX;
use crate::committee::{EVERYONE_BELOW, MEMBERS_MAX, Risk};
use crate::crypto::Hasher;

fn rules() -> (ViewRules, [u8; 24]) {
    let risk = Risk {
        byzantine_ppm: 6,
        crashed_ppm: 7,
        one_in: std::num::NonZeroU64::new(8).expect("it is not zero"),
    };
    let rules = ViewRules {
        rotation_blocks: 0x0102_0304,
        assemble_blocks: 5,
        risk,
        everyone_below: EVERYONE_BELOW,
    };
    let bytes = b"\x04\x03\x02\x01\x05\0\0\0\x06\0\0\0\x07\0\0\0\x08\0\0\0\0\0\0\0";
    (rules, *bytes)
}

/// Each operation with its bytes, written by hand.
fn operations() -> Vec<(Operation, Vec<u8>)> {
    let land = Land::of(1);
    let (key, id) = (secret(5).public(), land.id(0));
    let proof = land.proof(&secret(5), 60);
    let proof_bytes = [
        &proof.key.as_bytes()[..],
        &proof.possession.0,
        &proof.certified.0,
    ]
    .concat();
    let (key_bytes, id_bytes) = (&key.as_bytes()[..], &id.0.as_bytes()[..]);
    let (rules, rules_bytes) = rules();
    let request = Request {
        name: "ann".into(),
        address: "a:1".into(),
        tags: vec!["de".into(), "eu".into()],
        key: proof,
    };
    let asked = b"\0\x02\x03\0\0\0ann\x03\0\0\0a:1\x02\x02\0\0\0de\x02\0\0\0eu";
    let ballot = Digest([9; 32]);
    let cat = |parts: &[&[u8]]| parts.concat();
    vec![
        (
            Operation::Move(Motion::Invite(key)),
            cat(&[&[0, 1], key_bytes]),
        ),
        (Operation::Join(request), cat(&[asked, &proof_bytes])),
        (Operation::Approve(ballot), cat(&[&[0, 3], &[9; 32]])),
        (Operation::Reject(ballot), cat(&[&[0, 4], &[9; 32]])),
        (Operation::Leave, vec![0, 5]),
        (
            Operation::Move(Motion::Exclude(id)),
            cat(&[&[0, 6], id_bytes]),
        ),
        (
            Operation::Convict(b"proof".to_vec()),
            b"\0\x07\x05\0\0\0proof".to_vec(),
        ),
        (
            Operation::Move(Motion::Replace(id, key)),
            cat(&[&[0, 8], id_bytes, key_bytes]),
        ),
        (
            Operation::Move(Motion::Weight(id, 3)),
            cat(&[&[0, 9], id_bytes, &[3, 0, 0, 0]]),
        ),
        (
            Operation::Address("b:2".into()),
            b"\0\x0a\x03\0\0\0b:2".to_vec(),
        ),
        (
            Operation::Identity(key, proof),
            cat(&[&[0, 11], key_bytes, &proof_bytes]),
        ),
        (
            Operation::CaughtUp(Height(16), ballot),
            cat(&[&[0, 12, 16, 0, 0, 0, 0, 0, 0, 0], &[9; 32]]),
        ),
        (Operation::Rejoin(proof), cat(&[&[0, 13], &proof_bytes])),
        (
            Operation::Move(Motion::Client(key, true)),
            cat(&[&[0, 14], key_bytes, &[1]]),
        ),
        (
            Operation::Move(Motion::Rules(rules)),
            cat(&[&[0, 15], &rules_bytes]),
        ),
        (Operation::Renew, vec![0, 16]),
    ]
}

/// What named members say while a threshold key is made.
fn parts_of_a_key() -> Vec<(Operation, Vec<u8>)> {
    let call = Call {
        next: ViewId(7),
        assemble: Digest([9; 32]),
    };
    let part = |step, bytes: &[u8]| {
        let head = [&[0, 17, 7, 0, 0, 0, 0, 0, 0, 0][..], &[9; 32]].concat();
        (Operation::Threshold(call, step), [&head, bytes].concat())
    };
    let complaint = |dealer, opening| Complaint {
        dealer,
        opening: Bytes::from_static(opening),
    };
    let complaints = vec![complaint(2, b""), complaint(0x0103, b"ab")];
    vec![
        part(Step::Key(Bytes::from_static(b"k")), b"\0\x01\0\0\0k"),
        part(Step::Deal(Bytes::from_static(b"de")), b"\x01\x02\0\0\0de"),
        part(Step::Judge(Vec::new()), b"\x02\0\0"),
        part(
            Step::Judge(complaints),
            b"\x02\x02\0\x02\0\0\0\0\0\x03\x01\x02\0\0\0ab",
        ),
    ]
}

#[test]
fn a_rule_that_few_ledgers_need_stands_behind_the_others_where_it_is_needed() {
    let (mut rules, usual) = rules();
    rules.everyone_below = 30;
    let operation = Operation::Move(Motion::Rules(rules));
    let bytes = [&[0, 15][..], &usual, &[30, 0, 0, 0]].concat();
    assert_eq!(operation.to_bytes(), bytes);
    assert_eq!(Operation::from_bytes(&bytes), Ok(operation));
    let spelt_out = [&[0, 15][..], &usual, &[100, 0, 0, 0]].concat();
    assert_eq!(Operation::from_bytes(&spelt_out), Err(MalformedError));
}

#[test]
fn who_votes_on_rules_is_shown_all_of_them() {
    let (mut rules, _) = rules();
    rules.everyone_below = 30;
    let shown = Motion::Rules(rules).to_string();
    let want = "rotation_blocks 16909060 assemble_blocks 5 everyone_below 30 byzantine_ppm 6 \
                crashed_ppm 7 one_in 8";
    assert_eq!(shown, want);
}

#[test]
fn complaints_name_each_dealer_once() {
    let complaint = |dealer| Complaint {
        dealer,
        opening: Bytes::new(),
    };
    let call = Call {
        next: ViewId(1),
        assemble: Digest::ZERO,
    };
    let read = |dealers: &[u16]| {
        let complaints = dealers.iter().map(|dealer| complaint(*dealer)).collect();
        let operation = Operation::Threshold(call, Step::Judge(complaints));
        Operation::from_bytes(&operation.to_bytes()).is_ok()
    };
    assert!(read(&[1, 2]));
    assert!(!read(&[2, 1]));
    assert!(!read(&[1, 1]));
}

#[test]
fn every_operation_is_encoded_as_specified_and_in_no_other_way() {
    for (operation, bytes) in operations().into_iter().chain(parts_of_a_key()) {
        assert_eq!(operation.to_bytes(), bytes, "{operation:?}");
        assert_eq!(Operation::from_bytes(&bytes).as_ref(), Ok(&operation));
        assert!(is_own(&bytes));
        for length in 0..bytes.len() {
            let cut = Operation::from_bytes(&bytes[..length]);
            assert_eq!(cut, Err(MalformedError), "{operation:?} cut to {length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Operation::from_bytes(&longer), Err(MalformedError));
    }
}

#[test]
fn what_is_out_of_bounds_is_malformed() {
    let land = Land::of(1);
    let good = land.request(&secret(5), 60);
    let join = |change: &dyn Fn(&mut Request)| {
        let mut request = good.clone();
        change(&mut request);
        Operation::from_bytes(&Operation::Join(request).to_bytes()).is_ok()
    };
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    assert!(join(&|_| {}));
    assert!(join(&|r| r.address.clear()));
    assert!(!join(&|r| r.name.clear()));
    assert!(!join(&|r| r.name = "n".repeat(65)));
    assert!(!join(&|r| r.address = "a b".into()));
    assert!(!join(&|r| r.tags = tags(&["b", "a"])));
    assert!(!join(&|r| r.tags = tags(&["a", "a"])));
    assert!(!join(&|r| r.tags = tags(&["A"])));
    assert!(!join(
        &|r| r.tags = tags(&["1", "2", "3", "4", "5", "6", "7", "8", "9"])
    ));
    for bytes in [&[][..], &[1], &[0], &[0, 0], &[0, 17], &[0, 5, 0]] {
        assert_eq!(
            Operation::from_bytes(bytes),
            Err(MalformedError),
            "{bytes:?}"
        );
    }
}

#[test]
fn what_was_done_reads_back() {
    let open = Done::Open {
        ballot: Digest([1; 32]),
        approvals: 2,
        needed: 3,
    };
    for done in [Done::Effective, Done::Fell, open] {
        assert_eq!(Done::from_bytes(&done.to_bytes()), Some(done));
    }
    for bytes in [&[][..], &[3], &[0, 0], &[1]] {
        assert_eq!(Done::from_bytes(bytes), None);
    }
}

#[test]
fn codes_are_distinct_and_above_those_of_applications() {
    let codes: BTreeSet<u16> = Refusal::ALL.iter().map(|refusal| refusal.code()).collect();
    assert_eq!(codes.len(), Refusal::ALL.len());
    assert!(codes.iter().all(|code| *code >= 256));
    for refusal in Refusal::ALL {
        assert_eq!(Refusal::of(refusal.code()), Some(*refusal));
    }
    assert_eq!(Refusal::of(0), None);
}

fn reread(register: &Register) -> Result<Register, RowsError> {
    let rows = register.to_rows();
    Register::from_rows(register.chain(), rows.each_ref().map(|row| &row[..]))
}

#[test]
fn rows_read_back_and_belong_to_their_chain() {
    let mut land = Land::listed(4);
    land.pass(Motion::Client(secret(30).public(), true));
    land.join(&secret(20), 60).expect("there is room");
    land.moves(0, Motion::Exclude(land.id(3)))
        .expect("it opens");
    land.register.freeze(land.height);
    assert_eq!(reread(&land.register), Ok(land.register.clone()));
    let rows = land.register.to_rows();
    let (got, want) = (*land.register.chain(), Digest::ZERO);
    let other = Register::from_rows(&want, rows.each_ref().map(|row| &row[..]));
    assert_eq!(other, Err(RowsError::OtherChain { got, want }));
}

#[test]
fn the_digest_of_states_differs_where_the_register_does() {
    let digest = |register: &Register| {
        let mut hasher = Hasher::new(crate::crypto::Domain::State);
        register.hash_into(&mut hasher);
        hasher.finish()
    };
    let mut land = Land::of(4);
    let mut seen = BTreeSet::from([digest(&land.register)]);
    land.join(&secret(20), 60).expect("there is room");
    assert!(seen.insert(digest(&land.register)));
    land.invite(0, &secret(20)).expect("it is open");
    assert!(seen.insert(digest(&land.register)));
    land.register.freeze(land.height);
    assert!(seen.insert(digest(&land.register)));
    assert_eq!(
        reread(&land.register).map(|r| digest(&r)),
        Ok(digest(&land.register))
    );
}

#[test]
fn rows_of_a_full_register_fit_the_codec() {
    let mut land = Land::listed(4);
    let register = &mut land.register;
    let key = register.members.values().next().and_then(|m| m.key);
    let text = (LIST_BYTES_MAX / MEMBERS_MAX).saturating_sub(216);
    for n in 0..MEMBERS_MAX as u32 {
        let identity = PublicKey(Digest::of(crate::crypto::Domain::Audit, &n.to_le_bytes()));
        let member = Member {
            address: "a".repeat(text),
            key,
            status: Status::CaughtUp,
            replaces: Some(MemberId(Digest::ZERO)),
            ..Member::invited(identity, n, Height(0))
        };
        register.members.insert(MemberId::of(&identity), member);
    }
    register.base = register.footing();
    register.freeze(Height(0));
    let request = Request {
        name: "n".repeat(64),
        address: "a".repeat(255),
        tags: vec!["t".repeat(32); TAGS_MAX],
        key: key.expect("a founder has a key").proof,
    };
    for n in 0..(BALLOTS_MAX + REQUESTS_MAX) as u32 {
        let identity = PublicKey(Digest::of(crate::crypto::Domain::Body, &n.to_le_bytes()));
        let mut ballot = Ballot::new(Motion::Invite(identity), Height(0), None);
        if n < BALLOTS_MAX as u32 {
            ballot.approvals = (0..MEMBERS_MAX as u32).collect();
        } else {
            let asked = Asked {
                identity,
                height: Height(0),
                request: request.clone(),
            };
            register.requests.insert(MemberId::of(&identity), asked);
        }
        register.ballots.insert(ballot.motion.ballot(), ballot);
    }
    let key = |n: u32| PublicKey(Digest::of(crate::crypto::Domain::Map, &n.to_le_bytes()));
    register.clients = Some(
        (0..crate::blocks::LISTED_CLIENTS_MAX as u32)
            .map(key)
            .collect(),
    );
    for _ in 0..AUDIT_MAX {
        let deed = Deed::Client(PublicKey(Digest::ZERO), true);
        let id = Some(MemberId(Digest::ZERO));
        register.note(Height(0), id, id, deed);
    }
    for row in register.to_rows() {
        assert!(row.len() <= ENCODED_BYTES_MAX, "{} bytes", row.len());
    }
    assert!(reread(register).as_ref() == Ok(register));
}
