//! What everybody may look at: the replica's overview, the newest certified block, the end.
//!
//! Source: `ARCHITECTURE.md`. In: news of the replica's thread and the herald. Out: copies.
//! Holds: looking never waits for the replica.
//! Elsewhere: what is told over HTTP (`host`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::error::RootError;
use super::vitals::Pulse;
use crate::api::Condition;
use crate::blocks::Header;
use crate::bootstrap::Pin;
use crate::committee::{Certificate, Height, MemberId, Taken, View};
use crate::consortium::{Change, Fault, Overview};
use crate::crypto::Digest;
use crate::membership::register::Register;

/// The newest block that everybody can be shown.
#[derive(Clone, Debug)]
pub struct Tip {
    /// Its header.
    pub header: Header,
    /// The header's digest.
    pub digest: Digest,
}

/// A header and the certificate over it.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The header.
    pub header: Header,
    /// PERSIST votes of a quorum over its digest.
    pub certificate: Certificate,
}

#[derive(Debug)]
struct State {
    overview: Overview,
    held: usize,
    tip: Tip,
    register: Arc<Register>,
    view: Arc<View>,
    certified: Option<Certified>,
    /// The newest certified header with a state root.
    provable: Option<Certified>,
    /// Faults that are kept, in the order in which they were noticed; as many as the replica keeps.
    faults: Vec<Arc<Fault>>,
    halted: Option<Height>,
    /// Our snapshot that the others contradict, and theirs.
    diverged: Option<(Taken, Taken)>,
    /// How long the last snapshot took, in seconds.
    snapshot_seconds: f64,
    /// Why nothing is signed any more.
    lapsed: Option<String>,
    failure: Option<String>,
    /// Whether the process goes on anew after its end.
    restarts: bool,
    /// The view that people hold for true.
    pin: Option<Pin>,
    pulse: Pulse,
    /// Sealed headers that wait for their certificate.
    uncertified: BTreeMap<Height, Header>,
}

impl State {
    /// Seats that evidence of the present view convicts.
    fn count_convicted(&mut self) {
        let view = &self.view;
        let of_view = |fault: &&Arc<Fault>| {
            let evidence = fault.evidence.as_ref();
            evidence.is_some_and(|evidence| evidence.view() == view.id())
        };
        let seats = self.faults.iter().filter(of_view).map(|fault| fault.who);
        let seats: BTreeSet<MemberId> = seats.filter(|who| view.seat_of(who).is_some()).collect();
        self.pulse.convicted(seats.len());
    }
}

/// What everybody may look at.
#[derive(Debug)]
pub(crate) struct Watch {
    state: Mutex<State>,
    /// Executed transactions since genesis; marked when it grows.
    executed: watch::Sender<u64>,
    /// Whether the process ends.
    ending: watch::Sender<bool>,
}

/// Headers that wait for a certificate, at most; the oldest are forgotten.
const UNCERTIFIED_MAX: usize = 8192;

impl Watch {
    /// Starts at `tip`.
    pub(crate) fn new(
        tip: Tip,
        (register, view): (Arc<Register>, View),
        certified: Option<Certified>,
        overview: Overview,
    ) -> Self {
        let executed = watch::Sender::new(tip.header.receipts.size);
        let provable = certified.clone().filter(|c| c.header.state.is_some());
        Self {
            state: Mutex::new(State {
                overview,
                held: 0,
                tip,
                register,
                view: Arc::new(view),
                certified,
                provable,
                faults: Vec::new(),
                halted: None,
                diverged: None,
                snapshot_seconds: 0.0,
                lapsed: None,
                failure: None,
                restarts: false,
                pin: None,
                pulse: Pulse::default(),
                uncertified: BTreeMap::new(),
            }),
            executed,
            ending: watch::Sender::new(false),
        }
    }

    /// The replica's thread says where it stands.
    pub(crate) fn set(&self, overview: Overview, held: usize) {
        let mut state = self.state();
        (state.overview, state.held) = (overview, held);
        let State {
            overview,
            view,
            pulse,
            ..
        } = &mut *state;
        pulse.beat(overview, view);
    }

    /// Whether the view can order, and why it is no better.
    pub(crate) fn condition(&self) -> (Condition, Option<String>) {
        let state = self.state();
        state.pulse.judge(&state.overview, &state.view)
    }

    /// The view that people hold for true.
    pub(crate) fn pin(&self, pin: Option<Pin>) {
        self.state().pin = pin;
    }

    /// A view begins. Where another block opened it than the pinned one, this member ends.
    pub(crate) fn enter(&self, view: View) {
        let mut state = self.state();
        let pin = state.pin.filter(|pin| pin.view == view.id());
        if pin.is_some_and(|pin| pin.digest != view.opening().digest) {
            drop(state);
            return self.fail(RootError::OwnLog { view: view.id() });
        }
        state.view = Arc::new(view);
        state.count_convicted();
    }

    /// The present view.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.state().view)
    }

    /// A block was applied, and changed the register where one is given.
    pub(crate) fn applied(
        &self,
        header: &Header,
        digest: Digest,
        register: Option<&Arc<Register>>,
    ) {
        let mut state = self.state();
        if let Some(register) = register {
            state.register = Arc::clone(register);
        }
        state.tip = Tip {
            header: header.clone(),
            digest,
        };
        state.uncertified.insert(header.height, header.clone());
        while state.uncertified.len() > UNCERTIFIED_MAX {
            state.uncertified.pop_first();
        }
        drop(state);
        self.executed.send_replace(header.receipts.size);
    }

    /// A block has a certificate.
    pub(crate) fn certified(&self, certificate: &Certificate) {
        let mut state = self.state();
        let height = certificate.ballot.height;
        let later = state.uncertified.split_off(&height.next());
        let mut ready = std::mem::replace(&mut state.uncertified, later);
        let header = ready.remove(&height);
        let is_same = |header: &Header| header.digest() == certificate.ballot.digest;
        let Some(header) = header.filter(is_same) else {
            return;
        };
        let certified = Certified {
            header,
            certificate: certificate.clone(),
        };
        if certified.header.state.is_some() {
            state.provable = Some(certified.clone());
        }
        state.certified = Some(certified);
    }

    /// Something that operators see changed.
    pub(crate) fn changed(&self, change: &Change) {
        match change {
            Change::State(name) => tracing::info!(state = name, "ordering"),
            Change::View(view) => tracing::info!(%view, "the next view begins"),
            Change::Regency(regency, leader) => tracing::info!(regency, %leader, "new leader"),
            Change::Fault(fault) => {
                let is_proved = fault.evidence.is_some();
                let kind = fault.kind.name();
                tracing::warn!(who = %fault.who, kind, is_proved, "a member misbehaves");
                if fault.evidence.is_some() {
                    let mut state = self.state();
                    state.faults.push(Arc::new(fault.clone()));
                    state.count_convicted();
                }
            }
            Change::Diverged { ours, certified } => {
                tracing::error!(
                    ?ours,
                    ?certified,
                    "our snapshot is another than the certified one; voting has stopped"
                );
                self.state().diverged = Some((**ours, **certified));
            }
            Change::Reached(member, true) => tracing::info!(%member, "reached again"),
            Change::Reached(member, false) => tracing::warn!(%member, "not reached"),
            Change::Lapsed(holder, promise) => {
                let why = format!(
                    "the log was rolled back: member {holder} holds {promise} that our log lacks; \
                     rejoin with a fresh key"
                );
                tracing::error!(%why, "this member signs nothing any more");
                self.state().lapsed = Some(why);
            }
            Change::Halted {
                height,
                ours,
                certified,
            } => {
                tracing::error!(
                    %height, ours = %ours.digest(), state = ?ours.state, %certified,
                    "our block differs from the certified one; voting has stopped"
                );
                self.state().halted = Some(*height);
            }
        }
    }

    /// Something failed for good: the process ends. The first failure counts.
    pub(crate) fn fail(&self, what: impl ToString) {
        let what = what.to_string();
        tracing::error!(%what, "this member ends");
        self.state().failure.get_or_insert(what);
        self.end();
    }

    /// This life of the member ends, and another one begins.
    pub(crate) fn restart(&self) {
        self.state().restarts = true;
        self.end();
    }

    /// Whether another life begins behind this one.
    pub(crate) fn restarts(&self) -> bool {
        self.state().restarts
    }

    /// Whether the process ends.
    pub(crate) fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// The process ends.
    pub(crate) fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Where the replica stands, and how much waits for the log.
    pub(crate) fn overview(&self) -> (Overview, usize) {
        let state = self.state();
        (state.overview.clone(), state.held)
    }

    /// The newest applied block.
    pub(crate) fn tip(&self) -> Tip {
        self.state().tip.clone()
    }

    /// The newest certified block.
    pub(crate) fn newest_certified(&self) -> Option<Certified> {
        self.state().certified.clone()
    }

    /// The newest certified block with a state root.
    pub(crate) fn provable(&self) -> Option<Certified> {
        self.state().provable.clone()
    }

    /// Faults that are kept.
    pub(crate) fn faults(&self) -> Vec<Arc<Fault>> {
        self.state().faults.clone()
    }

    /// Faults that the log gave back.
    pub(crate) fn restore(&self, faults: Vec<Fault>) {
        let mut state = self.state();
        // One that was saved again before log files were given up is read twice.
        for fault in faults {
            if !state.faults.iter().any(|held| **held == fault) {
                state.faults.push(Arc::new(fault));
            }
        }
        state.count_convicted();
    }

    /// The register, and the height behind which it stands so.
    pub(crate) fn register(&self) -> (Height, Arc<Register>) {
        let state = self.state();
        (state.tip.header.height, Arc::clone(&state.register))
    }

    /// Where voting has halted.
    pub(crate) fn halted(&self) -> Option<Height> {
        self.state().halted
    }

    /// Our snapshot and the certified one, where they differ.
    pub(crate) fn diverged(&self) -> Option<(Taken, Taken)> {
        self.state().diverged
    }

    /// A snapshot was taken, in so many seconds.
    pub(crate) fn snapshotted(&self, seconds: f64) {
        self.state().snapshot_seconds = seconds;
    }

    /// How long the last snapshot took, in seconds; 0 before the first of this life.
    pub(crate) fn snapshot_seconds(&self) -> f64 {
        self.state().snapshot_seconds
    }

    /// Why nothing is signed any more, where the log was rolled back.
    pub(crate) fn lapsed(&self) -> Option<String> {
        self.state().lapsed.clone()
    }

    /// Why the process ends, when it failed.
    pub(crate) fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// Executed transactions, to wait on.
    pub(crate) fn executed(&self) -> watch::Receiver<u64> {
        self.executed.subscribe()
    }

    /// The end, to wait on.
    pub(crate) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
