//! Verifies the snapshots of a member's directory by themselves: no log is read.
//!
//! Source: design, 'checkpoints and bootstrap'. In: a member's directory, its genesis document.
//! Out: [`SnapshotsVerdict`].
//! Holds: a snapshot is whole where each segment is what its manifest names and the state that they
//! make has the digest that its votes name; certified ones are proved from genesis.
//! Elsewhere: the log above them (`walk`), comparing members with each other (`cli`).

use std::time::Instant;

use serde::Serialize;

use super::files::owner;
use super::findings::{Findings, Place};
use super::kept::{Kept, file, names, prove};
use super::{FAULTS_MAX, VerifyDir, VerifyError, context};
use crate::blocks::ViewChain;
use crate::committee::Height;
use crate::crypto::Digest;
use crate::node::shelf::{Held, SNAPSHOTS, Shelf, UnreadableError};
use crate::storage::Store;

/// Looks at a folder to which a process writes: what it gives up meanwhile is missing in one.
const LOOKS_MAX: usize = 3;

/// What was found in a folder of snapshots.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SnapshotsVerdict {
    /// Whether there is no fault.
    pub ok: bool,
    /// Every snapshot, by height.
    pub checkpoints: Vec<SnapshotVerdict>,
    /// Signatures that were checked.
    pub signatures: u64,
    /// How long it took.
    pub seconds: f64,
    /// Everything that is wrong, at most [`FAULTS_MAX`].
    pub faults: Vec<SnapshotFault>,
    /// What is worth knowing and no fault.
    pub notes: Vec<String>,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SnapshotVerdict {
    /// The height behind which it was taken.
    pub height: Height,
    /// The header's digest there.
    pub digest: Digest,
    /// The digest of the whole state.
    pub state_digest: Digest,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Segments.
    pub segments: u32,
    /// Whether a quorum's votes for it are here.
    pub certified: bool,
    /// Whether nothing is wrong with it.
    pub ok: bool,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotFault {
    /// The file or folder, from the member's directory.
    pub file: String,
    /// Of which snapshot, where it is of one.
    pub height: Option<Height>,
    /// Which segment, where it is one.
    pub segment: Option<u32>,
    /// What is wrong.
    pub what: String,
}

/// Verifies every snapshot in the directory of a member, running or not.
///
/// Errors: [`VerifyError`].
pub fn verify_snapshots(options: VerifyDir<'_>) -> Result<SnapshotsVerdict, VerifyError> {
    let started = Instant::now();
    let VerifyDir {
        dir,
        genesis,
        progress,
    } = options;
    let (context, name) = context(&dir, genesis)?;
    let data = dir.join(&name);
    let mut verdict = None;
    for _ in 0..LOOKS_MAX {
        let is_running = Store::is_owned(&data);
        let mut findings = Findings::default();
        let mut look = Look::default();
        if is_running {
            findings.note(format!("{} runs on this directory", owner(&data)));
        } else {
            names(&data, &mut findings);
        }
        match Shelf::read_only(&data) {
            Ok(Some(shelf)) => look.shelf(&context, &shelf, &mut findings, progress),
            Ok(None) => findings.note("there are no snapshots"),
            Err(error) => findings.add(file(&data, &error), Place::Tip, error.to_string()),
        }
        let found = look.verdict(&name, findings);
        let is_over = found.ok || !is_running;
        verdict = Some(found);
        if is_over {
            break;
        }
    }
    let mut verdict = verdict.expect("there is at least one look");
    verdict.seconds = started.elapsed().as_secs_f64();
    Ok(verdict)
}

/// One look at a folder.
#[derive(Default)]
struct Look {
    checkpoints: Vec<SnapshotVerdict>,
    signatures: u64,
    faults: Vec<SnapshotFault>,
}

impl Look {
    fn shelf(
        &mut self,
        context: &super::walk::Context,
        shelf: &Shelf,
        findings: &mut Findings,
        progress: &mut dyn FnMut(u64, u64),
    ) {
        let mut kept = Kept::default();
        let chain = kept.views(context, shelf, findings);
        self.signatures = kept.signatures;
        let held = shelf.held();
        // Each is read twice: segment by segment, and as a state.
        let total: u64 = held.iter().map(|held| 2 * held.taken.bytes).sum();
        let mut done = 0;
        for held in held {
            let before = self.faults.len();
            let mut tell = |bytes: u64| {
                done += bytes;
                progress(done, total);
            };
            self.segments(shelf, &held, &mut tell);
            self.proof(chain.as_ref(), &held);
            if self.faults.len() == before {
                self.state(context, shelf, &held);
            }
            tell(held.taken.bytes);
            let taken = held.taken;
            self.checkpoints.push(SnapshotVerdict {
                height: taken.height,
                digest: taken.header,
                state_digest: taken.state,
                bytes: taken.bytes,
                segments: taken.segments,
                certified: held.proof.is_some(),
                ok: self.faults.len() == before,
            });
        }
        // Segments that no snapshot refers to any more are read as well.
        for problem in shelf.packs().problems() {
            let what = problem.to_string();
            if !self.faults.iter().any(|fault| fault.what == what) {
                findings.add(SNAPSHOTS, Place::Tip, what);
            }
        }
    }

    fn segments(&mut self, shelf: &Shelf, held: &Held, tell: &mut dyn FnMut(u64)) {
        for (index, leaf) in (0..).zip(held.manifest.leaves()) {
            if let Err(what) = shelf.segment(leaf) {
                self.fault(held, Some(index), SNAPSHOTS.into(), what);
            }
            tell(leaf.bytes.into());
        }
    }

    /// Nothing proves it where the view chain here does not hold, which is told then.
    fn proof(&mut self, chain: Option<&ViewChain>, held: &Held) {
        let Some((chain, proof)) = chain.zip(held.proof.as_ref()) else {
            return;
        };
        match prove(chain, proof) {
            Ok(signatures) => self.signatures += signatures,
            Err(what) => {
                let file = format!("{SNAPSHOTS}/{:020}.checkpoint", held.taken.height.0);
                self.fault(held, None, file, what);
            }
        }
    }

    fn state(&mut self, context: &super::walk::Context, shelf: &Shelf, held: &Held) {
        let mut application = (context.make)();
        let chain = context.genesis.chain();
        if let Err(error) = shelf.restore(held, &chain, &mut *application, &|_| true) {
            let segment = match &error {
                UnreadableError::Segment { index, .. } => u32::try_from(*index).ok(),
                UnreadableError::Ledger(_) | UnreadableError::Application(_) => None,
            };
            self.fault(held, segment, SNAPSHOTS.into(), error.to_string());
        }
    }

    fn fault(&mut self, held: &Held, segment: Option<u32>, file: String, what: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(SnapshotFault {
                file,
                height: Some(held.taken.height),
                segment,
                what,
            });
        }
    }

    fn verdict(self, name: &std::path::Path, findings: Findings) -> SnapshotsVerdict {
        let (found, notes) = findings.into_parts();
        let general = found.into_iter().map(|finding| SnapshotFault {
            file: finding.file,
            height: match finding.place {
                Place::Height(height) => Some(height),
                Place::Tip | Place::At(_) | Place::Batch(..) => None,
            },
            segment: None,
            what: finding.what,
        });
        let faults = general.chain(self.faults).map(|fault| SnapshotFault {
            file: name.join(&fault.file).display().to_string(),
            ..fault
        });
        let faults: Vec<SnapshotFault> = faults.collect();
        SnapshotsVerdict {
            ok: faults.is_empty(),
            checkpoints: self.checkpoints,
            signatures: self.signatures,
            seconds: 0.0,
            faults,
            notes,
        }
    }
}
