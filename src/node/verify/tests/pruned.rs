//! A member whose tables were pruned, also one that was killed while it pruned.
//!
//! Source: `docs/checkpoints.md`, 'what is kept'. In: a directory made by `world`, pruned by its
//! own keeper, stopped behind each commit. Out: verdicts.
//! Holds: what pruning leaves is no fault, wherever it was cut off. Elsewhere: members that run
//! (`node::tests::pruned`), the rows of the receipt log by themselves (`verify::tiles`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::node::keeper::{Files, Keeper, STANDING, Standing};
use crate::node::scribe::Pruning;
use crate::node::verify::files::copy;
use crate::storage::{TableError, Tables, Tapped};

const FLOOR: u64 = 24;

/// Prunes up to [`FLOOR`] with tables that take so many commits; gives whether that was enough.
fn prune(world: &World, commits: usize, receipts: u64) -> bool {
    let options = TableOptions {
        tables: recovery::TABLES.map(str::to_owned).to_vec(),
        cache_bytes: 1 << 20,
    };
    let tables = open_tables(&world.data().join("tables"), "redb", &options);
    let tables = tables.expect("closed before");
    let row = tables.get("meta", STANDING).expect("readable");
    let row = row.expect("it stands somewhere");
    let standing: Standing = codec::decode(&row, codec::ENCODED_BYTES_MAX).expect("a standing");
    let saved = standing.saved();
    let left = AtomicUsize::new(commits);
    let commit = move |tables: &dyn Tables, batch| {
        let take = |left: usize| left.checked_sub(1);
        match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => tables.commit(batch),
            Err(_) => Err(TableError::Poisoned {
                cause: "killed".into(),
            }),
        }
    };
    let index = world.indexing(Arc::new(Tapped { tables, commit }));
    let files = Files {
        needed: standing.needed.into_iter().collect(),
        ..Files::default()
    };
    let mut keeper = Keeper::new(index, 16, standing.parts, saved, files);
    keeper.settle(saved.file);
    let pruning = Pruning {
        floor: Height(FLOOR),
        receipts,
        before: saved.file,
        held: BTreeSet::new(),
    };
    keeper.prune(&pruning).is_ok()
}

/// What is found, but for the snapshot that a member has which prunes, and this one has not.
fn found(world: &World) -> Vec<String> {
    let faults = world.verify().faults.into_iter().map(|fault| fault.what);
    faults
        .filter(|what| !what.contains("no snapshot is kept for rows"))
        .collect()
}

#[test]
fn what_pruning_leaves_is_no_fault_wherever_a_kill_cut_it_off() {
    let (world, mut story) = world();
    world.write(&story);
    let place = block_at(&story, FLOOR);
    let receipts = block_mut(&mut story, place).header.receipts.size;
    let tables = world.data().join("tables");
    let whole = world.folder.path().join("whole");
    copy(&tables, &whole).expect("copied");
    let mut kills = 0;
    loop {
        let is_done = prune(&world, kills, receipts);
        assert_eq!(found(&world), [""; 0], "behind commit {kills}");
        if is_done {
            break;
        }
        fs::remove_dir_all(&tables).expect("ours");
        copy(&whole, &tables).expect("copied");
        kills += 1;
    }
    assert!(kills >= 3, "the floor, batches, the rest");

    // The rows that must be left are missed, and foreign ones are named.
    for (table, is_lost) in [("batches", true), ("tiles", true), ("batches", false)] {
        let mut row = (Vec::new(), Vec::new());
        change(&world, |tables| {
            let rows = tables.scan(table, &Range::all(), Direction::Forward, usize::MAX);
            let newest = rows.expect("readable").into_iter();
            row = newest
                .max_by_key(|(_, row)| row.clone())
                .expect("rows are left");
            let mut batch = Batch::new();
            match is_lost {
                true => batch.delete(table, row.0.clone()),
                false => batch.put(table, [7; 32], row.1.clone()),
            }
            batch
        });
        let found = found(&world);
        let named = format!("table {table}, key ");
        assert!(found.iter().any(|what| what.contains(&named)), "{found:?}");
        change(&world, |_| {
            let mut batch = Batch::new();
            batch.delete(table, [7; 32]);
            batch.put(table, row.0, row.1);
            batch
        });
    }
    assert_eq!(found(&world), [""; 0], "every change was taken back");
}
