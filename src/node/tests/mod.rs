//! Tests of the process: files, the law of the driver, starts, and a cluster on loopback.
//!
//! Source: design, 'one contract, one law'. In: temporary folders, loopback sockets. Out: verdicts.
//! Holds: no test sleeps or names a port. Elsewhere: a seeded world (`sim`).

mod alone;
mod checkpoints;
mod cluster;
mod ears;
mod files;
mod keeper;
mod law;
mod pruned;
#[cfg(feature = "threshold")]
mod samples;
mod seat_keys;
mod selftest;
mod views;
