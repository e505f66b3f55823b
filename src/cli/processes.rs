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
use super::target::{Cluster, ClusterMember, read_genesis};
use super::tools::Seat;
use super::{ports, seam, tools};
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
    pub(crate) observers: u16,
    pub(crate) parameters: Parameters,
    pub(crate) overlay: String,
    pub(crate) tables: Tables,
}

impl Wish {
    /// So many members with every default.
    pub(crate) fn plain(members: u16, tables: Tables) -> Self {
        Self {
            members,
            observers: 0,
            parameters: Parameters::default(),
            overlay: seam::default_overlay(),
            tables,
        }
    }

    /// What the flags of `dev` say; every name must be of this binary and fit its place.
    pub(crate) fn of(args: &DevArgs) -> Result<Self, Failure> {
        let parameters = Parameters {
            application: tools::known_application(&args.application)?,
            committee_engine: tools::known_engine(&args.committee_engine, Seat::Committee)?,
            group_engine: tools::known_engine(&args.group_engine, Seat::Group)?,
            views: tools::view_rules(&args.views)?,
            checkpoints: args.checkpoints.rules()?,
            ..Parameters::default()
        };
        Ok(Self {
            observers: args.observers,
            parameters,
            overlay: tools::known_overlay(&args.overlay)?,
            ..Self::plain(args.members, args.tables)
        })
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
    pid: Option<u32>,
    has_seat: bool,
    has_ended: bool,
}

impl Processes {
    /// Starts the ledger in `dir`, which is made where it is absent or empty.
    pub(crate) fn start(dir: &Path, wish: &Wish) -> Result<Self, Failure> {
        let mut cluster = match known(dir)? {
            Some(cluster) => {
                if cluster.observers.len() != usize::from(wish.observers) {
                    let count = cluster.observers.len();
                    say(format!(
                        "note: this ledger is here already, with {count} observers"
                    ));
                }
                cluster
            }
            None => make(dir, wish)?,
        };
        for member in cluster.all() {
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
        let seats = cluster.members.len();
        for (number, member) in cluster.all_mut().enumerate() {
            let process = spawn(member, number < seats)?;
            member.pid = process.pid;
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
        let doors = self.cluster.all().map(|member| Api::new(&member.api));
        let doors: Vec<Api> = doors.collect::<Result<_, _>>()?;
        let seats = self.cluster.members.len();
        let quorum = Sizes::of(seats.max(1)).q;
        let mut since_quorum = None;
        loop {
            let asks = doors
                .iter()
                .map(|door| door.is_ready(Duration::from_secs(1)));
            let answers = join_all(asks).await;
            let ready = answers.iter().filter(|is| **is).count();
            if ready == doors.len() {
                return Ok(());
            }
            if answers.iter().take(seats).filter(|is| **is).count() >= quorum {
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
            let alive = self.running.iter().filter(|p| p.has_seat && !p.has_ended);
            let alive = alive.count();
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
                process.note_end(&self.dir);
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

    /// Writes `cluster.json`; who ended has no process there.
    pub(crate) fn write(&mut self) -> Result<(), Failure> {
        for (member, process) in self.cluster.all_mut().zip(&self.running) {
            member.pid = process.pid.filter(|_| !process.has_ended);
        }
        self.cluster.write(&self.dir)
    }

    /// Asks every member to end, waits, and ends those that do not.
    pub(crate) async fn end(mut self) {
        self.running
            .iter_mut()
            .for_each(|process| process.input = None);
        let waits = self.running.iter_mut().map(|process| process.child.wait());
        let has_timed_out = timeout(END_LIMIT, join_all(waits)).await.is_err();
        for process in &mut self.running {
            process.note_end(&self.dir);
            if !has_timed_out {
                continue;
            }
            if let Ok(None) = process.child.try_wait() {
                say(format!("{} does not end; it is killed", process.name));
            }
            if let Err(error) = process.child.kill().await {
                say(format!("{}: {error}", process.name));
            }
        }
    }
}

impl Process {
    /// Takes its process out of `cluster.json`, unless the member was started again since.
    fn note_end(&self, folder: &Path) {
        let ended = |pid: Option<u32>| pid.filter(|_| pid != self.pid);
        if let Err(failure) = Cluster::note_pid(folder, &self.dir, ended) {
            say(format!("note: {}", failure.what));
        }
    }
}

/// The ledger that `dir` holds already; nothing where it is absent or empty.
fn known(dir: &Path) -> Result<Option<Cluster>, Failure> {
    if let Some(cluster) = Cluster::read(dir)? {
        let is_whole = cluster.all().all(|member| member.dir.is_dir());
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
    let mut addresses = ports::free_pairs(usize::from(wish.members + wish.observers))?;
    let plan = seam::Plan {
        name: "dev".into(),
        observers: addresses.split_off(wish.members.into()),
        addresses,
        parameters: wish.parameters.clone(),
        overlay: wish.overlay.clone(),
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
    let members = (0..genesis.founders.len()).map(|number| seam::member_dir(&dir, number));
    let observers = (0..).map(|number| seam::observer_dir(&dir, number));
    let observers = observers.take_while(|dir| dir.is_dir());
    Ok(Cluster {
        members: members.map(describe_one).collect::<Result<_, _>>()?,
        observers: observers.map(describe_one).collect::<Result<_, _>>()?,
        genesis: path,
    })
}

fn describe_one(dir: PathBuf) -> Result<ClusterMember, Failure> {
    let checked = seam::check_member(&dir)?;
    Ok(ClusterMember {
        id: checked.member,
        name: checked.name,
        dir,
        pid: None,
        p2p: checked.p2p,
        metrics: format!("{}/metrics", checked.api),
        api: checked.api,
    })
}

fn spawn(member: &ClusterMember, has_seat: bool) -> Result<Process, Failure> {
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
        pid: child.id(),
        child,
        has_seat,
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
