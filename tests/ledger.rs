//! Whole ledgers from outside: founders, proofs, a `dev` that lost every member.
//!
//! Source: `docs/cli.md`. In: words, signals. Out: histories, digests, exit codes.
//! Holds: what was acknowledged stands in every member's history once, at its place.
//! Elsewhere: what is refused (`refusals.rs`), verbs (`cli.rs`), faults under load (`chaos.rs`).

use std::fs;

use support::{Dev, Load, Place, check_history, code, signal, with_changed};

#[expect(dead_code, reason = "each test file uses a part")]
mod support;

#[test]
fn four_organisations_order_with_three_and_the_fourth_catches_up() {
    let place = Place::new();
    let names = ["alpha", "beta", "gamma", "delta"];
    let mut words = vec!["init", "--founder"];
    for name in names {
        let founder = place.done(&["key", "generate", "--dir", name]);
        fs::write(place.path(&format!("{name}.json")), founder).expect("written");
    }
    words.extend(["alpha.json", "beta.json", "gamma.json", "delta.json"]);
    place.done(&words);
    for name in names {
        let to = place.path(&format!("{name}/genesis.json"));
        fs::copy(place.path("genesis.json"), to).expect("copied");
    }
    let mut running: Vec<_> = names[..3].iter().map(|name| place.start(name)).collect();
    let submit = ["submit", "--dir", "alpha", "--proof", "p.proof"];
    place.done(&[&submit[..], &["put", "key", "value"]].concat());
    running.push(place.start("delta"));
    place.until("the fourth catches up", || {
        let got = place.run(&["get", "key", "--dir", "delta"]);
        (got.stdout == b"value\n").then_some(())
    });
    let tips = names.map(|name| place.agree(&["--dir", name], 1));
    assert!(tips.iter().all(|tip| *tip == tips[0]), "{tips:?}");
    for member in running {
        assert_eq!(member.end("INT"), Some(0));
    }
    // Nothing but the document and the proof at hand.
    let alone = Place::new();
    for file in ["genesis.json", "p.proof"] {
        fs::copy(place.path(file), alone.path(file)).expect("copied");
    }
    alone.done(&["verify", "--genesis", "genesis.json", "--proof", "p.proof"]);
    let words = ["verify", "--genesis", "genesis.json", "--dir", "delta"];
    assert_eq!(place.json(&words)["digest"], tips[0].1.as_str());
}

#[test]
fn no_byte_of_a_proof_can_change() {
    let place = Place::new();
    place.done(&["init", "--members", "1", "--dir", "one"]);
    let member = place.start("one/member-0");
    let submit = ["submit", "--dir", "one/member-0", "--proof", "p.proof"];
    place.done(&[&submit[..], &["put", "key", "value"]].concat());
    let genesis = "one/genesis.json";
    let verify = || code(&place.run(&["verify", "--genesis", genesis, "--proof", "p.proof"]));
    assert_eq!(verify(), 0);
    let path = place.path("p.proof");
    let proof = fs::read(&path).expect("is there");
    for at in (0..proof.len()).step_by(23) {
        // Space and line end look alike to a reader of JSON; so do digits in capitals.
        let other = match proof[at] {
            b' ' => b'\n',
            b'\n' => b' ',
            letter if letter.is_ascii_alphabetic() => letter ^ 0x20,
            other => other ^ 1,
        };
        let ended = with_changed(&path, |bytes| bytes[at] = other, verify);
        assert_eq!(ended, 4, "byte {at}");
    }
    let longer = with_changed(&path, |bytes| bytes.push(b'\n'), verify);
    let shorter = with_changed(&path, |bytes| bytes.truncate(bytes.len() - 1), verify);
    assert_eq!((longer, shorter), (4, 4));
    assert_eq!(member.end("TERM"), Some(0));
}

#[test]
fn a_dev_whose_members_were_all_killed_starts_again_with_what_was_acknowledged() {
    let place = Place::new();
    let dev = Dev::start(&place, &[]);
    let mut load = Load::start(&place, "all", 3, 600);
    load.wait_for(1);
    for pid in Dev::members(&place) {
        signal("KILL", pid);
    }
    let dirs = (0..4).map(|number| format!("ledger/member-{number}"));
    let running: Vec<_> = dirs.map(|dir| place.start(&dir)).collect();
    let told = load.finish();
    place.agree(&["--dir", "ledger"], 4);
    check_history(&place, 4, &told);
    for member in running {
        assert_eq!(member.end("TERM"), Some(0));
    }
    assert_eq!(dev.0.end("INT"), Some(0));
    // The folder is one of an earlier dev, and still has it all.
    let _again = Dev::start(&place, &[]);
    place.agree(&["--dir", "ledger"], 4);
    check_history(&place, 4, &told);
}
