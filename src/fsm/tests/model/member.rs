//! One correct member: the real [`Ordering`] machine, brought back from its log for every step.
//!
//! Source: `docs/adr/004-a-checker-of-our-own.md`. In: what a member has on its disk and
//! what it is told. Out: what it may have on its disk and what it has said afterwards, for every
//! moment at which its power may fail.
//! Holds: the law of `machine`: nothing behind a save leaves before it is durable. Elsewhere: when
//! it may be told what (`search`).

use std::collections::VecDeque;

use super::world::{Ballots, World};
use crate::committee::{Ballot, Height, Kind, Lock, Regency, Seat, StopData, VoterRecord};
use crate::crypto::{Digest, Verified};
use crate::fsm::sync::is_proved;
use crate::fsm::{
    Command, Event, Held, Message, Options, Ordering, PaceOptions, Recall, Record, Resumed, Status,
    Stop, Sync,
};
use crate::machine::{Input, Machine as _, Outbox, Output, Span, Time};

/// What a member is told in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stimulus {
    /// Its replica has a payload, by its number.
    Lead(usize),
    /// The leader's PROPOSE, by its number, with the bytes.
    Propose(usize),
    /// The WRITEs of all other seats, by their number.
    Writes(usize),
    /// Bytes that it may have asked for.
    Payload(usize),
    /// First the ACCEPTs of all other seats for these ballots, with their bytes; then STOPs of all
    /// other seats.
    Stops(Ballots, Regency),
    /// A SYNC, by its number, after a crash.
    Sync(usize),
}

/// What a member has: the log on its disk, and the SYNC by which it entered its regency.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) seat: Seat,
    pub(super) log: Vec<Record>,
    /// The SYNC's number; none in regency 0, or before it is heard.
    pub(super) sync: Option<usize>,
}

/// In which regency for what something was signed.
type Signed = (Regency, Digest);

/// What tells two members apart: what their logs mean, without which quorum signed a lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Meaning {
    seat: Seat,
    pub(super) installed: Regency,
    /// Its newest PROPOSE and WRITE, and its lock.
    promises: Vec<(Height, [Option<Signed>; 3])>,
    stopped: Option<Vec<u8>>,

    sync: Option<Entered>,
}

/// By what a member entered its regency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Entered {
    /// A SYNC, by its number.
    By(usize),
    /// Some SYNC of this regency.
    Written(Regency),
}

/// One outcome of a step: what is on the disk, and what was said to anybody.
#[derive(Clone)]
pub(super) struct Moment {
    pub(super) member: Member,
    pub(super) ballots: Ballots,
    pub(super) claims: Vec<StopData>,
}

/// A member between its start and the end of its step.
struct Life<'a> {
    world: &'a World,
    machine: Ordering,
    now: Moment,
    /// Records on the disk when it started.
    saved: usize,
    /// What it would be if its power had failed before one of its saves was durable. Where nothing
    /// but bytes was saved and nothing was said there is none: see the head of `model`.
    failures: Vec<Moment>,
}

impl Member {
    /// A member that has nothing yet.
    pub(super) fn new(seat: Seat) -> Self {
        Self {
            seat,
            log: Vec::new(),
            sync: None,
        }
    }

    /// What its log brings back.
    fn resumed(&self, world: &World) -> Resumed {
        let mut voter = world.voter(self.seat);
        let (mut payloads, mut decisions) = (Vec::new(), Vec::new());
        for record in &self.log {
            match record {
                Record::Voter(record) => voter.resume(record),
                Record::Payload(height, payload) => payloads.push((*height, payload.clone())),
                Record::Decision(certificate) => decisions.push(certificate.clone()),
            }
        }
        Resumed {
            voter: Some(voter),
            certificate: None,
            applied: Height(0),
            payloads,
            decisions,
            is_fresh: false,
        }
    }

    pub(super) fn meaning(&self, world: &World, syncs: &[Sync]) -> Meaning {
        let resumed = self.resumed(world);
        let voter = resumed.voter.expect("every member has a seat");
        let pair = |lock: Lock| (lock.regency, lock.digest);
        let promises = voter.promises().map(|(height, promise)| {
            let locked = promise.lock.as_ref().map(|lock| lock.ballot);
            let locked = locked.map(|ballot| (ballot.regency, ballot.digest));
            // What it signed in a regency below the installed one matters no more.
            let live = |lock: &Lock| lock.regency >= voter.installed();
            let proposed = promise.proposed.filter(live).map(pair);
            let written = promise.written.filter(live).map(pair);
            (height, [proposed, written, locked])
        });
        // What a SYNC bound matters no more where WRITE was signed at every height.
        let writes = voter.promises().filter_map(|(_, promise)| promise.written);
        let writes = writes
            .filter(|lock| lock.regency == voter.installed())
            .count();
        let sync = self
            .sync
            .map(|number| match writes < world.scope.digests.len() {
                true => Entered::By(number),
                false => Entered::Written(syncs[number].regency),
            });
        Meaning {
            seat: self.seat,
            installed: voter.installed(),
            promises: promises.collect(),
            stopped: voter.stop_data().map(|(data, _)| data.signature.0.to_vec()),
            sync,
        }
    }

    /// Every moment that may follow when this member is told `stimulus`, or why it breaks a rule.
    pub(super) fn step(
        &self,
        world: &World,
        syncs: &[Sync],
        stimulus: Stimulus,
    ) -> Result<Vec<Moment>, String> {
        let mut before = self.clone();
        if let Stimulus::Sync(number) = stimulus {
            let held = before
                .sync
                .filter(|held| syncs[*held].regency > syncs[number].regency);
            before.sync = held.or(Some(number));
        }
        let mut life = Life::start(world, before, syncs)?;
        life.hear(stimulus)?;
        let mut moments = life.failures;
        moments.push(life.now);
        for moment in &mut moments {
            let held = moment.member.sync;
            let installed = moment.member.resumed(world).voter.map(|v| v.installed());
            moment.member.sync = held.filter(|n| Some(syncs[*n].regency) >= installed);
            let is_decision = |record: &Record| matches!(record, Record::Decision(_));
            moment.member.log.retain(|record| !is_decision(record));
        }
        Ok(moments)
    }
}

impl<'a> Life<'a> {
    /// Comes back from the log, hears where the others stand, and hears its SYNC again.
    fn start(world: &'a World, member: Member, syncs: &[Sync]) -> Result<Self, String> {
        let machine = Ordering::new(world.view.clone(), options(), member.resumed(world));
        let sync = member.sync;
        let now = Moment {
            member,
            ballots: 0,
            claims: Vec::new(),
        };
        let (saved, failures) = (now.member.log.len(), Vec::new());
        let mut life = Self {
            world,
            machine,
            now,
            saved,
            failures,
        };
        life.input(Input::Command(Command::Start))?;
        let status = Status {
            view: world.view.id(),
            regency: Regency(0),
            is_synchronised: true,
            decided: Height(0),
            certified: Height(0),
            is_question: false,
        };
        life.told_by_all(|_| Message::Status(status))?;
        // Nobody need remember what this member signed: leaving out is the most that one can lie.
        let nothing = Held {
            votes: Vec::new(),
            stop_data: None,
        };
        life.told_by_all(|_| Message::Recall(Recall::Held(1, nothing.clone())))?;
        if let Some(sync) = sync {
            life.told(world.byzantine, Message::Sync(syncs[sync].clone()))?;
        }
        Ok(life)
    }

    fn hear(&mut self, stimulus: Stimulus) -> Result<(), String> {
        let world = self.world;
        let bytes_of = |ballot: Ballot| world.payload(ballot.height, &ballot.digest);
        match stimulus {
            Stimulus::Lead(number) => {
                let (height, payload) = world.payloads[number].clone();
                self.input(Input::Command(Command::Propose(height, payload)))
            }
            Stimulus::Propose(number) => {
                let ballot = world.ballots[number];
                let leader = world.view.leader(ballot.regency);
                let vote = world.vote(leader, ballot);
                self.told(leader, Message::Propose(vote, bytes_of(ballot)))
            }
            Stimulus::Writes(number) => {
                let ballot = world.ballots[number];
                self.told_by_all(|seat| Message::Vote(world.vote(seat, ballot)))
            }
            Stimulus::Payload(number) => {
                let (height, payload) = world.payloads[number].clone();
                self.told(world.byzantine, Message::Payload(height, payload))
            }
            Stimulus::Stops(accepts, regency) => {
                for ballot in world.named(accepts) {
                    self.told_by_all(|seat| Message::Vote(world.vote(seat, ballot)))?;
                    let message = Message::Payload(ballot.height, bytes_of(ballot));
                    self.told(world.byzantine, message)?;
                }
                let view = world.view.id();
                self.told_by_all(|seat| {
                    Message::Stop(Stop {
                        view,
                        regency,
                        seat,
                    })
                })
            }
            Stimulus::Sync(_) => Ok(()), // Heard at its start.
        }
    }

    fn told_by_all(&mut self, message: impl Fn(Seat) -> Message) -> Result<(), String> {
        let own = self.now.member.seat;
        let others = self.world.view.seats().len() as u16;
        let mut others = (0..others).map(Seat).filter(|seat| *seat != own);
        others.try_for_each(|seat| self.told(seat, message(seat)))
    }

    fn told(&mut self, from: Seat, message: Message) -> Result<(), String> {
        self.check(from, &message)?;
        let message = Verified::vouch(message);
        self.input(Input::Message { from, message })
    }

    /// What every receiver checks first.
    fn check(&self, from: Seat, message: &Message) -> Result<(), String> {
        let checks = message.checks(&self.world.view, from);
        let checks = checks.map_err(|error| format!("{from:?} says {message:?}: {error}"))?;
        let is_valid = self.world.verifier().all_valid(&checks);
        is_valid
            .then_some(())
            .ok_or_else(|| format!("a signature of {message:?} does not hold"))
    }

    /// The driver and the host: saves are durable one after the other, what is said is heard for
    /// ever, every payload is valid.
    fn input(&mut self, input: Input<Ordering>) -> Result<(), String> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Outbox::new();
            self.machine.handle(Time(0), input, &mut out);
            for output in out.drain() {
                match output {
                    Output::Save(record) => self.save(record),
                    Output::Send { message, .. } => self.say(&message)?,
                    Output::Arm { .. } | Output::Cancel(_) => {} // A timer may run out at any time.
                    Output::Emit(event) => {
                        inputs.extend(self.answer(event)?.map(Input::Command));
                    }
                }
            }
        }
        Ok(())
    }

    fn save(&mut self, record: Record) {
        let is_bytes = |record: &Record| matches!(record, Record::Payload(..));
        let new = &self.now.member.log[self.saved..];
        let has_promised = !new.iter().all(is_bytes);
        if has_promised || self.now.ballots != 0 || !self.now.claims.is_empty() {
            self.failures.push(self.now.clone());
        }
        // A leader tells its claims to nobody but itself.
        if let Record::Voter(VoterRecord::Stopped(data, _)) = &record {
            self.now.claims.push(data.clone());
        }
        self.now.member.log.push(record);
    }

    fn say(&mut self, message: &Message) -> Result<(), String> {
        self.check(self.now.member.seat, message)?;
        match message {
            // A leader's PROPOSE may be passed on.
            Message::Propose(vote, _) if vote.seat != self.now.member.seat => {}
            Message::Propose(vote, _) | Message::Vote(vote) => {
                let number = self.world.ballots.iter().position(|b| *b == vote.ballot);
                let number = number.ok_or_else(|| format!("{:?} is out of scope", vote.ballot))?;
                self.check_bytes(vote.ballot)?;
                self.now.ballots |= 1 << number;
            }
            Message::StopData(data, proofs) if !is_proved(data, proofs, &self.world.view) => {
                return Err(format!("{data:?} claims what it does not prove"));
            }
            Message::StopData(data, _) => self.now.claims.push(data.clone()),
            // Whoever holds a set may send its SYNC; STOPs may be heard at any time; the rest
            // promises nothing.
            Message::Sync(_) | Message::Stop(_) | Message::Decision(..) => {}
            Message::Fetch(..) | Message::Payload(..) | Message::Status(_) => {}
            Message::Recall(_) => {}
        }
        Ok(())
    }

    /// A vote leaves only when the bytes that it names are durable.
    fn check_bytes(&self, ballot: Ballot) -> Result<(), String> {
        let is_of = |record: &Record| match record {
            Record::Payload(_, payload) => payload.digest == ballot.digest,
            Record::Voter(_) | Record::Decision(_) => false,
        };
        let is_held = ballot.kind != Kind::Write || self.now.member.log.iter().any(is_of);
        is_held
            .then_some(())
            .ok_or_else(|| format!("{ballot:?} leaves before its bytes are durable"))
    }

    fn answer(&self, event: Event) -> Result<Option<Command>, String> {
        match event {
            Event::Check(height, payload) => {
                Ok(Some(Command::Checked(height, payload.digest, true)))
            }
            Event::Fault(seat, _) if seat == self.world.byzantine => Ok(None),
            Event::Fault(seat, votes) => Err(format!("correct {seat:?} is accused by {votes:?}")),
            Event::Split(height) => Err(format!("height {height} is decided twice")),
            Event::Lapsed(lapse) => Err(format!("a whole log is thought rolled back: {lapse:?}")),
            Event::Ordered(_) | Event::Decided(..) | Event::Behind(_) | Event::Regency(..) => {
                Ok(None)
            }
        }
    }
}

fn options() -> Options {
    let pace = PaceOptions {
        first: Span::from_ms(1_000),
        least: Span::from_ms(1_000),
        most: Span::from_ms(1_000),
    };
    Options {
        window: 2,
        ahead_max: 8,
        resend: Span::from_ms(100),
        pace,
    }
}
