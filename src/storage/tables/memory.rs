//! The engine for tests: a map in memory, gone when it is dropped.
//!
//! Source: none. In: edits. Out: rows. Holds: the same answers as the other engines. Elsewhere:
//! engines that last.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use super::checked::{Edit, Engine};
use super::{Direction, Row, TableError};

/// The engine's name.
pub(super) const ENGINE: &str = "memory";

/// A map in memory.
#[derive(Default)]
pub(super) struct Memory {
    map: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Engine for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        Ok(self
            .map
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, TableError> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let rows = map.range(from.to_vec()..to.to_vec());
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(match direction {
            Direction::Forward => rows.take(limit).map(owned).collect(),
            Direction::Reverse => rows.rev().take(limit).map(owned).collect(),
        })
    }

    fn apply(&self, edits: Vec<Edit>) -> Result<(), TableError> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        for edit in edits {
            match edit {
                Edit::Put(key, value) => {
                    map.insert(key, value);
                }
                Edit::Delete(key) => {
                    map.remove(&key);
                }
                Edit::DeleteRange(from, to) if from < to => {
                    let tail = map.split_off(&from);
                    map.extend(tail.into_iter().filter(|(key, _)| *key >= to));
                }
                Edit::DeleteRange(..) => {}
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), TableError> {
        Ok(())
    }

    fn id(&self) -> &'static str {
        ENGINE
    }

    fn close(self: Box<Self>) -> bool {
        false // there are no files to seal
    }
}
