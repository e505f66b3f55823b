//! `start`: one member in this process, until a signal, a failure, or the end of its parent.
//!
//! Source: `docs/cli.md`. In: a member's folder. Out: a running member with its HTTP door.
//! Holds: the door's address is bound before a vote can leave; everything ends in order.
//! Elsewhere: the member (`node`), the door (`api`).

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::args::{Common, StartArgs};
use super::failure::Failure;
use super::output::say;
use super::seam;
use crate::api;
use crate::node::{Config, Node, NodeError, Options};

pub(crate) fn run(common: &Common, args: &StartArgs) -> Result<ExitCode, Failure> {
    let Some(dir) = &common.dir else {
        let what = "which member? its folder is missing";
        return Err(Failure::usage(
            what,
            "consortium start --dir ledger/member-0",
        ));
    };
    let options = Options::load(dir)?;
    listen_to_talk(&options.config)?;
    let runtime = super::runtime()?;
    let listener = runtime.block_on(bind(&options.config))?;
    greet(dir, &options.config)?;
    let node = Node::start(options)?;
    let host = seam::host(&node);
    let parent = args.until_input_ends.then(input_end);
    runtime.block_on(async {
        let (stop, mut stopped) = watch::channel(false);
        let until = async move {
            let _gone = stopped.wait_for(|stops| *stops).await;
        };
        let door = tokio::spawn(api::serve(listener, host, until));
        tokio::select! {
            () = node.wait() => {}
            () = ends(parent) => tracing::info!("the parent process is gone: this member ends"),
        }
        stop.send_replace(true);
        if let Err(error) = door.await {
            tracing::error!(%error, "the HTTP door ended badly");
        }
    });
    // The node's own threads and runtimes end outside of ours.
    node.shutdown()?;
    Ok(ExitCode::SUCCESS)
}

async fn bind(config: &Config) -> Result<TcpListener, Failure> {
    let address = config.listen_api;
    TcpListener::bind(address).await.map_err(|error| {
        let next = "is this member running already? else change listen_api in member.toml";
        Failure::refused(format!("{address}: {error}"), next)
    })
}

/// Prints the trust root: people compare it by eye.
fn greet(dir: &Path, config: &Config) -> Result<(), Failure> {
    let genesis = crate::node::read_genesis(dir, config).map_err(NodeError::from)?;
    let (name, chain) = (&genesis.name, genesis.chain());
    say(format!("ledger '{name}', chain {chain}"));
    say(format!(
        "http://{}  members at {}",
        config.listen_api, config.listen_p2p
    ));
    Ok(())
}

fn listen_to_talk(config: &Config) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&config.log_level).map_err(|error| {
        let what = format!("log_level '{}': {error}", config.log_level);
        Failure::refused(what, "info, debug, or a filter such as consortium=debug")
    })?;
    let talk = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // A second subscriber in one process is a test's; the first goes on.
    let _already = talk.try_init();
    Ok(())
}

/// Ready once standard input ends: who held its other end is gone.
fn input_end() -> tokio::sync::oneshot::Receiver<()> {
    let (tell, told) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let mut bytes = [0; 64];
        while matches!(std::io::stdin().read(&mut bytes), Ok(count) if count > 0) {}
        let _gone = tell.send(());
    });
    told
}

async fn ends(parent: Option<tokio::sync::oneshot::Receiver<()>>) {
    match parent {
        Some(parent) => {
            let _gone = parent.await;
        }
        None => std::future::pending().await,
    }
}
