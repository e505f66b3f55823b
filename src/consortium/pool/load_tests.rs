//! What a pool refuses: nothing where little waits, and the rest of an overload before a timer.

use super::tests::{FAR, NOW, admit_within, groups_of, hold_by, one, pool, ready};
use super::*;

/// The progress timeout of these tests, and half of it.
const TIMEOUT: Span = Span::from_ms(500);
const PATIENCE: Span = Span::from_ms(250);
/// Transactions in a group.
const GROUP: u64 = 50;

/// A ledger with a server that does `capacity` groups per second, and a pool before it.
struct Model {
    pool: Pool,
    now: Time,
    capacity: u64,
    height: Height,
    /// What executes, until when.
    block: Option<(Time, Vec<Digest>, usize)>,
    offered: u64,
    admitted: u64,
    executed: usize,
    /// When each batch was admitted.
    since: BTreeMap<Digest, Time>,
    sojourn_most: Span,
    retry_most: u64,
}

impl Model {
    fn new(capacity: u64) -> Self {
        Self {
            pool: pool(),
            now: NOW,
            capacity,
            height: Height(0),
            block: None,
            offered: 0,
            admitted: 0,
            executed: 0,
            since: BTreeMap::new(),
            sojourn_most: Span(0),
            retry_most: 0,
        }
    }

    /// Runs `ms` milliseconds while clients offer `rate` groups per second.
    fn run(&mut self, ms: u64, rate: u64) {
        let (start, before) = (self.now, self.offered);
        for _ in 0..ms {
            self.now.0 += 1_000;
            while self.offered - before < (self.now - start).as_ms() * rate / 1_000 {
                self.offer();
            }
            self.serve();
        }
    }

    fn offer(&mut self) {
        self.offered += 1;
        let named: Vec<_> = (0..GROUP).map(|n| (n, FAR)).collect();
        let group = groups_of(u16::try_from(self.offered).expect("few"), &named, 100);
        match admit_within(&mut self.pool, group, self.now, PATIENCE) {
            Ok(()) => self.admitted += 1,
            Err(Denied::Busy { retry_after_ms }) => {
                self.retry_most = self.retry_most.max(retry_after_ms);
            }
            Err(other) => panic!("{other}"),
        }
        for batch in self.pool.flush() {
            self.since.insert(batch.digest, self.now);
            hold_by(&mut self.pool, &batch.digest, &[1, 2]);
        }
    }

    /// Ends the block whose time is over, and begins the next with all that fits.
    fn serve(&mut self) {
        if let Some((_, batches, groups)) = self.block.take_if(|(end, ..)| *end <= self.now) {
            self.height = self.height.next();
            self.pool.commit(self.height, &batches);
            let block = Committed {
                batches: &batches,
                bytes: groups * 6_300,
                transactions: groups * 50,
            };
            self.pool.measure(self.now, Span::from_ms(500), &block);
            self.executed += groups;
            for batch in &batches {
                let since = self.since.remove(batch).expect("it was admitted");
                self.sojourn_most = self.sojourn_most.max(self.now - since);
            }
        }
        let picked = self.pool.pick(2 << 20, usize::MAX);
        if self.block.is_some() || picked.is_empty() {
            return;
        }
        let batches: Vec<Digest> = picked.iter().map(BatchRef::digest).collect();
        let groups = batches
            .iter()
            .map(|d| self.pool.get(d).expect("here").groups.len());
        let groups: usize = groups.sum();
        self.pool.mark_proposed(self.height.next(), &batches);
        let took = 8_000 + 1_000_000 * groups as u64 / self.capacity;
        self.block = Some((Time(self.now.0 + took), batches, groups));
    }
}

#[test]
fn an_overload_is_refused_before_a_timer_trips_and_the_ledger_goes_on_at_its_speed() {
    for (capacity, percent) in [(100, 150), (100, 300), (1_000, 150), (1_000, 300)] {
        let mut model = Model::new(capacity);
        model.run(10_000, capacity * percent / 100);
        let (executed, least) = (model.executed as u64, capacity * 10 * 8 / 10);
        assert!(
            executed >= least,
            "{percent} %: {executed} of {capacity} a second"
        );
        let most = model.sojourn_most;
        assert!(most <= TIMEOUT, "{percent} %: a batch took {most}");
        assert!((RETRY_AFTER_MS..=RETRY_AFTER_MS_MAX).contains(&model.retry_most));
    }
}

#[test]
fn after_an_overload_everything_is_admitted_at_once() {
    let mut model = Model::new(100);
    model.run(5_000, 300);
    model.run(400, 0);
    assert!(
        model.pool.is_empty(),
        "what was admitted is through in less than a timeout"
    );
    let before = (model.offered, model.admitted);
    model.run(5_000, 50);
    assert_eq!(model.admitted - before.1, model.offered - before.0);
}

#[test]
fn a_load_within_capacity_is_never_refused() {
    for percent in [1, 20, 50, 80] {
        let mut model = Model::new(200);
        model.run(10_000, 200 * percent / 100);
        assert_eq!(model.admitted, model.offered, "at {percent} %");
    }
}

#[test]
fn a_ledger_that_stands_still_admits_no_more_than_it_could_order_in_time() {
    let mut model = Model::new(100);
    model.run(5_000, 150);
    model.block = Some((Time(u64::MAX), Vec::new(), 0));
    let before = model.admitted;
    model.run(5_000, 150);
    assert!(
        model.admitted - before <= 25,
        "{} more",
        model.admitted - before
    );
}

#[test]
fn a_member_with_nothing_under_way_admits_whatever_was_measured() {
    let mut pool = pool();
    pool.load.applied(NOW, 1, 1);
    for step in 1..100 {
        pool.load.applied(Time(NOW.0 + step * 1_000_000), 1, 1); // a byte a second
    }
    assert!(pool.load.wait(1) >= PATIENCE);
    let group = |of| groups_of(of, &[(1, FAR)], 100);
    assert_eq!(admit_within(&mut pool, group(1), NOW, PATIENCE), Ok(()));
    let refused = admit_within(&mut pool, group(2), NOW, PATIENCE);
    assert!(matches!(refused, Err(Denied::Busy { .. })));
}

#[test]
fn a_ledger_that_was_slow_for_long_is_found_out_when_it_is_fast_again() {
    let mut pool = pool();
    pool.load.applied(NOW, 1, 1);
    for step in 1..100 {
        pool.load.applied(Time(NOW.0 + step * 1_000_000), 1, 1); // a byte a second
    }
    // From now on each block takes all there is, which is little: more is refused.
    for step in 0..100 {
        pool.load
            .applied(Time(NOW.0 + 100_000_000 + step * 10_000), 6_000, 0);
    }
    assert!(
        pool.load.wait(6_000) <= PATIENCE,
        "{}",
        pool.load.wait(6_000)
    );
}

#[test]
fn the_backlog_of_one_origin_does_not_close_another_member() {
    let mut pool = pool();
    for sequence in 0..200 {
        ready(&mut pool, 1, &one(1, sequence, 100_000));
    }
    for of in 2..20 {
        let group = groups_of(of, &[(1, FAR)], 100);
        assert_eq!(admit_within(&mut pool, group, NOW, PATIENCE), Ok(()));
    }
}

#[test]
fn a_pause_of_the_ledger_measures_nothing() {
    let mut pool = pool();
    pool.load.applied(NOW, 1, 1 << 20);
    pool.load.applied(Time(NOW.0 + 100_000), 1 << 20, 1 << 20);
    let before = pool.load.wait(1 << 20);
    pool.excuse();
    pool.load
        .applied(Time(NOW.0 + 60_000_000), 1 << 10, 1 << 20);
    assert_eq!(pool.load.wait(1 << 20), before);
}
