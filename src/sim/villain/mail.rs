//! Villains that sign nothing wrong: what they say is true, but not to all, not now, or again.
//!
//! Source: the fault matrix of the project. In: their member's words. Out: fewer, later or older
//! ones. Holds: no signature here is new. Elsewhere: false votes (`votes`), false claims
//! (`change`).

use std::collections::VecDeque;

use super::den::{Den, Half, Vice, say};
use crate::blocks::{BatchRef, Body, Proposal};
use crate::committee::{Kind, MemberId};
use crate::consortium::Message;
use crate::fsm;
use crate::machine::Span;
use crate::sim::dice::Dice;
use crate::sim::member::Leaving;

/// Messages that a replayer remembers.
const REMEMBERED_MAX: usize = 256;

/// Says nothing.
pub(super) struct Silent;

impl Vice for Silent {
    fn twist(&mut self, _: &mut Den<'_>, _: MemberId, _: &Message) -> Vec<Leaving> {
        Vec::new()
    }
}

/// Talks to half of the others.
pub(super) struct Selective(Half);

impl Selective {
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self(Half::new(dice))
    }
}

impl Vice for Selective {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        let heard = self.0.has(den.view, to).then(|| say(to, message.clone()));
        heard.into_iter().collect()
    }
}

/// Says everything late, mostly just before it would be replaced for it.
pub(super) struct Delayer {
    most_us: u64,
}

impl Delayer {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let most_us = [50_000, 500_000, 5_000_000][dice.index(3)];
        Self { most_us }
    }
}

impl Vice for Delayer {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        let after = Span(den.dice.within(self.most_us / 2, self.most_us));
        vec![Leaving::Later(after, Box::new(say(to, message.clone())))]
    }
}

/// Says again what it or others said long ago.
#[derive(Default)]
pub(super) struct Replayer {
    past: VecDeque<Message>,
}

impl Replayer {
    fn remember(&mut self, den: &mut Den<'_>, message: &Message) {
        if den.dice.chance(200) {
            if self.past.len() == REMEMBERED_MAX {
                let index = den.dice.index(REMEMBERED_MAX);
                self.past.swap_remove_back(index);
            }
            self.past.push_back(message.clone());
        }
    }
}

impl Vice for Replayer {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        self.remember(den, message);
        let mut said = vec![say(to, message.clone())];
        if den.dice.chance(300) && !self.past.is_empty() {
            let old = self.past[den.dice.index(self.past.len())].clone();
            let to = den.other();
            said.push(say(to, old));
        }
        said
    }

    fn overhear(&mut self, den: &mut Den<'_>, message: &Message) -> Vec<Leaving> {
        self.remember(den, message);
        Vec::new()
    }
}

/// Leads with batches that nobody will ever see, and gives no bytes to anybody.
pub(super) struct Withholder;

impl Vice for Withholder {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        match message {
            Message::Batch(_) | Message::Extent(_) => Vec::new(),
            Message::Order(fsm::Message::Propose(vote, payload)) if vote.seat == den.seat() => {
                let Ok(mut proposal) = Proposal::from_bytes(&payload.bytes) else {
                    return vec![say(to, message.clone())];
                };
                if let Body::Transactions(batches) = &mut proposal.body {
                    // Named after the height, so that everybody hears of the same one.
                    let name = payload.digest;
                    batches.push(BatchRef::Named(name));
                }
                let payload = fsm::Payload {
                    digest: proposal.digest(),
                    bytes: proposal.to_bytes(),
                };
                let vote = den.revote(vote, payload.digest);
                vec![say(
                    to,
                    Message::Order(fsm::Message::Propose(vote, payload)),
                )]
            }
            // Its own WRITE and ACCEPT are for what it proposed in truth: they stay unsaid.
            Message::Order(fsm::Message::Vote(vote))
                if matches!(vote.ballot.kind, Kind::Write)
                    && den.view.leader(vote.ballot.regency) == den.seat() =>
            {
                Vec::new()
            }
            other => vec![say(to, other.clone())],
        }
    }
}
