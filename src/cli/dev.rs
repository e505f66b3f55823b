//! `dev`: a whole ledger on this machine, until a signal.
//!
//! Source: `docs/cli.md`. In: flags. Out: a table, `CONSORTIUM_READY=1`, a folder that stays.
//! Holds: a member that ends is not brought back, and the others go on; nothing is left running.
//! Elsewhere: the processes (`processes`), one member (`start`).

use std::path::PathBuf;
use std::process::ExitCode;

use rand::TryRng;
use rand::rngs::SysRng;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use super::args::{Common, DevArgs};
use super::failure::Failure;
use super::output::{Output, say, short, table};
use super::processes::{Processes, Wish};
use super::target::{Cluster, seconds};

pub(crate) async fn run(common: &Common, args: &DevArgs) -> Result<ExitCode, Failure> {
    let wish = Wish::of(args)?;
    let limit = args.seconds.map(|s| seconds(s, "--seconds")).transpose()?;
    let mut signals = Signals::listen()?;
    let dir = match &common.dir {
        Some(dir) => dir.clone(),
        None => temporary("dev")?,
    };
    let mut processes = Processes::start(&dir, &wish)?;
    let ready = tokio::select! {
        ready = processes.ready() => ready,
        () = signals.any() => {
            processes.end().await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let ready = ready.and_then(|()| processes.write());
    if let Err(failure) = ready {
        processes.end().await;
        return Err(failure);
    }
    greet(common, &processes);
    let over = async {
        match limit {
            Some(limit) => sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = signals.any() => break,
            () = &mut over => break,
            () = processes.one_ends() => processes.look_for_ended(),
        }
    }
    processes.end().await;
    Ok(ExitCode::SUCCESS)
}

/// Tells where everything is. Nobody reading it is no reason to end.
fn greet(common: &Common, processes: &Processes) {
    let output = Output::new(common);
    let cluster = &processes.cluster;
    let dir = processes.dir.display();
    let told = output.document(cluster, |cluster| {
        let first = cluster.members.first();
        let api = first.map_or("http://127.0.0.1:7200", |member| member.api.as_str());
        format!(
            "{}\n\nledger in {dir}; try next:\n  \
             curl -s {api}/v1/transactions -H 'content-type: application/json' \\\n    \
             -d '{{\"operation\": {{\"put\": \
             {{\"key\": \"greeting\", \"value\": \"hello\"}}}}}}'\n  \
             consortium --dir {dir} submit put greeting hello\n",
            members_table(cluster)
        )
    });
    let told = told.and_then(|()| output.bytes(b"CONSORTIUM_READY=1\n"));
    if told.is_err() {
        say("note: standard output is closed; the ledger runs on");
    }
}

fn members_table(cluster: &Cluster) -> String {
    let rows: Vec<Vec<String>> = cluster
        .all()
        .map(|member| {
            vec![
                member.name.clone(),
                member.pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
                member.api.clone(),
                member.metrics.clone(),
                member.p2p.clone(),
                short(member.id),
            ]
        })
        .collect();
    table(&["name", "pid", "api", "metrics", "p2p", "id"], &rows)
}

/// A new folder for this ledger alone, in the system's place for such.
pub(crate) fn temporary(what: &str) -> Result<PathBuf, Failure> {
    let mut bytes = [0; 6];
    let drawn = SysRng.try_fill_bytes(&mut bytes);
    drawn.map_err(|error| Failure::refused(error, "the system gives no random numbers"))?;
    let name = format!("consortium-{what}-{}", hex::encode(bytes));
    Ok(std::env::temp_dir().join(name))
}

/// The signals that end a program in good order.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::refused(error, "signals cannot be listened to"))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Ready at the first of them.
    pub(crate) async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
