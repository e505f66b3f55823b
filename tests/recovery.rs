//! Members that lost what they promised: a copy of an older day, a folder without its log.
//!
//! Source: `docs/cli.md`. In: copied and emptied folders. Out: states, sentences, histories.
//! Holds: whoever does not know what it signed signs nothing any more, and the others go on.
//! Elsewhere: crashes that lose nothing (`ledger.rs`).

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{Place, Running};

#[expect(dead_code, reason = "each test file uses a part")]
mod support;

const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

/// Four founders on free ports, all running.
fn four(place: &Place) -> Vec<Running> {
    let mut words = vec!["init", "--founder"];
    for name in NAMES {
        let founder = place.done(&["key", "generate", "--dir", name]);
        fs::write(place.path(&format!("{name}.json")), founder).expect("written");
    }
    words.extend(["alpha.json", "beta.json", "gamma.json", "delta.json"]);
    place.done(&words);
    for name in NAMES {
        let to = place.path(&format!("{name}/genesis.json"));
        fs::copy(place.path("genesis.json"), to).expect("copied");
    }
    NAMES.iter().map(|name| place.start(name)).collect()
}

fn put(place: &Place, dir: &str, key: &str) {
    place.done(&["submit", "--dir", dir, "put", key, "value"]);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    let mode = fs::metadata(from).expect("is there").permissions();
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().expect("a kind").is_dir() {
            true => copy(&from, &to),
            false => drop(fs::copy(from, to).expect("copied")),
        }
    }
    fs::set_permissions(to, mode).expect("ours");
}

fn member(place: &Place, dir: &str) -> Value {
    place.json(&["status", "--dir", dir])["members"][0].clone()
}

#[test]
fn an_older_copy_of_a_member_is_found_out_and_the_others_go_on() {
    let place = Place::new();
    let mut running = four(&place);
    put(&place, "alpha", "first");
    place.agree(&["--dir", "delta"], 1);
    // The copy is whole: settings, keys and data of one moment.
    assert_eq!(running.pop().expect("delta").end("INT"), Some(0));
    copy(&place.path("delta"), &place.path("backup"));
    running.push(place.start("delta"));
    for key in ["second", "third", "fourth"] {
        put(&place, "delta", key);
    }
    assert_eq!(running.pop().expect("delta").end("INT"), Some(0));
    fs::remove_dir_all(place.path("delta")).expect("ours");
    copy(&place.path("backup"), &place.path("delta"));

    running.push(place.start("delta"));
    let note = place.until("the rollback is found", || {
        let delta = member(&place, "delta");
        let note = delta["note"].as_str().map(str::to_owned);
        note.filter(|_| delta["state"] == "wiped")
    });
    for said in [
        "rolled back",
        "of ours",
        "our log lacks",
        "rejoin with a fresh key",
    ] {
        assert!(note.contains(said), "'{said}' is not in: {note}");
    }
    // The others need nobody else, and it follows them.
    put(&place, "alpha", "fifth");
    place.until("it follows", || {
        let got = place.run(&["get", "fifth", "--dir", "delta"]);
        (got.stdout == b"value\n").then_some(())
    });
    // By now nobody holds anything that its log lacks: its own verdict counts.
    assert_eq!(running.pop().expect("delta").end("INT"), Some(0));
    running.push(place.start("delta"));
    place.until("the verdict stands", || {
        (member(&place, "delta")["state"] == "wiped").then_some(())
    });
    put(&place, "beta", "sixth");
    let faults = place.json(&["faults", "--dir", "alpha"]);
    assert_eq!(
        faults["members"][0]["faults"],
        Value::Array(Vec::new()),
        "it did no harm"
    );
}

#[test]
fn a_member_without_its_log_does_not_start_and_says_what_to_do() {
    let place = Place::new();
    let mut running = four(&place);
    put(&place, "alpha", "first");
    assert_eq!(running.pop().expect("delta").end("INT"), Some(0));
    fs::remove_dir_all(place.path("delta/data")).expect("ours");
    let (code, words) = place.ends(&["start", "--dir", "delta"]);
    assert_eq!(code, Some(1), "{words}");
    for said in ["lost the log of its votes", "rejoin", "\n  next: "] {
        assert!(words.contains(said), "'{said}' is not in: {words}");
    }
    put(&place, "alpha", "second");
}
