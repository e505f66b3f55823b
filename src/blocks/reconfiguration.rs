//! From one view to the next: keys that members offer, and the view that a reconfiguration makes.
//!
//! Source: settled rules of views; SmartChain, forgotten keys. In: a reconfiguration body, the view
//! that ends. Out: signatures to check, the next view.
//! Holds: every seat has a key; at least n − f are fresh, with both proofs; of the ending view's
//! members at most f carry theirs over.
//! Elsewhere: whether it answers the right assemble block with the right list, which only the
//! prefix tells (`consortium::ledger`); who collects keys (`fsm::view`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::body::{Listed, NextSeat, Reconfiguration};
use crate::committee::{KeyProof, MemberId, Opening, SeatKey, Sizes, View, ViewError, ViewId};
use crate::crypto::{Check, Digest, PublicKey};

/// The call of an assemble block: what a fresh key is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Call {
    /// The view that is to come.
    pub next: ViewId,
    /// The assemble block's header digest.
    pub assemble: Digest,
}

/// A member's fresh key for the view that is called, as it sends it to the present committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextKey {
    /// What it was made for.
    pub call: Call,
    /// The member's identity key.
    pub identity: PublicKey,
    /// The key with its proofs.
    pub proof: KeyProof,
}

impl NextKey {
    /// Whose it is.
    pub fn member(&self) -> MemberId {
        MemberId::of(&self.identity)
    }

    /// The signatures to check.
    pub fn checks(&self, chain: &Digest) -> [Check; 2] {
        let Call { next, assemble } = self.call;
        self.proof.checks(chain, next, &assemble, &self.identity)
    }
}

/// Why a reconfiguration makes no view. Its leader is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReconfigurationError {
    /// It does not follow the present view.
    #[error("view {got} follows, not view {want}")]
    OtherView {
        /// What it makes.
        got: ViewId,
        /// What follows.
        want: ViewId,
    },
    /// A seat's member is not on its list.
    #[error("member {member} has a seat and is not listed")]
    Unlisted {
        /// Who.
        member: MemberId,
    },
    /// Fewer than n − f fresh keys.
    #[error("{have} fresh keys, {need} are needed")]
    TooFewFresh {
        /// Fresh keys.
        have: usize,
        /// n − f.
        need: usize,
    },
    /// Too many of the ending view's members carry their keys over.
    #[error("{carried} members of the ending view carry keys over, at most {most} may")]
    TooManyCarried {
        /// How many do.
        carried: usize,
        /// f of the smaller view.
        most: usize,
    },
    /// The seats make no view.
    #[error(transparent)]
    View(#[from] ViewError),
}

impl Reconfiguration {
    /// What its fresh keys were made for.
    pub fn call(&self) -> Call {
        Call {
            next: self.next,
            assemble: self.assemble.1,
        }
    }

    fn listed(&self) -> BTreeMap<MemberId, &Listed> {
        let ids = self
            .members
            .iter()
            .map(|listed| MemberId::of(&listed.identity));
        ids.zip(&self.members).collect()
    }

    /// The members of the next committee, in the order of seats; [`Reconfiguration::view`] says
    /// whether each of them is listed.
    pub fn seated(&self) -> impl Iterator<Item = &Listed> {
        let listed = self.listed();
        let seats = self.seats.iter();
        seats.filter_map(move |seat| listed.get(&seat.member).copied())
    }

    /// Whether `member` goes on voting with its certified key.
    pub fn carries(&self, member: &MemberId) -> bool {
        let is_it = |seat: &NextSeat| seat.member == *member && seat.fresh.is_none();
        self.seats.iter().any(is_it)
    }

    /// The view that it makes, opened by its own block at `opening`.
    ///
    /// Errors: [`ReconfigurationError::Unlisted`] and [`ReconfigurationError::View`].
    pub fn view(&self, chain: &Digest, opening: Opening) -> Result<View, ReconfigurationError> {
        let listed = self.listed();
        let mut seats = Vec::with_capacity(self.seats.len());
        for NextSeat { member, fresh } in &self.seats {
            let member = *member;
            let certified = listed.get(&member);
            let certified = certified.ok_or(ReconfigurationError::Unlisted { member })?;
            let key = Some(fresh.unwrap_or(certified.admitted).key);
            seats.push(SeatKey { member, key });
        }
        // The block's own digest is known to nobody before it is made.
        let view = View::new(self.next, *chain, seats, &opening.digest)?;
        Ok(view.opened_by(opening))
    }

    /// The signatures to check, after everything else that its bytes and the view that ends tell.
    ///
    /// Errors: [`ReconfigurationError`].
    pub fn checks(&self, ending: &View) -> Result<Vec<Check>, ReconfigurationError> {
        let (got, want) = (self.next, ending.id().next());
        if got != want {
            return Err(ReconfigurationError::OtherView { got, want });
        }
        self.view(ending.chain(), Opening::default())?;
        let sizes = Sizes::of(self.seats.len());
        let have = self
            .seats
            .iter()
            .filter(|seat| seat.fresh.is_some())
            .count();
        let need = sizes.n - sizes.f;
        if have < need {
            return Err(ReconfigurationError::TooFewFresh { have, need });
        }
        let carriers = self.seats.iter().filter(|seat| seat.fresh.is_none());
        let carried = carriers.filter(|seat| ending.seat_of(&seat.member).is_some());
        let (carried, most) = (carried.count(), sizes.f.min(ending.sizes().f));
        if carried > most {
            return Err(ReconfigurationError::TooManyCarried { carried, most });
        }
        let (call, listed) = (self.call(), self.listed());
        let mut checks = Vec::new();
        for NextSeat { member, fresh } in &self.seats {
            if let (Some(proof), Some(listed)) = (*fresh, listed.get(member)) {
                let identity = listed.identity;
                let key = NextKey {
                    call,
                    identity,
                    proof,
                };
                checks.extend(key.checks(ending.chain()));
            }
        }
        Ok(checks)
    }
}
