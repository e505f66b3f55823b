//! A listed member that has caught up says so, and may be drawn from then on.
//!
//! Source: design of admission: nobody is drawn before it has caught up. In: applied blocks, the
//! register. Out: a transaction of our own.
//! Holds: one try at a time; its answer comes by our own application, so while we lag far behind
//! the chain there is only that one. Elsewhere: what counts as caught up
//! (`membership::register`).

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::ears::{Gate, Submission};
use super::handle::Who;
use super::herald::{Promise, Refused, Settlement};
use super::index::Index;
use super::{keys, proofs};
use crate::blocks::{SignedGroup, Transaction};
use crate::committee::{Height, MemberId};
use crate::crypto::{Digest, SecretKey};
use crate::membership::register::{Marks, Operation, Register, Status};

/// Blocks that a try may wait, if the ledger allows as many.
const EXPIRY_BLOCKS: u64 = 512;
/// Blocks between two tries.
const REST_BLOCKS: u64 = 8;

/// What says that we caught up.
pub(crate) struct Newcomer {
    chain: Digest,
    /// The digest of the genesis block's header.
    genesis: Digest,
    me: MemberId,
    identity: SecretKey,
    gate: Gate,
    /// Blocks that a try may wait.
    expiry_blocks: u64,
    /// When the last try went out, and where its answer comes.
    tried: Option<(Height, oneshot::Receiver<Result<Settlement, Refused>>)>,
}

impl Newcomer {
    /// Nothing said yet.
    pub(crate) fn new(who: &Who, gate: Gate) -> Self {
        Self {
            chain: who.genesis.chain(),
            genesis: who.genesis.header().digest(),
            me: who.me,
            identity: who.identity.clone(),
            expiry_blocks: EXPIRY_BLOCKS.min(who.genesis.parameters.expiry_blocks_max.into()),
            gate,
            tried: None,
        }
    }

    /// The block at `height` was applied, and `register` stands behind it.
    pub(crate) fn applied(&mut self, height: Height, register: &Register, index: &Index) {
        let own = register.get(&self.me);
        if own.is_none_or(|own| own.status != Status::Joining) || self.waits(height) {
            return;
        }
        let mark = Marks::height_below(height);
        let digest = match mark {
            Height(0) => Ok(self.genesis), // No disk holds that block.
            mark => proofs::header_digest(index, mark),
        };
        // A block that is not on the disk yet is named later.
        let (Ok(digest), Ok(drawn)) = (digest, keys::entropy()) else {
            return;
        };
        let [a, b, c, d, e, f, g, h, ..] = drawn;
        let transaction = Transaction {
            sequence: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            expiry: height.plus(self.expiry_blocks),
            operation: Operation::CaughtUp(mark, digest).to_bytes().into(),
        };
        let (reply, answer) = oneshot::channel();
        self.tried = Some((height, answer));
        self.gate.submit(Submission {
            group: SignedGroup::sign(&self.chain, &self.identity, &[transaction]),
            promise: Promise::Executed,
            reply,
        });
        tracing::info!(%mark, "this member says that it has caught up");
    }

    fn waits(&mut self, height: Height) -> bool {
        self.tried.as_mut().is_some_and(|(at, answer)| {
            let is_under_way = matches!(answer.try_recv(), Err(TryRecvError::Empty));
            // What expired is told to nobody.
            let is_open = is_under_way && height <= at.plus(self.expiry_blocks);
            is_open || height < at.plus(REST_BLOCKS)
        })
    }
}
