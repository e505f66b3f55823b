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
//! Keys and dealings carry proofs bound to their seat: a copy of somebody else's is worth nothing,
//! and a dealer cannot make a receiver open what another one dealt.

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
/// Bytes of a point to encrypt to, of one coefficient of a commitment, and of an opening.
pub const POINT_BYTES: usize = 48;
/// Bytes of a signature, of a share of one, and of a proof.
pub const SIGNATURE_BYTES: usize = 96;
/// Bytes of a key as it is published: the point, and the proof that its secret is held.
pub const KEY_BYTES: usize = POINT_BYTES + SIGNATURE_BYTES;
/// Bytes of a value.
const VALUE_BYTES: usize = 32;

/// Who receives a value, and the point that it is encrypted to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Receiver {
    /// Its seat, at which polynomials are evaluated.
    pub seat: u16,
    /// Its point, of [`POINT_BYTES`].
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

/// A dealing: the commitment, a point that all values are encrypted with, the proof that binds all
/// of it to the dealer, a hidden value for each receiver.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "threshold"),
    expect(dead_code, reason = "only the scheme looks in")
)]
struct Parts<'d> {
    commitment: &'d [u8],
    point: &'d [u8],
    proof: &'d [u8],
    values: &'d [u8],
}

#[cfg(feature = "threshold")]
impl Parts<'_> {
    /// The value for the receiver at `place`, which is one of the receivers.
    fn value(&self, place: usize) -> &[u8] {
        &self.values[place * VALUE_BYTES..][..VALUE_BYTES]
    }
}

impl Terms<'_> {
    /// Bytes of a dealing.
    pub fn dealing_bytes(&self) -> usize {
        self.commitment_bytes() + KEY_BYTES + self.receivers.len() * VALUE_BYTES
    }

    /// Bytes of a commitment, and of the public key.
    fn commitment_bytes(&self) -> usize {
        (self.degree + 1) * POINT_BYTES
    }

    fn parts<'d>(&self, dealing: &'d [u8]) -> Option<Parts<'d>> {
        if dealing.len() != self.dealing_bytes() {
            return None;
        }
        let (commitment, rest) = dealing.split_at(self.commitment_bytes());
        let (point, rest) = rest.split_at(POINT_BYTES);
        let (proof, values) = rest.split_at(SIGNATURE_BYTES);
        Some(Parts {
            commitment,
            point,
            proof,
            values,
        })
    }

    /// Whether `key` is one of `seat`'s own, with [`KEY_BYTES`]; the point of it.
    pub fn key_of(&self, seat: u16, key: &Bytes) -> Option<Bytes> {
        let (point, proof) = key.split_at_checked(POINT_BYTES)?;
        scheme::is_key(self.context, seat, point, proof).then(|| key.slice(..POINT_BYTES))
    }

    /// Whether `dealing` is one of `dealer`'s own; nothing is said of the values in it. Costs two
    /// pairings and f + 1 points.
    pub fn is_dealing(&self, dealer: u16, dealing: &[u8]) -> bool {
        let parts = self.parts(dealing);
        parts.is_some_and(|parts| scheme::is_dealing(self.context, dealer, &parts))
    }

    /// Whether `opening`, by the receiver at `place`, shows that its value in `dealing` is wrong;
    /// the dealing is `dealer`'s own. Costs two pairings and f + 1 points.
    pub fn convicts(&self, dealer: u16, dealing: &[u8], place: usize, opening: &[u8]) -> bool {
        let parts = self.parts(dealing).filter(|_| place < self.receivers.len());
        parts.is_some_and(|parts| scheme::convicts(self, (dealer, &parts), place, opening))
    }

    /// The public key of the dealings that count.
    pub fn public<'d>(&self, dealings: impl IntoIterator<Item = &'d [u8]>) -> Option<Bytes> {
        let commitment = |dealing| Some(self.parts(dealing)?.commitment);
        let commitments: Option<Vec<&[u8]>> = dealings.into_iter().map(commitment).collect();
        scheme::sum(&commitments?)
    }
}

/// The party of one key generation that holds this secret.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "threshold"),
    expect(dead_code, reason = "only the scheme looks in")
)]
pub struct Party<'a> {
    secret: &'a SecretKey,
    context: &'a Digest,
}

impl<'a> Party<'a> {
    /// The party whose secrets follow from `secret`.
    pub fn new(secret: &'a SecretKey, context: &'a Digest) -> Self {
        Self { secret, context }
    }

    /// The key that values are encrypted to for it at `seat`, of [`KEY_BYTES`]; nothing where
    /// [`IS_BUILT`] is false.
    pub fn key(&self, seat: u16) -> Option<Bytes> {
        scheme::key(self, seat)
    }

    /// What it deals from `seat`.
    pub fn deal(&self, terms: &Terms<'_>, seat: u16) -> Option<Bytes> {
        scheme::deal(self, terms, seat)
    }

    /// Looks into its part, at `place` among the receivers, of a dealing that is `dealer`'s own;
    /// the opening where its value is wrong.
    pub fn complaint(
        &self,
        terms: &Terms<'_>,
        dealer: u16,
        dealing: &[u8],
        place: usize,
    ) -> Option<Bytes> {
        let parts = terms
            .parts(dealing)
            .filter(|_| place < terms.receivers.len())?;
        scheme::complaint(self, terms, (dealer, &parts), place)
    }

    /// Its share of the secret that the dealings make, at `place` among the receivers. It has seen
    /// before that its values in them are right.
    pub fn share<'d>(
        &self,
        terms: &Terms<'_>,
        dealings: impl IntoIterator<Item = (u16, &'d [u8])>,
        place: usize,
    ) -> Option<Share> {
        let parts = |(dealer, dealing)| Some((dealer, terms.parts(dealing)?));
        let dealings: Option<Vec<_>> = dealings.into_iter().map(parts).collect();
        let dealings = dealings.filter(|_| place < terms.receivers.len())?;
        scheme::share(self, terms, dealings.into_iter(), place)
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
