//! Villains that vote for what they should not: twice, wrongly, too late, in another's name.
//!
//! Source: equivocation and its kin, as evidence and quorums must meet them. In: their member's
//! votes. Out: others. Holds: what is signed is signed by the villain's own key.
//! Elsewhere: claims at a regency change (`change`).

use std::collections::BTreeMap;

use super::den::{Den, Half, Vice, as_message, say, vote_of};
use crate::blocks::Proposal;
use crate::committee::{Ballot, Height, Kind, MemberId, Regency, Seat, Vote};
use crate::consortium::Message;
use crate::crypto::Digest;
use crate::fsm;
use crate::sim::dice::Dice;
use crate::sim::member::Leaving;

/// Second proposals that an equivocator remembers.
const SECONDS_MAX: usize = 64;

/// Proposes one thing to one half and another to the other half, and votes with either as if it
/// were the only one.
pub(super) struct Equivocator {
    half: Half,
    /// Whether some hear both, which proves it.
    is_open: bool,
    seconds: BTreeMap<(Regency, Height), Digest>,
}

impl Equivocator {
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self {
            half: Half::new(dice),
            is_open: dice.chance(500),
            seconds: BTreeMap::new(),
        }
    }

    /// One that some hear both proposals of.
    #[cfg(test)]
    pub(super) fn telling_both() -> Self {
        Self {
            is_open: true,
            ..Self::new(&mut Dice::new(0, 0))
        }
    }

    fn second(&mut self, den: &Den<'_>, vote: &Vote, payload: &fsm::Payload) -> Option<Message> {
        let mut proposal = Proposal::from_bytes(&payload.bytes).ok()?;
        proposal.timestamp_us += 1;
        let payload = fsm::Payload {
            digest: proposal.digest(),
            bytes: proposal.to_bytes(),
        };
        if self.seconds.len() == SECONDS_MAX {
            self.seconds.pop_first();
        }
        let place = (vote.ballot.regency, vote.ballot.height);
        self.seconds.insert(place, payload.digest);
        let vote = den.revote(vote, payload.digest);
        Some(Message::Order(fsm::Message::Propose(vote, payload)))
    }

    /// The same for the other half.
    fn other_face(&mut self, den: &Den<'_>, message: &Message) -> Option<Message> {
        match message {
            Message::Order(fsm::Message::Propose(vote, payload)) if vote.seat == den.seat() => {
                self.second(den, vote, payload)
            }
            Message::Order(fsm::Message::Vote(vote)) => {
                let place = (vote.ballot.regency, vote.ballot.height);
                let digest = self.seconds.get(&place)?;
                as_message(den.revote(vote, *digest))
            }
            _ => None,
        }
    }
}

impl Vice for Equivocator {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        let is_other = self.half.has(den.view, to);
        let other = self.other_face(den, message).filter(|_| is_other);
        let tells_both = self.is_open && den.dice.chance(500);
        let first = (other.is_none() || tells_both).then(|| message.clone());
        let said = other.into_iter().chain(first);
        said.map(|message| say(to, message)).collect()
    }
}

/// WRITE, ACCEPT and PERSIST for one digest to some and for another to the rest, or both to all.
pub(super) struct DoubleVoter {
    half: Half,
    tells_both: bool,
}

impl DoubleVoter {
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self {
            half: Half::new(dice),
            tells_both: dice.chance(500),
        }
    }
}

impl Vice for DoubleVoter {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        let vote = vote_of(message).filter(|vote| vote.seat == den.seat());
        // What is made of the true digest is the same for everybody.
        let another = |vote: &Vote| Digest::of(crate::crypto::Domain::Audit, &vote.ballot.digest.0);
        let second = vote.and_then(|vote| as_message(den.revote(vote, another(vote))));
        let Some(second) = second else {
            return vec![say(to, message.clone())];
        };
        if self.tells_both {
            vec![say(to, message.clone()), say(to, second)]
        } else if self.half.has(den.view, to) {
            vec![say(to, second)]
        } else {
            vec![say(to, message.clone())]
        }
    }
}

/// Votes for digests that stand for nothing.
pub(super) struct WrongDigest;

impl Vice for WrongDigest {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        let digest = den.digest();
        let own = den.seat();
        let vote = vote_of(message).filter(|vote| vote.seat == own);
        let wrong = vote.and_then(|vote| as_message(den.revote(vote, digest)));
        vec![say(to, wrong.unwrap_or_else(|| message.clone()))]
    }
}

/// Lives in regencies that are over: votes, STOPs, claims and statuses of the past.
pub(super) struct Stale;

impl Vice for Stale {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        let back = den.dice.within(1, 3);
        let old = |regency: Regency| Regency(regency.0.saturating_sub(back));
        let stale = match message {
            Message::Order(fsm::Message::Vote(vote)) => {
                let Ballot {
                    kind,
                    regency,
                    height,
                    digest,
                    ..
                } = vote.ballot;
                as_message(den.vote(kind, old(regency), height, digest))
            }
            Message::Order(fsm::Message::Stop(stop)) => {
                let regency = old(stop.regency);
                let stop = fsm::Stop { regency, ..*stop };
                Some(Message::Order(fsm::Message::Stop(stop)))
            }
            Message::Order(fsm::Message::StopData(data, proofs)) => {
                let base = (data.base, data.base_digest);
                let claims = data.claims.clone();
                let data = den.stop_data(old(data.regency), base, data.timeout_us, claims);
                data.map(|data| Message::Order(fsm::Message::StopData(data, proofs.clone())))
            }
            Message::Order(fsm::Message::Status(status)) => {
                let status = fsm::Status {
                    regency: old(status.regency),
                    decided: status.decided.minus(back),
                    certified: status.certified.minus(back),
                    is_question: true,
                    ..*status
                };
                Some(Message::Order(fsm::Message::Status(status)))
            }
            _ => None,
        };
        vec![say(to, stale.unwrap_or_else(|| message.clone()))]
    }
}

/// Speaks in the names of other seats, with signatures that it took from elsewhere.
#[derive(Default)]
pub(super) struct Forger {
    /// The last vote that somebody else was heard to sign.
    heard: Option<Vote>,
}

impl Forger {
    fn forged(&self, den: &mut Den<'_>, vote: &Vote) -> Vec<Message> {
        let seats = u64::try_from(den.view.seats().len()).expect("few seats");
        let seat = Seat(u16::try_from(den.dice.below(seats)).expect("few seats"));
        let in_name = Vote { seat, ..*vote };
        // Another's signature under our ballot, and another's ballot under ours.
        let borrowed = self.heard.map(|heard| Vote {
            ballot: vote.ballot,
            ..heard
        });
        let stolen = self.heard.map(|heard| Vote {
            ballot: heard.ballot,
            ..*vote
        });
        let votes = [Some(in_name), borrowed, stolen, self.heard];
        let messages = votes.into_iter().flatten().filter_map(as_message);
        let mut messages: Vec<Message> = messages.collect();
        // A quorum of one: ourselves under every seat.
        let mut certificate =
            den.writes(vote.ballot.regency, vote.ballot.height, vote.ballot.digest);
        certificate.ballot.kind = Kind::Persist;
        certificate.ballot.regency = Regency(0);
        certificate.signers = (0..den.view.sizes().q).map(|n| Seat(n as u16)).collect();
        certificate.signatures = vec![vote.signature; den.view.sizes().q];
        messages.push(Message::Certificate(certificate));
        let regency = vote.ballot.regency.next();
        let view = den.view.id();
        let stop = fsm::Stop {
            view,
            regency,
            seat,
        };
        messages.push(Message::Order(fsm::Message::Stop(stop)));
        messages
    }
}

impl Vice for Forger {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        let mut said = vec![say(to, message.clone())];
        if let Some(vote) = vote_of(message) {
            let forged = self.forged(den, vote);
            said.extend(forged.into_iter().map(|message| say(to, message)));
        }
        said
    }

    fn overhear(&mut self, den: &mut Den<'_>, message: &Message) -> Vec<Leaving> {
        let own = den.seat();
        let vote = vote_of(message).filter(|vote| vote.seat != own);
        self.heard = vote.copied().or(self.heard);
        Vec::new()
    }
}
