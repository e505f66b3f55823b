//! Why an operation of the ledger did nothing.
//!
//! Source: `docs/formats.md`, 'Operations of the ledger'. In: codes of outcomes. Out: a name and a
//! sentence for each.
//! Holds: codes start at 256, above those of applications, and never change their meaning; whatever
//! is refused changed nothing. Elsewhere: who refuses (`act`).

use serde::{Deserialize, Serialize};

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why an operation was refused. Its signer is at fault; nothing changed.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
            thiserror::Error,
        )]
        #[serde(rename_all = "snake_case")]
        #[repr(u16)]
        pub enum Refusal {
            $($(#[$doc])* #[error($text)] $name = $code,)*
        }

        impl Refusal {
            /// Every refusal, by code.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$name,)*];
        }
    };
}

refusals! {
    /// Not in the format, or out of a bound.
    Malformed = 256, "these bytes are no operation of the ledger";
    /// Only a listed member may do this.
    NotListed = 257, "the signer is no listed member";
    /// It asked to leave before.
    Leaving = 258, "the member is leaving";
    /// It is excluded.
    Excluded = 259, "the member is excluded";
    /// The member named is not listed.
    NoMember = 260, "no such member is listed";
    /// It is a member.
    AlreadyListed = 261, "this identity key is a listed member's already";
    /// It was invited.
    AlreadyInvited = 262, "this identity key is invited already: its holder may join";
    /// A consensus key must be nobody else's, and no identity key.
    KeyUsed = 263, "this key is in use already";
    /// A signature of the proof does not hold.
    BadProof = 264, "the proofs of the consensus key do not hold for this chain and identity";
    /// There is none, or it is over.
    NoBallot = 265, "no such ballot is open";
    /// A vote is final.
    AlreadyVoted = 266, "this member has voted on it already";
    /// A bound of the register is reached.
    Full = 267, "there is no room: the register keeps its bounds";
    /// Votes of one member that wait for others are bounded.
    TooManyBallots = 268, "this member has as many open ballots as one may have";
    /// Without it nobody could be drawn.
    LastMember = 269, "nobody would be left to draw a committee from";
    /// It would change nothing.
    NoChange = 270, "it is so already";
    /// A weight is at most 256.
    BadWeight = 271, "a weight is 0 to 256";
    /// Evidence that proves nothing in the present view.
    BadEvidence = 272, "the evidence convicts nobody in the present view";
    /// No recent block has that digest.
    BadMark = 273, "no recent block of that height has this digest";
    /// It has no consensus key yet.
    NoKey = 274, "the member has no consensus key: it must rejoin with one";
    /// The rules make no committee.
    BadRules = 275, "no committee can be drawn under these parameters";
    /// Any client may submit.
    ClientsOpen = 276, "any client may submit on this ledger: there is no list to change";
    /// Who is about to be excluded or replaced may not slip away.
    UnderBallot = 277, "a ballot to exclude or replace this member is open";
    /// No part of it is taken now, or it gave that part before.
    NotAsked = 280, "no key generation waits for this part of this member";
    /// Fresh keys come with seats.
    NoSeat = 278, "the member has no seat in the present view";
}

impl Refusal {
    /// The code of its outcome.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The refusal of that code.
    pub fn of(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.code() == code)
    }
}
