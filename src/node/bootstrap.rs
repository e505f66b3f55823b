//! Runs the machine of a newcomer over the network, onto the shelf.
//!
//! Source: design, 'checkpoints and bootstrap'. In: links, answers of members. Out: steps, segments
//! and what proves a snapshot, on the disk; or word that blocks are enough.
//! Holds: whatever a kill cuts off goes on from what the disk has; a snapshot is listed once all of
//! it is durable and proved; other newcomers are served what is here already.
//! Elsewhere: what to ask whom (`bootstrap`), what is read at a later try (`folder`), tables out of
//! the snapshot (`rebase`), the blocks above it (`consortium`).
//!
//! `bootstrap/` in the data directory holds `wanted` while there is something to do (the height of
//! the own ledger), what is being fetched, and `anchor`, the fresh block that the chain must come
//! to.

mod folder;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use self::folder::{ANCHOR, TARGET, WANTED, forget_from, forget_target, held, page_name};
pub(crate) use self::folder::{FOLDER, anchor, forget_anchor, want, wanted};
use super::clock::Clock;
use super::config::{Neighbours, Resources};
use super::error::{NodeError, RootError};
use super::flusher::Flusher;
use super::library::quota;
use super::partial::Partial;
use super::progress::Progress;
use super::shelf::{Proof, Shelf};
use super::timers::Timers;
use crate::blocks::codec::{self, ENCODED_BYTES_MAX};
use crate::blocks::{Genesis, Header, Link, Step};
use crate::bootstrap::{
    Ask, Assembled, Bootstrap, Command, Contact, Event, Fresh, HeldError, Message, Options, Pin,
    Quota, Record, Target, Timer, shelf as answers,
};
use crate::committee::{Certificate, Height, MemberId, ViewId};
use crate::consortium::{Lane, Message as Frame};
use crate::crypto::{PublicKey, SecretKey, Verifier};
use crate::machine::{Input, Machine, Outbox, Output, To};
use crate::net::{self, Inbound, Net};
use crate::storage::write_sealed;

/// Inputs that may wait; the network holds back what is beyond.
const INPUTS_MAX: usize = 1024;
/// How often it looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often it says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What a newcomer is made of.
pub(crate) struct Setup<'a> {
    pub(crate) data: &'a Path,
    pub(crate) genesis: &'a Genesis,
    pub(crate) identity: &'a SecretKey,
    /// See [`Options::own`].
    pub(crate) own: BTreeSet<PublicKey>,
    pub(crate) neighbours: &'a Neighbours,
    pub(crate) resources: &'a Resources,
    /// See [`Options::pin`].
    pub(crate) pin: Option<Pin>,
    pub(crate) listen: net::Listen,
    pub(crate) progress: &'a Progress,
    pub(crate) seed: [u8; 32],
}

/// Fetches a checkpoint, as [`wanted`] says; returns once the snapshot is on the shelf, or blocks
/// are enough.
///
/// Errors: [`NodeError`], [`NodeError::Ended`] among them; what was fetched stays.
pub(crate) fn run(setup: Setup<'_>) -> Result<(), NodeError> {
    let local = wanted(setup.data)?.unwrap_or_default();
    setup.progress.note(|told| told.height = Some(local));
    let shelf = Shelf::open(setup.data, &|| !setup.progress.is_ended())?;
    let (inputs, received) = sync_channel(INPUTS_MAX);
    let links = inputs.clone();
    let [a, b, c, d, e, f, g, h, ..] = setup.seed;
    let options = net::Options {
        identity: setup.identity.clone(),
        chain: setup.genesis.chain(),
        listen: setup.listen,
        peers: Vec::new(),
        limits: net::Limits::default(),
        seed: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
    };
    let net = Net::start(
        options,
        move |frame| drop(inputs.send(Arrival::Frame(frame))), // nobody listens at the end
        move |event| drop(links.send(Arrival::Link(event))),
    )?;
    let me = MemberId::of(&setup.identity.public());
    let options = Options {
        me,
        genesis: setup.genesis.clone(),
        pin: setup.pin,
        verifier: Verifier::ed25519(),
        seed: setup.seed,
        local,
        own: setup.own,
    };
    let folder = setup.data.join(FOLDER);
    let machine = machine(options, (&shelf, &folder), setup.progress)?;
    let ended = thread::scope(|scope| {
        let mut quest = Quest {
            flusher: Some(Flusher::start(scope, shelf.packs())),
            machine,
            outbox: Outbox::new(),
            timers: Timers::new(),
            clock: Clock::start(),
            net: &net,
            shelf: &shelf,
            folder,
            local,
            me,
            neighbours: setup.neighbours,
            genesis: setup.genesis,
            progress: setup.progress,
            quota: Quota::new(quota(setup.resources)),
            told: Instant::now(),
            before: 0,
            is_over: false,
        };
        let ended = quest.run(&received);
        quest.settle().and(ended)
    });
    drop(received); // Nobody waits for room in it any more.
    net.shutdown();
    ended
}

/// The machine with what the disk has; where that leads past another block than the pinned one, it
/// is forgotten but for segments, which are checked by their digests.
fn machine(
    options: Options,
    (shelf, folder): (&Shelf, &Path),
    progress: &Progress,
) -> Result<Bootstrap, NodeError> {
    let unusable = |error: HeldError| NodeError::Snapshot {
        reason: error.to_string(),
    };
    match Bootstrap::new(options.clone(), held(shelf, folder, progress)?) {
        Ok(machine) => Ok(machine),
        Err(HeldError::OtherRoot { view }) if options.local > Height(0) => {
            Err(RootError::OwnLog { view }.into())
        }
        Err(HeldError::OtherRoot { view }) => {
            forget_from(ViewId(0), view, shelf, folder)?;
            Bootstrap::new(options, held(shelf, folder, progress)?).map_err(unusable)
        }
        Err(error @ (HeldError::Genesis(_) | HeldError::Steps(_))) => Err(unusable(error)),
    }
}

enum Arrival {
    Frame(Inbound),
    Link(net::Event),
}

/// A bootstrap under way.
struct Quest<'a> {
    /// Until all segments are here.
    flusher: Option<Flusher<'a>>,
    machine: Bootstrap,
    outbox: Outbox<Bootstrap>,
    timers: Timers<Timer>,
    clock: Clock,
    net: &'a Net,
    shelf: &'a Shelf,
    folder: PathBuf,
    /// The height of the own ledger.
    local: Height,
    me: MemberId,
    neighbours: &'a Neighbours,
    genesis: &'a Genesis,
    progress: &'a Progress,
    /// What other newcomers may pull from here.
    quota: Quota,
    told: Instant,
    /// Bytes that were received when it was told last.
    before: u64,
    is_over: bool,
}

impl Quest<'_> {
    fn run(&mut self, received: &Receiver<Arrival>) -> Result<(), NodeError> {
        tracing::info!("a checkpoint is fetched from the other members");
        self.tell();
        self.handle(Input::Command(Command::Start))?;
        while !self.is_over {
            self.progress.go_on()?;
            let now = self.clock.now();
            while let Some(timer) = self.timers.due(now) {
                self.handle(Input::Timer(timer))?;
            }
            if self.is_over {
                break;
            }
            let wait = self
                .timers
                .next()
                .map_or(LOOK_EVERY, |at| self.clock.until(at));
            match received.recv_timeout(wait.min(LOOK_EVERY)) {
                Ok(arrival) => self.take(arrival)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.tell();
        }
        Ok(())
    }

    fn take(&mut self, arrival: Arrival) -> Result<(), NodeError> {
        let input = match arrival {
            Arrival::Link(net::Event::Up(peer)) => {
                Input::Command(Command::Connected(MemberId(peer)))
            }
            Arrival::Link(net::Event::Down(peer)) => {
                Input::Command(Command::Disconnected(MemberId(peer)))
            }
            Arrival::Frame(frame) => {
                let from = MemberId(frame.from);
                match codec::decode(&frame.payload, ENCODED_BYTES_MAX) {
                    Ok(Frame::Bootstrap(message)) => Input::Message {
                        from,
                        message: *message,
                    },
                    Ok(Frame::Certificate(certificate)) => {
                        Input::Command(Command::Seen(from, certificate.ballot.height))
                    }
                    // Members speak with us as with one that runs.
                    Ok(_) | Err(_) => return Ok(()),
                }
            }
        };
        self.handle(input)
    }

    fn handle(&mut self, input: Input<Bootstrap>) -> Result<(), NodeError> {
        let now = self.clock.now();
        self.machine.handle(now, input, &mut self.outbox);
        let outputs: Vec<_> = self.outbox.drain().collect();
        for output in outputs {
            match output {
                Output::Save(record) => self.save(record)?,
                Output::Send { to, message } => {
                    self.send(to, message);
                }
                Output::Arm { timer, after } => self.timers.arm(now, timer, after),
                Output::Cancel(timer) => self.timers.cancel(&timer),
                Output::Emit(event) => self.on_event(event)?,
            }
        }
        Ok(())
    }

    fn save(&mut self, record: Record) -> Result<(), NodeError> {
        match record {
            Record::Step(bytes) => {
                // It was checked, so it decodes.
                if let Ok(step) = Step::from_bytes(&bytes) {
                    self.add_step(&step)?;
                }
            }
            Record::Target(target) => {
                forget_target(&self.folder)?;
                write_sealed(&self.folder, TARGET, &codec::encode(&*target))?;
            }
            Record::Page(page) => {
                let name = page_name(page.page as usize);
                write_sealed(&self.folder, &name, &codec::encode(&*page))?;
            }
        }
        Ok(())
    }

    /// Keeps a step. Where the disk has another one for its view, that one leads to no pin.
    fn add_step(&self, step: &Step) -> Result<(), NodeError> {
        let view = step.body.next;
        let held = self.shelf.steps().into_iter();
        let held = held.filter(|(_, made)| *made == view).map(|(at, _)| at);
        for height in held {
            let held = self.shelf.step(height)?;
            if held.is_none_or(|held| held.header == step.header) {
                continue;
            }
            if self.local > Height(0) {
                return Err(RootError::OwnLog { view }.into());
            }
            forget_from(view, view, self.shelf, &self.folder)?;
        }
        Ok(self.shelf.add_step(step)?)
    }

    /// Gives another newcomer what is here already, within its share.
    fn serve(&mut self, who: MemberId, ask: &Ask) {
        if self.quota.admit(self.clock.now(), who).is_err() {
            return; // It asks again.
        }
        let partial = Partial {
            shelf: self.shelf,
            gathering: self.machine.gathering(),
            genesis: self.genesis,
        };
        let answers = answers::answer(&partial, ask).into_iter();
        let sent = answers.map(|message| self.send(To::One(who), message));
        let bytes = sent.sum();
        self.quota.spend(&who, ask.things(), bytes);
    }

    /// Gives how many bytes that are.
    fn send(&self, to: To<MemberId>, message: Message) -> usize {
        let message = Frame::Bootstrap(Box::new(message));
        let lane = match message.lane() {
            Lane::Votes => net::Lane::Votes,
            Lane::Bulk => net::Lane::Bulk,
        };
        let frame = message.to_bytes();
        let bytes = frame.len();
        if let To::One(member) = to {
            // What a full queue drops is asked for again.
            let _took = self.net.send(member.0, lane, frame);
        }
        bytes
    }

    fn on_event(&mut self, event: Event) -> Result<(), NodeError> {
        match event {
            Event::Members(contacts) => self.net.set_peers(self.peers(&contacts)),
            Event::Stage(stage) => {
                tracing::info!(stage = stage.name(), "bootstrap");
                self.progress.entered(stage);
            }
            Event::Segment(_, leaf, bytes) => {
                self.shelf.packs().append(&leaf.digest, &bytes)?;
                let flusher = self.flusher.as_mut();
                if flusher.is_some_and(|flusher| !flusher.stored(leaf.bytes.into())) {
                    self.settle()?;
                }
            }
            Event::Banned(who, misdeed) => {
                tracing::warn!(%who, %misdeed, "a member lies, and is asked nothing any more");
            }
            Event::Serve(who, ask) => self.serve(who, &ask),
            Event::NotFresh { view, have, need } => tracing::warn!(
                %view,
                have,
                need,
                "too few seats say where the chain stands: not fresh, the walk goes on"
            ),
            Event::Gone(taken) => {
                let height = taken.height;
                tracing::warn!(%height, "nobody has this checkpoint any more");
            }
            Event::Forked {
                view, ours, theirs, ..
            } => return Err(RootError::Forked { view, ours, theirs }.into()),
            Event::Void(taken, error) => {
                let height = taken.height;
                let reason = format!("the certified checkpoint at {height} is none: {error}");
                return Err(NodeError::Failed { reason });
            }
            Event::Replay(fresh) => {
                tracing::info!(height = %fresh.header.height, "blocks are enough");
                self.finish(&fresh)?;
            }
            Event::Assembled(assembled) => self.assembled(*assembled)?,
        }
        Ok(())
    }

    /// Lists the snapshot with its proof.
    fn assembled(&mut self, assembled: Assembled) -> Result<(), NodeError> {
        let Assembled { target, manifest } = assembled;
        let taken = target.taken();
        let Target {
            anchor,
            checkpoint,
            body,
        } = target;
        let certificate = match &anchor.certificate {
            Some(certificate) => certificate.clone(),
            None => self.opening_certificate(&anchor.header)?,
        };
        let mut headers = vec![checkpoint];
        if headers[0] != anchor.header {
            headers.push(anchor.header.clone());
        }
        self.settle()?;
        self.shelf.list(taken, Arc::unwrap_or_clone(manifest))?;
        self.shelf.certify(Proof {
            headers,
            body,
            certificate,
        })?;
        let (height, bytes) = (taken.height, taken.bytes);
        let tally = self.machine.tally();
        tracing::info!(%height, bytes, ?tally, "the checkpoint is here");
        self.finish(&anchor)
    }

    /// Packs are made durable here from now on.
    fn settle(&mut self) -> Result<(), NodeError> {
        let flusher = self.flusher.take();
        flusher.map_or(Ok(()), |flusher| Ok(flusher.settle()?))
    }

    /// What certifies the block that opened the newest view.
    fn opening_certificate(&self, header: &Header) -> Result<Certificate, NodeError> {
        let step = self.shelf.step(header.height)?;
        let step = step.filter(|step| step.header == *header);
        step.map(|step| step.certificate)
            .ok_or_else(|| NodeError::Snapshot {
                reason: format!("the step at {} is missing", header.height),
            })
    }

    /// There is nothing more to fetch; the chain must come to the fresh block.
    fn finish(&mut self, fresh: &Fresh) -> Result<(), NodeError> {
        let link = Link {
            height: fresh.header.height,
            digest: fresh.header.digest(),
        };
        if link.height > Height(0) {
            write_sealed(&self.folder, ANCHOR, &codec::encode(&link))?;
        }
        forget_target(&self.folder)?;
        let path = self.folder.join(WANTED);
        let removed = fs::remove_file(&path);
        removed.map_err(|source| NodeError::System {
            what: format!("cannot remove {}", path.display()),
            source,
        })?;
        self.is_over = true;
        Ok(())
    }

    fn peers(&self, contacts: &[Contact]) -> Vec<net::Peer> {
        let mut peers = BTreeMap::new();
        for contact in contacts {
            let id = contact.member();
            let (name, address) = (&contact.name, &contact.address);
            let address = self.neighbours.address_of(&id, name, address).to_owned();
            let (key, id) = (contact.identity, id.0);
            peers.insert(id, net::Peer { id, key, address });
        }
        for observer in &self.neighbours.observers {
            let (id, key) = (MemberId::of(&observer.key).0, observer.key);
            let address = observer.address.clone();
            peers.entry(id).or_insert(net::Peer { id, key, address });
        }
        peers.remove(&self.me.0);
        peers.into_values().collect()
    }

    /// Notes how far it is, and says so now and then.
    fn tell(&mut self) {
        let view = self.machine.views().newest().view.id();
        self.progress.note(|told| told.view = Some(view));
        let Some(assembler) = self.machine.gathering() else {
            return;
        };
        self.progress.gathered(assembler);
        if self.told.elapsed() < PROGRESS_EVERY || self.progress.is_shown() {
            return;
        }
        let tally = assembler.tally();
        let seconds = self.told.elapsed().as_secs_f64();
        let rate = (tally.bytes_received - self.before) as f64 / seconds / 1e6;
        (self.told, self.before) = (Instant::now(), tally.bytes_received);
        tracing::info!(
            segments = tally.segments_held,
            of = tally.segments,
            megabytes_per_second = %format!("{rate:.1}"),
            "segments are gathered"
        );
    }
}
