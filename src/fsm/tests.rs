//! A committee of ordering machines in a small world of its own: messages, timers and crashes
//! without a clock.

pub(super) mod edges;
mod links;
mod load;
mod paces;
mod views;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rand::rngs::ChaCha12Rng;
use rand::{RngExt as _, SeedableRng};

use super::*;
use crate::committee::{Kind, MemberId, SeatKey, ViewId};
use crate::crypto::{Domain, SecretKey, Verified, Verifier};
use crate::machine::{Output, To};

fn options() -> Options {
    let pace = PaceOptions {
        first: Span::from_ms(1_000),
        least: Span::from_ms(200),
        most: Span::from_ms(60_000),
    };
    Options {
        window: 4,
        ahead_max: 1_000,
        resend: Span::from_ms(100),
        pace,
    }
}

fn secret(i: usize) -> SecretKey {
    SecretKey::simulated(
        [u8::try_from(i).expect("small") + 1; 32],
        Digest::of(Domain::Audit, b"w"),
    )
}

fn payload(height: Height, content: u64) -> Payload {
    let bytes = Bytes::from(format!("{height}/{content}"));
    Payload {
        digest: Digest::of(Domain::Proposal, &bytes),
        bytes,
    }
}

struct World {
    options: Options,
    view: View,
    nodes: Vec<Ordering>,
    logs: Vec<Vec<Record>>,
    work: Vec<Work>,
    decided: Vec<BTreeMap<Height, Digest>>,
    wires: VecDeque<(usize, usize, Message)>,
    timers: BTreeMap<(Time, usize, Timer), ()>,
    down: BTreeSet<usize>,
    /// Whose log was cut.
    cut: BTreeSet<usize>,
    now: Time,
    rng: ChaCha12Rng,
    loss_percent: u32,
    regencies: u64,
}

impl World {
    fn new(n: usize, seed: u64) -> Self {
        let seats = (0..n).map(|i| SeatKey {
            member: MemberId(Digest::of(
                Domain::Member,
                &[u8::try_from(i).expect("small")],
            )),
            key: Some(secret(i).public()),
        });
        let chain = Digest::of(Domain::Chain, b"test");
        let view = View::new(ViewId(0), chain, seats.collect(), &chain).expect("a view");
        let mut world = Self {
            options: options(),
            nodes: Vec::new(),
            logs: vec![Vec::new(); n],
            work: vec![Work::default(); n],
            decided: vec![BTreeMap::new(); n],
            wires: VecDeque::new(),
            timers: BTreeMap::new(),
            down: BTreeSet::new(),
            cut: BTreeSet::new(),
            now: Time(0),
            rng: ChaCha12Rng::seed_from_u64(seed),
            loss_percent: 0,
            regencies: 0,
            view,
        };
        for i in 0..n {
            world.nodes.push(world.boot(i));
        }
        (0..n).for_each(|i| world.input(i, Input::Command(Command::Start)));
        world
    }

    /// A node as its log makes it.
    fn boot(&self, i: usize) -> Ordering {
        let mut voter = Voter::new(&self.view, secret(i)).expect("a seat");
        let (mut payloads, mut decisions) = (Vec::new(), Vec::new());
        for record in &self.logs[i] {
            match record {
                Record::Voter(record) => voter.resume(record),
                Record::Payload(height, payload) => payloads.push((*height, payload.clone())),
                Record::Decision(certificate) => decisions.push(certificate.clone()),
            }
        }
        let mut applied = Height(0);
        while self.decided[i].contains_key(&applied.next()) {
            applied = applied.next();
        }
        let resumed = Resumed {
            voter: Some(voter),
            certificate: None,
            applied,
            payloads,
            decisions,
            is_fresh: false,
        };
        Ordering::new(self.view.clone(), self.options, resumed)
    }

    fn restart(&mut self, i: usize) {
        self.timers.retain(|(_, node, _), ()| *node != i);
        self.nodes[i] = self.boot(i);
        self.down.remove(&i);
        self.input(i, Input::Command(Command::Start));
    }

    /// The links between `i` and those that are up stand, or fell.
    fn link(&mut self, i: usize, stands: bool) {
        let seat = |n: usize| Seat(u16::try_from(n).expect("small"));
        for other in (0..self.nodes.len()).filter(|other| *other != i) {
            if !self.down.contains(&other) {
                self.input(other, Input::Command(Command::Connected(seat(i), stands)));
            }
            if !self.down.contains(&i) {
                let stands = !self.down.contains(&other);
                self.input(i, Input::Command(Command::Connected(seat(other), stands)));
            }
        }
    }

    fn input(&mut self, i: usize, input: Input<Ordering>) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Outbox::new();
            self.nodes[i].handle(self.now, input, &mut out);
            for output in out.drain() {
                match output {
                    Output::Save(record) => self.logs[i].push(record),
                    Output::Send { to, message } => self.send(i, to, &message),
                    Output::Arm { timer, after } => {
                        self.timers
                            .retain(|(_, node, held), ()| (*node, *held) != (i, timer));
                        self.timers.insert((self.now + after, i, timer), ());
                    }
                    Output::Cancel(timer) => {
                        self.timers
                            .retain(|(_, node, held), ()| (*node, *held) != (i, timer));
                    }
                    Output::Emit(event) => inputs.extend(self.event(i, event)),
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: To<Seat>, message: &Message) {
        let peers: Vec<usize> = match to {
            To::One(seat) => vec![seat.index()],
            To::Committee | To::Members => (0..self.nodes.len()).filter(|i| *i != from).collect(),
        };
        for peer in peers {
            self.wires.push_back((from, peer, message.clone()));
        }
    }

    fn event(&mut self, i: usize, event: Event) -> Option<Input<Ordering>> {
        match event {
            Event::Check(height, payload) => Some(Input::Command(Command::Checked(
                height,
                payload.digest,
                true,
            ))),
            Event::Decided(height, payload, _) => {
                let before = self.decided[i].insert(height, payload.digest);
                assert!(
                    before.is_none_or(|d| d == payload.digest),
                    "height {height} decided twice"
                );
                for other in &self.decided {
                    let theirs = other.get(&height);
                    assert!(
                        theirs.is_none_or(|d| *d == payload.digest),
                        "fork at {height}"
                    );
                }
                None
            }
            Event::Ordered(height) => {
                self.work[i].ordered = height.0;
                Some(Input::Command(Command::Work(self.work[i])))
            }
            Event::Regency(regency, _) => {
                self.regencies = self.regencies.max(regency.0);
                None
            }
            Event::Fault(seat, votes) => panic!("no one is faulty, yet {seat} {votes:?}"),
            Event::Split(height) => panic!("split at {height}"),
            Event::Behind(_) => None,
            Event::Lapsed(lapse) => {
                assert!(self.cut.contains(&i), "{i} lost nothing, yet {lapse:?}");
                None
            }
        }
    }

    /// Delivers one message or runs the next timer.
    fn step(&mut self) {
        if let Some((from, to, message)) = self.next_message() {
            let is_lost = self.loss_percent > self.rng.random_range(0..100);
            if is_lost || self.down.contains(&from) || self.down.contains(&to) {
                return;
            }
            let seat = Seat(u16::try_from(from).expect("small"));
            let checks = message.checks(&self.view, seat).expect("well-formed");
            assert!(Verifier::simulated(Digest::of(Domain::Audit, b"w")).all_valid(&checks));
            let message = Verified::vouch(message);
            self.input(
                to,
                Input::Message {
                    from: seat,
                    message,
                },
            );
        } else if let Some(((at, node, timer), ())) = self.timers.pop_first() {
            self.now = at;
            if !self.down.contains(&node) {
                self.input(node, Input::Timer(timer));
            }
        }
    }

    fn next_message(&mut self) -> Option<(usize, usize, Message)> {
        let reach = self.wires.len().min(8);
        if reach == 0 {
            return None;
        }
        let pick = self.rng.random_range(0..reach);
        self.wires.remove(pick)
    }

    fn tell_work(&mut self, i: usize, is_due: bool) {
        self.work[i].is_due = is_due;
        self.input(i, Input::Command(Command::Work(self.work[i])));
    }

    /// Whoever leads proposes; everyone knows that there is work.
    fn work(&mut self) {
        for i in 0..self.nodes.len() {
            if self.down.contains(&i) {
                continue;
            }
            self.tell_work(i, true);
            if let Some((height, _)) = self.nodes[i].next_height() {
                let content = self.rng.random_range(0..1_000_000);
                let payload = payload(height, content);
                self.input(i, Input::Command(Command::Propose(height, payload)));
            }
        }
    }

    fn run_until(&mut self, height: Height) {
        for _ in 0..200_000 {
            self.work();
            self.step();
            let live = (0..self.nodes.len()).filter(|i| !self.down.contains(i));
            if live.map(|i| self.nodes[i].decided()).min() >= Some(height) {
                return;
            }
        }
        let states: Vec<_> = self
            .nodes
            .iter()
            .map(|n| (n.state(), n.regency_state()))
            .collect();
        let decided: Vec<_> = self.nodes.iter().map(Ordering::decided).collect();
        panic!(
            "height {height} not reached at {:?}: {decided:?} {states:?}",
            self.now
        );
    }
}

fn assert_no_change_since(world: &World, before: u64) {
    let states: Vec<_> = world
        .nodes
        .iter()
        .map(|n| (n.regency(), n.regency_state()))
        .collect();
    assert_eq!(world.regencies, before, "{states:?} at {:?}", world.now);
}

#[test]
fn a_committee_orders() {
    for n in [1, 4, 7] {
        let mut world = World::new(n, 1);
        world.run_until(Height(50));
        assert_eq!(world.regencies, 0, "n = {n}");
    }
}

#[test]
fn a_dead_leader_is_replaced_and_nothing_forks() {
    for seed in 0..20 {
        let mut world = World::new(4, seed);
        world.run_until(Height(5));
        let leader = world.nodes[0].regency().1.index();
        world.down.insert(leader);
        world.run_until(Height(20));
        assert!(world.regencies >= 1);
        world.restart(leader);
        world.run_until(Height(30));
    }
}

#[test]
fn leaders_that_die_one_after_another_do_not_make_the_others_wait_longer_and_longer() {
    for seed in 0..8 {
        leaders_die_one_after_another(seed);
    }
}

/// Doubling without an end would be at four minutes after eight of them.
fn leaders_die_one_after_another(seed: u64) {
    let mut world = World::new(4, seed);
    world.run_until(Height(5));
    for kill in 1..=8 {
        let top = world.nodes.iter().map(Ordering::decided).max();
        let leader = world.nodes.iter().map(Ordering::regency).max();
        let leader = leader.expect("nodes").1.index();
        world.down.insert(leader);
        world.link(leader, false);
        world.run_until(top.unwrap_or_default().plus(15));
        world.restart(leader);
        world.link(leader, true);
        world.run_until(top.unwrap_or_default().plus(30));
        let longest = world.nodes.iter().map(Ordering::timeout).max();
        assert!(
            longest <= Some(Span(options().pace.first.0 * 6)),
            "seed {seed}, kill {kill}: {longest:?}"
        );
    }
}

#[test]
fn the_absence_of_a_quorum_is_no_measure_of_a_leader() {
    let mut world = World::new(4, 1);
    (0..4).for_each(|i| world.link(i, true));
    world.run_until(Height(5));
    let leader = world.nodes[0].regency().1.index();
    let other = (leader + 1) % 4;
    for gone in [other, leader] {
        world.down.insert(gone);
        world.link(gone, false);
    }
    // Two are left: they ask for another leader and nobody answers.
    let until = world.now + Span::from_ms(20_000);
    while world.now < until {
        world.work();
        world.step();
    }
    world.restart(other);
    world.link(other, true);
    world.run_until(Height(6));
    let longest = world.nodes.iter().map(Ordering::timeout).max();
    assert!(longest <= Some(Span::from_ms(2_000)), "{longest:?}");
}

#[test]
fn a_log_that_was_rolled_back_signs_nothing_any_more() {
    for seed in 0..20 {
        let mut world = World::new(4, seed);
        world.run_until(Height(10));
        let victim = world.rng.random_range(0..4);
        let is_vote = |record: &Record| {
            matches!(
                record,
                Record::Voter(VoterRecord::Written(..) | VoterRecord::Locked(_))
            )
        };
        let votes: Vec<usize> = { world.logs[victim].iter().enumerate() }
            .filter_map(|(at, record)| is_vote(record).then_some(at))
            .collect();
        // The last ones may not have reached anybody.
        let kept = votes[world.rng.random_range(0..votes.len() / 2)];
        world.logs[victim].truncate(kept);
        world.cut.insert(victim);
        world.down.insert(victim);
        world.restart(victim);
        for _ in 0..2_000 {
            world.work();
            world.step();
        }
        assert_eq!(world.nodes[victim].state(), "wiped", "seed {seed}");
        let signed = &world.logs[victim][kept..];
        assert!(!signed.iter().any(is_vote), "seed {seed}: {signed:?}");
        // The verdict is durable, whatever the others still hold.
        world.restart(victim);
        assert_eq!(world.nodes[victim].state(), "wiped", "seed {seed}");
        // Nobody waits for it. In this world nothing brings it blocks.
        world.down.insert(victim);
        let top = world.nodes.iter().map(Ordering::decided).max();
        world.run_until(top.unwrap_or_default().plus(10));
    }
}

#[test]
fn lost_messages_are_made_good() {
    for seed in 0..20 {
        let mut world = World::new(4, seed);
        world.loss_percent = 20;
        world.run_until(Height(20));
    }
}

#[test]
fn all_members_may_restart_at_any_point() {
    for seed in 0..40 {
        let mut world = World::new(4, seed);
        world.loss_percent = 5;
        for round in 1..6 {
            let steps = world.rng.random_range(1..400);
            for _ in 0..steps {
                world.work();
                world.step();
            }
            world.wires.clear();
            (0..4).for_each(|i| world.restart(i));
            let _ = round;
        }
        world.loss_percent = 0;
        let top = world
            .decided
            .iter()
            .filter_map(|d| d.keys().last())
            .max()
            .copied();
        world.run_until(top.unwrap_or_default().plus(5));
    }
}

#[test]
fn a_vote_from_far_ahead_neither_hides_a_true_regency_nor_keeps_a_member_awake() {
    let mut world = World::new(4, 1);
    while !world.wires.is_empty() {
        world.step();
    }
    let mut hears = |from: usize, regency: u64| {
        let voter = Voter::new(&world.view, secret(from));
        let signed = voter.map(|mut v| v.write(Regency(regency), Height(1), Digest::ZERO));
        let (_, vote) = signed.expect("a seat").expect("a fresh voter signs");
        let from = Seat(u16::try_from(from).expect("small"));
        let message = Verified::vouch(Message::Vote(vote.into_inner()));
        let mut out = Outbox::new();
        world.nodes[0].handle(world.now, Input::Message { from, message }, &mut out);
        let asks = |output: &Output<Ordering>| {
            let Output::Send { to, message } = output else {
                return false;
            };
            let is_question = matches!(message, Message::Status(s) if s.is_question);
            *to == To::One(from) && is_question
        };
        (
            out.as_slice().iter().any(asks),
            world.nodes[0].core.is_unsettled(),
        )
    };
    assert_eq!(hears(1, u64::MAX), (true, false), "one seat may lie");
    assert_eq!(hears(2, 1), (true, true), "one of two seats is correct");
    assert_eq!(hears(2, 1), (false, true), "asked once");
}

fn votes_of(
    view: &View,
    kind: crate::committee::Kind,
    regency: Regency,
    height: Height,
    digest: Digest,
) -> Certificate {
    use crate::committee::Ballot;
    let ballot = Ballot {
        kind,
        view: view.id(),
        regency,
        height,
        digest,
    };
    let signed: Vec<Verified<Vote>> = (0..view.sizes().q)
        .map(|i| {
            let signature = secret(i).sign(&ballot.sign_bytes(view.chain()));
            let seat = Seat(u16::try_from(i).expect("small"));
            Verified::vouch(Vote {
                ballot,
                seat,
                signature,
            })
        })
        .collect();
    let certificate = Certificate::assemble(view, &signed).expect("a quorum");
    certificate.into_inner()
}

#[test]
fn a_decision_of_a_later_regency_does_not_stop_a_member_from_joining_it() {
    use crate::committee::Kind;
    let mut world = World::new(4, 1);
    for _ in 0..60 {
        world.step();
    }
    world.wires.clear();
    let (height, lagging) = (Height(1), 3usize);
    let payload = payload(height, 7);
    let proof = votes_of(
        &world.view,
        Kind::Accept,
        Regency(1),
        height,
        payload.digest,
    );
    assert!(matches!(
        world.nodes[lagging].state(),
        "follower" | "leader"
    ));
    let heard = |message| Verified::vouch(message);
    world.input(
        lagging,
        Input::Message {
            from: Seat(0),
            message: heard(Message::Decision(proof, payload)),
        },
    );
    for seat in [Seat(1), Seat(2)] {
        let stop = Stop {
            view: world.view.id(),
            regency: Regency(1),
            seat,
        };
        world.input(
            lagging,
            Input::Message {
                from: seat,
                message: heard(Message::Stop(stop)),
            },
        );
    }
    assert_eq!(world.nodes[lagging].regency().0, Regency(1));
}

#[test]
fn a_vote_of_one_seat_for_a_height_that_nobody_proposed_changes_no_regency() {
    use crate::committee::{Ballot, Kind};
    let mut world = World::new(4, 1);
    world.run_until(Height(3));
    while !world.wires.is_empty() {
        world.step();
    }
    (0..4).for_each(|i| world.tell_work(i, false));
    for _ in 0..500 {
        world.step();
    }
    let liar = (world.nodes[0].regency().1.index() + 1) % 4;
    let ballot = Ballot {
        kind: Kind::Accept,
        view: world.view.id(),
        regency: Regency(0),
        height: world.nodes[0].decided().next(),
        digest: Digest::of(Domain::Proposal, b"junk"),
    };
    let vote = Vote {
        ballot,
        seat: Seat(u16::try_from(liar).expect("small")),
        signature: secret(liar).sign(&ballot.sign_bytes(world.view.chain())),
    };
    let before = world.regencies;
    world.send(liar, To::Committee, &Message::Vote(vote));
    for _ in 0..20_000 {
        // As the replica tells it: work is what is open.
        for i in 0..4 {
            let has_open = world.nodes[i].has_open();
            world.tell_work(i, has_open);
        }
        world.step();
    }
    assert_no_change_since(&world, before);
}

#[test]
fn members_that_come_back_to_an_idle_committee_start_no_regency_change() {
    let mut world = World::new(4, 1);
    world.run_until(Height(3));
    let dead = world.nodes[0].regency().1.index();
    world.down.insert(dead);
    world.run_until(Height(6));
    while !world.wires.is_empty() {
        world.step();
    }
    let live: Vec<usize> = (0..4).filter(|i| *i != dead).collect();
    for i in &live {
        world.tell_work(*i, false);
    }
    for _ in 0..200 {
        world.step();
    }
    let before = world.regencies;
    world.restart(dead);
    for _ in 0..200 {
        world.step();
    }
    world.restart(live[0]);
    for _ in 0..20_000 {
        world.step();
    }
    assert_no_change_since(&world, before);
}

#[test]
fn a_committee_that_restarts_in_a_later_regency_orders_the_work_of_one_member() {
    let mut world = World::new(7, 3);
    world.run_until(Height(2));
    let dead = world.nodes[0].regency().1.index();
    world.down.insert(dead);
    world.run_until(Height(12));
    assert!(world.regencies >= 1);
    while !world.wires.is_empty() {
        world.step();
    }
    (0..7).for_each(|i| world.restart(i));
    let top = |world: &World| world.nodes.iter().map(|node| node.decided().0).max();
    let before = top(&world).map(|top| top + 5);
    let one = (dead + 1) % 7;
    for _ in 0..50_000 {
        for i in 0..7 {
            // As the replica tells it: what is open is work too, and no work is told only behind
            // work.
            let has_work = i == one || world.nodes[i].has_open();
            if has_work {
                world.tell_work(i, true);
            }
            if let Some((height, _)) = world.nodes[i].next_height() {
                let payload = payload(height, 1);
                world.input(i, Input::Command(Command::Propose(height, payload)));
            }
        }
        world.step();
    }
    let states: Vec<_> = world
        .nodes
        .iter()
        .map(|n| (n.regency(), n.regency_state()))
        .collect();
    assert!(
        top(&world) > before,
        "{before:?} {states:?} at {:?}",
        world.now
    );
}

mod model;
