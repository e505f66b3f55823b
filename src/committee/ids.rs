//! The names of members, seats, views, regencies and heights.
//!
//! Source: the vocabulary of the project. In: numbers and digests. Out: types that do not mix.
//! Holds: a height is never taken for a regency or a view. Elsewhere: what they count.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::crypto::{Digest, Domain, ParseDigestError, PublicKey};

/// A member: the digest of its identity key.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MemberId(pub Digest);

impl MemberId {
    /// The id of the member that holds `identity`.
    pub fn of(identity: &PublicKey) -> Self {
        Self(Digest::of(Domain::Member, identity.as_bytes()))
    }
}

impl FromStr for MemberId {
    type Err = ParseDigestError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one that follows.
            ///
            /// A count that starts at zero and grows by one never reaches the end of 64 bits; what
            /// a peer sends is bounded before it is stepped, and saturates here all the same.
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// A view: a committee with keys and f, made by a genesis or a reconfiguration block.
    ViewId
}
counter! {
    /// A leader's number inside a view.
    Regency
}
counter! {
    /// A position in the chain; the genesis block stands at 0.
    Height
}

impl Height {
    /// The height `n` above.
    pub const fn plus(self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    /// The height `n` below, not below genesis.
    pub const fn minus(self, n: u64) -> Self {
        Self(self.0.saturating_sub(n))
    }
}

/// A place in a view's committee, counted from 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seat(pub u16);

impl Seat {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
