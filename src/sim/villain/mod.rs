//! Villains: members that do wrong, as wrappers around a correct one.
//!
//! Source: Byzantine faults of at most f seats; commonware's mocks. In: what a correct member hears
//! and what would leave it. Out: what leaves instead.
//! Holds: a villain has the keys of its own member and no others, and rolls dice of its own; of n
//! seats at most f are villains.
//! Elsewhere: where it stands between member and world (`life`), what correct members may be
//! accused of (`oracle`: nothing).

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a villain twists a few messages and lets all others pass, whichever there will be"
)]

mod change;
mod den;
mod keys;
mod mail;
mod noise;
mod schemer;
mod twin;
mod votes;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use self::den::{Den, Vice, receivers};
use self::keys::{KeyHolder, Trick};
use super::Options;
use super::census;
use super::dice::Dice;
use super::disk::Disk;
use super::faults::Fault;
use super::keyring::Keyring;
use super::member::{Leaving, Running};
use super::world::Ground;
use crate::committee::{MemberId, View};
use crate::consortium::{Command, Consortium, Heard, Message};
use crate::crypto::SecretKey;
use crate::machine::{Input, Time};

/// Worlds of a thousand that have a villain where there may be one.
const VILLAINS_PER_MILLE: u64 = 650;

/// What a villain has at hand.
pub(super) struct Stage<'a> {
    /// Its clock.
    pub(super) now: Time,
    /// Its member.
    pub(super) me: MemberId,
    /// What the world is made of.
    pub(super) ground: &'a Ground,
    /// Its identity key.
    pub(super) identity: &'a SecretKey,
    /// Its consensus keys that are not erased.
    pub(super) keys: &'a Keyring,
    /// The view that it stands in; none while it is down.
    pub(super) view: Option<&'a View>,
}

impl<'a> Stage<'a> {
    /// Its view and its key there; nothing without a seat.
    fn seat(&self) -> Option<(&'a View, &'a SecretKey)> {
        let view = self.view?;
        Some((view, self.keys.secret(view, &self.me)?))
    }

    /// The member as another disk makes it.
    fn boot(&self, disk: &mut Disk) -> Running {
        let keys = (self.identity, self.keys);
        self.ground.boot(self.me, keys, disk, self.now).running
    }
}

/// A way to do wrong.
pub(super) trait Villain {
    /// Hears what the correct member is about to hear; what it gives leaves at once.
    fn hear(&mut self, _: &Stage<'_>, _: &Input<Consortium>) -> Vec<Leaving> {
        Vec::new()
    }

    /// What leaves instead of `leaving`.
    fn twist(&mut self, stage: &Stage<'_>, leaving: Vec<Leaving>) -> Vec<Leaving>;

    /// It asked to be woken with `number`; what it gives leaves at once.
    fn wake(&mut self, _: &Stage<'_>, _number: u64) -> Vec<Leaving> {
        Vec::new()
    }
}

/// One kind: its name, and how one is made.
type Kind = (&'static str, fn(Dice) -> Box<dyn Villain>);

/// Every kind of villain.
const KINDS: &[Kind] = &[
    ("silent", |dice| cloak(dice, |_| mail::Silent)),
    ("selective", |dice| cloak(dice, mail::Selective::new)),
    ("delayer", |dice| cloak(dice, mail::Delayer::new)),
    ("replayer", |dice| {
        cloak(dice, |_| mail::Replayer::default())
    }),
    ("withholder", |dice| cloak(dice, |_| mail::Withholder)),
    ("equivocator", |dice| cloak(dice, votes::Equivocator::new)),
    ("double-voter", |dice| cloak(dice, votes::DoubleVoter::new)),
    ("wrong-digest", |dice| cloak(dice, |_| votes::WrongDigest)),
    ("stale", |dice| cloak(dice, |_| votes::Stale)),
    ("forger", |dice| cloak(dice, |_| votes::Forger::default())),
    ("stop-liar", |dice| cloak(dice, |_| change::StopLiar)),
    ("sync-hider", |dice| cloak(dice, change::SyncHider::new)),
    ("two-faced-sync", |dice| {
        cloak(dice, change::TwoFacedSync::new)
    }),
    ("garbler", |dice| cloak(dice, |_| noise::Garbler)),
    ("flooder", |dice| cloak(dice, |_| noise::Flooder::default())),
    ("mutator", |dice| cloak(dice, |_| noise::Mutator)),
    ("twin", |dice| Box::new(twin::Twin::new(dice))),
    ("schemer", |dice| {
        cloak(dice, |_| schemer::Schemer::default())
    }),
];

/// Kinds that matter where views change: drawn there alone.
const VIEW_KINDS: &[Kind] = &[
    ("mute", |dice| Box::new(KeyHolder::new(Trick::Mute, dice))),
    ("two-keyed", |dice| {
        Box::new(KeyHolder::new(Trick::Two, dice))
    }),
    ("late-keyed", |dice| {
        Box::new(KeyHolder::new(Trick::Late, dice))
    }),
    ("exhumer", |dice| cloak(dice, |_| keys::Exhumer::default())),
    (DODGER, |_| Box::new(keys::Dodger)),
    ("usurper", |dice| cloak(dice, |_| keys::Usurper::default())),
];

/// Knows of no control body that would be due, whoever is to be excluded.
const DODGER: &str = "dodger";

/// Villains of a thousand that are of these kinds where views change.
const VIEW_KINDS_PER_MILLE: u64 = 400;

/// The name of a kind of villain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VillainKind(&'static str);

impl VillainKind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        let every = KINDS.iter().chain(VIEW_KINDS);
        every.map(|(name, _)| Self(name))
    }
}

impl VillainKind {
    /// Whether it orders no control body.
    pub(super) fn dodges(self) -> bool {
        self.0 == DODGER
    }
}

impl fmt::Display for VillainKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Why a text names no villain. The caller's input is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no villain has that name; there are {}", names())]
pub struct UnknownVillain;

fn names() -> String {
    let names: Vec<&str> = VillainKind::all().map(|kind| kind.0).collect();
    names.join(", ")
}

impl FromStr for VillainKind {
    type Err = UnknownVillain;

    fn from_str(text: &str) -> Result<Self, UnknownVillain> {
        let found = VillainKind::all().find(|kind| kind.0 == text);
        found.ok_or(UnknownVillain)
    }
}

/// Which members of a world are villains, and of what kind: none where `villains` is no fault of
/// it, and at most f.
pub(super) fn draw(options: &Options) -> BTreeMap<usize, VillainKind> {
    let f = options.bearable();
    let mut dice = Dice::new(options.seed, 6);
    let mut drawn = BTreeMap::new();
    let count = match options.villain {
        _ if f == 0 => 0,
        Some(_) => 1,
        None if options.faults.has(Fault::Villains) && dice.chance(VILLAINS_PER_MILLE) => {
            1 + dice.index(f)
        }
        None => 0,
    };
    while drawn.len() < count {
        let member = dice.index(options.members);
        let kind = options
            .villain
            .unwrap_or(VillainKind(KINDS[dice.index(KINDS.len())].0));
        drawn.insert(member, kind);
    }
    let mut dice = Dice::new(options.seed, 14);
    let have_views = options.rotation_blocks > 0 || options.sample || census::draw(options).0 > 0;
    for kind in drawn
        .values_mut()
        .filter(|_| options.villain.is_none() && have_views)
    {
        if dice.chance(VIEW_KINDS_PER_MILLE) {
            *kind = VillainKind(VIEW_KINDS[dice.index(VIEW_KINDS.len())].0);
        }
    }
    drawn
}

/// Which newcomers of a world are villains, and of what kind.
pub(super) fn draw_newcomers(options: &Options, count: usize) -> BTreeMap<usize, VillainKind> {
    let mut dice = Dice::new(options.seed, 15);
    let mut drawn = BTreeMap::new();
    for index in options.members..options.members + count {
        let (is_villain, kind) = (dice.chance(250), dice.index(VIEW_KINDS.len()));
        if is_villain && options.faults.has(Fault::Villains) {
            drawn.insert(index, VillainKind(VIEW_KINDS[kind].0));
        }
    }
    drawn
}

/// The villain of `kind` that member `n` of the world of `seed` is.
pub(super) fn cast(kind: VillainKind, seed: u64, n: usize) -> Box<dyn Villain> {
    let mut every = KINDS.iter().chain(VIEW_KINDS);
    let made = every.find(|(name, _)| *name == kind.0);
    let (_, make) = made.expect("a kind is made of a name of the table");
    make(Dice::new(seed, 100 + n as u64))
}

fn cloak<V: Vice + 'static>(mut dice: Dice, make: impl FnOnce(&mut Dice) -> V) -> Box<dyn Villain> {
    let vice = Box::new(make(&mut dice));
    Box::new(Cloak { vice, dice })
}

/// Wears the member's name and hands a vice one message to one other member at a time.
struct Cloak {
    vice: Box<dyn Vice>,
    dice: Dice,
}

impl Villain for Cloak {
    fn hear(&mut self, stage: &Stage<'_>, input: &Input<Consortium>) -> Vec<Leaving> {
        let Some((view, secret)) = stage.seat() else {
            return Vec::new();
        };
        let mut den = Den::new(stage, (view, secret), &mut self.dice);
        match input {
            Input::Message { message, .. } => self.vice.overhear(&mut den, &as_message(message)),
            Input::Command(Command::Start) => self.vice.wake(&mut den),
            Input::Command(_) | Input::Timer(_) => Vec::new(),
        }
    }

    fn twist(&mut self, stage: &Stage<'_>, leaving: Vec<Leaving>) -> Vec<Leaving> {
        let Some((view, secret)) = stage.seat() else {
            return leaving;
        };
        let mut den = Den::new(stage, (view, secret), &mut self.dice);
        let mut left = Vec::new();
        for what in leaving {
            match what {
                Leaving::Send(to, message) => {
                    for other in receivers(den.view, den.me, to) {
                        left.extend(self.vice.twist(&mut den, other, &message));
                    }
                }
                other => left.push(other),
            }
        }
        left
    }

    fn wake(&mut self, stage: &Stage<'_>, _: u64) -> Vec<Leaving> {
        let Some((view, secret)) = stage.seat() else {
            return Vec::new();
        };
        self.vice
            .wake(&mut Den::new(stage, (view, secret), &mut self.dice))
    }
}

/// What was heard as the message that it came in.
fn as_message(heard: &Heard) -> Message {
    match heard.clone() {
        Heard::Order(order) => Message::Order(order.into_inner()),
        Heard::Persist(vote) => Message::Persist(vote.into_inner()),
        Heard::Batch(batch) => Message::Batch(batch.into_inner().bytes),
        Heard::Held(digests) => Message::Held(digests),
        Heard::Fetch(digests) => Message::Fetch(digests),
        Heard::Request(height) => Message::Request(height),
        Heard::Extent(extent) => Message::Extent(extent.into_inner()),
        Heard::Certificate(certificate) => Message::Certificate(certificate.into_inner()),
        Heard::Overlay(bytes) => Message::Overlay(bytes),
        Heard::Engine(bytes) => Message::Engine(bytes),
        Heard::Key(key) => Message::Key(Box::new(key.into_inner())),
        Heard::Beacon(freeze, part) => Message::Beacon(freeze, part),
        Heard::Vacant(view) => Message::Vacant(view),
        Heard::Snapshot(vote) => Message::Snapshot(vote.into_inner()),
        Heard::Bootstrap(message) => Message::Bootstrap(message),
        Heard::Pruned(first) => Message::Pruned(first),
        Heard::Shorter(height) => Message::Shorter(height),
    }
}

#[cfg(test)]
mod tests;
