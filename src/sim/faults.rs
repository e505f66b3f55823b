//! What may go wrong in a world, by name.
//!
//! Source: the fault matrix of the project. In: names. Out: a set of kinds.
//! Holds: a kind that is taken out leaves the draws of the others as they were, so that a shorter
//! list shows the same history as far as it can. Elsewhere: when and how each strikes (`trouble`),
//! how often (`setting`).

use std::fmt;
use std::str::FromStr;

/// Declares the kinds: one line each, with what it does.
macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Fault {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name, as `simulate --faults` takes it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

faults! {
    /// Frames get lost.
    Loss = "loss",
    /// Frames come twice.
    Duplicate = "duplicate",
    /// Frames overtake each other.
    Reorder = "reorder",
    /// Members are on two sides, and nothing passes between them.
    Partition = "partition",
    /// Frames from one side to the other are lost; back they pass.
    OneWay = "one-way",
    /// One member is cut off, often the leader.
    Isolate = "isolate",
    /// A link fails and stands again, many times.
    Flap = "flap",
    /// A link takes many times as long.
    SlowLink = "slow-link",
    /// A link holds everything back and then delivers it at once.
    Clog = "clog",
    /// A member ends in good order and starts again.
    Restart = "restart",
    /// A member loses power: what is not durable is gone, or a part of it.
    Crash = "crash",
    /// A member stands still and then hears everything at once.
    Pause = "pause",
    /// A member loses power again and again, soon after each start.
    CrashLoop = "crash-loop",
    /// All members lose power at once.
    AllDown = "all-down",
    /// Of what was not synced any records survive a power loss, not only the first.
    Torn = "torn",
    /// A sync fails: the member ends at once, as nobody knows what is on its disk.
    SyncFails = "sync-fails",
    /// A bit of a stored record flips while the member is down.
    BitFlip = "bit-flip",
    /// A disk is full: the member ends at once, and starts when there is room.
    Full = "full",
    /// A disk takes many times as long.
    SlowDisk = "slow-disk",
    /// A wall clock jumps; its member reads it at the next start.
    Jump = "jump",
    /// Clocks run at different speeds.
    Drift = "drift",
    /// At most f members come back with an older copy of their disk.
    Rollback = "rollback",
    /// At most f members do wrong on purpose, each in a way of its own.
    Villains = "villains",
    /// Who locks or decides alone is cut off while the others replace the leader.
    Ambush = "ambush",
    /// A newcomer loses power, or ends, at some step of its bootstrap, and again at another.
    Doom = "doom",
}

/// Kinds of faults that may happen; how often is drawn from the seed, never among it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults(u32);

impl Faults {
    /// Nothing goes wrong.
    pub const fn none() -> Self {
        Self(0)
    }

    /// Everything goes wrong.
    pub const fn all() -> Self {
        Self((1 << Fault::ALL.len()) - 1)
    }

    /// Whether this may happen.
    pub const fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u32 != 0
    }

    /// The same and `fault`.
    pub const fn with(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u32)
    }

    /// The same without `fault`.
    pub const fn without(self, fault: Fault) -> Self {
        Self(self.0 & !(1 << fault as u32))
    }

    /// What may happen.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        let all = Fault::ALL.iter().copied();
        all.filter(move |fault| self.has(*fault))
    }
}

/// Why a text names no faults. The caller's input is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is no fault; there are none, all, {}", names(Faults::all()))]
pub struct ParseFaultsError {
    /// What was not understood.
    name: String,
}

impl FromStr for Faults {
    type Err = ParseFaultsError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut faults = Self::none();
        for name in text.split(',').filter(|name| !name.is_empty()) {
            let known = Fault::ALL.iter().find(|fault| fault.name() == name);
            faults = match (name, known) {
                ("none", _) => Self::none(),
                ("all", _) => Self::all(),
                (_, Some(fault)) => faults.with(*fault),
                (_, None) => {
                    let name = name.chars().take(80).collect();
                    return Err(ParseFaultsError { name });
                }
            }
        }
        Ok(faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            all if all == Self::all() => f.write_str("all"),
            none if none == Self::none() => f.write_str("none"),
            some => f.write_str(&names(some)),
        }
    }
}

fn names(faults: Faults) -> String {
    let names: Vec<&str> = faults.iter().map(Fault::name).collect();
    names.join(",")
}
