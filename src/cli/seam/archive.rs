//! What the verbs take from `node` about archives.
//!
//! Source: `docs/archive.md`. In: addresses and folders. Out: archivers, findings, or what to do.
//! Holds: no credential is printed. Elsewhere: extents and their proofs (`node`).

use std::path::Path;

use super::report;
use crate::blocks::Genesis;
use crate::cli::args::Common;
use crate::cli::failure::Failure;
use crate::cli::output::Meter;
use crate::cli::verify::Report;
use crate::node::{self, ArchiveError, Archiver, Legacy, VerifyArchive, VerifyError};
use crate::storage::{Access, Objects, ObjectsError};

/// Opens the archive at `address` for the member in `dir`.
pub(crate) fn open(dir: &Path, address: &str) -> Result<Archiver, Failure> {
    if !super::has_settings(dir) {
        return Err(Failure::refused(
            format!("{} holds no member.toml", dir.display()),
            "name a member's folder: consortium archive URL --dir ledger/member-0",
        ));
    }
    let objects = Objects::open(address, Access::Write)?;
    Ok(Archiver::open(dir, objects)?)
}

/// As [`open`]; nothing where the store does not answer yet.
pub(crate) fn reopen(dir: &Path, address: &str) -> Result<Option<Archiver>, Failure> {
    let objects = Objects::open(address, Access::Write)?;
    match Archiver::open(dir, objects) {
        Ok(archiver) => Ok(Some(archiver)),
        Err(error) if error.may_pass() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads every object of the archive at `address` and checks it against `genesis`, which stands in
/// the file `document`.
pub(crate) fn verify(
    common: &Common,
    address: &str,
    (genesis, document): (&Genesis, &Path),
) -> Result<Report, Failure> {
    look(common, address, (genesis, document), node::verify_archive).map(report)
}

/// As [`verify`], and what the ledger leaves to a successor.
pub(crate) fn legacy(
    common: &Common,
    address: &str,
    (genesis, document): (&Genesis, &Path),
) -> Result<(Report, Legacy), Failure> {
    let (verdict, legacy) = look(common, address, (genesis, document), node::archive_legacy)?;
    Ok((report(verdict), legacy))
}

fn look<T>(
    common: &Common,
    address: &str,
    (genesis, document): (&Genesis, &Path),
    verify: impl FnOnce(VerifyArchive<'_>) -> Result<T, VerifyError>,
) -> Result<T, Failure> {
    let objects = Objects::open(address, Access::Read)?;
    let mut meter: Option<Meter> = None;
    let mut progress = |done: u64, total: u64| {
        let meter = meter.get_or_insert_with(|| Meter::new(common, "bytes of the archive", total));
        meter.set(done);
    };
    let looked = verify(VerifyArchive {
        objects: &objects,
        genesis: genesis.clone(),
        document,
        progress: &mut progress,
    });
    if let Some(meter) = meter {
        meter.finish();
    }
    looked.map_err(|error| match error {
        VerifyError::Objects(error) => error.into(),
        VerifyError::Carried(_) => {
            Failure::refused(error, "the .state file stands beside its genesis.json")
        }
        VerifyError::NothingArchived { .. } => Failure::refused(
            error,
            "check the address and that --genesis is of this ledger; consortium archive URL --dir \
             MEMBER_DIR fills it",
        ),
        VerifyError::Config(_)
        | VerifyError::NoData { .. }
        | VerifyError::Genesis(_)
        | VerifyError::Application(_)
        | VerifyError::Running { .. }
        | VerifyError::Log(_)
        | VerifyError::Tables(_)
        | VerifyError::Io { .. } => Failure::refused(error, "check --genesis"),
    })
}

impl From<ObjectsError> for Failure {
    fn from(error: ObjectsError) -> Self {
        let next = next_of_objects(&error);
        Self::refused(error, next)
    }
}

fn next_of_objects(error: &ObjectsError) -> &'static str {
    match error {
        ObjectsError::Address { .. } => {
            "give a folder, file:///…, s3://bucket/prefix, gs://… or az://…; credentials come from \
             the environment: consortium archive --help"
        }
        ObjectsError::Folder { .. } => "check the path, who owns it and its mode",
        ObjectsError::Missing { .. } => "check the address: consortium archive --help",
        ObjectsError::TooLong { .. } => "it is none of ours: move it away",
        ObjectsError::Failed { .. } => {
            "check the address, the credentials in the environment and that the store answers; \
             what was written is whole, and the same line goes on behind it"
        }
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let next = match &error {
            ArchiveError::Gap { .. } => {
                "archive from a member that still has them, then go on with this one; verify \
                 --archive names what is there"
            }
            ArchiveError::Differs { .. } | ArchiveError::Object { .. } => {
                "nothing was overwritten; consortium verify --genesis FILE --archive URL says \
                 whether the archive holds, and verify --dir whether this member does"
            }
            ArchiveError::Config(_) | ArchiveError::Genesis(_) | ArchiveError::Store(_) => {
                "name a member's folder, the one that holds member.toml and data/"
            }
            ArchiveError::Log(_)
            | ArchiveError::Record { .. }
            | ArchiveError::OtherChain { .. }
            | ArchiveError::Unlinked { .. }
            | ArchiveError::Diverges { .. }
            | ArchiveError::Uncovered { .. }
            | ArchiveError::Batch { .. } => {
                "consortium verify --genesis FILE --dir MEMBER_DIR names what is wrong with this \
                 member; archive from another one"
            }
            ArchiveError::Objects(error) => next_of_objects(error),
        };
        Self::refused(error, next)
    }
}
