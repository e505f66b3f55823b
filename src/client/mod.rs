//! A client of the ledger: signs, groups, sends, and believes only what holds.
//!
//! Source: `ARCHITECTURE.md`, clients. In: operations and a wait level. Out: results with their
//! promise.
//! Holds: what waits while a request is under way goes together under one signature; the same
//! signed bytes are sent again, to any member, so nothing executes twice.
//! Elsewhere: one member's door (`transport`), what is believed (`rules`), verbs (`cli`).

mod error;
mod events;
mod home;
mod pace;
mod roster;
mod route;
mod rules;
mod session;
mod tally;
mod transport;
mod views;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

pub use self::error::ClientError;
pub use self::events::EventStream;
pub use self::home::{Home, ID_BYTES_MAX, IDS_MAX, Kept, sequence_of};
pub use self::pace::{TIMEOUT_MS_MAX, TIMEOUT_MS_MIN};
use self::route::{Known, Parcel, route};
pub use self::rules::{Rules, Shown, check_proof};
use self::session::{Job, Session};
use self::tally::Tally;
pub use self::transport::{Api, AskError, Asked, Doors, Transport};
pub use self::views::walk_views;
use crate::api::{Status, Submitted, Wait};
use crate::blocks::{Bounds, Parameters, SignedGroup, Transaction, codec};
use crate::committee::Height;
use crate::crypto::{Digest, PublicKey, SecretKey};

/// Blocks from now after which a transaction does not execute any more, unless asked otherwise.
pub const EXPIRY_BLOCKS: u64 = 5_000;
/// Submissions that may wait in one client; further ones wait to be taken in.
pub const QUEUE_MAX: usize = 16_384;
/// How old the known height may be before a member is asked again.
const HEIGHT_AGE: Duration = Duration::from_secs(10);

/// What is settled when a client is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Transactions under one signature, at most.
    pub group_transactions_max: usize,
    /// Groups under way at once.
    pub groups_under_way_max: usize,
    /// Until a submission is given up.
    pub limit: Duration,
    /// Blocks until expiry.
    pub expiry_blocks: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            group_transactions_max: crate::blocks::GROUP_TRANSACTIONS_MAX,
            groups_under_way_max: 1,
            limit: Duration::from_secs(30),
            expiry_blocks: EXPIRY_BLOCKS,
        }
    }
}

/// What all handles of a client and its session share.
pub(crate) struct Shared {
    transport: Arc<dyn Transport>,
    rules: Rules,
    secret: SecretKey,
    known: Known,
    bounds: Bounds,
    options: Options,
    height: AtomicU64,
    height_at: std::sync::Mutex<Option<tokio::time::Instant>>,
}

/// A client with one key. Clones share one session.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Job>,
}

impl Client {
    /// A client that signs with `secret` for the ledger of `rules`, and starts its session.
    ///
    /// `parameters` are those of the genesis document; must be called inside a tokio runtime.
    pub fn new(
        transport: Arc<dyn Transport>,
        rules: Rules,
        parameters: &Parameters,
        secret: SecretKey,
        mut options: Options,
    ) -> Self {
        // A tenth is left: the member that admits may be behind the one that told the height.
        let ahead_max = u64::from(parameters.expiry_blocks_max);
        options.expiry_blocks = options.expiry_blocks.min(ahead_max - ahead_max / 10).max(1);
        // Clients begin at different members, each at the one that its key falls on.
        let [a, b, c, d, e, f, g, h, ..] = *secret.public().as_bytes();
        let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let known = Known::new(transport.members_count(), seed);
        let shared = Arc::new(Shared {
            transport,
            rules,
            secret,
            known,
            bounds: parameters.bounds(),
            options,
            height: AtomicU64::new(0),
            height_at: std::sync::Mutex::new(None),
        });
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(Session::new(Arc::clone(&shared), jobs).run());
        Self { shared, queue }
    }

    /// Its public key, which is its name on the ledger.
    pub fn public(&self) -> PublicKey {
        self.shared.secret.public()
    }

    /// Submits `operation` and waits for `wait`; what waits at the same time goes together.
    ///
    /// Errors: [`ClientError`].
    pub async fn submit(&self, operation: Bytes, wait: Wait) -> Result<Submitted, ClientError> {
        self.shared.check_length(&operation)?;
        let (tell, told) = oneshot::channel();
        let job = Job {
            operation,
            wait,
            tell,
        };
        let queued = self.queue.send(job).await;
        queued.map_err(|_| ClientError::Closed)?;
        let submitted = told.await.map_err(|_| ClientError::Closed)??;
        Ok(*submitted)
    }

    /// Submits `operation` under `id`: by whichever process of `home` it is sent, it executes once
    /// and has one answer until it expires.
    ///
    /// Errors: [`ClientError::Conflict`] where the id stands for another operation.
    pub async fn submit_named(
        &self,
        home: &Home,
        id: &str,
        operation: Bytes,
        wait: Wait,
    ) -> Result<Submitted, ClientError> {
        let shared = &self.shared;
        shared.check_length(&operation)?;
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(ClientError::TooLong {
                what: "an id",
                bytes: id.len(),
                most: ID_BYTES_MAX,
            });
        }
        let (chain, client) = (*shared.rules.chain(), self.public());
        let kept = match home.kept(&chain, &client, id)? {
            Some(kept) => kept,
            None => {
                let transaction = shared
                    .transaction(sequence_of(&client, id), &operation)
                    .await?;
                let group =
                    SignedGroup::sign(&chain, &shared.secret, std::slice::from_ref(&transaction));
                let fresh = Kept::new(id, &transaction, group);
                home.keep(&chain, &client, fresh, shared.present())?
            }
        };
        let digest = Digest::of(crate::crypto::Domain::Operation, &operation);
        if kept.operation != digest || kept.group.client != client {
            return Err(ClientError::Conflict);
        }
        let told = shared
            .send(&kept.group, std::iter::once(kept.sequence), wait)
            .await;
        let told = told.into_iter().next();
        told.unwrap_or(Err(ClientError::Closed)).map(|told| *told)
    }
}

impl Shared {
    fn check_length(&self, operation: &Bytes) -> Result<(), ClientError> {
        let (bytes, most) = (operation.len(), self.bounds.transaction_bytes_max);
        if bytes == 0 || bytes > most {
            let what = "an operation";
            return Err(ClientError::TooLong { what, bytes, most });
        }
        Ok(())
    }

    /// The height as far as it is known.
    fn present(&self) -> Height {
        Height(self.height.load(Ordering::Relaxed))
    }

    /// Notes that the chain has reached `height`, as a settled answer shows.
    fn saw(&self, height: Height) {
        self.height.fetch_max(height.0, Ordering::Relaxed);
        *self.height_at() = Some(tokio::time::Instant::now());
    }

    fn height_at(&self) -> std::sync::MutexGuard<'_, Option<tokio::time::Instant>> {
        self.height_at
            .lock()
            .expect("no holder of this lock panics")
    }

    /// A transaction that expires a span from now.
    async fn transaction(
        &self,
        sequence: u64,
        operation: &Bytes,
    ) -> Result<Transaction, ClientError> {
        let seen = *self.height_at();
        if seen.is_none_or(|seen| seen.elapsed() > HEIGHT_AGE) {
            self.ask_height().await?;
        }
        Ok(Transaction {
            sequence,
            expiry: self.present().plus(self.options.expiry_blocks),
            operation: operation.clone(),
        })
    }

    /// Asks members for the height, side by side, until so many answered that one is correct.
    async fn ask_height(&self) -> Result<(), ClientError> {
        let transport = &self.transport;
        let count = transport.members_count();
        let ask = async |member| {
            let status = transport.status(member).await?;
            if self.rules.is_behind(status.order.view) {
                // Who says so and cannot show it is not believed in this.
                let _unproved = views::follow(&self.rules, &**transport, member).await;
            }
            Ok::<_, AskError>(status)
        };
        let mut asks: FuturesUnordered<_> = (0..count).map(ask).collect();
        let mut heights = Vec::new();
        let mut reason = "there is no member".to_owned();
        while let Some(asked) = asks.next().await {
            match asked {
                Ok(status) => match self.height_of(&status) {
                    Ok(height) => heights.push(height),
                    Err(error) if heights.is_empty() && asks.is_empty() => return Err(error),
                    Err(error) => reason = error.to_string(),
                },
                Err(error) => reason = error.to_string(),
            }
            if heights.len() > self.rules.faults().min(count.saturating_sub(1)) {
                break;
            }
        }
        // The lowest of f + 1: no faulty member can push it beyond what a correct one says.
        match heights.into_iter().min() {
            Some(height) => {
                self.saw(height);
                Ok(())
            }
            None => Err(ClientError::Unreachable { reason }),
        }
    }

    fn height_of(&self, status: &Status) -> Result<Height, ClientError> {
        if status.member.chain == *self.rules.chain() {
            return Ok(status.tip.height);
        }
        Err(ClientError::OtherChain {
            place: status.member.name.clone(),
            got: status.member.chain.to_string(),
            want: self.rules.chain().to_string(),
        })
    }

    /// Sends `group` and gives one result per transaction.
    async fn send(
        &self,
        group: &SignedGroup,
        sequences: impl Iterator<Item = u64>,
        wait: Wait,
    ) -> Vec<tally::Told> {
        let count = self.known.roster().len();
        let tally = Tally::new(&self.rules, wait, group.client, sequences, count);
        let parcel = Parcel {
            bytes: Bytes::from(codec::encode(group)),
            wait,
            limit: self.options.limit,
        };
        let told = route(&*self.transport, &self.known, &parcel, tally).await;
        let heights = told.iter().filter_map(|told| told.as_ref().ok());
        if let Some(height) = heights.map(|submitted| submitted.height).max() {
            self.saw(height);
        }
        told
    }
}
