//! Planted bugs: what the simulator must find.
//!
//! Source: the bugs that a model of the ordering rules showed to break them, and those of the
//! field. In: the bug that this thread's world is to have. Out: whether a line behaves
//! as the bug would.
//! Holds: without the feature `plants`, which no build that ships has, [`is`] is a constant and no
//! bug is compiled in. Elsewhere: who plants (`sim`), what finds them (`docs/figures.md`).

/// Declares the bugs: one line each, with the rule that it breaks.
macro_rules! plants {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Plant {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Plant {
            /// Every bug.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name, as `simulate --plant` takes it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

plants! {
    /// A certificate is thought to need one signature less.
    SmallQuorum = "small-quorum",
    /// ACCEPT is signed for the leader's proposal without a WRITE certificate.
    BlindAccept = "blind-accept",
    /// A lock is lost in a crash.
    LockLost = "lock-lost",
    /// The installed regency is forgotten in a crash.
    RegencyForgotten = "regency-forgotten",
    /// A SYNC binds a height to the lock of the lowest regency.
    LowestLock = "lowest-lock",
    /// A lock is believed without its certificate.
    UnprovedLock = "unproved-lock",
    /// A SYNC may hold one STOP-DATA less than n − f.
    ShortSync = "short-sync",
    /// What a SYNC bound is ignored by the leader and by those who write.
    BoundIgnored = "bound-ignored",
    /// After a crash a second WRITE is signed in the same regency.
    WriteTwice = "write-twice",
    /// A STOP-DATA for one regency counts for another.
    StopDataReused = "stop-data-reused",
    /// A certificate of a lower regency replaces a higher lock.
    LockLowered = "lock-lowered",
    /// The bytes that a WRITE names become durable only with the ACCEPT.
    LateBytes = "late-bytes",
    /// A decision is thought to prove the heights below it.
    DecisionProvesBelow = "decision-proves-below",
    /// A vote leaves before it is durable.
    EagerVote = "eager-vote",
    /// A regency change drops what the old leader had proposed from the pool.
    WorkDropped = "work-dropped",
    /// The timeout never grows.
    FlatTimeout = "flat-timeout",
    /// STOP is said once and never again, though it may be lost.
    StopOnce = "stop-once",
    /// One STOP makes everybody join.
    EagerJoin = "eager-join",
    /// A used sequence is forgotten at once, so a group executes twice.
    SequenceForgotten = "sequence-forgotten",
    /// A group executes after its expiry.
    ExpiryIgnored = "expiry-ignored",
    /// A member's results depend on who it is.
    OwnResults = "own-results",
    /// After a restart a member votes without asking what it signed before.
    NoQuestion = "no-question",
    /// PERSIST is signed before the block is durable.
    EagerPersist = "eager-persist",
    /// A payload or a batch that got lost is never asked for.
    NoFetch = "no-fetch",
    /// Heights far ahead are kept without a bound.
    NoWindow = "no-window",
    /// A vote counts though its signature does not hold.
    UncheckedVote = "unchecked-vote",
    /// A key for another call counts.
    AnyCall = "any-call",
    /// A leader orders a view with one fresh key less than n − f.
    FewFreshKeys = "few-fresh-keys",
    /// A reconfiguration ends the view though it lists others than were listed.
    AnyList = "any-list",
    /// A reconfiguration ends the view though it answers an earlier call.
    AnyAssemble = "any-assemble",
    /// A member goes on signing behind the certificate that ended its view.
    EndIgnored = "end-ignored",
    /// A newcomer takes a segment though it is not what the manifest names.
    AnySegment = "any-segment",
    /// A newcomer believes an anchor though its header is not the one that was signed.
    AnyAnchor = "any-anchor",
    /// A member fetches a checkpoint where a single one says that it is the shorter way.
    LoneHint = "lone-hint",
    /// Who said that a checkpoint is the shorter way counts, though the member is past it.
    PassedHint = "passed-hint",
}

impl std::str::FromStr for Plant {
    type Err = UnknownPlant;

    fn from_str(name: &str) -> Result<Self, UnknownPlant> {
        let found = Self::ALL.iter().find(|plant| plant.name() == name);
        found.copied().ok_or(UnknownPlant)
    }
}

/// A name that no bug has. The caller's input is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no planted bug has that name; there are {}", names())]
pub struct UnknownPlant;

fn names() -> String {
    let names: Vec<&str> = Plant::ALL.iter().map(|plant| plant.name()).collect();
    names.join(", ")
}

#[cfg(feature = "plants")]
mod planted {
    use std::cell::Cell;

    thread_local! {
        /// Worlds run one to a thread, so a world's bug is its thread's.
        pub(super) static PLANTED: Cell<Option<super::Plant>> = const { Cell::new(None) };
    }
}

/// Whether this thread's world has the bug; always false without the feature `plants`.
#[cfg(feature = "plants")]
pub(crate) fn is(plant: Plant) -> bool {
    planted::PLANTED.get() == Some(plant)
}

/// Whether this thread's world has the bug; always false without the feature `plants`.
#[cfg(not(feature = "plants"))]
#[inline(always)]
pub(crate) const fn is(_: Plant) -> bool {
    false
}

/// Gives this thread's world a bug, or takes it away; without the feature `plants` there is none.
pub(crate) fn plant(plant: Option<Plant>) {
    #[cfg(feature = "plants")]
    planted::PLANTED.set(plant);
    #[cfg(not(feature = "plants"))]
    assert!(
        plant.is_none(),
        "bugs are planted with the feature `plants` only"
    );
}
