//! `restore`: the successor of a ledger whose view is dead, from what one member or an archive has.
//!
//! Source: `docs/cli.md`, design of views. In: a member's folder or an archive, founders' public
//! files. Out: a genesis document that names where it goes on from, and the state beside it.
//! Holds: what does not verify gives nothing; nothing is overwritten; nothing votes for
//! this, so people compare the chain id by hand.
//! Elsewhere: what is carried over (`node`), how the link is followed (`verify`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::args::Common;
use super::failure::Failure;
use super::keys::{self, MadeMember};
use super::output::{Output, pairs, say};
use super::seam;
use super::target::read_genesis;
use crate::blocks::{Founder, Genesis, Predecessor};
use crate::committee::Height;
use crate::crypto::Digest;
use crate::storage::without_secrets;

/// `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// A founder's public file of the successor, as `key generate` printed it for a new folder.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    founder: Vec<PathBuf>,
    /// The document to write, genesis.json without it; the state goes beside it, with the ending
    /// .state.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The successor's name; that of the ledger before it without it.
    #[arg(long)]
    name: Option<String>,
    /// An archive to read instead of a member's folder: --dir is then where the document goes, and
    /// without --founder the folder of the only founder.
    #[arg(long, value_name = "URL")]
    archive: Option<String>,
}

/// Where the old ledger is read from.
enum Source<'a> {
    /// A surviving member's folder.
    Member(&'a Path),
    /// An archive, and the file of the genesis document.
    Archive(&'a str, &'a Path),
}

impl Source<'_> {
    fn shown(&self) -> String {
        match self {
            Source::Member(dir) => dir.display().to_string(),
            Source::Archive(url, _) => without_secrets(url),
        }
    }
}

/// What was made.
#[derive(Serialize)]
struct Made {
    genesis: PathBuf,
    state: PathBuf,
    chain: Digest,
    name: String,
    members: Vec<MadeMember>,
    successor_of: Predecessor,
    /// The newest height of the predecessor that a certificate covers.
    certified: Height,
}

pub(crate) fn run(common: &Common, args: &RestoreArgs) -> Result<ExitCode, Failure> {
    let out = match (&args.out, &args.archive, &common.dir) {
        (Some(out), _, _) => out.clone(),
        (None, Some(_), Some(dir)) => dir.join("genesis.json"),
        (None, _, _) => "genesis.json".into(),
    };
    let state = seam::state_file(&out);
    let document;
    let source = match (&args.archive, &common.dir, &common.genesis) {
        (Some(url), _, Some(given)) => {
            document = given.clone();
            Source::Archive(url, &document)
        }
        (Some(_), _, None) => {
            return Err(Failure::usage(
                "an archive is checked against a genesis document, and --genesis is missing",
                "consortium restore --archive URL --genesis genesis.json --dir NEW",
            ));
        }
        (None, Some(dir), given) => {
            founders_named(args)?;
            free(&out, &state)?;
            document = match given {
                Some(given) => given.clone(),
                None => seam::genesis_file(dir)?,
            };
            Source::Member(dir)
        }
        (None, None, _) => {
            return Err(Failure::usage(
                "from which folder? a surviving member's is missing",
                "consortium restore --dir MEMBER_DIR --founder FILE… --out genesis.json, or \
                 --archive URL",
            ));
        }
    };
    if common.dir.is_none() {
        founders_named(args)?;
    }
    free(&out, &state)?;
    let old = read_genesis(&document)?;
    let made = successor((common, args), &source, &old, (out, state))?;
    Output::new(common).document(&made, Made::table)?;
    tell(args, common.dir.as_deref(), &source, &made);
    Ok(ExitCode::SUCCESS)
}

fn founders_named(args: &RestoreArgs) -> Result<(), Failure> {
    match args.founder.is_empty() {
        false => Ok(()),
        true => Err(Failure::usage(
            "no founder of the successor is named",
            "each makes keys in a new folder: consortium key generate --dir NEW > NEW.json, and \
             --founder NEW.json",
        )),
    }
}

/// Whether neither file is there.
fn free(out: &Path, state: &Path) -> Result<(), Failure> {
    for path in [out, state] {
        if path.exists() {
            let what = format!("{} exists, and is made once", path.display());
            return Err(Failure::refused(what, "give another --out"));
        }
    }
    Ok(())
}

/// What people do now.
fn tell(args: &RestoreArgs, dir: Option<&Path>, source: &Source<'_>, made: &Made) {
    let height = made.successor_of.height;
    match source {
        Source::Member(_) => say(format!(
            "nothing votes for a successor: every founder compares this chain id by hand, and that \
             {} had height {height} with every other survivor; the one that stands highest loses \
             least",
            source.shown()
        )),
        Source::Archive(..) => say(format!(
            "nothing votes for a successor: every founder compares this chain id by hand; the \
             archive ended at height {height}, what was acknowledged above it is lost unless a \
             member's folder has it"
        )),
    }
    match (dir, args.founder.is_empty()) {
        (Some(dir), true) => say(format!(
            "the successor has one founder, so nobody checks it; others join and are voted in: \
             consortium member join --help. Next: consortium start --dir {}",
            dir.display()
        )),
        (_, false) | (None, true) => say(format!(
            "next: put {} and {} into each founder's new folder as genesis.json and genesis.state, \
             then: consortium start --dir NEW",
            made.genesis.display(),
            made.state.display()
        )),
    }
}

/// The founders that are named, or the one whose folder `dir` is; its keys are made where they are
/// not there.
fn founders(args: &RestoreArgs, dir: Option<&Path>) -> Result<Vec<Founder>, Failure> {
    let Some(dir) = dir.filter(|_| args.founder.is_empty()) else {
        return keys::founders(&args.founder);
    };
    let name = dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|| "member".into());
    let founder = match seam::has_keys(dir) {
        true => seam::show_keys(dir, &name, &seam::p2p_address(dir)?)?,
        false => keys::generate(dir, &name, "")?,
    };
    Ok(vec![founder])
}

fn successor(
    (common, args): (&Common, &RestoreArgs),
    source: &Source<'_>,
    old: &Genesis,
    (out, state): (PathBuf, PathBuf),
) -> Result<Made, Failure> {
    let (report, legacy) = match source {
        Source::Member(dir) => seam::verify_legacy(common, dir, old)?,
        Source::Archive(url, document) => seam::archive::legacy(common, url, (old, document))?,
    };
    if legacy.is_running {
        return Err(Failure::refused(
            format!("a member runs on {}, and its log goes on", source.shown()),
            "stop it first: what is carried over must stand still",
        ));
    }
    if let Some(found) = report.faults.first() {
        return Err(Failure::violation(
            format!("{}: {}", found.file, found.what),
            "nothing was made; take another survivor's folder or archive: consortium verify names \
             the rest",
        ));
    }
    let name = args.name.as_ref().unwrap_or(&old.name);
    let founders = founders(args, common.dir.as_deref())?;
    let joined = keys::join(founders, name, legacy.parameters)?;
    for founder in &joined.founders {
        let key = founder.consensus.map(|proof| proof.key);
        if key.is_some_and(|key| legacy.keys.contains(&key)) {
            return Err(Failure::refused(
                format!(
                    "founder '{}' brings a consensus key of the dead ledger",
                    founder.name
                ),
                "it makes fresh keys in a new folder: consortium key generate --dir NEW",
            ));
        }
    }
    let genesis = Genesis {
        successor_of: Some(legacy.predecessor),
        ..joined
    };
    let next = "ask the founder that is named for a new file, or leave it out";
    genesis
        .check()
        .map_err(|error| Failure::refused(error, next))?;
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
    }
    // The document comes last: where it is, the state is.
    seam::write_state(&legacy.carried, &state)?;
    keys::write_new(&out, genesis.to_json().as_bytes())?;
    Ok(Made {
        genesis: out,
        state,
        chain: genesis.chain(),
        name: genesis.name.clone(),
        members: keys::made_members(&genesis),
        successor_of: legacy.predecessor,
        certified: legacy.certified,
    })
}

impl Made {
    fn table(&self) -> String {
        let members: Vec<&str> = self.members.iter().map(|m| m.name.as_str()).collect();
        let Predecessor {
            chain,
            height,
            digest,
            state_digest,
        } = &self.successor_of;
        pairs(&[
            ("genesis", self.genesis.display().to_string()),
            ("state", self.state.display().to_string()),
            ("chain", self.chain.to_string()),
            ("name", self.name.clone()),
            ("members", members.join(" ")),
            ("successor of", chain.to_string()),
            ("height", height.to_string()),
            ("certified", self.certified.to_string()),
            ("digest", digest.to_string()),
            ("state_digest", state_digest.to_string()),
        ])
    }
}
