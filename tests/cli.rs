//! The built program from outside: verbs, exit codes, strict outputs, and a whole `dev`.
//!
//! Source: `docs/cli.md`. In: words. Out: standard output, standard error, exit codes.
//! Holds: no test sleeps; a ledger that is started here ends here.
//! Elsewhere: the grammar's tables (`cli::tests`).

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// The program with nothing of this process's settings.
fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_consortium"));
    command
        .env_clear()
        .env("CONSORTIUM_HOME", home.join("home"));
    command.current_dir(home).stdin(Stdio::null());
    command
}

fn run(home: &Path, words: &[&str]) -> Output {
    program(home)
        .args(words)
        .output()
        .expect("the program runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ends by itself")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn json(output: &Output) -> Value {
    let text = out(output);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", err(output)))
}

#[test]
fn help_completions_and_manual_come_from_the_grammar() {
    let home = tempfile::tempdir().expect("a folder");
    for words in [
        &["--help"][..],
        &["submit", "--help"],
        &["completions", "bash"],
        &["man"],
    ] {
        let output = run(home.path(), words);
        assert_eq!(code(&output), 0, "{words:?}");
        assert!(out(&output).contains("consortium"), "{words:?}");
        assert!(output.stderr.is_empty(), "{words:?}");
    }
    assert!(out(&run(home.path(), &["submit", "--help"])).contains("consortium submit put"));
    assert!(out(&run(home.path(), &["man", "dev"])).contains("consortium\\-dev"));
}

#[test]
fn wrong_usage_is_2_and_says_what_to_type() {
    let home = tempfile::tempdir().expect("a folder");
    let cases: [&[&str]; 9] = [
        &["nothing"],
        &["archive", "kept"],
        &["restore", "--archive", "kept"],
        &["get"],
        &["status"],
        &["submit", "--api", "http://127.0.0.1:1", "drop", "k"],
        &["start"],
        &["verify"],
        &["get", "key", "--api", "ftp://x"],
    ];
    for words in cases {
        let output = run(home.path(), words);
        assert_eq!(code(&output), 2, "{words:?}: {}", err(&output));
        assert!(output.stdout.is_empty(), "{words:?}");
        assert!(!output.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn what_is_not_there_is_1() {
    let home = tempfile::tempdir().expect("a folder");
    let cases: [&[&str]; 6] = [
        &[
            "get",
            "key",
            "--api",
            "http://127.0.0.1:1",
            "--timeout",
            "2",
        ],
        &["status", "--api", "http://127.0.0.1:1"],
        &["start", "--dir", "nowhere"],
        &["verify", "--genesis", "nothing.json", "--proof", "x"],
        &["bench", "--mode", "U"],
        &["archive", "kept", "--dir", "nowhere"],
    ];
    for words in cases {
        let output = run(home.path(), words);
        assert_eq!(code(&output), 1, "{words:?}: {}", err(&output));
        assert!(
            err(&output).contains("next:"),
            "{words:?}: {}",
            err(&output)
        );
    }
}

#[test]
fn status_lists_those_that_do_not_answer() {
    let home = tempfile::tempdir().expect("a folder");
    let urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"];
    let output = run(
        home.path(),
        &["status", "-o", "json", "--api", urls[0], urls[1]],
    );
    let report = json(&output);
    let members = report["members"].as_array().expect("a list");
    assert_eq!(members.len(), 2);
    assert!(members.iter().all(|member| member["reachable"] == false));
}

#[test]
fn founders_make_keys_apart_and_join_their_public_files() {
    let home = tempfile::tempdir().expect("a folder");
    let mut files = Vec::new();
    for name in ["alpha", "beta", "gamma", "delta"] {
        let output = run(home.path(), &["key", "generate", "--dir", name]);
        assert_eq!(code(&output), 0, "{}", err(&output));
        let founder = json(&output);
        assert_eq!(founder["name"], name);
        let secret = fs::read_to_string(home.path().join(name).join("identity.key"));
        let secret = secret.expect("the key is there");
        let digits = secret.split_whitespace().last().expect("a secret");
        assert!(!out(&output).contains(digits), "no secret is printed");
        let file = format!("{name}.json");
        fs::write(home.path().join(&file), &output.stdout).expect("written");
        files.push(file);
        let shown = run(home.path(), &["key", "show", "--dir", name]);
        assert_eq!(json(&shown)["identity"], founder["identity"]);
        let again = run(home.path(), &["key", "generate", "--dir", name]);
        assert_eq!(code(&again), 1, "keys are made once");
    }
    let mut words = vec!["init", "-o", "json", "--founder"];
    words.extend(files.iter().map(String::as_str));
    let made = run(home.path(), &words);
    assert_eq!(code(&made), 0, "{}", err(&made));
    assert_eq!(json(&made)["members"].as_array().expect("a list").len(), 4);
    assert_eq!(
        code(&run(home.path(), &words)),
        1,
        "a genesis document is made once"
    );
}

#[test]
fn a_test_ledger_has_folders_that_check_out() {
    let home = tempfile::tempdir().expect("a folder");
    let made = run(
        home.path(),
        &["init", "--members", "4", "--dir", "ledger", "-o", "json"],
    );
    assert_eq!(code(&made), 0, "{}", err(&made));
    let chain = json(&made)["chain"].clone();
    for number in 0..4 {
        let dir = format!("ledger/member-{number}");
        // What is judged here are the folders; how fast the disk is at present is not.
        let settings = home.path().join(&dir).join("member.toml");
        let text = fs::read_to_string(&settings).expect("settings");
        let calm = text
            .replace("_first_ms = 2000", "_first_ms = 60000")
            .replace("_least_ms = 300", "_least_ms = 60000");
        assert_ne!(calm, text, "it has the usual timeouts");
        fs::write(&settings, calm).expect("written");
        let checked = run(
            home.path(),
            &["config", "check", "--dir", &dir, "-o", "json"],
        );
        assert_eq!(json(&checked)["chain"], chain);
    }
    let printed = run(home.path(), &["config", "print"]);
    assert!(out(&printed).contains("listen_api"));
    fs::write(
        home.path().join("ledger/member-0/member.toml"),
        "colour = 1\n",
    )
    .expect("written");
    let refused = run(
        home.path(),
        &["config", "check", "--dir", "ledger/member-0"],
    );
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains("colour"), "{}", err(&refused));
}

#[test]
fn a_proof_file_that_is_none_is_4_and_named() {
    let home = tempfile::tempdir().expect("a folder");
    run(home.path(), &["init", "--members", "1", "--dir", "ledger"]);
    let genesis = "ledger/genesis.json";
    for text in [
        "",
        "{}",
        "{\"proof\": \"consortium transaction 1\"}",
        "\u{0}",
    ] {
        fs::write(home.path().join("x.proof"), text).expect("written");
        let words = [
            "verify",
            "--genesis",
            genesis,
            "--proof",
            "x.proof",
            "-o",
            "json",
        ];
        let output = run(home.path(), &words);
        assert_eq!(code(&output), 4, "{text:?}: {}", err(&output));
        let report = json(&output);
        assert_eq!(report["ok"], false);
        assert_eq!(report["faults"][0]["file"], "x.proof");
    }
}

#[test]
fn a_closed_standard_output_ends_quietly() {
    let home = tempfile::tempdir().expect("a folder");
    let mut command = program(home.path());
    let started = command.args(["completions", "bash"]).stdout(Stdio::piped());
    let mut child = started.stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let mut talk = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    stderr.read_to_string(&mut talk).expect("text");
    child.wait().expect("it ends");
    assert!(!talk.contains("panicked"), "{talk}");
}

#[test]
fn the_registries_are_listed_and_dev_takes_what_fits_its_place() {
    let home = tempfile::tempdir().expect("a folder");
    let named = |verb: &str, name: &str| {
        let listed = json(&run(home.path(), &[verb, "-o", "json"]));
        let plugs = listed[verb].as_array().expect("a list").clone();
        let found = plugs.into_iter().find(|plug| plug["name"] == name);
        found.unwrap_or_else(|| panic!("{verb} lacks {name}"))
    };
    let certified = named("engines", "certified");
    assert_eq!(certified["roles"], serde_json::json!(["group"]));
    assert_eq!(certified["finality"], "certificate");
    let ordering = named("engines", "mod-smart");
    assert_eq!(ordering["roles"], serde_json::json!(["committee"]));
    for (verb, name) in [("overlays", "full-gossip"), ("applications", "kv")] {
        assert!(
            !named(verb, name)["about"]
                .as_str()
                .expect("text")
                .is_empty()
        );
    }
    let cases = [
        ("--committee-engine", "certified", "mod-smart"),
        ("--group-engine", "mod-smart", "certified"),
        ("--group-engine", "nothing", "certified"),
        ("--overlay", "nothing", "full-gossip"),
        ("--application", "nothing", "kv"),
    ];
    for (flag, given, known) in cases {
        let refused = run(home.path(), &["dev", "--dir", "none", flag, given]);
        assert_eq!(code(&refused), 2, "{flag} {given}");
        let talk = err(&refused);
        assert!(talk.contains(given) && talk.contains(known), "{talk}");
        assert!(!home.path().join("none").exists(), "nothing is made");
    }
}

/// A `dev` that ends with the test.
struct Dev(Child);

impl Dev {
    fn start(home: &Path) -> Self {
        let mut command = program(home);
        let words = [
            "dev",
            "--members",
            "4",
            "--dir",
            "ledger",
            "--observers",
            "1",
            "--seconds",
            "240",
        ];
        let started = command.args(words).stdout(Stdio::piped()).spawn();
        let mut child = started.expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut lines = lines.map_while(Result::ok);
        assert!(
            lines.any(|line| line == "CONSORTIUM_READY=1"),
            "it becomes ready"
        );
        Self(child)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Killed, not asked: its members end all the same, since their input ends.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_ledger_takes_proves_and_tells_what_was_put() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    let _dev = Dev::start(home);
    let ask = |words: &[&str]| run(home, &[&["--dir", "ledger", "-o", "json"], words].concat());
    let put = ask(&[
        "submit",
        "--id",
        "one",
        "--proof",
        "put.proof",
        "put",
        "key",
        "value",
    ]);
    assert_eq!(code(&put), 0, "{}", err(&put));
    assert_eq!(json(&put)["persistence"], "durable");
    let again = ask(&["submit", "--id", "one", "put", "key", "value"]);
    for field in ["sequence", "height", "index"] {
        assert_eq!(json(&again)[field], json(&put)[field], "executed once");
    }
    assert_eq!(
        code(&ask(&["submit", "--id", "one", "put", "key", "other"])),
        1
    );
    assert_eq!(
        out(&run(home, &["get", "key", "--dir", "ledger"])),
        "value\n"
    );
    let got = ask(&["get", "key", "--certified", "--proof", "get.proof"]);
    assert_eq!(json(&got)["certified"], true);
    let absent = ask(&["get", "none", "--certified"]);
    assert_eq!(code(&absent), 1);
    assert_eq!(json(&absent)["value"], Value::Null);
    for file in ["put.proof", "get.proof"] {
        let words = [
            "verify",
            "--genesis",
            "ledger/genesis.json",
            "--proof",
            file,
        ];
        assert_eq!(code(&run(home, &words)), 0, "{file}");
        let mut bytes = fs::read(home.join(file)).expect("is there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(home.join(file), bytes).expect("written");
        assert_eq!(code(&run(home, &words)), 4, "{file} with a flipped bit");
    }
    let tail = ask(&["tail", "--from", "0"]);
    let first = out(&tail);
    let first: Value = serde_json::from_str(first.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["sequence"], 0);
    assert_eq!(first["client_sequence"], json(&put)["sequence"]);
    let height = json(&put)["height"].to_string();
    assert_eq!(json(&ask(&["block", &height]))["kind"], "transactions");
    let status = json(&ask(&["status"]));
    assert_eq!(
        (&status["quorum"], &status["faults_tolerated"]),
        (&3.into(), &1.into())
    );
}

#[test]
fn an_observer_answers_figures_are_counted_and_an_ended_member_has_no_process() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path();
    let _dev = Dev::start(home);
    let cluster = || -> Value {
        let text = fs::read_to_string(home.join("ledger/cluster.json")).expect("is there");
        serde_json::from_str(&text).expect("JSON")
    };
    let observer = cluster()["observers"][0].clone();
    let url = observer["api"].as_str().expect("an address").to_owned();
    let genesis = ["--genesis", "ledger/genesis.json", "-o", "json", "--api"];
    let ask = |words: &[&str]| run(home, &[&genesis[..], &[&url], words].concat());
    let put = ask(&["submit", "put", "seen", "from afar"]);
    assert_eq!(code(&put), 0, "{}", err(&put));
    let got = ask(&["get", "seen", "--certified"]);
    assert_eq!(json(&got)["value"], "from afar");
    let walked = ask(&["verify", "--views"]);
    assert_eq!(code(&walked), 0, "{}", err(&walked));
    let walked = json(&walked);
    assert_eq!(walked["ok"], true);
    assert_eq!(
        walked["views"],
        walked["view"]["id"].as_u64().expect("a view") + 1
    );
    assert_eq!(
        walked["view"]["committee"].as_array().map(Vec::len),
        Some(4)
    );
    let status = json(&run(home, &["status", "--dir", "ledger", "-o", "json"]));
    let members = status["members"].as_array().expect("a list");
    let watching = members.iter().filter(|row| row["role"] == "observer");
    assert_eq!((members.len(), watching.count()), (5, 1));

    let words = [
        "bench",
        "--dir",
        "ledger",
        "--seconds",
        "1",
        "--clients",
        "4",
    ];
    let figures = json(&run(home, &[&words[..], &["-o", "json"]].concat()));
    for field in ["fsyncs_per_second", "log_bytes_per_tx"] {
        assert!(figures[field].as_f64().expect(field) > 0.0, "{figures}");
    }

    let pid = cluster()["members"][3]["pid"].to_string();
    let killed = Command::new("kill").args(["-9", &pid]).status();
    assert!(killed.expect("kill runs").success());
    let is_noted = (0..100).any(|_| {
        run(home, &["status", "--dir", "ledger"]);
        cluster()["members"][3]["pid"].is_null()
    });
    assert!(is_noted, "{}", cluster());
    let again = program(home)
        .args(["start", "--until-input-ends", "--dir", "ledger/member-3"])
        .output();
    assert!(
        again.expect("it runs").status.success(),
        "its folder is good"
    );
}
