//! Blocks: proposals, bodies, headers, the link rule, and the one canonical codec.
//!
//! Source: `docs/formats.md`. In: client groups, batches, control bodies. Out: digests, headers, proofs.
//! Holds: what is voted is a proposal, what is certified is a header, and the header follows from the decided
//! prefix alone. Elsewhere: disk (`storage`), execution (`application`), votes (`committee`).

pub mod body;
pub mod codec;
mod genesis;
mod header;
mod proposal;
mod transaction;

pub use body::{BatchRef, BlockCertificate, Body};
pub use genesis::{
    ADDRESS_BYTES_MAX, Bounds, Clients, Founder, Genesis, GenesisError, LISTED_CLIENTS_MAX,
    NAME_BYTES_MAX, Parameters,
};
pub use header::{Header, Link, LinkError, ReceiptRoot};
pub use proposal::{FORMAT_VERSION, PROPOSAL_BYTES_MAX, Proposal};
pub use transaction::{
    Batch, CheckedBatch, GROUP_TRANSACTIONS_MAX, Group, GroupError, SignedGroup, Transaction,
};
