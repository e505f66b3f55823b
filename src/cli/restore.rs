//! `restore`: the successor of a ledger whose view is dead, from what one member still has.
//!
//! Source: `docs/cli.md`, design of views. In: a member's folder, founders' public files. Out: a
//! genesis document that names where it goes on from, and the state beside it.
//! Holds: a folder that does not verify gives nothing; nothing is overwritten; nothing votes for
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
use crate::blocks::{Genesis, Predecessor};
use crate::committee::Height;
use crate::crypto::Digest;

/// `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// A founder's public file of the successor, as `key generate` printed it for a new folder.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    founder: Vec<PathBuf>,
    /// The document to write; the state goes beside it, with the ending .state.
    #[arg(long, value_name = "FILE", default_value = "genesis.json")]
    out: PathBuf,
    /// The successor's name; that of the ledger before it without it.
    #[arg(long)]
    name: Option<String>,
    /// An archive's address.
    #[arg(long, value_name = "URL")]
    archive: Option<String>,
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
    if args.archive.is_some() {
        let instead = "restore --dir MEMBER_DIR --founder FILE…, from a member's folder";
        return Err(Failure::not_yet("restore --archive", instead));
    }
    let Some(dir) = &common.dir else {
        return Err(Failure::usage(
            "from which folder? a surviving member's is missing",
            "consortium restore --dir MEMBER_DIR --founder FILE… --out genesis.json",
        ));
    };
    if args.founder.is_empty() {
        return Err(Failure::usage(
            "no founder of the successor is named",
            "each makes keys in a new folder: consortium key generate --dir NEW > NEW.json, and \
             --founder NEW.json",
        ));
    }
    let state = seam::state_file(&args.out);
    for path in [&args.out, &state] {
        if path.exists() {
            let what = format!("{} exists, and is made once", path.display());
            return Err(Failure::refused(what, "give another --out"));
        }
    }
    let document = match &common.genesis {
        Some(given) => given.clone(),
        None => seam::genesis_file(dir)?,
    };
    let old = read_genesis(&document)?;
    let made = successor(common, dir, &old, args, state)?;
    Output::new(common).document(&made, Made::table)?;
    say(format!(
        "nothing votes for a successor: every founder compares this chain id by hand, and that {} \
         had height {} with every other survivor; the one that stands highest loses least",
        dir.display(),
        made.successor_of.height
    ));
    say(format!(
        "next: put {} and {} into each founder's new folder as genesis.json and genesis.state, \
         then: consortium start --dir NEW",
        made.genesis.display(),
        made.state.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn successor(
    common: &Common,
    dir: &Path,
    old: &Genesis,
    args: &RestoreArgs,
    state: PathBuf,
) -> Result<Made, Failure> {
    let (report, legacy) = seam::verify_legacy(common, dir, old)?;
    if legacy.is_running {
        return Err(Failure::refused(
            format!("a member runs on {}, and its log goes on", dir.display()),
            "stop it first: what is carried over must stand still",
        ));
    }
    if let Some(found) = report.faults.first() {
        return Err(Failure::violation(
            format!("{}: {}", found.file, found.what),
            "nothing was made; take another survivor's folder: consortium verify names the rest",
        ));
    }
    let name = args.name.as_ref().unwrap_or(&old.name);
    let joined = keys::join(&args.founder, name, legacy.parameters)?;
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
    // The document comes last: where it is, the state is.
    seam::write_state(&legacy.carried, &state)?;
    keys::write_new(&args.out, genesis.to_json().as_bytes())?;
    Ok(Made {
        genesis: args.out.clone(),
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
