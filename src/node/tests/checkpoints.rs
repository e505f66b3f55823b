//! Checkpoints of members on loopback: taken while blocks go on, pruned, started from, proved.
//!
//! Source: design, 'checkpoints and bootstrap'. In: temporary folders, free ports. Out: verdicts.
//! Holds: no port is named. Elsewhere: the same under faults (`sim`).

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use futures_util::StreamExt;

use super::cluster::{
    PATIENCE, client, executed, prepare_as, put_bytes, start, start_in, verified_in,
};
use crate::api::{self, Host, Refusal};
use crate::application::kv::Operation;
use crate::blocks::proof::Proof;
use crate::blocks::{
    CheckpointRules, Header, Link, Parameters, SignedGroup, Transaction, ViewRules, codec,
};
use crate::committee::{Height, Taken};
use crate::consortium::Change;
use crate::crypto::{Digest, Verifier};
use crate::node::config::CONFIG_FILE;
use crate::node::init::{member_dir, observer_dir};
use crate::node::recovery::TABLES;
use crate::node::shelf::Shelf;
use crate::node::tiles;
use crate::node::{
    Config, Handle, Node, Promise, SnapshotsVerdict, VerifyDir, read_genesis, verify_snapshots,
};
use crate::storage::{Direction, Range, TableOptions, open_tables, write_sealed};

/// A value of this size fills log files soon.
const VALUE: usize = 100 << 10;

pub(super) fn parameters() -> Parameters {
    Parameters {
        checkpoints: CheckpointRules {
            every_blocks: 16,
            segment_bytes: 8 << 10,
            ..CheckpointRules::default()
        },
        ..Parameters::default()
    }
}

/// The numbers of the log files of a member.
fn log_files(dir: &Path) -> Vec<u64> {
    let entries = fs::read_dir(dir.join("data/log")).expect("a log").flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut numbers: Vec<u64> = names
        .filter_map(|name| name.strip_suffix(".log")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Writes until the log of every member begins at a later file.
pub(super) async fn fill(nodes: &[Node], dirs: &[std::path::PathBuf], from: u64) -> u64 {
    for sequence in from.. {
        let node = &nodes[usize::try_from(sequence).expect("small") % nodes.len()];
        let value = vec![sequence as u8; VALUE];
        put_bytes(node, sequence, &value, Promise::Durable).await;
        let is_pruned = |dir: &std::path::PathBuf| log_files(dir)[0] > 1;
        if sequence % 16 == 0 && dirs.iter().all(is_pruned) {
            return sequence;
        }
        assert!(sequence < from + 2000, "nothing is pruned");
    }
    unreachable!("the loop has no end")
}

/// What the member says of what it keeps, and of what it gave up.
async fn told(node: &Node) {
    let inner = node.handle();
    let handle: &dyn Host = &inner;
    let held = handle.checkpoints().await.expect("a list");
    let first = held.retained.first_block;
    assert!(first > Height(1), "{held:?}");
    let entry = held.checkpoints.iter().find(|entry| entry.certified);
    let entry = entry.expect("a certified snapshot");
    assert!(entry.block > Some(entry.height));
    let page = api::Page { first: 1, limit: 3 };
    let snapshot = handle
        .checkpoint(entry.height, page)
        .await
        .expect("it is here");
    assert_eq!((snapshot.entry, snapshot.page.len()), (*entry, 3));
    let proof = snapshot.proof.expect("it is certified");
    let header = hex::decode(&proof.headers[0]).expect("hex");
    let header: Header = codec::decode(&header, header.len()).expect("a header");
    assert_eq!(Some(header.height), entry.block);
    let elsewhere = handle.checkpoint(Height(3), page).await;
    assert!(matches!(elsewhere, Err(Refusal::NotFound { .. })));
    told_of_what_went(handle).await;
    told_in_numbers(handle);
    told_of_divergence(&inner, entry.height).await;
}

/// The number that a refusal says is the lowest.
fn lowest(refused: &str, before: &str) -> u64 {
    let rest = refused.strip_prefix(before).expect(refused);
    let number = rest.strip_suffix(" is the lowest that is kept");
    number.expect(refused).parse().expect("a number")
}

/// What was pruned is refused by name, with the lowest that is kept.
async fn told_of_what_went(handle: &dyn Host) {
    let page = api::Page { first: 0, limit: 9 };
    let refused = handle.block(Height(1), page).await;
    let refused = refused.expect_err("it is gone").to_string();
    let lowest = lowest(&refused, "block 1 was pruned: block ");
    let block = handle.block(Height(lowest), page).await;
    block.expect("it is here");
    let future = handle.block(Height(1 << 40), page).await;
    assert!(matches!(future, Err(Refusal::NotFound { .. })));
    let refused = handle.events(0).await.err().expect("it is gone");
    let lowest = self::lowest(&refused.to_string(), "event 0 was pruned: event ");
    let mut events = handle.events(lowest).await.expect("it is here");
    let next = events.next().await.expect("an event");
    assert_eq!(next.expect("no refusal").sequence, lowest);

    // What is remembered is told though its block is gone, and cannot be proved any more.
    let client = client().public();
    let found = handle
        .transaction(client, 1, false)
        .await
        .expect("remembered");
    assert_eq!((found.submitted.block, found.submitted.sequence), (None, 1));
    let refused = handle.transaction(client, 1, true).await;
    assert!(
        matches!(refused, Err(Refusal::Pruned { .. })),
        "{refused:?}"
    );
}

fn told_in_numbers(handle: &dyn Host) {
    let metrics = handle.metrics();
    for name in [
        "checkpoint_height",
        "snapshot_seconds",
        "snapshot_bytes",
        "retained_bytes",
        "first_block",
    ] {
        let line = format!("consortium_{name} ");
        let line = metrics
            .lines()
            .find_map(|text| text.strip_prefix(&line[..]));
        let value: f64 = line.expect(name).parse().expect("a number");
        assert!(value > 0.0, "{name}");
    }
}

/// A snapshot that the others contradict is told with what to do.
async fn told_of_divergence(handle: &Handle, height: Height) {
    let ours = Box::new(Taken::default());
    let certified = Box::new(Taken {
        height,
        state: Digest([1; 32]),
        ..Taken::default()
    });
    let change = Change::Diverged { ours, certified };
    handle.parts.watch.changed(&change);
    let checks = Host::ready(handle).await.expect("checks");
    let halted = checks.iter().find(|check| check.name == "halted");
    let halted = halted.expect("it is checked");
    let says = format!("the state of our snapshot of height {height}");
    assert!(!halted.ok && halted.detail.starts_with(&says), "{halted:?}");
    let note = Host::status(handle).await.expect("it answers").note;
    assert!(note.is_some_and(|note| note.contains("consortium rejoin")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_checkpoint_prunes_and_a_member_starts_behind_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = prepare_as(folder.path(), (1, 0), parameters()).0.pop();
    let dir = member_dir(folder.path(), 0);
    let nodes = [start(folder.path(), 0, socket).expect("it starts")];
    let last = fill(&nodes, std::slice::from_ref(&dir), 1).await;
    let answer = put_bytes(&nodes[0], last, &vec![last as u8; VALUE], Promise::Durable).await;
    let answer = executed(&answer).clone();
    told(&nodes[0]).await;
    let [node] = nodes;
    assert!(verified_in(dir.clone()).height > Height(0), "while it runs");
    node.shutdown().expect("a clean end");
    let verdict = verified_in(dir.clone());
    assert!(
        verdict.notes.iter().any(|note| note.contains("pruned")),
        "{:?}",
        verdict.notes
    );

    for how in ["as it was", "without tables"] {
        if how == "without tables" {
            fs::remove_dir_all(dir.join("data/tables")).expect("removed");
        }
        let node = start(folder.path(), 0, None).expect(how);
        let again = put_bytes(&node, last, &vec![last as u8; VALUE], Promise::Durable).await;
        assert_eq!(
            executed(&again),
            &answer,
            "{how}: asked again it gives the same answer"
        );
        node.shutdown().expect("a clean end");
        let verdict = verified_in(dir.clone());
        assert!(verdict.height >= answer.height, "{how}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn four_members_take_the_same_checkpoints_and_a_flipped_bit_in_one_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (sockets, _) = prepare_as(folder.path(), (4, 0), parameters());
    let started = sockets.into_iter().enumerate();
    let nodes: Vec<Node> = started
        .map(|(number, socket)| start(folder.path(), number, Some(socket)).expect("it starts"))
        .collect();
    let dirs: Vec<_> = (0..4)
        .map(|number| member_dir(folder.path(), number))
        .collect();
    tokio::time::timeout(4 * PATIENCE, fill(&nodes, &dirs, 1))
        .await
        .expect("in time");
    for node in nodes {
        node.shutdown().expect("a clean end");
    }
    for dir in &dirs {
        verified_in(dir.clone());
    }
    let snapshots = dirs[2].join("data/snapshots");
    let files = fs::read_dir(&snapshots).expect("snapshots").flatten();
    let mut flipped = 0;
    for file in files.map(|file| file.path()) {
        let whole = fs::read(&file).expect("readable");
        let mut altered = whole.clone();
        let Some(place) = place_of_use(&dirs[2], &whole) else {
            continue; // All that it has belongs to snapshots that were given up.
        };
        altered[place] ^= 4;
        flipped += 1;
        fs::write(&file, altered).expect("written");
        let found = super::cluster::verdict_in(dirs[2].clone());
        assert!(!found.ok, "{} is altered", file.display());
        let found = snapshots_in(&dirs[2]);
        assert!(!found.ok, "{} is altered", file.display());
        fs::write(&file, whole).expect("written");
    }
    assert!(flipped >= 3, "segments, a manifest and its proof");
    verified_in(dirs[2].clone());
    let found = snapshots_in(&dirs[2]);
    assert!(found.ok && !found.checkpoints.is_empty(), "{found:?}");
}

/// What the snapshots of a folder are found to be.
/// A byte of a file of snapshots that matters: of a pack, one in a segment that a snapshot has.
fn place_of_use(dir: &Path, file: &[u8]) -> Option<usize> {
    if !file.starts_with(b"consortium pack") {
        return Some(file.len() / 2);
    }
    let shelf = Shelf::read_only(&dir.join("data")).expect("readable");
    let shelf = shelf.expect("there are snapshots");
    let held = shelf.held();
    let mut leaves = held.iter().flat_map(|held| held.manifest.leaves());
    leaves.find_map(|leaf| {
        let segment = shelf.segment(leaf).expect("it is whole");
        let mut windows = file.windows(segment.len());
        windows.position(|window| window == segment)
    })
}

fn snapshots_in(dir: &Path) -> SnapshotsVerdict {
    let config = Config::load(dir).expect("settings");
    let options = VerifyDir {
        dir: dir.into(),
        genesis: read_genesis(dir, &config).expect("a document"),
        progress: &mut |done, total| assert!(done <= total),
    };
    verify_snapshots(options).expect("it can be read")
}

/// Starts the member in `dir`, once more where it has to fetch a checkpoint first.
async fn start_behind(dir: &Path, socket: Option<TcpListener>) -> Node {
    let node = start_in(dir, socket).expect("it starts");
    let waited = tokio::time::timeout(PATIENCE, node.wait());
    waited
        .await
        .expect("it finds in time that it is too far behind");
    assert!(node.restarts(), "blocks that it lacks are pruned, or many");
    node.shutdown().expect("a clean end");
    start_in(dir, None).expect("it starts from a checkpoint")
}

async fn follows(node: &Node, count: u64) {
    let mut grown = node.handle().executed();
    let follows = tokio::time::timeout(PATIENCE, grown.wait_for(|have| *have >= count));
    follows.await.expect("in time").expect("it runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn newcomers_and_who_was_away_for_long_start_from_a_checkpoint() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (sockets, mut watching) = prepare_as(folder.path(), (4, 1), parameters());
    let started = sockets.into_iter().enumerate();
    let mut nodes: Vec<Node> = started
        .map(|(number, socket)| start(folder.path(), number, Some(socket)).expect("it starts"))
        .collect();
    let away = nodes.pop().expect("four run");
    put_bytes(&nodes[0], 1, b"early", Promise::Durable).await;
    away.shutdown().expect("a clean end");
    let dirs: Vec<_> = (0..3)
        .map(|number| member_dir(folder.path(), number))
        .collect();
    let last = fill(&nodes, &dirs, 2).await;

    let dir = observer_dir(folder.path(), 0);
    let observer = start_behind(&dir, watching.pop()).await;
    follows(&observer, last).await;
    let lagging = member_dir(folder.path(), 3);
    let back = start_behind(&lagging, None).await;
    follows(&back, last).await;

    nodes.push(back);
    for sequence in last + 1..last + 9 {
        put_bytes(&nodes[3], sequence, b"late", Promise::Durable).await;
    }
    let value = nodes[3].handle().value(b"key".to_vec().into(), true).await;
    assert_eq!(value.expect("certified").value.as_deref(), Some("late"));
    follows(&observer, last + 8).await;
    observer.shutdown().expect("a clean end");
    for node in nodes {
        node.shutdown().expect("a clean end");
    }
    for dir in dirs {
        verified_in(dir);
    }
    for dir in [dir, lagging] {
        super::pruned::rows_are_compared(&dir, true);
    }
}

/// Three members that keep all blocks, of which there are many more bytes than in the state, and a
/// fourth that was away meanwhile; and the last sequence.
async fn far_behind(folder: &Path, keeps: usize) -> (Vec<Node>, u64) {
    let (sockets, _) = prepare_as(folder, (4, 0), parameters());
    for number in 0..keeps {
        let dir = member_dir(folder, number);
        let mut config = Config::load(&dir).expect("settings");
        config.resources.prune = false;
        fs::write(dir.join(CONFIG_FILE), config.to_toml()).expect("written");
    }
    let started = sockets.into_iter().enumerate();
    let mut nodes: Vec<Node> = started
        .map(|(number, socket)| start(folder, number, Some(socket)).expect("it starts"))
        .collect();
    let away = nodes.pop().expect("four run");
    put_bytes(&nodes[0], 1, b"early", Promise::Durable).await;
    away.shutdown().expect("a clean end");
    let is_long = |number| log_files(&member_dir(folder, number)).len() > 4;
    let mut last = 1;
    while !(0..3).all(is_long) {
        last += 1;
        let node = &nodes[usize::try_from(last).expect("small") % nodes.len()];
        put_bytes(node, last, &vec![last as u8; VALUE], Promise::Durable).await;
    }
    (nodes, last)
}

async fn ends_well(folder: &Path, nodes: Vec<Node>) {
    for node in nodes {
        node.shutdown().expect("a clean end");
    }
    for number in 0..4 {
        verified_in(member_dir(folder, number));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_was_away_for_long_takes_the_checkpoint_where_blocks_are_the_longer_way() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut nodes, last) = far_behind(folder.path(), 3).await;
    let back = start_behind(&member_dir(folder.path(), 3), None).await;
    follows(&back, last).await;
    for number in 0..3 {
        let dir = member_dir(folder.path(), number);
        assert_eq!(log_files(&dir)[0], 1, "nothing was pruned");
        let shelf = Shelf::read_only(&dir.join("data")).expect("readable");
        let held = shelf.expect("there are snapshots").certified();
        assert!((1..=2).contains(&held.len()), "keep_checkpoints is 2");
    }
    nodes.push(back);
    ends_well(folder.path(), nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_keeps_all_blocks_takes_them_though_a_checkpoint_is_shorter() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut nodes, last) = far_behind(folder.path(), 4).await;
    let back = start(folder.path(), 3, None).expect("it starts");
    follows(&back, last).await;
    assert!(!back.restarts());
    let first = back.handle().block(Height(1)).expect("a disk that reads");
    assert!(first.is_some(), "it keeps all of them");
    nodes.push(back);
    ends_well(folder.path(), nodes).await;
}

/// Starts a member of a ledger of its own that awaits `link`, and says why it does not.
fn start_awaiting(folder: &Path, link: Link) -> Result<Node, String> {
    let data = member_dir(folder, 0).join("data");
    let written = write_sealed(&data.join("bootstrap"), "anchor", &codec::encode(&link));
    written.expect("written");
    start(folder, 0, None).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_block_that_a_quorum_named_is_compared_in_a_later_life_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path();
    let socket = prepare_as(dir, (1, 0), Parameters::default()).0.pop();
    let node = start(dir, 0, socket).expect("it starts");
    put_bytes(&node, 1, b"early", Promise::Durable).await;
    let block = node.handle().block(Height(1)).expect("a disk that reads");
    let (height, digest) = (Height(1), block.expect("it is here").header.digest());
    node.shutdown().expect("a clean end");
    let anchor = member_dir(dir, 0).join("data/bootstrap/anchor");

    // One that it came to before.
    let node = start_awaiting(dir, Link { height, digest }).expect("it is that block");
    assert!(!anchor.exists(), "there is nothing to wait for");
    node.shutdown().expect("a clean end");
    let other = Digest([7; 32]);
    let why = start_awaiting(
        dir,
        Link {
            height,
            digest: other,
        },
    )
    .err();
    let why = why.expect("another block is there");
    assert!(
        why.contains(&format!("block 1 is {digest}, a quorum")),
        "{why}"
    );
    assert!(anchor.exists(), "the next start compares again");

    // One that it has not come to: it is compared when it is applied.
    let tip = Link {
        height: Height(1 << 40),
        digest: other,
    };
    let node = start_awaiting(dir, tip).expect("it may still come");
    let height = node.handle().tip().header.height;
    assert!(anchor.exists());
    node.shutdown().expect("a clean end");
    let next = Link {
        height: height.next(),
        digest: other,
    };
    let node = start_awaiting(dir, next).expect("it may still come");
    let ended = tokio::time::timeout(PATIENCE, async {
        let put = put_bytes(&node, 2, b"late", Promise::Ordered);
        tokio::select! {
            () = node.wait() => {}
            () = async { drop(put.await); std::future::pending().await } => {}
        }
    });
    ended.await.expect("it finds out in time");
    let why = node
        .shutdown()
        .expect_err("it is another chain")
        .to_string();
    assert!(
        why.contains(&format!("a quorum of its view named {other}")),
        "{why}"
    );
}

/// Hashes of leaves in the tables of a member that has ended, by tile.
fn tiles_in(dir: &Path) -> Vec<u64> {
    let options = TableOptions {
        tables: TABLES.map(str::to_owned).to_vec(),
        cache_bytes: 1 << 20,
    };
    let tables = open_tables(&dir.join("data/tables"), "redb", &options).expect("tables");
    let range = Range::between(&tiles::key(0, 0), &tiles::key(1, 0));
    let rows = tables.scan(tiles::TILES, &range, Direction::Forward, usize::MAX);
    let rows = rows.expect("rows").into_iter();
    let index = |key: Vec<u8>| u64::from_be_bytes(key[1..].try_into().expect("a key"));
    rows.map(|(key, _)| index(key)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn receipts_below_a_checkpoint_go_and_those_above_are_proved_as_before() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = prepare_as(folder.path(), (1, 0), parameters()).0.pop();
    let dir = member_dir(folder.path(), 0);
    let node = start(folder.path(), 0, socket).expect("it starts");
    let handle = node.handle();
    let chain = handle.genesis().chain();
    for first in [1, 257, 513] {
        let transactions: Vec<Transaction> = (first..first + 256)
            .map(|sequence| Transaction {
                sequence,
                expiry: Height(1_000),
                operation: Operation::Put {
                    key: b"many",
                    value: &[1],
                }
                .to_bytes()
                .expect("within bounds")
                .into(),
            })
            .collect();
        let group = SignedGroup::sign(&chain, &client(), &transactions);
        let settled = handle.submit(group, Promise::Durable).await;
        settled.expect("admitted");
    }
    let mut last = 1_000;
    let lowest = |held: api::Checkpoints| held.retained.first_block;
    while lowest(Host::checkpoints(&handle).await.expect("a list")) < Height(20) {
        last += 1;
        put_bytes(&node, last, &[1], Promise::Durable).await;
        assert!(last < 2_000, "nothing is pruned");
    }
    let proved = async |handle: &Handle| {
        let found = Host::transaction(handle, client().public(), last, true).await;
        let proof = found.expect("it is kept").proof.expect("asked for");
        let Proof::Transaction(proof) = proof else {
            panic!("a proof of a transaction was asked for");
        };
        let verified = proof.verify(handle.genesis(), &Verifier::ed25519());
        verified.expect("it holds");
        let gone = Host::transaction(handle, client().public(), 1, true).await;
        assert!(matches!(gone, Err(Refusal::Pruned { .. })), "{gone:?}");
    };
    proved(&handle).await;
    drop(handle);
    node.shutdown().expect("a clean end");
    assert_eq!(tiles_in(&dir), [3], "three tiles of 256 receipts are gone");
    verified_in(dir.clone());

    let node = start(folder.path(), 0, None).expect("it starts");
    proved(&node.handle()).await;
    node.shutdown().expect("a clean end");

    fs::remove_dir_all(dir.join("data/tables")).expect("removed");
    let node = start(folder.path(), 0, None).expect("it starts from a snapshot");
    last += 1;
    put_bytes(&node, last, &[1], Promise::Durable).await;
    node.shutdown().expect("a clean end");
    verified_in(dir.clone());
}

/// The lowest height of a row of `table` in the tables of a member that has ended.
fn lowest_row(dir: &Path, table: &str) -> u64 {
    let options = TableOptions {
        tables: TABLES.map(str::to_owned).to_vec(),
        cache_bytes: 1 << 20,
    };
    let tables = open_tables(&dir.join("data/tables"), "redb", &options).expect("tables");
    let rows = tables.scan(table, &Range::all(), Direction::Forward, 1);
    let (key, _) = rows.expect("readable").pop().expect("a row");
    u64::from_be_bytes(key[..].try_into().expect("a height"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_certificate_that_opened_the_view_outlives_its_block_and_is_no_damage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let parameters = Parameters {
        views: ViewRules {
            rotation_blocks: 100,
            assemble_blocks: 6,
            ..ViewRules::default()
        },
        checkpoints: CheckpointRules {
            every_blocks: 30,
            ..parameters().checkpoints
        },
        ..Parameters::default()
    };
    prepare_as(folder.path(), (1, 0), parameters);
    let dir = member_dir(folder.path(), 0);
    let mut node = start(folder.path(), 0, None).expect("it starts");
    let mut outlives = false;
    for sequence in 1..=186 {
        let value = vec![sequence as u8; VALUE];
        put_bytes(&node, sequence, &value, Promise::Durable).await;
        if sequence > 150 && sequence % 6 == 0 {
            node.shutdown().expect("a clean end");
            outlives |= lowest_row(&dir, "certificates") < lowest_row(&dir, "blocks");
            verified_in(dir.clone());
            node = start(folder.path(), 0, None).expect("it starts");
        }
    }
    node.shutdown().expect("a clean end");
    assert!(outlives, "the block that opened the view is pruned");
}
