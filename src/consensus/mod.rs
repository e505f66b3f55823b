//! Group-wide consensus as a plug: the [`Engine`] contract, the registry, the engines.
//!
//! Source: `ARCHITECTURE.md`, the plug-ins. In: payloads that the host submits, messages of the
//! other participants, timers. Out: one agreed sequence, journal records, messages.
//! Holds: places are emitted in ascending order, each is covered once, nothing emitted is undone,
//! and nothing is emitted that was not submitted somewhere.
//! Elsewhere: what a payload is (`consortium`), who the participants are (`membership`), the
//! thread that a heavy engine runs on (`node`).
//!
//! An engine is driven like a machine: its outputs are carried out in order and a save is a
//! barrier. What the host made durable tells it where to go on: after a restart it emits again
//! whatever was agreed above [`EngineSetup::emitted`].

mod certified;
pub mod conformance;
mod mod_smart;
mod registry;

use bytes::Bytes;

pub use self::certified::{Conflict, PAYLOAD_BYTES_MAX, RECENT_PLACES_MAX};
pub use self::registry::{EngineRegistration, EngineRegistry, EngineRegistryError, engines};
use crate::committee::MemberId;
use crate::crypto::{Digest, PublicKey, SecretKey, Verifier};
use crate::machine::{Span, Time, To};

/// What is ordered: bytes that mean nothing to the engine, and the digest of what they are about.
///
/// Two payloads of one digest are the same to an engine: a block has one digest and may have
/// several certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where in the sequence: a height.
    pub place: u64,
    /// The digest of what it is about: of the block for a certificate.
    pub digest: Digest,
    /// The bytes.
    pub payload: Bytes,
}

/// What an engine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineInput {
    /// The host is ready to act: begin, or go on behind the journal.
    Start,
    /// The host holds this item, has checked it and wants it agreed.
    Submit(Item),
    /// Another participant said something; `from` is authenticated by the link, the bytes are not
    /// checked.
    Message {
        /// Who sent it.
        from: MemberId,
        /// What it says.
        bytes: Bytes,
    },
    /// A timer that was armed has run out; a late one is harmless.
    Timer(u64),
}

/// What an engine wants done. The driver carries outputs out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineOutput {
    /// Append to the durable journal: nothing behind it leaves before it is durable.
    Save(JournalRecord),
    /// Send to one participant, or to all others with [`To::Members`].
    Send {
        /// Whom to.
        to: To<MemberId>,
        /// What.
        bytes: Bytes,
    },
    /// Run `timer` out after `after`; arming it again replaces it.
    Arm {
        /// What it guards; numbered by the engine.
        timer: u64,
        /// How long from now.
        after: Span,
    },
    /// Forget a timer.
    Cancel(u64),
    /// Agreed, for ever.
    Emit(Agreed),
    /// Somebody broke a rule.
    Fault(EngineFault),
}

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    /// The host may drop the record once it durably holds the emission at this place or a higher
    /// one; `u64::MAX` keeps it for ever.
    pub place: u64,
    /// What the engine wants back at its next start.
    pub bytes: Bytes,
}

/// An emission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The lowest place that this emission covers: one above the last emission's place.
    pub from: u64,
    /// What was agreed; its place is the highest that is covered.
    pub item: Item,
}

/// Misbehaviour that an engine noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineFault {
    /// The participant at fault; none where more than one must be.
    pub who: Option<MemberId>,
    /// What was done.
    pub what: EngineFaultKind,
    /// Bytes that prove it where the kind allows, in the engine's own format; else empty.
    pub evidence: Bytes,
}

/// The kinds of misbehaviour that engines notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EngineFaultKind {
    /// Two items of one place: more than f committee members are faulty, and the view is dead.
    /// The engine emits nothing more.
    DeadView,
    /// A participant contradicted itself.
    Equivocation,
    /// A message that no correct participant sends.
    BadMessage,
}

/// What an emission is worth. Only replies, proofs and bootstrap read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// A certificate proves it to anybody.
    Certificate,
    /// It is wrong with a bounded chance.
    Probabilistic {
        /// An emission is wrong with a chance of at most one in two to this power.
        error_bits: u32,
    },
}

/// Somebody who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Participant {
    /// The member.
    pub id: MemberId,
    /// Its certified consensus key; none makes it a dead participant that still counts.
    pub key: Option<PublicKey>,
}

/// The last emission that the host durably holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its place; 0 is the genesis block.
    pub place: u64,
    /// Its digest.
    pub digest: Digest,
}

/// What an engine is made from.
#[derive(Clone, Debug)]
pub struct EngineSetup {
    /// The chain; everything that an engine signs names it.
    pub chain: Digest,
    /// Who takes part, in ascending order of ids, each once.
    pub participants: Vec<Participant>,
    /// Which of them this is; none watches only.
    pub me: Option<MemberId>,
    /// Its consensus key, for engines that sign.
    pub secret: Option<SecretKey>,
    /// The signature scheme.
    pub verifier: Verifier,
    /// Where all chance comes from; drawn by the driver.
    pub seed: [u8; 32],
    /// The last emission that the host durably holds: the engine emits above it.
    pub emitted: Mark,
    /// Every record that was saved and not dropped, in order.
    pub journal: Vec<Bytes>,
}

/// Why an engine could not be made. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// The genesis document is at fault: this engine is a part of the replica and orders inside
    /// the committee only.
    #[error("engine '{name}' is built into the replica and orders inside the committee only")]
    BuiltIn {
        /// Which engine.
        name: &'static str,
    },
    /// The host is at fault: participants are not in ascending order, each once.
    #[error("participants are not in ascending order of ids, each once")]
    Participants,
    /// The host is at fault: the engine needs what the setup lacks.
    #[error("engine '{name}' needs {what}")]
    Missing {
        /// Which engine.
        name: &'static str,
        /// What it needs.
        what: &'static str,
    },
    /// The disk is at fault: a journal record does not read back.
    #[error("record {index} of the engine's journal does not read back")]
    Journal {
        /// Its place in the journal.
        index: usize,
    },
}

/// Turns submitted items into one sequence that all participants agree on.
pub trait Engine: Send {
    /// The name it is registered under.
    fn name(&self) -> &'static str;

    /// What its emissions are worth.
    fn finality(&self) -> Finality;

    /// Whether it computes for long: then the node drives it on a thread of its own.
    fn is_heavy(&self) -> bool {
        false
    }

    /// Takes one input at `now` and appends what it wants done to `out`.
    ///
    /// It never fails and never blocks: what a participant says wrongly is ignored and counted, or
    /// reported as a fault.
    fn handle(&mut self, now: Time, input: EngineInput, out: &mut Vec<EngineOutput>);

    /// Inputs that it had no use for.
    fn ignored(&self) -> u64;
}

/// What an engine may be chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineRoles {
    /// It gates the committee's blocks for the whole membership.
    pub gates_group: bool,
    /// It orders proposals inside the committee.
    pub orders_committee: bool,
}

/// An engine that a genesis document can name.
#[derive(Debug)]
pub struct EnginePlugin {
    /// Its name: lower-case letters, digits and hyphens.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// What it may be chosen for.
    pub roles: EngineRoles,
    /// What its emissions are worth among so many participants.
    pub finality: fn(usize) -> Finality,
    /// Makes one.
    pub make: fn(EngineSetup) -> Result<Box<dyn Engine>, MakeError>,
}

#[cfg(test)]
mod tests;
