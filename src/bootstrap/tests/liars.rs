//! Servers that lie, drip, fall silent, die or flood: newcomers arrive all the same, and name them.

use bytes::Bytes;
use rand::RngExt as _;

use super::ledger::{Ledger, filler};
use super::world::*;
use crate::bootstrap::*;
use crate::checkpoint::{Holding, Lie, Manifest};
use crate::committee::{Height, MemberId, ViewId};
use crate::crypto::Digest;
use crate::machine::Input;

fn segments(messages: Vec<Message>, mut change: impl FnMut(u32, Bytes) -> Message) -> Vec<Message> {
    let change = |message: Message| match message.clone() {
        Message::Answer(Answer::Segment(_, index, bytes)) => change(index, bytes),
        Message::Answer(_) | Message::Ask(_) => message,
    };
    messages.into_iter().map(change).collect()
}

/// The lie that a newcomer named `who` for.
fn named(newcomer: &Newcomer, who: MemberId) -> Option<&Misdeed> {
    newcomer.events.iter().find_map(|event| {
        let Event::Banned(banned, misdeed) = event else {
            return None;
        };
        (*banned == who).then_some(misdeed)
    })
}

/// What lying servers do to segments.
#[derive(Clone, Copy, Debug)]
enum Way {
    Wrong,
    Swapped,
    Truncated,
    Oversized,
    Huge,
    OutOfBounds,
    Repeated,
    Mixed,
    Unasked,
}

const WAYS: [Way; 9] = [
    Way::Wrong,
    Way::Swapped,
    Way::Truncated,
    Way::Oversized,
    Way::Huge,
    Way::OutOfBounds,
    Way::Repeated,
    Way::Mixed,
    Way::Unasked,
];

/// Who lies: one with a seat, and one without.
const LIARS: [usize; 2] = [1, 5];

fn lie(way: Way, saying: &mut Saying) -> Vec<Message> {
    let answers = saying.answers.clone();
    let manifest = saying.ledger.snapshots[0].manifest.root();
    let say = |index, bytes| Message::Answer(Answer::Segment(manifest, index, bytes));
    let count = saying.ledger.snapshots[0].manifest.segments();
    let other = |index: u32| saying.ledger.snapshots[0].segments[index as usize].clone();
    match way {
        Way::Wrong => segments(answers, |index, bytes| {
            let mut wrong = bytes.to_vec();
            wrong[0] ^= 1;
            say(index, wrong.into())
        }),
        Way::Swapped => segments(answers, |index, _| say(index, other((index + 1) % count))),
        Way::Truncated => segments(answers, |index, bytes| {
            say(index, bytes.slice(..bytes.len() - 1))
        }),
        Way::Oversized => segments(answers, |index, bytes| {
            say(index, [&bytes[..], &[0]].concat().into())
        }),
        Way::Huge => segments(answers, |index, _| {
            say(index, vec![0; (1 << 20) + 1].into())
        }),
        Way::OutOfBounds => segments(answers, |index, bytes| say(count + index, bytes)),
        Way::Repeated => {
            let mut twice = Vec::new();
            for answer in answers {
                twice.extend(vec![answer; 100]);
            }
            twice
        }
        // Segments of a later snapshot under the name of this one.
        Way::Mixed => segments(answers, |index, bytes| {
            let later = filler(u64::from(index) + 77_777, bytes.len());
            say(index, later)
        }),
        Way::Unasked => {
            let is_segments = matches!(saying.ask, Ask::Segments(..));
            let mut all = answers;
            if is_segments {
                for index in 0..count {
                    all.push(say(index, other(index)));
                }
            }
            all
        }
    }
}

#[test]
fn each_lie_is_refused_and_its_teller_named() {
    for way in WAYS {
        for (servers, liars) in [(4, 1), (7, 2)] {
            let ledger = Ledger::with_snapshot(1, 200, 4096);
            let mut world = World::new(servers as u64, &ledger, servers);
            for liar in &LIARS[..liars] {
                world.twist(*liar, move |saying| lie(way, saying));
                if matches!(way, Way::Huge | Way::Repeated | Way::Unasked) {
                    world.servers[*liar].pace *= 1_000; // It is to arrive before all is over.
                }
            }
            let new = world.join();
            world.finish(60);
            let newcomer = &world.newcomers[new];
            assert!(is_whole(newcomer, &ledger), "{way:?}");
            let liars = LIARS[..liars].iter();
            let liars: Vec<MemberId> = liars.map(|liar| world.servers[*liar].id).collect();
            assert_eq!(
                banned(newcomer),
                liars.iter().copied().collect(),
                "{way:?}, {servers} servers"
            );
            let misdeed = named(newcomer, liars[0]).expect("it is banned");
            let is_right = match way {
                Way::Wrong | Way::Swapped | Way::Mixed => {
                    matches!(misdeed, Misdeed::Segments(Lie::Wrong { .. }))
                }
                Way::Truncated => matches!(misdeed, Misdeed::Segments(Lie::Truncated { .. })),
                Way::Oversized => matches!(misdeed, Misdeed::Segments(Lie::Oversized { .. })),
                Way::OutOfBounds => matches!(misdeed, Misdeed::Segments(Lie::Bounds { .. })),
                Way::Huge => matches!(misdeed, Misdeed::Malformed),
                Way::Repeated | Way::Unasked => {
                    let flood = Misdeed::Segments(Lie::Flood);
                    *misdeed == flood || *misdeed == Misdeed::Flood
                }
            };
            assert!(is_right, "{way:?}: {misdeed:?}");
        }
    }
}

#[test]
fn f_liars_cost_at_most_twice_the_bytes_and_twice_the_time() {
    for (servers, liars) in [(4, 1), (7, 2)] {
        let ledger = Ledger::with_snapshot(1, 1024, 4096);
        let mut world = World::new(5, &ledger, servers);
        let new = world.join();
        world.finish(60);
        let honest = world.newcomers[new].done_at.expect("it is done").0;
        for way in WAYS {
            let mut world = World::new(5, &ledger, servers);
            for liar in &LIARS[..liars] {
                world.twist(*liar, move |saying| lie(way, saying));
            }
            let new = world.join();
            world.finish(60);
            let newcomer = &world.newcomers[new];
            assert!(is_whole(newcomer, &ledger), "{way:?}");
            let tally = newcomer.machine.tally();
            let (got, needed) = (tally.bytes_received, tally.bytes_needed);
            assert!(got <= 2 * needed, "{way:?}: {got} of {needed} bytes");
            let took = newcomer.done_at.expect("it is done").0;
            // What the liars would have carried is carried by the others.
            assert!(
                took <= 2 * honest + 1_000_000,
                "{way:?}: {took} us, {honest} us"
            );
        }
    }
}

#[test]
fn pages_of_another_manifest_are_refused() {
    let ledger = Ledger::with_snapshot(1, 100, 512);
    let mut other = ledger.clone();
    other.snapshot((0..100).map(|n| filler(n + 5_000, 512)).collect());
    let manifest: Manifest = other.snapshots[1].manifest.clone();
    let mut world = World::new(1, &ledger, 4);
    for liar in [0, 1, 2] {
        let manifest = manifest.clone();
        world.twist(liar, move |saying| {
            let Ask::Page(name, page) = saying.ask else {
                return saying.answers.clone();
            };
            let page = manifest.page(*page).expect("it has this page");
            vec![Message::Answer(Answer::Page(*name, Box::new(page)))]
        });
    }
    let new = world.join();
    world.finish(60);
    let newcomer = &world.newcomers[new];
    assert!(is_whole(newcomer, &ledger));
    let honest = world.servers[3].id;
    assert!(!banned(newcomer).contains(&honest));
    for who in banned(newcomer) {
        let misdeed = named(newcomer, who);
        assert!(matches!(misdeed, Some(Misdeed::Segments(Lie::Page(_)))));
    }
}

#[test]
fn an_older_checkpoint_is_refused() {
    let mut ledger = Ledger::with_snapshot(1, 50, 512);
    ledger.snapshot((0..60).map(|n| filler(n + 5_000, 512)).collect());
    let old = ledger.snapshots[0].block.clone();
    let mut named_ones = 0;
    for (seed, changed) in (0..8).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut world = World::new(seed, &ledger, 4);
        for liar in [0, 1, 2] {
            let mut block = old.clone();
            if changed {
                // Under the header that was asked for.
                block.0 = ledger.snapshots[1].block.0.clone();
            }
            world.twist(liar, move |saying| {
                let Ask::Checkpoint(_) = saying.ask else {
                    return saying.answers.clone();
                };
                vec![Message::Answer(Answer::Checkpoint(Box::new(block.clone())))]
            });
        }
        let new = world.join();
        world.finish(60);
        let newcomer = &world.newcomers[new];
        let Some(Event::Assembled(assembled)) = newcomer.events.last() else {
            panic!("{:?}", newcomer.events);
        };
        assert_eq!(assembled.target.body, ledger.snapshots[1].block.1);
        for who in banned(newcomer) {
            let misdeed = named(newcomer, who);
            assert!(matches!(misdeed, Some(Misdeed::Checkpoint(_))));
            named_ones += 1;
        }
    }
    assert!(
        named_ones >= 8,
        "who is asked first is by chance, {named_ones}"
    );
}

#[test]
fn silent_dripping_and_dying_servers_hold_nothing_back() {
    let ledger = Ledger::with_snapshot(1, 512, 4096);
    for seed in 0..4 {
        let mut world = World::new(seed, &ledger, 7);
        // Silent on everything; on segments alone; a hundred bytes a second.
        world.twist(0, |_| Vec::new());
        world.twist(1, |saying| {
            let is_silent = matches!(saying.ask, Ask::Segments(..));
            let answers = saying.answers.clone();
            answers.into_iter().filter(|_| !is_silent).collect()
        });
        world.servers[4].pace = 2_000;
        let new = world.join();
        let is_begun = world.run(20, |world| {
            world.newcomers[new].machine.tally().segments_held > 50
        });
        assert!(is_begun);
        world.stop(5);
        world.finish(60);
        let newcomer = &world.newcomers[new];
        assert!(is_whole(newcomer, &ledger), "seed {seed}");
        assert!(banned(newcomer).is_empty(), "nobody lied");
        let tally = newcomer.machine.tally();
        assert!(tally.bytes_received <= 2 * tally.bytes_needed);
        let took = newcomer.done_at.expect("it is done");
        assert!(took.0 < 12_000_000, "seed {seed}: {took:?}");
    }
}

#[test]
fn who_says_that_it_holds_what_it_lacks_delays_nobody() {
    let ledger = Ledger::with_snapshot(1, 256, 4096);
    let mut world = World::new(1, &ledger, 4);
    let count = ledger.snapshots[0].manifest.segments();
    world.twist(0, move |saying| {
        let Ask::Segments(manifest, wanted) = saying.ask else {
            return saying.answers.clone();
        };
        let lacking = Lacking::Segments(wanted.clone());
        vec![Message::Answer(Answer::Lacks(*manifest, lacking))]
    });
    world.twist(1, move |saying| {
        let Ask::Holding(manifest) = saying.ask else {
            return saying.answers.clone();
        };
        // A bitmap of another length.
        let bits = vec![0xff; count.div_ceil(8) as usize + 1];
        let holding = Holding::Some(bits.into());
        vec![Message::Answer(Answer::Holding(*manifest, holding))]
    });
    let new = world.join();
    world.finish(30);
    let newcomer = &world.newcomers[new];
    assert!(is_whole(newcomer, &ledger));
    let misdeed = named(newcomer, world.servers[1].id);
    assert_eq!(misdeed, Some(&Misdeed::Segments(Lie::Bitmap)));
}

#[test]
fn stale_anchors_count_for_nothing() {
    let ledger = Ledger::with_snapshot(1, 50, 512);
    type Change = fn(&mut Anchor, &Ledger);
    let changes: [(&str, Change); 7] = [
        ("another nonce, so it is late", |anchor, _| {
            anchor.vote.nonce.0[0] ^= 1;
        }),
        ("said for another's seat", |anchor, _| {
            anchor.vote.seat.0 ^= 1;
        }),
        ("of another view", |anchor, _| anchor.vote.view = ViewId(0)),
        ("with another header than it names", |anchor, ledger| {
            anchor.header = ledger.snapshots[0].block.0.clone();
        }),
        ("without a certificate", |anchor, _| {
            anchor.certificate = None
        }),
        ("with a certificate that does not hold", |anchor, _| {
            let proof = anchor.certificate.as_mut().expect("it has one");
            proof.signatures.pop();
        }),
        ("with a signature that does not hold", |anchor, _| {
            anchor.vote.signature.0[5] ^= 1;
        }),
    ];
    for (why, change) in changes {
        let mut world = World::new(3, &ledger, 4);
        // Two of four: less than a quorum is left, until one of them is replaced.
        for liar in [1, 2] {
            world.twist(liar, move |saying| {
                let mut answers = saying.answers.clone();
                for answer in &mut answers {
                    if let Message::Answer(Answer::Anchor(anchor)) = answer {
                        change(anchor, saying.ledger);
                    }
                }
                answers
            });
        }
        let new = world.join();
        assert!(!world.run(15, |world| {
            world.newcomers[new].machine.stage() == Stage::Checkpoint
        }));
        let newcomer = &world.newcomers[new];
        let not_fresh = |event: &Event| {
            matches!(
                event,
                Event::NotFresh {
                    have: 2,
                    need: 3,
                    ..
                }
            )
        };
        assert!(newcomer.events.iter().any(not_fresh), "{why}");
        let misdeed = named(newcomer, world.servers[1].id);
        match why {
            "another nonce, so it is late" => assert_eq!(misdeed, None),
            _ => assert_eq!(misdeed, Some(&Misdeed::Anchor(why))),
        }
    }
}

#[test]
fn the_highest_of_a_quorum_is_the_least_that_is_acceptable() {
    let ledger = Ledger::with_snapshot(1, 10, 512);
    let mut newer = ledger.clone();
    newer.snapshot((0..12).map(|n| filler(n + 9_000, 512)).collect());
    let mut world = World::new(3, &ledger, 4);
    // Two lag, one is away: the one that does not lag is in every quorum.
    world.servers[2].ledger = newer.clone();
    world.stop(3);
    let new = world.join();
    world.finish(30);
    assert!(is_whole(&world.newcomers[new], &newer));
}

#[test]
fn one_that_boasts_of_a_snapshot_that_is_gone_holds_nobody_to_it() {
    let ledger = Ledger::with_snapshot(1, 1024, 4 << 10);
    let (mut world, new) = World::half_way(&ledger);
    let mut newer = ledger.clone();
    newer.snapshot(ledger.snapshots[0].segments.clone());
    newer.snapshots.remove(0);
    for server in &mut world.servers {
        server.ledger = newer.clone();
    }
    let old = ledger.snapshots[0].manifest.root();
    world.twist(0, move |saying| match saying.ask {
        Ask::Holding(manifest) if *manifest == old => {
            vec![Message::Answer(Answer::Holding(old, Holding::All))]
        }
        Ask::Segments(manifest, _) if *manifest == old => Vec::new(),
        Ask::Steps(..) | Ask::Anchor(..) | Ask::Checkpoint(_) | Ask::Page(..) => {
            std::mem::take(&mut saying.answers)
        }
        Ask::Holding(_) | Ask::Segments(..) => std::mem::take(&mut saying.answers),
    });
    world.finish(120);
    assert!(is_whole(&world.newcomers[new], &newer));
}

#[test]
fn a_member_that_floods_is_cut_off_and_grows_nothing() {
    let ledger = Ledger::with_snapshot(1, 64, 512);
    let mut world = World::new(3, &ledger, 4);
    let new = world.join();
    world.run(1, |world| {
        world.newcomers[new].machine.stage() == Stage::Gather
    });
    let from = world.servers[0].id;
    let manifest = ledger.snapshots[0].manifest.root();
    let kept = world.newcomers[new].machine.kept();
    for index in 0..10_000_u32 {
        let message = match index % 4 {
            0 => Message::Answer(Answer::Steps(Vec::new())),
            1 => Message::Answer(Answer::Holding(Digest::ZERO, Holding::All)),
            2 => Message::Answer(Answer::Segment(
                manifest,
                index % 64,
                Bytes::from_static(b"x"),
            )),
            _ => Message::Answer(Answer::Lacks(manifest, Lacking::Page(index))),
        };
        world.tell(new, crate::machine::Input::Message { from, message });
        let height = Height(world.rng.random());
        let seen = Command::Seen(from, height);
        world.tell(new, crate::machine::Input::Command(seen));
    }
    let newcomer = &world.newcomers[new];
    assert!(newcomer.machine.is_banned(&from));
    assert!(newcomer.machine.kept() <= kept + 1);
    world.finish(30);
}

#[test]
fn one_that_gives_a_step_at_a_time_and_slowly_does_not_hold_the_walk() {
    let ledger = Ledger::with_snapshot(60, 8, 512);
    let mut world = World::new(1, &ledger, 4);
    // One takes most of the second that it has.
    let step = shelf::Shelf::step(&ledger, ViewId(1)).expect("there are 60");
    world.servers[0].pace = step.len() as u64 * 4 / 3;
    world.twist(0, |saying| a_step_at_a_time(saying.answers.clone()));
    // It is reached first.
    (1..4).for_each(|other| world.servers[other].is_up = false);
    let new = world.join();
    world.run(1, |_| false);
    for other in 1..4 {
        world.servers[other].is_up = true;
        let id = world.servers[other].id;
        world.tell(new, Input::Command(Command::Connected(id)));
    }
    let is_over = world.run(20, |world| {
        let stage = world.newcomers[new].machine.stage();
        !matches!(stage, Stage::Idle | Stage::Walk)
    });
    assert!(is_over);
}

#[test]
fn whoever_gave_a_step_is_asked_again_after_the_others() {
    let ledger = Ledger::with_snapshot(6, 8, 512);
    for seed in 0..8 {
        let mut world = World::new(seed, &ledger, 4);
        for server in 0..4 {
            world.twist(server, |saying| a_step_at_a_time(saying.answers.clone()));
        }
        let new = world.join();
        let mut givers = Vec::new();
        loop {
            let before = world.newcomers[new].disk.steps.len();
            let grown = |world: &World| {
                let newcomer = &world.newcomers[new];
                newcomer.disk.steps.len() > before || newcomer.machine.stage() != Stage::Walk
            };
            assert!(world.run(20, grown), "seed {seed}");
            if world.newcomers[new].disk.steps.len() == before {
                break;
            }
            givers.push(world.newcomers[new].heard);
        }
        assert_eq!(givers.len(), 6, "seed {seed}");
        assert!(
            givers.windows(2).all(|pair| pair[0] != pair[1]),
            "seed {seed}"
        );
    }
}
