//! What the replica's driver tells it and is told: commands, records, timers, events.
//!
//! Source: `machine.rs`. In and out: the types of this file. Holds: every event that wants an
//! answer names what the answer must name. Elsewhere: the drivers (`node`, `sim`).

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ledger::{Base, Effect, Snapshots, Views};
use super::message::Block;
pub use crate::blocks::Outcome;
use crate::blocks::evidence::Evidence;
pub use crate::blocks::evidence::FaultKind;
use crate::blocks::receipts::Receipt;
use crate::blocks::{Call, Group, Header, NextKey, SignedGroup};
use crate::bootstrap;
use crate::committee::{
    AnchorVote, Certificate, Height, MemberId, Promised, Taken, View, ViewId, VoterRecord,
};
use crate::crypto::{Digest, PublicKey, SecretKey, Verified};
use crate::fsm;
use crate::membership::register::Register;

/// What the driver asks for, and its answers to events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Everything from the disk was handed to the constructor: begin.
    Start,
    /// A client's group arrived here; the raw form travels on, the decoded one is looked into.
    Submit(Verified<(SignedGroup, Group)>),
    /// Answers [`Event::Execute`].
    Executed(Execution),
    /// A link to this member stands; what was sent before may be lost.
    Connected(MemberId),
    /// A link to this member fell.
    Disconnected(MemberId),
    /// A refused frame convicts a member, see [`super::Ears::convict`].
    Accuse(Fault),
    /// Answers [`Event::MakeKey`]: our fresh key. Its secret is durable.
    Key(Box<NextKey>),
    /// Answers [`Event::View`]: secrets of the view before are erased where they had to be. With
    /// our secret in this view, where we have a seat, and whether it was made in this life of the
    /// process and has never signed.
    Enter(ViewId, Option<Box<SecretKey>>, bool),
    /// A frame was refused since its sender stands in another view.
    Elsewhere(MemberId, ViewId),
    /// Answers [`Event::Snapshot`]: it is durable. Also said at a start of one that is open still.
    Taken(Taken),
    /// Log files are about to be given up: what stands in old ones and still holds is saved again;
    /// answered by [`Event::Resaved`] with the same number.
    Resave(u64),
    /// What stands in log files below this number and still holds is saved again, so that a start
    /// need not read them; answered by [`Event::Settled`] with the same number.
    Settle(u64),
}

/// The application's answer for one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The block.
    pub height: Height,
    /// One outcome per operation, in order.
    pub outcomes: Vec<Outcome>,
    /// The root of its authenticated map when the block is sealed and it keeps one.
    pub state: Option<Digest>,
}

/// What must be durable. Each record is appended to the log whole.
#[expect(
    clippy::large_enum_variant,
    reason = "a record is made, encoded and dropped"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A promise of the voter in a view.
    Voter(ViewId, VoterRecord),
    /// A proposal that a WRITE names.
    Payload(Height, fsm::Payload),
    /// q ACCEPTs for a height, until a block certificate covers it.
    Decision(Certificate),
    /// The encoded batch.
    Batch(Bytes),
    /// An applied block.
    Block(Block),
    /// A block certificate.
    Certificate(Certificate),
    /// What the group engine journals, and the height at which it may be dropped.
    Engine(u64, Bytes),
    /// A fault of a member, with what proves it.
    Fault(Fault),
}

/// What a timer of the replica guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Ordering: see [`fsm::Timer`].
    Order(fsm::Timer),
    /// The batch under way is closed even if it is small.
    Flush,
    /// Missing batches or blocks are asked for again.
    Fetch,
    /// The newest certificate is spread.
    Tell,
    /// A timer of the group engine.
    Engine(u64),
    /// A timer of the overlay.
    Overlay(u64),
    /// Batches that take long are told of to everybody.
    Held,
    /// Own batches that are not committed are spread again.
    Spread,
    /// Our key for the next view is sent again, and a leader lets a height pass.
    Key,
    /// Our word on our snapshot is sent again.
    Snapshot,
}

/// One block for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execute {
    /// Its height.
    pub height: Height,
    /// Its timestamp.
    pub timestamp_us: u64,
    /// Whether the application gives its state root.
    pub is_sealed: bool,
    /// The operations that execute, in order; repeats, conflicts and expired ones are left out.
    pub operations: Vec<Bytes>,
}

/// An applied block with what became of its transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The block.
    pub block: Block,
    /// Its header's digest.
    pub digest: Digest,
    /// One per transaction of the body, in order.
    pub answers: Vec<Answer>,
    /// The receipts appended to the log, in order.
    pub receipts: Vec<Receipt>,
    /// Names of transactions whose memory ended with this block.
    pub forgotten: Vec<(PublicKey, u64)>,
    /// What its control body effected; nothing for an empty or a common block.
    pub effect: Option<Effect>,
    /// Where views stand behind it, if it had an effect.
    pub views: Option<Box<Views>>,
    /// Where snapshots stand behind it.
    pub snapshots: Snapshots,
    /// The register of members behind this block, where the block changed it.
    pub register: Option<Arc<Register>>,
}

/// What a client is told of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The client.
    pub client: PublicKey,
    /// Its sequence.
    pub sequence: u64,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It executed now.
    Executed(Executed),
    /// The same operation executed before; this is its answer.
    Repeated(Executed),
    /// Another operation has this name.
    Conflict,
    /// Its expiry has passed, or lies too far ahead.
    Expired,
    /// Too many executed transactions are remembered; try again later.
    Busy,
    /// Only listed clients may submit, and this one is not.
    NotListed,
}

/// Where a transaction executed and what it gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// Place in the receipt log.
    pub sequence: u64,
    /// The block.
    pub height: Height,
    /// Place in the block's list of executed transactions.
    pub index: u32,
    /// The digest of the operation, which tells a repeat from a conflict.
    pub operation: Digest,
    /// The last height at which it is remembered.
    pub expiry: Height,
    /// The result; bytes beyond [`super::OUTCOME_BYTES_MAX`] are not remembered.
    pub outcome: Outcome,
    /// The digest of the whole result.
    pub outcome_digest: Digest,
}

/// Why a submission was not admitted. Nothing was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The pool is full.
    #[error("busy: the pool is full, try again in {retry_after_ms} ms")]
    Busy {
        /// When to try again.
        retry_after_ms: u64,
    },
    /// Its expiry has passed or lies too far ahead.
    #[error("expiry {expiry} is not between height {height} and {most}")]
    Expired {
        /// What the transaction says.
        expiry: Height,
        /// The present height.
        height: Height,
        /// The largest allowed.
        most: Height,
    },
    /// Only listed clients may submit.
    #[error("this client is not listed")]
    NotListed,
    /// The node cannot order now.
    #[error("this member is {state}")]
    NotReady {
        /// The state of its normal machine.
        state: &'static str,
    },
}

/// Who misbehaved and how; evidence proves it to others where the kind allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The member.
    pub who: MemberId,
    /// What it did.
    pub kind: FaultKind,
    /// What proves it, where anything does.
    pub evidence: Option<Box<Evidence>>,
}

/// What the replica tells its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Run the application on this block; answer with [`Command::Executed`]. Heights come in order.
    Execute(Execute),
    /// A group was admitted, or why not.
    Submitted(Digest, Result<(), Denied>),
    /// These heights and everything below are ordered: q ACCEPTs. Carries the new top.
    Ordered(Height, Vec<(PublicKey, u64)>),
    /// A block was applied: executed, and its header is known. Comes behind its save.
    Applied(Box<Applied>),
    /// Everything up to this certificate's height is durable and can be proved.
    Certified(Certificate),
    /// A member lacks something that the disk has: read it and send it.
    Serve(MemberId, Wanted),
    /// Something that operators see changed.
    Changed(Change),
    /// The next committee has a seat for us: make a key for this call, or find the one that was
    /// made for it, and answer with [`Command::Key`] once it is durable.
    MakeKey(Call),
    /// The certificate that ends the present view is durable, and this view follows: erase the
    /// secret of the one before unless its key has a seat in this one, and answer with
    /// [`Command::Enter`].
    View(Box<View>),
    /// A snapshot is due behind the last executed block: take it before the next one is executed,
    /// and answer with [`Command::Taken`] once it is durable, if that is before the next one is
    /// due.
    Snapshot(Box<Base>),
    /// Answers [`Command::Resave`]: what still holds is durable once more, aside from these
    /// batches, which are held as well: the log keeps them where they stand.
    Resaved(u64, Vec<Digest>),
    /// Answers [`Command::Settle`]: what a start needs of promises, of open heights and of faults
    /// is durable once more. Batches stay where they stand.
    Settled(u64),
    /// A newcomer asks where we stand, and this is our signed word: add the header there and send
    /// it, see [`crate::bootstrap::shelf::anchor`].
    Anchored(MemberId, Box<Standing>),
    /// What we lack nobody who was asked has any more: go on from a checkpoint. Said once, and
    /// again only after blocks have come.
    TooFar,
    /// More members than may be faulty say that a checkpoint is much shorter than the blocks that
    /// we lack: go on from one, where nothing speaks against it. Said once until we have caught up.
    Shorter,
}

/// Our signed word on where we stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The word.
    pub vote: AnchorVote,
    /// The certificate of the block that it names; none for the one that opened the view.
    pub certificate: Option<Certificate>,
}

/// What to read from the disk and send, see [`super::serve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// These batches.
    Batches(Vec<Digest>),
    /// Certified blocks from this height on.
    Blocks(Height),
    /// The certificate that ended this view, looked for from the reconfiguration block at this
    /// height downwards.
    End(ViewId, Height),
    /// What a newcomer asks for, see [`crate::bootstrap::shelf`].
    Bootstrap(bootstrap::Ask),
}

/// Something that operators see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The normal machine is in this state.
    State(&'static str),
    /// A regency was installed; its leader.
    Regency(u64, MemberId),
    /// A view was entered.
    View(ViewId),
    /// A member misbehaved.
    Fault(Fault),
    /// The overlay reaches a member again, or no more.
    Reached(MemberId, bool),
    /// Our log was rolled back: this member holds something of ours that the log lacks. Nothing is
    /// signed any more.
    Lapsed(MemberId, Promised),
    /// Voting has halted: our header differs from the certified one.
    Halted {
        /// Where.
        height: Height,
        /// Ours.
        ours: Box<Header>,
        /// The certified digest.
        certified: Digest,
    },
    /// Voting has halted: our snapshot differs from the certified one of the same height.
    Diverged {
        /// Ours.
        ours: Box<Taken>,
        /// The certified one.
        certified: Box<Taken>,
    },
}
