//! Lies to newcomers: what villains make of what they would answer.
//!
//! Source: design, 'checkpoints and bootstrap', S5 and S6. In: true answers, chance. Out: others,
//! or none, or late ones; each lie is counted by its name.
//! Holds: one kind of lie per villain, newcomer and life, so that one that is never found out goes
//! on; villains sign with what they have or had, and nobody else's.
//! Elsewhere: true answers (`bootstrap::shelf`), what must come of them (`quest`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::dice::Dice;
use super::forgery::{Pads, certify, usurpers};
use super::member::{Leaving, Member};
use super::shelf::Shelf;
use super::world::World;
use crate::blocks::Step;
use crate::bootstrap::{Anchor, Answer, Message as Word};
use crate::checkpoint::Holding;
use crate::committee::{Height, MemberId, ViewId, Voter};
use crate::consortium::Message;
use crate::consortium::serve::Archive;
use crate::crypto::{Digest, SecretKey};
use crate::machine::{Span, To};

/// How late a villain answers that answers slowly, in microseconds.
const DRIP_US: (u64, u64) = (500_000, 20_000_000);

/// How a villain lies to one newcomer: with every answer, or with those of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Answer(Manner),
    Segment(Piece),
    Page(Leaves),
    Holding(Claim),
    Checkpoint(Block),
    Anchor(Stand),
    Steps(Chain),
}

/// When answers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Silent,
    Thrice,
    Drip,
}

/// What a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Wrong,
    Truncated,
    Oversized,
    Swapped,
    Misnumbered,
    Mixed,
}

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    Wrong,
    Mixed,
}

/// What is said to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Everything,
    Bitmap,
}

/// What a checkpoint block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Old,
    Wrong,
}

/// Where a seat says that it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    OtherHeader,
    OtherNonce,
    Bare,
    Stale,
    Low,
}

/// What steps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    Forged,
    Reversed,
}

/// Every habit, and what is counted when a villain follows it.
const HABITS: &[(Habit, &str)] = &[
    (Habit::Answer(Manner::Silent), "lies: no answer"),
    (Habit::Answer(Manner::Thrice), "lies: answers thrice"),
    (Habit::Answer(Manner::Drip), "lies: slow drip"),
    (Habit::Segment(Piece::Wrong), "lies: wrong segments"),
    (Habit::Segment(Piece::Truncated), "lies: truncated segments"),
    (Habit::Segment(Piece::Oversized), "lies: oversized segments"),
    (Habit::Segment(Piece::Swapped), "lies: swapped segments"),
    (
        Habit::Segment(Piece::Misnumbered),
        "lies: misnumbered segments",
    ),
    (
        Habit::Segment(Piece::Mixed),
        "lies: segments of another checkpoint",
    ),
    (Habit::Page(Leaves::Wrong), "lies: wrong pages"),
    (
        Habit::Page(Leaves::Mixed),
        "lies: pages of another checkpoint",
    ),
    (
        Habit::Holding(Claim::Everything),
        "lies: holds what it lacks",
    ),
    (Habit::Holding(Claim::Bitmap), "lies: wrong bitmaps"),
    (Habit::Checkpoint(Block::Old), "lies: old checkpoints"),
    (Habit::Checkpoint(Block::Wrong), "lies: wrong checkpoints"),
    (
        Habit::Anchor(Stand::OtherHeader),
        "lies: anchors with another header",
    ),
    (
        Habit::Anchor(Stand::OtherNonce),
        "lies: anchors with another nonce",
    ),
    (
        Habit::Anchor(Stand::Bare),
        "lies: anchors without a certificate",
    ),
    (Habit::Anchor(Stand::Stale), "lies: stale anchors"),
    (Habit::Anchor(Stand::Low), "lies: low anchors"),
    (Habit::Steps(Chain::Forged), "lies: steps by forgotten keys"),
    (Habit::Steps(Chain::Reversed), "lies: reversed steps"),
];

/// What villains remember of newcomers.
pub(super) struct Liars {
    dice: Dice,
    /// By villain and newcomer: in which life of the newcomer it began, and how it lies.
    habits: BTreeMap<(usize, MemberId), (u64, usize)>,
    /// The first word of each villain on where it stands.
    anchors: BTreeMap<usize, Anchor>,
}

impl Liars {
    pub(super) fn new(dice: Dice) -> Self {
        Self {
            dice,
            habits: BTreeMap::new(),
            anchors: BTreeMap::new(),
        }
    }

    /// How `liar` lies to a newcomer in this life.
    fn habit(&mut self, liar: usize, who: MemberId, life: u64) -> (Habit, &'static str) {
        let drawn = self.dice.index(HABITS.len());
        let held = self.habits.entry((liar, who)).or_insert((life, drawn));
        if held.0 != life {
            *held = (life, drawn);
        }
        HABITS[held.1]
    }
}

impl World {
    /// What a villain makes of its answers to a newcomer.
    pub(super) fn lie(&mut self, index: usize, who: MemberId, answers: Vec<Word>) -> Vec<Leaving> {
        let newcomer = self.ground.by_id.get(&who).copied();
        let life = newcomer.map_or(0, |newcomer| self.members[newcomer].life);
        let (habit, name) = self.liars.habit(index, who, life);
        let mut leaving = Vec::new();
        for word in answers {
            let Word::Answer(answer) = word else {
                continue;
            };
            if let Answer::Anchor(anchor) = &answer {
                let first = self.liars.anchors.entry(index);
                first.or_insert_with(|| (**anchor).clone());
            }
            let lie = match habit {
                Habit::Answer(_) => Some(answer.clone()),
                Habit::Segment(_) | Habit::Page(_) | Habit::Holding(_) => None,
                Habit::Checkpoint(_) | Habit::Anchor(_) | Habit::Steps(_) => None,
            };
            let lie = lie.or_else(|| self.twist(index, habit, &answer));
            if lie.is_some() {
                self.count(name);
            }
            let message = Word::Answer(lie.unwrap_or(answer));
            let said = || {
                let message = Message::Bootstrap(Box::new(message.clone()));
                Leaving::Send(To::One(who), message)
            };
            match habit {
                Habit::Answer(Manner::Silent) => {}
                Habit::Answer(Manner::Thrice) => leaving.extend([said(), said(), said()]),
                Habit::Answer(Manner::Drip) => {
                    let after = Span(self.liars.dice.within(DRIP_US.0, DRIP_US.1));
                    leaving.push(Leaving::Later(after, Box::new(said())));
                }
                Habit::Segment(_) | Habit::Page(_) | Habit::Holding(_) => leaving.push(said()),
                Habit::Checkpoint(_) | Habit::Anchor(_) | Habit::Steps(_) => leaving.push(said()),
            }
        }
        leaving
    }

    /// Another answer in place of a true one; nothing where the habit has none for it.
    fn twist(&self, index: usize, habit: Habit, answer: &Answer) -> Option<Answer> {
        let shelf = self.members[index].disk.shelf();
        match (habit, answer) {
            (Habit::Segment(how), Answer::Segment(manifest, number, bytes)) => {
                let (number, bytes) = twist_segment(shelf, how, (manifest, *number, bytes))?;
                Some(Answer::Segment(*manifest, number, bytes))
            }
            (Habit::Page(how), Answer::Page(manifest, page)) => {
                let mut page = (**page).clone();
                match how {
                    Leaves::Wrong => page.leaves.first_mut()?.bytes ^= 1,
                    Leaves::Mixed => page = shelf.other(manifest)?.page(page.page)?,
                }
                Some(Answer::Page(*manifest, Box::new(page)))
            }
            (Habit::Holding(how), Answer::Holding(manifest, holding)) => {
                let bits = Bytes::from_static(&[0xff; 1_000]);
                let claim = match how {
                    Claim::Everything if *holding == Holding::All => return None,
                    Claim::Everything => Holding::All,
                    Claim::Bitmap => Holding::Some(bits),
                };
                Some(Answer::Holding(*manifest, claim))
            }
            (Habit::Checkpoint(how), Answer::Checkpoint(block)) => {
                let mut block = block.clone();
                match how {
                    Block::Old => *block = shelf.other(&block.1.manifest)?.block()?.clone(),
                    Block::Wrong => block.1.manifest.0[0] ^= 1,
                }
                Some(Answer::Checkpoint(block))
            }
            (Habit::Anchor(how), Answer::Anchor(anchor)) => {
                let anchor = self.twist_anchor(index, how, anchor)?;
                Some(Answer::Anchor(Box::new(anchor)))
            }
            (Habit::Steps(Chain::Forged), Answer::Steps(steps)) => {
                let forged = self.forge(index, steps)?;
                Some(Answer::Steps(vec![forged.to_bytes().into()]))
            }
            (Habit::Steps(Chain::Reversed), Answer::Steps(steps)) => {
                let reversed = steps.iter().rev().cloned().collect();
                (steps.len() > 1).then_some(Answer::Steps(reversed))
            }
            (Habit::Answer(_) | Habit::Segment(_) | Habit::Page(_) | Habit::Holding(_), _) => None,
            (Habit::Checkpoint(_) | Habit::Anchor(_) | Habit::Steps(_), _) => None,
        }
    }

    fn twist_anchor(&self, index: usize, how: Stand, anchor: &Anchor) -> Option<Anchor> {
        let mut twisted = anchor.clone();
        match how {
            Stand::OtherHeader => twisted.header.timestamp_us ^= 1,
            Stand::OtherNonce => twisted.vote.nonce.0[0] ^= 1,
            Stand::Bare => drop(twisted.certificate.take()?),
            Stand::Stale => {
                let first = self.liars.anchors.get(&index);
                let is_old = |first: &&Anchor| first.vote.nonce != anchor.vote.nonce;
                return first.filter(is_old).cloned();
            }
            // Signed for this very newcomer, and far below what the villain knows.
            Stand::Low => {
                let Member { id, disk, keys, .. } = &self.members[index];
                let view = self.oracle.view_of(anchor.vote.view)?;
                let voter = Voter::new(view, keys.secret(view, id)?.clone())?;
                let least = view.opening().height.next();
                let certificate = disk.certificate_at_or_after(least)?;
                let (height, digest) = (certificate.ballot.height, certificate.ballot.digest);
                let is_low = height < anchor.vote.height && certificate.ballot.view == view.id();
                let block = disk.block(height).filter(|_| is_low)?;
                twisted.vote = voter.vouch_anchor(anchor.vote.nonce, (height, digest));
                (twisted.header, twisted.certificate) = (block.header, Some(certificate));
            }
        }
        Some(twisted)
    }

    /// The first of these steps, or one behind the newest view, to a committee of the villains'
    /// own: signed by every secret that villains have or had, and padded.
    fn forge(&self, index: usize, steps: &[Bytes]) -> Option<Step> {
        let member = &self.members[index];
        let step = steps.first().and_then(|step| Step::from_bytes(step).ok());
        let (mut header, stored) = match step {
            Some(step) => (step.header, Some(step.certificate)),
            None => {
                let certificate = member.disk.certificate_at_or_after(Height(1))?;
                let newest = member.running.as_ref()?.replica.ledger().height();
                (member.disk.block(newest)?.header, Some(certificate))
            }
        };
        let ends: ViewId = header.view;
        let view = self.oracle.view_of(ends)?;
        let body = usurpers(&self.ground.setting, view);
        header.body = body.root();
        let villains = self
            .members
            .iter()
            .filter(|member| member.villain.is_some());
        let loot = villains.flat_map(|villain| villain.keys.held().chain(villain.keys.erased()));
        let secrets: Vec<SecretKey> = loot.cloned().collect();
        let pads = match (&stored, header.height.0 % 3) {
            (Some(stored), 0) => Pads::Stored(stored),
            (_, 1) => Pads::Repeated,
            _ => Pads::Nothing,
        };
        Some(Step {
            certificate: certify(view, &header, &secrets, &pads),
            header,
            body,
        })
    }
}

/// Another number or other bytes.
fn twist_segment(
    shelf: &Shelf,
    how: Piece,
    (manifest, number, bytes): (&Digest, u32, &Bytes),
) -> Option<(u32, Bytes)> {
    let is_other = |other: &Bytes| other != bytes;
    let mut wrong = bytes.to_vec();
    match how {
        Piece::Wrong => wrong[0] ^= 1,
        Piece::Truncated => drop(wrong.pop()),
        Piece::Oversized => wrong.push(0),
        Piece::Misnumbered => return Some((number ^ 1, bytes.clone())),
        Piece::Swapped => {
            let other = shelf.segment(manifest, number ^ 1);
            return Some((number, other.filter(is_other)?));
        }
        Piece::Mixed => {
            let other = shelf.other(manifest)?.segment(number).cloned();
            return Some((number, other.filter(is_other)?));
        }
    }
    Some((number, wrong.into()))
}
