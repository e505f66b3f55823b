//! The machine of a newcomer: one place where every input arrives and goes to its stage.
//!
//! Source: `bootstrap`'s head. In: messages, timers, commands. Out: asks, records, events.
//! Holds: one stage at a time; a message counts only while as much was asked of its sender.
//! Elsewhere: the stages (`walk`, `anchor`, `find`, `gather`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::SeedableRng as _;
use rand::rngs::ChaCha12Rng;

use super::anchor::Seek;
use super::contract::{
    Command, Contact, Event, Held, HeldError, Misdeed, Options, Record, Stage, Target, Timer,
};
use super::find::Find;
use super::gather::Gather;
use super::guide::Guide;
use super::message::{Answer, Ask, Message};
use super::walk::Walk;
use crate::blocks::{STEPS_MAX, ViewChain};
use crate::checkpoint::{Page, Tally};
use crate::committee::{Height, MEMBERS_MAX, MemberId, ViewId};
use crate::crypto::Digest;
use crate::machine::{Input, Machine, Outbox, Span, Time, To};

/// Members that are asked, at most; further ones wait for a place, [`MEMBERS_MAX`] of them.
pub const PEERS_MAX: usize = 256;
/// Answers of one member that nobody asked for, beyond as many as it gave to what was asked, until
/// it is banned: a link may carry one twice.
pub const STRAYS_MAX: u32 = 64;
/// How often a stage looks whether something is overdue.
const TICK: Span = Span::from_ms(100);

/// A member that can be reached.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Answers that it may give.
    pub(super) credit: u32,
    /// Answers that it gave and that were asked for.
    answers: u32,
    strays: u32,
    /// The view that was named when it was asked for steps, and when; until it answers.
    pub(super) steps: Option<(ViewId, Time)>,
    /// The highest certified height that it spoke of.
    seen: Height,
}

/// What is under way.
pub(super) enum State {
    Idle,
    /// The walk, before a pin is come to.
    Guide(Box<Guide>),
    Walk(Walk),
    Anchor(Seek),
    Checkpoint(Box<Find>),
    Gather(Box<Gather>),
    Done,
    Stuck,
}

/// What one input leads to.
pub(super) type Out = Outbox<Bootstrap>;

/// A newcomer.
pub struct Bootstrap {
    pub(super) options: Options,
    /// The views that are proved; under a pin that lies above what the disk has, none after view 0
    /// before it is known that they lead there.
    pub(super) chain: ViewChain,
    /// The views up to the pinned one, where they had to be looked for.
    pub(super) trail: Option<ViewChain>,
    /// What the disk has below the pin, until that is known to lead there.
    pub(super) aside: Option<ViewChain>,
    pub(super) contacts: Vec<Contact>,
    pub(super) peers: BTreeMap<MemberId, Peer>,
    /// Members whose link fell: what they were asked for may come on the next one.
    away: BTreeMap<MemberId, Peer>,
    /// The checkpoint blocks that were looked for last.
    pub(super) sought: VecDeque<Digest>,
    /// Members that can be reached while all places are taken.
    waiting: BTreeSet<MemberId>,
    banned: BTreeSet<MemberId>,
    pub(super) rng: ChaCha12Rng,
    pub(super) state: State,
    /// The number of the stage.
    pub(super) round: u64,
    /// Tries for an anchor without one that succeeded.
    pub(super) tries: u32,
    /// Digests of segments that are held, while none are gathered.
    pub(super) held: BTreeSet<Digest>,
    resumed: Option<(Box<Target>, Vec<Page>)>,
    /// What was received, once there is nothing to gather any more.
    pub(super) tally: Tally,
}

impl Bootstrap {
    /// A newcomer with what the disk gave back; it does nothing before [`Command::Start`].
    ///
    /// Errors: [`HeldError`] where the steps on the disk do not hold.
    pub fn new(options: Options, held: Held) -> Result<Self, HeldError> {
        let root = ViewChain::of(&options.genesis)?;
        let mut chain = root.clone();
        for stretch in held.steps.chunks(STEPS_MAX) {
            chain.walk(stretch, &options.verifier)?;
        }
        let pinned = options.pin.and_then(|pin| {
            let opened = chain.opened(pin.view)?;
            (opened.digest != pin.digest).then_some(pin.view)
        });
        if let Some(view) = pinned {
            return Err(HeldError::OtherRoot { view });
        }
        let mut contacts = match held.steps.last() {
            Some(step) => Contact::listed(&step.body),
            None => Vec::new(),
        };
        let newest = chain.newest().view.id();
        let is_above = options.pin.is_some_and(|pin| pin.view > newest);
        if held.steps.is_empty() || is_above {
            contacts.extend(Contact::founders(&options.genesis));
        }
        let (chain, aside) = match is_above {
            true => (root, Some(chain)),
            false => (chain, None),
        };
        // Keys of a view before the pinned one may have signed it when they were in wrong hands.
        let is_led = |target: &Target| options.pin.is_none_or(|pin| target.anchor.view >= pin.view);
        let target = held.target.filter(|target| is_led(target));
        Ok(Self {
            rng: ChaCha12Rng::from_seed(options.seed),
            options,
            chain,
            trail: None,
            aside: aside.filter(|_| !held.steps.is_empty()),
            contacts,
            peers: BTreeMap::new(),
            away: BTreeMap::new(),
            sought: VecDeque::new(),
            waiting: BTreeSet::new(),
            banned: BTreeSet::new(),
            state: State::Idle,
            round: 0,
            tries: 0,
            held: held.segments,
            resumed: target.map(|target| (target, held.pages)),
            tally: Tally::default(),
        })
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        match &self.state {
            State::Idle => Stage::Idle,
            State::Guide(_) | State::Walk(_) => Stage::Walk,
            State::Anchor(_) => Stage::Anchor,
            State::Checkpoint(_) => Stage::Checkpoint,
            State::Gather(_) => Stage::Gather,
            State::Done => Stage::Done,
            State::Stuck => Stage::Stuck,
        }
    }

    /// The views that are proved.
    pub fn views(&self) -> &ViewChain {
        &self.chain
    }

    /// What was received of the snapshot.
    pub fn tally(&self) -> Tally {
        match &self.state {
            State::Gather(gather) => gather.assembler.tally(),
            State::Idle | State::Guide(_) | State::Walk(_) => self.tally,
            State::Anchor(_) | State::Checkpoint(_) => self.tally,
            State::Done | State::Stuck => self.tally,
        }
    }

    /// What is gathered now, for whoever offers it to other newcomers.
    pub fn gathering(&self) -> Option<&crate::checkpoint::Assembler> {
        match &self.state {
            State::Gather(gather) => Some(&gather.assembler),
            State::Idle | State::Guide(_) | State::Walk(_) => None,
            State::Anchor(_) | State::Checkpoint(_) => None,
            State::Done | State::Stuck => None,
        }
    }

    /// The highest height that anybody spoke of: a hint, proved by nothing.
    pub fn ahead(&self) -> Height {
        let seen = self.peers.values().map(|peer| peer.seen);
        seen.max().unwrap_or_default()
    }

    /// Whether a member is banned.
    pub fn is_banned(&self, who: &MemberId) -> bool {
        self.banned.contains(who)
    }

    /// How many things are kept that members make grow: for those who watch bounds.
    pub fn kept(&self) -> usize {
        self.peers.len() + self.waiting.len() + self.away.len() + self.banned.len()
    }

    /// Asks `who`, which may then give so many answers.
    pub(super) fn ask(&mut self, who: MemberId, ask: Ask, out: &mut Out) {
        let answers = match &ask {
            Ask::Segments(_, segments) => u32::try_from(segments.len()).unwrap_or(u32::MAX),
            Ask::Steps(..) | Ask::Anchor(..) | Ask::Checkpoint(_) => 1,
            Ask::Holding(_) | Ask::Page(..) => 1,
        };
        if let Some(peer) = self.peers.get_mut(&who) {
            peer.credit = peer.credit.saturating_add(answers);
            out.send(To::One(who), Message::Ask(ask));
        }
    }

    /// Another stage begins.
    pub(super) fn enter(&mut self, state: State, out: &mut Out) {
        self.round += 1;
        self.state = state;
        out.emit(Event::Stage(self.stage()));
        self.arm(out);
    }

    /// Looks again in a moment.
    fn arm(&self, out: &mut Out) {
        let timer = match &self.state {
            State::Guide(_) | State::Walk(_) => Timer::Walk(self.round),
            State::Anchor(_) => Timer::Anchor(self.round),
            State::Checkpoint(_) => Timer::Checkpoint(self.round),
            State::Gather(_) => Timer::Gather(self.round),
            State::Idle | State::Done | State::Stuck => return,
        };
        out.arm(timer, TICK);
    }

    /// Never asks `who` again, nor hears it.
    pub(super) fn ban(&mut self, now: Time, who: MemberId, misdeed: Misdeed, out: &mut Out) {
        if self.banned.len() < MEMBERS_MAX {
            self.banned.insert(who);
        }
        out.emit(Event::Banned(who, misdeed));
        self.lose(now, who, out);
    }

    /// A member that answers what nobody asked.
    pub(super) fn stray(&mut self, now: Time, who: MemberId, out: &mut Out) {
        let Some(peer) = self.peers.get_mut(&who) else {
            return;
        };
        peer.strays = peer.strays.saturating_add(1);
        if peer.strays > peer.answers.saturating_add(STRAYS_MAX) {
            self.ban(now, who, Misdeed::Flood, out);
        }
    }

    /// A member cannot be reached, or is not to be: another one takes its place.
    fn lose(&mut self, now: Time, who: MemberId, out: &mut Out) {
        self.waiting.remove(&who);
        self.leave(now, who, out);
        self.fill_places(now, out);
    }

    /// Those who wait take places: seats of the newest view first, that of others if need be.
    pub(super) fn fill_places(&mut self, now: Time, out: &mut Out) {
        let view = &self.chain.newest().view;
        let seats = view.seats().iter().map(|seat| seat.member);
        let seats: Vec<MemberId> = seats.filter(|who| self.waiting.contains(who)).collect();
        for who in seats {
            self.on_connected(now, who, out);
        }
        while self.peers.len() < PEERS_MAX
            && let Some(who) = self.waiting.first().copied()
        {
            self.on_connected(now, who, out);
        }
    }

    /// The place of a member is free.
    fn leave(&mut self, now: Time, who: MemberId, out: &mut Out) {
        if let Some(peer) = self.peers.remove(&who) {
            self.away.insert(who, peer);
            if self.away.len() > PEERS_MAX {
                self.away.pop_first();
            }
        }
        match &mut self.state {
            State::Guide(guide) => {
                guide.lose(&who);
                self.guide_on(now, out);
            }
            State::Walk(walk) => {
                walk.lose(&who);
                self.walk_on(now, out);
            }
            State::Gather(gather) => {
                gather.assembler.leave(&who);
                self.gather_on(now, out);
            }
            State::Idle | State::Anchor(_) | State::Checkpoint(_) => {}
            State::Done | State::Stuck => {}
        }
    }

    fn on_connected(&mut self, now: Time, who: MemberId, out: &mut Out) {
        self.waiting.remove(&who);
        if who == self.options.me || self.banned.contains(&who) {
            return;
        }
        if !self.has_place(now, who, out) {
            self.wait(who);
            return;
        }
        // What was asked before the link fell is asked again, and may come twice.
        let peer = self.peers.remove(&who).or_else(|| self.away.remove(&who));
        let mut peer = peer.unwrap_or_default();
        peer.steps = None;
        self.peers.insert(who, peer);
        match &mut self.state {
            State::Guide(_) => return self.guide_on(now, out),
            State::Walk(_) => return self.walk_on(now, out),
            State::Anchor(_) => self.seek_from(now, who, out),
            State::Checkpoint(_) => self.find_on(now, out),
            State::Gather(gather) => {
                gather.assembler.leave(&who);
                self.gather_from(now, who, out);
            }
            State::Idle | State::Done | State::Stuck => return,
        }
        // It was not there when all were asked: it may know of a newer view, or of a fork.
        self.ask_steps(now, who, self.chain.newest().view.id(), out);
    }

    /// Whether there is a place for `who`: a seat of the newest view takes that of a member without
    /// one, for only seats say where the chain stands.
    fn has_place(&mut self, now: Time, who: MemberId, out: &mut Out) -> bool {
        if self.peers.len() < PEERS_MAX || self.peers.contains_key(&who) {
            return true;
        }
        let view = &self.chain.newest().view;
        let mut others = self.peers.keys();
        let other = others.find(|other| view.seat_of(other).is_none());
        let gives_way = other.copied().filter(|_| view.seat_of(&who).is_some());
        if let Some(other) = gives_way {
            self.leave(now, other, out);
            self.wait(other);
        }
        gives_way.is_some()
    }

    /// A member waits for a place; once so many do, one more has to come again.
    fn wait(&mut self, who: MemberId) {
        if self.waiting.len() < MEMBERS_MAX {
            self.waiting.insert(who);
        }
    }

    fn command(&mut self, now: Time, command: Command, out: &mut Out) {
        match command {
            Command::Start => self.start(now, out),
            Command::Connected(who) => self.on_connected(now, who, out),
            Command::Disconnected(who) => self.lose(now, who, out),
            Command::Seen(who, height) => {
                if let Some(peer) = self.peers.get_mut(&who) {
                    peer.seen = peer.seen.max(height);
                }
            }
        }
    }

    /// Begins: with the walk, or where an earlier try left off.
    fn start(&mut self, now: Time, out: &mut Out) {
        if !matches!(self.state, State::Idle) {
            return;
        }
        out.emit(Event::Members(self.contacts.clone()));
        match self.resumed.take() {
            Some((target, pages)) => self.resume(now, target, pages, out),
            None => self.begin_walk(now, out),
        }
    }

    fn hear(&mut self, now: Time, from: MemberId, message: Message, out: &mut Out) {
        if self.banned.contains(&from) || !self.peers.contains_key(&from) {
            return;
        }
        if !message.is_bounded() {
            self.ban(now, from, Misdeed::Malformed, out);
            return;
        }
        match message {
            Message::Ask(ask) => out.emit(Event::Serve(from, ask)),
            Message::Answer(answer) => self.answered(now, from, answer, out),
        }
    }

    fn answered(&mut self, now: Time, from: MemberId, answer: Answer, out: &mut Out) {
        let peer = self.peers.get_mut(&from);
        match peer {
            Some(peer) if peer.credit > 0 => {
                peer.credit -= 1;
                peer.answers = peer.answers.saturating_add(1);
            }
            Some(_) | None => {
                self.stray(now, from, out);
                let is_light = matches!(answer, Answer::Segment(..) | Answer::Page(..));
                if !is_light || !self.peers.contains_key(&from) {
                    return;
                } // It may be the one that was asked for, behind another that came twice.
            }
        }
        match answer {
            Answer::Steps(steps) => self.on_steps(now, from, &steps, out),
            Answer::Anchor(anchor) => self.on_anchor(now, from, *anchor, out),
            Answer::Checkpoint(block) => self.on_checkpoint(now, from, *block, out),
            Answer::Holding(manifest, holding) => {
                self.on_holding(now, from, &manifest, &holding, out);
            }
            Answer::Page(manifest, page) => self.on_page(now, from, &manifest, *page, out),
            Answer::Segment(manifest, index, bytes) => {
                self.on_segment(now, from, (&manifest, index), bytes, out);
            }
            Answer::Lacks(manifest, lacking) => {
                self.on_lacks(now, from, &manifest, &lacking, out);
            }
        }
    }

    fn on_timer(&mut self, now: Time, timer: Timer, out: &mut Out) {
        let (Timer::Walk(round)
        | Timer::Anchor(round)
        | Timer::Checkpoint(round)
        | Timer::Gather(round)) = timer;
        if round != self.round {
            return; // It guarded an earlier stage.
        }
        match &self.state {
            State::Guide(_) => self.guide_on(now, out),
            State::Walk(_) => self.walk_on(now, out),
            State::Anchor(_) => self.seek_on(now, out),
            State::Checkpoint(_) => self.find_on(now, out),
            State::Gather(_) => self.gather_on(now, out),
            State::Idle | State::Done | State::Stuck => {}
        }
        if round == self.round {
            self.arm(out); // A new stage has armed its own.
        }
    }
}

impl Machine for Bootstrap {
    type Peer = MemberId;
    type Message = Message;
    type Heard = Message;
    type Timer = Timer;
    type Command = Command;
    type Record = Record;
    type Event = Event;

    fn handle(&mut self, now: Time, input: Input<Self>, out: &mut Out) {
        match input {
            Input::Message { from, message } => self.hear(now, from, message, out),
            Input::Timer(timer) => self.on_timer(now, timer, out),
            Input::Command(command) => self.command(now, command, out),
        }
    }
}
