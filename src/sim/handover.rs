//! What must hold of views and of those who vote in them.
//!
//! Source: S3 of the list of what must always hold; SmartChain, forgotten keys. In: views that
//! begin, votes that leave correct members. Out: violations of `reconfiguration`, `ended`,
//! `erasure` and `quorums`.
//! Holds: it counts by itself, as the paper does; the code under test is asked for signatures
//! alone.
//! Elsewhere: that there is one view of each number (`views`), blocks and promises (`oracle`,
//! `promises`).

use std::collections::BTreeSet;

use super::census::{Set, bit};
use super::oracle::{faulty_max, quorum};
use super::world::World;
use crate::blocks::body::Reconfiguration;
use crate::blocks::{Body, NextKey};
use crate::committee::{Certificate, KeyProof, MemberId, View, ViewId};
use crate::consortium::serve::Archive;
use crate::consortium::{Block, Message};
use crate::crypto::PublicKey;
use crate::fsm;

impl World {
    /// A view is entered for the first time, by `index`, whose disk says how it came about.
    pub(super) fn judge_view(&mut self, index: usize, view: &View) {
        let opening = view.opening();
        let disk = &self.members[index].disk;
        let block = disk.block(opening.height);
        let certificate = disk.certificate_at_or_after(opening.height);
        if let Err(why) = self.judge_opening(view, block, certificate) {
            self.breaks("reconfiguration", format!("view {}: {why}", view.id()));
        }
        self.judge_quorums(view);
    }

    fn judge_opening(
        &self,
        view: &View,
        block: Option<Block>,
        certificate: Option<Certificate>,
    ) -> Result<(), String> {
        let opening = view.opening();
        let block = block.ok_or("nobody holds the block that opened it")?;
        let (header, Body::Reconfiguration(body)) = (block.header, block.body) else {
            return Err("another body opened it".into());
        };
        let before = view.id().0.checked_sub(1).map(ViewId);
        let before = before.and_then(|id| self.oracle.view_of(id));
        let before = before.ok_or("nobody was in the view before")?;
        let names = (header.height, header.digest(), header.view, body.next);
        if names != (opening.height, opening.digest, before.id(), view.id()) {
            return Err(format!("its block says otherwise: {names:?}"));
        }
        let certificate = certificate.ok_or("nobody holds its certificate")?;
        let ballot = (certificate.ballot.height, certificate.ballot.digest);
        if ballot != (opening.height, opening.digest) {
            return Err("its certificate is of another block".into());
        }
        let signers: BTreeSet<_> = certificate.signers.iter().collect();
        let needed = quorum(before.seats().len());
        let verifier = &self.ground.verifier;
        if signers.len() < needed || certificate.verify(before, verifier).is_err() {
            return Err(format!("not certified by the view before: {signers:?}"));
        }
        self.oracle.judge_answer(before.id(), &body)?;
        self.judge_keys(view, before, &body)
    }

    /// Every seat has a certified key, n − f are fresh, and few of the view before carry theirs.
    fn judge_keys(&self, view: &View, before: &View, body: &Reconfiguration) -> Result<(), String> {
        let seats = body.seats.len();
        let identity = |member: &MemberId| -> Option<(PublicKey, KeyProof)> {
            let mut listed = body.members.iter();
            let listed = listed.find(|listed| MemberId::of(&listed.identity) == *member)?;
            Some((listed.identity, listed.admitted))
        };
        let (mut fresh, mut carried) = (0, 0);
        for (seat, made) in body.seats.iter().zip(view.seats()) {
            let (identity, admitted) = identity(&seat.member).ok_or("a seat is not listed")?;
            let key = seat.fresh.unwrap_or(admitted).key;
            if made.member != seat.member || made.key != Some(key) {
                return Err(format!("the seat of {} has another key", seat.member));
            }
            let Some(proof) = seat.fresh else {
                carried += usize::from(before.seat_of(&seat.member).is_some());
                continue;
            };
            fresh += 1;
            let call = body.call();
            let next = NextKey {
                call,
                identity,
                proof,
            };
            let checks = next.checks(&self.ground.genesis.chain());
            if !self.ground.verifier.all_valid(&checks) {
                return Err(format!("the key of {} is not proved", seat.member));
            }
        }
        let most = faulty_max(seats).min(faulty_max(before.seats().len()));
        match fresh + faulty_max(seats) >= seats && carried <= most {
            true => Ok(()),
            false => Err(format!(
                "{fresh} of {seats} are fresh, {carried} are carried"
            )),
        }
    }

    /// Every two quorums of a view meet in a correct seat.
    pub(super) fn judge_quorums(&mut self, view: &View) {
        let members = view.seats().iter().map(|seat| &seat.member);
        let seats = members.filter_map(|member| self.census.index(member));
        let seats: Set = seats.fold(0, |set, index| set | bit(index));
        let faulty = (seats & self.suspects()).count_ones() as usize;
        let n = view.seats().len();
        if 2 * quorum(n) <= n + faulty {
            let what = format!("view {}: {faulty} of {n} seats are faulty", view.id());
            self.breaks("quorums", what);
        }
    }

    /// What a correct member says, as far as views go.
    pub(super) fn judge_voice(&mut self, index: usize, message: &Message) {
        let (view, seat) = match message {
            Message::Order(fsm::Message::Propose(vote, _) | fsm::Message::Vote(vote))
            | Message::Persist(vote) => (vote.ballot.view, vote.seat),
            Message::Order(fsm::Message::StopData(data, _)) => (data.view, data.seat),
            Message::Order(
                fsm::Message::Stop(_)
                | fsm::Message::Sync(_)
                | fsm::Message::Decision(..)
                | fsm::Message::Fetch(..)
                | fsm::Message::Payload(..)
                | fsm::Message::Status(_)
                | fsm::Message::Recall(_),
            )
            | Message::Batch(_)
            | Message::Held(_)
            | Message::Fetch(_)
            | Message::Request(_)
            | Message::Extent(_)
            | Message::Certificate(_)
            | Message::Overlay(_)
            | Message::Engine(_)
            | Message::Key(_)
            | Message::Beacon(..)
            | Message::Snapshot(_)
            | Message::Bootstrap(_)
            | Message::Pruned(_)
            | Message::Shorter(_)
            | Message::Vacant(_) => return,
        };
        let member = &self.members[index];
        let Some(known) = self.oracle.view_of(view) else {
            return self.breaks(
                "views",
                format!("member {index} votes in unknown view {view}"),
            );
        };
        if known.member(seat) != Some(member.id) {
            return; // It hands on what another signed.
        }
        if member.ended > view {
            let what = format!("member {index} signs in view {view}, whose end is durable there");
            self.breaks("ended", what);
        } else if !member.keys.is_clean(known, &member.id) {
            let what = format!("member {index} signs in view {view} and has an older secret");
            self.breaks("erasure", what);
        }
    }
}
