//! What happens next: a queue by time, and in the order of asking where times are equal.
//!
//! Source: discrete event simulation. In: happenings with their time. Out: the earliest.
//! Holds: entries of the heap are small, what happens lies beside it. Elsewhere: what it does
//! (`world`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use super::clients::Submission;
use super::doom::Step;
use super::member::Leaving;
use super::post::Frame;
use crate::bootstrap;
use crate::committee::Taken;
use crate::consortium::{Command, Execution, Timer};

/// What happens. Members are named with the life that it belongs to.
pub(super) enum Happening {
    /// A member starts.
    Start(usize),
    /// A frame arrives at a member.
    Frame(usize, u64, Rc<Frame>),
    /// A timer runs out, if the number is still its own.
    Timer(usize, u64, Timer, u64),
    /// A timer of a member that fetches a checkpoint runs out, if the number is still its own.
    QuestTimer(usize, u64, bootstrap::Timer, u64),
    /// A snapshot is durable.
    Taken(usize, u64, Taken),
    /// A sync that covers so many records ends.
    Synced(usize, u64, usize),
    /// The application answers.
    Executed(usize, u64, Execution),
    /// A villain sends late.
    Leave(usize, u64, Leaving),
    /// A villain is woken.
    Wake(usize, u64, u64),
    /// A member's keys were made or erased.
    Keys(usize, u64, Command),
    /// A member learns whether the link to another stands.
    Link(usize, usize, bool),
    /// A client submits.
    Client,
    /// Operators look round.
    Census,
    /// A member is handed a group.
    Submit(usize, u64, Submission),
    /// A kind of trouble strikes.
    Trouble(usize),
    /// One direction of a link is cut, or both are mended.
    Cut(usize, usize, bool),
    /// A member is not cut off any more by an ambush.
    Return(usize),
    /// A link is as fast as others again.
    Fast(usize, usize),
    /// A disk is as fast as others again.
    FastDisk(usize),
    /// A member that stood still goes on.
    Resume(usize),
    /// A member loses power, and so often again.
    CrashLoop(usize, u64),
    /// A member that goes on from a snapshot loses power.
    Doom(usize, u64, Step),
    /// Members that were not there come at once.
    Crowd,
}

impl Happening {
    /// The member that must go on to see it.
    pub(super) fn seen_by(&self) -> Option<usize> {
        match self {
            Self::Frame(member, ..) | Self::Timer(member, ..) | Self::Synced(member, ..) => {
                Some(*member)
            }
            Self::Executed(member, ..) | Self::Leave(member, ..) | Self::Wake(member, ..) => {
                Some(*member)
            }
            Self::Link(member, ..) | Self::Keys(member, ..) => Some(*member),
            Self::Submit(member, ..) => Some(*member),
            Self::QuestTimer(member, ..) | Self::Taken(member, ..) => Some(*member),
            Self::Start(_) | Self::Client | Self::Census | Self::Trouble(_) | Self::Cut(..) => None,
            Self::Return(_) | Self::Doom(..) | Self::Crowd => None,
            Self::Fast(..) | Self::FastDisk(_) | Self::Resume(_) | Self::CrashLoop(..) => None,
        }
    }
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    happenings: Vec<Option<Happening>>,
    free: Vec<usize>,
    number: u64,
}

impl Queue {
    /// Something happens at `at`.
    pub(super) fn push(&mut self, at: u64, what: Happening) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.happenings.push(None);
            self.happenings.len() - 1
        });
        self.happenings[slot] = Some(what);
        self.number += 1;
        self.heap.push(Reverse((at, self.number, slot)));
    }

    /// Takes the earliest out, with its time.
    pub(super) fn pop(&mut self) -> Option<(u64, Happening)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        Some((at, self.happenings[slot].take()?))
    }
}
