//! Timeouts that cannot work are refused, with the value that does.
//!
//! Source: lint of the settled timers. In: settings, samples, a temporary folder. Out: verdicts.
//! Holds: no verdict here depends on how fast this machine is. Elsewhere: starts (`cluster`).

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use crate::node::Timing;
use crate::node::config::Config;
use crate::node::selftest::{Measured, Samples, Verdict, measure};

fn samples(fastest_us: u64, p99_us: u64) -> Samples {
    Samples {
        count: 100,
        fastest_us,
        p99_us,
    }
}

fn measured(sync: Samples, round_trip: Samples) -> Measured {
    Measured {
        sync,
        place: PathBuf::from("data"),
        round_trip,
        peers_answered: 3,
        batch_us: 4_000,
    }
}

fn timing(least: u64) -> Timing {
    Timing {
        progress_timeout_least_ms: least,
        ..Timing::default()
    }
}

#[test]
fn timeouts_that_no_machine_could_run_are_refused_with_key_value_and_what_works() {
    for (text, told) in [
        (
            "progress_timeout_least_ms = 0",
            "progress_timeout_least_ms = 0: at least 1",
        ),
        (
            "progress_timeout_first_ms = 100",
            "progress_timeout_first_ms = 100: between",
        ),
        (
            "progress_timeout_most_ms = 1000",
            "progress_timeout_first_ms = 2000: between",
        ),
        (
            "progress_timeout_most_ms = 100",
            "progress_timeout_most_ms = 100: between",
        ),
        ("progress_timeout_most_ms = 3600001", "3600000 works"),
        ("resend_ms = 0", "resend_ms = 0: at least 1"),
        (
            "resend_ms = 500",
            "less than progress_timeout_least_ms (300)",
        ),
    ] {
        let error = Config::parse("member.toml", text, |_| None).expect_err(text);
        assert!(error.to_string().contains(told), "{text}: {error}");
    }
}

#[test]
fn a_timeout_is_held_against_the_slow_samples_before_a_start_and_the_fast_ones_at_it() {
    // 4 + 1 + 5 ms at best, 4 + 6 + 90 ms at worst.
    let measured = measured(samples(5_000, 90_000), samples(1_000, 6_000));
    assert_eq!(
        (measured.floor_ms(), measured.works_ms(), measured.calm_ms()),
        (40, 400, 800)
    );
    for (least, before, at) in [
        (39, Verdict::Deadly, Verdict::Deadly),
        (40, Verdict::Deadly, Verdict::Tight),
        (399, Verdict::Deadly, Verdict::Tight),
        (400, Verdict::Tight, Verdict::Tight),
        (799, Verdict::Tight, Verdict::Tight),
        (800, Verdict::Calm, Verdict::Calm),
    ] {
        let found = (
            measured.judge(&timing(least)),
            measured.judge_start(&timing(least)),
        );
        assert_eq!(found, (before, at), "{least} ms");
    }
}

#[test]
fn a_refusal_names_the_key_the_value_what_was_measured_and_what_works() {
    let measured = measured(samples(5_000, 90_000), samples(1_000, 6_500));
    let why = measured.explain(&timing(7), 40);
    for part in [
        "progress_timeout_least_ms = 7",
        "gathers 4.000 ms",
        "with 3 members takes 1.000 ms to 6.500 ms",
        "in data 5.000 ms to 90.000 ms",
        "at least 40 works",
        "804 leaves room",
    ] {
        assert!(why.contains(part), "{part}: {why}");
    }
}

#[test]
fn the_p99_is_the_sample_that_one_of_a_hundred_exceeds() {
    let times = (1..=200).rev().map(Duration::from_micros).collect();
    let found = Samples::of(times).expect("there are samples");
    assert_eq!((found.count, found.fastest_us, found.p99_us), (200, 1, 198));
    assert_eq!(Samples::of(Vec::new()), None);
}

#[test]
fn a_self_test_measures_the_disk_and_this_machine_where_no_member_answers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let found = measure(&data, &[String::new()], 2).expect("measured");
    assert_eq!(
        (found.place.as_path(), found.peers_answered),
        (folder.path(), 0)
    );
    assert!(found.sync.count > 0 && found.sync.fastest_us <= found.sync.p99_us);
    assert!(found.with().contains("this machine"));
    let left = std::fs::read_dir(folder.path()).expect("a folder");
    assert_eq!(left.count(), 0, "its file is removed");
}

#[test]
fn a_self_test_knocks_at_the_members_that_answer() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addresses = [&open, &closed].map(|door| door.local_addr().expect("bound").to_string());
    drop(closed);
    let found = measure(folder.path(), &addresses, 2).expect("measured");
    assert_eq!(
        (found.peers_answered, found.place.as_path()),
        (1, folder.path())
    );
    assert!(found.round_trip.count > 0);
}
