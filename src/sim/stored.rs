//! The real log on a simulated disk, beneath the records of one member.
//!
//! Source: `storage`, its log and the disk's twin. In: records, power losses, flipped bits. Out:
//! what the log reads back.
//! Holds: what was synced is read back equal, or the damage is named: anything else is told as a
//! broken rule. Elsewhere: worlds that only count records (`disk`).

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::ChaCha12Rng;

use super::dice::Dice;
use crate::consortium::{Record, records};
use crate::storage::simulated::{Crash, Faults, SimulatedDisk};
use crate::storage::{Log, LogError, Medium, Options, StoreId};

/// Length of a log file: small, so that a world goes through several.
const FILE_BYTES: u32 = 512 << 10;
/// Acts of the disk in one sync, about; power is lost before or behind any of them.
const ACTS_MAX: u64 = 8;

/// A log and the disk that it is on.
pub(super) struct Stored {
    disk: SimulatedDisk,
    store: StoreId,
    /// None while its member is down.
    log: Option<Log<SimulatedDisk>>,
    /// Records that were handed to it.
    appended: usize,
}

impl Stored {
    pub(super) fn new(number: usize) -> Self {
        let mut store = [0; 16];
        store[0] = u8::try_from(number).unwrap_or(u8::MAX);
        Self {
            disk: SimulatedDisk::default(),
            store: StoreId(store),
            log: None,
            appended: 0,
        }
    }

    /// A disk of the same store on which a log holds `records` and no more.
    pub(super) fn again(&self, records: &[Record]) -> Self {
        let mut again = Self {
            disk: SimulatedDisk::default(),
            store: self.store,
            log: None,
            appended: 0,
        };
        again.open().expect("an empty disk opens");
        again.close(records);
        again
    }

    /// Opens the log and reads every record.
    ///
    /// Errors: what the log says of damage.
    pub(super) fn open(&mut self) -> Result<Vec<Record>, LogError> {
        let options = Options {
            file_bytes: FILE_BYTES,
            ..Options::default()
        };
        let mut read = Vec::new();
        let medium = Arc::new(self.disk.clone());
        let (log, _) = Log::open_on(medium, self.store, options, |record| {
            let record = records::decode(record.kind, record.payload);
            read.push(record.expect("what passes the checksum was written by us"));
        })?;
        self.log = Some(log);
        self.appended = read.len();
        Ok(read)
    }

    /// Makes the first `upto` of `records` durable.
    ///
    /// Errors: the log's; it is of no use any more.
    pub(super) fn sync(&mut self, records: &[Record], upto: usize) -> Result<(), LogError> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        for record in &records[self.appended.min(upto)..upto] {
            let (kind, payload) = records::encode(record.clone());
            log.append(kind, &payload)?;
        }
        self.appended = self.appended.max(upto);
        log.sync()
    }

    /// The next sync fails.
    pub(super) fn fail_sync(&mut self) {
        let sync_after = Some(0);
        self.disk.set_faults(Faults {
            sync_after,
            ..Faults::default()
        });
    }

    /// Power is lost while the rest of `records` is on its way; `how` it tears what was not synced.
    pub(super) fn crash(&mut self, records: &[Record], how: Crash, dice: &mut Dice) {
        let power_after = Some(dice.below(ACTS_MAX));
        self.disk.set_faults(Faults {
            power_after,
            ..Faults::default()
        });
        // Whether it still succeeds is the disk's secret: nothing of it was promised.
        self.sync(records, records.len()).ok();
        self.log = None;
        self.disk
            .crash(how, &mut ChaCha12Rng::seed_from_u64(dice.next()));
    }

    /// Ends in good order.
    pub(super) fn close(&mut self, records: &[Record]) {
        self.sync(records, records.len()).ok();
        self.log = None;
        self.disk.set_faults(Faults::default());
    }

    /// Flips a bit somewhere in a log file.
    pub(super) fn flip(&mut self, dice: &mut Dice) {
        let names = self.disk.names().unwrap_or_default();
        let mut logs: Vec<String> = names
            .into_iter()
            .filter(|name| name.ends_with(".log"))
            .collect();
        logs.sort_unstable();
        if let Some(name) = logs.get(dice.below(logs.len().max(1) as u64) as usize) {
            let bytes = self.disk.bytes(name).unwrap_or_default();
            let used = bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .unwrap_or_default();
            let bit = u8::try_from(dice.below(8)).expect("below 8");
            self.disk.flip(name, dice.below(used as u64 + 1), bit);
        }
    }
}
