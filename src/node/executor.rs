//! The thread that owns the application.
//!
//! Source: `ARCHITECTURE.md`. In: blocks in order. Out: outcomes for the replica, changes of sealed
//! heights for the tables, a reader for everybody.
//! Holds: the application sees every height once and in order.
//! Elsewhere: what an operation does (`application`), what follows from it (`consortium::ledger`).

use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, PoisonError, RwLock};

use super::bell::Ringing;
use super::curator::Curation;
use super::driver::Internal;
use super::scribe::Note;
use crate::application::{self, Application, Reader};
use crate::committee::Height;
use crate::consortium::ledger::Base;
use crate::consortium::{Command, Execute, Execution, Outcome};

/// Work for the application.
#[derive(Debug)]
pub(crate) enum Work {
    /// Execute a block.
    Block(Execute),
    /// A snapshot is due of the state as it is now.
    Snapshot(Box<Base>),
    /// Roots below this certified height are not asked for any more.
    Certified(Height),
}

/// The state as it was after the last executed block.
pub(crate) struct Latest(RwLock<Arc<dyn Reader>>);

impl Latest {
    /// Starts with the state of `application`.
    pub(crate) fn new(application: &dyn Application) -> Self {
        Self(RwLock::new(application.reader()))
    }

    /// The state.
    pub(crate) fn get(&self) -> Arc<dyn Reader> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, reader: Arc<dyn Reader>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = reader;
    }
}

/// Runs `block` on `application`.
pub(crate) fn execute(application: &mut dyn Application, block: &Execute) -> Execution {
    let operations: Vec<&[u8]> = block.operations.iter().map(|bytes| &bytes[..]).collect();
    let executed = application.execute(&application::Block {
        height: block.height.0,
        timestamp_us: block.timestamp_us,
        operations: &operations,
        sealed: block.is_sealed,
    });
    assert_eq!(
        executed.results.len(),
        operations.len(),
        "an application gives one outcome per operation"
    );
    let outcomes = executed.results.into_iter().map(|one| Outcome {
        code: one.code,
        bytes: one.bytes,
    });
    Execution {
        height: block.height,
        outcomes: outcomes.collect(),
        state: executed.state_root,
    }
}

/// Executes until nobody asks any more.
pub(crate) fn run(
    mut application: Box<dyn Application>,
    work: &Receiver<Work>,
    replica: &Ringing<Internal>,
    scribe: &SyncSender<Vec<Note>>,
    (curator, segment_bytes): (&SyncSender<Curation>, usize),
    latest: &Latest,
) {
    while let Ok(work) = work.recv() {
        match work {
            Work::Block(block) => {
                let execution = execute(&mut *application, &block);
                latest.set(application.reader());
                if block.is_sealed {
                    let changes = application.drain_changes();
                    let note = Note::Changes(block.height, changes);
                    if scribe.send(vec![note]).is_err() {
                        return;
                    }
                }
                let answer = Internal::Command(Command::Executed(execution));
                if replica.send(answer).is_err() {
                    return;
                }
            }
            Work::Certified(height) => application.release(height.0),
            Work::Snapshot(base) => {
                let snapshot = application.snapshot(segment_bytes);
                if curator.try_send(Curation::Take(base, snapshot)).is_err() {
                    tracing::warn!("no snapshot: the one before is still being taken");
                }
            }
        }
    }
}
