//! Signed, hashed and encoded bytes are frozen: each is built by hand from `docs/formats.md` and
//! equals the file.

use std::fmt::Write;

use super::fixtures::*;
use crate::blocks::*;
use crate::committee::*;
use crate::crypto::{Digest, SignBytes, Signature, sha256};

/// Little-endian fields, written one after another.
fn cat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn n8(value: u64) -> [u8; 8] {
    value.to_le_bytes()
}

fn n4(value: u32) -> [u8; 4] {
    value.to_le_bytes()
}

/// A digest recomputed from the context string, as a stranger would.
fn hash(context: &str, bytes: &[u8]) -> [u8; 32] {
    blake3::derive_key(&format!("consortium 1 {context}"), bytes)
}

/// 64 bytes of the extended output of the same.
fn stretched(context: &str, bytes: &[u8]) -> [u8; 64] {
    let mut hasher = blake3::Hasher::new_derive_key(&format!("consortium 1 {context}"));
    let mut output = [0; 64];
    hasher.update(bytes).finalize_xof().fill(&mut output);
    output
}

/// The opening of every statement: tag padded with zeros to 16, version, chain.
fn opening(tag: &str, chain: &[u8; 32]) -> Vec<u8> {
    let mut bytes = format!("consort/{tag}").into_bytes();
    bytes.resize(16, 0);
    cat(&[&bytes, &[1], chain])
}

fn proof_bytes(proof: &KeyProof) -> Vec<u8> {
    cat(&[
        proof.key.as_bytes(),
        &proof.possession.0,
        &proof.certified.0,
    ])
}

/// Named bytes: what the code gives beside what the specification says.
#[derive(Default)]
struct Table(String);

impl Table {
    fn row(&mut self, name: &str, code: &[u8], by_hand: &[u8]) {
        assert_eq!(hex::encode(code), hex::encode(by_hand), "{name}");
        writeln!(self.0, "{name} {}", hex::encode(code)).expect("a string takes text");
    }
}

fn statements(table: &mut Table) {
    let (chain, digest) = (fill(0xc1), fill(0xd1));
    let kinds = [
        (Kind::Propose, "propose", 5),
        (Kind::Write, "write", 5),
        (Kind::Accept, "accept", 5),
        (Kind::Persist, "persist", 0),
    ];
    for (kind, tag, regency) in kinds {
        let ballot = Ballot {
            kind,
            view: ViewId(2),
            regency: Regency(regency),
            height: Height(7),
            digest,
        };
        let fields = cat(&[&n8(2), &n8(regency), &n8(7), &[0xd1; 32]]);
        let by_hand = cat(&[&opening(tag, &[0xc1; 32]), &fields]);
        table.row(
            &format!("sign.{tag}"),
            ballot.sign_bytes(&chain).as_slice(),
            &by_hand,
        );
    }
    table.row("sign.stop-data", stop_data(&chain).as_slice(), &{
        let head = cat(&[&n8(0), &n8(6), &n8(3), &[0xd2; 32], &n8(2_000_000), &n4(2)]);
        let first = cat(&[&n8(4), &[1], &n8(5), &[0xd3; 32]]);
        let second = cat(&[&n8(6), &[0], &n8(2), &[0xd4; 32]]);
        cat(&[&opening("stopdata", &[0xc1; 32]), &head, &first, &second])
    });
    let (identity, consensus) = (identity(0), consensus(0));
    let proof = KeyProof::make(&chain, ViewId(2), &digest, &identity, &consensus);
    let checks = proof.checks(&chain, ViewId(2), &digest, &identity.public());
    for (check, tag) in checks.iter().zip(["possess", "certify"]) {
        let keys = [identity.public(), consensus.public()];
        let fields = cat(&[&n8(2), &[0xd1; 32], keys[0].as_bytes(), keys[1].as_bytes()]);
        let by_hand = cat(&[&opening(tag, &[0xc1; 32]), &fields]);
        table.row(&format!("sign.{tag}"), check.statement.as_slice(), &by_hand);
    }
    let signed = consensus.sign(&checks[0].statement).0;
    table.row("signature.possess", &signed, &proof.possession.0);
}

fn snapshots(table: &mut Table) {
    let taken = Taken {
        height: Height(20),
        header: fill(0x71),
        manifest: fill(0x72),
        state: fill(0x73),
        bytes: 1000,
        segments: 2,
    };
    let what = cat(&[
        &n8(20),
        &[0x71; 32],
        &[0x72; 32],
        &[0x73; 32],
        &n8(1000),
        &n4(2),
    ]);
    let statement = taken.statement(&fill(0xc1), ViewId(2));
    let by_hand = cat(&[&opening("checkpt", &[0xc1; 32]), &n8(2), &what]);
    table.row("sign.checkpoint", statement.as_slice(), &by_hand);
    table.row("encoded.taken", &codec::encode(&taken), &what);
}

fn stop_data(chain: &Digest) -> SignBytes {
    let key = consensus(0).public();
    let seat = SeatKey {
        member: MemberId::of(&key),
        key: Some(key),
    };
    let view = View::new(ViewId(0), *chain, vec![seat], chain).expect("one seat");
    let claim = |height, is_decided, regency, digest| Claim {
        height: Height(height),
        is_decided,
        lock: Lock {
            regency: Regency(regency),
            digest: fill(digest),
        },
    };
    let data = StopData {
        view: ViewId(0),
        regency: Regency(6),
        base: Height(3),
        base_digest: fill(0xd2),
        timeout_us: 2_000_000,
        claims: vec![claim(4, true, 5, 0xd3), claim(6, false, 2, 0xd4)],
        seat: Seat(0),
        signature: Signature([0; 64]),
    };
    data.check(&view).expect("canonical claims").statement
}

fn groups(table: &mut Table) {
    let chain = fill(0xc1);
    let group = group(&chain);
    let key = client().public();
    let first = cat(&[&n8(7), &n8(100), &n8(7), b"put a 1"]);
    let second = cat(&[&n8(9), &n8(100), &n8(7), b"put b 2"]);
    let bytes = cat(&[&n8(2), &first, &second]);
    table.row("encoded.transactions", &group.bytes, &bytes);
    let digest = hash("group", &bytes);
    table.row("digest.group", group.digest().as_bytes(), &digest);
    let statement = group.check(&chain).statement;
    let by_hand = cat(&[&opening("group", &[0xc1; 32]), key.as_bytes(), &digest]);
    table.row("sign.group", statement.as_slice(), &by_hand);
    table.row(
        "signature.group",
        &group.signature.0,
        &client().sign(&statement).0,
    );
    let length = n8(bytes.len() as u64);
    let by_hand = cat(&[key.as_bytes(), &length, &bytes, &group.signature.0]);
    table.row("encoded.group", &codec::encode(&group), &by_hand);
    let batch = Batch {
        groups: vec![group.clone()],
    };
    let by_hand = cat(&[&n8(1), &by_hand]);
    let encoded = codec::encode(&batch);
    table.row("encoded.batch", &encoded, &by_hand);
    let inline = BatchRef::Inline(encoded.into());
    table.row(
        "digest.batch",
        inline.digest().as_bytes(),
        &hash("batch", &by_hand),
    );
    let operation = transactions()[0].digest();
    table.row(
        "digest.operation",
        operation.as_bytes(),
        &hash("operation", b"put a 1"),
    );
    let outcome = Outcome {
        code: 0x0201,
        bytes: bytes::Bytes::from_static(b"done"),
    };
    let digest = hash("outcome", b"\x01\x02done");
    table.row("digest.outcome", outcome.digest().as_bytes(), &digest);
    let receipt = receipt(&group, &outcome);
    let place = cat(&[&[1], &n8(3), &n8(8), key.as_bytes(), &n8(9)]);
    let by_hand = cat(&[&place, group.digest().as_bytes(), &n4(1), &digest]);
    table.row("encoded.receipt", &receipt.to_bytes(), &by_hand);
    let leaf = sha256(&[&[0], &by_hand]);
    table.row(
        "digest.receipt-leaf",
        receipt.leaf().as_bytes(),
        leaf.as_bytes(),
    );
}

/// For each body of the fixtures its encoding and what its root hashes.
fn body_bytes() -> Vec<(Vec<u8>, Vec<u8>)> {
    let (key_1, key_2) = (proof_bytes(&key_proof(0x63)), proof_bytes(&key_proof(0x67)));
    let (ids, seats) = ([[0x53; 32], [0x54; 32]].concat(), ([0x66; 32], [0x6a; 32]));
    let assemble = |encoded: &[u8], freeze: &[u8], signature: &[u8]| {
        let (seed, named) = ([0x52; 32], cat(&[&n8(2), &ids]));
        (
            cat(&[&n4(2), &n8(1), encoded, &seed, &named]),
            cat(&[&[2], &n8(1), freeze, &seed, signature, &named]),
        )
    };
    let none = cat(&[&[0], &n8(0), &[0; 32]]);
    let some = cat(&[&[1], &n8(5), &[0x51; 32]]);
    let signature = cat(&[&n8(96), &[0x55; 96]]);
    let names = cat(&[&n8(3), b"ann", &n8(3), b"a:1"]);
    let head = cat(&[&n8(1), &n8(12), &[0x61; 32], &n8(1), &[0x62; 32], &names]);
    let tail = cat(&[
        &n8(2),
        &seats.0,
        &[1],
        &key_2,
        &seats.1,
        &[0],
        &[1],
        &n8(9),
        b"threshold",
    ]);
    let reconfiguration = (
        cat(&[&n4(3), &head, &n4(3), &key_1, &tail]),
        cat(&[&[3], &head, &n8(3), &key_1, &tail]),
    );
    let what = cat(&[&n8(20), &[0x71; 32], &[0x72; 32], &[0x73; 32], &n8(1000)]);
    let votes = cat(&[&n8(2), &[1, 2], &n8(2), &[0x74; 64], &[0x75; 64]]);
    let inline = cat(&[&n4(1), &n8(12), b"inline batch"]);
    let named = cat(&[&[0x81; 32], &hash("batch", b"inline batch")]);
    vec![
        (cat(&[&n4(0), &[0x41; 32]]), cat(&[&[0], &[0x41; 32]])),
        (
            cat(&[&n4(1), &n8(1), &[0x42; 32]]),
            cat(&[&[1], &n8(1), &[0x42; 32]]),
        ),
        assemble(&[0], &none, &[]),
        assemble(&cat(&[&some, &signature]), &some, &signature),
        reconfiguration,
        (
            cat(&[&n4(4), &what, &n4(2), &votes, &[0]]),
            cat(&[&[4], &what, &n8(2), &votes, &[0], &n8(0)]),
        ),
        (
            cat(&[&n4(5), &n8(2), &n4(0), &[0x81; 32], &inline]),
            cat(&[&[5], &n8(2), &named]),
        ),
        (cat(&[&n4(5), &n8(0)]), cat(&[&[5], &n8(0)])),
    ]
}

fn block_bodies(table: &mut Table) {
    for ((name, body), (encoded, hashed)) in bodies().iter().zip(body_bytes()) {
        table.row(
            &format!("encoded.body.{name}"),
            &codec::encode(body),
            &encoded,
        );
        let root = hash("body", &cat(&[&[1], &hashed]));
        table.row(
            &format!("digest.body.{name}"),
            body.root().as_bytes(),
            &root,
        );
    }
}

fn proposals(table: &mut Table) {
    let chain = fill(0xc1);
    let seats = (0..4).map(|n| SeatKey {
        member: MemberId::of(&identity(n).public()),
        key: Some(consensus(n).public()),
    });
    let view = View::new(ViewId(0), chain, seats.collect(), &chain).expect("four seats");
    let certificate = certify(&view, Height(8), fill(0xd5));
    let signatures: Vec<u8> = certificate.signatures.iter().flat_map(|s| s.0).collect();
    let ballot = cat(&[&n8(0), &n8(0), &n8(8), &[0xd5; 32]]);
    let encoded = cat(&[&n4(3), &ballot, &n8(1), &[7], &n8(3), &signatures]);
    table.row(
        "encoded.certificate",
        &codec::encode(&certificate),
        &encoded,
    );
    let hashed = cat(&[&[1, 3], &ballot, &n4(1), &[7], &n4(3), &signatures]);
    let digest = hash("certificate", &hashed);
    table.row(
        "digest.certificate",
        certificate.digest().as_bytes(),
        &digest,
    );

    let (body_encoded, body_hashed) = body_bytes().remove(6);
    let root = hash("body", &cat(&[&[1], &body_hashed]));
    let fields = cat(&[
        &[1],
        &[0xc1; 32],
        &n8(0),
        &n8(9),
        &n8(1_700_000_000_000_009),
    ]);
    let bare = proposal(&view, None);
    let by_hand = cat(&[&fields, &[1], &body_encoded, &[0]]);
    table.row("encoded.proposal", &bare.to_bytes(), &by_hand);
    let by_hand = hash("proposal", &cat(&[&fields, &[1, 0], &root]));
    table.row("digest.proposal", bare.digest().as_bytes(), &by_hand);
    let carrying = proposal(&view, Some(certificate));
    let by_hand = cat(&[&fields, &[1], &body_encoded, &[1], &encoded]);
    table.row("encoded.proposal.carrying", &carrying.to_bytes(), &by_hand);
    let by_hand = hash("proposal", &cat(&[&fields, &[1, 1], &root, &digest]));
    table.row(
        "digest.proposal.carrying",
        carrying.digest().as_bytes(),
        &by_hand,
    );
}

fn headers(table: &mut Table) {
    let mut header = header(fill(0xc1));
    let before = cat(&[
        &[1],
        &[0xc1; 32],
        &n8(9),
        &n8(0),
        &[0x91; 32],
        &[0x92; 32],
        &n8(5),
        &[0x93; 32],
    ]);
    let links = cat(&[&n8(3), &[0x95; 32], &n8(0), &[0x96; 32]]);
    let after = cat(&[&n8(1_700_000_000_000_010), &links]);
    let bytes = cat(&[&before, &[1], &[0x94; 32], &after]);
    table.row("encoded.header", &codec::encode(&header), &bytes);
    table.row(
        "digest.header",
        header.digest().as_bytes(),
        &hash("header", &bytes),
    );
    header.state = None;
    let bytes = cat(&[&before, &[0], &after]);
    table.row("encoded.header.stateless", &codec::encode(&header), &bytes);
    let bytes = cat(&[&before, &[0], &[0; 32], &after]);
    table.row(
        "digest.header.stateless",
        header.digest().as_bytes(),
        &hash("header", &bytes),
    );
}

/// What a predecessor adds to the bytes that a chain id is made of.
fn succession(table: &mut Table, genesis: &Genesis, bytes: &[u8]) {
    let successor = Genesis {
        successor_of: Some(Predecessor {
            chain: fill(1),
            height: Height(2),
            digest: fill(3),
            state_digest: fill(4),
        }),
        ..genesis.clone()
    };
    let link = cat(&[&[1], &[1; 32], &n8(2), &[3; 32], &[4; 32]]);
    let by_hand = hash("chain", &cat(&[bytes, &link]));
    table.row("chain.successor", successor.chain().as_bytes(), &by_hand);
}

fn founding(table: &mut Table) {
    let genesis = genesis();
    let text = |text: &str| cat(&[&n4(text.len() as u32), text.as_bytes()]);
    let numbers = [131_072, 1_048_576, 8, 8, 32, 100_000, 2_000_000]
        .map(n4)
        .concat();
    let views = cat(&[
        &[0, 64, 50_000, 50_000].map(n4).concat(),
        &n8(1_000_000_000),
    ]);
    let mut bytes = cat(&[
        &opening("genesis", &[0; 32]),
        &[1],
        &text("golden"),
        &n8(1_700_000_000_000_000),
        &text("kv"),
        &text("mod-smart"),
        &text("certified"),
        &numbers,
        &views,
        &[1],
        &n4(1),
        client().public().as_bytes(),
        &n4(4),
    ]);
    for n in 0u8..4 {
        bytes.extend(text(&format!("member-{n}")));
        bytes.extend(identity(n).public().as_bytes());
        bytes.extend(text(&format!("127.0.0.1:710{n}")));
        let proof = genesis.founders[usize::from(n)].consensus;
        bytes.push(proof.is_some().into());
        let Some(proof) = proof else { continue };
        let signatures = [proof.possession.0, proof.certified.0];
        let length = n4(64);
        bytes.extend(cat(&[proof.key.as_bytes(), &length, &signatures[0]]));
        bytes.extend(cat(&[&length, &signatures[1]]));
    }
    let chain = hash("chain", &bytes);
    table.row("chain", genesis.chain().as_bytes(), &chain);
    succession(table, &genesis, &bytes);
    let member = MemberId::of(&genesis.founders[0].identity);
    let by_hand = hash("member", identity(0).public().as_bytes());
    table.row("member", member.0.as_bytes(), &by_hand);
    let place = position(&fill(1), 2, &MemberId(fill(3)));
    let by_hand = hash("ring", &cat(&[&[1; 32], &n4(2), &[3; 32]]));
    table.row("ring", place.as_bytes(), &by_hand);
    let second = positions(&fill(1), 2, &MemberId(fill(3))).nth(1);
    let second = second.expect("a stretched digest never ends");
    let by_hand = stretched("ring", &cat(&[&[1; 32], &n4(2), &[3; 32]]));
    table.row("ring.second", second.as_bytes(), &by_hand[32..]);
    let body = hash("body", &cat(&[&[1, 0], &chain]));
    let head = cat(&[&[1], &chain, &n8(0), &n8(0), &[0; 32], &body]);
    let log = cat(&[&n8(0), sha256(&[]).as_bytes(), &[0], &[0; 32]]);
    let tail = cat(&[&n8(genesis.founded_us), &n8(0), &[0; 32], &n8(0), &[0; 32]]);
    let by_hand = hash("header", &cat(&[&head, &log, &tail]));
    table.row(
        "digest.header.genesis",
        genesis.header().digest().as_bytes(),
        &by_hand,
    );
}

#[test]
fn every_format_is_the_specified_one() {
    let mut table = Table::default();
    statements(&mut table);
    groups(&mut table);
    block_bodies(&mut table);
    proposals(&mut table);
    headers(&mut table);
    founding(&mut table);
    snapshots(&mut table);
    assert_eq!(table.0, include_str!("../../../tests/golden/vectors.txt"));
}

#[test]
fn the_genesis_document_and_its_chain_id_are_frozen() {
    let text = include_str!("../../../tests/golden/genesis.json");
    assert_eq!(genesis().to_json(), text);
    let read = Genesis::from_json(text).expect("the frozen document");
    assert_eq!(read, genesis());
    let compact = serde_json::to_string(&read).expect("JSON");
    let again = Genesis::from_json(&compact).expect("the same without white space");
    assert_eq!(again.chain(), read.chain());
}

#[test]
fn the_proof_files_are_frozen_and_hold() {
    let genesis = Genesis::from_json(include_str!("../../../tests/golden/proof-genesis.json"));
    let genesis = genesis.expect("the frozen document");
    assert_eq!(genesis, full_genesis());
    let verifier = crate::crypto::Verifier::ed25519();
    let transaction = include_str!("../../../tests/golden/transaction.proof.json");
    let state = include_str!("../../../tests/golden/state.proof.json");
    for text in [transaction, state] {
        let holds = match proof::Proof::from_json(text).expect("the frozen proof") {
            proof::Proof::Transaction(proof) => proof.verify(&genesis, &verifier).is_ok(),
            proof::Proof::State(proof) => proof.verify(&genesis, &verifier).is_ok(),
        };
        assert!(holds);
    }
    let made = proof::Proof::Transaction(transaction_proof(&genesis));
    assert_eq!(made.to_json(), transaction);
    assert_eq!(proof::Proof::State(state_proof(&genesis)).to_json(), state);
}

#[test]
fn the_proof_file_of_a_later_view_is_frozen_and_holds() {
    let genesis = full_genesis();
    let builder = super::view_chain::Builder::rotated(&genesis, 2);
    let text = include_str!("../../../tests/golden/view-2.proof.json");
    let proof = builder.proof(&genesis);
    assert!(
        proof
            .verify(&genesis, &crate::crypto::Verifier::ed25519())
            .is_ok()
    );
    let made = proof::Proof::State(proof).to_json();
    assert_eq!(made, text);
}
