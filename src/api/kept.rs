//! Checkpoints over HTTP: what a member keeps of the ledger, and its snapshots segment by segment.
//!
//! Source: `openapi.json`. In: what a host knows. Out: JSON, and back for clients.
//! Holds: a page of segments is bounded; what proves a snapshot is the hex of canonical bytes.
//! Elsewhere: who keeps them (`node::shelf`), what a segment is (`checkpoint`).

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::data::Page;
use super::extract::{Ask, Named};
use super::problem::Problem;
use super::reads::{NoQuery, PageQuery, within};
use super::routes::Door;
use crate::committee::Height;
use crate::crypto::Digest;

/// Segments in one page of a snapshot, at most.
pub const PAGE_SEGMENTS_MAX: u32 = 4096;

/// How much of the ledger a member keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// The height of the newest certified snapshot that is here; 0 before the first.
    pub checkpoint_height: Height,
    /// Bytes of log, snapshots and tables on the disk, as `du` counts them.
    pub retained_bytes: u64,
    /// The lowest block that is here; the next one where there is none.
    pub first_block: Height,
    /// The lowest sequence of an executed transaction whose block is here; the next one where there
    /// is none.
    pub first_sequence: u64,
}

/// The snapshots of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoints {
    /// By height; certified or not.
    pub checkpoints: Vec<CheckpointEntry>,
    /// What else is kept.
    #[serde(flatten)]
    pub retained: Retained,
    /// When the next one is due.
    pub next: NextSnapshot,
}

/// A snapshot that a member holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CheckpointEntry {
    /// The height behind which it was taken.
    pub height: Height,
    /// The header's digest there.
    pub digest: Digest,
    /// The root of its manifest.
    pub manifest: Digest,
    /// The digest of the whole state.
    pub state_digest: Digest,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Segments.
    pub segments: u32,
    /// Whether a checkpoint block that is certified names it.
    pub certified: bool,
    /// The height of that block.
    pub block: Option<Height>,
}

/// When the next snapshot is due, as far as it can be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextSnapshot {
    /// Behind this block at the latest; none where blocks alone make none due.
    pub height: Option<Height>,
    /// Once operations of so many bytes more were ordered; none where bytes alone make none due.
    pub bytes: Option<u64>,
    /// Whether a member has asked for it.
    pub asked: bool,
    /// The snapshot for which votes are gathered now.
    pub open: Option<Height>,
}

/// A snapshot, with one page of its segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What it is.
    #[serde(flatten)]
    pub entry: CheckpointEntry,
    /// What proves it to whoever can prove the view; none before it is certified.
    pub proof: Option<SnapshotProof>,
    /// One page of its segments, in order.
    pub page: Vec<SegmentEntry>,
}

/// What proves that a quorum certified a snapshot; each is the hex of an encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProof {
    /// From that of the checkpoint block to the certified one, by height.
    pub headers: Vec<String>,
    /// The checkpoint block's body.
    pub body: String,
    /// The certificate of the last header.
    pub certificate: String,
}

/// One segment of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Its place, from 0.
    pub index: u32,
    /// What it holds.
    pub section: SectionName,
    /// Its length.
    pub bytes: u32,
    /// Its digest.
    pub digest: Digest,
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SectionName {
    /// Where the ledger stands, views and members.
    Ledger,
    /// Transactions that are remembered.
    Memory,
    /// The application's state.
    Application,
}

pub(super) async fn checkpoints(
    State(door): State<Door>,
    Ask(NoQuery {}): Ask<NoQuery>,
) -> Result<Json<Checkpoints>, Problem> {
    let found = door.host.checkpoints();
    Ok(Json(within(door.limits.read, found).await?))
}

pub(super) async fn checkpoint(
    State(door): State<Door>,
    Named(height): Named<u64>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Snapshot>, Problem> {
    let limit = query.limit.unwrap_or(PAGE_SEGMENTS_MAX);
    if limit > PAGE_SEGMENTS_MAX {
        let message = format!("limit is at most {PAGE_SEGMENTS_MAX}");
        return Err(Problem::malformed(message));
    }
    let first = query.first;
    let found = door.host.checkpoint(Height(height), Page { first, limit });
    Ok(Json(within(door.limits.read, found).await?))
}
