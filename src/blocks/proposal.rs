//! Proposals: what is voted. A proposal names no parent, regency or result, so it keeps its bytes
//! when a later regency proposes it again.
//!
//! Source: `docs/formats.md`. In: batches or a control body. Out: a digest to vote on.
//! Holds: the digest binds every field, batches by their digest, the carried certificate by its
//! own; whether it may be voted for follows from its bytes and the view alone.
//! Elsewhere: the header that follows from decided proposals (`header`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use std::collections::BTreeSet;

use super::body::{BLOCK_BATCHES_MAX, BatchRef, Body, BodyError};
use super::checkpoint::CheckpointError;
use super::codec::{self, DecodeError};
use super::genesis::Bounds;
use super::reconfiguration::ReconfigurationError;
use super::transaction::{CheckedBatch, GroupError};
use crate::committee::{Certificate, CertificateError, Height, Kind, View, ViewId};
use crate::crypto::{Check, Digest, Domain, Hasher};

/// The version byte of proposals, headers and bodies.
pub const FORMAT_VERSION: u8 = 1;
/// The encoded bytes of a proposal, at most: one frame of the votes' lane with room for its
/// envelope.
pub const PROPOSAL_BYTES_MAX: usize = 960 << 10;

/// Bytes of all batches that ride inline in one proposal, at most; larger ones are spread and
/// named.
pub const INLINE_BYTES_MAX: usize = 32 << 10;

/// Why nobody may vote for a proposal. Its leader is at fault; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// Another format, chain or view.
    #[error("another format version, chain or view")]
    OtherChain,
    /// Made for another height.
    #[error("a proposal for height {got}, not {want}")]
    OtherHeight {
        /// The height it names.
        got: Height,
        /// The height it was offered for.
        want: Height,
    },
    /// More than [`BLOCK_BATCHES_MAX`] batches.
    #[error("{got} batches, at most {BLOCK_BATCHES_MAX} are allowed")]
    TooManyBatches {
        /// How many.
        got: usize,
    },
    /// A batch stands twice.
    #[error("batch {digest} stands twice")]
    Repeated {
        /// Which.
        digest: Digest,
    },
    /// An inline batch is empty, or they have more than [`INLINE_BYTES_MAX`] bytes.
    #[error("inline batches of {bytes} bytes, or an empty one")]
    Inline {
        /// Bytes of all inline batches.
        bytes: usize,
    },
    /// A control body is out of bounds, or is one that is never proposed.
    #[error("body: {0}")]
    Body(#[from] BodyError),
    /// The carried certificate is not a block certificate of this view or the one before, below
    /// this height; or it is absent after view 0.
    #[error("the carried certificate is not a block certificate of an earlier height")]
    Carried,
    /// The carried certificate proves nothing.
    #[error("the carried certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// An inline batch is wrong.
    #[error("an inline batch: {0}")]
    Batch(#[from] GroupError),
    /// A control body that does not belong to this view, or that nothing can check yet.
    #[error("a control body that has no place here")]
    Control,
    /// A checkpoint body proves nothing.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A reconfiguration that makes no view.
    #[error("reconfiguration: {0}")]
    Reconfiguration(#[from] ReconfigurationError),
    /// The carried certificate is too old.
    #[error("ordered from {carried}, more than {most} heights below")]
    TooFarAhead {
        /// The height it carries a certificate for.
        carried: Height,
        /// Heights that may be ordered above it.
        most: u32,
    },
}

/// What a leader proposes for one height.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// [`FORMAT_VERSION`].
    pub version: u8,
    /// The chain.
    pub chain: Digest,
    /// The view.
    pub view: ViewId,
    /// The height.
    pub height: Height,
    /// The leader's clock in microseconds since the Unix epoch.
    pub timestamp_us: u64,
    /// Whether the leader asks for PERSIST votes at this height.
    pub is_sealed: bool,
    /// What is ordered.
    pub body: Body,
    /// The newest block certificate that the leader holds; none while that is genesis.
    pub carried: Option<Certificate>,
}

impl Proposal {
    /// What is voted on.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::Proposal);
        hasher.update(&[self.version]);
        hasher.update(self.chain.as_bytes());
        hasher.update(&self.view.0.to_le_bytes());
        hasher.update(&self.height.0.to_le_bytes());
        hasher.update(&self.timestamp_us.to_le_bytes());
        hasher.update(&[self.is_sealed.into(), self.carried.is_some().into()]);
        hasher.update(self.body.root().as_bytes());
        if let Some(certificate) = &self.carried {
            hasher.update(certificate.digest().as_bytes());
        }
        hasher.finish()
    }

    /// Whether a member of `view` may vote for it at `height`, as far as its own bytes tell.
    ///
    /// The signatures of the carried certificate ([`Certificate::checks`]), batches that are only
    /// named, and what a control body must prove are checked elsewhere. `ahead_max` is the genesis
    /// parameter.
    pub fn check(&self, view: &View, height: Height, ahead_max: u32) -> Result<(), ProposalError> {
        let is_ours = self.version == FORMAT_VERSION && self.chain == *view.chain();
        if !is_ours || self.view != view.id() {
            return Err(ProposalError::OtherChain);
        }
        if self.height != height || height == Height(0) {
            let (got, want) = (self.height, height);
            return Err(ProposalError::OtherHeight { got, want });
        }
        self.check_carried(view, ahead_max)?;
        match &self.body {
            Body::Transactions(batches) => check_batches(batches),
            body @ (Body::Genesis(_)
            | Body::Freeze(_)
            | Body::Assemble(_)
            | Body::Reconfiguration(_)
            | Body::Checkpoint(_)) => Ok(body.check()?),
        }
    }

    /// Everything that decides its validity and needs no state: [`Proposal::check`], and the
    /// signatures of its inline batches and of its certificate, which are still to be checked.
    pub fn checks(
        &self,
        view: &View,
        height: Height,
        bounds: &Bounds,
        ahead_max: u32,
    ) -> Result<Vec<Check>, ProposalError> {
        self.check(view, height, ahead_max)?;
        let mut checks = match &self.body {
            Body::Transactions(_) => Vec::new(),
            Body::Freeze(body) if body.next == view.id().next() => Vec::new(),
            Body::Assemble(body) if body.next == view.id().next() => Vec::new(),
            Body::Reconfiguration(body) => body.checks(view)?,
            Body::Checkpoint(body) if body.height < height => body.checks(view)?,
            Body::Genesis(_) | Body::Checkpoint(_) => return Err(ProposalError::Control),
            Body::Freeze(_) | Body::Assemble(_) => return Err(ProposalError::Control),
        };
        // Whoever votes in a view holds the certificate of the block that opened it.
        let carried = self.carried.as_ref();
        if let Some(certificate) = carried.filter(|held| held.ballot.view == view.id()) {
            checks.extend(certificate.checks(view)?);
        }
        for batch in self.body.batches() {
            if let BatchRef::Inline(bytes) = batch {
                checks.extend(CheckedBatch::decode(bytes.clone(), view.chain(), bounds)?.1);
            }
        }
        Ok(checks)
    }

    fn check_carried(&self, view: &View, ahead_max: u32) -> Result<(), ProposalError> {
        let is_good = match &self.carried {
            None => self.view == ViewId(0),
            Some(certificate) => {
                let ballot = &certificate.ballot;
                let opening = view.opening();
                let is_opening = ballot.view.next() == self.view
                    && (ballot.height, ballot.digest) == (opening.height, opening.digest);
                let is_block = ballot.kind == Kind::Persist && ballot.is_canonical();
                let is_near = ballot.view == self.view || is_opening;
                is_near && is_block && ballot.height < self.height
            }
        };
        if !is_good {
            return Err(ProposalError::Carried);
        }
        let (carried, most) = (self.carried_height(), ahead_max);
        if self.height > carried.plus(most.into()) {
            return Err(ProposalError::TooFarAhead { carried, most });
        }
        Ok(())
    }

    /// Its encoded form.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(codec::encode(self))
    }

    /// Reads an encoded proposal; what depends on chain and view is judged by the replica.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, PROPOSAL_BYTES_MAX)
    }

    /// The height up to which its leader holds a block certificate.
    pub fn carried_height(&self) -> Height {
        self.carried
            .as_ref()
            .map_or(Height(0), |certificate| certificate.ballot.height)
    }
}

fn check_batches(batches: &[BatchRef]) -> Result<(), ProposalError> {
    let got = batches.len();
    if got > BLOCK_BATCHES_MAX {
        return Err(ProposalError::TooManyBatches { got });
    }
    let inline = batches.iter().filter_map(|batch| match batch {
        BatchRef::Named(_) => None,
        BatchRef::Inline(bytes) => Some(bytes.len()),
    });
    let bytes = inline.clone().sum();
    if bytes > INLINE_BYTES_MAX || inline.clone().any(|length| length == 0) {
        return Err(ProposalError::Inline { bytes });
    }
    // Bounded before it is hashed: at most `INLINE_BYTES_MAX` bytes.
    let mut seen = BTreeSet::new();
    match batches
        .iter()
        .map(BatchRef::digest)
        .find(|d| !seen.insert(*d))
    {
        Some(digest) => Err(ProposalError::Repeated { digest }),
        None => Ok(()),
    }
}
