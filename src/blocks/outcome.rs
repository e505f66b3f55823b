//! What became of one transaction.
//!
//! Source: `docs/formats.md`. In: a code and bytes from the state machine. Out: the digest that a
//! receipt holds.
//! Holds: the digest binds both. Elsewhere: which codes there are (`application`), receipts
//! (`receipts`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::receipts::outcome_digest;
use crate::crypto::Digest;

/// The result of one executed transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// 0 where it did what it was to do; else the state machine's reason.
    pub code: u16,
    /// What it gave back; hex in text.
    #[serde(with = "super::text")]
    pub bytes: Bytes,
}

impl Outcome {
    /// What a receipt holds: BLAKE3 over the code, little-endian, and the bytes.
    pub fn digest(&self) -> Digest {
        outcome_digest(self.code, &self.bytes)
    }
}
