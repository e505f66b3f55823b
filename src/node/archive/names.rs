//! Names of the objects of one chain.
//!
//! Source: `docs/formats.md`, archive. In: heights, or a listing. Out: names, or what they are of.
//! Holds: names sort as heights do, and every object has one name.
//! Elsewhere: what stands in the objects (`extent`, `proof`).

use std::collections::BTreeMap;

use crate::committee::Height;
use crate::crypto::Digest;
use crate::storage::Listed;

/// What an object is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A stretch of the chain.
    Extent,
    /// The certificate that covers it.
    Proof,
}

/// An extent of an archive, by names alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its last height.
    pub(crate) last: Height,
    /// Bytes of the extent; none where only its proof is there.
    pub(crate) extent: Option<u64>,
    /// Whether its proof is there.
    pub(crate) has_proof: bool,
}

/// What an archive holds of a chain, by names alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// By first and last height.
    pub(crate) extents: BTreeMap<(Height, Height), Known>,
    /// Bytes of the tail.
    pub(crate) tail: Option<u64>,
    /// Names that are none of ours.
    pub(crate) foreign: Vec<String>,
}

/// The folder of a chain.
pub(crate) fn folder(chain: &Digest) -> String {
    chain.to_string()
}

/// The name of an object of `chain`.
pub(crate) fn name(chain: &Digest, kind: Kind, first: Height, last: Height) -> String {
    let end = match kind {
        Kind::Extent => "extent",
        Kind::Proof => "proof",
    };
    format!("{chain}/{:020}-{:020}.{end}", first.0, last.0)
}

/// The name of the tail of `chain`.
pub(crate) fn tail(chain: &Digest) -> String {
    format!("{chain}/tail")
}

impl Listing {
    /// Reads names.
    pub(crate) fn of(chain: &Digest, objects: &[Listed]) -> Self {
        let mut listing = Self::default();
        for object in objects {
            if object.name == tail(chain) {
                listing.tail = Some(object.bytes);
                continue;
            }
            let Some((kind, first, last)) = parse(chain, &object.name) else {
                listing.foreign.push(object.name.clone());
                continue;
            };
            let known = listing.extents.entry((first, last)).or_insert(Known {
                last,
                extent: None,
                has_proof: false,
            });
            match kind {
                Kind::Extent => known.extent = Some(object.bytes),
                Kind::Proof => known.has_proof = true,
            }
        }
        listing
    }

    /// Bytes of everything but proofs.
    pub(crate) fn bytes(&self) -> u64 {
        let extents = self.extents.values().filter_map(|known| known.extent);
        extents.sum::<u64>() + self.tail.unwrap_or_default()
    }

    /// The extent behind the newest one up to which none is missing: where the archive goes on.
    pub(crate) fn end(&self) -> Option<(Height, Height)> {
        let (mut next, mut end) = (Height(1), None);
        for ((first, last), known) in &self.extents {
            if *first == next && known.extent.is_some() {
                (next, end) = (last.next(), Some((*first, *last)));
            }
        }
        end
    }
}

fn parse(chain: &Digest, of: &str) -> Option<(Kind, Height, Height)> {
    let rest = of.strip_prefix(&folder(chain))?.strip_prefix('/')?;
    let (numbers, end) = rest.split_once('.')?;
    let kind = match end {
        "extent" => Kind::Extent,
        "proof" => Kind::Proof,
        _ => return None,
    };
    let (first, last) = numbers.split_once('-')?;
    let (first, last) = (Height(first.parse().ok()?), Height(last.parse().ok()?));
    let is_ours = name(chain, kind, first, last) == of && first.0 > 0 && first <= last;
    is_ours.then_some((kind, first, last))
}
