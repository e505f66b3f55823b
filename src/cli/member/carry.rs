//! Carries an operation of the ledger out, and says what became of it.
//!
//! Source: `docs/formats.md`, operations of the ledger. In: an operation, the folders of those who
//! may sign it. Out: what it did, or why it is refused.
//! Holds: a change that waits for others' votes says how many; a refusal says what to do next.
//! Elsewhere: which operation a verb means (`member`).

use std::path::PathBuf;

use bytes::Bytes;
use serde::Serialize;

use super::super::failure::Failure;
use super::super::output::{pairs, say};
use super::super::seam;
use super::super::target::Targets;
use crate::api::{Encoding, Outcome, Submitted, Wait};
use crate::client::Options;
use crate::committee::Height;
use crate::crypto::{Digest, SecretKey};
use crate::membership::register::{Done, Operation, Refusal};

/// What became of a change.
#[derive(Serialize)]
pub(crate) struct Told {
    operation: &'static str,
    /// `done`, `open` or `fell`.
    pub(super) result: &'static str,
    pub(crate) height: Height,
    ballot: Option<Digest>,
    approvals: Option<u32>,
    votes_needed: Option<u32>,
}

/// Each key in turn submits the operation, until it holds or everybody has said it.
pub(crate) async fn submit(
    targets: &Targets,
    folders: &[PathBuf],
    operation: &Operation,
) -> Result<Told, Failure> {
    let mut told = None;
    let mut refused = None;
    for folder in folders {
        let secret = seam::identity(folder)?;
        let submitted = submit_one(targets, secret, operation).await?;
        match outcome(&submitted)? {
            Ok(done) => {
                let is_over = !matches!(done, Done::Open { .. });
                told = Some(Told::of(operation, submitted.height, &done));
                if is_over {
                    break;
                }
            }
            Err(refusal) => {
                // One of several may have voted before, or have no vote.
                if folders.len() > 1 {
                    say(format!("{}: {refusal}", folder.display()));
                }
                refused = Some(refusal);
            }
        }
    }
    match (told, refused) {
        (Some(told), _) => Ok(told),
        (None, Some(refusal)) => Err(Failure::refused(refusal, next_of(operation, refusal))),
        (None, None) => Err(Failure::usage("nobody could sign", "give --dir MEMBER_DIR")),
    }
}

async fn submit_one(
    targets: &Targets,
    secret: SecretKey,
    operation: &Operation,
) -> Result<Submitted, Failure> {
    let options = Options {
        limit: targets.limit,
        ..Options::default()
    };
    let client = targets.client_of(secret, options).await?;
    let bytes = Bytes::from(operation.to_bytes());
    Ok(client.submit(bytes, Wait::Durable).await?)
}

/// What a submission did, or why it was refused.
fn outcome(submitted: &Submitted) -> Result<Result<Done, Refusal>, Failure> {
    let unreadable = || {
        Failure::refused(
            "the ledger's answer is not one of this program's",
            "is the member of the same version? consortium status",
        )
    };
    let Outcome {
        code,
        value,
        encoding,
    } = submitted.result.as_ref().ok_or_else(unreadable)?;
    if *code != 0 {
        return Refusal::of(*code).map(Err).ok_or_else(unreadable);
    }
    let bytes = match encoding {
        Encoding::Hex => hex::decode(value).ok(),
        Encoding::Utf8 => Some(value.as_bytes().to_vec()),
    };
    let done = bytes.and_then(|bytes| Done::from_bytes(&bytes));
    done.map(Ok).ok_or_else(unreadable)
}

fn next_of(operation: &Operation, refusal: Refusal) -> &'static str {
    if *operation == Operation::Renew && refusal == Refusal::NoChange {
        return "it asked in this view before: the fresh key comes with the next view";
    }
    match refusal {
        Refusal::NotListed => "sign with a listed member's folder: --dir MEMBER_DIR",
        Refusal::NoBallot | Refusal::NoMember | Refusal::AlreadyVoted | Refusal::NoChange => {
            "consortium member list shows how things stand"
        }
        Refusal::BadMark => "wait until the member has caught up, and try again",
        Refusal::BadProof | Refusal::KeyUsed => {
            "are --dir and the ledger those that were meant? consortium key show --dir DIR"
        }
        Refusal::Malformed => {
            "a name has 1 to 64 bytes, an address no spaces, tags are lower-case words"
        }
        Refusal::NoSeat => "its key comes with its seat; consortium member list shows who has one",
        Refusal::NoKey => "consortium rejoin --dir MEMBER_DIR makes one and asks for a seat",
        Refusal::BadWeight => "give a weight of 0 to 256; 0 keeps a member without a seat",
        Refusal::BadRules => "consortium member list -o json has the present ones in 'parameters'",
        Refusal::ClientsOpen => {
            "the genesis document of a ledger says who may submit: init --client"
        }
        Refusal::BadEvidence => {
            "evidence counts in the view that it is of, while the accused sits there: member list"
        }
        Refusal::Leaving
        | Refusal::Excluded
        | Refusal::AlreadyListed
        | Refusal::AlreadyInvited
        | Refusal::Full
        | Refusal::TooManyBallots
        | Refusal::LastMember
        | Refusal::UnderBallot
        | Refusal::NotAsked => "consortium member log shows what led here",
    }
}

impl Told {
    fn of(operation: &Operation, height: Height, done: &Done) -> Self {
        let (result, open) = match *done {
            Done::Effective => ("done", None),
            Done::Fell => ("fell", None),
            Done::Open {
                ballot,
                approvals,
                needed,
            } => ("open", Some((ballot, approvals, needed))),
        };
        Self {
            operation: operation.name(),
            result,
            height,
            ballot: open.map(|(ballot, ..)| ballot),
            approvals: open.map(|(_, approvals, _)| approvals),
            votes_needed: open.map(|(.., needed)| needed),
        }
    }

    pub(super) fn table(&self) -> String {
        let number = |value: Option<u32>| value.map_or_else(|| "-".into(), |n| n.to_string());
        let mut rows = vec![
            ("operation", self.operation.to_owned()),
            ("result", self.result.to_owned()),
            ("height", self.height.to_string()),
        ];
        if let Some(ballot) = self.ballot {
            rows.push(("ballot", ballot.to_string()));
            rows.push(("approvals", number(self.approvals)));
            rows.push(("needed", number(self.votes_needed)));
        }
        pairs(&rows)
    }
}
