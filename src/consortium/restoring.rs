//! What a log gives a replica back: the fold from its records, one after the other.
//!
//! Source: `ARCHITECTURE.md`, durability. In: records in the order in which they were saved. Out:
//! the view that orders, promises, payloads, decisions, the newest certificate, the journal and
//! faults of others.
//! Holds: a view counts once the certificate of the block that opened it was read; promises and
//! certificates of other views count for nothing; what the newest certificate settles is not kept,
//! so what is held at once is bounded as in a replica that runs.
//! Elsewhere: reading the records and applying their blocks again (`node`, `sim`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ledger::is_sealed;
use super::{Block, Fault, Ledger, Record, Restored};
use crate::blocks::body::Reconfiguration;
use crate::blocks::{Body, CheckedBatch, Link, Parameters, Proposal};
use crate::committee::{
    Certificate, Height, Kind, Opening, Promises, View, ViewId, Voter, VoterRecord,
};
use crate::crypto::{Digest, SecretKey, Verified};
use crate::fsm;

/// Views of which promises are kept while a log is read: the present one, the one that it may not
/// have entered yet, and the one before.
const VIEWS_KEPT: usize = 3;

/// What was read so far.
#[derive(Debug, Default)]
pub(crate) struct Restoring {
    promises: BTreeMap<ViewId, Promises>,
    /// The newest certificate of each view.
    certificates: BTreeMap<ViewId, Certificate>,
    /// In the order in which they were saved: of too many of one height the oldest give way.
    payloads: Vec<(Height, fsm::Payload)>,
    decisions: Vec<Certificate>,
    journal: Vec<Bytes>,
    faults: Vec<Fault>,
}

/// What stands beside the records: the blocks were applied again, the keys lie elsewhere.
pub(crate) struct Beside<'a> {
    /// The ledger at the last block.
    pub(crate) ledger: Ledger,
    /// Blocks from [`Restoring::certified`] on.
    pub(crate) recent: Vec<(Height, Digest, bool)>,
    /// Batches that stand in no block.
    pub(crate) batches: Vec<Verified<CheckedBatch>>,
    /// The founders' view.
    pub(crate) founders: &'a View,
    /// An applied block.
    pub(crate) block: &'a dyn Fn(Height) -> Option<Block>,
    /// Our secret in a view; none without a seat there.
    pub(crate) secret: &'a dyn Fn(&View) -> Option<SecretKey>,
}

impl Restoring {
    /// Takes the next record; those that only bring blocks and batches are of no account here.
    pub(crate) fn take(&mut self, record: &Record) {
        match record {
            Record::Voter(view, promise) => self.promise(*view, promise),
            Record::Payload(height, payload) if *height > self.certified() => {
                self.payloads.push((*height, payload.clone()));
            }
            Record::Decision(decision) if decision.ballot.height > self.certified() => {
                self.decisions.push(decision.clone());
            }
            Record::Certificate(certificate) => self.certify(certificate),
            Record::Engine(_, bytes) if self.journal.contains(bytes) => {} // Saved again.
            Record::Engine(_, bytes) => self.journal.push(bytes.clone()),
            Record::Fault(fault) if self.faults.contains(fault) => {} // Saved again.
            Record::Fault(fault) => self.faults.push(fault.clone()),
            Record::Payload(..) | Record::Decision(_) => {} // Settled.
            Record::Block(_) | Record::Batch(_) => {}
        }
    }

    fn promise(&mut self, view: ViewId, promise: &VoterRecord) {
        self.promises.entry(view).or_default().resume(promise);
        while self.promises.len() > VIEWS_KEPT {
            self.promises.pop_first();
        }
    }

    fn certify(&mut self, certificate: &Certificate) {
        let ballot = &certificate.ballot;
        let newest = self.certificates.get(&ballot.view);
        // The one that opened a view may come behind later ones: it is saved again.
        let is_old = newest.is_some_and(|newest| ballot.height <= newest.ballot.height);
        if ballot.kind != Kind::Persist || is_old {
            return;
        }
        self.certificates.insert(ballot.view, certificate.clone());
        while self.certificates.len() > VIEWS_KEPT {
            self.certificates.pop_first();
        }
        let settled = self.certified();
        self.payloads.retain(|(height, _)| *height > settled);
        let decisions = &mut self.decisions;
        decisions.retain(|decision| decision.ballot.height > settled);
    }

    /// The height of the newest certificate.
    pub(crate) fn certified(&self) -> Height {
        let heights = self.certificates.values().map(|c| c.ballot.height);
        heights.max().unwrap_or_default()
    }

    /// All that a replica resumes with; as error the height of a block that is not what the chain
    /// says.
    pub(crate) fn finish(mut self, beside: Beside<'_>) -> Result<Restored, Height> {
        let place = self.place(&beside)?;
        let id = place.view.id();
        let promises = self.promises.remove(&id).unwrap_or_default();
        let voter = (beside.secret)(&place.view).and_then(|key| Voter::new(&place.view, key));
        // What was decided above a view's last block is void.
        let last = place.ending.as_ref().map(|(opening, _)| opening.height);
        let is_open = |height: Height| last.is_none_or(|last| height <= last);
        let is_ours = |payload: &fsm::Payload| {
            Proposal::from_bytes(&payload.bytes).is_ok_and(|proposal| proposal.view == id)
        };
        let payloads = self.payloads.into_iter();
        let decisions = self.decisions.into_iter();
        Ok(Restored {
            opened: place.opened,
            ending: place.ending.clone(),
            voter: voter.map(|voter| voter.resumed(promises)),
            certificate: self.certificates.remove(&id),
            payloads: payloads
                .filter(|(height, payload)| is_open(*height) && is_ours(payload))
                .collect(),
            decisions: decisions
                .filter(|one| one.ballot.view == id && is_open(one.ballot.height))
                .collect(),
            view: place.view,
            ledger: beside.ledger,
            recent: beside.recent,
            journal: self.journal,
            faults: self.faults,
            batches: beside.batches,
        })
    }

    /// The newest view whose opening certificate was read.
    fn place(&self, beside: &Beside<'_>) -> Result<Place, Height> {
        let parts = beside.ledger.parts();
        let (newest, link) = (parts.views.present, parts.reconfiguration);
        let certificate = |view: ViewId, height: Height| {
            let held = self.certificates.get(&view);
            held.filter(|held| held.ballot.height == height).cloned()
        };
        let Some(before) = newest.0.checked_sub(1).map(ViewId) else {
            return Ok(Place {
                view: beside.founders.clone(),
                opened: None,
                ending: None,
            });
        };
        if let Some(opened) = certificate(before, link.height) {
            let (view, _) = opened_at(beside, link)?;
            return Ok(Place {
                view,
                opened: Some(opened),
                ending: None,
            });
        }
        // Its last block is applied, and nothing proves yet that the view is over.
        let (_, body) = opened_at(beside, link)?;
        let block = (beside.block)(link.height).ok_or(link.height)?;
        let earlier = block.header.reconfiguration;
        let view = match before {
            ViewId(0) => beside.founders.clone(),
            ViewId(_) => opened_at(beside, earlier)?.0,
        };
        let opening = Opening {
            height: link.height,
            digest: link.digest,
        };
        let earlier_view = before.0.checked_sub(1).map(ViewId);
        Ok(Place {
            view,
            opened: earlier_view.and_then(|view| certificate(view, earlier.height)),
            ending: Some((opening, Box::new(body))),
        })
    }
}

/// Where a log ends.
struct Place {
    view: View,
    opened: Option<Certificate>,
    ending: Option<(Opening, Box<Reconfiguration>)>,
}

/// The view that the reconfiguration block at `link` made.
fn opened_at(beside: &Beside<'_>, link: Link) -> Result<(View, Reconfiguration), Height> {
    let block = (beside.block)(link.height).ok_or(link.height)?;
    let Body::Reconfiguration(body) = block.body else {
        return Err(link.height);
    };
    let opening = Opening {
        height: link.height,
        digest: link.digest,
    };
    let view = body.view(&block.header.chain, opening);
    Ok((view.map_err(|_| link.height)?, body))
}

/// What a replica remembers of a stored block: height, header digest and whether it is sealed.
pub(crate) fn recent(block: &Block, parameters: &Parameters) -> (Height, Digest, bool) {
    let height = block.header.height;
    let is_asked = block.header.state.is_some();
    let is_sealed = is_sealed(height, &block.body, is_asked, parameters);
    (height, block.header.digest(), is_sealed)
}

/// The batches that proposals name, by height.
pub(super) fn named_by(payloads: &[(Height, fsm::Payload)]) -> BTreeMap<Height, Vec<Digest>> {
    let mut named = BTreeMap::<Height, Vec<Digest>>::new();
    for (height, payload) in payloads {
        if let Ok(proposal) = Proposal::from_bytes(&payload.bytes) {
            let digests = named.entry(*height).or_default();
            digests.extend(super::apply::named(&proposal.body));
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::committee::MemberId;
    use crate::consortium::FaultKind;

    #[test]
    fn a_fault_that_was_saved_again_counts_once() {
        let fault = |who: u8| Fault {
            who: MemberId(Digest([who; 32])),
            kind: FaultKind::Equivocation,
            evidence: None,
        };
        let mut restoring = Restoring::default();
        for who in [1, 2, 1, 1, 2] {
            restoring.take(&Record::Fault(fault(who)));
        }
        assert_eq!(restoring.faults, [fault(1), fault(2)]);
    }
}
