//! `faults`: misbehaviour that members keep evidence of, and `verify --evidence`, which checks it.
//!
//! Source: `docs/cli.md`. In: members' addresses, or a file and a genesis document. Out: who did
//! what, and the bytes that prove it.
//! Holds: evidence is checked with nothing but the genesis document and the view chain beside it;
//! who kept it is not believed.
//! Elsewhere: what proves a fault (`blocks::evidence`).

use std::collections::BTreeMap;
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
use crate::blocks::evidence::{Evidence, EvidenceError, FaultKind, Law};
use crate::blocks::{Genesis, STEPS_MAX, Step, ViewChain};
use crate::client::AskError;
use crate::committee::{Height, MemberId, Regency, ViewId};
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
    /// How the views came about that the evidence is of; not needed for view 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    views: Vec<Step>,
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
    let (answer, views) = answer.map_or_else(
        |error| (Err(error), Vec::new()),
        |(kept, views)| (Ok(kept), views),
    );
    Row {
        id: known.map(|member| member.id),
        name: known.map_or_else(String::new, |member| member.name.clone()),
        api: target.api.base().to_owned(),
        reachable: answer.is_ok(),
        error: answer.as_ref().err().map(ToString::to_string),
        kept: answer.ok(),
        views,
    }
}

/// Every page, and the steps to the views that the evidence is of.
async fn whole(target: &Target) -> Result<(Faults, Vec<Step>), AskError> {
    let all = every_page(target).await?;
    let views = all.faults.iter().filter_map(|fault| {
        let bytes = hex::decode(&fault.evidence).ok()?;
        Some(Evidence::from_bytes(&bytes).ok()?.view())
    });
    // Evidence is not checked here: it may name any view.
    let last = ViewId(views.max().map_or(0, |view| view.0.min(STEPS_MAX as u64)));
    let mut steps: Vec<Step> = Vec::new();
    while (steps.len() as u64) < last.0 {
        let page = target
            .api
            .views(ViewId(steps.len() as u64 + 1), LIMIT)
            .await?;
        if page.views.is_empty() {
            break; // Whoever checks the evidence is told what is missing.
        }
        steps.extend(page.views.into_iter().map(|entry| entry.step));
    }
    steps.truncate(usize::try_from(last.0).unwrap_or(usize::MAX));
    Ok((all, steps))
}

async fn every_page(target: &Target) -> Result<Faults, AskError> {
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
    view: ViewId,
    height: Height,
    regency: Regency,
}

/// Checks a file of evidence: hex digits, or what `faults -o json` prints.
pub(crate) fn verify(common: &Common, path: &Path, genesis: &Genesis) -> Result<ExitCode, Failure> {
    let (pieces, lists) = read(path)?;
    let (chain, broken) = proved(genesis, lists);
    let mut verdict = Verdict::default();
    for piece in pieces {
        let checked = check(&piece, genesis, &chain).map_err(|what| match &broken {
            Some(broken) => format!("{what} ({broken})"),
            None => what,
        });
        match checked {
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

/// What a file of evidence holds: pieces as hex, and lists of steps of the view chain.
fn read(path: &Path) -> Result<(Vec<String>, Vec<Value>), Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| Failure::file(path, &error))?;
    let text = String::from_utf8_lossy(&bytes);
    let (mut pieces, mut lists) = (Vec::new(), Vec::new());
    match serde_json::from_str::<Value>(&text) {
        Ok(document @ (Value::Object(_) | Value::Array(_))) => {
            collect(&document, "evidence", &mut |found| {
                pieces.extend(found.as_str().map(str::to_owned));
            });
            collect(&document, "views", &mut |found| lists.push(found.clone()));
        }
        Ok(_) | Err(_) => pieces.push(text.trim().to_owned()),
    }
    Ok((pieces, lists))
}

/// The first piece against each seat that a file accuses, as bytes; what it proves is judged by
/// the ledger.
pub(crate) fn accusations(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let next = "ask a member for it: consortium faults -o json > FILE";
    let wrong = |what: String| Failure::refused(format!("{}: {what}", path.display()), next);
    let (pieces, _) = read(path)?;
    let mut found = BTreeMap::new();
    for piece in pieces {
        let bytes = hex::decode(&piece).map_err(|error| wrong(format!("not hex: {error}")))?;
        let evidence = Evidence::from_bytes(&bytes).map_err(|error| wrong(error.to_string()))?;
        let accused = (evidence.view(), evidence.accused());
        found.entry(accused).or_insert(bytes);
    }
    match found.is_empty() {
        true => Err(wrong("no evidence in it".to_owned())),
        false => Ok(found.into_values().collect()),
    }
}

/// Gives everything called `wanted` to `take`, at any depth that JSON allows.
fn collect(document: &Value, wanted: &str, take: &mut impl FnMut(&Value)) {
    match document {
        Value::Array(items) => items.iter().for_each(|item| collect(item, wanted, take)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match name == wanted {
                    true => take(field),
                    false => collect(field, wanted, take),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The views that a file proves: each list of steps goes on where those before it led to. With it
/// why a list proves nothing.
fn proved(genesis: &Genesis, lists: Vec<Value>) -> (ViewChain, Option<String>) {
    let chain = ViewChain::of(genesis);
    let mut chain = chain.expect("a document that was read makes a view");
    let mut broken = None;
    for list in lists {
        let known = usize::try_from(chain.newest().view.id().0).unwrap_or(usize::MAX);
        let walked = serde_json::from_value::<Vec<Step>>(list)
            .map_err(|error| error.to_string())
            .and_then(|steps| {
                let later = steps.get(known..).unwrap_or_default();
                let walked = chain.walk(later, &Verifier::ed25519());
                walked.map_err(|error| error.to_string())
            });
        broken = broken.or(walked.err());
    }
    (chain, broken)
}

fn check(piece: &str, genesis: &Genesis, chain: &ViewChain) -> Result<Proved, String> {
    let bytes = hex::decode(piece).map_err(|error| format!("not hex: {error}"))?;
    let evidence = Evidence::from_bytes(&bytes).map_err(|error| error.to_string())?;
    let (view, newest) = (evidence.view(), chain.newest().view.id());
    let seated = chain.get(view).ok_or_else(|| {
        format!("it is of view {view}, and the steps in the file lead to view {newest}")
    })?;
    let law = Law {
        view: &seated.view,
        bounds: &genesis.parameters.bounds(),
        ahead_max: genesis.parameters.ahead_max,
        verifier: &Verifier::ed25519(),
    };
    let (seat, kind) = evidence.check(&law).map_err(|error| error.to_string())?;
    let accused = seated.at(seat);
    let (identity, name) = accused.ok_or_else(|| EvidenceError::OtherView.to_string())?;
    let (height, regency) = evidence.place();
    Ok(Proved {
        who: MemberId::of(&identity),
        name: name.to_owned(),
        kind,
        view,
        height,
        regency,
    })
}

impl Verdict {
    fn table(&self) -> String {
        let heads = ["proved", "who", "kind", "view", "height", "regency", "id"];
        let proved = self.evidence.iter().map(|one| {
            vec![
                "yes".to_owned(),
                one.name.clone(),
                one.kind.name().to_owned(),
                one.view.to_string(),
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
