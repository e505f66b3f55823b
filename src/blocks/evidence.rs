//! Evidence: what proves to anybody, offline, that a seat broke a rule.
//!
//! Source: `docs/formats.md`. In: signed votes, claims, proposals. Out: whose fault it is and of
//! which kind, or that nothing is proved.
//! Holds: everything that accuses is signed by the accused, and no correct member ever signs it,
//! also after a restart; the accuser is not believed in anything.
//! Elsewhere: who notices (`fsm`, the replica), how much is kept (`consortium`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::{self, DecodeError, ENCODED_BYTES_MAX};
use super::genesis::Bounds;
use super::proposal::Proposal;
use crate::committee::{Certificate, Height, Kind, Regency, Seat, StopData, View, ViewId, Vote};
use crate::crypto::{Check, Verifier};

/// The kinds of misbehaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Two votes of one kind for one regency and height name different digests.
    Equivocation,
    /// Two STOP-DATA for one regency.
    Claims,
    /// A STOP-DATA leaves out what an ACCEPT before it had locked.
    Amnesia,
    /// A leader proposed what breaks a rule that its bytes alone decide.
    BadProposal,
    /// A PERSIST for another header than the certified one.
    WrongHeader,
    /// A message that no correct member sends; nothing proves it to others.
    BadMessage,
}

impl FaultKind {
    /// Its name, as documents and metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            FaultKind::Equivocation => "equivocation",
            FaultKind::Claims => "claims",
            FaultKind::Amnesia => "amnesia",
            FaultKind::BadProposal => "bad_proposal",
            FaultKind::WrongHeader => "wrong_header",
            FaultKind::BadMessage => "bad_message",
        }
    }
}

/// What is signed and cannot be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// Two votes of one seat and kind, regency and height for different digests.
    Votes(Vote, Vote),
    /// Two STOP-DATA of one seat for one regency.
    Claims(StopData, StopData),
    /// An ACCEPT, and a STOP-DATA of its seat for a later regency that claims neither the lock nor
    /// a decision for its height.
    Amnesia(Vote, StopData),
    /// A PROPOSE and the bytes of a proposal with its digest, which nobody may vote for.
    Proposal(Vote, Bytes),
    /// A PERSIST, and the block certificate of its height for another header.
    Header(Vote, Certificate),
}

/// Why evidence proves nothing. Whoever made it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Not in the format.
    #[error("evidence: {0}")]
    Decode(#[from] DecodeError),
    /// What was signed does not contradict itself.
    #[error("nothing in it is against a rule")]
    Innocent,
    /// It names another view, an unknown seat, or the parts are of different seats.
    #[error("another view, or no seat of it")]
    OtherView,
    /// A signature does not hold.
    #[error("a signature does not hold")]
    BadSignature,
}

/// What evidence is checked against: the view, and the genesis parameters that proposals obey.
#[derive(Clone, Copy, Debug)]
pub struct Law<'a> {
    /// The view of the votes.
    pub view: &'a View,
    /// Sizes.
    pub bounds: &'a Bounds,
    /// Heights that may be ordered above a carried certificate.
    pub ahead_max: u32,
    /// The signature scheme.
    pub verifier: &'a Verifier,
}

impl Evidence {
    /// Who is at fault and how. Pure: nothing but `law` is needed.
    ///
    /// Errors: [`EvidenceError`]; then it proves nothing.
    pub fn check(&self, law: &Law<'_>) -> Result<(Seat, FaultKind), EvidenceError> {
        let is_guilty = match self {
            Evidence::Votes(a, b) => is_twice(a, b),
            Evidence::Claims(a, b) => a.seat == b.seat && a.regency == b.regency && a != b,
            Evidence::Amnesia(vote, data) => forgets(vote, data),
            Evidence::Proposal(vote, bytes) => is_bad(vote, bytes, law)?,
            Evidence::Header(vote, certificate) => is_other(vote, certificate),
        };
        if !is_guilty {
            return Err(EvidenceError::Innocent);
        }
        let checks = self.checks(law.view).ok_or(EvidenceError::OtherView)?;
        match law.verifier.all_valid(&checks) {
            true => Ok((self.accused(), self.kind())),
            false => Err(EvidenceError::BadSignature),
        }
    }

    fn checks(&self, view: &View) -> Option<Vec<Check>> {
        Some(match self {
            Evidence::Votes(a, b) => vec![a.check(view)?, b.check(view)?],
            Evidence::Claims(a, b) => vec![a.check(view)?, b.check(view)?],
            Evidence::Amnesia(vote, data) => vec![vote.check(view)?, data.check(view)?],
            Evidence::Proposal(vote, _) => vec![vote.check(view)?],
            Evidence::Header(vote, certificate) => {
                let mut checks = certificate.checks(view).ok()?;
                checks.push(vote.check(view)?);
                checks
            }
        })
    }

    /// Whom it accuses.
    pub fn accused(&self) -> Seat {
        match self {
            Evidence::Votes(vote, _)
            | Evidence::Amnesia(vote, _)
            | Evidence::Proposal(vote, _)
            | Evidence::Header(vote, _) => vote.seat,
            Evidence::Claims(data, _) => data.seat,
        }
    }

    /// Of what.
    pub fn kind(&self) -> FaultKind {
        match self {
            Evidence::Votes(..) => FaultKind::Equivocation,
            Evidence::Claims(..) => FaultKind::Claims,
            Evidence::Amnesia(..) => FaultKind::Amnesia,
            Evidence::Proposal(..) => FaultKind::BadProposal,
            Evidence::Header(..) => FaultKind::WrongHeader,
        }
    }

    /// The view whose seat it accuses.
    pub fn view(&self) -> ViewId {
        match self {
            Evidence::Votes(vote, _)
            | Evidence::Amnesia(vote, _)
            | Evidence::Proposal(vote, _)
            | Evidence::Header(vote, _) => vote.ballot.view,
            Evidence::Claims(data, _) => data.view,
        }
    }

    /// The height and the regency that it is about; STOP-DATA is about its base.
    pub fn place(&self) -> (Height, Regency) {
        match self {
            Evidence::Votes(vote, _)
            | Evidence::Amnesia(vote, _)
            | Evidence::Proposal(vote, _)
            | Evidence::Header(vote, _) => (vote.ballot.height, vote.ballot.regency),
            Evidence::Claims(data, _) => (data.base, data.regency),
        }
    }

    /// Its canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes.
    ///
    /// Errors: [`EvidenceError::Decode`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EvidenceError> {
        Ok(codec::decode(bytes, ENCODED_BYTES_MAX)?)
    }
}

fn is_twice(a: &Vote, b: &Vote) -> bool {
    let place = |vote: &Vote| {
        let ballot = vote.ballot;
        (
            vote.seat,
            ballot.kind,
            ballot.view,
            ballot.regency,
            ballot.height,
        )
    };
    place(a) == place(b) && a.ballot.digest != b.ballot.digest
}

/// Whether `data` leaves out the lock that the ACCEPT `vote` promised to keep.
pub fn forgets(vote: &Vote, data: &StopData) -> bool {
    let ballot = vote.ballot;
    // A block certificate settles what it covers; a decision, once held, stands for the lock.
    let is_due = vote.seat == data.seat
        && ballot.kind == Kind::Accept
        && ballot.view == data.view
        && ballot.regency < data.regency
        && ballot.height > data.base;
    let mut claims = data
        .claims
        .iter()
        .filter(|claim| claim.height == ballot.height);
    let is_kept = claims.any(|claim| claim.is_decided || claim.lock.regency >= ballot.regency);
    is_due && !is_kept
}

fn is_other(vote: &Vote, certificate: &Certificate) -> bool {
    let (ours, theirs) = (vote.ballot, certificate.ballot);
    ours.kind == Kind::Persist
        && theirs.kind == Kind::Persist
        && ours.height == theirs.height
        && ours.digest != theirs.digest
}

fn is_bad(vote: &Vote, bytes: &[u8], law: &Law<'_>) -> Result<bool, EvidenceError> {
    let ballot = vote.ballot;
    let proposal = codec::decode::<Proposal>(bytes, ENCODED_BYTES_MAX)?;
    if ballot.kind != Kind::Propose || proposal.digest() != ballot.digest {
        return Ok(false);
    }
    let checks = proposal.checks(law.view, ballot.height, law.bounds, law.ahead_max);
    Ok(checks.map_or(true, |checks| !law.verifier.all_valid(&checks)))
}
