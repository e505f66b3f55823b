//! Checkpoints that a leader orders.

use super::super::message::Extent;
use super::*;
use crate::committee::Taken;

/// The simulator found a leader that was behind: while it executed what it had fetched, a snapshot
/// came open whose votes it held, and it ordered that checkpoint at a height below the snapshot.
#[test]
fn a_leader_that_executes_what_it_fetched_orders_a_checkpoint_behind_all_of_it() {
    CHECKPOINTS.set(CheckpointRules {
        every_blocks: 8,
        ..CheckpointRules::default()
    });
    let mut bench = Bench::new(fresh);
    let leader = (bench.follower() + 3) % 4;
    let other = (leader + 1) % 4;
    bench.cut = vec![leader];
    for sequence in 1..=10 {
        bench.submit(other, sequence);
        bench.pass(if sequence == 1 { 20_000 } else { 200 });
    }
    let top = bench.replicas[other].overview().certified;
    assert!(top > Height(8), "{top}");

    let kept = Kept(&bench.records[other]);
    let blocks = (1..=top.0).map(|height| serve::Archive::block(&kept, Height(height)));
    let blocks: Vec<Block> = blocks.map(|block| block.expect("it was applied")).collect();
    let certificate = serve::Archive::certificate_at_or_after(&kept, top);
    let certificate = certificate.expect("its top is certified");
    let batches = blocks.iter().flat_map(|block| block.body.batches());
    let batches = batches.filter_map(|batch| match batch {
        BatchRef::Named(digest) => serve::Archive::batch(&kept, digest),
        BatchRef::Inline(_) => None,
    });
    let batches: Vec<Bytes> = batches.collect();
    let taken = Taken {
        height: Height(8),
        header: blocks[7].header.digest(),
        manifest: Digest::ZERO,
        state: Digest::ZERO,
        bytes: 1,
        segments: 1,
    };
    let mut messages = vouched(leader, taken);
    messages.extend(
        batches
            .into_iter()
            .map(|bytes| (other, Message::Batch(bytes))),
    );
    let extent = Extent {
        blocks,
        certificate,
    };
    messages.push((other, Message::Extent(extent)));

    bench.frames.clear();
    let ears = bench.replicas[leader].ears();
    for (from, message) in messages {
        let (from, bytes) = (id(from), message.to_bytes());
        let message = ears.hear(&from, &bytes).expect("all of it holds");
        bench.input(leader, Input::Message { from, message });
    }
    assert_eq!(bench.replicas[leader].overview().certified, top);
    // What it proposed before the extent came is another matter.
    let ordered: BTreeSet<_> = proposed(&bench)
        .filter(|(_, kind)| *kind == "checkpoint")
        .collect();
    assert_eq!(ordered, BTreeSet::from([(top.next(), "checkpoint")]));
}

/// Words of all seats but that of `leader` on a snapshot.
fn vouched(leader: usize, taken: Taken) -> Vec<(usize, Message)> {
    let view = genesis().view().expect("a view");
    let vouch = |n| {
        let voter = Voter::new(&view, secret(2, n)).expect("a seat");
        let vote = voter
            .vouch_snapshot(taken)
            .expect("nothing else is vouched");
        (n, Message::Snapshot(*vote))
    };
    (0..4).filter(|n| *n != leader).map(vouch).collect()
}

/// Heights and kinds of what was proposed, all of which whoever heard it takes.
fn proposed(bench: &Bench) -> impl Iterator<Item = (Height, &'static str)> {
    bench.frames.iter().filter_map(|(from, to, message)| {
        let Message::Order(fsm::Message::Propose(_, payload)) = message else {
            return None;
        };
        let heard = bench.replicas[*to]
            .ears()
            .hear(&id(*from), &message.to_bytes());
        assert!(heard.is_ok(), "{:?}", heard.err());
        let proposal = Proposal::from_bytes(&payload.bytes).expect("it was just made");
        Some((proposal.height, proposal.body.kind()))
    })
}
