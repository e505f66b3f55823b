//! What the verbs take from `node` and `sim`: the only file that names them.
//!
//! Source: `docs/cli.md`. In: folders and settings. Out: running members, findings.
//! Holds: a part that is not built in answers plainly. Elsewhere: members (`node`).

use std::path::Path;
use std::process::ExitCode;

use super::args::{Common, SimulateArgs};
use super::failure::Failure;
use super::verify::Report;
use crate::blocks::Genesis;

/// The HTTP address and the genesis document of the member in `folder`, if it is one.
pub(crate) fn door_of(_folder: &Path) -> Result<Option<(String, Option<Genesis>)>, Failure> {
    Ok(None)
}

/// Reads every file below the `data/` of the member in `dir` and checks it against `genesis`.
pub(crate) fn verify_dir(_dir: &Path, _genesis: &Genesis) -> Result<Report, Failure> {
    Err(Failure::not_yet(
        "verify --dir",
        "consortium verify --genesis FILE --proof FILE",
    ))
}

/// Runs members in one process under a seed.
pub(crate) fn simulate(_common: &Common, _args: &SimulateArgs) -> Result<ExitCode, Failure> {
    Err(Failure::not_yet("simulate", "consortium dev"))
}
