//! Committees that are samples: the chain makes a threshold key, whose beacon draws the next one.

use super::*;
use crate::blocks::body::{Assemble, Beacon, Freeze};
use crate::committee::Risk;
use crate::consortium::ledger::Due;
use crate::crypto::threshold;
use crate::membership::register::Register;

/// A ledger of eight, of whom four sit once there is a beacon.
fn sampled() -> Bench {
    MEMBERS.set(8);
    RULES.set(ViewRules {
        rotation_blocks: 8,
        assemble_blocks: 2,
        risk: Risk {
            byzantine_ppm: 100_000,
            crashed_ppm: 0,
            ..ViewRules::default().risk
        },
        everyone_below: 5,
    });
    let mut bench = Bench::new(fresh);
    for n in 0..8 {
        bench.connect(n);
    }
    bench
}

impl Bench {
    /// The driver's part in making a threshold key.
    pub(super) fn generate(&mut self, n: usize, applied: &Applied) {
        let register = std::sync::Arc::clone(self.replicas[n].ledger().register());
        let Some(generation) = register.generation() else {
            return;
        };
        let secret = views::key_for(n, &generation.call());
        let next = applied.block.header.height.next();
        self.stages.insert(generation.stage(next));
        let owed = generation.owed(&id(n), &secret, next);
        if let Some(operation) = owed.filter(|_| !self.keyless.contains(&n)) {
            let bytes = Bytes::from(operation.to_bytes());
            let digest = Digest::of(crate::crypto::Domain::Operation, &bytes).0;
            let sequence = u64::from_le_bytes(digest[..8].try_into().expect("eight bytes"));
            let group = submission_signed(&super::secret(1, n), sequence, bytes);
            self.input(n, Input::Command(Command::Submit(group)));
        }
    }

    fn register(&self, n: usize) -> &Register {
        self.replicas[n].ledger().register()
    }

    fn seats(&self, n: usize) -> usize {
        self.replicas[n].view().seats().len()
    }
}

/// Orders and lets time pass until a member is in `view`.
fn until_view(bench: &mut Bench, view: u64) {
    for sequence in 1..400 {
        if bench.replicas[0].overview().view >= view {
            return;
        }
        bench.submit(0, view * 1_000 + sequence);
        bench.pass(100);
    }
    let register = bench.register(0);
    let stage = register.generation().map(|g| g.stage(Height(u64::MAX)));
    panic!(
        "no view {view}: {:?} {stage:?}",
        bench.replicas[0].ledger().views()
    );
}

#[test]
fn a_sample_is_drawn_by_the_beacon_of_the_committee_before_it() {
    let mut bench = sampled();
    until_view(&mut bench, 1);
    // Nobody could sign a beacon in view 0, so everybody kept the seat; now there is a key.
    assert_eq!(bench.seats(0), 8);
    let key = bench.register(0).threshold().expect("a threshold key");
    assert_eq!(key.need(), 3);
    until_view(&mut bench, 2);
    bench.pass(4_000);
    assert_eq!(bench.seats(0), 4);
    until_view(&mut bench, 5);
    bench.pass(4_000);
    let committees: BTreeSet<Vec<MemberId>> = bench.drawn().into_iter().collect();
    assert!(committees.len() >= 2, "{committees:?}");
    let ledgers = bench.replicas.iter().map(|replica| replica.ledger());
    let views: BTreeSet<_> = ledgers.map(|ledger| ledger.views().present).collect();
    assert_eq!(views.len(), 1, "all members follow: {views:?}");
}

impl Bench {
    /// The committees that were drawn by a beacon, in order.
    fn drawn(&self) -> Vec<Vec<MemberId>> {
        let drawn = self.records[0].iter().filter_map(|record| match record {
            Record::Block(Block {
                body: Body::Assemble(body),
                ..
            }) if body.beacon.is_some() => Some(body.committee.clone()),
            Record::Block(_) | Record::Voter(..) | Record::Payload(..) | Record::Decision(_) => {
                None
            }
            Record::Batch(_) | Record::Certificate(_) | Record::Engine(..) | Record::Fault(_) => {
                None
            }
        });
        drawn.collect()
    }
}

#[test]
fn silent_members_cost_neither_the_key_nor_the_beacon() {
    let mut bench = sampled();
    bench.keyless.insert(5);
    until_view(&mut bench, 2);
    assert_eq!(bench.seats(0), 4);
    assert_eq!(bench.drawn().len(), 1);
}

#[test]
fn without_a_key_a_sample_keeps_its_seats_for_one_more_view() {
    let mut bench = sampled();
    until_view(&mut bench, 1);
    assert!(bench.register(0).threshold().is_some());
    // Nobody gives a share: no beacon comes.
    bench.mute = true;
    until_view(&mut bench, 2);
    assert_eq!(bench.seats(0), 8, "the seats are kept");
    assert_eq!(bench.drawn().len(), 0);
    bench.mute = false;
    until_view(&mut bench, 3);
    assert_eq!(bench.seats(0), 4);
}

#[test]
fn a_key_is_made_step_by_step() {
    let mut bench = sampled();
    until_view(&mut bench, 1);
    let stages: Vec<Stage> = bench.stages.iter().copied().collect();
    let all = [Stage::Keys, Stage::Dealing, Stage::Judging, Stage::Over];
    assert_eq!(stages, all);
}

/// A ledger that waits for a beacon, and that beacon.
fn waiting() -> (Ledger, Bytes) {
    let mut bench = sampled();
    until_view(&mut bench, 1);
    bench.mute = true;
    for sequence in 1..200 {
        let ledger = bench.replicas[0].ledger();
        let key = ledger.register().threshold().expect("a key");
        if let (Some(Due::Draw(freeze)), true) = (ledger.due(), bench.shares.len() >= key.need()) {
            let statement = Beacon::statement(&genesis().chain(), ViewId(1), freeze);
            let shares: Vec<_> = bench.shares.clone().into_iter().collect();
            let beacon = threshold::combine(key.public(), &shares, statement.as_slice());
            return (ledger.clone(), beacon.expect("shares hold"));
        }
        bench.submit(0, 90_000 + sequence);
        bench.pass(20);
    }
    panic!("no list is fixed");
}

/// What `body` effects as the next block, and the ledger behind it.
fn decide(ledger: &Ledger, body: Body) -> (Option<ledger::Effect>, Ledger) {
    let mut ledger = ledger.clone();
    let (height, view) = (ledger.height().next(), ledger.views().present);
    ledger.begin(Decided {
        height,
        view,
        proposed_us: 1,
        is_sealed: false,
        body,
        groups: Vec::new(),
    });
    let applied = ledger.finish(Execution {
        height,
        outcomes: Vec::new(),
        state: None,
    });
    (applied.expect("no results are awaited").effect, ledger)
}

#[test]
fn only_the_one_beacon_over_the_fixed_list_names_a_committee_and_only_its_own() {
    let (ledger, beacon) = waiting();
    let drawn = ledger.drawn(&beacon).expect("it holds");
    assert_eq!(drawn.committee.len(), 4);
    let effect = |body: Assemble| decide(&ledger, Body::Assemble(body)).0;
    assert_eq!(effect(drawn.clone()), Some(ledger::Effect::Assembled));
    type Change = (&'static str, fn(&mut Assemble));
    let changes: [Change; 5] = [
        ("no beacon", |body| body.beacon = None),
        ("another committee", |body| body.committee.swap(0, 1)),
        ("another seed", |body| body.seed = Digest::ZERO),
        ("another view", |body| body.next = ViewId(3)),
        ("another freeze block", |body| {
            let beacon = body.beacon.as_mut().expect("one");
            beacon.freeze.height = beacon.freeze.height.next();
        }),
    ];
    for (what, change) in changes {
        let mut other = drawn.clone();
        change(&mut other);
        assert_eq!(effect(other), None, "{what}");
    }
    let mut forged = drawn;
    let mut signature = beacon.to_vec();
    signature[90] ^= 1;
    forged.beacon.as_mut().expect("one").signature = signature.into();
    assert_eq!(effect(forged), None);
}

#[test]
fn a_list_may_be_fixed_only_when_that_is_due_and_as_it_stands() {
    let mut bench = sampled();
    until_view(&mut bench, 1);
    let ledger = bench.replicas[0].ledger().clone();
    let next = ledger.views().present.next();
    let list = ledger.register().digest();
    let freeze = |ledger: &Ledger, list| decide(ledger, Body::Freeze(Freeze { next, list }));
    assert_eq!(freeze(&ledger, list).0, None, "it is early");
    let mut due = ledger;
    while due.due().is_none() {
        due = decide(&due, Body::Transactions(Vec::new())).1;
    }
    assert_eq!(freeze(&due, Digest::ZERO).0, None, "another list");
    let list = due.register().digest();
    let (effect, fixed) = freeze(&due, list);
    assert_eq!(effect, Some(ledger::Effect::Frozen));
    assert_eq!(freeze(&fixed, list).0, None, "once");
}
