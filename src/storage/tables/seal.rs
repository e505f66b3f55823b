//! A checksum of every stretch of every file, written when tables are closed in good order.
//!
//! Source: interface, `verify`. In: a closed directory of tables. Out: the seal, or what differs
//! from it. Holds: a sealed directory shows any flipped bit, also where the engine itself would not
//! look; a seal is durably gone before an engine may write. Elsewhere: the checksum of each value
//! (`checked`), which serves when there is no seal.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::super::store::{draft, sync_dir, write_durably};

const SEAL_FILE: &str = "SEAL";
const HEAD: &str = "consortium seal 1";
/// How much of a file one checksum covers; a flipped bit is named to within this.
const STRETCH_BYTES: usize = 64 * 1024;
/// Larger directories are left unsealed, so that closing them stays quick.
const SEALED_BYTES_MAX: u64 = 4 << 30;

/// Length and checksums of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sums {
    bytes: u64,
    sums: Vec<u32>,
}

/// What differs from a seal: file, offset, and how.
pub(super) type Difference = (String, u64, String);

/// Removes the seal, durably: from now on files may change.
pub(super) fn break_open(dir: &Path) -> io::Result<()> {
    match remove(&dir.join(SEAL_FILE))? {
        true => sync_dir(dir),
        false => Ok(()),
    }
}

/// Removes a file that may not be there; gives whether it was.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Seals the files in `dir`, which nobody may have open; gives whether it did.
pub(super) fn write(dir: &Path) -> io::Result<bool> {
    // A draft whose sync failed is no file of the tables: it goes when the seal takes its name.
    remove(&draft(dir, SEAL_FILE))?;
    let mut files = BTreeMap::new();
    sum_folder(dir, "", &mut files)?;
    if files.values().map(|sums| sums.bytes).sum::<u64>() > SEALED_BYTES_MAX {
        return Ok(false);
    }
    write_durably(dir, SEAL_FILE, text(&files).as_bytes())?;
    Ok(true)
}

/// Compares the files in `dir` with its seal; none when there is no seal.
pub(super) fn compare(dir: &Path) -> io::Result<Option<Vec<Difference>>> {
    let sealed = match fs::read(dir.join(SEAL_FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(sealed) = parse(&sealed) else {
        let what = "the seal does not match its checksum";
        return Ok(Some(vec![(SEAL_FILE.into(), 0, what.into())]));
    };
    let mut found = BTreeMap::new();
    sum_folder(dir, "", &mut found)?;
    let mut differences = Vec::new();
    for (name, sums) in &sealed {
        match found.remove(name) {
            None => differences.push((name.clone(), 0, "the file is missing".into())),
            Some(now) => differences.extend(difference(name, sums, &now)),
        }
    }
    for name in found.into_keys() {
        differences.push((
            name,
            0,
            "the file was not there when the tables were closed".into(),
        ));
    }
    Ok(Some(differences))
}

fn difference(name: &str, sealed: &Sums, now: &Sums) -> Option<Difference> {
    let both = sealed.sums.iter().zip(&now.sums);
    let at = both.take_while(|(sealed, now)| sealed == now).count();
    let offset = at as u64 * STRETCH_BYTES as u64;
    if sealed.bytes != now.bytes {
        let what = format!(
            "{} bytes long, {} when the tables were closed",
            now.bytes, sealed.bytes
        );
        return Some((name.into(), offset.min(now.bytes), what));
    }
    let what = format!("the {STRETCH_BYTES} bytes from here differ from their checksum");
    (at < sealed.sums.len()).then_some((name.into(), offset, what))
}

fn sum_folder(dir: &Path, below: &str, files: &mut BTreeMap<String, Sums>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            sum_folder(&entry.path(), &format!("{name}/"), files)?;
        } else if name != SEAL_FILE {
            files.insert(name, sum_file(&entry.path())?);
        }
    }
    Ok(())
}

fn sum_file(path: &Path) -> io::Result<Sums> {
    let mut file = File::open(path)?;
    let mut stretch = Vec::with_capacity(STRETCH_BYTES);
    let mut sums = Sums::default();
    loop {
        stretch.clear();
        (&mut file)
            .take(STRETCH_BYTES as u64)
            .read_to_end(&mut stretch)?;
        if stretch.is_empty() {
            return Ok(sums);
        }
        sums.bytes += stretch.len() as u64;
        sums.sums.push(crc32c::crc32c(&stretch));
    }
}

fn text(files: &BTreeMap<String, Sums>) -> String {
    let mut text = format!("{HEAD}\n");
    for (name, Sums { bytes, sums }) in files {
        let sums: String = sums.iter().map(|sum| format!("{sum:08x}")).collect();
        text.push_str(&format!("{bytes} {sums} {name}\n"));
    }
    let sum = crc32c::crc32c(text.as_bytes());
    text.push_str(&format!("{sum:08x}\n"));
    text
}

fn parse(bytes: &[u8]) -> Option<BTreeMap<String, Sums>> {
    let sealed = std::str::from_utf8(bytes).ok()?;
    let (_, lines) = sealed.split_once('\n')?;
    let mut files = BTreeMap::new();
    for line in lines.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(bytes), Some(sums), Some(name)) = (words.next(), words.next(), words.next())
        else {
            break; // the last line, which is the checksum of the others
        };
        let (sums, _) = sums.as_bytes().as_chunks::<8>();
        let sums = sums
            .iter()
            .map(|sum| u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok());
        let sums = Sums {
            bytes: bytes.parse().ok()?,
            sums: sums.collect::<Option<_>>()?,
        };
        files.insert(name.to_owned(), sums);
    }
    // Comparing the whole text finds a flipped bit anywhere in it.
    (text(&files) == sealed).then_some(files)
}
