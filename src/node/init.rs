//! Makes the directories of a test ledger: keys, genesis document, settings.
//!
//! Source: interface, `init`. In: names and addresses. Out: one directory per member.
//! Holds: every member finds the same genesis document; nothing that exists is overwritten.
//! Elsewhere: keys (`keys`), a ledger of several organisations, whose members make their own keys
//! (`cli`).

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::config::{CONFIG_FILE, Config, Neighbours, Observer};
use super::error::NodeError;
use super::keys;
use crate::blocks::{FORMAT_VERSION, Genesis, Parameters};

/// The genesis document's name in a member's directory.
pub const GENESIS_FILE: &str = "genesis.json";

/// What a test ledger is made of.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The ledger's name.
    pub name: String,
    /// Where members and clients reach each member; as many members as addresses.
    pub addresses: Vec<(SocketAddr, SocketAddr)>,
    /// The same of members without a seat.
    pub observers: Vec<(SocketAddr, SocketAddr)>,
    /// The genesis parameters.
    pub parameters: Parameters,
    /// What every member's settings start from.
    pub config: Config,
}

/// The directory of member `number` below `dir`.
pub fn member_dir(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("member-{number}"))
}

/// The directory of observer `number` below `dir`.
pub fn observer_dir(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("observer-{number}"))
}

/// Makes the members of `cluster` in `dir`, and `dir/genesis.json`.
///
/// Errors: [`NodeError::Key`] when a member has keys already, [`NodeError::Genesis`] when the
/// parameters are wrong, [`NodeError::System`].
pub fn cluster(dir: &Path, cluster: &Cluster) -> Result<Genesis, NodeError> {
    let mut founders = Vec::new();
    for (number, (p2p, _)) in cluster.addresses.iter().enumerate() {
        let name = format!("member-{number}");
        let made = keys::generate(&member_dir(dir, number), &name, &p2p.to_string())?;
        founders.push(made);
    }
    let founded = SystemTime::now().duration_since(UNIX_EPOCH);
    let founded_us = u64::try_from(founded.unwrap_or_default().as_micros());
    let genesis = Genesis {
        version: FORMAT_VERSION,
        name: cluster.name.clone(),
        founded_us: founded_us.unwrap_or_default(),
        parameters: cluster.parameters.clone(),
        founders,
        successor_of: None,
    };
    let path = dir.join(GENESIS_FILE);
    genesis
        .check()
        .map_err(|source| super::error::GenesisFile::Wrong {
            path: path.clone(),
            source,
        })?;
    write(&path, &genesis.to_json())?;
    let observers = observers(dir, cluster)?;
    for (number, address) in cluster.addresses.iter().enumerate() {
        let config = Config {
            neighbours: Neighbours {
                observers: observers.clone(),
                ..cluster.config.neighbours.clone()
            },
            name: format!("member-{number}"),
            ..cluster.config.clone()
        };
        furnish(&member_dir(dir, number), &genesis, config, *address)?;
    }
    for (number, address) in cluster.observers.iter().enumerate() {
        let config = Config {
            observer: true,
            name: format!("observer-{number}"),
            ..cluster.config.clone()
        };
        furnish(&observer_dir(dir, number), &genesis, config, *address)?;
    }
    Ok(genesis)
}

/// Makes the observers' keys; no document names them, so members are told of them.
fn observers(dir: &Path, cluster: &Cluster) -> Result<Vec<Observer>, NodeError> {
    let made = cluster.observers.iter().enumerate();
    let made = made.map(|(number, (p2p, _))| {
        let (name, address) = (format!("observer-{number}"), p2p.to_string());
        let made = keys::generate(&observer_dir(dir, number), &name, &address)?;
        Ok(Observer {
            key: made.identity,
            name,
            address,
        })
    });
    made.collect()
}

fn furnish(
    dir: &Path,
    genesis: &Genesis,
    config: Config,
    (listen_p2p, listen_api): (SocketAddr, SocketAddr),
) -> Result<(), NodeError> {
    let config = Config {
        listen_p2p,
        listen_api,
        ..config
    };
    write(&dir.join(GENESIS_FILE), &genesis.to_json())?;
    write(&dir.join(CONFIG_FILE), &config.to_toml())
}

fn write(path: &Path, text: &str) -> Result<(), NodeError> {
    let made = || {
        let mut file = fs::File::create_new(path)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()
    };
    made().map_err(|source| NodeError::System {
        what: path.display().to_string(),
        source,
    })
}
