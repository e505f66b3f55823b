//! Which counters of an origin were seen: a window that slides with the highest.
//!
//! Source: the anti-replay window of IPsec (RFC 4303, 3.4.3). In: counters whose signature holds.
//! Out: fresh, repeated or too old.
//! Holds: a counter is fresh once; the memory is fixed, whatever an origin sends.
//! Elsewhere: signatures (`envelope`).

/// Counters below the highest that are told apart; what is older counts as repeated.
pub(super) const SEEN_COUNTERS_MAX: u64 = 1024;

const WORDS: usize = (SEEN_COUNTERS_MAX / 64) as usize;

/// The window of one origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    highest: u64,
    /// Bit `counter % 1024` stands for a counter in the window.
    bits: [u64; WORDS],
}

impl Seen {
    /// Whether `counter` was not marked and is not below the window; 0 never is fresh.
    pub(super) fn is_fresh(&self, counter: u64) -> bool {
        if counter > self.highest {
            return true;
        }
        let is_inside = counter > 0 && self.highest - counter < SEEN_COUNTERS_MAX;
        is_inside && !self.bit(counter)
    }

    /// Marks a fresh counter; the window slides up to it.
    pub(super) fn mark(&mut self, counter: u64) {
        assert!(self.is_fresh(counter), "a counter is marked once");
        if counter > self.highest {
            // What enters the window was not seen, whatever its bit said of an older counter.
            let gap = (counter - self.highest).min(SEEN_COUNTERS_MAX);
            for entering in counter - gap + 1..=counter {
                self.set(entering, false);
            }
            self.highest = counter;
        }
        self.set(counter, true);
        assert!(!self.is_fresh(counter), "a marked counter is seen");
    }

    fn bit(&self, counter: u64) -> bool {
        let (word, mask) = Self::place(counter);
        self.bits[word] & mask != 0
    }

    fn set(&mut self, counter: u64, is_seen: bool) {
        let (word, mask) = Self::place(counter);
        if is_seen {
            self.bits[word] |= mask;
        } else {
            self.bits[word] &= !mask;
        }
    }

    fn place(counter: u64) -> (usize, u64) {
        let bit = counter % SEEN_COUNTERS_MAX;
        (
            usize::try_from(bit / 64).expect("a word of the window"),
            1 << (bit % 64),
        )
    }
}
