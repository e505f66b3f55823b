//! Event streams are gap-free, resume where they ended, and never pile up.

use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use futures_util::StreamExt;
use tokio::sync::watch;

use super::super::events::events;
use super::super::extract::Ask;
use super::super::routes::Door;
use super::fake::Fake;
use super::*;

/// Reads a stream until `is_enough` of its text.
async fn read(response: reqwest::Response, is_enough: impl Fn(&str) -> bool) -> String {
    let mut pieces = response.bytes_stream();
    let mut text = String::new();
    while !is_enough(&text) {
        match pieces.next().await {
            Some(Ok(piece)) => text += std::str::from_utf8(&piece).expect("events are text"),
            Some(Err(_)) | None => break,
        }
    }
    text
}

fn ids(text: &str) -> Vec<u64> {
    let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
    ids.map(|id| id.parse().expect("an id is a sequence"))
        .collect()
}

fn script(events: u64) -> Script {
    Script {
        events,
        ..Script::default()
    }
}

#[tokio::test]
async fn every_event_comes_once_in_order_with_its_sequence_as_id() {
    let door = Running::start(script(500), Limits::default()).await;
    let response = door.get("/v1/events?from=3").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = read(response, |text| {
        text.contains("id: 499\n") && text.ends_with("\n\n")
    })
    .await;
    assert_eq!(ids(&text), (3..500).collect::<Vec<_>>());
    let data: Vec<Event> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("an event in one line"))
        .collect();
    assert_eq!(data[0].sequence, 3);
    assert_eq!(data[0].client_sequence, 1003);
    assert_eq!(data[0].result.value, "line\nline");
}

#[tokio::test]
async fn a_reader_resumes_behind_the_last_event_it_saw() {
    let door = Running::start(script(10), Limits::default()).await;
    for (path, last, first) in [
        ("/v1/events", None, 0),
        ("/v1/events?from=4", None, 4),
        ("/v1/events?from=4", Some("6"), 7),
        ("/v1/events", Some("8"), 9),
    ] {
        let request = door.client.get(door.url(path));
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        let response = request.send().await.expect("the door answers");
        let text = read(response, |text| text.contains("id: 9\n")).await;
        assert_eq!(ids(&text).first(), Some(&first));
        assert_eq!(door.host.asked().events.pop(), Some(first));
    }
    for last in ["x", "-1", "18446744073709551615"] {
        let request = door.client.get(door.url("/v1/events"));
        let response = request.header("last-event-id", last).send().await;
        let response = response.expect("the door answers");
        problem(response, 400, "malformed").await;
    }
}

#[tokio::test]
async fn a_stream_that_the_host_ends_says_why_and_gives_no_new_id() {
    for (end, code) in [
        (Refusal::Lagging, "slow_reader"),
        (
            Refusal::Pruned {
                what: "event 3".into(),
                lowest: "event 7".into(),
            },
            "pruned",
        ),
    ] {
        let script = Script {
            events_end: Some(end),
            ..script(3)
        };
        let door = Running::start(script, Limits::default()).await;
        let text = read(door.get("/v1/events").await, |_| false).await;
        let (_, tail) = text.split_once("id: 2\n").expect("all three came");
        let (_, error) = tail.split_once("event: error\ndata: ").expect("an error");
        let error: Problem = serde_json::from_str(error.trim()).expect("a problem");
        assert_eq!(error.code, code);
        assert!(!tail.contains("id:"));
    }
}

#[tokio::test]
async fn a_gap_is_never_passed_on() {
    let script = Script {
        gap: Some(5),
        ..script(10)
    };
    let door = Running::start(script, Limits::default()).await;
    let text = read(door.get("/v1/events").await, |_| false).await;
    assert_eq!(ids(&text), [0, 1, 2, 3, 4]);
    assert!(text.contains("event 6 came where 5 was due"), "{text}");
}

#[tokio::test]
async fn streams_are_counted_and_a_place_is_free_again_when_one_ends() {
    let limits = Limits {
        readers_max: 2,
        ..Limits::default()
    };
    let door = Running::start(script(1), limits).await;
    let first = door.get("/v1/events").await;
    let second = door.get("/v1/events").await;
    assert_eq!(
        (first.status().as_u16(), second.status().as_u16()),
        (200, 200)
    );
    problem(door.get("/v1/events").await, 429, "too_many_readers").await;
    drop(first);
    while door.get("/v1/events").await.status() != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_idle_stream_shows_that_it_lives() {
    let limits = Limits {
        keep_alive: Duration::from_millis(1),
        ..Limits::default()
    };
    let door = Running::start(script(0), limits).await;
    let text = read(door.get("/v1/events").await, |text| {
        text.contains("\n\n:\n\n")
    })
    .await;
    assert!(text.starts_with("retry: "));
}

#[tokio::test]
async fn a_reader_that_takes_too_long_for_a_piece_is_told_to_resume() {
    let limits = Limits {
        reader_slow: Duration::ZERO,
        ..Limits::default()
    };
    let (_close, closing) = watch::channel(false);
    let door = Door::new(Fake::new(script(u64::MAX)), limits, closing);
    let query = serde_json::from_str("{}").expect("an empty query");
    let response = events(State(door.clone()), Ask(query), HeaderMap::new()).await;
    let response = response.unwrap_or_else(|problem| panic!("{problem:?}"));
    let mut pieces = response.into_body().into_data_stream();
    let mut piece = async || pieces.next().await.map(|piece| piece.expect("no error"));
    assert_eq!(piece().await.as_deref(), Some(&b"retry: 1000\n\n"[..]));
    let error = piece().await.expect("it is told");
    assert!(error.starts_with(b"event: error\n"), "{error:?}");
    assert_eq!(piece().await, None);
    drop(pieces);
    assert_eq!(door.readers.available_permits(), limits.readers_max);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off_and_nothing_piles_up() {
    let limits = Limits {
        readers_max: 1,
        write_stall: Duration::from_millis(20),
        ..Limits::default()
    };
    let script = Script {
        event_bytes: 16 << 10,
        ..script(u64::MAX)
    };
    let door = Running::start(script, limits).await;
    let stuck = door.get("/v1/events").await;
    assert_eq!(stuck.status(), 200);
    while door.get("/v1/events").await.status() == 429 {
        tokio::task::yield_now().await;
    }
    let text = read(stuck, |_| false).await;
    let got = ids(&text);
    assert!(
        got.iter().copied().eq(0..got.len() as u64),
        "what came is gap-free"
    );
}

#[tokio::test]
async fn a_closing_door_ends_its_streams() {
    let door = Running::start(script(2), Limits::default()).await;
    let response = door.get("/v1/events").await;
    door.stop.send(()).expect("the door is open");
    let text = read(response, |_| false).await;
    assert!(text.contains(r#""code":"closing""#), "{text}");
    door.task.await.expect("the door closes cleanly");
}
