//! A model checker over the machines themselves: every state that a committee of four can reach.
//!
//! Source: Mod-SMaRt; `docs/adr/004-a-checker-of-our-own.md`. In: a [`Scope`]: heights, digests,
//! regencies, the regency that the Byzantine seat leads. Out: how many states there are, or the
//! shortest run that breaks a rule.
//! Holds, in every state: a seat casts one vote at one place and signs one STOP-DATA for a regency;
//! one WRITE certificate exists for a height and a regency and one decision for a height; every set
//! of n − f STOP-DATA whose claims are proved settles to one outcome, which contradicts no decision
//! below its regency, and some correct seat has the bytes that it binds; a WRITE leaves behind its
//! bytes; no correct seat is accused.
//! Elsewhere: liveness, timers, block certificates, gathering of claims by a correct leader: `sim`.
//!
//! **What runs is the code.** A step of a member ([`member`]) boots the real [`Ordering`] from its
//! log, lets it hear the SYNC of its regency again, and hands it one stimulus by `handle`; what it
//! hears passes `Message::checks` with its signatures. The outputs are carried out by the law of
//! `machine`: each save is a point at which power may fail. A SYNC is what `checks` and `settle`
//! let pass out of every set of STOP-DATA. The step depends on nothing else, so it is taken once
//! for a member and a stimulus and looked up after that ([`search`]).
//!
//! **What the adversary may do.** What was said is said for ever, to everybody: loss, delay,
//! repetition and order need no steps of their own. The Byzantine seat adds its vote to every
//! certificate, proposes anything in the regency that it leads, claims anything in a STOP-DATA
//! ([`world`]) and sends any SYNC that can be made. STOPs promise nothing, so any member may hear
//! them for any regency at any time. Any member may crash between any two saves.
//!
//! **Why what is left out changes nothing.**
//!
//! - A member restarts before every step: it forgets counts alone, and a vote that was counted can
//!   be heard again; a promise that its memory alone kept is found missing.
//! - A quorum of votes is heard at once, whoever cast it: fewer change nothing that another sees,
//!   and nothing asks which seats signed.
//! - One SYNC stands for its outcome, which is all that `start` uses; it is heard after a crash,
//!   and what may be done before that crash may be done after it.
//! - Bytes do not tell members apart: they may be heard at any time, and each WRITE is checked to
//!   leave behind its own.
//! - A decision is taken with the STOP that follows, and forgotten then: a member that has decided
//!   a height only claims it; one that has not may do more.
//! - Promises below the installed regency, and what a SYNC bound once all is written, do not tell
//!   members apart: the voter signs nothing there again.
//! - Once all have installed a regency, earlier votes count as certificates only: nobody casts
//!   another.
//! - The first digest that a correct seat names at a height is the first: digests are opaque, so
//!   their names may be swapped.

#[cfg(feature = "plants")]
use crate::plant::{self, Plant};

mod member;
mod search;
mod world;

use self::search::{Broken, Report, Search};
use self::world::Scope;

/// Explores `scope` and says what it went through.
fn explore(scope: Scope) -> Result<Report, Broken> {
    let found = Search::new(scope).run();
    println!("{scope:?}: {found:?}");
    found
}

/// Explores one scope for each regency that the Byzantine seat may lead, and for none; gives the
/// number of states of each. Every vote is certified somewhere, so no rule holds for want of votes.
fn explore_all(digests: &'static [u64], regencies: u64) -> Vec<usize> {
    let reports = (0..=regencies + 1).map(|byzantine_leads| {
        let scope = Scope {
            digests,
            regencies,
            byzantine_leads,
        };
        explore(scope).expect("no reachable state breaks a rule")
    });
    let reports: Vec<Report> = reports.collect();
    let certified = reports.iter().fold(0, |all, report| all | report.certified);
    let payloads: u64 = digests.iter().sum();
    let votes = 2 * payloads * (regencies + 1);
    assert_eq!(u64::from(certified.count_ones()), votes);
    reports.iter().map(|report| report.states).collect()
}

// The numbers change when the rules do: whoever changes them says why.

#[test]
fn one_height_holds_in_two_regencies() {
    assert_eq!(explore_all(&[2], 1), [22_315, 12_769, 10_205]);
}

#[test]
#[ignore = "minutes: `docs/figures.md` has the command and what it gave"]
fn one_height_holds_in_three_regencies() {
    explore_all(&[2], 2);
}

#[test]
#[ignore = "minutes: `docs/figures.md` has the command and what it gave"]
fn two_heights_hold_in_two_regencies() {
    explore_all(&[1, 1], 1);
}

#[test]
#[cfg(feature = "plants")]
fn every_bug_that_breaks_the_rules_is_found() {
    let (one, two): (&[u64], &[u64]) = (&[2], &[1, 1]);
    let cases = [
        (Plant::SmallQuorum, one, 1),
        (Plant::BlindAccept, one, 1),
        (Plant::LockLost, one, 1),
        (Plant::RegencyForgotten, one, 1),
        (Plant::LowestLock, one, 2),
        (Plant::UnprovedLock, one, 1),
        (Plant::ShortSync, one, 1),
        (Plant::BoundIgnored, one, 1),
        (Plant::WriteTwice, one, 1),
        (Plant::StopDataReused, one, 2),
        (Plant::LockLowered, one, 1),
        (Plant::LateBytes, one, 1),
        // The trap of a window above one.
        (Plant::DecisionProvesBelow, two, 1),
    ];
    for (bug, digests, regencies) in cases {
        plant::plant(Some(bug));
        let found = explore(Scope {
            digests,
            regencies,
            byzantine_leads: 0,
        });
        plant::plant(None);
        assert!(found.is_err(), "{bug:?} breaks nothing");
    }
}
