//! What a newcomer's machine is made of, told, and tells: options, commands, records, events.
//!
//! Source: `machine.rs`. In and out: the types of this file. Holds: what was proved is told with
//! what proves it. Elsewhere: who acts on it (`node`, `sim`).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::message::Ask;
use crate::blocks::body::{Checkpoint, Reconfiguration};
use crate::blocks::{Genesis, Header, Link, Step, ViewChainError};
use crate::checkpoint::{Leaf, Lie, Manifest, ManifestError, Page};
use crate::committee::{Certificate, Height, MemberId, Taken, ViewId};
use crate::crypto::{Digest, PublicKey, Verifier};

/// A later root of trust: a view, and the block that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The view.
    pub view: ViewId,
    /// The digest of the header of the block that opened it.
    pub digest: Digest,
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.view, self.digest)
    }
}

/// Why a text is no pin; whoever wrote it is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is no pin: VIEW:DIGEST, the number of a view from 1 on and the 64 hex digits of the \
     block that opened it"
)]
pub struct PinError {
    text: String,
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let read = || {
            let (view, digest) = text.split_once(':')?;
            let (view, digest) = (view.parse().ok()?, digest.parse().ok()?);
            // The genesis document settles what opened view 0.
            (view > 0).then_some(Self {
                view: ViewId(view),
                digest,
            })
        };
        read().ok_or_else(|| PinError {
            text: text.chars().take(80).collect(),
        })
    }
}

/// What a newcomer's machine is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// This member.
    pub me: MemberId,
    /// The genesis document: the root of trust.
    pub genesis: Genesis,
    /// A later one: nothing below it counts before it is known what leads there.
    pub pin: Option<Pin>,
    /// The signature scheme.
    pub verifier: Verifier,
    /// Where all chance comes from, the nonces among it; nobody may know it ahead.
    pub seed: [u8; 32],
    /// The height up to which the own ledger stands and is certified; 0 without one.
    pub local: Height,
    /// Consensus keys whose secrets are here, with the log that they signed into. Where one of them
    /// has our seat in the newest proved view, we count in its quorum: while our secret is not
    /// erased fewer than a quorum of that view can be in wrong hands, so what the others name may
    /// be old, and is true.
    pub own: BTreeSet<PublicKey>,
}

/// What the disk gave back of an earlier try.
#[derive(Debug, Default)]
pub struct Held {
    /// Steps of the view chain, from view 1 on.
    pub steps: Vec<Step>,
    /// What is being fetched, where that was settled.
    pub target: Option<Box<Target>>,
    /// Pages of its manifest.
    pub pages: Vec<Page>,
    /// Digests of segments on the disk, of an earlier try or of an own checkpoint.
    pub segments: BTreeSet<Digest>,
}

/// Why what the disk gave back is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeldError {
    /// The genesis document makes no view.
    #[error("the genesis document: {0}")]
    Genesis(#[from] crate::committee::ViewError),
    /// The steps do not hold: the disk was tampered with, or is another chain's.
    #[error("steps on the disk: {0}")]
    Steps(#[from] ViewChainError),
    /// The steps do not lead past the pin: forget them all, and walk anew.
    #[error("steps on the disk open view {view} by another block than the pinned one")]
    OtherRoot {
        /// The pinned view.
        view: ViewId,
    },
}

/// What is fetched: a fresh block, and the checkpoint that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The fresh block.
    pub anchor: Fresh,
    /// The checkpoint block that it names.
    pub checkpoint: Header,
    /// That block's body.
    pub body: Checkpoint,
}

impl Target {
    /// The snapshot.
    pub fn taken(&self) -> Taken {
        self.body.taken()
    }
}

/// A certified block that a quorum of the newest view named over our nonce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fresh {
    /// The view.
    pub view: ViewId,
    /// Its header.
    pub header: Header,
    /// What certifies it; none for the block that opened the view.
    pub certificate: Option<Certificate>,
}

/// What the driver tells a newcomer's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Begin.
    Start,
    /// A link to this member stands.
    Connected(MemberId),
    /// It fell.
    Disconnected(MemberId),
    /// A member speaks of a certified block of this height, unproved: a hint of how far there is to
    /// go, of which the highest of each member is kept.
    Seen(MemberId, Height),
}

/// What must be durable: what is behind it is not asked for again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A step that holds; it follows those before. Where the disk has another one for its view,
    /// that one and those behind it are of a chain that does not lead to the pin.
    Step(Bytes),
    /// What is fetched from now on; it replaces an earlier one.
    Target(Box<Target>),
    /// A page of its manifest.
    Page(Box<Page>),
}

/// What a timer guards; the number is that of the stage, so that one of an earlier stage is
/// harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A member was asked for steps.
    Walk(u64),
    /// Seats were asked where they stand.
    Anchor(u64),
    /// A checkpoint block was asked for.
    Checkpoint(u64),
    /// Pages and segments were asked for.
    Gather(u64),
}

/// Where a newcomer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It was not started.
    Idle,
    /// The view chain is walked.
    Walk,
    /// Seats of the newest view are asked for a fresh block.
    Anchor,
    /// The checkpoint block is asked for.
    Checkpoint,
    /// Segments are gathered.
    Gather,
    /// There is nothing more to do here.
    Done,
    /// It cannot go on, see [`Event::Forked`] and [`Event::Void`].
    Stuck,
}

impl Stage {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Idle => "idle",
            Stage::Walk => "walk",
            Stage::Anchor => "anchor",
            Stage::Checkpoint => "checkpoint",
            Stage::Gather => "gather",
            Stage::Done => "done",
            Stage::Stuck => "stuck",
        }
    }
}

/// Whom the chain lists, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Its identity key.
    pub identity: PublicKey,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
}

impl Contact {
    /// Its id.
    pub fn member(&self) -> MemberId {
        MemberId::of(&self.identity)
    }

    /// The founders.
    pub(super) fn founders(genesis: &Genesis) -> Vec<Self> {
        let founders = genesis.founders.iter();
        let contact = |founder: &crate::blocks::Founder| Self {
            identity: founder.identity,
            name: founder.name.clone(),
            address: founder.address.clone(),
        };
        founders.map(contact).collect()
    }

    /// Those that a reconfiguration lists.
    pub(super) fn listed(body: &Reconfiguration) -> Vec<Self> {
        let members = body.members.iter();
        let contact = |listed: &crate::blocks::body::Listed| Self {
            identity: listed.identity,
            name: listed.name.clone(),
            address: listed.address.clone(),
        };
        members.map(contact).collect()
    }
}

/// What a newcomer's machine tells its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Members that the newest proved view lists: connect to them.
    Members(Vec<Contact>),
    /// Another stage begins.
    Stage(Stage),
    /// A segment of this manifest: store it under its digest. It need not be durable before what
    /// follows, but before [`Event::Assembled`] is acted on.
    Segment(Digest, Leaf, Bytes),
    /// A member did what no correct one does; nothing it says is heard any more.
    Banned(MemberId, Misdeed),
    /// A member asks for what the disk may have: see [`super::shelf`].
    Serve(MemberId, Ask),
    /// Too few seats of the newest proved view answered: either it is not the newest, or too many
    /// of its seats are away. The walk goes on.
    NotFresh {
        /// The view.
        view: ViewId,
        /// Seats that answered.
        have: usize,
        /// A quorum.
        need: usize,
    },
    /// Nobody has the snapshot any more: a fresh block is asked for again. What was fetched stays.
    Gone(Taken),
    /// One quorum has signed two steps: more members are faulty than a chain bears, or old keys
    /// were not erased. Nothing tells which one is true but people: pin a view, and start again.
    Forked {
        /// The view that both make.
        view: ViewId,
        /// The block that makes it here.
        ours: Digest,
        /// The other one.
        theirs: Digest,
        /// Who sent it.
        from: MemberId,
    },
    /// A quorum has signed a checkpoint that names no manifest. Nothing can be taken from it.
    Void(Taken, ManifestError),
    /// Blocks are enough: there is no checkpoint, or it lies at or below the own ledger. Replay
    /// from the own ledger, or from genesis, at least up to this block.
    Replay(Box<Fresh>),
    /// Every segment of the snapshot was told of or held before: make them durable, restore, and
    /// replay at least up to the fresh block.
    Assembled(Box<Assembled>),
}

/// A whole snapshot, and what proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// The fresh block and the checkpoint.
    pub target: Target,
    /// Which segments, in order; their bytes are on the disk by digest.
    pub manifest: Arc<Manifest>,
}

/// What a member did that no correct one does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misdeed {
    /// A message breaks a bound or does not decode.
    #[error("a message that breaks a bound")]
    Malformed,
    /// A step does not hold.
    #[error("a step that does not hold: {0}")]
    Step(#[from] ViewChainError),
    /// A step opens the pinned view, or one before, by a block that does not lead past the pin.
    #[error("a step that opens view {view} by another block than the pin allows")]
    OtherRoot {
        /// The view.
        view: ViewId,
    },
    /// Its word on where the chain stands does not hold.
    #[error("an anchor: {0}")]
    Anchor(&'static str),
    /// A block that is not the checkpoint that was asked for.
    #[error("a block that is not the checkpoint at height {}", .0.height)]
    Checkpoint(Link),
    /// A page or segment.
    #[error("{0}")]
    Segments(#[from] Lie),
    /// It answers what nobody asked, again and again.
    #[error("more than {} answers that nobody asked for", super::STRAYS_MAX)]
    Flood,
}
