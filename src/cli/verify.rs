//! `verify`: a proof file, a member's folder, an archive or the view chain, against a genesis
//! document and nothing else.
//!
//! Source: `docs/cli.md`, `docs/formats.md`. In: files. Out: what they show, or exit 4.
//! Holds: nothing is written; nothing is asked of anybody but for the view chain.
//! Elsewhere: the checks (`blocks::proof`, `node`), the view chain (`views`).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use super::args::{Common, VerifyArgs};
use super::failure::Failure;
use super::output::{Output, pairs, short};
use super::seam;
use super::target::read_genesis;
use crate::api::{Encoding, Outcome};
use crate::blocks::proof::{PROOF_BYTES_MAX, Proof};
use crate::blocks::{Genesis, Predecessor, Step};
use crate::client::{Shown, check_proof};
use crate::committee::{Height, MemberId, ViewId};
use crate::crypto::{Digest, PublicKey};
use crate::node::Legacy;
use crate::storage::without_secrets;

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
    /// Where the view chain leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) view: Option<ViewReport>,
    /// The ledger that this one goes on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) successor_of: Option<Link>,
}

/// Where a successor goes on from, and how far that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Link {
    #[serde(flatten)]
    predecessor: Predecessor,
    /// `named`, by the genesis document alone; `document`, that one was compared; `replayed`, a
    /// folder of it was read whole and leads there.
    followed: &'static str,
}

/// The newest view of a chain that was walked.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ViewReport {
    pub(crate) id: ViewId,
    /// By seat.
    pub(crate) committee: Vec<SeatReport>,
}

/// Who sits, and with which key.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SeatReport {
    pub(crate) id: MemberId,
    pub(crate) name: String,
    pub(crate) key: Option<PublicKey>,
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
    if args.views {
        return super::on_runtime(super::views::verify(common, args, &genesis));
    }
    let start = Instant::now();
    let mut report = match (&args.proof, &common.dir, &args.archive) {
        (Some(proof), None, None) => of_proof(proof, &genesis)?,
        (None, Some(dir), None) => seam::verify_dir(common, dir, &genesis)?,
        (None, None, Some(url)) => seam::archive::verify(common, url, (&genesis, path))?,
        (None, None, None) if args.predecessor.is_some() => of_genesis(&genesis),
        (None, None, None)
        | (Some(_), Some(_), _)
        | (Some(_), _, Some(_))
        | (_, Some(_), Some(_)) => {
            return Err(Failure::usage(
                "verify checks one thing: --proof FILE, --dir MEMBER_DIR, --archive URL or --views \
                 --api URL",
                "name one of them",
            ));
        }
    };
    follow(common, args, &genesis, &mut report)?;
    report.seconds = start.elapsed().as_secs_f64();
    Output::new(common).document(&report, Report::table)?;
    report.verdict(match &args.archive {
        None => "trust nothing in this file; ask a member for another, or repair the disk",
        Some(_) => {
            "remove the objects that are named and archive again from a member that has their \
             heights: consortium archive URL --dir MEMBER_DIR"
        }
    })
}

/// The document alone, for who follows its link.
fn of_genesis(genesis: &Genesis) -> Report {
    let header = genesis.header();
    Report {
        ok: true,
        finality: "certificate".into(),
        digest: header.digest(),
        views: 1,
        ..Report::default()
    }
}

/// Follows the link of a successor as far as the flags say; what does not hold is a fault.
pub(crate) fn follow(
    common: &Common,
    args: &VerifyArgs,
    genesis: &Genesis,
    report: &mut Report,
) -> Result<(), Failure> {
    let Some(predecessor) = genesis.successor_of else {
        return match &args.predecessor {
            None => Ok(()),
            Some(_) => Err(Failure::usage(
                "this genesis document names no predecessor",
                "leave --predecessor out: the ledger was founded anew",
            )),
        };
    };
    let mut link = Link {
        predecessor,
        followed: "named",
    };
    if let Some(path) = &args.predecessor {
        let old = read_genesis(path)?;
        let mut wrong = |file: &Path, what: String| {
            report.ok = false;
            report.faults.push(Found {
                file: file.display().to_string(),
                height: None,
                what,
            });
        };
        let (got, want) = (old.chain(), predecessor.chain);
        if got != want {
            wrong(
                path,
                format!("it founds chain {got}, the successor names {want}"),
            );
        } else if let Some((place, looked, legacy)) = predecessor_read(common, args, (&old, path))?
        {
            let found = looked.faults.into_iter().map(|found| found.what);
            let what = found
                .chain(differs(&legacy.predecessor, &predecessor))
                .next();
            match what {
                Some(what) => wrong(&place, what),
                None => link.followed = "replayed",
            }
        } else {
            link.followed = "document";
        }
    }
    report.successor_of = Some(link);
    Ok(())
}

/// Where the flags say that the predecessor lies, and what is found there.
fn predecessor_read(
    common: &Common,
    args: &VerifyArgs,
    (old, document): (&Genesis, &Path),
) -> Result<Option<(PathBuf, Report, Legacy)>, Failure> {
    Ok(match (&args.predecessor_dir, &args.predecessor_archive) {
        (None, None) => None,
        (Some(dir), _) => {
            let (looked, legacy) = seam::verify_legacy(common, dir, old)?;
            Some((dir.clone(), looked, legacy))
        }
        (None, Some(url)) => {
            let (looked, legacy) = seam::archive::legacy(common, url, (old, document))?;
            Some((without_secrets(url).into(), looked, legacy))
        }
    })
}

/// How a folder or an archive of the predecessor ends otherwise than its successor says.
fn differs(got: &Predecessor, want: &Predecessor) -> Option<String> {
    if got.height != want.height {
        let (got, want) = (got.height, want.height);
        return Some(format!(
            "it ends at height {got}, the successor goes on from {want}: take the folder or \
             the archive that restore read"
        ));
    }
    let parts = [
        ("header", got.digest, want.digest),
        ("state", got.state_digest, want.state_digest),
    ];
    let other = parts.into_iter().find(|(_, got, want)| got != want);
    other.map(|(what, got, want)| format!("its {what} is {got}, the successor names {want}"))
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
    /// How the program ends; `next` is what to do where something does not hold.
    pub(crate) fn verdict(&self, next: &str) -> Result<ExitCode, Failure> {
        if self.ok {
            return Ok(ExitCode::SUCCESS);
        }
        let first = self.faults.first();
        let what = first.map_or_else(
            || "verification failed".to_owned(),
            |found| format!("{}: {}", found.file, found.what),
        );
        Err(Failure::violation(what, next))
    }

    fn fill(&mut self, proof: &Proof, shown: Shown) {
        let (header, certificate, steps) = match proof {
            Proof::Transaction(proof) => (&proof.header, &proof.certificate, &proof.views),
            Proof::State(proof) => (&proof.header, &proof.certificate, &proof.views),
        };
        let in_step = |step: &Step| {
            let fresh = step.body.seats.iter().filter(|seat| seat.fresh.is_some());
            (step.certificate.signatures.len() + 2 * fresh.count()) as u64
        };

        self.ok = true;
        (self.height, self.digest) = (header.height, header.digest());
        (self.blocks, self.views) = (1, header.view.0 + 1);
        self.signatures = certificate.signatures.len() as u64;
        self.signatures += steps.iter().map(in_step).sum::<u64>();
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

    pub(crate) fn table(&self) -> String {
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
        rows.push(("views", self.views.to_string()));
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
        if let Some(Link {
            predecessor,
            followed,
        }) = &self.successor_of
        {
            let (chain, height) = (predecessor.chain, predecessor.height);
            rows.push(("successor_of", format!("{chain} at {height} ({followed})")));
        }
        for seat in self.view.iter().flat_map(|view| &view.committee) {
            let key = seat.key.map_or_else(|| "-".into(), short);
            rows.push(("seat", format!("{}  {}  {key}", seat.name, seat.id)));
        }
        for found in &self.faults {
            rows.push(("fault", format!("{}: {}", found.file, found.what)));
        }
        pairs(&rows)
    }
}
