//! Orders without a process: a founder that is alone in its ledger, at the speed of its processor.
//!
//! Source: none. In: the folder of a member whose ledger has no other, operations. Out: its log and
//! tables, as a running member leaves them.
//! Holds: the replica orders, signs and executes every block, in views that follow each other;
//! records stand in the log as a member writes them, only syncs are rarer: nobody is told anything
//! before the end. Elsewhere: a start from what was made (`recovery`), the campaign that measures
//! it (`examples/campaign`).
//!
//! It stands in the library since nothing outside of it makes a checked submission.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::error::NodeError;
use super::executor::execute;
use super::index::{Index, kept};
use super::keeper::Keeper;
use super::progress::Progress;
use super::start::{Files, Options};
use crate::application::Application;
use crate::blocks::{Group, SignedGroup, Transaction};
use crate::committee::Height;
use crate::consortium::records;
use crate::consortium::{Applied, Command, Consortium, Event, Record, Timer};
use crate::crypto::{SecretKey, Verified};
use crate::machine::{Input, Machine, Outbox, Output, Span, Time};
use crate::storage::Log;

/// Heights that an expiry lies ahead.
const EXPIRY_BLOCKS: u64 = 5_000;
/// Virtual time between two submissions.
const PAUSE: Span = Span::from_ms(1);
/// Blocks that are made durable together.
const BLOCKS_AT_ONCE: u64 = 4_096;
/// Timers that may run out before a submission is in a block.
const TIMERS_MAX: usize = 1_000;

/// Has the member in `options.dir` order blocks of one transaction each until its ledger has the
/// height `top`; `operation` gives that of each height.
///
/// Errors: [`NodeError`].
///
/// # Panics
///
/// Where the ledger has other members, or the transactions are not admitted.
pub fn order_alone(
    options: &Options,
    top: Height,
    mut operation: impl FnMut(Height) -> Bytes,
) -> Result<(), NodeError> {
    let mut alone = Alone::open(options)?;
    alone.handle(Input::Command(Command::Start))?;
    while alone.height() < top {
        let operation = operation(alone.height().next());
        alone.submit(operation)?;
    }
    alone.settle()
}

struct Alone {
    files: Files,
    replica: Consortium,
    application: Box<dyn Application>,
    keeper: Keeper,
    index: Arc<Index>,
    log: Log,
    client: SecretKey,
    now: Time,
    timers: BTreeMap<Timer, Time>,
    /// The log file for which what still counts was saved again last.
    asked: u64,
}

impl Alone {
    fn open(options: &Options) -> Result<Self, NodeError> {
        let mut files = Files::open(options)?;
        let recovered = files.recover(&options.config, &Progress::default())?;
        files.keys.resume(&recovered.restored.view)?;
        let now = Time(recovered.restored.ledger.tip().timestamp_us);
        let replica = files.replica(&options.config, ([1; 32], 0));
        let seats = recovered.restored.view.seats().len();
        assert_eq!(seats, 1, "nobody else is asked");
        let replica = Consortium::new(replica, recovered.restored, now);
        Ok(Self {
            replica: replica.map_err(NodeError::Plug)?,
            application: recovered.application,
            asked: recovered.keeper.settled().max(1),
            keeper: recovered.keeper,
            index: recovered.index,
            log: recovered.log,
            client: SecretKey::from_seed([1; 32]),
            files,
            now,
            timers: BTreeMap::new(),
        })
    }

    fn height(&self) -> Height {
        self.replica.ledger().height()
    }

    /// Submits one transaction and waits for its block.
    fn submit(&mut self, operation: Bytes) -> Result<(), NodeError> {
        let before = self.height();
        let transactions = vec![Transaction {
            sequence: before.0,
            expiry: before.plus(EXPIRY_BLOCKS),
            operation,
        }];
        let signed = SignedGroup::sign(&self.files.genesis.chain(), &self.client, &transactions);
        let group = Group {
            client: signed.client,
            digest: signed.digest(),
            transactions,
        };
        self.now = self.now + PAUSE;
        let submission = Verified::vouch((signed, group)); // It was signed here.
        self.handle(Input::Command(Command::Submit(submission)))?;
        for _ in 0..TIMERS_MAX {
            if self.height() > before {
                return Ok(());
            }
            let next = self.timers.iter().min_by_key(|(_, at)| **at);
            let (timer, at) = next.expect("a flush is armed");
            let (timer, at) = (*timer, *at);
            self.now = self.now.max(at);
            self.timers.remove(&timer);
            self.handle(Input::Timer(timer))?;
        }
        panic!("no block follows {before}");
    }

    fn handle(&mut self, input: Input<Consortium>) -> Result<(), NodeError> {
        let mut outbox = Outbox::new();
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.replica.handle(self.now, input, &mut outbox);
            for output in outbox.drain() {
                match output {
                    Output::Save(record) => self.save(record)?,
                    Output::Arm { timer, after } => {
                        self.timers.insert(timer, self.now + after);
                    }
                    Output::Cancel(timer) => drop(self.timers.remove(&timer)),
                    Output::Emit(event) => {
                        inputs.extend(self.answer(event)?.map(Input::Command));
                    }
                    Output::Send { .. } => {} // Nobody hears it.
                }
            }
            let file = self.log.end().file;
            if file > self.asked {
                self.asked = file;
                inputs.push_back(Input::Command(Command::Settle(file)));
            }
        }
        Ok(())
    }

    fn save(&mut self, record: Record) -> Result<(), NodeError> {
        let name = records::name(&record);
        let (kind, bytes) = records::encode(record);
        let position = self.log.append(kind, &bytes)?;
        self.index.saved(name, position);
        self.keeper.saved(name, position);
        Ok(())
    }

    fn answer(&mut self, event: Event) -> Result<Option<Command>, NodeError> {
        Ok(match event {
            Event::Execute(block) => {
                let execution = execute(&mut *self.application, &block);
                if block.is_sealed {
                    let changes = self.application.drain_changes();
                    self.keeper.changed(block.height, changes);
                }
                Some(Command::Executed(execution))
            }
            Event::Applied(applied) => {
                self.apply(&applied)?;
                None
            }
            Event::Certified(certificate) => {
                self.application.release(certificate.ballot.height.0);
                None
            }
            Event::MakeKey(call) => {
                let (chain, identity) = (self.files.genesis.chain(), &self.files.identity);
                Some(self.files.keys.answer(&chain, identity, call)?)
            }
            Event::View(view) => Some(self.files.keys.enter(&view)?),
            Event::Submitted(_, refused) => {
                refused.expect("it is admitted");
                None
            }
            Event::Ordered(..) | Event::Serve(..) | Event::Changed(_) | Event::Snapshot(_) => None,
            Event::Settled(file) => {
                self.keeper.settle(file);
                // What was saved again may fill files by itself, and asks for nothing.
                self.asked = self.asked.max(self.log.end().file);
                None
            }
            Event::Resaved(..) | Event::Anchored(..) | Event::TooFar | Event::Shorter => None,
        })
    }

    fn apply(&mut self, applied: &Applied) -> Result<(), NodeError> {
        let kept = Arc::new(kept(applied));
        self.index.applied(applied, Arc::clone(&kept));
        self.keeper.applied(applied, kept);
        if applied.block.header.height.0.is_multiple_of(BLOCKS_AT_ONCE) {
            self.settle()?;
        }
        Ok(())
    }

    /// Makes everything durable, the tables behind the log.
    fn settle(&mut self) -> Result<(), NodeError> {
        self.log.sync()?;
        self.keeper.commit()?;
        self.keeper.flush()?;
        Ok(())
    }
}
