//! The replica: owns the machines, the chain and the pool, and routes each input to one of them.
//!
//! Source: `ARCHITECTURE.md`. In: checked messages, timers, commands. Out: messages, records,
//! events.
//! Holds: decided proposals apply in height order; every header follows from the decided prefix.
//! Elsewhere: decisions (`fsm`), disk and execution (answered through events).

mod anchors;
mod apply;
mod burden;
mod catchup;
mod checkpoints;
mod contract;
mod draw;
mod faults;
mod gate;
pub mod ledger;
mod lookup;
mod losses;
mod message;
mod overview;
pub mod pool;
pub(crate) mod records;
mod replica;
pub(crate) mod restoring;
mod seal;
mod spread;
mod views;

pub mod serve;
pub mod snapshot;

#[cfg(test)]
mod tests;

pub(crate) use burden::Burden;
pub use contract::{
    Answer, Applied, Change, Command, Denied, Event, Execute, Executed, Execution, Fault,
    FaultKind, Outcome, Record, Standing, Timer, Verdict, Wanted,
};
pub use faults::{
    EVIDENCE_ALL_BYTES_MAX, EVIDENCE_BYTES_MAX, FAULTS_MAX, FAULTS_PER_MEMBER_MAX, FIRST_BYTES_MAX,
    FIRST_FAULTS_MAX, PROOF_BYTES_MAX,
};
pub use gate::PlugError;
pub use ledger::{Decided, Ledger};
pub use lookup::Lookup;
pub use losses::Losses;
pub use message::{
    Block, DIGESTS_MAX, EXTENT_BLOCKS_MAX, Ears, Extent, HearError, Heard, Lane, Message, Opened,
    VOTES_BYTES_MAX,
};
pub use overview::{Overview, PoolOverview};
pub use pool::Pool;
pub use replica::{Consortium, GATHER, Options, Restored};

/// Bytes of a result that are remembered for repeats, at most.
pub const OUTCOME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod message_tests;
