//! How far a start is: one value that the start writes, and the door and the terminal read.
//!
//! Source: interface, 'status'. In: stages, counts. Out: the same with a rate; whether to go on.
//! Holds: reading never waits for the start; a start that is ended stops at its next step, and the
//! disk is as after a kill there.
//! Elsewhere: who writes it (`bootstrap`, `rebase`, `recovery`), how it is shown (`api`, `cli`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::NodeError;
use super::metrics;
use crate::api::{self, Bootstrap, BootstrapStage};
use crate::bootstrap::Stage;
use crate::checkpoint::{Assembler, Tally};
use crate::committee::Height;

/// A rate is measured over the last one to two of these.
const WINDOW: Duration = Duration::from_secs(5);
/// A rate that was measured over less is none.
const WINDOW_LEAST: Duration = Duration::from_millis(250);

/// How far a start is.
#[derive(Debug, Default)]
pub struct Progress {
    now: Mutex<Now>,
    is_ended: AtomicBool,
    is_shown: AtomicBool,
}

#[derive(Debug)]
struct Now {
    told: Bootstrap,
    pace: Pace,
}

impl Default for Now {
    fn default() -> Self {
        Self {
            told: Bootstrap {
                stage: BootstrapStage::Open,
                view: None,
                height: None,
                target_height: None,
                segments_held: 0,
                segments: 0,
                bytes_held: 0,
                bytes: 0,
                bytes_per_second: None,
                seconds_left: None,
            },
            pace: Pace::at(Instant::now(), 0),
        }
    }
}

/// How fast something grows.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// When it was how much, at the beginnings of the last window and of this one.
    earlier: (Instant, u64),
    later: (Instant, u64),
}

impl Pace {
    fn at(now: Instant, done: u64) -> Self {
        let mark = (now, done);
        Self {
            earlier: mark,
            later: mark,
        }
    }

    fn advance(&mut self, now: Instant, done: u64) {
        if now.duration_since(self.later.0) >= WINDOW {
            self.earlier = self.later;
            self.later = (now, done);
        }
    }

    /// So much in a second; none where too little was measured.
    fn per_second(&self, now: Instant, done: u64) -> Option<f64> {
        let (since, before) = self.earlier;
        let span = now.duration_since(since);
        let grown = done.saturating_sub(before) as f64;
        (span >= WINDOW_LEAST).then(|| grown / span.as_secs_f64())
    }
}

impl Progress {
    /// How far it is now.
    pub fn look(&self) -> Bootstrap {
        self.look_at(Instant::now())
    }

    fn look_at(&self, now: Instant) -> Bootstrap {
        let Now { told, pace } = *self.now();
        let mut told = told;
        let Some((done, of)) = told.measure() else {
            return told;
        };
        let rate = pace.per_second(now, done);
        if told.stage != BootstrapStage::Replay {
            told.bytes_per_second = rate.map(|rate| rate.round() as u64);
        }
        let rate = rate.filter(|rate| *rate > 0.0);
        told.seconds_left = rate.map(|rate| (of.saturating_sub(done) as f64 / rate).ceil() as u64);
        told
    }

    /// The start is to stop at its next step.
    pub fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
    }

    /// Somebody shows a bar from now on: no line says the same.
    pub fn show(&self) {
        self.is_shown.store(true, Ordering::Relaxed);
    }

    /// Whether a bar is shown.
    pub(super) fn is_shown(&self) -> bool {
        self.is_shown.load(Ordering::Relaxed)
    }

    /// Whether the start is to stop.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }

    /// Errors: [`NodeError::Ended`] where the start is to stop.
    pub(super) fn go_on(&self) -> Result<(), NodeError> {
        match self.is_ended() {
            true => Err(NodeError::Ended),
            false => Ok(()),
        }
    }

    /// Another stage begins.
    pub(super) fn enter(&self, stage: BootstrapStage) {
        self.enter_at(Instant::now(), stage);
    }

    fn enter_at(&self, at: Instant, stage: BootstrapStage) {
        let mut now = self.now();
        now.told.stage = stage;
        let done = now.told.measure().map_or(0, |(done, _)| done);
        now.pace = Pace::at(at, done);
    }

    /// A newcomer's machine enters a stage.
    pub(super) fn entered(&self, stage: Stage) {
        match stage {
            Stage::Walk => self.enter(BootstrapStage::Walk),
            Stage::Anchor => self.enter(BootstrapStage::Anchor),
            Stage::Checkpoint => self.enter(BootstrapStage::Checkpoint),
            Stage::Gather => self.enter(BootstrapStage::Gather),
            Stage::Idle | Stage::Done | Stage::Stuck => {}
        }
    }

    /// What is known now is what `note` makes of it.
    pub(super) fn note(&self, note: impl FnOnce(&mut Bootstrap)) {
        self.note_at(Instant::now(), note);
    }

    fn note_at(&self, at: Instant, note: impl FnOnce(&mut Bootstrap)) {
        let mut now = self.now();
        let before = now.told.measure().map(|(_, of)| of);
        note(&mut now.told);
        let Some((done, of)) = now.told.measure() else {
            return;
        };
        match before == Some(of) {
            true => now.pace.advance(at, done),
            // It is measured from here on: what an earlier try left came at no rate.
            false => now.pace = Pace::at(at, done),
        }
    }

    /// The segments that a newcomer gathers.
    pub(super) fn gathered(&self, assembler: &Assembler) {
        let (taken, tally) = (assembler.taken(), assembler.tally());
        let bytes = match tally.segments {
            0 => 0, // Before the manifest is here nobody knows what is lacking.
            _ => taken.bytes,
        };
        self.note(|told| {
            told.target_height = Some(taken.height);
            (told.segments, told.segments_held) = (tally.segments, tally.segments_held);
            (told.bytes, told.bytes_held) = (bytes, held(bytes, &tally));
        });
    }

    /// Tables are made out of a snapshot of so many bytes.
    pub(super) fn restoring(&self, height: Height, bytes: u64) {
        self.note(|told| {
            told.target_height = Some(height);
            (told.bytes_held, told.bytes) = (0, bytes);
        });
        self.enter(BootstrapStage::Restore);
    }

    /// So many bytes more are restored.
    pub(super) fn restored(&self, bytes: u64) {
        self.note(|told| told.bytes_held = told.bytes_held.saturating_add(bytes).min(told.bytes));
    }

    /// Blocks up to `height` of those up to `top` are applied.
    ///
    /// Errors: [`NodeError::Ended`].
    pub(super) fn replayed(&self, height: Height, top: Height) -> Result<(), NodeError> {
        self.note(|told| (told.height, told.target_height) = (Some(height), Some(top)));
        self.go_on()
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of `bytes` that are here.
fn held(bytes: u64, tally: &Tally) -> u64 {
    let missing = tally.bytes_needed + tally.bytes_wasted;
    let missing = missing.saturating_sub(tally.bytes_received);
    bytes.saturating_sub(missing)
}

/// A member that starts, as its door sees it.
pub(super) struct Lobby {
    pub(super) member: api::MemberName,
    pub(super) progress: Arc<Progress>,
}

impl api::Foyer for Lobby {
    fn starting(&self) -> api::Starting {
        api::Starting {
            member: self.member.clone(),
            state: api::BOOTSTRAPPING.into(),
            bootstrap: self.progress.look(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    fn metrics(&self) -> String {
        metrics::of_start(&self.progress.look())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    /// A gathering of `of` bytes that begins with `done` of them.
    fn gathering(start: Instant, done: u64, of: u64) -> Progress {
        let progress = Progress::default();
        progress.enter_at(start, BootstrapStage::Gather);
        progress.note_at(start, |told| (told.bytes_held, told.bytes) = (done, of));
        progress
    }

    #[test]
    fn a_rate_counts_what_came_and_not_what_was_there() {
        let start = Instant::now();
        let progress = gathering(start, 500, 1_000);
        let told = progress.look_at(start);
        assert_eq!((told.bytes_per_second, told.seconds_left), (None, None));
        progress.note_at(after(start, 2), |told| told.bytes_held = 600);
        let told = progress.look_at(after(start, 2));
        assert_eq!(
            (told.bytes_per_second, told.seconds_left),
            (Some(50), Some(8))
        );
    }

    #[test]
    fn a_rate_forgets_what_came_long_ago() {
        let start = Instant::now();
        let progress = gathering(start, 0, 10_000);
        for second in 1..=60 {
            progress.note_at(after(start, second), |told| {
                told.bytes_held = (second * 100).min(3_000);
            });
        }
        let told = progress.look_at(after(start, 60));
        assert_eq!((told.bytes_per_second, told.seconds_left), (Some(0), None));
    }

    #[test]
    fn bytes_that_were_of_no_use_are_not_held() {
        let tally = Tally {
            bytes_needed: 600,
            bytes_received: 300,
            bytes_wasted: 100,
            ..Tally::default()
        };
        assert_eq!(held(1_000, &tally), 600);
        assert_eq!(held(0, &tally), 0);
    }

    #[test]
    fn replayed_blocks_have_no_bytes_and_a_time() {
        let start = Instant::now();
        let progress = Progress::default();
        progress.enter_at(start, BootstrapStage::Replay);
        let at = |height| {
            move |told: &mut Bootstrap| {
                told.height = Some(Height(height));
                told.target_height = Some(Height(100));
            }
        };
        progress.note_at(start, at(20));
        progress.note_at(after(start, 4), at(60));
        let told = progress.look_at(after(start, 4));
        assert_eq!((told.bytes_per_second, told.seconds_left), (None, Some(4)));
        assert_eq!(told.brief(), "replay 60%");
    }

    #[test]
    fn a_start_that_is_ended_goes_no_further() {
        let progress = Progress::default();
        assert!(progress.replayed(Height(1), Height(2)).is_ok());
        progress.end();
        let ended = progress.replayed(Height(2), Height(2));
        assert!(matches!(ended, Err(NodeError::Ended)));
    }
}
