//! The thread that owns the replica and obeys the law of `machine`.
//!
//! Source: `machine.rs`. In: checked inputs many at a time, what became durable, timers.
//! Out: sends, groups of records for the log, news for the other threads.
//! Holds: outputs are carried out in order; nothing but bulk leaves behind a save that is not
//! durable; a failed save ends the process and is never tried again.
//! Elsewhere: the queue that holds this (`barrier`), decisions (`consortium`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError};
use std::time::Duration;

use bytes::Bytes;

use tokio::sync::oneshot;

use super::barrier::{Barrier, GROUPS_MAX, Leaving};
use super::bell::Bell;
use super::clock::Clock;
use super::ears::Inputs;
use super::executor::Work;
use super::library::Serving;
use super::timers::Timers;
use super::watch::Watch;
use crate::blocks::Call;
use crate::committee::{MemberId, View};
use crate::consortium::records::Name;
use crate::consortium::{Command, Consortium, Event, Executed, Message, Timer};
use crate::crypto::PublicKey;
use crate::machine::{Input, Machine, Outbox, Output, To};
use crate::membership::register::Register;
use crate::storage::{LogError, Position};

/// Inputs that are handled before what they caused goes out.
const TURN_INPUTS_MAX: usize = 512;
/// How long the thread sleeps when no timer is armed.
const SLEEP_MAX: Duration = Duration::from_millis(500);
/// Messages from our own threads that may wait: each answers an output, and outputs that want an
/// answer are bounded by [`GROUPS_MAX`] and by the heights that may be executed ahead.
pub(crate) const INTERNAL_MAX: usize = 8192 + GROUPS_MAX;
/// Blocks that may wait for the application; the genesis document bounds them below that.
pub(crate) const WORK_MAX: usize = 8192;
/// Vectors of news that may wait for the herald; a full queue makes the replica wait.
pub(crate) const NEWS_MAX: usize = 4096;
/// Positions of nameless records that are kept back from the herald, at most.
const NEWS_HELD_MAX: usize = 256;
/// Calls and views that may wait for the key files; each waits for an answer before the next.
pub(crate) const KEY_WORK_MAX: usize = 64;

/// What our own threads tell the replica's.
pub(crate) enum Internal {
    /// A group of records is durable, or failed.
    Durable(u64, Result<Vec<Position>, LogError>),
    /// An answer to an event, or a link that came or went.
    Command(Command),
    /// The tables do not need log files below this number any more.
    Prune(u64),
    /// What the ledger remembers of a client's transaction is asked for.
    Recall(PublicKey, u64, oneshot::Sender<Option<Executed>>),
    /// End after what was taken in.
    End,
}

/// What is to be done with key files.
#[derive(Debug)]
pub(crate) enum KeyWork {
    /// A committee is called that we have a seat in.
    Answer(Call),
    /// A view begins.
    Enter(Box<View>),
    /// A threshold key is under way and may want our part: the newest register tells.
    Generate,
}

/// What the herald tells the world.
#[derive(Debug)]
pub(crate) enum News {
    /// A record stands there.
    Saved(Name, Position),
    /// The replica says.
    Event(Event),
}

/// What the driver hands out to. A trait, so that a test sees what leaves and when.
pub(crate) trait Ports {
    /// Sends a frame.
    fn send(&mut self, to: &[MemberId], message: &Message, frame: Bytes);
    /// Appends a group; its number comes back as [`Internal::Durable`].
    fn save(&mut self, number: u64, records: Vec<(u8, Bytes)>);
    /// Gives up log files below this number.
    fn prune(&mut self, before: u64);
    /// Hands work to the application.
    fn execute(&mut self, work: Work);
    /// Answers a member from the disk.
    fn serve(&mut self, member: MemberId, serving: Serving);
    /// Makes a key, or takes one over and erases what it must.
    fn keys(&mut self, work: KeyWork);
    /// The network speaks with these members from now on.
    fn meet(&mut self, register: &Register);
    /// Tells the herald.
    fn tell(&mut self, news: Vec<News>);
}

/// Where everything comes in.
pub(crate) struct Sources {
    /// Checked frames and submissions.
    pub(crate) inbox: Receiver<Inputs>,
    /// Our own threads.
    pub(crate) internal: Receiver<Internal>,
    /// Rings when something came into either.
    pub(crate) bell: Arc<Bell>,
}

/// The replica with its law.
pub(crate) struct Driver<P> {
    replica: Consortium,
    outbox: Outbox<Consortium>,
    barrier: Barrier,
    timers: Timers<Timer>,
    clock: Clock,
    ports: P,
    /// Who the network speaks with by the register, as it was looked at last.
    register: Arc<Register>,
    /// Every other member by it, and the observers that the settings name.
    others: Vec<MemberId>,
    observers: Vec<MemberId>,
    watch: Arc<Watch>,
    leaving: Vec<Leaving>,
    news: Vec<News>,
}

impl<P: Ports> Driver<P> {
    /// Drives `replica`; no register names the `observers`.
    pub(crate) fn new(
        replica: Consortium,
        observers: Vec<MemberId>,
        ports: P,
        watch: Arc<Watch>,
        clock: Clock,
    ) -> Self {
        let register = Arc::clone(replica.ledger().register());
        Self {
            others: others(&register, &observers, &replica),
            register,
            observers,
            replica,
            outbox: Outbox::new(),
            barrier: Barrier::new(),
            timers: Timers::new(),
            clock,
            ports,
            watch,
            leaving: Vec::new(),
            news: Vec::new(),
        }
    }

    /// Runs until told to end.
    ///
    /// Errors: the log failed; nothing that waited for it left.
    pub(crate) fn run(mut self, sources: &Sources) -> Result<(), LogError> {
        sources.bell.own();
        self.handle(Input::Command(Command::Start));
        self.finish_turn();
        loop {
            match self.drain(sources)? {
                Drained::Some => self.finish_turn(),
                Drained::Nothing => {
                    let deadline = self.timers.next().filter(|_| !self.barrier.is_full());
                    let sleep = deadline.map_or(SLEEP_MAX, |at| self.clock.until(at));
                    sources.bell.sleep(sleep.min(SLEEP_MAX));
                }
                Drained::End => return Ok(()),
            }
        }
    }

    /// Takes in what waits, so that one sync and one wake-up serve all of it.
    fn drain(&mut self, sources: &Sources) -> Result<Drained, LogError> {
        let mut count = 0;
        while count < TURN_INPUTS_MAX {
            match sources.internal.try_recv() {
                Ok(told) => {
                    count += 1;
                    if self.take(told)? {
                        return Ok(Drained::End);
                    }
                    continue;
                }
                Err(TryRecvError::Disconnected) => return Ok(Drained::End),
                Err(TryRecvError::Empty) => {}
            }
            // The log stalls: what others want waits in their bounded queues until it moves.
            if self.barrier.is_full() {
                return Ok(Drained::of(count));
            }
            match sources.inbox.try_recv() {
                Ok(inputs) => {
                    count += inputs.len();
                    self.handle_all(inputs);
                }
                Err(TryRecvError::Disconnected) => return Ok(Drained::End),
                Err(TryRecvError::Empty) => break,
            }
        }
        while let Some(timer) = self.timers.due(self.clock.now()) {
            count += 1;
            self.handle(Input::Timer(timer));
        }
        Ok(Drained::of(count))
    }

    fn take(&mut self, told: Internal) -> Result<bool, LogError> {
        match told {
            Internal::End => return Ok(true),
            Internal::Recall(client, sequence, reply) => {
                let known = self.replica.ledger().answer(&client, sequence).cloned();
                // Whoever asked may have gone.
                reply.send(known).ok();
            }
            Internal::Command(command) => self.handle(Input::Command(command)),
            Internal::Prune(before) => self.ports.prune(before),
            Internal::Durable(number, positions) => {
                self.barrier.durable(number, positions?, &mut self.leaving);
                self.carry_out();
            }
        }
        Ok(false)
    }

    fn handle_all(&mut self, inputs: Inputs) {
        inputs.into_iter().for_each(|input| self.handle(input));
    }

    fn handle(&mut self, input: Input<Consortium>) {
        let now = self.clock.now();
        self.replica.handle(now, input, &mut self.outbox);
        for output in self.outbox.drain() {
            match output {
                Output::Save(record) => self.barrier.save(record),
                Output::Send { to, message } => {
                    self.barrier.send(to, message, &mut self.leaving);
                }
                Output::Emit(event) => self.barrier.emit(event, &mut self.leaving),
                Output::Arm { timer, after } => self.timers.arm(now, timer, after),
                Output::Cancel(timer) => self.timers.cancel(&timer),
            }
        }
        self.carry_out();
    }

    /// Hands out what the barrier let through.
    fn carry_out(&mut self) {
        for leaving in std::mem::take(&mut self.leaving) {
            match leaving {
                Leaving::Send(to, message) => self.send(to, &message),
                Leaving::Saved(name, position) => self.news.push(News::Saved(name, position)),
                // Admitted: nobody is told before more becomes of it.
                Leaving::Emit(Event::Submitted(_, Ok(()))) => {}
                Leaving::Emit(Event::Execute(block)) => self.ports.execute(Work::Block(block)),
                Leaving::Emit(Event::Snapshot(base)) => {
                    self.ports.execute(Work::Snapshot(base));
                }
                Leaving::Emit(Event::Serve(member, wanted)) => {
                    self.ports.serve(member, Serving::Wanted(wanted));
                }
                Leaving::Emit(Event::Anchored(member, standing)) => {
                    self.ports.serve(member, Serving::Anchor(standing));
                }
                Leaving::Emit(Event::MakeKey(call)) => self.ports.keys(KeyWork::Answer(call)),
                Leaving::Emit(Event::View(view)) => self.ports.keys(KeyWork::Enter(view)),
                Leaving::Emit(event) => {
                    if let Event::Certified(certificate) = &event {
                        let height = certificate.ballot.height;
                        self.ports.execute(Work::Certified(height));
                    }
                    self.news.push(News::Event(event));
                }
            }
        }
    }

    fn send(&mut self, to: To<MemberId>, message: &Message) {
        let frame = message.to_bytes();
        match to {
            To::One(member) => self.ports.send(&[member], message, frame),
            To::Members => self.ports.send(&self.others, message, frame),
            To::Committee => {
                let me = self.replica.me();
                let seats = self.replica.view().seats().iter().map(|seat| seat.member);
                let seats: Vec<MemberId> = seats.filter(|member| *member != me).collect();
                self.ports.send(&seats, message, frame);
            }
        }
    }

    /// Looks whether the register changed, and with it whom we speak with.
    fn meet(&mut self) {
        let register = self.replica.ledger().register();
        if Arc::ptr_eq(register, &self.register) {
            return;
        }
        self.register = Arc::clone(register);
        self.others = others(&self.register, &self.observers, &self.replica);
        self.ports.meet(&self.register);
    }

    /// One group for the log, one message for the herald, one look for operators.
    fn finish_turn(&mut self) {
        self.meet();
        if let Some(group) = self.barrier.take_group() {
            self.ports.save(group.number, group.records);
        }
        if self.is_news() {
            self.ports.tell(std::mem::take(&mut self.news));
        }
        self.watch.set(self.replica.overview(), self.barrier.held());
    }
}

impl<P> Driver<P> {
    /// Whether the herald should be woken: where votes became durable interests nobody before the
    /// next block does.
    fn is_news(&self) -> bool {
        let is_plain = |news: &News| matches!(news, News::Saved(Name::Nameless, _));
        self.news.len() >= NEWS_HELD_MAX || !self.news.iter().all(is_plain)
    }
}

/// Every member but ourselves, and the observers.
fn others(register: &Register, observers: &[MemberId], replica: &Consortium) -> Vec<MemberId> {
    let members = register.members().filter(|(_, member)| member.is_met());
    let all = members.map(|(id, _)| id).chain(observers);
    let others: BTreeSet<MemberId> = all.filter(|id| **id != replica.me()).copied().collect();
    others.into_iter().collect()
}

/// What a look into the queues and at the timers found.
enum Drained {
    Some,
    Nothing,
    End,
}

impl Drained {
    fn of(count: usize) -> Self {
        match count {
            0 => Drained::Nothing,
            _ => Drained::Some,
        }
    }
}

/// Hands `wanted` to a bounded queue; drops it when that is full, for members ask again.
pub(crate) fn offer<T>(queue: &SyncSender<T>, wanted: T) {
    match queue.try_send(wanted) {
        Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
    }
}
