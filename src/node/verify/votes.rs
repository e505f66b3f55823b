//! What the member promised, and whether it ever contradicted itself.
//!
//! Source: design, 'ordering in the committee'. In: records of the voter, of proposals and of
//! decisions. Out: what contradicts.
//! Holds: one digest per kind, view, regency and height; a PERSIST names the stored header, a
//! decision the stored body; memory ends with what the voter forgot.
//! Elsewhere: signatures (`checks`), the chain (`walk`).

use std::collections::{BTreeMap, BTreeSet};

use super::views::Views;
use super::walk::Context;
use crate::blocks::evidence::Law;
use crate::blocks::{Body, Proposal};
use crate::committee::{Certificate, Height, Kind, Lock, Regency, View, ViewId, VoterRecord};
use crate::consortium::{Block, Fault};
use crate::crypto::{Check, Digest, Verifier};
use crate::fsm::Payload;

/// Headers that a PERSIST may still name; a voter forgets far sooner.
const HEADERS_MAX: usize = 16_384;

/// Promises so far.
#[derive(Default)]
pub(super) struct Votes {
    floor: Height,
    signed: BTreeMap<(Height, ViewId, Kind, Regency), Digest>,
    headers: BTreeMap<Height, (ViewId, Digest)>,
    /// Body roots of known proposals, and whether it is a control body.
    bodies: BTreeMap<(Height, Digest), (Digest, bool)>,
    decided: BTreeSet<(Height, ViewId, Digest)>,
    /// Whether the log begins behind blocks that were pruned and none was read yet: what was
    /// persisted may be among those.
    is_headless: bool,
}

/// What a record is about, and the signatures in it; or what is wrong.
type Looked = Result<(Height, Vec<Check>), (Height, String)>;

impl Votes {
    /// Takes in a promise.
    pub(super) fn promise(&mut self, views: &Views, id: ViewId, record: &VoterRecord) -> Looked {
        let at = match record {
            VoterRecord::Installed(_) | VoterRecord::Lapsed(_) => Height(0),
            VoterRecord::Stopped(data, _) => data.base,
            VoterRecord::Locked(certificate) => certificate.ballot.height,
            VoterRecord::Proposed(height, _)
            | VoterRecord::Written(height, _)
            | VoterRecord::Persisted(height, _)
            | VoterRecord::Forgotten(height) => *height,
        };
        let signed = match record {
            // The base may be the block that opened the view, about which nothing is signed.
            VoterRecord::Stopped(data, _) => data.base.next(),
            // No vote about any height.
            VoterRecord::Installed(_) | VoterRecord::Lapsed(_) | VoterRecord::Forgotten(_) => {
                Height(0)
            }
            VoterRecord::Locked(_)
            | VoterRecord::Proposed(..)
            | VoterRecord::Written(..)
            | VoterRecord::Persisted(..) => at,
        };
        let view = views.promised(id, signed);
        let view = view.map_err(|what| (at, format!("a promise {what}")))?;
        let signed = match record {
            VoterRecord::Installed(_) | VoterRecord::Lapsed(_) => Ok(Vec::new()),
            VoterRecord::Proposed(height, lock) => self.once((*height, id), Kind::Propose, lock),
            VoterRecord::Written(height, lock) => self.once((*height, id), Kind::Write, lock),
            VoterRecord::Locked(certificate) => self.lock(view, certificate),
            VoterRecord::Persisted(height, digest) => self.persist((*height, id), *digest),
            VoterRecord::Stopped(data, _) => match data.check(view) {
                Some(check) => Ok(vec![check]),
                None => Err("claims of another view, of no seat, or not canonical".into()),
            },
            VoterRecord::Forgotten(height) => {
                self.forget_below(*height);
                Ok(Vec::new())
            }
        };
        signed.map(|checks| (at, checks)).map_err(|what| (at, what))
    }

    fn once(
        &mut self,
        (height, view): (Height, ViewId),
        kind: Kind,
        lock: &Lock,
    ) -> Result<Vec<Check>, String> {
        if height < self.floor {
            return Ok(Vec::new());
        }
        let (regency, digest) = (lock.regency, lock.digest);
        let place = (height, view, kind, regency);
        let before = *self.signed.entry(place).or_insert(digest);
        if before != digest {
            return Err(format!(
                "{kind:?} in regency {regency} names {digest}, an earlier one {before}"
            ));
        }
        Ok(Vec::new())
    }

    fn lock(&mut self, view: &View, lock: &Certificate) -> Result<Vec<Check>, String> {
        let ballot = lock.ballot;
        if ballot.kind != Kind::Write {
            return Err("a lock that is no WRITE certificate".into());
        }
        let checks = lock.checks(view);
        let checks = checks.map_err(|error| format!("a lock: {error}"))?;
        let accepted = Lock {
            regency: ballot.regency,
            digest: ballot.digest,
        };
        self.once((ballot.height, ballot.view), Kind::Accept, &accepted)?;
        Ok(checks)
    }

    fn persist(
        &mut self,
        (height, view): (Height, ViewId),
        digest: Digest,
    ) -> Result<Vec<Check>, String> {
        if height < self.floor || self.is_headless {
            return Ok(Vec::new());
        }
        match self.headers.get(&height) {
            Some((of, header)) if *of != view => Err(format!(
                "PERSIST in view {view} of header {header}, which is of view {of}"
            )),
            Some((_, header)) if *header == digest => Ok(Vec::new()),
            Some((_, header)) => Err(format!(
                "PERSIST names header {digest}, the stored one is {header}"
            )),
            None => Err(format!("PERSIST of header {digest}, which is not stored")),
        }
    }

    /// Takes in a proposal that a WRITE names.
    pub(super) fn payload(
        &mut self,
        (context, views): (&Context, &Views),
        height: Height,
        payload: &Payload,
    ) -> Looked {
        let wrong = |what: String| (height, format!("proposal: {what}"));
        let proposal = Proposal::from_bytes(&payload.bytes);
        let proposal = proposal.map_err(|error| wrong(error.to_string()))?;
        let ahead_max = context.genesis.parameters.ahead_max;
        let view = views.promised(proposal.view, height).map_err(wrong)?;
        let checked = proposal.check(view, height, ahead_max);
        checked.map_err(|error| wrong(error.to_string()))?;
        if proposal.digest() != payload.digest {
            return Err(wrong("its bytes are not those of its digest".into()));
        }
        let body = (proposal.body.root(), proposal.body.is_control());
        self.bodies.insert((height, payload.digest), body);
        let Some(carried) = &proposal.carried else {
            return Ok((height, Vec::new()));
        };
        // The first proposals of a view carry what the view before certified.
        let checks = views.certifier(&carried.ballot).and_then(|view| {
            let checks = carried.checks(view);
            checks.map_err(|error| error.to_string())
        });
        let checks = checks.map_err(|what| wrong(format!("its certificate: {what}")))?;
        Ok((height, checks))
    }

    /// Takes in q ACCEPTs.
    pub(super) fn decision(&mut self, views: &Views, decision: &Certificate) -> Looked {
        let ballot = decision.ballot;
        let height = ballot.height;
        if ballot.kind != Kind::Accept {
            return Err((height, "a decision without ACCEPTs".into()));
        }
        let checks = views.promised(ballot.view, height).and_then(|view| {
            let checks = decision.checks(view);
            checks.map_err(|error| error.to_string())
        });
        let checks = checks.map_err(|what| (height, format!("a decision: {what}")))?;
        self.decided.insert((height, ballot.view, ballot.digest));
        Ok((height, checks))
    }

    /// The log begins behind blocks that were pruned.
    pub(super) fn begin(&mut self, floor: Height) {
        self.is_headless = true;
        self.forget_below(floor);
    }

    /// Takes in a stored block; says whether it is the decided one, as far as the log tells.
    pub(super) fn block(&mut self, block: &Block, digest: Digest) -> Result<(), String> {
        let Block { header, .. } = block;
        let height = header.height;
        self.is_headless = false;
        self.headers.insert(height, (header.view, digest));
        if self.headers.len() > HEADERS_MAX {
            self.headers.pop_first();
        }
        let above = (height.next(), ViewId(0), Digest::ZERO);
        let open = self.decided.split_off(&above);
        let decided = std::mem::replace(&mut self.decided, open);
        // What an earlier view decided here lies above its last block, and is void.
        let here = { decided.iter() }.filter(|(at, view, _)| (*at, *view) == (height, header.view));
        let bodies = here.filter_map(|(at, _, digest)| self.bodies.get(&(*at, *digest)));
        // A control body without effect is an empty block.
        let empty = Body::Transactions(Vec::new()).root();
        let is_other = |(root, is_control): &&(Digest, bool)| {
            *root != header.body && !(*is_control && header.body == empty)
        };
        let wrong = bodies.filter(is_other).count();
        if wrong > 0 {
            return Err("its body is not the decided one".into());
        }
        Ok(())
    }

    /// The view and the digest of the stored header at `height`, unless that is long ago.
    pub(super) fn header(&self, height: Height) -> Option<(ViewId, Digest)> {
        self.headers.get(&height).copied()
    }

    /// What was promised below `height` is settled.
    pub(super) fn forget_below(&mut self, height: Height) {
        self.floor = self.floor.max(height);
        let floor = self.floor;
        let first = (floor, ViewId(0), Kind::Propose, Regency(0));
        self.signed = self.signed.split_off(&first);
        self.bodies = self.bodies.split_off(&(floor, Digest::ZERO));
    }
}

/// Checks that kept evidence proves what it says.
pub(super) fn fault((context, views): (&Context, &Views), fault: &Fault) -> Looked {
    let Some(evidence) = &fault.evidence else {
        return Err((Height(0), "a fault without evidence".into()));
    };
    let (height, _) = evidence.place();
    let id = evidence.view();
    let view = views.get(id).ok_or_else(|| {
        let what = format!("evidence of view {id}, which no block before it made");
        (height, what)
    })?;
    let law = Law {
        view,
        bounds: &context.bounds,
        ahead_max: context.genesis.parameters.ahead_max,
        verifier: &Verifier::ed25519(),
    };
    match evidence.check(&law) {
        Ok((seat, kind)) if view.member(seat) == Some(fault.who) && kind == fault.kind => {
            Ok((height, Vec::new()))
        }
        Ok((seat, _)) => Err((
            height,
            format!("evidence against seat {seat}, not {}", fault.who),
        )),
        Err(error) => Err((height, error.to_string())),
    }
}
