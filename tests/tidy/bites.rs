//! Each rule bites what it is for and lets go of what it is not for.
//!
//! Source: `tidy.rs`. In: small planted texts. Out: passing tests.
//! Holds: no rule is silent. Elsewhere: the repository itself (`tidy.rs`).

use super::*;

/// A planted text: which file it is said to be, and what it says.
fn source(path: &str, text: &str) -> Source {
    Source::new(path, text)
}

/// Paths of the crate that `text` names, joined.
fn paths(path: &str, text: &str) -> Vec<String> {
    let named = source(path, text).crate_paths();
    named
        .into_iter()
        .map(|path| path.names.join("::"))
        .collect()
}

fn bites(rule: impl Fn(&Source) -> Vec<String>, path: &str, text: &str) -> bool {
    !rule(&source(path, text)).is_empty()
}

#[test]
fn a_use_tree_is_read_whole() {
    let text =
        "use crate::{\n    blocks::{Header, codec::{self, read}},\n    crypto::*, fsm as f,\n};";
    let found = paths("src/node/mod.rs", text);
    let expected = [
        "blocks::Header",
        "blocks::codec",
        "blocks::codec::read",
        "crypto::*",
        "fsm",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_tree_that_starts_before_the_crate_is_read() {
    let text = "use {std::fmt, crate::{crypto::Digest, blocks}, super::driver};";
    let found = paths("src/node/mod.rs", text);
    assert_eq!(found, ["crypto::Digest", "blocks", "driver"]);
}

#[test]
fn a_path_in_an_expression_is_read() {
    let text =
        "fn f() -> crate::crypto::Digest { let x = crate::net::<u8>(); g(crate::api::A { x }) }";
    assert_eq!(
        paths("src/node/mod.rs", text),
        ["crypto::Digest", "net", "api::A"]
    );
}

#[test]
fn each_line_of_a_tree_is_named() {
    let found = source(
        "src/node/mod.rs",
        "use crate::{\n    crypto::Digest,\n    blocks,\n};",
    );
    let lines: Vec<_> = found
        .crate_paths()
        .into_iter()
        .map(|path| path.line)
        .collect();
    assert_eq!(lines, [2, 3]);
}

#[test]
fn super_is_counted_from_the_module_of_the_file() {
    for (path, text, expected) in [
        (
            "src/fsm/normal/tests.rs",
            "use super::super::Fsm;",
            "fsm::Fsm",
        ),
        ("src/fsm/mod.rs", "use super::net::Link;", "net::Link"),
        (
            "src/fsm/view.rs",
            "use super::super::net::Link;",
            "net::Link",
        ),
        ("src/fsm/view.rs", "use self::super::normal;", "fsm::normal"),
        (
            "src/machine.rs",
            "mod tests { use super::*; }",
            "machine::*",
        ),
        (
            "src/machine.rs",
            "mod a { fn f() {} } use super::net;",
            "net",
        ),
    ] {
        assert_eq!(paths(path, text), [expected], "{path}: {text}");
    }
}

#[test]
fn comments_strings_and_visibility_name_nothing() {
    for text in [
        "// use crate::net;",
        "/* crate::net /* crate::api */ crate::sim */",
        "/// See `crate::net`.\n//! crate::net",
        "const A: &str = \"crate::net \\\" crate::api\";",
        "const A: &str = r#\"crate::net \" crate::api\"#;",
        "const A: &[u8] = br\"crate::net\";",
        "const A: char = '\"'; const B: char = '\\''; // \" crate::net",
        "pub(crate) fn f<'a>(x: &'a str) {}",
        "pub(super) struct A;",
    ] {
        assert_eq!(paths("src/fsm/mod.rs", text), [""; 0], "{text}");
        let foreign = text.replace("crate::", "tokio::");
        assert!(!bites(purity, "src/fsm/mod.rs", &foreign), "{foreign}");
    }
}

#[test]
fn code_behind_a_string_is_still_read() {
    for text in [
        "const A: &str = r\"\\\"; use crate::net;",
        "const A: (char, &str) = ('\"', \"'\"); use crate::net;",
        "fn f<'a>() {} /* ' */ use crate::net;",
        "use r#crate; fn r#fn() {} use crate::net;",
    ] {
        assert!(
            paths("src/fsm/mod.rs", text).contains(&"net".to_owned()),
            "{text}"
        );
    }
}

#[test]
fn arrows_up_and_sideways_are_refused() {
    for (path, text) in [
        ("src/crypto/mod.rs", "use crate::committee::View;"),
        ("src/machine.rs", "use crate::crypto::Digest;"),
        ("src/fsm/mod.rs", "use crate::{crypto::Digest, consensus};"),
        ("src/fsm/mod.rs", "use super::consortium::Replica;"),
        ("src/storage/mod.rs", "use crate::fsm;"),
        ("src/storage/mod.rs", "use crate::net;"),
        ("src/client/mod.rs", "use crate::node;"),
        ("src/fsm/mod.rs", "use consortium::net;"),
        ("src/fsm/mod.rs", "use ::consortium::net;"),
        ("src/fsm/mod.rs", "use crate::Digest;"),
        ("src/fsm/mod.rs", "use crate::*;"),
        ("src/fsm/mod.rs", "use crate as all;"),
        ("src/fsm/mod.rs", "use super::*;"),
        ("src/fsm/tests.rs", "use crate::sim;"),
    ] {
        assert!(bites(imports, path, text), "{path}: {text}");
    }
}

#[test]
fn arrows_down_and_the_named_ones_are_allowed() {
    for (path, text) in [
        (
            "src/crypto/keys.rs",
            "use super::Digest; use crate::crypto::Tag;",
        ),
        (
            "src/blocks/mod.rs",
            "use crate::{crypto::Digest, committee::View};",
        ),
        ("src/fsm/mod.rs", "use crate::machine::Time; use std::fmt;"),
        ("src/storage/mod.rs", "use crate::blocks::Header;"),
        (
            "src/sim/mod.rs",
            "use crate::{client, consortium::Replica, storage};",
        ),
        ("src/cli/mod.rs", "use crate::{node, client, sim, crypto};"),
        (
            "src/lib.rs",
            "pub use consortium::Replica; pub use crate::net::Link;",
        ),
        ("src/main.rs", "fn main() { consortium::cli::run() }"),
        ("tests/cluster.rs", "use consortium::net;"),
    ] {
        assert!(!bites(imports, path, text), "{path}: {text}");
    }
}

#[test]
fn the_world_outside_is_refused_in_pure_floors_alone() {
    for text in [
        "use tokio::time;",
        "use std::{fmt, time::{Duration, Instant}};",
        "fn f() { std::time::SystemTime::now(); }",
        "use std::fs;",
        "fn f() { std::fs::read(p) }",
        "use std::{thread, net::{IpAddr}};",
        "use std::sync::{Arc, Mutex};",
        "use std::collections::HashMap as Map;",
        "fn f() { rand::rng() }",
        "use rand::rngs::OsRng;",
    ] {
        assert!(bites(purity, "src/fsm/mod.rs", text), "{text}");
        assert!(!bites(purity, "src/node/mod.rs", text), "{text}");
    }
    let fine = "use std::time::Duration; use std::collections::BTreeMap; fn fs(net: u8) {}";
    assert!(!bites(purity, "src/fsm/mod.rs", fine));
}

#[test]
fn tests_of_pure_floors_may_read_files_but_no_clock() {
    let path = "src/fsm/tests.rs";
    assert!(!bites(
        purity,
        path,
        "use std::collections::HashSet; use std::fs;"
    ));
    assert!(bites(purity, path, "use std::time::Instant;"));
    assert!(bites(purity, path, "#[tokio::test] fn f() {}"));
    let inline = "use a::B;\n#[cfg(test)]\nmod tests {\n use std::fs;\n}\n";
    assert!(!bites(purity, "src/fsm/mod.rs", inline));
    assert!(bites(
        purity,
        "src/fsm/mod.rs",
        &format!("{inline}use std::fs;")
    ));
}

#[test]
fn small_rules_bite() {
    let mark = concat!("// TO", "DO: later");
    let long_line = format!("//! {}", "x".repeat(97));
    let own = "src/node/mod.rs";
    assert!(bites(head, own, "fn f() {}"));
    assert!(bites(leftovers, own, mark));
    assert!(bites(leftovers, own, "fn f() { dbg!(1) }"));
    assert!(bites(leftovers, own, "fn f() { todo!() }"));
    assert!(bites(columns, own, &long_line));
    assert!(!bites(columns, own, &long_line[1..]));
    assert!(bites(unwraps, own, "fn f() { x\n.unwrap() }"));
    assert!(!bites(
        unwraps,
        own,
        "fn f() { x.unwrap_or(1) } // .unwrap()"
    ));
    assert!(!bites(
        unwraps,
        "src/node/tests.rs",
        "fn f() { x.unwrap() }"
    ));
    assert!(!on_a_floor("src/telemetry/mod.rs").is_empty());
    assert!(!on_a_floor("src/telemetry.rs").is_empty());
    assert!(on_a_floor("src/machine.rs").is_empty());
}

#[test]
fn lengths_are_counted_and_an_exception_holds_its_number() {
    let own = "src/node/mod.rs";
    let function = |lines: usize| format!("fn f(a: [u8; 2]) {{\n{}}}\n", "\n".repeat(lines - 2));
    assert!(!bites(|s| long_functions(s, &[]), own, &function(70)));
    assert!(bites(|s| long_functions(s, &[]), own, &function(71)));
    assert!(!bites(
        |s| long_functions(s, &[(own, "f", 80)]),
        own,
        &function(80)
    ));
    assert!(bites(
        |s| long_functions(s, &[(own, "f", 80)]),
        own,
        &function(81)
    ));
    assert!(bites(file_length, own, &"\n".repeat(601)));
    let tested = format!(
        "{}#[cfg(test)]\nmod t {{\n{}}}",
        "\n".repeat(590),
        "\n".repeat(100)
    );
    assert!(!bites(file_length, own, &tested));
}

#[test]
fn sleeping_tests_are_found() {
    assert!(bites(
        sleeps,
        "tests/cluster.rs",
        "fn f() { std::thread::sleep(d); }"
    ));
    assert!(bites(
        sleeps,
        "src/node/tests.rs",
        "use tokio::time::{sleep};"
    ));
    assert!(bites(
        sleeps,
        "src/node/mod.rs",
        "#[cfg(test)] mod t { fn f() { sleep(d) } }"
    ));
    assert!(!bites(sleeps, "src/node/mod.rs", "fn f() { sleep(d) }"));
    assert!(!bites(
        sleeps,
        "src/sim/tests.rs",
        "fn f() { world.sleep(d) }"
    ));
}

#[test]
fn bincode_signing_and_the_simulated_scheme_keep_to_their_files() {
    let sign = "fn f() { key.sign(&bytes) }";
    let vote = "fn f() { key.sign(&SignBytes::new(Tag::Write, c)) }";
    let fake = "fn f() { Verifier::simulated(w) }";
    let encode = "fn f() { bincode::encode(x) }";
    assert!(bites(bincode, "src/net/frame.rs", encode));
    assert!(!bites(bincode, CODEC, encode));
    assert!(bites(signing, "src/fsm/normal/mod.rs", sign));
    assert!(bites(
        signing,
        "src/node/mod.rs",
        "fn f() { map(SecretKey::sign) }"
    ));
    assert!(!bites(signing, "src/fsm/tests.rs", sign));
    assert!(!bites(signing, VOTER, vote));
    assert!(!bites(signing, SIGNERS[0].0, sign));
    assert!(bites(signing, SIGNERS[0].0, vote));
    let ballot = "fn f(b: Ballot) { key.sign(&b.statement()) }";
    assert!(bites(signing, SIGNERS[0].0, ballot));
    assert!(bites(simulated, "src/node/mod.rs", fake));
    assert!(!bites(simulated, "src/sim/world.rs", fake));
    assert!(!bites(simulated, "src/fsm/tests.rs", fake));
}

#[test]
fn folders_and_foreign_names_are_found() {
    let named = folders_named("a `src/fsm/` b\n`x.rs` and `net/` but `a b/`");
    assert_eq!(named, [(1, "src/fsm".to_owned()), (2, "net".to_owned())]);
    let index = concat!("registry+https://github.com/rust-lang/crates", ".io-index");
    assert_eq!(
        foreign("README.md", concat!("x\ncd /wo", "rk/here")).len(),
        1
    );
    assert_eq!(foreign("README.md", index).len(), 1);
    assert_eq!(foreign("Cargo.lock", index).len(), 0);
    assert_eq!(
        foreign("Cargo.lock", "source = \"registry+https://example.org\"").len(),
        1
    );
    assert_eq!(foreign(".cargo/config.toml", "").len(), 1);
}
