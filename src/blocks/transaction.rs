//! Transactions, the groups that clients sign, and the batches that members spread.
//!
//! Source: `docs/formats.md`. In: operations. Out: signed groups, batches and their digests.
//! Holds: a group is of one client and is never split; its signature covers chain, client and the
//! group's digest.
//! Elsewhere: what an operation does (`application`), whether it executes (`consortium::ledger`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Bounds;
use super::codec::{self, DecodeError};
use crate::committee::Height;
use crate::crypto::{
    Check, Digest, Domain, PublicKey, SecretKey, SignBytes, Signature, Tag, Verified, Verifier,
};

/// Transactions in one group, at most.
pub const GROUP_TRANSACTIONS_MAX: usize = 256;
/// Bytes that a group needs beside its operations: counts and fixed fields.
pub(super) const GROUP_OVERHEAD_BYTES: usize = 8 + GROUP_TRANSACTIONS_MAX * 24;

/// One operation of a client, named by (client, sequence).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Names the transaction among the client's; it orders nothing.
    pub sequence: u64,
    /// The last height at which it may execute.
    pub expiry: Height,
    /// What the application is to do; hex in text.
    #[serde(with = "super::text")]
    pub operation: Bytes,
}

impl Transaction {
    /// What tells a repeat from a conflict: the digest of the operation.
    pub fn digest(&self) -> Digest {
        Digest::of(Domain::Operation, &self.operation)
    }
}

/// Transactions of one client under one signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedGroup {
    /// The client's public key, which is its name.
    pub client: PublicKey,
    /// The encoded transactions; hex in text.
    #[serde(with = "super::text")]
    pub bytes: Bytes,
    /// The client's signature over chain, client and the digest of `bytes`.
    pub signature: Signature,
}

/// Why a group is refused. Its client is at fault; nothing was taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// It cannot be decoded.
    #[error("group: {0}")]
    Decode(#[from] DecodeError),
    /// No transaction, or more than [`GROUP_TRANSACTIONS_MAX`].
    #[error("a group has 1 to {GROUP_TRANSACTIONS_MAX} transactions, not {count}")]
    Count {
        /// How many.
        count: usize,
    },
    /// An operation is empty.
    #[error("transaction {index} of the group is empty")]
    Empty {
        /// Which.
        index: usize,
    },
    /// An operation is over the bound of the genesis document.
    #[error("transaction {index} has {bytes} bytes, at most {most} are allowed")]
    TooLong {
        /// Which.
        index: usize,
        /// Its bytes.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// One sequence stands twice in the group.
    #[error("sequence {sequence} stands twice in the group")]
    Repeated {
        /// The sequence.
        sequence: u64,
    },
    /// The signature does not hold.
    #[error("the client's signature does not hold")]
    BadSignature,
}

impl SignedGroup {
    /// Signs `transactions` for `chain`.
    pub fn sign(chain: &Digest, secret: &SecretKey, transactions: &[Transaction]) -> Self {
        let bytes = Bytes::from(codec::encode(&transactions));
        let client = secret.public();
        let statement = statement(chain, &client, &Digest::of(Domain::Group, &bytes));
        Self {
            client,
            bytes,
            signature: secret.sign(&statement),
        }
    }

    /// What names the group's bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(Domain::Group, &self.bytes)
    }

    /// The signature to check.
    pub fn check(&self, chain: &Digest) -> Check {
        let statement = statement(chain, &self.client, &self.digest());
        Check {
            key: self.client,
            statement,
            signature: self.signature,
        }
    }

    /// The transactions, after every check that needs no state and no signature.
    pub fn transactions(&self, bounds: &Bounds) -> Result<Vec<Transaction>, GroupError> {
        let transactions: Vec<Transaction> = codec::decode(&self.bytes, bounds.group_bytes_max())?;
        let count = transactions.len();
        if count == 0 || count > GROUP_TRANSACTIONS_MAX {
            return Err(GroupError::Count { count });
        }
        let most = bounds.transaction_bytes_max;
        for (index, transaction) in transactions.iter().enumerate() {
            let bytes = transaction.operation.len();
            if bytes == 0 {
                return Err(GroupError::Empty { index });
            }
            if bytes > most {
                return Err(GroupError::TooLong { index, bytes, most });
            }
            let sequence = transaction.sequence;
            if transactions[..index]
                .iter()
                .any(|earlier| earlier.sequence == sequence)
            {
                return Err(GroupError::Repeated { sequence });
            }
        }
        Ok(transactions)
    }
}

fn statement(chain: &Digest, client: &PublicKey, group: &Digest) -> SignBytes {
    SignBytes::new(Tag::Group, chain)
        .digest(&client.0)
        .digest(group)
}

/// A group that was decoded and whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The client.
    pub client: PublicKey,
    /// What names the signed bytes.
    pub digest: Digest,
    /// The transactions, in order.
    pub transactions: Vec<Transaction>,
}

/// Groups that one member admitted and spreads together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The groups, in order.
    pub groups: Vec<SignedGroup>,
}

/// A batch's bytes with their digest and what they decode to; made only when all of it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedBatch {
    /// What names the bytes.
    pub digest: Digest,
    /// The encoded [`Batch`].
    pub bytes: Bytes,
    /// The groups.
    pub groups: Vec<Group>,
}

impl CheckedBatch {
    /// Decodes `bytes` and gives the signatures that remain to be checked.
    pub fn decode(
        bytes: Bytes,
        chain: &Digest,
        bounds: &Bounds,
    ) -> Result<(Self, Vec<Check>), GroupError> {
        let batch: Batch = codec::decode(&bytes, bounds.batch_bytes_max)?;
        let count = batch.groups.len();
        if count == 0 {
            return Err(GroupError::Count { count });
        }
        let mut checks = Vec::with_capacity(count);
        let mut groups = Vec::with_capacity(count);
        for signed in &batch.groups {
            let transactions = signed.transactions(bounds)?;
            let check = signed.check(chain);
            groups.push(Group {
                client: signed.client,
                digest: signed.digest(),
                transactions,
            });
            checks.push(check);
        }
        let digest = Digest::of(Domain::Batch, &bytes);
        Ok((
            Self {
                digest,
                bytes,
                groups,
            },
            checks,
        ))
    }

    /// Decodes `bytes` and checks every signature.
    pub fn verify(
        bytes: Bytes,
        chain: &Digest,
        bounds: &Bounds,
        verifier: &Verifier,
    ) -> Result<Verified<Self>, GroupError> {
        let (batch, checks) = Self::decode(bytes, chain, bounds)?;
        if !verifier.all_valid(&checks) {
            return Err(GroupError::BadSignature);
        }
        Ok(Verified::vouch(batch))
    }

    /// Transactions in it.
    pub fn transactions_count(&self) -> usize {
        self.groups
            .iter()
            .map(|group| group.transactions.len())
            .sum()
    }
}
