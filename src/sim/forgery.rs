//! Forged steps of the view chain: a committee of the adversary's own, signed by whatever secrets
//! it has.
//!
//! Source: SmartChain, forgotten keys. In: a true header, secrets. Out: a step that is right but
//! for its signers.
//! Holds: with the secrets of a quorum the step would hold, so that what judges it can fail.
//! Elsewhere: who sends it (`liars`), that no secrets which are left suffice (`tests::forgotten`).

use std::collections::BTreeMap;

use super::setting::Setting;
use crate::blocks::Header;
use crate::blocks::body::{Listed, NextSeat, Reconfiguration};
use crate::committee::{
    Ballot, Certificate, KeyProof, Kind, MemberId, Regency, Seat, View, ViewId, Voter,
};
use crate::crypto::{Digest, SecretKey, Signature};

/// What fills the seats whose secret is gone.
pub(super) enum Pads<'a> {
    Nothing,
    /// The signatures of another certificate.
    Stored(&'a Certificate),
    /// One signature again and again.
    Repeated,
}

impl Pads<'_> {
    fn iter(&self, view: &View, one: Option<Signature>) -> Vec<(Seat, Signature)> {
        let seats = view.seats().iter();
        let seats = seats.filter_map(|seat| view.seat_of(&seat.member));
        match self {
            Pads::Nothing => Vec::new(),
            Pads::Stored(held) => held.signers.iter().zip(held.signatures.clone()).collect(),
            Pads::Repeated => {
                let one = one.into_iter();
                one.flat_map(|one| seats.clone().map(move |seat| (seat, one)))
                    .collect()
            }
        }
    }
}

/// The adversary's own committee in place of the one that follows `view`.
pub(super) fn usurpers(setting: &Setting, view: &View) -> Reconfiguration {
    let chain = *view.chain();
    let assemble = (view.opening().height.next(), Digest([9; 32]));
    let key = |kind: u64, n: usize| setting.admission_key(100 + n, kind);
    let next = view.id().next();
    let proof = |n: usize, view: ViewId, assemble: &Digest, kind: u64| {
        KeyProof::make(&chain, view, assemble, &key(1, n), &key(kind, n))
    };
    let listed = (0..4).map(|n| Listed {
        identity: key(1, n).public(),
        name: format!("usurper-{n}"),
        address: String::new(),
        weight: 1,
        admitted: proof(n, ViewId(0), &Digest::ZERO, 2),
    });
    let seats = (0..4).map(|n| NextSeat {
        member: MemberId::of(&key(1, n).public()),
        fresh: Some(proof(n, next, &assemble.1, 3)),
    });
    Reconfiguration {
        next,
        assemble,
        members: listed.collect(),
        seats: seats.collect(),
        threshold: None,
    }
}

/// The certificate over `header` that these secrets make; signatures of seats whose secret is gone
/// are as `pads` says.
pub(super) fn certify(
    view: &View,
    header: &Header,
    secrets: &[SecretKey],
    pads: &Pads<'_>,
) -> Certificate {
    let (height, digest) = (header.height, header.digest());
    let mut signed: BTreeMap<_, Signature> = BTreeMap::new();
    for secret in secrets {
        if let Some(mut voter) = Voter::new(view, secret.clone()) {
            let (_, vote) = voter
                .persist(height, digest)
                .expect("it has promised nothing");
            signed.insert(vote.seat, vote.signature);
        }
    }
    let one = signed.values().next().copied();
    for (seat, signature) in pads.iter(view, one) {
        signed.entry(seat).or_insert(signature);
    }
    Certificate {
        ballot: Ballot {
            kind: Kind::Persist,
            view: view.id(),
            regency: Regency(0),
            height,
            digest,
        },
        signers: signed.keys().copied().collect(),
        signatures: signed.into_values().collect(),
    }
}
