//! Checkpoints: what a snapshot is made of, and how it is put together again.
//!
//! Source: design, 'checkpoints and bootstrap'. In: segments in order, or from anywhere. Out: a
//! manifest, or the whole snapshot.
//! Holds: a manifest's root binds every segment, its place, its section and its size; a segment is
//! taken only where the manifest has it.
//! Elsewhere: when a snapshot is due (`consortium::ledger`), the disk (`storage`), what the bytes
//! mean (`consortium::snapshot`, `application`).

pub mod assembler;
mod manifest;

#[cfg(test)]
mod tests;

pub use assembler::{Assembler, Holding, Lie, Refused, Segment, Tally, Want};
pub use manifest::{
    LEAF_BYTES, Leaf, MANIFEST_LEAVES_MAX, Manifest, ManifestError, PAGE_LEAVES, Page, Section,
};
