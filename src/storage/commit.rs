//! Group commit: one thread owns the log and makes everything that waits durable with one sync.
//!
//! Source: Gawlick and Kinkade, group commit. In: batches of records from any thread. Out: their
//! positions, once durable. Holds: a batch is answered exactly once, in the order of submission,
//! and with positions only after the sync that covers it. Elsewhere: what a record is (`node`).

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use super::error::{LogError, failed};
use super::log::{Log, LogCounts, Position};
use super::medium::{Directory, Medium};
use super::pool::Pool;
use super::reader::LogReader;

/// How much a group commit takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// Batches that may wait; `submit` blocks and `try_submit` refuses when there are as many.
    pub waiting_max: usize,
    /// Payload bytes after which a group is synced though more is waiting.
    pub group_bytes_max: usize,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            waiting_max: 1024,
            group_bytes_max: 8 << 20,
        }
    }
}

/// A batch that was not taken; it is given back.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// As many batches as allowed are waiting. Try again later.
    #[error("the log has {} batches waiting", .waiting)]
    Busy {
        /// How many wait.
        waiting: usize,
        /// What was submitted.
        batch: Vec<(u8, Bytes)>,
    },
    /// The thread has ended.
    #[error("the log is closed")]
    Closed {
        /// What was submitted.
        batch: Vec<(u8, Bytes)>,
    },
}

type Answer = Result<Vec<Position>, LogError>;
type Done<T> = Box<dyn FnOnce(Result<T, LogError>) + Send>;

enum Job {
    Batch(Vec<(u8, Bytes)>, Done<Vec<Position>>),
    Prune(u64, Done<usize>),
}

/// Owns a log on a thread of its own. Dropping it answers everything that was submitted, then ends
/// the thread.
pub struct GroupCommit<M: Medium = Directory> {
    jobs: Option<SyncSender<Job>>,
    waiting_max: usize,
    reader: LogReader<M>,
    counts: Arc<LogCounts>,
    threads: Vec<JoinHandle<()>>,
}

impl<M: Medium> GroupCommit<M> {
    /// Starts the thread, and a second one that prepares spare files.
    ///
    /// Errors: [`LogError::Io`] when the system gives no thread.
    pub fn start(log: Log<M>, options: GroupOptions) -> Result<Self, LogError> {
        let waiting_max = options.waiting_max.max(1);
        let (jobs, received) = sync_channel(waiting_max);
        // One wish is enough: a spare thread that is busy looks again when it is done.
        let (wish, wished) = sync_channel(1);
        let (reader, pool, counts) = (log.reader(), log.pool(), log.counts());
        let spare = spawn("log-spare", move || prepare_spares(&pool, &wished))?;
        wish.try_send(())
            .expect("the channel was just made for one wish");
        let writer = Writer { log, options, wish };
        let commit = spawn("log-commit", move || writer.run(&received))?;
        Ok(Self {
            jobs: Some(jobs),
            waiting_max,
            reader,
            counts,
            threads: vec![commit, spare],
        })
    }

    /// Appends `batch` and calls `done` on the log's thread once it is durable, with one position
    /// per record. Blocks while `waiting_max` batches wait. `done` must be quick and must not
    /// submit.
    ///
    /// `done` gets [`LogError::TooLarge`] or [`LogError::Full`] when the batch was refused (a part
    /// of it may still be found at the next opening), any other error when the log has stopped for
    /// good.
    pub fn submit(
        &self,
        batch: Vec<(u8, Bytes)>,
        done: impl FnOnce(Result<Vec<Position>, LogError>) + Send + 'static,
    ) {
        if let Err(refused) = self.jobs().send(Job::Batch(batch, Box::new(done))) {
            refused.0.refuse(&LogError::Closed);
        }
    }

    /// As [`GroupCommit::submit`], but gives the batch back instead of blocking; `done` is then
    /// dropped uncalled.
    pub fn try_submit(
        &self,
        batch: Vec<(u8, Bytes)>,
        done: impl FnOnce(Result<Vec<Position>, LogError>) + Send + 'static,
    ) -> Result<(), Rejected> {
        match self.jobs().try_send(Job::Batch(batch, Box::new(done))) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(Job::Batch(batch, _))) => {
                let waiting = self.waiting_max;
                Err(Rejected::Busy { waiting, batch })
            }
            Err(TrySendError::Disconnected(Job::Batch(batch, _))) => {
                Err(Rejected::Closed { batch })
            }
            Err(
                TrySendError::Full(Job::Prune(..)) | TrySendError::Disconnected(Job::Prune(..)),
            ) => {
                unreachable!("what comes back is what was sent")
            }
        }
    }

    /// Appends `batch` and waits until it is durable.
    pub fn commit(&self, batch: Vec<(u8, Bytes)>) -> Result<Vec<Position>, LogError> {
        let (answer, answered) = sync_channel(1);
        self.submit(batch, move |result| {
            answer.send(result).ok(); // the waiter cannot be gone before it is answered
        });
        answered.recv().unwrap_or(Err(LogError::Closed))
    }

    /// Gives up files below number `before`, behind everything submitted so far; `done` gets how
    /// many.
    pub fn prune(&self, before: u64, done: impl FnOnce(Result<usize, LogError>) + Send + 'static) {
        if let Err(refused) = self.jobs().send(Job::Prune(before, Box::new(done))) {
            refused.0.refuse(&LogError::Closed);
        }
    }

    /// A handle for reading, for any thread.
    pub fn reader(&self) -> LogReader<M> {
        self.reader.clone()
    }

    /// What the log did, for any thread.
    pub fn counts(&self) -> Arc<LogCounts> {
        Arc::clone(&self.counts)
    }

    fn jobs(&self) -> &SyncSender<Job> {
        self.jobs
            .as_ref()
            .expect("the sender is taken only when this is dropped")
    }
}

impl<M: Medium> Drop for GroupCommit<M> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said why; dropping must not panic again.
            thread.join().ok();
        }
    }
}

impl Job {
    fn refuse(self, error: &LogError) {
        match self {
            Job::Batch(_, done) => done(Err(error.clone())),
            Job::Prune(_, done) => done(Err(error.clone())),
        }
    }
}

struct Writer<M: Medium> {
    log: Log<M>,
    options: GroupOptions,
    wish: SyncSender<()>,
}

impl<M: Medium> Writer<M> {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut group = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            let mut prune = None;
            let file = self.log.end().file;
            while let Some(job) = next {
                match job {
                    Job::Batch(batch, done) => {
                        bytes += batch
                            .iter()
                            .map(|(_, payload)| payload.len())
                            .sum::<usize>();
                        group.push((self.append(&batch), done));
                    }
                    Job::Prune(before, done) => {
                        prune = Some((before, done));
                        break;
                    }
                }
                let full = bytes >= self.options.group_bytes_max
                    || group.len() >= self.options.waiting_max.max(1);
                next = if full { None } else { jobs.try_recv().ok() };
            }
            self.finish(group);
            let pruned = prune.is_some();
            if let Some((before, done)) = prune {
                done(self.log.prune(before));
            }
            if pruned || self.log.end().file != file {
                self.wish.try_send(()).ok(); // a wish that is already waiting serves for this one
            }
        }
    }

    fn append(&mut self, batch: &[(u8, Bytes)]) -> Answer {
        batch
            .iter()
            .map(|(kind, payload)| self.log.append(*kind, payload))
            .collect()
    }

    fn finish(&mut self, group: Vec<(Answer, Done<Vec<Position>>)>) {
        if group.is_empty() {
            return;
        }
        let synced = self.log.sync();
        for (appended, done) in group {
            // A failed sync outweighs whatever the append said: nothing of this group is durable
            // for sure.
            done(synced.clone().and(appended));
        }
    }
}

fn prepare_spares<M: Medium>(pool: &Pool<M>, wished: &Receiver<()>) {
    while wished.recv().is_ok() {
        // On an error the writer tries the same when it needs a file, and tells who waits for it.
        while matches!(pool.prepare(), Ok(true)) {}
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LogError> {
    thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|error: io::Error| failed(name, "start a thread")(error))
}
