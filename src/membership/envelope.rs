//! What members say to each other on an overlay, signed by its origin.
//!
//! Source: `ARCHITECTURE.md`, membership. In: contents and the identity key. Out: signed bytes, and
//! back.
//! Holds: a signature binds overlay, chain, origin, counter and the digest of the content; decoded
//! contents are within their bounds.
//! Elsewhere: who is listed, what was seen (`full_gossip`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::OverlaySetup;
use crate::blocks::codec;
use crate::committee::MemberId;
use crate::crypto::{Digest, PublicKey, SecretKey, SignBytes, Signature, Tag, Verifier, sha256};

/// Bytes of one broadcast, at most; a longer one is dropped at its origin and refused elsewhere.
pub const CONTENT_BYTES_MAX: usize = 512 << 10;

/// Bytes of one message of an overlay, at most.
pub const ENVELOPE_BYTES_MAX: usize = CONTENT_BYTES_MAX + 256;

/// A broadcast: who made it and its counter there.
pub(super) type Name = (MemberId, u64);

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// A broadcast: its content, as it is.
    Payload,
    /// Its sender keeps the broadcasts of these names.
    Have,
    /// Its sender lacks the broadcasts of these names.
    Want,
}

/// A signed message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// Who made it.
    pub(super) origin: MemberId,
    /// What it is.
    pub(super) kind: Kind,
    /// Rises with every broadcast of its origin.
    pub(super) counter: u64,
    /// The broadcast, or encoded names.
    pub(super) content: Bytes,
    /// Of the origin's identity key.
    pub(super) signature: Signature,
}

/// Signs and checks the messages of one overlay on one chain.
#[derive(Clone, Debug)]
pub(super) struct Seal {
    /// Nothing said on one overlay is heard on another.
    overlay: &'static str,
    chain: Digest,
    me: MemberId,
    identity: SecretKey,
    verifier: Verifier,
}

impl Seal {
    /// The seal of the overlay of that name.
    pub(super) fn new(overlay: &'static str, setup: &OverlaySetup) -> Self {
        Self {
            overlay,
            chain: setup.chain,
            me: MemberId::of(&setup.identity.public()),
            identity: setup.identity.clone(),
            verifier: setup.verifier,
        }
    }

    /// Who signs with it.
    pub(super) fn me(&self) -> MemberId {
        self.me
    }

    fn statement(&self, origin: &MemberId, kind: Kind, counter: u64, content: &[u8]) -> SignBytes {
        let kind = match kind {
            Kind::Payload => 0,
            Kind::Have => 1,
            Kind::Want => 2,
        };
        SignBytes::new(Tag::Overlay, &self.chain)
            .digest(&origin.0)
            .u8(kind)
            .u64(counter)
            .digest(&sha256(&[content]))
            .bytes(self.overlay.as_bytes())
    }

    /// Signs `content`.
    pub(super) fn close(&self, kind: Kind, counter: u64, content: Bytes) -> Envelope {
        let statement = self.statement(&self.me, kind, counter, &content);
        Envelope {
            origin: self.me,
            kind,
            counter,
            content,
            signature: self.identity.sign(&statement),
        }
    }

    /// Whether the holder of `key` signed it.
    pub(super) fn holds(&self, envelope: &Envelope, key: &PublicKey) -> bool {
        let e = envelope;
        let statement = self.statement(&e.origin, e.kind, e.counter, &e.content);
        self.verifier.is_valid(key, &statement, &e.signature)
    }
}

impl Envelope {
    /// Its bytes on a link.
    pub(super) fn to_bytes(&self) -> Bytes {
        Bytes::from(codec::encode(self))
    }

    /// The message of `bytes`, unchecked; none for any other bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        codec::decode(bytes, ENVELOPE_BYTES_MAX).ok()
    }
}

/// The names of an offer or a request; none unless there are 1 to `most`.
pub(super) fn names_of(content: &[u8], most: usize) -> Option<Vec<Name>> {
    let names: Vec<Name> = codec::decode(content, 8 + 40 * most).ok()?;
    (!names.is_empty()).then_some(names)
}
