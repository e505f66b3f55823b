//! What a voter has promised, its key aside: what the log gives back before the key is at hand.
//!
//! Source: design of the ordering rules. In: records, in the order in which they were saved. Out:
//! what may not be contradicted.
//! Holds: the installed regency never decreases; what lies below the floor is forgotten for good.
//! Elsewhere: the code that signs (`voter`), rollback (`memory`).

use std::collections::BTreeMap;

use super::{Certificate, Height, Lapse, Lock, Regency, StopData, VoterRecord};
use crate::crypto::Digest;
use crate::plant::{self, Plant};

/// What a member has signed for one open height.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// Its newest PROPOSE.
    pub proposed: Option<Lock>,
    /// Its newest WRITE.
    pub written: Option<Lock>,
    /// Its lock: the newest WRITE certificate it has accepted.
    pub lock: Option<Certificate>,
}

/// Everything that was promised in one view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promises {
    pub(super) installed: Regency,
    pub(super) floor: Height,
    pub(super) heights: BTreeMap<Height, Promise>,
    pub(super) sealed: BTreeMap<Height, Digest>,
    pub(super) lapse: Option<Lapse>,
    pub(super) stopped: Option<(StopData, Vec<Certificate>)>,
}

impl Promises {
    /// Takes back in a record of an earlier life.
    pub fn resume(&mut self, record: &VoterRecord) {
        let before = self.installed;
        let is_lost = match record {
            VoterRecord::Locked(_) => plant::is(Plant::LockLost),
            VoterRecord::Written(..) => plant::is(Plant::WriteTwice),
            VoterRecord::Installed(_) | VoterRecord::Stopped(..) => {
                plant::is(Plant::RegencyForgotten)
            }
            VoterRecord::Proposed(..) | VoterRecord::Persisted(..) => false,
            VoterRecord::Forgotten(_) | VoterRecord::Lapsed(_) => false,
        };
        if !is_lost {
            self.apply(record);
        }
        if plant::is(Plant::RegencyForgotten) {
            self.installed = before;
        }
    }

    /// Takes in a record: every one that is made here, and those of an earlier life.
    pub(super) fn apply(&mut self, record: &VoterRecord) {
        match record {
            VoterRecord::Installed(regency) => self.installed = self.installed.max(*regency),
            VoterRecord::Proposed(height, lock) => {
                self.installed = self.installed.max(lock.regency);
                self.heights.entry(*height).or_default().proposed = Some(*lock);
            }
            VoterRecord::Written(height, lock) => {
                self.installed = self.installed.max(lock.regency);
                self.heights.entry(*height).or_default().written = Some(*lock);
            }
            VoterRecord::Locked(certificate) => {
                self.installed = self.installed.max(certificate.ballot.regency);
                self.heights
                    .entry(certificate.ballot.height)
                    .or_default()
                    .lock = Some(certificate.clone());
            }
            VoterRecord::Persisted(height, digest) => {
                self.sealed.insert(*height, *digest);
            }
            VoterRecord::Stopped(data, proofs) => {
                self.installed = self.installed.max(data.regency);
                self.stopped = Some((data.clone(), proofs.clone()));
            }
            VoterRecord::Forgotten(height) => self.forget_below(*height),
            VoterRecord::Lapsed(lapse) => self.lapse = Some(*lapse),
        }
    }

    /// Forgets what was promised below `height`, which a block certificate settles, and signs
    /// nothing there again.
    pub fn forget_below(&mut self, height: Height) {
        self.floor = self.floor.max(height);
        let height = self.floor;
        self.heights = self.heights.split_off(&height);
        self.sealed = self.sealed.split_off(&height);
    }

    /// Everything that is still promised, as records: what a fresh log file starts with.
    pub fn records(&self) -> Vec<VoterRecord> {
        let mut records = vec![
            VoterRecord::Forgotten(self.floor),
            VoterRecord::Installed(self.installed),
        ];
        for (height, promise) in &self.heights {
            records.extend(
                promise
                    .proposed
                    .map(|lock| VoterRecord::Proposed(*height, lock)),
            );
            records.extend(
                promise
                    .written
                    .map(|lock| VoterRecord::Written(*height, lock)),
            );
            records.extend(promise.lock.clone().map(VoterRecord::Locked));
        }
        let sealed = self.sealed.iter();
        records.extend(sealed.map(|(height, digest)| VoterRecord::Persisted(*height, *digest)));
        let stopped = self.stopped.clone();
        records.extend(stopped.map(|(data, proofs)| VoterRecord::Stopped(data, proofs)));
        records.extend(self.lapse.map(VoterRecord::Lapsed));
        records
    }
}
