//! What a bootstrap keeps on the disk beside segments and steps.
//!
//! Source: design, 'checkpoints and bootstrap'. In: what is wanted, the target, its pages, the
//! fresh block. Out: the same in a later life. Holds: what cannot be read is fetched anew; what
//! leads past another block than the pinned one is forgotten.
//! Elsewhere: segments and steps (`shelf`), what is done with it (`bootstrap`).

use std::fs;
use std::path::Path;

use super::super::error::NodeError;
use super::super::progress::Progress;
use super::super::shelf::Shelf;
use crate::blocks::Link;
use crate::blocks::codec::{self, ENCODED_BYTES_MAX};
use crate::bootstrap::{Held, Target};
use crate::committee::{Height, ViewId};
use crate::storage::{SealedError, read_sealed, write_sealed};

/// The folder in a data directory.
pub(crate) const FOLDER: &str = "bootstrap";
pub(super) const WANTED: &str = "wanted";
pub(super) const TARGET: &str = "target";
pub(super) const ANCHOR: &str = "anchor";

/// Notes that this member has to fetch a checkpoint before it can go on from `local`.
///
/// Errors: [`SealedError::Io`].
pub(crate) fn want(data: &Path, local: Height) -> Result<(), SealedError> {
    write_sealed(&data.join(FOLDER), WANTED, &local.0.to_le_bytes())
}

/// The height of the own ledger, where a checkpoint is to be fetched.
///
/// Errors: [`SealedError`].
pub(crate) fn wanted(data: &Path) -> Result<Option<Height>, SealedError> {
    let bytes = read_sealed(&data.join(FOLDER), WANTED)?;
    let local = bytes.and_then(|bytes| bytes[..].try_into().ok());
    Ok(local.map(|bytes| Height(u64::from_le_bytes(bytes))))
}

/// The fresh block that the chain must come to; nothing once it was there, or without a bootstrap.
///
/// Errors: [`SealedError`].
pub(crate) fn anchor(data: &Path) -> Result<Option<Link>, SealedError> {
    let bytes = read_sealed(&data.join(FOLDER), ANCHOR)?;
    Ok(bytes.and_then(|bytes| codec::decode(&bytes, ENCODED_BYTES_MAX).ok()))
}

/// The chain came to the fresh block.
pub(crate) fn forget_anchor(data: &Path) {
    let folder = data.join(FOLDER);
    // What stays behind is looked at again at the next start, and holds again.
    fs::remove_file(folder.join(ANCHOR)).ok();
    fs::remove_dir(folder).ok(); // it may hold what another try needs
}

/// Gives up steps of an earlier try from the one on that made `first`, and its target.
pub(super) fn forget_from(
    first: ViewId,
    pinned: ViewId,
    shelf: &Shelf,
    folder: &Path,
) -> Result<(), NodeError> {
    tracing::warn!(
        view = %pinned,
        "the view chain on the disk has another block than the pinned one: it is forgotten"
    );
    forget_target(folder)?;
    Ok(shelf.forget_steps(first)?)
}

/// What the disk has of an earlier try.
///
/// Errors: [`NodeError`], [`NodeError::Ended`] among them.
pub(super) fn held(shelf: &Shelf, folder: &Path, progress: &Progress) -> Result<Held, NodeError> {
    let mut steps = Vec::new();
    let mut heights = shelf.steps();
    heights.sort_by_key(|(_, view)| *view);
    for (next, (height, view)) in (1..).zip(heights) {
        progress.go_on()?;
        match shelf.step(height)? {
            Some(step) if view == ViewId(next) => steps.push(step),
            Some(_) | None => break,
        }
    }
    let damaged = { shelf.packs() }.forget_damaged(&|| !progress.is_ended())?;
    if damaged > 0 {
        tracing::warn!(
            damaged,
            "segments that the disk has damaged are fetched again"
        );
    }
    let target: Option<Target> = read(folder, TARGET)?;
    let mut pages = Vec::new();
    if target.is_some() {
        while let Some(page) = read(folder, &page_name(pages.len()))? {
            pages.push(page);
        }
    }
    Ok(Held {
        steps,
        target: target.map(Box::new),
        pages,
        segments: shelf.packs().digests(),
    })
}

/// Removes what is known of an earlier target; its segments stay.
pub(super) fn forget_target(folder: &Path) -> Result<(), NodeError> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == TARGET || name.starts_with("page-") {
            fs::remove_file(entry.path()).map_err(|source| NodeError::System {
                what: format!("cannot remove {}", entry.path().display()),
                source,
            })?;
        }
    }
    Ok(())
}

pub(super) fn page_name(page: usize) -> String {
    format!("page-{page:06}")
}

fn read<T: serde::Serialize + serde::de::DeserializeOwned>(
    folder: &Path,
    name: &str,
) -> Result<Option<T>, SealedError> {
    // What an older program wrote is fetched anew, and so is what the disk has damaged.
    let bytes = match read_sealed(folder, name) {
        Err(SealedError::Damaged { path }) => {
            tracing::warn!(path = %path.display(), "it is damaged, and fetched again");
            None
        }
        read => read?,
    };
    Ok(bytes.and_then(|bytes| codec::decode(&bytes, ENCODED_BYTES_MAX).ok()))
}
