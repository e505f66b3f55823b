//! A build without threshold keys: none is made, and none holds.
//!
//! Source: feature `threshold`. In: anything. Out: nothing. Holds: nothing is believed.
//! Elsewhere: the scheme (`pairing`).

use bytes::Bytes;

use super::{Party, Receiver, Terms};

/// A share, which nobody has here.
#[derive(Debug)]
pub enum Share {}

impl Share {
    /// Nobody signs.
    pub fn sign(&self, _message: &[u8]) -> Bytes {
        match *self {}
    }
}

pub(super) fn is_commitment(_points: &[u8]) -> bool {
    false
}

pub(super) fn convicts(_: &[u8], _: &[u8], _: &Receiver, _: &[u8]) -> bool {
    false
}

pub(super) fn sum(_commitments: &[&[u8]]) -> Option<Bytes> {
    None
}

pub(super) fn key(party: &Party<'_>) -> Option<Bytes> {
    let _nobody_asks = (party.secret, party.context);
    None
}

pub(super) fn deal(_: &Party<'_>, _: &Terms<'_>) -> Option<Bytes> {
    None
}

pub(super) fn open(_: &Party<'_>, _: &Terms<'_>, _: &[u8], _: usize) -> Result<(), Bytes> {
    Ok(())
}

pub(super) fn share<'d>(
    _: &Party<'_>,
    _: &Terms<'_>,
    _: impl IntoIterator<Item = &'d [u8]>,
    _: usize,
) -> Option<Share> {
    None
}

pub(super) fn combine(_: &[u8], _: &[(u16, Bytes)], _: &[u8]) -> Result<Bytes, Vec<u16>> {
    Err(Vec::new())
}

pub(super) fn is_signed(_: &[u8], _: &[u8], _: &[u8]) -> bool {
    false
}
