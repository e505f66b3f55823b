//! What others may ask of a running member.
//!
//! Source: interface. In: submissions and questions from any thread. Out: answers.
//! Holds: nothing here waits for the replica's thread but [`Handle::recall`] and the fate of a
//! submission.
//! Elsewhere: HTTP (`api`), how answers look there (`host`).

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use tokio::sync::{oneshot, watch};

use super::bell::Ringing;
use super::desk::Missed;
use super::driver::Internal;
use super::ears::{Dropped, Gate, Submission};
use super::executor::Latest;
use super::herald::{Promise, Refused, Settlement, Waiters};
use super::index::{Index, IndexError};
use super::watch::{Certified, Tip, Watch};
use crate::application::{Application, Reader};
use crate::blocks::{Genesis, SignedGroup};
use crate::committee::{Height, MemberId};
use crate::consortium::{Block, Executed, Overview};
use crate::crypto::{PublicKey, SecretKey};
use crate::net::{Net, Stats};
use crate::storage::LogCounts;

/// Who the member is.
pub(crate) struct Who {
    pub(crate) genesis: Genesis,
    pub(crate) identity: SecretKey,
    pub(crate) me: MemberId,
    pub(crate) name: String,
    /// Signs for callers, where the settings allow it.
    pub(crate) client: Option<SecretKey>,
}

/// What is counted beside the replica.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) log: Arc<LogCounts>,
    /// Requests answered over HTTP, by the hundreds of their status.
    pub(crate) answered: [AtomicU64; ANSWER_CLASSES],
    /// What members wanted of the disk and found no room for.
    pub(crate) missed: Missed,
}

impl Counts {
    /// Nothing answered yet.
    pub(crate) fn new(log: Arc<LogCounts>) -> Self {
        Self {
            log,
            missed: Missed::default(),
            answered: Default::default(),
        }
    }
}

/// Statuses 1xx to 5xx.
pub(crate) const ANSWER_CLASSES: usize = 5;

/// What a handle is made of.
pub(crate) struct Parts {
    pub(crate) who: Who,
    pub(crate) gate: Gate,
    pub(crate) internal: Ringing<Internal>,
    pub(crate) index: Arc<Index>,
    pub(crate) latest: Arc<Latest>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) dropped: Arc<Dropped>,
    /// Weak, so that a handle that is kept does not keep the network alive.
    pub(crate) net: Weak<Net>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) application: Box<dyn Application>,
    pub(crate) counts: Counts,
}

/// A running member, for anybody in the process. Clones are the same member.
#[derive(Clone)]
pub struct Handle {
    pub(crate) parts: Arc<Parts>,
}

impl Handle {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
        }
    }

    /// The genesis document.
    pub fn genesis(&self) -> &Genesis {
        &self.parts.who.genesis
    }

    /// Who this is.
    pub fn me(&self) -> MemberId {
        self.parts.who.me
    }

    /// Submits a client's group and waits until each of its transactions is as far as `promise`.
    ///
    /// A future that is dropped leaves the submission under way. Errors: [`Refused`].
    pub async fn submit(
        &self,
        group: SignedGroup,
        promise: Promise,
    ) -> Result<Settlement, Refused> {
        let (reply, answer) = oneshot::channel();
        self.parts.gate.submit(Submission {
            group,
            promise,
            reply,
        });
        answer.await.unwrap_or(Err(Refused::Ending))
    }

    /// What is remembered of a client's transaction; nothing when it is unknown or forgotten.
    ///
    /// Errors: [`Refused::Ending`].
    pub async fn recall(
        &self,
        client: PublicKey,
        sequence: u64,
    ) -> Result<Option<Executed>, Refused> {
        let (reply, answer) = oneshot::channel();
        let question = Internal::Recall(client, sequence, reply);
        let sent = self.parts.internal.try_send(question);
        sent.map_err(|_| Refused::BUSY)?;
        answer.await.map_err(|_| Refused::Ending)
    }

    /// Where the replica stands.
    pub fn overview(&self) -> Overview {
        self.parts.watch.overview().0
    }

    /// The newest applied block.
    pub fn tip(&self) -> Tip {
        self.parts.watch.tip()
    }

    /// The newest certified block.
    pub fn certified(&self) -> Option<Certified> {
        self.parts.watch.newest_certified()
    }

    /// The application's state after the last executed block.
    pub fn reader(&self) -> Arc<dyn Reader> {
        self.parts.latest.get()
    }

    /// The block at `height`; reads the disk.
    ///
    /// Errors: what the disk said.
    pub fn block(&self, height: Height) -> Result<Option<Block>, String> {
        self.parts.index.block_at(height).map_err(told)
    }

    /// Executed transactions since genesis, to wait on.
    pub fn executed(&self) -> watch::Receiver<u64> {
        self.parts.watch.executed()
    }

    /// The counters of the network; nothing when it has ended.
    pub fn net_stats(&self) -> Option<Stats> {
        self.parts.net.upgrade().map(|net| net.stats())
    }
}

pub(crate) fn told(error: IndexError) -> String {
    error.to_string()
}
