//! The law of `machine`, as a queue: nothing behind a save leaves before it is durable.
//!
//! Source: `machine.rs`. In: outputs in order, news of what is durable. Out: what may leave, and
//! groups of records for the log.
//! Holds: sends and emits leave in the order in which they were made, behind every save before
//! them; only bulk messages overtake; groups become durable in the order in which they were taken.
//! Elsewhere: the thread that calls this (`driver`), the log (`storage`).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::committee::MemberId;
use crate::consortium::records::{self, Name};
use crate::consortium::{Event, Lane, Message, Record};
use crate::machine::To;
use crate::storage::Position;

/// Groups of records that may be under way to the log at once; more are gathered meanwhile.
pub(crate) const GROUPS_MAX: usize = 8;

/// Outputs that wait for the log, beyond which the driver takes in nothing from outside: members
/// and clients wait in their own bounded queues until the log moves again.
pub(crate) const HELD_MAX: usize = 65_536;

/// Something that left, or became durable, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Send it.
    Send(To<MemberId>, Message),
    /// Tell the host.
    Emit(Event),
    /// It is durable and stands there.
    Saved(Name, Position),
}

/// A group of records for the log; its number comes back in [`Barrier::durable`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Counts up from 1.
    pub(crate) number: u64,
    /// What to append.
    pub(crate) records: Vec<(u8, Bytes)>,
}

/// What waits behind saves that are not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    held: VecDeque<Held>,
    gathered: Vec<(u8, Bytes)>,
    /// The group that the next record joins.
    group: u64,
    /// The newest durable group.
    durable: u64,
    positions: VecDeque<Position>,
}

#[derive(Debug)]
enum Held {
    Save(u64, Name),
    Other(Leaving),
}

impl Barrier {
    /// Nothing waits.
    pub(crate) fn new() -> Self {
        Self {
            group: 1,
            ..Self::default()
        }
    }

    /// A save: whatever comes next waits for it.
    pub(crate) fn save(&mut self, record: Record) {
        let name = records::name(&record);
        self.gathered.push(records::encode(record));
        self.held.push_back(Held::Save(self.group, name));
    }

    /// A send: leaves at once when it is bulk or nothing waits.
    pub(crate) fn send(&mut self, to: To<MemberId>, message: Message, out: &mut Vec<Leaving>) {
        let overtakes = message.lane() == Lane::Bulk;
        self.pass(Leaving::Send(to, message), overtakes, out);
    }

    /// An emit: leaves at once when nothing waits.
    pub(crate) fn emit(&mut self, event: Event, out: &mut Vec<Leaving>) {
        self.pass(Leaving::Emit(event), false, out);
    }

    fn pass(&mut self, leaving: Leaving, overtakes: bool, out: &mut Vec<Leaving>) {
        if overtakes || self.held.is_empty() {
            out.push(leaving);
        } else {
            self.held.push_back(Held::Other(leaving));
        }
    }

    /// Everything gathered since the last call, as one group; nothing when there is none, or when
    /// [`GROUPS_MAX`] are under way and more may be gathered.
    pub(crate) fn take_group(&mut self) -> Option<Group> {
        let under_way = self.group - 1 - self.durable;
        if self.gathered.is_empty() || under_way >= GROUPS_MAX as u64 {
            return None;
        }
        let number = self.group;
        self.group += 1;
        let records = std::mem::take(&mut self.gathered);
        Some(Group { number, records })
    }

    /// The group `number` is durable, its records at `positions`: lets out what waited for it.
    pub(crate) fn durable(
        &mut self,
        number: u64,
        positions: Vec<Position>,
        out: &mut Vec<Leaving>,
    ) {
        assert_eq!(number, self.durable + 1, "the log answers in order");
        assert!(
            number < self.group,
            "only a group that was taken is durable"
        );
        self.durable = number;
        self.positions.extend(positions);
        while let Some(first) = self.held.pop_front() {
            match first {
                Held::Save(group, _) if group > self.durable => {
                    self.held.push_front(first);
                    return;
                }
                Held::Save(_, name) => {
                    let position = self.positions.pop_front();
                    let position = position.expect("the log gives one position per record");
                    out.push(Leaving::Saved(name, position));
                }
                Held::Other(leaving) => out.push(leaving),
            }
        }
        assert!(
            self.positions.is_empty(),
            "every position belongs to a save"
        );
    }

    /// How much waits.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether so much waits that nothing more is taken in.
    pub(crate) fn is_full(&self) -> bool {
        self.held.len() >= HELD_MAX
    }
}
