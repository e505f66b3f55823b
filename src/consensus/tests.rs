//! The suite over every engine that can be made; the gate's own promises as transcripts.

use super::*;
use crate::crypto::Domain;

fn digest(text: &str) -> Digest {
    Digest::of(Domain::Header, text.as_bytes())
}

fn item(place: u64, content: &str) -> Item {
    Item {
        place,
        digest: digest(content),
        payload: Bytes::from(format!("certificate of {content}")),
    }
}

fn setup(place: u64, journal: Vec<Bytes>) -> EngineSetup {
    EngineSetup {
        chain: Digest::of(Domain::Chain, b"test"),
        participants: Vec::new(),
        me: None,
        secret: None,
        verifier: Verifier::ed25519(),
        seed: [0; 32],
        emitted: Mark {
            place,
            digest: digest("start"),
        },
        journal,
    }
}

fn plugin(name: &str) -> &'static EnginePlugin {
    engines()
        .expect("names differ")
        .get(name)
        .expect("it is ours")
}

fn certified(setup: EngineSetup) -> Box<dyn Engine> {
    match (plugin("certified").make)(setup) {
        Ok(engine) => engine,
        Err(error) => panic!("it is made: {error}"),
    }
}

fn tell(engine: &mut dyn Engine, input: EngineInput) -> Vec<EngineOutput> {
    let mut out = Vec::new();
    engine.handle(Time(0), input, &mut out);
    out
}

fn submit(engine: &mut dyn Engine, place: u64, content: &str) -> Vec<EngineOutput> {
    tell(engine, EngineInput::Submit(item(place, content)))
}

fn emits(from: u64, place: u64, content: &str) -> Vec<EngineOutput> {
    let item = item(place, content);
    vec![EngineOutput::Emit(Agreed { from, item })]
}

#[test]
fn every_gate_passes_the_suite() {
    let mut checked = 0;
    for plugin in engines().expect("names differ").iter() {
        if plugin.roles.gates_group {
            (0..40).for_each(|seed| conformance::check(plugin, seed).expect("it conforms"));
            checked += 1;
        }
    }
    assert!(checked > 0, "there is a gate");
}

#[test]
fn the_suite_notices_an_engine_that_repeats_itself() {
    struct Parrot;
    impl Engine for Parrot {
        fn name(&self) -> &'static str {
            "parrot"
        }
        fn finality(&self) -> Finality {
            Finality::Certificate
        }
        fn handle(&mut self, _: Time, input: EngineInput, out: &mut Vec<EngineOutput>) {
            if let EngineInput::Submit(item) = input {
                let from = item.place;
                out.push(EngineOutput::Emit(Agreed { from, item }));
            }
        }
        fn ignored(&self) -> u64 {
            0
        }
    }
    let parrot = EnginePlugin {
        name: "parrot",
        about: "says again what it hears",
        roles: plugin("certified").roles,
        finality: |_| Finality::Certificate,
        make: |_| Ok(Box::new(Parrot)),
    };
    assert!(conformance::check(&parrot, 1).is_err());
}

#[test]
fn a_certificate_covers_every_height_below() {
    let mut engine = certified(setup(0, Vec::new()));
    assert_eq!(submit(&mut *engine, 8, "a"), emits(1, 8, "a"));
    assert_eq!(submit(&mut *engine, 4, "b"), []);
    assert_eq!(submit(&mut *engine, 16, "c"), emits(9, 16, "c"));
    assert_eq!(engine.ignored(), 1);
}

#[test]
fn another_certificate_of_the_same_block_is_a_repeat() {
    let mut engine = certified(setup(0, Vec::new()));
    submit(&mut *engine, 8, "a");
    let mut again = item(8, "a");
    again.payload = Bytes::from_static(b"other signers");
    assert_eq!(tell(&mut *engine, EngineInput::Submit(again)), []);
}

#[test]
fn two_blocks_at_one_height_end_the_view_for_good() {
    let mut engine = certified(setup(0, Vec::new()));
    submit(&mut *engine, 8, "a");
    submit(&mut *engine, 16, "c");
    let out = submit(&mut *engine, 8, "other");
    let [EngineOutput::Save(record), EngineOutput::Fault(fault)] = &out[..] else {
        panic!("a record, then the fault: {out:?}");
    };
    assert_eq!((record.place, fault.who), (u64::MAX, None));
    assert_eq!(fault.what, EngineFaultKind::DeadView);
    let conflict = Conflict::from_bytes(&fault.evidence).expect("it reads back");
    assert_eq!(
        (conflict.emitted, conflict.other),
        (digest("a"), digest("other"))
    );
    assert_eq!(conflict.emitted_payload, item(8, "a").payload);
    assert_eq!(submit(&mut *engine, 24, "d"), []);

    let mut again = certified(setup(16, vec![record.bytes.clone()]));
    let told = tell(&mut *again, EngineInput::Start);
    assert_eq!(told, [EngineOutput::Fault(fault.clone())]);
    assert_eq!(submit(&mut *again, 24, "d"), []);
}

#[test]
fn a_restart_goes_on_above_what_the_host_holds() {
    let mut engine = certified(setup(8, Vec::new()));
    assert_eq!(tell(&mut *engine, EngineInput::Start), []);
    assert_eq!(submit(&mut *engine, 8, "start"), []);
    assert_eq!(submit(&mut *engine, 9, "a"), emits(9, 9, "a"));
    let mut engine = certified(setup(8, Vec::new()));
    assert_eq!(
        submit(&mut *engine, 8, "other").len(),
        2,
        "the last one is remembered"
    );
}

#[test]
fn the_memory_of_emitted_heights_is_bounded() {
    let mut engine = certified(setup(0, Vec::new()));
    let places = RECENT_PLACES_MAX as u64 + 10;
    (1..=places).for_each(|place| drop(submit(&mut *engine, place, "a")));
    assert_eq!(
        submit(&mut *engine, 5, "other"),
        [],
        "it is forgotten: taken as covered"
    );
    assert_eq!(submit(&mut *engine, places - 5, "other").len(), 2);
}

#[test]
fn a_payload_over_its_bound_and_the_last_place_do_no_harm() {
    let mut engine = certified(setup(0, Vec::new()));
    let mut long = item(1, "a");
    long.payload = Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1]);
    assert_eq!(tell(&mut *engine, EngineInput::Submit(long)), []);
    assert_eq!(submit(&mut *engine, u64::MAX, "b"), emits(1, u64::MAX, "b"));
    assert_eq!(submit(&mut *engine, u64::MAX, "b"), []);
    let mut longest = item(1, "a");
    longest.payload = Bytes::from(vec![0; PAYLOAD_BYTES_MAX]);
    let mut engine = certified(setup(0, Vec::new()));
    tell(&mut *engine, EngineInput::Submit(longest.clone()));
    longest.digest = digest("other");
    let out = tell(&mut *engine, EngineInput::Submit(longest));
    let EngineOutput::Save(record) = &out[0] else {
        panic!("a record: {out:?}");
    };
    assert!(
        Conflict::from_bytes(&record.bytes).is_ok(),
        "the longest evidence reads back"
    );
}

#[test]
fn a_journal_that_does_not_read_back_is_named() {
    let made = (plugin("certified").make)(setup(0, vec![Bytes::from_static(b"rot")]));
    assert_eq!(made.err(), Some(MakeError::Journal { index: 0 }));
}

#[test]
fn mod_smart_is_listed_for_the_committee_and_not_made() {
    let entry = plugin("mod-smart");
    assert!(entry.roles.orders_committee && !entry.roles.gates_group);
    let made = (entry.make)(setup(0, Vec::new()));
    assert_eq!(made.err(), Some(MakeError::BuiltIn { name: "mod-smart" }));
}

#[test]
fn names_are_taken_once_and_come_in_order() {
    static OTHER: EnginePlugin = EnginePlugin {
        name: "certified",
        about: "an impostor",
        roles: EngineRoles {
            gates_group: true,
            orders_committee: true,
        },
        finality: |_| Finality::Certificate,
        make: |_| Err(MakeError::Participants),
    };
    let mut registry = engines().expect("names differ");
    let names: Vec<_> = registry.iter().map(|plugin| plugin.name).collect();
    assert_eq!(names, ["certified", "mod-smart"]);
    assert_eq!(registry.register(plugin("certified")), Ok(()));
    let taken = Err(EngineRegistryError::Taken { name: "certified" });
    assert_eq!(registry.register(&OTHER), taken);
    let unknown = registry.get("nobody").expect_err("nobody has that name");
    assert!(
        unknown.to_string().contains("certified, mod-smart"),
        "{unknown}"
    );
}
