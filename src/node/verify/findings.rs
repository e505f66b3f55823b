//! What is wrong, as it is found.
//!
//! Source: interface, `verify`. In: findings of every part. Out: the same, bounded.
//! Holds: at most [`FAULTS_MAX`] are kept; the rest is counted.
//! Elsewhere: heights of places in the log (`locate`).

use super::FAULTS_MAX;
use crate::committee::Height;
use crate::crypto::Digest;
use crate::storage::Position;

/// Notes that are kept; there are about a dozen kinds.
const NOTES_MAX: usize = 64;

/// Which block a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// This one.
    Height(Height),
    /// The one under way at this place of the log.
    At(Position),
    /// The one that names this batch, else the one under way at its place.
    Batch(Digest, Position),
    /// The last one that holds.
    Tip,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The file, from the data directory.
    pub(super) file: String,
    pub(super) place: Place,
    pub(super) what: String,
}

/// Everything that is wrong.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    beyond: u64,
    notes: Vec<String>,
}

impl Findings {
    /// Adds a fault in `file`.
    pub(super) fn add(&mut self, file: impl Into<String>, place: Place, what: impl Into<String>) {
        if self.list.len() >= FAULTS_MAX {
            self.beyond += 1;
            return;
        }
        self.list.push(Finding {
            file: file.into(),
            place,
            what: what.into(),
        });
    }

    /// Adds a fault in the record at `position`.
    pub(super) fn at(&mut self, position: Position, height: Height, what: impl std::fmt::Display) {
        let what = format!("record at byte {}: {what}", position.offset);
        self.add(log_file(position.file), Place::Height(height), what);
    }

    /// Adds something that is no fault; what is beyond the bound is dropped.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note.into());
        }
    }

    /// Drops everything found so far: it follows from what is found now.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.beyond = 0;
    }

    /// The findings.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Finding> {
        self.list.iter_mut()
    }

    /// The findings, and the notes with how many findings there are beyond the bound.
    pub(super) fn into_parts(mut self) -> (Vec<Finding>, Vec<String>) {
        if self.beyond > 0 {
            self.notes.push(format!("{} more faults", self.beyond));
        }
        (self.list, self.notes)
    }
}

/// A log file from the data directory.
pub(super) fn log_file(number: u64) -> String {
    format!("log/{number:08}.log")
}
