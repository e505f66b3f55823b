//! `verify --views`: the view chain from the genesis document to the newest view that members show.
//!
//! Source: `docs/cli.md`. In: a genesis document, members' addresses. Out: the newest view, or
//! exit 4.
//! Holds: no member is believed in anything; each that is asked shows a chain that holds, or is
//! named.
//! Elsewhere: the walk (`client`), what a step must show (`blocks::view_chain`).

use std::process::ExitCode;
use std::time::Instant;

use super::args::{Common, VerifyArgs};
use super::failure::Failure;
use super::output::Output;
use super::target::Targets;
use super::verify::{Found, Report, SeatReport, ViewReport, follow};
use crate::blocks::{Genesis, ViewChain};
use crate::client::{AskError, Doors, walk_views};
use crate::committee::MemberId;

/// Walks the chain that the members named by `common` show, and prints where it leads.
pub(crate) async fn verify(
    common: &Common,
    args: &VerifyArgs,
    genesis: &Genesis,
) -> Result<ExitCode, Failure> {
    let mut report = walked(&Targets::find(common)?, genesis).await?;
    follow(common, args, genesis, &mut report)?;
    Output::new(common).document(&report, Report::table)?;
    report.verdict("ask another member, and check that --genesis is of this ledger")
}

/// What the members show, one after the other: each goes on where those before it ended.
pub(super) async fn walked(targets: &Targets, genesis: &Genesis) -> Result<Report, Failure> {
    let start = Instant::now();
    let chain = ViewChain::of(genesis);
    let mut chain = chain.expect("a document that was read makes a view");
    let mut report = Report {
        finality: "certificate".into(),
        ..Report::default()
    };
    let (mut silent, mut shown_count) = (AskError::Silent, 0);
    let doors = Doors(targets.doors());
    for (member, target) in targets.members.iter().enumerate() {
        match walk_views(&mut chain, &doors, member).await {
            Ok(()) => shown_count += 1,
            Err(AskError::Malformed(what)) => report.faults.push(Found {
                file: target.api.base().to_owned(),
                height: None,
                what,
            }),
            Err(error @ (AskError::Broken(_) | AskError::Silent | AskError::Problem(_))) => {
                silent = error;
            }
        }
    }
    if shown_count == 0 && report.faults.is_empty() {
        return Err(targets.in_vain(&silent));
    }
    report.ok = report.faults.is_empty();
    report.seconds = start.elapsed().as_secs_f64();
    report.fill_views(&chain);
    Ok(report)
}

impl Report {
    /// Takes over what a walk showed.
    fn fill_views(&mut self, chain: &ViewChain) {
        let newest = chain.newest();
        let (view, opening) = (&newest.view, newest.view.opening());
        (self.height, self.digest) = (opening.height, opening.digest);
        self.views = view.id().0 + 1;
        self.blocks = view.id().0;
        self.signatures = chain.signatures();
        let seats = newest.members.iter().zip(view.seats());
        let seats = seats.map(|((identity, name), seat)| SeatReport {
            id: MemberId::of(identity),
            name: name.clone(),
            key: seat.key,
        });
        self.view = Some(ViewReport {
            id: view.id(),
            committee: seats.collect(),
        });
    }
}
