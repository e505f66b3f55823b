//! Blocks: what the chain is made of and how to check it.
//!
//! Source: `ARCHITECTURE.md`. In: bytes. Out: values and verdicts.
//! Holds: every check is a pure function of what it is given.
//! Elsewhere: disk (`storage`), execution (`application`).

pub mod receipts;
