//! Sign bytes: the only bytes that are ever signed or hashed as a statement, written by hand.
//!
//! Source: this file is the specification. In: fixed-width fields. Out: [`SignBytes`].
//! Holds: 16 bytes of tag, one of version, 32 of chain, then fields in the order they are written;
//! integers are little-endian; anything of variable length is written as its digest or after its
//! `u32` length.
//! Elsewhere: the general codec (`blocks::codec`), whose bytes are never signed.

use super::Digest;

/// The version byte of every signed statement.
pub const SIGN_VERSION: u8 = 1;

/// What a signature is about; two tags never sign the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tag {
    /// A leader proposes.
    Propose,
    /// A member has checked a proposal.
    Write,
    /// A member holds a WRITE certificate.
    Accept,
    /// A member has executed and stored a block.
    Persist,
    /// A member's claims at a regency change.
    StopData,
    /// A member asks for the next regency.
    Stop,
    /// The new leader's set of claims.
    Sync,
    /// A client's group of transactions.
    Group,
    /// A member's reply about an executed transaction.
    Reply,
    /// A consensus key proves that its secret is held.
    Possession,
    /// An identity certifies a consensus key.
    Certify,
    /// A certificate of a transport connection.
    Transport,
    /// A vote for a checkpoint.
    Checkpoint,
    /// A fresh anchor for a newcomer.
    Anchor,
    /// A message of an overlay.
    Overlay,
    /// The genesis document.
    Genesis,
    /// A committee's beacon over a freeze block.
    Beacon,
}

impl Tag {
    /// Every tag, for tests that cross them.
    pub const ALL: [Tag; 17] = [
        Tag::Propose,
        Tag::Write,
        Tag::Accept,
        Tag::Persist,
        Tag::StopData,
        Tag::Stop,
        Tag::Sync,
        Tag::Group,
        Tag::Reply,
        Tag::Possession,
        Tag::Certify,
        Tag::Transport,
        Tag::Checkpoint,
        Tag::Anchor,
        Tag::Overlay,
        Tag::Genesis,
        Tag::Beacon,
    ];

    /// The 16 bytes that open the statement; frozen by golden vectors.
    pub const fn bytes(self) -> &'static [u8; 16] {
        match self {
            Tag::Propose => b"consort/propose\0",
            Tag::Write => b"consort/write\0\0\0",
            Tag::Accept => b"consort/accept\0\0",
            Tag::Persist => b"consort/persist\0",
            Tag::StopData => b"consort/stopdata",
            Tag::Stop => b"consort/stop\0\0\0\0",
            Tag::Sync => b"consort/sync\0\0\0\0",
            Tag::Group => b"consort/group\0\0\0",
            Tag::Reply => b"consort/reply\0\0\0",
            Tag::Possession => b"consort/possess\0",
            Tag::Certify => b"consort/certify\0",
            Tag::Transport => b"consort/transpor",
            Tag::Checkpoint => b"consort/checkpt\0",
            Tag::Anchor => b"consort/anchor\0\0",
            Tag::Overlay => b"consort/overlay\0",
            Tag::Genesis => b"consort/genesis\0",
            Tag::Beacon => b"consort/beacon\0\0",
        }
    }
}

/// The writer of one signed statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignBytes(Vec<u8>);

impl SignBytes {
    /// Opens a statement about `tag` on `chain`.
    pub fn new(tag: Tag, chain: &Digest) -> Self {
        let mut bytes = Vec::with_capacity(160);
        bytes.extend_from_slice(tag.bytes());
        bytes.push(SIGN_VERSION);
        bytes.extend_from_slice(chain.as_bytes());
        Self(bytes)
    }

    /// A statement of exactly these bytes, for published test vectors.
    #[cfg(test)]
    pub(super) fn raw(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Adds one byte.
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Adds four bytes.
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Adds eight bytes.
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Adds a digest or key: 32 bytes.
    pub fn digest(mut self, value: &Digest) -> Self {
        self.0.extend_from_slice(value.as_bytes());
        self
    }

    /// Adds a digest that may be absent: a byte that says so, then 32 bytes.
    pub fn optional(self, value: Option<&Digest>) -> Self {
        self.u8(value.is_some().into())
            .digest(value.unwrap_or(&Digest::ZERO))
    }

    /// Adds bytes of variable length behind their length.
    ///
    /// The length must fit 32 bits: every bounded input does.
    pub fn bytes(self, value: &[u8]) -> Self {
        let length = u32::try_from(value.len()).expect("bounded inputs are shorter than 4 GiB");
        let mut this = self.u32(length);
        this.0.extend_from_slice(value);
        this
    }

    /// What is signed.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}
