//! Views as the decided prefix tells them: when a committee is due, who is named, what ends a view.
//!
//! Source: settled rules of views. In: control bodies in height order, the list of members. Out:
//! the assemble body that is due, the reconfiguration that answers one, what a body effects.
//! Holds: the reconfiguration of a view is the first body in its prefix that answers the newest
//! assemble block with the list and the committee that it named; any other control body is an empty
//! block, and its header binds an empty body: a certified header over a reconfiguration is thereby
//! the one that ended its view. Countdowns are heights.
//! Elsewhere: keys (`fsm::view`), what bytes alone tell of a body (`blocks`).

use serde::{Deserialize, Serialize};

use super::Ledger;
use crate::blocks::body::{Assemble, NextSeat, Reconfiguration};
use crate::blocks::{Body, Link};
use crate::committee::{Height, MemberId, ViewId};
use crate::crypto::{Digest, Domain, Hasher};
use crate::membership::register::Register;
use crate::plant::{self, Plant};

/// What a control body effected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The next committee is named: its members make keys.
    Assembled,
    /// The view has ended with this block.
    Reconfigured,
}

/// A committee that was named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// The assemble block.
    pub at: Link,
    /// Who is named, by seat.
    pub committee: Vec<MemberId>,
}

/// Where views stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Views {
    /// The view that orders the next block.
    pub present: ViewId,
    /// The block that opened it.
    pub opening: Link,
    /// The newest assemble block of it that named a committee.
    pub announced: Option<Announced>,
}

impl Views {
    /// View 0, opened by the genesis block.
    pub(super) fn genesis(opening: Link) -> Self {
        Self {
            present: ViewId(0),
            opening,
            announced: None,
        }
    }

    /// Whether the block at `height` should announce a committee.
    fn is_due(&self, height: Height, register: &Register) -> bool {
        let rules = register.present_rules();
        match &self.announced {
            Some(announced) => height > announced.at.height.plus(rules.assemble_blocks.into()),
            None => {
                let (age, lasts) = (height.0 - self.opening.height.0, rules.rotation_blocks);
                (lasts > 0 && age >= lasts.into()) || register.is_changed()
            }
        }
    }

    /// The assemble body that is due at `height`; the same for everybody who stands there.
    ///
    /// A committee that is a sample keeps its seats, less those who go: with a seed that the chain
    /// alone gives, whoever orders blocks could choose it.
    pub(super) fn due(&self, height: Height, register: &Register) -> Option<Assemble> {
        if !self.is_due(height, register) {
            return None;
        }
        let (seed, footing) = (self.seed(), register.footing());
        let committee = match footing.is_everyone().ok()? {
            true => footing.committee(&seed).ok()?,
            false => {
                let seats = register.seats().iter().map(|seat| seat.member);
                seats
                    .filter(|member| footing.members.contains_key(member))
                    .collect()
            }
        };
        let is_named = !committee.is_empty();
        is_named.then(|| Assemble {
            next: self.present.next(),
            freeze: None,
            seed,
            committee,
        })
    }

    /// What orders the seats: with all members seated nobody gains by knowing it before.
    fn seed(&self) -> Digest {
        let before = self.announced.as_ref().map(|announced| announced.at.digest);
        let mut hasher = Hasher::new(Domain::Ring);
        hasher.update(self.opening.digest.as_bytes());
        hasher.update(&self.present.next().0.to_le_bytes());
        hasher.update(before.unwrap_or_default().as_bytes());
        hasher.finish()
    }

    /// The reconfiguration that answers the newest assemble block with these seats and the list
    /// that was fixed by it.
    pub(super) fn reconfiguration(
        &self,
        seats: Vec<NextSeat>,
        register: &Register,
    ) -> Option<Reconfiguration> {
        let announced = self.announced.as_ref()?;
        Some(Reconfiguration {
            next: self.present.next(),
            assemble: (announced.at.height, announced.at.digest),
            members: register.frozen()?.listed.clone(),
            seats,
            threshold: None,
        })
    }

    /// Whether `body` answers the newest assemble block with the list and the committee that it
    /// named.
    fn answers(&self, body: &Reconfiguration, register: &Register) -> bool {
        let seats = body.seats.iter().map(|seat| &seat.member);
        let announced = self.announced.as_ref();
        let is_named = announced.is_some_and(|announced| seats.eq(&announced.committee));
        let Some(mut answer) = self.reconfiguration(body.seats.clone(), register) else {
            return false;
        };
        if plant::is(Plant::AnyList) {
            answer.members = body.members.clone();
        }
        if plant::is(Plant::AnyAssemble) {
            answer.assemble = body.assemble;
        }
        is_named && answer == *body
    }

    /// Takes the control body of the block at `link`; `due` is the assemble body that was expected
    /// there. Nothing where the body is an empty block.
    pub(super) fn apply(
        &mut self,
        link: Link,
        body: &Body,
        due: Option<&Assemble>,
        register: &Register,
    ) -> Option<Effect> {
        match body {
            Body::Assemble(assemble) => {
                due.filter(|due| *due == assemble)?;
                self.announced = Some(Announced {
                    at: link,
                    committee: assemble.committee.clone(),
                });
                Some(Effect::Assembled)
            }
            Body::Reconfiguration(body) => {
                self.answers(body, register).then_some(())?;
                *self = Self {
                    present: body.next,
                    opening: link,
                    announced: None,
                };
                Some(Effect::Reconfigured)
            }
            Body::Genesis(_) | Body::Freeze(_) | Body::Checkpoint(_) | Body::Transactions(_) => {
                None
            }
        }
    }
}

impl Ledger {
    /// The assemble body that the next block should have; the same for everybody who stands here.
    pub fn assembly_due(&self) -> Option<&Assemble> {
        self.due.as_ref()
    }

    /// The body that counts: an empty one in place of an assemble or reconfiguration body without
    /// effect.
    ///
    /// Such a body is judged by its bytes alone when it is voted, and they may name any committee.
    /// If the header bound it, its certificate would look like one that ends the view.
    pub(super) fn effective(&self, body: Body) -> Body {
        let has_effect = match &body {
            Body::Assemble(assemble) => self.due.as_ref() == Some(assemble),
            Body::Reconfiguration(body) => self.parts.views.answers(body, &self.register),
            Body::Genesis(_) | Body::Freeze(_) | Body::Checkpoint(_) | Body::Transactions(_) => {
                true
            }
        };
        match has_effect {
            true => body,
            false => Body::Transactions(Vec::new()),
        }
    }

    /// Looks whether a committee is due: what that depends on may have changed.
    pub(super) fn look_ahead(&mut self) {
        let next = self.height().next();
        self.due = self.parts.views.due(next, &self.register);
    }

    /// The reconfiguration body that ends the view with these seats; none while no committee is
    /// announced.
    pub fn reconfiguration(&self, seats: Vec<NextSeat>) -> Option<Reconfiguration> {
        self.parts.views.reconfiguration(seats, &self.register)
    }

    /// Which view orders, and what is announced of the next.
    pub fn views(&self) -> &Views {
        &self.parts.views
    }
}
