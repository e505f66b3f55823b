//! The schemer: several vices at once, each where it does most harm.
//!
//! Source: the bugs that a model of the ordering rules showed; each needs more than one lie. In:
//! its member's words. Out: two proposals, ACCEPTs for few, locks that it never had, a SYNC of
//! claims that were for another regency.
//! Holds: the claims of others are theirs, signatures and all; it is cast by name and never drawn.
//! Elsewhere: the single vices (`votes`, `change`), the bugs (`plant`).

use std::collections::BTreeMap;

use super::den::{Den, Vice, say, vote_of};
use super::votes::Equivocator;
use crate::committee::{
    Certificate, Claim, Height, Kind, Lock, MemberId, Regency, Seat, StopData, Vote,
};
use crate::consortium::Message;
use crate::crypto::Digest;
use crate::fsm;
use crate::sim::dice::Dice;
use crate::sim::member::Leaving;

/// Of a thousand ACCEPTs so many bring a SYNC along that nobody asked for.
const SYNCS: u64 = 30;

/// Equivocates, lets one other at a time decide, then has the regency changed and lies about it.
pub(super) struct Schemer {
    equivocator: Equivocator,
    /// The first claims of each seat that were heard, whatever regency they were for.
    claims: BTreeMap<Seat, (StopData, Vec<Certificate>)>,
}

impl Schemer {
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self {
            equivocator: Equivocator::new(dice),
            claims: BTreeMap::new(),
        }
    }

    /// Claims a lock of the last regency on every second proposal, or nothing at all.
    fn lie(&self, den: &mut Den<'_>, data: &StopData) -> Option<StopData> {
        let regency = Regency(data.regency.0.checked_sub(1)?);
        let seconds: BTreeMap<Height, Digest> = match den.dice.chance(500) {
            true => self.equivocator.seconds().collect(),
            false => BTreeMap::new(),
        };
        let above = seconds.range(data.base.next()..);
        let claims = above.map(|(height, digest)| Claim {
            height: *height,
            is_decided: false,
            lock: Lock {
                regency,
                digest: *digest,
            },
        });
        let base = (data.base, data.base_digest);
        den.stop_data(data.regency, base, data.timeout_us, claims.collect())
    }

    /// A SYNC of the next regency over the oldest claims of others and none of its own.
    fn sync(&self, den: &Den<'_>, regency: Regency) -> Option<Message> {
        let sizes = den.view.sizes();
        let regency = regency.next();
        let mut set = BTreeMap::new();
        let none = (Height(0), Digest::ZERO);
        set.insert(den.seat(), den.stop_data(regency, none, 0, Vec::new())?);
        let mut proofs = Vec::new();
        let others = self.claims.iter().filter(|(seat, _)| **seat != den.seat());
        for (seat, (data, proved)) in others.take(sizes.n - sizes.f - 1) {
            set.insert(*seat, data.clone());
            proofs.extend(proved.iter().cloned());
        }
        let sync = fsm::Sync {
            view: den.view.id(),
            regency,
            proofs,
            set: set.into_values().collect(),
        };
        Some(Message::Order(fsm::Message::Sync(sync)))
    }

    /// Only one other hears an ACCEPT, another one at each height.
    fn accept(&self, den: &mut Den<'_>, to: MemberId, vote: &Vote) -> Vec<Message> {
        let others = den.others();
        let chosen = usize::try_from(vote.ballot.height.0).unwrap_or_default() % others.len();
        let said = (others[chosen] == to).then_some(Message::Order(fsm::Message::Vote(*vote)));
        let is_time = den.dice.chance(SYNCS);
        let sync = self.sync(den, vote.ballot.regency).filter(|_| is_time);
        said.into_iter().chain(sync).collect()
    }
}

impl Vice for Schemer {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        if let Message::Order(fsm::Message::StopData(data, proofs)) = message {
            let lied = self.lie(den, data).unwrap_or_else(|| data.clone());
            let lied = fsm::Message::StopData(lied, proofs.clone());
            return vec![say(to, Message::Order(lied))];
        }
        let accept = vote_of(message).filter(|vote| vote.ballot.kind == Kind::Accept);
        let said = match accept {
            Some(vote) => self.accept(den, to, vote),
            None => vec![message.clone()],
        };
        let twisted = said.iter();
        twisted
            .flat_map(|message| self.equivocator.twist(den, to, message))
            .collect()
    }

    fn overhear(&mut self, _: &mut Den<'_>, message: &Message) {
        if let Message::Order(fsm::Message::StopData(data, proofs)) = message {
            let first = self.claims.entry(data.seat);
            first.or_insert_with(|| (data.clone(), proofs.clone()));
        }
    }
}
