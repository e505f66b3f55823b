//! Authenticated framed bytes between members.
//!
//! Source: RFC 8446 (TLS 1.3), RFC 7250 (raw public keys). In: payloads for peers, the list of
//! peers. Out: payloads of peers with their sender, peers coming and going, counters.
//! Holds: who is not on the list gets no further than the handshake; every queue is bounded; bulk
//! never stands before a vote.
//! Elsewhere: what a payload means (`node`), who belongs on the list (`membership`).
//!
//! Connections carry one direction of one lane: each member dials every other once per lane and
//! sends on what it dialed, so two members never race for one connection and a restarted member
//! speaks at once. What comes back on a dialed connection is heartbeat alone. An arriving
//! connection cuts short the wait of our own next attempt towards the same peer.

mod accept;
mod dial;
mod frame;
mod link;
mod options;
mod queue;
mod stats;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::AbortHandle;

use crate::crypto::{Digest, PublicKey};

pub use frame::{BULK_FRAME_BYTES_MAX, VOTES_FRAME_BYTES_MAX};
pub use options::{Limits, Listen, NetError, Options};
pub use stats::{LaneStats, PeerStats, Refusal, Stats};

use link::Link;
use options::{check, listen};
use stats::Refusals;

/// How a peer is named: its member id.
pub type PeerId = Digest;

/// A class of traffic with connections and queues of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Small and urgent; when its queue is full the oldest goes, for the protocol resends.
    Votes,
    /// Large and patient; when its queue is full the newest goes.
    Bulk,
}

impl Lane {
    /// Both lanes.
    pub const ALL: [Lane; 2] = [Lane::Votes, Lane::Bulk];

    /// The largest payload that a frame of this lane carries.
    pub const fn frame_bytes_max(self) -> usize {
        match self {
            Lane::Votes => VOTES_FRAME_BYTES_MAX,
            Lane::Bulk => BULK_FRAME_BYTES_MAX,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Lane::Votes => "votes",
            Lane::Bulk => "bulk",
        }
    }

    const fn index(self) -> usize {
        match self {
            Lane::Votes => 0,
            Lane::Bulk => 1,
        }
    }
}

/// Someone to speak with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its member id.
    pub id: PeerId,
    /// Its identity key: the only key that it is believed to be itself with.
    pub key: PublicKey,
    /// Where it listens, as `host:port`; names are looked up at each attempt.
    pub address: String,
}

/// What arrived. Dropping it gives its sender room for more.
#[derive(Debug)]
pub struct Inbound {
    /// Who sent it, proved by the handshake.
    pub from: PeerId,
    /// On which lane.
    pub lane: Lane,
    /// What it sent, at most [`Lane::frame_bytes_max`] bytes.
    pub payload: Bytes,
    _credit: OwnedSemaphorePermit,
}

/// A peer came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The votes lanes of both directions are open.
    Up(PeerId),
    /// One of them has closed.
    Down(PeerId),
}

/// What became of a payload. None of these promises that it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It waits for the wire, whether the peer is up or not.
    Queued,
    /// It waits, and the oldest of its lane were dropped for it.
    Displaced,
    /// The queue of its lane is full; it was dropped.
    Full,
    /// It is larger than a frame of its lane; it was dropped.
    TooLarge,
    /// Nobody on the list has that id; it was dropped.
    Stranger,
}

/// How long [`Net::shutdown`] lets connections finish what is queued.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);

/// The network: threads of its own that keep every peer reachable.
///
/// Every method is cheap and may be called from any thread.
pub struct Net {
    shared: Arc<Shared>,
    runtime: Mutex<Option<Runtime>>,
    handle: tokio::runtime::Handle,
    local: SocketAddr,
}

impl Net {
    /// Listens, and starts to dial every peer.
    ///
    /// `deliver` gets every payload, in order per connection; `notice` gets peers coming and
    /// going. Both run on the network's threads: they hand over and return, and may call any
    /// method but [`Net::shutdown`].
    /// Errors: [`NetError`]; a taken port names its address.
    pub fn start(
        options: Options,
        deliver: impl Fn(Inbound) + Send + Sync + 'static,
        notice: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Net, NetError> {
        check(&options.limits)?;
        let identity = tls::Identity::new(&options.identity, options.chain)?;
        let (listener, local) = listen(options.listen)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.limits.threads)
            .thread_name("net")
            .enable_all()
            .build()
            .map_err(|source| NetError::Threads { source })?;
        let shared = Arc::new(Shared {
            identity,
            book: RwLock::default(),
            changes: Mutex::default(),
            inbound: Mutex::default(),
            limits: options.limits,
            seed: options.seed,
            deliver: Box::new(deliver),
            notice: Box::new(notice),
            refused: Refusals::default(),
            failed: Refusals::default(),
            stop: watch::Sender::new(false),
            changed: watch::Sender::new(()),
        });
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(|source| NetError::Listen {
                address: local.to_string(),
                source,
            })?
        };
        let net = Net {
            shared,
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            local,
        };
        net.set_peers(options.peers);
        // After the list is there, or its members would be taken for strangers.
        net.handle
            .spawn(accept::accept(net.shared.clone(), listener));
        Ok(net)
    }

    /// Queues `payload` for `to`; never waits.
    pub fn send(&self, to: PeerId, lane: Lane, payload: Bytes) -> Sent {
        self.shared.send(&self.shared.book(), to, lane, payload)
    }

    /// Queues `payload` for each of `to` without copying it; gives how many queues took it.
    pub fn broadcast(&self, to: &[PeerId], lane: Lane, payload: Bytes) -> usize {
        let book = self.shared.book();
        let took = to.iter().filter(|id| {
            let sent = self.shared.send(&book, **id, lane, payload.clone());
            matches!(sent, Sent::Queued | Sent::Displaced)
        });
        took.count()
    }

    /// Replaces the list of peers: dials the new, cuts off the gone, redials moved ones at their
    /// new address once their connection ends. A peer whose key changed is another peer.
    pub fn set_peers(&self, peers: Vec<Peer>) {
        let _one_at_a_time = lock(&self.shared.changes);
        let old = self.shared.book();
        let mut book = Book::default();
        let mut fresh = Vec::new();
        for peer in peers {
            if peer.key == self.shared.identity.public() || book.links.contains_key(&peer.id) {
                continue;
            }
            let kept = old.links.get(&peer.id).filter(|link| link.key == peer.key);
            let link = match kept {
                Some(link) => {
                    link.move_to(&peer.address);
                    link.clone()
                }
                None => Arc::new(Link::new(&peer, &self.shared.limits)),
            };
            if kept.is_none() {
                fresh.push(link.clone());
            }
            book.keys.insert(link.key, link.id);
            book.links.insert(link.id, link);
        }
        let gone: Vec<Arc<Link>> = old
            .links
            .values()
            .filter(|link| {
                book.links
                    .get(&link.id)
                    .is_none_or(|now| !Arc::ptr_eq(now, link))
            })
            .cloned()
            .collect();
        // The book first: a handshake that ends now meets it under the lock of `inbound`.
        *self
            .shared
            .book
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
        for link in gone {
            self.shared.cut_off(&link);
        }
        for link in fresh {
            for lane in Lane::ALL {
                let task = dial::keep_open(self.shared.clone(), link.clone(), lane);
                link.own(self.handle.spawn(task).abort_handle());
            }
        }
    }

    /// The peers that are up: the votes lanes of both directions are open.
    pub fn connected(&self) -> Vec<PeerId> {
        let book = self.shared.book();
        let up = book.links.values().filter(|link| link.is_up());
        up.map(|link| link.id).collect()
    }

    /// The counters since the start, or since a peer was added.
    pub fn stats(&self) -> Stats {
        let book = self.shared.book();
        Stats {
            peers: book
                .links
                .values()
                .map(|link| (link.id, link.stats()))
                .collect(),
            refused: self.shared.refused.read(),
            failed: self.shared.failed.read(),
        }
    }

    /// Where we listen.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Lets every connection send what is queued, for a second at most, and ends all threads.
    /// Waits for that, so not to be called by `deliver` or `notice`; later sends go nowhere.
    /// Dropping a [`Net`] ends it without waiting.
    pub fn shutdown(&self) {
        self.shared.stop.send_replace(true);
        let Some(runtime) = lock(&self.runtime).take() else {
            return;
        };
        let shared = &self.shared;
        // On a thread of its own, for a runtime must not be awaited from within another.
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let ended =
                    async { tokio::time::timeout(SHUTDOWN_MAX, shared.stop.closed()).await };
                // Whether all ended in time or not, the runtime goes.
                let _late = runtime.block_on(ended);
                runtime.shutdown_timeout(SHUTDOWN_MAX);
            });
        });
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
        if let Some(runtime) = lock(&self.runtime).take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "net at {}", self.local)
    }
}

/// Who is on the list.
#[derive(Default)]
struct Book {
    links: BTreeMap<PeerId, Arc<Link>>,
    keys: BTreeMap<PublicKey, PeerId>,
}

impl Book {
    fn by_key(&self, key: &PublicKey) -> Option<&Arc<Link>> {
        self.links.get(self.keys.get(key)?)
    }
}

/// What all tasks share.
struct Shared {
    identity: tls::Identity,
    book: RwLock<Arc<Book>>,
    /// Held while the list of peers changes.
    changes: Mutex<()>,
    /// The reader per peer and lane: at most two per entry of the book.
    inbound: Mutex<BTreeMap<(PeerId, Lane), AbortHandle>>,
    limits: Limits,
    seed: u64,
    deliver: Box<dyn Fn(Inbound) + Send + Sync>,
    notice: Box<dyn Fn(Event) + Send + Sync>,
    /// Connections from outside that came to nothing.
    refused: Refusals,
    /// Our own attempts that came to nothing.
    failed: Refusals,
    /// True at the end; every task holds a receiver.
    stop: watch::Sender<bool>,
    /// Marked at each count, for tests to wait on.
    changed: watch::Sender<()>,
}

impl Shared {
    fn book(&self) -> Arc<Book> {
        let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
        book.clone()
    }

    fn send(&self, book: &Book, to: PeerId, lane: Lane, payload: Bytes) -> Sent {
        if payload.len() > lane.frame_bytes_max() {
            return Sent::TooLarge;
        }
        match book.links.get(&to) {
            Some(link) => link.lane(lane).push(lane, payload),
            None => Sent::Stranger,
        }
    }

    fn refuse(&self, reason: Refusal) {
        self.refused.count(reason);
        self.changed.send_replace(());
    }

    fn cut_off(&self, link: &Link) {
        link.abort();
        let mut inbound = lock(&self.inbound);
        for lane in Lane::ALL {
            if let Some(reader) = inbound.remove(&(link.id, lane)) {
                reader.abort();
            }
        }
    }
}

/// Returns at the end of the network.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the network is gone, which is the same to a task.
    let _gone = stop.wait_for(|stop| *stop).await.is_ok();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
