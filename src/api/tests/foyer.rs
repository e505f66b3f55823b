//! A member that starts says how far it is, refuses the rest, and is then the member itself.

use std::sync::Arc;

use tokio::net::TcpListener;

use super::fake::{Fake, chain};
use super::*;
use crate::committee::{MemberId, ViewId};

struct Waiting;

impl Foyer for Waiting {
    fn starting(&self) -> Starting {
        Starting {
            member: MemberName {
                id: MemberId::default(),
                name: "delta".into(),
                chain: chain(),
            },
            state: BOOTSTRAPPING.into(),
            bootstrap: Bootstrap {
                stage: BootstrapStage::Gather,
                view: Some(ViewId(2)),
                height: Some(Height(0)),
                target_height: Some(Height(160)),
                segments_held: 77,
                segments: 190,
                bytes_held: 410,
                bytes: 1_000,
                bytes_per_second: Some(59),
                seconds_left: Some(10),
            },
            version: "1".into(),
        }
    }

    fn metrics(&self) -> String {
        "consortium_bootstrapping 1\n# EOF\n".into()
    }
}

/// The doors' address, and the way behind it.
async fn closed_door() -> (String, Arc<Entrance>) {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound listener has it");
    let entrance = Arc::new(Entrance::new(Arc::new(Waiting)));
    let serving = serve_from_start(listener, Arc::clone(&entrance), std::future::pending());
    tokio::spawn(serving);
    (format!("http://{address}"), entrance)
}

async fn get(client: &reqwest::Client, url: String) -> reqwest::Response {
    client.get(url).send().await.expect("the door answers")
}

#[tokio::test]
async fn what_starts_says_how_far_it_is_and_refuses_the_rest() {
    let (base, _entrance) = closed_door().await;
    let client = reqwest::Client::new();
    let (status, body) = json(get(&client, format!("{base}/v1/status")).await).await;
    let starting: Starting = serde_json::from_value(body).expect("it reads back");
    assert_eq!((status, starting), (200, Waiting.starting()));
    let live = get(&client, format!("{base}/livez")).await;
    assert_eq!(live.status(), 200);
    let metrics = get(&client, format!("{base}/metrics")).await;
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("consortium_bootstrapping 1"));
    problem(
        get(&client, format!("{base}/readyz")).await,
        503,
        "not_ready",
    )
    .await;
    let (status, body) = json(get(&client, format!("{base}/readyz?verbose")).await).await;
    assert_eq!((status, &body["ready"]), (503, &false.into()));
    assert_eq!(body["checks"][0]["name"], "bootstrap");
    assert_eq!(body["checks"][0]["detail"], "gather 41%");
    for path in ["/v1/kv/a", "/v1/blocks/1", "/v1/events", "/v1/nothing"] {
        let refused = get(&client, format!("{base}{path}")).await;
        let problem = problem(refused, 503, "bootstrapping").await;
        assert_eq!(problem.message, "this member is bootstrapping: gather 41%");
    }
    let large = vec![0; 1 << 20];
    let posted = client.post(format!("{base}/v1/transactions")).body(large);
    problem(
        posted.send().await.expect("an answer"),
        503,
        "bootstrapping",
    )
    .await;
    for path in ["/v1/status", "/livez", "/metrics"] {
        let posted = client.post(format!("{base}{path}")).body("x").send().await;
        problem(posted.expect("an answer"), 503, "bootstrapping").await;
    }
    problem(
        get(&client, format!("{base}/v1/status?x=1")).await,
        400,
        "malformed",
    )
    .await;
}

#[tokio::test]
async fn a_connection_that_was_open_before_meets_the_member_behind_it() {
    let (base, entrance) = closed_door().await;
    let client = reqwest::Client::new();
    let refused = get(&client, format!("{base}/v1/kv/a")).await;
    problem(refused, 503, "bootstrapping").await;
    let host = Fake::new(Script::default());
    entrance.open(host.clone());
    let found = get(&client, format!("{base}/v1/kv/a")).await;
    assert_eq!(found.status(), 200);
    assert_eq!(host.asked().keys.len(), 1);
    let (_, body) = json(get(&client, format!("{base}/v1/status")).await).await;
    serde_json::from_value::<Status>(body).expect("the member itself");
}

#[test]
fn a_start_is_as_the_document_describes() {
    let document: Json = serde_json::from_str(include_str!("../openapi.json")).expect("JSON");
    let starting = serde_json::to_value(Waiting.starting()).expect("it has a form");
    let schema = &document["components"]["schemas"]["Starting"];
    document::fits(&document, schema, &starting, "a start");
    let stages = BootstrapStage::ALL.map(BootstrapStage::name);
    let described = &document["components"]["schemas"]["Bootstrap"]["properties"]["stage"]["enum"];
    assert_eq!(described, &json!(stages));
    for stage in BootstrapStage::ALL {
        assert_eq!(json!(stage), json!(stage.name()));
    }
}
