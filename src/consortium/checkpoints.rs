//! Checkpoints: votes for snapshots are gathered while blocks go on, and become a block.
//!
//! Source: design, 'checkpoints and bootstrap'. In: our own snapshot, votes of others. Out: our
//! vote, a body for the leader to order, halting where ours is another than the certified one.
//! Holds: a vote leaves once its snapshot is durable; of each seat one vote is kept, for the open
//! snapshot or one ahead of us; what is gathered ends with its try.
//! Elsewhere: when a snapshot is due (`ledger`), taking it and what a checkpoint makes superfluous
//! (`node`, `sim`).

use std::collections::BTreeMap;

use super::contract::{Change, Event, Record, Timer};
use super::message::Message;
use super::replica::{Consortium, Out};
use crate::blocks::Body;
use crate::blocks::body::Checkpoint;
use crate::committee::{CheckpointVote, Seat, Taken};
use crate::crypto::{Digest, Verified};
use crate::fsm;
use crate::machine::{Span, Time, To};

/// How often our vote is sent again while its try is open.
const VOTE_EVERY: Span = Span::from_ms(1_000);

/// Bytes of batches that are saved again at once, at most.
const RESAVED_BYTES: usize = 8 << 20;

/// What is known of snapshots.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// Ours, durable: the newest.
    own: Option<Taken>,
    /// The newest that became a checkpoint in this life.
    settled: Option<Taken>,
    /// The newest vote of each seat.
    votes: BTreeMap<Seat, Verified<CheckpointVote>>,
    is_armed: bool,
}

impl Checkpoints {
    /// How many votes are kept.
    pub(super) fn kept(&self) -> usize {
        self.votes.len()
    }

    /// Another view begins: its seats vote anew.
    pub(super) fn enter(&mut self) {
        self.votes.clear();
    }
}

impl Consortium {
    /// Our snapshot is durable.
    pub(super) fn on_taken(&mut self, now: Time, taken: Taken, out: &mut Out) {
        let checkpoints = &mut self.checkpoints;
        if checkpoints.own.is_none_or(|own| own.height <= taken.height) {
            checkpoints.own = Some(taken);
        }
        let settled = checkpoints.settled.filter(|one| one.height == taken.height);
        match settled {
            Some(certified) if certified != taken => self.diverge(now, taken, certified, out),
            Some(_) => {}
            None => self.vote_snapshot(out),
        }
    }

    /// Says what our snapshot is, as long as its try is open, and again after a while.
    fn vote_snapshot(&mut self, out: &mut Out) {
        let Some(taken) = self.open_own() else { return };
        if !self.checkpoints.is_armed {
            self.checkpoints.is_armed = true;
            out.arm(Timer::Snapshot, VOTE_EVERY);
        }
        let voter = self.ordering.voter_mut();
        let Some(vote) = voter.and_then(|voter| voter.vouch_snapshot(taken)) else {
            return;
        };
        out.send(To::Committee, Message::Snapshot(*vote));
        self.on_snapshot(vote);
    }

    /// The vote may be lost.
    pub(super) fn vote_snapshot_again(&mut self, out: &mut Out) {
        self.checkpoints.is_armed = false;
        self.vote_snapshot(out);
    }

    /// Our snapshot, where its try is open.
    fn open_own(&self) -> Option<Taken> {
        let open = self.chain.ledger.open_snapshot()?;
        let is_it = |own: &Taken| (own.height, own.header) == (open.height, open.digest);
        self.checkpoints.own.filter(is_it)
    }

    /// A seat says what its snapshot is. It may stand ahead of us, so its newest word is kept.
    pub(super) fn on_snapshot(&mut self, vote: Verified<CheckpointVote>) {
        let held = self.checkpoints.votes.get(&vote.seat);
        if held.is_none_or(|held| held.taken.height <= vote.taken.height) {
            self.checkpoints.votes.insert(vote.seat, vote);
        }
    }

    /// The checkpoint body that can be ordered now: a quorum says the same of the open snapshot.
    pub(super) fn checkpoint_due(&self) -> Option<Body> {
        let open = self.chain.ledger.open_snapshot()?;
        let mut tally: BTreeMap<Taken, Vec<&Verified<CheckpointVote>>> = BTreeMap::new();
        for vote in self.checkpoints.votes.values() {
            if (vote.taken.height, vote.taken.header) == (open.height, open.digest) {
                tally.entry(vote.taken).or_default().push(vote);
            }
        }
        let need = self.view.sizes().q;
        let votes = tally.into_values().find(|votes| votes.len() >= need)?;
        Checkpoint::assemble(&self.view, votes).map(Body::Checkpoint)
    }

    /// A checkpoint was applied: ours is the same, or something here is wrong.
    pub(super) fn on_checkpoint(&mut self, now: Time, body: &Checkpoint, out: &mut Out) {
        let certified = body.taken();
        self.checkpoints.settled = Some(certified);
        self.checkpoints
            .votes
            .retain(|_, vote| vote.taken.height > certified.height);
        let own = self
            .checkpoints
            .own
            .filter(|own| own.height == certified.height);
        if let Some(own) = own.filter(|own| *own != certified) {
            self.diverge(now, own, certified, out);
        }
    }

    /// Our state contradicts a certified one: nothing is voted any more.
    fn diverge(&mut self, now: Time, ours: Taken, certified: Taken, out: &mut Out) {
        let (ours, certified) = (Box::new(ours), Box::new(certified));
        out.emit(Event::Changed(Change::Diverged { ours, certified }));
        self.tell(now, fsm::Command::Change(fsm::Role::Failed), out);
    }

    /// Log files will be given up: whatever stands in them and is in no block is saved again.
    pub(super) fn resave(&mut self, number: u64, out: &mut Out) {
        self.save_again(out);
        // The oldest batches: they would hold the oldest files. Votes wait behind what is saved.
        let held: Vec<Digest> = self.pool.held().collect();
        let mut bytes = 0;
        for batch in held.iter().filter_map(|digest| self.pool.get(digest)) {
            bytes += batch.bytes.len();
            if bytes > RESAVED_BYTES {
                break;
            }
            out.save(Record::Batch(batch.bytes.clone()));
        }
        out.emit(Event::Resaved(number, held));
    }

    /// Whatever a start needs of the log is saved again, aside from blocks and batches.
    pub(super) fn save_again(&self, out: &mut Out) {
        let view = self.view.id();
        for certificate in [self.handover.opened(), self.ordering.certificate()] {
            let certificate = certificate.into_iter().cloned();
            certificate.for_each(|held| out.save(Record::Certificate(held)));
        }
        for record in self.ordering.holdings() {
            out.save(match record {
                fsm::Record::Voter(record) => Record::Voter(view, record),
                fsm::Record::Payload(height, payload) => Record::Payload(height, payload),
                fsm::Record::Decision(certificate) => Record::Decision(certificate),
            });
        }
        let faults = self.faults.durable().iter();
        faults.for_each(|fault| out.save(Record::Fault(fault.clone())));
        let journal = self.plugs.journal.iter();
        journal.for_each(|(place, bytes)| out.save(Record::Engine(*place, bytes.clone())));
    }
}
