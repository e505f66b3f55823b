//! Records of the replica as records of the log.
//!
//! Source: `docs/formats.md`. In: [`Record`]. Out: a kind and bytes, and back.
//! Holds: a record reads back equal; a batch is stored as its bytes, uncopied.
//! Elsewhere: frames, checksums and files (`storage`).

use bytes::Bytes;

use super::{Block, Fault, Record};
use crate::blocks::codec::{self, DecodeError, ENCODED_BYTES_MAX};
use crate::committee::{Certificate, Height, ViewId, VoterRecord};
use crate::crypto::{Digest, Domain};
use crate::fsm;

const VOTER: u8 = 1;
const PAYLOAD: u8 = 2;
const BATCH: u8 = 3;
const BLOCK: u8 = 4;
const CERTIFICATE: u8 = 5;
const DECISION: u8 = 6;
const ENGINE: u8 = 7;
const FAULT: u8 = 8;

/// Why a record of the log is none of ours. The disk is at fault, or a newer program wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// No record has this kind.
    #[error("records of kind {kind} are not known; a newer program wrote this log")]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// The bytes are no record of their kind.
    #[error("record: {0}")]
    Decode(#[from] DecodeError),
}

/// What later finds a record again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A batch, by its digest.
    Batch(Digest),
    /// An applied block.
    Block(Height),
    /// A block certificate.
    Certificate(Height),
    /// Read only at the start.
    Nameless,
}

/// The name of `record`.
pub(crate) fn name(record: &Record) -> Name {
    match record {
        Record::Batch(bytes) => Name::Batch(Digest::of(Domain::Batch, bytes)),
        Record::Block(block) => Name::Block(block.header.height),
        Record::Certificate(certificate) => Name::Certificate(certificate.ballot.height),
        Record::Voter(..) | Record::Payload(..) => Name::Nameless,
        Record::Decision(_) | Record::Engine(..) | Record::Fault(_) => Name::Nameless,
    }
}

/// The kind and the bytes of `record`.
pub(crate) fn encode(record: Record) -> (u8, Bytes) {
    match record {
        Record::Voter(view, promise) => (VOTER, codec::encode(&(view, promise)).into()),
        Record::Payload(height, payload) => (PAYLOAD, codec::encode(&(height, payload)).into()),
        Record::Batch(bytes) => (BATCH, bytes),
        Record::Block(block) => (BLOCK, codec::encode(&block).into()),
        Record::Certificate(certificate) => (CERTIFICATE, codec::encode(&certificate).into()),
        Record::Decision(certificate) => (DECISION, codec::encode(&certificate).into()),
        Record::Fault(fault) => (FAULT, codec::encode(&fault).into()),
        Record::Engine(place, bytes) => (ENGINE, codec::encode(&(place, bytes)).into()),
    }
}

/// The record of `kind` and `bytes`.
///
/// Errors: [`RecordError`].
pub(crate) fn decode(kind: u8, bytes: &[u8]) -> Result<Record, RecordError> {
    let most = ENCODED_BYTES_MAX;
    Ok(match kind {
        VOTER => {
            let (view, promise): (ViewId, VoterRecord) = codec::decode(bytes, most)?;
            Record::Voter(view, promise)
        }
        PAYLOAD => {
            let (height, payload): (Height, fsm::Payload) = codec::decode(bytes, most)?;
            Record::Payload(height, payload)
        }
        BATCH => Record::Batch(Bytes::copy_from_slice(bytes)),
        BLOCK => Record::Block(codec::decode::<Block>(bytes, most)?),
        CERTIFICATE => Record::Certificate(codec::decode::<Certificate>(bytes, most)?),
        DECISION => Record::Decision(codec::decode::<Certificate>(bytes, most)?),
        ENGINE => {
            let (place, bytes): (u64, Bytes) = codec::decode(bytes, most)?;
            Record::Engine(place, bytes)
        }
        FAULT => Record::Fault(codec::decode::<Fault>(bytes, most)?),
        kind => return Err(RecordError::Kind { kind }),
    })
}

/// Whether a record of `kind` is of the chain itself: a batch, a block or a certificate.
pub(crate) fn is_of_the_chain(kind: u8) -> bool {
    kind == BATCH || kind == BLOCK || kind == CERTIFICATE
}

/// Whether tables that know a record of `kind` hold all that a start needs of it.
pub(crate) fn is_indexed(kind: u8) -> bool {
    kind == BATCH || kind == BLOCK
}
