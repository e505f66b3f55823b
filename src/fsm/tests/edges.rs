//! The state pictures in the heads of the machines against the edges that these tests walk.

use std::cell::RefCell;

use super::*;
use crate::committee::{Lapse, Promised, StopData};
use crate::fsm::message::Held;

type Walk = BTreeSet<(&'static str, String, &'static str)>;

thread_local! {
    static SEEN: RefCell<Option<Walk>> = const { RefCell::new(None) };
}

/// Notes that `event` led from one state to another, where somebody watches.
pub(in crate::fsm) fn saw(from: &'static str, event: &dyn Fn() -> String, to: &'static str) {
    SEEN.with_borrow_mut(|seen| {
        if let Some(seen) = seen {
            let text = event();
            let end = text.find(['(', ' ', '{']).unwrap_or(text.len());
            let mut name = String::new();
            for letter in text[..end].chars() {
                if letter.is_uppercase() && !name.is_empty() {
                    name.push('-');
                }
                name.extend(letter.to_lowercase());
            }
            seen.insert((from, name, to));
        }
    });
}

pub(super) fn watch() {
    SEEN.set(Some(Walk::new()));
}

/// What was walked among these states: every pair of state and event, and the edges that change
/// the state.
fn walked(states: &[&str]) -> (BTreeSet<String>, BTreeSet<String>) {
    let seen = SEEN.take().expect("somebody watched");
    let of_machine = seen.iter().filter(|(from, ..)| states.contains(from));
    let pairs = of_machine
        .clone()
        .map(|(from, event, _)| format!("{from} {event}"));
    let edges = of_machine.filter(|(from, _, to)| from != to);
    let edges = edges.map(|(from, event, to)| format!("{from} --{event}--> {to}"));
    (pairs.collect(), edges.collect())
}

/// The edges that the head of a machine's source draws.
fn drawn(source: &str) -> BTreeSet<String> {
    let lines = source.lines().filter_map(|line| line.strip_prefix("//! "));
    let edge = |line: &str| {
        let mut words = line.split_whitespace();
        let (from, arrow, to) = (words.next()?, words.next()?, words.next()?);
        let is_edge = arrow.starts_with("--") && arrow.ends_with("-->");
        is_edge.then(|| format!("{from} {arrow} {to}"))
    };
    lines.filter_map(edge).collect()
}

pub(super) fn assert_drawn(source: &str, states: &[&str], events: &[&str]) {
    let (pairs, edges) = walked(states);
    let all = states
        .iter()
        .flat_map(|state| events.iter().map(move |event| format!("{state} {event}")));
    let missed: Vec<String> = all.filter(|pair| !pairs.contains(pair)).collect();
    assert!(missed.is_empty(), "no test visits {missed:#?}");
    let drawn = drawn(source);
    let unwalked: Vec<_> = drawn.difference(&edges).collect();
    let undrawn: Vec<_> = edges.difference(&drawn).collect();
    assert!(unwalked.is_empty(), "no test walks {unwalked:#?}");
    assert!(undrawn.is_empty(), "the head does not draw {undrawn:#?}");
}

pub(super) const REGENCY_STATES: [&str; 4] = ["steady", "stopping", "awaiting", "collecting"];

/// One member of four, alone with what the test tells it.
pub(super) struct Alone {
    pub(super) world: World,
    pub(super) own: usize,
}

impl Alone {
    /// The leader of regency 1, or that of regency 2.
    fn new(leads: bool) -> Self {
        let world = cleared(4);
        let turn = if leads { 1 } else { 2 };
        let own = world.view.leader(Regency(turn)).index();
        Self { world, own }
    }

    pub(super) fn in_state(state: &str, leads: bool) -> Self {
        let mut alone = Self::new(leads);
        match state {
            "stopping" => alone.give_up(),
            "awaiting" => alone.others_ask(if leads { 2 } else { 1 }),
            "collecting" => alone.others_ask(if leads { 1 } else { 2 }),
            _ => {}
        }
        assert_eq!(alone.state(), state);
        alone
    }

    fn state(&self) -> &'static str {
        self.world.nodes[self.own].regency_state()
    }

    fn tell(&mut self, event: &regency::Event) {
        let node = &mut self.world.nodes[self.own];
        node.change(self.world.now, event, &mut Outbox::new());
    }

    fn others(&self) -> impl Iterator<Item = Seat> + use<> {
        let own = self.own;
        (0..4).filter(move |i| *i != own).map(seat)
    }

    /// Both halves of the timer run out.
    fn give_up(&mut self) {
        let regency = self.world.nodes[self.own].regency().0;
        self.tell(&regency::Event::Work(true));
        self.tell(&regency::Event::Timeout(regency));
        self.tell(&regency::Event::Timeout(regency));
    }

    /// Two others ask, so with us q do.
    fn others_ask(&mut self, regency: u64) {
        for other in self.others().take(2) {
            self.tell(&regency::Event::Stop(other, Regency(regency)));
        }
    }

    /// Two others ask while we cannot join: what they want lacks only our word.
    fn others_insist(&mut self) {
        let voter = self.world.nodes[self.own].core.voter.take();
        for other in self.others().take(2) {
            self.tell(&regency::Event::Stop(other, Regency(1)));
        }
        self.world.nodes[self.own].core.voter = voter;
    }

    /// Two others ask again for what we asked for so long ago that our own word is out of date.
    fn others_ask_late(&mut self, regency: u64) {
        self.give_up();
        self.world.now = self.world.now + Span::from_ms(60_000);
        self.others_ask(regency);
    }

    fn others_claim(&mut self, regency: u64) {
        for other in self.others().take(2) {
            let data = claims_of(&self.world.view, other.index(), regency);
            self.tell(&regency::Event::StopData(data, Vec::new()));
        }
    }

    fn others_are_ahead(&mut self) {
        let core = &mut self.world.nodes[self.own].core;
        for other in (0..4).filter(|i| *i != self.own) {
            let mut status = core.status(false);
            status.decided = core.decided.plus(5);
            core.heard.insert(seat(other), status);
        }
    }
}

/// A committee whose members have told each other what they hold.
fn cleared(n: usize) -> World {
    let mut world = World::new(n, 1);
    (0..n * n * 8).for_each(|_| world.step());
    assert!(world.nodes.iter().all(|node| node.core.is_cleared()));
    world
}

pub(super) fn seat(i: usize) -> Seat {
    Seat(u16::try_from(i).expect("small"))
}

fn claims_of(view: &View, i: usize, regency: u64) -> StopData {
    let mut voter = Voter::new(view, secret(i)).expect("a seat");
    let base = (Height(0), Digest::ZERO);
    let signed = voter.stop(Regency(regency), base, 1_000_000, vec![], vec![]);
    signed.expect("no claims").1
}

fn sync_of(view: &View, regency: u64) -> Sync {
    Sync {
        view: view.id(),
        regency: Regency(regency),
        set: (0..3).map(|i| claims_of(view, i, regency)).collect(),
        proofs: Vec::new(),
    }
}

fn regency_events(world: &World) -> Vec<regency::Event> {
    let view = &world.view;
    let mut events = vec![
        regency::Event::Stop(Seat(0), Regency(0)),
        regency::Event::StopData(claims_of(view, 0, 1), Vec::new()),
        regency::Event::Sync(sync_of(view, 4)),
        regency::Event::Progress(1, Span(0)),
        regency::Event::Work(false),
        regency::Event::Work(true),
        regency::Event::Resend,
        regency::Event::Lost,
    ];
    for regency in (0..3).map(Regency) {
        events.push(regency::Event::Timeout(regency));
        events.push(regency::Event::Complain(regency));
    }
    events
}

#[test]
fn every_pair_of_the_regency_machine_has_an_outcome_and_its_picture_is_true() {
    watch();
    let fresh = Alone::new(true);
    for event in regency_events(&fresh.world) {
        for state in REGENCY_STATES {
            for leads in [true, false] {
                Alone::in_state(state, leads).tell(&event);
            }
        }
    }
    for leads in [true, false] {
        // From steady, stopping, and each state of a change, into the next regency.
        Alone::in_state("steady", leads).others_ask(1);
        Alone::in_state("stopping", leads).others_ask(1);
        for (state, next) in [
            ("awaiting", 5),
            ("awaiting", 6),
            ("collecting", 5),
            ("collecting", 6),
        ] {
            Alone::in_state(state, leads).others_ask(next);
            let mut early = Alone::in_state(state, leads);
            early.others_claim(next);
            early.others_ask(next);
        }
        let mut early = Alone::in_state("stopping", leads);
        early.others_claim(1);
        early.others_ask(1);
        // What others still ask for needs only our word.
        let mut alone = Alone::new(leads);
        alone.others_insist();
        alone.give_up();
        let mut alone = Alone::new(leads);
        alone.others_insist();
        alone.tell(&regency::Event::Complain(Regency(0)));
        let mut alone = Alone::new(leads);
        slow_leader(&mut alone, true);
        slow_leader(&mut Alone::new(leads), false);
        leaderless(leads);
        laggards(leads);
        restarts(leads);
    }
    // Of seven, f + 1 are fewer than q less one.
    let world = cleared(7);
    let mut joins = Alone { world, own: 6 };
    for other in joins.others().take(3) {
        joins.tell(&regency::Event::Stop(other, Regency(1)));
    }
    assert_eq!(joins.state(), "stopping");
    let events = [
        "timeout",
        "complain",
        "stop",
        "stop-data",
        "sync",
        "progress",
        "work",
        "resend",
        "lost",
    ];
    assert_drawn(include_str!("../regency.rs"), &REGENCY_STATES, &events);
}

/// Orders fast with a backlog, then ever slower, until the guard has compared.
fn slow_leader(alone: &mut Alone, others_insist: bool) {
    let wait = Span::from_ms(120_000);
    for round in 0..400u64 {
        if alone.state() != "steady" {
            return;
        }
        alone.world.now = alone.world.now + Span::from_ms(if round < 200 { 100 } else { 900 });
        if others_insist {
            alone.others_insist();
        }
        alone.world.nodes[alone.own].core.slowest = Some(Span::from_ms(50));
        alone.tell(&regency::Event::Progress(100, wait));
    }
    panic!("the guard never complains");
}

/// A change under way that has no leader goes on to the next regency.
fn leaderless(leads: bool) {
    for (state, next) in [
        ("awaiting", 1),
        ("awaiting", 2),
        ("collecting", 1),
        ("collecting", 2),
    ] {
        for claims in [false, true] {
            let mut alone = Alone::in_state(state, leads);
            let regency = alone.world.nodes[alone.own].regency().0.0;
            if regency != next {
                continue;
            }
            if claims {
                alone.others_claim(next + 1);
            }
            alone.others_ask_late(next + 1);
            alone.give_up();
        }
    }
}

/// Who is behind f + 1 others complains of nobody.
fn laggards(leads: bool) {
    let mut alone = Alone::in_state("stopping", leads);
    alone.others_are_ahead();
    alone.give_up();
    let mut alone = Alone::in_state("steady", leads);
    alone.others_are_ahead();
    alone.give_up();
    assert_eq!(alone.state(), "steady", "who lags complains of nobody");
}

/// A restart in an installed regency goes on where it was.
fn restarts(leads: bool) {
    let mut alone = Alone::new(leads);
    let view = alone.world.view.clone();
    let mut voter = Voter::new(&view, secret(alone.own)).expect("a seat");
    let base = (Height(0), Digest::ZERO);
    let (_, data) = voter
        .stop(Regency(1), base, 7, vec![], vec![])
        .expect("claims");
    let resumed = Resumed {
        voter: Some(voter),
        certificate: None,
        applied: Height(0),
        payloads: vec![],
        decisions: vec![],
        is_fresh: false,
    };
    alone.world.nodes[alone.own] = Ordering::new(view.clone(), options(), resumed);
    let mut out = Outbox::new();
    let node = &mut alone.world.nodes[alone.own];
    node.handle(Time(0), Input::Command(Command::Start), &mut out);
    let leader = To::One(view.leader(Regency(1)));
    let says_again = out.drain().any(|output| {
        let Output::Send { to, message } = output else {
            return false;
        };
        to == leader && message == Message::StopData(data.clone(), vec![])
    });
    assert_eq!(says_again, !leads, "byte for byte, to the leader");
    assert_eq!(alone.state(), if leads { "collecting" } else { "awaiting" });
    if leads {
        alone.others_claim(1);
        assert_eq!(alone.state(), "steady", "a SYNC over what was said again");
    }
}

const NORMAL_STATES: [&str; 10] = [
    "initial",
    "recovering",
    "synchronising",
    "observer",
    "joining",
    "follower",
    "leader",
    "checkpointing",
    "failed",
    "wiped",
];

/// A member in a state of the normal machine.
fn normal_in(state: &str, leads: bool) -> Ordering {
    use normal::Event::{Change, Recovered, Settle, Start};
    let world = World::new(4, 1);
    let leader = world.view.leader(Regency(0)).index();
    let own = if leads { leader } else { (leader + 1) % 4 };
    let mut node = world.boot(own);
    let observes = [Start, Recovered, Change(Role::Unseated)];
    let tells: &[normal::Event] = match state {
        "initial" => &[],
        "recovering" => &[Start],
        "observer" => &observes,
        "joining" => &[
            Start,
            Recovered,
            Change(Role::Unseated),
            Change(Role::Invited),
        ],
        "failed" => &[Change(Role::Failed)],
        "wiped" => &[Change(Role::Wiped)],
        _ => &[Start, Recovered],
    };
    tells.iter().for_each(|event| tell(&mut node, event));
    if matches!(state, "follower" | "leader" | "checkpointing") {
        hear_quorum(&mut node);
        tell(&mut node, &Settle);
    }
    if state == "checkpointing" {
        tell(&mut node, &Change(Role::Checkpointing(true)));
    }
    let is_role = matches!(state, "follower" | "leader") && (state == "leader") != leads;
    assert!(is_role || node.state() == state, "{state} {}", node.state());
    node
}

fn tell(node: &mut Ordering, event: &normal::Event) {
    node.normal(Time(0), event, &mut Outbox::new());
}

fn hear_quorum(node: &mut Ordering) {
    for i in 0..4 {
        let nothing = held_nothing();
        node.core.recalled(seat(i), 1, &nothing);
        let status = Message::Status(node.core.status(false));
        let heard = Verified::vouch(status);
        tell(node, &normal::Event::Heard(seat(i), heard));
    }
}

#[test]
fn every_pair_of_the_normal_machine_has_an_outcome_and_its_picture_is_true() {
    watch();
    let payload = payload(Height(1), 1);
    let roles = [
        Role::Invited,
        Role::Unseated,
        Role::Checkpointing(true),
        Role::Checkpointing(false),
        Role::Failed,
        Role::Wiped,
    ];
    let mut events = vec![
        normal::Event::Start,
        normal::Event::Recovered,
        normal::Event::Settle,
        normal::Event::Propose(Height(1), payload.clone()),
        normal::Event::Checked(Height(1), payload.digest, true),
        normal::Event::Checked(Height(1), payload.digest, false),
        normal::Event::Resend,
    ];
    events.extend(roles.map(normal::Event::Change));
    for leads in [true, false] {
        for state in NORMAL_STATES {
            for event in &events {
                tell(&mut normal_in(state, leads), event);
            }
            hear_quorum(&mut normal_in(state, leads));
        }
        // The quorum was heard while nobody led, or the leader changed.
        let mut node = normal_in("synchronising", leads);
        for i in 0..4 {
            let (status, nothing) = (node.core.status(false), held_nothing());
            node.core.heard.insert(seat(i), status);
            node.core.recalled(seat(i), 1, &nothing);
        }
        tell(&mut node, &normal::Event::Settle);
        let mut node = normal_in(if leads { "leader" } else { "follower" }, leads);
        let next = if leads { 1 } else { turn_of(&node) };
        node.core.enter(Regency(next), true);
        tell(&mut node, &normal::Event::Settle);
        for wakes in [normal::Event::Settle, said(&node)] {
            let mut node = normal_in("synchronising", leads);
            node.core.voter = None;
            tell(&mut node, &wakes);
            tell(&mut lapsed(), &wakes);
        }
    }
    let names = [
        "start",
        "recovered",
        "settle",
        "heard",
        "propose",
        "checked",
        "resend",
        "change",
    ];
    assert_drawn(include_str!("../normal.rs"), &NORMAL_STATES, &names);
}

fn held_nothing() -> Held {
    Held {
        votes: vec![],
        stop_data: None,
    }
}

/// A member that knows from its log that the log was once rolled back.
fn lapsed() -> Ordering {
    let mut world = World::new(4, 1);
    let promise = Promised::StopData(Regency(1));
    let lapse = Lapse {
        holder: Seat(1),
        promise,
    };
    world.logs[0].push(Record::Voter(VoterRecord::Lapsed(lapse)));
    let mut node = world.boot(0);
    tell(&mut node, &normal::Event::Start);
    tell(&mut node, &normal::Event::Recovered);
    node
}

fn said(node: &Ordering) -> normal::Event {
    let status = Message::Status(node.core.status(false));
    normal::Event::Heard(Seat(0), Verified::vouch(status))
}

fn turn_of(node: &Ordering) -> u64 {
    let own = node.core.seat().expect("a seat");
    (1..)
        .find(|r| node.core.view.leader(Regency(*r)) == own)
        .expect("everybody has a turn")
}
