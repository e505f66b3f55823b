//! Readers are strict: what they take encodes back to the same bytes, and nothing makes them panic.

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fixtures::*;
use super::view_chain::Builder;
use crate::blocks::codec::{DecodeError, ENCODED_BYTES_MAX, decode, encode};
use crate::blocks::receipts::{Frontier, Receipt};
use crate::blocks::*;
use crate::committee::*;
use crate::crypto::{Digest, Verifier};

/// A type that travels or is stored, reduced to what a hostile sender can do with it.
struct Form {
    name: String,
    good: Vec<u8>,
    /// Decodes, and gives the encoding of what came out.
    reread: fn(&[u8]) -> Result<Vec<u8>, DecodeError>,
}

fn form<T: Serialize + DeserializeOwned>(name: &str, value: &T) -> Form {
    Form {
        name: name.into(),
        good: encode(value),
        reread: |bytes| decode::<T>(bytes, ENCODED_BYTES_MAX).map(|value| encode(&value)),
    }
}

fn stop_data(view: &View) -> StopData {
    let claim = |height, is_decided| Claim {
        height: Height(height),
        is_decided,
        lock: Lock {
            regency: Regency(1),
            digest: fill(0xa1),
        },
    };
    let claims = vec![claim(4, true), claim(6, false)];
    let mut voter = Voter::new(view, consensus(0)).expect("a seat");
    let signed = voter.stop(Regency(2), (Height(3), fill(0xa2)), 7, claims, vec![]);
    signed.expect("canonical claims").1
}

fn forms() -> Vec<Form> {
    let genesis = full_genesis();
    let view = genesis.view().expect("founders make a view");
    let proof = transaction_proof(&genesis);
    let certificate = proof.certificate.clone();
    let mut voter = Voter::new(&view, consensus(0)).expect("a seat");
    let vote = voter.write(Regency(0), Height(1), fill(1));
    let vote = vote.expect("a first vote").1.into_inner();
    let stopped = stop_data(&view);
    let batch = Batch {
        groups: vec![proof.group.clone(), proof.group.clone()],
    };
    let step = Builder::rotated(&genesis, 1).steps.remove(0);
    let mut all = vec![
        form("header", &proof.header),
        form("certificate", &certificate),
        form("proposal", &proposal(&view, None)),
        form(
            "proposal that carries",
            &proposal(&view, Some(certificate.clone())),
        ),
        form("group", &proof.group),
        form("transactions", &transactions()),
        form("batch", &batch),
        form("outcome", &proof.outcome),
        form("vote", &vote),
        form("stop-data", &stopped),
        form("record", &VoterRecord::Locked(certificate.clone())),
        form(
            "stopped record",
            &VoterRecord::Stopped(stopped, vec![certificate]),
        ),
        form("key proof", &key_proof(1)),
        form("frontier", &Frontier::new()),
        form("step", &(step.header, step.body, step.certificate)),
    ];
    let bodies = bodies();
    all.extend(bodies.iter().map(|(name, body)| form(name, body)));
    all
}

impl Form {
    /// Asserts that `bytes` are refused, or are the one form of the value that they give.
    fn assert_strict(&self, bytes: &[u8]) {
        if let Ok(again) = (self.reread)(bytes) {
            assert_eq!(again, bytes, "{}: two forms of one value", self.name);
        }
    }
}

#[test]
fn every_type_reads_back() {
    for form in forms() {
        assert_eq!(
            (form.reread)(&form.good).as_ref(),
            Ok(&form.good),
            "{}",
            form.name
        );
    }
}

#[test]
fn truncated_and_extended_encodings_are_refused() {
    for form in forms() {
        for length in 0..form.good.len() {
            let refused = (form.reread)(&form.good[..length]);
            assert!(refused.is_err(), "{} cut to {length} bytes", form.name);
        }
        for tail in [&[0][..], &[1], &[0; 8], &form.good] {
            let longer = [&form.good, tail].concat();
            let refused = (form.reread)(&longer);
            assert_eq!(refused, Err(DecodeError::NotCanonical), "{}", form.name);
        }
    }
}

#[test]
fn a_changed_byte_gives_another_value_or_none() {
    for form in forms() {
        let mut bytes = form.good.clone();
        for at in 0..bytes.len() {
            for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                bytes[at] ^= change;
                form.assert_strict(&bytes);
                bytes[at] ^= change;
            }
        }
    }
}

#[test]
fn claimed_lengths_are_refused_whatever_they_claim() {
    let lengths = [
        u64::MAX,
        u64::MAX / 2,
        1 << 62,
        1 << 40,
        1 << 32,
        1 << 22,
        1 << 16,
    ];
    for form in forms() {
        for length in lengths {
            let nine = [&length.to_le_bytes()[..], &[0]].concat();
            assert!((form.reread)(&nine).is_err(), "{}", form.name);
            for at in 0..form.good.len().saturating_sub(8) {
                let mut bytes = form.good.clone();
                bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
                form.assert_strict(&bytes);
            }
        }
    }
}

#[test]
fn flags_other_than_zero_and_one_are_refused() {
    let bytes = encode(&(true, Some(1u8)));
    assert_eq!(bytes, [1, 1, 1]);
    type Flags = (bool, Option<u8>);
    for bad in [[2, 1, 1], [255, 1, 1], [1, 2, 1], [1, 255, 1]] {
        assert!(decode::<Flags>(&bad, 3).is_err());
    }
}

#[test]
fn a_bound_is_kept_before_anything_is_read() {
    let bytes = vec![0; 65];
    let refused = decode::<Header>(&bytes, 64);
    assert_eq!(refused, Err(DecodeError::TooLong { got: 65, most: 64 }));
    let bytes = vec![0; ENCODED_BYTES_MAX + 1];
    assert!(matches!(
        decode::<Header>(&bytes, usize::MAX),
        Err(DecodeError::TooLong { .. })
    ));
}

#[test]
fn the_largest_inputs_of_each_decoder_limit_read_back() {
    for length in [
        0x3f8,
        0x3f9,
        0x3ff8,
        0x3ff9,
        0x3_fff8,
        0x3_fff9,
        ENCODED_BYTES_MAX - 8,
    ] {
        let value = bytes::Bytes::from(vec![7; length]);
        let read = decode::<bytes::Bytes>(&encode(&value), ENCODED_BYTES_MAX);
        assert_eq!(read.as_ref(), Ok(&value));
    }
}

#[test]
fn a_seat_set_has_one_form() {
    let set: SeatSet = [Seat(0), Seat(9)].into_iter().collect();
    assert_eq!(encode(&set), [2, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(serde_json::to_string(&set).expect("hex"), "\"0102\"");
    let with_zero = [3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0];
    assert!(decode::<SeatSet>(&with_zero, 64).is_err());
    let beyond = encode(&vec![1u8; 33]);
    assert!(
        decode::<SeatSet>(&beyond, 64).is_err(),
        "seat 256 does not exist"
    );
    assert!(serde_json::from_str::<SeatSet>("\"0100\"").is_err());
}

/// Structured garbage: a few fields of each width, small numbers and huge ones mixed.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => (0u64..20).prop_map(|n| n.to_le_bytes().to_vec()),
        2 => (0u32..8).prop_map(|n| n.to_le_bytes().to_vec()),
        2 => (0u8..3).prop_map(|n| vec![n]),
        1 => any::<u64>().prop_map(|n| n.to_le_bytes().to_vec()),
        2 => any::<[u8; 32]>().prop_map(|bytes| bytes.to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..90),
    ];
    prop::collection::vec(word, 0..16).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// 3000 inputs for each of two dozen types.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in garbage(), seed in any::<u64>()) {
        let forms = FORMS.with(|forms| forms.clone());
        for form in forms.iter() {
            form.assert_strict(&bytes);
            // The same garbage in the middle of something good reaches deeper.
            let at = usize::try_from(seed % form.good.len() as u64).expect("below a length");
            let end = (at + bytes.len() % 24).min(form.good.len());
            let mixed = [&form.good[..at], &bytes[..bytes.len() % 24], &form.good[end..]].concat();
            form.assert_strict(&mixed);
        }
        if let Ok(receipt) = Receipt::from_bytes(&bytes) {
            prop_assert_eq!(&receipt.to_bytes()[..], &bytes[..]);
        }
    }

    #[test]
    fn what_decodes_is_checked_without_a_panic(
        at in any::<prop::sample::Index>(),
        change in 1u8..,
        which in 0usize..4,
    ) {
        let genesis = full_genesis();
        let view = genesis.view().expect("founders make a view");
        let bounds = genesis.parameters.bounds();
        let verifier = Verifier::simulated(Digest::ZERO);
        let flip = |mut bytes: Vec<u8>| {
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            bytes
        };
        let proof = FORMS_PROOF.with(|proof| proof.clone());
        match which {
            0 => {
                let proposal = proposal(&view, Some(proof.certificate));
                let bytes = flip(proposal.to_bytes().to_vec());
                if let Ok(read) = Proposal::from_bytes(&bytes) {
                    let _ = read.check(&view, Height(9), 32);
                    let _ = (read.digest(), read.carried_height());
                    let _ = read.carried.map(|certificate| certificate.checks(&view).is_ok());
                }
            }
            1 => {
                let batch = Batch { groups: vec![proof.group] };
                let bytes = flip(encode(&batch)).into();
                let batch = CheckedBatch::verify(bytes, view.chain(), &bounds, &verifier);
                prop_assert!(batch.is_err());
            }
            2 => {
                let bytes = flip(FORMS_STEP.with(Vec::clone));
                if let Ok(read) = Step::from_bytes(&bytes) {
                    let mut chain = ViewChain::of(&genesis).expect("founders make a view");
                    prop_assert!(chain.walk(&[read], &Verifier::ed25519()).is_err());
                }
            }
            _ => {
                let bytes = flip(encode(&stop_data(&view)));
                if let Ok(read) = decode::<StopData>(&bytes, ENCODED_BYTES_MAX) {
                    let check = read.check(&view);
                    let holds = check.is_some_and(|c| {
                        Verifier::ed25519().is_valid(&c.key, &c.statement, &c.signature)
                    });
                    prop_assert!(!holds);
                }
            }
        }
    }
}

thread_local! {
    static FORMS: std::rc::Rc<Vec<Form>> = std::rc::Rc::new(forms());
    static FORMS_STEP: Vec<u8> = Builder::rotated(&full_genesis(), 1).steps[0].to_bytes();
    static FORMS_PROOF: proof::TransactionProof = transaction_proof(&full_genesis());
}

#[test]
fn json_of_the_genesis_document_never_panics() {
    let text = genesis().to_json();
    let mut bytes = text.clone().into_bytes();
    for at in 0..bytes.len() {
        let byte = bytes[at];
        for other in [b'0', b'9', b'"', b'{', b',', b'-', byte ^ 1] {
            bytes[at] = if other.is_ascii() { other } else { b'?' };
            let changed = std::str::from_utf8(&bytes).expect("ASCII");
            // White space, names and numbers may change; then it is another chain.
            if let Ok(read) = Genesis::from_json(changed) {
                assert!(read == genesis() || read.chain() != genesis().chain());
            }
        }
        bytes[at] = byte;
    }
}
