//! Whom the network speaks with, and where they are reached.
//!
//! Source: the register of members, the settings. In: a register. Out: peers.
//! Holds: who is not met by the register, and not an observer of the settings, is a stranger; the
//! newest few who left are met all the same, to learn that their view has ended.
//! Elsewhere: connections (`net`), who is listed (`membership::register`).

use std::collections::BTreeSet;

use super::config::Neighbours;
use crate::committee::MemberId;
use crate::membership::register::Register;
use crate::net::Peer;

/// What the settings add to the register.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    me: MemberId,
    neighbours: Neighbours,
    met: Vec<Peer>,
    /// Who was met before in this life of the process and is no more; the oldest give way.
    left: Vec<Peer>,
}

/// Members that left and are met all the same, at most.
const LEFT_MAX: usize = 16;

impl Peers {
    /// Those of `me` behind `register`.
    pub(crate) fn new(me: MemberId, neighbours: Neighbours, register: &Register) -> Self {
        let mut peers = Self {
            me,
            neighbours,
            met: Vec::new(),
            left: Vec::new(),
        };
        peers.met = peers.of(register);
        peers
    }

    /// Whom the network speaks with from now on.
    pub(crate) fn meet(&mut self, register: &Register) -> Vec<Peer> {
        let met = self.of(register);
        let is_met = |peer: &Peer| met.iter().any(|other| other.id == peer.id);
        self.left.append(&mut self.met);
        self.left.retain(|peer| !is_met(peer));
        let mut seen = BTreeSet::new();
        self.left.retain(|peer| seen.insert(peer.id));
        let many = self.left.len().saturating_sub(LEFT_MAX);
        self.left.drain(..many);
        self.met.clone_from(&met);
        [met, self.left.clone()].concat()
    }

    /// Whom the network speaks with.
    pub(crate) fn met(&self) -> Vec<Peer> {
        self.met.clone()
    }

    /// The members that `register` has us meet, at the addresses in the settings where they differ,
    /// and the observers that the settings name.
    fn of(&self, register: &Register) -> Vec<Peer> {
        let met = register.members().filter(|(_, member)| member.is_met());
        let members = met.map(|(id, member)| Peer {
            id: id.0,
            key: member.identity,
            address: self
                .neighbours
                .address_of(id, &member.name, &member.address)
                .to_owned(),
        });
        let observers = self.neighbours.observers.iter().map(|observer| Peer {
            id: MemberId::of(&observer.key).0,
            key: observer.key,
            address: observer.address.clone(),
        });
        let mut peers: Vec<Peer> = members.collect();
        for observer in observers {
            // A member that is named once more stays what the register says.
            if peers.iter().all(|peer| peer.id != observer.id) {
                peers.push(observer);
            }
        }
        peers.retain(|peer| peer.id != self.me.0);
        peers
    }

    /// The observers that the settings name.
    pub(crate) fn observers(&self) -> Vec<MemberId> {
        let keys = self.neighbours.observers.iter();
        keys.map(|observer| MemberId::of(&observer.key)).collect()
    }
}
