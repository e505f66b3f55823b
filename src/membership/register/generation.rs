//! The threshold key of the committee that is named next: made in the chain, without a dealer.
//!
//! Source: joint Feldman over an ordered log, complaints as openings that anybody can judge
//! (`crypto::threshold`). In: what named members say in transactions, heights. Out: what each owes
//! now, the key.
//! Holds: each step ends by a count or by a height, so it follows from the prefix alone; a key
//! counts only if n − f of its committee hold good shares, of whom f + 1 are correct; only dealings
//! that nobody could convict are in it, of f + 1 dealers, of whom one is correct.
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
use super::{Done, Operation, Place, Refusal, Register};
use crate::blocks::{Call, Link};
use crate::committee::{Height, MemberId, Sizes, ViewId, Voter};
use crate::crypto::threshold::{Party, Receiver, Terms, is_key};
use crate::crypto::{Digest, Domain, Hasher, PublicKey, SecretKey, SignBytes};

/// Bytes of all dealings of one generation, at most; a committee that needs more makes no key, and
/// the one after it keeps its seats.
pub const DEALINGS_BYTES_MAX: usize = 3 << 20;

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
    wait: u32,
    committee: Vec<MemberId>,
    context: Digest,
    /// Keys by seat.
    keys: BTreeMap<u16, Bytes>,
    /// Dealings by the dealer's seat.
    dealings: BTreeMap<u16, Bytes>,
    /// Who judged, and whether its complaints held.
    judged: BTreeMap<u16, bool>,
    /// Dealers that were convicted.
    guilty: BTreeSet<u16>,
}

/// A committee's threshold key, with what its holders find their shares in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThresholdKey {
    context: Digest,
    degree: usize,
    receivers: Vec<Receiver>,
    public: Bytes,
    dealings: Vec<Bytes>,
}

impl Generation {
    /// The generation for the committee that the assemble block at `from` names, which has `wait`
    /// blocks; nothing for a committee whose dealings have no room.
    pub(super) fn new(
        chain: &Digest,
        call: Call,
        from: Height,
        wait: u32,
        committee: &[MemberId],
    ) -> Option<Self> {
        let mut hasher = Hasher::new(Domain::Threshold);
        hasher.update(chain.as_bytes());
        hasher.update(&call.next.0.to_le_bytes());
        hasher.update(call.assemble.as_bytes());
        let generation = Self {
            call,
            from,
            wait,
            committee: committee.to_vec(),
            context: hasher.finish(),
            keys: BTreeMap::new(),
            dealings: BTreeMap::new(),
            judged: BTreeMap::new(),
            guilty: BTreeSet::new(),
        };
        let n = committee.len();
        let terms = Terms {
            context: &generation.context,
            degree: generation.sizes().f,
            receivers: &vec![receiver(0, &Bytes::new()); n],
        };
        let least = (generation.sizes().f + 1) * terms.dealing_bytes();
        (least <= DEALINGS_BYTES_MAX).then_some(generation)
    }

    fn sizes(&self) -> Sizes {
        Sizes::of(self.committee.len())
    }

    /// Keys, and verdicts, that make a threshold key: n − f.
    fn need(&self) -> usize {
        self.sizes().n - self.sizes().f
    }

    /// Dealings that are taken: 2f + 1, so that f + 1 are left of them whatever f do, where they
    /// have room.
    fn dealings_max(&self) -> usize {
        let receivers = self.receivers();
        let room = DEALINGS_BYTES_MAX / self.terms(&receivers).dealing_bytes();
        (2 * self.sizes().f + 1).min(room).min(self.keys.len())
    }

    /// What it is for.
    pub fn call(&self) -> Call {
        self.call
    }

    /// The step that operations of the block at `height` belong to.
    pub fn stage(&self, height: Height) -> Stage {
        let until = |quarters: u64| self.from.plus(u64::from(self.wait) * quarters / 4);
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

    fn has_key(&self, seat: u16) -> bool {
        self.keys.contains_key(&seat)
    }

    /// What `member`, whose fresh key for this call has `secret`, should say in the block at
    /// `height`.
    pub fn owed(&self, member: &MemberId, secret: &SecretKey, height: Height) -> Option<Operation> {
        let seat = self.seat_of(member)?;
        let party = Party::new(secret, &self.context);
        let receivers = self.receivers();
        let terms = self.terms(&receivers);
        let stage = self.stage(height);
        let key = party.key()?;
        let is_ours = self.keys.get(&seat) == Some(&key);
        let step = match stage {
            Stage::Keys if !self.has_key(seat) => Step::Key(key),
            Stage::Dealing if is_ours && !self.dealings.contains_key(&seat) => {
                Step::Deal(party.deal(&terms)?)
            }
            Stage::Judging if is_ours && !self.judged.contains_key(&seat) => {
                let place = receivers
                    .iter()
                    .position(|receiver| receiver.seat == seat)?;
                let wrong = self.dealings.iter().filter_map(|(dealer, dealing)| {
                    let opening = party.complaint(&terms, dealing, place)?;
                    let dealer = *dealer;
                    Some(Complaint { dealer, opening })
                });
                Step::Judge(wrong.collect())
            }
            Stage::Keys | Stage::Dealing | Stage::Judging | Stage::Over => return None,
        };
        Some(Operation::Threshold(self.call, step))
    }

    fn take(&mut self, height: Height, seat: u16, step: Step) -> Result<Done, Refusal> {
        let receivers = self.receivers();
        let stage = self.stage(height);
        match step {
            Step::Key(key) if stage == Stage::Keys && !self.has_key(seat) => {
                let is_new = !self.keys.values().any(|held| *held == key);
                if !is_new || !is_key(&key) {
                    return Err(Refusal::BadDealing);
                }
                self.keys.insert(seat, key);
            }
            Step::Deal(dealing) if stage == Stage::Dealing && self.may_deal(seat) => {
                if !self.terms(&receivers).is_dealing(&dealing) {
                    return Err(Refusal::BadDealing);
                }
                self.dealings.insert(seat, dealing);
            }
            Step::Judge(complaints) if stage == Stage::Judging && self.may_judge(seat) => {
                return Ok(self.judge(&receivers, seat, &complaints));
            }
            Step::Key(_) | Step::Deal(_) | Step::Judge(_) => return Err(Refusal::NotAsked),
        }
        Ok(Done::Effective)
    }

    fn may_deal(&self, seat: u16) -> bool {
        self.has_key(seat) && !self.dealings.contains_key(&seat)
    }

    fn may_judge(&self, seat: u16) -> bool {
        self.has_key(seat) && !self.judged.contains_key(&seat)
    }

    /// Takes the complaints of one receiver, once. One that does not hold voids its verdict: each
    /// costs everybody two pairings.
    fn judge(&mut self, receivers: &[Receiver], seat: u16, complaints: &[Complaint]) -> Done {
        let place = receivers.iter().position(|receiver| receiver.seat == seat);
        let terms = self.terms(receivers);
        let mut guilty = BTreeSet::new();
        let mut holds = |complaint: &Complaint| {
            let dealing = self.dealings.get(&complaint.dealer);
            let (Some(place), Some(dealing)) = (place, dealing) else {
                return false;
            };
            guilty.insert(complaint.dealer);
            self.guilty.contains(&complaint.dealer)
                || terms.convicts(dealing, place, &complaint.opening)
        };
        let all_hold = complaints.iter().all(&mut holds);
        self.judged.insert(seat, all_hold);
        match all_hold {
            true => {
                self.guilty.append(&mut guilty);
                Done::Effective
            }
            false => Done::Fell,
        }
    }

    /// The key, once nothing more is taken in the block at `height`; nothing where it came to none.
    pub fn key(&self, height: Height) -> Option<ThresholdKey> {
        let is_over = self.stage(height) == Stage::Over;
        let good = self.judged.values().filter(|holds| **holds).count();
        let (f, receivers) = (self.sizes().f, self.receivers());
        let standing = self
            .dealings
            .iter()
            .filter(|(dealer, _)| !self.guilty.contains(dealer));
        let dealings: Vec<Bytes> = standing.map(|(_, d)| d.clone()).take(f + 1).collect();
        if !is_over || good < self.need() || dealings.len() <= f {
            return None;
        }
        let public = self
            .terms(&receivers)
            .public(dealings.iter().map(|d| &d[..]))?;
        Some(ThresholdKey {
            context: self.context,
            degree: f,
            receivers,
            public,
            dealings,
        })
    }

    /// Adds what it holds to a digest by which members compare their states.
    pub(super) fn hash_into(&self, hasher: &mut Hasher) {
        hasher.update(self.context.as_bytes());
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
        for seat in &self.guilty {
            hasher.update(&seat.to_le_bytes());
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

    /// What `voter`'s seat signs of the committee's statement; nothing where it has no share.
    pub fn share(&self, voter: &Voter, statement: &SignBytes) -> Option<Bytes> {
        let of_seat = |receiver: &Receiver| receiver.seat == voter.seat().0;
        let place = self.receivers.iter().position(of_seat)?;
        let terms = Terms {
            context: &self.context,
            degree: self.degree,
            receivers: &self.receivers,
        };
        let dealings = self.dealings.iter().map(|dealing| &dealing[..]);
        voter.share(&terms, dealings, place, statement)
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

    /// Whether a threshold key is under way that the block at `height` may still change.
    pub fn is_generating(&self, height: Height) -> bool {
        let generation = self.generation.as_ref();
        generation.is_some_and(|generation| generation.stage(height) != Stage::Over)
    }

    /// The key of the committee that is named, as the block at `height` finds it.
    pub fn generated(&self, height: Height) -> Option<ThresholdKey> {
        self.generation.as_ref()?.key(height)
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
        let wait = self.base.rules.assemble_blocks;
        let generation = Generation::new(&self.chain, call, at.height, wait, committee);
        self.generation = generation.filter(|_| is_drawn);
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
