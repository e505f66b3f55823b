//! What one world is like: its parameters, keys and weather, drawn from the seed.
//!
//! Source: swarm testing: every seed draws its own strengths, 'never' among them. In: options. Out:
//! a
//! genesis document, members, figures. Holds: one seed in ten uses real keys. Elsewhere: what then
//! happens (`world`).

use std::collections::BTreeMap;

use super::Options;
use super::census;
use super::clock::Clock;
use super::crowd;
use super::dice::Dice;
use super::disk::Disk;
use super::faults::Fault;
use super::hints;
use super::keyring::Keyring;
use super::member::{Fate, Member};
use super::net::{Spread, Weather};
use super::sample;
use super::villain::{self, VillainKind};
use super::world::BEGINNING_US;
use crate::blocks::{
    Call, CheckpointRules, Clients, FORMAT_VERSION, Founder, Genesis, Parameters, ViewRules,
};
use crate::bootstrap::Leases;
use crate::committee::{KeyProof, MemberId, View, ViewId};
use crate::crypto::{Digest, Domain, SecretKey, Verifier};
use crate::fsm::PaceOptions;
use crate::machine::Span;

/// Clocks are fast or slow by at most so many millionths: one hundredth.
const DRIFT_MAX: u64 = 10_000;

/// Figures of a world.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    seed: u64,
    /// The secret of simulated signatures; none where keys are real.
    world: Option<Digest>,
    /// Whether frames are encoded, checked and decoded as in `node`, under real keys.
    pub(super) is_complete: bool,
    pub(super) weather: Weather,
    /// Who does wrong, and how.
    villains: BTreeMap<usize, VillainKind>,
    /// Machines that may become members.
    pub(super) newcomers: usize,
    /// Members that follow only.
    observers: usize,
    /// Members that come later: together, or as the last.
    later: usize,
    founders: usize,
    pub(super) sync_us: u64,
    pub(super) execute_us: u64,
    pub(super) client_us: u64,
    timeout_us: u64,
    /// How long the phase with faults is.
    pub(super) lasts_us: u64,
    /// How much clocks are fast or slow at most, in millionths.
    drift: i64,
    pub(super) resend_us: u64,
    /// Operations of a thousand that are large.
    pub(super) large: u64,
    /// How members keep blocks below their newest checkpoint; none where they keep none.
    pub(super) keeping: Option<hints::Keeping>,
    parameters: Parameters,
}

impl Setting {
    pub(super) fn draw(options: &Options) -> Self {
        let mut dice = Dice::new(options.seed, 1);
        let is_complete = options.seed % 10 == 9;
        let world = Digest::of(Domain::Audit, &options.seed.to_le_bytes());
        let delay_us = [200, 2_000, 20_000, 80_000][dice.index(4)];
        // A strength of its own for each seed, and often none.
        let spread = Spread::ALL[dice.index(4)];
        let mut strength = |fault: Fault, most: u64| {
            let (is_on, drawn) = (dice.chance(600), dice.within(1, most));
            let is_on = is_on && options.faults.has(fault);
            if is_on {
                drawn * options.strength / 100
            } else {
                0
            }
        };
        let weather = Weather {
            delay_us,
            spread,
            loss: strength(Fault::Loss, 100),
            duplicate: strength(Fault::Duplicate, 100),
            reorder: strength(Fault::Reorder, 100) > 0,
        };
        let (newcomers, crowd) = (census::draw(options).1, crowd::draw(options));
        let mut villains = villain::draw(options);
        villains.extend(villain::draw_newcomers(options, newcomers));
        let drift = i64::try_from(strength(Fault::Drift, DRIFT_MAX)).expect("a small number");
        Self {
            seed: options.seed,
            world: (!is_complete).then_some(world),
            is_complete,
            weather,
            villains,
            newcomers,
            observers: dice.index(2),
            later: crowd.0 + usize::from(crowd.1),
            founders: options.members,
            sync_us: [100, 1_000, 10_000][dice.index(3)],
            execute_us: [50, 500, 5_000][dice.index(3)],
            client_us: [300_000, 600_000, 1_200_000][dice.index(3)],
            lasts_us: dice.within(240_000_000, 600_000_000),
            drift,
            // Several round trips and syncs; one world in five has to learn that it is too short.
            timeout_us: match dice.below(5) {
                0 => (delay_us * 2).max(10_000),
                patience => (delay_us * 10).max(200_000) * patience,
            },
            resend_us: (delay_us * 4).max(50_000),
            large: [0, 5, 40, 400][dice.index(4)],
            keeping: hints::Keeping::draw(options),
            parameters: parameters(&mut dice, options),
        }
    }

    /// Bounds of the progress timeout.
    pub(super) fn pace(&self) -> PaceOptions {
        PaceOptions {
            first: Span(self.timeout_us),
            least: Span(self.timeout_us / 4),
            most: Span::from_ms(30_000),
        }
    }

    /// Whether member `n` is told of no control body that is due.
    pub(super) fn dodges(&self, n: usize) -> bool {
        self.villains.get(&n).is_some_and(|kind| kind.dodges())
    }

    /// The secret key of `kind` and number `n`.
    fn secret(&self, kind: u8, n: usize) -> SecretKey {
        self.secret_of(&format!("{} {kind} {n}", self.seed))
    }

    /// The key that a member makes for a call in one of its lives: no two lives make the same.
    pub(super) fn key_for(&self, (n, life): (usize, u64), call: &Call) -> SecretKey {
        self.secret_of(&format!("{} {n} {life} {}", self.seed, call.assemble))
    }

    /// The key that a member brings to an admission.
    pub(super) fn admission_key(&self, n: usize, number: u64) -> SecretKey {
        self.secret_of(&format!("{} {n} admission {number}", self.seed))
    }

    fn secret_of(&self, text: &str) -> SecretKey {
        let seed = Digest::of(Domain::Audit, text.as_bytes()).0;
        match self.world {
            Some(world) => SecretKey::simulated(seed, world),
            None => SecretKey::from_seed(seed),
        }
    }

    pub(super) fn client_secrets(&self) -> Vec<SecretKey> {
        (0..5).map(|n| self.secret(2, n)).collect()
    }

    /// The genesis document, its view, and how signatures are checked.
    pub(super) fn found(&self, options: &Options) -> (Genesis, View, Verifier) {
        let founders = (0..options.members).map(|n| {
            let (identity, consensus) = (self.secret(0, n), self.secret(1, n));
            let zero = Digest::ZERO;
            Founder {
                name: format!("member-{n}"),
                identity: identity.public(),
                consensus: Some(KeyProof::make(
                    &zero,
                    ViewId(0),
                    &zero,
                    &identity,
                    &consensus,
                )),
                address: String::new(),
            }
        });
        let genesis = Genesis {
            version: FORMAT_VERSION,
            name: "simulated".into(),
            founded_us: 1_600_000_000_000_000,
            parameters: self.parameters.clone(),
            founders: founders.collect(),
            successor_of: None,
        };
        let view = genesis.view().expect("founders have distinct keys");
        let verifier = self.world.map_or(Verifier::ed25519(), Verifier::simulated);
        (genesis, view, verifier)
    }

    /// Every member, founders first.
    pub(super) fn members(&self, genesis: &Genesis) -> Vec<Member> {
        let mut dice = Dice::new(self.seed, 5);
        let mut clock = || {
            let ahead = i64::try_from(dice.below(2_000_000)).expect("two seconds");
            let drift = match dice.index(3) {
                0 => self.drift,
                1 => -self.drift,
                _ => 0,
            };
            Clock::new(ahead, drift, BEGINNING_US)
        };
        let member = |n: usize| Member {
            id: match genesis.founders.get(n) {
                Some(founder) => MemberId::of(&founder.identity),
                None => MemberId::of(&self.secret(0, n).public()),
            },
            identity: self.secret(0, n),
            keys: match n < self.founders {
                true => Keyring::of(self.secret(1, n)),
                false => Keyring::default(),
            },
            disk: {
                let disk = match self.is_complete {
                    true => Disk::stored(n),
                    false => Disk::default(),
                };
                disk.keeping(self.keeping.map(|keeping| keeping.of(n)))
            },
            ended: ViewId(0),
            is_wiped: false,
            tried: None,
            part: None,
            villain: (self.villains.get(&n)).map(|kind| villain::cast(*kind, self.seed, n)),
            running: None,
            quest: None,
            leases: Leases::new(),
            served: 0,
            life: 0,
            forgot: 0,
            clock: clock(),
            paused: None,
            slow_disk: 1,
            fate: Fate::Open,
            regency: 0,
            changes: 0,
        };
        let count = self.founders + self.newcomers + self.observers + self.later;
        (0..count).map(member).collect()
    }
}

fn parameters(dice: &mut Dice, options: &Options) -> Parameters {
    let views = ViewRules {
        rotation_blocks: options.rotation_blocks,
        assemble_blocks: 16,
        ..ViewRules::default()
    };
    let window = [1, 2, 8, 16][dice.index(4)];
    let seal_every = [1, 3, 8, 16][dice.index(4)];
    Parameters {
        clients: Clients::Open,
        seal_every,
        window,
        ahead_max: window + seal_every + [0, 0, 16][dice.index(3)],
        expiry_blocks_max: [64, 1_000, 100_000][dice.index(3)],
        remembered_max: [1_024, 2_000_000][dice.index(2)],
        checkpoints: CheckpointRules {
            every_blocks: options.checkpoint_blocks,
            every_bytes: 0,
            segment_bytes: 1 << 10,
        },
        views: match options.sample {
            true => sample::rules(views),
            false => views,
        },
        ..Parameters::default()
    }
}
