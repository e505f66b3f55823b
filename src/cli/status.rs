//! `status`: every member, asked now, side by side.
//!
//! Source: `docs/cli.md`. In: members' addresses. Out: one row each, unreachable ones too.
//! Holds: no member is waited for longer than [`STATUS_LIMIT`]; one that starts is not reachable
//! before it serves, and says how far it is.
//! Elsewhere: what a member says of itself (`api`).

use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use super::args::Common;
use super::failure::Failure;
use super::output::{Output, short, table};
use super::target::{Target, Targets};
use crate::api::{
    Bootstrap, BootstrapStage, Condition, Role, SeatEntry, Standing, Starting, Status, ViewStatus,
};
use crate::client::AskError;
use crate::committee::{Height, MemberId, Regency, Sizes, ViewId};
use crate::crypto::Digest;

/// How long one member may take.
const STATUS_LIMIT: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct Report {
    members: Vec<Row>,
    quorum: u64,
    faults_tolerated: u64,
    /// The worst that a member knows.
    condition: Option<Condition>,
    /// Why it is no better.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The newest view and its committee, by seat.
    view: Option<ViewId>,
    committee: Vec<SeatEntry>,
}

#[derive(Serialize)]
struct Row {
    id: Option<MemberId>,
    name: String,
    api: String,
    /// Whether it serves.
    reachable: bool,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// How far its start is, where it answers and does not serve yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    bootstrap: Option<Bootstrap>,
    #[serde(flatten)]
    place: Place,
    #[serde(flatten)]
    part: Part,
}

#[derive(Default, Serialize)]
struct Place {
    height: Option<Height>,
    group_height: Option<Height>,
    lag: Option<u64>,
    digest: Option<Digest>,
    state_digest: Option<Digest>,
    last_checkpoint: Option<Height>,
    checkpoint_height: Option<Height>,
    retained_bytes: Option<u64>,
    first_block: Option<Height>,
}

/// What a member says of its view, without the committee, which is the same for all of that view.
#[derive(Serialize)]
struct Views {
    state: String,
    seated: bool,
    has_key: bool,
    rotation_in: Option<u64>,
    due: bool,
    keys: u32,
    keys_named: u32,
    reachable: u32,
    condition: Condition,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<&ViewStatus> for Views {
    fn from(views: &ViewStatus) -> Self {
        Self {
            state: views.state.clone(),
            seated: views.seated,
            has_key: views.has_key,
            rotation_in: views.rotation_in,
            due: views.due,
            keys: views.keys,
            keys_named: views.keys_named,
            reachable: views.reachable,
            condition: views.condition,
            reason: views.reason.clone(),
        }
    }
}

#[derive(Default, Serialize)]
struct Part {
    role: Option<Role>,
    state: Option<String>,
    view: Option<ViewId>,
    regency: Option<Regency>,
    leader: Option<MemberId>,
    faults_seen: Option<u64>,
    /// Where the view and the next one stand there.
    views: Option<Views>,
    /// Why it takes no part, where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    version: Option<String>,
}

pub(crate) async fn run(common: &Common) -> Result<ExitCode, Failure> {
    let targets = Targets::find(common)?;
    let asks = targets.members.iter();
    let asks = asks.map(|member| member.api.standing(STATUS_LIMIT));
    let answers = join_all(asks).await;
    let serving = answers.iter().filter_map(|answer| match answer {
        Ok(Standing::Serving(status)) => Some(&**status),
        Ok(Standing::Starting(_)) | Err(_) => None,
    });
    let heights = serving.clone().map(|status| status.tip.height);
    let top = heights.max().unwrap_or_default();
    let orders: Vec<_> = serving.clone().map(|s| &s.order).collect();
    let sizes = Sizes::of(targets.members.len().max(1));
    let newest = serving.clone();
    let newest = newest.max_by_key(|status| (status.order.view, status.tip.height));
    let worst = serving.max_by_key(|status| (status.order.view, status.views.condition));
    let report = Report {
        condition: worst.map(|status| status.views.condition),
        reason: worst.and_then(|status| status.views.reason.clone()),
        view: newest.map(|status| status.order.view),
        committee: newest.map_or_else(Vec::new, |status| status.views.committee.clone()),
        quorum: orders
            .iter()
            .map(|o| o.quorum)
            .max()
            .unwrap_or(sizes.q as u64),
        faults_tolerated: orders
            .iter()
            .map(|order| order.faults_tolerated)
            .max()
            .unwrap_or(sizes.f as u64),
        members: targets
            .members
            .iter()
            .zip(&answers)
            .map(|(target, answer)| row(target, answer, top))
            .collect(),
    };
    Output::new(common).document(&report, Report::table)?;
    if answers.iter().any(Result::is_ok) {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::refused(
        "no member answers",
        "start one: consortium start --dir MEMBER_DIR, or a test ledger: consortium dev",
    ))
}

fn row(target: &Target, answer: &Result<Standing, AskError>, top: Height) -> Row {
    let known = target.known.as_ref();
    let mut row = Row {
        id: known.map(|member| member.id),
        name: known.map_or_else(String::new, |member| member.name.clone()),
        api: target.api.base().to_owned(),
        reachable: false,
        error: None,
        bootstrap: None,
        place: Place::default(),
        part: Part::default(),
    };
    match answer {
        Err(error) => row.error = Some(error.to_string()),
        Ok(Standing::Starting(starting)) => row.starts(starting, top),
        Ok(Standing::Serving(status)) => row.serves(status, top),
    }
    row
}

impl Row {
    /// Takes over what a member says that starts.
    fn starts(&mut self, starting: &Starting, top: Height) {
        let Starting {
            member,
            state,
            bootstrap,
            version,
        } = starting;
        (self.id, self.name) = (Some(member.id), member.name.clone());
        self.bootstrap = Some(*bootstrap);
        self.place.height = bootstrap.height;
        self.place.lag = bootstrap
            .height
            .map(|height| top.0.saturating_sub(height.0));
        self.part.view = bootstrap.view;
        self.part.state = Some(state.clone());
        self.part.version = Some(version.clone());
    }

    /// Takes over what a member says that serves.
    fn serves(&mut self, status: &Status, top: Height) {
        let row = self;
        row.reachable = true;
        (row.id, row.name) = (Some(status.member.id), status.member.name.clone());
        row.place = Place {
            height: Some(status.tip.height),
            group_height: Some(status.tip.group_height),
            lag: Some(top.0 - status.tip.height.0),
            digest: Some(status.tip.digest),
            state_digest: Some(status.tip.state_digest),
            last_checkpoint: Some(status.last_checkpoint),
            checkpoint_height: Some(status.retained.checkpoint_height),
            retained_bytes: Some(status.retained.retained_bytes),
            first_block: Some(status.retained.first_block),
        };
        row.part = Part {
            role: Some(status.order.role),
            state: Some(status.order.state.clone()),
            view: Some(status.order.view),
            regency: Some(status.order.regency),
            leader: status.order.leader,
            faults_seen: Some(status.faults_seen),
            views: Some(Views::from(&status.views)),
            note: status.note.clone(),
            version: Some(status.version.clone()),
        };
    }
}

impl Report {
    fn table(&self) -> String {
        let heads = [
            "name",
            "role",
            "state",
            "height",
            "lag",
            "view",
            "seat",
            "regency",
            "checkpoint",
            "kept",
            "from",
            "faults",
            "version",
            "api",
            "id",
        ];
        let rows: Vec<Vec<String>> = self.members.iter().map(Row::cells).collect();
        let (q, f) = (self.quorum, self.faults_tolerated);
        let mut text = format!("{}\nquorum {q}, tolerates {f} faulty", table(&heads, &rows));
        if let Some(view) = self.view {
            text += &format!("\n{}", self.view_line(view));
        }
        if let Some(reason) = &self.reason {
            text += &format!("\n{}: {reason}", self.condition.map_or("", word));
        }
        for row in &self.members {
            if let Some(note) = &row.part.note {
                text += &format!("\n{}: {note}", row.name);
            }
            if let Some(bootstrap) = &row.bootstrap {
                text += &format!("\n{}: {}", row.name, progress(bootstrap));
            }
        }
        text
    }
}

fn word(condition: Condition) -> &'static str {
    match condition {
        Condition::Live => "live",
        Condition::Stalled => "stalled",
        Condition::Dead => "dead",
    }
}

impl Report {
    /// The newest view, who sits in it, and when the next one is due.
    fn view_line(&self, view: ViewId) -> String {
        let seat = |seat: &SeatEntry| match seat.lost {
            true => format!("{} (lost)", seat.name),
            false => seat.name.clone(),
        };
        let seats: Vec<String> = self.committee.iter().map(seat).collect();
        let of_view = |row: &&Row| row.part.view == Some(view);
        let rows = self.members.iter().filter(of_view);
        let mut known = rows.filter_map(|row| row.part.views.as_ref());
        let next = known.next().map_or_else(String::new, Views::next);
        format!(
            "view {view}: {} seats, {}; {next}",
            seats.len(),
            seats.join(" ")
        )
    }
}

impl Views {
    fn seat(&self) -> &'static str {
        match (self.seated, self.has_key) {
            (true, true) => "yes",
            (true, false) => "no key",
            (false, _) => "no",
        }
    }

    /// When the next view comes.
    fn next(&self) -> String {
        match (self.state.as_str(), self.rotation_in, self.due) {
            ("assembling" | "ready", ..) => {
                let (keys, named) = (self.keys, self.keys_named);
                format!("the next one is {}, keys {keys} of {named}", self.state)
            }
            (_, _, true) => "the next one is due now".into(),
            (_, Some(blocks), false) => format!("the next one is due in {blocks} blocks"),
            (_, None, false) => "the next one is due when the list of members changes".into(),
        }
    }
}

/// Bytes for people.
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// How far a start is, in a line.
fn progress(bootstrap: &Bootstrap) -> String {
    let mut text = format!("bootstrapping, {}", bootstrap.brief());
    let mut add = |more: String| text += &format!(", {more}");
    match bootstrap.stage {
        BootstrapStage::Open | BootstrapStage::Walk => {}
        BootstrapStage::Anchor | BootstrapStage::Checkpoint => {}
        BootstrapStage::Gather => {
            add(format!(
                "{} of {} segments",
                bootstrap.segments_held, bootstrap.segments
            ));
            add(mebibytes_of(bootstrap));
        }
        BootstrapStage::Restore => add(mebibytes_of(bootstrap)),
        BootstrapStage::Replay => {
            if let (Some(height), Some(target)) = (bootstrap.height, bootstrap.target_height) {
                add(format!("height {height} of {target}"));
            }
        }
    }
    if let Some(rate) = bootstrap.bytes_per_second {
        add(format!("{}/s", mebibytes(rate)));
    }
    if let Some(seconds) = bootstrap.seconds_left {
        add(format!("{seconds} s left"));
    }
    if let Some(view) = bootstrap.view {
        add(format!("view {view} proved"));
    }
    text
}

fn mebibytes_of(bootstrap: &Bootstrap) -> String {
    let (held, all) = (bootstrap.bytes_held, bootstrap.bytes);
    format!("{} of {}", mebibytes(held), mebibytes(all))
}

impl Row {
    fn cells(&self) -> Vec<String> {
        fn cell(value: Option<impl ToString>) -> String {
            value.map_or_else(|| "-".into(), |value| value.to_string())
        }
        let role = self.part.role.map(|role| match role {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Observer => "observer",
        });
        let state = match &self.error {
            Some(_) => Some("unreachable".to_owned()),
            None => match &self.bootstrap {
                Some(bootstrap) => Some(format!("bootstrapping {}", bootstrap.brief())),
                None => self.part.state.clone(),
            },
        };
        vec![
            self.name.clone(),
            cell(role),
            cell(state),
            cell(self.place.height),
            cell(self.place.lag),
            cell(self.part.view),
            cell(self.part.views.as_ref().map(Views::seat)),
            cell(self.part.regency),
            cell(self.place.checkpoint_height),
            cell(self.place.retained_bytes.map(mebibytes)),
            cell(self.place.first_block),
            cell(self.part.faults_seen),
            cell(self.part.version.clone()),
            self.api.clone(),
            cell(self.id.map(short)),
        ]
    }
}
