//! Tells clients what became of their groups.
//!
//! Source: design, 'persistence is a promise per reply'. In: events of the replica. Out: one answer
//! per submission, at the promise that it waits for.
//! Holds: an answer never promises more than was reached; a submission is answered once.
//! Elsewhere: what the events mean (`consortium`), the shape of answers (`host`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::blocks::{Group, GroupError};
use crate::committee::{Certificate, Height};
use crate::consortium::{Applied, Denied, Verdict};
use crate::crypto::{Digest, PublicKey};

/// Submissions that wait for their answer at once; beyond it they are refused as busy.
pub(crate) const WAITERS_MAX: usize = 65_536;

/// How far a submission must be before it is answered; each promises more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// q ACCEPTs for it and everything below it.
    Ordered,
    /// Executed here.
    Executed,
    /// Under a block certificate.
    Durable,
}

/// Why a submission has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The group is not in the format; the client is at fault.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The application does not know the operation; the client is at fault.
    #[error("transaction {sequence}: {reason}")]
    Operation {
        /// Which.
        sequence: u64,
        /// What the application says.
        reason: String,
    },
    /// The signature does not hold; the client is at fault.
    #[error("the client's signature does not hold")]
    BadSignature,
    /// The replica does not take it in.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The process ends; whether it was taken in is not known.
    #[error("this member is ending")]
    Ending,
}

impl Refused {
    /// No room; nothing was taken in.
    pub const BUSY: Refused = Refused::Denied(Denied::Busy {
        retry_after_ms: 500,
    });
}

/// What became of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Ordered at this height; not executed yet.
    Ordered(Height),
    /// A block answered it: the verdict and the digest of that block's header.
    Answered(Verdict, Digest),
}

/// The answer to a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// One per transaction of the group, in order, with its sequence.
    pub transactions: Vec<(u64, Settled)>,
    /// A certificate at or above every height of it, where that was waited for.
    pub certificate: Option<Certificate>,
    /// Who signed the group.
    pub client: PublicKey,
}

type Reply = oneshot::Sender<Result<Settlement, Refused>>;
type Name = (PublicKey, u64);

struct Waiter {
    digest: Digest,
    client: PublicKey,
    promise: Promise,
    transactions: Vec<(u64, Option<Settled>)>,
    reply: Reply,
}

impl Waiter {
    /// The promise that holds for all of it; nothing when one of its transactions has none.
    fn is_settled(&self) -> bool {
        self.transactions.iter().all(|(_, settled)| match settled {
            None => false,
            Some(Settled::Ordered(_)) => self.promise == Promise::Ordered,
            Some(Settled::Answered(..)) => true,
        })
    }

    /// The highest height whose certificate it needs.
    fn height(&self) -> Height {
        let heights = self.transactions.iter().map(|(_, settled)| match settled {
            Some(Settled::Ordered(height)) => *height,
            Some(Settled::Answered(Verdict::Executed(e) | Verdict::Repeated(e), _)) => e.height,
            Some(Settled::Answered(..)) | None => Height(0),
        });
        heights.max().unwrap_or_default()
    }

    fn answer(self, certificate: Option<Certificate>) {
        let all = self.transactions.into_iter();
        let settled = all.filter_map(|(sequence, settled)| Some((sequence, settled?)));
        let settlement = Settlement {
            transactions: settled.collect(),
            certificate,
            client: self.client,
        };
        // Whoever asked may have gone.
        self.reply.send(Ok(settlement)).ok();
    }
}

#[derive(Default)]
struct State {
    next: u64,
    waiters: HashMap<u64, Waiter>,
    by_name: HashMap<Name, Vec<u64>>,
    by_digest: HashMap<Digest, Vec<u64>>,
    /// Settled ones that wait for a certificate, by the height that it must cover.
    uncertified: BTreeMap<Height, Vec<u64>>,
    certificate: Option<Certificate>,
}

/// Submissions that wait for their answer.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<State>);

impl Waiters {
    /// Notes who waits for `group`; whether there was room, else they are told.
    pub(crate) fn wait(&self, group: &Group, promise: Promise, reply: Reply) -> bool {
        let mut state = self.state();
        if state.waiters.len() >= WAITERS_MAX {
            state.sweep();
        }
        if state.waiters.len() >= WAITERS_MAX {
            reply.send(Err(Refused::BUSY)).ok();
            return false;
        }
        let id = state.next;
        state.next += 1;
        let sequences = group.transactions.iter().map(|one| one.sequence);
        for sequence in sequences.clone() {
            let name = (group.client, sequence);
            state.by_name.entry(name).or_default().push(id);
        }
        state.by_digest.entry(group.digest).or_default().push(id);
        let waiter = Waiter {
            digest: group.digest,
            client: group.client,
            promise,
            transactions: sequences.map(|sequence| (sequence, None)).collect(),
            reply,
        };
        state.waiters.insert(id, waiter);
        true
    }

    /// The replica did not take the group in.
    pub(crate) fn denied(&self, digest: &Digest, why: Denied) {
        let mut state = self.state();
        for id in state.by_digest.get(digest).cloned().unwrap_or_default() {
            if let Some(waiter) = state.take(id) {
                waiter.reply.send(Err(why.into())).ok();
            }
        }
    }

    /// Everything up to `height` is ordered, these among it.
    pub(crate) fn ordered(&self, height: Height, names: &[Name]) {
        let mut state = self.state();
        if !state.waiters.is_empty() {
            for name in names {
                state.settle(name, &Settled::Ordered(height));
            }
        }
    }

    /// A block was applied.
    pub(crate) fn applied(&self, applied: &Applied) {
        let mut state = self.state();
        if !state.waiters.is_empty() {
            for answer in &applied.answers {
                let name = (answer.client, answer.sequence);
                if state.by_name.contains_key(&name) {
                    let verdict = answer.verdict.clone();
                    state.settle(&name, &Settled::Answered(verdict, applied.digest));
                }
            }
        }
    }

    /// Everything up to the certificate's height is durable.
    pub(crate) fn certified(&self, certificate: &Certificate) {
        let mut state = self.state();
        let later = state
            .uncertified
            .split_off(&certificate.ballot.height.next());
        let ready = std::mem::replace(&mut state.uncertified, later);
        for id in ready.into_values().flatten() {
            if let Some(waiter) = state.take(id) {
                waiter.answer(Some(certificate.clone()));
            }
        }
        state.certificate = Some(certificate.clone());
    }

    /// The process ends: everybody is told.
    pub(crate) fn end(&self) {
        let state = std::mem::take(&mut *self.state());
        for waiter in state.waiters.into_values() {
            waiter.reply.send(Err(Refused::Ending)).ok();
        }
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.state().waiters.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn settle(&mut self, name: &Name, settled: &Settled) {
        for id in self.by_name.get(name).cloned().unwrap_or_default() {
            let Some(waiter) = self.waiters.get_mut(&id) else {
                continue;
            };
            for (sequence, slot) in &mut waiter.transactions {
                let is_answered = matches!(slot, Some(Settled::Answered(..)));
                if *sequence == name.1 && !is_answered {
                    *slot = Some(settled.clone());
                }
            }
            if waiter.is_settled() {
                self.settled(id);
            }
        }
    }

    fn settled(&mut self, id: u64) {
        let Some(waiter) = self.waiters.get(&id) else {
            return;
        };
        let height = waiter.height();
        let newest = self.certificate.as_ref();
        let covering = newest
            .filter(|newest| newest.ballot.height >= height)
            .cloned();
        if waiter.promise == Promise::Durable && covering.is_none() {
            let waiting = self.uncertified.entry(height).or_default();
            if !waiting.contains(&id) {
                waiting.push(id);
            }
            return;
        }
        if let Some(waiter) = self.take(id) {
            let is_durable = waiter.promise == Promise::Durable;
            waiter.answer(covering.filter(|_| is_durable));
        }
    }

    fn take(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        for (sequence, _) in &waiter.transactions {
            let name = (waiter.client, *sequence);
            remove(&mut self.by_name, &name, id);
        }
        remove(&mut self.by_digest, &waiter.digest, id);
        Some(waiter)
    }

    /// Forgets everybody who does not wait any more.
    fn sweep(&mut self) {
        let waiters = self.waiters.iter();
        let gone: Vec<u64> = waiters
            .filter(|(_, waiter)| waiter.reply.is_closed())
            .map(|(id, _)| *id)
            .collect();
        for id in &gone {
            self.take(*id);
        }
        for waiting in self.uncertified.values_mut() {
            waiting.retain(|id| self.waiters.contains_key(id));
        }
    }
}

fn remove<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Vec<u64>>, key: &K, id: u64) {
    if let Some(ids) = map.get_mut(key) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}
