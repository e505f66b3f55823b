//! What is saved again so that a start need not read the whole log.

use super::*;
use crate::committee::View;
use crate::consortium::restoring::{self, Beside, Restoring};

/// What member 0 resumes with out of `records`, which stand behind the blocks of `all`.
fn restored(bench: &Bench, all: &[Record], records: &[Record]) -> Restored {
    let mut restoring = Restoring::default();
    records.iter().for_each(|record| restoring.take(record));
    let block = |height: Height| {
        all.iter().rev().find_map(|record| {
            let Record::Block(block) = record else {
                return None;
            };
            (block.header.height == height).then(|| block.clone())
        })
    };
    let ledger = bench.replicas[0].ledger().clone();
    let first = restoring.certified().0.max(1);
    let recent = (first..=ledger.height().0).map(|height| {
        let block = block(Height(height)).expect("it was applied");
        restoring::recent(&block, ledger.parameters())
    });
    let recent = recent.collect();
    let secret = |view: &View| {
        let seat = view.seat_of(&id(0)).and_then(|seat| view.key(seat));
        let mut keys = bench.keys[0].iter();
        keys.find(|key| Some(key.public()) == seat).cloned()
    };
    let restored = restoring.finish(Beside {
        ledger,
        recent,
        batches: Vec::new(),
        founders: &genesis().view().expect("a view"),
        block: &block,
        secret: &secret,
    });
    restored.expect("blocks are those of the chain")
}

/// Where a replica that resumes with `restored` stands, and what it would save again.
fn held(restored: Restored) -> (ViewId, bool, Vec<Record>) {
    let (view, is_over) = (restored.view.id(), restored.ending.is_some());
    let replica = Consortium::new(options(0), restored, Time(0)).expect("a view");
    let mut out = Outbox::new();
    replica.save_again(&mut out);
    let saved = out.drain().filter_map(|output| match output {
        Output::Save(record) => Some(record),
        Output::Send { .. } | Output::Arm { .. } | Output::Cancel(_) | Output::Emit(_) => None,
    });
    (view, is_over, saved.collect())
}

#[test]
fn a_start_from_what_was_saved_again_is_a_start_from_the_whole_log() {
    RULES.set(ViewRules {
        rotation_blocks: 12,
        assemble_blocks: 6,
        ..ViewRules::default()
    });
    let mut bench = Bench::new(fresh);
    let mut settled = 0;
    let mut views = BTreeSet::new();
    for sequence in 1..=120 {
        let member = usize::try_from(sequence % 4).expect("few");
        bench.submit(member, sequence);
        // Some starts come while heights are open, some while a leader is missed.
        bench.cut = if sequence % 24 == 11 {
            vec![bench.follower()]
        } else {
            Vec::new()
        };
        bench.pass(if sequence % 24 == 11 {
            1_200
        } else {
            3 * (sequence % 7)
        });
        if sequence % 10 == 3 {
            settled = bench.records[0].len();
            bench.input(0, Input::Command(Command::Settle(sequence)));
        }
        let all = bench.records[0].clone();
        let whole = held(restored(&bench, &all, &all));
        for earlier in [0, 5] {
            // A log file begins somewhat before what was saved again.
            let from = settled.saturating_sub(earlier);
            let part = held(restored(&bench, &all, &all[from..]));
            assert_eq!(part, whole, "transaction {sequence}, from record {from}");
        }
        views.insert(whole.0);
    }
    assert!(views.len() >= 3, "views followed each other: {views:?}");
}
