//! Proof in a type that a value was checked, and the one way to check signatures.
//!
//! Source: ZIP-215, under which single and batch verification agree on every input. In: key,
//! statement, signature.
//! Out: a verdict; [`Verified`] is made only by the checks of the type it wraps.
//! Holds: what is counted was verified. Elsewhere: the threads that run checks in parallel
//! (`node`).

use std::ops::Deref;

use ed25519_zebra::{VerificationKey, VerificationKeyBytes, batch};
use rand::{SeedableRng, rngs::ChaCha12Rng};

use super::keys::simulated_signature;
use super::{Digest, Domain, Hasher, PublicKey, SignBytes, Signature};

/// A value whose signatures hold. Only checks inside this crate make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// States that `value` was checked; the caller is the check, or made the value itself.
    pub(crate) fn vouch(value: T) -> Self {
        Self(value)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// One signature to check.
#[derive(Clone, Debug)]
pub struct Check {
    /// Who is said to have signed.
    pub key: PublicKey,
    /// What.
    pub statement: SignBytes,
    /// With which result.
    pub signature: Signature,
}

impl Check {
    /// What names this very signature of this very statement by this very key.
    pub fn name(&self) -> Digest {
        let mut hasher = Hasher::new(Domain::Audit);
        hasher.update(self.key.as_bytes());
        hasher.update(&self.signature.0);
        hasher.update(self.statement.as_slice());
        hasher.finish()
    }
}

/// The scheme under which signatures are checked.
#[derive(Clone, Copy, Debug)]
pub struct Verifier {
    world: Option<Digest>,
}

impl Verifier {
    /// ed25519 under ZIP-215.
    pub fn ed25519() -> Self {
        Self { world: None }
    }

    /// The simulated scheme, whose signatures are keyed hashes under `world`.
    pub(crate) fn simulated(world: Digest) -> Self {
        Self { world: Some(world) }
    }

    /// Whether one signature holds.
    pub fn is_valid(&self, key: &PublicKey, statement: &SignBytes, signature: &Signature) -> bool {
        if let Some(world) = &self.world {
            return simulated_signature(world, key, statement.as_slice()) == *signature;
        }
        let Ok(key) = VerificationKey::try_from(*key.as_bytes()) else {
            return false;
        };
        let signature = ed25519_zebra::Signature::from_bytes(&signature.0);
        key.verify(&signature, statement.as_slice()).is_ok()
    }

    /// Whether every signature holds; empty is true. One bad signature fails the whole.
    pub fn all_valid(&self, checks: &[Check]) -> bool {
        if self.world.is_some() || checks.len() < 2 {
            return checks
                .iter()
                .all(|c| self.is_valid(&c.key, &c.statement, &c.signature));
        }
        let mut verifier = batch::Verifier::new();
        // The coefficients are drawn from a digest of everything checked: whoever chooses the
        // signatures cannot choose them, and no entropy is needed.
        let mut seed = Hasher::new(Domain::Audit);
        for check in checks {
            let length = check.statement.as_slice().len() as u64;
            seed.update(check.key.as_bytes());
            seed.update(&check.signature.0);
            seed.update(&length.to_le_bytes());
            seed.update(check.statement.as_slice());
            let signature = ed25519_zebra::Signature::from_bytes(&check.signature.0);
            let key = VerificationKeyBytes::from(*check.key.as_bytes());
            verifier.queue((key, signature, check.statement.as_slice()));
        }
        verifier
            .verify(ChaCha12Rng::from_seed(seed.finish().0))
            .is_ok()
    }
}
