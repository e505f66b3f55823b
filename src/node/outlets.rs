//! Where the driver's outputs go: network, log, application, disk, herald.
//!
//! Source: `ARCHITECTURE.md`. In: what left the barrier. Out: acts of other threads.
//! Holds: the replica's thread waits only for the log and the herald, which never wait for it.
//! Elsewhere: when something may leave (`barrier`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use bytes::Bytes;

use super::bell::Ringing;
use super::bootstrap;
use super::curator::Curation;
use super::desk::Counter;
use super::driver::{Internal, KeyWork, News, Ports, offer};
use super::ears::{Checks, Gate};
use super::errand::Errand;
use super::error::{self, NodeError, ReplayError};
use super::executor::Work;
use super::handle::Who;
use super::herald::Waiters;
use super::index::{Index, kept};
use super::library::{Desk, Serving};
use super::newcomer::Newcomer;
use super::peers::Peers;
use super::scribe::Note;
use super::seat_keys::SeatKeys;
use super::watch::Watch;
use crate::blocks::{Call, Link};
use crate::committee::{Height, MemberId};
use crate::consortium::ledger::Effect;
use crate::consortium::{Applied, Command, Event, Lane, Message};
use crate::crypto::{Digest, SecretKey, threshold};
use crate::membership::register::{Register, Stage};
use crate::net::{self, Net};
use crate::storage::GroupCommit;

/// The real ports.
pub(crate) struct Outlets {
    pub(crate) net: Arc<Net>,
    pub(crate) log: GroupCommit,
    pub(crate) internal: Ringing<Internal>,
    pub(crate) work: SyncSender<Work>,
    pub(crate) members: Counter,
    pub(crate) newcomers: Counter,
    pub(crate) news: SyncSender<Vec<News>>,
    pub(crate) keys: SyncSender<KeyWork>,
    pub(crate) peers: Peers,
}

impl Ports for Outlets {
    fn send(&mut self, to: &[MemberId], message: &Message, frame: Bytes) {
        send(&self.net, to, message, frame);
    }

    fn save(&mut self, number: u64, records: Vec<(u8, Bytes)>) {
        let internal = self.internal.clone();
        self.log.submit(records, move |positions| {
            // At the end of the process nobody listens; nothing behind the save has left.
            internal.send(Internal::Durable(number, positions)).ok();
        });
    }

    fn prune(&mut self, before: u64) {
        let internal = self.internal.clone();
        self.log.prune(before, move |pruned| match pruned {
            Ok(files) => tracing::info!(files, "log files are given up"),
            // The log has stopped: whoever saves next is told the same, and the process ends.
            Err(error) => {
                tracing::error!(%error, "log files cannot be given up");
                drop(internal);
            }
        });
    }

    fn execute(&mut self, work: Work) {
        // A thread that is gone has said why; the process ends.
        self.work.send(work).ok();
    }

    fn serve(&mut self, member: MemberId, serving: Serving) {
        let counter = match serving.desk() {
            Desk::Members => &self.members,
            Desk::Newcomers => &self.newcomers,
        };
        counter.offer(member, serving);
    }

    fn keys(&mut self, work: KeyWork) {
        self.keys.send(work).ok(); // as above
    }

    fn meet(&mut self, register: &Register) {
        self.net.set_peers(self.peers.meet(register));
    }

    fn tell(&mut self, news: Vec<News>) {
        self.news.send(news).ok(); // as above
    }
}

pub(super) fn send(net: &Net, to: &[MemberId], message: &Message, frame: Bytes) {
    let lane = match message.lane() {
        Lane::Votes => net::Lane::Votes,
        Lane::Bulk => net::Lane::Bulk,
    };
    let peers: Vec<net::PeerId> = to.iter().map(|member| member.0).collect();
    // What a full queue drops is counted there, and protocols send again.
    let _took = net.broadcast(&peers, lane, frame);
}

/// Who a member is to those that it hands keys to.
pub(crate) struct Smith {
    keys: SeatKeys,
    identity: SecretKey,
    chain: Digest,
    checks: Arc<Checks>,
    /// Says our part in a threshold key.
    errand: Errand,
    /// The step for which it said it last.
    said: Option<(Call, Stage)>,
    /// Whether the herald's word waits in the queue.
    pub(crate) is_woken: Arc<AtomicBool>,
}

impl Smith {
    /// Who hands out the keys of `who`.
    pub(crate) fn new(keys: SeatKeys, who: &Who, checks: Arc<Checks>, gate: Gate) -> Self {
        Self {
            keys,
            identity: who.identity.clone(),
            chain: who.genesis.chain(),
            checks,
            // A part that is late is refused and harms nobody.
            errand: Errand::new(who, gate, 512, 1),
            said: None,
            is_woken: Arc::default(),
        }
    }

    /// Makes, takes over and erases keys until the replica is gone, or until a file cannot be
    /// written: then no view may begin, and the process ends.
    pub(crate) fn run(
        mut self,
        works: &Receiver<KeyWork>,
        internal: &Ringing<Internal>,
        watch: &Watch,
    ) {
        while let Ok(work) = works.recv() {
            let command = match work {
                KeyWork::Answer(call) => self.answer(call, watch),
                KeyWork::Enter(view) => match self.keys.enter(&view) {
                    Ok(command) => {
                        watch.enter((*view).clone());
                        self.checks.enter(*view);
                        Some(command)
                    }
                    Err(error) => return watch.fail(error),
                },
                KeyWork::Generate => {
                    self.is_woken.store(false, Ordering::Release);
                    let (height, register) = watch.register();
                    self.generate(height, &register);
                    None
                }
            };
            if let Some(command) = command {
                internal.send(Internal::Command(command)).ok(); // at the end nobody listens
            }
        }
    }

    /// Says what we owe to the threshold key under way: its secrets follow from our fresh key's.
    fn generate(&mut self, height: Height, register: &Register) {
        let Some(generation) = register.generation() else {
            return;
        };
        let next = height.next();
        let step = (generation.call(), generation.stage(next));
        let is_said = self.said == Some(step) && self.errand.waits(height);
        let secret = self.keys.called(&generation.call());
        if let Some(secret) = secret.filter(|_| !is_said) {
            let me = MemberId::of(&self.identity.public());
            if let Some(operation) = generation.owed(&me, &secret, next) {
                self.said = Some(step);
                self.errand.say(height, &operation);
            }
        }
    }

    /// A member that gives no key carries the one over that it has, so this ends nothing.
    fn answer(&mut self, call: Call, watch: &Watch) -> Option<Command> {
        if !self.keys.may_answer(&watch.register().1) {
            return None;
        }
        let answered = self.keys.answer(&self.chain, &self.identity, call);
        answered
            .inspect_err(|error| tracing::warn!(%error, "no key for the next view"))
            .ok()
    }
}

/// Who tells clients, operators and the scribe.
pub(crate) struct Herald {
    pub(crate) index: Arc<Index>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) newcomer: Newcomer,
    pub(crate) notes: SyncSender<Vec<Note>>,
    pub(crate) keys: SyncSender<KeyWork>,
    pub(crate) curator: SyncSender<Curation>,
    pub(crate) is_woken: Arc<AtomicBool>,
    /// Checkpoint blocks that wait for their certificate.
    pub(crate) checkpoints: BTreeSet<Height>,
    /// The data directory.
    pub(crate) data: PathBuf,
    /// The fresh block that the chain must come to, after a bootstrap.
    pub(crate) anchor: Option<Link>,
    /// Whether the settings ask for blocks below the checkpoints.
    pub(crate) keeps_blocks: bool,
}

impl Herald {
    /// Tells until the replica is gone.
    pub(crate) fn run(mut self, news: &Receiver<Vec<News>>) {
        let mut told = self.watch.tip().header.height;
        while let Ok(first) = news.recv() {
            let mut notes = Vec::new();
            for one in first {
                match one {
                    News::Saved(name, position) => {
                        self.index.saved(name, position);
                        notes.push(Note::Saved(name, position));
                    }
                    News::Event(event) => self.announce(event, &mut notes),
                }
            }
            self.look(&mut told);
            if !notes.is_empty() && self.notes.send(notes).is_err() {
                break;
            }
        }
        self.waiters.end();
    }

    /// This life of the process ends, and the next one fetches a checkpoint.
    fn go_back(&self) {
        let local = self.watch.newest_certified();
        let local = local.map_or(Height(0), |held| held.header.height);
        match bootstrap::want(&self.data, local) {
            Ok(()) => self.watch.restart(),
            Err(error) => self.watch.fail(error),
        }
    }

    /// A block was applied: the chain must come to the fresh block that a quorum named.
    fn compare(&mut self, applied: &Applied) {
        let height = applied.block.header.height;
        let Some(anchor) = self.anchor.take_if(|anchor| anchor.height <= height) else {
            return;
        };
        if anchor.height == height && anchor.digest != applied.digest {
            let (got, want) = (applied.digest, anchor.digest);
            let what = format!("block {height} is {got}, a quorum of its view named {want}");
            return self.watch.fail(what);
        }
        bootstrap::forget_anchor(&self.data);
    }

    /// What this member owes to the chain behind a new block.
    fn look(&mut self, told: &mut Height) {
        let (height, register) = self.watch.register();
        if height > *told {
            *told = height;
            self.newcomer.applied(height, &register, &self.index);
            if !threshold::IS_BUILT && register.needs_threshold() {
                self.watch.fail(error::UNFIT);
            }
            // One word at a time: the queue has room for what must not wait.
            let is_wanted = register.is_generating(height.next());
            if is_wanted
                && !self.is_woken.swap(true, Ordering::AcqRel)
                && self.keys.try_send(KeyWork::Generate).is_err()
            {
                self.is_woken.store(false, Ordering::Release);
            }
        }
    }

    fn announce(&mut self, event: Event, notes: &mut Vec<Note>) {
        match event {
            Event::Submitted(digest, Err(why)) => self.waiters.denied(&digest, why),
            Event::Submitted(_, Ok(())) => {}
            Event::Ordered(height, names) => self.waiters.ordered(height, &names),
            Event::Applied(applied) => {
                self.compare(&applied);
                if applied.effect == Some(Effect::Checkpointed) {
                    self.checkpoints.insert(applied.block.header.height);
                }
                let kept = Arc::new(kept(&applied));
                self.index.applied(&applied, Arc::clone(&kept));
                let register = applied.register.as_ref();
                self.watch
                    .applied(&applied.block.header, applied.digest, register);
                self.waiters.applied(&applied);
                notes.push(Note::Applied(Arc::from(applied), kept));
            }
            Event::Certified(certificate) => {
                self.watch.certified(&certificate);
                self.waiters.certified(&certificate);
                let later = self
                    .checkpoints
                    .split_off(&certificate.ballot.height.next());
                for height in std::mem::replace(&mut self.checkpoints, later) {
                    // A queue that is full drops it, and the next one comes.
                    offer(&self.curator, Curation::Certified(height));
                }
            }
            Event::Changed(change) => self.watch.changed(&change),
            // The driver hands these to other threads.
            Event::Execute(_) | Event::Serve(..) | Event::Snapshot(_) => {}
            Event::Anchored(..) => {}
            Event::TooFar => {
                tracing::warn!("nobody has the blocks that follow: a checkpoint is fetched");
                self.go_back();
            }
            // Who keeps its history lacks nothing, and who comes from a checkpoint goes on from it.
            Event::Shorter if self.keeps_blocks || self.anchor.is_some() => {}
            Event::Shorter => {
                tracing::info!("a checkpoint is shorter than the blocks that follow");
                self.go_back();
            }
            Event::Resaved(before, held) => {
                notes.push(Note::Resaved(before, held));
                offer(&self.curator, Curation::Resaved);
            }
            Event::Settled(before) => notes.push(Note::Settled(before)),
            Event::MakeKey(_) | Event::View(_) => {}
        }
    }
}

/// The fresh block that the chain still has to come to. One that it came to in an earlier life is
/// compared here, before anything is voted.
///
/// Errors: [`NodeError::Snapshot`] where the chain has another block there.
pub(super) fn awaited(data: &Path, index: &Index) -> Result<Option<Link>, NodeError> {
    let Some(anchor) = bootstrap::anchor(data)? else {
        return Ok(None);
    };
    let block = index.block_at(anchor.height).map_err(ReplayError::from)?;
    let Some(block) = block else {
        return Ok(Some(anchor));
    };
    if block.header.digest() != anchor.digest {
        let (height, got, want) = (anchor.height, block.header.digest(), anchor.digest);
        let reason = format!("block {height} is {got}, a quorum of its view named {want}");
        return Err(NodeError::Snapshot { reason });
    }
    bootstrap::forget_anchor(data);
    Ok(None)
}
