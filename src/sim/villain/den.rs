//! The tools of villains: signatures of their own seat over anything, and others to talk to.
//!
//! Source: the rules that a correct voter keeps and a villain does not. In: what a villain wants to
//! say. Out: votes and claims whose signatures hold.
//! Holds: everything is signed by a voter that has forgotten its promises; the keys of others are
//! nowhere. Elsewhere: the only code that signs votes (`committee::voter`).

use super::Stage;
use crate::committee::{
    Ballot, Certificate, Claim, Height, Kind, MemberId, Regency, Seat, SeatSet, StopData, View,
    Vote, Voter,
};
use crate::consortium::Message;
use crate::crypto::{Digest, SecretKey, Verified};
use crate::fsm;
use crate::machine::To;
use crate::sim::dice::Dice;
use crate::sim::member::Leaving;

/// Who is meant by `to` of what `me` says: a villain talks to seats and to those who ask it.
pub(super) fn receivers(view: &View, me: MemberId, to: To<MemberId>) -> Vec<MemberId> {
    let seats = view.seats().iter().map(|seat| seat.member);
    match to {
        To::One(member) => vec![member],
        To::Committee | To::Members => seats.filter(|member| *member != me).collect(),
    }
}

/// `message` to one other, at once.
pub(super) fn say(to: MemberId, message: Message) -> Leaving {
    Leaving::Send(To::One(to), message)
}

/// What one kind of villain does with its member's words.
pub(super) trait Vice {
    /// The member says `message` to `to`; what is said instead.
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving>;

    /// The member hears `message`; what it says to that at once.
    fn overhear(&mut self, _: &mut Den<'_>, _: &Message) -> Vec<Leaving> {
        Vec::new()
    }

    /// Its member starts, or it asked to be woken; what it says then.
    fn wake(&mut self, _: &mut Den<'_>) -> Vec<Leaving> {
        Vec::new()
    }
}

/// What a villain works with.
pub(super) struct Den<'a> {
    pub(super) view: &'a View,
    pub(super) me: MemberId,
    pub(super) dice: &'a mut Dice,
    secret: &'a SecretKey,
}

impl<'a> Den<'a> {
    pub(super) fn new(
        stage: &Stage<'a>,
        (view, secret): (&'a View, &'a SecretKey),
        dice: &'a mut Dice,
    ) -> Self {
        Self {
            view,
            me: stage.me,
            dice,
            secret,
        }
    }

    /// Every other seat's member.
    pub(super) fn others(&self) -> Vec<MemberId> {
        receivers(self.view, self.me, To::Committee)
    }

    pub(super) fn other(&mut self) -> MemberId {
        let others = self.others();
        others[self.dice.index(others.len())]
    }

    pub(super) fn seat(&self) -> Seat {
        let seat = self.view.seat_of(&self.me);
        seat.expect("only members with a key of the view are villains")
    }

    pub(super) fn digest(&mut self) -> Digest {
        let words = [(); 4].map(|()| self.dice.next().to_le_bytes());
        let mut digest = Digest::ZERO;
        digest.0.copy_from_slice(words.as_flattened());
        digest
    }

    /// The secret of our seat.
    pub(super) fn secret(&self) -> &SecretKey {
        self.secret
    }

    fn voter(&self) -> Voter {
        let voter = Voter::new(self.view, self.secret.clone());
        voter.expect("only members with a key of the view are villains")
    }

    /// A vote of ours for anything at all.
    pub(super) fn vote(&self, of: Kind, regency: Regency, height: Height, digest: Digest) -> Vote {
        let mut voter = self.voter();
        let signed = match of {
            Kind::Propose => voter.propose(regency, height, digest),
            Kind::Write => voter.write(regency, height, digest),
            Kind::Accept => voter.accept(&Verified::vouch(self.writes(regency, height, digest))),
            Kind::Persist => voter.persist(height, digest),
        };
        let (_, vote) = signed.expect("a voter that has promised nothing signs anything");
        vote.into_inner()
    }

    /// Our vote for another digest in `vote`'s place.
    pub(super) fn revote(&self, vote: &Vote, digest: Digest) -> Vote {
        let Ballot {
            kind,
            regency,
            height,
            ..
        } = vote.ballot;
        self.vote(kind, regency, height, digest)
    }

    /// A WRITE certificate that nobody signed: a voter believes its caller.
    pub(super) fn writes(&self, regency: Regency, height: Height, digest: Digest) -> Certificate {
        let ballot = Ballot {
            kind: Kind::Write,
            view: self.view.id(),
            regency,
            height,
            digest,
        };
        Certificate {
            ballot,
            signers: SeatSet::default(),
            signatures: Vec::new(),
        }
    }

    /// Claims of ours; none where they are not canonical, which no voter signs.
    pub(super) fn stop_data(
        &self,
        regency: Regency,
        base: (Height, Digest),
        timeout_us: u64,
        claims: Vec<Claim>,
    ) -> Option<StopData> {
        let signed = self
            .voter()
            .stop(regency, base, timeout_us, claims, Vec::new());
        signed.ok().map(|(_, data)| data)
    }

    /// `message` with our own signature made anew wherever it is ours to make.
    pub(super) fn resigned(&self, message: Message) -> Message {
        let own = self.seat();
        let anew = |vote: Vote| {
            if vote.seat == own {
                self.revote(&vote, vote.ballot.digest)
            } else {
                vote
            }
        };
        match message {
            Message::Order(fsm::Message::Propose(vote, payload)) => {
                Message::Order(fsm::Message::Propose(anew(vote), payload))
            }
            Message::Order(fsm::Message::Vote(vote)) => {
                Message::Order(fsm::Message::Vote(anew(vote)))
            }
            Message::Persist(vote) => Message::Persist(anew(vote)),
            Message::Order(fsm::Message::StopData(data, proofs)) if data.seat == own => {
                let base = (data.base, data.base_digest);
                let claims = data.claims.clone();
                let signed = self.stop_data(data.regency, base, data.timeout_us, claims);
                Message::Order(fsm::Message::StopData(signed.unwrap_or(data), proofs))
            }
            other => other,
        }
    }
}

/// The vote that a message carries, where it carries one of its sender's.
pub(super) fn vote_of(message: &Message) -> Option<&Vote> {
    match message {
        Message::Order(fsm::Message::Propose(vote, _) | fsm::Message::Vote(vote)) => Some(vote),
        Message::Persist(vote) => Some(vote),
        _ => None,
    }
}

/// `vote` in a message of its own; nothing for a PROPOSE, which brings a payload.
pub(super) fn as_message(vote: Vote) -> Option<Message> {
    match vote.ballot.kind {
        Kind::Propose => None,
        Kind::Write | Kind::Accept => Some(Message::Order(fsm::Message::Vote(vote))),
        Kind::Persist => Some(Message::Persist(vote)),
    }
}

/// Half of the others, the same for as long as the villain lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half(usize);

impl Half {
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self(dice.index(2))
    }

    pub(super) fn has(self, view: &View, member: MemberId) -> bool {
        let seat = view.seat_of(&member);
        seat.is_some_and(|seat| seat.index() % 2 == self.0)
    }
}
