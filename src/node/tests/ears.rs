//! What is checked once and together, and who is woken.
//!
//! Source: design, speed. In: frames with good and bad signatures. Out: what is heard.
//! Holds: a bad signature costs its own frame alone. Elsewhere: formats (`consortium`).

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::blocks::Parameters;
use crate::committee::{
    Ballot, Height, Kind, MemberId, Regency, Seat, SeatKey, View, ViewId, Vote,
};
use crate::consortium::{Ears, HearError, Heard, Message, Opened};
use crate::crypto::{Digest, SecretKey, Verifier};
use crate::node::bell::{self, Bell};
use crate::node::known::Known;

const CHAIN: Digest = Digest([7; 32]);

fn member(number: u8) -> MemberId {
    MemberId(Digest([number; 32]))
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_seed([number + 1; 32])
}

fn ears() -> Ears {
    let seats = (0..4).map(|number| SeatKey {
        member: member(number),
        key: Some(secret(number).public()),
    });
    let view = View::new(ViewId(0), CHAIN, seats.collect(), &Digest::ZERO);
    Ears {
        view: view.expect("seats are distinct"),
        bounds: Parameters::default().bounds(),
        ahead_max: 8,
        verifier: Verifier::ed25519(),
    }
}

/// A PERSIST of `number` for `height`, signed by `signer`.
fn frame(ears: &Ears, number: u8, height: u64, signer: u8) -> Opened {
    let ballot = Ballot {
        kind: Kind::Persist,
        view: ViewId(0),
        regency: Regency(0),
        height: Height(height),
        digest: Digest::ZERO,
    };
    let seat = ears.view.seat_of(&member(number)).expect("it has a seat");
    let vote = Vote {
        ballot,
        seat,
        signature: secret(signer).sign(&ballot.sign_bytes(&CHAIN)),
    };
    let bytes = Message::Persist(vote).to_bytes();
    ears.open(&member(number), &bytes)
        .expect("the format is right")
}

fn seat_of(heard: &Result<Heard, HearError>) -> Option<Seat> {
    match heard {
        Ok(Heard::Persist(vote)) => Some(vote.seat),
        _ => None,
    }
}

#[test]
fn a_bad_signature_among_many_frames_costs_its_own_alone() {
    let ears = ears();
    let frames = vec![
        frame(&ears, 0, 1, 0),
        frame(&ears, 1, 1, 2),
        frame(&ears, 2, 1, 2),
    ];
    let judged = ears.judge(frames);
    assert!(seat_of(&judged[0]).is_some());
    assert_eq!(judged[1], Err(HearError::BadSignature));
    assert!(seat_of(&judged[2]).is_some());
}

#[test]
fn a_signature_that_held_is_not_checked_again_and_another_is() {
    let (ears, known) = (ears(), Known::default());
    let first = frame(&ears, 0, 1, 0);
    known.note(Known::names(first.checks()).into_iter());
    let mut again = first;
    known.sift(&mut again);
    assert!(again.checks().is_empty());
    for mut other in [frame(&ears, 0, 2, 0), frame(&ears, 0, 1, 1)] {
        known.sift(&mut other);
        assert_eq!(
            other.checks().len(),
            1,
            "height and signature are in the name"
        );
    }
}

#[test]
fn who_puts_something_in_wakes_the_owner_of_the_bell() {
    let bell = Arc::new(Bell::default());
    let (queue, values) = bell::under(&bell, 1);
    let owner = thread::spawn(move || {
        bell.own();
        loop {
            match values.try_recv() {
                Ok(value) => return value,
                // So long that only the bell ends the test.
                Err(_) => bell.sleep(Duration::from_secs(3_600)),
            }
        }
    });
    queue.send(5).expect("the owner listens");
    assert_eq!(owner.join().expect("the owner ends well"), 5);
}
