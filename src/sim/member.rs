//! One simulated member: the replica, its application and its disk under the law of `machine`.
//!
//! Source: `machine.rs`. In: inputs. Out: what leaves, in order. Holds: nothing but bulk leaves
//! behind a
//! save that is not durable; a timer that was armed again or cancelled never fires.
//! Elsewhere: where it goes (`life`), the same law with threads (`node`).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::clock::Clock;
use super::disk::Disk;
use super::keyring::Keyring;
use super::newcomer::Tried;
use super::quest::Quest;
use super::queue::Happening;
use super::sample::Part;
use super::villain::Villain;
use crate::application::Application;
use crate::bootstrap::Leases;
use crate::committee::{Height, MemberId, ViewId};
use crate::consortium::{Consortium, Event, Lane, Message, Timer};
use crate::crypto::SecretKey;
use crate::machine::{Input, Machine, Outbox, Output, Span, Time, To};

/// Something that may leave now.
#[derive(Debug)]
pub(super) enum Leaving {
    /// A message.
    Send(To<MemberId>, Message),
    /// An event.
    Emit(Event),
    /// A timer runs out after a span, with the number that must still be its own then.
    Arm(Timer, Span, u64),
    /// A villain's: bytes that no correct member sends.
    Bytes(To<MemberId>, Lane, Bytes),
    /// A villain's: it leaves after a span.
    Later(Span, Box<Leaving>),
    /// A villain's: it is woken with a number after a span.
    Wake(Span, u64),
}

/// What runs while a member is up.
pub(super) struct Running {
    pub(super) replica: Consortium,
    pub(super) app: Box<dyn Application>,
    outbox: Outbox<Consortium>,
    /// What waits, each behind so many durable records.
    waiting: VecDeque<(usize, Leaving)>,
    timers: BTreeMap<Timer, u64>,
    armed: u64,
    /// Whether a sync is under way.
    pub(super) syncs: bool,
    /// Where its ledger stood when it found that a checkpoint is the shorter way.
    pub(super) hinted_at: Option<Height>,
}

/// A member, up or down.
pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) identity: SecretKey,
    /// Consensus keys that are not erased.
    pub(super) keys: Keyring,
    pub(super) disk: Disk,
    /// Views below this one have their end durable here.
    pub(super) ended: ViewId,
    /// Whether its disk was lost and it has had no seat since.
    pub(super) is_wiped: bool,
    /// What it said last of having caught up.
    pub(super) tried: Option<Tried>,
    /// Its part in a threshold key.
    pub(super) part: Option<Part>,
    /// What makes it faulty; correct members have none.
    pub(super) villain: Option<Box<dyn Villain>>,
    /// None while it is down, or fetches a checkpoint.
    pub(super) running: Option<Running>,
    /// While it fetches a checkpoint.
    pub(super) quest: Option<Quest>,
    /// What is kept for newcomers.
    pub(super) leases: Leases,
    /// Bytes of segments that it gave to newcomers.
    pub(super) served: u64,
    /// How often it was started; what belongs to an earlier life is dropped.
    pub(super) life: u64,
    /// How often it forgot what it held of others' votes: at each start, and with each view.
    pub(super) forgot: u64,
    pub(super) clock: Clock,
    /// What happened while it stands still; none while it goes.
    pub(super) paused: Option<Vec<Happening>>,
    /// Its disk takes so many times as long.
    pub(super) slow_disk: u64,
    pub(super) fate: Fate,
    /// The highest regency that it entered.
    pub(super) regency: u64,
    /// Regencies that it entered since the faults ended.
    pub(super) changes: u64,
}

impl Member {
    /// Whether it is up.
    pub(super) fn is_up(&self) -> bool {
        self.running.is_some() || self.quest.is_some()
    }

    /// The height of the snapshot that it gathers.
    pub(super) fn gathers(&self) -> Option<Height> {
        self.quest.as_ref()?.gathers()
    }

    /// Whether it runs when the faults have ended.
    pub(super) fn comes_back(&self) -> bool {
        self.villain.is_some() || matches!(self.fate, Fate::Healthy | Fate::Back)
    }
}

/// What a member is in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing is settled yet, or it is dead or cut off for good.
    Open,
    /// It is of the quorum that is healthy for good.
    Healthy,
    /// It comes back, and nothing is expected of it.
    Back,
    /// It found its disk damaged and never comes back.
    Ruined,
}

impl Running {
    pub(super) fn new(replica: Consortium, app: Box<dyn Application>) -> Self {
        Self {
            replica,
            app,
            outbox: Outbox::new(),
            waiting: VecDeque::new(),
            timers: BTreeMap::new(),
            armed: 0,
            syncs: false,
            hinted_at: None,
        }
    }

    /// Whether the timer was neither cancelled nor armed again; it is spent.
    pub(super) fn take_timer(&mut self, timer: &Timer, number: u64) -> bool {
        let is_due = self.timers.get(timer) == Some(&number);
        if is_due {
            self.timers.remove(timer);
        }
        is_due
    }

    /// Hands one input to the replica; what may leave at once goes into `leaving`.
    pub(super) fn handle(
        &mut self,
        now: Time,
        input: Input<Consortium>,
        disk: &mut Disk,
        leaving: &mut Vec<Leaving>,
    ) {
        self.replica.handle(now, input, &mut self.outbox);
        let mut outbox = std::mem::take(&mut self.outbox);
        for output in outbox.drain() {
            match output {
                Output::Save(record) => disk.write(record),
                Output::Send { to, message } => {
                    let overtakes = message.lane() == Lane::Bulk;
                    self.leave(Leaving::Send(to, message), overtakes, disk, leaving);
                }
                Output::Emit(event) => {
                    if event == Event::Shorter {
                        self.hinted_at = Some(self.replica.ledger().height());
                    }
                    self.leave(Leaving::Emit(event), false, disk, leaving);
                }
                Output::Arm { timer, after } => {
                    self.armed += 1;
                    self.timers.insert(timer, self.armed);
                    leaving.push(Leaving::Arm(timer, after, self.armed));
                }
                Output::Cancel(timer) => drop(self.timers.remove(&timer)),
            }
        }
        self.outbox = outbox;
    }

    fn leave(&mut self, what: Leaving, overtakes: bool, disk: &Disk, leaving: &mut Vec<Leaving>) {
        let is_free = self.waiting.is_empty() && disk.durable() == disk.written();
        if overtakes || is_free {
            leaving.push(what);
        } else {
            self.waiting.push_back((disk.written(), what));
        }
    }

    /// Lets through what waited for the records that are durable now.
    pub(super) fn release(&mut self, disk: &Disk, leaving: &mut Vec<Leaving>) {
        while self
            .waiting
            .front()
            .is_some_and(|(behind, _)| *behind <= disk.durable())
        {
            leaving.extend(self.waiting.pop_front().map(|(_, what)| what));
        }
    }

    /// How much waits behind the barrier.
    pub(super) fn waits(&self) -> usize {
        self.waiting.len()
    }
}
