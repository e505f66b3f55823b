//! Follows a log that another process may be writing, record by record, without touching it.
//!
//! Source: the log's layout (`frame`). In: a folder. Out: every record in order, each once.
//! Holds: nothing is written; only whole records are given; a place in the middle of the log that
//! cannot be read is an error, one at its end may be under way and is looked at again.
//! Elsewhere: reading by position (`reader`), every byte of a folder (`verify`).

use std::path::Path;

use super::error::{LogError, failed};
use super::frame::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FrameHeader, Salt};
use super::log::{Position, Record, log_name, log_number};
use super::medium::{Directory, Medium, MediumFile};
use super::recovery::read_header;
use super::store::StoreId;

/// Bytes read at once; a longer record is read by itself.
const READ_BYTES: u64 = 1 << 20;

/// A place in a log that goes forward.
pub struct Follower {
    medium: Directory,
    store: StoreId,
    /// Before the next record; none before the first look.
    at: Option<Position>,
}

impl Follower {
    /// Before the first record of the log in `dir` of the store `store`.
    pub fn read_only(dir: &Path, store: StoreId) -> Self {
        Self {
            medium: Directory::read_only(dir),
            store,
            at: None,
        }
    }

    /// Bytes of log files from the first one to here, and of all of them.
    ///
    /// Errors: [`LogError`].
    pub fn progress(&self) -> Result<(u64, u64), LogError> {
        let at = self.at.unwrap_or(Position { file: 0, offset: 0 });
        let (mut done, mut total) = (0, 0);
        for number in self.numbers()? {
            let name = log_name(number);
            let Ok(file) = self.medium.open(&name) else {
                continue;
            };
            let bytes = file.size().map_err(failed(&name, "measure"))?;
            total += bytes;
            done += match number.cmp(&at.file) {
                std::cmp::Ordering::Less => bytes,
                std::cmp::Ordering::Equal => bytes.min(at.offset.into()),
                std::cmp::Ordering::Greater => 0,
            };
        }
        Ok((done, total))
    }

    /// Gives every record that is there and was not given yet, until `visit` says stop by false.
    ///
    /// A log whose next file was pruned meanwhile goes on at the first that is kept; who visits
    /// sees it by what is missing. Errors: [`LogError`].
    pub fn advance(&mut self, visit: &mut dyn FnMut(Record<'_>) -> bool) -> Result<(), LogError> {
        loop {
            let numbers = self.numbers()?;
            let Some(first) = numbers.first() else {
                return Ok(());
            };
            let start = |file| Position {
                file,
                offset: FILE_HEADER_BYTES,
            };
            let at = match self.at {
                Some(at) if at.file >= *first => at,
                Some(_) | None => start(*first),
            };
            let next = numbers.iter().copied().find(|number| *number > at.file);
            // The end that the next file names was there before it was.
            let end = match next {
                None => None,
                Some(next) if next == at.file + 1 => {
                    Some(read_header(&self.medium, next, Some(self.store))?.previous_end)
                }
                Some(_) => return Err(LogError::Missing { file: at.file + 1 }),
            };
            let (at, is_over) = self.file(at, visit)?;
            self.at = Some(at);
            match (end, next) {
                _ if !is_over => return Ok(()),
                (Some(end), Some(next)) if at.offset >= end => self.at = Some(start(next)),
                (Some(_), _) => {
                    return Err(LogError::Damaged {
                        file: at.file,
                        offset: at.offset,
                        what: "records are missing up to the end of this file",
                    });
                }
                (None, _) => return Ok(()),
            }
        }
    }

    /// Gives the records of one file; where it stopped, and whether there is no more of them.
    fn file(
        &self,
        mut at: Position,
        visit: &mut dyn FnMut(Record<'_>) -> bool,
    ) -> Result<(Position, bool), LogError> {
        let name = log_name(at.file);
        read_header(&self.medium, at.file, Some(self.store))?;
        let file = self.medium.open(&name).map_err(failed(&name, "open"))?;
        let size = file.size().map_err(failed(&name, "measure"))?;
        let salt = Salt::new(self.store, at.file);
        let head = u64::from(FRAME_HEADER_BYTES);
        let (mut from, mut data) = (0, Vec::new());
        // Bytes of the file, from memory where they are there.
        let mut bytes = |start: u64, length: u64| -> Result<Option<Vec<u8>>, LogError> {
            if start + length > size {
                return Ok(None);
            }
            if start < from || start + length > from + data.len() as u64 {
                let most = READ_BYTES.max(length).min(size - start);
                (from, data) = (start, vec![0; most as usize]);
                file.read_at(start, &mut data)
                    .map_err(failed(&name, "read"))?;
            }
            let first = (start - from) as usize;
            Ok(Some(data[first..first + length as usize].to_vec()))
        };
        loop {
            let start = u64::from(at.offset);
            let Some(found) = bytes(start, head)? else {
                return Ok((at, true));
            };
            let Some(header) =
                FrameHeader::decode(salt, at.offset, &found).filter(|header| !header.is_mark)
            else {
                return Ok((at, true));
            };
            let Some(payload) = bytes(start + head, header.length.into())? else {
                return Ok((at, true));
            };
            if !header.covers(salt, at.offset, &payload) {
                return Ok((at, true));
            }
            let record = Record {
                position: at,
                kind: header.kind,
                payload: &payload,
            };
            at.offset += header.frame_bytes() as u32;
            if !visit(record) {
                return Ok((at, false));
            }
        }
    }

    fn numbers(&self) -> Result<Vec<u64>, LogError> {
        let names = self.medium.names().map_err(failed("folder", "list"))?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| log_number(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}
