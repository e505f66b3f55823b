//! Operations of the key-value machine, their one encoding and the codes of their outcomes.
//!
//! Source: this file is the specification. In: bytes. Out: [`Operation`]s, and back.
//! Holds: one operation has one encoding; what decodes is within every bound.
//! Elsewhere: what operations do (`kv`).
//!
//! Bytes, lengths u32 little-endian, nothing follows: `01` put: key length, key, value length,
//! value. `02` get: key length, key. `03` delete: key length, key. `04` compare and set: key
//! length, key, `00` or `01` with old length, old; new length, new. `05` raw: length, bytes.

use super::super::map::{KEY, VALUE, VALUE_BYTES_MAX};
use super::super::read::{Bound, Cursor, ReadError};

const RAW: Bound = Bound {
    field: "raw",
    min: 0,
    max: VALUE_BYTES_MAX,
};
const OLD: Bound = Bound {
    field: "old value",
    ..VALUE
};

/// One act on the map, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Sets a value.
    Put {
        /// 1 to 1024 bytes.
        key: &'a [u8],
        /// At most 128 KiB.
        value: &'a [u8],
    },
    /// Reads a value at its place in the order.
    Get {
        /// 1 to 1024 bytes.
        key: &'a [u8],
    },
    /// Removes a key.
    Delete {
        /// 1 to 1024 bytes.
        key: &'a [u8],
    },
    /// Sets a value where the present one is as expected.
    CompareAndSet {
        /// 1 to 1024 bytes.
        key: &'a [u8],
        /// The value expected, or `None` where the key must be absent.
        old: Option<&'a [u8]>,
        /// The value to set, at most 128 KiB.
        new: &'a [u8],
    },
    /// Bytes that mean nothing to this machine, which orders and refuses them.
    Raw {
        /// At most 128 KiB.
        bytes: &'a [u8],
    },
}

impl<'a> Operation<'a> {
    /// The encoding that the head describes.
    ///
    /// Errors: [`ReadError::Length`] where a field is out of its bound.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ReadError> {
        let mut out = Vec::new();
        match *self {
            Operation::Put { key, value } => {
                out.push(1);
                KEY.write(key, &mut out)?;
                VALUE.write(value, &mut out)?;
            }
            Operation::Get { key } => {
                out.push(2);
                KEY.write(key, &mut out)?;
            }
            Operation::Delete { key } => {
                out.push(3);
                KEY.write(key, &mut out)?;
            }
            Operation::CompareAndSet { key, old, new } => {
                out.push(4);
                KEY.write(key, &mut out)?;
                out.push(old.is_some().into());
                if let Some(old) = old {
                    OLD.write(old, &mut out)?;
                }
                VALUE.write(new, &mut out)?;
            }
            Operation::Raw { bytes } => {
                out.push(5);
                RAW.write(bytes, &mut out)?;
            }
        }
        Ok(out)
    }

    /// Reads what [`Operation::to_bytes`] wrote, without copying.
    ///
    /// Errors: [`ReadError`] for everything else.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let mut cursor = Cursor(bytes);
        let operation = match cursor.u8()? {
            1 => Operation::Put {
                key: cursor.bytes(KEY)?,
                value: cursor.bytes(VALUE)?,
            },
            2 => Operation::Get {
                key: cursor.bytes(KEY)?,
            },
            3 => Operation::Delete {
                key: cursor.bytes(KEY)?,
            },
            4 => Operation::CompareAndSet {
                key: cursor.bytes(KEY)?,
                old: match cursor.u8()? {
                    0 => None,
                    1 => Some(cursor.bytes(OLD)?),
                    value => {
                        return Err(ReadError::Unknown {
                            field: "old value flag",
                            value,
                        });
                    }
                },
                new: cursor.bytes(VALUE)?,
            },
            5 => Operation::Raw {
                bytes: cursor.bytes(RAW)?,
            },
            value => {
                return Err(ReadError::Unknown {
                    field: "operation",
                    value,
                });
            }
        };
        cursor.end()?;
        Ok(operation)
    }
}

/// What an operation's outcome says. The bytes that go with a code are stated at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Code {
    /// It was done. Put: `01` where the key was there before, else `00`. Get: the value. Delete
    /// and compare-and-set: nothing.
    Done = 0,
    /// Get, delete: the key is absent. Nothing.
    Absent = 1,
    /// Compare-and-set: the value is another. The
    /// [`value_digest`](super::super::map::value_digest) of the present value, 32 bytes; nothing
    /// where the key is absent.
    Mismatch = 2,
    /// The state would exceed [`STATE_BYTES_MAX`](super::STATE_BYTES_MAX). Nothing.
    Full = 3,
    /// The bytes are no operation. Nothing.
    Malformed = 4,
    /// Raw bytes mean nothing here. Nothing.
    Raw = 5,
}

impl Code {
    /// Its name in output, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Absent => "absent",
            Self::Mismatch => "mismatch",
            Self::Full => "full",
            Self::Malformed => "malformed",
            Self::Raw => "raw",
        }
    }
}

impl TryFrom<u16> for Code {
    type Error = u16;
    fn try_from(code: u16) -> Result<Self, u16> {
        let all = [
            Self::Done,
            Self::Absent,
            Self::Mismatch,
            Self::Full,
            Self::Malformed,
            Self::Raw,
        ];
        all.into_iter()
            .find(|known| *known as u16 == code)
            .ok_or(code)
    }
}
