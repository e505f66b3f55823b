//! Certificates: the signatures of a quorum of one view over one ballot.
//!
//! Source: SmartChain block certificates. In: verified votes. Out: [`Certificate`], checked against
//! a view.
//! Holds: signers are distinct by construction; as many signatures as signers, in seat order.
//! Elsewhere: what the digest names (`blocks`).

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Ballot, Kind, SEATS_MAX, Seat, View, Vote};
use crate::crypto::{Check, Digest, Domain, Hasher, SIGN_VERSION, Signature, Verified, Verifier};
use crate::plant::{self, Plant};

/// A set of seats as a bitmap, least significant bit first, without trailing zero bytes; hex in
/// text.
///
/// One set has one form: reading refuses trailing zero bytes and seats beyond the largest
/// committee.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
        let seats = (0..self.0.len() * 8).filter_map(|index| u16::try_from(index).ok());
        seats.map(Seat).filter(|seat| self.contains(*seat))
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

impl Serialize for SeatSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&hex::encode(&self.0))
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for SeatSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            hex::decode(&text).map_err(serde::de::Error::custom)?
        } else {
            Vec::deserialize(deserializer)?
        };
        let set = Self(bytes);
        if !set.is_canonical() {
            return Err(serde::de::Error::custom("a bitmap that is not canonical"));
        }
        Ok(set)
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
    /// Signers and signatures do not match, or the bitmap or the ballot is not canonical.
    #[error("{signers} signers with {signatures} signatures, or a form that is not canonical")]
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
    /// Puts checked votes of `view` over one ballot together; nothing unless it has a quorum among
    /// them.
    pub fn assemble<'a>(
        view: &View,
        votes: impl IntoIterator<Item = &'a Verified<Vote>>,
    ) -> Option<Verified<Certificate>> {
        let mut votes: Vec<&Vote> = votes.into_iter().map(|vote| &**vote).collect();
        votes.sort_by_key(|vote| vote.seat);
        votes.dedup_by_key(|vote| vote.seat);
        let ballot = votes.first()?.ballot;
        if ballot.view != view.id() {
            return None;
        }
        assert!(
            votes.iter().all(|vote| vote.ballot == ballot),
            "one certificate, one ballot"
        );
        votes.truncate(view.sizes().q);
        let is_blind = plant::is(Plant::BlindAccept) && ballot.kind == Kind::Write;
        if votes.len() < view.sizes().q && !is_blind {
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
        let is_canonical = self.signers.is_canonical() && self.ballot.is_canonical();
        if signers != signatures || !is_canonical {
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

    /// The vote of `seat` in it.
    pub fn vote_of(&self, seat: Seat) -> Option<Vote> {
        let place = self.signers.iter().position(|signer| signer == seat)?;
        Some(Vote {
            ballot: self.ballot,
            seat,
            signature: *self.signatures.get(place)?,
        })
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
        let count = |n: usize| u32::try_from(n).expect("bounded inputs are shorter than 4 GiB");
        let bitmap = self.signers.as_bytes();
        let mut hasher = Hasher::new(Domain::Certificate);
        hasher.update(&[SIGN_VERSION, self.ballot.kind.code()]);
        hasher.update(&self.ballot.view.0.to_le_bytes());
        hasher.update(&self.ballot.regency.0.to_le_bytes());
        hasher.update(&self.ballot.height.0.to_le_bytes());
        hasher.update(self.ballot.digest.as_bytes());
        hasher.update(&count(bitmap.len()).to_le_bytes());
        hasher.update(bitmap);
        hasher.update(&count(self.signatures.len()).to_le_bytes());
        for signature in &self.signatures {
            hasher.update(&signature.0);
        }
        hasher.finish()
    }
}
