//! A leader that passes over a batch is reminded and then blamed; a correct one never is.

use super::tests::{NOW, hold_by, one, pool, ready};
use super::*;

const WINDOW: u64 = 8;
/// Blocks that pass before the first reminder of a small batch.
const HALF: u64 = 2 * WINDOW + TURN_BLOCKS_LEAST + 1;
/// No reminder is on its way for longer.
const PATIENCE: Span = Span::from_ms(500);

/// Applies a block of `batches` long after the one before and gives what it leads to.
fn apply(pool: &mut Pool, height: u64, batches: &[Digest]) -> Overtaken {
    let bytes = batches.iter().filter_map(|digest| pool.get(digest));
    let bytes = bytes.map(|batch| batch.bytes.len()).sum();
    apply_at(
        pool,
        NOW + Span(PATIENCE.0 * height),
        height,
        (batches, bytes),
    )
}

/// Applies a block of `batches` with so many bytes.
fn apply_at(
    pool: &mut Pool,
    now: Time,
    height: u64,
    (batches, bytes): (&[Digest], usize),
) -> Overtaken {
    pool.commit(Height(height), batches);
    let block = Committed {
        batches,
        bytes,
        transactions: batches.len(),
    };
    pool.measure(now, PATIENCE, &block)
}

/// Heights of `heights` at which empty blocks lead to reminders, and to complaints.
fn events(pool: &mut Pool, heights: impl Iterator<Item = u64>) -> (Vec<u64>, Vec<u64>) {
    let (mut reminders, mut complaints) = (Vec::new(), Vec::new());
    for height in heights {
        let overtaken = apply(pool, height, &[]);
        if !overtaken.remind.is_empty() {
            reminders.push(height);
        }
        if overtaken.is_complaint {
            complaints.push(height);
        }
    }
    (reminders, complaints)
}

#[test]
fn a_leader_that_passes_over_a_batch_is_reminded_twice_and_then_blamed_again_and_again() {
    let mut pool = pool();
    ready(&mut pool, 1, &one(1, 1, 10));
    let (reminders, complaints) = events(&mut pool, 1..=120);
    let (first, second) = (HALF + 1, HALF + 1 + HALF.div_ceil(2) + 1);
    assert_eq!(reminders[..2], [first, second]);
    let blamed = second + HALF.div_ceil(2) + 1;
    assert_eq!(complaints[0], blamed, "{complaints:?}");
    assert!(blamed > 2 * HALF, "by more than twice its turn");
    assert!(
        complaints.len() <= 2,
        "a complaint begins anew: {complaints:?}"
    );
}

#[test]
fn a_batch_that_is_ordered_is_no_matter_any_more() {
    let mut pool = pool();
    let digest = ready(&mut pool, 1, &one(1, 1, 10));
    events(&mut pool, 1..HALF);
    apply(&mut pool, HALF, &[digest]);
    assert_eq!(events(&mut pool, HALF + 1..500), (vec![], vec![]));
}

#[test]
fn a_batch_that_too_few_hold_is_no_matter() {
    let mut pool = pool();
    let batch = one(1, 1, 10);
    pool.add(MemberId(Digest([1; 32])), batch.clone(), NOW);
    hold_by(&mut pool, &batch.digest, &[1]);
    assert_eq!(events(&mut pool, 1..500), (vec![], vec![]));
}

#[test]
fn blocks_of_an_earlier_regency_and_fetched_ones_count_for_nothing() {
    let mut pool = pool();
    ready(&mut pool, 1, &one(1, 1, 10));
    for start in (0..2_000).step_by(20) {
        assert_eq!(events(&mut pool, start + 1..=start + 20), (vec![], vec![]));
        pool.excuse();
    }
}

#[test]
fn blocks_that_were_proposed_before_the_batch_was_ready_count_for_nothing() {
    let mut pool = pool();
    pool.mark_proposed(Height(40), &[]);
    ready(&mut pool, 1, &one(1, 1, 10));
    assert_eq!(events(&mut pool, 1..=40 + HALF), (vec![], vec![]));
}

#[test]
fn a_leader_that_drains_a_deep_queue_fairly_is_never_blamed() {
    // Four origins, each with a queue of full batches, and one that arrives all the time.
    let mut pool = pool();
    let mut sequence = 0;
    let mut add = |pool: &mut Pool, origin: u8| {
        sequence += 1;
        ready(pool, origin, &one(1, sequence, 250_000));
    };
    (0..400).for_each(|n| add(&mut pool, if n % 10 == 0 { 2 } else { 1 }));
    for height in 1..=400 {
        (0..8).for_each(|n| add(&mut pool, [2, 3][n % 2]));
        let picked = pool.pick(2 << 20, usize::MAX);
        let digests: Vec<Digest> = picked.iter().map(BatchRef::digest).collect();
        let overtaken = apply(&mut pool, height, &digests);
        assert_eq!(overtaken, Overtaken::default(), "at {height}");
        if pool.shelf.used(&MemberId(Digest([1; 32]))) == Weight::default() {
            return;
        }
    }
    panic!("the queue of origin 1 was never drained");
}

#[test]
fn reminders_of_one_block_are_bounded_and_none_is_forgotten() {
    let mut pool = pool();
    for sequence in 0..50 {
        ready(&mut pool, 1, &one(1, sequence, 10));
    }
    let mut reminded = 0;
    for height in 1..=HALF + 8 {
        let count = apply(&mut pool, height, &[]).remind.len();
        assert!(count <= turns::REMIND_MAX);
        reminded += count;
    }
    assert!(reminded >= 50, "{reminded}");
}

#[test]
fn full_blocks_excuse_a_leader_that_got_a_batch_last_of_all_that_its_origin_may_have_there() {
    let mut pool = pool();
    // Its origin gave everybody this one first, and the leader all else that it may have there.
    ready(&mut pool, 1, &one(1, 1, 10));
    let share = pool.options.share();
    let queues = share.bytes as u64 * 4 / BLOCK_BYTES_TARGET as u64;
    for height in 1..=HALF + queues {
        let now = NOW + Span(PATIENCE.0 * height);
        let overtaken = apply_at(&mut pool, now, height, (&[], BLOCK_BYTES_TARGET));
        assert!(!overtaken.is_complaint, "at {height}");
    }
    let (_, complaints) = events(&mut pool, HALF + queues + 1..=2 * HALF + queues + 2);
    assert_eq!(complaints.len(), 1, "blocks with room left have no excuse");
}

#[test]
fn full_blocks_excuse_nobody_for_ever() {
    let mut pool = pool();
    ready(&mut pool, 1, &one(1, 1, 10));
    let most = 3 * HALF + pool.options.allowance(Weight::default(), 4).full;
    let is_blamed = (1..=most).any(|height| {
        let now = NOW + Span(PATIENCE.0 * height);
        apply_at(&mut pool, now, height, (&[], BLOCK_BYTES_TARGET)).is_complaint
    });
    assert!(is_blamed);
}

#[test]
fn blocks_that_outrun_a_reminder_blame_nobody() {
    let mut pool = pool();
    ready(&mut pool, 1, &one(1, 1, 10));
    for height in 1..=20 * HALF {
        let overtaken = apply_at(&mut pool, NOW, height, (&[], 0));
        assert!(!overtaken.is_complaint, "at {height}");
    }
    let next = 20 * HALF + 1;
    let overtaken = apply_at(&mut pool, NOW + PATIENCE, next, (&[], 0));
    assert!(overtaken.is_complaint, "it has had the time");
}
