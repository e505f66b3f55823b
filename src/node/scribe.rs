//! The thread that writes behind into the tables.
//!
//! Source: `ARCHITECTURE.md`. In: notes from the herald and the executor. Out: durable commits.
//! Holds: a commit is made when much waits or some time passed; a failure ends the process.
//! Elsewhere: what a commit holds (`keeper`).

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::bell::Ringing;
use super::driver::Internal;
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
    /// Rows of blocks up to `floor` are not needed, nor are log files below `before`, once what
    /// still counts in them is saved again.
    Prune {
        /// The last block that goes.
        floor: Height,
        /// Receipts up to there.
        receipts: u64,
        /// The first log file that was written since.
        before: u64,
    },
    /// It is saved again.
    Resaved,
}

/// An order to prune that waits for [`Note::Resaved`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pruning {
    pub(crate) floor: Height,
    pub(crate) receipts: u64,
    pub(crate) before: u64,
}

/// The scribe.
pub(crate) struct Scribe {
    keeper: Keeper,
    /// Whom it tells which log files are not needed any more.
    internal: Ringing<Internal>,
    pruning: Option<Pruning>,
    is_resaved: bool,
}

impl Scribe {
    /// Writes with `keeper`.
    pub(crate) fn new(keeper: Keeper, internal: Ringing<Internal>) -> Self {
        Self {
            keeper,
            internal,
            pruning: None,
            is_resaved: false,
        }
    }

    /// Writes until nobody notes anything any more, then a last time.
    ///
    /// Errors: the tables failed; the log still has everything.
    pub(crate) fn run(mut self, notes: &Receiver<Vec<Note>>) -> Result<(), TableError> {
        let mut since: Option<Instant> = None;
        loop {
            let wait = since.map_or(COMMIT_AFTER, |since| {
                COMMIT_AFTER.saturating_sub(since.elapsed())
            });
            let is_open = match notes.recv_timeout(wait) {
                Ok(more) => {
                    since.get_or_insert_with(Instant::now);
                    more.into_iter().for_each(|note| self.take(note));
                    let waiting = notes.try_iter().take(NOTES_MAX).flatten();
                    waiting.for_each(|note| self.take(note));
                    thread::park_timeout(GATHER);
                    true
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            let is_late = since.is_some_and(|since| since.elapsed() >= COMMIT_AFTER);
            if !is_open || is_late || self.keeper.is_full() {
                if let Some(height) = self.keeper.commit()? {
                    self.keeper.flush()?;
                    tracing::debug!(%height, "tables committed");
                }
                since = None;
            }
            if is_open && std::mem::take(&mut self.is_resaved) {
                self.prune()?;
            }
            if !is_open {
                return Ok(());
            }
        }
    }

    fn take(&mut self, note: Note) {
        match note {
            Note::Saved(name, position) => self.keeper.saved(name, position),
            Note::Applied(applied, kept) => self.keeper.applied(&applied, kept),
            Note::Changes(height, changes) => self.keeper.changed(height, changes),
            Note::Prune {
                floor,
                receipts,
                before,
            } => {
                self.pruning = Some(Pruning {
                    floor,
                    receipts,
                    before,
                });
            }
            Note::Resaved => self.is_resaved = true,
        }
    }

    /// Gives rows up, and says which log files may go.
    fn prune(&mut self) -> Result<(), TableError> {
        let Some(pruning) = self.pruning.take() else {
            return Ok(());
        };
        if let Some(first) = self.keeper.prune(&pruning)? {
            self.keeper.flush()?;
            let floor = pruning.floor;
            tracing::info!(%floor, first, "blocks are pruned; log files below the first go");
            self.internal.send(Internal::Prune(first)).ok(); // at the end nobody listens
        }
        Ok(())
    }
}
