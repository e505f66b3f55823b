//! Every number that operators watch, in the OpenMetrics text format.
//!
//! Source: interface, `/metrics`. In: a handle. Out: text.
//! Holds: the set of series is bounded by the members and the kinds, never by what peers send.
//! Elsewhere: the door that serves it (`api`).

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::desk::Missed;
use super::handle::Handle;
use super::holdings;
use crate::api::{Bootstrap, BootstrapStage};

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;

/// One scrape.
pub(crate) fn scrape(handle: &Handle) -> String {
    let mut registry = Registry::with_prefix("consortium");
    chain(handle, &mut registry);
    kept(handle, &mut registry);
    misbehaviour(handle, &mut registry);
    counted(handle, &mut registry);
    network(handle, &mut registry);
    bootstrapping(&mut registry, false);
    written(&registry)
}

/// One scrape of a member that starts.
pub(crate) fn of_start(told: &Bootstrap) -> String {
    let mut registry = Registry::with_prefix("consortium");
    bootstrapping(&mut registry, true);
    let stages = Family::<Labels, Gauge>::default();
    for stage in BootstrapStage::ALL {
        let labels = vec![("stage", stage.name().to_owned())];
        stages
            .get_or_create(&labels)
            .set((stage == told.stage).into());
    }
    registry.register("bootstrap_stage", "what the start does now", stages);
    let gauges = [
        (
            "bootstrap_segments",
            "segments of the snapshot, 0 before they are known",
            told.segments.into(),
        ),
        (
            "bootstrap_segments_held",
            "segments of the snapshot that are here",
            told.segments_held.into(),
        ),
        (
            "bootstrap_bytes",
            "bytes of the snapshot, 0 before one is settled on",
            told.bytes,
        ),
        (
            "bootstrap_bytes_held",
            "bytes of the snapshot that are here",
            told.bytes_held,
        ),
        (
            "bootstrap_bytes_per_second",
            "how fast bytes of the snapshot come",
            told.bytes_per_second.unwrap_or_default(),
        ),
    ];
    for (name, help, value) in gauges {
        gauge(&mut registry, name, help, value);
    }
    written(&registry)
}

fn bootstrapping(registry: &mut Registry, is: bool) {
    let help = "whether this member starts and does not serve yet";
    gauge(registry, "bootstrapping", help, is.into());
}

fn written(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string fails only when a metric refuses to be written, which ours never do.
    if let Err(error) = encode(&mut text, registry) {
        tracing::warn!(%error, "metrics cannot be written");
    }
    text
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<u64, AtomicU64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn chain(handle: &Handle, registry: &mut Registry) {
    let parts = &handle.parts;
    let (overview, held) = parts.watch.overview();
    let tip = parts.watch.tip();
    let count = |number: usize| number as u64;
    let gauges = [
        ("height", "the newest applied height", overview.height.0),
        (
            "certified_height",
            "the newest certified height",
            overview.certified.0,
        ),
        ("view", "the present view", overview.view),
        ("regency", "the installed regency", overview.regency.0),
        (
            "leading",
            "whether this member leads",
            (overview.role == "leader").into(),
        ),
        (
            "transactions",
            "executed transactions since genesis",
            tip.header.receipts.size,
        ),
        ("outputs_held", "outputs that wait for the log", count(held)),
        (
            "submissions_waiting",
            "submissions that wait for their answer",
            count(parts.waiters.count()),
        ),
        (
            "pool_transactions",
            "transactions that wait to be ordered",
            count(overview.pool.transactions),
        ),
        (
            "pool_bytes",
            "bytes of the batches that wait to be ordered",
            count(overview.pool.bytes),
        ),
        (
            "halted",
            "whether voting has stopped for good",
            (parts.watch.halted().is_some() || parts.watch.diverged().is_some()).into(),
        ),
        (
            "table_bytes",
            "bytes of the tables",
            parts.index.tables().size_on_disk().unwrap_or_default(),
        ),
    ];
    for (name, help, value) in gauges {
        gauge(registry, name, help, value);
    }
}

/// Snapshots, and what else takes space.
fn kept(handle: &Handle, registry: &mut Registry) {
    let parts = &handle.parts;
    let seconds = Gauge::<f64, AtomicU64>::default();
    seconds.set(parts.watch.snapshot_seconds());
    let help = "how long the last snapshot took";
    registry.register("snapshot_seconds", help, seconds);
    let held = parts.index.shelf().held();
    let bytes = held.last().map_or(0, |held| held.taken.bytes);
    let help = "bytes of all segments of the last snapshot";
    gauge(registry, "snapshot_bytes", help, bytes);
    let retained = match holdings::retained(parts) {
        Ok(retained) => retained,
        Err(error) => {
            tracing::warn!(%error, "what is kept cannot be measured");
            return;
        }
    };
    let gauges = [
        (
            "checkpoint_height",
            "the height of the newest certified snapshot that is here",
            retained.checkpoint_height.0,
        ),
        (
            "retained_bytes",
            "bytes of log, snapshots and tables on the disk",
            retained.retained_bytes,
        ),
        (
            "first_block",
            "the lowest block that is here",
            retained.first_block.0,
        ),
    ];
    for (name, help, value) in gauges {
        gauge(registry, name, help, value);
    }
}

fn counted(handle: &Handle, registry: &mut Registry) {
    let counts = &handle.parts.counts;
    let totals = [
        ("fsync", "syncs of the log", counts.log.syncs()),
        (
            "log_appended_bytes",
            "bytes of records appended to the log",
            counts.log.bytes(),
        ),
    ];
    for (name, help, value) in totals {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    let requests = Counters::default();
    for (class, count) in (1..).zip(&counts.answered) {
        let labels = vec![("status", format!("{class}xx"))];
        let counter = requests.get_or_create(&labels);
        counter.inc_by(count.load(Ordering::Relaxed));
    }
    let help = "HTTP requests, by the kind of their answer";
    registry.register("api_requests", help, requests);
    desks(&counts.missed, registry);
}

/// What the disk was asked for and nobody will answer.
fn desks(missed: &Missed, registry: &mut Registry) {
    let dropped = Counters::default();
    for (desk, count) in [
        ("librarian", &missed.librarian),
        ("teacher", &missed.teacher),
    ] {
        let labels = vec![("desk", desk.to_owned())];
        let counter = dropped.get_or_create(&labels);
        counter.inc_by(count.load(Ordering::Relaxed));
    }
    let help = "what members and newcomers asked of the disk and found no room for, by desk";
    registry.register("servings_dropped", help, dropped);
}

fn misbehaviour(handle: &Handle, registry: &mut Registry) {
    let parts = &handle.parts;
    let faults = Counters::default();
    for (kind, count) in parts.watch.overview().0.faults {
        let labels = vec![("kind", kind.name().to_owned())];
        faults.get_or_create(&labels).inc_by(count);
    }
    registry.register("faults", "misbehaviour seen, by kind", faults);
    let dropped = Counters::default();
    for (member, count) in parts.dropped.read() {
        let labels = vec![("member", member.to_string())];
        dropped.get_or_create(&labels).inc_by(count);
    }
    let help = "frames that were not in the format or not signed, by sender";
    registry.register("frames_dropped", help, dropped);
}

fn network(handle: &Handle, registry: &mut Registry) {
    let Some(stats) = handle.net_stats() else {
        return;
    };
    let up = Family::<Labels, Gauge>::default();
    let names = ["sent_bytes", "received_bytes", "frames_lost", "connects"];
    let counters = names.map(|_| Counters::default());
    for (peer, stats) in &stats.peers {
        let member = ("member", peer.to_string());
        up.get_or_create(&vec![member.clone()]).set(stats.up.into());
        for (lane, stats) in [("votes", &stats.votes), ("bulk", &stats.bulk)] {
            let labels = vec![member.clone(), ("lane", lane.to_owned())];
            let values = [
                stats.sent_bytes,
                stats.received_bytes,
                stats.dropped,
                stats.connects,
            ];
            for (counter, value) in counters.iter().zip(values) {
                counter.get_or_create(&labels).inc_by(value);
            }
        }
    }
    registry.register("peer_up", "whether the member is connected", up);
    for (name, counter) in names.into_iter().zip(counters) {
        let help = format!("{} by member and lane", name.replace('_', " "));
        registry.register(name, help, counter);
    }
    let refused = Counters::default();
    for (reason, count) in &stats.refused {
        let labels = vec![("reason", format!("{reason:?}").to_lowercase())];
        refused.get_or_create(&labels).inc_by(*count);
    }
    let help = "connections from outside that came to nothing, by reason";
    registry.register("connections_refused", help, refused);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_told_by_desk() {
        let missed = Missed::default();
        missed.teacher.store(3, Ordering::Relaxed);
        let mut registry = Registry::with_prefix("consortium");
        desks(&missed, &mut registry);
        let text = written(&registry);
        for line in [
            "consortium_servings_dropped_total{desk=\"librarian\"} 0\n",
            "consortium_servings_dropped_total{desk=\"teacher\"} 3\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
