//! Segments of snapshots on disk, by digest: each is stored once, whoever refers to it.
//!
//! Source: design, checkpoints. In: bytes under their digest. Out: the same bytes.
//! Holds: a pack is written from front to back and never again after its process ended; what
//! `sync` confirmed is found at every later opening; bytes that do not match their checksum are an
//! error and never given out; before a pack begins, all but the one before it are durable.
//! Elsewhere: which segments a snapshot has (`node::shelf`).
//!
//! A pack is a head of 32 bytes (name of the format, number, checksum) and records: digest, length,
//! checksum of this and of the place, checksum of the bytes, the bytes. The part behind the last
//! whole record is an unfinished write: nothing refers to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::medium::{Directory, Medium, MediumFile};
use crate::crypto::Digest;

const MAGIC: &[u8; 16] = b"consortium pack1";
const HEAD_BYTES: u64 = 32;
const RECORD_HEAD_BYTES: usize = 48;
/// Bytes after which the next segment goes into another pack.
const PACK_BYTES: u64 = 64 << 20;
/// Bytes of one segment, at most.
const SEGMENT_BYTES_MAX: u32 = 1 << 20;
/// The newest packs, which may hold what was not durable when their process ended.
const UNSETTLED_MAX: usize = 2;

/// Why packs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The disk is at fault: something is not as it was written.
    #[error("{file} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The pack.
        file: String,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The environment failed.
    #[error("{file}: cannot {act}: {source}")]
    Io {
        /// What was touched.
        file: String,
        /// What was tried.
        act: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The caller wanted no more of it; nothing was changed.
    #[error("ended before all packs were read")]
    Ended,
}

/// Where a segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    pack: u64,
    offset: u64,
    bytes: u32,
}

struct Pack<F> {
    file: Arc<F>,
    /// Behind the last whole record.
    end: u64,
}

struct State<F> {
    segments: BTreeMap<Digest, Place>,
    /// Damaged ones of the newest packs, where nothing is written: damage, or an unfinished write.
    doubtful: BTreeSet<Digest>,
    packs: BTreeMap<u64, Pack<F>>,
    /// The pack that this process writes to.
    writing: Option<u64>,
    /// Packs that hold what is not durable.
    dirty: BTreeSet<u64>,
    /// Whether a sync failed: the system tells that once, and what is durable is unknown from then
    /// on.
    is_broken: bool,
}

impl<F> State<F> {
    /// Errors: [`PackError::Io`] where a sync failed before.
    fn whole(&self) -> Result<(), PackError> {
        match self.is_broken {
            true => Err(failed("packs", "go on")(io::Error::other(
                "a sync failed before: what is durable is unknown",
            ))),
            false => Ok(()),
        }
    }
}

/// The packs of one folder; every thread may read.
pub struct Packs<M: Medium = Directory> {
    medium: M,
    state: Mutex<State<M::File>>,
}

impl Packs<Directory> {
    /// The packs in `dir`, which is made if it is missing.
    ///
    /// Errors: [`PackError`].
    pub fn open(dir: &Path) -> Result<Self, PackError> {
        Self::open_while(dir, &|| true)
    }

    /// As [`Packs::open`], as long as `go_on` says so: it is asked for each pack, and for each
    /// segment that is read.
    ///
    /// Errors: [`PackError`].
    pub fn open_while(dir: &Path, go_on: &dyn Fn() -> bool) -> Result<Self, PackError> {
        let made = Directory::create(dir);
        let made = made.map_err(failed(&dir.display().to_string(), "make the folder"))?;
        Self::open_on_while(made, go_on)
    }

    /// The packs in `dir`, which is never written to.
    ///
    /// Errors: [`PackError`].
    pub fn read_only(dir: &Path) -> Result<Self, PackError> {
        let medium = Directory::read_only(dir);
        let mut state = load(&medium, &|| true)?;
        state.doubtful = unfinished(&state, &|| true)?;
        let state = Mutex::new(state);
        Ok(Self { medium, state })
    }
}

impl<M: Medium> Packs<M> {
    /// The packs on any medium.
    ///
    /// Errors: [`PackError`].
    pub fn open_on(medium: M) -> Result<Self, PackError> {
        Self::open_on_while(medium, &|| true)
    }

    /// As [`Packs::open_while`], on any medium.
    ///
    /// Errors: [`PackError`].
    pub fn open_on_while(medium: M, go_on: &dyn Fn() -> bool) -> Result<Self, PackError> {
        let mut state = load(&medium, go_on)?;
        for digest in unfinished(&state, go_on)? {
            state.segments.remove(&digest);
        }
        settle(&medium, &state)?;
        let state = Mutex::new(state);
        Ok(Self { medium, state })
    }

    /// Whether the segment is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.state().segments.contains_key(digest)
    }

    /// The digests of all segments.
    pub fn digests(&self) -> BTreeSet<Digest> {
        self.state().segments.keys().copied().collect()
    }

    /// Bytes of all packs.
    pub fn bytes(&self) -> u64 {
        self.state().packs.values().map(|pack| pack.end).sum()
    }

    /// The segment of this digest.
    ///
    /// Errors: [`PackError::Damaged`] where it does not match its checksum.
    pub fn read(&self, digest: &Digest) -> Result<Option<Bytes>, PackError> {
        let (place, file) = {
            let state = self.state();
            let Some(place) = state.segments.get(digest) else {
                return Ok(None);
            };
            (*place, Arc::clone(&state.packs[&place.pack].file))
        };
        read(&*file, &place, digest).map(Some)
    }

    /// Stores a segment; false where it is here already. Durable after the next `sync`.
    ///
    /// Errors: [`PackError::Io`].
    pub fn append(&self, digest: &Digest, segment: &[u8]) -> Result<bool, PackError> {
        let mut state = self.state();
        if state.segments.contains_key(digest) {
            return Ok(false);
        }
        self.write(&mut state, digest, segment)?;
        Ok(true)
    }

    /// Makes everything stored so far durable.
    ///
    /// Errors: [`PackError::Io`]; what is durable is unknown then.
    pub fn sync(&self) -> Result<(), PackError> {
        let mut state = self.state();
        self.sync_all_but(None, &mut state)
    }

    /// Makes durable what was stored before, while others store and read: the disk writes early
    /// what the next `sync` waits for.
    ///
    /// Errors: [`PackError::Io`]; what is durable is unknown then, and nothing more is stored.
    pub fn sync_aside(&self) -> Result<(), PackError> {
        self.state().whole()?;
        let synced = self.try_sync_aside();
        self.state().is_broken |= synced.is_err();
        synced
    }

    fn try_sync_aside(&self) -> Result<(), PackError> {
        let dirty: Vec<(u64, u64, Arc<M::File>)> = {
            let state = self.state();
            let packs = state.dirty.iter().map(|number| {
                let Pack { file, end } = &state.packs[number];
                (*number, *end, Arc::clone(file))
            });
            packs.collect()
        };
        for (number, _, file) in &dirty {
            let synced = file.sync();
            synced.map_err(failed(&pack_name(*number), "sync"))?;
        }
        let synced = self.medium.sync_names();
        synced.map_err(failed("folder", "sync"))?;
        let mut state = self.state();
        for (number, end, _) in dirty {
            if state.packs.get(&number).is_some_and(|pack| pack.end == end) {
                state.dirty.remove(&number);
            }
        }
        Ok(())
    }

    /// Gives up every segment that is not in `live`: packs without any are removed, those with
    /// less than half are written anew. Gives how many bytes became free.
    ///
    /// Errors: [`PackError`]; every live segment is still here.
    pub fn retain(&self, live: &BTreeSet<Digest>) -> Result<u64, PackError> {
        let mut state = self.state();
        let before: u64 = state.packs.values().map(|pack| pack.end).sum();
        let mut used: BTreeMap<u64, u64> = BTreeMap::new();
        for (digest, place) in &state.segments {
            if live.contains(digest) {
                *used.entry(place.pack).or_default() += record_bytes(place.bytes);
            }
        }
        let sparse: BTreeSet<u64> = { state.packs.iter() }
            .filter(|(number, pack)| {
                let room = pack.end.saturating_sub(HEAD_BYTES);
                room == 0 || used.get(number).copied().unwrap_or(0) * 2 < room
            })
            .map(|(number, _)| *number)
            .collect();
        if state.writing.is_some_and(|number| sparse.contains(&number)) {
            state.writing = None;
        }
        let moving: Vec<(Digest, Place)> = { state.segments.iter() }
            .filter(|(digest, place)| sparse.contains(&place.pack) && live.contains(digest))
            .map(|(digest, place)| (*digest, *place))
            .collect();
        for (digest, place) in moving {
            let file = Arc::clone(&state.packs[&place.pack].file);
            let segment = read(&*file, &place, &digest)?;
            self.write(&mut state, &digest, &segment)?;
        }
        self.sync_all_but(None, &mut state)?;
        state
            .segments
            .retain(|_, place| !sparse.contains(&place.pack));
        for number in &sparse {
            let name = pack_name(*number);
            self.medium.remove(&name).map_err(failed(&name, "remove"))?;
            state.packs.remove(number);
            state.dirty.remove(number);
        }
        let synced = self.medium.sync_names();
        synced.map_err(failed("folder", "sync"))?;
        let after: u64 = state.packs.values().map(|pack| pack.end).sum();
        Ok(before.saturating_sub(after))
    }

    /// Reads every record and forgets those that are damaged, so that they are stored anew. Gives
    /// how many there were. It goes on as long as `go_on` says so, which is asked for each record.
    ///
    /// Errors: [`PackError::Io`], [`PackError::Ended`]; none is forgotten then.
    pub fn forget_damaged(&self, go_on: &dyn Fn() -> bool) -> Result<usize, PackError> {
        let mut damaged = BTreeSet::new();
        for digest in self.digests() {
            ask(go_on)?;
            match self.read(&digest) {
                Ok(_) => {}
                Err(PackError::Damaged { .. }) => drop(damaged.insert(digest)),
                Err(error @ (PackError::Io { .. } | PackError::Ended)) => return Err(error),
            }
        }
        let mut state = self.state();
        state.segments.retain(|digest, _| !damaged.contains(digest));
        Ok(damaged.len())
    }

    /// Reads every record of every pack and names what is wrong, but for what may be an unfinished
    /// write: reading that names it.
    pub fn problems(&self) -> Vec<PackError> {
        let doubtful = self.state().doubtful.clone();
        let digests = self.digests();
        let digests = digests.difference(&doubtful);
        digests
            .filter_map(|digest| self.read(digest).err())
            .collect()
    }

    fn write(
        &self,
        state: &mut State<M::File>,
        digest: &Digest,
        segment: &[u8],
    ) -> Result<(), PackError> {
        state.whole()?;
        let number = self.open_pack(state)?;
        let pack = state.packs.get_mut(&number);
        let pack = pack.expect("the pack that is written to is open");
        let bytes = u32::try_from(segment.len()).unwrap_or(u32::MAX);
        assert!(bytes <= SEGMENT_BYTES_MAX, "segments are bounded");
        let offset = pack.end;
        let mut record = record_head(number, offset, digest, segment).to_vec();
        record.extend_from_slice(segment);
        let written = pack.file.write_at(offset, &record);
        written.map_err(failed(&pack_name(number), "write"))?;
        pack.end += record.len() as u64;
        let place = Place {
            pack: number,
            offset,
            bytes,
        };
        state.segments.insert(*digest, place);
        state.dirty.insert(number);
        Ok(())
    }

    /// The pack that has room, or a new one.
    fn open_pack(&self, state: &mut State<M::File>) -> Result<u64, PackError> {
        let has_room = |number: &u64| state.packs[number].end < PACK_BYTES;
        if let Some(number) = state.writing.filter(has_room) {
            return Ok(number);
        }
        self.sync_all_but(state.writing, state)?;
        let number = state.packs.last_key_value().map_or(1, |(last, _)| last + 1);
        let name = pack_name(number);
        let file = self.medium.create(&name).map_err(failed(&name, "make"))?;
        file.write_at(0, &pack_head(number))
            .map_err(failed(&name, "write"))?;
        let file = Arc::new(file);
        let end = HEAD_BYTES;
        state.packs.insert(number, Pack { file, end });
        state.writing = Some(number);
        state.dirty.insert(number);
        Ok(number)
    }

    /// Makes every pack but `other` durable.
    fn sync_all_but(
        &self,
        other: Option<u64>,
        state: &mut State<M::File>,
    ) -> Result<(), PackError> {
        state.whole()?;
        let synced = self.try_sync_all_but(other, state);
        state.is_broken |= synced.is_err();
        synced
    }

    fn try_sync_all_but(
        &self,
        other: Option<u64>,
        state: &mut State<M::File>,
    ) -> Result<(), PackError> {
        let dirty = { state.dirty.iter() }.filter(|number| Some(**number) != other);
        let dirty: Vec<u64> = dirty.copied().collect();
        for number in &dirty {
            let synced = state.packs[number].file.sync();
            synced.map_err(failed(&pack_name(*number), "sync"))?;
        }
        if !dirty.is_empty() {
            let synced = self.medium.sync_names();
            synced.map_err(failed("folder", "sync"))?;
        }
        state.dirty.retain(|number| Some(*number) == other);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State<M::File>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the packs of a medium hold, without a look at the bytes.
fn load<M: Medium>(medium: &M, go_on: &dyn Fn() -> bool) -> Result<State<M::File>, PackError> {
    let names = medium.names().map_err(failed("folder", "list"))?;
    let mut state = State {
        segments: BTreeMap::new(),
        doubtful: BTreeSet::new(),
        packs: BTreeMap::new(),
        writing: None,
        dirty: BTreeSet::new(),
        is_broken: false,
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| pack_number(name)).collect();
    numbers.sort_unstable();
    for number in numbers {
        ask(go_on)?;
        let name = pack_name(number);
        let file = medium.open(&name).map_err(failed(&name, "open"))?;
        let end = scan(&file, number, &mut state.segments)?;
        let file = Arc::new(file);
        state.packs.insert(number, Pack { file, end });
    }
    Ok(state)
}

/// Damaged segments of the newest packs: only those may hold what was not durable when their
/// process ended.
fn unfinished<F: MediumFile>(
    state: &State<F>,
    go_on: &dyn Fn() -> bool,
) -> Result<BTreeSet<Digest>, PackError> {
    let newest: BTreeMap<u64, &F> = unsettled(state).collect();
    let mut damaged = BTreeSet::new();
    for (digest, place) in &state.segments {
        let Some(file) = newest.get(&place.pack) else {
            continue;
        };
        ask(go_on)?;
        if read(*file, place, digest).is_err() {
            damaged.insert(*digest);
        }
    }
    Ok(damaged)
}

/// Errors: [`PackError::Ended`].
fn ask(go_on: &dyn Fn() -> bool) -> Result<(), PackError> {
    match go_on() {
        true => Ok(()),
        false => Err(PackError::Ended),
    }
}

/// Makes durable what an earlier process wrote and did not sync: here every `sync` is of packs of
/// our own, and says that all segments are durable.
fn settle<M: Medium>(medium: &M, state: &State<M::File>) -> Result<(), PackError> {
    for (number, file) in unsettled(state) {
        let synced = file.sync();
        synced.map_err(failed(&pack_name(number), "sync"))?;
    }
    let synced = medium.sync_names();
    synced.map_err(failed("folder", "sync"))
}

fn unsettled<F: MediumFile>(state: &State<F>) -> impl Iterator<Item = (u64, &F)> {
    let newest = state.packs.iter().rev().take(UNSETTLED_MAX);
    newest.map(|(number, pack)| (*number, &*pack.file))
}

/// Whether `name` is that of a pack.
pub fn is_pack_name(name: &str) -> bool {
    pack_number(name).is_some()
}

fn pack_name(number: u64) -> String {
    format!("{number:08}.pack")
}

fn pack_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".pack")?.parse().ok()?;
    (pack_name(number) == name).then_some(number)
}

fn record_bytes(segment: u32) -> u64 {
    RECORD_HEAD_BYTES as u64 + u64::from(segment)
}

fn pack_head(number: u64) -> [u8; HEAD_BYTES as usize] {
    let mut head = [0; HEAD_BYTES as usize];
    head[..16].copy_from_slice(MAGIC);
    head[16..24].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&head[..24]);
    head[24..28].copy_from_slice(&crc.to_le_bytes());
    head
}

fn record_head(pack: u64, offset: u64, digest: &Digest, segment: &[u8]) -> [u8; RECORD_HEAD_BYTES] {
    let mut head = [0; RECORD_HEAD_BYTES];
    head[..32].copy_from_slice(digest.as_bytes());
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    head[32..36].copy_from_slice(&length.to_le_bytes());
    head[36..40].copy_from_slice(&crc32c::crc32c(segment).to_le_bytes());
    let crc = head_crc(pack, offset, &head);
    head[40..44].copy_from_slice(&crc.to_le_bytes());
    head
}

fn head_crc(pack: u64, offset: u64, head: &[u8; RECORD_HEAD_BYTES]) -> u32 {
    let place = crc32c::crc32c(&[pack.to_le_bytes(), offset.to_le_bytes()].concat());
    crc32c::crc32c_append(place, &head[..40])
}

/// The digest and the length that a record's head names; nothing where it is none of this place.
fn parse_head(pack: u64, offset: u64, head: &[u8; RECORD_HEAD_BYTES]) -> Option<(Digest, u32)> {
    let word = |at: usize| {
        let bytes = head.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let is_good = word(40)? == head_crc(pack, offset, head) && word(44)? == 0;
    let digest = Digest(head[..32].try_into().ok()?);
    let length = word(32)?;
    (is_good && length <= SEGMENT_BYTES_MAX).then_some((digest, length))
}

/// Finds the records of a pack; gives where they end.
fn scan<F: MediumFile>(
    file: &F,
    number: u64,
    segments: &mut BTreeMap<Digest, Place>,
) -> Result<u64, PackError> {
    let name = pack_name(number);
    let size = file.size().map_err(failed(&name, "measure"))?;
    let mut head = [0; HEAD_BYTES as usize];
    if size < HEAD_BYTES {
        return Ok(HEAD_BYTES.min(size)); // Cut off while it was made.
    }
    file.read_at(0, &mut head).map_err(failed(&name, "read"))?;
    if head != pack_head(number) {
        // Cut off while it was made, or damaged: whoever lists its segments misses them.
        return Ok(HEAD_BYTES);
    }
    let mut offset = HEAD_BYTES;
    while offset + RECORD_HEAD_BYTES as u64 <= size {
        let mut head = [0; RECORD_HEAD_BYTES];
        let read = file.read_at(offset, &mut head);
        read.map_err(failed(&name, "read"))?;
        let Some((digest, bytes)) = parse_head(number, offset, &head) else {
            break;
        };
        if offset + record_bytes(bytes) > size {
            break;
        }
        let place = Place {
            pack: number,
            offset,
            bytes,
        };
        segments.insert(digest, place);
        offset += record_bytes(bytes);
    }
    Ok(offset)
}

fn read<F: MediumFile>(file: &F, place: &Place, digest: &Digest) -> Result<Bytes, PackError> {
    let name = pack_name(place.pack);
    let damaged = |what| PackError::Damaged {
        file: name.clone(),
        offset: place.offset,
        what,
    };
    let mut bytes = vec![0; RECORD_HEAD_BYTES + place.bytes as usize];
    let read = file.read_at(place.offset, &mut bytes);
    read.map_err(failed(&name, "read"))?;
    let (head, segment) = bytes.split_at(RECORD_HEAD_BYTES);
    if *head != record_head(place.pack, place.offset, digest, segment) {
        return Err(damaged("a segment that does not match its checksum"));
    }
    Ok(Bytes::from(bytes).slice(RECORD_HEAD_BYTES..))
}

fn failed(file: &str, act: &'static str) -> impl FnOnce(io::Error) -> PackError {
    let file = file.to_owned();
    move |source| PackError::Io { file, act, source }
}

#[cfg(test)]
mod tests;
