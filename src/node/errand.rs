//! A transaction of this member's own, said for itself and tried again.
//!
//! Source: `ARCHITECTURE.md`. In: an operation of the ledger that is owed. Out: a signed group at
//! our own gate.
//! Holds: one try at a time; its answer comes by our own application, so while we lag far behind
//! the chain there is only that one. Elsewhere: what is owed (`newcomer`, `outlets`).

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::ears::{Gate, Submission};
use super::handle::Who;
use super::herald::{Promise, Refused, Settlement};
use super::keys;
use crate::blocks::{SignedGroup, Transaction};
use crate::committee::Height;
use crate::crypto::{Digest, SecretKey};
use crate::membership::register::Operation;

/// Says one thing at a time.
pub(crate) struct Errand {
    chain: Digest,
    identity: SecretKey,
    gate: Gate,
    /// Blocks that a try may wait.
    wait: u64,
    /// Blocks between two tries.
    rest: u64,
    /// When the last try went out, and where its answer comes.
    tried: Option<(Height, oneshot::Receiver<Result<Settlement, Refused>>)>,
}

impl Errand {
    /// Nothing said yet; a try waits `wait` blocks, if the ledger allows as many, and the next one
    /// follows after `rest`.
    pub(crate) fn new(who: &Who, gate: Gate, wait: u64, rest: u64) -> Self {
        let most = who.genesis.parameters.expiry_blocks_max;
        Self {
            chain: who.genesis.chain(),
            identity: who.identity.clone(),
            gate,
            wait: wait.min(most.into()),
            rest,
            tried: None,
        }
    }

    /// Whether a try made before the block at `height` may still be answered, or was just made.
    pub(crate) fn waits(&mut self, height: Height) -> bool {
        let (wait, rest) = (self.wait, self.rest);
        self.tried.as_mut().is_some_and(|(at, answer)| {
            let is_under_way = matches!(answer.try_recv(), Err(TryRecvError::Empty));
            // What expired is told to nobody.
            let is_open = is_under_way && height <= at.plus(wait);
            is_open || height < at.plus(rest)
        })
    }

    /// Says `operation` behind the block at `height`; whether it could be said.
    pub(crate) fn say(&mut self, height: Height, operation: &Operation) -> bool {
        let Ok([a, b, c, d, e, f, g, h, ..]) = keys::entropy() else {
            return false;
        };
        let transaction = Transaction {
            sequence: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            expiry: height.plus(self.wait),
            operation: operation.to_bytes().into(),
        };
        let (reply, answer) = oneshot::channel();
        self.tried = Some((height, answer));
        self.gate.submit(Submission {
            group: SignedGroup::sign(&self.chain, &self.identity, &[transaction]),
            promise: Promise::Executed,
            reply,
        });
        true
    }
}
