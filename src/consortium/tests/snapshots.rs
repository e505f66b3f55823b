//! The segments of a snapshot are frozen: what fixed inputs give equals the file.

use std::fmt::Write;

use bytes::Bytes;

use super::super::ledger::Base;
use super::super::snapshot::{Reader, Whole};
use super::super::{Executed, Ledger, Outcome};
use crate::blocks::{Genesis, codec};
use crate::checkpoint::{Leaf, Section};
use crate::committee::Height;
use crate::crypto::{Digest, Domain, PublicKey};

fn remembered(sequence: u64) -> Executed {
    let bytes: Bytes = vec![1, 2, 3].into();
    Executed {
        sequence,
        height: Height(5),
        index: 2,
        operation: Digest([0xd1; 32]),
        expiry: Height(900),
        outcome_digest: Digest::of(Domain::Outcome, &[&[0, 0][..], &bytes].concat()),
        outcome: Outcome { code: 0, bytes },
    }
}

/// The first ledger of the frozen document, two transactions in different runs of 8 places, and an
/// application of one piece.
#[test]
fn a_snapshot_of_fixed_inputs_is_frozen_and_reads_back() {
    let genesis = Genesis::from_json(include_str!("../../../tests/golden/genesis.json"));
    let genesis = genesis.expect("the frozen document");
    let ledger = Ledger::genesis(&genesis);
    let client = PublicKey(Digest([0xc1; 32]));
    let whole = Whole {
        base: Base {
            parts: ledger.parts().clone(),
            register: ledger.register().clone(),
        },
        memory: [((client, 40), remembered(7)), ((client, 41), remembered(8))].into_iter(),
        pieces: std::iter::once(Bytes::from_static(b"a piece")),
        application: Digest([0xa1; 32]),
    };
    let mut segments: Vec<(Leaf, Bytes)> = Vec::new();
    let cut = whole.cut(4096, |leaf, segment| {
        segments.push((*leaf, segment));
        Ok::<(), std::convert::Infallible>(())
    });
    let (manifest, taken) = cut.expect("nothing fails");

    // The head of the ledger's segment, by hand from docs/formats.md.
    let (leaf, head) = &segments[0];
    assert_eq!(leaf.section, Section::Ledger);
    let parts = codec::encode(ledger.parts());
    let length = u32::try_from(parts.len()).expect("short");
    let by_hand = [&[1][..], &length.to_le_bytes(), &parts].concat();
    assert_eq!(head[..by_hand.len()], by_hand);
    assert!(parts.starts_with(&codec::encode(&genesis.header())));
    let memory = segments
        .iter()
        .filter(|(l, _)| l.section == Section::Memory);
    assert_eq!(memory.count(), 2, "places 7 and 8 lie in two runs");

    let mut table = String::new();
    for (leaf, segment) in &segments {
        let name = match leaf.section {
            Section::Ledger => "segment.ledger",
            Section::Memory => "segment.memory",
            Section::Application => "segment.application",
        };
        writeln!(table, "{name} {}", hex::encode(segment)).expect("text");
        writeln!(table, "digest.{name} {}", leaf.digest).expect("text");
    }
    writeln!(table, "manifest {}", manifest.root()).expect("text");
    writeln!(table, "state {}", taken.state).expect("text");
    writeln!(table, "taken {}", hex::encode(codec::encode(&taken))).expect("text");
    assert_eq!(table, include_str!("../../../tests/golden/snapshot.txt"));

    let mut reader = Reader::default();
    for (leaf, segment) in &segments {
        reader.take(leaf.section, segment).expect("as it was cut");
    }
    let content = reader.finish(&genesis.chain()).expect("a ledger");
    assert_eq!(content.parts, *ledger.parts());
    assert_eq!(content.check(&taken, &Digest([0xa1; 32])), Ok(()));
    assert!(content.check(&taken, &Digest([0xa2; 32])).is_err());
}
