//! One suite of scenarios that every engine passes.
//!
//! Source: the promises of [`super::Engine`]. In: a plugin and a seed. Out: the first broken
//! promise.
//! Holds: the same scenarios run over every engine: items in order, shuffled and repeated, hostile
//! bytes, crashes at any output with a restart from the journal.
//! Elsewhere: the engines.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rand::rngs::ChaCha12Rng;
use rand::{RngExt as _, SeedableRng as _};

use super::{
    Agreed, Engine, EngineInput, EngineOutput, EnginePlugin, EngineSetup, Item, JournalRecord,
    Mark, Participant,
};
use crate::committee::MemberId;
use crate::crypto::{Digest, Domain, SecretKey, Verifier};
use crate::machine::{Time, To};

/// Inputs after which an engine that is not quiet is taken to run for ever.
const STEPS_MAX: usize = 200_000;
const NODES: usize = 4;
const PLACES: u64 = 30;

/// A promise that an engine broke. The engine is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{engine}, {scenario}, seed {seed}: {what}")]
pub struct BrokenError {
    /// The engine.
    pub engine: &'static str,
    /// The scenario.
    pub scenario: &'static str,
    /// The seed that shows it again.
    pub seed: u64,
    /// What happened.
    pub what: String,
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    name: &'static str,
    is_shuffled: bool,
    is_hostile: bool,
    /// The chance that a node falls at an input.
    crash_percent: u32,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "items in order",
        is_shuffled: false,
        is_hostile: false,
        crash_percent: 0,
    },
    Scenario {
        name: "items shuffled and repeated",
        is_shuffled: true,
        is_hostile: false,
        crash_percent: 0,
    },
    Scenario {
        name: "hostile bytes between the items",
        is_shuffled: true,
        is_hostile: true,
        crash_percent: 0,
    },
    Scenario {
        name: "crashes and restarts",
        is_shuffled: true,
        is_hostile: true,
        crash_percent: 10,
    },
];

/// Runs every scenario over the engine of `plugin`, all chance drawn from `seed`.
///
/// Errors: [`BrokenError`], the first promise that does not hold.
pub fn check(plugin: &EnginePlugin, seed: u64) -> Result<(), BrokenError> {
    for scenario in SCENARIOS {
        let broken = |what| BrokenError {
            engine: plugin.name,
            scenario: scenario.name,
            seed,
            what,
        };
        let world = World::new(plugin, seed, scenario);
        world.and_then(World::run).map_err(broken)?;
    }
    Ok(())
}

/// One participant and what its host made durable.
struct Node {
    engine: Box<dyn Engine>,
    journal: Vec<JournalRecord>,
    mark: Mark,
}

struct World<'a> {
    plugin: &'a EnginePlugin,
    scenario: Scenario,
    rng: ChaCha12Rng,
    nodes: Vec<Node>,
    participants: Vec<Participant>,
    wires: VecDeque<(usize, EngineInput)>,
    timers: BTreeMap<(usize, u64), Time>,
    now: Time,
    items: BTreeMap<u64, Item>,
    /// The first digest emitted at each place, by anyone.
    agreed: BTreeMap<u64, Digest>,
}

impl<'a> World<'a> {
    fn new(plugin: &'a EnginePlugin, seed: u64, scenario: Scenario) -> Result<Self, String> {
        let mut participants: Vec<_> = (0..NODES).map(participant).collect();
        participants.sort_by_key(|p| p.id);
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        // A gate need not see every height: only sealed ones have a certificate.
        let places = (1..=PLACES).filter(|place| *place == PLACES || rng.random_range(0..3) > 0);
        let items = places.map(|place| (place, item(place))).collect();
        let mut world = Self {
            plugin,
            scenario,
            rng,
            nodes: Vec::new(),
            participants,
            wires: VecDeque::new(),
            timers: BTreeMap::new(),
            now: Time(0),
            items,
            agreed: BTreeMap::new(),
        };
        for i in 0..NODES {
            let digest = Digest::of(Domain::Header, b"genesis");
            let node = world.boot(i, Vec::new(), Mark { place: 0, digest })?;
            world.nodes.push(node);
        }
        Ok(world)
    }

    fn boot(&self, i: usize, journal: Vec<JournalRecord>, mark: Mark) -> Result<Node, String> {
        let me = self.participants[i].id;
        let secret = (0..NODES).find(|i| participant(*i).id == me).map(secret);
        let setup = EngineSetup {
            chain: Digest::of(Domain::Chain, b"conformance"),
            participants: self.participants.clone(),
            me: Some(me),
            secret,
            verifier: Verifier::ed25519(),
            seed: [u8::try_from(i).expect("few nodes"); 32],
            emitted: mark,
            journal: journal.iter().map(|record| record.bytes.clone()).collect(),
        };
        let engine = (self.plugin.make)(setup).map_err(|error| error.to_string())?;
        let says = (engine.name(), engine.finality());
        if says != (self.plugin.name, (self.plugin.finality)(NODES)) {
            return Err("name or finality differ from the registry's".to_owned());
        }
        Ok(Node {
            engine,
            journal,
            mark,
        })
    }

    fn run(mut self) -> Result<(), String> {
        for i in 0..NODES {
            self.input(i, EngineInput::Start)?;
            self.submit(i);
        }
        for _ in 0..STEPS_MAX {
            if !self.step()? {
                return self.is_complete();
            }
        }
        Err(format!("not quiet after {STEPS_MAX} inputs"))
    }

    /// Queues every item above what node `i` holds, as its host does at a start.
    fn submit(&mut self, i: usize) {
        let above = self.nodes[i].mark.place.saturating_add(1);
        let mut items: Vec<Item> = self
            .items
            .range(above..)
            .map(|(_, it)| it.clone())
            .collect();
        if self.scenario.is_shuffled {
            items.extend(items.clone());
            for at in (1..items.len()).rev() {
                items.swap(at, self.rng.random_range(0..=at));
            }
        }
        for item in items {
            self.wires.push_back((i, EngineInput::Submit(item)));
            if self.scenario.is_hostile {
                let bytes: Vec<u8> = (0..self.rng.random_range(0..40))
                    .map(|_| self.rng.random())
                    .collect();
                let from = self.participants[self.rng.random_range(0..NODES)].id;
                let bytes = Bytes::from(bytes);
                let input = EngineInput::Message { from, bytes };
                self.wires.push_back((i, input));
            }
        }
    }

    /// Delivers one input or runs the next timer; false when nothing is left.
    fn step(&mut self) -> Result<bool, String> {
        if !self.wires.is_empty() {
            // Near the front: links keep order among themselves only by chance.
            let at = self.rng.random_range(0..self.wires.len().min(8));
            if let Some((i, input)) = self.wires.remove(at) {
                self.input(i, input)?;
            }
            return Ok(true);
        }
        let next = self.timers.iter().map(|(key, at)| (*at, *key)).min();
        let Some((at, (i, timer))) = next else {
            return Ok(false);
        };
        self.timers.remove(&(i, timer));
        self.now = self.now.max(at);
        self.input(i, EngineInput::Timer(timer))?;
        Ok(true)
    }

    fn input(&mut self, i: usize, input: EngineInput) -> Result<(), String> {
        let mut out = Vec::new();
        self.nodes[i].engine.handle(self.now, input, &mut out);
        let falls = self.rng.random_range(0..100) < self.scenario.crash_percent;
        if falls {
            // Power fails between two outputs: what stands behind is lost.
            out.truncate(self.rng.random_range(0..=out.len()));
        }
        for output in out {
            self.carry_out(i, output)?;
        }
        if falls { self.restart(i) } else { Ok(()) }
    }

    fn restart(&mut self, i: usize) -> Result<(), String> {
        let mark = self.nodes[i].mark;
        let mut journal = std::mem::take(&mut self.nodes[i].journal);
        journal.retain(|record| record.place > mark.place);
        self.nodes[i] = self.boot(i, journal, mark)?;
        self.timers.retain(|(node, _), _| *node != i);
        self.wires.retain(|(node, _)| *node != i);
        // A fallen node must not fall again for ever.
        self.scenario.crash_percent = self.scenario.crash_percent.saturating_sub(1);
        self.wires.push_back((i, EngineInput::Start));
        self.submit(i);
        Ok(())
    }

    fn carry_out(&mut self, i: usize, output: EngineOutput) -> Result<(), String> {
        match output {
            EngineOutput::Save(record) => self.nodes[i].journal.push(record),
            EngineOutput::Send { to, bytes } => self.send(i, to, &bytes),
            EngineOutput::Arm { timer, after } => {
                self.timers.insert((i, timer), self.now + after);
            }
            EngineOutput::Cancel(timer) => {
                self.timers.remove(&(i, timer));
            }
            EngineOutput::Emit(agreed) => self.emitted(i, &agreed)?,
            EngineOutput::Fault(fault) if self.scenario.is_hostile && fault.who.is_some() => {}
            EngineOutput::Fault(fault) => return Err(format!("nobody is faulty, yet {fault:?}")),
        }
        Ok(())
    }

    fn send(&mut self, i: usize, to: To<MemberId>, bytes: &Bytes) {
        let from = self.participants[i].id;
        for peer in (0..NODES).filter(|peer| *peer != i) {
            if to == To::One(self.participants[peer].id) || !matches!(to, To::One(_)) {
                let bytes = bytes.clone();
                let input = EngineInput::Message { from, bytes };
                self.wires.push_back((peer, input));
            }
        }
    }

    fn emitted(&mut self, i: usize, agreed: &Agreed) -> Result<(), String> {
        let mark = self.nodes[i].mark;
        let Item { place, digest, .. } = agreed.item;
        if agreed.from != mark.place + 1 || place < agreed.from {
            let from = agreed.from;
            return Err(format!("emits {from} to {place} behind {}", mark.place));
        }
        if self.items.get(&place) != Some(&agreed.item) {
            return Err(format!("emits what nobody submitted at {place}"));
        }
        if *self.agreed.entry(place).or_insert(digest) != digest {
            return Err(format!("two digests at {place}"));
        }
        self.nodes[i].mark = Mark { place, digest };
        Ok(())
    }

    fn is_complete(&self) -> Result<(), String> {
        match self.nodes.iter().position(|n| n.mark.place != PLACES) {
            Some(i) => Err(format!("node {i} stays at {}", self.nodes[i].mark.place)),
            None => Ok(()),
        }
    }
}

fn secret(i: usize) -> SecretKey {
    SecretKey::from_seed([u8::try_from(i).expect("few nodes") + 1; 32])
}

fn participant(i: usize) -> Participant {
    let key = secret(i).public();
    Participant {
        id: MemberId::of(&key),
        key: Some(key),
    }
}

fn item(place: u64) -> Item {
    let payload = Bytes::from(format!("block {place}"));
    Item {
        place,
        digest: Digest::of(Domain::Header, &payload),
        payload,
    }
}
