//! What every engine has in common: table names, checksums, bounds, and stopping after a failed
//! flush.
//!
//! Source: none. In: acts on named tables. Out: acts on one ordered map of bytes. Holds: a value is
//! given only if it is the one that was put there. Elsewhere: the engines (`memory`, `redb`,
//! `sled`), which directory belongs to which (`marker`).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::seal;
use super::{
    Batch, Change, Direction, KEY_BYTES_MAX, Range, Row, TableError, Tables, VALUE_BYTES_MAX,
};

const CHECKSUM_BYTES: usize = 4;
/// Rows read at once when everything is checked.
const CHECK_ROWS: usize = 1024;

/// A change to the one map of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// Sets a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key.
    Delete(Vec<u8>),
    /// Removes keys from the first on and below the second.
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// One ordered map of bytes on disk.
pub(super) trait Engine: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError>;
    /// At most `limit` rows from `from` on and below `to`.
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, TableError>;
    /// Makes all edits in order and as one.
    fn apply(&self, edits: Vec<Edit>) -> Result<(), TableError>;
    /// Makes all edits so far durable.
    fn flush(&self) -> Result<(), TableError>;
    /// The name of the engine.
    fn id(&self) -> &'static str;
    /// Makes everything durable and lets go of all files; gives whether nothing touches them any
    /// more.
    fn close(self: Box<Self>) -> bool {
        self.flush().is_ok()
    }
}

/// An engine with names, checks and bounds.
pub(super) struct Checked {
    dir: PathBuf,
    /// Taken only when this is dropped.
    engine: Option<Box<dyn Engine>>,
    /// The place of a name is the first byte of its keys.
    names: Vec<String>,
    poison: OnceLock<String>,
}

impl Checked {
    /// Puts the checks before `engine`.
    pub(super) fn new(dir: &Path, engine: Box<dyn Engine>, names: Vec<String>) -> Self {
        Self {
            dir: dir.into(),
            engine: Some(engine),
            names,
            poison: OnceLock::new(),
        }
    }

    fn engine(&self) -> &dyn Engine {
        self.engine
            .as_deref()
            .expect("the engine is taken only when this is dropped")
    }

    fn place(&self, table: &str) -> Result<u8, TableError> {
        if let Some(cause) = self.poison.get() {
            return Err(TableError::Poisoned {
                cause: cause.clone(),
            });
        }
        let place = self.names.iter().position(|name| name == table);
        let place = place.ok_or_else(|| TableError::NoTable {
            table: table.into(),
        })?;
        Ok(u8::try_from(place).expect("the marker holds at most 255 names"))
    }

    fn edit(&self, table: &str, change: Change) -> Result<Edit, TableError> {
        let place = self.place(table)?;
        Ok(match change {
            Change::Put(key, mut value) => {
                bounded("key", key.len(), KEY_BYTES_MAX)?;
                bounded("value", value.len(), VALUE_BYTES_MAX)?;
                let key = prefixed(place, &key);
                let sum = checksum(&key, &value);
                value.extend_from_slice(&sum);
                Edit::Put(key, value)
            }
            Change::Delete(key) => Edit::Delete(prefixed(place, &key)),
            Change::DeleteRange(range) => {
                let (from, to) = bounds(place, &range);
                Edit::DeleteRange(from, to)
            }
        })
    }

    fn strip(&self, table: &str, key: &[u8], mut value: Vec<u8>) -> Result<Vec<u8>, TableError> {
        let body = value.len().checked_sub(CHECKSUM_BYTES);
        if let Some(body) = body
            && checksum(key, &value[..body]) == value[body..]
        {
            value.truncate(body);
            return Ok(value);
        }
        Err(TableError::Damaged {
            place: format!("table '{table}', key {}", hex::encode(&key[1..])),
            what: "the value does not match its checksum".into(),
        })
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        let Some(engine) = self.engine.take() else {
            return;
        };
        if engine.close() && self.poison.get().is_none() {
            // Without a seal the next check reads every row instead; nothing else is lost.
            seal::write(&self.dir).ok();
        }
    }
}

impl Tables for Checked {
    fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let key = prefixed(self.place(table)?, key);
        let value = self.engine().get(&key)?;
        value
            .map(|value| self.strip(table, &key, value))
            .transpose()
    }

    fn scan(
        &self,
        table: &str,
        range: &Range,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, TableError> {
        let (from, to) = bounds(self.place(table)?, range);
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let rows = self.engine().scan(&from, &to, direction, limit)?;
        rows.into_iter()
            .map(|(key, value)| {
                let value = self.strip(table, &key, value)?;
                Ok((key[1..].to_vec(), value))
            })
            .collect()
    }

    fn commit(&self, batch: Batch) -> Result<(), TableError> {
        let edits: Result<Vec<Edit>, TableError> = batch
            .changes
            .into_iter()
            .map(|(table, change)| self.edit(&table, change))
            .collect();
        let edits = edits?;
        if edits.is_empty() {
            Ok(())
        } else {
            self.engine().apply(edits)
        }
    }

    fn flush(&self) -> Result<(), TableError> {
        if let Some(cause) = self.poison.get() {
            return Err(TableError::Poisoned {
                cause: cause.clone(),
            });
        }
        self.engine().flush().inspect_err(|error| {
            self.poison.get_or_init(|| error.to_string());
        })
    }

    fn size_on_disk(&self) -> Result<u64, TableError> {
        bytes_below(&self.dir).map_err(super::failed(self.engine().id(), "measure"))
    }

    fn check(&self) -> Result<u64, TableError> {
        let mut count = 0;
        for table in &self.names {
            let mut range = Range::all();
            loop {
                let rows = self.scan(table, &range, Direction::Forward, CHECK_ROWS)?;
                let Some((last, _)) = rows.last() else { break };
                count += rows.len() as u64;
                range.from = [last.as_slice(), &[0]].concat();
            }
        }
        Ok(count)
    }

    fn engine_id(&self) -> &'static str {
        self.engine().id()
    }
}

fn bounded(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), TableError> {
    if bytes > bytes_max {
        Err(TableError::TooLarge {
            what,
            bytes,
            bytes_max,
        })
    } else {
        Ok(())
    }
}

fn prefixed(place: u8, key: &[u8]) -> Vec<u8> {
    let mut prefixed = Vec::with_capacity(key.len() + 1);
    prefixed.push(place);
    prefixed.extend_from_slice(key);
    prefixed
}

fn bounds(place: u8, range: &Range) -> (Vec<u8>, Vec<u8>) {
    let to = match &range.to {
        Some(to) => prefixed(place, to),
        None => vec![place + 1],
    };
    (prefixed(place, &range.from), to)
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let length = (key.len() as u32).to_le_bytes();
    let start = crc32c::crc32c_append(crc32c::crc32c(&length), key);
    crc32c::crc32c_append(start, value).to_le_bytes()
}

fn bytes_below(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // An engine may remove a file between the listing and the look at it.
        let Ok(data) = entry.metadata() else { continue };
        bytes += if data.is_dir() {
            bytes_below(&entry.path())?
        } else {
            data.len()
        };
    }
    Ok(bytes)
}
