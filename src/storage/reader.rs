//! Reads records back while the writer appends.
//!
//! Source: none. In: positions. Out: records whose checksum matches. Holds: a record is read only
//! when it was written for this store, file and place; at most `OPEN_FILES_MAX` files are open.
//! Elsewhere: writing (`log`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{LogError, failed};
use super::frame::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FrameHeader, Salt};
use super::log::{Position, log_name};
use super::medium::{Directory, Medium, MediumFile};
use super::store::StoreId;

/// Files kept open for reading; the lowest is closed for the next one.
const OPEN_FILES_MAX: usize = 16;

/// Reads a log from any thread. Clones share one set of open files.
pub struct LogReader<M: Medium = Directory> {
    shared: Arc<Shared<M>>,
}

impl<M: Medium> Clone for LogReader<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

struct Shared<M: Medium> {
    medium: Arc<M>,
    store: StoreId,
    state: Mutex<State<M::File>>,
}

struct State<F> {
    first: u64,
    last: u64,
    /// How far the last file is written.
    written: u32,
    open: BTreeMap<u64, Arc<F>>,
}

impl LogReader {
    /// Reads the log in `dir` of the store `store`, which another process may be writing, and
    /// never writes. How far the log goes is not known here: what was not written yet is given as
    /// [`LogError::Damaged`] or [`LogError::Io`].
    pub fn read_only(dir: &Path, store: StoreId) -> Self {
        let state = State {
            first: 0,
            last: u64::MAX,
            written: u32::MAX,
            open: BTreeMap::new(),
        };
        Self {
            shared: Arc::new(Shared {
                medium: Arc::new(Directory::read_only(dir)),
                store,
                state: Mutex::new(state),
            }),
        }
    }
}

impl<M: Medium> LogReader<M> {
    pub(super) fn new(
        medium: Arc<M>,
        store: StoreId,
        (first, end): (u64, Position),
        file: Arc<M::File>,
    ) -> Self {
        let open = BTreeMap::from([(end.file, file)]);
        let state = State {
            first,
            last: end.file,
            written: end.offset,
            open,
        };
        Self {
            shared: Arc::new(Shared {
                medium,
                store,
                state: Mutex::new(state),
            }),
        }
    }

    /// The record at `position`: its kind and payload.
    ///
    /// Errors: [`LogError::NotWritten`], [`LogError::Pruned`], [`LogError::Damaged`] when it does
    /// not match its checksum, [`LogError::Io`].
    pub fn read(&self, position: Position) -> Result<(u8, Vec<u8>), LogError> {
        let file = self.file(position)?;
        let read = self.read_in(&*file, position);
        // A file that was pruned meanwhile holds zeros, or another file's records.
        if read.is_err() && position.file < self.first_file() {
            return Err(LogError::Pruned { position });
        }
        read
    }

    /// The lowest file number that is kept.
    pub fn first_file(&self) -> u64 {
        self.state().first
    }

    /// Behind the last record that can be read.
    pub fn end(&self) -> Position {
        let state = self.state();
        Position {
            file: state.last,
            offset: state.written,
        }
    }

    fn read_in(&self, file: &M::File, position: Position) -> Result<(u8, Vec<u8>), LogError> {
        let name = log_name(position.file);
        let damaged = |what| LogError::Damaged {
            file: position.file,
            offset: position.offset,
            what,
        };
        let size = file.size().map_err(failed(&name, "measure"))?;
        let start = u64::from(position.offset);
        if start + u64::from(FRAME_HEADER_BYTES) > size {
            return Err(LogError::NotWritten { position });
        }
        let mut head = [0; FRAME_HEADER_BYTES as usize];
        file.read_at(start, &mut head)
            .map_err(failed(&name, "read"))?;
        let salt = Salt::new(self.shared.store, position.file);
        let header = FrameHeader::decode(salt, position.offset, &head)
            .filter(|header| !header.is_mark && start + header.frame_bytes() <= size)
            .ok_or_else(|| damaged("not a record header of this place"))?;
        let mut payload = vec![0; header.length as usize];
        file.read_at(start + u64::from(FRAME_HEADER_BYTES), &mut payload)
            .map_err(failed(&name, "read"))?;
        if !header.covers(salt, position.offset, &payload) {
            return Err(damaged("a record that does not match its checksum"));
        }
        Ok((header.kind, payload))
    }

    /// The file at `position`. It is opened outside of the lock, which the writer takes too.
    fn file(&self, position: Position) -> Result<Arc<M::File>, LogError> {
        if let Some(file) = self.open_file(position)? {
            return Ok(file);
        }
        let name = log_name(position.file);
        let opened = self.shared.medium.open(&name);
        let mut state = self.state();
        if position.file < state.first {
            return Err(LogError::Pruned { position }); // meanwhile
        }
        let file = Arc::new(opened.map_err(failed(&name, "open"))?);
        if state.open.len() >= OPEN_FILES_MAX {
            state.open.pop_first();
        }
        state.open.insert(position.file, Arc::clone(&file));
        Ok(file)
    }

    /// The file at `position` where it is open.
    fn open_file(&self, position: Position) -> Result<Option<Arc<M::File>>, LogError> {
        let state = self.state();
        if position.file < state.first {
            return Err(LogError::Pruned { position });
        }
        let end = Position {
            file: state.last,
            offset: state.written,
        };
        if position >= end || position.offset < FILE_HEADER_BYTES {
            return Err(LogError::NotWritten { position });
        }
        Ok(state.open.get(&position.file).map(Arc::clone))
    }

    pub(super) fn written(&self, end: u32) {
        self.state().written = end;
    }

    pub(super) fn started(&self, number: u64, file: Arc<M::File>) {
        let mut state = self.state();
        assert!(
            number == state.last + 1,
            "log files are numbered without gaps"
        );
        state.last = number;
        state.written = FILE_HEADER_BYTES;
        state.open.insert(number, file);
        if state.open.len() > OPEN_FILES_MAX {
            state.open.pop_first();
        }
    }

    pub(super) fn forget(&self, before: u64) {
        let mut state = self.state();
        state.first = state.first.max(before);
        state.open = state.open.split_off(&before);
    }

    fn state(&self) -> MutexGuard<'_, State<M::File>> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
