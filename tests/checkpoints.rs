//! Checkpoints of the built program, with real processes: listed, asked for, pruned behind, proved.
//!
//! Source: `docs/checkpoints.md`. In: words, load. Out: what members list, refuse and find.
//! Holds: nothing sleeps; the log files are as small as they may be.
//! Elsewhere: the same inside one process (`node`), under faults (`sim`).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use consortium::storage::write_sealed;
use serde_json::Value;
use support::{Dev, Place, Running, code, err, signal, with_changed};

#[expect(dead_code, reason = "each test file uses a part")]
mod support;

const MEMBERS: [&str; 4] = [
    "ledger/member-0",
    "ledger/member-1",
    "ledger/member-2",
    "ledger/member-3",
];
/// A value of this size fills log files soon, and is short enough for a line.
const VALUE: usize = 90 << 10;

/// A `dev` of four members with frequent checkpoints, small segments and small log files.
fn start(place: &Place) -> Dev {
    let words = [
        "init",
        "--members",
        "4",
        "--dir",
        "ledger",
        "--checkpoint-blocks",
        "16",
        "--segment-bytes",
        "4096",
    ];
    place.done(&words);
    let genesis = fs::read_to_string(place.path("ledger/genesis.json")).expect("a document");
    let genesis: Value = serde_json::from_str(&genesis).expect("JSON");
    let rules = &genesis["parameters"]["checkpoints"];
    assert_eq!(
        (&rules["every_blocks"], &rules["segment_bytes"]),
        (&16.into(), &4096.into())
    );
    for member in MEMBERS {
        let path = place.path(member).join("member.toml");
        let text = fs::read_to_string(&path).expect("settings");
        let lines = text.lines().map(|line| match line.split_once(" = ") {
            Some(("log_file_mib", _)) => "log_file_mib = 8",
            Some(_) | None => line,
        });
        let lines: Vec<&str> = lines.collect();
        fs::write(&path, lines.join("\n")).expect("written");
    }
    Dev::start(place, &[])
}

/// Puts `count` large values.
fn load(place: &Place, name: &str, count: usize) {
    let mut command = place.program(&["submit", "--dir", "ledger", "--key", name, "-"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut child = child.expect("it starts");
    let mut input = child.stdin.take().expect("piped");
    for number in 0..count {
        let value = format!("{number:x}").repeat(VALUE);
        let line = format!("put {name}-{} {}\n", number % 8, &value[..VALUE]);
        input.write_all(line.as_bytes()).expect("it reads");
    }
    drop(input);
    assert!(child.wait().expect("it ends").success());
}

/// The lowest number of a log file of the member in `dir`.
fn first_file(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir.join("data/log")).expect("a log").flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let numbers = names.filter_map(|name| name.strip_suffix(".log")?.parse().ok());
    numbers.min().expect("a file")
}

fn du(dir: &Path) -> u64 {
    let mut command = Command::new("du");
    let said = command.args(["-s", "--block-size=1"]).arg(dir).output();
    let text = String::from_utf8(said.expect("du runs").stdout).expect("text");
    let number = text.split_whitespace().next().expect("a number");
    number.parse().expect("a number")
}

fn list(place: &Place) -> Value {
    place.json(&["checkpoint", "list", "--dir", "ledger"])
}

/// What the document says of `field` for each member.
fn of_members(document: &Value, field: &str) -> Vec<u64> {
    let members = document["members"].as_array().expect("a list").iter();
    let values = members.map(|member| member[field].as_u64().expect("a number"));
    values.collect()
}

/// A certified snapshot that every member holds, above `height`; no two differ at one height.
fn held_by_all(place: &Place, height: u64) -> Value {
    place.until("a checkpoint that all hold", || {
        let list = list(place);
        let rows = list["checkpoints"].as_array().expect("a list").clone();
        let mut heights: Vec<u64> = { rows.iter() }
            .map(|row| row["height"].as_u64().expect("a height"))
            .collect();
        heights.dedup();
        assert_eq!(heights.len(), rows.len(), "one snapshot a height: {list:#}");
        let is_it = |row: &&Value| {
            row["certified"] == true
                && row["height"].as_u64() > Some(height)
                && row["members"].as_array().is_some_and(|all| all.len() == 4)
        };
        rows.iter().rev().find(is_it).cloned()
    })
}

fn refused(place: &Place, words: &[&str], exit: i32, why: &str) {
    let output = place.run(words);
    assert_eq!(code(&output), exit, "{words:?}: {}", err(&output));
    assert!(err(&output).contains(why), "{words:?}: {}", err(&output));
}

/// Old log files went, the disk has what members say, and what went is refused by name.
fn pruned(place: &Place) {
    let folders = MEMBERS.map(|member| place.path(member));
    for round in 0.. {
        load(place, &format!("load-{round}"), 40);
        if folders.iter().all(|dir| first_file(dir) > 1) {
            break;
        }
        assert!(round < 20, "nothing is pruned");
    }
    held_by_all(place, 0);
    place.until("members that say what du says", || {
        let said = of_members(&list(place), "retained_bytes");
        let found = folders.iter().map(|dir| du(&dir.join("data")));
        let is_near = |(said, found): (&u64, u64)| said.abs_diff(found) <= found / 8;
        said.iter().zip(found).all(is_near).then_some(())
    });
    let at = MEMBERS[0];
    let held = place.json(&["checkpoint", "list", "--dir", at]);
    let (block, event) = (
        of_members(&held, "first_block")[0],
        of_members(&held, "first_sequence")[0],
    );
    assert!(block > 1 && event > 0, "{held:#}");
    let why = format!("block 1 was pruned: block {block} is the lowest that is kept");
    refused(place, &["block", "1", "--dir", at], 1, &why);
    place.done(&["block", &block.to_string(), "--dir", at]);
    let why = format!("event 0 was pruned: event {event} is the lowest that is kept");
    refused(place, &["tail", "--from", "0", "--dir", at], 1, &why);
    let lowest = event.to_string();
    let tail = place.done(&["tail", "--from", &lowest, "-o", "json", "--dir", at]);
    let first: Value = serde_json::from_str(tail.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["sequence"], event);
    place.done(&["tail", "--dir", at]);
    place.done(&["get", "load-0-1", "--certified", "--dir", "ledger"]);
    let status = place.json(&["status", "--dir", "ledger"]);
    assert!(
        of_members(&status, "checkpoint_height")
            .iter()
            .all(|at| *at > 0)
    );
    assert!(of_members(&status, "first_block").iter().all(|at| *at > 1));
}

/// Blocks behind the newest snapshot.
fn behind_the_last(place: &Place) -> u64 {
    let rows = list(place)["checkpoints"].as_array().cloned();
    let heights = rows.into_iter().flatten();
    let newest = heights.filter_map(|row| row["height"].as_u64()).max();
    let status = place.json(&["status", "--dir", "ledger"]);
    let tip = of_members(&status, "height").into_iter().max();
    tip.unwrap_or_default() - newest.unwrap_or_default()
}

/// One that is asked for comes at once where blocks lie between, and later where they do not.
fn asked_for(place: &Place) {
    for number in 0.. {
        let key = format!("small-{number}");
        place.done(&["submit", "--dir", "ledger", "put", &key, "value"]);
        if (8..=12).contains(&behind_the_last(place)) {
            break; // The next one is due by itself at the 16th.
        }
        assert!(number < 40, "snapshots come more often than they should");
    }
    let made = place.json(&["checkpoint", "now", "--dir", "ledger"]);
    let height = made["height"].as_u64().expect("a height");
    assert!(made["asked"].as_u64().is_some_and(|asked| asked <= height));
    let all = held_by_all(place, height - 1);
    assert_eq!(all["digest"], made["digest"], "{all:#}");
    let now = ["checkpoint", "now", "--dir", MEMBERS[1], "--timeout", "1"];
    refused(place, &now, 3, "less than 8 blocks old");
    for number in 0..9 {
        let key = format!("more-{number}");
        place.done(&["submit", "--dir", "ledger", "put", &key, "value"]);
    }
    held_by_all(place, height);
}

/// The one file whose name ends so, or the first.
fn file(dir: &Path, end: &str) -> PathBuf {
    let entries = fs::read_dir(dir).expect("a folder").flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    let mut paths = paths.into_iter();
    paths
        .find(|path| path.to_string_lossy().ends_with(end))
        .expect("a file")
}

/// Flips a bit in every segment of a pack: some of them no snapshot has any more.
fn flip_segments(pack: &mut [u8]) {
    let mut at = 32;
    while let Some(head) = pack.get(at..at + 48) {
        let length = u32::from_le_bytes(head[32..36].try_into().expect("four bytes"));
        pack[at + 48] ^= 8;
        at += 48 + length as usize;
    }
    assert_eq!(at, pack.len(), "records fill the pack");
}

/// A folder at rest is proved, and a flipped bit in any file of snapshots is named.
fn proved(place: &Place, member: &str) {
    let with = ["--genesis", "ledger/genesis.json", "--dir", member];
    let log = [&["verify"][..], &with].concat();
    let own = [&["checkpoint", "verify"][..], &with].concat();
    let verdict = place.json(&log);
    assert_eq!(verdict["ok"], true);
    let verdict = place.json(&own);
    let checked = verdict["checkpoints"].as_array().expect("a list");
    assert!(!checked.is_empty() && checked.iter().all(|one| one["ok"] == true));
    let snapshots = place.path(member).join("data/snapshots");
    for end in [".pack", ".snapshot", ".checkpoint"] {
        let path = file(&snapshots, end);
        let name = path.file_name().expect("a name").to_string_lossy();
        with_changed(
            &path,
            |bytes| match end {
                ".pack" => flip_segments(bytes),
                _ => bytes[40] ^= 8,
            },
            || {
                refused(place, &log, 4, &name);
                refused(place, &own, 4, &name);
            },
        );
    }
}

/// Starts the member again as it is, and without its tables; it comes to what the others have.
fn restarted(place: &Place, number: usize) {
    let member = MEMBERS[number];
    let ids = Dev::members(place);
    signal("TERM", ids[number]);
    place.until("its end", || {
        let status = place.run(&["status", "--dir", member]);
        (code(&status) == 1).then_some(())
    });
    proved(place, member);
    for how in ["as it is", "without tables"] {
        if how == "without tables" {
            fs::remove_dir_all(place.path(member).join("data/tables")).expect("removed");
        }
        let running = place.start(member);
        place.agree(&["--dir", "ledger"], 4);
        let value = place.done(&["get", "more-8", "--dir", member]);
        assert_eq!(value, "value\n", "{how}");
        running.end("TERM");
    }
}

/// What a kill leaves in the folder of a member that prunes is no fault, whenever it comes.
fn killed(place: &Place, number: usize) {
    let member = MEMBERS[number];
    let verify = [
        "verify",
        "--genesis",
        "ledger/genesis.json",
        "--dir",
        member,
    ];
    for round in 0..3 {
        let running = place.start(member);
        load(place, "killed", 12 + 9 * round);
        running.kill();
        let verdict = place.json(&verify);
        assert_eq!(verdict["ok"], true, "kill {round}: {verdict:#}");
    }
}

#[test]
fn members_checkpoint_prune_and_start_behind_it() {
    let place = Place::new();
    let _dev = start(&place);
    pruned(&place);
    asked_for(&place);
    let compared = place.json(&["checkpoint", "verify", "--dir", "ledger"]);
    assert_eq!(compared["ok"], true, "{compared:#}");
    let table = place.done(&["checkpoint", "list", "--dir", "ledger"]);
    assert!(table.starts_with("HEIGHT"), "{table}");
    restarted(&place, 3);
    killed(&place, 3);
    let running = place.start(MEMBERS[3]);
    place.agree(&["--dir", "ledger"], 4);
    let metrics = place.json(&["status", "--dir", "ledger"]);
    assert_eq!(metrics["members"][0]["reachable"], true);
    running.end("TERM");
}

/// Notes in the folder of a member that it has to fetch a checkpoint, as it does itself once nobody
/// has the blocks that it lacks.
fn want_checkpoint(place: &Place, member: &str, local: u64) {
    let folder = place.path(member).join("data/bootstrap");
    write_sealed(&folder, "wanted", &local.to_le_bytes()).expect("written");
}

/// Where the member is reached over HTTP.
fn door(place: &Place, member: &str) -> String {
    let config = place.json(&["config", "print", "--dir", member]);
    config["listen_api"].as_str().expect("an address").into()
}

/// What the member's door answers to a request: the whole text.
fn ask(place: &Place, member: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(door(place, member)).expect("it listens");
    let text = format!("{request} HTTP/1.1\r\nhost: door\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// A member that bootstraps, as its row says; nothing before it does.
fn bootstrapping(place: &Place, member: &str, stage: &str) -> Value {
    place.until("a member that bootstraps", || {
        let status = place.run(&["status", "--dir", member, "-o", "json"]);
        let status: Value = serde_json::from_slice(&status.stdout).ok()?;
        let row = status["members"][0].clone();
        assert_ne!(row["reachable"], true, "{row:#}");
        (row["bootstrap"]["stage"] == stage).then_some(row)
    })
}

/// What a member with nobody to ask answers.
fn door_of_a_start(place: &Place, member: &str) {
    let row = bootstrapping(place, member, "walk");
    assert_eq!(row["state"], "bootstrapping");
    assert_eq!((&row["height"], &row["view"]), (&0.into(), &0.into()));
    assert!(row["error"].is_null() && row["role"].is_null());
    let bootstrap = &row["bootstrap"];
    for field in ["segments", "segments_held", "bytes", "bytes_held"] {
        assert_eq!(bootstrap[field], 0, "{field}");
    }
    for field in ["bytes_per_second", "seconds_left", "target_height"] {
        assert!(bootstrap.get(field).is_some_and(Value::is_null), "{field}");
    }
    let table = place.done(&["status", "--dir", member]);
    assert!(table.contains("bootstrapping walk"), "{table}");
    assert!(
        table.contains("member-3: bootstrapping, walk, view 0 proved"),
        "{table}"
    );

    let refused = ask(place, member, "GET /v1/kv/a");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    for said in ["retry-after: 2", "\"code\":\"bootstrapping\"", "\"help\":"] {
        assert!(refused.contains(said), "'{said}' is not in: {refused}");
    }
    let refused = ask(place, member, "POST /v1/transactions");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let ready = ask(place, member, "GET /readyz?verbose");
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("\"bootstrap\""));
    assert!(ask(place, member, "GET /livez").starts_with("HTTP/1.1 200 "));
    let metrics = ask(place, member, "GET /metrics");
    assert!(
        metrics.contains("consortium_bootstrap_stage{stage=\"walk\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("consortium_bootstrapping 1"), "{metrics}");
    let get = place.run(&["get", "a", "--dir", member]);
    assert_eq!(code(&get), 1);
    assert!(
        err(&get).contains("this member is bootstrapping: walk"),
        "{}",
        err(&get)
    );
}

#[test]
fn a_member_that_bootstraps_says_how_far_it_is_and_ends_when_told() {
    let place = Place::new();
    place.done(&["init", "--members", "4", "--dir", "ledger"]);
    let member = MEMBERS[3];
    want_checkpoint(&place, member, 0);
    for name in ["TERM", "INT"] {
        let running = place.launch(member, &[]);
        door_of_a_start(&place, member);
        assert_eq!(running.end(name), Some(0));
        let talk = fs::read_to_string(place.talk(member)).expect("its talk");
        assert!(talk.contains("ended before it took part"), "{talk}");
        assert!(!talk.contains("left behind"), "{talk}");
    }
    let killed = place.launch(member, &[]);
    bootstrapping(&place, member, "walk");
    killed.kill();

    // With the others there it learns that blocks are enough, and serves.
    let newcomer = place.launch(member, &[]);
    let others: Vec<_> = MEMBERS[..3]
        .iter()
        .map(|member| place.start(member))
        .collect();
    let doors = MEMBERS.map(|member| door(&place, member)).join(",");
    place.agree(&["--api", &doors], 4);
    let metrics = ask(&place, member, "GET /metrics");
    assert!(metrics.contains("consortium_bootstrapping 0"), "{metrics}");
    for running in others.into_iter().chain([newcomer]) {
        assert_eq!(running.end("TERM"), Some(0));
    }
}

#[test]
fn a_parent_that_goes_ends_a_member_that_bootstraps() {
    let place = Place::new();
    place.done(&["init", "--members", "4", "--dir", "ledger"]);
    want_checkpoint(&place, MEMBERS[3], 0);
    let words = ["start", "--dir", MEMBERS[3], "--until-input-ends"];
    let mut command = place.program(&words);
    let started = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut running = Running(started.expect("it starts"));
    bootstrapping(&place, MEMBERS[3], "walk");
    drop(running.0.stdin.take());
    assert_eq!(running.0.wait().expect("it ends").code(), Some(0));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let place = Place::new();
    let init = ["init", "--members", "1", "--dir", "ledger"];
    let few = [&init[..], &["--checkpoint-blocks", "3"]].concat();
    refused(
        &place,
        &few,
        2,
        "checkpoints.every_blocks must be 0 or between 8",
    );
    let dev = ["dev", "--dir", "ledger", "--checkpoint-bytes", "3"];
    refused(
        &place,
        &dev,
        2,
        "checkpoints.every_bytes must be 0 or at least 1024",
    );
    let large = [&init[..], &["--segment-bytes", "9000000"]].concat();
    refused(&place, &large, 2, "between 1 KiB and 1 MiB");
    place.done(&init);
    let printed = place.done(&["config", "print", "--dir", MEMBERS[0]]);
    for key in ["prune = true", "keep_checkpoints = 2", "keep_blocks = 0"] {
        let (meaning, _) = printed.split_once(key).expect("it is printed");
        let above = meaning.trim_end().lines().next_back();
        assert!(above.is_some_and(|line| line.starts_with("# ")), "{key}");
    }
    let path = place.path(MEMBERS[0]).join("member.toml");
    let text = fs::read_to_string(&path).expect("settings");
    fs::write(
        &path,
        text.replace("keep_checkpoints = 2", "keep_checkpoints = 0"),
    )
    .expect("written");
    let words = ["config", "check", "--dir", MEMBERS[0]];
    refused(&place, &words, 1, "keep_checkpoints is at least 1");
    let verify = ["checkpoint", "verify", "--dir", MEMBERS[0]];
    fs::write(&path, text).expect("written");
    refused(&place, &verify, 2, "--genesis is the trust root");
    refused(
        &place,
        &["checkpoint", "now", "--api", "http://127.0.0.1:1"],
        2,
        "--dir MEMBER_DIR",
    );
}
