//! One height: its proposals, its votes, its decision.
//!
//! Source: Mod-SMaRt, one consensus instance (VP-Consensus). In: checked votes and payloads. Out:
//! certificates.
//! Holds: one WRITE per seat and regency counts, the first; one ACCEPT per seat counts, that of the
//! highest regency; a decision never changes. Elsewhere: when to vote (`ordering`), what to sign
//! (`committee::voter`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::message::Payload;
use crate::committee::{Certificate, Lock, Regency, Seat, SeatSet, View, Vote};
use crate::crypto::{Digest, Verified};
use crate::machine::Time;
use crate::plant::{self, Plant};

/// Payloads kept per height: the leader's, a bound one, and one decided elsewhere. Beyond it the
/// oldest that nothing refers to is dropped.
pub const PAYLOADS_MAX: usize = 6;

/// Whether the replica found a payload valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    /// Asked, not yet answered.
    Unknown,
    /// It may be written.
    Valid,
}

/// What one vote did to the count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// It was counted.
    New,
    /// The same was counted before, or a newer one of its seat.
    Known,
    /// The seat voted for another digest in the same regency: both votes are evidence.
    Conflict(Box<(Vote, Vote)>),
}

/// What a decision did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// The height is decided now.
    New,
    /// It was, for the same digest.
    Known,
    /// It was, for another: more than f seats are faulty.
    Split,
}

/// One height of the window.
#[derive(Debug, Default)]
pub(super) struct Instance {
    payloads: Vec<(Digest, Bytes, Validity)>,
    proposal: Option<Verified<Vote>>,
    writes: BTreeMap<Seat, Verified<Vote>>,
    accepts: BTreeMap<Seat, Verified<Vote>>,
    decision: Option<Certificate>,
    /// When this regency first spoke of it here.
    opened: Option<Time>,
}

impl Instance {
    /// Takes a payload; whether it is new.
    /// The payloads of `kept` are never dropped for it: votes may still ask for them.
    pub(super) fn add_payload(&mut self, payload: &Payload, kept: &[Digest]) -> bool {
        if self.payload(&payload.digest).is_some() {
            return false;
        }
        if self.payloads.len() == PAYLOADS_MAX {
            let is_spare = |(digest, ..): &(Digest, Bytes, Validity)| !kept.contains(digest);
            let Some(spare) = self.payloads.iter().position(is_spare) else {
                return false;
            };
            self.payloads.remove(spare);
        }
        self.payloads
            .push((payload.digest, payload.bytes.clone(), Validity::Unknown));
        true
    }

    /// The payload of `digest`, where it is held.
    pub(super) fn payload(&self, digest: &Digest) -> Option<Payload> {
        let (digest, bytes, _) = self.payloads.iter().find(|(held, ..)| held == digest)?;
        Some(Payload {
            digest: *digest,
            bytes: bytes.clone(),
        })
    }

    /// The payloads that are held and may be written for, or are decided.
    pub(super) fn payloads(&self) -> impl Iterator<Item = Payload> + '_ {
        let decided = self.decision().map(|decision| decision.ballot.digest);
        let wanted = self.payloads.iter();
        let wanted = wanted.filter(move |(digest, _, validity)| {
            *validity == Validity::Valid || Some(*digest) == decided
        });
        wanted.map(|(digest, bytes, _)| Payload {
            digest: *digest,
            bytes: bytes.clone(),
        })
    }

    /// Bytes of the payloads that are held.
    pub(super) fn bytes(&self) -> usize {
        self.payloads.iter().map(|(_, bytes, _)| bytes.len()).sum()
    }

    /// Marks a payload valid.
    pub(super) fn mark_valid(&mut self, digest: &Digest) {
        for (held, _, validity) in &mut self.payloads {
            if held == digest {
                *validity = Validity::Valid;
            }
        }
    }

    /// Whether the payload of `digest` is held and valid.
    pub(super) fn is_valid(&self, digest: &Digest) -> bool {
        let mut payloads = self.payloads.iter();
        payloads.any(|(held, _, validity)| held == digest && *validity == Validity::Valid)
    }

    /// Takes the leader's PROPOSE of its regency.
    pub(super) fn propose(&mut self, vote: Verified<Vote>) -> Counted {
        match &self.proposal {
            Some(held) if held.ballot.regency > vote.ballot.regency => Counted::Known,
            Some(held) if held.ballot == vote.ballot => Counted::Known,
            Some(held) if held.ballot.regency == vote.ballot.regency => {
                Counted::Conflict(Box::new((**held, *vote)))
            }
            Some(_) | None => {
                self.proposal = Some(vote);
                Counted::New
            }
        }
    }

    /// The newest proposal: its regency and digest.
    pub(super) fn proposed(&self) -> Option<Lock> {
        let ballot = self.proposal.as_ref()?.ballot;
        Some(Lock {
            regency: ballot.regency,
            digest: ballot.digest,
        })
    }

    /// The newest PROPOSE itself, to pass on.
    pub(super) fn proposal(&self) -> Option<&Vote> {
        self.proposal.as_deref()
    }

    /// Counts a WRITE of the present regency.
    pub(super) fn write(&mut self, vote: Verified<Vote>) -> Counted {
        count(&mut self.writes, vote)
    }

    /// Counts an ACCEPT.
    pub(super) fn accept(&mut self, vote: Verified<Vote>) -> Counted {
        count(&mut self.accepts, vote)
    }

    /// The WRITE certificate of `regency`, once a quorum wrote one digest.
    pub(super) fn written(&self, view: &View, regency: Regency) -> Option<Verified<Certificate>> {
        let need = match plant::is(Plant::BlindAccept) {
            true => 1,
            false => view.sizes().q,
        };
        let of_regency = self.writes.values();
        let of_regency = of_regency
            .filter(|vote| vote.ballot.regency == regency || plant::is(Plant::LockLowered));
        certificate(view, need, of_regency)
    }

    /// The ACCEPT certificate, once a quorum accepted one digest in one regency.
    pub(super) fn accepted(&self, view: &View) -> Option<Verified<Certificate>> {
        certificate(view, view.sizes().q, self.accepts.values())
    }

    /// Takes the decision. A second one for another digest proves more than f faults, and changes
    /// nothing.
    pub(super) fn decide(&mut self, certificate: &Certificate) -> Decided {
        match &self.decision {
            Some(held) if held.ballot.digest == certificate.ballot.digest => Decided::Known,
            Some(_) => Decided::Split,
            None => {
                self.decision = Some(certificate.clone());
                Decided::New
            }
        }
    }

    /// The decision.
    pub(super) fn decision(&self) -> Option<&Certificate> {
        self.decision.as_ref()
    }

    /// Whether this height must be decided: its leader proposed, or `join` seats voted, of which
    /// one is correct and has seen a proposal. A vote of fewer opens nothing.
    pub(super) fn is_open(&self, join: usize) -> bool {
        let voters: SeatSet = self
            .writes
            .keys()
            .chain(self.accepts.keys())
            .copied()
            .collect();
        self.decision.is_none() && (self.proposal.is_some() || voters.count() >= join)
    }

    /// The vote of `seat` in the counts, to pass on.
    pub(super) fn votes_of(&self, seat: Seat) -> impl Iterator<Item = Vote> + '_ {
        let votes = [self.writes.get(&seat), self.accepts.get(&seat)];
        votes.into_iter().flatten().map(|vote| **vote)
    }

    /// Somebody speaks of this height at `now`.
    pub(super) fn open(&mut self, now: Time) {
        self.opened.get_or_insert(now);
    }

    /// When this regency first spoke of this height here.
    pub(super) fn opened(&self) -> Option<Time> {
        self.opened
    }

    /// WRITEs of a regency that ended no longer count; ACCEPTs may still decide.
    pub(super) fn enter_regency(&mut self) {
        self.writes.clear();
        self.opened = None;
    }
}

fn count(votes: &mut BTreeMap<Seat, Verified<Vote>>, vote: Verified<Vote>) -> Counted {
    match votes.get(&vote.seat) {
        Some(held) if held.ballot == vote.ballot => Counted::Known,
        Some(held) if held.ballot.regency > vote.ballot.regency => Counted::Known,
        Some(held) if held.ballot.regency == vote.ballot.regency => {
            Counted::Conflict(Box::new((**held, *vote)))
        }
        Some(_) | None => {
            votes.insert(vote.seat, vote);
            Counted::New
        }
    }
}

fn certificate<'a>(
    view: &View,
    need: usize,
    votes: impl Iterator<Item = &'a Verified<Vote>>,
) -> Option<Verified<Certificate>> {
    let mut tally: BTreeMap<_, Vec<&Verified<Vote>>> = BTreeMap::new();
    for vote in votes {
        tally.entry(vote.ballot).or_default().push(vote);
    }
    let (_, votes) = tally.into_iter().find(|(_, votes)| votes.len() >= need)?;
    Certificate::assemble(view, votes)
}
