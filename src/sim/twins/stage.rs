//! The small world of one scenario: five ordering machines, messages, timers, no clock.
//!
//! Source: `machine.rs`. In: rounds of a scenario. Out: what was broken. Holds: every message is
//! delivered at most once and in the order in which it was sent; all that a machine asks to be
//! saved is saved at once. Elsewhere: which scenarios there are (`twins`), members with disks,
//! blocks and clients (`world`).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{NODES, Partition};
use crate::committee::{Height, Kind, MemberId, Regency, Seat, SeatKey, View, ViewId, Voter};
use crate::crypto::{Digest, Domain, SecretKey, Verified};
use crate::fsm::{
    Command, Event, Message, Options, Ordering, PaceOptions, Payload, Resumed, Timer, Work,
};
use crate::machine::{Input, Machine, Outbox, Output, Span, Time, To};

/// Seats; one has two machines.
pub(super) const SEATS: usize = 4;
/// Heights that are ordered, both open at once.
const HEIGHTS: Height = Height(2);
/// After the network healed everything is decided before so many regencies more have begun: those
/// of three correct leaders and of the doubled seat.
const REGENCIES_MAX: u64 = 4;
/// Deliveries and timers after the network healed, at most.
const STEPS_MAX: usize = 20_000;

/// A message between two machines.
struct Wire {
    from: usize,
    to: usize,
    message: Message,
}

/// One machine.
struct Node {
    seat: Seat,
    machine: Ordering,
    timers: BTreeMap<Timer, Time>,
    decided: BTreeMap<Height, Digest>,
}

/// The world.
pub(super) struct Stage {
    nodes: Vec<Node>,
    /// The machines of this seat and of its twin are one faulty seat.
    doubled: Seat,
    wires: VecDeque<Wire>,
    /// ACCEPTs that the next round delivers.
    accepts: VecDeque<Wire>,
    now: Time,
    may_lead: bool,
    broken: Option<String>,
}

impl Stage {
    /// Machines that know of each other and have proposed nothing; the seat that leads the regency
    /// `doubled` has a twin.
    pub(super) fn new(doubled: usize) -> Self {
        let view = view();
        let leader = |regency: usize| view.leader(Regency(regency as u64));
        // Machines stand in the order in which they lead.
        let seats = (0..SEATS).chain([doubled]).map(leader);
        let node = |seat: Seat| Node {
            machine: machine(&view, seat),
            seat,
            timers: BTreeMap::new(),
            decided: BTreeMap::new(),
        };
        let mut stage = Self {
            doubled: leader(doubled),
            nodes: seats.map(node).collect(),
            wires: VecDeque::new(),
            accepts: VecDeque::new(),
            now: Time(1),
            may_lead: false,
            broken: None,
        };
        for node in 0..NODES {
            stage.input(node, Input::Command(Command::Start));
            stage.input(node, Input::Command(Command::Work(work(Height(0)))));
        }
        stage.deliver(&Partition::WHOLE, false);
        stage.may_lead = true;
        stage
    }

    /// One round under `groups`.
    pub(super) fn round(&mut self, round: usize, groups: &Partition) -> Result<(), String> {
        self.wires.append(&mut self.accepts);
        self.deliver(groups, false);
        for node in 0..NODES {
            // Both halves of the progress timer: the first only asks where the others stand.
            for _half in 0..2 {
                let timers = self.nodes[node].timers.keys();
                let progress = timers.copied().find(|t| matches!(t, Timer::Progress(_)));
                match progress.filter(|_| round > 0) {
                    Some(timer) => self.run_out(node, timer),
                    None => self.lead(node),
                }
            }
        }
        self.deliver(groups, true);
        self.verdict()
    }

    /// The network is whole again and stays so: everything must be decided soon.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.wires.append(&mut self.accepts);
        let regency = |node: &Node| node.machine.regency().0;
        let most = self.nodes.iter().map(regency).max().unwrap_or_default();
        let most = Regency(most.0 + REGENCIES_MAX);
        for _ in 0..STEPS_MAX {
            self.verdict()?;
            if self.is_done() {
                return Ok(());
            }
            if let Some(late) = self.nodes.iter().find(|node| regency(node) > most) {
                let regency = late.machine.regency().0;
                return Err(format!("nothing is decided before regency {regency}"));
            }
            match self.wires.pop_front() {
                Some(wire) => self.arrive(wire),
                None => self.next_timer()?,
            }
        }
        Err(format!("nothing is decided within {STEPS_MAX} steps"))
    }

    fn verdict(&mut self) -> Result<(), String> {
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Whether every correct seat decided every height.
    fn is_done(&self) -> bool {
        let mut correct = self.nodes.iter().filter(|node| node.seat != self.doubled);
        correct.all(|node| node.machine.decided() >= HEIGHTS)
    }

    /// Delivers all that is under way inside the groups, ACCEPTs only unless they are kept.
    fn deliver(&mut self, groups: &Partition, keeps_accepts: bool) {
        while let Some(wire) = self.wires.pop_front() {
            let is_accept = matches!(&wire.message, Message::Vote(vote)
                if vote.ballot.kind == Kind::Accept);
            if is_accept && keeps_accepts {
                self.accepts.push_back(wire);
            } else if groups.is_together(wire.from, wire.to) {
                self.arrive(wire);
            }
        }
    }

    fn arrive(&mut self, wire: Wire) {
        let from = self.nodes[wire.from].seat;
        let message = Verified::vouch(wire.message); // Both twins sign what they say.
        self.input(wire.to, Input::Message { from, message });
    }

    fn next_timer(&mut self) -> Result<(), String> {
        let timers = self.nodes.iter().enumerate().flat_map(|(index, node)| {
            let timers = node.timers.iter();
            timers.map(move |(timer, at)| (*at, index, *timer))
        });
        let (at, node, timer) = timers
            .min()
            .ok_or("nothing is under way and no timer runs")?;
        self.now = self.now.max(at);
        self.run_out(node, timer);
        Ok(())
    }

    fn run_out(&mut self, node: usize, timer: Timer) {
        self.nodes[node].timers.remove(&timer);
        self.input(node, Input::Timer(timer));
    }

    /// Hands a machine one input, and whatever its host would answer.
    fn input(&mut self, node: usize, input: Input<Ordering>) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Outbox::new();
            self.nodes[node].machine.handle(self.now, input, &mut out);
            for output in out.drain() {
                match output {
                    Output::Save(_) => {}
                    Output::Send { to, message } => self.send(node, to, &message),
                    Output::Arm { timer, after } => {
                        let at = self.now + after;
                        self.nodes[node].timers.insert(timer, at);
                    }
                    Output::Cancel(timer) => drop(self.nodes[node].timers.remove(&timer)),
                    Output::Emit(event) => inputs.extend(self.on_event(node, event)),
                }
            }
        }
        self.lead(node);
    }

    /// A machine that leads proposes what no other would.
    fn lead(&mut self, node: usize) {
        let next = self.nodes[node].machine.next_height();
        let Some((height, _)) = next.filter(|(height, _)| *height <= HEIGHTS && self.may_lead)
        else {
            return;
        };
        let regency = self.nodes[node].machine.regency().0;
        let bytes = Bytes::from(format!("{node} in {regency} for {height}"));
        let digest = Digest::of(Domain::Proposal, &bytes);
        let payload = Payload { digest, bytes };
        self.input(node, Input::Command(Command::Propose(height, payload)));
    }

    fn send(&mut self, from: usize, to: To<Seat>, message: &Message) {
        let own = self.nodes[from].seat;
        for (index, node) in self.nodes.iter().enumerate() {
            let is_meant = match to {
                To::One(seat) => node.seat == seat,
                To::Committee | To::Members => true,
            };
            if is_meant && node.seat != own {
                let (to, message) = (index, message.clone());
                self.wires.push_back(Wire { from, to, message });
            }
        }
    }

    fn on_event(&mut self, node: usize, event: Event) -> Option<Input<Ordering>> {
        match event {
            Event::Check(height, payload) => {
                let verdict = Command::Checked(height, payload.digest, true);
                return Some(Input::Command(verdict));
            }
            Event::Decided(height, payload, _) => {
                self.nodes[node].decided.insert(height, payload.digest);
                let mut others = self.nodes.iter().map(|other| other.decided.get(&height));
                if others.any(|digest| digest.is_some_and(|digest| *digest != payload.digest)) {
                    self.breaks(format!("two decisions at height {height}"));
                }
            }
            Event::Ordered(height) => {
                return Some(Input::Command(Command::Work(work(height))));
            }
            Event::Lapsed(_) if self.nodes[node].seat == self.doubled => {}
            Event::Lapsed(_) => self.breaks("a log lacks what others hold from it".into()),
            Event::Fault(seat, _) if seat == self.doubled => {}
            Event::Fault(seat, _) => {
                self.breaks(format!("seat {seat} is accused and did nothing"));
            }
            Event::Split(height) => self.breaks(format!("height {height} is split")),
            Event::Regency(..) | Event::Behind(_) => {}
        }
        None
    }

    fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }
}

/// What waits after every height up to `ordered` was decided.
fn work(ordered: Height) -> Work {
    Work {
        is_due: ordered < HEIGHTS,
        ordered: ordered.0,
        ..Work::default()
    }
}

fn secret(seat: usize) -> SecretKey {
    let seed = Digest::of(Domain::Audit, &[u8::try_from(seat).expect("few seats")]);
    SecretKey::simulated(seed.0, Digest::ZERO)
}

fn view() -> View {
    let seats = (0..SEATS).map(|seat| SeatKey {
        member: MemberId::of(&secret(seat).public()),
        key: Some(secret(seat).public()),
    });
    let chain = Digest::of(Domain::Chain, b"twins");
    View::new(ViewId(0), chain, seats.collect(), &chain).expect("distinct members and keys")
}

fn machine(view: &View, seat: Seat) -> Ordering {
    let resumed = Resumed {
        voter: Voter::new(view, secret(seat.index())),
        certificate: None,
        applied: Height(0),
        payloads: Vec::new(),
        decisions: Vec::new(),
        is_fresh: false,
    };
    let options = Options {
        window: HEIGHTS.0,
        ahead_max: 1_000,
        resend: Span::from_ms(100),
        pace: PaceOptions {
            first: Span::from_ms(1_000),
            least: Span::from_ms(200),
            most: Span::from_ms(60_000),
        },
    };
    Ordering::new(view.clone(), options, resumed)
}
