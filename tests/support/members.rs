//! Members of one ledger as processes: made, started, killed, paused, watched, compared.
//!
//! Source: `docs/cli.md`. In: the built program, a folder. Out: running members, their orders.
//! Holds: every process is a child of this one and ends with it; a wait is for something observed.
//! Elsewhere: the load (`load`), links between members (`proxy`), what must hold (`history`).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use consortium::api::{Event, Role, Status};
use consortium::client::{Api, EventStream};
use serde_json::Value;

use super::history::{Executed, Place};

/// How long something is waited for; far above what it takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Until a member's answer is given up: it may be paused.
const ASK_LIMIT: Duration = Duration::from_millis(500);

/// One member's folder and process.
pub(crate) struct Member {
    pub(crate) dir: PathBuf,
    /// Where members and clients reach it.
    pub(crate) p2p: String,
    pub(crate) api: String,
    door: Api,
    child: Option<Child>,
}

/// All members of one ledger.
pub(crate) struct Members {
    program: PathBuf,
    dir: PathBuf,
    log_file_mib: u32,
    /// What keeps their tables; none: what a member chooses.
    pub(crate) tables: Option<String>,
    runtime: tokio::runtime::Runtime,
    all: Vec<Member>,
}

impl Members {
    /// Makes the folders of `count` members in `dir`, or takes over those that were made there.
    pub(crate) fn make(program: &Path, dir: &Path, count: usize, log_file_mib: u32) -> Self {
        Self::make_with(program, dir, count, log_file_mib, &[])
    }

    /// As [`Members::make`], with more words for `init`.
    pub(crate) fn make_with(
        program: &Path,
        dir: &Path,
        count: usize,
        log_file_mib: u32,
        more: &[String],
    ) -> Self {
        let mut made = command(program);
        let count = count.to_string();
        made.args(["init", "--members", &count, "--dir"]).arg(dir);
        made.args(more);
        if !dir.join("genesis.json").exists() {
            done(&mut made);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let numbers = 0..count.parse().expect("a count");
        let mut members = Self {
            program: program.into(),
            dir: dir.into(),
            log_file_mib,
            tables: None,
            runtime: runtime.expect("the system gives a runtime"),
            all: Vec::new(),
        };
        members.all = numbers.map(|number| members.member(number)).collect();
        members
    }

    /// Makes the folder of a newcomer, whose number follows those that are there.
    pub(crate) fn furnish(&mut self, number: usize) {
        assert_eq!(number, self.count(), "numbers follow each other");
        let mut made = command(&self.program);
        made.args(["key", "generate", "--dir"])
            .arg(self.folder(number));
        done(&mut made);
        let member = self.member(number);
        self.all.push(member);
    }

    /// What the program says to `words`, as JSON; it must succeed.
    pub(crate) fn told(&self, words: &[&str]) -> Value {
        let mut asked = command(&self.program);
        asked.args(words).args(["-o", "json"]);
        serde_json::from_str(&done(&mut asked)).expect("JSON")
    }

    fn folder(&self, number: usize) -> PathBuf {
        self.dir.join(format!("member-{number}"))
    }

    fn member(&self, number: usize) -> Member {
        let dir = self.folder(number);
        let mut ask = command(&self.program);
        ask.args(["config", "print", "-o", "json", "--dir"])
            .arg(&dir);
        let settings: Value = serde_json::from_str(&done(&mut ask)).expect("JSON");
        let address = |name: &str| settings[name].as_str().expect("an address").to_owned();
        let api = format!("http://{}", address("listen_api"));
        Member {
            door: Api::new(&api).expect("an address"),
            dir,
            p2p: address("listen_p2p"),
            api,
            child: None,
        }
    }

    pub(crate) fn genesis(&self) -> PathBuf {
        self.dir.join("genesis.json")
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// The member called `number`.
    pub(crate) fn at(&self, number: usize) -> &Member {
        &self.all[number]
    }

    /// Every member's door.
    pub(crate) fn doors(&self) -> Vec<String> {
        self.all.iter().map(|member| member.api.clone()).collect()
    }

    /// Has `from` dial `to` at `address`; holds from its next start on.
    pub(crate) fn redirect(&self, from: usize, to: usize, address: &str) {
        // The settings end with the table of peers.
        let file = OpenOptions::new()
            .append(true)
            .open(self.all[from].dir.join("member.toml"));
        let line = format!("member-{to} = \"{address}\"\n");
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.expect("the member's settings");
    }

    /// Has a member keep log and tables in `folder`; holds from its next start on.
    pub(crate) fn keep_data_in(&self, number: usize, folder: &Path) {
        let path = self.all[number].dir.join("member.toml");
        let text = fs::read_to_string(&path).expect("the member's settings");
        let data = format!("data = \"{}\"", folder.display());
        let changed = text.replace("data = \"data\"", &data);
        assert_ne!(text, changed, "the member's settings name its data");
        fs::write(&path, changed).expect("the member's settings");
    }

    pub(crate) fn start_all(&mut self) {
        (0..self.count()).for_each(|number| self.start(number));
    }

    /// Starts a member; it may not answer yet.
    pub(crate) fn start(&mut self, number: usize) {
        self.start_under::<&str>(number, &[]);
    }

    /// Starts a member under `tracer`, a program and its words, which ends when the member does.
    pub(crate) fn start_under<W: AsRef<OsStr>>(&mut self, number: usize, tracer: &[W]) {
        let settings = self.settings();
        let member = &mut self.all[number];
        assert!(member.child.is_none(), "member {number} runs");
        let mut started = match tracer {
            [] => command(&self.program),
            [first, rest @ ..] => {
                let mut tracer = command(first.as_ref());
                tracer.args(rest).arg(&self.program);
                tracer
            }
        };
        let talk = File::options()
            .create(true)
            .append(true)
            .open(member.dir.join("talk"));
        started
            .args(["start", "--until-input-ends", "--dir"])
            .arg(&member.dir)
            .envs(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(talk.expect("a file"));
        member.child = Some(started.spawn().expect("it starts"));
    }

    /// Starts a member and gives its talk, which ends when it does.
    pub(crate) fn start_heard(&mut self, number: usize, level: &str) -> std::process::ChildStderr {
        let settings = self.settings();
        let member = &mut self.all[number];
        assert!(member.child.is_none(), "member {number} runs");
        let mut started = command(&self.program);
        started
            .args(["start", "--until-input-ends", "--dir"])
            .arg(&member.dir)
            .envs(settings)
            .env("CONSORTIUM_LOG_LEVEL", level)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = started.spawn().expect("it starts");
        let talk = child.stderr.take().expect("piped");
        member.child = Some(child);
        talk
    }

    /// What a member's process is told besides its own settings.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let file = ("CONSORTIUM_LOG_FILE_MIB", self.log_file_mib.to_string());
        let tables = self.tables.clone();
        let tables = tables.map(|engine| ("CONSORTIUM_TABLES", engine));
        [file].into_iter().chain(tables).collect()
    }

    /// Seconds of processor time that a member's process used so far, by proc(5).
    pub(crate) fn processor_seconds(&self, number: usize) -> f64 {
        let child = self.all[number].child.as_ref().expect("it runs");
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()));
        let stat = stat.expect("Linux says it of a child");
        let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
        (ticks(11) + ticks(12)) / 100.0 // ticks, of which Linux counts a hundred a second
    }

    pub(crate) fn is_running(&self, number: usize) -> bool {
        self.all[number].child.is_some()
    }

    /// The members that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        let numbers = 0..self.count();
        numbers.filter(|number| self.is_running(*number)).collect()
    }

    /// Ends a member as `kill -9` does.
    pub(crate) fn kill(&mut self, number: usize) {
        self.strike(number);
        self.ended(number);
    }

    /// Kills a member without a wait for its end, which [`Members::ended`] is for.
    pub(crate) fn strike(&mut self, number: usize) {
        let child = self.all[number].child.as_mut().expect("it runs");
        child.kill().expect("it is ours");
    }

    /// Waits until a member ends by itself; gives its exit code, none where a signal ended it.
    pub(crate) fn ended(&mut self, number: usize) -> Option<i32> {
        let mut child = self.all[number].child.take().expect("it runs");
        // Its input stays open meanwhile: `wait` alone would close it.
        let input = child.stdin.take();
        let ended = child.wait().expect("it ends");
        drop(input);
        ended.code()
    }

    /// Waits until a member ends by itself, and kills it where it does not: then nothing.
    pub(crate) fn ended_in_time(&mut self, number: usize) -> Option<ExitStatus> {
        let mut child = self.all[number].child.take().expect("it runs");
        let (input, id) = (child.stdin.take(), child.id());
        let (tell, told) = sync_channel(1);
        let waiter = thread::spawn(move || {
            let ended = child.wait().expect("it ends");
            tell.send(ended).ok(); // who waited may have given up
        });
        let ended = told.recv_timeout(LIMIT).ok();
        if ended.is_none() {
            send("KILL", id);
        }
        waiter.join().expect("a wait does not fail");
        drop(input);
        ended
    }

    pub(crate) fn pause(&self, number: usize) {
        self.signal(number, "STOP");
    }

    pub(crate) fn go_on(&self, number: usize) {
        self.signal(number, "CONT");
    }

    fn signal(&self, number: usize, name: &str) {
        let child = self.all[number].child.as_ref().expect("it runs");
        send(name, child.id());
    }

    /// Ends every member in order; gives their exit codes.
    pub(crate) fn end(&mut self) -> Vec<Option<i32>> {
        for member in &mut self.all {
            // The end of its standard input ends a member.
            member.child.as_mut().map(|child| child.stdin.take());
        }
        let running = self.running();
        running.into_iter().map(|at| self.ended(at)).collect()
    }

    /// What a member says of itself; nothing where it gives no answer now.
    pub(crate) fn status(&self, number: usize) -> Option<Status> {
        let asked = self.all[number].door.status(ASK_LIMIT);
        self.runtime.block_on(asked).ok()
    }

    /// Whether a member says that it can serve now.
    pub(crate) fn is_ready(&self, number: usize) -> bool {
        let asked = self.all[number].door.is_ready(ASK_LIMIT);
        self.runtime.block_on(asked)
    }

    /// What a member counts, by the metric's name.
    pub(crate) fn metric(&self, number: usize, name: &str) -> Option<f64> {
        let asked = self.all[number].door.metrics(ASK_LIMIT);
        let text = self.runtime.block_on(asked).ok()?;
        let of_name = |line: &&str| line.split([' ', '{']).next() == Some(name);
        let values = text.lines().filter(of_name);
        let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Some(values.sum())
    }

    /// What a member counts, by the metric's name and what stands in its labels.
    pub(crate) fn metric_of(&self, number: usize, name: &str, labels: &[&str]) -> Option<f64> {
        let asked = self.all[number].door.metrics(ASK_LIMIT);
        let text = self.runtime.block_on(asked).ok()?;
        let is_it = |line: &&str| {
            line.split([' ', '{']).next() == Some(name)
                && labels.iter().all(|label| line.contains(label))
        };
        let values = text.lines().filter(is_it);
        let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Some(values.sum())
    }

    /// Asks again until `look` sees it.
    pub(crate) fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(seen) = look(self) {
                return seen;
            }
            let seen = start.elapsed();
            assert!(seen < LIMIT, "not seen in {seen:?}: {what}");
            thread::yield_now();
        }
    }

    /// The member that leads, as most of those that run say.
    pub(crate) fn leader(&self) -> usize {
        self.until("a leader", |members| {
            let running = members.running();
            let told: Vec<Status> = running.iter().flat_map(|at| members.status(*at)).collect();
            let newest = told.iter().max_by_key(|status| status.order.regency)?;
            let (leader, regency) = (newest.order.leader?, newest.order.regency);
            let agree = told.iter().filter(|status| status.order.regency == regency);
            let is_led = agree.count() * 2 > members.count();
            let number = told.iter().position(|status| {
                status.member.id == leader && matches!(status.order.role, Role::Leader)
            });
            number.filter(|_| is_led).map(|number| running[number])
        })
    }

    /// Waits until a member has executed `sequence` transactions.
    pub(crate) fn reach(&self, number: usize, sequence: u64) {
        let start = Instant::now();
        while let Some(last) = sequence.checked_sub(1) {
            // An open stream waits at the member: nobody asks in circles.
            let seen = self.runtime.block_on(async {
                let door = &self.all[number].door;
                let first = async { door.events(last).await.ok()?.next().await.ok() };
                tokio::time::timeout(LIMIT, first).await.ok().flatten()
            });
            if seen.is_some() {
                return;
            }
            let seen = start.elapsed();
            assert!(
                seen < LIMIT,
                "member {number} is not at {sequence} in {seen:?}"
            );
            thread::yield_now();
        }
    }

    /// Waits until all running members stand at one height with one digest; gives the sequence.
    pub(crate) fn settle(&self) -> u64 {
        self.until("members that agree", |members| {
            let running = members.running();
            let told = running.iter().map(|at| members.status(*at));
            let told: Vec<Status> = told.collect::<Option<_>>()?;
            let sequence = told.iter().map(|status| status.tip.sequence).max()?;
            let tips = told.iter().map(|status| {
                let tip = &status.tip;
                (tip.height, tip.digest, tip.state_digest, tip.sequence)
            });
            let is_one = tips.collect::<BTreeSet<_>>().len() == 1;
            if !is_one {
                running.iter().for_each(|at| members.reach(*at, sequence));
            }
            is_one.then_some(sequence)
        })
    }

    /// Everything that a member executed for clients, up to `sequence` transactions, from its own
    /// stream; the ledger's own operations are nobody's puts.
    pub(crate) fn order(&self, number: usize, sequence: u64) -> Vec<Executed> {
        let events = self.runtime.block_on(async {
            let mut events = Vec::new();
            let mut stream = self.events(number, 0).await;
            while events.len() < usize::try_from(sequence).expect("it fits memory") {
                events.push(stream.next().await.expect("an event"));
            }
            events
        });
        let of_clients = events
            .iter()
            .filter(|event| event.operation.get("ledger").is_none());
        of_clients.map(executed).collect()
    }

    async fn events(&self, number: usize, from: u64) -> EventStream {
        let opened = self.all[number].door.events(from).await;
        opened.unwrap_or_else(|error| panic!("member {number}: {error}"))
    }

    /// Checks a member's folder with the program itself; gives the digest of its newest block.
    pub(crate) fn verify(&self, number: usize) -> Result<String, String> {
        let mut verify = command(&self.program);
        verify.args(["verify", "-o", "json", "--genesis"]);
        verify.arg(self.genesis()).arg("--dir");
        verify.arg(&self.all[number].dir);
        let output = verify.output().expect("the program runs");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        Ok(report["digest"].as_str().expect("a digest").to_owned())
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for member in &mut self.all {
            if let Some(mut child) = member.child.take() {
                child.kill().ok();
                child.wait().ok();
            }
        }
    }
}

/// Sends the signal called `name` to the process `id`.
fn send(name: &str, id: u32) {
    let mut kill = Command::new("kill");
    kill.args([format!("-{name}"), id.to_string()]);
    assert!(
        kill.status().expect("kill runs").success(),
        "{name} to {id}"
    );
}

/// A program with nothing of this process's settings.
fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONSORTIUM_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs what must succeed; gives its standard output.
fn done(command: &mut Command) -> String {
    let output = command.output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

fn executed(event: &Event) -> Executed {
    let put = &event.operation["put"];
    let text = |name: &str| put[name].as_str().unwrap_or_default().to_owned();
    Executed {
        place: Place {
            height: event.height.0,
            index: event.index.into(),
        },
        key: text("key"),
        value: text("value"),
    }
}

/// What `fs::read_to_string` gives of a member's talk, for a failure's message.
pub(crate) fn talk(dir: &Path) -> String {
    let text = fs::read_to_string(dir.join("talk")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
