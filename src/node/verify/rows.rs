//! Rows of a table beside the rows that should be there, in one pass in key order.
//!
//! Source: interface, `verify`. In: expected rows by ascending key. Out: every difference.
//! Holds: a row that is missing, one that is there and should not be, and one with another value
//! are each told once; `ROWS_AT_ONCE` rows are in memory.
//! Elsewhere: what should be there (`compare`).

use std::cmp::Ordering;
use std::iter::Peekable;

use crate::storage::{Direction, Range, Row, TableError, Tables};

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 1024;
/// Bytes of a key that are shown.
const KEY_SHOWN: usize = 16;

/// How a table differs from what it should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The table.
    pub(super) table: &'static str,
    /// The row; none where the table cannot be read.
    pub(super) key: Option<Vec<u8>>,
    what: String,
}

impl Difference {
    /// Of a row.
    pub(super) fn row(table: &'static str, key: Vec<u8>, what: &str) -> Self {
        Self {
            table,
            key: Some(key),
            what: what.into(),
        }
    }

    /// The table cannot be read.
    pub(super) fn unreadable(table: &'static str, error: &TableError) -> Self {
        Self {
            table,
            key: None,
            what: error.to_string(),
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(key) = &self.key else {
            return write!(f, "table {}: {}", self.table, self.what);
        };
        let shown = hex::encode(&key[..key.len().min(KEY_SHOWN)]);
        let rest = if key.len() > KEY_SHOWN { "…" } else { "" };
        write!(f, "table {}, key {shown}{rest}: {}", self.table, self.what)
    }
}

/// A place in a table that only goes forward.
pub(super) struct Cursor {
    table: &'static str,
    range: Range,
    rows: Peekable<std::vec::IntoIter<Row>>,
    is_at_end: bool,
    is_broken: bool,
    /// Nothing below it is asked for.
    first: Vec<u8>,
}

impl Cursor {
    /// Before the first row of `range`.
    pub(super) fn new(table: &'static str, range: Range) -> Self {
        Self {
            table,
            range,
            rows: Vec::new().into_iter().peekable(),
            is_at_end: false,
            is_broken: false,
            first: Vec::new(),
        }
    }

    /// Goes on at `key`.
    pub(super) fn start_at(&mut self, key: &[u8]) {
        *self = Self::new(self.table, Range::starting_at(key));
        self.first = key.to_vec();
    }

    /// The next row should be this one.
    pub(super) fn expect(
        &mut self,
        tables: &dyn Tables,
        (key, value): (&[u8], &[u8]),
        found: &mut Vec<Difference>,
    ) {
        let is_there = self.meets(tables, (key, value), found);
        if !is_there && !self.is_broken {
            found.push(self.at(key, "the replay gives a row that is not there"));
        }
    }

    /// The next row may be this one; gives whether it is, or is below what is compared.
    pub(super) fn meets(
        &mut self,
        tables: &dyn Tables,
        (key, value): (&[u8], &[u8]),
        found: &mut Vec<Difference>,
    ) -> bool {
        if *key < self.first[..] {
            return true;
        }
        loop {
            self.fill(tables, found);
            let order = self.rows.peek().map(|(next, _)| next[..].cmp(key));
            if self.is_broken {
                return false;
            }
            match order {
                Some(Ordering::Less) => self.extra(found),
                Some(Ordering::Equal) => {
                    let row = self.rows.next();
                    if row.is_some_and(|(_, next)| next != value) {
                        found.push(self.at(key, "the row is not what the replay gives"));
                    }
                    return true;
                }
                Some(Ordering::Greater) | None => return false,
            }
        }
    }

    /// No row should follow.
    pub(super) fn finish(&mut self, tables: &dyn Tables, found: &mut Vec<Difference>) {
        loop {
            self.fill(tables, found);
            if self.rows.peek().is_none() {
                return;
            }
            self.extra(found);
        }
    }

    fn extra(&mut self, found: &mut Vec<Difference>) {
        if let Some((key, _)) = self.rows.next() {
            found.push(self.at(&key, "the row is not one that the replay gives"));
        }
    }

    fn at(&self, key: &[u8], what: &str) -> Difference {
        Difference::row(self.table, key.to_vec(), what)
    }

    fn fill(&mut self, tables: &dyn Tables, found: &mut Vec<Difference>) {
        if self.is_at_end || self.rows.peek().is_some() {
            return;
        }
        let scanned = tables.scan(self.table, &self.range, Direction::Forward, ROWS_AT_ONCE);
        let rows = scanned.unwrap_or_else(|error| {
            self.is_broken = true;
            found.push(Difference::unreadable(self.table, &error));
            Vec::new()
        });
        match rows.last() {
            Some((last, _)) => self.range.from = [&last[..], &[0]].concat(),
            None => self.is_at_end = true,
        }
        self.rows = rows.into_iter().peekable();
    }
}
