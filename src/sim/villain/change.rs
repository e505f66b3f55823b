//! Villains of the regency change: false claims, hidden SYNCs, SYNCs with two faces.
//!
//! Source: Mod-SMaRt, synchronisation phase. In: their member's STOP-DATA and SYNC. Out: others
//! that they could have signed. Holds: the claims of others are theirs, signatures and all.
//! Elsewhere: what a receiver makes of them (`fsm::sync`).

use std::collections::BTreeMap;

use super::den::{Den, Half, Vice, say};
use crate::committee::{Certificate, Claim, Height, Lock, MemberId, Regency, Seat, StopData};
use crate::consortium::Message;
use crate::fsm;
use crate::sim::dice::Dice;
use crate::sim::member::Leaving;

/// Claims whatever suits it: nothing, locks that nobody gave it, bases that do not exist, timeouts
/// of nothing or of ages; something else to everybody.
pub(super) struct StopLiar;

impl StopLiar {
    fn claims(den: &mut Den<'_>, data: &StopData) -> (Vec<Claim>, u64) {
        let lock = |den: &mut Den<'_>| Lock {
            regency: Regency(data.regency.0.saturating_sub(den.dice.within(1, 2))),
            digest: den.digest(),
        };
        let claims = match den.dice.below(4) {
            0 => Vec::new(),
            1 => {
                let mut claims = data.claims.clone();
                for claim in &mut claims {
                    claim.lock = lock(den);
                }
                claims
            }
            2 => vec![Claim {
                height: data.base.plus(den.dice.within(1, 20)),
                is_decided: den.dice.chance(500),
                lock: lock(den),
            }],
            _ => data.claims.clone(),
        };
        let timeout_us = [0, data.timeout_us, u64::MAX][den.dice.index(3)];
        (claims, timeout_us)
    }
}

impl Vice for StopLiar {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        let Message::Order(fsm::Message::StopData(data, proofs)) = message else {
            return vec![say(to, message.clone())];
        };
        let (claims, timeout_us) = Self::claims(den, data);
        let base = match den.dice.below(3) {
            0 => (Height(0), Default::default()),
            1 => (data.base.plus(den.dice.within(1, 1_000_000)), den.digest()),
            _ => (data.base, data.base_digest),
        };
        let lied = den.stop_data(data.regency, base, timeout_us, claims);
        let lied = lied.unwrap_or_else(|| data.clone());
        let proofs = if den.dice.chance(300) {
            Vec::new()
        } else {
            proofs.clone()
        };
        let lied = Message::Order(fsm::Message::StopData(lied, proofs));
        // Those who do not lead hear it too.
        let stray = den.other();
        vec![say(to, lied.clone()), say(stray, lied)]
    }
}

/// Collects claims and keeps the SYNC to itself, or shows it to half of the others.
pub(super) struct SyncHider {
    shows: Option<Half>,
}

impl SyncHider {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let half = Half::new(dice);
        let shows = dice.chance(500).then_some(half);
        Self { shows }
    }
}

impl Vice for SyncHider {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        let is_sync = matches!(message, Message::Order(fsm::Message::Sync(_)));
        let is_shown = !is_sync || self.shows.is_some_and(|half| half.has(den.view, to));
        let said = is_shown.then(|| say(to, message.clone()));
        said.into_iter().collect()
    }
}

/// Makes a second valid SYNC for half of the others: another n − f of the claims that it has, its
/// own claims forgotten, or one without its proofs.
pub(super) struct TwoFacedSync {
    half: Half,
    /// What others claimed, by seat.
    claims: BTreeMap<Seat, (StopData, Vec<Certificate>)>,
}

impl TwoFacedSync {
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self {
            half: Half::new(dice),
            claims: BTreeMap::new(),
        }
    }

    fn second(&self, den: &mut Den<'_>, sync: &fsm::Sync) -> fsm::Sync {
        let mut set: BTreeMap<Seat, StopData> = BTreeMap::new();
        let mut proofs = sync.proofs.clone();
        // The highest seats first, where the member took the lowest.
        for (seat, (data, proved)) in self.claims.iter().rev() {
            if data.regency == sync.regency && set.len() + 1 < sync.set.len() {
                set.insert(*seat, data.clone());
                proofs.extend(proved.iter().cloned());
            }
        }
        let own = sync.set.iter().find(|data| data.seat == den.seat());
        let timeout_us = own.map_or(0, |data| data.timeout_us);
        let none = (Height(0), Default::default());
        let forgotten = den.stop_data(sync.regency, none, timeout_us, Vec::new());
        set.extend(forgotten.map(|data| (data.seat, data)));
        let is_whole = set.len() == sync.set.len();
        if den.dice.chance(100) {
            proofs.clear();
        }
        fsm::Sync {
            set: if is_whole {
                set.into_values().collect()
            } else {
                sync.set.clone()
            },
            proofs,
            ..sync.clone()
        }
    }
}

impl Vice for TwoFacedSync {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        match message {
            Message::Order(fsm::Message::Sync(sync)) if self.half.has(den.view, to) => {
                let second = self.second(den, sync);
                vec![say(to, Message::Order(fsm::Message::Sync(second)))]
            }
            other => vec![say(to, other.clone())],
        }
    }

    fn overhear(&mut self, _: &mut Den<'_>, message: &Message) -> Vec<Leaving> {
        if let Message::Order(fsm::Message::StopData(data, proofs)) = message {
            let claims = (data.clone(), proofs.clone());
            self.claims.insert(data.seat, claims);
        }
        Vec::new()
    }
}
