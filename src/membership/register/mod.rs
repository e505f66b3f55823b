//! The register: the members as the chain certifies them, and the operations that change them.
//!
//! Source: design of membership in the chain. In: the genesis document, operations in the order of
//! the chain with their signers, reconfiguration blocks. Out: an outcome for each operation, the
//! list and the candidates of the next view.
//! Holds: it follows from the decided prefix alone; every part has a bound; what is refused changes
//! nothing; somebody can be drawn at any time; no two members share a key, and no identity key is a
//! consensus key; only members who have a vote are counted.
//! Elsewhere: which transactions execute (`consortium::ledger`), when a view gives way
//! (`fsm::view`), what others follow (`list`).

mod act;
mod audit;
mod ballot;
mod generation;
mod marks;
mod member;
mod next;
mod operation;
mod refusal;
mod rows;
mod slate;
mod text;
mod vote;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

pub use self::audit::{AUDIT_MAX, Audit, Deed, Entry, Say};
pub use self::ballot::{
    BALLOT_BLOCKS_MAX, BALLOTS_MAX, BALLOTS_PER_MEMBER_MAX, Ballot, Majority, REQUESTS_MAX,
};
pub use self::generation::{DEALINGS_BYTES_MAX, Generation, Stage, ThresholdKey};
pub use self::marks::{MARK_EVERY, MARKS_MAX, Marks};
pub use self::member::{Certified, Member, Status};
pub use self::operation::{
    Complaint, EVIDENCE_MAX, MalformedError, Motion, OWN, Operation, Request, Step, is_own,
};
pub use self::refusal::Refusal;
pub use self::rows::{ROW_KEYS, RowsError};
pub use self::slate::{CommitteeError, Footing, Slate, Stake};
pub use self::text::{TAG_BYTES_MAX, TAGS_MAX, is_tags};
use crate::blocks::{Bounds, Clients, Genesis, Outcome, ViewRules};
use crate::committee::{Height, KeyProof, MemberId, SeatKey, ViewId};
use crate::crypto::{Digest, PublicKey, Verifier};

/// Bytes of the list of a reconfiguration block, at most, tags counted too: it must fit a proposal
/// beside 256 seats and a certificate. A further member or a longer text is refused.
pub const LIST_BYTES_MAX: usize = 768 << 10;

/// Where an operation executes, and what it is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The height of its block.
    pub height: Height,
    /// Recent blocks below it.
    pub marks: &'a Marks,
    /// Sizes that proposals obey, for evidence.
    pub bounds: &'a Bounds,
    /// Heights that may be ordered above a carried certificate, for evidence.
    pub ahead_max: u32,
    /// The signature scheme.
    pub verifier: &'a Verifier,
}

/// What an operation did. Its bytes stand in the outcome of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It holds.
    Effective,
    /// It waits for votes.
    Open {
        /// What names the ballot.
        ballot: Digest,
        /// Approvals that count now.
        approvals: u32,
        /// Approvals that carry it.
        needed: u32,
    },
    /// Too many rejected it: the ballot is over.
    Fell,
}

impl Done {
    /// `00`; or `01`, the ballot, approvals and needed ones; or `02`.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Done::Effective => Bytes::from_static(&[0]),
            Done::Fell => Bytes::from_static(&[2]),
            Done::Open {
                ballot,
                approvals,
                needed,
            } => {
                let mut bytes = vec![1];
                bytes.extend_from_slice(ballot.as_bytes());
                bytes.extend_from_slice(&approvals.to_le_bytes());
                bytes.extend_from_slice(&needed.to_le_bytes());
                bytes.into()
            }
        }
    }

    /// Reads what [`Done::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(Done::Effective),
            [2] => Some(Done::Fell),
            [1, rest @ ..] => {
                let (ballot, rest) = rest.split_first_chunk::<32>()?;
                let (approvals, rest) = rest.split_first_chunk()?;
                let (needed, rest) = rest.split_first_chunk()?;
                rest.is_empty().then_some(Done::Open {
                    ballot: Digest(*ballot),
                    approvals: u32::from_le_bytes(*approvals),
                    needed: u32::from_le_bytes(*needed),
                })
            }
            _ => None,
        }
    }
}

/// A newcomer's request that waits for approval.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Asked {
    identity: PublicKey,
    height: Height,
    request: Request,
}

/// The members as the chain certifies them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    chain: Digest,
    /// The present view and its seats.
    view: ViewId,
    seats: Vec<SeatKey>,
    members: BTreeMap<MemberId, Member>,
    /// The number of the next admission.
    number: u32,
    requests: BTreeMap<MemberId, Asked>,
    ballots: BTreeMap<Digest, Ballot>,
    /// None where any client may submit.
    clients: Option<BTreeSet<PublicKey>>,
    /// The rules of the next view.
    rules: ViewRules,
    /// What the present view was made of.
    base: Footing,
    /// What the next view will be made of, once that is fixed.
    frozen: Option<Slate>,
    /// The threshold key of the committee that is named, under way.
    generation: Option<Generation>,
    /// The threshold key of the present committee.
    threshold: Option<ThresholdKey>,
    /// Seated members that asked for a fresh key since the present view began.
    renewals: BTreeSet<MemberId>,
    audit: Audit,
}

impl Register {
    /// The register at height 0: the founders, who all have a seat.
    pub fn genesis(genesis: &Genesis) -> Self {
        let founders = (0..).zip(&genesis.founders).map(|(number, founder)| {
            let member = Member {
                name: founder.name.clone(),
                address: founder.address.clone(),
                key: founder.consensus.map(Certified::admitted),
                status: Status::Seated,
                is_seated: true,
                ..Member::invited(founder.identity, number, Height(0))
            };
            (MemberId::of(&founder.identity), member)
        });
        let seats = genesis.founders.iter().map(|founder| SeatKey {
            member: MemberId::of(&founder.identity),
            key: founder.consensus.as_ref().map(|proof| proof.key),
        });
        let clients = match &genesis.parameters.clients {
            Clients::Open => None,
            Clients::Listed(keys) => Some(keys.iter().copied().collect()),
        };
        let mut register = Self {
            chain: genesis.chain(),
            view: ViewId(0),
            seats: seats.collect(),
            members: founders.collect(),
            number: u32::try_from(genesis.founders.len()).unwrap_or(u32::MAX),
            requests: BTreeMap::new(),
            ballots: BTreeMap::new(),
            clients,
            rules: genesis.parameters.views,
            base: Footing::default(),
            frozen: None,
            generation: None,
            threshold: None,
            renewals: BTreeSet::new(),
            audit: Audit::default(),
        };
        register.base = register.footing();
        register
    }

    /// Carries out one operation of the ledger, signed by `signer`.
    ///
    /// A refusal changes nothing; its code is that of [`Refusal`] and it has no bytes. What was
    /// done has code 0 and the bytes of [`Done`]. Checks the two signatures of one key proof, or
    /// those of evidence.
    pub fn execute(&mut self, place: &Place<'_>, signer: &PublicKey, operation: &[u8]) -> Outcome {
        let done = match Operation::from_bytes(operation) {
            Ok(operation) => self.act(place, signer, operation),
            Err(MalformedError) => Err(Refusal::Malformed),
        };
        match done {
            Ok(done) => Outcome {
                code: 0,
                bytes: done.to_bytes(),
            },
            Err(refusal) => Outcome {
                code: refusal.code(),
                bytes: Bytes::new(),
            },
        }
    }

    /// Whether an operation of the ledger, which was carried out, asks for a snapshot.
    pub fn asks_snapshot(operation: &[u8], outcome: &Outcome) -> bool {
        outcome.code == 0 && Operation::from_bytes(operation) == Ok(Operation::Snapshot)
    }

    /// The chain.
    pub fn chain(&self) -> &Digest {
        &self.chain
    }

    /// The present view.
    pub fn view(&self) -> ViewId {
        self.view
    }

    /// The seats of the present view.
    pub fn seats(&self) -> &[SeatKey] {
        &self.seats
    }

    /// Everybody in the register by ascending id, also who is only invited, leaves, or is excluded.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&MemberId, &Member)> {
        self.members.iter()
    }

    /// The member of that id.
    pub fn get(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(id)
    }

    /// Newcomers that asked and wait for approval: id, identity key, what they say, and when.
    pub fn requests(&self) -> impl Iterator<Item = (&MemberId, &PublicKey, &Request, Height)> {
        self.requests
            .iter()
            .map(|(id, asked)| (id, &asked.identity, &asked.request, asked.height))
    }

    /// Open ballots by what names them; those that are over stay until the next one opens.
    pub fn ballots(&self) -> impl Iterator<Item = (&Digest, &Ballot)> {
        self.ballots.iter()
    }

    /// The members who approved a ballot and have a vote.
    pub fn approvals(&self, ballot: &Ballot) -> Vec<MemberId> {
        self.of_numbers(&ballot.approvals)
    }

    /// The members who rejected a ballot and have a vote.
    pub fn rejections(&self, ballot: &Ballot) -> Vec<MemberId> {
        self.of_numbers(&ballot.rejections)
    }

    fn of_numbers(&self, numbers: &BTreeSet<u32>) -> Vec<MemberId> {
        let counts = |member: &Member| member.status.has_vote() && numbers.contains(&member.number);
        let found = self.members.iter().filter(|(_, member)| counts(member));
        found.map(|(id, _)| *id).collect()
    }

    /// How many members have a vote and how many votes a change needs.
    pub fn majority(&self) -> Majority {
        let voters = self.members.values().filter(|m| m.status.has_vote());
        Majority::of(voters.count())
    }

    /// Whether `client` may submit operations of the application.
    pub fn is_client(&self, client: &PublicKey) -> bool {
        self.clients
            .as_ref()
            .is_none_or(|keys| keys.contains(client))
    }

    /// The listed clients; none where any client may submit.
    pub fn clients(&self) -> Option<&BTreeSet<PublicKey>> {
        self.clients.as_ref()
    }

    /// Whether `key` is the identity key of somebody who is in the register, asked to be, or is
    /// about to be invited: it may submit operations of the ledger.
    pub fn knows(&self, key: &PublicKey) -> bool {
        let id = MemberId::of(key);
        let is_newcomer = |ballot: &Ballot| ballot.motion.newcomer() == Some(key);
        self.members.contains_key(&id)
            || self.requests.contains_key(&id)
            || self.ballots.values().any(is_newcomer)
    }

    /// The rules of the next view.
    pub fn rules(&self) -> &ViewRules {
        &self.rules
    }

    /// The rules of the present view.
    pub fn present_rules(&self) -> &ViewRules {
        &self.base.rules
    }

    /// The newest entries of the audit trail.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Whether anything changed since genesis.
    pub fn is_touched(&self) -> bool {
        self.audit.count() > 0 || self.frozen.is_some()
    }

    fn note(&mut self, height: Height, by: Option<MemberId>, member: Option<MemberId>, deed: Deed) {
        self.audit.push(Entry {
            height,
            by,
            member,
            deed,
        });
    }

    /// Whether a consensus key is anybody's: certified, in the present view, or asked for.
    pub(crate) fn uses(&self, key: &PublicKey) -> bool {
        let is_members =
            |member: &Member| member.identity == *key || member.consensus() == Some(*key);
        let is_asked = |asked: &Asked| asked.identity == *key || asked.request.key.key == *key;
        self.members.values().any(is_members)
            || self.requests.values().any(is_asked)
            || self.seats.iter().any(|seat| seat.key == Some(*key))
    }

    /// Whether the proofs of a key from admission hold.
    fn is_proved(&self, place: &Place<'_>, identity: &PublicKey, proof: &KeyProof) -> bool {
        let checks = proof.checks(&self.chain, ViewId(0), &Digest::ZERO, identity);
        place.verifier.all_valid(&checks)
    }

    /// Bytes of the list, tags counted, with everybody who may come into it.
    fn list_bytes(&self) -> usize {
        self.members.values().map(Member::bytes).sum()
    }

    /// Weights of everybody who is or may be listed.
    fn positions(&self) -> usize {
        self.members
            .values()
            .map(|member| member.weight as usize)
            .sum()
    }
}
