//! A member behind its HTTP door, whose ledger has seen several views.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{Failure, parse, words};
use crate::api;
use crate::blocks::proof::Proof;
use crate::blocks::{Genesis, Step};
use crate::cli::target::Targets;
use crate::cli::verify::Report;
use crate::cli::views::walked;
use crate::client::{Api, Client, ClientError, Options, Rules, Shown, check_proof};
use crate::committee::{Height, ViewId};
use crate::consortium::Record;
use crate::node::verify::tests::world::World;
use crate::node::{self, Node};

/// An observer with the log of a member whose views lasted eight blocks.
struct Served {
    world: World,
    story: Vec<Record>,
    node: Node,
    url: String,
    genesis: PathBuf,
    /// The door closes when it is dropped.
    _open: oneshot::Sender<()>,
}

impl Served {
    async fn start() -> Self {
        let world = World::rotating();
        let story = world.story(40);
        let dir = world.observe(&story);
        let mut options = node::Options::load(&dir).expect("its settings");
        options.p2p = Some(std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let node = Node::start(options).expect("it starts");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (open, closed) = oneshot::channel::<()>();
        let host: Arc<dyn api::Host> = Arc::new(node.handle().clone());
        tokio::spawn(async move {
            let closed = async { drop(closed.await) };
            api::serve(listener, host, closed).await;
        });
        Self {
            genesis: dir.join("genesis.json"),
            world,
            story,
            node,
            url,
            _open: open,
        }
    }

    fn api(&self) -> Api {
        Api::new(&self.url).expect("an address")
    }

    /// The views that the story made.
    fn views(&self) -> u64 {
        let made = self.story.iter().filter(|record| {
            matches!(record, Record::Block(block) if block.body.kind() == "reconfiguration")
        });
        made.count() as u64
    }

    async fn report(&self, genesis: &Genesis) -> Result<Report, Failure> {
        let line = format!(
            "verify --views --genesis {} --api {}",
            place(&self.genesis),
            self.url
        );
        let common = parse(words(&line)).expect("a good line").common;
        walked(&Targets::find(&common)?, genesis).await
    }
}

fn place(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_view_chain_of_a_member_is_walked_from_the_genesis_document() {
    let served = Served::start().await;
    let report = served
        .report(&served.world.genesis)
        .await
        .expect("it answers");
    assert!(report.ok, "{:?}", report.faults);
    assert_eq!(report.views, served.views() + 1);
    let view = report.view.expect("it leads somewhere");
    assert_eq!(view.id, ViewId(served.views()));
    assert_eq!(view.committee.len(), 1);
    // A vote and two proofs of the fresh key in each step.
    assert_eq!(report.signatures, 3 * served.views());
    let mut other = served.world.genesis.clone();
    other.name = "another".into();
    let report = served.report(&other).await.expect("it answers");
    assert!(!report.ok);
    assert!(
        report.faults[0]
            .what
            .contains("view 1: its block is of another chain")
    );
    served.node.shutdown().expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_door_gives_the_view_chain_in_pages() {
    let served = Served::start().await;
    let limit = std::time::Duration::from_secs(10);
    let page = served.api().views(ViewId(2), limit).await.expect("a page");
    assert_eq!(page.newest, ViewId(served.views()));
    let views: Vec<u64> = page.views.iter().map(|entry| entry.view.0).collect();
    assert_eq!(views, (2..=served.views()).collect::<Vec<_>>());
    let first = &page.views[0];
    assert_eq!(first.height, first.step.header.height);
    assert_eq!(first.digest, first.step.header.digest());
    let behind = served.api().views(ViewId(99), limit).await.expect("a page");
    assert!(behind.views.is_empty());
    served.node.shutdown().expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn proofs_of_a_later_view_are_files_that_the_genesis_document_alone_checks() {
    let served = Served::start().await;
    let limit = std::time::Duration::from_secs(10);
    let genesis = &served.world.genesis;
    let value = served
        .api()
        .value(b"key 1", true, limit)
        .await
        .expect("an answer");
    let state = value.proof.expect("it is certified");
    let client = crate::crypto::SecretKey::from_seed([1; 32]).public();
    // The first transaction of the last block that holds any.
    let mut last = Height(0);
    for record in &served.story {
        if let Record::Block(block) = record
            && block.body.batches().next().is_some()
        {
            last = block.header.height;
        }
    }
    let name = (&client, (last.0 - 1) * 4);
    let told = served.api().transaction(name, true, limit).await;
    let transaction = told
        .expect("it is remembered")
        .proof
        .expect("it was asked for");
    for proof in [state, transaction] {
        let read = Proof::from_json(&proof.to_json()).expect("its own form");
        let steps: &Vec<Step> = match &read {
            Proof::State(proof) => &proof.views,
            Proof::Transaction(proof) => &proof.views,
        };
        assert!(steps.len() >= 2, "{} steps", steps.len());
        assert!(matches!(
            check_proof(&read, genesis),
            Ok(Shown::State { .. } | Shown::Transaction(_))
        ));
        let file = served.genesis.with_file_name("x.proof");
        fs::write(&file, read.to_json()).expect("ours");
        let line = format!(
            "consortium verify --genesis {} --proof {}",
            place(&served.genesis),
            place(&file)
        );
        let code = crate::cli::main(line.split(' ').map(Into::into));
        assert_eq!(code, std::process::ExitCode::SUCCESS);
    }
    served.node.shutdown().expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn signers_of_a_block_are_those_of_its_view() {
    let served = Served::start().await;
    let limit = std::time::Duration::from_secs(10);
    let block = served.api().block(40, 0, limit).await.expect("it is there");
    assert_eq!(block.header.view, ViewId(served.views()));
    let founder = &served.world.genesis.founders[0];
    let member = crate::committee::MemberId::of(&founder.identity);
    assert_eq!(block.signers, [member]);
    served.node.shutdown().expect("a clean end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_asks_for_the_height_learns_the_views_as_well() {
    let served = Served::start().await;
    let genesis = &served.world.genesis;
    let rules = Rules::of(genesis).expect("a view");
    let doors = Arc::new(crate::client::Doors(vec![served.api()]));
    let options = Options {
        limit: std::time::Duration::from_millis(500),
        ..Options::default()
    };
    let secret = crate::crypto::SecretKey::from_seed([5; 32]);
    let client = Client::new(doors, rules.clone(), &genesis.parameters, secret, options);
    // Nobody orders it: the only member with a seat does not run.
    let told = client
        .submit(b"x".as_slice().into(), api::Wait::Durable)
        .await;
    assert!(
        matches!(
            told,
            Err(ClientError::TimedOut { .. } | ClientError::Refused { .. })
        ),
        "{told:?}"
    );
    let proved = rules.proved().expect("with a genesis document");
    assert_eq!(proved.newest().view.id(), ViewId(served.views()));
    assert!(proved.newest().view.opening().height > Height(0));
    served.node.shutdown().expect("a clean end");
}
