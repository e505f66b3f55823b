//! The threshold key of the committee that is named next: made in the chain, without a dealer.
//!
//! Source: joint Feldman over an ordered log, complaints as openings that anybody can judge
//! (`crypto::threshold`). In: what named members say in transactions, heights. Out: what each owes
//! now, the key.
//! Holds: each step ends by a count or by a height, so it follows from the prefix alone; a key
//! counts only if n − f of its committee say that they hold good shares and have the seats for
//! them, of whom f + 1 are correct; only dealings that nobody could convict are in it, of f + 1
//! dealers, of whom one is correct.
//! Elsewhere: the arithmetic (`crypto::threshold`), when a committee is named (`next`), what is
//! signed with the key (`consortium::views`).
//!
//! ```text
//! keys --all, or a quarter of the wait--> dealing --enough, or a half--> judging
//!                                       judging --all, or three quarters--> over
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::operation::{Complaint, Step};
use super::{Done, Footing, Operation, Place, Refusal, Register};
use crate::blocks::body::NextSeat;
use crate::blocks::{Call, Link};
use crate::committee::{Height, MemberId, Sizes, ViewId, Voter};
use crate::crypto::threshold::{Party, Receiver, Terms};
use crate::crypto::{Digest, Domain, Hasher, PublicKey, SecretKey, SignBytes};

/// Bytes of all dealings of one generation, at most; the largest committee has less.
pub const DEALINGS_BYTES_MAX: usize = 3 << 20;

/// A committee that makes a threshold key has so many times as many blocks to answer as one that
/// does not: each of three steps takes a transaction of every member. Where all answer, all is over
/// in a few blocks.
pub(super) const STEPS_TIMES: u32 = 16;

/// Which step is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Members say to which keys values are encrypted for them.
    Keys,
    /// Members deal.
    Dealing,
    /// Members say which values are wrong.
    Judging,
    /// Nothing more is taken.
    Over,
}

/// A threshold key under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    call: Call,
    /// The assemble block, and how many blocks its committee has.
    from: Height,
    wait: u64,
    committee: Vec<MemberId>,
    context: Digest,
    /// Points that values are encrypted to, by seat.
    pub(super) keys: BTreeMap<u16, Bytes>,
    /// Dealings by the dealer's seat.
    dealings: BTreeMap<u16, Bytes>,
    /// Who judged, and whether its complaints held.
    judged: BTreeMap<u16, bool>,
    /// Dealers that were convicted.
    guilty: BTreeSet<u16>,
    /// Who gave a key or a dealing that is not its own: checking one costs everybody pairings, so
    /// no other is taken.
    spoilt: BTreeSet<u16>,
}

/// A committee's threshold key, with what its holders find their shares in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThresholdKey {
    context: Digest,
    degree: usize,
    receivers: Vec<Receiver>,
    /// Seats that found every value right.
    pub(super) holders: BTreeSet<u16>,
    public: Bytes,
    /// Dealings that count, by the dealer's seat.
    pub(super) dealings: Vec<(u16, Bytes)>,
}

impl Generation {
    /// The generation for the committee that the assemble block at `from` names, which has `wait`
    /// blocks.
    pub(super) fn new(
        chain: &Digest,
        call: Call,
        from: Height,
        wait: u64,
        committee: &[MemberId],
    ) -> Self {
        let mut hasher = Hasher::new(Domain::Threshold);
        hasher.update(chain.as_bytes());
        hasher.update(&call.next.0.to_le_bytes());
        hasher.update(call.assemble.as_bytes());
        Self {
            call,
            from,
            wait,
            committee: committee.to_vec(),
            context: hasher.finish(),
            keys: BTreeMap::new(),
            dealings: BTreeMap::new(),
            judged: BTreeMap::new(),
            guilty: BTreeSet::new(),
            spoilt: BTreeSet::new(),
        }
    }

    fn sizes(&self) -> Sizes {
        Sizes::of(self.committee.len())
    }

    /// Keys, and verdicts, that make a threshold key: n − f.
    fn need(&self) -> usize {
        self.sizes().n - self.sizes().f
    }

    /// Dealings that are taken: 2f + 1, so that f + 1 are left of them whatever f do.
    fn dealings_max(&self) -> usize {
        (2 * self.sizes().f + 1).min(self.keys.len())
    }

    /// What it is for.
    pub fn call(&self) -> Call {
        self.call
    }

    /// The step that operations of the block at `height` belong to.
    pub fn stage(&self, height: Height) -> Stage {
        let until = |quarters: u64| self.from.plus(self.wait * quarters / 4);
        if self.keys.len() < self.committee.len() && height <= until(1) {
            Stage::Keys
        } else if self.keys.len() < self.need() {
            Stage::Over
        } else if self.dealings.len() < self.dealings_max() && height <= until(2) {
            Stage::Dealing
        } else if self.dealings.len() <= self.sizes().f {
            Stage::Over
        } else if self.judged.len() < self.keys.len() && height <= until(3) {
            Stage::Judging
        } else {
            Stage::Over
        }
    }

    fn receivers(&self) -> Vec<Receiver> {
        let keys = self.keys.iter();
        keys.map(|(seat, key)| receiver(*seat, key)).collect()
    }

    fn terms<'a>(&'a self, receivers: &'a [Receiver]) -> Terms<'a> {
        Terms {
            context: &self.context,
            degree: self.sizes().f,
            receivers,
        }
    }

    fn seat_of(&self, member: &MemberId) -> Option<u16> {
        let seat = self.committee.iter().position(|named| named == member)?;
        u16::try_from(seat).ok()
    }

    /// What `member`, whose fresh key for this call has `secret`, should say in the block at
    /// `height`.
    pub fn owed(&self, member: &MemberId, secret: &SecretKey, height: Height) -> Option<Operation> {
        let seat = self.seat_of(member)?;
        if !self.takes(seat, self.stage(height)) {
            return None;
        }
        let party = Party::new(secret, &self.context);
        let receivers = self.receivers();
        let terms = self.terms(&receivers);
        let key = party.key(seat)?;
        let is_ours = self
            .keys
            .get(&seat)
            .is_some_and(|point| key.starts_with(point));
        let step = match self.stage(height) {
            Stage::Keys => Step::Key(key),
            Stage::Dealing if is_ours => Step::Deal(party.deal(&terms, seat)?),
            Stage::Judging if is_ours => {
                let place = receivers
                    .iter()
                    .position(|receiver| receiver.seat == seat)?;
                let wrong = self.dealings.iter().filter_map(|(dealer, dealing)| {
                    let opening = party.complaint(&terms, *dealer, dealing, place)?;
                    let dealer = *dealer;
                    Some(Complaint { dealer, opening })
                });
                Step::Judge(wrong.collect())
            }
            Stage::Dealing | Stage::Judging | Stage::Over => return None,
        };
        Some(Operation::Threshold(self.call, step))
    }

    /// Whether a part of `seat` is waited for in this stage.
    fn takes(&self, seat: u16, stage: Stage) -> bool {
        let is_in = self.keys.contains_key(&seat) && !self.spoilt.contains(&seat);
        match stage {
            Stage::Keys => !self.keys.contains_key(&seat) && !self.spoilt.contains(&seat),
            Stage::Dealing => is_in && !self.dealings.contains_key(&seat),
            Stage::Judging => is_in && !self.judged.contains_key(&seat),
            Stage::Over => false,
        }
    }

    fn take(&mut self, height: Height, seat: u16, step: Step) -> Result<Done, Refusal> {
        let stage = self.stage(height);
        if step.stage() != stage || !self.takes(seat, stage) {
            return Err(Refusal::NotAsked);
        }
        let receivers = self.receivers();
        let terms = self.terms(&receivers);
        let is_good = match step {
            Step::Key(key) => match terms.key_of(seat, &key) {
                Some(point) => self.keys.insert(seat, point).is_none(),
                None => false,
            },
            Step::Deal(dealing) => {
                terms.is_dealing(seat, &dealing) && self.dealings.insert(seat, dealing).is_none()
            }
            Step::Judge(complaints) => return Ok(self.judge(&receivers, seat, &complaints)),
        };
        match is_good {
            true => Ok(Done::Effective),
            false => {
                self.spoilt.insert(seat);
                Ok(Done::Fell)
            }
        }
    }

    /// Takes the complaints of one receiver, once. The first that does not hold voids its verdict
    /// and ends the reading of it; what was shown before stays shown.
    fn judge(&mut self, receivers: &[Receiver], seat: u16, complaints: &[Complaint]) -> Done {
        let place = receivers.iter().position(|receiver| receiver.seat == seat);
        let place = place.expect("who judges has given a key");
        let mut all_hold = true;
        for Complaint { dealer, opening } in complaints {
            let terms = self.terms(receivers);
            let convicts = |dealing: &Bytes| terms.convicts(*dealer, dealing, place, opening);
            let is_known = self.guilty.contains(dealer);
            if !is_known && !self.dealings.get(dealer).is_some_and(convicts) {
                all_hold = false;
                break;
            }
            self.guilty.insert(*dealer);
        }
        self.judged.insert(seat, all_hold);
        match all_hold {
            true => Done::Effective,
            false => Done::Fell,
        }
    }

    /// The key, once nothing more is taken in the block at `height`; nothing where it came to none.
    /// Costs (f + 1)² points.
    pub fn key(&self, height: Height) -> Option<ThresholdKey> {
        let (f, receivers) = (self.sizes().f, self.receivers());
        let good = self.judged.iter().filter(|(_, holds)| **holds);
        let holders: BTreeSet<u16> = good.map(|(seat, _)| *seat).collect();
        let is_over = self.stage(height) == Stage::Over;
        let standing = self.dealings.iter();
        let standing = standing.filter(|(dealer, _)| !self.guilty.contains(dealer));
        let dealings = standing.map(|(dealer, dealing)| (*dealer, dealing.clone()));
        let dealings: Vec<(u16, Bytes)> = dealings.take(f + 1).collect();
        if !is_over || holders.len() < self.need() || dealings.len() <= f {
            return None;
        }
        let dealt = dealings.iter().map(|(_, dealing)| &dealing[..]);
        let public = self.terms(&receivers).public(dealt)?;
        Some(ThresholdKey {
            context: self.context,
            degree: f,
            receivers,
            holders,
            public,
            dealings,
        })
    }

    /// Adds what it holds to a digest by which members compare their states.
    pub(super) fn hash_into(&self, hasher: &mut Hasher) {
        hasher.update(self.context.as_bytes());
        hasher.update(&self.from.0.to_le_bytes());
        hasher.update(&self.wait.to_le_bytes());
        for parts in [&self.keys, &self.dealings] {
            hasher.update(&(parts.len() as u64).to_le_bytes());
            for (seat, bytes) in parts {
                hasher.update(&seat.to_le_bytes());
                hasher.update(&(bytes.len() as u64).to_le_bytes());
                hasher.update(bytes);
            }
        }
        hasher.update(&(self.judged.len() as u64).to_le_bytes());
        for (seat, holds) in &self.judged {
            hasher.update(&seat.to_le_bytes());
            hasher.update(&[(*holds).into()]);
        }
        for seats in [&self.guilty, &self.spoilt] {
            hasher.update(&(seats.len() as u64).to_le_bytes());
            for seat in seats {
                hasher.update(&seat.to_le_bytes());
            }
        }
    }
}

fn receiver(seat: u16, key: &Bytes) -> Receiver {
    let key = key.clone();
    Receiver { seat, key }
}

impl ThresholdKey {
    /// The public key as a reconfiguration block names it.
    pub fn public(&self) -> &Bytes {
        &self.public
    }

    /// How many shares make a signature.
    pub fn need(&self) -> usize {
        self.degree + 1
    }

    /// Whether enough of its holders have the seats for which they made their shares: who carries
    /// an older key over has forgotten the secret that its share follows from.
    pub fn is_held(&self, seats: &[NextSeat]) -> bool {
        let sizes = Sizes::of(seats.len());
        let is_holder = |(seat, _): &(u16, &NextSeat)| self.holders.contains(seat);
        let holders = (0..).zip(seats).filter(is_holder);
        holders.filter(|(_, seat)| seat.fresh.is_some()).count() >= sizes.n - sizes.f
    }

    /// What `voter`'s seat signs of the committee's statement; nothing where it has no share.
    pub fn share(&self, voter: &Voter, statement: &SignBytes) -> Option<Bytes> {
        let of_seat = |receiver: &Receiver| receiver.seat == voter.seat().0;
        let place = self.receivers.iter().position(of_seat)?;
        let terms = Terms {
            context: &self.context,
            degree: self.degree,
            receivers: &self.receivers,
        };
        if !self.holders.contains(&voter.seat().0) {
            return None;
        }
        let dealings = self
            .dealings
            .iter()
            .map(|(dealer, dealing)| (*dealer, &dealing[..]));
        voter.share(&terms, dealings, place, statement)
    }
}

impl Step {
    /// The stage that it belongs to.
    fn stage(&self) -> Stage {
        match self {
            Step::Key(_) => Stage::Keys,
            Step::Deal(_) => Stage::Dealing,
            Step::Judge(_) => Stage::Judging,
        }
    }
}

impl ThresholdKey {
    /// Adds what it holds to a digest by which members compare their states.
    pub(super) fn hash_into(&self, hasher: &mut Hasher) {
        hasher.update(self.context.as_bytes());
        hasher.update(&self.public);
        for seat in &self.holders {
            hasher.update(&seat.to_le_bytes());
        }
        for (dealer, dealing) in &self.dealings {
            hasher.update(&dealer.to_le_bytes());
            hasher.update(dealing);
        }
    }
}

impl Register {
    /// The threshold key under way for the committee that is named.
    pub fn generation(&self) -> Option<&Generation> {
        self.generation.as_ref()
    }

    /// The present committee's threshold key.
    pub fn threshold(&self) -> Option<&ThresholdKey> {
        self.threshold.as_ref()
    }

    /// Whether committees are samples, now or since the last freeze: then threshold keys decide.
    pub fn needs_threshold(&self) -> bool {
        let is_sample = |footing: &Footing| footing.is_everyone() == Ok(false);
        let frozen = self.frozen.as_ref();
        self.generation.is_some()
            || self.threshold.is_some()
            || is_sample(&self.footing())
            || frozen.is_some_and(|slate| is_sample(&slate.footing))
    }

    /// Whether a threshold key is under way that the block at `height` may still change.
    pub fn is_generating(&self, height: Height) -> bool {
        let generation = self.generation.as_ref();
        generation.is_some_and(|generation| generation.stage(height) != Stage::Over)
    }

    /// How many blocks the committee that is named has to answer.
    pub fn answer_blocks(&self) -> u64 {
        let blocks = u64::from(self.base.rules.assemble_blocks);
        match self.generation {
            Some(_) => blocks * u64::from(STEPS_TIMES),
            None => blocks,
        }
    }

    /// How many blocks a beacon may take.
    pub fn beacon_blocks(&self) -> u64 {
        u64::from(self.base.rules.assemble_blocks) * u64::from(STEPS_TIMES)
    }

    /// The assemble block at `at` named a committee. One that was drawn from more makes a threshold
    /// key, since the next one will be drawn too.
    pub fn name(&mut self, at: Link, next: ViewId, committee: &[MemberId]) {
        let frozen = self.frozen.as_ref();
        let is_drawn = frozen.is_some_and(|slate| slate.footing.is_everyone() == Ok(false));
        let call = Call {
            next,
            assemble: at.digest,
        };
        let wait = self.beacon_blocks();
        let generation = || Generation::new(&self.chain, call, at.height, wait, committee);
        self.generation = is_drawn.then(generation);
    }

    pub(super) fn generate(
        &mut self,
        place: &Place<'_>,
        signer: &PublicKey,
        call: Call,
        step: Step,
    ) -> Result<Done, Refusal> {
        let asked = self.generation.as_mut().filter(|g| g.call == call);
        let generation = asked.ok_or(Refusal::NotAsked)?;
        let seat = generation.seat_of(&MemberId::of(signer));
        generation.take(place.height, seat.ok_or(Refusal::NotAsked)?, step)
    }
}
