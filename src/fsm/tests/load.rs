//! Committees under load in virtual time: links, disks and executors with a capacity. What the
//! timers promise is measured here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use super::*;
use crate::committee::Kind;

const SECOND: u64 = 1_000_000;
const N: usize = 4;
/// Heights between block certificates.
const SEAL_EVERY: u64 = 4;

/// What a world is like; spans in microseconds.
#[derive(Clone, Copy)]
struct Setting {
    /// Transactions that clients submit in a second.
    rate: u64,
    /// Transactions that one member executes in a second.
    capacity: u64,
    /// Transactions in one block, at most.
    block_max: u64,
    delay_us: u64,
    sync_us: u64,
    /// How often members look at their pools.
    look_us: u64,
    pace: PaceOptions,
}

impl Setting {
    fn calm(rate: u64) -> Self {
        Self {
            rate,
            capacity: 1_000,
            block_max: 100,
            delay_us: 1_000,
            sync_us: 2_000,
            look_us: 2_000,
            pace: PaceOptions {
                first: Span::from_ms(1_000),
                least: Span::from_ms(10),
                most: Span::from_ms(60_000),
            },
        }
    }
}

impl Setting {
    /// One and a half times what can be executed.
    fn overloaded() -> Self {
        Self {
            look_us: 20_000,
            ..Self::calm(1_500)
        }
    }
}

enum What {
    Heard(usize, usize, Rc<Message>),
    Timer(usize, Timer, u64),
    Executed(usize, Height),
    Look(usize),
}

struct Entry(u64, u64, What);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct Member {
    ordering: Ordering,
    timers: BTreeMap<Timer, u64>,
    /// When everything written so far is durable.
    durable_at: u64,
    /// Transactions per height: decided here, and proposed here in this regency.
    decided: BTreeMap<Height, u64>,
    proposed: BTreeMap<Height, u64>,
    applied: Height,
    executes: bool,
    certified: Height,
    work: Work,
    is_down: bool,
    /// A leader that proposes once in so many microseconds.
    lazy_us: u64,
    proposed_at: u64,
}

struct Load {
    setting: Setting,
    view: View,
    now: u64,
    number: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    members: Vec<Member>,
    /// Transactions of each decided height, and all up to it.
    chain: BTreeMap<Height, u64>,
    certificates: BTreeMap<Height, Certificate>,
    /// When each regency began, at the first member that installed it.
    regencies: BTreeMap<Regency, u64>,
    /// When something was applied at the member that is ahead, and how long its oldest had waited.
    steps: Vec<(u64, u64)>,
}

impl Load {
    fn new(setting: Setting) -> Self {
        let world = World::new(N, 1);
        let members = (0..N).map(|i| Member {
            ordering: {
                let resumed = Resumed {
                    voter: Voter::new(&world.view, secret(i)),
                    certificate: None,
                    applied: Height(0),
                    payloads: vec![],
                    decisions: vec![],
                    is_fresh: false,
                };
                let options = Options {
                    window: 4,
                    ahead_max: 8,
                    resend: Span((setting.delay_us * 4).max(50_000)),
                    pace: setting.pace,
                };
                Ordering::new(world.view.clone(), options, resumed)
            },
            timers: BTreeMap::new(),
            durable_at: 0,
            decided: BTreeMap::new(),
            proposed: BTreeMap::new(),
            applied: Height(0),
            executes: false,
            certified: Height(0),
            work: Work::default(),
            is_down: false,
            lazy_us: 0,
            proposed_at: 0,
        });
        let mut load = Self {
            setting,
            members: members.collect(),
            view: world.view,
            now: 0,
            number: 0,
            queue: BinaryHeap::new(),
            chain: BTreeMap::new(),
            certificates: BTreeMap::new(),
            regencies: BTreeMap::new(),
            steps: Vec::new(),
        };
        for i in 0..N {
            load.input(i, Input::Command(Command::Start));
            // Members look at different times.
            load.later(setting.look_us * i as u64 / 3, What::Look(i));
        }
        load
    }

    fn later(&mut self, after: u64, what: What) {
        self.number += 1;
        let entry = Entry(self.now + after, self.number, what);
        self.queue.push(Reverse(entry));
    }

    fn run_for(&mut self, us: u64) {
        let until = self.now + us;
        while let Some(Reverse(Entry(at, ..))) = self.queue.peek()
            && *at <= until
        {
            let Reverse(Entry(at, _, what)) = self.queue.pop().expect("it was looked at");
            self.now = at;
            self.happen(what);
        }
        self.now = until;
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Heard(to, from, message) => {
                let message = Verified::vouch((*message).clone());
                let from = Seat(u16::try_from(from).expect("small"));
                self.input(to, Input::Message { from, message });
            }
            What::Timer(i, timer, number) => {
                if self.members[i].timers.get(&timer) == Some(&number) {
                    self.members[i].timers.remove(&timer);
                    self.input(i, Input::Timer(timer));
                }
            }
            What::Executed(i, height) => {
                let member = &mut self.members[i];
                member.executes = false;
                if member.applied.next() == height {
                    member.applied = height;
                    member.work.ordered += member.decided[&height];
                    self.note_step(height);
                    self.certify();
                    self.look(i);
                }
            }
            What::Look(i) => {
                self.look(i);
                self.later(self.setting.look_us, What::Look(i));
            }
        }
    }

    fn note_step(&mut self, height: Height) {
        let applied = self.members.iter().map(|member| member.applied).max();
        let first = self.members.iter().filter(|m| m.applied == height).count() == 1;
        if applied == Some(height) && first {
            let before = self.total(Height(height.0 - 1));
            let waited = self.now.saturating_sub(self.arrival(before));
            self.steps.push((self.now, waited));
        }
    }

    fn total(&self, height: Height) -> u64 {
        self.chain
            .range(..=height)
            .next_back()
            .map_or(0, |(_, total)| *total)
    }

    /// When the transaction after the first `count` arrived.
    fn arrival(&self, count: u64) -> u64 {
        count * SECOND / self.setting.rate
    }

    /// Blocks that a quorum has applied are certified, every so often.
    fn certify(&mut self) {
        let mut applied: Vec<Height> = self.members.iter().map(|m| m.applied).collect();
        applied.sort_unstable();
        let reached = applied[N - self.view.sizes().q].0 / SEAL_EVERY * SEAL_EVERY;
        if reached > 0 && !self.certificates.contains_key(&Height(reached)) {
            let height = Height(reached);
            let digest = Digest::of(Domain::Proposal, &reached.to_le_bytes());
            let certificate = votes_of(&self.view, Kind::Persist, Regency(0), height, digest);
            self.certificates = BTreeMap::from([(height, certificate)]);
        }
    }

    /// What the replica does after every input: apply, certify, tell what waits, propose.
    fn look(&mut self, i: usize) {
        if self.members[i].is_down {
            return;
        }
        let newest = self.certificates.last_key_value();
        let newest = newest.map(|(height, certificate)| (*height, certificate.clone()));
        if let Some((height, certificate)) = newest {
            let member = &mut self.members[i];
            let is_stalled = member.durable_at > self.now + SECOND;
            if height > member.ordering.decided() && !is_stalled {
                // Blocks are fetched.
                member.applied = height;
                member.work.ordered += 1;
            }
            if height > member.certified && height <= member.applied {
                member.certified = height;
                let applied = member.applied;
                self.input(i, Input::Command(Command::Certified(certificate, applied)));
            }
        }
        self.execute(i);
        self.tell(i);
        self.propose(i);
    }

    fn execute(&mut self, i: usize) {
        let member = &mut self.members[i];
        let next = member.applied.next();
        let Some(count) = member.decided.get(&next).filter(|_| !member.executes) else {
            return;
        };
        let takes = count * SECOND / self.setting.capacity;
        let waits = member.durable_at.saturating_sub(self.now);
        member.executes = true;
        self.later(waits + takes, What::Executed(i, next));
    }

    fn arrived(&self) -> u64 {
        // The transactions have been spread for a while before they count as work.
        let spread = 3 * self.setting.delay_us + self.setting.sync_us;
        self.now.saturating_sub(spread) * self.setting.rate / SECOND
    }

    fn tell(&mut self, i: usize) {
        let (arrived, done) = (self.arrived(), self.total(self.members[i].applied));
        let oldest = self.now.saturating_sub(self.arrival(done));
        let member = &mut self.members[i];
        member.work.is_due = arrived > done || member.ordering.has_open();
        member.work.oldest = Span(if arrived > done { oldest } else { 0 });
        let work = member.work;
        self.input(i, Input::Command(Command::Work(work)));
    }

    fn propose(&mut self, i: usize) {
        while let Some((height, _)) = self.members[i].ordering.next_height() {
            let member = &self.members[i];
            let applied = self.total(member.applied);
            let above = member.applied.next()..;
            let mut taken = member
                .decided
                .range(above.clone())
                .map(|(h, c)| (*h, *c))
                .collect::<BTreeMap<_, _>>();
            taken.extend(member.proposed.range(above).map(|(h, c)| (*h, *c)));
            let waits = self
                .arrived()
                .saturating_sub(applied + taken.values().sum::<u64>());
            let is_lazy = self.now < member.proposed_at + member.lazy_us;
            if waits == 0 || is_lazy {
                return;
            }
            let count = waits.min(self.setting.block_max);
            let member = &mut self.members[i];
            member.proposed.insert(height, count);
            member.proposed_at = self.now;
            let payload = payload(height, self.now * 1_000 + count);
            self.input(i, Input::Command(Command::Propose(height, payload)));
        }
    }

    fn input(&mut self, i: usize, input: Input<Ordering>) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            if self.members[i].is_down {
                return;
            }
            let mut out = Outbox::new();
            self.members[i]
                .ordering
                .handle(Time(self.now + SECOND), input, &mut out);
            let mut is_saved = false;
            for output in out.drain() {
                match output {
                    Output::Save(_) if is_saved => {}
                    Output::Save(_) => {
                        is_saved = true;
                        let (member, now) = (&mut self.members[i], self.now);
                        // A sync takes in what came while the last one ran.
                        let begins = member.durable_at.max(now);
                        let is_running = begins > now;
                        member.durable_at = match is_running {
                            true => begins.max(now + self.setting.sync_us),
                            false => now + self.setting.sync_us,
                        };
                    }
                    Output::Send { to, message } => self.send(i, to, message),
                    Output::Arm { timer, after } => {
                        self.number += 1;
                        let number = self.number;
                        self.members[i].timers.insert(timer, number);
                        self.later(after.0, What::Timer(i, timer, number));
                    }
                    Output::Cancel(timer) => drop(self.members[i].timers.remove(&timer)),
                    Output::Emit(event) => inputs.extend(self.on_event(i, event)),
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: To<Seat>, message: Message) {
        let message = Rc::new(message);
        let peers: Vec<usize> = match to {
            To::One(seat) => vec![seat.index()],
            To::Committee | To::Members => (0..N).filter(|i| *i != from).collect(),
        };
        let waits = self.members[from].durable_at.saturating_sub(self.now);
        for peer in peers {
            let what = What::Heard(peer, from, Rc::clone(&message));
            self.later(waits + self.setting.delay_us, what);
        }
    }

    fn on_event(&mut self, i: usize, event: Event) -> Option<Input<Ordering>> {
        match event {
            Event::Check(height, payload) => {
                let checked = Command::Checked(height, payload.digest, true);
                return Some(Input::Command(checked));
            }
            Event::Decided(height, payload, _) => {
                let text = std::str::from_utf8(&payload.bytes).expect("text");
                let content = text.split('/').nth(1).expect("two parts");
                let count = content.parse::<u64>().expect("a number") % 1_000;
                self.members[i].decided.insert(height, count);
                while let Some(next) = Some(Height(self.chain.len() as u64 + 1))
                    && let Some(count) = self.members[i].decided.get(&next)
                {
                    let total = self.total(next) + count;
                    self.chain.insert(next, total);
                }
            }
            Event::Regency(regency, _) => {
                self.members[i].proposed.clear();
                self.regencies.entry(regency).or_insert(self.now);
            }
            Event::Fault(seat, votes) => panic!("no one is faulty, yet {seat} {votes:?}"),
            Event::Split(height) => panic!("split at {height}"),
            Event::Lapsed(lapse) => panic!("no log was cut, yet {lapse:?}"),
            Event::Ordered(_) | Event::Behind(_) => {}
        }
        None
    }

    fn leader(&self) -> usize {
        let known = self.members.iter().filter(|m| !m.is_down);
        let newest = known.map(|m| m.ordering.regency()).max_by_key(|(r, _)| *r);
        newest.expect("somebody is up").1.index()
    }

    fn changes(&self) -> u64 {
        self.regencies.keys().last().map_or(0, |regency| regency.0)
    }

    fn ordered(&self) -> u64 {
        self.chain.values().last().copied().unwrap_or_default()
    }

    fn timeouts(&self) -> Vec<u64> {
        let up = self.members.iter().filter(|m| !m.is_down);
        up.map(|m| m.ordering.timeout().0 / 1_000).collect()
    }
}

/// (a) A starting timeout far below what a block takes, at 150 % of what can be executed:
/// Tmin = 1 ms, Tmax = 60 s, a sync takes 2 ms, a full block 100 ms.
#[test]
fn a_timeout_of_a_millisecond_converges_at_one_and_a_half_times_the_capacity() {
    let mut setting = Setting::overloaded();
    setting.pace = PaceOptions {
        first: Span::from_ms(1),
        least: Span::from_ms(1),
        most: Span::from_ms(60_000),
    };
    let mut load = Load::new(setting);
    load.run_for(10 * SECOND);
    let (changes, regencies) = (load.changes(), load.regencies.clone());
    // log2(60000) + f + 1, rounded down.
    assert!(changes <= 17, "{regencies:?}");
    load.run_for(590 * SECOND);
    assert_eq!(load.changes(), changes, "then none: {:?}", load.regencies);
    let mut constant = setting;
    constant.pace.first = setting.pace.most;
    constant.pace.least = setting.pace.most;
    let mut best = Load::new(constant);
    best.run_for(600 * SECOND);
    let (got, most) = (load.ordered(), best.ordered());
    assert!(got * 100 >= most * 95, "{got} of {most}");
    println!(
        "(a) {changes} changes, {got} of {most}, T {:?} ms",
        load.timeouts()
    );
}

/// (b) f leaders that propose just often enough to keep the timer quiet.
#[test]
fn a_leader_that_is_slow_on_purpose_does_not_cost_a_fifth() {
    let mut best = Load::new(Setting::overloaded());
    best.run_for(600 * SECOND);
    let mut load = Load::new(Setting::overloaded());
    let lazy = load.view.leader(Regency(1)).index();
    load.members[lazy].lazy_us = SECOND / 2;
    load.run_for(20 * SECOND);
    // Its turn comes.
    for i in 0..N {
        load.input(i, Input::Command(Command::Complain(Regency(0))));
    }
    load.run_for(SECOND);
    assert_eq!(load.leader(), lazy);
    load.run_for(579 * SECOND);
    assert_ne!(load.leader(), lazy, "{:?}", load.regencies);
    let (got, most) = (load.ordered(), best.ordered());
    assert!(
        got * 100 >= most * 80,
        "{got} of {most}: {:?}",
        load.regencies
    );
    assert!(load.changes() <= 6, "{:?}", load.regencies);
    println!("(b) {got} of {most}, {:?}", load.regencies);
}

/// (c) A leader dies under steady load: Tmin = 50 ms, a sync takes 2 ms, a link 1 ms.
#[test]
fn a_dead_leader_is_replaced_within_two_timeouts_and_they_are_short() {
    let mut waits = Vec::new();
    for phase in 0..5 {
        let mut setting = Setting::calm(250);
        setting.pace.least = Span::from_ms(50);
        let mut load = Load::new(setting);
        load.run_for(10 * SECOND + phase * 13_777);
        let mut laps: Vec<u64> = load.steps.iter().rev().take(200).map(|s| s.1).collect();
        laps.sort_unstable();
        let p99 = laps[laps.len() * 99 / 100];
        let most = load.timeouts().into_iter().max().expect("four") * 1_000;
        assert!(most <= 5 * p99, "T {most} us, p99 {p99} us");
        assert_eq!(load.changes(), 0);
        let leader = load.leader();
        load.members[leader].is_down = true;
        let died = load.now;
        load.run_for(2 * SECOND);
        assert_eq!(load.changes(), 1, "{:?}", load.regencies);
        let began = load.regencies[&Regency(1)];
        let next = load
            .steps
            .iter()
            .find(|(at, _)| *at > began)
            .expect("it goes on")
            .0;
        assert!(next - died <= 2 * most, "{} us, T {most} us", next - died);
        waits.push((next - died) / 1_000);
    }
    waits.sort_unstable();
    println!("(c) next commit after {waits:?} ms");
}

/// (d) Links become two hundred times slower, from one moment to the next.
#[test]
fn links_that_become_slow_at_once_cost_two_changes_at_most() {
    let mut load = Load::new(Setting {
        delay_us: 500,
        ..Setting::calm(500)
    });
    load.run_for(30 * SECOND);
    assert_eq!(load.changes(), 0);
    load.setting.delay_us = 100_000;
    load.run_for(60 * SECOND);
    assert!(
        load.changes() <= 2,
        "{:?} T {:?}",
        load.regencies,
        load.timeouts()
    );
    println!("(d) {:?}, T {:?} ms", load.regencies, load.timeouts());
}

/// (e) The disk of one follower stands still for half a minute.
#[test]
fn a_follower_whose_disk_stalls_changes_no_leader() {
    let mut load = Load::new(Setting::calm(500));
    load.run_for(10 * SECOND);
    let follower = (load.leader() + 1) % N;
    load.members[follower].durable_at = load.now + 30 * SECOND;
    load.run_for(60 * SECOND);
    assert_eq!(load.changes(), 0, "{:?}", load.regencies);
}

/// A complaint is a word like any other: f + 1 are needed, and one regency hears it once.
#[test]
fn complaints_count_like_timeouts_and_one_alone_is_harmless() {
    let mut load = Load::new(Setting::calm(500));
    load.run_for(5 * SECOND);
    let complain = |regency| Input::Command(Command::Complain(Regency(regency)));
    load.input(1, complain(0));
    load.run_for(SECOND / 100);
    assert_eq!(load.members[1].ordering.regency_state(), "stopping");
    load.input(1, complain(0));
    load.run_for(20 * SECOND);
    assert_eq!(
        load.members[1].ordering.regency_state(),
        "steady",
        "taken back at last"
    );
    load.input(1, complain(0));
    load.input(2, complain(0));
    load.run_for(5 * SECOND);
    assert_eq!(load.changes(), 0, "the first has had its say");
    load.input(2, complain(0));
    load.input(3, complain(0));
    load.input(0, complain(0));
    load.run_for(5 * SECOND);
    assert_eq!(load.changes(), 1);
    load.input(0, complain(0));
    load.input(2, complain(0));
    load.input(3, complain(0));
    load.run_for(5 * SECOND);
    assert_eq!(
        load.changes(),
        1,
        "complaints of a regency that ended are harmless"
    );
}

/// A member that cannot hear the leader asks alone, again and again; its words never add up.
#[test]
fn words_of_different_times_never_add_up() {
    let mut stops = super::super::stops::Stops::new(Span::from_ms(100));
    stops.hear(Seat(1), Regency(1), Time(0));
    stops.hear(Seat(2), Regency(1), Time(500_000));
    let at = |ms: u64| Time(ms * 1_000);
    assert_eq!(stops.wanted_by(2, None, at(800)), Regency(1));
    assert_eq!(
        stops.wanted_by(2, None, at(801)),
        Regency(0),
        "the first is out of date"
    );
    stops.hear(Seat(1), Regency(1), at(900));
    assert_eq!(stops.wanted_by(2, None, at(900)), Regency(1));
    stops.hear(Seat(2), Regency(0), at(900));
    assert_eq!(stops.wanted_by(2, None, at(900)), Regency(0), "taken back");
    assert_eq!(stops.wanted_by(1, Some(Seat(1)), at(900)), Regency(0));
}
