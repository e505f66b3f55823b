//! What others hold and we lack: asked of one holder at a time.
//!
//! Source: the lazy half of Plumtree (Leitão et al., 2007). In: offers. Out: whom to ask for what.
//! Holds: at most [`WANTS_MAX`] names charged to the member that offered them first; a name is
//! dropped when every holder was asked.
//! Elsewhere: what is kept (`store`).

use std::collections::{BTreeMap, VecDeque};

use super::super::envelope::Name;
use crate::committee::MemberId;
use crate::machine::{Span, Time};

/// Names that one member may make us ask for at a time; further offers of it are dropped.
pub(super) const WANTS_MAX: usize = 64;

/// How long a holder has to answer before the next one is asked.
pub(super) const ASK_AGAIN: Span = Span::from_ms(300);

/// One message that we lack.
#[derive(Debug)]
struct Want {
    /// Who offered it first.
    charged: MemberId,
    asked: Time,
    /// Those who offered it later and were not asked yet, each once.
    others: VecDeque<MemberId>,
}

/// The messages that we lack.
#[derive(Debug, Default)]
pub(super) struct Wants {
    wants: BTreeMap<Name, Want>,
    /// Names charged to each member.
    charges: BTreeMap<MemberId, usize>,
}

/// What becomes of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Ask the one who offers, now.
    Ask,
    /// Another was asked already.
    Later,
    /// It has offered too much at a time.
    Full,
}

impl Wants {
    /// Whether nothing is lacking.
    pub(super) fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    /// Takes the offer of a message that was not seen.
    pub(super) fn offer(&mut self, now: Time, name: Name, from: MemberId) -> Offer {
        if let Some(want) = self.wants.get_mut(&name) {
            // Each listed member stands here once at most: the list bounds it.
            if want.charged != from && !want.others.contains(&from) {
                want.others.push_back(from);
            }
            return Offer::Later;
        }
        let charge = self.charges.entry(from).or_default();
        if *charge >= WANTS_MAX {
            return Offer::Full;
        }
        *charge += 1;
        let want = Want {
            charged: from,
            asked: now,
            others: VecDeque::new(),
        };
        self.wants.insert(name, want);
        Offer::Ask
    }

    /// The message came, or is wanted no more.
    pub(super) fn settle(&mut self, name: &Name) {
        if let Some(want) = self.wants.remove(name) {
            self.uncharge(want.charged);
        }
    }

    /// Whom to ask now instead of those who did not answer; `is_up` says who is reached.
    pub(super) fn overdue(
        &mut self,
        now: Time,
        is_up: impl Fn(&MemberId) -> bool,
    ) -> BTreeMap<MemberId, Vec<Name>> {
        let mut asks: BTreeMap<MemberId, Vec<Name>> = BTreeMap::new();
        let mut given_up = Vec::new();
        for (name, want) in &mut self.wants {
            if now - want.asked < ASK_AGAIN {
                continue;
            }
            let mut next = want.others.pop_front();
            while next.is_some_and(|holder| !is_up(&holder)) {
                next = want.others.pop_front();
            }
            match next {
                Some(holder) => {
                    want.asked = now;
                    asks.entry(holder).or_default().push(*name);
                }
                None => given_up.push(*name),
            }
        }
        given_up.iter().for_each(|name| self.settle(name));
        asks
    }

    /// Forgets all: the list of members changed.
    pub(super) fn clear(&mut self) {
        self.wants.clear();
        self.charges.clear();
    }

    fn uncharge(&mut self, member: MemberId) {
        let charge = self.charges.get_mut(&member);
        let charge = charge.expect("a want is charged to the member that offered it");
        *charge -= 1;
        if *charge == 0 {
            self.charges.remove(&member);
        }
    }
}
