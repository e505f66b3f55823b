//! What a vote says, byte for byte.
//!
//! Source: `docs/formats.md`. In: view, regency, height, digest. Out: sign bytes.
//! Holds: every vote of every kind has the same fields in the same order behind its own tag.
//! Elsewhere: who may sign one (`voter`), how many make a certificate (`certificate`).

use serde::{Deserialize, Serialize};

use super::{Height, Regency, Seat, View, ViewId};
use crate::crypto::{Check, Digest, SignBytes, Signature, Tag, Verified, Verifier};

/// The kind of a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The leader names a proposal.
    Propose,
    /// The signer has checked the proposal and holds every byte of it.
    Write,
    /// The signer holds a WRITE certificate.
    Accept,
    /// The signer has executed and stored the block; its regency is always 0.
    Persist,
}

impl Kind {
    /// The byte that stands for the kind where a certificate is hashed.
    pub const fn code(self) -> u8 {
        match self {
            Kind::Propose => 0,
            Kind::Write => 1,
            Kind::Accept => 2,
            Kind::Persist => 3,
        }
    }

    /// Its name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Propose => "PROPOSE",
            Kind::Write => "WRITE",
            Kind::Accept => "ACCEPT",
            Kind::Persist => "PERSIST",
        }
    }

    /// The tag that opens the statement.
    pub const fn tag(self) -> Tag {
        match self {
            Kind::Propose => Tag::Propose,
            Kind::Write => Tag::Write,
            Kind::Accept => Tag::Accept,
            Kind::Persist => Tag::Persist,
        }
    }
}

/// What a vote says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ballot {
    /// What is promised.
    pub kind: Kind,
    /// In which view.
    pub view: ViewId,
    /// In which regency of it; 0 for PERSIST.
    pub regency: Regency,
    /// About which height.
    pub height: Height,
    /// The proposal's digest, or the header's for PERSIST.
    pub digest: Digest,
}

impl Ballot {
    /// Whether it has the one form of what it says: a PERSIST names regency 0, height 0 is never
    /// voted on.
    pub fn is_canonical(&self) -> bool {
        let is_regency_right = self.kind != Kind::Persist || self.regency == Regency(0);
        is_regency_right && self.height > Height(0)
    }

    /// The bytes that are signed.
    pub fn sign_bytes(&self, chain: &Digest) -> SignBytes {
        SignBytes::new(self.kind.tag(), chain)
            .u64(self.view.0)
            .u64(self.regency.0)
            .u64(self.height.0)
            .digest(&self.digest)
    }
}

/// A ballot and one seat's signature over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// What it says.
    pub ballot: Ballot,
    /// Who says it.
    pub seat: Seat,
    /// The seat's signature.
    pub signature: Signature,
}

impl Vote {
    /// The signature to check, or nothing when the seat does not exist, is dead, the view is
    /// another, or the ballot is not canonical.
    pub fn check(&self, view: &View) -> Option<Check> {
        if self.ballot.view != view.id() || !self.ballot.is_canonical() {
            return None;
        }
        let key = view.key(self.seat)?;
        let statement = self.ballot.sign_bytes(view.chain());
        Some(Check {
            key,
            statement,
            signature: self.signature,
        })
    }

    /// Checks the signature under `view`.
    pub fn verify(self, view: &View, verifier: &Verifier) -> Option<Verified<Vote>> {
        let check = self.check(view)?;
        let is_valid = verifier.is_valid(&check.key, &check.statement, &check.signature);
        is_valid.then(|| Verified::vouch(self))
    }
}
