//! Views as the decided prefix tells them: when a committee is due, who is named, what ends a view.
//!
//! Source: settled rules of views. In: control bodies in height order, the list of members. Out:
//! the control body that is due, the reconfiguration that answers one, what a body effects.
//! Holds: the reconfiguration of a view is the first body in its prefix that answers the newest
//! assemble block with the list and the committee that it named; any other control body is an empty
//! block, and its header binds an empty body: a certified header over a reconfiguration is thereby
//! the one that ended its view. Countdowns are heights.
//! Elsewhere: keys (`fsm::view`), what bytes alone tell of a body (`blocks`).

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Ledger;
use crate::blocks::body::{Assemble, Beacon, Freeze, NextSeat, Reconfiguration};
use crate::blocks::{Body, Link};
use crate::committee::{Height, MemberId, SEATS_MAX, Sizes, ViewId};
use crate::crypto::{Digest, Domain, Hasher, threshold};
use crate::membership::register::{Footing, Register, Stage, ThresholdKey};
use crate::plant::{self, Plant};

/// The seats that a sampled committee keeps: those of the members who may still be drawn. Where
/// more than f went, all sit who may be drawn, if they have room; without any of it the present
/// view goes on.
fn kept(register: &Register, footing: &Footing) -> Option<Vec<MemberId>> {
    let seats = register.seats().iter().map(|seat| seat.member);
    let sizes = Sizes::of(seats.len());
    let kept: Vec<MemberId> = seats
        .filter(|id| footing.members.contains_key(id))
        .collect();
    if kept.len() >= sizes.n - sizes.f {
        return Some(kept);
    }
    let all = footing.members.keys().copied();
    (footing.members.len() <= SEATS_MAX).then(|| all.collect())
}

/// What a control body effected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The list that the next committee is drawn from is fixed.
    Frozen,
    /// The next committee is named: its members make keys.
    Assembled,
    /// The view has ended with this block.
    Reconfigured,
    /// A snapshot became a checkpoint: what stands before it is superfluous.
    Checkpointed,
}

/// What the next block should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// This body.
    Body(Body),
    /// The committee that the beacon over this freeze block draws.
    Draw(Link),
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
    /// The freeze block behind that, from which the next committee is to be drawn.
    pub frozen: Option<Link>,
}

impl Views {
    /// View 0, opened by the genesis block.
    pub(super) fn genesis(opening: Link) -> Self {
        Self {
            present: ViewId(0),
            opening,
            announced: None,
            frozen: None,
        }
    }

    /// Adds everything here to a digest by which members compare their states.
    pub(super) fn hash_into(&self, hasher: &mut Hasher) {
        let announced = self.announced.as_ref().map(|announced| announced.at);
        hasher.update(&self.present.0.to_le_bytes());
        for link in [Some(self.opening), announced, self.frozen] {
            let Link { height, digest } = link.unwrap_or_default();
            hasher.update(&height.0.to_le_bytes());
            hasher.update(digest.as_bytes());
        }
    }

    /// Whether the block at `height` should announce a committee, or fix what it is drawn from.
    fn is_due(&self, height: Height, register: &Register) -> bool {
        let rules = register.present_rules();
        match &self.announced {
            Some(announced) => height > announced.at.height.plus(register.answer_blocks()),
            None => {
                let (age, lasts) = (height.0 - self.opening.height.0, rules.rotation_blocks);
                (lasts > 0 && age >= lasts.into()) || register.is_changed()
            }
        }
    }

    /// The control body that is due at `height`; the same for everybody who stands there.
    ///
    /// A sample is drawn by a beacon over a freeze block: with a seed that the chain alone gives,
    /// whoever orders blocks could choose it. Where the present committee has no threshold key, or
    /// its beacon stays away, a sampled committee keeps its seats, less those who go.
    pub(super) fn due(&self, height: Height, register: &Register) -> Option<Due> {
        if let Some(frozen) = self.frozen
            && height <= frozen.height.plus(register.beacon_blocks())
        {
            return Some(Due::Draw(frozen));
        }
        if self.frozen.is_none() && !self.is_due(height, register) {
            return None;
        }
        let footing = register.footing();
        let is_everyone = footing.is_everyone().ok()?;
        if !is_everyone && self.frozen.is_none() && register.threshold().is_some() {
            let (next, list) = (self.present.next(), register.digest());
            return Some(Due::Body(Body::Freeze(Freeze { next, list })));
        }
        let seed = self.seed();
        let committee = match is_everyone {
            true => footing.committee(&seed).ok()?,
            false => kept(register, &footing)?,
        };
        let is_named = !committee.is_empty();
        is_named.then(|| Due::Body(Body::Assemble(self.assemble(None, seed, committee))))
    }

    fn assemble(&self, beacon: Option<Beacon>, seed: Digest, committee: Vec<MemberId>) -> Assemble {
        Assemble {
            next: self.present.next(),
            beacon,
            seed,
            committee,
        }
    }

    /// The committee that `signature`, the beacon over the freeze block, draws; nothing where it
    /// does not hold. Costs a pairing and a draw.
    fn drawn(&self, signature: &Bytes, register: &Register) -> Option<Assemble> {
        let (freeze, key) = (self.frozen?, register.threshold()?);
        let statement = Beacon::statement(register.chain(), self.present, &freeze);
        if !threshold::is_signed(key.public(), signature, statement.as_slice()) {
            return None;
        }
        let signature = signature.clone();
        let beacon = Beacon { freeze, signature };
        let seed = beacon.seed();
        let committee = register.frozen()?.footing.committee(&seed).ok()?;
        Some(self.assemble(Some(beacon), seed, committee))
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

    /// The reconfiguration that answers the newest assemble block with these seats, the list that
    /// was fixed by it, and the threshold key that was made, if enough of the seats hold it.
    fn reconfiguration(
        &self,
        seats: Vec<NextSeat>,
        register: &Register,
        made: Option<&ThresholdKey>,
    ) -> Option<Reconfiguration> {
        let announced = self.announced.as_ref()?;
        let threshold = made.filter(|key| key.is_held(&seats));
        Some(Reconfiguration {
            next: self.present.next(),
            assemble: (announced.at.height, announced.at.digest),
            members: register.frozen()?.listed.clone(),
            seats,
            threshold: threshold.map(|key| key.public().clone()),
        })
    }

    /// Whether `seats` are those of the committee that was named.
    fn is_named(&self, seats: &[NextSeat]) -> bool {
        let seats = seats.iter().map(|seat| &seat.member);
        let announced = self.announced.as_ref();
        announced.is_some_and(|announced| seats.eq(&announced.committee))
    }

    /// Takes the control body of the block at `link`, which has an effect if it is there.
    pub(super) fn apply(&mut self, link: Link, body: &Body) -> Option<Effect> {
        match body {
            Body::Freeze(_) => {
                self.frozen = Some(link);
                Some(Effect::Frozen)
            }
            Body::Assemble(assemble) => {
                self.frozen = None;
                self.announced = Some(Announced {
                    at: link,
                    committee: assemble.committee.clone(),
                });
                Some(Effect::Assembled)
            }
            Body::Reconfiguration(body) => {
                *self = Self {
                    present: body.next,
                    ..Self::genesis(link)
                };
                Some(Effect::Reconfigured)
            }
            Body::Checkpoint(_) => Some(Effect::Checkpointed),
            Body::Genesis(_) | Body::Transactions(_) => None,
        }
    }
}

impl Ledger {
    /// What the next block should have; the same for everybody who stands here.
    pub fn due(&self) -> Option<&Due> {
        self.due.as_ref()
    }

    /// The assemble body that `signature`, a beacon over the freeze block, makes due.
    pub fn drawn(&self, signature: &Bytes) -> Option<Assemble> {
        self.parts.views.drawn(signature, &self.register)
    }

    /// The body that counts: an empty one in place of a freeze, assemble or reconfiguration body
    /// without effect.
    ///
    /// Such a body is judged by its bytes alone when it is voted, and they may name any committee.
    /// If the header bound it, its certificate would look like one that ends the view.
    pub(super) fn effective(&self, body: Body) -> Body {
        let (views, register) = (&self.parts.views, &self.register);
        let has_effect = match (&body, &self.due) {
            (Body::Freeze(_), due) => *due == Some(Due::Body(body.clone())),
            (Body::Assemble(assemble), Some(Due::Draw(_))) => {
                let beacon = assemble.beacon.as_ref();
                let drawn = beacon.and_then(|beacon| views.drawn(&beacon.signature, register));
                drawn.as_ref() == Some(assemble)
            }
            (Body::Assemble(_), due) => *due == Some(Due::Body(body.clone())),
            (Body::Reconfiguration(body), _) => self.ends_view(body),
            (Body::Checkpoint(body), _) => self.parts.snapshots.takes(body),
            (Body::Genesis(_) | Body::Transactions(_), _) => true,
        };
        match has_effect {
            true => body,
            false => Body::Transactions(Vec::new()),
        }
    }

    /// Looks what is due: what that depends on may have changed.
    pub(super) fn look_ahead(&mut self) {
        let next = self.height().next();
        self.due = self.parts.views.due(next, &self.register);
        let generation = self.register.generation();
        match generation.filter(|generation| generation.stage(next) == Stage::Over) {
            // Nothing changes it any more.
            Some(_) if self.made.is_some() => {}
            Some(generation) => self.made = generation.key(next).map(Arc::new),
            None => self.made = None,
        }
    }

    /// Whether the next block may end the view: a committee is named, the list was not fixed anew
    /// since then, and its threshold key is not under way any more.
    pub fn may_reconfigure(&self) -> bool {
        let views = &self.parts.views;
        let is_open = views.announced.is_some() && views.frozen.is_none();
        is_open && !self.register.is_generating(self.height().next())
    }

    /// The reconfiguration body that ends the view with these seats, if it may end now.
    pub fn reconfiguration(&self, seats: Vec<NextSeat>) -> Option<Reconfiguration> {
        let (views, made) = (&self.parts.views, self.made.as_deref());
        if !self.may_reconfigure() || !views.is_named(&seats) {
            return None;
        }
        views.reconfiguration(seats, &self.register, made)
    }

    /// Whether `body` ends the view: it answers the newest assemble block with the list and the
    /// committee that it named.
    fn ends_view(&self, body: &Reconfiguration) -> bool {
        let Some(mut answer) = self.reconfiguration(body.seats.clone()) else {
            return false;
        };
        if plant::is(Plant::AnyList) {
            answer.members = body.members.clone();
        }
        if plant::is(Plant::AnyAssemble) {
            answer.assemble = body.assemble;
        }
        answer == *body
    }

    /// Which view orders, and what is announced of the next.
    pub fn views(&self) -> &Views {
        &self.parts.views
    }
}
