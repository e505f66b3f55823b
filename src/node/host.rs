//! A member as its HTTP door sees it.
//!
//! Source: `api/openapi.json`. In: decoded requests. Out: plain data, or a refusal.
//! Holds: what reads the disk runs off the door's threads; an answer promises what was reached.
//! Elsewhere: HTTP (`api`), blocks and events as data (`show`), proofs (`proofs`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::handle::{Handle, Parts};
use super::herald::{Promise, Refused, Settled, Settlement};
use super::proofs::{self, LookError};
use super::reply::reply;
use super::{holdings, keys, metrics, show, vitals};
use crate::api;
use crate::api::{Answer, Answers, Refusal, Wait};
use crate::blocks::proof::Proof;
use crate::blocks::{SignedGroup, Transaction};
use crate::committee::{Certificate, Height, MemberId, ViewId};
use crate::consortium::{Denied, Executed, Verdict};
use crate::crypto::{Digest, Domain, Hasher, PublicKey, SecretKey};

/// Blocks that an operation signed here may wait.
const EXPIRY_BLOCKS: u64 = 5_000;

impl api::Host for Handle {
    fn about(&self) -> api::About {
        let genesis = &self.parts.who.genesis;
        api::About {
            chain: genesis.chain(),
            bounds: genesis.parameters.bounds(),
            signs_operations: self.parts.who.client.is_some(),
        }
    }

    fn submit(&self, group: SignedGroup, wait: Wait) -> Answer<'_, Answers> {
        Box::pin(async move {
            let promise = match wait {
                Wait::Ordered => Promise::Ordered,
                Wait::Executed => Promise::Executed,
                Wait::Durable => Promise::Durable,
            };
            let settlement = Handle::submit(self, group, promise).await;
            Ok(answers(&self.parts, settlement.map_err(refusal)?, wait))
        })
    }

    fn submit_operation(&self, operation: api::Operation, wait: Wait) -> Answer<'_, Answers> {
        Box::pin(async move {
            let group = sign(&self.parts, &operation)?;
            api::Host::submit(self, group, wait).await
        })
    }

    fn status(&self) -> Answer<'_, api::Status> {
        Box::pin(async move {
            let retained = match holdings::recent(&self.parts) {
                Some(retained) => retained,
                // The first time there is nothing to answer from memory.
                None => {
                    let look = |parts: &Parts| holdings::retained(parts);
                    let measure = move |parts: &Parts| look(parts).map_err(|e| not_found(e.into()));
                    self.look(measure).await?
                }
            };
            Ok(status(&self.parts, retained))
        })
    }

    fn block(&self, height: Height, page: api::Page) -> Answer<'_, api::Block> {
        self.look(move |parts| show::block(parts, height, page))
    }

    fn transaction(
        &self,
        client: PublicKey,
        sequence: u64,
        with_proof: bool,
    ) -> Answer<'_, api::Transaction> {
        Box::pin(async move {
            let recalled = self.recall(client, sequence).await.map_err(refusal)?;
            let executed = recalled.ok_or_else(|| Refusal::NotFound {
                what: format!("transaction {sequence} of {client}"),
            })?;
            let look = move |parts: &Parts| {
                let name = (client, sequence);
                transaction(parts, name, &executed, with_proof)
            };
            self.look(look).await
        })
    }

    fn value(&self, key: Bytes, is_certified: bool) -> Answer<'_, api::Value> {
        self.look(move |parts| match is_certified {
            true => certified_value(parts, &key),
            false => present_value(parts, &key),
        })
    }

    fn events(&self, from: u64) -> Answer<'_, api::Events> {
        let parts = Arc::clone(&self.parts);
        self.look(move |_| match holdings::pruned_event(&parts, from) {
            Some(pruned) => Err(pruned),
            None => Ok(show::events(parts, from)),
        })
    }

    fn membership(&self, history: bool) -> Answer<'_, api::Membership> {
        let membership = show::membership(&self.parts, history);
        Box::pin(async move { Ok(membership) })
    }

    fn views(&self, from: ViewId, limit: u32) -> Answer<'_, api::Views> {
        self.look(move |parts| show::views(parts, from, limit).map_err(not_found))
    }

    fn checkpoints(&self) -> Answer<'_, api::Checkpoints> {
        self.look(holdings::checkpoints)
    }

    fn checkpoint(&self, height: Height, page: api::Page) -> Answer<'_, api::Snapshot> {
        self.look(move |parts| holdings::checkpoint(parts, height, page))
    }

    fn faults(&self, page: api::Page) -> Answer<'_, api::Faults> {
        let faults = show::faults(&self.parts, page);
        Box::pin(async move { Ok(faults) })
    }

    fn answered(&self, status: u16) {
        let class = usize::from(status / 100).saturating_sub(1);
        if let Some(counter) = self.parts.counts.answered.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn metrics(&self) -> String {
        metrics::scrape(self)
    }

    fn ready(&self) -> Answer<'_, Vec<api::ReadyCheck>> {
        let checks = ready(self);
        Box::pin(async move { Ok(checks) })
    }
}

impl Handle {
    /// Runs something that reads the disk off the door's threads.
    fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Parts) -> Result<T, Refusal> + Send + 'static,
    ) -> Answer<'_, T> {
        let parts = Arc::clone(&self.parts);
        Box::pin(async move {
            let looked = tokio::task::spawn_blocking(move || look(&parts)).await;
            looked.unwrap_or_else(|_| {
                let reason = "a look at the disk was cut off".into();
                Err(Refusal::Failed { reason })
            })
        })
    }
}

/// A refusal of the gate or of the replica.
fn refusal(refused: Refused) -> Refusal {
    let text = refused.to_string();
    match refused {
        Refused::Group(_) => Refusal::Malformed { reason: text },
        Refused::Operation { .. } => Refusal::Invalid { reason: text },
        Refused::BadSignature => Refusal::BadSignature,
        Refused::Denied(Denied::Busy { retry_after_ms }) => Refusal::Busy { retry_after_ms },
        Refused::Denied(Denied::Expired { .. }) => Refusal::Expired { reason: text },
        Refused::Denied(Denied::NotListed) => Refusal::NotListed,
        Refused::Denied(Denied::NotReady { state }) => Refusal::NotReady {
            state: state.into(),
        },
        Refused::Ending => Refusal::NotReady {
            state: "ending".into(),
        },
    }
}

/// A look that found nothing.
pub(super) fn not_found(error: LookError) -> Refusal {
    match error {
        LookError::Absent { what } => Refusal::NotFound { what },
        LookError::Index(error) => {
            tracing::error!(%error, "the disk cannot be read");
            let reason = "the disk cannot be read".into();
            Refusal::Failed { reason }
        }
    }
}

fn sign(parts: &Parts, operation: &api::Operation) -> Result<SignedGroup, Refusal> {
    let secret = parts.who.client.as_ref().ok_or_else(|| Refusal::Invalid {
        reason: "this member signs for nobody".into(),
    })?;
    let application = &parts.application;
    let bytes = application.operation_from_json(&operation.operation);
    let bytes = bytes.map_err(|error| Refusal::Invalid {
        reason: error.reason,
    })?;
    let sequence = sequence(&secret.public(), operation.id.as_deref())?;
    let ahead = u64::from(parts.who.genesis.parameters.expiry_blocks_max);
    let ahead = EXPIRY_BLOCKS.min(ahead - ahead / 10).max(1);
    let transaction = Transaction {
        sequence,
        expiry: parts.watch.tip().header.height.plus(ahead),
        operation: bytes.into(),
    };
    let chain = parts.who.genesis.chain();
    Ok(SignedGroup::sign(&chain, secret, &[transaction]))
}

/// The sequence that stands for `id`, the same at every member and in every process; without an
/// id one that nobody else draws.
fn sequence(client: &PublicKey, id: Option<&str>) -> Result<u64, Refusal> {
    let bytes = match id {
        Some(id) => {
            let mut hasher = Hasher::new(Domain::Operation);
            hasher.update(b"id\0").update(client.as_bytes());
            hasher.update(id.as_bytes()).finish().0
        }
        None => keys::entropy().map_err(|error| Refusal::Failed {
            reason: error.to_string(),
        })?,
    };
    let [a, b, c, d, e, f, g, h, ..] = bytes;
    Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

fn answers(parts: &Parts, settlement: Settlement, wait: Wait) -> Answers {
    let Settlement {
        transactions,
        certificate,
        client,
    } = settlement;
    let is_alone = transactions.len() == 1;
    let settled = transactions.into_iter().map(|(sequence, settled)| {
        let name = (client, sequence);
        let refused = |refusal: Refusal| {
            api::Settled::Refused(api::Refused {
                client,
                sequence,
                error: refusal.into(),
            })
        };
        match settled {
            Settled::Ordered(height) => {
                api::Settled::Done(Box::new(ordered(client, sequence, height)))
            }
            Settled::Answered(Verdict::Executed(executed), block) => {
                let alone = certificate.clone().filter(|_| is_alone);
                let done = done(parts, name, &executed, Some(block), (wait, alone));
                api::Settled::Done(Box::new(done))
            }
            Settled::Answered(Verdict::Repeated(executed), _) => {
                let block = proofs::header_digest(&parts.index, executed.height).ok();
                let alone = certificate.clone().filter(|_| is_alone);
                let done = done(parts, name, &executed, block, (wait, alone));
                api::Settled::Done(Box::new(done))
            }
            Settled::Answered(Verdict::Conflict, _) => refused(Refusal::Conflict),
            Settled::Answered(Verdict::Expired, _) => refused(Refusal::Expired {
                reason: "it was ordered too late, or its expiry lies too far ahead".into(),
            }),
            Settled::Answered(Verdict::Busy, _) => refused(Refusal::Busy {
                retry_after_ms: 1_000,
            }),
            Settled::Answered(Verdict::NotListed, _) => refused(Refusal::NotListed),
        }
    });
    let transactions = settled.collect();
    Answers {
        certificate,
        transactions,
    }
}

fn ordered(client: PublicKey, sequence: u64, height: Height) -> api::Submitted {
    api::Submitted {
        client,
        sequence,
        height,
        index: None,
        block: None,
        result: None,
        persistence: Wait::Ordered,
        certificate: None,
        reply: None,
    }
}

fn done(
    parts: &Parts,
    (client, sequence): (PublicKey, u64),
    executed: &Executed,
    block: Option<Digest>,
    (persistence, certificate): (Wait, Option<Certificate>),
) -> api::Submitted {
    // Once it is durable the certificate says more than our word.
    let is_durable = persistence == Wait::Durable;
    let reply = (!is_durable).then(|| reply(parts, &client, sequence, executed));
    api::Submitted {
        client,
        sequence,
        height: executed.height,
        index: Some(executed.index),
        block,
        result: Some(show::outcome(&executed.outcome)),
        // Whoever waited for less got more.
        persistence: persistence.max(Wait::Executed),
        certificate,
        reply,
    }
}

fn transaction(
    parts: &Parts,
    name: (PublicKey, u64),
    executed: &Executed,
    with_proof: bool,
) -> Result<api::Transaction, Refusal> {
    let (client, sequence) = name;
    let what = format!(
        "the block of transaction {sequence} of {client}, {}",
        executed.height
    );
    let missing = |error: LookError| holdings::missing(parts, &what, executed.height, error);
    // What is remembered is told though its block was given up; only the proof needs it.
    let block = match proofs::header_digest(&parts.index, executed.height).map_err(missing) {
        Ok(digest) => Some(digest),
        Err(Refusal::Pruned { .. }) if !with_proof => None,
        Err(refusal) => return Err(refusal),
    };
    let newest = parts.watch.newest_certified();
    let covering = newest.filter(|newest| newest.header.height >= executed.height);
    let persistence = match covering {
        Some(_) => Wait::Durable,
        None => Wait::Executed,
    };
    let certificate = covering.as_ref().map(|newest| newest.certificate.clone());
    let proof = match (&covering, with_proof) {
        (_, false) => None,
        (None, true) => {
            let what = "a certificate that covers it".into();
            return Err(Refusal::NotFound { what });
        }
        (Some(newest), true) => {
            let proof = proofs::transaction(&parts.index, newest, name, executed);
            Some(Proof::Transaction(proof.map_err(missing)?))
        }
    };
    let promise = (persistence, certificate);
    Ok(api::Transaction {
        submitted: done(parts, name, executed, block, promise),
        proof,
    })
}

fn present_value(parts: &Parts, key: &[u8]) -> Result<api::Value, Refusal> {
    let reader = parts.latest.get();
    let value = show::lookup(&*reader, key)?;
    Ok(show::value(key, value.as_deref(), Height(reader.height())))
}

fn certified_value(parts: &Parts, key: &[u8]) -> Result<api::Value, Refusal> {
    let newest = parts.watch.provable();
    let absent = || Refusal::NotFound {
        what: "a certified state".into(),
    };
    let newest = newest.ok_or_else(absent)?;
    let root = newest.header.state.ok_or_else(absent)?;
    let proved = parts.latest.get().prove(key, &root);
    let path = proved.map_err(|error| Refusal::NotFound {
        what: error.to_string(),
    })?;
    let value = parts.application.verify(&root, key, &path);
    let value = value.map_err(|error| Refusal::Failed {
        reason: error.to_string(),
    })?;
    let proof = proofs::state(&parts.index, &newest, key, path).map_err(not_found)?;
    Ok(api::Value {
        state_root: Some(root),
        certified: true,
        proof: Some(Proof::State(proof)),
        ..show::value(key, value.as_deref(), newest.header.height)
    })
}

fn status(parts: &Parts, retained: api::Retained) -> api::Status {
    let (overview, _) = parts.watch.overview();
    let tip = parts.watch.tip();
    let view = parts.watch.view();
    let (_, register) = parts.watch.register();
    let sizes = view.sizes();
    let state = match tip.header.state {
        Some(root) => Some(root),
        None => parts
            .watch
            .provable()
            .and_then(|newest| newest.header.state),
    };
    api::Status {
        member: api::MemberName {
            id: parts.who.me,
            name: parts.who.name.clone(),
            chain: tip.header.chain,
        },
        tip: api::Tip {
            height: tip.header.height,
            group_height: overview.certified,
            digest: tip.digest,
            state_digest: state.unwrap_or_default(),
            sequence: tip.header.receipts.size,
        },
        order: api::Order {
            role: match overview.role {
                "leader" => api::Role::Leader,
                "follower" => api::Role::Follower,
                _ => api::Role::Observer,
            },
            state: overview.state.into(),
            view: view.id(),
            regency: overview.regency,
            leader: overview.leader,
            quorum: sizes.q as u64,
            faults_tolerated: sizes.f as u64,
        },
        last_checkpoint: tip.header.checkpoint.height,
        retained,
        faults_seen: overview.faults.values().sum(),
        views: vitals::status(parts),
        note: parts
            .watch
            .lapsed()
            .or_else(|| holdings::diverged(&parts.watch))
            .or_else(|| vitals::vacancy(&overview, &register, &parts.who.me)),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

fn ready(handle: &Handle) -> Vec<api::ReadyCheck> {
    let parts = &handle.parts;
    let view = parts.watch.view();
    let sizes = view.sizes();
    let net = parts.net.upgrade();
    // Members without a seat help nobody to a quorum.
    let mut connected: Vec<MemberId> = net.map_or_else(Vec::new, |net| {
        net.connected().into_iter().map(MemberId).collect()
    });
    connected.push(parts.who.me);
    let up = view.seats().iter();
    let up = up.filter(|seat| connected.contains(&seat.member)).count();
    let (overview, held) = parts.watch.overview();
    let halted = parts.watch.halted();
    let lapsed = parts
        .watch
        .lapsed()
        .or_else(|| vitals::vacancy(&overview, &parts.watch.register().1, &parts.who.me));
    let (condition, reason) = parts.watch.condition();
    let check = |name: &str, ok: bool, detail: String| api::ReadyCheck {
        name: name.into(),
        ok,
        detail,
    };
    let halt = halted.map(|height| format!("at height {height}"));
    let halt = halt.or_else(|| holdings::diverged(&parts.watch));
    vec![
        check(
            "halted",
            halt.is_none(),
            halt.unwrap_or_else(|| "no".into()),
        ),
        check(
            "log",
            lapsed.is_none(),
            lapsed.unwrap_or_else(|| format!("{held} outputs wait for it")),
        ),
        check(
            "connected",
            up >= sizes.q,
            format!("{up} of {} members, {} needed", sizes.n, sizes.q),
        ),
        check(
            "view",
            condition == api::Condition::Live,
            reason.unwrap_or_else(|| format!("{} {}", view.id(), overview.view_state)),
        ),
        check(
            "ordering",
            overview.role != "observer" || overview.state == "observer",
            format!("{} {}", overview.role, overview.state),
        ),
    ]
}

/// The client key of the member itself, where its settings let it sign for its callers.
pub(super) fn client_key(identity: &SecretKey) -> SecretKey {
    // Drawn from the identity, so that it is the same after every start and one file is enough.
    let mut hasher = Hasher::new(Domain::Operation);
    hasher.update(b"client of member\0").update(identity.seed());
    SecretKey::from_seed(hasher.finish().0)
}
