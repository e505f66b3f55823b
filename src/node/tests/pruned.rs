//! Members that pruned, or came by a bootstrap: what their tables hold is compared row by row.
//!
//! Source: `docs/checkpoints.md`, 'what is kept'. In: temporary folders, free ports. Out: verdicts.
//! Holds: no port is named. Elsewhere: every form of the receipt log (`verify::tiles`), kills while
//! rows go (`verify::tests::pruned`).

use std::fs;
use std::path::Path;

use super::checkpoints::{fill, parameters};
use super::cluster::{client, prepare_as, put_bytes, start, verdict_in, verified_in};
use crate::application::kv::Operation;
use crate::blocks::{SignedGroup, Transaction};
use crate::committee::Height;
use crate::node::index::BATCHES;
use crate::node::init::member_dir;
use crate::node::recovery::TABLES;
use crate::node::tiles::{PIN, TILES, key, pin_key};
use crate::node::{Node, Promise};
use crate::storage::{Batch, Direction, Range, Row, TableOptions, Tables, open_tables};

/// Changes the tables of a member that has ended through their own door.
fn change(dir: &Path, change: impl FnOnce(&dyn Tables) -> Batch) {
    let options = TableOptions {
        tables: TABLES.map(str::to_owned).to_vec(),
        cache_bytes: 1 << 20,
    };
    let tables = open_tables(&dir.join("data/tables"), "redb", &options).expect("tables");
    let batch = change(&*tables);
    tables.commit(batch).expect("taken");
    tables.flush().expect("flushed");
}

fn rows(dir: &Path, table: &str) -> Vec<Row> {
    let mut found = Vec::new();
    change(dir, |tables| {
        let rows = tables.scan(table, &Range::all(), Direction::Forward, usize::MAX);
        found = rows.expect("readable");
        Batch::new()
    });
    found
}

fn put(dir: &Path, table: &'static str, key: &[u8], row: Option<&[u8]>) {
    change(dir, |_| {
        let mut batch = Batch::new();
        match row {
            Some(row) => batch.put(table, key, row),
            None => batch.delete(table, key),
        }
        batch
    });
}

/// The row is named by what `verify` finds in the directory.
#[track_caller]
fn assert_named(dir: &Path, table: &str, key: &[u8], how: &str) {
    let verdict = verdict_in(dir.into());
    let named = format!(
        "table {table}, key {}",
        hex::encode(&key[..key.len().min(16)])
    );
    let mut whats = verdict.faults.iter().map(|fault| &fault.what);
    let is_named = whats.any(|what| what.starts_with(&named));
    assert!(!verdict.ok && is_named, "{how} {named}: {verdict:#?}");
}

/// Every kind of row is altered, taken away and invented, one after the other, and named.
pub(super) fn rows_are_compared(dir: &Path, has_pins: bool) {
    verified_in(dir.into());
    let mut chosen: Vec<(&'static str, Row)> = Vec::new();
    let tiles = rows(dir, TILES);
    // The last of each level, and the lowest node that a snapshot brought whose row is kept.
    for level in [0, 1] {
        let row = tiles.iter().rfind(|(key, _)| key[0] == level);
        chosen.extend(row.map(|row| (TILES, row.clone())));
    }
    let pins = tiles.iter().filter(|(key, _)| key[0] >= PIN + 8);
    chosen.extend(pins.map(|row| (TILES, row.clone())));
    let is_pinned = tiles.iter().any(|(key, _)| key[0] >= PIN);
    assert_eq!(is_pinned, has_pins);
    let newest = rows(dir, BATCHES)
        .into_iter()
        .max_by_key(|(_, row)| row.clone());
    chosen.push((BATCHES, newest.expect("there are batches")));
    assert!(chosen.len() >= 2, "{chosen:?}");
    for (table, (key, row)) in &chosen {
        let mut other = row.clone();
        *other.last_mut().expect("a row") ^= 1;
        put(dir, table, key, Some(&other));
        assert_named(dir, table, key, "altered");
        put(dir, table, key, None);
        assert_named(dir, table, key, "taken away");
        put(dir, table, key, Some(row));
    }
    for (table, invented) in [
        (TILES, key(0, 1 << 40)),
        (TILES, key(4, 0)),
        (TILES, pin_key(50, 0)),
        (BATCHES, vec![7; 32]),
    ] {
        let row = chosen.iter().find(|(of, _)| *of == table);
        let (_, (_, row)) = row.expect("a row of each table");
        put(dir, table, &invented, Some(row));
        assert_named(dir, table, &invented, "invented");
        put(dir, table, &invented, None);
    }
    verified_in(dir.into());
}

/// Three groups of as many transactions as a tile has hashes.
async fn many(node: &Node) {
    let handle = node.handle();
    let chain = handle.genesis().chain();
    let operation = Operation::Put {
        key: b"many",
        value: &[1],
    };
    let operation = operation.to_bytes().expect("within bounds");
    for first in [1, 257, 513] {
        let transactions: Vec<Transaction> = (first..first + 256)
            .map(|sequence| Transaction {
                sequence,
                expiry: Height(1_000),
                operation: operation.clone().into(),
            })
            .collect();
        let group = SignedGroup::sign(&chain, &client(), &transactions);
        let settled = handle.submit(group, Promise::Durable).await;
        settled.expect("admitted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn rows_of_tiles_and_batches_are_compared_behind_what_was_pruned() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = prepare_as(folder.path(), (1, 0), parameters()).0.pop();
    let dir = member_dir(folder.path(), 0);
    let nodes = [start(folder.path(), 0, socket).expect("it starts")];
    many(&nodes[0]).await;
    let last = fill(&nodes, std::slice::from_ref(&dir), 1_001).await;
    let [node] = nodes;
    node.shutdown().expect("a clean end");
    rows_are_compared(&dir, false);

    // Out of the snapshot, with nothing above it in the tables, and then with more.
    fs::remove_dir_all(dir.join("data/tables")).expect("removed");
    let node = start(folder.path(), 0, None).expect("it starts");
    for sequence in last + 1..last + 4 {
        put_bytes(&node, sequence, &[1; 40_000], Promise::Durable).await;
    }
    node.shutdown().expect("a clean end");
    rows_are_compared(&dir, true);
    let node = start(folder.path(), 0, None).expect("it starts once more");
    put_bytes(&node, last + 9, &[1], Promise::Durable).await;
    node.shutdown().expect("a clean end");
    verified_in(dir);
}
