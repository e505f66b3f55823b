//! Worlds in which one of four does wrong.

use super::*;
use crate::sim::{Options, run};

fn world(seed: u64, kind: &str, faults: &str) -> Options {
    Options {
        seed,
        steps: 6_000,
        faults: faults.parse().expect("known faults"),
        villain: Some(kind.parse().expect("a villain")),
        ..Options::default()
    }
}

#[test]
fn no_villain_breaks_a_rule_or_stops_the_others() {
    for (index, kind) in VillainKind::all().enumerate() {
        for seed in 0..3 {
            let options = world(seed * 100 + index as u64, &kind.to_string(), "none");
            let report = run(&options);
            assert!(
                report.violations.is_empty(),
                "{kind}: {:#?}",
                report.violations
            );
            assert!(report.blocks > 0, "{kind}: {report:?}");
        }
    }
}

#[test]
fn a_villain_reads_back_as_it_is_written() {
    for kind in VillainKind::all() {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert_eq!("saint".parse::<VillainKind>(), Err(UnknownVillain));
}

#[test]
fn at_most_f_members_are_villains_and_often_none() {
    let mut counts = BTreeMap::new();
    for seed in 0..300 {
        for members in [1, 3, 4, 7] {
            let options = Options {
                seed,
                members,
                ..Options::default()
            };
            let drawn = draw(&options);
            assert!(drawn.len() <= Sizes::of(members).f, "{seed}");
            *counts.entry((members, drawn.len())).or_insert(0) += 1;
        }
    }
    let worlds = |members, count| counts.get(&(members, count)).copied().unwrap_or(0);
    assert_eq!(worlds(3, 0), 300, "three members tolerate none");
    assert!(worlds(4, 0) > 50 && worlds(4, 1) > 150, "{counts:?}");
    assert!(worlds(7, 2) > 50, "{counts:?}");
}
