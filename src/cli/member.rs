//! `member`: who is listed, and the changes to it.
//!
//! Source: `docs/cli.md`, `docs/formats.md`. In: members' folders, ids. Out: the list, or what
//! became of a change.
//! Holds: an identity key signs what its own member does and no vote of the ordering protocol; a
//! change that waits for others' votes says how many.
//! Elsewhere: what operations do (`membership::register`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use clap::Subcommand;
use serde::Serialize;

use super::args::{Common, RejoinArgs};
use super::failure::Failure;
use super::output::{Output, pairs, say, short, table};
use super::target::{Cluster, QUICK, Targets};
use super::{keys, seam};
use crate::api::{Encoding, Membership, Outcome, Submitted, Wait};
use crate::client::Options;
use crate::committee::{Height, MemberId};
use crate::crypto::{Digest, PublicKey, SecretKey};
use crate::membership::register::{Done, Marks, Motion, Operation, Refusal, Request};

/// `member`.
#[derive(Debug, Subcommand)]
pub(crate) enum MembersVerb {
    /// Prints the members with their standing, and what waits for votes.
    #[command(after_help = "Example:  consortium member list -o json")]
    List {
        /// Prints the audit trail too.
        #[arg(long)]
        history: bool,
    },
    /// Invites the holder of an identity key; counts as an approval.
    #[command(after_help = "Example:  consortium member invite KEY --dir ledger")]
    Invite {
        /// The identity key, as `key show` prints it.
        #[arg(value_name = "KEY")]
        identity: PublicKey,
    },
    /// Asks to be a member, with the keys in --dir; makes keys and settings where there are none.
    #[command(
        after_help = "Example:  consortium member join --dir delta --genesis genesis.json \
        --api http://host:7200"
    )]
    Join {
        /// Its name; the folder's name without it.
        #[arg(long)]
        name: Option<String>,
        /// Where members reach it, `host:port`; as its settings say without it.
        #[arg(long)]
        address: Option<String>,
        /// Words about it, with commas.
        #[arg(long, value_delimiter = ',')]
        tags: Vec<String>,
    },
    /// Says that this member has applied the chain: it may be drawn from then on.
    #[command(after_help = "Example:  consortium member caught-up --dir delta")]
    CaughtUp,
    /// Approves a ballot, or the one ballot about a member.
    #[command(after_help = "Example:  consortium member approve ID --dir ledger")]
    Approve {
        /// A ballot's or a member's id.
        id: Digest,
    },
    /// Rejects a ballot, or the one ballot about a member.
    #[command(after_help = "Example:  consortium member reject ID --dir ledger/member-0")]
    Reject {
        /// A ballot's or a member's id.
        id: Digest,
    },
    /// Excludes a member by vote.
    #[command(after_help = "Example:  consortium member remove ID --dir ledger")]
    Remove {
        /// Its id.
        id: MemberId,
    },
    /// Puts the holder of an identity key in the place of a member, once it has caught up.
    #[command(after_help = "Example:  consortium member replace ID KEY --dir ledger")]
    Replace {
        /// The member that goes.
        old: MemberId,
        /// The identity key of the one that comes.
        #[arg(value_name = "KEY")]
        new: PublicKey,
    },
    /// Changes a member's weight by vote.
    #[command(after_help = "Example:  consortium member weight ID 2 --dir ledger")]
    Weight {
        /// Its id.
        id: MemberId,
        /// Virtual positions on each ring, 0 to 256.
        weight: u32,
    },
    /// Leaves with the next view.
    #[command(after_help = "Example:  consortium member leave --dir ledger/member-3")]
    Leave,
}

/// What became of a change.
#[derive(Serialize)]
struct Told {
    operation: &'static str,
    /// `done`, `open` or `fell`.
    result: &'static str,
    height: Height,
    ballot: Option<Digest>,
    approvals: Option<u32>,
    votes_needed: Option<u32>,
}

pub(crate) async fn run(common: &Common, verb: &MembersVerb) -> Result<ExitCode, Failure> {
    let targets = Targets::find(common)?;
    let operation = match verb {
        MembersVerb::List { history } => return list(common, &targets, *history).await,
        MembersVerb::Invite { identity } => Operation::Move(Motion::Invite(*identity)),
        MembersVerb::Join {
            name,
            address,
            tags,
        } => {
            let folder = own_folder(common)?;
            let last = folder_name(&folder);
            let name = name.clone().unwrap_or(last);
            let place = address.as_deref().unwrap_or_default();
            keys::furnish(&folder, &name, place, common.genesis.as_deref())?;
            let request = request(&targets, &folder, name, address.clone(), tags).await?;
            Operation::Join(request)
        }
        MembersVerb::CaughtUp => caught_up(&targets).await?,
        MembersVerb::Approve { id } => Operation::Approve(ballot(&targets, id).await?),
        MembersVerb::Reject { id } => Operation::Reject(ballot(&targets, id).await?),
        MembersVerb::Remove { id } => Operation::Move(Motion::Exclude(*id)),
        MembersVerb::Replace { old, new } => Operation::Move(Motion::Replace(*old, *new)),
        MembersVerb::Weight { id, weight } => Operation::Move(Motion::Weight(*id, *weight)),
        MembersVerb::Leave => Operation::Leave,
    };
    let folders = match operation {
        Operation::Move(_) | Operation::Approve(_) | Operation::Reject(_) => folders(common)?,
        Operation::Join(_)
        | Operation::Leave
        | Operation::Convict(_)
        | Operation::Address(_)
        | Operation::Identity(..)
        | Operation::CaughtUp(..)
        | Operation::Rejoin(_)
        | Operation::Threshold(..) => vec![own_folder(common)?],
    };
    let told = submit(&targets, &folders, &operation).await?;
    Output::new(common).document(&told, Told::table)?;
    Ok(ExitCode::SUCCESS)
}

/// `rejoin`: a fresh key where the old one must not vote any more, and the transaction that asks
/// for a seat with it.
pub(crate) async fn rejoin(common: &Common, args: &RejoinArgs) -> Result<ExitCode, Failure> {
    let targets = Targets::find(common)?;
    let folder = own_folder(common)?;
    let rules = targets.rules().await?;
    let key = seam::fresh_admission(&folder, rules.chain(), args.replace_key)?;
    let operation = Operation::Rejoin(key);
    let told = submit(&targets, &[folder], &operation).await?;
    Output::new(common).document(&told, Told::table)?;
    Ok(ExitCode::SUCCESS)
}

async fn list(common: &Common, targets: &Targets, history: bool) -> Result<ExitCode, Failure> {
    let found = targets
        .first(async |api, limit| api.membership(history, limit).await)
        .await?;
    Output::new(common).document(&found, shown)?;
    Ok(ExitCode::SUCCESS)
}

/// The folder of the one member that acts.
fn own_folder(common: &Common) -> Result<PathBuf, Failure> {
    match &common.dir {
        Some(dir) if Cluster::read(dir)?.is_none() => Ok(dir.clone()),
        Some(_) | None => Err(Failure::usage(
            "one member does this: whose folder?",
            "give --dir MEMBER_DIR",
        )),
    }
}

/// The folders of those who vote: one member's, or every member's of a `dev` folder.
fn folders(common: &Common) -> Result<Vec<PathBuf>, Failure> {
    let dir = common.dir.as_deref().unwrap_or(Path::new("."));
    Ok(match Cluster::read(dir)? {
        Some(cluster) => cluster.members.into_iter().map(|m| m.dir).collect(),
        None => vec![dir.to_owned()],
    })
}

/// What a member is called that says nothing else.
fn folder_name(folder: &Path) -> String {
    let last = folder.file_name().map(|name| name.to_string_lossy());
    last.map_or_else(|| "member".into(), |name| name.into_owned())
}

async fn request(
    targets: &Targets,
    folder: &Path,
    name: String,
    address: Option<String>,
    tags: &[String],
) -> Result<Request, Failure> {
    let mut tags = tags.to_vec();
    tags.sort_unstable();
    tags.dedup();
    let rules = targets.rules().await?;
    Ok(Request {
        name,
        address: match address {
            Some(address) => address,
            None => seam::p2p_address(folder)?,
        },
        tags,
        key: seam::admission(folder, rules.chain())?,
    })
}

/// The newest block that this member has and that may be named.
async fn caught_up(targets: &Targets) -> Result<Operation, Failure> {
    let status = targets
        .first(async |api, limit| api.status(limit).await)
        .await?;
    let height = Marks::height_below(status.tip.height);
    let found = targets
        .first(async |api, limit| api.block(height.0, 0, limit).await)
        .await?;
    Ok(Operation::CaughtUp(height, found.digest))
}

/// The ballot of that id, or the only one about the member of that id.
async fn ballot(targets: &Targets, id: &Digest) -> Result<Digest, Failure> {
    let found = targets
        .first(async |api, _| api.membership(false, QUICK).await)
        .await?;
    if found.ballots.iter().any(|ballot| ballot.id == *id) {
        return Ok(*id);
    }
    let about = |ballot: &&crate::api::BallotEntry| ballot.member == Some(MemberId(*id));
    let ids: Vec<Digest> = found.ballots.iter().filter(about).map(|b| b.id).collect();
    match ids.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failure::refused(
            format!("no ballot {id} is open, and none about a member of that id"),
            "consortium member list shows what waits for votes",
        )),
        _ => Err(Failure::usage(
            format!("{} ballots are about member {id}", ids.len()),
            "name the ballot: consortium member list",
        )),
    }
}

/// Each key in turn submits the operation, until it holds or everybody has said it.
async fn submit(
    targets: &Targets,
    folders: &[PathBuf],
    operation: &Operation,
) -> Result<Told, Failure> {
    let mut told = None;
    let mut refused = None;
    for folder in folders {
        let secret = seam::identity(folder)?;
        let submitted = submit_one(targets, secret, operation).await?;
        match outcome(&submitted)? {
            Ok(done) => {
                let is_over = !matches!(done, Done::Open { .. });
                told = Some(Told::of(operation, submitted.height, &done));
                if is_over {
                    break;
                }
            }
            Err(refusal) => {
                // One of several may have voted before, or have no vote.
                if folders.len() > 1 {
                    say(format!("{}: {refusal}", folder.display()));
                }
                refused = Some(refusal);
            }
        }
    }
    match (told, refused) {
        (Some(told), _) => Ok(told),
        (None, Some(refusal)) => Err(Failure::refused(refusal, next_of(refusal))),
        (None, None) => Err(Failure::usage("nobody could sign", "give --dir MEMBER_DIR")),
    }
}

async fn submit_one(
    targets: &Targets,
    secret: SecretKey,
    operation: &Operation,
) -> Result<Submitted, Failure> {
    let options = Options {
        limit: targets.limit,
        ..Options::default()
    };
    let client = targets.client_of(secret, options).await?;
    let bytes = Bytes::from(operation.to_bytes());
    Ok(client.submit(bytes, Wait::Durable).await?)
}

/// What a submission did, or why it was refused.
fn outcome(submitted: &Submitted) -> Result<Result<Done, Refusal>, Failure> {
    let unreadable = || {
        Failure::refused(
            "the ledger's answer is not one of this program's",
            "is the member of the same version? consortium status",
        )
    };
    let Outcome {
        code,
        value,
        encoding,
    } = submitted.result.as_ref().ok_or_else(unreadable)?;
    if *code != 0 {
        return Refusal::of(*code).map(Err).ok_or_else(unreadable);
    }
    let bytes = match encoding {
        Encoding::Hex => hex::decode(value).ok(),
        Encoding::Utf8 => Some(value.as_bytes().to_vec()),
    };
    let done = bytes.and_then(|bytes| Done::from_bytes(&bytes));
    done.map(Ok).ok_or_else(unreadable)
}

fn next_of(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotListed => "sign with a listed member's folder: --dir MEMBER_DIR",
        Refusal::NoBallot | Refusal::NoMember | Refusal::AlreadyVoted | Refusal::NoChange => {
            "consortium member list shows how things stand"
        }
        Refusal::BadMark => "wait until the member has caught up, and try again",
        Refusal::BadProof | Refusal::KeyUsed => {
            "are --dir and the ledger those that were meant? consortium key show --dir DIR"
        }
        Refusal::Malformed => {
            "a name has 1 to 64 bytes, an address no spaces, tags are lower-case words"
        }
        Refusal::Leaving
        | Refusal::Excluded
        | Refusal::AlreadyListed
        | Refusal::AlreadyInvited
        | Refusal::Full
        | Refusal::TooManyBallots
        | Refusal::LastMember
        | Refusal::BadWeight
        | Refusal::BadEvidence
        | Refusal::NoKey
        | Refusal::BadRules
        | Refusal::ClientsOpen
        | Refusal::UnderBallot
        | Refusal::NotAsked => "consortium member list --history shows what led here",
    }
}

impl Told {
    fn of(operation: &Operation, height: Height, done: &Done) -> Self {
        let (result, open) = match *done {
            Done::Effective => ("done", None),
            Done::Fell => ("fell", None),
            Done::Open {
                ballot,
                approvals,
                needed,
            } => ("open", Some((ballot, approvals, needed))),
        };
        Self {
            operation: operation.name(),
            result,
            height,
            ballot: open.map(|(ballot, ..)| ballot),
            approvals: open.map(|(_, approvals, _)| approvals),
            votes_needed: open.map(|(.., needed)| needed),
        }
    }

    fn table(&self) -> String {
        let number = |value: Option<u32>| value.map_or_else(|| "-".into(), |n| n.to_string());
        let mut rows = vec![
            ("operation", self.operation.to_owned()),
            ("result", self.result.to_owned()),
            ("height", self.height.to_string()),
        ];
        if let Some(ballot) = self.ballot {
            rows.push(("ballot", ballot.to_string()));
            rows.push(("approvals", number(self.approvals)));
            rows.push(("needed", number(self.votes_needed)));
        }
        pairs(&rows)
    }
}

fn shown(found: &Membership) -> String {
    let heads = [
        "id",
        "name",
        "status",
        "weight",
        "seated",
        "addresses",
        "tags",
    ];
    let rows = found.members.iter().map(|member| {
        vec![
            member.id.to_string(),
            member.name.clone(),
            member.status.clone(),
            member.weight.to_string(),
            if member.seated { "yes" } else { "no" }.to_owned(),
            member.addresses.join(" "),
            member.tags.join(" "),
        ]
    });
    let mut text = table(&heads, &rows.collect::<Vec<_>>());
    if !found.ballots.is_empty() {
        let heads = [
            "ballot",
            "kind",
            "member",
            "name",
            "approvals",
            "rejections",
        ];
        let rows = found.ballots.iter().map(|ballot| {
            let member = ballot.member.map(|id| id.to_string());
            vec![
                ballot.id.to_string(),
                ballot.kind.clone(),
                member.unwrap_or_default(),
                ballot.name.clone().unwrap_or_default(),
                format!("{} of {}", ballot.approvals.len(), found.votes_needed),
                ballot.rejections.len().to_string(),
            ]
        });
        text = format!("{text}\n\n{}", table(&heads, &rows.collect::<Vec<_>>()));
    }
    if !found.history.is_empty() {
        let heads = ["height", "by", "member", "what"];
        let id = |id: Option<MemberId>| id.map_or_else(|| "-".into(), short);
        let rows = found.history.iter().map(|entry| {
            vec![
                entry.height.to_string(),
                id(entry.by),
                id(entry.member),
                entry.what.clone(),
            ]
        });
        text = format!("{text}\n\n{}", table(&heads, &rows.collect::<Vec<_>>()));
    }
    text
}
