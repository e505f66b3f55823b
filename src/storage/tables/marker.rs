//! The file that says which engine made a directory of tables, and the place of each table's name.
//!
//! Source: none. In: an engine and names. Out: the names in their places. Holds: another engine or
//! a newer format never touches the directory; a name keeps its place. Elsewhere: what the place is
//! for (`checked`).

use std::fs;
use std::io;
use std::path::Path;

use super::super::store::write_durably;
use super::{TableError, failed};

/// The name of the file.
pub(super) const MARKER_FILE: &str = "ENGINE";
const HEAD: &str = "consortium tables";
const TABLES_MAX: usize = 255;

/// Reads or makes the marker of `dir`; gives every name in its place, those of `tables` among them.
pub(super) fn check(
    dir: &Path,
    (engine, version): (&'static str, u32),
    tables: &[String],
) -> Result<Vec<String>, TableError> {
    fs::create_dir_all(dir).map_err(failed(engine, "make the folder"))?;
    let path = dir.join(MARKER_FILE);
    let (known, made_by) = match fs::read(&path) {
        Ok(text) => {
            let marker = Marker::parse(&text).ok_or_else(|| TableError::Damaged {
                place: path.display().to_string(),
                what: "the marker does not match its checksum".into(),
            })?;
            marker.admit(dir, engine, version)?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), version),
        Err(error) => return Err(failed(engine, "read the marker")(error)),
    };
    let mut names = known.clone();
    for name in tables.iter().filter(|name| !known.contains(name)) {
        assert!(
            !name.is_empty() && !name.contains('\n'),
            "a table's name is one line"
        );
        names.push(name.clone());
    }
    if names.len() > TABLES_MAX {
        let (bytes, bytes_max) = (names.len(), TABLES_MAX);
        return Err(TableError::TooLarge {
            what: "number of tables",
            bytes,
            bytes_max,
        });
    }
    if names != known || known.is_empty() || made_by < version {
        let marker = Marker {
            engine: engine.into(),
            version,
            names: names.clone(),
        };
        write_durably(dir, MARKER_FILE, marker.text().as_bytes())
            .map_err(failed(engine, "write the marker"))?;
    }
    Ok(names)
}

/// The engine that made `dir`; none when there is no marker.
pub(super) fn read(dir: &Path) -> Result<Option<String>, TableError> {
    let path = dir.join(MARKER_FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("marker", "read")(error)),
    };
    match Marker::parse(&text) {
        Some(marker) => Ok(Some(marker.engine)),
        None => Err(TableError::Damaged {
            place: path.display().to_string(),
            what: "the marker does not match its checksum".into(),
        }),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Marker {
    engine: String,
    version: u32,
    names: Vec<String>,
}

impl Marker {
    fn text(&self) -> String {
        let mut text = format!("{HEAD} {}\nengine {}\n", self.version, self.engine);
        for name in &self.names {
            text.push_str(&format!("table {name}\n"));
        }
        let sum = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("sum {sum:08x}\n"));
        text
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.lines();
        let version = lines
            .next()?
            .strip_prefix(HEAD)?
            .trim_start()
            .parse()
            .ok()?;
        let engine = lines.next()?.strip_prefix("engine ")?.to_owned();
        let names = lines
            .map_while(|line| line.strip_prefix("table "))
            .map(str::to_owned);
        let marker = Self {
            engine,
            version,
            names: names.collect(),
        };
        (marker.text() == text).then_some(marker)
    }

    fn admit(
        self,
        dir: &Path,
        engine: &'static str,
        version: u32,
    ) -> Result<(Vec<String>, u32), TableError> {
        let dir = dir.display().to_string();
        if self.engine != engine {
            let asked = engine.into();
            return Err(TableError::OtherEngine {
                dir,
                found: self.engine,
                asked,
            });
        }
        if self.version > version {
            let (engine, found, known) = (self.engine, self.version, version);
            return Err(TableError::Newer {
                dir,
                engine,
                found,
                known,
            });
        }
        Ok((self.names, self.version))
    }
}
