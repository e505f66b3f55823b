//! Evidence of a later view is judged by that view, or by nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{parse, words};
use crate::blocks::Step;
use crate::blocks::evidence::Evidence;
use crate::blocks::tests::fixtures::full_genesis;
use crate::blocks::tests::view_chain::Builder;
use crate::cli::failure::{Exit, Failure};
use crate::cli::faults::verify;
use crate::committee::{Height, Regency, Voter};
use crate::crypto::Digest;

/// Two WRITEs of seat 1 for one place in the newest view.
fn evidence(builder: &Builder) -> String {
    let vote = |byte: u8| {
        let mut voter = Voter::new(&builder.view, builder.keys[1].clone()).expect("a seat");
        let vote = voter.write(Regency(0), Height(100), Digest([byte; 32]));
        vote.expect("a first vote").1.into_inner()
    };
    hex::encode(Evidence::Votes(vote(1), vote(2)).to_bytes())
}

/// Judges a file of what a member keeps, as `faults -o json` prints it.
fn judged(evidence: &str, views: &[Step]) -> Result<ExitCode, Failure> {
    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("evidence.json");
    let document = json!({"members": [
        {"faults": [{"evidence": evidence}], "views": views},
    ]});
    std::fs::write(&path, document.to_string()).expect("ours");
    let common = parse(words("verify")).expect("a verb").common;
    verify(&common, &path, &full_genesis())
}

#[track_caller]
fn refused(judged: Result<ExitCode, Failure>, what: &str) {
    let failure = judged.expect_err("it proves nothing");
    assert_eq!(failure.exit, Exit::Violation);
    assert!(failure.what.contains(what), "{}", failure.what);
}

#[test]
fn evidence_of_any_view_convicts_with_the_steps_to_it() {
    let genesis = full_genesis();
    for views in 0..3 {
        let builder = Builder::rotated(&genesis, views);
        let judged = judged(&evidence(&builder), &builder.steps);
        assert_eq!(
            judged.expect("it convicts"),
            ExitCode::SUCCESS,
            "view {views}"
        );
    }
}

#[test]
fn evidence_of_a_view_that_the_file_does_not_prove_convicts_nobody() {
    let builder = Builder::rotated(&full_genesis(), 2);
    let evidence = evidence(&builder);
    let missing = "it is of view 2, and the steps in the file lead to view";
    refused(judged(&evidence, &[]), missing);
    refused(judged(&evidence, &builder.steps[..1]), missing);
    let mut forged = builder.steps.clone();
    forged[1].certificate.signatures.swap(0, 1);
    refused(
        judged(&evidence, &forged),
        "view 2: its certificate: a signature does not hold",
    );
}
