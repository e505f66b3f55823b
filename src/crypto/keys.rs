//! Keys and signatures of two schemes behind one type.
//!
//! Source: RFC 8032 keys, ZIP-215 verification. In: seeds and bytes. Out: [`PublicKey`],
//! [`SecretKey`], [`Signature`].
//! Holds: a secret is wiped when dropped and never printed.
//! Elsewhere: checking (`verified`), files (`node`). The simulated scheme is for `sim` and tests
//! alone.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Digest, Domain, ParseDigestError, SignBytes};

/// A public key: 32 bytes, hex in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKey(pub Digest);

impl PublicKey {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {:?}", self.0)
    }
}

impl FromStr for PublicKey {
    type Err = ParseDigestError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A signature: 64 bytes, hex in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sig {}", hex::encode(&self.0[..4]))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&hex::encode(self.0))
        } else {
            let (low, high) = self.0.split_at(32);
            (half(low), half(high)).serialize(serializer)
        }
    }
}

fn half(bytes: &[u8]) -> [u8; 32] {
    bytes
        .try_into()
        .expect("a signature splits into two halves of 32 bytes")
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bytes = [0; 64];
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            hex::decode_to_slice(&text, &mut bytes).map_err(serde::de::Error::custom)?;
        } else {
            let (low, high) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
            bytes[..32].copy_from_slice(&low);
            bytes[32..].copy_from_slice(&high);
        }
        Ok(Self(bytes))
    }
}

/// A secret key. It has no `Display` and no serde; its `Debug` says nothing.
///
/// Its bytes stand at one place in memory, which is wiped when the last of its clones is dropped:
/// who moves or clones a key leaves no copy behind.
#[derive(Clone)]
pub struct SecretKey(Arc<Secret>);

#[derive(Zeroize, ZeroizeOnDrop)]
struct Secret {
    seed: [u8; 32],
    /// Made from the seed once, as making it costs as much as a signature; none in the simulated
    /// scheme.
    expanded: Option<ed25519_zebra::SigningKey>,
    #[zeroize(skip)]
    public: PublicKey,
    /// The world's secret where the simulated scheme is in use.
    #[zeroize(skip)]
    world: Option<Digest>,
}

impl SecretKey {
    /// An ed25519 key from its 32-byte seed, which the caller draws from the operating system.
    ///
    /// A seed that is lent is not copied.
    pub fn from_seed(seed: impl Borrow<[u8; 32]>) -> Self {
        let key = Self::expanded(seed.borrow());
        wipe_stack();
        key
    }

    #[inline(never)]
    fn expanded(seed: &[u8; 32]) -> Self {
        let expanded = ed25519_zebra::SigningKey::from_bytes(seed);
        let public = ed25519_zebra::VerificationKeyBytes::from(&expanded);
        Self(Arc::new(Secret {
            seed: *seed,
            expanded: Some(expanded),
            public: PublicKey(Digest(public.into())),
            world: None,
        }))
    }

    /// A key of the simulated scheme: a keyed hash that only holders of `world` can make or check.
    pub(crate) fn simulated(seed: [u8; 32], world: Digest) -> Self {
        Self(Arc::new(Secret {
            seed,
            expanded: None,
            public: PublicKey(Digest::of(Domain::Audit, &seed)),
            world: Some(world),
        }))
    }

    /// The seed, for the key file and the transport.
    pub fn seed(&self) -> &[u8; 32] {
        &self.0.seed
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.0.public
    }

    /// Signs a statement.
    pub fn sign(&self, statement: &SignBytes) -> Signature {
        let bytes = statement.as_slice();
        let secret = &*self.0;
        match (&secret.expanded, &secret.world) {
            (Some(key), _) => {
                let signature = sign_with(key, bytes);
                wipe_stack();
                signature
            }
            (None, world) => simulated_signature(&world.unwrap_or_default(), &secret.public, bytes),
        }
    }
}

#[inline(never)]
fn sign_with(key: &ed25519_zebra::SigningKey, bytes: &[u8]) -> Signature {
    Signature(key.sign(bytes).to_bytes())
}

/// More than expanding a key or signing takes.
const STACK_BYTES: usize = 16 << 10;

/// Overwrites what the calls before left below: arithmetic with a secret leaves parts of it there.
#[inline(never)]
pub(super) fn wipe_stack() {
    let mut room = [0_u8; STACK_BYTES];
    std::hint::black_box(&mut room).zeroize();
}

/// Equal keys have equal public halves.
impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.public == other.0.public
    }
}

impl Eq for SecretKey {}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("secret")
    }
}

/// The simulated scheme: a keyed hash that is quick, since worlds sign little else. It tells
/// statements and keys apart; it is no match for whoever sets out to break it.
pub(super) fn simulated_signature(world: &Digest, key: &PublicKey, bytes: &[u8]) -> Signature {
    let mut state: [u64; 2] = [0x243f_6a88_85a3_08d3, bytes.len() as u64];
    for chunk in [&world.0[..], key.as_bytes(), bytes]
        .iter()
        .flat_map(|part| part.chunks(8))
    {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let mixed = (state[0] ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state[0] = mixed.rotate_left(29);
        state[1] = (state[1] ^ mixed)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            .rotate_left(31);
    }
    let mut signature = [0; 64];
    for (place, word) in signature.chunks_exact_mut(8).zip(state) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    Signature(signature)
}
