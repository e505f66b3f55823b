//! The session of one key: groups what waits, and keeps a few groups under way.
//!
//! Source: `ARCHITECTURE.md`, clients. In: jobs. Out: a result to each.
//! Holds: a lone job goes at once; what came while all places were taken goes together, in the
//! order it came, within a group's bounds and of one wait level.
//! Elsewhere: sending (`route`).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use super::home::random_sequence;
use super::tally::Told;
use super::{ClientError, QUEUE_MAX, Shared};
use crate::api::Wait;
use crate::blocks::{SignedGroup, Transaction};

/// Bytes of an encoded group: a count, and per transaction its fixed fields and length.
const GROUP_BYTES: usize = 8;
const TRANSACTION_BYTES: usize = 24;

/// One submission that waits for its result.
pub(crate) struct Job {
    pub(crate) operation: Bytes,
    pub(crate) wait: Wait,
    pub(crate) tell: oneshot::Sender<Told>,
}

/// How large a group may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupBounds {
    pub(crate) transactions_max: usize,
    pub(crate) bytes_max: usize,
}

/// Takes the next group off the front of what waits: at least one job where there is one.
pub(crate) fn take_group(waiting: &mut VecDeque<Job>, bounds: GroupBounds) -> Vec<Job> {
    let Some(wait) = waiting.front().map(|job| job.wait) else {
        return Vec::new();
    };
    let mut bytes = GROUP_BYTES;
    let fits = |job: &&Job| {
        bytes += TRANSACTION_BYTES + job.operation.len();
        job.wait == wait && bytes <= bounds.bytes_max
    };
    let most = bounds.transactions_max.max(1);
    let count = waiting.iter().take(most).take_while(fits).count().max(1);
    waiting.drain(..count).collect()
}

/// The loop of one client.
pub(crate) struct Session {
    shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
    waiting: VecDeque<Job>,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, jobs: mpsc::Receiver<Job>) -> Self {
        Self {
            shared,
            jobs,
            waiting: VecDeque::new(),
        }
    }

    /// Runs until every handle of the client is gone and nothing waits.
    pub(crate) async fn run(mut self) {
        let options = &self.shared.options;
        let places = options.groups_under_way_max.max(1);
        let bounds = GroupBounds {
            transactions_max: options
                .group_transactions_max
                .min(crate::blocks::GROUP_TRANSACTIONS_MAX),
            bytes_max: self.shared.bounds.group_bytes_max(),
        };
        let mut under_way = FuturesUnordered::new();
        let mut is_open = true;
        loop {
            while under_way.len() < places && !self.waiting.is_empty() {
                let group = take_group(&mut self.waiting, bounds);
                under_way.push(settle(Arc::clone(&self.shared), group));
            }
            if !is_open && under_way.is_empty() {
                return;
            }
            tokio::select! {
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
                job = self.jobs.recv(), if is_open && self.waiting.len() < QUEUE_MAX => match job {
                    Some(job) => {
                        self.waiting.push_back(job);
                        self.take_waiting();
                    }
                    None => is_open = false,
                },
            }
        }
    }

    /// Takes in what stands in the queue already.
    fn take_waiting(&mut self) {
        while self.waiting.len() < QUEUE_MAX
            && let Ok(job) = self.jobs.try_recv()
        {
            self.waiting.push_back(job);
        }
    }
}

/// Signs and sends one group, and tells each job what became of it.
async fn settle(shared: Arc<Shared>, jobs: Vec<Job>) {
    let told = match sign(&shared, &jobs).await {
        Ok((group, sequences)) => {
            let wait = jobs.first().map_or(Wait::Durable, |job| job.wait);
            shared.send(&group, sequences.into_iter(), wait).await
        }
        Err(error) => jobs.iter().map(|_| Err(error.clone())).collect(),
    };
    for (job, told) in jobs.into_iter().zip(told) {
        // A caller that went away needs no result.
        let _gone = job.tell.send(told);
    }
}

async fn sign(shared: &Shared, jobs: &[Job]) -> Result<(SignedGroup, Vec<u64>), ClientError> {
    let mut transactions: Vec<Transaction> = Vec::with_capacity(jobs.len());
    for job in jobs {
        let sequence = random_sequence().map_err(|error| ClientError::Home {
            path: "random numbers".into(),
            reason: error.to_string(),
        })?;
        transactions.push(shared.transaction(sequence, &job.operation).await?);
    }
    let group = SignedGroup::sign(shared.rules.chain(), &shared.secret, &transactions);
    let sequences = transactions.iter().map(|transaction| transaction.sequence);
    Ok((group, sequences.collect()))
}
