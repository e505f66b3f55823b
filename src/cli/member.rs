//! `member`: who is listed, and the changes to it.
//!
//! Source: `docs/cli.md`, `docs/formats.md`. In: members' folders, ids. Out: the list, or what
//! became of a change.
//! Holds: an identity key signs what its own member does and no vote of the ordering protocol.
//! Elsewhere: what operations do (`membership::register`), how they are carried out (`carry`).

pub(super) mod carry;
mod show;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use futures_util::future::join_all;

use self::carry::{Told, submit};
use self::show::{Log, shown};
use super::args::Common;
use super::failure::Failure;
use super::output::{Output, say};
use super::target::{Cluster, QUICK, Targets};
use super::{faults, keys, seam};
use crate::api::{HistoryEntry, Membership};
use crate::blocks::{ViewRules, is_address};
use crate::bootstrap::Pin;
use crate::client::Api;
use crate::committee::MemberId;
use crate::crypto::{Digest, PublicKey};
use crate::membership::register::{Marks, Motion, Operation, Request};

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
        #[command(flatten)]
        root: Root,
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
    /// Says where other members reach this one from now on.
    #[command(
        after_help = "Example:  consortium member address ledger.example.org:7100 --dir alpha\n\
        Its own settings are its own: listen_p2p in member.toml, and a start."
    )]
    Address {
        /// `host:port`.
        #[arg(value_name = "HOST:PORT")]
        address: String,
    },
    /// Puts a fresh identity key in the place of this member's, which leaves with the next view.
    #[command(
        after_help = "Example:  consortium member identity alpha-2 --dir alpha\n\
        NEW_DIR gets keys and settings where it has none. Then start it, and stop the old one\n\
        once consortium member list shows the new one with a seat."
    )]
    Identity {
        /// The folder of the new identity.
        #[arg(value_name = "NEW_DIR")]
        heir: PathBuf,
        /// Where members reach it, `host:port`; without it a free port of this machine.
        #[arg(long, default_value = "")]
        address: String,
    },
    /// Lists a client that may submit, or strikes it off, by vote.
    #[command(subcommand)]
    Client(ClientVerb),
    /// Changes the rules of views by vote, from the next view on; what is not named stays.
    #[command(
        after_help = "Example:  consortium member parameters --rotation-blocks 600 --dir ledger"
    )]
    Parameters(ParametersArgs),
    /// Excludes at once whom evidence convicts in the present view.
    #[command(
        after_help = "Example:  consortium faults -o json > evidence.json\n          \
        consortium member convict --evidence evidence.json --dir ledger/member-0"
    )]
    Convict {
        /// What `faults -o json` prints, or hex digits.
        #[arg(long, value_name = "FILE")]
        evidence: PathBuf,
    },
    /// Prints the audit trail: who changed what, and when; the newest 1,024 entries.
    #[command(after_help = "Example:  consortium member log --member ID -o json")]
    Log {
        /// Only what this member did, or what was done about it.
        #[arg(long, value_name = "ID")]
        member: Option<MemberId>,
    },
}

/// `rejoin`.
#[derive(Debug, Args)]
pub(crate) struct RejoinArgs {
    /// Erases a key whose data is there, as after a start from an older copy of data/.
    #[arg(long)]
    pub(crate) replace_key: bool,
    #[command(flatten)]
    pub(crate) root: Root,
}

/// A later root of trust than the genesis document.
#[derive(Debug, Args)]
pub(crate) struct Root {
    /// A view that people hold for true and the digest of the block that opened it, `VIEW:DIGEST`:
    /// no start follows another chain. Kept as `pin` in member.toml.
    #[arg(long, value_name = "VIEW:DIGEST")]
    pub(crate) pin: Option<Pin>,
}

/// `member client`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientVerb {
    /// Lists it: it may submit.
    #[command(after_help = "Example:  consortium member client admit KEY --dir ledger")]
    Admit {
        /// The client's key.
        key: PublicKey,
    },
    /// Strikes it off: it may submit no more.
    #[command(after_help = "Example:  consortium member client revoke KEY --dir ledger")]
    Revoke {
        /// The client's key.
        key: PublicKey,
    },
}

/// `member parameters`.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct ParametersArgs {
    /// Blocks after which a view gives way to the next, at least 8; 0 for none by count alone.
    #[arg(long, value_name = "N")]
    rotation_blocks: Option<u32>,
    /// Blocks within which the next committee must answer.
    #[arg(long, value_name = "N")]
    assemble_blocks: Option<u32>,
    /// Where fewer members may be drawn all of them sit.
    #[arg(long, value_name = "N")]
    everyone_below: Option<u32>,
    /// Byzantine members that a draw bears, of a million.
    #[arg(long, value_name = "PPM")]
    byzantine_ppm: Option<u32>,
    /// Crashed members that a draw bears, of a million.
    #[arg(long, value_name = "PPM")]
    crashed_ppm: Option<u32>,
    /// One draw of so many may be bad.
    #[arg(long, value_name = "N")]
    one_in: Option<NonZeroU64>,
}

impl ParametersArgs {
    /// The rules `present` with what is named changed.
    fn rules(&self, present: &ViewRules) -> Result<ViewRules, Failure> {
        let mut rules = *present;
        let set = |field: &mut u32, given: Option<u32>| *field = given.unwrap_or(*field);
        set(&mut rules.rotation_blocks, self.rotation_blocks);
        set(&mut rules.assemble_blocks, self.assemble_blocks);
        set(&mut rules.everyone_below, self.everyone_below);
        set(&mut rules.risk.byzantine_ppm, self.byzantine_ppm);
        set(&mut rules.risk.crashed_ppm, self.crashed_ppm);
        rules.risk.one_in = self.one_in.unwrap_or(rules.risk.one_in);
        let next = "consortium member parameters --help";
        rules.check().map_err(|error| Failure::usage(error, next))?;
        Ok(rules)
    }
}

impl Root {
    /// Keeps it for the starts of the member in `folder`.
    fn settle(&self, folder: &Path) -> Result<(), Failure> {
        self.pin
            .map_or(Ok(()), |pin| seam::settle_pin(folder, &pin))
    }
}

pub(crate) async fn run(common: &Common, verb: &MembersVerb) -> Result<ExitCode, Failure> {
    let targets = Targets::find(common)?;
    match verb {
        MembersVerb::List { history } => return list(common, &targets, *history).await,
        MembersVerb::Log { member } => return log(common, &targets, *member).await,
        MembersVerb::Identity { heir, address } => {
            return identity(common, &targets, heir, address).await;
        }
        MembersVerb::Convict { evidence } => return convict(common, &targets, evidence).await,
        MembersVerb::Invite { .. }
        | MembersVerb::Join { .. }
        | MembersVerb::CaughtUp
        | MembersVerb::Approve { .. }
        | MembersVerb::Reject { .. }
        | MembersVerb::Remove { .. }
        | MembersVerb::Replace { .. }
        | MembersVerb::Weight { .. }
        | MembersVerb::Leave
        | MembersVerb::Address { .. }
        | MembersVerb::Client(_)
        | MembersVerb::Parameters(_) => {}
    }
    let operation = operation(common, &targets, verb).await?;
    let folders = match operation {
        Operation::Move(_) | Operation::Approve(_) | Operation::Reject(_) => folders(common)?,
        Operation::Join(_)
        | Operation::Leave
        | Operation::Convict(_)
        | Operation::Address(_)
        | Operation::Identity(..)
        | Operation::CaughtUp(..)
        | Operation::Rejoin(_)
        | Operation::Renew
        | Operation::Snapshot
        | Operation::Threshold(..) => vec![own_folder(common)?],
    };
    carry(common, &targets, &folders, &operation).await
}

/// The operation that a verb means.
async fn operation(
    common: &Common,
    targets: &Targets,
    verb: &MembersVerb,
) -> Result<Operation, Failure> {
    Ok(match verb {
        MembersVerb::List { .. }
        | MembersVerb::Log { .. }
        | MembersVerb::Identity { .. }
        | MembersVerb::Convict { .. } => {
            unreachable!("these submit nothing, or more than one operation")
        }
        MembersVerb::Invite { identity } => Operation::Move(Motion::Invite(*identity)),
        MembersVerb::Join {
            name,
            address,
            tags,
            root,
        } => {
            let folder = own_folder(common)?;
            let last = folder_name(&folder);
            let name = name.clone().unwrap_or(last);
            let place = address.as_deref().unwrap_or_default();
            keys::furnish(&folder, &name, place, common.genesis.as_deref())?;
            root.settle(&folder)?;
            let request = request(targets, &folder, name, address.clone(), tags).await?;
            Operation::Join(request)
        }
        MembersVerb::CaughtUp => caught_up(targets).await?,
        MembersVerb::Approve { id } => Operation::Approve(ballot(targets, id).await?),
        MembersVerb::Reject { id } => Operation::Reject(ballot(targets, id).await?),
        MembersVerb::Remove { id } => Operation::Move(Motion::Exclude(*id)),
        MembersVerb::Replace { old, new } => Operation::Move(Motion::Replace(*old, *new)),
        MembersVerb::Weight { id, weight } => Operation::Move(Motion::Weight(*id, *weight)),
        MembersVerb::Leave => Operation::Leave,
        MembersVerb::Address { address } => Operation::Address(reachable(address)?),
        MembersVerb::Client(ClientVerb::Admit { key }) => {
            Operation::Move(Motion::Client(*key, true))
        }
        MembersVerb::Client(ClientVerb::Revoke { key }) => {
            Operation::Move(Motion::Client(*key, false))
        }
        MembersVerb::Parameters(args) => {
            let found = membership(targets, false).await?;
            Operation::Move(Motion::Rules(args.rules(&found.parameters)?))
        }
    })
}

/// Submits the operation and prints what became of it.
async fn carry(
    common: &Common,
    targets: &Targets,
    folders: &[PathBuf],
    operation: &Operation,
) -> Result<ExitCode, Failure> {
    let told = submit(targets, folders, operation).await?;
    Output::new(common).document(&told, Told::table)?;
    Ok(ExitCode::SUCCESS)
}

/// `key rotate`: every seat brings a fresh key at the next view, which is due from now on.
pub(crate) async fn renew(common: &Common) -> Result<ExitCode, Failure> {
    let targets = Targets::find(common)?;
    carry(common, &targets, &[own_folder(common)?], &Operation::Renew).await
}

/// An address that others can dial.
fn reachable(address: &str) -> Result<String, Failure> {
    let port = address.rsplit_once(':');
    let is_good = port.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    match is_good && is_address(address) {
        true => Ok(address.to_owned()),
        false => Err(Failure::usage(
            format!("'{address}' is no address of a member"),
            "consortium member address ledger.example.org:7100 --dir MEMBER_DIR",
        )),
    }
}

/// The key in the folder `heir` takes the place of this member's identity, and says where it is
/// reached: two members at one address would not be told apart.
async fn identity(
    common: &Common,
    targets: &Targets,
    heir: &Path,
    address: &str,
) -> Result<ExitCode, Failure> {
    let own = own_folder(common)?;
    let document = seam::genesis_file(&own)?;
    keys::furnish(heir, &folder_name(heir), address, Some(&document))?;
    let rules = targets.rules().await?;
    let proof = seam::admission(heir, rules.chain())?;
    let identity = seam::identity(heir)?.public();
    let operation = Operation::Identity(identity, proof);
    let told = submit(targets, &[own], &operation).await?;
    let place = match address {
        "" => seam::p2p_address(heir)?,
        given => given.to_owned(),
    };
    let moved = submit(
        targets,
        &[heir.to_owned()],
        &Operation::Address(place.clone()),
    )
    .await;
    if let Err(failure) = moved {
        let heir = heir.display();
        say(format!(
            "its address is not in the list yet: consortium member address {place} --dir {heir}"
        ));
        return Err(failure);
    }
    Output::new(common).document(&told, Told::table)?;
    let heir = heir.display();
    say(format!(
        "next: consortium start --dir {heir}; it takes the seat with the next view, then stop this"
    ));
    Ok(ExitCode::SUCCESS)
}

/// Each seat that the file accuses is convicted by the first piece against it.
async fn convict(common: &Common, targets: &Targets, path: &Path) -> Result<ExitCode, Failure> {
    let folder = own_folder(common)?;
    let output = Output::new(common);
    let (mut refused, mut is_any) = (None, false);
    for evidence in faults::accusations(path)? {
        let operation = Operation::Convict(evidence);
        match submit(targets, std::slice::from_ref(&folder), &operation).await {
            Ok(told) => {
                is_any = true;
                output.line(&told, Told::table)?;
            }
            // A file may hold evidence of earlier views too, where it convicts nobody any more.
            Err(failure) => {
                let former = refused.replace(failure);
                former.iter().for_each(say);
            }
        }
    }
    match refused {
        Some(failure) if !is_any => Err(failure),
        refused => {
            refused.iter().for_each(say);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// `rejoin`: a fresh key where the old one must not vote any more, and the transaction that asks
/// for a seat with it.
pub(crate) async fn rejoin(common: &Common, args: &RejoinArgs) -> Result<ExitCode, Failure> {
    let targets = Targets::find(common)?;
    let folder = own_folder(common)?;
    let rules = targets.rules().await?;
    let key = seam::fresh_admission(&folder, rules.chain(), args.replace_key)?;
    args.root.settle(&folder)?;
    carry(common, &targets, &[folder], &Operation::Rejoin(key)).await
}

async fn list(common: &Common, targets: &Targets, history: bool) -> Result<ExitCode, Failure> {
    let found = membership(targets, history).await?;
    Output::new(common).document(&found, shown)?;
    Ok(ExitCode::SUCCESS)
}

async fn log(
    common: &Common,
    targets: &Targets,
    member: Option<MemberId>,
) -> Result<ExitCode, Failure> {
    let found = membership(targets, true).await?;
    let mut history = found.history;
    let is_about =
        |id: MemberId, entry: &HistoryEntry| entry.by == Some(id) || entry.member == Some(id);
    history.retain(|entry| member.is_none_or(|id| is_about(id, entry)));
    let log = Log {
        height: found.height,
        history,
    };
    Output::new(common).document(&log, Log::table)?;
    Ok(ExitCode::SUCCESS)
}

/// The list as the member has it that stands highest: one that was just started is behind, and does
/// not know the newest ballots.
async fn membership(targets: &Targets, history: bool) -> Result<Membership, Failure> {
    let limit = targets.limit.min(QUICK);
    let asks = targets.members.iter();
    let asks = asks.map(|member| member.api.membership(history, limit));
    let answers = join_all(asks).await.into_iter();
    match answers.flatten().max_by_key(|found| found.height) {
        Some(found) => Ok(found),
        None => {
            let ask = async |api: Api, limit| api.membership(history, limit).await;
            targets.first(ask).await
        }
    }
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
    let found = membership(targets, false).await?;
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
