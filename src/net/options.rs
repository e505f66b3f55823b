//! What a network is made of, and why it may not start.
//!
//! Source: none. In: what the host wants. Out: checked bounds, a listening socket.
//! Holds: every queue holds at least one of the largest frames.
//! Elsewhere: where the values come from (`node`).

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::Peer;
use super::frame::{BULK_FRAME_BYTES_MAX, FRAME_CHARGE_BYTES, HEADER_BYTES};
use crate::crypto::{Digest, SecretKey};

/// Two of the largest frames with all that is counted for them, 8 MiB and a little.
const LANE_BYTES_MAX: usize = 2 * (BULK_FRAME_BYTES_MAX + FRAME_CHARGE_BYTES);

/// The bounds; the defaults suit a committee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Handshakes under way from outside; when full the oldest is cut off for the newest, so that
    /// silent strangers cannot keep members out.
    pub handshakes_max: usize,
    /// How long a handshake may take, on either side.
    pub handshake_timeout: Duration,
    /// Payloads that wait for one peer on one lane.
    pub queue_messages_max: usize,
    /// Bytes that wait for one peer on one lane.
    pub queue_bytes_max: usize,
    /// Bytes of [`Inbound`] of one peer and lane that the host holds; when full its connection is
    /// not read.
    pub inbound_bytes_max: usize,
    /// The first wait between two attempts to reach a peer.
    pub backoff_min: Duration,
    /// The longest wait between two attempts to reach a peer.
    pub backoff_max: Duration,
    /// How often an idle connection is asked for a sign of life.
    pub ping_interval: Duration,
    /// How long the other end may be silent, or take nothing, before the connection is given up.
    pub silence_max: Duration,
    /// Threads that carry all connections.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes_max: 32,
            handshake_timeout: Duration::from_secs(3),
            queue_messages_max: 1_000,
            queue_bytes_max: LANE_BYTES_MAX,
            inbound_bytes_max: LANE_BYTES_MAX,
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            ping_interval: Duration::from_secs(2),
            silence_max: Duration::from_secs(10),
            threads: 2,
        }
    }
}

/// Where to listen.
#[derive(Debug)]
pub enum Listen {
    /// Bind this address; port 0 takes a free one.
    Address(SocketAddr),
    /// A socket that is bound already.
    Bound(TcpListener),
}

/// What a [`Net`] is made of.
pub struct Options {
    /// Our identity key; it signs the handshakes.
    pub identity: SecretKey,
    /// The chain id; members of another chain are refused.
    pub chain: Digest,
    /// Where we listen.
    pub listen: Listen,
    /// Whom we speak with; our own entry is ignored.
    pub peers: Vec<Peer>,
    /// The bounds.
    pub limits: Limits,
    /// Seeds the jitter of the waits between attempts.
    pub seed: u64,
}

/// Why the network did not start. Nothing was left behind.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The port is taken or not ours to take.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where we wanted to listen.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The identity key is not an ed25519 key; the simulated scheme has no place here.
    #[error("the identity key does not make TLS signatures: {reason}")]
    Identity {
        /// What the TLS library said.
        reason: String,
    },
    /// A queue could not hold one frame, a count or a time is zero, or a pause outlasts what it is
    /// measured against; times are in milliseconds.
    #[error("limit {name} is below {least}")]
    Limit {
        /// Which limit.
        name: &'static str,
        /// The least that works.
        least: usize,
    },
    /// The system gave no threads.
    #[error("cannot start the network's threads: {source}")]
    Threads {
        /// What the system said.
        source: std::io::Error,
    },
}

/// Refuses bounds that nothing could pass. Errors: [`NetError::Limit`].
pub(super) fn check(limits: &Limits) -> Result<(), NetError> {
    let frame = BULK_FRAME_BYTES_MAX + HEADER_BYTES;
    let ms = |span: Duration| usize::try_from(span.as_millis()).unwrap_or(usize::MAX);
    let (ping, backoff_min) = (ms(limits.ping_interval), ms(limits.backoff_min));
    let rules = [
        ("handshakes_max", limits.handshakes_max, 1),
        ("queue_messages_max", limits.queue_messages_max, 1),
        ("queue_bytes_max", limits.queue_bytes_max, frame),
        (
            "inbound_bytes_max",
            limits.inbound_bytes_max,
            frame + FRAME_CHARGE_BYTES,
        ),
        ("threads", limits.threads, 1),
        ("handshake_timeout", ms(limits.handshake_timeout), 1),
        ("ping_interval", ping, 1),
        (
            "silence_max",
            ms(limits.silence_max),
            ping.saturating_mul(2),
        ),
        ("backoff_min", backoff_min, 1),
        ("backoff_max", ms(limits.backoff_max), backoff_min),
    ];
    match rules.into_iter().find(|(_, given, least)| given < least) {
        Some((name, _, least)) => Err(NetError::Limit { name, least }),
        None => Ok(()),
    }
}

/// Binds where asked. Errors: [`NetError::Listen`].
pub(super) fn listen(listen: Listen) -> Result<(TcpListener, SocketAddr), NetError> {
    let named = |address: String| move |source| NetError::Listen { address, source };
    let listener = match listen {
        Listen::Address(address) => {
            TcpListener::bind(address).map_err(named(address.to_string()))?
        }
        Listen::Bound(listener) => listener,
    };
    let local = listener
        .local_addr()
        .map_err(named("an unbound socket".into()))?;
    listener
        .set_nonblocking(true)
        .map_err(named(local.to_string()))?;
    Ok((listener, local))
}
