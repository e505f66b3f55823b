//! `GET /v1/events`: executed transactions as server-sent events, gap-free and resumable.
//!
//! Source: the EventSource section of the HTML standard. In: a sequence. Out: a stream of text.
//! Holds: ids count up by one from the first asked for; the host is asked only when the reader took
//! what came before, so nothing piles up; a stream that ends early says how to resume.
//! Elsewhere: where events are read from (`node`), readers that take no byte (`stall`).

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

use super::data::Event;
use super::extract::Ask;
use super::host::Events;
use super::problem::{Problem, Refusal};
use super::reads::within;
use super::routes::{Door, closed};

/// Bytes of events that leave as one piece where they are at hand.
const PIECE_BYTES: usize = 16 << 10;
/// What a browser waits before it reconnects, and the sign that the stream is open.
const OPENING: &str = "retry: 1000\n\n";

/// Where to begin.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    from: Option<u64>,
}

pub(super) async fn events(
    State(door): State<Door>,
    Ask(query): Ask<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let from = first_sequence(&query, &headers)?;
    let permit = door.readers.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::too_many_readers(door.limits.readers_max))?;
    let events = within(door.limits.read, door.host.events(from)).await?;
    let reader = Reader {
        door,
        events,
        next: from,
        taken: None,
        ended: false,
        _permit: permit,
    };
    let pieces = stream::unfold(reader, Reader::piece).map(Ok::<_, Infallible>);
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// What follows the last event seen; a browser that reconnects repeats the old address beside it.
fn first_sequence(query: &EventsQuery, headers: &HeaderMap) -> Result<u64, Problem> {
    let Some(last) = headers.get("last-event-id") else {
        return Ok(query.from.unwrap_or(0));
    };
    let last: Option<u64> = last.to_str().ok().and_then(|text| text.parse().ok());
    let next = last.and_then(|last| last.checked_add(1));
    next.ok_or_else(|| Problem::malformed("Last-Event-ID is not the sequence of an event"))
}

/// One open stream.
struct Reader {
    door: Door,
    events: Events,
    /// The sequence that must come next.
    next: u64,
    /// When the last piece was handed over; none before the opening.
    taken: Option<Instant>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// The next piece of text; nothing behind the end.
    ///
    /// It is asked for only when the one before has left for the socket, so the time since tells
    /// how slow the reader is.
    async fn piece(mut self) -> Option<(Bytes, Self)> {
        if self.ended {
            return None;
        }
        let text = match self.taken {
            None => OPENING.to_owned(),
            Some(taken) if taken.elapsed() > self.door.limits.reader_slow => {
                self.end(Problem::slow_reader())
            }
            Some(_) => self.wait().await,
        };
        self.taken = Some(Instant::now());
        Some((Bytes::from(text), self))
    }

    async fn wait(&mut self) -> String {
        let keep_alive = self.door.limits.keep_alive;
        let event = tokio::select! {
            biased;
            () = closed(&mut self.door.closing) => {
                return self.end(Problem::closing());
            }
            event = self.events.next() => event,
            () = sleep(keep_alive) => return ":\n\n".to_owned(),
        };
        let mut text = String::with_capacity(512);
        let mut event = Some(event);
        while let Some(found) = event.take() {
            text += &self.write(found);
            if !self.ended && text.len() < PIECE_BYTES {
                event = self.events.next().now_or_never();
            }
        }
        text
    }

    fn write(&mut self, event: Option<Result<Event, Refusal>>) -> String {
        match event {
            Some(Ok(event)) if event.sequence == self.next => {
                self.next += 1;
                let json = serde_json::to_string(&event);
                let json = json.expect("an event of strings and numbers has a JSON form");
                format!("id: {}\ndata: {json}\n\n", event.sequence)
            }
            Some(Ok(event)) => {
                let (got, want) = (event.sequence, self.next);
                let reason = format!("event {got} came where {want} was due");
                self.end(Refusal::Failed { reason }.into())
            }
            Some(Err(refusal)) => self.end(refusal.into()),
            None => self.end(Problem::closing()),
        }
    }

    /// The last piece: an event of its own type, without an id, so the reader resumes where it was.
    fn end(&mut self, problem: Problem) -> String {
        self.ended = true;
        let json = serde_json::to_string(&problem);
        let json = json.expect("a problem of strings and numbers has a JSON form");
        format!("event: error\ndata: {json}\n\n")
    }
}
