//! One member as a process: files, threads, and the driver that obeys the law of `machine`.
//!
//! Source: `ARCHITECTURE.md`. In: a member's directory. Out: a running member, [`Handle`]s to it.
//! Holds: the replica is owned by one thread; nothing behind a save leaves before it is durable.
//! Elsewhere: decisions (`consortium`), what is asked over HTTP (`api`).

pub mod config;
pub mod keys;

#[cfg(test)]
mod tests;
