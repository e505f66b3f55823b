//! Why a verb did not do what it was asked, and what to type next.
//!
//! Source: `docs/cli.md`. In: errors of every module. Out: lines on standard error, an exit code.
//! Holds: each says what happened, why, and the next step; no secret stands in one.
//! Elsewhere: usage errors, which clap words.

use std::fmt;
use std::io;
use std::path::Path;

use crate::client::ClientError;

/// What the shell is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Refused, absent or failed.
    Refused = 1,
    /// The words make no sense together.
    Usage = 2,
    /// No answer in time.
    TimedOut = 3,
    /// Something is not what it says it is.
    Violation = 4,
}

/// A verb that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the shell is told.
    pub(crate) exit: Exit,
    /// What happened and why; empty where standard output was closed: nobody reads.
    pub(crate) what: String,
    /// What to do next.
    pub(crate) next: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl fmt::Display, next: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.to_string(),
            next: next.into(),
        }
    }

    pub(crate) fn refused(what: impl fmt::Display, next: impl Into<String>) -> Self {
        Self::new(Exit::Refused, what, next)
    }

    pub(crate) fn usage(what: impl fmt::Display, next: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, next)
    }

    pub(crate) fn violation(what: impl fmt::Display, next: impl Into<String>) -> Self {
        Self::new(Exit::Violation, what, next)
    }

    /// A file that cannot be read or written.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        let next = if error.kind() == io::ErrorKind::NotFound {
            "check the path"
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            "check who owns it and its mode"
        } else {
            "check the disk and the path"
        };
        Self::refused(format!("{}: {error}", path.display()), next)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::refused("", "");
        }
        Self::refused(format!("output: {error}"), "check the disk")
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (exit, next) = match &error {
            ClientError::TimedOut { .. } => (
                Exit::TimedOut,
                "consortium status shows who answers; the same --id sends the same bytes again",
            ),
            ClientError::Unreachable { .. } => (
                Exit::Refused,
                "consortium status shows who answers; is the ledger started?",
            ),
            ClientError::Unproved { .. } => (
                Exit::Violation,
                "ask another member, and check that --genesis is of this ledger",
            ),
            ClientError::OtherChain { .. } => (
                Exit::Refused,
                "check --genesis, --api and --dir: they must be of one ledger",
            ),
            ClientError::Home { .. } => (Exit::Refused, "check $CONSORTIUM_HOME"),
            ClientError::Refused { problem } => {
                let next = if problem.help.is_empty() {
                    "consortium status shows the ledger's state".to_owned()
                } else {
                    problem.help.to_string()
                };
                return Self::refused(&error, next);
            }
            ClientError::Conflict => (
                Exit::Refused,
                "choose another --id: this one stands for another operation",
            ),
            ClientError::TooLong { .. } => (Exit::Usage, "split it into several operations"),
            ClientError::Malformed { .. } => (
                Exit::Refused,
                "the member speaks another version: compare consortium status",
            ),
            ClientError::Closed => (Exit::Refused, "the client was shut down"),
        };
        Self::new(exit, error, next)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if self.next.is_empty() {
            return Ok(());
        }
        write!(f, "\n  next: {}", self.next)
    }
}
