//! What members and we used: processor time, memory, disk, syncs.
//!
//! Source: proc(5). In: process ids, folders, `/metrics`. Out: a [`Reading`].
//! Holds: what cannot be read is absent, never zero. Elsewhere: what is made of it (`bench`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;

use crate::cli::target::Targets;
use crate::client::Api;

/// Microseconds of one tick of processor time; Linux counts a hundred a second for everybody.
const TICK_US: f64 = 10_000.0;

/// Where to look.
pub(crate) struct Gauge {
    pids: Vec<u32>,
    dirs: Vec<PathBuf>,
    doors: Vec<Api>,
}

/// Sums over all members, at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) members_us: Option<f64>,
    pub(crate) own_us: Option<f64>,
    pub(crate) rss_max_mib: Option<f64>,
    pub(crate) log_bytes: Option<f64>,
    pub(crate) table_bytes: Option<f64>,
    pub(crate) syncs: Option<f64>,
}

impl Gauge {
    /// Looks at the members of `targets` as far as they are on this machine.
    pub(crate) fn of(targets: &Targets) -> Self {
        let known = targets.members.iter().filter_map(|m| m.known.as_ref());
        let runs = |pid: &u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("start")
        };
        Self {
            pids: known.clone().filter_map(|m| m.pid).filter(runs).collect(),
            dirs: known.map(|member| member.dir.clone()).collect(),
            doors: targets.doors(),
        }
    }

    /// Reads everything now.
    pub(crate) async fn read(&self) -> Reading {
        let bytes = |part: fn(&Path) -> bool| {
            let sums = self
                .dirs
                .iter()
                .map(|dir| disk_bytes(&dir.join("data"), part));
            (!self.dirs.is_empty()).then(|| sums.sum::<u64>() as f64)
        };
        let members: Option<Vec<f64>> = self
            .pids
            .iter()
            .map(|pid| processor_us(&format!("/proc/{pid}/stat")))
            .collect();
        let rss = self.pids.iter().filter_map(|pid| rss_max_mib(*pid));
        let texts = self.metrics().await;
        Reading {
            members_us: members
                .filter(|all| !all.is_empty())
                .map(|all| all.iter().sum()),
            own_us: processor_us("/proc/self/stat"),
            rss_max_mib: rss.max_by(f64::total_cmp),
            log_bytes: sum(&texts, "log_appended_bytes"),
            table_bytes: bytes(|path| !is_log(path)),
            syncs: sum(&texts, "fsync"),
        }
    }

    async fn metrics(&self) -> Vec<String> {
        let limit = Duration::from_secs(2);
        let asks = self.doors.iter().map(|door| door.metrics(limit));
        join_all(asks).await.into_iter().flatten().collect()
    }
}

/// What all members that answer counted together.
fn sum(texts: &[String], word: &str) -> Option<f64> {
    let counts = texts.iter().map(|text| counted(text, word));
    { counts }
        .sum::<Option<f64>>()
        .filter(|_| !texts.is_empty())
}

fn is_log(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "log")
}

/// User and system time of the process whose `stat` is at `path`.
fn processor_us(path: &str) -> Option<f64> {
    ticks(&fs::read_to_string(path).ok()?).map(|ticks| ticks * TICK_US)
}

/// The fields utime and stime; the name before them is in brackets and may hold anything.
pub(crate) fn ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let user: f64 = fields.get(11)?.parse().ok()?;
    let system: f64 = fields.get(12)?.parse().ok()?;
    Some(user + system)
}

fn rss_max_mib(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1_024.0)
}

/// Bytes that files below `dir` take on the disk, of those that `part` picks.
fn disk_bytes(dir: &Path, part: fn(&Path) -> bool) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| {
        let path = entry.path();
        match entry.metadata() {
            Ok(found) if found.is_dir() => disk_bytes(&path, part),
            Ok(found) if part(&path) => found.blocks() * 512,
            // A file that went in the meantime takes nothing.
            Ok(_) | Err(_) => 0,
        }
    });
    sizes.sum()
}

/// The sum of the counters whose name holds `word`, in Prometheus text.
pub(crate) fn counted(text: &str, word: &str) -> Option<f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let found = lines.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        let name = name.split('{').next()?;
        let is_counter = name.contains(word) && name.ends_with("_total");
        is_counter.then(|| value.parse::<f64>().ok()).flatten()
    });
    let values: Vec<f64> = found.collect();
    (!values.is_empty()).then(|| values.iter().sum())
}
