//! What the HTTP door asks of the member behind it.
//!
//! Source: `openapi.json`. In: decoded requests. Out: plain data, or a [`Refusal`].
//! Holds: the door decides nothing: it decodes, bounds, asks, and writes the answer down.
//! Elsewhere: who answers (`node`), the shapes that are answered (`data`), statuses (`problem`).

use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;

use super::data::{
    About, Answers, Block, Event, Faults, Membership, Operation, Page, ReadyCheck, Status,
    Transaction, Value, Views, Wait,
};
use super::kept::{Checkpoints, Snapshot};
use super::problem::Refusal;
use crate::blocks::SignedGroup;
use crate::committee::{Height, ViewId};
use crate::crypto::PublicKey;

/// A future of an answer. It may be dropped at any await: a submission that is under way goes on.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

/// Executed transactions in the order of the ledger, without a gap.
///
/// The door pulls: it asks for the next event only when the reader took the one before, so a host
/// reads from its index and buffers at most a bounded stretch. A refusal is the last item; it tells
/// the reader why, and the reader resumes behind the last sequence that it saw.
pub type Events = Pin<Box<dyn Stream<Item = Result<Event, Refusal>> + Send>>;

/// A member, as its HTTP door sees it.
///
/// The door itself bounds time: every future is dropped when its request runs out of it. Futures
/// must not block their thread.
pub trait Host: Send + Sync + 'static {
    /// What never changes while the member runs.
    fn about(&self) -> About;

    /// Admits a client's group and answers when each of its transactions is as far as `wait`.
    ///
    /// The door has read the frame only: the host checks the group's bytes, bounds and signature.
    /// Errors: what concerns the whole group; what concerns one transaction stands in its answer.
    fn submit(&self, group: SignedGroup, wait: Wait) -> Answer<'_, Answers>;

    /// Signs `operation` with the member's own client key and submits it as a group of one.
    ///
    /// Called only where [`About::signs_operations`] says so.
    fn submit_operation(&self, operation: Operation, wait: Wait) -> Answer<'_, Answers>;

    /// The member now; must answer from memory.
    fn status(&self) -> Answer<'_, Status>;

    /// The block at `height` with one page of its transactions.
    ///
    /// Errors: [`Refusal::Pruned`] where it was given up.
    fn block(&self, height: Height, page: Page) -> Answer<'_, Block>;

    /// What became of (client, sequence); with its offline proof where `with_proof`.
    ///
    /// Errors: [`Refusal::NotFound`] where it is unknown or still waits, [`Refusal::Expired`] where
    /// its memory ended, [`Refusal::Pruned`] where a proof needs a block that was given up.
    fn transaction(
        &self,
        client: PublicKey,
        sequence: u64,
        with_proof: bool,
    ) -> Answer<'_, Transaction>;

    /// The value of `key`; where `is_certified` at a certified height and with a proof, also of
    /// absence. An absent key is an answer, not a refusal.
    fn value(&self, key: Bytes, is_certified: bool) -> Answer<'_, Value>;

    /// Every executed transaction from ledger sequence `from` on, past and to come.
    ///
    /// Errors: [`Refusal::Pruned`] where `from` is older than what the member keeps.
    fn events(&self, from: u64) -> Answer<'_, Events>;

    /// The membership list of the chain, with the audit trail if that is asked for.
    fn membership(&self, history: bool) -> Answer<'_, Membership>;

    /// The steps of the view chain from view `from` on, at most `limit`. A page may be shorter than
    /// asked for, and holds at least one while there are more.
    fn views(&self, from: ViewId, limit: u32) -> Answer<'_, Views>;

    /// The snapshots that are here, and how much else is.
    fn checkpoints(&self) -> Answer<'_, Checkpoints>;

    /// The snapshot of `height` with one page of its segments.
    fn checkpoint(&self, height: Height, page: Page) -> Answer<'_, Snapshot>;

    /// One page of the faults of others that are kept; must answer from memory. A page may be
    /// shorter than asked for, and holds at least one while there are more.
    fn faults(&self, page: Page) -> Answer<'_, Faults>;

    /// A request was answered with this status, whatever it asked for. Called for every request;
    /// must be quick.
    fn answered(&self, status: u16);

    /// Every metric in the OpenMetrics text format.
    fn metrics(&self) -> String;

    /// The checks that make the member ready, by name, in a fixed order; must answer from memory.
    fn ready(&self) -> Answer<'_, Vec<ReadyCheck>>;
}
