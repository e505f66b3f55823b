//! What members say to each other on an overlay, signed by its origin.
//!
//! Source: `ARCHITECTURE.md`, membership. In: contents and the identity key. Out: signed bytes, and
//! back.
//! Holds: a signature binds overlay, chain, origin, counter and the digest of the content; decoded
//! contents are within their bounds.
//! Elsewhere: who is listed, what was seen (`full_gossip`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::blocks::codec;
use crate::committee::MemberId;
use crate::crypto::{Digest, PublicKey, SecretKey, SignBytes, Signature, Tag, Verifier, sha256};

/// Bytes of one broadcast, at most; a longer one is dropped at its origin and refused elsewhere.
pub const CONTENT_BYTES_MAX: usize = 512 << 10;

/// Bytes of one message of an overlay, at most.
pub const ENVELOPE_BYTES_MAX: usize = CONTENT_BYTES_MAX + 256;

/// A broadcast: who made it and its counter there.
pub(super) type Name = (MemberId, u64);

/// A signed message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// Who made it.
    pub(super) origin: MemberId,
    /// Rises with every message of its origin.
    pub(super) counter: u64,
    /// An encoded content of the overlay.
    pub(super) content: Bytes,
    /// Of the origin's identity key.
    pub(super) signature: Signature,
}

/// What an overlay of this name signs on a chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seal {
    /// The overlay: nothing said on one is heard on another.
    pub(super) overlay: &'static str,
    /// The chain.
    pub(super) chain: Digest,
}

impl Seal {
    fn statement(&self, origin: &MemberId, counter: u64, content: &[u8]) -> SignBytes {
        SignBytes::new(Tag::Overlay, &self.chain)
            .digest(&origin.0)
            .u64(counter)
            .digest(&sha256(&[content]))
            .bytes(self.overlay.as_bytes())
    }

    /// Signs `content` as the message `counter` of the holder of `identity`.
    pub(super) fn close(&self, identity: &SecretKey, counter: u64, content: Bytes) -> Envelope {
        let origin = MemberId::of(&identity.public());
        let signature = identity.sign(&self.statement(&origin, counter, &content));
        Envelope {
            origin,
            counter,
            content,
            signature,
        }
    }

    /// Whether the holder of `key` signed it.
    pub(super) fn holds(&self, envelope: &Envelope, key: &PublicKey, verifier: &Verifier) -> bool {
        let statement = self.statement(&envelope.origin, envelope.counter, &envelope.content);
        verifier.is_valid(key, &statement, &envelope.signature)
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
