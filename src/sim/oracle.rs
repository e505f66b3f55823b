//! What must hold in every simulated world, checked as things happen.
//!
//! Source: the list of what must always hold in `ARCHITECTURE.md`. In: events of every member. Out:
//! violations. Holds: the model of exactly-once is naive on purpose: it remembers everything.
//! Elsewhere: what is admitted and when it must have committed (`clients`, `world`).

use std::collections::{BTreeMap, BTreeSet};

use crate::blocks::body::{Listed, Reconfiguration};
use crate::blocks::{Body, Parameters};
use crate::committee::{Certificate, Height, MemberId, View, ViewId};
use crate::consortium::ledger::Effect;
use crate::consortium::{Answer, Applied, Executed, Verdict};
use crate::crypto::{Digest, PublicKey, Verifier};

/// Violations that are kept; the first says most.
const VIOLATIONS_MAX: usize = 16;

/// Of so many heights the signatures of one certificate are checked again.
const SAMPLE: u64 = 4;

/// Seats that make a quorum of `n`.
pub(super) fn quorum(n: usize) -> usize {
    (n + faulty_max(n)) / 2 + 1
}

/// Seats of `n` that may be faulty.
pub(super) fn faulty_max(n: usize) -> usize {
    (n - 1) / 3
}

/// The name of a transaction.
pub(super) type Name = (PublicKey, u64);

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) oracle: &'static str,
    pub(super) what: String,
}

/// One block as the first member applied it.
#[derive(Debug)]
struct Canonical {
    digest: Digest,
    names: Vec<Name>,
}

/// A committee that was named, and the list as it stood then.
#[derive(Debug)]
struct Named {
    at: (Height, Digest),
    committee: Vec<MemberId>,
    listed: Vec<Listed>,
}

/// The judge of a world.
pub(super) struct Oracle {
    /// Every view that somebody entered.
    views: BTreeMap<ViewId, View>,
    /// The newest committee that was named in each.
    named: BTreeMap<ViewId, Named>,
    verifier: Verifier,
    parameters: Parameters,
    /// Which members are villains: of them nothing is believed and nothing expected.
    faulty: Vec<bool>,
    /// Members whose disk was damaged or rolled back; at most f.
    rolled: BTreeSet<usize>,
    /// Blocks from height 1 on.
    chain: Vec<Canonical>,
    /// Everything that ever executed.
    executed: BTreeMap<Name, Executed>,
    /// Names that were answered in some block, whatever the verdict.
    answered: BTreeMap<Name, Height>,
    receipts: u64,
    /// Where each member stands in this life.
    applied: Vec<Height>,
    /// What each member said that it applied, in any life.
    kept: Vec<Height>,
    /// What members were told is ordered before anybody applied it.
    ordered: BTreeMap<Height, Vec<Name>>,
    /// The highest certificate that any member holds durably.
    pub(super) certified: Height,
    pub(super) broken: Vec<Broken>,
}

impl Oracle {
    pub(super) fn new(
        view: View,
        verifier: Verifier,
        parameters: Parameters,
        faulty: Vec<bool>,
    ) -> Self {
        let members = faulty.len();
        Self {
            faulty,
            rolled: BTreeSet::new(),
            views: BTreeMap::from([(view.id(), view)]),
            named: BTreeMap::new(),
            verifier,
            parameters,
            chain: Vec::new(),
            executed: BTreeMap::new(),
            answered: BTreeMap::new(),
            receipts: 0,
            applied: vec![Height(0); members],
            kept: vec![Height(0); members],
            ordered: BTreeMap::new(),
            certified: Height(0),
            broken: Vec::new(),
        }
    }

    /// A view was entered for the first time.
    pub(super) fn view(&mut self, view: View) {
        self.views.insert(view.id(), view);
    }

    pub(super) fn view_of(&self, id: ViewId) -> Option<&View> {
        self.views.get(&id)
    }

    pub(super) fn newest_view(&self) -> Option<&View> {
        self.views.values().next_back()
    }

    /// Whether a reconfiguration answers the newest committee that was named in its view, with the
    /// list as it stood then.
    pub(super) fn judge_answer(&self, view: ViewId, body: &Reconfiguration) -> Result<(), String> {
        let named = self.named.get(&view).ok_or("no committee was named")?;
        let seats = body.seats.iter().map(|seat| &seat.member);
        if body.assemble != named.at || !seats.eq(&named.committee) {
            return Err(format!("it does not answer the newest, {:?}", named.at));
        }
        match body.members == named.listed {
            true => Ok(()),
            false => Err("it lists others than were listed".into()),
        }
    }

    /// A block that is new: it may name a committee.
    fn name(&mut self, applied: &Applied) {
        let is_named = applied.effect == Some(Effect::Assembled);
        let Body::Assemble(body) = &applied.block.body else {
            return;
        };
        let header = &applied.block.header;
        let frozen = applied
            .register
            .as_ref()
            .and_then(|register| register.frozen());
        if let Some(frozen) = frozen.filter(|_| is_named) {
            let named = Named {
                at: (header.height, applied.digest),
                committee: body.committee.clone(),
                listed: frozen.listed.clone(),
            };
            self.named.insert(header.view, named);
        }
    }

    /// Blocks that were applied by somebody.
    pub(super) fn height(&self) -> Height {
        Height(self.chain.len() as u64)
    }

    pub(super) fn is_faulty(&self, member: usize) -> bool {
        self.faulty[member]
    }

    /// A member's disk is damaged, lost or rolled back: it may have lost blocks.
    pub(super) fn spare(&mut self, member: usize) {
        self.rolled.insert(member);
        self.kept[member] = Height(0);
    }

    /// A member whose disk was lost has a seat with a fresh key.
    pub(super) fn forgive(&mut self, member: usize) {
        self.rolled.remove(&member);
    }

    /// Whether a member may find that its log was rolled back.
    pub(super) fn may_lapse(&self, member: usize) -> bool {
        self.faulty[member] || self.rolled.contains(&member)
    }

    pub(super) fn is_answered(&self, name: &Name) -> bool {
        self.answered.contains_key(name)
    }

    pub(super) fn breaks(&mut self, oracle: &'static str, what: String) {
        if self.broken.len() < VIOLATIONS_MAX {
            self.broken.push(Broken { oracle, what });
        }
    }

    /// A member starts from tables at `from`, with the blocks of its log above that: some may be
    /// news to all of us.
    pub(super) fn started(&mut self, member: usize, from: Height, blocks: &[Applied]) {
        if self.faulty[member] {
            return;
        }
        self.applied[member] = from;
        blocks.iter().for_each(|block| self.applied(member, block));
        if self.applied[member] < self.kept[member] {
            self.breaks("durability", format!("member {member} lost blocks"));
        }
    }

    fn block(&self, height: Height) -> Option<&Canonical> {
        let index = usize::try_from(height.0.checked_sub(1)?).ok()?;
        self.chain.get(index)
    }

    /// Whether the chain has this block.
    pub(super) fn is_block(&self, height: Height, digest: &Digest) -> bool {
        self.block(height)
            .is_some_and(|block| block.digest == *digest)
    }

    /// A member applied a block.
    pub(super) fn applied(&mut self, member: usize, applied: &Applied) {
        if self.faulty[member] {
            return;
        }
        let height = applied.block.header.height;
        if height != self.applied[member].next() {
            let last = self.applied[member];
            self.breaks(
                "order",
                format!("member {member} applies {height} after {last}"),
            );
        }
        self.applied[member] = height;
        self.kept[member] = self.kept[member].max(height);
        let names = applied
            .answers
            .iter()
            .map(|a| (a.client, a.sequence))
            .collect();
        let canonical = Canonical {
            digest: applied.digest,
            names,
        };
        match self.block(height) {
            Some(first) if first.digest == canonical.digest => {}
            Some(_) => self.breaks("agreement", format!("member {member} differs at {height}")),
            None if height == self.height().next() => {
                self.judge(applied);
                self.name(applied);
                if let Some(names) = self.ordered.remove(&height)
                    && names != canonical.names
                {
                    self.breaks(
                        "promise",
                        format!("{height} holds other names than ordered"),
                    );
                }
                self.chain.push(canonical);
            }
            None => self.breaks(
                "order",
                format!("member {member} applies {height} too early"),
            ),
        }
    }

    /// The naive model of exactly-once over a block that is new to it.
    fn judge(&mut self, applied: &Applied) {
        let height = applied.block.header.height;
        for answer in &applied.answers {
            if let Err(why) = self.judge_one(height, answer) {
                let Answer { sequence, .. } = answer;
                self.breaks(
                    "exactly-once",
                    format!("{height}, sequence {sequence}: {why}"),
                );
            }
            self.answered
                .insert((answer.client, answer.sequence), height);
        }
        for receipt in &applied.receipts {
            if receipt.sequence != self.receipts || receipt.height != height.0 {
                let at = receipt.sequence;
                self.breaks("receipts", format!("receipt {at} at {height} leaves a gap"));
            }
            self.receipts = receipt.sequence + 1;
        }
        if applied.block.header.receipts.size != self.receipts {
            self.breaks("receipts", format!("the header of {height} counts others"));
        }
    }

    fn judge_one(&mut self, height: Height, answer: &Answer) -> Result<(), &'static str> {
        let name = (answer.client, answer.sequence);
        let most = height.plus(self.parameters.expiry_blocks_max.into());
        let before = self.executed.get(&name);
        match &answer.verdict {
            Verdict::Executed(executed) => {
                if before.is_some() {
                    return Err("it executed twice");
                }
                if executed.expiry < height || executed.expiry > most {
                    return Err("it executed outside its expiry");
                }
                if executed.height != height {
                    return Err("it executed elsewhere");
                }
                self.executed.insert(name, executed.clone());
                Ok(())
            }
            Verdict::Repeated(executed) => match before {
                Some(first) if is_same(first, executed) => Ok(()),
                Some(_) => Err("a repeat got another answer"),
                None => Err("a repeat of what never executed"),
            },
            Verdict::Conflict if before.is_none() => Err("a conflict with nothing"),
            Verdict::NotListed => Err("anybody may submit"),
            Verdict::Conflict | Verdict::Expired | Verdict::Busy => Ok(()),
        }
    }

    /// A member says that a height is ordered.
    pub(super) fn ordered(&mut self, member: usize, height: Height, names: Vec<Name>) {
        if self.faulty[member] {
            return;
        }
        let known = self.block(height).map(|block| &block.names);
        let told = known.or_else(|| self.ordered.get(&height));
        match told {
            Some(told) if *told == names => {}
            Some(_) => self.breaks(
                "promise",
                format!("member {member} orders another {height}"),
            ),
            None => drop(self.ordered.insert(height, names)),
        }
    }

    /// A height that was told ordered and that nobody has applied.
    pub(super) fn open_promise(&self) -> Option<Height> {
        self.ordered.keys().next().copied()
    }

    /// The world ends: whatever was told ordered was applied.
    pub(super) fn end(&mut self) {
        if let Some(height) = self.open_promise() {
            let last = self.height();
            let what = format!("{height} was told ordered, and the chain ends at {last}");
            self.breaks("promise", what);
        }
    }

    /// A member holds a block certificate.
    pub(super) fn certified(&mut self, member: usize, certificate: &Certificate) {
        if self.faulty[member] {
            return;
        }
        let ballot = certificate.ballot;
        let height = ballot.height;
        let is_sample = height.0.is_multiple_of(SAMPLE);
        let Some(view) = self.views.get(&ballot.view) else {
            let what = format!("member {member}: {height} of a view that nobody entered");
            return self.breaks("certificate", what);
        };
        // As the paper counts it: the code under test is not asked.
        let quorum = quorum(view.seats().len());
        let is_good = |certificate: Certificate| certificate.verify(view, &self.verifier).is_ok();
        if is_sample && !is_good(certificate.clone()) {
            self.breaks(
                "certificate",
                format!("member {member} holds a bad one of {height}"),
            );
        }
        if certificate.signers.iter().count() < quorum {
            self.breaks("certificate", format!("too few signed {height}"));
        }
        match self.block(height) {
            Some(block) if block.digest == ballot.digest => {}
            _ => self.breaks("certificate", format!("member {member}: another {height}")),
        }
        self.certified = self.certified.max(height);
    }
}

/// Whether a repeat's answer is the first one, as far as it is remembered.
fn is_same(first: &Executed, repeat: &Executed) -> bool {
    first.sequence == repeat.sequence
        && first.height == repeat.height
        && first.index == repeat.index
        && first.operation == repeat.operation
        && first.outcome.code == repeat.outcome.code
        && first.outcome_digest == repeat.outcome_digest
}
