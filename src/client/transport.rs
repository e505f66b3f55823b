//! One member's HTTP door, as a client sees it.
//!
//! Source: `api/openapi.json`. In: requests. Out: the shapes of `api`, or why there are none.
//! Holds: every answer has a bound in bytes and time. Elsewhere: which member is asked (`roster`),
//! whether an answer holds (`rules`).

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::ClientError;
use super::events::EventStream;
use crate::api::{
    Answers, Block, Checkpoints, Faults, Membership, Problem, Refused, Settled, Snapshot, Standing,
    Status, Transaction,
};
use crate::api::{Value, Views, Wait};
use crate::committee::{Height, ViewId};
use crate::crypto::PublicKey;

/// Bytes of one answer, at most: a page of the largest block as JSON.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Until a connection stands; members are near or not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why one member gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    /// No connection, or it broke.
    Broken(String),
    /// Nothing within the time.
    Silent,
    /// The member says no.
    Problem(Problem),
    /// The answer cannot be read.
    Malformed(String),
}

impl std::fmt::Display for AskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AskError::Broken(reason) => write!(f, "{reason}"),
            AskError::Silent => write!(f, "no answer in time"),
            AskError::Problem(problem) => write!(f, "{}", problem.message),
            AskError::Malformed(reason) => write!(f, "unreadable answer: {reason}"),
        }
    }
}

/// The future of one member's answer.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, AskError>> + Send + 'a>>;

/// How signed groups reach members.
pub trait Transport: Send + Sync + 'static {
    /// How many members can be asked.
    fn members_count(&self) -> usize;

    /// Hands `group` to one member, which answers when it is as far as `wait` or `limit` is over.
    fn submit(
        &self,
        member: usize,
        group: Bytes,
        wait: Wait,
        limit: Duration,
    ) -> Asked<'_, Answers>;

    /// The present height and the number of executed transactions, as one member says.
    fn status(&self, member: usize) -> Asked<'_, Status>;

    /// A page of the view chain from view `from` on, as one member keeps it.
    fn views(&self, member: usize, from: ViewId) -> Asked<'_, Views>;
}

/// One member's door.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    http: reqwest::Client,
}

impl Api {
    /// The door at `base`, such as `http://127.0.0.1:7200`.
    ///
    /// Errors: [`ClientError::Malformed`] where it is no address.
    pub fn new(base: &str) -> Result<Self, ClientError> {
        let malformed = |reason: String| ClientError::Malformed {
            place: base.into(),
            reason,
        };
        let parsed = reqwest::Url::parse(base).map_err(|error| malformed(error.to_string()))?;
        if parsed.scheme() != "http" || parsed.host_str().is_none() {
            return Err(malformed("an address is http://HOST:PORT".into()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .tcp_nodelay(true)
            // Below the time after which a member closes an idle connection.
            .pool_idle_timeout(Duration::from_secs(4))
            .build()
            .map_err(|error| malformed(error.to_string()))?;
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            http,
        })
    }

    /// Its address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `GET /v1/status` of a member that serves; one that starts says so as a problem, as it does
    /// to everything else.
    pub async fn status(&self, limit: Duration) -> Result<Status, AskError> {
        match self.standing(limit).await? {
            Standing::Serving(status) => Ok(*status),
            Standing::Starting(starting) => {
                let problem = Problem::bootstrapping(&starting.bootstrap);
                Err(AskError::Problem(problem))
            }
        }
    }

    /// `GET /v1/status`: the member, or how far its start is.
    pub async fn standing(&self, limit: Duration) -> Result<Standing, AskError> {
        let (status, body) = self.fetch("/v1/status", limit).await?;
        match read(status, &body) {
            Ok(served) => Ok(Standing::Serving(Box::new(served))),
            Err(error) => match read(status, &body) {
                Ok(starting) => Ok(Standing::Starting(Box::new(starting))),
                // What it says is about the form of one that serves.
                Err(_) => Err(error),
            },
        }
    }

    /// `GET /v1/membership`, with the audit trail where `history` asks for it.
    pub async fn membership(&self, history: bool, limit: Duration) -> Result<Membership, AskError> {
        let path = format!("/v1/membership?history={history}");
        self.get(&path, limit).await
    }

    /// `GET /v1/views`, from view `from` on.
    pub async fn views(&self, from: ViewId, limit: Duration) -> Result<Views, AskError> {
        self.get(&format!("/v1/views?from={from}"), limit).await
    }

    /// `GET /v1/faults`, from place `first` on.
    pub async fn faults(&self, first: u32, limit: Duration) -> Result<Faults, AskError> {
        self.get(&format!("/v1/faults?first={first}"), limit).await
    }

    /// `GET /v1/checkpoints`.
    pub async fn checkpoints(&self, limit: Duration) -> Result<Checkpoints, AskError> {
        self.get("/v1/checkpoints", limit).await
    }

    /// `GET /v1/checkpoints/{height}`, segments from `first` on.
    pub async fn checkpoint(
        &self,
        height: Height,
        first: u32,
        limit: Duration,
    ) -> Result<Snapshot, AskError> {
        let path = format!("/v1/checkpoints/{height}?first={first}");
        self.get(&path, limit).await
    }

    /// `GET /v1/blocks/{height}`, transactions from `first` on.
    pub async fn block(&self, height: u64, first: u32, limit: Duration) -> Result<Block, AskError> {
        self.get(&format!("/v1/blocks/{height}?first={first}"), limit)
            .await
    }

    /// `GET /v1/transactions/{client}/{sequence}`.
    pub async fn transaction(
        &self,
        (client, sequence): (&PublicKey, u64),
        with_proof: bool,
        limit: Duration,
    ) -> Result<Transaction, AskError> {
        let path = format!("/v1/transactions/{client}/{sequence}?proof={with_proof}");
        self.get(&path, limit).await
    }

    /// `GET /v1/kv/{key}`; an absent key is an answer.
    pub async fn value(
        &self,
        key: &[u8],
        is_certified: bool,
        limit: Duration,
    ) -> Result<Value, AskError> {
        let key = hex::encode(key);
        let path = format!("/v1/kv/{key}?encoding=hex&certified={is_certified}");
        let (status, body) = self.fetch(&path, limit).await?;
        if status == 404
            && let Ok(value) = serde_json::from_slice::<Value>(&body)
        {
            return Ok(value);
        }
        read(status, &body)
    }

    /// `GET /metrics`.
    pub async fn metrics(&self, limit: Duration) -> Result<String, AskError> {
        let (status, body) = self.fetch("/metrics", limit).await?;
        if status != 200 {
            return Err(AskError::Malformed(format!("status {status}")));
        }
        String::from_utf8(body).map_err(|error| AskError::Malformed(error.to_string()))
    }

    /// `GET /readyz`: whether the member is ready.
    pub async fn is_ready(&self, limit: Duration) -> bool {
        matches!(self.fetch("/readyz", limit).await, Ok((200, _)))
    }

    /// `GET /v1/events`, from `from` on.
    pub async fn events(&self, from: u64) -> Result<EventStream, AskError> {
        let request = self
            .http
            .get(format!("{}/v1/events?from={from}", self.base));
        let response = request.send().await.map_err(broken)?;
        let status = response.status().as_u16();
        if status != 200 {
            let (status, body) = (status, bounded(response).await?);
            return Err(problem(status, &body));
        }
        Ok(EventStream::new(from, response.bytes_stream().boxed()))
    }

    /// `POST /v1/transactions` with a signed group.
    pub async fn submit(
        &self,
        group: Bytes,
        wait: Wait,
        limit: Duration,
    ) -> Result<Answers, AskError> {
        let wait = match wait {
            Wait::Ordered => "ordered",
            Wait::Executed => "executed",
            Wait::Durable => "durable",
        };
        let ms = limit.as_millis().clamp(1, 120_000);
        let path = format!("/v1/transactions?wait={wait}&timeout_ms={ms}");
        let request = self.http.post(format!("{}{path}", self.base));
        let request = request
            .header("content-type", "application/octet-stream")
            .timeout(limit + Duration::from_millis(500))
            .body(group);
        let response = request.send().await.map_err(broken)?;
        let status = response.status().as_u16();
        let body = bounded(response).await?;
        if status != 200
            && let Ok(all) = serde_json::from_slice::<AllRefused>(&body)
        {
            let transactions = all.transactions.into_iter().map(Settled::Refused);
            return Ok(Answers {
                certificate: None,
                transactions: transactions.collect(),
            });
        }
        read(status, &body)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, limit: Duration) -> Result<T, AskError> {
        let (status, body) = self.fetch(path, limit).await?;
        read(status, &body)
    }

    async fn fetch(&self, path: &str, limit: Duration) -> Result<(u16, Vec<u8>), AskError> {
        let request = self.http.get(format!("{}{path}", self.base)).timeout(limit);
        let response = request.send().await.map_err(broken)?;
        Ok((response.status().as_u16(), bounded(response).await?))
    }
}

/// A group of which nothing executes.
#[derive(serde::Deserialize)]
struct AllRefused {
    transactions: Vec<Refused>,
}

fn broken(error: reqwest::Error) -> AskError {
    if error.is_timeout() && !error.is_connect() {
        return AskError::Silent;
    }
    // The innermost cause says what happened; the outer ones repeat the address.
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    AskError::Broken(cause.to_string())
}

async fn bounded(mut response: reqwest::Response) -> Result<Vec<u8>, AskError> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            let reason = format!("more than {ANSWER_BYTES_MAX} bytes");
            return Err(AskError::Malformed(reason));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn read<T: DeserializeOwned>(status: u16, body: &[u8]) -> Result<T, AskError> {
    if status != 200 {
        return Err(problem(status, body));
    }
    serde_json::from_slice(body).map_err(|error| AskError::Malformed(error.to_string()))
}

fn problem(status: u16, body: &[u8]) -> AskError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => AskError::Problem(Problem { status, ..problem }),
        Err(_) => AskError::Malformed(format!("status {status} without the usual JSON")),
    }
}

/// The doors of several members.
#[derive(Clone, Debug)]
pub struct Doors(pub Vec<Api>);

impl Transport for Doors {
    fn members_count(&self) -> usize {
        self.0.len()
    }

    fn submit(
        &self,
        member: usize,
        group: Bytes,
        wait: Wait,
        limit: Duration,
    ) -> Asked<'_, Answers> {
        Box::pin(self.0[member].submit(group, wait, limit))
    }

    fn status(&self, member: usize) -> Asked<'_, Status> {
        Box::pin(self.0[member].status(Duration::from_secs(2)))
    }

    fn views(&self, member: usize, from: ViewId) -> Asked<'_, Views> {
        Box::pin(self.0[member].views(from, Duration::from_secs(10)))
    }
}
