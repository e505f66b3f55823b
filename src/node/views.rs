//! The view chain from what a member keeps.
//!
//! Source: `docs/formats.md`. In: applied blocks and certificates on the disk. Out: the steps of
//! the view chain, who sat in a view.
//! Holds: a step that is given holds under the view before it; where one lies is looked for once.
//! Elsewhere: how steps are checked (`blocks::view_chain`), pages for others (`host`).

use std::sync::{Mutex, PoisonError};

use super::index::{Index, IndexError};
use super::proofs::LookError;
use super::watch::Certified;
use crate::blocks::body::Reconfiguration;
use crate::blocks::{Body, Header, Step};
use crate::committee::{Height, MemberId, ViewId};
use crate::consortium::Block;
use crate::crypto::Digest;

/// Where the blocks are that made views 1, 2 and so on, as far as anybody asked.
#[derive(Debug, Default)]
pub(crate) struct Trail(Mutex<Vec<Height>>);

/// A view and the height of the block that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) view: ViewId,
    pub(crate) at: Height,
}

impl Opened {
    /// The view of `header`.
    pub(crate) fn of(header: &Header) -> Self {
        Self {
            view: header.view,
            at: header.reconfiguration.height,
        }
    }

    /// The newest view that `certified` leads to: the one that it opens, if it ends its own.
    pub(crate) fn newest(index: &Index, certified: &Certified) -> Result<Self, LookError> {
        let header = &certified.header;
        let block = index.block_at(header.height)?;
        Ok(match block.map(|block| block.body) {
            Some(Body::Reconfiguration(body)) => Self {
                view: body.next,
                at: header.height,
            },
            Some(_) | None => Self::of(header),
        })
    }
}

/// The steps that make the views from `first` to `last`, in order: at most as many and as many
/// bytes as `most` says, and at least one where there is one.
pub(crate) fn steps(
    index: &Index,
    first: ViewId,
    last: Opened,
    most: (usize, usize),
) -> Result<Vec<Step>, LookError> {
    let (most_steps, most_bytes) = most;
    let first = usize::try_from(first.0.max(1) - 1).unwrap_or(usize::MAX);
    let (mut steps, mut bytes) = (Vec::new(), 0);
    for height in heights(index, last)?.iter().skip(first).take(most_steps) {
        let step = step(index, *height)?;
        bytes += step.to_bytes().len();
        if bytes > most_bytes && !steps.is_empty() {
            break;
        }
        steps.push(step);
    }
    Ok(steps)
}

/// The digest of the block that opened `view`, as far as `newest`; none beyond, or for view 0.
pub(crate) fn opened(
    index: &Index,
    newest: Opened,
    view: ViewId,
) -> Result<Option<Digest>, LookError> {
    if view > newest.view {
        return Ok(None);
    }
    let place = view.0.checked_sub(1).map(usize::try_from);
    let Some(Ok(place)) = place else {
        return Ok(None);
    };
    let at = heights(index, newest)?.get(place).copied();
    let opening = at.map(|at| reconfiguration(index, at)).transpose()?;
    Ok(opening.map(|(header, _)| header.digest()))
}

/// Who sits in a view after view 0, by seat.
pub(crate) fn committee(index: &Index, opened: Opened) -> Result<Vec<MemberId>, LookError> {
    let (_, body) = reconfiguration(index, opened.at)?;
    Ok(body.seats.iter().map(|seat| seat.member).collect())
}

/// Where the blocks are that made views 1 to `last`.
fn heights(index: &Index, last: Opened) -> Result<Vec<Height>, LookError> {
    let count = usize::try_from(last.view.0).unwrap_or(usize::MAX);
    let trail = index.trail();
    let mut known = trail.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut found, mut at) = (Vec::new(), last.at);
    while known.len() + found.len() < count {
        let (header, _) = reconfiguration(index, at)?;
        found.push(at);
        at = header.reconfiguration.height;
    }
    known.extend(found.into_iter().rev());
    Ok(known.iter().take(count).copied().collect())
}

/// The step that the block at `height` is.
pub(crate) fn step(index: &Index, height: Height) -> Result<Step, LookError> {
    let (header, body) = reconfiguration(index, height)?;
    let certificate = index.certificate_from(height)?;
    let certificate = certificate.filter(|held| held.ballot.height == height);
    let missing = || LookError::absent(format!("the certificate of block {height}"));
    Ok(Step {
        header,
        body,
        certificate: certificate.ok_or_else(missing)?,
    })
}

/// The block at `height`, which makes a view.
fn reconfiguration(index: &Index, height: Height) -> Result<(Header, Reconfiguration), LookError> {
    let block = index.block_at(height)?;
    let block = block.ok_or_else(|| LookError::absent(format!("block {height}")))?;
    match block {
        Block {
            header,
            body: Body::Reconfiguration(body),
        } => Ok((header, body)),
        Block { .. } => Err(LookError::Index(IndexError::Damaged {
            what: format!("block {height}"),
            reason: "it makes no view, and a later one says that it does".into(),
        })),
    }
}
