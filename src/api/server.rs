//! The sockets of the door: accepts, counts, serves, and closes in order.
//!
//! Source: `openapi.json`. In: a bound listener. Out: HTTP/1.1 connections over a router.
//! Holds: connections are at most `connections_max`; after shutdown nothing is accepted, open
//! requests finish within `drain`, and what is left is cut. Elsewhere: binding (`node`).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

use super::foyer::{Entrance, passage};
use super::host::Host;
use super::problem::Problem;
use super::routes::{Door, Limits, closed, router};
use super::stall::Guarded;

/// Bytes of a request's header, at most; more is answered 431.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// Fields of a request's header, at most; more is answered 431.
const HEADER_FIELDS_MAX: usize = 64;
/// Bytes that a connection buffers in each direction, at most.
const BUFFER_BYTES_MAX: usize = 128 << 10;
/// Connections that are told at once that there are too many; further ones are just closed.
const TURNED_AWAY_MAX: usize = 32;
/// How long one of them may take to hear it.
const TURN_AWAY: Duration = Duration::from_secs(1);
/// Pause after the system refused a connection: it is out of descriptors, and asking again at once
/// would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `host` on `listener` until `shutdown` is ready, with the default [`Limits`].
///
/// Returns when every connection is closed, at most [`Limits::drain`] after `shutdown`.
pub async fn serve(
    listener: TcpListener,
    host: Arc<dyn Host>,
    shutdown: impl Future<Output = ()> + Send,
) {
    serve_with(listener, host, Limits::default(), shutdown).await;
}

/// [`serve`] under `limits`.
pub async fn serve_with(
    listener: TcpListener,
    host: Arc<dyn Host>,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let over = |closing| router(Door::new(host, limits, closing));
    accept(listener, over, limits, shutdown).await;
}

/// [`serve`] of a member that may not run yet: what `entrance` has answers.
pub async fn serve_from_start(
    listener: TcpListener,
    entrance: Arc<Entrance>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let limits = Limits::default();
    let over = |closing| passage(entrance, limits, closing);
    accept(listener, over, limits, shutdown).await;
}

/// Serves the router that `over` makes.
async fn accept(
    listener: TcpListener,
    over: impl FnOnce(watch::Receiver<bool>) -> Router,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (close, closing) = watch::channel(false);
    let router = over(closing.clone());
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let turned_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    let mut open = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = open.join_next() => {
                if let Err(panic) = ended {
                    error!(%panic, "a connection's task ended badly");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(why) => {
                warn!(%why, "no connection accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Ok(place) = places.clone().try_acquire_owned() {
            open.spawn(connection(
                stream,
                place,
                router.clone(),
                limits,
                closing.clone(),
            ));
        } else if let Ok(place) = turned_away.clone().try_acquire_owned() {
            open.spawn(turn_away(stream, place, limits.connections_max));
        }
    }
    drop(listener);
    close.send_replace(true);
    let all = async { while open.join_next().await.is_some() {} };
    if timeout(limits.drain, all).await.is_err() {
        open.shutdown().await;
    }
}

/// Serves one connection until it ends, fails, or the door closes.
async fn connection(
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    router: Router,
    limits: Limits,
    mut closing: watch::Receiver<bool>,
) {
    if let Err(why) = stream.set_nodelay(true) {
        debug!(%why, "a connection keeps its delay");
    }
    let stream = TokioIo::new(Guarded::new(stream, limits.write_stall));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_header_size(HEADER_BYTES_MAX)
        .max_headers(HEADER_FIELDS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(stream, TowerToHyperService::new(router));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = closed(&mut closing) => {
            serving.as_mut().graceful_shutdown();
            serving.as_mut().await
        }
    };
    if let Err(why) = ended {
        debug!(%why, "connection ended");
    }
}

/// Says that there are too many connections, and closes this one.
async fn turn_away(mut stream: TcpStream, _place: OwnedSemaphorePermit, most: usize) {
    let problem = Problem::too_many_connections(most);
    let body = serde_json::to_string(&problem);
    let body = body.expect("a problem of strings and numbers has a JSON form");
    let text = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         retry-after: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let told = async {
        // What the caller sends is read and dropped: an answer that comes before the request is
        // none, and closing on top of unread bytes would reset the connection before it is read.
        let mut dropped = [0; 1024];
        if stream.read(&mut dropped).await? == 0 {
            return Ok(());
        }
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        while stream.read(&mut dropped).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    if !matches!(timeout(TURN_AWAY, told).await, Ok(Ok(()))) {
        debug!("a connection that was turned away did not listen");
    }
}
