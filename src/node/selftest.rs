//! A short self-test: whether the timeouts that are set can work on this disk and these links.
//!
//! Source: lint of the settled timers, T ≥ 4 · (batch delay + round trip + sync), calm from 8 on.
//! In: a folder, addresses of members, the settings. Out: what was measured, a verdict.
//! Holds: it ends within two seconds whatever answers; nothing but its own file is written, and
//! that is removed.
//! Elsewhere: settings that no machine could run (`config`), the real timeouts (`fsm`).
//!
//! `config check` judges by the slow samples (p99): that is when an operator chooses. A member that
//! starts is refused by the fastest ones alone, what the machine cannot beat on its best day, and
//! warned by the slow ones: a disk that is slow for a while must not keep a member out, and a
//! timeout in use grows with what it measures.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::config::{Config, Timing};
use crate::blocks::Genesis;
use crate::committee::{MemberId, Sizes};
use crate::consortium::GATHER;

/// Syncs that are measured, at most.
const SYNCS_MAX: usize = 128;
/// How long syncs are measured, at most; one more may be under way then.
const SYNCS_TIME_MAX: Duration = Duration::from_millis(800);
/// Bytes that each sync finds.
const WRITE_BYTES: usize = 4096;
/// Members that are knocked at, at most.
const PEERS_MAX: usize = 16;
/// Round trips to each of them.
const KNOCKS: usize = 4;
/// How long their answers are waited for.
const KNOCKS_TIME_MAX: Duration = Duration::from_millis(600);
/// A round trip that takes longer is no answer.
const KNOCK_MAX: Duration = Duration::from_millis(250);
/// A timeout below so many times what a decision takes cannot work.
const TIMES_LEAST: u64 = 4;
/// From so many times on it is calm.
const TIMES_CALM: u64 = 8;

/// Times of one kind, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Samples {
    /// How many.
    pub count: usize,
    /// The shortest.
    pub fastest_us: u64,
    /// As long as 99 of 100 at most.
    pub p99_us: u64,
}

/// What a self-test measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// Syncs of a file in `place`.
    pub sync: Samples,
    /// Where: the member's data folder, or the member's folder while there is none.
    pub place: PathBuf,
    /// Round trips: of the slowest member that a quorum needs, as far as members answered.
    pub round_trip: Samples,
    /// Members that answered; none: the round trip is that of this machine with itself.
    pub peers_answered: usize,
    /// How long a batch gathers, in microseconds.
    pub batch_us: u64,
}

/// What a self-test says of a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It leaves room.
    Calm,
    /// It works, and a bad moment may cost a leader its place.
    Tight,
    /// It cannot work.
    Deadly,
}

impl Samples {
    /// Sums up `times`; nothing of nothing.
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let count = times.len();
        let us = |time: &Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Some(Self {
            count,
            fastest_us: us(times.first()?),
            p99_us: us(times.get((count * 99).div_ceil(100) - 1)?),
        })
    }
}

impl Measured {
    /// What one decision takes in microseconds by `pick` of each kind.
    fn decision_us(&self, pick: impl Fn(&Samples) -> u64) -> u64 {
        self.batch_us + pick(&self.round_trip) + pick(&self.sync)
    }

    /// The least timeout in milliseconds that works with the slow samples.
    pub fn works_ms(&self) -> u64 {
        (TIMES_LEAST * self.decision_us(|s| s.p99_us)).div_ceil(1_000)
    }

    /// The least timeout in milliseconds that leaves room.
    pub fn calm_ms(&self) -> u64 {
        (TIMES_CALM * self.decision_us(|s| s.p99_us)).div_ceil(1_000)
    }

    /// The least timeout in milliseconds that could work if every sample were the fastest.
    pub fn floor_ms(&self) -> u64 {
        (TIMES_LEAST * self.decision_us(|s| s.fastest_us)).div_ceil(1_000)
    }

    /// What an operator is told who asks before a start.
    pub fn judge(&self, timing: &Timing) -> Verdict {
        self.verdict(timing, self.works_ms())
    }

    /// What a member that starts is told.
    pub fn judge_start(&self, timing: &Timing) -> Verdict {
        self.verdict(timing, self.floor_ms())
    }

    fn verdict(&self, timing: &Timing, works_ms: u64) -> Verdict {
        match timing.progress_timeout_least_ms {
            least if least < works_ms => Verdict::Deadly,
            least if least < self.calm_ms() => Verdict::Tight,
            _ => Verdict::Calm,
        }
    }

    /// Why `timing` is refused or tight: the key, its value, what was measured, what works.
    pub fn explain(&self, timing: &Timing, works_ms: u64) -> String {
        let (least, calm) = (timing.progress_timeout_least_ms, self.calm_ms());
        let ms = |us: u64| format!("{}.{:03} ms", us / 1_000, us % 1_000);
        let samples = |s: &Samples| format!("{} to {}", ms(s.fastest_us), ms(s.p99_us));
        format!(
            "progress_timeout_least_ms = {least}: a batch gathers {}, a round trip with {} takes \
             {}, a sync in {} {}; at least {works_ms} works, {calm} leaves room",
            ms(self.batch_us),
            self.with(),
            samples(&self.round_trip),
            self.place.display(),
            samples(&self.sync),
        )
    }

    /// With whom round trips were measured.
    pub fn with(&self) -> String {
        match self.peers_answered {
            0 => "this machine itself (no member answered)".into(),
            1 => "1 member".into(),
            count => format!("{count} members"),
        }
    }
}

/// Measures syncs in `data`, or in its folder where it is not there yet, and round trips to
/// `peers`, as `host:port`, of whom a quorum needs `needed`.
///
/// Errors: the folder takes no file.
pub fn measure(data: &Path, peers: &[String], needed: usize) -> io::Result<Measured> {
    let parent = data.parent().unwrap_or(data);
    let place = if data.is_dir() { data } else { parent };
    let (round_trip, peers_answered) = round_trips(peers, needed)?;
    Ok(Measured {
        sync: syncs(place)?,
        place: place.to_owned(),
        round_trip,
        peers_answered,
        batch_us: GATHER.0,
    })
}

/// As [`measure`], for the member `me` with these settings.
///
/// Errors: the folder takes no file.
pub fn run(dir: &Path, config: &Config, genesis: &Genesis, me: &MemberId) -> io::Result<Measured> {
    let founders = genesis.founders.iter().map(|founder| {
        let id = MemberId::of(&founder.identity);
        (id, founder)
    });
    let others = founders.filter(|(id, _)| id != me);
    let addresses = others.map(|(id, founder)| {
        let neighbours = &config.neighbours;
        let address = neighbours.address_of(&id, &founder.name, &founder.address);
        address.to_owned()
    });
    let addresses: Vec<String> = addresses.collect();
    let needed = Sizes::of(genesis.founders.len().max(1)).q - 1;
    measure(&dir.join(&config.data), &addresses, needed)
}

fn syncs(place: &Path) -> io::Result<Samples> {
    let path = place.join(format!("selftest.{}.tmp", std::process::id()));
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).open(&path);
    let measured = file.and_then(|mut file| time_syncs(&mut file));
    let removed = fs::remove_file(&path);
    let times = measured?;
    removed?;
    Samples::of(times).ok_or_else(|| io::Error::other("no sync was measured"))
}

/// The log's own pattern: a file that was filled before, written from its start, synced each time.
fn time_syncs(file: &mut File) -> io::Result<Vec<Duration>> {
    file.write_all(&vec![0; SYNCS_MAX * WRITE_BYTES])?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < SYNCS_MAX && (times.is_empty() || start.elapsed() < SYNCS_TIME_MAX) {
        file.write_all(&[1; WRITE_BYTES])?;
        let before = Instant::now();
        file.sync_data()?;
        times.push(before.elapsed());
    }
    Ok(times)
}

/// Round trips to the slowest of the `needed` fastest members that answer, and how many did.
fn round_trips(peers: &[String], needed: usize) -> io::Result<(Samples, usize)> {
    let (tell, told) = sync_channel(PEERS_MAX);
    for peer in peers.iter().filter(|peer| !peer.is_empty()).take(PEERS_MAX) {
        let (tell, peer) = (tell.clone(), peer.clone());
        // A name may take long to resolve: the thread is left to itself then, and ends with it.
        let knock = move || tell.send(Samples::of(knock(&peer)));
        thread::Builder::new().name("knock".into()).spawn(knock)?;
    }
    drop(tell);
    let deadline = Instant::now() + KNOCKS_TIME_MAX;
    let mut answers: Vec<Samples> = Vec::new();
    while let Ok(answer) = told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        answers.extend(answer);
    }
    answers.sort_by_key(|samples| samples.p99_us);
    let slowest = needed.clamp(1, answers.len().max(1)) - 1;
    match answers.get(slowest) {
        Some(samples) => Ok((*samples, answers.len())),
        None => Ok((loopback()?, 0)),
    }
}

fn loopback() -> io::Result<Samples> {
    let door = TcpListener::bind(("127.0.0.1", 0))?;
    let times = knock(&door.local_addr()?.to_string());
    Samples::of(times).ok_or_else(|| io::Error::other("this machine does not reach itself"))
}

/// Times of connections that are opened and closed; none once one fails.
fn knock(address: &str) -> Vec<Duration> {
    let resolved = address.to_socket_addrs().ok();
    let Some(address) = resolved.and_then(|mut found| found.next()) else {
        return Vec::new();
    };
    let mut times = Vec::new();
    for _ in 0..KNOCKS {
        let before = Instant::now();
        match TcpStream::connect_timeout(&address, KNOCK_MAX) {
            Ok(_) => times.push(before.elapsed()),
            Err(_) => break,
        }
    }
    times
}
