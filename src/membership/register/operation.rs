//! The ledger's own operations and their one encoding.
//!
//! Source: `docs/formats.md`, 'Operations of the ledger'. In: bytes. Out: [`Operation`]s, and back.
//! Holds: the first byte is 0, so that no application ever sees one; one operation has one
//! encoding; what decodes is within every bound.
//! Elsewhere: what operations do (`act`), who signs them (`consortium::ledger`).

use std::fmt;
use std::num::NonZeroU64;

use bytes::Bytes;

use super::generation::DEALINGS_BYTES_MAX;
use super::text::{TAGS_MAX, is_tags};
use crate::blocks::{ADDRESS_BYTES_MAX, Call, NAME_BYTES_MAX, ViewRules, is_address, is_name};
use crate::committee::{EVERYONE_BELOW, Height, KeyProof, MemberId, Risk, ViewId};
use crate::crypto::threshold::{KEY_BYTES, POINT_BYTES};
use crate::crypto::{Digest, PublicKey, Signature};

/// The first byte of every operation of the ledger itself; applications never see it.
pub const OWN: u8 = 0;

/// Bytes of evidence in one operation, at most; the parameters may allow less.
pub const EVIDENCE_MAX: usize = 1 << 20;

/// Whether `operation` is the ledger's own.
pub fn is_own(operation: &[u8]) -> bool {
    operation.first() == Some(&OWN)
}

/// What a newcomer says of itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Request {
    /// Its name, for people.
    pub name: String,
    /// Where members reach it, `host:port`; may be empty.
    pub address: String,
    /// Words about it, ascending: see [`is_tags`].
    pub tags: Vec<String>,
    /// Its consensus key, certified by the identity key that signs the transaction; the proofs name
    /// the chain, view 0 and assemble zero.
    pub key: KeyProof,
}

/// What changes by votes of the listed members.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Motion {
    /// The holder of this identity key becomes a member.
    Invite(PublicKey),
    /// A member is listed no more.
    Exclude(MemberId),
    /// The holder of an identity key takes the place of a member, with its weight, once it has
    /// caught up.
    Replace(MemberId, PublicKey),
    /// A member weighs so much in the draw.
    Weight(MemberId, u32),
    /// A client may submit, or may no more.
    Client(PublicKey, bool),
    /// The rules of views, from the next view on.
    Rules(ViewRules),
}

/// One act on the register. Whoever signs the transaction acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A listed member moves something and approves it; where it was moved before, it approves it.
    Move(Motion),
    /// A newcomer asks to be a member.
    Join(Request),
    /// A listed member approves a ballot.
    Approve(Digest),
    /// A listed member rejects a ballot.
    Reject(Digest),
    /// The signer leaves.
    Leave,
    /// A member is excluded at once, by evidence that convicts it.
    Convict(Vec<u8>),
    /// The signer is reached elsewhere.
    Address(String),
    /// The signer goes on under another identity key, which vouches for the key in it.
    Identity(PublicKey, KeyProof),
    /// The signer has applied the block of this height, whose header has this digest.
    CaughtUp(Height, Digest),
    /// The signer, listed already, has a fresh consensus key.
    Rejoin(KeyProof),
    /// The signer, who has a seat, wants a fresh key for it: another view is due.
    Renew,
    /// A named member's part in the threshold key of its committee.
    Threshold(Call, Step),
    /// The signer wants a snapshot to be taken, as the next block allows.
    Snapshot,
}

/// A part in the generation of a threshold key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Values for the signer are encrypted to this.
    Key(Bytes),
    /// What the signer deals.
    Deal(Bytes),
    /// The dealings with a wrong value for the signer; the others hold.
    Judge(Vec<Complaint>),
}

/// A dealer that is said to have dealt wrongly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Its seat.
    pub dealer: u16,
    /// What shows it.
    pub opening: Bytes,
}

/// The bytes are no operation of the ledger. Whoever wrote them is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an operation of the ledger")]
pub struct MalformedError;

impl Motion {
    /// What names its ballot: the digest of the operation that moves it.
    pub fn ballot(&self) -> Digest {
        let bytes = Operation::Move(self.clone()).to_bytes();
        Digest::of(crate::crypto::Domain::Operation, &bytes)
    }

    /// Its name in output, in snake case.
    pub const fn name(&self) -> &'static str {
        match self {
            Motion::Invite(_) => "invite",
            Motion::Exclude(_) => "exclude",
            Motion::Replace(..) => "replace",
            Motion::Weight(..) => "weight",
            Motion::Client(..) => "client",
            Motion::Rules(_) => "parameters",
        }
    }

    /// The identity key that would be admitted.
    pub fn newcomer(&self) -> Option<&PublicKey> {
        match self {
            Motion::Invite(identity) | Motion::Replace(_, identity) => Some(identity),
            Motion::Exclude(_) | Motion::Weight(..) | Motion::Client(..) | Motion::Rules(_) => None,
        }
    }

    /// The member that it is about: the newcomer's id where there is one.
    pub fn member(&self) -> Option<MemberId> {
        match self {
            Motion::Invite(identity) | Motion::Replace(_, identity) => Some(MemberId::of(identity)),
            Motion::Exclude(member) | Motion::Weight(member, _) => Some(*member),
            Motion::Client(..) | Motion::Rules(_) => None,
        }
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Motion::Invite(identity) => out.u8(1).digest(&identity.0),
            Motion::Exclude(member) => out.u8(6).digest(&member.0),
            Motion::Replace(member, identity) => out.u8(8).digest(&member.0).digest(&identity.0),
            Motion::Weight(member, weight) => out.u8(9).digest(&member.0).u32(*weight),
            Motion::Client(key, is_listed) => out.u8(14).digest(&key.0).u8((*is_listed).into()),
            Motion::Rules(rules) => out.u8(15).rules(rules),
        };
    }
}

/// What would be done, for those who vote.
impl fmt::Display for Motion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Motion::Invite(identity) => write!(f, "invite {identity}"),
            Motion::Exclude(member) => write!(f, "exclude {member}"),
            Motion::Replace(old, new) => write!(f, "replace {old} {new}"),
            Motion::Weight(_, weight) => write!(f, "weight {weight}"),
            Motion::Client(key, true) => write!(f, "client_listed {key}"),
            Motion::Client(key, false) => write!(f, "client_struck {key}"),
            Motion::Rules(rules) => {
                // Whole: who votes must see everything that would change.
                let ViewRules {
                    rotation_blocks,
                    assemble_blocks,
                    risk,
                    everyone_below,
                } = rules;
                let Risk {
                    byzantine_ppm,
                    crashed_ppm,
                    one_in,
                } = risk;
                write!(
                    f,
                    "rotation_blocks {rotation_blocks} assemble_blocks {assemble_blocks} "
                )?;
                write!(
                    f,
                    "everyone_below {everyone_below} byzantine_ppm {byzantine_ppm} "
                )?;
                write!(f, "crashed_ppm {crashed_ppm} one_in {one_in}")
            }
        }
    }
}

impl Operation {
    /// Its name in output, in snake case.
    pub const fn name(&self) -> &'static str {
        match self {
            Operation::Move(motion) => motion.name(),
            Operation::Join(_) => "join",
            Operation::Approve(_) => "approve",
            Operation::Reject(_) => "reject",
            Operation::Leave => "leave",
            Operation::Convict(_) => "convict",
            Operation::Address(_) => "address",
            Operation::Identity(..) => "identity",
            Operation::CaughtUp(..) => "caught_up",
            Operation::Rejoin(_) => "rejoin",
            Operation::Threshold(..) => "threshold",
            Operation::Renew => "rotate",
            Operation::Snapshot => "snapshot",
        }
    }

    /// The encoding that `docs/formats.md` describes. What is out of bounds is written all the
    /// same and refused by [`Operation::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(vec![OWN]);
        match self {
            Operation::Move(motion) => motion.write(&mut out),
            Operation::Join(request) => {
                out.u8(2)
                    .bytes(request.name.as_bytes())
                    .bytes(request.address.as_bytes())
                    .u8(u8::try_from(request.tags.len()).unwrap_or(u8::MAX));
                for tag in &request.tags {
                    out.bytes(tag.as_bytes());
                }
                out.key(&request.key);
            }
            Operation::Approve(ballot) => drop(out.u8(3).digest(ballot)),
            Operation::Reject(ballot) => drop(out.u8(4).digest(ballot)),
            Operation::Leave => drop(out.u8(5)),
            Operation::Convict(evidence) => drop(out.u8(7).bytes(evidence)),
            Operation::Address(address) => drop(out.u8(10).bytes(address.as_bytes())),
            Operation::Identity(identity, key) => drop(out.u8(11).digest(&identity.0).key(key)),
            Operation::CaughtUp(height, digest) => drop(out.u8(12).u64(height.0).digest(digest)),
            Operation::Rejoin(key) => drop(out.u8(13).key(key)),
            Operation::Threshold(call, step) => {
                out.u8(17).u64(call.next.0).digest(&call.assemble);
                out.step(step);
            }
            Operation::Renew => drop(out.u8(16)),
            Operation::Snapshot => drop(out.u8(18)),
        }
        out.0
    }

    /// Reads what [`Operation::to_bytes`] wrote.
    ///
    /// Errors: [`MalformedError`] for everything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedError> {
        Self::read(bytes).ok_or(MalformedError)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.u8()? != OWN {
            return None;
        }
        let operation = match reader.u8()? {
            1 => Self::Move(Motion::Invite(reader.public()?)),
            2 => Self::Join(reader.request()?),
            3 => Self::Approve(reader.digest()?),
            4 => Self::Reject(reader.digest()?),
            5 => Self::Leave,
            6 => Self::Move(Motion::Exclude(reader.member()?)),
            7 => Self::Convict(reader.bytes(EVIDENCE_MAX)?.to_vec()),
            8 => Self::Move(Motion::Replace(reader.member()?, reader.public()?)),
            9 => Self::Move(Motion::Weight(reader.member()?, reader.u32()?)),
            10 => Self::Address(reader.text(ADDRESS_BYTES_MAX, is_address)?),
            11 => Self::Identity(reader.public()?, reader.key()?),
            12 => Self::CaughtUp(Height(reader.u64()?), reader.digest()?),
            13 => Self::Rejoin(reader.key()?),
            14 => Self::Move(Motion::Client(reader.public()?, reader.bool()?)),
            15 => Self::Move(Motion::Rules(reader.rules()?)),
            17 => {
                let (next, assemble) = (ViewId(reader.u64()?), reader.digest()?);
                Self::Threshold(Call { next, assemble }, reader.step()?)
            }
            16 => Self::Renew,
            18 => Self::Snapshot,
            _ => return None,
        };
        reader.0.is_empty().then_some(operation)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn digest(&mut self, value: &Digest) -> &mut Self {
        self.raw(value.as_bytes())
    }

    fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX))
            .raw(value)
    }

    fn key(&mut self, proof: &KeyProof) -> &mut Self {
        self.digest(&proof.key.0)
            .raw(&proof.possession.0)
            .raw(&proof.certified.0)
    }

    fn step(&mut self, step: &Step) -> &mut Self {
        match step {
            Step::Key(key) => self.u8(0).bytes(key),
            Step::Deal(dealing) => self.u8(1).bytes(dealing),
            Step::Judge(complaints) => {
                let count = u16::try_from(complaints.len()).unwrap_or(u16::MAX);
                self.u8(2).raw(&count.to_le_bytes());
                for Complaint { dealer, opening } in complaints {
                    self.raw(&dealer.to_le_bytes()).bytes(opening);
                }
                self
            }
        }
    }

    fn rules(&mut self, rules: &ViewRules) -> &mut Self {
        self.u32(rules.rotation_blocks)
            .u32(rules.assemble_blocks)
            .u32(rules.risk.byzantine_ppm)
            .u32(rules.risk.crashed_ppm)
            .u64(rules.risk.one_in.get());
        match rules.everyone_below {
            EVERYONE_BELOW => self,
            other => self.u32(other),
        }
    }
}

/// Bytes not yet read. No length is believed before the bytes are there and within its bound.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn digest(&mut self) -> Option<Digest> {
        self.array().map(Digest)
    }

    fn public(&mut self) -> Option<PublicKey> {
        self.digest().map(PublicKey)
    }

    fn member(&mut self) -> Option<MemberId> {
        self.digest().map(MemberId)
    }

    fn bytes(&mut self, most: usize) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length).filter(|_| length <= most)
    }

    fn text(&mut self, most: usize, is_good: fn(&str) -> bool) -> Option<String> {
        let text = std::str::from_utf8(self.bytes(most)?).ok()?;
        is_good(text).then(|| text.to_owned())
    }

    fn key(&mut self) -> Option<KeyProof> {
        Some(KeyProof {
            key: self.public()?,
            possession: Signature(self.array()?),
            certified: Signature(self.array()?),
        })
    }

    fn request(&mut self) -> Option<Request> {
        let name = self.text(NAME_BYTES_MAX, is_name)?;
        let address = self.text(ADDRESS_BYTES_MAX, is_address)?;
        let count = usize::from(self.u8()?);
        if count > TAGS_MAX {
            return None;
        }
        let tags = (0..count).map(|_| self.text(NAME_BYTES_MAX, is_name));
        let tags: Vec<String> = tags.collect::<Option<_>>()?;
        let key = self.key()?;
        is_tags(&tags).then_some(Request {
            name,
            address,
            tags,
            key,
        })
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn step(&mut self) -> Option<Step> {
        let copied = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        match self.u8()? {
            0 => Some(Step::Key(copied(self.bytes(KEY_BYTES)?))),
            1 => Some(Step::Deal(copied(self.bytes(DEALINGS_BYTES_MAX)?))),
            2 => {
                let count = self.u16()?;
                let mut complaints: Vec<Complaint> = Vec::new();
                for _ in 0..count {
                    let (dealer, opening) = (self.u16()?, copied(self.bytes(POINT_BYTES)?));
                    // By dealer, each once.
                    if complaints.last().is_some_and(|last| last.dealer >= dealer) {
                        return None;
                    }
                    complaints.push(Complaint { dealer, opening });
                }
                Some(Step::Judge(complaints))
            }
            _ => None,
        }
    }

    fn rules(&mut self) -> Option<ViewRules> {
        let mut rules = ViewRules {
            rotation_blocks: self.u32()?,
            assemble_blocks: self.u32()?,
            risk: Risk {
                byzantine_ppm: self.u32()?,
                crashed_ppm: self.u32()?,
                one_in: NonZeroU64::new(self.u64()?)?,
            },
            everyone_below: EVERYONE_BELOW,
        };
        if !self.0.is_empty() {
            rules.everyone_below = self.u32().filter(|other| *other != EVERYONE_BELOW)?;
        }
        Some(rules)
    }
}
