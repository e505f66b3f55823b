//! Whom the network speaks with, and where they are reached.
//!
//! Source: the register of members, the settings. In: a register. Out: peers.
//! Holds: who is not met by the register, and not an observer of the settings, is a stranger.
//! Elsewhere: connections (`net`), who is listed (`membership::register`).

use super::config::Neighbours;
use crate::committee::MemberId;
use crate::membership::register::Register;
use crate::net::{self, Peer};

/// What the settings add to the register.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    me: MemberId,
    neighbours: Neighbours,
}

impl Peers {
    /// Those of `me`.
    pub(crate) fn new(me: MemberId, neighbours: Neighbours) -> Self {
        Self { me, neighbours }
    }

    /// The members that `register` has us meet, at the addresses in the settings where they differ,
    /// and the observers that the settings name.
    pub(crate) fn of(&self, register: &Register) -> Vec<net::Peer> {
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
