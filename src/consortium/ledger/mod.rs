//! The ledger: everything that follows from the decided prefix.
//!
//! Source: design of headers, receipts and exactly-once execution. In: decided bodies with their
//! groups, in height order, and the application's results. Out: what executes, then the header,
//! the receipts and an answer per transaction.
//! Holds: heights follow each other without a gap; while a (client, sequence) is remembered it
//! never executes again; state changes only in [`Ledger::finish`]; two members that applied the
//! same prefix have the same [`Ledger::digest`].
//! Elsewhere: what an operation does (`application`), where entries are kept (`storage`), which
//! bodies are decided (`fsm`).

mod judge;
mod memory;
mod views;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::judge::{Fate, Fresh, Judgement, judge};
use self::memory::Memory;
pub use self::views::{Announced, Effect, Pace, Views};
use super::OUTCOME_BYTES_MAX;
use super::contract::{Answer, Applied, Denied, Execute, Executed, Execution, Outcome, Verdict};
use super::message::Block;
use crate::blocks::body::{Assemble, Listed, NextSeat, Reconfiguration};
use crate::blocks::receipts::{Frontier, Receipt, outcome_digest};
use crate::blocks::{
    Body, Clients, FORMAT_VERSION, Founder, Genesis, Group, Header, Link, Parameters, ReceiptRoot,
};
use crate::committee::{Height, MemberId, ViewId};
use crate::crypto::{Digest, Domain, Hasher, PublicKey};
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

/// Where the ledger stands, aside from the transactions that it remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The last applied header.
    pub tip: Header,
    /// What the next header names as last checkpoint.
    pub checkpoint: Link,
    /// What the next header names as last reconfiguration.
    pub reconfiguration: Link,
    /// The right edge of the receipt log.
    pub frontier: Frontier,
    /// Which view orders, and what is announced of the next.
    pub views: Views,
}

/// Why kept parts make no ledger. Whoever kept them is at fault; nothing is made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The tip is of another chain.
    #[error("the kept tip is of chain {got}, not {want}")]
    OtherChain {
        /// Its chain.
        got: Digest,
        /// Ours.
        want: Digest,
    },
    /// The frontier and the tip name different receipts.
    #[error("the kept receipt log has {have} receipts or another root, the tip names {want}")]
    Receipts {
        /// Leaves of the frontier.
        have: u64,
        /// What the tip says.
        want: u64,
    },
    /// An entry is not what the prefix up to the tip leaves behind.
    #[error("the kept transaction {sequence} of {client} does not belong to this tip")]
    Entry {
        /// Its client.
        client: PublicKey,
        /// Its sequence.
        sequence: u64,
    },
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
    judgement: Judgement,
}

/// The state that follows from the decided prefix.
#[derive(Clone, Debug)]
pub struct Ledger {
    parameters: Parameters,
    listed: Option<BTreeSet<PublicKey>>,
    parts: Parts,
    tip_digest: Digest,
    memory: Memory,
    under_way: Option<UnderWay>,
    roll: Vec<Listed>,
    pace: Pace,
}

impl Ledger {
    /// The ledger of a new chain, at height 0.
    pub fn genesis(genesis: &Genesis) -> Self {
        let tip = genesis.header();
        let link = Link {
            height: tip.height,
            digest: tip.digest(),
        };
        Self::new(
            genesis,
            Parts {
                tip,
                checkpoint: link,
                reconfiguration: link,
                frontier: Frontier::new(),
                views: Views::genesis(link),
            },
        )
    }

    fn new(genesis: &Genesis, parts: Parts) -> Self {
        let listed = match &genesis.parameters.clients {
            Clients::Open => None,
            Clients::Listed(keys) => Some(keys.iter().copied().collect()),
        };
        Self {
            parameters: genesis.parameters.clone(),
            listed,
            tip_digest: parts.tip.digest(),
            parts,
            memory: Memory::default(),
            under_way: None,
            roll: founders(genesis),
            pace: Pace {
                rotation: if genesis.name == "simulated" { 40 } else { 0 }, // XXX temporary
                assemble: 64,
            },
        }
    }

    /// The ledger that [`Ledger::parts`] and [`Ledger::entries`] were taken from, entries in any
    /// order.
    ///
    /// Errors: [`RestoreError`] where parts and entries contradict each other.
    pub fn restore(
        genesis: &Genesis,
        parts: Parts,
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
        let tip = parts.tip.height;
        let mut ledger = Self::new(genesis, parts);
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

    /// Whether `client` may submit.
    pub fn is_listed(&self, client: &PublicKey) -> bool {
        self.listed
            .as_ref()
            .is_none_or(|keys| keys.contains(client))
    }

    /// Whether `group` may still execute in the next block, as far as anybody can tell before it is
    /// ordered.
    ///
    /// Errors: [`Denied::NotListed`] and [`Denied::Expired`].
    pub fn admits(&self, group: &Group) -> Result<(), Denied> {
        if !self.is_listed(&group.client) {
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
        let (have, need) = (execution.outcomes.len(), block.judgement.fresh.len());
        if have != need {
            self.under_way = Some(block);
            return Err(FinishError::Outcomes { have, need });
        }

        let mut forgotten = self
            .memory
            .forget_below(match plant::is(Plant::SequenceForgotten) {
                true => Height(u64::MAX),
                false => block.height,
            });
        let receipts = self.record(&block, &execution.outcomes);
        for (name, expiry) in &block.judgement.extended {
            self.memory.extend(name, *expiry);
        }
        forgotten.retain(|name| self.memory.get(name).is_none());
        let answers = self.answers(&block.judgement, execution.outcomes);
        assert!(
            self.memory.len() <= self.parameters.remembered_max as usize,
            "the memory of transactions keeps its bound"
        );
        let (block, effect) = self.extend_chain(block, execution.state);
        Ok(Applied {
            block,
            effect,
            views: effect.map(|_| Box::new(self.parts.views.clone())),
            digest: self.tip_digest,
            answers,
            receipts,
            forgotten,
        })
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
        let due = self.assembly_due();
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
        let list = || self.roll.clone();
        let effect = parts.views.apply(link, &block.body, (due, list));
        match &block.body {
            Body::Checkpoint(_) => parts.checkpoint = link,
            Body::Reconfiguration(_) if effect == Some(Effect::Reconfigured) => {
                parts.reconfiguration = link;
            }
            Body::Reconfiguration(_) => {} // An empty block: it answers nothing.
            Body::Genesis(_) | Body::Freeze(_) | Body::Assemble(_) | Body::Transactions(_) => {}
        }
        parts.tip = header.clone();
        let body = block.body;
        (Block { header, body }, effect)
    }

    /// The assemble body that the next block should have; the same for everybody who stands here.
    pub fn assembly_due(&self) -> Option<Assemble> {
        let next = self.height().next();
        let candidates: Vec<MemberId> = self
            .roll
            .iter()
            .map(|listed| MemberId::of(&listed.identity))
            .collect();
        self.parts.views.due(next, &candidates, (false, self.pace))
    }

    /// The reconfiguration body that ends the view with these seats; none while no committee is
    /// announced.
    pub fn reconfiguration(&self, seats: Vec<NextSeat>) -> Option<Reconfiguration> {
        self.parts.views.reconfiguration(seats)
    }

    /// Which view orders, and what is announced of the next.
    pub fn views(&self) -> &Views {
        &self.parts.views
    }

    /// Changes when committees change.
    #[cfg(test)]
    pub(crate) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// When committees change.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// The digest of everything here, to compare members: the parts, then each entry by expiry,
    /// client and sequence. Walks the whole memory.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::State);
        hasher.update(self.tip_digest.as_bytes());
        for link in [&self.parts.checkpoint, &self.parts.reconfiguration] {
            hasher.update(&link.height.0.to_le_bytes());
            hasher.update(link.digest.as_bytes());
        }
        hasher.update(&self.parts.frontier.size().to_le_bytes());
        for node in self.parts.frontier.nodes() {
            hasher.update(node.as_bytes());
        }
        hasher.update(&(self.memory.len() as u64).to_le_bytes());
        for ((client, sequence), executed) in self.entries() {
            hasher.update(client.as_bytes());
            for number in [
                sequence,
                executed.sequence,
                executed.height.0,
                executed.index.into(),
                executed.expiry.0,
                executed.outcome.code.into(),
                executed.outcome.bytes.len() as u64,
            ] {
                hasher.update(&number.to_le_bytes());
            }
            hasher.update(&executed.outcome.bytes);
            hasher.update(executed.operation.as_bytes());
            hasher.update(executed.outcome_digest.as_bytes());
        }
        hasher.finish()
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

fn founders(genesis: &Genesis) -> Vec<Listed> {
    let listed = |founder: &Founder| {
        Some(Listed {
            identity: founder.identity,
            name: founder.name.clone(),
            address: founder.address.clone(),
            weight: 1,
            admitted: founder.consensus?,
        })
    };
    genesis.founders.iter().filter_map(listed).collect()
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
