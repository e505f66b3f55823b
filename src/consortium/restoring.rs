//! What a log gives a replica back: the fold from its records, one after the other.
//!
//! Source: `ARCHITECTURE.md`, durability. In: records in the order in which they were saved. Out:
//! promises, payloads, decisions, the newest certificate, the journal and faults of others.
//! Holds: promises and certificates of other views count for nothing; what the newest certificate
//! settles is not kept, so what is held at once is bounded as in a replica that runs.
//! Elsewhere: reading the records and applying their blocks again (`node`, `sim`).

use bytes::Bytes;

use super::ledger::is_sealed;
use super::{Block, Fault, Ledger, Record, Restored};
use crate::blocks::{CheckedBatch, Parameters};
use crate::committee::{Certificate, Height, Kind, ViewId, Voter};
use crate::crypto::{Digest, Verified};
use crate::fsm;

/// What was read so far.
#[derive(Debug)]
pub(crate) struct Restoring {
    view: ViewId,
    voter: Option<Voter>,
    certificate: Option<Certificate>,
    /// In the order in which they were saved: of too many of one height the oldest give way.
    payloads: Vec<(Height, fsm::Payload)>,
    decisions: Vec<Certificate>,
    journal: Vec<Bytes>,
    faults: Vec<Fault>,
}

impl Restoring {
    /// Nothing was read yet by the member of `view` whose voter has promised nothing; none without
    /// a seat.
    pub(crate) fn new(view: ViewId, voter: Option<Voter>) -> Self {
        Self {
            view,
            voter,
            certificate: None,
            payloads: Vec::new(),
            decisions: Vec::new(),
            journal: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Takes the next record; those that only bring blocks and batches are of no account here.
    pub(crate) fn take(&mut self, record: &Record) {
        match record {
            Record::Voter(view, promise) => {
                let voter = self.voter.as_mut().filter(|_| *view == self.view);
                voter.into_iter().for_each(|voter| voter.resume(promise));
            }
            Record::Payload(height, payload) if *height > self.certified() => {
                self.payloads.push((*height, payload.clone()));
            }
            Record::Decision(decision) if decision.ballot.height > self.certified() => {
                self.decisions.push(decision.clone());
            }
            Record::Certificate(certificate) => self.certify(certificate),
            Record::Engine(_, bytes) => self.journal.push(bytes.clone()),
            Record::Fault(fault) => self.faults.push(fault.clone()),
            Record::Payload(..) | Record::Decision(_) => {} // Settled.
            Record::Block(_) | Record::Batch(_) => {}
        }
    }

    fn certify(&mut self, certificate: &Certificate) {
        let ballot = &certificate.ballot;
        let is_ours = ballot.kind == Kind::Persist && ballot.view == self.view;
        if is_ours && ballot.height > self.certified() {
            self.certificate = Some(certificate.clone());
            let settled = self.certified();
            self.payloads.retain(|(height, _)| *height > settled);
            let decisions = &mut self.decisions;
            decisions.retain(|decision| decision.ballot.height > settled);
        }
    }

    /// The height of the newest certificate.
    pub(crate) fn certified(&self) -> Height {
        let newest = self.certificate.as_ref();
        newest.map_or(Height(0), |newest| newest.ballot.height)
    }

    /// All that a replica resumes with, its blocks having been applied again: the ledger at the
    /// last of them, those from [`Restoring::certified`] on, and the batches that stand in none.
    pub(crate) fn finish(
        self,
        ledger: Ledger,
        recent: Vec<(Height, Digest, bool)>,
        batches: Vec<Verified<CheckedBatch>>,
    ) -> Restored {
        Restored {
            ledger,
            voter: self.voter,
            certificate: self.certificate,
            recent,
            payloads: self.payloads,
            decisions: self.decisions,
            journal: self.journal,
            faults: self.faults,
            batches,
        }
    }
}

/// What a replica remembers of a stored block: height, header digest and whether it is sealed.
pub(crate) fn recent(block: &Block, parameters: &Parameters) -> (Height, Digest, bool) {
    let height = block.header.height;
    let is_asked = block.header.state.is_some();
    let is_sealed = is_sealed(height, &block.body, is_asked, parameters);
    (height, block.header.digest(), is_sealed)
}
