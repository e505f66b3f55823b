//! One member as a process: files, threads, and the driver that obeys the law of `machine`.
//!
//! Source: `ARCHITECTURE.md`. In: a member's directory. Out: a running member, [`Handle`]s to it.
//! Holds: the replica is owned by one thread; nothing behind a save leaves before it is durable.
//! Elsewhere: decisions (`consortium`), what is asked over HTTP (`api`).

mod barrier;
mod clock;
pub mod config;
mod index;
mod keeper;
pub mod keys;
mod records;
mod tiles;
mod timers;

#[cfg(test)]
mod tests;
