//! `key`, `init` and `config`: the files of members, before anything runs.
//!
//! Source: `docs/cli.md`, `docs/formats.md`. In: folders, founders' public files. Out: keys, the
//! genesis document, settings.
//! Holds: only public files are joined; nothing that exists is overwritten; no secret is printed.
//! Elsewhere: how keys are kept (`node::keys`), what the document says (`blocks`).

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::args::{Common, ConfigAction, ConfigArgs, InitArgs, KeyAction, KeyArgs};
use super::failure::Failure;
use super::output::{Output, pairs, say};
use super::{ports, seam, tools};
use crate::blocks::{Clients, FORMAT_VERSION, Founder, Genesis, Parameters};
use crate::committee::MemberId;
use crate::crypto::{Digest, PublicKey};

pub(crate) fn key(common: &Common, args: &KeyArgs) -> Result<ExitCode, Failure> {
    let Some(dir) = &common.dir else {
        let what = "whose keys? a member's folder is missing";
        let next = match args.action {
            KeyAction::Generate => "consortium key generate --dir alpha",
            KeyAction::Show => "consortium key show --dir alpha",
            KeyAction::Rotate => "consortium key rotate --dir ledger/member-0",
        };
        return Err(Failure::usage(what, next));
    };
    let folder = dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = args
        .name
        .clone()
        .or(folder)
        .unwrap_or_else(|| "member".into());
    let founder = match args.action {
        KeyAction::Generate => generate(dir, &name, &args.address)?,
        KeyAction::Rotate => return super::on_runtime(super::member::renew(common)),
        KeyAction::Show => {
            let address = match args.address.as_str() {
                "" => seam::p2p_address(dir)?,
                given => given.to_owned(),
            };
            seam::show_keys(dir, &name, &address)?
        }
    };
    // The founder file is JSON in both formats: it is what `init` reads.
    let text = serde_json::to_string_pretty(&founder);
    let text = text.expect("a founder of strings and keys has a JSON form");
    Output::new(common).lines(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the keys of a member, and settings that fit its address: it can be started as it is.
pub(crate) fn generate(dir: &Path, name: &str, address: &str) -> Result<Founder, Failure> {
    let listen = listen_at(address)?;
    let address = match address {
        "" => listen.0.to_string(),
        given => given.to_owned(),
    };
    let founder = seam::generate_keys(dir, name, &address)?;
    if !seam::has_settings(dir) {
        seam::write_settings(dir, name, listen)?;
    }
    let api = listen.1;
    say(format!(
        "member {name} at {address}, clients at http://{api}; settings: {}/member.toml",
        dir.display()
    ));
    if listen.0.ip().is_loopback() {
        say("note: only members on this machine reach it there; else --address HOST:PORT");
    }
    Ok(founder)
}

/// Makes of `dir` the folder of a newcomer to the ledger of `genesis`: keys, settings, the
/// document. What is there stays.
pub(crate) fn furnish(
    dir: &Path,
    name: &str,
    address: &str,
    genesis: Option<&Path>,
) -> Result<(), Failure> {
    if !seam::has_keys(dir) {
        generate(dir, name, address)?;
    }
    seam::make_newcomer(dir, genesis)
}

/// Where a member listens for members and clients whom others reach at `address`.
fn listen_at(address: &str) -> Result<(SocketAddr, SocketAddr), Failure> {
    let free = || {
        let pairs = ports::free_pairs(1)?;
        Ok(*pairs.first().expect("as many pairs as were asked for"))
    };
    let given = match address {
        "" => return free(),
        given => given,
    };
    let port = given
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let Some(port) = port else {
        let what = format!("--address {given} names no port");
        return Err(Failure::usage(what, "--address ledger.example.org:7100"));
    };
    match given.parse::<SocketAddr>() {
        // Several members may share this machine.
        Ok(here) if here.ip().is_loopback() => Ok((here, free()?.1)),
        // A name, or an address that may be another machine's.
        _ => Ok((([0, 0, 0, 0], port).into(), seam::default_api())),
    }
}

/// What `init` made.
#[derive(Serialize)]
struct Made {
    genesis: PathBuf,
    chain: Digest,
    name: String,
    members: Vec<MadeMember>,
}

#[derive(Serialize)]
pub(crate) struct MadeMember {
    id: MemberId,
    pub(crate) name: String,
    address: String,
}

/// The members of view 0.
pub(crate) fn made_members(genesis: &Genesis) -> Vec<MadeMember> {
    let founders = genesis.founders.iter();
    let made = founders.map(|founder| MadeMember {
        id: MemberId::of(&founder.identity),
        name: founder.name.clone(),
        address: founder.address.clone(),
    });
    made.collect()
}

pub(crate) fn init(common: &Common, args: &InitArgs) -> Result<ExitCode, Failure> {
    let parameters = Parameters {
        application: tools::known_application(&args.application)?,
        views: tools::view_rules(&args.views)?,
        checkpoints: args.checkpoints.rules()?,
        clients: clients(&args.client)?,
        ..Parameters::default()
    };
    let (path, genesis) = match (args.members, args.founder.as_slice()) {
        (Some(members), []) => {
            let Some(dir) = &common.dir else {
                let what = "--members makes folders, and --dir is missing";
                return Err(Failure::usage(
                    what,
                    "consortium init --members 4 --dir ledger",
                ));
            };
            let plan = seam::Plan {
                name: args.name.clone(),
                addresses: ports::free_pairs(members.into())?,
                observers: Vec::new(),
                parameters,
                tables: super::args::Tables::default().name(),
                overlay: seam::default_overlay(),
                signs_operations: false,
            };
            (dir.join("genesis.json"), seam::make_cluster(dir, &plan)?)
        }
        (None, []) => {
            return Err(Failure::usage(
                "no founder is named",
                "--founder FILE… as `key generate` printed them, or --members N for a test",
            ));
        }
        (_, files) => {
            let genesis = join(founders(files)?, &args.name, parameters)?;
            write_new(&args.out, genesis.to_json().as_bytes())?;
            (args.out.clone(), genesis)
        }
    };
    let made = Made {
        chain: genesis.chain(),
        name: genesis.name.clone(),
        members: made_members(&genesis),
        genesis: path,
    };
    Output::new(common).document(&made, |made| {
        let members: Vec<&str> = made.members.iter().map(|m| m.name.as_str()).collect();
        pairs(&[
            ("genesis", made.genesis.display().to_string()),
            ("chain", made.chain.to_string()),
            ("name", made.name.clone()),
            ("members", members.join(" ")),
        ])
    })?;
    say("next: compare the chain id with every founder, then: consortium start --dir MEMBER_DIR");
    Ok(ExitCode::SUCCESS)
}

/// Reads founders' public files.
pub(crate) fn founders(files: &[PathBuf]) -> Result<Vec<Founder>, Failure> {
    let mut founders = Vec::new();
    for path in files {
        let text = fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
        let founder: Founder = serde_json::from_str(&text).map_err(|error| {
            let what = format!("{}: {error}", path.display());
            Failure::refused(
                what,
                "ask that founder for the output of: consortium key show",
            )
        })?;
        founders.push(founder);
    }
    Ok(founders)
}

/// The founders as one document.
pub(crate) fn join(
    founders: Vec<Founder>,
    name: &str,
    parameters: Parameters,
) -> Result<Genesis, Failure> {
    let founded = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let genesis = Genesis {
        version: FORMAT_VERSION,
        name: name.into(),
        founded_us: u64::try_from(founded.as_micros()).unwrap_or_default(),
        parameters,
        founders,
        successor_of: None,
    };
    let checked = genesis.check();
    let next = "ask the founder that is named for a new file, or leave it out";
    checked.map_err(|error| Failure::refused(error, next))?;
    Ok(genesis)
}

fn clients(keys: &[String]) -> Result<Clients, Failure> {
    if keys.is_empty() {
        return Ok(Clients::Open);
    }
    let keys = keys.iter().map(|key| {
        let key: Result<PublicKey, _> = key.parse();
        key.map_err(|error| Failure::usage(error, "a client key is 64 hex digits"))
    });
    Ok(Clients::Listed(keys.collect::<Result<_, _>>()?))
}

/// Writes a file that must not be there.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let write = || {
        let mut file = fs::File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| {
        if error.kind() != std::io::ErrorKind::AlreadyExists {
            return Failure::file(path, &error);
        }
        let what = format!("{} exists, and is made once", path.display());
        Failure::refused(what, "give another --out, or remove the file")
    })
}

pub(crate) fn config(common: &Common, args: &ConfigArgs) -> Result<ExitCode, Failure> {
    let output = Output::new(common);
    match args.action {
        ConfigAction::Print => {
            let settings = seam::settings(common.dir.as_deref())?;
            output.document(&settings.as_json, |_| settings.as_toml.clone())?;
        }
        ConfigAction::Check => {
            let Some(dir) = &common.dir else {
                let what = "whose settings? a member's folder is missing";
                return Err(Failure::usage(
                    what,
                    "consortium config check --dir MEMBER_DIR",
                ));
            };
            let checked = seam::check_member(dir)?;
            output.document(&checked, |checked| {
                pairs(&[
                    ("member", checked.member.to_string()),
                    ("name", checked.name.clone()),
                    ("chain", checked.chain.to_string()),
                    ("p2p", checked.p2p.clone()),
                    ("api", checked.api.clone()),
                    ("progress_timeout_least_ms", checked.timing.line()),
                    ("sync", checked.timing.sync()),
                    ("round trip", checked.timing.round_trip()),
                ])
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
