//! The grammar, operations and exit codes, as tables.

mod evidence;
mod views;

use std::ffi::OsString;

use super::args::{self, Format, LedgerVerb, MemberVerb, ToolVerb, Verb, WaitFor, command, parse};
use super::failure::{Exit, Failure};
use super::output::{pairs, table};
use super::submit::{operation_of, operation_of_line};
use crate::application::kv::Operation;
use crate::client::ClientError;

fn words(line: &str) -> Vec<OsString> {
    let words = std::iter::once("consortium").chain(line.split(' '));
    words.map(OsString::from).collect()
}

fn parsed(line: &str) -> args::Cli {
    match parse(words(line)) {
        Ok(cli) => cli,
        Err(error) => panic!("{line}: {error}"),
    }
}

#[test]
fn the_grammar_is_sound() {
    command().debug_assert();
}

#[test]
fn every_flag_has_a_variable_and_every_verb_an_example() {
    let mut whole = command();
    whole.build();
    for verb in whole
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help")
    {
        let name = verb.get_name();
        assert!(verb.get_after_help().is_some(), "{name} has no example");
        for arg in verb.get_arguments() {
            let Some(long) = arg
                .get_long()
                .filter(|long| !["help", "version"].contains(long))
            else {
                continue;
            };
            let variable = arg
                .get_env()
                .map(|name| name.to_string_lossy().into_owned());
            let want = format!("CONSORTIUM_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(variable, Some(want), "{name} --{long}");
        }
    }
}

#[test]
fn flags_stand_before_or_after_words() {
    for line in [
        "-o json --api http://a get key",
        "get key -o json --api http://a",
        "get -o json key --api http://a",
        "--api http://a get -o json key",
    ] {
        let cli = parsed(line);
        assert_eq!(cli.common.output, Format::Json, "{line}");
        assert_eq!(cli.common.api, ["http://a"], "{line}");
        let Verb::Ledger(LedgerVerb::Get(args)) = cli.verb else {
            panic!("{line} is a get");
        };
        assert_eq!(args.key, "key", "{line}");
    }
    for line in [
        "submit --wait ordered put a b",
        "submit put a b --wait ordered",
    ] {
        let Verb::Ledger(LedgerVerb::Submit(args)) = parsed(line).verb else {
            panic!("{line} is a submit");
        };
        assert_eq!(args.wait, WaitFor::Ordered, "{line}");
        assert_eq!(args.words, ["put", "a", "b"], "{line}");
    }
}

#[test]
fn several_addresses_follow_one_flag_and_never_take_a_word() {
    for line in [
        "status --api http://a http://b",
        "status --api http://a,http://b",
        "--api http://a --api http://b status",
        "--api http://a http://b status",
    ] {
        assert_eq!(parsed(line).common.api, ["http://a", "http://b"], "{line}");
    }
    let cli = parsed("submit --api http://a put key http://value");
    assert_eq!(cli.common.api, ["http://a"]);
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    for line in [
        "nothing",
        "get",
        "block high",
        "dev --members 0",
        "submit --wait soon put a b",
        "bench --rate 5 --clients 5",
        "init --members 4 --founder a.json",
        "config",
    ] {
        let error = parse(words(line)).expect_err(line);
        assert!(error.use_stderr(), "{line}");
        assert_eq!(error.exit_code(), 2, "{line}");
    }
    assert!(!parse(words("--help")).expect_err("help").use_stderr());
}

#[test]
fn verbs_take_the_flags_that_the_documents_name() {
    assert!(matches!(
        parsed("dev --members 7 --dir d --application kv --seconds 5 --tables redb").verb,
        Verb::Member(MemberVerb::Dev(args)) if args.members == 7 && args.seconds == Some(5.0)
    ));
    assert!(matches!(
        parsed("bench --size 512 --mode R --batch-signature 1 --rate 100 --seconds 2").verb,
        Verb::Tool(ToolVerb::Bench(args)) if args.batch_signature == 1 && args.rate == Some(100.0)
    ));
    assert!(matches!(
        parsed("simulate --seeds 10 --first 3 --members 4 --steps 9 --faults x=1 --shrink").verb,
        Verb::Tool(ToolVerb::Simulate(args)) if args.seeds == Some(10) && args.shrink
    ));
    assert!(matches!(
        parsed("submit -").verb,
        Verb::Ledger(LedgerVerb::Submit(args)) if args.words == ["-"]
    ));
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn operations_are_what_the_words_say() {
    let put = Operation::Put {
        key: b"k",
        value: b"v w",
    };
    let put = put.to_bytes().expect("in bounds");
    assert_eq!(
        operation_of(&strings(&["put", "k", "v w"]), false).expect("a put"),
        put
    );
    assert_eq!(operation_of_line("put k v w").expect("a put"), put);
    assert_eq!(operation_of_line("put k v w\r").expect("a put"), put);
    let json = r#"{"put": {"key": "k", "value": "v w"}}"#;
    assert_eq!(operation_of_line(json).expect("a put"), put);
    let absent = Operation::CompareAndSet {
        key: b"k",
        old: None,
        new: b"v",
    };
    let absent = absent.to_bytes().expect("in bounds");
    let words = strings(&["cas", "k", "v"]);
    assert_eq!(operation_of(&words, true).expect("a cas"), absent);
}

#[test]
fn what_is_no_operation_is_wrong_usage() {
    let cases: [&[&str]; 7] = [
        &[],
        &["put", "k"],
        &["put", "", "v"],
        &["del"],
        &["cas", "k", "v"],
        &["raw", "zz"],
        &["drop", "k"],
    ];
    for words in cases {
        let failure = operation_of(&strings(words), false).expect_err("no operation");
        assert_eq!(failure.exit, Exit::Usage, "{words:?}");
        assert!(!failure.next.is_empty(), "{words:?}");
    }
}

#[test]
fn exit_codes_tell_refused_late_and_false_apart() {
    let late = ClientError::TimedOut {
        after_ms: 5,
        last: "silence".into(),
    };
    let gone = ClientError::Unreachable {
        reason: "refused".into(),
    };
    let lie = ClientError::Unproved {
        reason: "no quorum".into(),
    };
    let cases = [
        (late, Exit::TimedOut, 3),
        (gone, Exit::Refused, 1),
        (lie, Exit::Violation, 4),
        (ClientError::Conflict, Exit::Refused, 1),
    ];
    for (error, want, code) in cases {
        let failure = Failure::from(error);
        assert_eq!((failure.exit, failure.exit as u8), (want, code));
        assert!(!failure.next.is_empty(), "{}", failure.what);
    }
}

#[test]
fn a_closed_standard_output_is_no_error() {
    let closed = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    assert!(Failure::from(closed).what.is_empty());
}

#[test]
fn tables_line_up() {
    let rows = vec![
        vec!["a".to_owned(), "bb".to_owned()],
        vec!["ccc".into(), "d".into()],
    ];
    assert_eq!(table(&["x", "y"], &rows), "X    Y\na    bb\nccc  d");
    assert_eq!(
        pairs(&[("a", "1".into()), ("long", String::new())]),
        "a     1\nlong"
    );
}
