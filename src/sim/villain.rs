//! Villains: members that do wrong, as wrappers around a correct one.
//!
//! Source: Byzantine faults of at most f seats. In: what a correct member hears and what would
//! leave it. Out: what leaves instead.
//! Holds: a villain has the keys of its own member and no others, and rolls dice of its own.
//! Elsewhere: where it stands between member and world (`life`), what correct members may be
//! accused of (`oracle`: nothing).

use super::member::Leaving;
use super::setting::Setting;
use crate::committee::{MemberId, View};
use crate::consortium::Consortium;
use crate::crypto::SecretKey;
use crate::machine::{Input, Time};

/// What a villain has at hand.
#[expect(dead_code, reason = "villains read it")]
pub(super) struct Stage<'a> {
    /// Its clock.
    pub(super) now: Time,
    /// Its member.
    pub(super) me: MemberId,
    /// The view.
    pub(super) view: &'a View,
    /// Its consensus key; none without a seat.
    pub(super) secret: Option<&'a SecretKey>,
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

/// The villain that member `n` is, if it is one.
pub(super) fn cast(_: &Setting, _n: usize) -> Option<Box<dyn Villain>> {
    None
}
