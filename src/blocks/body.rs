//! Block bodies: transactions and the five control bodies.
//!
//! Source: `docs/formats.md`. In: batches, keys, votes. Out: a body and its root.
//! Holds: the root binds the kind and every byte; a batch enters by its digest whether it rides
//! inline or not.
//! Elsewhere: who proposes which (`fsm`), what a control body must satisfy (`fsm::view`,
//! `checkpoint`).

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::genesis::{ADDRESS_BYTES_MAX, NAME_BYTES_MAX};
use super::header::Link;
use super::proposal::FORMAT_VERSION;
pub use crate::committee::MEMBERS_MAX;
use crate::committee::{Certificate, Height, KeyProof, MemberId, SEATS_MAX, SeatSet, ViewId};
use crate::crypto::threshold::SIGNATURE_BYTES;
use crate::crypto::{Digest, Domain, Hasher, PublicKey, SignBytes, Signature, Tag};

/// Batches in one block, at most.
pub const BLOCK_BATCHES_MAX: usize = 256;

/// Bytes of a threshold public key or of a compact signature, at most.
pub const THRESHOLD_BYTES_MAX: usize = 16 << 10;

/// Why a control body is refused by its bytes alone. Its leader is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The genesis body is derived, never proposed.
    #[error("a genesis body is never proposed")]
    Genesis,
    /// Seats, members, votes or key material are too many, too few or too long.
    #[error("{field} is out of bounds")]
    Bounds {
        /// Which field.
        field: &'static str,
    },
    /// A seat, member or key stands twice.
    #[error("{field} repeats an earlier one")]
    Repeated {
        /// Which field.
        field: &'static str,
    },
}

/// A batch in a body: by digest, or whole when it is small.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchRef {
    /// Spread before; acknowledged by a quorum.
    Named(Digest),
    /// Rides along.
    Inline(Bytes),
}

impl BatchRef {
    /// What names the batch.
    pub fn digest(&self) -> Digest {
        match self {
            BatchRef::Named(digest) => *digest,
            BatchRef::Inline(bytes) => Digest::of(Domain::Batch, bytes),
        }
    }
}

/// Fixes the list that the next committee is drawn from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// The view that is to come.
    pub next: ViewId,
    /// The membership list's digest.
    pub list: Digest,
}

/// What a sampled committee is drawn by: unknown to everybody before the list was fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// The freeze block that fixed the list.
    pub freeze: Link,
    /// The present committee's threshold signature over it.
    pub signature: Bytes,
}

impl Beacon {
    /// What a committee signs over the freeze block of its view.
    pub fn statement(chain: &Digest, view: ViewId, freeze: &Link) -> SignBytes {
        SignBytes::new(Tag::Beacon, chain)
            .u64(view.0)
            .u64(freeze.height.0)
            .digest(&freeze.digest)
    }

    /// The seed that it gives. There is one signature over one statement, so nobody chooses it.
    pub fn seed(&self) -> Digest {
        Digest::of(Domain::Ring, &self.signature)
    }
}

/// Announces the next committee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assemble {
    /// The view that is to come.
    pub next: ViewId,
    /// What the seed follows from; nothing where everybody sits or keeps the seat, since nothing is
    /// left to chance then.
    pub beacon: Option<Beacon>,
    /// What the seats are drawn by.
    pub seed: Digest,
    /// The seats, in order.
    pub committee: Vec<MemberId>,
}

/// A member as the reconfiguration block lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its identity key.
    pub identity: PublicKey,
    /// Its name, for people.
    pub name: String,
    /// Where members reach it.
    pub address: String,
    /// Its weight in the draw.
    pub weight: u32,
    /// Its certified consensus key from admission.
    pub admitted: KeyProof,
}

/// One seat of the next view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextSeat {
    /// Who sits.
    pub member: MemberId,
    /// Its fresh key; none when it carries over the certified one.
    pub fresh: Option<KeyProof>,
}

/// Holds the membership and the next view; the last block of its view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconfiguration {
    /// The view it makes.
    pub next: ViewId,
    /// The assemble block that it answers.
    pub assemble: (Height, Digest),
    /// The membership list.
    pub members: Vec<Listed>,
    /// The next committee.
    pub seats: Vec<NextSeat>,
    /// The next committee's threshold public key, where it made one.
    pub threshold: Option<Bytes>,
}

impl Reconfiguration {
    /// What the header binds.
    pub fn root(&self) -> Digest {
        let mut writer = Writer::new();
        writer.u8(3).reconfiguration(self);
        writer.0.finish()
    }

    /// Whether it keeps its bounds and names nothing twice.
    pub(super) fn check(&self) -> Result<(), BodyError> {
        check_seats(self.seats.iter().map(|seat| &seat.member))?;
        check_key_material("threshold", &self.threshold)?;
        let fits = |member: &Listed| {
            (1..=NAME_BYTES_MAX).contains(&member.name.len())
                && member.address.len() <= ADDRESS_BYTES_MAX
        };
        if self.members.is_empty() || self.members.len() > MEMBERS_MAX {
            return Err(BodyError::Bounds { field: "members" });
        }
        if !self.members.iter().all(fits) {
            return Err(BodyError::Bounds { field: "member" });
        }
        check_distinct("member", self.members.iter().map(|member| member.identity))?;
        let keys = self.seats.iter().filter_map(|seat| seat.fresh.as_ref());
        let identities = self.members.iter().map(|member| member.identity);
        // One list for both: identity keys never vote, and no two seats share a key.
        check_distinct("key", identities.chain(keys.map(|proof| proof.key)))
    }
}

/// Names a snapshot and makes what stands before it superfluous.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The snapshot's height, below this block's.
    pub height: Height,
    /// The header there.
    pub header: Digest,
    /// The Merkle root of the manifest.
    pub manifest: Digest,
    /// The digest of the whole state.
    pub state: Digest,
    /// Bytes of the snapshot.
    pub bytes: u64,
    /// Segments of the snapshot.
    pub segments: u32,
    /// Who voted for it.
    pub signers: SeatSet,
    /// Their CHECKPOINT votes, in seat order.
    pub votes: Vec<Signature>,
    /// A threshold signature over the same, where the committee has a key.
    pub compact: Option<Bytes>,
}

impl Checkpoint {
    fn check(&self) -> Result<(), BodyError> {
        let votes = self.votes.len();
        if votes == 0 || votes != self.signers.count() || !self.signers.is_canonical() {
            return Err(BodyError::Bounds { field: "votes" });
        }
        check_key_material("compact", &self.compact)
    }
}

fn check_seats<'a>(members: impl ExactSizeIterator<Item = &'a MemberId>) -> Result<(), BodyError> {
    if !(1..=SEATS_MAX).contains(&members.len()) {
        return Err(BodyError::Bounds { field: "seats" });
    }
    check_distinct("seat", members)
}

fn check_distinct<T: Ord>(
    field: &'static str,
    items: impl Iterator<Item = T>,
) -> Result<(), BodyError> {
    let mut seen = BTreeSet::new();
    for item in items {
        if !seen.insert(item) {
            return Err(BodyError::Repeated { field });
        }
    }
    Ok(())
}

fn check_key_material(field: &'static str, bytes: &Option<Bytes>) -> Result<(), BodyError> {
    let length = bytes.as_ref().map_or(1, Bytes::len);
    if !(1..=THRESHOLD_BYTES_MAX).contains(&length) {
        return Err(BodyError::Bounds { field });
    }
    Ok(())
}

/// What a block orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// The first block; it names the genesis document and is derived, never proposed.
    Genesis(Digest),
    /// See [`Freeze`].
    Freeze(Freeze),
    /// See [`Assemble`].
    Assemble(Assemble),
    /// See [`Reconfiguration`].
    Reconfiguration(Reconfiguration),
    /// See [`Checkpoint`].
    Checkpoint(Checkpoint),
    /// Batches in order; empty at a height that must be closed.
    Transactions(Vec<BatchRef>),
}

impl Body {
    /// Its kind, as people read it.
    pub fn kind(&self) -> &'static str {
        match self {
            Body::Genesis(_) => "genesis",
            Body::Freeze(_) => "freeze",
            Body::Assemble(_) => "assemble",
            Body::Reconfiguration(_) => "reconfiguration",
            Body::Checkpoint(_) => "checkpoint",
            Body::Transactions(_) => "transactions",
        }
    }

    /// Whether it is sealed whatever its proposal says.
    pub fn is_control(&self) -> bool {
        !matches!(self, Body::Transactions(_))
    }

    /// The digests of its batches, in order; empty for control bodies.
    pub fn batches(&self) -> impl Iterator<Item = &BatchRef> {
        match self {
            Body::Transactions(batches) => batches.iter(),
            Body::Genesis(_)
            | Body::Freeze(_)
            | Body::Assemble(_)
            | Body::Reconfiguration(_)
            | Body::Checkpoint(_) => [].iter(),
        }
    }

    /// Whether a control body keeps its bounds and names nothing twice; what it must prove is
    /// judged elsewhere.
    pub fn check(&self) -> Result<(), BodyError> {
        match self {
            Body::Genesis(_) => Err(BodyError::Genesis),
            Body::Freeze(_) | Body::Transactions(_) => Ok(()),
            Body::Assemble(body) => {
                let beacon = body.beacon.as_ref();
                if beacon.is_some_and(|beacon| beacon.signature.len() != SIGNATURE_BYTES) {
                    return Err(BodyError::Bounds { field: "beacon" });
                }
                check_seats(body.committee.iter())
            }
            Body::Reconfiguration(body) => body.check(),
            Body::Checkpoint(body) => body.check(),
        }
    }

    /// What the header binds.
    pub fn root(&self) -> Digest {
        let mut writer = Writer::new();
        match self {
            Body::Genesis(document) => writer.u8(0).digest(document),
            Body::Freeze(freeze) => writer.u8(1).u64(freeze.next.0).digest(&freeze.list),
            Body::Assemble(assemble) => writer.u8(2).assemble(assemble),
            Body::Reconfiguration(reconfiguration) => return reconfiguration.root(),
            Body::Checkpoint(checkpoint) => writer.u8(4).checkpoint(checkpoint),
            Body::Transactions(batches) => {
                writer.u8(5).count(batches.len());
                batches.iter().for_each(|batch| {
                    writer.digest(&batch.digest());
                });
                &mut writer
            }
        };
        writer.0.finish()
    }
}

/// Writes the fields of a body into its root, fixed-width, variable parts behind their length.
struct Writer(Hasher);

impl Writer {
    fn new() -> Self {
        let mut writer = Self(Hasher::new(Domain::Body));
        writer.u8(FORMAT_VERSION);
        writer
    }

    fn u8(&mut self, value: u8) -> &mut Self {
        self.0.update(&[value]);
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    fn count(&mut self, value: usize) -> &mut Self {
        self.u64(value as u64)
    }

    fn digest(&mut self, value: &Digest) -> &mut Self {
        self.0.update(value.as_bytes());
        self
    }

    fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.count(value.len());
        self.0.update(value);
        self
    }

    fn optional(&mut self, value: Option<&[u8]>) -> &mut Self {
        self.u8(value.is_some().into())
            .bytes(value.unwrap_or_default())
    }

    fn key(&mut self, proof: &KeyProof) -> &mut Self {
        self.digest(&proof.key.0);
        self.0
            .update(&proof.possession.0)
            .update(&proof.certified.0);
        self
    }

    fn assemble(&mut self, assemble: &Assemble) -> &mut Self {
        let beacon = assemble.beacon.as_ref();
        let (height, digest) = beacon.map_or((Height(0), Digest::ZERO), |beacon| {
            (beacon.freeze.height, beacon.freeze.digest)
        });
        self.u64(assemble.next.0)
            .u8(beacon.is_some().into())
            .u64(height.0)
            .digest(&digest)
            .digest(&assemble.seed);
        if let Some(beacon) = beacon {
            self.bytes(&beacon.signature);
        }
        self.count(assemble.committee.len());
        assemble.committee.iter().for_each(|member| {
            self.digest(&member.0);
        });
        self
    }

    fn reconfiguration(&mut self, body: &Reconfiguration) -> &mut Self {
        self.u64(body.next.0)
            .u64(body.assemble.0.0)
            .digest(&body.assemble.1);
        self.count(body.members.len());
        for member in &body.members {
            self.digest(&member.identity.0)
                .bytes(member.name.as_bytes());
            self.bytes(member.address.as_bytes())
                .u64(member.weight.into())
                .key(&member.admitted);
        }
        self.count(body.seats.len());
        for seat in &body.seats {
            self.digest(&seat.member.0).u8(seat.fresh.is_some().into());
            if let Some(proof) = &seat.fresh {
                self.key(proof);
            }
        }
        self.optional(body.threshold.as_deref())
    }

    fn checkpoint(&mut self, body: &Checkpoint) -> &mut Self {
        self.u64(body.height.0)
            .digest(&body.header)
            .digest(&body.manifest)
            .digest(&body.state);
        self.u64(body.bytes)
            .u64(body.segments.into())
            .bytes(body.signers.as_bytes())
            .count(body.votes.len());
        body.votes.iter().for_each(|vote| {
            self.0.update(&vote.0);
        });
        self.optional(body.compact.as_deref())
    }
}

/// The block certificate of a sealed height: PERSIST votes of a quorum over its header.
pub type BlockCertificate = Certificate;
