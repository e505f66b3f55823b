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

use rotating::{Ledger, is_seated};
use sha2::{Digest as _, Sha512};
use support::{code, err};

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
    ledger.done(&["rejoin", "--dir", name]);
    ledger.write_until("a view without it", |members| !is_seated(members, called));
    ledger.running.push((name.into(), ledger.place.start(name)));
    ledger.write_until("its seat", |members| is_seated(members, called));
}
