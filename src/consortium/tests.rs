//! Four replicas in a row of instants: what the simulator found, each as a test of its own.

mod checkpoints;
#[cfg(feature = "threshold")]
mod draw;
mod losses;
mod newcomers;
mod settled;
mod snapshots;
mod views;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::message::BeaconPart;
use super::replica::Restored;
use super::*;
use crate::blocks::{
    BatchRef, Body, CheckedBatch, CheckpointRules, FORMAT_VERSION, Founder, Genesis, Group,
    Parameters, Proposal, SignedGroup, Transaction, ViewRules,
};
use crate::committee::{Certificate, Height, KeyProof, MemberId, ViewId, Voter};
use crate::crypto::{Digest, SecretKey, Verified, Verifier};
use crate::fsm::{self, PaceOptions};
use crate::machine::{Input, Machine, Outbox, Output, Span, Time, To};
use crate::membership::OverlayInput;
use crate::membership::register::{Register, Stage};

const WORLD: Digest = Digest([7; 32]);

fn secret(kind: u8, n: usize) -> SecretKey {
    let n = u8::try_from(n).expect("few members");
    SecretKey::simulated([kind * 16 + n; 32], WORLD)
}

thread_local! {
    /// The rules of views in this test's ledger; each test has a thread.
    static RULES: Cell<ViewRules> = Cell::default();
    /// When checkpoints are due there.
    static CHECKPOINTS: Cell<CheckpointRules> = Cell::default();
    /// How many members it has.
    static MEMBERS: Cell<usize> = const { Cell::new(4) };
}

fn members() -> usize {
    MEMBERS.get()
}

fn genesis() -> Genesis {
    let founders = (0..members()).map(|n| {
        let (identity, consensus) = (secret(1, n), secret(2, n));
        let zero = Digest::ZERO;
        Founder {
            name: format!("member-{n}"),
            identity: identity.public(),
            consensus: Some(KeyProof::make(
                &zero,
                ViewId(0),
                &zero,
                &identity,
                &consensus,
            )),
            address: String::new(),
        }
    });
    Genesis {
        version: FORMAT_VERSION,
        name: "bench".into(),
        founded_us: 1,
        parameters: Parameters {
            views: RULES.get(),
            checkpoints: CHECKPOINTS.get(),
            ..Parameters::default()
        },
        founders: founders.collect(),
        successor_of: None,
    }
}

fn id(n: usize) -> MemberId {
    MemberId::of(&secret(1, n).public())
}

fn options(n: usize) -> Options {
    Options {
        me: id(n),
        genesis: genesis(),
        verifier: Verifier::simulated(WORLD),
        identity: secret(1, n),
        overlay: "full-gossip".into(),
        seed: [7; 32],
        first_counter: 0,
        pace: PaceOptions {
            first: Span::from_ms(2_000),
            least: Span::from_ms(500),
            most: Span::from_ms(60_000),
        },
        resend: Span::from_ms(100),
        makes_keys: true,
    }
}

fn fresh(n: usize) -> Restored {
    let view = genesis().view().expect("a view");
    Restored {
        view: view.clone(),
        opened: None,
        ending: None,
        ledger: Ledger::genesis(&genesis()),
        voter: Voter::new(&view, secret(2, n)),
        certificate: None,
        recent: Vec::new(),
        payloads: Vec::new(),
        decisions: Vec::new(),
        journal: Vec::new(),
        faults: Vec::new(),
        batches: Vec::new(),
    }
}

fn submission(sequence: u64) -> Verified<(SignedGroup, Group)> {
    submission_of(sequence, Bytes::from_static(b"echo"))
}

fn submission_of(sequence: u64, operation: Bytes) -> Verified<(SignedGroup, Group)> {
    submission_by(0, sequence, operation)
}

fn submission_by(who: usize, sequence: u64, operation: Bytes) -> Verified<(SignedGroup, Group)> {
    submission_signed(&secret(3, who), sequence, operation)
}

fn submission_signed(
    client: &SecretKey,
    sequence: u64,
    operation: Bytes,
) -> Verified<(SignedGroup, Group)> {
    let transactions = vec![Transaction {
        sequence,
        expiry: Height(1_000),
        operation,
    }];
    let signed = SignedGroup::sign(&genesis().chain(), client, &transactions);
    let group = Group {
        client: signed.client,
        digest: signed.digest(),
        transactions,
    };
    Verified::vouch((signed, group))
}

/// The batch of one group.
fn checked(group: SignedGroup) -> Verified<CheckedBatch> {
    let groups = vec![group];
    let bytes = crate::blocks::codec::encode(&crate::blocks::Batch { groups });
    let (bounds, verifier) = (genesis().parameters.bounds(), Verifier::simulated(WORLD));
    let batch = CheckedBatch::verify(bytes.into(), &genesis().chain(), &bounds, &verifier);
    batch.expect("a good batch")
}

/// What a replica saved, to serve from.
struct Kept<'a>(&'a [Record]);

impl serve::Archive for Kept<'_> {
    fn block(&self, height: Height) -> Option<Block> {
        self.0.iter().find_map(|record| {
            let Record::Block(block) = record else {
                return None;
            };
            (block.header.height == height).then(|| block.clone())
        })
    }

    fn certificate_at_or_after(&self, height: Height) -> Option<Certificate> {
        self.0.iter().find_map(|record| {
            let Record::Certificate(certificate) = record else {
                return None;
            };
            (certificate.ballot.height >= height).then(|| certificate.clone())
        })
    }

    fn batch(&self, digest: &Digest) -> Option<Bytes> {
        self.0.iter().find_map(|record| {
            let Record::Batch(bytes) = record else {
                return None;
            };
            let named = Digest::of(crate::crypto::Domain::Batch, bytes);
            (named == *digest).then(|| bytes.clone())
        })
    }
}

/// Replicas whose saves are durable at once and whose application echoes.
struct Bench {
    now: Time,
    replicas: Vec<Consortium>,
    frames: VecDeque<(usize, usize, Message)>,
    timers: Vec<BTreeMap<Timer, Time>>,
    records: Vec<Vec<Record>>,
    /// Links that carry nothing: to or from these members.
    cut: Vec<usize>,
    executes: bool,
    /// A member that is deaf to the batches of another, whoever sends them.
    censor: Option<(usize, usize)>,
    censored: BTreeSet<Digest>,
    /// Each member's consensus keys: that of view 0 and those made for later ones.
    keys: Vec<Vec<SecretKey>>,
    /// Who makes no key when it is asked to.
    keyless: BTreeSet<usize>,
    /// Members that give another's fresh key for their own.
    shared: BTreeMap<usize, usize>,
    /// Members that give the key of their seat once more.
    stale: BTreeSet<usize>,
    /// Batches that each member sent, since somebody looked.
    spread: Vec<BTreeSet<Digest>>,
    /// Whether shares of beacons are lost; here they are then.
    mute: bool,
    shares: BTreeMap<u16, Bytes>,
    /// Steps of key generations that were seen.
    stages: BTreeSet<Stage>,
}

impl Bench {
    fn new(restored: impl Fn(usize) -> Restored) -> Self {
        let replica = |n| Consortium::new(options(n), restored(n), Time(0)).expect("a view");
        let mut bench = Self {
            now: Time(0),
            replicas: (0..members()).map(replica).collect(),
            frames: VecDeque::new(),
            timers: vec![BTreeMap::new(); members()],
            records: vec![Vec::new(); members()],
            cut: Vec::new(),
            executes: true,
            censor: None,
            censored: BTreeSet::new(),
            keys: (0..members()).map(|n| vec![secret(2, n)]).collect(),
            keyless: BTreeSet::new(),
            shared: BTreeMap::new(),
            stale: BTreeSet::new(),
            spread: vec![BTreeSet::new(); members()],
            mute: false,
            shares: BTreeMap::new(),
            stages: BTreeSet::new(),
        };
        for n in 0..members() {
            bench.input(n, Input::Command(Command::Start));
        }
        bench.deliver();
        bench
    }

    fn input(&mut self, n: usize, input: Input<Consortium>) {
        let mut out = Outbox::new();
        self.replicas[n].handle(self.now, input, &mut out);
        for output in out.drain() {
            match output {
                Output::Save(record) => self.records[n].push(record),
                Output::Send { to, message } => {
                    if let Message::Batch(bytes) = &message {
                        let digest = Digest::of(crate::crypto::Domain::Batch, bytes);
                        self.spread[n].insert(digest);
                    }
                    let to = |other: &usize| match to {
                        To::One(member) => id(*other) == member,
                        To::Committee | To::Members => *other != n,
                    };
                    let sent = (0..members())
                        .filter(to)
                        .map(|other| (n, other, message.clone()));
                    self.frames.extend(sent);
                }
                Output::Arm { timer, after } => {
                    self.timers[n].insert(timer, self.now + after);
                }
                Output::Cancel(timer) => drop(self.timers[n].remove(&timer)),
                Output::Emit(event) => self.event(n, event),
            }
        }
    }

    fn event(&mut self, n: usize, event: Event) {
        if let Event::Serve(member, wanted) = &event {
            let answers = serve::answer(&Kept(&self.records[n]), wanted);
            let to = (0..members())
                .find(|to| id(*to) == *member)
                .expect("a member");
            self.frames
                .extend(answers.into_iter().map(|answer| (n, to, answer)));
        }
        let block = match event {
            Event::Execute(block) => block,
            Event::Applied(applied) => return self.generate(n, &applied),
            Event::MakeKey(call) if !self.keyless.contains(&n) => return self.make_key(n, call),
            Event::View(view) => return self.step_over(n, &view),
            Event::MakeKey(_) | Event::Serve(..) | Event::Changed(_) => return,
            Event::Submitted(..) | Event::Ordered(..) => return,
            Event::Certified(_) | Event::Snapshot(_) => return,
            Event::Resaved(..) | Event::Settled(_) => return,
            Event::Anchored(..) | Event::TooFar | Event::Shorter => return,
        };
        let outcomes = block
            .operations
            .into_iter()
            .map(|bytes| Outcome { code: 0, bytes });
        let execution = Execution {
            height: block.height,
            outcomes: outcomes.collect(),
            state: None,
        };
        if self.executes {
            self.input(n, Input::Command(Command::Executed(execution)));
        }
    }

    /// Without the feature no threshold key is made.
    #[cfg(not(feature = "threshold"))]
    fn generate(&mut self, _: usize, _: &Applied) {
        self.stages.clear();
    }

    fn deliver(&mut self) {
        let mut frames = 0;
        while let Some((from, to, message)) = self.frames.pop_front() {
            frames += 1;
            assert!(frames < 10_000, "members answer each other without end");
            if self.cut.contains(&from) || self.cut.contains(&to) {
                continue;
            }
            if let (true, Message::Beacon(_, part)) = (self.mute, &message) {
                let seat = self.replicas[to].view().seat_of(&id(from));
                if let BeaconPart::Share(share) = part {
                    self.shares.insert(seat.expect("a seat").0, share.clone());
                }
                continue;
            }
            if self.is_censored(from, to, &message) {
                continue;
            }
            let heard = self.replicas[to]
                .ears()
                .hear(&id(from), &message.to_bytes());
            if let Err(HearError::OtherView { got }) = heard {
                self.input(to, Input::Command(Command::Elsewhere(id(from), got)));
                continue;
            }
            if heard.as_ref().is_err_and(HearError::is_innocent) {
                continue; // Around a hand-over.
            }
            let message = heard.expect("correct members say nothing wrong");
            let from = id(from);
            self.input(to, Input::Message { from, message });
        }
    }

    fn is_censored(&mut self, from: usize, to: usize, message: &Message) -> bool {
        let (Some((censor, origin)), Message::Batch(bytes)) = (self.censor, message) else {
            return false;
        };
        let digest = Digest::of(crate::crypto::Domain::Batch, bytes);
        if from == origin {
            self.censored.insert(digest);
        }
        to == censor && self.censored.contains(&digest)
    }

    /// Lets `ms` pass, timers and frames among it.
    fn pass(&mut self, ms: u64) {
        let until = self.now + Span::from_ms(ms);
        self.deliver();
        loop {
            let due = self
                .timers
                .iter()
                .enumerate()
                .flat_map(|(n, timers)| timers.iter().map(move |(timer, at)| (*at, n, *timer)));
            let Some((at, n, timer)) = due.min().filter(|(at, ..)| *at <= until) else {
                break;
            };
            self.timers[n].remove(&timer);
            self.now = at.max(self.now);
            self.input(n, Input::Timer(timer));
            self.deliver();
        }
        self.now = until;
    }

    fn submit(&mut self, n: usize, sequence: u64) {
        self.input(n, Input::Command(Command::Submit(submission(sequence))));
    }

    /// The links of `n` to everybody but those who are cut stand again.
    fn connect(&mut self, n: usize) {
        let live = (0..members()).filter(|other| *other != n && !self.cut.contains(other));
        for other in live.collect::<Vec<_>>() {
            self.input(n, Input::Command(Command::Connected(id(other))));
            self.input(other, Input::Command(Command::Connected(id(n))));
        }
    }

    fn follower(&self) -> usize {
        let leads = |n: &usize| self.replicas[*n].overview().role == "leader";
        let leader = (0..members()).find(leads).expect("somebody leads");
        (leader + 1) % 4
    }

    fn assert_certified(&self, height: u64) {
        for replica in &self.replicas {
            let at = replica.overview();
            assert_eq!((at.height, at.certified), (Height(height), Height(height)));
        }
    }
}

#[test]
fn a_group_is_ordered_executed_and_certified_by_all() {
    for member in 0..4 {
        let mut bench = Bench::new(fresh);
        bench.submit(member, 1);
        bench.pass(100);
        bench.assert_certified(1);
    }
}

#[test]
fn a_member_without_a_seat_asks_no_seat() {
    let observer = Options {
        me: id(9),
        ..options(0)
    };
    let restored = Restored {
        voter: None,
        ..fresh(0)
    };
    let mut replica = Consortium::new(observer, restored, Time(0)).expect("a view");
    let mut out = Outbox::new();
    replica.handle(Time(0), Input::Command(Command::Start), &mut out);
    let says_order = |output: &Output<Consortium>| {
        matches!(
            output,
            Output::Send {
                message: Message::Order(_),
                ..
            }
        )
    };
    assert!(!out.as_slice().iter().any(says_order));
    assert_eq!(replica.overview().state, "observer");
}

#[test]
fn a_lost_batch_is_spread_again() {
    let mut bench = Bench::new(fresh);
    let follower = bench.follower();
    bench.submit(follower, 1);
    bench.cut = vec![follower];
    bench.pass(50);
    bench.cut.clear();
    bench.pass(1_500);
    bench.assert_certified(1);
    assert_eq!(
        bench.replicas[0].overview().regency.0,
        0,
        "no leader is blamed"
    );
}

#[test]
fn an_absent_leader_is_replaced_for_work_that_one_member_alone_admitted() {
    let mut bench = Bench::new(fresh);
    let follower = bench.follower();
    bench.cut = vec![(follower + 3) % 4];
    bench.submit(follower, 1);
    bench.pass(10_000);
    let at = bench.replicas[follower].overview();
    assert_eq!((at.height, at.certified), (Height(1), Height(1)));
    assert!(at.regency.0 > 0, "the leader was replaced");
}

#[test]
fn a_leader_that_orders_all_but_one_members_batches_is_replaced_and_a_fair_one_is_not() {
    for censors in [false, true] {
        let mut bench = Bench::new(fresh);
        let follower = bench.follower();
        let (leader, other) = ((follower + 3) % 4, (follower + 1) % 4);
        bench.censor = censors.then_some((leader, follower));
        bench.submit(follower, 1);
        bench.pass(200);
        for sequence in 2..90 {
            bench.submit(other, sequence);
            bench.pass(15); // In all less than the first timeout, and each is a block.
        }
        bench.pass(100);
        let client = secret(3, 0).public();
        for (n, replica) in bench.replicas.iter().enumerate() {
            // Who is deaf to the batch cannot execute it either.
            let is_executed = replica.ledger().answer(&client, 1).is_some();
            assert!(is_executed || (censors && n == leader), "member {n}");
            let is_replaced = replica.overview().regency.0 > 0;
            assert_eq!(is_replaced, censors);
        }
    }
}

#[test]
fn a_member_that_missed_the_last_votes_of_an_idle_chain_hears_of_them() {
    let mut bench = Bench::new(fresh);
    let follower = bench.follower();
    bench.cut = vec![follower];
    let other = (0..members()).find(|n| *n != follower).expect("another");
    bench.submit(other, 1);
    bench.pass(100);
    assert_eq!(bench.replicas[follower].overview().height, Height(0));
    bench.cut.clear();
    bench.pass(10_000);
    bench.assert_certified(1);
}

#[test]
fn two_members_do_not_ask_each_other_without_end() {
    let mut bench = Bench::new(fresh);
    let follower = bench.follower();
    bench.cut = vec![follower];
    let other = (0..members()).find(|n| *n != follower).expect("another");
    bench.submit(other, 1);
    bench.pass(100);
    bench.cut.clear();
    // Nobody has anything to serve: the follower stays behind, and hears so again and again.
    bench.records.iter_mut().for_each(Vec::clear);
    bench.pass(10_000);
    assert_eq!(bench.replicas[follower].overview().height, Height(0));
}

#[test]
fn an_unsealed_tip_is_sealed_by_an_empty_block() {
    let restored = |n| {
        let mut restored = fresh(n);
        let decided = Decided {
            height: Height(1),
            view: ViewId(0),
            proposed_us: 5,
            is_sealed: false,
            body: Body::Transactions(Vec::new()),
            groups: Vec::new(),
        };
        restored.ledger.begin(decided);
        let execution = Execution {
            height: Height(1),
            outcomes: Vec::new(),
            state: None,
        };
        restored
            .ledger
            .finish(execution)
            .expect("no operation, no outcome");
        restored.recent = vec![(Height(1), restored.ledger.tip_digest(), false)];
        restored
    };
    let mut bench = Bench::new(restored);
    bench.pass(1_000);
    bench.assert_certified(2);
}

#[test]
fn a_member_that_was_connected_before_it_was_listed_is_gossiped_with() {
    let mut replica = Consortium::new(options(0), fresh(0), Time(0)).expect("a view");
    let mut out = Outbox::new();
    let mut listed = genesis();
    let (identity, consensus, zero) = (secret(1, 9), secret(2, 9), Digest::ZERO);
    let proof = KeyProof::make(&zero, ViewId(0), &zero, &identity, &consensus);
    listed.founders.push(Founder {
        name: "newcomer".into(),
        identity: identity.public(),
        consensus: Some(proof),
        address: String::new(),
    });
    for command in [Command::Start, Command::Connected(id(9))] {
        replica.handle(Time(0), Input::Command(command), &mut out);
    }
    let register = Register::genesis(&listed);
    replica.follow_register(Time(0), Height(1), &register, &mut out);
    out.drain().for_each(drop);
    replica.overlay(Time(0), OverlayInput::Broadcast(Bytes::new()), &mut out);
    let is_told = |output: Output<Consortium>| match output {
        Output::Send { to, message } => {
            to == To::One(id(9)) && matches!(message, Message::Overlay(_))
        }
        Output::Save(_) | Output::Arm { .. } | Output::Cancel(_) | Output::Emit(_) => false,
    };
    assert!(out.drain().any(is_told));
}

#[test]
fn the_decided_prefix_grows_over_decisions_of_the_log() {
    let mut bench = Bench::new(fresh);
    bench.executes = false;
    bench.submit(0, 1);
    bench.pass(100);
    let mut restored = fresh(0);
    for record in &bench.records[0] {
        if let Record::Payload(height, payload) = record {
            restored.payloads.push((*height, payload.clone()));
        } else if let Record::Decision(certificate) = record {
            restored.decisions.push(certificate.clone());
        }
    }
    assert_eq!(restored.decisions.len(), 1, "it is decided and not applied");
    let replica = Consortium::new(options(0), restored, Time(0)).expect("a view");
    assert_eq!(replica.ordering.decided(), Height(1));
}

#[test]
fn a_batch_that_does_nothing_any_more_is_kept_over_a_restart_while_a_decided_block_names_it() {
    let batch = checked(submission(1).into_inner().0);
    let mut restored = fresh(0);
    let proposal = Proposal {
        version: FORMAT_VERSION,
        chain: genesis().chain(),
        view: ViewId(0),
        height: Height(1),
        timestamp_us: 1,
        is_sealed: true,
        body: Body::Transactions(vec![BatchRef::Named(batch.digest)]),
        carried: None,
    };
    let (digest, bytes) = (proposal.digest(), proposal.to_bytes());
    let payload = fsm::Payload { digest, bytes };
    restored.payloads.push((Height(1), payload));
    let mut over = batch.into_inner();
    for group in &mut over.groups {
        group.transactions[0].expiry = Height(0);
    }
    let digest = over.digest;
    restored.batches.push(Verified::vouch(over));
    let replica = Consortium::new(options(0), restored, Time(0)).expect("a view");
    assert!(
        replica.pool.get(&digest).is_some(),
        "nobody else may have it"
    );
}

#[test]
fn a_committed_batch_that_a_later_block_names_is_taken_again() {
    let view = genesis().view().expect("a view");
    let pool_options = pool::Options {
        me: id(0),
        members_count: 4,
        window: 8,
        batch_bytes_max: 1 << 20,
    };
    let mut pool = Pool::new(pool_options, &view);
    let batch = checked(submission(1).into_inner().0);
    let digest = BatchRef::Named(batch.digest).digest();
    assert_eq!(pool.add(id(1), batch.clone(), Time(0)), pool::Taken::New);
    pool.commit(Height(1), &[digest]);
    assert_eq!(pool.add(id(1), batch.clone(), Time(0)), pool::Taken::Late);
    pool.mark_proposed(Height(2), &[digest]);
    assert_eq!(pool.add(id(1), batch, Time(0)), pool::Taken::New);
}

#[test]
fn every_certificate_above_what_is_applied_is_kept_until_it_is_reached() {
    let mut bench = Bench::new(fresh);
    bench.submit(0, 1);
    bench.pass(100);
    bench.submit(0, 2);
    bench.pass(100);
    let held = bench.records[0].iter().filter_map(|record| {
        let Record::Certificate(certificate) = record else {
            return None;
        };
        Some(Verified::vouch(certificate.clone()))
    });
    let held: Vec<Verified<Certificate>> = held.collect();
    assert_eq!(held.len(), 2);
    let mut behind = Consortium::new(options(1), fresh(1), Time(0)).expect("a view");
    let mut out = Outbox::new();
    for certificate in held.into_iter().rev() {
        let from = id(0);
        let message = Heard::Certificate(certificate);
        behind.handle(Time(0), Input::Message { from, message }, &mut out);
    }
    assert_eq!(behind.seals.ahead(), Some(Height(2)));
    assert_eq!(behind.seals.kept(), 2);
}

#[test]
fn a_member_that_hears_votes_of_a_later_regency_asks_for_its_start() {
    let mut bench = Bench::new(fresh);
    let leader = (bench.follower() + 3) % 4;
    // The leader falls silent, the others go on without it, then it returns.
    bench.cut = vec![leader];
    bench.submit((leader + 1) % 4, 1);
    bench.submit((leader + 2) % 4, 2);
    bench.pass(20_000);
    let regency = bench.replicas[(leader + 1) % 4].overview().regency;
    assert!(
        regency > bench.replicas[leader].overview().regency,
        "it was replaced"
    );
    bench.cut.clear();
    bench.submit((leader + 1) % 4, 3);
    bench.pass(50);
    assert_eq!(bench.replicas[leader].overview().regency, regency);
    bench.pass(10_000);
    let heights = bench
        .replicas
        .iter()
        .map(|replica| replica.overview().certified);
    let heights: Vec<Height> = heights.collect();
    assert!(
        heights.iter().all(|height| *height == heights[0]),
        "{heights:?}"
    );
}

/// A batch that is too large to ride in a proposal.
fn large(sequence: u64) -> Verified<(SignedGroup, Group)> {
    submission_of(sequence, Bytes::from(vec![7; 2 * pool::INLINE_BYTES_MAX]))
}

#[test]
fn a_member_that_returns_is_given_the_batches_that_lack_its_acknowledgement() {
    let mut bench = Bench::new(fresh);
    let origin = bench.follower();
    let (leader, absent) = ((origin + 3) % 4, (origin + 1) % 4);
    // Two of four are away: the batch lacks a quorum, and is spread less and less often.
    bench.cut = vec![leader, absent];
    bench.input(origin, Input::Command(Command::Submit(large(1))));
    bench.pass(20_000);
    bench.cut = vec![leader];
    bench.connect(absent);
    bench.pass(4_000);
    let height = bench.replicas[origin].overview().height;
    assert_eq!(height, Height(1), "one timeout after a quorum is back");
}

#[test]
fn after_a_stall_batches_are_spread_again_as_often_as_before_it() {
    let mut bench = Bench::new(fresh);
    let follower = bench.follower();
    bench.cut = vec![(follower + 1) % 4, (follower + 2) % 4, (follower + 3) % 4];
    bench.input(follower, Input::Command(Command::Submit(large(1))));
    bench.pass(20_000);
    // Alone again with a second batch, right after the first was committed.
    bench.cut.clear();
    bench.connect(follower);
    bench.pass(20_000);
    assert_eq!(bench.replicas[follower].overview().height, Height(1));
    bench.cut = vec![follower];
    bench.input(follower, Input::Command(Command::Submit(large(2))));
    bench.pass(50);
    bench.cut.clear();
    bench.pass(1_500);
    assert_eq!(bench.replicas[follower].overview().height, Height(2));
}

#[test]
fn a_batch_that_a_proposal_waits_for_is_taken_after_the_leader_changed() {
    let mut replica = Consortium::new(options(1), fresh(1), Time(0)).expect("a view");
    let batch = checked(submission(1).into_inner().0);
    let digest = batch.digest;
    // It was committed here, and a proposal above names it once more.
    replica.pool.commit(Height(1), &[digest]);
    replica.pool.mark_proposed(Height(2), &[digest]);
    replica.await_batches(Height(2), Digest::ZERO, &[digest]);
    let mut out = Outbox::new();
    let regency = fsm::Event::Regency(crate::committee::Regency(1), true);
    replica.on_event(Time(0), regency, &mut out);
    let message = Heard::Batch(batch);
    let from = id(0);
    replica.handle(Time(0), Input::Message { from, message }, &mut out);
    assert_eq!(replica.catchup.waits(), 0);
}

#[test]
fn batches_that_a_liar_invented_do_not_keep_true_ones_from_being_fetched() {
    let mut replica = Consortium::new(options(1), fresh(1), Time(0)).expect("a view");
    let name = |n: usize| Digest::of(crate::crypto::Domain::Batch, &n.to_le_bytes());
    let mut names: Vec<Digest> = (0..=3 * DIGESTS_MAX).map(name).collect();
    names.sort_unstable();
    let truth = names.pop().expect("many");
    for (height, invented) in (1..).zip(names.chunks(DIGESTS_MAX)) {
        let height = Height(height);
        replica.await_batches(height, Digest::ZERO, invented);
    }
    // In the next regency an honest leader names the one batch that is not here.
    replica.await_batches(Height(1), truth, &[truth]);
    let mut out = Outbox::new();
    replica.fetch_batches(&mut out);
    (0..members()).for_each(|_| replica.fetch_again(&mut out));
    let asks = |output: &Output<Consortium>| {
        let Output::Send { message, .. } = output else {
            return false;
        };
        matches!(message, Message::Fetch(digests) if digests.contains(&truth))
    };
    assert!(out.as_slice().iter().any(asks));
}

#[test]
fn who_has_no_link_to_the_leader_complains_of_nothing_that_it_passes_over() {
    for is_lost in [false, true] {
        let mut bench = Bench::new(fresh);
        let follower = bench.follower();
        let (leader, other) = ((follower + 3) % 4, (follower + 1) % 4);
        // A batch that a quorum holds and the leader never gets, whoever spreads it.
        bench.censor = Some((leader, follower));
        bench.submit(follower, 1);
        bench.pass(200);
        if is_lost {
            for n in (0..members()).filter(|n| *n != leader) {
                bench.input(n, Input::Command(Command::Disconnected(id(leader))));
            }
        }
        for sequence in 2..90 {
            bench.submit(other, sequence);
            bench.pass(15);
        }
        bench.pass(100);
        let is_replaced = bench.replicas[follower].overview().regency.0 > 0;
        assert_eq!(is_replaced, !is_lost);
    }
}

#[test]
fn batches_beyond_what_a_new_leader_is_given_at_once_are_committed_too() {
    let origin = Bench::new(fresh).follower();
    let leader = (origin + 3) % 4;
    let all = (0..8).flat_map(|who| (1..=10).map(move |sequence| (who, sequence)));
    let all: Vec<(usize, u64)> = all.collect();
    let batch = |(who, sequence): &(usize, u64)| {
        let group = submission_by(*who, *sequence, Bytes::from(vec![7; 100 << 10]));
        checked(group.into_inner().0)
    };
    // The log of the origin has more than one answer carries.
    let mut bench = Bench::new(|n| Restored {
        batches: match n == origin {
            true => all.iter().map(batch).collect(),
            false => Vec::new(),
        },
        ..fresh(n)
    });
    assert!(bench.replicas[origin].pool.bytes() > 7 << 20);
    // Nothing that it spreads arrives, and nobody tells it so.
    bench.cut = vec![origin];
    bench.pass(1_500);
    // The others replace the leader for work of their own.
    bench.cut = vec![origin, leader];
    bench.submit((origin + 1) % 4, 1_000);
    bench.pass(50);
    bench.cut = vec![leader];
    bench.pass(30_000);
    let ledger = bench.replicas[origin].ledger();
    let is_open = |(who, sequence): &&(usize, u64)| {
        let client = secret(3, *who).public();
        ledger.answer(&client, *sequence).is_none()
    };
    let open: Vec<_> = all.iter().filter(is_open).collect();
    assert!(open.is_empty(), "{open:?}");
    assert!(bench.replicas[origin].overview().regency.0 > 0);
}

/// A late copy reaches the log behind the block that names it, and looks open there.
#[test]
fn a_logged_batch_that_executed_is_not_taken_up_again() {
    let mut bench = Bench::new(fresh);
    bench.submit(0, 1);
    bench.pass(100);
    bench.assert_certified(1);
    let logged = bench.records[0].iter().find_map(|record| {
        let Record::Batch(bytes) = record else {
            return None;
        };
        Some(bytes.clone())
    });
    let (chain, bounds) = (genesis().chain(), genesis().parameters.bounds());
    let logged = logged.expect("its own batch");
    let (batch, _) = CheckedBatch::decode(logged, &chain, &bounds).expect("a batch");
    for (ledger, is_open) in [
        (bench.replicas[0].ledger().clone(), false),
        (Ledger::genesis(&genesis()), true),
    ] {
        let restored = Restored {
            ledger,
            batches: vec![Verified::vouch(batch.clone())],
            ..fresh(0)
        };
        let replica = Consortium::new(options(0), restored, Time(0)).expect("a view");
        assert_eq!(replica.overview().pool.has_work, is_open);
    }
}

#[test]
fn own_batches_are_spread_again_in_turn_and_the_oldest_keep_nobody_waiting() {
    let mut bench = Bench::new(fresh);
    let follower = bench.follower();
    bench.cut = vec![follower];
    for sequence in 1..=20 {
        bench.input(follower, Input::Command(Command::Submit(large(sequence))));
        bench.pass(10);
    }
    bench.spread[follower].clear();
    let mut told = BTreeSet::new();
    for _ in 0..40 {
        bench.pass(1_000);
        let sent = std::mem::take(&mut bench.spread[follower]);
        told.extend(sent);
    }
    assert!(told.len() > 8, "only {} of the batches", told.len());
}

/// A crash between a sealed block and its PERSIST.
fn unsealed(n: usize) -> Restored {
    let mut restored = fresh(n);
    let height = Height(1);
    restored.ledger.begin(Decided {
        height,
        view: ViewId(0),
        proposed_us: 1,
        is_sealed: true,
        body: Body::Transactions(Vec::new()),
        groups: Vec::new(),
    });
    let applied = restored.ledger.finish(Execution {
        height,
        outcomes: Vec::new(),
        state: None,
    });
    let digest = applied.expect("no results are awaited").digest;
    restored.recent.push((height, digest, true));
    restored
}

#[test]
fn a_seal_that_a_crash_cut_off_is_made_up_for_by_one_seat_and_by_four() {
    for members in [1, 4] {
        MEMBERS.set(members);
        let mut bench = Bench::new(unsealed);
        for n in 0..members {
            bench.connect(n);
        }
        bench.pass(1_000);
        let certified = bench.replicas.iter().map(|r| r.overview().certified);
        assert_eq!(certified.collect::<Vec<_>>(), vec![Height(1); members]);
    }
}
