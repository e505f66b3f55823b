//! The ledger agrees with a naive one that keeps everything in lists.

mod own;
mod views;

use proptest::prelude::*;

use super::*;
use crate::blocks::body::{Checkpoint, Freeze, Reconfiguration};
use crate::blocks::receipts::Frontier;
use crate::blocks::{BatchRef, Clients, Transaction};
use crate::committee::SeatSet;
use crate::crypto::Domain;

fn client(number: u8) -> PublicKey {
    PublicKey(Digest([number; 32]))
}

fn document(change: impl FnOnce(&mut Parameters)) -> Genesis {
    let mut parameters = Parameters {
        expiry_blocks_max: 10,
        ..Parameters::default()
    };
    change(&mut parameters);
    Genesis {
        version: FORMAT_VERSION,
        name: "test".into(),
        founded_us: 1_000,
        parameters,
        founders: Vec::new(),
        successor_of: None,
    }
}

fn ledger() -> Ledger {
    Ledger::genesis(&document(|_| {}))
}

/// A transaction: sequence, expiry, operation.
type Triple = (u64, u64, &'static str);

fn group(of: u8, triples: &[Triple]) -> Group {
    let transactions: Vec<Transaction> = triples
        .iter()
        .map(|(sequence, expiry, operation)| Transaction {
            sequence: *sequence,
            expiry: Height(*expiry),
            operation: Bytes::from_static(operation.as_bytes()),
        })
        .collect();
    let name = format!("{of} {triples:?}");
    Group {
        client: client(of),
        digest: Digest::of(Domain::Group, name.as_bytes()),
        transactions,
    }
}

fn decided(ledger: &Ledger, groups: Vec<Group>) -> Decided {
    let named = groups.iter().map(|group| BatchRef::Named(group.digest));
    Decided {
        height: ledger.height().next(),
        view: ledger.views().present,
        proposed_us: 0,
        is_sealed: false,
        body: Body::Transactions(named.collect()),
        groups,
    }
}

/// Gives back each operation behind its height.
fn execute(execute: &Execute) -> Execution {
    let outcome = |operation: &Bytes| Outcome {
        code: 0,
        bytes: Bytes::from([&execute.height.0.to_le_bytes(), &operation[..]].concat()),
    };
    Execution {
        height: execute.height,
        outcomes: execute.operations.iter().map(outcome).collect(),
        state: Some(Digest::of(Domain::State, &execute.height.0.to_le_bytes())),
    }
}

fn apply(ledger: &mut Ledger, groups: Vec<Group>) -> Applied {
    let decided = decided(ledger, groups);
    apply_decided(ledger, decided)
}

fn apply_decided(ledger: &mut Ledger, decided: Decided) -> Applied {
    let execution = execute(&ledger.begin(decided));
    ledger.finish(execution).expect("one outcome per operation")
}

/// Applies empty blocks until `height` is the tip.
fn advance(ledger: &mut Ledger, height: u64) {
    while ledger.height() < Height(height) {
        apply(ledger, Vec::new());
    }
}

fn kinds(applied: &Applied) -> Vec<&'static str> {
    let kind = |answer: &Answer| match answer.verdict {
        Verdict::Executed(_) => "executed",
        Verdict::Repeated(_) => "repeated",
        Verdict::Conflict => "conflict",
        Verdict::Expired => "expired",
        Verdict::Busy => "busy",
        Verdict::NotListed => "not listed",
    };
    applied.answers.iter().map(kind).collect()
}

fn told(answer: &Answer) -> &Executed {
    match &answer.verdict {
        Verdict::Executed(executed) | Verdict::Repeated(executed) => executed,
        Verdict::Conflict | Verdict::Expired | Verdict::Busy | Verdict::NotListed => {
            panic!("{answer:?} tells of no execution")
        }
    }
}

#[test]
fn a_sealed_height_is_every_kth_a_control_block_or_asked_for() {
    let parameters = document(|p| p.seal_every = 4).parameters;
    let plain = Body::Transactions(Vec::new());
    let control = Body::Freeze(Freeze {
        next: ViewId(1),
        list: Digest::ZERO,
    });
    for (height, body, is_asked, want) in [
        (3, &plain, false, false),
        (4, &plain, false, true),
        (5, &plain, true, true),
        (5, &control, false, true),
    ] {
        let got = is_sealed(Height(height), body, is_asked, &parameters);
        assert_eq!(got, want, "height {height}");
    }
}

#[test]
fn the_same_operation_again_gives_the_same_answer_and_another_is_a_conflict() {
    let mut ledger = ledger();
    let first = apply(&mut ledger, vec![group(1, &[(7, 5, "a")])]);
    let again = apply(&mut ledger, vec![group(1, &[(7, 5, "a"), (8, 5, "b")])]);
    let other = apply(&mut ledger, vec![group(1, &[(7, 5, "c")])]);
    assert_eq!(kinds(&first), ["executed"]);
    assert_eq!(kinds(&again), ["repeated", "executed"]);
    assert_eq!(kinds(&other), ["conflict"]);
    assert_eq!(told(&first.answers[0]), told(&again.answers[0]));
    assert_eq!(ledger.answer(&client(1), 7), Some(told(&first.answers[0])));
    assert_eq!(ledger.tip().receipts.size, 2);
}

#[test]
fn sequences_of_different_clients_do_not_meet() {
    let mut ledger = ledger();
    let groups = vec![group(1, &[(7, 5, "a")]), group(2, &[(7, 5, "b")])];
    assert_eq!(kinds(&apply(&mut ledger, groups)), ["executed", "executed"]);
}

#[test]
fn a_repeat_inside_one_block_gets_the_first_ones_answer_and_the_longer_expiry() {
    let mut ledger = ledger();
    let groups = vec![
        group(1, &[(7, 5, "a")]),
        group(1, &[(7, 9, "a")]),
        group(1, &[(7, 9, "b")]),
    ];
    let applied = apply(&mut ledger, groups);
    assert_eq!(kinds(&applied), ["executed", "repeated", "conflict"]);
    assert_eq!(told(&applied.answers[0]), told(&applied.answers[1]));
    assert_eq!(told(&applied.answers[0]).expiry, Height(9));
    assert_eq!(applied.receipts.len(), 1);
}

#[test]
fn an_expiry_counts_from_the_present_height_to_the_bound_inclusively() {
    for (expiry, want) in [
        (2, "expired"),
        (3, "executed"),
        (13, "executed"),
        (14, "expired"),
    ] {
        let mut ledger = ledger();
        advance(&mut ledger, 2);
        let applied = apply(&mut ledger, vec![group(1, &[(7, expiry, "a")])]);
        assert_eq!(kinds(&applied), [want], "expiry {expiry} at height 3");
    }
}

#[test]
fn a_name_is_remembered_at_its_expiry_and_forgotten_by_the_block_after() {
    let mut ledger = ledger();
    apply(&mut ledger, vec![group(1, &[(7, 3, "a")])]);
    advance(&mut ledger, 2);
    let at_expiry = apply(&mut ledger, vec![group(1, &[(7, 3, "a")])]);
    assert_eq!(kinds(&at_expiry), ["repeated"]);
    assert!(at_expiry.forgotten.is_empty());
    let after = apply(&mut ledger, vec![group(1, &[(7, 3, "a")])]);
    assert_eq!(kinds(&after), ["expired"]);
    assert_eq!(after.forgotten, [(client(1), 7)]);
    assert_eq!(ledger.remembered(), 0);
}

#[test]
fn a_name_that_ends_and_executes_anew_in_one_block_is_not_named_as_forgotten() {
    let mut ledger = ledger();
    apply(&mut ledger, vec![group(1, &[(7, 1, "a")])]);
    let anew = apply(&mut ledger, vec![group(1, &[(7, 5, "b")])]);
    assert_eq!(kinds(&anew), ["executed"]);
    assert!(anew.forgotten.is_empty());
    assert_eq!(ledger.remembered(), 1);
}

#[test]
fn a_repeat_with_a_later_expiry_is_remembered_until_then() {
    let mut ledger = ledger();
    apply(&mut ledger, vec![group(1, &[(7, 2, "a")])]);
    let longer = vec![group(1, &[(7, 6, "a")]), group(1, &[(7, 4, "a")])];
    assert_eq!(
        told(&apply(&mut ledger, longer).answers[1]).expiry,
        Height(6)
    );
    advance(&mut ledger, 5);
    let last = apply(&mut ledger, vec![group(1, &[(7, 6, "a")])]);
    assert_eq!(kinds(&last), ["repeated"]);
    assert_eq!(apply(&mut ledger, Vec::new()).forgotten, [(client(1), 7)]);
}

#[test]
fn a_full_memory_answers_busy_until_something_is_forgotten() {
    let mut ledger = Ledger::genesis(&document(|p| p.remembered_max = 2));
    let full = group(1, &[(1, 1, "a"), (2, 9, "b"), (3, 9, "c"), (1, 1, "a")]);
    let applied = apply(&mut ledger, vec![full]);
    assert_eq!(
        kinds(&applied),
        ["executed", "executed", "busy", "repeated"]
    );
    // The first name has ended by this block, so there is room for one.
    let applied = apply(&mut ledger, vec![group(1, &[(3, 9, "c"), (4, 9, "d")])]);
    assert_eq!(kinds(&applied), ["executed", "busy"]);
    assert_eq!(ledger.remembered(), 2);
}

#[test]
fn only_listed_clients_execute_and_are_admitted() {
    let listed = Clients::Listed(vec![client(1)]);
    let mut ledger = Ledger::genesis(&document(|p| p.clients = listed));
    let groups = vec![group(2, &[(1, 5, "a")]), group(1, &[(1, 5, "a")])];
    assert_eq!(ledger.admits(&groups[0]), Err(Denied::NotListed));
    assert_eq!(ledger.admits(&groups[1]), Ok(()));
    assert_eq!(
        kinds(&apply(&mut ledger, groups)),
        ["not listed", "executed"]
    );
}

#[test]
fn what_cannot_execute_in_the_next_block_is_not_admitted() {
    let mut ledger = ledger();
    advance(&mut ledger, 4);
    for (expiry, is_good) in [(4, false), (5, true), (14, true), (15, false)] {
        let got = ledger.admits(&group(1, &[(1, 9, "a"), (2, expiry, "b")]));
        let denied = Denied::Expired {
            expiry: Height(expiry),
            height: Height(4),
            most: Height(14),
        };
        assert_eq!(got, if is_good { Ok(()) } else { Err(denied) });
    }
}

#[test]
fn a_long_result_is_told_whole_once_and_remembered_cut_with_the_digest_of_the_whole() {
    let mut ledger = ledger();
    let long = Bytes::from(vec![3; OUTCOME_BYTES_MAX + 1]);
    let decided = decided(&ledger, vec![group(1, &[(7, 5, "a")])]);
    ledger.begin(decided);
    let outcome = Outcome {
        code: 9,
        bytes: long.clone(),
    };
    let applied = ledger.finish(Execution {
        height: Height(1),
        outcomes: vec![outcome],
        state: None,
    });
    let applied = applied.expect("one outcome for one operation");
    let again = apply(&mut ledger, vec![group(1, &[(7, 5, "a")])]);
    assert_eq!(told(&applied.answers[0]).outcome.bytes, long);
    assert_eq!(
        told(&again.answers[0]).outcome.bytes,
        long[..OUTCOME_BYTES_MAX]
    );
    let whole = outcome_digest(9, &long);
    assert_eq!(told(&again.answers[0]).outcome_digest, whole);
    assert_eq!(applied.receipts[0].outcome, whole);
}

#[test]
fn results_that_do_not_fit_change_nothing_and_the_block_stays_under_way() {
    let mut ledger = ledger();
    let before = ledger.digest();
    let decided = decided(&ledger, vec![group(1, &[(7, 5, "a")])]);
    let good = execute(&ledger.begin(decided));
    let (need, have) = (1, 0);
    let short = Execution {
        outcomes: Vec::new(),
        ..good.clone()
    };
    let late = Execution {
        height: Height(2),
        ..good.clone()
    };
    assert_eq!(
        ledger.finish(short),
        Err(FinishError::Outcomes { have, need })
    );
    let (got, want) = (Height(2), Some(Height(1)));
    assert_eq!(ledger.finish(late), Err(FinishError::Height { got, want }));
    assert_eq!(ledger.digest(), before);
    assert!(ledger.finish(good.clone()).is_ok());
    let (got, want) = (Height(1), None);
    assert_eq!(ledger.finish(good), Err(FinishError::Height { got, want }));
}

#[test]
fn timestamps_grow_by_one_at_least_and_a_far_future_leaves_room() {
    let mut ledger = ledger();
    for (proposed_us, want) in [
        (0, 1_001),
        (1_001, 1_002),
        (5_000, 5_000),
        (u64::MAX, TIMESTAMP_US_MAX),
        (u64::MAX, TIMESTAMP_US_MAX + 1),
    ] {
        let decided = Decided {
            proposed_us,
            ..decided(&ledger, Vec::new())
        };
        let execute = ledger.begin(decided);
        assert_eq!(execute.timestamp_us, want);
        let applied = ledger.finish(super::tests::execute(&execute));
        let applied = applied.expect("nothing executed");
        assert_eq!(applied.block.header.timestamp_us, want);
    }
}

#[test]
fn the_state_root_stands_in_sealed_headers_alone() {
    let mut ledger = Ledger::genesis(&document(|p| p.seal_every = 2));
    let roots: Vec<bool> = (0..4)
        .map(|_| apply(&mut ledger, Vec::new()).block.header.state.is_some())
        .collect();
    assert_eq!(roots, [false, true, false, true]);
    let asked = Decided {
        is_sealed: true,
        ..decided(&ledger, Vec::new())
    };
    let applied = apply_decided(&mut ledger, asked);
    assert!(applied.block.header.state.is_some());
}

/// A checkpoint body of the snapshot at `link`, which is signed by nobody.
fn checkpoint(link: Link) -> Body {
    Body::Checkpoint(Checkpoint {
        height: link.height,
        header: link.digest,
        manifest: Digest::ZERO,
        state: Digest::ZERO,
        bytes: 0,
        segments: 0,
        signers: SeatSet::default(),
        votes: Vec::new(),
        compact: None,
    })
}

fn tip(ledger: &Ledger) -> Link {
    Link {
        height: ledger.height(),
        digest: ledger.tip_digest(),
    }
}

/// A ledger that wants a snapshot every so many blocks, with its first one due.
fn with_snapshots(every_blocks: u32) -> Ledger {
    let mut ledger = ledger();
    ledger.parameters.checkpoints.every_blocks = every_blocks;
    for _ in 0..every_blocks {
        assert_eq!(ledger.base(), None);
        apply(&mut ledger, Vec::new());
    }
    ledger
}

/// Applies a block with this body.
fn apply_body(ledger: &mut Ledger, body: Body) -> Applied {
    let decided = Decided {
        body,
        ..decided(ledger, Vec::new())
    };
    apply_decided(ledger, decided)
}

#[test]
fn the_header_after_a_checkpoint_links_to_it() {
    let mut ledger = with_snapshots(8);
    let open = tip(&ledger);
    assert_eq!(
        ledger.base().map(|base| base.parts),
        Some(ledger.parts().clone())
    );
    let genesis = ledger.parts().checkpoint;
    let applied = apply_body(&mut ledger, checkpoint(open));
    assert_eq!(applied.effect, Some(Effect::Checkpointed));
    assert_eq!(applied.block.header.checkpoint, genesis);
    let made = tip(&ledger);
    let next = apply(&mut ledger, Vec::new());
    assert_eq!(next.block.header.checkpoint, made);
}

#[test]
fn a_checkpoint_of_anything_but_the_open_snapshot_is_an_empty_block() {
    let mut ledger = with_snapshots(8);
    let open = tip(&ledger);
    let other = Link {
        digest: Digest::ZERO,
        ..open
    };
    let lower = Link {
        height: Height(7),
        ..open
    };
    for wrong in [other, lower, Link::default()] {
        let applied = apply_body(&mut ledger, checkpoint(wrong));
        assert_eq!(applied.effect, None);
        assert_eq!(applied.block.body, Body::Transactions(Vec::new()));
    }
    apply_body(&mut ledger, checkpoint(open));
    let again = apply_body(&mut ledger, checkpoint(open));
    assert_eq!(again.effect, None, "a try becomes a checkpoint once");
}

#[test]
fn the_next_snapshot_ends_the_try_before_it() {
    let mut ledger = with_snapshots(8);
    let first = tip(&ledger);
    for _ in 0..8 {
        apply(&mut ledger, Vec::new());
    }
    let second = tip(&ledger);
    assert_eq!(ledger.open_snapshot(), Some(second));
    assert_eq!(apply_body(&mut ledger, checkpoint(first)).effect, None);
    let applied = apply_body(&mut ledger, checkpoint(second));
    assert_eq!(applied.effect, Some(Effect::Checkpointed));
}

#[test]
fn bytes_of_operations_make_a_snapshot_due() {
    let mut ledger = ledger();
    ledger.parameters.checkpoints.every_bytes = 1024;
    let mut due = Vec::new();
    for sequence in 0..40 {
        apply(
            &mut ledger,
            vec![group(1, &[(sequence, sequence + 5, "operation")])],
        );
        due.push(ledger.base().is_some());
    }
    // Each counts its nine bytes and 64 more.
    let gap = due.iter().position(|is_due| *is_due).expect("one is due");
    assert_eq!(gap, 1024 / (9 + 64));
    let again = due[gap + 1..].iter().position(|is_due| *is_due);
    assert_eq!(again, Some(gap), "as many bytes again");
}

#[test]
fn a_replayed_block_gives_the_same_header() {
    let (mut ours, mut theirs) = (ledger(), ledger());
    for expiry in 1..12 {
        let groups = vec![group(1, &[(expiry, expiry, "a")])];
        let decided = Decided {
            proposed_us: 2_000 * expiry,
            is_sealed: expiry == 5,
            ..decided(&ours, groups.clone())
        };
        let block = apply_decided(&mut ours, decided).block;
        let again = apply_decided(&mut theirs, Decided::replay(block.clone(), groups));
        assert_eq!(again.block, block);
    }
    assert_eq!(ours.digest(), theirs.digest());
}

#[test]
fn parts_that_contradict_each_other_are_not_restored() {
    let document = document(|_| {});
    let mut ledger = ledger();
    apply(&mut ledger, vec![group(1, &[(7, 5, "a")])]);
    let parts = ledger.parts().clone();
    let (name, entry) = ledger.entries().next().expect("one is remembered");
    let entry = entry.clone();
    let ended = Executed {
        expiry: Height(0),
        ..entry.clone()
    };
    let unknown = Executed {
        sequence: 1,
        ..entry.clone()
    };
    let bad_entry = Some(RestoreError::Entry {
        client: name.0,
        sequence: name.1,
    });
    for (entries, want) in [
        (vec![(name, entry.clone())], None),
        (vec![(name, ended)], bad_entry.clone()),
        (vec![(name, unknown)], bad_entry.clone()),
        (vec![(name, entry.clone()), (name, entry)], bad_entry),
    ] {
        let got = Ledger::restore(&document, parts.clone(), None, entries);
        assert_eq!(got.err(), want);
    }
    let empty = Parts {
        frontier: Frontier::new(),
        ..parts.clone()
    };
    let got = Ledger::restore(&document, empty, None, Vec::new());
    assert_eq!(got.err(), Some(RestoreError::Receipts { have: 0, want: 1 }));
    let mut other = parts;
    other.tip.chain = Digest::ZERO;
    let got = Ledger::restore(&document, other, None, Vec::new());
    assert!(matches!(got, Err(RestoreError::OtherChain { .. })));
}

/// What the ledger must do, in lists.
#[derive(Default)]
struct Naive {
    entries: Vec<(Name, Executed)>,
    receipts: Vec<Name>,
}

impl Naive {
    fn apply(&mut self, height: u64, groups: &[Group], most: usize) -> Vec<(Name, &'static str)> {
        self.entries.retain(|(_, e)| e.expiry.0 >= height);
        let mut index = 0;
        let mut kinds = Vec::new();
        for group in groups {
            for transaction in &group.transactions {
                let name = (group.client, transaction.sequence);
                let expiry = transaction.expiry;
                let is_expired = expiry.0 < height || expiry.0 > height + 10;
                let count = self.entries.len();
                let before = self.entries.iter_mut().find(|(n, ..)| *n == name);
                let kind = match before {
                    Some(_) | None if is_expired => "expired",
                    Some((_, e)) if e.operation == transaction.digest() => {
                        e.expiry = e.expiry.max(expiry);
                        "repeated"
                    }
                    Some(_) => "conflict",
                    None if count >= most => "busy",
                    None => {
                        self.execute(height, index, name, transaction);
                        index += 1;
                        "executed"
                    }
                };
                kinds.push((name, kind));
            }
        }
        kinds
    }

    fn execute(&mut self, height: u64, index: u32, name: Name, transaction: &Transaction) {
        let parts = [&height.to_le_bytes(), &transaction.operation[..]];
        let bytes = Bytes::from(parts.concat());
        let outcome_digest = outcome_digest(0, &bytes);
        let executed = Executed {
            sequence: self.receipts.len() as u64,
            height: Height(height),
            index,
            operation: transaction.digest(),
            expiry: transaction.expiry,
            outcome: Outcome { code: 0, bytes },
            outcome_digest,
        };
        self.receipts.push(name);
        self.entries.push((name, executed));
    }
}

/// Transactions of a block: client, sequence, expiry relative to the height, operation.
fn block() -> impl Strategy<Value = Vec<Vec<(u8, u64, i64, u8)>>> {
    let transaction = (0..2u8, 0..5u64, -1..12i64, 0..3u8);
    prop::collection::vec(prop::collection::vec(transaction, 1..4), 0..4)
}

fn groups(height: u64, block: &[Vec<(u8, u64, i64, u8)>]) -> Vec<Group> {
    let operations = ["a", "a", "b"];
    let make = |triples: &Vec<(u8, u64, i64, u8)>| {
        let triple = |(_, sequence, ahead, operation): &(u8, u64, i64, u8)| {
            let expiry = height.saturating_add_signed(*ahead);
            (*sequence, expiry, operations[*operation as usize])
        };
        let of = triples[0].0;
        group(of, &triples.iter().map(triple).collect::<Vec<_>>())
    };
    block.iter().map(make).collect()
}

proptest! {
    #[test]
    fn the_ledger_agrees_with_the_naive_one(
        blocks in prop::collection::vec((block(), any::<bool>()), 1..40),
        most in 1..9usize,
    ) {
        let document = document(|p| p.remembered_max = most as u32);
        let mut ledger = Ledger::genesis(&document);
        let mut naive = Naive::default();
        for (block, restarts) in blocks {
            if restarts {
                let entries = ledger.entries().map(|(name, e)| (name, e.clone()));
                let entries: Vec<_> = entries.collect();
                let register = Some(Register::clone(ledger.register()));
                let restored =
                    Ledger::restore(&document, ledger.parts().clone(), register, entries);
                let restored = restored.expect("what was kept is whole");
                prop_assert_eq!(restored.digest(), ledger.digest());
                ledger = restored;
            }
            let (parent, digest) = (ledger.tip().clone(), ledger.tip_digest());
            let height = ledger.height().0 + 1;
            let groups = groups(height, &block);
            let before = naive.receipts.len();
            let want = naive.apply(height, &groups, most);
            let applied = apply(&mut ledger, groups);

            let names = applied.answers.iter().map(|a| (a.client, a.sequence));
            let got: Vec<_> = names.zip(kinds(&applied)).collect();
            prop_assert_eq!(got, want);
            let header = &applied.block.header;
            prop_assert!(header.follows(&parent, &digest).is_ok());
            prop_assert_eq!(header.receipts.size, naive.receipts.len() as u64);
            let receipts = applied.receipts.iter().map(|r| (r.client, r.client_sequence));
            prop_assert_eq!(&receipts.collect::<Vec<_>>()[..], &naive.receipts[before..]);
            let mut kept = naive.entries.clone();
            kept.sort_by_key(|(name, executed)| (executed.expiry, *name));
            let held = ledger.entries().map(|(name, e)| (name, e.clone()));
            prop_assert_eq!(held.collect::<Vec<_>>(), kept);
            prop_assert!(ledger.remembered() <= most);
        }
    }

    #[test]
    fn rows_kept_block_by_block_are_the_entries(
        blocks in prop::collection::vec(block(), 1..40),
    ) {
        let document = document(|p| p.remembered_max = 6);
        let mut ledger = Ledger::genesis(&document);
        let mut rows = std::collections::BTreeMap::new();
        let mut sequence = 0;
        for block in blocks {
            let groups = groups(ledger.height().0 + 1, &block);
            let applied = apply(&mut ledger, groups);
            for name in &applied.forgotten {
                prop_assert!(rows.remove(name).is_some());
            }
            rows.extend(applied.entries());
            for receipt in &applied.receipts {
                prop_assert_eq!(receipt.sequence, sequence);
                sequence += 1;
            }
        }
        let register = Some(Register::clone(ledger.register()));
        let restored = Ledger::restore(&document, ledger.parts().clone(), register, rows);
        let restored = restored.expect("what was kept is whole");
        prop_assert_eq!(restored.digest(), ledger.digest());
    }
}
