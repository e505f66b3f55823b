//! Nodes of the receipt log in tables, 256 hashes a row.
//!
//! Source: RFC 6962 trees, kept as tiles like transparency logs do. In: complete nodes. Out: nodes.
//! Holds: only every eighth level is kept; the levels between follow from it. Tiles of leaves that
//! were pruned go, and the levels above stay: a path from a leaf that is kept leads through no node
//! below level 8 of a tile that is gone. A proof that needs one is refused for want of that node.
//! Elsewhere: the tree and its proofs (`blocks::receipts`), when rows become durable (`keeper`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::blocks::receipts::{Nodes, node_hash};
use crate::crypto::Digest;
use crate::storage::{Batch, Direction, Range, TableError, Tables};

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
    /// Nodes of the edge that a snapshot brought: what is left of them was never here.
    pins: BTreeMap<(u8, u64), Digest>,
    /// The first failure of the tables; proofs are refused and commits fail from then on.
    failure: Option<TableError>,
}

impl Tiles {
    /// The tiles in `tables`.
    pub(crate) fn new(tables: Arc<dyn Tables>) -> Self {
        let (pins, failure) = match pins(&*tables) {
            Ok(pins) => (pins, None),
            Err(error) => (BTreeMap::new(), Some(error)),
        };
        Self {
            tables,
            changed: BTreeMap::new(),
            pins,
            failure,
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

    /// The rows that go with the first `size` leaves: the tiles that hold no other. The level above
    /// keeps the root of each of them, and whatever a proof of a later leaf needs.
    pub(crate) fn forgotten(size: u64) -> Range {
        Range::between(&key(0, 0), &key(0, size / TILE_HASHES))
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
        if let Some(pin) = self.pins.get(&(level, index)) {
            return Some(*pin);
        }
        let (tile_level, above) = (level / TILE_LEVELS, level % TILE_LEVELS);
        let first = index.checked_shl(above.into())?;
        let tile = self.tile(tile_level, first / TILE_HASHES)?;
        let start = usize::try_from(first % TILE_HASHES).ok()?;
        let hashes = tile.get(start..start + (1 << above))?.iter();
        let mut row: Vec<Option<Digest>> = hashes.map(known).collect();
        let (mut at, mut place) = (tile_level * TILE_LEVELS, first);
        while row.len() > 1 {
            (at, place) = (at + 1, place / 2);
            let pair = |(offset, pair): (u64, &[Option<Digest>])| match pair {
                [Some(left), Some(right)] => Some(node_hash(left, right)),
                _ => self.pins.get(&(at, place + offset)).copied(),
            };
            row = (0..).zip(row.chunks(2)).map(pair).collect();
        }
        row.first().copied().flatten()
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
        match tile.get_mut(at) {
            Some(hole) if *hole == Digest::ZERO => *hole = node,
            Some(before) => assert_eq!(*before, node, "a complete node never changes"),
            None => {
                // What stands left of a snapshot's edge is not known here.
                tile.resize(at, Digest::ZERO);
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

/// The key of a node that a snapshot brought.
pub(crate) fn pin_key(level: u8, index: u64) -> Vec<u8> {
    key(PIN | level, index)
}

/// The bit of a key's level that tells a pin from a tile.
pub(crate) const PIN: u8 = 0x80;

fn pins(tables: &dyn Tables) -> Result<BTreeMap<(u8, u64), Digest>, TableError> {
    let range = Range::starting_at(&[PIN]);
    let rows = tables.scan(TILES, &range, Direction::Forward, usize::MAX)?;
    let pin = |(key, row): (Vec<u8>, Vec<u8>)| {
        let (level, index) = key.split_first()?;
        let index = u64::from_be_bytes(index.try_into().ok()?);
        Some(((level & !PIN, index), Digest(row.try_into().ok()?)))
    };
    Ok(rows.into_iter().filter_map(pin).collect())
}

/// A hash that is kept.
pub(crate) fn known(hash: &Digest) -> Option<Digest> {
    Some(*hash).filter(|hash| *hash != Digest::ZERO)
}

/// The hashes of a row; bytes behind the last whole one are none.
pub(crate) fn hashes(row: &[u8]) -> Vec<Digest> {
    let (whole, _) = row.as_chunks::<32>();
    whole.iter().map(|hash| Digest(*hash)).collect()
}

#[cfg(test)]
mod tests;
