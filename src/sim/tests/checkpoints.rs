//! Worlds with checkpoints: they prune, and who is too far behind fetches a snapshot.

use super::*;

fn checkpoints(seed: u64, faults: &str, every: u32) -> Options {
    Options {
        checkpoint_blocks: every,
        steps: 100_000,
        ..world(seed, faults)
    }
}

#[test]
fn checkpoints_prune_where_nothing_goes_wrong() {
    for seed in 0..3 {
        let options = Options {
            membership: Some(0),
            ..checkpoints(seed, "none", 20)
        };
        let report = assert_clean(&options);
        assert!(report.blocks > 40, "seed {seed}");
    }
}

#[test]
fn worlds_with_checkpoints_and_faults_order_and_settle() {
    for seed in [1, 2, 12] {
        assert_clean(&checkpoints(seed, "all", 20));
    }
}

#[test]
fn wiped_members_fetch_a_snapshot_beside_liars() {
    let mut fetched = 0;
    for seed in [3, 5, 15, 29, 33] {
        let options = Options {
            membership: Some(12),
            rotation_blocks: 40,
            steps: 200_000,
            ..checkpoints(seed, "all", 8 + seed as u32 % 3 * 12)
        };
        let report = assert_clean(&options);
        fetched += report.faults.get("snapshots fetched").unwrap_or(&0);
    }
    assert!(fetched > 0, "somebody fetched one");
}
