//! A bell on a queue: whoever puts something in wakes the one thread that looks into several.
//!
//! Source: none. In: values from any thread. Out: a thread that is awake when something waits.
//! Holds: a value is in its queue before the bell rings, and the owner looks before it sleeps, so
//! none is overlooked; a thread that is awake is rung for free.
//! Elsewhere: what waits and in which order it is taken (`driver`).

use std::sync::mpsc::{Receiver, SendError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

/// Wakes its owner.
#[derive(Debug, Default)]
pub(crate) struct Bell(OnceLock<Thread>);

impl Bell {
    /// The calling thread is the one that is woken.
    pub(crate) fn own(&self) {
        self.0.get_or_init(thread::current);
    }

    /// Sleeps until the bell rings or `most` has passed; for the owner, who has looked before.
    pub(crate) fn sleep(&self, most: Duration) {
        thread::park_timeout(most);
    }

    fn ring(&self) {
        // Before it has an owner, nobody sleeps.
        if let Some(owner) = self.0.get() {
            owner.unpark();
        }
    }
}

/// The sending end of a bounded queue under a bell.
#[derive(Debug)]
pub(crate) struct Ringing<T> {
    queue: SyncSender<T>,
    bell: Arc<Bell>,
}

impl<T> Clone for Ringing<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            bell: Arc::clone(&self.bell),
        }
    }
}

impl<T> Ringing<T> {
    /// Puts `value` in; waits while the queue is full.
    ///
    /// Errors: nobody will take it; it is given back.
    pub(crate) fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.queue.send(value)?;
        self.bell.ring();
        Ok(())
    }

    /// Puts `value` in if there is room.
    ///
    /// Errors: it is given back.
    pub(crate) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.queue.try_send(value)?;
        self.bell.ring();
        Ok(())
    }
}

/// A queue of at most `most` values under `bell`.
pub(crate) fn under<T>(bell: &Arc<Bell>, most: usize) -> (Ringing<T>, Receiver<T>) {
    let (queue, values) = sync_channel(most);
    let bell = Arc::clone(bell);
    (Ringing { queue, bell }, values)
}
