//! The receipt log: one Merkle tree over a fixed-size receipt per executed transaction.
//!
//! Source: RFC 6962 §2.1 and RFC 9162 §2.1, SHA-256. In: receipts, in order. Out: roots, proofs,
//! verdicts.
//! Holds: an appended leaf is never moved or changed; only complete nodes are stored, each once.
//! Elsewhere: where nodes are kept on disk (`storage`), the certificate over a root (`committee`).

mod tree;
mod verify;

#[cfg(test)]
mod tests;

pub use self::tree::{Frontier, MemoryNodes, Nodes, ReceiptTree};
pub use self::verify::{verify_consistency, verify_inclusion};
use crate::crypto::{Digest, Domain, Hasher, PublicKey, sha256};

/// The first byte of an encoded receipt.
pub const RECEIPT_VERSION: u8 = 1;

/// Length of an encoded receipt: version 1, sequence 8, height 8, client 32, client sequence 8,
/// group 32, index 4, outcome 32.
pub const RECEIPT_BYTES: usize = 125;

/// Digests in the longest inclusion proof of a tree of up to 2⁶⁴ − 1 leaves.
pub const INCLUSION_PATH_MAX: usize = 64;

/// Digests in the longest consistency proof.
pub const CONSISTENCY_PATH_MAX: usize = 65;

/// What happened to one transaction, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Place among all executed transactions since genesis, from 0: the leaf's index.
    pub sequence: u64,
    /// Height of the block that holds it.
    pub height: u64,
    /// Who signed it.
    pub client: PublicKey,
    /// The client's name for it.
    pub client_sequence: u64,
    /// Digest of the signed group that holds it.
    pub group: Digest,
    /// Place in that group, from 0.
    pub index: u32,
    /// Digest of its result, see [`outcome_digest`].
    pub outcome: Digest,
}

impl Receipt {
    /// The leaf's bytes: the version, then the fields in order, integers little-endian.
    pub fn to_bytes(&self) -> [u8; RECEIPT_BYTES] {
        let mut bytes = [0; RECEIPT_BYTES];
        bytes[0] = RECEIPT_VERSION;
        bytes[1..9].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[9..17].copy_from_slice(&self.height.to_le_bytes());
        bytes[17..49].copy_from_slice(self.client.as_bytes());
        bytes[49..57].copy_from_slice(&self.client_sequence.to_le_bytes());
        bytes[57..89].copy_from_slice(self.group.as_bytes());
        bytes[89..93].copy_from_slice(&self.index.to_le_bytes());
        bytes[93..125].copy_from_slice(self.outcome.as_bytes());
        bytes
    }

    /// Reads what [`Receipt::to_bytes`] wrote.
    ///
    /// Errors: [`ReceiptError::Length`] and [`ReceiptError::Version`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let bytes: &[u8; RECEIPT_BYTES] = bytes
            .try_into()
            .map_err(|_| ReceiptError::Length { got: bytes.len() })?;
        if bytes[0] != RECEIPT_VERSION {
            return Err(ReceiptError::Version { got: bytes[0] });
        }
        Ok(Self {
            sequence: u64::from_le_bytes(field(bytes, 1)),
            height: u64::from_le_bytes(field(bytes, 9)),
            client: PublicKey(Digest(field(bytes, 17))),
            client_sequence: u64::from_le_bytes(field(bytes, 49)),
            group: Digest(field(bytes, 57)),
            index: u32::from_le_bytes(field(bytes, 89)),
            outcome: Digest(field(bytes, 93)),
        })
    }

    /// The hash of this receipt's leaf.
    pub fn leaf(&self) -> Digest {
        leaf_hash(&self.to_bytes())
    }
}

fn field<const N: usize>(bytes: &[u8; RECEIPT_BYTES], from: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[from..from + N]);
    field
}

/// The digest of a transaction's result: BLAKE3 of the code, little-endian, and the bytes.
pub fn outcome_digest(code: u16, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Domain::Outcome);
    hasher.update(&code.to_le_bytes()).update(bytes);
    hasher.finish()
}

/// SHA-256 of 0x00 and the leaf's bytes.
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    sha256(&[&[0], leaf])
}

/// SHA-256 of 0x01 and two nodes.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    sha256(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The root of a tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Digest {
    sha256(&[])
}

/// Why bytes are no receipt or a proof cannot be made. Nothing changed in any case.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Whoever wrote the bytes is at fault.
    #[error("a receipt has 125 bytes, not {got}")]
    Length {
        /// Bytes given.
        got: usize,
    },
    /// Whoever wrote the bytes is at fault, or newer than we are.
    #[error("receipt version {got} is not known")]
    Version {
        /// The first byte.
        got: u8,
    },
    /// Whoever wrote the frontier is at fault.
    #[error("a frontier of {size} leaves has {need} nodes, not {have}")]
    Edge {
        /// Leaves stated.
        size: u64,
        /// Nodes given.
        have: usize,
        /// Nodes that the size asks for.
        need: usize,
    },
    /// The caller asks beyond the tree.
    #[error("{asked} is beyond a tree of {size} leaves")]
    Range {
        /// Index or size asked for.
        asked: u64,
        /// Leaves there are.
        size: u64,
    },
    /// The node was never fetched here; nobody's fault.
    #[error("the node at level {level}, index {index} is not kept here")]
    Missing {
        /// Its level.
        level: u8,
        /// Its index in the level.
        index: u64,
    },
    /// Whoever sent the two nodes is at fault.
    #[error("these are not the children of the node at level {level}, index {index}")]
    Children {
        /// The level of the node.
        level: u8,
        /// Its index in the level.
        index: u64,
    },
}
