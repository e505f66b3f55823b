//! Operators: they vote, submit what members ask for, and bring wiped members back.
//!
//! Source: `docs/cli.md`, member and rejoin. In: the census, chance. Out: signed transactions at
//! members that run, disks that are wiped.
//! Holds: only who has a vote is asked for one; an act that could leave some committee with more
//! than f suspects is not begun.
//! Elsewhere: what may be begun (`census`), what transactions do (`membership::register`).

use super::census::{Act, Set, bit};
use super::clients;
use super::dice::Dice;
use super::member::Fate;
use super::oracle::faulty_max;
use super::queue::Happening;
use super::world::World;
use crate::blocks::{Transaction, ViewRules};
use crate::committee::{KeyProof, MemberId, ViewId};
use crate::crypto::{Digest, PublicKey};
use crate::membership::register::{Motion, Operation, Request, Status};

/// How often operators look, in microseconds.
const LOOK_US: u64 = 1_000_000;
/// How long they wait for the effect of what they submitted.
const AGAIN_US: u64 = 6_000_000;
/// Between acts lies at most so much.
const PAUSE_US_MAX: u64 = 20_000_000;
/// Members in one burst of acts, at most.
const BURST_MAX: u64 = 3;

impl World {
    /// Members that may be faulty now.
    pub(super) fn suspects(&self) -> Set {
        let all = 0..self.members.len();
        let lapsed = all.filter(|index| self.oracle.may_lapse(*index));
        lapsed.fold(0, |set, index| set | bit(index))
    }

    /// Whether one member more may be faulty.
    pub(super) fn bears(&self, more: Set, act: Option<&Act>) -> bool {
        let suspects = self.suspects() | more;
        match self.has_census {
            true => self.census.bears(suspects, self.oracle.certified, act),
            false => {
                let most = self.ground.options.bearable();
                suspects.count_ones() as usize <= most
            }
        }
    }

    /// A member's disk is damaged, lost or rolled back; refused where that would be one too many.
    pub(super) fn spare(&mut self, index: usize) -> bool {
        let is_villain = self.oracle.is_faulty(index);
        let bears = self.oracle.may_lapse(index) || self.bears(bit(index), None);
        if is_villain || !bears {
            return false;
        }
        self.oracle.spare(index);
        if let Some(view) = self.oracle.newest_view().cloned() {
            self.judge_quorums(&view);
        }
        true
    }

    /// Operators look at the chain, do what is to be done, and look again later.
    pub(super) fn look_round(&mut self) {
        if self.is_calm {
            return;
        }
        let mut dice = self.census.dice.clone();
        self.close_acts();
        if self.census.left > 0 && self.now >= self.next_act {
            self.begin_acts(&mut dice);
            self.next_act = self.now + dice.within(PAUSE_US_MAX / 10, PAUSE_US_MAX);
        }
        self.pursue_acts(&mut dice);
        self.later(dice.within(LOOK_US / 2, LOOK_US * 3 / 2), Happening::Census);
        self.census.dice = dice;
    }

    fn close_acts(&mut self) {
        let open = std::mem::take(&mut self.census.open);
        let (done, open) = open.into_iter().partition(|open| self.is_done(&open.act));
        self.census.open = open;
        let done: Vec<super::census::Open> = done;
        done.iter().for_each(|_| self.count("acts of members"));
    }

    fn status(&self, index: usize) -> Option<Status> {
        let member = self.census.register.get(&self.members[index].id);
        member.map(|member| member.status)
    }

    fn has_vote(&self, index: usize) -> bool {
        self.status(index).is_some_and(Status::has_vote)
    }

    /// Whether the chain shows the effect.
    fn is_done(&self, act: &Act) -> bool {
        let register = &self.census.register;
        let member = |index: usize| register.get(&self.members[index].id);
        match act {
            Act::Join(who, _) => self.has_vote(*who),
            Act::Leave(who) | Act::Exclude(who) => !self.has_vote(*who),
            Act::Replace(old, new) => self.has_vote(*new) && !self.has_vote(*old),
            Act::Heir(_, new) => self.has_vote(*new),
            Act::Weight(who, weight) => member(*who).is_none_or(|m| m.weight == *weight),
            Act::Address(who, address) => member(*who).is_none_or(|m| m.address == *address),
            Act::Rules(rules) => register.rules() == rules,
            Act::Rejoin(who) => {
                let keys = &self.members[*who].keys;
                let mut held = keys.held().map(|secret| secret.public());
                let certified = member(*who).and_then(|m| m.consensus());
                held.any(|key| Some(key) == certified) || !self.has_vote(*who)
            }
        }
    }

    fn begin_acts(&mut self, dice: &mut Dice) {
        match dice.below(10) {
            0 | 1 => {
                for _ in 0..dice.within(2, BURST_MAX) {
                    let act = self.draw_act(dice);
                    self.begin_act(act, dice);
                }
            }
            // The leader goes while it leads.
            2 => self.begin_act(self.leader().map(Act::Exclude), dice),
            3 => self.begin_with_f(dice, Act::Exclude),
            4 => self.begin_with_f(dice, Act::Rejoin),
            _ => {
                let act = self.draw_act(dice);
                self.begin_act(act, dice);
            }
        }
    }

    /// The same with as many members as one view bears.
    fn begin_with_f(&mut self, dice: &mut Dice, act: fn(usize) -> Act) {
        let seats = self.census.seats();
        let count = faulty_max(seats.count_ones() as usize).max(1);
        for _ in 0..count {
            let free = seats & self.census.having(Status::has_vote) & !self.census.busy();
            let one = one_of(free, dice).map(act);
            self.begin_act(one, dice);
        }
    }

    fn draw_act(&self, dice: &mut Dice) -> Option<Act> {
        let census = &self.census;
        let listed = census.having(Status::has_vote) & !census.busy();
        let machines = (1 << (self.ground.options.members + self.ground.setting.newcomers)) - 1;
        let outside = machines & !census.known() & !census.busy();
        let admitted = |index: &usize| !self.members[*index].is_wiped;
        let (member, machine) = (one_of(listed, dice), one_of(outside, dice).filter(admitted));
        match dice.below(16) {
            0..=3 => Some(Act::Join(machine?, dice.chance(500))),
            4 => Some(Act::Leave(member?)),
            5 => Some(Act::Exclude(member?)),
            6 | 7 => Some(Act::Replace(member?, machine?)),
            8 | 9 => Some(Act::Heir(member?, machine?)),
            10 => Some(Act::Weight(member?, [0, 1, 2, 5][dice.index(4)])),
            11 => Some(Act::Address(
                member?,
                format!("host-{}:9000", dice.below(100)),
            )),
            12 => Some(Act::Rules(ViewRules {
                rotation_blocks: [0, 8, 12, 30][dice.index(4)],
                assemble_blocks: [8, 16, 32][dice.index(3)],
                ..*census.register.rules()
            })),
            // Who is lost already comes first.
            13 => Some(Act::Rejoin(member?)),
            _ => {
                let villains = (0..self.members.len()).filter(|i| self.oracle.is_faulty(*i));
                let villains = villains.fold(0, |set, index| set | bit(index));
                let lost = listed & self.suspects() & !villains;
                Some(Act::Rejoin(one_of(lost, dice).or(member)?))
            }
        }
    }

    /// Begins it, where every committee that may come of it bears who is faulty.
    fn begin_act(&mut self, act: Option<Act>, dice: &mut Dice) {
        let Some(act) = act.filter(|act| self.census.busy() & act.members() == 0) else {
            return;
        };
        let villain = |index: usize| self.oracle.is_faulty(index);
        let wiped = match act {
            Act::Rejoin(who) if villain(who) => return,
            Act::Rejoin(who) => bit(who),
            Act::Join(..) | Act::Leave(_) | Act::Exclude(_) | Act::Replace(..) => 0,
            Act::Heir(..) | Act::Weight(..) | Act::Address(..) | Act::Rules(_) => 0,
        };
        let is_new = !self.is_done(&act) || wiped != 0;
        if !is_new || !self.census.has_room() || !self.bears(wiped, Some(&act)) {
            return;
        }
        if let Act::Rejoin(who) = act {
            self.wipe(who, dice);
        }
        self.census.begin(act, self.now);
    }

    /// A member loses its disk and the keys on it, and starts again with a key for a new admission.
    fn wipe(&mut self, index: usize, dice: &mut Dice) {
        self.spare(index);
        self.count("wiped members");
        self.lose_power(index, dice);
        let key = self.ground.setting.admission_key(index, dice.next());
        let member = &mut self.members[index];
        member.disk.roll_back(0);
        member.keys.wipe(key);
        member.is_wiped = true;
        member.fate = Fate::Open;
        self.later(dice.within(10_000, 10_000_000), Happening::Start(index));
    }

    fn pursue_acts(&mut self, dice: &mut Dice) {
        let now = self.now;
        let is_due = |open: &super::census::Open| open.is_pursued(now) && now >= open.again;
        let due = self.census.open.iter_mut().filter(|open| is_due(open));
        let acts: Vec<Act> = due
            .map(|open| {
                open.again = now + AGAIN_US;
                open.act.clone()
            })
            .collect();
        for act in acts {
            self.pursue(&act, dice);
        }
    }

    fn pursue(&mut self, act: &Act, dice: &mut Dice) {
        match act {
            Act::Join(who, is_invited) => {
                let status = self.status(*who);
                if !*is_invited || status == Some(Status::Invited) {
                    self.ask(*who, dice);
                }
                if status.is_none() {
                    self.vote(&Motion::Invite(self.identity(*who)), dice);
                }
            }
            Act::Leave(who) => self.act(*who, &Operation::Leave, dice),
            Act::Exclude(who) => self.vote(&Motion::Exclude(self.members[*who].id), dice),
            Act::Replace(old, new) => {
                if self.status(*new) == Some(Status::Invited) {
                    self.ask(*new, dice);
                } else if self.status(*new).is_none() {
                    self.vote(
                        &Motion::Replace(self.members[*old].id, self.identity(*new)),
                        dice,
                    );
                }
            }
            Act::Heir(old, new) => {
                let heir = self.identity(*new);
                if let Some(proof) = self.admission(*new, dice) {
                    self.act(*old, &Operation::Identity(heir, proof), dice);
                }
            }
            Act::Weight(who, weight) => {
                self.vote(&Motion::Weight(self.members[*who].id, *weight), dice)
            }
            Act::Address(who, address) => {
                self.act(*who, &Operation::Address(address.clone()), dice);
            }
            Act::Rules(rules) => self.vote(&Motion::Rules(*rules), dice),
            Act::Rejoin(who) => {
                if let Some(proof) = self.admission(*who, dice) {
                    self.act(*who, &Operation::Rejoin(proof), dice);
                }
            }
        }
    }

    fn identity(&self, index: usize) -> PublicKey {
        self.members[index].identity.public()
    }

    /// A machine asks to be a member.
    fn ask(&mut self, index: usize, dice: &mut Dice) {
        if let Some(key) = self.admission(index, dice) {
            let request = Request {
                name: format!("machine-{index}"),
                address: format!("machine-{index}:9000"),
                tags: Vec::new(),
                key,
            };
            self.act(index, &Operation::Join(request), dice);
        }
    }

    /// The key that a machine brings to its admission; nothing while another one has a seat.
    fn admission(&mut self, index: usize, dice: &mut Dice) -> Option<KeyProof> {
        let chain = self.ground.genesis.chain();
        let setting = &self.ground.setting;
        let member = &mut self.members[index];
        let key = || setting.admission_key(index, dice.next());
        let key = member.keys.admission(key)?;
        let (view, zero) = (ViewId(0), Digest::ZERO);
        Some(KeyProof::make(&chain, view, &zero, &member.identity, &key))
    }

    /// Whoever has a vote and has not approved does so; villains as they please.
    fn vote(&mut self, motion: &Motion, dice: &mut Dice) {
        let voters = self.census.having(Status::has_vote);
        let ballot = motion.ballot();
        let approvals: Vec<MemberId> = {
            let register = &self.census.register;
            let mut open = register.ballots().filter(|(id, _)| **id == ballot);
            open.next()
                .map_or(Vec::new(), |(_, open)| register.approvals(open))
        };
        let operation = Operation::Move(motion.clone());
        for index in (0..self.members.len()).filter(|index| voters & bit(*index) != 0) {
            let refuses = self.oracle.is_faulty(index) && dice.chance(500);
            if !refuses && !approvals.contains(&self.members[index].id) {
                self.act(index, &operation, dice);
            }
        }
    }

    /// A member's operator submits an operation: at the member, or at another where it is down.
    fn act(&mut self, index: usize, operation: &Operation, dice: &mut Dice) {
        let ahead = u64::from(self.ground.genesis.parameters.expiry_blocks_max);
        let transaction = Transaction {
            sequence: dice.next(),
            expiry: self.census.height.plus(ahead / 2),
            operation: operation.to_bytes().into(),
        };
        let chain = self.ground.genesis.chain();
        let identity = &self.members[index].identity;
        let submission = clients::signed(&chain, identity, vec![transaction]);
        let is_up = |door: &usize| self.members[*door].running.is_some();
        let others = (0..self.members.len()).filter(|door| !self.oracle.is_faulty(*door));
        let others = others.filter(is_up).fold(0, |set, door| set | bit(door));
        let door = Some(index).filter(is_up).or_else(|| one_of(others, dice));
        if let Some(door) = door {
            let life = self.members[door].life;
            let after = dice.within(1, 200_000);
            self.later(after, Happening::Submit(door, life, submission));
        }
    }
}

fn one_of(set: Set, dice: &mut Dice) -> Option<usize> {
    let indices: Vec<usize> = (0..128).filter(|index| set & bit(*index) != 0).collect();
    (!indices.is_empty()).then(|| indices[dice.index(indices.len())])
}
