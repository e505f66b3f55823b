//! Runs the built program for the tests from outside: folders, members, histories of clients.
//!
//! Source: `docs/cli.md`. In: words. Out: outputs, running members, what clients were told.
//! Holds: nothing sleeps, a wait asks the program again until a deadline; what is started here ends
//! here. Elsewhere: the tests (`ledger.rs`, `refusals.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a state is waited for; far above what it takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A folder of a test, and the program in it.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program with nothing of this process's settings; its logs are short.
    pub(crate) fn program(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consortium"));
        command
            .args(words)
            .current_dir(self.0.path())
            .env_clear()
            .env("CONSORTIUM_HOME", self.path("home"))
            .env("CONSORTIUM_LOG_FILE_MIB", "8")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.program(words).output().expect("the program runs")
    }

    /// Runs what must end by itself soon: its exit code, none where it had to be killed, and what
    /// it said on standard error.
    pub(crate) fn ends(&self, words: &[&str]) -> (Option<i32>, String) {
        let mut command = self.program(words);
        let started = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = started.expect("it starts");
        let stderr = child.stderr.take().expect("piped");
        let (tell, told) = mpsc::sync_channel(1);
        let reader = thread::spawn(move || {
            let mut words = String::new();
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            lines.for_each(|line| words += &(line + "\n"));
            tell.send(()).ok(); // who waited may have given up
            words
        });
        let is_over = told.recv_timeout(LIMIT / 3).is_ok();
        if !is_over {
            child.kill().expect("it runs");
        }
        let ended = child.wait().expect("it ends");
        let words = reader.join().expect("a reader of lines does not fail");
        (ended.code(), words)
    }

    /// Runs what must succeed; gives its standard output.
    pub(crate) fn done(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(code(&output), 0, "{words:?}: {}", err(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs what must give one document.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let text = self.done(&[words, &["-o", "json"]].concat());
        serde_json::from_str(&text).expect("a document")
    }

    /// Asks again until `look` sees it.
    pub(crate) fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(start.elapsed() < LIMIT, "not seen in time: {what}");
        }
    }

    /// Waits until `count` members that `words` name stand at one height with one digest.
    pub(crate) fn agree(&self, words: &[&str], count: usize) -> (u64, String) {
        self.until("members that agree", || {
            let status = self.json(&[words, &["status"]].concat());
            let members = status["members"].as_array().expect("a list").iter();
            let up: Vec<&Value> = members.filter(|m| m["reachable"] == true).collect();
            let tips: BTreeSet<(u64, String)> = up.iter().map(|member| tip(member)).collect();
            let is_one = up.len() == count && tips.len() == 1;
            tips.into_iter().next().filter(|_| is_one)
        })
    }

    /// Starts the member in `dir`, and gives it back once it serves.
    pub(crate) fn start(&self, dir: &str) -> Running {
        let member = self.launch(dir, &[]);
        self.until("a member that serves", || {
            let status = self.run(&["status", "--dir", dir, "-o", "json"]);
            let status: Value = serde_json::from_slice(&status.stdout).ok()?;
            (status["members"][0]["reachable"] == true).then_some(())
        });
        member
    }

    /// Starts the member in `dir` with more words; it may not answer yet.
    pub(crate) fn launch(&self, dir: &str, more: &[&str]) -> Running {
        let talk = File::create(self.talk(dir));
        let started = self
            .program(&[&["start", "--dir", dir], more].concat())
            .stderr(talk.expect("a file"))
            .stdout(Stdio::null())
            .spawn();
        Running(started.expect("it starts"))
    }

    /// Where the member in `dir` says what it does.
    pub(crate) fn talk(&self, dir: &str) -> PathBuf {
        self.path(&format!("{}.log", dir.replace('/', "-")))
    }
}

fn tip(member: &Value) -> (u64, String) {
    let height = member["height"].as_u64().expect("a height");
    (height, member["digest"].as_str().expect("a digest").into())
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().expect("it ends by itself")
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Sends the signal called `name` to the process `id`.
pub(crate) fn signal(name: &str, id: u32) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), id.to_string()])
        .status();
    assert!(sent.expect("kill runs").success(), "{name} to {id}");
}

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Kills it as a power loss would.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }

    /// Asks it to end with the signal called `name`; gives its exit code.
    pub(crate) fn end(mut self, name: &str) -> Option<i32> {
        signal(name, self.0.id());
        self.0.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A `dev` in `ledger` that ends with the test.
pub(crate) struct Dev(pub(crate) Running, pub(crate) Duration);

impl Dev {
    pub(crate) fn start(place: &Place, more: &[&str]) -> Self {
        let start = Instant::now();
        let words = [&["dev", "--dir", "ledger"], more].concat();
        let started = place.program(&words).stdout(Stdio::piped()).spawn();
        let mut child = started.expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = lines
            .map_while(Result::ok)
            .any(|line| line == "CONSORTIUM_READY=1");
        let dev = Self(Running(child), start.elapsed());
        assert!(ready, "it becomes ready");
        dev
    }

    /// The process ids of its members.
    pub(crate) fn members(place: &Place) -> Vec<u32> {
        let text = fs::read_to_string(place.path("ledger/cluster.json")).expect("is there");
        let cluster: Value = serde_json::from_str(&text).expect("JSON");
        let members = cluster["members"].as_array().expect("a list").iter();
        let ids = members.map(|member| member["pid"].as_u64().expect("a pid"));
        ids.map(|id| u32::try_from(id).expect("a pid")).collect()
    }
}

/// Clients that submit at once, and what they were told.
pub(crate) struct Load {
    clients: Vec<(Running, BufReader<std::process::ChildStdout>)>,
    told: Vec<Value>,
}

impl Load {
    /// Starts `clients` clients with `count` submissions each; `name` makes their keys different.
    pub(crate) fn start(place: &Place, name: &str, clients: usize, count: usize) -> Self {
        let start = |client: usize| {
            let key = format!("{name}-{client}");
            let mut input = tempfile::tempfile().expect("a file");
            for number in 0..count {
                writeln!(input, "put {key}-{number} value-{number}").expect("written");
            }
            std::io::Seek::rewind(&mut input).expect("a file");
            let words = [
                "submit", "--dir", "ledger", "--key", &key, "-o", "json", "-",
            ];
            let mut command = place.program(&words);
            let started = command.stdin(input).stdout(Stdio::piped()).spawn();
            let mut child = started.expect("it starts");
            let lines = BufReader::new(child.stdout.take().expect("piped"));
            (Running(child), lines)
        };
        let clients = (0..clients).map(start).collect();
        let told = Vec::new();
        Self { clients, told }
    }

    /// Reads until the first client was told of `count` submissions.
    pub(crate) fn wait_for(&mut self, count: usize) {
        let (_, lines) = self.clients.first_mut().expect("a client");
        for line in lines.lines().take(count) {
            let line = line.expect("text");
            self.told.push(serde_json::from_str(&line).expect("JSON"));
        }
    }

    /// Waits until every client is done, without a failure; gives what they were told.
    pub(crate) fn finish(mut self) -> Vec<Value> {
        for (mut client, lines) in self.clients {
            for line in lines.lines() {
                let line = line.expect("text");
                self.told.push(serde_json::from_str(&line).expect("JSON"));
            }
            let ended = client.0.wait().expect("it ends");
            assert!(ended.success(), "a client ends with {ended}");
        }
        self.told
    }
}

/// Every member tells the same history, and each of `told` stands in it once, at its place.
pub(crate) fn check_history(place: &Place, members: usize, told: &[Value]) {
    let tails = (0..members).map(|member| {
        let dir = format!("ledger/member-{member}");
        place.done(&["tail", "--from", "0", "-o", "json", "--dir", &dir])
    });
    let tails: BTreeSet<String> = tails.collect();
    assert_eq!(tails.len(), 1, "one history");
    let mut places = BTreeMap::new();
    for (number, line) in tails.first().expect("one").lines().enumerate() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["sequence"], number, "no gap");
        let name = (line["client"].to_string(), line["client_sequence"].as_u64());
        let at = (line["height"].as_u64(), line["index"].as_u64());
        assert_eq!(places.insert(name, at), None, "executed once: {line}");
    }
    for told in told {
        let name = (told["client"].to_string(), told["sequence"].as_u64());
        let at = (told["height"].as_u64(), told["index"].as_u64());
        assert_eq!(places.get(&name), Some(&at), "acknowledged: {told}");
    }
}

/// Writes the bytes of `path` after `change`, runs `then`, and puts them back.
pub(crate) fn with_changed<T>(
    path: &Path,
    change: impl FnOnce(&mut Vec<u8>),
    then: impl FnOnce() -> T,
) -> T {
    let before = fs::read(path).expect("is there");
    let mut bytes = before.clone();
    change(&mut bytes);
    fs::write(path, bytes).expect("written");
    let result = then();
    fs::write(path, before).expect("written");
    result
}
