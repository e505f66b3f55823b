//! A state file is read whole and as it was written, or not at all.

use super::*;
use crate::application::Block;
use crate::application::kv::{Kv, Operation};
use crate::blocks::tests::fixtures::full_genesis;
use crate::blocks::{Parameters, Predecessor, Transaction};
use crate::consortium::{Decided, Verdict};

fn application() -> Box<dyn Application> {
    Box::new(Kv::new())
}

/// A state of three keys, and two names that were used.
fn carried() -> (Carried, Box<dyn Application>) {
    let mut kv = application();
    let puts: Vec<Vec<u8>> = (b'a'..=b'c')
        .map(|key| {
            let put = Operation::Put {
                key: &[key],
                value: b"value",
            };
            put.to_bytes().expect("a small one")
        })
        .collect();
    let operations: Vec<&[u8]> = puts.iter().map(Vec::as_slice).collect();
    kv.execute(&Block {
        height: 7,
        timestamp_us: 1,
        operations: &operations,
        sealed: true,
    });
    let name = |n: u8| ((PublicKey(Digest([n; 32])), u64::from(n)), Height(n.into()));
    let carried = Carried {
        names: Arc::new((1..=2).map(name).collect()),
        entries: kv.entries().collect(),
    };
    (carried, kv)
}

fn successor(state_digest: Digest) -> Genesis {
    Genesis {
        successor_of: Some(Predecessor {
            chain: Digest([1; 32]),
            height: Height(7),
            digest: Digest([2; 32]),
            state_digest,
        }),
        parameters: Parameters::default(),
        ..full_genesis()
    }
}

#[test]
fn a_state_file_reads_back_beside_the_document_that_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let document = folder.path().join("genesis.json");
    let (carried, kv) = carried();
    let genesis = successor(carried.digest("kv", &*kv));
    let load = |genesis: &Genesis| Carried::load(genesis, &document, application);
    assert!(load(&full_genesis()).expect("no file is needed").is_none());
    assert!(matches!(load(&genesis), Err(CarriedError::Missing { .. })));
    let path = Carried::path(&document);
    carried.write(&path).expect("it is new");
    assert!(carried.write(&path).is_err(), "nothing is overwritten");
    let read = load(&genesis).expect("it fits").expect("it is there");
    assert_eq!(
        (&read.names, &read.entries),
        (&carried.names, &carried.entries)
    );
    let mut filled = application();
    read.fill(&mut *filled).expect("it fits");
    assert_eq!(
        (filled.height(), filled.state_digest()),
        (0, kv.state_digest())
    );
    let other = successor(Digest([3; 32]));
    assert!(matches!(load(&other), Err(CarriedError::Other { .. })));
    // Every byte counts, and so does where it ends.
    let whole = fs::read(&path).expect("it is there");
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        fs::write(&path, bytes).expect("ours");
        assert!(load(&genesis).is_err(), "byte {place} is another");
        fs::write(&path, &whole[..place]).expect("ours");
        assert!(load(&genesis).is_err(), "cut at {place}");
    }
    fs::write(&path, [&whole[..], &[0]].concat()).expect("ours");
    assert!(load(&genesis).is_err(), "a byte more");
}

#[test]
fn a_name_that_was_used_before_executes_nothing_while_it_would_have_been_remembered() {
    let (carried, _) = carried();
    let genesis = successor(Digest::ZERO);
    let mut ledger = Ledger::genesis(&genesis).inheriting(carried.names());
    for height in 1..=3 {
        let groups = (1..=3).map(|n: u8| crate::blocks::Group {
            client: PublicKey(Digest([n; 32])),
            digest: Digest([height; 32]),
            transactions: vec![Transaction {
                sequence: n.into(),
                expiry: Height(100),
                operation: Bytes::from_static(b"x"),
            }],
        });
        let work = ledger.begin(Decided {
            height: Height(height.into()),
            view: crate::committee::ViewId(0),
            proposed_us: 0,
            is_sealed: false,
            body: crate::blocks::Body::Transactions(Vec::new()),
            groups: groups.collect(),
        });
        let mut application = application();
        let applied = ledger.finish(crate::node::executor::execute(&mut *application, &work));
        let answers = applied.expect("its results").answers;
        let is_expired = answers
            .iter()
            .map(|answer| answer.verdict == Verdict::Expired);
        // Name 1 was remembered up to height 1, name 2 up to height 2, and name 3 never.
        let want = [height <= 1, height <= 2, false];
        assert_eq!(is_expired.collect::<Vec<_>>(), want, "at {height}");
    }
}

#[test]
fn the_successor_of_a_successor_keeps_what_its_grandparent_remembered() {
    let (carried, _) = carried();
    let genesis = successor(Digest::ZERO);
    let ledger = Ledger::genesis(&genesis).inheriting(carried.names());
    let again = Carried::of(&ledger, &*application());
    assert_eq!(
        again.names(),
        carried.names(),
        "at height 0 nothing is over"
    );
}
