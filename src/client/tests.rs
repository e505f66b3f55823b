//! Grouping, escalation, wait levels and ids, over a transport that is played.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::pace::{Pace, TIMEOUT_MS_MAX, TIMEOUT_MS_MIN};
use super::session::{GroupBounds, Job, take_group};
use super::transport::{AskError, Asked, Transport};
use super::*;
use crate::api::{Answers, MemberName, Order, Problem, Refused, Reply, Role, Settled, Tip};
use crate::api::{Outcome, ViewEntry, Views, reply_statement};
use crate::blocks::tests::view_chain::Builder;
use crate::blocks::{Founder, Genesis, Step, ViewChain};
use crate::committee::{Ballot, Certificate, KeyProof, Kind, MemberId, Regency, Seat, ViewId};
use crate::crypto::Domain;

/// Ready `ms` milliseconds later by the tests' own clock, which is paused and jumps.
async fn later(ms: u64) {
    let never = std::future::pending::<()>();
    let ran_out = timeout(Duration::from_millis(ms), never).await;
    assert!(ran_out.is_err(), "nothing else makes it ready");
}

/// What one member does with a group.
#[derive(Clone, Copy, PartialEq)]
enum Acts {
    /// Answers after so many milliseconds as it should.
    After(u64),
    /// Never answers.
    Silent,
    /// Refuses with a status.
    Refuses(u16, Option<u64>),
    /// Cannot be reached.
    Gone,
    /// Gives a certificate that nobody signed.
    Forges,
}

/// Four founders, and what each does.
struct World {
    genesis: Genesis,
    identities: Vec<SecretKey>,
    /// How the present view came about, and its keys.
    views: Builder,
    /// Nobody shows how.
    hides: bool,
    acts: Mutex<Vec<Acts>>,
    /// Who was sent what, when.
    sent: Mutex<Vec<(usize, Bytes, Instant)>>,
}

impl World {
    fn new(acts: [Acts; 4]) -> Arc<Self> {
        let secret = |kind: u8, number: u8| SecretKey::from_seed([kind * 16 + number; 32]);
        let identities: Vec<_> = (0..4).map(|n| secret(1, n)).collect();
        let seats = (0..4).map(|n| secret(2, n));
        let founders = identities.iter().zip(seats).enumerate();
        let founders = founders.map(|(number, (identity, seat))| Founder {
            name: format!("member-{number}"),
            identity: identity.public(),
            consensus: Some(KeyProof::make(
                &Digest::ZERO,
                ViewId(0),
                &Digest::ZERO,
                identity,
                &seat,
            )),
            address: String::new(),
        });
        let genesis = Genesis {
            version: crate::blocks::FORMAT_VERSION,
            name: "test".into(),
            founded_us: 1,
            parameters: Parameters::default(),
            founders: founders.collect(),
            successor_of: None,
        };
        genesis.check().expect("four founders make a document");
        Arc::new(Self {
            views: Builder::new(&genesis),
            hides: false,
            genesis,
            identities,
            acts: Mutex::new(acts.to_vec()),
            sent: Mutex::default(),
        })
    }

    /// A ledger whose view changed so many times.
    fn rotated(acts: [Acts; 4], views: u64, change: impl FnOnce(&mut Self)) -> Arc<Self> {
        let mut world = Self::new(acts);
        let alone = Arc::get_mut(&mut world).expect("nobody else has it yet");
        alone.views = Builder::rotated(&alone.genesis, views);
        change(alone);
        world
    }

    fn client(self: &Arc<Self>, options: Options) -> Client {
        let rules = Rules::of(&self.genesis).expect("the document makes a view");
        // The first byte of this key's public half decides who is asked first.
        let secret = SecretKey::from_seed([9; 32]);
        let world: Arc<dyn Transport> = Arc::clone(self) as Arc<dyn Transport>;
        Client::new(world, rules, &self.genesis.parameters, secret, options)
    }

    fn sent(&self) -> Vec<(usize, Bytes, Instant)> {
        self.sent.lock().expect("no test panics here").clone()
    }

    /// How many transactions each group held that was sent, repeats aside.
    fn group_sizes(&self) -> Vec<usize> {
        let mut seen: Vec<Bytes> = Vec::new();
        for (_, bytes, _) in self.sent() {
            if !seen.contains(&bytes) {
                seen.push(bytes);
            }
        }
        seen.iter()
            .map(|bytes| self.transactions(bytes).len())
            .collect()
    }

    fn transactions(&self, bytes: &Bytes) -> Vec<Transaction> {
        let group = self.group(bytes);
        let bounds = self.genesis.parameters.bounds();
        group
            .transactions(&bounds)
            .expect("the client keeps the bounds")
    }

    fn group(&self, bytes: &Bytes) -> SignedGroup {
        codec::decode(bytes, 4 << 20).expect("the client sends an encoded group")
    }

    fn certificate(&self, height: Height) -> Certificate {
        let ballot = Ballot {
            kind: Kind::Persist,
            view: self.views.view.id(),
            regency: Regency(0),
            height,
            digest: Digest::of(Domain::Header, &height.0.to_le_bytes()),
        };
        let statement = ballot.sign_bytes(&self.genesis.chain());
        let keys = self.views.keys.iter();
        let signatures = keys.take(3).map(|key| key.sign(&statement));
        Certificate {
            ballot,
            signers: (0..3).map(Seat).collect(),
            signatures: signatures.collect(),
        }
    }

    fn answers(&self, member: usize, bytes: &Bytes, wait: Wait, is_forged: bool) -> Answers {
        let chain = self.genesis.chain();
        let group = self.group(bytes);
        let height = self.views.view.opening().height.plus(8);
        let mut certificate = (wait == Wait::Durable).then(|| self.certificate(height));
        if let Some(certificate) = certificate.as_mut().filter(|_| is_forged) {
            certificate.signatures[0].0[0] ^= 1;
        }
        let transactions = self.transactions(bytes).into_iter().enumerate();
        let settled = transactions.map(|(index, transaction)| {
            let index = u32::try_from(index).expect("small");
            let outcome = crate::blocks::receipts::outcome_digest(0, b"");
            let named = (&group.client, transaction.sequence);
            let statement = reply_statement(&chain, named, (height, index), &outcome);
            Settled::Done(Box::new(Submitted {
                client: group.client,
                sequence: transaction.sequence,
                height,
                index: Some(index),
                block: Some(Digest::ZERO),
                result: Some(Outcome::new(0, b"")),
                persistence: wait,
                certificate: None,
                reply: Some(Reply {
                    member: MemberId::of(&self.identities[member].public()),
                    outcome,
                    signature: self.identities[member].sign(&statement),
                }),
            }))
        });
        Answers {
            certificate,
            transactions: settled.collect(),
        }
    }
}

impl Transport for World {
    fn members_count(&self) -> usize {
        4
    }

    fn submit(&self, member: usize, group: Bytes, wait: Wait, _: Duration) -> Asked<'_, Answers> {
        let acts = self.acts.lock().expect("no test panics here")[member];
        let mut sent = self.sent.lock().expect("no test panics here");
        sent.push((member, group.clone(), Instant::now()));
        Box::pin(async move {
            match acts {
                Acts::After(ms) => {
                    later(ms).await;
                    Ok(self.answers(member, &group, wait, false))
                }
                Acts::Forges => Ok(self.answers(member, &group, wait, true)),
                Acts::Silent => std::future::pending().await,
                Acts::Gone => Err(AskError::Broken("connection refused".into())),
                Acts::Refuses(status, retry_after_ms) => Err(AskError::Problem(Problem {
                    retry_after_ms,
                    ..Problem::new(status, "code", "refused", "help")
                })),
            }
        })
    }

    fn status(&self, member: usize) -> Asked<'_, Status> {
        let status = Status {
            member: MemberName {
                id: MemberId::of(&self.identities[member].public()),
                name: format!("member-{member}"),
                chain: self.genesis.chain(),
            },
            tip: Tip {
                // One of them lies; nobody believes it.
                height: Height(if member == 3 { 1 << 40 } else { 7 }),
                group_height: Height(7),
                digest: Digest::ZERO,
                state_digest: Digest::ZERO,
                sequence: 0,
            },
            order: Order {
                role: Role::Follower,
                state: String::new(),
                view: self.views.view.id(),
                regency: Regency(0),
                leader: None,
                quorum: 3,
                faults_tolerated: 1,
            },
            views: crate::api::ViewStatus::default(),
            last_checkpoint: Height(0),
            retained: crate::api::Retained::default(),
            faults_seen: 0,
            note: None,
            version: String::new(),
        };
        Box::pin(std::future::ready(Ok(status)))
    }

    fn views(&self, _: usize, from: ViewId) -> Asked<'_, Views> {
        let from = usize::try_from(from.0 - 1).expect("small");
        let entry = |step: &Step| ViewEntry {
            view: step.body.next,
            height: step.header.height,
            digest: step.header.digest(),
            committee: Vec::new(),
            step: step.clone(),
        };
        // Two on a page.
        let shown = self.views.steps.iter().skip(from).take(2).map(entry);
        let page = Views {
            newest: self.views.view.id(),
            views: shown.filter(|_| !self.hides).collect(),
        };
        Box::pin(std::future::ready(Ok(page)))
    }
}

const OPERATION: Bytes = Bytes::from_static(b"operation");

fn job(wait: Wait, bytes: usize) -> Job {
    Job {
        operation: Bytes::from(vec![1; bytes]),
        wait,
        tell: oneshot::channel().0,
    }
}

#[test]
fn a_group_keeps_count_bytes_and_wait_level() {
    let bounds = GroupBounds {
        transactions_max: 4,
        bytes_max: 300,
    };
    let (durable, ordered) = (Wait::Durable, Wait::Ordered);
    let cases: [(&[(Wait, usize)], usize); 6] = [
        (&[], 0),
        (&[(durable, 10)], 1),
        (&[(durable, 10); 9], 4),
        (&[(durable, 10), (durable, 10), (ordered, 10)], 2),
        (&[(durable, 100), (durable, 100), (durable, 100)], 2),
        (&[(durable, 1_000), (durable, 1)], 1),
    ];
    for (waiting, want) in cases {
        let mut jobs: VecDeque<Job> = waiting.iter().map(|(w, b)| job(*w, *b)).collect();
        assert_eq!(take_group(&mut jobs, bounds).len(), want, "{waiting:?}");
        assert_eq!(jobs.len(), waiting.len() - want, "{waiting:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_submission_goes_at_once_and_what_waits_goes_together() {
    let world = World::new([Acts::After(20); 4]);
    let client = world.client(Options::default());
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.submit(OPERATION, Wait::Durable).await }
    });
    tokio::task::yield_now().await;
    later(5).await;
    let rest = (0..300).map(|_| client.submit(OPERATION, Wait::Durable));
    let rest = futures_util::future::join_all(rest).await;
    assert!(rest.iter().all(Result::is_ok));
    assert!(first.await.expect("no panic").is_ok());
    assert_eq!(world.group_sizes(), [1, 256, 44]);
}

#[tokio::test(start_paused = true)]
async fn silence_makes_another_member_get_the_same_bytes() {
    let mut world = World::new([Acts::Silent; 4]);
    let first = first_asked(&world);
    let mut acts = [Acts::After(10); 4];
    acts[first] = Acts::Silent;
    world = World::new(acts);
    let client = world.client(Options::default());
    let told = client.submit(OPERATION, Wait::Durable).await;
    assert_eq!(told.expect("another answers").persistence, Wait::Durable);
    let sent = world.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].1, sent[1].1, "the same signed bytes");
    assert_ne!(sent[0].0, sent[1].0);
    // The silent one is no longer preferred.
    client
        .submit(OPERATION, Wait::Durable)
        .await
        .expect("answered");
    assert_eq!(world.sent().len(), 3);
}

fn first_asked(_: &World) -> usize {
    usize::from(SecretKey::from_seed([9; 32]).public().as_bytes()[0]) % 4
}

#[tokio::test(start_paused = true)]
async fn at_most_one_more_than_the_faulty_are_asked_at_once() {
    let world = World::new([Acts::Silent; 4]);
    let options = Options {
        limit: Duration::from_secs(3),
        ..Options::default()
    };
    let told = world.client(options).submit(OPERATION, Wait::Durable).await;
    assert!(
        matches!(
            told,
            Err(ClientError::TimedOut {
                after_ms: 3_000,
                ..
            })
        ),
        "{told:?}"
    );
    assert_eq!(world.sent().len(), 2, "f + 1 of four are two");
}

#[tokio::test(start_paused = true)]
async fn two_refused_connections_do_not_say_that_nobody_answers_while_others_are_asked() {
    let mut acts = [Acts::Silent; 4];
    let first = first_asked(&World::new(acts));
    (acts[first], acts[(first + 1) % 4]) = (Acts::Gone, Acts::Gone);
    let options = Options {
        limit: Duration::from_secs(2),
        ..Options::default()
    };
    let world = World::new(acts);
    let told = world.client(options).submit(OPERATION, Wait::Durable).await;
    assert!(
        matches!(told, Err(ClientError::TimedOut { .. })),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_member_is_left_alone_for_as_long_as_it_said() {
    let mut acts = [Acts::Gone; 4];
    let first = first_asked(&World::new(acts));
    acts[first] = Acts::Refuses(429, Some(1_500));
    let world = World::new(acts);
    let options = Options {
        limit: Duration::from_secs(2),
        ..Options::default()
    };
    let start = Instant::now();
    let told = world.client(options).submit(OPERATION, Wait::Durable).await;
    assert!(told.is_err());
    let at: Vec<u128> = world
        .sent()
        .iter()
        .filter(|(member, ..)| *member == first)
        .map(|(.., at)| at.duration_since(start).as_millis())
        .collect();
    assert_eq!(at.len(), 2, "{at:?}");
    assert!(at[1] >= 1_500, "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn one_refusal_alone_decides_nothing() {
    for (acts, is_done) in [
        (
            [
                Acts::Refuses(409, None),
                Acts::After(5),
                Acts::After(5),
                Acts::After(5),
            ],
            true,
        ),
        ([Acts::Refuses(409, None); 4], false),
    ] {
        let world = World::new(acts);
        let told = world
            .client(Options::default())
            .submit(OPERATION, Wait::Durable)
            .await;
        match told {
            Ok(_) => assert!(is_done),
            Err(error) => {
                assert_eq!(error, ClientError::Conflict);
                assert!(!is_done);
                assert_eq!(world.sent().len(), 2, "f + 1 refusals are enough");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_forged_certificate_is_not_believed() {
    let mut acts = [Acts::After(5); 4];
    acts[first_asked(&World::new(acts))] = Acts::Forges;
    let world = World::new(acts);
    let told = world
        .client(Options::default())
        .submit(OPERATION, Wait::Durable)
        .await;
    assert!(told.is_ok(), "an honest member answers: {told:?}");
    assert_eq!(world.sent().len(), 2);

    let world = World::new([Acts::Forges; 4]);
    let options = Options {
        limit: Duration::from_secs(1),
        ..Options::default()
    };
    let told = world.client(options).submit(OPERATION, Wait::Durable).await;
    assert!(
        matches!(told, Err(ClientError::Unproved { .. })),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn executed_takes_the_word_of_more_than_the_faulty() {
    let world = World::new([Acts::After(5); 4]);
    let told = world
        .client(Options::default())
        .submit(OPERATION, Wait::Executed)
        .await;
    assert_eq!(told.expect("two agree").persistence, Wait::Executed);
    let asked: Vec<usize> = world.sent().iter().map(|(member, ..)| *member).collect();
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0], asked[1]);
}

#[tokio::test(start_paused = true)]
async fn expiry_follows_what_a_correct_member_says_and_the_bound() {
    for (asked, want) in [(5_000, 5_007), (1_000_000, 90_007)] {
        let world = World::new([Acts::After(1); 4]);
        let options = Options {
            expiry_blocks: asked,
            ..Options::default()
        };
        let client = world.client(options);
        client
            .submit(OPERATION, Wait::Durable)
            .await
            .expect("answered");
        let (_, bytes, _) = world.sent().remove(0);
        assert_eq!(world.transactions(&bytes)[0].expiry, Height(want));
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_sends_the_same_bytes_from_any_process_of_the_home() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = Home::at(folder.path().join("home"));
    let world = World::new([Acts::After(1); 4]);
    for _ in 0..2 {
        let client = world.client(Options::default());
        let told = client
            .submit_named(&home, "order-17", OPERATION, Wait::Durable)
            .await;
        let told = told.expect("answered");
        assert_eq!(told.sequence, sequence_of(&client.public(), "order-17"));
    }
    let sent = world.sent();
    assert_eq!(sent[0].1, sent[1].1);
    let other = Bytes::from_static(b"another");
    let client = world.client(Options::default());
    let told = client
        .submit_named(&home, "order-17", other, Wait::Durable)
        .await;
    assert_eq!(told, Err(ClientError::Conflict));
    let long = "x".repeat(ID_BYTES_MAX + 1);
    let told = client
        .submit_named(&home, &long, OPERATION, Wait::Durable)
        .await;
    assert!(matches!(told, Err(ClientError::TooLong { .. })));
}

#[test]
fn the_first_process_to_keep_an_id_decides_its_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = Home::at(folder.path().join("home"));
    let (chain, secret) = (Digest::ZERO, SecretKey::from_seed([3; 32]));
    let client = secret.public();
    let kept = |expiry| {
        let transaction = Transaction {
            sequence: 1,
            expiry: Height(expiry),
            operation: OPERATION,
        };
        let group = SignedGroup::sign(&chain, &secret, std::slice::from_ref(&transaction));
        Kept::new("id", &transaction, group)
    };
    let first = home
        .keep(&chain, &client, kept(5), Height(0))
        .expect("kept");
    let second = home
        .keep(&chain, &client, kept(6), Height(0))
        .expect("kept");
    assert_eq!((first.expiry, second.expiry), (Height(5), Height(5)));
    assert_eq!(home.kept(&chain, &client, "id").expect("read"), Some(first));
    assert_eq!(home.kept(&chain, &client, "other").expect("read"), None);
}

#[test]
fn a_key_is_made_once_and_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("home");
    let home = Home::at(&path);
    let made = home.key("default").expect("made").public();
    assert_eq!(home.key("default").expect("read").public(), made);
    assert_ne!(home.key("other").expect("made").public(), made);
    let mode = |path: &std::path::Path| {
        let found = std::fs::metadata(path).expect("is there");
        found.permissions().mode() & 0o777
    };
    let file = path.join("default.key");
    assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));
    for name in ["", "../x", ".hidden", "a/b"] {
        assert!(home.key(name).is_err(), "{name}");
    }
    let wide = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&file, wide).expect("ours");
    let refused = home.key("default").expect_err("too wide").to_string();
    assert!(refused.contains("chmod 600"), "{refused}");
}

#[test]
fn the_timeout_follows_what_was_measured_and_doubles_in_silence() {
    let mut pace = Pace::default();
    assert_eq!(pace.timeout(), Duration::from_secs(2));
    for _ in 0..50 {
        pace.answered(Duration::from_millis(10));
    }
    assert_eq!(pace.timeout(), Duration::from_millis(TIMEOUT_MS_MIN));
    pace.silent();
    assert_eq!(pace.timeout(), Duration::from_millis(2 * TIMEOUT_MS_MIN));
    (0..40).for_each(|_| pace.silent());
    assert_eq!(pace.timeout(), Duration::from_millis(TIMEOUT_MS_MAX));
    pace.answered(Duration::from_millis(10));
    assert_eq!(pace.timeout(), Duration::from_millis(TIMEOUT_MS_MIN));
}

#[tokio::test(start_paused = true)]
async fn a_client_walks_to_the_view_that_members_are_in_and_believes_it_then() {
    let world = World::rotated([Acts::After(5); 4], 5, |_| {});
    let client = world.client(Options::default());
    for wait in [Wait::Durable, Wait::Executed] {
        let told = client
            .submit(OPERATION, wait)
            .await
            .expect("it is believed");
        assert_eq!(told.height, Height(58));
    }
    assert!(!client.shared.rules.is_behind(ViewId(5)));
    assert!(client.shared.rules.is_behind(ViewId(6)));
}

#[tokio::test(start_paused = true)]
async fn a_view_that_nobody_shows_to_follow_is_not_believed() {
    type Change = fn(&mut World);
    let cases: [(&str, Change, &str); 3] = [
        (
            "hidden",
            |world| world.hides = true,
            "does not show how view 1 came about",
        ),
        (
            "forged",
            |world| world.views.steps[1].certificate.signatures.swap(0, 1),
            "view 2: its certificate: a signature does not hold",
        ),
        (
            "of another chain",
            |world| world.views.steps[2].header.chain = Digest::ZERO,
            "view 3: its block is of another chain",
        ),
    ];
    for (name, change, want) in cases {
        for wait in [Wait::Durable, Wait::Executed] {
            let world = World::rotated([Acts::After(5); 4], 3, change);
            let options = Options {
                limit: Duration::from_secs(3),
                ..Options::default()
            };
            let told = world.client(options).submit(OPERATION, wait).await;
            match (wait, told) {
                // Members' signed words hold: all of them sat in the view that is proved.
                (Wait::Executed, Ok(_)) => {}
                (_, Err(ClientError::Unproved { reason })) => {
                    assert!(reason.contains(want), "{name}: {reason}");
                }
                (_, told) => panic!("{name}: {told:?}"),
            }
        }
    }
}

#[test]
fn a_certificate_counts_between_the_first_and_the_last_block_of_its_view() {
    let world = World::rotated([Acts::Gone; 4], 2, |_| {});
    let rules = Rules::of(&world.genesis).expect("a view");
    let mut chain = ViewChain::of(&world.genesis).expect("a view");
    let verifier = crate::crypto::Verifier::ed25519();
    chain.walk(&world.views.steps, &verifier).expect("it holds");
    rules.learn(chain);
    let founders = World::new([Acts::Gone; 4]);
    for (certificate, holds) in [
        (founders.certificate(Height(10)), true),
        (founders.certificate(Height(11)), false),
        (world.certificate(Height(20)), false),
        (world.certificate(Height(21)), true),
    ] {
        let height = certificate.ballot.height;
        let told = rules.certifies(&certificate, Height(1));
        assert_eq!(told.is_ok(), holds, "height {height}: {told:?}");
    }
}

#[test]
fn a_group_of_which_nothing_executes_is_refusals() {
    let refused = Refused {
        client: SecretKey::from_seed([1; 32]).public(),
        sequence: 4,
        error: Problem::new(409, "conflict", "x", "y"),
    };
    let rules = Rules::unchecked(Digest::ZERO, 1);
    let mut tally =
        super::tally::Tally::new(&rules, Wait::Durable, refused.client, std::iter::once(4), 1);
    let answers = Answers {
        certificate: None,
        transactions: vec![Settled::Refused(refused)],
    };
    tally.hear(0, answers);
    assert!(tally.is_settled());
    assert_eq!(
        tally.into_told(&ClientError::Closed),
        [Err(ClientError::Conflict)]
    );
}

#[test]
fn messages_of_a_stream_are_events_comments_or_the_end() {
    use super::events::read_message;
    assert_eq!(read_message(b":\n\n"), Ok(None));
    assert_eq!(read_message(b"retry: 1000\n\n"), Ok(None));
    let client = "0".repeat(64);
    let event = format!(
        "id: 3\ndata: {{\"sequence\":3,\"height\":1,\"index\":0,\"client\":\"{client}\",\
         \"client_sequence\":5,\"operation\":{{\"get\":{{\"key\":\"k\"}}}},\
         \"result\":{{\"code\":0,\"value\":\"\",\"encoding\":\"utf8\"}}}}\n\n"
    );
    let read = read_message(event.as_bytes())
        .expect("an event")
        .expect("not a comment");
    assert_eq!((read.sequence, read.client_sequence), (3, 5));
    let end = b"event: error\ndata: {\"status\":503,\"code\":\"closing\",\"message\":\"m\",\
        \"help\":\"h\"}\n\n";
    assert!(matches!(read_message(end), Err(AskError::Problem(problem)) if problem.status == 503));
    assert!(matches!(
        read_message(b"data: {\n\n"),
        Err(AskError::Malformed(_))
    ));
}

#[test]
fn clients_that_were_refused_together_come_back_apart_and_none_too_early() {
    use super::roster::Roster;
    let now = tokio::time::Instant::now();
    let rests = (0..100).map(|seed| {
        let mut roster = Roster::new(1, seed);
        roster.failed(0, now, Some(1_000));
        roster.next_rested(&[]).expect("it rests") - now
    });
    let rests: std::collections::BTreeSet<Duration> = rests.collect();
    let bounds = Duration::from_millis(1_000)..Duration::from_millis(1_500);
    assert!(rests.iter().all(|rest| bounds.contains(rest)));
    assert!(rests.len() > 50, "{} of 100 differ", rests.len());
}
