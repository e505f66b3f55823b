//! Looks at every byte of a log folder without touching it.
//!
//! Source: interface, `verify`. In: a folder. Out: every readable record and every problem, by file
//! and offset. Holds: nothing is written; any flipped bit in a log file or a ready spare is a
//! problem, whether it stands in a header, a record, padding, a mark or the zeros ahead. Elsewhere:
//! what the records mean (`blocks`), the tables' own check (`tables`).
//!
//! Not looked at are `spare-*.stale` files: pruned and on their way to be zeroed, they hold
//! nothing.

use std::io;
use std::path::Path;

use super::error::{LogError, failed};
use super::frame::{self, FILE_HEADER_BYTES, FileHeader, Salt, is_zero};
use super::log::{Position, Record, log_name, log_number};
use super::medium::{Directory, Medium, MediumFile};
use super::recovery::read_header;
use super::store::StoreId;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The name of the file in the folder.
    pub file: String,
    /// Bytes from its start.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// Whether it can be an unfinished write: behind the last record of the last file, where
    /// nothing proves that it ever was durable, or in the header of a spare that was about to be
    /// used. Opening the log wipes it. A running writer leaves such places for a moment.
    pub is_tail: bool,
}

/// What a look at a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Readable records.
    pub records: u64,
    /// Log files.
    pub files: u64,
    /// Everything that is wrong, in order of file and offset.
    pub problems: Vec<Problem>,
}

/// Reads every file in `dir`, gives every readable record in order to `visit`, and reports what is
/// wrong.
///
/// A running writer may go on meanwhile: the records are then a consistent prefix of the log, and
/// only problems that are a tail may come from it. Errors: only when the folder cannot be listed.
pub fn verify_log(
    dir: &Path,
    store: StoreId,
    mut visit: impl FnMut(Record<'_>),
) -> Result<Report, LogError> {
    let medium = Directory::read_only(dir);
    verify_on(&medium, store, &mut visit)
}

/// As [`verify_log`], on any medium.
pub(super) fn verify_on<M: Medium>(
    medium: &M,
    store: StoreId,
    visit: &mut dyn FnMut(Record<'_>),
) -> Result<Report, LogError> {
    let mut names = medium.names().map_err(failed("folder", "list"))?;
    names.sort_unstable();
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| log_number(name)).collect();
    numbers.sort_unstable();
    let mut check = Check {
        store,
        visit,
        report: Report::default(),
    };
    for (index, file) in numbers.iter().enumerate() {
        let before = check.report.problems.len();
        let next = numbers.get(index + 1).copied();
        check.log_file(medium, *file, next);
        if next.is_some_and(|next| next != file + 1) {
            check.problem(log_name(file + 1), 0, "the file is missing".into(), false);
        }
        check.forgive(medium, &log_name(*file), before);
    }
    for name in names.iter().filter(|name| name.ends_with(".ready")) {
        let before = check.report.problems.len();
        check.spare(medium, name);
        check.forgive(medium, name, before);
    }
    Ok(check.report)
}

struct Check<'a> {
    store: StoreId,
    visit: &'a mut dyn FnMut(Record<'_>),
    report: Report,
}

impl Check<'_> {
    fn problem(&mut self, file: String, offset: u64, what: String, is_tail: bool) {
        self.report.problems.push(Problem {
            file,
            offset,
            what,
            is_tail,
        });
    }

    /// Drops the problems from `before` on if the file is gone: a running writer pruned it or took
    /// it into use while it was read, so what was seen in it says nothing.
    fn forgive<M: Medium>(&mut self, medium: &M, name: &str, before: usize) {
        if medium.open(name).is_err_and(|error| is_gone(&error)) {
            self.report.problems.truncate(before);
        }
    }

    fn log_file<M: Medium>(&mut self, medium: &M, file: u64, next: Option<u64>) {
        self.report.files += 1;
        let is_last = next.is_none();
        let known_end = next
            .filter(|next| *next == file + 1)
            .and_then(|next| read_header(medium, next, Some(self.store)).ok())
            .map(|header| header.previous_end);
        let name = log_name(file);
        if let Err(error) = read_header(medium, file, Some(self.store)) {
            let offset = if let LogError::Damaged { offset, .. } = error {
                u64::from(offset)
            } else {
                0
            };
            self.problem(name.clone(), offset, error.to_string(), false);
        }
        let Some(data) = self.read(medium, &name) else {
            return;
        };
        if data.len() < FILE_HEADER_BYTES as usize {
            return;
        }
        let mut start = FILE_HEADER_BYTES;
        loop {
            let (end, resume) = self.stretch(file, &data, start, is_last);
            let Some(at) = resume else {
                if known_end.is_some_and(|known| known > end) {
                    let what = "records are missing up to the end of this file";
                    self.problem(name, u64::from(end), what.into(), false);
                }
                return;
            };
            start = at;
        }
    }

    /// Walks to the next flaw; gives where the records end and, behind a flaw, where to go on.
    fn stretch(&mut self, file: u64, data: &[u8], start: u32, is_last: bool) -> (u32, Option<u32>) {
        let salt = Salt::new(self.store, file);
        let Self { visit, report, .. } = self;
        let scan = frame::scan(salt, data, start, &mut |offset, kind, payload| {
            report.records += 1;
            visit(Record {
                position: Position { file, offset },
                kind,
                payload,
            });
        });
        let Some(flaw) = scan.flaw else {
            return (scan.end, None);
        };
        let is_tail = is_last && !flaw.was_durable;
        self.problem(
            log_name(file),
            u64::from(flaw.offset),
            flaw.what.into(),
            is_tail,
        );
        // A known end is not missed where a flaw was already told.
        (u32::MAX, flaw.resume)
    }

    fn spare<M: Medium>(&mut self, medium: &M, name: &str) {
        let Some(data) = self.read(medium, name) else {
            return;
        };
        let mut head = [0; FILE_HEADER_BYTES as usize];
        let body = data.get(head.len()..).unwrap_or_default();
        if let Some(bytes) = data.get(..head.len()) {
            head.copy_from_slice(bytes);
        }
        // A kill between the header and the name leaves a whole header in a spare.
        let whole = FileHeader::decode(&head).is_some_and(|header| header.store == self.store);
        let flaw = if is_zero(&head) || whole {
            body.iter()
                .position(|byte| *byte != 0)
                .map(|at| at + head.len())
        } else {
            head.iter().position(|byte| *byte != 0)
        };
        if let Some(offset) = flaw {
            let what = "a spare file that is not zero";
            let is_tail = offset < head.len();
            self.problem(name.into(), offset as u64, what.into(), is_tail);
        }
    }

    fn read<M: Medium>(&mut self, medium: &M, name: &str) -> Option<Vec<u8>> {
        match read_backwards(medium, name) {
            Ok(data) => Some(data),
            // A running writer pruned it, or took it into use, since the folder was listed.
            Err(error) if is_gone(&error) => None,
            Err(error) => {
                self.problem(name.into(), 0, error.to_string(), false);
                None
            }
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// The whole file, its last bytes read first. A writer that goes on meanwhile writes forwards, so
/// whatever a later frame proves to be durable was there when the earlier bytes were read.
fn read_backwards<M: Medium>(medium: &M, name: &str) -> io::Result<Vec<u8>> {
    let file = medium.open(name)?;
    let mut data = vec![0; file.size()?.min(u64::from(super::FILE_BYTES_MAX)) as usize];
    let mut offset = data.len() as u64;
    for stretch in data.rchunks_mut(READ_BYTES) {
        offset -= stretch.len() as u64;
        file.read_at(offset, stretch)?;
    }
    Ok(data)
}
