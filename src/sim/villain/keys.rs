//! Villains of the hand-over: keys that never come, come late, or differ; votes of other views and
//! chains; control bodies that nobody asked for.
//!
//! Source: settled rules of views; SmartChain, forgotten keys. In: their member's keys, votes and
//! proposals. Out: others that they could have signed, or none.
//! Holds: keys are the member's own and proved; a body passes every check of its bytes.
//! Elsewhere: which keys count (`fsm::view`), which bodies have an effect (`consortium::ledger`).

use std::collections::{BTreeMap, VecDeque};

use super::den::{Den, Vice, as_message, receivers, say, vote_of};
use super::{Stage, Villain};
use crate::blocks::body::{Assemble, Reconfiguration};
use crate::blocks::{Body, Call, NextKey, Proposal};
use crate::committee::{Height, KeyProof, Kind, MemberId, Regency, View, ViewId, Voter};
use crate::consortium::Message;
use crate::fsm;
use crate::machine::{Span, To};
use crate::sim::dice::Dice;
use crate::sim::member::Leaving;

/// Messages of earlier views that are remembered, at most.
const REMEMBERED_MAX: usize = 128;
/// Proposals that are remembered, at most.
const PROPOSALS_MAX: usize = 64;

/// What a member does with its key for the next view.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trick {
    /// It gives none.
    Mute,
    /// It gives two, another one to every second member.
    Two,
    /// It gives it late, mostly when the countdown is over or another assemble block took its
    /// place.
    Late,
}

/// Does wrong with keys alone, with a seat and without.
pub(super) struct KeyHolder {
    trick: Trick,
    dice: Dice,
}

impl KeyHolder {
    pub(super) fn new(trick: Trick, dice: Dice) -> Self {
        Self { trick, dice }
    }

    /// Another key for the same call, with proofs that hold.
    fn second(stage: &Stage<'_>, key: &NextKey) -> NextKey {
        let chain = stage.ground.genesis.chain();
        let Call { next, assemble } = key.call;
        let secret = stage.ground.setting.key_for((usize::MAX, 0), &key.call);
        NextKey {
            proof: KeyProof::make(&chain, next, &assemble, stage.identity, &secret),
            ..*key
        }
    }

    fn give(&mut self, stage: &Stage<'_>, to: To<MemberId>, key: &NextKey) -> Vec<Leaving> {
        match self.trick {
            Trick::Mute => Vec::new(),
            Trick::Late => {
                let after = Span(self.dice.within(500_000, 30_000_000));
                let said = Leaving::Send(to, Message::Key(Box::new(*key)));
                vec![Leaving::Later(after, Box::new(said))]
            }
            Trick::Two => {
                let Some(view) = stage.view else {
                    return Vec::new();
                };
                let second = Self::second(stage, key);
                let mut said = Vec::new();
                for (turn, other) in receivers(view, stage.me, to).into_iter().enumerate() {
                    let (first, last) = match turn % 2 {
                        0 => (*key, second),
                        _ => (second, *key),
                    };
                    said.push(say(other, Message::Key(Box::new(first))));
                    if self.dice.chance(300) {
                        said.push(say(other, Message::Key(Box::new(last))));
                    }
                }
                said
            }
        }
    }
}

impl Villain for KeyHolder {
    fn twist(&mut self, stage: &Stage<'_>, leaving: Vec<Leaving>) -> Vec<Leaving> {
        let mut left = Vec::new();
        for what in leaving {
            match what {
                Leaving::Send(to, Message::Key(key)) => left.extend(self.give(stage, to, &key)),
                other => left.push(other),
            }
        }
        left
    }
}

/// Orders everything but control bodies, and gives no key: its member does not know of them.
pub(super) struct Dodger;

impl Villain for Dodger {
    fn twist(&mut self, _: &Stage<'_>, leaving: Vec<Leaving>) -> Vec<Leaving> {
        leaving
    }
}

/// Says again what was said in earlier views, as it was or under the present view's name, and votes
/// under another chain's name.
#[derive(Default)]
pub(super) struct Exhumer {
    remembered: VecDeque<(ViewId, Message)>,
}

impl Exhumer {
    fn remember(&mut self, view: ViewId, message: &Message) {
        let is_kept = vote_of(message).is_some()
            || matches!(
                message,
                Message::Key(_)
                    | Message::Certificate(_)
                    | Message::Order(fsm::Message::StopData(..) | fsm::Message::Decision(..))
            );
        if is_kept {
            self.remembered.push_back((view, message.clone()));
        }
        while self.remembered.len() > REMEMBERED_MAX {
            self.remembered.pop_front();
        }
    }

    fn old(&self, den: &mut Den<'_>) -> Option<Message> {
        let present = den.view.id();
        let old = self.remembered.iter().filter(|(view, _)| *view < present);
        let old: Vec<&Message> = old.map(|(_, message)| message).collect();
        if old.is_empty() {
            return None;
        }
        let message = old[den.dice.index(old.len())].clone();
        let renamed = vote_of(&message).cloned().filter(|_| den.dice.chance(500));
        match renamed {
            Some(mut vote) => {
                vote.ballot.view = present;
                as_message(vote)
            }
            None => Some(message),
        }
    }

    /// A vote of ours for the same in another chain.
    fn foreign(den: &mut Den<'_>, message: &Message) -> Option<Message> {
        let vote = vote_of(message).filter(|vote| vote.ballot.kind == Kind::Persist)?;
        let (view, digest) = (den.view, den.digest());
        let elsewhere = View::new(view.id(), digest, view.seats().to_vec(), &digest).ok()?;
        let mut voter = Voter::new(&elsewhere, den.secret().clone())?;
        let ballot = &vote.ballot;
        let (_, vote) = voter.persist(ballot.height, ballot.digest).ok()?;
        as_message(vote.into_inner())
    }
}

impl Vice for Exhumer {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        self.remember(den.view.id(), message);
        let mut said = vec![say(to, message.clone())];
        if den.dice.chance(200) {
            said.extend(self.old(den).map(|message| say(to, message)));
        }
        if den.dice.chance(200) {
            said.extend(Self::foreign(den, message).map(|message| say(to, message)));
        }
        said
    }

    fn overhear(&mut self, den: &mut Den<'_>, message: &Message) -> Vec<Leaving> {
        self.remember(den.view.id(), message);
        Vec::new()
    }
}

/// Orders control bodies that have no effect: committees that nobody called, reconfigurations with
/// another list, or with keys for an earlier call.
#[derive(Default)]
pub(super) struct Usurper {
    /// What was made of each proposal, so that everybody is told the same.
    made: BTreeMap<(ViewId, Height, Regency), Option<Message>>,
    /// Keys that were heard, by call and member.
    keys: BTreeMap<Call, BTreeMap<MemberId, KeyProof>>,
    /// The last true reconfiguration.
    last: Option<Reconfiguration>,
}

impl Usurper {
    /// A reconfiguration that answers an earlier call of this view, where enough keys are known.
    fn stale(&self, body: &Reconfiguration) -> Option<Reconfiguration> {
        let earlier = self
            .keys
            .iter()
            .filter(|(call, _)| call.next == body.next && call.assemble != body.assemble.1);
        let mut bodies = earlier.map(|(call, keys)| {
            let mut stale = body.clone();
            stale.assemble.1 = call.assemble;
            for seat in &mut stale.seats {
                seat.fresh = keys.get(&seat.member).copied();
            }
            stale
        });
        bodies.next_back()
    }

    fn body(&mut self, den: &mut Den<'_>, body: &Body) -> Option<Body> {
        if let Body::Reconfiguration(body) = body {
            self.last = Some(body.clone());
            if let Some(stale) = self.stale(body) {
                return Some(Body::Reconfiguration(stale));
            }
            if den.dice.chance(700) {
                // Until another call takes the place of this one.
                return Some(Body::Transactions(Vec::new()));
            }
        }
        let last = self.last.clone();
        let last = last.filter(|last| last.next == den.view.id().next());
        if let Some(mut other) = last.filter(|_| den.dice.chance(500)) {
            // As if it had been heavier, or elsewhere, when the list was fixed.
            let index = den.dice.index(other.members.len());
            other.members[index].weight += 1;
            return Some(Body::Reconfiguration(other));
        }
        if !den.dice.chance(150) {
            return None;
        }
        let mut committee = den.others();
        let count = den.dice.within(1, committee.len() as u64);
        committee.truncate(usize::try_from(count).unwrap_or(1));
        Some(Body::Assemble(Assemble {
            next: den.view.id().next(),
            beacon: None,
            seed: den.digest(),
            committee,
        }))
    }

    fn usurp(
        &mut self,
        den: &mut Den<'_>,
        vote: &crate::committee::Vote,
        bytes: &[u8],
    ) -> Option<Message> {
        let mut proposal = Proposal::from_bytes(bytes).ok()?;
        proposal.body = self.body(den, &proposal.body)?;
        let payload = fsm::Payload {
            digest: proposal.digest(),
            bytes: proposal.to_bytes(),
        };
        let (regency, height) = (vote.ballot.regency, vote.ballot.height);
        let vote = den.vote(Kind::Propose, regency, height, payload.digest);
        Some(Message::Order(fsm::Message::Propose(vote, payload)))
    }
}

impl Vice for Usurper {
    fn twist(&mut self, den: &mut Den<'_>, to: MemberId, message: &Message) -> Vec<Leaving> {
        self.overhear(den, message);
        let Message::Order(fsm::Message::Propose(vote, payload)) = message else {
            return vec![say(to, message.clone())];
        };
        let ballot = &vote.ballot;
        let place = (ballot.view, ballot.height, ballot.regency);
        if !self.made.contains_key(&place) {
            let made = self.usurp(den, vote, &payload.bytes);
            self.made.insert(place, made);
            while self.made.len() > PROPOSALS_MAX {
                self.made.pop_first();
            }
        }
        let made = self.made.get(&place).cloned().flatten();
        vec![say(to, made.unwrap_or_else(|| message.clone()))]
    }

    fn overhear(&mut self, _: &mut Den<'_>, message: &Message) -> Vec<Leaving> {
        if let Message::Key(key) = message {
            let keys = self.keys.entry(key.call).or_default();
            keys.insert(key.member(), key.proof);
            while self.keys.len() > PROPOSALS_MAX {
                self.keys.pop_first();
            }
        }
        Vec::new()
    }
}
