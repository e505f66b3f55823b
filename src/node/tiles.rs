//! Nodes of the receipt log in tables, 256 hashes a row.
//!
//! Source: RFC 6962 trees, kept as tiles like transparency logs do. In: complete nodes. Out: nodes.
//! Holds: only every eighth level is kept; the levels between follow from it.
//! Elsewhere: the tree and its proofs (`blocks::receipts`), when rows become durable (`keeper`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::blocks::receipts::{Nodes, node_hash};
use crate::crypto::Digest;
use crate::storage::{Batch, TableError, Tables};

/// The table of tiles.
pub(crate) const TILES: &str = "tiles";
/// Levels of a tile.
pub(crate) const TILE_LEVELS: u8 = 8;
/// Hashes in a full tile.
pub(crate) const TILE_HASHES: u64 = 1 << TILE_LEVELS;

/// Tiles in tables, with those that changed since the last commit in memory.
pub(crate) struct Tiles {
    tables: Arc<dyn Tables>,
    changed: BTreeMap<(u8, u64), Vec<Digest>>,
    /// The first failure of the tables; proofs are refused and commits fail from then on.
    failure: Option<TableError>,
}

impl Tiles {
    /// The tiles in `tables`.
    pub(crate) fn new(tables: Arc<dyn Tables>) -> Self {
        Self {
            tables,
            changed: BTreeMap::new(),
            failure: None,
        }
    }

    /// Adds the changed tiles to `batch`.
    ///
    /// Errors: what the tables said when a tile was read.
    pub(crate) fn drain_into(&mut self, batch: &mut Batch) -> Result<(), TableError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        for ((level, index), hashes) in std::mem::take(&mut self.changed) {
            let row: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
            batch.put(TILES, key(level, index), row);
        }
        Ok(())
    }

    fn stored(&self, level: u8, index: u64) -> Result<Vec<Digest>, TableError> {
        let row = self.tables.get(TILES, &key(level, index))?;
        Ok(row.as_deref().map(hashes).unwrap_or_default())
    }

    fn tile(&self, level: u8, index: u64) -> Option<Vec<Digest>> {
        match self.changed.get(&(level, index)) {
            Some(tile) => Some(tile.clone()),
            None => self.stored(level, index).ok(),
        }
    }
}

impl Nodes for Tiles {
    fn get(&self, level: u8, index: u64) -> Option<Digest> {
        let (tile_level, above) = (level / TILE_LEVELS, level % TILE_LEVELS);
        let first = index.checked_shl(above.into())?;
        let tile = self.tile(tile_level, first / TILE_HASHES)?;
        let start = usize::try_from(first % TILE_HASHES).ok()?;
        let mut row = tile.get(start..start + (1 << above))?.to_vec();
        while row.len() > 1 {
            row = row
                .chunks(2)
                .map(|pair| node_hash(&pair[0], &pair[1]))
                .collect();
        }
        row.first().copied()
    }

    fn put(&mut self, level: u8, index: u64, node: Digest) {
        if !level.is_multiple_of(TILE_LEVELS) {
            return;
        }
        let place = (level / TILE_LEVELS, index / TILE_HASHES);
        if !self.changed.contains_key(&place) {
            match self.stored(place.0, place.1) {
                Ok(tile) => drop(self.changed.insert(place, tile)),
                Err(error) => {
                    self.failure.get_or_insert(error);
                    return;
                }
            }
        }
        let tile = self.changed.entry(place).or_default();
        let at = usize::try_from(index % TILE_HASHES).expect("a tile has 256 hashes");
        match tile.get(at) {
            Some(before) => assert_eq!(*before, node, "a complete node never changes"),
            None => {
                assert_eq!(tile.len(), at, "nodes of one level complete in order");
                tile.push(node);
            }
        }
    }
}

/// The key of a tile.
pub(crate) fn key(level: u8, index: u64) -> Vec<u8> {
    let mut key = vec![level];
    key.extend_from_slice(&index.to_be_bytes());
    key
}

fn hashes(row: &[u8]) -> Vec<Digest> {
    let (whole, _) = row.as_chunks::<32>();
    whole.iter().map(|hash| Digest(*hash)).collect()
}
