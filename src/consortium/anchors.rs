//! Newcomers: a seat says where it stands, and the rest is read from the disk.
//!
//! Source: design, 'checkpoints and bootstrap', step 3. In: what newcomers ask. Out: signed words,
//! asks for the driver.
//! Holds: one word per newcomer and [`ANCHOR_EVERY`], whatever it asks; the block is certified and
//! its certificate durable. No block is needed for it, so an idle chain has one too.
//! Elsewhere: the newcomer (`bootstrap`), the header (the driver).

use std::collections::BTreeMap;

use super::contract::{Event, Standing, Wanted};
use super::replica::{Consortium, Out};
use crate::bootstrap::{Ask, Message};
use crate::committee::{MemberId, Nonce, ViewId};
use crate::machine::{Span, Time};

/// How often one newcomer gets a word.
pub(super) const ANCHOR_EVERY: Span = Span::from_ms(200);
/// Newcomers that are remembered, at most; while so many asked of late, further ones get no word.
pub(super) const ANCHORED_MAX: usize = 256;

/// Whom we gave our word, and when.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    given: BTreeMap<MemberId, Time>,
}

impl Anchors {
    /// How many newcomers are remembered.
    pub(super) fn kept(&self) -> usize {
        self.given.len()
    }

    fn is_due(&mut self, now: Time, who: MemberId) -> bool {
        self.given.retain(|_, at| now - *at < ANCHOR_EVERY);
        let is_due = self.given.len() < ANCHORED_MAX && !self.given.contains_key(&who);
        if is_due {
            self.given.insert(who, now);
        }
        is_due
    }
}

impl Consortium {
    /// A newcomer asks. An answer is none of our business: we do not bootstrap.
    pub(super) fn on_newcomer(
        &mut self,
        now: Time,
        from: MemberId,
        message: Message,
        out: &mut Out,
    ) {
        match message {
            Message::Ask(Ask::Anchor(view, nonce)) if view == self.view.id() => {
                self.give_anchor(now, from, nonce, out);
            }
            Message::Ask(Ask::Anchor(view, _)) if view > self.view.id() => {} // It will be heard.
            Message::Ask(ask) => out.emit(Event::Serve(from, Wanted::Bootstrap(ask))),
            Message::Answer(_) => {}
        }
    }

    fn give_anchor(&mut self, now: Time, from: MemberId, nonce: Nonce, out: &mut Out) {
        if self.ordering.voter().is_none() || !self.anchors.is_due(now, from) {
            return;
        }
        let opening = self.view.opening();
        let newest = self.ordering.certificate().cloned();
        let newest = newest.filter(|held| held.ballot.height > opening.height);
        let at = match (&newest, self.view.id()) {
            (Some(held), _) => (held.ballot.height, held.ballot.digest),
            (None, ViewId(0)) => {
                let genesis = self.options.genesis.header();
                (genesis.height, genesis.digest())
            }
            (None, ViewId(_)) => (opening.height, opening.digest),
        };
        if let Some(voter) = self.ordering.voter() {
            let vote = voter.vouch_anchor(nonce, at);
            let certificate = newest;
            let standing = Standing { vote, certificate };
            out.emit(Event::Anchored(from, Box::new(standing)));
        }
    }
}
