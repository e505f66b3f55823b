//! The pool keeps what it admitted until it is committed, within its bounds and fair over origins.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::blocks::{Batch, FORMAT_VERSION, Genesis, Parameters, Transaction, codec};
use crate::committee::{SeatKey, ViewId};
use crate::crypto::{Domain, PublicKey, Signature};

const SEATS: u8 = 4;
pub(super) const NOW: Time = Time(1_000_000);
/// Longer than anything waits.
const PATIENCE: Span = Span::from_ms(1_000_000);
/// The expiry of a transaction that is to stay.
pub(super) const FAR: u64 = 90;

pub(super) fn member(number: u8) -> MemberId {
    MemberId(Digest([number; 32]))
}

fn view(id: u64) -> View {
    let seat = |number: u8| SeatKey {
        member: member(number),
        key: Some(PublicKey(Digest([number ^ 0x80; 32]))),
    };
    let seats = (0..SEATS).map(seat).collect();
    View::new(ViewId(id), Digest::ZERO, seats, &Digest::ZERO).expect("seats are distinct")
}

/// A pool of member 0 among `members_count`, in a view of four: quorum 3.
fn pool_among(members_count: usize) -> Pool {
    let options = Options {
        me: member(0),
        members_count,
        batch_bytes_max: 1 << 20,
        window: 8,
    };
    Pool::new(options, &view(0))
}

pub(super) fn pool() -> Pool {
    pool_among(SEATS.into())
}

fn ledger() -> Ledger {
    Ledger::genesis(&Genesis {
        version: FORMAT_VERSION,
        name: "test".into(),
        founded_us: 0,
        parameters: Parameters {
            expiry_blocks_max: 100,
            ..Parameters::default()
        },
        founders: Vec::new(),
        successor_of: None,
    })
}

/// A group of one transaction whose operation has `bytes` bytes.
fn group(of: u16, sequence: u64, expiry: u64, bytes: usize) -> (SignedGroup, Group) {
    groups_of(of, &[(sequence, expiry)], bytes)
}

pub(super) fn groups_of(of: u16, named: &[(u64, u64)], bytes: usize) -> (SignedGroup, Group) {
    let [low, high] = of.to_le_bytes();
    let mut key = [low; 32];
    key[0] = high;
    let transactions: Vec<Transaction> = named
        .iter()
        .map(|(sequence, expiry)| Transaction {
            sequence: *sequence,
            expiry: Height(*expiry),
            operation: Bytes::from(vec![7; bytes]),
        })
        .collect();
    let signed = SignedGroup {
        client: PublicKey(Digest(key)),
        bytes: Bytes::from(codec::encode(&transactions)),
        signature: Signature([9; 64]),
    };
    let group = Group {
        client: signed.client,
        digest: signed.digest(),
        transactions,
    };
    (signed, group)
}

fn batch(groups: Vec<(SignedGroup, Group)>) -> Verified<CheckedBatch> {
    let (signed, groups) = groups.into_iter().unzip();
    let bytes = Bytes::from(codec::encode(&Batch { groups: signed }));
    Verified::vouch(CheckedBatch {
        digest: Digest::of(Domain::Batch, &bytes),
        bytes,
        groups,
    })
}

/// A batch of one transaction whose operation has `bytes` bytes.
pub(super) fn one(of: u16, sequence: u64, bytes: usize) -> Verified<CheckedBatch> {
    batch(vec![group(of, sequence, FAR, bytes)])
}

fn admit(pool: &mut Pool, group: (SignedGroup, Group)) -> Result<(), Denied> {
    admit_within(pool, group, NOW, PATIENCE)
}

pub(super) fn admit_within(
    pool: &mut Pool,
    group: (SignedGroup, Group),
    now: Time,
    patience: Span,
) -> Result<(), Denied> {
    pool.admit(Verified::vouch(group), &ledger(), now, patience)
}

pub(super) fn hold_by(pool: &mut Pool, digest: &Digest, seats: &[u16]) {
    seats.iter().for_each(|seat| pool.hold(digest, Seat(*seat)));
}

/// Adds a batch of `origin` and lets a quorum hold it.
pub(super) fn ready(pool: &mut Pool, origin: u8, batch: &Verified<CheckedBatch>) -> Digest {
    assert_eq!(pool.add(member(origin), batch.clone(), NOW), Taken::New);
    hold_by(pool, &batch.digest, &[1, 2]);
    batch.digest
}

fn picked(pool: &Pool, bytes_target: usize) -> Vec<Digest> {
    let picked = pool.pick(bytes_target, 100);
    picked.iter().map(BatchRef::digest).collect()
}

const BUSY: Result<(), Denied> = Err(Denied::Busy {
    retry_after_ms: RETRY_AFTER_MS,
});

#[test]
fn admitted_groups_travel_together_in_one_batch_that_others_accept() {
    let mut pool = pool();
    let groups = vec![group(1, 1, FAR, 10), group(2, 1, FAR, 20)];
    for group in &groups {
        assert_eq!(admit(&mut pool, group.clone()), Ok(()));
    }
    assert!(pool.has_work() && !pool.is_full());
    assert_eq!(pool.flush(), [batch(groups)]);
    assert!(pool.flush().is_empty());
    assert_eq!((pool.len(), pool.admitted()), (1, 2));
}

#[test]
fn a_group_that_is_here_is_accepted_without_a_second_copy() {
    let mut pool = pool();
    for _ in 0..2 {
        assert_eq!(admit(&mut pool, group(1, 1, FAR, 10)), Ok(()));
    }
    pool.flush();
    assert_eq!(admit(&mut pool, group(1, 1, FAR, 10)), Ok(()));
    assert!(pool.flush().is_empty());
    assert_eq!(pool.admitted(), 1);
}

#[test]
fn equal_bytes_of_two_clients_are_two_groups() {
    let mut pool = pool();
    for client in [1, 2] {
        assert_eq!(admit(&mut pool, group(client, 1, FAR, 10)), Ok(()));
    }
    assert_eq!(pool.admitted(), 2);
}

#[test]
fn what_can_never_execute_is_not_admitted() {
    let mut pool = pool();
    for expiry in [0, 101] {
        let got = admit(&mut pool, group(1, 1, expiry, 10));
        assert!(
            matches!(got, Err(Denied::Expired { .. })),
            "{expiry}: {got:?}"
        );
    }
    assert!(pool.is_empty());
}

#[test]
fn a_batch_at_its_size_is_due_and_no_batch_exceeds_it() {
    let mut pool = pool();
    for sequence in 0..3 {
        assert!(!pool.is_full());
        admit(&mut pool, group(1, sequence, FAR, 100_000)).expect("there is room");
    }
    assert!(pool.is_full());
    let batches = pool.flush();
    let counts: Vec<usize> = batches.iter().map(|b| b.groups.len()).collect();
    assert_eq!(counts, [2, 1]);
    assert!(batches.iter().all(|b| b.bytes.len() <= BATCH_BYTES_TARGET));
}

#[test]
fn one_client_has_a_share_but_at_least_one_group() {
    let mut pool = pool();
    let share = POOL_TRANSACTIONS_MAX / CLIENT_SHARE;
    let many = |at: u64| {
        let named: Vec<(u64, u64)> = (0..250).map(|i| (at * 1000 + i, FAR)).collect();
        groups_of(1, &named, 1)
    };
    let admitted = (0..100)
        .take_while(|at| admit(&mut pool, many(*at)).is_ok())
        .count();
    assert_eq!(admitted, share / 250);
    assert_eq!(admit(&mut pool, many(1000)), BUSY);
    assert_eq!(admit(&mut pool, group(2, 1, FAR, 1)), Ok(()));

    // Among so many members a share is smaller than one group, and one group still enters.
    let mut crowded = pool_among(100_000);
    assert_eq!(admit(&mut crowded, group(1, 1, FAR, 900_000)), Ok(()));
    assert_eq!(admit(&mut crowded, group(1, 2, FAR, 1)), BUSY);
}

#[test]
fn a_full_pool_is_busy_until_something_is_committed() {
    let mut pool = pool();
    let many = |client: u16| {
        let named: Vec<(u64, u64)> = (0..250).map(|i| (i, FAR)).collect();
        groups_of(client, &named, 1)
    };
    let admitted = (0..1000)
        .take_while(|client| admit(&mut pool, many(*client)).is_ok())
        .count();
    assert_eq!(admitted, POOL_TRANSACTIONS_MAX / 250);
    assert_eq!(admit(&mut pool, group(5000, 1, FAR, 1)), BUSY);
    let first = pool.flush().remove(0).digest;
    assert_eq!(admit(&mut pool, group(5000, 1, FAR, 1)), BUSY);
    pool.commit(Height(1), &[first]);
    assert_eq!(admit(&mut pool, group(5000, 1, FAR, 1)), Ok(()));
}

#[test]
fn a_batch_goes_by_name_once_a_quorum_holds_it() {
    let mut pool = pool();
    let large = one(1, 1, INLINE_BYTES_MAX);
    assert_eq!(pool.add(member(1), large.clone(), NOW), Taken::New);
    assert!(!pool.has_work() && !pool.has_choice());
    for (seat, is_ready) in [(0, false), (1, false), (1, false), (2, true)] {
        pool.hold(&large.digest, Seat(seat));
        assert_eq!(pool.has_ready(), is_ready, "after seat {seat}");
    }
    assert_eq!(pool.pick(1, 9), [BatchRef::Named(large.digest)]);
    assert!(pool.has_work());
}

#[test]
fn acknowledgements_ahead_of_their_batch_count() {
    let mut pool = pool();
    let large = one(1, 1, INLINE_BYTES_MAX);
    hold_by(&mut pool, &large.digest, &[2, 3]);
    pool.add(member(1), large.clone(), NOW);
    assert!(pool.has_ready());
}

#[test]
fn acknowledgements_of_nothing_push_out_only_those_of_the_same_seat() {
    let mut pool = pool();
    let large = one(1, 1, INLINE_BYTES_MAX);
    hold_by(&mut pool, &large.digest, &[2, 3]);
    for number in 0..=EARLY_MAX as u64 {
        pool.hold(&Digest::of(Domain::Audit, &number.to_le_bytes()), Seat(3));
    }
    pool.add(member(1), large.clone(), NOW);
    assert!(!pool.has_ready());
    pool.hold(&large.digest, Seat(1));
    assert!(pool.has_ready());
}

#[test]
fn small_batches_ride_inline_up_to_their_bound_and_by_name_when_held() {
    let mut pool = pool();
    let size = INLINE_BYTES_MAX / 2 - 200;
    let batches: Vec<_> = (0..3).map(|sequence| one(1, sequence, size)).collect();
    for batch in &batches {
        pool.add(member(1), batch.clone(), NOW);
    }
    let inline = |at: usize| BatchRef::Inline(batches[at].bytes.clone());
    assert_eq!(pool.pick(1 << 20, 9), [inline(0), inline(1)]);
    hold_by(&mut pool, &batches[0].digest, &[1, 2]);
    let named = BatchRef::Named(batches[0].digest);
    assert_eq!(pool.pick(1 << 20, 9), [named, inline(1), inline(2)]);
}

#[test]
fn a_flood_of_one_origin_does_not_hold_up_another() {
    let mut pool = pool();
    let flood: Vec<Digest> = (0..50)
        .map(|sequence| ready(&mut pool, 1, &one(1, sequence, 1000)))
        .collect();
    let late = ready(&mut pool, 2, &one(2, 0, 1000));
    assert_eq!(picked(&pool, 3_500), [flood[0], late, flood[1]]);
    assert_eq!(picked(&pool, 1), [flood[0]], "the oldest goes first");
}

#[test]
fn a_pick_stays_within_its_target_but_gives_one_at_least() {
    let mut pool = pool();
    for sequence in 0..9 {
        ready(&mut pool, 1, &one(1, sequence, 1000));
    }
    let size = one(1, 0, 1000).bytes.len();
    for (target, want) in [(0, 1), (size, 1), (2 * size - 1, 1), (2 * size, 2)] {
        assert_eq!(picked(&pool, target).len(), want, "target {target}");
    }
    assert_eq!(pool.pick(usize::MAX, 5).len(), 5);
}

#[test]
fn what_is_proposed_is_not_picked_again_until_its_proposal_falls() {
    let mut pool = pool();
    let first = ready(&mut pool, 1, &one(1, 1, 10));
    let second = ready(&mut pool, 1, &one(1, 2, 10));
    pool.mark_proposed(Height(5), &[first]);
    assert_eq!(picked(&pool, 9999), [second]);
    pool.mark_proposed(Height(6), &[second]);
    assert!(picked(&pool, 9999).is_empty());
    assert!(pool.has_work(), "proposed is not committed");
    pool.unpropose_above(Height(5));
    assert_eq!(picked(&pool, 9999), [second]);
    pool.mark_proposed(Height(5), &[second]);
    assert_eq!(
        picked(&pool, 9999),
        [first],
        "another proposal replaces the first"
    );
}

#[test]
fn a_commit_frees_what_the_height_named_and_did_not_order() {
    let mut pool = pool();
    let lost = ready(&mut pool, 1, &one(1, 1, 10));
    let ordered = ready(&mut pool, 1, &one(1, 2, 10));
    pool.mark_proposed(Height(5), &[lost]);
    pool.commit(Height(5), &[ordered]);
    assert_eq!(picked(&pool, 9999), [lost]);
    assert!(pool.get(&ordered).is_none());
}

#[test]
fn a_late_copy_of_a_committed_batch_stays_out() {
    let mut pool = pool();
    let early = one(1, 1, 10);
    ready(&mut pool, 1, &early);
    assert_eq!(pool.add(member(2), early.clone(), NOW), Taken::Known);
    pool.commit(Height(1), &[early.digest]);
    assert_eq!(pool.add(member(2), early.clone(), NOW), Taken::Late);
    let never_here = one(1, 2, 10);
    pool.commit(Height(2), &[never_here.digest]);
    assert_eq!(pool.add(member(1), never_here, NOW), Taken::Late);
    assert!(pool.is_empty() && !pool.has_work());
}

#[test]
fn an_origin_over_its_share_is_refused_unless_a_proposal_names_the_batch() {
    let mut pool = pool_among(ORIGINS_BYTES_MAX / (4 << 20));
    let batches: Vec<_> = (0..5).map(|s| one(1, s, 1_000_000)).collect();
    let taken = |pool: &mut Pool, at: usize| pool.add(member(1), batches[at].clone(), NOW);
    for at in 0..4 {
        assert_eq!(taken(&mut pool, at), Taken::New);
    }
    assert_eq!(taken(&mut pool, 4), Taken::OverQuota);
    assert_eq!(pool.refused(), 1);
    assert_eq!(pool.add(member(2), one(2, 0, 1_000_000), NOW), Taken::New);
    pool.mark_proposed(Height(1), &[batches[4].digest]);
    assert_eq!(pool.missing(&[batches[4].digest; 2]), [batches[4].digest]);
    assert_eq!(taken(&mut pool, 4), Taken::New);
    assert!(pool.missing(&[batches[4].digest]).is_empty());
    pool.commit(Height(1), &[batches[4].digest, batches[0].digest]);
    pool.add(member(1), one(1, 9, 1_000_000), NOW);
    assert_eq!(pool.refused(), 1);
}

#[test]
fn another_view_counts_its_own_acknowledgements() {
    let mut pool = pool();
    let large = one(1, 1, INLINE_BYTES_MAX);
    ready(&mut pool, 1, &large);
    pool.install(&view(1));
    assert!(!pool.has_ready());
    assert_eq!(pool.held().collect::<Vec<_>>(), [large.digest]);
    hold_by(&mut pool, &large.digest, &[2, 3]);
    assert!(pool.has_ready());
}

#[test]
fn expired_groups_and_batches_leave_and_others_stay() {
    let mut pool = pool();
    let mixed = batch(vec![group(2, 1, 3, 10), group(2, 2, 5, 10)]);
    ready(&mut pool, 1, &mixed);
    admit(&mut pool, group(1, 1, 3, 10)).expect("there is room");
    let stays = group(1, 2, 4, 10);
    admit(&mut pool, stays.clone()).expect("there is room");
    assert!(pool.expire(Height(2)).is_empty());
    assert_eq!(pool.admitted(), 2);
    assert!(pool.expire(Height(3)).is_empty());
    assert_eq!(pool.flush(), [batch(vec![stays.clone()])]);
    assert_eq!(pool.expire(Height(4)), [batch(vec![stays]).digest]);
    assert_eq!(pool.admitted(), 0);
    assert_eq!(pool.expire(Height(5)), [mixed.digest]);
    assert!(pool.is_empty() && !pool.has_work() && !pool.has_choice());
}

#[test]
fn an_expired_batch_of_an_open_proposal_stays_until_it_falls() {
    let mut pool = pool();
    let old = batch(vec![group(2, 1, 3, 10)]);
    ready(&mut pool, 1, &old);
    pool.mark_proposed(Height(4), &[old.digest]);
    assert!(pool.expire(Height(3)).is_empty());
    assert!(pool.get(&old.digest).is_some());
    pool.unpropose_above(Height(3));
    assert_eq!(pool.expire(Height(3)), [old.digest]);
}

#[test]
fn the_very_same_batch_of_another_member_becomes_ours_too() {
    let mut pool = pool();
    let same = batch(vec![group(1, 1, FAR, 10)]);
    pool.add(member(2), same.clone(), NOW);
    assert!(!pool.has_work());
    admit(&mut pool, group(1, 1, FAR, 10)).expect("there is room");
    assert_eq!(pool.flush(), std::slice::from_ref(&same));
    assert!(pool.has_work());
    assert_eq!((pool.len(), pool.own().count()), (1, 1));
    pool.commit(Height(1), &[same.digest]);
    assert_eq!((pool.len(), pool.admitted()), (0, 0));
}

#[test]
fn groups_offered_again_after_their_commit_travel_in_a_batch_of_another_name() {
    let mut pool = pool();
    let first = batch(vec![group(1, 1, FAR, 10)]);
    pool.commit(Height(1), &[first.digest]);
    admit(&mut pool, group(1, 1, FAR, 10)).expect("there is room");
    let again = batch(vec![group(1, 1, FAR, 10), group(1, 1, FAR, 10)]);
    assert_eq!(pool.flush(), std::slice::from_ref(&again));
    pool.commit(Height(2), &[again.digest]);
    assert_eq!((pool.len(), pool.admitted()), (0, 0));

    let large = batch(vec![group(1, 2, FAR, 900_000)]);
    pool.commit(Height(3), &[large.digest]);
    admit(&mut pool, group(1, 2, FAR, 900_000)).expect("there is room");
    assert!(pool.flush().is_empty(), "twice is too large");
    assert!(pool.is_empty() && !pool.has_work());
}

#[test]
fn a_committed_batch_that_is_proposed_again_is_taken_once_more_and_leaves_with_its_proposal() {
    let mut pool = pool();
    let again = one(1, 1, 10);
    pool.commit(Height(1), &[again.digest]);
    pool.mark_proposed(Height(2), &[again.digest]);
    assert_eq!(pool.add(member(1), again.clone(), NOW), Taken::New);
    assert!(pool.get(&again.digest).is_some());
    pool.unpropose_above(Height(1));
    assert!(pool.is_empty() && !pool.has_choice());
}

#[test]
fn a_batch_that_two_open_heights_name_stays_until_both_are_applied() {
    let mut pool = pool();
    let twice = ready(&mut pool, 1, &one(1, 1, 10));
    pool.mark_proposed(Height(1), &[twice]);
    pool.mark_proposed(Height(2), &[twice]);
    pool.commit(Height(1), &[twice]);
    assert!(pool.get(&twice).is_some());
    pool.commit(Height(2), &[twice]);
    assert!(pool.is_empty());
}

#[test]
fn a_batch_from_before_a_restart_is_ours_again_and_is_counted() {
    let mut pool = pool();
    let saved = batch(vec![group(1, 1, FAR, 10), group(2, 1, FAR, 10)]);
    for _ in 0..2 {
        pool.restore(saved.clone(), NOW);
    }
    assert_eq!((pool.len(), pool.admitted()), (1, 2));
    assert_eq!(admit(&mut pool, group(1, 1, FAR, 10)), Ok(()));
    assert!(pool.flush().is_empty());
    pool.commit(Height(1), &[saved.digest]);
    assert_eq!((pool.len(), pool.admitted(), pool.bytes()), (0, 0, 0));
}

#[test]
fn the_oldest_wait_counts_from_admission() {
    let mut pool = pool();
    let later = NOW + Span(500);
    assert_eq!(pool.oldest_wait(later), None);
    admit(&mut pool, group(1, 1, FAR, 10)).expect("there is room");
    assert_eq!(pool.oldest_wait(later), Some(Span(500)));
    let own = pool.flush().remove(0).digest;
    assert_eq!(pool.oldest_wait(later), Some(Span(500)));
    pool.add(member(1), one(2, 1, 10), later);
    pool.commit(Height(1), &[own]);
    assert_eq!(pool.oldest_wait(later), None, "nobody here waits for it");
}

/// What happens to a pool.
#[derive(Clone, Debug)]
enum Act {
    Admit(u16, u64),
    Flush,
    Add(u8, u64),
    Hold(usize, u16),
    Propose(u64),
    Fall(u64),
    Commit,
    NextView,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..4u16, 0..20u64).prop_map(|(client, at)| Act::Admit(client, at)),
        2 => Just(Act::Flush),
        3 => (1..4u8, 0..20u64).prop_map(|(origin, at)| Act::Add(origin, at)),
        4 => (0..8usize, 0..4u16).prop_map(|(at, seat)| Act::Hold(at, seat)),
        3 => (0..4u64).prop_map(Act::Propose),
        1 => (0..4u64).prop_map(Act::Fall),
        2 => Just(Act::Commit),
        1 => Just(Act::NextView),
    ]
}

/// A pool, what it must still have, and the proposals that are open.
struct World {
    pool: Pool,
    height: Height,
    admitted: BTreeSet<(PublicKey, Digest)>,
    open: BTreeMap<Height, Vec<Digest>>,
    views: u64,
}

impl World {
    fn act(&mut self, act: Act) {
        match act {
            Act::Admit(client, at) => {
                let group = group(client, at, FAR, 20);
                let name = (group.1.client, group.1.digest);
                admit(&mut self.pool, group).expect("there is room");
                self.admitted.insert(name);
            }
            Act::Flush => drop(self.pool.flush()),
            Act::Add(origin, at) => {
                let of = u16::from(origin) % 3;
                self.pool.add(member(origin), one(of, at, 20), NOW);
            }
            Act::Hold(at, seat) => {
                let held = self.pool.held().nth(at);
                if let Some(digest) = held {
                    self.pool.hold(&digest, Seat(seat));
                }
            }
            Act::Propose(ahead) => {
                let height = self.height.plus(1 + ahead);
                self.pool.unpropose_above(height.minus(1));
                let picked = picked(&self.pool, 300);
                self.pool.mark_proposed(height, &picked);
                self.open.split_off(&height);
                self.open.insert(height, picked);
            }
            Act::Fall(ahead) => {
                let height = self.height.plus(ahead);
                self.pool.unpropose_above(height);
                self.open.split_off(&height.next());
            }
            Act::Commit => {
                self.height = self.height.next();
                let digests = self.open.remove(&self.height).unwrap_or_default();
                for digest in &digests {
                    let batch = self.pool.get(digest).expect("what is proposed is here");
                    for group in &batch.groups {
                        self.admitted.remove(&(group.client, group.digest));
                    }
                }
                self.pool.commit(self.height, &digests);
                self.pool.expire(self.height);
            }
            Act::NextView => {
                self.views += 1;
                self.pool.install(&view(self.views));
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_admitted_is_lost_before_its_commit(
        acts in prop::collection::vec(act(), 1..120),
    ) {
        let mut world = World {
            pool: pool(),
            height: Height(0),
            admitted: BTreeSet::new(),
            open: BTreeMap::new(),
            views: 0,
        };
        for act in acts {
            world.act(act);
            let proposed: Vec<Digest> = world.open.values().flatten().copied().collect();
            let next = picked(&world.pool, usize::MAX);
            prop_assert!(next.iter().all(|digest| !proposed.contains(digest)));
        }
        // Everything admitted and not committed can be ordered to the end.
        let World { mut pool, mut height, mut admitted, .. } = world;
        pool.flush();
        pool.unpropose_above(height);
        while pool.has_choice() {
            let next = picked(&pool, 1000);
            for digest in &next {
                let batch = pool.get(digest).expect("what is picked is here");
                for group in &batch.groups {
                    admitted.remove(&(group.client, group.digest));
                }
            }
            height = height.next();
            pool.commit(height, &next);
        }
        prop_assert!(admitted.is_empty(), "lost: {:?}", admitted);
        prop_assert!(pool.is_empty() && !pool.has_work());
        prop_assert_eq!((pool.admitted(), pool.bytes()), (0, 0));
    }
}
