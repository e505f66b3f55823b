//! The data directory: one random id, one owner at a time.
//!
//! Source: design, 'identities and keys'. In: a path and a fresh id. Out: [`Store`], which holds
//! the lock. Holds: the id is written once and never changes; two processes never own one
//! directory. Elsewhere: the key file that names the same id (`node`), the log that carries it in
//! every file (`log`).

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const STORE_FILE: &str = "STORE";
const LOCK_FILE: &str = "LOCK";
const STORE_HEAD: &str = "consortium store 1";

/// The random name of one data directory. A key that was used with one store is unusable with
/// another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a data directory cannot be used. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operator started a second process, or the first still ends.
    #[error("{dir} is in use by another process")]
    InUse {
        /// The data directory.
        dir: PathBuf,
    },
    /// The disk is at fault: the id cannot be read back as it was written.
    #[error("{path} is damaged: it does not hold a store id with its checksum")]
    Damaged {
        /// The id file.
        path: PathBuf,
    },
    /// There is no id: nobody has opened this directory for writing yet, or the file was lost.
    #[error("{path} is missing")]
    Missing {
        /// The id file.
        path: PathBuf,
    },
    /// A program of another version made the directory.
    #[error("{path} is of format '{found}', this program reads '{STORE_HEAD}'")]
    OtherFormat {
        /// The id file.
        path: PathBuf,
        /// What its first line says.
        found: String,
    },
    /// The environment failed.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A data directory that this process owns until it is dropped.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    id: StoreId,
    fresh: bool,
    _lock: File,
}

impl Store {
    /// Makes `dir` if it is missing, locks it, and reads its id; an empty directory gets `fresh`,
    /// durably.
    ///
    /// Errors: [`StoreError::InUse`] when another process owns it, [`StoreError::Damaged`] when the
    /// id is, [`StoreError::OtherFormat`] when another version wrote it.
    pub fn open(dir: &Path, fresh: StoreId) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(failed(dir))?;
        let lock = lock(dir)?;
        match Self::read_id(dir) {
            Ok(id) => Ok(Self {
                dir: dir.into(),
                id,
                fresh: false,
                _lock: lock,
            }),
            // Every log file names its store as well, so a log of another one is found.
            Err(StoreError::Missing { .. }) => {
                write_id(dir, fresh)?;
                Ok(Self {
                    dir: dir.into(),
                    id: fresh,
                    fresh: true,
                    _lock: lock,
                })
            }
            Err(other) => Err(other),
        }
    }

    /// Reads the id of `dir` without owning it.
    pub fn read_id(dir: &Path) -> Result<StoreId, StoreError> {
        let path = dir.join(STORE_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { path });
            }
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        match parse_id(&text) {
            Some(id) => Ok(id),
            None => Err(unreadable(path, &text)),
        }
    }

    /// Whether some process owns `dir` now.
    pub fn is_owned(dir: &Path) -> bool {
        match File::open(dir.join(LOCK_FILE)) {
            Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
            Err(_) => false,
        }
    }

    /// Its id.
    pub fn id(&self) -> StoreId {
        self.id
    }

    /// Whether this opening made the id: there was no data before.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its log files live.
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Where its tables live.
    pub fn tables_dir(&self) -> PathBuf {
        self.dir.join("tables")
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { dir: dir.into() }),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { path, source }),
    }
}

fn id_text(id: StoreId) -> String {
    let head = format!("{STORE_HEAD}\n{id}\n");
    let crc = crc32c::crc32c(head.as_bytes());
    format!("{head}{crc:08x}\n")
}

fn parse_id(text: &[u8]) -> Option<StoreId> {
    let line = std::str::from_utf8(text).ok()?.lines().nth(1)?.to_owned();
    let mut id = [0; 16];
    hex::decode_to_slice(line, &mut id).ok()?;
    // Comparing the whole text finds a flipped bit anywhere in the file, letter case included.
    (id_text(StoreId(id)).as_bytes() == text).then_some(StoreId(id))
}

/// Why `text` is no id: of another format when its checksum fits, else damaged.
fn unreadable(path: PathBuf, text: &[u8]) -> StoreError {
    let whole = std::str::from_utf8(text).ok().and_then(|text| {
        let (head, crc) = text.trim_end().rsplit_once('\n')?;
        let head = format!("{head}\n");
        let fits = format!("{:08x}", crc32c::crc32c(head.as_bytes())) == crc;
        fits.then(|| head.lines().next().unwrap_or_default().to_owned())
    });
    match whole {
        Some(found) if found != STORE_HEAD => StoreError::OtherFormat { path, found },
        Some(_) | None => StoreError::Damaged { path },
    }
}

fn write_id(dir: &Path, id: StoreId) -> Result<(), StoreError> {
    write_durably(dir, STORE_FILE, id_text(id).as_bytes()).map_err(failed(&dir.join(STORE_FILE)))
}

/// Writes a small file so that after a power loss it is either absent (or the earlier one) or
/// whole.
pub(super) fn write_durably(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let draft = draft(dir, name);
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, dir.join(name))?;
    sync_dir(dir)
}

/// Where [`write_durably`] writes first; it stays behind where a write fails.
pub(super) fn draft(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.tmp"))
}

/// Makes names created, renamed or removed in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}
