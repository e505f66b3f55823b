//! Whatever is changed in a member's directory is found, in the right file and at the right height.
//!
//! Source: interface, `verify`. In: a directory made by `world`, changed. Out: verdicts.
//! Holds: nothing in the directory is written by a look at it. Elsewhere: `storage`'s own checks.

mod archive;
mod pruned;
mod views;
pub(crate) mod world;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use self::world::{World, block_at, block_mut};
use super::*;
use crate::blocks::{BatchRef, codec};
use crate::committee::{Lock, Regency, ViewId, VoterRecord};
use crate::consortium::Record;
use crate::node::{keeper, keys, recovery};
use crate::storage::{Batch, Direction, Range, TableOptions, open_tables};

const BLOCKS: u64 = 40;
/// How many flips the tests try; more by hand with `CONSORTIUM_FLIPS`.
const FLIPS: usize = 200;

fn world() -> (World, Vec<Record>) {
    let world = World::new();
    let story = world.story(BLOCKS);
    (world, story)
}

/// Every file below `dir`, with its length and when it was written.
fn files(dir: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("readable") {
        let entry = entry.expect("readable");
        let data = entry.metadata().expect("readable");
        match data.is_dir() {
            true => found.extend(files(&entry.path())),
            false => {
                let written = data.modified().expect("this system keeps times");
                found.insert(entry.path(), (data.len(), written));
            }
        }
    }
    found
}

fn heights(verdict: &Verdict) -> Vec<u64> {
    verdict.faults.iter().map(|fault| fault.height).collect()
}

#[track_caller]
fn assert_found(verdict: &Verdict, file: &str, height: u64, what: &str) {
    assert!(!verdict.ok, "a fault is not ok");
    let is_it = |fault: &&Fault| {
        fault.file.contains(file) && fault.height == height && fault.what.contains(what)
    };
    let found = verdict.faults.iter().find(is_it);
    assert!(found.is_some(), "{file} {height} {what}: {verdict:#?}");
}

#[test]
fn a_whole_directory_is_ok_and_is_not_written() {
    let (world, story) = world();
    world.write(&story);
    let before = files(&world.member());
    let verdict = world.verify();
    assert_eq!(verdict.faults, [], "{:?}", verdict.notes);
    assert!(verdict.ok);
    assert_eq!(verdict.height, Height(BLOCKS));
    assert_eq!(verdict.blocks, BLOCKS);
    assert_eq!((verdict.views, verdict.checkpoints), (1, 0));
    // Two clients a block; a lock and a decision a block; a certificate every fourth, which every
    // later proposal carries.
    let expected = BLOCKS * 4 + BLOCKS / 4 + (BLOCKS - 4);
    assert_eq!(verdict.signatures, expected);
    assert_eq!(verdict.notes, [""; 0]);
    assert_eq!(files(&world.member()), before, "nothing was written");
}

#[test]
fn a_log_without_certificates_at_its_end_is_ok_and_says_so() {
    let (world, mut story) = world();
    story.truncate(block_at(&story, 39) + 1);
    world.write(&story);
    let verdict = world.verify();
    assert_eq!(verdict.faults, []);
    assert_eq!(verdict.height, Height(39));
    assert_eq!(
        verdict.notes,
        ["heights 37 to 39 have no certificate of their own yet"]
    );
}

#[test]
fn any_flipped_bit_of_any_file_is_found_and_named() {
    let (world, story) = world();
    world.write(&story);
    let flips = std::env::var("CONSORTIUM_FLIPS").ok();
    let flips = flips.and_then(|count| count.parse().ok()).unwrap_or(FLIPS);
    let names: Vec<PathBuf> = files(&world.data()).into_keys().collect();
    let used: Vec<(&PathBuf, u64)> = names
        .iter()
        .flat_map(|path| {
            let bytes = fs::read(path).expect("readable");
            // The seal covers every byte of the tables; in the log zeros ahead are not in use.
            let is_log = path.extension().is_some_and(|end| end == "log");
            let is_used = |(_, byte): &(usize, u8)| !is_log || *byte != 0;
            let used = bytes.into_iter().enumerate().filter(is_used);
            let used: Vec<_> = used.map(|(at, _)| (path, at as u64)).collect();
            used
        })
        .collect();
    let mut by_file: BTreeMap<&PathBuf, Vec<u64>> = BTreeMap::new();
    for (path, at) in used {
        by_file.entry(path).or_default().push(at);
    }
    let by_file: Vec<_> = by_file.into_iter().collect();
    assert!(
        by_file.len() >= 7,
        "logs, a spare, store, tables: {names:?}"
    );
    let mut random = 0x5eed_u64;
    let mut draw = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) as usize % below
    };
    for number in 0..flips {
        let (path, places) = &by_file[draw(by_file.len())];
        let (at, bit) = (places[draw(places.len())], draw(8));
        flip(path, at, bit);
        let verdict = world.verify();
        let name = path.strip_prefix(world.member()).expect("below it");
        let name = name.display().to_string();
        let is_named = verdict.faults.iter().any(|fault| fault.file == name);
        assert!(
            is_named && !verdict.ok,
            "flip {number}: bit {bit} of byte {at} of {name}: {verdict:#?}"
        );
        assert!(heights(&verdict).iter().all(|height| *height <= BLOCKS + 1));
        flip(path, at, bit);
    }
    assert!(world.verify().ok, "every flip was taken back");
}

fn flip(path: &Path, at: u64, bit: usize) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    let file = file.expect("ours");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("within the file");
    file.write_all_at(&[byte[0] ^ 1 << bit], at).expect("ours");
}

#[test]
fn swapped_blocks_are_found() {
    let (world, mut story) = world();
    let (a, b) = (block_at(&story, 22), block_at(&story, 23));
    story.swap(a, b);
    world.write_log(&story);
    let verdict = world.verify();
    assert_found(&verdict, "data/log/", 22, "block 22 is missing: block 23");
    assert_found(&verdict, "data/log/", 22, "stands behind block 23");
    assert_eq!(verdict.height, Height(21));
}

#[test]
fn a_dropped_batch_is_found_at_the_block_that_names_it() {
    let (world, mut story) = world();
    let block = block_at(&story, 17);
    let is_batch = |record: &Record| matches!(record, Record::Batch(_));
    let batch = story[..block].iter().rposition(is_batch);
    story.remove(batch.expect("block 17 names one"));
    world.write_log(&story);
    let verdict = world.verify();
    assert_found(&verdict, "data/log/", 17, "is not in the log before it");
    assert_eq!(verdict.faults.len(), 1);
}

/// Spread reaches a member that has the block already, before or after the tables hold it.
#[test]
fn a_batch_logged_behind_the_block_that_inlines_it_is_no_fault() {
    for behind in [5, 12] {
        let (world, mut story) = world();
        let block = block_at(&story, 5);
        let inlined = block_mut(&mut story, block).body.batches().next().cloned();
        let Some(BatchRef::Inline(bytes)) = inlined else {
            panic!("block 5 inlines its batch");
        };
        let place = block_at(&story, behind) + 1;
        story.insert(place, Record::Batch(bytes));
        world.write(&story);
        let verdict = world.verify();
        assert!(verdict.ok, "behind block {behind}: {verdict:#?}");
    }
}

#[test]
fn a_batch_signed_by_nobody_is_found_at_its_block() {
    let (world, mut story) = world();
    let block = block_at(&story, 17);
    let is_batch = |record: &Record| matches!(record, Record::Batch(_));
    let batch = story[..block].iter().rposition(is_batch);
    let batch = batch.expect("block 17 names one");
    let Record::Batch(bytes) = &story[batch] else {
        panic!("it is a batch")
    };
    let mut bytes = bytes.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    story[batch] = Record::Batch(bytes.into());
    world.write_log(&story);
    let verdict = world.verify();
    assert_found(&verdict, "data/log/", 17, "is not in the log before it");
    assert_found(&verdict, "data/log/", 17, "a client's signature");
}

#[test]
fn a_forged_certificate_is_found() {
    let (world, mut story) = world();
    for record in &mut story {
        if let Record::Certificate(certificate) = record
            && certificate.ballot.height == Height(24)
        {
            certificate.signatures[0].0[3] ^= 1;
        }
    }
    world.write_log(&story);
    let verdict = world.verify();
    assert_found(&verdict, "data/log/", 24, "signature does not hold");
    assert_eq!(verdict.faults.len(), 1);
    assert_eq!(verdict.height, Height(BLOCKS), "the chain itself holds");
}

#[test]
fn a_certificate_of_another_header_is_found() {
    let (world, mut story) = world();
    for record in &mut story {
        if let Record::Certificate(certificate) = record
            && certificate.ballot.height == Height(28)
        {
            certificate.ballot.digest.0[0] ^= 1;
        }
    }
    world.write_log(&story);
    assert_found(&world.verify(), "data/log/", 28, "the stored one is");
}

#[test]
fn a_block_with_another_state_root_is_found() {
    let (world, mut story) = world();
    let index = block_at(&story, 32);
    let block = block_mut(&mut story, index);
    block.header.state = Some(Digest::ZERO);
    world.write_log(&story);
    let verdict = world.verify();
    assert_found(&verdict, "data/log/", 32, "another state root");
    assert_found(&verdict, "data/log/", 33, "names parent");
    assert_eq!(verdict.height, Height(31));
    assert_eq!(verdict.state_digest, Digest::ZERO);
}

#[test]
fn a_body_that_the_header_does_not_bind_is_found() {
    let (world, mut story) = world();
    let (one, other) = (block_at(&story, 18), block_at(&story, 19));
    let body = block_mut(&mut story, one).body.clone();
    block_mut(&mut story, other).body = body;
    world.write_log(&story);
    let verdict = world.verify();
    assert_found(&verdict, "data/log/", 19, "not what its header binds");
    assert_eq!(verdict.height, Height(18));
}

#[test]
fn a_vote_that_contradicts_an_earlier_one_is_found() {
    let (world, mut story) = world();
    let lock = Lock {
        regency: Regency(0),
        digest: Digest::ZERO,
    };
    let twice = VoterRecord::Written(Height(30), lock);
    let index = block_at(&story, 30);
    story.insert(index, Record::Voter(ViewId(0), twice));
    let other = VoterRecord::Persisted(Height(32), Digest::ZERO);
    let index = block_at(&story, 32) + 1;
    story.insert(index, Record::Voter(ViewId(0), other));
    world.write_log(&story);
    let verdict = world.verify();
    assert_found(&verdict, "data/log/", 30, "Write in regency 0 names");
    assert_found(&verdict, "data/log/", 32, "PERSIST names header");
    assert_eq!(verdict.faults.len(), 2);
}

#[test]
fn a_removed_log_file_is_found_wherever_it_stood() {
    for (which, height) in [("first", 1), ("middle", 0), ("last", 0)] {
        let (world, story) = world();
        world.write(&story);
        let logs: Vec<PathBuf> = files(&world.data().join("log"))
            .into_keys()
            .filter(|path| path.extension().is_some_and(|end| end == "log"))
            .collect();
        assert!(logs.len() >= 3, "{logs:?}");
        let gone = match which {
            "first" => &logs[0],
            "middle" => &logs[1],
            _ => &logs[logs.len() - 1],
        };
        fs::remove_file(gone).expect("ours");
        let verdict = world.verify();
        let name = gone.file_name().expect("a file").to_string_lossy();
        let fault = verdict.faults.iter().find(|f| f.file.contains(&*name));
        let fault = fault.unwrap_or_else(|| panic!("{which}: {verdict:#?}"));
        assert!(height == 0 || fault.height == height, "{fault:?}");
        assert_eq!(
            fault.height,
            verdict.height.0 + 1,
            "the first block that is not there, {which}"
        );
    }
}

#[test]
fn the_genesis_document_of_another_chain_is_found() {
    let (world, story) = world();
    world.write(&story);
    let mut genesis = world.genesis.clone();
    genesis.name = "another".into();
    let verdict = world.verify_with(genesis);
    assert_found(&verdict, "data/log/", 1, "the genesis document makes");
    assert_eq!(verdict.faults.len(), 1, "the rest follows from it");
    assert_eq!(verdict.height, Height(0));
}

/// Changes tables through their own door, so that every checksum is right.
fn change(world: &World, change: impl FnOnce(&dyn crate::storage::Tables) -> Batch) {
    let options = TableOptions {
        tables: recovery::TABLES.map(str::to_owned).to_vec(),
        cache_bytes: 1 << 20,
    };
    let tables = open_tables(&world.data().join("tables"), "redb", &options);
    let tables = tables.expect("closed before");
    let batch = change(&*tables);
    tables.commit(batch).expect("taken");
    tables.flush().expect("flushed");
}

#[test]
fn a_changed_a_lost_and_an_invented_row_of_every_table_is_found() {
    let (world, story) = world();
    world.write(&story);
    let height = BLOCKS; // the last sealed height
    for table in recovery::TABLES {
        for act in ["change", "lose", "invent"] {
            let mut row = (Vec::new(), Vec::new());
            change(&world, |tables| {
                let rows = tables.scan(table, &Range::all(), Direction::Reverse, 1);
                row = rows.expect("readable").pop().expect("it has rows");
                let (key, value) = row.clone();
                let mut batch = Batch::new();
                match act {
                    "change" => {
                        let mut other = value;
                        *other.last_mut().expect("a value") ^= 1;
                        batch.put(table, key, other);
                    }
                    "lose" => batch.delete(table, key),
                    _ => batch.put(table, [&key[..], &[0]].concat(), value),
                }
                batch
            });
            let verdict = world.verify();
            assert!(!verdict.ok, "{act} in {table}");
            let named = format!("table {table}");
            let is_named = |fault: &Fault| {
                fault.file.starts_with("data/tables") && fault.what.contains(&named)
            };
            let found = verdict.faults.iter().find(|fault| is_named(fault));
            if let Some(found) = found {
                let is_right = (height - 4..=height + 4).contains(&found.height);
                assert!(is_right, "{act} in {table}: {found:?}");
            } else {
                // Without a place the tables say nothing: all of their rows are too many.
                assert_eq!((table, act), ("meta", "lose"), "{verdict:#?}");
            }
            change(&world, |_| {
                let (key, value) = row;
                let mut batch = Batch::new();
                batch.delete(table, [&key[..], &[0]].concat());
                batch.put(table, key, value);
                batch
            });
        }
    }
    assert_eq!(world.verify().faults, [], "every change was taken back");
}

#[test]
fn rows_that_are_lost_at_the_front_of_a_table_are_found_where_nothing_was_pruned() {
    let (world, story) = world();
    world.write(&story);
    change(&world, |_| {
        let mut batch = Batch::new();
        let first = Range::between(&[], &21_u64.to_be_bytes());
        batch.delete_range("blocks", first);
        for table in ["sequences", "batches", "tiles"] {
            batch.delete_range(table, Range::all());
        }
        batch
    });
    let verdict = world.verify();
    for table in ["blocks", "sequences", "batches", "tiles"] {
        let named = format!("table {table}");
        let is_named = |fault: &Fault| fault.what.contains(&named);
        assert!(verdict.faults.iter().any(is_named), "{table}: {verdict:#?}");
    }
}

#[test]
fn a_certificate_that_was_saved_again_below_the_floor_hides_none_and_is_none_too_many() {
    let (world, story) = world();
    world.write(&story);
    let floor = Height(20);
    change(&world, |tables| {
        let row = tables.get("meta", keeper::STANDING);
        let row = row.expect("readable").expect("it stands somewhere");
        let most = codec::ENCODED_BYTES_MAX;
        let mut standing: keeper::Standing = codec::decode(&row, most).expect("a standing");
        let rows = tables.scan("sequences", &Range::all(), Direction::Forward, usize::MAX);
        let rows = rows.expect("readable").into_iter();
        let above = floor.next().0.to_be_bytes();
        let mut first = rows.filter(|(_, height)| height[..] == above);
        let (first, _) = first.next().expect("each block has receipts");
        standing.pruned = (
            floor,
            u64::from_be_bytes(first[..].try_into().expect("a key")),
        );
        let mut batch = Batch::new();
        batch.put("meta", keeper::STANDING, codec::encode(&standing));
        batch.delete_range("blocks", Range::between(&[], &above));
        batch.delete_range("sequences", Range::between(&[], &first));
        // Of those up to the floor one stays, at the place where it is saved again.
        let others = Range::between(&5_u64.to_be_bytes(), &above);
        batch.delete_range("certificates", others);
        batch
    });
    let of_rows = |verdict: &Verdict| -> Vec<String> {
        let whats = verdict.faults.iter().map(|fault| fault.what.clone());
        whats.filter(|what| what.contains(", key ")).collect()
    };
    let verdict = world.verify();
    assert_eq!(of_rows(&verdict), [""; 0], "{verdict:#?}");
    change(&world, |_| {
        let mut batch = Batch::new();
        batch.delete("certificates", 24_u64.to_be_bytes());
        batch
    });
    let verdict = world.verify();
    assert!(
        of_rows(&verdict)[0].contains("table certificates"),
        "{verdict:#?}"
    );
}

#[test]
fn a_file_that_is_none_of_ours_and_another_store_are_found() {
    let (world, story) = world();
    world.write(&story);
    fs::write(world.data().join("log/notes.txt"), "x").expect("ours");
    fs::write(world.data().join("LOCK"), "x").expect("ours");
    // A member that was killed in the test of its disk leaves this.
    fs::write(world.data().join("selftest.7.tmp"), "x").expect("ours");
    let verdict = world.verify();
    assert_found(&verdict, "data/log/notes.txt", BLOCKS, "no file of ours");
    assert_found(&verdict, "data/LOCK", BLOCKS, "not empty");
    assert_eq!(verdict.faults.len(), 2);
    fs::remove_file(world.data().join("log/notes.txt")).expect("ours");
    fs::write(world.data().join("LOCK"), "").expect("ours");
    keys::rotate(&world.member(), None).expect("a fresh key");
    assert_found(&world.verify(), "data/STORE", BLOCKS, "the consensus key");
}

#[test]
fn tables_left_open_by_a_kill_are_compared_row_by_row() {
    let (world, story) = world();
    world.write(&story);
    // Breaking the seal is what opening does; a kill leaves it so.
    fs::remove_file(world.data().join("tables/SEAL")).expect("it was sealed");
    let verdict = world.verify();
    assert_eq!(verdict.faults, []);
    assert!(verdict.notes[0].contains("not closed in good order"));
}

#[test]
fn on_a_running_member_the_log_is_read_and_the_process_named() {
    let (world, story) = world();
    world.write(&story);
    let bound = keys::consensus(&world.member()).expect("its key").store;
    let owner = crate::storage::Store::open(&world.data(), bound).expect("nobody has it");
    let verdict = world.verify();
    assert_eq!(verdict.faults, []);
    assert_eq!(verdict.height, Height(BLOCKS));
    let named = format!("process {} runs on this directory", std::process::id());
    assert!(verdict.notes[0].starts_with(&named), "{:?}", verdict.notes);
    drop(owner);
    assert_eq!(world.verify().notes, [""; 0]);
}

#[test]
fn a_directory_without_data_is_refused() {
    let world = World::new();
    let verdict = verify_dir(VerifyDir {
        dir: world.member(),
        genesis: world.genesis.clone(),
        progress: &mut |_, _| {},
    });
    assert!(matches!(verdict, Err(VerifyError::NoData { .. })));
}
