//! Finds the blocks that places of the log belong to.
//!
//! Source: interface, `verify`. In: findings that name a place or a batch. Out: the same with
//! heights.
//! Holds: the log is read again only when there is something to find. Elsewhere: what is wrong
//! (`walk`).

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::findings::{Findings, Place};
use super::walk::Log;
use crate::committee::Height;
use crate::consortium::Record;
use crate::consortium::records;
use crate::crypto::Digest;
use crate::storage::{LogError, Position, verify_log};

/// A disk writes at least so many bytes at once; an unfinished write ends at a multiple.
const SECTOR_BYTES: u64 = 512;

/// Gives every finding in the log its height.
///
/// A place is of the block that comes next in the log, a batch of the block that names it.
pub(super) fn places(log: &Log, findings: &mut Findings) -> Result<(), LogError> {
    let mut wanted: Vec<Position> = Vec::new();
    let mut batches: BTreeMap<Digest, Height> = BTreeMap::new();
    for finding in findings.iter_mut() {
        match finding.place {
            Place::At(position) => wanted.push(position),
            Place::Batch(digest, position) => {
                wanted.push(position);
                batches.insert(digest, Height(0));
            }
            Place::Height(_) | Place::Tip => {}
        }
    }
    if wanted.is_empty() && batches.is_empty() {
        return Ok(());
    }
    let mut heights: BTreeMap<Position, Height> = BTreeMap::new();
    wanted.sort_unstable();
    let mut wanted = wanted.into_iter().peekable();
    let mut last = Height(0);
    verify_log(&log.dir, log.store, |record| {
        while let Some(position) = wanted.next_if(|position| *position < record.position) {
            heights.insert(position, last.next());
        }
        let decoded = records::decode(record.kind, record.payload);
        let Ok(Record::Block(block)) = decoded else {
            return;
        };
        last = block.header.height;
        for batch in block.body.batches() {
            if let Some(height) = batches.get_mut(&batch.digest()) {
                *height = last;
            }
        }
    })?;
    for finding in findings.iter_mut() {
        let height = match finding.place {
            Place::At(position) => heights.get(&position).copied(),
            Place::Batch(digest, position) => {
                let named = batches.get(&digest).copied().filter(|h| *h > Height(0));
                named.or(heights.get(&position).copied())
            }
            Place::Height(_) | Place::Tip => continue,
        };
        finding.place = Place::Height(height.unwrap_or(last.next()));
    }
    Ok(())
}

/// Whether what stands at `offset` of a log file, where a record does not match its checksum, can
/// be the first part of a write that a crash cut off: from some sector within the record on,
/// everything is zero.
///
/// `offset` is where the frame of the record starts, whose length stands in its first four bytes.
pub(super) fn is_torn(file: &Path, offset: u64) -> bool {
    let look = || {
        let file = File::open(file)?;
        let mut rest = vec![0; usize::try_from(file.metadata()?.len() - offset).unwrap_or(0)];
        file.read_exact_at(&mut rest, offset)?;
        Ok::<_, std::io::Error>(rest)
    };
    let Ok(rest) = look() else { return false };
    let Some((length, _)) = rest.split_first_chunk() else {
        return false;
    };
    let end = offset + u64::from(u32::from_le_bytes(*length));
    let last = rest.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + offset;
    (last + 1).next_multiple_of(SECTOR_BYTES) < end
}
