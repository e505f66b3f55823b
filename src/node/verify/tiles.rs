//! The rows of the receipt log beside its edge, which the replay gives.
//!
//! Source: RFC 6962 trees; `node::tiles`. In: a copy of the tables, the edge of the log where they
//! stand. Out: every row that differs.
//! Holds: a hash is right where it makes, with those beside it, a node of the edge; so no receipt
//! is needed, and what was pruned or never was here is compared as far as rows of it are kept.
//! Elsewhere: how rows come about (`node::tiles`), all other tables (`compare`).
//!
//! A level of rows is looked at once the one above it was: 256 hashes make one of the row above.
//! Below a row that differs only forms are compared.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::Difference;
use crate::blocks::receipts::{Frontier, node_hash};
use crate::crypto::Digest;
use crate::node::tiles::{PIN, TILE_HASHES, TILE_LEVELS, TILES, hashes, key, known, pin_key};
use crate::storage::{Direction, Range, Row, TableError, Tables};

/// Rows that are read at once; one has up to 8 KiB.
const ROWS_AT_ONCE: usize = 256;
/// Rows that are missing in one stretch and are named one by one.
const MISSING_NAMED_MAX: usize = 1000;

const EXTRA: &str = "the row is not one that the replay gives";
const MISSING: &str = "the replay gives a row that is not there";
const OTHER: &str = "the row is not what the replay gives";
const NO_MATCH: &str = "it does not make what the replay gives, with the rows beside it: one of \
                        them is wrong";

/// Where the receipt log stands in the tables.
pub(super) struct Span<'a> {
    /// Its edge.
    pub(super) edge: &'a Frontier,
    /// Receipts of the snapshot that the tables were filled from.
    pub(super) base: u64,
    /// Whether blocks above that snapshot are in the tables; before, there are no rows but pins.
    pub(super) has_grown: bool,
    /// Receipts of which rows were given up.
    pub(super) pruned: u64,
}

/// Compares every row; gives whether there are hashes that could not be compared, since a row above
/// them differs.
///
/// Errors: the tables cannot be read.
pub(super) fn compare(
    tables: &dyn Tables,
    span: &Span<'_>,
    found: &mut Vec<Difference>,
) -> Result<bool, TableError> {
    let placed = span.edge.placed();
    let mut look = Look {
        tables,
        size: span.edge.size(),
        edge: placed
            .map(|(at, index, node)| ((at, index), node))
            .collect(),
        base: span.base.min(span.edge.size()),
        has_grown: span.has_grown,
        pruned: span.pruned.min(span.edge.size()),
        pins: BTreeMap::new(),
        wrong: BTreeSet::new(),
        above: None,
        is_cut_short: false,
        found,
    };
    look.pins()?;
    let levels = (0..TILE_LEVELS).take_while(|level| look.size >> (level * TILE_LEVELS) > 0);
    let levels = u8::try_from(levels.count()).expect("a size has 64 bits");
    let higher = Range::between(&[levels], &[PIN]);
    look.scan(&higher, |look, (key, _)| {
        look.tell(key, EXTRA);
        Ok(())
    })?;
    for level in (0..levels).rev() {
        look.level(level)?;
    }
    Ok(look.is_cut_short)
}

struct Look<'a> {
    tables: &'a dyn Tables,
    /// Receipts in all.
    size: u64,
    /// Nodes that are known, by level and index.
    edge: BTreeMap<(u8, u64), Digest>,
    /// See [`Span`], as the next two.
    base: u64,
    has_grown: bool,
    pruned: u64,
    /// Nodes that a snapshot brought.
    pins: BTreeMap<(u8, u64), Digest>,
    /// Rows that are not there or differ.
    wrong: BTreeSet<(u8, u64)>,
    /// The row above that was read last.
    above: Option<((u8, u64), Vec<Digest>)>,
    is_cut_short: bool,
    found: &'a mut Vec<Difference>,
}

/// Where the nodes of one level of rows lie.
#[derive(Clone, Copy)]
struct Level {
    level: u8,
    /// The first one that has a place in a row.
    first: u64,
    /// How many there are.
    nodes: u64,
}

impl Level {
    /// The rows that hold any.
    fn rows(self) -> Range64 {
        match self.first < self.nodes {
            true => self.first / TILE_HASHES..(self.nodes - 1) / TILE_HASHES + 1,
            false => 0..0,
        }
    }
}

impl Look<'_> {
    fn tell(&mut self, key: Vec<u8>, what: &str) {
        self.found.push(Difference::row(TILES, key, what));
    }

    fn scan(
        &mut self,
        range: &Range,
        mut visit: impl FnMut(&mut Self, Row) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        let mut range = range.clone();
        while !range.is_empty() {
            let rows = { self.tables }.scan(TILES, &range, Direction::Forward, ROWS_AT_ONCE)?;
            let Some((last, _)) = rows.last() else { break };
            range.from = [&last[..], &[0]].concat();
            for row in rows {
                visit(self, row)?;
            }
        }
        Ok(())
    }

    /// A snapshot brings a node for each bit of its size.
    fn pins(&mut self) -> Result<(), TableError> {
        let base = self.base;
        let levels = (0..64u8).filter(|level| base >> level & 1 == 1);
        let mut missing: BTreeMap<Vec<u8>, (u8, u64)> = levels
            .map(|level| (level, (base >> level) - 1))
            .map(|(level, index)| (pin_key(level, index), (level, index)))
            .collect();
        self.scan(&Range::starting_at(&[PIN]), |look, (key, row)| {
            match (missing.remove(&key), <[u8; 32]>::try_from(&row[..])) {
                (None, _) => look.tell(key, EXTRA),
                (Some(_), Err(_)) => look.tell(key, OTHER),
                (Some(place), Ok(node)) => drop(look.pins.insert(place, Digest(node))),
            }
            Ok(())
        })?;
        missing.into_keys().for_each(|key| self.tell(key, MISSING));
        Ok(())
    }

    fn of_level(&self, level: u8) -> Level {
        let shift = level * TILE_LEVELS;
        let (held, nodes) = (self.base >> shift, self.size >> shift);
        // The edge that the tables begin with has its places as well.
        let of_edge = u64::from(self.has_grown && held & 1 == 1);
        Level {
            level,
            first: held - of_edge,
            nodes,
        }
    }

    fn level(&mut self, level: u8) -> Result<(), TableError> {
        let at = self.of_level(level);
        let rows = at.rows();
        if rows.is_empty() {
            // What the snapshot brought has no row beside it, and is of the edge still.
            let index = at.first / TILE_HASHES;
            let count = at.nodes - index * TILE_HASHES;
            self.judge((at, index), (0..count).map(|_| None).collect())?;
        }
        let gone = match level {
            0 => self.pruned / TILE_HASHES,
            _ => 0,
        };
        let mut next = rows.start.max(gone);
        self.scan(&Range::prefix(&[level]), |look, (key, row)| {
            let index = key.get(1..).and_then(|rest| rest.try_into().ok());
            let index = index.map(u64::from_be_bytes);
            let Some(index) = index.filter(|index| rows.contains(index)) else {
                look.tell(key, EXTRA);
                return Ok(());
            };
            look.missing(level, next.min(index)..index);
            next = next.max(index + 1);
            look.row(at, index, &row)
        })?;
        self.missing(level, next..rows.end);
        Ok(())
    }

    fn missing(&mut self, level: u8, rows: Range64) {
        let named = rows.clone().take(MISSING_NAMED_MAX);
        named.for_each(|index| self.tell(key(level, index), MISSING));
        if level > 0 {
            self.wrong.extend(rows.map(|index| (level, index)));
        }
    }

    /// A row that has its place.
    fn row(&mut self, at: Level, index: u64, row: &[u8]) -> Result<(), TableError> {
        let start = index * TILE_HASHES;
        let count = at.nodes.min(start + TILE_HASHES) - start;
        let holes = at.first.saturating_sub(start);
        let nodes: Vec<Option<Digest>> = hashes(row).iter().map(known).collect();
        let mut placed = (0..).zip(&nodes);
        let is_formed = placed.all(|(place, node): (u64, _)| (place < holes) == node.is_none());
        if !is_formed || row.len() as u64 != count * 32 {
            self.wrong.insert((at.level, index));
            self.tell(key(at.level, index), OTHER);
            return Ok(());
        }
        self.judge((at, index), nodes)
    }

    /// Compares all that the nodes of a row make, with those that a snapshot brought.
    fn judge(
        &mut self,
        (at, index): (Level, u64),
        mut nodes: Vec<Option<Digest>>,
    ) -> Result<(), TableError> {
        let is_row = nodes.iter().any(Option::is_some);
        let bottom = at.level * TILE_LEVELS;
        let mut differing = Vec::new();
        for up in 0..TILE_LEVELS {
            let (level, first) = (bottom + up, (index * TILE_HASHES) >> up);
            for (place, node) in (first..).zip(&mut nodes) {
                let place = (level, place);
                let pin = self.pins.get(&place).copied();
                let edge = self.edge.get(&place).copied();
                let made = [*node, pin, edge].into_iter().flatten();
                if made.collect::<BTreeSet<_>>().len() > 1 {
                    differing.push(place);
                }
                *node = node.or(pin);
            }
            let pairs = nodes.as_chunks::<2>().0.iter();
            let made = pairs.map(|[left, right]| Some(node_hash(left.as_ref()?, right.as_ref()?)));
            nodes = made.collect();
        }
        if let [Some(root)] = nodes[..]
            && self
                .above(at.level + 1, index)?
                .is_some_and(|above| above != root)
        {
            differing.push((bottom + TILE_LEVELS, index));
        }
        if !differing.is_empty() {
            self.differs((at.level, index), is_row, &differing);
        }
        Ok(())
    }

    /// The nodes at these places are not what a row makes, with what a snapshot brought there.
    fn differs(&mut self, (level, index): (u8, u64), is_row: bool, places: &[(u8, u64)]) {
        let is_under = |&&(at, index): &&(u8, u64)| {
            let mut places = places.iter();
            at >= level * TILE_LEVELS
                && places.any(|(top, place)| at <= *top && index >> (top - at) == *place)
        };
        let pins: Vec<(u8, u64)> = self.pins.keys().filter(is_under).copied().collect();
        let what = match is_row && !pins.is_empty() {
            true => NO_MATCH,
            false => OTHER,
        };
        if is_row {
            self.wrong.insert((level, index));
            self.tell(key(level, index), what);
        }
        for (level, index) in pins {
            self.tell(pin_key(level, index), what);
        }
    }

    /// The hash in a row above, where that row is right.
    fn above(&mut self, level: u8, index: u64) -> Result<Option<Digest>, TableError> {
        let (row, place) = ((level, index / TILE_HASHES), index % TILE_HASHES);
        if self.wrong.contains(&row) {
            self.is_cut_short = true;
            return Ok(None);
        }
        if self.above.as_ref().is_none_or(|(held, _)| *held != row) {
            let found = self.tables.get(TILES, &key(row.0, row.1))?;
            self.above = Some((row, found.as_deref().map(hashes).unwrap_or_default()));
        }
        let mut above = self.above.iter().flat_map(|(_, hashes)| hashes);
        Ok(above.nth(place as usize).copied())
    }
}

type Range64 = std::ops::Range<u64>;

#[cfg(test)]
mod tests;
