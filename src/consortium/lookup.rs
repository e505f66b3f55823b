//! A hash map that is asked by key and never iterated.
//!
//! Source: SipHash-1-3 (Aumasson and Bernstein) under a fixed key. In: keys and values. Out:
//! values.
//! Holds: nothing that can be observed depends on the order of its entries, so two members and two
//! runs behave alike.
//! Elsewhere: every map that is walked is a `BTreeMap`.

use std::collections::hash_map::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};

/// A map from `K` to `V` without iteration.
#[derive(Clone, Debug)]
pub struct Lookup<K, V>(HashMap<K, V, Fixed>);

impl<K, V> Default for Lookup<K, V> {
    fn default() -> Self {
        Self(HashMap::with_hasher(Fixed))
    }
}

impl<K: Eq + Hash, V> Lookup<K, V> {
    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    /// The value of `key`, to change.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    /// Sets the value of `key` and gives the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    /// Forgets `key` and gives its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Starts every hash alike. A client that knows the key must still search for each colliding name,
/// so crowding one bucket costs it far more than us.
#[derive(Clone, Copy, Debug)]
struct Fixed;

impl BuildHasher for Fixed {
    type Hasher = Sip;
    fn build_hasher(&self) -> Sip {
        // The initial state of SipHash under a zero key.
        Sip {
            state: [
                0x736f_6d65_7073_6575,
                0x646f_7261_6e64_6f6d,
                0x6c79_6765_6e65_7261,
                0x7465_6462_7974_6573,
            ],
            length: 0,
        }
    }
}

/// SipHash-1-3 over words; each write is padded to whole words, its length enters at the end.
struct Sip {
    state: [u64; 4],
    length: u64,
}

impl Sip {
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.state;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.state = [a, b, c, d];
    }

    fn word(&mut self, word: u64) {
        self.state[3] ^= word;
        self.round();
        self.state[0] ^= word;
    }
}

impl Hasher for Sip {
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.word(u64::from_le_bytes(word));
        }
        self.length = self.length.wrapping_add(bytes.len() as u64);
    }

    fn finish(&self) -> u64 {
        let mut last = Sip {
            state: self.state,
            length: self.length,
        };
        last.word(self.length);
        last.state[2] ^= 0xff;
        (0..3).for_each(|_| last.round());
        last.state.into_iter().fold(0, |hash, part| hash ^ part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_gives_back_what_was_inserted_last() {
        let mut lookup = Lookup::default();
        assert!(lookup.is_empty());
        for key in 0u64..1000 {
            assert_eq!(lookup.insert(key, key), None);
        }
        assert_eq!(lookup.insert(7, 70), Some(7));
        assert_eq!(lookup.get(&7), Some(&70));
        assert_eq!(lookup.remove(&8), Some(8));
        assert_eq!((lookup.get(&8), lookup.len()), (None, 999));
    }

    #[test]
    fn hashes_are_the_same_in_every_run_and_spread_over_all_bits() {
        assert_eq!(Fixed.hash_one(1u64), Fixed.hash_one(1u64));
        let all = (0u64..64).fold(0, |bits, key| {
            bits | (Fixed.hash_one(key) ^ Fixed.hash_one(key + 1))
        });
        assert_eq!(all, u64::MAX);
    }
}
