//! Checkpoints of members on loopback: taken while blocks go on, pruned, started from, proved.
//!
//! Source: design, 'checkpoints and bootstrap'. In: temporary folders, free ports. Out: verdicts.
//! Holds: no port is named. Elsewhere: the same under faults (`sim`).

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use super::cluster::{PATIENCE, executed, prepare_as, put_bytes, start, start_in, verified_in};
use crate::api::Host;
use crate::blocks::{CheckpointRules, Parameters};
use crate::committee::Height;
use crate::node::init::{member_dir, observer_dir};
use crate::node::{Node, Promise};

/// A value of this size fills log files soon.
const VALUE: usize = 100 << 10;

fn parameters() -> Parameters {
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
async fn fill(nodes: &[Node], dirs: &[std::path::PathBuf], from: u64) -> u64 {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_checkpoint_prunes_and_a_member_starts_behind_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = prepare_as(folder.path(), (1, 0), parameters()).0.pop();
    let dir = member_dir(folder.path(), 0);
    let nodes = [start(folder.path(), 0, socket).expect("it starts")];
    let last = fill(&nodes, std::slice::from_ref(&dir), 1).await;
    let answer = put_bytes(&nodes[0], last, &vec![last as u8; VALUE], Promise::Durable).await;
    let answer = executed(&answer).clone();
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
    tokio::time::sleep(Duration::ZERO).await;
    for node in nodes {
        node.shutdown().expect("a clean end");
    }
    for dir in &dirs {
        verified_in(dir.clone());
    }
    let snapshots = dirs[2].join("data/snapshots");
    let files = fs::read_dir(&snapshots).expect("snapshots").flatten();
    for file in files.map(|file| file.path()) {
        let whole = fs::read(&file).expect("readable");
        let mut altered = whole.clone();
        let middle = altered.len() / 2;
        altered[middle] ^= 4;
        fs::write(&file, altered).expect("written");
        let found = super::cluster::verdict_in(dirs[2].clone());
        assert!(!found.ok, "{} is altered", file.display());
        fs::write(&file, whole).expect("written");
    }
    verified_in(dirs[2].clone());
}

/// Starts the member in `dir`, once more where it has to fetch a checkpoint first.
async fn start_behind(dir: &Path, socket: Option<TcpListener>) -> Node {
    let node = start_in(dir, socket).expect("it starts");
    let waited = tokio::time::timeout(PATIENCE, node.wait());
    waited
        .await
        .expect("it finds in time that it is too far behind");
    assert!(node.restarts(), "blocks that it lacks are pruned");
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
    for dir in dirs.into_iter().chain([dir, lagging]) {
        verified_in(dir);
    }
}
