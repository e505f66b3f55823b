//! Headers and the link rule of the chain.
//!
//! Source: `docs/formats.md`. In: the decided prefix. Out: the one header that follows from it.
//! Holds: a header is a pure function of the decided prefix; its digest binds every field and,
//! through `previous`, every ancestor. Elsewhere: certificates over header digests (`committee`),
//! execution (`application`).

use serde::{Deserialize, Serialize};

use super::proposal::FORMAT_VERSION;
use crate::committee::{Height, ViewId};
use crate::crypto::{Digest, Domain, Hasher};

/// The size and the root of the receipt log after a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRoot {
    /// Executed transactions since genesis.
    pub size: u64,
    /// The RFC 6962 root over their receipts.
    pub root: Digest,
}

/// A height and the header digest there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The height.
    pub height: Height,
    /// The header's digest.
    pub digest: Digest,
}

/// A block's header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT_VERSION`].
    pub version: u8,
    /// The chain.
    pub chain: Digest,
    /// The height.
    pub height: Height,
    /// The view that ordered it.
    pub view: ViewId,
    /// The header before; zero for genesis.
    pub previous: Digest,
    /// The body's root.
    pub body: Digest,
    /// The receipt log after this block.
    pub receipts: ReceiptRoot,
    /// The root of the application's authenticated map; only at sealed heights, and only where it
    /// keeps one.
    pub state: Option<Digest>,
    /// Microseconds since the Unix epoch; grows from block to block.
    pub timestamp_us: u64,
    /// The last checkpoint block; genesis before the first.
    pub checkpoint: Link,
    /// The last reconfiguration block; genesis before the first.
    pub reconfiguration: Link,
}

/// Why a header does not follow another. The chain is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Heights do not follow each other; nobody's fault. Ask for the gap.
    #[error("height {got} does not follow {tip}")]
    Gap {
        /// The height before.
        tip: Height,
        /// The height offered.
        got: Height,
    },
    /// Another chain or format. The sender is faulty.
    #[error("another chain or format version")]
    OtherChain,
    /// It names another parent. The sender is faulty.
    #[error("height {height} names parent {got}, the chain has {want}")]
    Parent {
        /// The height.
        height: Height,
        /// The parent it names.
        got: Digest,
        /// The parent we have.
        want: Digest,
    },
    /// View, time, receipts or back links do not follow from the parent's. The sender is faulty.
    #[error("height {height} does not follow in {field}")]
    Step {
        /// The height.
        height: Height,
        /// Which field.
        field: &'static str,
    },
}

impl Header {
    /// What is certified.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::Header);
        hasher.update(&[self.version]);
        hasher.update(self.chain.as_bytes());
        hasher.update(&self.height.0.to_le_bytes());
        hasher.update(&self.view.0.to_le_bytes());
        hasher.update(self.previous.as_bytes());
        hasher.update(self.body.as_bytes());
        hasher.update(&self.receipts.size.to_le_bytes());
        hasher.update(self.receipts.root.as_bytes());
        hasher.update(&[self.state.is_some().into()]);
        hasher.update(self.state.unwrap_or_default().as_bytes());
        hasher.update(&self.timestamp_us.to_le_bytes());
        for link in [&self.checkpoint, &self.reconfiguration] {
            hasher.update(&link.height.0.to_le_bytes());
            hasher.update(link.digest.as_bytes());
        }
        hasher.finish()
    }

    /// Whether this header may follow `parent`, whose digest is `parent_digest`.
    pub fn follows(&self, parent: &Header, parent_digest: &Digest) -> Result<(), LinkError> {
        if self.height != parent.height.next() {
            return Err(LinkError::Gap {
                tip: parent.height,
                got: self.height,
            });
        }
        if self.chain != parent.chain || self.version != FORMAT_VERSION {
            return Err(LinkError::OtherChain);
        }
        let height = self.height;
        if self.previous != *parent_digest {
            let (got, want) = (self.previous, *parent_digest);
            return Err(LinkError::Parent { height, got, want });
        }
        let before = Link {
            height: parent.height,
            digest: *parent_digest,
        };
        let same_log = self.receipts == parent.receipts;
        // A back link stays, or moves to the block just before: no header can name itself.
        let moves = |link: &Link, held: &Link| *link == *held || *link == before;
        // The reconfiguration block is the last of its view, and nothing else ends one.
        let is_next_view = self.view == parent.view.next()
            && before.height > Height(0)
            && self.reconfiguration == before;
        let is_same_view = self.view == parent.view
            && (before.height == Height(0) || self.reconfiguration == parent.reconfiguration);
        let steps = [
            ("view", is_same_view || is_next_view),
            (
                "receipts",
                same_log || self.receipts.size > parent.receipts.size,
            ),
            ("timestamp", self.timestamp_us > parent.timestamp_us),
            ("checkpoint", moves(&self.checkpoint, &parent.checkpoint)),
            (
                "reconfiguration",
                moves(&self.reconfiguration, &parent.reconfiguration),
            ),
        ];
        match steps.iter().find(|(_, is_right)| !is_right) {
            Some((field, _)) => Err(LinkError::Step { height, field }),
            None => Ok(()),
        }
    }
}
