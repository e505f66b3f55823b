//! The hunt: every planted bug must break a rule within a stated number of seeds.
//!
//! Source: mutation testing; the bugs of `plant`. In: options, bugs, a number of seeds. Out: per
//! bug the first seed that shows it.
//! Holds: a seed that breaks a rule without the bug as well shows nothing. Elsewhere: the bugs
//! (`plant`), who prints it (`cli::simulate`), what was found (`docs/figures.md`).

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde::Serialize;

use super::{Options, run};
use crate::plant::Plant;

/// Bugs that only a certain villain brings to light in a few worlds.
const VILLAINS: &[(Plant, &str)] = &[
    (Plant::EagerJoin, "flooder"),
    (Plant::UnprovedLock, "schemer"),
    (Plant::ShortSync, "schemer"),
    (Plant::StopDataReused, "schemer"),
    (Plant::AnyCall, "late-keyed"),
    (Plant::FewFreshKeys, "mute"),
    (Plant::AnyList, "usurper"),
    (Plant::AnyAssemble, "usurper"),
];

/// Bugs of hand-overs: without any there is nothing to see.
const OF_VIEWS: &[Plant] = &[
    Plant::AnyCall,
    Plant::FewFreshKeys,
    Plant::AnyList,
    Plant::AnyAssemble,
    Plant::EndIgnored,
];
/// Blocks of a view, and acts of members, where such a bug is hunted and nothing else is asked for.
const ROTATION_BLOCKS: u32 = 8;
const ACTS: u32 = 10;

/// Bugs of newcomers: some have to come when the others have pruned.
const OF_NEWCOMERS: &[Plant] = &[Plant::AnySegment, Plant::AnyAnchor];
/// Bugs of shorter ways: members have to know some, which they do not where a crowd is asked for.
const OF_SHORTER_WAYS: &[Plant] = &[Plant::LoneHint, Plant::PassedHint];
/// Blocks between checkpoints there, and how many come at once.
const CHECKPOINT_BLOCKS: u32 = 8;
const JOINERS: u32 = 8;

/// What came of the hunt for one bug.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prey {
    /// Its name.
    pub plant: &'static str,
    /// The villain that was cast for it; else seeds draw theirs.
    pub villain: Option<&'static str>,
    /// Whether a seed showed it.
    pub found: bool,
    /// Worlds that were run, up to the first that showed it.
    pub seeds_tried: u64,
    /// That seed.
    pub seed: Option<u64>,
    /// The rule that it broke there first.
    pub oracle: Option<String>,
    /// Time that passed here.
    pub seconds: f64,
}

/// What came of a hunt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hunt {
    /// Every bug, in the order in which they are declared.
    pub plants: Vec<Prey>,
}

/// Hunts every bug of `plants` from seed `options.seed` on, through at most `count` seeds each, on
/// `threads` threads; `told` hears of each bug.
pub fn hunt(
    options: &Options,
    plants: &[Plant],
    count: u64,
    threads: usize,
    told: &(dyn Fn(&Prey) + Sync),
) -> Hunt {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(plant) = plants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let prey = hunt_one(options, *plant, count);
                    told(&prey);
                    let held = done.lock();
                    held.unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push(prey);
                }
            });
        }
    });
    let done = done.into_inner();
    let mut found = done.unwrap_or_else(std::sync::PoisonError::into_inner);
    let place = |prey: &Prey| plants.iter().position(|plant| plant.name() == prey.plant);
    found.sort_by_key(place);
    Hunt { plants: found }
}

fn hunt_one(options: &Options, plant: Plant, count: u64) -> Prey {
    let start = Instant::now();
    let cast = VILLAINS.iter().find(|(needs, _)| *needs == plant);
    let villain = cast.map(|(_, villain)| *villain);
    let forced = villain.map(|name| name.parse().expect("a villain of the table"));
    let mut prey = Prey {
        plant: plant.name(),
        villain,
        found: false,
        seeds_tried: 0,
        seed: None,
        oracle: None,
        seconds: 0.0,
    };
    while !prey.found && prey.seeds_tried < count {
        let mut sound = Options {
            seed: options.seed.wrapping_add(prey.seeds_tried),
            plant: None,
            villain: forced.or(options.villain),
            ..options.clone()
        };
        if OF_VIEWS.contains(&plant) && sound.rotation_blocks == 0 {
            sound.rotation_blocks = ROTATION_BLOCKS;
            sound.membership = sound.membership.or(Some(ACTS));
        }
        let is_of_newcomers = OF_NEWCOMERS.contains(&plant);
        let is_of_checkpoints = is_of_newcomers || OF_SHORTER_WAYS.contains(&plant);
        if is_of_checkpoints && sound.checkpoint_blocks == 0 {
            sound.checkpoint_blocks = CHECKPOINT_BLOCKS;
            let joiners = is_of_newcomers.then_some(JOINERS);
            sound.joiners = sound.joiners.or(joiners);
            sound.membership = sound.membership.or(Some(ACTS));
        }
        let planted = Options {
            plant: Some(plant),
            ..sound.clone()
        };
        prey.seeds_tried += 1;
        let broken = run(&planted).violations.into_iter().next();
        if let Some(first) = broken.filter(|_| run(&sound).violations.is_empty()) {
            prey.found = true;
            prey.seed = Some(first.seed);
            prey.oracle = Some(first.oracle);
        }
    }
    prey.seconds = start.elapsed().as_secs_f64();
    prey
}
