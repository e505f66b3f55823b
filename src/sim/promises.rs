//! Promises: what each member signed over all its lives.
//!
//! Source: the voter's rules. In: votes that leave correct members. Out: the first contradiction.
//! Holds: one digest per member, kind, regency and height, whatever power loss lay between.
//! Elsewhere: the code that keeps it (`committee::voter`), what others make of a contradiction
//! (`fsm`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::committee::{Ballot, Height, Kind, Regency, Seat};
use crate::consortium::Message;
use crate::crypto::Digest;
use crate::fsm;

/// What was signed.
#[derive(Default)]
pub(super) struct Promises {
    signed: BTreeMap<(Height, Regency, Kind, usize), Digest>,
}

impl Promises {
    /// A correct member in `seat` sends `message`; how that contradicts what it sent before. What
    /// others signed it may hand on.
    pub(super) fn note(
        &mut self,
        member: usize,
        seat: Option<Seat>,
        message: &Message,
    ) -> Option<String> {
        let (Message::Order(fsm::Message::Propose(vote, _) | fsm::Message::Vote(vote))
        | Message::Persist(vote)) = message
        else {
            return None;
        };
        if Some(vote.seat) != seat {
            return None;
        }
        let Ballot {
            kind,
            regency,
            height,
            digest,
            ..
        } = vote.ballot;
        match self.signed.entry((height, regency, kind, member)) {
            Entry::Occupied(before) if *before.get() != digest => Some(format!(
                "member {member} signs two digests: {kind:?} of {height} in {regency}"
            )),
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(digest);
                None
            }
        }
    }
}
