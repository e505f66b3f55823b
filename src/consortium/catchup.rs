//! Catching up: what is missing is asked for, and what others lack is given.
//!
//! Source: `ARCHITECTURE.md`. In: certificates ahead of us, extents, batches. Out: requests.
//! Holds: one extent is asked for at a time; connected peers take turns of [`PATIENCE`] each, so
//! one that is silent or gives in drops delays us by its turns and a dead one not at all.
//! Elsewhere: reading the disk for others (`serve`), bootstrap from a snapshot (`bootstrap`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::apply::{Source, named};
use super::contract::{Event, Timer, Wanted};
use super::message::{DIGESTS_MAX, Extent, Message};
use super::pool::INLINE_BYTES_MAX;
use super::replica::{Consortium, Out};
use crate::blocks::CheckedBatch;
use crate::committee::{Height, MemberId, SEATS_MAX, View};
use crate::crypto::{Digest, Verified};
use crate::fsm::{self, Status};
use crate::machine::{Span, Time, To};
use crate::plant::{self, Plant};

/// Certified blocks that wait to be applied, at most; further extents are asked for again.
const PENDING_MAX: usize = 4096;
/// Bytes of batches after which the answer to one request, or to one who returns, ends.
const FETCH_BYTES: usize = 4 << 20;
/// How long one peer is asked before the next is; whoever gave nothing by then has had its turn.
const PATIENCE: Span = Span::from_ms(200);
/// How often a member without a seat asks for what follows.
const POLL: Span = Span::from_ms(2_000);
/// Members that are asked in turn, at most; further ones of a later view are not.
const PEERS_MAX: usize = 2 * SEATS_MAX;
/// Blocks whose batches are fetched ahead of their turn.
const PREFETCH_BLOCKS: usize = 32;

/// What is missing, and whom to ask next.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// Seats aside from ourselves, in the order in which they are asked, and members that stand
    /// in a later view: of those who sat in this one nobody may be left.
    peers: Vec<MemberId>,
    /// The place of the one that is asked now.
    turn: usize,
    /// Members that are connected.
    connected: BTreeSet<MemberId>,
    /// Proposals that wait for batches: per height and digest those still missing. Bounded by the
    /// window, the payloads kept per height (see [`Consortium::await_batches`]) and the batches of
    /// a body.
    waiting: BTreeMap<(Height, Digest), BTreeSet<Digest>>,
    /// Batches that a decided block lacks.
    lacking: BTreeSet<Digest>,
    /// The last batch that was asked for because a proposal waits for it.
    asked_last: Digest,
    /// Members without a seat that are connected: they are told of certificates.
    pub(super) observers: BTreeSet<MemberId>,
    /// The height from which an extent was asked for.
    asked: Option<Height>,
    is_armed: bool,
    /// Peers that have pruned what we lack, since blocks came last. Bounded by `peers`.
    pruned: BTreeSet<MemberId>,
    /// Turns since the first of them said so.
    turns: usize,
    /// Whether the driver was told that we are too far behind.
    is_too_far: bool,
    /// Seats that know a checkpoint much shorter than the blocks that we lack, and its height,
    /// which lies ahead of us; since we had caught up last. Bounded by `peers`.
    shorter: BTreeMap<MemberId, Height>,
    /// Whether the driver was told of it.
    is_shorter: bool,
    /// How often others were asked whether they know it too.
    probes: usize,
}

impl CatchUp {
    pub(super) fn new(me: &MemberId, view: &View) -> Self {
        let mut peers: Vec<MemberId> = view
            .seats()
            .iter()
            .map(|seat| seat.member)
            .filter(|member| member != me)
            .collect();
        // Members start with different peers, so that nobody serves all of them.
        let start = peers.iter().filter(|peer| *peer < me).count();
        let count = peers.len().max(1);
        peers.rotate_left(start % count);
        Self {
            peers,
            turn: 0,
            connected: BTreeSet::new(),
            waiting: BTreeMap::new(),
            lacking: BTreeSet::new(),
            asked_last: Digest::ZERO,
            observers: BTreeSet::new(),
            asked: None,
            is_armed: false,
            pruned: BTreeSet::new(),
            turns: 0,
            is_too_far: false,
            shorter: BTreeMap::new(),
            is_shorter: false,
            probes: 0,
        }
    }

    /// Blocks came: somebody has what we lack.
    fn progressed(&mut self) {
        self.pruned.clear();
        self.turns = 0;
        self.is_too_far = false;
    }

    /// Nothing is lacking.
    fn arrived(&mut self) {
        self.shorter.clear();
        self.is_shorter = false;
        self.probes = 0;
    }

    /// Whom to ask whether it knows a shorter way too, where somebody does: one at a time, twice
    /// each.
    fn probe(&mut self) -> Option<MemberId> {
        if self.is_shorter || self.shorter.is_empty() || self.probes >= 2 * self.peers.len() {
            return None;
        }
        let turn = (self.probes..).take(self.peers.len());
        let mut others = turn.map(|place| self.peers[place % self.peers.len()]);
        let other =
            others.find(|peer| self.connected.contains(peer) && !self.shorter.contains_key(peer));
        self.probes += 1;
        other
    }

    /// Whether nobody who is asked has what we lack: more than may be faulty have pruned it, and
    /// the others too, or they had two turns each and gave nothing.
    fn is_stranded(&self, faulty: usize) -> bool {
        let asked = self.peers.iter();
        let asked = asked.filter(|peer| self.connected.contains(peer));
        let (all, pruned) = asked.fold((0, 0), |(all, pruned), peer| {
            (all + 1, pruned + usize::from(self.pruned.contains(peer)))
        });
        let is_late = self.turns > 2 * self.peers.len();
        pruned > faulty && (pruned == all || is_late)
    }

    /// Whom to ask: the present peer while it is connected, else the next that is; where nobody is
    /// known to be, whoever's turn it is.
    fn peer(&mut self) -> Option<MemberId> {
        let count = self.peers.len();
        let places = (self.turn..self.turn + count).map(|turn| turn % count);
        let mut connected = places.filter(|place| self.connected.contains(&self.peers[*place]));
        self.turn = connected.next().unwrap_or(self.turn);
        self.peers.get(self.turn).copied()
    }

    /// A member that is connected stands in a later view: it has what we lack.
    pub(super) fn ahead(&mut self, member: MemberId) {
        let is_new = self.connected.contains(&member) && !self.peers.contains(&member);
        if is_new && self.peers.len() < PEERS_MAX {
            self.peers.push(member);
        }
    }

    /// The present peer has had its turn: the next one is asked.
    fn next_peer(&mut self) -> Option<MemberId> {
        self.turn = (self.turn + 1) % self.peers.len().max(1);
        self.peer()
    }

    /// A block was applied: nothing at or below it is missing any more.
    pub(super) fn applied(&mut self, height: Height, faulty: usize) {
        self.waiting.retain(|(waiting, _), _| *waiting > height);
        // A way that we are past is none: whoever knew it does not stand for what others say.
        if !plant::is(Plant::PassedHint) {
            let before = self.shorter.len();
            self.shorter.retain(|_, shorter| *shorter > height);
            if self.shorter.len() < before {
                // The next one is told again, and looked for again.
                self.is_shorter &= self.shorter.len() > faulty;
                self.probes = 0;
            }
        }
    }

    /// Members to whom links stand.
    pub(super) fn connected(&self) -> &BTreeSet<MemberId> {
        &self.connected
    }

    /// How many proposals wait.
    pub(super) fn waits(&self) -> usize {
        self.waiting.len()
    }

    /// What proposals wait for, by height.
    pub(super) fn wanted(&self) -> BTreeMap<Height, Vec<Digest>> {
        let mut wanted: BTreeMap<Height, Vec<Digest>> = BTreeMap::new();
        for ((height, _), missing) in &self.waiting {
            wanted.entry(*height).or_default().extend(missing);
        }
        wanted
    }

    /// What to ask for now: first what decided blocks lack, which others have; then what proposals
    /// wait for, which a liar may have invented, so each time what follows on what was asked last.
    fn missing(&mut self) -> Vec<Digest> {
        if plant::is(Plant::NoFetch) {
            return Vec::new();
        }
        let waiting: BTreeSet<Digest> = self.waiting.values().flatten().copied().collect();
        let after = (Bound::Excluded(self.asked_last), Bound::Unbounded);
        let turn = waiting
            .range(after)
            .chain(waiting.range(..=self.asked_last));
        let turn = turn.filter(|digest| !self.lacking.contains(digest));
        let missing = self.lacking.iter().chain(turn).copied();
        let missing: Vec<Digest> = missing.take(DIGESTS_MAX).collect();
        let last = missing.last().filter(|last| waiting.contains(last));
        self.asked_last = last.copied().unwrap_or(self.asked_last);
        missing
    }
}

impl Consortium {
    /// What the disk left undone is taken up.
    pub(super) fn resume(&mut self, out: &mut Out) {
        let decided: Vec<_> = self.ordering.decisions().collect();
        decided
            .iter()
            .for_each(|(height, payload)| self.on_decided(*height, payload));
        if self.is_observer() {
            self.poll(out);
        }
        self.apply(out);
    }

    /// A link stands: what was said before may be lost.
    pub(super) fn on_connected(&mut self, now: Time, member: MemberId, out: &mut Out) {
        self.catchup.connected.insert(member);
        if self.view.seat_of(&member).is_none() {
            self.catchup.observers.insert(member);
        }
        self.forget_vacancy(&member);
        self.count_losses();
        self.tell_vacancy(To::One(member), out);
        if let Some(certificate) = self.certificate().cloned() {
            out.send(To::One(member), Message::Certificate(certificate));
        }
        if let Some(seat) = self.view.seat_of(&member) {
            self.tell(now, fsm::Command::Connected(seat, true), out);
            self.give_batches(To::One(member), out);
            self.tell_all_held(member, out);
        }
        if self.seals.ahead().is_some() {
            self.asked_again(out);
        }
    }

    /// Tells a member of every batch that we hold.
    pub(super) fn tell_all_held(&self, member: MemberId, out: &mut Out) {
        let held: Vec<_> = self.pool.held().collect();
        for digests in held.chunks(DIGESTS_MAX) {
            out.send(To::One(member), Message::Held(digests.to_vec()));
        }
    }

    /// Gives own batches to a seat that is back, for the quorum that they need may be with it, or
    /// to all under a new leader: as much at once as answers one request, the rest as they are
    /// spread.
    pub(super) fn give_batches(&self, to: To<MemberId>, out: &mut Out) {
        let mut bytes = 0;
        for batch in self.to_spread() {
            bytes += batch.bytes.len();
            if bytes > FETCH_BYTES {
                break;
            }
            out.send(to, Message::Batch(batch.bytes.clone()));
        }
    }

    /// Own batches, oldest first; what a leader can inline it need not spread.
    pub(super) fn to_spread(&self) -> impl Iterator<Item = &Verified<CheckedBatch>> {
        let leads = self.ordering.is_leading();
        let own = self.pool.own();
        own.filter(move |batch| !leads || batch.bytes.len() > INLINE_BYTES_MAX)
    }

    /// The links to a member fell: what it was asked for is asked of another.
    pub(super) fn on_disconnected(&mut self, now: Time, member: &MemberId, out: &mut Out) {
        self.catchup.connected.remove(member);
        self.catchup.observers.remove(member);
        self.count_losses();
        if let Some(seat) = self.view.seat_of(member) {
            self.tell(now, fsm::Command::Connected(seat, false), out);
        }
        if self.catchup.is_armed {
            self.fetch_again(out);
        }
    }

    /// A proposal waits for `missing` batches; those whose payload had to give way for others wait
    /// no more, since it is checked anew when it comes again.
    pub(super) fn await_batches(&mut self, height: Height, digest: Digest, missing: &[Digest]) {
        let ordering = &self.ordering;
        let waiting = &mut self.catchup.waiting;
        waiting.retain(|(at, held), _| *at != height || ordering.has_payload(height, held));
        waiting.insert((height, digest), missing.iter().copied().collect());
    }

    /// A batch arrived: proposals that waited for it may be valid now.
    pub(super) fn on_arrived(&mut self, now: Time, digest: &Digest, out: &mut Out) {
        self.catchup.lacking.remove(digest);
        let mut ready = Vec::new();
        for (proposal, missing) in &mut self.catchup.waiting {
            if missing.remove(digest) && missing.is_empty() {
                ready.push(*proposal);
            }
        }
        for (height, payload) in ready {
            self.catchup.waiting.remove(&(height, payload));
            self.tell(now, fsm::Command::Checked(height, payload, true), out);
        }
    }

    /// What the next blocks lack, their batches being let into the pool whatever their origin has
    /// there.
    pub(super) fn prefetch(&mut self) -> bool {
        let mut lacking = Vec::new();
        let heights: Vec<Height> = self
            .chain
            .pending
            .keys()
            .take(PREFETCH_BLOCKS)
            .copied()
            .collect();
        let next = self.chain.ledger.height().next();
        let mut is_ready = true;
        for height in heights {
            let Some(source) = self.chain.pending.get(&height) else {
                continue;
            };
            let missing = self.pool.missing(&named(source.body()));
            if !missing.is_empty() {
                self.pool.mark_proposed(height, &named(source.body()));
                is_ready &= height != next;
                lacking.extend(missing);
            }
        }
        self.catchup.lacking = lacking.into_iter().collect();
        is_ready
    }

    /// Asks for every missing batch, the first time of whoever leads: its proposals name them.
    pub(super) fn fetch_batches(&mut self, out: &mut Out) {
        if self.catchup.is_armed {
            return; // Asked for; the timer asks another peer.
        }
        let missing = self.catchup.missing();
        let leader = self.view.member(self.ordering.regency().1);
        let leader = leader.filter(|leader| self.catchup.connected.contains(leader));
        let leader = leader.filter(|_| self.catchup.lacking.is_empty());
        let peer = leader.or_else(|| self.catchup.peer());
        if let Some(peer) = peer.filter(|_| !missing.is_empty()) {
            out.send(To::One(peer), Message::Fetch(missing));
            self.arm_fetch(out);
        }
    }

    fn arm_fetch(&mut self, out: &mut Out) {
        self.catchup.is_armed = true;
        out.arm(Timer::Fetch, PATIENCE);
    }

    /// A turn is over and something is missing still: another peer is asked.
    pub(super) fn fetch_again(&mut self, out: &mut Out) {
        self.catchup.is_armed = false;
        self.catchup.turns += usize::from(!self.catchup.pruned.is_empty());
        self.tell_stranded(out);
        let missing = self.catchup.missing();
        if let Some(peer) = self.catchup.next_peer().filter(|_| !missing.is_empty()) {
            out.send(To::One(peer), Message::Fetch(missing));
            self.arm_fetch(out);
        }
        if let Some(peer) = self.catchup.probe() {
            let next = self.chain.ledger.height().next();
            out.send(To::One(peer), Message::Request(next));
        }
        self.asked_again(out);
        if self.is_observer() && !self.catchup.is_armed {
            self.poll(out);
        }
    }

    fn is_observer(&self) -> bool {
        self.view.seat_of(&self.options.me).is_none()
    }

    /// Without a seat nobody tells us twice of a certificate, so now and then we ask for what
    /// follows.
    fn poll(&mut self, out: &mut Out) {
        if let Some(peer) = self.catchup.next_peer() {
            out.send(To::One(peer), Message::Request(self.chain.reach().next()));
        }
        out.arm(Timer::Fetch, POLL);
    }

    /// A certificate stands above what is applied. Heights in the window are about to be decided
    /// here; what lies further, or comes without a seat, is fetched.
    pub(super) fn follow(&mut self, out: &mut Out) {
        let Some(ahead) = self.seals.ahead() else {
            return;
        };
        let is_far = ahead > self.ordering.decided();
        if is_far && self.catchup.asked.is_none() && !self.is_in_reach(ahead) {
            self.request(out);
        } else if !self.catchup.is_armed {
            self.arm_fetch(out);
        }
    }

    fn is_in_reach(&self, height: Height) -> bool {
        let window = u64::from(self.options.genesis.parameters.window);
        let votes = matches!(
            self.ordering.state(),
            "follower" | "leader" | "checkpointing"
        );
        votes && height <= self.ordering.decided().plus(window)
    }

    fn asked_again(&mut self, out: &mut Out) {
        let applied = self.chain.ledger.height();
        let is_behind = self.seals.ahead().is_some_and(|ahead| ahead > applied);
        self.catchup.asked = None;
        if !is_behind {
            self.catchup.arrived();
        }
        if is_behind {
            self.request(out);
        }
    }

    fn request(&mut self, out: &mut Out) {
        let from = self.chain.reach().next();
        if self.seals.ahead().is_none_or(|ahead| from > ahead) {
            return; // All of it is here and being applied.
        }
        if let Some(peer) = self.catchup.peer() {
            self.catchup.asked = Some(from);
            out.send(To::One(peer), Message::Request(from));
        }
        if !self.catchup.is_armed {
            self.arm_fetch(out);
        }
    }

    /// A peer has pruned what we lack: the next one is asked, or, if all have, the driver is told.
    pub(super) fn on_pruned(&mut self, from: MemberId, first: Height, out: &mut Out) {
        let is_asked = self.catchup.peers.contains(&from);
        if !is_asked || first <= self.chain.reach().next() {
            return; // Late: it came from another.
        }
        let is_turn = self.catchup.peer() == Some(from) && self.catchup.asked.is_some();
        let is_again = !self.catchup.pruned.insert(from);
        if is_turn {
            self.catchup.turns += usize::from(is_again); // Another round is over.
            self.catchup.asked = None;
            let next = self.catchup.next_peer();
            if next.is_some_and(|next| !self.catchup.pruned.contains(&next)) {
                self.request(out);
            } // Else the timer asks again: somebody may have it all the same.
        }
        self.tell_stranded(out);
    }

    /// A seat gives blocks, and knows a shorter way. The blocks may be here already, and their
    /// batches not.
    pub(super) fn on_shorter(&mut self, from: MemberId, height: Height, out: &mut Out) {
        // Those of a later view are asked too, and nothing bounds how many of them are faulty.
        let is_seat = self.view.seat_of(&from).is_some() && from != self.options.me;
        if !is_seat || height <= self.chain.ledger.height() {
            return; // Late: we are past it.
        }
        self.catchup.shorter.insert(from, height);
        let planted = plant::is(Plant::LoneHint);
        let faulty = if planted { 0 } else { self.view.sizes().f };
        if !self.catchup.is_shorter && self.catchup.shorter.len() > faulty {
            self.catchup.is_shorter = true;
            out.emit(Event::Shorter);
        }
    }

    fn tell_stranded(&mut self, out: &mut Out) {
        let faulty = self.view.sizes().f;
        if !self.catchup.is_too_far && self.catchup.is_stranded(faulty) {
            self.catchup.is_too_far = true;
            out.emit(Event::TooFar);
        }
    }

    /// Certified blocks arrive; only a stretch that follows what is applied is taken.
    pub(super) fn on_extent(&mut self, now: Time, extent: Verified<Extent>, out: &mut Out) {
        let Extent {
            blocks,
            certificate,
        } = extent.into_inner();
        let (tip, reach) = (self.chain.ledger.height(), self.chain.reach());
        let starts = blocks.first().map(|block| block.header.height);
        let is_next = starts.is_some_and(|height| height <= reach.next());
        let brings_news = certificate.ballot.height > tip;
        if !is_next || !brings_news || self.chain.pending.len() > PENDING_MAX {
            return;
        }
        for block in blocks {
            let height = block.header.height;
            if height > tip && !self.chain.is_under_way(height) {
                // A certified body is the decided one: it may replace it, and brings its header.
                self.chain
                    .pending
                    .insert(height, Source::Certified(Box::new(block)));
            }
        }
        self.catchup.asked = None;
        self.catchup.progressed();
        self.on_certificate(now, Verified::vouch(certificate), out);
        self.apply(out);
        if self.catchup.asked.is_none() {
            self.request(out); // The next stretch, while this one is applied.
        }
    }

    /// A member asks where we stand: what it lacks and we have in memory goes with the answer.
    pub(super) fn help(&mut self, from: MemberId, status: &Status, out: &mut Out) {
        if status.certified < self.certified() {
            if let Some(certificate) = self.certificate().cloned() {
                out.send(To::One(from), Message::Certificate(certificate));
            }
        } else if status.is_question {
            for vote in self.votes_above(status.certified) {
                out.send(To::One(from), Message::Persist(vote));
            }
        }
    }

    /// A member lacks batches: those of the pool go at once, older ones are read from the disk.
    pub(super) fn on_fetch(&mut self, from: MemberId, digests: Vec<Digest>, out: &mut Out) {
        let mut elsewhere = Vec::new();
        let mut bytes = 0;
        for digest in digests {
            match self.pool.get(&digest) {
                // Beyond the budget they are asked for again.
                Some(_) if bytes > FETCH_BYTES => {}
                Some(batch) => {
                    bytes += batch.bytes.len();
                    out.send(To::One(from), Message::Batch(batch.bytes.clone()));
                }
                None => elsewhere.push(digest),
            }
        }
        if !elsewhere.is_empty() {
            out.emit(Event::Serve(from, Wanted::Batches(elsewhere)));
        }
    }
}
