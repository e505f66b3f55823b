//! The one contract: every protocol is a machine, and its driver obeys one law.
//!
//! Source: `ARCHITECTURE.md`. In: messages, timers, commands. Out: an [`Outbox`] of save, send,
//! arm, cancel, emit.
//! Holds: the driver carries an outbox out in order, and a save is a barrier: no send and no emit
//! behind it leaves before it is durable. Only bulk messages overtake the barrier: they carry bytes
//! and promise nothing.
//! Elsewhere: real time and sockets (`node`), virtual time and a seeded world (`sim`).
//!
//! A machine reads no clock, socket or disk, and draws no randomness of its own. Time comes in as a
//! value, chance from a seed given at construction. A timer is an output named by what it guards,
//! so a late one is harmless.

use std::fmt;
use std::ops::{Add, Sub};

/// A point in time in microseconds since an epoch that the driver chooses; it never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

/// A span of time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

impl Span {
    /// A span of `ms` milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms * 1_000)
    }

    /// Whole milliseconds, rounded down.
    pub const fn as_ms(self) -> u64 {
        self.0 / 1_000
    }
}

impl Add<Span> for Time {
    type Output = Time;
    fn add(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }
}

impl Sub for Time {
    type Output = Span;
    fn sub(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.as_ms())
    }
}

/// What a machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<M: Machine + ?Sized> {
    /// A peer said something; the driver has checked every signature in it.
    Message {
        /// Who sent it; authenticated by the link.
        from: M::Peer,
        /// What it says, checked.
        message: M::Heard,
    },
    /// A timer that was armed has run out; a machine ignores one that guards nothing any more.
    Timer(M::Timer),
    /// The host asks for something or answers an earlier emit.
    Command(M::Command),
}

/// What a machine wants done. The driver carries outputs out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<M: Machine + ?Sized> {
    /// Append to the durable log; a barrier for what stands behind it.
    Save(M::Record),
    /// Send to one peer or to all of the context.
    Send {
        /// Whom to.
        to: To<M::Peer>,
        /// What.
        message: M::Message,
    },
    /// Run `timer` out after `after`; arming it again replaces it.
    Arm {
        /// What it guards.
        timer: M::Timer,
        /// How long from now.
        after: Span,
    },
    /// Forget a timer.
    Cancel(M::Timer),
    /// Tell the host, which may answer with a command.
    Emit(M::Event),
}

/// Whom a message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To<P> {
    /// One peer.
    One(P),
    /// Every other seat of the present view.
    Committee,
    /// Every other member.
    Members,
}

/// A protocol without input or output of its own.
pub trait Machine {
    /// How a peer is named.
    type Peer: Clone + fmt::Debug + PartialEq + Eq;
    /// What peers say to each other.
    type Message: Clone + fmt::Debug + PartialEq + Eq;
    /// What peers said once its signatures and bounds are checked.
    type Heard: Clone + fmt::Debug + PartialEq + Eq;
    /// What a timer guards.
    type Timer: Clone + fmt::Debug + PartialEq + Eq + Ord;
    /// What the host asks.
    type Command: Clone + fmt::Debug + PartialEq + Eq;
    /// What must be durable.
    type Record: Clone + fmt::Debug + PartialEq + Eq;
    /// What the host is told.
    type Event: Clone + fmt::Debug + PartialEq + Eq;

    /// Takes one input at `now` and appends what it wants done to `out`. It never fails and never
    /// blocks: what a peer says wrongly is ignored and counted, or emitted as a fault.
    fn handle(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>);
}

/// The ordered list of what a machine wants done.
#[derive(Debug)]
pub struct Outbox<M: Machine + ?Sized> {
    outputs: Vec<Output<M>>,
}

impl<M: Machine + ?Sized> Default for Outbox<M> {
    fn default() -> Self {
        Self {
            outputs: Vec::new(),
        }
    }
}

impl<M: Machine + ?Sized> Outbox<M> {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for `record` to be durable before anything that follows leaves.
    pub fn save(&mut self, record: M::Record) {
        self.outputs.push(Output::Save(record));
    }

    /// Sends `message`.
    pub fn send(&mut self, to: To<M::Peer>, message: M::Message) {
        self.outputs.push(Output::Send { to, message });
    }

    /// Arms `timer` to run out after `after`.
    pub fn arm(&mut self, timer: M::Timer, after: Span) {
        self.outputs.push(Output::Arm { timer, after });
    }

    /// Cancels `timer`.
    pub fn cancel(&mut self, timer: M::Timer) {
        self.outputs.push(Output::Cancel(timer));
    }

    /// Tells the host.
    pub fn emit(&mut self, event: M::Event) {
        self.outputs.push(Output::Emit(event));
    }

    /// Takes everything out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Output<M>> + '_ {
        self.outputs.drain(..)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// What waits, in order.
    pub fn as_slice(&self) -> &[Output<M>] {
        &self.outputs
    }
}
