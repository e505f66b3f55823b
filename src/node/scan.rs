//! Reads what the log holds and the tables do not.
//!
//! Source: `ARCHITECTURE.md`, durability. In: the records of a log, in order. Out: names with their
//! places, promises, certificates.
//! Holds: a record that the tables know is only read where a start needs it; one that cannot be
//! read ends the start. Elsewhere: what follows from it (`recovery`).
//!
//! Records come from the file on that the tables name as settled. What stands below and the tables
//! do not hold (promises, payloads, decisions, faults, the certificates that say which view orders)
//! was saved again at or above it before they said so, so nothing is lost with the older copies.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{NodeError, ReplayError, Unusable};
use super::index::Index;
use super::keeper::Files;
use super::progress::Progress;
use super::recovery::{Opening, Start};
use super::shelf::Shelf;
use crate::blocks::BatchRef;
use crate::committee::Height;
use crate::consortium::Record;
use crate::consortium::records::{self, Name};
use crate::consortium::restoring::Restoring;
use crate::crypto::Digest;
use crate::storage::{LogError, Position, Record as LogRecord};

/// Everything that the log holds and the tables do not.
pub(super) struct Scan {
    from: Position,
    chain: Digest,
    pub(super) restoring: Restoring,
    pub(super) names: Vec<(Name, Position)>,
    pub(super) top: Height,
    failure: Option<ScanFailure>,
}

enum ScanFailure {
    Record(String),
    Chain(Digest),
}

impl Scan {
    pub(super) fn new(
        opening: &Opening<'_>,
        start: &Start,
        shelf: &Shelf,
    ) -> Result<Self, NodeError> {
        let top = start.ledger.height();
        let mut scan = Self {
            from: start.saved,
            chain: *opening.view.chain(),
            restoring: Restoring::default(),
            names: Vec::new(),
            top,
            failure: None,
        };
        scan.feed((shelf, opening.progress), Height(0), top)?;
        Ok(scan)
    }

    /// Views whose blocks were pruned, or were never here, are known by the steps that led to them.
    ///
    /// Errors: [`NodeError`], [`NodeError::Ended`] among them.
    pub(super) fn feed(
        &mut self,
        (shelf, progress): (&Shelf, &Progress),
        above: Height,
        upto: Height,
    ) -> Result<(), NodeError> {
        let steps = shelf.steps().into_iter();
        for (height, _) in steps.filter(|(at, _)| (above.next()..=upto).contains(at)) {
            progress.go_on()?;
            if let Some(step) = shelf.step(height)? {
                self.restoring.take(&Record::Certificate(step.certificate));
            }
        }
        Ok(())
    }

    /// The records that count above the block at `base`; `open` loses the batches of the others.
    ///
    /// Errors: [`NodeError`], [`NodeError::Ended`] among them.
    pub(super) fn above(
        &mut self,
        base: Height,
        (index, progress): (&Index, &Progress),
        open: &mut BTreeMap<Digest, Position>,
    ) -> Result<Vec<(Name, Position)>, NodeError> {
        let mut named = BTreeSet::new();
        for (name, position) in &self.names {
            let Name::Block(height) = name else { continue };
            progress.go_on()?;
            if *height <= base
                && let Record::Block(block) = index.record(*position).map_err(ReplayError::from)?
            {
                named.extend(block.body.batches().map(BatchRef::digest));
            }
        }
        open.retain(|digest, _| !named.contains(digest));
        let names = std::mem::take(&mut self.names).into_iter();
        let counts = |(name, _): &(Name, Position)| match name {
            Name::Block(height) | Name::Certificate(height) => *height > base,
            Name::Batch(digest) => !named.contains(digest),
            Name::Nameless => true,
        };
        Ok(names.filter(counts).collect())
    }

    pub(super) fn visit(&mut self, record: LogRecord<'_>) {
        let is_known = record.position <= self.from;
        if is_known && records::is_indexed(record.kind) || self.failure.is_some() {
            return;
        }
        match records::decode(record.kind, record.payload) {
            Ok(decoded) => self.take(&decoded, record.position, is_known),
            Err(error) => {
                let what = format!("the record at {}: {error}", record.position);
                self.failure = Some(ScanFailure::Record(what));
            }
        }
    }

    fn take(&mut self, record: &Record, position: Position, is_known: bool) {
        self.restoring.take(record);
        if let Record::Block(block) = record {
            if block.header.chain != self.chain {
                self.failure = Some(ScanFailure::Chain(block.header.chain));
            }
            self.top = self.top.max(block.header.height);
        }
        let name = records::name(record);
        if !is_known && name != Name::Nameless {
            self.names.push((name, position));
        }
    }

    pub(super) fn check(&mut self, opening: &Opening<'_>, end: Position) -> Result<(), NodeError> {
        let dir = opening.store.dir();
        if self.from >= end {
            // The tables are written from durable records alone: the log lost some since.
            return Err(Unusable::Wiped { dir: dir.into() }.into());
        }
        match self.failure.take() {
            None => Ok(()),
            Some(ScanFailure::Record(reason)) => Err(ReplayError::Record { reason }.into()),
            Some(ScanFailure::Chain(found)) => Err(Unusable::OtherChain {
                dir: dir.into(),
                found,
                expected: self.chain,
            }
            .into()),
        }
    }
}

/// Whether the log files that a start reads are there, `first` being the lowest that is: pruning
/// takes those below alone.
///
/// Errors: the lowest that is missing. What it promised is not known any more.
pub(super) fn reaches_back(files: &Files, first: u64) -> Result<(), LogError> {
    // Tables that were filled from a snapshot and not committed since name no file.
    let is_unnamed = files.settled == 0 && files.base.0 > Height(0);
    let file = files.settled.max(1);
    match first > file && !is_unnamed {
        true => Err(LogError::Missing { file }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_log_file_that_is_missing_is_named_but_for_those_that_were_pruned() {
        for (settled, base, first, missing) in [
            (5, 0, 1, None),
            (5, 0, 5, None),
            (5, 0, 6, Some(5)),
            (5, 9, 6, Some(5)),
            (0, 0, 1, None),
            (0, 0, 2, Some(1)),
            (0, 9, 7, None),
        ] {
            let files = Files {
                settled,
                base: (Height(base), 0),
                ..Files::default()
            };
            let found = reaches_back(&files, first).err();
            let said = missing.map(|file| LogError::Missing { file }.to_string());
            let found = found.map(|error| error.to_string());
            assert_eq!(found, said, "{settled} {base} {first}");
        }
    }
}
