//! Members, views, quorums, certificates and the voter.
//!
//! Source: Mod-SMaRt quorums over n ≥ 3f + 1 seats; ring order as in the Consortium. In: member
//! lists, keys, votes.
//! Out: [`View`], [`Certificate`], the leader order, the next committee, signed votes.
//! Holds: n, f and q count every seat; a certificate counts distinct seats of one view over one
//! ballot.
//! Elsewhere: blocks and their bodies (`blocks`), timers (`fsm`).

mod attest;
mod ballot;
mod certificate;
mod draw;
mod ids;
mod memory;
mod promises;
mod ring;
mod risk;
mod sizes;
mod view;
mod voter;

pub use attest::{AnchorVote, CheckpointVote, Nonce, Taken};
pub use ballot::{Ballot, Kind, Vote};
pub use certificate::{Certificate, CertificateError, SeatSet};
pub use draw::{Candidate, Candidates, DrawError, MEMBERS_MAX, POSITIONS_MAX, WEIGHT_MAX};
pub use ids::{Height, MemberId, Regency, Seat, ViewId};
pub use memory::{Lapse, Memory, Promised};
pub use promises::{Promise, Promises};
pub use ring::{position, positions, ring_order};
pub use risk::{Chance, EVERYONE_BELOW, Odds, Risk, RiskError, Sample};
pub use sizes::Sizes;
pub use view::{KeyProof, Opening, SEATS_MAX, SeatKey, View, ViewError};
pub use voter::{CLAIMS_MAX, Claim, Lock, Refused, StopData, Voter, VoterRecord};

#[cfg(test)]
mod tests;
