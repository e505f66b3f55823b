//! `checkpoint`: which snapshots members hold, one taken now, and whether they are what they say.
//!
//! Source: `docs/cli.md`, `docs/checkpoints.md`. In: members' addresses or folders. Out: a list, a
//! certified snapshot, or exit 4.
//! Holds: members are asked side by side; one that does not answer is listed all the same.
//! Elsewhere: comparing members (`compare`), a folder by itself (`node::verify`).

mod compare;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::args::Common;
use super::failure::{Exit, Failure};
use super::member::carry;
use super::output::{Output, pairs, say, short, table};
use super::target::{Cluster, QUICK, Target, Targets, read_genesis};
use super::{on_runtime, seam};
use crate::api::{CheckpointEntry, Checkpoints, NextSnapshot, Retained};
use crate::blocks::CheckpointRules;
use crate::client::AskError;
use crate::committee::{Height, MemberId};
use crate::membership::register::Operation;
use crate::node::{SnapshotFault, SnapshotsVerdict};

/// Between two looks for a snapshot that was asked for.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// `checkpoint`.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointVerb {
    /// Lists the snapshots that members hold, and how much else of the ledger is there.
    #[command(after_help = "Example:  consortium checkpoint list --dir ledger -o json")]
    List,
    /// Asks for a snapshot and waits until it is certified; the identity key in --dir signs.
    #[command(after_help = "Example:  consortium checkpoint now --dir ledger/member-0")]
    Now,
    /// Checks every snapshot of a folder by itself, or compares those of all members with --api.
    #[command(
        after_help = "Examples:\n  consortium checkpoint verify --genesis genesis.json \
        --dir ledger/member-0\n  consortium checkpoint verify --api http://a:7200 http://b:7200"
    )]
    Verify,
}

/// When checkpoints are due, by the genesis document.
#[derive(Clone, Debug, Args)]
pub(crate) struct CheckpointsOfGenesis {
    /// A checkpoint is due so many blocks behind the last one, at least 8; 0 for none by count.
    #[arg(long, value_name = "N", default_value_t = CheckpointRules::default().every_blocks)]
    pub(crate) checkpoint_blocks: u32,
    /// And once operations of so many bytes were ordered since; 0 for none by size.
    #[arg(long, value_name = "BYTES", default_value_t = CheckpointRules::default().every_bytes)]
    pub(crate) checkpoint_bytes: u64,
    /// Bytes of one segment, about: 1024 to 1048576.
    #[arg(long, value_name = "BYTES", default_value_t = CheckpointRules::default().segment_bytes)]
    pub(crate) segment_bytes: u32,
}

impl CheckpointsOfGenesis {
    /// The rules that the flags say.
    pub(crate) fn rules(&self) -> Result<CheckpointRules, Failure> {
        let rules = CheckpointRules {
            every_blocks: self.checkpoint_blocks,
            every_bytes: self.checkpoint_bytes,
            segment_bytes: self.segment_bytes,
        };
        let wrong = |(key, must): (&str, &str)| {
            Failure::usage(format!("{key} must be {must}"), "--checkpoint-blocks 1000")
        };
        rules.check().map(|()| rules).map_err(wrong)
    }
}

pub(crate) fn run(common: &Common, verb: &CheckpointVerb) -> Result<ExitCode, Failure> {
    match verb {
        CheckpointVerb::List => on_runtime(list(common)),
        CheckpointVerb::Now => on_runtime(now(common)),
        CheckpointVerb::Verify => match folder(common)? {
            Some(dir) => verify_folder(common, dir),
            None => on_runtime(compare::run(common)),
        },
    }
}

/// The member's folder that is meant, unless members are to be asked.
fn folder(common: &Common) -> Result<Option<&Path>, Failure> {
    match &common.dir {
        Some(dir) if common.api.is_empty() && Cluster::read(dir)?.is_none() => Ok(Some(dir)),
        Some(_) | None => Ok(None),
    }
}

/// What members hold.
#[derive(Serialize)]
struct List {
    checkpoints: Vec<Listed>,
    members: Vec<Holder>,
}

/// One snapshot, and who holds it.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    entry: CheckpointEntry,
    members: Vec<String>,
}

/// What one member keeps.
#[derive(Serialize)]
struct Holder {
    id: Option<MemberId>,
    name: String,
    api: String,
    reachable: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    retained: Option<Retained>,
    next: Option<NextSnapshot>,
}

/// How a member is called.
fn name_of(target: &Target) -> String {
    let known = target.known.as_ref();
    known.map_or_else(|| target.api.base().to_owned(), |known| known.name.clone())
}

/// What each member says that it holds, asked side by side.
async fn ask(targets: &Targets) -> Vec<Result<Checkpoints, AskError>> {
    let limit = targets.limit.min(QUICK);
    let members = targets.members.iter();
    join_all(members.map(|member| member.api.checkpoints(limit))).await
}

async fn list(common: &Common) -> Result<ExitCode, Failure> {
    let targets = Targets::find(common)?;
    let answers = ask(&targets).await;
    let list = List::of(&targets, &answers);
    if list.members.iter().all(|member| !member.reachable) {
        let mut errors = answers.into_iter().filter_map(Result::err);
        return Err(targets.in_vain(&errors.next().unwrap_or(AskError::Silent)));
    }
    Output::new(common).document(&list, List::table)?;
    Ok(ExitCode::SUCCESS)
}

impl List {
    fn of(targets: &Targets, answers: &[Result<Checkpoints, AskError>]) -> Self {
        let mut checkpoints: Vec<Listed> = Vec::new();
        let mut members = Vec::new();
        for (target, answer) in targets.members.iter().zip(answers) {
            let name = name_of(target);
            let held = answer.as_ref().ok();
            for entry in held.iter().flat_map(|held| &held.checkpoints) {
                let is_it = |listed: &&mut Listed| {
                    let (a, b) = (&listed.entry, entry);
                    (a.height, a.digest, a.manifest, a.state_digest)
                        == (b.height, b.digest, b.manifest, b.state_digest)
                };
                match checkpoints.iter_mut().find(is_it) {
                    Some(listed) => {
                        // One may not know yet that it is certified.
                        listed.entry = listed.entry.max(*entry);
                        listed.members.push(name.clone());
                    }
                    None => checkpoints.push(Listed {
                        entry: *entry,
                        members: vec![name.clone()],
                    }),
                }
            }
            members.push(Holder {
                id: target.known.as_ref().map(|known| known.id),
                name,
                api: target.api.base().to_owned(),
                reachable: held.is_some(),
                error: answer.as_ref().err().map(ToString::to_string),
                retained: held.map(|held| held.retained),
                next: held.map(|held| held.next),
            });
        }
        checkpoints.sort_by_key(|listed| listed.entry);
        Self {
            checkpoints,
            members,
        }
    }

    fn table(&self) -> String {
        let rows: Vec<Vec<String>> = { self.checkpoints.iter() }
            .map(|Listed { entry, members }| {
                vec![
                    entry.height.to_string(),
                    short(entry.digest),
                    entry.bytes.to_string(),
                    entry.segments.to_string(),
                    short(entry.manifest),
                    short(entry.state_digest),
                    block(entry),
                    members.join(" "),
                ]
            })
            .collect();
        let heads = [
            "height", "digest", "bytes", "segments", "manifest", "state", "block", "members",
        ];
        let mut text = table(&heads, &rows);
        let rows: Vec<Vec<String>> = self.members.iter().map(Holder::cells).collect();
        let heads = ["name", "first block", "retained bytes", "next", "api"];
        text += "\n\n";
        text += &table(&heads, &rows);
        text
    }
}

/// The block that certifies it, for people.
fn block(entry: &CheckpointEntry) -> String {
    match entry.block {
        Some(block) => block.to_string(),
        None => "not certified".into(),
    }
}

impl Holder {
    fn cells(&self) -> Vec<String> {
        let cell = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        let first = self
            .retained
            .map(|retained| retained.first_block.to_string());
        let bytes = self
            .retained
            .map(|retained| retained.retained_bytes.to_string());
        let next = match &self.error {
            Some(error) => Some(error.clone()),
            None => self.next.map(|next| due(&next)),
        };
        vec![
            self.name.clone(),
            cell(first),
            cell(bytes),
            cell(next),
            self.api.clone(),
        ]
    }
}

/// When the next snapshot is due, for people.
fn due(next: &NextSnapshot) -> String {
    let mut words = Vec::new();
    words.extend(next.open.map(|open| format!("votes for {open} gather")));
    words.extend(next.height.map(|height| format!("at {height}")));
    words.extend(next.bytes.map(|bytes| format!("in {bytes} bytes")));
    match words.is_empty() {
        true => "when it is asked for".into(),
        false => words.join(", "),
    }
}

/// The folder whose identity key asks: one member's, or the first one's of a `dev` folder.
fn signer(common: &Common) -> Result<PathBuf, Failure> {
    let dir = common.dir.as_deref().unwrap_or(Path::new("."));
    let cluster = Cluster::read(dir)?;
    let first = cluster.and_then(|cluster| cluster.members.into_iter().next());
    match (first, &common.dir) {
        (Some(member), _) => Ok(member.dir),
        (None, Some(dir)) => Ok(dir.clone()),
        (None, None) => Err(Failure::usage(
            "a member's identity key signs this: whose?",
            "consortium checkpoint now --dir MEMBER_DIR",
        )),
    }
}

/// What `checkpoint now` prints.
#[derive(Serialize)]
struct Made {
    #[serde(flatten)]
    entry: CheckpointEntry,
    /// The block that carries the request.
    asked: Height,
}

async fn now(common: &Common) -> Result<ExitCode, Failure> {
    let targets = Targets::find(common)?;
    let folder = signer(common)?;
    let told = carry::submit(&targets, &[folder], &Operation::Snapshot).await?;
    let asked = told.height;
    let entry = await_certified(&targets, asked).await?;
    Output::new(common).document(&Made { entry, asked }, |made| {
        let entry = &made.entry;
        pairs(&[
            ("height", entry.height.to_string()),
            ("digest", entry.digest.to_string()),
            ("bytes", entry.bytes.to_string()),
            ("segments", entry.segments.to_string()),
            ("manifest", entry.manifest.to_string()),
            ("state_digest", entry.state_digest.to_string()),
            ("block", block(entry)),
            ("asked", made.asked.to_string()),
        ])
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Waits until a member holds a certified snapshot of `asked` or above.
async fn await_certified(targets: &Targets, asked: Height) -> Result<CheckpointEntry, Failure> {
    let start = Instant::now();
    let mut is_told = false;
    loop {
        let held = targets
            .first(async |api, limit| api.checkpoints(limit).await)
            .await?;
        let mut entries = held.checkpoints.iter();
        let is_it = |entry: &&CheckpointEntry| entry.certified && entry.height >= asked;
        if let Some(entry) = entries.find(is_it) {
            return Ok(*entry);
        }
        if held.next.asked && !is_told {
            is_told = true;
            let when = held.next.height.unwrap_or_default();
            say(format!(
                "the last snapshot is less than 8 blocks old: this one is taken behind block \
                 {when}; a ledger without traffic makes no blocks, so submit something if it waits"
            ));
        }
        if start.elapsed() > targets.limit {
            return Err(Failure::new(
                Exit::TimedOut,
                format!("block {asked} asks for a snapshot, and none is certified yet"),
                "it still comes: consortium checkpoint list; --timeout SECONDS waits longer",
            ));
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// Checks the snapshots of a member's folder, and nothing else in it.
fn verify_folder(common: &Common, dir: &Path) -> Result<ExitCode, Failure> {
    let Some(path) = &common.genesis else {
        return Err(Failure::usage(
            "nothing to verify against: --genesis is the trust root",
            "consortium checkpoint verify --genesis genesis.json --dir MEMBER_DIR",
        ));
    };
    let genesis = read_genesis(path)?;
    let verdict = seam::verify_snapshots(common, dir, &genesis)?;
    verdict.notes.iter().for_each(say);
    Output::new(common).document(&verdict, folder_table)?;
    let Some(first) = verdict.faults.first() else {
        return Ok(ExitCode::SUCCESS);
    };
    Err(Failure::violation(
        worded(first),
        "the others have it: stop this member, move its data/ away, and: consortium rejoin --dir \
         MEMBER_DIR",
    ))
}

fn worded(fault: &SnapshotFault) -> String {
    let height = fault.height.map(|height| format!(", snapshot {height}"));
    let segment = fault.segment.map(|segment| format!(", segment {segment}"));
    let (height, segment) = (height.unwrap_or_default(), segment.unwrap_or_default());
    format!("{}{height}{segment}: {}", fault.file, fault.what)
}

fn folder_table(verdict: &SnapshotsVerdict) -> String {
    let rows: Vec<Vec<String>> = { verdict.checkpoints.iter() }
        .map(|one| {
            vec![
                one.height.to_string(),
                short(one.digest),
                one.bytes.to_string(),
                one.segments.to_string(),
                short(one.state_digest),
                if one.certified { "yes" } else { "no" }.into(),
                if one.ok { "yes" } else { "no" }.into(),
            ]
        })
        .collect();
    let heads = [
        "height",
        "digest",
        "bytes",
        "segments",
        "state",
        "certified",
        "ok",
    ];
    let mut text = table(&heads, &rows);
    text += &format!(
        "\n{} signatures, {:.3} seconds",
        verdict.signatures, verdict.seconds
    );
    for fault in &verdict.faults {
        text += &format!("\nfault  {}", worded(fault));
    }
    text
}
