//! The command line: every verb, every flag, an example each.
//!
//! Source: `docs/cli.md`. In: words. Out: [`Cli`].
//! Holds: a flag may stand before or after words; every flag has a variable `CONSORTIUM_*`.
//! Elsewhere: what the verbs do (the file of each), the experiments and their flags (`lab`), how
//! answers are printed (`output`).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::archive::ArchiveArgs;
use super::checkpoint::{CheckpointVerb, CheckpointsOfGenesis};
use super::lab::LabVerb;
use super::member::{MembersVerb, RejoinArgs};
use super::restore::RestoreArgs;
use super::simulate::SimulateArgs;
use super::start::StartArgs;

/// The program's arguments.
#[derive(Debug, Parser)]
#[command(
    name = "consortium",
    version,
    about = "A ledger that several organisations run together without trusting any one of them",
    after_help = "Start:  consortium dev\n\
        Every flag has an environment variable CONSORTIUM_*.\n\
        Exit codes: 0 done, 1 refused or absent, 2 wrong usage, 3 timed out, \
        4 verification failed.",
    infer_subcommands = false,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb understands.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Members' HTTP addresses: several after one flag, with commas, or the flag again.
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',')]
    pub(crate) api: Vec<String>,
    /// A folder of `dev` or of one member.
    #[arg(long, global = true)]
    pub(crate) dir: Option<PathBuf>,
    /// The genesis document that answers are checked against.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
    /// How data is printed.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// How progress is shown on standard error.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) progress: Progress,
    /// Seconds until an answer is given up.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30.0)]
    pub(crate) timeout: f64,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one document, or one object a line where it never ends.
    Json,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// A bar on a terminal, else JSON lines.
    #[default]
    Auto,
    /// JSON lines.
    Json,
    /// None.
    None,
}

/// Every verb, by what it works on.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(flatten)]
    Ledger(LedgerVerb),
    #[command(flatten)]
    Member(MemberVerb),
    #[command(flatten)]
    Tool(ToolVerb),
    /// Repeats an experiment of the papers that the ledger is built on.
    #[command(
        subcommand,
        after_help = "Example:  consortium lab committee --members 1000"
    )]
    Lab(LabVerb),
}

/// Verbs that ask a running ledger.
#[derive(Debug, Subcommand)]
pub(crate) enum LedgerVerb {
    /// Asks every member now: role, height, view, regency, lag, version, state.
    #[command(after_help = "Example:  consortium status -o json")]
    Status,
    /// Prints the misbehaviour that members keep evidence of; `verify --evidence` checks it.
    #[command(after_help = "Example:  consortium faults -o json > evidence.json")]
    Faults,
    /// Submits operations and waits for the promise asked for.
    #[command(after_help = SUBMIT_HELP)]
    Submit(SubmitArgs),
    /// Prints the value of a key and nothing else; exit 1 where the key is absent.
    #[command(after_help = "Example:  consortium get greeting --certified --proof value.proof")]
    Get(GetArgs),
    /// Prints one block.
    #[command(after_help = "Example:  consortium block 3 -o json")]
    Block(BlockArgs),
    /// Prints executed transactions in the order of the ledger.
    #[command(after_help = "Example:  consortium tail --from 0 --follow -o json")]
    Tail(TailArgs),
}

const SUBMIT_HELP: &str = "\
Operations:  put KEY VALUE | del KEY | cas KEY OLD NEW | raw HEX | -   (- reads one a line)
cas with --absent takes KEY NEW and sets the key only where it is absent.
Examples:
  consortium submit put greeting hello
  consortium submit --id order-17 --wait durable --proof paid.proof put order/17 paid
  printf 'put a 1\\nput b 2\\n' | consortium submit -";

/// Verbs that make or run members.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberVerb {
    /// Runs a whole ledger on this machine: N member processes on loopback.
    #[command(after_help = "Example:  consortium dev --members 4 --dir ledger")]
    Dev(DevArgs),
    /// Brings a member back that lost its log, with a fresh consensus key.
    #[command(
        after_help = "Example:  consortium rejoin --dir ledger/member-3 --api http://host:7200"
    )]
    Rejoin(RejoinArgs),
    /// Copies a member's chain, as far as it is certified, to a folder or an object store.
    #[command(after_help = ARCHIVE_HELP)]
    Archive(ArchiveArgs),
    /// Makes the successor of a ledger whose view is dead, from a surviving member's folder or an
    /// archive.
    #[command(after_help = RESTORE_HELP)]
    Restore(RestoreArgs),
    /// Makes or shows a member's keys, or asks for a fresh consensus key.
    #[command(
        after_help = "Examples:\n  consortium key generate --dir alpha > alpha.json\n  \
        consortium key rotate --dir ledger/member-0"
    )]
    Key(KeyArgs),
    /// Joins founders' public files into a genesis document, or makes a test ledger's folders.
    #[command(
        after_help = "Examples:\n  consortium init --founder alpha.json --founder beta.json \
        --out genesis.json\n  consortium init --members 4 --dir ledger"
    )]
    Init(InitArgs),
    /// Runs one member until SIGINT or SIGTERM.
    #[command(after_help = "Example:  consortium start --dir ledger/member-2")]
    Start(StartArgs),
    /// Lists the members and changes who is one, by transactions that their identity keys sign.
    #[command(subcommand, after_help = MEMBER_HELP)]
    Member(MembersVerb),
    /// Shows which snapshots members hold, takes one now, or checks them.
    #[command(
        subcommand,
        after_help = "Example:  consortium checkpoint list --dir ledger"
    )]
    Checkpoint(CheckpointVerb),
    /// Prints every setting of a member with its default, or checks a member's file.
    #[command(after_help = "Example:  consortium config check --dir ledger/member-0")]
    Config(ConfigArgs),
}

const RESTORE_HELP: &str = "\
Only where `status` says that the view is dead, or more than f members are gone for good: a new
chain begins, which names the old one's last block and starts from its state.
Example:
  consortium key generate --dir new-0 > new-0.json     # each founder, a new folder
  consortium restore --dir ledger/member-0 --founder new-0.json new-1.json --out genesis.json
  cp genesis.json genesis.state new-0/ && consortium start --dir new-0
Where no member is left, from an archive; without founders, new-0 is the only one:
  consortium restore --archive s3://bucket/ledger --genesis genesis.json --dir new-0
  consortium start --dir new-0";

const ARCHIVE_HELP: &str = "\
The member may run. Several members may archive to one place at once. Places: a folder, file:///…,
s3://bucket/prefix, gs://bucket/prefix, az://container/prefix; credentials from the environment:
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT, AWS_ALLOW_HTTP=true without TLS;
GOOGLE_SERVICE_ACCOUNT; AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY.
Examples:
  consortium archive s3://bucket/ledger --dir ledger/member-0 --follow
  consortium archive /mnt/backup/ledger --dir ledger/member-0
  consortium verify --genesis genesis.json --archive /mnt/backup/ledger";

const MEMBER_HELP: &str = "\
With --dir of one member its identity key signs; with --dir of `dev` whoever may vote there does.
Examples, a member more and a member less:
  consortium member join --dir delta --api http://127.0.0.1:7200
  consortium member approve ID --dir ledger
  consortium member remove ID --dir ledger";

/// Verbs that need no running member of ours.
#[derive(Debug, Subcommand)]
pub(crate) enum ToolVerb {
    /// Checks a member's folder, an archive or a proof file against a genesis document; nothing
    /// else is asked.
    #[command(
        after_help = "Examples:\n  consortium verify --genesis genesis.json --proof paid.proof\n  \
        consortium verify --genesis genesis.json --archive s3://bucket/ledger"
    )]
    Verify(VerifyArgs),
    /// Measures a ledger under load.
    #[command(after_help = "Example:  consortium bench --members 4 --clients 8 --seconds 10")]
    Bench(BenchArgs),
    /// Runs members in one process under a seed: a fault found is a seed that replays it.
    #[command(after_help = "Example:  consortium simulate --seeds 100 --members 4 --shrink")]
    Simulate(SimulateArgs),
    /// Lists the engines that can order or gate.
    #[command(after_help = "Example:  consortium engines -o json")]
    Engines,
    /// Lists the membership protocols.
    #[command(after_help = "Example:  consortium overlays -o json")]
    Overlays,
    /// Lists the state machines that a ledger can run.
    #[command(after_help = "Example:  consortium applications -o json")]
    Applications,
    /// Prints completions for a shell.
    #[command(after_help = "Example:  consortium completions bash > \
        /etc/bash_completion.d/consortium")]
    Completions(CompletionsArgs),
    /// Prints the manual page, of one verb where it is named.
    #[command(after_help = "Example:  consortium man | man -l -")]
    Man(ManArgs),
}

/// How far a submission must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitFor {
    /// A quorum accepted its place; survives power loss of all members.
    Ordered,
    /// f + 1 members gave the same signed result.
    Executed,
    /// Under a block certificate: one answer proves it to anybody.
    #[default]
    Durable,
}

/// `submit`.
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// How far the submission must be before it is answered.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) wait: WaitFor,
    /// The client's key: a file in $CONSORTIUM_HOME, made on first use.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) key: String,
    /// Makes it idempotent: the same key, id and operation executes once, whoever sends it again.
    #[arg(long, value_name = "TEXT")]
    pub(crate) id: Option<String>,
    /// Writes the offline proof there.
    #[arg(long, value_name = "FILE")]
    pub(crate) proof: Option<PathBuf>,
    /// Blocks from now after which it must not execute any more.
    #[arg(long, value_name = "BLOCKS", default_value_t = crate::client::EXPIRY_BLOCKS)]
    pub(crate) expiry: u64,
    /// `cas`: the key must be absent.
    #[arg(long)]
    pub(crate) absent: bool,
    /// The operation.
    #[arg(value_name = "OPERATION", required = true, num_args = 1.., allow_negative_numbers = true)]
    pub(crate) words: Vec<String>,
}

/// `get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The key.
    pub(crate) key: String,
    /// Asks for a proof and checks it; of absence too.
    #[arg(long)]
    pub(crate) certified: bool,
    /// Writes the offline proof there; implies --certified.
    #[arg(long, value_name = "FILE")]
    pub(crate) proof: Option<PathBuf>,
}

/// `block`.
#[derive(Debug, Args)]
pub(crate) struct BlockArgs {
    /// Its height; genesis is 0.
    pub(crate) height: u64,
}

/// `tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// The first sequence to print; without it, with --follow the next one, else the last ten.
    #[arg(long, value_name = "SEQUENCE")]
    pub(crate) from: Option<u64>,
    /// Waits for more.
    #[arg(long)]
    pub(crate) follow: bool,
}

/// `dev`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DevArgs {
    /// Members with a seat.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) members: u16,
    /// Members without a seat: they follow, serve reads and pass submissions on.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=16))]
    pub(crate) observers: u16,
    /// The state machine.
    #[arg(long, default_value = "kv")]
    pub(crate) application: String,
    /// Ends by itself so many seconds after it is ready.
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// What orders inside the committee.
    #[arg(long, default_value = "mod-smart")]
    pub(crate) committee_engine: String,
    /// What gates blocks for all.
    #[arg(long, default_value = "certified")]
    pub(crate) group_engine: String,
    /// The membership protocol.
    #[arg(long, default_value = "full-gossip")]
    pub(crate) overlay: String,
    /// What keeps tables.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) tables: Tables,
    #[command(flatten)]
    pub(crate) views: ViewsOfGenesis,
    #[command(flatten)]
    pub(crate) checkpoints: CheckpointsOfGenesis,
}

/// The rules of views that a genesis document starts with.
#[derive(Clone, Debug, Args)]
pub(crate) struct ViewsOfGenesis {
    /// Blocks after which a view gives way to the next, at least 8; 0 for none by count alone.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) rotation_blocks: u32,
    /// Where fewer members may be drawn all of them sit, at most 256; from as many on a sample.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) everyone_below: u32,
}

/// What keeps tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tables {
    /// sled, with a sync behind every flush.
    #[cfg_attr(feature = "sled", default)]
    Sled,
    /// redb.
    #[cfg_attr(not(feature = "sled"), default)]
    Redb,
}

impl Tables {
    /// Its name in `member.toml`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Tables::Sled => "sled",
            Tables::Redb => "redb",
        }
    }
}

/// `key`.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// What to do; `generate` prints the public founder file.
    #[arg(value_enum)]
    pub(crate) action: KeyAction,
    /// The member's name in the founder file; the folder's name without it.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Where other members reach it, `host:port`; without it a free port of this machine.
    #[arg(long, default_value = "")]
    pub(crate) address: String,
}

/// What `key` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyAction {
    /// Makes both keys and prints the public founder file.
    Generate,
    /// Prints the public founder file of keys that are there.
    Show,
    /// Asks for another view, at which every seat brings a fresh key; once in each view.
    Rotate,
}

/// `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// A founder's public file, as `key generate` printed it.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "members")]
    pub(crate) founder: Vec<PathBuf>,
    /// The document to write.
    #[arg(long, value_name = "FILE", default_value = "genesis.json")]
    pub(crate) out: PathBuf,
    /// Makes keys, folders and the document for a test of so many members below --dir.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) members: Option<u16>,
    /// The ledger's name.
    #[arg(long, default_value = "consortium")]
    pub(crate) name: String,
    /// The state machine.
    #[arg(long, default_value = "kv")]
    pub(crate) application: String,
    /// A client key that may submit, by its hex; without any, every key may.
    #[arg(long, value_name = "KEY")]
    pub(crate) client: Vec<String>,
    #[command(flatten)]
    pub(crate) views: ViewsOfGenesis,
    #[command(flatten)]
    pub(crate) checkpoints: CheckpointsOfGenesis,
}

/// `config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// What to do.
    #[arg(value_enum)]
    pub(crate) action: ConfigAction,
}

/// What `config` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigAction {
    /// Prints every setting: those of the folder's `member.toml`, defaults for the rest.
    Print,
    /// Checks the folder's `member.toml`.
    Check,
}

/// `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A proof file.
    #[arg(long, value_name = "FILE")]
    pub(crate) proof: Option<PathBuf>,
    /// A file of evidence against a member: what `faults -o json` prints, or hex digits.
    #[arg(long, value_name = "FILE", conflicts_with = "proof")]
    pub(crate) evidence: Option<PathBuf>,
    /// An archive's address.
    #[arg(long, value_name = "URL")]
    pub(crate) archive: Option<String>,
    /// The view chain, fetched from members.
    #[arg(long)]
    pub(crate) views: bool,
    /// The genesis document of the ledger that this one succeeds: it must be the one it names.
    #[arg(long, value_name = "FILE")]
    pub(crate) predecessor: Option<PathBuf>,
    /// A member's folder of that ledger: read whole, it must lead to where this one goes on.
    #[arg(long, value_name = "DIR", requires = "predecessor")]
    pub(crate) predecessor_dir: Option<PathBuf>,
    /// As --predecessor-dir, an archive of that ledger.
    #[arg(
        long,
        value_name = "URL",
        requires = "predecessor",
        conflicts_with = "predecessor_dir"
    )]
    pub(crate) predecessor_archive: Option<String>,
}

/// `bench`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// Members of the ledger that it starts, where --api and --dir name none.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) members: u16,
    /// Bytes of one operation.
    #[arg(long, default_value_t = 512)]
    pub(crate) size: usize,
    /// What is promised per answer; see `docs/cli.md`.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) mode: BenchMode,
    /// Transactions under one signature, at most.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) batch_signature: u16,
    /// Open loop: so many transactions a second, whatever the answers do.
    #[arg(long, conflicts_with = "clients")]
    pub(crate) rate: Option<f64>,
    /// Closed loop: so many transactions under way at once.
    #[arg(long)]
    pub(crate) clients: Option<u32>,
    /// How long it is measured.
    #[arg(long, default_value_t = 20.0)]
    pub(crate) seconds: f64,
    /// How far a submission must be.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) wait: WaitFor,
    /// What keeps tables.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) tables: Tables,
}

/// What is promised per answer, from least to most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum BenchMode {
    /// Unsigned and in memory.
    U,
    /// On disk without signatures.
    D,
    /// Signed, in memory.
    S,
    /// Signed, on disk, under a certificate: what the ledger does.
    #[default]
    R,
}

/// `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// A verb; the whole program without one.
    pub(crate) verb: Option<String>,
}

/// Parses `words`, the program's name first.
///
/// Errors: what clap prints, help and version among them.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(spread_urls(words))?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// The whole grammar, every flag with its variable.
pub(crate) fn command() -> clap::Command {
    with_variables(Cli::command())
}

fn with_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_long() {
        Some(long) => {
            let name = format!("CONSORTIUM_{}", long.to_uppercase().replace('-', "_"));
            arg.env(clap::builder::Str::from(name))
                .hide_env_values(true)
        }
        None => arg,
    });
    command.mut_subcommands(with_variables)
}

/// `--api A B C` means three addresses: every later word that is one gets the flag again, so that
/// the words of the verb are never taken for addresses.
fn spread_urls(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut spread: Vec<OsString> = Vec::new();
    let mut after_url = false;
    for word in words {
        let text = word.to_string_lossy();
        let is_url = text.starts_with("http://") || text.starts_with("https://");
        let is_after_flag = spread.last().is_some_and(|last| last == "--api");
        if is_url && after_url && !is_after_flag {
            spread.push("--api".into());
        }
        after_url = text.starts_with("--api=") || is_url && (is_after_flag || after_url);
        spread.push(word);
    }
    spread
}
