//! Counters: what was sent, received, dropped and refused.
//!
//! Source: none. In: counts from every task. Out: [`Stats`].
//! Holds: a counter never goes back; the set of counters does not grow with what strangers do.
//! Elsewhere: metrics (`api`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::PeerId;

/// Why a connection came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The key that the other end showed is not the one asked for.
    StrangerKey,
    /// The other end belongs to another chain or version.
    WrongChain,
    /// The other end does not speak TLS 1.3 with raw public keys.
    Malformed,
    /// The handshake took too long.
    Timeout,
    /// Too many handshakes were under way; this was the oldest.
    Crowded,
    /// Nobody answers at the address.
    Unreachable,
    /// The other end does not know our key.
    Denied,
    /// The other end hung up during the handshake.
    HungUp,
}

impl Refusal {
    /// All reasons.
    pub const ALL: [Refusal; 8] = [
        Refusal::StrangerKey,
        Refusal::WrongChain,
        Refusal::Malformed,
        Refusal::Timeout,
        Refusal::Crowded,
        Refusal::Unreachable,
        Refusal::Denied,
        Refusal::HungUp,
    ];
}

/// One counter per reason.
#[derive(Debug, Default)]
pub(super) struct Refusals([AtomicU64; 8]);

impl Refusals {
    pub(super) fn count(&self, reason: Refusal) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> BTreeMap<Refusal, u64> {
        Refusal::ALL
            .into_iter()
            .map(|reason| (reason, self.0[reason as usize].load(Ordering::Relaxed)))
            .collect()
    }
}

/// The live counters of one peer and lane.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) connects: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) faults: AtomicU64,
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn read(&self, queued: usize) -> LaneStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LaneStats {
            queued,
            sent: get(&self.sent),
            sent_bytes: get(&self.sent_bytes),
            received: get(&self.received),
            received_bytes: get(&self.received_bytes),
            dropped: get(&self.dropped),
            connects: get(&self.connects),
            failures: get(&self.failures),
            faults: get(&self.faults),
        }
    }
}

/// What happened with one peer on one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Payloads that wait now.
    pub queued: usize,
    /// Payloads handed to the system's socket.
    pub sent: u64,
    /// Their bytes, without headers.
    pub sent_bytes: u64,
    /// Payloads that arrived.
    pub received: u64,
    /// Their bytes, without headers.
    pub received_bytes: u64,
    /// Payloads dropped because the queue was full, or lost with their connection.
    pub dropped: u64,
    /// Times that our connection to the peer was opened; all but the first are reconnects.
    pub connects: u64,
    /// Times that our attempt to open it came to nothing.
    pub failures: u64,
    /// Times that the peer's connection was closed for a faulty frame.
    pub faults: u64,
}

/// What happened with one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Whether the votes lanes of both directions are open.
    pub up: bool,
    /// The votes lane.
    pub votes: LaneStats,
    /// The bulk lane.
    pub bulk: LaneStats,
}

/// What happened since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// By peer; one that left the list takes its counters along.
    pub peers: BTreeMap<PeerId, PeerStats>,
    /// Connections from outside that were refused, by reason; every reason is there.
    pub refused: BTreeMap<Refusal, u64>,
    /// Our own attempts that came to nothing, by reason; every reason is there.
    pub failed: BTreeMap<Refusal, u64>,
}
