//! The audit trail: who changed what, and when.
//!
//! Source: design of membership in the chain. In: what operations did. Out: the newest entries.
//! Holds: entries stand in the order of the chain, each at its place for ever; the newest 1,024 are
//! kept and the oldest give way. Elsewhere: the blocks, which hold every operation.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::member::Status;
use crate::blocks::evidence::FaultKind;
use crate::committee::{Height, MemberId, ViewId};
use crate::crypto::{Digest, PublicKey};

/// Entries that are kept; the oldest gives way and stands in the blocks alone.
pub const AUDIT_MAX: usize = 1024;

/// What became of a ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Say {
    /// A member moved it, and approved it.
    Opened,
    /// A member approved it.
    Approved,
    /// A member rejected it.
    Rejected,
    /// Enough approved it.
    Passed,
    /// Too many rejected it.
    Fell,
}

impl Say {
    /// Its name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Say::Opened => "opened",
            Say::Approved => "approved",
            Say::Rejected => "rejected",
            Say::Passed => "passed",
            Say::Fell => "fell",
        }
    }
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Something was said on a ballot.
    Ballot(Digest, Say),
    /// A newcomer asked to be a member.
    Requested,
    /// The member has this status now.
    Status(Status),
    /// The member was convicted of this and is excluded.
    Convicted(FaultKind),
    /// The member is in the register no more.
    Dropped,
    /// It wants a fresh key: another view is due.
    Renewal,
    /// Its weight is this.
    Weight(u32),
    /// Its address is another.
    Address,
    /// It goes on as this member.
    Identity(MemberId),
    /// Its certified consensus key is this one.
    Key(PublicKey),
    /// A client may submit, or no more.
    Client(PublicKey, bool),
    /// The rules of the next view are others.
    Rules,
    /// A view was made.
    View(ViewId),
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deed::Ballot(ballot, say) => write!(f, "{} {ballot}", say.name()),
            Deed::Requested => f.write_str("requested"),
            Deed::Status(status) => f.write_str(status.name()),
            Deed::Convicted(kind) => write!(f, "excluded {}", kind.name()),
            Deed::Dropped => f.write_str("dropped"),
            Deed::Renewal => f.write_str("key_wanted"),
            Deed::Weight(weight) => write!(f, "weight {weight}"),
            Deed::Address => f.write_str("address"),
            Deed::Identity(member) => write!(f, "identity {member}"),
            Deed::Key(key) => write!(f, "key {key}"),
            Deed::Client(key, true) => write!(f, "client_listed {key}"),
            Deed::Client(key, false) => write!(f, "client_struck {key}"),
            Deed::Rules => f.write_str("parameters"),
            Deed::View(view) => write!(f, "view {view}"),
        }
    }
}

/// One entry of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The block.
    pub height: Height,
    /// Who signed the transaction; none where the block itself did it.
    pub by: Option<MemberId>,
    /// The member that it is about.
    pub member: Option<MemberId>,
    /// What was done.
    pub deed: Deed,
}

/// The newest entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// The place of the next entry: entries there ever were.
    next: u64,
    entries: VecDeque<Entry>,
}

impl Audit {
    /// Entries there ever were.
    pub fn count(&self) -> u64 {
        self.next
    }

    /// The entries that are kept, oldest first, each with its place.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = (u64, &Entry)> {
        let first = self.next - self.entries.len() as u64;
        let count = self.entries.len();
        (0..count).map(move |index| (first + index as u64, &self.entries[index]))
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.next += 1;
        self.entries.push_back(entry);
        if self.entries.len() > AUDIT_MAX {
            self.entries.pop_front();
        }
    }
}
