//! One suite over every engine, and crashes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use ::redb::StorageBackend;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::super::simulated::{Crash, Faults, SimulatedDisk, SimulatedFile};
use super::super::{Medium, MediumFile, Problem};
use super::*;

fn options() -> TableOptions {
    TableOptions {
        tables: vec!["state".into(), "index".into()],
        cache_bytes: 4 << 20,
    }
}

fn on_each_engine(test: impl Fn(&str, &Path, &dyn Tables)) {
    for engine in engines() {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = open_tables(folder.path(), engine, &options()).expect("opens");
        test(engine, folder.path(), &*tables);
    }
}

fn lasting() -> Vec<&'static str> {
    engines()
        .into_iter()
        .filter(|engine| *engine != memory::ENGINE)
        .collect()
}

fn rows(tables: &dyn Tables, table: &str) -> Vec<Row> {
    tables
        .scan(table, &Range::all(), Direction::Forward, usize::MAX)
        .expect("scans")
}

#[test]
fn each_engine_keeps_tables_apart_and_rows_in_order() {
    on_each_engine(|engine, _, tables| {
        let mut batch = Batch::new();
        for key in [3_u8, 1, 2, 255] {
            batch.put("state", [key], [key; 3]);
            batch.put("index", [key, 0], []);
        }
        tables.commit(batch).expect("commits");
        assert_eq!(
            tables.get("state", &[2]).expect("reads"),
            Some(vec![2; 3]),
            "{engine}"
        );
        assert_eq!(tables.get("state", &[2, 0]).expect("reads"), None);
        assert_eq!(tables.get("index", &[2, 0]).expect("reads"), Some(vec![]));
        let keys = |range: Range, direction, limit| -> Vec<u8> {
            let rows = tables
                .scan("state", &range, direction, limit)
                .expect("scans");
            rows.into_iter().map(|(key, _)| key[0]).collect()
        };
        assert_eq!(keys(Range::all(), Direction::Forward, 9), [1, 2, 3, 255]);
        assert_eq!(keys(Range::all(), Direction::Reverse, 2), [255, 3]);
        assert_eq!(keys(Range::between(&[2], &[3]), Direction::Forward, 9), [2]);
        assert_eq!(
            keys(Range::between(&[3], &[2]), Direction::Forward, 9),
            vec![0_u8; 0]
        );
        assert_eq!(
            keys(Range::starting_at(&[3]), Direction::Reverse, 9),
            [255, 3]
        );
        assert_eq!(keys(Range::prefix(&[255]), Direction::Forward, 9), [255]);
        assert_eq!(keys(Range::all(), Direction::Forward, 0), vec![0_u8; 0]);
        assert_eq!(tables.check().expect("all is whole"), 8);
        assert_eq!(tables.engine_id(), engine);
    });
}

#[test]
fn each_engine_makes_the_changes_of_a_batch_in_their_order() {
    on_each_engine(|engine, _, tables| {
        let mut batch = Batch::new();
        batch.put("state", *b"old", *b"1");
        tables.commit(batch).expect("commits");
        let mut batch = Batch::new();
        batch.put("state", *b"new", *b"2");
        batch.delete_range("state", Range::all());
        batch.put("state", *b"new", *b"3");
        batch.put("state", *b"gone", *b"4");
        batch.delete("state", *b"gone");
        batch.delete("state", *b"never there");
        batch.delete_range("index", Range::between(b"b", b"a"));
        tables.commit(batch).expect("commits");
        assert_eq!(
            rows(tables, "state"),
            [(b"new".to_vec(), b"3".to_vec())],
            "{engine}"
        );
    });
}

#[test]
fn each_engine_refuses_strange_tables_and_what_is_too_long_and_changes_nothing() {
    on_each_engine(|_, _, tables| {
        let strange = tables.get("other", b"key");
        assert!(matches!(strange, Err(TableError::NoTable { table }) if table == "other"));
        let too_long = [
            (vec![0; KEY_BYTES_MAX + 1], vec![]),
            (vec![0], vec![0; VALUE_BYTES_MAX + 1]),
        ];
        for (key, value) in too_long {
            let mut batch = Batch::new();
            batch.put("state", *b"fine", *b"fine");
            batch.put("state", key, value);
            assert!(matches!(
                tables.commit(batch),
                Err(TableError::TooLarge { .. })
            ));
        }
        assert_eq!(rows(tables, "state"), []);
        let mut batch = Batch::new();
        batch.put("state", vec![1; KEY_BYTES_MAX], vec![2; VALUE_BYTES_MAX]);
        tables.commit(batch).expect("the longest fit");
        tables.flush().expect("flushes");
        let value = tables.get("state", &[1; KEY_BYTES_MAX]).expect("reads");
        assert_eq!(value.map(|value| value.len()), Some(VALUE_BYTES_MAX));
    });
}

#[test]
fn each_lasting_engine_keeps_what_was_flushed_over_restarts_like_a_model() {
    for engine in lasting() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut chance = ChaCha8Rng::seed_from_u64(1);
        let mut model = BTreeMap::new();
        for _ in 0..4 {
            let tables = open_tables(folder.path(), engine, &options()).expect("opens");
            assert_eq!(
                rows(&*tables, "state"),
                model.clone().into_iter().collect::<Vec<_>>()
            );
            for _ in 0..30 {
                let mut batch = Batch::new();
                for _ in 0..10 {
                    let key = vec![chance.random_range(0..50_u8)];
                    match chance.random_range(0..10) {
                        0 => {
                            model.retain(|other, _| *other < key || other[0] >= key[0] + 5);
                            batch.delete_range("state", Range::between(&key, &[key[0] + 5]));
                        }
                        1 => {
                            model.remove(&key);
                            batch.delete("state", key);
                        }
                        _ => {
                            let bytes = [300, 4_100, 20_000][chance.random_range(0..3)];
                            let value = vec![chance.random(); chance.random_range(0..bytes)];
                            model.insert(key.clone(), value.clone());
                            batch.put("state", key, value);
                        }
                    }
                }
                tables.commit(batch).expect("commits");
            }
            tables.flush().expect("flushes");
            assert!(tables.size_on_disk().expect("measures") > 0);
        }
    }
}

/// The folder as a kill at this moment would leave it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes the folder");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("looks").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

#[test]
fn each_lasting_engine_survives_a_kill_with_whole_batches_and_all_that_was_flushed() {
    for engine in lasting() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("tables");
        let tables = open_tables(&dir, engine, &options()).expect("opens");
        for round in 0..12_u8 {
            for half in 0..2 {
                let mut batch = Batch::new();
                batch.put(
                    "state",
                    [round, half],
                    vec![round; 5_000 * usize::from(round)],
                );
                batch.put("index", [round, half], [round]);
                tables.commit(batch).expect("commits");
                if half == 0 {
                    tables.flush().expect("flushes");
                }
            }
            let killed = folder.path().join(format!("killed-{round}"));
            copy(&dir, &killed);
            let after = open_tables(&killed, engine, &options()).expect("opens after a kill");
            after.check().expect("every value is whole");
            let keys = |table| -> Vec<Vec<u8>> {
                rows(&*after, table)
                    .into_iter()
                    .map(|(key, _)| key)
                    .collect()
            };
            assert!(
                keys("state").contains(&vec![round, 0]),
                "{engine}: {round} was flushed"
            );
            assert_eq!(keys("state"), keys("index"), "{engine}: batches are whole");
        }
    }
}

#[test]
fn a_directory_of_another_engine_or_a_newer_version_is_refused_by_both_names() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open_tables(folder.path(), "redb", &options()).expect("opens"));
    let other = open_tables(folder.path(), "memory", &options())
        .err()
        .expect("refused");
    assert!(
        other.to_string().contains("'redb', not by 'memory'"),
        "{other}"
    );
    let none = open_tables(folder.path(), "abacus", &options())
        .err()
        .expect("refused");
    assert!(
        none.to_string().contains("'abacus'") && none.to_string().contains("redb"),
        "{none}"
    );
    let path = folder.path().join("ENGINE");
    let text = fs::read_to_string(&path).expect("reads");
    let body = text.replace("tables 1", "tables 2");
    let body = &body[..body.rfind("sum").expect("ends in a sum")];
    let newer = format!("{body}sum {:08x}\n", crc32c::crc32c(body.as_bytes()));
    fs::write(&path, newer).expect("writes");
    let newer = open_tables(folder.path(), "redb", &options())
        .err()
        .expect("refused");
    assert!(
        matches!(
            &newer,
            TableError::Newer {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{newer}"
    );
    fs::write(&path, text.replace("state", "stale")).expect("writes");
    let damaged = open_tables(folder.path(), "redb", &options())
        .err()
        .expect("refused");
    assert!(matches!(damaged, TableError::Damaged { .. }));
}

#[test]
fn a_table_keeps_its_rows_when_the_list_is_longer_or_in_another_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = open_tables(folder.path(), "redb", &options()).expect("opens");
    let mut batch = Batch::new();
    batch.put("index", *b"key", *b"value");
    tables.commit(batch).expect("commits");
    tables.flush().expect("flushes");
    drop(tables);
    let names = ["peers", "index", "state"].map(String::from).to_vec();
    let longer = TableOptions {
        tables: names,
        ..options()
    };
    let tables = open_tables(folder.path(), "redb", &longer).expect("opens");
    assert_eq!(
        tables.get("index", b"key").expect("reads"),
        Some(b"value".to_vec())
    );
    assert_eq!(rows(&*tables, "peers"), []);
}

#[test]
fn a_value_that_is_not_the_one_put_there_is_damage() {
    let engine = memory::Memory::default();
    engine
        .apply(vec![Edit::Put(b"\0key".to_vec(), b"no checksum".to_vec())])
        .expect("applies");
    let tables = Checked::new(Path::new("."), Box::new(engine), options().tables);
    let damaged = tables.get("state", b"key").expect_err("found");
    assert!(
        damaged.to_string().contains("table 'state', key 6b6579"),
        "{damaged}"
    );
    assert!(tables.check().is_err());
}

#[test]
fn any_flipped_bit_of_closed_tables_is_found_and_named() {
    for engine in lasting() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dir, scratch) = (folder.path().join("tables"), folder.path().join("scratch"));
        let mut chance = ChaCha8Rng::seed_from_u64(2);
        let tables = open_tables(&dir, engine, &options()).expect("opens");
        let mut batch = Batch::new();
        for key in 0..200_u8 {
            batch.put("state", [key], vec![key; 900]);
        }
        tables.commit(batch).expect("commits");
        drop(tables);
        let clean = verify_tables(&dir, &scratch).expect("looks");
        assert_eq!(
            (clean.is_sealed, clean.problems),
            (true, vec![]),
            "{engine}"
        );
        let files = files_below(&dir);
        for _ in 0..60 {
            let path = &files[chance.random_range(0..files.len())];
            let whole = fs::read(path).expect("reads");
            if whole.is_empty() {
                continue;
            }
            let mut bytes = whole.clone();
            let at = chance.random_range(0..bytes.len());
            bytes[at] ^= 1 << chance.random_range(0..8);
            fs::write(path, &bytes).expect("writes");
            let found = verify_tables(&dir, &scratch).expect("looks").problems;
            let named = path.strip_prefix(&dir).expect("below").to_string_lossy();
            let near = |problem: &Problem| {
                let distance = (at as u64).checked_sub(problem.offset);
                problem.file == named && distance.is_some_and(|bytes| bytes < 64 * 1024)
            };
            assert!(found.iter().any(near), "{engine} {named} {at}: {found:?}");
            fs::write(path, &whole).expect("writes");
        }
    }
}

/// A sync of the seal that failed leaves its draft behind.
#[test]
fn a_draft_of_a_seal_is_no_part_of_the_next_one() {
    for engine in lasting() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dir, scratch) = (folder.path().join("tables"), folder.path().join("scratch"));
        drop(open_tables(&dir, engine, &options()).expect("opens"));
        fs::rename(dir.join("SEAL"), dir.join("SEAL.tmp")).expect("renames");
        drop(open_tables(&dir, engine, &options()).expect("opens"));
        let report = verify_tables(&dir, &scratch).expect("looks");
        assert_eq!(
            (report.is_sealed, report.problems),
            (true, vec![]),
            "{engine}"
        );
    }
}

#[test]
fn tables_that_were_not_closed_are_checked_row_by_row_on_a_copy() {
    for engine in lasting() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dir, scratch) = (folder.path().join("tables"), folder.path().join("scratch"));
        let tables = open_tables(&dir, engine, &options()).expect("opens");
        let mut batch = Batch::new();
        batch.put("state", *b"key", *b"value");
        tables.commit(batch).expect("commits");
        tables.flush().expect("flushes");
        let killed = folder.path().join("killed");
        copy(&dir, &killed);
        let report = verify_tables(&killed, &scratch).expect("looks");
        assert_eq!(
            (report.is_sealed, report.problems),
            (false, vec![]),
            "{engine}"
        );
        assert_eq!(report.engine.as_deref(), Some(engine));
        assert!(!scratch.exists());
    }
}

fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("lists") {
        let path = entry.expect("lists").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// A disk of the simulator under redb. It can be told to lie about syncs.
#[derive(Clone)]
struct Lossy {
    disk: SimulatedDisk,
    file: Arc<SimulatedFile>,
    length: Arc<Mutex<u64>>,
    lies: bool,
}

impl std::fmt::Debug for Lossy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lossy")
    }
}

impl Lossy {
    fn new(lies: bool) -> Self {
        let disk = SimulatedDisk::new();
        let file = Arc::new(disk.create("db").expect("makes it"));
        disk.sync_names().expect("syncs");
        Self {
            disk,
            file,
            length: Arc::default(),
            lies,
        }
    }

    /// The same file after a power loss.
    fn after(&self, crash: Crash, chance: &mut ChaCha8Rng) -> Self {
        self.disk.crash(crash, chance);
        let file = Arc::new(self.disk.open("db").expect("there"));
        let length = Arc::new(Mutex::new(file.size().expect("measures")));
        Self {
            disk: self.disk.clone(),
            file,
            length,
            lies: self.lies,
        }
    }
}

impl StorageBackend for Lossy {
    fn len(&self) -> io::Result<u64> {
        Ok(*self.length.lock().expect("no test panics with it"))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut length = self.length.lock().expect("no test panics with it");
        if len > *length {
            self.file
                .write_at(*length, &vec![0; (len - *length) as usize])?;
        }
        *length = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.lies { Ok(()) } else { self.file.sync() }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }
}

/// Commits and flushes until the power goes after `acts`, then gives how many were flushed and how
/// many are there.
fn flushed_and_found(lies: bool, acts: u64, crash: Crash) -> (u32, Option<u32>) {
    let mut chance = ChaCha8Rng::seed_from_u64(acts);
    let lossy = Lossy::new(lies);
    let mut flushed = 0;
    let engine = redb::Redb::open_on(lossy.clone()).expect("opens");
    lossy.disk.set_faults(Faults {
        power_after: Some(acts),
        ..Faults::default()
    });
    for key in 0..30_u32 {
        let edit = Edit::Put(key.to_be_bytes().to_vec(), vec![key as u8; 700]);
        if engine
            .apply(vec![edit])
            .and_then(|()| engine.flush())
            .is_err()
        {
            break;
        }
        flushed += 1;
    }
    drop(engine);
    let Ok(engine) = redb::Redb::open_on(lossy.after(crash, &mut chance)) else {
        return (flushed, None);
    };
    let rows = engine
        .scan(&[], &[255; 5], Direction::Forward, 100)
        .expect("scans");
    (flushed, Some(rows.len() as u32))
}

#[test]
fn redb_keeps_every_flushed_batch_when_power_is_lost_at_any_write() {
    for crash in Crash::ALL {
        for acts in (1..200).step_by(3) {
            let (flushed, found) = flushed_and_found(false, acts, crash);
            let found = found.expect("it opens after a power loss");
            assert!(
                found == flushed || found == flushed + 1,
                "{crash:?} {acts}: {found} {flushed}"
            );
        }
    }
}

#[test]
fn an_engine_that_says_durable_too_early_is_caught_without_system_calls() {
    let caught = (20..200).step_by(20).any(|acts| {
        let (flushed, found) = flushed_and_found(true, acts, Crash::Lose);
        found.is_none_or(|found| found < flushed)
    });
    assert!(
        caught,
        "a disk that ignores syncs must lose what was flushed"
    );
}

const FLUSHES: usize = 20;

/// Runs one act per flush under `strace` and gives how many syncs the system saw for them; none
/// without `strace`.
fn syncs_seen(act: &str) -> Option<usize> {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace");
    let status = Command::new("strace")
        .args(["-f", "-e", "trace=fdatasync,fsync,openat", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().expect("this test has a path"))
        .args([
            "--exact",
            "storage::tables::tests::flushes_for_the_trace",
            "--ignored",
        ])
        .env("CONSORTIUM_TEST_ACT", act)
        .env("CONSORTIUM_TEST_DIR", folder.path())
        .output();
    if !status.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let text = fs::read_to_string(trace).ok()?;
    let from = text.find("flushes-begin")?;
    let to = text.find("flushes-end")?;
    let is_sync = |line: &&str| line.contains("fdatasync(") || line.contains("fsync(");
    Some(text[from..to].lines().filter(is_sync).count())
}

/// Not a test: what `syncs_seen` runs under the trace.
#[test]
#[ignore = "run by the tests that count system calls"]
fn flushes_for_the_trace() {
    let (Ok(act), Ok(dir)) = (
        std::env::var("CONSORTIUM_TEST_ACT"),
        std::env::var("CONSORTIUM_TEST_DIR"),
    ) else {
        return;
    };
    let dir = Path::new(&dir);
    // Files that are looked for and never there: they mark the place in the trace.
    let mark = |name| drop(fs::File::open(dir.join(name)));
    let mut flush = flusher(&act, dir);
    flush(0);
    mark("flushes-begin");
    for key in 1..=FLUSHES {
        flush(key as u32);
    }
    mark("flushes-end");
}

fn flusher(act: &str, dir: &Path) -> Box<dyn FnMut(u32)> {
    #[cfg(feature = "sled")]
    if act == "sled without its guard" {
        let engine = sled::Sled::open(dir, 4 << 20).expect("opens");
        return Box::new(move |key| {
            let edit = Edit::Put(key.to_be_bytes().to_vec(), vec![1; 100]);
            engine.apply(vec![edit]).expect("applies");
            engine.flush_unguarded().expect("says that it is durable");
        });
    }
    if act == "log" {
        let store = super::super::StoreId([1; 16]);
        let options = super::super::Options {
            file_bytes: 1 << 20,
            ..Default::default()
        };
        let opened = super::super::Log::open(dir, store, options, |_| {});
        let mut log = opened.expect("opens").0;
        return Box::new(move |key| {
            log.append(1, &key.to_be_bytes()).expect("appends");
            log.sync().expect("syncs");
        });
    }
    let tables = open_tables(dir, act, &options()).expect("opens");
    Box::new(move |key| {
        let mut batch = Batch::new();
        batch.put("state", key.to_be_bytes(), [1; 100]);
        tables.commit(batch).expect("commits");
        tables.flush().expect("flushes");
    })
}

#[test]
fn every_flush_and_every_sync_of_the_log_is_a_real_one() {
    for act in lasting().into_iter().chain(["log"]) {
        match syncs_seen(act) {
            Some(seen) => assert!(seen >= FLUSHES, "{act}: {seen} syncs for {FLUSHES} flushes"),
            None => println!("skipped: system calls cannot be traced here"),
        }
    }
    if let Some(seen) = syncs_seen("log") {
        assert_eq!(seen, FLUSHES, "the log syncs once for each");
    }
}

/// The first catch of the count above: this is why sled has a guard.
#[test]
#[cfg(feature = "sled")]
fn sled_without_its_guard_says_durable_too_early() {
    match syncs_seen("sled without its guard") {
        Some(seen) => assert!(seen < FLUSHES, "sled syncs by itself now: the guard may go"),
        None => println!("skipped: system calls cannot be traced here"),
    }
}

#[cfg(feature = "sled")]
#[test]
fn sled_keeps_long_values_in_short_pages_and_leaves_nothing_of_them_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = open_tables(folder.path(), "sled", &options()).expect("opens");
    let value = |number: u64| vec![number as u8; 1 + (number as usize * 7_919) % 130_000];
    for number in 0..600_u64 {
        let mut batch = Batch::new();
        batch.put("index", number.to_be_bytes(), value(number));
        // Keys as long as they may be, alike up to their ends.
        let mut key = vec![7; KEY_BYTES_MAX];
        key[KEY_BYTES_MAX - 1] = (number % 90) as u8;
        batch.put("state", key, value(number));
        let below = number.saturating_sub(20).to_be_bytes();
        batch.delete_range("index", Range::between(&[], &below));
        tables.commit(batch).expect("commits");
        if number % 20 == 0 {
            tables.flush().expect("flushes");
        }
    }
    let blobs = folder.path().join("sled/blobs");
    assert_eq!(fs::read_dir(blobs).expect("lists").count(), 0);
    let kept = rows(&*tables, "index");
    let kept: Vec<u64> = { kept.iter() }
        .map(|(key, kept)| {
            let number = u64::from_be_bytes(key[..].try_into().expect("eight bytes"));
            assert_eq!(*kept, value(number));
            number
        })
        .collect();
    assert_eq!(kept, (579..600).collect::<Vec<_>>());
    let mut all = Batch::new();
    all.delete_range("index", Range::all());
    all.delete_range("state", Range::all());
    tables.commit(all).expect("commits");
    drop(tables);
    let database = ::sled::open(folder.path().join("sled")).expect("opens");
    assert_eq!(database.len(), 0, "no piece is left");
}

#[cfg(feature = "sled")]
#[test]
fn a_long_value_is_read_whole_while_it_is_written_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = open_tables(folder.path(), "sled", &options()).expect("opens");
    let write = |number: u8| {
        let mut batch = Batch::new();
        batch.put("state", *b"key", vec![number; 50_000]);
        tables.commit(batch).expect("commits");
    };
    write(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (1..200).for_each(write));
        while !writer.is_finished() {
            let value = tables.get("state", b"key").expect("it is whole");
            assert_eq!(value.expect("it is there").len(), 50_000);
        }
    });
}
