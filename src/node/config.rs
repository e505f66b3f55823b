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

use crate::bootstrap::Pin;
use crate::committee::MemberId;
use crate::crypto::PublicKey;
use crate::fsm::PaceOptions;
use crate::machine::Span;

/// The file's name in a member's directory.
pub const CONFIG_FILE: &str = "member.toml";
/// What an environment variable starts with that overrides a key.
pub const VARIABLE_PREFIX: &str = "CONSORTIUM_";

/// The settings of one member. Every key has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// How long it waits. In the file these keys stand among the others.
    #[serde(flatten)]
    pub timing: Timing,
    /// What it may use. In the file these keys stand among the others.
    #[serde(flatten)]
    pub resources: Resources,
    /// What is told on standard error: `error` to `trace`, or a filter by module.
    pub log_level: String,
    /// Whether this member signs JSON operations of anybody who reaches its HTTP address with a
    /// client key of its own; for `dev`.
    pub signs_operations: bool,
    /// Whether this is a member without a seat: it follows the chain, and its identity is no
    /// founder's.
    pub observer: bool,
    /// A later root of trust than the genesis document, for a start that fetches a checkpoint; in
    /// the file `VIEW:DIGEST`, or empty for none.
    #[serde(with = "pin_text")]
    pub pin: Option<Pin>,
    /// Whom it speaks with beside what the genesis document says. In the file these keys stand
    /// among the others.
    #[serde(flatten)]
    pub neighbours: Neighbours,
}

/// The setting `pin` in the file.
mod pin_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::bootstrap::Pin;

    #[expect(clippy::ref_option, reason = "serde hands fields over like this")]
    pub(super) fn serialize<S: Serializer>(pin: &Option<Pin>, to: S) -> Result<S::Ok, S::Error> {
        match pin {
            Some(pin) => to.collect_str(pin),
            None => to.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Pin>, D::Error> {
        let text = String::deserialize(from)?;
        let read = (!text.is_empty()).then(|| text.parse());
        let read = read.transpose();
        read.map_err(|error| serde::de::Error::custom(format!("pin = {error}")))
    }
}

/// What a member may use of its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Memory that the tables may use as a cache, in MiB.
    pub tables_cache_mib: u32,
    /// Length of a log file in MiB.
    pub log_file_mib: u32,
    /// Threads that check signatures; 0: one per processor, at most 8.
    pub verify_threads: usize,
    /// Whether blocks below the oldest checkpoint that is kept are given up.
    pub prune: bool,
    /// Checkpoints that are kept and served to newcomers; at least 1.
    pub keep_checkpoints: u32,
    /// Blocks below the oldest of them that are kept besides.
    pub keep_blocks: u64,
    /// What newcomers together are given a second, and as much what members that lag are given, in
    /// MiB; at least 1.
    pub serve_mib_per_second: u32,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            tables_cache_mib: 64,
            log_file_mib: 64,
            verify_threads: 0,
            prune: true,
            keep_checkpoints: 2,
            keep_blocks: 0,
            serve_mib_per_second: 256,
        }
    }
}

/// Keys of which the name does not say enough, and what they mean.
const MEANINGS: [(&str, &str); 5] = [
    (
        "pin",
        "VIEW:DIGEST of a view that people hold for true: the block that opened it, as verify \
         --views prints it; a newcomer follows no other chain",
    ),
    (
        "prune",
        "whether blocks below the oldest checkpoint that is kept are given up; false keeps all",
    ),
    (
        "keep_checkpoints",
        "certified snapshots that are kept and served to newcomers, at least 1",
    ),
    (
        "keep_blocks",
        "blocks below the oldest of them that are kept besides",
    ),
    (
        "serve_mib_per_second",
        "what newcomers together are given a second, at least 1; consensus goes first anyway",
    ),
];

/// How long a member waits before it holds a leader or the network for lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timing {
    /// How long a leader may go without progress before anything was measured, in milliseconds.
    pub progress_timeout_first_ms: u64,
    /// The same, never less, whatever was measured.
    pub progress_timeout_least_ms: u64,
    /// The same, never more.
    pub progress_timeout_most_ms: u64,
    /// How long nothing may move before the others are asked where they stand, in milliseconds.
    pub resend_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            progress_timeout_first_ms: 2_000,
            // It outlasts a disk or a scheduler that stands still for 200 ms, and leaves the
            // rest of 400 ms for the change and the first block of the next leader.
            progress_timeout_least_ms: 300,
            progress_timeout_most_ms: 60_000,
            resend_ms: 250,
        }
    }
}

impl Timing {
    /// Bounds of the progress timeout, as `fsm` takes them.
    pub fn pace(&self) -> PaceOptions {
        PaceOptions {
            first: Span::from_ms(self.progress_timeout_first_ms),
            least: Span::from_ms(self.progress_timeout_least_ms),
            most: Span::from_ms(self.progress_timeout_most_ms),
        }
    }

    /// See [`Timing::resend_ms`].
    pub fn resend(&self) -> Span {
        Span::from_ms(self.resend_ms)
    }

    /// Why these values cannot work on any machine, with the value that does.
    fn check(&self) -> Result<(), String> {
        let (first, least, most, resend) = (
            self.progress_timeout_first_ms,
            self.progress_timeout_least_ms,
            self.progress_timeout_most_ms,
            self.resend_ms,
        );
        let rules = [
            (
                "progress_timeout_least_ms",
                least,
                least > 0,
                "at least 1".to_owned(),
            ),
            (
                "progress_timeout_most_ms",
                most,
                (least..=TIMEOUT_MS_MAX).contains(&most),
                format!("between progress_timeout_least_ms ({least}) and {TIMEOUT_MS_MAX}"),
            ),
            (
                "progress_timeout_first_ms",
                first,
                (least..=most).contains(&first),
                format!("between progress_timeout_least_ms and _most_ms ({least} to {most})"),
            ),
            // A message that is lost must be sent again before its leader is blamed for it.
            (
                "resend_ms",
                resend,
                resend > 0 && resend < least,
                format!("at least 1 and less than progress_timeout_least_ms ({least})"),
            ),
        ];
        match rules.into_iter().find(|(_, _, holds, _)| !holds) {
            None => Ok(()),
            Some((key, value, _, works)) => Err(format!("{key} = {value}: {works} works")),
        }
    }
}

/// The longest timeout that may be set, in milliseconds: an hour.
const TIMEOUT_MS_MAX: u64 = 3_600_000;

/// Whom a member speaks with beside what the genesis document says, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Neighbours {
    /// The overlay that spreads what everybody should know.
    pub overlay: String,
    /// Members without a seat that may connect, at most [`OBSERVERS_MAX`].
    pub observers: Vec<Observer>,
    /// Other addresses than in the genesis document: a member's name or id, and `host:port`.
    pub peers: BTreeMap<String, String>,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self {
            overlay: "full-gossip".into(),
            observers: Vec::new(),
            peers: BTreeMap::new(),
        }
    }
}

impl Neighbours {
    /// Where a member is reached: as the settings say, or else at `address`.
    pub fn address_of<'a>(&'a self, id: &MemberId, name: &str, address: &'a str) -> &'a str {
        let other = self.peers.get(name);
        let other = other.or_else(|| self.peers.get(&id.to_string()));
        other.map_or(address, |other| other)
    }
}

/// A member without a seat, which no genesis document names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observer {
    /// Its public identity key.
    pub key: PublicKey,
    /// Its name, for people.
    pub name: String,
    /// Where it listens, `host:port`.
    pub address: String,
}

/// Observers that one member lets in, at most: each holds connections and a share of the pool.
pub const OBSERVERS_MAX: usize = 64;

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
            timing: Timing::default(),
            resources: Resources::default(),
            log_level: "info".into(),
            signs_operations: false,
            observer: false,
            pin: None,
            neighbours: Neighbours::default(),
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
        let given: toml::Table =
            toml::from_str(text).map_err(|error| refused(place, error.message().to_owned()))?;
        let mut table = toml::Table::try_from(Self::default())
            .expect("settings of strings and numbers have a TOML form");
        for (key, value) in given {
            let Some(known) = table.get_mut(&key) else {
                return Err(refused(place, format!("unknown key `{key}`")));
            };
            if !known.same_type(&value) {
                let (known, value) = (known.type_str(), value.type_str());
                return Err(refused(place, format!("{key}: {value}, not {known}")));
            }
            *known = value;
        }
        for (key, value) in &mut table {
            let name = format!("{VARIABLE_PREFIX}{}", key.to_uppercase());
            let is_list = value.is_table() || value.is_array();
            let Some(given) = variable(&name).filter(|_| !is_list) else {
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
            .map_err(|error: toml::de::Error| refused(place, error.message().to_owned()))?;
        config.check(place)?;
        Ok(config)
    }

    /// Settles the root of trust of the member in `dir`; every other line of its file stays.
    ///
    /// Errors: [`ConfigError::Read`], of a write as well.
    pub fn settle_pin(dir: &Path, pin: &Pin) -> Result<(), ConfigError> {
        let path = dir.join(CONFIG_FILE);
        let failed = |source| ConfigError::Read {
            path: path.clone(),
            source,
        };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(failed)?,
        };
        fs::write(&path, with_pin(&text, pin)).map_err(failed)
    }

    /// The settings as a file that says what some of them mean.
    pub fn explained(&self) -> String {
        let mut text = String::new();
        for line in self.to_toml().lines() {
            let key = line.split_once(" = ").map(|(key, _)| key);
            let meaning = MEANINGS.iter().find(|(name, _)| Some(*name) == key);
            if let Some((_, meaning)) = meaning {
                text += &format!("# {meaning}\n");
            }
            text += line;
            text += "\n";
        }
        text
    }

    /// The settings as a file.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("settings of strings and numbers have a TOML form")
    }

    /// Threads that check signatures.
    pub fn verify_threads(&self) -> usize {
        let found = std::thread::available_parallelism().map_or(2, |count| count.get());
        match self.resources.verify_threads {
            0 => found.min(8),
            count => count,
        }
    }

    fn check(&self, place: &str) -> Result<(), ConfigError> {
        let rules: [(bool, &str); 7] = [
            (
                (8..=1024).contains(&self.resources.log_file_mib),
                "log_file_mib is between 8 and 1024",
            ),
            (
                self.resources.verify_threads <= 64,
                "verify_threads is at most 64",
            ),
            (
                (1..=65_536).contains(&self.resources.tables_cache_mib),
                "tables_cache_mib is between 1 and 65536",
            ),
            (
                self.resources.keep_checkpoints > 0,
                "keep_checkpoints is at least 1: newcomers start from one, and so does this \
                 member once blocks were pruned",
            ),
            (
                self.resources.serve_mib_per_second > 0,
                "serve_mib_per_second is at least 1: newcomers start from what members give them",
            ),
            (
                self.neighbours.observers.len() <= OBSERVERS_MAX,
                "observers are at most 64",
            ),
            (
                !self.data.as_os_str().is_empty(),
                "data is the name of a folder",
            ),
        ];
        let broken = rules.into_iter().find(|(holds, _)| !holds);
        let broken = broken.map(|(_, reason)| reason.to_owned());
        match broken.or_else(|| self.timing.check().err()) {
            None => Ok(()),
            Some(reason) => Err(ConfigError::Refused {
                place: place.into(),
                reason,
            }),
        }
    }
}

/// The settings `text` with this pin.
fn with_pin(text: &str, pin: &Pin) -> String {
    // Behind the first head of a table a key would be the table's.
    let is_pin = |line: &&str| {
        let key = line.split_once('=').map(|(key, _)| key.trim());
        key == Some("pin")
    };
    let mut lines = vec![format!("pin = \"{pin}\"")];
    let mut is_table = false;
    for line in text.lines() {
        is_table |= line.trim_start().starts_with('[');
        if is_table || !is_pin(&line) {
            lines.push(line.into());
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse("member.toml", text, |_| None)
    }

    fn pin() -> Pin {
        format!("7:{}", "ab".repeat(32)).parse().expect("a pin")
    }

    #[test]
    fn a_pin_reads_back_as_it_is_printed() {
        let pin = pin();
        let config = Config {
            pin: Some(pin),
            ..Config::default()
        };
        assert_eq!(parse(&config.to_toml()).expect("settings"), config);
        assert_eq!(parse("pin = \"\"").expect("settings").pin, None);
        assert_eq!(pin.to_string().parse(), Ok(pin));
    }

    #[test]
    fn what_is_no_pin_is_refused_with_the_form_of_one() {
        let digits = "ab".repeat(32);
        for text in [
            "7".to_owned(),
            digits.clone(),
            format!("0:{digits}"),
            format!("-1:{digits}"),
            format!("7:{digits}00"),
            format!("7;{digits}"),
        ] {
            let refused = parse(&format!("pin = \"{text}\""))
                .expect_err(&text)
                .to_string();
            assert!(
                refused.contains("pin = ") && refused.contains("VIEW:DIGEST"),
                "{refused}"
            );
        }
    }

    #[test]
    fn settling_a_pin_leaves_every_other_line() {
        let before = "name = \"delta\"\npin = \"\"\n\n[peers]\npin = \"203.0.113.7:7100\"\n";
        let after = with_pin(before, &pin());
        let (config, old) = (
            parse(&after).expect("settings"),
            parse(before).expect("settings"),
        );
        assert_eq!(
            config,
            Config {
                pin: Some(pin()),
                ..old
            }
        );
        assert_eq!(with_pin(&after, &pin()), after);
        assert_eq!(
            parse(&with_pin("", &pin())).expect("settings").pin,
            Some(pin())
        );
    }
}
