//! The replica: a placeholder until the machine stands here.
//!
//! Source: `ARCHITECTURE.md`. In: inputs. Out: nothing. Holds: nothing.
//! Elsewhere: everything.

use super::contract::{Command, Event, Record, Timer};
use super::message::{Heard, Message};
use crate::blocks::{CheckedBatch, Genesis};
use crate::committee::{Certificate, Height, MemberId, Voter};
use crate::crypto::Verified;
use crate::fsm;
use crate::machine::{Input, Machine, Outbox, Time};

/// Who this replica is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Ourselves.
    pub me: MemberId,
    /// The genesis document.
    pub genesis: Genesis,
    /// Seeds every choice.
    pub seed: u64,
}

/// What the disk had.
#[derive(Debug)]
pub struct Restored {
    /// The ledger at the newest applied block.
    pub ledger: super::Ledger,
    /// The voter, its records applied; none without a seat.
    pub voter: Option<Voter>,
    /// The newest block certificate.
    pub certificate: Option<Certificate>,
    /// Proposals of open heights.
    pub payloads: Vec<(Height, fsm::Payload)>,
    /// Batches that no applied block names.
    pub batches: Vec<Verified<CheckedBatch>>,
}

/// What operators see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// Leader, follower or observer.
    pub role: &'static str,
    /// The state of the normal machine.
    pub state: &'static str,
    /// The height applied last.
    pub height: Height,
}

/// The replica.
#[derive(Debug)]
pub struct Consortium {
    options: Options,
}

impl Consortium {
    /// A replica that goes on from `restored`.
    pub fn new(options: Options, _restored: Restored) -> Self {
        Self { options }
    }

    /// Where it stands.
    pub fn status(&self) -> Overview {
        let _me = self.options.me;
        Overview::default()
    }
}

impl Machine for Consortium {
    type Peer = MemberId;
    type Message = Message;
    type Heard = Heard;
    type Timer = Timer;
    type Command = Command;
    type Record = Record;
    type Event = Event;

    fn handle(&mut self, _now: Time, _input: Input<Self>, _out: &mut Outbox<Self>) {}
}
