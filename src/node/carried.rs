//! What a successor ledger starts from: the application's state and the names that were used.
//!
//! Source: design of views, 'a dead view'; `docs/formats.md`, state file. In: a member's ledger and
//! application, or a file. Out: a file, or the start of a chain.
//! Holds: a file that is read is the one that the genesis document names, whole; a name that the
//! predecessor remembered executes nothing in the successor while it would have been remembered.
//! Elsewhere: who reads the predecessor's folder (`verify`), what names it (`blocks::Predecessor`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::application::{Application, RestoreError};
use crate::blocks::Genesis;
use crate::committee::Height;
use crate::consortium::Ledger;
use crate::consortium::ledger::Name;
use crate::crypto::{Digest, Domain, Hasher, PublicKey};

/// The first bytes of a state file.
const HEAD: &[u8] = b"consortium state 1\n";
/// The version of its digest.
const VERSION: u8 = 1;

/// What is carried over from a predecessor.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// Names that were used, and the last height of the successor at which they are remembered.
    names: Arc<BTreeMap<Name, Height>>,
    /// The application's entries.
    entries: Vec<(Bytes, Bytes)>,
}

/// Why a state file cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CarriedError {
    /// The file is not there.
    #[error("{path} is missing: this ledger goes on from another one's state")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is not as it was written.
    #[error("{path} is no state file: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It is another state.
    #[error("{path} holds state {got}, genesis.json names {want}")]
    Other {
        /// The file.
        path: PathBuf,
        /// The digest of what it holds.
        got: Digest,
        /// What the genesis document names.
        want: Digest,
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

impl Carried {
    /// What a ledger leaves to its successor.
    pub(crate) fn of(ledger: &Ledger, application: &dyn Application) -> Self {
        let tip = ledger.height();
        let left = |expiry: Height| Height(expiry.0.saturating_sub(tip.0));
        let used = ledger.used().into_iter();
        let names = used.map(|(name, last)| (name, left(last)));
        Self {
            names: Arc::new(names.collect()),
            entries: application.entries().collect(),
        }
    }

    /// The file beside the genesis document at `document`.
    pub fn path(document: &Path) -> PathBuf {
        document.with_extension("state")
    }

    /// What `genesis` goes on from, out of the file beside its `document`; nothing where it is no
    /// successor.
    ///
    /// Errors: [`CarriedError`].
    pub(crate) fn load(
        genesis: &Genesis,
        document: &Path,
        make: fn() -> Box<dyn Application>,
    ) -> Result<Option<Self>, CarriedError> {
        let Some(predecessor) = &genesis.successor_of else {
            return Ok(None);
        };
        let path = Self::path(document);
        let bytes = fs::read(&path).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                return CarriedError::Missing { path: path.clone() };
            }
            failed(&path, source)
        })?;
        let damaged = |what: String| CarriedError::Damaged {
            path: path.clone(),
            what,
        };
        let carried = read(&bytes.into()).ok_or_else(|| damaged("its form".into()))?;
        let mut application = make();
        let filled = carried.fill(&mut *application);
        filled.map_err(|error| damaged(error.to_string()))?;
        let got = carried.digest(&genesis.parameters.application, &*application);
        let want = predecessor.state_digest;
        match got == want {
            true => Ok(Some(carried)),
            false => Err(CarriedError::Other { path, got, want }),
        }
    }

    /// What names it in a genesis document.
    pub(crate) fn digest(&self, name: &str, application: &dyn Application) -> Digest {
        let mut hasher = Hasher::new(Domain::Carried);
        hasher.update(&[VERSION]);
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(application.state_digest().as_bytes());
        hasher.update(&(self.names.len() as u64).to_le_bytes());
        for ((client, sequence), last) in self.names.iter() {
            hasher.update(client.as_bytes());
            hasher.update(&sequence.to_le_bytes());
            hasher.update(&last.0.to_le_bytes());
        }
        hasher.finish()
    }

    /// Names that execute nothing up to a height.
    pub(crate) fn names(&self) -> Arc<BTreeMap<Name, Height>> {
        Arc::clone(&self.names)
    }

    /// The application's entries.
    pub(crate) fn entries(&self) -> &[(Bytes, Bytes)] {
        &self.entries
    }

    /// Gives the entries to an application that stands at height 0.
    ///
    /// Errors: as [`Application::load`].
    pub(crate) fn fill(&self, application: &mut dyn Application) -> Result<(), RestoreError> {
        let mut entries = self.entries.iter().cloned().map(Ok);
        application.load(&mut entries, 0)
    }

    /// Writes the file, which must not be there.
    ///
    /// Errors: [`CarriedError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), CarriedError> {
        let write = || {
            let mut out = BufWriter::new(File::create_new(path)?);
            out.write_all(HEAD)?;
            out.write_all(&(self.names.len() as u64).to_le_bytes())?;
            for ((client, sequence), last) in self.names.iter() {
                out.write_all(client.as_bytes())?;
                out.write_all(&sequence.to_le_bytes())?;
                out.write_all(&last.0.to_le_bytes())?;
            }
            out.write_all(&(self.entries.len() as u64).to_le_bytes())?;
            for part in self.entries.iter().flat_map(|(key, value)| [key, value]) {
                let length = u32::try_from(part.len()).map_err(io::Error::other)?;
                out.write_all(&length.to_le_bytes())?;
                out.write_all(part)?;
            }
            out.into_inner()?.sync_all()
        };
        write().map_err(|source| failed(path, source))
    }
}

fn failed(path: &Path, source: io::Error) -> CarriedError {
    let path = path.into();
    CarriedError::Io { path, source }
}

/// Reads what [`Carried::write`] wrote: nothing for any other bytes. No length is believed before
/// the bytes are there.
fn read(bytes: &Bytes) -> Option<Carried> {
    let mut reader = Reader {
        rest: bytes.strip_prefix(HEAD)?,
        whole: bytes,
    };
    let mut names = BTreeMap::new();
    for _ in 0..reader.number()? {
        let client = PublicKey(Digest(reader.array()?));
        let name = (client, reader.number()?);
        let last = Height(reader.number()?);
        let is_after = names.last_key_value().is_none_or(|(last, _)| *last < name);
        if !is_after || names.insert(name, last).is_some() {
            return None;
        }
    }
    let mut entries = Vec::new();
    for _ in 0..reader.number()? {
        entries.push((reader.part()?, reader.part()?));
    }
    let names = Arc::new(names);
    reader.rest.is_empty().then_some(Carried { names, entries })
}

struct Reader<'a> {
    rest: &'a [u8],
    whole: &'a Bytes,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn part(&mut self) -> Option<Bytes> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(self.whole.slice_ref(taken))
    }
}

#[cfg(test)]
mod tests;
