//! Tables of a test that looks at each commit, or refuses it.
//!
//! Source: none. In: tables, what is done in place of a commit. Out: the same tables.
//! Holds: everything else goes through. Elsewhere: tables that keep nothing (`memory`).

use super::{Batch, Direction, Range, Row, TableError, Tables};

/// Tables whose commits go through `commit`.
pub(crate) struct Tapped<F> {
    /// What it stands before.
    pub(crate) tables: Box<dyn Tables>,
    /// Makes the changes of a batch, or does not.
    pub(crate) commit: F,
}

impl<F> Tables for Tapped<F>
where
    F: Fn(&dyn Tables, Batch) -> Result<(), TableError> + Send + Sync,
{
    fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.tables.get(table, key)
    }

    fn scan(
        &self,
        table: &str,
        range: &Range,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, TableError> {
        self.tables.scan(table, range, direction, limit)
    }

    fn commit(&self, batch: Batch) -> Result<(), TableError> {
        (self.commit)(&*self.tables, batch)
    }

    fn flush(&self) -> Result<(), TableError> {
        self.tables.flush()
    }

    fn size_on_disk(&self) -> Result<u64, TableError> {
        self.tables.size_on_disk()
    }

    fn check(&self) -> Result<u64, TableError> {
        self.tables.check()
    }

    fn engine_id(&self) -> &'static str {
        self.tables.engine_id()
    }
}
