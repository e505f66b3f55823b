//! Bytes on the wire: sizes, speeds, garbage, counts, and the end.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpStream;

use super::super::extract::GROUP_FRAME_BYTES;
use super::super::stall::Guarded;
use super::*;

/// The body limit that the fake's bounds lead to.
const BODY_MAX: usize = (16 << 10) - 128 + GROUP_FRAME_BYTES;

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("the door listens")
}

/// Sends `bytes` and gives everything that comes back until the door closes the connection.
async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address).await;
    stream.write_all(bytes).await.expect("the door takes it");
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset ends the answer as well as a close does.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn post_head(length: &str) -> String {
    format!(
        "POST /v1/transactions HTTP/1.1\r\nhost: x\r\ncontent-type: {OCTETS}\r\n{length}\r\n\
         connection: close\r\n\r\n"
    )
}

#[tokio::test]
async fn a_body_that_says_that_it_is_too_large_is_refused_unread() {
    let door = Running::start(Script::default(), Limits::default()).await;
    for length in [BODY_MAX + 1, 1 << 40] {
        let head = post_head(&format!("content-length: {length}"));
        let answer = talk(door.address, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains(r#""code":"too_large""#), "{answer}");
    }
}

#[tokio::test]
async fn a_chunked_body_is_refused_once_it_is_too_large() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let chunks = |bytes: Vec<u8>| {
        let pieces: Vec<_> = bytes
            .chunks(1000)
            .map(|c| Ok::<_, Refusal>(c.to_vec()))
            .collect();
        reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))
    };
    let large = chunks(vec![0; BODY_MAX + 1]);
    let answer = door.post("/v1/transactions", OCTETS, large).await;
    problem(answer, 413, "too_large").await;
    let sent = group(&[1, 2], 4000);
    let answer = door
        .post("/v1/transactions", OCTETS, chunks(codec::encode(&sent)))
        .await;
    assert_eq!(answer.status(), 200);
    assert_eq!(door.host.asked().groups, [(sent, Wait::Durable)]);
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_read() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let body = vec![0; BODY_MAX];
    problem(
        door.post("/v1/transactions", OCTETS, body).await,
        400,
        "malformed",
    )
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let limits = Limits {
        body_read: Duration::from_millis(10),
        ..Limits::default()
    };
    let door = Running::start(Script::default(), limits).await;
    for length in ["content-length: 200", "transfer-encoding: chunked"] {
        let answer = talk(door.address, post_head(length).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains(r#""code":"slow_body""#), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_ends_early_reaches_nobody() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let mut stream = connect(door.address).await;
    let head = post_head("content-length: 200");
    stream
        .write_all(head.as_bytes())
        .await
        .expect("the door takes it");
    stream.shutdown().await.expect("half a close");
    rest(&mut stream).await;
    assert!(door.host.asked().groups.is_empty());
}

#[tokio::test]
async fn a_header_that_does_not_end_is_not_waited_for() {
    let limits = Limits {
        header_read: Duration::from_millis(10),
        ..Limits::default()
    };
    let door = Running::start(Script::default(), limits).await;
    for bytes in ["", "GET /livez HTTP/1.1\r\nhost:"] {
        talk(door.address, bytes.as_bytes()).await; // ends, because the door closes
    }
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let door = Running::start(Script::default(), Limits::default()).await;
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), // a TLS hello
        b"\r\n\r\n\r\nhello\r\n\r\n".to_vec(),
        vec![0xff; 1000],
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(40_000)).into_bytes(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100)).into_bytes(),
    ] {
        let answer = talk(door.address, &bytes).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(door.get("/livez").await.status(), 200);
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let limits = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let door = Running::start(Script::default(), limits).await;
    for sequence in 0..20 {
        let body = codec::encode(&group(&[sequence], 100));
        let answer = door.post("/v1/transactions", OCTETS, body).await;
        assert_eq!(json(answer).await.0, 200, "the only place is kept");
    }
}

#[tokio::test]
async fn connections_are_counted_and_the_first_too_many_is_told() {
    let limits = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let door = Running::start(Script::default(), limits).await;
    let mut held = connect(door.address).await;
    let request = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    held.write_all(request).await.expect("the door takes it");
    let mut byte = [0];
    held.read_exact(&mut byte)
        .await
        .expect("it is being served");
    let refused = door.get("/livez").await;
    problem(refused, 503, "too_many_connections").await;
    drop(held);
    while door.get("/livez").await.status() != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn closing_lets_an_open_request_finish_and_takes_no_new_one() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let mut open = connect(door.address).await;
    let sent = group(&[1], 100);
    let body = codec::encode(&sent);
    let head = post_head(&format!("content-length: {}", body.len()));
    open.write_all(head.as_bytes())
        .await
        .expect("the door takes it");
    // Only a served connection answers this one, so the first is served by then too.
    assert_eq!(door.get("/livez").await.status(), 200);
    door.stop.send(()).expect("the door is open");
    open.write_all(&body).await.expect("the door takes it");
    let answer = rest(&mut open).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    door.task.await.expect("the door closes cleanly");
    assert!(TcpStream::connect(door.address).await.is_err());
}

#[tokio::test]
async fn closing_cuts_what_does_not_finish() {
    let script = Script {
        hangs: true,
        ..Script::default()
    };
    let limits = Limits {
        drain: Duration::from_millis(10),
        ..Limits::default()
    };
    let door = Running::start(script, limits).await;
    let mut open = connect(door.address).await;
    let request = b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n";
    open.write_all(request).await.expect("the door takes it");
    assert_eq!(door.get("/livez").await.status(), 200);
    door.stop.send(()).expect("the door is open");
    door.task.await.expect("the door closes cleanly");
    assert_eq!(rest(&mut open).await, "");
}

#[tokio::test]
async fn closing_tells_who_waits_that_it_may_still_commit() {
    let script = Script {
        hangs: true,
        ..Script::default()
    };
    let limits = Limits {
        drain: Duration::from_millis(200),
        ..Limits::default()
    };
    let door = Running::start(script, limits).await;
    let body = codec::encode(&group(&[1], 100));
    let request = door.client.post(door.url("/v1/transactions")).body(body);
    let waits = tokio::spawn(request.header("content-type", OCTETS).send());
    while door.host.asked().groups.is_empty() {
        tokio::task::yield_now().await;
    }
    door.stop.send(()).expect("the door is open");
    let answer = waits
        .await
        .expect("the task ends")
        .expect("the door answers");
    let found = problem(answer, 503, "closing").await;
    assert!(found.message.contains("may still commit"));
    door.task.await.expect("the door closes cleanly");
}

#[tokio::test]
async fn a_write_that_nobody_takes_fails_and_one_that_is_taken_does_not() {
    let (near, mut far) = duplex(8);
    let mut near = Guarded::new(near, Duration::from_millis(10));
    near.write_all(&[1; 8]).await.expect("it fits");
    let stuck = near.write_all(&[1; 8]).await;
    let stuck = stuck.map_err(|why| why.kind());
    assert_eq!(stuck, Err(std::io::ErrorKind::TimedOut));
    let mut taken = [0; 8];
    far.read_exact(&mut taken).await.expect("what was written");
    near.write_all(&[2; 8]).await.expect("it fits again");
}
