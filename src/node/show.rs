//! Blocks, values and events as plain data.
//!
//! Source: `api/openapi.json`. In: what a member keeps. Out: the shapes of `api`.
//! Holds: events come in the order of the ledger without a gap, past ones from the disk.
//! Elsewhere: JSON of operations (`application`), who asks (`host`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures_util::stream;
use tokio::sync::watch;

use super::handle::Parts;
use super::holdings;
use super::host::not_found;
use super::index::Kept;
use super::proofs::{self, LookError};
use super::views::{self, Opened};
use crate::api::{
    self, BallotEntry, BlockKind, BlockTransaction, Encoding, Event, Events, HistoryEntry,
    MemberEntry, Membership, Refusal, Value,
};
use crate::application::Reader;
use crate::application::kv::Operation;
use crate::blocks::{Body, Step};
use crate::committee::{Height, MemberId, ViewId};
use crate::consortium::{Block, Outcome};
use crate::crypto::Digest;
use crate::membership::register::{self, Ballot, Entry, Member, Register};

/// Bytes of evidence on one page, unless a single piece has more.
const PAGE_EVIDENCE_BYTES: usize = 256 << 10;
/// Bytes of encoded steps on one page, unless a single one has more.
const PAGE_STEPS_BYTES: usize = 512 << 10;

/// A result.
pub(super) fn outcome(outcome: &Outcome) -> api::Outcome {
    api::Outcome::new(outcome.code, &outcome.bytes)
}

/// What the state holds under `key`, asked in the key-value machine's encoding.
pub(super) fn lookup(reader: &dyn Reader, key: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let malformed = |reason: String| Refusal::Malformed { reason };
    let request = Operation::Get { key }.to_bytes();
    let request = request.map_err(|error| malformed(error.to_string()))?;
    let answer = reader.query(&request);
    let answer = answer.map_err(|error| malformed(error.to_string()))?;
    Ok(match answer.split_first() {
        Some((1, value)) => Some(value.to_vec()),
        Some(_) | None => None,
    })
}

/// The value of `key` after `height`.
pub(super) fn value(key: &[u8], value: Option<&[u8]>, height: Height) -> Value {
    let (key, _) = Encoding::write(key);
    let written = value.map(Encoding::write);
    Value {
        key,
        encoding: written.as_ref().map_or(Encoding::Utf8, |(_, form)| *form),
        value: written.map(|(text, _)| text),
        height,
        state_root: None,
        certified: false,
        proof: None,
    }
}

/// The block at `height` with one page of its transactions.
pub(super) fn block(parts: &Parts, height: Height, page: api::Page) -> Result<api::Block, Refusal> {
    let genesis = Block {
        header: parts.who.genesis.header(),
        body: Body::Genesis(parts.who.genesis.chain()),
    };
    let block = match height {
        Height(0) => Some(genesis),
        height => parts
            .index
            .block_at(height)
            .map_err(|error| not_found(error.into()))?,
    };
    let missing = |error: LookError| holdings::missing_block(parts, height, error);
    let absent = || missing(LookError::absent(format!("block {height}")));
    let block = block.ok_or_else(absent)?;
    let (count, transactions) = page_of(parts, &block, page).map_err(missing)?;
    let certificate = parts
        .index
        .certificate_from(height)
        .map_err(|error| not_found(error.into()))?;
    let certificate = certificate.filter(|_| height > Height(0));
    let committee = committee(parts, Opened::of(&block.header)).map_err(not_found)?;
    let signers = certificate.iter().flat_map(|held| held.signers.iter());
    let signers = signers.filter_map(|seat| committee.get(seat.index()).copied());
    Ok(api::Block {
        digest: block.header.digest(),
        kind: kind(&block.body),
        signers: signers.collect(),
        transactions_count: count,
        transactions,
        header: block.header,
    })
}

/// Who sits in a view, by seat.
fn committee(parts: &Parts, opened: Opened) -> Result<Vec<MemberId>, LookError> {
    let founders = parts.who.genesis.founders.iter();
    match opened.view {
        ViewId(0) => Ok(founders.map(|f| MemberId::of(&f.identity)).collect()),
        ViewId(_) => views::committee(&parts.index, opened),
    }
}

/// One page of the view chain.
pub(super) fn views(parts: &Parts, from: ViewId, limit: u32) -> Result<api::Views, LookError> {
    let index = &parts.index;
    let certified = parts.watch.newest_certified();
    let newest = certified.map(|certified| Opened::newest(index, &certified));
    let founders = Opened {
        view: ViewId(0),
        at: Height(0),
    };
    let newest = newest.transpose()?.unwrap_or(founders);
    let most = (limit as usize, PAGE_STEPS_BYTES);
    let steps = views::steps(index, from, newest, most)?.into_iter();
    let entry = |step: Step| api::ViewEntry {
        view: step.body.next,
        height: step.header.height,
        digest: step.header.digest(),
        committee: step.body.seats.iter().map(|seat| seat.member).collect(),
        step,
    };
    Ok(api::Views {
        newest: newest.view,
        views: steps.map(entry).collect(),
    })
}

fn kind(body: &Body) -> BlockKind {
    match body {
        Body::Genesis(_) => BlockKind::Genesis,
        Body::Freeze(_) => BlockKind::Freeze,
        Body::Assemble(_) => BlockKind::Assemble,
        Body::Reconfiguration(_) => BlockKind::Reconfiguration,
        Body::Checkpoint(_) => BlockKind::Checkpoint,
        Body::Transactions(_) => BlockKind::Transactions,
    }
}

fn page_of(
    parts: &Parts,
    block: &Block,
    page: api::Page,
) -> Result<(u32, Vec<BlockTransaction>), LookError> {
    let kept = parts.index.results(block.header.height)?;
    let results: HashMap<(Digest, u32), &Kept> = kept
        .iter()
        .filter_map(|one| Some((one.place?, one)))
        .collect();
    let last = page.first.saturating_add(page.limit);
    let (mut count, mut shown) = (0, Vec::new());
    let bounds = parts.who.genesis.parameters.bounds();
    for group in proofs::groups(&parts.index, block)? {
        let digest = group.digest();
        let transactions = proofs::transactions(&group, &bounds)?;
        for (index, transaction) in (0..).zip(&transactions) {
            if (page.first..last).contains(&count) {
                let result = results.get(&(digest, index));
                shown.push(BlockTransaction {
                    client: group.client,
                    sequence: transaction.sequence,
                    digest: transaction.digest(),
                    operation: operation_json(parts, &transaction.operation),
                    result: result.map(|kept| outcome(&kept.executed.outcome)),
                });
            }
            count += 1;
        }
    }
    Ok((count, shown))
}

/// The register, where it stands behind the newest block.
pub(super) fn membership(parts: &Parts, history: bool) -> Membership {
    let (height, register) = parts.watch.register();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let majority = register.majority();
    Membership {
        height,
        view: register.view().0,
        voters: count(majority.members),
        votes_needed: count(majority.needed),
        changed: register.is_changed(),
        parameters: *register.rules(),
        clients_count: register.clients().map(|clients| count(clients.len())),
        members: register.members().map(member_entry).collect(),
        ballots: register
            .ballots()
            .filter(|(_, ballot)| !ballot.is_over(height))
            .map(|(id, ballot)| ballot_entry(&register, id, ballot))
            .collect(),
        history: match history {
            true => register.audit().entries().map(history_entry).collect(),
            false => Vec::new(),
        },
    }
}

fn member_entry((id, member): (&MemberId, &Member)) -> MemberEntry {
    let addresses = Some(member.address.clone()).filter(|address| !address.is_empty());
    MemberEntry {
        id: *id,
        name: member.name.clone(),
        status: member.status.name().into(),
        weight: member.weight,
        tags: member.tags.clone(),
        addresses: addresses.into_iter().collect(),
        seated: member.is_seated,
        identity: member.identity,
        consensus: member.consensus(),
        admitted: member.admitted,
    }
}

fn ballot_entry(register: &Register, id: &Digest, ballot: &Ballot) -> BallotEntry {
    let newcomer = ballot.motion.newcomer();
    let asked = register
        .requests()
        .find(|(_, key, ..)| Some(*key) == newcomer);
    BallotEntry {
        id: *id,
        kind: ballot.motion.name().into(),
        what: ballot.motion.to_string(),
        member: ballot.motion.member(),
        name: asked.map(|(_, _, request, _)| request.name.clone()),
        opened: ballot.opened,
        approvals: register.approvals(ballot),
        rejections: register.rejections(ballot),
    }
}

fn history_entry((place, entry): (u64, &Entry)) -> HistoryEntry {
    HistoryEntry {
        place,
        height: entry.height,
        by: entry.by,
        member: entry.member,
        what: entry.deed.to_string(),
    }
}

/// An operation for people: the application's, or the ledger's own.
fn operation_json(parts: &Parts, operation: &[u8]) -> serde_json::Value {
    if !register::is_own(operation) {
        return parts.application.operation_to_json(operation);
    }
    let name = register::Operation::from_bytes(operation).map(|own| own.name());
    serde_json::json!({
        "ledger": name.unwrap_or("malformed"),
        "bytes": hex::encode(operation),
    })
}

/// One page of the faults that are kept; it ends after [`PAGE_EVIDENCE_BYTES`].
pub(super) fn faults(parts: &Parts, page: api::Page) -> api::Faults {
    let kept = parts.watch.faults();
    let mut shown: Vec<api::FaultEntry> = Vec::new();
    let mut bytes = 0;
    let pages = { kept.iter() }
        .skip(page.first as usize)
        .take(page.limit as usize);
    for fault in pages {
        let Some(evidence) = &fault.evidence else {
            continue;
        };
        let (height, regency) = evidence.place();
        let evidence = evidence.to_bytes();
        bytes += evidence.len();
        if bytes > PAGE_EVIDENCE_BYTES && !shown.is_empty() {
            break;
        }
        shown.push(api::FaultEntry {
            who: fault.who,
            kind: fault.kind,
            height,
            regency,
            evidence: hex::encode(evidence),
        });
    }
    api::Faults {
        faults_count: u32::try_from(kept.len()).unwrap_or(u32::MAX),
        seen: parts.watch.overview().0.faults,
        faults: shown,
    }
}

/// A reader of events.
struct Tail {
    parts: Arc<Parts>,
    next: u64,
    ready: VecDeque<Event>,
    executed: watch::Receiver<u64>,
    ending: watch::Receiver<bool>,
}

/// Every executed transaction from `from` on, past and to come.
pub(super) fn events(parts: Arc<Parts>, from: u64) -> Events {
    let tail = Tail {
        next: from,
        ready: VecDeque::new(),
        executed: parts.watch.executed(),
        ending: parts.watch.ending(),
        parts,
    };
    Box::pin(stream::unfold(Some(tail), |tail| async {
        let mut tail = tail?;
        match tail.next().await? {
            Ok(event) => Some((Ok(event), Some(tail))),
            // A refusal is the last item.
            Err(refusal) => Some((Err(refusal), None)),
        }
    }))
}

impl Tail {
    /// The next event; nothing when the member ends.
    async fn next(&mut self) -> Option<Result<Event, Refusal>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.next = event.sequence + 1;
                return Some(Ok(event));
            }
            let next = self.next;
            tokio::select! {
                grown = self.executed.wait_for(|count| *count > next) => drop(grown.ok()?),
                _ = self.ending.wait_for(|ends| *ends) => return None,
            }
            let parts = Arc::clone(&self.parts);
            let read = tokio::task::spawn_blocking(move || read_events(&parts, next));
            match read.await.ok()? {
                Ok(events) => self.ready = events,
                Err(error) => {
                    let why = holdings::missing_event(&self.parts, next, error);
                    return Some(Err(why));
                }
            }
        }
    }
}

/// The events of the block that holds `from`, from there on; never empty.
fn read_events(parts: &Parts, from: u64) -> Result<VecDeque<Event>, LookError> {
    let missing = || LookError::absent(format!("event {from}"));
    let height = parts.index.height_of(from)?.ok_or_else(missing)?;
    let block = parts.index.block_at(height)?.ok_or_else(missing)?;
    let bounds = parts.who.genesis.parameters.bounds();
    let mut operations = HashMap::new();
    for group in proofs::groups(&parts.index, &block)? {
        let digest = group.digest();
        let transactions = proofs::transactions(&group, &bounds)?;
        for (index, transaction) in (0u32..).zip(transactions) {
            operations.insert((digest, index), transaction.operation);
        }
    }
    let mut events = VecDeque::new();
    for kept in parts.index.results(height)?.iter() {
        let Some(place) = kept.place else { continue };
        if kept.executed.sequence < from {
            continue;
        }
        let operation = operations.get(&place).ok_or_else(missing)?;
        events.push_back(Event {
            sequence: kept.executed.sequence,
            height,
            index: kept.executed.index,
            client: kept.client,
            client_sequence: kept.client_sequence,
            operation: operation_json(parts, operation),
            result: outcome(&kept.executed.outcome),
        });
    }
    match events.front() {
        Some(first) if first.sequence == from => Ok(events),
        Some(_) | None => Err(missing()),
    }
}
