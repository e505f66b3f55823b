//! Tests of the log, its twin, group commit and the data directory.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::simulated::{Crash, Faults, SimulatedDisk};
use super::verify::verify_on;
use super::*;

const STORE: StoreId = StoreId([7; 16]);
const SMALL: Options = Options {
    file_bytes: 4096,
    spares_min: 1,
    spares_max: 4,
};

type Records = BTreeMap<Position, (u8, Vec<u8>)>;

fn open(disk: &SimulatedDisk) -> Result<(Log<SimulatedDisk>, Records, Recovered), LogError> {
    let mut records = Records::new();
    let (log, recovered) = Log::open_on(Arc::new(disk.clone()), STORE, SMALL, |record| {
        records.insert(record.position, (record.kind, record.payload.to_vec()));
    })?;
    assert_eq!(
        recovered.records,
        records.len() as u64,
        "each record is given once"
    );
    Ok((log, records, recovered))
}

fn payload(chance: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = vec![0; chance.random_range(0..700)];
    chance.fill(&mut bytes[..]);
    bytes
}

/// Appends `count` records and syncs after each third.
fn fill(log: &mut Log<SimulatedDisk>, count: usize, chance: &mut ChaCha8Rng) -> Records {
    let mut records = Records::new();
    for index in 0..count {
        let bytes = payload(chance);
        let position = log
            .append(index as u8, &bytes)
            .expect("a healthy disk takes it");
        records.insert(position, (index as u8, bytes));
        if index % 3 == 2 {
            log.sync().expect("a healthy disk syncs");
        }
    }
    records
}

fn problems(disk: &SimulatedDisk) -> Vec<Problem> {
    verify_on(disk, STORE, &mut |_| {})
        .expect("the folder can be listed")
        .problems
}

#[test]
fn records_are_read_back_in_order_over_many_files() {
    let (disk, mut chance) = (SimulatedDisk::new(), ChaCha8Rng::seed_from_u64(1));
    let (mut log, none, recovered) = open(&disk).expect("an empty folder opens");
    assert!(recovered.is_new && none.is_empty());
    let written = fill(&mut log, 100, &mut chance);
    log.sync().expect("syncs");
    assert!(log.end().file > 5, "several files are used");
    let reader = log.reader();
    for (position, record) in &written {
        assert_eq!(reader.read(*position).expect("it is there"), *record);
    }
    drop(log);
    let (log, read, recovered) = open(&disk).expect("opens again");
    assert_eq!(read, written);
    assert_eq!((recovered.is_new, recovered.torn), (false, None));
    assert_eq!(recovered.end, log.end());
    assert_eq!(problems(&disk), vec![]);
}

#[test]
fn a_reader_refuses_what_is_not_written_or_pruned() {
    let (disk, mut chance) = (SimulatedDisk::new(), ChaCha8Rng::seed_from_u64(2));
    let (mut log, ..) = open(&disk).expect("opens");
    let buffered = log.append(1, b"buffered").expect("fits");
    let reader = log.reader();
    assert!(matches!(
        reader.read(buffered),
        Err(LogError::NotWritten { .. })
    ));
    assert_eq!(
        log.read(buffered).expect("the writer sees it"),
        (1, b"buffered".to_vec())
    );
    let written = fill(&mut log, 60, &mut chance);
    log.sync().expect("syncs");
    let kept = log.end().file - 1;
    assert_eq!(log.prune(kept).expect("prunes"), (kept - 1) as usize);
    assert_eq!(log.prune(kept).expect("nothing left to prune"), 0);
    for (position, record) in &written {
        let read = reader.read(*position);
        if position.file < kept {
            assert!(matches!(read, Err(LogError::Pruned { .. })), "{position}");
        } else {
            assert_eq!(read.expect("kept"), *record);
        }
    }
    let beyond = Position {
        file: log.end().file + 1,
        offset: 64,
    };
    assert!(matches!(
        reader.read(beyond),
        Err(LogError::NotWritten { .. })
    ));
}

#[test]
fn a_record_larger_than_a_file_is_refused_by_name_and_changes_nothing() {
    let disk = SimulatedDisk::new();
    let (mut log, ..) = open(&disk).expect("opens");
    let longest = log.record_bytes_max();
    log.append(1, &vec![1; longest]).expect("the longest fits");
    let refused = log.append(1, &vec![1; longest + 1]);
    assert!(matches!(refused, Err(LogError::TooLarge { bytes_max, .. }) if bytes_max == longest));
    log.append(2, b"next").expect("goes on");
    log.sync().expect("syncs");
    drop(log);
    assert_eq!(open(&disk).expect("opens").1.len(), 2);
}

/// Cuts or garbles the file from every byte of the last two records on.
#[test]
fn a_torn_tail_at_every_byte_of_the_last_two_records_loses_only_them() {
    for garbage in [false, true] {
        for cut in 0..=80 {
            let (disk, mut chance) = (SimulatedDisk::new(), ChaCha8Rng::seed_from_u64(3));
            let (mut log, ..) = open(&disk).expect("opens");
            let synced: Vec<Position> = (0..3)
                .map(|n| log.append(n, b"synced").expect("fits"))
                .collect();
            log.sync().expect("syncs");
            let start = log.end();
            for kind in [8, 9] {
                log.append(kind, b"not synced at all").expect("fits");
            }
            let whole = (log.end().offset - start.offset) as usize;
            assert_eq!(whole, 80);
            let unsynced = log.read(start).expect("written");
            drop(log);
            let file = MediumFileOf::open(&disk, "00000001.log");
            let end = start.offset as usize + whole;
            let mut tail =
                disk.bytes("00000001.log").expect("there")[start.offset as usize..end].to_vec();
            for byte in &mut tail[cut..] {
                *byte = if garbage { chance.random() } else { 0 };
            }
            file.write_at(u64::from(start.offset), &tail)
                .expect("writes");
            let (mut log, records, recovered) = open(&disk).expect("a torn tail is no damage");
            let survivors = if cut == 80 { 2 } else { usize::from(cut >= 40) };
            // A cut in the padding, or garbage that happens to be zero, leaves the record whole.
            assert!(
                records.len() >= 3 + survivors && records.len() <= 5,
                "cut {cut}"
            );
            assert!(synced.iter().all(|position| records.contains_key(position)));
            if let Some(first) = records.get(&start) {
                assert_eq!(*first, unsynced);
            }
            assert!(cut < 80 || recovered.torn.is_none());
            log.append(10, b"after").expect("fits");
            log.sync().expect("syncs");
            let kept = records.len();
            drop(log);
            assert_eq!(open(&disk).expect("opens").1.len(), kept + 1);
            assert_eq!(problems(&disk), vec![]);
        }
    }
}

struct MediumFileOf;

impl MediumFileOf {
    fn open(disk: &SimulatedDisk, name: &str) -> simulated::SimulatedFile {
        disk.open(name).expect("the file is there")
    }
}

#[test]
fn each_of_a_thousand_flipped_bits_is_found_by_file_and_offset() {
    let (disk, mut chance) = (SimulatedDisk::new(), ChaCha8Rng::seed_from_u64(4));
    let (mut log, ..) = open(&disk).expect("opens");
    let written = fill(&mut log, 60, &mut chance);
    log.sync().expect("syncs");
    let (end, pool) = (log.end(), log.pool());
    pool.prepare().expect("a spare");
    drop(log);
    let names: Vec<String> = disk.names().expect("names");
    let starts: Vec<Position> = written.keys().copied().collect();
    for _ in 0..1_000 {
        let name = &names[chance.random_range(0..names.len())];
        let (offset, bit) = (chance.random_range(0..4096_u64), chance.random_range(0..8));
        disk.flip(name, offset, bit);
        let found = problems(&disk);
        assert_eq!(found.len(), 1, "{name} {offset} bit {bit}: {found:?}");
        assert_eq!(found[0].file, *name);
        let distance = offset - found[0].offset.min(offset);
        assert!(
            found[0].offset <= offset && distance < 800,
            "{name} {offset}: {found:?}"
        );
        let number = log::log_number(name);
        let position = Position {
            file: number.unwrap_or(0),
            offset: offset as u32,
        };
        let in_record = number.is_some()
            && starts
                .iter()
                .rev()
                .find(|start| **start <= position)
                .is_some_and(|start| {
                    let length = frame::frame_bytes(written[start].1.len());
                    start.file == position.file && offset < u64::from(start.offset) + length
                });
        if in_record && position < end {
            let opened = open(&disk).err().expect("what was synced is damaged");
            assert!(matches!(opened, LogError::Damaged { file, offset: at, .. }
                if file == position.file && u64::from(at) == found[0].offset));
        }
        disk.flip(name, offset, bit);
        assert_eq!(problems(&disk), vec![]);
    }
}

#[test]
fn a_missing_or_shortened_file_is_named() {
    let (disk, mut chance) = (SimulatedDisk::new(), ChaCha8Rng::seed_from_u64(5));
    let (mut log, ..) = open(&disk).expect("opens");
    fill(&mut log, 60, &mut chance);
    drop(log);
    disk.rename("00000003.log", "elsewhere").expect("renames");
    assert!(matches!(
        open(&disk).err(),
        Some(LogError::Missing { file: 3 })
    ));
    assert_eq!(problems(&disk)[0].file, "00000003.log");
    disk.rename("elsewhere", "00000003.log").expect("renames");
    let other = StoreId([8; 16]);
    let foreign = Log::open_on(Arc::new(disk.clone()), other, SMALL, |_| {}).err();
    assert!(matches!(foreign, Some(LogError::Foreign { file: 1, .. })));
}

#[test]
fn recycled_files_never_bring_old_records_back() {
    let (disk, mut chance) = (SimulatedDisk::new(), ChaCha8Rng::seed_from_u64(6));
    let (mut log, ..) = open(&disk).expect("opens");
    let mut kept = Records::new();
    for round in 0..20 {
        kept.append(&mut fill(&mut log, 15, &mut chance));
        log.sync().expect("syncs");
        let before = log.end().file.saturating_sub(2);
        log.prune(before).expect("prunes");
        if round % 2 == 0 {
            log.pool().prepare().expect("prepares");
        }
        kept.retain(|position, _| position.file >= before);
        if round % 3 == 0 {
            disk.crash(Crash::ALL[round % 4], &mut chance);
            let (reopened, records, _) = open(&disk).expect("opens");
            let mut expected = kept.clone();
            // A power loss may undo the renames of a prune that was not yet synced; prune syncs
            // them.
            expected.retain(|position, _| position.file >= reopened.first_file());
            assert_eq!(records, expected, "round {round}");
            log = reopened;
        }
    }
    let files = disk.names().expect("names").len();
    assert!(
        files <= 12,
        "pruned files are used again or removed: {files}"
    );
}

#[test]
fn stale_frames_left_in_a_file_are_not_records() {
    let (disk, mut chance) = (SimulatedDisk::new(), ChaCha8Rng::seed_from_u64(7));
    let (mut log, ..) = open(&disk).expect("opens");
    fill(&mut log, 30, &mut chance);
    log.sync().expect("syncs");
    let last = log::log_name(log.end().file);
    let first = disk.bytes("00000001.log").expect("there");
    let end = log.end().offset;
    let count = {
        drop(log);
        open(&disk).expect("opens").1.len()
    };
    // Frames of file 1 behind the end of the last file, at the very offsets they had there.
    MediumFileOf::open(&disk, &last)
        .write_at(u64::from(end), &first[end as usize..])
        .expect("writes");
    let (_, records, recovered) = open(&disk).expect("nothing durable is damaged");
    assert_eq!(records.len(), count);
    assert!(recovered.torn.is_some());
}

/// What a disk must hold after a crash, and what it may.
#[derive(Default)]
struct Expected {
    synced: Records,
    appended: Records,
    pruned: u64,
}

/// One run of appends, syncs, prunes and spares that stops when the disk stops.
fn live(disk: &SimulatedDisk, seed: u64, expected: &mut Expected) {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let Ok((mut log, found, _)) = open(disk) else {
        return;
    };
    // What an opening gave may be acted on, so it counts as synced from then on.
    (expected.appended, expected.synced) = (found.clone(), found);
    for _ in 0..150 {
        let step = match chance.random_range(0..10) {
            0..6 => {
                let bytes = payload(&mut chance);
                log.append(5, &bytes).map(|position| {
                    expected.appended.insert(position, (5, bytes));
                })
            }
            6..8 => log
                .sync()
                .map(|()| expected.synced.clone_from(&expected.appended)),
            8 => log.pool().prepare().map(drop),
            _ => {
                expected.pruned = log.end().file.saturating_sub(2);
                log.prune(expected.pruned).map(drop)
            }
        };
        if step.is_err() {
            break;
        }
    }
}

#[test]
fn power_loss_at_every_write_loses_nothing_synced_and_invents_nothing() {
    let disk = SimulatedDisk::new();
    live(&disk, 11, &mut Expected::default());
    let acts = disk.acts();
    assert!(acts > 150, "{acts}");
    for crash in Crash::ALL {
        for after in 0..acts {
            for seed in 0..8 {
                let context = format!("{crash:?} after {after} acts, seed {seed}");
                lose_power_three_times(crash, after, seed, &context);
            }
        }
    }
}

fn lose_power_three_times(crash: Crash, after: u64, seed: u64, context: &str) {
    let (disk, mut expected) = (SimulatedDisk::new(), Expected::default());
    let mut chance = ChaCha8Rng::seed_from_u64(seed * 1_000 + after);
    // The second and third life are cut in their recovery or soon after it. A life may also end by
    // a kill alone.
    for cut in [
        after,
        chance.random_range(0..20),
        chance.random_range(0..40),
    ] {
        disk.set_faults(Faults {
            power_after: Some(cut),
            ..Faults::default()
        });
        live(&disk, 11 + cut, &mut expected);
        let crash = if chance.random_bool(0.2) {
            Crash::Keep
        } else {
            crash
        };
        disk.crash(crash, &mut chance);
    }
    let (_, found, _) = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    let kept = |position: &Position| position.file >= expected.pruned;
    for (position, record) in expected
        .synced
        .iter()
        .filter(|(position, _)| kept(position))
    {
        assert_eq!(
            found.get(position),
            Some(record),
            "{context}: {position} was synced"
        );
    }
    for (position, record) in &found {
        let written = expected.appended.get(position);
        assert_eq!(written, Some(record), "{context}: {position} is invented");
    }
    assert_eq!(problems(&disk), vec![], "{context}");
}

#[test]
fn a_failed_sync_stops_the_log_for_good() {
    let disk = SimulatedDisk::new();
    let (mut log, ..) = open(&disk).expect("opens");
    disk.set_faults(Faults {
        sync_after: Some(1),
        ..Faults::default()
    });
    log.append(1, b"first").expect("fits");
    log.sync().expect("the first sync works");
    let position = log.append(2, b"second").expect("fits");
    assert!(matches!(log.sync(), Err(LogError::Io { act: "sync", .. })));
    disk.set_faults(Faults::default());
    assert!(matches!(log.sync(), Err(LogError::Poisoned { .. })));
    assert!(matches!(
        log.append(3, b"third"),
        Err(LogError::Poisoned { .. })
    ));
    assert!(matches!(log.prune(9), Err(LogError::Poisoned { .. })));
    assert_eq!(log.read(position).expect("reading goes on").0, 2);
}

#[test]
fn what_an_opening_gave_is_durable_though_the_process_before_never_synced_it() {
    for sync_fails in [false, true] {
        let (disk, mut chance) = (SimulatedDisk::new(), ChaCha8Rng::seed_from_u64(10));
        let (mut log, ..) = open(&disk).expect("opens");
        log.append(1, b"synced").expect("fits");
        log.sync().expect("syncs");
        let position = log.append(2, b"only written").expect("fits");
        log.read(position).expect("written");
        if sync_fails {
            disk.set_faults(Faults {
                sync_after: Some(0),
                ..Faults::default()
            });
            log.sync().expect_err("the disk fails");
            disk.set_faults(Faults::default());
        }
        drop(log);
        // The process was killed, not the power: everything written is still in memory.
        let (log, given, _) = open(&disk).expect("opens");
        assert_eq!(given.len(), 2);
        drop(log);
        disk.crash(Crash::Lose, &mut chance);
        assert_eq!(
            open(&disk).expect("opens").1,
            given,
            "a failed sync before: {sync_fails}"
        );
    }
}

#[test]
fn an_unfinished_record_never_comes_back_behind_a_later_one() {
    let (disk, mut chance) = (SimulatedDisk::new(), ChaCha8Rng::seed_from_u64(12));
    let (mut log, ..) = open(&disk).expect("opens");
    let lost = log.append(1, b"lost").expect("fits");
    let stranded = log.append(2, b"stranded").expect("fits");
    log.read(stranded).expect("written");
    drop(log);
    disk.crash(Crash::Keep, &mut chance);
    MediumFileOf::open(&disk, "00000001.log")
        .write_at(u64::from(lost.offset), &[0; 24])
        .expect("the first never reached the disk");
    let (mut log, records, recovered) = open(&disk).expect("opens");
    assert_eq!((records.len(), recovered.torn), (0, Some(lost)));
    // Just as long as the one that was lost, so that the stranded one would follow it.
    assert_eq!(log.append(3, b"late").expect("fits"), lost);
    log.sync().expect("syncs");
    drop(log);
    let (_, records, _) = open(&disk).expect("opens");
    assert_eq!(records, Records::from([(lost, (3, b"late".to_vec()))]));
}

#[test]
fn a_sync_of_nothing_new_costs_nothing_and_of_many_records_one() {
    let disk = SimulatedDisk::new();
    let (mut log, ..) = open(&disk).expect("opens");
    disk.set_faults(Faults::default());
    log.sync().expect("nothing to do");
    assert_eq!(disk.syncs(), 0);
    for _ in 0..20 {
        log.append(1, b"record").expect("fits");
    }
    log.sync().expect("syncs");
    assert_eq!(disk.syncs(), 1);
}

#[test]
fn a_full_disk_refuses_by_name_keeps_what_was_taken_and_goes_on_when_there_is_room() {
    let (disk, mut chance) = (SimulatedDisk::new(), ChaCha8Rng::seed_from_u64(8));
    let (mut log, ..) = open(&disk).expect("opens");
    disk.set_faults(Faults {
        bytes_max: Some(3 * 4096),
        ..Faults::default()
    });
    let mut taken = Records::new();
    let full = loop {
        let bytes = payload(&mut chance);
        match log.append(1, &bytes) {
            Ok(position) => taken.insert(position, (1, bytes)),
            Err(error) => break error,
        };
    };
    assert!(matches!(full, LogError::Full { bytes: 4096, .. }), "{full}");
    log.sync().expect("what was taken is kept");
    log.prune(3).expect("makes room");
    let position = log.append(2, &[1; 2000]).expect("goes on");
    log.sync().expect("syncs");
    taken.insert(position, (2, vec![1; 2000]));
    taken.retain(|position, _| position.file >= 3);
    drop(log);
    assert_eq!(open(&disk).expect("opens").1, taken);
}

#[test]
fn group_commit_answers_every_batch_once_in_order_and_only_when_durable() {
    let disk = SimulatedDisk::new();
    let (log, ..) = open(&disk).expect("opens");
    let group = GroupCommit::start(log, GroupOptions::default()).expect("a thread");
    let (answers, answered) = mpsc::sync_channel(200);
    for n in 0..200_u8 {
        let (answers, disk) = (answers.clone(), disk.clone());
        let batch = vec![
            (n, Bytes::from(vec![n; 100])),
            (n, Bytes::from_static(b"second")),
        ];
        group.submit(batch, move |positions| {
            let positions = positions.expect("healthy");
            // What is durable at this moment: the disk after losing all that is not.
            let copy = disk.durable_copy();
            answers
                .send((n, positions, copy))
                .expect("the test listens");
        });
    }
    let reader = group.reader();
    drop(group);
    for n in 0..200_u8 {
        let (which, positions, durable) = answered.recv().expect("answered before the drop ends");
        assert_eq!((which, positions.len()), (n, 2));
        assert_eq!(reader.read(positions[0]).expect("there"), (n, vec![n; 100]));
        if n % 20 == 0 {
            let found = open(&durable).expect("opens").1;
            assert!(
                positions
                    .iter()
                    .all(|position| found.contains_key(position))
            );
        }
    }
}

#[test]
fn group_commit_refuses_when_too_many_wait_and_gives_the_batch_back() {
    let disk = SimulatedDisk::new();
    let (log, ..) = open(&disk).expect("opens");
    let options = GroupOptions {
        waiting_max: 1,
        ..GroupOptions::default()
    };
    let group = GroupCommit::start(log, options).expect("a thread");
    let (release, released) = mpsc::sync_channel::<()>(1);
    let (started, has_started) = mpsc::sync_channel(1);
    group.submit(vec![(1, Bytes::from_static(b"one"))], move |_| {
        started.send(()).expect("the test listens");
        released.recv().expect("the test lets go");
    });
    has_started.recv().expect("the first is being answered");
    group
        .try_submit(vec![(2, Bytes::from_static(b"two"))], |_| {})
        .expect("one may wait");
    match group.try_submit(vec![(3, Bytes::from_static(b"three"))], |_| {}) {
        Err(Rejected::Busy { waiting: 1, batch }) => assert_eq!(batch[0].0, 3),
        other => panic!("{other:?}"),
    }
    release.send(()).expect("the log waits");
    assert_eq!(
        group
            .commit(vec![(4, Bytes::new())])
            .expect("durable")
            .len(),
        1
    );
}

#[test]
fn syncs_and_appended_bytes_are_counted() {
    let disk = SimulatedDisk::new();
    let (log, ..) = open(&disk).expect("opens");
    let group = GroupCommit::start(log, GroupOptions::default()).expect("a thread");
    let counts = group.counts();
    assert_eq!((counts.syncs(), counts.bytes()), (0, 0));
    let one = vec![(1, Bytes::from(vec![1; 100]))];
    for syncs in 1..=3 {
        group.commit(one.clone()).expect("durable");
        let framed = frame::frame_bytes(100);
        assert_eq!((counts.syncs(), counts.bytes()), (syncs, syncs * framed));
    }
}

#[test]
fn group_commit_tells_everybody_when_the_sync_fails() {
    let disk = SimulatedDisk::new();
    let (log, ..) = open(&disk).expect("opens");
    let group = GroupCommit::start(log, GroupOptions::default()).expect("a thread");
    group
        .commit(vec![(1, Bytes::from_static(b"one"))])
        .expect("durable");
    disk.set_faults(Faults {
        sync_after: Some(0),
        ..Faults::default()
    });
    assert!(group.commit(vec![(2, Bytes::from_static(b"two"))]).is_err());
    let after = group.commit(vec![(3, Bytes::from_static(b"three"))]);
    assert!(matches!(after, Err(LogError::Poisoned { .. })));
}

#[test]
fn a_real_folder_works_as_the_twin_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("log");
    let mut chance = ChaCha8Rng::seed_from_u64(9);
    let mut written = Records::new();
    for round in 0..3 {
        let mut read = Records::new();
        let (mut log, _) = Log::open(&dir, STORE, SMALL, |record| {
            read.insert(record.position, (record.kind, record.payload.to_vec()));
        })
        .expect("opens");
        assert_eq!(read, written, "round {round}");
        for _ in 0..30 {
            let bytes = payload(&mut chance);
            let position = log.append(round, &bytes).expect("fits");
            written.insert(position, (round, bytes));
        }
        log.sync().expect("syncs");
        let before = log.end().file - 2;
        log.prune(before).expect("prunes");
        log.pool().prepare().expect("prepares");
        written.retain(|position, _| position.file >= before);
    }
    let report = verify_log(&dir, STORE, |_| {}).expect("lists");
    assert_eq!(
        (report.records, report.problems),
        (written.len() as u64, vec![])
    );
}

#[test]
fn a_log_that_is_being_written_and_pruned_is_seen_as_a_consistent_prefix() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("log");
    let options = Options {
        file_bytes: 64 * 1024,
        ..SMALL
    };
    let (log, _) = Log::open(&dir, STORE, options, |_| {}).expect("opens");
    let group = Arc::new(GroupCommit::start(log, GroupOptions::default()).expect("a thread"));
    let writer = Arc::clone(&group);
    let written = std::thread::spawn(move || {
        for n in 0..3_000_u32 {
            let bytes = Bytes::from(n.to_le_bytes().repeat(1 + n as usize % 90));
            let positions = writer.commit(vec![(1, bytes)]).expect("durable");
            if n % 100 == 0 {
                writer.prune(positions[0].file.saturating_sub(2), |_| {});
            }
        }
    });
    while !written.is_finished() {
        let mut next: Option<u32> = None;
        let report = verify_log(&dir, STORE, |record| {
            let n = u32::from_le_bytes(*record.payload.first_chunk().expect("four bytes"));
            assert!(next.is_none_or(|next| next == n), "{n} follows {next:?}");
            next = Some(n + 1);
        })
        .expect("lists");
        assert!(
            report.problems.iter().all(|problem| problem.is_tail),
            "{:?}",
            report.problems
        );
    }
    written.join().expect("the writer is content");
}

#[test]
fn a_data_directory_has_one_owner_and_one_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("data");
    assert!(matches!(
        Store::read_id(&dir),
        Err(StoreError::Missing { .. })
    ));
    let store = Store::open(&dir, STORE).expect("opens");
    assert!(store.is_fresh() && Store::is_owned(&dir));
    let second = Store::open(&dir, STORE).expect_err("one owner");
    assert!(second.to_string().contains("data is in use"), "{second}");
    drop(store);
    assert!(!Store::is_owned(&dir));
    let store = Store::open(&dir, StoreId([9; 16])).expect("opens");
    assert_eq!((store.id(), store.is_fresh()), (STORE, false));
    let path = dir.join("STORE");
    let text = std::fs::read(&path).expect("reads");
    for offset in 0..text.len() {
        for bit in 0..8 {
            let mut flipped = text.clone();
            flipped[offset] ^= 1 << bit;
            std::fs::write(&path, flipped).expect("writes");
            let read = Store::read_id(&dir);
            assert!(
                matches!(read, Err(StoreError::Damaged { .. })),
                "{offset} {bit}"
            );
        }
    }
}

#[test]
fn handles_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<LogReader>();
    shared::<GroupCommit>();
    shared::<SimulatedDisk>();
    shared::<Box<dyn Tables>>();
}

#[test]
fn an_opening_from_a_later_file_reads_no_record_below_and_every_damage_is_still_named() {
    let (disk, mut chance) = (SimulatedDisk::new(), ChaCha8Rng::seed_from_u64(11));
    let (mut log, ..) = open(&disk).expect("opens");
    let mut written = fill(&mut log, 60, &mut chance);
    log.sync().expect("syncs");
    let last = log.end().file;
    assert!(last > 4, "several files are used");
    drop(log);
    for from in [0, 3, last, last + 7] {
        let (log, records) = open_from(&disk, from).expect("opens");
        let first = from.min(last);
        let expected = written
            .iter()
            .filter(|(position, _)| position.file >= first);
        let expected: Records = expected.map(|(at, record)| (*at, record.clone())).collect();
        assert_eq!(records, expected, "from {from}");
        assert_eq!((log.first_file(), log.end().file), (1, last));
        let reader = log.reader();
        for (position, record) in &written {
            assert_eq!(reader.read(*position).expect("it is there"), *record);
        }
    }

    // Damage in a file that is not read is found where it matters.
    let (position, _) = { written.iter() }
        .find(|(position, (_, bytes))| position.file == 2 && !bytes.is_empty())
        .expect("the second file has records");
    let position = *position;
    disk.flip("00000002.log", u64::from(position.offset + 16), 1);
    let (mut log, _) = open_from(&disk, 3).expect("what it reads is whole");
    let read = log.read(position);
    let place = position.offset;
    let is_named = |error: &LogError| {
        let LogError::Damaged { file, offset, .. } = error else {
            return false;
        };
        (*file, *offset) == (2, place)
    };
    assert!(read.as_ref().is_err_and(is_named), "{read:?}");
    assert!(
        problems(&disk)
            .iter()
            .any(|problem| problem.file == "00000002.log")
    );
    assert!(matches!(
        open(&disk).err(),
        Some(LogError::Damaged { file: 2, .. })
    ));
    written.extend(fill(&mut log, 30, &mut chance));
    log.sync().expect("it goes on");
    drop(log);

    // Headers of all files are read, so that none is missing or cut short.
    disk.remove("00000001.log").expect("it is there");
    open_from(&disk, 3).expect("the log begins at a later file");
    disk.remove("00000003.log").expect("it is there");
    assert!(matches!(
        open_from(&disk, 4).err(),
        Some(LogError::Missing { file: 3 })
    ));
}

fn open_from(disk: &SimulatedDisk, file: u64) -> Result<(Log<SimulatedDisk>, Records), LogError> {
    let mut records = Records::new();
    let give = |record: Record<'_>| {
        records.insert(record.position, (record.kind, record.payload.to_vec()));
    };
    let reading = Reading {
        file,
        ..Reading::ALL
    };
    let (log, _) = Log::open_from_on(reading, Arc::new(disk.clone()), (STORE, SMALL), give)?;
    Ok((log, records))
}

#[test]
fn an_opening_that_is_ended_changes_nothing_and_the_next_one_gives_every_record() {
    let (disk, mut chance) = (SimulatedDisk::new(), ChaCha8Rng::seed_from_u64(12));
    let (mut log, ..) = open(&disk).expect("opens");
    let written = fill(&mut log, 60, &mut chance);
    log.sync().expect("syncs");
    let files = log.end().file;
    drop(log);
    let ended_at = |most: u64| {
        let asked = Cell::new(0);
        let go_on = || asked.replace(asked.get() + 1) < most;
        let reading = Reading {
            file: 0,
            go_on: &go_on,
        };
        let mut given = 0_usize;
        let count = |_: Record<'_>| given += 1;
        let opened = Log::open_from_on(reading, Arc::new(disk.clone()), (STORE, SMALL), count);
        (opened.map(drop), given, asked.get())
    };
    let (opened, given, asks) = ended_at(u64::MAX);
    opened.expect("it goes on to the end");
    assert_eq!(given, written.len());
    assert!(
        asks > 2 * files,
        "for each header, and for the records of each file"
    );
    let mut before = 0;
    for most in 0..asks {
        let (opened, given, asked) = ended_at(most);
        assert!(
            matches!(opened, Err(LogError::Ended)),
            "at {most}: {opened:?}"
        );
        assert_eq!(asked, most + 1, "it does not go on once it was told to end");
        assert!(given >= before && (most > files || given == 0), "at {most}");
        before = given;
    }
    let (_, records, _) = open(&disk).expect("opens");
    assert_eq!(records.len(), written.len(), "nothing is lost");
}
