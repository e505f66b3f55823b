//! Packs keep what was synced, share it, give up the rest, and name damage.

use std::cell::Cell;
use std::fs;

use rand::SeedableRng;
use rand::rngs::ChaCha12Rng;

use super::*;
use crate::crypto::Domain;
use crate::storage::simulated::{Crash, Faults, SimulatedDisk};

fn segment(number: u64, bytes: usize) -> (Digest, Vec<u8>) {
    let content: Vec<u8> = (0..bytes).map(|i| (i as u64 * 31 + number) as u8).collect();
    (
        Digest::of(
            Domain::Snapshot,
            &[&number.to_le_bytes(), &content[..]].concat(),
        ),
        content,
    )
}

#[test]
fn what_was_synced_is_there_after_any_power_loss() {
    for seed in 0..40 {
        for how in [Crash::Lose, Crash::Keep, Crash::Prefix, Crash::Subset] {
            let disk = SimulatedDisk::default();
            let packs = Packs::open_on(disk.clone()).expect("an empty disk opens");
            let all: Vec<_> = (0..20)
                .map(|number| segment(number, 50 + 7 * seed))
                .collect();
            for (index, (digest, bytes)) in all.iter().enumerate() {
                assert!(packs.append(digest, bytes).expect("it is written"));
                assert!(!packs.append(digest, bytes).expect("it is known"));
                if index == 9 {
                    packs.sync().expect("the disk works");
                }
            }
            drop(packs);
            disk.crash(how, &mut ChaCha12Rng::seed_from_u64(seed as u64));
            let packs = Packs::open_on(disk).expect("a torn pack opens");
            for (digest, bytes) in &all[..10] {
                let read = packs.read(digest).expect("it is whole");
                assert_eq!(read.as_deref(), Some(&bytes[..]));
            }
            for (digest, bytes) in &all[10..] {
                match packs.read(digest) {
                    Ok(None) | Err(PackError::Damaged { .. }) => {}
                    Ok(Some(read)) => assert_eq!(read, bytes[..]),
                    Err(other) => panic!("{other}"),
                }
            }
            let (digest, bytes) = segment(99, 10);
            packs
                .append(&digest, &bytes)
                .expect("it goes on in another pack");
            packs.sync().expect("the disk works");
            assert_eq!(
                packs.read(&digest).expect("it is whole").as_deref(),
                Some(&bytes[..])
            );
        }
    }
}

#[test]
fn what_one_process_left_unsynced_is_durable_behind_the_sync_of_the_next() {
    let disk = SimulatedDisk::default();
    let packs = Packs::open_on(disk.clone()).expect("an empty disk opens");
    let (first, bytes) = segment(1, 100);
    packs.append(&first, &bytes).expect("it is written");
    drop(packs); // The process ends: the system has it, and the disk perhaps not.
    let packs = Packs::open_on(disk.clone()).expect("it opens");
    assert!(packs.has(&first));
    let (second, other) = segment(2, 100);
    packs.append(&second, &other).expect("it is written");
    packs.sync().expect("the disk works");
    drop(packs);
    disk.crash(Crash::Lose, &mut ChaCha12Rng::seed_from_u64(1));
    let packs = Packs::open_on(disk).expect("it opens");
    for (digest, bytes) in [(first, bytes), (second, other)] {
        let read = packs.read(&digest).expect("it is whole");
        assert_eq!(read.as_deref(), Some(&bytes[..]));
    }
}

#[test]
fn what_was_synced_aside_is_durable_and_two_packs_that_were_not_are_looked_at() {
    const MIB: usize = 1 << 20;
    for (seed, how) in (0..).zip([Crash::Prefix, Crash::Subset]) {
        let disk = SimulatedDisk::default();
        let packs = Packs::open_on(disk.clone()).expect("an empty disk opens");
        let all: Vec<_> = (0..70).map(|number| segment(number, MIB)).collect();
        for (index, (digest, bytes)) in all.iter().enumerate() {
            assert!(packs.append(digest, bytes).expect("it is written"));
            if index == 40 {
                packs.sync_aside().expect("the disk works");
            }
        }
        drop(packs);
        disk.crash(how, &mut ChaCha12Rng::seed_from_u64(seed));
        let packs = Packs::open_on(disk.clone()).expect("torn packs open");
        for (index, (digest, bytes)) in all.iter().enumerate() {
            match packs.read(digest).expect("what is listed is whole") {
                Some(read) => assert_eq!(read, bytes[..]),
                None => assert!(index > 40, "{index} was synced"),
            }
        }
        let kept = packs.digests();
        for (digest, bytes) in &all {
            packs.append(digest, bytes).expect("it is written");
        }
        packs.sync_aside().expect("the disk works");
        drop(packs);
        disk.crash(Crash::Lose, &mut ChaCha12Rng::seed_from_u64(seed));
        let packs = Packs::open_on(disk).expect("it opens");
        assert_eq!(packs.digests().len(), all.len(), "{} were kept", kept.len());
    }
}

#[test]
fn a_sync_aside_that_fails_is_told_and_leaves_all_to_the_next() {
    let disk = SimulatedDisk::default();
    let packs = Packs::open_on(disk.clone()).expect("an empty disk opens");
    let (digest, bytes) = segment(1, 100);
    packs.append(&digest, &bytes).expect("it is written");
    disk.set_faults(Faults {
        sync_after: Some(0),
        ..Faults::default()
    });
    let told = packs.sync_aside();
    assert!(matches!(told, Err(PackError::Io { .. })), "{told:?}");
    assert_eq!(packs.state().dirty.len(), 1);
    // The system tells a failure once: no later sync may say that all is well.
    disk.set_faults(Faults::default());
    let (other, bytes) = segment(2, 100);
    for told in [
        packs.sync(),
        packs.append(&other, &bytes).map(drop),
        packs.sync_aside(),
    ] {
        assert!(matches!(told, Err(PackError::Io { .. })), "{told:?}");
    }
    let (first, _) = segment(1, 100);
    assert!(packs.has(&first) && !packs.has(&other));
}

#[test]
fn what_nobody_refers_to_makes_room() {
    let dir = tempfile::tempdir().expect("a folder");
    let packs = Packs::open(dir.path()).expect("an empty folder opens");
    let all: Vec<_> = (0..200).map(|number| segment(number, 1 << 20)).collect();
    for (digest, bytes) in &all {
        packs.append(digest, bytes).expect("it is written");
    }
    packs.sync().expect("the disk works");
    let size = || -> u64 {
        let files = fs::read_dir(dir.path()).expect("it is there").flatten();
        files
            .map(|file| file.metadata().expect("it is there").len())
            .sum()
    };
    assert_eq!(size(), packs.bytes());
    let live: BTreeSet<Digest> = all.iter().step_by(10).map(|(digest, _)| *digest).collect();
    let freed = packs.retain(&live).expect("the disk works");
    assert!(freed > 170 << 20, "{freed} bytes");
    assert_eq!(size(), packs.bytes());
    let again = Packs::open(dir.path()).expect("it opens again");
    assert_eq!(again.digests(), live);
    for (digest, bytes) in all.iter().step_by(10) {
        assert_eq!(
            again.read(digest).expect("whole").as_deref(),
            Some(&bytes[..])
        );
    }
    assert!(again.problems().is_empty());
    assert_eq!(again.retain(&live).expect("nothing to do"), 0);
}

#[test]
fn every_flipped_bit_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let packs = Packs::open(dir.path()).expect("an empty folder opens");
    let all: Vec<_> = (0..3).map(|number| segment(number, 40)).collect();
    for (digest, bytes) in &all {
        packs.append(digest, bytes).expect("it is written");
    }
    packs.sync().expect("the disk works");
    let path = dir.path().join(pack_name(1));
    let whole = fs::read(&path).expect("the pack is there");
    for place in 0..whole.len() {
        let mut altered = whole.clone();
        altered[place] ^= 1;
        fs::write(&path, &altered).expect("it is written");
        let found = match Packs::read_only(dir.path()) {
            Err(PackError::Damaged { .. }) => true,
            Err(other) => panic!("{other}"),
            Ok(packs) => all
                .iter()
                .any(|(digest, _)| !matches!(packs.read(digest), Ok(Some(_)))),
        };
        assert!(found, "byte {place}");
    }
}

#[test]
fn what_is_damaged_is_forgotten_and_stored_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let packs = Packs::open(dir.path()).expect("an empty folder opens");
    let all: Vec<_> = (0..3).map(|number| segment(number, 4096)).collect();
    for (digest, bytes) in &all {
        packs.append(digest, bytes).expect("it is written");
    }
    packs.sync().expect("the disk works");
    drop(packs);
    // Later packs, so that the damaged one is not taken for an unfinished write.
    let (later, _) = segment(9, 10);
    for number in [8, 9] {
        let packs = Packs::open(dir.path()).expect("it opens");
        let (digest, bytes) = segment(number, 10);
        packs.append(&digest, &bytes).expect("it is written");
        packs.sync().expect("the disk works");
    }
    let path = dir.path().join("00000001.pack");
    let mut file = fs::read(&path).expect("readable");
    let place = file.len() - 5;
    file[place] ^= 1;
    fs::write(&path, file).expect("written");
    let packs = Packs::open(dir.path()).expect("it opens");
    let (damaged, bytes) = &all[2];
    assert!(packs.has(damaged) && packs.read(damaged).is_err());
    assert_eq!(packs.forget_damaged(&|| true).expect("readable"), 1);
    assert!(!packs.has(damaged) && packs.has(&all[0].0) && packs.has(&later));
    assert!(packs.append(damaged, bytes).expect("it is written"));
    packs.sync().expect("the disk works");
    for packs in [packs, Packs::open(dir.path()).expect("it opens")] {
        assert_eq!(
            packs.read(damaged).expect("whole").as_deref(),
            Some(&bytes[..])
        );
        assert_eq!(packs.forget_damaged(&|| true).expect("readable"), 0);
    }
}

#[test]
fn an_opening_that_is_ended_forgets_nothing_and_the_next_one_has_every_segment() {
    let disk = SimulatedDisk::default();
    let all: Vec<_> = (0..24).map(|number| segment(number, 100)).collect();
    for some in all.chunks(8) {
        let packs = Packs::open_on(disk.clone()).expect("it opens");
        for (digest, bytes) in some {
            packs.append(digest, bytes).expect("it is written");
        }
        packs.sync().expect("the disk works");
    }
    let asked = Cell::new(0);
    let until = |most: usize| {
        asked.set(0);
        let asked = &asked;
        move || asked.replace(asked.get() + 1) < most
    };
    // Each of three packs, and each segment of the two newest.
    for most in 0..3 + 16 {
        let opened = Packs::open_on_while(disk.clone(), &until(most));
        assert!(matches!(opened.err(), Some(PackError::Ended)), "at {most}");
        assert_eq!(asked.get(), most + 1);
    }
    let packs = Packs::open_on_while(disk.clone(), &until(3 + 16)).expect("it goes on");
    for most in 0..24 {
        let ended = packs.forget_damaged(&until(most));
        assert!(matches!(ended, Err(PackError::Ended)), "at {most}");
        assert_eq!(asked.get(), most + 1);
    }
    for packs in [packs, Packs::open_on(disk).expect("it opens")] {
        assert_eq!(packs.forget_damaged(&until(24)).expect("readable"), 0);
        assert!(all.iter().all(|(digest, _)| packs.has(digest)));
    }
}
