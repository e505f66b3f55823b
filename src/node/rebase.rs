//! Tables out of a snapshot: what a member starts from whose log does not reach back to genesis.
//!
//! Source: design, 'checkpoints and bootstrap'. In: a certified snapshot on the shelf. Out: tables
//! that stand at its height, the ledger and the application there.
//! Holds: the tables say where they stand once everything else is in them, so a start that is cut
//! off begins again; the state is the one that the checkpoint names.
//! Elsewhere: what the log has above it (`recovery`).

use std::collections::BTreeMap;

use super::carried::Carried;
use super::index::{self, Kept};
use super::keeper::{Files, STANDING, Standing, result_rows, thin_out};
use super::recovery::{Opening, Start};
use super::shelf::{Held, Shelf, UnreadableError};
use super::tiles;
use crate::application::Application;
use crate::blocks::codec;
use crate::committee::Height;
use crate::consortium::Ledger;
use crate::consortium::ledger::RestoreError;
use crate::consortium::snapshot::Content;
use crate::membership::register::ROW_KEYS;
use crate::storage::{Batch, Position, Range, TableError, Tables};

/// Rows that are committed together, and bytes of them.
const ROWS_AT_ONCE: usize = 8192;
const BYTES_AT_ONCE: usize = 16 << 20;

/// Why a snapshot makes no tables.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RebaseError {
    /// The tables failed.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] UnreadableError),
    /// It makes no ledger.
    #[error(transparent)]
    Ledger(#[from] RestoreError),
    /// The start was ended meanwhile; the tables say that they are empty, or are as they were.
    #[error("ended before it was restored")]
    Ended,
}

/// Fills `tables` from the snapshot `held`; whatever they held is gone.
///
/// Errors: [`RebaseError`]; the tables are as they were, or say that they are empty.
pub(super) fn rebase(
    opening: &Opening<'_>,
    tables: &dyn Tables,
    shelf: &Shelf,
    held: &Held,
) -> Result<Start, RebaseError> {
    let (height, bytes) = (held.taken.height, held.taken.bytes);
    tracing::info!(%height, bytes, "starting from a snapshot");
    opening.progress.restoring(height, bytes);
    let mut application = (opening.make)();
    let chain = opening.genesis.chain();
    let go_on = |bytes| {
        opening.progress.restored(bytes);
        !opening.progress.is_ended()
    };
    let content = shelf.restore(held, &chain, &mut *application, &go_on);
    waited_for(opening)?;
    let content = content?;
    let (ledger, _) = ledger(opening, content.clone())?;
    let tip = ledger.tip();
    if let Some(root) = tip.state {
        application.retain(tip.height.0, &root);
    }
    clear(tables)?;
    fill(opening, tables, &content, &*application)?;
    Ok(Start {
        ledger,
        application,
        is_fresh: false,
        saved: Position { file: 0, offset: 0 },
        files: Files {
            base: base_of(&content),
            pruned: base_of(&content),
            ..Files::default()
        },
    })
}

/// Errors: [`RebaseError::Ended`].
fn waited_for(opening: &Opening<'_>) -> Result<(), RebaseError> {
    match opening.progress.is_ended() {
        true => Err(RebaseError::Ended),
        false => Ok(()),
    }
}

/// See [`Standing::base`].
fn base_of(content: &Content) -> (Height, u64) {
    let tip = &content.parts.tip;
    (tip.height, tip.receipts.size)
}

/// The ledger that a snapshot's part makes.
fn ledger(opening: &Opening<'_>, content: Content) -> Result<(Ledger, Height), RestoreError> {
    let Content {
        parts,
        register,
        memory,
    } = content;
    let height = parts.tip.height;
    let ledger = Ledger::restore(opening.genesis, parts, Some(register), memory)?;
    let ledger = match opening.carried.map(Carried::names) {
        Some(names) => ledger.inheriting(names),
        None => ledger,
    };
    Ok((ledger, height))
}

fn clear(tables: &dyn Tables) -> Result<(), TableError> {
    let mut first = Batch::new();
    first.delete(index::META, STANDING);
    tables.commit(first)?;
    tables.flush()?;
    // Nothing says any more where the tables stand: whatever a kill leaves goes at the next start.
    let all = super::recovery::TABLES.map(|table| (table, Range::all()));
    thin_out(tables, all)?;
    let mut rest = Batch::new();
    for table in super::recovery::TABLES {
        rest.delete_range(table, Range::all());
    }
    tables.commit(rest)
}

fn fill(
    opening: &Opening<'_>,
    tables: &dyn Tables,
    content: &Content,
    application: &dyn Application,
) -> Result<(), RebaseError> {
    let (mut batch, mut bytes) = (Batch::new(), 0);
    for (key, value) in application.entries() {
        bytes += key.len() + value.len();
        batch.put(index::STATE, key, value);
        if batch.len() >= ROWS_AT_ONCE || bytes >= BYTES_AT_ONCE {
            tables.commit(std::mem::take(&mut batch))?;
            bytes = 0;
            waited_for(opening)?;
        }
    }
    let span = u64::from(opening.genesis.parameters.expiry_blocks_max);
    let mut results: BTreeMap<Height, Vec<Kept>> = BTreeMap::new();
    for ((client, client_sequence), executed) in &content.memory {
        // Where a start looks for it as long as it is remembered, though it was repeated since.
        let at = executed.height.max(executed.expiry.minus(span));
        results.entry(at).or_default().push(Kept {
            client: *client,
            client_sequence: *client_sequence,
            executed: executed.clone(),
            place: None,
        });
    }
    for (height, kept) in &results {
        for (key, row) in result_rows(*height, kept) {
            batch.put(index::RESULTS, key, row);
        }
        if batch.len() >= ROWS_AT_ONCE {
            tables.commit(std::mem::take(&mut batch))?;
            waited_for(opening)?;
        }
    }
    for (key, row) in ROW_KEYS.into_iter().zip(content.register.to_rows()) {
        batch.put(index::META, key, row);
    }
    for (level, index, node) in content.parts.frontier.placed() {
        batch.put(tiles::TILES, tiles::pin_key(level, index), node.0);
    }
    let standing = Standing {
        parts: content.parts.clone(),
        saved: (0, 0),
        open: Vec::new(),
        needed: Vec::new(),
        base: base_of(content),
        settled: 0,
        pruned: base_of(content),
    };
    batch.put(index::META, STANDING, codec::encode(&standing));
    tables.commit(batch)?;
    Ok(tables.flush()?)
}
