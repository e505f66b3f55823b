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
use crate::committee::{
    Certificate, Claim, Height, Kind, Lock, MemberId, Regency, Seat, StopData, Vote,
};
use crate::consortium::Message;
use crate::fsm;
use crate::sim::member::Leaving;

/// Second proposals that it remembers.
const SECONDS_MAX: usize = 64;

/// What it does in one regency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// What its member does.
    Truth,
    /// Claims locks that nobody has, or leads with an old SYNC.
    Invent,
    /// Claims nothing, or leads with those who claim least.
    Forget,
}

/// Votes for whatever anybody votes for, and claims what nobody wrote.
#[derive(Default)]
pub(super) struct Schemer {
    /// By height: a valid proposal that is not the one which was heard first.
    seconds: BTreeMap<Height, fsm::Payload>,
    /// The first SYNC that was heard: its claims know of no later lock.
    sync: Option<fsm::Sync>,
    /// What others claimed last, by seat.
    claims: BTreeMap<Seat, (StopData, Vec<Certificate>)>,
    /// For the last regency that it was asked about.
    plan: Option<(Regency, Plan)>,
}

impl Schemer {
    fn plan(&mut self, den: &mut Den<'_>, regency: Regency) -> Plan {
        let known = self.plan.filter(|(of, _)| *of == regency);
        let plans = [Plan::Truth, Plan::Truth, Plan::Invent, Plan::Forget];
        let (_, plan) = known.unwrap_or_else(|| (regency, plans[den.dice.index(4)]));
        self.plan = Some((regency, plan));
        plan
    }

    fn lies(&mut self, den: &mut Den<'_>, regency: Regency) -> bool {
        self.plan(den, regency) != Plan::Truth
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

    /// Claims a lock of the last regency on every second proposal, or nothing.
    fn lie(&self, den: &Den<'_>, plan: Plan, data: &StopData) -> Option<StopData> {
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
        let claims = match plan {
            Plan::Invent => claims.collect(),
            Plan::Forget | Plan::Truth => Vec::new(),
        };
        let base = (data.base, data.base_digest);
        den.stop_data(data.regency, base, data.timeout_us, claims)
    }

    /// A SYNC of those who claim least, itself among them with nothing.
    fn least(&self, den: &Den<'_>, sync: &fsm::Sync) -> Option<fsm::Sync> {
        let own = sync.set.iter().find(|data| data.seat == den.seat())?;
        let own = self.lie(den, Plan::Forget, own)?;
        let others = self.claims.values();
        let mut others: Vec<_> = others
            .filter(|(data, _)| data.regency == sync.regency)
            .collect();
        others.sort_by_key(|(data, _)| data.claims.len());
        others.truncate(sync.set.len() - 1);
        let mut set: Vec<StopData> = others.iter().map(|(data, _)| data.clone()).collect();
        set.push(own);
        set.sort_by_key(|data| data.seat);
        let proofs = others.iter().flat_map(|(_, proofs)| proofs);
        Some(fsm::Sync {
            set,
            proofs: sync.proofs.iter().chain(proofs).cloned().collect(),
            ..sync.clone()
        })
    }

    /// What it leads with.
    fn lead(&self, den: &Den<'_>, plan: Plan, sync: &fsm::Sync) -> Option<fsm::Sync> {
        match plan {
            Plan::Truth => None,
            Plan::Forget => self.least(den, sync),
            Plan::Invent => self.sync.clone().map(|old| fsm::Sync {
                regency: sync.regency,
                ..old
            }),
        }
    }

    /// What it says in `message`'s place, where that is its own and it lies in its regency.
    fn falsify(&mut self, den: &mut Den<'_>, message: &Message) -> Option<fsm::Message> {
        let Message::Order(order) = message else {
            return None;
        };
        match order {
            fsm::Message::StopData(data, proofs) if self.lies(den, data.regency) => {
                let plan = self.plan(den, data.regency);
                let lied = self.lie(den, plan, data)?;
                Some(fsm::Message::StopData(lied, proofs.clone()))
            }
            fsm::Message::Sync(sync) if den.view.leader(sync.regency) == den.seat() => {
                let plan = self.plan(den, sync.regency);
                self.lead(den, plan, sync).map(fsm::Message::Sync)
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
            Message::Order(fsm::Message::StopData(data, proofs)) => {
                let claims = (data.clone(), proofs.clone());
                self.claims.insert(data.seat, claims);
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
