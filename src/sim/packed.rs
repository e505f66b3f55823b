//! The real packs on a simulated disk, beneath the segments that one newcomer fetched.
//!
//! Source: `storage`, its packs and the disk's twin; `node::bootstrap`, when it syncs. In:
//! segments, power losses. Out: what the packs read back.
//! Holds: a segment that was synced is read back as it was stored, whatever was torn beside it.
//! Elsewhere: which segments a newcomer wants (`bootstrap`), snapshots and steps (`shelf`).

use std::collections::BTreeSet;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::ChaCha12Rng;

use super::dice::Dice;
use crate::checkpoint::Leaf;
use crate::crypto::Digest;
use crate::storage::Packs;
use crate::storage::simulated::{Crash, SimulatedDisk};

/// Bytes of segments after which packs are made durable: as few as segments are small here, so that
/// a power loss finds some that are and some that are not.
const SYNC_BYTES: usize = 6 << 10;
/// What cannot go wrong on a disk without planned failures.
const WORKS: &str = "no failure is planned on this disk";

/// The packs of one newcomer.
#[derive(Default)]
pub(super) struct Packed {
    disk: SimulatedDisk,
    /// None while its member is down, or needs none.
    packs: Option<Packs<SimulatedDisk>>,
    /// What was synced, or survived a power loss.
    durable: BTreeSet<Digest>,
    /// Whether power was lost since the packs were read.
    is_shaken: bool,
    unsynced: usize,
}

impl Packed {
    /// Reads what is there.
    ///
    /// Errors: which segment was durable and is not there, or is another one.
    pub(super) fn open(&mut self) -> Result<(), String> {
        let packs = Packs::open_on(self.disk.clone()).map_err(|error| error.to_string())?;
        let damaged = packs.forget_damaged(&|| true);
        damaged.map_err(|error| error.to_string())?;
        for digest in &self.durable {
            let read = packs.read(digest).map_err(|error| error.to_string())?;
            if read.is_none_or(|bytes| Leaf::digest_of(&bytes) != *digest) {
                return Err(format!("segment {digest} was durable"));
            }
        }
        if std::mem::take(&mut self.is_shaken) {
            self.durable = packs.digests();
        }
        self.packs = Some(packs);
        self.unsynced = 0;
        Ok(())
    }

    /// Stores a segment; false where it is there already.
    pub(super) fn add(&mut self, digest: &Digest, bytes: &[u8]) -> bool {
        let packs = self.packs.as_ref().expect("a newcomer opens its packs");
        let is_new = packs.append(digest, bytes).expect(WORKS);
        self.unsynced += bytes.len();
        if self.unsynced >= SYNC_BYTES {
            self.sync();
        }
        is_new
    }

    /// Everything stored so far is durable.
    pub(super) fn sync(&mut self) {
        self.unsynced = 0;
        if let Some(packs) = &self.packs {
            packs.sync().expect(WORKS);
            self.durable = packs.digests();
        }
    }

    /// Which of these a power loss at this moment might take.
    pub(super) fn at_risk(&self, digests: impl Iterator<Item = Digest>) -> Option<Digest> {
        let safe = Packs::open_on(self.disk.durable_copy()).expect(WORKS);
        let mut digests = digests;
        digests.find(|digest| !matches!(safe.read(digest), Ok(Some(_))))
    }

    /// Power is lost; `how` what was not synced is torn.
    pub(super) fn crash(&mut self, how: Crash, dice: &mut Dice) {
        if self.packs.take().is_some() {
            let mut chance = ChaCha12Rng::seed_from_u64(dice.next());
            self.disk.crash(how, &mut chance);
            self.is_shaken = true;
        }
    }

    /// The process ends; what it wrote is there, and not all of it durable.
    pub(super) fn close(&mut self) {
        self.packs = None;
    }

    /// Everything that is there.
    pub(super) fn digests(&self) -> BTreeSet<Digest> {
        let packs = self.packs.as_ref();
        packs.map(Packs::digests).unwrap_or_default()
    }

    /// A segment.
    pub(super) fn read(&self, digest: &Digest) -> Option<Bytes> {
        self.packs.as_ref()?.read(digest).expect(WORKS)
    }
}
