//! The `certified` engine: the committee's certificate is final.
//!
//! Source: `ARCHITECTURE.md`, group-wide consensus. In: certificates that the host has checked.
//! Out: the newest, at once; it covers every lower place, since it certifies all below it.
//! Holds: emitted places only rise; two digests at one place end the view, and nothing is emitted
//! behind that.
//! Elsewhere: the check of a certificate, how blocks reach everybody (`consortium`).
//!
//! It sends nothing. It journals nothing but the proof of a dead view: the host holds each
//! certificate that it emitted durably, and names the last one in the setup.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Agreed, Engine, EngineFault, EngineFaultKind, EngineInput, EngineOutput, EnginePlugin,
    EngineRoles, EngineSetup, Finality, Item, JournalRecord, MakeError, Mark,
};
use crate::blocks::codec;
use crate::crypto::Digest;
use crate::machine::Time;

/// Bytes of one payload, at most; a longer one is ignored. A certificate of 256 seats has 17 KiB.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// Emitted places whose digests are remembered to notice a second one; older ones are forgotten,
/// and what comes for them is taken as covered.
pub const RECENT_PLACES_MAX: usize = 64;

/// The registry's entry.
pub(super) static PLUGIN: EnginePlugin = EnginePlugin {
    name: "certified",
    about: "the committee's certificate is final",
    roles: EngineRoles {
        gates_group: true,
        orders_committee: false,
    },
    finality: |_| Finality::Certificate,
    make: |setup| Ok(Box::new(Certified::new(&setup)?)),
};

/// Evidence of a dead view: two payloads of different digests at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Where.
    pub place: u64,
    /// What was emitted first, which stays.
    pub emitted: Digest,
    /// Its payload; empty when it was emitted before the last start: the host holds it.
    pub emitted_payload: Bytes,
    /// What came second.
    pub other: Digest,
    /// Its payload.
    pub other_payload: Bytes,
}

impl Conflict {
    /// The evidence of a fault of this engine, or the record it journals.
    ///
    /// Errors: [`codec::DecodeError`] for any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, codec::DecodeError> {
        codec::decode(bytes, 2 * PAYLOAD_BYTES_MAX + 256)
    }
}

/// See the module's head.
struct Certified {
    emitted: Mark,
    recent: BTreeMap<u64, (Digest, Bytes)>,
    /// The view is dead: nothing more is emitted.
    conflict: Option<Bytes>,
    ignored: u64,
}

impl Certified {
    fn new(setup: &EngineSetup) -> Result<Self, MakeError> {
        let is_sorted = setup.participants.is_sorted_by(|a, b| a.id < b.id);
        if !is_sorted {
            return Err(MakeError::Participants);
        }
        for (index, record) in setup.journal.iter().enumerate() {
            Conflict::from_bytes(record).map_err(|_| MakeError::Journal { index })?;
        }
        let mark = setup.emitted;
        Ok(Self {
            emitted: mark,
            recent: BTreeMap::from([(mark.place, (mark.digest, Bytes::new()))]),
            conflict: setup.journal.first().cloned(),
            ignored: 0,
        })
    }

    fn submit(&mut self, item: Item, out: &mut Vec<EngineOutput>) {
        if self.conflict.is_some() || item.payload.len() > PAYLOAD_BYTES_MAX {
            self.ignored += 1;
        } else if item.place > self.emitted.place {
            self.emit(item, out);
        } else {
            let known = self.recent.get(&item.place).cloned();
            match known {
                Some((digest, payload)) if digest != item.digest => {
                    self.die(item, digest, payload, out);
                }
                // A repeat, or covered by what was emitted.
                Some(_) | None => self.ignored += 1,
            }
        }
    }

    fn emit(&mut self, item: Item, out: &mut Vec<EngineOutput>) {
        let from = self.emitted.place.saturating_add(1);
        assert!(from <= item.place, "an emission rises above the last one");
        self.emitted = Mark {
            place: item.place,
            digest: item.digest,
        };
        let remembered = (item.digest, item.payload.clone());
        self.recent.insert(item.place, remembered);
        while self.recent.len() > RECENT_PLACES_MAX {
            self.recent.pop_first();
        }
        out.push(EngineOutput::Emit(Agreed { from, item }));
    }

    fn die(&mut self, item: Item, emitted: Digest, payload: Bytes, out: &mut Vec<EngineOutput>) {
        let conflict = Conflict {
            place: item.place,
            emitted,
            emitted_payload: payload,
            other: item.digest,
            other_payload: item.payload,
        };
        let bytes = Bytes::from(codec::encode(&conflict));
        self.conflict = Some(bytes.clone());
        out.push(EngineOutput::Save(JournalRecord {
            place: u64::MAX,
            bytes,
        }));
        self.tell(out);
    }

    /// Reports the dead view, if it is.
    fn tell(&self, out: &mut Vec<EngineOutput>) {
        let fault = self.conflict.clone().map(|evidence| EngineFault {
            who: None,
            what: EngineFaultKind::DeadView,
            evidence,
        });
        out.extend(fault.map(EngineOutput::Fault));
    }
}

impl Engine for Certified {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }

    fn finality(&self) -> Finality {
        Finality::Certificate
    }

    fn handle(&mut self, _: Time, input: EngineInput, out: &mut Vec<EngineOutput>) {
        match input {
            EngineInput::Start => self.tell(out),
            EngineInput::Submit(item) => self.submit(item, out),
            EngineInput::Message { from, .. } => {
                self.ignored += 1;
                out.push(EngineOutput::Fault(EngineFault {
                    who: Some(from),
                    what: EngineFaultKind::BadMessage,
                    evidence: Bytes::new(),
                }));
            }
            EngineInput::Timer(_) => self.ignored += 1,
        }
    }

    fn ignored(&self) -> u64 {
        self.ignored
    }
}
