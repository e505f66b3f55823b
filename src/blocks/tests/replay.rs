//! No signature holds for another type, chain, view, regency, height or digest than it was made
//! for.

use super::fixtures::*;
use crate::blocks::SignedGroup;
use crate::committee::*;
use crate::crypto::{Check, Digest, SecretKey, SignBytes, Signature, Verifier};

/// Each signed statement with each field that it has changed in turn, all of one key.
fn statements(secret: &SecretKey) -> Vec<(String, SignBytes)> {
    let mut all = Vec::new();
    let mut add = |name: String, statement: SignBytes| all.push((name, statement));
    let (here, there) = (fill(0xc1), fill(0xc2));
    let base = Ballot {
        kind: Kind::Write,
        view: ViewId(1),
        regency: Regency(2),
        height: Height(3),
        digest: fill(0xd1),
    };
    for kind in [Kind::Propose, Kind::Write, Kind::Accept, Kind::Persist] {
        let base = Ballot { kind, ..base };
        let view = ViewId(2);
        let (regency, height) = (Regency(3), Height(2));
        let digest = fill(0xd2);
        add(format!("{kind:?}"), base.sign_bytes(&here));
        add(format!("{kind:?} chain"), base.sign_bytes(&there));
        add(
            format!("{kind:?} view"),
            Ballot { view, ..base }.sign_bytes(&here),
        );
        add(
            format!("{kind:?} regency"),
            Ballot { regency, ..base }.sign_bytes(&here),
        );
        add(
            format!("{kind:?} height"),
            Ballot { height, ..base }.sign_bytes(&here),
        );
        add(
            format!("{kind:?} digest"),
            Ballot { digest, ..base }.sign_bytes(&here),
        );
    }
    for (name, check) in stop_data(secret, here, there) {
        add(name, check.statement);
    }
    for (chain, name) in [(here, "group"), (there, "group chain")] {
        for (count, other) in [(2, ""), (1, " bytes")] {
            let group = SignedGroup::sign(&chain, secret, &transactions()[..count]);
            add(format!("{name}{other}"), group.check(&chain).statement);
        }
    }
    let identity = identity(0);
    for (chain, view, assemble, who, name) in [
        (here, 1, fill(1), &identity, "key"),
        (there, 1, fill(1), &identity, "key chain"),
        (here, 2, fill(1), &identity, "key view"),
        (here, 1, fill(2), &identity, "key assemble"),
        (here, 1, fill(1), secret, "key identity"),
    ] {
        let proof = KeyProof::make(&chain, ViewId(view), &assemble, who, secret);
        let checks = proof.checks(&chain, ViewId(view), &assemble, &who.public());
        let [possession, certified] = checks.map(|check| check.statement);
        add(format!("possession of {name}"), possession);
        add(format!("certified {name}"), certified);
    }
    all
}

fn stop_data(secret: &SecretKey, here: Digest, there: Digest) -> Vec<(String, Check)> {
    let claim = |height, is_decided, regency, digest| Claim {
        height: Height(height),
        is_decided,
        lock: Lock {
            regency: Regency(regency),
            digest: fill(digest),
        },
    };
    let base = StopData {
        view: ViewId(1),
        regency: Regency(2),
        base: Height(3),
        base_digest: fill(1),
        timeout_us: 7,
        claims: vec![claim(5, false, 1, 1)],
        seat: Seat(0),
        signature: Signature([0; 64]),
    };
    let claims = |claims| move |data: &mut StopData| data.claims = claims;
    type Change = Box<dyn FnOnce(&mut StopData)>;
    let cases: Vec<(&str, Digest, Change)> = vec![
        ("base", here, Box::new(|_| ())),
        ("chain", there, Box::new(|_| ())),
        ("view", here, Box::new(|d| d.view = ViewId(2))),
        ("regency", here, Box::new(|d| d.regency = Regency(3))),
        ("base height", here, Box::new(|d| d.base = Height(4))),
        ("base digest", here, Box::new(|d| d.base_digest = fill(2))),
        ("timeout", here, Box::new(|d| d.timeout_us = 8)),
        ("no claim", here, Box::new(claims(vec![]))),
        (
            "height",
            here,
            Box::new(claims(vec![claim(6, false, 1, 1)])),
        ),
        (
            "decided",
            here,
            Box::new(claims(vec![claim(5, true, 1, 1)])),
        ),
        ("lock", here, Box::new(claims(vec![claim(5, false, 0, 1)]))),
        (
            "digest",
            here,
            Box::new(claims(vec![claim(5, false, 1, 2)])),
        ),
    ];
    let make = |(name, chain, change): (&str, Digest, Change)| {
        let mut data = base.clone();
        change(&mut data);
        let seat = SeatKey {
            member: MemberId::of(&secret.public()),
            key: Some(secret.public()),
        };
        let view = View::new(data.view, chain, vec![seat], &Digest::ZERO).expect("a view");
        let check = data.check(&view).expect("canonical claims of a seat");
        (format!("stop-data {name}"), check)
    };
    cases.into_iter().map(make).collect()
}

#[test]
fn no_signature_holds_for_another_statement() {
    let secret = consensus(0);
    let verifier = Verifier::ed25519();
    let statements = statements(&secret);
    assert!(statements.len() > 45);
    for (signed, statement) in &statements {
        let signature = secret.sign(statement);
        for (read, other) in &statements {
            let holds = verifier.is_valid(&secret.public(), other, &signature);
            assert_eq!(holds, signed == read, "{signed} read as {read}");
        }
    }
}

#[test]
fn a_vote_of_another_chain_or_view_is_not_counted() {
    let view = full_genesis().view().expect("founders make a view");
    let mut other = full_genesis();
    other.name = "other".into();
    let other = other.view().expect("founders make a view");
    let verifier = Verifier::ed25519();
    let mut voter = Voter::new(&view, consensus(1)).expect("a seat");
    let vote = voter.write(Regency(0), Height(1), fill(1));
    let vote = vote.expect("a first vote").1.into_inner();
    assert!(vote.verify(&view, &verifier).is_some());
    assert!(vote.verify(&other, &verifier).is_none(), "another chain");
    let later = View::new(
        ViewId(1),
        *view.chain(),
        view.seats().to_vec(),
        view.chain(),
    );
    let later = later.expect("the same seats");
    assert!(vote.verify(&later, &verifier).is_none(), "another view");
    let mut renamed = vote;
    renamed.ballot.view = ViewId(1);
    assert!(
        renamed.verify(&later, &verifier).is_none(),
        "the view is signed"
    );
    let mut moved = vote;
    moved.seat = Seat(2);
    assert!(moved.verify(&view, &verifier).is_none(), "another seat");
    moved.seat = Seat(u16::MAX);
    assert!(moved.verify(&view, &verifier).is_none(), "no seat");
}

#[test]
fn a_certificate_of_one_kind_is_none_of_another() {
    let view = full_genesis().view().expect("founders make a view");
    let good = certify(&view, Height(4), fill(1));
    let verifier = Verifier::ed25519();
    assert!(good.clone().verify(&view, &verifier).is_ok());
    for kind in [Kind::Propose, Kind::Write, Kind::Accept] {
        let mut other = good.clone();
        other.ballot.kind = kind;
        let refused = other.verify(&view, &verifier);
        assert_eq!(refused, Err(CertificateError::BadSignature), "{kind:?}");
    }
}
