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
        group.receivers = (0..6).map(|n| group.receiver(n, seats[n])).collect();
        group
    }

    fn receiver(&self, n: usize, seat: u16) -> Receiver {
        let key = self.party(n).key(seat).expect("it is built");
        let key = self.terms().key_of(seat, &key);
        Receiver {
            seat,
            key: key.expect("it is its own"),
        }
    }

    fn seat(&self, n: usize) -> u16 {
        self.receivers[n].seat
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
        let dealt = self.party(n).deal(&self.terms(), self.seat(n));
        dealt.expect("it deals")
    }

    fn is_dealing(&self, n: usize, dealing: &[u8]) -> bool {
        self.terms().is_dealing(self.seat(n), dealing)
    }

    /// Everybody's shares under the dealings of the first members.
    fn shares(&self, dealings: &[Bytes], message: &[u8]) -> Vec<(u16, Bytes)> {
        let dealers = self.receivers.iter().map(|receiver| receiver.seat);
        let dealt = || {
            dealers
                .clone()
                .zip(dealings.iter().map(|dealing| &dealing[..]))
        };
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
    assert!((0..3).all(|n| group.is_dealing(n, &dealings[n])));
    assert!(!group.is_dealing(0, &dealings[0][1..]));
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
    let dealings = [group.dealing(0)];
    let public = group.terms().public(dealings.iter().map(|d| &d[..]));
    let public = public.expect("one dealing adds up");
    let mut shares = group.shares(&dealings, MESSAGE);
    let whole = combine(&public, &shares, MESSAGE).expect("all hold");
    shares[0].1 = shares[1].1.clone();
    shares[2].1 = Bytes::from_static(b"no share");
    assert_eq!(combine(&public, &shares, MESSAGE), Ok(whole));
    let none = combine(&public, &shares[..4], MESSAGE);
    assert_eq!(none, Err(vec![2, 0]));
}

#[test]
fn dealing_again_gives_the_same_bytes_and_another_context_others() {
    let group = Group::new();
    assert_eq!(group.dealing(0), group.dealing(0));
    let other = Digest::of(Domain::Audit, b"another call");
    let party = Party::new(&group.secrets[0], &other);
    assert_ne!(party.key(0), group.party(0).key(0));
    assert_ne!(party.deal(&group.terms(), 0), Some(group.dealing(0)));
}

#[test]
fn a_wrong_value_convicts_its_dealer_and_a_right_one_does_not() {
    let group = Group::new();
    let honest = group.dealing(0);
    // The dealer takes the third receiver's seat for another one: the value is of another place.
    let mut confused = group.receivers.clone();
    confused[2].seat = 77;
    let terms = Terms {
        receivers: &confused,
        ..group.terms()
    };
    let crooked = group.party(0).deal(&terms, 0).expect("it deals");
    let terms = group.terms();
    assert!(group.is_dealing(0, &crooked), "its form is right");
    assert_eq!(group.party(1).complaint(&terms, 0, &crooked, 1), None);
    let opening = group.party(2).complaint(&terms, 0, &crooked, 2);
    let opening = opening.expect("its value is wrong");
    assert!(terms.convicts(0, &crooked, 2, &opening));
    // What is right convicts nobody, and the opening is the third receiver's.
    assert!(!terms.convicts(0, &honest, 2, &opening));
    assert!(!terms.convicts(0, &crooked, 1, &opening));
    assert!(!terms.convicts(1, &crooked, 2, &opening));
    assert!(!terms.convicts(0, &crooked, 2, b""));
    assert!(!terms.convicts(0, &crooked, 9, &opening));
    let own = group.party(1).complaint(&terms, 0, &crooked, 2);
    let own = own.expect("it is not the receiver");
    assert!(!terms.convicts(0, &crooked, 2, &own));
}

#[test]
fn no_part_of_a_dealing_is_part_of_another() {
    // Else a dealer could copy what others dealt and have their receivers open it.
    let group = Group::new();
    let (terms, honest, other) = (group.terms(), group.dealing(0), group.dealing(1));
    assert!(!group.is_dealing(1, &honest), "a copy of the whole");
    let values = terms.dealing_bytes() - terms.receivers.len() * VALUE_BYTES;
    let point = terms.commitment_bytes();
    for range in [
        values..values + VALUE_BYTES,
        point..values,
        point..terms.dealing_bytes(),
        0..point,
    ] {
        let mut mixed = other.to_vec();
        mixed[range.clone()].copy_from_slice(&honest[range.clone()]);
        assert!(!group.is_dealing(1, &mixed), "{range:?} copied");
    }
    for place in [0, point, point + POINT_BYTES, values] {
        let mut bytes = honest.to_vec();
        bytes[place] ^= 1;
        assert!(!group.is_dealing(0, &bytes), "byte {place} changed");
    }
}

#[test]
fn a_key_is_its_seats_own() {
    let group = Group::new();
    let terms = group.terms();
    let key = group.party(0).key(0).expect("it is built");
    assert_eq!(key.len(), KEY_BYTES);
    assert!(terms.key_of(0, &key).is_some());
    assert_eq!(terms.key_of(1, &key), None, "somebody else's");
    assert_eq!(terms.key_of(0, &key.slice(1..)), None);
    assert_eq!(terms.key_of(0, &Bytes::new()), None);
    let garbage = Bytes::from(vec![0xff; KEY_BYTES]);
    assert_eq!(terms.key_of(0, &garbage), None);
    // The identity of both groups has a proof for everybody.
    let mut nothing = vec![0; KEY_BYTES];
    (nothing[0], nothing[POINT_BYTES]) = (0xc0, 0xc0);
    assert_eq!(terms.key_of(0, &Bytes::from(nothing)), None);
}
