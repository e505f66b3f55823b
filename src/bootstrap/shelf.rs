//! Answers newcomers from what a member keeps.
//!
//! Source: `docs/formats.md`, messages of a bootstrap. In: an ask, a shelf. Out: answers.
//! Holds: an answer keeps its bounds whatever is asked; what is not there is said to be lacking,
//! or not answered at all.
//! Elsewhere: where the bytes lie (`node`, `sim`), how much one newcomer gets (`quota`), the votes
//! for an anchor (`consortium`).
//!
//! A driver that is handed an [`Ask`] asks its [`Quota`](super::Quota) first, keeps a
//! [lease](super::Leases) for whoever asks with [`Ask::Holding`] for a snapshot that it has, and
//! sends what [`answer`] gives. A vote of the own replica becomes an answer by [`anchor`].

use bytes::Bytes;

use super::message::{ANSWER_STEPS_BYTES, ANSWER_STEPS_MAX, Anchor, Answer, Ask, Lacking, Message};
use crate::blocks::Header;
use crate::blocks::body::Checkpoint;
use crate::checkpoint::assembler::ASK_SEGMENTS_MAX;
use crate::checkpoint::{Holding, Page};
use crate::committee::{AnchorVote, Certificate, Height, ViewId};
use crate::crypto::Digest;

/// Bytes of the segments in one answer after which no further one is added.
pub const ANSWER_SEGMENTS_BYTES: usize = 2 << 20;
/// Own steps that are sent to whoever stands on another fork, at most.
const EARLIER_STEPS: u64 = 32;

/// What a member keeps for newcomers.
pub trait Shelf {
    /// The newest view whose step is kept; 0 before the first.
    fn newest(&self) -> ViewId;

    /// The digest of the block that opened `view`: genesis for view 0.
    fn opened(&self, view: ViewId) -> Option<Digest>;

    /// The encoded step that made `view`.
    fn step(&self, view: ViewId) -> Option<Bytes>;

    /// The header at `height`.
    fn header(&self, height: Height) -> Option<Header>;

    /// The checkpoint block at `height`.
    fn checkpoint(&self, height: Height) -> Option<(Header, Checkpoint)>;

    /// What is held of the snapshot with this manifest.
    fn holding(&self, manifest: &Digest) -> Holding;

    /// A page of this manifest.
    fn page(&self, manifest: &Digest, page: u32) -> Option<Page>;

    /// A segment of the snapshot with this manifest.
    fn segment(&self, manifest: &Digest, index: u32) -> Option<Bytes>;
}

/// The messages that answer `ask`; empty where there is nothing to say.
pub fn answer(shelf: &dyn Shelf, ask: &Ask) -> Vec<Message> {
    let answers = match ask {
        Ask::Steps(view, opened) => vec![steps_for(shelf, *view, opened)],
        // Signed by the replica where it stands in that view. From a later one: what led there,
        // with the step before, so that a newcomer that parted from us sees where.
        Ask::Anchor(view, _) if *view < shelf.newest() => {
            vec![steps(shelf, ViewId(view.0.max(1)), shelf.newest())]
        }
        Ask::Anchor(..) => Vec::new(),
        Ask::Checkpoint(link) => {
            let block = shelf.checkpoint(link.height);
            let block = block.filter(|(header, _)| header.digest() == link.digest);
            let answer = block.map(|block| Answer::Checkpoint(Box::new(block)));
            answer.into_iter().collect()
        }
        Ask::Holding(manifest) => vec![Answer::Holding(*manifest, shelf.holding(manifest))],
        Ask::Page(manifest, page) => vec![match shelf.page(manifest, *page) {
            Some(found) => Answer::Page(*manifest, Box::new(found)),
            None => Answer::Lacks(*manifest, Lacking::Page(*page)),
        }],
        Ask::Segments(manifest, wanted) => segments(shelf, manifest, wanted),
    };
    answers.into_iter().map(Message::Answer).collect()
}

/// The answer to [`Ask::Anchor`]: our vote, with the header that it names; nothing where the disk
/// lacks it.
pub fn anchor(
    shelf: &dyn Shelf,
    vote: AnchorVote,
    certificate: Option<Certificate>,
) -> Option<Message> {
    let header = shelf.header(vote.height);
    let header = header.filter(|header| header.digest() == vote.digest)?;
    Some(Message::Answer(Answer::Anchor(Box::new(Anchor {
        vote,
        header,
        certificate,
    }))))
}

/// What follows `view`, or, where another block opened it here, what led to it.
fn steps_for(shelf: &dyn Shelf, view: ViewId, opened: &Digest) -> Answer {
    if shelf.opened(view) == Some(*opened) {
        return steps(shelf, view.next(), shelf.newest());
    }
    let last = view.min(shelf.newest());
    let first = last.0.saturating_sub(EARLIER_STEPS - 1).max(1);
    steps(shelf, ViewId(first), last)
}

fn steps(shelf: &dyn Shelf, first: ViewId, last: ViewId) -> Answer {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for view in (first.0..=last.0).take(ANSWER_STEPS_MAX) {
        let Some(step) = shelf.step(ViewId(view)) else {
            break;
        };
        bytes += step.len();
        found.push(step);
        if bytes >= ANSWER_STEPS_BYTES {
            break;
        }
    }
    Answer::Steps(found)
}

fn segments(shelf: &dyn Shelf, manifest: &Digest, wanted: &[u32]) -> Vec<Answer> {
    let (mut answers, mut lacking, mut bytes) = (Vec::new(), Vec::new(), 0);
    for index in wanted.iter().take(ASK_SEGMENTS_MAX).copied() {
        let is_over = bytes >= ANSWER_SEGMENTS_BYTES;
        match shelf.segment(manifest, index).filter(|_| !is_over) {
            Some(segment) => {
                bytes += segment.len();
                answers.push(Answer::Segment(*manifest, index, segment));
            }
            None => lacking.push(index),
        }
    }
    if !lacking.is_empty() {
        answers.push(Answer::Lacks(*manifest, Lacking::Segments(lacking)));
    }
    answers
}
