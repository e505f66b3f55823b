//! The small verbs: engines, overlays, completions, man.
//!
//! Source: `docs/cli.md`. In: the grammar, the registries. Out: text.
//! Holds: what is listed is what this binary can run.
//! Elsewhere: the grammar (`args`), what an engine does (`consensus`).

use std::process::ExitCode;

use serde::Serialize;

use super::args::{Common, CompletionsArgs, ManArgs, command};
use super::failure::Failure;
use super::output::{Output, table};

/// Something that a genesis document or a member's file can name.
#[derive(Clone, Debug, Serialize)]
struct Plug {
    name: &'static str,
    place: &'static str,
    finality: &'static str,
    about: &'static str,
}

#[derive(Serialize)]
struct Engines {
    engines: Vec<Plug>,
}

#[derive(Serialize)]
struct Overlays {
    overlays: Vec<Plug>,
}

pub(crate) fn engines(common: &Common) -> Result<ExitCode, Failure> {
    let engines = vec![
        Plug {
            name: "certified",
            place: "group",
            finality: "certificate",
            about: "the committee's certificate is final",
        },
        Plug {
            name: "mod-smart",
            place: "committee",
            finality: "certificate",
            about: "leader-driven, three steps, n >= 3f + 1",
        },
    ];
    let report = Engines { engines };
    Output::new(common).document(&report, |report| rows(&report.engines))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn overlays(common: &Common) -> Result<ExitCode, Failure> {
    let overlays = vec![Plug {
        name: "full-gossip",
        place: "overlay",
        finality: "-",
        about: "every member holds a connection to every other",
    }];
    let report = Overlays { overlays };
    Output::new(common).document(&report, |report| rows(&report.overlays))?;
    Ok(ExitCode::SUCCESS)
}

fn rows(plugs: &[Plug]) -> String {
    let rows: Vec<Vec<String>> = plugs
        .iter()
        .map(|plug| {
            [plug.name, plug.place, plug.finality, plug.about]
                .map(String::from)
                .to_vec()
        })
        .collect();
    table(&["name", "place", "finality", "about"], &rows)
}

pub(crate) fn completions(common: &Common, args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "consortium", &mut text);
    Output::new(common).bytes(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(common: &Common, args: &ManArgs) -> Result<ExitCode, Failure> {
    let mut whole = command();
    whole.build();
    let page = match &args.verb {
        None => whole,
        Some(verb) => {
            let found = whole.find_subcommand(verb).cloned();
            let found = found.ok_or_else(|| {
                Failure::usage(format!("there is no verb '{verb}'"), "consortium --help")
            })?;
            found.name(format!("consortium-{verb}"))
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    Output::new(common).bytes(&text)?;
    Ok(ExitCode::SUCCESS)
}
