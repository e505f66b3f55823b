//! What the verbs take from `node` and `sim`: the only file that names them.
//!
//! Source: `docs/cli.md`. In: folders and settings. Out: keys, running members, findings.
//! Holds: a part that is not built in answers plainly. Elsewhere: members (`node`).

use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use super::args::Common;
use super::failure::Failure;
use super::output::{Meter, say};
use super::verify::{Found, Report};
use crate::blocks::{Founder, Genesis, Parameters};
use crate::committee::{Height, MemberId};
use crate::crypto::Digest;
use crate::node::{self, Config, NodeError, keys};

/// The ledger that `init --members` and `dev` make.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) addresses: Vec<(SocketAddr, SocketAddr)>,
    pub(crate) parameters: Parameters,
    pub(crate) tables: &'static str,
    /// Whether members sign JSON operations of whoever reaches them, for `curl`.
    pub(crate) signs_operations: bool,
}

/// Makes keys, settings and the genesis document of every member of `plan`.
pub(crate) fn make_cluster(dir: &Path, plan: &Plan) -> Result<Genesis, Failure> {
    let cluster = node::init::Cluster {
        name: plan.name.clone(),
        addresses: plan.addresses.clone(),
        parameters: plan.parameters.clone(),
        config: Config {
            tables: plan.tables.into(),
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
        as_toml: config.to_toml(),
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
    let Some(founder) = founder else {
        return Err(Failure::refused(
            format!(
                "{} is of member {member}, no founder of this ledger",
                dir.display()
            ),
            "join its public file into the genesis document: consortium init --founder",
        ));
    };
    Ok(Checked {
        member,
        name: founder.name.clone(),
        chain: genesis.chain(),
        p2p: config.listen_p2p.to_string(),
        api: format!("http://{}", config.listen_api),
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

/// Reads every file below the `data/` of the member in `dir` and checks it against `genesis`.
pub(crate) fn verify_dir(
    common: &Common,
    dir: &Path,
    genesis: &Genesis,
) -> Result<Report, Failure> {
    let mut meter: Option<Meter> = None;
    let mut progress = |done: u64, total: u64| {
        let meter = meter.get_or_insert_with(|| Meter::new(common, "bytes of the log", total));
        meter.set(done);
    };
    let options = node::VerifyDir {
        dir: dir.to_owned(),
        genesis: genesis.clone(),
        progress: &mut progress,
    };
    let verdict = node::verify_dir(options).map_err(|error| {
        Failure::refused(
            error,
            "name a member's folder, the one that holds member.toml",
        )
    });
    if let Some(meter) = meter {
        meter.finish();
    }
    let verdict = verdict?;
    verdict.notes.iter().for_each(say);
    let found = |fault: node::Fault| Found {
        file: fault.file,
        height: Some(Height(fault.height)),
        what: fault.what,
    };
    Ok(Report {
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
        proof: None,
    })
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let next = match &error {
            NodeError::Config(_) => "consortium config print shows every setting and its default",
            NodeError::Key(_) => "consortium key show --dir DIR; keys are made by key generate",
            NodeError::Genesis(_) => "copy the ledger's genesis.json to where member.toml says",
            NodeError::Unusable(_) => "name the folder of a member of this ledger with its data/",
            NodeError::Plug(_) => "consortium engines and consortium overlays list the names",
            NodeError::Store(_) | NodeError::Log(_) => {
                "is it running already? else: consortium verify --genesis FILE --dir DIR"
            }
            NodeError::Tables(_) => "keep the `tables` of member.toml that made this folder",
            NodeError::Replay(_) => "consortium verify --genesis FILE --dir DIR names the fault",
            NodeError::Application(_) => "build with that application, or check genesis.json",
            NodeError::Net(_) | NodeError::System { .. } => {
                "is another program at listen_p2p or listen_api of member.toml?"
            }
            NodeError::Failed { .. } => "the log above says more; start it again",
        };
        Self::refused(error, next)
    }
}

/// The folder of member `number` below `dir`.
pub(crate) fn member_dir(dir: &Path, number: usize) -> std::path::PathBuf {
    node::init::member_dir(dir, number)
}

/// What the HTTP door asks.
pub(crate) fn host(node: &node::Node) -> std::sync::Arc<dyn crate::api::Host> {
    std::sync::Arc::new(node.handle())
}
