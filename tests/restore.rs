//! A ledger that lost more members than it bears, and its successor, of the built program.
//!
//! Source: `docs/cli.md`, restore. In: folders that go for good. Out: what the members say, a
//! ledger that goes on with everything that was put.
//! Holds: every value that was acknowledged is read from the successor.
//! Elsewhere: the state file (`node::carried`), members that come back (`views.rs`).

use std::fs;

use rotating::Ledger;
use serde_json::Value;
use support::{Running, code, err};

#[expect(dead_code, reason = "each test file uses a part")]
#[path = "support/rotating.rs"]
mod rotating;
#[expect(dead_code, reason = "each test file uses a part")]
mod support;

/// What members say of their view, once they all say it.
fn condition(ledger: &Ledger, wanted: &str) -> Value {
    ledger.place.until(wanted, || {
        let status = ledger.done(&["status"]);
        let members = status["members"].as_array().expect("a list").clone();
        let says = |member: &Value| member["views"]["condition"] == wanted;
        members.iter().all(says).then_some(status)
    })
}

#[test]
fn a_view_whose_keys_are_gone_is_dead_and_one_that_is_out_of_reach_has_stalled() {
    let mut ledger = Ledger::start(0);
    ledger.write(3);
    for name in ["ledger/member-2", "ledger/member-3"] {
        ledger.stop(name).kill();
    }
    let status = condition(&ledger, "stalled");
    let reason = status["reason"].as_str().expect("a reason");
    assert!(
        reason.starts_with("no quorum: 2 of 4 seats reachable, 3 needed"),
        "{reason}"
    );
    // They lost their disks, and fresh keys get no seat any more.
    for name in ["ledger/member-2", "ledger/member-3"] {
        fs::remove_dir_all(ledger.place.path(&format!("{name}/data"))).expect("wiped");
        let words = [
            "rejoin",
            "--dir",
            name,
            "--api",
            &ledger.doors(),
            "--timeout",
            "1",
        ];
        assert_ne!(code(&ledger.place.run(&words)), 0, "nobody orders it");
        let started = ledger.place.start(name);
        ledger.running.push((name.into(), started));
    }
    let status = condition(&ledger, "dead");
    let reason = status["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("2 of 4 seats have no key any more"),
        "{reason}"
    );
    assert!(reason.contains("consortium restore"), "{reason}");
    let lost = status["committee"].as_array().expect("seats").iter();
    assert_eq!(lost.filter(|seat| seat["lost"] == true).count(), 2);
    let vacant = status["members"].as_array().expect("a list").iter();
    let notes = vacant.filter_map(|member| member["note"].as_str());
    assert_eq!(
        notes
            .filter(|note| note.starts_with("seated without a key"))
            .count(),
        2
    );
}

/// The folders of four founders of a successor, and their public files.
fn founders(ledger: &Ledger) -> Vec<String> {
    let made = (0..4).map(|number| {
        let dir = format!("new-{number}");
        let file = ledger.place.done(&["key", "generate", "--dir", &dir]);
        fs::write(ledger.place.path(&format!("{dir}.json")), file).expect("written");
        format!("{dir}.json")
    });
    made.collect()
}

fn refused(ledger: &Ledger, words: &[&str], exit: i32, why: &str) {
    let output = ledger.place.run(words);
    assert_eq!(code(&output), exit, "{words:?}: {}", err(&output));
    assert!(err(&output).contains(why), "{words:?}: {}", err(&output));
}

/// What must not make a successor.
fn misuse(ledger: &Ledger, files: &[&str]) {
    let from = ["restore", "--dir", "ledger/member-0", "--out", "next.json"];
    refused(ledger, &from, 2, "key generate");
    let with = [&from[..], &["--founder"], files].concat();
    let running = ledger.place.start("ledger/member-0");
    refused(ledger, &with, 1, "stop it first");
    running.kill();
    let old = ledger
        .place
        .done(&["key", "show", "--dir", "ledger/member-0"]);
    fs::write(ledger.place.path("old.json"), old).expect("written");
    let again = [&from[..], &["--founder", "old.json"]].concat();
    refused(ledger, &again, 1, "a consensus key of the dead ledger");
    let log = ledger.place.path("ledger/member-0/data/log");
    let first = fs::read_dir(&log)
        .expect("a folder")
        .next()
        .expect("a file");
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.iter().position(|byte| *byte != 0).expect("records") + 600;
        bytes[middle] ^= 1;
    };
    let path = first.expect("an entry").path();
    support::with_changed(&path, flip, || {
        refused(ledger, &with, 4, "nothing was made")
    });
    assert!(!ledger.place.path("next.json").exists() && !ledger.place.path("next.state").exists());
}

/// The successor verifies, alone and with what it goes on from.
fn verified(ledger: &Ledger, door: &str, old: &Value) {
    let genesis = ["verify", "--genesis", "next.json"];
    let link = ["--predecessor", "ledger/genesis.json"];
    let replayed = ["--predecessor-dir", "ledger/member-0"];
    let verify = |more: &[&[&str]]| ledger.place.json(&[&genesis[..], &more.concat()].concat());
    let report = verify(&[&["--dir", "new-3"], &link, &replayed]);
    assert_eq!(
        (&report["ok"], &report["successor_of"]["followed"]),
        (&true.into(), &"replayed".into())
    );
    assert_eq!(report["successor_of"]["chain"], old["chain"]);
    assert_eq!(report["successor_of"]["height"], old["height"]);
    let report = verify(&[&["--views", "--api", door], &link]);
    assert_eq!(report["successor_of"]["followed"], "document");
    let report = verify(&[&["--dir", "new-0"]]);
    assert_eq!(report["successor_of"]["followed"], "named");
    // Another ledger is not what it goes on from, and neither is another folder.
    ledger
        .place
        .done(&["init", "--members", "1", "--dir", "other"]);
    let other = [&genesis[..], &["--predecessor", "other/genesis.json"]].concat();
    refused(ledger, &other, 4, "the successor names");
    let state = ledger.place.path("new-3/genesis.state");
    support::with_changed(
        &state,
        |bytes| bytes[60] ^= 1,
        || {
            refused(
                ledger,
                &["verify", "--genesis", "next.json", "--dir", "new-3"],
                1,
                "genesis.json names",
            );
        },
    );
}

/// Each founder gets the document and the state; without the state it does not start.
fn hand_out(ledger: &Ledger) {
    for number in 0..4 {
        let document = ledger.place.path(&format!("new-{number}/genesis.json"));
        fs::copy(ledger.place.path("next.json"), &document).expect("copied");
        if number == 0 {
            refused(
                ledger,
                &["start", "--dir", "new-0"],
                1,
                "genesis.state is missing",
            );
        }
        let state = document.with_extension("state");
        fs::copy(ledger.place.path("next.state"), state).expect("copied");
    }
}

fn start(ledger: &Ledger) -> Vec<(String, Running)> {
    let names = (0..4).map(|number| format!("new-{number}"));
    names
        .map(|name| (name.clone(), ledger.place.start(&name)))
        .collect()
}

/// A ledger of four that has rotated and lost two of its folders.
fn lost(put: &[&str]) -> Ledger {
    let mut ledger = Ledger::start(16);
    ledger.write(24);
    ledger.done(put);
    ledger.settle();
    let view = ledger.done(&["member", "list"])["view"].as_u64();
    assert!(view >= Some(1), "it has rotated before it dies");
    for (_, member) in std::mem::take(&mut ledger.running) {
        member.kill();
    }
    for lost in ["ledger/member-2", "ledger/member-3"] {
        fs::remove_dir_all(ledger.place.path(lost)).expect("lost for good");
    }
    ledger
}

#[test]
fn a_successor_goes_on_with_the_state_of_a_ledger_that_lost_two_of_four() {
    let put = [
        "submit", "--key", "payer", "--id", "order-17", "put", "order", "paid",
    ];
    let mut ledger = lost(&put);
    let files = founders(&ledger);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    misuse(&ledger, &files);
    let from = [
        "restore",
        "--dir",
        "ledger/member-0",
        "--out",
        "next.json",
        "--founder",
    ];
    let words = [&from[..], &files].concat();
    let made = ledger.place.json(&words);
    refused(&ledger, &words, 1, "is made once");
    let old = made["successor_of"].clone();
    assert_eq!(made["members"].as_array().map(Vec::len), Some(4));

    hand_out(&ledger);
    ledger.running = start(&ledger);
    ledger.settle();
    assert_eq!(
        ledger.place.done(&["get", "order", "--dir", "new-1"]),
        "paid\n"
    );
    // What was used before executes nothing here.
    let again = ledger
        .place
        .run(&[&put[..], &["--api", &ledger.doors()]].concat());
    assert_eq!(code(&again), 1, "{}", err(&again));
    ledger.write(20);
    ledger.settle();
    let certified = ledger
        .place
        .done(&["get", "k0", "--certified", "--dir", "new-2"]);
    assert_eq!(
        certified, "value\n",
        "of the old ledger, proved by the new one"
    );

    // All of it is there after a start from the tables, and after one without them.
    for (_, member) in std::mem::take(&mut ledger.running) {
        assert_eq!(member.end("TERM"), Some(0));
    }
    fs::remove_dir_all(ledger.place.path("new-1/data/tables")).expect("removed");
    ledger.running = start(&ledger);
    ledger.settle();
    ledger.write(2);
    ledger.settle();
    let door = ledger.door("new-0");
    let last = std::mem::take(&mut ledger.running);
    for (name, member) in last {
        if name != "new-0" {
            assert_eq!(member.end("TERM"), Some(0));
        } else {
            ledger.running.push((name, member));
        }
    }
    verified(&ledger, &door, &old);
}
