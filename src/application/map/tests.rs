//! The map agrees with a plain one, its root with a definition, and its proofs hold for nothing
//! else.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::node::{branch_hash, leaf_hash};
use super::*;
use crate::crypto::{Digest, sha256};

type Plain = BTreeMap<Vec<u8>, Vec<u8>>;

fn map(entries: &Plain) -> Map {
    let mut map = Map::new();
    for (key, value) in entries {
        map.insert(key.clone().into(), value.clone().into());
    }
    map
}

fn numbers(count: u32) -> Plain {
    let entry = |i: u32| {
        (
            format!("key {i}").into_bytes(),
            format!("value {i}").into_bytes(),
        )
    };
    (0..count).map(entry).collect()
}

/// The root as the heads of `map` and `node` define it, of entries in path order.
fn naive(entries: &[(Digest, &[u8])]) -> Digest {
    match entries {
        [] => empty_hash(),
        [(path, value)] => leaf_hash(path, &value_digest(value)),
        [(first, _), .., (last, _)] => {
            let bit = (0..=255).find(|bit| side(first, *bit) != side(last, *bit));
            let bit = bit.expect("two keys have two paths");
            let (low, high) = entries.split_at(entries.partition_point(|e| side(&e.0, bit) == 0));
            branch_hash(bit, [&naive(low), &naive(high)])
        }
    }
}

fn defined_root(entries: &Plain) -> Digest {
    let paths = entries
        .iter()
        .map(|(key, value)| (key_path(key), &value[..]));
    let mut sorted: Vec<_> = paths.collect();
    sorted.sort();
    naive(&sorted)
}

/// What encoded bytes show of `key` under `root`.
fn shown(bytes: &[u8], root: &Digest, key: &[u8]) -> Result<Option<Bytes>, ProofError> {
    Ok(MapProof::from_bytes(bytes)?.verify(root, key)?.cloned())
}

/// No byte of `key`, `root` or the encoded proof can be another, missing or added.
fn assert_binding(map: &Map, key: &[u8]) {
    let root = map.root();
    let bytes = map.prove(key).to_bytes().expect("values are within bounds");
    assert_eq!(
        shown(&bytes, &root, key).as_ref().map(Option::as_ref),
        Ok(map.get(key))
    );
    let with = |bytes: &[u8], place: usize, flip: u8| {
        let mut altered = bytes.to_vec();
        altered[place] ^= flip;
        altered
    };
    for flip in 1..=255 {
        for place in 0..bytes.len() {
            let altered = shown(&with(&bytes, place, flip), &root, key);
            assert!(
                altered.is_err(),
                "byte {place} ^ {flip:02x} gives {altered:?}"
            );
        }
        for place in 0..key.len() {
            assert!(shown(&bytes, &root, &with(key, place, flip)).is_err());
        }
        for place in 0..32 {
            let root = with(root.as_bytes(), place, flip);
            let root = Digest(root.try_into().expect("a root has 32 bytes"));
            assert!(shown(&bytes, &root, key).is_err());
        }
    }
    for length in 0..bytes.len() {
        assert!(shown(&bytes[..length], &root, key).is_err());
    }
    assert!(shown(&[&bytes[..], &[0]].concat(), &root, key).is_err());
}

#[test]
fn any_altered_byte_of_a_proof_of_presence_fails() {
    let entries = numbers(40);
    assert_binding(&map(&entries), b"key 7");
    assert_binding(&map(&numbers(1)), b"key 0");
}

#[test]
fn any_altered_byte_of_a_proof_of_absence_fails() {
    assert_binding(&map(&numbers(40)), b"no such key");
    assert_binding(&map(&numbers(1)), b"no such key");
    assert_binding(&Map::new(), b"no such key");
}

#[test]
fn a_proof_holds_for_no_other_key_and_no_other_state() {
    let entries = numbers(30);
    let full = map(&entries);
    let root = full.root();
    for key in entries.keys() {
        let proof = full.prove(key);
        for other in entries.keys().filter(|other| *other != key) {
            assert!(proof.verify(&root, other).is_err());
        }
        let mut without = full.clone();
        without.remove(key);
        assert!(proof.verify(&without.root(), key).is_err());
        assert_eq!(without.prove(key).verify(&without.root(), key), Ok(None));
        assert!(without.prove(key).verify(&root, key).is_err());
    }
}

#[test]
fn steps_that_no_map_has_are_no_walk() {
    let full = map(&numbers(30));
    let mut bytes = full.prove(b"absent").to_bytes().expect("within bounds");
    let steps = 2 + 96 + 2;
    bytes.swap(steps, steps + 33);
    assert_eq!(MapProof::from_bytes(&bytes), Err(ProofError::Walk));
    let mut bytes = full.prove(b"absent").to_bytes().expect("within bounds");
    bytes.copy_within(2..34, 34);
    assert_eq!(MapProof::from_bytes(&bytes), Err(ProofError::Walk));
}

#[test]
fn a_clone_stays_as_it_was() {
    let mut entries = numbers(100);
    let mut live = map(&entries);
    let root = live.root();
    let before = live.clone();
    let mut stream = before.entries();
    let first = stream.next();
    for i in 0..100 {
        live.insert(format!("key {i}").into(), Bytes::from_static(b"other"));
        live.remove(format!("key {}", (i * 7) % 100).as_bytes());
    }
    assert_ne!(live.root(), root);
    assert_eq!(before.root(), root);
    assert_eq!(
        before.prove(b"key 3").verify(&root, b"key 3"),
        Ok(before.get(b"key 3"))
    );
    for (key, value) in first.into_iter().chain(stream) {
        assert_eq!(entries.remove(&key[..]).as_deref(), Some(&value[..]));
    }
    assert!(entries.is_empty());
}

/// Frozen: another value here is another protocol.
const GOLDEN: [&str; 4] = [
    "fab6b794ce1a7eba9617fe3d6c83b75485319d0797909789c035a6692b8aa6c1",
    "fb08432f7d04a4f3079cd35ca13cb9a7008e2fbb0df556d0e06c3a92874092c8",
    "6c2d97fa542b430079b523c7ae64f835553b46a984f1eaf98258924ee561e848",
    "69724f3fa36c13744b3947eba4d031df394d7e422afb5f8ea51c856056fef367",
];

#[test]
fn hashes_and_proofs_have_these_bytes() {
    let full = map(&numbers(3));
    let proof = |key: &[u8]| sha256(&[&full.prove(key).to_bytes().expect("within bounds")]);
    let got = [
        Map::new().root(),
        full.root(),
        proof(b"key 1"),
        proof(b"key 3"),
    ];
    assert_eq!(got.map(|digest| digest.to_string()), GOLDEN);
}

fn small() -> impl Strategy<Value = Vec<u8>> {
    vec(0..4u8, 1..4)
}

proptest! {
    #[test]
    fn the_root_is_a_function_of_the_contents(
        entries in btree_map(small(), small(), 0..60),
        passing in btree_map(small(), small(), 0..60),
        order in any::<u64>(),
    ) {
        let root = defined_root(&entries);
        prop_assert_eq!(map(&entries).root(), root);
        // Another order, through other keys and values, with hashes asked for on the way.
        let mut other = map(&passing);
        let mut keys: Vec<_> = entries.keys().chain(passing.keys()).collect();
        keys.sort_by_key(|key| blake3::hash(&[&order.to_le_bytes(), &key[..]].concat()).to_hex());
        for (turn, key) in keys.into_iter().enumerate() {
            match entries.get(key) {
                Some(value) => other.insert(key.clone().into(), value.clone().into()),
                None => other.remove(key),
            };
            if turn % 3 == 0 {
                other.root();
            }
        }
        prop_assert_eq!(other.root(), root);
    }

    #[test]
    fn it_does_what_a_plain_map_does(
        acts in vec((small(), proptest::option::of(small())), 0..200),
    ) {
        let (mut map, mut plain) = (Map::new(), Plain::new());
        for (key, value) in acts {
            let (got, expected) = match value {
                Some(value) => (
                    map.insert(key.clone().into(), value.clone().into()),
                    plain.insert(key, value),
                ),
                None => (map.remove(&key), plain.remove(&key)),
            };
            prop_assert_eq!(got.map(|v| v.to_vec()), expected);
        }
        prop_assert_eq!(map.len(), plain.len() as u64);
        let bytes: usize = plain.iter().map(|(key, value)| key.len() + value.len()).sum();
        prop_assert_eq!(map.bytes(), bytes as u64);
        prop_assert_eq!(map.root(), defined_root(&plain));
        let entries: Plain = map.entries().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        prop_assert_eq!(&entries, &plain);
        prop_assert!(map.entries().is_sorted_by_key(|(key, _)| key_path(&key)));
        let root = map.root();
        for key in (0..64u8).map(|k| vec![k & 3, k >> 2 & 3, k >> 4]) {
            let bytes = map.prove(&key).to_bytes().expect("values are within bounds");
            let value = shown(&bytes, &root, &key).expect("an honest proof holds");
            prop_assert_eq!(value.as_deref(), plain.get(&key).map(|v| &v[..]));
        }
    }

    #[test]
    fn bytes_are_refused_or_are_the_one_encoding(
        bytes in vec(any::<u8>(), 0..200),
        kind in 0..3u8,
    ) {
        let bytes = [&[1, kind], &bytes[..]].concat();
        if let Ok(proof) = MapProof::from_bytes(&bytes) {
            prop_assert_eq!(proof.to_bytes(), Ok(bytes));
        }
    }
}
