//! What each operation does to the register.
//!
//! Source: design of membership in the chain; `docs/formats.md`. In: an operation and its signer.
//! Out: what it did, or why it is refused.
//! Holds: everything is checked before anything changes; whoever may act does so for itself alone,
//! and everything else takes votes or evidence. Elsewhere: motions and votes (`vote`).

use super::member::{Certified, Member, Status};
use super::operation::{Motion, Operation, Request};
use super::{Asked, Ballot, Deed, Done, LIST_BYTES_MAX, Place, REQUESTS_MAX, Refusal, Register};
use crate::blocks::evidence::{Evidence, FaultKind, Law};
use crate::committee::{Height, KeyProof, MEMBERS_MAX, MemberId, POSITIONS_MAX, View};
use crate::crypto::{Digest, PublicKey};

impl Register {
    pub(super) fn act(
        &mut self,
        place: &Place<'_>,
        signer: &PublicKey,
        operation: Operation,
    ) -> Result<Done, Refusal> {
        match operation {
            Operation::Move(motion) => self.propose(place, signer, motion),
            Operation::Approve(ballot) => self.vote(place, signer, &ballot, true),
            Operation::Reject(ballot) => self.vote(place, signer, &ballot, false),
            Operation::Join(request) => self.ask(place, signer, request),
            Operation::Leave => self.leave(place, signer),
            Operation::Convict(evidence) => self.convict(place, signer, &evidence),
            Operation::Address(address) => self.move_to(place, signer, address),
            Operation::Identity(identity, key) => self.rename(place, signer, &identity, key),
            Operation::CaughtUp(height, digest) => self.catch_up(place, signer, height, &digest),
            Operation::Rejoin(key) => self.rejoin(place, signer, key),
            Operation::Threshold(call, step) => self.generate(place, signer, call, step),
            Operation::Renew => self.renew(place, signer),
            // The ledger sees to it.
            Operation::Snapshot => self.voter(signer).map(|_| Done::Effective),
        }
    }

    /// The member that `signer` speaks for, if it has a vote.
    pub(super) fn voter(&self, signer: &PublicKey) -> Result<MemberId, Refusal> {
        let id = MemberId::of(signer);
        self.having_vote(&id, Refusal::NotListed).map(|_| id)
    }

    /// The member of that id, if it has a vote; `absent` where it is not listed.
    pub(super) fn having_vote(&self, id: &MemberId, absent: Refusal) -> Result<&Member, Refusal> {
        let member = self.members.get(id).ok_or(absent)?;
        match member.status {
            Status::Invited => Err(absent),
            Status::Leaving => Err(Refusal::Leaving),
            Status::Excluded => Err(Refusal::Excluded),
            Status::Joining | Status::CaughtUp | Status::Seated => Ok(member),
        }
    }

    pub(super) fn member_mut(&mut self, id: &MemberId) -> &mut Member {
        let member = self.members.get_mut(id);
        member.expect("whoever acts or is acted upon was looked up before")
    }

    /// Refuses what would leave nobody to draw once those of `number` are gone.
    pub(super) fn check_rest(&self, number: u32) -> Result<(), Refusal> {
        let stays = |member: &&Member| member.number != number && member.is_drawable();
        let goes = |member: &&Member| member.number == number && member.is_drawable();
        let mut all = self.members.values();
        if !self.members.values().any(|member| goes(&member)) {
            return Ok(());
        }
        all.find(stays).map(|_| ()).ok_or(Refusal::LastMember)
    }

    /// Refuses a member beyond the bounds of the list: one more with so many bytes and positions.
    pub(super) fn check_room(&self, bytes: usize, weight: u32) -> Result<(), Refusal> {
        let fits = self.members.len() < MEMBERS_MAX
            && self.number < u32::MAX
            && self.list_bytes() + bytes <= LIST_BYTES_MAX
            && self.positions() + weight as usize <= POSITIONS_MAX;
        fits.then_some(()).ok_or(Refusal::Full)
    }

    /// A newcomer asks; where it is invited, it joins at once.
    fn ask(
        &mut self,
        place: &Place<'_>,
        signer: &PublicKey,
        request: Request,
    ) -> Result<Done, Refusal> {
        let id = MemberId::of(signer);
        let invited = match self.members.get(&id) {
            None => None,
            Some(member) if member.status == Status::Invited => Some(member.clone()),
            Some(_) => {
                self.having_vote(&id, Refusal::NotListed)?;
                return Err(Refusal::AlreadyListed);
            }
        };
        let former = self.requests.get(&id).map(|asked| asked.request.key.key);
        let key = request.key.key;
        if key == *signer || former != Some(key) && self.uses(&key) || self.is_consensus(signer) {
            return Err(Refusal::KeyUsed);
        }
        let height = place.height;
        if let Some(mut member) = invited {
            let before = member.bytes();
            member.join(request, height);
            if self.list_bytes() - before + member.bytes() > LIST_BYTES_MAX {
                return Err(Refusal::Full);
            }
            self.check_proof(
                place,
                signer,
                &member.key.expect("it joined with a key").proof,
            )?;
            self.members.insert(id, member);
            self.note_joined(height, id, id, key);
            return Ok(Done::Effective);
        }
        let giving_way = self.giving_way(height, &id)?;
        self.check_proof(place, signer, &request.key)?;
        self.drop_over(height);
        if let Some(other) = giving_way {
            self.drop_request(&other);
        }
        let ballot = Motion::Invite(*signer).ballot();
        let open = || Ballot::new(Motion::Invite(*signer), height, None);
        self.ballots.entry(ballot).or_insert_with(open);
        let identity = *signer;
        let asked = Asked {
            identity,
            height,
            request,
        };
        self.requests.insert(id, asked);
        self.note(height, Some(id), Some(id), Deed::Requested);
        Ok(self.standing_of(&ballot))
    }

    /// The request that must go for another one of `id`; an error where none may.
    fn giving_way(&self, height: Height, id: &MemberId) -> Result<Option<MemberId>, Refusal> {
        let stays = |asked: &Asked| !asked.is_over(height);
        let standing = self.requests.iter().filter(|(_, asked)| stays(asked));
        if self.requests.contains_key(id) || standing.clone().count() < REQUESTS_MAX {
            return Ok(None);
        }
        let is_untouched = |asked: &Asked| {
            let about = |ballot: &&Ballot| ballot.motion.newcomer() == Some(&asked.identity);
            self.ballots
                .values()
                .filter(about)
                .all(Ballot::is_untouched)
        };
        let weak = standing.filter(|(_, asked)| is_untouched(asked));
        let oldest = weak.min_by_key(|(id, asked)| (asked.height, **id));
        oldest.map(|(id, _)| Some(*id)).ok_or(Refusal::Full)
    }

    /// Forgets a request, and its ballot where nobody but the request opened it.
    pub(super) fn drop_request(&mut self, id: &MemberId) {
        if let Some(asked) = self.requests.remove(id) {
            let ballot = Motion::Invite(asked.identity).ballot();
            if self.ballots.get(&ballot).is_some_and(|b| b.by.is_none()) {
                self.ballots.remove(&ballot);
            }
        }
    }

    /// Forgets ballots and requests whose time is over.
    pub(super) fn drop_over(&mut self, height: Height) {
        let is_over = |(_, asked): &(&MemberId, &Asked)| asked.is_over(height);
        let over = self.requests.iter().filter(is_over).map(|(id, _)| *id);
        for id in over.collect::<Vec<_>>() {
            self.drop_request(&id);
        }
        self.ballots.retain(|_, ballot| !ballot.is_over(height));
    }

    pub(super) fn note_joined(
        &mut self,
        height: Height,
        by: MemberId,
        id: MemberId,
        key: PublicKey,
    ) {
        self.note(height, Some(by), Some(id), Deed::Status(Status::Joining));
        self.note(height, Some(by), Some(id), Deed::Key(key));
    }

    fn check_proof(
        &self,
        place: &Place<'_>,
        identity: &PublicKey,
        proof: &KeyProof,
    ) -> Result<(), Refusal> {
        let holds = self.is_proved(place, identity, proof);
        holds.then_some(()).ok_or(Refusal::BadProof)
    }

    /// Whether `key` votes or would vote as a consensus key.
    pub(super) fn is_consensus(&self, key: &PublicKey) -> bool {
        self.members.values().any(|m| m.consensus() == Some(*key))
            || self
                .requests
                .values()
                .any(|asked| asked.request.key.key == *key)
            || self.seats.iter().any(|seat| seat.key == Some(*key))
    }

    fn leave(&mut self, place: &Place<'_>, signer: &PublicKey) -> Result<Done, Refusal> {
        let id = MemberId::of(signer);
        let is_invited = |member: &Member| member.status == Status::Invited;
        if !self.members.get(&id).is_some_and(is_invited) {
            let number = self.having_vote(&id, Refusal::NotListed)?.number;
            self.check_rest(number)?;
        }
        self.depart(place.height, id, id);
        Ok(Done::Effective)
    }

    /// The member goes: at once where no view counts on it, else with the next view.
    pub(super) fn depart(&mut self, height: Height, by: MemberId, id: MemberId) {
        self.note(height, Some(by), Some(id), Deed::Status(Status::Leaving));
        self.retire(height, by, id, Status::Leaving);
    }

    fn retire(&mut self, height: Height, by: MemberId, id: MemberId, status: Status) {
        if self.is_counted_on(&id) {
            self.member_mut(&id).status = status;
        } else {
            self.members.remove(&id);
            self.note(height, Some(by), Some(id), Deed::Dropped);
        }
    }

    /// Whether the present view or the one that is being made has the member.
    fn is_counted_on(&self, id: &MemberId) -> bool {
        let is_seated = self.members.get(id).is_some_and(|member| member.is_seated);
        let has = |footing: &super::Footing| footing.members.contains_key(id);
        is_seated || has(&self.base) || self.frozen.as_ref().is_some_and(|s| has(&s.footing))
    }

    /// Excludes everybody of `number`: a member, and who it was before it changed its identity.
    pub(super) fn exclude(
        &mut self,
        height: Height,
        by: MemberId,
        number: u32,
        fault: Option<FaultKind>,
    ) {
        let is_meant = |(_, member): &(&MemberId, &Member)| member.number == number;
        let meant = self.members.iter().filter(is_meant).map(|(id, _)| *id);
        for id in meant.collect::<Vec<_>>() {
            let deed = match fault {
                Some(kind) => Deed::Convicted(kind),
                None => Deed::Status(Status::Excluded),
            };
            self.note(height, Some(by), Some(id), deed);
            self.retire(height, by, id, Status::Excluded);
        }
    }

    fn convict(
        &mut self,
        place: &Place<'_>,
        signer: &PublicKey,
        evidence: &[u8],
    ) -> Result<Done, Refusal> {
        let by = self.voter(signer)?;
        let evidence = Evidence::from_bytes(evidence).map_err(|_| Refusal::BadEvidence)?;
        let view = View::new(self.view, self.chain, self.seats.clone(), &self.chain);
        let view = view.map_err(|_| Refusal::BadEvidence)?;
        let accused = view
            .member(evidence.accused())
            .ok_or(Refusal::BadEvidence)?;
        let member = self.members.get(&accused).ok_or(Refusal::NoMember)?;
        if member.status == Status::Excluded {
            return Err(Refusal::NoChange);
        }
        let number = member.number;
        self.check_rest(number)?;
        let law = Law {
            view: &view,
            bounds: place.bounds,
            ahead_max: place.ahead_max,
            verifier: place.verifier,
        };
        let (_, kind) = evidence.check(&law).map_err(|_| Refusal::BadEvidence)?;
        self.exclude(place.height, by, number, Some(kind));
        Ok(Done::Effective)
    }

    fn move_to(
        &mut self,
        place: &Place<'_>,
        signer: &PublicKey,
        address: String,
    ) -> Result<Done, Refusal> {
        let id = self.voter(signer)?;
        let before = &self.members[&id].address;
        if *before == address {
            return Err(Refusal::NoChange);
        }
        if self.list_bytes() - before.len() + address.len() > LIST_BYTES_MAX {
            return Err(Refusal::Full);
        }
        self.member_mut(&id).address = address;
        self.note(place.height, Some(id), Some(id), Deed::Address);
        Ok(Done::Effective)
    }

    /// The signer goes on as another member of the same number: that one may be drawn where this
    /// one could, and this one leaves.
    fn rename(
        &mut self,
        place: &Place<'_>,
        signer: &PublicKey,
        identity: &PublicKey,
        proof: KeyProof,
    ) -> Result<Done, Refusal> {
        let id = self.voter(signer)?;
        let member = &self.members[&id];
        let is_own = member.consensus() == Some(proof.key);
        if self.uses(identity) || proof.key == *identity || !is_own && self.uses(&proof.key) {
            return Err(Refusal::KeyUsed);
        }
        if self.is_under_ballot(place.height, &id) {
            return Err(Refusal::UnderBallot);
        }
        let heir = Member {
            identity: *identity,
            key: Some(Certified::admitted(proof)),
            admitted: place.height,
            status: match member.is_drawable() {
                true => Status::CaughtUp,
                false => Status::Joining,
            },
            is_seated: false,
            ..member.clone()
        };
        self.check_room(heir.bytes(), heir.weight)?;
        self.check_proof(place, identity, &proof)?;
        let to = MemberId::of(identity);
        self.members.insert(to, heir);
        for other in self.members.values_mut() {
            if other.replaces == Some(id) {
                other.replaces = Some(to);
            }
        }
        self.note(place.height, Some(id), Some(id), Deed::Identity(to));
        self.note(place.height, Some(id), Some(to), Deed::Key(proof.key));
        self.depart(place.height, id, id);
        Ok(Done::Effective)
    }

    fn is_under_ballot(&self, height: Height, id: &MemberId) -> bool {
        let is_against = |ballot: &Ballot| match &ballot.motion {
            Motion::Exclude(member) | Motion::Replace(member, _) => member == id,
            Motion::Invite(_) | Motion::Weight(..) | Motion::Client(..) | Motion::Rules(_) => false,
        };
        let mut open = self.ballots.values().filter(|b| !b.is_over(height));
        open.any(is_against)
    }

    fn catch_up(
        &mut self,
        place: &Place<'_>,
        signer: &PublicKey,
        height: Height,
        digest: &Digest,
    ) -> Result<Done, Refusal> {
        let id = self.voter(signer)?;
        let member = &self.members[&id];
        if member.status.is_ready() && member.key.is_some() {
            return Err(Refusal::NoChange);
        }
        if member.key.is_none() {
            return Err(Refusal::NoKey);
        }
        if !place.marks.has(height, digest) {
            return Err(Refusal::BadMark);
        }
        let member = self.member_mut(&id);
        member.status = Status::CaughtUp;
        let replaced = member.replaces.take();
        self.note(
            place.height,
            Some(id),
            Some(id),
            Deed::Status(Status::CaughtUp),
        );
        // Who is replaced stays where nobody else could be drawn.
        if let Some(old) = replaced
            && let Ok(member) = self.having_vote(&old, Refusal::NoMember)
            && self.check_rest(member.number).is_ok()
        {
            self.depart(place.height, id, old);
        }
        Ok(Done::Effective)
    }

    fn rejoin(
        &mut self,
        place: &Place<'_>,
        signer: &PublicKey,
        proof: KeyProof,
    ) -> Result<Done, Refusal> {
        let id = self.voter(signer)?;
        if self.uses(&proof.key) {
            return Err(Refusal::KeyUsed);
        }
        self.check_rest(self.members[&id].number)?;
        self.check_proof(place, signer, &proof)?;
        let member = self.member_mut(&id);
        member.key = Some(Certified::admitted(proof));
        member.status = Status::Joining;
        self.note_joined(place.height, id, id, proof.key);
        Ok(Done::Effective)
    }

    /// A seated member wants a fresh key. It names none: the next view brings one for every seat,
    /// made by the member itself, so that no key is certified that nobody holds.
    fn renew(&mut self, place: &Place<'_>, signer: &PublicKey) -> Result<Done, Refusal> {
        let id = self.voter(signer)?;
        let member = &self.members[&id];
        if !member.is_seated {
            return Err(Refusal::NoSeat);
        }
        if member.key.is_none() {
            return Err(Refusal::NoKey);
        }
        // Once in a view: it is no way to make views follow each other at will.
        if !self.renewals.insert(id) {
            return Err(Refusal::NoChange);
        }
        self.note(place.height, Some(id), Some(id), Deed::Renewal);
        Ok(Done::Effective)
    }
}

impl Asked {
    fn is_over(&self, height: Height) -> bool {
        self.height.plus(super::BALLOT_BLOCKS_MAX) < height
    }
}
