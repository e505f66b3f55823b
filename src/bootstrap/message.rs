//! What a newcomer asks, and what members answer.
//!
//! Source: `docs/formats.md`, messages of a bootstrap. In and out: the types of this file.
//! Holds: every list and every string of bytes has a named bound, and an answer fits a frame.
//! Elsewhere: what is believed of an answer (the machine), who answers (`shelf`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::blocks::body::Checkpoint;
use crate::blocks::{Header, Link, SEGMENT_BYTES_MAX, STEP_BYTES_MAX, Step};
use crate::checkpoint::assembler::ASK_SEGMENTS_MAX;
use crate::checkpoint::{Holding, MANIFEST_LEAVES_MAX, PAGE_LEAVES, Page};
use crate::committee::{AnchorVote, Certificate, Nonce, ViewId};
use crate::crypto::Digest;

/// Steps of the view chain in one answer, at most.
pub const ANSWER_STEPS_MAX: usize = 64;
/// Bytes of the steps in one answer after which no further one is added.
pub const ANSWER_STEPS_BYTES: usize = 2 << 20;
/// Nodes of a page's path, at most: one per level above the pages.
pub const PATH_NODES_MAX: usize = (MANIFEST_LEAVES_MAX / PAGE_LEAVES).ilog2() as usize;

/// A message of a bootstrap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// From a newcomer.
    Ask(Ask),
    /// To a newcomer.
    Answer(Answer),
}

/// What a newcomer asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// The steps of the view chain that follow this view; the digest is of the block that opened
    /// it. Whoever has another block there sends its own steps up to that view instead.
    Steps(ViewId, Digest),
    /// Where the chain stands, said by a seat of this view over this nonce. Whoever stands in a
    /// later view sends what led there.
    Anchor(ViewId, Nonce),
    /// The checkpoint block at this height, with this digest.
    Checkpoint(Link),
    /// What is held of the snapshot with this manifest. It stays a while for whoever asks.
    Holding(Digest),
    /// A page of a manifest.
    Page(Digest, u32),
    /// Segments of the snapshot with this manifest.
    Segments(Digest, Vec<u32>),
}

/// What a member answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Encoded steps in order; none where nothing follows on what was asked.
    Steps(Vec<Bytes>),
    /// Where a seat stands.
    Anchor(Box<Anchor>),
    /// A checkpoint block.
    Checkpoint(Box<(Header, Checkpoint)>),
    /// What is held of a snapshot.
    Holding(Digest, Holding),
    /// A page of a manifest.
    Page(Digest, Box<Page>),
    /// A segment, by its number.
    Segment(Digest, u32, Bytes),
    /// What was asked for and is not there.
    Lacks(Digest, Lacking),
}

/// What a member does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lacking {
    /// This page.
    Page(u32),
    /// These segments.
    Segments(Vec<u32>),
}

/// A seat's word on where the chain stands, with what proves that the block is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Its word.
    pub vote: AnchorVote,
    /// The header that it names.
    pub header: Header,
    /// The block certificate of that header; none for the block that opened the view, which the
    /// view chain certifies.
    pub certificate: Option<Certificate>,
}

impl Message {
    /// Whether it keeps the bounds that need no state.
    pub fn is_bounded(&self) -> bool {
        match self {
            Message::Ask(ask) => ask.is_bounded(),
            Message::Answer(answer) => answer.is_bounded(),
        }
    }
}

impl Ask {
    /// How many things it asks for: each may be answered by itself.
    pub fn things(&self) -> usize {
        match self {
            Ask::Segments(_, segments) => segments.len(),
            Ask::Steps(..) | Ask::Anchor(..) | Ask::Checkpoint(_) => 1,
            Ask::Holding(_) | Ask::Page(..) => 1,
        }
    }

    fn is_bounded(&self) -> bool {
        match self {
            Ask::Steps(..) | Ask::Anchor(..) | Ask::Checkpoint(_) | Ask::Holding(_) => true,
            Ask::Page(_, page) => *page < MANIFEST_LEAVES_MAX.div_ceil(PAGE_LEAVES),
            Ask::Segments(_, segments) => are_bounded(segments),
        }
    }
}

impl Answer {
    fn is_bounded(&self) -> bool {
        match self {
            Answer::Steps(steps) => {
                let fits = |step: &Bytes| step.len() <= STEP_BYTES_MAX;
                steps.len() <= ANSWER_STEPS_MAX && steps.iter().all(fits)
            }
            Answer::Anchor(_) | Answer::Checkpoint(_) => true,
            Answer::Holding(_, Holding::Some(bits)) => {
                bits.len() <= MANIFEST_LEAVES_MAX.div_ceil(8) as usize
            }
            Answer::Holding(_, Holding::Nothing | Holding::All) => true,
            Answer::Page(_, page) => {
                page.leaves.len() <= PAGE_LEAVES as usize && page.path.len() <= PATH_NODES_MAX
            }
            Answer::Segment(_, index, bytes) => {
                *index < MANIFEST_LEAVES_MAX && bytes.len() <= SEGMENT_BYTES_MAX
            }
            Answer::Lacks(_, Lacking::Page(_)) => true,
            Answer::Lacks(_, Lacking::Segments(segments)) => are_bounded(segments),
        }
    }

    /// The steps in an answer to [`Ask::Steps`]; nothing where one of them is none.
    pub(super) fn decode_steps(steps: &[Bytes]) -> Option<Vec<Step>> {
        let steps = steps.iter().map(|bytes| Step::from_bytes(bytes).ok());
        steps.collect()
    }
}

fn are_bounded(segments: &[u32]) -> bool {
    let is_ordered = segments.windows(2).all(|pair| pair[0] < pair[1]);
    (1..=ASK_SEGMENTS_MAX).contains(&segments.len()) && is_ordered
}
