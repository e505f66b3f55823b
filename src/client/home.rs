//! The client's home: key files, and the signed bytes of submissions that have an id.
//!
//! Source: `docs/cli.md`, client keys. In: names, ids. Out: secrets, signed groups.
//! Holds: secrets are 0600 in a 0700 folder, wider is refused; for one (chain, client, id) one
//! group is ever signed here, and any process of this home sends those bytes.
//! Elsewhere: members' keys (`node::keys`), what a sequence means to the ledger.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ClientError;
use crate::blocks::{SignedGroup, Transaction};
use crate::committee::Height;
use crate::crypto::{Digest, Domain, Hasher, PublicKey, SecretKey};

/// Bytes of the id of a submission, at most.
pub const ID_BYTES_MAX: usize = 128;
/// Kept ids of one chain, at most; when full, those that expired go, then new ones are refused.
pub const IDS_MAX: usize = 65_536;

const KEY_HEAD: &str = "consortium client key 1";
/// No key file is longer, in bytes.
const KEY_BYTES_MAX: u64 = 256;

/// A folder of client keys and ids.
#[derive(Clone, Debug)]
pub struct Home {
    folder: PathBuf,
}

/// A signed group that is kept under an id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The id as the user gave it.
    pub id: String,
    /// The client's name for the transaction.
    pub sequence: u64,
    /// The last height at which it may execute.
    pub expiry: Height,
    /// The digest of the operation: another one under this id is a conflict.
    pub operation: Digest,
    /// What is sent, again and again the same.
    pub group: SignedGroup,
}

impl Home {
    /// `$CONSORTIUM_HOME`, or `.consortium` in the user's home.
    ///
    /// Errors: [`ClientError::Home`] where neither is set.
    pub fn from_environment() -> Result<Self, ClientError> {
        let given = std::env::var_os("CONSORTIUM_HOME").map(PathBuf::from);
        let usual = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".consortium"));
        match given.filter(|p| !p.as_os_str().is_empty()).or_else(usual) {
            Some(folder) => Ok(Self { folder }),
            None => Err(ClientError::Home {
                path: "~/.consortium".into(),
                reason: "neither CONSORTIUM_HOME nor HOME is set".into(),
            }),
        }
    }

    /// The home in `folder`.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self { folder }
    }

    /// The key called `name`; made on first use, by whichever process is first.
    ///
    /// Errors: [`ClientError::Home`].
    pub fn key(&self, name: &str) -> Result<SecretKey, ClientError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(fits) {
            let reason = "a key's name is 1 to 64 letters, digits, - _ . @".into();
            let path = name.into();
            return Err(ClientError::Home { path, reason });
        }
        make_private(&self.folder)?;
        let path = self.folder.join(format!("{name}.key"));
        if !path.exists() {
            let mut seed = Zeroizing::new([0; 32]);
            let drawn = SysRng.try_fill_bytes(&mut *seed);
            drawn.map_err(|error| failed(&path)(io::Error::other(error.to_string())))?;
            let digits = Zeroizing::new(hex::encode(*seed));
            let text = Zeroizing::new(format!("{KEY_HEAD}\nsecret {}\n", *digits));
            place(&path, text.as_bytes()).map_err(failed(&path))?;
        }
        read_key(&path)
    }

    /// The group kept for `id`, if there is one.
    ///
    /// Errors: [`ClientError::Home`].
    pub fn kept(
        &self,
        chain: &Digest,
        client: &PublicKey,
        id: &str,
    ) -> Result<Option<Kept>, ClientError> {
        let path = self.id_path(chain, client, id);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path)(error)),
        };
        let damaged = |error: serde_json::Error| ClientError::Home {
            path: path.clone(),
            reason: format!("not as it was written: {error}"),
        };
        serde_json::from_str(&text).map(Some).map_err(damaged)
    }

    /// Keeps `fresh` unless another process was first; gives what is kept from now on.
    ///
    /// `present` is the chain's height: what expired below it may go where the folder is full.
    /// Errors: [`ClientError::Home`].
    pub fn keep(
        &self,
        chain: &Digest,
        client: &PublicKey,
        fresh: Kept,
        present: Height,
    ) -> Result<Kept, ClientError> {
        make_private(&self.folder)?;
        let path = self.id_path(chain, client, &fresh.id);
        let folder = path.parent().expect("an id's path names a folder");
        make_private(folder)?;
        self.make_room(folder, present)?;
        let text = serde_json::to_string_pretty(&fresh);
        let text = text.expect("a group of digests and hex has a JSON form") + "\n";
        place(&path, text.as_bytes()).map_err(failed(&path))?;
        let kept = self.kept(chain, client, &fresh.id)?;
        Ok(kept.unwrap_or(fresh))
    }

    fn id_path(&self, chain: &Digest, client: &PublicKey, id: &str) -> PathBuf {
        let name = id_digest(client, id);
        let ids = self.folder.join("ids").join(chain.to_string());
        ids.join(format!("{name}.json"))
    }

    fn make_room(&self, folder: &Path, present: Height) -> Result<(), ClientError> {
        let paths: Vec<PathBuf> = fs::read_dir(folder)
            .map_err(failed(folder))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .collect();
        if paths.len() < IDS_MAX {
            return Ok(());
        }
        let mut freed = false;
        for path in paths {
            let kept: Option<Kept> = fs::read_to_string(&path)
                .ok()
                .and_then(|text| serde_json::from_str(&text).ok());
            // The ledger forgets at expiry; a file without its group is of no use to anybody.
            if kept.is_none_or(|kept| kept.expiry < present) {
                fs::remove_file(&path).map_err(failed(&path))?;
                freed = true;
            }
        }
        if freed {
            return Ok(());
        }
        Err(ClientError::Home {
            path: folder.into(),
            reason: format!("holds {IDS_MAX} ids that have not expired; use another home"),
        })
    }
}

/// The sequence that stands for `id`.
pub fn sequence_of(client: &PublicKey, id: &str) -> u64 {
    let digest = id_digest(client, id);
    let (first, _) = digest.as_bytes().split_at(8);
    u64::from_le_bytes(first.try_into().expect("eight bytes were split off"))
}

fn id_digest(client: &PublicKey, id: &str) -> Digest {
    let mut hasher = Hasher::new(Domain::Operation);
    hasher.update(b"id\0").update(client.as_bytes());
    hasher.update(id.as_bytes()).finish()
}

/// A sequence that no other process draws.
pub(crate) fn random_sequence() -> io::Result<u64> {
    let mut bytes = [0; 8];
    let drawn = SysRng.try_fill_bytes(&mut bytes);
    drawn.map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u64::from_le_bytes(bytes))
}

impl Kept {
    /// What `transaction`, signed as `group`, is kept as under `id`.
    pub fn new(id: &str, transaction: &Transaction, group: SignedGroup) -> Self {
        Self {
            id: id.into(),
            sequence: transaction.sequence,
            expiry: transaction.expiry,
            operation: transaction.digest(),
            group,
        }
    }
}

fn read_key(path: &Path) -> Result<SecretKey, ClientError> {
    let damaged = |reason: &str| ClientError::Home {
        path: path.into(),
        reason: reason.into(),
    };
    let mut file = File::open(path).map_err(failed(path))?;
    let mode = file.metadata().map_err(failed(path))?.permissions().mode() & 0o777;
    if mode & !0o600 != 0 {
        return Err(damaged(&format!(
            "mode {mode:04o} lets others read it; type: chmod 600 {}",
            path.display()
        )));
    }
    let mut text = Zeroizing::new(String::new());
    let mut bounded = Read::by_ref(&mut file).take(KEY_BYTES_MAX);
    bounded.read_to_string(&mut text).map_err(failed(path))?;
    let mut lines = text.lines();
    if lines.next() != Some(KEY_HEAD) {
        return Err(damaged("is no client key: its first line is another"));
    }
    let digits = lines.next().and_then(|line| line.strip_prefix("secret "));
    let mut seed = Zeroizing::new([0; 32]);
    match digits.map(|digits| hex::decode_to_slice(digits, &mut *seed)) {
        Some(Ok(())) => Ok(SecretKey::from_seed(*seed)),
        Some(Err(_)) | None => Err(damaged("its secret is not 64 hex digits")),
    }
}

/// Writes a whole new file under `path`, unless there is one already.
fn place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let number = random_sequence()?;
    let draft = path.with_extension(format!("{number:016x}.draft"));
    let write = || {
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft);
        let mut file = opened?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // A link never replaces: of two processes one is first, and both then read its file.
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    };
    let written = write();
    let removed = fs::remove_file(&draft);
    written?;
    removed?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Makes `folder` for its owner alone; an existing one must be so already.
fn make_private(folder: &Path) -> Result<(), ClientError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(failed(folder))?;
    let found = fs::metadata(folder).map_err(failed(folder))?;
    let mode = found.permissions().mode() & 0o777;
    if mode & !0o700 != 0 {
        return Err(ClientError::Home {
            path: folder.into(),
            reason: format!(
                "mode {mode:04o} lets others in; type: chmod 700 {}",
                folder.display()
            ),
        });
    }
    Ok(())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ClientError {
    let path = path.to_owned();
    move |error| ClientError::Home {
        path,
        reason: error.to_string(),
    }
}
