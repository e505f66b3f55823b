//! What a proposal may bring past the ears.

use crate::blocks::body::Freeze;
use crate::blocks::{Body, FORMAT_VERSION, Parameters, Proposal};
use crate::committee::{
    Ballot, Height, Kind, MemberId, Regency, Seat, SeatKey, View, ViewId, Vote,
};
use crate::consortium::{Ears, Message};
use crate::crypto::{Digest, Domain, SecretKey, Verifier};
use crate::fsm;

#[test]
fn a_control_body_that_nobody_can_check_is_not_heard() {
    let world = Digest::of(Domain::Audit, b"w");
    let chain = Digest::of(Domain::Chain, b"test");
    let secret = |i: u8| SecretKey::simulated([i + 1; 32], world);
    let member = |i: u8| MemberId(Digest::of(Domain::Member, &[i]));
    let seats = (0..4).map(|i| SeatKey {
        member: member(i),
        key: Some(secret(i).public()),
    });
    let view = View::new(ViewId(0), chain, seats.collect(), &chain).expect("a view");
    let leader = view.leader(Regency(0));
    let index = u8::try_from(leader.0).expect("small");
    let proposal = Proposal {
        version: FORMAT_VERSION,
        chain,
        view: ViewId(0),
        height: Height(1),
        timestamp_us: u64::MAX,
        is_sealed: true,
        body: Body::Freeze(Freeze {
            next: ViewId(77),
            list: Digest::of(Domain::Audit, b"a list that no member has"),
        }),
        carried: None,
    };
    let ballot = Ballot {
        kind: Kind::Propose,
        view: ViewId(0),
        regency: Regency(0),
        height: Height(1),
        digest: proposal.digest(),
    };
    let vote = Vote {
        ballot,
        seat: Seat(leader.0),
        signature: secret(index).sign(&ballot.sign_bytes(&chain)),
    };
    let payload = fsm::Payload {
        digest: proposal.digest(),
        bytes: proposal.to_bytes(),
    };
    let parameters = Parameters::default();
    let ears = Ears {
        view,
        bounds: parameters.bounds(),
        ahead_max: parameters.ahead_max,
        verifier: Verifier::simulated(world),
    };
    let frame = Message::Order(fsm::Message::Propose(vote, payload)).to_bytes();
    assert!(ears.hear(&member(index), &frame).is_err());
}
