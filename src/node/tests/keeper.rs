//! The writer of the tables: in which order rows go, and what it asks to be saved again.
//!
//! Source: `docs/checkpoints.md`, 'what is kept'. In: rows, notes. Out: commits, commands.
//! Holds: each commit is looked at as if a kill came behind it.
//! Elsewhere: what a start makes of the tables (`alone`, `checkpoints`).

use std::collections::BTreeSet;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use crate::blocks::codec;
use crate::blocks::receipts::{MemoryNodes, ReceiptTree};
use crate::committee::Height;
use crate::consortium::records::Name;
use crate::consortium::{Command, Ledger};
use crate::crypto::Digest;
use crate::node::bell;
use crate::node::driver::Internal;
use crate::node::index::{BATCHES, BLOCKS, META, SEQUENCES};
use crate::node::keeper::{Files, Keeper, STANDING, Standing};
use crate::node::recovery::TABLES;
use crate::node::scribe::{Note, Pruning, Scribe};
use crate::node::tiles;
use crate::node::verify::tests::world::World;
use crate::storage::{
    Batch, Direction, Position, Range, TableOptions, Tables, Tapped, open_tables,
};

/// Rows of each table: more than go in one commit.
const ROWS: u64 = 700;
const FLOOR: u64 = 650;

/// What the tables say behind a commit: up to where they are pruned, the lowest block, the lowest
/// event.
type Seen = (Height, u64, u64);

/// What was seen behind each commit, and the most rows that one took.
#[derive(Default)]
struct Seens {
    all: Vec<Seen>,
    most: u64,
}

fn first(tables: &dyn Tables, table: &str) -> u64 {
    let rows = tables.scan(table, &Range::all(), Direction::Forward, 1);
    let (key, _) = rows.expect("readable").pop().expect("rows are left");
    u64::from_be_bytes(key[..8].try_into().expect("a number"))
}

fn rows(tables: &dyn Tables) -> u64 {
    let rows = |table| tables.scan(table, &Range::all(), Direction::Forward, usize::MAX);
    let tables = TABLES.into_iter().map(rows);
    tables
        .map(|rows| rows.expect("readable").len() as u64)
        .sum()
}

fn look(tables: &dyn Tables) -> Seen {
    let row = tables.get(META, STANDING).expect("readable");
    let standing: Option<Standing> =
        row.map(|row| codec::decode(&row, codec::ENCODED_BYTES_MAX).expect("a standing"));
    let pruned = standing.map_or(Height(0), |standing| standing.pruned.0);
    (pruned, first(tables, BLOCKS), first(tables, SEQUENCES))
}

/// Tables with a block, an event and a batch of each height.
fn filled(world: &World, seens: &Arc<Mutex<Seens>>) -> Arc<dyn Tables> {
    let options = TableOptions {
        tables: TABLES.map(str::to_owned).to_vec(),
        cache_bytes: 1 << 20,
    };
    let tables = open_tables(&world.member().join("watched"), "redb", &options);
    let tables = tables.expect("tables");
    let mut batch = Batch::new();
    for height in 1..=ROWS {
        let place = [0_u8; 12]; // In no log file that is kept.
        batch.put(BLOCKS, height.to_be_bytes(), place);
        batch.put(SEQUENCES, (height - 1).to_be_bytes(), height.to_be_bytes());
        batch.put(
            BATCHES,
            [&height.to_be_bytes()[..], &[0; 24]].concat(),
            place,
        );
        batch.put(tiles::TILES, tiles::key(0, height), [1; 32]);
    }
    tables.commit(batch).expect("committed");
    let seens = Arc::clone(seens);
    let commit = move |tables: &dyn Tables, batch| {
        let before = rows(tables);
        tables.commit(batch)?;
        let gone = before.saturating_sub(rows(tables));
        let mut seens = seens.lock().expect("one thread");
        seens.most = gone.max(seens.most);
        seens.all.push(look(tables));
        Ok(())
    };
    Arc::new(Tapped { tables, commit })
}

fn keeper(world: &World, tables: Arc<dyn Tables>) -> Keeper {
    let mut receipts = ReceiptTree::resume(Default::default(), MemoryNodes::default());
    for _ in 0..ROWS {
        receipts.append(Digest([1; 32]));
    }
    let mut parts = Ledger::genesis(&world.genesis).parts().clone();
    parts.tip.height = Height(ROWS);
    parts.frontier = receipts.frontier().clone();
    let index = world.indexing(tables);
    let start = Position { file: 1, offset: 0 };
    let files = Files {
        settled: 1,
        ..Files::default()
    };
    Keeper::new(index, 16, parts, start, files)
}

#[test]
fn the_floor_is_told_before_rows_go_and_events_go_before_their_blocks() {
    let world = World::new();
    let seens = Arc::default();
    let mut keeper = keeper(&world, filled(&world, &seens));
    let pruning = Pruning {
        floor: Height(FLOOR),
        receipts: FLOOR,
        before: 1,
        held: BTreeSet::new(),
    };
    keeper.prune(&pruning).expect("tables that take it");
    let Seens { all: seen, most } = std::mem::take(&mut *seens.lock().expect("one thread"));
    assert!(seen.len() > 4, "in pieces: {seen:?}");
    for (pruned, block, event) in &seen {
        assert!(pruned.next() >= Height(*block), "untold: {seen:?}");
        // The event of the block at a height has the number below.
        assert!(event + 1 >= *block, "an event without its block: {seen:?}");
    }
    let last = (Height(FLOOR), FLOOR + 1, FLOOR);
    assert_eq!(seen.last(), Some(&last));
    assert!(most <= ROWS, "{most} rows at once");
}

/// What the scribe asks the replica to save again when these notes come.
fn asked(notes: Vec<Note>) -> Vec<u64> {
    let world = World::new();
    let keeper = keeper(&world, filled(&world, &Arc::default()));
    let (internal, told) = bell::under(&Arc::default(), 64);
    let (sender, receiver) = sync_channel(notes.len().max(1));
    for note in notes {
        sender.send(vec![note]).expect("it is kept");
    }
    drop(sender);
    let scribe = Scribe::new(keeper, internal);
    scribe.run(&receiver).expect("tables that take it");
    let number = |one| {
        if let Internal::Command(Command::Settle(number)) = one {
            return Some(number);
        }
        None
    };
    told.try_iter().filter_map(number).collect()
}

#[test]
fn what_is_saved_again_in_a_new_log_file_asks_for_nothing_though_it_fills_more_of_them() {
    let saved = |file| Note::Saved(Name::Nameless, Position { file, offset: 64 });
    let notes = vec![saved(1), saved(2), saved(3), saved(4), Note::Settled(2)];
    assert_eq!(asked(notes), [2]);
    let later = vec![
        saved(2),
        saved(3),
        Note::Settled(2),
        saved(3),
        saved(4),
        Note::Settled(4),
        saved(5),
    ];
    assert_eq!(asked(later), [2, 4, 5]);
}
