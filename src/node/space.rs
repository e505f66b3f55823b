//! How much of the disk a member takes, measured now and then.
//!
//! Source: interface, `status`. In: the data directory. Out: bytes, as `du` counts them.
//! Holds: whoever asks for what is known never waits for the disk; one measures at a time.
//! Elsewhere: what is kept there (`shelf`, `storage`), who is told (`holdings`).

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::api::Retained;

/// What was measured this long ago is measured again.
const AGE_MAX: Duration = Duration::from_secs(1);
/// Bytes of a block of `stat`, whatever the file system's own are.
const STAT_BLOCK_BYTES: u64 = 512;

#[derive(Debug, Default)]
struct Known {
    measured: Option<(Instant, Retained)>,
    is_measuring: bool,
}

/// The disk space of one member.
#[derive(Debug)]
pub(crate) struct Space {
    data: PathBuf,
    known: Mutex<Known>,
}

impl Space {
    /// That of the data directory `data`.
    pub(crate) fn new(data: &Path) -> Self {
        Self {
            data: data.into(),
            known: Mutex::default(),
        }
    }

    /// Bytes of everything below the data directory; what vanishes meanwhile is not counted.
    pub(crate) fn bytes(&self) -> u64 {
        fs::symlink_metadata(&self.data).map_or(0, |found| taken(&self.data, &found))
    }

    /// What was noted last.
    pub(crate) fn last(&self) -> Option<Retained> {
        self.known().measured.map(|(_, retained)| retained)
    }

    /// Notes what was measured.
    pub(crate) fn note(&self, retained: Retained) {
        *self.known() = Known {
            measured: Some((Instant::now(), retained)),
            is_measuring: false,
        };
    }

    /// Whether it should be measured again: then it is the caller who does.
    pub(crate) fn is_old(&self) -> bool {
        let mut known = self.known();
        let is_fresh = |(at, _): &(Instant, Retained)| at.elapsed() < AGE_MAX;
        if known.is_measuring || known.measured.as_ref().is_some_and(is_fresh) {
            return false;
        }
        known.is_measuring = true;
        true
    }

    /// Nothing could be measured.
    pub(crate) fn give_up(&self) {
        self.known().is_measuring = false;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn taken(path: &Path, found: &Metadata) -> u64 {
    let own = found.blocks() * STAT_BLOCK_BYTES;
    if !found.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let below = entries.filter_map(|entry| {
        let found = entry.metadata().ok()?;
        Some(taken(&entry.path(), &found))
    });
    own + below.sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_what_du_says() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("log")).expect("made");
        fs::write(folder.path().join("log/1"), vec![7; 100_000]).expect("written");
        let space = Space::new(folder.path());
        let du = std::process::Command::new("du")
            .args(["-s", "--block-size=1"])
            .arg(folder.path())
            .output();
        let du = String::from_utf8(du.expect("du runs").stdout).expect("text");
        let du = du.split_whitespace().next().expect("a number");
        assert_eq!(space.bytes().to_string(), du);
    }

    #[test]
    fn one_measures_at_a_time_and_what_is_fresh_is_not_measured_again() {
        let space = Space::new(Path::new("/nowhere"));
        assert_eq!((space.bytes(), space.last()), (0, None));
        assert!(space.is_old(), "nothing was measured");
        assert!(!space.is_old(), "somebody measures");
        space.give_up();
        assert!(space.is_old());
        space.note(Retained::default());
        assert!(!space.is_old());
        assert_eq!(space.last(), Some(Retained::default()));
    }
}
