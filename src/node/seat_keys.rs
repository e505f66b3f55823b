//! The keys of a member's seats: made when an assemble block calls, taken over or erased when a
//! view begins.
//!
//! Source: design, 'identities and keys'; SmartChain, forgotten keys. In: calls, views that begin.
//! Out: the key for a call, the secret of a seat.
//! Holds: one key for one call, also after a restart; a secret votes only while its view lasts,
//! and is erased before the next one begins unless that carries it over.
//! Elsewhere: the files (`keys`), which keys count (`fsm::view`), when a view begins
//! (`consortium::views`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::keys::{self, Consensus, KeyError};
use crate::blocks::{Call, NextKey};
use crate::committee::{KeyProof, MemberId, View};
use crate::consortium::Command;
use crate::crypto::{Digest, PublicKey, SecretKey};
use crate::membership::register::Register;
use crate::storage::StoreId;

/// The consensus keys of one member.
#[derive(Debug)]
pub(crate) struct SeatKeys {
    dir: PathBuf,
    me: MemberId,
    store: StoreId,
    /// The one that votes.
    present: Option<Consensus>,
    /// The one for the view to come.
    next: Option<Consensus>,
    /// Keys that were made in this life of the process: nothing was signed with them before it.
    made: BTreeSet<PublicKey>,
}

impl SeatKeys {
    /// The keys of `me` in `dir`, for the vote log `store`.
    ///
    /// Errors: [`KeyError`].
    pub(crate) fn open(dir: &Path, me: MemberId, store: StoreId) -> Result<Self, KeyError> {
        let [present, next] = keys::held(dir)?;
        Ok(Self {
            dir: dir.into(),
            me,
            store,
            present,
            next,
            made: BTreeSet::new(),
        })
    }

    /// The secret of our seat in `view`; nothing without a seat, or where its secret is gone.
    pub(crate) fn secret(&self, view: &View) -> Option<SecretKey> {
        let key = self.wanted(view)?;
        let held = self.present.iter().chain(&self.next);
        let mut secrets = held.map(|key| &key.secret);
        secrets.find(|secret| secret.public() == key).cloned()
    }

    /// The public halves of what may vote with the log of this store.
    pub(crate) fn publics(&self) -> BTreeSet<PublicKey> {
        let held = self.present.iter().chain(&self.next);
        let ours = held.filter(|key| key.is_bound && key.store == self.store);
        ours.map(|key| key.secret.public()).collect()
    }

    /// The secret of our fresh key for `call`, if we gave one.
    pub(crate) fn called(&self, call: &Call) -> Option<SecretKey> {
        let next = self.next.as_ref().filter(|next| next.call == Some(*call));
        next.map(|next| next.secret.clone())
    }

    /// Our fresh key for `call`: the one that answered it before, or a new one.
    ///
    /// Errors: [`KeyError`]; nothing was answered.
    pub(crate) fn answer(
        &mut self,
        chain: &Digest,
        identity: &SecretKey,
        call: Call,
    ) -> Result<Command, KeyError> {
        let held = self.next.as_ref().filter(|next| next.call == Some(call));
        let secret = match held {
            Some(next) => next.secret.clone(),
            None => self.make(call)?,
        };
        let proof = KeyProof::make(chain, call.next, &call.assemble, identity, &secret);
        Ok(Command::Key(Box::new(NextKey {
            call,
            identity: identity.public(),
            proof,
        })))
    }

    /// Whether our key may be asked for behind `register`. A key of an admission waits until that
    /// is in force there: a committee named before has our place with an older key, and a fresh one
    /// for it would not be what the chain certifies afterwards.
    pub(crate) fn may_answer(&self, register: &Register) -> bool {
        let waits = self.present.as_ref().filter(|key| !key.is_bound);
        waits.is_none_or(|waits| {
            let own = register.get(&self.me);
            let own = own.filter(|own| own.consensus() == Some(waits.secret.public()));
            own.is_some_and(|own| own.status.is_ready())
        })
    }

    fn make(&mut self, call: Call) -> Result<SecretKey, KeyError> {
        self.next = None;
        let held = self.present.as_ref().map(|key| key.secret.public());
        self.made.retain(|made| Some(*made) == held);
        let secret = keys::make_next(&self.dir, self.store, call)?;
        self.made.insert(secret.public());
        self.next = Some(Consensus {
            secret: secret.clone(),
            store: self.store,
            is_bound: true,
            call: Some(call),
        });
        Ok(secret)
    }

    /// `view` begins: every secret but that of our seat in it is erased.
    ///
    /// Errors: [`KeyError`]; the view must not begin.
    pub(crate) fn enter(&mut self, view: &View) -> Result<Command, KeyError> {
        let (is_present, is_next) = self.seated(view);
        if is_next {
            self.take_next()?;
        } else {
            if self.next.take().is_some() {
                keys::erase(&self.dir.join(keys::NEXT_FILE))?;
            }
            if !is_present {
                self.erase_used()?;
            }
        }
        self.bind(view)?;
        Ok(self.entered(view))
    }

    /// A start in `view` goes on where a hand-over was cut short. A key for the view to come stays:
    /// others may hold its public half.
    ///
    /// Errors: [`KeyError::Missing`] where the secret of our seat is gone and none waits to take
    /// its place, as after a `rejoin`; [`KeyError`]. Nothing may be voted.
    pub(crate) fn resume(&mut self, view: &View) -> Result<(), KeyError> {
        let is_fresh = self.present.as_ref().is_some_and(|key| !key.is_bound);
        if self.wanted(view).is_some() && self.secret(view).is_none() && !is_fresh {
            let path = self.dir.join(keys::CONSENSUS_FILE);
            return Err(KeyError::Missing { path });
        }
        let (is_present, is_next) = self.seated(view);
        if is_next {
            self.take_next()?;
        } else if !is_present {
            self.erase_used()?;
        }
        // The view that the next key was made for may have been passed over, by a snapshot of a
        // later one.
        let is_past = |key: &Consensus| key.call.is_some_and(|call| call.next <= view.id());
        if self.next.take_if(|key| is_past(key)).is_some() {
            keys::erase(&self.dir.join(keys::NEXT_FILE))?;
        }
        self.bind(view)
    }

    /// From here on the secret of our seat may vote, and only with this log.
    fn bind(&mut self, view: &View) -> Result<(), KeyError> {
        let (is_present, _) = self.seated(view);
        if let Some(present) = self
            .present
            .as_mut()
            .filter(|key| is_present && !key.is_bound)
        {
            keys::bind(&self.dir)?;
            present.is_bound = true;
        }
        Ok(())
    }

    /// Erases a present key that has no seat any more. One of an admission waits for its first.
    fn erase_used(&mut self) -> Result<(), KeyError> {
        if self.present.as_ref().is_some_and(|key| key.is_bound) {
            self.present = None;
            keys::erase(&self.dir.join(keys::CONSENSUS_FILE))?;
        }
        Ok(())
    }

    fn take_next(&mut self) -> Result<(), KeyError> {
        self.present = self.next.take();
        keys::take_next(&self.dir)
    }

    fn entered(&self, view: &View) -> Command {
        let secret = self.secret(view);
        let is_fresh = secret
            .as_ref()
            .is_some_and(|secret| self.made.contains(&secret.public()));
        Command::Enter(view.id(), secret.map(Box::new), is_fresh)
    }

    /// The key of our seat.
    fn wanted(&self, view: &View) -> Option<PublicKey> {
        view.seat_of(&self.me).and_then(|seat| view.key(seat))
    }

    /// Whether the present key, or else the next one, has our seat.
    fn seated(&self, view: &View) -> (bool, bool) {
        let wanted = self.wanted(view);
        let has = |key: &Option<Consensus>| {
            key.as_ref()
                .is_some_and(|key| Some(key.secret.public()) == wanted)
        };
        (has(&self.present), has(&self.next))
    }
}
