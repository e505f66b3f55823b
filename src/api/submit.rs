//! `POST /v1/transactions`: a signed group as bytes, or on `dev` an operation as JSON.
//!
//! Source: `openapi.json`. In: a request. Out: one answer per transaction.
//! Holds: a group's bytes are not copied on their way to the host; the member signs for nobody in a
//! browser. Elsewhere: admission and waiting (`node`).

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::ORIGIN;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::data::{Answers, Operation, Settled, Submitted, Wait};
use super::extract::{Ask, Media, read_body, read_group};
use super::host::Answer;
use super::problem::{Problem, respond};
use super::routes::{Door, closed};

/// Bytes of the id of a submission, at most.
const ID_BYTES_MAX: usize = 128;

/// How long and for what to wait.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubmitQuery {
    #[serde(default)]
    wait: Wait,
    timeout_ms: Option<u64>,
}

/// A group of which nothing executes: the first reason, and all of them.
#[derive(Serialize)]
struct AllRefused<'a> {
    #[serde(flatten)]
    problem: &'a Problem,
    transactions: &'a [Settled],
}

pub(super) async fn submit(
    State(door): State<Door>,
    Ask(query): Ask<SubmitQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let limit = wait_limit(&door, query.timeout_ms)?;
    let (parts, body) = request.into_parts();
    let media = Media::of(&parts.headers)?;
    if media == Media::Json {
        may_sign(&door, &parts.headers)?;
    }
    let limits = &door.limits;
    let body = read_body(&parts.headers, body, door.body_bytes_max, limits.body_read).await?;
    match media {
        Media::Octets => {
            let group = read_group(&body)?;
            let answers = wait(&door, limit, door.host.submit(group, query.wait)).await?;
            Ok(list(&answers))
        }
        Media::Json => {
            let operation: Operation = serde_json::from_slice(&body)
                .map_err(|why| Problem::malformed(format!("not an operation: {why}")))?;
            check_id(&operation)?;
            let answer = door.host.submit_operation(operation, query.wait);
            one(wait(&door, limit, answer).await?).map(|submitted| Json(submitted).into_response())
        }
    }
}

fn wait_limit(door: &Door, timeout_ms: Option<u64>) -> Result<Duration, Problem> {
    let limits = &door.limits;
    let limit = timeout_ms.map_or(limits.wait, Duration::from_millis);
    if limit.is_zero() || limit > limits.wait_max {
        let most = limits.wait_max.as_millis();
        let message = format!("timeout_ms is between 1 and {most}");
        return Err(Problem::malformed(message));
    }
    Ok(limit)
}

/// Whether the member signs this caller's operation.
fn may_sign(door: &Door, headers: &HeaderMap) -> Result<(), Problem> {
    if !door.host.about().signs_operations {
        let message = "this member signs nothing for its callers";
        return Err(Problem::not_allowed(message));
    }
    // A page that a browser shows could otherwise spend the member's key on loopback.
    if headers.contains_key(ORIGIN) {
        let message = "this member signs nothing for a page in a browser";
        return Err(Problem::not_allowed(message));
    }
    Ok(())
}

fn check_id(operation: &Operation) -> Result<(), Problem> {
    let bytes = operation.id.as_ref().map_or(0, String::len);
    if bytes > ID_BYTES_MAX {
        let message = format!("the id has {bytes} bytes, at most {ID_BYTES_MAX} are allowed");
        return Err(Problem::new(422, "invalid", message, "Use a shorter id."));
    }
    Ok(())
}

/// The host's answer, unless time runs out or the door closes: the caller hears of both.
async fn wait(
    door: &Door,
    limit: Duration,
    answer: Answer<'_, Answers>,
) -> Result<Answers, Problem> {
    let mut closing = door.closing.clone();
    let leaving = async {
        closed(&mut closing).await;
        // Half of the drain for what is nearly done, the other half to say that it is not.
        sleep(door.limits.drain / 2).await;
    };
    tokio::select! {
        answers = timeout(limit, answer) => match answers {
            Ok(answers) => Ok(answers?),
            Err(_) => Err(Problem::wait_timed_out(limit.as_millis())),
        },
        () = leaving => Err(Problem::wait_closing()),
    }
}

/// The answer to a group: 200 where anything is done, else the status of the first refusal.
fn list(answers: &Answers) -> Response {
    let is_done = |settled: &Settled| matches!(settled, Settled::Done(_));
    let transactions = answers.transactions.as_slice();
    match transactions.first() {
        Some(Settled::Refused(refused)) if !transactions.iter().any(is_done) => {
            let problem = &refused.error;
            let all = AllRefused {
                problem,
                transactions,
            };
            respond(problem, &all)
        }
        Some(_) | None => Json(answers).into_response(),
    }
}

/// The answer to one operation: the transaction with the certificate that covers it.
fn one(mut answers: Answers) -> Result<Submitted, Problem> {
    match answers.transactions.pop() {
        Some(Settled::Done(mut submitted)) => {
            if submitted.certificate.is_none() {
                submitted.certificate = answers.certificate;
            }
            Ok(*submitted)
        }
        Some(Settled::Refused(refused)) => Err(refused.error),
        None => {
            let help = "Look into the member's log.";
            Err(Problem::new(500, "failed", "no answer came back", help))
        }
    }
}
