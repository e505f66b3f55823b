//! Blocks: proposals, bodies, headers, the link rule, and the one canonical codec.
//!
//! Source: `docs/formats.md`. In: client groups, batches, control bodies. Out: digests, headers,
//! proofs.
//! Holds: what is voted is a proposal, what is certified is a header, and the header follows from
//! the decided prefix alone. Elsewhere: disk (`storage`), execution (`application`), votes
//! (`committee`).

pub mod body;
mod checkpoint;
mod checkpoint_rules;
pub mod codec;
pub mod evidence;
mod genesis;
mod header;
mod outcome;
mod predecessor;
pub mod proof;
mod proposal;
pub mod receipts;
mod reconfiguration;
pub mod text;
mod transaction;
mod view_chain;
mod view_rules;

#[cfg(test)]
pub(crate) mod tests;

pub use body::{
    BLOCK_BATCHES_MAX, BatchRef, BlockCertificate, Body, BodyError, MEMBERS_MAX,
    THRESHOLD_BYTES_MAX,
};
pub use checkpoint::CheckpointError;
pub use checkpoint_rules::{CheckpointRules, SEGMENT_BYTES_MAX};
pub use genesis::{
    ADDRESS_BYTES_MAX, Bounds, Clients, Founder, Genesis, GenesisError, LISTED_CLIENTS_MAX,
    NAME_BYTES_MAX, Parameters, is_address, is_name,
};
pub use header::{Header, Link, LinkError, ReceiptRoot};
pub use outcome::Outcome;
pub use predecessor::Predecessor;
pub use proposal::{FORMAT_VERSION, INLINE_BYTES_MAX, PROPOSAL_BYTES_MAX, Proposal, ProposalError};
pub use reconfiguration::{Call, NextKey, ReconfigurationError};
pub use transaction::{
    Batch, CheckedBatch, GROUP_TRANSACTIONS_MAX, Group, GroupError, SignedGroup, Transaction,
};
pub use view_chain::{
    STEP_BYTES_MAX, STEPS_MAX, Seated, Step, StepError, ViewChain, ViewChainError,
};
pub use view_rules::{ROTATION_BLOCKS_MIN, VIEW_BLOCKS_MAX, ViewRules, ViewRulesError};
