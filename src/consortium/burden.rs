//! How much a replica keeps of what others said, beside what each part may keep.
//!
//! Source: B1 of `ARCHITECTURE.md`. In: a replica. Out: [`Burden`], and the most that it may be.
//! Holds: everything that a peer can make grow is counted here or in the pool.
//! Elsewhere: what happens when a part is full (its own module).

use super::anchors::ANCHORED_MAX;
use super::replica::Consortium;
use super::seal::AHEAD_MAX;
use crate::blocks::Parameters;
use crate::committee::SEATS_MAX;
use crate::fsm::PAYLOADS_MAX;

/// Counts of what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Burden {
    /// Heights with proposals or votes.
    pub(crate) heights: usize,
    /// Heights with PERSIST votes.
    pub(crate) seals: usize,
    /// Certificates above what is applied.
    pub(crate) certificates: usize,
    /// Proposals that wait for batches.
    pub(crate) waiting: usize,
    /// Votes for snapshots.
    pub(crate) snapshots: usize,
    /// Newcomers that got our word of late.
    pub(crate) anchors: usize,
}

impl Burden {
    /// The most that a replica under these parameters keeps, whatever it hears.
    pub(crate) fn most(parameters: &Parameters) -> Self {
        let (window, ahead) = (parameters.window as usize, parameters.ahead_max as usize);
        // Ordered above a certificate: E; open above that: W; a certificate may close blocks that
        // are not applied yet: a window of them.
        let heights = ahead + 3 * window;
        Self {
            heights,
            seals: ahead + window,
            certificates: AHEAD_MAX,
            waiting: heights * PAYLOADS_MAX,
            snapshots: SEATS_MAX,
            anchors: ANCHORED_MAX,
        }
    }

    /// The first part of which there is more than in `most`.
    pub(crate) fn excess(&self, most: &Self) -> Option<&'static str> {
        let parts = [
            ("heights", self.heights, most.heights),
            ("seals", self.seals, most.seals),
            ("certificates", self.certificates, most.certificates),
            ("waiting", self.waiting, most.waiting),
            ("snapshots", self.snapshots, most.snapshots),
            ("anchors", self.anchors, most.anchors),
        ];
        let over = parts.into_iter().find(|(_, have, most)| have > most);
        over.map(|(part, ..)| part)
    }
}

impl Consortium {
    /// What is kept now.
    pub(crate) fn burden(&self) -> Burden {
        Burden {
            heights: self.ordering.open_heights(),
            seals: self.seals.heights(),
            certificates: self.seals.kept(),
            waiting: self.catchup.waits(),
            snapshots: self.checkpoints.kept(),
            anchors: self.anchors.kept(),
        }
    }
}
