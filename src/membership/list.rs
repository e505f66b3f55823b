//! The membership list that the chain certifies: read at a height, followed change by change.
//!
//! Source: `ARCHITECTURE.md`, the two lists. In: the register behind each block that changed it.
//! Out: [`List`], [`Change`]s.
//! Holds: members stand in ascending order of ids, each once; the height only rises; who follows
//! misses no change without being told.
//! Elsewhere: who is reachable now (the overlays), who has a seat and why (`fsm`).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::register::{Member, Register, Status};
use crate::blocks::Genesis;
use crate::committee::{Height, MemberId};
use crate::crypto::PublicKey;

/// Changes that are kept for those who follow; older ones are forgotten and [`Roster::changes`]
/// says so.
pub const CHANGES_KEPT_MAX: usize = 4096;

/// One listed member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The digest of its identity key.
    pub id: MemberId,
    /// Its name, for people.
    pub name: String,
    /// Its identity key.
    pub identity: PublicKey,
    /// Its certified consensus key.
    pub consensus: Option<PublicKey>,
    /// Where members reach it, `host:port`; may be empty.
    pub address: String,
    /// What the chain says of it.
    pub status: Status,
    /// Virtual positions on each ring.
    pub weight: u32,
    /// Words about it, ascending.
    pub tags: Vec<String>,
    /// Whether it has a seat in the present view.
    pub is_seated: bool,
}

/// The certified list at a height.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    height: Height,
    members: Vec<Listed>,
}

/// Why members make no list. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The maker is at fault: one member stands twice.
    #[error("member {id} stands twice in the list")]
    Twice {
        /// Which.
        id: MemberId,
    },
    /// The maker is at fault: the id is not the digest of the identity key.
    #[error("member {id} has another identity key")]
    Identity {
        /// Which.
        id: MemberId,
    },
    /// The caller is at fault: the new list is older than the one that stands.
    #[error("a list at height {got} follows one at height {tip}")]
    Height {
        /// The height that stands.
        tip: Height,
        /// The height given.
        got: Height,
    },
}

impl List {
    /// A list of `members` as of `height`, in any order.
    pub fn new(height: Height, mut members: Vec<Listed>) -> Result<Self, ListError> {
        members.sort_by_key(|member| member.id);
        for pair in members.windows(2) {
            if pair[0].id == pair[1].id {
                return Err(ListError::Twice { id: pair[0].id });
            }
        }
        let other = |member: &&Listed| MemberId::of(&member.identity) != member.id;
        match members.iter().find(other) {
            Some(member) => Err(ListError::Identity { id: member.id }),
            None => Ok(Self { height, members }),
        }
    }

    /// The list at height 0: the founders, who all have a seat.
    ///
    /// Errors: [`ListError::Twice`]; never for a document that [`Genesis::check`] accepts.
    pub fn genesis(genesis: &Genesis) -> Result<Self, ListError> {
        Self::of(&Register::genesis(genesis), Height(0))
    }

    /// What `register` lists behind the block at `height`: everybody but who is only invited, and
    /// who was excluded and has no seat.
    ///
    /// Errors: [`ListError`]; never for a register that the chain made.
    pub fn of(register: &Register, height: Height) -> Result<Self, ListError> {
        let is_listed = |member: &Member| match member.status {
            Status::Invited => false,
            Status::Excluded => member.is_seated,
            Status::Joining | Status::CaughtUp | Status::Seated | Status::Leaving => true,
        };
        let members = register.members().filter(|(_, member)| is_listed(member));
        let listed = members.map(|(id, member)| Listed {
            id: *id,
            name: member.name.clone(),
            identity: member.identity,
            consensus: member.consensus(),
            address: member.address.clone(),
            status: member.status,
            weight: member.weight,
            tags: member.tags.clone(),
            is_seated: member.is_seated,
        });
        Self::new(height, listed.collect())
    }

    /// The height of the block that certifies it.
    pub fn height(&self) -> Height {
        self.height
    }

    /// The members in ascending order of ids.
    pub fn members(&self) -> &[Listed] {
        &self.members
    }

    /// The member of that id.
    pub fn get(&self, id: &MemberId) -> Option<&Listed> {
        let found = self.members.binary_search_by_key(id, |member| member.id);
        found.ok().map(|index| &self.members[index])
    }

    /// Ids and identity keys: what an overlay is told.
    pub fn identities(&self) -> Vec<(MemberId, PublicKey)> {
        let pair = |member: &Listed| (member.id, member.identity);
        self.members.iter().map(pair).collect()
    }
}

/// A difference between two lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The height of the list that has it.
    pub height: Height,
    /// The member.
    pub id: MemberId,
    /// What became of it.
    pub what: ChangeKind,
}

/// What became of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was not listed before.
    Joined(Listed),
    /// It is listed no more.
    Left,
    /// It stands in the list otherwise than before.
    Altered(Listed),
}

/// Who follows was away for too long. Nobody's fault: read the list, and follow from its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes from {from} are asked for, the oldest kept is {oldest}")]
pub struct MissedError {
    /// The place asked for.
    pub from: u64,
    /// The oldest place that is kept.
    pub oldest: u64,
}

/// The newest list and the changes that led to it.
#[derive(Clone, Debug)]
pub struct Roster {
    list: List,
    changes: VecDeque<Change>,
    /// Changes there ever were: the place of the next one.
    next: u64,
}

impl Roster {
    /// Starts with `list`; no change precedes it.
    pub fn new(list: List) -> Self {
        Self {
            list,
            changes: VecDeque::new(),
            next: 0,
        }
    }

    /// The newest list.
    pub fn list(&self) -> &List {
        &self.list
    }

    /// The place of the next change: whoever has read [`Roster::list`] follows from here.
    pub fn next_place(&self) -> u64 {
        self.next
    }

    /// Puts `list` in the place of the one that stands and records what differs, by id.
    ///
    /// Errors: [`ListError::Height`] when it is not of a higher height.
    pub fn replace(&mut self, list: List) -> Result<(), ListError> {
        let (tip, got) = (self.list.height, list.height);
        if got <= tip {
            return Err(ListError::Height { tip, got });
        }
        let mut found = Vec::new();
        for before in &self.list.members {
            match list.get(&before.id) {
                None => found.push((before.id, ChangeKind::Left)),
                Some(after) if after != before => {
                    found.push((before.id, ChangeKind::Altered(after.clone())));
                }
                Some(_) => {}
            }
        }
        let is_new = |member: &&Listed| self.list.get(&member.id).is_none();
        let joined = list.members.iter().filter(is_new);
        found.extend(joined.map(|member| (member.id, ChangeKind::Joined(member.clone()))));
        found.sort_by_key(|(id, _)| *id);
        for (id, what) in found {
            self.next += 1;
            self.changes.push_back(Change {
                height: got,
                id,
                what,
            });
        }
        while self.changes.len() > CHANGES_KEPT_MAX {
            self.changes.pop_front();
        }
        self.list = list;
        Ok(())
    }

    /// The changes from place `from` on, in order, each with its place.
    ///
    /// Errors: [`MissedError`] when some of them are forgotten.
    pub fn changes(&self, from: u64) -> Result<impl Iterator<Item = (u64, &Change)>, MissedError> {
        let oldest = self.next - self.changes.len() as u64;
        if from < oldest {
            return Err(MissedError { from, oldest });
        }
        let skipped = usize::try_from(from - oldest).unwrap_or(usize::MAX);
        let places = (oldest..).zip(&self.changes);
        Ok(places.skip(skipped))
    }
}
