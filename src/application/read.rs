//! Reading of hand-written encodings.
//!
//! Source: the encodings in `kv::operation`, `map::proof`, `kv::snapshot`. In: bytes. Out: fields.
//! Holds: no length is believed before the bytes are there and within the caller's bound.
//! Elsewhere: what the fields mean.

use crate::crypto::Digest;

/// Why bytes cannot be read. Whoever wrote them is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The bytes end inside a field.
    #[error("the bytes end too early")]
    Short,
    /// Bytes follow the last field.
    #[error("{count} bytes follow the end")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A field is longer than its bound, or empty where it must not be.
    #[error("{field} has {have} bytes, allowed are {min} to {max}")]
    Length {
        /// Which field.
        field: &'static str,
        /// Its stated length.
        have: usize,
        /// The least length.
        min: usize,
        /// The greatest length.
        max: usize,
    },
    /// A byte that chooses between forms has no known value.
    #[error("{field} {value} is not known")]
    Unknown {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u8,
    },
}

/// How long a field of variable length may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) field: &'static str,
    pub(crate) min: usize,
    pub(crate) max: usize,
}

impl Bound {
    /// Refuses a length outside the bound.
    pub(crate) fn check(&self, have: usize) -> Result<(), ReadError> {
        let Self { field, min, max } = *self;
        if have < min || have > max {
            return Err(ReadError::Length {
                field,
                have,
                min,
                max,
            });
        }
        Ok(())
    }

    /// Appends `bytes` behind their length.
    pub(crate) fn write(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ReadError> {
        self.check(bytes.len())?;
        let length = u32::try_from(bytes.len()).expect("every bound is below 4 GiB");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(bytes);
        Ok(())
    }
}

/// Bytes not yet read.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(ReadError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let taken = self.take(N)?;
        Ok(taken
            .try_into()
            .expect("as many bytes as asked for were taken"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ReadError> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ReadError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ReadError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, ReadError> {
        self.array().map(Digest)
    }

    /// Bytes behind their four-byte length.
    pub(crate) fn bytes(&mut self, bound: Bound) -> Result<&'a [u8], ReadError> {
        let length = self.u32()? as usize;
        bound.check(length)?;
        self.take(length)
    }

    /// Refuses bytes that are left.
    pub(crate) fn end(self) -> Result<(), ReadError> {
        match self.0.len() {
            0 => Ok(()),
            count => Err(ReadError::Trailing { count }),
        }
    }
}
