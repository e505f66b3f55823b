//! What a SYNC settles: a pure function of its set, recomputed by every receiver.
//!
//! Source: Mod-SMaRt, synchronisation phase; bind rules as settled in `ARCHITECTURE.md`. In: a
//! checked SYNC.
//! Out: [`Settled`]: base, bound digests, the next timeout.
//! Holds: over the set a height is bound to its decision, or else to the lock of the highest
//! regency, or else unbound; a claim without its certificate makes the whole SYNC void. Elsewhere:
//! who collects it (`regency`).

use std::collections::BTreeMap;

use super::message::Sync;
use crate::committee::{Certificate, Claim, Height, Kind, StopData, View};
use crate::crypto::Digest;
use crate::plant::{self, Plant};

/// What a regency starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// The newest block certificate in the set; none at the start of the chain.
    pub(super) base: Option<Certificate>,
    /// The only digest that may be written, per height that has one.
    pub(super) bound: BTreeMap<Height, Digest>,
    /// The (f + 1)-th highest timeout in the set: a correct seat has at least as much, and f liars
    /// cannot raise it.
    pub(super) timeout_us: u64,
}

/// Why a SYNC or a STOP-DATA is void. Its maker is faulty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SyncError {
    /// The highest base has no block certificate beside it.
    #[error("base {0} has no certificate")]
    Base(Height),
    /// A decision or a highest lock has no certificate beside it.
    #[error("the claim for height {0} has no certificate")]
    Claim(Height),
}

/// What `sync` settles, its signatures having been checked.
pub(super) fn settle(sync: &Sync, view: &View) -> Result<Settled, SyncError> {
    let opening = view.opening().height;
    let base = base_of(sync.set.iter(), &sync.proofs, opening)?;
    let floor = base
        .as_ref()
        .map_or(opening, |certificate| certificate.ballot.height);
    let mut by_height: BTreeMap<Height, Vec<&Claim>> = BTreeMap::new();
    for claim in sync.set.iter().flat_map(|data| &data.claims) {
        by_height.entry(claim.height).or_default().push(claim);
    }
    let floor = match plant::is(Plant::DecisionProvesBelow) {
        true => decided_below(&by_height).max(floor),
        false => floor,
    };
    let mut bound = BTreeMap::new();
    for (height, claims) in by_height {
        let digest = bind(&claims, &sync.proofs)?;
        if height > floor && !plant::is(Plant::BoundIgnored) {
            bound.insert(height, digest);
        }
    }
    let mut timeouts: Vec<u64> = sync.set.iter().map(|data| data.timeout_us).collect();
    timeouts.sort_unstable_by(|a, b| b.cmp(a));
    let timeout_us = timeouts.get(view.sizes().f).copied().unwrap_or(0);
    Ok(Settled {
        base,
        bound,
        timeout_us,
    })
}

/// The certificates out of `proofs` that a SYNC of `view` over `set` needs.
pub(super) fn needed(set: &[StopData], proofs: &[Certificate], view: &View) -> Vec<Certificate> {
    let mut needed = Vec::new();
    let base = base_of(set.iter(), proofs, view.opening().height);
    needed.extend(base.ok().flatten());
    let mut by_height: BTreeMap<Height, Vec<&Claim>> = BTreeMap::new();
    for claim in set.iter().flat_map(|data| &data.claims) {
        by_height.entry(claim.height).or_default().push(claim);
    }
    for claims in by_height.values() {
        for claim in claims.iter().filter(|claim| must_be_proved(claim, claims)) {
            let proof = proofs.iter().find(|proof| proves(proof, claim));
            needed.extend(proof.filter(|proof| !needed.contains(proof)).cloned());
        }
    }
    needed
}

/// Whether every claim of one STOP-DATA has its certificate in `proofs`.
pub(super) fn is_proved(data: &StopData, proofs: &[Certificate], view: &View) -> bool {
    let has_base = base_of([data].into_iter(), proofs, view.opening().height).is_ok();
    has_base
        && data
            .claims
            .iter()
            .all(|claim| is_believed(claim) || is_proved_by(claim, proofs))
}

/// The planted bug: a lock is believed without its certificate.
fn is_believed(claim: &Claim) -> bool {
    plant::is(Plant::UnprovedLock) && !claim.is_decided
}

fn is_proved_by(claim: &Claim, proofs: &[Certificate]) -> bool {
    proofs.iter().any(|proof| proves(proof, claim))
}

/// The planted bug: the heights below the highest decision are taken for decided too.
fn decided_below(by_height: &BTreeMap<Height, Vec<&Claim>>) -> Height {
    let is_decided = |claims: &&Vec<&Claim>| claims.iter().any(|claim| claim.is_decided);
    let mut decided = by_height.iter().rev();
    let highest = decided.find(|(_, claims)| is_decided(claims));
    highest.map_or(Height(0), |(height, _)| height.minus(1))
}

fn base_of<'a>(
    set: impl Iterator<Item = &'a StopData>,
    proofs: &[Certificate],
    opening: Height,
) -> Result<Option<Certificate>, SyncError> {
    let Some(highest) = set.max_by_key(|data| data.base) else {
        return Ok(None);
    };
    // Whoever votes in the view holds the certificate of the block that opened it.
    if highest.base == opening {
        return Ok(None);
    }
    let is_base = |proof: &&Certificate| {
        let ballot = proof.ballot;
        ballot.kind == Kind::Persist
            && ballot.height == highest.base
            && ballot.digest == highest.base_digest
    };
    let proof = proofs.iter().find(is_base).cloned();
    proof.map(Some).ok_or(SyncError::Base(highest.base))
}

/// The digest that the claims for one height bind it to.
fn bind(claims: &[&Claim], proofs: &[Certificate]) -> Result<Digest, SyncError> {
    let mut bound: Option<&Claim> = None;
    for claim in claims.iter().filter(|claim| must_be_proved(claim, claims)) {
        if !is_believed(claim) && !is_proved_by(claim, proofs) {
            return Err(SyncError::Claim(claim.height));
        }
        // A decision stands before every lock; among locks of the highest regency there is one
        // digest, for two WRITE certificates of one regency meet in a correct seat that wrote once.
        if bound.is_none_or(|held| !held.is_decided && claim.is_decided) {
            bound = Some(claim);
        }
    }
    let bound = bound.expect("a height with claims has a highest one, and that must be proved");
    Ok(bound.lock.digest)
}

fn must_be_proved(claim: &Claim, claims: &[&Claim]) -> bool {
    let locks = claims.iter().filter(|c| !c.is_decided);
    let regencies = locks.map(|c| c.lock.regency);
    let highest = match plant::is(Plant::LowestLock) {
        true => regencies.min(),
        false => regencies.max(),
    };
    claim.is_decided || Some(claim.lock.regency) == highest
}

fn proves(proof: &Certificate, claim: &Claim) -> bool {
    let kind = if claim.is_decided {
        Kind::Accept
    } else {
        Kind::Write
    };
    let ballot = proof.ballot;
    ballot.kind == kind
        && ballot.height == claim.height
        && ballot.regency == claim.lock.regency
        && ballot.digest == claim.lock.digest
}
