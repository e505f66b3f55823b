//! `member.toml`: what an operator may settle for one member.
//!
//! Source: interface, 'Files'. In: the file, the environment. Out: [`Config`] with every default.
//! Holds: an unknown key is refused by name; the environment wins over the file.
//! Elsewhere: flags (`cli`), what is the same for every member (`blocks::Genesis`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file's name in a member's directory.
pub const CONFIG_FILE: &str = "member.toml";
/// What an environment variable starts with that overrides a key.
pub const VARIABLE_PREFIX: &str = "CONSORTIUM_";

/// The settings of one member. Every key has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Its name, for people; empty: the one in the genesis document.
    pub name: String,
    /// The genesis document, from the member's directory.
    pub genesis: PathBuf,
    /// Log and tables, from the member's directory.
    pub data: PathBuf,
    /// Where members reach us; port 0 takes a free one.
    pub listen_p2p: SocketAddr,
    /// Where clients reach us; port 0 takes a free one.
    pub listen_api: SocketAddr,
    /// The engine of the tables.
    pub tables: String,
    /// The overlay that spreads what everybody should know.
    pub overlay: String,
    /// Memory that the tables may use as a cache, in MiB.
    pub tables_cache_mib: u32,
    /// Length of a log file in MiB.
    pub log_file_mib: u32,
    /// Threads that check signatures; 0: one per processor, at most 8.
    pub verify_threads: usize,
    /// What is told on standard error: `error` to `trace`, or a filter by module.
    pub log_level: String,
    /// Whether this member signs JSON operations of anybody who reaches its HTTP address with a
    /// client key of its own; for `dev`.
    pub signs_operations: bool,
    /// Other addresses than in the genesis document: a member's name or id, and `host:port`.
    pub peers: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            name: String::new(),
            genesis: "genesis.json".into(),
            data: "data".into(),
            listen_p2p: loopback(7100),
            listen_api: loopback(7200),
            tables: "redb".into(),
            overlay: "full-gossip".into(),
            tables_cache_mib: 64,
            log_file_mib: 64,
            verify_threads: 0,
            log_level: "info".into(),
            signs_operations: false,
            peers: BTreeMap::new(),
        }
    }
}

/// Why settings are refused. The operator's file or environment is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key is unknown or its value is of the wrong kind.
    #[error("{place}: {reason}")]
    Refused {
        /// The file, or the file and the environment.
        place: String,
        /// What is wrong, with the key.
        reason: String,
    },
}

impl Config {
    /// The settings of the member in `dir`: the file where there is one, then the process's
    /// environment.
    ///
    /// Errors: [`ConfigError`].
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join(CONFIG_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        Self::parse(&path.display().to_string(), &text, |name| {
            std::env::var(name).ok()
        })
    }

    /// As [`Config::load`], from `text` that came from `place`, and `variable` as environment.
    ///
    /// Errors: [`ConfigError::Refused`].
    pub fn parse(
        place: &str,
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let refused = |place: &str, reason: String| ConfigError::Refused {
            place: place.into(),
            reason,
        };
        let from_file: Config =
            toml::from_str(text).map_err(|error| refused(place, error.message().to_owned()))?;
        let mut table =
            toml::Table::try_from(&from_file).map_err(|error| refused(place, error.to_string()))?;
        for (key, value) in &mut table {
            let name = format!("{VARIABLE_PREFIX}{}", key.to_uppercase());
            let Some(given) = variable(&name).filter(|_| key != "peers") else {
                continue;
            };
            *value = match value {
                toml::Value::Integer(_) => given
                    .parse()
                    .map(toml::Value::Integer)
                    .map_err(|_| refused(&name, format!("'{given}' is no number")))?,
                toml::Value::Boolean(_) => given
                    .parse()
                    .map(toml::Value::Boolean)
                    .map_err(|_| refused(&name, format!("'{given}' is not true or false")))?,
                toml::Value::String(_)
                | toml::Value::Float(_)
                | toml::Value::Datetime(_)
                | toml::Value::Array(_)
                | toml::Value::Table(_) => toml::Value::String(given),
            };
        }
        let config: Config = table
            .try_into()
            .map_err(|error| refused("environment", error.to_string()))?;
        config.check(place)?;
        Ok(config)
    }

    /// The settings as a file.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("settings of strings and numbers have a TOML form")
    }

    /// Threads that check signatures.
    pub fn verify_threads(&self) -> usize {
        let found = std::thread::available_parallelism().map_or(2, |count| count.get());
        match self.verify_threads {
            0 => found.min(8),
            count => count,
        }
    }

    fn check(&self, place: &str) -> Result<(), ConfigError> {
        let rules = [
            (
                (8..=1024).contains(&self.log_file_mib),
                "log_file_mib is between 8 and 1024",
            ),
            (self.verify_threads <= 64, "verify_threads is at most 64"),
            (
                (1..=65_536).contains(&self.tables_cache_mib),
                "tables_cache_mib is between 1 and 65536",
            ),
            (
                !self.data.as_os_str().is_empty(),
                "data is the name of a folder",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, reason)) => Err(ConfigError::Refused {
                place: place.into(),
                reason: (*reason).into(),
            }),
        }
    }
}
