//! Signatures, digests and sign bytes behave as their heads say.

use super::*;

fn statement(tag: Tag) -> SignBytes {
    SignBytes::new(tag, &Digest::of(Domain::Chain, b"chain")).u64(7)
}

#[test]
fn a_signature_holds_only_for_its_key_and_statement() {
    let key = SecretKey::from_seed([1; 32]);
    let other = SecretKey::from_seed([2; 32]);
    let signature = key.sign(&statement(Tag::Write));
    let verifier = Verifier::ed25519();
    assert!(verifier.is_valid(&key.public(), &statement(Tag::Write), &signature));
    assert!(!verifier.is_valid(&other.public(), &statement(Tag::Write), &signature));
}

#[test]
fn no_signature_of_one_tag_holds_under_another() {
    let key = SecretKey::from_seed([1; 32]);
    let verifier = Verifier::ed25519();
    for signed in Tag::ALL {
        let signature = key.sign(&statement(signed));
        for read in Tag::ALL {
            let holds = verifier.is_valid(&key.public(), &statement(read), &signature);
            assert_eq!(holds, signed == read, "{signed:?} read as {read:?}");
        }
    }
}

#[test]
fn a_batch_fails_when_one_signature_is_wrong() {
    let keys: Vec<_> = (0..9).map(|i| SecretKey::from_seed([i; 32])).collect();
    let verifier = Verifier::ed25519();
    let mut checks: Vec<_> = keys
        .iter()
        .map(|key| Check {
            key: key.public(),
            statement: statement(Tag::Persist),
            signature: key.sign(&statement(Tag::Persist)),
        })
        .collect();
    assert!(verifier.all_valid(&checks));
    checks[4].signature.0[3] ^= 1;
    assert!(!verifier.all_valid(&checks));
}

#[test]
fn the_simulated_scheme_refuses_forgeries() {
    let world = Digest::of(Domain::Audit, b"world");
    let key = SecretKey::simulated([1; 32], world);
    let signature = key.sign(&statement(Tag::Write));
    let verifier = Verifier::simulated(world);
    assert!(verifier.is_valid(&key.public(), &statement(Tag::Write), &signature));
    assert!(!verifier.is_valid(&key.public(), &statement(Tag::Accept), &signature));
    let stranger = Verifier::simulated(Digest::ZERO);
    assert!(!stranger.is_valid(&key.public(), &statement(Tag::Write), &signature));
}

#[test]
fn a_digest_reads_back_from_its_text() {
    let digest = Digest::of(Domain::Body, b"x");
    assert_eq!(digest.to_string().parse(), Ok(digest));
    assert!("zz".parse::<Digest>().is_err());
}
