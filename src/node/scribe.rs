//! The thread that writes behind into the tables.
//!
//! Source: `ARCHITECTURE.md`. In: notes from the herald and the executor. Out: durable commits.
//! Holds: a commit is made when much waits or some time passed; a failure ends the process.
//! Elsewhere: what a commit holds (`keeper`).

use std::collections::BTreeSet;
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
use crate::consortium::records::Name;
use crate::consortium::{Applied, Command};
use crate::crypto::Digest;
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
    /// What stood in log files below this number is saved again, or in these batches.
    Resaved(u64, Vec<Digest>),
    /// What a start needs of log files below this number is saved again, aside from what the tables
    /// hold.
    Settled(u64),
}

/// An order to prune that waits for [`Note::Resaved`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pruning {
    pub(crate) floor: Height,
    pub(crate) receipts: u64,
    pub(crate) before: u64,
    /// Batches that are held still, wherever they stand.
    pub(crate) held: BTreeSet<Digest>,
}

/// The scribe.
pub(crate) struct Scribe {
    keeper: Keeper,
    /// Whom it tells which log files are not needed any more.
    internal: Ringing<Internal>,
    pruning: Option<Pruning>,
    resaved: Option<(u64, Vec<Digest>)>,
    /// The log file for which the replica was asked last to save again what still counts.
    asked: u64,
    /// Whether it was asked and has not said that it is done.
    is_asking: bool,
}

impl Scribe {
    /// Writes with `keeper`.
    pub(crate) fn new(keeper: Keeper, internal: Ringing<Internal>) -> Self {
        Self {
            asked: keeper.settled(),
            keeper,
            internal,
            pruning: None,
            resaved: None,
            is_asking: false,
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
            if let Some((before, held)) = self.resaved.take().filter(|_| is_open) {
                self.prune(before, held)?;
            }
            if !is_open {
                return Ok(());
            }
        }
    }

    fn take(&mut self, note: Note) {
        match note {
            Note::Saved(name, position) => {
                self.keeper.saved(name, position);
                self.ask(position.file);
            }
            Note::Settled(before) => {
                self.keeper.settle(before);
                // What was saved again may fill files by itself, and asks for nothing.
                self.asked = self.asked.max(self.keeper.newest_file());
                self.is_asking = false;
            }
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
                    held: BTreeSet::new(),
                });
            }
            Note::Resaved(before, held) => {
                self.keeper.settle(before);
                self.resaved = Some((before, held));
            }
        }
    }

    /// The log went on in `file`: what a start needs of those below is saved again, so that it
    /// reads the newest ones alone, however long the log is.
    fn ask(&mut self, file: u64) {
        if file > self.asked.max(1) && !self.is_asking {
            (self.asked, self.is_asking) = (file, true);
            let settle = Internal::Command(Command::Settle(file));
            self.internal.send(settle).ok(); // at the end nobody listens
        }
    }

    /// Gives rows up, and says which log files may go: those below `before`, behind which all that
    /// counts is saved again, whatever a later order says.
    fn prune(&mut self, before: u64, held: Vec<Digest>) -> Result<(), TableError> {
        let Some(mut pruning) = self.pruning.take() else {
            return Ok(());
        };
        // The tables must stand above what goes.
        if self.keeper.commit()?.is_some() {
            self.keeper.flush()?;
        }
        pruning.before = pruning.before.min(before);
        pruning.held = held.into_iter().collect();
        match self.keeper.prune(&pruning)? {
            Some(first) => {
                self.keeper.flush()?;
                let floor = pruning.floor;
                tracing::info!(%floor, first, "blocks are pruned; log files below the first go");
                self.internal.send(Internal::Prune(first)).ok(); // at the end nobody listens
            }
            // It is too early: the next word that all is saved again finds it.
            None => self.pruning = Some(pruning),
        }
        Ok(())
    }
}
