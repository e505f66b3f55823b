//! Spare log files: zeroed, synced, waiting for their number.
//!
//! Source: reference measurements: blocks that were written before sync 1.4 to 1.9 times faster.
//! In: files that pruning gave up. Out: files of zeros. Holds: a spare is called ready only after
//! its zeros are durable; there are never more than `spares_max` files here. Elsewhere: when a file
//! is needed (`log`), the thread that runs [`Pool::prepare`] ahead of need (`commit`).
//!
//! Recycled files are zeroed again, off the commit path, rather than left with old frames: a
//! flipped bit anywhere in a log folder is then found, and the end of the records is plain to see.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{LogError, failed};
use super::frame::{FILE_HEADER_BYTES, is_zero};
use super::log::Options;
use super::medium::{Medium, MediumFile};

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The spare files of one log folder. Clones share them.
pub struct Pool<M: Medium> {
    shared: Arc<Shared<M>>,
}

impl<M: Medium> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

struct Shared<M> {
    medium: Arc<M>,
    options: Options,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    ready: Vec<String>,
    stale: Vec<String>,
    preparing: usize,
    next: u64,
}

impl<M: Medium> Pool<M> {
    /// Takes over the spares among `names`.
    pub(super) fn open(
        medium: Arc<M>,
        options: Options,
        names: &[String],
    ) -> Result<Self, LogError> {
        let mut found = Names::default();
        for name in names {
            let Some(number) = spare_number(name) else {
                continue;
            };
            found.next = found.next.max(number + 1);
            if !name.ends_with(".ready") {
                found.stale.push(name.clone());
            } else if is_blank(&*medium, name, options)? {
                found.ready.push(name.clone());
            } else {
                let stale = format!("spare-{number:08}.stale");
                medium
                    .rename(name, &stale)
                    .map_err(failed(name, "rename"))?;
                found.stale.push(stale);
            }
        }
        let names = Mutex::new(found);
        Ok(Self {
            shared: Arc::new(Shared {
                medium,
                options,
                names,
            }),
        })
    }

    /// Makes one spare ready if fewer than `spares_min` are; gives whether it did. It may run on
    /// any thread.
    ///
    /// Errors: [`LogError::Full`] or [`LogError::Io`]; the log itself is untouched.
    pub fn prepare(&self) -> Result<bool, LogError> {
        let stale = {
            let mut names = self.names();
            if names.ready.len() + names.preparing >= self.shared.options.spares_min {
                return Ok(false);
            }
            names.preparing += 1;
            names.stale.pop()
        };
        let made = self.make(stale);
        let mut names = self.names();
        names.preparing -= 1;
        names.ready.push(made?);
        Ok(true)
    }

    /// A ready spare's name: one that waits, or one made now.
    pub(super) fn take(&self) -> Result<String, LogError> {
        let stale = {
            let mut names = self.names();
            if let Some(ready) = names.ready.pop() {
                return Ok(ready);
            }
            names.stale.pop()
        };
        self.make(stale)
    }

    /// Gives a spare back whose use failed.
    pub(super) fn give_back(&self, name: String) {
        self.names().stale.push(name);
    }

    /// Takes a log file out of use: it becomes a spare, or is removed when there are enough.
    pub(super) fn recycle(&self, file: &str, bytes: u64) -> Result<(), LogError> {
        let medium = &self.shared.medium;
        let spare = {
            let mut names = self.names();
            let count = names.ready.len() + names.stale.len() + names.preparing;
            let fits = bytes == u64::from(self.shared.options.file_bytes);
            (fits && count < self.shared.options.spares_max).then(|| names.fresh())
        };
        let Some(spare) = spare else {
            return medium.remove(file).map_err(failed(file, "remove"));
        };
        medium
            .rename(file, &spare)
            .map_err(failed(file, "rename"))?;
        self.names().stale.push(spare);
        Ok(())
    }

    fn make(&self, stale: Option<String>) -> Result<String, LogError> {
        let recycled = stale.is_some();
        let name = stale.unwrap_or_else(|| self.names().fresh());
        let made = self.zero(&name, recycled);
        made.map_err(|source| {
            if recycled {
                self.give_back(name.clone());
            } else {
                // The half-made file would keep the disk full; if even this fails, the next opening
                // removes it.
                self.shared.medium.remove(&name).ok();
            }
            if is_full(&source) {
                return LogError::Full {
                    file: name,
                    bytes: self.shared.options.file_bytes,
                };
            }
            failed(&name, "fill with zeros")(source)
        })
    }

    fn zero(&self, name: &str, recycled: bool) -> io::Result<String> {
        let medium = &self.shared.medium;
        let file = if recycled {
            medium.open(name)?
        } else {
            medium.create(name)?
        };
        let bytes = u64::from(self.shared.options.file_bytes);
        let mut offset = 0;
        while offset < bytes {
            let count = (bytes - offset).min(ZEROS.len() as u64);
            file.write_at(offset, &ZEROS[..count as usize])?;
            offset += count;
        }
        file.sync()?;
        let ready = match name.strip_suffix(".stale") {
            Some(stem) => format!("{stem}.ready"),
            None => return Ok(name.to_owned()),
        };
        medium.rename(name, &ready)?;
        Ok(ready)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.shared
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn fresh(&mut self) -> String {
        let name = format!("spare-{:08}.stale", self.next);
        self.next += 1;
        name
    }
}

/// Whether the system says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// The number in a spare's name.
pub(super) fn spare_number(name: &str) -> Option<u64> {
    let stem = name.strip_prefix("spare-")?;
    stem.strip_suffix(".ready")
        .or_else(|| stem.strip_suffix(".stale"))?
        .parse()
        .ok()
}

/// Whether a spare that claims to be ready has the right length and no header from an interrupted
/// use.
fn is_blank<M: Medium>(medium: &M, name: &str, options: Options) -> Result<bool, LogError> {
    let file = medium.open(name).map_err(failed(name, "open"))?;
    if file.size().map_err(failed(name, "measure"))? != u64::from(options.file_bytes) {
        return Ok(false);
    }
    let mut head = [0; FILE_HEADER_BYTES as usize];
    file.read_at(0, &mut head).map_err(failed(name, "read"))?;
    Ok(is_zero(&head))
}
