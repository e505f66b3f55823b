//! Key generations of a few parties, honest and not.

use super::*;
use crate::crypto::Domain;

const MESSAGE: &[u8] = b"what a committee signs";

/// Seven seats, of which one had no key: any three sign.
struct Group {
    secrets: Vec<SecretKey>,
    context: Digest,
    receivers: Vec<Receiver>,
}

impl Group {
    fn new() -> Self {
        let secrets = (0..6).map(|n| SecretKey::from_seed([n + 1; 32]));
        let mut group = Self {
            secrets: secrets.collect(),
            context: Digest::of(Domain::Audit, b"a call"),
            receivers: Vec::new(),
        };
        let seats = [0, 1, 2, 4, 5, 6];
        group.receivers = (0..6)
            .map(|n| Receiver {
                seat: seats[n],
                key: group.party(n).key().expect("it is built"),
            })
            .collect();
        group
    }

    fn party(&self, n: usize) -> Party<'_> {
        Party::new(&self.secrets[n], &self.context)
    }

    fn terms(&self) -> Terms<'_> {
        Terms {
            context: &self.context,
            degree: 2,
            receivers: &self.receivers,
        }
    }

    fn dealing(&self, n: usize) -> Bytes {
        self.party(n).deal(&self.terms()).expect("it deals")
    }

    fn shares(&self, dealings: &[Bytes], message: &[u8]) -> Vec<(u16, Bytes)> {
        let dealt = || dealings.iter().map(|dealing| &dealing[..]);
        let share = |n: usize| {
            let share = self.party(n).share(&self.terms(), dealt(), n);
            let signed = share.expect("all dealings hold").sign(message);
            (self.receivers[n].seat, signed)
        };
        (0..6).map(share).collect()
    }
}

#[test]
fn any_f_and_one_sign_alike_and_f_do_not() {
    let group = Group::new();
    let dealings: Vec<Bytes> = (0..3).map(|n| group.dealing(n)).collect();
    assert!(dealings.iter().all(|d| group.terms().is_dealing(d)));
    assert!(!group.terms().is_dealing(&dealings[0][1..]));
    let public = group.terms().public(dealings.iter().map(|d| &d[..]));
    let public = public.expect("dealings add up");
    let shares = group.shares(&dealings, MESSAGE);
    let whole = combine(&public, &shares, MESSAGE).expect("six hold");
    assert!(is_signed(&public, &whole, MESSAGE));
    assert!(!is_signed(&public, &whole, b"another"));
    for first in 0..4 {
        let some = &shares[first..first + 3];
        assert_eq!(combine(&public, some, MESSAGE), Ok(whole.clone()));
    }
    assert_eq!(combine(&public, &shares[..2], MESSAGE), Err(vec![]));
    let all = shares.iter().map(|(seat, _)| *seat).collect();
    assert_eq!(combine(&public, &shares, b"another"), Err(all));
}

#[test]
fn a_share_that_does_not_hold_is_passed_over() {
    let group = Group::new();
    let dealings = [group.dealing(4)];
    let public = group.terms().public(dealings.iter().map(|d| &d[..]));
    let public = public.expect("one dealing adds up");
    let mut shares = group.shares(&dealings, MESSAGE);
    let whole = combine(&public, &shares, MESSAGE).expect("all hold");
    shares[0].1 = shares[1].1.clone();
    shares[2].1 = Bytes::from_static(b"no share");
    assert_eq!(combine(&public, &shares, MESSAGE), Ok(whole));
    let none = combine(&public, &shares[..3], MESSAGE);
    assert_eq!(none, Err(vec![2, 0]));
}

#[test]
fn dealing_again_gives_the_same_bytes_and_another_context_others() {
    let group = Group::new();
    assert_eq!(group.dealing(0), group.dealing(0));
    let other = Digest::of(Domain::Audit, b"another call");
    let party = Party::new(&group.secrets[0], &other);
    assert_ne!(party.key(), group.party(0).key());
    assert_ne!(party.deal(&group.terms()), Some(group.dealing(0)));
}

#[test]
fn a_wrong_value_convicts_its_dealer_and_a_right_one_does_not() {
    let group = Group::new();
    let (terms, honest) = (group.terms(), group.dealing(0));
    let crooked = {
        let mut bytes = honest.to_vec();
        let other = group.dealing(1);
        // The value for the third receiver is that of another polynomial, well encrypted.
        let at = terms.commitment_bytes() + 2 * SEALED_BYTES;
        bytes[at..at + SEALED_BYTES].copy_from_slice(&other[at..at + SEALED_BYTES]);
        Bytes::from(bytes)
    };
    assert!(terms.is_dealing(&crooked));
    assert_eq!(group.party(1).complaint(&terms, &crooked, 1), None);
    let opening = group.party(2).complaint(&terms, &crooked, 2);
    let opening = opening.expect("its value is wrong");
    assert!(terms.convicts(&crooked, 2, &opening));
    // The opening opens nothing else.
    assert!(!terms.convicts(&honest, 2, &opening));
    assert!(!terms.convicts(&crooked, 1, &opening));
    assert!(!terms.convicts(&crooked, 2, b""));
    assert!(!terms.convicts(&crooked, 9, &opening));
    let share = group.party(2).share(&terms, [&crooked[..]], 2);
    assert!(share.is_none());
}

#[test]
fn what_cannot_be_decrypted_convicts_by_itself() {
    let group = Group::new();
    let terms = group.terms();
    let honest = group.dealing(3);
    let at = terms.commitment_bytes() + 4 * SEALED_BYTES;
    for place in [at, at + POINT_BYTES, at + SEALED_BYTES - 1] {
        let mut bytes = honest.to_vec();
        bytes[place] ^= 1;
        let opening = group.party(4).complaint(&terms, &bytes, 4);
        let opening = opening.expect("it is seen");
        assert!(terms.convicts(&bytes, 4, &opening), "byte {place}");
        assert!(!terms.convicts(&bytes, 3, &opening), "byte {place}");
    }
}

#[test]
fn keys_are_points() {
    let group = Group::new();
    assert!(is_key(&group.receivers[0].key));
    assert!(!is_key(&group.receivers[0].key[1..]));
    assert!(!is_key(&[0xff; POINT_BYTES]));
    assert!(!is_key(b""));
}
