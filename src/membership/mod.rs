//! Membership: the [`Overlay`] contract, the overlays, and the list that the chain certifies.
//!
//! Source: `ARCHITECTURE.md`, the two lists. In: the certified [`List`], what links report, signed
//! messages. Out: messages, deliveries, suspicion.
//! Holds: an overlay may only narrow the certified list, never widen it; every message is signed
//! by its origin's identity key and checked where it arrives.
//! Elsewhere: who votes (`committee`), sockets (`net`), what a delivery means (`consortium`).

mod budget;
mod envelope;
mod full_gossip;
mod list;
pub mod register;
mod registry;

use bytes::Bytes;

pub use self::envelope::{CONTENT_BYTES_MAX, ENVELOPE_BYTES_MAX};
pub use self::list::{
    CHANGES_KEPT_MAX, Change, ChangeKind, List, ListError, Listed, MissedError, Roster,
};
pub use self::register::Status;
pub use self::registry::{OverlayRegistration, OverlayRegistry, OverlayRegistryError, overlays};
use crate::committee::MemberId;
use crate::crypto::{Digest, PublicKey, SecretKey, Verifier};
use crate::machine::{Span, Time};

/// What an overlay is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverlayInput {
    /// The certified list, as often as it changes; the first comes before anything else.
    Members(Vec<(MemberId, PublicKey)>),
    /// A new link to this member stands, or the last one fell; until told, none stands. For a
    /// member that is not listed it is ignored: tell it again when the list has it.
    Reachable(MemberId, bool),
    /// Spread this to every listed member; it is not delivered here.
    Broadcast(Bytes),
    /// A link brought bytes; `from` is authenticated by the link, the bytes are not checked.
    Message {
        /// Who sent it.
        from: MemberId,
        /// What it says.
        bytes: Bytes,
    },
    /// A timer that was armed has run out; a late one is harmless.
    Timer(u64),
}

/// What an overlay wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverlayOutput {
    /// Send to one listed member.
    Send {
        /// Whom to.
        to: MemberId,
        /// What.
        bytes: Bytes,
    },
    /// Run `timer` out after `after`; arming it again replaces it.
    Arm {
        /// What it guards; numbered by the overlay.
        timer: u64,
        /// How long from now.
        after: Span,
    },
    /// Forget a timer.
    Cancel(u64),
    /// A listed member's broadcast arrived; its signature holds, and it comes once.
    Deliver {
        /// Who broadcast it.
        origin: MemberId,
        /// What.
        bytes: Bytes,
    },
    /// A listed member is not to be reached now.
    Suspect(MemberId),
    /// A suspected member is reached again.
    Trust(MemberId),
    /// A member broke a rule; at most once in [`FAULT_EVERY`] for each member.
    Fault(OverlayFault),
}

/// Misbehaviour that an overlay noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlayFault {
    /// The member at fault: the one whose link it was, or the origin where its signature says so.
    pub who: MemberId,
    /// What it did.
    pub what: OverlayFaultKind,
}

/// The kinds of misbehaviour that overlays notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OverlayFaultKind {
    /// Bytes that no correct member sends.
    BadMessage,
    /// A signature does not hold.
    BadSignature,
    /// More than its share.
    Flood,
}

/// A member's faults are reported this often at most; all are counted.
pub const FAULT_EVERY: Span = Span::from_ms(10_000);

/// What an overlay did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverlayStats {
    /// Messages given to links.
    pub sent: u64,
    /// Broadcasts that were delivered.
    pub delivered: u64,
    /// Messages that were known already.
    pub repeated: u64,
    /// Messages dropped since a bound was reached.
    pub dropped: u64,
    /// Messages dropped since they break a rule, and those of members that are not listed.
    pub refused: u64,
}

/// What an overlay is made from.
#[derive(Clone, Debug)]
pub struct OverlaySetup {
    /// The chain; everything that an overlay signs names it.
    pub chain: Digest,
    /// The identity key of this member.
    pub identity: SecretKey,
    /// The signature scheme.
    pub verifier: Verifier,
    /// Where all chance comes from; drawn by the driver.
    pub seed: [u8; 32],
    /// Higher than every counter that this member ever signed with: others take one that was used
    /// before for a repeat and drop it. The node gives `milliseconds since the Unix epoch << 20` of
    /// its start, which also rises over a lost disk.
    pub first_counter: u64,
}

/// Knows who is reached and spreads messages to everybody who is listed.
pub trait Overlay: Send {
    /// The name it is registered under.
    fn name(&self) -> &'static str;

    /// Takes one input at `now` and appends what it wants done to `out`.
    ///
    /// It never fails and never blocks: what a member says wrongly is dropped and counted.
    fn handle(&mut self, now: Time, input: OverlayInput, out: &mut Vec<OverlayOutput>);

    /// What it did so far.
    fn stats(&self) -> OverlayStats;
}

/// An overlay that a node's configuration can name.
#[derive(Debug)]
pub struct OverlayPlugin {
    /// Its name: lower-case letters, digits and hyphens.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Makes one.
    pub make: fn(OverlaySetup) -> Box<dyn Overlay>,
}

#[cfg(test)]
mod tests;
