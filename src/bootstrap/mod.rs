//! Bootstrap: from a genesis document to a whole snapshot, believing nobody.
//!
//! Source: design, 'checkpoints and bootstrap'. In: links, answers of members, timers. Out: asks,
//! proved steps and segments, and whether to restore or to replay.
//! Holds: nothing is taken that certificates do not chain to the root of trust; nobody is voted
//! on; what is held is not asked for again; whoever lies is banned and named; all that a member can
//! make grow is bounded.
//! Elsewhere: putting segments together (`checkpoint`), the disk, restoring and replay (`node`,
//! `sim`, `consortium`).
//!
//! # How a driver runs it
//!
//! [`Bootstrap::new`] takes [`Options`] and what the disk gave back ([`Held`]); then
//! [`Command::Start`]. Links are told by [`Command::Connected`] and [`Command::Disconnected`]. A
//! [`Message`] that came over a link is given as it was decoded: the machine checks bounds and
//! signatures itself, since a member that bootstraps does nothing else. [`Record`]s are saved in
//! order, and are a barrier as everywhere; [`Event::Segment`]s are stored under their digests
//! without one, and are made durable before [`Event::Assembled`] is acted on.
//!
//! # The steps
//!
//! 1. *Root*: the genesis document, or a later [`Pin`]. Until a member has shown the way to the
//!    pinned view nothing below it counts: no step is saved, none on the disk is used, and no
//!    target. Then the walk begins along the views that lead there, and no others.
//! 2. *Walk*: one member after another is asked for the steps behind the newest proved view; at the
//!    end all are, and whoever has another step there sends it: two that both hold are a fork, and
//!    the end ([`Event::Forked`]), as nothing but people can tell which is true. So keys of an old
//!    view that were not erased lead a newcomer nowhere, as long as one correct member is heard.
//! 3. *Anchor*: seats of the newest proved view sign where they stand, over our nonce. A quorum is
//!    fresh, since it can sign no more once the view ended; fewer are not, and the walk goes on.
//!    The highest is the least that is acceptable.
//! 4. *Checkpoint*: the anchor's header names the checkpoint block by height and digest, so anybody
//!    may send it. Without one, or with a ledger of our own that reaches its snapshot, blocks are
//!    enough ([`Event::Replay`]).
//! 5. *Gather*: pages and segments from everybody at once. A newer checkpoint changes nothing; if
//!    nobody has this one any more, step 3 follows again.
//! 6. [`Event::Assembled`].
//!
//! Blocks that are made meanwhile are not kept: the replica that starts from the snapshot fetches
//! what it lacks. Of each member the highest height that it spoke of is kept, as a hint of how far
//! there is to go ([`Bootstrap::ahead`]).

mod anchor;
mod contract;
mod find;
mod gather;
mod guide;
mod machine;
mod message;
mod quota;
pub mod shelf;
mod walk;

#[cfg(test)]
mod tests;

pub use contract::{
    Assembled, Command, Contact, Event, Fresh, Held, HeldError, Misdeed, Options, Pin, PinError,
    Record, Stage, Target, Timer,
};
pub use machine::{Bootstrap, PEERS_MAX, STRAYS_MAX};
pub use message::{
    ANSWER_STEPS_BYTES, ANSWER_STEPS_MAX, Anchor, Answer, Ask, Lacking, Message, PATH_NODES_MAX,
};
pub use quota::{
    ASK_BYTES, LEASE, LEASE_TOTAL_MAX, LEASES_MAX, Leases, QUOTA_PEERS_MAX, Quota, QuotaOptions,
};
