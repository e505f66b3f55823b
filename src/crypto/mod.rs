//! Digests, signatures, sign bytes and proof of checking.
//!
//! Source: BLAKE3, SHA-256, ed25519 under the ZIP-215 rule. In: bytes and keys. Out: digests,
//! signatures, verdicts.
//! Holds: one verification rule everywhere, single equals batch; every signed byte string starts
//! with a domain tag.
//! Elsewhere: who may sign what (`committee`), key files (`node`).

mod digest;
mod keys;
mod sign;
pub mod threshold;
mod verified;

pub use digest::{Digest, Domain, Hasher, ParseDigestError, sha256};
pub use keys::{PublicKey, SecretKey, Signature};
pub use sign::{SIGN_VERSION, SignBytes, Tag};
pub use verified::{Check, Verified, Verifier};

#[cfg(test)]
mod tests;
