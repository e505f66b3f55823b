//! Sealing: PERSIST votes over headers become block certificates.
//!
//! Source: SmartChain, PERSIST phase. In: applied sealed blocks, PERSIST votes, certificates. Out:
//! the
//! newest certificate.
//! Holds: a PERSIST leaves only behind the save of its block; a certificate is taken only for a
//! header that is ours. Elsewhere: what to do when we are behind one (`catchup`).

use std::collections::BTreeMap;

use super::contract::{Event, Record};
use super::message::Message;
use super::replica::{Consortium, Out};
use crate::blocks::evidence::Evidence;
use crate::committee::{Certificate, Height, Seat, Vote};
use crate::crypto::{Digest, Verified};
use crate::fsm;
use crate::machine::{Time, To};
use crate::plant::{self, Plant};

/// PERSIST votes of open heights, and certificates ahead of us.
#[derive(Debug, Default)]
pub(super) struct Seals {
    votes: BTreeMap<Height, BTreeMap<Seat, Verified<Vote>>>,
    /// Certificates above what is applied: each is taken when its height is reached, so that the
    /// archive has the certificate of every extent that it fetched.
    ahead: BTreeMap<Height, Verified<Certificate>>,
}

/// Certificates above what is applied, at most; beyond it only the newest is exchanged.
pub(super) const AHEAD_MAX: usize = 1024;

impl Seals {
    /// The height of the newest certificate above what is applied.
    pub(super) fn ahead(&self) -> Option<Height> {
        self.ahead.last_key_value().map(|(height, _)| *height)
    }

    /// Heights that have votes.
    pub(super) fn heights(&self) -> usize {
        self.votes.len()
    }

    /// How many certificates wait.
    pub(super) fn kept(&self) -> usize {
        self.ahead.len()
    }

    /// Keeps a certificate for later; whether it is the newest.
    fn keep(&mut self, certificate: Verified<Certificate>) -> bool {
        let height = certificate.ballot.height;
        let is_newest = self.ahead().is_none_or(|newest| height > newest);
        if self.ahead.len() >= AHEAD_MAX {
            if !is_newest {
                return false;
            }
            self.ahead.pop_last();
        }
        self.ahead.entry(height).or_insert(certificate);
        is_newest
    }

    /// Takes out the lowest certificate at or below `height`.
    fn reached(&mut self, height: Height) -> Option<Verified<Certificate>> {
        let first = self.ahead.first_entry()?;
        (*first.key() <= height).then(|| first.remove())
    }
}

/// Whether a member whose normal machine is in `state` votes.
pub(super) fn votes_in(state: &str) -> bool {
    matches!(state, "follower" | "leader" | "checkpointing")
}

impl Consortium {
    /// Signs PERSIST for a sealed block that was just saved.
    pub(super) fn seal(&mut self, now: Time, height: Height, digest: Digest, out: &mut Out) {
        if !votes_in(self.ordering.state()) {
            return;
        }
        let Some(voter) = self.ordering.voter_mut() else {
            return;
        };
        match voter.persist(height, digest) {
            Ok((records, vote)) => {
                if plant::is(Plant::EagerPersist) {
                    out.send(To::Committee, Message::Persist(*vote));
                }
                let view = self.view.id();
                records
                    .into_iter()
                    .for_each(|record| out.save(Record::Voter(view, record)));
                out.send(To::Committee, Message::Persist(*vote));
                self.on_persist(now, vote, out);
            }
            // Execution gave another header than before the restart, or the height is settled.
            Err(refused) if voter.persisted(height).is_some() => {
                tracing::debug!(%refused, "PERSIST refused");
                self.halt_at(now, height, None, out);
            }
            Err(_) => {}
        }
    }

    /// Votes may leave again: PERSIST votes of sealed blocks that no certificate covers yet go out,
    /// also those that a crash cut off behind their blocks.
    pub(super) fn seal_again(&mut self, now: Time, out: &mut Out) {
        let above = self.chain.recent.range(self.certified().next()..);
        let sealed: Vec<(Height, Digest)> = above
            .filter(|(_, (_, sealed))| *sealed)
            .map(|(h, (digest, _))| (*h, *digest))
            .collect();
        for (height, digest) in sealed {
            self.seal(now, height, digest, out);
        }
    }

    /// Counts a PERSIST; one per seat and height, the first. Another header is a fault.
    pub(super) fn on_persist(&mut self, now: Time, vote: Verified<Vote>, out: &mut Out) {
        self.ordering.note(&vote);
        let height = vote.ballot.height;
        let parameters = &self.options.genesis.parameters;
        let reach = u64::from(parameters.ahead_max) + u64::from(parameters.window);
        let is_near = height > self.certified() && height <= self.certified().plus(reach);
        if !is_near {
            return;
        }
        let votes = self.seals.votes.entry(height).or_default();
        let held = **votes.entry(vote.seat).or_insert(vote.clone());
        if held.ballot != vote.ballot {
            return self.convict(Evidence::Votes(held, *vote), out);
        }
        self.try_certify(now, height, out);
    }

    fn try_certify(&mut self, now: Time, height: Height, out: &mut Out) {
        let Some(votes) = self.seals.votes.get(&height) else {
            return;
        };
        let mut tally: BTreeMap<Digest, Vec<&Verified<Vote>>> = BTreeMap::new();
        for vote in votes.values() {
            tally.entry(vote.ballot.digest).or_default().push(vote);
        }
        let need = self.view.sizes().q;
        let Some(votes) = tally.into_values().find(|votes| votes.len() >= need) else {
            return;
        };
        if let Some(certificate) = Certificate::assemble(&self.view, votes) {
            self.on_certificate(now, certificate, out);
        }
    }

    /// A block certificate, from wherever: ours is taken, one ahead is remembered and followed.
    pub(super) fn on_certificate(
        &mut self,
        now: Time,
        certificate: Verified<Certificate>,
        out: &mut Out,
    ) {
        let ballot = certificate.ballot;
        if ballot.height <= self.certified() {
            return;
        }
        if ballot.height > self.chain.ledger.height() {
            if self.seals.keep(certificate) {
                self.follow(out);
            }
            return;
        }
        match self.chain.recent.get(&ballot.height) {
            Some((ours, _)) if *ours == ballot.digest => {
                self.submit_to_gate(now, &certificate, out)
            }
            Some(_) => self.halt_at(now, ballot.height, Some(ballot.digest), out),
            None => {} // Below what is certified here; nothing new.
        }
    }

    /// Applying may have reached a certificate that was ahead.
    pub(super) fn certify_reached(&mut self, now: Time, out: &mut Out) {
        let height = self.chain.ledger.height();
        while let Some(certificate) = self.seals.reached(height) {
            self.on_certificate(now, certificate, out);
        }
    }

    /// The gate let a certificate of our own header pass.
    pub(super) fn certify(&mut self, now: Time, certificate: Certificate, out: &mut Out) {
        let height = certificate.ballot.height;
        out.save(Record::Certificate(certificate.clone()));
        self.chain.recent = self.chain.recent.split_off(&height);
        let open = self.seals.votes.split_off(&height.next());
        let closed = std::mem::replace(&mut self.seals.votes, open);
        let votes = closed.get(&height).into_iter().flat_map(BTreeMap::values);
        let others = votes.filter(|vote| vote.ballot.digest != certificate.ballot.digest);
        for vote in others {
            self.convict(Evidence::Header(**vote, certificate.clone()), out);
        }
        let applied = self.chain.ledger.height();
        self.tell(
            now,
            fsm::Command::Certified(certificate.clone(), applied),
            out,
        );
        self.spread(&certificate, out);
        out.emit(Event::Certified(certificate.clone()));
        self.open_next(&certificate, out);
        self.give_share(out);
    }

    fn convict(&mut self, evidence: Evidence, out: &mut Out) {
        self.accuse(evidence.accused(), Some(Box::new(evidence)), out);
    }

    /// Our PERSIST votes above `certified`, for one who may lack them.
    pub(super) fn votes_above(&self, certified: Height) -> Vec<Vote> {
        let Some(seat) = self.view.seat_of(&self.options.me) else {
            return Vec::new();
        };
        let above = self.seals.votes.range(certified.next()..);
        above
            .filter_map(|(_, votes)| votes.get(&seat).map(|vote| **vote))
            .collect()
    }
}
