//! What lies in a data directory, and who runs on it.
//!
//! Source: interface, 'Files'. In: folders. Out: the store's id, what does not belong there.
//! Holds: only names and small files are read; links are not followed.
//! Elsewhere: log files and tables themselves (`storage`).

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::findings::{Findings, Place};
use super::{VerifyError, keys};
use crate::node::bootstrap;
use crate::node::shelf::{SNAPSHOTS, VIEWS};
use crate::storage::{Store, StoreError, StoreId};

const STORE: &str = "STORE";
const LOCK: &str = "LOCK";
/// Folders of a data directory.
const FOLDERS: [&str; 5] = ["log", "tables", SNAPSHOTS, VIEWS, bootstrap::FOLDER];
/// Files of the tables; below the last one, a folder, the engine names what it likes.
const TABLES: [&str; 4] = ["ENGINE", "SEAL", "tables.redb", "sled"];
/// Names that are tried for a folder of copies.
const SCRATCH_TRIES: u32 = 1000;

/// A data directory.
pub(super) struct Folder<'a> {
    /// The member's directory.
    pub(super) dir: &'a Path,
    /// The data directory.
    pub(super) data: &'a Path,
    /// Whether a process runs on it.
    pub(super) is_running: bool,
}

impl Folder<'_> {
    /// Looks at names and at the small files; gives the store's id, the key's where the file that
    /// holds it is damaged.
    pub(super) fn look(&self, findings: &mut Findings) -> Result<Option<StoreId>, VerifyError> {
        for name in ["", "log", "tables"] {
            self.names(name, findings)?;
        }
        if !self.data.join("log").is_dir() {
            findings.add("log", Place::Tip, "the folder is missing");
        }
        let lock = self.data.join(LOCK);
        if fs::metadata(&lock).is_ok_and(|found| found.len() > 0) {
            findings.add(LOCK, Place::Tip, "byte 0: the file is not empty");
        }
        self.store(findings)
    }

    fn names(&self, folder: &str, findings: &mut Findings) -> Result<(), VerifyError> {
        let path = self.data.join(folder);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(VerifyError::Io { path, source }),
        };
        for entry in entries {
            let failed = |source| VerifyError::Io {
                path: path.clone(),
                source,
            };
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().map_err(failed)?;
            let file = Path::new(folder).join(&name).display().to_string();
            let is_known = match folder {
                "" if kind.is_dir() => FOLDERS.contains(&&name[..]),
                "" => [STORE, LOCK].contains(&&name[..]),
                "log" => is_log_name(&name) && kind.is_file(),
                _ => TABLES.contains(&&name[..]) && kind.is_dir() == (name == "sled"),
            };
            if is_known && !kind.is_symlink() {
                continue;
            }
            let is_half_made = name.strip_suffix(".tmp").is_some_and(|whole| {
                let is_trial = folder.is_empty() && whole.starts_with("selftest.");
                is_trial || whole == STORE || (folder == "tables" && TABLES.contains(&whole))
            });
            if is_half_made && kind.is_file() {
                findings.note(format!("{file} was left half made; it is not used"));
            } else if !self.is_running || folder != "log" {
                findings.add(file, Place::Tip, "no file of ours has this name");
            }
        }
        Ok(())
    }

    fn store(&self, findings: &mut Findings) -> Result<Option<StoreId>, VerifyError> {
        let bound = keys::consensus(self.dir).map(|key| key.store);
        if let Err(error) = &bound {
            findings.note(format!("the key's store was not compared: {error}"));
        }
        match Store::read_id(self.data) {
            Ok(store) => {
                if let Ok(bound) = bound
                    && bound != store
                {
                    let what = format!("it names store {store}, the consensus key {bound}");
                    findings.add(STORE, Place::Tip, what);
                }
                Ok(Some(store))
            }
            Err(StoreError::Io { path, source }) => Err(VerifyError::Io { path, source }),
            Err(StoreError::Missing { .. }) => {
                findings.add(STORE, Place::Tip, "the file is missing");
                Ok(bound.ok())
            }
            Err(
                StoreError::Damaged { .. }
                | StoreError::OtherFormat { .. }
                | StoreError::InUse { .. },
            ) => {
                let what = "byte 0: it does not hold a store id with its checksum";
                findings.add(STORE, Place::Tip, what);
                Ok(bound.ok())
            }
        }
    }
}

fn is_log_name(name: &str) -> bool {
    let is_number = |stem: &str| stem.len() >= 8 && stem.bytes().all(|b| b.is_ascii_digit());
    let spare = |stem: &str| stem.strip_prefix("spare-").is_some_and(is_number);
    match name.rsplit_once('.') {
        Some((stem, "log")) => is_number(stem),
        Some((stem, "ready" | "stale")) => spare(stem),
        _ => false,
    }
}

/// The process that holds the lock of `data`, as people read it.
pub(super) fn owner(data: &Path) -> String {
    let found = fs::metadata(data.join(LOCK)).and_then(|lock| {
        let locks = fs::read_to_string("/proc/locks")?;
        Ok(pid_of(&locks, lock.ino()))
    });
    match found {
        Ok(Some(pid)) => format!("process {pid}"),
        Ok(None) | Err(_) => "another process".into(),
    }
}

/// The process that holds a lock on `inode`: `1: FLOCK  ADVISORY  WRITE 42 fd:00:1234 0 EOF`.
fn pid_of(locks: &str, inode: u64) -> Option<u32> {
    let end = format!(":{inode}");
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words.get(1) == Some(&"FLOCK") && words.get(5)?.ends_with(&end);
        is_it.then(|| words.get(4)?.parse().ok()).flatten()
    })
}

/// A folder for copies, removed when dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one that nobody else may read, in the system's folder for temporary files.
    pub(super) fn new() -> Result<Self, VerifyError> {
        let below = std::env::temp_dir();
        let mut tries = 0;
        loop {
            let name = format!("consortium-verify-{}-{tries}", std::process::id());
            let path = below.join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && tries < SCRATCH_TRIES =>
                {
                    tries += 1;
                }
                Err(source) => return Err(VerifyError::Io { path, source }),
            }
        }
    }

    /// A folder in it that does not exist yet.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed stays in the folder for temporary files; nothing depends on it.
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Copies a folder with everything below it.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
