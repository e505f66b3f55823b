//! Digests: 32 bytes of BLAKE3 under a domain, or of SHA-256 where other tools must read them.
//!
//! Source: BLAKE3 key derivation mode; FIPS 180-4. In: bytes. Out: [`Digest`].
//! Holds: two domains never give the same digest for the same bytes.
//! Elsewhere: the receipt log that uses SHA-256 (`blocks::receipts`).

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// 32 bytes that name content. Hex in text, raw in binary formats.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// All zero: stands where there is nothing to name.
    pub const ZERO: Digest = Digest([0; 32]);

    /// BLAKE3 of `bytes` under `domain`.
    pub fn of(domain: Domain, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(domain);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a digest is of. The context string enters BLAKE3's key derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// A member id, of its identity key.
    Member,
    /// A chain id, of the genesis document's sign bytes.
    Chain,
    /// A proposal.
    Proposal,
    /// A certificate as a proposal carries it.
    Certificate,
    /// A block header.
    Header,
    /// A block body.
    Body,
    /// A batch of client groups.
    Batch,
    /// A client's group of transactions.
    Group,
    /// One operation, for telling a repeat from a conflict.
    Operation,
    /// The result of one transaction.
    Outcome,
    /// A node, leaf or key of the authenticated map.
    Map,
    /// A ring position or a seed of one.
    Ring,
    /// A whole application state.
    State,
    /// Frames and files of the durable log.
    Storage,
    /// A snapshot manifest or segment.
    Snapshot,
    /// An event in a simulation's audit.
    Audit,
    /// A membership list.
    List,
    /// Secrets, pads and proofs of a threshold key generation.
    Threshold,
    /// What a successor ledger starts from.
    Carried,
    /// An object of an archive.
    Archive,
}

impl Domain {
    /// Every domain, for tests that cross them.
    pub const ALL: [Domain; 20] = [
        Domain::Member,
        Domain::Chain,
        Domain::Proposal,
        Domain::Certificate,
        Domain::Header,
        Domain::Body,
        Domain::Batch,
        Domain::Group,
        Domain::Operation,
        Domain::Outcome,
        Domain::Map,
        Domain::Ring,
        Domain::State,
        Domain::Storage,
        Domain::Snapshot,
        Domain::Audit,
        Domain::List,
        Domain::Threshold,
        Domain::Carried,
        Domain::Archive,
    ];

    /// The context string; frozen by golden vectors.
    pub const fn context(self) -> &'static str {
        match self {
            Domain::Member => "consortium 1 member",
            Domain::Chain => "consortium 1 chain",
            Domain::Proposal => "consortium 1 proposal",
            Domain::Certificate => "consortium 1 certificate",
            Domain::Header => "consortium 1 header",
            Domain::Body => "consortium 1 body",
            Domain::Batch => "consortium 1 batch",
            Domain::Group => "consortium 1 group",
            Domain::Operation => "consortium 1 operation",
            Domain::Outcome => "consortium 1 outcome",
            Domain::Map => "consortium 1 map",
            Domain::Ring => "consortium 1 ring",
            Domain::State => "consortium 1 state",
            Domain::Storage => "consortium 1 storage",
            Domain::Snapshot => "consortium 1 snapshot",
            Domain::Audit => "consortium 1 audit",
            Domain::List => "consortium 1 list",
            Domain::Threshold => "consortium 1 threshold",
            Domain::Carried => "consortium 1 carried",
            Domain::Archive => "consortium 1 archive",
        }
    }
}

/// What BLAKE3 makes of the context strings, by place in [`Domain::ALL`]: it costs as much as a
/// short digest and never changes.
static CONTEXT_KEYS: LazyLock<[ContextKey; Domain::ALL.len()]> =
    LazyLock::new(|| Domain::ALL.map(|domain| hash_derive_key_context(domain.context())));

/// BLAKE3 fed piece by piece.
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Starts a digest under `domain`.
    pub fn new(domain: Domain) -> Self {
        // The places of `ALL` are the numbers of the variants; a test holds them together.
        let key = &CONTEXT_KEYS[domain as usize];
        Self(blake3::Hasher::new_from_context_key(key))
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The digest of all that was added.
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }

    /// The extended output for all that was added, cut into digests; [`Self::finish`] is the first.
    ///
    /// Never ends.
    pub fn stretch(&self) -> impl Iterator<Item = Digest> + use<> {
        let mut output = self.0.finalize_xof();
        let blocks = std::iter::repeat_with(move || {
            let mut block = [[0; 32]; 2]; // what BLAKE3 makes at a time
            output.fill(block.as_flattened_mut());
            block
        });
        blocks.flatten().map(Digest)
    }
}

/// SHA-256 of the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hasher = sha2::Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Digest(hasher.finalize().into())
}

/// Why a text is not a digest. The caller's input is at fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not 64 hex digits")]
pub struct ParseDigestError {
    text: String,
}

impl FromStr for Digest {
    type Err = ParseDigestError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseDigestError {
            text: text.chars().take(80).collect(),
        })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", hex::encode(&self.0[..4]))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}
