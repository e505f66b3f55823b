//! A key that a committee holds together: f + 1 of its seats sign with it, fewer learn nothing.
//!
//! Source: BLS signatures with shares (threshold_crypto); key generation without a dealer as in
//! joint Feldman, with openings that anybody can judge in place of a complaint round among
//! receivers. In: the secret of a fresh consensus key, what others dealt. Out: dealings, openings,
//! a public key, shares of signatures.
//! Holds: every secret here follows from the consensus key's own, so it is forgotten with that;
//! what is public is bytes, and nothing in them is believed before it is checked.
//! Elsewhere: in which order things are said and who counts (`membership::register`), what is
//! signed and when (`consortium`).
//!
//! A *dealer* draws a polynomial of degree f, publishes the commitment to it and, for each
//! receiver, its value at the receiver's seat, encrypted. The committee's secret is the sum of the
//! polynomials of all dealers that count, and nobody ever has it. A receiver that finds its value
//! wrong publishes an *opening*, by which everybody can read that one value and see for themselves.

#[cfg(feature = "threshold")]
#[path = "pairing.rs"]
mod scheme;

#[cfg(not(feature = "threshold"))]
#[path = "absent.rs"]
mod scheme;

#[cfg(all(test, feature = "threshold"))]
mod tests;

use bytes::Bytes;

pub use self::scheme::Share;
use super::{Digest, SecretKey};

/// Whether this build can make and check threshold keys.
pub const IS_BUILT: bool = cfg!(feature = "threshold");
/// Bytes of a key to encrypt to, of one coefficient of a commitment, and of an opening.
pub const POINT_BYTES: usize = 48;
/// Bytes of a signature and of a share of one.
pub const SIGNATURE_BYTES: usize = 96;
/// Bytes of one receiver's part of a dealing: a point, its value, a point of the other group.
const SEALED_BYTES: usize = POINT_BYTES + 32 + SIGNATURE_BYTES;

/// Who receives a value, and the key that it is encrypted to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Receiver {
    /// Its seat, at which polynomials are evaluated.
    pub seat: u16,
    /// Its key, of [`POINT_BYTES`].
    pub key: Bytes,
}

/// What the parties of one key generation have in common.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What the key is made for; secrets of another purpose have nothing to do with it.
    pub context: &'a Digest,
    /// How many holders together still learn nothing: f.
    pub degree: usize,
    /// Who receives, in the order in which dealings serve them.
    pub receivers: &'a [Receiver],
}

impl Terms<'_> {
    /// Bytes of a dealing.
    pub fn dealing_bytes(&self) -> usize {
        self.commitment_bytes() + self.receivers.len() * SEALED_BYTES
    }

    /// Bytes of a commitment, and of the public key.
    pub fn commitment_bytes(&self) -> usize {
        (self.degree + 1) * POINT_BYTES
    }

    /// The commitment of a dealing.
    fn commitment<'d>(&self, dealing: &'d [u8]) -> Option<&'d [u8]> {
        (dealing.len() == self.dealing_bytes()).then(|| &dealing[..self.commitment_bytes()])
    }

    /// The part of a dealing that is for the receiver at `place`.
    fn sealed<'d>(&self, dealing: &'d [u8], place: usize) -> Option<&'d [u8]> {
        let parts = dealing.get(self.commitment_bytes()..)?;
        parts.chunks_exact(SEALED_BYTES).nth(place)
    }

    /// Whether a dealing has its length and commits to a polynomial; nothing is said of the values.
    pub fn is_dealing(&self, dealing: &[u8]) -> bool {
        let commitment = self.commitment(dealing);
        commitment.is_some_and(scheme::is_commitment)
    }

    /// Whether `opening`, by the receiver at `place`, shows that its value in `dealing` is wrong.
    pub fn convicts(&self, dealing: &[u8], place: usize, opening: &[u8]) -> bool {
        let parts = (self.commitment(dealing), self.sealed(dealing, place));
        let (Some(commitment), Some(sealed)) = parts else {
            return false;
        };
        let receiver = self.receivers.get(place);
        receiver.is_some_and(|to| scheme::convicts(commitment, sealed, to, opening))
    }

    /// The public key of the dealings that count.
    pub fn public<'d>(&self, dealings: impl IntoIterator<Item = &'d [u8]>) -> Option<Bytes> {
        let commitments: Option<Vec<&[u8]>> = dealings
            .into_iter()
            .map(|dealing| self.commitment(dealing))
            .collect();
        scheme::sum(&commitments?).filter(|sum| sum.len() == self.commitment_bytes())
    }
}

/// Whether `key` can be encrypted to.
pub fn is_key(key: &[u8]) -> bool {
    scheme::is_commitment(key) && key.len() == POINT_BYTES
}

/// The party of one key generation that holds this secret.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    secret: &'a SecretKey,
    context: &'a Digest,
}

impl<'a> Party<'a> {
    /// The party whose secrets follow from `secret`.
    pub fn new(secret: &'a SecretKey, context: &'a Digest) -> Self {
        Self { secret, context }
    }

    /// The key that values are encrypted to for it; nothing where [`IS_BUILT`] is false.
    pub fn key(&self) -> Option<Bytes> {
        scheme::key(self)
    }

    /// What it deals.
    pub fn deal(&self, terms: &Terms<'_>) -> Option<Bytes> {
        scheme::deal(self, terms).filter(|dealing| dealing.len() == terms.dealing_bytes())
    }

    /// Looks into its part of a dealing, at `place` among the receivers; the opening where that is
    /// wrong.
    pub fn complaint(&self, terms: &Terms<'_>, dealing: &[u8], place: usize) -> Option<Bytes> {
        scheme::open(self, terms, dealing, place).err()
    }

    /// Its share of the secret that the dealings make, at `place` among the receivers.
    pub fn share<'d>(
        &self,
        terms: &Terms<'_>,
        dealings: impl IntoIterator<Item = &'d [u8]>,
        place: usize,
    ) -> Option<Share> {
        scheme::share(self, terms, dealings, place)
    }
}

/// Puts shares of a signature together under the public key `public`; `shares` are by seat.
///
/// Errors: the seats whose shares are known not to hold, where too few are left.
pub fn combine(public: &[u8], shares: &[(u16, Bytes)], message: &[u8]) -> Result<Bytes, Vec<u16>> {
    scheme::combine(public, shares, message)
}

/// Whether the holders of `public` signed `message`.
pub fn is_signed(public: &[u8], signature: &[u8], message: &[u8]) -> bool {
    scheme::is_signed(public, signature, message)
}
