//! `get`, `block` and `tail`: what the ledger holds.
//!
//! Source: `docs/cli.md`. In: a key, a height, a sequence. Out: values, blocks, transactions.
//! Holds: `--certified` prints only what the genesis document leads to; `tail` has no gap and goes
//! on at another member when one ends. Elsewhere: proofs (`client`), streams (`client`).

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::args::{BlockArgs, Common, GetArgs, TailArgs};
use super::failure::Failure;
use super::output::{Output, pairs, short, table};
use super::submit::shown;
use super::target::{QUICK, Targets};
use crate::api::{Block, Encoding, Event, Value};
use crate::blocks::Genesis;
use crate::blocks::proof::Proof;
use crate::client::{Api, AskError, Shown, check_proof};

/// Between two rounds over members none of which streams.
const RETRY: Duration = Duration::from_millis(250);
/// Transactions that `tail` shows without `--from` and `--follow`.
const LAST: u64 = 10;

pub(crate) async fn get(common: &Common, args: &GetArgs) -> Result<ExitCode, Failure> {
    let targets = Targets::find(common)?;
    let key = args.key.as_bytes();
    let value = match args.certified || args.proof.is_some() {
        false => {
            targets
                .first(async |api, limit| api.value(key, false, limit).await)
                .await?
        }
        true => certified(&targets, args).await?,
    };
    let output = Output::new(common);
    if output.is_json() {
        output.document(&value, |_| String::new())?;
    } else if let Some(text) = &value.value {
        match value.encoding {
            Encoding::Utf8 => output.lines(text)?,
            Encoding::Hex => output.bytes(&value.encoding.read(text).unwrap_or_default())?,
        }
    }
    if value.value.is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    let how = if value.certified {
        "proved absent"
    } else {
        "absent"
    };
    let what = format!("'{}' is {how} at height {}", args.key, value.height);
    Err(Failure::refused(
        what,
        "put it: consortium submit put KEY VALUE",
    ))
}

async fn certified(targets: &Targets, args: &GetArgs) -> Result<Value, Failure> {
    let Some(genesis) = &targets.genesis else {
        return Err(Failure::usage(
            "a certified read is checked against the genesis document, and none is named",
            "add --genesis FILE",
        ));
    };
    let key = args.key.as_bytes();
    let (value, proof) = targets
        .first(async |api, limit| {
            let value = api.value(key, true, limit).await?;
            read_certified(value, key, genesis)
        })
        .await?;
    if let Some(path) = &args.proof {
        let written = std::fs::write(path, proof.to_json());
        written.map_err(|error| Failure::file(path, &error))?;
    }
    Ok(value)
}

/// What the proof in a member's answer shows; the rest of the answer is not believed.
fn read_certified(
    answer: Value,
    key: &[u8],
    genesis: &Genesis,
) -> Result<(Value, Proof), AskError> {
    let bad = |reason: &str| AskError::Malformed(reason.to_owned());
    let proof = answer.proof.ok_or_else(|| bad("it holds no proof"))?;
    match check_proof(&proof, genesis).map_err(|error| bad(&error.to_string()))? {
        Shown::State {
            key: proved,
            value,
            height,
            root,
            ..
        } if proved == key => {
            let written = value.map(|bytes| Encoding::write(&bytes));
            let (value, encoding) = written.unzip();
            let value = Value {
                key: String::from_utf8_lossy(key).into_owned(),
                value,
                encoding: encoding.unwrap_or_default(),
                height,
                state_root: Some(root),
                certified: true,
                proof: None,
            };
            Ok((value, proof))
        }
        Shown::State { .. } | Shown::Transaction(_) => Err(bad("its proof is of something else")),
    }
}

pub(crate) async fn block(common: &Common, args: &BlockArgs) -> Result<ExitCode, Failure> {
    let targets = Targets::find(common)?;
    let block = targets
        .first(async |api, limit| whole_block(&api, args.height, limit).await)
        .await?;
    Output::new(common).document(&block, block_table)?;
    Ok(ExitCode::SUCCESS)
}

async fn whole_block(api: &Api, height: u64, limit: Duration) -> Result<Block, AskError> {
    let mut block = api.block(height, 0, limit).await?;
    loop {
        let have = u32::try_from(block.transactions.len()).unwrap_or(u32::MAX);
        if have >= block.transactions_count {
            return Ok(block);
        }
        let page = api.block(height, have, limit).await?;
        if page.transactions.is_empty() {
            return Err(AskError::Malformed("an empty page of a block".into()));
        }
        block.transactions.extend(page.transactions);
    }
}

fn block_table(block: &Block) -> String {
    let header = &block.header;
    let kind = serde_json::to_value(block.kind).unwrap_or_default();
    let signers: Vec<String> = block.signers.iter().map(short).collect();
    let head = pairs(&[
        ("height", header.height.to_string()),
        ("kind", kind.as_str().unwrap_or_default().to_owned()),
        ("digest", block.digest.to_string()),
        ("previous", header.previous.to_string()),
        ("view", header.view.to_string()),
        ("body", header.body.to_string()),
        (
            "receipts",
            format!("{} {}", header.receipts.size, header.receipts.root),
        ),
        (
            "state",
            header
                .state
                .map_or_else(|| "-".into(), |root| root.to_string()),
        ),
        ("timestamp_us", header.timestamp_us.to_string()),
        ("signers", signers.join(" ")),
        ("transactions", block.transactions_count.to_string()),
    ]);
    let rows: Vec<Vec<String>> = block
        .transactions
        .iter()
        .map(|transaction| {
            vec![
                short(transaction.client),
                transaction.sequence.to_string(),
                transaction.operation.to_string(),
                transaction
                    .result
                    .as_ref()
                    .map_or_else(|| "-".into(), shown),
            ]
        })
        .collect();
    if rows.is_empty() {
        return head;
    }
    let heads = ["client", "sequence", "operation", "result"];
    format!("{head}\n\n{}", table(&heads, &rows))
}

pub(crate) async fn tail(common: &Common, args: &TailArgs) -> Result<ExitCode, Failure> {
    let targets = Targets::find(common)?;
    let output = Output::new(common);
    let (end, lowest) = match (args.follow, args.from) {
        (true, Some(_)) => (0, 0),
        (true, None) | (false, _) => {
            let status = targets
                .first(async |api, _| api.status(QUICK).await)
                .await?;
            (status.tip.sequence, status.retained.first_sequence)
        }
    };
    let from = match args.from {
        Some(from) => from,
        None if args.follow => end,
        None => end.saturating_sub(LAST).max(lowest),
    };
    let end = if args.follow { u64::MAX } else { end };
    let print = |event: Event| output.line(&event, event_row);
    follow(&targets, from, end, print).await?;
    Ok(ExitCode::SUCCESS)
}

/// Gives every event from `from` to below `end` to `take`, from whichever member has them.
///
/// Without an end it goes on for ever, and members that cannot be reached are tried again.
pub(crate) async fn follow(
    targets: &Targets,
    from: u64,
    end: u64,
    mut take: impl FnMut(Event) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut next = from;
    let (mut heard_at, mut opened_at) = (Instant::now(), Instant::now());
    while next < end {
        let opened = targets.first(async |api, _| api.events(next).await).await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(failure) if end != u64::MAX || next == from => return Err(failure),
            Err(failure) if opened_at.elapsed() > targets.limit => return Err(failure),
            Err(_) => {
                sleep(RETRY).await;
                continue;
            }
        };
        while next < end
            && let Ok(event) = stream.next().await
        {
            next = event.sequence + 1;
            heard_at = Instant::now();
            take(event)?;
        }
        opened_at = Instant::now();
        if next < end {
            if heard_at.elapsed() > targets.limit && end != u64::MAX {
                let what = format!("the stream of events ends at {next}");
                return Err(Failure::refused(
                    what,
                    "consortium status shows who answers",
                ));
            }
            sleep(RETRY).await;
        }
    }
    Ok(())
}

fn event_row(event: &Event) -> String {
    format!(
        "{}  {}/{}  {}  {}  {}",
        event.sequence,
        event.height,
        event.index,
        short(event.client),
        event.operation,
        shown(&event.result),
    )
}
