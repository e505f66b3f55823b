//! What the member promised, and whether it ever contradicted itself.
//!
//! Source: design, 'ordering in the committee'. In: records of the voter, of proposals and of
//! decisions. Out: what contradicts.
//! Holds: one digest per kind, view, regency and height; a PERSIST names the stored header, a
//! decision the stored body; memory ends with what the voter forgot.
//! Elsewhere: signatures (`checks`), the chain (`walk`).

use std::collections::{BTreeMap, BTreeSet};

use super::walk::Context;
use crate::blocks::Proposal;
use crate::blocks::evidence::Law;
use crate::committee::{Certificate, Height, Kind, Lock, Regency, ViewId, VoterRecord};
use crate::consortium::{Block, Fault};
use crate::crypto::{Check, Digest, Verifier};
use crate::fsm::Payload;

/// Headers that a PERSIST may still name; a voter forgets far sooner.
const HEADERS_MAX: usize = 16_384;

/// Promises so far.
#[derive(Default)]
pub(super) struct Votes {
    floor: Height,
    signed: BTreeMap<(Height, Kind, Regency), Digest>,
    headers: BTreeMap<Height, Digest>,
    /// Body roots of known proposals.
    bodies: BTreeMap<(Height, Digest), Digest>,
    decided: BTreeSet<(Height, Digest)>,
}

/// What a record is about, and the signatures in it; or what is wrong.
type Looked = Result<(Height, Vec<Check>), (Height, String)>;

impl Votes {
    /// Takes in a promise.
    pub(super) fn promise(
        &mut self,
        context: &Context,
        view: ViewId,
        record: &VoterRecord,
    ) -> Looked {
        let at = match record {
            VoterRecord::Installed(_) | VoterRecord::Lapsed(_) => Height(0),
            VoterRecord::Stopped(data, _) => data.base,
            VoterRecord::Locked(certificate) => certificate.ballot.height,
            VoterRecord::Proposed(height, _)
            | VoterRecord::Written(height, _)
            | VoterRecord::Persisted(height, _)
            | VoterRecord::Forgotten(height) => *height,
        };
        if view != context.view.id() {
            return Err((at, format!("a promise in view {view}, which has no keys")));
        }
        let signed = match record {
            VoterRecord::Installed(_) | VoterRecord::Lapsed(_) => Ok(Vec::new()),
            VoterRecord::Proposed(height, lock) => self.once(*height, Kind::Propose, lock),
            VoterRecord::Written(height, lock) => self.once(*height, Kind::Write, lock),
            VoterRecord::Locked(certificate) => self.lock(context, certificate),
            VoterRecord::Persisted(height, digest) => self.persist(*height, *digest),
            VoterRecord::Stopped(data, _) => match data.check(&context.view) {
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

    fn once(&mut self, height: Height, kind: Kind, lock: &Lock) -> Result<Vec<Check>, String> {
        if height < self.floor {
            return Ok(Vec::new());
        }
        let (regency, digest) = (lock.regency, lock.digest);
        let before = *self.signed.entry((height, kind, regency)).or_insert(digest);
        if before != digest {
            return Err(format!(
                "{kind:?} in regency {regency} names {digest}, an earlier one {before}"
            ));
        }
        Ok(Vec::new())
    }

    fn lock(&mut self, context: &Context, lock: &Certificate) -> Result<Vec<Check>, String> {
        let ballot = lock.ballot;
        if ballot.kind != Kind::Write {
            return Err("a lock that is no WRITE certificate".into());
        }
        let checks = lock.checks(&context.view);
        let checks = checks.map_err(|error| format!("a lock: {error}"))?;
        let accepted = Lock {
            regency: ballot.regency,
            digest: ballot.digest,
        };
        self.once(ballot.height, Kind::Accept, &accepted)?;
        Ok(checks)
    }

    fn persist(&mut self, height: Height, digest: Digest) -> Result<Vec<Check>, String> {
        if height < self.floor {
            return Ok(Vec::new());
        }
        match self.headers.get(&height) {
            Some(header) if *header == digest => Ok(Vec::new()),
            Some(header) => Err(format!(
                "PERSIST names header {digest}, the stored one is {header}"
            )),
            None => Err(format!("PERSIST of header {digest}, which is not stored")),
        }
    }

    /// Takes in a proposal that a WRITE names.
    pub(super) fn payload(
        &mut self,
        context: &Context,
        height: Height,
        payload: &Payload,
    ) -> Looked {
        let wrong = |what: String| (height, format!("proposal: {what}"));
        let proposal = Proposal::from_bytes(&payload.bytes);
        let proposal = proposal.map_err(|error| wrong(error.to_string()))?;
        let ahead_max = context.genesis.parameters.ahead_max;
        let checked = proposal.check(&context.view, height, ahead_max);
        checked.map_err(|error| wrong(error.to_string()))?;
        if proposal.digest() != payload.digest {
            return Err(wrong("its bytes are not those of its digest".into()));
        }
        let root = proposal.body.root();
        self.bodies.insert((height, payload.digest), root);
        match &proposal.carried {
            None => Ok((height, Vec::new())),
            Some(carried) => match carried.checks(&context.view) {
                Ok(checks) => Ok((height, checks)),
                Err(error) => Err(wrong(format!("its certificate: {error}"))),
            },
        }
    }

    /// Takes in q ACCEPTs.
    pub(super) fn decision(&mut self, context: &Context, decision: &Certificate) -> Looked {
        let ballot = decision.ballot;
        let height = ballot.height;
        if ballot.kind != Kind::Accept {
            return Err((height, "a decision without ACCEPTs".into()));
        }
        let checks = decision.checks(&context.view);
        let checks = checks.map_err(|error| (height, format!("a decision: {error}")))?;
        self.decided.insert((height, ballot.digest));
        Ok((height, checks))
    }

    /// Takes in a stored block; says whether it is the decided one, as far as the log tells.
    pub(super) fn block(&mut self, block: &Block, digest: Digest) -> Result<(), String> {
        let height = block.header.height;
        self.headers.insert(height, digest);
        if self.headers.len() > HEADERS_MAX {
            self.headers.pop_first();
        }
        let above = (height.next(), Digest::ZERO);
        let open = self.decided.split_off(&above);
        let decided = std::mem::replace(&mut self.decided, open);
        let here = decided.iter().filter(|(at, _)| *at == height);
        let wrong = here
            .filter(|name| {
                self.bodies
                    .get(name)
                    .is_some_and(|r| *r != block.header.body)
            })
            .count();
        if wrong > 0 {
            return Err("its body is not the decided one".into());
        }
        Ok(())
    }

    /// The stored header at `height`, unless that is long ago.
    pub(super) fn header(&self, height: Height) -> Option<Digest> {
        self.headers.get(&height).copied()
    }

    /// What was promised below `height` is settled.
    pub(super) fn forget_below(&mut self, height: Height) {
        self.floor = self.floor.max(height);
        let floor = self.floor;
        self.signed = self.signed.split_off(&(floor, Kind::Propose, Regency(0)));
        self.bodies = self.bodies.split_off(&(floor, Digest::ZERO));
    }
}

/// Checks that kept evidence proves what it says.
pub(super) fn fault(context: &Context, fault: &Fault) -> Looked {
    let Some(evidence) = &fault.evidence else {
        return Err((Height(0), "a fault without evidence".into()));
    };
    let law = Law {
        view: &context.view,
        bounds: &context.bounds,
        ahead_max: context.genesis.parameters.ahead_max,
        verifier: &Verifier::ed25519(),
    };
    let (height, _) = evidence.place();
    match evidence.check(&law) {
        Ok((seat, kind)) if context.view.member(seat) == Some(fault.who) && kind == fault.kind => {
            Ok((height, Vec::new()))
        }
        Ok((seat, _)) => Err((
            height,
            format!("evidence against seat {seat}, not {}", fault.who),
        )),
        Err(error) => Err((height, error.to_string())),
    }
}
