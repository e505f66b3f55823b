//! Gathering the snapshot that the checkpoint names, from everybody at once.
//!
//! Source: design, 'checkpoints and bootstrap', step 5. In: what members hold, pages, segments.
//! Out: asks, segments to store, the whole snapshot.
//! Holds: whoever is asked again and again keeps the snapshot for us; a newer checkpoint changes
//! nothing here.
//! Elsewhere: whom to ask for what (`checkpoint::Assembler`).

use bytes::Bytes;
use rand::RngExt as _;

use super::contract::{Assembled, Event, Misdeed, Record, Target};
use super::machine::{Bootstrap, Out, State};
use super::message::{Ask, Lacking};
use crate::checkpoint::{Assembler, Holding, ManifestError, Page, Refused, Want};
use crate::committee::MemberId;
use crate::crypto::Digest;
use crate::machine::{Span, Time};

/// How often members that do not hold all of it are asked what they hold.
const HOLDING: Span = Span::from_ms(1_000);
/// How often everybody is asked: it keeps the lease.
const RENEW: Span = Span::from_ms(10_000);
/// How long nobody may have the snapshot before another one is looked for.
const GONE: Span = Span::from_ms(5_000);
/// How long nothing of use may come, whatever members say that they have.
const STALLED: Span = Span::from_ms(60_000);

/// A snapshot under way.
pub(super) struct Gather {
    pub(super) assembler: Assembler,
    target: Box<Target>,
    holding: Time,
    renew: Time,
    /// When somebody was known to have it, or may have been.
    hope: Time,
    /// When something of use came last, or nobody was there to give it.
    progress: Time,
}

impl Bootstrap {
    /// Goes on where an earlier try left off.
    pub(super) fn resume(
        &mut self,
        now: Time,
        target: Box<Target>,
        pages: Vec<Page>,
        out: &mut Out,
    ) {
        self.open_gather(now, target, pages, out);
    }

    /// The target is settled.
    pub(super) fn begin_gather(&mut self, now: Time, target: Box<Target>, out: &mut Out) {
        out.save(Record::Target(target.clone()));
        self.open_gather(now, target, Vec::new(), out);
    }

    fn open_gather(&mut self, now: Time, target: Box<Target>, pages: Vec<Page>, out: &mut Out) {
        let (taken, held) = (target.taken(), std::mem::take(&mut self.held));
        let mut assembler = match Assembler::new(taken, self.rng.random(), held) {
            Ok(assembler) => assembler,
            Err(error) => return self.void(&target, error, out),
        };
        // A page of an earlier try that is none any more is asked for again.
        for page in pages {
            let _ = assembler.restore_page(&page);
        }
        self.peers.keys().for_each(|who| assembler.join(*who));
        let gather = Gather {
            assembler,
            target,
            holding: now,
            renew: now + RENEW,
            hope: now,
            progress: now,
        };
        self.enter(State::Gather(Box::new(gather)), out);
        self.gather_on(now, out);
    }

    /// A quorum has signed what cannot be.
    fn void(&mut self, target: &Target, error: ManifestError, out: &mut Out) {
        self.enter(State::Stuck, out);
        out.emit(Event::Void(target.taken(), error));
    }

    /// A link to a member stands.
    pub(super) fn gather_from(&mut self, now: Time, who: MemberId, out: &mut Out) {
        let State::Gather(gather) = &mut self.state else {
            return;
        };
        gather.assembler.join(who);
        gather.hope = now;
        let manifest = gather.target.body.manifest;
        self.ask(who, Ask::Holding(manifest), out);
    }

    /// Gives up what is overdue and asks for what is open.
    pub(super) fn gather_on(&mut self, now: Time, out: &mut Out) {
        let State::Gather(gather) = &mut self.state else {
            return;
        };
        if gather.assembler.is_complete() {
            self.finish(out);
            return;
        }
        gather.assembler.expire(now);
        if self.peers.is_empty() {
            (gather.hope, gather.progress) = (now, now);
        } else if gather.assembler.hopeful() > 0 {
            gather.hope = now;
        }
        if now - gather.hope >= GONE || now - gather.progress >= STALLED {
            self.gone(now, out);
            return;
        }
        let manifest = gather.target.body.manifest;
        let mut whom: Vec<MemberId> = Vec::new();
        if now >= gather.renew {
            whom.extend(self.peers.keys());
            (gather.renew, gather.holding) = (now + RENEW, now + HOLDING);
        } else if now >= gather.holding {
            whom.extend(gather.assembler.unsettled());
            gather.holding = now + HOLDING;
        }
        let wants = gather.assembler.wants(now);
        for who in whom {
            self.ask(who, Ask::Holding(manifest), out);
        }
        for (who, want) in wants {
            let ask = match want {
                Want::Page(page) => Ask::Page(manifest, page),
                Want::Segments(segments) => Ask::Segments(manifest, segments),
            };
            self.ask(who, ask, out);
        }
    }

    fn finish(&mut self, out: &mut Out) {
        let state = std::mem::replace(&mut self.state, State::Done);
        let State::Gather(gather) = state else {
            return;
        };
        self.tally = gather.assembler.tally();
        let manifest = gather.assembler.manifest().cloned();
        let manifest = manifest.expect("what is complete has a manifest");
        self.enter(State::Done, out);
        out.emit(Event::Assembled(Box::new(Assembled {
            target: *gather.target,
            manifest,
        })));
    }

    /// Nobody has it any more: what was fetched stays, and another one is looked for.
    fn gone(&mut self, now: Time, out: &mut Out) {
        let state = std::mem::replace(&mut self.state, State::Done);
        if let State::Gather(gather) = state {
            self.tally = gather.assembler.tally();
            self.held = gather.assembler.into_held();
            out.emit(Event::Gone(gather.target.taken()));
        }
        self.begin_walk(now, out);
    }

    /// The snapshot under way, where it is the one that is spoken of; anything else is late.
    fn gathers(&mut self, manifest: &Digest) -> Option<&mut Assembler> {
        match &mut self.state {
            State::Gather(gather) if gather.target.body.manifest == *manifest => {
                Some(&mut gather.assembler)
            }
            State::Gather(_) | State::Idle | State::Guide(_) | State::Walk(_) => None,
            State::Anchor(_) | State::Checkpoint(_) | State::Done | State::Stuck => None,
        }
    }

    pub(super) fn on_holding(
        &mut self,
        now: Time,
        from: MemberId,
        manifest: &Digest,
        holding: &Holding,
        out: &mut Out,
    ) {
        let Some(assembler) = self.gathers(manifest) else {
            return;
        };
        let said = assembler.holds(from, holding);
        self.settle(now, from, said, out);
    }

    pub(super) fn on_page(
        &mut self,
        now: Time,
        from: MemberId,
        manifest: &Digest,
        page: Page,
        out: &mut Out,
    ) {
        let Some(assembler) = self.gathers(manifest) else {
            return;
        };
        let said = assembler.page(from, &page);
        if said.is_ok() {
            out.save(Record::Page(Box::new(page)));
            self.progressed(now);
        }
        self.settle(now, from, said, out);
    }

    fn progressed(&mut self, now: Time) {
        if let State::Gather(gather) = &mut self.state {
            gather.progress = now;
        }
    }

    pub(super) fn on_segment(
        &mut self,
        now: Time,
        from: MemberId,
        (manifest, index): (&Digest, u32),
        bytes: Bytes,
        out: &mut Out,
    ) {
        let Some(assembler) = self.gathers(manifest) else {
            return;
        };
        let said = assembler.segment(now, from, index, bytes);
        if let Ok(Some(segment)) = &said {
            let bytes = segment.bytes.clone();
            out.emit(Event::Segment(*manifest, segment.leaf, bytes));
            self.progressed(now);
        }
        self.settle(now, from, said, out);
    }

    pub(super) fn on_lacks(
        &mut self,
        now: Time,
        from: MemberId,
        manifest: &Digest,
        lacking: &Lacking,
        out: &mut Out,
    ) {
        let Some(assembler) = self.gathers(manifest) else {
            return;
        };
        match lacking {
            Lacking::Page(page) => assembler.lacks(now, &from, Some(*page), &[]),
            Lacking::Segments(segments) => assembler.lacks(now, &from, None, segments),
        }
        self.gather_on(now, out);
    }

    /// What an answer led to.
    fn settle<T>(&mut self, now: Time, from: MemberId, said: Result<T, Refused>, out: &mut Out) {
        match said {
            Ok(_) => self.gather_on(now, out),
            Err(Refused::Lie(lie)) => self.ban(now, from, Misdeed::Segments(lie), out),
            Err(Refused::Void(error)) => {
                let State::Gather(gather) = &self.state else {
                    return;
                };
                let target = gather.target.clone();
                self.void(&target, error, out);
            }
            Err(Refused::Unknown | Refused::Unasked) => {}
        }
    }
}
