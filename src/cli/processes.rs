//! Member processes of one ledger on this machine: made, started, waited for, ended.
//!
//! Source: `docs/cli.md`, dev. In: a folder. Out: running members.
//! Holds: a member ends when whoever started it does, since its standard input ends then; ends are
//! asked for first, and forced after [`END_LIMIT`].
//! Elsewhere: what a member does (`start`), the table (`dev`).

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};

use super::args::{DevArgs, Tables};
use super::failure::{Exit, Failure};
use super::output::say;
use super::target::{CLUSTER_FILE, Cluster, ClusterMember, read_genesis};
use super::{keys, ports, seam};
use crate::blocks::Parameters;
use crate::client::Api;
use crate::committee::Sizes;

/// Until members that were asked to end are ended.
const END_LIMIT: Duration = Duration::from_secs(8);
/// Until the first transaction can be committed.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at members that start.
const READY_PAUSE: Duration = Duration::from_millis(20);
/// How long those beyond a quorum are waited for.
const LATE_LIMIT: Duration = Duration::from_secs(3);
/// What a member says goes there.
const LOG_FILE: &str = "member.log";

/// What a ledger on this machine is made of.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) members: u16,
    pub(crate) application: String,
    pub(crate) tables: Tables,
}

impl From<&DevArgs> for Wish {
    fn from(args: &DevArgs) -> Self {
        Self {
            members: args.members,
            application: args.application.clone(),
            tables: args.tables,
        }
    }
}

/// Members that run.
pub(crate) struct Processes {
    pub(crate) dir: PathBuf,
    pub(crate) cluster: Cluster,
    running: Vec<Process>,
}

struct Process {
    name: String,
    dir: PathBuf,
    child: Child,
    /// Its end ends the member.
    input: Option<ChildStdin>,
    has_ended: bool,
}

impl Processes {
    /// Starts the ledger in `dir`, which is made where it is absent or empty.
    pub(crate) fn start(dir: &Path, wish: &Wish) -> Result<Self, Failure> {
        let mut cluster = match known(dir)? {
            Some(cluster) => cluster,
            None => make(dir, wish)?,
        };
        for member in &cluster.members {
            for address in [&member.p2p, member.api.trim_start_matches("http://")] {
                let parsed = address.parse();
                if parsed.is_ok_and(|address| !ports::is_free(address)) {
                    return Err(Failure::refused(
                        format!("{address} of {} is taken", member.name),
                        "does this ledger run already? consortium status --dir shows it",
                    ));
                }
            }
        }
        let mut running = Vec::new();
        for member in &mut cluster.members {
            let process = spawn(member)?;
            member.pid = process.child.id();
            running.push(process);
        }
        let dir = dir.to_owned();
        Ok(Self {
            dir,
            cluster,
            running,
        })
    }

    /// Waits until a transaction can be committed, and a little for those beyond a quorum.
    pub(crate) async fn ready(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        let doors = self
            .cluster
            .members
            .iter()
            .map(|member| Api::new(&member.api));
        let doors: Vec<Api> = doors.collect::<Result<_, _>>()?;
        let quorum = Sizes::of(doors.len().max(1)).q;
        let mut since_quorum = None;
        loop {
            let asks = doors
                .iter()
                .map(|door| door.is_ready(Duration::from_secs(1)));
            let ready = join_all(asks).await.into_iter().filter(|is| *is).count();
            if ready == doors.len() {
                return Ok(());
            }
            if ready >= quorum {
                let since = *since_quorum.get_or_insert_with(Instant::now);
                if since.elapsed() > LATE_LIMIT {
                    say(format!(
                        "note: {ready} of {} members are ready",
                        doors.len()
                    ));
                    return Ok(());
                }
            }
            self.look_for_ended();
            let alive = self.running.iter().filter(|p| !p.has_ended).count();
            if alive < quorum {
                return Err(self.too_few(alive, quorum));
            }
            if start.elapsed() > READY_LIMIT {
                let what = format!("{ready} of {} members are ready in time", doors.len());
                let next = format!("read {}/member-*/{LOG_FILE}", self.dir.display());
                return Err(Failure::new(Exit::TimedOut, what, next));
            }
            sleep(READY_PAUSE).await;
        }
    }

    fn too_few(&self, alive: usize, quorum: usize) -> Failure {
        let ended = self.running.iter().find(|process| process.has_ended);
        let said = ended
            .map(|process| last_words(&process.dir))
            .unwrap_or_default();
        let what = format!("{alive} members run, {quorum} are needed; one that ended said: {said}");
        let next = format!("read {}/member-*/{LOG_FILE}", self.dir.display());
        Failure::refused(what, next)
    }

    /// Says which members ended since the last look.
    pub(crate) fn look_for_ended(&mut self) {
        for process in self.running.iter_mut().filter(|process| !process.has_ended) {
            if let Ok(Some(status)) = process.child.try_wait() {
                process.has_ended = true;
                say(format!(
                    "{} ended ({status}); start it again: consortium start --dir {}",
                    process.name,
                    process.dir.display()
                ));
            }
        }
    }

    /// Waits until a member that runs ends.
    pub(crate) async fn one_ends(&mut self) {
        let running = self.running.iter_mut().filter(|p| !p.has_ended);
        let waits: Vec<_> = running
            .map(|process| Box::pin(process.child.wait()))
            .collect();
        if waits.is_empty() {
            return std::future::pending().await;
        }
        let _which = futures_util::future::select_all(waits).await;
    }

    /// Writes `cluster.json`, whole or not at all.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&self.cluster);
        let text = text.expect("addresses and names have a JSON form") + "\n";
        let path = self.dir.join(CLUSTER_FILE);
        let draft = self.dir.join(format!("{CLUSTER_FILE}.draft"));
        let written = fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path));
        written.map_err(|error| Failure::file(&path, &error))
    }

    /// Asks every member to end, waits, and ends those that do not.
    pub(crate) async fn end(mut self) {
        self.running
            .iter_mut()
            .for_each(|process| process.input = None);
        let waits = self.running.iter_mut().map(|process| process.child.wait());
        if timeout(END_LIMIT, join_all(waits)).await.is_ok() {
            return;
        }
        for process in &mut self.running {
            if let Ok(None) = process.child.try_wait() {
                say(format!("{} does not end; it is killed", process.name));
            }
            if let Err(error) = process.child.kill().await {
                say(format!("{}: {error}", process.name));
            }
        }
    }
}

/// The ledger that `dir` holds already; nothing where it is absent or empty.
fn known(dir: &Path) -> Result<Option<Cluster>, Failure> {
    if let Some(cluster) = Cluster::read(dir)? {
        let is_whole = cluster.members.iter().all(|member| member.dir.is_dir());
        if is_whole {
            return Ok(Some(cluster));
        }
    }
    if dir.join("genesis.json").exists() {
        return describe(dir).map(Some);
    }
    let is_empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(Failure::file(dir, &error)),
    };
    if is_empty {
        return Ok(None);
    }
    Err(Failure::refused(
        format!("{} is neither empty nor of an earlier dev", dir.display()),
        "give another --dir",
    ))
}

fn make(dir: &Path, wish: &Wish) -> Result<Cluster, Failure> {
    let plan = seam::Plan {
        name: "dev".into(),
        addresses: ports::free_pairs(wish.members.into())?,
        parameters: Parameters {
            application: keys::known_application(&wish.application)?,
            ..Parameters::default()
        },
        tables: wish.tables.name(),
        signs_operations: true,
    };
    fs::create_dir_all(dir).map_err(|error| Failure::file(dir, &error))?;
    seam::make_cluster(dir, &plan)?;
    describe(dir)
}

/// `cluster.json` as it follows from the members' folders.
fn describe(dir: &Path) -> Result<Cluster, Failure> {
    let dir = dir
        .canonicalize()
        .map_err(|error| Failure::file(dir, &error))?;
    let path = dir.join("genesis.json");
    let genesis = read_genesis(&path)?;
    let mut members = Vec::new();
    for number in 0..genesis.founders.len() {
        let member = seam::member_dir(&dir, number);
        let checked = seam::check_member(&member)?;
        members.push(ClusterMember {
            id: checked.member,
            name: checked.name,
            dir: member,
            pid: None,
            p2p: checked.p2p,
            metrics: format!("{}/metrics", checked.api),
            api: checked.api,
        });
    }
    Ok(Cluster {
        genesis: path,
        members,
        observers: Vec::new(),
    })
}

fn spawn(member: &ClusterMember) -> Result<Process, Failure> {
    let program = std::env::current_exe();
    let program =
        program.map_err(|error| Failure::refused(error, "is the program still there?"))?;
    let log = open_log(&member.dir)?;
    let mut command = Command::new(program);
    command
        .args(["start", "--until-input-ends", "--dir"])
        .arg(&member.dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true);
    // What was meant for us would override every member's own settings.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONSORTIUM_") && name != "CONSORTIUM_LOG_LEVEL" {
            command.env_remove(name);
        }
    }
    let mut child = command.spawn().map_err(|error| {
        Failure::refused(format!("{}: {error}", member.name), "check ulimit -u")
    })?;
    Ok(Process {
        name: member.name.clone(),
        dir: member.dir.clone(),
        input: child.stdin.take(),
        child,
        has_ended: false,
    })
}

fn open_log(dir: &Path) -> Result<File, Failure> {
    let path = dir.join(LOG_FILE);
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path);
    opened.map_err(|error| Failure::file(&path, &error))
}

fn last_words(dir: &Path) -> String {
    let text = fs::read_to_string(dir.join(LOG_FILE)).unwrap_or_default();
    let error = text.lines().rev().find(|line| line.starts_with("error:"));
    error
        .or(text.lines().last())
        .unwrap_or("nothing")
        .to_owned()
}
