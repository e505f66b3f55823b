//! Opens a log after anything: a clean end, a kill, a power loss, a failing disk.
//!
//! Source: design, 'durability, exactly'. In: a folder, the first file to read. Out: every record
//! from there in order, then a log to append to. Holds: everything that was synced there is given;
//! nothing is given that was not appended here; a torn tail (only in the last file, below no
//! durable mark) is wiped before anything is appended; damage is an error with file and offset.
//! Elsewhere: frames and verdicts (`frame`), looking without touching (`verify`).
//!
//! Of files below the first one only the headers are read, so an opening costs what is above, not
//! what was ever written. That none is missing, foreign or cut short is known from the headers;
//! records in them were durable before the next file had its name, are checked one by one whenever
//! they are read (`reader`), and all together by `verify`. Who opens so must need no record below:
//! it would be neither missed nor found damaged here.

use std::path::Path;
use std::sync::Arc;

use super::error::{LogError, failed};
use super::frame::{self, FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileHeader, Flaw, Salt, Scan};
use super::log::{Active, Log, Options, Position, Record, log_name, log_number, start};
use super::medium::{Directory, Medium, MediumFile};
use super::pool::Pool;
use super::reader::LogReader;
use super::store::StoreId;

/// Bytes of a log file between two questions whether to go on.
const ASK_BYTES: u32 = 1 << 20;

/// What is read when a log is opened.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// The first file of which records are read, or the last one where none is as high.
    pub file: u64,
    /// Whether the opening goes on. It is asked for each file, and for every MiB of records.
    pub go_on: &'a dyn Fn() -> bool,
}

impl Reading<'_> {
    /// Everything.
    pub const ALL: Self = Self {
        file: 0,
        go_on: &|| true,
    };

    /// Errors: [`LogError::Ended`].
    fn ask(self) -> Result<(), LogError> {
        match (self.go_on)() {
            true => Ok(()),
            false => Err(LogError::Ended),
        }
    }
}

/// What opening a log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Whether the folder held no log file: this log starts empty.
    pub is_new: bool,
    /// How many records were given to the caller.
    pub records: u64,
    /// The lowest file number.
    pub first_file: u64,
    /// Behind the last record.
    pub end: Position,
    /// Where an unfinished write was wiped: nothing that was ever durable stood there.
    pub torn: Option<Position>,
}

impl Log<Directory> {
    /// Opens the log in `dir` of the store `store` and gives every record, in order, to `visit`.
    ///
    /// On an error what `visit` saw so far is of no use. Nothing in the folder was changed by then,
    /// unless the error is [`LogError::Io`] or [`LogError::Full`].
    pub fn open(
        dir: &Path,
        store: StoreId,
        options: Options,
        visit: impl FnMut(Record<'_>),
    ) -> Result<(Self, Recovered), LogError> {
        Self::open_from(Reading::ALL, (dir, store), options, visit)
    }

    /// As [`Log::open`], but gives the records that `reading` names alone. Of lower files no record
    /// is read.
    pub fn open_from(
        reading: Reading<'_>,
        (dir, store): (&Path, StoreId),
        options: Options,
        visit: impl FnMut(Record<'_>),
    ) -> Result<(Self, Recovered), LogError> {
        let shown = dir.display().to_string();
        let medium = Directory::create(dir).map_err(failed(&shown, "make the folder"))?;
        Self::open_from_on(reading, Arc::new(medium), (store, options), visit)
    }
}

impl<M: Medium> Log<M> {
    /// As [`Log::open`], on any medium.
    pub fn open_on(
        medium: Arc<M>,
        store: StoreId,
        options: Options,
        visit: impl FnMut(Record<'_>),
    ) -> Result<(Self, Recovered), LogError> {
        Self::open_from_on(Reading::ALL, medium, (store, options), visit)
    }

    /// As [`Log::open_from`], on any medium.
    pub fn open_from_on(
        reading: Reading<'_>,
        medium: Arc<M>,
        (store, options): (StoreId, Options),
        mut visit: impl FnMut(Record<'_>),
    ) -> Result<(Self, Recovered), LogError> {
        let options = options.clamped();
        let names = medium.names().map_err(failed("folder", "list"))?;
        let mut records = 0;
        let mut count = |record: Record<'_>| {
            records += 1;
            visit(record);
        };
        let files = read_headers(&*medium, &names, (Some(store), reading))?;
        let last = scan_files(&*medium, &files, reading, &mut count)?;
        reading.ask()?;
        let pool = Pool::open(Arc::clone(&medium), options, &names)?;
        let (active, torn) = match last {
            Some((header, scan)) => reopen(&*medium, header, scan)?,
            None => (start(&*medium, &pool, (store, 1, 0), options)?, None),
        };
        // Names that a killed process made may still be on their way to the disk.
        medium.sync_names().map_err(failed("folder", "sync"))?;
        let end = Position {
            file: active.number,
            offset: active.end,
        };
        let first_file = files.first().map_or(active.number, |header| header.file);
        let place = (first_file, end);
        let reader = LogReader::new(Arc::clone(&medium), store, place, Arc::clone(&active.file));
        let recovered = Recovered {
            is_new: files.is_empty(),
            records,
            first_file,
            end,
            torn,
        };
        let (buffer, poison) = (Vec::new(), None);
        Ok((
            Self {
                medium,
                options,
                store,
                pool,
                reader,
                active,
                buffer,
                poison,
                counts: Arc::default(),
            },
            recovered,
        ))
    }
}

/// The headers of all log files among `names`, in order; each is whole, of `store` if given, and
/// none is missing.
pub(super) fn read_headers<M: Medium>(
    medium: &M,
    names: &[String],
    (store, reading): (Option<StoreId>, Reading<'_>),
) -> Result<Vec<FileHeader>, LogError> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| log_number(name)).collect();
    numbers.sort_unstable();
    let mut headers: Vec<FileHeader> = Vec::with_capacity(numbers.len());
    for file in numbers {
        reading.ask()?;
        if let Some(before) = headers.last()
            && before.file + 1 != file
        {
            return Err(LogError::Missing {
                file: before.file + 1,
            });
        }
        headers.push(read_header(medium, file, store)?);
    }
    Ok(headers)
}

/// The header of one log file, checked.
pub(super) fn read_header<M: Medium>(
    medium: &M,
    file: u64,
    store: Option<StoreId>,
) -> Result<FileHeader, LogError> {
    let name = log_name(file);
    let damaged = |offset, what| LogError::Damaged { file, offset, what };
    let open = medium.open(&name).map_err(failed(&name, "open"))?;
    let size = open.size().map_err(failed(&name, "measure"))?;
    let mut bytes = [0; FILE_HEADER_BYTES as usize];
    if size < bytes.len() as u64 {
        return Err(damaged(size as u32, "the file is cut short"));
    }
    open.read_at(0, &mut bytes).map_err(failed(&name, "read"))?;
    let header = FileHeader::decode(&bytes)
        .filter(|header| header.file == file)
        .ok_or_else(|| damaged(0, "not the header of this file"))?;
    if let Some(expected) = store.filter(|store| *store != header.store) {
        return Err(LogError::Foreign {
            file,
            found: header.store,
            expected,
        });
    }
    if header.version > frame::FORMAT_VERSION {
        let (found, known) = (header.version, frame::FORMAT_VERSION);
        return Err(LogError::Newer { file, found, known });
    }
    if size != u64::from(header.capacity) {
        let at = size.min(u64::from(header.capacity)) as u32;
        return Err(damaged(
            at,
            "the file does not have the length that its header names",
        ));
    }
    Ok(header)
}

/// All bytes of a log file.
pub(super) fn read_whole<M: Medium>(medium: &M, header: &FileHeader) -> Result<Vec<u8>, LogError> {
    let name = log_name(header.file);
    let file = medium.open(&name).map_err(failed(&name, "open"))?;
    let mut data = vec![0; header.capacity as usize];
    file.read_at(0, &mut data).map_err(failed(&name, "read"))?;
    Ok(data)
}

/// Where the records of each file must end, as the next one names it; `None` for the last.
pub(super) fn known_end(headers: &[FileHeader], index: usize) -> Option<u32> {
    headers.get(index + 1).map(|next| next.previous_end)
}

/// The flaw of a scanned file that makes records unreadable, if any.
pub(super) fn lost_records(scan: &Scan, known_end: Option<u32>) -> Option<(u32, &'static str)> {
    match (known_end, scan.flaw) {
        // Behind the end that the next file names there is nothing to lose.
        (Some(end), _) if scan.end == end => None,
        (Some(_), Some(flaw)) => Some((flaw.offset, flaw.what)),
        (Some(_), None) => Some((scan.end, "records are missing up to the end of this file")),
        (
            None,
            Some(Flaw {
                offset,
                what,
                was_durable: true,
                ..
            }),
        ) => Some((offset, what)),
        (None, _) => None,
    }
}

fn scan_files<M: Medium>(
    medium: &M,
    headers: &[FileHeader],
    reading: Reading<'_>,
    visit: &mut dyn FnMut(Record<'_>),
) -> Result<Option<(FileHeader, Scan)>, LogError> {
    let mut last = None;
    // The last one always: it is written on.
    let below = headers.partition_point(|header| header.file < reading.file);
    let below = below.min(headers.len().saturating_sub(1));
    for (index, header) in headers.iter().enumerate().skip(below) {
        reading.ask()?;
        let file = header.file;
        let data = read_whole(medium, header)?;
        let salt = Salt::new(header.store, file);
        let (mut asked, mut goes_on) = (0, true);
        let mut give = |offset: u32, kind, payload: &[u8]| {
            if offset - asked >= ASK_BYTES {
                asked = offset;
                goes_on = goes_on && (reading.go_on)();
            }
            if !goes_on {
                return;
            }
            visit(Record {
                position: Position { file, offset },
                kind,
                payload,
            });
        };
        let scan = frame::scan(salt, &data, FILE_HEADER_BYTES, &mut give);
        if !goes_on {
            return Err(LogError::Ended);
        }
        if let Some((offset, what)) = lost_records(&scan, known_end(headers, index)) {
            return Err(LogError::Damaged { file, offset, what });
        }
        last = Some((*header, scan));
    }
    Ok(last)
}

/// Makes the last file ready for appending: nothing but zeros behind the records, and all of it
/// durable.
fn reopen<M: Medium>(
    medium: &M,
    header: FileHeader,
    scan: Scan,
) -> Result<(Active<M::File>, Option<Position>), LogError> {
    let name = log_name(header.file);
    let file = medium.open(&name).map_err(failed(&name, "open"))?;
    let mut data = vec![0; header.capacity as usize];
    file.read_at(0, &mut data).map_err(failed(&name, "read"))?;
    // A sync that failed before the last process died may have left pages that are in memory only
    // and count as clean. Writing again what no mark proves makes the sync below a real one.
    let unproven = scan.proven as usize..scan.end as usize;
    file.write_at(u64::from(scan.proven), &data[unproven])
        .map_err(failed(&name, "write"))?;
    let rest = &mut data[scan.end as usize..];
    let torn = scan.flaw.map(|_| Position {
        file: header.file,
        offset: scan.end,
    });
    if let Some(dirty) = rest.iter().rposition(|byte| *byte != 0) {
        // Left in place, an unfinished record could line up with later ones and come back.
        let rest = &mut rest[..=dirty];
        rest.fill(0);
        file.write_at(u64::from(scan.end), rest)
            .map_err(failed(&name, "wipe"))?;
    }
    file.sync().map_err(failed(&name, "sync"))?;
    let salt = Salt::new(header.store, header.file);
    if scan.end + FRAME_HEADER_BYTES <= header.capacity {
        let mark = frame::encode_mark(salt, scan.end);
        file.write_at(u64::from(scan.end), &mark)
            .map_err(failed(&name, "write a mark"))?;
    }
    let active = Active {
        file: Arc::new(file),
        number: header.file,
        salt,
        capacity: header.capacity,
        end: scan.end,
        durable: scan.end,
    };
    Ok((active, torn))
}
