//! The `full-gossip` overlay: everybody knows everybody, and what a link lost is asked for.
//!
//! Source: the eager and lazy halves of Plumtree (Leitão et al., 2007) over the whole list. In:
//! broadcasts, signed messages, what links report. Out: the same messages, offers and requests.
//! Holds: a broadcast is delivered once at each listed member that a chain of correct members with
//! standing links joins to its origin; one origin cannot spend the share of another; all memory is
//! bounded by the list and the bounds named here.
//! Elsewhere: who is listed (`list`), what is delivered (`consortium`).
//!
//! Relaying every message to everybody costs (n - 1)(n - 2) copies for nothing where all links
//! stand, and no member knows which links of others stand. So the origin sends its bytes to each
//! member that it reaches, n - 1 copies in all, and a receiver *offers* the names of what it saw:
//! once in a while, many names in one message, to f + 1 members at a time in turn, until all were
//! told. Whoever lacks a name asks one holder at a time. Faulty members withhold and offers get
//! lost, but each correct holder makes its offer to each member that it reaches, and again when a
//! link comes back.
//!
//! Delivery is once for as long as a member runs; after a restart it may see again what was said
//! before. An origin that signs two contents under one counter is heard with either. So what is
//! delivered must prove itself, as certificates do.

mod seen;
mod store;
mod wants;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::seen::Seen;
use self::store::{Kept, Store};
use self::wants::{Offer, Wants};
use super::budget::{Budget, Share};
use super::envelope::{CONTENT_BYTES_MAX, Envelope, Kind, Name, Seal, names_of};
use super::{
    FAULT_EVERY, Overlay, OverlayFault, OverlayFaultKind, OverlayInput, OverlayOutput,
    OverlayPlugin, OverlaySetup, OverlayStats,
};
use crate::blocks::codec;
use crate::committee::{MemberId, Sizes};
use crate::crypto::PublicKey;
use crate::machine::{Span, Time};

/// The registry's entry.
pub(super) static PLUGIN: OverlayPlugin = OverlayPlugin {
    name: "full-gossip",
    about: "everybody is sent to directly, what links lose is repaired; for up to 256 members",
    make: |setup| Box::new(FullGossip::new(&setup)),
};

/// Names in one offer or request, at most: what one member may make us ask for at a time.
const NAMES_MAX: usize = wants::WANTS_MAX;

/// The only timer: offers and requests that are due.
const TICK: u64 = 0;
/// The shortest time between two rounds of offers; members differ by up to [`TICK_SPREAD_MS`].
const TICK_MS: u64 = 75;
const TICK_SPREAD_MS: u64 = 50;

/// What we broadcast: half of what others take from us, so that jitter drops nothing.
const OWN_SHARE: Share = Share {
    messages: 256,
    bytes: 4 << 20,
};
/// What is taken from one origin, whoever relays it. Beyond it its messages are dropped for good.
const ORIGIN_SHARE: Share = Share {
    messages: 512,
    bytes: 8 << 20,
};
/// What is read from one link before any signature is checked. Beyond it bytes are dropped.
const LINK_SHARE: Share = Share {
    messages: 2048,
    bytes: 32 << 20,
};
/// What one member gets for its requests. Beyond it they are not answered.
const SERVED_SHARE: Share = Share {
    messages: 512,
    bytes: 8 << 20,
};

/// What we know of a listed member.
#[derive(Debug)]
struct Peer {
    identity: PublicKey,
    is_up: bool,
    is_suspected: bool,
    /// It was told of what is kept below this place.
    told: u64,
    /// Our own messages below this place may not have reached it, so they are offered too.
    own_until: u64,
    seen: Seen,
    of_link: Budget,
    of_origin: Budget,
    of_served: Budget,
    faulted: Option<Time>,
}

impl Peer {
    fn new(identity: PublicKey) -> Self {
        Self {
            identity,
            is_up: false,
            is_suspected: false,
            told: 0,
            own_until: 0,
            seen: Seen::default(),
            of_link: Budget::default(),
            of_origin: Budget::default(),
            of_served: Budget::default(),
            faulted: None,
        }
    }
}

/// See the module's head.
struct FullGossip {
    me: MemberId,
    seal: Seal,
    /// The last one used.
    counter: u64,
    own: Budget,
    peers: BTreeMap<MemberId, Peer>,
    store: Store,
    wants: Wants,
    /// Who was told last: the turn goes round by ids.
    turn: MemberId,
    /// The time between rounds, and whether the timer runs.
    tick: (Span, bool),
    stats: OverlayStats,
}

impl FullGossip {
    fn new(setup: &OverlaySetup) -> Self {
        let seal = Seal::new(PLUGIN.name, setup);
        let me = seal.me();
        let spread = u64::from(setup.seed[0]) * TICK_SPREAD_MS / 256;
        Self {
            me,
            seal,
            counter: setup.first_counter,
            own: Budget::default(),
            peers: BTreeMap::new(),
            store: Store::default(),
            wants: Wants::default(),
            turn: me,
            tick: (Span::from_ms(TICK_MS + spread), false),
            stats: OverlayStats::default(),
        }
    }

    fn members(&mut self, list: Vec<(MemberId, PublicKey)>) {
        let mut before = std::mem::take(&mut self.peers);
        for (id, identity) in list {
            if id == self.me {
                continue;
            }
            if MemberId::of(&identity) != id {
                self.stats.refused += 1;
                continue;
            }
            let peer = before.remove(&id);
            let peer = peer.unwrap_or_else(|| Peer::new(identity));
            self.peers.insert(id, peer);
        }
        self.wants.clear();
    }

    fn reachable(&mut self, id: MemberId, is_up: bool, out: &mut Vec<OverlayOutput>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return; // not listed: an overlay never widens the list
        };
        if is_up {
            // What went over the old link may be lost.
            peer.told = self.store.first();
            peer.own_until = self.store.end();
        }
        peer.is_up = is_up;
        if peer.is_suspected == is_up {
            peer.is_suspected = !is_up;
            out.push(if is_up {
                OverlayOutput::Trust(id)
            } else {
                OverlayOutput::Suspect(id)
            });
        }
        self.arm(out);
    }

    fn broadcast(&mut self, now: Time, content: Bytes, out: &mut Vec<OverlayOutput>) {
        let fits = content.len() <= CONTENT_BYTES_MAX;
        if !fits || !self.own.take(now, content.len(), OWN_SHARE) {
            self.stats.dropped += 1;
            return;
        }
        let envelope = self.close(Kind::Payload, content);
        let bytes = envelope.to_bytes();
        let name = (self.me, envelope.counter);
        let up: Vec<_> = self.up().collect();
        for to in up {
            self.send(to, bytes.clone(), out);
        }
        let from = self.me;
        self.store.push(Kept { name, from, bytes });
        self.arm(out);
    }

    fn message(&mut self, now: Time, from: MemberId, bytes: &Bytes, out: &mut Vec<OverlayOutput>) {
        let Some(link) = self.peers.get_mut(&from) else {
            self.stats.refused += 1;
            return;
        };
        if !link.of_link.take(now, bytes.len(), LINK_SHARE) {
            self.stats.dropped += 1;
            return self.fault(now, from, OverlayFaultKind::Flood, out);
        }
        let Some(envelope) = Envelope::from_bytes(bytes) else {
            self.stats.refused += 1;
            return self.fault(now, from, OverlayFaultKind::BadMessage, out);
        };
        let origin = envelope.origin;
        let is_payload = envelope.kind == Kind::Payload;
        if (is_payload && origin == self.me) || (!is_payload && origin != from) {
            // Our own come back from nobody, offers and requests go one step.
            self.stats.refused += 1;
            return self.fault(now, from, OverlayFaultKind::BadMessage, out);
        }
        let Some(maker) = self.peers.get(&origin) else {
            self.stats.refused += 1; // its sender may know a newer list
            return;
        };
        // Who left the list and came back has an empty window, and what it said before is kept.
        let name = (origin, envelope.counter);
        let is_known = !maker.seen.is_fresh(envelope.counter) || self.store.get(&name).is_some();
        if is_payload && is_known {
            self.stats.repeated += 1;
            return;
        }
        if !self.seal.holds(&envelope, &maker.identity) {
            self.stats.refused += 1;
            return self.fault(now, from, OverlayFaultKind::BadSignature, out);
        }
        if is_payload {
            return self.payload(now, from, envelope, bytes.clone(), out);
        }
        match (names_of(&envelope.content, NAMES_MAX), envelope.kind) {
            (Some(names), Kind::Want) => self.serve(now, from, &names, out),
            (Some(names), _) => self.offered(now, from, names, out),
            (None, _) => {
                self.stats.refused += 1;
                self.fault(now, from, OverlayFaultKind::BadMessage, out);
            }
        }
    }

    /// A listed origin's broadcast that was not seen; its signature holds.
    fn payload(
        &mut self,
        now: Time,
        from: MemberId,
        envelope: Envelope,
        bytes: Bytes,
        out: &mut Vec<OverlayOutput>,
    ) {
        let (origin, name) = (envelope.origin, (envelope.origin, envelope.counter));
        let maker = self.peers.get_mut(&origin);
        let maker = maker.expect("the origin is listed: its key was just used");
        maker.seen.mark(envelope.counter);
        let fits = maker.of_origin.take(now, bytes.len(), ORIGIN_SHARE);
        self.wants.settle(&name);
        if !fits {
            // It stays marked: else others would offer it for as long as they keep it.
            self.stats.dropped += 1;
            return self.fault(now, origin, OverlayFaultKind::Flood, out);
        }
        self.stats.delivered += 1;
        self.store.push(Kept { name, from, bytes });
        out.push(OverlayOutput::Deliver {
            origin,
            bytes: envelope.content,
        });
        self.arm(out);
    }

    /// Another member keeps these.
    fn offered(
        &mut self,
        now: Time,
        from: MemberId,
        names: Vec<Name>,
        out: &mut Vec<OverlayOutput>,
    ) {
        let mut asks = Vec::new();
        for name in names {
            let origin = self.peers.get(&name.0);
            let is_fresh = origin.is_some_and(|origin| origin.seen.is_fresh(name.1));
            if !is_fresh || self.store.get(&name).is_some() {
                continue; // seen, too old, our own, or not listed
            }
            match self.wants.offer(now, name, from) {
                Offer::Ask => asks.push(name),
                Offer::Later => {}
                Offer::Full => self.stats.dropped += 1,
            }
        }
        self.name(Kind::Want, from, &asks, out);
        self.arm(out);
    }

    /// Another member lacks these.
    fn serve(&mut self, now: Time, to: MemberId, names: &[Name], out: &mut Vec<OverlayOutput>) {
        for name in names {
            let (Some(bytes), Some(peer)) = (self.store.get(name), self.peers.get_mut(&to)) else {
                continue; // forgotten since
            };
            let bytes = bytes.clone();
            if peer.of_served.take(now, bytes.len(), SERVED_SHARE) {
                self.send(to, bytes, out);
            } else {
                self.stats.dropped += 1;
            }
        }
    }

    /// One round: the next f + 1 members are told what they were not told yet, and what did not
    /// come is asked of others.
    fn round(&mut self, now: Time, out: &mut Vec<OverlayOutput>) {
        let behind = |peer: &Peer| peer.is_up && peer.told < self.store.end();
        let after = |id: &MemberId| (*id <= self.turn, *id);
        let mut due: Vec<MemberId> = self
            .peers
            .iter()
            .filter(|(_, p)| behind(p))
            .map(id)
            .collect();
        due.sort_by_key(after);
        due.truncate(Sizes::of(self.peers.len() + 1).f + 1);
        for to in due {
            self.turn = to;
            let names = self.untold(to);
            self.name(Kind::Have, to, &names, out);
        }
        let peers = &self.peers;
        let is_up = |id: &MemberId| peers.get(id).is_some_and(|peer| peer.is_up);
        for (holder, names) in self.wants.overdue(now, is_up) {
            for names in names.chunks(NAMES_MAX) {
                self.name(Kind::Want, holder, names, out);
            }
        }
        self.arm(out);
    }

    /// The names that `to` was not told of yet, and from now on was.
    fn untold(&mut self, to: MemberId) -> Vec<Name> {
        let peer = self
            .peers
            .get_mut(&to)
            .expect("only listed members are due");
        let mut names = Vec::new();
        for (place, kept) in self.store.since(peer.told) {
            peer.told = place + 1;
            let was_sent = kept.from == self.me && place >= peer.own_until;
            if !was_sent && kept.from != to && kept.name.0 != to {
                names.push(kept.name);
            }
            if names.len() == NAMES_MAX {
                break;
            }
        }
        names
    }

    /// Sends an offer or a request; nothing for no names.
    fn name(&mut self, kind: Kind, to: MemberId, names: &[Name], out: &mut Vec<OverlayOutput>) {
        if !names.is_empty() {
            let content = Bytes::from(codec::encode(&names));
            let bytes = self.close(kind, content).to_bytes();
            self.send(to, bytes, out);
        }
    }

    fn close(&mut self, kind: Kind, content: Bytes) -> Envelope {
        // Offers and requests are never looked up by counter, so only broadcasts use it up.
        if kind == Kind::Payload {
            self.counter = self.counter.saturating_add(1);
        }
        self.seal.close(kind, self.counter, content)
    }

    fn send(&mut self, to: MemberId, bytes: Bytes, out: &mut Vec<OverlayOutput>) {
        assert!(
            self.peers.contains_key(&to),
            "only listed members are sent to"
        );
        self.stats.sent += 1;
        out.push(OverlayOutput::Send { to, bytes });
    }

    fn up(&self) -> impl Iterator<Item = MemberId> {
        self.peers.iter().filter(|(_, peer)| peer.is_up).map(id)
    }

    /// Arms the timer if a round has something to do.
    fn arm(&mut self, out: &mut Vec<OverlayOutput>) {
        let end = self.store.end();
        let is_behind = self.peers.values().any(|p| p.is_up && p.told < end);
        let (after, is_armed) = self.tick;
        if !is_armed && (is_behind || !self.wants.is_empty()) {
            self.tick.1 = true;
            out.push(OverlayOutput::Arm { timer: TICK, after });
        }
    }

    fn fault(
        &mut self,
        now: Time,
        who: MemberId,
        what: OverlayFaultKind,
        out: &mut Vec<OverlayOutput>,
    ) {
        let Some(peer) = self.peers.get_mut(&who) else {
            return;
        };
        if peer.faulted.is_none_or(|at| now - at >= FAULT_EVERY) {
            peer.faulted = Some(now);
            out.push(OverlayOutput::Fault(OverlayFault { who, what }));
        }
    }
}

fn id((id, _): (&MemberId, &Peer)) -> MemberId {
    *id
}

impl Overlay for FullGossip {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn handle(&mut self, now: Time, input: OverlayInput, out: &mut Vec<OverlayOutput>) {
        match input {
            OverlayInput::Members(list) => self.members(list),
            OverlayInput::Reachable(id, is_up) => self.reachable(id, is_up, out),
            OverlayInput::Broadcast(content) => self.broadcast(now, content, out),
            OverlayInput::Message { from, bytes } => self.message(now, from, &bytes, out),
            OverlayInput::Timer(TICK) => {
                self.tick.1 = false;
                self.round(now, out);
            }
            OverlayInput::Timer(_) => {}
        }
    }

    fn stats(&self) -> OverlayStats {
        self.stats
    }
}
