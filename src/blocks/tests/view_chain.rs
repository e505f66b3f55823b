//! The view chain: steps that follow each other are walked, and nothing else is.

use super::fixtures::*;
use super::proofs::every_change_is_refused;
use crate::blocks::body::{BodyError, Listed, NextSeat, Reconfiguration};
use crate::blocks::proof::{Proof, ProofError, StateProof};
use crate::blocks::*;
use crate::committee::*;
use crate::crypto::{Digest, Domain, SecretKey, Verifier};

/// The chain under construction: the newest view, its keys by founder, and how it came about.
#[derive(Clone)]
pub(crate) struct Builder {
    pub(crate) steps: Vec<Step>,
    pub(crate) view: View,
    pub(crate) keys: [SecretKey; 4],
    opened: Link,
}

/// A fresh key of founder `n` for a call.
fn fresh(n: u8, call: &Call) -> SecretKey {
    let text = [&[n][..], &call.next.0.to_le_bytes(), &call.assemble.0].concat();
    SecretKey::from_seed(Digest::of(Domain::Audit, &text).0)
}

/// Votes of all four over a header.
fn certify_by(view: &View, keys: &[SecretKey], header: &Header) -> Certificate {
    let voters = keys.iter().filter_map(|key| Voter::new(view, key.clone()));
    let votes: Vec<_> = voters
        .map(|mut voter| voter.persist(header.height, header.digest()))
        .map(|vote| vote.expect("a first vote").1)
        .collect();
    let certificate = Certificate::assemble(view, &votes);
    certificate.expect("a quorum").into_inner()
}

impl Builder {
    pub(crate) fn new(genesis: &Genesis) -> Self {
        let header = genesis.header();
        Self {
            steps: Vec::new(),
            view: genesis.view().expect("founders make a view"),
            keys: [0, 1, 2, 3].map(consensus),
            opened: Link {
                height: header.height,
                digest: header.digest(),
            },
        }
    }

    /// The chain of `views` views after view 0.
    pub(crate) fn rotated(genesis: &Genesis, views: u64) -> Self {
        let mut builder = Self::new(genesis);
        (0..views).for_each(|_| builder.step());
        builder
    }

    fn call(&self) -> Call {
        Call {
            next: self.view.id().next(),
            assemble: fill(u8::try_from(self.view.id().0).expect("few")),
        }
    }

    /// The next reconfiguration, in which all but the last founder have fresh keys, who has one in
    /// every second view.
    fn body(&self) -> (Reconfiguration, [SecretKey; 4]) {
        let (call, chain) = (self.call(), *self.view.chain());
        let mut keys = [0, 1, 2, 3].map(|n| fresh(n, &call));
        let carries = |n: u8| n == 3 && call.next.0.is_multiple_of(2);
        let listed = (0..4).map(|n| Listed {
            identity: identity(n).public(),
            name: format!("member-{n}"),
            address: format!("127.0.0.1:710{n}"),
            weight: 1,
            admitted: KeyProof::make(
                &chain,
                ViewId(0),
                &Digest::ZERO,
                &identity(n),
                &consensus(n),
            ),
        });
        let seats = (0..4).map(|n| {
            let made = &keys[usize::from(n)];
            let proof = KeyProof::make(&chain, call.next, &call.assemble, &identity(n), made);
            NextSeat {
                member: MemberId::of(&identity(n).public()),
                fresh: (!carries(n)).then_some(proof),
            }
        });
        let body = Reconfiguration {
            next: call.next,
            assemble: (self.opened.height.next(), call.assemble),
            members: listed.collect(),
            seats: seats.collect(),
            threshold: None,
        };
        if carries(3) {
            keys[3] = consensus(3);
        }
        (body, keys)
    }

    /// A block of the newest view.
    fn header(&self, body: Digest) -> Header {
        Header {
            height: self.opened.height.plus(10),
            view: self.view.id(),
            body,
            reconfiguration: self.opened,
            ..header(*self.view.chain())
        }
    }

    /// A step over `body`, certified by all who vote now.
    fn over(&self, body: Reconfiguration, change: impl FnOnce(&mut Header)) -> Step {
        let mut header = self.header(body.root());
        change(&mut header);
        Step {
            certificate: certify_by(&self.view, &self.keys, &header),
            header,
            body,
        }
    }

    /// A certified block of the newest view, so far above the one that opened it.
    pub(crate) fn block(
        &self,
        above: u64,
        body: Digest,
        checkpoint: Link,
    ) -> (Header, Certificate) {
        let mut header = self.header(body);
        header.height = self.opened.height.plus(above);
        header.checkpoint = checkpoint;
        let certificate = certify_by(&self.view, &self.keys, &header);
        (header, certificate)
    }

    fn step(&mut self) {
        self.step_with(|_| {});
    }

    /// The next step, whose block is changed before it is certified.
    pub(crate) fn step_with(&mut self, change: impl FnOnce(&mut Header)) {
        let (body, keys) = self.body();
        let step = self.over(body, change);
        self.opened = Link {
            height: step.header.height,
            digest: step.header.digest(),
        };
        let Link { height, digest } = self.opened;
        let view = step
            .body
            .view(self.view.chain(), Opening { height, digest });
        self.view = view.expect("four seats");
        self.keys = keys;
        self.steps.push(step);
    }

    /// A proof of the state in the newest view.
    pub(super) fn proof(&self, genesis: &Genesis) -> StateProof {
        let header = self.header(fill(0x92));
        StateProof {
            certificate: certify_by(&self.view, &self.keys, &header),
            header,
            views: self.steps.clone(),
            ..state_proof(genesis)
        }
    }
}

fn walk(genesis: &Genesis, steps: &[Step]) -> Result<ViewChain, ViewChainError> {
    let mut chain = ViewChain::of(genesis).expect("founders make a view");
    let walked = chain.walk(steps, &Verifier::ed25519());
    if walked.is_err() {
        assert_eq!(
            Ok(chain.clone()),
            ViewChain::of(genesis),
            "a refused walk changes nothing"
        );
    }
    walked.map(|()| chain)
}

#[test]
fn a_chain_of_several_views_is_walked_whole_or_in_stretches() {
    let genesis = full_genesis();
    let builder = Builder::rotated(&genesis, 5);
    let whole = walk(&genesis, &builder.steps).expect("it holds");
    assert_eq!(whole.newest().view, builder.view);
    // Three votes a step; four fresh keys with two proofs each, or three.
    assert_eq!(whole.signatures(), 5 * 3 + 3 * 8 + 2 * 6);
    let mut chain = ViewChain::of(&genesis).expect("a view");
    for stretch in builder.steps.chunks(2) {
        let walked = chain.walk(stretch, &Verifier::ed25519());
        assert_eq!(walked, Ok(()));
    }
    assert_eq!(chain, whole);
    let member = MemberId::of(&identity(2).public());
    assert_eq!(whole.newest().identity(&member), Some(identity(2).public()));
    let seat = whole.newest().view.seat_of(&member).expect("a seat");
    assert_eq!(
        whole.newest().at(seat),
        Some((identity(2).public(), "member-2"))
    );
}

#[test]
fn a_step_is_read_back_from_its_bytes_and_from_no_others() {
    let genesis = full_genesis();
    let step = Builder::rotated(&genesis, 1).steps.remove(0);
    let bytes = step.to_bytes();
    assert_eq!(Step::from_bytes(&bytes), Ok(step));
    assert!(Step::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    assert!(Step::from_bytes(&bytes[1..]).is_err());
}

#[test]
fn a_view_certifies_what_lies_between_its_first_and_its_last_block() {
    let genesis = full_genesis();
    let chain = walk(&genesis, &Builder::rotated(&genesis, 2).steps).expect("it holds");
    for (view, height, may) in [
        (0, 0, false),
        (0, 1, true),
        (0, 10, true),
        (0, 11, false),
        (1, 10, false),
        (1, 11, true),
        (1, 20, true),
        (1, 21, false),
        (2, 20, false),
        (2, 21, true),
        (2, 9_000, true),
        (3, 9_000, false),
    ] {
        let found = chain.certifier(ViewId(view), Height(height));
        assert_eq!(found.is_some(), may, "view {view} height {height}");
    }
}

/// What is done to the last of three steps, or to all of them.
type Change = fn(&Builder, &mut Vec<Step>);

type Case = (&'static str, Change, u64, StepError);

fn steps_out_of_place() -> Vec<Case> {
    vec![
        (
            "a step is missing",
            |_, steps| drop(steps.remove(1)),
            2,
            StepError::OtherView { got: ViewId(2) },
        ),
        (
            "two steps are swapped",
            |_, steps| steps.swap(0, 1),
            1,
            StepError::OtherView { got: ViewId(1) },
        ),
        (
            "a step stands twice",
            |_, steps| steps.push(steps[2].clone()),
            4,
            StepError::OtherView { got: ViewId(2) },
        ),
        (
            "another chain",
            |_, steps| steps[2].header.chain = fill(1),
            3,
            StepError::OtherChain,
        ),
        (
            "another version",
            |_, steps| steps[1].header.version = 2,
            2,
            StepError::OtherChain,
        ),
    ]
}

fn blocks_that_do_not_follow() -> Vec<Case> {
    vec![
        (
            "another opening",
            |b, steps| {
                let body = steps[2].body.clone();
                steps[2] = b.over(body, |header| header.reconfiguration.digest = fill(7));
            },
            3,
            StepError::OtherOpening,
        ),
        (
            "the link of genesis",
            |b, steps| {
                let (body, link) = (steps[2].body.clone(), steps[0].header.reconfiguration);
                steps[2] = b.over(body, |header| header.reconfiguration = link);
            },
            3,
            StepError::OtherOpening,
        ),
        (
            "a block below the opening",
            |b, steps| {
                let (body, opened) = (steps[2].body.clone(), steps[1].header.height);
                steps[2] = b.over(body, |header| header.height = opened);
            },
            3,
            StepError::OtherOpening,
        ),
        (
            "another body",
            |_, steps| steps[2].body.members[0].weight += 1,
            3,
            StepError::OtherBody,
        ),
    ]
}

fn certificates_that_do_not_hold() -> Vec<Case> {
    let bad_signature = StepError::Certificate(CertificateError::BadSignature);
    vec![
        (
            "a certificate of another block",
            |_, steps| steps[2].certificate = steps[1].certificate.clone(),
            3,
            StepError::OtherHeader,
        ),
        (
            "votes of another kind",
            |_, steps| steps[0].certificate.ballot.kind = Kind::Accept,
            1,
            StepError::OtherHeader,
        ),
        (
            "a certificate of another view",
            |_, steps| steps[2].certificate.ballot.view = ViewId(1),
            3,
            StepError::Certificate(CertificateError::OtherView {
                got: ViewId(1),
                want: ViewId(2),
            }),
        ),
        (
            "a signature of another member",
            |_, steps| steps[1].certificate.signatures.swap(0, 1),
            2,
            bad_signature.clone(),
        ),
        (
            "fewer than a quorum",
            |_, steps| {
                steps[2].certificate.signatures.pop();
                steps[2].certificate.signers = [0, 1].map(Seat).into_iter().collect();
            },
            3,
            StepError::Certificate(CertificateError::NoQuorum { have: 2, need: 3 }),
        ),
        (
            "the first fault is named, whatever comes behind it",
            |_, steps| {
                steps[0].certificate.signatures.swap(0, 1);
                steps[2].header.chain = fill(1);
            },
            1,
            bad_signature,
        ),
    ]
}

#[test]
fn every_kind_of_tampering_is_refused_and_the_view_named() {
    let cases = [
        steps_out_of_place(),
        blocks_that_do_not_follow(),
        certificates_that_do_not_hold(),
    ];
    let genesis = full_genesis();
    let mut builder = Builder::rotated(&genesis, 2);
    let before = builder.clone();
    builder.step();
    for (name, change, view, why) in cases.concat() {
        let mut steps = builder.steps.clone();
        change(&before, &mut steps);
        let view = ViewId(view);
        let refused = Err(ViewChainError { view, why });
        assert_eq!(walk(&genesis, &steps), refused, "{name}");
    }
}

#[test]
fn votes_with_keys_of_an_old_view_count_for_nothing() {
    let genesis = full_genesis();
    let mut builder = Builder::rotated(&genesis, 1);
    // The founders' old keys sign as if they sat in view 1 with them.
    let seats = builder.view.seats().iter().zip(0..4);
    let seats = seats.map(|(seat, n)| SeatKey {
        member: seat.member,
        key: Some(consensus(n).public()),
    });
    let chain = *builder.view.chain();
    let forged = View::new(ViewId(1), chain, seats.collect(), &fill(9)).expect("a view");
    (builder.view, builder.keys) = (forged, [0, 1, 2, 3].map(consensus));
    builder.step();
    let why = StepError::Certificate(CertificateError::BadSignature);
    let view = ViewId(2);
    assert_eq!(
        walk(&genesis, &builder.steps),
        Err(ViewChainError { view, why })
    );
}

#[test]
fn a_body_that_nobody_may_vote_for_makes_no_view_though_it_is_certified() {
    type Change = fn(&mut Reconfiguration);
    let cases: Vec<(&str, Change, StepError)> = vec![
        (
            "too few fresh keys",
            |body| body.seats[0].fresh = None,
            StepError::Reconfiguration(ReconfigurationError::TooFewFresh { have: 2, need: 3 }),
        ),
        (
            "another view",
            |body| body.next = ViewId(3),
            StepError::Reconfiguration(ReconfigurationError::OtherView {
                got: ViewId(3),
                want: ViewId(2),
            }),
        ),
        (
            "a seat of nobody on the list",
            |body| drop(body.members.remove(2)),
            StepError::Reconfiguration(ReconfigurationError::Unlisted {
                member: MemberId::of(&identity(2).public()),
            }),
        ),
        (
            "a seat twice",
            |body| body.seats[1] = body.seats[0].clone(),
            StepError::Body(BodyError::Repeated { field: "seat" }),
        ),
        (
            "a key that its member did not certify",
            |body| {
                let proof = body.seats[0].fresh.as_mut().expect("fresh");
                proof.certified.0[0] ^= 1;
            },
            StepError::KeyProof,
        ),
        (
            "a key for another call",
            |body| body.assemble.1 = fill(0x77),
            StepError::KeyProof,
        ),
    ];
    let genesis = full_genesis();
    let builder = Builder::rotated(&genesis, 1);
    for (name, change, why) in cases {
        let (mut body, _) = builder.body();
        change(&mut body);
        let mut steps = builder.steps.clone();
        steps.push(builder.over(body, |_| {}));
        let view = ViewId(2);
        assert_eq!(
            walk(&genesis, &steps),
            Err(ViewChainError { view, why }),
            "{name}"
        );
    }
}

#[test]
fn a_proof_of_a_later_view_holds_with_its_steps_and_with_no_others() {
    let genesis = full_genesis();
    let builder = Builder::rotated(&genesis, 3);
    let proof = builder.proof(&genesis);
    let verify = |proof: &StateProof| proof.verify(&genesis, &Verifier::ed25519()).map(|_| ());
    assert_eq!(verify(&proof), Ok(()));
    let text = Proof::State(proof.clone()).to_json();
    assert_eq!(Proof::from_json(&text), Ok(Proof::State(proof.clone())));
    let mut short = proof.clone();
    short.views.pop();
    let (view, shown) = (ViewId(3), ViewId(2));
    assert_eq!(verify(&short), Err(ProofError::OtherView { view, shown }));
    let mut longer = builder.clone();
    longer.step();
    let mut long = proof.clone();
    long.views = longer.steps;
    let shown = ViewId(4);
    assert_eq!(verify(&long), Err(ProofError::OtherView { view, shown }));
    // Steps that do not belong there are refused in view 0 as well.
    let mut founders = state_proof(&genesis);
    founders.views = proof.views.clone();
    assert!(verify(&founders).is_err());
    let mut swapped = proof;
    swapped.views.swap(0, 1);
    assert!(matches!(verify(&swapped), Err(ProofError::ViewChain(_))));
}

#[test]
fn a_change_of_any_byte_of_a_proof_with_a_step_is_refused() {
    let genesis = full_genesis();
    let root_of = |p: &StateProof| Digest::of(Domain::Map, &[&p.key[..], &p.map].concat());
    let builder = Builder::rotated(&genesis, 1);
    let mut proof = builder.proof(&genesis);
    proof.header.state = Some(root_of(&proof));
    proof.certificate = certify_by(&builder.view, &builder.keys, &proof.header);
    let text = Proof::State(proof).to_json();
    every_change_is_refused(&text, 2, |proof| match proof {
        Proof::State(proof) => proof
            .verify(&genesis, &Verifier::ed25519())
            .map_or(true, |proved| proved.root != root_of(proof)),
        Proof::Transaction(_) => true,
    });
}
