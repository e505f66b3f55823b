//! Promises: what each member signed over all its lives.
//!
//! Source: the voter's rules. In: votes that leave correct members. Out: the first contradiction.
//! Holds: one digest per member, kind, regency and height, whatever power loss lay between.
//! Elsewhere: the code that keeps it (`committee::voter`), what others make of a contradiction
//! (`fsm`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::committee::{Ballot, Height, Kind, Regency, Seat, ViewId};
use crate::consortium::Message;
use crate::crypto::Digest;
use crate::fsm;

/// Where one digest may be signed, and by which member.
type Place = (ViewId, Height, Regency, Kind, usize);

/// What was signed, and how often the others had started by then.
#[derive(Default)]
pub(super) struct Promises {
    signed: BTreeMap<Place, (Digest, u64)>,
}

/// A correct member that sends.
pub(super) struct Speaker {
    pub(super) member: usize,
    pub(super) seat: Option<Seat>,
    /// Whether its disk was rolled back, so that it is one of the f.
    pub(super) is_rolled: bool,
    /// How often the others forgot what they held of its votes.
    pub(super) others_forgot: u64,
}

impl Promises {
    /// A member sends `message`; how that contradicts what it sent before. What others signed it
    /// may hand on.
    pub(super) fn note(&mut self, speaker: &Speaker, message: &Message) -> Option<String> {
        let (Message::Order(fsm::Message::Propose(vote, _) | fsm::Message::Vote(vote))
        | Message::Persist(vote)) = message
        else {
            return None;
        };
        let member = speaker.member;
        if Some(vote.seat) != speaker.seat {
            return None;
        }
        let Ballot {
            kind,
            view,
            regency,
            height,
            digest,
        } = vote.ballot;
        match self.signed.entry((view, height, regency, kind, member)) {
            Entry::Occupied(before) => {
                let (earlier, forgot) = *before.get();
                // Votes of others are held in memory alone, and for one view: who starts or enters
                // the view after one was sent cannot remind a member whose disk forgot it.
                let is_forgotten = speaker.is_rolled && speaker.others_forgot > forgot;
                (earlier != digest && !is_forgotten).then(|| {
                    format!("member {member} signs two digests: {kind:?} of {height} in {regency}")
                })
            }
            Entry::Vacant(place) => {
                place.insert((digest, speaker.others_forgot));
                None
            }
        }
    }
}
