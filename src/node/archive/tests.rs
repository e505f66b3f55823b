//! Extents: one form, equal at every member, each written once; and what writing refuses.
//!
//! Source: `docs/formats.md`, archive. In: logs of one chain. Out: objects.
//! Holds: every byte of an object counts. Elsewhere: what a whole archive proves (`verify`).

use std::path::Path;
use std::thread;

use super::extent::{Opening, Writer, named, seal};
use super::proof::encode_tail;
use super::*;
use crate::blocks::codec;
use crate::blocks::{BatchRef, Body, FORMAT_VERSION, Header, Link, ReceiptRoot};
use crate::committee::{Certificate, Kind as Vote, Regency, SeatSet, ViewId};
use crate::consortium::Record;
use crate::crypto::{Domain, Signature};
use crate::node::Config;
use crate::node::verify::tests::world::World;
use crate::storage::Objects;
use bytes::Bytes;

/// Extents of seven blocks, so that a short story has several.
const SHORT: Cut = Cut {
    blocks: 7,
    bytes: u64::MAX,
};

fn open(dir: &Path, world: &World, objects: Objects) -> Result<Archiver, ArchiveError> {
    let config = Config::load(dir).expect("its settings");
    Archiver::with((dir, &config), &world.genesis, objects, SHORT)
}

fn archive(dir: &Path, world: &World, objects: Objects) -> Result<Round, ArchiveError> {
    let mut progress = |done, total| assert!(done <= total, "progress has an end");
    open(dir, world, objects)?.round(&mut progress)
}

/// Every object, by name.
fn objects(door: &Objects) -> Vec<(String, Bytes)> {
    let listed = door.list("").expect("it lists");
    let read = listed.into_iter().map(|object| {
        let bytes = door.get(&object.name, 1 << 30).expect("it is there");
        (object.name, bytes)
    });
    read.collect()
}

fn is_certificate_below(record: &Record, height: u64) -> bool {
    matches!(record, Record::Certificate(held) if held.ballot.height.0 < height)
}

// ---------------------------------------------------------------------------------------------
// The form

fn header(height: u64, previous: Digest, body: &Body) -> Header {
    Header {
        version: FORMAT_VERSION,
        chain: Digest([0xC1; 32]),
        height: Height(height),
        view: ViewId(2),
        previous,
        body: body.root(),
        receipts: ReceiptRoot {
            size: 0,
            root: Digest([0x33; 32]),
        },
        state: (height == 9).then_some(Digest([0x55; 32])),
        timestamp_us: 1_000 * height,
        checkpoint: Link::default(),
        reconfiguration: Link {
            height: Height(5),
            digest: Digest([0x44; 32]),
        },
    }
}

/// Two blocks; the second names the first one's batch again.
fn sample() -> (Vec<(Header, Body)>, Bytes) {
    let batch = Bytes::from_static(b"a batch");
    let first = Body::Transactions(vec![BatchRef::Inline(batch.clone())]);
    let second = Body::Transactions(vec![BatchRef::Named(Digest::of(Domain::Batch, &batch))]);
    let before = header(8, Digest([0x88; 32]), &first);
    let after = header(9, before.digest(), &second);
    (vec![(before, first), (after, second)], batch)
}

fn written() -> Bytes {
    let (blocks, batch) = sample();
    let opening = Opening {
        chain: Digest([0xC1; 32]),
        view: ViewId(2),
        first: Height(8),
        last: Height(9),
        previous: Digest([0x88; 32]),
    };
    let mut writer = Writer::new(&opening, 0);
    for (index, (header, body)) in blocks.iter().enumerate() {
        let body = codec::encode(&named(body));
        let batches = usize::from(index == 0);
        writer.block(&codec::encode(header), &body, batches);
        if index == 0 {
            writer.part(&batch);
        }
    }
    writer.finish()
}

fn proof() -> Proof {
    let last = sample().0[1].0.clone();
    let next = Header {
        previous: last.digest(),
        height: Height(10),
        state: None,
        timestamp_us: 20_000,
        ..last
    };
    let mut signers = SeatSet::default();
    signers.insert(crate::committee::Seat(1));
    let certificate = Certificate {
        ballot: crate::committee::Ballot {
            kind: Vote::Persist,
            view: ViewId(2),
            regency: Regency(0),
            height: Height(10),
            digest: next.digest(),
        },
        signers,
        signatures: vec![Signature([0x77; 64])],
    };
    Proof {
        certificate,
        headers: vec![next],
    }
}

fn part(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat()
}

/// The same bytes as [`written`], by hand from the page.
fn by_hand() -> Vec<u8> {
    let (blocks, batch) = sample();
    let name = Digest::of(Domain::Batch, &batch);
    let mut bytes = b"consortium extent 1\n".to_vec();
    bytes.extend([0xC1; 32]);
    for number in [2u64, 8, 9] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend([0x88; 32]);
    for (index, (header, _)) in blocks.iter().enumerate() {
        bytes.extend(part(&codec::encode(header)));
        // Kind 5, one batch, by name.
        let count = 1u64.to_le_bytes();
        let body = [
            &5u32.to_le_bytes()[..],
            &count,
            &0u32.to_le_bytes(),
            name.as_bytes(),
        ];
        bytes.extend(part(&body.concat()));
        match index {
            0 => bytes.extend([&1u32.to_le_bytes()[..], &part(b"a batch")].concat()),
            _ => bytes.extend(0u32.to_le_bytes()),
        }
    }
    let digest = Digest::of(Domain::Archive, &bytes);
    bytes.extend(digest.as_bytes());
    bytes
}

#[test]
fn the_form_of_every_object_is_frozen() {
    let (extent, proof) = (written(), proof());
    assert_eq!(extent, by_hand());
    let tail = encode_tail(&extent, &proof);
    // A proof and a tail, by hand from the page.
    let mut bytes = b"consortium proof 1\n".to_vec();
    bytes.extend(part(&codec::encode(&proof.certificate)));
    bytes.extend(part(&codec::encode(&proof.headers[0])));
    let digest = Digest::of(Domain::Archive, &bytes);
    bytes.extend(digest.as_bytes());
    assert_eq!(proof.encode(), bytes);
    let length = (extent.len() as u64).to_le_bytes();
    let parts = [&b"consortium tail 1\n"[..], &length, &extent, &bytes];
    assert_eq!(tail, parts.concat());
    let lines = [
        ("extent", &extent),
        ("proof", &proof.encode()),
        ("tail", &tail),
    ];
    let lines = lines.map(|(name, bytes)| format!("{name} {}\n", hex::encode(bytes)));
    assert_eq!(
        lines.concat(),
        include_str!("../../../tests/golden/archive.txt")
    );
}

#[test]
fn what_was_written_reads_back_and_every_flipped_bit_is_seen() {
    let (extent, proof) = (written(), proof());
    let read = Extent::decode(&extent).expect("an extent");
    assert_eq!(read.blocks.len(), 2);
    assert_eq!(read.sizes[1], extent.len() as u64);
    assert_eq!(proof.covers(read.last().0, read.last().1), Ok(()));
    assert_eq!(Proof::decode(&proof.encode()), Ok(proof.clone()));
    let tail = encode_tail(&extent, &proof);
    assert_eq!(decode_tail(&tail), Ok((read, proof.clone())));
    let flips = |bytes: &Bytes| {
        let bytes = bytes.clone();
        (0..bytes.len() * 8).map(move |bit| {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            Bytes::from(flipped)
        })
    };
    assert!(flips(&extent).all(|bytes| Extent::decode(&bytes).is_err()));
    assert!(flips(&proof.encode()).all(|bytes| Proof::decode(&bytes).is_err()));
    assert!(flips(&tail).all(|bytes| decode_tail(&bytes).is_err()));
}

#[test]
fn no_length_is_believed_before_the_bytes_are_there() {
    for bytes in [written(), encode_tail(&written(), &proof())] {
        for end in 0..bytes.len() {
            let cut = bytes.slice(..end);
            assert!(Extent::decode(&cut).is_err() && decode_tail(&cut).is_err());
        }
    }
    let whole = written().to_vec();
    let content = &whole[..whole.len() - 32];
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = content.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        Extent::decode(&seal(changed)).expect_err("refused")
    };
    // A stretch of more heights than an extent has, and a header of 4 GiB.
    let error = with(68, &u64::MAX.to_le_bytes());
    assert_eq!(error.what, "it is of no stretch of heights");
    assert_eq!(
        with(60, &0u64.to_le_bytes()).what,
        "it is of no stretch of heights"
    );
    let error = with(108, &[0xFF; 4]);
    assert_eq!(error.what, "block 8: it is cut short");
    let mut longer = content.to_vec();
    longer.push(0);
    let error = Extent::decode(&seal(longer)).expect_err("refused");
    assert_eq!(error.what, "1 bytes stand behind the last block");
}

#[test]
fn a_proof_of_another_block_or_view_covers_nothing() {
    let read = Extent::decode(&written()).expect("an extent");
    let (last, digest) = (read.last().0.clone(), read.last().1);
    let wrong = |change: &dyn Fn(&mut Proof)| {
        let mut proof = proof();
        change(&mut proof);
        proof.covers(&last, digest).expect_err("it covers nothing")
    };
    wrong(&|proof| proof.headers.clear());
    wrong(&|proof| proof.headers[0].timestamp_us += 1);
    wrong(&|proof| proof.certificate.ballot.kind = Vote::Accept);
    wrong(&|proof| proof.certificate.ballot.view = ViewId(3));
    wrong(&|proof| proof.certificate.ballot.digest = digest);
    wrong(&|proof| proof.headers[0].previous = Digest::ZERO);
}

#[test]
fn names_sort_as_heights_do_and_only_ours_are_ours() {
    let chain = Digest([7; 32]);
    let of_object = |kind, first, last| name(&chain, kind, Height(first), Height(last));
    let extent = of_object(Kind::Extent, 1, 9);
    assert!(extent < of_object(Kind::Extent, 10, 11));
    let listed = |name: &str| crate::storage::Listed {
        name: name.into(),
        bytes: 3,
    };
    let others = [
        format!("{chain}/readme"),
        format!("{chain}/1-9.extent"),
        extent.replace("9.extent", "0.extent"),
        extent.replace(".extent", ".extent.old"),
    ];
    let mut names: Vec<_> = others.iter().map(|name| listed(name)).collect();
    names.push(listed(&extent));
    names.push(listed(&of_object(Kind::Extent, 10, 11)));
    names.push(listed(&of_object(Kind::Extent, 13, 14)));
    names.push(listed(&of_object(Kind::Proof, 12, 12)));
    names.push(listed(&tail(&chain)));
    let listing = Listing::of(&chain, &names);
    assert_eq!(listing.foreign, others);
    assert_eq!(listing.end(), Some((Height(10), Height(11))));
    assert_eq!(listing.tail, Some(3));
}

// ---------------------------------------------------------------------------------------------
// Who writes

#[test]
fn members_with_different_certificates_write_equal_extents() {
    let world = World::rotating();
    let story = world.story(40);
    world.write_log(&story);
    // The other member lacks most certificates: all but those that end views, and the last.
    let ends_view = |height: Height| {
        story.iter().any(|record| {
            matches!(record, Record::Block(block) if block.header.height == height
                && matches!(block.body, Body::Reconfiguration(_)))
        })
    };
    let kept = story.iter().filter(|record| match record {
        Record::Certificate(held) => ends_view(held.ballot.height) || held.ballot.height.0 == 40,
        Record::Voter(..) | Record::Payload(..) | Record::Batch(_) | Record::Block(_) => true,
        Record::Decision(_) | Record::Engine(..) | Record::Fault(_) => true,
    });
    let other = world.observe(&kept.cloned().collect::<Vec<_>>());
    let (ours, theirs) = (Objects::in_memory(2), Objects::in_memory(2));
    let [door, look] = <[Objects; 2]>::try_from(ours).ok().expect("two");
    let [other_door, other_look] = <[Objects; 2]>::try_from(theirs).ok().expect("two");
    let round = archive(&world.member(), &world, door).expect("archived");
    let same = archive(&other, &world, other_door).expect("archived");
    assert!(round.written >= 5, "{round:?}");
    assert_eq!(round.height, Height(40));
    assert_eq!((round.written, round.height), (same.written, same.height));
    let (ours, theirs) = (objects(&look), objects(&other_look));
    let is_proof = |name: &str| name.ends_with(".proof");
    let content = |all: &[(String, Bytes)]| -> Vec<(String, Bytes)> {
        let kept = all.iter().filter(|(name, _)| !is_proof(name));
        kept.cloned().collect()
    };
    assert_eq!(content(&ours), content(&theirs));
    let names = |all: &[(String, Bytes)]| all.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    assert_ne!(ours, theirs, "their proofs are other certificates");
}

#[test]
fn many_archivers_at_once_leave_every_extent_once() {
    let world = World::rotating();
    let story = world.story(40);
    world.write_log(&story);
    let other = world.observe(&story);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address = folder.path().to_str().expect("text").to_owned();
    let local = || Objects::open(&address, crate::storage::Access::Write).expect("a folder");
    for mut doors in [Objects::in_memory(7), (0..7).map(|_| local()).collect()] {
        let look = doors.pop().expect("seven");
        let rounds: Vec<Round> = thread::scope(|scope| {
            let (member, other, world) = (world.member(), &other, &world);
            let archivers: Vec<_> = { doors }
                .into_iter()
                .enumerate()
                .map(|(number, door)| {
                    let dir = if number % 2 == 0 {
                        member.clone()
                    } else {
                        other.clone()
                    };
                    scope.spawn(move || archive(&dir, world, door).expect("archived"))
                })
                .collect();
            let joined = archivers.into_iter();
            joined
                .map(|archiver| archiver.join().expect("no panic"))
                .collect()
        });
        let extents = objects(&look);
        let extents = extents
            .iter()
            .filter(|(name, _)| name.ends_with(".extent"))
            .count() as u64;
        assert_eq!(
            rounds.iter().map(|round| round.written).sum::<u64>(),
            extents
        );
        for round in rounds {
            assert_eq!(
                (round.written + round.present, round.height),
                (extents, Height(40))
            );
        }
    }
}

#[test]
fn an_archiver_goes_on_where_another_one_ended() {
    let world = World::rotating();
    let story = world.story(40);
    let half = story.iter().position(
        |record| matches!(record, Record::Certificate(held) if held.ballot.height.0 == 20),
    );
    let other = world.observe(&story[..=half.expect("it is in the story")]);
    let mut doors = Objects::in_memory(4);
    let round = archive(&other, &world, doors.pop().expect("a door")).expect("archived");
    assert_eq!(round.height, Height(20));
    assert!(round.tail.is_some_and(|tail| tail.written));
    world.write_log(&story);
    let first = round.written;
    let round = archive(&world.member(), &world, doors.pop().expect("a door")).expect("archived");
    assert_eq!((round.height, round.present), (Height(40), first));
    // Who is behind changes nothing.
    let before = objects(&doors[0]);
    let round = archive(&other, &world, doors.pop().expect("a door")).expect("archived");
    assert_eq!((round.height, round.bytes), (Height(40), 0));
    assert_eq!(round.member_height, Height(20));
    assert_eq!(objects(&doors[0]), before);
}

#[test]
fn a_follower_writes_what_is_new_and_the_tail_goes_forward() {
    let world = World::new();
    let story = world.story(40);
    let at = |height: u64| {
        let found = story.iter().position(
            |record| matches!(record, Record::Certificate(held) if held.ballot.height.0 == height),
        );
        found.expect("it is in the story") + 1
    };
    let mut doors = Objects::in_memory(2);
    world.write_log(&story[..at(12)]);
    let door = doors.pop().expect("a door");
    let mut archiver = open(&world.member(), &world, door).expect("opened");
    let mut round = || archiver.round(&mut |_, _| {}).expect("archived");
    let told = |round: &Round| (round.written, round.extents_height.0, round.height.0);
    assert_eq!(told(&round()), (1, 7, 12));
    assert_eq!(round().bytes, 0, "nothing is new");
    world.write_log(&story[at(12)..at(24)]);
    assert_eq!(told(&round()), (2, 21, 24));
    world.write_log(&story[at(24)..]);
    assert_eq!(told(&round()), (2, 35, 40));
}

#[test]
fn a_log_that_begins_later_goes_on_with_an_archive_and_else_names_the_gap() {
    let world = World::rotating();
    let story = world.story(40);
    world.write_log(&story);
    // What a pruned log still has: everything from the block behind height 15.
    let is_cut = |record: &Record| {
        let is_below = matches!(record, Record::Block(block) if block.header.height.0 <= 15);
        is_below || is_certificate_below(record, 16)
    };
    let pruned: Vec<Record> = story.iter().filter(|r| !is_cut(r)).cloned().collect();
    let pruned = world.observe(&pruned);
    let mut doors = Objects::in_memory(3);
    let gap = archive(&pruned, &world, doors.pop().expect("a door")).expect_err("a gap");
    let told = "heights 1 to 15 are neither in the archive nor in this member's log";
    assert_eq!(gap.to_string(), told);
    assert_eq!(objects(&doors[0]), [], "nothing was written");
    let whole = archive(&world.member(), &world, doors.pop().expect("a door")).expect("archived");
    assert!(whole.extents_height > Height(15));
    let round = archive(&pruned, &world, doors.pop().expect("a door")).expect("archived");
    assert_eq!((round.written, round.height), (0, Height(40)));
}

#[test]
fn an_archive_of_another_history_is_refused_and_left_alone() {
    let world = World::new();
    let story = world.story(40);
    world.write_log(&story);
    let mut doors = Objects::in_memory(3);
    archive(&world.member(), &world, doors.pop().expect("a door")).expect("archived");
    let look = doors.pop().expect("a door");
    // The newest extent has another last block.
    let all = objects(&look);
    let (name, bytes) = all
        .iter()
        .rfind(|(name, _)| name.ends_with(".extent"))
        .expect("one");
    let read = Extent::decode(bytes).expect("an extent");
    let mut writer = Writer::new(&read.opening, 0);
    let mut brought = std::collections::BTreeSet::new();
    for (block, _) in &read.blocks {
        let mut header = block.header.clone();
        header.timestamp_us += u64::from(header.height == read.opening.last);
        let names: Vec<Digest> = block.body.batches().map(BatchRef::digest).collect();
        let fresh: Vec<&Digest> = names.iter().filter(|name| brought.insert(**name)).collect();
        writer.block(
            &codec::encode(&header),
            &codec::encode(&block.body),
            fresh.len(),
        );
        fresh
            .iter()
            .for_each(|name| writer.part(&read.batches[*name]));
    }
    look.replace(name, writer.finish()).expect("replaced");
    let before = objects(&look);
    let refused = archive(&world.member(), &world, doors.pop().expect("a door"));
    let told = refused.expect_err("another chain").to_string();
    let height = read.opening.last;
    assert_eq!(
        told,
        format!("the archive has another block at height {height} than this member")
    );
    assert_eq!(objects(&look), before);
}
