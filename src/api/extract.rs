//! Reading of paths, queries and bodies, bounded, with our own errors.
//!
//! Source: `openapi.json`. In: a request. Out: typed parameters and bytes, or a [`Problem`].
//! Holds: a body is never held beyond its limit, and refused before it is read where it says its
//! length; an unknown parameter is an error. Elsewhere: what parameters mean (`submit`, `reads`).

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use tokio::time::{Instant, timeout_at};

use super::problem::Problem;
use crate::blocks::SignedGroup;
use crate::crypto::{Digest, PublicKey, Signature};

/// Bytes of an encoded group beside the client's own: key, length, signature.
pub(super) const GROUP_FRAME_BYTES: usize = 32 + 8 + 64;

/// The query.
pub(super) struct Ask<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Ask<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri);
        let Query(query) = query.map_err(|why| Problem::malformed(why.body_text()))?;
        Ok(Self(query))
    }
}

/// The named parts of the path.
pub(super) struct Named<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, state).await;
        let Path(path) = path.map_err(|why| Problem::malformed(why.body_text()))?;
        Ok(Self(path))
    }
}

/// A switch in a query: `?name`, `?name=true` or `?name=false`.
pub(super) fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(D::Error::custom("expected true or false")),
    }
}

/// What a body is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// An encoded group.
    Octets,
    /// An operation.
    Json,
}

impl Media {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let name = text.and_then(|text| text.split(';').next()).unwrap_or("");
        match name.trim() {
            name if name.eq_ignore_ascii_case("application/octet-stream") => Ok(Self::Octets),
            name if name.eq_ignore_ascii_case("application/json") => Ok(Self::Json),
            _ => Err(Problem::media_type()),
        }
    }
}

/// The whole body, at most `most` bytes, within `limit`. One that comes in one piece is not copied.
pub(super) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    most: usize,
    limit: Duration,
) -> Result<Bytes, Problem> {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    let declared: Option<usize> = length.and_then(|text| text.parse().ok());
    if declared.is_some_and(|declared| declared > most) {
        return Err(Problem::too_large(most));
    }
    let deadline = Instant::now() + limit;
    let mut pieces = body.into_data_stream();
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    loop {
        let piece = timeout_at(deadline, pieces.next()).await;
        let piece = match piece.map_err(|_| Problem::slow_body(limit.as_millis()))? {
            None => break,
            Some(Ok(piece)) => piece,
            Some(Err(_)) => return Err(Problem::malformed("the body ended early")),
        };
        if first.len() + whole.len() + piece.len() > most {
            return Err(Problem::too_large(most));
        }
        if first.is_empty() && whole.is_empty() {
            first = piece;
            if declared == Some(first.len()) {
                break;
            }
            continue;
        }
        if whole.is_empty() {
            whole.reserve(declared.unwrap_or(first.len() + piece.len()));
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(if whole.is_empty() {
        first
    } else {
        whole.freeze()
    })
}

/// The group that `body` is the encoding of, sharing its memory.
///
/// The same form as `blocks::codec` gives a [`SignedGroup`], read in place: every field has a fixed
/// place, so no second form of one value can pass.
pub(super) fn read_group(body: &Bytes) -> Result<SignedGroup, Problem> {
    let bad = |why: &str| Problem::malformed(format!("not an encoded group: {why}"));
    let Some(operations) = body.len().checked_sub(GROUP_FRAME_BYTES) else {
        return Err(bad("shorter than a key, a length and a signature"));
    };
    let mut client = [0; 32];
    client.copy_from_slice(&body[..32]);
    let mut length = [0; 8];
    length.copy_from_slice(&body[32..40]);
    if u64::from_le_bytes(length) != operations as u64 {
        return Err(bad("its length does not match the body's"));
    }
    let mut signature = [0; 64];
    signature.copy_from_slice(&body[40 + operations..]);
    Ok(SignedGroup {
        client: PublicKey(Digest(client)),
        bytes: body.slice(40..40 + operations),
        signature: Signature(signature),
    })
}
