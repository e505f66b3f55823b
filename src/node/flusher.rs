//! Packs that become durable while others are written.
//!
//! Source: none. In: word that there is something to make durable. Out: the first failure.
//! Holds: who settles it has heard of every failure; it is a help only, and says of nothing that it
//! is durable. Elsewhere: what is durable (`storage::packs`), who stores (`bootstrap`).

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use crate::storage::{PackError, Packs};

/// Bytes that are stored between two syncs: the disk writes all the while.
const SYNC_BYTES: u64 = 32 << 20;

/// A thread that syncs packs behind the one that stores.
pub(super) struct Flusher<'scope> {
    /// Bytes that were stored since the last word.
    bytes: u64,
    /// One word at most waits: a sync takes all that was stored before it.
    words: SyncSender<()>,
    thread: ScopedJoinHandle<'scope, Result<(), PackError>>,
}

impl<'scope> Flusher<'scope> {
    /// Starts it.
    pub(super) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        packs: &'env Packs,
    ) -> Flusher<'scope> {
        let (words, received) = sync_channel(1);
        let thread = scope.spawn(move || run(packs, &received));
        Flusher {
            bytes: 0,
            words,
            thread,
        }
    }

    /// So many bytes more are stored; false where it failed.
    pub(super) fn stored(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        if self.bytes < SYNC_BYTES {
            return true;
        }
        self.bytes = 0;
        !matches!(self.words.try_send(()), Err(TrySendError::Disconnected(())))
    }

    /// Waits for its end.
    ///
    /// Errors: its first failure.
    pub(super) fn settle(self) -> Result<(), PackError> {
        drop(self.words);
        let ended = self.thread.join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn run(packs: &Packs, words: &Receiver<()>) -> Result<(), PackError> {
    while words.recv().is_ok() {
        packs.sync_aside()?;
    }
    Ok(())
}
