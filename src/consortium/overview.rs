//! Where a replica stands, as operators see it.
//!
//! Source: interface, `status`. In: the replica. Out: plain data. Holds: it changes nothing.
//! Elsewhere: what else a status holds (`node`).

use std::collections::BTreeMap;

use super::ledger::Snapshots;
use super::{Consortium, FaultKind, Losses};
use crate::committee::{Height, MemberId, Regency};

/// Where a replica stands, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// `leader`, `follower` or `observer`.
    pub role: &'static str,
    /// The state of the normal machine.
    pub state: &'static str,
    /// The state of the regency machine.
    pub regency_state: &'static str,
    /// The last applied height.
    pub height: Height,
    /// The newest certified height that is applied here.
    pub certified: Height,
    /// The view.
    pub view: u64,
    /// The regency.
    pub regency: Regency,
    /// Its leader.
    pub leader: Option<MemberId>,
    /// The state of the view machine.
    pub view_state: &'static str,
    /// Seats that are connected, this one counted.
    pub connected: usize,
    /// Fresh keys for the next view that are here, and how many are asked for.
    pub keys: (usize, usize),
    /// Which seats are lost and which are reachable.
    pub losses: Losses,
    /// Misbehaviour seen.
    pub faults: BTreeMap<FaultKind, u64>,
    /// What waits to be ordered.
    pub pool: PoolOverview,
    /// When the next snapshot is due.
    pub snapshots: Snapshots,
}

/// What waits to be ordered, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOverview {
    /// Whether there is work that is not yet ordered.
    pub has_work: bool,
    /// Transactions in batches that are here, and those that this member still gathers.
    pub transactions: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Consortium {
    /// Where it stands.
    pub fn overview(&self) -> Overview {
        let (regency, leader) = self.ordering.regency();
        let role = match self.view.seat_of(&self.options.me) {
            None => "observer",
            Some(_) if self.ordering.is_leading() => "leader",
            Some(_) => "follower",
        };
        Overview {
            role,
            state: self.ordering.state(),
            regency_state: self.ordering.regency_state(),
            height: self.chain.ledger.height(),
            certified: self.certified(),
            view: self.view.id().0,
            regency,
            leader: self.view.member(leader),
            view_state: self.ordering.view_state().0,
            connected: self.ordering.view_state().1,
            keys: self.ordering.next_keys(),
            losses: self.vacancies.losses().clone(),
            faults: self.faults.counts().clone(),
            pool: self.pool.overview(),
            snapshots: self.chain.ledger.snapshots(),
        }
    }
}
