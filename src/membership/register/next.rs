//! What the next view is made of, and what a reconfiguration block does.
//!
//! Source: design of views: the list is frozen, later changes wait. In: freeze and reconfiguration
//! blocks. Out: candidates, the list, whether another view is due.
//! Holds: what a reconfiguration block lists is what was frozen; who left before that goes with it,
//! who left behind it stays for one more view.
//! Elsewhere: when blocks are proposed (`fsm::view`), what they must prove (`blocks::body`).

use std::collections::{BTreeMap, BTreeSet};

use super::member::{Certified, Member, Status};
use super::{CommitteeError, Deed, Footing, Register, Slate, Stake, ThresholdKey};
use crate::blocks::body::{Listed, NextSeat, Reconfiguration};
use crate::committee::{Candidate, Height, MemberId, SeatKey};
use crate::crypto::Digest;

impl Register {
    /// Who may be drawn now, and under which rules.
    pub fn footing(&self) -> Footing {
        let stake = |(id, member): (&MemberId, &Member)| {
            let key = member.consensus().filter(|_| member.is_drawable())?;
            let weight = member.weight;
            Some((*id, Stake { weight, key }))
        };
        Footing {
            members: self.members.iter().filter_map(stake).collect(),
            rules: self.rules,
        }
    }

    /// Members that may be drawn now.
    pub fn candidates(&self) -> Vec<Candidate> {
        self.footing().candidates()
    }

    /// The committee that `seed` gives now; everyone when few.
    ///
    /// Errors: [`CommitteeError`].
    pub fn committee(&self, seed: &Digest) -> Result<Vec<MemberId>, CommitteeError> {
        self.footing().committee(seed)
    }

    /// Every member with a vote and a key by ascending id, as a reconfiguration block lists them.
    pub fn listed(&self) -> Vec<Listed> {
        self.members.values().filter_map(Member::listed).collect()
    }

    /// The list as it stands, fixed at `height`.
    pub fn slate(&self, height: Height) -> Slate {
        Slate {
            height,
            listed: self.listed(),
            footing: self.footing(),
        }
    }

    /// The digest of the list as it stands, for a freeze block.
    pub fn digest(&self) -> Digest {
        self.slate(Height(0)).digest()
    }

    /// Fixes what the next view is made of; an earlier fixing is dropped.
    pub fn freeze(&mut self, height: Height) {
        self.frozen = Some(self.slate(height));
    }

    /// What the next view is made of, since the last freeze.
    pub fn frozen(&self) -> Option<&Slate> {
        self.frozen.as_ref()
    }

    /// What the present view was made of.
    pub fn base(&self) -> &Footing {
        &self.base
    }

    /// Whether another view is due: somebody new may be drawn, or with another key or weight;
    /// somebody goes; the rules are others; a member wants a fresh key.
    ///
    /// Who rejoins is missed only once it has caught up: until then the present view goes on.
    pub fn is_changed(&self) -> bool {
        let now = self.footing();
        let is_new = |(id, stake): (&MemberId, &Stake)| self.base.members.get(id) != Some(stake);
        let goes = |id: &MemberId| {
            let member = self.members.get(id);
            member.is_none_or(|m| !m.status.has_vote() || m.weight == 0)
        };
        !self.renewals.is_empty()
            || now.rules != self.base.rules
            || now.members.iter().any(is_new)
            || self.base.members.keys().any(goes)
    }

    /// A reconfiguration block made the next view: who sits, with which keys, who is gone.
    ///
    /// The block was judged before; seats of members that the register lacks stay without effect.
    ///
    /// `made` is what the generation of its threshold key came to; the block says whether it
    /// counts.
    pub fn reconfigured(
        &mut self,
        height: Height,
        block: &Reconfiguration,
        made: Option<ThresholdKey>,
    ) {
        let listed: BTreeMap<MemberId, &Listed> = block
            .members
            .iter()
            .map(|member| (MemberId::of(&member.identity), member))
            .collect();
        let seat_key = |seat: &NextSeat| match &seat.fresh {
            Some(fresh) => Some(fresh.key),
            None => listed.get(&seat.member).map(|member| member.admitted.key),
        };
        self.view = block.next;
        self.renewals.clear();
        let seats = block.seats.iter().map(|seat| SeatKey {
            member: seat.member,
            key: seat_key(seat),
        });
        self.seats = seats.collect();
        self.threshold = made.filter(|_| block.threshold.is_some());
        self.generation = None;
        let frozen = self.frozen.take();
        let footing = frozen.map_or_else(|| self.footing(), |slate| slate.footing);
        self.base = footing;
        self.renew_keys(block);
        self.seat(height, &listed);
        self.note(height, None, None, Deed::View(block.next));
    }

    /// Fresh keys of seats are what the chain certifies from now on.
    fn renew_keys(&mut self, block: &Reconfiguration) {
        for seat in &block.seats {
            let Some(fresh) = seat.fresh else { continue };
            let Some(member) = self.members.get_mut(&seat.member) else {
                continue;
            };
            // Who rejoined after the freeze has a newer key, and no secret of this one.
            let stake = self.base.members.get_mut(&seat.member);
            let before = stake.map(|stake| std::mem::replace(&mut stake.key, fresh.key));
            if before.is_none() || before == member.consensus() {
                member.key = Some(Certified {
                    proof: fresh,
                    view: block.next,
                    assemble: block.assemble.1,
                });
            }
        }
    }

    fn seat(&mut self, height: Height, listed: &BTreeMap<MemberId, &Listed>) {
        let seated: BTreeSet<MemberId> = self.seats.iter().map(|seat| seat.member).collect();
        let mut gone = Vec::new();
        for (id, member) in &mut self.members {
            member.is_seated = seated.contains(id);
            match member.status {
                Status::CaughtUp if member.is_seated => member.status = Status::Seated,
                Status::Seated if !member.is_seated => member.status = Status::CaughtUp,
                Status::Leaving | Status::Excluded if !listed.contains_key(id) => {
                    gone.push(*id);
                }
                Status::Invited
                | Status::Joining
                | Status::CaughtUp
                | Status::Seated
                | Status::Leaving
                | Status::Excluded => {}
            }
        }
        for id in gone {
            self.members.remove(&id);
            self.note(height, None, Some(id), Deed::Dropped);
        }
    }
}
