//! A register with the secrets of its founders.
//!
//! Source: none. In: a number of founders. Out: operations carried out, views made.
//! Holds: everything is of the simulated scheme; marks name made-up digests.
//! Elsewhere: what must follow (`tests`).

use super::super::*;
use crate::blocks::body::{Body, NextSeat, Reconfiguration};
use crate::blocks::{FORMAT_VERSION, Founder, Link, Parameters};
use crate::crypto::SecretKey;

pub(super) const WORLD: Digest = Digest([0xee; 32]);

/// The key of that number; founders' identities are 0 to 9, their consensus keys 10 to 19.
pub(super) fn secret(number: u16) -> SecretKey {
    let mut seed = [0; 32];
    seed[..2].copy_from_slice(&number.to_le_bytes());
    SecretKey::simulated(seed, WORLD)
}

pub(super) fn open(ballot: Digest, approvals: u32, needed: u32) -> Done {
    Done::Open {
        ballot,
        approvals,
        needed,
    }
}

/// The header digest that the marked block of `height` has.
pub(super) fn digest_at(height: u64) -> Digest {
    Digest([height as u8; 32])
}

pub(super) struct Land {
    pub(super) register: Register,
    pub(super) height: Height,
    pub(super) marks: Marks,
    bounds: Bounds,
    verifier: Verifier,
    fresh: u16,
}

impl Land {
    pub(super) fn of(founders: u16) -> Self {
        Self::with(founders, Clients::Open)
    }

    pub(super) fn listed(founders: u16) -> Self {
        Self::with(founders, Clients::Listed(Vec::new()))
    }

    fn with(founders: u16, clients: Clients) -> Self {
        let zero = Digest::ZERO;
        let founder = |n: u16| Founder {
            name: format!("founder-{n}"),
            identity: secret(n).public(),
            consensus: Some(KeyProof::make(
                &zero,
                ViewId(0),
                &zero,
                &secret(n),
                &secret(10 + n),
            )),
            address: format!("a:{n}"),
        };
        let genesis = Genesis {
            version: FORMAT_VERSION,
            name: "land".into(),
            founded_us: 1,
            parameters: Parameters {
                clients,
                ..Parameters::default()
            },
            founders: (0..founders).map(founder).collect(),
            successor_of: None,
        };
        let mut marks = Marks::default();
        for height in (0..=800).step_by(8) {
            marks.push(Link {
                height: Height(height),
                digest: digest_at(height),
            });
        }
        Self {
            register: Register::genesis(&genesis),
            height: Height(801),
            marks,
            bounds: genesis.parameters.bounds(),
            verifier: Verifier::simulated(WORLD),
            fresh: 1_000,
        }
    }

    pub(super) fn founder(&self, n: u16) -> SecretKey {
        secret(n)
    }

    pub(super) fn consensus(&self, n: u16) -> SecretKey {
        secret(10 + n)
    }

    pub(super) fn id(&self, n: usize) -> MemberId {
        MemberId::of(&secret(n as u16).public())
    }

    pub(super) fn status(&self, of: &SecretKey) -> Option<Status> {
        let member = self.register.get(&MemberId::of(&of.public()));
        member.map(|member| member.status)
    }

    pub(super) fn status_of(&self, n: usize) -> Option<Status> {
        self.register.get(&self.id(n)).map(|member| member.status)
    }

    /// Carries out an operation; one that is refused must change nothing.
    pub(super) fn act(&mut self, signer: &SecretKey, what: Operation) -> Result<Done, Refusal> {
        self.act_bytes(signer, &what.to_bytes())
    }

    pub(super) fn act_bytes(&mut self, signer: &SecretKey, bytes: &[u8]) -> Result<Done, Refusal> {
        let before = self.register.clone();
        let place = Place {
            height: self.height,
            marks: &self.marks,
            bounds: &self.bounds,
            ahead_max: 32,
            verifier: &self.verifier,
        };
        let outcome = self.register.execute(&place, &signer.public(), bytes);
        if outcome.code == 0 {
            let done = Done::from_bytes(&outcome.bytes);
            return Ok(done.expect("an outcome says what was done"));
        }
        assert!(outcome.bytes.is_empty(), "a refusal has no bytes");
        assert!(self.register == before, "a refusal changes nothing");
        Err(Refusal::of(outcome.code).expect("every code is known"))
    }

    pub(super) fn founder_does(&mut self, n: u16, what: Operation) -> Result<Done, Refusal> {
        self.act(&secret(n), what)
    }

    pub(super) fn moves(&mut self, n: u16, motion: Motion) -> Result<Done, Refusal> {
        self.founder_does(n, Operation::Move(motion))
    }

    pub(super) fn invite(&mut self, n: u16, who: &SecretKey) -> Result<Done, Refusal> {
        self.moves(n, Motion::Invite(who.public()))
    }

    pub(super) fn ballot_of(&self, newcomer: &SecretKey) -> Digest {
        Motion::Invite(newcomer.public()).ballot()
    }

    /// Founders approve a motion one after another until it passes.
    pub(super) fn pass(&mut self, motion: Motion) {
        for n in 0..10 {
            if self.moves(n, motion.clone()) == Ok(Done::Effective) {
                return;
            }
        }
        panic!("{motion:?} did not pass");
    }

    pub(super) fn proof(&self, identity: &SecretKey, consensus: u16) -> KeyProof {
        let chain = self.register.chain();
        let key = secret(consensus);
        KeyProof::make(chain, ViewId(0), &Digest::ZERO, identity, &key)
    }

    pub(super) fn request(&self, who: &SecretKey, consensus: u16) -> Request {
        Request {
            name: "newcomer".into(),
            address: "n:1".into(),
            tags: vec!["eu".into(), "region=de".into()],
            key: self.proof(who, consensus),
        }
    }

    pub(super) fn join(&mut self, who: &SecretKey, consensus: u16) -> Result<Done, Refusal> {
        let request = self.request(who, consensus);
        self.act(who, Operation::Join(request))
    }

    pub(super) fn rejoin(&mut self, n: u16, consensus: u16) -> Result<Done, Refusal> {
        let proof = self.proof(&secret(n), consensus);
        self.founder_does(n, Operation::Rejoin(proof))
    }

    pub(super) fn rename(
        &mut self,
        n: u16,
        to: &SecretKey,
        consensus: u16,
    ) -> Result<Done, Refusal> {
        let proof = self.proof(to, consensus);
        self.founder_does(n, Operation::Identity(to.public(), proof))
    }

    pub(super) fn catch_up(&mut self, who: &SecretKey) -> Result<Done, Refusal> {
        self.act(who, Operation::CaughtUp(Height(800), digest_at(800)))
    }

    /// As if that founder's document had no consensus key.
    pub(super) fn without_key(&mut self, n: usize) {
        let id = self.id(n);
        let member = self.register.members.get_mut(&id).expect("a founder");
        member.key = None;
        self.register.seats[n].key = None;
        self.register.base = self.register.footing();
    }

    /// Freezes the list and makes the view that follows from it.
    pub(super) fn reconfigure(&mut self) -> Reconfiguration {
        self.register.freeze(self.height);
        self.reconfigure_frozen()
    }

    /// Makes the view of the frozen list: everybody has a fresh key.
    pub(super) fn reconfigure_frozen(&mut self) -> Reconfiguration {
        let slate = self.register.frozen().expect("the list is frozen");
        let committee = slate.footing.committee(&Digest([7; 32]));
        let committee = committee.expect("somebody can always be drawn");
        let next = self.register.view().0 + 1;
        let seats = committee.into_iter().map(|member| {
            self.fresh += 1;
            let key = secret(self.fresh);
            let chain = self.register.chain();
            let identity = secret(0); // who certifies it is not looked at here
            let fresh = KeyProof::make(chain, ViewId(next), &Digest([8; 32]), &identity, &key);
            NextSeat {
                member,
                fresh: Some(fresh),
            }
        });
        let body = Reconfiguration {
            next: ViewId(next),
            assemble: (self.height, Digest([8; 32])),
            seats: seats.collect(),
            members: slate.listed.clone(),
            threshold: None,
        };
        assert_eq!(Body::Reconfiguration(body.clone()).check(), Ok(()));
        self.height = self.height.next();
        self.register.reconfigured(self.height, &body, None);
        body
    }
}
