//! The application's entries in the tables, as it reads them at a start.
//!
//! Source: `ARCHITECTURE.md`. In: tables, whether to go on. Out: entries by key, or why there are
//! no more. Holds: some thousand rows are in memory; each stretch asks whether to go on.
//! Elsewhere: what else a start takes out of the tables (`recovery`).

use super::index;
use crate::storage::{Direction, Range, Tables};

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 4096;
/// What is said of tables that nobody wanted to be read to their end.
pub(super) const UNREAD: &str = "they were not read to their end";

/// The rows of the application's table, a stretch at a time.
pub(super) struct Entries<'a> {
    tables: &'a dyn Tables,
    go_on: &'a dyn Fn() -> bool,
    from: Option<Vec<u8>>,
    rows: std::vec::IntoIter<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Entries<'a> {
    /// Before the first row; they are read as long as `go_on` says so.
    pub(super) fn new(tables: &'a dyn Tables, go_on: &'a dyn Fn() -> bool) -> Self {
        Self {
            tables,
            go_on,
            from: Some(Vec::new()),
            rows: Vec::new().into_iter(),
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = std::io::Result<(bytes::Bytes, bytes::Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((key, value)) = self.rows.next() {
            return Some(Ok((key.into(), value.into())));
        }
        let range = Range::starting_at(&self.from.take()?);
        if !(self.go_on)() {
            return Some(Err(std::io::Error::other(UNREAD)));
        }
        let rows = self
            .tables
            .scan(index::STATE, &range, Direction::Forward, ROWS_AT_ONCE);
        match rows {
            Err(error) => Some(Err(std::io::Error::other(error))),
            Ok(rows) => {
                self.from = rows.last().map(|(key, _)| [key, &[0][..]].concat());
                self.rows = rows.into_iter();
                let (key, value) = self.rows.next()?;
                Some(Ok((key.into(), value.into())))
            }
        }
    }
}
