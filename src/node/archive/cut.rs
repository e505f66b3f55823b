//! Cuts a member's log into extents, and finds what proves each.
//!
//! Source: `docs/formats.md`, archive. In: batches, blocks and certificates in the order of the
//! log. Out: extents with their proofs, ready to be written.
//! Holds: where an extent ends follows from the chain alone; only an extent that a certificate
//! covers is given; bytes of batches stay in the log until an extent is written.
//! Elsewhere: the bytes (`extent`), what is there already (`names`), who writes (`writer`).

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::Bytes;

use super::ArchiveError;
use super::extent::{
    self, CLOSING_BYTES, EXTENT_BLOCKS_MAX, EXTENT_BYTES, OPENING_BYTES, Opening, Writer,
};
use super::proof::Proof;
use crate::blocks::codec;
use crate::blocks::{BatchRef, Body, Header};
use crate::committee::{Certificate, Height};
use crate::consortium::{Block, Record};
use crate::crypto::{Digest, Domain};
use crate::storage::{LogReader, Position};

/// Where an extent ends, beside the end of its view.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// With so many blocks.
    pub(crate) blocks: usize,
    /// With so many bytes.
    pub(crate) bytes: u64,
}

impl Cut {
    /// The rule of the format.
    pub(crate) const FORMAT: Self = Self {
        blocks: EXTENT_BLOCKS_MAX,
        bytes: EXTENT_BYTES,
    };

    /// Whether an extent of so many blocks and bytes ends with `body`.
    pub(crate) fn ends(&self, body: &Body, blocks: usize, bytes: u64) -> bool {
        let is_last_of_view = matches!(body, Body::Reconfiguration(_));
        is_last_of_view || blocks >= self.blocks || bytes >= self.bytes
    }
}

/// Where the bytes of a batch are.
#[derive(Clone, Debug)]
enum Source {
    Logged(Position, u32),
    Inline(Bytes),
}

impl Source {
    fn bytes(&self) -> u64 {
        match self {
            Source::Logged(_, length) => u64::from(*length),
            Source::Inline(bytes) => bytes.len() as u64,
        }
    }
}

/// A block of an extent that is not written yet.
struct Planned {
    header: Header,
    digest: Digest,
    encoded: (Vec<u8>, Vec<u8>),
    batches: Vec<(Digest, Source)>,
}

/// A stretch of blocks of one view.
pub(super) struct Stretch {
    previous: Digest,
    blocks: Vec<Planned>,
    named: BTreeSet<Digest>,
    bytes: u64,
}

/// Takes records in.
pub(super) struct Cutter {
    chain: Digest,
    cut: Cut,
    /// The newest archived height up to which none is missing, and its digest.
    archived: (Height, Digest),
    /// The last block that was taken in, or passed as archived already; genesis before the first.
    last: (Height, Digest),
    /// The stretch that grows; empty at its start.
    growing: Stretch,
    /// Full ones without a certificate yet.
    waiting: VecDeque<Stretch>,
    batches: HashMap<Digest, Source>,
    /// The newest certificate of a block that was taken in.
    certificate: Option<Certificate>,
}

impl Stretch {
    fn behind(previous: Digest) -> Self {
        Self {
            previous,
            blocks: Vec::new(),
            named: BTreeSet::new(),
            bytes: OPENING_BYTES + CLOSING_BYTES,
        }
    }

    fn ends(&self) -> Option<(&Planned, &Planned)> {
        Some((self.blocks.first()?, self.blocks.last()?))
    }

    /// Its first and last height.
    pub(super) fn heights(&self) -> (Height, Height) {
        let (first, last) = self.ends().expect("a stretch that is given has blocks");
        (first.header.height, last.header.height)
    }

    /// The digest of its last header.
    pub(super) fn digest(&self) -> Digest {
        self.ends()
            .expect("a stretch that is given has blocks")
            .1
            .digest
    }

    /// Its last header.
    pub(super) fn last(&self) -> &Header {
        &self
            .ends()
            .expect("a stretch that is given has blocks")
            .1
            .header
    }

    /// Bytes of the whole extent.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The extent, of the blocks up to the one at `last`.
    ///
    /// Errors: a batch that cannot be read again.
    pub(super) fn encode(
        &self,
        chain: Digest,
        last: Height,
        log: &LogReader,
    ) -> Result<Bytes, ArchiveError> {
        let blocks = self.blocks.iter();
        let blocks = blocks.take_while(|block| block.header.height <= last);
        let (first, _) = self.ends().expect("a stretch that is given has blocks");
        let opening = Opening {
            chain,
            view: first.header.view,
            first: first.header.height,
            last,
            previous: self.previous,
        };
        let mut writer = Writer::new(&opening, self.bytes);
        for block in blocks {
            let (header, body) = &block.encoded;
            writer.block(header, body, block.batches.len());
            for (digest, source) in &block.batches {
                let bytes = match source {
                    Source::Inline(bytes) => bytes.clone(),
                    Source::Logged(position, _) => log.read(*position)?.1.into(),
                };
                if Digest::of(Domain::Batch, &bytes) != *digest {
                    let (height, digest) = (block.header.height, *digest);
                    return Err(ArchiveError::Batch { height, digest });
                }
                writer.part(&bytes);
            }
        }
        Ok(writer.finish())
    }
}

impl Cutter {
    /// Before the first record of a log of the chain that `genesis` is the first header of; the
    /// archive holds everything up to `archived`, which is genesis for an empty one.
    pub(super) fn new(genesis: &Header, cut: Cut, archived: (Height, Digest)) -> Self {
        let digest = genesis.digest();
        Self {
            chain: genesis.chain,
            cut,
            archived,
            last: (Height(0), digest),
            growing: Stretch::behind(digest),
            waiting: VecDeque::new(),
            batches: HashMap::new(),
            certificate: None,
        }
    }

    /// The last block that the log holds.
    pub(super) fn height(&self) -> Height {
        self.last.0
    }

    /// Everything up to `height` is archived now.
    pub(super) fn archived(&mut self, height: Height, digest: Digest) {
        if height > self.archived.0 {
            self.archived = (height, digest);
        }
    }

    /// Takes in the next record of the log, at `position`; gives the extents that are full and
    /// proved now, in order.
    ///
    /// Errors: [`ArchiveError`]; then nothing more is taken in.
    pub(super) fn take(
        &mut self,
        record: Record,
        position: Position,
    ) -> Result<Vec<(Stretch, Proof)>, ArchiveError> {
        match record {
            Record::Batch(bytes) => {
                let length = u32::try_from(bytes.len()).expect("a record is shorter than 4 GiB");
                let digest = Digest::of(Domain::Batch, &bytes);
                self.batches
                    .insert(digest, Source::Logged(position, length));
                Ok(Vec::new())
            }
            Record::Block(block) => self.block(block).map(|()| Vec::new()),
            Record::Certificate(certificate) => self.certificate(certificate),
            Record::Voter(..)
            | Record::Payload(..)
            | Record::Decision(_)
            | Record::Engine(..)
            | Record::Fault(_) => Ok(Vec::new()),
        }
    }

    fn block(&mut self, block: Block) -> Result<(), ArchiveError> {
        let (height, digest) = (block.header.height, block.header.digest());
        if block.header.chain != self.chain {
            let chain = block.header.chain;
            return Err(ArchiveError::OtherChain { height, chain });
        }
        let (last, before) = self.last;
        if height <= last {
            return Ok(());
        }
        let (is_next, (end, archived)) = (height == last.next(), self.archived);
        if !is_next && height > end.next() {
            return Err(ArchiveError::Gap {
                first: end.next(),
                last: height.minus(1),
            });
        }
        if is_next && block.header.previous != before {
            return Err(ArchiveError::Unlinked { height });
        }
        let is_behind_archived = height == end.next() && block.header.previous != archived;
        if is_behind_archived || height == end && digest != archived {
            return Err(ArchiveError::Differs { height: end });
        }
        if !is_next || self.growing.is_asleep() {
            // The log begins here, or goes on behind a gap: what is archived is passed over.
            self.growing = Stretch::behind(block.header.previous);
            if height <= end {
                self.growing.fall_asleep();
            }
        }
        self.last = (height, digest);
        if self.growing.is_asleep() {
            return Ok(());
        }
        self.grow(block, digest)
    }

    fn grow(&mut self, block: Block, digest: Digest) -> Result<(), ArchiveError> {
        let Block { header, body } = block;
        let mut batches = Vec::new();
        for batch in body.batches() {
            let named = batch.digest();
            if !self.growing.named.insert(named) {
                continue;
            }
            let source = match batch {
                BatchRef::Inline(bytes) => Source::Inline(bytes.clone()),
                BatchRef::Named(_) => {
                    let (height, digest) = (header.height, named);
                    let found = self.batches.get(&named).cloned();
                    found.ok_or(ArchiveError::Batch { height, digest })?
                }
            };
            batches.push((named, source));
        }
        let encoded = (codec::encode(&header), codec::encode(&extent::named(&body)));
        let lengths = batches.iter().map(|(_, source)| source.bytes());
        self.growing.bytes += extent::block_bytes(encoded.0.len(), encoded.1.len(), lengths);
        self.growing.blocks.push(Planned {
            header,
            digest,
            encoded,
            batches,
        });
        let (blocks, bytes) = (self.growing.blocks.len(), self.growing.bytes);
        if self.cut.ends(&body, blocks, bytes) {
            let next = Stretch::behind(digest);
            let full = std::mem::replace(&mut self.growing, next);
            self.waiting.push_back(full);
        }
        Ok(())
    }

    /// Blocks that were taken in and are not given yet, in order.
    fn planned(&self) -> impl Iterator<Item = &Planned> {
        let stretches = self.waiting.iter().chain([&self.growing]);
        stretches.flat_map(|stretch| &stretch.blocks)
    }

    fn certificate(
        &mut self,
        certificate: Certificate,
    ) -> Result<Vec<(Stretch, Proof)>, ArchiveError> {
        let ballot = certificate.ballot;
        let Some(block) = self
            .planned()
            .find(|block| block.header.height == ballot.height)
        else {
            return Ok(Vec::new());
        };
        if block.digest != ballot.digest || block.header.view != ballot.view {
            return Err(ArchiveError::Diverges {
                height: ballot.height,
            });
        }
        let held = self.certificate.as_ref().map(|held| held.ballot.height);
        if held.is_none_or(|held| held < ballot.height) {
            self.certificate = Some(certificate.clone());
        }
        let mut ready = Vec::new();
        while let Some(front) = self.waiting.front() {
            let (_, last) = front.heights();
            let view = front.blocks[0].header.view;
            if last <= self.archived.0 && view < ballot.view {
                self.waiting.pop_front();
                continue;
            }
            if view < ballot.view {
                // Its view gave one before the next one began; this log has it no more.
                return Err(ArchiveError::Uncovered { height: last, view });
            }
            if last > ballot.height {
                break;
            }
            let between = self.planned().map(|block| &block.header);
            let between = between.filter(|h| h.height > last && h.height <= ballot.height);
            let headers: Vec<Header> = between.cloned().collect();
            let full = self.waiting.pop_front().expect("it was looked at");
            let certificate = certificate.clone();
            ready.push((
                full,
                Proof {
                    certificate,
                    headers,
                },
            ));
        }
        Ok(ready)
    }

    /// The extent under way up to its newest certified block, if there is one.
    pub(super) fn tail(&self) -> Option<(&Stretch, Certificate)> {
        let certificate = self.certificate.clone()?;
        let height = certificate.ballot.height;
        let stretch = self.waiting.front().unwrap_or(&self.growing);
        let (first, last) = stretch.ends()?;
        let is_in = first.header.height <= height && height <= last.header.height;
        is_in.then_some((stretch, certificate))
    }
}

impl Stretch {
    /// Takes no block in: it is of heights that are archived, and their batches may be gone.
    fn fall_asleep(&mut self) {
        self.bytes = 0;
    }

    fn is_asleep(&self) -> bool {
        self.bytes == 0
    }
}
