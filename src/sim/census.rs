//! The census: who is to join, leave, be excluded or come back in a world, and when.
//!
//! Source: operations of members, `membership::register`; the assumption that at most f seats of a
//! view are faulty. In: chance, applied blocks. Out: acts that operators carry out, the committees
//! that may come of them.
//! Holds: rolls dice of its own; whatever comes of the acts that are open, and in whichever order,
//! at most f seats of each committee are suspects; an act stays open until its effect is seen.
//! Elsewhere: what operators submit (`operators`), a newcomer's part (`newcomer`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Options;
use super::dice::Dice;
use super::faults::Faults;
use super::oracle::faulty_max;
use crate::blocks::{Genesis, ViewRules};
use crate::committee::{Height, MemberId};
use crate::consortium::ledger::Views;
use crate::consortium::{Applied, Ledger};
use crate::membership::register::{Register, Status};

/// Worlds of a thousand with every fault that have a census where none is asked for.
const DRAWN: u64 = 150;
/// Acts of a world that draws its own, at most.
const ACTS_MAX: u64 = 12;
/// Machines that may become members, at most.
const NEWCOMERS_MAX: u64 = 3;
/// Acts that are open at once, at most.
const OPEN_MAX: usize = 6;
/// So long operators work on an act.
const PATIENCE_US: u64 = 90_000_000;

/// Members by index: bit by bit.
pub(super) type Set = u128;

/// The set of one.
pub(super) fn bit(index: usize) -> Set {
    1 << index
}

/// What operators set out to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// A machine becomes a member; it is invited first, or asks first.
    Join(usize, bool),
    /// A member leaves.
    Leave(usize),
    /// A member is excluded by votes.
    Exclude(usize),
    /// A machine takes a member's place.
    Replace(usize, usize),
    /// A member goes on under the identity of another machine.
    Heir(usize, usize),
    /// A member weighs so much.
    Weight(usize, u32),
    /// A member is reached elsewhere.
    Address(usize, String),
    /// Views follow other rules.
    Rules(ViewRules),
    /// A member that lost its disk, or its trust in it, comes back with a fresh key.
    Rejoin(usize),
}

impl Act {
    /// Whom it is about.
    pub(super) fn members(&self) -> Set {
        match self {
            Act::Join(who, _) | Act::Leave(who) | Act::Exclude(who) => bit(*who),
            Act::Replace(old, new) | Act::Heir(old, new) => bit(*old) | bit(*new),
            Act::Weight(who, _) | Act::Address(who, _) | Act::Rejoin(who) => bit(*who),
            Act::Rules(_) => 0,
        }
    }

    /// What may have come of it at any time: whom it takes out of a committee and whom it brings.
    fn ways(&self) -> Vec<(Set, Set)> {
        match self {
            Act::Join(who, _) => vec![(0, 0), (0, bit(*who))],
            Act::Leave(who) | Act::Exclude(who) | Act::Weight(who, 0) => {
                vec![(0, 0), (bit(*who), 0)]
            }
            Act::Rejoin(who) => vec![(0, 0), (bit(*who), 0), (0, bit(*who))],
            Act::Replace(old, new) | Act::Heir(old, new) => vec![
                (0, 0),
                (0, bit(*new)),
                (bit(*old), 0),
                (bit(*old), bit(*new)),
            ],
            Act::Weight(who, _) => vec![(0, 0), (0, bit(*who))],
            Act::Address(..) | Act::Rules(_) => vec![(0, 0)],
        }
    }
}

/// An act that is under way.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) act: Act,
    /// When it began, in microseconds.
    since: u64,
    /// When operators look at it again.
    pub(super) again: u64,
}

impl Open {
    /// Whether operators still work on it; its effect may come all the same.
    pub(super) fn is_pursued(&self, now: u64) -> bool {
        now < self.since + PATIENCE_US
    }
}

/// The acts of a world, and what the chain says of its members.
#[derive(Debug)]
pub(super) struct Census {
    pub(super) dice: Dice,
    /// Acts that are still to begin.
    pub(super) left: u64,
    pub(super) open: Vec<Open>,
    /// Behind the highest block that any correct member applied.
    pub(super) register: Arc<Register>,
    pub(super) views: Views,
    pub(super) height: Height,
    /// Who sat in the view before.
    before: Set,
    by_id: BTreeMap<MemberId, usize>,
}

/// Acts of the world of `options`, and machines that may become members.
pub(super) fn draw(options: &Options) -> (u64, usize) {
    let mut dice = Dice::new(options.seed, 12);
    let is_drawn = dice.chance(DRAWN) && options.faults == Faults::all();
    let drawn = dice.within(1, ACTS_MAX);
    let acts = match options.membership {
        _ if options.sample => 0,
        Some(acts) => acts.into(),
        None if is_drawn => drawn,
        None => 0,
    };
    let machines = dice.within(1, NEWCOMERS_MAX);
    let machines = if acts > 0 { machines } else { 0 };
    (acts, usize::try_from(machines).expect("a few"))
}

impl Census {
    pub(super) fn new(
        options: &Options,
        genesis: &Genesis,
        by_id: BTreeMap<MemberId, usize>,
    ) -> Self {
        let ledger = Ledger::genesis(genesis);
        Self {
            dice: Dice::new(options.seed, 13),
            left: draw(options).0,
            open: Vec::new(),
            register: Arc::clone(ledger.register()),
            views: ledger.views().clone(),
            height: Height(0),
            before: 0,
            by_id,
        }
    }

    /// A correct member applied a block.
    pub(super) fn follow(&mut self, applied: &Applied) {
        let height = applied.block.header.height;
        if height != self.height.next() {
            return;
        }
        self.height = height;
        if let Some(views) = &applied.views {
            if views.present != self.views.present {
                self.before = self.seats();
            }
            self.views = (**views).clone();
        }
        if let Some(register) = &applied.register {
            self.register = Arc::clone(register);
        }
    }

    /// Whether nothing is due for the next view.
    pub(super) fn is_settled(&self) -> bool {
        self.views.announced.is_none() && !self.register.is_changed()
    }

    pub(super) fn index(&self, member: &MemberId) -> Option<usize> {
        self.by_id.get(member).copied()
    }

    fn set<'a>(&self, members: impl IntoIterator<Item = &'a MemberId>) -> Set {
        let indices = members.into_iter().filter_map(|member| self.index(member));
        indices.fold(0, |set, index| set | bit(index))
    }

    /// Who sits.
    pub(super) fn seats(&self) -> Set {
        self.set(self.register.seats().iter().map(|seat| &seat.member))
    }

    /// Members in one of these states.
    pub(super) fn having(&self, is: impl Fn(Status) -> bool) -> Set {
        let members = self.register.members();
        self.set(members.filter(|(_, m)| is(m.status)).map(|(id, _)| id))
    }

    /// Who is in the register, and who must not be touched while acts about them are open.
    pub(super) fn known(&self) -> Set {
        self.having(|_| true)
    }

    pub(super) fn busy(&self) -> Set {
        self.open
            .iter()
            .fold(0, |set, open| set | open.act.members())
    }

    pub(super) fn has_room(&self) -> bool {
        self.open.len() < OPEN_MAX
    }

    pub(super) fn begin(&mut self, act: Act, now: u64) {
        self.left = self.left.saturating_sub(1);
        self.open.push(Open {
            act,
            since: now,
            again: now,
        });
    }

    /// Every committee that votes now or may come of this list and the acts that are open.
    ///
    /// The view before counts until `certified` covers what opened the present one.
    fn committees(&self, certified: Height, more: Option<&Act>) -> Vec<Set> {
        let footing = self.register.footing();
        let mut made = vec![self.set(footing.members.keys())];
        let joining = self.having(|status| status == Status::Joining);
        let joins = (0..128).filter(|index| joining & bit(*index) != 0);
        let joins = joins.map(|index| vec![(0, 0), (0, bit(index))]);
        let acts = self.open.iter().map(|open| &open.act).chain(more);
        for ways in joins.chain(acts.map(Act::ways)) {
            let with = |set: Set| ways.iter().map(move |(out, new)| set & !out | new);
            made = made.into_iter().flat_map(with).collect();
            made.sort_unstable();
            made.dedup();
        }
        made.push(self.seats());
        if let Some(announced) = &self.views.announced {
            made.push(self.set(&announced.committee));
        }
        if self.before != 0 && certified < self.views.opening.height {
            made.push(self.before);
        }
        made
    }

    /// Whether at most f seats of each committee are `suspects`, with one more act and without it.
    pub(super) fn bears(&self, suspects: Set, certified: Height, more: Option<&Act>) -> bool {
        let count = |set: Set| set.count_ones() as usize;
        let is_good = |set: &Set| *set != 0 && count(set & suspects) <= faulty_max(count(*set));
        self.committees(certified, more).iter().all(is_good)
    }
}
