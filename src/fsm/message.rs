//! What seats say to each other while they order, and which signatures it holds.
//!
//! Source: Mod-SMaRt, both phases. In: encoded messages. Out: the checks that make them [`Heard`].
//! Holds: every list in a message has a bound. Elsewhere: what a payload means (the replica).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::committee::{
    CLAIMS_MAX, Certificate, CertificateError, Height, Kind, Regency, Seat, StopData, View, ViewId,
    Vote,
};
use crate::crypto::{Check, Digest, Verified};
use crate::plant::{self, Plant};

/// Certificates beside a STOP-DATA or a SYNC, at most.
pub(super) const PROOFS_MAX: usize = 2 * CLAIMS_MAX;

/// An opaque value to order, with the digest that is voted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The digest; the receiver recomputes it from the bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Bytes,
}

/// A seat asks for the next regency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The view.
    pub view: ViewId,
    /// The regency asked for.
    pub regency: Regency,
    /// Who asks; the link authenticates it, and STOP alone promises nothing.
    pub seat: Seat,
}

/// The new leader's proof of what the regency starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// The view.
    pub view: ViewId,
    /// The regency it starts.
    pub regency: Regency,
    /// n − f STOP-DATA of distinct seats.
    pub set: Vec<StopData>,
    /// The certificates of the base, of every claimed decision and of the highest lock of every
    /// height.
    pub proofs: Vec<Certificate>,
}

/// Where a seat stands; sent when nothing moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The view.
    pub view: ViewId,
    /// The installed regency.
    pub regency: Regency,
    /// Whether a SYNC of that regency was seen.
    pub is_synchronised: bool,
    /// The height up to which every height is decided.
    pub decided: Height,
    /// The height of the newest block certificate held.
    pub certified: Height,
    /// Whether an answer is wanted.
    pub is_question: bool,
}

/// Votes in one [`Held`], at most: beyond it the lowest heights are left out.
pub(super) const HELD_VOTES_MAX: usize = 1024;

/// What a seat holds that another signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Votes, at most 1024, the highest.
    pub votes: Vec<Vote>,
    /// Its newest STOP-DATA.
    pub stop_data: Option<StopData>,
}

/// A seat that starts asks what the others hold from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recall {
    /// The question. The answer repeats its number.
    Ask(u64),
    /// The answer.
    Held(u64, Held),
}

/// A message between seats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The leader names and brings a proposal.
    Propose(Vote, Payload),
    /// A WRITE or an ACCEPT.
    Vote(Vote),
    /// See [`Stop`].
    Stop(Stop),
    /// A seat's claims for a new regency, and the certificates that prove them.
    StopData(StopData, Vec<Certificate>),
    /// See [`Sync`].
    Sync(Sync),
    /// A decided payload with q ACCEPTs of one regency.
    Decision(Certificate, Payload),
    /// A seat lacks the payload of a digest at a height.
    Fetch(Height, Digest),
    /// The answer where no proposal of this regency brings it: a payload that a SYNC bound.
    Payload(Height, Payload),
    /// See [`Status`].
    Status(Status),
    /// See [`Recall`].
    Recall(Recall),
}

/// A checked message.
pub type Heard = Verified<Message>;

/// Why a message is dropped. The sender is faulty unless it speaks of another view.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It speaks of another view; nobody's fault around a hand-over.
    #[error("message of view {got}")]
    OtherView {
        /// The view it names.
        got: ViewId,
    },
    /// A list is over its bound, or a vote is of the wrong kind.
    #[error("malformed {what}")]
    Malformed {
        /// Which message.
        what: &'static str,
    },
    /// The sender's seat is not the one the message names.
    #[error("message of seat {named} came from another member")]
    NotSender {
        /// The seat it names.
        named: Seat,
    },
    /// A certificate in it does not hold.
    #[error("certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// A signature does not hold.
    #[error("a signature does not hold")]
    BadSignature,
}

impl Message {
    /// The view that it speaks of; nothing where it names none.
    pub fn view(&self) -> Option<ViewId> {
        match self {
            Message::Propose(vote, _) | Message::Vote(vote) => Some(vote.ballot.view),
            Message::Stop(stop) => Some(stop.view),
            Message::StopData(data, _) => Some(data.view),
            Message::Sync(sync) => Some(sync.view),
            Message::Decision(proof, _) => Some(proof.ballot.view),
            Message::Status(status) => Some(status.view),
            Message::Fetch(..) | Message::Payload(..) | Message::Recall(_) => None,
        }
    }

    /// The signatures to check, after everything that needs none; `from` is the sender's seat.
    ///
    /// Whether a payload's digest is that of its bytes is checked by the replica, which knows what
    /// they are.
    pub fn checks(&self, view: &View, from: Seat) -> Result<Vec<Check>, MessageError> {
        match self {
            Message::Propose(vote, _) => vote_checks(vote, view, &[Kind::Propose], "propose"),
            Message::Vote(vote) => {
                is_from(vote.seat, from)?;
                vote_checks(vote, view, &[Kind::Write, Kind::Accept], "vote")
            }
            Message::Stop(stop) => {
                is_of(stop.view, view)?;
                is_from(stop.seat, from).map(|()| Vec::new())
            }
            Message::StopData(data, proofs) => {
                is_from(data.seat, from)?;
                let mut checks = stop_data_checks(data, view)?;
                checks.extend(proof_checks(proofs, view)?);
                Ok(checks)
            }
            Message::Sync(sync) => sync.checks(view),
            Message::Decision(certificate, payload) => {
                let ballot = certificate.ballot;
                if ballot.kind != Kind::Accept || ballot.digest != payload.digest {
                    return Err(MessageError::Malformed { what: "decision" });
                }
                Ok(certificate.checks(view)?)
            }
            Message::Fetch(..) | Message::Payload(..) => Ok(Vec::new()),
            Message::Status(status) => is_of(status.view, view).map(|()| Vec::new()),
            Message::Recall(Recall::Ask(_)) => Ok(Vec::new()),
            Message::Recall(Recall::Held(_, held)) => held.checks(view),
        }
    }
}

impl Held {
    fn checks(&self, view: &View) -> Result<Vec<Check>, MessageError> {
        if self.votes.len() > HELD_VOTES_MAX {
            return Err(MessageError::Malformed { what: "held" });
        }
        let kinds = [Kind::Propose, Kind::Write, Kind::Accept, Kind::Persist];
        let mut checks = Vec::new();
        for vote in &self.votes {
            checks.extend(vote_checks(vote, view, &kinds, "held")?);
        }
        if let Some(data) = &self.stop_data {
            checks.extend(stop_data_checks(data, view)?);
        }
        Ok(checks)
    }
}

impl Sync {
    /// How many STOP-DATA make a set: n − f, for the f others may never answer.
    pub(super) fn set_len(view: &View) -> usize {
        let sizes = view.sizes();
        sizes.n - sizes.f - usize::from(plant::is(Plant::ShortSync))
    }

    fn checks(&self, view: &View) -> Result<Vec<Check>, MessageError> {
        is_of(self.view, view)?;
        let mut seats: Vec<Seat> = self.set.iter().map(|data| data.seat).collect();
        seats.dedup();
        let is_sorted = seats.is_sorted() && seats.len() == self.set.len();
        let is_of_regency = self.set.iter().all(|data| data.is_for(self.regency));
        if !is_sorted || !is_of_regency || self.set.len() != Self::set_len(view) {
            return Err(MessageError::Malformed { what: "sync" });
        }
        let mut checks = proof_checks(&self.proofs, view)?;
        for data in &self.set {
            checks.extend(stop_data_checks(data, view)?);
        }
        Ok(checks)
    }
}

fn is_of(got: ViewId, view: &View) -> Result<(), MessageError> {
    if got == view.id() {
        Ok(())
    } else {
        Err(MessageError::OtherView { got })
    }
}

fn is_from(named: Seat, from: Seat) -> Result<(), MessageError> {
    if named == from {
        Ok(())
    } else {
        Err(MessageError::NotSender { named })
    }
}

fn vote_checks(
    vote: &Vote,
    view: &View,
    kinds: &[Kind],
    what: &'static str,
) -> Result<Vec<Check>, MessageError> {
    is_of(vote.ballot.view, view)?;
    if !kinds.contains(&vote.ballot.kind) {
        return Err(MessageError::Malformed { what });
    }
    let check = vote.check(view).ok_or(MessageError::Malformed { what })?;
    if plant::is(Plant::UncheckedVote) {
        return Ok(Vec::new());
    }
    Ok(vec![check])
}

fn stop_data_checks(data: &StopData, view: &View) -> Result<Vec<Check>, MessageError> {
    is_of(data.view, view)?;
    let top = data.claims.last().map_or(data.base, |claim| claim.height);
    let opening = view.opening();
    let is_near = top <= data.base.plus(CLAIMS_MAX as u64);
    let is_above = data.base > opening.height
        || (data.base == opening.height && data.base_digest == opening.digest);
    let check = data.check(view).filter(|_| is_near && is_above);
    let check = check.ok_or(MessageError::Malformed { what: "stop-data" })?;
    Ok(vec![check])
}

fn proof_checks(proofs: &[Certificate], view: &View) -> Result<Vec<Check>, MessageError> {
    if proofs.len() > PROOFS_MAX {
        return Err(MessageError::Malformed { what: "proofs" });
    }
    let mut checks = Vec::new();
    for proof in proofs {
        checks.extend(proof.checks(view)?);
    }
    Ok(checks)
}
