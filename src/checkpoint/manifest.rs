//! The manifest: an ordered list of segments under one root.
//!
//! Source: RFC 6962 tree shape with BLAKE3 under `Domain::Snapshot`; `docs/formats.md`. In: leaves.
//! Out: a root, pages with their paths.
//! Holds: a page that is checked is the manifest's own at its place; every length is bounded before
//! anything is allocated. Elsewhere: segments on their way (`assembler`).
//!
//! Hashes, of a first byte and: `00` section, bytes, digest (a leaf); `01` left, right (a node);
//! `02` number of leaves, bytes of all segments, node of all leaves (the root). A segment's own
//! digest is under the same domain with first byte `03`.

use serde::{Deserialize, Serialize};

use crate::blocks::SEGMENT_BYTES_MAX;
use crate::crypto::{Digest, Domain, Hasher};

/// Segments of one snapshot, at most: with the smallest segments 16 GiB, with the default 256 GiB.
pub const MANIFEST_LEAVES_MAX: u32 = 1 << 22;
/// Leaves of one page: a whole subtree, but for the last page.
pub const PAGE_LEAVES: u32 = 4096;
/// Bytes of an encoded leaf.
pub const LEAF_BYTES: usize = 1 + 4 + 32;

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Section {
    /// Where the ledger stands, views and members.
    Ledger,
    /// The sequence table: transactions that are remembered.
    Memory,
    /// The application's state.
    Application,
}

impl Section {
    const fn code(self) -> u8 {
        match self {
            Section::Ledger => 0,
            Section::Memory => 1,
            Section::Application => 2,
        }
    }
}

/// One segment as the manifest has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// What it holds.
    pub section: Section,
    /// Its length; at least 1 and at most [`SEGMENT_BYTES_MAX`].
    pub bytes: u32,
    /// Its digest.
    pub digest: Digest,
}

impl Leaf {
    /// The leaf of a segment.
    pub fn of(section: Section, segment: &[u8]) -> Self {
        Self {
            section,
            bytes: u32::try_from(segment.len()).unwrap_or(u32::MAX),
            digest: Self::digest_of(segment),
        }
    }

    /// The digest of a segment's bytes.
    pub fn digest_of(segment: &[u8]) -> Digest {
        let mut hasher = Hasher::new(Domain::Snapshot);
        hasher.update(&[3]).update(segment);
        hasher.finish()
    }

    /// Whether `segment` is its segment.
    pub fn is_of(&self, segment: &[u8]) -> bool {
        segment.len() == self.bytes as usize && Self::digest_of(segment) == self.digest
    }

    fn hash(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::Snapshot);
        hasher
            .update(&[0, self.section.code()])
            .update(&self.bytes.to_le_bytes())
            .update(self.digest.as_bytes());
        hasher.finish()
    }

    fn is_sized(&self) -> bool {
        (1..=SEGMENT_BYTES_MAX).contains(&(self.bytes as usize))
    }
}

/// Why leaves make no manifest. Whoever gave them is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// No segment, or more than [`MANIFEST_LEAVES_MAX`].
    #[error("{count} segments, allowed are 1 to {MANIFEST_LEAVES_MAX}")]
    Count {
        /// How many.
        count: u64,
    },
    /// A segment is empty or too long.
    #[error("segment {index} has {bytes} bytes, allowed are 1 to {SEGMENT_BYTES_MAX}")]
    Size {
        /// Its place.
        index: u32,
        /// Its length.
        bytes: u32,
    },
    /// Sections stand in another order.
    #[error("segment {index} stands behind one of a later section")]
    Order {
        /// Its place.
        index: u32,
    },
    /// There is no such page, or it has another number of leaves.
    #[error("page {page} with {leaves} leaves")]
    Page {
        /// Its number.
        page: u32,
        /// Its leaves.
        leaves: usize,
    },
    /// It leads to another root.
    #[error("page {page} is not of this manifest")]
    Root {
        /// Its number.
        page: u32,
    },
}

/// A whole manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    leaves: Vec<Leaf>,
    /// The node of each page, made once: every page that is asked for needs all of them.
    nodes: Vec<Digest>,
}

impl Manifest {
    /// The manifest of these segments, in order.
    ///
    /// Errors: [`ManifestError::Count`], [`ManifestError::Size`], [`ManifestError::Order`].
    pub fn new(leaves: Vec<Leaf>) -> Result<Self, ManifestError> {
        let count = leaves.len() as u64;
        if count == 0 || count > MANIFEST_LEAVES_MAX.into() {
            return Err(ManifestError::Count { count });
        }
        let mut before = Section::Ledger;
        for (index, leaf) in (0u32..).zip(&leaves) {
            let bytes = leaf.bytes;
            if !leaf.is_sized() {
                return Err(ManifestError::Size { index, bytes });
            }
            if leaf.section < before {
                return Err(ManifestError::Order { index });
            }
            before = leaf.section;
        }
        let hashes: Vec<Digest> = leaves.iter().map(Leaf::hash).collect();
        let nodes = hashes.chunks(PAGE_LEAVES as usize).map(tree).collect();
        Ok(Self { leaves, nodes })
    }

    /// Its leaves, in order.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// How many segments.
    pub fn segments(&self) -> u32 {
        u32::try_from(self.leaves.len()).expect("leaves are bounded")
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.leaves.iter().map(|leaf| u64::from(leaf.bytes)).sum()
    }

    /// What a checkpoint names.
    pub fn root(&self) -> Digest {
        root(self.segments(), self.bytes(), &tree(&self.nodes))
    }

    /// How many pages.
    pub fn pages(&self) -> u32 {
        pages(self.segments())
    }

    /// Page `page` with its path.
    pub fn page(&self, page: u32) -> Option<Page> {
        let chunk = self
            .leaves
            .chunks(PAGE_LEAVES as usize)
            .nth(page as usize)?;
        Some(Page {
            page,
            leaves: chunk.to_vec(),
            path: path(&self.nodes, page as usize),
        })
    }
}

/// How many pages a manifest of so many segments has.
pub(super) fn pages(segments: u32) -> u32 {
    segments.div_ceil(PAGE_LEAVES)
}

/// A stretch of a manifest with what leads to its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Its number.
    pub page: u32,
    /// Its leaves, [`PAGE_LEAVES`] but for the last page.
    pub leaves: Vec<Leaf>,
    /// Sibling nodes from its own upwards, at most 10.
    pub path: Vec<Digest>,
}

impl Page {
    /// Whether it is the page of the manifest of `segments` segments and `bytes` bytes under
    /// `wanted`.
    ///
    /// Errors: [`ManifestError`].
    pub fn check(&self, wanted: &Digest, segments: u32, bytes: u64) -> Result<(), ManifestError> {
        let (page, count) = (self.page, self.leaves.len());
        let first = u64::from(page) * u64::from(PAGE_LEAVES);
        let rest = u64::from(segments).saturating_sub(first);
        if rest == 0 || count as u64 != rest.min(PAGE_LEAVES.into()) {
            let leaves = count;
            return Err(ManifestError::Page { page, leaves });
        }
        for (index, leaf) in self.leaves.iter().enumerate() {
            if !leaf.is_sized() {
                let index = u32::try_from(first).unwrap_or(u32::MAX) + index as u32;
                let bytes = leaf.bytes;
                return Err(ManifestError::Size { index, bytes });
            }
        }
        let hashes: Vec<Digest> = self.leaves.iter().map(Leaf::hash).collect();
        let all = pages(segments) as usize;
        let led = lead(tree(&hashes), page as usize, all, &self.path);
        match led.map(|node| root(segments, bytes, &node)) {
            Some(got) if got == *wanted => Ok(()),
            Some(_) | None => Err(ManifestError::Root { page }),
        }
    }
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = Hasher::new(Domain::Snapshot);
    hasher
        .update(&[1])
        .update(left.as_bytes())
        .update(right.as_bytes());
    hasher.finish()
}

fn root(segments: u32, bytes: u64, all: &Digest) -> Digest {
    let mut hasher = Hasher::new(Domain::Snapshot);
    hasher
        .update(&[2])
        .update(&segments.to_le_bytes())
        .update(&bytes.to_le_bytes())
        .update(all.as_bytes());
    hasher.finish()
}

/// The node over hashes: pairs from the left, a last one without a partner rises as it is. Where
/// the left part is a power of two this is the shape of RFC 6962.
fn tree(hashes: &[Digest]) -> Digest {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node(left, right),
                rest => rest[0],
            })
            .collect();
    }
    row.first().copied().unwrap_or(Digest::ZERO)
}

/// The siblings of the node at `place` of `row`, from below; one that rises has none.
fn path(row: &[Digest], mut place: usize) -> Vec<Digest> {
    let (mut row, mut path) = (row.to_vec(), Vec::new());
    while row.len() > 1 {
        path.extend(row.get(place ^ 1));
        row = row.chunks(2).map(tree).collect();
        place /= 2;
    }
    path
}

/// Where `path` leads from the node at `place` of a row of `count`; nothing where it has another
/// length.
fn lead(mut at: Digest, mut place: usize, mut count: usize, path: &[Digest]) -> Option<Digest> {
    let mut path = path.iter();
    while count > 1 {
        if place ^ 1 < count {
            let sibling = path.next()?;
            at = match place % 2 {
                0 => node(&at, sibling),
                _ => node(sibling, &at),
            };
        }
        (place, count) = (place / 2, count.div_ceil(2));
    }
    path.next().is_none().then_some(at)
}
