//! The digest by which members compare their ledgers.
//!
//! Source: `docs/formats.md`. In: a ledger. Out: one digest of all of it.
//! Holds: two members that applied the same prefix have the same one; it is written field by field,
//! never by a codec. Elsewhere: the digest that a checkpoint names, which adds the application's
//! (`consortium::snapshot`).

use super::{Ledger, Name, Parts};
use crate::consortium::contract::Executed;
use crate::crypto::{Digest, Domain, Hasher};
use crate::membership::register::Register;

impl Ledger {
    /// The digest of everything here: the parts, the register, then each entry by expiry, client
    /// and sequence. Walks the whole memory.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::State);
        hash_base(&self.parts, &self.register, &mut hasher);
        hasher.update(&(self.memory.len() as u64).to_le_bytes());
        self.entries()
            .for_each(|(name, executed)| hash_entry(&name, executed, &mut hasher));
        hasher.finish()
    }
}

/// Adds the parts and the register.
pub(in crate::consortium) fn hash_base(parts: &Parts, register: &Register, hasher: &mut Hasher) {
    hasher.update(parts.tip.digest().as_bytes());
    for link in [&parts.checkpoint, &parts.reconfiguration] {
        hasher.update(&link.height.0.to_le_bytes());
        hasher.update(link.digest.as_bytes());
    }
    hasher.update(&parts.frontier.size().to_le_bytes());
    for node in parts.frontier.nodes() {
        hasher.update(node.as_bytes());
    }
    for mark in parts.marks.iter() {
        hasher.update(mark.digest.as_bytes());
    }
    parts.views.hash_into(hasher);
    parts.snapshots.hash_into(hasher);
    register.hash_into(hasher);
}

/// Adds one remembered transaction.
pub(in crate::consortium) fn hash_entry(
    (client, sequence): &Name,
    executed: &Executed,
    hasher: &mut Hasher,
) {
    hasher.update(client.as_bytes());
    for number in [
        *sequence,
        executed.sequence,
        executed.height.0,
        executed.index.into(),
        executed.expiry.0,
        executed.outcome.code.into(),
        executed.outcome.bytes.len() as u64,
    ] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(&executed.outcome.bytes);
    hasher.update(executed.operation.as_bytes());
    hasher.update(executed.outcome_digest.as_bytes());
}
