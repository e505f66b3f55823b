//! Asking seats of the newest proved view for a fresh block.
//!
//! Source: design, 'checkpoints and bootstrap', step 3. In: anchors. Out: the highest of a quorum,
//! or that the view is not fresh.
//! Holds: an anchor counts once per seat, over our nonce of this try, with a header that is
//! certified; nothing else counts, and one that breaks a rule names its sender.
//! Elsewhere: who signs (`committee::Voter`), what its checkpoint is (`find`).

use std::collections::BTreeMap;

use rand::RngExt as _;

use super::contract::{Event, Fresh, Misdeed};
use super::machine::{Bootstrap, Out, State};
use super::message::{Anchor, Ask};
use crate::blocks::FORMAT_VERSION;
use crate::committee::{Kind, MemberId, Nonce, Seat, ViewId};
use crate::machine::{Span, Time};
use crate::plant::{self, Plant};

/// How long the first try for a quorum may take; each further one takes twice as long.
const PATIENCE: Span = Span::from_ms(1_000);
/// So often it doubles, at most.
const DOUBLINGS_MAX: u32 = 5;
/// How often seats that have not answered are asked again within a try; more seldom than a seat
/// answers one newcomer.
const AGAIN: Span = Span::from_ms(300);

/// A try for a quorum.
#[derive(Debug)]
pub(super) struct Seek {
    view: ViewId,
    nonce: Nonce,
    /// One per seat.
    words: BTreeMap<Seat, Fresh>,
    until: Time,
    again: Time,
}

impl Bootstrap {
    /// Asks the newest view, under a nonce that nobody knows.
    pub(super) fn begin_seek(&mut self, now: Time, out: &mut Out) {
        let is_below = self.is_below_pin();
        assert!(!is_below, "no view before the pinned one is asked");
        let patience = PATIENCE.0 << self.tries.min(DOUBLINGS_MAX);
        let seek = Seek {
            view: self.chain.newest().view.id(),
            nonce: Nonce(self.rng.random()),
            words: BTreeMap::new(),
            until: now + Span(patience),
            again: now + AGAIN,
        };
        self.enter(State::Anchor(seek), out);
        self.seek_round(now, out);
    }

    /// The seats that have not answered are asked again, or the try is over.
    pub(super) fn seek_on(&mut self, now: Time, out: &mut Out) {
        let State::Anchor(seek) = &mut self.state else {
            return;
        };
        if now >= seek.until {
            let (view, have) = (seek.view, seek.words.len());
            let need = self.anchors_needed();
            self.tries = self.tries.saturating_add(1);
            out.emit(Event::NotFresh { view, have, need });
            self.begin_walk(now, out);
            return;
        }
        if now >= seek.again {
            seek.again = now + AGAIN;
            self.seek_round(now, out);
        }
    }

    fn seek_round(&mut self, now: Time, out: &mut Out) {
        let peers: Vec<MemberId> = self.peers.keys().copied().collect();
        for who in peers {
            self.seek_from(now, who, out);
        }
    }

    /// Asks one member, where it has a seat that has not answered.
    pub(super) fn seek_from(&mut self, _now: Time, who: MemberId, out: &mut Out) {
        let State::Anchor(seek) = &self.state else {
            return;
        };
        let seat = self.chain.newest().view.seat_of(&who);
        let is_open = seat.is_some_and(|seat| !seek.words.contains_key(&seat));
        if is_open {
            let ask = Ask::Anchor(seek.view, seek.nonce);
            self.ask(who, ask, out);
        }
    }

    /// A seat says where it stands.
    pub(super) fn on_anchor(&mut self, now: Time, from: MemberId, anchor: Anchor, out: &mut Out) {
        let State::Anchor(seek) = &self.state else {
            return; // Late.
        };
        if anchor.vote.nonce != seek.nonce {
            return; // An answer to an earlier try: old, so it counts for nothing.
        }
        let seat = anchor.vote.seat;
        let fresh = match self.examine_anchor(&from, anchor) {
            Ok(fresh) => fresh,
            Err(why) => {
                self.ban(now, from, Misdeed::Anchor(why), out);
                return;
            }
        };
        let State::Anchor(seek) = &mut self.state else {
            return;
        };
        seek.words.insert(seat, fresh);
        let have = seek.words.len();
        if have < self.anchors_needed() {
            return;
        }
        let State::Anchor(seek) = &mut self.state else {
            return;
        };
        let words = std::mem::take(&mut seek.words).into_values();
        let highest = words.max_by_key(|fresh| fresh.header.height);
        let highest = highest.expect("a quorum has a seat");
        self.tries = 0;
        self.begin_find(now, highest, out);
    }

    /// Words of others that make a quorum of the newest view.
    fn anchors_needed(&self) -> usize {
        let view = &self.chain.newest().view;
        let seat = view.seat_of(&self.options.me);
        let key = seat.and_then(|seat| view.key(seat));
        let is_own = key.is_some_and(|key| self.options.own.contains(&key));
        (view.sizes().q - usize::from(is_own)).max(1)
    }

    /// Whether an anchor over our nonce holds; else why not.
    fn examine_anchor(&self, from: &MemberId, anchor: Anchor) -> Result<Fresh, &'static str> {
        let Anchor {
            vote,
            header,
            certificate,
        } = anchor;
        let view = &self.chain.newest().view;
        if view.seat_of(from) != Some(vote.seat) {
            return Err("said for another's seat");
        }
        let check = vote.check(view).ok_or("of another view")?;
        let is_named = header.height == vote.height && header.digest() == vote.digest;
        if !is_named && !plant::is(Plant::AnyAnchor) {
            return Err("with another header than it names");
        }
        if header.version != FORMAT_VERSION || header.chain != *self.chain.chain() {
            return Err("of another chain");
        }
        let opened = self.chain.opened(view.id()).ok_or("of another view")?;
        let is_opening = (header.height, vote.digest) == (opened.height, opened.digest);
        let mut checks = vec![check];
        if !is_opening {
            let proof = certificate.as_ref().ok_or("without a certificate")?;
            let ballot = &proof.ballot;
            let names_it = (ballot.height, ballot.digest) == (vote.height, vote.digest);
            if ballot.kind != Kind::Persist || !names_it || header.height <= opened.height {
                return Err("with a certificate of something else");
            }
            let votes = proof.checks(view);
            checks.extend(votes.map_err(|_| "with a certificate that does not hold")?);
        }
        if !self.options.verifier.all_valid(&checks) {
            return Err("with a signature that does not hold");
        }
        Ok(Fresh {
            view: view.id(),
            header,
            certificate: certificate.filter(|_| !is_opening),
        })
    }
}
