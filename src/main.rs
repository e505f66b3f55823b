//! The program: words in, an exit code out.
//!
//! Source: `docs/cli.md`. In: the process's arguments. Out: what `cli` makes of them.
//! Holds: nothing is decided here. Elsewhere: every verb (`cli`).

use std::process::ExitCode;

fn main() -> ExitCode {
    consortium::cli::main(std::env::args_os())
}
