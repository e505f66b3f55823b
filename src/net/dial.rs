//! Outgoing connections: one per peer and lane, kept open.
//!
//! Source: none. In: the lane's queue. Out: frames on the wire.
//! Holds: attempts are spaced by a growing, jittered wait; what waits is written in one go.
//! Elsewhere: incoming connections (`accept`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::frame::{HEADER_BYTES, Kind, header, parse};
use super::link::{Direction, Link, LinkLane, Open};
use super::stats::add;
use super::{Lane, Limits, Refusal, Shared, stopped, tls};
use crate::crypto::{Digest, Domain, Hasher};

/// Bytes that are gathered for one write.
const GATHER_BYTES: usize = 64 << 10;
/// Payloads up to here are copied to be written with their neighbours; larger ones go alone.
const COPY_BYTES_MAX: usize = 16 << 10;

/// Bytes of heartbeats that are read at once.
const BACK_BYTES: usize = 64;

/// Keeps the connection to `link` open and carries its queue over, until the network stops.
pub(super) async fn keep_open(shared: Arc<Shared>, link: Arc<Link>, lane: Lane) {
    let connector = TlsConnector::from(shared.identity.client(link.key, lane));
    let mut stop = shared.stop.subscribe();
    let mut backoff = Backoff::new(&shared, link.id, lane);
    let at = link.lane(lane);
    loop {
        let opening = timeout(
            shared.limits.handshake_timeout,
            open(&shared, &link, lane, &connector),
        );
        let opened = tokio::select! {
            opened = opening => opened.unwrap_or(Err(Refusal::Timeout)),
            () = stopped(&mut stop) => return,
        };
        match opened {
            Ok(stream) => {
                backoff.reset();
                add(&at.counters.connects, 1);
                let _open = Open::new(&shared, &link, lane, Direction::Out);
                Writer::new(stream, at, lane, &shared.limits)
                    .run(&mut stop)
                    .await;
            }
            Err(reason) => {
                add(&at.counters.failures, 1);
                shared.failed.count(reason);
                shared.changed.send_replace(());
            }
        }
        tokio::select! {
            () = sleep(backoff.next()) => {}
            () = at.retry.notified() => {}
            () = stopped(&mut stop) => return,
        }
    }
}

/// Connects, shakes hands and waits for the other end's welcome. In TLS 1.3 the dialer is done
/// before its own key was judged; only the welcome tells that it was taken.
async fn open(
    shared: &Shared,
    link: &Link,
    lane: Lane,
    connector: &TlsConnector,
) -> Result<TlsStream<TcpStream>, Refusal> {
    let address = link.address();
    let socket = TcpStream::connect(address.as_str())
        .await
        .map_err(|_| Refusal::Unreachable)?;
    // A socket that cannot be told is slower, not wrong.
    let _slow = socket.set_nodelay(true);
    let mut stream = connector
        .connect(tls::any_name(), socket)
        .await
        .map_err(|error| tls::reason(&error))?;
    if shared.identity.lane(stream.get_ref().1.alpn_protocol()) != Some(lane) {
        return Err(Refusal::WrongChain);
    }
    let mut bytes = [0; HEADER_BYTES];
    stream
        .read_exact(&mut bytes)
        .await
        .map_err(|error| tls::reason(&error))?;
    match parse(bytes, lane) {
        Ok((Kind::Welcome, _)) => Ok(stream),
        Ok(_) | Err(_) => Err(Refusal::Malformed),
    }
}

/// Why a writer ended.
#[derive(Debug, PartialEq, Eq)]
enum Closed {
    /// The network stops.
    Stopped,
    /// The connection is gone.
    Lost,
}

/// Carries one lane's queue over one connection.
struct Writer<'a> {
    stream: TlsStream<TcpStream>,
    at: &'a LinkLane,
    lane: Lane,
    ping_interval: Duration,
    silence_max: Duration,
    /// When an unanswered ping was sent.
    asked: Option<Instant>,
    gathered: Vec<u8>,
}

/// The connection is gone.
struct Lost;

impl<'a> Writer<'a> {
    fn new(stream: TlsStream<TcpStream>, at: &'a LinkLane, lane: Lane, limits: &Limits) -> Self {
        Self {
            stream,
            at,
            lane,
            ping_interval: limits.ping_interval,
            silence_max: limits.silence_max,
            asked: None,
            gathered: Vec::new(),
        }
    }

    async fn run(mut self, stop: &mut watch::Receiver<bool>) {
        if self.carry(stop).await == Closed::Stopped {
            // The other end learns that this is an end and not an accident; if not, no harm.
            let _best_effort = timeout(self.silence_max, self.stream.shutdown()).await;
        }
    }

    async fn carry(&mut self, stop: &mut watch::Receiver<bool>) -> Closed {
        let mut ticks = interval(self.ping_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut back = [0; BACK_BYTES];
        loop {
            loop {
                match self.write_waiting().await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(Lost) => return Closed::Lost,
                }
            }
            tokio::select! {
                biased;
                heard = self.stream.read(&mut back) => match heard {
                    // Any byte is a sign of life; what it says does not matter here.
                    Ok(count) if count > 0 => self.asked = None,
                    Ok(_) | Err(_) => return Closed::Lost,
                },
                _ = ticks.tick() => {
                    if self.ask().await.is_err() {
                        return Closed::Lost;
                    }
                }
                () = self.at.filled.notified() => {}
                () = stopped(stop) => return Closed::Stopped,
            }
        }
    }

    /// Writes a batch of what waits; gives how many payloads that was.
    async fn write_waiting(&mut self) -> Result<u64, Lost> {
        let (mut count, mut bytes, mut large) = (0, 0, None);
        let (gathered, lane) = (&mut self.gathered, self.lane);
        gathered.clear();
        self.at.drain(|payload: Bytes| {
            count += 1;
            bytes += payload.len() as u64;
            gathered.extend_from_slice(&header(Kind::Payload, lane, payload.len()));
            if payload.len() > COPY_BYTES_MAX {
                large = Some(payload);
                return false;
            }
            gathered.extend_from_slice(&payload);
            gathered.len() < GATHER_BYTES
        });
        if count == 0 {
            return Ok(0);
        }
        let written = self.write_batch(large).await;
        let counters = &self.at.counters;
        if written.is_err() {
            add(&counters.dropped, count);
            return Err(Lost);
        }
        add(&counters.sent, count);
        add(&counters.sent_bytes, bytes);
        Ok(count)
    }

    async fn write_batch(&mut self, large: Option<Bytes>) -> Result<(), Lost> {
        let Self {
            stream,
            gathered,
            silence_max,
            ..
        } = self;
        write(stream, gathered, *silence_max).await?;
        if let Some(payload) = large {
            write(stream, &payload, *silence_max).await?;
        }
        flush(stream, *silence_max).await
    }

    /// Asks for a sign of life, or gives up when the last one asked for is overdue.
    async fn ask(&mut self) -> Result<(), Lost> {
        match self.asked {
            Some(asked) if asked.elapsed() > self.silence_max => Err(Lost),
            Some(_) => Ok(()),
            None => {
                self.asked = Some(Instant::now());
                let ping = header(Kind::Ping, self.lane, 0);
                write(&mut self.stream, &ping, self.silence_max).await?;
                flush(&mut self.stream, self.silence_max).await
            }
        }
    }
}

/// Writes all of `bytes`; gives up when the other end neither takes nor says anything for
/// `silence_max`.
async fn write(
    stream: &mut TlsStream<TcpStream>,
    bytes: &[u8],
    silence_max: Duration,
) -> Result<(), Lost> {
    for piece in bytes.chunks(GATHER_BYTES) {
        let mut rest = piece;
        while !rest.is_empty() {
            match timeout(silence_max, stream.write(rest)).await {
                Ok(Ok(count)) if count > 0 => rest = &rest[count..],
                Ok(_) => return Err(Lost),
                Err(_) => hear(stream).await?,
            }
        }
        // Sealing a large payload must not keep a vote of another connection off this thread.
        if piece.len() == GATHER_BYTES {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Writes out what TLS holds back; gives up when the other end is silent for `silence_max`.
async fn flush(stream: &mut TlsStream<TcpStream>, silence_max: Duration) -> Result<(), Lost> {
    loop {
        match timeout(silence_max, stream.flush()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(_)) => return Err(Lost),
            Err(_) => hear(stream).await?,
        }
    }
}

/// Whether signs of life lie unread: the other end takes nothing now, but it is there.
async fn hear(stream: &mut TlsStream<TcpStream>) -> Result<(), Lost> {
    let mut back = [0; BACK_BYTES];
    match timeout(Duration::ZERO, stream.read(&mut back)).await {
        Ok(Ok(count)) if count > 0 => Ok(()),
        Ok(_) | Err(_) => Err(Lost),
    }
}

/// The waits between attempts: doubling, jittered, capped.
pub(super) struct Backoff {
    seed: Digest,
    min: Duration,
    max: Duration,
    /// Failures in a row.
    failures: u32,
    /// Waits since the start, so that no two share their jitter.
    waits: u64,
}

impl Backoff {
    pub(super) fn new(shared: &Shared, peer: Digest, lane: Lane) -> Self {
        let mut hasher = Hasher::new(Domain::Audit);
        hasher
            .update(&shared.seed.to_le_bytes())
            .update(shared.identity.public().as_bytes())
            .update(peer.as_bytes())
            .update(lane.name().as_bytes());
        Self {
            seed: hasher.finish(),
            min: shared.limits.backoff_min,
            max: shared.limits.backoff_max,
            failures: 0,
            waits: 0,
        }
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Between half of the present step and all of it.
    pub(super) fn next(&mut self) -> Duration {
        let step = self
            .min
            .saturating_mul(1 << self.failures.min(16))
            .min(self.max);
        self.failures += 1;
        self.waits += 1;
        let drawn = Digest::of(
            Domain::Audit,
            &[self.seed.as_bytes().as_slice(), &self.waits.to_le_bytes()].concat(),
        );
        step / 2 + (step / 2).mul_f64(f64::from(drawn.0[0]) / 255.0)
    }
}
