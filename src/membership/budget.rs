//! How much a member may send: messages and bytes per second, with a burst.
//!
//! Source: the generic cell rate algorithm. In: times and sizes. Out: whether it fits.
//! Holds: over any stretch of time no more passes than the share of that time and one burst.
//! Elsewhere: which share is whose (`full_gossip`).

use crate::machine::{Span, Time};

/// What passes in a second; four seconds of it may pass at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Messages in a second.
    pub(super) messages: u64,
    /// Bytes in a second.
    pub(super) bytes: u64,
}

/// How long a share may be saved up.
const BURST: Span = Span::from_ms(4_000);

/// What was used of a share: until when it is used up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    messages_until: Time,
    bytes_until: Time,
}

impl Budget {
    /// Takes one message of `bytes` from `share`; false when it does not fit, and then nothing is
    /// taken.
    pub(super) fn take(&mut self, now: Time, bytes: usize, share: Share) -> bool {
        let message = Span(1_000_000 / share.messages.max(1));
        let bytes = Span((bytes as u64).saturating_mul(1_000_000) / share.bytes.max(1));
        let messages_until = self.messages_until.max(now) + message;
        let bytes_until = self.bytes_until.max(now) + bytes;
        if messages_until.max(bytes_until) - now > BURST {
            return false;
        }
        (self.messages_until, self.bytes_until) = (messages_until, bytes_until);
        true
    }
}
