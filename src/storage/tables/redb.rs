//! The engine redb: one file, copy-on-write trees.
//!
//! Source: redb 4. In: edits. Out: rows. Holds: a batch is one transaction; `flush` is a
//! transaction that syncs; an opening costs the same however many rows there are, also after a
//! kill. Elsewhere: the guard that sled needs (`sled`); redb syncs its file itself.

use std::path::Path;

use ::redb::{
    Database, DatabaseError, Durability, ReadableDatabase, StorageBackend, StorageError,
    TableDefinition,
};

use super::super::store::sync_dir;
use super::checked::{Edit, Engine};
use super::{Direction, Row, TableError, failed};

/// The engine's name.
pub(super) const ENGINE: &str = "redb";

const FILE: &str = "tables.redb";
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// An open redb file.
pub(super) struct Redb {
    database: Database,
}

/// Why the file at `path` does not open: damaged, unless it is the system that refuses.
fn not_opened(path: &Path, error: DatabaseError) -> TableError {
    // Both enums may grow; what is unknown is not called damage.
    let is_damage = if let DatabaseError::Storage(StorageError::Io(source)) = &error {
        super::tells_damage(source)
    } else {
        matches!(
            error,
            DatabaseError::Storage(StorageError::Corrupted(_)) | DatabaseError::RepairAborted
        )
    };
    if !is_damage {
        return failed(ENGINE, "open")(error);
    }
    TableError::Damaged {
        place: path.display().to_string(),
        what: error.to_string(),
    }
}

impl Redb {
    /// Opens or makes the file in `dir`.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, TableError> {
        let path = dir.join(FILE);
        let database = Database::builder()
            .set_cache_size(cache_bytes as usize)
            .create(&path)
            .map_err(|error| not_opened(&path, error))?;
        let engine = Self::with_table(database)?;
        sync_dir(dir).map_err(failed(ENGINE, "sync the folder"))?;
        Ok(engine)
    }

    /// Opens it on something else than a file.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "only tests bring a disk that crashes")
    )]
    pub(super) fn open_on(backend: impl StorageBackend) -> Result<Self, TableError> {
        let database = Database::builder()
            .create_with_backend(backend)
            .map_err(failed(ENGINE, "open"))?;
        Self::with_table(database)
    }

    fn with_table(database: Database) -> Result<Self, TableError> {
        let engine = Self { database };
        engine.transact(Durability::Immediate, Vec::new())?;
        Ok(engine)
    }

    fn transact(&self, durability: Durability, edits: Vec<Edit>) -> Result<(), TableError> {
        let mut write = self
            .database
            .begin_write()
            .map_err(failed(ENGINE, "begin"))?;
        write
            .set_durability(durability)
            .map_err(failed(ENGINE, "begin"))?;
        // A start after a kill then reads what is free, instead of walking through all rows to
        // find it.
        write.set_quick_repair(matches!(durability, Durability::Immediate));
        {
            let mut table = write
                .open_table(ROWS)
                .map_err(failed(ENGINE, "open a table"))?;
            for edit in edits {
                match edit {
                    Edit::Put(key, value) => table.insert(&*key, &*value).map(drop),
                    Edit::Delete(key) => table.remove(&*key).map(drop),
                    Edit::DeleteRange(from, to) if from < to => {
                        table.retain_in(&*from..&*to, |_, _| false)
                    }
                    Edit::DeleteRange(..) => Ok(()),
                }
                .map_err(failed(ENGINE, "write"))?;
            }
        }
        write.commit().map_err(failed(ENGINE, "commit"))
    }
}

impl Engine for Redb {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let read = self
            .database
            .begin_read()
            .map_err(failed(ENGINE, "begin"))?;
        let table = read
            .open_table(ROWS)
            .map_err(failed(ENGINE, "open a table"))?;
        let value = table.get(key).map_err(failed(ENGINE, "read"))?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, TableError> {
        let read = self
            .database
            .begin_read()
            .map_err(failed(ENGINE, "begin"))?;
        let table = read
            .open_table(ROWS)
            .map_err(failed(ENGINE, "open a table"))?;
        let mut range = table.range(from..to).map_err(failed(ENGINE, "read"))?;
        let mut rows = Vec::new();
        while rows.len() < limit {
            let next = match direction {
                Direction::Forward => range.next(),
                Direction::Reverse => range.next_back(),
            };
            let Some(row) = next else { break };
            let (key, value) = row.map_err(failed(ENGINE, "read"))?;
            rows.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(rows)
    }

    fn apply(&self, edits: Vec<Edit>) -> Result<(), TableError> {
        self.transact(Durability::None, edits)
    }

    fn flush(&self) -> Result<(), TableError> {
        self.transact(Durability::Immediate, Vec::new())
    }

    fn id(&self) -> &'static str {
        ENGINE
    }
}
