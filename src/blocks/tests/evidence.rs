//! Evidence convicts whoever signed it, and nobody else.

use bytes::Bytes;

use super::fixtures::{certify, consensus, fill, full_genesis};
use crate::blocks::evidence::{Evidence, EvidenceError, FaultKind, Law, forgets};
use crate::blocks::{BatchRef, Body, Bounds, FORMAT_VERSION, Genesis, Proposal};
use crate::committee::{
    Certificate, Claim, Height, Lock, Regency, Seat, StopData, View, Vote, Voter,
};
use crate::crypto::{Digest, Signature, Verifier};

struct Court {
    genesis: Genesis,
    view: View,
    bounds: Bounds,
    verifier: Verifier,
}

impl Court {
    fn new() -> Self {
        let genesis = full_genesis();
        Self {
            view: genesis.view().expect("a view"),
            bounds: genesis.parameters.bounds(),
            verifier: Verifier::ed25519(),
            genesis,
        }
    }

    fn check(&self, evidence: &Evidence) -> Result<(Seat, FaultKind), EvidenceError> {
        evidence.check(&Law {
            view: &self.view,
            bounds: &self.bounds,
            ahead_max: self.genesis.parameters.ahead_max,
            verifier: &self.verifier,
        })
    }

    /// A voter without a memory: who uses two of one key misbehaves.
    fn voter(&self, n: u8) -> Voter {
        Voter::new(&self.view, consensus(n)).expect("a seat")
    }

    fn write(&self, n: u8, regency: u64, content: u8) -> Vote {
        let vote = self
            .voter(n)
            .write(Regency(regency), Height(5), fill(content));
        *vote.expect("a first vote").1
    }

    fn stop(&self, n: u8, base: u64, claims: Vec<Claim>) -> StopData {
        let base = (Height(base), Digest::ZERO);
        let stop = self
            .voter(n)
            .stop(Regency(3), base, 1_000, claims, Vec::new());
        stop.expect("a first one").1
    }

    fn propose(&self, proposal: &Proposal) -> Evidence {
        let vote = self
            .voter(1)
            .propose(Regency(0), Height(5), proposal.digest());
        let vote = *vote.expect("a first vote").1;
        Evidence::Proposal(vote, proposal.to_bytes())
    }

    fn proposal(&self) -> Proposal {
        Proposal {
            version: FORMAT_VERSION,
            chain: *self.view.chain(),
            view: self.view.id(),
            height: Height(5),
            timestamp_us: 1,
            is_sealed: true,
            body: Body::Transactions(Vec::new()),
            carried: None,
        }
    }
}

fn claim(height: u64, is_decided: bool, regency: u64) -> Claim {
    Claim {
        height: Height(height),
        is_decided,
        lock: Lock {
            regency: Regency(regency),
            digest: fill(1),
        },
    }
}

#[test]
fn two_votes_for_one_place_convict() {
    let court = Court::new();
    let (a, b) = (court.write(1, 0, 1), court.write(1, 0, 2));
    let evidence = Evidence::Votes(a, b);
    let read = Evidence::from_bytes(&evidence.to_bytes()).expect("it reads back");
    assert_eq!(court.check(&read), Ok((a.seat, FaultKind::Equivocation)));
    // The same vote twice, two regencies, two seats: none of it is against a rule.
    for (a, b) in [(a, a), (a, court.write(1, 1, 2)), (a, court.write(2, 0, 2))] {
        assert_eq!(
            court.check(&Evidence::Votes(a, b)),
            Err(EvidenceError::Innocent)
        );
    }
    let forged = Vote {
        signature: Signature([1; 64]),
        ..b
    };
    let forged = Evidence::Votes(a, forged);
    assert_eq!(court.check(&forged), Err(EvidenceError::BadSignature));
    let stranger = Vote { seat: Seat(9), ..a };
    let stranger = Evidence::Votes(stranger, Vote { seat: Seat(9), ..b });
    assert_eq!(court.check(&stranger), Err(EvidenceError::OtherView));
}

#[test]
fn two_stop_data_for_one_regency_convict() {
    let court = Court::new();
    let (a, b) = (court.stop(1, 0, Vec::new()), court.stop(1, 2, Vec::new()));
    let evidence = Evidence::Claims(a.clone(), b);
    assert_eq!(court.check(&evidence), Ok((a.seat, FaultKind::Claims)));
    let twice = Evidence::Claims(a.clone(), a);
    assert_eq!(court.check(&twice), Err(EvidenceError::Innocent));
}

#[test]
fn claims_without_the_lock_of_an_accept_convict() {
    let court = Court::new();
    let writes: Vec<_> = (0..4)
        .map(|n| {
            court
                .voter(n)
                .write(Regency(1), Height(5), fill(1))
                .expect("a vote")
                .1
        })
        .collect();
    let lock = Certificate::assemble(&court.view, &writes).expect("a quorum");
    let accept = *court.voter(1).accept(&lock).expect("an ACCEPT").1;
    let cases = [
        (0, vec![], true),
        (0, vec![claim(4, true, 0)], true),
        (0, vec![claim(5, false, 0)], true),
        (0, vec![claim(5, false, 1)], false),
        (0, vec![claim(5, false, 2)], false),
        (0, vec![claim(5, true, 0)], false),
        (5, vec![], false),
    ];
    for (base, claims, is_guilty) in cases {
        let data = court.stop(1, base, claims.clone());
        assert_eq!(forgets(&accept, &data), is_guilty, "{base} {claims:?}");
        let want = match is_guilty {
            true => Ok((accept.seat, FaultKind::Amnesia)),
            false => Err(EvidenceError::Innocent),
        };
        assert_eq!(court.check(&Evidence::Amnesia(accept, data)), want);
    }
}

#[test]
fn a_proposal_that_nobody_may_vote_for_convicts_its_leader() {
    let court = Court::new();
    let good = court.proposal();
    assert_eq!(
        court.check(&court.propose(&good)),
        Err(EvidenceError::Innocent)
    );
    let other_chain = Proposal {
        chain: fill(9),
        ..court.proposal()
    };
    let junk = Proposal {
        body: Body::Transactions(vec![BatchRef::Inline(Bytes::from_static(b"junk"))]),
        ..court.proposal()
    };
    let mut stripped = certify(&court.view, Height(4), fill(3));
    stripped.signatures[0] = Signature([1; 64]);
    let uncertified = Proposal {
        carried: Some(stripped),
        ..court.proposal()
    };
    for bad in [other_chain, junk, uncertified] {
        let evidence = court.propose(&bad);
        let want = Ok((evidence.accused(), FaultKind::BadProposal));
        assert_eq!(court.check(&evidence), want, "{bad:?}");
        // Other bytes under the same vote are not what the leader signed.
        let Evidence::Proposal(vote, _) = evidence else {
            panic!("a proposal")
        };
        let swapped = Evidence::Proposal(vote, good.to_bytes());
        assert_eq!(court.check(&swapped), Err(EvidenceError::Innocent));
    }
}

#[test]
fn a_persist_for_another_header_than_the_certified_one_convicts() {
    let court = Court::new();
    let certificate = certify(&court.view, Height(5), fill(3));
    let persist = |content| {
        let vote = court.voter(2).persist(Height(5), fill(content));
        *vote.expect("a first vote").1
    };
    let evidence = Evidence::Header(persist(4), certificate.clone());
    let want = Ok((evidence.accused(), FaultKind::WrongHeader));
    assert_eq!(court.check(&evidence), want);
    let same = Evidence::Header(persist(3), certificate);
    assert_eq!(court.check(&same), Err(EvidenceError::Innocent));
}
