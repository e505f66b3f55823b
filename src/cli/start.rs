//! `start`: one member in this process, until a signal, a failure, or the end of its parent.
//!
//! Source: `docs/cli.md`. In: a member's folder. Out: a running member with its HTTP door.
//! Holds: the door is open from the beginning; everything ends in order, a start as well.
//! Elsewhere: the member (`node`), the door (`api`).

use std::convert::Infallible;
use std::io::{IsTerminal, Read, Stderr, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use futures_util::future::{FutureExt, Shared};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};
use tracing_subscriber::EnvFilter;

use super::args::{Common, Progress};
use super::dev::Signals;
use super::failure::Failure;
use super::output::{Meter, say};
use super::target::Cluster;
use crate::api;
use crate::bootstrap::Pin;
use crate::node::{self, Config, Launch, Node, NodeError, Options};
use crate::storage::Store;

/// `start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// A view that people hold for true and the digest of the block that opened it, `VIEW:DIGEST`:
    /// no start follows another chain. Goes before `pin` in member.toml.
    #[arg(long, value_name = "VIEW:DIGEST")]
    pub(crate) pin: Option<Pin>,
    /// Ends when standard input does: a parent that dies takes its members along.
    #[arg(long, hide = true)]
    pub(crate) until_input_ends: bool,
}

/// How long a process that was killed is waited for.
const LEFT_BEHIND_MAX: Duration = Duration::from_secs(2);
/// Between two looks at how far a start is.
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// What makes a terminal forget the line that the cursor is in.
const CLEAR_LINE: &[u8] = b"\r\x1b[2K";
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn run(common: &Common, args: &StartArgs) -> Result<ExitCode, Failure> {
    let Some(dir) = &common.dir else {
        let what = "which member? its folder is missing";
        return Err(Failure::usage(
            what,
            "consortium start --dir ledger/member-0",
        ));
    };
    listen_to_talk(&load(common, dir)?.config)?;
    let runtime = super::runtime()?;
    let parent = args.until_input_ends.then(input_end);
    // A parent keeps `cluster.json` itself.
    let (is_alone, me) = (parent.is_none(), std::process::id());
    let signals = runtime.block_on(async { Signals::listen() })?;
    let mut life = Life {
        runtime: &runtime,
        common,
        pin: args.pin,
        signals,
        parent: parent.map(FutureExt::shared),
    };
    if is_alone {
        note(dir, |_| Some(me));
    }
    let mut ended = Ok(Next::Again);
    while matches!(ended, Ok(Next::Again)) {
        ended = load(common, dir).and_then(|options| life.live(dir, options));
    }
    if is_alone {
        note(dir, |pid| pid.filter(|pid| *pid != me));
    }
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// The settings of the member in `dir`.
fn load(common: &Common, dir: &Path) -> Result<Options, Failure> {
    let mut options = Options::load(dir)?;
    if let Some(genesis) = &common.genesis {
        // Words are read from where they are typed, settings from the member's folder.
        let whole = std::path::absolute(genesis).map_err(|error| Failure::file(genesis, &error))?;
        options.config.genesis = whole;
    }
    Ok(options)
}

/// What follows on the end of a member.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Nothing.
    Stop,
    /// It was too far behind: it starts again, and fetches a checkpoint first.
    Again,
}

impl Next {
    /// Whoever was told to end does, though its member would begin again.
    fn after(is_told: bool, restarts: bool) -> Self {
        match restarts && !is_told {
            true => Self::Again,
            false => Self::Stop,
        }
    }
}

/// The member in this process.
struct Life<'a> {
    runtime: &'a Runtime,
    common: &'a Common,
    pin: Option<Pin>,
    signals: Signals,
    parent: Option<Shared<oneshot::Receiver<()>>>,
}

impl Life<'_> {
    /// From its start to its end.
    fn live(&mut self, dir: &Path, mut options: Options) -> Result<Next, Failure> {
        options.config.pin = self.pin.or(options.config.pin);
        let listener = self.runtime.block_on(open(&mut options))?;
        greet(dir, &options.config)?;
        let launch = Launch::new(&options)?;
        let node = self.runtime.block_on(async {
            let (stop, mut stopped) = watch::channel(false);
            let until = async move {
                let _gone = stopped.wait_for(|stops| *stops).await;
            };
            let entrance = launch.entrance();
            let door = tokio::spawn(api::serve_from_start(listener, entrance, until));
            let node = self.run(&launch, options).await;
            stop.send_replace(true);
            if let Err(error) = door.await {
                tracing::error!(%error, "the HTTP door ended badly");
            }
            node
        })?;
        let Some((node, is_told)) = node else {
            return Ok(Next::Stop);
        };
        let next = Next::after(is_told, node.restarts());
        // The node's own threads and runtimes end outside of ours.
        node.shutdown()?;
        Ok(next)
    }

    /// Starts the member, and waits for its end; nothing where that comes first. Says whether this
    /// process was told to end.
    async fn run(
        &mut self,
        launch: &Launch,
        options: Options,
    ) -> Result<Option<(Node, bool)>, NodeError> {
        let is_over = ends(&mut self.signals, self.parent.clone());
        let started = tokio::select! {
            started = launch.start(options, is_over) => started?,
            never = show(self.common, launch.progress()) => match never {},
        };
        let Some(node) = started else {
            tracing::info!("ended before it took part: the next start goes on from there");
            return Ok(None);
        };
        let is_told = tokio::select! {
            // The member hears signals too; one that is not taken here ends the next life.
            biased;
            () = ends(&mut self.signals, self.parent.clone()) => true,
            () = node.wait() => false,
        };
        Ok(Some((node, is_told)))
    }
}

/// Shows how far a start is: as a bar on a terminal, or as lines of JSON where they are asked for;
/// the log says it otherwise.
async fn show(common: &Common, progress: &node::Progress) -> Infallible {
    let is_bar = common.progress == Progress::Auto && std::io::stderr().is_terminal();
    if !is_bar && common.progress != Progress::Json {
        return std::future::pending().await;
    }
    progress.show();
    let mut shown: Option<(&'static str, u64, Meter)> = None;
    loop {
        let now = progress.look();
        let stage = now.stage.name();
        match (now.measure(), &mut shown) {
            (Some((done, of)), Some((what, total, meter))) if (*what, *total) == (stage, of) => {
                meter.set(done);
            }
            (measured, other) => {
                other
                    .take()
                    .into_iter()
                    .for_each(|(_, _, meter)| meter.finish());
                let begun = |(done, of)| (stage, of, Meter::new(common, stage, of).resumed(done));
                shown = measured.map(begun);
            }
        }
        sleep(SHOW_EVERY).await;
    }
}

/// Keeps the `cluster.json` beside the member's folder true; who made it may be gone.
fn note(dir: &Path, change: impl Fn(Option<u32>) -> Option<u32>) {
    let Ok(dir) = dir.canonicalize() else { return };
    let Some(folder) = dir.parent() else { return };
    if let Err(failure) = Cluster::note_pid(folder, &dir, change) {
        say(format!("note: {}", failure.what));
    }
}

/// Opens both addresses, and waits until no other process owns the data.
///
/// A process that was killed holds all three until its last write to the disk is through; who
/// starts it again at once should not have to try twice.
async fn open(options: &mut Options) -> Result<TcpListener, Failure> {
    let config = &options.config;
    let deadline = Instant::now() + LEFT_BEHIND_MAX;
    let door = bind(config.listen_api, "listen_api", deadline).await?;
    let p2p = bind(config.listen_p2p, "listen_p2p", deadline).await?;
    let data = options.dir.join(&config.data);
    while Store::is_owned(&data) && Instant::now() < deadline {
        sleep(PAUSE).await;
    }
    let p2p = p2p.into_std();
    options.p2p = Some(p2p.map_err(|error| Failure::refused(error, "start it again"))?);
    Ok(door)
}

async fn bind(
    address: SocketAddr,
    setting: &str,
    deadline: Instant,
) -> Result<TcpListener, Failure> {
    loop {
        let error = match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        };
        let is_taken = error.kind() == std::io::ErrorKind::AddrInUse;
        if is_taken && Instant::now() < deadline {
            sleep(PAUSE).await;
            continue;
        }
        let next = match is_taken {
            true => format!("is this member running already? else change {setting} in member.toml"),
            false => format!("give {setting} in member.toml an address of this machine"),
        };
        return Err(Failure::refused(
            format!("{setting} {address}: {error}"),
            next,
        ));
    }
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
    let is_terminal = std::io::stderr().is_terminal();
    let talk = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || writer(is_terminal))
        .with_ansi(is_terminal);
    // A second subscriber in one process is a test's; the first goes on.
    let _already = talk.try_init();
    Ok(())
}

/// Where a line of talk goes; on a terminal a bar may stand where it begins.
fn writer(is_terminal: bool) -> Stderr {
    let mut talk = std::io::stderr();
    if is_terminal {
        let _nobody_reads = talk.write_all(CLEAR_LINE);
    }
    talk
}

/// Ready once standard input ends: who held its other end is gone.
fn input_end() -> oneshot::Receiver<()> {
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let mut bytes = [0; 64];
        while matches!(std::io::stdin().read(&mut bytes), Ok(count) if count > 0) {}
        let _gone = tell.send(());
    });
    told
}

/// Ready once this process is to end.
async fn ends(signals: &mut Signals, parent: Option<Shared<oneshot::Receiver<()>>>) {
    let orphaned = async {
        match parent {
            Some(parent) => {
                let _gone = parent.await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signals.any() => {}
        () = orphaned => tracing::info!("the parent process is gone: this member ends"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_ends_a_member_that_would_begin_again() {
        for (is_told, restarts, next) in [
            (true, true, Next::Stop),
            (true, false, Next::Stop),
            (false, true, Next::Again),
            (false, false, Next::Stop),
        ] {
            assert_eq!(Next::after(is_told, restarts), next);
        }
    }
}
