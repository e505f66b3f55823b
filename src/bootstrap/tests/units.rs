//! Shares, leases, what is asked in which stage, and whatever a peer may send.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;

use super::ledger::Ledger;
use crate::blocks::codec;
use crate::blocks::{Link, STEP_BYTES_MAX};
use crate::bootstrap::shelf::{self, ANSWER_SEGMENTS_BYTES, Shelf};
use crate::bootstrap::*;
use crate::checkpoint::assembler::Bits;
use crate::checkpoint::{Holding, Page};
use crate::committee::{Height, MemberId, Nonce, ViewId, Voter};
use crate::crypto::{Digest, Domain, Verifier};
use crate::machine::{Input, Machine, Outbox, Span, Time};

fn member(n: u64) -> MemberId {
    MemberId(Digest::of(Domain::Member, &n.to_le_bytes()))
}

fn at(ms: u64) -> Time {
    Time(ms * 1_000)
}

#[test]
fn a_short_ask_pulls_no_more_than_its_share() {
    let mut quota = Quota::new(QuotaOptions {
        bytes_per_second: 10_000,
        total_bytes_per_second: 1 << 40,
        burst_bytes: 50_000,
    });
    let (mut sent, who) = (0, member(1));
    for ms in 0..60_000 {
        if quota.admit(at(ms), who).is_ok() {
            sent += 20_000;
            quota.spend(&who, 1, 20_000);
        }
    }
    assert!((550_000..=670_000).contains(&sent), "{sent}");
    let wait = quota
        .admit(at(60_000), who)
        .expect_err("it has had its share");
    assert_eq!(quota.admit(at(60_000) + wait, who), Ok(()));
    // Another has a share of its own.
    assert_eq!(quota.admit(at(60_000), member(2)), Ok(()));
}

#[test]
fn many_newcomers_together_get_no_more_than_the_total() {
    let mut quota = Quota::new(QuotaOptions {
        bytes_per_second: 1_000_000,
        total_bytes_per_second: 100_000,
        burst_bytes: 50_000,
    });
    let mut sent = [0; 8];
    for turn in 0..60_000 {
        for (n, sent) in sent.iter_mut().enumerate() {
            let who = member(n as u64);
            if quota.admit(at(turn), who).is_ok() {
                *sent += 20_000;
                quota.spend(&who, 1, 20_000);
            }
        }
    }
    let all: u64 = sent.iter().sum();
    assert!((5_900_000..=6_400_000).contains(&all), "{sent:?}");
}

#[test]
fn whoever_asks_without_end_makes_nobody_else_wait() {
    for total_mib in [1, 16, 64, 256] {
        let mut quota = Quota::new(QuotaOptions {
            total_bytes_per_second: total_mib << 20,
            ..QuotaOptions::default()
        });
        for ms in 0..60_000 {
            for greedy in 1..=4 {
                if quota.admit(at(ms), member(greedy)).is_ok() {
                    quota.spend(&member(greedy), 256, 4 << 20);
                }
            }
            if ms % 200 == 0 {
                let modest = member(9);
                assert_eq!(
                    quota.admit(at(ms), modest),
                    Ok(()),
                    "{total_mib} MiB, {ms} ms"
                );
                quota.spend(&modest, 1, 30_000);
            }
        }
    }
}

#[test]
fn an_ask_for_nothing_much_is_paid_for() {
    let mut quota = Quota::new(QuotaOptions {
        bytes_per_second: 500 * ASK_BYTES as u64,
        ..QuotaOptions::default()
    });
    let who = member(1);
    let mut asks = 0;
    for ms in 0..10_000 {
        if quota.admit(at(ms), who).is_ok() {
            asks += 1;
            quota.spend(&who, 1, 1);
        }
    }
    let burst = QuotaOptions::default().burst_bytes / ASK_BYTES as u64;
    assert!((5_000..=5_001).contains(&(asks - burst)), "{asks}");
}

#[test]
fn shares_are_counted_for_so_many_and_forgotten_when_they_are_whole() {
    let mut quota = Quota::new(QuotaOptions::default());
    for n in 0..10_000 {
        if quota.admit(at(1), member(n)).is_ok() {
            quota.spend(&member(n), 1, 1 << 20);
        }
        assert!(quota.count() <= QUOTA_PEERS_MAX);
    }
    assert!(quota.admit(at(1), member(99_999)).is_err());
    assert_eq!(quota.admit(at(60_000), member(99_999)), Ok(()));
    assert_eq!(quota.count(), 1);
}

#[test]
fn a_lease_ends_by_itself_and_nobody_holds_one_for_ever() {
    let mut leases = Leases::new();
    assert_eq!(leases.floor(at(0)), None);
    assert!(leases.hold(at(0), member(1), Height(40)));
    assert!(leases.hold(at(0), member(2), Height(60)));
    assert_eq!(leases.floor(at(1)), Some(Height(40)));
    assert_eq!(leases.floor(at(0) + LEASE), None);
    assert!(leases.hold(at(59_000), member(2), Height(60)));
    assert_eq!(leases.floor(at(61_000)), Some(Height(60)));
    // A lower one is not kept for whoever asked for a higher one.
    assert!(!leases.hold(at(62_000), member(2), Height(40)));
    let (mut now, mut held) = (at(100_000), true);
    let begin = now;
    while held && (now - begin).0 < 2 * LEASE_TOTAL_MAX.0 {
        held = leases.hold(now, member(3), Height(80));
        now = now + Span::from_ms(30_000);
    }
    assert!(!held);
    assert_eq!(leases.floor(now), None);
    assert!((now - begin).0 <= LEASE_TOTAL_MAX.0 + 60_000_000);
}

#[test]
fn members_that_take_turns_hold_a_snapshot_no_longer_than_one_does() {
    let mut leases = Leases::new();
    let step = 30_000;
    let mut last = 0;
    for ms in (0..4 * LEASE_TOTAL_MAX.0 / 1_000).step_by(step) {
        let turn = ms / (LEASE_TOTAL_MAX.0 / 2_000) % 3;
        if leases.hold(at(ms), member(turn), Height(80)) {
            last = ms;
        }
    }
    assert!(last <= LEASE_TOTAL_MAX.0 / 1_000, "{last}");
    assert!(
        leases.hold(at(last), member(9), Height(90)),
        "another one is"
    );
}

#[test]
fn leases_are_so_many() {
    let mut leases = Leases::new();
    let held = (0..1_000).filter(|n| leases.hold(at(1), member(*n), Height(8)));
    assert_eq!(held.count(), LEASES_MAX);
    assert_eq!(leases.count(), LEASES_MAX);
}

#[test]
fn answers_keep_their_bounds_whatever_is_asked() {
    let ledger = Ledger::with_snapshot(70, 300, 60_000);
    let genesis = ledger.genesis.header().digest();
    let manifest = ledger.snapshots[0].manifest.root();
    let asks = [
        Ask::Steps(ViewId(0), genesis),
        Ask::Steps(ViewId(0), Digest::ZERO),
        Ask::Steps(ViewId(u64::MAX), genesis),
        Ask::Steps(ViewId(7), genesis),
        Ask::Anchor(ViewId(0), Nonce([0; 32])),
        Ask::Anchor(ViewId(u64::MAX), Nonce([0; 32])),
        Ask::Checkpoint(Link::default()),
        Ask::Holding(manifest),
        Ask::Holding(genesis),
        Ask::Page(manifest, 0),
        Ask::Page(manifest, u32::MAX),
        Ask::Segments(manifest, (0..256).collect()),
        Ask::Segments(manifest, (200..456).collect()),
        Ask::Segments(genesis, vec![u32::MAX]),
    ];
    for ask in asks {
        let answers = shelf::answer(&ledger, &ask);
        let mut bytes = 0;
        for answer in &answers {
            assert!(answer.is_bounded(), "{ask:?}");
            let frame = codec::encode(answer);
            assert_eq!(
                codec::decode::<Message>(&frame, codec::ENCODED_BYTES_MAX),
                Ok(answer.clone())
            );
            bytes += frame.len();
        }
        let most = ANSWER_SEGMENTS_BYTES.max(ANSWER_STEPS_BYTES) + STEP_BYTES_MAX;
        assert!(bytes <= most, "{ask:?}: {bytes} bytes");
        let is_silent = matches!(ask, Ask::Anchor(ViewId(u64::MAX), _) | Ask::Checkpoint(_));
        assert_eq!(answers.is_empty(), is_silent, "{ask:?}");
    }
}

#[test]
fn what_is_saved_reads_back() {
    let ledger = Ledger::with_snapshot(1, 9, 100);
    let (header, body) = ledger.snapshots[0].block.clone();
    let (newest, certificate) = ledger.newest.clone();
    let target = Target {
        anchor: Fresh {
            view: ViewId(1),
            header: newest,
            certificate,
        },
        checkpoint: header,
        body,
    };
    let page = ledger.snapshots[0].manifest.page(0).expect("it has one");
    let step = ledger.builder.steps[0].to_bytes();
    for record in [
        Record::Step(step.into()),
        Record::Target(Box::new(target)),
        Record::Page(Box::new(page)),
    ] {
        let bytes = codec::encode(&record);
        assert_eq!(
            codec::decode::<Record>(&bytes, codec::ENCODED_BYTES_MAX),
            Ok(record)
        );
    }
}

#[test]
fn bitmaps_are_sets() {
    for len in [1, 7, 8, 63, 64, 65, 200] {
        let mut bits = Bits::none(len);
        for at in (0..len).step_by(3) {
            assert!(bits.insert(at));
            assert!(!bits.insert(at));
        }
        assert!(!bits.insert(len));
        let bytes = bits.to_bytes();
        assert_eq!(Bits::from_bytes(len, &bytes), Some(bits.clone()));
        assert_eq!(Bits::from_bytes(len, &[&bytes[..], &[0]].concat()), None);
        let mut around: Vec<u32> = bits.around(len / 2).collect();
        assert_eq!(around.len(), bits.count() as usize);
        assert!(
            around
                .first()
                .is_none_or(|first| *first >= len / 2 || len < 3)
        );
        around.sort_unstable();
        assert_eq!(around, (0..len).step_by(3).collect::<Vec<_>>());
        assert_eq!(Bits::all(len).count(), len);
        if !len.is_multiple_of(8) {
            let mut beyond = Bits::all(len).to_bytes();
            *beyond.last_mut().expect("a byte") = 0xff;
            assert_eq!(Bits::from_bytes(len, &beyond), None);
        }
    }
}

#[test]
fn steps_of_a_disk_that_do_not_lead_past_the_pin_are_refused() {
    let ledger = Ledger::new(3);
    let options = |pin| Options {
        me: member(9),
        genesis: ledger.genesis.clone(),
        pin,
        verifier: Verifier::ed25519(),
        seed: [7; 32],
        local: Height(0),
        own: BTreeSet::new(),
    };
    let held = || Held {
        steps: ledger.builder.steps.clone(),
        ..Held::default()
    };
    let pin = |digest| {
        let view = ViewId(2);
        Some(Pin { view, digest })
    };
    let right = ledger.opened(ViewId(2)).expect("it is there");
    assert!(Bootstrap::new(options(pin(right)), held()).is_ok());
    let wrong = Bootstrap::new(options(pin(Digest::ZERO)), held());
    let other = HeldError::OtherRoot { view: ViewId(2) };
    assert_eq!(wrong.err(), Some(other));
    let mut cut = held();
    cut.steps.remove(0);
    assert!(matches!(
        Bootstrap::new(options(None), cut).err(),
        Some(HeldError::Steps(_))
    ));
}

/// A machine in `stage` with four members, as far as it can be brought there by hand.
fn in_stage(stage: Stage, ledger: &Ledger) -> Bootstrap {
    let options = Options {
        me: member(9),
        genesis: ledger.genesis.clone(),
        pin: None,
        verifier: Verifier::ed25519(),
        seed: [7; 32],
        local: Height(0),
        own: BTreeSet::new(),
    };
    let mut machine = Bootstrap::new(options, Held::default()).expect("it begins");
    let mut now = Time(1);
    let mut inputs: Vec<Input<Bootstrap>> = vec![Input::Command(Command::Start)];
    inputs.extend((0..4).map(|seat| Input::Command(Command::Connected(ledger.member(seat)))));
    let mut inputs: std::collections::VecDeque<_> = inputs.into();
    while machine.stage() != stage {
        let Some(input) = inputs.pop_front() else {
            break;
        };
        let mut out = Outbox::new();
        now = now + Span::from_ms(1);
        machine.handle(now, input, &mut out);
        for output in out.drain() {
            let crate::machine::Output::Send { to, message } = output else {
                continue;
            };
            let crate::machine::To::One(from) = to else {
                continue;
            };
            let Message::Ask(ask) = message else { continue };
            let mut answers = shelf::answer(ledger, &ask);
            if let Ask::Anchor(_, nonce) = ask {
                let view = &ledger.builder.view;
                let seat = (0..4).find(|seat| ledger.member(*seat) == from);
                let key = ledger.builder.keys[seat.expect("a seat")].clone();
                let voter = Voter::new(view, key).expect("a seat");
                let (header, proof) = ledger.newest.clone();
                let vote = voter.vouch_anchor(nonce, (header.height, header.digest()));
                answers.extend(shelf::anchor(ledger, vote, proof));
            }
            let heard = answers
                .into_iter()
                .map(|message| Input::Message { from, message });
            inputs.extend(heard);
        }
    }
    assert_eq!(machine.stage(), stage);
    machine
}

const STAGES: [Stage; 6] = [
    Stage::Idle,
    Stage::Walk,
    Stage::Anchor,
    Stage::Checkpoint,
    Stage::Gather,
    Stage::Done,
];

/// One message of each kind, all of them true, and one that is not bounded.
fn messages(ledger: &Ledger) -> Vec<Message> {
    let snapshot = &ledger.snapshots[0];
    let manifest = snapshot.manifest.root();
    let view = &ledger.builder.view;
    let voter = Voter::new(view, ledger.builder.keys[0].clone()).expect("a seat");
    let (header, proof) = ledger.newest.clone();
    let vote = voter.vouch_anchor(Nonce([3; 32]), (header.height, header.digest()));
    let link = header.checkpoint;
    let asks = [
        Ask::Steps(ViewId(0), Digest::ZERO),
        Ask::Anchor(ViewId(1), Nonce([1; 32])),
        Ask::Checkpoint(link),
        Ask::Holding(manifest),
        Ask::Page(manifest, 0),
        Ask::Segments(manifest, vec![0, 5]),
    ];
    let steps = ledger.builder.steps.iter();
    let answers = [
        Answer::Steps(steps.map(|step| step.to_bytes().into()).collect()),
        Answer::Steps(Vec::new()),
        Answer::Checkpoint(Box::new(snapshot.block.clone())),
        Answer::Holding(manifest, Holding::All),
        Answer::Holding(manifest, Holding::Nothing),
        Answer::Holding(manifest, Holding::Some(Bytes::from_static(&[0xff]))),
        Answer::Page(manifest, Box::new(snapshot.manifest.page(0).expect("one"))),
        Answer::Segment(manifest, 0, snapshot.segments[0].clone()),
        Answer::Segment(manifest, u32::MAX, Bytes::new()),
        Answer::Lacks(manifest, Lacking::Page(0)),
        Answer::Lacks(manifest, Lacking::Segments(vec![1, 2])),
    ];
    let mut all: Vec<Message> = asks.into_iter().map(Message::Ask).collect();
    all.extend(answers.into_iter().map(Message::Answer));
    all.extend(shelf::anchor(ledger, vote, proof));
    all
}

fn again(input: &Input<Bootstrap>) -> Input<Bootstrap> {
    match input {
        Input::Message { from, message } => Input::Message {
            from: *from,
            message: message.clone(),
        },
        Input::Timer(timer) => Input::Timer(*timer),
        Input::Command(command) => Input::Command(command.clone()),
    }
}

#[test]
fn every_stage_has_an_outcome_for_every_input() {
    let ledger = Ledger::with_snapshot(1, 8, 100);
    for stage in STAGES {
        let mut inputs: Vec<Input<Bootstrap>> = Vec::new();
        for who in [ledger.member(0), ledger.member(3), member(77)] {
            let heard = messages(&ledger).into_iter();
            inputs.extend(heard.map(|message| Input::Message { from: who, message }));
            for command in [
                Command::Connected(who),
                Command::Disconnected(who),
                Command::Seen(who, Height(u64::MAX)),
                Command::Start,
            ] {
                inputs.push(Input::Command(command));
            }
        }
        for round in 0..8 {
            for timer in [
                Timer::Walk(round),
                Timer::Anchor(round),
                Timer::Checkpoint(round),
                Timer::Gather(round),
            ] {
                inputs.push(Input::Timer(timer));
            }
        }
        for (number, input) in inputs.into_iter().enumerate() {
            // Each alone, twice, and long after: none of it panics or goes back in stages for good.
            let mut machine = in_stage(stage, &ledger);
            for ms in [10, 20, 100_000] {
                let mut out = Outbox::new();
                machine.handle(at(ms), again(&input), &mut out);
                let is_stuck = machine.stage() == Stage::Stuck;
                assert!(!is_stuck, "{stage:?}: input {number}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_decodes_is_heard_without_a_panic(
        which in 0_usize..18,
        cuts in proptest::collection::vec((0_usize..4_000, any::<u8>()), 0..4),
        stage in 0_usize..6,
    ) {
        let ledger = Ledger::with_snapshot(1, 8, 100);
        let mut frame = codec::encode(&messages(&ledger)[which]);
        for (place, byte) in cuts {
            let length = frame.len();
            frame[place % length] = byte;
        }
        let decoded = codec::decode::<Message>(&frame, codec::ENCODED_BYTES_MAX);
        if let Ok(message) = decoded {
            let mut machine = in_stage(STAGES[stage], &ledger);
            let from = ledger.member(0);
            for ms in 10..13 {
                let mut out = Outbox::new();
                let input = Input::Message { from, message: message.clone() };
                machine.handle(at(ms), input, &mut out);
            }
            if let Message::Ask(ask) = &message
                && message.is_bounded()
            {
                let answers = shelf::answer(&ledger, ask);
                prop_assert!(answers.iter().all(Message::is_bounded));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_message_or_a_harmless_one(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Ok(message) = codec::decode::<Message>(&bytes, codec::ENCODED_BYTES_MAX) {
            prop_assert_eq!(codec::encode(&message), bytes);
            let ledger = Ledger::new(0);
            let mut machine = in_stage(Stage::Walk, &ledger);
            let from = ledger.member(0);
            machine.handle(at(10), Input::Message { from, message }, &mut Outbox::new());
        }
    }
}

#[test]
fn messages_that_break_a_bound_cost_their_sender_its_place() {
    let ledger = Ledger::with_snapshot(1, 8, 100);
    let manifest = ledger.snapshots[0].manifest.root();
    let page = ledger.snapshots[0].manifest.page(0).expect("it has one");
    let long = Page {
        leaves: vec![page.leaves[0]; 4097],
        ..page.clone()
    };
    let deep = Page {
        path: vec![Digest::ZERO; PATH_NODES_MAX + 1],
        ..page
    };
    let over = [
        Message::Ask(Ask::Segments(manifest, Vec::new())),
        Message::Ask(Ask::Segments(manifest, vec![3, 3])),
        Message::Ask(Ask::Segments(manifest, (0..257).collect())),
        Message::Ask(Ask::Page(manifest, 1024)),
        Message::Answer(Answer::Steps(vec![Bytes::new(); ANSWER_STEPS_MAX + 1])),
        Message::Answer(Answer::Steps(vec![vec![0; STEP_BYTES_MAX + 1].into()])),
        Message::Answer(Answer::Page(manifest, Box::new(long))),
        Message::Answer(Answer::Page(manifest, Box::new(deep))),
        Message::Answer(Answer::Segment(manifest, 0, vec![0; (1 << 20) + 1].into())),
        Message::Answer(Answer::Holding(
            manifest,
            Holding::Some(vec![0; (1 << 19) + 1].into()),
        )),
        Message::Answer(Answer::Lacks(manifest, Lacking::Segments(Vec::new()))),
    ];
    let mut named = BTreeSet::new();
    for message in over {
        assert!(!message.is_bounded());
        let mut machine = in_stage(Stage::Gather, &ledger);
        let from = ledger.member(2);
        let mut out = Outbox::new();
        machine.handle(at(10), Input::Message { from, message }, &mut out);
        assert!(machine.is_banned(&from));
        named.insert(from);
    }
    assert_eq!(named.len(), 1);
}

/// A machine in walk over `genesis` whose places are all taken by members without a seat.
fn crowded(ledger: &Ledger, genesis: crate::blocks::Genesis) -> Bootstrap {
    let options = Options {
        me: member(9),
        genesis,
        pin: None,
        verifier: Verifier::ed25519(),
        seed: [7; 32],
        local: Height(0),
        own: BTreeSet::new(),
    };
    let mut machine = Bootstrap::new(options, Held::default()).expect("it begins");
    let crowd = (100..100 + PEERS_MAX as u64).map(member);
    let late = [ledger.member(3), member(77)];
    for command in crowd.chain(late).map(Command::Connected) {
        machine.handle(at(1), Input::Command(command), &mut Outbox::new());
    }
    machine
}

#[test]
fn who_waits_for_a_place_gets_one_when_it_is_free_or_a_view_begins_that_seats_it() {
    let ledger = Ledger::new(1);
    let mut genesis = ledger.genesis.clone();
    genesis.founders[3].identity = crate::crypto::SecretKey::from_seed([8; 32]).public();
    let mut machine = crowded(&ledger, genesis);
    let (seat, other) = (ledger.member(3), member(77));
    let has = |machine: &Bootstrap, who| machine.peers.contains_key(&who);
    assert_eq!(
        (machine.peers.len(), machine.kept()),
        (PEERS_MAX, PEERS_MAX + 2)
    );
    assert!(!has(&machine, seat) && !has(&machine, other));
    // The next view seats it.
    machine.chain = crate::blocks::ViewChain::of(&ledger.genesis).expect("a view");
    machine.fill_places(at(2), &mut Outbox::new());
    assert!(has(&machine, seat) && !has(&machine, other));
    assert_eq!(machine.peers.len(), PEERS_MAX);
    // Places that are lost go to whoever waits.
    for n in 0..PEERS_MAX as u64 {
        let lost = Command::Disconnected(member(100 + n));
        machine.handle(at(3), Input::Command(lost), &mut Outbox::new());
    }
    assert!(has(&machine, seat) && has(&machine, other));
    assert_eq!(machine.peers.len(), 2);
    // Who leaves while it waits is forgotten.
    let mut machine = crowded(&ledger, ledger.genesis.clone());
    let before = machine.kept();
    machine.handle(
        at(4),
        Input::Command(Command::Disconnected(other)),
        &mut Outbox::new(),
    );
    assert_eq!(machine.kept(), before - 1);
}
