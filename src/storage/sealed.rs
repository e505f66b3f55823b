//! Small whole files with a checksum: written at once, read at once.
//!
//! Source: design, durability. In: a name and bytes. Out: the same bytes.
//! Holds: after a power loss a file is absent, the earlier one, or whole; what does not match its
//! checksum is an error. Elsewhere: what the bytes mean (`node::shelf`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::store::write_durably;

/// Behind the bytes: their checksum and the format.
const TAIL_BYTES: usize = 12;
const MAGIC: &[u8; 8] = b"sealed 1";

/// Why a sealed file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The disk is at fault: it is not as it was written.
    #[error("{path} is damaged: it does not match its checksum")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The environment failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Writes the file `name` in `dir`, which is made if it is missing; durable on return.
///
/// Errors: [`SealedError::Io`].
pub fn write_sealed(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), SealedError> {
    let mut sealed = bytes.to_vec();
    sealed.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    sealed.extend_from_slice(MAGIC);
    let written = fs::create_dir_all(dir).and_then(|()| write_durably(dir, name, &sealed));
    let path = dir.join(name);
    written.map_err(|source| SealedError::Io { path, source })
}

/// Reads the file `name` in `dir`; nothing where there is none.
///
/// Errors: [`SealedError`].
pub fn read_sealed(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, SealedError> {
    let path = dir.join(name);
    let mut bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SealedError::Io { path, source }),
    };
    let body = bytes.len().checked_sub(TAIL_BYTES);
    let is_whole = body.is_some_and(|body| {
        let (body, tail) = bytes.split_at(body);
        tail[..4] == crc32c::crc32c(body).to_le_bytes() && tail[4..] == MAGIC[..]
    });
    let Some(body) = body.filter(|_| is_whole) else {
        return Err(SealedError::Damaged { path });
    };
    bytes.truncate(body);
    Ok(Some(bytes))
}
