//! Key files of one member: made, read, bound to one vote log, erased.
//!
//! Source: design, 'identities and keys'. In: a member's directory. Out: secrets.
//! Holds: secrets are 0600 in a 0700 directory and wider is refused; a consensus key is used with
//! one vote log only; an erased secret was overwritten, synced, unlinked and its folder synced.
//! Elsewhere: which key a view wants and when one is erased (`seat_keys`), who may sign
//! (`committee::voter`).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::blocks::{Call, Founder};
use crate::committee::{KeyProof, MemberId, ViewId};
use crate::crypto::{Digest, SecretKey};
use crate::storage::StoreId;

/// The permanent key: who a member is.
pub const IDENTITY_FILE: &str = "identity.key";
/// The key that votes.
pub const CONSENSUS_FILE: &str = "consensus.key";
/// The key that was made for the view to come; it takes the other's place when that begins.
pub const NEXT_FILE: &str = "next.key";

const IDENTITY_HEAD: &str = "consortium identity key 1";
const CONSENSUS_HEAD: &str = "consortium consensus key 1";
/// No key file is longer, in bytes.
const FILE_BYTES_MAX: u64 = 512;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is not there.
    #[error("{path} is missing; 'consortium key generate --dir' makes the keys of a new member")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is there already; nothing was changed.
    #[error("{path} exists; a member's keys are made once")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read it. The operator is at fault; nothing was read.
    #[error("{path} has permissions {mode:04o}: others may read it; type: chmod {want:o} {path}")]
    Permissions {
        /// The file or folder.
        path: PathBuf,
        /// What it has.
        mode: u32,
        /// What it may have.
        want: u32,
    },
    /// The file is not as it was written.
    #[error("{path} is no key file: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The environment failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The key that votes, and the one log that its votes stand in.
#[derive(Debug)]
pub struct Consensus {
    /// The key.
    pub secret: SecretKey,
    /// The store of the vote log.
    pub store: StoreId,
    /// Whether it may have voted: from then on it is unusable without that log.
    pub is_bound: bool,
    /// What it was made for; nothing for one that came with an admission.
    pub call: Option<Call>,
}

/// Makes the keys of a new member in `dir`, and gives its public file.
///
/// Errors: [`KeyError::Exists`] when there is a key already, [`KeyError::Io`].
pub fn generate(dir: &Path, name: &str, address: &str) -> Result<Founder, KeyError> {
    make_private(dir)?;
    let (identity, consensus) = (fresh_secret(dir)?, fresh_secret(dir)?);
    write_identity(dir, &identity)?;
    write_consensus(
        &dir.join(CONSENSUS_FILE),
        &consensus,
        fresh_store(dir)?,
        None,
    )?;
    Ok(founder(&identity, &consensus, name, address))
}

/// The public file of the member in `dir`.
///
/// Errors: as [`identity`] and [`consensus`].
pub fn show(dir: &Path, name: &str, address: &str) -> Result<Founder, KeyError> {
    let (identity, consensus) = (identity(dir)?, consensus(dir)?);
    Ok(founder(&identity, &consensus.secret, name, address))
}

/// Replaces the consensus keys by a fresh one, and erases the old ones. It belongs to the vote log
/// `store`, or else to one that is made with it.
///
/// The chain must certify the new key before it votes. Errors: [`KeyError`].
pub fn rotate(dir: &Path, store: Option<StoreId>) -> Result<Consensus, KeyError> {
    check_private(dir, 0o700)?;
    for name in [NEXT_FILE, CONSENSUS_FILE] {
        let path = dir.join(name);
        if path.exists() {
            erase(&path)?;
        }
    }
    let store = store.map_or_else(|| fresh_store(dir), Ok)?;
    write_consensus(&dir.join(CONSENSUS_FILE), &fresh_secret(dir)?, store, None)?;
    consensus(dir)
}

/// Makes the key that answers `call`, for the vote log `store`. One that answered another call is
/// erased: its committee is never seated.
///
/// Errors: [`KeyError`].
pub fn make_next(dir: &Path, store: StoreId, call: Call) -> Result<SecretKey, KeyError> {
    let path = dir.join(NEXT_FILE);
    if path.exists() {
        erase(&path)?;
    }
    let secret = fresh_secret(dir)?;
    write_consensus(&path, &secret, store, Some(call))?;
    Ok(secret)
}

/// Erases the consensus key and puts the one in its place that was made for the view.
///
/// Errors: [`KeyError`].
pub fn take_next(dir: &Path) -> Result<(), KeyError> {
    let (from, to) = (dir.join(NEXT_FILE), dir.join(CONSENSUS_FILE));
    if to.exists() {
        erase(&to)?;
    }
    let renamed = fs::rename(&from, &to).and_then(|()| sync_folder_of(&to));
    renamed.map_err(failed(&from))
}

fn founder(identity: &SecretKey, consensus: &SecretKey, name: &str, address: &str) -> Founder {
    // A founder's proofs speak of no chain: the chain's name is made of them.
    let proof = KeyProof::make(&Digest::ZERO, ViewId(0), &Digest::ZERO, identity, consensus);
    Founder {
        name: name.into(),
        identity: identity.public(),
        consensus: Some(proof),
        address: address.into(),
    }
}

/// The identity key in `dir`.
///
/// Errors: [`KeyError::Missing`], [`KeyError::Permissions`], [`KeyError::Damaged`].
pub fn identity(dir: &Path) -> Result<SecretKey, KeyError> {
    check_private(dir, 0o700)?;
    let path = dir.join(IDENTITY_FILE);
    let text = read_secret(&path)?;
    let fields = Fields::of(&path, &text, IDENTITY_HEAD)?;
    fields.secret()
}

/// The member that the identity key in `dir` is.
///
/// Errors: as [`identity`].
pub fn member(dir: &Path) -> Result<MemberId, KeyError> {
    identity(dir).map(|secret| MemberId::of(&secret.public()))
}

/// The consensus key in `dir`.
///
/// Errors: as [`identity`].
pub fn consensus(dir: &Path) -> Result<Consensus, KeyError> {
    check_private(dir, 0o700)?;
    read_consensus(dir.join(CONSENSUS_FILE))
}

/// The consensus keys in `dir`: the one that votes, and the one for the view to come. What a crash
/// left of one that was being erased is removed.
///
/// Errors: as [`identity`], but that a key may be missing.
pub fn held(dir: &Path) -> Result<[Option<Consensus>; 2], KeyError> {
    check_private(dir, 0o700)?;
    let read = |name: &str| match read_remains(dir.join(name)) {
        Ok(key) => Ok(Some(key)),
        Err(KeyError::Missing { .. }) => Ok(None),
        Err(other) => Err(other),
    };
    Ok([read(CONSENSUS_FILE)?, read(NEXT_FILE)?])
}

fn read_remains(path: PathBuf) -> Result<Consensus, KeyError> {
    let text = fs::read(&path).map(Zeroizing::new);
    let text = text.map_err(missing_or_failed(&path))?;
    // Overwritten, and the power went before it was unlinked.
    if text.iter().all(|byte| *byte == 0) {
        erase(&path)?;
        return Err(KeyError::Missing { path });
    }
    read_consensus(path)
}

fn read_consensus(path: PathBuf) -> Result<Consensus, KeyError> {
    let text = read_secret(&path)?;
    let fields = Fields::of(&path, &text, CONSENSUS_HEAD)?;
    let mut store = [0; 16];
    hex::decode_to_slice(fields.get("store")?, &mut store).map_err(|_| KeyError::Damaged {
        path: path.clone(),
        what: "its store is not 32 hex digits",
    })?;
    let is_bound = match fields.get("bound")? {
        "yes" => true,
        "no " => false,
        _ => {
            let what = "'bound' is neither yes nor no";
            return Err(KeyError::Damaged { path, what });
        }
    };
    Ok(Consensus {
        secret: fields.secret()?,
        store: StoreId(store),
        is_bound,
        call: fields.call()?,
    })
}

/// Notes, durably, that the consensus key may vote from now on.
///
/// Only after this is durable may a vote leave. Errors: [`KeyError::Io`], [`KeyError::Damaged`].
pub fn bind(dir: &Path) -> Result<(), KeyError> {
    let path = dir.join(CONSENSUS_FILE);
    let text = read_secret(&path)?;
    let mark = "\nbound no ";
    let Some(place) = text.find(mark) else {
        return Ok(());
    };
    let at = (place + mark.len() - 3) as u64;
    let write = || {
        let file = OpenOptions::new().write(true).open(&path)?;
        // Three bytes in place: the secret is never copied, and a torn write is found at reading.
        file.write_all_at(b"yes", at)?;
        file.sync_all()
    };
    write().map_err(failed(&path))
}

/// Overwrites `path`, syncs, unlinks it and syncs its folder.
///
/// Errors: [`KeyError::Io`].
pub fn erase(path: &Path) -> Result<(), KeyError> {
    let wipe = || {
        let file = OpenOptions::new().write(true).open(path)?;
        let length = usize::try_from(file.metadata()?.len().min(FILE_BYTES_MAX));
        file.write_all_at(&vec![0; length.unwrap_or_default()], 0)?;
        file.sync_all()?;
        fs::remove_file(path)?;
        sync_folder_of(path)
    };
    wipe().map_err(failed(path))
}

/// 32 bytes from the operating system, for keys and for seeds.
///
/// Errors: what the system said.
pub fn entropy() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let drawn = SysRng.try_fill_bytes(&mut bytes);
    drawn.map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

fn fresh_secret(dir: &Path) -> Result<SecretKey, KeyError> {
    let seed = entropy().map(Zeroizing::new).map_err(failed(dir))?;
    let lent: &[u8; 32] = &seed;
    Ok(SecretKey::from_seed(lent))
}

fn fresh_store(dir: &Path) -> Result<StoreId, KeyError> {
    let bytes = entropy().map_err(failed(dir))?;
    let (half, _) = bytes.split_at(16);
    Ok(StoreId(half.try_into().expect("half of 32 bytes is 16")))
}

fn write_identity(dir: &Path, secret: &SecretKey) -> Result<(), KeyError> {
    let text = with_secret(&format!("{IDENTITY_HEAD}\n"), secret);
    write_secret(&dir.join(IDENTITY_FILE), text)
}

/// A key that answers a call is of the log that runs: it is bound to it from the start.
fn write_consensus(
    path: &Path,
    secret: &SecretKey,
    store: StoreId,
    call: Option<Call>,
) -> Result<(), KeyError> {
    let bound = match call {
        Some(Call { next, assemble }) => format!("bound yes\ncall {} {assemble}", next.0),
        None => "bound no ".into(),
    };
    let head = format!("{CONSENSUS_HEAD}\nstore {store}\n{bound}\n");
    write_secret(path, with_secret(&head, secret))
}

/// A key file: `head`, and the seed as hex. It never grows, so no part of it is left elsewhere.
fn with_secret(head: &str, secret: &SecretKey) -> Zeroizing<String> {
    let seed = Zeroizing::new(hex::encode(secret.seed()));
    let mut text = Zeroizing::new(String::with_capacity(head.len() + 2 * seed.len()));
    for part in [head, "secret ", &seed, "\n"] {
        text.push_str(part);
    }
    text
}

/// A file is there whole or not at all; what a crash leaves of the other name is overwritten by the
/// next.
fn write_secret(path: &Path, text: Zeroizing<String>) -> Result<(), KeyError> {
    if path.exists() {
        return Err(KeyError::Exists { path: path.into() });
    }
    let new = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_folder_of(path)
    };
    write().map_err(failed(path))
}

fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let mut file = File::open(path).map_err(missing_or_failed(path))?;
    check_private(path, 0o600)?;
    // With room for all of it, so that no part of it is left where the text grew out of.
    let room = usize::try_from(FILE_BYTES_MAX).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(room));
    let mut read = Read::by_ref(&mut file).take(FILE_BYTES_MAX);
    read.read_to_string(&mut text).map_err(failed(path))?;
    Ok(text)
}

/// Makes `dir` for its owner alone; an existing one must be so already.
fn make_private(dir: &Path) -> Result<(), KeyError> {
    if dir.is_dir() {
        return check_private(dir, 0o700);
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(failed(dir))
}

fn check_private(path: &Path, want: u32) -> Result<(), KeyError> {
    let found = fs::metadata(path).map_err(missing_or_failed(path))?;
    let mode = found.permissions().mode() & 0o777;
    if mode & !want != 0 {
        let path = path.into();
        return Err(KeyError::Permissions { path, mode, want });
    }
    Ok(())
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn missing_or_failed(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| {
        if source.kind() == io::ErrorKind::NotFound {
            return KeyError::Missing { path };
        }
        KeyError::Io { path, source }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::Io { path, source }
}

/// The lines of a key file: a head, then `name value`.
struct Fields<'a> {
    path: &'a Path,
    lines: Vec<(&'a str, &'a str)>,
}

impl<'a> Fields<'a> {
    fn of(path: &'a Path, text: &'a str, head: &str) -> Result<Self, KeyError> {
        let mut lines = text.lines();
        if lines.next() != Some(head) {
            let (path, what) = (path.into(), "its first line is another");
            return Err(KeyError::Damaged { path, what });
        }
        let lines = lines.filter_map(|line| line.split_once(' ')).collect();
        Ok(Self { path, lines })
    }

    fn get(&self, name: &str) -> Result<&'a str, KeyError> {
        let found = self.lines.iter().find(|(key, _)| *key == name);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| KeyError::Damaged {
                path: self.path.into(),
                what: "a line is missing",
            })
    }

    fn call(&self) -> Result<Option<Call>, KeyError> {
        let Ok(text) = self.get("call") else {
            return Ok(None);
        };
        let read = || {
            let (next, assemble) = text.split_once(' ')?;
            let (next, assemble) = (next.parse().ok()?, assemble.parse().ok()?);
            let next = ViewId(next);
            Some(Call { next, assemble })
        };
        read().map(Some).ok_or_else(|| KeyError::Damaged {
            path: self.path.into(),
            what: "its call is not a view and a digest",
        })
    }

    fn secret(&self) -> Result<SecretKey, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        hex::decode_to_slice(self.get("secret")?, &mut *seed).map_err(|_| KeyError::Damaged {
            path: self.path.into(),
            what: "its secret is not 64 hex digits",
        })?;
        let lent: &[u8; 32] = &seed;
        Ok(SecretKey::from_seed(lent))
    }
}
