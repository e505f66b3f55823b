//! Frames: how payloads are told apart on a connection.
//!
//! Source: none. In: a connection's bytes. Out: headers and payloads.
//! Holds: no byte of a payload is allocated before its length is within its lane's bound.
//! Elsewhere: what a payload means (`node`).
//!
//! A frame is a length (u32, little-endian, of the payload alone), a kind (one byte) and the
//! payload. Heartbeats have no payload.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Lane;

/// The largest payload on [`Lane::Votes`]: 1 MiB.
pub const VOTES_FRAME_BYTES_MAX: usize = 1 << 20;
/// The largest payload on [`Lane::Bulk`]: 4 MiB.
pub const BULK_FRAME_BYTES_MAX: usize = 4 << 20;

/// Length and kind.
pub(super) const HEADER_BYTES: usize = 5;
/// What a frame counts against the bounds beyond its payload, so that empty ones are not free.
pub(super) const FRAME_CHARGE_BYTES: usize = 256;

/// Bytes that one connection reads ahead.
const READ_BYTES: usize = 32 << 10;
/// Payloads up to here are gathered in the read-ahead and copied; larger ones are read in place.
const GATHER_BYTES: usize = 16 << 10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A payload of the connection's lane.
    Payload,
    /// Asks for a pong.
    Ping,
    /// A sign of life.
    Pong,
    /// The listener's word that the dialer is in.
    Welcome,
}

impl Kind {
    fn byte(self, lane: Lane) -> u8 {
        match (self, lane) {
            (Kind::Payload, Lane::Votes) => 0,
            (Kind::Payload, Lane::Bulk) => 1,
            (Kind::Ping, _) => 2,
            (Kind::Pong, _) => 3,
            (Kind::Welcome, _) => 4,
        }
    }
}

/// Why a connection's bytes are not frames, or ended. The other end is at fault for the first two.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// Longer than the lane allows.
    #[error("a frame of {length} bytes on a lane of {max}")]
    TooLong {
        /// What the header says.
        length: usize,
        /// What the lane allows.
        max: usize,
    },
    /// A kind that has no place on this lane.
    #[error("a frame of kind {kind}")]
    Kind {
        /// What the header says.
        kind: u8,
    },
    /// The connection ended, or fell silent.
    #[error("the connection ended")]
    Ended,
}

/// The header of a frame of `kind` with `length` bytes of payload.
pub(super) fn header(kind: Kind, lane: Lane, length: usize) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(length).expect("a payload within its lane's bound fits 32 bits");
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4] = kind.byte(lane);
    bytes
}

/// Reads a header of a connection of `lane`: the kind and the payload's length, within bounds.
///
/// Errors: [`FrameError::TooLong`], [`FrameError::Kind`].
pub(super) fn parse(bytes: [u8; HEADER_BYTES], lane: Lane) -> Result<(Kind, usize), FrameError> {
    let [a, b, c, d, byte] = bytes;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let kind = [Kind::Payload, Kind::Ping, Kind::Pong, Kind::Welcome]
        .into_iter()
        .find(|kind| kind.byte(lane) == byte)
        .ok_or(FrameError::Kind { kind: byte })?;
    let max = if kind == Kind::Payload {
        lane.frame_bytes_max()
    } else {
        0
    };
    if length > max {
        return Err(FrameError::TooLong { length, max });
    }
    Ok((kind, length))
}

/// Reads frames of one lane from a stream.
pub(super) struct FrameReader<S> {
    stream: S,
    lane: Lane,
    ahead: BytesMut,
    silence_max: Duration,
}

impl<S: AsyncRead + Unpin> FrameReader<S> {
    /// A reader that gives up when `silence_max` passes without a byte.
    pub(super) fn new(stream: S, lane: Lane, silence_max: Duration) -> Self {
        Self {
            stream,
            lane,
            ahead: BytesMut::new(),
            silence_max,
        }
    }

    /// The stream, for writing.
    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The next frame's kind and length. Errors: [`FrameError`].
    pub(super) async fn header(&mut self) -> Result<(Kind, usize), FrameError> {
        self.gather(HEADER_BYTES).await?;
        let mut bytes = [0; HEADER_BYTES];
        self.ahead.copy_to_slice(&mut bytes);
        parse(bytes, self.lane)
    }

    /// The payload of `length` bytes that follows a header. Errors: [`FrameError::Ended`].
    pub(super) async fn payload(&mut self, length: usize) -> Result<Bytes, FrameError> {
        assert!(
            length <= self.lane.frame_bytes_max(),
            "a length was checked when its header was read"
        );
        if length <= GATHER_BYTES {
            self.gather(length).await?;
            // A copy, so that a small payload does not keep the whole read-ahead alive.
            let payload = Bytes::copy_from_slice(&self.ahead[..length]);
            self.ahead.advance(length);
            return Ok(payload);
        }
        let mut payload = BytesMut::with_capacity(length);
        let have = self.ahead.len().min(length);
        payload.extend_from_slice(&self.ahead[..have]);
        self.ahead.advance(have);
        while payload.len() < length {
            let missing = (length - payload.len()) as u64;
            let mut rest = (&mut self.stream).take(missing);
            progress(self.silence_max, rest.read_buf(&mut payload)).await?;
        }
        Ok(payload.freeze())
    }

    async fn gather(&mut self, need: usize) -> Result<(), FrameError> {
        while self.ahead.len() < need {
            self.ahead.reserve(READ_BYTES - self.ahead.len());
            progress(self.silence_max, self.stream.read_buf(&mut self.ahead)).await?;
        }
        Ok(())
    }
}

async fn progress(
    silence_max: Duration,
    read: impl Future<Output = std::io::Result<usize>>,
) -> Result<(), FrameError> {
    match tokio::time::timeout(silence_max, read).await {
        Ok(Ok(count)) if count > 0 => Ok(()),
        Ok(_) | Err(_) => Err(FrameError::Ended),
    }
}
