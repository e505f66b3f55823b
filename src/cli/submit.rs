//! `submit`: operations as words or lines, each with its promise.
//!
//! Source: `docs/cli.md`. In: words or standard input. Out: what became of each.
//! Holds: lines are submitted in their order; an operation that executed without doing what it says
//! is exit 1, with the answer printed. Elsewhere: signing, grouping, sending (`client`).

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::time::{Instant, sleep};

use super::args::{Common, SubmitArgs, WaitFor};
use super::failure::Failure;
use super::output::{Output, pairs, say};
use super::target::Targets;
use crate::api::{Outcome, Submitted, Wait};
use crate::application::Registry;
use crate::application::kv::{Code, Operation};
use crate::blocks::proof::Proof;
use crate::client::{AskError, Client, ClientError, Home, Options, Shown, check_proof};
use crate::membership::register::Refusal;

/// Lines that are submitted and not answered yet, at most.
const LINES_UNDER_WAY: usize = 4_096;

impl From<WaitFor> for Wait {
    fn from(wait: WaitFor) -> Self {
        match wait {
            WaitFor::Ordered => Wait::Ordered,
            WaitFor::Executed => Wait::Executed,
            WaitFor::Durable => Wait::Durable,
        }
    }
}

pub(crate) async fn run(common: &Common, args: &SubmitArgs) -> Result<ExitCode, Failure> {
    let is_lines = args.words == ["-"];
    if is_lines && (args.id.is_some() || args.proof.is_some()) {
        let what = "--id and --proof are of one operation, '-' reads many";
        return Err(Failure::usage(what, "submit that operation alone"));
    }
    let operation = match is_lines {
        true => None,
        false => Some(operation_of(&args.words, args.absent)?),
    };
    let targets = Targets::find(common)?;
    let options = Options {
        limit: targets.limit,
        expiry_blocks: args.expiry,
        ..Options::default()
    };
    let client = targets.client(&args.key, options).await?;
    let Some(operation) = operation else {
        return lines(common, &client, args.wait.into()).await;
    };
    let wait = match args.proof {
        Some(_) => Wait::Durable,
        None => args.wait.into(),
    };
    let submitted = match &args.id {
        Some(id) => {
            let home = Home::from_environment()?;
            client.submit_named(&home, id, operation, wait).await?
        }
        None => client.submit(operation, wait).await?,
    };
    // A certificate alone says nothing of a result: the proof binds one to the other, so whoever
    // can check it does, kept or not.
    let checks = targets.genesis.is_some() && matches!(wait, Wait::Durable);
    if args.proof.is_some() || checks {
        let proof = fetch_proof(&targets, &submitted).await?;
        if let Some(path) = &args.proof {
            let written = std::fs::write(path, proof.to_json());
            written.map_err(|error| Failure::file(path, &error))?;
        }
    }
    Output::new(common).document(&submitted, table)?;
    Ok(judge(&submitted))
}

/// The exit code of what an operation gave.
fn judge(submitted: &Submitted) -> ExitCode {
    match &submitted.result {
        Some(outcome) if outcome.code != 0 => {
            say(format!(
                "error: it stands in the chain and changed nothing: {}",
                name_of(outcome)
            ));
            ExitCode::from(1)
        }
        Some(_) | None => ExitCode::SUCCESS,
    }
}

fn name_of(outcome: &Outcome) -> String {
    if let Some(refusal) = Refusal::of(outcome.code) {
        return refusal.to_string();
    }
    let known = Code::try_from(outcome.code).map(|code| code.name());
    known.map_or_else(|code| format!("code {code}"), str::to_owned)
}

/// The operation that `words` say.
pub(crate) fn operation_of(words: &[String], is_absent: bool) -> Result<Bytes, Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let raw;
    let operation = match words.as_slice() {
        ["put", key, value] => Operation::Put {
            key: key.as_bytes(),
            value: value.as_bytes(),
        },
        ["del", key] => Operation::Delete {
            key: key.as_bytes(),
        },
        ["cas", key, old, new] if !is_absent => Operation::CompareAndSet {
            key: key.as_bytes(),
            old: Some(old.as_bytes()),
            new: new.as_bytes(),
        },
        ["cas", key, new] if is_absent => Operation::CompareAndSet {
            key: key.as_bytes(),
            old: None,
            new: new.as_bytes(),
        },
        ["raw", digits] => {
            raw = hex::decode(digits).map_err(|error| {
                Failure::usage(format!("raw: {error}"), "give pairs of hex digits")
            })?;
            Operation::Raw { bytes: &raw }
        }
        _ => {
            return Err(Failure::usage(
                format!("'{}' is no operation", words.join(" ")),
                "put KEY VALUE | del KEY | cas KEY OLD NEW | cas --absent KEY NEW | raw HEX | -",
            ));
        }
    };
    let bytes = operation.to_bytes();
    let next = "a key has 1 to 1024 bytes, a value at most 128 KiB";
    bytes
        .map(Bytes::from)
        .map_err(|error| Failure::usage(error, next))
}

/// The operation of one line: words, the last of which may hold spaces, or a JSON object.
pub(crate) fn operation_of_line(line: &str) -> Result<Bytes, Failure> {
    let line = line.trim_end_matches('\r');
    if line.starts_with('{') {
        let form = "{\"put\": {\"key\": …, \"value\": …}}";
        let usage = |error: String| Failure::usage(error, form);
        let value = serde_json::from_str(line).map_err(|error| usage(error.to_string()))?;
        let registry = Registry::standard().map_err(|error| usage(error.to_string()))?;
        let plugin = registry
            .get("kv")
            .map_err(|error| usage(error.to_string()))?;
        let bytes = (plugin.make)().operation_from_json(&value);
        return bytes
            .map(Bytes::from)
            .map_err(|error| usage(error.to_string()));
    }
    let most = match line.split(' ').next() {
        Some("cas") => 4,
        Some("put") => 3,
        Some(_) | None => 2,
    };
    let words: Vec<String> = line.splitn(most, ' ').map(str::to_owned).collect();
    operation_of(&words, false)
}

/// Submits every line of standard input; one answer a line, in the lines' order.
async fn lines(common: &Common, client: &Client, wait: Wait) -> Result<ExitCode, Failure> {
    let output = Output::new(common);
    let mut input: Lines<BufReader<Stdin>> = BufReader::new(tokio::io::stdin()).lines();
    let mut under_way = FuturesOrdered::new();
    let (mut number, mut is_open) = (0_u64, true);
    let mut code = ExitCode::SUCCESS;
    loop {
        tokio::select! {
            biased;
            Some(told) = under_way.next(), if !under_way.is_empty() => {
                let (number, told): (u64, Result<Submitted, ClientError>) = told;
                match told {
                    Ok(submitted) => {
                        output.line(&submitted, row)?;
                        if submitted.result.as_ref().is_some_and(|outcome| outcome.code != 0) {
                            code = judge(&submitted);
                        }
                    }
                    Err(error) => return Err(at_line(number, error.into())),
                }
            }
            line = input.next_line(), if is_open && under_way.len() < LINES_UNDER_WAY => {
                match line? {
                    Some(line) if line.trim().is_empty() => number += 1,
                    Some(line) => {
                        number += 1;
                        let operation = operation_of_line(&line);
                        let operation = operation.map_err(|error| at_line(number, error))?;
                        let client = client.clone();
                        under_way.push_back(async move {
                            (number, client.submit(operation, wait).await)
                        });
                    }
                    None => is_open = false,
                }
            }
            else => return Ok(code),
        }
    }
}

fn at_line(number: u64, failure: Failure) -> Failure {
    Failure {
        what: format!("line {number}: {}", failure.what),
        ..failure
    }
}

/// The offline proof of what was submitted, checked where there is a genesis document.
async fn fetch_proof(targets: &Targets, submitted: &Submitted) -> Result<Proof, Failure> {
    let deadline = Instant::now() + targets.limit;
    let named = (&submitted.client, submitted.sequence);
    loop {
        let found = targets
            .first(
                async |api, limit| match api.transaction(named, true, limit).await {
                    Ok(transaction) => match transaction.proof {
                        Some(proof) => Ok(proof),
                        None => Err(AskError::Malformed("the answer holds no proof".into())),
                    },
                    Err(error) => Err(error),
                },
            )
            .await;
        match found {
            Ok(proof) => {
                check_named(&proof, targets, submitted)?;
                return Ok(proof);
            }
            Err(failure) if Instant::now() > deadline => return Err(failure),
            // The member that is asked may be a block behind the one that answered.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

fn check_named(proof: &Proof, targets: &Targets, submitted: &Submitted) -> Result<(), Failure> {
    let Some(genesis) = &targets.genesis else {
        say("note: without --genesis the proof was not checked");
        return Ok(());
    };
    match check_proof(proof, genesis)? {
        Shown::Transaction(proved)
            if proved.client == submitted.client
                && proved.transaction.sequence == submitted.sequence
                && proved.height == submitted.height
                && says_the_same(submitted, &proved.outcome) =>
        {
            Ok(())
        }
        Shown::Transaction(_) | Shown::State { .. } => Err(Failure::violation(
            "the proof that the member gave is of something else, or of another result",
            "ask another member with --api",
        )),
    }
}

/// Whether what a member told is what its proof binds; a long result may be told without its bytes.
fn says_the_same(submitted: &Submitted, proved: &crate::blocks::Outcome) -> bool {
    let told = submitted.result.as_ref();
    told.is_none_or(|told| *told == Outcome::new(proved.code, &proved.bytes))
}

fn row(submitted: &Submitted) -> String {
    let result = submitted.result.as_ref();
    format!(
        "{}  height {}  {}  {}",
        submitted.sequence,
        submitted.height,
        persistence(submitted.persistence),
        result.map_or_else(String::new, shown),
    )
}

fn table(submitted: &Submitted) -> String {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    pairs(&[
        ("client", submitted.client.to_string()),
        ("sequence", submitted.sequence.to_string()),
        ("height", submitted.height.to_string()),
        (
            "index",
            text(submitted.index.map(|index| index.to_string())),
        ),
        (
            "block",
            text(submitted.block.map(|block| block.to_string())),
        ),
        ("result", text(submitted.result.as_ref().map(shown))),
        ("persistence", persistence(submitted.persistence).to_owned()),
    ])
}

pub(crate) fn shown(outcome: &Outcome) -> String {
    format!("{} {}", name_of(outcome), outcome.value)
        .trim_end()
        .to_owned()
}

fn persistence(wait: Wait) -> &'static str {
    match wait {
        Wait::Ordered => "ordered",
        Wait::Executed => "executed",
        Wait::Durable => "durable",
    }
}
