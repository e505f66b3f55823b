//! The post: what members say to each other on its way.
//!
//! Source: the links (`net`). In: messages that leave. Out: what their receivers hear.
//! Holds: what is heard passed the same checks as in `node`, once for all receivers; worlds that
//! take the complete path carry encoded frames, the others the messages themselves.
//! Elsewhere: when a frame arrives (`net`), who sends (`life`).

use std::cell::OnceCell;
use std::collections::HashSet;
use std::rc::Rc;

use bytes::Bytes;

use super::audit::brief;
use super::promises::Speaker;
use super::queue::Happening;
use super::world::World;
use crate::blocks::codec;
use crate::committee::{Kind, MemberId, ViewId, Vote};
use crate::consortium::{Command, Ears, Fault, HearError, Heard, Lane, Message};
use crate::crypto::{Check, Digest};
use crate::fsm;
use crate::machine::{Input, To};

/// Bytes that a message of the votes' lane is taken to have beside its payload.
const VOTE_BYTES: usize = 200;

/// A frame on its way.
pub(super) struct Frame {
    from: usize,
    content: Content,
    length: usize,
    /// What it says: every receiver in one view has the same ears, so it is heard once there.
    heard: OnceCell<(ViewId, Result<Heard, HearError>)>,
}

/// What a frame is made of.
enum Content {
    Bytes(Bytes),
    Message(Message),
}

impl Frame {
    /// What it says. Signatures that were found to hold once are `known` and not checked again, as
    /// in `node`.
    fn hear(
        &self,
        ears: &Ears,
        from: &MemberId,
        known: &mut HashSet<Digest>,
    ) -> Result<Heard, HearError> {
        let view = ears.view.id();
        let (first, heard) = self
            .heard
            .get_or_init(|| (view, self.judge(ears, from, known)));
        if *first == view {
            heard.clone()
        } else {
            self.judge(ears, from, known)
        }
    }

    fn judge(
        &self,
        ears: &Ears,
        from: &MemberId,
        known: &mut HashSet<Digest>,
    ) -> Result<Heard, HearError> {
        match &self.content {
            Content::Message(message) => ears.hear_message(from, message.clone()),
            Content::Bytes(bytes) => {
                let mut opened = ears.open(from, bytes)?;
                opened.skip(|check| known.contains(&check.name()));
                let fresh: Vec<Digest> = opened.checks().iter().map(Check::name).collect();
                let heard = ears
                    .judge(vec![opened])
                    .pop()
                    .expect("one goes in, one comes out");
                if heard.is_ok() {
                    known.extend(fresh);
                }
                heard
            }
        }
    }

    /// What it says, unchecked.
    fn message(&self) -> Option<Message> {
        match &self.content {
            Content::Message(message) => Some(message.clone()),
            Content::Bytes(bytes) => codec::decode(bytes, codec::ENCODED_BYTES_MAX).ok(),
        }
    }

    /// Whom a refused frame convicts.
    fn convict(&self, ears: &Ears, refused: &HearError) -> Option<Fault> {
        match &self.content {
            Content::Bytes(bytes) => ears.convict(bytes, refused),
            Content::Message(message) => ears.convict_message(message.clone()),
        }
    }
}

impl World {
    /// A member sends a message.
    pub(super) fn send(&mut self, from: usize, to: To<MemberId>, message: Message) {
        if !self.oracle.is_faulty(from) {
            self.judge_voice(from, &message);
            let members = self.members.iter().enumerate();
            let others = members.filter(|(member, _)| *member != from);
            let speaker = Speaker {
                member: from,
                seat: self.view_at(from).seat_of(&self.members[from].id),
                is_rolled: self.oracle.may_lapse(from),
                others_forgot: others.map(|(_, member)| member.forgot).sum(),
            };
            if let Some(what) = self.promises.note(&speaker, &message) {
                self.oracle.breaks("contradiction", what);
            }
        }
        if let Message::Persist(Vote { ballot, .. }) = &message
            && !self.oracle.is_faulty(from)
            && !self.members[from].disk.holds(ballot.height, &ballot.digest)
        {
            let what = format!("member {from} signs PERSIST of {} too early", ballot.height);
            self.oracle.breaks("durability", what);
        }
        if let Message::Order(fsm::Message::Vote(Vote { ballot, .. })) = &message
            && ballot.kind == Kind::Accept
        {
            self.on_lock(from, ballot);
        }
        self.send_plain(from, to, message);
    }

    /// A message leaves of which nothing is to be judged.
    pub(super) fn send_plain(&mut self, from: usize, to: To<MemberId>, message: Message) {
        let (lane, length) = (message.lane(), length(&message));
        self.note(3, from, summary(&message));
        let content = if self.ground.setting.is_complete {
            Content::Bytes(message.to_bytes())
        } else {
            Content::Message(message)
        };
        self.post(from, to, lane, length, content);
    }

    /// A villain sends bytes.
    pub(super) fn send_bytes(&mut self, from: usize, to: To<MemberId>, lane: Lane, bytes: Bytes) {
        let length = bytes.len();
        self.note(8, from, [length as u64, 0]);
        self.post(from, to, lane, length, Content::Bytes(bytes));
    }

    fn post(&mut self, from: usize, to: To<MemberId>, lane: Lane, length: usize, content: Content) {
        let heard = OnceCell::new();
        let frame = Frame {
            from,
            content,
            length,
            heard,
        };
        let frame = Rc::new(frame);
        let by_id = |member: &MemberId| self.ground.by_id.get(member).copied();
        let receivers: Vec<usize> = match to {
            To::One(member) => by_id(&member).into_iter().collect(),
            To::Committee => {
                let seats = self.view_at(from).seats().iter();
                seats.filter_map(|seat| by_id(&seat.member)).collect()
            }
            To::Members => (0..self.crowd.present).collect(),
        };
        for receiver in receivers.into_iter().filter(|receiver| *receiver != from) {
            let copies = self.net.send(self.now, (from, receiver), lane, length);
            let life = self.members[receiver].life;
            for at in copies.into_iter().flatten() {
                let frame = Rc::clone(&frame);
                self.later(at - self.now, Happening::Frame(receiver, life, frame));
            }
        }
    }

    /// A frame arrives; what only a villain sends is dropped, as `node` drops it.
    pub(super) fn arrive(&mut self, to: usize, life: u64, frame: &Frame) {
        let member = &self.members[to];
        if member.quest.is_some() && member.life == life {
            let from = self.members[frame.from].id;
            if let Some(message) = frame.message() {
                self.quest_hear(to, from, message);
            }
            return;
        }
        if self.alive(to, life).is_none() {
            return;
        }
        let sender = frame.from;
        let from = self.members[sender].id;
        let running = self.members[to].running.as_ref();
        let view = running.map_or(ViewId(0), |running| running.replica.view().id());
        let ears = &self.ground.ears[&view];
        match frame.hear(ears, &from, &mut self.known) {
            Ok(message) if self.is_ambushed(sender, to, &message) => self.net.lost += 1,
            Ok(message) => {
                self.note(4, to, [sender as u64, frame.length as u64]);
                if let Heard::Shorter(height) = message {
                    self.hear_hint(sender, to, height);
                }
                self.input(to, Input::Message { from, message });
            }
            Err(HearError::OtherView { got }) => {
                self.input(to, Input::Command(Command::Elsewhere(from, got)));
            }
            Err(error) if error.is_innocent() => self.count("frames of other views"),
            Err(error) if self.oracle.is_faulty(sender) => {
                let convicted = frame.convict(ears, &error);
                self.count("refused frames");
                if let Some(fault) = convicted {
                    self.input(to, Input::Command(Command::Accuse(fault)));
                }
            }
            Err(error) => {
                let what = format!("member {sender} says: {error}");
                self.oracle.breaks("faultless", what);
            }
        }
    }
}

/// Bytes that a link takes a message to have; near enough for bandwidth.
fn length(message: &Message) -> usize {
    let bytes = match message {
        Message::Batch(bytes) | Message::Overlay(bytes) | Message::Engine(bytes) => bytes.len(),
        Message::Extent(extent) => extent.blocks.len() * 2 * VOTE_BYTES,
        Message::Order(order) => match order {
            fsm::Message::Propose(_, payload)
            | fsm::Message::Decision(_, payload)
            | fsm::Message::Payload(_, payload) => payload.bytes.len(),
            fsm::Message::StopData(_, proofs) => proofs.len() * VOTE_BYTES,
            fsm::Message::Sync(sync) => (sync.set.len() + sync.proofs.len()) * VOTE_BYTES,
            fsm::Message::Vote(_) | fsm::Message::Stop(_) | fsm::Message::Fetch(..) => 0,
            fsm::Message::Recall(fsm::Recall::Held(_, held)) => held.votes.len() * VOTE_BYTES,
            fsm::Message::Status(_) | fsm::Message::Recall(fsm::Recall::Ask(_)) => 0,
        },
        Message::Held(digests) | Message::Fetch(digests) => digests.len() * 32,
        Message::Persist(_) | Message::Request(_) | Message::Certificate(_) => 0,
        Message::Key(_) | Message::Beacon(..) => VOTE_BYTES,
        Message::Vacant(_) => 0,
        Message::Snapshot(_) => VOTE_BYTES,
        Message::Bootstrap(message) => codec::encode(message).len(),
        Message::Pruned(_) | Message::Shorter(_) => 0,
    };
    VOTE_BYTES + bytes
}

/// What the audit keeps of a message: what it is, and of what.
fn summary(message: &Message) -> [u64; 2] {
    let length = length(message) as u64;
    match message {
        Message::Order(order) => match order {
            fsm::Message::Propose(vote, _) | fsm::Message::Vote(vote) => of_vote(vote),
            fsm::Message::Stop(stop) => [1, stop.regency.0],
            fsm::Message::StopData(data, _) => [2, data.regency.0 << 32 | data.base.0],
            fsm::Message::Sync(sync) => [3, sync.regency.0],
            fsm::Message::Decision(proof, _) => [4, brief(&proof.ballot.digest)],
            fsm::Message::Fetch(height, digest) => [height.0 ^ 5, brief(digest)],
            fsm::Message::Payload(_, payload) => [6, brief(&payload.digest)],
            fsm::Message::Status(status) => [7, status.decided.0 << 32 | status.certified.0],
            fsm::Message::Recall(fsm::Recall::Ask(number)) => [13, *number],
            fsm::Message::Recall(fsm::Recall::Held(number, held)) => {
                [14 + held.votes.len() as u64, *number]
            }
        },
        Message::Persist(vote) => of_vote(vote),
        Message::Certificate(certificate) => [8, brief(&certificate.ballot.digest)],
        Message::Extent(extent) => [9, brief(&extent.certificate.ballot.digest)],
        Message::Held(digests) | Message::Fetch(digests) => [10, digests.first().map_or(0, brief)],
        Message::Request(height) => [11, height.0],
        Message::Batch(_) | Message::Overlay(_) | Message::Engine(_) => [12, length],
        Message::Key(key) => [16, brief(&key.proof.key.0)],
        Message::Beacon(freeze, _) => [17, brief(freeze)],
        Message::Vacant(view) => [18, view.0],
        Message::Snapshot(vote) => [19, vote.taken.height.0],
        Message::Bootstrap(_) => [20, length],
        Message::Pruned(first) => [21, first.0],
        Message::Shorter(height) => [22, height.0],
    }
}

fn of_vote(vote: &Vote) -> [u64; 2] {
    let ballot = &vote.ballot;
    let place = ballot.height.0 << 16 | ballot.regency.0 << 4 | ballot.kind as u64;
    [place, brief(&ballot.digest)]
}
