//! Key files and settings.
//!
//! Source: interface, 'Files'. In: temporary folders. Out: verdicts.
//! Holds: secrets stay private. Elsewhere: starts (`cluster`).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::blocks::Founder;
use crate::committee::ViewId;
use crate::crypto::{Digest, SecretKey, Verifier};
use crate::node::config::{Config, ConfigError};
use crate::node::keys::{self, KeyError};

fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().join("member");
    (folder, dir)
}

fn proves(founder: &Founder) -> bool {
    let proof = founder.consensus.expect("a fresh founder has a key");
    let checks = proof.checks(&Digest::ZERO, ViewId(0), &Digest::ZERO, &founder.identity);
    Verifier::ed25519().all_valid(&checks)
}

#[test]
fn keys_are_private_and_read_back() {
    let (_folder, dir) = folder();
    let founder = keys::generate(&dir, "ada", "localhost:1").expect("keys are made");
    assert!(proves(&founder));
    assert_eq!(
        keys::show(&dir, "ada", "localhost:1").expect("readable"),
        founder
    );
    for (name, mode) in [
        ("", 0o700),
        ("identity.key", 0o600),
        ("consensus.key", 0o600),
    ] {
        let found = fs::metadata(dir.join(name)).expect("it is there");
        assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn keys_are_made_once() {
    let (_folder, dir) = folder();
    keys::generate(&dir, "ada", "").expect("keys are made");
    let again = keys::generate(&dir, "ada", "");
    assert!(matches!(again, Err(KeyError::Exists { .. })));
}

#[test]
fn wider_permissions_are_refused_with_the_chmod_to_type() {
    let (_folder, dir) = folder();
    keys::generate(&dir, "ada", "").expect("keys are made");
    let path = dir.join(keys::CONSENSUS_FILE);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    let error = keys::consensus(&dir).expect_err("too wide").to_string();
    assert!(
        error.contains(&format!("chmod 600 {}", path.display())),
        "{error}"
    );
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    let error = keys::identity(&dir).expect_err("too wide").to_string();
    assert!(
        error.contains(&format!("chmod 700 {}", dir.display())),
        "{error}"
    );
}

#[test]
fn a_key_is_bound_once_and_stays_the_same_key() {
    let (_folder, dir) = folder();
    keys::generate(&dir, "ada", "").expect("keys are made");
    let before = keys::consensus(&dir).expect("readable");
    assert!(!before.is_bound);
    keys::bind(&dir).expect("bound");
    keys::bind(&dir).expect("bound again changes nothing");
    let after = keys::consensus(&dir).expect("readable");
    assert!(after.is_bound);
    assert_eq!(after.secret.public(), before.secret.public());
    assert_eq!(after.store, before.store);
}

#[test]
fn a_rotated_key_is_another_of_another_log() {
    let (_folder, dir) = folder();
    keys::generate(&dir, "ada", "").expect("keys are made");
    keys::bind(&dir).expect("bound");
    let before = keys::consensus(&dir).expect("readable");
    let after = keys::rotate(&dir, None).expect("rotated");
    assert_ne!(after.secret.public(), before.secret.public());
    assert_ne!(after.store, before.store);
    assert!(!after.is_bound);
}

#[test]
fn a_file_that_is_no_key_is_named() {
    let (_folder, dir) = folder();
    keys::generate(&dir, "ada", "").expect("keys are made");
    fs::write(dir.join(keys::IDENTITY_FILE), "nothing").expect("written");
    let error = keys::identity(&dir).expect_err("no key").to_string();
    assert!(error.contains("identity.key"), "{error}");
}

#[test]
fn unknown_settings_are_refused_by_name() {
    let error = Config::parse("member.toml", "lisen_p2p = \"x\"", |_| None);
    let error = error.expect_err("unknown key").to_string();
    assert!(error.contains("lisen_p2p"), "{error}");
}

#[test]
fn the_environment_wins_over_the_file() {
    let variable = |name: &str| match name {
        "CONSORTIUM_TABLES" => Some("memory".to_owned()),
        "CONSORTIUM_LOG_FILE_MIB" => Some("8".to_owned()),
        _ => None,
    };
    let config = Config::parse("member.toml", "tables = \"redb\"\nname = \"ada\"", variable);
    let config = config.expect("good settings");
    assert_eq!(
        (config.tables.as_str(), config.resources.log_file_mib),
        ("memory", 8)
    );
    assert_eq!(config.name, "ada");
    let wrong = Config::parse("member.toml", "log_file_mib = 7", |_| None);
    assert!(matches!(wrong, Err(ConfigError::Refused { .. })));
}

#[test]
fn observers_are_named_by_key_and_a_wrong_kind_by_its_setting() {
    let key = SecretKey::from_seed([3; 32]).public();
    let text = format!("observers = [{{ key = \"{key}\", name = \"eve\", address = \"h:1\" }}]");
    let config = Config::parse("member.toml", &text, |_| None).expect("good settings");
    let read = Config::parse("member.toml", &config.to_toml(), |_| None);
    assert_eq!(read.expect("good settings"), config);
    assert_eq!(config.neighbours.observers[0].key, key);
    for text in ["observers = 1", "tables = 2", "observer = \"yes\""] {
        let error = Config::parse("member.toml", text, |_| None).expect_err(text);
        let key = text.split(' ').next().expect("a key");
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn settings_read_back_from_what_they_print() {
    let printed = Config::default().to_toml();
    let read = Config::parse("member.toml", &printed, |_| None).expect("good settings");
    assert_eq!(read, Config::default());
}

#[test]
fn settings_that_are_printed_with_their_meaning_read_back_and_none_leaves_newcomers_out() {
    let printed = Config::default().explained();
    let read = Config::parse("member.toml", &printed, |_| None).expect("good settings");
    assert_eq!(read, Config::default());
    assert_eq!(printed.matches("\n# ").count(), 5, "{printed}");
    for key in ["keep_checkpoints", "serve_mib_per_second"] {
        let error = Config::parse("member.toml", &format!("{key} = 0"), |_| None);
        let error = error.expect_err("newcomers find nothing").to_string();
        let least = format!("{key} is at least 1");
        assert!(error.contains(&least), "{error}");
    }
}
