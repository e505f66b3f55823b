//! What clients saw, held against what members executed: the judge of every run from outside.
//!
//! Source: reliability, history checker. In: puts with the times of sending and of the answer,
//! reads with the height they cite, each member's executed order. Out: [`Violation`]s.
//! Holds: O(n log n) in the length of the history; every value is put by one put only, so a value
//! names its put. Elsewhere: who puts and reads (`load`), where orders come from (`members`).

use std::collections::BTreeMap;
use std::fmt;

/// Where a transaction stands in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) height: u64,
    pub(crate) index: u64,
}

/// A put that was sent. Times are microseconds of one clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) key: String,
    /// No other put has this value.
    pub(crate) value: String,
    pub(crate) sent_us: u64,
    /// The answer; without one it may or may not have executed.
    pub(crate) told: Option<Told>,
}

/// What a client was told about a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) at_us: u64,
    pub(crate) place: Place,
}

/// What one member said to stand under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
    /// The height after which it holds.
    pub(crate) height: u64,
}

/// One put in a member's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Executed {
    pub(crate) place: Place,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// What all clients of one run did.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) puts: Vec<Put>,
    pub(crate) reads: Vec<Read>,
    /// Answers that no correct member gives to such clients.
    pub(crate) refused: Vec<String>,
}

/// What must not be. Members are named by their place in the list of orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Two members differ at `position` of their orders.
    Differ { member: usize, position: usize },
    /// An order goes back, or has two puts at one place.
    Unordered { member: usize, position: usize },
    /// A put was executed more than once.
    Doubled { value: String },
    /// A put was executed that nobody sent, or under another key.
    Foreign { value: String },
    /// An acknowledged put is not in the order of `member`.
    Lost { value: String, member: usize },
    /// An acknowledged put stands elsewhere than its client was told.
    Moved { value: String, found: Place },
    /// `later` was sent after `earlier` was acknowledged, and stands before it.
    Reordered { earlier: String, later: String },
    /// A read gave what did not stand there at the height that it cites.
    Misread { read: Read, stood: Option<String> },
    /// A client got an answer that it never should.
    Refused { what: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Everything in `history` that contradicts `orders`, which hold each member's whole order.
pub(crate) fn check(history: &History, orders: &[Vec<Executed>]) -> Vec<Violation> {
    let empty = Vec::new();
    let longest = orders.iter().max_by_key(|order| order.len());
    let longest = longest.unwrap_or(&empty);
    let mut found = prefixes(orders, longest);
    let mut positions = BTreeMap::new();
    for (position, executed) in longest.iter().enumerate() {
        if positions
            .insert(executed.value.as_str(), position)
            .is_some()
        {
            let value = executed.value.clone();
            found.push(Violation::Doubled { value });
        }
    }
    found.extend(sources(history, longest));
    for put in &history.puts {
        found.extend(kept(put, orders, longest, &positions));
    }
    found.extend(real_time(history, &positions));
    found.extend(reads(history, longest));
    let refused = history.refused.iter().cloned();
    found.extend(refused.map(|what| Violation::Refused { what }));
    found
}

/// Every order is ordered, and a prefix of the longest.
fn prefixes(orders: &[Vec<Executed>], longest: &[Executed]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (member, order) in orders.iter().enumerate() {
        let mut pairs = order.windows(2);
        if let Some(at) = pairs.position(|pair| pair[0].place >= pair[1].place) {
            let position = at + 1;
            found.push(Violation::Unordered { member, position });
        }
        let mut both = order.iter().zip(longest);
        if let Some(position) = both.position(|(mine, other)| mine != other) {
            found.push(Violation::Differ { member, position });
        }
    }
    found
}

/// Nothing was executed that was not sent.
fn sources(history: &History, longest: &[Executed]) -> Vec<Violation> {
    let sent = history.puts.iter();
    let sent: BTreeMap<&str, &str> = sent.map(|put| (&*put.value, &*put.key)).collect();
    let foreign = longest.iter().filter(|executed| {
        let key = sent.get(executed.value.as_str());
        key != Some(&executed.key.as_str())
    });
    let values = foreign.map(|executed| executed.value.clone());
    values.map(|value| Violation::Foreign { value }).collect()
}

/// An acknowledged put stands at its place at every member.
fn kept(
    put: &Put,
    orders: &[Vec<Executed>],
    longest: &[Executed],
    positions: &BTreeMap<&str, usize>,
) -> Vec<Violation> {
    let Some(told) = put.told else {
        return Vec::new();
    };
    let position = positions.get(put.value.as_str());
    let lacks = |order: &Vec<Executed>| position.is_none_or(|position| order.len() <= *position);
    let members = orders.iter().enumerate();
    let lost = members.filter(|(_, order)| lacks(order));
    let mut found: Vec<Violation> = lost
        .map(|(member, _)| {
            let value = put.value.clone();
            Violation::Lost { value, member }
        })
        .collect();
    let place = position.map(|position| longest[*position].place);
    if let Some(place) = place.filter(|place| *place != told.place) {
        let value = put.value.clone();
        found.push(Violation::Moved {
            value,
            found: place,
        });
    }
    found
}

/// What was acknowledged before another was sent stands before it.
fn real_time(history: &History, positions: &BTreeMap<&str, usize>) -> Vec<Violation> {
    let position = |put: &Put| positions.get(put.value.as_str()).copied();
    let placed = history.puts.iter();
    let mut sent: Vec<(u64, usize, &Put)> = placed
        .filter_map(|put| Some((put.sent_us, position(put)?, put)))
        .collect();
    sent.sort_by_key(|(sent_us, ..)| *sent_us);
    let mut told: Vec<(u64, usize, &Put)> = sent
        .iter()
        .filter_map(|(_, at, put)| Some((put.told?.at_us, *at, *put)))
        .collect();
    told.sort_by_key(|(told_us, ..)| *told_us);
    let mut told = told.into_iter().peekable();
    let mut last: Option<(usize, &Put)> = None;
    let mut found = Vec::new();
    for (sent_us, at, later) in sent {
        while let Some((_, at, put)) = told.next_if(|(told_us, ..)| *told_us < sent_us) {
            if last.is_none_or(|(last, _)| last < at) {
                last = Some((at, put));
            }
        }
        if let Some((_, earlier)) = last.filter(|(last, _)| *last > at) {
            found.push(Violation::Reordered {
                earlier: earlier.value.clone(),
                later: later.value.clone(),
            });
        }
    }
    found
}

/// A read gives the last put of its key at or below the height that it cites.
fn reads(history: &History, longest: &[Executed]) -> Vec<Violation> {
    let mut puts: BTreeMap<&str, Vec<&Executed>> = BTreeMap::new();
    for executed in longest {
        puts.entry(&executed.key).or_default().push(executed);
    }
    let stood = |read: &Read| {
        let puts = puts.get(read.key.as_str())?;
        let count = puts.partition_point(|put| put.place.height <= read.height);
        Some(puts[..count].last()?.value.clone())
    };
    let told = history.reads.iter().map(|read| (read, stood(read)));
    let wrong = told.filter(|(read, stood)| read.value != *stood);
    let named = wrong.map(|(read, stood)| Violation::Misread {
        read: read.clone(),
        stood,
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::{Executed, History, Place, Put, Read, Told, Violation, check};

    /// Ten puts to two keys in turn, one after the other, two a block.
    fn ten() -> (History, Vec<Executed>) {
        let place = |n: u64| Place {
            height: n / 2 + 1,
            index: n % 2,
        };
        let (key, value) = (|n: u64| format!("key-{}", n % 2), |n| format!("value-{n}"));
        let put = |n: u64| Put {
            key: key(n),
            value: value(n),
            sent_us: n * 10,
            told: Some(Told {
                at_us: n * 10 + 5,
                place: place(n),
            }),
        };
        let executed = |n: u64| Executed {
            place: place(n),
            key: key(n),
            value: value(n),
        };
        let read = |height: u64| Read {
            key: key(0),
            value: height.checked_sub(1).map(|block| value(block * 2)),
            height,
        };
        let history = History {
            puts: (0..10).map(put).collect(),
            reads: (0..=5).map(read).collect(),
            refused: Vec::new(),
        };
        (history, (0..10).map(executed).collect())
    }

    fn found(change: impl FnOnce(&mut History, &mut [Vec<Executed>])) -> Vec<Violation> {
        let (mut history, order) = ten();
        let mut orders = vec![order; 4];
        change(&mut history, &mut orders);
        check(&history, &orders)
    }

    #[test]
    fn a_true_history_has_no_violation() {
        assert_eq!(found(|_, _| {}), []);
        assert_eq!(check(&History::default(), &[]), []);
    }

    #[test]
    fn what_was_not_acknowledged_executes_once_or_never() {
        let forget = |history: &mut History| history.puts[9].told = None;
        assert_eq!(found(|history, _| forget(history)), []);
        let never = found(|history, orders| {
            forget(history);
            orders.iter_mut().for_each(|order| order.truncate(9));
        });
        assert_eq!(never, []);
    }

    #[test]
    fn a_member_that_is_behind_with_nothing_acknowledged_is_no_violation() {
        let behind = found(|history, orders| {
            history.puts[9].told = None;
            orders[2].truncate(9);
        });
        assert_eq!(behind, []);
    }

    #[test]
    fn a_lost_put_is_found_at_all_or_at_one_member() {
        let everywhere = found(|history, orders| {
            history.reads.clear();
            orders.iter_mut().for_each(|order| drop(order.remove(4)));
        });
        let lost = |member| Violation::Lost {
            value: "value-4".into(),
            member,
        };
        assert_eq!(everywhere, (0..4).map(lost).collect::<Vec<_>>());
        let one = found(|_, orders| orders[3].truncate(9));
        let value = "value-9".into();
        assert_eq!(one, [Violation::Lost { value, member: 3 }]);
    }

    #[test]
    fn a_doubled_put_is_found() {
        let doubled = found(|_, orders| {
            for order in orders {
                let mut again = order[0].clone();
                again.place.height = 9;
                order.push(again);
            }
        });
        let value = "value-0".into();
        assert!(
            doubled.contains(&Violation::Doubled { value }),
            "{doubled:?}"
        );
    }

    #[test]
    fn a_moved_put_is_found() {
        let moved = found(|_, orders| {
            for order in orders {
                order[9].place.height = 8;
            }
        });
        let at = Place {
            height: 8,
            index: 1,
        };
        let value = "value-9".into();
        assert_eq!(moved, [Violation::Moved { value, found: at }]);
    }

    #[test]
    fn two_orders_are_found() {
        let forked = found(|_, orders| {
            orders[1][7].value = "value-6".into();
        });
        let (member, position) = (1, 7);
        assert_eq!(forked, [Violation::Differ { member, position }]);
    }

    #[test]
    fn an_order_that_goes_back_is_found() {
        let back = found(|_, orders| orders[0].swap(2, 3));
        let (member, position) = (0, 3);
        assert!(back.contains(&Violation::Unordered { member, position }));
    }

    #[test]
    fn what_was_sent_after_an_answer_stands_after_it() {
        let late = found(|history, _| {
            history.puts[3].sent_us = 56;
            history.puts[3].told = None;
        });
        let (earlier, later) = ("value-5".into(), "value-3".into());
        assert_eq!(late, [Violation::Reordered { earlier, later }]);
        let meets = found(|history, _| history.puts[3].sent_us = 45);
        assert_eq!(meets, [], "sent when the next was not yet acknowledged");
    }

    #[test]
    fn what_nobody_sent_is_found() {
        let foreign = found(|history, _| drop(history.puts.remove(8)));
        let value = String::from("value-8");
        assert_eq!(foreign, [Violation::Foreign { value }]);
        let other_key = found(|history, _| history.puts[8].key = "key-9".into());
        let value = String::from("value-8");
        assert_eq!(other_key, [Violation::Foreign { value }]);
    }

    #[test]
    fn a_read_of_another_height_is_found() {
        let stale = found(|history, _| history.reads[4].height = 5);
        let [Violation::Misread { stood, .. }] = stale.as_slice() else {
            panic!("{stale:?}");
        };
        assert_eq!(stood.as_deref(), Some("value-8"));
        let invented = found(|history, _| history.reads[0].value = Some("value-0".into()));
        assert_eq!(invented.len(), 1);
    }

    #[test]
    fn a_refusal_is_found() {
        let refused = found(|history, _| history.refused.push("not proved".into()));
        let what = "not proved".into();
        assert_eq!(refused, [Violation::Refused { what }]);
    }
}
