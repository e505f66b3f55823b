//! Views as the decided prefix tells them: when a committee is due, who is named, what ends a view.
//!
//! Source: settled rules of views. In: control bodies in height order, the list of members. Out: the
//! assemble body that is due, the reconfiguration that answers one, what a body effects.
//! Holds: the reconfiguration of a view is the first body in its prefix that answers the newest
//! assemble block with the list and the committee that it named; any other control body is an empty
//! block. Countdowns are heights.
//! Elsewhere: keys (`fsm::view`), what bytes alone tell of a body (`blocks`).

use serde::{Deserialize, Serialize};

use crate::blocks::body::{Assemble, Listed, NextSeat, Reconfiguration};
use crate::blocks::{Body, Link, everyone};
use crate::committee::{Height, MemberId, ViewId};
use crate::crypto::{Digest, Domain, Hasher};

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
    /// The list that the reconfiguration will hold; later changes wait.
    pub list: Vec<Listed>,
}

/// When committees change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Blocks of a view after which the next committee is due; 0 for never.
    pub rotation: u64,
    /// Blocks after an assemble block after which another is due, when no reconfiguration came.
    pub assemble: u64,
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
    fn is_due(&self, height: Height, is_changed: bool, pace: Pace) -> bool {
        match &self.announced {
            Some(announced) => height > announced.at.height.plus(pace.assemble),
            None => {
                let age = height.0 - self.opening.height.0;
                is_changed || (pace.rotation > 0 && age >= pace.rotation)
            }
        }
    }

    /// The assemble body that is due at `height`, over the candidates of the list.
    pub(super) fn due(
        &self,
        height: Height,
        candidates: &[MemberId],
        (is_changed, pace): (bool, Pace),
    ) -> Option<Assemble> {
        if !self.is_due(height, is_changed, pace) || candidates.is_empty() {
            return None;
        }
        let next = self.present.next();
        let seed = self.seed();
        Some(Assemble {
            next,
            freeze: None,
            seed,
            committee: everyone(&seed, candidates),
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

    /// The reconfiguration that answers the newest assemble block with these seats.
    pub(super) fn reconfiguration(&self, seats: Vec<NextSeat>) -> Option<Reconfiguration> {
        let announced = self.announced.as_ref()?;
        Some(Reconfiguration {
            next: self.present.next(),
            assemble: (announced.at.height, announced.at.digest),
            members: announced.list.clone(),
            seats,
            threshold: None,
        })
    }

    /// Takes the control body of the block at `link`; `due` is the assemble body that was expected
    /// there, `list` the list of members as it stood before. Nothing where the body is an empty
    /// block.
    pub(super) fn apply(
        &mut self,
        link: Link,
        body: &Body,
        (due, list): (Option<Assemble>, impl FnOnce() -> Vec<Listed>),
    ) -> Option<Effect> {
        match body {
            Body::Assemble(assemble) => {
                due.filter(|due| due == assemble)?;
                self.announced = Some(Announced {
                    at: link,
                    committee: assemble.committee.clone(),
                    list: list(),
                });
                Some(Effect::Assembled)
            }
            Body::Reconfiguration(body) => {
                let answer = self.reconfiguration(body.seats.clone())?;
                let seats = body.seats.iter().map(|seat| &seat.member);
                let is_named = seats.eq(&self.announced.as_ref()?.committee);
                if !is_named || answer != *body {
                    return None;
                }
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
