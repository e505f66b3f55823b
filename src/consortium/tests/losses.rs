//! A member without a key says so; who hears of too many knows that the view is dead.

use super::*;

/// Replicas of which `lost` have no key for their seats.
fn without(lost: &'static [usize]) -> Bench {
    let mut bench = Bench::new(|n| {
        let whole = fresh(n);
        match lost.contains(&n) {
            true => Restored {
                voter: None,
                ..whole
            },
            false => whole,
        }
    });
    for n in 0..4 {
        bench.connect(n);
    }
    bench.pass(10);
    bench
}

fn losses(bench: &Bench, n: usize) -> Losses {
    bench.replicas[n].overview().losses
}

#[test]
fn a_view_without_a_quorum_of_keys_is_dead_to_everybody_who_hears_it() {
    let bench = without(&[1, 2]);
    let sizes = bench.replicas[0].view().sizes();
    for n in 0..4 {
        let losses = losses(&bench, n);
        let lost: BTreeSet<MemberId> = losses.lost.iter().copied().collect();
        assert_eq!(lost, BTreeSet::from([id(1), id(2)]), "at {n}");
        assert_eq!(losses.reachable, 2);
        assert!(losses.is_dead(&sizes));
        assert_eq!(losses.is_vacant, [1, 2].contains(&n));
    }
}

#[test]
fn one_lost_seat_of_four_is_known_and_the_view_lives() {
    let mut bench = without(&[3]);
    let sizes = bench.replicas[0].view().sizes();
    assert_eq!(losses(&bench, 0).lost, [id(3)]);
    assert!(!losses(&bench, 0).is_dead(&sizes));
    bench.submit(0, 1);
    bench.pass(200);
    assert_eq!(bench.replicas[3].overview().height, Height(1));
    // Its links fall, and nothing else is known of it.
    bench.input(0, Input::Command(Command::Disconnected(id(3))));
    bench.input(0, Input::Command(Command::Disconnected(id(2))));
    let at = losses(&bench, 0);
    assert_eq!((at.lost.len(), at.reachable), (1, 2));
    assert!(!at.is_dead(&sizes), "who is away may come back");
}

#[test]
fn a_vote_takes_back_what_was_said_of_a_seat() {
    let mut bench = without(&[]);
    let vacant = || Heard::Vacant(ViewId(0));
    for from in [id(1), id(2)] {
        let message = vacant();
        bench.input(0, Input::Message { from, message });
    }
    assert_eq!(losses(&bench, 0).lost.len(), 2);
    let (from, message) = (id(1), Heard::Vacant(ViewId(1)));
    bench.input(0, Input::Message { from, message });
    assert_eq!(losses(&bench, 0).lost.len(), 2, "it speaks of one view");
    bench.submit(0, 1);
    bench.pass(200);
    assert!(losses(&bench, 0).lost.is_empty());
}

#[test]
fn who_comes_back_is_not_lost_until_it_says_so_again() {
    let mut bench = without(&[]);
    let (from, message) = (id(1), Heard::Vacant(ViewId(0)));
    bench.input(0, Input::Message { from, message });
    assert_eq!(losses(&bench, 0).lost, [id(1)]);
    bench.input(0, Input::Command(Command::Disconnected(id(1))));
    bench.input(0, Input::Command(Command::Connected(id(1))));
    assert!(losses(&bench, 0).lost.is_empty());
}

#[test]
fn a_word_that_was_lost_is_said_to_whoever_asks() {
    let mut bench = without(&[1, 2]);
    // Its link stood before the member had told of its seat.
    bench.replicas[0].forget_vacancy(&id(1));
    bench.replicas[0].forget_vacancy(&id(2));
    bench.replicas[0].count_losses();
    assert!(losses(&bench, 0).lost.is_empty());
    bench.submit(0, 1);
    bench.pass(1_000);
    assert_eq!(losses(&bench, 0).lost.len(), 2);
}

#[test]
fn a_new_view_starts_with_nothing_lost() {
    RULES.set(ViewRules {
        rotation_blocks: 8,
        assemble_blocks: 6,
        ..ViewRules::default()
    });
    let mut bench = without(&[3]);
    for sequence in 1..=20 {
        bench.submit(0, sequence);
        bench.pass(40);
    }
    bench.pass(2_000);
    for n in 0..4 {
        assert!(bench.replicas[n].overview().view >= 1);
        assert_eq!(losses(&bench, n).lost, [], "a fresh key for every seat");
        assert_eq!(losses(&bench, n).reachable, 4);
    }
}
