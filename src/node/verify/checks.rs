//! Signatures, many at a time, beside the replay.
//!
//! Source: design, 'speed'. In: signatures and what they belong to. Out: what is wrongly signed.
//! Holds: at most `JOBS_MAX` groups wait; a full queue makes the replay wait.
//! Elsewhere: how one is checked (`crypto`).

use std::panic;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use super::FAULTS_MAX;
use crate::committee::Height;
use crate::crypto::{Check, Digest, Verifier};
use crate::storage::Position;

/// Signatures that are checked as one.
const GROUP: usize = 256;
/// Threads that check.
const THREADS: usize = 2;
/// Groups that wait.
const JOBS_MAX: usize = 16;

/// What carries signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A batch, by its digest.
    Batch(Digest, Position),
    /// A batch that rides in the block of this height.
    Inline(Height, Position),
    /// A certificate or a vote about this height.
    Votes(Height, Position),
}

/// Signatures with what they belong to.
#[derive(Default)]
struct Job {
    subjects: Vec<(Subject, usize)>,
    checks: Vec<Check>,
}

/// Takes signatures in.
pub(super) struct Checker {
    jobs: SyncSender<Job>,
    job: Job,
    count: u64,
}

/// The threads that check.
pub(super) struct Workers<'scope>(Vec<ScopedJoinHandle<'scope, Vec<Subject>>>);

impl Checker {
    /// Starts the threads.
    pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>) -> (Self, Workers<'scope>) {
        let (jobs, queue) = sync_channel(JOBS_MAX);
        let queue = Arc::new(Mutex::new(queue));
        let worker = |_| {
            let queue = Arc::clone(&queue);
            scope.spawn(move || work(&queue))
        };
        let workers = Workers((0..THREADS).map(worker).collect());
        let checker = Self {
            jobs,
            job: Job::default(),
            count: 0,
        };
        (checker, workers)
    }

    /// Takes in the signatures of `subject`.
    pub(super) fn add(&mut self, subject: Subject, checks: Vec<Check>) {
        self.count += checks.len() as u64;
        self.job.subjects.push((subject, checks.len()));
        self.job.checks.extend(checks);
        if self.job.checks.len() >= GROUP {
            self.send();
        }
    }

    /// Hands over what waits; gives how many signatures there were.
    pub(super) fn finish(mut self) -> u64 {
        self.send();
        self.count
    }

    fn send(&mut self) {
        // Without a thread that listens one has panicked, which `Workers::join` tells.
        self.jobs.send(std::mem::take(&mut self.job)).ok();
    }
}

impl Workers<'_> {
    /// Waits for the last group; gives what is wrongly signed, at most [`FAULTS_MAX`] per thread.
    pub(super) fn join(self) -> Vec<Subject> {
        let join = |worker: ScopedJoinHandle<'_, Vec<Subject>>| {
            worker
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic))
        };
        self.0.into_iter().flat_map(join).collect()
    }
}

fn work(queue: &Mutex<Receiver<Job>>) -> Vec<Subject> {
    let verifier = Verifier::ed25519();
    let mut wrong = Vec::new();
    while let Some(job) = next(queue) {
        if verifier.all_valid(&job.checks) {
            continue;
        }
        let mut rest = &job.checks[..];
        for (subject, count) in job.subjects {
            let (own, others) = rest.split_at(count);
            rest = others;
            if wrong.len() < FAULTS_MAX && !verifier.all_valid(own) {
                wrong.push(subject);
            }
        }
    }
    wrong
}

/// The next group; nothing when no more come.
fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    queue.recv().ok()
}
