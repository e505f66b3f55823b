//! The next committee: the first free successor on each ring.
//!
//! Source: the Consortium's committees by ring order, drawn anew for each view. In: the members
//! that may be drawn with their weights, a fresh seed, a number of seats.
//! Out: who sits, by seat.
//! Holds: nobody sits twice; the committee depends on seed, ids, weights and seats alone, never on
//! the order of the list; over fresh seeds every draw is uniform over the positions still free.
//! Elsewhere: how many seats (`risk`), where the seed comes from and who may be drawn
//! (`fsm::view`).

use super::{MemberId, SEATS_MAX, positions};
use crate::crypto::Digest;

/// Members on a list, at most.
pub const MEMBERS_MAX: usize = 4096;

/// The weight of one member, at most.
pub const WEIGHT_MAX: u32 = 256;

/// Virtual positions on one ring, at most: the weights of a list together.
pub const POSITIONS_MAX: usize = 8 * MEMBERS_MAX;

/// A member that may be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Who.
    pub member: MemberId,
    /// Its virtual positions on each ring; with none it is never drawn.
    pub weight: u32,
}

/// Why nobody can be drawn. Whoever wrote the list or the parameters is at fault; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrawError {
    /// No member has a weight above zero.
    #[error("no member has a weight above 0")]
    Nobody,
    /// More than [`MEMBERS_MAX`] members.
    #[error("{members} members, a list has at most {MEMBERS_MAX}")]
    Members {
        /// How many there are.
        members: usize,
    },
    /// A weight above [`WEIGHT_MAX`].
    #[error("member {member} weighs {weight}, at most {WEIGHT_MAX} is allowed")]
    Weight {
        /// Whose.
        member: MemberId,
        /// What it weighs.
        weight: u32,
    },
    /// Together the members weigh more than [`POSITIONS_MAX`].
    #[error("the members weigh {positions} together, at most {POSITIONS_MAX} is allowed")]
    Positions {
        /// What they weigh.
        positions: usize,
    },
    /// A member stands on the list twice.
    #[error("member {member} is listed twice")]
    Repeated {
        /// Who.
        member: MemberId,
    },
    /// No seat is asked for, or more than [`SEATS_MAX`].
    #[error("a committee has 1 to {SEATS_MAX} seats, not {seats}")]
    Seats {
        /// How many are asked for.
        seats: usize,
    },
}

/// The members that may be drawn: at least one, distinct, each with a weight above zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates(Vec<Candidate>);

impl Candidates {
    /// Takes a list in any order; members of weight 0 are left out.
    pub fn new(list: &[Candidate]) -> Result<Self, DrawError> {
        if list.len() > MEMBERS_MAX {
            return Err(DrawError::Members {
                members: list.len(),
            });
        }
        let mut sorted = list.to_vec();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|w| w[0].member == w[1].member) {
            let member = twice[0].member;
            return Err(DrawError::Repeated { member });
        }
        if let Some(&Candidate { member, weight }) = sorted.iter().find(|c| c.weight > WEIGHT_MAX) {
            return Err(DrawError::Weight { member, weight });
        }
        sorted.retain(|candidate| candidate.weight > 0);
        let positions = sorted.iter().map(|c| c.weight as usize).sum();
        match positions {
            0 => Err(DrawError::Nobody),
            1..=POSITIONS_MAX => Ok(Self(sorted)),
            _ => Err(DrawError::Positions { positions }),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Their weights, by ascending member id.
    pub fn weights(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().map(|candidate| candidate.weight)
    }

    /// Draws a committee of `seats` under `seed`; where there are fewer candidates, all of them.
    ///
    /// There are as many rings as seats. On ring r a candidate of weight w has w virtual positions,
    /// the first w digests of H(seed, r, id) stretched. Seat r goes to the candidate with the
    /// earliest position on ring r among those without a seat: the walk starts at position zero.
    ///
    /// This is a uniform draw. Take the hash for a random function and the seed for one that nobody
    /// knew when ids and weights were fixed. Who is free on ring r was settled on other rings,
    /// whose positions say nothing about those on r; so the W positions of the free candidates on r
    /// are independent and uniform, each is the earliest with probability 1/W, and a candidate of
    /// weight w gets the seat with probability w/W. With equal weights each ordered committee is
    /// therefore as likely as any other. A start elsewhere would change nothing, since positions
    /// differ with each seed; with positions that do not, the gap before a member would be its
    /// advantage.
    ///
    /// Costs one digest per free position and ring: at most [`SEATS_MAX`] times [`POSITIONS_MAX`],
    /// half a second.
    /// Errors: [`DrawError::Seats`].
    pub fn draw(&self, seed: &Digest, seats: usize) -> Result<Vec<MemberId>, DrawError> {
        if seats == 0 || seats > SEATS_MAX {
            return Err(DrawError::Seats { seats });
        }
        let mut free = self.0.clone();
        let mut committee = Vec::with_capacity(seats);
        for ring in (0..).take(seats.min(free.len())) {
            let index = earliest(seed, ring, &free);
            committee.push(free.swap_remove(index).member);
        }
        assert_eq!(
            free.len() + committee.len(),
            self.0.len(),
            "who sits is no longer free"
        );
        Ok(committee)
    }
}

/// Which of the `free` comes first on `ring`.
fn earliest(seed: &Digest, ring: u32, free: &[Candidate]) -> usize {
    let place = |candidate: &Candidate| {
        let own = positions(seed, ring, &candidate.member);
        own.take(candidate.weight as usize).min()
    };
    let first = free
        .iter()
        .enumerate()
        // Two equal positions are a collision of the hash; the id settles even that.
        .min_by_key(|(_, candidate)| (place(candidate), candidate.member));
    first
        .expect("fewer seats were given than there are candidates")
        .0
}
