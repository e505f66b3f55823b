//! Snapshots: the ledger and the application as segments, and back.
//!
//! Source: design, 'checkpoints and bootstrap'; `docs/formats.md`. In: where the ledger stands,
//! what it remembers, pieces of the application. Out: segments with their manifest, or a ledger.
//! Holds: members that applied the same prefix cut the same segments; what is read back has the
//! state digest that a quorum certified, which no codec makes.
//! Elsewhere: manifests (`checkpoint`), the pieces (`application`), where segments lie (`storage`).
//!
//! The ledger's section is one encoding, cut by length. The memory's are runs of entries by their
//! place in the receipt log, each over places `k * G` to `(k + 1) * G`, so that a run that nothing
//! changed is the same in the next snapshot.

use bytes::Bytes;

use super::contract::Executed;
use super::ledger::digest::{hash_base, hash_entry};
use super::ledger::{Base, Name, Parts};
use crate::blocks::SEGMENT_BYTES_MAX;
use crate::blocks::codec::{self, ENCODED_BYTES_MAX};
use crate::checkpoint::{Leaf, MANIFEST_LEAVES_MAX, Manifest, ManifestError, Section};
use crate::committee::Taken;
use crate::crypto::{Digest, Domain, Hasher};
use crate::membership::register::{ROW_KEYS, Register, RowsError};

/// The version of the segments and of the state digest.
const VERSION: u8 = 1;
/// Bytes that an entry of the memory takes, at most, and what its list adds.
const ENTRY_BYTES: usize = 512;

/// What the ledger's section holds, each behind its length: the parts, then the register's rows.
const HEAD_PARTS: usize = 1 + ROW_KEYS.len();

/// Why a snapshot could not be cut.
#[derive(Debug, thiserror::Error)]
pub enum CutError<E> {
    /// The application gave a piece that no segment may be, or far too many.
    #[error("the application's snapshot: {0}")]
    Manifest(#[from] ManifestError),
    /// Whoever stores segments failed.
    #[error(transparent)]
    Sink(E),
}

/// A snapshot's parts, to be cut.
pub struct Whole<M, P> {
    /// The ledger.
    pub base: Base,
    /// What it remembers, by place in the receipt log.
    pub memory: M,
    /// The application's pieces.
    pub pieces: P,
    /// The digest of the application's state.
    pub application: Digest,
}

impl<M, P> Whole<M, P>
where
    M: Iterator<Item = (Name, Executed)>,
    P: Iterator<Item = Bytes>,
{
    /// Cuts everything into segments of about `segment_bytes` and gives each to `sink`, in order.
    ///
    /// Errors: [`CutError`].
    pub fn cut<E>(
        self,
        segment_bytes: usize,
        mut sink: impl FnMut(&Leaf, Bytes) -> Result<(), E>,
    ) -> Result<(Manifest, Taken), CutError<E>> {
        let mut leaves = Vec::new();
        let mut put = |section, segment: Bytes| {
            let leaf = Leaf::of(section, &segment);
            if !(1..=SEGMENT_BYTES_MAX).contains(&segment.len()) {
                let (index, bytes) = (leaves.len() as u32, leaf.bytes);
                return Err(CutError::Manifest(ManifestError::Size { index, bytes }));
            }
            if leaves.len() >= MANIFEST_LEAVES_MAX as usize {
                let count = leaves.len() as u64 + 1;
                return Err(CutError::Manifest(ManifestError::Count { count }));
            }
            leaves.push(leaf);
            sink(&leaf, segment).map_err(CutError::Sink)
        };
        let Base { parts, register } = self.base;
        let encoded = write_head(&parts, &register);
        for start in (0..encoded.len()).step_by(segment_bytes) {
            let end = encoded.len().min(start + segment_bytes);
            put(Section::Ledger, encoded.slice(start..end))?;
        }
        let mut state = State::of(&parts, &register);
        let run = (segment_bytes / ENTRY_BYTES).max(1) as u64;
        let mut held: Vec<(Name, Executed)> = Vec::new();
        for (name, executed) in self.memory {
            let place = executed.sequence / run;
            if held
                .last()
                .is_some_and(|(_, last)| last.sequence / run != place)
            {
                put(
                    Section::Memory,
                    codec::encode(&std::mem::take(&mut held)).into(),
                )?;
            }
            state.entry(&name, &executed);
            held.push((name, executed));
        }
        if !held.is_empty() {
            put(Section::Memory, codec::encode(&held).into())?;
        }
        for piece in self.pieces {
            put(Section::Application, piece)?;
        }
        let manifest = Manifest::new(leaves)?;
        let tip = &parts.tip;
        let taken = Taken {
            height: tip.height,
            header: tip.digest(),
            manifest: manifest.root(),
            state: state.finish(&self.application),
            bytes: manifest.bytes(),
            segments: manifest.segments(),
        };
        Ok((manifest, taken))
    }
}

fn write_head(parts: &Parts, register: &Register) -> Bytes {
    let rows = register.to_rows();
    let mut bytes = vec![VERSION];
    for part in [codec::encode(parts)].iter().chain(&rows) {
        let length = u32::try_from(part.len()).expect("encodings are shorter than 4 GiB");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes.into()
}

fn read_head(bytes: &[u8]) -> Option<[&[u8]; HEAD_PARTS]> {
    let (version, mut rest) = bytes.split_first()?;
    let mut parts = [&[][..]; HEAD_PARTS];
    for part in &mut parts {
        let (length, behind) = rest.split_first_chunk()?;
        (*part, rest) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    }
    (*version == VERSION && rest.is_empty()).then_some(parts)
}

/// The digest of a whole state: its version, the ledger's parts and register, each remembered
/// transaction by its place in the receipt log, how many they are, the application's digest.
struct State {
    hasher: Hasher,
    count: u64,
}

impl State {
    fn of(parts: &Parts, register: &Register) -> Self {
        let mut hasher = Hasher::new(Domain::State);
        hasher.update(b"snapshot").update(&[VERSION]);
        hash_base(parts, register, &mut hasher);
        Self { hasher, count: 0 }
    }

    fn entry(&mut self, name: &Name, executed: &Executed) {
        self.count += 1;
        hash_entry(name, executed, &mut self.hasher);
    }

    fn finish(mut self, application: &Digest) -> Digest {
        self.hasher
            .update(&self.count.to_le_bytes())
            .update(application.as_bytes());
        self.hasher.finish()
    }
}

/// Why segments make no ledger. Whoever made the snapshot is at fault; as a quorum certified its
/// manifest, so is more than a third of its view, or this program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A segment is not in the format.
    #[error("segment {index}: {what}")]
    Segment {
        /// Its place.
        index: u32,
        /// What is wrong.
        what: String,
    },
    /// The members' register.
    #[error(transparent)]
    Register(#[from] RowsError),
    /// The state is another one than the checkpoint names.
    #[error("the state digest is {got}, the checkpoint names {want}")]
    Other {
        /// What the segments make.
        got: Digest,
        /// What was certified.
        want: Digest,
    },
}

/// The ledger out of a snapshot.
#[derive(Clone, Debug)]
pub struct Content {
    /// Where it stands.
    pub parts: Parts,
    /// The members.
    pub register: Register,
    /// What it remembers, by place in the receipt log.
    pub memory: Vec<(Name, Executed)>,
}

/// Reads segments in order; those of the application are left to it.
#[derive(Debug, Default)]
pub struct Reader {
    head: Vec<u8>,
    memory: Vec<(Name, Executed)>,
    index: u32,
}

impl Reader {
    /// Takes the next segment of the ledger or of its memory, which was checked against its leaf.
    ///
    /// Errors: [`ReadError::Segment`].
    pub fn take(&mut self, section: Section, segment: &[u8]) -> Result<(), ReadError> {
        let index = self.index;
        self.index += 1;
        match section {
            Section::Ledger => self.head.extend_from_slice(segment),
            Section::Application => {}
            Section::Memory => {
                let run: Vec<(Name, Executed)> = codec::decode(segment, SEGMENT_BYTES_MAX)
                    .map_err(|error| ReadError::Segment {
                        index,
                        what: error.to_string(),
                    })?;
                let last = self.memory.last().map(|(_, executed)| executed.sequence);
                let mut places = run.iter().map(|(_, executed)| executed.sequence);
                let is_sorted = run.is_sorted_by(|a, b| a.1.sequence < b.1.sequence);
                if !is_sorted || places.next() <= last && last.is_some() {
                    let what = "entries out of order".into();
                    return Err(ReadError::Segment { index, what });
                }
                self.memory.extend(run);
            }
        }
        Ok(())
    }

    /// The ledger of `chain` that the segments make.
    ///
    /// Errors: [`ReadError::Segment`], [`ReadError::Register`].
    pub fn finish(self, chain: &Digest) -> Result<Content, ReadError> {
        let wrong = |what: String| ReadError::Segment { index: 0, what };
        let head = read_head(&self.head);
        let [parts, rows @ ..] = head.ok_or_else(|| wrong("no ledger of this version".into()))?;
        let parts = codec::decode(parts, ENCODED_BYTES_MAX);
        Ok(Content {
            parts: parts.map_err(|error| wrong(error.to_string()))?,
            register: Register::from_rows(chain, rows)?,
            memory: self.memory,
        })
    }
}

impl Content {
    /// Whether it is, with an application of this digest, the state that `taken` names.
    ///
    /// Errors: [`ReadError::Other`].
    pub fn check(&self, taken: &Taken, application: &Digest) -> Result<(), ReadError> {
        let mut state = State::of(&self.parts, &self.register);
        let memory = self.memory.iter();
        memory.for_each(|(name, executed)| state.entry(name, executed));
        let (got, want) = (state.finish(application), taken.state);
        match got == want && self.parts.tip.digest() == taken.header {
            true => Ok(()),
            false => Err(ReadError::Other { got, want }),
        }
    }
}
