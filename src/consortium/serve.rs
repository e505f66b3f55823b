//! Answers members that lack what our disk has.
//!
//! Source: `ARCHITECTURE.md`. In: what is wanted, an archive. Out: messages of the bulk lane.
//! Holds: an extent ends at the last certified height that fits a frame with all before it; nothing
//! is answered where the archive lacks a piece.
//! Elsewhere: where the bytes lie (`node`, `sim`), who asks and when (the replica).

use bytes::Bytes;

use super::contract::Wanted;
use super::message::{Block, DIGESTS_MAX, EXTENT_BLOCKS_MAX, Extent, Message};
use crate::blocks::codec;
use crate::committee::{Certificate, Height, Taken, ViewId};
use crate::crypto::Digest;

/// Bytes of the blocks in one extent, at most; a longer stretch is not served.
pub const EXTENT_BYTES_MAX: usize = 3 << 20;

/// Bytes of batches in one answer after which no further one is added.
pub const BATCHES_BYTES_MAX: usize = 4 << 20;

/// Files of the log from which on its blocks are long: a newcomer's start costs it some time
/// besides, so fewer are never.
const LONG_FILES: u64 = 2;

/// The height of the snapshot, where the blocks from `from` up to it take much longer to fetch than
/// it does: they fill [`LONG_FILES`] files of the log, of `file_bytes` each, and twice the bytes of
/// the snapshot. None where they are not all here; `file` says in which file a block stands.
///
/// Errors: those of `file`.
pub fn shorter<E>(
    from: Height,
    taken: &Taken,
    file_bytes: u64,
    file: impl Fn(Height) -> Result<Option<u64>, E>,
) -> Result<Option<Height>, E> {
    if from > taken.height {
        return Ok(None);
    }
    let (Some(first), Some(last)) = (file(from)?, file(taken.height)?) else {
        return Ok(None);
    };
    let files = last.saturating_sub(first);
    let is_long = files >= LONG_FILES && files.saturating_mul(file_bytes) / 2 > taken.bytes;
    Ok(is_long.then_some(taken.height))
}

/// What a member keeps on its disk.
pub trait Archive {
    /// The applied block at `height`.
    fn block(&self, height: Height) -> Option<Block>;

    /// The block certificate of the lowest height from `height` on that has one.
    fn certificate_at_or_after(&self, height: Height) -> Option<Certificate>;

    /// The encoded batch.
    fn batch(&self, digest: &Digest) -> Option<Bytes>;

    /// The lowest height that was not pruned.
    fn first(&self) -> Height {
        Height(1)
    }

    /// The height of a certified snapshot that is much shorter than the blocks from `from` up to
    /// it.
    fn shorter(&self, _from: Height) -> Option<Height> {
        None
    }
}

/// The messages that answer `wanted`; empty where the archive cannot help.
pub fn answer(archive: &dyn Archive, wanted: &Wanted) -> Vec<Message> {
    match wanted {
        Wanted::Blocks(from) if *from < archive.first() => {
            vec![Message::Pruned(archive.first())]
        }
        Wanted::Blocks(from) => {
            let shorter = archive.shorter(*from).map(Message::Shorter);
            let extent = extent(archive, *from).map(Message::Extent);
            shorter.into_iter().chain(extent).collect()
        }
        Wanted::End(view, newest) => end(archive, *view, *newest)
            .map(Message::Certificate)
            .into_iter()
            .collect(),
        Wanted::Batches(digests) => {
            let asked = digests.iter().take(DIGESTS_MAX);
            let held = asked.filter_map(|digest| archive.batch(digest));
            let mut bytes = 0;
            // What is beyond is asked for again.
            let fit = held.take_while(|batch| {
                let is_room = bytes < BATCHES_BYTES_MAX;
                bytes += batch.len();
                is_room
            });
            fit.map(Message::Batch).collect()
        }
        // Answered from the shelf of whoever keeps one.
        Wanted::Bootstrap(_) => Vec::new(),
    }
}

/// As long an extent as fits: who lags by many blocks needs few round trips.
fn extent(archive: &dyn Archive, from: Height) -> Option<Extent> {
    let (mut blocks, mut bytes) = (Vec::new(), 0);
    let mut last: Option<Certificate> = None;
    loop {
        let next = last.as_ref().map_or(from, |held| held.ballot.height.next());
        let stretch = stretch(archive, from, next, &mut bytes);
        let Some((more, certificate)) = stretch else {
            break;
        };
        let view = certificate.ballot.view;
        if last.as_ref().is_some_and(|held| held.ballot.view != view) {
            break; // Whoever is in the view before checks what ends it first.
        }
        blocks.extend(more);
        last = Some(certificate);
    }
    last.map(|certificate| Extent {
        blocks,
        certificate,
    })
}

/// The certificate that ended `view`; found along the chain of reconfigurations, newest first.
fn end(archive: &dyn Archive, view: ViewId, newest: Height) -> Option<Certificate> {
    let mut at = newest;
    loop {
        let block = archive.block(at)?;
        if block.header.view == view {
            let certificate = archive.certificate_at_or_after(at)?;
            return (certificate.ballot.height == at).then_some(certificate);
        }
        let before = block.header.reconfiguration.height;
        if block.header.view < view || before >= at {
            return None;
        }
        at = before;
    }
}

/// The blocks from `next` to the first certified height; nothing where they do not fit any more.
fn stretch(
    archive: &dyn Archive,
    from: Height,
    next: Height,
    bytes: &mut usize,
) -> Option<(Vec<Block>, Certificate)> {
    let certificate = archive.certificate_at_or_after(next)?;
    let last = certificate.ballot.height;
    assert!(last >= next, "an archive looks upwards");
    if last.0 - from.0 >= EXTENT_BLOCKS_MAX as u64 {
        return None;
    }
    let mut blocks = Vec::new();
    for height in next.0..=last.0 {
        let block = archive.block(Height(height))?;
        *bytes += codec::encode(&block).len();
        if *bytes > EXTENT_BYTES_MAX {
            return None;
        }
        blocks.push(block);
    }
    Some((blocks, certificate))
}
