//! The list that a committee is drawn from.
//!
//! Source: design of views: freeze the list, draw, assemble. In: the register at one height. Out:
//! the list as a reconfiguration block has it, its digest, the committee under a seed.
//! Holds: everything here follows from the list alone; later changes wait.
//! Elsewhere: the draw itself (`committee`), who proposes the blocks (`fsm::view`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::blocks::ViewRules;
use crate::blocks::body::Listed;
use crate::committee::{Candidate, Candidates, DrawError, Height, MemberId, RiskError};
use crate::crypto::{Digest, Domain, Hasher, PublicKey};

/// The version of a list's digest.
const LIST_VERSION: u8 = 1;

/// What a member brings into a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stake {
    /// Its weight, above zero.
    pub weight: u32,
    /// Its certified consensus key.
    pub key: PublicKey,
}

/// Who may be drawn, and under which rules: where this changes, another view is due.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footing {
    /// The members that may be drawn.
    pub members: BTreeMap<MemberId, Stake>,
    /// The rules.
    pub rules: ViewRules,
}

/// The register's list at one height.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slate {
    /// When it was fixed.
    pub height: Height,
    /// Every member with a vote and a key, by ascending id: the list of a reconfiguration block.
    pub listed: Vec<Listed>,
    /// Who may be drawn.
    pub footing: Footing,
}

/// Why no committee follows from a list. The parameters or the list are at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeError {
    /// Nobody can be drawn.
    #[error("{0}")]
    Draw(#[from] DrawError),
    /// No size bears the risk.
    #[error("{0}")]
    Risk(#[from] RiskError),
}

impl Footing {
    /// Who may be drawn, as the draw takes it.
    pub fn candidates(&self) -> Vec<Candidate> {
        let candidate = |(member, stake): (&MemberId, &Stake)| Candidate {
            member: *member,
            weight: stake.weight,
        };
        self.members.iter().map(candidate).collect()
    }

    /// The seats of the next committee.
    ///
    /// Errors: [`CommitteeError`].
    pub fn seats(&self) -> Result<usize, CommitteeError> {
        let candidates = Candidates::new(&self.candidates())?;
        Ok(self.size(&candidates)?)
    }

    fn size(&self, candidates: &Candidates) -> Result<usize, RiskError> {
        let ViewRules {
            risk,
            everyone_below,
            ..
        } = &self.rules;
        risk.seats(candidates, *everyone_below)
    }

    /// Whether all who may be drawn sit: then nothing is left to chance.
    ///
    /// Errors: [`CommitteeError`].
    pub fn is_everyone(&self) -> Result<bool, CommitteeError> {
        Ok(self.seats()? == self.members.len())
    }

    /// The committee under `seed`, by seat; everyone when few.
    ///
    /// Errors: [`CommitteeError`].
    pub fn committee(&self, seed: &Digest) -> Result<Vec<MemberId>, CommitteeError> {
        let candidates = Candidates::new(&self.candidates())?;
        let seats = self.size(&candidates)?;
        Ok(candidates.draw(seed, seats)?)
    }
}

impl Slate {
    /// What a freeze block names: the list and who of it may be drawn (`docs/formats.md`).
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::List);
        hasher.update(&[LIST_VERSION]);
        hasher.update(&(self.listed.len() as u64).to_le_bytes());
        for member in &self.listed {
            hasher.update(member.identity.as_bytes());
            for text in [&member.name, &member.address] {
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text.as_bytes());
            }
            hasher.update(&u64::from(member.weight).to_le_bytes());
            let proof = &member.admitted;
            hasher.update(proof.key.as_bytes());
            hasher
                .update(&proof.possession.0)
                .update(&proof.certified.0);
            let id = MemberId::of(&member.identity);
            hasher.update(&[self.footing.members.contains_key(&id).into()]);
        }
        let ViewRules {
            rotation_blocks,
            assemble_blocks,
            risk,
            everyone_below,
        } = self.footing.rules;
        for number in [
            rotation_blocks,
            assemble_blocks,
            risk.byzantine_ppm,
            risk.crashed_ppm,
        ] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&risk.one_in.get().to_le_bytes());
        hasher.update(&everyone_below.to_le_bytes());
        hasher.finish()
    }
}
