//! A view: a committee with its keys.
//!
//! Source: design of reconfiguration blocks. In: seats. Out: keys by seat, seats by member, leaders
//! by regency.
//! Holds: seats are distinct members with distinct keys; at most f seats are dead (without a key).
//! Elsewhere: how the next view comes about (`fsm::view`).

use serde::{Deserialize, Serialize};

use super::{Height, MemberId, Regency, Seat, Sizes, ViewId, ring_order};
use crate::crypto::{Check, Digest, PublicKey, SecretKey, SignBytes, Signature, Tag};

/// The largest committee.
pub const SEATS_MAX: usize = 256;

/// A consensus key with both proofs: its secret is held, and the identity vouches for it.
///
/// Founders' proofs speak of no chain, since the chain's name is made of them: `chain` is zero
/// there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyProof {
    /// The consensus key.
    pub key: PublicKey,
    /// The consensus key's signature: its secret is held.
    pub possession: Signature,
    /// The identity key's signature over the same fields: the member vouches for it.
    pub certified: Signature,
}

impl KeyProof {
    fn statements(
        chain: &Digest,
        view: ViewId,
        assemble: &Digest,
        identity: &PublicKey,
        key: &PublicKey,
    ) -> [SignBytes; 2] {
        [Tag::Possession, Tag::Certify].map(|tag| {
            SignBytes::new(tag, chain)
                .u64(view.0)
                .digest(assemble)
                .digest(&identity.0)
                .digest(&key.0)
        })
    }

    /// Makes the proofs of a key for `view`, announced by the assemble block `assemble` (zero at
    /// admission).
    pub fn make(
        chain: &Digest,
        view: ViewId,
        assemble: &Digest,
        identity: &SecretKey,
        consensus: &SecretKey,
    ) -> Self {
        let key = consensus.public();
        let [possess, certify] = Self::statements(chain, view, assemble, &identity.public(), &key);
        Self {
            key,
            possession: consensus.sign(&possess),
            certified: identity.sign(&certify),
        }
    }

    /// The two signatures to check.
    pub fn checks(
        &self,
        chain: &Digest,
        view: ViewId,
        assemble: &Digest,
        identity: &PublicKey,
    ) -> [Check; 2] {
        let [possess, certify] = Self::statements(chain, view, assemble, identity, &self.key);
        [
            Check {
                key: self.key,
                statement: possess,
                signature: self.possession,
            },
            Check {
                key: *identity,
                statement: certify,
                signature: self.certified,
            },
        ]
    }
}

/// One seat: a member and its consensus key in this view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatKey {
    /// Who sits.
    pub member: MemberId,
    /// Its key; a dead seat has none and still counts.
    pub key: Option<PublicKey>,
}

/// Why seats make no view. Whoever wrote the document or block is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// No seat, or more than [`SEATS_MAX`].
    #[error("a view has 1 to {SEATS_MAX} seats, not {seats}")]
    Size {
        /// How many there are.
        seats: usize,
    },
    /// A member sits twice or two seats share a key.
    #[error("seat {seat} repeats the member or the key of an earlier one")]
    Repeated {
        /// The later seat.
        seat: Seat,
    },
    /// More than f seats have no key.
    #[error("{dead} seats have no key, at most {most} may")]
    TooManyDead {
        /// Seats without key.
        dead: usize,
        /// f.
        most: usize,
    },
}

/// The block that opened a view: nothing at or below it is voted on there, and everybody who votes
/// in the view holds its certificate. Height 0 and no digest for view 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Its height.
    pub height: Height,
    /// Its header's digest.
    pub digest: Digest,
}

/// A committee with its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    id: ViewId,
    chain: Digest,
    opening: Opening,
    seats: Vec<SeatKey>,
    /// Seats that have a key, in the order in which they lead.
    leaders: Vec<Seat>,
}

impl View {
    /// Makes view `id` of `chain`; `seed` orders the leaders and comes from the block that made the
    /// view.
    pub fn new(
        id: ViewId,
        chain: Digest,
        seats: Vec<SeatKey>,
        seed: &Digest,
    ) -> Result<Self, ViewError> {
        if seats.is_empty() || seats.len() > SEATS_MAX {
            return Err(ViewError::Size { seats: seats.len() });
        }
        for (i, seat) in seats.iter().enumerate() {
            let repeats = |earlier: &SeatKey| {
                earlier.member == seat.member || (seat.key.is_some() && earlier.key == seat.key)
            };
            if seats[..i].iter().any(repeats) {
                return Err(ViewError::Repeated { seat: seat_at(i) });
            }
        }
        let (dead, most) = (
            seats.iter().filter(|s| s.key.is_none()).count(),
            Sizes::of(seats.len()).f,
        );
        if dead > most {
            return Err(ViewError::TooManyDead { dead, most });
        }
        let members: Vec<MemberId> = seats.iter().map(|seat| seat.member).collect();
        let order = ring_order(seed, 0, &members).into_iter();
        let leaders = order
            .filter(|i| seats[*i].key.is_some())
            .map(seat_at)
            .collect();
        Ok(Self {
            id,
            chain,
            opening: Opening::default(),
            seats,
            leaders,
        })
    }

    /// The same view, opened by the reconfiguration block at `opening`.
    pub fn opened_by(self, opening: Opening) -> Self {
        Self { opening, ..self }
    }

    /// The block that opened it.
    pub fn opening(&self) -> Opening {
        self.opening
    }

    /// Its id.
    pub fn id(&self) -> ViewId {
        self.id
    }

    /// The chain it belongs to.
    pub fn chain(&self) -> &Digest {
        &self.chain
    }

    /// n, f and q.
    pub fn sizes(&self) -> Sizes {
        Sizes::of(self.seats.len())
    }

    /// The seats in order.
    pub fn seats(&self) -> &[SeatKey] {
        &self.seats
    }

    /// The key of `seat`; nothing for a dead or unknown one.
    pub fn key(&self, seat: Seat) -> Option<PublicKey> {
        self.seats.get(seat.index())?.key
    }

    /// Who sits at `seat`.
    pub fn member(&self, seat: Seat) -> Option<MemberId> {
        Some(self.seats.get(seat.index())?.member)
    }

    /// Where `member` sits.
    pub fn seat_of(&self, member: &MemberId) -> Option<Seat> {
        self.seats
            .iter()
            .position(|seat| seat.member == *member)
            .map(seat_at)
    }

    /// Who leads `regency`: seats with a key take turns in ring order.
    pub fn leader(&self, regency: Regency) -> Seat {
        assert!(
            !self.leaders.is_empty(),
            "at most f of n seats are dead, so one is not"
        );
        let turn = regency.0 % self.leaders.len() as u64;
        self.leaders[usize::try_from(turn).expect("a turn is below the number of seats")]
    }
}

fn seat_at(index: usize) -> Seat {
    Seat(u16::try_from(index).expect("a view has at most 256 seats"))
}
