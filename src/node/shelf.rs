//! What a member keeps beside its log: snapshots, and the view chain.
//!
//! Source: design, 'checkpoints and bootstrap'. In: snapshots that are cut, checkpoint blocks,
//! steps of the view chain. Out: the same, also after a restart.
//! Holds: a snapshot is listed once all of its segments are durable; one with its proof is one that
//! a quorum certified; steps are never given up.
//! Elsewhere: when they are taken and given up (`curator`), who asks for them (`bootstrap`).
//!
//! `snapshots/` holds packs of segments and, by height, `H.snapshot` (what it is, its manifest) and
//! `H.checkpoint` (what proves it). `views/` holds a file for each view after view 0.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::space::Space;
use crate::application::{Application, RestoreError};
use crate::blocks::body::Checkpoint;
use crate::blocks::codec::{self, ENCODED_BYTES_MAX};
use crate::blocks::{Header, Step};
use crate::checkpoint::{LEAF_BYTES, Leaf, Manifest, Section};
use crate::committee::{Certificate, Height, Taken, ViewId};
use crate::consortium::Executed;
use crate::consortium::ledger::Name;
use crate::consortium::snapshot::{Content, CutError, Reader, Whole};
use crate::crypto::Digest;
use crate::storage::{PackError, Packs, SealedError, read_sealed, write_sealed};

/// How the name of a file ends that proves a snapshot.
const CHECKPOINT: &str = ".checkpoint";
/// The folder of snapshots in a data directory.
pub(crate) const SNAPSHOTS: &str = "snapshots";
/// The folder of the view chain in a data directory.
pub(crate) const VIEWS: &str = "views";

/// Bytes of segments after which they are made durable while a snapshot is cut.
const SYNC_BYTES: usize = 8 << 20;
/// How long the disk is left to others behind that, at most.
const REST_MAX: Duration = Duration::from_millis(200);

/// What proves that a quorum certified a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proof {
    /// From that of the checkpoint block to the certified one, by height.
    pub(crate) headers: Vec<Header>,
    /// The checkpoint block's body.
    pub(crate) body: Checkpoint,
    /// The certificate of the last header.
    pub(crate) certificate: Certificate,
}

impl Proof {
    /// The height of the checkpoint block.
    pub(crate) fn height(&self) -> Height {
        self.headers
            .first()
            .map_or(Height(0), |header| header.height)
    }
}

/// A snapshot that is here, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) taken: Taken,
    pub(crate) manifest: Manifest,
    /// None before its checkpoint block is certified.
    pub(crate) proof: Option<Proof>,
}

/// Why the shelf fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShelfError {
    /// Packs of segments.
    #[error(transparent)]
    Packs(#[from] PackError),
    /// A small file.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The application's pieces make no snapshot, or storing them failed.
    #[error(transparent)]
    Cut(#[from] CutError<PackError>),
    /// A file holds something else than its name says.
    #[error("{path}: {what}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The environment failed.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a snapshot that is here makes no state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnreadableError {
    /// A segment cannot be read, or is missing.
    #[error("snapshot {height}, segment {index}: {what}")]
    Segment {
        /// Of which height.
        height: Height,
        /// Its place.
        index: usize,
        /// What is wrong.
        what: String,
    },
    /// The ledger's segments.
    #[error(transparent)]
    Ledger(#[from] crate::consortium::snapshot::ReadError),
    /// The application's.
    #[error(transparent)]
    Application(#[from] RestoreError),
}

#[derive(Default)]
struct Known {
    held: BTreeMap<Height, Arc<Held>>,
    /// Heights of blocks that made views, and which.
    steps: BTreeMap<Height, ViewId>,
}

/// The shelf; every thread may look.
pub(crate) struct Shelf {
    /// Whether a damaged file is an error, not a snapshot less.
    is_strict: bool,
    snapshots: PathBuf,
    views: PathBuf,
    packs: Packs,
    known: RwLock<Known>,
    space: Space,
}

impl Shelf {
    /// The shelf in the data directory `data`, which is read as long as `go_on` says so.
    ///
    /// Errors: [`ShelfError`]; where it says no, [`PackError::Ended`] among them.
    pub(crate) fn open(data: &Path, go_on: &dyn Fn() -> bool) -> Result<Self, ShelfError> {
        let packs = Packs::open_while(&data.join(SNAPSHOTS), go_on)?;
        Self::with(data, packs, false)
    }

    /// The same, which nothing is ever written to; `None` where there is none.
    ///
    /// Errors: [`ShelfError`].
    pub(crate) fn read_only(data: &Path) -> Result<Option<Self>, ShelfError> {
        let dir = data.join(SNAPSHOTS);
        if !dir.is_dir() {
            return Ok(None);
        }
        Self::with(data, Packs::read_only(&dir)?, true).map(Some)
    }

    fn with(data: &Path, packs: Packs, is_strict: bool) -> Result<Self, ShelfError> {
        let mut shelf = Self {
            is_strict,
            snapshots: data.join(SNAPSHOTS),
            views: data.join(VIEWS),
            packs,
            known: RwLock::default(),
            space: Space::new(data),
        };
        let known = shelf.look()?;
        shelf.known = RwLock::new(known);
        Ok(shelf)
    }

    fn look(&self) -> Result<Known, ShelfError> {
        let mut known = Known::default();
        for name in names(&self.views)? {
            if let Some((view, height)) = parse_step(&name) {
                known.steps.insert(height, view);
            }
        }
        for name in names(&self.snapshots)? {
            let Some(height) = parse_snapshot(&name) else {
                continue;
            };
            match self.read_held(&name, height) {
                Ok(held) => drop(held.map(|held| known.held.insert(height, Arc::new(held)))),
                Err(error) if self.is_strict => return Err(error),
                Err(error) => tracing::error!(%error, "a snapshot is damaged and not used"),
            }
        }
        Ok(known)
    }

    fn read_held(&self, name: &str, height: Height) -> Result<Option<Held>, ShelfError> {
        let Some(bytes) = read_sealed(&self.snapshots, name)? else {
            return Ok(None);
        };
        let path = self.snapshots.join(name);
        let read = read_snapshot(&bytes).filter(|(taken, _)| taken.height == height);
        let (taken, manifest) = read.ok_or_else(|| wrong(&path, "no snapshot of this height"))?;
        let proof = self.proof(&taken)?;
        Ok(Some(Held {
            taken,
            manifest,
            proof,
        }))
    }

    fn proof(&self, taken: &Taken) -> Result<Option<Proof>, ShelfError> {
        let name = checkpoint_name(taken.height);
        let Some(bytes) = read_sealed(&self.snapshots, &name)? else {
            return Ok(None);
        };
        let path = self.snapshots.join(&name);
        let proof: Proof = codec::decode(&bytes, ENCODED_BYTES_MAX)
            .map_err(|error| wrong(&path, &error.to_string()))?;
        match proof.body.taken() == *taken {
            true => Ok(Some(proof)),
            false => Err(wrong(&path, "it proves another snapshot")),
        }
    }

    /// The packs of segments.
    pub(crate) fn packs(&self) -> &Packs {
        &self.packs
    }

    /// How much of the disk is taken.
    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// Every snapshot that is here, by height.
    pub(crate) fn held(&self) -> Vec<Arc<Held>> {
        self.read().held.values().cloned().collect()
    }

    /// The snapshot of this height.
    pub(crate) fn at(&self, height: Height) -> Option<Arc<Held>> {
        self.read().held.get(&height).cloned()
    }

    /// The newest snapshot that a quorum certified.
    pub(crate) fn newest(&self) -> Option<Arc<Held>> {
        self.certified().into_iter().next()
    }

    /// Every snapshot that a quorum certified, the newest first.
    pub(crate) fn certified(&self) -> Vec<Arc<Held>> {
        let known = self.read();
        let held = known.held.values().rev();
        held.filter(|held| held.proof.is_some()).cloned().collect()
    }

    /// Cuts a snapshot and lists it once it is durable.
    ///
    /// Errors: [`ShelfError::Cut`], [`ShelfError::Packs`], [`ShelfError::Sealed`].
    pub(crate) fn take<M, P>(
        &self,
        whole: Whole<M, P>,
        segment_bytes: usize,
    ) -> Result<Taken, ShelfError>
    where
        M: Iterator<Item = (Name, Executed)>,
        P: Iterator<Item = Bytes>,
    {
        let mut unsynced = 0;
        let (manifest, taken) = whole.cut(segment_bytes, |leaf, segment| {
            if self.packs.append(&leaf.digest, &segment)? {
                unsynced += segment.len();
            }
            if unsynced >= SYNC_BYTES {
                unsynced = 0;
                let started = Instant::now();
                self.packs.sync()?;
                // Votes want the same disk: they have it at least half of the time.
                thread::park_timeout(started.elapsed().min(REST_MAX));
            }
            Ok(())
        })?;
        self.list(taken, manifest)?;
        Ok(taken)
    }

    /// Lists a snapshot whose segments are all stored.
    ///
    /// Errors: [`ShelfError::Packs`], [`ShelfError::Sealed`].
    pub(crate) fn list(&self, taken: Taken, manifest: Manifest) -> Result<(), ShelfError> {
        self.packs.sync()?;
        let bytes = write_snapshot(&taken, &manifest);
        write_sealed(&self.snapshots, &snapshot_name(taken.height), &bytes)?;
        let held = Held {
            taken,
            manifest,
            proof: None,
        };
        self.write().held.insert(taken.height, Arc::new(held));
        Ok(())
    }

    /// Keeps what proves a snapshot that is here; false where it is not here, or another one is.
    ///
    /// Errors: [`ShelfError::Sealed`].
    pub(crate) fn certify(&self, proof: Proof) -> Result<bool, ShelfError> {
        let taken = proof.body.taken();
        let Some(held) = self.at(taken.height).filter(|held| held.taken == taken) else {
            return Ok(false);
        };
        let name = checkpoint_name(taken.height);
        write_sealed(&self.snapshots, &name, &codec::encode(&proof))?;
        let held = Held {
            proof: Some(proof),
            ..(*held).clone()
        };
        self.write().held.insert(taken.height, Arc::new(held));
        Ok(true)
    }

    /// Gives up every snapshot whose height is not in `keep`, and what only they refer to.
    ///
    /// Errors: [`ShelfError`].
    pub(crate) fn keep(&self, keep: &BTreeSet<Height>) -> Result<u64, ShelfError> {
        let gone: Vec<Height> = {
            let known = self.read();
            let heights = known.held.keys().copied();
            heights.filter(|height| !keep.contains(height)).collect()
        };
        for height in gone {
            self.write().held.remove(&height);
            // The proof first: a snapshot without one is believed by nobody.
            for name in [checkpoint_name(height), snapshot_name(height)] {
                let path = self.snapshots.join(name);
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(ShelfError::Io { path, source });
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
        // The names are gone before what they refer to.
        let folder = fs::File::open(&self.snapshots).and_then(|folder| folder.sync_all());
        folder.map_err(|source| ShelfError::Io {
            path: self.snapshots.clone(),
            source,
        })?;
        let mut live = BTreeSet::new();
        for held in self.held() {
            live.extend(held.manifest.leaves().iter().map(|leaf| leaf.digest));
        }
        Ok(self.packs.retain(&live)?)
    }

    /// The bytes of a segment.
    ///
    /// Errors: what is wrong with it.
    pub(crate) fn segment(&self, leaf: &Leaf) -> Result<Bytes, String> {
        match self.packs.read(&leaf.digest) {
            Ok(Some(segment)) if leaf.is_of(&segment) => Ok(segment),
            Ok(Some(_)) => Err("it is not what the manifest names".into()),
            Ok(None) => Err("it is missing".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Reads a snapshot: the application takes its part over, the ledger's is given. `go_on` is
    /// told of the bytes of each segment, and says whether to.
    ///
    /// Errors: [`UnreadableError`]; the application is of no use then.
    pub(crate) fn restore(
        &self,
        held: &Held,
        chain: &Digest,
        application: &mut dyn Application,
        go_on: &dyn Fn(u64) -> bool,
    ) -> Result<Content, UnreadableError> {
        let height = held.taken.height;
        let leaves = held.manifest.leaves();
        let read = |index: usize, leaf: &Leaf| {
            let segment = match go_on(leaf.bytes.into()) {
                true => self.segment(leaf),
                false => Err("it was not waited for".into()),
            };
            segment.map_err(|what| UnreadableError::Segment {
                height,
                index,
                what,
            })
        };
        let own = leaves.partition_point(|leaf| leaf.section != Section::Application);
        let mut reader = Reader::default();
        for (index, leaf) in leaves[..own].iter().enumerate() {
            reader.take(leaf.section, &read(index, leaf)?)?;
        }
        let content = reader.finish(chain)?;
        let pieces = leaves[own..].iter().enumerate();
        let mut pieces = pieces.map(|(index, leaf)| {
            read(own + index, leaf).map_err(|error| io::Error::other(error.to_string()))
        });
        application.restore(&mut pieces)?;
        content.check(&held.taken, &application.state_digest())?;
        Ok(content)
    }

    /// Keeps a step of the view chain, durably.
    ///
    /// Errors: [`ShelfError::Sealed`].
    pub(crate) fn add_step(&self, step: &Step) -> Result<(), ShelfError> {
        let (height, view) = (step.header.height, step.body.next);
        if self.read().steps.contains_key(&height) {
            return Ok(());
        }
        write_sealed(&self.views, &step_name(view, height), &step.to_bytes())?;
        self.write().steps.insert(height, view);
        Ok(())
    }

    /// The heights of the blocks that made views, as far as they are here.
    pub(crate) fn steps(&self) -> Vec<(Height, ViewId)> {
        let known = self.read();
        known
            .steps
            .iter()
            .map(|(height, view)| (*height, *view))
            .collect()
    }

    /// The step at `height`.
    ///
    /// Errors: [`ShelfError`].
    pub(crate) fn step(&self, height: Height) -> Result<Option<Step>, ShelfError> {
        let Some(view) = self.read().steps.get(&height).copied() else {
            return Ok(None);
        };
        let name = step_name(view, height);
        let Some(bytes) = read_sealed(&self.views, &name)? else {
            return Ok(None);
        };
        let step = Step::from_bytes(&bytes);
        let path = self.views.join(name);
        step.map(Some)
            .map_err(|error| wrong(&path, &error.to_string()))
    }

    /// Gives up the step that made `first`, and every later one: the chain that they make is not
    /// ours.
    ///
    /// Errors: [`ShelfError::Io`].
    pub(crate) fn forget_steps(&self, first: ViewId) -> Result<(), ShelfError> {
        let is_earlier = |name: &String| parse_step(name).is_some_and(|(view, _)| view < first);
        let mut names = names(&self.views)?;
        names.retain(|name| !is_earlier(name));
        // From the last one on: what a kill leaves is a chain as well.
        for name in names.into_iter().rev() {
            let path = self.views.join(name);
            fs::remove_file(&path).map_err(|source| ShelfError::Io { path, source })?;
        }
        self.write().steps.retain(|_, view| *view < first);
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wrong(path: &Path, what: &str) -> ShelfError {
    ShelfError::Wrong {
        path: path.into(),
        what: what.into(),
    }
}

fn names(dir: &Path) -> Result<Vec<String>, ShelfError> {
    let failed = |source| ShelfError::Io {
        path: dir.into(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

fn snapshot_name(height: Height) -> String {
    format!("{:020}.snapshot", height.0)
}

/// Whether a certified snapshot is kept in `data`, as far as names say.
pub(crate) fn has_checkpoint(data: &Path) -> bool {
    let entries = fs::read_dir(data.join(SNAPSHOTS));
    let mut names = entries.into_iter().flatten().flatten();
    names.any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().ends_with(CHECKPOINT)
    })
}

fn checkpoint_name(height: Height) -> String {
    format!("{:020}{CHECKPOINT}", height.0)
}

fn step_name(view: ViewId, height: Height) -> String {
    format!("{:020}-{:020}.step", view.0, height.0)
}

/// The height in the name of a snapshot.
pub(crate) fn parse_snapshot(name: &str) -> Option<Height> {
    let height = Height(name.strip_suffix(".snapshot")?.parse().ok()?);
    (snapshot_name(height) == name).then_some(height)
}

/// The height in the name of what proves a snapshot.
pub(crate) fn parse_checkpoint(name: &str) -> Option<Height> {
    let height = Height(name.strip_suffix(CHECKPOINT)?.parse().ok()?);
    (checkpoint_name(height) == name).then_some(height)
}

/// The view that a step makes, and the height of its block.
pub(crate) fn parse_step(name: &str) -> Option<(ViewId, Height)> {
    let (view, height) = name.strip_suffix(".step")?.split_once('-')?;
    let (view, height) = (ViewId(view.parse().ok()?), Height(height.parse().ok()?));
    (step_name(view, height) == name).then_some((view, height))
}

fn write_snapshot(taken: &Taken, manifest: &Manifest) -> Vec<u8> {
    let mut bytes = codec::encode(taken);
    for leaf in manifest.leaves() {
        bytes.push(match leaf.section {
            Section::Ledger => 0,
            Section::Memory => 1,
            Section::Application => 2,
        });
        bytes.extend_from_slice(&leaf.bytes.to_le_bytes());
        bytes.extend_from_slice(leaf.digest.as_bytes());
    }
    bytes
}

fn read_snapshot(bytes: &[u8]) -> Option<(Taken, Manifest)> {
    let leaf = |bytes: &[u8; LEAF_BYTES]| {
        let section = match bytes[0] {
            0 => Section::Ledger,
            1 => Section::Memory,
            2 => Section::Application,
            _ => return None,
        };
        Some(Leaf {
            section,
            bytes: u32::from_le_bytes(bytes[1..5].try_into().ok()?),
            digest: Digest(bytes[5..].try_into().ok()?),
        })
    };
    // Its encoding has one length.
    let head = codec::encode(&Taken::default()).len();
    let (head, rest) = bytes.split_at_checked(head)?;
    let taken: Taken = codec::decode(head, ENCODED_BYTES_MAX).ok()?;
    let (leaves, behind) = rest.as_chunks::<LEAF_BYTES>();
    let leaves: Option<Vec<Leaf>> = leaves.iter().map(leaf).collect();
    let manifest = Manifest::new(leaves.filter(|_| behind.is_empty())?).ok()?;
    (manifest.root() == taken.manifest).then_some((taken, manifest))
}
