//! Long histories that a founder ordered alone: what a start reads of them, what it finds damaged.
//!
//! Source: design, 'durability, exactly'. In: temporary folders. Out: starts, refusals, verdicts.
//! Holds: no port is named. Elsewhere: how long a start takes (`examples/campaign`).

use std::fs;
use std::path::Path;

use super::cluster::{executed, prepare_as, put, start, verdict_in, verified_in};
use crate::api::{Host, Page};
use crate::application::kv::Operation;
use crate::blocks::{Parameters, ViewRules, codec};
use crate::committee::{Height, ViewId};
use crate::node::index::{self, BLOCKS as PLACES, META};
use crate::node::init::member_dir;
use crate::node::keeper::{STANDING, Standing};
use crate::node::recovery::TABLES;
use crate::node::{Options, Promise, order_alone};
use crate::storage::{Batch, TableOptions, Tables, open_tables};

/// Blocks that fill more than three log files.
const BLOCKS: u64 = 300;

/// A member of a ledger of its own, with a history in views of 64 blocks.
fn history(folder: &Path) -> std::path::PathBuf {
    history_in_views(folder, 64)
}

fn history_in_views(folder: &Path, rotation_blocks: u32) -> std::path::PathBuf {
    let parameters = Parameters {
        views: ViewRules {
            rotation_blocks,
            ..ViewRules::default()
        },
        ..Parameters::default()
    };
    prepare_as(folder, (1, 0), parameters);
    let dir = member_dir(folder, 0);
    let options = Options::load(&dir).expect("settings");
    let ordered = order_alone(&options, Height(BLOCKS), |height| {
        let (key, value) = (height.0.to_le_bytes(), vec![height.0 as u8; 100 << 10]);
        let operation = Operation::Put {
            key: &key,
            value: &value,
        };
        operation.to_bytes().expect("within bounds").into()
    });
    ordered.expect("it orders");
    dir
}

fn tables(dir: &Path) -> Box<dyn Tables> {
    let options = TableOptions {
        tables: TABLES.map(str::to_owned).to_vec(),
        cache_bytes: 1 << 20,
    };
    open_tables(&dir.join("data/tables"), "redb", &options).expect("tables")
}

/// Where the tables in `dir` stand.
fn standing(dir: &Path) -> Standing {
    let tables = tables(dir);
    let row = tables
        .get(META, STANDING)
        .expect("readable")
        .expect("a row");
    codec::decode(&row, codec::ENCODED_BYTES_MAX).expect("a standing")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_start_reads_the_newest_log_files_and_names_damage_in_others_when_it_matters() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = history(folder.path());
    let before = standing(&dir);
    assert!(
        before.settled > 2 && before.settled <= before.saved.0,
        "{before:?}"
    );
    assert!(before.parts.views.present >= ViewId(3));
    let path = dir.join("data/log/00000001.log");
    let whole = fs::read(&path).expect("a log file");
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    fs::write(&path, altered).expect("written");

    let node = start(folder.path(), 0, None).expect("what it reads is whole");
    let answer = put(&node, 1, 1, Promise::Durable).await;
    assert!(executed(&answer).height > before.parts.tip.height);
    let handle = node.handle();
    let page = Page { first: 0, limit: 9 };
    let mut refused = Vec::new();
    for height in 1..=BLOCKS {
        let shown = Host::block(&handle, Height(height), page).await;
        refused.extend(shown.err().map(|error| error.to_string()));
    }
    assert!(
        matches!(&refused[..], [one] if one.contains("cannot be read")),
        "{refused:?}"
    );
    drop(handle);
    node.shutdown().expect("a clean end");
    let found = verdict_in(dir.clone());
    assert!(
        !found.ok && format!("{:?}", found.faults).contains("00000001.log"),
        "{found:?}"
    );

    let tables = dir.join("data/tables");
    fs::rename(&tables, dir.join("data/away")).expect("moved");
    let refused = start(folder.path(), 0, None)
        .err()
        .expect("everything is read");
    assert!(refused.to_string().contains("00000001.log"), "{refused}");
    fs::remove_dir_all(&tables).expect("removed");
    fs::rename(dir.join("data/away"), &tables).expect("moved");

    fs::write(&path, whole).expect("written");
    let node = start(folder.path(), 0, None).expect("it starts");
    let again = put(&node, 1, 1, Promise::Durable).await;
    assert_eq!(executed(&again), executed(&answer));
    node.shutdown().expect("a clean end");
    let verdict = verified_in(dir.clone());
    assert!(verdict.height >= executed(&answer).height);
}

#[test]
fn a_log_that_lost_its_newest_files_is_refused_though_the_tables_name_a_later_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = history(folder.path());
    let settled = standing(&dir).settled;
    for number in settled.. {
        let path = dir.join(format!("data/log/{number:08}.log"));
        if fs::remove_file(path).is_err() {
            break;
        }
    }
    let refused = start(folder.path(), 0, None).err().expect("votes are lost");
    assert!(
        refused.to_string().contains("wiped") || refused.to_string().contains("lost"),
        "{refused}"
    );
}

#[test]
fn a_log_that_lost_its_oldest_files_is_refused_where_a_start_needs_one_of_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = history(folder.path());
    let mut before = standing(&dir);
    // As if what counts were not saved again in the newest file yet.
    before.settled = before.saved.0 - 1;
    let mut batch = Batch::new();
    batch.put(META, STANDING, codec::encode(&before));
    let tables = tables(&dir);
    tables.commit(batch).expect("committed");
    tables.flush().expect("flushed");
    drop(tables);
    for number in 1..=before.settled {
        fs::remove_file(dir.join(format!("data/log/{number:08}.log"))).expect("a log file");
    }
    let refused = start(folder.path(), 0, None).err().expect("votes are lost");
    let said = format!("{:08}.log is missing", before.settled);
    assert!(refused.to_string().contains(&said), "{refused}");
}

#[test]
fn a_damaged_block_that_opened_the_view_is_named_with_file_and_offset() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = history_in_views(folder.path(), 200);
    let before = standing(&dir);
    let height = before.parts.reconfiguration.height;
    let row = tables(&dir).get(PLACES, &height.0.to_be_bytes());
    let row = row.expect("readable").expect("nothing was pruned");
    let place = index::place(&row).expect("a position");
    assert!(place.file < before.settled, "an older file: {place:?}");
    let path = dir.join(format!("data/log/{:08}.log", place.file));
    let mut bytes = fs::read(&path).expect("a log file");
    bytes[place.offset as usize + 40] ^= 1;
    fs::write(&path, bytes).expect("written");
    let refused = start(folder.path(), 0, None)
        .err()
        .expect("its view is unknown");
    let (refused, file) = (refused.to_string(), format!("{:08}.log", place.file));
    assert!(
        refused.contains(&file) && refused.contains("offset"),
        "{refused}"
    );
}
