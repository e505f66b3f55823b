//! Threads that check signatures: frames of members and groups of clients.
//!
//! Source: `ARCHITECTURE.md`. In: frames in order per member and lane; submissions. Out: checked
//! inputs for the replica, many at a time.
//! Holds: nothing unchecked reaches the replica; what one member sends on one lane keeps its
//! order; every queue has a bound and makes its source wait or gives the work back.
//! Elsewhere: what is checked (`consortium::Ears`, `blocks`), sockets (`net`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::bell::Ringing;
use super::herald::{Promise, Refused, Settlement, Waiters};
use super::known::Known;
use crate::application::Application;
use crate::blocks::{BatchRef, CheckedBatch, Group, Proposal, SignedGroup};
use crate::committee::MemberId;
use crate::consortium::{Command, Consortium, Ears, Fault, HearError, Heard, Opened};
use crate::crypto::{Check, Verified};
use crate::fsm;
use crate::machine::Input;
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

/// Frames that were dropped, by sender.
#[derive(Debug, Default)]
pub(crate) struct Dropped(BTreeMap<MemberId, AtomicU64>);

impl Dropped {
    /// Counts for these members only.
    pub(crate) fn new(members: impl IntoIterator<Item = MemberId>) -> Self {
        Self(members.into_iter().map(|id| (id, 0.into())).collect())
    }

    fn count(&self, from: &MemberId) {
        if let Some(counter) = self.0.get(from) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Frames dropped, by sender.
    pub(crate) fn read(&self) -> impl Iterator<Item = (MemberId, u64)> + '_ {
        self.0
            .iter()
            .map(|(id, counter)| (*id, counter.load(Ordering::Relaxed)))
    }
}

/// What frames and groups are checked against.
pub(crate) struct Checks {
    /// Formats, bounds and signatures.
    pub(crate) ears: Ears,
    /// Operations, by their bytes.
    pub(crate) application: Box<dyn Application>,
    /// Frames that were dropped.
    pub(crate) dropped: Arc<Dropped>,
    /// Signatures that were found to hold.
    pub(crate) known: Known,
}

impl Checks {
    /// Checks a frame but for the signatures that no earlier frame brought.
    fn open(&self, from: &MemberId, frame: &[u8]) -> Result<Opened, HearError> {
        let mut opened = self.ears.open(from, frame)?;
        let refused = HearError::Malformed { what: "operation" };
        let claim = opened.claim();
        let is_good = if let Heard::Batch(batch) = claim {
            self.admits(batch)
        } else if let Heard::Order(order) = claim {
            self.admits_inline(order)?
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
    fn judge(&self, opened: Vec<Opened>) -> Vec<Result<Heard, HearError>> {
        let names = opened.iter().map(|one| Known::names(one.checks()));
        let names: Vec<_> = names.collect();
        let judged = self.ears.judge(opened);
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
        transactions.all(|one| self.application.check(&one.operation).is_ok())
    }

    /// Batches that ride in a proposal are checked as those that travel alone.
    fn admits_inline(&self, order: &fsm::Message) -> Result<bool, HearError> {
        let (fsm::Message::Propose(_, payload)
        | fsm::Message::Decision(_, payload)
        | fsm::Message::Payload(_, payload)) = order
        else {
            return Ok(true);
        };
        let proposal = Proposal::from_bytes(&payload.bytes)?;
        for batch in proposal.body.batches() {
            if let BatchRef::Inline(bytes) = batch {
                let (chain, bounds) = (self.ears.view.chain(), &self.ears.bounds);
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
        let transactions = signed.transactions(&self.ears.bounds)?;
        for one in &transactions {
            let checked = self.application.check(&one.operation);
            checked.map_err(|error| Refused::Operation {
                sequence: one.sequence,
                reason: error.reason,
            })?;
        }
        let group = Group {
            client: signed.client,
            digest: signed.digest(),
            transactions,
        };
        Ok((group, signed.check(self.ears.view.chain())))
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
        let (mut senders, mut opened) = (Vec::new(), Vec::new());
        let mut convicts: Vec<Fault> = Vec::new();
        for frame in std::iter::once(first).chain(more) {
            let from = MemberId(frame.from);
            match checks.open(&from, &frame.payload) {
                Ok(one) => {
                    senders.push((from, frame.payload));
                    opened.push(one);
                }
                Err(error) => convicts.extend(refuse(checks, &from, &frame.payload, &error)),
            }
        }
        let mut inputs = Vec::with_capacity(opened.len() + convicts.len());
        for ((from, frame), judged) in senders.into_iter().zip(checks.judge(opened)) {
            match judged {
                Ok(message) => inputs.push(Input::Message { from, message }),
                Err(error) => convicts.extend(refuse(checks, &from, &frame, &error)),
            }
        }
        inputs.extend(
            convicts
                .into_iter()
                .map(|f| Input::Command(Command::Accuse(f))),
        );
        if !inputs.is_empty() && inbox.send(inputs).is_err() {
            return;
        }
    }
}

/// Drops a frame; gives whom it convicts.
fn refuse(checks: &Checks, from: &MemberId, frame: &[u8], error: &HearError) -> Option<Fault> {
    checks.dropped.count(from);
    tracing::debug!(%from, %error, "a frame was dropped");
    checks.ears.convict(frame, error)
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
        let verifier = &checks.ears.verifier;
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
