//! Verifies an archive, by replaying it from genesis.
//!
//! Source: `docs/formats.md`, archive; interface, `verify`. In: objects, a genesis document. Out: a
//! [`Verdict`], and what the ledger leaves to a successor.
//! Holds: nothing is written; every object below the chain's name is read, and every fault names
//! one and a height; an object is in memory at a time.
//! Elsewhere: the objects' bytes (`node::archive`), what follows from a block (`replay`).

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Instant;

use bytes::Bytes;

use super::checks::{Checker, Subject};
use super::findings::{Findings, Place};
use super::replay::Replay;
use super::views::Views;
use super::walk::{Context, Walked};
use super::{Carried, Legacy, Verdict, VerifyError, legacy, settle};
use crate::application::Registry;
use crate::blocks::{BatchRef, Body, CheckedBatch, Genesis, Group, Header};
use crate::committee::{Ballot, Height, Opening, View};
use crate::consortium::Block;
use crate::crypto::Digest;
use crate::node::archive::{
    self, Cut, Extent, ExtentError, Kind, Listing, PROOF_BYTES_MAX, Proof, TAIL_OPENING_BYTES,
    extent_bytes_max,
};
use crate::storage::{Objects, ObjectsError, Position};

/// What is verified.
pub struct VerifyArchive<'a> {
    /// Where the objects are.
    pub objects: &'a Objects,
    /// The chain.
    pub genesis: Genesis,
    /// The file of the genesis document: a successor's state stands beside it.
    pub document: &'a Path,
    /// Told how many bytes of objects are done, and how many there are.
    pub progress: &'a mut dyn FnMut(u64, u64),
}

/// Verifies the archive of a chain.
///
/// Errors: [`VerifyError`].
pub fn verify_archive(options: VerifyArchive<'_>) -> Result<Verdict, VerifyError> {
    look(options, Cut::FORMAT).map(|(verdict, _)| verdict)
}

/// As [`verify_archive`], and what the ledger leaves to a successor.
///
/// Errors: [`VerifyError`].
pub fn archive_legacy(options: VerifyArchive<'_>) -> Result<(Verdict, Legacy), VerifyError> {
    let genesis = options.genesis.clone();
    let (verdict, walked) = look(options, Cut::FORMAT)?;
    Ok((verdict, legacy(&genesis, &walked)))
}

/// As [`verify_archive`], with another rule of where extents end.
pub(super) fn look(options: VerifyArchive<'_>, cut: Cut) -> Result<(Verdict, Walked), VerifyError> {
    let started = Instant::now();
    let VerifyArchive {
        objects,
        genesis,
        document,
        progress,
    } = options;
    let chain = genesis.chain();
    let listing = Listing::of(&chain, &objects.list(&archive::folder(&chain))?);
    if listing.extents.is_empty() && listing.tail.is_none() {
        return Err(VerifyError::NothingArchived { chain });
    }
    let registry = Registry::standard()?;
    let make = registry.get(&genesis.parameters.application)?.make;
    let context = Context {
        founders: genesis.view()?,
        bounds: genesis.parameters.bounds(),
        make,
        carried: Carried::load(&genesis, document, make)?,
        genesis,
    };
    let mut findings = Findings::default();
    let source = (objects, listing);
    let walked = walk(&context, source, cut, &mut findings, progress)?;
    let mut verdict = settle(&walked, findings, Path::new(""));
    verdict.seconds = started.elapsed().as_secs_f64();
    Ok((verdict, walked))
}

fn walk(
    context: &Context,
    (objects, mut listing): (&Objects, Listing),
    cut: Cut,
    findings: &mut Findings,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Walked, ObjectsError> {
    let chain = *context.founders.chain();
    let (mut done, mut total) = (0, listing.bytes());
    let (walked, names, wrong) = thread::scope(|scope| {
        let (checker, workers) = Checker::start(scope);
        let mut walk = Walk::new(context, (objects, cut), findings, checker);
        let mut read = || {
            let mut seen = BTreeSet::new();
            loop {
                for (heights, known) in &listing.extents {
                    if let Some(bytes) = known.extent.filter(|_| seen.insert(*heights)) {
                        walk.object(*heights)?;
                        done += bytes;
                        progress(done, total);
                    }
                }
                if !walk.is_tail_ahead()? {
                    break;
                }
                // Who archives meanwhile wrote extents and then a tail behind them.
                let again = Listing::of(&chain, &objects.list(&archive::folder(&chain))?);
                if again.extents.len() == listing.extents.len() {
                    break;
                }
                total = total.max(again.bytes());
                listing = again;
            }
            let lone = listing
                .extents
                .iter()
                .filter(|(_, known)| known.extent.is_none());
            lone.for_each(|(heights, _)| walk.lone(*heights));
            match listing.tail {
                Some(_) => walk.tail(),
                None => Ok(()),
            }
        };
        let read = read();
        let (walked, names) = walk.finish();
        read.map(|()| (walked, names, workers.join()))
    })?;
    progress(total, total);
    for name in &listing.foreign {
        let what = "no object of ours has this name: remove it, or put it elsewhere";
        findings.add(name.clone(), Place::Tip, what);
    }
    for subject in wrong {
        let (place, position, what) = match subject {
            Subject::Batch(_, position) => {
                (Place::Tip, position, "a client's signature does not hold")
            }
            Subject::Inline(height, position) => {
                let what = "a client's signature does not hold";
                (Place::Height(height), position, what)
            }
            Subject::Votes(height, position) => {
                let what = "a member's signature does not hold";
                (Place::Height(height), position, what)
            }
        };
        findings.add(names[position.file as usize].clone(), place, what);
    }
    Ok(walked)
}

/// The state of one reading.
struct Walk<'a> {
    context: &'a Context,
    objects: &'a Objects,
    cut: Cut,
    findings: &'a mut Findings,
    checker: Checker,
    views: Views,
    replay: Replay,
    /// The last block in order, with its header's digest.
    last: (Header, Digest),
    /// What a certificate of an earlier extent says of a block that comes later.
    ahead: Option<(Ballot, String)>,
    /// Objects by the number that subjects of signatures name them by.
    names: Vec<String>,
    blocks: u64,
    checkpoints: u64,
    certified: Option<Height>,
    /// Whether something of what a later extent rests on is missing or wrong.
    is_broken: bool,
}

impl<'a> Walk<'a> {
    fn new(
        context: &'a Context,
        (objects, cut): (&'a Objects, Cut),
        findings: &'a mut Findings,
        checker: Checker,
    ) -> Self {
        let header = context.genesis.header();
        let digest = header.digest();
        Self {
            context,
            objects,
            cut,
            findings,
            checker,
            views: Views::of(&context.founders),
            replay: Replay::new(context),
            last: (header, digest),
            ahead: None,
            names: Vec::new(),
            blocks: 0,
            checkpoints: 0,
            certified: None,
            is_broken: false,
        }
    }

    fn chain(&self) -> &'a Digest {
        self.context.founders.chain()
    }

    fn wrong(&mut self, name: &str, height: Height, what: impl Into<String>) {
        self.findings.add(name, Place::Height(height), what);
    }

    /// Something that later blocks rest on does not hold.
    fn breaks(&mut self, name: &str, height: Height, what: impl Into<String>) {
        self.wrong(name, height, what);
        self.stop();
    }

    fn stop(&mut self) {
        self.is_broken = true;
        self.replay.stop();
    }

    /// The object; nothing where it cannot be an object of ours, which is told.
    fn read(
        &mut self,
        name: &str,
        height: Height,
        most: u64,
    ) -> Result<Option<Bytes>, ObjectsError> {
        match self.objects.get(name, most) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error @ (ObjectsError::Missing { .. } | ObjectsError::TooLong { .. })) => {
                self.wrong(name, height, error.to_string());
                Ok(None)
            }
            Err(
                error @ (ObjectsError::Address { .. }
                | ObjectsError::Folder { .. }
                | ObjectsError::Failed { .. }),
            ) => Err(error),
        }
    }

    fn object(&mut self, (first, last): (Height, Height)) -> Result<(), ObjectsError> {
        let of_object = |kind| archive::name(self.chain(), kind, first, last);
        let (name, cover) = (of_object(Kind::Extent), of_object(Kind::Proof));
        self.follows(&name, first);
        let Some(bytes) = self.read(&name, first, extent_bytes_max(&self.context.bounds))? else {
            self.stop();
            self.skip(last);
            return Ok(());
        };
        let extent = match Extent::decode(&bytes) {
            Ok(extent) => extent,
            Err(ExtentError { height, what }) => {
                let height = height.filter(|height| (first..=last).contains(height));
                self.breaks(&name, height.unwrap_or(first), what);
                self.skip(last);
                return Ok(());
            }
        };
        let opening = extent.opening;
        if (opening.first, opening.last) != (first, last) {
            let (first, last) = (opening.first, opening.last);
            let what = format!("it holds the extent from {first} to {last}");
            self.breaks(&name, first, what);
            self.skip(last);
            return Ok(());
        }
        self.ends(&name, &extent);
        self.take(&name, &extent);
        // Without it nothing proves the blocks; what stands behind them may still be followed.
        let Some(bytes) = self.read(&cover, last, PROOF_BYTES_MAX)? else {
            return Ok(());
        };
        match Proof::decode(&bytes) {
            Err(what) => self.wrong(&cover, last, what),
            Ok(proof) => self.proof(&cover, &extent, &proof),
        }
        Ok(())
    }

    /// A proof whose extent is not there: its writer was interrupted, or the extent is missing.
    fn lone(&mut self, (first, last): (Height, Height)) {
        let cover = &archive::name(self.chain(), Kind::Proof, first, last);
        if first == self.last.0.height.next() {
            let what = format!("{cover}: heights {first} to {last} were not written to their end");
            self.findings.note(what);
        } else {
            self.wrong(cover, first, "the extent that it proves is missing");
        }
    }

    /// Whether a tail begins behind the height that follows the last extent.
    fn is_tail_ahead(&self) -> Result<bool, ObjectsError> {
        let name = archive::tail(self.chain());
        let opening = match self.objects.beginning(&name, TAIL_OPENING_BYTES) {
            Ok(bytes) => archive::tail_opening(&bytes),
            Err(ObjectsError::Missing { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(opening.is_some_and(|opening| opening.first > self.last.0.height.next()))
    }

    fn tail(&mut self) -> Result<(), ObjectsError> {
        let name = archive::tail(self.chain());
        let end = self.last.0.height;
        let most = extent_bytes_max(&self.context.bounds);
        let Some(bytes) = self.read(&name, end.next(), most)? else {
            return Ok(());
        };
        match archive::decode_tail(&bytes) {
            Err(ExtentError { height, what }) => {
                self.breaks(&name, height.unwrap_or(end.next()), what);
            }
            Ok((extent, _)) if extent.opening.last <= end => {
                let last = extent.opening.last;
                let what = format!("{name}: it ends at {last}, which an extent holds by now");
                self.findings.note(what);
            }
            Ok((extent, proof)) => {
                self.follows(&name, extent.opening.first);
                self.take(&name, &extent);
                self.proof(&name, &extent, &proof);
            }
        }
        Ok(())
    }

    /// Whether an object begins behind the last block.
    fn follows(&mut self, name: &str, first: Height) {
        let want = self.last.0.height.next();
        if first > want {
            let to = first.minus(1);
            let what = format!("heights {want} to {to} are missing: no extent before it has them");
            self.breaks(name, want, what);
        } else if first < want {
            let what = format!("it begins at {first}, and {want} is what follows the one before");
            self.breaks(name, first, what);
        }
    }

    /// Goes on behind an object that could not be read.
    fn skip(&mut self, last: Height) {
        self.last.0.height = self.last.0.height.max(last);
    }

    /// Whether an extent ends where one does.
    fn ends(&mut self, name: &str, extent: &Extent) {
        let blocks = extent.blocks.iter().zip(&extent.sizes).enumerate();
        let is_end = |(index, ((block, _), bytes)): (usize, (&(Block, Digest), &u64))| {
            self.cut.ends(&block.body, index + 1, *bytes)
        };
        let first = { blocks }.position(is_end);
        if first != Some(extent.blocks.len() - 1) {
            let what = "it does not end where an extent of this chain ends";
            self.breaks(name, extent.opening.last, what);
        }
    }

    /// Takes in the blocks of an extent.
    fn take(&mut self, name: &str, extent: &Extent) {
        let object = self.names.len() as u64;
        self.names.push(name.to_owned());
        let position = Position {
            file: object,
            offset: 0,
        };
        let (chain, bounds) = (*self.chain(), self.context.bounds);
        let mut unchecked: BTreeSet<Digest> = extent.batches.keys().copied().collect();
        for (block, digest) in &extent.blocks {
            let height = block.header.height;
            self.blocks += 1;
            self.checkpoints += u64::from(matches!(block.body, Body::Checkpoint(_)));
            let linked = self.links(block);
            // Also where it does not follow: what stands behind it is of the view that it made.
            let handed = self.hand_over(block, *digest, position);
            if let Err(what) = linked.and(handed)
                && !self.is_broken
            {
                self.breaks(name, height, what);
            }
            self.last = (block.header.clone(), *digest);
            self.awaited(name, height, *digest);
            let mut groups: Vec<Group> = Vec::new();
            for batch in block.body.batches().map(BatchRef::digest) {
                let bytes = extent.batches[&batch].clone();
                match CheckedBatch::decode(bytes, &chain, &bounds) {
                    Err(error) => self.breaks(name, height, format!("batch {batch}: {error}")),
                    Ok((decoded, checks)) => {
                        if unchecked.remove(&batch) {
                            self.checker.add(Subject::Inline(height, position), checks);
                        }
                        groups.extend(decoded.groups);
                    }
                }
            }
            if !self.replay.is_stopped()
                && let Err(what) = self.replay.apply(block.clone(), groups)
            {
                self.breaks(name, height, what);
            }
        }
    }

    fn links(&self, block: &Block) -> Result<(), String> {
        let (tip, tip_digest) = &self.last;
        let linked = block.header.follows(tip, tip_digest);
        linked.map_err(|error| error.to_string())?;
        let (got, present) = (block.header.view, self.views.present().id());
        if got != present {
            return Err(format!(
                "it is of view {got}, the blocks before lead to {present}"
            ));
        }
        let checked = block.body.check();
        checked.map_err(|error| format!("its body: {error}"))
    }

    /// Takes in the votes for a snapshot, and the view that the block makes, if it makes one.
    fn hand_over(&mut self, block: &Block, digest: Digest, at: Position) -> Result<(), String> {
        let height = block.header.height;
        if let Body::Checkpoint(body) = &block.body {
            let checks = body.checks(self.views.present());
            let checks = checks.map_err(|error| format!("its votes: {error}"))?;
            self.checker.add(Subject::Votes(height, at), checks);
        }
        let Body::Reconfiguration(body) = &block.body else {
            return Ok(());
        };
        let made = self.views.make(body, Opening { height, digest });
        let checks = made.map_err(|what| format!("it makes no view: {what}"))?;
        self.checker.add(Subject::Votes(height, at), checks);
        Ok(())
    }

    /// Compares a block with what an earlier certificate said of it.
    fn awaited(&mut self, name: &str, height: Height, digest: Digest) {
        if self
            .ahead
            .as_ref()
            .is_some_and(|(ballot, _)| ballot.height == height)
            && let Some((ballot, cover)) = self.ahead.take()
            && ballot.digest != digest
        {
            let what = format!("block {height} is not the one that {cover} certifies");
            self.breaks(name, height, what);
        }
    }

    /// Takes in what proves the blocks up to the last one of `extent`.
    fn proof(&mut self, name: &str, extent: &Extent, proof: &Proof) {
        let (last, digest) = extent.last();
        let ballot = &proof.certificate.ballot;
        if let Err(what) = proof.covers(last, digest) {
            return self.wrong(name, last.height, what);
        }
        let of_view = |view: &View| {
            let checks = proof.certificate.checks(view);
            checks.map_err(|error| error.to_string())
        };
        let checks = match self.views.certifier(ballot) {
            // The block that made its view is missing, which was told.
            Err(_) if self.is_broken => return,
            other => other.and_then(of_view),
        };
        match checks {
            Err(what) => self.wrong(name, last.height, what),
            Ok(checks) => {
                let position = Position {
                    file: self.names.len() as u64,
                    offset: 0,
                };
                self.names.push(name.to_owned());
                self.checker
                    .add(Subject::Votes(last.height, position), checks);
                self.views.certified(ballot);
                self.certified = self.certified.max(Some(last.height));
                if ballot.height > last.height {
                    self.ahead = Some((*ballot, name.to_owned()));
                }
            }
        }
    }

    fn finish(self) -> (Walked, Vec<String>) {
        let (height, digest) = self.replay.good();
        let walked = Walked {
            height,
            digest,
            state_digest: self.replay.state_digest(),
            blocks: self.blocks,
            views: self.views.count(),
            checkpoints: self.checkpoints,
            signatures: self.checker.finish(),
            certified: self.certified,
            is_running: false,
            replay: self.replay,
        };
        (walked, self.names)
    }
}
