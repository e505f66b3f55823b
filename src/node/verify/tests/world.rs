//! A member's directory, made record by record: first the story, then its log and tables.
//!
//! Source: none. In: how many blocks. Out: records that a test may change, and a directory.
//! Holds: the story is what a single member writes: batches, proposals, votes, blocks,
//! certificates. Elsewhere: what is found in it (`tests`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;

use crate::application::{Application, kv};
use crate::blocks::body::NextSeat;
use crate::blocks::codec;
use crate::blocks::{
    Batch, BatchRef, Body, CheckedBatch, FORMAT_VERSION, Genesis, Group, Parameters, Proposal,
    SignedGroup, Transaction, ViewRules,
};
use crate::committee::{
    Certificate, Height, KeyProof, Opening, Regency, View, ViewId, Voter, VoterRecord,
};
use crate::consortium::ledger::Due;
use crate::consortium::records;
use crate::consortium::{Block, Decided, Ledger, Record};
use crate::crypto::{Digest, SecretKey};
use crate::fsm::Payload;
use crate::node::executor::execute;
use crate::node::index::{Index, kept};
use crate::node::init::{self, Cluster};
use crate::node::keeper::{Files, Keeper};
use crate::node::shelf::Shelf;
use crate::node::verify::{Verdict, VerifyDir, verify_dir};
use crate::node::{Config, keys, recovery};
use crate::storage::{Log, Options, Position, Store, TableOptions, Tables, open_tables};

/// Bytes of a log file: small, so that there are several.
const LOG_FILE_BYTES: u32 = 32 << 10;
/// Records between two syncs.
const RECORDS_PER_SYNC: usize = 5;
/// Every so many blocks the tables are committed.
const BLOCKS_PER_COMMIT: u64 = 9;

/// A member alone in its ledger.
pub(crate) struct World {
    pub(super) folder: TempDir,
    pub(crate) genesis: Genesis,
    pub(super) view: View,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(ViewRules::default())
    }

    /// A ledger whose views last eight blocks.
    pub(crate) fn rotating() -> Self {
        Self::with(ViewRules {
            rotation_blocks: 8,
            assemble_blocks: 6,
            ..ViewRules::default()
        })
    }

    fn with(views: ViewRules) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let cluster = Cluster {
            name: "test".into(),
            addresses: vec![(address, address)],
            observers: vec![(address, SocketAddr::from(([127, 0, 0, 1], 0)))],
            parameters: Parameters {
                seal_every: 4,
                expiry_blocks_max: 16,
                views,
                ..Parameters::default()
            },
            config: Config::default(),
        };
        let genesis = init::cluster(folder.path(), &cluster).expect("directories are made");
        let view = genesis.view().expect("one founder makes a view");
        Self {
            folder,
            genesis,
            view,
        }
    }

    pub(crate) fn member(&self) -> PathBuf {
        init::member_dir(self.folder.path(), 0)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.member().join("data")
    }

    /// The records of `blocks` blocks, and the header digest of the last.
    pub(crate) fn story(&self, blocks: u64) -> Vec<Record> {
        let secret = keys::consensus(&self.member()).expect("its key").secret;
        let mut teller = Teller {
            world: self,
            view: self.view.clone(),
            voter: Voter::new(&self.view, secret).expect("it has a seat"),
            ledger: Ledger::genesis(&self.genesis),
            application: Box::new(kv::Kv::new()),
            certificate: None,
            records: Vec::new(),
        };
        (1..=blocks).for_each(|height| teller.block(Height(height)));
        teller.records
    }

    /// Writes the records as a log; gives their positions.
    pub(crate) fn write_log(&self, records: &[Record]) -> Vec<Position> {
        self.open_log(records).1
    }

    /// Writes what an observer keeps of the records as its log; gives its directory.
    pub(crate) fn observe(&self, records: &[Record]) -> PathBuf {
        let is_kept = |record: &&Record| {
            matches!(
                record,
                Record::Batch(_) | Record::Block(_) | Record::Certificate(_)
            )
        };
        let kept: Vec<Record> = records.iter().filter(is_kept).cloned().collect();
        let dir = init::observer_dir(self.folder.path(), 0);
        Self::open_log_in(&dir, &kept);
        dir
    }

    fn open_log(&self, records: &[Record]) -> (Log, Vec<Position>) {
        Self::open_log_in(&self.member(), records)
    }

    fn open_log_in(member: &Path, records: &[Record]) -> (Log, Vec<Position>) {
        let bound = keys::consensus(member).expect("its key").store;
        let store = Store::open(&member.join("data"), bound).expect("nobody has it open");
        let options = Options {
            file_bytes: LOG_FILE_BYTES,
            ..Options::default()
        };
        let opened = Log::open(&store.log_dir(), store.id(), options, |_| {});
        let (mut log, _) = opened.expect("an empty log opens");
        let mut positions = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let (kind, bytes) = records::encode(record.clone());
            positions.push(log.append(kind, &bytes).expect("it is appended"));
            if index % RECORDS_PER_SYNC == 0 {
                log.sync().expect("it is synced");
            }
        }
        log.sync().expect("it is synced");
        log.pool().prepare().expect("a spare is made");
        (log, positions)
    }

    /// Writes the records as a log, and the tables that follow from them.
    pub(crate) fn write(&self, records: &[Record]) {
        let (log, positions) = self.open_log(records);
        let index = self.index(&log);
        let mut ledger = Ledger::genesis(&self.genesis);
        let mut application: Box<dyn Application> = Box::new(kv::Kv::new());
        let start = Position { file: 0, offset: 0 };
        let parts = ledger.parts().clone();
        let mut keeper = Keeper::new(index, 100_000, parts, start, Files::default());
        let mut batches: BTreeMap<Digest, Bytes> = BTreeMap::new();
        for (record, position) in records.iter().zip(positions) {
            let name = records::name(record);
            keeper.saved(name, position);
            if let (Record::Batch(bytes), records::Name::Batch(digest)) = (record, name) {
                batches.insert(digest, bytes.clone());
            }
            let Record::Block(block) = record else {
                continue;
            };
            let groups = self.groups(&block.body, &batches);
            let work = ledger.begin(Decided::replay(block.clone(), groups));
            let done = ledger.finish(execute(&mut *application, &work));
            let applied = done.expect("as many results as operations");
            keeper.applied(&applied, Arc::new(kept(&applied)));
            if work.is_sealed {
                keeper.changed(work.height, application.drain_changes());
            }
            if work.height.0.is_multiple_of(BLOCKS_PER_COMMIT) {
                keeper.commit().expect("the tables take it");
            }
        }
        keeper.commit().expect("the tables take it");
        keeper.flush().expect("the tables flush");
    }

    fn index(&self, log: &Log) -> Arc<Index> {
        let options = TableOptions {
            tables: recovery::TABLES.map(str::to_owned).to_vec(),
            cache_bytes: 1 << 20,
        };
        let tables = open_tables(&self.data().join("tables"), "redb", &options);
        let tables = Arc::from(tables.expect("nobody has them open"));
        self.index_over(log, tables)
    }

    fn index_over(&self, log: &Log, tables: Arc<dyn Tables>) -> Arc<Index> {
        let shelf = Shelf::open(&self.data(), &|| true).expect("an empty shelf opens");
        Arc::new(Index::new(
            tables,
            (log.reader(), LOG_FILE_BYTES),
            Arc::new(shelf),
        ))
    }

    /// An index over these tables and an empty log.
    pub(crate) fn indexing(&self, tables: Arc<dyn Tables>) -> Arc<Index> {
        self.index_over(&self.open_log(&[]).0, tables)
    }

    /// Writes the records as a log; gives an index that holds them in memory.
    pub(super) fn indexed(&self, records: &[Record]) -> Arc<Index> {
        let (log, positions) = self.open_log(records);
        let index = self.index(&log);
        for (record, position) in records.iter().zip(positions) {
            index.saved(records::name(record), position);
        }
        index
    }

    fn groups(&self, body: &Body, batches: &BTreeMap<Digest, Bytes>) -> Vec<Group> {
        let (chain, bounds) = (self.view.chain(), self.genesis.parameters.bounds());
        let of = |batch: &BatchRef| {
            let bytes = match batch {
                BatchRef::Inline(bytes) => bytes.clone(),
                BatchRef::Named(digest) => batches[digest].clone(),
            };
            let decoded = CheckedBatch::decode(bytes, chain, &bounds);
            decoded.expect("a batch of the story").0.groups
        };
        body.batches().flat_map(of).collect()
    }

    pub(super) fn verify(&self) -> Verdict {
        self.verify_with(self.genesis.clone())
    }

    pub(super) fn verify_with(&self, genesis: Genesis) -> Verdict {
        verify_dir(VerifyDir {
            dir: self.member(),
            genesis,
            progress: &mut |done, total| assert!(done <= total, "progress has an end"),
        })
        .expect("a verdict")
    }
}

/// Makes the story of one chain.
struct Teller<'a> {
    world: &'a World,
    view: View,
    voter: Voter,
    ledger: Ledger,
    application: Box<dyn Application>,
    certificate: Option<Certificate>,
    records: Vec<Record>,
}

impl Teller<'_> {
    fn block(&mut self, height: Height) {
        let (body, groups) = match self.control() {
            Some(body) => (body, Vec::new()),
            None => self.transactions(height),
        };
        self.order(height, body, groups);
    }

    /// The body that the ledger is due, if any: a committee, or the view with its fresh key.
    fn control(&self) -> Option<Body> {
        if let Some(Due::Body(body)) = self.ledger.due() {
            return Some(body.clone());
        }
        let announced = self.ledger.views().announced.as_ref()?;
        let identity = keys::identity(&self.world.member()).expect("its key");
        let (next, assemble) = (self.view.id().next(), announced.at.digest);
        let chain = self.view.chain();
        let fresh = KeyProof::make(chain, next, &assemble, &identity, &key(next));
        let body = self.ledger.reconfiguration(vec![NextSeat {
            member: announced.committee[0],
            fresh: Some(fresh),
        }]);
        body.map(Body::Reconfiguration)
    }

    fn transactions(&mut self, height: Height) -> (Body, Vec<Group>) {
        let (bytes, groups) = self.batch(height);
        let digest = Digest::of(crate::crypto::Domain::Batch, &bytes);
        let batch = match height.0 % 5 {
            0 => BatchRef::Inline(bytes),
            _ => {
                self.records.push(Record::Batch(bytes));
                BatchRef::Named(digest)
            }
        };
        (Body::Transactions(vec![batch]), groups)
    }

    fn order(&mut self, height: Height, body: Body, groups: Vec<Group>) {
        let proposal = Proposal {
            version: FORMAT_VERSION,
            chain: *self.view.chain(),
            view: self.view.id(),
            height,
            timestamp_us: self.ledger.tip().timestamp_us + 1_000,
            is_sealed: false,
            body,
            carried: self.certificate.clone(),
        };
        self.decide(&proposal);
        let work = self.ledger.begin(Decided {
            height,
            view: self.view.id(),
            proposed_us: proposal.timestamp_us,
            is_sealed: false,
            body: proposal.body,
            groups,
        });
        let done = self.ledger.finish(execute(&mut *self.application, &work));
        let applied = done.expect("as many results as operations");
        let body = applied.block.body.clone();
        self.records.push(Record::Block(applied.block));
        if work.is_sealed {
            let (promises, vote) = self.voter.persist(height, applied.digest).expect("once");
            self.promised(promises);
            let certificate = Certificate::assemble(&self.view, [&vote]);
            let certificate = certificate.expect("one seat is a quorum").into_inner();
            self.certificate = Some(certificate.clone());
            self.records.push(Record::Certificate(certificate));
            self.voter.forget_below(height);
        }
        if let Body::Reconfiguration(body) = body {
            let digest = applied.digest;
            let view = body.view(self.view.chain(), Opening { height, digest });
            self.view = view.expect("one seat makes a view");
            let voter = Voter::new(&self.view, key(self.view.id()));
            self.voter = voter.expect("it has a seat");
        }
    }

    fn decide(&mut self, proposal: &Proposal) {
        let (height, digest) = (proposal.height, proposal.digest());
        let view = &self.view;
        let (proposed, _) = self
            .voter
            .propose(Regency(0), height, digest)
            .expect("once");
        let (written, write) = self.voter.write(Regency(0), height, digest).expect("once");
        let writes = Certificate::assemble(view, [&write]).expect("one seat is a quorum");
        let (locked, accept) = self.voter.accept(&writes).expect("once");
        let decision = Certificate::assemble(view, [&accept]).expect("one seat is a quorum");
        self.promised(proposed);
        let bytes = proposal.to_bytes();
        self.records
            .push(Record::Payload(height, Payload { digest, bytes }));
        self.promised(written);
        self.promised(locked);
        self.records.push(Record::Decision(decision.into_inner()));
    }

    fn promised(&mut self, promises: Vec<VoterRecord>) {
        let (records, view) = (promises.into_iter(), self.view.id());
        self.records
            .extend(records.map(|promise| Record::Voter(view, promise)));
    }

    /// Two clients, four transactions each; the last one of a client repeats its first.
    fn batch(&self, height: Height) -> (Bytes, Vec<Group>) {
        let chain = self.world.view.chain();
        let group = |seed: u8| {
            let transactions: Vec<Transaction> = (0..4)
                .map(|number| {
                    let sequence = match number {
                        3 if height.0 > 1 => (height.0 - 2) * 4,
                        _ => (height.0 - 1) * 4 + number,
                    };
                    self.transaction(seed, sequence, height)
                })
                .collect();
            SignedGroup::sign(chain, &SecretKey::from_seed([seed; 32]), &transactions)
        };
        let batch = Batch {
            groups: vec![group(1), group(2)],
        };
        let bytes = Bytes::from(codec::encode(&batch));
        let bounds = self.world.genesis.parameters.bounds();
        let decoded = CheckedBatch::decode(bytes.clone(), chain, &bounds);
        (bytes, decoded.expect("a good batch").0.groups)
    }

    fn transaction(&self, seed: u8, sequence: u64, height: Height) -> Transaction {
        let key = format!("key {}", sequence % 50);
        let value = format!("value {sequence} of {seed}");
        let operation = match sequence % 7 {
            6 => kv::Operation::Delete {
                key: key.as_bytes(),
            },
            _ => kv::Operation::Put {
                key: key.as_bytes(),
                value: value.as_bytes(),
            },
        };
        Transaction {
            sequence,
            expiry: height.plus(12),
            operation: operation.to_bytes().expect("a small operation").into(),
        }
    }
}

/// The member's key in a view after view 0.
pub(super) fn key(view: ViewId) -> SecretKey {
    SecretKey::from_seed(Digest::of(crate::crypto::Domain::Audit, &view.0.to_le_bytes()).0)
}

/// The place of the block at `height` among `records`.
pub(super) fn block_at(records: &[Record], height: u64) -> usize {
    let is_it = |record: &Record| matches!(record, Record::Block(b) if b.header.height.0 == height);
    records.iter().position(is_it).expect("it is in the story")
}

/// The block at `index` of `records`.
pub(super) fn block_mut(records: &mut [Record], index: usize) -> &mut Block {
    let record = &mut records[index];
    let Record::Block(block) = record else {
        panic!("not a block: {record:?}");
    };
    block
}
