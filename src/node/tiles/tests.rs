//! Trees over tiles of which the oldest are gone.

use super::super::recovery::TABLES;
use super::*;
use crate::blocks::receipts::{Frontier, MemoryNodes, ReceiptError, ReceiptTree};
use crate::crypto::Domain;
use crate::storage::{TableOptions, open_tables};

/// More leaves than the hashes of one tile cover at its second level.
const LEAVES: u64 = 66_500;

fn leaf(index: u64) -> Digest {
    Digest::of(Domain::Audit, &index.to_le_bytes())
}

/// A tree over tables, and the same in memory.
struct Pair {
    tables: Arc<dyn Tables>,
    tiles: ReceiptTree<Tiles>,
    memory: ReceiptTree<MemoryNodes>,
}

impl Pair {
    fn grow(&mut self, upto: u64) {
        for index in self.memory.frontier().size()..upto {
            assert_eq!(self.tiles.append(leaf(index)), index);
            self.memory.append(leaf(index));
        }
        let mut batch = Batch::new();
        self.tiles.nodes_mut().drain_into(&mut batch).expect("rows");
        self.tables.commit(batch).expect("committed");
    }

    fn forget(&mut self, size: u64) {
        let mut batch = Batch::new();
        batch.delete_range(TILES, Tiles::forgotten(size));
        self.tables.commit(batch).expect("committed");
    }

    /// What follows a restart: nothing in memory but the edge.
    fn restart(&mut self) {
        let frontier = self.tiles.frontier().clone();
        self.tiles = ReceiptTree::resume(frontier, Tiles::new(Arc::clone(&self.tables)));
    }

    /// Compares proofs of leaves and trees from `kept` on; gives how many were compared.
    fn compare(&self, kept: u64) -> usize {
        let size = self.memory.frontier().size();
        let near = |at: u64| [at, at + 1, at + 2, at + 255, at + 256, at + 257];
        let places = [
            near(kept),
            near(kept.next_multiple_of(256)),
            near(size - 258),
        ];
        let places = places.into_iter().flatten().filter(|at| *at >= kept);
        let places: Vec<u64> = places.filter(|at| *at < size).collect();
        for at in &places {
            for of in places.iter().chain([&size]).filter(|of| *of > at) {
                let want = self.memory.inclusion_proof(*at, *of);
                assert_eq!(self.tiles.inclusion_proof(*at, *of), want, "{at} of {of}");
                let want = self.memory.consistency_proof(*at, *of);
                assert_eq!(self.tiles.consistency_proof(*at, *of), want, "{at} to {of}");
            }
            assert_eq!(self.tiles.root_at(*at), self.memory.root_at(*at), "{at}");
        }
        places.len()
    }

    /// What lies below is proved as it was, or refused.
    fn compare_below(&self, kept: u64) -> usize {
        let size = self.memory.frontier().size();
        let mut refused = 0;
        for at in (0..kept).step_by(97) {
            let proof = self.tiles.inclusion_proof(at, size);
            let is_gone = at < kept / TILE_HASHES * TILE_HASHES;
            assert_eq!(proof.is_err(), is_gone, "{at} of {size}, {kept} kept");
            match proof {
                Ok(path) => assert_eq!(Ok(path), self.memory.inclusion_proof(at, size)),
                Err(error) => assert!(matches!(error, ReceiptError::Missing { .. }), "{error}"),
            }
            let proof = self.tiles.consistency_proof(at, size);
            match proof {
                Ok(path) => assert_eq!(Ok(path), self.memory.consistency_proof(at, size)),
                Err(ReceiptError::Missing { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        refused
    }
}

#[test]
fn what_is_kept_is_proved_after_older_tiles_went_and_what_went_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = TableOptions {
        tables: TABLES.map(str::to_owned).to_vec(),
        cache_bytes: 1 << 20,
    };
    let tables = open_tables(folder.path(), "redb", &options).expect("tables");
    let tables: Arc<dyn Tables> = Arc::from(tables);
    let mut pair = Pair {
        tiles: ReceiptTree::resume(Frontier::new(), Tiles::new(Arc::clone(&tables))),
        memory: ReceiptTree::resume(Frontier::new(), MemoryNodes::default()),
        tables,
    };
    let mut grown = 0;
    for (size, kept) in [
        (300, 0),
        (700, 255),
        (1_500, 256),
        (1_600, 1_501),
        (LEAVES, 40_000),
    ] {
        pair.grow(size);
        pair.forget(kept);
        pair.compare(kept);
        pair.restart();
        assert!(pair.compare(kept) > 3);
        assert!(pair.compare_below(kept) > 0 || kept < 512);
        grown = size;
    }
    // All that is known goes, and appends go on.
    pair.forget(grown);
    pair.restart();
    pair.grow(grown + 600);
    assert!(pair.compare(grown) > 3);
    let range = Range::between(&key(0, 0), &key(1, 0));
    let rows = pair
        .tables
        .scan(TILES, &range, Direction::Forward, usize::MAX);
    assert_eq!(
        rows.expect("rows").len(),
        4,
        "one row for 256 leaves that are kept"
    );
    let range = Range::starting_at(&key(1, 0));
    let rows = pair
        .tables
        .scan(TILES, &range, Direction::Forward, usize::MAX);
    assert_eq!(
        rows.expect("rows").len(),
        3,
        "and one for 65,536 leaves, and above"
    );
}
