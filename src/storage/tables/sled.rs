//! The engine sled 0.34, with the sync that it lacks.
//!
//! Source: reference measurements: its `flush` returns before data is safe from a power loss. In:
//! edits. Out: rows. Holds: behind every flush its file is really synced, and so is every file of a
//! large value; a failure is told. Elsewhere: engines that sync themselves (`redb`).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::super::store::sync_dir;
use super::checked::{Edit, Engine};
use super::{Direction, Row, TableError, failed};

/// The engine's name.
pub(super) const ENGINE: &str = "sled";

const FOLDER: &str = "sled";
/// How often, and how long apart, a closing database is asked whether it has let go: a second in
/// all.
const CLOSE_TRIES: usize = 200;
const CLOSE_PAUSE: Duration = Duration::from_millis(5);
/// Where sled puts what is too large for its main file.
const BLOBS: &str = "blobs";

/// An open sled database.
pub(super) struct Sled {
    database: ::sled::Db,
    /// Makes a batch that reads before it writes (removing ranges) one act.
    writer: Mutex<()>,
    guard: Mutex<Guard>,
}

/// Syncs what sled only writes.
struct Guard {
    folder: PathBuf,
    file: File,
    /// Large values that were synced already; sled never writes them twice.
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
            writer: Mutex::new(()),
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

    /// Large values first: the main file points at them.
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

impl Engine for Sled {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let value = self.database.get(key).map_err(failed(ENGINE, "read"))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, TableError> {
        let rows = self.database.range(from..to);
        let owned = |row: ::sled::Result<(::sled::IVec, ::sled::IVec)>| {
            row.map(|(key, value)| (key.to_vec(), value.to_vec()))
        };
        let rows: ::sled::Result<Vec<Row>> = match direction {
            Direction::Forward => rows.take(limit).map(owned).collect(),
            Direction::Reverse => rows.rev().take(limit).map(owned).collect(),
        };
        rows.map_err(failed(ENGINE, "read"))
    }

    fn apply(&self, edits: Vec<Edit>) -> Result<(), TableError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = ::sled::Batch::default();
        // A range removes what this batch put before it as well, which the database does not show
        // yet.
        let mut put: BTreeSet<Vec<u8>> = BTreeSet::new();
        for edit in edits {
            match edit {
                Edit::Put(key, value) => {
                    batch.insert(&*key, &*value);
                    put.insert(key);
                }
                Edit::Delete(key) => batch.remove(&*key),
                Edit::DeleteRange(from, to) if from < to => {
                    for key in put.range(from.clone()..to.clone()) {
                        batch.remove(&**key);
                    }
                    for row in self.database.range(from..to).keys() {
                        batch.remove(row.map_err(failed(ENGINE, "read"))?);
                    }
                }
                Edit::DeleteRange(..) => {}
            }
        }
        self.database
            .apply_batch(batch)
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
