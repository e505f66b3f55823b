//! What a member keeps of the ledger, as plain data: snapshots, the lowest block, bytes of disk.
//!
//! Source: `api/openapi.json`. In: the shelf, the index, the disk. Out: the shapes of `api`.
//! Holds: what was given up is told apart from what never was.
//! Elsewhere: when it is given up (`curator`), blocks and events (`show`).

use std::sync::Arc;

use super::handle::Parts;
use super::host::not_found;
use super::index::IndexError;
use super::proofs::LookError;
use super::shelf::{Held, Proof};
use super::watch::Watch;
use crate::api::{
    self, CheckpointEntry, NextSnapshot, Refusal, Retained, SectionName, SegmentEntry,
};
use crate::blocks::codec;
use crate::checkpoint::Section;
use crate::committee::Height;

/// Every snapshot that is here, and how much else is.
pub(super) fn checkpoints(parts: &Parts) -> Result<api::Checkpoints, Refusal> {
    let held = parts.index.shelf().held();
    Ok(api::Checkpoints {
        checkpoints: held.iter().map(|held| entry(held)).collect(),
        retained: retained(parts).map_err(failed)?,
        next: next(parts),
    })
}

/// The snapshot of `height` with one page of its segments.
pub(super) fn checkpoint(
    parts: &Parts,
    height: Height,
    page: api::Page,
) -> Result<api::Snapshot, Refusal> {
    let shelf = parts.index.shelf();
    let held = shelf.at(height).ok_or_else(|| Refusal::NotFound {
        what: format!("a snapshot of height {height}"),
    })?;
    let leaves = (0..).zip(held.manifest.leaves());
    let leaves = leaves.skip(page.first as usize).take(page.limit as usize);
    let segments = leaves.map(|(index, leaf): (u32, _)| SegmentEntry {
        index,
        section: section(leaf.section),
        bytes: leaf.bytes,
        digest: leaf.digest,
    });
    Ok(api::Snapshot {
        entry: entry(&held),
        proof: held.proof.as_ref().map(proof),
        page: segments.collect(),
    })
}

fn section(section: Section) -> SectionName {
    match section {
        Section::Ledger => SectionName::Ledger,
        Section::Memory => SectionName::Memory,
        Section::Application => SectionName::Application,
    }
}

fn entry(held: &Held) -> CheckpointEntry {
    let taken = held.taken;
    let first = held.proof.as_ref().and_then(|proof| proof.headers.first());
    CheckpointEntry {
        height: taken.height,
        digest: taken.header,
        manifest: taken.manifest,
        state_digest: taken.state,
        bytes: taken.bytes,
        segments: taken.segments,
        certified: held.proof.is_some(),
        block: first.map(|header| header.height),
    }
}

fn proof(proof: &Proof) -> api::SnapshotProof {
    let headers = proof.headers.iter();
    api::SnapshotProof {
        headers: headers.map(|one| hex::encode(codec::encode(one))).collect(),
        body: hex::encode(codec::encode(&proof.body)),
        certificate: hex::encode(codec::encode(&proof.certificate)),
    }
}

fn next(parts: &Parts) -> NextSnapshot {
    let (overview, _) = parts.watch.overview();
    let rules = &parts.who.genesis.parameters.checkpoints;
    let (height, bytes) = overview.snapshots.due(rules);
    NextSnapshot {
        height,
        bytes,
        asked: overview.snapshots.is_asked,
        open: overview.snapshots.open.map(|link| link.height),
    }
}

/// Measures what is here, and notes it for those who cannot wait.
pub(super) fn retained(parts: &Parts) -> Result<Retained, IndexError> {
    // The tip first: what is applied meanwhile is above it.
    let tip = parts.watch.tip().header;
    let shelf = parts.index.shelf();
    let newest = shelf.newest();
    let first_block = parts.index.first_block()?;
    let first_sequence = parts.index.first_sequence()?;
    let retained = Retained {
        checkpoint_height: newest.map_or(Height(0), |held| held.taken.height),
        retained_bytes: shelf.space().bytes(),
        first_block: first_block.unwrap_or(tip.height.next()),
        first_sequence: first_sequence.unwrap_or(tip.receipts.size),
    };
    shelf.space().note(retained);
    Ok(retained)
}

/// What was measured last, and measures again where that is old; nothing before the first time.
pub(super) fn recent(parts: &Arc<Parts>) -> Option<Retained> {
    let space = parts.index.shelf().space();
    let last = space.last()?;
    if space.is_old() {
        let parts = Arc::clone(parts);
        tokio::task::spawn_blocking(move || {
            if retained(&parts).is_err() {
                parts.index.shelf().space().give_up();
            }
        });
    }
    Some(last)
}

/// Why the block at `height` is not here: it was given up, or `error`.
pub(super) fn missing_block(parts: &Parts, height: Height, error: LookError) -> Refusal {
    missing(parts, &format!("block {height}"), height, error)
}

/// As [`missing_block`], of something in it that is called `what`.
pub(super) fn missing(parts: &Parts, what: &str, height: Height, error: LookError) -> Refusal {
    let lowest = lowest_block(parts).filter(|lowest| height < *lowest);
    match (error, lowest) {
        (LookError::Absent { .. }, Some(lowest)) if height > Height(0) => Refusal::Pruned {
            what: what.into(),
            lowest: format!("block {lowest}"),
        },
        (error, _) => not_found(error),
    }
}

/// The lowest block that is here; nothing above the tip was given up.
fn lowest_block(parts: &Parts) -> Option<Height> {
    let tip = parts.watch.tip().header.height;
    let first = parts.index.first_block().ok()?;
    Some(first.unwrap_or(tip.next()).min(tip.next()))
}

/// Why there is no event `from`: its block was given up.
pub(super) fn pruned_event(parts: &Parts, from: u64) -> Option<Refusal> {
    // The tip first: what is executed meanwhile is above it.
    let size = parts.watch.tip().header.receipts.size;
    let first = parts.index.first_sequence().ok()?;
    let lowest = first.unwrap_or(size);
    (from < lowest).then(|| Refusal::Pruned {
        what: format!("event {from}"),
        lowest: format!("event {lowest}"),
    })
}

/// As [`pruned_event`], or `error`.
pub(super) fn missing_event(parts: &Parts, from: u64, error: LookError) -> Refusal {
    pruned_event(parts, from).unwrap_or_else(|| not_found(error))
}

/// What an operator must know of a snapshot of ours that the others contradict.
pub(super) fn diverged(watch: &Watch) -> Option<String> {
    let (ours, certified) = watch.diverged()?;
    let height = certified.height;
    let what = match (
        ours.state == certified.state,
        ours.header == certified.header,
    ) {
        (_, false) => "chain",
        (false, true) => "state",
        (true, true) => "cut",
    };
    Some(format!(
        "the {what} of our snapshot of height {height} is not the certified one (manifest {}, \
         certified {}): nothing is signed any more. consortium checkpoint verify --api, of all \
         members, names the segment; then stop this member, move its data/ away, and: consortium \
         rejoin --dir MEMBER_DIR",
        ours.manifest, certified.manifest
    ))
}

fn failed(error: IndexError) -> Refusal {
    not_found(error.into())
}
