//! The three state machines: normal operation, regency change, view generation.
//!
//! Source: Mod-SMaRt; the Consortium's state maps. In: messages between seats, timers, payloads. Out: decisions.
//! Holds: heights in a bounded window are independent instances; a decided height is decided for ever.
//! Elsewhere: what a payload is and whether it is valid (`consortium`), who signs (`committee::voter`).

mod message;

pub use message::{Heard, Message, MessageError, Payload, Status, Stop, Sync};

/// What a timer of the ordering machines guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Progress in this regency: without it the leader is replaced.
    Progress(crate::committee::Regency),
    /// What was sent may be lost: ask where the others stand.
    Resend,
}
