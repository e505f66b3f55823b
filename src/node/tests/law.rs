//! The law of the driver: nothing behind a save leaves before it is durable.
//!
//! Source: `machine.rs`. In: outputs and news of the log. Out: what left, and when.
//! Holds: order. Elsewhere: threads (`driver`).

use bytes::Bytes;

use crate::committee::{Height, MemberId};
use crate::consortium::records::{self, Name};
use crate::consortium::{Event, Message, Record};
use crate::crypto::Digest;
use crate::machine::{Span, Time, To};
use crate::node::barrier::{Barrier, GROUPS_MAX, HELD_MAX, Leaving};
use crate::node::timers::Timers;
use crate::storage::Position;

fn record(text: &'static str) -> Record {
    Record::Batch(Bytes::from_static(text.as_bytes()))
}

fn vote(height: u64) -> (To<MemberId>, Message) {
    (To::Committee, Message::Request(Height(height)))
}

fn bulk() -> (To<MemberId>, Message) {
    (To::Committee, Message::Batch(Bytes::from_static(b"bulk")))
}

fn event(byte: u8) -> Event {
    Event::Submitted(Digest([byte; 32]), Ok(()))
}

fn at(offset: u32) -> Position {
    Position { file: 1, offset }
}

fn saved(text: &'static str, offset: u32) -> Leaving {
    Leaving::Saved(records::name(&record(text)), at(offset))
}

fn sent((to, message): (To<MemberId>, Message)) -> Leaving {
    Leaving::Send(to, message)
}

#[test]
fn without_a_save_everything_leaves_at_once() {
    let (mut barrier, mut out) = (Barrier::new(), Vec::new());
    barrier.send(vote(1).0, vote(1).1, &mut out);
    barrier.emit(event(1), &mut out);
    assert_eq!(out, [sent(vote(1)), Leaving::Emit(event(1))]);
    assert_eq!(barrier.take_group(), None);
}

#[test]
fn nothing_behind_a_save_leaves_before_it_is_durable() {
    let (mut barrier, mut out) = (Barrier::new(), Vec::new());
    barrier.save(record("a"));
    barrier.send(vote(1).0, vote(1).1, &mut out);
    barrier.emit(event(1), &mut out);
    let group = barrier.take_group().expect("a record waits");
    assert_eq!(group.records.len(), 1);
    assert_eq!(out, [], "taken by the log is not durable");
    barrier.durable(group.number, vec![at(1)], &mut out);
    let all = [saved("a", 1), sent(vote(1)), Leaving::Emit(event(1))];
    assert_eq!(out, all);
    assert_eq!(barrier.held(), 0);
}

#[test]
fn bulk_overtakes_and_votes_do_not() {
    let (mut barrier, mut out) = (Barrier::new(), Vec::new());
    barrier.save(record("a"));
    barrier.send(vote(1).0, vote(1).1, &mut out);
    barrier.send(bulk().0, bulk().1, &mut out);
    assert_eq!(out, [sent(bulk())]);
}

#[test]
fn what_stands_between_two_saves_waits_for_the_first_alone() {
    let (mut barrier, mut out) = (Barrier::new(), Vec::new());
    barrier.save(record("a"));
    barrier.send(vote(1).0, vote(1).1, &mut out);
    let first = barrier.take_group().expect("a record waits");
    barrier.save(record("b"));
    barrier.save(record("c"));
    barrier.send(vote(2).0, vote(2).1, &mut out);
    let second = barrier.take_group().expect("two records wait");
    assert_eq!(second.records.len(), 2, "one sync serves both");
    barrier.durable(first.number, vec![at(1)], &mut out);
    assert_eq!(out, [saved("a", 1), sent(vote(1))]);
    out.clear();
    barrier.durable(second.number, vec![at(2), at(3)], &mut out);
    assert_eq!(out, [saved("b", 2), saved("c", 3), sent(vote(2))]);
}

#[test]
fn records_gather_while_as_many_groups_as_allowed_are_under_way() {
    let (mut barrier, mut out) = (Barrier::new(), Vec::new());
    for _ in 0..GROUPS_MAX {
        barrier.save(record("a"));
        assert!(barrier.take_group().is_some());
    }
    barrier.save(record("b"));
    barrier.save(record("c"));
    assert_eq!(barrier.take_group(), None);
    barrier.durable(1, vec![at(1)], &mut out);
    let gathered = barrier.take_group().expect("there is room again");
    assert_eq!(gathered.records.len(), 2);
}

#[test]
fn a_log_that_stalls_fills_the_barrier_up_to_its_bound_and_one_sync_empties_it() {
    let (mut barrier, mut out) = (Barrier::new(), Vec::new());
    barrier.save(record("a"));
    for height in 2..=HELD_MAX as u64 {
        assert!(!barrier.is_full());
        barrier.send(vote(height).0, vote(height).1, &mut out);
    }
    assert!(barrier.is_full());
    let group = barrier.take_group().expect("a record waits");
    barrier.durable(group.number, vec![at(1)], &mut out);
    assert!(!barrier.is_full());
    assert_eq!(out.len(), HELD_MAX);
}

#[test]
fn records_read_back_equal() {
    let batch = record("a batch");
    let (kind, bytes) = records::encode(batch.clone());
    assert_eq!(records::decode(kind, &bytes), Ok(batch.clone()));
    assert!(matches!(records::name(&batch), Name::Batch(_)));
    assert!(records::decode(200, &bytes).is_err());
}

#[test]
fn an_armed_timer_runs_out_once_and_arming_again_replaces_it() {
    let mut timers = Timers::new();
    timers.arm(Time(0), "a", Span(10));
    timers.arm(Time(0), "b", Span(5));
    timers.arm(Time(1), "a", Span(20));
    assert_eq!(timers.next(), Some(Time(5)));
    assert_eq!(timers.due(Time(10)), Some("b"));
    assert_eq!(timers.due(Time(10)), None);
    timers.arm(Time(10), "c", Span(1));
    timers.cancel(&"c");
    assert_eq!(timers.due(Time(21)), Some("a"));
    assert_eq!(timers.next(), None);
}
