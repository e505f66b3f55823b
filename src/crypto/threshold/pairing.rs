//! The scheme over BLS12-381, by threshold_crypto.
//!
//! Source: Boldyreva's threshold BLS; Feldman's verifiable shares; hashed ElGamal with a proof that
//! a ciphertext is well-formed (Baek and Zheng). In and out: bytes, points compressed, field
//! elements as 32 bytes little-endian.
//! Holds: points are on their curve and in their group; the crate's types do not leave this file.
//! Elsewhere: lengths and places (`threshold`).

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use threshold_crypto as tc;
use threshold_crypto::ff::{PrimeField, PrimeFieldRepr};
use threshold_crypto::pairing::bls12_381::{Fr, FrRepr};
use threshold_crypto::poly::{Commitment, Poly};
use zeroize::Zeroize;

use super::super::keys::wipe_stack;
use super::super::{Domain, Hasher};
use super::{POINT_BYTES, Party, Receiver, SIGNATURE_BYTES, Terms};

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

/// What the party's secrets are for; the last byte of what they are derived from.
#[derive(Clone, Copy)]
enum Purpose {
    /// Values are encrypted to it.
    Decrypt,
    /// Coefficients of the polynomial.
    Deal,
    /// The randomness of an encryption.
    Encrypt,
}

impl Party<'_> {
    /// A secret of this party: of one purpose, number and try each another.
    fn derive(&self, purpose: Purpose, number: usize, attempt: u64) -> [u8; 32] {
        let mut hasher = Hasher::new(Domain::Threshold);
        hasher.update(self.secret.seed());
        hasher.update(self.context.as_bytes());
        hasher.update(&[purpose as u8]);
        hasher.update(&(number as u64).to_le_bytes());
        hasher.update(&attempt.to_le_bytes());
        hasher.finish().0
    }

    /// A field element, uniform: of 255 drawn bits the first that are below the order.
    fn element(&self, purpose: Purpose, number: usize) -> Fr {
        let mut tries = (0..).map(|attempt| {
            let mut bytes = self.derive(purpose, number, attempt);
            bytes[31] &= 0x7f;
            let element = element(&bytes);
            bytes.zeroize();
            element
        });
        // Nine in ten tries are below it.
        tries.find_map(|drawn| drawn).expect("tries go on")
    }

    fn decryption_key(&self) -> tc::SecretKeyShare {
        let key = tc::SecretKeyShare::from_mut(&mut self.element(Purpose::Decrypt, 0));
        wipe_stack();
        key
    }
}

fn element(bytes: &[u8; 32]) -> Option<Fr> {
    let mut repr = FrRepr::default();
    repr.read_le(&bytes[..]).ok()?;
    Fr::from_repr(repr).ok()
}

fn element_bytes(element: &Fr) -> [u8; 32] {
    let mut bytes = [0; 32];
    let written = element.into_repr().write_le(&mut bytes[..]);
    written.expect("an element has 32 bytes");
    bytes
}

/// Reads a type of the crate by its only public form, that of serde.
fn read<T: DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

/// The bytes in what serde gives of a type of the crate, in order.
fn written(value: &impl Serialize) -> Vec<u8> {
    fn collect(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Number(byte) => out.extend(byte.as_u64().and_then(|b| u8::try_from(b).ok())),
            Value::Array(parts) => parts.iter().for_each(|part| collect(part, out)),
            Value::Object(parts) => parts.values().for_each(|part| collect(part, out)),
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    let mut out = Vec::new();
    collect(&serde_json::to_value(value).unwrap_or_default(), &mut out);
    out
}

fn commitment(points: &[u8]) -> Option<Commitment> {
    let coefficients: Vec<&[u8]> = points.chunks(POINT_BYTES).collect();
    (!coefficients.is_empty()).then(|| read(json!({ "coeff": coefficients })))?
}

fn ciphertext(sealed: &[u8]) -> Option<tc::Ciphertext> {
    let (point, rest) = sealed.split_at_checked(POINT_BYTES)?;
    let (hidden, other) = rest.split_at_checked(32)?;
    read(json!([point, hidden, other]))
}

fn public_key(bytes: &[u8]) -> Option<tc::PublicKey> {
    tc::PublicKey::from_bytes(<[u8; POINT_BYTES]>::try_from(bytes).ok()?).ok()
}

pub(super) fn is_commitment(points: &[u8]) -> bool {
    commitment(points).is_some()
}

pub(super) fn sum(commitments: &[&[u8]]) -> Option<Bytes> {
    let (first, rest) = commitments.split_first()?;
    let mut sum = commitment(first)?;
    for other in rest {
        sum += commitment(other)?;
    }
    Some(written(&sum).into())
}

pub(super) fn key(party: &Party<'_>) -> Option<Bytes> {
    let key = party.decryption_key().public_key_share().to_bytes();
    Some(Bytes::copy_from_slice(&key))
}

pub(super) fn deal(party: &Party<'_>, terms: &Terms<'_>) -> Option<Bytes> {
    let numbers = 0..=terms.degree;
    let coefficients: Vec<Fr> = numbers.map(|n| party.element(Purpose::Deal, n)).collect();
    let polynomial = Poly::from(coefficients);
    let mut dealing = written(&polynomial.commitment());
    for receiver in terms.receivers {
        let mut bytes = element_bytes(&polynomial.evaluate(u64::from(receiver.seat) + 1));
        let mut rng = Drawn::new(party, receiver);
        let sealed = public_key(&receiver.key)?.encrypt_with_rng(&mut rng, bytes);
        bytes.zeroize();
        dealing.extend(written(&sealed));
    }
    wipe_stack();
    Some(dealing.into())
}

/// The value for `receiver`, if it is what the commitment says.
fn value(bytes: &[u8], commitment: &[u8], receiver: &Receiver) -> Option<Fr> {
    let value = element(bytes.try_into().ok()?)?;
    let keys = tc::PublicKeySet::from(self::commitment(commitment)?);
    let want = keys.public_key_share(u64::from(receiver.seat));
    let share = tc::SecretKeyShare::from_mut(&mut { value });
    (share.public_key_share() == want).then_some(value)
}

pub(super) fn open(
    party: &Party<'_>,
    terms: &Terms<'_>,
    dealing: &[u8],
    place: usize,
) -> Result<Fr, Bytes> {
    let parts = (terms.commitment(dealing), terms.sealed(dealing, place));
    let (Some(commitment), Some(sealed)) = parts else {
        return Err(Bytes::new());
    };
    let ciphertext = ciphertext(sealed).ok_or_else(Bytes::new)?;
    let key = party.decryption_key();
    let opening = key.decrypt_share(&ciphertext).ok_or_else(Bytes::new)?;
    let mut bytes = decrypted(&opening, &ciphertext).unwrap_or_default();
    let value = value(&bytes, commitment, &terms.receivers[place]);
    bytes.zeroize();
    wipe_stack();
    value.ok_or_else(|| written(&opening).into())
}

fn decrypted(opening: &tc::DecryptionShare, ciphertext: &tc::Ciphertext) -> Option<Vec<u8>> {
    // One holder is enough to decrypt with a key of degree 0; which key it is plays no part.
    let anyone = tc::PublicKeySet::from(Poly::one().commitment());
    anyone.decrypt([(0_u64, opening)], ciphertext).ok()
}

pub(super) fn convicts(
    commitment: &[u8],
    sealed: &[u8],
    receiver: &Receiver,
    opening: &[u8],
) -> bool {
    // What nobody could decrypt needs no opening.
    let Some(ciphertext) = ciphertext(sealed).filter(tc::Ciphertext::verify) else {
        return true;
    };
    let key = <[u8; POINT_BYTES]>::try_from(&receiver.key[..]).ok();
    let key = key.and_then(|key| tc::PublicKeyShare::from_bytes(key).ok());
    let opening = read::<tc::DecryptionShare>(json!(opening));
    let (Some(key), Some(opening)) = (key, opening) else {
        return false;
    };
    key.verify_decryption_share(&opening, &ciphertext)
        && decrypted(&opening, &ciphertext)
            .is_none_or(|bytes| value(&bytes, commitment, receiver).is_none())
}

pub(super) fn share<'d>(
    party: &Party<'_>,
    terms: &Terms<'_>,
    dealings: impl IntoIterator<Item = &'d [u8]>,
    place: usize,
) -> Option<Share> {
    let mut sum = Poly::zero();
    for dealing in dealings {
        sum += Poly::constant(open(party, terms, dealing, place).ok()?);
    }
    let share = tc::SecretKeyShare::from_mut(&mut sum.evaluate(0_u64));
    wipe_stack();
    Some(Share(share))
}

pub(super) fn combine(
    public: &[u8],
    shares: &[(u16, Bytes)],
    message: &[u8],
) -> Result<Bytes, Vec<u16>> {
    let keys = tc::PublicKeySet::from(commitment(public).ok_or_else(Vec::new)?);
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
    let first = public.get(..POINT_BYTES).and_then(public_key);
    let signature = <[u8; SIGNATURE_BYTES]>::try_from(signature).ok();
    let signature = signature.and_then(|bytes| tc::Signature::from_bytes(bytes).ok());
    matches!((first, signature), (Some(key), Some(signature)) if key.verify(&signature, message))
}

/// Randomness of one encryption, derived so that dealing again gives the same bytes.
struct Drawn<'a> {
    party: &'a Party<'a>,
    receiver: u64,
    blocks: u64,
    block: [u8; 32],
    used: usize,
}

impl<'a> Drawn<'a> {
    fn new(party: &'a Party<'a>, receiver: &Receiver) -> Self {
        let mut hasher = Hasher::new(Domain::Threshold);
        hasher.update(&receiver.key);
        let [a, b, c, d, e, f, g, h, ..] = hasher.finish().0;
        Self {
            party,
            receiver: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            blocks: 0,
            block: [0; 32],
            used: 32,
        }
    }
}

impl rand_core_05::RngCore for Drawn<'_> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        for byte in out {
            if self.used == self.block.len() {
                let (number, attempt) = (self.receiver as usize, self.blocks);
                self.block = self.party.derive(Purpose::Encrypt, number, attempt);
                self.blocks += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core_05::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl Drop for Drawn<'_> {
    fn drop(&mut self) {
        self.block.zeroize();
    }
}
