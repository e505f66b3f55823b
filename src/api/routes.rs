//! The routes, as one table that the router and the document's test both read.
//!
//! Source: `openapi.json`. In: a host and limits. Out: a router.
//! Holds: every path of the table is served, and nothing else is; what is not served is answered in
//! the same JSON. Elsewhere: the handlers (`submit`, `reads`, `events`), sockets (`server`).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use tokio::sync::{Semaphore, watch};

use super::extract::GROUP_FRAME_BYTES;
use super::host::Host;
use super::{events, kept, reads, submit};

/// What the door takes at most, of everything that a client can grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; further ones are answered 503 and closed.
    pub connections_max: usize,
    /// Event streams at once; further ones are answered 429.
    pub readers_max: usize,
    /// From the first byte of a request to the last of its header, and between requests.
    pub header_read: Duration,
    /// From the end of the header to the last byte of the body.
    pub body_read: Duration,
    /// Without one byte taken by a client that is owed some; then the connection falls.
    pub write_stall: Duration,
    /// For the host's answer to a read.
    pub read: Duration,
    /// For a submission, unless the caller says.
    pub wait: Duration,
    /// For a submission, at most.
    pub wait_max: Duration,
    /// For a reader of events to take one piece; then it is told to resume.
    pub reader_slow: Duration,
    /// Between two signs of life on an idle event stream.
    pub keep_alive: Duration,
    /// For open requests to finish at shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            readers_max: 32,
            header_read: Duration::from_secs(5),
            body_read: Duration::from_secs(5),
            write_stall: Duration::from_secs(15),
            read: Duration::from_secs(10),
            wait: Duration::from_secs(30),
            wait_max: Duration::from_secs(120),
            reader_slow: Duration::from_secs(10),
            keep_alive: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        }
    }
}

/// What every handler holds.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) host: Arc<dyn Host>,
    pub(super) limits: Arc<Limits>,
    /// Bytes of a request's body, at most.
    pub(super) body_bytes_max: usize,
    /// One permit per event stream.
    pub(super) readers: Arc<Semaphore>,
    /// Turns true, or loses its sender, when the door closes.
    pub(super) closing: watch::Receiver<bool>,
}

impl Door {
    pub(super) fn new(host: Arc<dyn Host>, limits: Limits, closing: watch::Receiver<bool>) -> Self {
        let group = host.about().bounds.group_bytes_max();
        Self {
            host,
            limits: Arc::new(limits),
            body_bytes_max: group + GROUP_FRAME_BYTES,
            readers: Arc::new(Semaphore::new(limits.readers_max)),
            closing,
        }
    }
}

/// Ready once the door closes, or whoever closes it is gone.
pub(super) async fn closed(closing: &mut watch::Receiver<bool>) {
    while !*closing.borrow_and_update() {
        if closing.changed().await.is_err() {
            return;
        }
    }
}

/// One path with its method.
pub(super) struct Route {
    pub(super) path: &'static str,
    handler: fn() -> MethodRouter<Door>,
}

/// Every route.
pub(super) const ROUTES: [Route; 15] = [
    route("/v1/transactions", || post(submit::submit)),
    route("/v1/status", || get(reads::status)),
    route("/v1/blocks/{height}", || get(reads::block)),
    route("/v1/transactions/{client}/{sequence}", || {
        get(reads::transaction)
    }),
    route("/v1/kv/{key}", || get(reads::value)),
    route("/v1/events", || get(events::events)),
    route("/v1/membership", || get(reads::membership)),
    route("/v1/views", || get(reads::views)),
    route("/v1/checkpoints", || get(kept::checkpoints)),
    route("/v1/checkpoints/{height}", || get(kept::checkpoint)),
    route("/v1/faults", || get(reads::faults)),
    route("/v1/openapi.json", || get(reads::openapi)),
    route("/livez", || get(reads::live)),
    route("/readyz", || get(reads::ready)),
    route("/metrics", || get(reads::metrics)),
];

const fn route(path: &'static str, handler: fn() -> MethodRouter<Door>) -> Route {
    Route { path, handler }
}

/// Tells the host how a request was answered.
async fn count(State(door): State<Door>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    door.host.answered(response.status().as_u16());
    response
}

/// The router over `door`.
pub(super) fn router(door: Door) -> Router {
    ROUTES
        .iter()
        .fold(Router::new(), |router, route| {
            router.route(route.path, (route.handler)())
        })
        .fallback(reads::unknown_path)
        .method_not_allowed_fallback(reads::unknown_method)
        // The handler that reads a body bounds it by the genesis document.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(door.clone(), count))
        .with_state(door)
}
