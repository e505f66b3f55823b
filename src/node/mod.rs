//! One member as a process: files, threads, and the driver that obeys the law of `machine`.
//!
//! Source: `ARCHITECTURE.md`. In: a member's directory. Out: a running member, [`Handle`]s to it.
//! Holds: the replica is owned by one thread; nothing behind a save leaves before it is durable.
//! Elsewhere: decisions (`consortium`), what is asked over HTTP (`api`).

mod alone;
mod archive;
mod barrier;
mod bell;
mod bootstrap;
mod carried;
mod clock;
pub mod config;
mod curator;
mod desk;
mod driver;
mod ears;
mod entries;
mod errand;
mod error;
mod executor;
mod flusher;
mod handle;
mod herald;
mod holdings;
mod host;
mod index;
pub mod init;
mod keeper;
pub mod keys;
mod known;
mod launch;
mod library;
mod metrics;
mod newcomer;
mod outlets;
mod partial;
mod peers;
mod progress;
mod proofs;
mod rebase;
mod recovery;
mod reply;
mod scan;
mod scribe;
mod seat_keys;
pub mod selftest;
mod shelf;
mod show;
mod space;
mod start;
mod threads;
mod tiles;
mod timers;
pub(crate) mod verify;
mod views;
mod vitals;
mod watch;

pub use self::alone::order_alone;
pub use self::archive::{ArchiveError, Archiver, Round, Tail};
pub use self::carried::{Carried, CarriedError};
pub use self::config::{Config, Neighbours, Observer, Resources, Timing};
pub use self::error::{GenesisFile, NodeError, ReplayError, RootError, Unusable};
pub use self::handle::Handle;
pub use self::herald::{Promise, Refused, Settled, Settlement};
pub use self::launch::{Launch, run};
pub use self::progress::Progress;
pub use self::start::{Node, Options, read_genesis};
pub use self::verify::{
    FAULTS_MAX, Fault, Legacy, SnapshotFault, SnapshotVerdict, SnapshotsVerdict, Verdict,
    VerifyArchive, VerifyDir, VerifyError, archive_legacy, verify_archive, verify_dir,
    verify_legacy, verify_snapshots,
};
pub use self::watch::{Certified, Tip};

#[cfg(test)]
mod tests;
