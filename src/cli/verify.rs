//! `verify`: a proof file or a member's folder, against a genesis document and nothing else.
//!
//! Source: `docs/cli.md`, `docs/formats.md`. In: files. Out: what they show, or exit 4.
//! Holds: nothing is asked of anybody and nothing is written.
//! Elsewhere: the checks (`blocks::proof`, `node`).

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use super::args::{Common, VerifyArgs};
use super::failure::Failure;
use super::output::{Output, pairs};
use super::seam;
use super::target::read_genesis;
use crate::api::{Encoding, Outcome};
use crate::blocks::Genesis;
use crate::blocks::proof::{PROOF_BYTES_MAX, Proof};
use crate::client::{Shown, check_proof};
use crate::committee::Height;
use crate::crypto::Digest;

/// What a check found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) ok: bool,
    /// How final a block of this ledger is.
    pub(crate) finality: String,
    pub(crate) height: Height,
    pub(crate) digest: Digest,
    pub(crate) state_digest: Option<Digest>,
    pub(crate) blocks: u64,
    pub(crate) views: u64,
    pub(crate) checkpoints: u64,
    pub(crate) signatures: u64,
    pub(crate) seconds: f64,
    pub(crate) faults: Vec<Found>,
    /// What a proof file shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proof: Option<ProofReport>,
}

/// Something that is not what it says it is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Found {
    pub(crate) file: String,
    pub(crate) height: Option<Height>,
    pub(crate) what: String,
}

/// What a proof file shows.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProofReport {
    Transaction {
        client: String,
        sequence: u64,
        height: Height,
        ledger_sequence: u64,
        operation: String,
        result: Outcome,
    },
    State {
        key: String,
        key_encoding: Encoding,
        value: Option<String>,
        encoding: Encoding,
        state_root: Digest,
    },
}

pub(crate) fn run(common: &Common, args: &VerifyArgs) -> Result<ExitCode, Failure> {
    if args.archive.is_some() {
        return Err(Failure::not_yet(
            "verify --archive",
            "verify --dir or --proof",
        ));
    }
    if args.views {
        let instead = "view 0 is in the genesis document: verify --dir or --proof";
        return Err(Failure::not_yet("verify --views", instead));
    }
    let Some(path) = &common.genesis else {
        return Err(Failure::usage(
            "nothing to verify against: --genesis is the trust root",
            "consortium verify --genesis genesis.json --proof FILE",
        ));
    };
    let genesis = read_genesis(path)?;
    if let Some(evidence) = &args.evidence {
        return super::faults::verify(common, evidence, &genesis);
    }
    let start = Instant::now();
    let mut report = match (&args.proof, &common.dir) {
        (Some(proof), None) => of_proof(proof, &genesis)?,
        (None, Some(dir)) => seam::verify_dir(common, dir, &genesis)?,
        (None, None) | (Some(_), Some(_)) => {
            return Err(Failure::usage(
                "verify checks one thing: --proof FILE or --dir MEMBER_DIR",
                "name one of them",
            ));
        }
    };
    report.seconds = start.elapsed().as_secs_f64();
    Output::new(common).document(&report, Report::table)?;
    if report.ok {
        return Ok(ExitCode::SUCCESS);
    }
    let first = report.faults.first();
    let what = first.map_or_else(
        || "verification failed".to_owned(),
        |found| format!("{}: {}", found.file, found.what),
    );
    let next = "trust nothing in this file; ask a member for another, or repair the disk";
    Err(Failure::violation(what, next))
}

fn of_proof(path: &Path, genesis: &Genesis) -> Result<Report, Failure> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| {
        let most = PROOF_BYTES_MAX as u64 + 1;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        // What is no text is no proof either; the reader says so.
        text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(())
    });
    read.map_err(|error| Failure::file(path, &error))?;
    let mut report = Report {
        finality: "certificate".into(),
        ..Report::default()
    };
    let shown = Proof::from_json(&text)
        .map_err(|error| error.to_string())
        .and_then(|proof| {
            let shown = check_proof(&proof, genesis).map_err(|error| error.to_string())?;
            Ok((proof, shown))
        });
    match shown {
        Ok((proof, shown)) => report.fill(&proof, shown),
        Err(what) => report.faults.push(Found {
            file: path.display().to_string(),
            height: None,
            what,
        }),
    }
    Ok(report)
}

impl Report {
    fn fill(&mut self, proof: &Proof, shown: Shown) {
        let (header, certificate) = match proof {
            Proof::Transaction(proof) => (&proof.header, &proof.certificate),
            Proof::State(proof) => (&proof.header, &proof.certificate),
        };
        self.ok = true;
        (self.height, self.digest) = (header.height, header.digest());
        (self.blocks, self.views) = (1, 1);
        self.signatures = certificate.signatures.len() as u64;
        self.proof = Some(match shown {
            Shown::Transaction(proved) => {
                self.signatures += 1;
                ProofReport::Transaction {
                    client: proved.client.to_string(),
                    sequence: proved.transaction.sequence,
                    height: proved.height,
                    ledger_sequence: proved.sequence,
                    operation: hex::encode(&proved.transaction.operation),
                    result: Outcome::new(proved.outcome.code, &proved.outcome.bytes),
                }
            }
            Shown::State {
                key, value, root, ..
            } => {
                let (key, key_encoding) = Encoding::write(&key);
                let (value, encoding) = value.map(|bytes| Encoding::write(&bytes)).unzip();
                ProofReport::State {
                    key,
                    key_encoding,
                    value,
                    encoding: encoding.unwrap_or_default(),
                    state_root: root,
                }
            }
        });
    }

    fn table(&self) -> String {
        let mut rows = vec![
            ("ok", self.ok.to_string()),
            ("finality", self.finality.clone()),
            ("height", self.height.to_string()),
            ("digest", self.digest.to_string()),
        ];
        if let Some(digest) = &self.state_digest {
            rows.push(("state_digest", digest.to_string()));
        }
        rows.push(("blocks", self.blocks.to_string()));
        rows.push(("signatures", self.signatures.to_string()));
        rows.push(("seconds", format!("{:.3}", self.seconds)));
        match &self.proof {
            Some(ProofReport::Transaction {
                client,
                sequence,
                ledger_sequence,
                result,
                ..
            }) => {
                rows.push(("client", client.clone()));
                rows.push(("sequence", sequence.to_string()));
                rows.push(("ledger_sequence", ledger_sequence.to_string()));
                rows.push(("result", super::submit::shown(result)));
            }
            Some(ProofReport::State { key, value, .. }) => {
                rows.push(("key", key.clone()));
                rows.push(("value", value.clone().unwrap_or_else(|| "(absent)".into())));
            }
            None => {}
        }
        for found in &self.faults {
            rows.push(("fault", format!("{}: {}", found.file, found.what)));
        }
        pairs(&rows)
    }
}
