//! What a snapshot of a large state costs, and how much of it the next one shares.
//!
//! Source: design, 'checkpoints and bootstrap'. In: words. Out: one JSON document.
//! Holds: every figure is measured here; segments are stored as a member stores them.
//! Elsewhere: members that take snapshots while they order (`campaign`).
//!
//! ```text
//! cargo run --release --example snapshot -- --mib 1024 --changed-percent 1
//! cargo run --release --example snapshot -- --mib 1024 --segment-kib 16
//! ```

use std::process::ExitCode;
use std::time::Instant;

use bytes::Bytes;
use clap::Parser;
use consortium::application::kv::{Kv, Operation};
use consortium::application::{Application, Block};
use consortium::checkpoint::{Leaf, Section};
use consortium::storage::Packs;
use serde_json::{Value, json};

#[derive(Parser)]
#[command(about = "What a snapshot of a large state costs")]
struct Words {
    /// Size of the state in MiB.
    #[arg(long, default_value_t = 256)]
    mib: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 1024)]
    value_bytes: usize,
    /// Entries that change between two snapshots, in percent.
    #[arg(long, default_value_t = 1.0)]
    changed_percent: f64,
    /// Bytes of a segment, about, in KiB.
    #[arg(long, default_value_t = 64)]
    segment_kib: usize,
}

fn main() -> ExitCode {
    let words = Words::parse();
    match run(&words) {
        Ok(report) => {
            println!("{report:#}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &Words) -> Result<Value, Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let packs = Packs::open(dir.path())?;
    let mut kv = Kv::new();
    let count = (words.mib << 20) / words.value_bytes as u64;
    let mut height = 0;
    for first in (0..count).step_by(4096) {
        height += 1;
        put(
            &mut kv,
            height,
            first..count.min(first + 4096),
            words.value_bytes,
            0,
        );
    }
    let first = take(&kv, &packs, words.segment_kib << 10)?;
    let again = take(&kv, &packs, words.segment_kib << 10)?;
    let changed = (count as f64 * words.changed_percent / 100.0) as u64;
    let step = (count / changed.max(1)).max(1);
    for number in (0..count).step_by(usize::try_from(step)?) {
        height += 1;
        put(&mut kv, height, number..number + 1, words.value_bytes, 1);
    }
    let second = take(&kv, &packs, words.segment_kib << 10)?;
    Ok(json!({
        "entries": count,
        "value_bytes": words.value_bytes,
        "segment_kib": words.segment_kib,
        "changed_percent": words.changed_percent,
        "first": first,
        "unchanged": again,
        "changed": second,
    }))
}

fn put(kv: &mut Kv, height: u64, numbers: std::ops::Range<u64>, bytes: usize, turn: u8) {
    let operations: Vec<Vec<u8>> = numbers
        .map(|number| {
            let (key, value) = (format!("account/{number:012}"), vec![turn; bytes]);
            let operation = Operation::Put {
                key: key.as_bytes(),
                value: &value,
            };
            operation
                .to_bytes()
                .expect("keys and values are within bounds")
        })
        .collect();
    let operations: Vec<&[u8]> = operations.iter().map(Vec::as_slice).collect();
    kv.execute(&Block {
        height,
        timestamp_us: height,
        operations: &operations,
        sealed: false,
    });
    drop(kv.drain_changes());
}

/// Cuts and stores the state; gives what that took.
fn take(kv: &Kv, packs: &Packs, piece: usize) -> Result<Value, Box<dyn std::error::Error>> {
    let (started, before) = (Instant::now(), packs.bytes());
    let snapshot = kv.snapshot(piece);
    let (mut bytes, mut segments, mut shared) = (0, 0_u64, 0);
    for segment in snapshot.chunks {
        let segment: Bytes = segment;
        let leaf = Leaf::of(Section::Application, &segment);
        bytes += segment.len() as u64;
        segments += 1;
        if !packs.append(&leaf.digest, &segment)? {
            shared += segment.len() as u64;
        }
    }
    packs.sync()?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(json!({
        "bytes": bytes,
        "segments": segments,
        "bytes_shared": shared,
        "shared": shared as f64 / bytes as f64,
        "bytes_written": packs.bytes() - before,
        "seconds": seconds,
        "mib_per_second": bytes as f64 / 1048576.0 / seconds,
    }))
}
