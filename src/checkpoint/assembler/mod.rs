//! Puts a snapshot together from many servers at once.
//!
//! Source: design, 'checkpoints and bootstrap'; BitTorrent's rarest first and end game. In: what a
//! certified checkpoint names, what servers hold, pages, segments. Out: whom to ask for what; which
//! segments are proved and may be stored.
//! Holds: a segment is taken only where the manifest has it, and a page only if it leads to the
//! root; nothing that is held is asked for; segments are never kept here; a server that lies is
//! banned by what it sent; what is outstanding at one server is bounded.
//! Elsewhere: messages (`bootstrap`), the disk (the driver), who checked the checkpoint
//! (`bootstrap`).
//!
//! First the pages are gathered, then the segments. A server is asked for more the sooner it
//! answers (`server`); among those that have room the one that has given least is asked first, and
//! the less is left the smaller asks are, so servers that are equally fast give equal shares. What
//! is not given in time is asked of another, and once nothing is left to ask for, what is overdue
//! is asked of a second server. What then comes twice is counted and is nobody's fault.

mod bits;
mod server;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::ChaCha12Rng;
use rand::{RngExt as _, SeedableRng as _};

pub use self::bits::Bits;
pub use self::server::{ASKS_MAX, LATE_MAX, WINDOW_BYTES_MAX};
use self::server::{Holds, Server};
pub use self::told::{Holding, Lie, Refused, Segment, Tally, Want};
use super::manifest::{Leaf, MANIFEST_LEAVES_MAX, Manifest, ManifestError, Page, pages};
use crate::committee::{MEMBERS_MAX, MemberId, Taken};
use crate::crypto::Digest;
use crate::machine::{Span, Time};
use crate::plant::{self, Plant};

/// Segments in one ask, at most.
pub const ASK_SEGMENTS_MAX: usize = 256;
/// Bytes of the segments in one ask, at most, but for a single segment.
pub const ASK_BYTES_MAX: u64 = 1 << 20;
/// Servers that are known at once, at most; further ones are not asked.
pub const SERVERS_MAX: usize = 256;
/// Answers of one server that nobody asked for, beyond as many as it gave to what was asked, until
/// it is banned.
pub const STRAYS_MAX: u32 = 64;
/// Candidates among which the rarest are chosen for one ask.
const SCAN_MAX: usize = 1024;
/// The rest is cut into so many asks per server: the fewer bytes are left, the smaller asks are.
const CUTS: u64 = 4;
/// How long a page may take.
const PAGE_PATIENCE: Span = Span::from_ms(1_500);

/// A snapshot under way.
pub struct Assembler {
    taken: Taken,
    /// Digests of segments that are here, whether or not they are of this snapshot.
    held: BTreeSet<Digest>,
    /// Pages that were gathered; empty once the manifest is known.
    pages: BTreeMap<u32, Page>,
    manifest: Option<Arc<Manifest>>,
    /// Segments that are not here.
    missing: Bits,
    /// Those of them that nobody is asked for.
    todo: Bits,
    /// How many servers that hold a part hold each segment.
    rarity: Vec<u16>,
    servers: BTreeMap<MemberId, Server>,
    /// Servers that cannot be reached now: what they were asked for may come later.
    away: BTreeMap<MemberId, Server>,
    banned: BTreeSet<MemberId>,
    rng: ChaCha12Rng,
    tally: Tally,
}

impl Assembler {
    /// Starts on what `taken` names; of the segments in `held` none is asked for. `seed` says where
    /// each server is asked first, so newcomers that differ in it ask for different segments.
    ///
    /// Errors: [`ManifestError::Count`] where no manifest has so many segments.
    pub fn new(
        taken: Taken,
        seed: [u8; 32],
        held: BTreeSet<Digest>,
    ) -> Result<Self, ManifestError> {
        if !(1..=MANIFEST_LEAVES_MAX).contains(&taken.segments) {
            let count = taken.segments.into();
            return Err(ManifestError::Count { count });
        }
        Ok(Self {
            taken,
            held,
            pages: BTreeMap::new(),
            manifest: None,
            missing: Bits::none(taken.segments),
            todo: Bits::none(taken.segments),
            rarity: vec![0; taken.segments as usize],
            servers: BTreeMap::new(),
            away: BTreeMap::new(),
            banned: BTreeSet::new(),
            rng: ChaCha12Rng::from_seed(seed),
            tally: Tally::default(),
        })
    }

    /// What is being put together.
    pub fn taken(&self) -> &Taken {
        &self.taken
    }

    /// The manifest, once every page is here.
    pub fn manifest(&self) -> Option<&Arc<Manifest>> {
        self.manifest.as_ref()
    }

    /// Whether every segment is here.
    pub fn is_complete(&self) -> bool {
        self.manifest.is_some() && self.missing.is_empty()
    }

    /// Digests of everything that is here, for another snapshot.
    pub fn into_held(self) -> BTreeSet<Digest> {
        self.held
    }

    /// What was received so far.
    pub fn tally(&self) -> Tally {
        let held = self.manifest.as_ref().map(|_| self.taken.segments);
        Tally {
            segments: held.unwrap_or_default(),
            segments_held: held.unwrap_or_default() - self.missing.count(),
            ..self.tally
        }
    }

    /// Bytes of use that each server gave.
    pub fn shares(&self) -> impl Iterator<Item = (MemberId, u64)> + '_ {
        self.servers.iter().map(|(who, server)| (*who, server.gave))
    }

    /// What is here, for other newcomers.
    pub fn holding(&self) -> Holding {
        let Some(manifest) = &self.manifest else {
            return Holding::Nothing;
        };
        if self.missing.is_empty() {
            return Holding::All;
        }
        let mut held = Bits::all(manifest.segments());
        self.missing.around(0).for_each(|at| {
            held.remove(at);
        });
        Holding::Some(held.to_bytes().into())
    }

    /// Servers that may still have something: not banned, and not known to hold nothing.
    pub fn hopeful(&self) -> usize {
        let hopeful = |server: &&Server| server.is_useful() || server.holds == Holds::Unknown;
        self.servers.values().filter(hopeful).count()
    }

    /// Servers that have not said yet that they hold all of it: they are asked again.
    pub fn unsettled(&self) -> impl Iterator<Item = MemberId> + '_ {
        let servers = self.servers.iter();
        servers
            .filter(|(_, server)| server.holds != Holds::All)
            .map(|(who, _)| *who)
    }

    /// A server can be reached.
    pub fn join(&mut self, who: MemberId) {
        let is_full = self.servers.len() >= SERVERS_MAX;
        if !is_full && !self.banned.contains(&who) && !self.servers.contains_key(&who) {
            let cursor = self.rng.random_range(0..self.taken.segments);
            let server = self.away.remove(&who);
            let server = server.unwrap_or_else(|| Server::new(cursor));
            self.servers.insert(who, server);
        }
    }

    /// A server cannot be reached any more: what it was asked for is asked of others.
    pub fn leave(&mut self, who: &MemberId) {
        let Some(mut server) = self.servers.remove(who) else {
            return;
        };
        self.count(&server.holds, false);
        let open: Vec<u32> = server.all_open().collect();
        self.reopen(&open);
        server.close();
        self.away.insert(*who, server);
        if self.away.len() > SERVERS_MAX {
            self.away.pop_first();
        }
    }

    /// Never asks `who` again.
    pub fn ban(&mut self, who: MemberId) {
        self.leave(&who);
        if self.banned.len() < MEMBERS_MAX {
            self.banned.insert(who);
        }
    }

    /// A server says what it holds.
    ///
    /// Errors: [`Lie::Bitmap`]; then it is banned.
    pub fn holds(&mut self, who: MemberId, holding: &Holding) -> Result<(), Refused> {
        if !self.servers.contains_key(&who) {
            return Err(Refused::Unknown);
        }
        let holds = match holding {
            Holding::Nothing => Holds::Nothing,
            Holding::All => Holds::All,
            Holding::Some(bytes) => match Bits::from_bytes(self.taken.segments, bytes) {
                Some(bits) => Holds::Some(bits),
                None => return Err(self.convict(who, Lie::Bitmap)),
            },
        };
        let server = self.servers.get_mut(&who).ok_or(Refused::Unknown)?;
        let before = std::mem::replace(&mut server.holds, holds.clone());
        self.count(&before, false);
        self.count(&holds, true);
        Ok(())
    }

    /// A server says that it does not have what it was asked for: what it holds is to be asked
    /// anew, and nothing else until it answers.
    pub fn lacks(&mut self, now: Time, who: &MemberId, page: Option<u32>, segments: &[u32]) {
        let Some(server) = self.servers.get_mut(who) else {
            return;
        };
        if page.is_some() && server.page.map(|(page, _)| page) == page {
            server.give_up_page();
        }
        let before = std::mem::replace(&mut server.holds, Holds::Unknown);
        let mut open = Vec::new();
        for segment in segments.iter().take(ASK_SEGMENTS_MAX).copied() {
            if server.is_asked(segment) {
                let bytes = self.manifest.as_ref().map_or(0, |m| bytes_of(m, segment));
                server.spare(now, segment, bytes);
                open.push(segment);
            }
        }
        self.count(&before, false);
        self.reopen(&open);
    }

    /// A page arrives; whether the manifest is complete with it.
    ///
    /// Errors: [`Refused`]; [`Lie::Page`] where it is not of the manifest.
    pub fn page(&mut self, who: MemberId, page: &Page) -> Result<bool, Refused> {
        let server = self.servers.get_mut(&who).ok_or(Refused::Unknown)?;
        if !server.was_asked_page(page.page) {
            return Err(self.stray(who, 0));
        }
        let Taken {
            manifest,
            segments,
            bytes,
            ..
        } = &self.taken;
        match page.check(manifest, *segments, *bytes) {
            Ok(()) => self.restore_page(page).map_err(Refused::Void),
            Err(wrong) => Err(self.convict(who, Lie::Page(wrong))),
        }
    }

    /// A page that was gathered before; whether the manifest is complete with it.
    ///
    /// Errors: [`ManifestError`] where it is not of the manifest.
    pub fn restore_page(&mut self, page: &Page) -> Result<bool, ManifestError> {
        let Taken {
            manifest,
            segments,
            bytes,
            ..
        } = &self.taken;
        if self.manifest.is_some() {
            return Ok(true);
        }
        page.check(manifest, *segments, *bytes)?;
        self.pages.insert(page.page, page.clone());
        if self.pages.len() < pages(*segments) as usize {
            return Ok(false);
        }
        let pages = std::mem::take(&mut self.pages).into_values();
        let leaves = pages.flat_map(|page| page.leaves).collect();
        // The pages lead to the root, so what is wrong with them as a whole a quorum has signed.
        let whole = Manifest::new(leaves)?;
        assert_eq!(
            whole.segments(),
            self.taken.segments,
            "pages have the leaves that their number says"
        );
        self.begin(whole);
        Ok(true)
    }

    /// Every page is here: what is not held is missing. Equal segments are fetched once.
    fn begin(&mut self, whole: Manifest) {
        let mut seen = BTreeSet::new();
        for (index, leaf) in (0_u32..).zip(whole.leaves()) {
            if !self.held.contains(&leaf.digest) && seen.insert(leaf.digest) {
                self.missing.insert(index);
                self.tally.bytes_needed += u64::from(leaf.bytes);
            }
        }
        self.todo = self.missing.clone();
        self.manifest = Some(Arc::new(whole));
    }

    /// A segment arrives; what may be stored of it, which is nothing if it came twice.
    ///
    /// Errors: [`Refused`]; the sender of a lie is banned.
    pub fn segment(
        &mut self,
        now: Time,
        who: MemberId,
        index: u32,
        bytes: Bytes,
    ) -> Result<Option<Segment>, Refused> {
        let got = bytes.len() as u64;
        self.tally.bytes_received += got;
        let leaf = self.manifest.as_ref().and_then(|whole| {
            let leaf = whole.leaves().get(index as usize);
            leaf.copied()
        });
        let Some(server) = self.servers.get_mut(&who) else {
            self.tally.bytes_wasted += got;
            return Err(Refused::Unknown);
        };
        let Some(leaf) = leaf else {
            self.tally.bytes_wasted += got;
            return Err(self.convict(who, Lie::Bounds { number: index }));
        };
        if !server.was_asked(index) {
            return Err(self.stray(who, got));
        }
        let wrong = lie(index, &leaf, &bytes);
        if let Some(lie) = wrong.filter(|_| !plant::is(Plant::AnySegment)) {
            self.tally.bytes_wasted += got;
            return Err(self.convict(who, lie));
        }
        server.given = server.given.saturating_add(1);
        server.settle(now, index, got);
        if !self.missing.contains(index) {
            self.tally.bytes_wasted += got;
            self.tally.duplicates += 1;
            return Ok(None);
        }
        server.gave += got;
        self.missing.remove(index);
        self.todo.remove(index);
        self.held.insert(leaf.digest);
        for other in self.servers.values_mut() {
            other.spare(now, index, got);
        }
        Ok(Some(Segment { index, leaf, bytes }))
    }

    /// Gives up what was not given in time.
    pub fn expire(&mut self, now: Time) {
        let mut open = Vec::new();
        for server in self.servers.values_mut() {
            let expired = server.expire(now);
            self.tally.expired += u64::from(!expired.is_empty());
            open.extend(expired);
            if server.page.is_some_and(|(_, until)| until <= now) {
                server.give_up_page();
            }
        }
        self.reopen(&open);
    }

    /// What to ask for now, and whom.
    pub fn wants(&mut self, now: Time) -> Vec<(MemberId, Want)> {
        match self.manifest.clone() {
            None => self.want_pages(now),
            Some(whole) => self.want_segments(now, &whole),
        }
    }

    /// Each page of one server, those first that failed us least.
    fn want_pages(&mut self, now: Time) -> Vec<(MemberId, Want)> {
        let asked: BTreeSet<u32> = self
            .servers
            .values()
            .filter_map(|server| Some(server.page?.0))
            .collect();
        let open = (0..pages(self.taken.segments)).filter(|page| !self.pages.contains_key(page));
        let mut open = open.filter(|page| !asked.contains(page));
        let mut free: Vec<(u32, u32, MemberId)> = Vec::new();
        for (who, server) in &self.servers {
            if server.page.is_none() && server.is_useful() {
                free.push((server.refused_pages, self.rng.random(), *who));
            }
        }
        free.sort_unstable();
        let mut wants = Vec::new();
        for (_, _, who) in free {
            let Some(page) = open.next() else { break };
            if let Some(server) = self.servers.get_mut(&who) {
                server.page = Some((page, now + PAGE_PATIENCE));
                wants.push((who, Want::Page(page)));
            }
        }
        wants
    }

    fn want_segments(&mut self, now: Time, whole: &Manifest) -> Vec<(MemberId, Want)> {
        let mut wants = Vec::new();
        let mut idle: BTreeSet<MemberId> = BTreeSet::new();
        let useful = self.servers.values().filter(|server| server.is_useful());
        let cuts = CUTS * useful.count().max(1) as u64;
        loop {
            let free = self.servers.iter().filter(|(who, server)| {
                server.is_useful() && server.room() > 0 && !idle.contains(*who)
            });
            let least = free.min_by_key(|(who, server)| {
                let share = server.gave + server.outstanding();
                (share, *who)
            });
            let Some(who) = least.map(|(who, _)| *who) else {
                break;
            };
            let left =
                u64::from(self.missing.count()) * self.taken.bytes / u64::from(self.taken.segments);
            let most = (left / cuts).min(ASK_BYTES_MAX);
            match self.choose(now, &who, whole, most) {
                Some(segments) => wants.push((who, Want::Segments(segments))),
                None => {
                    idle.insert(who);
                }
            }
        }
        wants
    }

    /// Segments for one server, of `most` bytes together but at least one: the rarest of those that
    /// follow on its place; once nothing is left to ask for, one that another takes long over.
    fn choose(
        &mut self,
        now: Time,
        who: &MemberId,
        whole: &Manifest,
        most: u64,
    ) -> Option<Vec<u32>> {
        let server = self.servers.get(who)?;
        let most = most.min(server.room());
        let is_able = |segment: &u32| server.has(*segment) && !server.is_late(*segment, now);
        let open = self.todo.around(server.cursor).filter(is_able);
        let mut chosen: Vec<u32> = open.take(SCAN_MAX).collect();
        let is_second = chosen.is_empty();
        if is_second && server.open.is_empty() {
            chosen = self.slow(now, who).into_iter().filter(is_able).collect();
        }
        chosen.sort_by_key(|segment| self.rarity[*segment as usize]);
        let mut bytes = 0;
        let mut count = 0;
        for segment in chosen.iter().take(ASK_SEGMENTS_MAX) {
            let next = bytes + bytes_of(whole, *segment);
            if count > 0 && (next > most || is_second) {
                break;
            }
            (bytes, count) = (next, count + 1);
        }
        chosen.truncate(count);
        for segment in &chosen {
            self.todo.remove(*segment);
        }
        let server = self.servers.get_mut(who)?;
        server.cursor = *chosen.last()?;
        server.ask(now, &chosen, bytes);
        chosen.sort_unstable();
        Some(chosen)
    }

    /// Segments that others were asked for a while ago, and of which only one was asked.
    fn slow(&self, now: Time, who: &MemberId) -> Vec<u32> {
        let others = self.servers.iter().filter(|(other, _)| *other != who);
        let mut asked: BTreeMap<u32, u32> = BTreeMap::new();
        for segment in others.clone().flat_map(|(_, server)| server.all_open()) {
            *asked.entry(segment).or_default() += 1;
        }
        let old = others.flat_map(|(_, server)| server.overdue(now));
        old.filter(|segment| asked.get(segment) == Some(&1))
            .collect()
    }

    /// What one server does not give any more is open again, unless another is asked for it.
    fn reopen(&mut self, segments: &[u32]) {
        for segment in segments {
            let mut others = self.servers.values();
            let is_asked = others.any(|other| other.is_asked(*segment));
            if self.missing.contains(*segment) && !is_asked {
                self.todo.insert(*segment);
            }
        }
    }

    /// Counts what a server holds in or out.
    fn count(&mut self, holds: &Holds, is_in: bool) {
        let Holds::Some(bits) = holds else { return };
        for segment in bits.around(0) {
            let rarity = &mut self.rarity[segment as usize];
            *rarity = match is_in {
                true => rarity.saturating_add(1),
                false => rarity.saturating_sub(1),
            };
        }
    }

    fn stray(&mut self, who: MemberId, bytes: u64) -> Refused {
        self.tally.bytes_wasted += bytes;
        let Some(server) = self.servers.get_mut(&who) else {
            return Refused::Unknown;
        };
        server.strays = server.strays.saturating_add(1);
        match server.strays > server.given.saturating_add(STRAYS_MAX) {
            true => self.convict(who, Lie::Flood),
            false => Refused::Unasked,
        }
    }

    fn convict(&mut self, who: MemberId, lie: Lie) -> Refused {
        self.ban(who);
        Refused::Lie(lie)
    }
}

fn bytes_of(whole: &Manifest, segment: u32) -> u64 {
    let leaf = whole.leaves().get(segment as usize);
    leaf.map_or(0, |leaf| leaf.bytes.into())
}

/// What is wrong with a segment that was asked for.
fn lie(segment: u32, leaf: &Leaf, bytes: &[u8]) -> Option<Lie> {
    let (got, want) = (u32::try_from(bytes.len()).unwrap_or(u32::MAX), leaf.bytes);
    if got < want {
        return Some(Lie::Truncated { segment, got, want });
    }
    if got > want {
        return Some(Lie::Oversized { segment, got, want });
    }
    (!leaf.is_of(bytes)).then_some(Lie::Wrong { segment })
}
