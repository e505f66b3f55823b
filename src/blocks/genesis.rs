//! The genesis document: parameters, founders, and the name of the chain.
//!
//! Source: `docs/formats.md`. In: founders' public files. Out: `genesis.json`, the chain id, the
//! block at height 0, the view 0.
//! Holds: the chain id is the digest of the document's sign bytes, so white space and field order
//! do not matter; every founder's key carries both proofs. Elsewhere: how later views come about
//! (`fsm::view`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::body::Body;
use super::checkpoint_rules::CheckpointRules;
use super::header::{Header, Link, ReceiptRoot};
use super::predecessor::Predecessor;
use super::proposal::FORMAT_VERSION;
use super::transaction::{GROUP_OVERHEAD_BYTES, GROUP_TRANSACTIONS_MAX};
use super::view_rules::{ViewRules, ViewRulesError};
use crate::committee::{
    EVERYONE_BELOW, Height, KeyProof, MemberId, SEATS_MAX, SeatKey, View, ViewError, ViewId,
};
use crate::crypto::{Digest, Domain, PublicKey, SignBytes, Tag, Verifier, sha256};

/// The most heights above a certificate: so many blocks with all they may inline fit one extent.
const AHEAD_MAX: u32 = 90;
/// The latest founding time: headers must be able to count on from it.
const FOUNDED_US_MAX: u64 = 253_402_300_800_000_000;
/// The longest name of a member or chain, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest address of a member, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Client keys that the document lists, at most; more are refused.
pub const LISTED_CLIENTS_MAX: usize = 65_536;

/// Whether `text` is the name of a member or chain: 1 to [`NAME_BYTES_MAX`] bytes without control
/// characters.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}

/// Whether `text` may stand where an address does: at most [`ADDRESS_BYTES_MAX`] bytes without
/// white space and control characters; it may be empty.
pub fn is_address(text: &str) -> bool {
    let is_odd = |c: char| c.is_control() || c.is_whitespace();
    text.len() <= ADDRESS_BYTES_MAX && !text.contains(is_odd)
}

/// Who may submit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clients {
    /// Any key.
    Open,
    /// The keys in the document; later ones by vote.
    Listed(Vec<PublicKey>),
}

impl Clients {
    fn is_canonical(&self) -> bool {
        match self {
            Clients::Open => true,
            Clients::Listed(keys) => {
                let distinct: BTreeSet<_> = keys.iter().collect();
                distinct.len() == keys.len() && keys.len() <= LISTED_CLIENTS_MAX
            }
        }
    }
}

/// What is the same for every member and settled at genesis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// The state machine that runs on the ledger.
    pub application: String,
    /// What orders proposals inside the committee.
    pub committee_engine: String,
    /// What gates blocks for the whole membership.
    pub group_engine: String,
    /// Who may submit.
    pub clients: Clients,
    /// Bytes of one operation, at most.
    pub transaction_bytes_max: u32,
    /// Bytes of one batch, at most.
    pub batch_bytes_max: u32,
    /// Every so many heights one is sealed.
    pub seal_every: u32,
    /// Heights that may be open above the decided prefix (W).
    pub window: u32,
    /// Heights that may be ordered above the newest block certificate (E), at least window +
    /// seal_every.
    pub ahead_max: u32,
    /// Heights that an expiry may lie ahead (L).
    pub expiry_blocks_max: u32,
    /// Executed transactions that are remembered until they expire; beyond it new ones are answered
    /// `busy`.
    pub remembered_max: u32,
    /// When committees change and how they are drawn; the members may change it by vote.
    pub views: ViewRules,
    /// When checkpoints are due and how snapshots are cut.
    #[serde(skip_serializing_if = "CheckpointRules::is_default")]
    pub checkpoints: CheckpointRules,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            application: "kv".into(),
            committee_engine: "mod-smart".into(),
            group_engine: "certified".into(),
            clients: Clients::Open,
            transaction_bytes_max: 128 << 10,
            batch_bytes_max: 1 << 20,
            seal_every: 8,
            window: 8,
            ahead_max: 32,
            expiry_blocks_max: 100_000,
            remembered_max: 2_000_000,
            views: ViewRules::default(),
            checkpoints: CheckpointRules::default(),
        }
    }
}

/// Sizes that bytes are checked against; they follow from the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one operation, at most.
    pub transaction_bytes_max: usize,
    /// Bytes of one encoded batch, at most.
    pub batch_bytes_max: usize,
}

impl Bounds {
    /// Bytes of one encoded group, at most: it must fit a batch.
    pub fn group_bytes_max(&self) -> usize {
        let most = GROUP_OVERHEAD_BYTES + GROUP_TRANSACTIONS_MAX * self.transaction_bytes_max;
        most.min(self.batch_bytes_max.saturating_sub(128))
    }
}

impl Parameters {
    /// The sizes that bytes are checked against.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            transaction_bytes_max: self.transaction_bytes_max as usize,
            batch_bytes_max: self.batch_bytes_max as usize,
        }
    }
}

/// One founder: the public file that `key generate` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Founder {
    /// Its name, for people.
    pub name: String,
    /// Its identity key.
    pub identity: PublicKey,
    /// Its consensus key of view 0 with both proofs; without one its seat is dead until the next
    /// view.
    pub consensus: Option<KeyProof>,
    /// Where members reach it, `host:port`; may be empty and given by `member.toml`.
    #[serde(default)]
    pub address: String,
}

/// `genesis.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// [`FORMAT_VERSION`].
    pub version: u8,
    /// The ledger's name, for people; part of the chain id, so two ledgers of the same founders
    /// differ.
    pub name: String,
    /// When it was made, in microseconds since the Unix epoch.
    pub founded_us: u64,
    /// What is settled for ever.
    #[serde(default)]
    pub parameters: Parameters,
    /// The members of view 0, in seat order.
    pub founders: Vec<Founder>,
    /// The ledger whose state this one goes on from, where its view is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor_of: Option<Predecessor>,
}

/// Why a genesis document is refused. Its author is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// Not the expected JSON.
    #[error("genesis document: {reason}")]
    Json {
        /// What the parser says.
        reason: String,
    },
    /// Made for another version of the program.
    #[error("genesis document of format {got}, this program reads {FORMAT_VERSION}")]
    Version {
        /// The version it names.
        got: u8,
    },
    /// A name is empty, too long, or holds control characters.
    #[error("'{text}' is no name of 1 to {NAME_BYTES_MAX} bytes")]
    Name {
        /// Its start.
        text: String,
    },
    /// A parameter is out of range.
    #[error("parameter {field}: {why}")]
    Parameter {
        /// Which.
        field: &'static str,
        /// What it must be.
        why: &'static str,
    },
    /// The rules of views do not hold.
    #[error("parameter views: {0}")]
    Views(#[from] ViewRulesError),
    /// An address is too long or holds white space or control characters.
    #[error("founder '{name}': its address is no text of at most {ADDRESS_BYTES_MAX} bytes")]
    Address {
        /// Whose.
        name: String,
    },
    /// A founder votes with an identity key, its own or another's: identity keys never vote.
    #[error("founder '{name}': its consensus key is an identity key")]
    IdentityVotes {
        /// Which.
        name: String,
    },
    /// A founder's key proofs do not hold.
    #[error("founder '{name}': the proofs of its consensus key do not hold")]
    BadProof {
        /// Which.
        name: String,
    },
    /// The founders make no view.
    #[error("founders: {0}")]
    View(#[from] ViewError),
}

impl Genesis {
    /// Reads and checks a document.
    pub fn from_json(text: &str) -> Result<Self, GenesisError> {
        let genesis: Self = serde_json::from_str(text).map_err(|error| GenesisError::Json {
            reason: error.to_string(),
        })?;
        genesis.check()?;
        Ok(genesis)
    }

    /// The document as people keep it.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("a document of strings and numbers has a JSON form") + "\n"
    }

    /// The chain's name and trust root.
    pub fn chain(&self) -> Digest {
        Digest::of(Domain::Chain, self.sign_bytes().as_slice())
    }

    fn sign_bytes(&self) -> SignBytes {
        let p = &self.parameters;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut bytes = SignBytes::new(Tag::Genesis, &Digest::ZERO)
            .u8(self.version)
            .bytes(self.name.as_bytes())
            .u64(self.founded_us)
            .bytes(p.application.as_bytes())
            .bytes(p.committee_engine.as_bytes())
            .bytes(p.group_engine.as_bytes())
            .u32(p.transaction_bytes_max)
            .u32(p.batch_bytes_max)
            .u32(p.seal_every)
            .u32(p.window)
            .u32(p.ahead_max)
            .u32(p.expiry_blocks_max)
            .u32(p.remembered_max)
            .u32(p.views.rotation_blocks)
            .u32(p.views.assemble_blocks)
            .u32(p.views.risk.byzantine_ppm)
            .u32(p.views.risk.crashed_ppm)
            .u64(p.views.risk.one_in.get());
        bytes = match &p.clients {
            Clients::Open => bytes.u8(0),
            Clients::Listed(keys) => keys
                .iter()
                .fold(bytes.u8(1).u32(count(keys.len())), |b, key| {
                    b.digest(&key.0)
                }),
        };
        bytes =
            self.founders
                .iter()
                .fold(bytes.u32(count(self.founders.len())), |bytes, founder| {
                    let bytes = bytes
                        .bytes(founder.name.as_bytes())
                        .digest(&founder.identity.0)
                        .bytes(founder.address.as_bytes())
                        .u8(founder.consensus.is_some().into());
                    match &founder.consensus {
                        None => bytes,
                        Some(proof) => bytes
                            .digest(&proof.key.0)
                            .bytes(&proof.possession.0)
                            .bytes(&proof.certified.0),
                    }
                });
        // Sections that only some documents have, each behind its number.
        if let Some(predecessor) = &self.successor_of {
            bytes = predecessor.write(bytes);
        }
        if p.views.everyone_below != EVERYONE_BELOW {
            bytes = bytes.u8(2).u32(p.views.everyone_below);
        }
        match p.checkpoints.is_default() {
            true => bytes,
            false => p.checkpoints.write(bytes),
        }
    }

    /// Whether names, parameters, founders and their proofs hold.
    pub fn check(&self) -> Result<(), GenesisError> {
        if self.version != FORMAT_VERSION {
            return Err(GenesisError::Version { got: self.version });
        }
        let names = self.founders.iter().map(|founder| &founder.name);
        for text in names.chain([&self.name]) {
            if !is_name(text) {
                return Err(GenesisError::Name {
                    text: text.chars().take(80).collect(),
                });
            }
        }
        self.parameters.check()?;
        if self.founded_us > FOUNDED_US_MAX {
            let why = "a time before the year 10000, in microseconds since 1970";
            return Err(GenesisError::Parameter {
                field: "founded_us",
                why,
            });
        }
        if self.founders.len() > SEATS_MAX {
            return Err(ViewError::Size {
                seats: self.founders.len(),
            }
            .into());
        }
        self.check_founders()?;
        self.view().map(|_| ()).map_err(GenesisError::View)
    }

    fn check_founders(&self) -> Result<(), GenesisError> {
        let identities: BTreeSet<PublicKey> = self.founders.iter().map(|f| f.identity).collect();
        for founder in &self.founders {
            let name = founder.name.clone();
            if !is_address(&founder.address) {
                return Err(GenesisError::Address { name });
            }
            let Some(proof) = &founder.consensus else {
                continue;
            };
            if identities.contains(&proof.key) {
                return Err(GenesisError::IdentityVotes { name });
            }
            let checks = proof.checks(&Digest::ZERO, ViewId(0), &Digest::ZERO, &founder.identity);
            if !checks
                .iter()
                .all(|c| Verifier::ed25519().is_valid(&c.key, &c.statement, &c.signature))
            {
                return Err(GenesisError::BadProof { name });
            }
        }
        Ok(())
    }

    /// View 0: every founder has a seat, in the document's order.
    pub fn view(&self) -> Result<View, ViewError> {
        let seats = self.founders.iter().map(|founder| SeatKey {
            member: MemberId::of(&founder.identity),
            key: founder.consensus.as_ref().map(|proof| proof.key),
        });
        let chain = self.chain();
        View::new(ViewId(0), chain, seats.collect(), &chain)
    }

    /// The header at height 0: derived, not voted.
    pub fn header(&self) -> Header {
        let chain = self.chain();
        Header {
            version: FORMAT_VERSION,
            chain,
            height: Height(0),
            view: ViewId(0),
            previous: Digest::ZERO,
            body: Body::Genesis(chain).root(),
            receipts: ReceiptRoot {
                size: 0,
                root: sha256(&[]),
            },
            state: None,
            timestamp_us: self.founded_us,
            checkpoint: Link::default(),
            reconfiguration: Link::default(),
        }
    }
}

impl Parameters {
    fn check(&self) -> Result<(), GenesisError> {
        let rules: [(&'static str, bool, &'static str); 11] = [
            (
                "transaction_bytes_max",
                (64..=1 << 20).contains(&self.transaction_bytes_max),
                "between 64 bytes and 1 MiB",
            ),
            (
                "batch_bytes_max",
                self.batch_bytes_max <= 3 << 20
                    && u64::from(self.batch_bytes_max)
                        >= u64::from(self.transaction_bytes_max) + 8192,
                "at most 3 MiB and at least transaction_bytes_max + 8192",
            ),
            (
                "seal_every",
                (1..=1024).contains(&self.seal_every),
                "between 1 and 1024",
            ),
            (
                "window",
                (1..=256).contains(&self.window),
                "between 1 and 256",
            ),
            (
                "ahead_max",
                self.ahead_max >= self.window.saturating_add(self.seal_every)
                    && self.ahead_max <= AHEAD_MAX,
                "at least window + seal_every and at most 90",
            ),
            (
                "expiry_blocks_max",
                (16..=10_000_000).contains(&self.expiry_blocks_max),
                "between 16 and 10000000",
            ),
            (
                "remembered_max",
                self.remembered_max >= 1024,
                "at least 1024",
            ),
            (
                "application",
                is_name(&self.application),
                "a name of 1 to 64 bytes",
            ),
            (
                "committee_engine",
                is_name(&self.committee_engine),
                "a name of 1 to 64 bytes",
            ),
            (
                "group_engine",
                is_name(&self.group_engine),
                "a name of 1 to 64 bytes",
            ),
            (
                "clients",
                self.clients.is_canonical(),
                "at most 65536 keys, each once",
            ),
        ];
        match rules.into_iter().find(|(_, is_good, _)| !is_good) {
            Some((field, _, why)) => Err(GenesisError::Parameter { field, why }),
            None => {
                let wrong = |(field, why)| GenesisError::Parameter { field, why };
                self.checkpoints.check().map_err(wrong)?;
                Ok(self.views.check()?)
            }
        }
    }
}
