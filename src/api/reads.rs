//! Every read: status, blocks, transactions, values, membership, health, metrics, the document.
//!
//! Source: `openapi.json`. In: a request. Out: JSON, or text for probes and scrapers.
//! Holds: each answers within the request's time or says that it did not.
//! Elsewhere: where the answers come from (`node`), events (`events`).

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::data::{
    Block, Encoding, Faults, Membership, PAGE_TRANSACTIONS_MAX, PAGE_VIEWS_MAX, Page, ReadyCheck,
    Status, Transaction, Value, Views,
};
use super::extract::{Ask, Named, switch};
use super::host::Answer;
use super::problem::{Problem, respond};
use super::routes::Door;
use crate::committee::{Height, ViewId};
use crate::crypto::PublicKey;

/// The document that describes every path; a test compares it with the routes.
const OPENAPI: &str = include_str!("openapi.json");
/// What a scraper needs to know of the metrics' text.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuery {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    #[serde(default)]
    pub(super) first: u32,
    pub(super) limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ViewsQuery {
    from: Option<u64>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProofQuery {
    #[serde(default, deserialize_with = "switch")]
    proof: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ValueQuery {
    #[serde(default, deserialize_with = "switch")]
    certified: bool,
    #[serde(default)]
    encoding: Encoding,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadyQuery {
    #[serde(default, deserialize_with = "switch")]
    verbose: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MembershipQuery {
    #[serde(default, deserialize_with = "switch")]
    history: bool,
}

/// An absent key: an error for who only looks at the status, an answer with its proof for others.
#[derive(Serialize)]
struct Absent<'a> {
    #[serde(flatten)]
    problem: &'a Problem,
    #[serde(flatten)]
    value: &'a Value,
}

/// Whether the member is ready, check by check.
#[derive(Serialize)]
struct Readiness<'a> {
    ready: bool,
    checks: &'a [ReadyCheck],
    #[serde(flatten)]
    problem: Option<&'a Problem>,
}

/// The answer, unless it takes longer than `limit`.
pub(super) async fn within<T>(limit: Duration, answer: Answer<'_, T>) -> Result<T, Problem> {
    match timeout(limit, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Problem::timed_out(limit.as_millis())),
    }
}

pub(super) async fn status(
    State(door): State<Door>,
    Ask(NoQuery {}): Ask<NoQuery>,
) -> Result<Json<Status>, Problem> {
    Ok(Json(within(door.limits.read, door.host.status()).await?))
}

pub(super) async fn block(
    State(door): State<Door>,
    Named(height): Named<u64>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Block>, Problem> {
    let limit = query.limit.unwrap_or(PAGE_TRANSACTIONS_MAX);
    if limit > PAGE_TRANSACTIONS_MAX {
        let message = format!("limit is at most {PAGE_TRANSACTIONS_MAX}");
        return Err(Problem::malformed(message));
    }
    let first = query.first;
    let block = door.host.block(Height(height), Page { first, limit });
    Ok(Json(within(door.limits.read, block).await?))
}

pub(super) async fn transaction(
    State(door): State<Door>,
    Named((client, sequence)): Named<(String, u64)>,
    Ask(query): Ask<ProofQuery>,
) -> Result<Json<Transaction>, Problem> {
    let client: PublicKey = client
        .parse()
        .map_err(|why| Problem::malformed(format!("client: {why}")))?;
    let found = door.host.transaction(client, sequence, query.proof);
    Ok(Json(within(door.limits.read, found).await?))
}

pub(super) async fn value(
    State(door): State<Door>,
    Named(key): Named<String>,
    Ask(query): Ask<ValueQuery>,
) -> Result<Response, Problem> {
    let key = query.encoding.read(&key);
    let key = key.ok_or_else(|| Problem::malformed("the key is not hex digits"))?;
    let value = door.host.value(Bytes::from(key), query.certified);
    let value = within(door.limits.read, value).await?;
    if value.value.is_some() {
        return Ok(Json(value).into_response());
    }
    let help = "Nothing was ever put under this key, or it was deleted.";
    let problem = Problem::new(404, "absent", "this key is absent", help);
    let absent = Absent {
        problem: &problem,
        value: &value,
    };
    Ok(respond(&problem, &absent))
}

pub(super) async fn membership(
    State(door): State<Door>,
    Ask(query): Ask<MembershipQuery>,
) -> Result<Json<Membership>, Problem> {
    let membership = door.host.membership(query.history);
    Ok(Json(within(door.limits.read, membership).await?))
}

pub(super) async fn views(
    State(door): State<Door>,
    Ask(query): Ask<ViewsQuery>,
) -> Result<Json<Views>, Problem> {
    let limit = query.limit.unwrap_or(PAGE_VIEWS_MAX);
    if limit == 0 || limit > PAGE_VIEWS_MAX {
        let message = format!("limit is 1 to {PAGE_VIEWS_MAX}");
        return Err(Problem::malformed(message));
    }
    let views = door.host.views(ViewId(query.from.unwrap_or(1)), limit);
    Ok(Json(within(door.limits.read, views).await?))
}

pub(super) async fn faults(
    State(door): State<Door>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Faults>, Problem> {
    let limit = query.limit.unwrap_or(PAGE_TRANSACTIONS_MAX);
    let first = query.first;
    let faults = door.host.faults(Page { first, limit });
    Ok(Json(within(door.limits.read, faults).await?))
}

pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

pub(super) async fn live() -> Response {
    ([(CONTENT_TYPE, TEXT_TYPE)], "ok\n").into_response()
}

pub(super) async fn ready(
    State(door): State<Door>,
    Ask(query): Ask<ReadyQuery>,
) -> Result<Response, Problem> {
    let checks = within(door.limits.read, door.host.ready()).await?;
    Ok(readiness(&checks, &query))
}

/// The answer to `/readyz` that follows from `checks`.
pub(super) fn readiness(checks: &[ReadyCheck], query: &ReadyQuery) -> Response {
    let failed: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
    let ready = failed.is_empty();
    if ready && !query.verbose {
        return ([(CONTENT_TYPE, TEXT_TYPE)], "ok\n").into_response();
    }
    let names: Vec<_> = failed.iter().map(|check| check.name.as_str()).collect();
    let message = format!("not ready: {}", names.join(", "));
    let help = "Wait, or look at GET /readyz?verbose and the member's log.";
    let problem = Problem::new(503, "not_ready", message, help).retry_after(1_000);
    let readiness = |problem| Readiness {
        ready,
        checks,
        problem,
    };
    match (ready, query.verbose) {
        (true, _) => Json(readiness(None)).into_response(),
        (false, true) => respond(&problem, &readiness(Some(&problem))),
        (false, false) => problem.into_response(),
    }
}

pub(super) async fn metrics(State(door): State<Door>) -> Response {
    metrics_text(door.host.metrics())
}

/// Metrics as a scraper reads them.
pub(super) fn metrics_text(text: String) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

pub(super) async fn unknown_path(request: Request) -> Problem {
    Problem::unknown_path(request.uri().path())
}

pub(super) async fn unknown_method(request: Request) -> Problem {
    Problem::unknown_method(request.method().as_str(), request.uri().path())
}
