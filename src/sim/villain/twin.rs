//! The twin: a second complete and correct member with the same keys.
//!
//! Source: Bano et al., Twins (OPODIS 2021); operators who start a copy of a member. In: what half
//! of the others say. Out: what is said to that half.
//! Holds: it promises and remembers as a correct member does, on a disk of its own; the member
//! itself talks to the other half. Elsewhere: every scenario of the first rounds (`twins`).

use std::collections::{BTreeMap, VecDeque};

use super::den::{Half, receivers, say};
use super::{Stage, Villain};
use crate::committee::MemberId;
use crate::consortium::{Command, Consortium, Event, Message, Timer, serve};
use crate::machine::{Input, To};
use crate::sim::dice::Dice;
use crate::sim::disk::{self, Disk};
use crate::sim::member::{Leaving, Running};

/// The second member.
pub(super) struct Twin {
    half: Half,
    dice: Dice,
    disk: Disk,
    running: Option<Running>,
    timers: BTreeMap<u64, Timer>,
}

impl Twin {
    pub(super) fn new(mut dice: Dice) -> Self {
        Self {
            half: Half::new(&mut dice),
            dice,
            disk: Disk::default(),
            running: None,
            timers: BTreeMap::new(),
        }
    }

    /// Hands the twin one input; its disk and its application answer at once.
    fn input(&mut self, stage: &Stage<'_>, input: Input<Consortium>) -> Vec<Leaving> {
        let mut inputs = VecDeque::from([input]);
        let mut said = Vec::new();
        while let (Some(input), Some(running)) = (inputs.pop_front(), &mut self.running) {
            let mut leaving = Vec::new();
            running.handle(stage.now, input, &mut self.disk, &mut leaving);
            self.disk.synced(self.disk.written());
            running.release(&self.disk, &mut leaving);
            for what in leaving {
                match what {
                    Leaving::Send(to, message) => self.say(stage, to, &message, &mut said),
                    Leaving::Emit(Event::Execute(block)) => {
                        let executed = self
                            .running
                            .as_mut()
                            .map(|r| disk::run(&mut *r.app, &block));
                        let executed = executed.map(Command::Executed).map(Input::Command);
                        inputs.extend(executed);
                    }
                    Leaving::Emit(Event::Serve(member, wanted)) => {
                        for answer in serve::answer(&self.disk, &wanted) {
                            self.say(stage, To::One(member), &answer, &mut said);
                        }
                    }
                    Leaving::Arm(timer, after, number) => {
                        self.timers.insert(number, timer);
                        said.push(Leaving::Wake(after, number));
                    }
                    Leaving::Emit(_) => {}
                    Leaving::Bytes(..) | Leaving::Later(..) | Leaving::Wake(..) => {}
                }
            }
        }
        said
    }

    fn say(&self, stage: &Stage<'_>, to: To<MemberId>, message: &Message, said: &mut Vec<Leaving>) {
        let view = &stage.ground.view;
        let heard = receivers(view, stage.me, to).into_iter();
        let heard = heard.filter(|member| self.half.has(view, *member));
        said.extend(heard.map(|member| say(member, message.clone())));
    }
}

impl Villain for Twin {
    fn hear(&mut self, stage: &Stage<'_>, input: &Input<Consortium>) -> Vec<Leaving> {
        let is_heard = match input {
            Input::Command(Command::Start) => {
                self.running = Some(stage.boot(&mut self.disk));
                self.timers.clear();
                true
            }
            Input::Command(Command::Connected(other) | Command::Disconnected(other))
            | Input::Message { from: other, .. } => self.half.has(&stage.ground.view, *other),
            Input::Command(Command::Submit(_)) => self.dice.chance(500),
            Input::Command(Command::Executed(_) | Command::Accuse(_)) | Input::Timer(_) => false,
            Input::Command(Command::Key(_) | Command::Enter(..) | Command::Elsewhere(..)) => false,
            Input::Command(Command::Taken(_)) => false,
            Input::Command(Command::Resave(_) | Command::Settle(_)) => false,
        };
        if !is_heard {
            return Vec::new();
        }
        let input = match input {
            Input::Command(command) => Input::Command(command.clone()),
            Input::Timer(timer) => Input::Timer(*timer),
            Input::Message { from, message } => Input::Message {
                from: *from,
                message: message.clone(),
            },
        };
        self.input(stage, input)
    }

    fn twist(&mut self, stage: &Stage<'_>, leaving: Vec<Leaving>) -> Vec<Leaving> {
        let view = &stage.ground.view;
        let mut left = Vec::new();
        for what in leaving {
            match what {
                Leaving::Send(to, message) => {
                    let heard = receivers(view, stage.me, to).into_iter();
                    let heard = heard.filter(|member| !self.half.has(view, *member));
                    left.extend(heard.map(|member| say(member, message.clone())));
                }
                other => left.push(other),
            }
        }
        left
    }

    fn wake(&mut self, stage: &Stage<'_>, number: u64) -> Vec<Leaving> {
        let timer = self.timers.remove(&number);
        let Some((timer, running)) = timer.zip(self.running.as_mut()) else {
            return Vec::new();
        };
        if running.take_timer(&timer, number) {
            self.input(stage, Input::Timer(timer))
        } else {
            Vec::new()
        }
    }
}
