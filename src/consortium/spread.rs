//! Spreading batches: own ones again and again, and who holds which.
//!
//! Source: `ARCHITECTURE.md`. In: batches that are held. Out: acknowledgements, batches.
//! Holds: what is not committed is spread again, ever more seldom while nothing moves; who holds
//! a batch for long tells everybody.
//! Elsewhere: which batches there are (`pool`), giving them to who is back (`catchup`).

use super::DIGESTS_MAX;
use super::contract::Timer;
use super::message::Message;
use super::replica::{Consortium, Out};
use crate::crypto::Digest;
use crate::machine::{Span, To};

/// How long after it was spread an own batch that is not committed is spread again.
const SPREAD: Span = Span::from_ms(1_000);
/// Own batches that are spread again at once.
const SPREAD_MAX: usize = 8;
/// The wait doubles so often, at most.
const SPREAD_ROUNDS_MAX: u32 = 5;
/// How long a batch may take to be ordered before its holders tell everybody.
const ECHO: Span = Span::from_ms(150);

impl Consortium {
    pub(super) fn acknowledge(&mut self, digest: Digest, out: &mut Out) {
        let leader = self.view.member(self.ordering.regency().1);
        if let Some(leader) = leader.filter(|leader| *leader != self.options.me) {
            out.send(To::One(leader), Message::Held(vec![digest]));
        }
    }

    /// Batches that are still here after a while: everybody learns that we hold them. Once a quorum
    /// does, they are work for all, so a leader that does nothing with them is replaced by all.
    pub(super) fn say_held(&mut self, out: &mut Out) {
        let untold = std::mem::take(&mut self.untold);
        let held: Vec<Digest> = untold
            .into_iter()
            .filter(|d| self.pool.get(d).is_some())
            .collect();
        for digests in held.chunks(DIGESTS_MAX) {
            out.send(To::Committee, Message::Held(digests.to_vec()));
        }
    }

    pub(super) fn note_held(&mut self, digest: Digest, out: &mut Out) {
        if self.untold.is_empty() {
            out.arm(Timer::Held, ECHO);
        }
        self.untold.insert(digest);
    }

    fn tell_held(&self, digest: Digest, out: &mut Out) {
        out.send(To::Committee, Message::Held(vec![digest]));
    }

    pub(super) fn arm_spread(&mut self, out: &mut Out) {
        if self.spread_again.is_none() && self.pool.own().next().is_some() {
            self.spread_again = Some(0);
            out.arm(Timer::Spread, SPREAD);
        }
    }

    /// Own batches are still not committed: what was sent may be lost. Whoever holds one
    /// acknowledges it again; while nothing commits they are spread less and less often.
    pub(super) fn spread_more(&mut self, out: &mut Out) {
        let rounds = self.spread_again.take().unwrap_or_default();
        // Each time the next few: were the oldest of no use to anybody, the rest would wait for
        // ever.
        let own: Vec<_> = self.to_spread().cloned().collect();
        let turn = own.iter().cycle().skip(self.spread_turn % own.len().max(1));
        for batch in turn.take(own.len().min(SPREAD_MAX)) {
            out.send(To::Committee, Message::Batch(batch.bytes.clone()));
            self.tell_held(batch.digest, out);
        }
        self.spread_turn = self.spread_turn.wrapping_add(SPREAD_MAX);
        if self.pool.own().next().is_some() {
            let rounds = (rounds + 1).min(SPREAD_ROUNDS_MAX);
            self.spread_again = Some(rounds);
            out.arm(Timer::Spread, Span(SPREAD.0 << rounds));
        }
    }

    /// A block that is not empty was applied: the ledger moves, so what is still here is spread
    /// again as soon as in the beginning.
    pub(super) fn progressed(&mut self, out: &mut Out) {
        if self.spread_again.is_some_and(|rounds| rounds > 0) {
            self.spread_again = Some(0);
            out.arm(Timer::Spread, SPREAD);
        }
    }
}
