//! Sealing: PERSIST votes over headers become block certificates.
//!
//! Source: SmartChain, PERSIST phase. In: applied sealed blocks, PERSIST votes, certificates. Out: the
//! newest certificate.
//! Holds: a PERSIST leaves only behind the save of its block; a certificate is taken only for a
//! header that is ours. Elsewhere: what to do when we are behind one (`catchup`).

use std::collections::BTreeMap;

use super::contract::{Event, Record};
use super::message::Message;
use super::replica::{Consortium, Out};
use crate::committee::{Certificate, Height, Seat, Vote};
use crate::crypto::{Digest, Verified};
use crate::fsm;
use crate::machine::{Time, To};

/// PERSIST votes of open heights, and certificates ahead of us.
#[derive(Debug, Default)]
pub(super) struct Seals {
    votes: BTreeMap<Height, BTreeMap<Seat, Verified<Vote>>>,
    /// The newest certificate above what is applied.
    pub(super) ahead: Option<Verified<Certificate>>,
}

impl Consortium {
    /// Signs PERSIST for a sealed block that was just saved.
    pub(super) fn seal(&mut self, now: Time, height: Height, digest: Digest, out: &mut Out) {
        if !matches!(
            self.ordering.state(),
            "follower" | "leader" | "checkpointing"
        ) {
            return;
        }
        let Some(voter) = self.ordering.voter_mut() else {
            return;
        };
        match voter.persist(height, digest) {
            Ok((records, vote)) => {
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

    /// After a restart: PERSIST votes of sealed blocks that no certificate covers yet go out again.
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

    /// Counts a PERSIST; one per seat and height, the first.
    pub(super) fn on_persist(&mut self, now: Time, vote: Verified<Vote>, out: &mut Out) {
        let height = vote.ballot.height;
        let parameters = &self.options.genesis.parameters;
        let reach = u64::from(parameters.ahead_max) + u64::from(parameters.window);
        let is_near = height > self.certified() && height <= self.certified().plus(reach);
        if !is_near {
            return;
        }
        self.seals
            .votes
            .entry(height)
            .or_default()
            .entry(vote.seat)
            .or_insert(vote);
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
            let held = self
                .seals
                .ahead
                .as_ref()
                .map_or(Height(0), |c| c.ballot.height);
            if ballot.height > held {
                self.seals.ahead = Some(certificate);
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
        if self
            .seals
            .ahead
            .as_ref()
            .is_some_and(|c| c.ballot.height <= height)
            && let Some(certificate) = self.seals.ahead.take()
        {
            self.on_certificate(now, certificate, out);
        }
    }

    /// The gate let a certificate of our own header pass.
    pub(super) fn certify(&mut self, now: Time, certificate: Certificate, out: &mut Out) {
        let height = certificate.ballot.height;
        out.save(Record::Certificate(certificate.clone()));
        self.chain.recent = self.chain.recent.split_off(&height);
        self.seals.votes = self.seals.votes.split_off(&height.next());
        let applied = self.chain.ledger.height();
        self.tell(
            now,
            fsm::Command::Certified(certificate.clone(), applied),
            out,
        );
        self.spread(&certificate, out);
        out.emit(Event::Certified(certificate));
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
