//! The threads beside the network's: started together, and each failure ends the process.
//!
//! Source: `ARCHITECTURE.md`. In: what they share. Out: the driver's ports, handles to join.
//! Holds: a thread that panics or fails tells why before it is gone.
//! Elsewhere: what each does (`driver`, `executor`, `outlets`, `scribe`).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::bell::Ringing;
use super::clock::Clock;
use super::config::Resources;
use super::curator::{CURATOR_MAX, Curation, Curator, Retention};
use super::desk::{self, Counter, Missed};
use super::driver::{Driver, Internal, KEY_WORK_MAX, NEWS_MAX, Sources, WORK_MAX};
use super::error::NodeError;
use super::executor::{self, Latest};
use super::herald::Waiters;
use super::index::Index;
use super::library::{self, Desk, Lent, Library};
use super::newcomer::Newcomer;
use super::outlets::{self, Herald, Outlets, Smith};
use super::peers::Peers;
use super::scribe::{Note, Scribe};
use super::watch::Watch;
use crate::application::Application;
use crate::blocks::Genesis;
use crate::bootstrap::QuotaOptions;
use crate::net::Net;
use crate::storage::GroupCommit;

/// How far a thread steps back: on a busy processor it gets a tenth of what another one gets.
const NICE: i32 = 10;

/// What the threads beside the driver share.
pub(crate) struct Helpers {
    pub(crate) net: Arc<Net>,
    pub(crate) index: Arc<Index>,
    pub(crate) latest: Arc<Latest>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) internal: Ringing<Internal>,
    pub(crate) notes: SyncSender<Vec<Note>>,
    pub(crate) smith: Smith,
    pub(crate) peers: Peers,
    pub(crate) newcomer: Newcomer,
    pub(crate) genesis: Genesis,
    pub(crate) clock: Clock,
    /// The data directory.
    pub(crate) data: PathBuf,
    pub(crate) resources: Resources,
    /// Where desks count what finds no room.
    pub(crate) missed: Missed,
}

/// Starts threads whose panic or failure ends the process.
pub(crate) struct Spawner<'a> {
    watch: &'a Arc<Watch>,
    pub(crate) threads: Vec<JoinHandle<()>>,
}

impl<'a> Spawner<'a> {
    /// No thread yet.
    pub(crate) fn new(watch: &'a Arc<Watch>) -> Self {
        Self {
            watch,
            threads: Vec::new(),
        }
    }

    fn thread(
        &mut self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), NodeError> {
        let alarm = Alarm {
            watch: Arc::clone(self.watch),
            name,
        };
        let spawned = thread::Builder::new().name(name.into()).spawn(move || {
            let _alarm = alarm;
            work();
        });
        self.threads.push(spawned.map_err(no_thread)?);
        Ok(())
    }

    /// As [`Spawner::thread`], for work that consensus does not wait for: it gets what the
    /// processor has left.
    fn thread_below(
        &mut self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), NodeError> {
        self.thread(name, move || {
            step_back(name);
            work();
        })
    }

    /// Starts the threads that the driver hands work to, and gives the driver's ports to them.
    pub(crate) fn helpers(
        &mut self,
        helpers: Helpers,
        application: Box<dyn Application>,
        log: GroupCommit,
    ) -> Result<Outlets, NodeError> {
        let lent = Lent::default();
        let curator = self.curator(&helpers, &lent)?;
        let members = self.desk(Desk::Members, &helpers, &lent)?;
        let newcomers = self.desk(Desk::Newcomers, &helpers, &lent)?;
        let Helpers {
            net,
            index,
            latest,
            waiters,
            internal,
            notes,
            smith,
            peers,
            newcomer,
            genesis,
            clock: _,
            data,
            resources,
            missed: _,
        } = helpers;
        let (work, working) = sync_channel(WORK_MAX);
        let (news, heralded) = sync_channel(NEWS_MAX);
        let (replica, changes) = (internal.clone(), notes.clone());
        let (cutting, pieces) = (curator.clone(), genesis.parameters.checkpoints);
        let pieces = pieces.segment_bytes as usize;
        self.thread("executor", move || {
            let cutter = (&cutting, pieces);
            executor::run(application, &working, &replica, &changes, cutter, &latest);
        })?;
        let (keys, forged) = sync_channel(KEY_WORK_MAX);
        let is_woken = Arc::clone(&smith.is_woken);
        let (replica, watch) = (internal.clone(), Arc::clone(self.watch));
        self.thread("smith", move || smith.run(&forged, &replica, &watch))?;
        let herald = Herald {
            anchor: outlets::awaited(&data, &index)?,
            index,
            waiters,
            watch: Arc::clone(self.watch),
            newcomer,
            notes,
            keys: keys.clone(),
            curator,
            is_woken,
            checkpoints: BTreeSet::new(),
            data,
            keeps_blocks: Retention::of(&resources).blocks != Some(0),
        };
        self.thread("herald", move || herald.run(&heralded))?;
        Ok(Outlets {
            net,
            log,
            internal,
            work,
            members,
            newcomers,
            news,
            keys,
            peers,
        })
    }

    /// Starts the thread that takes snapshots.
    fn curator(
        &mut self,
        helpers: &Helpers,
        lent: &Lent,
    ) -> Result<SyncSender<Curation>, NodeError> {
        let (curator, curations) = sync_channel(CURATOR_MAX);
        let parameters = &helpers.genesis.parameters;
        let curating = Curator {
            index: Arc::clone(&helpers.index),
            watch: Arc::clone(self.watch),
            internal: helpers.internal.clone(),
            notes: helpers.notes.clone(),
            rules: parameters.checkpoints,
            span: parameters.expiry_blocks_max.into(),
            retention: Retention::of(&helpers.resources),
            lent: lent.clone(),
            clock: helpers.clock,
        };
        self.thread_below("curator", move || curating.run(&curations))?;
        Ok(curator)
    }

    /// Starts a thread that answers from the disk.
    fn desk(&mut self, desk: Desk, helpers: &Helpers, lent: &Lent) -> Result<Counter, NodeError> {
        let missed = match desk {
            Desk::Members => &helpers.missed.librarian,
            Desk::Newcomers => &helpers.missed.teacher,
        };
        let (counter, line) = desk::desk(Arc::clone(missed));
        let library = Library {
            index: Arc::clone(&helpers.index),
            net: Arc::clone(&helpers.net),
            watch: Arc::clone(self.watch),
            genesis: helpers.genesis.clone(),
            lent: lent.clone(),
            clock: helpers.clock,
            quota: match desk {
                Desk::Members => QuotaOptions::default(),
                Desk::Newcomers => library::quota(&helpers.resources),
            },
        };
        match desk {
            Desk::Members => self.thread("librarian", move || library.run(line)),
            Desk::Newcomers => self.thread_below("teacher", move || library.run(line)),
        }?;
        Ok(counter)
    }

    pub(crate) fn driver(
        &mut self,
        driver: Driver<Outlets>,
        sources: Sources,
    ) -> Result<(), NodeError> {
        let watch = Arc::clone(self.watch);
        self.thread("replica", move || {
            if let Err(error) = driver.run(&sources) {
                watch.fail(error);
            }
            watch.end();
        })
    }

    pub(crate) fn scribe(
        &mut self,
        scribe: Scribe,
        notes: Receiver<Vec<Note>>,
    ) -> Result<(), NodeError> {
        let watch = Arc::clone(self.watch);
        self.thread("scribe", move || {
            if let Err(error) = scribe.run(&notes) {
                watch.fail(error);
            }
        })
    }
}

/// Lets the threads of consensus go first. Linux keeps this for each thread, others for the whole
/// process, where it would change nothing between them.
fn step_back(name: &str) {
    let is_of_a_thread = cfg!(target_os = "linux");
    if is_of_a_thread && let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(%error, name, "the thread does not step back behind consensus");
    }
}

/// Tells of a thread that panics.
struct Alarm {
    watch: Arc<Watch>,
    name: &'static str,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.watch.fail(format!("thread {} failed", self.name));
        }
    }
}

/// The system gave no thread.
pub(crate) fn no_thread(source: std::io::Error) -> NodeError {
    let what = "the system gives no thread".into();
    NodeError::System { what, source }
}
