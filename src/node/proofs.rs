//! Offline proofs from what a member keeps.
//!
//! Source: design, 'the receipt log'. In: tables, recent results, a certified header. Out:
//! [`TransactionProof`] and [`StateProof`].
//! Holds: a proof that is given verifies against the genesis document.
//! Elsewhere: their format and check (`blocks::proof`).

use std::sync::Arc;

use super::index::{self, Index, IndexError, Kept};
use super::keeper::{STANDING, Standing};
use super::tiles::Tiles;
use super::views::{self, Opened};
use super::watch::Certified;
use crate::blocks::codec;
use crate::blocks::proof::{PROOF_STEPS_BYTES_MAX, StateProof, TransactionProof};
use crate::blocks::receipts::{Frontier, ReceiptTree};
use crate::blocks::{Batch, BatchRef, Bounds, Outcome, STEPS_MAX, SignedGroup, Step, Transaction};
use crate::committee::{Height, ViewId};
use crate::consortium::{Block, Executed};
use crate::crypto::{Digest, PublicKey};

/// Why there is no proof, or no block to show. The disk is at fault where it says so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    /// The disk.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// It is not here, or not yet; nobody's fault.
    #[error("{what} is not here")]
    Absent {
        /// What.
        what: String,
    },
}

impl LookError {
    pub(crate) fn absent(what: impl Into<String>) -> Self {
        Self::Absent { what: what.into() }
    }
}

/// The groups of a block as their clients signed them, in order.
pub(crate) fn groups(index: &Index, block: &Block) -> Result<Vec<SignedGroup>, LookError> {
    let mut groups = Vec::new();
    for batch in block.body.batches() {
        let bytes = match batch {
            BatchRef::Inline(bytes) => bytes.clone(),
            BatchRef::Named(digest) => {
                let found = index.batch_of(digest)?;
                found.ok_or_else(|| LookError::absent(format!("batch {digest}")))?
            }
        };
        let batch: Batch = codec::decode(&bytes, codec::ENCODED_BYTES_MAX).map_err(|error| {
            IndexError::Damaged {
                what: "a batch".into(),
                reason: error.to_string(),
            }
        })?;
        groups.extend(batch.groups);
    }
    Ok(groups)
}

/// The transactions of a signed group that stands in a block.
pub(crate) fn transactions(
    group: &SignedGroup,
    bounds: &Bounds,
) -> Result<Vec<Transaction>, LookError> {
    group.transactions(bounds).map_err(|error| {
        LookError::Index(IndexError::Damaged {
            what: "a group".into(),
            reason: error.to_string(),
        })
    })
}

/// The proof that `client`'s transaction executed as `executed` says.
pub(crate) fn transaction(
    index: &Arc<Index>,
    certified: &Certified,
    (client, sequence): (PublicKey, u64),
    executed: &Executed,
) -> Result<TransactionProof, LookError> {
    if certified.header.height < executed.height {
        return Err(LookError::absent("a certificate that covers it"));
    }
    let kept = index.results(executed.height)?;
    let is_it = |one: &&Kept| {
        one.place.is_some() && (one.client, one.client_sequence) == (client, sequence)
    };
    let kept = kept
        .iter()
        .find(is_it)
        .ok_or_else(|| LookError::absent("its receipt"))?;
    let receipt = kept.receipt();
    let receipt = receipt.ok_or_else(|| LookError::absent("its receipt"))?;
    let tree = tree(index, certified.header.height)?;
    let size = certified.header.receipts.size;
    let path = tree
        .inclusion_proof(receipt.sequence, size)
        .map_err(|error| LookError::absent(format!("its path: {error}")))?;
    let block = index.block_at(executed.height)?;
    let block = block.ok_or_else(|| LookError::absent("its block"))?;
    let groups = groups(index, &block)?.into_iter();
    let group = { groups }.find(|group| group.digest() == receipt.group);
    let outcome = Outcome {
        code: kept.executed.outcome.code,
        bytes: kept.executed.outcome.bytes.clone(),
    };
    if outcome.digest() != receipt.outcome {
        return Err(LookError::absent("its whole result"));
    }
    Ok(TransactionProof {
        header: certified.header.clone(),
        certificate: certified.certificate.clone(),
        views: steps(index, certified)?,
        receipt: receipt.to_bytes().to_vec().into(),
        path,
        group: group.ok_or_else(|| LookError::absent("its group"))?,
        outcome,
    })
}

/// The proof of `key` under `certified`, which has a state root; `map` is the application's path.
pub(crate) fn state(
    index: &Index,
    certified: &Certified,
    key: &[u8],
    map: Vec<u8>,
) -> Result<StateProof, LookError> {
    Ok(StateProof {
        header: certified.header.clone(),
        certificate: certified.certificate.clone(),
        views: steps(index, certified)?,
        key: key.to_vec().into(),
        map: map.into(),
    })
}

/// The steps from genesis to the view that certified.
fn steps(index: &Index, certified: &Certified) -> Result<Vec<Step>, LookError> {
    let opened = Opened::of(&certified.header);
    let most = (STEPS_MAX, PROOF_STEPS_BYTES_MAX);
    let steps = views::steps(index, ViewId(1), opened, most)?;
    match steps.len() as u64 == opened.view.0 {
        true => Ok(steps),
        false => Err(LookError::absent(
            "room for so many views in one file: its certificate and GET /v1/views prove it",
        )),
    }
}

/// The receipt log up to `height`: tiles of the tables, then the leaves that are not there yet.
fn tree(index: &Arc<Index>, height: Height) -> Result<ReceiptTree<Tiles>, LookError> {
    let row = index.tables().get(index::META, STANDING);
    let row = row.map_err(IndexError::from)?;
    let (from, frontier) = match row {
        None => (Height(0), Frontier::new()),
        Some(row) => {
            let standing: Standing =
                codec::decode(&row, codec::ENCODED_BYTES_MAX).map_err(|error| {
                    IndexError::Damaged {
                        what: "the tables' standing".into(),
                        reason: error.to_string(),
                    }
                })?;
            (standing.parts.tip.height, standing.parts.frontier)
        }
    };
    let tiles = Tiles::new(Arc::clone(index.tables()));
    let mut tree = ReceiptTree::resume(frontier, tiles);
    for height in (from.next().0..=height.0).map(Height) {
        // A result leaves memory only after the tables have it, so it is in one of the two.
        for receipt in index.results(height)?.iter().filter_map(Kept::receipt) {
            tree.append(receipt.leaf());
        }
    }
    Ok(tree)
}

/// The digest of the header at `height`.
pub(crate) fn header_digest(index: &Index, height: Height) -> Result<Digest, LookError> {
    let block = index.block_at(height)?;
    let block = block.ok_or_else(|| LookError::absent(format!("block {height}")))?;
    Ok(block.header.digest())
}
