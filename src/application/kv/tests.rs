//! The key-value machine as clients, hosts and newcomers see it.

use std::io;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::{ReadError, Registry, RegistryError};
use super::*;
use crate::blocks::receipts::outcome_digest;

/// Bytes of a piece in these tests.
const PIECE: usize = 4096;

fn put(key: &str, value: &str) -> Vec<u8> {
    let (key, value) = (key.as_bytes(), value.as_bytes());
    bytes(Operation::Put { key, value })
}

fn get(key: &str) -> Vec<u8> {
    bytes(Operation::Get {
        key: key.as_bytes(),
    })
}

fn delete(key: &str) -> Vec<u8> {
    bytes(Operation::Delete {
        key: key.as_bytes(),
    })
}

fn swap(key: &str, old: Option<&str>, new: &str) -> Vec<u8> {
    let (key, new) = (key.as_bytes(), new.as_bytes());
    bytes(Operation::CompareAndSet {
        key,
        old: old.map(str::as_bytes),
        new,
    })
}

fn bytes(operation: Operation<'_>) -> Vec<u8> {
    operation
        .to_bytes()
        .expect("the test's operations are within bounds")
}

/// Executes the next height.
fn run(kv: &mut dyn Application, sealed: bool, operations: &[Vec<u8>]) -> Executed {
    let operations: Vec<_> = operations.iter().map(Vec::as_slice).collect();
    kv.execute(&Block {
        height: kv.height() + 1,
        timestamp_us: 0,
        operations: &operations,
        sealed,
    })
}

fn value(kv: &dyn Application, key: &str) -> Option<Vec<u8>> {
    let answer = kv.query(&get(key)).expect("get is a request");
    Answer::from_bytes(&answer).expect("an answer reads back").0
}

fn filled(count: usize) -> Kv {
    let mut kv = Kv::new();
    let puts: Vec<_> = (0..count)
        .map(|i| put(&format!("key {i}"), &"x".repeat(i)))
        .collect();
    run(&mut kv, true, &puts);
    kv
}

fn stream(kv: &Kv) -> Vec<u8> {
    kv.snapshot(PIECE).chunks.flatten().collect()
}

fn restore(bytes: &[u8], cut: usize) -> Result<Kv, RestoreError> {
    let mut kv = Kv::new();
    let mut chunks = bytes
        .chunks(cut)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)));
    kv.restore(&mut chunks)?;
    Ok(kv)
}

#[test]
fn each_operation_gives_its_result_and_code() {
    let mut kv = Kv::new();
    let other = value_digest(b"2").0;
    let cases: [(Vec<u8>, Code, &[u8]); 18] = [
        (get("a"), Code::Absent, b""),
        (put("a", "1"), Code::Done, &[0]),
        (put("a", "2"), Code::Done, &[1]),
        (get("a"), Code::Done, b"2"),
        (swap("a", Some("1"), "3"), Code::Mismatch, &other),
        (swap("a", None, "3"), Code::Mismatch, &other),
        (swap("a", Some("2"), "3"), Code::Done, b""),
        (get("a"), Code::Done, b"3"),
        (delete("a"), Code::Done, b""),
        (delete("a"), Code::Absent, b""),
        (swap("a", Some("3"), "4"), Code::Mismatch, b""),
        (swap("a", None, ""), Code::Done, b""),
        (get("a"), Code::Done, b""),
        (bytes(Operation::Raw { bytes: b"?" }), Code::Raw, b""),
        (Vec::new(), Code::Malformed, b""),
        (vec![9], Code::Malformed, b""),
        ([&get("a")[..], b"!"].concat(), Code::Malformed, b""),
        (put("b", ""), Code::Done, &[0]),
    ];
    let operations: Vec<_> = cases.iter().map(|case| case.0.clone()).collect();
    let executed = run(&mut kv, false, &operations);
    for (place, ((_, code, bytes), got)) in cases.iter().zip(&executed.results).enumerate() {
        assert_eq!(Code::try_from(got.code), Ok(*code), "operation {place}");
        assert_eq!(&got.bytes[..], *bytes, "operation {place}");
        assert_eq!(got.digest(), outcome_digest(got.code, bytes));
    }
    assert_eq!(
        (executed.results.len(), executed.state_root),
        (cases.len(), None)
    );
    assert_eq!((kv.height(), kv.map().len()), (1, 2));
}

#[test]
fn an_operation_that_fails_changes_neither_state_nor_tables() {
    let mut kv = filled(3);
    kv.drain_changes();
    let before = kv.state_digest();
    let raw = bytes(Operation::Raw { bytes: b"?" });
    let failing = [
        delete("z"),
        swap("key 1", None, "y"),
        raw,
        vec![0],
        get("key 1"),
        get("z"),
    ];
    run(&mut kv, true, &failing);
    assert_eq!(kv.state_digest(), before);
    assert_eq!(kv.drain_changes(), Vec::new());
}

#[test]
fn a_full_state_refuses_growth_and_allows_the_rest() {
    let mut kv = Kv::new();
    kv.state_bytes_max = 2 * (ENTRY_BYTES + 11);
    let ten = "x".repeat(10);
    let eleven = "x".repeat(11);
    let operations = [
        put("a", &ten),
        put("b", &ten),
        put("c", ""),
        put("a", &eleven),
        swap("a", Some(&ten), &eleven),
        put("a", "y"),
        put("b", &eleven),
        delete("a"),
        put("c", "x"),
    ];
    let executed = run(&mut kv, false, &operations);
    let codes: Vec<_> = executed
        .results
        .iter()
        .map(|outcome| outcome.code)
        .collect();
    let full = Code::Full as u16;
    assert_eq!(codes, [0, 0, full, full, full, 0, 0, 0, 0]);
    let mut chunks = kv.snapshot(PIECE).chunks.map(Ok);
    let mut smaller = Kv::new();
    smaller.state_bytes_max = ENTRY_BYTES;
    assert!(matches!(
        smaller.restore(&mut chunks),
        Err(RestoreError::Size { .. })
    ));
}

#[test]
fn check_refuses_by_bytes_alone() {
    let kv = Kv::new();
    let key = vec![b'k'; KEY_BYTES_MAX + 1];
    let value = vec![b'v'; VALUE_BYTES_MAX + 1];
    assert!(Operation::Get { key: &key }.to_bytes().is_err());
    assert!(Operation::Get { key: b"" }.to_bytes().is_err());
    assert!(
        Operation::Put {
            key: b"k",
            value: &value
        }
        .to_bytes()
        .is_err()
    );
    let largest = Operation::Put {
        key: &key[1..],
        value: &value[1..],
    };
    assert_eq!(kv.check(&bytes(largest)), Ok(()));
    assert_eq!(kv.check(&bytes(Operation::Raw { bytes: b"?" })), Ok(()));
    let long = [&[2][..], &1025u32.to_le_bytes(), &key].concat();
    let error = ReadError::Length {
        field: "key",
        have: 1025,
        min: 1,
        max: 1024,
    };
    assert_eq!(
        kv.check(&long),
        Err(CheckError {
            reason: error.to_string()
        })
    );
    assert!(kv.check(&[2, 255, 255, 255, 255]).is_err());
}

#[test]
fn operations_have_these_bytes() {
    let cases = [
        (put("k", "vw"), "01010000006b020000007677"),
        (get("k"), "02010000006b"),
        (delete("k"), "03010000006b"),
        (
            swap("k", Some("v"), "w"),
            "04010000006b0101000000760100000077",
        ),
        (swap("k", None, "w"), "04010000006b000100000077"),
        (bytes(Operation::Raw { bytes: b"r" }), "050100000072"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(hex::encode(&bytes), expected);
    }
}

#[test]
fn a_sealed_root_stays_provable_until_it_is_released() {
    let mut kv = filled(20);
    let first = kv.map().root();
    let second = run(&mut kv, true, &[put("key 1", "new"), delete("key 2")]).state_root;
    let second = second.expect("a sealed block has a root");
    run(&mut kv, false, &[put("key 1", "newer")]);
    let unsealed = kv.map().root();
    let shown = |kv: &Kv, root: &Digest, key: &str| {
        let proof = kv
            .prove(key.as_bytes(), root)
            .expect("the root is retained");
        let value = kv
            .verify(root, key.as_bytes(), &proof)
            .expect("an honest proof holds");
        value.map(|value| value.to_vec())
    };
    assert_eq!(shown(&kv, &first, "key 1"), Some(b"x".to_vec()));
    assert_eq!(shown(&kv, &first, "key 2"), Some(b"xx".to_vec()));
    assert_eq!(shown(&kv, &second, "key 1"), Some(b"new".to_vec()));
    assert_eq!(shown(&kv, &second, "key 2"), None);
    assert_eq!(
        kv.prove(b"key 1", &unsealed),
        Err(QueryError::Root { root: unsealed })
    );
    assert_eq!((kv.retain(1, &first), kv.retain(1, &second)), (true, false));
    kv.release(2);
    assert_eq!(
        kv.prove(b"key 1", &first),
        Err(QueryError::Root { root: first })
    );
    assert_eq!(shown(&kv, &second, "key 1"), Some(b"new".to_vec()));
    assert!(matches!(
        kv.prove(b"", &second),
        Err(QueryError::Malformed { .. })
    ));
}

#[test]
fn retained_roots_are_bounded_and_the_lowest_goes_first() {
    let mut kv = Kv::new();
    let roots: Vec<_> = (0..=ROOTS_MAX)
        .map(|i| run(&mut kv, true, &[put("k", &i.to_string())]).state_root)
        .map(|root| root.expect("a sealed block has a root"))
        .collect();
    assert!(kv.prove(b"k", &roots[0]).is_err());
    assert!(kv.prove(b"k", &roots[1]).is_ok());
}

#[test]
fn a_reader_on_another_thread_sees_one_state() {
    let mut kv = filled(5);
    let (reader, root) = (kv.reader(), kv.map().root());
    let thread = std::thread::spawn(move || (reader.query(&get("key 3")), reader.height()));
    run(&mut kv, true, &[put("key 3", "later")]);
    assert_eq!(
        thread.join().expect("the reader does not panic"),
        (Ok(b"\x01xxx".to_vec()), 1)
    );
    assert_eq!(value(&kv, "key 3"), Some(b"later".to_vec()));
    assert!(kv.reader().prove(b"key 3", &root).is_ok());
    assert!(matches!(
        kv.query(&put("a", "b")),
        Err(QueryError::Malformed { .. })
    ));
}

#[test]
fn drained_changes_rebuild_the_state_and_its_provable_root() {
    let mut kv = filled(9);
    let mut table = BTreeMap::new();
    let drain = |kv: &mut Kv, table: &mut BTreeMap<_, _>| {
        for (key, value) in kv.drain_changes() {
            match value {
                Some(value) => table.insert(key, value),
                None => table.remove(&key),
            };
        }
    };
    drain(&mut kv, &mut table);
    let acts = [
        delete("key 3"),
        put("key 3", "back"),
        put("n", "1"),
        delete("key 5"),
        delete("n"),
    ];
    let root = run(&mut kv, true, &acts)
        .state_root
        .expect("a sealed block has a root");
    drain(&mut kv, &mut table);
    let mut entries: Vec<_> = kv.entries().collect();
    entries.sort();
    assert!(
        table
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .eq(entries)
    );

    let mut loaded = filled(2);
    let mut rows = table.into_iter().rev().map(Ok);
    loaded.load(&mut rows, 2).expect("the table holds a state");
    assert_eq!(
        (loaded.height(), loaded.state_digest()),
        (2, kv.state_digest())
    );
    assert_eq!(loaded.drain_changes(), Vec::new());
    assert!(loaded.prove(b"key 3", &root).is_err());
    assert!(!loaded.retain(1, &root));
    assert!(loaded.retain(2, &root));
    assert!(loaded.prove(b"key 3", &root).is_ok());
}

#[test]
fn a_table_that_fails_or_holds_no_state_changes_nothing() {
    let mut kv = filled(3);
    let before = kv.state_digest();
    let row = || Ok((Bytes::from_static(b"k"), Bytes::new()));
    let mut twice = [row(), row()].into_iter();
    assert!(matches!(
        kv.load(&mut twice, 9),
        Err(RestoreError::Order { index: 1 })
    ));
    let mut empty = [Ok((Bytes::new(), Bytes::new()))].into_iter();
    assert!(matches!(kv.load(&mut empty, 9), Err(RestoreError::Read(_))));
    let mut failing = [row(), Err(io::Error::other("gone"))].into_iter();
    assert!(matches!(
        kv.load(&mut failing, 9),
        Err(RestoreError::Source(_))
    ));
    assert_eq!((kv.height(), kv.state_digest()), (1, before));
}

#[test]
fn a_snapshot_and_a_state_digest_have_these_bytes() {
    let mut kv = Kv::new();
    run(&mut kv, false, &[put("k", "v")]);
    let expected = "0101000000000000000100000000000000010000006b0100000076";
    assert_eq!(hex::encode(stream(&kv)), expected);
    assert_eq!(
        kv.state_digest().to_string(),
        "e9931138e66e01c23cf7196ce807aa5a0417f316667848186af188e2fc36a111"
    );
    assert_eq!(
        outcome_digest(0, b"v").to_string(),
        "fe62d889413a961ac398265aac86cc4fb5768ab7d30d2e561514fab20ed78a72"
    );
}

#[test]
fn a_snapshot_is_of_one_height_while_execution_goes_on() {
    let mut kv = filled(2000);
    let (expected, digest) = (stream(&kv), kv.state_digest());
    let mut snapshot = kv.snapshot(PIECE);
    let mut bytes: Vec<u8> = snapshot.chunks.by_ref().take(2).flatten().collect();
    let acts: Vec<_> = (0..2000)
        .step_by(3)
        .map(|i| delete(&format!("key {i}")))
        .collect();
    run(&mut kv, true, &acts);
    bytes.extend(snapshot.chunks.flatten());
    assert_eq!(bytes, expected);
    assert_eq!((snapshot.height, snapshot.digest), (1, digest));
    for cut in [1000, PIECE + 1, bytes.len()] {
        let restored = restore(&bytes, cut).expect("a snapshot reads back");
        assert_eq!((restored.height(), restored.state_digest()), (1, digest));
    }
}

#[test]
fn a_change_alters_the_piece_that_it_is_in_and_no_other() {
    let mut kv = filled(2000);
    let pieces = |kv: &Kv| -> Vec<Bytes> { kv.snapshot(PIECE).chunks.collect() };
    let before = pieces(&kv);
    assert!(before.iter().skip(1).all(|piece| piece.len() <= PIECE));
    assert!(before.len() > 100, "{} pieces", before.len());
    for (act, most) in [
        (put("key 7", "another"), 2),
        (put("a new key", "which may cut its piece in two"), 3),
        (delete("key 8"), 3),
    ] {
        let old = pieces(&kv);
        run(&mut kv, true, &[act]);
        // The head counts entries and names the height.
        let new = pieces(&kv);
        let other = new.iter().filter(|piece| !old.contains(piece)).count();
        assert!((2..=most).contains(&other), "{other} other pieces");
    }
    let again = restore(&pieces(&kv).concat(), 77).expect("pieces in order are the stream");
    assert_eq!(pieces(&again), pieces(&kv));
}

#[test]
fn an_entry_that_fits_no_piece_is_one() {
    let mut kv = Kv::new();
    let long = "x".repeat(3 * PIECE);
    run(&mut kv, true, &[put("long", &long), put("short", "y")]);
    let sizes: Vec<usize> = kv.snapshot(PIECE).chunks.map(|piece| piece.len()).collect();
    assert_eq!(sizes.len(), 3);
    assert!(sizes.contains(&(4 + 4 + 4 + long.len())));
}

#[test]
fn a_snapshot_does_not_tell_how_the_state_came_about() {
    let one = filled(30);
    let mut other = Kv::new();
    let mut acts = vec![put("passing", "x")];
    acts.extend(
        (0..30)
            .rev()
            .map(|i| put(&format!("key {i}"), &"x".repeat(i))),
    );
    acts.push(delete("passing"));
    run(&mut other, false, &acts);
    assert_eq!(stream(&one), stream(&other));
    assert_eq!(one.state_digest(), other.state_digest());
}

#[test]
fn a_snapshot_cut_short_lengthened_or_reordered_is_refused() {
    let kv = filled(8);
    let bytes = stream(&kv);
    assert_eq!(
        stream(&restore(&bytes, 1).expect("a snapshot reads back")),
        bytes
    );
    for length in 0..bytes.len() {
        assert!(restore(&bytes[..length], 16).is_err(), "cut to {length}");
    }
    assert!(restore(&[&bytes[..], &[0]].concat(), 16).is_err());
    let entry = |(key, value): (Bytes, Bytes)| bytes_of(&key, &value);
    let mut entries: Vec<_> = kv.entries().map(entry).collect();
    assert_eq!([&bytes[..17], &entries.concat()].concat(), bytes);
    entries.swap(2, 3);
    let swapped = [&bytes[..17], &entries.concat()].concat();
    assert!(matches!(
        restore(&swapped, 16),
        Err(RestoreError::Order { index: 3 })
    ));
    entries[2] = entries[3].clone();
    let twice = [&bytes[..17], &entries.concat()].concat();
    assert!(matches!(
        restore(&twice, 16),
        Err(RestoreError::Order { index: 3 })
    ));
    let mut version = bytes.clone();
    version[0] = 2;
    assert!(matches!(restore(&version, 16), Err(RestoreError::Read(_))));
}

fn bytes_of(key: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| (bytes.len() as u32).to_le_bytes();
    [&length(key)[..], key, &length(value), value].concat()
}

#[test]
fn two_machines_fed_the_same_blocks_agree_on_everything() {
    let mut one = Kv::new();
    let mut other = Kv::new();
    for height in 0..60u32 {
        let acts: Vec<_> = (0..height % 7)
            .map(|i| match (height * 31 + i * 17) % 5 {
                0 => delete(&format!("{}", i % 3)),
                1 => swap(&format!("{}", i % 3), Some("1"), "2"),
                _ => put(&format!("{}", (height + i) % 9), &format!("{i}")),
            })
            .collect();
        // Asking one of them for hashes more often changes nothing.
        one.state_digest();
        let sealed = height % 4 == 0;
        assert_eq!(run(&mut one, sealed, &acts), run(&mut other, sealed, &acts));
        if height == 30 {
            other = restore(&stream(&other), 7).expect("a snapshot reads back");
        }
    }
    assert_eq!(stream(&one), stream(&other));
}

#[test]
fn operations_and_outcomes_are_written_as_json() {
    let mut kv = Kv::new();
    let hex = bytes(Operation::Put {
        key: b"k",
        value: &[255],
    });
    let cases = [
        (
            put("k", "v"),
            r#"{"put":{"key":"k","value":"v"}}"#,
            r#"{"existed":false}"#,
        ),
        (
            get("k"),
            r#"{"get":{"key":"k"}}"#,
            r#"{"value":"v","encoding":"utf8"}"#,
        ),
        (
            hex,
            r#"{"put":{"encoding":"hex","key":"6b","value":"ff"}}"#,
            r#"{"existed":true}"#,
        ),
        (
            get("k"),
            r#"{"get":{"key":"k"}}"#,
            r#"{"value":"ff","encoding":"hex"}"#,
        ),
        (
            swap("z", Some("a"), "b"),
            r#"{"cas":{"key":"z","new":"b","old":"a"}}"#,
            r#"{"present":null}"#,
        ),
        (
            swap("z", None, "b"),
            r#"{"cas":{"key":"z","new":"b","old":null}}"#,
            "{}",
        ),
        (delete("z"), r#"{"del":{"key":"z"}}"#, "{}"),
        (
            bytes(Operation::Raw { bytes: b"?" }),
            r#"{"raw":{"bytes":"3f"}}"#,
            "{}",
        ),
        (vec![7], r#""07""#, "{}"),
    ];
    let operations: Vec<_> = cases.iter().map(|case| case.0.clone()).collect();
    let results = run(&mut kv, false, &operations).results;
    for ((operation, written, gives), outcome) in cases.iter().zip(&results) {
        let json = kv.operation_to_json(operation);
        assert_eq!(json.to_string(), *written);
        let is_one = kv.check(operation).is_ok();
        assert_eq!(
            kv.operation_from_json(&json).ok().as_ref(),
            is_one.then_some(operation)
        );
        let mut shown = kv.outcome_to_json(operation, outcome);
        let shown = shown.as_object_mut().expect("an outcome is an object");
        let code = Code::try_from(outcome.code).expect("a code of ours");
        assert_eq!(shown.remove("code"), Some(outcome.code.into()));
        assert_eq!(shown.remove("status"), Some(code.name().into()));
        let gives: Value = serde_json::from_str(gives).expect("a test case is JSON");
        assert_eq!(Value::from(shown.clone()), gives);
    }
}

#[test]
fn json_that_is_no_operation_is_refused() {
    let kv = Kv::new();
    for wrong in [
        r#"{"put":{"key":"k"}}"#,
        r#"{"put":{"key":"","value":""}}"#,
        r#"{"put":{"key":"k","value":"v","more":1}}"#,
        r#"{"put":{"key":"zz","value":"","encoding":"hex"}}"#,
        r#"{"get":{"key":"k"},"del":{"key":"k"}}"#,
        r#"{"cas":{"key":"k","new":"v"}}"#,
        r#"{"incr":{"key":"k"}}"#,
        "[]",
        "null",
    ] {
        let json = serde_json::from_str(wrong).expect("a test case is JSON");
        assert!(kv.operation_from_json(&json).is_err(), "{wrong}");
    }
}

static THIRD: Plugin = Plugin {
    name: "a-third-party",
    about: "",
    make: || Box::new(Kv::new()),
};
static IMPOSTOR: Plugin = Plugin {
    name: "kv",
    about: "",
    make: || Box::new(Kv::new()),
};
static NAMELESS: Plugin = Plugin {
    name: "K V",
    about: "",
    make: || Box::new(Kv::new()),
};

inventory::submit!(Registration(&THIRD));

#[test]
fn applications_are_found_by_name_in_sorted_order() {
    let mut registry = Registry::standard().expect("our names are unique");
    let names: Vec<_> = registry.iter().map(|plugin| plugin.name).collect();
    assert_eq!(names, ["a-third-party", "kv"]);
    let mut made = (registry.get("kv").expect("kv is ours").make)();
    assert_eq!(
        run(&mut *made, true, &[]).state_root,
        Some(Map::new().root())
    );
    assert_eq!(registry.register(&PLUGIN), Ok(()));
    assert_eq!(
        registry.register(&IMPOSTOR),
        Err(RegistryError::Taken { name: "kv" })
    );
    assert_eq!(
        registry.register(&NAMELESS),
        Err(RegistryError::Name { name: "K V" })
    );
    let error = registry.get("sql").expect_err("nobody registered it");
    assert_eq!(
        error.to_string(),
        "no application is named 'sql'; there are: a-third-party, kv"
    );
}

proptest! {
    #[test]
    fn every_operation_within_bounds_reads_back(
        kind in 0..5,
        key in vec(any::<u8>(), 1..40),
        value in vec(any::<u8>(), 0..40),
        old in option::of(vec(any::<u8>(), 0..40)),
        flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let operation = match kind {
            0 => Operation::Put { key: &key, value: &value },
            1 => Operation::Get { key: &key },
            2 => Operation::Delete { key: &key },
            3 => Operation::CompareAndSet { key: &key, old: old.as_deref(), new: &value },
            _ => Operation::Raw { bytes: &value },
        };
        let mut encoded = bytes(operation);
        prop_assert_eq!(Operation::from_bytes(&encoded), Ok(operation));
        for length in 0..encoded.len() {
            prop_assert!(Operation::from_bytes(&encoded[..length]).is_err());
        }
        let place = flip.0.index(encoded.len());
        encoded[place] ^= flip.1;
        if let Ok(other) = Operation::from_bytes(&encoded) {
            prop_assert_eq!(other.to_bytes(), Ok(encoded));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_are_the_one_encoding(kind in 0..7u8, rest in vec(0..3u8, 0..40)) {
        let encoded = [&[kind], &rest[..]].concat();
        if let Ok(operation) = Operation::from_bytes(&encoded) {
            prop_assert_eq!(operation.to_bytes(), Ok(encoded));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        operations in vec(vec(0..5u8, 0..20), 0..30),
        chunk in vec(any::<u8>(), 0..60),
    ) {
        let mut kv = Kv::new();
        let executed = run(&mut kv, true, &operations);
        prop_assert_eq!(executed.results.len(), operations.len());
        for operation in &operations {
            let _ = (kv.check(operation), kv.query(operation), Answer::from_bytes(operation));
            let _ = kv.verify(&kv.map().root(), b"k", operation);
        }
        let head = [&[1, 1, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0], &chunk[..]].concat();
        let _ = (restore(&chunk, 9), restore(&head, 9));
    }
}
