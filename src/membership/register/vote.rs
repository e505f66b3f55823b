//! Motions and the votes on them.
//!
//! Source: design of membership in the chain, votes of n − f listed members. In: motions,
//! approvals, rejections. Out: what passes is done at once.
//! Holds: a motion is checked when it is moved and again when it passes, so what passes can be
//! done; votes of members who have none any more do not count.
//! Elsewhere: what members do without a vote (`act`).

use super::member::{Member, Status};
use super::operation::Motion;
use super::{
    Asked, BALLOTS_MAX, BALLOTS_PER_MEMBER_MAX, Ballot, Deed, Done, Footing, Place, Refusal,
    Register, Say,
};
use crate::blocks::{LISTED_CLIENTS_MAX, ViewRules};
use crate::committee::{Height, MemberId, POSITIONS_MAX, WEIGHT_MAX};
use crate::crypto::{Digest, PublicKey};

impl Register {
    /// A member moves something; where it was moved before, this approves it.
    pub(super) fn propose(
        &mut self,
        place: &Place<'_>,
        signer: &PublicKey,
        motion: Motion,
    ) -> Result<Done, Refusal> {
        let by = self.voter(signer)?;
        let (id, height) = (motion.ballot(), place.height);
        if self.ballots.get(&id).is_some_and(|b| !b.is_over(height)) {
            return self.vote(place, signer, &id, true);
        }
        self.check(&motion)?;
        let number = self.members[&by].number;
        let open = || self.ballots.values().filter(|b| !b.is_over(height));
        if open().filter(|b| b.by == Some(number)).count() >= BALLOTS_PER_MEMBER_MAX {
            return Err(Refusal::TooManyBallots);
        }
        if open().filter(|b| b.by.is_some()).count() >= BALLOTS_MAX {
            return Err(Refusal::Full);
        }
        self.drop_over(height);
        let member = motion.member();
        self.ballots
            .insert(id, Ballot::new(motion, height, Some(number)));
        self.note(height, Some(by), member, Deed::Ballot(id, Say::Opened));
        self.vote(place, signer, &id, true)
    }

    /// A member approves or rejects a ballot.
    pub(super) fn vote(
        &mut self,
        place: &Place<'_>,
        signer: &PublicKey,
        id: &Digest,
        is_approval: bool,
    ) -> Result<Done, Refusal> {
        let by = self.voter(signer)?;
        let height = place.height;
        let ballot = self.ballots.get(id).filter(|b| !b.is_over(height));
        let ballot = ballot.ok_or(Refusal::NoBallot)?;
        let number = self.members[&by].number;
        let side = match is_approval {
            true => &ballot.approvals,
            false => &ballot.rejections,
        };
        let is_repeat = side.contains(&number);
        let votes = self.of_numbers(side).len() + usize::from(!is_repeat);
        let majority = self.majority();
        let is_over = match is_approval {
            true => votes >= majority.needed,
            false => majority.is_blocked_by(votes),
        };
        // Members who go make the others' votes weigh more: then one who voted says it again, and
        // the ballot is over.
        if ballot.has_vote_of(number) && !(is_repeat && is_over) {
            return Err(Refusal::AlreadyVoted);
        }
        let motion = ballot.motion.clone();
        if is_over && is_approval {
            self.check(&motion)?;
        }
        let ballot = self.ballots.get_mut(id).expect("it was looked up above");
        let (side, say) = match is_approval {
            true => (&mut ballot.approvals, Say::Approved),
            false => (&mut ballot.rejections, Say::Rejected),
        };
        if side.insert(number) {
            self.note(height, Some(by), motion.member(), Deed::Ballot(*id, say));
        }
        if !is_over {
            return Ok(self.standing_of(id));
        }
        self.ballots.remove(id);
        let say = if is_approval { Say::Passed } else { Say::Fell };
        self.note(height, Some(by), motion.member(), Deed::Ballot(*id, say));
        match is_approval {
            true => self.carry_out(height, by, motion),
            false => self.turn_away(&motion),
        }
    }

    /// How a ballot stands.
    pub(super) fn standing_of(&self, id: &Digest) -> Done {
        let approvals = match self.ballots.get(id) {
            Some(ballot) => self.of_numbers(&ballot.approvals).len(),
            None => 0,
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Done::Open {
            ballot: *id,
            approvals: count(approvals),
            needed: count(self.majority().needed),
        }
    }

    /// Whether a motion can be carried out now.
    fn check(&self, motion: &Motion) -> Result<(), Refusal> {
        match motion {
            Motion::Invite(identity) => self.check_newcomer(identity, 1, false),
            Motion::Replace(old, identity) => {
                let weight = self.having_vote(old, Refusal::NoMember)?.weight;
                self.check_newcomer(identity, weight, true)
            }
            Motion::Exclude(id) => {
                let member = self.members.get(id).ok_or(Refusal::NoMember)?;
                if member.status == Status::Excluded {
                    return Err(Refusal::NoChange);
                }
                self.check_rest(member.number)
            }
            Motion::Weight(id, weight) => self.check_weight(id, *weight),
            Motion::Client(key, is_listed) => {
                let clients = self.clients.as_ref().ok_or(Refusal::ClientsOpen)?;
                if clients.contains(key) == *is_listed {
                    return Err(Refusal::NoChange);
                }
                match *is_listed && clients.len() >= LISTED_CLIENTS_MAX {
                    true => Err(Refusal::Full),
                    false => Ok(()),
                }
            }
            Motion::Rules(rules) => self.check_rules(rules),
        }
    }

    fn check_newcomer(
        &self,
        identity: &PublicKey,
        weight: u32,
        may_be_invited: bool,
    ) -> Result<(), Refusal> {
        let id = MemberId::of(identity);
        match self.members.get(&id).map(|member| member.status) {
            None => {}
            Some(Status::Invited) if may_be_invited => {}
            Some(Status::Invited) => return Err(Refusal::AlreadyInvited),
            Some(_) => {
                self.having_vote(&id, Refusal::NoMember)?;
                return Err(Refusal::AlreadyListed);
            }
        }
        if self.is_consensus(identity) {
            return Err(Refusal::KeyUsed);
        }
        let mut newcomer = Member::invited(*identity, self.number, Height(0));
        if let Some(asked) = self.requests.get(&id) {
            newcomer.join(asked.request.clone(), Height(0));
        }
        self.check_room(newcomer.bytes(), weight)
    }

    fn check_weight(&self, id: &MemberId, weight: u32) -> Result<(), Refusal> {
        let member = self.having_vote(id, Refusal::NoMember)?;
        if weight > WEIGHT_MAX {
            return Err(Refusal::BadWeight);
        }
        if weight == member.weight {
            return Err(Refusal::NoChange);
        }
        let positions = self.positions() - member.weight as usize + weight as usize;
        if positions > POSITIONS_MAX {
            return Err(Refusal::Full);
        }
        match weight {
            0 => self.check_rest(member.number),
            _ => Ok(()),
        }
    }

    fn check_rules(&self, rules: &ViewRules) -> Result<(), Refusal> {
        if *rules == self.rules {
            return Err(Refusal::NoChange);
        }
        rules.check().map_err(|_| Refusal::BadRules)?;
        let footing = Footing {
            rules: *rules,
            ..self.footing()
        };
        footing.seats().map(|_| ()).map_err(|_| Refusal::BadRules)
    }

    /// Does what passed; [`Self::check`] found that it can be done.
    fn carry_out(&mut self, height: Height, by: MemberId, motion: Motion) -> Result<Done, Refusal> {
        match motion {
            Motion::Invite(identity) => self.admit(height, by, identity, None),
            Motion::Replace(old, identity) => self.admit(height, by, identity, Some(old)),
            Motion::Exclude(id) => {
                let number = self.member_mut(&id).number;
                self.exclude(height, by, number, None);
            }
            Motion::Weight(id, weight) => {
                self.member_mut(&id).weight = weight;
                self.note(height, Some(by), Some(id), Deed::Weight(weight));
            }
            Motion::Client(key, is_listed) => {
                if let Some(clients) = &mut self.clients {
                    match is_listed {
                        true => clients.insert(key),
                        false => clients.remove(&key),
                    };
                }
                self.note(height, Some(by), None, Deed::Client(key, is_listed));
            }
            Motion::Rules(rules) => {
                self.rules = rules;
                self.note(height, Some(by), None, Deed::Rules);
            }
        }
        Ok(Done::Effective)
    }

    /// A newcomer is invited, and joins where it asked already.
    fn admit(&mut self, height: Height, by: MemberId, identity: PublicKey, old: Option<MemberId>) {
        let id = MemberId::of(&identity);
        let weight = old.and_then(|old| self.members.get(&old)).map(|m| m.weight);
        let asked = self.requests.remove(&id);
        // Whichever motion passed, the newcomer needs no other invitation.
        self.ballots.remove(&Motion::Invite(identity).ballot());
        if !self.members.contains_key(&id) {
            let number = self.number;
            self.number += 1;
            self.members
                .insert(id, Member::invited(identity, number, height));
        }
        let member = self.member_mut(&id);
        member.replaces = old.or(member.replaces);
        member.weight = weight.unwrap_or(member.weight);
        match asked {
            Some(Asked { request, .. }) => {
                let key = request.key.key;
                member.join(request, height);
                self.note_joined(height, by, id, key);
            }
            None => self.note(height, Some(by), Some(id), Deed::Status(Status::Invited)),
        }
    }

    /// A motion fell: who asked is forgotten.
    fn turn_away(&mut self, motion: &Motion) -> Result<Done, Refusal> {
        if let Motion::Invite(identity) = motion {
            self.requests.remove(&MemberId::of(identity));
        }
        Ok(Done::Fell)
    }
}
