//! Where a log does not reach back to genesis: the replay goes on from a snapshot.
//!
//! Source: design, 'checkpoints and bootstrap'. In: the first records behind what was pruned or
//! never was here. Out: a replay that stands on a snapshot that is proved.
//! Holds: a snapshot stands for blocks only where certificates prove it; the blocks below it that
//! are still here must lead to it.
//! Elsewhere: what proves a snapshot (`kept`), everything above it (`walk`).

use super::findings::Place;
use super::walk::Walk;
use crate::committee::{Height, VoterRecord};
use crate::consortium::records::Name;
use crate::consortium::{Block, Record};
use crate::node::shelf::SNAPSHOTS;
use crate::storage::Position;

impl Walk<'_> {
    /// The log begins behind blocks that were pruned: what its first records speak of is known from
    /// the view chain.
    pub(super) fn begin(&mut self) {
        if let Some(held) = self.kept.bases.first() {
            let height = held.taken.height;
            self.views.proved(&self.kept.steps, height);
            self.votes.begin(height.next());
            self.base = height;
        }
    }

    /// Blocks below `first` are not here: the replay goes on from a snapshot, if there is one.
    pub(super) fn rebase(&mut self, first: Height) -> bool {
        let Some((held, shelf)) = self.kept.base_for(first).zip(self.kept.shelf.as_ref()) else {
            return false;
        };
        let height = held.taken.height;
        match self.replay.rebase(self.context, shelf, &held) {
            Err(what) => {
                let what = format!("snapshot {height}: {what}");
                self.findings.add(SNAPSHOTS, Place::Height(height), what);
                return false;
            }
            Ok(tip) => {
                if let Some(compare) = &mut self.compare {
                    compare.rebase(&self.replay, self.findings);
                }
                self.last = (tip, held.taken.header);
            }
        }
        self.views.proved(&self.kept.steps, height);
        self.votes.forget_below(height.next());
        self.base = height;
        self.findings.note(format!(
            "blocks up to {height} are pruned; the replay goes on from the snapshot there"
        ));
        true
    }

    /// A record may be the first behind blocks that were never here: it speaks of a snapshot's own
    /// height, or of a view that only the view chain knows.
    pub(super) fn meet(&mut self, record: &Record) {
        let (view, height) = match record {
            Record::Voter(view, VoterRecord::Persisted(height, _)) => (*view, *height),
            Record::Voter(view, _) => (*view, Height(0)),
            Record::Certificate(held) => (held.ballot.view, held.ballot.height),
            // It stands before its block.
            Record::Decision(held) => (held.ballot.view, Height(0)),
            Record::Payload(..) | Record::Batch(_) | Record::Block(_) => return,
            Record::Engine(..) | Record::Fault(_) => return,
        };
        let tip = self.last.0.height;
        let mut bases = self.kept.bases.iter().map(|held| held.taken.height);
        let is_base = height > tip && bases.any(|base| base == height);
        if is_base || self.views.get(view).is_none() {
            // Where there is no snapshot the record is judged as it is.
            self.rebase(tip.next().next());
        }
    }

    /// A block that a snapshot stands for: it is not executed again, but must lead to the snapshot.
    pub(super) fn pass(&mut self, block: &Block, position: Position) {
        let Block { header, body } = block;
        let (height, digest) = (header.height, header.digest());
        self.known(Name::Block(height), position);
        // Its PERSIST may follow.
        let mut wrong = self.votes.block(block, digest).err();
        if let Some((before, digest)) = self.passed.replace((header.clone(), digest))
            && let Err(error) = header.follows(&before, &digest)
        {
            wrong = Some(error.to_string());
        }
        if height == self.base && digest != self.last.1 {
            wrong = Some(format!(
                "it is {digest}, the snapshot stands on {}",
                self.last.1
            ));
        }
        if header.body != body.root() {
            wrong = Some("its body is not what its header binds".into());
        }
        if let Some(what) = wrong {
            self.findings.at(position, height, what);
        }
        if let Some(compare) = &mut self.compare {
            compare.passed(height, body);
        }
        for batch in body.batches() {
            self.batches.release(&batch.digest());
        }
    }
}
