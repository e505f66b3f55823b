//! Tables: ordered maps of bytes on disk, for everything that can be rebuilt from the log and the
//! chain.
//!
//! Source: design, 'durability, exactly'. In: batches over several tables. Out: values and ranges
//! in key order. Holds: a batch is seen whole or not at all, also after a crash; what `flush`
//! confirmed is durable; every value carries a checksum of its table, key and bytes. Elsewhere:
//! what was promised to anybody (`log`).

mod checked;
mod marker;
mod memory;
mod redb;
mod seal;
#[cfg(feature = "sled")]
mod sled;
#[cfg(test)]
mod tapped;
mod verify;

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

#[cfg(test)]
use checked::Edit;
#[cfg(test)]
pub(crate) use tapped::Tapped;
pub use verify::{TablesReport, verify_tables};

use checked::{Checked, Engine};

/// The longest key in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// The longest value in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Ordered tables of bytes.
pub trait Tables: Send + Sync {
    /// The value of `key`.
    fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, TableError>;

    /// At most `limit` rows of `range`, in key order or against it.
    fn scan(
        &self,
        table: &str,
        range: &Range,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, TableError>;

    /// Makes all changes of `batch`, in their order and as one; durable after the next `flush`.
    fn commit(&self, batch: Batch) -> Result<(), TableError>;

    /// Makes every batch committed so far durable. An error is fatal: every later act gives it
    /// again.
    fn flush(&self) -> Result<(), TableError>;

    /// Bytes of all files.
    fn size_on_disk(&self) -> Result<u64, TableError>;

    /// Reads every row and checks it; gives how many there are.
    fn check(&self) -> Result<u64, TableError>;

    /// The name of the engine.
    fn engine_id(&self) -> &'static str;
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest key up.
    Forward,
    /// From the highest key down.
    Reverse,
}

/// Keys from `from` on and below `to`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The lowest key in it.
    pub from: Vec<u8>,
    /// The lowest key above it; none: up to the end.
    pub to: Option<Vec<u8>>,
}

impl Range {
    /// Every key.
    pub fn all() -> Self {
        Self::default()
    }

    /// Keys from `from` on and below `to`.
    pub fn between(from: &[u8], to: &[u8]) -> Self {
        Self {
            from: from.to_vec(),
            to: Some(to.to_vec()),
        }
    }

    /// Keys from `from` on.
    pub fn starting_at(from: &[u8]) -> Self {
        Self {
            from: from.to_vec(),
            to: None,
        }
    }

    /// Keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let kept = prefix.iter().rposition(|byte| *byte != u8::MAX);
        let to = kept.map(|last| {
            let mut to = prefix[..=last].to_vec();
            to[last] += 1;
            to
        });
        Self {
            from: prefix.to_vec(),
            to,
        }
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }
}

/// Changes that are made as one, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<(String, Change)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Range),
}

impl Batch {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, table: &str, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes
            .push((table.into(), Change::Put(key.into(), value.into())));
    }

    /// Removes `key`, present or not.
    pub fn delete(&mut self, table: &str, key: impl Into<Vec<u8>>) {
        self.changes
            .push((table.into(), Change::Delete(key.into())));
    }

    /// Removes every key in `range`.
    pub fn delete_range(&mut self, table: &str, range: Range) {
        self.changes
            .push((table.into(), Change::DeleteRange(range)));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }
}

/// How tables are opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// Names of all tables that will be used; at most 255 over the life of a directory.
    pub tables: Vec<String>,
    /// Memory that the engine may use as a cache, in bytes.
    pub cache_bytes: u64,
}

/// Why tables refuse or fail.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TableError {
    /// The operator asks for an engine that this program was not built with. Nothing was changed.
    #[error("no table engine '{asked}' in this program; there are: {known}")]
    NoEngine {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: String,
    },
    /// The operator asks for another engine than the one that made the directory. Nothing was
    /// changed.
    #[error("tables in {dir} were made by engine '{found}', not by '{asked}'")]
    OtherEngine {
        /// The directory.
        dir: String,
        /// Whose it is.
        found: String,
        /// What was asked for.
        asked: String,
    },
    /// A newer program made the directory. Nothing was changed.
    #[error(
        "tables in {dir} by engine '{engine}' have format {found}; '{engine}' here knows {known}"
    )]
    Newer {
        /// The directory.
        dir: String,
        /// The engine.
        engine: String,
        /// Its format there.
        found: u32,
        /// The newest we know.
        known: u32,
    },
    /// The caller names a table that was not given at opening.
    #[error("no table '{table}'")]
    NoTable {
        /// What was asked for.
        table: String,
    },
    /// The caller's key or value is too long, or there are too many tables. Nothing was changed.
    #[error("a {what} of {bytes} is more than {bytes_max}")]
    TooLarge {
        /// Key, value or number of tables.
        what: &'static str,
        /// How much.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The disk is at fault: a value or a file is not as it was written.
    #[error("{place} is damaged: {what}")]
    Damaged {
        /// Which table and key, or which file.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The environment failed, or the engine.
    #[error("tables ({engine}): {act}: {what}")]
    Engine {
        /// The engine.
        engine: &'static str,
        /// What was tried.
        act: &'static str,
        /// What it said.
        what: String,
    },
    /// An earlier flush failed; what is durable is unknown until the tables are opened again.
    #[error("the tables stopped after an earlier failure: {cause}")]
    Poisoned {
        /// The earlier failure.
        cause: String,
    },
}

/// The engines of this program, sorted.
pub fn engines() -> Vec<&'static str> {
    let mut engines = vec![memory::ENGINE, redb::ENGINE];
    #[cfg(feature = "sled")]
    engines.push(sled::ENGINE);
    engines.sort_unstable();
    engines
}

/// Opens the tables in `dir` with `engine`, or makes them. The directory remembers which engine
/// made it.
///
/// Errors: [`TableError::NoEngine`], [`TableError::OtherEngine`], [`TableError::Newer`],
/// [`TableError::Damaged`], [`TableError::Engine`].
pub fn open_tables(
    dir: &Path,
    engine: &str,
    options: &TableOptions,
) -> Result<Box<dyn Tables>, TableError> {
    let Some((id, version)) = known(engine) else {
        let known = engines().join(", ");
        return Err(TableError::NoEngine {
            asked: engine.into(),
            known,
        });
    };
    let names = marker::check(dir, (id, version), &options.tables)?;
    seal::break_open(dir).map_err(failed(id, "break the seal"))?;
    // An engine may panic over a damaged file; tables can be rebuilt, so that is an answer here.
    let open = || open_engine(dir, id, options.cache_bytes);
    let store = panic::catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| {
        Err(TableError::Damaged {
            place: dir.display().to_string(),
            what: format!("the engine {id} panicked over its files"),
        })
    })?;
    Ok(Box::new(Checked::new(dir, store, names)))
}

fn known(engine: &str) -> Option<(&'static str, u32)> {
    let known = engines().into_iter().find(|known| *known == engine)?;
    let version = match known {
        #[cfg(feature = "sled")]
        sled::ENGINE => sled::VERSION,
        _ => 1,
    };
    Some((known, version))
}

fn open_engine(dir: &Path, id: &str, cache_bytes: u64) -> Result<Box<dyn Engine>, TableError> {
    match id {
        #[cfg(feature = "sled")]
        sled::ENGINE => Ok(Box::new(sled::Sled::open(dir, cache_bytes)?)),
        redb::ENGINE => Ok(Box::new(redb::Redb::open(dir, cache_bytes)?)),
        _ => Ok(Box::new(memory::Memory::default())),
    }
}

/// Names the engine and the act of a failure.
fn failed<E: std::fmt::Display>(
    engine: &'static str,
    act: &'static str,
) -> impl FnOnce(E) -> TableError {
    move |error| TableError::Engine {
        engine,
        act,
        what: error.to_string(),
    }
}

/// Whether an engine that met `error` met what is wrong in a file, not a system that refuses.
fn tells_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof
    )
}

#[cfg(test)]
mod tests;
