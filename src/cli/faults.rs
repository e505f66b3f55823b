//! `faults`: misbehaviour that members keep evidence of, and `verify --evidence`, which checks it.
//!
//! Source: `docs/cli.md`. In: members' addresses, or a file and a genesis document. Out: who did
//! what, and the bytes that prove it.
//! Holds: evidence is checked with nothing but the genesis document; who kept it is not believed.
//! Elsewhere: what proves a fault (`blocks::evidence`).

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::Value;

use super::args::Common;
use super::failure::Failure;
use super::output::{Output, short, table};
use super::target::{Target, Targets};
use super::verify::Found;
use crate::api::Faults;
use crate::blocks::Genesis;
use crate::blocks::evidence::{Evidence, EvidenceError, FaultKind, Law};
use crate::client::AskError;
use crate::committee::{Height, MemberId, Regency, View};
use crate::crypto::Verifier;

/// How long one answer of a member may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a file of evidence, at most.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Serialize)]
struct Report {
    members: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: Option<MemberId>,
    name: String,
    api: String,
    reachable: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    kept: Option<Faults>,
}

pub(crate) async fn run(common: &Common) -> Result<ExitCode, Failure> {
    let targets = Targets::find(common)?;
    let members = join_all(targets.members.iter().map(row)).await;
    let report = Report { members };
    Output::new(common).document(&report, Report::table)?;
    if report.members.iter().any(|row| row.reachable) {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::refused(
        "no member answers",
        "start one: consortium start --dir MEMBER_DIR, or a test ledger: consortium dev",
    ))
}

async fn row(target: &Target) -> Row {
    let known = target.known.as_ref();
    let answer = whole(target).await;
    Row {
        id: known.map(|member| member.id),
        name: known.map_or_else(String::new, |member| member.name.clone()),
        api: target.api.base().to_owned(),
        reachable: answer.is_ok(),
        error: answer.as_ref().err().map(ToString::to_string),
        kept: answer.ok(),
    }
}

/// Every page.
async fn whole(target: &Target) -> Result<Faults, AskError> {
    let mut all = target.api.faults(0, LIMIT).await?;
    loop {
        let have = u32::try_from(all.faults.len()).unwrap_or(u32::MAX);
        if have >= all.faults_count {
            return Ok(all);
        }
        let more = target.api.faults(have, LIMIT).await?;
        if more.faults.is_empty() {
            return Ok(all);
        }
        all.faults.extend(more.faults);
    }
}

impl Report {
    fn table(&self) -> String {
        let heads = ["seen by", "who", "kind", "height", "regency"];
        let rows = self.members.iter().flat_map(|row| {
            let faults = row.kept.iter().flat_map(|kept| &kept.faults);
            faults.map(|fault| {
                vec![
                    row.name.clone(),
                    short(fault.who),
                    fault.kind.name().to_owned(),
                    fault.height.to_string(),
                    fault.regency.to_string(),
                ]
            })
        });
        let rows: Vec<Vec<String>> = rows.collect();
        match rows.is_empty() {
            true => "no member keeps evidence of a fault".to_owned(),
            false => table(&heads, &rows),
        }
    }
}

#[derive(Default, Serialize)]
struct Verdict {
    ok: bool,
    /// What is proved.
    evidence: Vec<Proved>,
    /// What is not.
    faults: Vec<Found>,
}

/// A fault that the file proves.
#[derive(Serialize)]
struct Proved {
    who: MemberId,
    name: String,
    kind: FaultKind,
    height: Height,
    regency: Regency,
}

/// Checks a file of evidence: hex digits, or what `faults -o json` prints.
pub(crate) fn verify(common: &Common, path: &Path, genesis: &Genesis) -> Result<ExitCode, Failure> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(())
    });
    read.map_err(|error| Failure::file(path, &error))?;
    let mut pieces = Vec::new();
    match serde_json::from_str::<Value>(&text) {
        Ok(document @ (Value::Object(_) | Value::Array(_))) => collect(&document, &mut pieces),
        Ok(_) | Err(_) => pieces.push(text.trim().to_owned()),
    }
    let view = genesis.view();
    let view = view.expect("a document that was read makes a view");
    let mut verdict = Verdict::default();
    for piece in pieces {
        match check(&piece, genesis, &view) {
            Ok(proved) => verdict.evidence.push(proved),
            Err(what) => verdict.faults.push(Found {
                file: path.display().to_string(),
                height: None,
                what,
            }),
        }
    }
    verdict.ok = verdict.faults.is_empty() && !verdict.evidence.is_empty();
    Output::new(common).document(&verdict, Verdict::table)?;
    if verdict.ok {
        return Ok(ExitCode::SUCCESS);
    }
    let first = verdict.faults.into_iter().next();
    let what = first.map_or_else(|| "no evidence in it".to_owned(), |found| found.what);
    let next = "it accuses nobody; ask a member: consortium faults -o json";
    Err(Failure::violation(
        format!("{}: {what}", path.display()),
        next,
    ))
}

/// Every text called `evidence`, at any depth that JSON allows.
fn collect(document: &Value, pieces: &mut Vec<String>) {
    match document {
        Value::Array(items) => items.iter().for_each(|item| collect(item, pieces)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "evidence" => pieces.push(text.clone()),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
                    Value::Array(_) | Value::Object(_) => collect(field, pieces),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn check(piece: &str, genesis: &Genesis, view: &View) -> Result<Proved, String> {
    let bytes = hex::decode(piece).map_err(|error| format!("not hex: {error}"))?;
    let law = Law {
        view,
        bounds: &genesis.parameters.bounds(),
        ahead_max: genesis.parameters.ahead_max,
        verifier: &Verifier::ed25519(),
    };
    let evidence = Evidence::from_bytes(&bytes).map_err(|error| error.to_string())?;
    let (seat, kind) = evidence.check(&law).map_err(|error| error.to_string())?;
    let founder = genesis.founders.get(seat.index());
    let founder = founder.ok_or_else(|| EvidenceError::OtherView.to_string())?;
    let (height, regency) = evidence.place();
    Ok(Proved {
        who: MemberId::of(&founder.identity),
        name: founder.name.clone(),
        kind,
        height,
        regency,
    })
}

impl Verdict {
    fn table(&self) -> String {
        let heads = ["proved", "who", "kind", "height", "regency", "id"];
        let proved = self.evidence.iter().map(|one| {
            vec![
                "yes".to_owned(),
                one.name.clone(),
                one.kind.name().to_owned(),
                one.height.to_string(),
                one.regency.to_string(),
                one.who.to_string(),
            ]
        });
        let rows: Vec<Vec<String>> = proved.collect();
        let mut text = table(&heads, &rows);
        for found in &self.faults {
            text += &format!("\nnot proved: {}", found.what);
        }
        text
    }
}
