//! Seats that nobody votes for any more, and whether those that are left can order.
//!
//! Source: design of views, 'a dead view'. In: the view, what the chain certifies of its members,
//! what members say of their own seats. Out: seats that are lost and those that are reachable.
//! Holds: a member speaks for its own seat alone; its vote takes back what it said; what is known
//! is of one view.
//! Elsewhere: what follows for operators (`node`), how members come back (`membership::register`).
//!
//! Nobody can prove that a key is gone, so this decides nothing: it is told to people. A seat is
//! lost where the view has no key for it, where its member rejoined since with another one, or
//! where its member says so. A liar who says it is one of the f.

use std::collections::BTreeSet;

use super::message::Message;
use super::replica::{Consortium, Out};
use crate::committee::{MemberId, Sizes, ViewId};
use crate::machine::To;

/// Where the seats of a view stand, as far as this member knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Members whose seat has no key any more, by seat.
    pub lost: Vec<MemberId>,
    /// Seats with a key that are connected, our own counted.
    pub reachable: usize,
    /// Whether we have a seat and no key for it.
    pub is_vacant: bool,
}

impl Losses {
    /// Whether so many seats of `sizes` are lost that no quorum is left: the view never orders
    /// again.
    pub fn is_dead(&self, sizes: &Sizes) -> bool {
        sizes.n - self.lost.len() < sizes.q
    }
}

/// What members said of their own seats in the present view; at most one word of each seat.
#[derive(Debug, Default)]
pub(super) struct Vacancies {
    declared: BTreeSet<MemberId>,
    /// What follows, so that a look costs nothing.
    losses: Losses,
}

impl Vacancies {
    /// What is known now.
    pub(super) fn losses(&self) -> &Losses {
        &self.losses
    }
}

impl Consortium {
    /// Whether our seat has no key here. Between two views the old key is gone and no loss.
    fn is_vacant(&self) -> bool {
        let is_seated = self.view.seat_of(&self.options.me).is_some();
        let signs = self.ordering.has_voter() && self.ordering.state() != "wiped";
        is_seated && !signs && !self.handover.is_between()
    }

    /// Tells `to` that nobody votes for our seat.
    pub(super) fn tell_vacancy(&mut self, to: To<MemberId>, out: &mut Out) {
        if self.is_vacant() {
            out.send(to, Message::Vacant(self.view.id()));
        }
    }

    /// A member says that its seat in the present view has no key.
    pub(super) fn on_vacant(&mut self, from: MemberId, view: ViewId) {
        let is_its_seat = view == self.view.id() && self.view.seat_of(&from).is_some();
        if is_its_seat && self.vacancies.declared.insert(from) {
            self.count_losses();
        }
    }

    /// A member signed with the key of its seat: what it said before holds no more.
    pub(super) fn on_alive(&mut self, from: &MemberId) {
        if self.vacancies.declared.remove(from) {
            self.count_losses();
        }
    }

    /// A link to a member stands anew: it says again what still holds.
    pub(super) fn forget_vacancy(&mut self, of: &MemberId) {
        self.vacancies.declared.remove(of);
    }

    /// A view begins: what was said of another one means nothing.
    pub(super) fn forget_vacancies(&mut self) {
        self.vacancies.declared.clear();
        self.count_losses();
    }

    /// Something that seats are judged by changed.
    pub(super) fn count_losses(&mut self) {
        let register = self.chain.ledger.register();
        let me = self.options.me;
        let is_vacant = self.is_vacant();
        let connected = self.catchup.connected();
        let (mut lost, mut reachable) = (Vec::new(), 0);
        for seat in self.view.seats() {
            let member = seat.member;
            // The register is of the view that is applied, which may be ahead of ours.
            let rejoined = register.view() == self.view.id()
                && register
                    .get(&member)
                    .is_some_and(|listed| listed.consensus() != seat.key);
            let said = match member == me {
                true => is_vacant,
                false => self.vacancies.declared.contains(&member),
            };
            if seat.key.is_none() || rejoined || said {
                lost.push(member);
            } else if member == me || connected.contains(&member) {
                reachable += 1;
            }
        }
        self.vacancies.losses = Losses {
            lost,
            reachable,
            is_vacant,
        };
    }
}
