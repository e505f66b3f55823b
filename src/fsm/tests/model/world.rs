//! The finite world of the model: the committee, every ballot that can be cast, every lie that the
//! Byzantine seat can tell about itself.
//!
//! Source: `docs/adr/004-a-checker-of-our-own.md`. In: a [`Scope`]. Out: signed votes,
//! certificates, STOP-DATA.
//! Holds: n = 4, f = 1; ballots and payloads are numbered, so that a set of them is a bit mask.
//! Elsewhere: what correct members do with them (`member`), in which orders (`search`).

use bytes::Bytes;

use crate::committee::{
    Ballot, Certificate, Claim, Height, Kind, Lock, MemberId, Regency, Seat, SeatKey, StopData,
    View, ViewId, Vote, Voter,
};
use crate::crypto::{Digest, Domain, SecretKey, Verified, Verifier};
use crate::fsm::Payload;

const SEATS: u16 = 4;

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// How many digests may be proposed, for each height from 1 on.
    pub(super) digests: &'static [u64],
    /// The highest regency.
    pub(super) regencies: u64,
    /// The regency that the Byzantine seat leads; above `regencies` it leads none.
    pub(super) byzantine_leads: u64,
}

/// A set of ballots, by their number in [`World::ballots`].
pub(super) type Ballots = u64;

/// Everything that does not change while a scope is explored.
pub(super) struct World {
    pub(super) scope: Scope,
    pub(super) view: View,
    pub(super) byzantine: Seat,
    pub(super) correct: [Seat; 3],
    /// Every PROPOSE, WRITE and ACCEPT of the scope.
    pub(super) ballots: Vec<Ballot>,
    pub(super) payloads: Vec<(Height, Payload)>,
    /// By regency: every STOP-DATA that the Byzantine seat can sign.
    pub(super) lies: Vec<Vec<StopData>>,
}

fn audit(bytes: &[u8]) -> Digest {
    Digest::of(Domain::Audit, bytes)
}

fn secret(seat: Seat) -> SecretKey {
    let seed = [u8::try_from(seat.0 + 1).expect("four seats"); 32];
    SecretKey::simulated(seed, audit(b"model"))
}

impl World {
    pub(super) fn new(scope: Scope) -> Self {
        let seats = (0..SEATS).map(|i| SeatKey {
            member: MemberId(audit(&i.to_le_bytes())),
            key: Some(secret(Seat(i)).public()),
        });
        let chain = Digest::of(Domain::Chain, b"model");
        let view = View::new(ViewId(0), chain, seats.collect(), &chain).expect("a view");
        let byzantine = view.leader(Regency(scope.byzantine_leads));
        let correct: Vec<Seat> = (0..SEATS).map(Seat).filter(|s| *s != byzantine).collect();
        let mut world = Self {
            scope,
            byzantine,
            correct: correct.try_into().expect("one of four is Byzantine"),
            ballots: Vec::new(),
            payloads: Vec::new(),
            lies: Vec::new(),
            view,
        };
        for (height, count) in (1..).map(Height).zip(scope.digests) {
            let values = (0..*count).map(|value| (height, payload(height, value)));
            world.payloads.extend(values);
        }
        for kind in [Kind::Propose, Kind::Write, Kind::Accept] {
            for regency in (0..=scope.regencies).map(Regency) {
                let payloads = world.payloads.iter();
                world
                    .ballots
                    .extend(payloads.map(|(height, payload)| Ballot {
                        kind,
                        view: world.view.id(),
                        regency,
                        height: *height,
                        digest: payload.digest,
                    }));
            }
        }
        assert!(world.ballots.len() <= 64, "a set of ballots is one word");
        let regencies = (0..=scope.regencies).map(Regency);
        world.lies = regencies.map(|regency| world.lies_for(regency)).collect();
        world
    }

    pub(super) fn verifier(&self) -> Verifier {
        Verifier::simulated(audit(b"model"))
    }

    /// The voter of `seat`, which has promised nothing.
    pub(super) fn voter(&self, seat: Seat) -> Voter {
        Voter::new(&self.view, secret(seat)).expect("every seat has a key")
    }

    /// The ballots that `is_in` picks.
    pub(super) fn ballots_where(&self, is_in: impl Fn(&Ballot) -> bool) -> Ballots {
        let numbers = (0..self.ballots.len()).filter(|i| is_in(&self.ballots[*i]));
        numbers.fold(0, |set, i| set | 1 << i)
    }

    /// The ballots of `set`.
    pub(super) fn named(&self, set: Ballots) -> Vec<Ballot> {
        if set == 0 {
            return Vec::new();
        }
        let ballots = self.ballots.iter().enumerate();
        let named = ballots.filter(|(number, _)| set >> number & 1 == 1);
        named.map(|(_, ballot)| *ballot).collect()
    }

    /// The payload of a ballot.
    pub(super) fn payload(&self, height: Height, digest: &Digest) -> Payload {
        let mut payloads = self.payloads.iter();
        let found = payloads.find(|(h, payload)| *h == height && payload.digest == *digest);
        found
            .expect("every digest of the scope has bytes")
            .1
            .clone()
    }

    /// `seat`'s vote.
    pub(super) fn vote(&self, seat: Seat, ballot: Ballot) -> Vote {
        let signature = secret(seat).sign(&ballot.sign_bytes(self.view.chain()));
        Vote {
            ballot,
            seat,
            signature,
        }
    }

    /// The ballots that a quorum cast, where each correct seat cast one of `cast` and the Byzantine
    /// seat whatever helps: those of at least q − 1 correct seats.
    pub(super) fn certified(&self, cast: [Ballots; 3]) -> Ballots {
        let [a, b, c] = cast;
        match self.view.sizes().q {
            3 => (a & b) | (a & c) | (b & c),
            2 => a | b | c, // A planted bug.
            q => panic!("a quorum of four is three, not {q}"),
        }
    }

    /// The certificate of a ballot. Nothing that reads one asks which quorum signed it, as long as
    /// the signatures hold, so one stands for all.
    pub(super) fn certificate(&self, ballot: Ballot) -> Certificate {
        let signers = (0..self.view.sizes().q).map(|i| Seat(i as u16));
        let votes: Vec<Verified<Vote>> = signers
            .map(|seat| Verified::vouch(self.vote(seat, ballot)))
            .collect();
        let certificate = Certificate::assemble(&self.view, &votes).expect("a quorum signed");
        certificate.into_inner()
    }

    /// Every claim for one height and the regencies below `regency`, and none.
    fn claims(&self, height: Height, regency: Regency) -> Vec<Option<Claim>> {
        let mut claims = vec![None];
        for below in (0..regency.0).map(Regency) {
            for (_, payload) in self.payloads.iter().filter(|(h, _)| *h == height) {
                claims.extend([false, true].map(|is_decided| {
                    let lock = Lock {
                        regency: below,
                        digest: payload.digest,
                    };
                    Some(Claim {
                        height,
                        is_decided,
                        lock,
                    })
                }));
            }
        }
        claims
    }

    /// Every combination of claims, each signed by the Byzantine seat as the voter would sign it.
    fn lies_for(&self, regency: Regency) -> Vec<StopData> {
        let mut combinations: Vec<Vec<Claim>> = vec![Vec::new()];
        for height in (1..).map(Height).take(self.scope.digests.len()) {
            let claims = self.claims(height, regency);
            let with = |held: &Vec<Claim>| -> Vec<Vec<Claim>> {
                let each = claims.iter();
                each.map(|claim| held.iter().copied().chain(*claim).collect())
                    .collect()
            };
            combinations = combinations.iter().flat_map(with).collect();
        }
        let signed = combinations.into_iter().map(|claims| {
            let mut voter = self.voter(self.byzantine);
            let base = (Height(0), Digest::ZERO);
            let signed = voter.stop(regency, base, 0, claims, Vec::new());
            let (_, data) = signed.expect("claims are canonical");
            data
        });
        signed.collect()
    }
}

fn payload(height: Height, value: u64) -> Payload {
    let bytes = Bytes::from(format!("{height}/{value}"));
    Payload {
        digest: Digest::of(Domain::Proposal, &bytes),
        bytes,
    }
}
