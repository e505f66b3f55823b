//! A set of segment numbers as a bitmap.
//!
//! Source: `docs/formats.md`, messages of a bootstrap. In and out: numbers below a length, bytes.
//! Holds: nothing at or above the length is ever in it; the count is that of its bits.
//! Elsewhere: what the numbers mean (`assembler`).

const WORD: u32 = 64;

/// Numbers below `len`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
    len: u32,
    count: u32,
}

impl Bits {
    /// None of `len`.
    pub fn none(len: u32) -> Self {
        Self {
            words: vec![0; len.div_ceil(WORD) as usize],
            len,
            count: 0,
        }
    }

    /// All of `len`.
    pub fn all(len: u32) -> Self {
        let mut bits = Self::none(len);
        (0..len).for_each(|at| {
            bits.insert(at);
        });
        bits
    }

    /// Reads a bitmap, least significant bit first; nothing where it has another length or a bit
    /// at or above `len`.
    pub fn from_bytes(len: u32, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != len.div_ceil(8) as usize {
            return None;
        }
        let mut bits = Self::none(len);
        for (word, chunk) in bits.words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(whole);
        }
        let spare = bits.words.len() as u32 * WORD - len;
        let is_clean = bits
            .words
            .last()
            .is_none_or(|last| spare == 0 || last >> (WORD - spare) == 0);
        bits.count = bits.words.iter().map(|word| word.count_ones()).sum();
        is_clean.then_some(bits)
    }

    /// Its bitmap.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self
            .words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        bytes.truncate(self.len.div_ceil(8) as usize);
        bytes
    }

    /// The length.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// How many are in it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether `at` is.
    pub fn contains(&self, at: u32) -> bool {
        let word = self.words.get((at / WORD) as usize);
        word.is_some_and(|word| word & (1 << (at % WORD)) != 0)
    }

    /// Adds `at`; whether it is new. Nothing at or above the length is taken.
    pub fn insert(&mut self, at: u32) -> bool {
        let is_new = at < self.len && !self.contains(at);
        if is_new {
            self.words[(at / WORD) as usize] |= 1 << (at % WORD);
            self.count += 1;
        }
        is_new
    }

    /// Takes `at` out; whether it was in.
    pub fn remove(&mut self, at: u32) -> bool {
        let was = self.contains(at);
        if was {
            self.words[(at / WORD) as usize] &= !(1 << (at % WORD));
            self.count -= 1;
        }
        was
    }

    /// What is in it from `start` on, and then from 0 up to there.
    pub fn around(&self, start: u32) -> impl Iterator<Item = u32> + '_ {
        self.between(start, self.len).chain(self.between(0, start))
    }

    /// What is in it from `from` on and below `to`.
    fn between(&self, from: u32, to: u32) -> impl Iterator<Item = u32> + '_ {
        let to = to.min(self.len);
        let mut at = from;
        std::iter::from_fn(move || {
            while at < to {
                let word = self.words[(at / WORD) as usize] >> (at % WORD);
                if word == 0 {
                    at = (at / WORD + 1) * WORD; // The rest of this word is empty.
                    continue;
                }
                at += word.trailing_zeros();
                let found = at;
                at += 1;
                return (found < to).then_some(found);
            }
            None
        })
    }
}
