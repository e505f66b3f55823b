//! The disk's twin for the simulator: it keeps written and durable apart, and loses power on
//! command.
//!
//! Source: reliability notes, fault matrix rows 7 to 13. In: the acts of a [`Medium`], and chance.
//! Out: what a disk would hold. Holds: what was synced survives every crash; what was not may
//! survive whole, in part, or not at all, in any order. Elsewhere: the log on top, which is the
//! real one ([`Log::open_on`](super::Log::open_on)).
//!
//! A crash keeps, of each file, what was synced and then, of the writes since, whatever [`Crash`]
//! says: none, all, a prefix, or any subset of their sectors. Of the names made, changed or removed
//! since the last [`Medium::sync_names`], it keeps a prefix, because file systems journal names in
//! order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::{Rng, RngExt};

use super::medium::{Medium, MediumFile};

/// The unit in which a disk writes.
const SECTOR_BYTES: usize = 512;

/// What a power loss does to writes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// All are lost.
    Lose,
    /// All survive, as after a kill of the process alone.
    Keep,
    /// The first survive; one of them is cut at any byte.
    Prefix,
    /// Any sectors of any writes survive: reordered and torn.
    Subset,
}

impl Crash {
    /// Every kind.
    pub const ALL: [Crash; 4] = [Crash::Lose, Crash::Keep, Crash::Prefix, Crash::Subset];
}

/// When the simulated disk fails. All count acts from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Fail every act that changes anything after this many, as if power were gone.
    pub power_after: Option<u64>,
    /// Fail the sync after this many.
    pub sync_after: Option<u64>,
    /// Bytes that all files together may have.
    pub bytes_max: Option<u64>,
}

/// A folder in memory. Clones share it, so that it outlives the log that is dropped in a crash.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    shared: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    faults: Faults,
    acts: u64,
    syncs: u64,
    power_lost: bool,
}

#[derive(Default)]
struct Inode {
    written: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(u64, Vec<u8>)>,
}

enum NameChange {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

/// An open file of a [`SimulatedDisk`].
pub struct SimulatedFile {
    disk: SimulatedDisk,
    inode: usize,
}

impl SimulatedDisk {
    /// An empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses power and comes back: what was not synced is treated as `crash` says, by `chance`.
    /// Drop the log on it first; files that are still open go on naming what they named.
    pub fn crash(&self, crash: Crash, chance: &mut impl Rng) {
        let mut disk = self.disk();
        let changes = std::mem::take(&mut disk.name_changes);
        let kept = match crash {
            Crash::Lose => 0,
            Crash::Keep => changes.len(),
            Crash::Prefix | Crash::Subset => chance.random_range(0..=changes.len()),
        };
        let mut names = std::mem::take(&mut disk.durable_names);
        for change in changes.into_iter().take(kept) {
            change.apply(&mut names);
        }
        disk.durable_names = names.clone();
        disk.names = names;
        for inode in &mut disk.inodes {
            inode.crash(crash, chance);
        }
        disk.faults = Faults::default();
        (disk.acts, disk.syncs, disk.power_lost) = (0, 0, false);
    }

    /// Another folder that holds what a power loss at this moment would leave of this one at least.
    pub fn durable_copy(&self) -> Self {
        let disk = self.disk();
        let settled = |inode: &Inode| Inode {
            written: inode.durable.clone(),
            durable: inode.durable.clone(),
            pending: Vec::new(),
        };
        let copy = Disk {
            inodes: disk.inodes.iter().map(settled).collect(),
            names: disk.durable_names.clone(),
            durable_names: disk.durable_names.clone(),
            ..Disk::default()
        };
        Self {
            shared: Arc::new(Mutex::new(copy)),
        }
    }

    /// Plans failures; counting starts anew.
    pub fn set_faults(&self, faults: Faults) {
        let mut disk = self.disk();
        disk.faults = faults;
        (disk.acts, disk.syncs) = (0, 0);
    }

    /// Acts that changed anything since the last crash or [`SimulatedDisk::set_faults`].
    pub fn acts(&self) -> u64 {
        self.disk().acts
    }

    /// Syncs of files since then.
    pub fn syncs(&self) -> u64 {
        self.disk().syncs
    }

    /// Flips one bit of a file, durable copy and all.
    pub fn flip(&self, name: &str, offset: u64, bit: u8) {
        let mut disk = self.disk();
        let Some(inode) = disk.names.get(name).copied() else {
            return;
        };
        let Inode {
            written, durable, ..
        } = &mut disk.inodes[inode];
        for bytes in [written, durable] {
            if let Some(byte) = bytes.get_mut(offset as usize) {
                *byte ^= 1 << (bit & 7);
            }
        }
    }

    /// The bytes of a file as they are written now.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        let inode = disk.names.get(name)?;
        Some(disk.inodes[*inode].written.clone())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, inode: usize) -> SimulatedFile {
        SimulatedFile {
            disk: self.clone(),
            inode,
        }
    }
}

impl Disk {
    /// Counts one act; fails it when the power is gone.
    fn act(&mut self) -> io::Result<()> {
        if self.power_lost
            || self
                .faults
                .power_after
                .is_some_and(|after| self.acts >= after)
        {
            self.power_lost = true;
            return Err(io::Error::other("the power is gone"));
        }
        self.acts += 1;
        Ok(())
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn bytes(&self) -> u64 {
        self.names
            .values()
            .map(|inode| self.inodes[*inode].written.len() as u64)
            .sum()
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Create(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            NameChange::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Inode {
    fn crash(&mut self, crash: Crash, chance: &mut impl Rng) {
        let pending = std::mem::take(&mut self.pending);
        match crash {
            Crash::Lose => {}
            Crash::Keep => self.durable.clone_from(&self.written),
            Crash::Prefix if pending.is_empty() => {}
            Crash::Prefix => {
                let whole = chance.random_range(0..pending.len());
                for (offset, bytes) in &pending[..whole] {
                    put(&mut self.durable, *offset, bytes);
                }
                let (offset, bytes) = &pending[whole];
                let cut = chance.random_range(0..=bytes.len());
                put(&mut self.durable, *offset, &bytes[..cut]);
            }
            Crash::Subset => {
                for (offset, bytes) in &pending {
                    tear(&mut self.durable, *offset, bytes, chance);
                }
            }
        }
        self.written.clone_from(&self.durable);
    }
}

/// Puts some sectors of one write, each by a throw of a coin, and some of those only in part.
fn tear(file: &mut Vec<u8>, offset: u64, bytes: &[u8], chance: &mut impl Rng) {
    let mut at = 0;
    while at < bytes.len() {
        let place = offset as usize + at;
        let count = (SECTOR_BYTES - place % SECTOR_BYTES).min(bytes.len() - at);
        match chance.random_range(0..8) {
            0..4 => put(file, place as u64, &bytes[at..at + count]),
            4 => {
                let cut = chance.random_range(0..=count);
                put(file, place as u64, &bytes[at..at + cut]);
            }
            _ => {}
        }
        at += count;
    }
}

fn put(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = offset as usize;
    if file.len() < start + bytes.len() {
        file.resize(start + bytes.len(), 0);
    }
    file[start..start + bytes.len()].copy_from_slice(bytes);
}

impl Medium for SimulatedDisk {
    type File = SimulatedFile;

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut disk = self.disk();
        disk.act()?;
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = disk.inodes.len();
        disk.inodes.push(Inode::default());
        disk.change(NameChange::Create(name.into(), inode));
        Ok(self.file(inode))
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let inode = self.disk().inode(name)?;
        Ok(self.file(inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.act()?;
        disk.inode(from)?;
        disk.change(NameChange::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.act()?;
        disk.inode(name)?;
        disk.change(NameChange::Remove(name.into()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.act()?;
        disk.name_changes.clear();
        disk.durable_names = disk.names.clone();
        // Nothing names them any more; a long simulation must not keep them.
        let named: BTreeSet<usize> = disk.names.values().copied().collect();
        for (index, inode) in disk.inodes.iter_mut().enumerate() {
            if !named.contains(&index) {
                *inode = Inode::default();
            }
        }
        Ok(())
    }
}

impl MediumFile for SimulatedFile {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let disk = self.disk.disk();
        let start = offset as usize;
        let held = disk.inodes[self.inode]
            .written
            .get(start..start + bytes.len());
        bytes.copy_from_slice(held.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.act()?;
        let end = offset + bytes.len() as u64;
        let grown = end.saturating_sub(disk.inodes[self.inode].written.len() as u64);
        if grown > 0
            && disk
                .faults
                .bytes_max
                .is_some_and(|max| disk.bytes() + grown > max)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = &mut disk.inodes[self.inode];
        put(&mut inode.written, offset, bytes);
        inode.pending.push((offset, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.act()?;
        if disk
            .faults
            .sync_after
            .is_some_and(|after| disk.syncs >= after)
        {
            // As Linux does: the pages stay readable and count as clean, so no later sync writes
            // them.
            disk.inodes[self.inode].pending.clear();
            return Err(io::Error::other("the disk failed to sync"));
        }
        disk.syncs += 1;
        let inode = &mut disk.inodes[self.inode];
        for (offset, bytes) in std::mem::take(&mut inode.pending) {
            put(&mut inode.durable, offset, &bytes);
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.disk().inodes[self.inode].written.len() as u64)
    }
}
