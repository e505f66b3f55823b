//! The verbs of members, of the built program and real processes.
//!
//! Source: `docs/cli.md`, `key` and `member`. In: words. Out: documents, what the list says.
//! Holds: what is refused says what to do next and changes nothing.
//! Elsewhere: joining, leaving and being wiped (`views.rs`).

use rotating::{Ledger, is_seated};
use serde_json::Value;
use support::{code, err};

#[path = "support/rotating.rs"]
mod rotating;
#[expect(dead_code, reason = "each test file uses a part")]
mod support;

const FOUNDER: [&str; 2] = ["--dir", "ledger/member-0"];

fn view(ledger: &Ledger) -> u64 {
    let list = ledger.done(&["member", "list"]);
    list["view"].as_u64().expect("a view")
}

fn listed(ledger: &Ledger, name: &str) -> Value {
    let mut members = ledger.members().into_iter();
    members
        .find(|member| member["name"] == name)
        .expect("it is listed")
}

/// The program refuses, and says so in these words.
fn refused(ledger: &Ledger, words: &[&str], exit: i32, why: &str) {
    let output = ledger.place.run(words);
    assert_eq!(code(&output), exit, "{words:?}: {}", err(&output));
    assert!(err(&output).contains(why), "{words:?}: {}", err(&output));
}

#[test]
fn a_member_that_asks_for_a_fresh_key_gets_one_with_the_next_view() {
    let ledger = Ledger::start(0);
    let key = |ledger: &Ledger| listed(ledger, "member-0")["consensus"].clone();
    let mut before = key(&ledger);
    for number in 1..=2 {
        let told = ledger.done(&[&["key", "rotate"][..], &FOUNDER].concat());
        assert_eq!(
            (&told["operation"], &told["result"]),
            (&"rotate".into(), &"done".into())
        );
        ledger
            .place
            .until("the next view", || (view(&ledger) >= number).then_some(()));
        assert_ne!(
            key(&ledger),
            before,
            "nobody writes, and the key is another all the same"
        );
        before = key(&ledger);
    }
    let log = ledger.done(&["member", "log"]);
    let deeds = log["history"].as_array().expect("a trail").iter();
    let wanted = deeds.filter(|entry| entry["what"] == "key_wanted");
    assert_eq!(wanted.count(), 2, "{log:#}");
    refused(&ledger, &["key", "rotate"], 2, "--dir ledger/member-0");
}

#[test]
fn members_change_their_address_and_the_rules() {
    let ledger = Ledger::start(0);
    let founder = |words: &[&str]| ledger.done(&[words, &FOUNDER].concat());

    founder(&["member", "address", "ledger.example.org:7100"]);
    let member = listed(&ledger, "member-0");
    assert_eq!(member["addresses"][0], "ledger.example.org:7100");
    let again = [
        "member",
        "address",
        "ledger.example.org:7100",
        "--dir",
        "ledger/member-0",
    ];
    refused(&ledger, &again, 1, "it is so already");
    let bad = ["member", "address", "nowhere", "--dir", "ledger/member-0"];
    refused(&ledger, &bad, 2, "no address of a member");

    let told = founder(&["member", "parameters", "--rotation-blocks", "24"]);
    assert_eq!(
        (&told["result"], &told["votes_needed"]),
        (&"open".into(), &3.into())
    );
    let list = ledger.done(&["member", "list"]);
    let what = list["ballots"][0]["what"]
        .as_str()
        .expect("what is voted on");
    assert!(
        what.starts_with("rotation_blocks 24 assemble_blocks 64"),
        "{what}"
    );
    ledger.vote("approve", list["ballots"][0]["id"].as_str().expect("an id"));
    let list = ledger.done(&["member", "list"]);
    assert_eq!(list["parameters"]["rotation_blocks"], 24);
    assert_eq!(list["clients_count"], Value::Null);
    let bad = [
        "member",
        "parameters",
        "--rotation-blocks",
        "3",
        "--dir",
        "ledger/member-0",
    ];
    refused(&ledger, &bad, 2, "rotation_blocks is 0 or 8");
    refused(
        &ledger,
        &["member", "parameters", "--dir", "ledger"],
        2,
        "required",
    );
}

#[test]
fn members_weigh_each_other_and_the_trail_says_who_did_what() {
    let ledger = Ledger::start(0);
    let founder = |words: &[&str]| ledger.done(&[words, &FOUNDER].concat());
    let id = ledger.id("member-1");
    founder(&["member", "weight", &id, "3"]);
    let list = ledger.done(&["member", "list"]);
    assert_eq!(list["ballots"][0]["what"], "weight 3");
    ledger.vote("approve", list["ballots"][0]["id"].as_str().expect("an id"));
    assert_eq!(listed(&ledger, "member-1")["weight"], 3);
    let heavy = ["member", "weight", &id, "300", "--dir", "ledger/member-0"];
    refused(&ledger, &heavy, 1, "a weight is 0 to 256");

    let client = ["member", "client", "admit", &id, "--dir", "ledger/member-0"];
    refused(&ledger, &client, 1, "any client may submit");
    let log = ledger.done(&["member", "log", "--member", &id]);
    let entries = log["history"].as_array().expect("a trail");
    assert!(entries.iter().any(|entry| entry["what"] == "weight 3"));
    assert!(
        entries
            .iter()
            .all(|entry| entry["by"] == *id || entry["member"] == *id)
    );
}

#[test]
fn a_file_convicts_nobody_unless_it_holds_evidence_that_does() {
    let ledger = Ledger::start(0);
    let file = ledger.place.path("evidence");
    let words = [
        "member",
        "convict",
        "--evidence",
        "evidence",
        "--dir",
        "ledger/member-0",
    ];
    refused(&ledger, &words, 1, "evidence");
    std::fs::write(&file, "00ff").expect("written");
    refused(&ledger, &words, 1, "consortium faults -o json");
    std::fs::write(&file, r#"{"members": []}"#).expect("written");
    refused(&ledger, &words, 1, "no evidence in it");
}

#[test]
fn a_member_goes_on_under_a_fresh_identity_in_another_folder() {
    let mut ledger = Ledger::start(0);
    ledger.write(1);
    let words = ["member", "identity", "heir", "--dir", "ledger/member-3"];
    let told = ledger.done(&words);
    assert_eq!(
        (&told["operation"], &told["result"]),
        (&"identity".into(), &"done".into())
    );
    ledger
        .running
        .push(("heir".into(), ledger.place.start("heir")));
    let id = ledger.place.json(&["config", "check", "--dir", "heir"])["member"].clone();
    let is_in = |members: &[Value]| {
        members
            .iter()
            .any(|member| member["id"] == id && member["seated"] == true)
    };
    ledger.write_until("the seat of the heir", |members| {
        is_in(members) && members.len() == 4
    });
    ledger.stop("ledger/member-3").kill();
    ledger.write(3);
    ledger.settle();
    assert!(is_seated(&ledger.members(), "member-2"));
}
