//! Tests of the network over loopback sockets.

#![expect(
    clippy::disallowed_methods,
    reason = "a test holds what it waits for, and is short"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use proptest::collection::vec;
use proptest::prelude::*;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned,
};

use super::frame::{
    FRAME_CHARGE_BYTES, FrameError, FrameReader, HEADER_BYTES, Kind, header, parse,
};
use super::*;
use crate::crypto::{Domain, SecretKey};

/// How long a test waits for what must come; reached only when it fails.
const PATIENCE: Duration = Duration::from_secs(20);

type RawClient = StreamOwned<ClientConnection, TcpStream>;

fn secret(name: u8) -> SecretKey {
    SecretKey::from_seed([name; 32])
}

fn id(name: u8) -> PeerId {
    Digest::of(Domain::Member, secret(name).public().as_bytes())
}

fn chain(name: u8) -> Digest {
    Digest([name; 32])
}

fn peer(name: u8, at: SocketAddr) -> Peer {
    Peer {
        id: id(name),
        key: secret(name).public(),
        address: at.to_string(),
    }
}

fn socket() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let at = listener.local_addr().expect("it is bound");
    (listener, at)
}

/// An address that nobody listens at.
fn nowhere() -> SocketAddr {
    socket().1
}

fn options(name: u8, listener: TcpListener, peers: Vec<Peer>) -> Options {
    Options {
        identity: secret(name),
        chain: chain(1),
        listen: Listen::Bound(listener),
        peers,
        limits: Limits::default(),
        seed: u64::from(name),
    }
}

struct Member {
    net: Net,
    inbox: Receiver<Inbound>,
    events: Receiver<Event>,
}

impl Member {
    fn start(options: Options) -> Self {
        let (inbox_in, inbox) = channel();
        let (events_in, events) = channel();
        // Either end may be gone at the end of a test.
        let net = Net::start(
            options,
            move |inbound| drop(inbox_in.send(inbound)),
            move |event| events_in.send(event).unwrap_or(()),
        );
        Self {
            net: net.expect("the network starts"),
            inbox,
            events,
        }
    }

    fn next(&self) -> Inbound {
        self.inbox.recv_timeout(PATIENCE).expect("a payload comes")
    }

    fn event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event comes")
    }

    /// Waits until the counters satisfy `ready`.
    fn until(&self, what: &str, ready: impl Fn(&Stats) -> bool) {
        let mut changed = self.net.shared.changed.subscribe();
        let wait = async {
            while !ready(&self.net.stats()) {
                changed.changed().await.expect("the network lives");
            }
        };
        let waited = self
            .net
            .handle
            .block_on(async { tokio::time::timeout(PATIENCE, wait).await });
        assert!(waited.is_ok(), "{what}: {:?}", self.net.stats());
    }
}

/// Two members on one chain that are up for each other.
fn pair() -> (Member, Member) {
    let ((a, at_a), (b, at_b)) = (socket(), socket());
    let a = Member::start(options(1, a, vec![peer(2, at_b)]));
    let b = Member::start(options(2, b, vec![peer(1, at_a)]));
    assert_eq!((a.event(), b.event()), (Event::Up(id(2)), Event::Up(id(1))));
    (a, b)
}

/// A hand-driven end that dials `at` with `config`; nothing is sent yet.
fn raw_dial(at: SocketAddr, config: Arc<ClientConfig>) -> RawClient {
    let socket = TcpStream::connect(at).expect("a member listens there");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout above zero");
    let session = ClientConnection::new(config, tls::any_name()).expect("the name is a name");
    StreamOwned::new(session, socket)
}

/// Dials as member `name` would and waits for the welcome.
fn raw_member(name: u8, to: u8, at: SocketAddr, lane: Lane) -> RawClient {
    let identity = tls::Identity::new(&secret(name), chain(1)).expect("an ed25519 key");
    let mut client = raw_dial(at, identity.client(secret(to).public(), lane));
    let mut welcome = [0; HEADER_BYTES];
    client.read_exact(&mut welcome).expect("a welcome");
    assert_eq!(parse(welcome, lane), Ok((Kind::Welcome, 0)));
    client
}

/// Reads until the other end closes.
fn read_out(stream: &mut impl Read) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert!(
            error.kind() != std::io::ErrorKind::WouldBlock,
            "the other end never closed"
        ),
    }
}

#[test]
fn two_members_talk_on_both_lanes() {
    let (a, b) = pair();
    for lane in Lane::ALL {
        let large = Bytes::from(vec![7; lane.frame_bytes_max()]);
        let middle = Bytes::from(vec![8; 20_000]);
        let payloads = [
            Bytes::new(),
            Bytes::from_static(b"small"),
            middle,
            large,
            Bytes::from_static(b"last"),
        ];
        for payload in &payloads {
            assert_eq!(a.net.send(id(2), lane, payload.clone()), Sent::Queued);
        }
        for payload in payloads {
            let got = b.next();
            assert_eq!((got.from, got.lane), (id(1), lane));
            assert!(got.payload == payload, "{} bytes", payload.len());
        }
    }
    b.net.send(id(1), Lane::Votes, Bytes::from_static(b"back"));
    assert_eq!(a.next().payload, "back");
    assert_eq!(a.net.connected(), [id(2)]);
    let stats = &b.net.stats().peers[&id(1)];
    assert_eq!((stats.votes.received, stats.bulk.received), (5, 5));
}

#[test]
fn a_listener_refuses_a_strangers_key() {
    let ((a, at_a), (c, _)) = (socket(), socket());
    let a = Member::start(options(1, a, vec![peer(2, nowhere())]));
    let c = Member::start(options(3, c, vec![peer(1, at_a)]));
    a.until("the stranger is refused", |s| {
        s.refused[&Refusal::StrangerKey] > 0
    });
    c.until("the stranger learns it", |s| s.failed[&Refusal::Denied] > 0);
    assert!(a.net.connected().is_empty() && c.net.connected().is_empty());
}

#[test]
fn a_dialer_refuses_a_strangers_key() {
    let ((a, at_a), (c, at_c)) = (socket(), socket());
    // Member 3 listens where member 2 is expected, and would take us.
    let c = Member::start(options(3, c, vec![peer(1, at_a)]));
    let a = Member::start(options(1, a, vec![peer(2, at_c), peer(3, nowhere())]));
    a.until("the stranger is refused", |s| {
        s.failed[&Refusal::StrangerKey] > 0
    });
    c.until("the stranger learns it", |s| {
        s.refused[&Refusal::Denied] > 0
    });
    assert_eq!(a.net.stats().peers[&id(2)].votes.connects, 0);
}

#[test]
fn members_of_another_chain_are_refused_with_that_reason() {
    let ((a, at_a), (b, at_b)) = (socket(), socket());
    let a = Member::start(options(1, a, vec![peer(2, at_b)]));
    let b = Member::start(Options {
        chain: chain(2),
        ..options(2, b, vec![peer(1, at_a)])
    });
    for member in [&a, &b] {
        member.until("both sides name the chain", |s| {
            s.failed[&Refusal::WrongChain] > 0 && s.refused[&Refusal::WrongChain] > 0
        });
        assert!(member.net.connected().is_empty());
    }
}

#[test]
fn an_end_that_names_no_chain_is_refused() {
    let (a, at_a) = socket();
    let a = Member::start(options(1, a, vec![peer(2, nowhere())]));
    let identity = tls::Identity::new(&secret(2), chain(1)).expect("an ed25519 key");
    let mut config = identity.client(secret(1).public(), Lane::Votes);
    Arc::get_mut(&mut config)
        .expect("it is ours alone")
        .alpn_protocols
        .clear();
    let mut client = raw_dial(at_a, config);
    read_out(&mut client);
    a.until("it is refused", |s| s.refused[&Refusal::WrongChain] == 1);
}

#[test]
fn headers_are_checked_before_any_payload() {
    for lane in Lane::ALL {
        let max = lane.frame_bytes_max();
        assert_eq!(
            parse(header(Kind::Payload, lane, max), lane),
            Ok((Kind::Payload, max))
        );
        for length in [max + 1, u32::MAX as usize] {
            assert_eq!(
                parse(header(Kind::Payload, lane, length), lane),
                Err(FrameError::TooLong { length, max })
            );
        }
        let heartbeat = header(Kind::Ping, lane, 1);
        assert_eq!(
            parse(heartbeat, lane),
            Err(FrameError::TooLong { length: 1, max: 0 })
        );
        assert_eq!(
            parse([0, 0, 0, 0, 9], lane),
            Err(FrameError::Kind { kind: 9 })
        );
    }
    let bulk = header(Kind::Payload, Lane::Bulk, 1);
    assert_eq!(parse(bulk, Lane::Votes), Err(FrameError::Kind { kind: 1 }));
}

#[test]
fn a_reader_gives_frames_whatever_the_pieces_they_come_in() {
    let sizes = [0, 1, 5, 16_384, 16_385, 40_000, 100_000, 3];
    let mut wire = Vec::new();
    for (place, size) in sizes.into_iter().enumerate() {
        wire.extend(header(Kind::Payload, Lane::Bulk, size));
        wire.extend(vec![place as u8; size]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        for piece in [7, 4096, wire.len()] {
            let (mut near, far) = tokio::io::duplex(piece);
            let bytes = wire.clone();
            let writer = async move {
                tokio::io::AsyncWriteExt::write_all(&mut near, &bytes)
                    .await
                    .expect("the reader lives");
            };
            let reader = async {
                let mut frames = FrameReader::new(far, Lane::Bulk, PATIENCE);
                for (place, size) in sizes.into_iter().enumerate() {
                    assert_eq!(frames.header().await, Ok((Kind::Payload, size)));
                    let payload = frames.payload(size).await.expect("it is all there");
                    assert!(
                        payload == vec![place as u8; size],
                        "frame {place} by {piece}"
                    );
                }
                assert_eq!(frames.header().await, Err(FrameError::Ended));
            };
            tokio::join!(writer, reader);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_frames_within_bounds_or_an_end(bytes in vec(any::<u8>(), 0..600)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        for lane in Lane::ALL {
            runtime.block_on(async {
                let mut frames = FrameReader::new(bytes.as_slice(), lane, PATIENCE);
                while let Ok((_, length)) = frames.header().await {
                    match frames.payload(length).await {
                        Ok(payload) => assert_eq!(payload.len(), length),
                        Err(error) => assert_eq!(error, FrameError::Ended),
                    }
                }
            });
        }
        let shown = CertificateDer::from(bytes);
        assert!(tls::shown_key(Some(&[shown.clone(), shown])).is_none());
    }
}

#[test]
fn a_faulty_frame_closes_the_connection_and_is_counted() {
    let (a, at_a) = socket();
    let a = Member::start(options(1, a, vec![peer(2, nowhere())]));
    let faulty = [
        [0xff, 0xff, 0xff, 0xff, 0],
        header(Kind::Payload, Lane::Bulk, 1),
        header(Kind::Welcome, Lane::Votes, 0),
        [0, 0, 0, 0, 77],
    ];
    for (before, bytes) in faulty.into_iter().enumerate() {
        let mut client = raw_member(2, 1, at_a, Lane::Votes);
        client.write_all(&bytes).expect("it is written");
        read_out(&mut client);
        a.until("the fault is counted", |s| {
            s.peers[&id(2)].votes.faults == before as u64 + 1
        });
    }
    assert!(a.inbox.try_recv().is_err());
}

#[test]
fn garbage_in_place_of_a_handshake_is_refused() {
    let (a, at_a) = socket();
    let a = Member::start(options(1, a, vec![]));
    let pieces: [&[u8]; 3] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 64],
        &[0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff],
    ];
    for (before, piece) in pieces.into_iter().enumerate() {
        let mut socket = TcpStream::connect(at_a).expect("a member listens there");
        socket.write_all(piece).expect("it is written");
        socket
            .shutdown(std::net::Shutdown::Write)
            .expect("it is open");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout above zero");
        read_out(&mut socket);
        a.until("it is refused", |s| {
            s.refused[&Refusal::Malformed] == before as u64 + 1
        });
    }
}

#[test]
fn a_silent_handshake_is_cut_off() {
    let (a, at_a) = socket();
    let mut options = options(1, a, vec![]);
    options.limits.handshake_timeout = Duration::from_millis(30);
    let a = Member::start(options);
    let mut silent = TcpStream::connect(at_a).expect("a member listens there");
    read_out(&mut silent);
    a.until("it is counted", |s| s.refused[&Refusal::Timeout] == 1);
}

#[test]
fn silent_strangers_do_not_keep_a_member_out() {
    let (a, at_a) = socket();
    let mut options = options(1, a, vec![peer(2, nowhere())]);
    options.limits.handshakes_max = 2;
    options.limits.handshake_timeout = PATIENCE * 2;
    let a = Member::start(options);
    let silent: Vec<TcpStream> = (0..5)
        .map(|_| TcpStream::connect(at_a).expect("a member listens there"))
        .collect();
    a.until("the oldest are cut off", |s| {
        s.refused[&Refusal::Crowded] == 3
    });
    drop(raw_member(2, 1, at_a, Lane::Votes));
    drop(silent);
}

#[test]
fn a_bulk_flood_does_not_hold_up_a_vote() {
    let (a, b) = pair();
    let big = Bytes::from(vec![0; BULK_FRAME_BYTES_MAX]);
    // The other host keeps what arrives, so its credits stay spent and no more bulk is read.
    let mut held = Vec::new();
    for _ in 0..2 {
        assert_eq!(a.net.send(id(2), Lane::Bulk, big.clone()), Sent::Queued);
        held.push(b.next());
    }
    let mut stuck = 0;
    while a.net.send(id(2), Lane::Bulk, big.clone()) == Sent::Queued {
        stuck += 1;
    }
    a.net.send(id(2), Lane::Votes, Bytes::from_static(b"vote"));
    let vote = b.next();
    assert_eq!(
        (vote.lane, vote.payload.as_ref()),
        (Lane::Votes, &b"vote"[..])
    );
    // Once the host takes it, the bulk flows on.
    held.clear();
    assert!(stuck >= 2, "the queue alone holds two");
    for _ in 0..stuck {
        assert_eq!(b.next().lane, Lane::Bulk);
    }
}

#[test]
fn a_host_that_takes_nothing_holds_a_bounded_amount() {
    let ((a, at_a), (b, at_b)) = (socket(), socket());
    let b = Member::start(options(2, b, vec![peer(1, at_a)]));
    let mut a = options(1, a, vec![peer(2, at_b)]);
    a.limits.queue_messages_max = 40_000;
    let a = Member::start(a);
    let sent = 35_000;
    for _ in 0..sent {
        a.net.send(id(2), Lane::Votes, Bytes::new());
    }
    let room = b.net.shared.limits.inbound_bytes_max / FRAME_CHARGE_BYTES;
    let mut held: Vec<Inbound> = (0..room).map(|_| b.next()).collect();
    let book = b.net.shared.book();
    let credits = &book.links[&id(1)].lane(Lane::Votes).credits;
    assert_eq!(credits.available_permits(), 0);
    assert!(b.inbox.try_recv().is_err());
    held.clear();
    for _ in room..sent {
        b.next();
    }
}

#[test]
fn a_slow_host_is_not_taken_for_a_dead_peer() {
    let ((a, at_a), (b, at_b)) = (socket(), socket());
    let quick = |mut options: Options| {
        options.limits.ping_interval = Duration::from_millis(20);
        options.limits.silence_max = Duration::from_millis(400);
        options.limits.handshake_timeout = Duration::from_millis(500);
        options.limits.queue_bytes_max = 64 << 20;
        options
    };
    let a = Member::start(quick(options(1, a, vec![peer(2, at_b)])));
    let b = Member::start(quick(options(2, b, vec![peer(1, at_a)])));
    let big = Bytes::from(vec![0; BULK_FRAME_BYTES_MAX]);
    let sent = 12;
    for _ in 0..sent {
        a.net.send(id(2), Lane::Bulk, big.clone());
    }
    let held = [b.next(), b.next()];
    // Time passes, as told by handshakes that run out: more than twice the silence allowed.
    for _ in 0..2 {
        read_out(&mut TcpStream::connect(at_b).expect("a member listens there"));
    }
    drop(held);
    for _ in 2..sent {
        b.next();
    }
    let stats = a.net.stats().peers[&id(2)].bulk.clone();
    assert_eq!((stats.connects, stats.dropped), (1, 0));
}

#[test]
fn a_killed_peer_is_reached_again_and_gets_what_waits() {
    let ((a, at_a), (b, at_b)) = (socket(), socket());
    let a = Member::start(options(1, a, vec![peer(2, at_b)]));
    let b = Member::start(options(2, b, vec![peer(1, at_a)]));
    assert_eq!(a.event(), Event::Up(id(2)));
    b.net.shutdown();
    assert_eq!(a.event(), Event::Down(id(2)));
    assert!(a.net.connected().is_empty());
    a.until("both lanes know it", |s| {
        s.peers[&id(2)].votes.failures > 0 && s.peers[&id(2)].bulk.failures > 0
    });
    a.net
        .send(id(2), Lane::Votes, Bytes::from_static(b"meanwhile"));
    let listener = TcpListener::bind(at_b).expect("the port is free again");
    let b = Member::start(options(2, listener, vec![peer(1, at_a)]));
    assert_eq!(a.event(), Event::Up(id(2)));
    assert_eq!(b.next().payload, "meanwhile");
    // Under load a connection may fall once more on the way: what counts is that one was made.
    assert!(a.net.stats().peers[&id(2)].votes.connects >= 2);
}

#[test]
fn a_full_queue_drops_the_oldest_vote_and_the_newest_bulk() {
    let ((a, at_a), (b, at_b)) = (socket(), socket());
    let mut options_a = options(1, a, vec![peer(2, nowhere())]);
    options_a.limits.queue_messages_max = 3;
    let a = Member::start(options_a);
    let send = |lane, name: u8| a.net.send(id(2), lane, Bytes::from(vec![name]));
    let votes: Vec<Sent> = (1..=5).map(|name| send(Lane::Votes, name)).collect();
    let bulk: Vec<Sent> = (1..=5).map(|name| send(Lane::Bulk, name)).collect();
    let (queued, displaced, full) = (Sent::Queued, Sent::Displaced, Sent::Full);
    assert_eq!(votes, [queued, queued, queued, displaced, displaced]);
    assert_eq!(bulk, [queued, queued, queued, full, full]);
    let stats = a.net.stats().peers[&id(2)].clone();
    assert_eq!((stats.votes.queued, stats.votes.dropped), (3, 2));
    assert_eq!((stats.bulk.queued, stats.bulk.dropped), (3, 2));

    // The peer turns up at a new address.
    let b = Member::start(options(2, b, vec![peer(1, at_a)]));
    a.net.set_peers(vec![peer(2, at_b)]);
    let mut got: Vec<(Lane, u8)> = (0..6)
        .map(|_| {
            let inbound = b.next();
            (inbound.lane, inbound.payload[0])
        })
        .collect();
    got.sort_by_key(|(lane, _)| *lane); // stable: the order within a lane stays
    let expected = [(Lane::Votes, [3, 4, 5]), (Lane::Bulk, [1, 2, 3])];
    let expected = expected.map(|(lane, names)| names.map(|name| (lane, name)));
    assert_eq!(got, expected.concat());
}

#[test]
fn a_queue_holds_no_more_bytes_than_its_bound() {
    let (a, _) = socket();
    let mut options = options(1, a, vec![peer(2, nowhere())]);
    options.limits.queue_bytes_max = BULK_FRAME_BYTES_MAX + HEADER_BYTES;
    let a = Member::start(options);
    let big = Bytes::from(vec![0; BULK_FRAME_BYTES_MAX]);
    assert_eq!(a.net.send(id(2), Lane::Bulk, big.clone()), Sent::Queued);
    assert_eq!(a.net.send(id(2), Lane::Bulk, Bytes::new()), Sent::Full);
    assert_eq!(a.net.send(id(2), Lane::Votes, big), Sent::TooLarge);
    let vote = Bytes::from(vec![0; VOTES_FRAME_BYTES_MAX]);
    let sent: Vec<Sent> = (0..4)
        .map(|_| a.net.send(id(2), Lane::Votes, vote.clone()))
        .collect();
    assert_eq!(sent[..3], [Sent::Queued; 3]);
    assert_eq!(sent[3], Sent::Displaced);
    assert_eq!(a.net.send(id(9), Lane::Votes, vote), Sent::Stranger);
}

#[test]
fn a_broadcast_reaches_everybody_it_names() {
    let ((a, at_a), (b, at_b), (c, at_c)) = (socket(), socket(), socket());
    let b = Member::start(options(2, b, vec![peer(1, at_a)]));
    let c = Member::start(options(3, c, vec![peer(1, at_a)]));
    let a = Member::start(options(1, a, vec![peer(2, at_b), peer(3, at_c)]));
    let hello = Bytes::from_static(b"hello");
    let to = [id(2), id(3), id(9)];
    assert_eq!(a.net.broadcast(&to, Lane::Votes, hello), 2);
    assert_eq!(
        (b.next().payload, c.next().payload),
        ("hello".into(), "hello".into())
    );
}

#[test]
fn the_newest_connection_of_a_peer_and_lane_wins() {
    let (a, at_a) = socket();
    let a = Member::start(options(1, a, vec![peer(2, nowhere())]));
    let mut older = raw_member(2, 1, at_a, Lane::Votes);
    let bulk = raw_member(2, 1, at_a, Lane::Bulk);
    let mut newer = raw_member(2, 1, at_a, Lane::Votes);
    read_out(&mut older);
    let mut frame = header(Kind::Payload, Lane::Votes, 3).to_vec();
    frame.extend(b"new");
    newer.write_all(&frame).expect("it is written");
    assert_eq!(a.next().payload, "new");
    assert_eq!(lock(&a.net.shared.inbound).len(), 2);
    drop(bulk);
}

#[test]
fn a_peer_off_the_list_is_cut_off_and_one_put_back_is_reached() {
    let (a, b) = pair();
    let at_b = b.net.local_addr();
    a.net.set_peers(vec![]);
    assert_eq!(a.event(), Event::Down(id(2)));
    assert_eq!(b.event(), Event::Down(id(1)));
    b.until("it is denied", |s| s.failed[&Refusal::Denied] > 0);
    assert_eq!(a.net.send(id(2), Lane::Votes, Bytes::new()), Sent::Stranger);
    a.net.set_peers(vec![peer(2, at_b)]);
    assert_eq!((a.event(), b.event()), (Event::Up(id(2)), Event::Up(id(1))));
}

#[test]
fn our_own_entry_is_ignored() {
    let (a, at_a) = socket();
    let a = Member::start(options(1, a, vec![peer(1, at_a)]));
    assert_eq!(a.net.send(id(1), Lane::Votes, Bytes::new()), Sent::Stranger);
}

#[test]
fn a_dialer_that_falls_silent_is_let_go() {
    let (a, at_a) = socket();
    let mut options = options(1, a, vec![peer(2, nowhere())]);
    options.limits.ping_interval = Duration::from_millis(10);
    options.limits.silence_max = Duration::from_millis(30);
    let _a = Member::start(options);
    read_out(&mut raw_member(2, 1, at_a, Lane::Votes));
}

#[test]
fn a_listener_that_falls_silent_is_dialed_anew() {
    let ((a, _), (b, at_b)) = (socket(), socket());
    let mut options = options(1, a, vec![peer(2, at_b)]);
    options.limits.ping_interval = Duration::from_millis(10);
    options.limits.silence_max = Duration::from_millis(30);
    let a = Member::start(options);
    let identity = tls::Identity::new(&secret(2), chain(1)).expect("an ed25519 key");
    let config = identity.server(|_| true);
    // Welcomes every dialer and then says nothing.
    let mut ends = Vec::new();
    for _ in 0..3 {
        let (socket, _) = b.accept().expect("a dialer comes");
        let session = ServerConnection::new(config.clone()).expect("the configuration is sound");
        let mut end = StreamOwned::new(session, socket);
        let welcome = header(Kind::Welcome, Lane::Votes, 0);
        // The dialer may be gone already where it was kept waiting.
        drop(end.write_all(&welcome).and_then(|()| end.flush()));
        ends.push(end);
    }
    drop(a);
}

#[test]
fn heartbeats_keep_an_idle_connection_open() {
    let (a, at_a) = socket();
    let a = Member::start(options(1, a, vec![peer(2, nowhere())]));
    let mut client = raw_member(2, 1, at_a, Lane::Bulk);
    for _ in 0..3 {
        let ping = header(Kind::Ping, Lane::Bulk, 0);
        client.write_all(&ping).expect("it is written");
        let mut pong = [0; HEADER_BYTES];
        client.read_exact(&mut pong).expect("a pong");
        assert_eq!(parse(pong, Lane::Bulk), Ok((Kind::Pong, 0)));
    }
    assert_eq!(a.net.stats().peers[&id(2)].bulk.faults, 0);
}

#[test]
fn a_taken_port_is_named() {
    let (_taken, at) = socket();
    let (unused, _) = socket();
    let taken = Options {
        listen: Listen::Address(at),
        ..options(1, unused, vec![])
    };
    let error = Net::start(taken, |_| {}, |_| {}).expect_err("the port is taken");
    assert!(error.to_string().contains(&at.to_string()), "{error}");
}

#[test]
fn a_key_of_the_simulated_scheme_is_refused() {
    let (a, _) = socket();
    let simulated = Options {
        identity: SecretKey::simulated([1; 32], Digest::ZERO),
        ..options(1, a, vec![])
    };
    let error = Net::start(simulated, |_| {}, |_| {}).expect_err("it makes no TLS signature");
    assert!(matches!(error, NetError::Identity { .. }), "{error}");
}

type Spoil = fn(&mut Limits);

#[test]
fn bounds_that_nothing_could_pass_are_refused() {
    let bounds: [(&str, Spoil); 5] = [
        ("queue_bytes_max", |l| {
            l.queue_bytes_max = BULK_FRAME_BYTES_MAX
        }),
        ("inbound_bytes_max", |l| {
            l.inbound_bytes_max = BULK_FRAME_BYTES_MAX
        }),
        ("ping_interval", |l| l.ping_interval = Duration::ZERO),
        ("silence_max", |l| l.silence_max = l.ping_interval),
        ("backoff_max", |l| l.backoff_max = Duration::ZERO),
    ];
    for (name, spoil) in bounds {
        let mut options = options(1, socket().0, vec![]);
        spoil(&mut options.limits);
        let error = Net::start(options, |_| {}, |_| {}).expect_err(name);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn waits_grow_to_the_cap_and_differ_by_seed() {
    let (a, _) = socket();
    let a = Member::start(options(1, a, vec![]));
    let limits = &a.net.shared.limits;
    let waits = |peer| {
        let mut backoff = dial::Backoff::new(&a.net.shared, peer, Lane::Votes);
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        backoff.reset();
        assert!(backoff.next() <= limits.backoff_min);
        waits
    };
    let (two, three) = (waits(id(2)), waits(id(3)));
    assert_ne!(two, three);
    assert_eq!(two, waits(id(2)));
    for wait in two.iter().chain(&three) {
        assert!(*wait >= limits.backoff_min / 2 && *wait <= limits.backoff_max);
    }
    assert!(two[39] >= limits.backoff_max / 2);
}

#[test]
fn an_end_after_shutdown_sends_nothing_and_may_be_shut_down_twice() {
    let (a, b) = pair();
    a.net.send(id(2), Lane::Votes, Bytes::from_static(b"last"));
    a.net.shutdown();
    a.net.shutdown();
    assert_eq!(b.next().payload, "last");
    assert_eq!(b.event(), Event::Down(id(1)));
    a.net.send(id(2), Lane::Votes, Bytes::new());
}

/// A certificate for `member` signed by its own key, valid for a hundred years, and that key.
const SELF_MADE: (&str, &str) = (
    "3082014b3081fea0030201020214454fa828cd22dafbd1939021daaf25e2b88fec3c300506032b65703011310f30\
     0d06035504030c066d656d6265723020170d3236313132303134313931345a180f32313236313032373134313931\
     345a3011310f300d06035504030c066d656d626572302a300506032b65700321003dc8da104825fd846240d33700\
     2a8dddddf13bbad61e985e7537caf2be6e53b5a3663064301d0603551d0e0416041400b99652023094c4b420915d\
     d54069fc1f42c814301f0603551d2304183016801400b99652023094c4b420915dd54069fc1f42c814300f060355\
     1d130101ff040530030101ff30110603551d11040a300882066d656d626572300506032b65700341008e544ea737\
     51e91001de4fd24b157441894712c06038af847abe341b650f0a622ef661c27e231df22d87b68e09dae156c48368\
     8bead4cecf93c66a88123a3208",
    "302e020100300506032b65700422042097986b37e8bd57d91ad412da2f398392dc66328b2050c7c1323ee84f17c4\
     7c85",
);

fn self_made() -> (Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>) {
    let bytes = |text: &str| hex::decode(text).expect("it is hex");
    (vec![bytes(SELF_MADE.0).into()], bytes(SELF_MADE.1).into())
}

/// Believes every certificate: the fault must be found at the other end.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[test]
fn a_self_made_certificate_does_not_get_in() {
    let (a, at_a) = socket();
    let a = Member::start(options(1, a, vec![peer(2, nowhere())]));
    let identity = tls::Identity::new(&secret(2), chain(1)).expect("an ed25519 key");
    let (certificate, key) = self_made();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_client_auth_cert(certificate, key.into())
        .expect("key and certificate match");
    config.alpn_protocols = vec![identity.protocol(Lane::Votes)];
    let mut client = raw_dial(at_a, Arc::new(config));
    read_out(&mut client);
    a.until("it is refused", |s| s.refused[&Refusal::Malformed] == 1);
}

#[test]
fn a_listener_with_a_self_made_certificate_is_refused() {
    let ((a, _), (b, at_b)) = (socket(), socket());
    let a = Member::start(options(1, a, vec![peer(2, at_b)]));
    let identity = tls::Identity::new(&secret(2), chain(1)).expect("an ed25519 key");
    let (certificate, key) = self_made();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites")
        .with_no_client_auth()
        .with_single_cert(certificate, key.into())
        .expect("key and certificate match");
    config.alpn_protocols = Lane::ALL.map(|lane| identity.protocol(lane)).to_vec();
    let (socket, _) = b.accept().expect("a dialer comes");
    let session = ServerConnection::new(Arc::new(config)).expect("the configuration is sound");
    read_out(&mut StreamOwned::new(session, socket));
    a.until("it is refused", |s| s.failed[&Refusal::Malformed] > 0);
}

#[test]
fn only_tls_1_3_is_compiled_in() {
    let versions: Vec<_> = rustls::ALL_VERSIONS.iter().map(|v| v.version).collect();
    assert_eq!(versions, [rustls::ProtocolVersion::TLSv1_3]);
}

#[test]
fn one_tls_library_with_one_provider_is_in_the_tree() {
    let names: Vec<&str> = include_str!("../../Cargo.lock")
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .collect();
    for wanted in ["rustls", "ring"] {
        assert_eq!(names.iter().filter(|name| **name == wanted).count(), 1);
    }
    for name in names {
        let foreign = [
            "aws-lc",
            "openssl",
            "native-tls",
            "boring",
            "schannel",
            "graviola",
        ];
        assert!(!foreign.iter().any(|part| name.starts_with(part)), "{name}");
    }
}
