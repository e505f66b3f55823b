//! Committees of real processes: they rotate, grow, lose members and take them back.
//!
//! Source: `docs/cli.md`, member and rejoin. In: words, signals, a folder that is wiped. Out: the
//! list of members, what stands in their folders.
//! Holds: whatever was acknowledged is read back afterwards.
//! Elsewhere: hand-over under every fault (`simulate --rotation-blocks`).

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use consortium::storage::write_sealed;
use rotating::{Ledger, is_seated};
use serde_json::Value;
use sha2::{Digest as _, Sha512};
use support::{Place, Running, code, err};

#[path = "support/rotating.rs"]
mod rotating;
#[expect(dead_code, reason = "each test file uses a part")]
mod support;

/// The secret in the key file of a member; none while a hand-over changes the file.
fn secret_now(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("secret "));
    line.map(str::to_owned)
}

/// As [`secret_now`], of a member that changes nothing.
fn secret(path: &Path) -> String {
    secret_now(path).expect("a key file")
}

/// Whether any file below `dir` holds the secret, as hex or as bytes. A member that runs may remove
/// files meanwhile.
fn holds(dir: &Path, secret: &str) -> bool {
    let raw = hex::decode(secret).expect("hex");
    let has = |bytes: &[u8], what: &[u8]| memchr::memmem::find(bytes, what).is_some();
    fs::read_dir(dir).expect("a folder").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return holds(&path, secret);
        }
        match fs::read(&path) {
            Ok(bytes) => has(&bytes, secret.as_bytes()) || has(&bytes, &raw),
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => panic!("{}: {error}", path.display()),
        }
    })
}

/// Whether the memory of a process holds the secret: its seed, as bytes or as hex, or what it is
/// expanded to. Nothing where the system does not let us look.
fn remembers(process: u32, secret: &str) -> Option<bool> {
    let seed = hex::decode(secret).expect("hex");
    let expanded = Sha512::digest(&seed);
    let parts = [secret.as_bytes(), &seed, &expanded[32..]];
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    let memory = File::open(format!("/proc/{process}/mem")).ok()?;
    let mut is_read = false;
    for line in maps.lines().filter(|line| !line.contains("[v")) {
        let (range, rights) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let from = u64::from_str_radix(from, 16).ok()?;
        let to = u64::from_str_radix(to, 16).ok()?;
        let mut bytes = vec![0; usize::try_from(to - from).ok()?];
        if !rights.starts_with('r') || memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        is_read = true;
        if parts
            .iter()
            .any(|part| memchr::memmem::find(&bytes, part).is_some())
        {
            return Some(true);
        }
    }
    is_read.then_some(false)
}

#[test]
fn an_old_secret_is_in_no_memory_of_a_member_that_runs() {
    let mut ledger = Ledger::start(16);
    let name = "ledger/member-0";
    let path = ledger.place.path(&format!("{name}/consensus.key"));
    let process = ledger.running[0].1.0.id();
    let mut old = vec![secret(&path)];
    match remembers(process, &old[0]) {
        None => return eprintln!("skipped: this system shows nobody's memory"),
        Some(is_there) => assert!(is_there, "the scan finds what is there"),
    }
    for _ in 0..2 {
        let before = old.last().cloned();
        let fresh = (0..200).find_map(|_| {
            ledger.write(1);
            secret_now(&path).filter(|now| Some(now) != before.as_ref())
        });
        old.push(fresh.expect("a fresh key within 200 blocks"));
    }
    ledger
        .place
        .until("the present one alone is remembered", || {
            // A hand-over may still be under way.
            let present = secret_now(&path)?;
            let mut before = old.iter().filter(|old| **old != present);
            let is_old = before.any(|old| remembers(process, old) == Some(true));
            (remembers(process, &present)? && !is_old).then_some(())
        });
}

#[test]
fn a_ledger_rotates_grows_shrinks_and_takes_a_wiped_member_back() {
    let mut ledger = Ledger::start(16);
    let key = |name: &str| format!("{name}/consensus.key");
    let founder = secret(&ledger.place.path(&key("ledger/member-0")));
    assert!(holds(&ledger.place.path("ledger/member-0"), &founder));
    ledger.write(1);

    // Two commands and a start.
    let genesis = ["--genesis", "ledger/genesis.json"];
    ledger.done(&[&["member", "join", "--dir", "delta"][..], &genesis].concat());
    let list = ledger.done(&["member", "list"]);
    let ballot = list["ballots"][0]["id"].as_str().expect("a ballot");
    ledger.vote("approve", ballot);
    let members = ledger.members();
    assert!(
        !is_seated(&members, "delta"),
        "nobody is seated before it caught up"
    );
    let joined = secret(&ledger.place.path(&key("delta")));
    ledger
        .running
        .push(("delta".into(), ledger.place.start("delta")));
    // The ledger has fewer than eight blocks, and nothing else happens in it.
    ledger.place.until("a newcomer that caught up", || {
        let members = ledger.members();
        let delta = members.iter().find(|member| member["name"] == "delta")?;
        (delta["status"] != "joining").then_some(())
    });
    ledger.write_until("the newcomer's seat", |members| is_seated(members, "delta"));

    // A member that has a seat goes.
    let delta = ledger.id("delta");
    let mut gone = ledger.stop("delta");
    ledger.vote("remove", &delta);
    ledger.write_until("the end of its seat", |members| {
        !is_seated(members, "delta")
    });
    ledger.place.until("its keys are gone", || {
        (!ledger.place.path(&key("delta")).exists()).then_some(())
    });
    for (dir, old) in [("delta", &joined), ("ledger/member-0", &founder)] {
        assert!(
            !holds(&ledger.place.path(dir), old),
            "an old secret is left in {dir}"
        );
    }
    assert!(
        gone.0.try_wait().expect("asked").is_none(),
        "it goes on as an observer"
    );
    gone.kill();

    wipe_and_take_back(&mut ledger, "ledger/member-3", "member-3");
    ledger.settle();
    let history = ledger.done(&["member", "list", "--history"]);
    assert!(!history["history"].as_array().expect("a trail").is_empty());
    for (_, member) in ledger.running {
        assert_eq!(member.end("TERM"), Some(0));
    }
}

/// The member in the folder `name` loses its disk.
fn wipe_and_take_back(ledger: &mut Ledger, name: &str, called: &str) {
    ledger.stop(name).kill();
    fs::remove_dir_all(ledger.place.path(&format!("{name}/data"))).expect("wiped");
    let refused = ledger.place.run(&["start", "--dir", name]);
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains("rejoin"), "{}", err(&refused));
    let pin = newest_pin(ledger);
    ledger.done(&["rejoin", "--dir", name, "--pin", &pin]);
    let settings = fs::read_to_string(ledger.place.path(&format!("{name}/member.toml")));
    let line = format!("pin = \"{pin}\"");
    assert!(
        settings
            .expect("its settings")
            .lines()
            .any(|one| one == line)
    );
    ledger.write_until("a view without it", |members| !is_seated(members, called));
    ledger.running.push((name.into(), ledger.place.start(name)));
    ledger.write_until("its seat", |members| is_seated(members, called));
}

/// The newest view that members prove, as a pin.
fn newest_pin(ledger: &Ledger) -> String {
    let report = ledger.done(&["verify", "--views", "--genesis", "ledger/genesis.json"]);
    let digest = report["digest"].as_str().expect("a digest");
    format!("{}:{digest}", report["view"]["id"])
}

/// The files of steps of the view chain in the folder of a member.
fn steps(ledger: &Ledger, name: &str) -> usize {
    let folder = ledger.place.path(&format!("{name}/data/views"));
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Starts a member that has to fetch a checkpoint, with more words.
fn start_fetching(ledger: &Ledger, name: &str, more: &[&str]) -> Running {
    let data = ledger.place.path(&format!("{name}/data/bootstrap"));
    write_sealed(&data, "wanted", &0_u64.to_le_bytes()).expect("written");
    ledger.place.launch(name, more)
}

fn serves(ledger: &Ledger, name: &str) {
    ledger.place.until("a member that serves", || {
        let status = ledger.place.run(&["status", "--dir", name, "-o", "json"]);
        let status: Value = serde_json::from_slice(&status.stdout).ok()?;
        (status["members"][0]["reachable"] == true).then_some(())
    });
}

#[test]
fn a_pin_settles_which_chain_a_newcomer_follows() {
    let mut ledger = Ledger::start(8);
    let name = "ledger/member-3";
    ledger.write(20);
    let pin = newest_pin(&ledger);
    let (view, digest) = pin.split_once(':').expect("a pin");
    let other = format!("{view}:{}", "0".repeat(digest.len()));
    let view: usize = view.parse().expect("a number");
    assert!(view > 0, "views rotate: {pin}");
    assert_eq!(ledger.stop(name).end("TERM"), Some(0));
    let running = start_fetching(&ledger, name, &[]);
    serves(&ledger, name);
    assert_eq!(running.end("TERM"), Some(0));
    let held = steps(&ledger, name);
    assert!(held >= view, "the steps that it walked are kept");

    // Nobody shows the block of a pin that is none: what was held is given up, nothing is taken.
    let running = start_fetching(&ledger, name, &["--pin", &other]);
    ledger.place.until("what is held is forgotten", || {
        let talk = fs::read_to_string(ledger.place.talk(name)).ok()?;
        let is_told = talk.contains("another block than the pinned one");
        (is_told && steps(&ledger, name) < held).then_some(())
    });
    ledger.place.until("members that are not believed", || {
        let talk = fs::read_to_string(ledger.place.talk(name)).ok()?;
        talk.contains("another block than the pin allows")
            .then_some(())
    });
    assert_eq!(running.end("TERM"), Some(0));
    assert!(steps(&ledger, name) < view, "no step leads to the view");

    // The right one leads there again.
    let running = start_fetching(&ledger, name, &["--pin", &pin]);
    serves(&ledger, name);
    assert!(steps(&ledger, name) >= view);
    assert_eq!(running.end("TERM"), Some(0));

    // A log that follows another chain is nothing that a pin repairs.
    let data = ledger.place.path(&format!("{name}/data/bootstrap"));
    write_sealed(&data, "wanted", &9_u64.to_le_bytes()).expect("written");
    let (code, words) = ledger
        .place
        .ends(&["start", "--dir", name, "--pin", &other]);
    assert_eq!(code, Some(1), "{words}");
    for said in ["this member's own log follows", "rejoin"] {
        assert!(words.contains(said), "'{said}' is not in: {words}");
    }
    assert!(steps(&ledger, name) >= view, "nothing is forgotten");
    fs::remove_dir_all(data).expect("ours");
    let running = ledger.place.start(name);
    ledger.running.push((name.into(), running));
    ledger.settle();
}

#[test]
fn what_is_no_pin_is_refused_with_the_form_of_one() {
    let place = Place::new();
    place.done(&["init", "--members", "1", "--dir", "ledger"]);
    let refused = place.run(&["start", "--dir", "ledger/member-0", "--pin", "7"]);
    assert_eq!(code(&refused), 2);
    assert!(
        err(&refused).contains("'7' is no pin: VIEW:DIGEST"),
        "{}",
        err(&refused)
    );
    let path = place.path("ledger/member-0/member.toml");
    let text = fs::read_to_string(&path).expect("settings");
    fs::write(&path, text.replace("pin = \"\"", "pin = \"7:abc\"")).expect("written");
    let refused = place.run(&["start", "--dir", "ledger/member-0"]);
    assert_eq!(code(&refused), 1);
    for said in ["member.toml", "pin = '7:abc' is no pin: VIEW:DIGEST"] {
        assert!(
            err(&refused).contains(said),
            "'{said}' is not in: {}",
            err(&refused)
        );
    }
}
