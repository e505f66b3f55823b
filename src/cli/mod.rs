//! The command line: verbs for people and programs.
//!
//! Source: `docs/cli.md`. In: words. Out: data on standard output, talk on standard error, an exit
//! code.
//! Holds: an error says what happened, why, and what to type next; a closed standard output is no
//! error. Elsewhere: what a ledger does (`node`), how it is asked (`client`).

mod advice;
mod archive;
mod args;
mod bench;
mod checkpoint;
mod dev;
mod failure;
mod faults;
mod keys;
mod lab;
mod member;
mod output;
mod ports;
mod processes;
mod reads;
mod restore;
mod seam;
mod simulate;
mod start;
mod status;
mod submit;
mod target;
mod tools;
mod verify;
mod views;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

use args::{Cli, LedgerVerb, MemberVerb, ToolVerb, Verb};
use failure::Failure;

/// Runs the program on `words`, its own name first.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match args::parse(words) {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    match run(cli) {
        Ok(code) => code,
        Err(failure) if failure.what.is_empty() => ExitCode::SUCCESS,
        Err(failure) => {
            output::say(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Prints help, a version or a usage error; nobody reading it is no error.
fn explain(error: &clap::Error) -> ExitCode {
    let _nobody_reads = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let common = cli.common;
    match cli.verb {
        Verb::Ledger(verb) => on_runtime(async {
            match verb {
                LedgerVerb::Status => status::run(&common).await,
                LedgerVerb::Faults => faults::run(&common).await,
                LedgerVerb::Submit(args) => submit::run(&common, &args).await,
                LedgerVerb::Get(args) => reads::get(&common, &args).await,
                LedgerVerb::Block(args) => reads::block(&common, &args).await,
                LedgerVerb::Tail(args) => reads::tail(&common, &args).await,
            }
        }),
        Verb::Member(verb) => match verb {
            MemberVerb::Dev(args) => on_runtime(dev::run(&common, &args)),
            MemberVerb::Key(args) => keys::key(&common, &args),
            MemberVerb::Init(args) => keys::init(&common, &args),
            MemberVerb::Start(args) => start::run(&common, &args),
            MemberVerb::Config(args) => keys::config(&common, &args),
            MemberVerb::Archive(args) => archive::run(&common, &args),
            MemberVerb::Restore(args) => restore::run(&common, &args),
            MemberVerb::Rejoin(args) => on_runtime(member::rejoin(&common, &args)),
            MemberVerb::Member(verb) => on_runtime(member::run(&common, &verb)),
            MemberVerb::Checkpoint(verb) => checkpoint::run(&common, &verb),
        },
        Verb::Lab(verb) => lab::run(&common, &verb),
        Verb::Tool(verb) => match verb {
            ToolVerb::Verify(args) => verify::run(&common, &args),
            ToolVerb::Bench(args) => on_runtime(bench::run(&common, &args)),
            ToolVerb::Simulate(args) => simulate::run(&common, &args),
            ToolVerb::Engines => tools::engines(&common),
            ToolVerb::Overlays => tools::overlays(&common),
            ToolVerb::Applications => tools::applications(&common),
            ToolVerb::Completions(args) => tools::completions(&common, &args),
            ToolVerb::Man(args) => tools::man(&common, &args),
        },
    }
}

/// Runs `act` with timers and sockets.
fn on_runtime<T>(act: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    runtime()?.block_on(act)
}

fn runtime() -> Result<Runtime, Failure> {
    let built = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    built.map_err(|error| Failure::refused(format!("no runtime: {error}"), "check ulimit -u"))
}
