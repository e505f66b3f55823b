//! The messages of a bootstrap are frozen: each is built by hand from `docs/formats.md` and equals
//! the file.

use std::fmt::Write;

use bytes::Bytes;

use super::ledger::Ledger;
use crate::blocks::Link;
use crate::blocks::codec;
use crate::bootstrap::*;
use crate::checkpoint::{Holding, Leaf, Page, Section};
use crate::committee::{AnchorVote, Height, Nonce, Seat, ViewId};
use crate::crypto::{Digest, Signature};

fn n8(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn n4(value: u32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn fill(byte: u8) -> Vec<u8> {
    vec![byte; 32]
}

fn ask(ask: Ask, kind: u32, fields: &[Vec<u8>]) -> (Message, Vec<u8>) {
    let by_hand = [n4(0), n4(kind), fields.concat()].concat();
    (Message::Ask(ask), by_hand)
}

fn answer(answer: Answer, kind: u32, fields: &[Vec<u8>]) -> (Message, Vec<u8>) {
    let by_hand = [n4(1), n4(kind), fields.concat()].concat();
    (Message::Answer(answer), by_hand)
}

fn asks() -> Vec<(&'static str, (Message, Vec<u8>))> {
    let name = Digest([0xa1; 32]);
    let link = Link {
        height: Height(40),
        digest: Digest([0xa2; 32]),
    };
    let segments = vec![3, 9];
    vec![
        ("ask.steps", {
            let fields = [n8(7), fill(0xa1)];
            ask(Ask::Steps(ViewId(7), name), 0, &fields)
        }),
        ("ask.anchor", {
            let fields = [n8(7), fill(0xa3)];
            ask(Ask::Anchor(ViewId(7), Nonce([0xa3; 32])), 1, &fields)
        }),
        ("ask.checkpoint", {
            let fields = [n8(40), fill(0xa2)];
            ask(Ask::Checkpoint(link), 2, &fields)
        }),
        ("ask.holding", ask(Ask::Holding(name), 3, &[fill(0xa1)])),
        ("ask.page", {
            let fields = [fill(0xa1), n4(2)];
            ask(Ask::Page(name, 2), 4, &fields)
        }),
        ("ask.segments", {
            let fields = [fill(0xa1), n8(2), n4(3), n4(9)];
            ask(Ask::Segments(name, segments), 5, &fields)
        }),
    ]
}

fn answers() -> Vec<(&'static str, (Message, Vec<u8>))> {
    let name = Digest([0xa1; 32]);
    let (abc, none) = (Bytes::from_static(b"abc"), Bytes::from_static(b""));
    let holding = |holding, fields: &[Vec<u8>]| {
        let fields = [&[fill(0xa1)], fields].concat();
        answer(Answer::Holding(name, holding), 3, &fields)
    };
    let page = Page {
        page: 2,
        leaves: vec![Leaf {
            section: Section::Memory,
            bytes: 77,
            digest: Digest([0xa4; 32]),
        }],
        path: vec![Digest([0xa5; 32])],
    };
    let lacking = Lacking::Segments(vec![3, 9]);
    vec![
        ("answer.steps", {
            let fields = [n8(2), n8(3), b"abc".to_vec(), n8(0)];
            answer(Answer::Steps(vec![abc.clone(), none]), 0, &fields)
        }),
        ("answer.holding.nothing", {
            holding(Holding::Nothing, &[n4(0)])
        }),
        ("answer.holding.some", {
            let fields = [n4(1), n8(3), b"abc".to_vec()];
            holding(Holding::Some(abc.clone()), &fields)
        }),
        ("answer.holding.all", holding(Holding::All, &[n4(2)])),
        ("answer.page", {
            let leaf = [n4(1), n4(77), fill(0xa4)].concat();
            let fields = [fill(0xa1), n4(2), n8(1), leaf, n8(1), fill(0xa5)];
            answer(Answer::Page(name, Box::new(page)), 4, &fields)
        }),
        ("answer.segment", {
            let fields = [fill(0xa1), n4(9), n8(3), b"abc".to_vec()];
            answer(Answer::Segment(name, 9, abc), 5, &fields)
        }),
        ("answer.lacks.page", {
            let fields = [fill(0xa1), n4(0), n4(2)];
            answer(Answer::Lacks(name, Lacking::Page(2)), 6, &fields)
        }),
        ("answer.lacks.segments", {
            let fields = [fill(0xa1), n4(1), n8(2), n4(3), n4(9)];
            answer(Answer::Lacks(name, lacking), 6, &fields)
        }),
    ]
}

#[test]
fn every_message_is_the_specified_one() {
    let mut table = String::new();
    for (name, (message, by_hand)) in asks().into_iter().chain(answers()) {
        let code = codec::encode(&message);
        assert_eq!(hex::encode(&code), hex::encode(&by_hand), "{name}");
        assert!(message.is_bounded(), "{name}");
        writeln!(table, "{name} {}", hex::encode(&code)).expect("a string takes text");
    }
    assert_eq!(table, include_str!("../../../tests/golden/bootstrap.txt"));
}

#[test]
fn an_anchor_is_a_vote_a_header_and_perhaps_a_certificate() {
    let ledger = Ledger::with_snapshot(1, 4, 10);
    let (header, certificate) = ledger.newest.clone();
    let vote = AnchorVote {
        view: ViewId(7),
        nonce: Nonce([0xa3; 32]),
        height: Height(40),
        digest: Digest([0xa2; 32]),
        seat: Seat(3),
        signature: Signature([0xa6; 64]),
    };
    let vote_by_hand = [
        n8(7),
        fill(0xa3),
        n8(40),
        fill(0xa2),
        3_u16.to_le_bytes().to_vec(),
        vec![0xa6; 64],
    ]
    .concat();
    for certificate in [certificate, None] {
        let proof = match &certificate {
            Some(held) => [vec![1], codec::encode(held)].concat(),
            None => vec![0],
        };
        let (message, by_hand) = answer(
            Answer::Anchor(Box::new(Anchor {
                vote,
                header: header.clone(),
                certificate,
            })),
            1,
            &[vote_by_hand.clone(), codec::encode(&header), proof],
        );
        assert_eq!(codec::encode(&message), by_hand);
    }
    let block = ledger.snapshots[0].block.clone();
    let fields = [codec::encode(&block.0), codec::encode(&block.1)];
    let (message, by_hand) = answer(Answer::Checkpoint(Box::new(block)), 2, &fields);
    assert_eq!(codec::encode(&message), by_hand);
}
