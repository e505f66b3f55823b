//! Shorter ways in the world: who says that a checkpoint is one, who takes it, who lies about it.
//!
//! Source: what `node` does for its member. In: requests for blocks, hints, chance. Out: blocks
//! with hints, members that end their life and fetch a checkpoint, lies.
//! Holds: a correct member finds a shorter way only where a correct one told it, in this life, of
//! one that still lies ahead; villains lie to whoever asks and to those who lack nothing.
//! Elsewhere: when a way is shorter (`consortium::serve`), how many must say so
//! (`consortium::catchup`), fetching (`quest`).

use std::collections::BTreeMap;

use super::Options;
use super::dice::Dice;
use super::world::World;
use crate::committee::{Height, MemberId};
use crate::consortium::serve;
use crate::consortium::{Message, Wanted};
use crate::machine::To;

/// Worlds of a thousand with checkpoints whose members keep blocks below the newest.
const KEEPING: u64 = 500;
/// Members of a thousand that keep all blocks there.
const KEEPERS: u64 = 250;
/// Bytes of a file of the log: few, as are blocks here.
const FILE_BYTES: [u64; 3] = [1 << 10, 4 << 10, 16 << 10];
/// Checkpoints whose blocks others keep.
const CHECKPOINTS: [usize; 3] = [2, 4, 8];
/// Blocks of a thousand behind which a villain hints at a shorter way unasked.
const WHISPERS: u64 = 100;

/// How members of a world keep blocks below their newest checkpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keeping {
    seed: u64,
    file_bytes: u64,
    checkpoints: usize,
}

impl Keeping {
    /// None where they keep no blocks there, so that nobody knows a shorter way. Who is asked to
    /// come where something was pruned finds it pruned.
    pub(super) fn draw(options: &Options) -> Option<Self> {
        let mut dice = Dice::new(options.seed, 19);
        let (is_keeping, file, kept) = (dice.chance(KEEPING), dice.index(3), dice.index(3));
        let is_crowded = options.joiners.is_some_and(|joiners| joiners > 0);
        let is_keeping = is_keeping && options.checkpoint_blocks > 0 && !is_crowded;
        is_keeping.then_some(Self {
            seed: options.seed,
            file_bytes: FILE_BYTES[file],
            checkpoints: CHECKPOINTS[kept],
        })
    }

    /// What member `n` keeps.
    pub(super) fn of(&self, n: usize) -> Retention {
        let keeps_all = Dice::new(self.seed, 10_000 + n as u64).chance(KEEPERS);
        Retention {
            file_bytes: self.file_bytes,
            checkpoints: (!keeps_all).then_some(self.checkpoints),
        }
    }
}

/// What a member keeps below its newest checkpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    file_bytes: u64,
    checkpoints: Option<usize>,
}

impl Retention {
    /// Bytes of a file of its log.
    pub(super) fn file_bytes(self) -> u64 {
        self.file_bytes
    }

    /// Checkpoints whose blocks it keeps; none where it keeps all blocks.
    pub(super) fn checkpoints(self) -> Option<usize> {
        self.checkpoints
    }
}

/// What members heard of shorter ways.
pub(super) struct Hints {
    dice: Dice,
    /// Of each member: in which life it heard from a correct one, and the highest that was named.
    heard: BTreeMap<usize, (u64, Height)>,
}

impl Hints {
    pub(super) fn new(dice: Dice) -> Self {
        Self {
            dice,
            heard: BTreeMap::new(),
        }
    }
}

impl World {
    /// What a member answers that is asked for blocks or batches; a villain lies about ways.
    pub(super) fn serve(
        &mut self,
        index: usize,
        who: MemberId,
        wanted: &Wanted,
    ) -> impl Iterator<Item = Message> + use<> {
        let mut answers = serve::answer(&self.members[index].disk, wanted);
        let hints = |answers: &[Message]| {
            let all = answers.iter();
            all.filter(|answer| matches!(answer, Message::Shorter(_)))
                .count()
        };
        if self.ground.setting.keeping.is_some() && self.oracle.is_faulty(index) {
            self.twist_hints(who, wanted, &mut answers);
        } else if hints(&answers) > 0 {
            self.count("shorter ways told");
        }
        answers.into_iter()
    }

    /// What a villain makes of its answer to a request for blocks.
    fn twist_hints(&mut self, who: MemberId, wanted: &Wanted, answers: &mut Vec<Message>) {
        let (Wanted::Blocks(_), Some(asker)) = (wanted, self.ground.by_id.get(&who).copied())
        else {
            return;
        };
        let before = answers.len();
        match self.hints.dice.below(3) {
            0 => {
                answers.retain(|answer| !matches!(answer, Message::Shorter(_)));
                if answers.len() < before {
                    self.count("lies: shorter ways that are hidden");
                }
            }
            1 => {
                answers.push(Message::Shorter(self.forged_height(asker)));
                self.count("lies: shorter ways that are none");
            }
            _ => {}
        }
    }

    /// A villain has applied a block: at times it hints at a shorter way, to somebody or to all,
    /// whether or not they lack anything.
    pub(super) fn whisper(&mut self, index: usize) {
        let is_villain = self.ground.setting.keeping.is_some() && self.oracle.is_faulty(index);
        if !is_villain || !self.hints.dice.chance(WHISPERS) {
            return;
        }
        let present = self.crowd.present;
        let one = self.hints.dice.index(present);
        let to = match self.hints.dice.chance(500) {
            true => 0..present,
            false => one..one + 1,
        };
        for other in to.filter(|other| *other != index) {
            let height = self.forged_height(other);
            let running = self.members[other].running.as_ref();
            let at = running.map(|running| running.replica.ledger().height());
            self.count(match at.is_some_and(|at| at >= self.oracle.certified) {
                true => "lies: shorter ways to who lacks nothing",
                false => "lies: shorter ways unasked",
            });
            let to = To::One(self.members[other].id);
            self.send_plain(index, to, Message::Shorter(height));
        }
    }

    /// A height that may deceive a member.
    fn forged_height(&mut self, other: usize) -> Height {
        let running = self.members[other].running.as_ref();
        let own = running.map_or(Height(0), |running| running.replica.ledger().height());
        let far = self.hints.dice.within(2, 1_000);
        let heights = [
            own,
            own.next(),
            own.plus(far),
            self.counts.checkpoint,
            self.oracle.height(),
            Height(u64::MAX),
        ];
        heights[self.hints.dice.index(heights.len())]
    }

    /// A member hears of a shorter way.
    pub(super) fn hear_hint(&mut self, from: usize, to: usize, height: Height) {
        if self.oracle.is_faulty(from) {
            return;
        }
        let life = self.members[to].life;
        let heard = self.hints.heard.entry(to).or_insert((life, height));
        if heard.0 != life {
            *heard = (life, height);
        }
        heard.1 = heard.1.max(height);
    }

    /// More members than may be faulty told a member of a shorter way: it takes it, unless it keeps
    /// all blocks or has just come from a checkpoint.
    pub(super) fn on_shorter(&mut self, index: usize) {
        let member = &self.members[index];
        let Some(running) = &member.running else {
            return;
        };
        let at = running
            .hinted_at
            .expect("a replica finds it before it tells");
        let heard = self.hints.heard.get(&index);
        let is_true = heard.is_some_and(|(life, height)| *life == member.life && *height > at);
        if !is_true && !self.oracle.is_faulty(index) {
            let what = format!("member {index} at {at} takes a way that only villains showed");
            return self.oracle.breaks("hint", what);
        }
        let retention = member.disk.retention();
        let keeps_all = retention.is_some_and(|kept| kept.checkpoints().is_none());
        if keeps_all || member.disk.shelf().awaited().is_some() {
            return self.count("shorter ways passed by");
        }
        self.count("shorter ways taken");
        self.go_back(index);
    }
}
