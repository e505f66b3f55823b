//! Why a submission or a read gave no answer.
//!
//! Source: `docs/cli.md`. In: what members said. Out: [`ClientError`].
//! Holds: `TimedOut` alone leaves open whether the transaction executes; sending it again is safe.
//! Elsewhere: what a member says (`api::problem`).

use std::path::PathBuf;

use crate::api::Problem;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nobody's fault for certain; it may still execute, and the same bytes may be sent again.
    #[error("no answer within {after_ms} ms; last heard: {last}")]
    TimedOut {
        /// How long was waited.
        after_ms: u64,
        /// What the members said last.
        last: String,
    },
    /// No member was reached; nothing was taken in.
    #[error("no member answers: {reason}")]
    Unreachable {
        /// What the attempts met.
        reason: String,
    },
    /// Enough members refuse it that one of them is right; the caller is at fault.
    #[error("refused: {}", problem.message)]
    Refused {
        /// What they say.
        problem: Problem,
    },
    /// The id or sequence stands for another operation, which stays as it is.
    #[error("another operation has this id")]
    Conflict,
    /// A member's answer does not hold under the genesis document: the member is faulty, or the
    /// document is of another ledger.
    #[error("the answer is not proved: {reason}")]
    Unproved {
        /// What does not hold.
        reason: String,
    },
    /// The member serves another ledger than the one asked for.
    #[error("{place} serves another ledger: {got}, expected {want}")]
    OtherChain {
        /// The member's address.
        place: String,
        /// Its chain.
        got: String,
        /// The chain expected.
        want: String,
    },
    /// The operation is over the ledger's bound, or the id over ours; nothing was sent.
    #[error("{what} of {bytes} bytes, at most {most} are allowed")]
    TooLong {
        /// Of what.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// The answer is not in the format: the member is faulty or of another version.
    #[error("{place} gave an answer that cannot be read: {reason}")]
    Malformed {
        /// The member's address.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A key or id cannot be kept in the client's home; nothing was sent.
    #[error("{path}: {reason}", path = path.display())]
    Home {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The client was dropped while the submission waited.
    #[error("the client was shut down")]
    Closed,
}
