//! Writes what a member's log holds and the archive does not.
//!
//! Source: `docs/archive.md`. In: a member's folder, the place of an archive. Out: objects.
//! Holds: a proof is written before its extent, so an extent that is there can be proved; objects
//! that are there stay as they are, but for the tail, which only goes forward.
//! Elsewhere: where extents end (`cut`), bytes (`extent`, `proof`), names (`names`).

use std::path::Path;

use bytes::Bytes;
use serde::Serialize;

use super::ArchiveError;
use super::cut::{Cut, Cutter, Stretch};
use super::extent::{Extent, extent_bytes_max};
use super::names::{self, Kind, Listing};
use super::proof::{self, PROOF_BYTES_MAX, Proof, TAIL_OPENING_BYTES};
use crate::blocks::Genesis;
use crate::committee::Height;
use crate::consortium::records;
use crate::crypto::Digest;
use crate::node::config::Config;
use crate::node::start::read_genesis;
use crate::storage::{Follower, LogReader, Objects, ObjectsError, Record, Store};

/// Bytes of the log between two words about progress.
const PROGRESS_BYTES: u64 = 4 << 20;

/// How often an object is made that is refused and not there.
const TRIES: u32 = 5;

/// Archives one member's chain.
pub struct Archiver {
    objects: Objects,
    chain: Digest,
    listing: Listing,
    follower: Follower,
    log: LogReader,
    cutter: Cutter,
    /// The newest height up to which the archive has every extent.
    height: Height,
}

/// What one look at the log led to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Round {
    /// Extents that were written.
    pub written: u64,
    /// Extents of this log that were there.
    pub present: u64,
    /// Bytes that were written, proofs and the tail counted in.
    pub bytes: u64,
    /// The height up to which the archive has every extent.
    pub extents_height: Height,
    /// The height up to which it has the chain, the tail counted in.
    pub height: Height,
    /// The newest block in the member's log.
    pub member_height: Height,
    /// The blocks behind the last extent.
    pub tail: Option<Tail>,
}

/// Blocks behind the last full extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tail {
    /// Its first height.
    pub first: Height,
    /// Its last height.
    pub last: Height,
    /// Whether it was written now.
    pub written: bool,
}

impl Archiver {
    /// Gets ready to archive the log of the member in `dir` to `objects`.
    ///
    /// Errors: [`ArchiveError`].
    pub fn open(dir: &Path, objects: Objects) -> Result<Self, ArchiveError> {
        let config = Config::load(dir)?;
        let genesis = read_genesis(dir, &config)?;
        Self::with((dir, &config), &genesis, objects, Cut::FORMAT)
    }

    /// As [`Archiver::open`], with another rule of where extents end.
    pub(in crate::node) fn with(
        (dir, config): (&Path, &Config),
        genesis: &Genesis,
        objects: Objects,
        cut: Cut,
    ) -> Result<Self, ArchiveError> {
        let data = dir.join(&config.data);
        let (store, folder) = (Store::read_id(&data)?, data.join("log"));
        let (chain, header) = (genesis.chain(), genesis.header());
        let listing = Listing::of(&chain, &objects.list(&names::folder(&chain))?);
        let archived = match listing.end() {
            None => (Height(0), header.digest()),
            Some((first, last)) => {
                let most = extent_bytes_max(&genesis.parameters.bounds());
                (last, newest((&objects, &chain), (first, last), most)?)
            }
        };
        Ok(Self {
            objects,
            chain,
            listing,
            follower: Follower::read_only(&folder, store),
            log: LogReader::read_only(&folder, store),
            cutter: Cutter::new(&header, cut, archived),
            height: archived.0,
        })
    }

    /// The chain.
    pub fn chain(&self) -> Digest {
        self.chain
    }

    /// Reads what is new in the log and writes what the archive lacks of it; tells `progress` how
    /// many bytes of the log are done, and how many there are.
    ///
    /// Errors: [`ArchiveError`]; another archiver has to be opened then.
    pub fn round(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<Round, ArchiveError> {
        let mut round = Round::default();
        let mut ready = Vec::new();
        loop {
            let (mut failed, mut bytes) = (None, 0);
            let cutter = &mut self.cutter;
            self.follower.advance(&mut |record: Record<'_>| {
                bytes += record.payload.len() as u64;
                match take(cutter, &record) {
                    Ok(given) => ready.extend(given),
                    Err(error) => failed = Some(error),
                }
                failed.is_none() && ready.is_empty() && bytes < PROGRESS_BYTES
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            let is_over = ready.is_empty() && bytes < PROGRESS_BYTES;
            for (stretch, proof) in ready.drain(..) {
                self.extent(&stretch, &proof, &mut round)?;
            }
            let (done, total) = self.follower.progress()?;
            progress(if is_over { total } else { done }, total);
            if is_over {
                break;
            }
        }
        self.tail(&mut round)?;
        round.extents_height = self.height;
        round.height = self
            .height
            .max(round.tail.map_or(self.height, |tail| tail.last));
        round.member_height = self.cutter.height();
        Ok(round)
    }

    fn extent(
        &mut self,
        stretch: &Stretch,
        proof: &Proof,
        round: &mut Round,
    ) -> Result<(), ArchiveError> {
        let (first, last) = stretch.heights();
        let of_object = |kind| names::name(&self.chain, kind, first, last);
        let (extent, cover) = (of_object(Kind::Extent), of_object(Kind::Proof));
        let differs = |name: &str, what: String| ArchiveError::Object {
            name: name.into(),
            first,
            last,
            what,
        };
        let same_start = (first, Height(0))..=(first, Height(u64::MAX));
        let mut others = self.listing.extents.range(same_start);
        if let Some((_, other)) = others.find(|(_, it)| it.last != last && it.extent.is_some()) {
            let name = names::name(&self.chain, Kind::Extent, first, other.last);
            return Err(differs(&name, format!("an extent ends at {last}")));
        }
        let known = self.listing.extents.get(&(first, last));
        let held = known.and_then(|known| known.extent);
        if let Some(held) = held.filter(|held| *held != stretch.bytes()) {
            let want = stretch.bytes();
            return Err(differs(&extent, format!("{held} bytes instead of {want}")));
        }
        if held.is_none() || !known.is_some_and(|known| known.has_proof) {
            self.cover(&cover, proof, stretch, round)
                .map_err(|error| error.unwrap_or_else(|what| differs(&cover, what)))?;
        }
        let is_new = match held {
            Some(_) => false,
            None => {
                let bytes = stretch.encode(self.chain, last, &self.log)?;
                self.content(&extent, bytes, round)
                    .map_err(|error| error.unwrap_or_else(|what| differs(&extent, what)))?
            }
        };
        match is_new {
            true => round.written += 1,
            false => round.present += 1,
        }
        if first == self.height.next() {
            self.height = last;
        }
        self.cutter.archived(last, stretch.digest());
        Ok(())
    }

    /// Writes an extent; whether this was the first to do so. The inner error says how another one
    /// that is there differs.
    fn content(
        &self,
        name: &str,
        bytes: Bytes,
        round: &mut Round,
    ) -> Result<bool, Result<ArchiveError, String>> {
        let most = bytes.len() as u64;
        match self.create(name, bytes.clone(), most, round)? {
            None => Ok(true),
            Some(held) if held == bytes => Ok(false),
            Some(held) => Err(Err(format!("{} bytes, and other ones", held.len()))),
        }
    }

    /// Writes a proof; one that is there must cover the extent too.
    fn cover(
        &self,
        name: &str,
        proof: &Proof,
        stretch: &Stretch,
        round: &mut Round,
    ) -> Result<(), Result<ArchiveError, String>> {
        let Some(held) = self.create(name, proof.encode(), PROOF_BYTES_MAX, round)? else {
            return Ok(());
        };
        let held = Proof::decode(&held).map_err(Err)?;
        held.covers(stretch.last(), stretch.digest()).map_err(Err)
    }

    /// Makes an object; gives the one that is there already, of at most `most` bytes.
    fn create(
        &self,
        name: &str,
        bytes: Bytes,
        most: u64,
        round: &mut Round,
    ) -> Result<Option<Bytes>, Result<ArchiveError, String>> {
        let outer = |error| Ok(ArchiveError::Objects(error));
        let mut tries = 0;
        loop {
            let length = bytes.len() as u64;
            if self.objects.create(name, bytes.clone()).map_err(outer)? {
                round.bytes += length;
                return Ok(None);
            }
            tries += 1;
            match self.objects.get(name, most) {
                Ok(held) => return Ok(Some(held)),
                Err(error @ ObjectsError::TooLong { .. }) => return Err(Err(error.to_string())),
                // Another writer was refused for ours, or broke off: there is none yet.
                Err(ObjectsError::Missing { .. }) if tries < TRIES => {}
                Err(error) => return Err(outer(error)),
            }
        }
    }

    /// Writes the certified blocks behind the last full extent, where the archive has fewer.
    fn tail(&self, round: &mut Round) -> Result<(), ArchiveError> {
        let name = names::tail(&self.chain);
        let held = match self.objects.beginning(&name, TAIL_OPENING_BYTES) {
            Ok(bytes) => proof::tail_opening(&bytes),
            Err(ObjectsError::Missing { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let held = held.map(|opening| (opening.first, opening.last));
        let kept = held.filter(|(first, last)| *first <= self.height.next() && *last > self.height);
        let ours = self.cutter.tail();
        let Some((stretch, certificate)) = ours.filter(|(stretch, certificate)| {
            let (first, last) = (stretch.heights().0, certificate.ballot.height);
            first == self.height.next() && held.is_none_or(|(_, held)| held < last)
        }) else {
            round.tail = kept.map(|(first, last)| Tail {
                first,
                last,
                written: false,
            });
            return Ok(());
        };
        let (first, last) = (stretch.heights().0, certificate.ballot.height);
        let extent = stretch.encode(self.chain, last, &self.log)?;
        let headers = Vec::new();
        let proof = Proof {
            certificate,
            headers,
        };
        let bytes = proof::encode_tail(&extent, &proof);
        round.bytes += bytes.len() as u64;
        self.objects.replace(&name, bytes)?;
        round.tail = Some(Tail {
            first,
            last,
            written: true,
        });
        Ok(())
    }
}

fn take(cutter: &mut Cutter, record: &Record<'_>) -> Result<Vec<(Stretch, Proof)>, ArchiveError> {
    if !records::is_of_the_chain(record.kind) {
        return Ok(Vec::new());
    }
    let decoded = records::decode(record.kind, record.payload);
    let decoded = decoded.map_err(|error| {
        let (file, offset) = (record.position.file, record.position.offset);
        ArchiveError::Record {
            what: format!("file {file}, byte {offset}: {error}"),
        }
    })?;
    cutter.take(decoded, record.position)
}

/// The digest of the last header of the newest extent up to which none is missing.
fn newest(
    (objects, chain): (&Objects, &Digest),
    (first, last): (Height, Height),
    most: u64,
) -> Result<Digest, ArchiveError> {
    let name = names::name(chain, Kind::Extent, first, last);
    let wrong = |what: String| ArchiveError::Object {
        name: name.clone(),
        first,
        last,
        what,
    };
    let extent = Extent::decode(&objects.get(&name, most)?);
    let extent = extent.map_err(|error| wrong(error.what))?;
    let opening = extent.opening;
    if (opening.chain, opening.first, opening.last) != (*chain, first, last) {
        return Err(wrong("it is of other heights than its name".into()));
    }
    Ok(extent.last().1)
}
