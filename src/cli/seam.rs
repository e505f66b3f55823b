//! What the verbs take from `node` and `sim`.
//!
//! Source: `docs/cli.md`. In: folders and settings. Out: keys, running members, findings.
//! Holds: a part that is not built in answers plainly.
//! Elsewhere: members (`node`), what to do about their errors (`advice`).

pub(crate) mod archive;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::Common;
use super::failure::Failure;
use super::output::{Meter, say};
use super::verify::{Found, Report};
use crate::blocks::{Founder, Genesis, Parameters};
use crate::bootstrap::Pin;
use crate::committee::{Height, KeyProof, MemberId, ViewId};
use crate::crypto::{Digest, SecretKey};
use crate::node::selftest::{self, Measured, Samples, Verdict};
use crate::node::{self, Config, NodeError, keys};
use crate::storage::Store;

/// The ledger that `init --members` and `dev` make.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) addresses: Vec<(SocketAddr, SocketAddr)>,
    /// The same of members without a seat.
    pub(crate) observers: Vec<(SocketAddr, SocketAddr)>,
    pub(crate) parameters: Parameters,
    pub(crate) tables: &'static str,
    pub(crate) overlay: String,
    /// Whether members sign JSON operations of whoever reaches them, for `curl`.
    pub(crate) signs_operations: bool,
}

/// The overlay of a member whose settings name none.
pub(crate) fn default_overlay() -> String {
    node::Neighbours::default().overlay
}

/// Makes keys, settings and the genesis document of every member of `plan`.
pub(crate) fn make_cluster(dir: &Path, plan: &Plan) -> Result<Genesis, Failure> {
    let cluster = node::init::Cluster {
        name: plan.name.clone(),
        addresses: plan.addresses.clone(),
        observers: plan.observers.clone(),
        parameters: plan.parameters.clone(),
        config: Config {
            tables: plan.tables.into(),
            neighbours: node::Neighbours {
                overlay: plan.overlay.clone(),
                ..node::Neighbours::default()
            },
            signs_operations: plan.signs_operations,
            ..Config::default()
        },
    };
    Ok(node::init::cluster(dir, &cluster)?)
}

/// Makes a member's keys and gives its public file.
pub(crate) fn generate_keys(dir: &Path, name: &str, address: &str) -> Result<Founder, Failure> {
    Ok(keys::generate(dir, name, address).map_err(NodeError::from)?)
}

/// The identity key of the member in `dir`.
pub(crate) fn identity(dir: &Path) -> Result<SecretKey, Failure> {
    Ok(keys::identity(dir).map_err(NodeError::from)?)
}

/// The proof of the consensus key of the member in `dir` for its admission to `chain`.
pub(crate) fn admission(dir: &Path, chain: &Digest) -> Result<KeyProof, Failure> {
    let consensus = keys::consensus(dir).map_err(NodeError::from)?;
    let (zero, identity) = (Digest::ZERO, identity(dir)?);
    let secret = &consensus.secret;
    Ok(KeyProof::make(chain, ViewId(0), &zero, &identity, secret))
}

/// As [`admission`], of a key that never voted. One that did is erased first: what it signed may be
/// lost, so it must not sign again. Where nothing became of an earlier try its key is taken.
///
/// Where data and key are whole nothing is erased unless `replaces` says so.
pub(crate) fn fresh_admission(
    dir: &Path,
    chain: &Digest,
    replaces: bool,
) -> Result<KeyProof, Failure> {
    let config = load(dir)?;
    let (place, data) = (dir.display(), dir.join(&config.data));
    let genesis = node::read_genesis(dir, &config).map_err(NodeError::from)?;
    if genesis.chain() != *chain {
        return Err(Failure::refused(
            format!(
                "{place} is of chain {}, the ledger that answers is {chain}",
                genesis.chain()
            ),
            "give the addresses of this member's ledger: --api URL",
        ));
    }
    let store = Store::read_id(&data).ok();
    // Held until the key is changed, so that no start comes between.
    let held = store.map(|id| Store::open(&data, id)).transpose();
    let _held = held.map_err(NodeError::from)?;
    let [present, next] = keys::held(dir).map_err(NodeError::from)?;
    let is_fresh = |key: &keys::Consensus| !key.is_bound && key.call.is_none();
    let is_whole = present
        .as_ref()
        .is_some_and(|key| key.is_bound && Some(key.store) == store);
    if is_whole && data.join("log").is_dir() && !replaces {
        return Err(Failure::refused(
            format!("{place} has its data and its key: consortium start --dir {place}"),
            "if it says 'wiped', or data/ is an older copy: rejoin --replace-key",
        ));
    }
    if next.is_some() || !present.as_ref().is_some_and(is_fresh) {
        keys::rotate(dir, store).map_err(NodeError::from)?;
    }
    admission(dir, chain)
}

/// Whether `dir` holds a member's identity.
pub(crate) fn has_keys(dir: &Path) -> bool {
    dir.join(keys::IDENTITY_FILE).exists()
}

/// Makes the settings in `dir` those of a member that the genesis document does not name, and puts
/// the document there where it is given and not there yet.
///
/// A founder that comes back stays one. Who left has no consensus key any more and gets another.
pub(crate) fn make_newcomer(dir: &Path, genesis: Option<&Path>) -> Result<(), Failure> {
    let mut config = load(dir)?;
    let document = dir.join(&config.genesis);
    if let Some(genesis) = genesis.filter(|_| !document.exists()) {
        let text = std::fs::read(genesis).map_err(|error| Failure::file(genesis, &error))?;
        // A successor's state first: where the document is, all that it needs is.
        let state = state_file(genesis);
        match std::fs::read(&state) {
            Ok(bytes) => write_whole(&state_file(&document), &bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::file(&state, &error)),
        }
        write_whole(&document, &text)?;
    }
    let me = keys::member(dir).map_err(NodeError::from)?;
    let is_founder = node::read_genesis(dir, &config).is_ok_and(|genesis| {
        let mut founders = genesis.founders.iter();
        founders.any(|founder| MemberId::of(&founder.identity) == me)
    });
    if !config.observer && !is_founder {
        config.observer = true;
        let path = dir.join(node::config::CONFIG_FILE);
        write_whole(&path, config.to_toml().as_bytes())?;
    }
    if keys::held(dir)
        .map_err(NodeError::from)?
        .iter()
        .all(Option::is_none)
    {
        let store = Store::read_id(&dir.join(&config.data)).ok();
        keys::rotate(dir, store).map_err(NodeError::from)?;
    }
    Ok(())
}

/// Where the genesis document of the member in `dir` stands.
pub(crate) fn genesis_file(dir: &Path) -> Result<PathBuf, Failure> {
    Ok(dir.join(load(dir)?.genesis))
}

/// Writes a file that is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let new = path.with_extension("new");
    let written = std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, path));
    written.map_err(|error| Failure::file(path, &error))
}

/// Whether the member in `dir` has a file of settings.
pub(crate) fn has_settings(dir: &Path) -> bool {
    dir.join(node::config::CONFIG_FILE).exists()
}

/// Writes the settings of a new member that listens for members and clients at `listen`.
pub(crate) fn write_settings(
    dir: &Path,
    name: &str,
    listen: (SocketAddr, SocketAddr),
) -> Result<(), Failure> {
    let config = Config {
        name: name.into(),
        listen_p2p: listen.0,
        listen_api: listen.1,
        ..Config::default()
    };
    let path = dir.join(node::config::CONFIG_FILE);
    std::fs::write(&path, config.to_toml()).map_err(|error| Failure::file(&path, &error))
}

/// Settles the root of trust of the member in `dir`.
pub(crate) fn settle_pin(dir: &Path, pin: &Pin) -> Result<(), Failure> {
    Ok(Config::settle_pin(dir, pin).map_err(NodeError::from)?)
}

/// Where clients reach a member that settles nothing.
pub(crate) fn default_api() -> SocketAddr {
    Config::default().listen_api
}

/// Where the member in `dir` listens for members, if it settles that.
pub(crate) fn p2p_address(dir: &Path) -> Result<String, Failure> {
    match has_settings(dir) {
        true => Ok(load(dir)?.listen_p2p.to_string()),
        false => Ok(String::new()),
    }
}

/// The public file of keys that are there.
pub(crate) fn show_keys(dir: &Path, name: &str, address: &str) -> Result<Founder, Failure> {
    Ok(keys::show(dir, name, address).map_err(NodeError::from)?)
}

/// A member's settings, twice.
pub(crate) struct Settings {
    pub(crate) as_toml: String,
    pub(crate) as_json: serde_json::Value,
}

/// Every setting of the member in `dir`, or every default.
pub(crate) fn settings(dir: Option<&Path>) -> Result<Settings, Failure> {
    let config = match dir {
        Some(dir) => load(dir)?,
        None => Config::default(),
    };
    let as_json = serde_json::to_value(&config);
    Ok(Settings {
        as_toml: config.explained(),
        as_json: as_json.expect("settings of strings and numbers have a JSON form"),
    })
}

fn load(dir: &Path) -> Result<Config, Failure> {
    Ok(Config::load(dir).map_err(NodeError::from)?)
}

/// A member whose files fit each other.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Checked {
    pub(crate) member: MemberId,
    pub(crate) name: String,
    pub(crate) chain: Digest,
    pub(crate) p2p: String,
    pub(crate) api: String,
    pub(crate) timing: CheckedTiming,
}

/// Self-tests before a timeout is refused: a disk that stood still once is no reason.
const SELFTESTS_MAX: usize = 3;

/// What a self-test measured, and what follows for `progress_timeout_least_ms`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CheckedTiming {
    pub(crate) measured: Measured,
    pub(crate) progress_timeout_least_ms: u64,
    /// Below this it is refused.
    pub(crate) works_ms: u64,
    /// Below this it is tight.
    pub(crate) calm_ms: u64,
    pub(crate) verdict: Verdict,
}

impl CheckedTiming {
    /// Measures what the member's timeouts are held against.
    fn of(
        dir: &Path,
        config: &Config,
        genesis: &Genesis,
        member: &MemberId,
    ) -> Result<Self, Failure> {
        let mut measured = Self::measure(dir, config, genesis, member)?;
        for _ in 1..SELFTESTS_MAX {
            if measured.judge(&config.timing) != Verdict::Deadly {
                break;
            }
            let again = Self::measure(dir, config, genesis, member)?;
            if again.works_ms() < measured.works_ms() {
                measured = again;
            }
        }
        let verdict = measured.judge(&config.timing);
        if verdict == Verdict::Deadly {
            let path = dir.join(node::config::CONFIG_FILE);
            let why = measured.explain(&config.timing, measured.works_ms());
            let next = "set progress_timeout_least_ms as named above, or take it out of the file";
            return Err(Failure::refused(format!("{}: {why}", path.display()), next));
        }
        Ok(Self {
            progress_timeout_least_ms: config.timing.progress_timeout_least_ms,
            works_ms: measured.works_ms(),
            calm_ms: measured.calm_ms(),
            verdict,
            measured,
        })
    }

    fn measure(
        dir: &Path,
        config: &Config,
        genesis: &Genesis,
        member: &MemberId,
    ) -> Result<Measured, Failure> {
        let measured = selftest::run(dir, config, genesis, member);
        measured.map_err(|error| Failure::file(&dir.join(&config.data), &error))
    }

    /// What it says of the timeout, for people.
    pub(crate) fn line(&self) -> String {
        let word = match self.verdict {
            Verdict::Calm => "calm",
            Verdict::Tight => "tight",
            Verdict::Deadly => "deadly",
        };
        let (least, works) = (self.progress_timeout_least_ms, self.works_ms);
        format!(
            "{least}: {word}; {works} works, {} leaves room",
            self.calm_ms
        )
    }

    /// What syncs take, for people.
    pub(crate) fn sync(&self) -> String {
        let place = self.measured.place.display();
        format!("{}, in {place}", samples(&self.measured.sync))
    }

    /// What round trips take, for people.
    pub(crate) fn round_trip(&self) -> String {
        let with = self.measured.with();
        format!("{}, with {with}", samples(&self.measured.round_trip))
    }
}

fn samples(samples: &Samples) -> String {
    let Samples {
        count,
        fastest_us,
        p99_us,
    } = samples;
    format!("{fastest_us} µs, p99 {p99_us} µs, of {count}")
}

/// Reads the settings, the keys and the genesis document of the member in `dir`.
pub(crate) fn check_member(dir: &Path) -> Result<Checked, Failure> {
    let config = load(dir)?;
    let member = keys::member(dir).map_err(NodeError::from)?;
    let genesis = node::read_genesis(dir, &config).map_err(NodeError::from)?;
    let founder = genesis
        .founders
        .iter()
        .find(|f| MemberId::of(&f.identity) == member);
    let place = dir.display();
    let name = match (founder, config.observer) {
        (Some(founder), false) => founder.name.clone(),
        (None, true) => config.name.clone(),
        (Some(_), true) => {
            return Err(Failure::refused(
                format!("{place} is of founder {member}, who has a seat"),
                "take `observer = true` out of member.toml",
            ));
        }
        (None, false) => {
            return Err(Failure::refused(
                format!("{place} is of member {member}, no founder of this ledger"),
                "join its public file into the genesis document (consortium init --founder), or \
                 let it watch: observer = true in member.toml",
            ));
        }
    };
    Ok(Checked {
        member,
        name,
        chain: genesis.chain(),
        p2p: config.listen_p2p.to_string(),
        api: format!("http://{}", config.listen_api),
        timing: CheckedTiming::of(dir, &config, &genesis, &member)?,
    })
}

/// The HTTP address and the genesis document of the member in `folder`, if it is one.
pub(crate) fn door_of(folder: &Path) -> Result<Option<(String, Option<Genesis>)>, Failure> {
    if !folder.join(node::config::CONFIG_FILE).exists() {
        return Ok(None);
    }
    let config = load(folder)?;
    let genesis = node::read_genesis(folder, &config).ok();
    Ok(Some((format!("http://{}", config.listen_api), genesis)))
}

/// Where the state of a successor's `document` stands.
pub(crate) fn state_file(document: &Path) -> PathBuf {
    node::Carried::path(document)
}

/// Writes what a successor starts from.
pub(crate) fn write_state(carried: &node::Carried, path: &Path) -> Result<(), Failure> {
    Ok(carried.write(path).map_err(NodeError::from)?)
}

/// Reads every file below the `data/` of the member in `dir` and checks it against `genesis`.
pub(crate) fn verify_dir(
    common: &Common,
    dir: &Path,
    genesis: &Genesis,
) -> Result<Report, Failure> {
    look(common, LOG, dir, genesis, node::verify_dir).map(report)
}

/// Checks the snapshots below the `data/` of the member in `dir` against `genesis`, and only them.
pub(crate) fn verify_snapshots(
    common: &Common,
    dir: &Path,
    genesis: &Genesis,
) -> Result<node::SnapshotsVerdict, Failure> {
    look(
        common,
        "bytes of snapshots",
        dir,
        genesis,
        node::verify_snapshots,
    )
}

/// As [`verify_dir`], and what the ledger leaves to a successor.
pub(crate) fn verify_legacy(
    common: &Common,
    dir: &Path,
    genesis: &Genesis,
) -> Result<(Report, node::Legacy), Failure> {
    let (verdict, legacy) = look(common, LOG, dir, genesis, node::verify_legacy)?;
    Ok((report(verdict), legacy))
}

/// What `verify` shows the progress of.
const LOG: &str = "bytes of the log";

/// Reads a folder with a bar that shows how far it is.
fn look<T>(
    common: &Common,
    what: &'static str,
    dir: &Path,
    genesis: &Genesis,
    verify: impl FnOnce(node::VerifyDir<'_>) -> Result<T, node::VerifyError>,
) -> Result<T, Failure> {
    let mut meter: Option<Meter> = None;
    let mut progress = |done: u64, total: u64| {
        let meter = meter.get_or_insert_with(|| Meter::new(common, what, total));
        meter.set(done);
    };
    let options = node::VerifyDir {
        dir: dir.to_owned(),
        genesis: genesis.clone(),
        progress: &mut progress,
    };
    let looked = verify(options).map_err(|error| {
        let next = match &error {
            node::VerifyError::Carried(_) => "the .state file stands beside its genesis.json",
            node::VerifyError::Config(_)
            | node::VerifyError::NoData { .. }
            | node::VerifyError::Genesis(_)
            | node::VerifyError::Application(_)
            | node::VerifyError::Running { .. }
            | node::VerifyError::Log(_)
            | node::VerifyError::Tables(_)
            | node::VerifyError::Objects(_)
            | node::VerifyError::NothingArchived { .. }
            | node::VerifyError::Io { .. } => {
                "name a member's folder, the one that holds member.toml"
            }
        };
        Failure::refused(error, next)
    });
    if let Some(meter) = meter {
        meter.finish();
    }
    looked
}

/// What was found, as it is printed.
fn report(verdict: node::Verdict) -> Report {
    verdict.notes.iter().for_each(say);
    let found = |fault: node::Fault| Found {
        file: fault.file,
        height: Some(Height(fault.height)),
        what: fault.what,
    };
    Report {
        ok: verdict.ok,
        finality: verdict.finality.into(),
        height: verdict.height,
        digest: verdict.digest,
        state_digest: Some(verdict.state_digest),
        blocks: verdict.blocks,
        views: verdict.views,
        checkpoints: verdict.checkpoints,
        signatures: verdict.signatures,
        seconds: verdict.seconds,
        faults: verdict.faults.into_iter().map(found).collect(),
        ..Report::default()
    }
}

/// The folder of member `number` below `dir`.
pub(crate) fn member_dir(dir: &Path, number: usize) -> PathBuf {
    node::init::member_dir(dir, number)
}

/// The folder of observer `number` below `dir`.
pub(crate) fn observer_dir(dir: &Path, number: usize) -> PathBuf {
    node::init::observer_dir(dir, number)
}
