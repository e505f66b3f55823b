//! One member in the register.
//!
//! Source: design of membership in the chain. In: admissions. Out: what the chain says of a member.
//! Holds: only who has a vote is counted; only who has caught up, with a key and a weight, may be
//! drawn. Elsewhere: how a status changes (`act`, `next`).

use serde::{Deserialize, Serialize};

use super::operation::Request;
use crate::blocks::body;
use crate::committee::{Height, KeyProof, ViewId};
use crate::crypto::{Digest, PublicKey};

/// What the chain says of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The members want it; it has not asked yet. It is not listed.
    Invited,
    /// It is listed and has not shown that it caught up.
    Joining,
    /// It may be drawn and has no seat.
    CaughtUp,
    /// It has a seat in the present view.
    Seated,
    /// It asked to leave: it has no vote any more, and the next view is made without it.
    Leaving,
    /// It was excluded: it has no vote any more, and the next view is made without it.
    Excluded,
}

impl Status {
    /// Its name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Invited => "invited",
            Status::Joining => "joining",
            Status::CaughtUp => "caught_up",
            Status::Seated => "seated",
            Status::Leaving => "leaving",
            Status::Excluded => "excluded",
        }
    }

    /// Whether it is listed and neither leaves nor is excluded: it votes on changes.
    pub const fn has_vote(self) -> bool {
        matches!(self, Status::Joining | Status::CaughtUp | Status::Seated)
    }

    /// Whether it has caught up and stays.
    pub const fn is_ready(self) -> bool {
        matches!(self, Status::CaughtUp | Status::Seated)
    }
}

/// A consensus key that the chain certifies, and what its proofs speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certified {
    /// The key.
    pub proof: KeyProof,
    /// The view of its proofs: 0 at admission.
    pub view: ViewId,
    /// The assemble block of its proofs: zero at admission.
    pub assemble: Digest,
}

impl Certified {
    /// A key from admission.
    pub fn admitted(proof: KeyProof) -> Self {
        Self {
            proof,
            view: ViewId(0),
            assemble: Digest::ZERO,
        }
    }
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its identity key; its id is the digest of it.
    pub identity: PublicKey,
    /// Counts admissions: votes stand under it, also when the identity key changes.
    pub number: u32,
    /// What it said of itself; empty while it is only invited.
    pub name: String,
    /// Where members reach it, `host:port`; may be empty.
    pub address: String,
    /// Words about it, ascending.
    pub tags: Vec<String>,
    /// Virtual positions on each ring.
    pub weight: u32,
    /// Its certified consensus key.
    pub key: Option<Certified>,
    /// When it was admitted, or invited.
    pub admitted: Height,
    /// What the chain says of it.
    pub status: Status,
    /// Whether it has a seat in the present view, whatever its status is by now.
    pub is_seated: bool,
    /// The member that leaves when this one has caught up.
    pub replaces: Option<crate::committee::MemberId>,
}

impl Member {
    /// A member that was invited and says nothing of itself yet.
    pub(super) fn invited(identity: PublicKey, number: u32, height: Height) -> Self {
        Self {
            identity,
            number,
            name: String::new(),
            address: String::new(),
            tags: Vec::new(),
            weight: 1,
            key: None,
            admitted: height,
            status: Status::Invited,
            is_seated: false,
            replaces: None,
        }
    }

    /// It joins with what it says of itself.
    pub(super) fn join(&mut self, request: Request, height: Height) {
        let Request {
            name,
            address,
            tags,
            key,
        } = request;
        (self.name, self.address, self.tags) = (name, address, tags);
        self.key = Some(Certified::admitted(key));
        self.admitted = height;
        self.status = Status::Joining;
    }

    /// Whether members speak with it: from when it joined until it is out of its last view.
    pub fn is_met(&self) -> bool {
        self.is_seated || self.status.has_vote()
    }

    /// Its consensus key.
    pub fn consensus(&self) -> Option<PublicKey> {
        self.key.map(|certified| certified.proof.key)
    }

    /// Whether it may be drawn: it has caught up, has a key and weighs something.
    pub fn is_drawable(&self) -> bool {
        self.status.is_ready() && self.key.is_some() && self.weight > 0
    }

    /// What a reconfiguration block says of it; nothing without a vote or a key.
    pub fn listed(&self) -> Option<body::Listed> {
        let certified = self.key.filter(|_| self.status.has_vote())?;
        Some(body::Listed {
            identity: self.identity,
            name: self.name.clone(),
            address: self.address.clone(),
            weight: self.weight,
            admitted: certified.proof,
        })
    }

    /// Bytes that it takes in the list of a reconfiguration block, its tags counted too.
    pub(super) fn bytes(&self) -> usize {
        let tags: usize = self.tags.iter().map(|tag| 8 + tag.len()).sum();
        LISTED_BYTES + self.name.len() + self.address.len() + tags
    }
}

/// Bytes of a listed member beside its texts: two keys, two signatures, weight and lengths.
const LISTED_BYTES: usize = 32 + 160 + 8 + 8 + 8;
