//! Threads that check signatures: frames of members and groups of clients.
//!
//! Source: `ARCHITECTURE.md`. In: frames in order per member and lane; submissions. Out: checked
//! inputs for the replica, many at a time.
//! Holds: nothing unchecked reaches the replica; what one member sends on one lane keeps its
//! order; every queue has a bound and makes its source wait or gives the work back.
//! Elsewhere: what is checked (`consortium::Ears`, `blocks`), sockets (`net`).

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use tokio::sync::oneshot;

use super::bell::Ringing;
use super::herald::{Promise, Refused, Settlement, Waiters};
use super::known::Known;
use crate::application::Application;
use crate::blocks::{BatchRef, CheckedBatch, Group, Proposal, SignedGroup};
use crate::committee::{MemberId, View};
use crate::consortium::{Command, Consortium, Ears, HearError, Heard, Opened};
use crate::crypto::{Check, Verified};
use crate::fsm;
use crate::machine::Input;
use crate::membership::register;
use crate::net::{Inbound, Lane};

/// Frames that wait for one thread. The network's own bound per member is reached before; a full
/// queue would make its threads wait.
const FRAMES_MAX: usize = 16_384;
/// Frames that are checked before the replica is told.
const FRAMES_AT_ONCE: usize = 64;
/// Submissions that wait to be checked; beyond it they are refused as busy.
pub(crate) const SUBMISSIONS_MAX: usize = 8192;
/// Signatures that are checked together.
const SIGNATURES_AT_ONCE: usize = 256;
/// Vectors of inputs that wait for the replica; a full queue makes the ears wait.
pub(crate) const INBOX_MAX: usize = 256;

/// What the replica's thread takes in.
pub(crate) type Inputs = Vec<Input<Consortium>>;

/// A client's group that waits to be checked.
pub(crate) struct Submission {
    /// The group.
    pub(crate) group: SignedGroup,
    /// What the client waits for.
    pub(crate) promise: Promise,
    /// Where the answer goes.
    pub(crate) reply: oneshot::Sender<Result<Settlement, Refused>>,
}

/// Frames that were dropped, by sender: those whom the network lets in.
#[derive(Debug, Default)]
pub(crate) struct Dropped(Mutex<BTreeMap<MemberId, u64>>);

impl Dropped {
    fn count(&self, from: &MemberId) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(*from).or_default() += 1;
    }

    /// Frames dropped, by sender; who never sent a bad one is left out.
    pub(crate) fn read(&self) -> BTreeMap<MemberId, u64> {
        let counts = self.0.lock();
        counts.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What frames and groups are checked against.
pub(crate) struct Checks {
    /// Formats, bounds and signatures, in the present view.
    ears: RwLock<Arc<Ears>>,
    /// Operations, by their bytes.
    application: Box<dyn Application>,
    /// Frames that were dropped.
    dropped: Arc<Dropped>,
    /// Signatures that were found to hold.
    known: Known,
}

impl Checks {
    /// Checks with `ears` until another view begins.
    pub(crate) fn new(
        ears: Ears,
        application: Box<dyn Application>,
        dropped: Arc<Dropped>,
    ) -> Self {
        Self {
            ears: RwLock::new(Arc::new(ears)),
            application,
            dropped,
            known: Known::default(),
        }
    }

    /// From here on frames are those of `view`.
    pub(crate) fn enter(&self, view: View) {
        let ears = Ears {
            view,
            ..Ears::clone(&self.ears())
        };
        *self.ears.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ears);
    }

    fn ears(&self) -> Arc<Ears> {
        Arc::clone(&self.ears.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks a frame but for the signatures that no earlier frame brought.
    fn open(&self, ears: &Ears, from: &MemberId, frame: &[u8]) -> Result<Opened, HearError> {
        let mut opened = ears.open(from, frame)?;
        let refused = HearError::Malformed { what: "operation" };
        let claim = opened.claim();
        let is_good = if let Heard::Batch(batch) = claim {
            self.admits(batch)
        } else if let Heard::Order(order) = claim {
            self.admits_inline(ears, order)?
        } else {
            true
        };
        if !is_good {
            return Err(refused);
        }
        self.known.sift(&mut opened);
        Ok(opened)
    }

    /// Checks the signatures of frames that are otherwise sound.
    fn judge(&self, ears: &Ears, opened: Vec<Opened>) -> Vec<Result<Heard, HearError>> {
        let names = opened.iter().map(|one| Known::names(one.checks()));
        let names: Vec<_> = names.collect();
        let judged = ears.judge(opened);
        let sound = names.into_iter().zip(&judged);
        let sound = sound.filter(|(_, heard)| heard.is_ok());
        self.known.note(sound.flat_map(|(names, _)| names));
        judged
    }

    fn admits(&self, batch: &CheckedBatch) -> bool {
        batch.groups.iter().all(|group| self.admits_group(group))
    }

    fn admits_group(&self, group: &Group) -> bool {
        let mut transactions = group.transactions.iter();
        transactions.all(|one| self.check(&one.operation).is_ok())
    }

    /// Whether the bytes are an operation of the ledger itself or of the application.
    fn check(&self, operation: &[u8]) -> Result<(), String> {
        if register::is_own(operation) {
            let read = register::Operation::from_bytes(operation);
            return read.map(|_| ()).map_err(|error| error.to_string());
        }
        self.application
            .check(operation)
            .map_err(|error| error.reason)
    }

    /// Batches that ride in a proposal are checked as those that travel alone.
    fn admits_inline(&self, ears: &Ears, order: &fsm::Message) -> Result<bool, HearError> {
        let (fsm::Message::Propose(_, payload)
        | fsm::Message::Decision(_, payload)
        | fsm::Message::Payload(_, payload)) = order
        else {
            return Ok(true);
        };
        let proposal = Proposal::from_bytes(&payload.bytes)?;
        for batch in proposal.body.batches() {
            if let BatchRef::Inline(bytes) = batch {
                let (chain, bounds) = (ears.view.chain(), &ears.bounds);
                let (batch, _) = CheckedBatch::decode(bytes.clone(), chain, bounds)?;
                if !self.admits(&batch) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Decodes a group and checks everything but its signature.
    fn open_group(&self, signed: &SignedGroup) -> Result<(Group, Check), Refused> {
        let ears = self.ears();
        let transactions = signed.transactions(&ears.bounds)?;
        for one in &transactions {
            let checked = self.check(&one.operation);
            checked.map_err(|reason| Refused::Operation {
                sequence: one.sequence,
                reason,
            })?;
        }
        let group = Group {
            client: signed.client,
            digest: signed.digest(),
            transactions,
        };
        Ok((group, signed.check(ears.view.chain())))
    }
}

/// Where frames and submissions go in.
pub(crate) struct Hearing {
    votes: Vec<SyncSender<Inbound>>,
    bulk: Vec<SyncSender<Inbound>>,
    submissions: SyncSender<Submission>,
}

impl Hearing {
    /// Starts `threads` threads for each of votes, bulk and submissions. They end when this and
    /// every sender of submissions are dropped, or the replica is gone.
    ///
    /// Errors: the system gave no thread.
    pub(crate) fn start(
        checks: &Arc<Checks>,
        waiters: &Arc<Waiters>,
        inbox: &Ringing<Inputs>,
        threads: usize,
    ) -> std::io::Result<Self> {
        let mut lanes = [Vec::new(), Vec::new()];
        for (lane, senders) in ["votes", "bulk"].into_iter().zip(&mut lanes) {
            for number in 0..threads {
                let (sender, frames) = sync_channel(FRAMES_MAX);
                let (checks, inbox) = (Arc::clone(checks), inbox.clone());
                let name = format!("ear-{lane}-{number}");
                let listen = move || listen(&checks, &frames, &inbox);
                thread::Builder::new().name(name).spawn(listen)?;
                senders.push(sender);
            }
        }
        let (submissions, waiting) = sync_channel(SUBMISSIONS_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads {
            let (checks, inbox) = (Arc::clone(checks), inbox.clone());
            let (waiters, waiting) = (Arc::clone(waiters), Arc::clone(&waiting));
            let name = format!("ear-clients-{number}");
            let admit = move || admit(&checks, &waiting, &waiters, &inbox);
            thread::Builder::new().name(name).spawn(admit)?;
        }
        let [votes, bulk] = lanes;
        Ok(Self {
            votes,
            bulk,
            submissions,
        })
    }

    /// Takes a frame in; waits while the member's queue is full. For the network's threads.
    pub(crate) fn hear(&self, frame: Inbound) {
        let ears = match frame.lane {
            Lane::Votes => &self.votes,
            Lane::Bulk => &self.bulk,
        };
        // One member's frames of one lane always meet the same thread, so they keep their order.
        let place = usize::from(frame.from.as_bytes()[0]) % ears.len();
        // At the end of the process nobody listens, and a frame is a loss that protocols bear.
        ears[place].send(frame).ok();
    }

    /// Where submissions go in.
    pub(crate) fn submissions(&self) -> Gate {
        Gate(self.submissions.clone())
    }
}

/// The door for clients' groups.
#[derive(Clone)]
pub(crate) struct Gate(SyncSender<Submission>);

impl Gate {
    /// Takes a group in, or answers that there is no room.
    pub(crate) fn submit(&self, submission: Submission) {
        if let Err(refused) = self.0.try_send(submission) {
            let (submission, why) = match refused {
                TrySendError::Full(submission) => (submission, Refused::BUSY),
                TrySendError::Disconnected(submission) => (submission, Refused::Ending),
            };
            submission.reply.send(Err(why)).ok();
        }
    }
}

fn listen(checks: &Checks, frames: &Receiver<Inbound>, inbox: &Ringing<Inputs>) {
    while let Ok(first) = frames.recv() {
        let more = frames.try_iter().take(FRAMES_AT_ONCE - 1);
        let ears = checks.ears();
        let (mut senders, mut opened) = (Vec::new(), Vec::new());
        let mut refused: Vec<Command> = Vec::new();
        for frame in std::iter::once(first).chain(more) {
            let from = MemberId(frame.from);
            match checks.open(&ears, &from, &frame.payload) {
                Ok(one) => {
                    senders.push((from, frame.payload));
                    opened.push(one);
                }
                Err(error) => refused.extend(refuse(checks, &ears, (&from, &frame.payload), error)),
            }
        }
        let mut inputs = Vec::with_capacity(opened.len() + refused.len());
        for ((from, frame), judged) in senders.into_iter().zip(checks.judge(&ears, opened)) {
            match judged {
                Ok(message) => inputs.push(Input::Message { from, message }),
                Err(error) => refused.extend(refuse(checks, &ears, (&from, &frame), error)),
            }
        }
        inputs.extend(refused.into_iter().map(Input::Command));
        if !inputs.is_empty() && inbox.send(inputs).is_err() {
            return;
        }
    }
}

/// Drops a frame; gives what the replica learns from it: whom it convicts, or who stands in another
/// view than we.
fn refuse(
    checks: &Checks,
    ears: &Ears,
    (from, frame): (&MemberId, &[u8]),
    error: HearError,
) -> Option<Command> {
    tracing::debug!(%from, %error, "a frame was dropped");
    if let HearError::OtherView { got } = error {
        return Some(Command::Elsewhere(*from, got));
    }
    if error.is_innocent() {
        return None;
    }
    checks.dropped.count(from);
    ears.convict(frame, &error).map(Command::Accuse)
}

fn admit(
    checks: &Checks,
    waiting: &Mutex<Receiver<Submission>>,
    waiters: &Waiters,
    inbox: &Ringing<Inputs>,
) {
    while let Some(submissions) = next_submissions(waiting) {
        let mut opened = Vec::new();
        let mut signatures = Vec::new();
        for submission in submissions {
            match checks.open_group(&submission.group) {
                Ok((group, check)) => {
                    opened.push((submission, group));
                    signatures.push(check);
                }
                Err(refused) => {
                    submission.reply.send(Err(refused)).ok();
                }
            }
        }
        let ears = checks.ears();
        let verifier = &ears.verifier;
        let all = verifier.all_valid(&signatures);
        let mut inputs: Inputs = Vec::with_capacity(opened.len());
        for ((submission, group), check) in opened.into_iter().zip(&signatures) {
            if !all && !verifier.is_valid(&check.key, &check.statement, &check.signature) {
                submission.reply.send(Err(Refused::BadSignature)).ok();
                continue;
            }
            let (signed, promise) = (submission.group, submission.promise);
            if waiters.wait(&group, promise, submission.reply) {
                let checked = Verified::vouch((signed, group));
                inputs.push(Input::Command(Command::Submit(checked)));
            }
        }
        if !inputs.is_empty() && inbox.send(inputs).is_err() {
            return;
        }
    }
}

/// Waits for submissions and takes what is there; whoever waits holds the others up, who would
/// find nothing. Nothing at the end.
fn next_submissions(waiting: &Mutex<Receiver<Submission>>) -> Option<Vec<Submission>> {
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let first = waiting.recv().ok()?;
    let more = waiting.try_iter().take(SIGNATURES_AT_ONCE - 1);
    Some(std::iter::once(first).chain(more).collect())
}
