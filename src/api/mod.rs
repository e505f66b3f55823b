//! The HTTP door of a member: bounded requests in, JSON, bytes and event streams out.
//!
//! Source: `openapi.json`. In: a listener and a [`Host`]. Out: answers over HTTP/1.1, no TLS.
//! Holds: nothing that a client sends grows without bound; every error is one JSON shape.
//! Elsewhere: what an answer means (`node`), who listens where (`node`), the caller (`client`).

mod data;
mod events;
mod extract;
mod foyer;
mod host;
mod kept;
mod problem;
mod reads;
mod routes;
mod server;
mod stall;
mod submit;

pub use data::{
    About, Answers, BallotEntry, Block, BlockKind, BlockTransaction, Encoding, Event, FaultEntry,
    Faults, HistoryEntry, MemberEntry, MemberName, Membership, Operation, Order, Outcome,
    PAGE_TRANSACTIONS_MAX, PAGE_VIEWS_MAX, Page, ReadyCheck, Refused, Reply, Role, Settled, Status,
    Submitted, Tip, Transaction, Value, ViewEntry, Views, Wait, reply_statement,
};
pub use data::{Condition, SeatEntry, ViewStatus};
pub use foyer::{BOOTSTRAPPING, Bootstrap, BootstrapStage, Entrance, Foyer, Standing, Starting};
pub use host::{Answer, Events, Host};
pub use kept::{
    CheckpointEntry, Checkpoints, NextSnapshot, PAGE_SEGMENTS_MAX, Retained, SectionName,
    SegmentEntry, Snapshot, SnapshotProof,
};
pub use problem::{Problem, Refusal};
pub use routes::Limits;
pub use server::{serve, serve_from_start, serve_with};

#[cfg(test)]
mod tests;
