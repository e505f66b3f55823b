//! The list of members and the audit trail, for people.
//!
//! Source: `docs/cli.md`. In: what a member says of the register. Out: tables.
//! Holds: ids stand whole where another verb takes them. Elsewhere: the shapes (`api`).

use serde::Serialize;

use super::super::output::{short, table};
use crate::api::{HistoryEntry, Membership};
use crate::committee::{Height, MemberId};

/// What `member log` prints.
#[derive(Serialize)]
pub(super) struct Log {
    /// The height after which it holds.
    pub(super) height: Height,
    /// Oldest first.
    pub(super) history: Vec<HistoryEntry>,
}

impl Log {
    pub(super) fn table(&self) -> String {
        match self.history.is_empty() {
            true => "nothing changed since the ledger was founded".to_owned(),
            false => history(&self.history),
        }
    }
}

/// Everybody, what waits for votes, and the trail where it was asked for.
pub(super) fn shown(found: &Membership) -> String {
    let heads = [
        "id",
        "name",
        "status",
        "weight",
        "seated",
        "addresses",
        "tags",
    ];
    let rows = found.members.iter().map(|member| {
        vec![
            member.id.to_string(),
            member.name.clone(),
            member.status.clone(),
            member.weight.to_string(),
            if member.seated { "yes" } else { "no" }.to_owned(),
            member.addresses.join(" "),
            member.tags.join(" "),
        ]
    });
    let mut text = table(&heads, &rows.collect::<Vec<_>>());
    if !found.ballots.is_empty() {
        let heads = [
            "ballot",
            "what",
            "member",
            "name",
            "approvals",
            "rejections",
        ];
        let rows = found.ballots.iter().map(|ballot| {
            let member = ballot.member.map(|id| id.to_string());
            vec![
                ballot.id.to_string(),
                ballot.what.clone(),
                member.unwrap_or_default(),
                ballot.name.clone().unwrap_or_default(),
                format!("{} of {}", ballot.approvals.len(), found.votes_needed),
                ballot.rejections.len().to_string(),
            ]
        });
        text = format!("{text}\n\n{}", table(&heads, &rows.collect::<Vec<_>>()));
    }
    if !found.history.is_empty() {
        text = format!("{text}\n\n{}", history(&found.history));
    }
    text
}

fn history(entries: &[HistoryEntry]) -> String {
    let heads = ["height", "by", "member", "what"];
    let id = |id: Option<MemberId>| id.map_or_else(|| "-".into(), short);
    let rows = entries.iter().map(|entry| {
        vec![
            entry.height.to_string(),
            id(entry.by),
            id(entry.member),
            entry.what.clone(),
        ]
    });
    table(&heads, &rows.collect::<Vec<_>>())
}
