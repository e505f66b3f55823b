//! An extent: a stretch of the chain as one object, the same bytes whoever writes it.
//!
//! Source: `docs/formats.md`, archive. In: blocks and the batches that they name. Out: bytes, and
//! back.
//! Holds: what reads back is consistent in itself: links, roots and batches hold, and it has one
//! form; no length is believed before the bytes are there; what is wrong is told with its height.
//! Elsewhere: where an extent ends (`cut`), what proves it (`proof`), names (`names`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::proof::PROOF_BYTES_MAX;
use crate::blocks::codec;
use crate::blocks::{BLOCK_BATCHES_MAX, BatchRef, Body, Bounds, Header};
use crate::committee::{Height, ViewId};
use crate::consortium::Block;
use crate::crypto::{Digest, Domain};

/// The first bytes of an extent.
const HEAD: &[u8; 20] = b"consortium extent 1\n";
/// Bytes before the first block: head, chain, view, first and last height, previous digest.
pub(super) const OPENING_BYTES: u64 = 20 + 32 + 8 + 8 + 8 + 32;
/// Bytes behind the last block.
pub(super) const CLOSING_BYTES: u64 = 32;
/// Blocks of an extent, at most.
pub(crate) const EXTENT_BLOCKS_MAX: usize = 1024;
/// An extent ends with the block that brings it to so many bytes.
pub(crate) const EXTENT_BYTES: u64 = 8 << 20;
/// Bytes of an encoded header, at most.
const HEADER_BYTES_MAX: usize = 512;
/// Bytes of an encoded body, at most.
const BODY_BYTES_MAX: usize = codec::ENCODED_BYTES_MAX;

/// What an extent is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// The chain.
    pub(crate) chain: Digest,
    /// The view that ordered all of it.
    pub(crate) view: ViewId,
    /// The first height.
    pub(crate) first: Height,
    /// The last height.
    pub(crate) last: Height,
    /// The digest of the header before the first.
    pub(crate) previous: Digest,
}

/// A stretch of the chain that is consistent in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// What it is of.
    pub(crate) opening: Opening,
    /// The blocks by height, each with the digest of its header; batches are named.
    pub(crate) blocks: Vec<(Block, Digest)>,
    /// The batches that blocks name.
    pub(crate) batches: BTreeMap<Digest, Bytes>,
    /// Bytes that the extent would have if it ended with each of the blocks.
    pub(crate) sizes: Vec<u64>,
}

/// Why bytes are no extent. Whoever keeps or wrote them is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(crate) struct ExtentError {
    /// The height that is wrong; none before the first block.
    pub(crate) height: Option<Height>,
    /// What is wrong.
    pub(crate) what: String,
}

/// Bytes of an extent or a tail, at most: full but for the last block.
pub(crate) fn extent_bytes_max(bounds: &Bounds) -> u64 {
    let batch = bounds.batch_bytes_max as u64 + 4;
    let body = (BODY_BYTES_MAX + HEADER_BYTES_MAX) as u64;
    EXTENT_BYTES + body + BLOCK_BATCHES_MAX as u64 * batch + PROOF_BYTES_MAX
}

/// Writes an extent, block by block.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// Opens an extent that will have `bytes` bytes.
    pub(super) fn new(opening: &Opening, bytes: u64) -> Self {
        let mut out = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
        out.extend_from_slice(HEAD);
        out.extend_from_slice(opening.chain.as_bytes());
        for number in [opening.view.0, opening.first.0, opening.last.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(opening.previous.as_bytes());
        Self(out)
    }

    /// Adds a block: its encoded header, its encoded body with batches named, and how many batches
    /// follow.
    pub(super) fn block(&mut self, header: &[u8], body: &[u8], batches: usize) {
        self.part(header);
        self.part(body);
        let count = u32::try_from(batches).expect("a block names few batches");
        self.0.extend_from_slice(&count.to_le_bytes());
    }

    /// Adds a batch, or any part behind its length.
    pub(super) fn part(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("a part is shorter than 4 GiB");
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// Closes it.
    pub(super) fn finish(self) -> Bytes {
        seal(self.0)
    }
}

/// Bytes of a block whose encoded parts are so long and that brings batches of these lengths.
pub(super) fn block_bytes(header: usize, body: usize, batches: impl Iterator<Item = u64>) -> u64 {
    let batches: u64 = batches.map(|length| 4 + length).sum();
    12 + header as u64 + body as u64 + batches
}

/// A body as it is archived: every batch by name.
pub(super) fn named(body: &Body) -> Body {
    if let Body::Transactions(batches) = body {
        let named = batches.iter().map(|batch| BatchRef::Named(batch.digest()));
        return Body::Transactions(named.collect());
    }
    body.clone()
}

/// Puts the digest of all bytes behind them.
pub(super) fn seal(mut bytes: Vec<u8>) -> Bytes {
    let digest = Digest::of(Domain::Archive, &bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes.into()
}

/// The bytes before the digest that stands behind them, and whether it is theirs.
pub(super) fn sealed(bytes: &Bytes) -> Option<(Bytes, bool)> {
    let at = bytes.len().checked_sub(CLOSING_BYTES as usize)?;
    let (content, digest) = (bytes.slice(..at), bytes.slice(at..));
    let is_whole = Digest::of(Domain::Archive, &content).as_bytes()[..] == digest[..];
    Some((content, is_whole))
}

impl Extent {
    /// Reads an extent.
    ///
    /// Errors: [`ExtentError`], with the first height that does not hold.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, ExtentError> {
        let fails = |what: &str| ExtentError {
            height: None,
            what: what.into(),
        };
        let (content, is_whole) = sealed(bytes).ok_or_else(|| fails("it is cut short"))?;
        let mut reader = Reader {
            rest: &content,
            whole: &content,
        };
        let opening = reader.opening().map_err(fails)?;
        let count =
            (opening.last.0.checked_sub(opening.first.0)).map(|more| more.saturating_add(1));
        let count = count.filter(|count| *count <= EXTENT_BLOCKS_MAX as u64);
        let count = count.filter(|_| opening.first > Height(0));
        let count = count.ok_or_else(|| fails("it is of no stretch of heights"))?;
        let mut extent = Self {
            opening,
            blocks: Vec::new(),
            batches: BTreeMap::new(),
            sizes: Vec::new(),
        };
        let length = bytes.len() as u64;
        for height in (0..count).map(|more| opening.first.plus(more)) {
            let taken = extent.block(height, &mut reader);
            taken.map_err(|what| ExtentError {
                height: Some(height),
                what: format!("block {height}: {what}"),
            })?;
            extent.sizes.push(length - reader.rest.len() as u64);
        }
        if !reader.rest.is_empty() {
            let left = reader.rest.len();
            return Err(ExtentError {
                height: Some(opening.last),
                what: format!("{left} bytes stand behind the last block"),
            });
        }
        match is_whole {
            true => Ok(extent),
            false => Err(fails("its bytes are not those that its digest is of")),
        }
    }

    /// The last header, and its digest.
    pub(crate) fn last(&self) -> (&Header, Digest) {
        let (block, digest) = self.blocks.last().expect("an extent has a block");
        (&block.header, *digest)
    }

    fn block(&mut self, height: Height, reader: &mut Reader<'_>) -> Result<(), String> {
        let cut = || "it is cut short".to_owned();
        let wrong = |error: codec::DecodeError| error.to_string();
        let header = reader.part().ok_or_else(cut)?;
        let header: Header = codec::decode(&header, HEADER_BYTES_MAX).map_err(wrong)?;
        let body = reader.part().ok_or_else(cut)?;
        let body: Body = codec::decode(&body, BODY_BYTES_MAX).map_err(wrong)?;
        let digest = header.digest();
        self.links(height, &header)?;
        if header.body != body.root() {
            return Err("its body is not what its header binds".into());
        }
        let mut fresh: Vec<Digest> = Vec::new();
        for batch in body.batches() {
            let BatchRef::Named(digest) = batch else {
                return Err("a batch rides in its body".into());
            };
            if !self.batches.contains_key(digest) && !fresh.contains(digest) {
                fresh.push(*digest);
            }
        }
        let got = reader.count().ok_or_else(cut)? as usize;
        if got != fresh.len() {
            let want = fresh.len();
            return Err(format!("it brings {got} batches, its body needs {want}"));
        }
        for digest in fresh {
            let bytes = reader.part().ok_or_else(cut)?;
            if Digest::of(Domain::Batch, &bytes) != digest {
                return Err(format!("batch {digest} has other bytes"));
            }
            self.batches.insert(digest, bytes);
        }
        self.blocks.push((Block { header, body }, digest));
        Ok(())
    }

    fn links(&self, height: Height, header: &Header) -> Result<(), String> {
        let Opening { chain, view, .. } = self.opening;
        if header.height != height {
            return Err(format!("block {} stands in its place", header.height));
        }
        if header.chain != chain {
            return Err(format!("it is of chain {}", header.chain));
        }
        if header.view != view {
            return Err(format!(
                "it is of view {}, the extent of {view}",
                header.view
            ));
        }
        let Some((parent, digest)) = self.blocks.last() else {
            return match header.previous == self.opening.previous {
                true => Ok(()),
                false => Err("it follows another block than the extent says".into()),
            };
        };
        let linked = header.follows(&parent.header, digest);
        linked.map_err(|error| error.to_string())
    }
}

/// Reads fixed-width numbers and parts behind their length.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
    pub(super) whole: &'a Bytes,
}

impl Reader<'_> {
    pub(super) fn opening(&mut self) -> Result<Opening, &'static str> {
        let cut = "it is cut short";
        self.head(HEAD)?;
        Ok(Opening {
            chain: Digest(self.array().ok_or(cut)?),
            view: ViewId(self.number().ok_or(cut)?),
            first: Height(self.number().ok_or(cut)?),
            last: Height(self.number().ok_or(cut)?),
            previous: Digest(self.array().ok_or(cut)?),
        })
    }

    pub(super) fn head(&mut self, head: &[u8]) -> Result<(), &'static str> {
        let other = "it does not begin as an object of this kind and version does";
        self.rest = self.rest.strip_prefix(head).ok_or(other)?;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn count(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn part(&mut self) -> Option<Bytes> {
        let length = self.count()? as usize;
        self.take(length)
    }

    pub(super) fn take(&mut self, length: usize) -> Option<Bytes> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(self.whole.slice_ref(taken))
    }
}
