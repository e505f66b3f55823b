//! The ledger: everything that follows from the decided prefix.
//!
//! Source: design of headers, receipts and exactly-once execution. In: decided bodies with their
//! groups, in height order, and the application's results. Out: what executes, then the header,
//! the receipts and an answer per transaction.
//! Holds: operations of the ledger itself never reach the application, whose members' register they
//! change; heights follow each other without a gap; while a (client, sequence) is remembered it
//! never executes again; state changes only in [`Ledger::finish`]; two members that applied the
//! same prefix have the same [`Ledger::digest`].
//! Elsewhere: what an operation does (`application`), where entries are kept (`storage`), which
//! bodies are decided (`fsm`).

pub(super) mod digest;
mod judge;
mod memory;
mod parts;
mod snapshots;
mod views;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use self::judge::{Fate, Fresh, Judgement, judge};
use self::memory::Memory;
pub use self::parts::{Parts, RestoreError};
pub use self::snapshots::{Base, Snapshots};
pub use self::views::{Announced, Due, Effect, Views};
use super::OUTCOME_BYTES_MAX;
use super::contract::{Answer, Applied, Denied, Execute, Executed, Execution, Outcome, Verdict};
use super::message::Block;
use crate::blocks::receipts::{Receipt, outcome_digest};
use crate::blocks::{
    Body, FORMAT_VERSION, Genesis, Group, Header, Link, Parameters, ReceiptRoot, Transaction,
};
use crate::committee::{Height, ViewId};
use crate::crypto::{Digest, PublicKey, Verifier};
use crate::membership::register::{self, Register, ThresholdKey};
use crate::plant::{self, Plant};

/// What names a transaction: its client and the client's sequence.
pub type Name = (PublicKey, u64);

/// The largest timestamp that a block gets by a proposal, so that there is always a later one.
pub const TIMESTAMP_US_MAX: u64 = i64::MAX as u64;

/// Whether the block at `height` is sealed, that is, gets PERSIST votes and the application's root:
/// every k-th, every control block, and any whose proposal asks for it.
pub fn is_sealed(height: Height, body: &Body, is_asked: bool, parameters: &Parameters) -> bool {
    let every = u64::from(parameters.seal_every.max(1));
    is_asked || body.is_control() || height.0.is_multiple_of(every)
}

/// A decided body, with its batches resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Its height.
    pub height: Height,
    /// The view that ordered it.
    pub view: ViewId,
    /// The timestamp that its proposal names, in microseconds since the Unix epoch.
    pub proposed_us: u64,
    /// Whether its proposal asks for a seal.
    pub is_sealed: bool,
    /// What was ordered.
    pub body: Body,
    /// The groups of its batches, in order; none for a control body.
    pub groups: Vec<Group>,
}

impl Decided {
    /// A block of the archive to be applied again; its header stands for the proposal.
    ///
    /// A seal that the proposal asked for shows in the header as the application's root; where the
    /// application keeps none the header does not depend on it.
    pub fn replay(block: Block, groups: Vec<Group>) -> Self {
        Self {
            height: block.header.height,
            view: block.header.view,
            proposed_us: block.header.timestamp_us,
            is_sealed: block.header.state.is_some(),
            body: block.body,
            groups,
        }
    }
}

/// Why results do not finish a block. The application or its driver is at fault; nothing changed,
/// and the block under way is still under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FinishError {
    /// No block is under way, or another one.
    #[error("results for height {got}, under way is {want:?}")]
    Height {
        /// The height of the results.
        got: Height,
        /// The block under way.
        want: Option<Height>,
    },
    /// One outcome per operation is needed.
    #[error("{have} outcomes for {need} operations")]
    Outcomes {
        /// Outcomes given.
        have: usize,
        /// Operations that executed.
        need: usize,
    },
}

/// A block between [`Ledger::begin`] and [`Ledger::finish`].
#[derive(Clone, Debug)]
struct UnderWay {
    height: Height,
    view: ViewId,
    timestamp_us: u64,
    is_sealed: bool,
    body: Body,
    /// Bytes of its operations.
    bytes: u64,
    judgement: Judgement,
}

/// The state that follows from the decided prefix.
#[derive(Clone, Debug)]
pub struct Ledger {
    parameters: Parameters,
    verifier: Verifier,
    register: Arc<Register>,
    parts: Parts,
    tip_digest: Digest,
    memory: Memory,
    under_way: Option<UnderWay>,
    /// What the next block should have.
    due: Option<Due>,
    /// What the generation of the next committee's threshold key came to.
    made: Option<Arc<ThresholdKey>>,
    /// Names that a predecessor remembered; up to these heights they execute nothing.
    inherited: Arc<BTreeMap<Name, Height>>,
}

impl Ledger {
    /// The ledger of a new chain, at height 0.
    pub fn genesis(genesis: &Genesis) -> Self {
        let register = Register::genesis(genesis);
        Self::new(genesis, Parts::genesis(genesis), register)
    }

    fn new(genesis: &Genesis, parts: Parts, register: Register) -> Self {
        let mut ledger = Self {
            parameters: genesis.parameters.clone(),
            verifier: Verifier::ed25519(),
            register: Arc::new(register),
            tip_digest: parts.tip.digest(),
            parts,
            memory: Memory::default(),
            under_way: None,
            due: None,
            made: None,
            inherited: Arc::default(),
        };
        ledger.look_ahead();
        ledger
    }

    /// The same ledger, which checks the signatures in its own operations under `verifier`;
    /// ed25519 where nothing is said.
    pub fn with_verifier(mut self, verifier: Verifier) -> Self {
        self.verifier = verifier;
        self
    }

    /// The ledger that [`Ledger::parts`], [`Ledger::register`] and [`Ledger::entries`] were taken
    /// from, entries in any order; without a register, the one of genesis.
    ///
    /// Errors: [`RestoreError`] where they contradict each other.
    pub fn restore(
        genesis: &Genesis,
        parts: Parts,
        register: Option<Register>,
        entries: impl IntoIterator<Item = (Name, Executed)>,
    ) -> Result<Self, RestoreError> {
        let (got, want) = (parts.tip.chain, genesis.chain());
        if got != want {
            return Err(RestoreError::OtherChain { got, want });
        }
        let receipts = parts.tip.receipts;
        if parts.frontier.size() != receipts.size || parts.frontier.root() != receipts.root {
            return Err(RestoreError::Receipts {
                have: parts.frontier.size(),
                want: receipts.size,
            });
        }
        let register = register.unwrap_or_else(|| Register::genesis(genesis));
        let got = *register.chain();
        if got != want {
            return Err(RestoreError::OtherRegister { got, want });
        }
        let tip = parts.tip.height;
        let mut ledger = Self::new(genesis, parts, register);
        for (name, executed) in entries {
            let belongs = executed.height <= tip
                && executed.expiry >= tip
                && executed.sequence < receipts.size
                && ledger.memory.len() < ledger.parameters.remembered_max as usize
                && ledger.memory.get(&name).is_none();
            if !belongs {
                let (client, sequence) = name;
                return Err(RestoreError::Entry { client, sequence });
            }
            ledger.memory.remember(name, remembered(&executed));
        }
        Ok(ledger)
    }

    /// Where it stands; together with [`Ledger::entries`] all that is to be kept.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// What it remembers, by expiry, client and sequence.
    pub fn entries(&self) -> impl Iterator<Item = (Name, &Executed)> {
        self.memory.iter()
    }

    /// The last applied header.
    pub fn tip(&self) -> &Header {
        &self.parts.tip
    }

    /// The digest of the last applied header.
    pub fn tip_digest(&self) -> Digest {
        self.tip_digest
    }

    /// The last applied height.
    pub fn height(&self) -> Height {
        self.parts.tip.height
    }

    /// What is settled at genesis.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Transactions that are remembered.
    pub fn remembered(&self) -> usize {
        self.memory.len()
    }

    /// Whether a block waits for its results.
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What a remembered transaction gave.
    pub fn answer(&self, client: &PublicKey, sequence: u64) -> Option<&Executed> {
        self.memory.get(&(*client, sequence))
    }

    /// The members, and what else is changed by operations of the ledger itself.
    pub fn register(&self) -> &Arc<Register> {
        &self.register
    }

    /// Whether `client` may submit this operation: a listed client any, an identity key that the
    /// register knows those of the ledger itself.
    pub fn may_submit(&self, client: &PublicKey, operation: &[u8]) -> bool {
        let register = &self.register;
        register.is_client(client) || register::is_own(operation) && register.knows(client)
    }

    /// Whether `group` may still execute in the next block, as far as anybody can tell before it is
    /// ordered.
    ///
    /// Errors: [`Denied::NotListed`] and [`Denied::Expired`].
    pub fn admits(&self, group: &Group) -> Result<(), Denied> {
        let may = |t: &Transaction| self.may_submit(&group.client, &t.operation);
        if !group.transactions.iter().all(may) {
            return Err(Denied::NotListed);
        }
        let height = self.height();
        let most = height.plus(self.parameters.expiry_blocks_max.into());
        let out_of_range = |expiry: &Height| *expiry <= height || *expiry > most;
        let expiries = group.transactions.iter().map(|t| t.expiry);
        match { expiries }.find(out_of_range) {
            Some(expiry) => Err(Denied::Expired {
                expiry,
                height,
                most,
            }),
            None => Ok(()),
        }
    }

    /// Takes the next decided body and says what executes. Nothing is changed until
    /// [`Ledger::finish`] has the results.
    ///
    /// The caller applies heights in order and one at a time, and no view goes back.
    pub fn begin(&mut self, decided: Decided) -> Execute {
        let tip = &self.parts.tip;
        assert!(self.under_way.is_none(), "one block at a time");
        assert_eq!(
            decided.height,
            tip.height.next(),
            "heights are applied in order"
        );
        assert_eq!(
            decided.view, self.parts.views.present,
            "a block is of the present view"
        );
        let Decided {
            height,
            view,
            body,
            groups,
            ..
        } = decided;
        assert!(
            groups.is_empty() || !body.is_control(),
            "a control body has no transactions"
        );
        let body = self.effective(body);
        let bytes = groups.iter().map(snapshots::weigh).sum();
        let judgement = judge(self, height, groups);
        let execute = Execute {
            height,
            timestamp_us: timestamp(tip.timestamp_us, decided.proposed_us),
            is_sealed: is_sealed(height, &body, decided.is_sealed, &self.parameters),
            operations: judgement.operations(),
        };
        self.under_way = Some(UnderWay {
            height,
            view,
            timestamp_us: execute.timestamp_us,
            is_sealed: execute.is_sealed,
            body,
            bytes,
            judgement,
        });
        execute
    }

    /// Takes the results of the block under way and makes it the tip.
    ///
    /// Errors: [`FinishError`].
    pub fn finish(&mut self, execution: Execution) -> Result<Applied, FinishError> {
        let got = execution.height;
        let want = self.under_way.as_ref().map(|block| block.height);
        let is_wanted = |block: &mut UnderWay| block.height == got;
        let Some(block) = self.under_way.take_if(is_wanted) else {
            return Err(FinishError::Height { got, want });
        };
        let (have, need) = (execution.outcomes.len(), block.judgement.foreign_count());
        if have != need {
            self.under_way = Some(block);
            return Err(FinishError::Outcomes { have, need });
        }

        let before = Arc::clone(&self.register);
        let outcomes = self.merge(&block, execution.outcomes);
        let mut forgotten = self
            .memory
            .forget_below(match plant::is(Plant::SequenceForgotten) {
                true => Height(u64::MAX),
                false => block.height,
            });
        let receipts = self.record(&block, &outcomes);
        for (name, expiry) in &block.judgement.extended {
            self.memory.extend(name, *expiry);
        }
        forgotten.retain(|name| self.memory.get(name).is_none());
        let answers = self.answers(&block.judgement, outcomes);
        assert!(
            self.memory.len() <= self.parameters.remembered_max as usize,
            "the memory of transactions keeps its bound"
        );
        let (block, effect) = self.extend_chain(block, execution.state);
        Ok(Applied {
            block,
            effect,
            views: effect.map(|_| Box::new(self.parts.views.clone())),
            snapshots: self.parts.snapshots,
            digest: self.tip_digest,
            answers,
            receipts,
            forgotten,
            register: (before != self.register).then(|| Arc::clone(&self.register)),
        })
    }

    /// Carries out the ledger's own operations and puts their outcomes between those of the
    /// application, in the order of the block.
    fn merge(&mut self, block: &UnderWay, foreign: Vec<Outcome>) -> Vec<Outcome> {
        let bounds = self.parameters.bounds();
        let mut foreign = foreign.into_iter();
        let outcome = |fresh: &Fresh| {
            if !register::is_own(&fresh.operation) {
                let outcome = foreign.next();
                return outcome.expect("as many outcomes as operations were counted");
            }
            let place = register::Place {
                height: block.height,
                marks: &self.parts.marks,
                bounds: &bounds,
                ahead_max: self.parameters.ahead_max,
                verifier: &self.verifier,
            };
            let register = Arc::make_mut(&mut self.register);
            let outcome = register.execute(&place, &fresh.name.0, &fresh.operation);
            self.parts.snapshots.is_asked |= Register::asks_snapshot(&fresh.operation, &outcome);
            outcome
        };
        block.judgement.fresh.iter().map(outcome).collect()
    }

    /// Appends a receipt for each executed transaction and remembers it.
    fn record(&mut self, block: &UnderWay, outcomes: &[Outcome]) -> Vec<Receipt> {
        let mut receipts = Vec::with_capacity(outcomes.len());
        let pairs = block.judgement.fresh.iter().zip(outcomes);
        for (index, (fresh, outcome)) in (0u32..).zip(pairs) {
            let receipt = Receipt {
                sequence: self.parts.frontier.size(),
                height: block.height.0,
                client: fresh.name.0,
                client_sequence: fresh.name.1,
                group: fresh.group,
                index: fresh.index,
                outcome: outcome_digest(outcome.code, &outcome.bytes),
            };
            self.parts.frontier.append(receipt.leaf());
            let executed = executed(fresh, &receipt, index, outcome);
            self.memory.remember(fresh.name, executed);
            receipts.push(receipt);
        }
        receipts
    }

    /// One answer per transaction of the body, in order; all of one name tell the same.
    fn answers(&self, judgement: &Judgement, outcomes: Vec<Outcome>) -> Vec<Answer> {
        let recall = |name: &Name| {
            let executed = self.memory.get(name);
            executed
                .expect("what executed or repeats is remembered")
                .clone()
        };
        let mut whole = outcomes.into_iter();
        let verdict = |(name, fate): &(Name, Fate)| match fate {
            Fate::Executes => {
                let outcome = whole.next();
                Verdict::Executed(Executed {
                    outcome: outcome.expect("each executed transaction has its outcome"),
                    ..recall(name)
                })
            }
            Fate::Repeats => Verdict::Repeated(recall(name)),
            Fate::Refused(verdict) => verdict.clone(),
        };
        let names = judgement.fates.iter().map(|(name, _)| *name);
        let verdicts = judgement.fates.iter().map(verdict);
        names
            .zip(verdicts)
            .map(|((client, sequence), verdict)| Answer {
                client,
                sequence,
                verdict,
            })
            .collect()
    }

    /// Derives the header and makes it the tip.
    fn extend_chain(&mut self, block: UnderWay, state: Option<Digest>) -> (Block, Option<Effect>) {
        let parts = &mut self.parts;
        let header = Header {
            version: FORMAT_VERSION,
            chain: parts.tip.chain,
            height: block.height,
            view: block.view,
            previous: self.tip_digest,
            body: block.body.root(),
            receipts: ReceiptRoot {
                size: parts.frontier.size(),
                root: parts.frontier.root(),
            },
            state: state.filter(|_| block.is_sealed),
            timestamp_us: block.timestamp_us,
            checkpoint: parts.checkpoint,
            reconfiguration: parts.reconfiguration,
        };
        self.tip_digest = header.digest();
        let link = Link {
            height: header.height,
            digest: self.tip_digest,
        };
        let effect = parts.views.apply(link, &block.body);
        parts
            .snapshots
            .apply(link, &block.body, block.bytes, &self.parameters.checkpoints);
        match &block.body {
            Body::Checkpoint(_) => parts.checkpoint = link,
            Body::Freeze(_) => Arc::make_mut(&mut self.register).freeze(link.height),
            Body::Assemble(made) => {
                let register = Arc::make_mut(&mut self.register);
                if made.beacon.is_none() {
                    register.freeze(link.height);
                }
                register.name(link, made.next, &made.committee);
            }
            Body::Reconfiguration(made) => {
                parts.reconfiguration = link;
                let key = self.made.take().map(Arc::unwrap_or_clone);
                Arc::make_mut(&mut self.register).reconfigured(link.height, made, key);
            }
            Body::Genesis(_) | Body::Transactions(_) => {}
        }
        parts.marks.push(link);
        parts.tip = header.clone();
        self.look_ahead();
        let body = block.body;
        (Block { header, body }, effect)
    }
}

impl Applied {
    /// The entries that this block set in the memory of transactions, to be kept after those in
    /// `forgotten` are deleted; a name that repeats stands in it more than once, alike.
    pub fn entries(&self) -> impl Iterator<Item = (Name, Executed)> {
        self.answers.iter().filter_map(|answer| {
            let name = (answer.client, answer.sequence);
            match &answer.verdict {
                Verdict::Executed(executed) | Verdict::Repeated(executed) => {
                    Some((name, remembered(executed)))
                }
                Verdict::Conflict | Verdict::Expired | Verdict::Busy | Verdict::NotListed => None,
            }
        })
    }
}

/// The timestamp of the block after one at `previous_us`.
fn timestamp(previous_us: u64, proposed_us: u64) -> u64 {
    // A leader far in the future must not use up the timestamps of those after it.
    previous_us
        .saturating_add(1)
        .max(proposed_us.min(TIMESTAMP_US_MAX))
}

fn executed(fresh: &Fresh, receipt: &Receipt, index: u32, outcome: &Outcome) -> Executed {
    remembered(&Executed {
        sequence: receipt.sequence,
        height: Height(receipt.height),
        index,
        operation: fresh.digest,
        expiry: fresh.expiry,
        outcome: outcome.clone(),
        outcome_digest: receipt.outcome,
    })
}

/// What is remembered of an answer: its result is cut to [`OUTCOME_BYTES_MAX`], its digest is not.
pub fn remembered(executed: &Executed) -> Executed {
    let bytes = &executed.outcome.bytes;
    Executed {
        outcome: Outcome {
            code: executed.outcome.code,
            // Copied, since a slice would hold on to the buffer that it was cut from.
            bytes: Bytes::copy_from_slice(&bytes[..bytes.len().min(OUTCOME_BYTES_MAX)]),
        },
        ..executed.clone()
    }
}
