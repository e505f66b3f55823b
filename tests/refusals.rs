//! What is refused, with the reason and what to type: folders, keys, ports, transactions.
//!
//! Source: `docs/cli.md`. In: damaged folders, wrong requests. Out: exit 1, statuses, sentences.
//! Holds: nothing is lost: once the cause is gone the member starts with what it had.
//! Elsewhere: whole ledgers (`ledger.rs`), verbs (`cli.rs`).

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use consortium::blocks::{Genesis, SignedGroup, Transaction, codec};
use consortium::committee::Height;
use consortium::crypto::{Digest, SecretKey, Signature};
use serde_json::Value;
use support::{Place, with_changed};

#[expect(dead_code, reason = "each test file uses a part")]
mod support;

const MEMBER: &str = "one/member-0";

/// A ledger of one member that has a block, and does not run.
fn rested(tables: &str) -> (Place, Value) {
    let place = Place::new();
    place.done(&["init", "--members", "1", "--dir", "one"]);
    let settings = place.path("one/member-0/member.toml");
    let text = fs::read_to_string(&settings).expect("is there");
    let line = text.lines().find(|line| line.starts_with("tables ="));
    let text = text.replace(line.expect("named"), &format!("tables = \"{tables}\""));
    fs::write(&settings, text).expect("written");
    let member = place.start(MEMBER);
    place.done(&["submit", "--dir", MEMBER, "put", "key", "value"]);
    let status = place.json(&["status", "--dir", MEMBER]);
    assert_eq!(member.end("INT"), Some(0));
    (place, status["members"][0]["state_digest"].clone())
}

/// What is done to the bytes of a file.
type Change = Box<dyn FnOnce(&mut Vec<u8>)>;

/// The member does not start; its words name each of `said` and what to do.
fn refused(place: &Place, said: &[&str]) {
    let (code, words) = place.ends(&["start", "--dir", MEMBER]);
    assert_eq!(code, Some(1), "{said:?}: {words}");
    assert!(words.contains("\n  next: "), "{words}");
    for said in said {
        assert!(words.contains(said), "'{said}' is not in: {words}");
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

#[test]
fn a_folder_that_does_not_fit_is_refused_and_keeps_what_it_has() {
    let (place, digest) = rested("redb");
    let file = |name: &str| place.path(&format!("{MEMBER}/{name}"));
    for (name, wide, right) in [("identity.key", 0o644, 0o600), ("", 0o755, 0o700)] {
        mode(&file(name), wide);
        refused(&place, &["others may read it", "chmod"]);
        mode(&file(name), right);
    }
    let text = |text: &'static str| move |bytes: &mut Vec<u8>| *bytes = text.into();
    let flip = |at: usize| {
        move |bytes: &mut Vec<u8>| {
            // What follows the header is used; the file is zeros ahead.
            let used = (at..bytes.len()).find(|at| bytes[*at] != 0);
            bytes[used.expect("a record")] ^= 1;
        }
    };
    let check = |name: &str, change: Change, said: &[&str]| {
        with_changed(&file(name), change, || refused(&place, said));
    };
    place.done(&["init", "--members", "1", "--dir", "other"]);
    let other = fs::read(place.path("other/genesis.json")).expect("made");
    check(
        "genesis.json",
        Box::new(|bytes| *bytes = other),
        &["not a founder"],
    );
    check("genesis.json", Box::new(text("{}")), &["genesis.json"]);
    check("identity.key", Box::new(text("none")), &["identity.key"]);
    let log = "data/log/00000001.log";
    check(log, Box::new(flip(600)), &["00000001.log", "offset"]);
    check(
        log,
        Box::new(|bytes| bytes.truncate(9_000)),
        &["00000001.log"],
    );
    check("data/STORE", Box::new(flip(25)), &["STORE", "damaged"]);
    check(
        "data/STORE",
        Box::new(text(STORE_2)),
        &["consortium store 2"],
    );
    let settings = fs::read_to_string(file("member.toml")).expect("is there");
    let settings = settings.replace("\"redb\"", "\"memory\"").into_bytes();
    let change = Box::new(|bytes: &mut Vec<u8>| *bytes = settings);
    check("member.toml", change, &["made by engine 'redb'", "tables"]);
    for name in ["genesis.json", "identity.key", "consensus.key"] {
        fs::rename(file(name), place.path("away")).expect("ours");
        refused(&place, &[name]);
        fs::rename(place.path("away"), file(name)).expect("ours");
    }
    fs::rename(file("data"), place.path("away")).expect("ours");
    refused(&place, &["must not vote"]);
    fs::remove_dir_all(file("data")).ok();
    fs::rename(place.path("away"), file("data")).expect("ours");
    let _member = place.start(MEMBER);
    let status = place.json(&["status", "--dir", MEMBER]);
    assert_eq!(status["members"][0]["state_digest"], digest);
}

/// As a later program may write it.
const STORE_2: &str = "consortium store 2\n00000000000000000000000000000000\ncb6e398e\n";

#[test]
fn a_port_in_use_is_named() {
    let (place, _) = rested("redb");
    let settings = fs::read_to_string(place.path("one/member-0/member.toml")).expect("is there");
    for key in ["listen_api", "listen_p2p"] {
        let line = settings.lines().find(|line| line.starts_with(key));
        let address = line.and_then(|line| line.split('"').nth(1));
        let address = address.expect("an address in quotes");
        let _taken = TcpListener::bind(address).expect("free");
        refused(&place, &[key, address]);
    }
}

#[test]
fn tables_that_do_not_open_are_rebuilt_from_the_log() {
    // A full disk left such files.
    let engines: &[(&str, &str)] = &[
        ("redb", "tables.redb"),
        #[cfg(feature = "sled")]
        ("sled", "sled/conf"),
        #[cfg(feature = "sled")]
        ("sled", "sled/db"),
    ];
    for (engine, name) in engines {
        let (place, digest) = rested(engine);
        let path = place.path(&format!("{MEMBER}/data/tables/{name}"));
        let length = fs::metadata(&path).expect("is there").len();
        fs::write(&path, vec![0xa5; usize::try_from(length).expect("small")]).expect("written");
        let _member = place.start(MEMBER);
        let status = place.json(&["status", "--dir", MEMBER]);
        assert_eq!(
            status["members"][0]["state_digest"], digest,
            "{engine} {name}"
        );
    }
}

/// The status and the body that `bytes` are answered with.
fn post(address: &str, bytes: &[u8]) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).expect("a member listens");
    let head = format!(
        "POST /v1/transactions HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    // A member may answer and close before it has read a body that is too long.
    let _cut = stream.write_all(bytes);
    let mut text = String::new();
    let _reset = stream.read_to_string(&mut text);
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    (status.unwrap_or_default(), body)
}

#[test]
fn a_transaction_that_is_wrong_is_refused_and_says_why() {
    let place = Place::new();
    place.done(&["init", "--members", "1", "--dir", "one"]);
    let _member = place.start(MEMBER);
    let status = place.json(&["status", "--dir", MEMBER]);
    let text = fs::read_to_string(place.path("one/member-0/member.toml")).expect("is there");
    let line = text.lines().find(|line| line.starts_with("listen_api"));
    let address = line.and_then(|line| line.split('"').nth(1)).expect("named");
    assert_eq!(status["members"][0]["reachable"], true);
    let document = fs::read_to_string(place.path("one/genesis.json")).expect("is there");
    let chain = Genesis::from_json(&document).expect("a document").chain();
    let secret = SecretKey::from_seed([7; 32]);
    let group = |chain: &Digest, sequence: u64, expiry: u64, operation: &[u8]| {
        let transaction = Transaction {
            sequence,
            expiry: Height(expiry),
            operation: Bytes::copy_from_slice(operation),
        };
        SignedGroup::sign(chain, &secret, &[transaction])
    };
    let put = b"\x01\x01\0\0\0k\x01\0\0\0v";
    let good = codec::encode(&group(&chain, 1, 1_000, put));
    let mut wrongly = good.clone();
    *wrongly.last_mut().expect("bytes") ^= 1;
    let mut unsigned = group(&chain, 2, 1_000, put);
    unsigned.signature = Signature([0; 64]);
    let cases: [(&str, Vec<u8>, &[u16]); 8] = [
        ("empty", Vec::new(), &[400]),
        ("undecodable", b"garbage".to_vec(), &[400]),
        ("oversized", vec![0; 4 << 20], &[413, 0]),
        ("wrongly signed", wrongly, &[401]),
        ("unsigned", codec::encode(&unsigned), &[401]),
        (
            "of another ledger",
            codec::encode(&group(&Digest::ZERO, 3, 9, put)),
            &[401],
        ),
        (
            "expired",
            codec::encode(&group(&chain, 4, 0, put)),
            &[400, 409, 410, 422],
        ),
        (
            "without operation",
            codec::encode(&group(&chain, 5, 9, b"")),
            &[400, 422],
        ),
    ];
    for (what, bytes, statuses) in cases {
        let (status, body) = post(address, &bytes);
        assert!(statuses.contains(&status), "{what}: {status} {body}");
        let is_told = body["message"].is_string() && body["help"].is_string();
        assert!(is_told || status == 0, "{what}: {body}");
    }
    let (status, first) = post(address, &good);
    assert!((200..300).contains(&status), "{status} {first}");
    place.agree(&["--dir", MEMBER], 1);
    let (status, again) = post(address, &good);
    assert!((200..300).contains(&status), "{status} {again}");
    let other = b"\x01\x01\0\0\0k\x01\0\0\0w";
    let (status, conflict) = post(address, &codec::encode(&group(&chain, 1, 1_000, other)));
    assert_eq!(
        (status, &conflict["code"]),
        (409, &"conflict".into()),
        "{conflict}"
    );
    let tail = place.done(&["tail", "--from", "0", "--dir", MEMBER]);
    assert_eq!(tail.lines().count(), 1, "executed once: {tail}");
}
