//! Checkpoint bodies: a snapshot and the votes of a quorum for it.
//!
//! Source: design, 'checkpoints and bootstrap'. In: CHECKPOINT votes of one view. Out: a body, the
//! signatures to check in it.
//! Holds: it is valid by signatures alone: whoever votes for its proposal needs no snapshot.
//! Elsewhere: whether its snapshot is the one that is due (`consortium::ledger`).

use super::body::Checkpoint;
use crate::committee::{CheckpointVote, Seat, Taken, View};
use crate::crypto::{Check, Signature, Verified};

/// Why a checkpoint body proves nothing. Its leader is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Too few distinct seats.
    #[error("{have} votes for a checkpoint, the view needs {need}")]
    NoQuorum {
        /// Distinct signers.
        have: usize,
        /// A quorum.
        need: usize,
    },
    /// Signers and votes do not match.
    #[error("{signers} signers with {votes} votes")]
    Malformed {
        /// Seats in the bitmap.
        signers: usize,
        /// Votes beside it.
        votes: usize,
    },
    /// A signer has no seat or no key.
    #[error("seat {seat} has no key in this view")]
    NoSeat {
        /// The seat.
        seat: Seat,
    },
    /// It carries a threshold signature, which nobody asks for.
    #[error("a checkpoint carries no compact signature")]
    Compact,
}

impl Checkpoint {
    /// The body of `votes`, which are checked and of one snapshot; nothing unless they are a quorum
    /// of `view`.
    pub fn assemble<'a>(
        view: &View,
        votes: impl IntoIterator<Item = &'a Verified<CheckpointVote>>,
    ) -> Option<Self> {
        let mut votes: Vec<&CheckpointVote> = votes.into_iter().map(|vote| &**vote).collect();
        votes.sort_by_key(|vote| vote.seat);
        votes.dedup_by_key(|vote| vote.seat);
        votes.truncate(view.sizes().q);
        let taken = votes.first()?.taken;
        assert!(
            votes.iter().all(|vote| vote.taken == taken),
            "one checkpoint, one snapshot"
        );
        (votes.len() == view.sizes().q).then(|| Self {
            height: taken.height,
            header: taken.header,
            manifest: taken.manifest,
            state: taken.state,
            bytes: taken.bytes,
            segments: taken.segments,
            signers: votes.iter().map(|vote| vote.seat).collect(),
            votes: votes.iter().map(|vote| vote.signature).collect(),
            compact: None,
        })
    }

    /// The snapshot that it names.
    pub fn taken(&self) -> Taken {
        Taken {
            height: self.height,
            header: self.header,
            manifest: self.manifest,
            state: self.state,
            bytes: self.bytes,
            segments: self.segments,
        }
    }

    /// The votes to check, after everything that needs no signature.
    ///
    /// Errors: [`CheckpointError`].
    pub fn checks(&self, view: &View) -> Result<Vec<Check>, CheckpointError> {
        let (signers, votes) = (self.signers.count(), self.votes.len());
        if signers != votes {
            return Err(CheckpointError::Malformed { signers, votes });
        }
        if self.compact.is_some() {
            return Err(CheckpointError::Compact);
        }
        let (have, need) = (signers, view.sizes().q);
        if have < need {
            return Err(CheckpointError::NoQuorum { have, need });
        }
        let taken = self.taken();
        let votes = self.signers.iter().zip(&self.votes);
        let check = |(seat, signature): (Seat, &Signature)| {
            let vote = CheckpointVote {
                view: view.id(),
                taken,
                seat,
                signature: *signature,
            };
            vote.check(view).ok_or(CheckpointError::NoSeat { seat })
        };
        votes.map(check).collect()
    }
}
