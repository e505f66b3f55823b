//! Loads a package index into a ledger, reads all of it back certified, and compares the members.
//!
//! Source: `apt-cache dumpavail`, deb822. In: an index on standard input or as a file, a `dev`
//! folder. Out: a summary; exit 1 where anything differs.
//! Holds: eight clients submit at once, twice, under two prefixes; what is read is checked against
//! the genesis document. Elsewhere: the client (`client`), members' folders (`consortium verify`).
//!
//! ```text
//! consortium dev --members 4 --dir ledger &
//! apt-cache dumpavail | cargo run --release --example index -- ledger
//! cargo run --release --example index -- ledger available.txt 5000      # 5000 packages at most
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use consortium::api::Wait;
use consortium::application::kv::Operation;
use consortium::blocks::Genesis;
use consortium::client::{Api, Client, Doors, Options, Rules, Shown, check_proof};
use consortium::crypto::SecretKey;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use rand::TryRng;
use rand::rngs::SysRng;

type Failed = Box<dyn Error + Send + Sync>;

/// Clients that submit at once.
const CLIENTS: usize = 8;
/// Submissions of one client that wait at once; they go in groups.
const UNDER_WAY: usize = 512;
/// Certified reads at once.
const READS: usize = 32;
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let mut words = std::env::args().skip(1);
    let dir = PathBuf::from(
        words
            .next()
            .ok_or("usage: index DEV_FOLDER [FILE|-] [PACKAGES]")?,
    );
    let text = match words.next().filter(|word| word != "-") {
        Some(file) => fs::read(file)?,
        None => {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text)?;
            text
        }
    };
    let most = words.next().map_or(Ok(usize::MAX), |word| word.parse())?;
    let entries = packages(&String::from_utf8_lossy(&text), most);
    let ledger = Ledger::open(&dir)?;
    println!("packages          {}", entries.len());
    let mut wanted = BTreeMap::new();
    for prefix in ["first", "second"] {
        let puts: Vec<(String, String)> = entries
            .iter()
            .map(|(name, value)| (format!("{prefix}/{name}"), value.clone()))
            .collect();
        let start = Instant::now();
        ledger.load(&puts).await?;
        let seconds = start.elapsed().as_secs_f64();
        let rate = puts.len() as f64 / seconds;
        println!(
            "loaded {prefix:<10} {} in {seconds:.1} s, {rate:.0}/s",
            puts.len()
        );
        wanted.extend(puts);
    }
    let start = Instant::now();
    let count = ledger.read_all(&wanted).await?;
    println!(
        "read certified    {count} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    ledger.compare().await?;
    ledger.verify(&dir)?;
    println!("ok");
    Ok(())
}

/// `name/version` of each package, and its whole stanza.
fn packages(text: &str, most: usize) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let stanzas = text.split("\n\n").filter_map(|stanza| {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name));
        let (name, version) = (field("Package: ")?, field("Version: ")?);
        Some((format!("{name}/{version}"), stanza.to_owned()))
    });
    stanzas
        .filter(|(name, _)| seen.insert(name.clone()))
        .take(most)
        .collect()
}

struct Ledger {
    genesis: Genesis,
    doors: Vec<Api>,
    dirs: Vec<PathBuf>,
    clients: Vec<Client>,
}

impl Ledger {
    fn open(dir: &Path) -> Result<Self, Failed> {
        let cluster = fs::read_to_string(dir.join("cluster.json"))?;
        let cluster: serde_json::Value = serde_json::from_str(&cluster)?;
        let genesis = cluster["genesis"]
            .as_str()
            .ok_or("cluster.json names no genesis")?;
        let genesis = Genesis::from_json(&fs::read_to_string(genesis)?)?;
        let members = cluster["members"]
            .as_array()
            .ok_or("cluster.json names no members")?;
        let text = |member: &serde_json::Value, field: &str| -> Result<String, Failed> {
            Ok(member[field]
                .as_str()
                .ok_or("a member without a field")?
                .to_owned())
        };
        let mut doors = Vec::new();
        let mut dirs = Vec::new();
        for member in members {
            doors.push(Api::new(&text(member, "api")?)?);
            dirs.push(PathBuf::from(text(member, "dir")?));
        }
        let rules = Rules::of(&genesis)?;
        let mut run = [0; 8];
        SysRng.try_fill_bytes(&mut run)?;
        let clients = (0..CLIENTS).map(|number| {
            // Keys of a demonstration: nothing is behind them.
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&run);
            seed[8] = u8::try_from(number).unwrap_or(u8::MAX);
            let options = Options {
                limit: LIMIT,
                ..Options::default()
            };
            let transport = Arc::new(Doors(doors.clone()));
            let secret = SecretKey::from_seed(seed);
            Client::new(
                transport,
                rules.clone(),
                &genesis.parameters,
                secret,
                options,
            )
        });
        let clients = clients.collect();
        Ok(Self {
            genesis,
            doors,
            dirs,
            clients,
        })
    }

    /// Puts every entry, an eighth by each client at the same time.
    async fn load(&self, puts: &[(String, String)]) -> Result<(), Failed> {
        let share = puts.len().div_ceil(CLIENTS).max(1);
        let loads = puts
            .chunks(share)
            .zip(&self.clients)
            .map(|(puts, client)| async move {
                let puts = stream::iter(puts).map(Ok::<_, Failed>);
                puts.try_for_each_concurrent(UNDER_WAY, |(key, value)| async move {
                    let put = Operation::Put {
                        key: key.as_bytes(),
                        value: value.as_bytes(),
                    };
                    let put = Bytes::from(put.to_bytes()?);
                    let told = client.submit(put, Wait::Durable).await?;
                    match told.result.map(|outcome| outcome.code) {
                        Some(0) => Ok(()),
                        other => Err(format!("{key}: code {other:?}").into()),
                    }
                })
                .await
            });
        futures_util::future::try_join_all(loads).await?;
        Ok(())
    }

    /// Reads every key with its proof, from the members in turn.
    async fn read_all(&self, wanted: &BTreeMap<String, String>) -> Result<usize, Failed> {
        let reads = stream::iter(wanted.iter().enumerate()).map(Ok::<_, Failed>);
        reads
            .try_for_each_concurrent(READS, |(number, (key, want))| async move {
                let door = &self.doors[number % self.doors.len()];
                let answer = door.value(key.as_bytes(), true, LIMIT).await;
                let answer = answer.map_err(|error| format!("{key}: {error}"))?;
                let proof = answer.proof.ok_or_else(|| format!("{key}: no proof"))?;
                match check_proof(&proof, &self.genesis)? {
                    Shown::State {
                        key: proved, value, ..
                    } if proved == key.as_bytes() && value.as_deref() == Some(want.as_bytes()) => {
                        Ok(())
                    }
                    other @ (Shown::State { .. } | Shown::Transaction(_)) => {
                        Err(format!("{key}: the proof shows {other:?}").into())
                    }
                }
            })
            .await?;
        Ok(wanted.len())
    }

    /// Waits until all members stand at one height, and compares their states there.
    async fn compare(&self) -> Result<(), Failed> {
        let start = Instant::now();
        loop {
            let mut tips = BTreeSet::new();
            for door in &self.doors {
                let status = door.status(LIMIT).await;
                let status = status.map_err(|error| format!("{}: {error}", door.base()))?;
                tips.insert((status.tip.height, status.tip.state_digest));
            }
            let heights: BTreeSet<_> = tips.iter().map(|(height, _)| *height).collect();
            if let ([(height, digest)], 1) =
                (tips.iter().collect::<Vec<_>>().as_slice(), heights.len())
            {
                println!("state digest      {digest} at height {height}, at every member");
                return Ok(());
            }
            if heights.len() == 1 {
                return Err(format!("members differ at one height: {tips:?}").into());
            }
            if start.elapsed() > LIMIT {
                return Err(format!("members do not meet at one height: {tips:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Has the program beside this one check each member's folder.
    fn verify(&self, dir: &Path) -> Result<(), Failed> {
        let here = std::env::current_exe()?;
        let program = here
            .parent()
            .and_then(Path::parent)
            .map(|p| p.join("consortium"));
        let program = program
            .filter(|path| path.exists())
            .ok_or("build consortium first")?;
        for member in &self.dirs {
            let mut command = Command::new(&program);
            command
                .args(["verify", "--genesis"])
                .arg(dir.join("genesis.json"));
            let output = command.arg("--dir").arg(member).output()?;
            match output.status.code() {
                Some(0) => println!("verified          {}", member.display()),
                Some(4) => {
                    let found = String::from_utf8_lossy(&output.stderr);
                    return Err(format!("{}: {found}", member.display()).into());
                }
                _ => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    return Err(format!("{} not verified: {said}", member.display()).into());
                }
            }
        }
        Ok(())
    }
}
