//! The checkpoint block that the fresh block names.
//!
//! Source: design, 'checkpoints and bootstrap', step 4. In: a fresh block, blocks from anybody.
//! Out: what to gather, or that blocks are enough.
//! Holds: the block is the one that the certified header names, by its digest.
//! Elsewhere: gathering (`gather`).

use std::collections::BTreeSet;

use rand::RngExt as _;

use super::contract::{Event, Fresh, Misdeed, Target};
use super::machine::{Bootstrap, Out, State};
use super::message::Ask;
use crate::blocks::body::Checkpoint;
use crate::blocks::{Body, Header, Link};
use crate::committee::{Height, MemberId};
use crate::machine::{Span, Time};

/// Members that are asked at once.
const WIDTH: usize = 2;
/// How often the next are asked.
const AGAIN: Span = Span::from_ms(400);
/// How long nobody may have it before a fresh block is asked for again.
const PATIENCE: Span = Span::from_ms(10_000);
/// Blocks that were looked for of which late answers are known.
const SOUGHT_MAX: usize = 8;

/// The block that is looked for.
#[derive(Debug)]
pub(super) struct Find {
    anchor: Fresh,
    /// Who was asked; forgotten once it is everybody.
    asked: BTreeSet<MemberId>,
    again: Time,
    until: Time,
}

impl Find {
    fn link(&self) -> Link {
        self.anchor.header.checkpoint
    }
}

impl Bootstrap {
    pub(super) fn begin_find(&mut self, now: Time, anchor: Fresh, out: &mut Out) {
        let link = anchor.header.checkpoint;
        if link.height == Height(0) || link.height <= self.options.local {
            self.replay(anchor, out);
            return;
        }
        self.sought.push_back(link.digest);
        if self.sought.len() > SOUGHT_MAX {
            self.sought.pop_front();
        }
        let find = Find {
            anchor,
            asked: BTreeSet::new(),
            again: now,
            until: now + PATIENCE,
        };
        self.enter(State::Checkpoint(Box::new(find)), out);
        self.find_on(now, out);
    }

    fn replay(&mut self, anchor: Fresh, out: &mut Out) {
        self.enter(State::Done, out);
        out.emit(Event::Replay(Box::new(anchor)));
    }

    /// Asks the next members.
    pub(super) fn find_on(&mut self, now: Time, out: &mut Out) {
        let State::Checkpoint(find) = &mut self.state else {
            return;
        };
        if now >= find.until {
            self.begin_walk(now, out);
            return;
        }
        if now < find.again {
            return;
        }
        let link = find.link();
        let mut open: Vec<MemberId> = self
            .peers
            .keys()
            .filter(|who| !find.asked.contains(who))
            .copied()
            .collect();
        if open.is_empty() {
            find.asked.clear();
            open = self.peers.keys().copied().collect();
        }
        if open.is_empty() {
            return; // A link that stands calls this again.
        }
        find.again = now + AGAIN;
        for _ in 0..WIDTH.min(open.len()) {
            let who = open.swap_remove(self.rng.random_range(0..open.len()));
            if let State::Checkpoint(find) = &mut self.state {
                find.asked.insert(who);
            }
            self.ask(who, Ask::Checkpoint(link), out);
        }
    }

    /// A block arrives.
    pub(super) fn on_checkpoint(
        &mut self,
        now: Time,
        from: MemberId,
        (header, body): (Header, Checkpoint),
        out: &mut Out,
    ) {
        let State::Checkpoint(find) = &self.state else {
            return; // A second answer.
        };
        let link = find.link();
        let is_named = header.height == link.height && header.digest() == link.digest;
        if !is_named {
            // What an earlier question named is no lie when it comes late.
            let is_earlier = self.sought.contains(&header.digest());
            match find.asked.contains(&from) && !is_earlier {
                true => self.ban(now, from, Misdeed::Checkpoint(link), out),
                false => self.stray(now, from, out),
            }
            return;
        }
        let body = Body::Checkpoint(body);
        if body.root() != header.body {
            self.ban(now, from, Misdeed::Checkpoint(link), out);
            return;
        }
        let Body::Checkpoint(body) = body else {
            unreachable!("it was made a line above");
        };
        let anchor = find.anchor.clone();
        if body.height <= self.options.local {
            self.replay(anchor, out);
            return;
        }
        let target = Target {
            anchor,
            checkpoint: header,
            body,
        };
        self.begin_gather(now, Box::new(target), out);
    }
}
