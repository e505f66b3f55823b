//! The ratchet: every rule about the text of this repository that a compiler does not check.
//!
//! Source: ARCHITECTURE.md, the floors. In: every Rust file below `src`, `tests`, `examples` and
//! `benches`, as text. Out: `file:line: what` for each line that breaks a rule.
//! Holds: comments and strings never trip a rule about code; each rule is shown to bite.
//! Elsewhere: wildcard arms, lints by type (`clippy.toml`), licences and advisories (`deny.toml`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use source::{CRATE_BY_NAME, Function, Source, functions, is_root, module_of};

#[path = "tidy/source.rs"]
mod source;

#[path = "tidy/bites.rs"]
mod bites;

/// Which module stands on which floor.
const FLOORS: [&[&str]; 5] = [
    &["machine", "plant", "crypto", "committee", "blocks"],
    &["fsm", "consensus", "membership", "checkpoint", "bootstrap"],
    &["consortium"],
    &["storage", "net", "api", "application"],
    &["node", "client", "sim", "cli"],
];

/// The arrows allowed on one floor.
const SAME_FLOOR: &[(&str, &str)] = &[
    ("committee", "crypto"),
    ("committee", "plant"),
    ("blocks", "crypto"),
    ("blocks", "committee"),
    ("bootstrap", "checkpoint"),
    ("consensus", "fsm"),
    ("sim", "client"),
    ("cli", "node"),
    ("cli", "client"),
    ("cli", "sim"),
];

/// The highest floor that is pure.
const PURE: usize = 2;
const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 600;

/// Functions over the limit: file, name, lines. An entry goes when its function fits, and its
/// number may only fall; nothing is added.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Never in floors 0 to 2, tests included: runtimes, clocks and entropy of their own.
const IMPURE: &[&str] = &[
    "tokio",
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "thread_rng",
    "ThreadRng",
    "OsRng",
    "SysRng",
    "getrandom",
    "from_os_rng",
    "from_entropy",
    "rand::rng",
    "rand::random",
    "rand::make_rng",
];

/// Never in floors 0 to 2, tests aside: the world outside, locks, order that is not fixed.
const IMPURE_OUTSIDE_TESTS: &[&str] = &[
    "std::net",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "Mutex",
    "RwLock",
    "HashMap",
    "HashSet",
    "RandomState",
];

/// Who may name one of them all the same: file, word, and why.
const IMPURE_ALLOWED: &[(&str, &str, &str)] = &[(
    "src/consortium/lookup.rs",
    "HashMap",
    "its hash is fixed and it offers no iteration",
)];

/// The one caller of bincode.
const CODEC: &str = "src/blocks/codec.rs";

/// The one file that signs votes.
const VOTER: &str = "src/committee/voter.rs";

/// Tests whose clock is virtual: tokio's, paused.
const VIRTUAL_CLOCKS: &[&str] = &["src/client/tests.rs"];

/// Who else signs, tests aside, and what. None of them names a ballot or a vote's tag.
const SIGNERS: &[(&str, &str)] = &[
    ("src/crypto/keys.rs", "the schemes themselves"),
    ("src/crypto/threshold/pairing.rs", "the scheme of shares"),
    (
        "src/committee/view.rs",
        "proofs that a consensus key is held",
    ),
    ("src/blocks/transaction.rs", "groups of a client"),
    ("src/node/reply.rs", "replies to clients"),
    ("src/sim/clients.rs", "groups of clients that do wrong"),
    ("src/net/tls.rs", "certificates of transport connections"),
    (
        "src/membership/envelope.rs",
        "messages of overlays, by the identity key",
    ),
];

/// Tags of votes, which only the voter signs.
const VOTE_TAGS: &[&str] = &[
    "Propose",
    "Write",
    "Accept",
    "Persist",
    "StopData",
    "Checkpoint",
];

// ---------------------------------------------------------------------------------------------
// The rules

#[test]
fn every_file_below_src_stands_on_a_floor() {
    check(|s| on_a_floor(&s.path));
}

#[test]
fn imports_point_down() {
    check(imports);
}

#[test]
fn floors_0_to_2_touch_no_clock_runtime_disk_socket_lock_or_entropy() {
    check(purity);
}

#[test]
fn every_file_opens_with_a_module_head() {
    check(head);
}

#[test]
fn nothing_is_left_to_do() {
    check(leftovers);
}

#[test]
fn nothing_unwraps_outside_tests() {
    check(unwraps);
}

#[test]
fn no_line_is_wider_than_100_columns() {
    check(columns);
}

#[test]
fn no_function_is_longer_than_70_lines() {
    check(|s| long_functions(s, LONG_FUNCTIONS));
}

#[test]
fn every_exception_for_a_long_function_is_still_needed() {
    let sources = sources();
    let stale = LONG_FUNCTIONS.iter().filter(|(path, name, _)| {
        let file = sources.iter().find(|s| s.path == *path);
        !file.is_some_and(|s| {
            functions(s)
                .iter()
                .any(|f| f.name == *name && f.lines > FUNCTION_LINES_MAX)
        })
    });
    fail(stale.map(|(path, name, _)| format!("{path}: `{name}` fits: drop the exception")));
}

#[test]
fn no_file_is_longer_than_600_lines_without_its_tests() {
    check(file_length);
}

#[test]
fn no_test_sleeps_by_the_clock() {
    check(sleeps);
}

#[test]
fn only_the_codec_calls_bincode() {
    check(bincode);
}

#[test]
fn only_the_voter_signs_votes() {
    check(signing);
}

#[test]
fn the_simulated_scheme_stays_in_the_simulator() {
    check(simulated);
}

#[test]
fn every_folder_that_the_architecture_names_exists() {
    let Ok(text) = fs::read_to_string(root().join("ARCHITECTURE.md")) else {
        println!("skipped: there is no ARCHITECTURE.md yet");
        return;
    };
    let missing = folders_named(&text).into_iter().filter(|(_, folder)| {
        !root().join(folder).is_dir() && !root().join("src").join(folder).is_dir()
    });
    fail(missing.map(|(line, folder)| format!("ARCHITECTURE.md:{line}: no folder `{folder}`")));
}

#[test]
fn nothing_names_a_workplace_or_a_registry_host() {
    let found = repository_files().into_iter().flat_map(|path| {
        let text = fs::read_to_string(root().join(&path)).unwrap_or_default(); // binary: no text
        foreign(&path, &text)
    });
    fail(found);
}

fn on_a_floor(path: &str) -> Vec<String> {
    let known = !path.starts_with("src/")
        || is_root(path)
        || module_of(path).first().is_some_and(|m| floor(m).is_some());
    complain(
        !known,
        path,
        1,
        "stands on no floor: name its folder in FLOORS of tests/tidy.rs",
    )
}

fn imports(s: &Source) -> Vec<String> {
    let Some(home) = s.home() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for path in s.crate_paths() {
        let what = match path.names.first().map(String::as_str) {
            Some(CRATE_BY_NAME) => "names the crate from inside; write `crate::`".into(),
            Some(top) if floor(top).is_some() => match may_import(&home, top) {
                true => continue,
                false => format!("{home} may not import {top}: imports point down"),
            },
            top => format!(
                "imports `{}` of the crate root; name its module",
                top.unwrap_or("")
            ),
        };
        found.push(format!("{}:{}: {what}", s.path, path.line));
    }
    found
}

fn purity(s: &Source) -> Vec<String> {
    let floor = s.home().and_then(|home| floor(&home));
    if floor.is_none_or(|floor| floor > PURE) {
        return Vec::new();
    }
    let mut found = BTreeSet::new();
    for path in s.outside_paths() {
        let whole = path.names.join("::");
        let banned = |word: &&&str| {
            whole == **word
                || whole.starts_with(&format!("{word}::"))
                || path.names.iter().any(|name| name == **word)
        };
        let outside = IMPURE_OUTSIDE_TESTS
            .iter()
            .filter(|_| !s.is_test(path.line));
        for word in IMPURE.iter().chain(outside).filter(banned) {
            found.insert((path.line, *word));
        }
    }
    let is_allowed = |word: &str| {
        let allowed = |(path, name, _): &(&str, &str, &str)| s.path == *path && word == *name;
        IMPURE_ALLOWED.iter().any(allowed)
    };
    found.retain(|(_, word)| !is_allowed(word));
    let line = |(line, word)| format!("{}:{line}: `{word}` in a pure floor", s.path);
    found.into_iter().map(line).collect()
}

fn head(s: &Source) -> Vec<String> {
    complain(
        !s.text.starts_with("//! "),
        &s.path,
        1,
        "no module head (`//! ...`) on line 1",
    )
}

fn leftovers(s: &Source) -> Vec<String> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let macros = ["dbg", "todo", "unimplemented"];
    let mut found = Vec::new();
    for (i, line) in s.text.lines().enumerate() {
        let mark = marks.iter().find(|mark| line.contains(**mark));
        found.extend(mark.map(|mark| format!("{}:{}: {mark}", s.path, i + 1)));
    }
    for pair in s.tokens.windows(2) {
        if macros.contains(&pair[0].text.as_str()) && pair[1].text == "!" {
            found.push(format!("{}:{}: {}!", s.path, pair[0].line, pair[0].text));
        }
    }
    found
}

fn unwraps(s: &Source) -> Vec<String> {
    let lines = s.sequences_outside_tests(&[".", "unwrap", "(", ")"]);
    at(s, lines, "unwrap(); say the invariant with expect")
}

fn columns(s: &Source) -> Vec<String> {
    let lines = s
        .text
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.chars().count()));
    let wide = lines.filter(|(_, width)| *width > COLUMNS_MAX);
    wide.map(|(line, width)| format!("{}:{line}: {width} columns", s.path))
        .collect()
}

fn long_functions(s: &Source, exceptions: &[(&str, &str, usize)]) -> Vec<String> {
    let limit = |f: &Function| {
        let entry = exceptions
            .iter()
            .find(|(path, name, _)| *path == s.path && *name == f.name);
        entry.map_or(FUNCTION_LINES_MAX, |(_, _, lines)| *lines)
    };
    let functions = functions(s).into_iter().filter(|f| f.lines > limit(f));
    functions
        .map(|f| format!("{}:{}: `{}`: {} lines", s.path, f.line, f.name, f.lines))
        .collect()
}

fn file_length(s: &Source) -> Vec<String> {
    let lines = s
        .text
        .lines()
        .enumerate()
        .filter(|(i, _)| !s.is_test(i + 1))
        .count();
    complain(
        lines > FILE_LINES_MAX,
        &s.path,
        lines,
        "over 600 lines without tests: split it",
    )
}

fn sleeps(s: &Source) -> Vec<String> {
    if VIRTUAL_CLOCKS.contains(&s.path.as_str()) && s.text.contains("start_paused = true") {
        return Vec::new();
    }
    let waits = ["sleep", "sleep_ms", "sleep_until", "park_timeout"];
    let mut found = Vec::new();
    for (i, token) in s.tokens.iter().enumerate() {
        // A method is virtual time (`world.sleep(..)`), a definition is ours.
        let ours = i > 0 && [".", "fn"].contains(&s.tokens[i - 1].text.as_str());
        if waits.contains(&token.text.as_str()) && !ours && s.is_test(token.line) {
            found.push(format!(
                "{}:{}: sleeps; wait for an event",
                s.path, token.line
            ));
        }
    }
    found
}

fn bincode(s: &Source) -> Vec<String> {
    let calls = if s.path == CODEC {
        Vec::new()
    } else {
        s.sequences(&["bincode", "::"])
    };
    at(s, calls, "bincode; only src/blocks/codec.rs calls it")
}

fn signing(s: &Source) -> Vec<String> {
    let mut signs = s.sequences_outside_tests(&[".", "sign", "("]);
    signs.extend(s.sequences_outside_tests(&["SecretKey", "::", "sign"]));
    if signs.is_empty() || s.path == VOTER {
        return Vec::new();
    }
    if !SIGNERS.iter().any(|(path, _)| s.path == *path) {
        return at(s, signs, "signs, and is not in SIGNERS of tests/tidy.rs");
    }
    let tag = |name: &&str| s.sequences_outside_tests(&["Tag", "::", name]);
    let mut votes: Vec<_> = VOTE_TAGS.iter().flat_map(tag).collect();
    votes.extend(s.sequences_outside_tests(&["Ballot"]));
    let what = "names a vote in a file that signs; only the voter signs votes";
    at(s, votes, what)
}

fn simulated(s: &Source) -> Vec<String> {
    if s.path.starts_with("src/crypto/") || s.path.starts_with("src/sim/") {
        return Vec::new();
    }
    let name = |of: &str| s.sequences_outside_tests(&[of, "::", "simulated"]);
    let named = ["SecretKey", "Verifier"]
        .into_iter()
        .flat_map(name)
        .collect();
    at(s, named, "the simulated scheme outside the simulator")
}

/// Folders in back-quotes, with their lines: `` `src/fsm/` ``, `` `fsm/` ``.
fn folders_named(text: &str) -> Vec<(usize, String)> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            if quoted.ends_with('/') && quoted.chars().all(plain) {
                found.push((i + 1, quoted.trim_end_matches('/').to_owned()));
            }
        }
    }
    found
}

/// Lines that would tie the repository to the place where it was written.
fn foreign(path: &str, text: &str) -> Vec<String> {
    // In pieces, so that this file does not name them. The lock file names the public index: there
    // only another source is foreign.
    let index = concat!("registry+https://github.com/rust-lang/crates", ".io-index");
    let words = [
        concat!("/wo", "rk/"),
        concat!("crates", ".io"),
        concat!("arti", "factory"),
        concat!("jfr", "og"),
        concat!("npm", "js.org"),
        concat!("py", "pi.org"),
        concat!("proxy.go", "lang.org"),
    ];
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let lock = path.ends_with("Cargo.lock");
        let line = if lock {
            line.replace(index, "")
        } else {
            line.to_owned()
        };
        let word = words.iter().find(|word| line.contains(**word));
        found.extend(word.map(|word| format!("{path}:{}: names `{word}`", i + 1)));
        if lock && line.contains("registry+") {
            found.push(format!(
                "{path}:{}: a source that is not the public index",
                i + 1
            ));
        }
    }
    if path.starts_with(".cargo/") {
        found.push(format!(
            "{path}:1: cargo's own configuration belongs to the machine"
        ));
    }
    found
}

// ---------------------------------------------------------------------------------------------
// Floors

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

fn may_import(from: &str, to: &str) -> bool {
    let (Some(above), Some(below)) = (floor(from), floor(to)) else {
        return false;
    };
    // Adapters see the vocabulary only; the processes join them with the protocols.
    let reach = if above == 3 {
        below == 0
    } else {
        below < above
    };
    reach || from == to || SAME_FLOOR.contains(&(from, to))
}

// ---------------------------------------------------------------------------------------------
// Files

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "tests", "examples", "benches"] {
        walk(&root().join(folder), &mut files);
    }
    let rust = files.into_iter().filter(|path| path.ends_with(".rs"));
    let read = |path: String| {
        let text = fs::read_to_string(root().join(&path)).expect("Rust files are readable text");
        Source::new(&path, &text)
    };
    rust.map(read).collect()
}

/// What git holds; without git, every file but what is built.
fn repository_files() -> Vec<String> {
    let git = Command::new("git")
        .arg("ls-files")
        .current_dir(root())
        .output();
    let listed = git
        .ok()
        .filter(|out| out.status.success())
        .map(|out| out.stdout);
    if let Some(listed) = listed.filter(|listed| !listed.is_empty()) {
        return String::from_utf8_lossy(&listed)
            .lines()
            .map(str::to_owned)
            .collect();
    }
    let mut files = Vec::new();
    walk(root(), &mut files);
    files
}

/// Adds every file below `folder`, relative to the root and sorted; a missing folder has none.
fn walk(folder: &Path, files: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let inner = path.strip_prefix(root()).expect("walks start at the root");
        let name = inner.to_string_lossy().replace('\\', "/");
        if path.is_dir() && !["target", ".git", "dev"].contains(&name.as_str()) {
            walk(&path, files);
        } else if path.is_file() {
            files.push(name);
        }
    }
}

fn check(rule: impl Fn(&Source) -> Vec<String>) {
    let sources = sources();
    assert!(!sources.is_empty(), "there are files to check");
    fail(sources.iter().flat_map(rule));
}

fn fail(found: impl Iterator<Item = String>) {
    let found: Vec<_> = found.collect();
    assert!(
        found.is_empty(),
        "{} found:\n{}",
        found.len(),
        found.join("\n")
    );
}

fn complain(wrong: bool, path: &str, line: usize, what: &str) -> Vec<String> {
    let line = || format!("{path}:{line}: {what}");
    wrong.then(line).into_iter().collect()
}

fn at(s: &Source, lines: Vec<usize>, what: &str) -> Vec<String> {
    let line = |line| format!("{}:{line}: {what}", s.path);
    lines.into_iter().map(line).collect()
}
