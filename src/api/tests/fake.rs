//! A member that says what the test wants, behind a real door on a free port.
//!
//! Source: `host`. In: a script. Out: answers, and what was asked. Holds: nothing; it is a puppet.
//! Elsewhere: the tests (`tests`).

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::*;
use crate::blocks::body::Reconfiguration;
use crate::blocks::evidence::FaultKind;
use crate::blocks::proof::Proof;
use crate::blocks::{Bounds, Header, Link, ReceiptRoot, SignedGroup, Step, Transaction as Signed};
use crate::committee::{Ballot, Certificate, Height, Kind, MemberId, Regency, SeatSet, ViewId};
use crate::crypto::{Digest, Domain, PublicKey, SecretKey, Signature};

pub(super) fn chain() -> Digest {
    Digest::of(Domain::Chain, b"a test")
}

pub(super) fn secret() -> SecretKey {
    SecretKey::from_seed([7; 32])
}

/// A group with one operation of `bytes` bytes per sequence.
pub(super) fn group(sequences: &[u64], bytes: usize) -> SignedGroup {
    let signed = |sequence: &u64| Signed {
        sequence: *sequence,
        expiry: Height(100),
        operation: vec![1; bytes].into(),
    };
    let transactions: Vec<_> = sequences.iter().map(signed).collect();
    SignedGroup::sign(&chain(), &secret(), &transactions)
}

/// A proof that another test freezes.
pub(super) fn golden(kind: &str) -> Proof {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let text = std::fs::read_to_string(format!("{folder}/{kind}.proof.json"));
    Proof::from_json(&text.expect("the file is there")).expect("it is a proof")
}

/// What the host was asked.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) groups: Vec<(SignedGroup, Wait)>,
    pub(super) operations: Vec<(Operation, Wait)>,
    pub(super) pages: Vec<(Height, Page)>,
    pub(super) keys: Vec<(Bytes, bool)>,
    pub(super) events: Vec<u64>,
    pub(super) views: Vec<(ViewId, u32)>,
    pub(super) statuses: Vec<u16>,
}

/// What the host does.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) signs_operations: bool,
    /// Refuses everything.
    pub(super) refusal: Option<Refusal>,
    /// Never answers.
    pub(super) hangs: bool,
    /// Refuses these sequences of a group.
    pub(super) refused: Vec<(u64, Refusal)>,
    /// Events up to this sequence, then nothing until the end of the world.
    pub(super) events: u64,
    /// A sequence that the event stream leaves out.
    pub(super) gap: Option<u64>,
    /// How the event stream ends, if it ends.
    pub(super) events_end: Option<Refusal>,
    /// Bytes of each event's operation.
    pub(super) event_bytes: usize,
    pub(super) checks: Vec<ReadyCheck>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            signs_operations: true,
            refusal: None,
            hangs: false,
            refused: Vec::new(),
            events: 0,
            gap: None,
            events_end: None,
            event_bytes: 8,
            checks: vec![check("log", true), check("links", true)],
        }
    }
}

pub(super) fn check(name: &str, ok: bool) -> ReadyCheck {
    ReadyCheck {
        name: name.into(),
        ok,
        detail: "as the test says".into(),
    }
}

pub(super) struct Fake {
    pub(super) script: Script,
    pub(super) asked: Mutex<Asked>,
}

impl Fake {
    pub(super) fn new(script: Script) -> Arc<Self> {
        Arc::new(Self {
            script,
            asked: Mutex::default(),
        })
    }

    pub(super) fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().expect("no test panics while it holds it")
    }

    fn answer<T: Send + 'static>(&self, value: T) -> Answer<'_, T> {
        let (refusal, hangs) = (self.script.refusal.clone(), self.script.hangs);
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            match refusal {
                Some(refusal) => Err(refusal),
                None => Ok(value),
            }
        })
    }

    fn settle(&self, client: PublicKey, sequence: u64, wait: Wait) -> Settled {
        let refused = self.script.refused.iter().find(|(s, _)| *s == sequence);
        match refused {
            Some((_, refusal)) => Settled::Refused(Refused {
                client,
                sequence,
                error: refusal.clone().into(),
            }),
            None => Settled::Done(Box::new(submitted(client, sequence, wait))),
        }
    }
}

pub(super) fn submitted(client: PublicKey, sequence: u64, persistence: Wait) -> Submitted {
    let has_run = persistence >= Wait::Executed;
    Submitted {
        client,
        sequence,
        height: Height(9),
        index: has_run.then_some(2),
        block: has_run.then_some(Digest::ZERO),
        result: has_run.then(|| Outcome::new(0, b"ok")),
        persistence,
        certificate: None,
        reply: has_run.then_some(Reply {
            member: MemberId::default(),
            outcome: Digest::ZERO,
            signature: Signature([1; 64]),
        }),
    }
}

fn header(height: Height) -> Header {
    Header {
        version: 1,
        chain: chain(),
        height,
        view: ViewId(0),
        previous: Digest::ZERO,
        body: Digest::ZERO,
        receipts: ReceiptRoot {
            size: 0,
            root: Digest::ZERO,
        },
        state: None,
        timestamp_us: 1,
        checkpoint: Link::default(),
        reconfiguration: Link::default(),
    }
}

fn block(height: Height) -> Block {
    Block {
        header: header(height),
        kind: BlockKind::Transactions,
        digest: Digest::ZERO,
        signers: vec![MemberId::default()],
        transactions_count: 1,
        transactions: vec![BlockTransaction {
            client: secret().public(),
            sequence: 1,
            digest: Digest::ZERO,
            operation: json!({"put": {"key": "a", "value": "b"}}),
            result: Some(Outcome::new(0, &[0xff])),
        }],
    }
}

fn status() -> Status {
    Status {
        member: MemberName {
            id: MemberId::default(),
            name: "member-0".into(),
            chain: chain(),
        },
        tip: Tip {
            height: Height(9),
            group_height: Height(9),
            digest: Digest::ZERO,
            state_digest: Digest::ZERO,
            sequence: 4,
        },
        order: Order {
            role: Role::Leader,
            state: "ordering".into(),
            view: ViewId(0),
            regency: Regency(1),
            leader: None,
            quorum: 3,
            faults_tolerated: 1,
        },
        views: ViewStatus {
            state: "serving".into(),
            committee: vec![SeatEntry {
                id: MemberId::default(),
                name: "member-0".into(),
                lost: false,
            }],
            ..ViewStatus::default()
        },
        last_checkpoint: Height(0),
        retained: Retained::default(),
        faults_seen: 0,
        note: None,
        version: "0.1.0".into(),
    }
}

fn event(sequence: u64, bytes: usize) -> Event {
    Event {
        sequence,
        height: Height(sequence / 2),
        index: 0,
        client: secret().public(),
        client_sequence: sequence + 1_000,
        operation: json!("x".repeat(bytes)),
        result: Outcome::new(0, b"line\nline"),
    }
}

fn checkpoint(height: Height) -> CheckpointEntry {
    CheckpointEntry {
        height,
        digest: Digest::ZERO,
        manifest: Digest::ZERO,
        state_digest: Digest::ZERO,
        bytes: 4096,
        segments: 1,
        certified: true,
        block: Some(Height(9)),
    }
}

impl Host for Fake {
    fn views(&self, from: ViewId, limit: u32) -> Answer<'_, Views> {
        self.asked().views.push((from, limit));
        let header = header(Height(9));
        let ballot = Ballot {
            kind: Kind::Persist,
            view: ViewId(0),
            regency: Regency(0),
            height: Height(9),
            digest: header.digest(),
        };
        self.answer(Views {
            newest: ViewId(1),
            views: vec![ViewEntry {
                view: ViewId(1),
                height: Height(9),
                digest: header.digest(),
                committee: vec![MemberId::default()],
                step: Step {
                    header,
                    body: Reconfiguration {
                        next: ViewId(1),
                        assemble: (Height(8), Digest::ZERO),
                        members: Vec::new(),
                        seats: Vec::new(),
                        threshold: None,
                    },
                    certificate: Certificate {
                        ballot,
                        signers: SeatSet::default(),
                        signatures: Vec::new(),
                    },
                },
            }],
        })
    }

    fn faults(&self, _: Page) -> Answer<'_, Faults> {
        self.answer(Faults {
            faults_count: 1,
            seen: [(FaultKind::Equivocation, 1)].into(),
            faults: vec![FaultEntry {
                who: MemberId::default(),
                kind: FaultKind::Equivocation,
                height: Height(3),
                regency: Regency(0),
                evidence: "00".into(),
            }],
        })
    }

    fn checkpoints(&self) -> Answer<'_, Checkpoints> {
        self.answer(Checkpoints {
            checkpoints: vec![checkpoint(Height(7))],
            retained: Retained::default(),
            next: NextSnapshot::default(),
        })
    }

    fn checkpoint(&self, height: Height, page: Page) -> Answer<'_, Snapshot> {
        self.asked().pages.push((height, page));
        self.answer(Snapshot {
            entry: checkpoint(height),
            proof: Some(SnapshotProof {
                headers: vec!["00".into()],
                body: "00".into(),
                certificate: "00".into(),
            }),
            page: vec![SegmentEntry {
                index: 0,
                section: SectionName::Ledger,
                bytes: 4096,
                digest: Digest::ZERO,
            }],
        })
    }

    fn about(&self) -> About {
        About {
            chain: chain(),
            bounds: Bounds {
                transaction_bytes_max: 4 << 10,
                batch_bytes_max: 16 << 10,
            },
            signs_operations: self.script.signs_operations,
        }
    }

    fn submit(&self, group: SignedGroup, wait: Wait) -> Answer<'_, Answers> {
        let bounds = self.about().bounds;
        let transactions = group.transactions(&bounds).unwrap_or_default();
        let settle = |t: &Signed| self.settle(group.client, t.sequence, wait);
        let transactions = transactions.iter().map(settle).collect();
        self.asked().groups.push((group, wait));
        self.answer(Answers {
            certificate: None,
            transactions,
        })
    }

    fn submit_operation(&self, operation: Operation, wait: Wait) -> Answer<'_, Answers> {
        self.asked().operations.push((operation, wait));
        self.answer(Answers {
            certificate: None,
            transactions: vec![self.settle(secret().public(), 1, wait)],
        })
    }

    fn status(&self) -> Answer<'_, Status> {
        self.answer(status())
    }

    fn block(&self, height: Height, page: Page) -> Answer<'_, Block> {
        self.asked().pages.push((height, page));
        self.answer(block(height))
    }

    fn transaction(&self, client: PublicKey, seq: u64, proof: bool) -> Answer<'_, Transaction> {
        self.answer(Transaction {
            submitted: submitted(client, seq, Wait::Durable),
            proof: proof.then(|| golden("transaction")),
        })
    }

    fn value(&self, key: Bytes, is_certified: bool) -> Answer<'_, Value> {
        let is_absent = key.starts_with(b"absent");
        let (text, encoding) = Encoding::write(&key);
        self.asked().keys.push((key, is_certified));
        self.answer(Value {
            key: text,
            value: (!is_absent).then(|| "hello".into()),
            encoding,
            height: Height(8),
            state_root: Some(Digest::ZERO),
            certified: is_certified,
            proof: is_certified.then(|| golden("state")),
        })
    }

    fn events(&self, from: u64) -> Answer<'_, Events> {
        self.asked().events.push(from);
        let script = self.script.clone();
        let kept = (from..script.events).filter(move |s| Some(*s) != script.gap);
        let kept = stream::iter(kept).map(move |s| Ok(event(s, script.event_bytes)));
        let events: Events = match script.events_end {
            Some(refusal) => Box::pin(kept.chain(stream::iter([Err(refusal)]))),
            None => Box::pin(kept.chain(stream::pending())),
        };
        self.answer(events)
    }

    fn membership(&self, history: bool) -> Answer<'_, Membership> {
        self.answer(Membership {
            height: Height(9),
            view: 0,
            voters: 1,
            votes_needed: 1,
            changed: false,
            parameters: crate::blocks::ViewRules::default(),
            clients_count: None,
            members: vec![MemberEntry {
                id: MemberId::default(),
                name: "member-0".into(),
                status: "seated".into(),
                weight: 1,
                tags: vec!["eu".into()],
                addresses: vec!["127.0.0.1:1".into()],
                seated: true,
                identity: secret().public(),
                consensus: None,
                admitted: Height(0),
            }],
            ballots: vec![BallotEntry {
                id: Digest::ZERO,
                kind: "invite".into(),
                what: "invite 00".into(),
                member: Some(MemberId::default()),
                name: None,
                opened: Height(8),
                approvals: vec![MemberId::default()],
                rejections: Vec::new(),
            }],
            history: history.then(entry).into_iter().collect(),
        })
    }

    fn answered(&self, status: u16) {
        self.asked().statuses.push(status);
    }

    fn metrics(&self) -> String {
        "# EOF\n".into()
    }

    fn ready(&self) -> Answer<'_, Vec<ReadyCheck>> {
        self.answer(self.script.checks.clone())
    }
}

/// A door that is open.
pub(super) struct Running {
    pub(super) host: Arc<Fake>,
    pub(super) address: std::net::SocketAddr,
    pub(super) client: reqwest::Client,
    pub(super) stop: oneshot::Sender<()>,
    pub(super) task: JoinHandle<()>,
}

impl Running {
    pub(super) async fn start(script: Script, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has it");
        let host = Fake::new(script);
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            // Dropped without a word means the test is over, which is the same.
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve_with(listener, host.clone(), limits, shutdown));
        Self {
            host,
            address,
            client: reqwest::Client::new(),
            stop,
            task,
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) async fn get(&self, path: &str) -> reqwest::Response {
        let sent = self.client.get(self.url(path)).send().await;
        sent.expect("the door answers")
    }

    /// Posts `body` as `media`.
    pub(super) async fn post(
        &self,
        path: &str,
        media: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Response {
        let request = self.client.post(self.url(path)).body(body);
        let sent = request.header("content-type", media).send().await;
        sent.expect("the door answers")
    }
}

fn entry() -> HistoryEntry {
    HistoryEntry {
        place: 0,
        height: Height(8),
        by: Some(MemberId::default()),
        member: None,
        what: "opened".into(),
    }
}
