//! What a member remembers of its own signatures, to tell whether its log was rolled back.
//!
//! Source: the rule against amnesia in `ARCHITECTURE.md`. In: a voter as its log made it, votes of
//! its own that others hold. Out: whether the log knows them.
//! Holds: votes leave only when durable, so a log that was not rolled back knows every vote that
//! anybody holds: nothing is called unknown that a certificate settled, that was forgotten behind
//! one, or that a later regency replaced.
//! Elsewhere: who is asked and when (`fsm::recall`).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Ballot, Height, Kind, Lock, Promise, Regency, Seat, StopData, Vote, Voter};
use crate::crypto::Digest;

/// Something that a member signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Promised {
    /// A vote.
    Vote(Ballot),
    /// A STOP-DATA for a regency.
    StopData(Regency),
}

impl fmt::Display for Promised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Promised::Vote(ballot) => {
                let (name, regency) = (ballot.kind.name(), ballot.regency);
                write!(f, "a {name} of ours at height {}", ballot.height)?;
                match ballot.kind {
                    Kind::Persist => Ok(()),
                    Kind::Propose | Kind::Write | Kind::Accept => {
                        write!(f, " in regency {regency}")
                    }
                }
            }
            Promised::StopData(regency) => write!(f, "a STOP-DATA of ours for regency {regency}"),
        }
    }
}

/// Proof that a member's log was rolled back: it lacks what the member signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lapse {
    /// Who holds it.
    pub holder: Seat,
    /// What was signed.
    pub promise: Promised,
}

/// What a voter knew of its own signatures at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Below it everything is settled.
    floor: Height,
    installed: Regency,
    heights: BTreeMap<Height, Promise>,
    sealed: BTreeMap<Height, Digest>,
    stopped: Option<StopData>,
}

impl Memory {
    /// What `voter` knows, where a block certificate that it holds settles every height up to
    /// `certified`.
    pub fn of(voter: &Voter, certified: Height) -> Self {
        Self {
            floor: voter.floor().max(certified.next()),
            installed: voter.installed(),
            heights: voter.promises().map(|(h, p)| (h, p.clone())).collect(),
            sealed: voter.seals().collect(),
            stopped: voter.stop_data().map(|(data, _)| data.clone()),
        }
    }

    /// Whether `vote`, which bears our own signature, is known or settled.
    pub fn knows(&self, vote: &Vote) -> bool {
        let ballot = vote.ballot;
        if ballot.height < self.floor {
            return true;
        }
        let promise = self.heights.get(&ballot.height);
        let newest = match ballot.kind {
            Kind::Propose => promise.and_then(|promise| promise.proposed),
            Kind::Write => promise.and_then(|promise| promise.written),
            Kind::Accept => promise
                .and_then(|promise| promise.lock.as_ref())
                .map(|c| Lock {
                    regency: c.ballot.regency,
                    digest: c.ballot.digest,
                }),
            Kind::Persist => self.sealed.get(&ballot.height).map(|digest| Lock {
                regency: Regency(0),
                digest: *digest,
            }),
        };
        let named = Lock {
            regency: ballot.regency,
            digest: ballot.digest,
        };
        newest.is_some_and(|own| own == named || own.regency > named.regency)
    }

    /// Whether `data`, which bears our own signature, is known or of a regency that ended.
    pub fn knows_stop_data(&self, data: &StopData) -> bool {
        data.regency < self.installed || self.stopped.as_ref() == Some(data)
    }
}
