//! Members of one process on loopback: they commit, are killed, and come back.
//!
//! Source: interface, `dev`. In: temporary folders, free ports. Out: verdicts.
//! Holds: no port is named. Elsewhere: processes (`cli`).

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;

use crate::api::{self, Host, Page, Wait};
use crate::blocks::proof::Proof;
use crate::blocks::{Parameters, SignedGroup, Transaction};
use crate::committee::Height;
use crate::consortium::Verdict;
use crate::crypto::{Digest, SecretKey, Verifier};
use crate::node::init::{self, Cluster};
use crate::node::{
    Config, Node, NodeError, Options, Promise, Resources, Settled, Settlement, Unusable,
};
use crate::node::{Verdict as Verified, VerifyDir, read_genesis, verify_dir};

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

fn free() -> (SocketAddr, TcpListener) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    (socket.local_addr().expect("it is bound"), socket)
}

/// Directories of `count` members, and a bound socket for each.
fn prepare(dir: &Path, count: usize) -> Vec<TcpListener> {
    prepare_with_observers(dir, count, 0).0
}

/// As [`prepare`], and members without a seat.
fn prepare_with_observers(
    dir: &Path,
    count: usize,
    observers: usize,
) -> (Vec<TcpListener>, Vec<TcpListener>) {
    prepare_as(dir, (count, observers), Parameters::default())
}

/// Directories of so many members and observers, and a bound socket for each.
pub(super) fn prepare_as(
    dir: &Path,
    (count, observers): (usize, usize),
    parameters: Parameters,
) -> (Vec<TcpListener>, Vec<TcpListener>) {
    let sockets: Vec<_> = (0..count).map(|_| free()).collect();
    let observers: Vec<_> = (0..observers).map(|_| free()).collect();
    let api = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        resources: Resources {
            log_file_mib: 8,
            verify_threads: 1,
            ..Resources::default()
        },
        ..Config::default()
    };
    let cluster = Cluster {
        name: "test".into(),
        addresses: sockets.iter().map(|(address, _)| (*address, api)).collect(),
        observers: observers
            .iter()
            .map(|(address, _)| (*address, api))
            .collect(),
        parameters,
        config,
    };
    init::cluster(dir, &cluster).expect("directories are made");
    let bound = |pairs: Vec<(SocketAddr, TcpListener)>| pairs.into_iter().map(|(_, s)| s).collect();
    (bound(sockets), bound(observers))
}

pub(super) fn start(
    dir: &Path,
    number: usize,
    socket: Option<TcpListener>,
) -> Result<Node, NodeError> {
    start_in(&init::member_dir(dir, number), socket)
}

pub(super) fn start_in(dir: &Path, socket: Option<TcpListener>) -> Result<Node, NodeError> {
    let mut options = Options::load(dir)?;
    options.p2p = socket;
    Node::start(options)
}

pub(super) fn client() -> SecretKey {
    SecretKey::from_seed([7; 32])
}

fn group(chain: &Digest, sequence: u64, value: &[u8]) -> SignedGroup {
    let operation = crate::application::kv::Operation::Put { key: b"key", value };
    let transaction = Transaction {
        sequence,
        expiry: Height(1_000),
        operation: operation.to_bytes().expect("a small operation").into(),
    };
    SignedGroup::sign(chain, &client(), &[transaction])
}

pub(super) async fn put(node: &Node, sequence: u64, value: u8, promise: Promise) -> Settlement {
    put_bytes(node, sequence, &[value], promise).await
}

pub(super) async fn put_bytes(
    node: &Node,
    sequence: u64,
    value: &[u8],
    promise: Promise,
) -> Settlement {
    let handle = node.handle();
    let group = group(&handle.genesis().chain(), sequence, value);
    let submitted = tokio::time::timeout(PATIENCE, handle.submit(group, promise));
    let settlement = submitted.await.expect("answered in time");
    settlement.expect("admitted")
}

pub(super) fn executed(settlement: &Settlement) -> &crate::consortium::Executed {
    match &settlement.transactions[..] {
        [(_, Settled::Answered(Verdict::Executed(e) | Verdict::Repeated(e), _))] => e,
        other => panic!("not executed: {other:?}"),
    }
}

/// Verifies the directory of member `number`, where nothing may be wrong.
fn verified(dir: &Path, number: usize) -> Verified {
    verified_in(init::member_dir(dir, number))
}

pub(super) fn verified_in(dir: PathBuf) -> Verified {
    let verdict = verdict_in(dir);
    assert_eq!(verdict.faults, [], "{:?}", verdict.notes);
    verdict
}

pub(super) fn verdict_in(dir: PathBuf) -> Verified {
    let config = Config::load(&dir).expect("its settings");
    let genesis = read_genesis(&dir, &config).expect("its document");
    let progress = &mut |_, _| {};
    let verdict = verify_dir(VerifyDir {
        dir,
        genesis,
        progress,
    });
    verdict.expect("it is readable")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_member_commits_and_restarts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = prepare(folder.path(), 1).pop();
    let node = start(folder.path(), 0, socket).expect("it starts");
    let first = put(&node, 1, 1, Promise::Durable).await;
    let first = executed(&first).clone();
    let before = node.handle().tip();
    node.shutdown().expect("a clean end");

    let node = start(folder.path(), 0, None).expect("it starts again");
    let after = node.handle().tip();
    assert!(after.header.height >= before.header.height);
    let again = put(&node, 1, 1, Promise::Durable).await;
    assert_eq!(
        executed(&again),
        &first,
        "asked again it gives the same answer"
    );
    let second = put(&node, 2, 2, Promise::Durable).await;
    assert!(second.certificate.is_some());
    assert_eq!(executed(&second).sequence, 1);
    let running = verified(folder.path(), 0);
    assert!(running.height >= Height(2) && running.notes[0].contains("process"));
    node.shutdown().expect("a clean end");
    let ended = verified(folder.path(), 0);
    assert!(ended.height >= running.height && ended.signatures >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn four_members_commit_and_one_comes_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sockets = prepare(folder.path(), 4);
    let started = sockets.into_iter().enumerate();
    let mut nodes: Vec<Node> = started
        .map(|(number, socket)| start(folder.path(), number, Some(socket)).expect("it starts"))
        .collect();
    for sequence in 1..=8 {
        let node = &nodes[usize::try_from(sequence).expect("small") % 4];
        let done = put(node, sequence, 1, Promise::Durable).await;
        assert_eq!(executed(&done).sequence, sequence - 1);
    }
    nodes
        .pop()
        .expect("four run")
        .shutdown()
        .expect("a clean end");
    for sequence in 9..=16 {
        put(&nodes[0], sequence, 2, Promise::Durable).await;
    }
    nodes.push(start(folder.path(), 3, None).expect("it starts again"));
    let mut grown = nodes[3].handle().executed();
    let caught_up = grown.wait_for(|count| *count >= 16);
    let caught_up = tokio::time::timeout(PATIENCE, caught_up).await;
    caught_up.expect("in time").expect("it runs");
    for node in nodes {
        node.shutdown().expect("a clean end");
    }
    for number in 0..4 {
        let verdict = verified(folder.path(), number);
        assert!(verdict.height > Height(0) && verdict.signatures > 16);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_observer_follows_serves_and_passes_submissions_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (sockets, mut watching) = prepare_with_observers(folder.path(), 4, 1);
    let started = sockets.into_iter().enumerate();
    let nodes: Vec<Node> = started
        .map(|(number, socket)| start(folder.path(), number, Some(socket)).expect("it starts"))
        .collect();
    put(&nodes[0], 1, 1, Promise::Durable).await;
    let dir = init::observer_dir(folder.path(), 0);
    let observer = start_in(&dir, watching.pop()).expect("it starts");
    let mut grown = observer.handle().executed();
    let follows = tokio::time::timeout(PATIENCE, grown.wait_for(|count| *count >= 1));
    follows.await.expect("in time").expect("it runs");

    let done = put(&observer, 2, 7, Promise::Durable).await;
    assert_eq!(executed(&done).sequence, 1);
    assert!(done.certificate.is_some(), "its answers are certified");
    let handle = observer.handle();
    let status = api::Host::status(&handle).await.expect("a status");
    assert_eq!(status.order.role, api::Role::Observer);
    let checks = api::Host::ready(&handle).await.expect("checks");
    assert!(checks.iter().all(|check| check.ok), "{checks:?}");
    let value = handle.value(b"key".to_vec().into(), true).await;
    assert_eq!(value.expect("certified").value, Some("07".to_owned()));

    observer.shutdown().expect("a clean end");
    put(&nodes[0], 3, 8, Promise::Durable).await;
    // It promises nothing, so it may lose what it had.
    std::fs::remove_dir_all(dir.join("data")).expect("wiped");
    let observer = start_in(&dir, None).expect("it starts again");
    let mut grown = observer.handle().executed();
    let follows = tokio::time::timeout(PATIENCE, grown.wait_for(|count| *count >= 3));
    follows.await.expect("in time").expect("it runs");
    observer.shutdown().expect("a clean end");
    for node in nodes {
        node.shutdown().expect("a clean end");
    }
    assert!(verified_in(dir).height > Height(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_has_a_seat_and_who_has_none_must_say_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    prepare_with_observers(folder.path(), 1, 1);
    let dirs = [
        init::member_dir(folder.path(), 0),
        init::observer_dir(folder.path(), 0),
    ];
    let errors = dirs.map(|dir| {
        let mut options = Options::load(&dir).expect("settings");
        options.config.observer = !options.config.observer;
        Node::start(options).err().expect("it must not start")
    });
    assert!(matches!(
        errors,
        [
            NodeError::Unusable(Unusable::Seated { .. }),
            NodeError::Unusable(Unusable::Stranger { .. })
        ]
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_timeout_that_no_batch_could_meet_is_refused_at_start_with_what_works() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    prepare_with_observers(folder.path(), 1, 0);
    let mut options = Options::load(&init::member_dir(folder.path(), 0)).expect("settings");
    options.config.timing.progress_timeout_least_ms = 15;
    options.config.timing.resend_ms = 5;
    let error = Node::start(options).err().expect("it must not start");
    let error = error.to_string();
    for part in ["member.toml", "progress_timeout_least_ms = 15", "at least "] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// A copy of a member's directory as a kill would leave it.
fn killed(folder: &Path, name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    let from = init::member_dir(folder, 0);
    copy_all(&from, &copy.path().join(name));
    copy
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("made");
    let mode = std::fs::metadata(from).expect("there").permissions();
    std::fs::set_permissions(to, mode).expect("chmod");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_acknowledged_survives_a_kill_with_and_without_tables() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = prepare(folder.path(), 1).pop();
    let node = start(folder.path(), 0, socket).expect("it starts");
    let mut before = Vec::new();
    for sequence in 1..=20 {
        let done = put(&node, sequence, 1, Promise::Durable).await;
        before.push(executed(&done).clone());
    }
    let copies = [
        ("as it was", killed(folder.path(), "member-0")),
        ("without tables", killed(folder.path(), "member-0")),
        ("with damaged tables", killed(folder.path(), "member-0")),
    ];
    let tip = node.handle().tip();
    node.shutdown().expect("a clean end");
    let tables = |copy: &tempfile::TempDir| copy.path().join("member-0/data/tables");
    std::fs::remove_dir_all(tables(&copies[1].1)).expect("removed");
    std::fs::write(tables(&copies[2].1).join("ENGINE"), "rubbish").expect("written");
    for (how, copy) in &copies {
        let node = start(copy.path(), 0, free_socket()).expect(how);
        let height = node.handle().tip().header.height;
        assert!(height.plus(2) >= tip.header.height, "{how}: at {height}");
        for (sequence, before) in (1..).zip(&before) {
            let again = put(&node, sequence, 1, Promise::Durable).await;
            assert_eq!(executed(&again), before, "{how}");
        }
        let more = put(&node, 21, 1, Promise::Durable).await;
        assert_eq!(executed(&more).sequence, 20, "{how}");
        node.shutdown().expect("a clean end");
    }
}

fn free_socket() -> Option<TcpListener> {
    Some(free().1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_door_answers_with_proofs_and_events() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = prepare(folder.path(), 1).pop();
    let node = start(folder.path(), 0, socket).expect("it starts");
    for sequence in 1..=5 {
        put(&node, sequence, 1, Promise::Durable).await;
    }
    let handle = node.handle();
    let genesis = handle.genesis().clone();
    let verifier = Verifier::ed25519();

    let found = handle.transaction(client().public(), 3, true).await;
    let found = found.expect("it is here");
    assert_eq!(found.submitted.persistence, Wait::Durable);
    let proof = found.proof.expect("asked for");
    match proof {
        Proof::Transaction(proof) => {
            let proved = proof.verify(&genesis, &verifier).expect("it holds");
            assert_eq!((proved.sequence, proved.transaction.sequence), (2, 3));
        }
        Proof::State(_) => panic!("a proof of a transaction was asked for"),
    }

    for (key, want) in [("key", Some("01".to_owned())), ("absent", None)] {
        let value = handle.value(key.as_bytes().to_vec().into(), true).await;
        let value = value.expect("a certified answer");
        assert_eq!(value.value, want, "{key}");
        match value.proof.expect("asked for") {
            Proof::State(proof) => {
                let root = proof.verify(&genesis, &verifier).expect("it holds");
                assert_eq!(Some(root.root), value.state_root);
            }
            Proof::Transaction(_) => panic!("a proof of the state was asked for"),
        }
    }

    let events = handle.events(1).await.expect("a stream");
    let events: Vec<_> = events.take(4).collect().await;
    let sequences = events
        .into_iter()
        .map(|event| event.expect("an event").sequence);
    assert_eq!(sequences.collect::<Vec<_>>(), [1, 2, 3, 4]);

    let height = found.submitted.height;
    let page = Page {
        first: 0,
        limit: 10,
    };
    let block = Host::block(&handle, height, page).await.expect("a block");
    assert_eq!(block.transactions.len(), 1);
    assert!(!block.signers.is_empty());
    let status = api::Host::status(&handle).await.expect("a status");
    assert!(status.tip.sequence >= 5);
    assert!(api::Host::metrics(&handle).contains("consortium_height"));
    node.shutdown().expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn directories_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sockets = prepare(folder.path(), 2);
    let (one, other) = (
        init::member_dir(folder.path(), 0),
        init::member_dir(folder.path(), 1),
    );
    let running = start(folder.path(), 0, sockets.into_iter().next()).expect("it starts");
    let error = start(folder.path(), 0, free_socket())
        .err()
        .expect("it runs already");
    assert!(error.to_string().contains("in use"), "{error}");

    let taken = running.p2p_addr();
    let mut options = Options::load(&other).expect("settings");
    options.config.listen_p2p = taken;
    let error = Node::start(options)
        .err()
        .expect("the port is taken")
        .to_string();
    assert!(error.contains(&taken.to_string()), "{error}");
    running.shutdown().expect("a clean end");

    std::fs::remove_dir_all(other.join("data")).expect("removed");
    copy_all(&one.join("data"), &other.join("data"));
    let error = start(folder.path(), 1, free_socket())
        .err()
        .expect("another's data");
    assert!(
        matches!(error, NodeError::Unusable(Unusable::OtherStore { .. })),
        "{error}"
    );

    let strangers = tempfile::tempdir().expect("a temporary folder");
    prepare(strangers.path(), 1);
    let document = strangers.path().join("genesis.json");
    std::fs::copy(document, one.join("genesis.json")).expect("copied");
    let error = start(folder.path(), 0, free_socket())
        .err()
        .expect("another chain");
    assert!(
        matches!(error, NodeError::Unusable(Unusable::Stranger { .. })),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_member_that_lost_its_log_does_not_vote_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = prepare(folder.path(), 1).pop();
    let node = start(folder.path(), 0, socket).expect("it starts");
    node.shutdown().expect("a clean end");
    let dir = init::member_dir(folder.path(), 0);
    std::fs::remove_dir_all(dir.join("data")).expect("wiped");
    match start(folder.path(), 0, None) {
        Err(error @ NodeError::Unusable(Unusable::Wiped { .. })) => {
            assert!(error.to_string().contains("rejoin"));
        }
        other => panic!("it must not start: {:?}", other.err()),
    }
}
