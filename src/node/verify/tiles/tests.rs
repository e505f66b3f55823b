//! Each row of a receipt log that is altered, missing or foreign is named, and no other.
//!
//! Source: none. In: logs that began with a snapshot or not, grew, and were pruned. Out: keys.
//! Holds: what cannot be proved is what `docs/checkpoints.md` says. Elsewhere: whole members
//! (`node::tests::pruned`).

use tempfile::TempDir;

use super::*;
use crate::blocks::receipts::{ReceiptTree, leaf_hash};
use crate::node::tiles::Tiles;
use crate::storage::{Batch, TableOptions, open_tables};

/// A receipt log in tables: begun from a snapshot, or from nothing, and pruned.
struct Log {
    tables: std::sync::Arc<dyn Tables>,
    edge: Frontier,
    base: u64,
    pruned: u64,
    _folder: TempDir,
}

fn leaf(number: u64) -> Digest {
    leaf_hash(&number.to_le_bytes())
}

impl Log {
    fn new((base, size, pruned): (u64, u64, u64)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = TableOptions {
            tables: vec![TILES.into()],
            cache_bytes: 1 << 20,
        };
        let tables = open_tables(folder.path(), "redb", &options).expect("tables");
        let tables: std::sync::Arc<dyn Tables> = std::sync::Arc::from(tables);
        let mut start = Frontier::new();
        (0..base).for_each(|number| start.append(leaf(number)));
        let mut batch = Batch::new();
        for (level, index, node) in start.placed() {
            batch.put(TILES, pin_key(level, index), node.0);
        }
        tables.commit(batch).expect("taken");
        let rows = Tiles::new(std::sync::Arc::clone(&tables));
        let mut tree = ReceiptTree::resume(start, rows);
        for number in base..size {
            tree.append(leaf(number));
        }
        let mut batch = Batch::new();
        let drained = tree.nodes_mut().drain_into(&mut batch);
        drained.expect("tables that can be read");
        batch.delete_range(TILES, Tiles::forgotten(pruned));
        if size > base {
            tables.commit(batch).expect("taken");
        }
        Self {
            tables,
            edge: tree.frontier().clone(),
            base,
            pruned,
            _folder: folder,
        }
    }

    fn rows(&self) -> Vec<Row> {
        let all = Range::all();
        let rows = self
            .tables
            .scan(TILES, &all, Direction::Forward, usize::MAX);
        rows.expect("readable")
    }

    fn put(&self, key: &[u8], row: &[u8]) {
        let mut batch = Batch::new();
        batch.put(TILES, key, row);
        self.tables.commit(batch).expect("taken");
    }

    fn remove(&self, key: &[u8]) {
        let mut batch = Batch::new();
        batch.delete(TILES, key);
        self.tables.commit(batch).expect("taken");
    }

    /// The keys that are named.
    fn named(&self) -> Vec<Vec<u8>> {
        let span = Span {
            edge: &self.edge,
            base: self.base,
            has_grown: self.edge.size() > self.base,
            pruned: self.pruned,
        };
        let mut found = Vec::new();
        compare(&*self.tables, &span, &mut found).expect("readable");
        found.into_iter().filter_map(|one| one.key).collect()
    }

    /// Whether nothing shows what a node is that a snapshot brought: the leaves beside it are gone.
    fn is_beyond_proof(&self, key: &[u8]) -> bool {
        let level = key[0];
        let is_pin = level & PIN != 0;
        let is_gone = self.base / TILE_HASHES < self.pruned / TILE_HASHES;
        is_pin && level & !PIN < TILE_LEVELS && is_gone
    }
}

/// Begun with so many receipts, grown to so many, and those of so many given up.
const LOGS: [(u64, u64, u64); 18] = [
    (0, 0, 0),
    (0, 1, 0),
    (0, 255, 0),
    (0, 256, 256),
    (0, 700, 0),
    (0, 700, 513),
    (0, 66_000, 65_700),
    (1, 1, 1),
    (1, 2, 1),
    (5, 700, 5),
    (256, 300, 256),
    (257, 900, 257),
    (300, 300, 300),
    (300, 301, 300),
    (300, 1_100, 300),
    (300, 1_100, 700),
    (768, 2_000, 1_600),
    (65_536 + 256 + 3, 66_600, 66_100),
];

#[test]
fn whole_rows_are_as_the_edge_says() {
    for of in LOGS {
        assert_eq!(Log::new(of).named(), [[0; 0]; 0], "{of:?}");
    }
}

#[test]
fn a_flipped_a_lost_and_an_invented_row_is_named() {
    for of in LOGS {
        let log = Log::new(of);
        for (key, row) in log.rows() {
            for at in [0, row.len() / 2, row.len() - 1] {
                let mut other = row.clone();
                other[at] ^= 1;
                log.put(&key, &other);
                let is_named = log.named().contains(&key);
                assert!(
                    is_named || log.is_beyond_proof(&key),
                    "{of:?}, byte {at} of {key:?}"
                );
            }
            for other in [&row[..row.len() - 1], &[&row[..], &[7; 32]].concat()] {
                log.put(&key, other);
                assert!(log.named().contains(&key), "{of:?}, the length of {key:?}");
            }
            log.remove(&key);
            assert!(log.named().contains(&key), "{of:?}, without {key:?}");
            log.put(&key, &row);
            let longer = [&key[..], &[0]].concat();
            log.put(&longer, &row);
            assert_eq!(log.named(), [&longer[..]], "{of:?}");
            log.remove(&longer);
        }
        for foreign in [
            key(0, log.edge.size() / TILE_HASHES + 1),
            key(3, 0),
            key(9, 1),
            pin_key(40, 2),
            vec![0],
            vec![255; 12],
        ] {
            log.put(&foreign, &[3; 32]);
            assert_eq!(log.named(), [&foreign[..]], "{of:?}");
            log.remove(&foreign);
        }
        assert_eq!(
            log.named(),
            [[0; 0]; 0],
            "{of:?}, every change was taken back"
        );
    }
}

#[test]
fn rows_that_a_kill_left_below_the_floor_are_no_fault_and_must_hold() {
    let mut log = Log::new((300, 2_000, 300));
    log.pruned = 1_600;
    assert_eq!(log.named(), [[0; 0]; 0]);
    let left = key(0, 4);
    let mut row = log.tables.get(TILES, &left).expect("readable");
    row.as_mut().expect("it is left")[40] ^= 1;
    log.put(&left, &row.expect("as before"));
    assert_eq!(log.named(), [&left[..]]);
    log.remove(&left);
    assert_eq!(log.named(), [[0; 0]; 0], "it goes one by one");
}

#[test]
fn below_a_row_that_differs_only_forms_are_compared() {
    let log = Log::new((0, 2_000, 0));
    let (above, below) = (key(1, 0), key(0, 3));
    log.put(&above, &[9; 7 * 32]);
    log.put(&below, &[9; 256 * 32]);
    assert_eq!(log.named(), [&above[..]]);
    log.put(&below, &[9; 255 * 32]);
    assert_eq!(log.named(), [above, below]);
}
