//! Looks at tables that nobody has open, without touching them.
//!
//! Source: interface, `verify`. In: a directory. Out: what is wrong, by file and offset.
//! Holds: nothing in the directory is written. Elsewhere: the log's own check (`storage::verify`).

use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use super::super::verify::Problem;
use super::{TableError, TableOptions, failed, marker, open_tables, seal};

const CACHE_BYTES: u64 = 64 << 20;

/// What a look at tables found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablesReport {
    /// The engine that made them; none when there are no tables.
    pub engine: Option<String>,
    /// Whether they were closed in good order, so that every bit of every file was compared. If
    /// not, every row of a copy was read and checked, and space that holds no row was not looked
    /// at.
    pub is_sealed: bool,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

/// Checks the tables in `dir`, which no process may have open. `scratch` is an empty or absent
/// folder for a copy, used only when they were not closed in good order; it is removed again.
///
/// Errors: only when `dir` cannot be read or `scratch` not be written.
pub fn verify_tables(dir: &Path, scratch: &Path) -> Result<TablesReport, TableError> {
    let mut report = TablesReport::default();
    if !dir.is_dir() {
        return Ok(report);
    }
    let marked = match marker::read(dir) {
        Ok(marked) => marked,
        Err(TableError::Damaged { what, .. }) => {
            report.problems.push(problem(marker::MARKER_FILE, 0, what));
            return Ok(report);
        }
        Err(other) => return Err(other),
    };
    let Some(engine) = marked else {
        return Ok(report);
    };
    report.engine = Some(engine.clone());
    match seal::compare(dir).map_err(failed("seal", "compare"))? {
        Some(differences) => {
            report.is_sealed = true;
            let problems = differences.into_iter();
            report
                .problems
                .extend(problems.map(|(file, at, what)| problem(&file, at, what)));
        }
        None => {
            copy(dir, scratch).map_err(failed("copy", "copy the tables"))?;
            if let Some(what) = check_copy(scratch, &engine) {
                report.problems.push(problem(&engine, 0, what));
            }
            fs::remove_dir_all(scratch).map_err(failed("copy", "remove the copy"))?;
        }
    }
    Ok(report)
}

fn problem(file: &str, offset: u64, what: String) -> Problem {
    Problem {
        file: file.into(),
        offset,
        what,
        is_tail: false,
    }
}

/// Opens the copy and reads every row; gives what went wrong.
fn check_copy(dir: &Path, engine: &str) -> Option<String> {
    let options = TableOptions {
        tables: Vec::new(),
        cache_bytes: CACHE_BYTES,
    };
    let check = || open_tables(dir, engine, &options)?.check();
    // An engine may panic over a damaged file; here that is an answer, not a bug.
    match panic::catch_unwind(AssertUnwindSafe(check)) {
        Ok(Ok(_rows)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("engine '{engine}' panicked while reading it")),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
