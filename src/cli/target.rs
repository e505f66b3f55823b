//! Which members a verb talks to, and what their answers are checked against.
//!
//! Source: `docs/cli.md`. In: `--api`, `--dir`, `--genesis`, or `cluster.json` here. Out: doors,
//! rules, a client.
//! Holds: with a genesis document at hand no answer of another ledger is taken.
//! Elsewhere: what is asked (the file of each verb).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::args::Common;
use super::failure::Failure;
use crate::blocks::{Genesis, Parameters};
use crate::client::{Api, AskError, Client, Doors, Home, Options, Rules};
use crate::committee::MemberId;
use crate::crypto::SecretKey;

/// The file that `dev` writes and other verbs look for.
pub(crate) const CLUSTER_FILE: &str = "cluster.json";

/// `cluster.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cluster {
    /// The genesis document.
    pub(crate) genesis: PathBuf,
    /// Members with a seat.
    pub(crate) members: Vec<ClusterMember>,
    /// Members without one.
    #[serde(default)]
    pub(crate) observers: Vec<ClusterMember>,
}

/// One member of a `cluster.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterMember {
    pub(crate) id: MemberId,
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    /// Its process when the file was written.
    pub(crate) pid: Option<u32>,
    pub(crate) p2p: String,
    pub(crate) api: String,
    pub(crate) metrics: String,
}

impl Cluster {
    /// Reads the file in `folder`; nothing where there is none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Failure> {
        let path = folder.join(CLUSTER_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::file(&path, &error)),
        };
        let read = serde_json::from_str(&text).map_err(|error| {
            let next = "remove it, and start the ledger again: consortium dev --dir DIR";
            Failure::refused(format!("{}: {error}", path.display()), next)
        });
        read.map(Some)
    }

    /// Everybody, those with a seat first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &ClusterMember> {
        self.members.iter().chain(&self.observers)
    }

    /// As [`Cluster::all`].
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut ClusterMember> {
        self.members.iter_mut().chain(&mut self.observers)
    }

    /// Writes the file in `folder`, whole or not at all.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self);
        let text = text.expect("addresses and names have a JSON form") + "\n";
        let path = folder.join(CLUSTER_FILE);
        // Two processes that write at once do not meet in one draft.
        let draft = folder.join(format!("{CLUSTER_FILE}.{}", std::process::id()));
        let written = fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path));
        written.map_err(|error| Failure::file(&path, &error))
    }

    /// Changes the process of the member in `dir` in the file in `folder`, where it stands there.
    pub(crate) fn note_pid(
        folder: &Path,
        dir: &Path,
        change: impl Fn(Option<u32>) -> Option<u32>,
    ) -> Result<(), Failure> {
        let Some(mut cluster) = Self::read(folder)? else {
            return Ok(());
        };
        let Some(member) = cluster.all_mut().find(|member| member.dir == dir) else {
            return Ok(());
        };
        let pid = change(member.pid);
        if std::mem::replace(&mut member.pid, pid) == pid {
            return Ok(());
        }
        cluster.write(folder)
    }
}

/// One member to ask.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// What is known of it before it answers.
    pub(crate) known: Option<ClusterMember>,
    /// Its door.
    pub(crate) api: Api,
}

/// The members to ask.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    pub(crate) members: Vec<Target>,
    pub(crate) genesis: Option<Genesis>,
    /// Until an answer is given up.
    pub(crate) limit: Duration,
}

impl Targets {
    /// What the flags name.
    pub(crate) fn find(common: &Common) -> Result<Self, Failure> {
        let limit = seconds(common.timeout, "--timeout")?;
        let given = common.genesis.as_deref().map(read_genesis).transpose()?;
        if !common.api.is_empty() {
            let members = common.api.iter().map(|url| target(url, None));
            return Ok(Self {
                members: members.collect::<Result<_, _>>()?,
                genesis: given,
                limit,
            });
        }
        let folder = common.dir.as_deref().unwrap_or(Path::new("."));
        if let Some(cluster) = Cluster::read(folder)? {
            return Self::of_cluster(&cluster, folder, given, limit);
        }
        if let Some((url, genesis)) = super::seam::door_of(folder)? {
            return Ok(Self {
                members: vec![target(&url, None)?],
                genesis: given.or(genesis),
                limit,
            });
        }
        let place = folder.join(CLUSTER_FILE);
        Err(Failure::usage(
            format!("no ledger is named, and there is no {}", place.display()),
            "give --api URL or --dir DIR; or start a ledger: consortium dev --dir ledger",
        ))
    }

    fn of_cluster(
        cluster: &Cluster,
        folder: &Path,
        given: Option<Genesis>,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let members = cluster
            .all()
            .map(|member| target(&member.api, Some(member.clone())));
        let genesis = match given {
            Some(genesis) => genesis,
            // A folder that was moved as a whole still holds its own document.
            None if cluster.genesis.exists() => read_genesis(&cluster.genesis)?,
            None => read_genesis(&folder.join("genesis.json"))?,
        };
        Ok(Self {
            members: members.collect::<Result<_, _>>()?,
            genesis: Some(genesis),
            limit,
        })
    }

    /// The doors of those that may order; observers pass submissions on, and are asked as well.
    pub(crate) fn doors(&self) -> Vec<Api> {
        self.members.iter().map(|m| m.api.clone()).collect()
    }

    /// What answers are checked against.
    pub(crate) async fn rules(&self) -> Result<Rules, Failure> {
        if let Some(genesis) = &self.genesis {
            return Ok(Rules::of(genesis)?);
        }
        let asks = self.members.iter().map(|m| m.api.status(QUICK));
        let mut chain = None;
        let mut heard = AskError::Silent;
        for (member, asked) in self.members.iter().zip(join_all(asks).await) {
            match (asked, chain) {
                (Ok(status), None) => chain = Some(status.member.chain),
                (Ok(status), Some(chain)) if status.member.chain != chain => {
                    let place = member.api.base();
                    return Err(Failure::refused(
                        format!("{place} serves another ledger than the others"),
                        "give --genesis FILE, or only the addresses of one ledger",
                    ));
                }
                (Ok(_), Some(_)) => {}
                (Err(error), _) => heard = error,
            }
        }
        match chain {
            Some(chain) => Ok(Rules::unchecked(chain, self.members.len())),
            None => Err(self.in_vain(&heard)),
        }
    }

    /// A client with the key called `key`.
    pub(crate) async fn client(&self, key: &str, options: Options) -> Result<Client, Failure> {
        let secret = Home::from_environment()?.key(key)?;
        self.client_of(secret, options).await
    }

    /// A client that signs with `secret`.
    pub(crate) async fn client_of(
        &self,
        secret: SecretKey,
        options: Options,
    ) -> Result<Client, Failure> {
        let rules = self.rules().await?;
        let parameters = match &self.genesis {
            Some(genesis) => genesis.parameters.clone(),
            None => Parameters::default(),
        };
        let doors = Arc::new(Doors(self.doors()));
        Ok(Client::new(doors, rules, &parameters, secret, options))
    }

    /// Why nobody answered.
    pub(crate) fn in_vain(&self, heard: &AskError) -> Failure {
        asked_in_vain(&self.members, heard)
    }

    /// Asks one member after the other until one answers.
    pub(crate) async fn first<T>(
        &self,
        ask: impl AsyncFn(Api, Duration) -> Result<T, AskError>,
    ) -> Result<T, Failure> {
        let mut heard = AskError::Silent;
        let each = (self.limit / 2).min(Duration::from_secs(5));
        for member in &self.members {
            match ask(member.api.clone(), each).await {
                Ok(answer) => return Ok(answer),
                Err(AskError::Problem(problem)) if matches!(problem.status, 400..=499) => {
                    heard = AskError::Problem(problem);
                }
                // What one says no to counts for more than that another cannot be reached.
                Err(error) if !matches!(heard, AskError::Problem(_)) => heard = error,
                Err(_) => {}
            }
        }
        Err(self.in_vain(&heard))
    }
}

/// For questions that a member answers from memory.
pub(crate) const QUICK: Duration = Duration::from_secs(2);

fn target(url: &str, known: Option<ClusterMember>) -> Result<Target, Failure> {
    let url = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let api = Api::new(&url)
        .map_err(|error| Failure::usage(error, "an address looks like http://127.0.0.1:7200"))?;
    Ok(Target { known, api })
}

fn asked_in_vain(members: &[Target], heard: &AskError) -> Failure {
    let places: Vec<&str> = members.iter().map(|m| m.api.base()).collect();
    let places = places.join(", ");
    match heard {
        AskError::Problem(problem) => Failure::refused(&problem.message, problem.help.to_string()),
        AskError::Silent => Failure::new(
            super::failure::Exit::TimedOut,
            format!("no answer in time from {places}"),
            "consortium status shows who answers; --timeout SECONDS waits longer",
        ),
        AskError::Broken(reason) => Failure::refused(
            format!("{places}: {reason}"),
            "is the ledger started? consortium dev --dir DIR, or consortium start --dir MEMBER",
        ),
        AskError::Malformed(reason) => Failure::refused(
            format!("{places}: unreadable answer: {reason}"),
            "is this the HTTP address of a member, and of the same version?",
        ),
    }
}

/// Reads and checks a genesis document.
pub(crate) fn read_genesis(path: &Path) -> Result<Genesis, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
    Genesis::from_json(&text).map_err(|error| {
        let what = format!("{}: {error}", path.display());
        Failure::refused(what, "get the document from a member that you trust")
    })
}

/// A time that a person gave.
pub(crate) fn seconds(value: f64, flag: &str) -> Result<Duration, Failure> {
    let bad = || Failure::usage(format!("{flag} {value} is no time"), "give seconds above 0");
    if value <= 0.0 || value > 1e9 {
        return Err(bad());
    }
    Duration::try_from_secs_f64(value).map_err(|_| bad())
}
