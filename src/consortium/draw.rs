//! The draw of the next committee: a beacon that nobody knew before the list was fixed.
//!
//! Source: design of views, the beacon; design of keys, 'a share is given only after the full
//! certificate is durable'. In: the freeze block, its certificate, shares of the present committee.
//! Out: our share, the assemble body that the whole signature makes due.
//! Holds: a share goes out behind the save of the certificate that makes the freeze block final,
//! so there is one beacon a view can give over one list; one share a seat is held, and none of a
//! seat whose share did not hold.
//! Elsewhere: the key (`membership::register`), the arithmetic (`crypto::threshold`), what becomes
//! of a beacon that stays away (`ledger`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::ledger::Due;
use super::message::{BeaconPart, Message};
use super::replica::{Consortium, Out};
use crate::blocks::Link;
use crate::blocks::body::{Assemble, Beacon};
use crate::committee::MemberId;
use crate::crypto::{Digest, threshold};
use crate::machine::To;

/// Shares of a beacon.
#[derive(Debug)]
pub(super) struct Draw {
    freeze: Link,
    /// Shares by seat; ours too.
    shares: BTreeMap<u16, Bytes>,
    own: Option<Bytes>,
    /// Whether we looked for it.
    was_sought: bool,
    /// Seats whose share did not hold.
    liars: BTreeSet<u16>,
    /// What the beacon makes due.
    drawn: Option<Assemble>,
}

impl Draw {
    fn new(freeze: Link) -> Self {
        Self {
            freeze,
            shares: BTreeMap::new(),
            own: None,
            was_sought: false,
            liars: BTreeSet::new(),
            drawn: None,
        }
    }
}

impl Consortium {
    /// A list may be fixed: the beacon over it is due.
    pub(super) fn begin_draw(&mut self, out: &mut Out) {
        let Some(Due::Draw(freeze)) = self.chain.ledger.due() else {
            return;
        };
        self.draw = Some(Draw::new(*freeze));
        self.give_share(out);
        self.arm_keys(out);
    }

    /// The assemble body that the beacon made due.
    pub(super) fn drawn(&self, freeze: &Link) -> Option<&Assemble> {
        let draw = self.draw.as_ref().filter(|draw| draw.freeze == *freeze)?;
        draw.drawn.as_ref()
    }

    /// Signs the freeze block, once its certificate is behind us.
    pub(super) fn give_share(&mut self, out: &mut Out) {
        let (certified, view) = (self.certified(), self.view.id());
        let Some(draw) = self.draw.as_mut().filter(|draw| !draw.was_sought) else {
            return;
        };
        if certified < draw.freeze.height {
            return;
        }
        let register = self.chain.ledger.register();
        let (Some(key), Some(voter)) = (register.threshold(), self.ordering.voter()) else {
            return;
        };
        draw.was_sought = true;
        let statement = Beacon::statement(register.chain(), view, &draw.freeze);
        let Some(signed) = key.share(voter, &statement) else {
            return; // Our seat has none.
        };
        draw.own = Some(signed.clone());
        draw.shares.insert(voter.seat().0, signed);
        self.share_again(out);
        self.try_draw();
    }

    /// Sends our share, or the whole once we have it: what was sent may be lost, and a share may
    /// have come to us alone.
    pub(super) fn share_again(&self, out: &mut Out) {
        let Some(draw) = &self.draw else { return };
        let beacon = draw.drawn.as_ref().and_then(|drawn| drawn.beacon.as_ref());
        let part = match (beacon, &draw.own) {
            (Some(beacon), _) => BeaconPart::Whole(beacon.signature.clone()),
            (None, Some(share)) => BeaconPart::Share(share.clone()),
            (None, None) => return,
        };
        out.send(To::Committee, Message::Beacon(draw.freeze.digest, part));
    }

    /// A seat's share, of which the first counts, or the whole.
    pub(super) fn on_beacon(&mut self, from: &MemberId, freeze: &Digest, part: BeaconPart) {
        let Some(seat) = self.view.seat_of(from) else {
            return;
        };
        let Some(draw) = &mut self.draw else { return };
        if draw.freeze.digest != *freeze || draw.drawn.is_some() || draw.liars.contains(&seat.0) {
            return;
        }
        match part {
            BeaconPart::Share(share) => {
                draw.shares.entry(seat.0).or_insert(share);
                self.try_draw();
            }
            BeaconPart::Whole(signature) => {
                draw.drawn = self.chain.ledger.drawn(&signature);
                if draw.drawn.is_none() {
                    draw.liars.insert(seat.0); // It costs us pairings once.
                }
            }
        }
    }

    fn try_draw(&mut self) {
        let ledger = &self.chain.ledger;
        let (Some(draw), Some(key)) = (&mut self.draw, ledger.register().threshold()) else {
            return;
        };
        if draw.drawn.is_some() || draw.shares.len() < key.need() {
            return;
        }
        let statement = Beacon::statement(self.view.chain(), self.view.id(), &draw.freeze);
        let shares: Vec<(u16, Bytes)> = draw.shares.clone().into_iter().collect();
        match threshold::combine(key.public(), &shares, statement.as_slice()) {
            Ok(signature) => draw.drawn = ledger.drawn(&signature),
            Err(liars) => {
                draw.shares.retain(|seat, _| !liars.contains(seat));
                draw.liars.extend(liars);
            }
        }
    }
}
