//! How much one newcomer gets, and for how long something is kept for it.
//!
//! Source: token buckets; leases as in design, 'checkpoints and bootstrap'. In: who asks, bytes
//! that were sent, the time. Out: whether to answer, and below which height nothing may go.
//! Holds: a short ask pulls no more than its sender's share; a lease ends by itself, and no member
//! holds one for ever; both tables are bounded.
//! Elsewhere: who is a member (the driver), pruning (the driver).

use std::collections::BTreeMap;

use crate::committee::{Height, MemberId};
use crate::machine::{Span, Time};

/// Newcomers whose share is counted, at most; a further one waits until another is forgotten.
pub const QUOTA_PEERS_MAX: usize = 256;
/// Leases, at most; a further newcomer gets none, and may find nothing any more.
pub const LEASES_MAX: usize = 64;
/// How long a lease lasts behind the last ask.
pub const LEASE: Span = Span::from_ms(60_000);
/// How long one newcomer may hold one snapshot in all.
pub const LEASE_TOTAL_MAX: Span = Span::from_ms(6 * 3_600_000);

/// What each thing that is asked for costs where the answer is shorter: whoever asks for much that
/// is not here makes work all the same.
pub const ASK_BYTES: usize = 4 << 10;

/// The size of shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaOptions {
    /// Bytes per second for one newcomer, at most and about.
    pub bytes_per_second: u64,
    /// Bytes per second for all of them together, about; those who ask now have equal parts of it.
    pub total_bytes_per_second: u64,
    /// Bytes that one may get at once after a pause, where that is not more than a quarter of what
    /// all get in a second.
    pub burst_bytes: u64,
}

impl Default for QuotaOptions {
    fn default() -> Self {
        Self {
            bytes_per_second: 64 << 20,
            total_bytes_per_second: 256 << 20,
            burst_bytes: 16 << 20,
        }
    }
}

/// What one newcomer may still get; below zero after an answer that was larger.
#[derive(Clone, Copy, Debug)]
struct Share {
    bytes: i64,
    at: Time,
}

/// What newcomers may get.
#[derive(Debug)]
pub struct Quota {
    options: QuotaOptions,
    /// Of those who asked not long ago.
    shares: BTreeMap<MemberId, Share>,
}

impl Quota {
    /// Nobody has asked yet.
    pub fn new(options: QuotaOptions) -> Self {
        Self {
            options,
            shares: BTreeMap::new(),
        }
    }

    /// Whether to answer `who` now; else how long it has to wait: an ask may be kept that long, or
    /// be dropped, as it is made again.
    pub fn admit(&mut self, now: Time, who: MemberId) -> Result<(), Span> {
        self.refill(now);
        if !self.shares.contains_key(&who) && self.shares.len() >= QUOTA_PEERS_MAX {
            return Err(Span::from_ms(1_000));
        }
        let fresh = Share {
            bytes: self.full(),
            at: now,
        };
        let share = self.shares.entry(who).or_insert(fresh);
        if share.bytes > 0 {
            return Ok(());
        }
        let owed = share.bytes.unsigned_abs() + 1;
        let wait = u128::from(owed) * 1_000_000 / u128::from(self.rate());
        Err(Span(u64::try_from(wait).unwrap_or(u64::MAX).max(1)))
    }

    /// So many bytes were sent to `who`, who asked for so many things.
    pub fn spend(&mut self, who: &MemberId, things: usize, bytes: usize) {
        if let Some(share) = self.shares.get_mut(who) {
            let price = bytes.max(things.max(1).saturating_mul(ASK_BYTES));
            let price = i64::try_from(price).unwrap_or(i64::MAX);
            share.bytes = share.bytes.saturating_sub(price);
        }
    }

    /// Newcomers whose share is counted.
    pub fn count(&self) -> usize {
        self.shares.len()
    }

    /// Bytes per second by which each share grows: nobody's haste makes another wait.
    fn rate(&self) -> u64 {
        let part = self.options.total_bytes_per_second / self.shares.len().max(1) as u64;
        part.min(self.options.bytes_per_second).max(1)
    }

    fn full(&self) -> i64 {
        let most = self.options.total_bytes_per_second / 4;
        i64::try_from(self.options.burst_bytes.min(most).max(1)).unwrap_or(i64::MAX)
    }

    /// Shares grow; one that is whole again is forgotten.
    fn refill(&mut self, now: Time) {
        let (rate, full) = (self.rate(), self.full());
        self.shares.retain(|_, share| {
            let grown = u128::from((now - share.at).0) * u128::from(rate) / 1_000_000;
            if grown > 0 {
                let grown = i64::try_from(grown).unwrap_or(i64::MAX);
                share.bytes = share.bytes.saturating_add(grown).min(full);
                share.at = now;
            }
            share.bytes < full
        });
    }
}

/// A snapshot that is kept for one newcomer.
#[derive(Clone, Copy, Debug)]
struct Lease {
    height: Height,
    since: Time,
    last: Time,
}

impl Lease {
    fn is_alive(&self, now: Time) -> bool {
        now - self.last < LEASE && now - self.since < LEASE_TOTAL_MAX
    }
}

/// Which snapshots are kept for newcomers.
#[derive(Debug, Default)]
pub struct Leases {
    held: BTreeMap<MemberId, Lease>,
    /// When each height was held first: members that take turns hold it no longer than one does.
    first: BTreeMap<Height, Time>,
}

impl Leases {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// `who` asks for the snapshot of `height`, which is here; whether it is kept for it. A
    /// newcomer that asks for a higher one gives the lower one up.
    pub fn hold(&mut self, now: Time, who: MemberId, height: Height) -> bool {
        // One that was held too long stays in the table as long as it is asked for.
        self.held.retain(|_, lease| now - lease.last < LEASE);
        let is_full = self.held.len() >= LEASES_MAX;
        let since = *self.first.entry(height).or_insert(now);
        if self.first.len() > LEASES_MAX {
            self.first.pop_first();
        }
        let fresh = Lease {
            height,
            since,
            last: now,
        };
        match self.held.get_mut(&who) {
            Some(lease) if lease.height == height => lease.last = now,
            Some(lease) if lease.height < height => *lease = fresh,
            Some(_) => return false,
            None if is_full => return false,
            None => {
                self.held.insert(who, fresh);
            }
        }
        let lease = self.held.get(&who);
        lease.is_some_and(|lease| lease.is_alive(now))
    }

    /// The lowest snapshot that is kept for somebody: it, and every block above it, must stay.
    pub fn floor(&self, now: Time) -> Option<Height> {
        let alive = self.held.values().filter(|lease| lease.is_alive(now));
        alive.map(|lease| lease.height).min()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.held.len()
    }
}
