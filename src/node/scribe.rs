//! The thread that writes behind into the tables.
//!
//! Source: `ARCHITECTURE.md`. In: notes from the herald and the executor. Out: durable commits.
//! Holds: a commit is made when much waits or some time passed; a failure ends the process.
//! Elsewhere: what a commit holds (`keeper`).

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::index::Kept;
use super::keeper::Keeper;
use crate::application::Change;
use crate::committee::Height;
use crate::consortium::Applied;
use crate::consortium::records::Name;
use crate::storage::{Position, TableError};

/// Vectors of notes that wait; a full queue makes the herald and the executor wait.
pub(crate) const NOTES_MAX: usize = 1024;
/// What waits this long is committed.
const COMMIT_AFTER: Duration = Duration::from_millis(1_000);

/// How long notes gather before they are looked at: nobody waits for them, and being woken for each
/// costs more than noting it.
const GATHER: Duration = Duration::from_millis(20);

/// Something that goes into the tables.
pub(crate) enum Note {
    /// A record became durable.
    Saved(Name, Position),
    /// A block was applied; its record is durable.
    Applied(Arc<Applied>, Arc<Vec<Kept>>),
    /// What the application changed up to a sealed height.
    Changes(Height, Vec<Change>),
}

/// Writes until nobody notes anything any more, then a last time.
///
/// Errors: the tables failed; the log still has everything.
pub(crate) fn run(mut keeper: Keeper, notes: &Receiver<Vec<Note>>) -> Result<(), TableError> {
    let mut since: Option<Instant> = None;
    loop {
        let wait = since.map_or(COMMIT_AFTER, |since| {
            COMMIT_AFTER.saturating_sub(since.elapsed())
        });
        let is_open = match notes.recv_timeout(wait) {
            Ok(more) => {
                since.get_or_insert_with(Instant::now);
                more.into_iter().for_each(|note| take(&mut keeper, note));
                let waiting = notes.try_iter().take(NOTES_MAX).flatten();
                waiting.for_each(|note| take(&mut keeper, note));
                thread::park_timeout(GATHER);
                true
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        };
        let is_late = since.is_some_and(|since| since.elapsed() >= COMMIT_AFTER);
        if !is_open || is_late || keeper.is_full() {
            if let Some(height) = keeper.commit()? {
                keeper.flush()?;
                tracing::debug!(%height, "tables committed");
            }
            since = None;
        }
        if !is_open {
            return Ok(());
        }
    }
}

fn take(keeper: &mut Keeper, note: Note) {
    match note {
        Note::Saved(name, position) => keeper.saved(name, position),
        Note::Applied(applied, kept) => keeper.applied(&applied, kept),
        Note::Changes(height, changes) => keeper.changed(height, changes),
    }
}
