//! What a proposal, a body, a header, a genesis document and a batch must satisfy before they
//! count.

use bytes::Bytes;

use super::fixtures::*;
use crate::blocks::Link;
use crate::blocks::body::{Assemble, Beacon, Checkpoint, Freeze};
use crate::blocks::*;
use crate::committee::*;
use crate::crypto::{Digest, Domain, Signature, Verifier};

fn view() -> View {
    full_genesis().view().expect("founders make a view")
}

type Change<T> = Box<dyn Fn(&mut T)>;

fn change<T>(f: impl Fn(&mut T) + 'static) -> Change<T> {
    Box::new(f)
}

fn named(count: usize) -> Vec<BatchRef> {
    let digest = |n: usize| Digest::of(Domain::Batch, &n.to_le_bytes());
    (0..count).map(|n| BatchRef::Named(digest(n))).collect()
}

fn inline(length: usize) -> BatchRef {
    BatchRef::Inline(Bytes::from(vec![1; length]))
}

fn batches(batches: Vec<BatchRef>) -> Change<Proposal> {
    change(move |p: &mut Proposal| p.body = Body::Transactions(batches.clone()))
}

fn carrying(f: impl Fn(&mut Certificate) + 'static) -> Change<Proposal> {
    change(move |p: &mut Proposal| f(p.carried.as_mut().expect("it carries one")))
}

#[test]
fn a_proposal_is_judged_by_its_bytes_and_the_view() {
    let view = view();
    let good = proposal(&view, Some(certify(&view, Height(8), fill(1))));
    assert_eq!(good.check(&view, Height(9), 32), Ok(()));
    let (got, want) = (Height(10), Height(9));
    let same = inline(3);
    let twice = vec![BatchRef::Named(same.digest()), same.clone()];
    let repeated = same.digest();
    let too_long = INLINE_BYTES_MAX + 1;
    use ProposalError::*;
    let cases: Vec<(Change<Proposal>, ProposalError)> = vec![
        (change(|p: &mut Proposal| p.version = 2), OtherChain),
        (change(|p: &mut Proposal| p.chain = fill(9)), OtherChain),
        (change(|p: &mut Proposal| p.view = ViewId(1)), OtherChain),
        (
            change(|p: &mut Proposal| p.height = Height(10)),
            OtherHeight { got, want },
        ),
        (batches(named(257)), TooManyBatches { got: 257 }),
        (batches(twice), Repeated { digest: repeated }),
        (batches(vec![inline(0)]), Inline { bytes: 0 }),
        (batches(vec![inline(too_long)]), Inline { bytes: too_long }),
        (
            change(|p: &mut Proposal| p.body = crate::blocks::Body::Genesis(fill(1))),
            Body(BodyError::Genesis),
        ),
        (carrying(|c| c.ballot.kind = Kind::Accept), Carried),
        (carrying(|c| c.ballot.regency = Regency(1)), Carried),
        (carrying(|c| c.ballot.height = Height(9)), Carried),
        (carrying(|c| c.ballot.height = Height(0)), Carried),
        (carrying(|c| c.ballot.view = ViewId(1)), Carried),
    ];
    for (index, (change, expected)) in cases.iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(
            bad.check(&view, Height(9), 32).as_ref(),
            Err(expected),
            "case {index}"
        );
    }
    for fine in [named(256), vec![inline(INLINE_BYTES_MAX)], vec![]] {
        let mut good = good.clone();
        good.body = crate::blocks::Body::Transactions(fine);
        assert_eq!(good.check(&view, Height(9), 32), Ok(()));
    }
}

#[test]
fn ordering_stays_within_reach_of_a_block_certificate() {
    let view = view();
    let mut far = proposal(&view, Some(certify(&view, Height(8), fill(1))));
    far.height = Height(40);
    assert_eq!(far.check(&view, Height(40), 32), Ok(()));
    far.height = Height(41);
    let (carried, most) = (Height(8), 32);
    let refused = far.check(&view, Height(41), 32);
    assert_eq!(refused, Err(ProposalError::TooFarAhead { carried, most }));
    far.height = Height(u64::MAX);
    assert!(far.check(&view, Height(u64::MAX), u32::MAX).is_err());
    let mut first = proposal(&view, None);
    first.height = Height(32);
    assert_eq!(
        first.check(&view, Height(32), 32),
        Ok(()),
        "genesis needs no certificate"
    );
    first.height = Height(0);
    assert!(
        first.check(&view, Height(0), 32).is_err(),
        "genesis is not voted on"
    );
}

#[test]
fn the_first_proposal_of_a_view_carries_the_certificate_that_made_it() {
    let view_0 = view();
    let seats = view_0.seats().to_vec();
    let opening = Opening {
        height: Height(8),
        digest: fill(1),
    };
    let view_1 = View::new(ViewId(1), *view_0.chain(), seats, view_0.chain());
    let view_1 = view_1.expect("a view").opened_by(opening);
    let of_0 = certify(&view_0, Height(8), fill(1));
    let other = proposal(&view_1, Some(certify(&view_0, Height(8), fill(2))));
    assert_eq!(
        other.check(&view_1, Height(9), 32),
        Err(ProposalError::Carried)
    );
    let good = proposal(&view_1, Some(of_0.clone()));
    assert_eq!(good.check(&view_1, Height(9), 32), Ok(()));
    let without = proposal(&view_1, None);
    assert_eq!(
        without.check(&view_1, Height(9), 32),
        Err(ProposalError::Carried)
    );
    let seats = view_0.seats().to_vec();
    let view_2 = View::new(ViewId(2), *view_0.chain(), seats, view_0.chain()).expect("a view");
    let old = proposal(&view_2, Some(of_0));
    assert_eq!(
        old.check(&view_2, Height(9), 32),
        Err(ProposalError::Carried)
    );
}

#[test]
fn control_bodies_keep_their_bounds_and_repeat_nothing() {
    for (name, body) in bodies() {
        let expected = match name {
            "genesis" => Err(BodyError::Genesis),
            _ => Ok(()),
        };
        assert_eq!(body.check(), expected, "{name}");
    }
    let assemble = |committee: Vec<MemberId>| {
        let next = ViewId(1);
        let (beacon, seed) = (None, fill(1));
        Body::Assemble(Assemble {
            next,
            beacon,
            seed,
            committee,
        })
        .check()
    };
    let id = |n: usize| MemberId(Digest::of(Domain::Member, &n.to_le_bytes()));
    let bounds = |field| Err(BodyError::Bounds { field });
    let repeated = |field| Err(BodyError::Repeated { field });
    assert_eq!(assemble(vec![]), bounds("seats"));
    assert_eq!(
        assemble((0..SEATS_MAX + 1).map(id).collect()),
        bounds("seats")
    );
    assert_eq!(assemble((0..SEATS_MAX).map(id).collect()), Ok(()));
    assert_eq!(assemble(vec![id(1), id(2), id(1)]), repeated("seat"));
    let reconfigured = |change: fn(&mut body::Reconfiguration)| {
        let (_, mut body) = bodies().remove(4);
        if let Body::Reconfiguration(body) = &mut body {
            change(body);
        }
        body.check()
    };
    let member = reconfigured(|b| b.members.push(b.members[0].clone()));
    assert_eq!(member, repeated("member"));
    let key = reconfigured(|b| b.seats[1].fresh = b.seats[0].fresh);
    assert_eq!(key, repeated("key"));
    let identity_votes = reconfigured(|b| {
        let proof = b.seats[0].fresh.as_mut().expect("a fresh key");
        proof.key = b.members[0].identity;
    });
    assert_eq!(identity_votes, repeated("key"));
    assert_eq!(reconfigured(|b| b.members.clear()), bounds("members"));
    let long = reconfigured(|b| b.members[0].name = "n".repeat(NAME_BYTES_MAX + 1));
    assert_eq!(long, bounds("member"));
    assert_eq!(
        reconfigured(|b| b.threshold = Some(Bytes::new())),
        bounds("threshold")
    );
    let checkpoint = |change: fn(&mut Checkpoint)| {
        let (_, mut body) = bodies().remove(5);
        if let Body::Checkpoint(body) = &mut body {
            change(body);
        }
        body.check()
    };
    assert_eq!(
        checkpoint(|b| b.votes.push(Signature([0; 64]))),
        bounds("votes")
    );
    assert_eq!(
        checkpoint(|b| (b.votes, b.signers) = (vec![], SeatSet::default())),
        bounds("votes")
    );
}

#[test]
fn a_missing_beacon_and_an_empty_one_have_two_roots() {
    let root = |beacon| {
        let (next, seed, committee) = (ViewId(1), fill(1), vec![]);
        Body::Assemble(Assemble {
            next,
            beacon,
            seed,
            committee,
        })
        .root()
    };
    let freeze = Link {
        height: Height(0),
        digest: Digest::ZERO,
    };
    let signature = Bytes::new();
    let empty = Beacon { freeze, signature };
    assert_ne!(root(None), root(Some(empty)));
}

#[test]
fn a_last_vote_is_never_read_as_a_compact_signature() {
    let (_, body) = bodies().remove(5);
    let Body::Checkpoint(mut one) = body else {
        unreachable!("the sixth body of the fixtures is a checkpoint")
    };
    // A faulty seat's signature that looks like a flag and a length, and the rest of it as that
    // many bytes.
    let mut vote = [0x77; 64];
    vote[..9].copy_from_slice(&[1, 64, 0, 0, 0, 0, 0, 0, 0]);
    one.votes = vec![Signature(vote)];
    one.compact = None;
    let mut two = one.clone();
    two.votes.clear();
    two.compact = Some(Bytes::from([&vote[9..], &[0; 9]].concat()));
    assert_ne!(Body::Checkpoint(one).root(), Body::Checkpoint(two).root());
}

#[test]
fn roots_tell_kinds_and_fields_apart() {
    let mut roots: Vec<_> = bodies().iter().map(|(_, body)| body.root()).collect();
    let freeze = |next, list| {
        Body::Freeze(Freeze {
            next: ViewId(next),
            list,
        })
        .root()
    };
    roots.extend([freeze(1, fill(1)), freeze(2, fill(1)), freeze(1, fill(2))]);
    let distinct: std::collections::BTreeSet<_> = roots.iter().collect();
    assert_eq!(distinct.len(), roots.len());
}

#[test]
fn an_inline_batch_and_its_name_have_one_root() {
    let batch = inline(100);
    let by_name = BatchRef::Named(batch.digest());
    let root = |batch| Body::Transactions(vec![batch]).root();
    assert_eq!(root(batch), root(by_name));
}

/// A header, its parent, the parent's digest and the link that names the parent.
fn two_headers() -> (Header, Header, Digest, Link) {
    let parent = header(fill(0xc1));
    let digest = parent.digest();
    let good = Header {
        height: parent.height.next(),
        previous: digest,
        timestamp_us: parent.timestamp_us + 1,
        ..parent.clone()
    };
    let height = parent.height;
    (good, parent, digest, Link { height, digest })
}

#[test]
fn a_header_follows_its_parent_in_every_field() {
    let (good, parent, digest, before) = two_headers();
    let (height, tip) = (good.height, parent.height);
    let (got, want) = (fill(1), digest);
    let other_parent = LinkError::Parent { height, got, want };
    let got = Height(11);
    let gap = LinkError::Gap { tip, got };
    let stranger = Link {
        height: Height(4),
        digest: fill(9),
    };
    let linked: Vec<(Change<Header>, LinkError)> = vec![
        (change(|h: &mut Header| h.height = Height(11)), gap),
        (
            change(|h: &mut Header| h.chain = fill(1)),
            LinkError::OtherChain,
        ),
        (
            change(|h: &mut Header| h.version = 2),
            LinkError::OtherChain,
        ),
        (change(|h: &mut Header| h.previous = fill(1)), other_parent),
    ];
    let stepped: Vec<(Change<Header>, &str)> = vec![
        (change(|h: &mut Header| h.timestamp_us -= 1), "timestamp"),
        (change(|h: &mut Header| h.receipts.size = 4), "receipts"),
        (
            change(|h: &mut Header| h.receipts.root = fill(1)),
            "receipts",
        ),
        (
            change(move |h: &mut Header| h.checkpoint = stranger),
            "checkpoint",
        ),
        (
            change(move |h: &mut Header| h.reconfiguration = stranger),
            "view",
        ),
        (change(|h: &mut Header| h.view = ViewId(1)), "view"),
        (
            change(move |h: &mut Header| h.reconfiguration = before),
            "view",
        ),
    ];
    let stepped = stepped
        .into_iter()
        .map(|(change, field)| (change, LinkError::Step { height, field }));
    assert_eq!(good.follows(&parent, &digest), Ok(()));
    for (index, (change, expected)) in linked.into_iter().chain(stepped).enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(bad.follows(&parent, &digest), Err(expected), "case {index}");
    }
}

#[test]
fn back_links_move_to_the_block_before_and_a_view_with_its_reconfiguration() {
    let (good, parent, digest, before) = two_headers();
    let checkpointed = Header {
        checkpoint: before,
        ..good.clone()
    };
    assert_eq!(checkpointed.follows(&parent, &digest), Ok(()));
    let next_view = Header {
        view: ViewId(1),
        reconfiguration: before,
        ..good
    };
    assert_eq!(next_view.follows(&parent, &digest), Ok(()));
    let (height, field) = (next_view.height, "view");
    let two_views = Header {
        view: ViewId(2),
        ..next_view
    };
    let refused = Err(LinkError::Step { height, field });
    assert_eq!(two_views.follows(&parent, &digest), refused);
}

#[test]
fn the_first_header_follows_genesis() {
    let genesis = full_genesis().header();
    let digest = genesis.digest();
    let link = Link {
        height: Height(0),
        digest,
    };
    let first = Header {
        height: Height(1),
        previous: digest,
        timestamp_us: genesis.timestamp_us + 1,
        checkpoint: link,
        reconfiguration: link,
        ..genesis.clone()
    };
    assert_eq!(first.follows(&genesis, &digest), Ok(()));
}

#[test]
fn a_header_binds_every_field() {
    let base = header(fill(0xc1));
    let changes: Vec<Change<Header>> = vec![
        change(|h: &mut Header| h.version = 2),
        change(|h: &mut Header| h.chain = fill(1)),
        change(|h: &mut Header| h.height = Height(1)),
        change(|h: &mut Header| h.view = ViewId(1)),
        change(|h: &mut Header| h.previous = fill(1)),
        change(|h: &mut Header| h.body = fill(1)),
        change(|h: &mut Header| h.receipts.size = 1),
        change(|h: &mut Header| h.receipts.root = fill(1)),
        change(|h: &mut Header| h.state = None),
        change(|h: &mut Header| h.state = Some(Digest::ZERO)),
        change(|h: &mut Header| h.timestamp_us = 1),
        change(|h: &mut Header| h.checkpoint.height = Height(1)),
        change(|h: &mut Header| h.checkpoint.digest = fill(1)),
        change(|h: &mut Header| h.reconfiguration.height = Height(1)),
        change(|h: &mut Header| h.reconfiguration.digest = fill(1)),
    ];
    let mut digests = std::collections::BTreeSet::from([base.digest()]);
    for change in &changes {
        let mut header = base.clone();
        change(&mut header);
        assert!(digests.insert(header.digest()));
    }
}

#[test]
fn a_genesis_document_is_refused_for_each_broken_rule() {
    let good = full_genesis();
    assert_eq!(good.check(), Ok(()));
    let name = || "member-1".to_string();
    let bad = |change: fn(&mut Genesis)| {
        let mut genesis = full_genesis();
        change(&mut genesis);
        genesis.check().expect_err("a broken rule")
    };
    assert_eq!(bad(|g| g.version = 2), GenesisError::Version { got: 2 });
    assert!(matches!(bad(|g| g.name.clear()), GenesisError::Name { .. }));
    assert!(matches!(
        bad(|g| g.founders[1].name.push('\n')),
        GenesisError::Name { .. }
    ));
    let address = bad(|g| g.founders[1].address = "a".repeat(256));
    assert_eq!(address, GenesisError::Address { name: name() });
    let address = bad(|g| g.founders[1].address = "a b".into());
    assert_eq!(address, GenesisError::Address { name: name() });
    let swapped = bad(|g| g.founders[1].consensus = g.founders[2].consensus);
    assert_eq!(swapped, GenesisError::BadProof { name: name() });
    let votes = bad(|g| {
        let zero = Digest::ZERO;
        let proof = KeyProof::make(&zero, ViewId(0), &zero, &identity(1), &identity(2));
        g.founders[1].consensus = Some(proof);
    });
    assert_eq!(votes, GenesisError::IdentityVotes { name: name() });
    assert!(matches!(bad(|g| g.founders.clear()), GenesisError::View(_)));
    let twice = bad(|g| g.founders[2] = g.founders[1].clone());
    assert!(matches!(twice, GenesisError::View(_)));
    for change in [
        (|g: &mut Genesis| g.parameters.window = 0) as fn(&mut Genesis),
        |g| g.parameters.seal_every = 0,
        |g| g.parameters.ahead_max = 15,
        |g| g.parameters.ahead_max = u32::MAX,
        |g| (g.parameters.window, g.parameters.seal_every) = (u32::MAX, u32::MAX),
        |g| g.parameters.batch_bytes_max = 4 << 20,
        |g| g.parameters.transaction_bytes_max = u32::MAX,
        |g| g.parameters.group_engine.clear(),
        |g| g.parameters.clients = Clients::Listed(vec![client().public(); 2]),
    ] {
        assert!(matches!(bad(change), GenesisError::Parameter { .. }));
    }
    assert!(Genesis::from_json("{}").is_err());
    let unknown = good.to_json().replacen("\"version\"", "\"versions\"", 1);
    assert!(matches!(
        Genesis::from_json(&unknown),
        Err(GenesisError::Json { .. })
    ));
}

#[test]
fn the_chain_id_binds_every_parameter_and_founder() {
    let mut chains = std::collections::BTreeSet::from([full_genesis().chain()]);
    for change in [
        (|g: &mut Genesis| g.version = 2) as fn(&mut Genesis),
        |g| g.name.push('x'),
        |g| g.founded_us += 1,
        |g| g.parameters.application.push('x'),
        |g| g.parameters.committee_engine.push('x'),
        |g| g.parameters.group_engine.push('x'),
        |g| g.parameters.clients = Clients::Open,
        |g| g.parameters.clients = Clients::Listed(vec![]),
        |g| g.parameters.transaction_bytes_max += 1,
        |g| g.parameters.batch_bytes_max += 1,
        |g| g.parameters.seal_every += 1,
        |g| g.parameters.window += 1,
        |g| g.parameters.ahead_max += 1,
        |g| g.parameters.expiry_blocks_max += 1,
        |g| g.parameters.remembered_max += 1,
        |g| g.founders.swap(0, 1),
        |g| g.founders[0].name.push('x'),
        |g| g.founders[0].address.push('x'),
        |g| g.founders[0].identity = client().public(),
        |g| g.founders[0].consensus = None,
        |g| g.founders[0].consensus = g.founders[1].consensus,
    ] {
        let mut genesis = full_genesis();
        change(&mut genesis);
        assert!(chains.insert(genesis.chain()));
    }
}

#[test]
fn a_batch_holds_only_whole_signed_groups_of_bounded_transactions() {
    let genesis = full_genesis();
    let (chain, bounds) = (genesis.chain(), genesis.parameters.bounds());
    let verify = |groups: Vec<SignedGroup>| {
        let bytes = codec::encode(&Batch { groups }).into();
        let batch = CheckedBatch::verify(bytes, &chain, &bounds, &Verifier::ed25519());
        batch.map(|batch| batch.transactions_count())
    };
    let sign = |list: Vec<Transaction>| SignedGroup::sign(&chain, &client(), &list);
    let one = transactions().remove(0);
    let with = |operation: Vec<u8>| Transaction {
        operation: operation.into(),
        ..one.clone()
    };
    assert_eq!(verify(vec![group(&chain), sign(vec![one.clone()])]), Ok(3));
    assert_eq!(verify(vec![]), Err(GroupError::Count { count: 0 }));
    assert_eq!(
        verify(vec![sign(vec![])]),
        Err(GroupError::Count { count: 0 })
    );
    let many = (0..257).map(|sequence| Transaction {
        sequence,
        ..one.clone()
    });
    assert_eq!(
        verify(vec![sign(many.collect())]),
        Err(GroupError::Count { count: 257 })
    );
    assert_eq!(
        verify(vec![sign(vec![with(vec![])])]),
        Err(GroupError::Empty { index: 0 })
    );
    let most = bounds.transaction_bytes_max;
    let (index, bytes) = (0, most + 1);
    let long = verify(vec![sign(vec![with(vec![0; bytes])])]);
    assert_eq!(long, Err(GroupError::TooLong { index, bytes, most }));
    assert_eq!(verify(vec![sign(vec![with(vec![0; most])])]), Ok(1));
    let twice = verify(vec![sign(vec![one.clone(), one.clone()])]);
    assert_eq!(twice, Err(GroupError::Repeated { sequence: 7 }));
    let elsewhere = SignedGroup::sign(&fill(1), &client(), std::slice::from_ref(&one));
    assert_eq!(verify(vec![elsewhere]), Err(GroupError::BadSignature));
    let mut stranger = sign(vec![one]);
    stranger.client = identity(0).public();
    assert_eq!(verify(vec![stranger]), Err(GroupError::BadSignature));
}
