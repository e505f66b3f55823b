//! Overlays in a small world of links that stand, fall and lose; the list and its changes.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test picks the outputs it is about"
)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::ChaCha12Rng;

use super::envelope::{Envelope, Kind, Seal};
use super::*;
use crate::blocks::{Founder, Genesis, Parameters, codec};
use crate::committee::Height;
use crate::crypto::Domain;

fn world_secret() -> Digest {
    Digest::of(Domain::Audit, b"overlays")
}

fn secret(i: usize) -> SecretKey {
    SecretKey::simulated([u8::try_from(i).expect("few") + 1; 32], world_secret())
}

fn member(i: usize) -> MemberId {
    MemberId::of(&secret(i).public())
}

fn members(n: usize) -> Vec<(MemberId, PublicKey)> {
    (0..n).map(|i| (member(i), secret(i).public())).collect()
}

fn setup(i: usize) -> OverlaySetup {
    OverlaySetup {
        chain: Digest::of(Domain::Chain, b"test"),
        identity: secret(i),
        verifier: Verifier::simulated(world_secret()),
        seed: [u8::try_from(i).expect("few") * 20; 32],
        first_counter: 1 << 40,
    }
}

fn make(i: usize) -> Box<dyn Overlay> {
    let registry = overlays().expect("names differ");
    (registry.get("full-gossip").expect("it is ours").make)(setup(i))
}

/// What a broadcast of member `i` looks like on a link.
fn pushed(i: usize, counter: u64, content: &[u8]) -> Bytes {
    let seal = Seal::new("full-gossip", &setup(i));
    let content = Bytes::copy_from_slice(content);
    seal.close(Kind::Payload, counter, content).to_bytes()
}

fn tell(overlay: &mut dyn Overlay, now: Time, input: OverlayInput) -> Vec<OverlayOutput> {
    let mut out = Vec::new();
    overlay.handle(now, input, &mut out);
    out
}

fn hear(overlay: &mut dyn Overlay, from: usize, bytes: Bytes) -> Vec<OverlayOutput> {
    let from = member(from);
    tell(overlay, Time(0), OverlayInput::Message { from, bytes })
}

fn delivered(out: &[OverlayOutput]) -> Vec<(MemberId, Bytes)> {
    let deliver = |output: &OverlayOutput| match output {
        OverlayOutput::Deliver { origin, bytes } => Some((*origin, bytes.clone())),
        _ => None,
    };
    out.iter().filter_map(deliver).collect()
}

fn faults(out: &[OverlayOutput]) -> Vec<(MemberId, OverlayFaultKind)> {
    let fault = |output: &OverlayOutput| match output {
        OverlayOutput::Fault(fault) => Some((fault.who, fault.what)),
        _ => None,
    };
    out.iter().filter_map(fault).collect()
}

/// Member `i` that was told of `n` members, all of them reached.
fn listening(i: usize, n: usize) -> Box<dyn Overlay> {
    let mut overlay = make(i);
    tell(&mut *overlay, Time(0), OverlayInput::Members(members(n)));
    for other in (0..n).filter(|other| *other != i) {
        let up = OverlayInput::Reachable(member(other), true);
        tell(&mut *overlay, Time(0), up);
    }
    overlay
}

enum Due {
    Bytes(usize, Bytes),
    Timer(u64),
}

struct World {
    nodes: Vec<Box<dyn Overlay>>,
    ids: BTreeMap<MemberId, usize>,
    due: BTreeMap<(Time, u64), (usize, Due)>,
    serial: u64,
    now: Time,
    /// Links that are known to be down, low number first.
    down: BTreeSet<(usize, usize)>,
    /// Links that take bytes and deliver none.
    mute: BTreeSet<(usize, usize)>,
    heard: Vec<Vec<(MemberId, Bytes)>>,
    payloads: u64,
    others: u64,
    rng: ChaCha12Rng,
}

impl World {
    fn new(n: usize, seed: u64) -> Self {
        let mut world = Self {
            nodes: (0..n).map(make).collect(),
            ids: (0..n).map(|i| (member(i), i)).collect(),
            due: BTreeMap::new(),
            serial: 0,
            now: Time(0),
            down: BTreeSet::new(),
            mute: BTreeSet::new(),
            heard: vec![Vec::new(); n],
            payloads: 0,
            others: 0,
            rng: ChaCha12Rng::seed_from_u64(seed),
        };
        for i in 0..n {
            world.input(i, OverlayInput::Members(members(n)));
        }
        for (a, b) in pairs(n) {
            world.link(a, b, true);
        }
        world
    }

    fn link(&mut self, a: usize, b: usize, is_up: bool) {
        let pair = (a.min(b), a.max(b));
        if is_up {
            self.down.remove(&pair);
        } else {
            self.down.insert(pair);
        }
        self.input(a, OverlayInput::Reachable(member(b), is_up));
        self.input(b, OverlayInput::Reachable(member(a), is_up));
    }

    fn broadcast(&mut self, i: usize, content: u64) {
        let content = Bytes::copy_from_slice(&content.to_le_bytes());
        self.input(i, OverlayInput::Broadcast(content));
    }

    fn input(&mut self, i: usize, input: OverlayInput) {
        let mut out = Vec::new();
        self.nodes[i].handle(self.now, input, &mut out);
        for output in out {
            match output {
                OverlayOutput::Send { to, bytes } => self.send(i, self.ids[&to], bytes),
                OverlayOutput::Arm { timer, after } => {
                    self.push(self.now + after, i, Due::Timer(timer));
                }
                OverlayOutput::Deliver { origin, bytes } => self.heard[i].push((origin, bytes)),
                OverlayOutput::Fault(fault) => panic!("nobody is faulty, yet {fault:?}"),
                OverlayOutput::Cancel(_) | OverlayOutput::Suspect(_) | OverlayOutput::Trust(_) => {}
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, bytes: Bytes) {
        match Envelope::from_bytes(&bytes).map(|envelope| envelope.kind) {
            Some(Kind::Payload) => self.payloads += 1,
            Some(Kind::Have | Kind::Want) => self.others += 1,
            None => panic!("what is sent reads back"),
        }
        let pair = (from.min(to), from.max(to));
        if !self.down.contains(&pair) && !self.mute.contains(&pair) {
            let late = Span(self.rng.random_range(200..30_000));
            self.push(self.now + late, to, Due::Bytes(from, bytes));
        }
    }

    fn push(&mut self, at: Time, i: usize, due: Due) {
        self.serial += 1;
        self.due.insert((at, self.serial), (i, due));
    }

    /// Runs until nothing is due.
    fn settle(&mut self) {
        for _ in 0..1_000_000 {
            let Some(((at, _), (i, due))) = self.due.pop_first() else {
                return;
            };
            self.now = at;
            let input = match due {
                Due::Timer(timer) => OverlayInput::Timer(timer),
                Due::Bytes(from, bytes) => OverlayInput::Message {
                    from: member(from),
                    bytes,
                },
            };
            self.input(i, input);
        }
        panic!("it never becomes quiet");
    }

    /// Every member heard each of `contents` of `origin` once.
    fn all_heard(&self, origin: usize, contents: std::ops::Range<u64>, seed: u64) {
        for i in (0..self.nodes.len()).filter(|i| *i != origin) {
            let of_origin = |(from, _): &&(MemberId, Bytes)| *from == member(origin);
            let mut heard: Vec<_> = self.heard[i].iter().filter(of_origin).collect();
            let all = heard.len();
            heard.sort();
            heard.dedup();
            assert_eq!(all, heard.len(), "seed {seed}: {i} heard something twice");
            let count = usize::try_from(contents.end - contents.start).expect("few");
            assert_eq!(all, count, "seed {seed}: {i} of {origin}");
        }
    }
}

fn pairs(n: usize) -> Vec<(usize, usize)> {
    (0..n)
        .flat_map(|a| (a + 1..n).map(move |b| (a, b)))
        .collect()
}

#[test]
fn where_all_links_stand_each_member_gets_the_bytes_once() {
    for (n, offers_of_one, offers_of_a_burst) in [(4, 6, 12), (10, 72, 216)] {
        let mut world = World::new(n, 1);
        world.broadcast(0, 7);
        world.settle();
        world.all_heard(0, 0..1, 1);
        assert_eq!(world.payloads, n as u64 - 1, "no byte goes twice");
        println!(
            "n {n}: 1 broadcast, {} copies, {} offers",
            world.payloads, world.others
        );
        assert!(world.others <= offers_of_one, "{} offers", world.others);

        let mut world = World::new(n, 1);
        (0..100).for_each(|content| world.broadcast(0, content));
        world.settle();
        world.all_heard(0, 0..100, 1);
        assert_eq!(world.payloads, 100 * (n as u64 - 1));
        println!(
            "n {n}: 100 broadcasts, {} copies, {} offers",
            world.payloads, world.others
        );
        assert!(world.others <= offers_of_a_burst, "{} offers", world.others);
    }
}

#[test]
fn a_broadcast_reaches_everybody_that_standing_links_join() {
    for seed in 0..30 {
        let n = 4 + usize::try_from(seed % 7).expect("small");
        let mut world = World::new(n, seed);
        // A random tree of links stays; of the others two in three fall, known or unknown.
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let tree: BTreeSet<_> = (1..n).map(|b| (rng.random_range(0..b), b)).collect();
        for (a, b) in pairs(n) {
            match rng.random_range(0..3) {
                _ if tree.contains(&(a, b)) => {}
                0 => world.link(a, b, false),
                1 => drop(world.mute.insert((a, b))),
                _ => {}
            }
        }
        for origin in 0..n {
            (0..5).for_each(|content| world.broadcast(origin, content));
        }
        world.settle();
        (0..n).for_each(|origin| world.all_heard(origin, 0..5, seed));
    }
}

#[test]
fn what_was_missed_comes_when_a_link_comes_back() {
    let mut world = World::new(2, 3);
    world.mute.insert((0, 1));
    world.broadcast(0, 1); // lost on a link that seems to stand
    world.link(0, 1, false);
    world.broadcast(0, 2);
    world.settle();
    world.all_heard(0, 0..0, 3);
    world.mute.clear();
    world.link(0, 1, true);
    world.settle();
    world.all_heard(0, 0..2, 3);
}

#[test]
fn an_origin_that_sends_to_one_member_only_is_heard_by_all() {
    let mut world = World::new(7, 4);
    let bytes = pushed(0, 1, b"for one");
    let from = member(0);
    world.input(3, OverlayInput::Message { from, bytes });
    world.settle();
    world.all_heard(0, 0..1, 4);
}

#[test]
fn a_message_is_delivered_once_and_only_for_its_signer() {
    let mut overlay = listening(0, 4);
    let bytes = pushed(1, 5, b"hello");
    let out = hear(&mut *overlay, 2, bytes.clone());
    assert_eq!(delivered(&out), [(member(1), Bytes::from_static(b"hello"))]);
    assert_eq!(delivered(&hear(&mut *overlay, 1, bytes.clone())), []);
    assert_eq!(overlay.stats().repeated, 1);

    let mut forged = Envelope::from_bytes(&bytes).expect("it reads back");
    forged.counter = 6;
    let out = hear(&mut *overlay, 2, forged.to_bytes());
    assert_eq!(faults(&out), [(member(2), OverlayFaultKind::BadSignature)]);
    forged.kind = Kind::Have;
    let out = hear(&mut *overlay, 3, forged.to_bytes());
    assert_eq!(faults(&out), [(member(3), OverlayFaultKind::BadMessage)]);
    assert_eq!(delivered(&out), []);
}

#[test]
fn nothing_of_another_chain_or_overlay_is_heard() {
    let mut elsewhere = setup(1);
    elsewhere.chain = Digest::ZERO;
    let chain = Seal::new("full-gossip", &elsewhere);
    let overlay = Seal::new("swim", &setup(1));
    for (seal, from) in [(chain, 1), (overlay, 2)] {
        let mut overlay = listening(0, 4);
        let bytes = seal
            .close(Kind::Payload, 1, Bytes::from_static(b"x"))
            .to_bytes();
        let out = hear(&mut *overlay, from, bytes);
        assert_eq!(delivered(&out), []);
        assert_eq!(
            faults(&out),
            [(member(from), OverlayFaultKind::BadSignature)]
        );
    }
}

#[test]
fn who_is_not_listed_is_neither_heard_nor_suspected_nor_sent_to() {
    let mut overlay = listening(0, 3);
    let out = hear(&mut *overlay, 1, pushed(3, 1, b"x"));
    assert_eq!(out, [], "a relayed message of a stranger is dropped");
    assert_eq!(hear(&mut *overlay, 3, pushed(3, 1, b"x")), []);
    assert_eq!(hear(&mut *overlay, 3, pushed(1, 1, b"x")), []);
    assert_eq!(overlay.stats().refused, 3);
    for is_up in [true, false] {
        let input = OverlayInput::Reachable(member(3), is_up);
        assert_eq!(tell(&mut *overlay, Time(0), input), []);
    }
    tell(&mut *overlay, Time(0), OverlayInput::Members(members(2)));
    let out = tell(
        &mut *overlay,
        Time(0),
        OverlayInput::Broadcast(Bytes::new()),
    );
    let to: Vec<_> = out
        .iter()
        .filter_map(|output| match output {
            OverlayOutput::Send { to, .. } => Some(*to),
            _ => None,
        })
        .collect();
    assert_eq!(to, [member(1)]);
}

#[test]
fn what_a_member_said_before_it_left_the_list_and_came_back_is_not_heard_twice() {
    let mut overlay = listening(0, 3);
    let said = pushed(1, 7, b"x");
    assert_eq!(delivered(&hear(&mut *overlay, 1, said.clone())).len(), 1);
    let stays = members(3).into_iter().filter(|(id, _)| *id != member(1));
    tell(
        &mut *overlay,
        Time(0),
        OverlayInput::Members(stays.collect()),
    );
    tell(&mut *overlay, Time(0), OverlayInput::Members(members(3)));
    assert_eq!(delivered(&hear(&mut *overlay, 1, said)), []);
    assert_eq!(overlay.stats().repeated, 1);
}

#[test]
fn a_member_is_suspected_when_its_link_falls_and_trusted_when_it_stands() {
    let mut overlay = listening(0, 3);
    let mut say = |is_up| {
        let input = OverlayInput::Reachable(member(1), is_up);
        tell(&mut *overlay, Time(0), input)
    };
    assert_eq!(say(false), [OverlayOutput::Suspect(member(1))]);
    assert_eq!(say(false), []);
    assert_eq!(say(true), [OverlayOutput::Trust(member(1))]);
    assert_eq!(say(true), []);
}

#[test]
fn a_flood_of_one_origin_is_cut_and_the_others_are_heard() {
    let mut overlay = listening(0, 4);
    let mut heard = 0;
    let mut told = Vec::new();
    for counter in 1..=4_000 {
        let out = hear(
            &mut *overlay,
            1 + usize::from(counter % 2 == 0),
            pushed(1, counter, b"x"),
        );
        heard += delivered(&out).len();
        told.extend(faults(&out));
    }
    assert_eq!(heard, 2_048, "four seconds of its share at once");
    assert_eq!(told, [(member(1), OverlayFaultKind::Flood)], "said once");
    let out = hear(&mut *overlay, 2, pushed(2, 1, b"y"));
    assert_eq!(delivered(&out).len(), 1);
}

#[test]
fn a_broadcast_beyond_our_own_bounds_is_dropped_and_counted() {
    let mut overlay = listening(0, 2);
    let long = Bytes::from(vec![0; CONTENT_BYTES_MAX + 1]);
    assert_eq!(
        tell(&mut *overlay, Time(0), OverlayInput::Broadcast(long)),
        []
    );
    let longest = Bytes::from(vec![0; CONTENT_BYTES_MAX]);
    let out = tell(&mut *overlay, Time(0), OverlayInput::Broadcast(longest));
    let OverlayOutput::Send { bytes, .. } = &out[0] else {
        panic!("it is sent: {out:?}");
    };
    assert!(bytes.len() <= ENVELOPE_BYTES_MAX);
    assert_eq!(
        delivered(&hear(&mut *listening(1, 2), 0, bytes.clone())).len(),
        1
    );
    for _ in 0..2_000 {
        tell(
            &mut *overlay,
            Time(0),
            OverlayInput::Broadcast(Bytes::new()),
        );
    }
    let stats = overlay.stats();
    assert!(stats.dropped > 900 && stats.sent < 1_100, "{stats:?}");
}

#[test]
fn offers_of_what_does_not_exist_cost_a_bounded_number_of_requests() {
    let mut overlay = listening(0, 4);
    let seal = Seal::new("full-gossip", &setup(1));
    let mut requests = 0;
    for k in 0..100_u64 {
        let names: Vec<_> = (0..64).map(|i| (member(2), 1 + k * 64 + i)).collect();
        let content = Bytes::from(codec::encode(&names));
        let out = hear(
            &mut *overlay,
            1,
            seal.close(Kind::Have, 0, content).to_bytes(),
        );
        let is_send = |output: &&OverlayOutput| matches!(output, OverlayOutput::Send { .. });
        requests += out.iter().filter(is_send).count();
    }
    assert_eq!(requests, 1, "64 names are asked for at a time");
    assert_eq!(overlay.stats().dropped, 99 * 64);
    let too_many: Vec<_> = (0..65_u64).map(|i| (member(2), i)).collect();
    let content = Bytes::from(codec::encode(&too_many));
    let out = hear(
        &mut *overlay,
        1,
        seal.close(Kind::Have, 0, content).to_bytes(),
    );
    assert_eq!(faults(&out), [(member(1), OverlayFaultKind::BadMessage)]);
}

#[test]
fn a_holder_that_does_not_answer_is_passed_over() {
    let mut overlay = listening(0, 4);
    let names = Bytes::from(codec::encode(&vec![(member(3), 9_u64)]));
    let offer = |i| {
        let seal = Seal::new("full-gossip", &setup(i));
        seal.close(Kind::Have, 0, names.clone()).to_bytes()
    };
    let asked = |out: &[OverlayOutput]| {
        let to = |output: &OverlayOutput| match output {
            OverlayOutput::Send { to, .. } => Some(*to),
            _ => None,
        };
        out.iter().filter_map(to).collect::<Vec<_>>()
    };
    assert_eq!(asked(&hear(&mut *overlay, 1, offer(1))), [member(1)]);
    assert_eq!(asked(&hear(&mut *overlay, 2, offer(2))), []);
    let late = Time(0) + Span::from_ms(301);
    let out = tell(&mut *overlay, late, OverlayInput::Timer(0));
    assert_eq!(asked(&out), [member(2)]);
    let later = late + Span::from_ms(301);
    assert_eq!(
        tell(&mut *overlay, later, OverlayInput::Timer(0)),
        [],
        "given up, quiet"
    );
}

proptest! {
    #[test]
    fn no_bytes_panic_or_deliver(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut overlay = listening(0, 4);
        prop_assert_eq!(delivered(&hear(&mut *overlay, 1, bytes.into())), []);
    }

    #[test]
    fn no_flipped_bit_delivers(at in 0_usize..120, bit in 0_u32..8) {
        let mut bytes = pushed(1, 5, b"hello").to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let mut overlay = listening(0, 4);
        prop_assert_eq!(delivered(&hear(&mut *overlay, 2, bytes.into())), []);
    }

    #[test]
    fn a_counter_is_fresh_once(
        counters in proptest::collection::vec(
            prop_oneof![1_u64..3_000, u64::MAX - 3_000..=u64::MAX],
            1..200,
        )
    ) {
        let mut overlay = listening(0, 2);
        let mut heard = BTreeSet::new();
        for counter in counters {
            let out = hear(&mut *overlay, 1, pushed(1, counter, b"x"));
            let is_heard = !delivered(&out).is_empty();
            let highest = heard.last().copied().unwrap_or(0);
            let is_new = !heard.contains(&counter);
            prop_assert_eq!(is_heard, is_new && highest.saturating_sub(counter) < 1024);
            heard.extend(is_heard.then_some(counter));
        }
    }
}

fn listed(i: usize) -> Listed {
    Listed {
        id: member(i),
        name: format!("member-{i}"),
        identity: secret(i).public(),
        consensus: None,
        address: String::new(),
        status: Status::Joining,
        weight: 1,
        tags: Vec::new(),
        is_seated: true,
    }
}

#[test]
fn the_first_list_is_that_of_the_genesis_document() {
    let founders = (0..4).map(|i| Founder {
        name: format!("member-{i}"),
        identity: secret(i).public(),
        consensus: None,
        address: String::new(),
    });
    let genesis = Genesis {
        version: 1,
        name: "test".into(),
        founded_us: 1,
        parameters: Parameters::default(),
        founders: founders.collect(),
        successor_of: None,
    };
    let list = List::genesis(&genesis).expect("founders differ");
    assert_eq!((list.height(), list.members().len()), (Height(0), 4));
    let seated = Listed {
        status: Status::Seated,
        ..listed(2)
    };
    assert_eq!(list.get(&member(2)), Some(&seated));
    assert_eq!(list.get(&member(9)), None);
    assert!(list.identities().is_sorted());
}

#[test]
fn a_list_holds_each_member_once_under_its_own_key() {
    let twice = List::new(Height(1), vec![listed(1), listed(1)]);
    assert_eq!(twice, Err(ListError::Twice { id: member(1) }));
    let mut other = listed(1);
    other.identity = secret(2).public();
    let got = List::new(Height(1), vec![other]);
    assert_eq!(got, Err(ListError::Identity { id: member(1) }));
}

#[test]
fn who_follows_the_list_sees_every_change_in_order() {
    let list = |height, members: &[Listed]| {
        List::new(Height(height), members.to_vec()).expect("members differ")
    };
    let mut roster = Roster::new(list(0, &[listed(0), listed(1)]));
    let mut leaving = listed(0);
    leaving.status = Status::Leaving;
    roster
        .replace(list(5, &[leaving.clone(), listed(1)]))
        .expect("it is higher");
    roster
        .replace(list(9, &[listed(1), listed(2)]))
        .expect("it is higher");
    let stale = roster.replace(list(9, &[]));
    let (tip, got) = (Height(9), Height(9));
    assert_eq!(stale, Err(ListError::Height { tip, got }));

    let changes: Vec<_> = roster.changes(0).expect("all are kept").collect();
    assert_eq!(changes.len(), 3);
    assert_eq!(changes[0].1.what, ChangeKind::Altered(leaving));
    assert_eq!((changes[0].0, changes[0].1.height), (0, Height(5)));
    let mut last: Vec<_> = changes[1..]
        .iter()
        .map(|(_, change)| change.what.clone())
        .collect();
    last.sort_by_key(|what| *what != ChangeKind::Left);
    assert_eq!(last, [ChangeKind::Left, ChangeKind::Joined(listed(2))]);
    assert_eq!(
        roster
            .changes(roster.next_place())
            .expect("none yet")
            .count(),
        0
    );
}

#[test]
fn who_was_away_for_too_long_is_told_so() {
    let one = |height| List::new(Height(height), vec![listed(1)]).expect("one member");
    let none = |height| List::new(Height(height), Vec::new()).expect("no member");
    let mut roster = Roster::new(none(0));
    for height in 1..=CHANGES_KEPT_MAX as u64 + 2 {
        let next = if height % 2 == 1 {
            one(height)
        } else {
            none(height)
        };
        roster.replace(next).expect("it is higher");
    }
    let missed = roster.changes(1).err().expect("it is forgotten");
    assert_eq!(missed, MissedError { from: 1, oldest: 2 });
    assert_eq!(roster.changes(2).expect("kept").count(), CHANGES_KEPT_MAX);
}
