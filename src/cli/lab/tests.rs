//! Experiments give the figures that the documents name.

use super::super::args::{Verb, parse};
use super::*;

fn parsed(line: &str) -> CommitteeArgs {
    let words = std::iter::once("consortium").chain(line.split(' '));
    match parse(words.map(Into::into)).map(|cli| cli.verb) {
        Ok(Verb::Lab(LabVerb::Committee(args))) => args,
        other => panic!("{line} is no experiment with committees: {other:?}"),
    }
}

#[test]
fn committees_have_the_sizes_of_the_documented_table() {
    let all = committees(&parsed("lab committee")).expect("rows");
    assert_eq!(all.len(), 27);
    let line = "lab committee --members 1000 --byzantine 7.5,10 --crashed 2.5";
    let rows = committees(&parsed(line)).expect("rows");
    let seats: Vec<_> = rows.iter().map(|row| row.seats).collect();
    assert_eq!(seats[..3], [Some(52), Some(79), Some(103)]);
    let failures = rows.iter().zip([1e-6, 1e-9, 1e-12]);
    for (row, most) in failures {
        assert!(row.failure.is_some_and(|failure| failure <= most));
        assert!(row.draws_median.is_some_and(|draws| draws > 0.69 / most));
    }
}

#[test]
fn what_cannot_be_is_left_out_or_wrong_usage() {
    let certain = committees(&parsed("lab committee --members 100 --byzantine 5")).expect("rows");
    assert_eq!(
        (certain[0].seats, certain[0].failure),
        (Some(16), Some(0.0))
    );
    assert_eq!(certain[0].draws_median, None, "it never fails");
    let none = committees(&parsed("lab committee --members 100 --byzantine 33.3")).expect("rows");
    assert_eq!((none[0].seats, none[0].failure), (None, None));
    for line in [
        "lab committee --byzantine 20 --crashed 13.34",
        "lab committee --byzantine 101",
        "lab committee --crashed NaN",
    ] {
        assert!(committees(&parsed(line)).is_err(), "{line}");
    }
}

#[test]
fn rows_are_written_as_csv() {
    let args = parsed("lab committee --members 100 --byzantine 5 --one-in 1000000");
    let rows: Vec<_> = committees(&args)
        .expect("rows")
        .iter()
        .map(Committee::cells)
        .collect();
    assert_eq!(
        csv(&Committee::HEADS, &rows),
        "members,byzantine_percent,crashed_percent,one_in,seats,failure,draws_median\n\
         100,5,0,1000000,16,0.00e0,\n"
    );
}
