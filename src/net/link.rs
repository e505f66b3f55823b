//! A peer as the network sees it: its queues, its credits, whether it is up.
//!
//! Source: none. In: payloads, connections opening and closing. Out: [`Event`].
//! Holds: an up is followed by a down before the next up.
//! Elsewhere: dialing (`dial`), reading (`accept`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;

use super::queue::Queue;
use super::stats::{Counters, PeerStats, add};
use super::{Event, Lane, Limits, Peer, PeerId, Sent, Shared, lock};
use crate::crypto::PublicKey;

/// One peer of the list.
pub(super) struct Link {
    pub(super) id: PeerId,
    pub(super) key: PublicKey,
    address: Mutex<String>,
    lanes: [LinkLane; 2],
    /// Open votes connections: ours to it, its to us.
    open: Mutex<(u32, u32)>,
    up: AtomicBool,
    dialers: Mutex<Vec<AbortHandle>>,
}

/// One lane of a peer.
pub(super) struct LinkLane {
    queue: Mutex<Queue>,
    /// Told when the queue has something.
    pub(super) filled: Notify,
    /// Told when an attempt is worth making now.
    pub(super) retry: Notify,
    /// Bytes that the host may still be given. It outlives connections, so that reconnecting does
    /// not buy a sender more memory.
    pub(super) credits: Arc<Semaphore>,
    pub(super) counters: Counters,
}

impl LinkLane {
    fn new(limits: &Limits) -> Self {
        Self {
            queue: Mutex::new(Queue::new(limits)),
            filled: Notify::new(),
            retry: Notify::new(),
            credits: Arc::new(Semaphore::new(limits.inbound_bytes_max)),
            counters: Counters::default(),
        }
    }

    /// Queues `payload` and wakes the writer.
    pub(super) fn push(&self, lane: Lane, payload: Bytes) -> Sent {
        let (sent, dropped) = lock(&self.queue).push(lane, payload);
        add(&self.counters.dropped, dropped);
        if sent != Sent::Full {
            self.filled.notify_one();
        }
        sent
    }

    /// Lets `take` have payloads in order until it says that it has enough.
    pub(super) fn drain(&self, mut take: impl FnMut(Bytes) -> bool) {
        let mut queue = lock(&self.queue);
        while let Some(payload) = queue.pop() {
            if !take(payload) {
                return;
            }
        }
    }
}

impl Link {
    /// A peer that nothing is connected to yet.
    pub(super) fn new(peer: &Peer, limits: &Limits) -> Self {
        Self {
            id: peer.id,
            key: peer.key,
            address: Mutex::new(peer.address.clone()),
            lanes: [LinkLane::new(limits), LinkLane::new(limits)],
            open: Mutex::default(),
            up: AtomicBool::new(false),
            dialers: Mutex::default(),
        }
    }

    pub(super) fn lane(&self, lane: Lane) -> &LinkLane {
        &self.lanes[lane.index()]
    }

    pub(super) fn address(&self) -> String {
        lock(&self.address).clone()
    }

    /// Takes a new address and tries it at once where we are not connected.
    pub(super) fn move_to(&self, address: &str) {
        let mut now = lock(&self.address);
        if *now != address {
            *now = address.to_string();
            self.retry();
        }
    }

    /// Cuts short the wait before the next attempt.
    pub(super) fn retry(&self) {
        for lane in &self.lanes {
            lane.retry.notify_one();
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    pub(super) fn stats(&self) -> PeerStats {
        let read = |lane: &LinkLane| lane.counters.read(lock(&lane.queue).len());
        let [votes, bulk] = &self.lanes;
        PeerStats {
            up: self.is_up(),
            votes: read(votes),
            bulk: read(bulk),
        }
    }

    /// Keeps the handle of a task that dials this peer.
    pub(super) fn own(&self, dialer: AbortHandle) {
        lock(&self.dialers).push(dialer);
    }

    /// Ends the tasks that dial this peer.
    pub(super) fn abort(&self) {
        for dialer in lock(&self.dialers).drain(..) {
            dialer.abort();
        }
    }
}

/// Which end opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// We did.
    Out,
    /// The peer did.
    In,
}

/// An open connection; dropping it tells that it has closed, however that came about.
pub(super) struct Open {
    shared: Arc<Shared>,
    link: Arc<Link>,
    lane: Lane,
    direction: Direction,
}

impl Open {
    /// Tells that a connection has opened.
    pub(super) fn new(
        shared: &Arc<Shared>,
        link: &Arc<Link>,
        lane: Lane,
        direction: Direction,
    ) -> Self {
        let open = Self {
            shared: shared.clone(),
            link: link.clone(),
            lane,
            direction,
        };
        open.tell(|count| count + 1);
        open
    }

    fn tell(&self, step: impl Fn(u32) -> u32) {
        if self.lane == Lane::Votes {
            // The lock is held while the host is told, so that it hears of changes in their order.
            let mut open = lock(&self.link.open);
            match self.direction {
                Direction::Out => open.0 = step(open.0),
                Direction::In => open.1 = step(open.1),
            }
            let up = open.0 > 0 && open.1 > 0;
            if self.link.up.swap(up, Ordering::AcqRel) != up {
                let id = self.link.id;
                (self.shared.notice)(if up { Event::Up(id) } else { Event::Down(id) });
            }
        }
        self.shared.changed.send_replace(());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tell(|count| count - 1);
    }
}
