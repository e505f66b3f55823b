//! The door of a member that starts: it says how far the start is, and opens once the member runs.
//!
//! Source: `openapi.json`. In: a [`Foyer`], and later a [`Host`]. Out: a router over both.
//! Holds: before the host is there nothing is answered but status, health, metrics and the
//! document; everything else is one refusal, whatever was sent.
//! Elsewhere: what a start does (`node`), the routes behind (`routes`).

use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::data::{MemberName, ReadyCheck, Status};
use super::extract::Ask;
use super::host::Host;
use super::problem::Problem;
use super::reads::{self, NoQuery, ReadyQuery};
use super::routes::{Door, Limits, router};
use crate::committee::{Height, ViewId};

/// What [`Starting::state`] says.
pub const BOOTSTRAPPING: &str = "bootstrapping";
/// When to ask again what a start cannot answer, in milliseconds.
const AGAIN_MS: u64 = 2_000;

/// A member that starts, as its HTTP door sees it; every answer is from memory.
pub trait Foyer: Send + Sync + 'static {
    /// Who starts, and how far it is.
    fn starting(&self) -> Starting;

    /// Every metric of a start in the OpenMetrics text format.
    fn metrics(&self) -> String;
}

/// A member that does not serve yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starting {
    /// Who.
    #[serde(flatten)]
    pub member: MemberName,
    /// [`BOOTSTRAPPING`].
    pub state: String,
    /// How far it is.
    pub bootstrap: Bootstrap,
    /// The program's version.
    pub version: String,
}

/// How far a start is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// What it does now.
    pub stage: BootstrapStage,
    /// The newest view that it can prove; none before it looked.
    pub view: Option<ViewId>,
    /// The height of its own ledger as far as it is here; none before that is known.
    pub height: Option<Height>,
    /// The height that the stage leads to; none where that is not known.
    pub target_height: Option<Height>,
    /// Segments of the snapshot that are here.
    pub segments_held: u32,
    /// Segments of the snapshot; 0 before its manifest is known.
    pub segments: u32,
    /// Bytes of the snapshot that are here, or restored where the stage is `restore`.
    pub bytes_held: u64,
    /// Bytes of the snapshot; 0 before one is settled on.
    pub bytes: u64,
    /// How fast bytes come; none where none are awaited.
    pub bytes_per_second: Option<u64>,
    /// Until the stage is over, at the present rate; none where that cannot be told.
    pub seconds_left: Option<u64>,
}

/// What a start does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootstrapStage {
    /// Files are opened and checked, the log is read.
    #[default]
    Open,
    /// The view chain is walked.
    Walk,
    /// Seats of the newest view are asked for a fresh block.
    Anchor,
    /// The checkpoint block is asked for.
    Checkpoint,
    /// Segments are gathered.
    Gather,
    /// Tables are made out of a snapshot.
    Restore,
    /// Blocks of the log are executed again.
    Replay,
}

impl BootstrapStage {
    /// Every stage, in their order.
    pub const ALL: [Self; 7] = [
        Self::Open,
        Self::Walk,
        Self::Anchor,
        Self::Checkpoint,
        Self::Gather,
        Self::Restore,
        Self::Replay,
    ];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Walk => "walk",
            Self::Anchor => "anchor",
            Self::Checkpoint => "checkpoint",
            Self::Gather => "gather",
            Self::Restore => "restore",
            Self::Replay => "replay",
        }
    }
}

impl Bootstrap {
    /// How much of the stage is done, and of what; none where that is not known.
    pub fn measure(&self) -> Option<(u64, u64)> {
        match self.stage {
            BootstrapStage::Gather | BootstrapStage::Restore => {
                (self.bytes > 0).then_some((self.bytes_held, self.bytes))
            }
            BootstrapStage::Replay => Some((self.height?.0, self.target_height?.0)),
            BootstrapStage::Open | BootstrapStage::Walk => None,
            BootstrapStage::Anchor | BootstrapStage::Checkpoint => None,
        }
    }

    /// The stage, and how much of it is done in percent, for people.
    pub fn brief(&self) -> String {
        let stage = self.stage.name();
        match self.measure() {
            Some((done, of)) => {
                let percent = u128::from(done.min(of)) * 100 / u128::from(of.max(1));
                format!("{stage} {percent}%")
            }
            None => stage.into(),
        }
    }
}

/// What `GET /v1/status` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It serves.
    Serving(Box<Status>),
    /// It does not serve yet.
    Starting(Box<Starting>),
}

impl Problem {
    /// What a member says that does not serve yet.
    pub fn bootstrapping(bootstrap: &Bootstrap) -> Self {
        let message = format!("this member is bootstrapping: {}", bootstrap.brief());
        let help = "Ask another member, or wait: GET /v1/status says how far it is.";
        Self::new(503, BOOTSTRAPPING, message, help).retry_after(AGAIN_MS)
    }
}

/// Where callers arrive: before the host is there the foyer answers, and then the host.
pub struct Entrance {
    foyer: Arc<dyn Foyer>,
    host: OnceLock<Arc<dyn Host>>,
}

impl Entrance {
    /// A closed one.
    pub fn new(foyer: Arc<dyn Foyer>) -> Self {
        let host = OnceLock::new();
        Self { foyer, host }
    }

    /// From now on `host` answers; a second one is not let in.
    pub fn open(&self, host: Arc<dyn Host>) {
        let _first = self.host.set(host);
    }
}

/// What every request passes.
#[derive(Clone)]
struct Passage {
    entrance: Arc<Entrance>,
    limits: Limits,
    closing: watch::Receiver<bool>,
    front: Router,
    behind: Arc<OnceLock<Router>>,
}

/// The router over `entrance`: of the foyer, and of the host once it is there.
pub(super) fn passage(
    entrance: Arc<Entrance>,
    limits: Limits,
    closing: watch::Receiver<bool>,
) -> Router {
    let passage = Passage {
        front: front(Arc::clone(&entrance.foyer)),
        entrance,
        limits,
        closing,
        behind: Arc::default(),
    };
    Router::new().fallback(pass).with_state(passage)
}

async fn pass(State(passage): State<Passage>, request: Request) -> Response {
    let router = match passage.entrance.host.get() {
        None => passage.front,
        Some(host) => {
            let door = || Door::new(Arc::clone(host), passage.limits, passage.closing.clone());
            passage.behind.get_or_init(|| router(door())).clone()
        }
    };
    match TowerToHyperService::new(router).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn front(foyer: Arc<dyn Foyer>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/openapi.json", get(reads::openapi))
        .route("/livez", get(reads::live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(refuse)
        .method_not_allowed_fallback(refuse)
        .with_state(foyer)
}

async fn status(
    State(foyer): State<Arc<dyn Foyer>>,
    Ask(NoQuery {}): Ask<NoQuery>,
) -> Json<Starting> {
    Json(foyer.starting())
}

async fn ready(State(foyer): State<Arc<dyn Foyer>>, Ask(query): Ask<ReadyQuery>) -> Response {
    let check = ReadyCheck {
        name: "bootstrap".into(),
        ok: false,
        detail: foyer.starting().bootstrap.brief(),
    };
    reads::readiness(&[check], &query)
}

async fn metrics(State(foyer): State<Arc<dyn Foyer>>) -> Response {
    reads::metrics_text(foyer.metrics())
}

async fn refuse(State(foyer): State<Arc<dyn Foyer>>) -> Response {
    Problem::bootstrapping(&foyer.starting().bootstrap).into_response()
}
