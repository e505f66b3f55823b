//! A member from its first word to its last: its door is open from the beginning of the start.
//!
//! Source: `docs/cli.md`, start. In: a member's settings, a bound listener. Out: a running member,
//! or word that it was ended first.
//! Holds: whoever ends a start waits for no network, and for the disk at most [`START_END_MAX`].
//! Elsewhere: what a start does (`start`), the door (`api`), exit codes (`cli`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::error::NodeError;
use super::keys;
use super::progress::{Lobby, Progress};
use super::start::{Node, Options, name_of, read_genesis};
use super::threads::no_thread;
use crate::api::{self, Entrance};
use crate::committee::MemberId;

/// How long threads may take to end.
const END_MAX: Duration = Duration::from_secs(6);
/// How long a start that is ended may take to stop. What stands on the disk then is what a kill
/// leaves, and the next start goes on from there.
const START_END_MAX: Duration = Duration::from_secs(4);

/// Stack of the thread that starts a member, in bytes: what the first thread of a process has.
const STACK_BYTES: usize = 8 << 20;

/// A start, as others see it.
pub struct Launch {
    progress: Arc<Progress>,
    entrance: Arc<Entrance>,
}

impl Launch {
    /// The start of the member that `options` name; nothing is done yet.
    ///
    /// Errors: [`NodeError`].
    pub fn new(options: &Options) -> Result<Self, NodeError> {
        let genesis = read_genesis(&options.dir, &options.config)?;
        let id = MemberId::of(&keys::identity(&options.dir)?.public());
        let progress = Arc::<Progress>::default();
        let lobby = Lobby {
            member: api::MemberName {
                id,
                name: name_of(&genesis, &id, &options.config),
                chain: genesis.chain(),
            },
            progress: Arc::clone(&progress),
        };
        Ok(Self {
            entrance: Arc::new(Entrance::new(Arc::new(lobby))),
            progress,
        })
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What the door serves from the beginning.
    pub fn entrance(&self) -> Arc<Entrance> {
        Arc::clone(&self.entrance)
    }

    /// Starts the member and opens the door's way to it; nothing where `ends` is ready first.
    ///
    /// Errors: [`NodeError`]; nothing was voted.
    pub async fn start(
        &self,
        options: Options,
        ends: impl Future<Output = ()>,
    ) -> Result<Option<Node>, NodeError> {
        let (tell, mut told) = oneshot::channel();
        let progress = Arc::clone(&self.progress);
        // Not a thread of the runtime, whose end would wait for it.
        let starting = move || drop(tell.send(Node::start_under(options, &progress)));
        let builder = thread::Builder::new().name("start".into());
        let builder = builder.stack_size(STACK_BYTES);
        builder.spawn(starting).map_err(no_thread)?;
        let lost = |_| NodeError::Failed {
            reason: "the start ended without a word".into(),
        };
        let started = tokio::select! {
            started = &mut told => started.map_err(lost)?,
            () = ends => {
                self.progress.end();
                let Ok(Ok(started)) = timeout(START_END_MAX, told).await else {
                    tracing::warn!("the start does not stop in time, and is left behind");
                    return Ok(None);
                };
                started
            }
        };
        match started {
            Ok(node) if self.progress.is_ended() => {
                finish(node).await?;
                Ok(None)
            }
            Ok(node) => {
                self.entrance.open(Arc::new(node.handle()));
                Ok(Some(node))
            }
            Err(NodeError::Ended) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Runs the member in `options.dir` with its HTTP door until SIGTERM or SIGINT, or until something
/// fails, and ends within ten seconds. `started` is called with the addresses for members and
/// clients once it takes part.
///
/// Errors: [`NodeError`].
pub async fn run(
    options: Options,
    started: impl FnOnce(SocketAddr, SocketAddr),
) -> Result<(), NodeError> {
    let address = options.config.listen_api;
    let named = |source| NodeError::System {
        what: format!("cannot listen on {address}"),
        source,
    };
    let door = tokio::net::TcpListener::bind(address)
        .await
        .map_err(named)?;
    let api_address = door.local_addr().map_err(named)?;
    let launch = Launch::new(&options)?;
    let (close, closed) = oneshot::channel::<()>();
    let closing = async move {
        closed.await.ok(); // an error says that the member has ended
    };
    let serving = tokio::spawn(api::serve_from_start(door, launch.entrance(), closing));
    let node = launch.start(options, signalled()).await;
    let ended = match node {
        Ok(Some(node)) => {
            started(node.p2p_addr(), api_address);
            node.wait().await;
            drop(close);
            serving.await.ok(); // a door that failed has said why
            return finish(node).await;
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    drop(close);
    serving.await.ok(); // as above
    ended
}

/// Ends a member off the threads of the runtime.
async fn finish(node: Node) -> Result<(), NodeError> {
    let ended = tokio::task::spawn_blocking(move || node.shutdown());
    match timeout(END_MAX, ended).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => Err(NodeError::Failed {
            reason: error.to_string(),
        }),
        // Everything that was acknowledged is in the log.
        Err(_) => Err(NodeError::Failed {
            reason: "its threads did not end in time".into(),
        }),
    }
}

/// Ready at SIGTERM or SIGINT.
pub(super) async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = signal(SignalKind::terminate()).and_then(|terminate| {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok((terminate, interrupt))
    });
    match signals {
        Err(error) => {
            tracing::warn!(%error, "signals cannot be waited for");
            std::future::pending().await
        }
        Ok((mut terminate, mut interrupt)) => tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: this member ends"),
            _ = interrupt.recv() => tracing::info!("SIGINT: this member ends"),
        },
    }
}
