//! The small verbs: engines, overlays, applications, completions, man.
//!
//! Source: `docs/cli.md`. In: the grammar, the registries. Out: text.
//! Holds: what is listed is what this binary can run.
//! Elsewhere: the grammar (`args`), what an engine does (`consensus`).

use std::process::ExitCode;

use serde::Serialize;

use super::args::{Common, CompletionsArgs, ManArgs, ViewsOfGenesis, command};
use super::failure::Failure;
use super::output::{Output, table};
use crate::application::Registry;
use crate::blocks::ViewRules;
use crate::consensus::{self, EngineRoles, Finality};
use crate::membership;

/// Something that a genesis document or a member's file can name.
#[derive(Clone, Debug, Serialize)]
struct Plug {
    name: &'static str,
    /// What it may be chosen for.
    roles: Vec<&'static str>,
    /// What its answers are worth, where it decides anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    finality: Option<String>,
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

#[derive(Serialize)]
struct Applications {
    applications: Vec<Plug>,
}

/// Participants among whom a probable finality is told: the smallest group that bears a fault.
const PARTICIPANTS: usize = 4;

pub(crate) fn engines(common: &Common) -> Result<ExitCode, Failure> {
    let registry = consensus::engines().map_err(twice)?;
    let engines = registry.iter().map(|plugin| Plug {
        name: plugin.name,
        roles: Seat::ALL
            .into_iter()
            .filter(|seat| seat.is_for(plugin.roles))
            .map(Seat::name)
            .collect(),
        finality: Some(match (plugin.finality)(PARTICIPANTS) {
            Finality::Certificate => "certificate".into(),
            Finality::Probabilistic { error_bits } => format!("wrong once in 2^{error_bits}"),
        }),
        about: plugin.about,
    });
    let report = Engines {
        engines: engines.collect(),
    };
    Output::new(common).document(&report, |report| rows(&report.engines))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn overlays(common: &Common) -> Result<ExitCode, Failure> {
    let registry = membership::overlays().map_err(twice)?;
    let overlays = registry.iter().map(|plugin| Plug {
        name: plugin.name,
        roles: vec!["overlay"],
        finality: None,
        about: plugin.about,
    });
    let report = Overlays {
        overlays: overlays.collect(),
    };
    Output::new(common).document(&report, |report| rows(&report.overlays))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn applications(common: &Common) -> Result<ExitCode, Failure> {
    let registry = Registry::standard().map_err(twice)?;
    let applications = registry.iter().map(|plugin| Plug {
        name: plugin.name,
        roles: vec!["application"],
        finality: None,
        about: plugin.about,
    });
    let report = Applications {
        applications: applications.collect(),
    };
    Output::new(common).document(&report, |report| rows(&report.applications))?;
    Ok(ExitCode::SUCCESS)
}

/// What an engine is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// It orders inside the committee.
    Committee,
    /// It gates blocks for all.
    Group,
}

impl Seat {
    const ALL: [Self; 2] = [Self::Committee, Self::Group];

    const fn name(self) -> &'static str {
        match self {
            Self::Committee => "committee",
            Self::Group => "group",
        }
    }

    fn is_for(self, roles: EngineRoles) -> bool {
        match self {
            Self::Committee => roles.orders_committee,
            Self::Group => roles.gates_group,
        }
    }
}

/// The name of an engine of this binary that fits `seat`; a wrong one is answered with the list.
pub(crate) fn known_engine(name: &str, seat: Seat) -> Result<String, Failure> {
    let registry = consensus::engines().map_err(twice)?;
    let fits: Vec<&str> = registry
        .iter()
        .filter(|plugin| seat.is_for(plugin.roles))
        .map(|plugin| plugin.name)
        .collect();
    if fits.contains(&name) {
        return Ok(name.to_owned());
    }
    let (place, known) = (seat.name(), fits.join(", "));
    let what = format!("no {place} engine is named '{name}'; there are: {known}");
    Err(Failure::usage(what, "consortium engines"))
}

/// The name of an overlay of this binary.
pub(crate) fn known_overlay(name: &str) -> Result<String, Failure> {
    let registry = membership::overlays().map_err(twice)?;
    let found = registry.get(name);
    let found = found.map_err(|error| Failure::usage(error, "consortium overlays"))?;
    Ok(found.name.to_owned())
}

/// The name of an application of this binary.
pub(crate) fn known_application(name: &str) -> Result<String, Failure> {
    let registry = Registry::standard().map_err(twice)?;
    let found = registry.get(name);
    let found = found.map_err(|error| Failure::usage(error, "consortium applications"))?;
    Ok(found.name.to_owned())
}

/// Two plug-ins share a name.
fn twice(error: impl ToString) -> Failure {
    Failure::refused(error.to_string(), "build without one of those crates")
}

fn rows(plugs: &[Plug]) -> String {
    let rows: Vec<Vec<String>> = plugs
        .iter()
        .map(|plug| {
            let finality = plug.finality.clone();
            vec![
                plug.name.to_owned(),
                plug.roles.join(" "),
                finality.unwrap_or_else(|| "-".into()),
                plug.about.to_owned(),
            ]
        })
        .collect();
    table(&["name", "roles", "finality", "about"], &rows)
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

/// The rules of views that a genesis document starts with.
pub(crate) fn view_rules(args: &ViewsOfGenesis) -> Result<ViewRules, Failure> {
    let rules = ViewRules {
        rotation_blocks: args.rotation_blocks,
        everyone_below: args.everyone_below,
        ..ViewRules::default()
    };
    match rules.check() {
        Ok(()) => Ok(rules),
        Err(error) => Err(Failure::usage(error, "--rotation-blocks 1000")),
    }
}
