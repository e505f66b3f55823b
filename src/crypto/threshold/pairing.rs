//! The scheme over BLS12-381, by threshold_crypto and the groups that it brings.
//!
//! Source: Boldyreva's threshold BLS; Feldman's verifiable shares; hashed ElGamal whose proof of
//! form is bound to all that is dealt (Baek and Zheng). In and out: bytes, points compressed, field
//! elements as 32 bytes little-endian.
//! Holds: points are on their curve, in their group and not its identity; what one dealing encrypts
//! is no part of another, so an opening opens nothing else; the crate's types do not leave this
//! file.
//! Elsewhere: lengths and places (`threshold`).

use bytes::Bytes;
use serde_json::json;
use threshold_crypto as tc;
use threshold_crypto::ff::{PrimeField, PrimeFieldRepr};
use threshold_crypto::group::{CurveAffine, CurveProjective, EncodedPoint};
use threshold_crypto::pairing::Engine;
use threshold_crypto::pairing::bls12_381::{Bls12, Fr, FrRepr, G1, G1Affine, G2, G2Affine};
use threshold_crypto::poly::{Commitment, Poly};
use zeroize::Zeroize;

use super::super::keys::wipe_stack;
use super::super::{Digest, Domain, Hasher};
use super::{POINT_BYTES, Parts, Party, Receiver, SIGNATURE_BYTES, Terms, VALUE_BYTES};

/// A seat's share of its committee's secret.
pub struct Share(tc::SecretKeyShare);

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("share")
    }
}

impl Share {
    /// Its part of the committee's signature over `message`.
    pub fn sign(&self, message: &[u8]) -> Bytes {
        let signed = self.0.sign(message).to_bytes();
        wipe_stack();
        Bytes::copy_from_slice(&signed)
    }
}

/// What the secrets of a party are for, and what is hashed.
#[derive(Clone, Copy)]
enum Purpose {
    /// Values are encrypted to it.
    Decrypt,
    /// Coefficients of the polynomial.
    Deal,
    /// The randomness of a dealing.
    Encrypt,
    /// What hides a value.
    Pad,
    /// What shows that the secret of a key is held.
    Possession,
    /// What binds a dealing's parts to each other.
    Bind,
}

fn hasher(purpose: Purpose, context: &Digest) -> Hasher {
    let mut hasher = Hasher::new(Domain::Threshold);
    hasher.update(&[purpose as u8]);
    hasher.update(context.as_bytes());
    hasher
}

impl Party<'_> {
    /// A field element, uniform: of 255 drawn bits the first that are below the order.
    fn element(&self, purpose: Purpose, number: usize) -> Fr {
        let mut tries = (0_u64..).map(|attempt| {
            let mut hasher = hasher(purpose, self.context);
            hasher.update(self.secret.seed());
            hasher.update(&(number as u64).to_le_bytes());
            hasher.update(&attempt.to_le_bytes());
            let mut bytes = hasher.finish().0;
            bytes[31] &= 0x7f;
            let element = element(&bytes);
            bytes.zeroize();
            element
        });
        // Nine in ten tries are below it.
        tries.find_map(|drawn| drawn).expect("tries go on")
    }
}

fn element(bytes: &[u8; VALUE_BYTES]) -> Option<Fr> {
    let mut repr = FrRepr::default();
    repr.read_le(&bytes[..]).ok()?;
    Fr::from_repr(repr).ok()
}

fn element_bytes(element: &Fr) -> [u8; VALUE_BYTES] {
    let mut bytes = [0; VALUE_BYTES];
    let written = element.into_repr().write_le(&mut bytes[..]);
    written.expect("an element has 32 bytes");
    bytes
}

/// A point in its group, and not the identity.
fn point<A: CurveAffine>(bytes: &[u8]) -> Option<A> {
    let mut encoded = A::Compressed::empty();
    if bytes.len() != A::Compressed::size() {
        return None;
    }
    encoded.as_mut().copy_from_slice(bytes);
    encoded
        .into_affine()
        .ok()
        .filter(|point: &A| !point.is_zero())
}

fn point_bytes<P: CurveProjective>(point: &P) -> Vec<u8> {
    point.into_affine().into_compressed().as_ref().to_vec()
}

/// Whether e(a, b) = e(c, d).
fn is_paired(a: impl Into<G1Affine>, b: G2, c: impl Into<G1Affine>, d: G2) -> bool {
    Bls12::pairing(a, b) == Bls12::pairing(c, d)
}

fn points(commitment: &[u8]) -> Option<Vec<G1Affine>> {
    commitment.chunks(POINT_BYTES).map(point).collect()
}

/// The committed polynomial at the place of `seat`, in the group.
fn evaluate(commitment: &[u8], seat: u16) -> Option<G1> {
    let points = points(commitment)?;
    let mut sum = G1::zero();
    for coefficient in points.iter().rev() {
        sum.mul_assign(u64::from(seat) + 1);
        sum.add_assign_mixed(coefficient);
    }
    Some(sum)
}

pub(super) fn sum(commitments: &[&[u8]]) -> Option<Bytes> {
    let (first, rest) = commitments.split_first()?;
    let mut sums: Vec<G1> = points(first)?
        .iter()
        .map(G1Affine::into_projective)
        .collect();
    for other in rest {
        for (sum, point) in sums.iter_mut().zip(points(other)?) {
            sum.add_assign_mixed(&point);
        }
    }
    Some(
        sums.iter()
            .flat_map(point_bytes)
            .collect::<Vec<u8>>()
            .into(),
    )
}

/// The point that shows, multiplied by the secret of `key`, that it is held at this seat.
fn possession(context: &Digest, seat: u16, key: &[u8]) -> G2 {
    let mut hasher = hasher(Purpose::Possession, context);
    hasher.update(&seat.to_le_bytes());
    hasher.update(key);
    tc::hash_g2(hasher.finish().0)
}

pub(super) fn key(party: &Party<'_>, seat: u16) -> Option<Bytes> {
    let secret = party.element(Purpose::Decrypt, 0);
    let mut bytes = point_bytes(&G1Affine::one().mul(secret));
    let mut proof = possession(party.context, seat, &bytes);
    proof.mul_assign(secret);
    wipe_stack();
    bytes.extend(point_bytes(&proof));
    Some(bytes.into())
}

pub(super) fn is_key(context: &Digest, seat: u16, key: &[u8], proof: &[u8]) -> bool {
    let (Some(at), Some(proof)) = (point::<G1Affine>(key), point::<G2Affine>(proof)) else {
        return false;
    };
    let held = possession(context, seat, key);
    is_paired(G1Affine::one(), proof.into_projective(), at, held)
}

/// The point that binds the parts of one dealing to its dealer and to each other.
fn bound(context: &Digest, dealer: u16, parts: &Parts<'_>) -> G2 {
    let mut hasher = hasher(Purpose::Bind, context);
    hasher.update(&dealer.to_le_bytes());
    for part in [parts.commitment, parts.point, parts.values] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    tc::hash_g2(hasher.finish().0)
}

/// What hides the value for `receiver`: known to who made `point` and to the receiver.
fn pad(context: &Digest, dealer: u16, receiver: &Receiver, shared: &[u8]) -> Digest {
    let mut hasher = hasher(Purpose::Pad, context);
    hasher.update(&dealer.to_le_bytes());
    hasher.update(&receiver.seat.to_le_bytes());
    hasher.update(shared);
    hasher.finish()
}

/// Hides a value under a pad, or shows it again.
fn masked(value: &[u8], pad: &Digest) -> [u8; VALUE_BYTES] {
    let mut bytes = pad.0;
    for (byte, other) in bytes.iter_mut().zip(value) {
        *byte ^= other;
    }
    bytes
}

pub(super) fn deal(party: &Party<'_>, terms: &Terms<'_>, dealer: u16) -> Option<Bytes> {
    let numbers = 0..=terms.degree;
    let coefficients: Vec<Fr> = numbers.map(|n| party.element(Purpose::Deal, n)).collect();
    let in_group = |coefficient: &Fr| point_bytes(&G1Affine::one().mul(*coefficient));
    let commitment: Vec<u8> = coefficients.iter().flat_map(in_group).collect();
    let polynomial = Poly::from(coefficients); // wiped when dropped
    let drawn = party.element(Purpose::Encrypt, 0);
    let mut values = Vec::new();
    for receiver in terms.receivers {
        let shared = point_bytes(&point::<G1Affine>(&receiver.key)?.mul(drawn));
        let mut bytes = element_bytes(&polynomial.evaluate(u64::from(receiver.seat) + 1));
        values.extend(masked(
            &bytes,
            &pad(terms.context, dealer, receiver, &shared),
        ));
        bytes.zeroize();
    }
    let at = point_bytes(&G1Affine::one().mul(drawn));
    let parts = Parts {
        commitment: &commitment,
        point: &at,
        proof: &[],
        values: &values,
    };
    let mut proof = bound(terms.context, dealer, &parts);
    proof.mul_assign(drawn);
    wipe_stack();
    Some(
        [commitment, at, point_bytes(&proof), values]
            .concat()
            .into(),
    )
}

pub(super) fn is_dealing(context: &Digest, dealer: u16, parts: &Parts<'_>) -> bool {
    let at = point::<G1Affine>(parts.point);
    let (Some(at), Some(proof)) = (at, point::<G2Affine>(parts.proof)) else {
        return false;
    };
    points(parts.commitment).is_some()
        && is_paired(
            G1Affine::one(),
            proof.into_projective(),
            at,
            bound(context, dealer, parts),
        )
}

/// What the receiver and the dealer share, as an opening shows it.
fn shared(party: &Party<'_>, parts: &Parts<'_>) -> Option<Vec<u8>> {
    let at = point::<G1Affine>(parts.point)?;
    Some(point_bytes(&at.mul(party.element(Purpose::Decrypt, 0))))
}

/// Whether the value that `shared` shows is not the committed one.
fn is_wrong(
    terms: &Terms<'_>,
    dealer: u16,
    parts: &Parts<'_>,
    place: usize,
    shared: &[u8],
) -> bool {
    let (receiver, hidden) = (&terms.receivers[place], parts.value(place));
    let mut bytes = masked(hidden, &pad(terms.context, dealer, receiver, shared));
    let in_group = element(&bytes).map(|value| G1Affine::one().mul(value));
    bytes.zeroize();
    in_group.is_none() || in_group != evaluate(parts.commitment, receiver.seat)
}

pub(super) fn complaint(
    party: &Party<'_>,
    terms: &Terms<'_>,
    (dealer, parts): (u16, &Parts<'_>),
    place: usize,
) -> Option<Bytes> {
    let shared = shared(party, parts)?;
    let wrong = is_wrong(terms, dealer, parts, place, &shared);
    wipe_stack();
    wrong.then(|| shared.into())
}

pub(super) fn convicts(
    terms: &Terms<'_>,
    (dealer, parts): (u16, &Parts<'_>),
    place: usize,
    opening: &[u8],
) -> bool {
    let key = point::<G1Affine>(&terms.receivers[place].key);
    let proof = point::<G2Affine>(parts.proof);
    let (Some(key), Some(proof), Some(shown)) = (key, proof, point::<G1Affine>(opening)) else {
        return false;
    };
    let bound = bound(terms.context, dealer, parts);
    is_paired(shown, bound, key, proof.into_projective())
        && is_wrong(terms, dealer, parts, place, opening)
}

pub(super) fn share<'d>(
    party: &Party<'_>,
    terms: &Terms<'_>,
    dealings: impl Iterator<Item = (u16, Parts<'d>)>,
    place: usize,
) -> Option<Share> {
    let mut sum = Poly::zero(); // wiped when dropped
    for (dealer, parts) in dealings {
        let mut shared = shared(party, &parts)?;
        let pad = pad(terms.context, dealer, &terms.receivers[place], &shared);
        let mut bytes = masked(parts.value(place), &pad);
        sum += Poly::constant(element(&bytes)?);
        bytes.zeroize();
        shared.zeroize();
    }
    let share = tc::SecretKeyShare::from_mut(&mut sum.evaluate(0_u64));
    wipe_stack();
    Some(Share(share))
}

/// The crate's form of a public key, whose only way in is that of serde.
fn public_keys(public: &[u8]) -> Option<tc::PublicKeySet> {
    let coefficients: Vec<&[u8]> = public.chunks(POINT_BYTES).collect();
    let commitment: Result<Commitment, _> =
        serde_json::from_value(json!({ "coeff": coefficients }));
    let commitment = commitment.ok().filter(|_| !public.is_empty())?;
    Some(tc::PublicKeySet::from(commitment))
}

pub(super) fn combine(
    public: &[u8],
    shares: &[(u16, Bytes)],
    message: &[u8],
) -> Result<Bytes, Vec<u16>> {
    let keys = public_keys(public).ok_or_else(Vec::new)?;
    let need = keys.threshold() + 1;
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (seat, bytes) in shares {
        let bytes = <[u8; SIGNATURE_BYTES]>::try_from(&bytes[..]).ok();
        match bytes.and_then(|bytes| tc::SignatureShare::from_bytes(bytes).ok()) {
            Some(share) => good.push((*seat, share)),
            None => bad.push(*seat),
        }
    }
    // As a rule all hold: one check of the whole instead of one for each share.
    let whole = good
        .get(..need)
        .and_then(|some| joined(&keys, some, message));
    if good.len() < need || whole.is_some() {
        return whole.ok_or(bad);
    }
    good.retain(|(seat, share)| {
        let key = keys.public_key_share(u64::from(*seat));
        let holds = key.verify(share, message);
        if !holds {
            bad.push(*seat);
        }
        holds
    });
    let whole = good
        .get(..need)
        .and_then(|some| joined(&keys, some, message));
    whole.ok_or(bad)
}

fn joined(
    keys: &tc::PublicKeySet,
    shares: &[(u16, tc::SignatureShare)],
    message: &[u8],
) -> Option<Bytes> {
    let by_seat = shares.iter().map(|(seat, share)| (u64::from(*seat), share));
    let whole = keys.combine_signatures(by_seat).ok()?;
    let holds = keys.public_key().verify(&whole, message);
    holds.then(|| Bytes::copy_from_slice(&whole.to_bytes()))
}

pub(super) fn is_signed(public: &[u8], signature: &[u8], message: &[u8]) -> bool {
    let first = public.get(..POINT_BYTES);
    let first = first.and_then(|first| <[u8; POINT_BYTES]>::try_from(first).ok());
    let key = first.and_then(|bytes| tc::PublicKey::from_bytes(bytes).ok());
    let signature = <[u8; SIGNATURE_BYTES]>::try_from(signature).ok();
    let signature = signature.and_then(|bytes| tc::Signature::from_bytes(bytes).ok());
    matches!((key, signature), (Some(key), Some(signature)) if key.verify(&signature, message))
}
