//! What members say to each other, and what must hold before the replica hears it.
//!
//! Source: `docs/formats.md`. In: frames of authenticated links. Out: [`Heard`].
//! Holds: whatever reaches the replica was decoded canonically, is within its bounds, and every
//! signature holds.
//! Elsewhere: the threads that check in parallel (`node`), sockets (`net`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::contract::Fault;
use crate::blocks::codec::{self, DecodeError, ENCODED_BYTES_MAX};
use crate::blocks::evidence::{Evidence, Law};
use crate::blocks::{
    Body, Bounds, CheckedBatch, GroupError, Header, NextKey, Proposal, ProposalError,
};
use crate::bootstrap;
use crate::committee::{
    Certificate, CertificateError, CheckpointVote, Height, Kind, MemberId, Seat, View, ViewId, Vote,
};
use crate::crypto::threshold::SIGNATURE_BYTES;
use crate::crypto::{Check, Digest, Verified, Verifier};
use crate::fsm;

/// Digests in one request or acknowledgement, at most.
pub const DIGESTS_MAX: usize = 256;
/// Blocks in one extent, at most.
pub const EXTENT_BLOCKS_MAX: usize = 1024;
/// Bytes of a message on the votes' lane, at most.
pub const VOTES_BYTES_MAX: usize = 1 << 20;

/// A block as it is stored and served: its header and what the header binds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// The body; batches that were named stay named.
    pub body: Body,
}

/// A stretch of the chain that ends at a certified height.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The blocks, by height, each following the one before.
    pub blocks: Vec<Block>,
    /// The certificate of the last one's header.
    pub certificate: Certificate,
}

/// A message between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Between seats: ordering and its synchronisation.
    Order(fsm::Message),
    /// A seat has executed and stored the block at a sealed height.
    Persist(Vote),
    /// A member spreads the bytes of a batch.
    Batch(Bytes),
    /// The sender holds these batches.
    Held(Vec<Digest>),
    /// The sender lacks these batches.
    Fetch(Vec<Digest>),
    /// The sender lacks certified blocks from this height on.
    Request(Height),
    /// The answer.
    Extent(Extent),
    /// The newest block certificate, for one who lacks it.
    Certificate(Certificate),
    /// A message of the overlay.
    Overlay(Bytes),
    /// A message of the group engine.
    Engine(Bytes),
    /// A fresh key for the next view, from the member that the assemble block names.
    Key(Box<NextKey>),
    /// A part of the beacon over the freeze block of this digest.
    Beacon(Digest, BeaconPart),
    /// The sender's seat in this view has no key any more: nobody votes for it.
    Vacant(ViewId),
    /// What a seat's snapshot is.
    Snapshot(CheckpointVote),
    /// From a newcomer, or to one.
    Bootstrap(Box<bootstrap::Message>),
    /// The answer to a request for blocks that are pruned: the lowest height that is kept.
    Pruned(Height),
    /// Goes with blocks that were asked for: a checkpoint is much shorter than those up to this
    /// height.
    Shorter(Height),
}

/// What a seat has of a beacon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BeaconPart {
    /// Its share of the signature.
    Share(Bytes),
    /// The whole signature.
    Whole(Bytes),
}

impl BeaconPart {
    fn is_sized(&self) -> bool {
        let (BeaconPart::Share(bytes) | BeaconPart::Whole(bytes)) = self;
        bytes.len() == SIGNATURE_BYTES
    }
}

/// Which queue and connection a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Small and urgent; promises wait for the barrier.
    Votes,
    /// Large; carries bytes that others made, promises nothing and overtakes the barrier.
    Bulk,
}

impl Message {
    /// Its lane.
    pub fn lane(&self) -> Lane {
        match self {
            Message::Batch(_) | Message::Extent(_) => Lane::Bulk,
            // Behind everything that consensus says, asks too: whoever waits for them can.
            Message::Bootstrap(_) => Lane::Bulk,
            Message::Order(_) | Message::Persist(_) | Message::Held(_) => Lane::Votes,
            Message::Fetch(_) | Message::Request(_) => Lane::Votes,
            Message::Certificate(_) | Message::Overlay(_) | Message::Engine(_) => Lane::Votes,
            Message::Key(_) | Message::Beacon(..) | Message::Vacant(_) => Lane::Votes,
            Message::Snapshot(_) | Message::Pruned(_) | Message::Shorter(_) => Lane::Votes,
        }
    }

    /// Its frame.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(codec::encode(self))
    }
}

/// A message whose bounds and signatures hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// See [`Message::Order`].
    Order(fsm::Heard),
    /// See [`Message::Persist`].
    Persist(Verified<Vote>),
    /// See [`Message::Batch`].
    Batch(Verified<CheckedBatch>),
    /// See [`Message::Held`].
    Held(Vec<Digest>),
    /// See [`Message::Fetch`].
    Fetch(Vec<Digest>),
    /// See [`Message::Request`].
    Request(Height),
    /// See [`Message::Extent`]; headers are linked and certified, bodies are what the headers bind.
    Extent(Verified<Extent>),
    /// See [`Message::Certificate`].
    Certificate(Verified<Certificate>),
    /// See [`Message::Overlay`].
    Overlay(Bytes),
    /// See [`Message::Engine`].
    Engine(Bytes),
    /// See [`Message::Key`].
    Key(Verified<NextKey>),
    /// See [`Message::Beacon`]; whether it holds shows when parts are put together.
    Beacon(Digest, BeaconPart),
    /// See [`Message::Vacant`].
    Vacant(ViewId),
    /// See [`Message::Snapshot`].
    Snapshot(Verified<CheckpointVote>),
    /// See [`Message::Bootstrap`]; within its bounds, and not a signature in it is checked.
    Bootstrap(Box<bootstrap::Message>),
    /// See [`Message::Pruned`].
    Pruned(Height),
    /// See [`Message::Shorter`].
    Shorter(Height),
}

impl Heard {
    /// The view that it was checked in, where what it says means nothing in another.
    pub(super) fn view(&self) -> Option<ViewId> {
        match self {
            Heard::Order(message) => message.view(),
            Heard::Persist(vote) => Some(vote.ballot.view),
            Heard::Extent(extent) => Some(extent.certificate.ballot.view),
            Heard::Certificate(certificate) => Some(certificate.ballot.view),
            Heard::Batch(_) | Heard::Held(_) | Heard::Fetch(_) | Heard::Request(_) => None,
            Heard::Vacant(view) => Some(*view),
            Heard::Snapshot(vote) => Some(vote.view),
            Heard::Overlay(_) | Heard::Engine(_) | Heard::Key(_) | Heard::Beacon(..) => None,
            Heard::Bootstrap(_) | Heard::Pruned(_) | Heard::Shorter(_) => None,
        }
    }
}

/// Why a frame is dropped. Its sender is faulty, unless [`HearError::is_innocent`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HearError {
    /// It does not decode.
    #[error("frame: {0}")]
    Decode(#[from] DecodeError),
    /// The sender has no seat and said what only seats say.
    #[error("only a seat may say this")]
    NoSeat,
    /// It speaks of another view. From one below ours, its sender lags; one above shows that we do.
    #[error("said in view {got}")]
    OtherView {
        /// The view it names.
        got: ViewId,
    },
    /// A list or a link is wrong.
    #[error("malformed {what}")]
    Malformed {
        /// Which message.
        what: &'static str,
    },
    /// A proposal breaks a rule that its bytes alone decide.
    #[error("proposal: {0}")]
    Proposal(#[from] ProposalError),
    /// An ordering message is wrong.
    #[error(transparent)]
    Order(#[from] fsm::MessageError),
    /// A batch is wrong.
    #[error("batch: {0}")]
    Batch(#[from] GroupError),
    /// A certificate is wrong.
    #[error("certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// A signature does not hold.
    #[error("a signature does not hold")]
    BadSignature,
}

impl HearError {
    /// Whether a correct sender may have caused it, standing in another view than we.
    pub fn is_innocent(&self) -> bool {
        match self {
            HearError::OtherView { .. } | HearError::NoSeat => true,
            HearError::Certificate(CertificateError::OtherView { .. }) => true,
            HearError::Order(fsm::MessageError::OtherView { .. }) => true,
            HearError::Decode(_)
            | HearError::Malformed { .. }
            | HearError::Proposal(_)
            | HearError::Order(_)
            | HearError::Batch(_)
            | HearError::Certificate(_)
            | HearError::BadSignature => false,
        }
    }
}

/// What frames are checked against.
#[derive(Clone, Debug)]
pub struct Ears {
    /// The present view.
    pub view: View,
    /// Sizes from the genesis document.
    pub bounds: Bounds,
    /// Heights that may be ordered above a carried certificate.
    pub ahead_max: u32,
    /// The signature scheme.
    pub verifier: Verifier,
}

/// A frame of which only the signatures are still to be checked.
#[derive(Debug)]
pub struct Opened {
    /// Not to be let out before `checks` hold.
    heard: Heard,
    checks: Vec<Check>,
}

impl Opened {
    /// What it says, for checks that are stricter than those of its format.
    pub(crate) fn claim(&self) -> &Heard {
        &self.heard
    }

    /// The signatures that are still to be checked.
    pub(crate) fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Leaves out the checks that are known to hold, as the very same signature was checked before.
    pub(crate) fn skip(&mut self, mut is_known: impl FnMut(&Check) -> bool) {
        self.checks.retain(|check| !is_known(check));
    }
}

impl Ears {
    /// Decodes and checks a frame from `from`. Pure and heavy: the driver runs it off the replica's
    /// thread.
    pub fn hear(&self, from: &MemberId, frame: &[u8]) -> Result<Heard, HearError> {
        let opened = self.open(from, frame)?;
        self.all_valid(&opened.checks)?;
        Ok(opened.heard)
    }

    /// Checks the signatures of several frames together, which is cheaper than one by one; a bad
    /// one costs its own frame alone.
    pub fn judge(&self, opened: Vec<Opened>) -> Vec<Result<Heard, HearError>> {
        let checks = opened.iter().flat_map(|one| one.checks.iter().cloned());
        let checks: Vec<Check> = checks.collect();
        let all = self.verifier.all_valid(&checks);
        let judged = opened.into_iter().map(|one| {
            if !all {
                self.all_valid(&one.checks)?;
            }
            Ok(one.heard)
        });
        judged.collect()
    }

    /// The law that evidence is checked against.
    pub fn law(&self) -> Law<'_> {
        Law {
            view: &self.view,
            bounds: &self.bounds,
            ahead_max: self.ahead_max,
            verifier: &self.verifier,
        }
    }

    /// Whom a frame that was refused convicts: its leader signed a proposal that nobody may vote
    /// for. Anything else that is refused proves nothing, and is the business of its link.
    pub fn convict(&self, frame: &[u8], refused: &HearError) -> Option<Fault> {
        if !matches!(refused, HearError::Proposal(_) | HearError::BadSignature) {
            return None;
        }
        self.convict_message(codec::decode(frame, ENCODED_BYTES_MAX).ok()?)
    }

    /// As [`Ears::convict`], of a refused message.
    pub(crate) fn convict_message(&self, message: Message) -> Option<Fault> {
        let Message::Order(fsm::Message::Propose(vote, payload)) = message else {
            return None;
        };
        let evidence = Evidence::Proposal(vote, payload.bytes);
        let (seat, kind) = evidence.check(&self.law()).ok()?;
        Some(Fault {
            who: self.view.member(seat)?,
            kind,
            evidence: Some(Box::new(evidence)),
        })
    }

    /// Decodes a frame from `from` and checks everything but its signatures.
    pub fn open(&self, from: &MemberId, frame: &[u8]) -> Result<Opened, HearError> {
        self.open_message(from, codec::decode(frame, ENCODED_BYTES_MAX)?)
    }

    /// Checks a message from `from` as [`Ears::hear`] checks its frame, whose bytes it spares.
    pub(crate) fn hear_message(
        &self,
        from: &MemberId,
        message: Message,
    ) -> Result<Heard, HearError> {
        let opened = self.open_message(from, message)?;
        self.all_valid(&opened.checks)?;
        Ok(opened.heard)
    }

    fn open_message(&self, from: &MemberId, message: Message) -> Result<Opened, HearError> {
        let seat = self.view.seat_of(from);
        match message {
            Message::Order(order) => self.order(seat, order),
            Message::Persist(vote) => {
                self.is_ours(vote.ballot.view)?;
                let is_sender = Some(vote.seat) == seat && vote.ballot.kind == Kind::Persist;
                if !is_sender || vote.ballot.regency.0 != 0 {
                    return Err(HearError::NoSeat);
                }
                let check = vote.check(&self.view).ok_or(HearError::BadSignature)?;
                Ok(Opened {
                    heard: Heard::Persist(Verified::vouch(vote)),
                    checks: vec![check],
                })
            }
            Message::Batch(bytes) => {
                let chain = self.view.chain();
                let (batch, checks) = CheckedBatch::decode(bytes, chain, &self.bounds)?;
                let heard = Heard::Batch(Verified::vouch(batch));
                Ok(Opened { heard, checks })
            }
            Message::Held(digests) => bounded(digests, "held").map(Heard::Held).map(plain),
            Message::Fetch(digests) => bounded(digests, "fetch").map(Heard::Fetch).map(plain),
            Message::Request(from) => Ok(plain(Heard::Request(from))),
            Message::Extent(extent) => self.extent(extent),
            Message::Certificate(certificate) => {
                let checks = self.certificate_checks(&certificate)?;
                let heard = Heard::Certificate(Verified::vouch(certificate));
                Ok(Opened { heard, checks })
            }
            Message::Overlay(bytes) => Ok(plain(Heard::Overlay(bytes))),
            Message::Engine(bytes) => Ok(plain(Heard::Engine(bytes))),
            Message::Key(key) => {
                if key.member() != *from {
                    return Err(HearError::Malformed { what: "key" });
                }
                let checks = key.checks(self.view.chain()).to_vec();
                let heard = Heard::Key(Verified::vouch(*key));
                Ok(Opened { heard, checks })
            }
            Message::Beacon(freeze, part) if part.is_sized() => {
                Ok(plain(Heard::Beacon(freeze, part)))
            }
            Message::Beacon(..) => Err(HearError::Malformed { what: "beacon" }),
            Message::Vacant(view) => {
                self.is_ours(view)?;
                seat.ok_or(HearError::NoSeat)?;
                Ok(plain(Heard::Vacant(view)))
            }
            Message::Snapshot(vote) => self.seat_snapshot(seat, vote),
            Message::Bootstrap(message) if message.is_bounded() => {
                Ok(plain(Heard::Bootstrap(message)))
            }
            Message::Bootstrap(_) => Err(HearError::Malformed { what: "bootstrap" }),
            Message::Pruned(first) => Ok(plain(Heard::Pruned(first))),
            Message::Shorter(height) => Ok(plain(Heard::Shorter(height))),
        }
    }

    fn seat_snapshot(&self, seat: Option<Seat>, vote: CheckpointVote) -> Result<Opened, HearError> {
        self.is_ours(vote.view)?;
        let is_sender = Some(vote.seat) == seat;
        is_sender.then_some(()).ok_or(HearError::NoSeat)?;
        let check = vote.check(&self.view).ok_or(HearError::BadSignature)?;
        Ok(Opened {
            heard: Heard::Snapshot(Verified::vouch(vote)),
            checks: vec![check],
        })
    }

    fn order(&self, seat: Option<Seat>, order: fsm::Message) -> Result<Opened, HearError> {
        order.view().map_or(Ok(()), |view| self.is_ours(view))?;
        if let fsm::Message::Payload(_, payload) = &order
            && let Ok(proposal) = Proposal::from_bytes(&payload.bytes)
        {
            self.is_ours(proposal.view)?; // Asked for before a hand-over.
        }
        let seat = seat.ok_or(HearError::NoSeat)?;
        let mut checks = order.checks(&self.view, seat)?;
        let brought = match &order {
            fsm::Message::Propose(vote, payload) => Some((vote.ballot.height, payload)),
            fsm::Message::Decision(proof, payload) => Some((proof.ballot.height, payload)),
            fsm::Message::Payload(height, payload) => Some((*height, payload)),
            fsm::Message::Vote(_) | fsm::Message::Stop(_) | fsm::Message::Sync(_) => None,
            fsm::Message::StopData(..) | fsm::Message::Fetch(..) => None,
            fsm::Message::Status(_) | fsm::Message::Recall(_) => None,
        };
        if let Some((height, payload)) = brought {
            checks.extend(self.payload_checks(height, payload)?);
        }
        let heard = Heard::Order(Verified::vouch(order));
        Ok(Opened { heard, checks })
    }

    /// Checks a block certificate.
    pub fn certificate(
        &self,
        certificate: Certificate,
    ) -> Result<Verified<Certificate>, HearError> {
        self.all_valid(&self.certificate_checks(&certificate)?)?;
        Ok(Verified::vouch(certificate))
    }

    fn certificate_checks(&self, certificate: &Certificate) -> Result<Vec<Check>, HearError> {
        let ballot = certificate.ballot;
        self.is_ours(ballot.view)?;
        if ballot.kind != Kind::Persist || ballot.regency.0 != 0 {
            return Err(HearError::Malformed {
                what: "certificate",
            });
        }
        Ok(certificate.checks(&self.view)?)
    }

    /// A payload is an encoded proposal, and its digest is the proposal's. Everything that decides
    /// its validity and needs no state is checked here, the signatures of its inline batches and of
    /// its certificate among it.
    fn payload_checks(
        &self,
        height: Height,
        payload: &fsm::Payload,
    ) -> Result<Vec<Check>, HearError> {
        let proposal = Proposal::from_bytes(&payload.bytes)?;
        let checks = proposal.checks(&self.view, height, &self.bounds, self.ahead_max)?;
        if proposal.digest() != payload.digest {
            return Err(HearError::Malformed { what: "payload" });
        }
        Ok(checks)
    }

    fn extent(&self, extent: Extent) -> Result<Opened, HearError> {
        let malformed = Err(HearError::Malformed { what: "extent" });
        if extent.blocks.is_empty() || extent.blocks.len() > EXTENT_BLOCKS_MAX {
            return malformed;
        }
        let mut parent: Option<(&Header, Digest)> = None;
        for Block { header, body } in &extent.blocks {
            let is_linked =
                parent.is_none_or(|(before, digest)| header.follows(before, &digest).is_ok());
            if !is_linked || header.body != body.root() || header.chain != *self.view.chain() {
                return malformed;
            }
            parent = Some((header, header.digest()));
        }
        let ballot = extent.certificate.ballot;
        let is_covered = parent.is_some_and(|(header, digest)| {
            ballot.kind == Kind::Persist
                && ballot.height == header.height
                && ballot.digest == digest
                && ballot.regency.0 == 0
        });
        if !is_covered {
            return malformed;
        }
        let checks = extent.certificate.checks(&self.view)?;
        let heard = Heard::Extent(Verified::vouch(extent));
        Ok(Opened { heard, checks })
    }

    fn is_ours(&self, got: ViewId) -> Result<(), HearError> {
        if got == self.view.id() {
            Ok(())
        } else {
            Err(HearError::OtherView { got })
        }
    }

    fn all_valid(&self, checks: &[Check]) -> Result<(), HearError> {
        if self.verifier.all_valid(checks) {
            Ok(())
        } else {
            Err(HearError::BadSignature)
        }
    }
}

/// What carries no signature of its own.
fn plain(heard: Heard) -> Opened {
    let checks = Vec::new();
    Opened { heard, checks }
}

fn bounded(digests: Vec<Digest>, what: &'static str) -> Result<Vec<Digest>, HearError> {
    if digests.is_empty() || digests.len() > DIGESTS_MAX {
        return Err(HearError::Malformed { what });
    }
    Ok(digests)
}
