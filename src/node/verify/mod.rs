//! Verifies a member's directory: every file below `data/`, by replaying the log from genesis.
//!
//! Source: interface, `verify`. In: a member's directory, its genesis document. Out: [`Verdict`].
//! Holds: nothing in the directory is written, copies go to the system's folder for temporary
//! files; every fault names a file and a height; memory is bounded by the application's state, by
//! batches that no block names yet (up to a bound) and by a few dozen bytes per batch.
//! Elsewhere: frames and their checksums (`storage`), what follows from a block
//! (`consortium::ledger`).

mod archive;
mod base;
mod batches;
mod checks;
mod compare;
mod files;
mod findings;
mod kept;
mod locate;
mod replay;
mod rows;
mod snapshots;
mod tiles;
mod views;
mod votes;
mod walk;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

pub use self::archive::{VerifyArchive, archive_legacy, verify_archive};
use self::compare::{Compare, Opened};
use self::files::{Folder, Scratch};
use self::findings::{Findings, Place};
use self::kept::Kept;
pub use self::snapshots::{SnapshotFault, SnapshotVerdict, SnapshotsVerdict, verify_snapshots};
use self::walk::{Context, Walked};
use super::carried::{Carried, CarriedError};
use super::config::{Config, ConfigError};
use super::keys;
use super::shelf::has_checkpoint;
use crate::application::{Registry, RegistryError};
use crate::blocks::{Clients, Genesis, GenesisError, Parameters, Predecessor};
use crate::committee::{Height, ViewError};
use crate::crypto::{Digest, PublicKey};
use crate::storage::{LogError, ObjectsError, Store, TableError};

/// What is verified.
pub struct VerifyDir<'a> {
    /// The member's directory.
    pub dir: PathBuf,
    /// The chain.
    pub genesis: Genesis,
    /// Told how many bytes of the log are done, and how many there are.
    pub progress: &'a mut dyn FnMut(u64, u64),
}

/// What was found. The names are those of the interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether there is no fault.
    pub ok: bool,
    /// What makes a block final: its certificate.
    pub finality: &'static str,
    /// The highest block that the log holds and that follows from genesis.
    pub height: Height,
    /// Its header's digest.
    pub digest: Digest,
    /// The digest of the application's state after it.
    pub state_digest: Digest,
    /// Blocks that were read.
    pub blocks: u64,
    /// Views that the blocks made, view 0 counted.
    pub views: u64,
    /// Checkpoint blocks that were read.
    pub checkpoints: u64,
    /// Signatures that were checked.
    pub signatures: u64,
    /// How long it took.
    pub seconds: f64,
    /// Everything that is wrong, at most [`FAULTS_MAX`].
    pub faults: Vec<Fault>,
    /// What is worth knowing and no fault.
    pub notes: Vec<String>,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file, from the member's directory.
    pub file: String,
    /// The block that it is in; the one under way there where it is in no block; the last one that
    /// holds where the file is of no block.
    pub height: u64,
    /// What is wrong, and where in the file.
    pub what: String,
}

/// Faults that are told; what is beyond is counted in a note.
pub const FAULTS_MAX: usize = 1000;

/// Why there is no verdict. Nothing was changed in the directory.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The member's settings are wrong; the operator's fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nothing to verify; the operator named another directory.
    #[error("{dir} holds no data of a member")]
    NoData {
        /// The data directory.
        dir: PathBuf,
    },
    /// The genesis document is wrong; the operator's fault.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// No application has the name in the genesis document.
    #[error(transparent)]
    Application(#[from] RegistryError),
    /// The state that the ledger starts from is missing or another one.
    #[error(transparent)]
    Carried(#[from] CarriedError),
    /// The archive cannot be read.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// The archive has nothing of the chain; the operator named another one.
    #[error("the archive holds nothing of chain {chain}")]
    NothingArchived {
        /// The chain of the genesis document.
        chain: Digest,
    },
    /// A running member's log could not be read; stop it, or try again.
    #[error("{process} runs on {dir}, and its log cannot be read meanwhile: {source}")]
    Running {
        /// Who.
        process: String,
        /// The data directory.
        dir: PathBuf,
        /// What the log said.
        source: LogError,
    },
    /// The log's folder cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The tables' folder cannot be read, or not be copied.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// The system failed.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<ViewError> for VerifyError {
    fn from(error: ViewError) -> Self {
        GenesisError::from(error).into()
    }
}

/// Verifies the directory of a member, running or not.
///
/// On a running member a consistent prefix of the log is read and the tables are left alone; the
/// notes say so and name the process. Errors: [`VerifyError`].
pub fn verify_dir(options: VerifyDir<'_>) -> Result<Verdict, VerifyError> {
    look(options).map(|(verdict, _)| verdict)
}

/// What a ledger leaves to its successor.
#[derive(Debug)]
pub struct Legacy {
    /// Where it ended, as the successor names it.
    pub predecessor: Predecessor,
    /// The newest height with a certificate.
    pub certified: Height,
    /// Whether a process writes to the directory.
    pub is_running: bool,
    /// The parameters, as they were changed by vote.
    pub parameters: Parameters,
    /// Consensus keys that the chain certifies or has seated: they are of no use in a successor.
    pub keys: BTreeSet<PublicKey>,
    /// The state and the names that were used.
    pub carried: Carried,
}

/// As [`verify_dir`], and what the ledger leaves to a successor.
///
/// Errors: [`VerifyError`].
pub fn verify_legacy(options: VerifyDir<'_>) -> Result<(Verdict, Legacy), VerifyError> {
    let genesis = options.genesis.clone();
    let (verdict, walked) = look(options)?;
    Ok((verdict, legacy(&genesis, &walked)))
}

/// What the ledger that was walked leaves to a successor.
fn legacy(genesis: &Genesis, walked: &Walked) -> Legacy {
    let (ledger, application) = (walked.replay.ledger(), walked.replay.application());
    let (carried, register) = (Carried::of(ledger, application), ledger.register());
    let mut parameters = genesis.parameters.clone();
    let state_digest = carried.digest(&parameters.application, application);
    parameters.views = *register.rules();
    if let Some(clients) = register.clients() {
        parameters.clients = Clients::Listed(clients.iter().copied().collect());
    }
    let members = register.members().filter_map(|(_, m)| m.consensus());
    let seats = register.seats().iter().filter_map(|seat| seat.key);
    let founders = genesis.founders.iter();
    let founders = founders.filter_map(|f| f.consensus.map(|proof| proof.key));
    Legacy {
        predecessor: Predecessor {
            chain: genesis.chain(),
            height: walked.height,
            digest: walked.digest,
            state_digest,
        },
        certified: walked.certified.unwrap_or_default(),
        is_running: walked.is_running,
        keys: members.chain(seats).chain(founders).collect(),
        parameters,
        carried,
    }
}

/// The verdict, and what the replay led to.
fn look(options: VerifyDir<'_>) -> Result<(Verdict, Walked), VerifyError> {
    let started = Instant::now();
    let VerifyDir {
        dir,
        genesis,
        progress,
    } = options;
    let (context, name) = context(&dir, genesis)?;
    let data = dir.join(&name);
    let look = Look {
        context: &context,
        dir: &dir,
        data: &data,
        name: &name,
    };
    let is_running = Store::is_owned(&data);
    let (mut verdict, mut walked) = look.verdict(is_running, progress)?;
    if !is_running && !verdict.ok && Store::is_owned(&data) {
        // It was started meanwhile and wrote while we read: what was found may be its writing.
        (verdict, walked) = look.verdict(true, progress)?;
    }
    verdict.seconds = started.elapsed().as_secs_f64();
    Ok((verdict, walked))
}

/// What the member in `dir` is checked against, and the name of its data directory.
fn context(dir: &Path, genesis: Genesis) -> Result<(Context, PathBuf), VerifyError> {
    let config = Config::load(dir)?;
    let data = dir.join(&config.data);
    if !data.is_dir() {
        return Err(VerifyError::NoData { dir: data });
    }
    let registry = Registry::standard()?;
    let make = registry.get(&genesis.parameters.application)?.make;
    let context = Context {
        founders: genesis.view()?,
        bounds: genesis.parameters.bounds(),
        make,
        carried: Carried::load(&genesis, &dir.join(&config.genesis), make)?,
        genesis,
    };
    Ok((context, config.data))
}

/// One look at a directory.
struct Look<'a> {
    context: &'a Context,
    dir: &'a Path,
    data: &'a Path,
    /// The data directory as faults name it.
    name: &'a Path,
}

impl Look<'_> {
    fn verdict(
        &self,
        is_running: bool,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Verdict, Walked), VerifyError> {
        let mut findings = Findings::default();
        let folder = Folder {
            dir: self.dir,
            data: self.data,
            is_running,
        };
        let store = folder.look(&mut findings)?;
        let process = files::owner(self.data);
        if is_running {
            findings.note(format!(
                "{process} runs on this directory: the log was read as far as it is written, the \
                 tables were not looked at"
            ));
        }
        let scratch = Scratch::new()?;
        let compare = match is_running {
            true => None,
            false => self.tables(&scratch, &mut findings)?,
        };
        let kept = Kept::look(self.context, self.data, is_running, &mut findings);
        let mut walked = match store {
            None => Walked::nothing(self.context),
            Some(store) => {
                let log = walk::Log {
                    dir: self.data.join("log"),
                    store,
                    is_running,
                };
                let beside = (compare, &kept);
                let walked = walk::walk(self.context, &log, beside, &mut findings, progress);
                let walked = walked.map_err(|source| self.unreadable(source, is_running))?;
                locate::places(&log, &mut findings)
                    .map_err(|source| self.unreadable(source, is_running))?;
                walked
            }
        };
        walked.is_running = is_running;
        let verdict = settle(&walked, findings, self.name);
        Ok((verdict, walked))
    }

    /// Checks the tables' files, and opens a copy of them when they are whole.
    fn tables(
        &self,
        scratch: &Scratch,
        findings: &mut Findings,
    ) -> Result<Option<Compare>, VerifyError> {
        let tables = (&*self.data.join("tables"), has_checkpoint(self.data));
        let opened = compare::open(tables, scratch, findings)?;
        Ok(match opened {
            Opened::Ready(compare) => Some(*compare),
            Opened::Damaged => {
                findings.note("the tables' rows were not compared: their files are damaged");
                None
            }
            Opened::Unfilled => {
                findings.note("the tables were not filled to their end; a start fills them anew");
                None
            }
            Opened::Absent => {
                findings.note("there are no tables; a start makes them again from the log");
                None
            }
        })
    }

    fn unreadable(&self, source: LogError, is_running: bool) -> VerifyError {
        if !is_running {
            return source.into();
        }
        VerifyError::Running {
            process: files::owner(self.data),
            dir: self.data.into(),
            source,
        }
    }
}

/// The verdict on what was read; the names of `findings` are those of files in `folder`.
fn settle(walked: &Walked, findings: Findings, folder: &Path) -> Verdict {
    let (found, mut notes) = findings.into_parts();
    let tip = walked.height;
    if let Some(certified) = walked.certified
        && certified < tip
    {
        let first = certified.next();
        notes.push(format!(
            "heights {first} to {tip} have no certificate of their own yet"
        ));
    }
    let faults: Vec<Fault> = found
        .into_iter()
        .map(|finding| Fault {
            file: folder.join(&finding.file).display().to_string(),
            height: match finding.place {
                Place::Height(height) => height.0,
                Place::Tip | Place::At(_) | Place::Batch(..) => tip.0,
            },
            what: finding.what,
        })
        .collect();
    Verdict {
        ok: faults.is_empty(),
        finality: "certificate",
        height: tip,
        digest: walked.digest,
        state_digest: walked.state_digest,
        blocks: walked.blocks,
        views: walked.views,
        checkpoints: walked.checkpoints,
        signatures: walked.signatures,
        seconds: 0.0,
        faults,
        notes,
    }
}

#[cfg(test)]
pub(crate) mod tests;
