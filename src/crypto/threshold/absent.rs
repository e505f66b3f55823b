//! A build without threshold keys: none is made, and none holds.
//!
//! Source: feature `threshold`. In: anything. Out: nothing. Holds: nothing is believed.
//! Elsewhere: the scheme (`pairing`).

use bytes::Bytes;

use super::{Digest, Parts, Party, Terms};

/// A share, which nobody has here.
#[derive(Debug)]
pub enum Share {}

impl Share {
    /// Nobody signs.
    pub fn sign(&self, _message: &[u8]) -> Bytes {
        match *self {}
    }
}

pub(super) fn key(party: &Party<'_>, _seat: u16) -> Option<Bytes> {
    let Party { .. } = party;
    None
}

pub(super) fn is_key(_: &Digest, _seat: u16, _key: &[u8], _proof: &[u8]) -> bool {
    false
}

pub(super) fn deal(_: &Party<'_>, _: &Terms<'_>, _seat: u16) -> Option<Bytes> {
    None
}

pub(super) fn is_dealing(_: &Digest, _dealer: u16, _: &Parts<'_>) -> bool {
    false
}

pub(super) fn complaint(
    _: &Party<'_>,
    _: &Terms<'_>,
    _: (u16, &Parts<'_>),
    _place: usize,
) -> Option<Bytes> {
    None
}

pub(super) fn convicts(_: &Terms<'_>, _: (u16, &Parts<'_>), _: usize, _opening: &[u8]) -> bool {
    false
}

pub(super) fn sum(_commitments: &[&[u8]]) -> Option<Bytes> {
    None
}

pub(super) fn share<'d>(
    _: &Party<'_>,
    _: &Terms<'_>,
    _: impl Iterator<Item = (u16, Parts<'d>)>,
    _place: usize,
) -> Option<Share> {
    None
}

pub(super) fn combine(_: &[u8], _: &[(u16, Bytes)], _: &[u8]) -> Result<Bytes, Vec<u16>> {
    Err(Vec::new())
}

pub(super) fn is_signed(_: &[u8], _: &[u8], _: &[u8]) -> bool {
    false
}
