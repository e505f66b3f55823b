//! The thread that takes snapshots and gives up what they make superfluous.
//!
//! Source: design, 'checkpoints and bootstrap'. In: states to cut, certified checkpoint blocks,
//! what newcomers hold leases on. Out: snapshots on the shelf, our word on them, orders to prune.
//! Holds: nothing below a snapshot is given up before the snapshot and its proof, the view chain up
//! to there and the tables are durable, and whatever else stands in old log files is saved again.
//! Elsewhere: the shelf itself (`shelf`), rows (`keeper`), log files (`storage`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use super::bell::Ringing;
use super::clock::Clock;
use super::config::Resources;
use super::driver::Internal;
use super::index::{Index, IndexError};
use super::library::Lent;
use super::proofs::LookError;
use super::scribe::Note;
use super::shelf::{Held, Proof, Shelf, ShelfError};
use super::views;
use super::watch::Watch;
use crate::application;
use crate::blocks::{Body, CheckpointRules};
use crate::committee::{Height, Taken};
use crate::consortium::Command;
use crate::consortium::ledger::Base;
use crate::consortium::snapshot::Whole;

/// Work that may wait for the curator: snapshots beyond it are not taken, and the next one is.
pub(crate) const CURATOR_MAX: usize = 16;
/// Snapshots that are no checkpoint yet and are kept, at most.
const TRIES_KEPT: usize = 2;
/// How long the herald may take to note a block that was executed.
const LAG_MAX: Duration = Duration::from_secs(60);
const LAG_STEP: Duration = Duration::from_millis(5);

/// What the curator is told.
pub(crate) enum Curation {
    /// A snapshot is due; this is the application's part.
    Take(Box<Base>, application::Snapshot),
    /// The checkpoint block at this height is certified.
    Certified(Height),
    /// Everything that old log files hold and that still counts is durable once more.
    Resaved,
}

/// What a member keeps, by its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Checkpoints that are kept and served, at least 1.
    pub(crate) checkpoints: usize,
    /// Blocks below the oldest of them that are kept besides; all of them where it is `None`.
    pub(crate) blocks: Option<u64>,
}

impl Retention {
    /// What the settings of a member say.
    pub(crate) fn of(resources: &Resources) -> Self {
        Self {
            checkpoints: resources.keep_checkpoints.max(1) as usize,
            blocks: resources.prune.then_some(resources.keep_blocks),
        }
    }
}

/// The curator.
pub(crate) struct Curator {
    pub(crate) index: Arc<Index>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) internal: Ringing<Internal>,
    pub(crate) notes: SyncSender<Vec<Note>>,
    pub(crate) rules: CheckpointRules,
    /// Heights that an expiry may lie ahead.
    pub(crate) span: u64,
    pub(crate) retention: Retention,
    /// What newcomers are fetching.
    pub(crate) lent: Lent,
    pub(crate) clock: Clock,
}

/// Why the curator gives up on something; the next checkpoint tries again.
#[derive(Debug, thiserror::Error)]
enum CurateError {
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Look(#[from] LookError),
    #[error("block {0} is not here")]
    Missing(Height),
}

impl Curator {
    /// Works until the replica is gone.
    pub(crate) fn run(mut self, works: &Receiver<Curation>) {
        self.resume();
        while let Ok(work) = works.recv() {
            let done = match work {
                Curation::Take(base, snapshot) => self.take(*base, snapshot),
                Curation::Certified(height) => self.certified(height),
                Curation::Resaved => self.give_up(),
            };
            if let Err(error) = done {
                tracing::error!(%error, "a checkpoint is not taken or not used for pruning");
            }
        }
    }

    /// A snapshot that was taken before a restart may have its try open still.
    fn resume(&mut self) {
        let last = self.watch.tip().header.checkpoint.height;
        let block = self.index.block_at(last).ok().flatten();
        if let Some(Body::Checkpoint(body)) = block.map(|block| block.body) {
            let (certified, height) = (body.taken(), body.height);
            match self.shelf().at(height) {
                // It was told before the restart, and nothing was mended since.
                Some(held) if held.taken != certified => {
                    let what = format!(
                        "our snapshot at {height} is another than the certified one: this member's \
                         state is not the ledger's; consortium rejoin --dir fetches it anew"
                    );
                    return self.watch.fail(what);
                }
                Some(held) if held.proof.is_none() => {
                    if let Err(error) = self.certified(last) {
                        tracing::error!(%error, "a checkpoint is not used for pruning");
                    }
                }
                Some(_) | None => {}
            }
        }
        if let Some(held) = self.shelf().held().last() {
            self.tell(Command::Taken(held.taken));
        }
    }

    fn shelf(&self) -> &Arc<Shelf> {
        self.index.shelf()
    }

    fn tell(&self, command: Command) {
        // At the end of the process nobody listens.
        self.internal.send(Internal::Command(command)).ok();
    }

    fn take(&mut self, base: Base, snapshot: application::Snapshot) -> Result<(), CurateError> {
        let height = base.parts.tip.height;
        if !self.await_noted(height) {
            return Ok(());
        }
        let started = std::time::Instant::now();
        let memory = self.index.remembered(height, self.span)?;
        let whole = Whole {
            base,
            memory: memory.into_values(),
            pieces: snapshot.chunks,
            application: snapshot.digest,
        };
        let before = self.shelf().packs().bytes();
        let taken = self
            .shelf()
            .take(whole, self.rules.segment_bytes as usize)?;
        let written = self.shelf().packs().bytes() - before;
        let (bytes, seconds) = (taken.bytes, started.elapsed().as_secs_f64());
        tracing::info!(%height, bytes, written, seconds, "snapshot taken");
        self.watch.snapshotted(seconds);
        self.tell(Command::Taken(taken));
        self.give_up_tries()
    }

    /// Snapshots that became no checkpoint go, but for the newest.
    fn give_up_tries(&mut self) -> Result<(), CurateError> {
        let held = self.shelf().held();
        let tries = held.iter().filter(|held| held.proof.is_none()).count();
        if tries > TRIES_KEPT {
            let (kept, _) = self.kept();
            self.shelf().keep(&kept)?;
        }
        Ok(())
    }

    /// Waits until every block up to `height` is in the index; false where the process ends.
    fn await_noted(&self, height: Height) -> bool {
        let mut waited = Duration::ZERO;
        while self.watch.tip().header.height < height {
            if waited > LAG_MAX || self.watch.is_ending() {
                return false;
            }
            std::thread::park_timeout(LAG_STEP);
            waited += LAG_STEP;
        }
        true
    }

    /// Keeps what proves the snapshot, and prunes if it is here.
    fn certified(&mut self, height: Height) -> Result<(), CurateError> {
        let proof = self.proof(height)?;
        let taken = proof.body.taken();
        // What proves it stands on the view chain.
        self.keep_steps(proof.certificate.ballot.height)?;
        if !self.shelf().certify(proof)? {
            let snapshot = taken.height;
            tracing::warn!(%snapshot, "a checkpoint whose snapshot is not here: nothing is pruned");
            return Ok(());
        }
        tracing::info!(snapshot = %taken.height, block = %height, "checkpoint certified");
        self.prune()
    }

    fn proof(&self, height: Height) -> Result<Proof, CurateError> {
        let missing = || CurateError::Missing(height);
        let certificate = self.index.certificate_from(height)?.ok_or_else(missing)?;
        let mut headers = Vec::new();
        let mut body = None;
        for at in height.0..=certificate.ballot.height.0 {
            let block = self.index.block_at(Height(at))?.ok_or_else(missing)?;
            headers.push(block.header);
            body = body.or(Some(block.body));
        }
        match body {
            Some(Body::Checkpoint(body)) => Ok(Proof {
                headers,
                body,
                certificate,
            }),
            Some(_) | None => Err(missing()),
        }
    }

    /// Begins to prune: whatever else old files hold is saved again first. Where the log has
    /// nothing to give up, older snapshots go all the same.
    fn prune(&mut self) -> Result<(), CurateError> {
        let first = self.index.first_block()?;
        let floor = self.floor().filter(|floor| first <= Some(*floor));
        let Some(floor) = floor.filter(|_| first.is_some()) else {
            return self.give_up();
        };
        let header = self.index.block_at(floor)?;
        let header = header.ok_or(CurateError::Missing(floor))?.header;
        let before = self.index.log_end().file;
        let note = Note::Prune {
            floor,
            receipts: header.receipts.size,
            before,
        };
        // Whoever ends before this is done leaves more than is needed.
        if self.notes.send(vec![note]).is_ok() {
            self.tell(Command::Resave(before));
        }
        Ok(())
    }

    /// The snapshots that are kept.
    fn kept(&self) -> (BTreeSet<Height>, Option<Taken>) {
        let held = self.shelf().held();
        let lent = self.lent.floor(self.clock.now());
        let is_lent = |held: &Held| lent.is_some_and(|floor| held.taken.height >= floor);
        let certified = held.iter().rev().filter(|held| held.proof.is_some());
        // A newcomer takes the one that the newest certified header names, which is the one before
        // while the checkpoint's own block is the last.
        let named = self.watch.newest_certified();
        let named = named.map(|newest| newest.header.checkpoint.height);
        let is_named = |held: &Held| held.proof.as_ref().map(Proof::height) >= named;
        let certified = certified.enumerate();
        let certified = certified.filter(|(place, held)| {
            *place < self.retention.checkpoints || is_lent(held) || is_named(held)
        });
        let certified: Vec<&Arc<Held>> = certified.map(|(_, held)| held).collect();
        let oldest = certified.last().map(|held| held.taken);
        let newest = certified
            .first()
            .map_or(Height(0), |held| held.taken.height);
        let open = held.iter().map(|held| held.taken.height);
        let open = open.filter(|height| *height > newest);
        let open: Vec<Height> = open.collect();
        let open = open.into_iter().rev().take(TRIES_KEPT);
        let heights = certified.iter().map(|held| held.taken.height);
        (heights.chain(open).collect(), oldest)
    }

    /// The height up to which nothing of the log is needed.
    fn floor(&self) -> Option<Height> {
        let (_, oldest) = self.kept();
        let floor = oldest?.height.minus(self.retention.blocks?);
        (floor > Height(0)).then_some(floor)
    }

    /// Puts every step of the view chain below `top` on the shelf.
    fn keep_steps(&self, top: Height) -> Result<(), CurateError> {
        let known: BTreeSet<Height> = self.shelf().steps().iter().map(|(at, _)| *at).collect();
        let block = self.index.block_at(top)?;
        let block = block.ok_or(CurateError::Missing(top))?;
        let mut at = block.header.reconfiguration.height;
        let mut steps = Vec::new();
        while at > Height(0) && !known.contains(&at) {
            let step = views::step(&self.index, at)?;
            at = step.header.reconfiguration.height;
            steps.push(step);
        }
        // From below, so that what a kill cuts off has no gap.
        for step in steps.iter().rev() {
            self.shelf().add_step(step)?;
        }
        Ok(())
    }

    /// The tables and the log are pruned: older snapshots go as well.
    fn give_up(&mut self) -> Result<(), CurateError> {
        let (kept, _) = self.kept();
        let freed = self.shelf().keep(&kept)?;
        tracing::info!(freed, "older snapshots are given up");
        Ok(())
    }
}
