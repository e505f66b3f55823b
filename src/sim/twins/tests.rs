//! Scenarios of twins: that there are all of them, and that none breaks anything.

use super::*;

#[test]
fn every_partition_of_five_into_at_most_three_groups_is_there_once() {
    let all = Partition::all();
    assert_eq!(
        all.len(),
        1 + 15 + 25,
        "Stirling numbers of the second kind"
    );
    assert!(all.is_sorted_by(|one, next| one < next));
    assert!(all.contains(&Partition::WHOLE));
}

#[test]
fn of_two_scenarios_that_differ_in_which_twin_is_which_one_is_canonical() {
    let space = Space::new(2);
    for number in 0..space.len() {
        let scenario = space.scenario(number);
        let swap = |round: &Partition| round.swapped(scenario.doubled);
        let swapped = Scenario {
            doubled: scenario.doubled,
            rounds: scenario.rounds.iter().map(swap).collect(),
        };
        let same = scenario == swapped;
        let canonical = [scenario.is_canonical(), swapped.is_canonical()];
        assert_eq!(canonical.contains(&false), !same, "{scenario}");
        assert!(canonical.contains(&true), "{scenario}");
    }
}

#[test]
fn no_scenario_of_one_round_breaks_anything() {
    let report = run_twins(1, 2, None);
    assert_eq!(report.violations, Vec::<String>::new());
    assert!(report.scenarios > 80, "{report:?}");
}

/// Zyzzyva and FaB fell to four replicas, two regency changes and the first slot.
#[test]
fn twins_in_every_partition_of_two_rounds_neither_split_nor_stop_the_first_heights() {
    let report = run_twins(2, 2, None);
    println!("{report:?}");
    assert_eq!(report.violations, Vec::<String>::new());
}

#[test]
fn one_scenario_is_one_history() {
    let scenario = Space::new(3).scenario(77_777);
    assert_eq!(scenario.run(), scenario.run());
}

#[test]
#[ignore = "goes through all scenarios of three rounds; run by hand or `simulate --twins`"]
fn twins_in_every_partition_of_three_rounds_neither_split_nor_stop_the_first_heights() {
    let report = run_twins(3, 2, None);
    println!("{report:?}");
    assert_eq!(report.violations, Vec::<String>::new());
}

/// Two of three correct seats had decided and only ever asked; the third answered and never asked
/// back, so nobody gave it the decisions that the others needed its PERSIST for.
#[test]
fn a_seat_that_is_only_asked_learns_that_it_lags() {
    let cut = Partition([0, 0, 1, 1, 0]);
    let scenario = Scenario {
        doubled: 2,
        rounds: vec![Partition([0, 0, 1, 1, 2]), cut, cut],
    };
    assert_eq!(scenario.run(), Ok(()));
}

#[cfg(feature = "plants")]
#[test]
fn planted_bugs_of_the_ordering_rules_are_found_in_two_rounds() {
    for plant in [
        Plant::SmallQuorum,
        Plant::BoundIgnored,
        Plant::DecisionProvesBelow,
    ] {
        let report = run_twins(2, 2, Some(plant));
        assert!(!report.violations.is_empty(), "{}", plant.name());
    }
}
