//! The consensus keys of one simulated member: made, taken over, erased.
//!
//! Source: design, 'identities and keys'; what `node` does with files. In: calls, views that begin.
//! Out: the key for a call, the secret of a seat.
//! Holds: one key for one call in one life of the disk; a secret votes only while its view lasts; a
//! key of an admission waits for its first seat, and everything else that has no seat is erased.
//! Elsewhere: the same with files (`node`), when a view begins (`consortium`).

use std::collections::BTreeSet;

use crate::blocks::Call;
use crate::committee::{MemberId, View};
use crate::crypto::{PublicKey, SecretKey};
use crate::membership::register::Register;

/// The key that votes, or waits for its first seat.
#[derive(Debug)]
struct Present {
    secret: SecretKey,
    /// Whether it may have voted.
    is_bound: bool,
}

/// The consensus keys of one member that are not erased.
#[derive(Debug, Default)]
pub(super) struct Keyring {
    present: Option<Present>,
    /// The one for the view to come, and what called for it.
    next: Option<(Call, SecretKey)>,
    /// Those made in this life of the process: nothing was signed with them before it.
    made: BTreeSet<PublicKey>,
    /// For judges and villains alone: what is erased, which an adversary would have without
    /// erasure, and a villain keeps.
    erased: Vec<SecretKey>,
}

impl Keyring {
    /// Holds `secret`, which has not voted.
    pub(super) fn of(secret: SecretKey) -> Self {
        let is_bound = false;
        Self {
            present: Some(Present { secret, is_bound }),
            ..Self::default()
        }
    }

    /// Every secret that is there.
    pub(super) fn held(&self) -> impl Iterator<Item = &SecretKey> {
        let present = self.present.iter().map(|present| &present.secret);
        present.chain(self.next.iter().map(|(_, secret)| secret))
    }

    /// Every secret that was ever there and is not.
    pub(super) fn erased(&self) -> &[SecretKey] {
        &self.erased
    }

    /// The secret of the seat of `me` in `view`; nothing without a seat, or where it is gone.
    pub(super) fn secret(&self, view: &View, me: &MemberId) -> Option<&SecretKey> {
        let key = wanted(view, me)?;
        self.held().find(|secret| secret.public() == key)
    }

    /// The public halves of what is held.
    pub(super) fn publics(&self) -> BTreeSet<PublicKey> {
        self.held().map(SecretKey::public).collect()
    }

    /// Whether there is nothing but the key of the seat in `view` and one for the view behind it.
    pub(super) fn is_clean(&self, view: &View, me: &MemberId) -> bool {
        let key = wanted(view, me);
        let is_seat = |present: &Present| Some(present.secret.public()) == key;
        let is_ahead = |(call, _): &(Call, SecretKey)| call.next > view.id();
        self.present.as_ref().is_none_or(is_seat) && self.next.as_ref().is_none_or(is_ahead)
    }

    /// A process starts.
    pub(super) fn restart(&mut self) {
        self.made.clear();
    }

    /// The key of an admission: the one that waits, or else what `make` gives. Nothing while
    /// another key has a seat.
    pub(super) fn admission(&mut self, make: impl FnOnce() -> SecretKey) -> Option<SecretKey> {
        let present = self.present.get_or_insert_with(|| Present {
            secret: make(),
            is_bound: false,
        });
        (!present.is_bound).then(|| present.secret.clone())
    }

    /// The secret of the key for `call`, if one was given.
    pub(super) fn called(&self, call: &Call) -> Option<&SecretKey> {
        let next = self.next.as_ref().filter(|(held, _)| held == call);
        next.map(|(_, secret)| secret)
    }

    /// Whether this key of an admission still waits for its first seat.
    pub(super) fn is_waiting(&self) -> bool {
        self.present.as_ref().is_some_and(|key| !key.is_bound)
    }

    /// Whether a key may be asked for behind `register`: one of an admission waits until that is in
    /// force there.
    pub(super) fn may_answer(&self, register: &Register, me: &MemberId) -> bool {
        let waits = self.present.as_ref().filter(|key| !key.is_bound);
        waits.is_none_or(|waits| {
            let own = register.get(me);
            let own = own.filter(|own| own.consensus() == Some(waits.secret.public()));
            own.is_some_and(|own| own.status.is_ready())
        })
    }

    /// The key for `call`: the one that answered it before, or what `make` gives.
    pub(super) fn answer(&mut self, call: Call, make: impl FnOnce() -> SecretKey) -> SecretKey {
        if let Some((_, secret)) = self.next.as_ref().filter(|(held, _)| *held == call) {
            return secret.clone();
        }
        self.drop_next();
        let secret = make();
        self.made.insert(secret.public());
        self.next = Some((call, secret.clone()));
        secret
    }

    /// `view` begins: every secret but that of the seat in it is erased. Gives that one, and
    /// whether it was made in this life.
    pub(super) fn enter(&mut self, view: &View, me: &MemberId) -> (Option<SecretKey>, bool) {
        if !self.take_next(view, me) {
            self.drop_next();
            self.erase_used(view, me);
        }
        self.bind(view, me);
        let secret = self.secret(view, me).cloned();
        let is_fresh = |secret: &SecretKey| self.made.contains(&secret.public());
        (secret.clone(), secret.as_ref().is_some_and(is_fresh))
    }

    /// A start in `view` goes on where a hand-over was cut short; false where the secret of the
    /// seat is gone and none waits to take its place.
    pub(super) fn resume(&mut self, view: &View, me: &MemberId) -> bool {
        let has_lost = wanted(view, me).is_some() && self.secret(view, me).is_none();
        let is_missing = has_lost && !self.is_waiting();
        if !self.take_next(view, me) {
            self.erase_used(view, me);
            // The view that it was for may have been passed over, by a snapshot of a later one.
            let is_past = |(call, _): &(Call, SecretKey)| call.next <= view.id();
            if self.next.as_ref().is_some_and(is_past) {
                self.drop_next();
            }
        }
        self.bind(view, me);
        !is_missing
    }

    fn bind(&mut self, view: &View, me: &MemberId) {
        let key = wanted(view, me);
        if let Some(present) = &mut self.present {
            present.is_bound |= Some(present.secret.public()) == key;
        }
    }

    /// Takes the next key over, if it has the seat.
    fn take_next(&mut self, view: &View, me: &MemberId) -> bool {
        let key = wanted(view, me);
        let next = self.next.take_if(|(_, next)| Some(next.public()) == key);
        let Some((_, secret)) = next else {
            return false;
        };
        let is_bound = true;
        let before = self.present.replace(Present { secret, is_bound });
        self.bury(before.map(|before| before.secret));
        true
    }

    /// Erases a present key that has no seat any more. One of an admission waits for its first.
    fn erase_used(&mut self, view: &View, me: &MemberId) {
        let key = wanted(view, me);
        let used = self
            .present
            .take_if(|present| present.is_bound && Some(present.secret.public()) != key);
        self.bury(used.map(|used| used.secret));
    }

    fn drop_next(&mut self) {
        let next = self.next.take();
        self.bury(next.map(|(_, secret)| secret));
    }

    fn bury(&mut self, secret: Option<SecretKey>) {
        self.erased.extend(secret);
    }

    /// The disk is lost with every key on it, and `secret` is made for another admission.
    pub(super) fn wipe(&mut self, secret: SecretKey) {
        self.drop_next();
        let is_bound = false;
        let before = self.present.replace(Present { secret, is_bound });
        self.bury(before.map(|before| before.secret));
        self.made.clear();
    }
}

/// The key of a seat.
fn wanted(view: &View, me: &MemberId) -> Option<PublicKey> {
    view.seat_of(me).and_then(|seat| view.key(seat))
}
