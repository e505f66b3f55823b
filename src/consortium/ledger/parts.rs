//! What is kept of the ledger beside its memory and its register.
//!
//! Source: `ARCHITECTURE.md`. In: applied blocks. Out: what the next header is derived from.
//! Holds: it follows from the decided prefix alone. Elsewhere: who keeps it (`node`), what it is
//! checked against (`ledger`).

use serde::{Deserialize, Serialize};

use super::snapshots::Snapshots;
use super::views::Views;
use crate::blocks::receipts::Frontier;
use crate::blocks::{Genesis, Header, Link};
use crate::crypto::{Digest, PublicKey};
use crate::membership::register::Marks;

/// Where the ledger stands, aside from the transactions that it remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The last applied header.
    pub tip: Header,
    /// What the next header names as last checkpoint.
    pub checkpoint: Link,
    /// What the next header names as last reconfiguration.
    pub reconfiguration: Link,
    /// The right edge of the receipt log.
    pub frontier: Frontier,
    /// Recent blocks, which a newcomer names to show that it has caught up.
    pub marks: Marks,
    /// Which view orders, and what is announced of the next.
    pub views: Views,
    /// When the next snapshot is due, and which one is open.
    pub snapshots: Snapshots,
}

impl Parts {
    /// Where a new chain stands, at height 0.
    pub fn genesis(genesis: &Genesis) -> Self {
        let tip = genesis.header();
        let link = Link {
            height: tip.height,
            digest: tip.digest(),
        };
        Self {
            tip,
            checkpoint: link,
            reconfiguration: link,
            frontier: Frontier::new(),
            marks: Marks::new(link),
            views: Views::genesis(link),
            snapshots: Snapshots::default(),
        }
    }
}

/// Why kept parts make no ledger. Whoever kept them is at fault; nothing is made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The tip is of another chain.
    #[error("the kept tip is of chain {got}, not {want}")]
    OtherChain {
        /// Its chain.
        got: Digest,
        /// Ours.
        want: Digest,
    },
    /// The frontier and the tip name different receipts.
    #[error("the kept receipt log has {have} receipts or another root, the tip names {want}")]
    Receipts {
        /// Leaves of the frontier.
        have: u64,
        /// What the tip says.
        want: u64,
    },
    /// The register is of another chain.
    #[error("the kept register is of chain {got}, not {want}")]
    OtherRegister {
        /// Its chain.
        got: Digest,
        /// Ours.
        want: Digest,
    },
    /// An entry is not what the prefix up to the tip leaves behind.
    #[error("the kept transaction {sequence} of {client} does not belong to this tip")]
    Entry {
        /// Its client.
        client: PublicKey,
        /// Its sequence.
        sequence: u64,
    },
}
