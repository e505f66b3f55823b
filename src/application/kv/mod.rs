//! The key-value machine: put, get, delete, compare-and-set over an authenticated map.
//!
//! Source: this file is the specification of its results. In: operations, requests. Out: outcomes,
//! roots, proofs, changes.
//! Holds: an operation whose code is not `Done` changed nothing; the root is that of [`Map`].
//! Elsewhere: encodings (`operation`, `snapshot`, `json`), the map (`map`), the tables
//! (`storage`).
//!
//! The whole state is in memory, values included; the map's root is computed at sealed heights.

mod json;
mod operation;
mod snapshot;
mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

pub use self::operation::{Code, Operation};
pub use self::snapshot::SNAPSHOT_VERSION;
pub use self::view::Answer;
use self::view::View;
use super::map::{KEY, Map, MapProof, VALUE, value_digest};
pub use super::map::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use super::{
    Application, Block, Change, CheckError, Chunks, Executed, Outcome, Plugin, QueryError, Reader,
    Registration, RestoreError, Snapshot, TableEntries, VerifyError,
};
use crate::crypto::{Digest, Domain, Hasher};

/// Bytes of keys, values and [`ENTRY_BYTES`] each that a state may hold; a put beyond is `Full`.
/// Part of the rules of the chain: outcomes depend on it.
pub const STATE_BYTES_MAX: u64 = 4 << 30;

/// What an entry counts besides its key and value: about what its nodes take in memory.
pub const ENTRY_BYTES: u64 = 320;

/// Sealed roots that stay provable; when full the lowest height goes first.
pub const ROOTS_MAX: usize = 256;

/// How a genesis document names this machine.
pub static PLUGIN: Plugin = Plugin {
    name: "kv",
    about: "keys and values with certified reads: put, get, delete, compare-and-set",
    make: || Box::new(Kv::new()),
};

inventory::submit!(Registration(&PLUGIN));

/// The key-value machine.
#[derive(Clone, Debug)]
pub struct Kv {
    view: View,
    /// [`STATE_BYTES_MAX`] but in tests.
    state_bytes_max: u64,
    /// What the tables do not hold yet; grows until it is drained, at most one entry per key.
    changes: BTreeMap<Bytes, Option<Bytes>>,
}

impl Default for Kv {
    fn default() -> Self {
        Self::new()
    }
}

impl Kv {
    /// An empty machine at height 0.
    pub fn new() -> Self {
        Self {
            view: View::default(),
            state_bytes_max: STATE_BYTES_MAX,
            changes: BTreeMap::new(),
        }
    }

    /// The authenticated map as it is now.
    pub fn map(&self) -> &Map {
        &self.view.map
    }

    fn apply(&mut self, operation: &[u8]) -> Outcome {
        match Operation::from_bytes(operation) {
            Err(_) => outcome(Code::Malformed, Bytes::new()),
            Ok(Operation::Raw { .. }) => outcome(Code::Raw, Bytes::new()),
            Ok(Operation::Get { key }) => match self.view.map.get(key) {
                Some(value) => outcome(Code::Done, value.clone()),
                None => outcome(Code::Absent, Bytes::new()),
            },
            Ok(Operation::Delete { key }) => self.delete(key),
            Ok(Operation::Put { key, value }) => match self.set(key, value) {
                Some(false) => outcome(Code::Done, Bytes::from_static(&[0])),
                Some(true) => outcome(Code::Done, Bytes::from_static(&[1])),
                None => outcome(Code::Full, Bytes::new()),
            },
            Ok(Operation::CompareAndSet { key, old, new }) => {
                let present = self.view.map.get(key);
                if present.map(|value| &value[..]) != old {
                    let digest = present.map(|value| value_digest(value).0.to_vec());
                    return outcome(Code::Mismatch, digest.unwrap_or_default().into());
                }
                match self.set(key, new) {
                    Some(_) => outcome(Code::Done, Bytes::new()),
                    None => outcome(Code::Full, Bytes::new()),
                }
            }
        }
    }

    /// Sets a value and says whether there was one, or gives `None` where the state is full.
    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<bool> {
        let map = &mut self.view.map;
        let grows = value.len() as u64 + key.len() as u64 + ENTRY_BYTES;
        // What an overwritten value frees is counted only where the short sum is at the bound.
        if state_bytes(map) + grows > self.state_bytes_max {
            let present = map.get(key)?.len() as u64 + key.len() as u64 + ENTRY_BYTES;
            if state_bytes(map) + grows - present > self.state_bytes_max {
                return None;
            }
        }
        // One allocation for both.
        let entry = Bytes::from([key, value].concat());
        let (key, value) = (entry.slice(..key.len()), entry.slice(key.len()..));
        self.changes.insert(key.clone(), Some(value.clone()));
        Some(map.insert(key, value).is_some())
    }

    fn delete(&mut self, key: &[u8]) -> Outcome {
        if self.view.map.remove(key).is_none() {
            return outcome(Code::Absent, Bytes::new());
        }
        self.changes.insert(Bytes::copy_from_slice(key), None);
        outcome(Code::Done, Bytes::new())
    }

    /// Keeps the present state under its root.
    fn seal(&mut self) -> Digest {
        let root = self.view.map.root();
        let sealed = &mut self.view.sealed;
        sealed.insert(self.view.height, (root, self.view.map.clone()));
        while sealed.len() > ROOTS_MAX {
            sealed.pop_first();
        }
        root
    }

    fn replace(&mut self, map: Map, height: u64) {
        self.view = View {
            height,
            map,
            sealed: BTreeMap::new(),
        };
        self.changes.clear();
    }
}

fn outcome(code: Code, bytes: Bytes) -> Outcome {
    Outcome {
        code: code as u16,
        bytes,
    }
}

fn state_bytes(map: &Map) -> u64 {
    map.bytes() + map.len() * ENTRY_BYTES
}

/// The digest of a whole state: the machine's name, the number of keys, the map's root.
fn state_digest(map: &Map) -> Digest {
    let mut hasher = Hasher::new(Domain::State);
    hasher
        .update(b"kv\0")
        .update(&map.len().to_le_bytes())
        .update(map.root().as_bytes());
    hasher.finish()
}

impl Application for Kv {
    fn check(&self, operation: &[u8]) -> Result<(), CheckError> {
        let checked = Operation::from_bytes(operation);
        checked.map(|_| ()).map_err(|error| CheckError {
            reason: error.to_string(),
        })
    }

    fn execute(&mut self, block: &Block<'_>) -> Executed {
        assert!(
            block.height > self.view.height,
            "a height is executed once, in order"
        );
        let apply = |operation: &&[u8]| self.apply(operation);
        let results = block.operations.iter().map(apply).collect();
        self.view.height = block.height;
        let state_root = block.sealed.then(|| self.seal());
        Executed {
            results,
            state_root,
        }
    }

    fn height(&self) -> u64 {
        self.view.height
    }

    fn state_digest(&self) -> Digest {
        state_digest(&self.view.map)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.view.clone())
    }

    fn query(&self, request: &[u8]) -> Result<Vec<u8>, QueryError> {
        self.view.query(request)
    }

    fn prove(&self, key: &[u8], root: &Digest) -> Result<Vec<u8>, QueryError> {
        self.view.prove(key, root)
    }

    fn verify(
        &self,
        root: &Digest,
        key: &[u8],
        proof: &[u8],
    ) -> Result<Option<Bytes>, VerifyError> {
        let proof = MapProof::from_bytes(proof);
        let shown = proof.and_then(|proof| Ok(proof.verify(root, key)?.cloned()));
        shown.map_err(|error| VerifyError {
            reason: error.to_string(),
        })
    }

    fn operation_to_json(&self, operation: &[u8]) -> Value {
        json::operation(operation)
    }

    fn operation_from_json(&self, operation: &Value) -> Result<Vec<u8>, CheckError> {
        json::parse(operation)
    }

    fn outcome_to_json(&self, operation: &[u8], outcome: &Outcome) -> Value {
        json::outcome(operation, outcome)
    }

    fn retain(&mut self, height: u64, root: &Digest) -> bool {
        if let Some((sealed, _)) = self.view.sealed.get(&height) {
            return sealed == root;
        }
        let is_here = height == self.view.height && self.view.map.root() == *root;
        if is_here {
            self.seal();
        }
        is_here
    }

    fn release(&mut self, below: u64) {
        self.view.sealed = self.view.sealed.split_off(&below);
    }

    fn snapshot(&self, piece_bytes: usize) -> Snapshot {
        Snapshot {
            height: self.view.height,
            digest: self.state_digest(),
            chunks: Box::new(snapshot::write(
                &self.view.map,
                self.view.height,
                piece_bytes,
            )),
        }
    }

    fn restore(&mut self, chunks: Chunks<'_>) -> Result<(), RestoreError> {
        let (map, height) = snapshot::read(chunks, self.state_bytes_max)?;
        self.replace(map, height);
        Ok(())
    }

    fn drain_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes).into_iter().collect()
    }

    fn entries(&self) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + Send> {
        Box::new(self.view.map.entries())
    }

    fn load(&mut self, entries: TableEntries<'_>, height: u64) -> Result<(), RestoreError> {
        let mut filling = Filling::new(self.state_bytes_max);
        for entry in entries {
            let (key, value) = entry?;
            filling.add(key, value)?;
        }
        self.replace(filling.map, height);
        Ok(())
    }
}

/// A map that is filled from stored entries, each within every bound and there once.
struct Filling {
    map: Map,
    state_bytes_max: u64,
}

impl Filling {
    fn new(state_bytes_max: u64) -> Self {
        Self {
            map: Map::new(),
            state_bytes_max,
        }
    }

    fn add(&mut self, key: Bytes, value: Bytes) -> Result<(), RestoreError> {
        KEY.check(key.len())?;
        VALUE.check(value.len())?;
        let index = self.map.len();
        if self.map.insert(key, value).is_some() {
            return Err(RestoreError::Order { index });
        }
        let max = self.state_bytes_max;
        if state_bytes(&self.map) > max {
            return Err(RestoreError::Size { max });
        }
        Ok(())
    }
}
