//! A proof holds as it is and in no other form.

use super::fixtures::*;
use crate::blocks::proof::{Proof, ProofError, StateProof, TransactionProof};
use crate::blocks::*;
use crate::committee::{CertificateError, Height, Kind, Regency, Seat, ViewId, Voter};
use crate::crypto::{Digest, Domain, Signature, Verifier};

fn verify(proof: &TransactionProof, genesis: &Genesis) -> Result<(), ProofError> {
    proof.verify(genesis, &Verifier::ed25519()).map(|_| ())
}

#[test]
fn a_transaction_proof_holds_and_names_place_and_result() {
    let genesis = full_genesis();
    let proof = transaction_proof(&genesis);
    let text = Proof::Transaction(proof.clone()).to_json();
    let read = Proof::from_json(&text).expect("what was written");
    assert_eq!(read, Proof::Transaction(proof.clone()));
    let proved = proof
        .verify(&genesis, &Verifier::ed25519())
        .expect("a good proof");
    assert_eq!((proved.height, proved.certified), (Height(8), Height(9)));
    assert_eq!(proved.sequence, 3);
    assert_eq!(proved.client, client().public());
    assert_eq!(proved.transaction, transactions()[1]);
    assert_eq!(proved.outcome, proof.outcome);
}

#[test]
fn a_state_proof_gives_the_certified_root() {
    let genesis = full_genesis();
    let proof = state_proof(&genesis);
    let text = Proof::State(proof.clone()).to_json();
    assert_eq!(Proof::from_json(&text), Ok(Proof::State(proof.clone())));
    let proved = proof
        .verify(&genesis, &Verifier::ed25519())
        .expect("a good proof");
    assert_eq!(Some(proved.root), proof.header.state);
    let mut without = proof;
    without.header.state = None;
    let view = genesis.view().expect("a view");
    without.certificate = certify(&view, without.header.height, without.header.digest());
    let refused = without.verify(&genesis, &Verifier::ed25519());
    assert_eq!(refused, Err(ProofError::NoState));
}

/// Replacements of one byte that keep the text valid UTF-8, and some that keep it valid JSON.
fn replacements(byte: u8) -> impl Iterator<Item = u8> {
    let near = [byte ^ 1, byte ^ 2, byte ^ 0x20];
    let chosen = [
        b'0', b'1', b'7', b'f', b'F', b' ', b'\n', b'"', b',', b'}', 0,
    ];
    let all = near.into_iter().chain(chosen);
    all.filter(move |other| *other != byte && other.is_ascii())
}

pub(super) fn every_change_is_refused(
    text: &str,
    replacements_count: usize,
    is_refused: impl Fn(&Proof) -> bool,
) {
    let mut bytes = text.as_bytes().to_vec();
    let mut reached_content = 0;
    for at in 0..bytes.len() {
        let byte = bytes[at];
        for other in replacements(byte).take(replacements_count) {
            bytes[at] = other;
            let changed = std::str::from_utf8(&bytes).expect("ASCII");
            if let Ok(proof) = Proof::from_json(changed) {
                reached_content += 1;
                let (from, to) = (char::from(byte), char::from(other));
                assert!(is_refused(&proof), "byte {at}: {from:?} became {to:?}");
            }
        }
        bytes[at] = byte;
        let short = [&text[..at], &text[at + 1..]].concat();
        let read = Proof::from_json(&short);
        assert!(
            read.is_err() || is_refused(&read.expect("checked")),
            "byte {at} left out"
        );
    }
    assert!(
        reached_content > 1000,
        "changes reach the content as well as the form"
    );
    assert!(Proof::from_json(&format!("{text} ")).is_err());
}

#[test]
fn a_change_of_any_byte_of_a_transaction_proof_is_refused() {
    let genesis = full_genesis();
    let text = Proof::Transaction(transaction_proof(&genesis)).to_json();
    every_change_is_refused(&text, usize::MAX, |proof| match proof {
        Proof::Transaction(proof) => verify(proof, &genesis).is_err(),
        Proof::State(_) => true,
    });
}

#[test]
fn a_change_of_any_byte_of_a_state_proof_is_refused() {
    let genesis = full_genesis();
    // Stands for the application: the root is the digest of key and path.
    let root_of = |p: &StateProof| Digest::of(Domain::Map, &[&p.key[..], &p.map].concat());
    let mut proof = state_proof(&genesis);
    proof.header.state = Some(root_of(&proof));
    let view = genesis.view().expect("a view");
    proof.certificate = certify(&view, proof.header.height, proof.header.digest());
    let text = Proof::State(proof).to_json();
    every_change_is_refused(&text, usize::MAX, |proof| match proof {
        Proof::State(proof) => proof
            .verify(&genesis, &Verifier::ed25519())
            .map_or(true, |proved| proved.root != root_of(proof)),
        Proof::Transaction(_) => true,
    });
}

#[test]
fn each_part_of_a_proof_is_bound() {
    type Change = fn(&mut TransactionProof);
    let header = ProofError::OtherHeader;
    let mismatch = |field| ProofError::Mismatch { field };
    let bad_signature = ProofError::Certificate(CertificateError::BadSignature);
    let cases: Vec<(&str, Change, ProofError)> = vec![
        (
            "chain",
            |p| p.header.chain = fill(1),
            ProofError::OtherChain,
        ),
        ("version", |p| p.header.version = 2, ProofError::OtherChain),
        (
            "view",
            |p| p.header.view = ViewId(1),
            ProofError::OtherView {
                view: ViewId(1),
                shown: ViewId(0),
            },
        ),
        ("time", |p| p.header.timestamp_us += 1, header),
        (
            "kind",
            |p| p.certificate.ballot.kind = Kind::Write,
            ProofError::OtherHeader,
        ),
        (
            "regency",
            |p| p.certificate.ballot.regency = Regency(1),
            ProofError::Certificate(CertificateError::Malformed {
                signers: 3,
                signatures: 3,
            }),
        ),
        (
            "signers",
            |p| p.certificate.signers = [0, 1, 3].map(Seat).into_iter().collect(),
            bad_signature,
        ),
        ("path", |p| p.path[0] = fill(1), ProofError::NotInLog),
        (
            "path length",
            |p| p.path.push(fill(1)),
            ProofError::NotInLog,
        ),
        ("code", |p| p.outcome.code = 1, mismatch("outcome")),
        (
            "signature",
            |p| p.group.signature = Signature([0; 64]),
            ProofError::Group(GroupError::BadSignature),
        ),
    ];
    let genesis = full_genesis();
    for (name, change, expected) in cases {
        let mut proof = transaction_proof(&genesis);
        change(&mut proof);
        assert_eq!(verify(&proof, &genesis), Err(expected), "{name}");
    }
    let mut other = full_genesis();
    other.founded_us += 1;
    let proof = transaction_proof(&genesis);
    assert_eq!(verify(&proof, &other), Err(ProofError::OtherChain));
}

#[test]
fn a_certificate_below_a_quorum_proves_nothing() {
    let genesis = full_genesis();
    let mut proof = transaction_proof(&genesis);
    proof.certificate.signatures.pop();
    proof.certificate.signers = [0, 1].map(Seat).into_iter().collect();
    let refused = ProofError::Certificate(CertificateError::NoQuorum { have: 2, need: 3 });
    assert_eq!(verify(&proof, &genesis), Err(refused));
    // One signature three times over does not count three times.
    let view = genesis.view().expect("a view");
    let mut voter = Voter::new(&view, consensus(0)).expect("a seat");
    let vote = voter.persist(proof.header.height, proof.header.digest());
    let signature = vote.expect("a first vote").1.signature;
    proof.certificate.signatures = vec![signature; 3];
    proof.certificate.signers = [0, 1, 2].map(Seat).into_iter().collect();
    let refused = ProofError::Certificate(CertificateError::BadSignature);
    assert_eq!(verify(&proof, &genesis), Err(refused));
}
