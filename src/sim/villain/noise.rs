//! Villains that make noise: odd things rightly signed, floods from far ahead, mutated messages.
//!
//! Source: signed garbage and far-future floods as the field met them. In: their member's words.
//! Out: these and others around them. Holds: a receiver can tell none of it from its signature.
//! Elsewhere: bytes that are no message at all (`message_tests`).

use super::den::{Den, Vice, as_message, say, vote_of};
use crate::blocks::body::BLOCK_BATCHES_MAX;
use crate::blocks::codec::{self, ENCODED_BYTES_MAX};
use crate::blocks::{BatchRef, Body, FORMAT_VERSION, Proposal};
use crate::committee::{Height, Kind, MemberId, Regency};
use crate::consortium::{DIGESTS_MAX, Message};
use crate::fsm;
use crate::machine::{Span, To};
use crate::sim::member::Leaving;

/// How far ahead a flood lies.
const FAR: u64 = 1_000_000_000;
/// How often a flooder floods, whatever its member does.
const EVERY: Span = Span::from_ms(50);

/// Says odd things with valid signatures.
pub(super) struct Garbler;

impl Garbler {
    fn height(den: &mut Den<'_>, near: Height) -> Height {
        let edges = [1, u64::MAX, u64::MAX - 1, near.0, near.0.saturating_add(1)];
        Height(edges[den.dice.index(edges.len())])
    }

    fn proposal(den: &mut Den<'_>, regency: Regency, height: Height) -> Message {
        let named = BatchRef::Named(den.digest());
        let batches = match den.dice.below(4) {
            0 => Vec::new(),
            1 => vec![named.clone(), named],
            2 => vec![BatchRef::Inline(vec![7; 40].into())],
            _ => vec![named; BLOCK_BATCHES_MAX + 1],
        };
        let proposal = Proposal {
            version: [FORMAT_VERSION, 0, u8::MAX][den.dice.index(3)],
            chain: *den.view.chain(),
            view: den.view.id(),
            height,
            timestamp_us: [0, 1, u64::MAX][den.dice.index(3)],
            is_sealed: den.dice.chance(500),
            body: Body::Transactions(batches),
            carried: None,
        };
        let payload = fsm::Payload {
            digest: proposal.digest(),
            bytes: proposal.to_bytes(),
        };
        let vote = den.vote(Kind::Propose, regency, height, payload.digest);
        Message::Order(fsm::Message::Propose(vote, payload))
    }

    fn garbage(den: &mut Den<'_>, regency: Regency, near: Height) -> Message {
        let (height, digest) = (Self::height(den, near), den.digest());
        match den.dice.below(9) {
            0 | 1 => Self::proposal(den, regency, height),
            2 => Self::proposal(den, regency, near.next()),
            3 => {
                let kind = [Kind::Propose, Kind::Write, Kind::Accept][den.dice.index(3)];
                let vote = den.vote(kind, Regency(u64::MAX), height, digest);
                Message::Order(fsm::Message::Vote(vote))
            }
            4 => Message::Persist(den.vote(Kind::Persist, Regency(0), height, digest)),
            5 => Message::Held(Vec::new()),
            6 => Message::Fetch(vec![digest; DIGESTS_MAX + 1]),
            7 => Message::Order(fsm::Message::Fetch(height, digest)),
            _ => {
                let claims = (1..=100).map(|height| crate::committee::Claim {
                    height: Height(height),
                    is_decided: true,
                    lock: crate::committee::Lock { regency, digest },
                });
                let next = regency.next();
                let none = (Height(0), digest);
                let data = den.stop_data(next, none, u64::MAX, claims.collect());
                let data = data.expect("claims by height of a regency below");
                Message::Order(fsm::Message::StopData(data, Vec::new()))
            }
        }
    }
}

impl Vice for Garbler {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        let mut said = vec![say(to, message.clone())];
        if let Some(vote) = vote_of(message) {
            let (regency, height) = (vote.ballot.regency, vote.ballot.height);
            let garbage = Self::garbage(den, regency, height);
            said.push(say(to, garbage));
        }
        said
    }
}

/// Votes for heights and regencies far ahead, asks for what is not there, claims to hold what is
/// not: everything that a receiver might keep.
#[derive(Default)]
pub(super) struct Flooder {
    /// The regency and the height at which its member voted last.
    place: (Regency, Height),
}

impl Flooder {
    fn flood(&self, den: &mut Den<'_>) -> Vec<Message> {
        let (regency, height) = self.place;
        let far = den.dice.within(1, FAR);
        let (above, later) = (height.plus(far), Regency(regency.0.saturating_add(far)));
        let digest = den.digest();
        let votes = [
            den.vote(Kind::Write, regency, above, digest),
            den.vote(Kind::Accept, later, height.next(), digest),
            den.vote(Kind::Accept, later, above, digest),
            den.vote(Kind::Write, later, height.next(), digest),
            den.vote(Kind::Persist, Regency(0), above, digest),
        ];
        let mut flood: Vec<Message> = votes.into_iter().filter_map(as_message).collect();
        let (view, seat) = (den.view.id(), den.seat());
        let stop = fsm::Stop {
            view,
            regency: later,
            seat,
        };
        let status = fsm::Status {
            view,
            regency: later,
            is_synchronised: den.dice.chance(500),
            decided: above,
            certified: Height(u64::MAX),
            is_question: den.dice.chance(500),
        };
        let none = (Height(0), digest);
        let data = den.stop_data(later, none, u64::MAX, Vec::new());
        let data = data.expect("no claims are canonical");
        flood.extend([
            Message::Order(fsm::Message::Stop(stop)),
            Message::Order(fsm::Message::Status(status)),
            Message::Order(fsm::Message::StopData(data, Vec::new())),
            Message::Order(fsm::Message::Fetch(above, digest)),
            Message::Request(above),
            Message::Held((0..8).map(|_| den.digest()).collect()),
            Message::Fetch((0..8).map(|_| den.digest()).collect()),
        ]);
        flood
    }
}

impl Vice for Flooder {
    fn twist(&mut self, _: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        if let Some(vote) = vote_of(message) {
            self.place = (vote.ballot.regency, vote.ballot.height);
        }
        vec![say(to, message.clone())]
    }

    fn wake(&mut self, den: &mut Den<'_>) -> Vec<Leaving> {
        let mut said = vec![Leaving::Wake(EVERY, 0)];
        for other in den.others() {
            let flood = self.flood(den);
            said.extend(flood.into_iter().map(|message| say(other, message)));
        }
        said
    }
}

/// Changes a few bytes of what its member says and signs it again where it may.
pub(super) struct Mutator;

impl Mutator {
    fn mutated(den: &mut Den<'_>, message: &Message) -> Vec<u8> {
        let mut bytes = message.to_bytes().to_vec();
        for _ in 0..den.dice.within(1, 3) {
            // Mostly near the front, where the numbers are.
            let reach = if den.dice.chance(700) {
                bytes.len().min(120)
            } else {
                bytes.len()
            };
            let index = den.dice.index(reach);
            bytes[index] = match den.dice.below(4) {
                0 => bytes[index].wrapping_add(1),
                1 => bytes[index].wrapping_sub(1),
                2 => bytes[index] ^ (1 << den.dice.below(8)),
                _ => u8::try_from(den.dice.below(256)).expect("below 256"),
            };
        }
        bytes
    }
}

impl Vice for Mutator {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        let mut said = Vec::new();
        let is_mutated = den.dice.chance(400);
        if is_mutated {
            let bytes = Self::mutated(den, message);
            said.push(match codec::decode(&bytes, ENCODED_BYTES_MAX) {
                Ok(mutated) => say(to, den.resigned(mutated)),
                Err(_) => Leaving::Bytes(To::One(to), message.lane(), bytes.into()),
            });
        }
        if !is_mutated || den.dice.chance(500) {
            said.push(say(to, message.clone()));
        }
        said
    }
}
