//! Newcomers get our word on where we stand, and who lags too far is told so.

use super::*;
use crate::bootstrap::{self, Ask};
use crate::committee::Nonce;

fn hear(
    replica: &mut Consortium,
    now: Time,
    from: usize,
    message: Heard,
) -> Vec<Output<Consortium>> {
    let mut out = Outbox::new();
    let from = id(from);
    replica.handle(now, Input::Message { from, message }, &mut out);
    out.drain().collect()
}

fn anchored(outputs: &[Output<Consortium>]) -> Vec<Event> {
    let events = outputs.iter().filter_map(|output| {
        let Output::Emit(event) = output else {
            return None;
        };
        let is_ours = matches!(event, Event::Anchored(..) | Event::TooFar | Event::Shorter);
        is_ours.then(|| event.clone())
    });
    events.collect()
}

fn ask(view: u64) -> Heard {
    let ask = Ask::Anchor(ViewId(view), Nonce([5; 32]));
    Heard::Bootstrap(Box::new(bootstrap::Message::Ask(ask)))
}

#[test]
fn an_idle_chain_offers_an_anchor_and_one_with_blocks_its_newest() {
    let mut bench = Bench::new(fresh);
    let verifier = Verifier::simulated(WORLD);
    for height in 0..2 {
        for n in 0..4 {
            let replica = &mut bench.replicas[n];
            let outputs = hear(replica, bench.now, (n + 1) % 4, ask(0));
            let events = anchored(&outputs);
            let [Event::Anchored(to, standing)] = &events[..] else {
                panic!("{events:?}");
            };
            let Standing { vote, certificate } = &**standing;
            let check = vote.check(replica.view()).expect("a seat");
            assert!(verifier.all_valid(&[check]));
            assert_eq!(*to, id((n + 1) % 4));
            assert_eq!(vote.nonce, Nonce([5; 32]));
            assert_eq!(vote.height, Height(height));
            match certificate {
                None => assert_eq!(vote.digest, genesis().header().digest()),
                Some(held) => assert_eq!(held.ballot.digest, vote.digest),
            }
            assert_eq!(certificate.is_some(), height > 0);
            // A short question does not make us sign without end.
            assert!(anchored(&hear(replica, bench.now, (n + 1) % 4, ask(0))).is_empty());
        }
        bench.submit(0, height + 1);
        bench.pass(300);
    }
}

#[test]
fn what_the_disk_has_is_served_and_what_nobody_signs_is_not() {
    let mut bench = Bench::new(fresh);
    let replica = &mut bench.replicas[0];
    assert!(anchored(&hear(replica, Time(0), 1, ask(1))).is_empty());
    let steps = Ask::Steps(ViewId(0), Digest::ZERO);
    let message = Heard::Bootstrap(Box::new(bootstrap::Message::Ask(steps.clone())));
    let outputs = hear(replica, Time(0), 1, message);
    let serve = Event::Serve(id(1), Wanted::Bootstrap(steps));
    let is_it =
        |output: &Output<Consortium>| matches!(output, Output::Emit(event) if *event == serve);
    assert!(outputs.iter().any(is_it));
    // Who has no seat has no word either.
    let restored = Restored {
        voter: None,
        ..fresh(3)
    };
    let mut observer = Consortium::new(options(3), restored, Time(0)).expect("a view");
    assert!(anchored(&hear(&mut observer, Time(0), 1, ask(0))).is_empty());
}

#[test]
fn newcomers_are_remembered_so_many_and_so_long() {
    let mut bench = Bench::new(fresh);
    let replica = &mut bench.replicas[0];
    let mut words = 0;
    for n in 0..1_000_u32 {
        let from = MemberId(Digest::of(crate::crypto::Domain::Member, &n.to_le_bytes()));
        let mut out = Outbox::new();
        let message = ask(0);
        replica.handle(Time(7), Input::Message { from, message }, &mut out);
        let outputs: Vec<_> = out.drain().collect();
        words += anchored(&outputs).len();
        assert_eq!(
            replica
                .burden()
                .excess(&Burden::most(&genesis().parameters)),
            None
        );
    }
    assert_eq!(words, 256);
    let later = Time(7) + Span::from_ms(200);
    assert_eq!(anchored(&hear(replica, later, 1, ask(0))).len(), 1);
}

/// A member that lags by a certified block whose links to all others stand.
fn lagging() -> (Bench, Consortium) {
    let mut bench = Bench::new(fresh);
    bench.submit(0, 1);
    bench.pass(100);
    let newest = bench.records[0].iter().find_map(|record| {
        let Record::Certificate(held) = record else {
            return None;
        };
        Some(held.clone())
    });
    let mut behind = Consortium::new(options(1), fresh(1), Time(0)).expect("a view");
    let mut out = Outbox::new();
    behind.handle(Time(0), Input::Command(Command::Start), &mut out);
    for other in [0, 2, 3] {
        let command = Command::Connected(id(other));
        behind.handle(Time(0), Input::Command(command), &mut out);
    }
    let message = Heard::Certificate(Verified::vouch(newest.expect("it is certified")));
    hear(&mut behind, Time(0), 0, message);
    (bench, behind)
}

#[test]
fn who_lags_behind_what_all_have_pruned_is_told_once() {
    let (bench, mut behind) = lagging();
    let mut told = Vec::new();
    for from in [0, 2, 3, 0, 2, 3] {
        let pruned = Heard::Pruned(Height(40));
        told.push(anchored(&hear(&mut behind, Time(0), from, pruned)).len());
    }
    assert_eq!(told, [0, 0, 1, 0, 0, 0]);
    // Somebody has it all the same; then all of it begins anew.
    let answers = serve::answer(&Kept(&bench.records[0]), &Wanted::Blocks(Height(1)));
    let [Message::Extent(extent)] = &answers[..] else {
        panic!("{answers:?}");
    };
    let extent = Heard::Extent(Verified::vouch(extent.clone()));
    hear(&mut behind, Time(0), 2, extent);
    let late = hear(&mut behind, Time(0), 3, Heard::Pruned(Height(1)));
    assert!(anchored(&late).is_empty(), "it is not what we lack");
}

#[test]
fn one_that_lies_about_pruning_strands_nobody_and_silent_ones_hold_nobody() {
    let (_, mut behind) = lagging();
    let pruned = || Heard::Pruned(Height(40));
    assert!(anchored(&hear(&mut behind, Time(0), 2, pruned())).is_empty());
    for _ in 0..50 {
        let again = hear(&mut behind, Time(0), 2, pruned());
        assert!(anchored(&again).is_empty(), "one may be faulty");
    }
    for turn in 0..50 {
        let mut out = Outbox::new();
        let now = Time(0) + Span::from_ms(200 * turn);
        behind.handle(now, Input::Timer(Timer::Fetch), &mut out);
        let outputs: Vec<_> = out.drain().collect();
        assert!(anchored(&outputs).is_empty(), "one may be faulty");
    }
    assert_eq!(anchored(&hear(&mut behind, Time(0), 3, pruned())).len(), 1);
}

#[test]
fn a_shorter_way_that_more_than_the_faulty_know_is_told_once() {
    let (_, mut behind) = lagging();
    let mut told = Vec::new();
    for from in [2, 2, 2, 0, 3, 0] {
        told.push(
            anchored(&hear(
                &mut behind,
                Time(0),
                from,
                Heard::Shorter(Height(40)),
            ))
            .len(),
        );
    }
    assert_eq!(told, [0, 0, 0, 1, 0, 0]);
    let late = hear(&mut behind, Time(0), 3, Heard::Shorter(Height(0)));
    assert!(anchored(&late).is_empty(), "we are past it");
}

/// The first block that is lacking comes, and executes.
fn pass_the_first(bench: &Bench, behind: &mut Consortium) {
    let answers = serve::answer(&Kept(&bench.records[0]), &Wanted::Blocks(Height(1)));
    let [Message::Extent(extent)] = &answers[..] else {
        panic!("{answers:?}");
    };
    let extent = Heard::Extent(Verified::vouch(extent.clone()));
    let outputs = hear(behind, Time(0), 2, extent);
    let execute = outputs.into_iter().find_map(|output| {
        let Output::Emit(Event::Execute(block)) = output else {
            return None;
        };
        Some(block)
    });
    let block = execute.expect("the block that was lacking executes");
    let execution = Execution {
        height: block.height,
        outcomes: { block.operations.into_iter() }
            .map(|bytes| Outcome { code: 0, bytes })
            .collect(),
        state: None,
    };
    let mut out = Outbox::new();
    let command = Command::Executed(execution);
    behind.handle(Time(0), Input::Command(command), &mut out);
    assert_eq!(behind.ledger().height(), Height(1));
}

#[test]
fn the_next_shorter_way_is_told_though_the_driver_left_the_last_one() {
    let (bench, mut behind) = lagging();
    let hint = |height| Heard::Shorter(Height(height));
    assert!(anchored(&hear(&mut behind, Time(0), 2, hint(1))).is_empty());
    assert_eq!(anchored(&hear(&mut behind, Time(0), 3, hint(1))).len(), 1);
    pass_the_first(&bench, &mut behind);
    assert!(anchored(&hear(&mut behind, Time(0), 2, hint(40))).is_empty());
    assert_eq!(anchored(&hear(&mut behind, Time(0), 3, hint(40))).len(), 1);
}

#[test]
fn a_shorter_way_that_a_member_has_passed_does_not_stand_for_what_others_say() {
    let (bench, mut behind) = lagging();
    let hint = |height| Heard::Shorter(Height(height));
    assert!(anchored(&hear(&mut behind, Time(0), 2, hint(1))).is_empty());
    pass_the_first(&bench, &mut behind);
    let outputs = hear(&mut behind, Time(0), 3, hint(u64::MAX));
    assert!(anchored(&outputs).is_empty(), "one may be faulty");
    assert_eq!(anchored(&hear(&mut behind, Time(0), 0, hint(40))).len(), 1);
}

#[test]
fn who_has_no_seat_shows_nobody_a_shorter_way() {
    let (_, mut behind) = lagging();
    let stranger = MemberId(Digest::of(crate::crypto::Domain::Member, b"stranger"));
    let hint = || Heard::Shorter(Height(40));
    let mut out = Outbox::new();
    for command in [
        Command::Connected(stranger),
        Command::Elsewhere(stranger, ViewId(1)),
    ] {
        behind.handle(Time(0), Input::Command(command), &mut out);
    }
    let message = hint();
    let from = stranger;
    behind.handle(Time(0), Input::Message { from, message }, &mut out);
    let outputs: Vec<_> = out.drain().collect();
    assert!(anchored(&outputs).is_empty());
    assert!(anchored(&hear(&mut behind, Time(0), 2, hint())).is_empty());
    assert_eq!(anchored(&hear(&mut behind, Time(0), 3, hint())).len(), 1);
}

#[test]
fn a_way_is_shorter_from_two_files_and_twice_the_snapshot_on() {
    let taken = |bytes| crate::committee::Taken {
        height: Height(50),
        header: Digest::ZERO,
        manifest: Digest::ZERO,
        state: Digest::ZERO,
        bytes,
        segments: 1,
    };
    // Ten blocks to a file; what lies below 11 is not here.
    let file = |height: Height| {
        let file = (height >= Height(11)).then_some(height.0 / 10);
        Ok::<_, std::convert::Infallible>(file)
    };
    for (from, bytes, is_shorter) in [
        (30, 99, true),
        (30, 100, false),
        (39, 99, true),
        (40, 1, false),
        (50, 0, false),
        (51, 0, false),
        (11, 199, true),
        (10, 0, false),
    ] {
        let found = serve::shorter(Height(from), &taken(bytes), 100, file);
        let expected = is_shorter.then_some(Height(50));
        assert_eq!(found, Ok(expected), "{bytes} bytes from {from}");
    }
}

#[test]
fn blocks_below_the_first_that_is_kept_are_said_to_be_pruned() {
    struct Short;
    impl serve::Archive for Short {
        fn block(&self, _: Height) -> Option<Block> {
            None
        }
        fn certificate_at_or_after(&self, _: Height) -> Option<Certificate> {
            None
        }
        fn batch(&self, _: &Digest) -> Option<Bytes> {
            None
        }
        fn first(&self) -> Height {
            Height(41)
        }
        fn shorter(&self, from: Height) -> Option<Height> {
            (from < Height(43)).then_some(Height(50))
        }
    }
    let at = |height| serve::answer(&Short, &Wanted::Blocks(Height(height)));
    assert_eq!(at(40), [Message::Pruned(Height(41))]);
    assert_eq!(at(41), [Message::Shorter(Height(50))]);
    assert_eq!(at(43), []);
}
