//! Members of one process on loopback whose committees rotate.
//!
//! Source: settled rules of views; SmartChain, forgotten keys. In: temporary folders, free ports.
//! Out: verdicts. Holds: no port is named. Elsewhere: hand-over under faults (`sim`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cluster::{PATIENCE, executed, prepare_as, put, start};
use crate::api::BootstrapStage;
use crate::blocks::{Parameters, ViewRules};
use crate::bootstrap::Pin;
use crate::committee::ViewId;
use crate::crypto::Digest;
use crate::node::error::RootError;
use crate::node::init::member_dir;
use crate::node::progress::Progress;
use crate::node::{Node, NodeError, Options, Promise, keys};

fn rotating() -> Parameters {
    Parameters {
        views: ViewRules {
            rotation_blocks: 8,
            ..ViewRules::default()
        },
        ..Parameters::default()
    }
}

/// Files below `dir` that hold `bytes`.
fn files_with(dir: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if fs::read(&path)
            .expect("readable")
            .windows(bytes.len())
            .any(|w| w == bytes)
        {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Files below `dir` that hold this seed, as bytes or as hex.
fn files_with_secret(dir: &Path, seed: &[u8; 32]) -> Vec<String> {
    let mut found = files_with(dir, seed);
    found.extend(files_with(dir, hex::encode(seed).as_bytes()));
    found
}

/// Puts at one member after the other until every one stands in `view` or beyond.
async fn put_until(nodes: &[Node], view: ViewId, sequence: &mut u64) {
    let reach = async {
        let stands = |node: &Node| ViewId(node.handle().overview().view) >= view;
        while !nodes.iter().all(stands) {
            *sequence += 1;
            let node = &nodes[usize::try_from(*sequence).expect("small") % nodes.len()];
            let done = put(node, *sequence, 1, Promise::Durable).await;
            // Nothing is lost and nothing is doubled: the ledger's own sequence has no gap.
            assert_eq!(executed(&done).sequence, *sequence - 1);
        }
    };
    tokio::time::timeout(PATIENCE, reach)
        .await
        .expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn committees_rotate_under_load_and_their_old_secrets_are_in_no_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (sockets, _) = prepare_as(folder.path(), (4, 0), rotating());
    let dirs: Vec<_> = (0..4)
        .map(|number| member_dir(folder.path(), number))
        .collect();
    let seed = |dir: &PathBuf| *keys::consensus(dir).expect("a key").secret.seed();
    let founders: Vec<_> = dirs.iter().map(seed).collect();
    for (dir, seed) in dirs.iter().zip(&founders) {
        assert_eq!(
            files_with_secret(dir, seed).len(),
            1,
            "the scan finds what is there"
        );
    }
    let started = sockets.into_iter().enumerate();
    let mut nodes: Vec<Node> = started
        .map(|(number, socket)| start(folder.path(), number, Some(socket)).expect("it starts"))
        .collect();
    let mut sequence = 0;
    put_until(&nodes, ViewId(2), &mut sequence).await;
    let between: Vec<_> = dirs.iter().map(seed).collect();
    nodes
        .pop()
        .expect("four run")
        .shutdown()
        .expect("a clean end");
    let three = ViewId(nodes[0].handle().overview().view + 2);
    put_until(&nodes, three, &mut sequence).await;
    nodes.push(start(folder.path(), 3, None).expect("it starts again"));
    let five = ViewId(nodes[0].handle().overview().view + 2);
    put_until(&nodes, five, &mut sequence).await;
    for node in nodes {
        node.shutdown().expect("a clean end");
    }
    for old in [&founders, &between] {
        for (dir, seed) in dirs.iter().zip(old) {
            assert_eq!(files_with_secret(dir, seed), [""; 0]);
        }
    }
}

/// The member of `number` starts under `pin`; told of by `progress`.
async fn start_under(
    folder: &Path,
    number: usize,
    pin: Pin,
    progress: &Arc<Progress>,
) -> Result<Node, NodeError> {
    let mut options = Options::load(&member_dir(folder, number)).expect("settings");
    options.config.pin = Some(pin);
    let progress = Arc::clone(progress);
    let starting = tokio::task::spawn_blocking(move || Node::start_under(options, &progress));
    let started = tokio::time::timeout(PATIENCE, starting);
    started.await.expect("in time").expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_binds_a_member_without_a_log_one_with_a_log_and_one_that_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (sockets, _) = prepare_as(folder.path(), (4, 0), rotating());
    let nodes: Vec<Node> = (0..3)
        .zip(sockets)
        .map(|(number, socket)| start(folder.path(), number, Some(socket)).expect("it starts"))
        .collect();
    let mut sequence = 0;
    put_until(&nodes, ViewId(2), &mut sequence).await;
    let tip = nodes[0].handle().tip().header;
    let digest = tip.reconfiguration.digest;
    let view = tip.view;
    let right = Pin { view, digest };
    let other = |view| Pin {
        view,
        digest: Digest::ZERO,
    };

    // Without a log it comes by the view chain, or not at all.
    let progress = Arc::new(Progress::default());
    let starting = start_under(folder.path(), 3, other(view), &progress);
    let puts = async {
        while progress.look().stage != BootstrapStage::Walk {
            sequence += 1;
            put(&nodes[0], sequence, 1, Promise::Durable).await;
        }
        progress.end();
    };
    let (refused, ()) = tokio::join!(starting, puts);
    assert!(matches!(refused.err(), Some(NodeError::Ended)));
    let views = member_dir(folder.path(), 3).join("data/views");
    let held = || fs::read_dir(&views).map_or(0, Iterator::count);
    assert_eq!(held(), 0);
    let begin = |pin| {
        let progress = Arc::new(Progress::default());
        let folder = folder.path().to_owned();
        async move { start_under(&folder, 3, pin, &progress).await }
    };
    let node = begin(right).await.expect("it starts");
    assert!(held() as u64 >= view.0, "it has come by the view chain");
    while ViewId(node.handle().overview().view) < view {
        sequence += 1;
        put(&nodes[0], sequence, 1, Promise::Durable).await;
    }
    node.shutdown().expect("a clean end");

    // With one, it is looked at before anything is said.
    let refused = begin(other(view)).await.err();
    let refused = refused.expect("its log follows another chain").to_string();
    assert_eq!(refused, RootError::OwnLog { view }.to_string());

    // The pinned view may begin while it runs.
    let later = ViewId(nodes[0].handle().overview().view + 2);
    let node = begin(other(later)).await.expect("it starts");
    let ended = tokio::time::timeout(PATIENCE, async {
        put_until(&nodes, later, &mut sequence).await;
        node.wait().await;
    });
    ended.await.expect("it ends");
    let failed = node.shutdown().expect_err("the pin names another block");
    assert_eq!(
        failed.to_string(),
        RootError::OwnLog { view: later }.to_string()
    );
    for node in nodes {
        node.shutdown().expect("a clean end");
    }
}
