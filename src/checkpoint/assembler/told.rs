//! What servers say, what they are asked, and what is wrong with what they give.
//!
//! Source: the assembler. In and out: the types of this file. Holds: a lie names the number of what
//! was wrong. Elsewhere: who acts on it (`bootstrap`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::STRAYS_MAX;
use crate::checkpoint::manifest::{Leaf, ManifestError};

/// What a server says that it holds of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holding {
    /// Nothing, or nothing any more.
    Nothing,
    /// The segments of this bitmap, least significant bit first, one bit per segment.
    Some(Bytes),
    /// All of it.
    All,
}

/// What to ask a server for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// A page of the manifest.
    Page(u32),
    /// Segments by their numbers, at most [`super::ASK_SEGMENTS_MAX`].
    Segments(Vec<u32>),
}

/// A proved segment, to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub index: u32,
    /// Its place in the manifest.
    pub leaf: Leaf,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Why something from a server was refused. Nothing of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not known, or it is banned: what it still says is not looked at.
    #[error("not a server that is asked")]
    Unknown,
    /// Nobody asked for it; the sender is faulty if that happens often.
    #[error("nobody asked it for this")]
    Unasked,
    /// What it sent is not what the checkpoint binds. The sender is faulty and banned.
    #[error("{0}")]
    Lie(#[from] Lie),
    /// The pages lead to the root and are no manifest all the same: a quorum signed what no correct
    /// member makes. Nobody's segments can be taken.
    #[error("what the checkpoint names is no manifest: {0}")]
    Void(ManifestError),
}

/// What a server did that no correct one does. It is asked nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    /// A segment of the right length with other bytes: forged, swapped, or of another snapshot.
    #[error("segment {segment} is not the one that the manifest has")]
    Wrong {
        /// Its number.
        segment: u32,
    },
    /// A segment that is cut off.
    #[error("segment {segment} has {got} of {want} bytes")]
    Truncated {
        /// Its number.
        segment: u32,
        /// Its length.
        got: u32,
        /// The length that the manifest has.
        want: u32,
    },
    /// A segment that is too long.
    #[error("segment {segment} has {got} bytes, not {want}")]
    Oversized {
        /// Its number.
        segment: u32,
        /// Its length.
        got: u32,
        /// The length that the manifest has.
        want: u32,
    },
    /// There is no such segment or page.
    #[error("there is no segment or page {number}")]
    Bounds {
        /// Its number.
        number: u32,
    },
    /// A page does not lead to the root.
    #[error("{0}")]
    Page(ManifestError),
    /// A bitmap of another length.
    #[error("a bitmap that is not one of this snapshot")]
    Bitmap,
    /// It sends what nobody asked for, again and again.
    #[error("more than {STRAYS_MAX} answers that nobody asked for")]
    Flood,
}

/// What was received so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Segments of the snapshot, once the manifest is known.
    pub segments: u32,
    /// Those that are here.
    pub segments_held: u32,
    /// Bytes of segments that were not held in the beginning.
    pub bytes_needed: u64,
    /// Bytes of segments that arrived, whatever they were.
    pub bytes_received: u64,
    /// Bytes of segments that were of no use: wrong, not asked for, or here already.
    pub bytes_wasted: u64,
    /// Segments that came twice, since two servers were asked.
    pub duplicates: u64,
    /// Asks that were given up.
    pub expired: u64,
}
