//! Who can vote, as far as is known here, and since when they are a quorum.
//!
//! Source: settled timers: a wait in which nothing could be ordered tells nothing of a leader. In:
//! what seats say, links. Out: a time.
//! Holds: a seat counts from the first word that only one who may vote says until its links fall or
//! it starts anew; one that was wiped says no such word, so it never counts again.
//! Elsewhere: links as operators see them (`view`), what is not learnt (`pace`).

use std::collections::BTreeSet;

use super::message::{Message, Recall};
use crate::committee::Seat;
use crate::machine::Time;

/// Seats that can vote, and those that cannot be reached.
#[derive(Debug)]
pub(super) struct Presence {
    quorum: usize,
    able: BTreeSet<Seat>,
    /// Seats to which links fell and do not stand again.
    lost: BTreeSet<Seat>,
    /// Since when a quorum is able.
    since: Time,
}

impl Presence {
    /// Nobody is known to be able to vote, of whom `quorum` are needed.
    pub(super) fn new(quorum: usize) -> Self {
        Self {
            quorum,
            able: BTreeSet::new(),
            lost: BTreeSet::new(),
            since: Time(0),
        }
    }

    /// `seat` says `message`.
    pub(super) fn heard(&mut self, seat: Seat, message: &Message, now: Time) {
        match message {
            // It has just started: others have yet to say what they hold of its votes.
            Message::Recall(Recall::Ask(_)) => self.count(seat, false, now),
            Message::Propose(vote, _) | Message::Vote(vote) if vote.seat == seat => {
                self.count(seat, true, now);
            }
            Message::StopData(data, _) if data.seat == seat => self.count(seat, true, now),
            // Who may not vote yet only asks.
            Message::Status(status) if !status.is_question => self.count(seat, true, now),
            Message::Propose(..) | Message::Vote(_) | Message::StopData(..) => {} // Passed on.
            Message::Status(_) | Message::Stop(_) | Message::Sync(_) => {}
            Message::Decision(..) | Message::Fetch(..) | Message::Payload(..) => {}
            Message::Recall(Recall::Held(..)) => {}
        }
    }

    /// `seat`, which may be ourselves, can vote or cannot.
    pub(super) fn count(&mut self, seat: Seat, is_able: bool, now: Time) {
        let had_quorum = self.has_quorum();
        if is_able {
            self.able.insert(seat);
        } else {
            self.able.remove(&seat);
        }
        if self.has_quorum() && !had_quorum {
            self.since = now;
        }
    }

    /// Links to `seat` stand, or fell.
    pub(super) fn link(&mut self, seat: Seat, stands: bool) {
        if stands {
            self.lost.remove(&seat);
        } else {
            self.lost.insert(seat);
            self.able.remove(&seat);
        }
    }

    /// Whether links to `seat` fell and do not stand again.
    pub(super) fn has_lost(&self, seat: Seat) -> bool {
        self.lost.contains(&seat)
    }

    /// Until when nothing could be ordered: up to `now` where no quorum is able.
    pub(super) fn short_until(&self, now: Time) -> Time {
        if self.has_quorum() { self.since } else { now }
    }

    fn has_quorum(&self) -> bool {
        self.able.len() >= self.quorum
    }
}
