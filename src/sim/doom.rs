//! Newcomers that go down at every step, and what they must not ask for again.
//!
//! Source: design, 'checkpoints and bootstrap', step 5: it resumes after a crash. In: chance, what
//! a newcomer's disk gave back, what it asks and saves then. Out: at which step it loses power or
//! ends; what was fetched although the disk had it.
//! Holds: rolls dice of its own; it goes down between any two outputs of the machine.
//! Elsewhere: how a crash tears what was not synced (`packed`), who carries a newcomer (`quest`).

use std::collections::BTreeSet;

use super::dice::Dice;
use super::faults::Fault;
use super::queue::Happening;
use super::world::World;
use crate::bootstrap::{Ask, Held, Record};
use crate::checkpoint::Assembler;
use crate::committee::ViewId;
use crate::crypto::Digest;

/// Of a thousand lives of newcomers so many end at a drawn step, by the world.
const DOOMED: [u64; 4] = [0, 300, 600, 900];
/// Of a thousand of these so many end in good order: what was not synced is there, and may be lost
/// with the power later.
const ORDERLY: u64 = 300;
/// How long a newcomer is down, in microseconds, at most.
const DOWN_US_MAX: u64 = 3_000_000;
/// How long behind its start a member is taken to replay, in microseconds, at most.
const REPLAY_US_MAX: u64 = 500_000;
/// Outputs of one step behind which power may be lost, at most; of segments there are more.
const OUTPUTS_MAX: u64 = 8;
const SEGMENT_OUTPUTS_MAX: u64 = 60;

/// A step of a bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The view chain is walked.
    Walk,
    /// A fresh block is asked for.
    Anchor,
    /// The checkpoint block is asked for.
    Checkpoint,
    /// Pages of the manifest are.
    Page,
    /// Segments are.
    Segments,
    /// Everything is here and becomes the member's own snapshot.
    Listing,
    /// Its state is made of it.
    Restore,
    /// Blocks above it are fetched and applied.
    Replay,
}

impl Step {
    const ALL: [Self; 8] = [
        Self::Walk,
        Self::Anchor,
        Self::Checkpoint,
        Self::Page,
        Self::Segments,
        Self::Listing,
        Self::Restore,
        Self::Replay,
    ];

    /// What is counted when a newcomer goes down here.
    fn name(self) -> &'static str {
        match self {
            Self::Walk => "newcomers down at the walk",
            Self::Anchor => "newcomers down at the anchor",
            Self::Checkpoint => "newcomers down at the checkpoint",
            Self::Page => "newcomers down at pages",
            Self::Segments => "newcomers down at segments",
            Self::Listing => "newcomers down at listing",
            Self::Restore => "newcomers down at restoring",
            Self::Replay => "newcomers down at replay",
        }
    }
}

/// Where a newcomer loses power: behind so many outputs of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doom {
    pub(super) step: Step,
    left: u64,
}

impl Doom {
    /// An output of `step` is about to be carried out; whether power is lost before that.
    pub(super) fn strikes(&mut self, step: Step) -> bool {
        if step != self.step {
            return false;
        }
        let strikes = self.left == 0;
        self.left = self.left.saturating_sub(1);
        strikes
    }
}

/// Draws where newcomers of one world lose power.
pub(super) struct Dooms {
    dice: Dice,
    per_mille: u64,
}

impl Dooms {
    pub(super) fn new(mut dice: Dice) -> Self {
        let per_mille = DOOMED[dice.index(DOOMED.len())];
        Self { dice, per_mille }
    }

    fn draw(&mut self) -> Option<Doom> {
        let is_doomed = self.dice.chance(self.per_mille);
        let step = Step::ALL[self.dice.index(Step::ALL.len())];
        let most = match step {
            Step::Segments => SEGMENT_OUTPUTS_MAX,
            Step::Walk | Step::Anchor | Step::Checkpoint | Step::Page => OUTPUTS_MAX,
            // Before the snapshot is listed, and before it is noted that nothing is to do.
            Step::Listing => 1,
            Step::Restore | Step::Replay => 0,
        };
        let left = self.dice.within(0, most);
        is_doomed.then_some(Doom { step, left })
    }
}

impl World {
    /// Where the newcomer that begins now loses power, if it does.
    pub(super) fn draw_doom(&mut self) -> Option<Doom> {
        let is_on = self.ground.options.faults.has(Fault::Doom) && !self.is_calm;
        is_on.then(|| self.dooms.draw()).flatten()
    }

    /// A newcomer loses power at `step`, or ends in good order, and starts again later.
    pub(super) fn meet_doom(&mut self, index: usize, step: Step) {
        self.count(Fault::Doom.name());
        self.count(step.name());
        let mut dice = self.dooms.dice.clone();
        let after = dice.within(10_000, DOWN_US_MAX);
        match dice.chance(ORDERLY) {
            true => self.restart(index, after),
            false => self.crash(index, after, &mut dice),
        }
        self.dooms.dice = dice;
    }

    /// A member goes on from what it fetched: its next life may end while it restores or replays.
    pub(super) fn follow_doom(&mut self, index: usize, doom: Option<Doom>) {
        let Some(Doom { step, .. }) = doom else {
            return;
        };
        let after = match step {
            Step::Restore => 0,
            Step::Replay => self.dooms.dice.within(1, REPLAY_US_MAX),
            Step::Walk | Step::Anchor | Step::Checkpoint => return,
            Step::Page | Step::Segments | Step::Listing => return,
        };
        let life = self.members[index].life + 1;
        self.later(1_000 + after, Happening::Doom(index, life, step));
    }

    /// A member that restores or replays loses power.
    pub(super) fn late_doom(&mut self, index: usize, life: u64, step: Step) {
        if self.is_calm || self.alive(index, life).is_none() {
            return;
        }
        self.meet_doom(index, step);
        if step == Step::Restore {
            self.members[index].disk.lose_tables();
        }
    }
}

/// What a newcomer's disk gave back when it began, all of it durable.
#[derive(Default)]
pub(super) struct Regained {
    view: ViewId,
    /// The manifest that was aimed at, while nobody said that it is gone.
    target: Option<Digest>,
    pages: BTreeSet<u32>,
    segments: BTreeSet<Digest>,
    has_walked: bool,
}

impl Regained {
    pub(super) fn of(held: &Held) -> Self {
        let last = held.steps.last();
        Self {
            view: last.map_or(ViewId(0), |step| step.body.next),
            target: held.target.as_ref().map(|target| target.body.manifest),
            pages: held.pages.iter().map(|page| page.page).collect(),
            segments: held.segments.clone(),
            has_walked: false,
        }
    }

    /// Nobody has what was aimed at any more.
    pub(super) fn gone(&mut self) {
        self.target = None;
    }

    /// What is asked for although the disk has it.
    pub(super) fn judge_ask(&mut self, ask: &Ask, gathering: Option<&Assembler>) -> Option<String> {
        match ask {
            // Behind the first, a member that parted from us is asked where.
            Ask::Steps(view, _) => {
                let is_first = !std::mem::replace(&mut self.has_walked, true);
                (is_first && *view < self.view).then(|| format!("steps behind {view}"))
            }
            Ask::Anchor(..) => self.target.map(|_| "a fresh block".into()),
            Ask::Checkpoint(link) => self.target.map(|_| format!("checkpoint {}", link.height)),
            Ask::Holding(_) => None,
            Ask::Page(manifest, page) => {
                let is_held = self.target == Some(*manifest) && self.pages.contains(page);
                is_held.then(|| format!("page {page}"))
            }
            Ask::Segments(_, wanted) => {
                let leaves = gathering?.manifest()?.leaves();
                let mut wanted = wanted.iter();
                let held = wanted.find(|index| {
                    let leaf = leaves.get(**index as usize);
                    leaf.is_some_and(|leaf| self.segments.contains(&leaf.digest))
                });
                held.map(|index| format!("segment {index}"))
            }
        }
    }

    /// What is saved although the disk has it.
    pub(super) fn judge_record(&self, record: &Record) -> Option<String> {
        match record {
            Record::Step(bytes) => {
                let step = crate::blocks::Step::from_bytes(bytes).ok()?;
                (step.body.next <= self.view).then(|| format!("the step to {}", step.body.next))
            }
            Record::Target(_) => self.target.map(|_| "a target".into()),
            Record::Page(page) => {
                let is_held = self.target.is_some() && self.pages.contains(&page.page);
                is_held.then(|| format!("page {}", page.page))
            }
        }
    }
}
