//! The schemer: lies that fit what the network does for it.
//!
//! Source: the shortest runs by which a model broke the ordering rules; each needs more than one
//! lie. In: votes, proposals and SYNCs of others. Out: a vote for whatever anybody votes for, locks
//! on proposals that nobody made, an old SYNC under a new number.
//! Holds: in half of the regencies it tells the truth, or no committee without one of the others
//! would ever order. Elsewhere: who is cut off meanwhile (`ambush`), the single vices (`votes`,
//! `change`).

use std::collections::BTreeMap;

use super::den::{Den, Vice, say};
use crate::blocks::Proposal;
use crate::committee::{Claim, Height, Kind, Lock, MemberId, Regency, StopData, Vote};
use crate::consortium::Message;
use crate::fsm;
use crate::sim::member::Leaving;

/// Second proposals that it remembers.
const SECONDS_MAX: usize = 64;

/// Votes for whatever anybody votes for, and claims what nobody wrote.
#[derive(Default)]
pub(super) struct Schemer {
    /// By height: a valid proposal that is not the one which was heard first.
    seconds: BTreeMap<Height, fsm::Payload>,
    /// The first SYNC that was heard: its claims know of no later lock.
    sync: Option<fsm::Sync>,
    /// Whether it lies in the last regency that it was asked about.
    plan: (Regency, bool),
}

impl Schemer {
    fn lies(&mut self, den: &mut Den<'_>, regency: Regency) -> bool {
        if self.plan.0 != regency {
            self.plan = (regency, den.dice.chance(500));
        }
        self.plan.1
    }

    /// Another proposal for that height, always the same.
    fn second(&mut self, height: Height, payload: &fsm::Payload) -> Option<fsm::Payload> {
        if let Some(known) = self.seconds.get(&height) {
            return Some(known.clone());
        }
        let mut proposal = Proposal::from_bytes(&payload.bytes).ok()?;
        proposal.timestamp_us += 1;
        let second = fsm::Payload {
            digest: proposal.digest(),
            bytes: proposal.to_bytes(),
        };
        self.seconds.insert(height, second.clone());
        if self.seconds.len() > SECONDS_MAX {
            self.seconds.pop_first();
        }
        Some(second)
    }

    /// Claims a lock of the last regency on every second proposal.
    fn lie(&self, den: &Den<'_>, data: &StopData) -> Option<StopData> {
        let regency = Regency(data.regency.0.checked_sub(1)?);
        let above = self.seconds.range(data.base.next()..);
        let claims = above.map(|(height, second)| Claim {
            height: *height,
            is_decided: false,
            lock: Lock {
                regency,
                digest: second.digest,
            },
        });
        let base = (data.base, data.base_digest);
        den.stop_data(data.regency, base, data.timeout_us, claims.collect())
    }

    /// What it says in `message`'s place, where that is its own and it lies in its regency.
    fn falsify(&mut self, den: &mut Den<'_>, message: &Message) -> Option<fsm::Message> {
        let Message::Order(order) = message else {
            return None;
        };
        match order {
            fsm::Message::StopData(data, proofs) if self.lies(den, data.regency) => {
                let lied = self.lie(den, data)?;
                Some(fsm::Message::StopData(lied, proofs.clone()))
            }
            fsm::Message::Sync(sync)
                if den.view.leader(sync.regency) == den.seat() && self.lies(den, sync.regency) =>
            {
                let old = self.sync.clone()?;
                let regency = sync.regency;
                Some(fsm::Message::Sync(fsm::Sync { regency, ..old }))
            }
            fsm::Message::Propose(vote, payload)
                if vote.seat == den.seat() && self.lies(den, vote.ballot.regency) =>
            {
                let second = self.second(vote.ballot.height, payload)?;
                let vote = den.revote(vote, second.digest);
                Some(fsm::Message::Propose(vote, second))
            }
            _ => None,
        }
    }

    /// WRITE and ACCEPT for what `vote` is for, to its signer.
    fn back(den: &Den<'_>, vote: &Vote) -> Vec<Leaving> {
        let ballot = vote.ballot;
        let Some(seat) = den.view.seats().get(vote.seat.index()) else {
            return Vec::new();
        };
        let votes = [Kind::Write, Kind::Accept]
            .map(|kind| den.vote(kind, ballot.regency, ballot.height, ballot.digest));
        let messages = votes.map(|vote| Message::Order(fsm::Message::Vote(vote)));
        messages.map(|message| say(seat.member, message)).into()
    }
}

impl Vice for Schemer {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        if let Message::Order(fsm::Message::Vote(vote)) = message
            && self.lies(den, vote.ballot.regency)
        {
            return Vec::new(); // It has a vote for everybody who votes.
        }
        let falsified = self.falsify(den, message).map(Message::Order);
        vec![say(to, falsified.unwrap_or_else(|| message.clone()))]
    }

    fn overhear(&mut self, den: &mut Den<'_>, message: &Message) -> Vec<Leaving> {
        match message {
            Message::Order(fsm::Message::Propose(vote, payload)) => {
                self.second(vote.ballot.height, payload);
                Vec::new()
            }
            Message::Order(fsm::Message::Sync(sync)) => {
                self.sync.get_or_insert_with(|| sync.clone());
                Vec::new()
            }
            Message::Order(fsm::Message::Vote(vote))
                if vote.ballot.kind == Kind::Write && self.lies(den, vote.ballot.regency) =>
            {
                Self::back(den, vote)
            }
            Message::Order(fsm::Message::Fetch(height, digest)) => {
                let held = self.seconds.get(height);
                let Some(second) = held.filter(|second| second.digest == *digest) else {
                    return Vec::new();
                };
                let message = Message::Order(fsm::Message::Payload(*height, second.clone()));
                let others = den.others().into_iter();
                others.map(|other| say(other, message.clone())).collect()
            }
            _ => Vec::new(),
        }
    }
}
