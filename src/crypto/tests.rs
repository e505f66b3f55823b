//! Signatures, digests and sign bytes behave as their heads say.

use std::collections::BTreeSet;

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::scalar::Scalar;
use sha2::Digest as _;

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

/// ZIP-215 word by word: canonical s below the group's order, any encoding of A and R, the
/// cofactored equation.
fn zip215(key: &[u8; 32], signature: &[u8; 64], message: &[u8]) -> bool {
    let (mut r, mut s) = ([0; 32], [0; 32]);
    r.copy_from_slice(&signature[..32]);
    s.copy_from_slice(&signature[32..]);
    let scalar = Option::<Scalar>::from(Scalar::from_canonical_bytes(s));
    let points = [*key, r].map(|bytes| CompressedEdwardsY(bytes).decompress());
    let ([Some(a), Some(r_point)], Some(s)) = (points, scalar) else {
        return false;
    };
    let k = challenge(&r, key, message);
    (ED25519_BASEPOINT_POINT * s - r_point - a * k).is_small_order()
}

fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let hash = sha2::Sha512::new().chain_update(r).chain_update(key);
    Scalar::from_bytes_mod_order_wide(&hash.chain_update(message).finalize().into())
}

fn raw_check(key: [u8; 32], signature: [u8; 64], message: &[u8]) -> Check {
    Check {
        key: PublicKey(Digest(key)),
        statement: SignBytes::raw(message),
        signature: Signature(signature),
    }
}

/// Asserts that `check` gets `expected` alone, twice in one batch, and beside a good signature.
fn assert_verdict(check: &Check, expected: bool, what: &str) {
    let verifier = Verifier::ed25519();
    let (message, signature) = (check.statement.as_slice(), &check.signature.0);
    let reference = zip215(check.key.as_bytes(), signature, message);
    assert_eq!(reference, expected, "the rule itself: {what}");
    let single = verifier.is_valid(&check.key, &check.statement, &check.signature);
    assert_eq!(single, expected, "single: {what}");
    let key = SecretKey::from_seed([3; 32]);
    let good = Check {
        key: key.public(),
        statement: statement(Tag::Write),
        signature: key.sign(&statement(Tag::Write)),
    };
    for batch in [[check.clone(), check.clone()], [check.clone(), good]] {
        assert_eq!(verifier.all_valid(&batch), expected, "batch: {what}");
    }
}

fn hex_array<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).expect("a test vector is hex of its length");
    bytes
}

#[test]
fn the_published_edge_cases_get_the_verdict_of_zip_215() {
    let lines = include_str!("../../tests/golden/taming.txt").lines();
    let cases: Vec<Vec<&str>> = lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(' ').collect())
        .collect();
    assert_eq!(cases.len(), 12);
    for (index, case) in cases.iter().enumerate() {
        let message = hex_array::<32>(case[0]);
        let check = raw_check(hex_array(case[1]), hex_array(case[2]), &message);
        assert_verdict(&check, case[3] == "holds", &format!("case {index}"));
    }
}

/// The eight points of small order and the six encodings that name some of them a second time.
fn small_order_encodings() -> Vec<[u8; 32]> {
    let end = |first: u8, middle: u8, last: u8| {
        let mut bytes = [middle; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    };
    let canonical = EIGHT_TORSION
        .iter()
        .map(|point| point.compress().to_bytes());
    let again = [
        end(0x01, 0x00, 0x80), // y = 1 with the sign of x = 0 set
        end(0xec, 0xff, 0xff), // y = -1 with the sign of x = 0 set
        end(0xed, 0xff, 0x7f), // y = p, which is 0
        end(0xed, 0xff, 0xff),
        end(0xee, 0xff, 0x7f), // y = p + 1, which is 1
        end(0xee, 0xff, 0xff),
    ];
    canonical.chain(again).collect()
}

#[test]
fn small_order_keys_and_points_hold_in_every_encoding() {
    let encodings = small_order_encodings();
    assert_eq!(encodings.len(), 14);
    let mut all = Vec::new();
    for key in &encodings {
        for r in &encodings {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(r);
            let check = raw_check(*key, signature, b"small order");
            assert_verdict(
                &check,
                true,
                &format!("{} {}", hex::encode(key), hex::encode(r)),
            );
            let mut wrong = check.clone();
            wrong.signature.0[32] = 1;
            assert_verdict(&wrong, false, "s = 1 leaves the base point over");
            all.push(check);
        }
    }
    assert_eq!(all.len(), 196);
    assert!(
        Verifier::ed25519().all_valid(&all),
        "all of them in one batch"
    );
}

#[test]
fn points_with_a_torsion_part_get_one_verdict_alone_and_in_a_batch() {
    let scalar = |n: u64, what: &[u8]| {
        let mut wide = [0; 64];
        let digest = Digest::of(Domain::Audit, &[what, &n.to_le_bytes()].concat());
        wide[..32].copy_from_slice(digest.as_bytes());
        Scalar::from_bytes_mod_order_wide(&wide)
    };
    for (i, key_torsion) in EIGHT_TORSION.iter().enumerate() {
        for (j, r_torsion) in EIGHT_TORSION.iter().enumerate() {
            let n = (8 * i + j) as u64;
            let (a, r) = (scalar(n, b"a"), scalar(n, b"r"));
            let key = (ED25519_BASEPOINT_POINT * a + key_torsion)
                .compress()
                .to_bytes();
            let r_bytes = (ED25519_BASEPOINT_POINT * r + r_torsion)
                .compress()
                .to_bytes();
            let message = n.to_le_bytes();
            let s = r + challenge(&r_bytes, &key, &message) * a;
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&r_bytes);
            signature[32..].copy_from_slice(&s.to_bytes());
            let mut check = raw_check(key, signature, &message);
            assert_verdict(&check, true, &format!("torsion {i} in the key, {j} in R"));
            check.signature.0[32] ^= 1;
            assert_verdict(&check, false, &format!("torsion {i}, {j}, another s"));
        }
    }
}

#[test]
fn bytes_that_are_no_point_or_no_scalar_are_refused_without_a_panic() {
    let key = SecretKey::from_seed([1; 32]);
    let good = Check {
        key: key.public(),
        statement: statement(Tag::Group),
        signature: key.sign(&statement(Tag::Group)),
    };
    let mut high = good.clone();
    high.signature.0[63] |= 0xe0;
    assert_verdict(&high, false, "s above the order");
    // y = 2 is on no point of the curve.
    let mut no_point = good.clone();
    no_point.key = PublicKey(Digest(std::array::from_fn(|i| if i == 0 { 2 } else { 0 })));
    assert_verdict(&no_point, false, "the key is no point");
    let mut no_r = good;
    no_r.signature.0[..32].copy_from_slice(no_point.key.as_bytes());
    assert_verdict(&no_r, false, "R is no point");
}

#[test]
fn tags_and_domains_are_distinct_and_frozen() {
    let tags: BTreeSet<_> = Tag::ALL.iter().map(|tag| tag.bytes()).collect();
    assert_eq!(tags.len(), Tag::ALL.len());
    let contexts: BTreeSet<_> = Domain::ALL.iter().map(|domain| domain.context()).collect();
    assert_eq!(contexts.len(), Domain::ALL.len());
    let mut text = String::new();
    for tag in Tag::ALL {
        text += &format!("tag {tag:?} {}\n", hex::encode(tag.bytes()));
    }
    for domain in Domain::ALL {
        text += &format!("domain {domain:?} {}\n", domain.context());
        let expected = blake3::derive_key(domain.context(), b"abc");
        assert_eq!(Digest::of(domain, b"abc"), Digest(expected));
    }
    assert_eq!(text, include_str!("../../tests/golden/tags.txt"));
}

#[test]
fn sign_bytes_are_the_fields_one_after_another() {
    let chain = Digest([0xc1; 32]);
    let bytes = SignBytes::new(Tag::Write, &chain)
        .u8(1)
        .u32(0x0403_0201)
        .u64(0x0807_0605_0403_0201)
        .digest(&Digest([0xd1; 32]))
        .optional(None)
        .optional(Some(&Digest([0xd2; 32])))
        .bytes(b"abc");
    let expected = [
        b"consort/write\0\0\0".as_slice(),
        &[1],
        &[0xc1; 32],
        &[1],
        &[1, 2, 3, 4],
        &[1, 2, 3, 4, 5, 6, 7, 8],
        &[0xd1; 32],
        &[0],
        &[0; 32],
        &[1],
        &[0xd2; 32],
        &[3, 0, 0, 0],
        b"abc",
    ]
    .concat();
    assert_eq!(bytes.as_slice(), expected);
}
