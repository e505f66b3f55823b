//! Formats are frozen, readers are strict, proofs hold and nothing changed in them does.

mod evidence;
pub(crate) mod fixtures;
mod forms;
mod golden;
mod proofs;
mod replay;
mod rules;
pub(crate) mod view_chain;
