//! The claims that a new leader collects, and the SYNC that they make.
//!
//! Source: Mod-SMaRt, synchronisation phase. In: checked STOP-DATA. Out: a SYNC over n − f of them.
//! Holds: one seat has one STOP-DATA here, its newest; one without all its certificates counts for
//! nothing.
//! Elsewhere: what a SYNC settles (`sync`), when claims are made and sent (`regency`).
//!
//! A leader that loses its memory collects again and may make a second SYNC for its regency, over
//! other claims. That is safe: every set of n − f binds what may have been decided below the
//! regency; a seat follows the first SYNC that it sees, and were it to follow another after a
//! crash, its voter still signs one PROPOSE, WRITE and ACCEPT per height in this regency. At worst
//! seats wait for different values at a height and the next regency settles it. So a SYNC need not
//! be durable: n − f seats keep their STOP-DATA with its certificates and say it again after a
//! power loss of all.

use std::collections::BTreeMap;

use super::core::Core;
use super::message::{Message, Sync};
use super::sync::{is_proved, needed};
use crate::committee::{Certificate, Claim, Height, Lock, Regency, Seat, StopData, View, Voter};

/// The newest claims of each seat.
#[derive(Debug, Default)]
pub(super) struct Collected(BTreeMap<Seat, (StopData, Vec<Certificate>)>);

impl Collected {
    /// Keeps claims that are newer than those of the same seat and proved.
    pub(super) fn keep(&mut self, data: &StopData, proofs: &[Certificate], view: &View) {
        let held = self.0.get(&data.seat);
        let is_newer = held.is_none_or(|(held, _)| held.regency < data.regency);
        if is_newer && is_proved(data, proofs, view) {
            self.0.insert(data.seat, (data.clone(), proofs.to_vec()));
        }
    }

    /// Forgets claims for regencies below `regency`.
    pub(super) fn forget_below(&mut self, regency: Regency) {
        self.0.retain(|_, (held, _)| held.regency >= regency);
    }

    /// What `seat` claimed for `regency`, byte for byte.
    pub(super) fn message(&self, seat: Seat, regency: Regency) -> Option<Message> {
        let (data, proofs) = self.0.get(&seat)?;
        let is_asked = data.regency == regency;
        is_asked.then(|| Message::StopData(data.clone(), proofs.clone()))
    }

    /// The SYNC of `regency`, once n − f seats have claimed.
    pub(super) fn sync(&self, view: &View, regency: Regency) -> Option<Sync> {
        let count = Sync::set_len(view);
        let fitting = self.0.values().filter(|(data, _)| data.is_for(regency));
        let chosen: Vec<_> = fitting.take(count).collect();
        if chosen.len() < count {
            return None;
        }
        let set: Vec<StopData> = chosen.iter().map(|(data, _)| data.clone()).collect();
        let proofs: Vec<Certificate> = chosen.iter().flat_map(|(_, p)| p.clone()).collect();
        Some(Sync {
            view: view.id(),
            regency,
            proofs: needed(&set, &proofs, view),
            set,
        })
    }
}

impl Core {
    /// What we claim at a regency change: per height above the base the decision, or else the lock.
    pub(super) fn claims(&self, regency: Regency) -> (Vec<Claim>, Vec<Certificate>) {
        let base = self.certified();
        let mut held: BTreeMap<Height, (bool, Certificate)> = BTreeMap::new();
        for (height, promise) in self.voter.iter().flat_map(Voter::promises) {
            // Above the view's last height too: whoever heard our ACCEPT there asks for its lock.
            if let Some(lock) = promise.lock.as_ref().filter(|_| height > base) {
                held.insert(height, (false, lock.clone()));
            }
        }
        for (height, instance) in self.instances.range(base.next()..) {
            // A decision of this regency or a later one follows from its SYNC and cannot be claimed
            // for it: what it decided is bound by q seats that vote in no regency below it any
            // more.
            let decision = instance.decision().filter(|c| c.ballot.regency < regency);
            if let Some(decision) = decision {
                held.insert(*height, (true, decision.clone()));
            }
        }
        let claims = held.iter().map(|(height, (is_decided, proof))| Claim {
            height: *height,
            is_decided: *is_decided,
            lock: Lock {
                regency: proof.ballot.regency,
                digest: proof.ballot.digest,
            },
        });
        let claims = claims.collect();
        let proofs = self.base.iter().cloned();
        (
            claims,
            proofs
                .chain(held.into_values().map(|(_, proof)| proof))
                .collect(),
        )
    }
}
