//! Errors: why there is no answer, with the status, and what to do next.
//!
//! Source: `openapi.json`. In: a [`Refusal`], or what the door finds wrong. Out: [`Problem`].
//! Holds: every error is the same JSON; every refusal has one status and one code.
//! Elsewhere: who refuses (`host`), where limits stand (`server`).

use std::borrow::Cow;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// What to do after a submission of which the end is not known.
const ASK_OR_SEND_AGAIN: &str = "Ask GET /v1/transactions/{client}/{sequence}, or send the same \
                                 bytes (on dev the same id) again to any member: it executes once.";

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
    #[error("{what} was pruned: {lowest} is the lowest that is kept")]
    Pruned {
        /// What is kept no longer.
        what: String,
        /// The lowest of its kind that is here.
        lowest: String,
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

impl Problem {
    /// A problem whose text is made for this case.
    pub fn new(
        status: u16,
        code: &'static str,
        message: impl Into<String>,
        help: &'static str,
    ) -> Self {
        Self {
            status,
            code: Cow::Borrowed(code),
            message: message.into(),
            help: Cow::Borrowed(help),
            retry_after_ms: None,
        }
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        let help = "Correct the request; GET /v1/openapi.json describes each.";
        Self::new(400, "malformed", message, help)
    }

    pub(super) fn unknown_path(path: &str) -> Self {
        let path: String = path.chars().take(80).collect();
        let help = "GET /v1/openapi.json lists every path.";
        Self::new(404, "unknown_path", format!("there is no {path}"), help)
    }

    pub(super) fn unknown_method(method: &str, path: &str) -> Self {
        let (method, path): (String, String) = (
            method.chars().take(16).collect(),
            path.chars().take(80).collect(),
        );
        let help = "The Allow header names the methods of this path.";
        let message = format!("{method} is not a method of {path}");
        Self::new(405, "unknown_method", message, help)
    }

    pub(super) fn slow_body(limit_ms: u128) -> Self {
        let message = format!("the body did not arrive within {limit_ms} ms");
        let help = "Nothing was taken in. Send the request again.";
        Self::new(408, "slow_body", message, help)
    }

    pub(super) fn too_large(most: usize) -> Self {
        let message = format!("the body has more than {most} bytes");
        let help = "Nothing was taken in. Split the group; the genesis document sets the bound.";
        Self::new(413, "too_large", message, help)
    }

    pub(super) fn media_type() -> Self {
        let help = "Send a signed group as application/octet-stream, or where the member signs for \
                    its callers an operation as application/json.";
        Self::new(415, "media_type", "this content type is not taken", help)
    }

    pub(super) fn not_allowed(message: &str) -> Self {
        let help = "Sign the group with a key of your own and send it as application/octet-stream; \
                    `consortium submit` does.";
        Self::new(403, "not_allowed", message, help)
    }

    pub(super) fn timed_out(limit_ms: u128) -> Self {
        let message = format!("no answer within {limit_ms} ms");
        let help = "Try again, or ask another member.";
        Self::new(504, "timed_out", message, help)
    }

    pub(super) fn wait_timed_out(limit_ms: u128) -> Self {
        let message = format!("not as far as asked for within {limit_ms} ms; it may still commit");
        Self::new(504, "timed_out", message, ASK_OR_SEND_AGAIN)
    }

    pub(super) fn wait_closing() -> Self {
        let message = "this member is shutting down; the submission may still commit";
        Self::new(503, "closing", message, ASK_OR_SEND_AGAIN).retry_after(1_000)
    }

    pub(super) fn too_many_connections(most: usize) -> Self {
        let message = format!("all {most} connections of this member are in use");
        let help = "Try again later, keep connections open for several requests, or ask another \
                    member.";
        let problem = Self::new(503, "too_many_connections", message, help);
        problem.retry_after(1_000)
    }

    pub(super) fn too_many_readers(most: usize) -> Self {
        let message = format!("all {most} event streams of this member are in use");
        let help = "Try again later or ask another member; resume with ?from=SEQUENCE.";
        Self::new(429, "too_many_readers", message, help).retry_after(5_000)
    }

    pub(super) fn slow_reader() -> Self {
        let help = "Reconnect with Last-Event-ID, or ?from= the sequence behind the last seen.";
        Self::new(408, "slow_reader", "this reader took too long", help)
    }

    pub(super) fn closing() -> Self {
        let help = "Reconnect with Last-Event-ID, or ?from= the sequence behind the last seen, \
                    here later or at another member now.";
        Self::new(503, "closing", "this member is shutting down", help).retry_after(1_000)
    }

    pub(super) fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let (status, code, help) = match &refusal {
            Refusal::Malformed { .. } => return Self::malformed(message),
            Refusal::BadSignature => (
                401,
                "bad_signature",
                "Sign for this chain: GET /v1/status names it.",
            ),
            Refusal::NotListed => (
                403,
                "not_listed",
                "Ask the members to list the client's key, or use a listed one with --key.",
            ),
            Refusal::NotFound { .. } => (
                404,
                "not_found",
                "It may still come, or another member may have it: ask again or elsewhere.",
            ),
            Refusal::Conflict => (
                409,
                "conflict",
                "Use a new sequence or id; the one in use stands as it is.",
            ),
            Refusal::Expired { .. } => (
                410,
                "expired",
                "Sign it again with an expiry a little above the present height.",
            ),
            Refusal::Pruned { .. } => (
                410,
                "pruned",
                "Ask for something newer, another member, or an archive.",
            ),
            Refusal::Invalid { .. } => (422, "invalid", "Change the transaction; this one fails."),
            Refusal::Busy { retry_after_ms } => {
                let help = "Nothing was taken in. Send the same again after Retry-After.";
                return Self::new(429, "busy", message, help).retry_after(*retry_after_ms);
            }
            Refusal::NotReady { .. } => {
                let help = "Ask another member, or wait: GET /readyz?verbose says for what.";
                return Self::new(503, "not_ready", message, help).retry_after(1_000);
            }
            Refusal::Lagging => return Self::slow_reader(),
            Refusal::Failed { .. } => (
                500,
                "failed",
                "Look into the member's log. Ask for the transaction before sending another.",
            ),
        };
        Self::new(status, code, message, help)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        respond(&self, &self)
    }
}

/// `body`, which says what `problem` says and perhaps more, under the problem's status.
pub(super) fn respond<T: Serialize>(problem: &Problem, body: &T) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(body)).into_response();
    if let Some(ms) = problem.retry_after_ms {
        // The header counts whole seconds; zero would invite a storm.
        let seconds = HeaderValue::from(ms.div_ceil(1_000).max(1));
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}
