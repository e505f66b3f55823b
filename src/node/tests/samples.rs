//! Members of one process on loopback of whom a sample sits.
//!
//! Source: design of views, the beacon. In: temporary folders, free ports. Out: verdicts.
//! Holds: no port is named. Elsewhere: the same under faults (`sim`), replicas alone
//! (`consortium`).

use super::cluster::{PATIENCE, prepare_as, put, start, verified_in};
use crate::blocks::{Body, Parameters, ViewRules};
use crate::committee::{Height, MemberId, Risk};
use crate::node::init::member_dir;
use crate::node::{Node, Promise};

/// Who was drawn for each view by a beacon, as the member's disk has it.
fn drawn(node: &Node) -> Vec<Vec<MemberId>> {
    let handle = node.handle();
    let heights = (1..=handle.tip().header.height.0).map(Height);
    let body = |height| {
        handle
            .block(height)
            .expect("readable")
            .map(|block| block.body)
    };
    let drawn = heights.filter_map(|height| match body(height) {
        Some(Body::Assemble(body)) => body.beacon.map(|_| body.committee),
        _ => None,
    });
    drawn.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_sample_of_the_members_is_drawn_by_a_beacon_for_each_view() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let views = ViewRules {
        rotation_blocks: 8,
        everyone_below: 5,
        risk: Risk {
            byzantine_ppm: 100_000,
            crashed_ppm: 0,
            ..ViewRules::default().risk
        },
        ..ViewRules::default()
    };
    let parameters = Parameters {
        views,
        ..Parameters::default()
    };
    let (sockets, _) = prepare_as(folder.path(), (5, 0), parameters);
    let started = sockets.into_iter().enumerate();
    let nodes: Vec<Node> = started
        .map(|(number, socket)| start(folder.path(), number, Some(socket)).expect("it starts"))
        .collect();
    let draws = async {
        for sequence in 1.. {
            let node = &nodes[usize::try_from(sequence).expect("small") % nodes.len()];
            put(node, sequence, 1, Promise::Durable).await;
            if sequence % 16 == 0 && drawn(&nodes[0]).len() >= 3 {
                break;
            }
        }
    };
    let patience = tokio::time::timeout(PATIENCE, draws);
    patience.await.expect("three draws in time");
    let drawn = drawn(&nodes[0]);
    assert!(drawn.iter().all(|seats| seats.len() == 4), "{drawn:?}");
    for node in nodes {
        node.shutdown().expect("a clean end");
    }
    let verdicts = (0..5).map(|number| verified_in(member_dir(folder.path(), number)));
    let verdicts: Vec<_> = verdicts.map(|verified| verified.faults).collect();
    assert_eq!(verdicts, vec![Vec::new(); 5]);
}
