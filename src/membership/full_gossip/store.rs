//! The messages that were seen last, kept for those who missed them.
//!
//! Source: `full_gossip`. In: checked envelopes in the order of arrival. Out: envelopes by name or
//! by place.
//! Holds: at most [`STORE_MESSAGES_MAX`] messages of [`STORE_BYTES_MAX`] bytes in all; when full
//! the oldest goes.
//! Elsewhere: who was told of what (`full_gossip`).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::super::envelope::Name;
use crate::committee::MemberId;

/// Messages that are kept; the oldest is forgotten first.
pub(super) const STORE_MESSAGES_MAX: usize = 1024;
/// Bytes of the messages that are kept; the oldest is forgotten first.
pub(super) const STORE_BYTES_MAX: usize = 16 << 20;

/// One kept message.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// Its name.
    pub(super) name: Name,
    /// Whose link brought it; ourselves for our own.
    pub(super) from: MemberId,
    /// As it goes over a link.
    pub(super) bytes: Bytes,
}

/// The kept messages; each has a place that counts every message there ever was.
#[derive(Debug, Default)]
pub(super) struct Store {
    kept: VecDeque<Kept>,
    places: BTreeMap<Name, u64>,
    first: u64,
    bytes: usize,
}

impl Store {
    /// The place of the oldest that is kept.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The place of the next message.
    pub(super) fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Keeps a message that is not kept yet.
    pub(super) fn push(&mut self, kept: Kept) {
        let before = self.places.insert(kept.name, self.end());
        assert!(before.is_none(), "a message is kept once");
        self.bytes += kept.bytes.len();
        self.kept.push_back(kept);
        while self.kept.len() > STORE_MESSAGES_MAX || self.bytes > STORE_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else {
                break;
            };
            self.places.remove(&oldest.name);
            self.bytes -= oldest.bytes.len();
            self.first += 1;
        }
    }

    /// The bytes of a message, if it is kept.
    pub(super) fn get(&self, name: &Name) -> Option<&Bytes> {
        let place = *self.places.get(name)?;
        self.at(place).map(|kept| &kept.bytes)
    }

    /// The messages from `place` on, each with its place.
    pub(super) fn since(&self, place: u64) -> impl Iterator<Item = (u64, &Kept)> {
        let skipped = place.saturating_sub(self.first);
        let places = (self.first..).zip(&self.kept);
        places.skip(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    fn at(&self, place: u64) -> Option<&Kept> {
        let index = place.checked_sub(self.first)?;
        self.kept.get(usize::try_from(index).ok()?)
    }
}
