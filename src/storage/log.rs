//! The durable log: records appended to numbered files, read back after anything.
//!
//! Source: design, 'durability, exactly'. In: opaque records. Out: their positions; the records
//! again at opening. Holds: what `sync` said is durable is read back; files below the last one are
//! whole and name each other's end; a failed write or sync stops the log for good. Elsewhere:
//! frames (`frame`), opening (`recovery`), reading from other threads (`reader`), one sync for
//! everything that waits (`commit`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{LogError, failed};
use super::frame::{self, FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileHeader, Salt};
use super::medium::{Directory, Medium, MediumFile};
use super::pool::{Pool, is_full};
use super::reader::LogReader;
use super::store::StoreId;

/// Bytes that wait in memory before they are written without being asked.
const BUFFER_BYTES_MAX: usize = 1 << 20;
/// The smallest log file.
pub const FILE_BYTES_MIN: u32 = 4096;
/// The largest log file; lengths in a frame leave one bit for the mark.
pub const FILE_BYTES_MAX: u32 = 1 << 30;

/// Where a record stands. Later records have greater positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The number of the log file.
    pub file: u64,
    /// Bytes from its start.
    pub offset: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}.log:{}", self.file, self.offset)
    }
}

/// One record as it is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it stands.
    pub position: Position,
    /// What the writer called it.
    pub kind: u8,
    /// The writer's bytes.
    pub payload: &'a [u8],
}

/// How a log keeps its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Length of each file, filled with zeros ahead; from [`FILE_BYTES_MIN`] to [`FILE_BYTES_MAX`],
    /// a multiple of 8.
    pub file_bytes: u32,
    /// Spare files that [`Pool::prepare`] keeps ready.
    pub spares_min: usize,
    /// Spare files kept at most; pruned files beyond are removed.
    pub spares_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            spares_min: 1,
            spares_max: 4,
        }
    }
}

impl Options {
    /// The same, within the bounds of the format.
    pub(super) fn clamped(self) -> Self {
        let file_bytes = self.file_bytes.clamp(FILE_BYTES_MIN, FILE_BYTES_MAX) & !7;
        Self { file_bytes, ..self }
    }
}

/// What a log did since it was opened; anybody may look.
#[derive(Debug, Default)]
pub struct LogCounts {
    syncs: AtomicU64,
    bytes: AtomicU64,
}

impl LogCounts {
    /// Syncs of files and of their folder.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Bytes of records that were appended, their frames included.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn count(&self, syncs: u64, bytes: usize) {
        self.syncs.fetch_add(syncs, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The writer of a durable log. It belongs to one thread; [`LogReader`]s go to others.
pub struct Log<M: Medium = Directory> {
    pub(super) medium: Arc<M>,
    pub(super) options: Options,
    pub(super) store: StoreId,
    pub(super) pool: Pool<M>,
    pub(super) reader: LogReader<M>,
    pub(super) active: Active<M::File>,
    pub(super) buffer: Vec<u8>,
    pub(super) poison: Option<String>,
    pub(super) counts: Arc<LogCounts>,
}

/// The file that is written now.
pub(super) struct Active<F> {
    pub(super) file: Arc<F>,
    pub(super) number: u64,
    pub(super) salt: Salt,
    pub(super) capacity: u32,
    /// Behind the last record, buffered ones included.
    pub(super) end: u32,
    /// Behind the last durable record.
    pub(super) durable: u32,
}

impl<M: Medium> Log<M> {
    /// Appends a record; it may stay in memory until the next [`Log::sync`], and is durable only
    /// after that.
    ///
    /// Errors: [`LogError::TooLarge`] and [`LogError::Full`] change nothing; after any other the
    /// log is poisoned.
    pub fn append(&mut self, kind: u8, payload: &[u8]) -> Result<Position, LogError> {
        self.check_alive()?;
        let bytes = frame::frame_bytes(payload.len());
        if payload.len() > self.record_bytes_max() {
            let bytes_max = self.record_bytes_max();
            return Err(LogError::TooLarge {
                bytes: payload.len(),
                bytes_max,
            });
        }
        if u64::from(self.active.end) + bytes > u64::from(self.active.capacity) {
            self.rotate()?;
        }
        let active = &mut self.active;
        let offset = active.end;
        let place = (offset, active.durable);
        frame::encode(active.salt, place, (kind, payload), &mut self.buffer);
        active.end += bytes as u32;
        assert!(
            active.end <= active.capacity,
            "a frame never leaves its file"
        );
        if self.buffer.len() >= BUFFER_BYTES_MAX {
            self.write()?;
        }
        Ok(Position {
            file: self.active.number,
            offset,
        })
    }

    /// Makes everything appended so far durable: one sync of the file, none if nothing is new.
    ///
    /// Errors: any is fatal; every later call gives [`LogError::Poisoned`], because after a failed
    /// sync nobody knows what is on the disk.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.check_alive()?;
        if self.active.durable == self.active.end {
            return Ok(());
        }
        self.write()?;
        self.sync_active()?;
        let end = self.active.end;
        if end + FRAME_HEADER_BYTES <= self.active.capacity {
            let mark = frame::encode_mark(self.active.salt, end);
            let marked = self.active.file.write_at(u64::from(end), &mark);
            self.fatal(marked, "write a mark")?;
        }
        Ok(())
    }

    /// Gives up every file below number `before` (the last one always stays); gives how many.
    ///
    /// Errors: fatal.
    pub fn prune(&mut self, before: u64) -> Result<usize, LogError> {
        self.check_alive()?;
        let first = self.reader.first_file();
        let before = before.min(self.active.number);
        if before <= first {
            return Ok(0);
        }
        self.reader.forget(before);
        let pruned = self.recycle(first..before);
        self.poisoning(pruned)?;
        Ok((before - first) as usize)
    }

    /// A handle for reading, for any thread.
    pub fn reader(&self) -> LogReader<M> {
        self.reader.clone()
    }

    /// What this log did, for any thread.
    pub fn counts(&self) -> Arc<LogCounts> {
        Arc::clone(&self.counts)
    }

    /// The spare files, so that another thread can prepare them ahead of need.
    pub fn pool(&self) -> Pool<M> {
        self.pool.clone()
    }

    /// Writes what is buffered and reads one record back.
    pub fn read(&mut self, position: Position) -> Result<(u8, Vec<u8>), LogError> {
        if self.poison.is_none() {
            self.write()?;
        }
        self.reader.read(position)
    }

    /// The lowest file number kept.
    pub fn first_file(&self) -> u64 {
        self.reader.first_file()
    }

    /// Where the next record would stand if it fits into this file.
    pub fn end(&self) -> Position {
        Position {
            file: self.active.number,
            offset: self.active.end,
        }
    }

    /// The longest payload that a record can have.
    pub fn record_bytes_max(&self) -> usize {
        (self.options.file_bytes - FILE_HEADER_BYTES - FRAME_HEADER_BYTES) as usize
    }

    /// Whose log this is.
    pub fn store(&self) -> StoreId {
        self.store
    }

    fn check_alive(&self) -> Result<(), LogError> {
        match &self.poison {
            Some(cause) => Err(LogError::Poisoned {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    fn poisoning<T>(&mut self, result: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(error) = &result {
            self.poison.get_or_insert_with(|| error.to_string());
        }
        result
    }

    fn fatal(&mut self, result: std::io::Result<()>, act: &'static str) -> Result<(), LogError> {
        let named = result.map_err(failed(&log_name(self.active.number), act));
        self.poisoning(named)
    }

    /// Hands buffered frames to the system; readers see them from then on.
    fn write(&mut self) -> Result<(), LogError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let start = u64::from(self.active.end) - self.buffer.len() as u64;
        let written = self.active.file.write_at(start, &self.buffer);
        self.fatal(written, "write")?;
        self.counts.count(0, self.buffer.len());
        self.buffer.clear();
        self.reader.written(self.active.end);
        Ok(())
    }

    fn sync_active(&mut self) -> Result<(), LogError> {
        let synced = self.active.file.sync();
        self.fatal(synced, "sync")?;
        self.counts.count(1, 0);
        self.active.durable = self.active.end;
        Ok(())
    }

    /// Goes on in a new file. The old one is durable before the new one has its name, so that an
    /// unreadable place in any but the last file is damage.
    fn rotate(&mut self) -> Result<(), LogError> {
        self.write()?;
        // Even when every record is durable the mark behind them may not be, and a torn one would
        // be damage then.
        self.sync_active()?;
        let number = self.active.number + 1;
        let started = start_file(self, number, self.active.end);
        let active = match started {
            Err(full @ LogError::Full { .. }) => return Err(full),
            other => self.poisoning(other)?,
        };
        // The header's and the name's.
        self.counts.count(2, 0);
        self.active = active;
        self.reader.started(number, Arc::clone(&self.active.file));
        Ok(())
    }

    fn recycle(&self, files: std::ops::Range<u64>) -> Result<(), LogError> {
        for number in files {
            let name = log_name(number);
            let file = self.medium.open(&name).map_err(failed(&name, "open"))?;
            let bytes = file.size().map_err(failed(&name, "measure"))?;
            self.pool.recycle(&name, bytes)?;
        }
        self.medium.sync_names().map_err(failed("folder", "sync"))
    }
}

fn start_file<M: Medium>(
    log: &Log<M>,
    number: u64,
    previous_end: u32,
) -> Result<Active<M::File>, LogError> {
    start(
        &*log.medium,
        &log.pool,
        (log.store, number, previous_end),
        log.options,
    )
}

/// Turns a spare into log file `number`: header, sync, name, sync. A file with a log's name thus
/// has a whole header.
pub(super) fn start<M: Medium>(
    medium: &M,
    pool: &Pool<M>,
    (store, number, previous_end): (StoreId, u64, u32),
    options: Options,
) -> Result<Active<M::File>, LogError> {
    let capacity = options.file_bytes;
    let version = frame::FORMAT_VERSION;
    let header = FileHeader {
        version,
        capacity,
        store,
        file: number,
        previous_end,
    };
    let spare = pool.take()?;
    let name = log_name(number);
    let make = || {
        let file = medium.open(&spare)?;
        file.write_at(0, &header.encode())?;
        file.sync()?;
        medium.rename(&spare, &name)?;
        medium.sync_names()?;
        Ok(file)
    };
    let file = make().map_err(|source: std::io::Error| {
        pool.give_back(spare.clone());
        if is_full(&source) {
            return LogError::Full {
                file: name.clone(),
                bytes: capacity,
            };
        }
        failed(&name, "start")(source)
    })?;
    Ok(Active {
        file: Arc::new(file),
        number,
        salt: Salt::new(store, number),
        capacity,
        end: FILE_HEADER_BYTES,
        durable: FILE_HEADER_BYTES,
    })
}

/// The name of log file `number`.
pub(super) fn log_name(number: u64) -> String {
    format!("{number:08}.log")
}

/// The number in the name of a log file.
pub(super) fn log_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".log")?.parse().ok()?;
    (log_name(number) == name).then_some(number)
}
