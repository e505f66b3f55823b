//! What goes over HTTP: plain data in snake_case, digests and keys in lower-case hex.
//!
//! Source: `openapi.json`. In: what a host knows. Out: JSON, and back for clients.
//! Holds: bytes of a user are text where they are printable UTF-8, else hex, and say which.
//! Elsewhere: statuses and errors (`problem`), the document that describes this (`openapi`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::kept::Retained;
use super::problem::Problem;
use crate::blocks::evidence::FaultKind;
use crate::blocks::proof::Proof;
use crate::blocks::{Bounds, Header, Step, ViewRules};
use crate::committee::{Certificate, Height, MemberId, Regency, ViewId};
use crate::crypto::{Digest, PublicKey, SignBytes, Signature, Tag};

/// How far a submission must be before it is answered; each promises more than the one before.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// q ACCEPTs for it and everything below it: survives power loss of all members.
    Ordered,
    /// Executed by this member, whose signed reply counts towards f + 1 equal ones.
    Executed,
    /// Under a block certificate: one answer proves it to anybody.
    #[default]
    Durable,
}

/// What never changes while a member runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The chain.
    pub chain: Digest,
    /// Sizes of the genesis document; the limit of a request's body follows from them.
    pub bounds: Bounds,
    /// Whether the member signs JSON operations with a client key of its own: `dev` only.
    pub signs_operations: bool,
}

/// How bytes stand in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// As they are.
    #[default]
    Utf8,
    /// As hex digits.
    Hex,
}

impl Encoding {
    /// Text for `bytes`: themselves where they are UTF-8 without control characters, else hex.
    pub fn write(bytes: &[u8]) -> (String, Encoding) {
        match std::str::from_utf8(bytes) {
            Ok(text)
                if !text
                    .chars()
                    .any(|c| c.is_control() && c != '\n' && c != '\t') =>
            {
                (text.to_owned(), Encoding::Utf8)
            }
            Ok(_) | Err(_) => (hex::encode(bytes), Encoding::Hex),
        }
    }

    /// The bytes of `text`; nothing where it is not hex though it should be.
    pub fn read(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Encoding::Utf8 => Some(text.as_bytes().to_vec()),
            Encoding::Hex => hex::decode(text).ok(),
        }
    }
}

/// The result of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// 0 is success; the application documents the others.
    pub code: u16,
    /// What the operation gave.
    pub value: String,
    /// How `value` stands.
    pub encoding: Encoding,
}

impl Outcome {
    /// The result with `code` and `bytes`.
    pub fn new(code: u16, bytes: &[u8]) -> Self {
        let (value, encoding) = Encoding::write(bytes);
        Self {
            code,
            value,
            encoding,
        }
    }
}

/// An operation to be signed by the member, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Makes the submission idempotent; at most 128 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What to do, in the application's own form: `{"put": {"key": "…", "value": "…"}}`.
    pub operation: Json,
}

/// What became of one transaction that was submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Who signed it.
    pub client: PublicKey,
    /// The client's name for it.
    pub sequence: u64,
    /// The block's height.
    pub height: Height,
    /// Place among the block's executed transactions; none before it executed.
    pub index: Option<u32>,
    /// The digest of the block's header; none before it executed.
    pub block: Option<Digest>,
    /// What it gave; none before it executed.
    pub result: Option<Outcome>,
    /// What is promised about it.
    pub persistence: Wait,
    /// A block certificate of its height or one above; none before it is durable, and none in a
    /// list, where [`Answers::certificate`] covers all.
    pub certificate: Option<Certificate>,
    /// The member's signature over the result; none before it executed.
    pub reply: Option<Reply>,
}

/// A member's signed word about an executed transaction; f + 1 equal ones convince.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Whose word.
    pub member: MemberId,
    /// The digest of the whole result, which `result` may hold shortened.
    pub outcome: Digest,
    /// Over [`reply_statement`], under the member's identity key.
    pub signature: Signature,
}

/// What a [`Reply`] signs: chain, client, sequence, height, index, digest of the result.
pub fn reply_statement(
    chain: &Digest,
    (client, sequence): (&PublicKey, u64),
    (height, index): (Height, u32),
    outcome: &Digest,
) -> SignBytes {
    SignBytes::new(Tag::Reply, chain)
        .digest(&client.0)
        .u64(sequence)
        .u64(height.0)
        .u32(index)
        .digest(outcome)
}

/// A transaction of a group that did not execute, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Who signed it.
    pub client: PublicKey,
    /// The client's name for it.
    pub sequence: u64,
    /// Why.
    pub error: Problem,
}

/// The answer about one transaction of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Settled {
    /// It is as far as was asked for.
    Done(Box<Submitted>),
    /// It never executes, or not now.
    Refused(Refused),
}

/// The answer about a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// A block certificate at or above every height below, once all are durable.
    pub certificate: Option<Certificate>,
    /// One per transaction of the group, in order.
    pub transactions: Vec<Settled>,
}

/// A member at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who.
    #[serde(flatten)]
    pub member: MemberName,
    /// Where the chain stands.
    #[serde(flatten)]
    pub tip: Tip,
    /// Who leads.
    #[serde(flatten)]
    pub order: Order,
    /// Where the present view and the next one stand.
    pub views: ViewStatus,
    /// Height of the last checkpoint block.
    pub last_checkpoint: Height,
    /// How much of the ledger is here.
    #[serde(flatten)]
    pub retained: Retained,
    /// Faults of others that it has seen since it started.
    pub faults_seen: u64,
    /// Why it takes no part, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The program's version.
    pub version: String,
}

/// Who a member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberName {
    /// Its id.
    pub id: MemberId,
    /// Its name, for people.
    pub name: String,
    /// The chain it serves.
    pub chain: Digest,
}

/// Where a member's chain stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// The newest applied height.
    pub height: Height,
    /// The newest height that the group engine let through.
    pub group_height: Height,
    /// The header's digest at `height`.
    pub digest: Digest,
    /// The digest of the application's state at `height`.
    pub state_digest: Digest,
    /// Executed transactions since genesis: the sequence that the next one gets.
    pub sequence: u64,
}

/// How a member orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its part.
    pub role: Role,
    /// The state of its normal machine.
    pub state: String,
    /// The view.
    pub view: ViewId,
    /// The installed regency.
    pub regency: Regency,
    /// Who leads it.
    pub leader: Option<MemberId>,
    /// Signatures that decide.
    pub quorum: u64,
    /// Faulty members that the view bears.
    pub faults_tolerated: u64,
}

/// Where the present view stands, and the one that is being made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewStatus {
    /// `forming`, `serving`, `assembling`, `ready`, `ending` or `over`.
    pub state: String,
    /// Blocks until the view gives way by count; none for never by count alone.
    pub rotation_in: Option<u64>,
    /// Whether another view is due, by count or since the list of members changed.
    pub due: bool,
    /// Fresh keys for the next view that are here.
    pub keys: u32,
    /// How many are asked for.
    pub keys_named: u32,
    /// Whether this member has a seat.
    pub seated: bool,
    /// Whether it has the key of its seat.
    pub has_key: bool,
    /// Seats with a key that it can reach, its own counted.
    pub reachable: u32,
    /// Who sits, by seat.
    pub committee: Vec<SeatEntry>,
    /// Whether the view can order, as far as this member knows.
    pub condition: Condition,
    /// Why it is no better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A seat of the present view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatEntry {
    /// Whose.
    pub id: MemberId,
    /// Its name, for people.
    pub name: String,
    /// Whether it is known that nobody has its key any more.
    pub lost: bool,
}

/// Whether a view can order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nothing is known against it.
    #[default]
    Live,
    /// Too few seats are reachable, for a while now; they may come back.
    Stalled,
    /// No quorum of keys is left, or more seats than it bears are proved faulty.
    Dead,
}

/// A member's part in ordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Proposes.
    Leader,
    /// Votes.
    Follower,
    /// Has no seat.
    Observer,
}

/// A stretch of a block's transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Place of the first in the body, from 0.
    pub first: u32,
    /// How many, at most [`PAGE_TRANSACTIONS_MAX`].
    pub limit: u32,
}

/// Transactions in one page of a block, at most.
pub const PAGE_TRANSACTIONS_MAX: u32 = 1_000;

/// The kind of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// Height 0.
    Genesis,
    /// Fixes the list for the next draw.
    Freeze,
    /// Announces a committee.
    Assemble,
    /// Makes a view.
    Reconfiguration,
    /// Names a snapshot.
    Checkpoint,
    /// Holds transactions.
    Transactions,
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The header's fields by name.
    #[serde(flatten)]
    pub header: Header,
    /// What the body is.
    pub kind: BlockKind,
    /// The header's digest.
    pub digest: Digest,
    /// Who signed the certificate that covers it; empty while there is none.
    pub signers: Vec<MemberId>,
    /// Transactions in the body.
    pub transactions_count: u32,
    /// One page of them.
    pub transactions: Vec<BlockTransaction>,
}

/// A transaction in a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockTransaction {
    /// Who signed it.
    pub client: PublicKey,
    /// The client's name for it.
    pub sequence: u64,
    /// The operation's digest.
    pub digest: Digest,
    /// The operation in the application's own form.
    pub operation: Json,
    /// What it gave; none where it did not execute here.
    pub result: Option<Outcome>,
}

/// What became of a transaction, on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// As when it was submitted.
    #[serde(flatten)]
    pub submitted: Submitted,
    /// The offline proof, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// What the state holds under a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// The key.
    pub key: String,
    /// Its value; none where it is absent.
    pub value: Option<String>,
    /// How `value` stands.
    pub encoding: Encoding,
    /// The height after which this holds.
    pub height: Height,
    /// The root of the authenticated map there, where the height is sealed.
    pub state_root: Option<Digest>,
    /// Whether `proof` proves it.
    pub certified: bool,
    /// The offline proof of the value or its absence, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// An executed transaction in the order of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place among all executed transactions, from 0 without gap.
    pub sequence: u64,
    /// The block's height.
    pub height: Height,
    /// Place among the block's executed transactions.
    pub index: u32,
    /// Who signed it.
    pub client: PublicKey,
    /// The client's name for it.
    pub client_sequence: u64,
    /// The operation in the application's own form.
    pub operation: Json,
    /// What it gave.
    pub result: Outcome,
}

/// Faults of others that a member keeps, a page of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// How many are kept.
    pub faults_count: u32,
    /// How many were seen by kind, kept or not.
    pub seen: BTreeMap<FaultKind, u64>,
    /// Those of the page, in the order in which they were noticed.
    pub faults: Vec<FaultEntry>,
}

/// A fault with what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultEntry {
    /// The member.
    pub who: MemberId,
    /// What it did.
    pub kind: FaultKind,
    /// The height that it is about.
    pub height: Height,
    /// The regency that it is about.
    pub regency: Regency,
    /// The canonical bytes of the evidence, in hex; `consortium verify --evidence` checks them.
    pub evidence: String,
}

/// Steps of the view chain in one page, at most.
pub const PAGE_VIEWS_MAX: u32 = 100;

/// How views came about, a page of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Views {
    /// The newest view that the member can prove.
    pub newest: ViewId,
    /// Those of the page, in order.
    pub views: Vec<ViewEntry>,
}

/// A view with what proves it to whoever can prove the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewEntry {
    /// The view.
    pub view: ViewId,
    /// The height of the block that made it.
    pub height: Height,
    /// The header's digest there.
    pub digest: Digest,
    /// Who sits in it, by seat.
    pub committee: Vec<MemberId>,
    /// The block and its certificate, as the hex of their canonical bytes.
    pub step: Step,
}

/// The membership list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The height after which it holds.
    pub height: Height,
    /// The present view.
    pub view: u64,
    /// Members who have a vote.
    pub voters: u32,
    /// Votes that carry a change.
    pub votes_needed: u32,
    /// Whether another view is due.
    pub changed: bool,
    /// The rules of views from the next one on.
    pub parameters: ViewRules,
    /// Listed clients; none where any client may submit.
    pub clients_count: Option<u32>,
    /// The members, by ascending id.
    pub members: Vec<MemberEntry>,
    /// What waits for votes.
    pub ballots: Vec<BallotEntry>,
    /// The newest entries of the audit trail, oldest first; only where it is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
}

/// A member on the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberEntry {
    /// Its id.
    pub id: MemberId,
    /// Its name, for people.
    pub name: String,
    /// Its standing: `invited`, `joining`, `caught_up`, `seated`, `leaving`, `excluded`.
    pub status: String,
    /// Its weight in the draw.
    pub weight: u32,
    /// Words about it.
    pub tags: Vec<String>,
    /// Where members reach it.
    pub addresses: Vec<String>,
    /// Whether it has a seat in the present view.
    pub seated: bool,
    /// Its identity key.
    pub identity: PublicKey,
    /// Its certified consensus key.
    pub consensus: Option<PublicKey>,
    /// When it was admitted, or invited.
    pub admitted: Height,
}

/// A change that waits for votes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BallotEntry {
    /// What names it.
    pub id: Digest,
    /// What would be done: `invite`, `exclude`, `replace`, `weight`, `client`, `parameters`.
    pub kind: String,
    /// The same with what it would be changed to.
    pub what: String,
    /// The member that it is about; who is to be admitted where somebody is.
    pub member: Option<MemberId>,
    /// The name that a newcomer gave itself.
    pub name: Option<String>,
    /// When it was opened.
    pub opened: Height,
    /// Who approved it.
    pub approvals: Vec<MemberId>,
    /// Who rejected it.
    pub rejections: Vec<MemberId>,
}

/// An entry of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Its place in the whole trail, counted from 0.
    pub place: u64,
    /// The block.
    pub height: Height,
    /// Who signed; none where the block itself did it.
    pub by: Option<MemberId>,
    /// The member that it is about.
    pub member: Option<MemberId>,
    /// What was done.
    pub what: String,
}

/// One condition of being ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyCheck {
    /// Its name.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was found, for people.
    pub detail: String,
}
