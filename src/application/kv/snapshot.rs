//! The stream that a state travels in.
//!
//! Source: this file is the specification. In: a map, or chunks cut anywhere. Out: chunks, or a
//! map.
//! Holds: one state has one stream, so members cut equal segments; reading one back needs the
//! memory of one entry besides the map.
//! Elsewhere: segments and their digests (`checkpoint`).
//!
//! The stream is cut where the map forks: a piece is the largest part of the trie that fits, so a
//! change alters the piece that it is in and no other.
//!
//! Bytes, integers little-endian: version u8, height u64, number of entries u64, then the entries
//! in the order of their keys' digests: key length u32, key, value length u32, value. Nothing
//! follows.

use bytes::{Buf, Bytes, BytesMut};

use super::super::map::{KEY, KEY_BYTES_MAX, Map, VALUE, VALUE_BYTES_MAX, key_path};
use super::super::read::{Cursor, ReadError};
use super::super::{Chunks, RestoreError};
use super::Filling;

/// The first byte of a snapshot.
pub const SNAPSHOT_VERSION: u8 = 1;

/// What an entry has besides its key and value.
const ENTRY_OVERHEAD: u64 = 4 + 4;

/// No entry is longer than this.
const ENTRY_BYTES_MAX: usize = 4 + KEY_BYTES_MAX + 4 + VALUE_BYTES_MAX;

const HEAD_BYTES: usize = 1 + 8 + 8;

pub(super) fn write(
    map: &Map,
    height: u64,
    piece_bytes: usize,
) -> impl Iterator<Item = Bytes> + Send + use<> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.push(SNAPSHOT_VERSION);
    head.extend_from_slice(&height.to_le_bytes());
    head.extend_from_slice(&map.len().to_le_bytes());
    let pieces = map.pieces(ENTRY_OVERHEAD, piece_bytes);
    let body = pieces.map(|entries| {
        let mut piece = Vec::new();
        for (key, value) in entries {
            KEY.write(&key, &mut piece)
                .expect("a key in the map is within its bound");
            VALUE
                .write(&value, &mut piece)
                .expect("a value in the map is within its bound");
        }
        Bytes::from(piece)
    });
    std::iter::once(Bytes::from(head)).chain(body)
}

pub(super) fn read(chunks: Chunks<'_>, state_bytes_max: u64) -> Result<(Map, u64), RestoreError> {
    let mut stream = Stream {
        chunks,
        held: BytesMut::new(),
    };
    stream.fill(HEAD_BYTES)?;
    let mut head = Cursor(&stream.held);
    let version = head.u8()?;
    if version != SNAPSHOT_VERSION {
        return Err(ReadError::Unknown {
            field: "snapshot version",
            value: version,
        }
        .into());
    }
    let (height, count) = (head.u64()?, head.u64()?);
    stream.held.advance(HEAD_BYTES);
    let mut filling = Filling::new(state_bytes_max);
    let mut last = None;
    for index in 0..count {
        let (key, value) = stream.entry()?;
        let path = Some(key_path(&key));
        if path <= last {
            return Err(RestoreError::Order { index });
        }
        last = path;
        filling.add(key, value)?;
    }
    stream.fill(1)?;
    Cursor(&stream.held).end()?;
    Ok((filling.map, height))
}

/// Chunks on the way in.
struct Stream<'a> {
    chunks: Chunks<'a>,
    /// What is not read yet: less than one entry and one chunk.
    held: BytesMut,
}

impl Stream<'_> {
    /// Takes chunks until `count` bytes are held or the chunks end.
    fn fill(&mut self, count: usize) -> Result<(), RestoreError> {
        while self.held.len() < count {
            let Some(chunk) = self.chunks.next() else {
                break;
            };
            self.held.extend_from_slice(&chunk?);
        }
        Ok(())
    }

    fn entry(&mut self) -> Result<(Bytes, Bytes), RestoreError> {
        self.fill(ENTRY_BYTES_MAX)?;
        let mut cursor = Cursor(&self.held);
        // Copies, so that no entry keeps a whole chunk in memory.
        let key = Bytes::copy_from_slice(cursor.bytes(KEY)?);
        let value = Bytes::copy_from_slice(cursor.bytes(VALUE)?);
        let left = cursor.0.len();
        self.held.advance(self.held.len() - left);
        Ok((key, value))
    }
}
