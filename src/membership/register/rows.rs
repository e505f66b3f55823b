//! The register as it is stored, and the digest that members compare.
//!
//! Source: `ARCHITECTURE.md`, tables. In: the register. Out: five rows, and back.
//! Holds: each row fits the codec however full the register is; what is read back belongs to the
//! chain. Elsewhere: where rows are kept and when (`node`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Asked, Audit, Ballot, Footing, Generation, Member, Register, Slate, ThresholdKey};
use crate::blocks::ViewRules;
use crate::blocks::codec::{self, DecodeError, ENCODED_BYTES_MAX};
use crate::committee::{KeyProof, MemberId, SeatKey, ViewId};
use crate::crypto::{Digest, Hasher, PublicKey};

/// The names of the rows, ascending.
pub const ROW_KEYS: [&[u8]; 5] = [
    b"register",
    b"register-clients",
    b"register-frozen",
    b"register-generation",
    b"register-threshold",
];

/// Everything but what may be large by itself.
#[derive(Serialize, Deserialize)]
struct Core {
    chain: Digest,
    view: ViewId,
    seats: Vec<SeatKey>,
    members: BTreeMap<MemberId, Member>,
    number: u32,
    requests: BTreeMap<MemberId, Asked>,
    ballots: BTreeMap<Digest, Ballot>,
    rules: ViewRules,
    base: Footing,
    renewals: BTreeSet<MemberId>,
    audit: Audit,
}

/// Why rows make no register. Whoever kept them is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// A row is not in the format.
    #[error("the register: {0}")]
    Decode(#[from] DecodeError),
    /// It is of another chain.
    #[error("the register is of chain {got}, not {want}")]
    OtherChain {
        /// Its chain.
        got: Digest,
        /// Ours.
        want: Digest,
    },
}

impl Register {
    /// The rows of [`ROW_KEYS`], in order.
    pub fn to_rows(&self) -> [Vec<u8>; 5] {
        let core = Core {
            chain: self.chain,
            view: self.view,
            seats: self.seats.clone(),
            members: self.members.clone(),
            number: self.number,
            requests: self.requests.clone(),
            ballots: self.ballots.clone(),
            rules: self.rules,
            base: self.base.clone(),
            renewals: self.renewals.clone(),
            audit: self.audit.clone(),
        };
        [
            codec::encode(&core),
            codec::encode(&self.clients),
            codec::encode(&self.frozen),
            codec::encode(&self.generation),
            codec::encode(&self.threshold),
        ]
    }

    /// The register that [`Register::to_rows`] wrote, of `chain`.
    ///
    /// Errors: [`RowsError`].
    pub fn from_rows(chain: &Digest, rows: [&[u8]; 5]) -> Result<Self, RowsError> {
        let [core, clients, frozen, generation, threshold] = rows;
        let core: Core = codec::decode(core, ENCODED_BYTES_MAX)?;
        let clients: Option<BTreeSet<PublicKey>> = codec::decode(clients, ENCODED_BYTES_MAX)?;
        let frozen: Option<Slate> = codec::decode(frozen, ENCODED_BYTES_MAX)?;
        let generation: Option<Generation> = codec::decode(generation, ENCODED_BYTES_MAX)?;
        let threshold: Option<ThresholdKey> = codec::decode(threshold, ENCODED_BYTES_MAX)?;
        let (got, want) = (core.chain, *chain);
        if got != want {
            return Err(RowsError::OtherChain { got, want });
        }
        Ok(Self {
            chain: core.chain,
            view: core.view,
            seats: core.seats,
            members: core.members,
            number: core.number,
            requests: core.requests,
            ballots: core.ballots,
            clients,
            rules: core.rules,
            base: core.base,
            renewals: core.renewals,
            frozen,
            generation,
            threshold,
            audit: core.audit,
        })
    }

    /// Adds everything here to a digest by which members compare their states: field by field,
    /// fixed-width, variable parts behind their length. Of the audit trail it takes how long it
    /// ever was, since every entry follows from the rest of the chain.
    pub fn hash_into(&self, hasher: &mut Hasher) {
        let mut out = Fields(hasher);
        out.raw(self.chain.as_bytes()).number(self.view.0);
        out.number(self.seats.len() as u64);
        for seat in &self.seats {
            out.raw(seat.member.0.as_bytes())
                .optional(seat.key.as_ref());
        }
        out.number(self.number.into());
        out.number(self.members.len() as u64);
        self.members.values().for_each(|member| out.member(member));
        out.number(self.requests.len() as u64);
        for asked in self.requests.values() {
            let request = &asked.request;
            out.raw(asked.identity.as_bytes()).number(asked.height.0);
            out.text(&request.name).text(&request.address);
            out.tags(&request.tags).key(&request.key);
        }
        out.number(self.ballots.len() as u64);
        for (id, ballot) in &self.ballots {
            out.raw(id.as_bytes()).number(ballot.opened.0);
            out.number(ballot.by.map_or(u64::MAX, u64::from));
            for side in [&ballot.approvals, &ballot.rejections] {
                out.number(side.len() as u64);
                side.iter().for_each(|number| {
                    out.number((*number).into());
                });
            }
        }
        out.number(self.clients.as_ref().map_or(u64::MAX, |c| c.len() as u64));
        for client in self.clients.iter().flatten() {
            out.raw(client.as_bytes());
        }
        out.rules(&self.rules).footing(&self.base);
        out.number(self.frozen.is_some().into());
        if let Some(slate) = &self.frozen {
            out.number(slate.height.0).raw(slate.digest().as_bytes());
            out.footing(&slate.footing);
        }
        out.number(self.renewals.len() as u64);
        for member in &self.renewals {
            out.raw(member.0.as_bytes());
        }
        out.number(self.audit.count());
        out.number(self.generation.is_some().into());
        if let Some(generation) = &self.generation {
            generation.hash_into(out.0);
        }
        out.number(self.threshold.is_some().into());
        if let Some(threshold) = &self.threshold {
            threshold.hash_into(out.0);
        }
    }
}

/// Writes fields into a digest.
struct Fields<'a>(&'a mut Hasher);

impl Fields<'_> {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    fn number(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64).raw(text.as_bytes())
    }

    fn tags(&mut self, tags: &[String]) -> &mut Self {
        self.number(tags.len() as u64);
        tags.iter().for_each(|tag| {
            self.text(tag);
        });
        self
    }

    fn optional(&mut self, key: Option<&PublicKey>) -> &mut Self {
        self.number(key.is_some().into());
        key.into_iter().for_each(|key| {
            self.raw(key.as_bytes());
        });
        self
    }

    fn key(&mut self, proof: &KeyProof) -> &mut Self {
        self.raw(proof.key.as_bytes())
            .raw(&proof.possession.0)
            .raw(&proof.certified.0)
    }

    fn member(&mut self, member: &Member) {
        self.raw(member.identity.as_bytes())
            .number(member.number.into());
        self.text(&member.name)
            .text(&member.address)
            .tags(&member.tags);
        self.number(member.weight.into()).number(member.admitted.0);
        self.number(member.key.is_some().into());
        if let Some(certified) = &member.key {
            self.key(&certified.proof)
                .number(certified.view.0)
                .raw(certified.assemble.as_bytes());
        }
        self.text(member.status.name())
            .number(member.is_seated.into());
        let replaced = member.replaces.map(|id| PublicKey(id.0));
        self.optional(replaced.as_ref());
    }

    fn rules(&mut self, rules: &ViewRules) -> &mut Self {
        let risk = &rules.risk;
        self.number(rules.rotation_blocks.into())
            .number(rules.assemble_blocks.into())
            .number(risk.byzantine_ppm.into())
            .number(risk.crashed_ppm.into())
            .number(risk.one_in.get())
            .number(rules.everyone_below.into())
    }

    fn footing(&mut self, footing: &Footing) {
        self.rules(&footing.rules)
            .number(footing.members.len() as u64);
        for (id, stake) in &footing.members {
            self.raw(id.0.as_bytes())
                .number(stake.weight.into())
                .raw(stake.key.as_bytes());
        }
    }
}
