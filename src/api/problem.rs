//! Errors: why there is no answer, with the status, and what to do next.
//!
//! Source: `docs/http.md`. In: a host's [`Refusal`], or what the door finds wrong. Out: [`Problem`].
//! Holds: every error is the same JSON; every refusal has one status and one code.
//! Elsewhere: who refuses (`host`), where limits stand (`server`).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Why a host gives no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The caller's bytes are not in the format; nothing was taken in.
    #[error("{reason}")]
    Malformed {
        /// What is wrong with them.
        reason: String,
    },
    /// The client's signature does not hold; the caller is at fault, nothing was taken in.
    #[error("the client's signature does not hold")]
    BadSignature,
    /// This ledger lists its clients and this one is not among them; nothing was taken in.
    #[error("this client is not listed")]
    NotListed,
    /// The caller names what is not here; nobody's fault.
    #[error("{what} is not here")]
    NotFound {
        /// What is not here.
        what: String,
    },
    /// The client used this sequence or id for another operation before; that one stands.
    #[error("another operation has this sequence or id")]
    Conflict,
    /// The transaction's expiry has passed or lies too far ahead; it never executes.
    #[error("expired: {reason}")]
    Expired {
        /// The expiry and the heights it was compared with.
        reason: String,
    },
    /// It was here and is kept no longer; nobody's fault.
    #[error("{what} is kept no longer")]
    Pruned {
        /// What is kept no longer.
        what: String,
    },
    /// In the format, but against a rule or a bound; the caller is at fault, nothing was taken in.
    #[error("{reason}")]
    Invalid {
        /// The rule.
        reason: String,
    },
    /// The member takes no more now; nothing was taken in.
    #[error("busy")]
    Busy {
        /// When to try again.
        retry_after_ms: u64,
    },
    /// The member cannot answer in its present state; nothing was taken in.
    #[error("this member is {state}")]
    NotReady {
        /// The state.
        state: String,
    },
    /// A reader fell behind what the member keeps for it; it resumes behind the last event it saw.
    #[error("this reader fell too far behind")]
    Lagging,
    /// The member failed; whether something was taken in is not known.
    #[error("the member failed: {reason}")]
    Failed {
        /// What failed; no secret, no path.
        reason: String,
    },
}

/// An error as it goes over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What went wrong, for programs; one word of a fixed set.
    pub code: Cow<'static, str>,
    /// What went wrong, for people.
    pub message: String,
    /// What to do next.
    pub help: Cow<'static, str>,
    /// When to try again, where that helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}
