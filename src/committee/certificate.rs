//! Certificates: the signatures of a quorum of one view over one ballot.
//!
//! Source: SmartChain block certificates. In: verified votes. Out: [`Certificate`], checked against
//! a view.
//! Holds: signers are distinct by construction; as many signatures as signers, in seat order.
//! Elsewhere: what the digest names (`blocks`).

use serde::{Deserialize, Serialize};

use super::{Ballot, SEATS_MAX, Seat, View, Vote};
use crate::crypto::{Check, Digest, Domain, Hasher, Signature, Verified, Verifier};

/// A set of seats as a bitmap, least significant bit first, without trailing zero bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeatSet(Vec<u8>);

impl SeatSet {
    /// Adds `seat`; whether it is new.
    pub fn insert(&mut self, seat: Seat) -> bool {
        let (byte, bit) = (seat.index() / 8, 1u8 << (seat.index() % 8));
        if self.0.len() <= byte {
            self.0.resize(byte + 1, 0);
        }
        let is_new = self.0[byte] & bit == 0;
        self.0[byte] |= bit;
        is_new
    }

    /// Whether `seat` is in it.
    pub fn contains(&self, seat: Seat) -> bool {
        self.0
            .get(seat.index() / 8)
            .is_some_and(|byte| byte & (1 << (seat.index() % 8)) != 0)
    }

    /// How many seats.
    pub fn count(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// The seats in order.
    pub fn iter(&self) -> impl Iterator<Item = Seat> + '_ {
        let seats = u16::try_from(self.0.len() * 8).unwrap_or(u16::MAX);
        (0..seats).map(Seat).filter(|seat| self.contains(*seat))
    }

    /// The bitmap.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether one set has one form only: no trailing zero byte, no seat beyond the largest
    /// committee.
    pub fn is_canonical(&self) -> bool {
        self.0.last() != Some(&0) && self.0.len() <= SEATS_MAX.div_ceil(8)
    }
}

impl FromIterator<Seat> for SeatSet {
    fn from_iter<I: IntoIterator<Item = Seat>>(seats: I) -> Self {
        let mut set = Self::default();
        for seat in seats {
            set.insert(seat);
        }
        set
    }
}

/// Why a certificate proves nothing. Whoever made or relayed it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It speaks of another view.
    #[error("certificate of view {got}, expected view {want}")]
    OtherView {
        /// The view it names.
        got: super::ViewId,
        /// The view it was checked against.
        want: super::ViewId,
    },
    /// Too few distinct seats.
    #[error("{have} signatures, the view needs {need}")]
    NoQuorum {
        /// Distinct signers.
        have: usize,
        /// A quorum.
        need: usize,
    },
    /// Signers and signatures do not match, or the bitmap is not canonical.
    #[error("{signers} signers with {signatures} signatures, or a bitmap that is not canonical")]
    Malformed {
        /// Seats in the bitmap.
        signers: usize,
        /// Signatures beside it.
        signatures: usize,
    },
    /// A signer has no seat or no key.
    #[error("seat {seat} has no key in this view")]
    NoSeat {
        /// The seat.
        seat: Seat,
    },
    /// A signature does not hold.
    #[error("a signature does not hold")]
    BadSignature,
}

/// The signatures of a quorum over one ballot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// What is certified.
    pub ballot: Ballot,
    /// By whom.
    pub signers: SeatSet,
    /// Their signatures, in seat order.
    pub signatures: Vec<Signature>,
}

impl Certificate {
    /// Puts checked votes over one ballot together; nothing unless `view` has a quorum among them.
    pub fn assemble<'a>(
        view: &View,
        votes: impl IntoIterator<Item = &'a Verified<Vote>>,
    ) -> Option<Verified<Certificate>> {
        let mut votes: Vec<&Vote> = votes.into_iter().map(|vote| &**vote).collect();
        votes.sort_by_key(|vote| vote.seat);
        votes.dedup_by_key(|vote| vote.seat);
        let ballot = votes.first()?.ballot;
        assert!(
            votes.iter().all(|vote| vote.ballot == ballot),
            "one certificate, one ballot"
        );
        votes.truncate(view.sizes().q);
        if votes.len() < view.sizes().q {
            return None;
        }
        let signers = votes.iter().map(|vote| vote.seat).collect();
        let signatures = votes.iter().map(|vote| vote.signature).collect();
        Some(Verified::vouch(Self {
            ballot,
            signers,
            signatures,
        }))
    }

    /// The signatures to check, after everything that needs none.
    pub fn checks(&self, view: &View) -> Result<Vec<Check>, CertificateError> {
        if self.ballot.view != view.id() {
            return Err(CertificateError::OtherView {
                got: self.ballot.view,
                want: view.id(),
            });
        }
        let (signers, signatures) = (self.signers.count(), self.signatures.len());
        if signers != signatures || !self.signers.is_canonical() {
            return Err(CertificateError::Malformed {
                signers,
                signatures,
            });
        }
        let need = view.sizes().q;
        if signers < need {
            return Err(CertificateError::NoQuorum {
                have: signers,
                need,
            });
        }
        let statement = self.ballot.sign_bytes(view.chain());
        let mut checks = Vec::with_capacity(signers);
        for (seat, signature) in self.signers.iter().zip(&self.signatures) {
            let key = view.key(seat).ok_or(CertificateError::NoSeat { seat })?;
            checks.push(Check {
                key,
                statement: statement.clone(),
                signature: *signature,
            });
        }
        Ok(checks)
    }

    /// Checks everything under `view`.
    pub fn verify(
        self,
        view: &View,
        verifier: &Verifier,
    ) -> Result<Verified<Certificate>, CertificateError> {
        let checks = self.checks(view)?;
        if !verifier.all_valid(&checks) {
            return Err(CertificateError::BadSignature);
        }
        Ok(Verified::vouch(self))
    }

    /// The digest of all of it: a proposal that carries a certificate is bound to its bytes.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::Proposal);
        hasher.update(&[self.ballot.kind as u8]);
        hasher.update(&self.ballot.view.0.to_le_bytes());
        hasher.update(&self.ballot.regency.0.to_le_bytes());
        hasher.update(&self.ballot.height.0.to_le_bytes());
        hasher.update(self.ballot.digest.as_bytes());
        let bitmap = self.signers.as_bytes();
        hasher.update(
            &u32::try_from(bitmap.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        hasher.update(bitmap);
        for signature in &self.signatures {
            hasher.update(&signature.0);
        }
        hasher.finish()
    }
}
