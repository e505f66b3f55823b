//! The one codec: the only file that calls bincode.
//!
//! Source: bincode 2.0.1, fixed-width integers, little-endian. In: values with serde. Out: bytes,
//! and back.
//! Holds: decode refuses trailing bytes, forms that do not encode back to the same bytes, and
//! anything over its bound before it allocates. Elsewhere: signed and hashed bytes
//! (`crypto::SignBytes`), which never come from here.

use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest encoded value: one bulk frame.
pub const ENCODED_BYTES_MAX: usize = 4 << 20;

/// Why bytes are no value of the type. Their maker is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than the type may have.
    #[error("{got} bytes, at most {most} are allowed")]
    TooLong {
        /// How many there are.
        got: usize,
        /// How many there may be.
        most: usize,
    },
    /// The bytes do not follow the format.
    #[error("not in the format: {reason}")]
    Malformed {
        /// What the decoder says.
        reason: String,
    },
    /// Bytes are left over, or the value has another encoding: one value, one form.
    #[error("not the canonical form of its value")]
    NotCanonical,
}

/// The bytes of `value`.
///
/// Values of the vocabulary always have an encoding; their sizes are bounded where they are made.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let config = bincode::config::standard().with_fixed_int_encoding();
    bincode::serde::encode_to_vec(value, config).expect("vocabulary types always encode")
}

/// The value of `bytes`, at most `most` of them.
pub fn decode<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    most: usize,
) -> Result<T, DecodeError> {
    let (got, most) = (bytes.len(), most.min(ENCODED_BYTES_MAX));
    if got > most {
        return Err(DecodeError::TooLong { got, most });
    }
    // The decoder may allocate as much as a length claims below its limit, so the limit is near
    // what is there.
    let decoded = match got {
        ..=0x400 => decode_below::<T, 0x400>(bytes),
        0x401..=0x4000 => decode_below::<T, 0x4000>(bytes),
        0x4001..=0x4_0000 => decode_below::<T, 0x4_0000>(bytes),
        _ => decode_below::<T, ENCODED_BYTES_MAX>(bytes),
    };
    let (value, used) = decoded.map_err(|error| DecodeError::Malformed {
        reason: error.to_string(),
    })?;
    if used != bytes.len() || !encodes_to(&value, bytes) {
        return Err(DecodeError::NotCanonical);
    }
    Ok(value)
}

/// Whether `value` encodes to exactly `bytes`; compares piece by piece instead of building a copy.
fn encodes_to<T: Serialize>(value: &T, bytes: &[u8]) -> bool {
    let config = bincode::config::standard().with_fixed_int_encoding();
    let mut same = Same { rest: bytes };
    let written = bincode::serde::encode_into_writer(value, &mut same, config);
    written.is_ok() && same.rest.is_empty()
}

/// Takes only the bytes that it expects.
struct Same<'a> {
    rest: &'a [u8],
}

impl Writer for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        match self.rest.strip_prefix(bytes) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(EncodeError::UnexpectedEnd),
        }
    }
}

fn decode_below<T: DeserializeOwned, const LIMIT: usize>(
    bytes: &[u8],
) -> Result<(T, usize), bincode::error::DecodeError> {
    let config = bincode::config::standard()
        .with_fixed_int_encoding()
        .with_limit::<LIMIT>();
    bincode::serde::decode_from_slice(bytes, config)
}
