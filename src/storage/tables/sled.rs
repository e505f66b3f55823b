//! The engine sled 0.34, with the sync that it lacks.
//!
//! Source: reference measurements: its `flush` returns before data is safe from a power loss. In:
//! edits. Out: rows. Holds: behind every flush its file is really synced, and so is every file of a
//! large page; a failure is told; a long value is kept in pieces, so that no page is large.
//! Elsewhere: engines that sync themselves (`redb`).
//!
//! Sled writes a page above 128 KiB into a file of its own, and does not always remove it when the
//! page is written anew: such files pile up. A page of rows has about 20 of them at most, one above
//! them 256 keys.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use super::super::store::sync_dir;
use super::checked::{Edit, Engine};
use super::{Direction, Row, TableError, failed};
use crate::crypto::{Digest, Domain};

/// The engine's name.
pub(super) const ENGINE: &str = "sled";
/// The first one kept every value whole, which this one reads too.
pub(super) const VERSION: u32 = 2;

const FOLDER: &str = "sled";
/// How often, and how long apart, a closing database is asked whether it has let go: a second in
/// all.
const CLOSE_TRIES: usize = 200;
const CLOSE_PAUSE: Duration = Duration::from_millis(5);
/// Where sled puts what is too large for its main file.
const BLOBS: &str = "blobs";
/// The longest value in one piece. Twenty of them, with their keys, fit into a page.
const PIECE_BYTES: usize = 4096;
/// The first byte of the keys of pieces: more than that of any row.
const PIECES: u8 = u8::MAX;
/// The second one: whose row it is, by its key or by the digest of that.
const BY_KEY: u8 = 0;
const BY_DIGEST: u8 = 1;
/// The longest key that stands in the keys of pieces. All pieces of one value share it, and pages
/// above them hold it whole.
const KEY_IN_PIECE_MAX: usize = 64;
/// Bytes of a row that says how many pieces its value has. Other rows are longer, for they carry a
/// checksum.
const COUNT_BYTES: usize = 2;

/// An open sled database.
pub(super) struct Sled {
    database: ::sled::Db,
    /// Makes a batch that reads before it writes one act, and a value in pieces that is read one.
    writer: RwLock<()>,
    guard: Mutex<Guard>,
}

/// Syncs what sled only writes.
struct Guard {
    folder: PathBuf,
    file: File,
    /// Large pages that were synced already; sled never writes them twice.
    blobs: BTreeSet<OsString>,
}

impl Sled {
    /// Opens or makes the database in `dir`.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, TableError> {
        let folder = dir.join(FOLDER);
        // Its own thread would sync behind our back, log a failure and go on.
        let database = ::sled::Config::new()
            .path(&folder)
            .cache_capacity(cache_bytes)
            .flush_every_ms(None)
            .open()
            .map_err(|error| not_opened(&folder, error))?;
        let guard = Guard::open(dir, folder).map_err(failed(ENGINE, "sync"))?;
        Ok(Self {
            database,
            writer: RwLock::new(()),
            guard: Mutex::new(guard),
        })
    }

    /// What sled itself calls a flush; only for the test that shows why it is not enough.
    #[cfg(test)]
    #[expect(
        clippy::disallowed_methods,
        reason = "the test shows why it is disallowed"
    )]
    pub(super) fn flush_unguarded(&self) -> Result<(), TableError> {
        self.database
            .flush()
            .map(drop)
            .map_err(failed(ENGINE, "flush"))
    }
}

/// Why the database in `folder` does not open: damaged, unless it is the system that refuses.
///
/// A disk that filled up leaves a file that sled takes for corrupt.
fn not_opened(folder: &Path, error: ::sled::Error) -> TableError {
    if let ::sled::Error::Io(source) = &error
        && !super::tells_damage(source)
    {
        return failed(ENGINE, "open")(source);
    }
    TableError::Damaged {
        place: folder.display().to_string(),
        what: error.to_string(),
    }
}

impl Guard {
    fn open(dir: &Path, folder: PathBuf) -> io::Result<Self> {
        let file = File::open(folder.join("db"))?;
        let mut guard = Self {
            folder,
            file,
            blobs: BTreeSet::new(),
        };
        guard.sync()?;
        sync_dir(&guard.folder)?;
        sync_dir(dir)?;
        Ok(guard)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_blobs()?;
        self.file.sync_data()
    }

    /// Large pages first: the main file points at them.
    fn sync_blobs(&mut self) -> io::Result<()> {
        let folder = self.folder.join(BLOBS);
        let mut present = BTreeSet::new();
        for entry in fs::read_dir(&folder)? {
            present.insert(entry?.file_name());
        }
        let mut is_new = false;
        for name in present.difference(&self.blobs) {
            match File::open(folder.join(name)) {
                Ok(file) => file.sync_all()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            is_new = true;
        }
        self.blobs = present;
        if is_new { sync_dir(&folder) } else { Ok(()) }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "sled tells nobody when its threads end; this runs once, while tables are closed"
)]
/// Whether sled's helper threads have let go of its file, which they keep locked until then.
fn is_let_go(file: &File) -> bool {
    for _ in 0..CLOSE_TRIES {
        if file.try_lock().is_ok() {
            return true;
        }
        thread::sleep(CLOSE_PAUSE);
    }
    false
}

impl Sled {
    /// The value of `key` from its row.
    fn whole(&self, key: &[u8], row: &[u8]) -> Result<Vec<u8>, TableError> {
        let Some(count) = pieces(row) else {
            return Ok(row.to_vec());
        };
        let mut value = Vec::new();
        for number in 0..count {
            let piece = self.database.get(piece_key(key, number));
            let piece = piece.map_err(failed(ENGINE, "read"))?;
            let piece = piece.ok_or_else(|| TableError::Damaged {
                place: format!("{ENGINE}, key {}", hex::encode(key)),
                what: format!("piece {number} of {count} is missing"),
            })?;
            value.extend_from_slice(&piece);
        }
        Ok(value)
    }
}

/// How many pieces the value of a row has that holds none itself.
fn pieces(row: &[u8]) -> Option<u16> {
    let count: [u8; COUNT_BYTES] = row.try_into().ok()?;
    Some(u16::from_be_bytes(count))
}

fn piece_key(key: &[u8], number: u16) -> Vec<u8> {
    let number = number.to_be_bytes();
    match key.len() <= KEY_IN_PIECE_MAX {
        true => [&[PIECES, BY_KEY], key, &number].concat(),
        false => {
            let digest = Digest::of(Domain::Storage, key);
            [&[PIECES, BY_DIGEST], &digest.as_bytes()[..], &number].concat()
        }
    }
}

/// What a batch makes of the database.
struct Draft<'a> {
    database: &'a ::sled::Db,
    batch: ::sled::Batch,
    /// Rows that it touches, and how many pieces their values have then; none: it is gone.
    touched: BTreeMap<Vec<u8>, Option<u16>>,
}

impl Draft<'_> {
    fn put(&mut self, key: Vec<u8>, value: &[u8]) -> Result<(), TableError> {
        assert!(value.len() > COUNT_BYTES, "a value carries its checksum");
        let before = self.pieces_of(&key)?;
        let count = if value.len() > PIECE_BYTES {
            let pieces = value.chunks(PIECE_BYTES);
            let count = u16::try_from(pieces.len()).expect("values are bounded");
            for (number, piece) in (0..).zip(pieces) {
                self.batch.insert(piece_key(&key, number), piece);
            }
            self.batch.insert(&*key, &count.to_be_bytes());
            count
        } else {
            self.batch.insert(&*key, value);
            0
        };
        (count..before).for_each(|number| self.batch.remove(piece_key(&key, number)));
        self.touched.insert(key, Some(count));
        Ok(())
    }

    /// Removes a row whose value has so many pieces.
    fn remove(&mut self, key: Vec<u8>, pieces: u16) {
        (0..pieces).for_each(|number| self.batch.remove(piece_key(&key, number)));
        self.batch.remove(&*key);
        self.touched.insert(key, None);
    }

    fn remove_range(&mut self, from: Vec<u8>, to: Vec<u8>) -> Result<(), TableError> {
        // What this batch put before, the database does not show yet.
        let mut gone: BTreeMap<Vec<u8>, u16> = BTreeMap::new();
        for row in self.database.range(from.clone()..to.clone()) {
            let (key, row) = row.map_err(failed(ENGINE, "read"))?;
            gone.insert(key.to_vec(), pieces(&row).unwrap_or_default());
        }
        for (key, pieces) in self.touched.range(from..to) {
            match pieces {
                Some(pieces) => gone.insert(key.clone(), *pieces),
                None => gone.remove(key),
            };
        }
        gone.into_iter()
            .for_each(|(key, pieces)| self.remove(key, pieces));
        Ok(())
    }

    /// How many pieces there are of the value of `key`.
    fn pieces_of(&self, key: &[u8]) -> Result<u16, TableError> {
        if let Some(touched) = self.touched.get(key) {
            return Ok(touched.unwrap_or_default());
        }
        let row = self.database.get(key).map_err(failed(ENGINE, "read"))?;
        Ok(row.and_then(|row| pieces(&row)).unwrap_or_default())
    }
}

impl Engine for Sled {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let _reader = self.writer.read().unwrap_or_else(PoisonError::into_inner);
        let row = self.database.get(key).map_err(failed(ENGINE, "read"))?;
        row.map(|row| self.whole(key, &row)).transpose()
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, TableError> {
        let _reader = self.writer.read().unwrap_or_else(PoisonError::into_inner);
        let rows = self.database.range(from..to);
        let owned = |row: ::sled::Result<(::sled::IVec, ::sled::IVec)>| {
            let (key, row) = row.map_err(failed(ENGINE, "read"))?;
            Ok((key.to_vec(), self.whole(&key, &row)?))
        };
        match direction {
            Direction::Forward => rows.take(limit).map(owned).collect(),
            Direction::Reverse => rows.rev().take(limit).map(owned).collect(),
        }
    }

    fn apply(&self, edits: Vec<Edit>) -> Result<(), TableError> {
        let _writer = self.writer.write().unwrap_or_else(PoisonError::into_inner);
        let mut draft = Draft {
            database: &self.database,
            batch: ::sled::Batch::default(),
            touched: BTreeMap::new(),
        };
        for edit in edits {
            match edit {
                Edit::Put(key, value) => draft.put(key, &value)?,
                Edit::Delete(key) => {
                    let pieces = draft.pieces_of(&key)?;
                    draft.remove(key, pieces);
                }
                Edit::DeleteRange(from, to) if from < to => draft.remove_range(from, to)?,
                Edit::DeleteRange(..) => {}
            }
        }
        self.database
            .apply_batch(draft.batch)
            .map_err(failed(ENGINE, "write"))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the guard behind it makes it durable"
    )]
    fn flush(&self) -> Result<(), TableError> {
        self.database.flush().map_err(failed(ENGINE, "flush"))?;
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.sync().map_err(failed(ENGINE, "sync"))
    }

    fn id(&self) -> &'static str {
        ENGINE
    }

    fn close(self: Box<Self>) -> bool {
        let flushed = self.flush().is_ok();
        let Self {
            database, guard, ..
        } = *self;
        drop(database);
        let guard = guard.into_inner().unwrap_or_else(PoisonError::into_inner);
        flushed && is_let_go(&guard.file)
    }
}
