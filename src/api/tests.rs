//! The door answers as its document says, refuses with a reason, and bounds what it is sent.

mod document;
mod events;
mod fake;
mod foyer;
mod sockets;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use self::fake::{Running, Script, check, golden, group, secret, submitted};
use super::extract::read_group;
use super::*;
use crate::blocks::{SignedGroup, codec};
use crate::committee::Height;
use crate::crypto::{Digest, Tag};

const OCTETS: &str = "application/octet-stream";
const JSON: &str = "application/json; charset=utf-8";

async fn json(response: reqwest::Response) -> (u16, Json) {
    let status = response.status().as_u16();
    let body = response.bytes().await.expect("the body arrives");
    let body = serde_json::from_slice(&body).unwrap_or_else(|why| panic!("{why}: {body:?}"));
    (status, body)
}

/// Asserts that `response` is a problem with this status and code, and gives it.
async fn problem(response: reqwest::Response, status: u16, code: &str) -> Problem {
    let retry = response.headers().get("retry-after").cloned();
    let (got, body) = json(response).await;
    let problem: Problem = serde_json::from_value(body).expect("an error is a problem");
    assert_eq!((got, problem.code.as_ref()), (status, code), "{problem:?}");
    assert_eq!(problem.status, status);
    assert!(!problem.message.is_empty() && !problem.help.is_empty());
    assert_eq!(retry.is_some(), problem.retry_after_ms.is_some());
    problem
}

#[tokio::test]
async fn a_group_reaches_the_host_as_it_was_signed_and_waits_for_durable() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let sent = group(&[1, 2, 3], 100);
    let answer = door
        .post("/v1/transactions", OCTETS, codec::encode(&sent))
        .await;
    let (status, body) = json(answer).await;
    assert_eq!(status, 200, "{body}");
    let answers: Answers = serde_json::from_value(body).expect("answers read back");
    let done = |s| Settled::Done(Box::new(submitted(secret().public(), s, Wait::Durable)));
    assert_eq!(answers.transactions, [done(1), done(2), done(3)]);
    assert_eq!(door.host.asked().groups, [(sent, Wait::Durable)]);
}

#[tokio::test]
async fn the_caller_says_for_what_to_wait() {
    let door = Running::start(Script::default(), Limits::default()).await;
    for (text, wait) in [
        ("ordered", Wait::Ordered),
        ("executed", Wait::Executed),
        ("durable", Wait::Durable),
    ] {
        let path = format!("/v1/transactions?wait={text}&timeout_ms=1000");
        let body = codec::encode(&group(&[1], 10));
        let (_, body) = json(door.post(&path, OCTETS, body).await).await;
        let first = &body["transactions"][0];
        assert_eq!(first["persistence"], text);
        assert_eq!(first["result"].is_null(), wait == Wait::Ordered);
        assert_eq!(first["reply"].is_null(), wait == Wait::Ordered);
        assert_eq!(door.host.asked().groups.last().map(|g| g.1), Some(wait));
    }
}

proptest! {
    #[test]
    fn a_group_is_read_in_place_exactly_as_the_codec_reads_it(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        is_framed: bool,
    ) {
        if is_framed && bytes.len() >= 104 {
            let operations = (bytes.len() - 104) as u64;
            bytes[32..40].copy_from_slice(&operations.to_le_bytes());
        }
        let codec = codec::decode::<SignedGroup>(&bytes, 200).ok();
        let body = Bytes::from(bytes);
        let ours = read_group(&body).ok();
        prop_assert_eq!(&ours, &codec);
        if let Some(group) = ours.filter(|group| !group.bytes.is_empty()) {
            prop_assert_eq!(group.bytes.as_ptr() as usize, body.as_ptr() as usize + 40);
        }
    }
}

#[tokio::test]
async fn garbage_is_malformed() {
    let door = Running::start(Script::default(), Limits::default()).await;
    for body in [vec![], vec![0; 103], vec![0xff; 4096]] {
        let answer = door.post("/v1/transactions", OCTETS, body).await;
        problem(answer, 400, "malformed").await;
    }
    for body in [
        "",
        "{",
        "[]",
        r#"{"id": 1}"#,
        r#"{"operation": 1, "more": 2}"#,
    ] {
        let answer = door.post("/v1/transactions", JSON, body).await;
        problem(answer, 400, "malformed").await;
    }
    let deep = format!(
        r#"{{"operation": {}1{}}}"#,
        "[".repeat(2000),
        "]".repeat(2000)
    );
    problem(
        door.post("/v1/transactions", JSON, deep).await,
        400,
        "malformed",
    )
    .await;
    for path in [
        "/v1/blocks/x",
        "/v1/blocks/-1",
        "/v1/blocks/99999999999999999999",
        "/v1/transactions/zz/1",
        "/v1/kv/xyz?encoding=hex",
        "/v1/kv/%ff",
        "/v1/kv/a?certified=maybe",
        "/v1/kv/a?certifed=true",
        "/v1/status?x=1",
        "/v1/blocks/1?limit=1001",
        "/v1/events?from=x",
        "/readyz?verbos",
    ] {
        let response = door.get(path).await;
        problem(response, 400, "malformed").await;
    }
    assert!(door.host.asked().groups.is_empty());
}

#[tokio::test]
async fn an_operation_is_signed_by_the_member_where_it_allows_that() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let body = r#"{"id": "a", "operation": {"put": {"key": "k", "value": "v"}}}"#;
    let (status, answer) = json(door.post("/v1/transactions", JSON, body).await).await;
    assert_eq!(status, 200);
    let answer: Submitted = serde_json::from_value(answer).expect("one transaction");
    assert_eq!(answer, submitted(secret().public(), 1, Wait::Durable));
    let asked = Operation {
        id: Some("a".into()),
        operation: json!({"put": {"key": "k", "value": "v"}}),
    };
    assert_eq!(door.host.asked().operations, [(asked, Wait::Durable)]);

    let long = json!({"id": "i".repeat(129), "operation": 1}).to_string();
    problem(
        door.post("/v1/transactions", JSON, long).await,
        422,
        "invalid",
    )
    .await;

    let page = door.client.post(door.url("/v1/transactions")).body(body);
    let page = page
        .header("content-type", JSON)
        .header("origin", "http://evil");
    let page = page.send().await.expect("the door answers");
    problem(page, 403, "not_allowed").await;

    let script = Script {
        signs_operations: false,
        ..Script::default()
    };
    let door = Running::start(script, Limits::default()).await;
    let answer = door.post("/v1/transactions", JSON, body).await;
    problem(answer, 403, "not_allowed").await;
    assert!(door.host.asked().operations.is_empty());
}

#[tokio::test]
async fn other_content_types_are_not_taken() {
    let door = Running::start(Script::default(), Limits::default()).await;
    for media in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let answer = door.post("/v1/transactions", media, "x").await;
        problem(answer, 415, "media_type").await;
    }
    let request = door.client.post(door.url("/v1/transactions")).body("x");
    let bare = request.send().await.expect("the door answers");
    problem(bare, 415, "media_type").await;
}

fn refusals() -> Vec<(Refusal, u16, &'static str)> {
    let text = || "why".to_owned();
    vec![
        (Refusal::Malformed { reason: text() }, 400, "malformed"),
        (Refusal::BadSignature, 401, "bad_signature"),
        (Refusal::NotListed, 403, "not_listed"),
        (Refusal::NotFound { what: text() }, 404, "not_found"),
        (Refusal::Conflict, 409, "conflict"),
        (Refusal::Expired { reason: text() }, 410, "expired"),
        (
            Refusal::Pruned {
                what: text(),
                lowest: text(),
            },
            410,
            "pruned",
        ),
        (Refusal::Invalid { reason: text() }, 422, "invalid"),
        (
            Refusal::Busy {
                retry_after_ms: 1200,
            },
            429,
            "busy",
        ),
        (Refusal::NotReady { state: text() }, 503, "not_ready"),
        (Refusal::Lagging, 408, "slow_reader"),
        (Refusal::Failed { reason: text() }, 500, "failed"),
    ]
}

#[tokio::test]
async fn every_refusal_has_its_status_its_code_and_its_help() {
    for (refusal, status, code) in refusals() {
        let script = Script {
            refusal: Some(refusal),
            ..Script::default()
        };
        let door = Running::start(script, Limits::default()).await;
        let path = format!("/v1/transactions/{}/1", secret().public());
        let paths = [
            "/v1/status",
            "/v1/blocks/1",
            &path,
            "/v1/kv/a",
            "/v1/events",
        ];
        for path in paths.into_iter().chain(["/v1/membership", "/readyz"]) {
            problem(door.get(path).await, status, code).await;
        }
        let octets = codec::encode(&group(&[1], 10));
        for (media, body) in [(OCTETS, octets), (JSON, br#"{"operation":1}"#.to_vec())] {
            let answer = door.post("/v1/transactions", media, body).await;
            problem(answer, status, code).await;
        }
    }
}

#[tokio::test]
async fn busy_says_when_to_try_again_in_whole_seconds() {
    let script = Script {
        refusal: Some(Refusal::Busy {
            retry_after_ms: 1200,
        }),
        ..Script::default()
    };
    let door = Running::start(script, Limits::default()).await;
    let answer = door
        .post("/v1/transactions", OCTETS, codec::encode(&group(&[1], 1)))
        .await;
    assert_eq!(answer.headers()["retry-after"], "2");
    assert_eq!(
        problem(answer, 429, "busy").await.retry_after_ms,
        Some(1200)
    );
}

#[tokio::test]
async fn a_group_is_refused_as_a_whole_only_when_nothing_of_it_is_done() {
    let refused = vec![
        (1, Refusal::Conflict),
        (
            2,
            Refusal::Expired {
                reason: "late".into(),
            },
        ),
    ];
    let script = Script {
        refused,
        ..Script::default()
    };
    let door = Running::start(script, Limits::default()).await;
    let post = |sequences: &[u64]| {
        let body = codec::encode(&group(sequences, 10));
        door.post("/v1/transactions", OCTETS, body)
    };
    let (status, body) = json(post(&[1, 2]).await).await;
    assert_eq!((status, &body["code"]), (409, &json!("conflict")));
    assert_eq!(body["transactions"][1]["error"]["code"], "expired");
    assert_eq!(body["transactions"][1]["sequence"], 2);
    let (status, body) = json(post(&[1, 3]).await).await;
    assert_eq!(status, 200);
    assert_eq!(body["transactions"][0]["error"]["status"], 409);
    assert_eq!(body["transactions"][1]["height"], 9);
    let operation = door
        .post("/v1/transactions", JSON, r#"{"operation":1}"#)
        .await;
    problem(operation, 409, "conflict").await;
}

#[tokio::test]
async fn a_wait_that_runs_out_says_that_it_may_still_commit() {
    let script = Script {
        hangs: true,
        ..Script::default()
    };
    let limits = Limits {
        read: std::time::Duration::from_millis(5),
        ..Limits::default()
    };
    let door = Running::start(script, limits).await;
    let body = codec::encode(&group(&[1], 10));
    let answer = door
        .post("/v1/transactions?timeout_ms=5", OCTETS, body.clone())
        .await;
    let problem_found = problem(answer, 504, "timed_out").await;
    assert!(
        problem_found.message.contains("may still commit"),
        "{problem_found:?}"
    );
    assert!(
        problem_found
            .help
            .contains("/v1/transactions/{client}/{sequence}")
    );
    assert_eq!(
        door.host.asked().groups.len(),
        1,
        "the host keeps what it was given"
    );
    for bad in ["0", "120001", "x"] {
        let path = format!("/v1/transactions?timeout_ms={bad}");
        problem(
            door.post(&path, OCTETS, body.clone()).await,
            400,
            "malformed",
        )
        .await;
    }
    for path in ["/v1/status", "/v1/kv/a", "/v1/events", "/readyz"] {
        problem(door.get(path).await, 504, "timed_out").await;
    }
    assert_eq!(
        door.get("/livez").await.status(),
        200,
        "alive, though nothing answers"
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let door = Running::start(Script::default(), Limits::default()).await;
    for path in ["/", "/v1", "/v1/kv/", "/v2/status", "/v1/status/", "/%00"] {
        problem(door.get(path).await, 404, "unknown_path").await;
    }
    let delete = door.client.delete(door.url("/v1/status")).send().await;
    let delete = delete.expect("the door answers");
    assert_eq!(delete.headers()["allow"], "GET,HEAD");
    problem(delete, 405, "unknown_method").await;
    problem(door.get("/v1/transactions").await, 405, "unknown_method").await;
}

#[tokio::test]
async fn keys_are_text_or_hex_and_may_hold_anything() {
    let door = Running::start(Script::default(), Limits::default()).await;
    for (path, key) in [
        ("/v1/kv/plain", &b"plain"[..]),
        ("/v1/kv/a%2Fb%20c%3F", b"a/b c?"),
        ("/v1/kv/%C3%BC", "ü".as_bytes()),
        ("/v1/kv/00ff2f?encoding=hex", &[0x00, 0xff, 0x2f]),
        ("/v1/kv/00FF?encoding=hex&certified", &[0x00, 0xff]),
    ] {
        let (status, body) = json(door.get(path).await).await;
        assert_eq!((status, &body["value"]), (200, &json!("hello")), "{path}");
        let is_certified = path.contains("certified");
        assert_eq!(body["proof"].is_null(), !is_certified);
        let asked = door.host.asked().keys.pop().expect("the host was asked");
        assert_eq!(asked, (Bytes::copy_from_slice(key), is_certified));
    }
}

#[tokio::test]
async fn an_absent_key_is_not_found_and_proved_absent_where_asked() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let (status, body) = json(door.get("/v1/kv/absent").await).await;
    assert_eq!((status, &body["code"]), (404, &json!("absent")));
    let (status, body) = json(door.get("/v1/kv/absent?certified=true").await).await;
    assert_eq!((status, &body["certified"]), (404, &json!(true)));
    assert!(body["value"].is_null() && body["proof"].is_object());
}

#[tokio::test]
async fn blocks_are_asked_for_page_by_page() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let (_, body) = json(door.get("/v1/blocks/7?first=10&limit=5").await).await;
    assert_eq!(body["height"], 7);
    assert_eq!(body["transactions"][0]["result"]["encoding"], "hex");
    json(door.get("/v1/blocks/8").await).await;
    let page = |first, limit| Page { first, limit };
    let asked = [(Height(7), page(10, 5)), (Height(8), page(0, 1000))];
    assert_eq!(door.host.asked().pages, asked);
}

#[tokio::test]
async fn a_proof_comes_through_as_the_file_that_it_is() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let path = format!("/v1/transactions/{}/1?proof=true", secret().public());
    let (_, body) = json(door.get(&path).await).await;
    let found: Transaction = serde_json::from_value(body).expect("a transaction reads back");
    assert_eq!(found.proof, Some(golden("transaction")));
    let (_, body) = json(door.get("/v1/kv/a?certified").await).await;
    let found: Value = serde_json::from_value(body).expect("a value reads back");
    assert_eq!(found.proof, Some(golden("state")));
}

#[tokio::test]
async fn ready_names_what_is_missing() {
    let door = Running::start(Script::default(), Limits::default()).await;
    assert_eq!(
        door.get("/readyz").await.text().await.expect("text"),
        "ok\n"
    );
    let (status, body) = json(door.get("/readyz?verbose").await).await;
    assert_eq!((status, &body["ready"]), (200, &json!(true)));
    assert!(body.get("code").is_none());

    let script = Script {
        checks: vec![check("log", true), check("links", false)],
        ..Script::default()
    };
    let door = Running::start(script, Limits::default()).await;
    let found = problem(door.get("/readyz").await, 503, "not_ready").await;
    assert_eq!(found.message, "not ready: links");
    let (status, body) = json(door.get("/readyz?verbose=true").await).await;
    assert_eq!((status, &body["code"]), (503, &json!("not_ready")));
    assert_eq!(body["checks"][1]["ok"], false);
}

#[tokio::test]
async fn metrics_say_which_format_they_have() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let metrics = door.get("/metrics").await;
    let media = metrics.headers()["content-type"]
        .to_str()
        .expect("text")
        .to_owned();
    assert!(media.starts_with("application/openmetrics-text; version=1.0.0"));
    assert_eq!(metrics.text().await.expect("text"), "# EOF\n");
}

#[tokio::test]
async fn the_host_hears_how_every_request_was_answered() {
    let door = Running::start(Script::default(), Limits::default()).await;
    for path in ["/livez", "/nowhere", "/v1/status", "/v1/blocks/high"] {
        door.get(path).await;
    }
    assert_eq!(door.host.asked().statuses, [200, 404, 200, 400]);
}

#[test]
fn bytes_stand_as_text_where_people_can_read_them() {
    for (bytes, text, encoding) in [
        (&b"hello\n"[..], "hello\n", Encoding::Utf8),
        (b"", "", Encoding::Utf8),
        (&[0x00], "00", Encoding::Hex),
        (&[0xff, 0x01], "ff01", Encoding::Hex),
        (b"\x1b[31m", "1b5b33316d", Encoding::Hex),
    ] {
        assert_eq!(Encoding::write(bytes), (text.to_owned(), encoding));
        assert_eq!(encoding.read(text).as_deref(), Some(bytes));
    }
}

#[test]
fn a_reply_signs_every_field() {
    let key = secret().public();
    let zero = Digest::ZERO;
    let base = reply_statement(&zero, (&key, 1), (Height(2), 3), &zero);
    assert!(base.as_slice().starts_with(Tag::Reply.bytes()));
    assert_eq!(base.as_slice().len(), 16 + 1 + 32 + 32 + 8 + 8 + 4 + 32);
    let other = Digest::of(crate::crypto::Domain::Outcome, b"other");
    for changed in [
        reply_statement(&other, (&key, 1), (Height(2), 3), &zero),
        reply_statement(
            &zero,
            (&crate::crypto::PublicKey(other), 1),
            (Height(2), 3),
            &zero,
        ),
        reply_statement(&zero, (&key, 9), (Height(2), 3), &zero),
        reply_statement(&zero, (&key, 1), (Height(9), 3), &zero),
        reply_statement(&zero, (&key, 1), (Height(2), 9), &zero),
        reply_statement(&zero, (&key, 1), (Height(2), 3), &other),
    ] {
        assert_ne!(base, changed);
    }
}
