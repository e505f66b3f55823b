//! Checks what is kept beside the log: the view chain and the snapshots.
//!
//! Source: design, 'checkpoints and bootstrap'. In: the folders of a shelf. Out: the views that are
//! proved, the snapshots from which a pruned log can be replayed.
//! Holds: a snapshot counts where certificates chain to genesis, a quorum voted for it, and every
//! segment is what its manifest names; every file of the folders is read.
//! Elsewhere: the state that a snapshot makes (`replay`), what stands above it (`walk`).

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::findings::{Findings, Place};
use super::walk::Context;
use crate::blocks::{Step, ViewChain};
use crate::committee::{Height, ViewId};
use crate::crypto::Verifier;
use crate::node::shelf::{
    Held, Proof, SNAPSHOTS, Shelf, ShelfError, VIEWS, parse_checkpoint, parse_snapshot, parse_step,
};
use crate::storage::is_pack_name;

/// What is kept beside a log.
#[derive(Default)]
pub(super) struct Kept {
    /// None where there is no folder, or where it cannot be used.
    pub(super) shelf: Option<Shelf>,
    /// The view chain, as far as it is kept and holds.
    pub(super) steps: Vec<Step>,
    /// Snapshots that hold, by height.
    pub(super) bases: Vec<Arc<Held>>,
    /// Signatures that were checked.
    pub(super) signatures: u64,
}

impl Kept {
    /// Reads what is kept in the data directory `data`; while a process writes there segments are
    /// only read where they are needed.
    pub(super) fn look(
        context: &Context,
        data: &Path,
        is_running: bool,
        findings: &mut Findings,
    ) -> Self {
        if !is_running {
            names(data, findings);
        }
        let shelf = match Shelf::read_only(data) {
            Ok(Some(shelf)) => shelf,
            Ok(None) => return Self::default(),
            Err(error) => {
                findings.add(file(data, &error), Place::Tip, error.to_string());
                return Self::default();
            }
        };
        let mut kept = Self::default();
        let chain = kept.views(context, &shelf, findings);
        for problem in shelf.packs().problems().into_iter().filter(|_| !is_running) {
            findings.add(SNAPSHOTS, Place::Tip, problem.to_string());
        }
        for held in shelf.held() {
            let height = held.taken.height;
            let place = Place::Height(height);
            let whole = (0..)
                .zip(held.manifest.leaves())
                .find_map(|(index, leaf): (u32, _)| {
                    let looked = shelf.segment(leaf);
                    looked.err().map(|what| format!("segment {index}: {what}"))
                });
            if let Some(what) = whole.filter(|_| !is_running) {
                findings.add(SNAPSHOTS, place, format!("snapshot {height}: {what}"));
                continue;
            }
            match &held.proof {
                None => findings.note(format!("snapshot {height} is no checkpoint yet")),
                Some(proof) => match chain.as_ref().ok_or(()).map(|chain| prove(chain, proof)) {
                    Ok(Ok(signatures)) => {
                        kept.signatures += signatures;
                        kept.bases.push(held);
                    }
                    Ok(Err(what)) => {
                        let name = format!("{SNAPSHOTS}/{:020}.checkpoint", height.0);
                        findings.add(name, place, what);
                    }
                    Err(()) => {}
                },
            }
        }
        kept.shelf = Some(shelf);
        kept
    }

    pub(super) fn views(
        &mut self,
        context: &Context,
        shelf: &Shelf,
        findings: &mut Findings,
    ) -> Option<ViewChain> {
        let mut chain = ViewChain::of(&context.genesis).ok()?;
        let mut steps = shelf.steps();
        steps.sort_by_key(|(_, view)| *view);
        for (height, view) in steps {
            let name = format!("{VIEWS}/{:020}-{:020}.step", view.0, height.0);
            let step = match shelf.step(height) {
                Ok(Some(step)) => step,
                Ok(None) => continue,
                Err(error) => {
                    findings.add(name, Place::Height(height), error.to_string());
                    return None;
                }
            };
            let walked = chain.walk(std::slice::from_ref(&step), &Verifier::ed25519());
            let is_named = step.header.height == height && step.body.next == view;
            match walked {
                Ok(()) if is_named => self.steps.push(step),
                Ok(()) => {
                    findings.add(name, Place::Height(height), "it is another step");
                    return None;
                }
                Err(error) => {
                    findings.add(name, Place::Height(height), error.to_string());
                    return None;
                }
            }
        }
        self.signatures += chain.signatures();
        Some(chain)
    }

    /// The lowest snapshot from which blocks from `first` on can be replayed.
    pub(super) fn base_for(&self, first: Height) -> Option<Arc<Held>> {
        let mut bases = self.bases.iter();
        bases
            .find(|held| held.taken.height.next() >= first)
            .cloned()
    }
}

/// Whether certificates lead from genesis to the checkpoint and a quorum voted for its snapshot;
/// gives how many signatures that took.
pub(super) fn prove(chain: &ViewChain, proof: &Proof) -> Result<u64, String> {
    let [first, ..] = &proof.headers[..] else {
        return Err("it holds no header".into());
    };
    for pair in proof.headers.windows(2) {
        let followed = pair[1].follows(&pair[0], &pair[0].digest());
        followed.map_err(|error| error.to_string())?;
    }
    let last = proof.headers.last().unwrap_or(first);
    let ballot = &proof.certificate.ballot;
    if (ballot.height, ballot.digest) != (last.height, last.digest()) {
        return Err("its certificate is of another block".into());
    }
    let body = crate::blocks::Body::Checkpoint(proof.body.clone());
    if body.root() != first.body || proof.body.height >= first.height {
        return Err("its body is not what its header binds".into());
    }
    let view = |id: ViewId, height: Height| {
        let seated = chain.certifier(id, height);
        seated.ok_or_else(|| format!("view {id} is not proved by the view chain here"))
    };
    let certifier = &view(ballot.view, ballot.height)?.view;
    let mut checks = { proof.certificate.checks(certifier) }.map_err(|e| e.to_string())?;
    let voters = &view(first.view, first.height)?.view;
    checks.extend(
        proof
            .body
            .checks(voters)
            .map_err(|error| error.to_string())?,
    );
    match Verifier::ed25519().all_valid(&checks) {
        true => Ok(checks.len() as u64),
        false => Err("a signature does not hold".into()),
    }
}

/// Files that do not belong there.
pub(super) fn names(data: &Path, findings: &mut Findings) {
    for folder in [SNAPSHOTS, VIEWS] {
        let entries = fs::read_dir(data.join(folder)).into_iter().flatten();
        for name in entries.flatten().map(|entry| entry.file_name()) {
            let name = name.to_string_lossy();
            let is_ours = match folder {
                VIEWS => parse_step(&name).is_some(),
                _ => {
                    let small = parse_snapshot(&name).or(parse_checkpoint(&name));
                    small.is_some() || is_pack_name(&name)
                }
            };
            if name.ends_with(".tmp") {
                findings.note(format!(
                    "{folder}/{name} was left half made; it is not used"
                ));
            } else if !is_ours {
                let file = format!("{folder}/{name}");
                findings.add(file, Place::Tip, "no file of ours has this name");
            }
        }
    }
}

/// The file that an error names, from the data directory.
pub(super) fn file(data: &Path, error: &ShelfError) -> String {
    let path = match error {
        ShelfError::Sealed(
            crate::storage::SealedError::Damaged { path }
            | crate::storage::SealedError::Io { path, .. },
        )
        | ShelfError::Wrong { path, .. }
        | ShelfError::Io { path, .. } => path.clone(),
        ShelfError::Packs(_) | ShelfError::Cut(_) => data.join(SNAPSHOTS),
    };
    path.strip_prefix(data)
        .unwrap_or(&path)
        .display()
        .to_string()
}
