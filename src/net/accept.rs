//! Incoming connections: handshakes of strangers, then frames of peers.
//!
//! Source: none. In: the listening socket. Out: [`Inbound`] for the host.
//! Holds: a stranger costs one of a few handshakes for a few seconds; a peer has one connection
//! per lane, the newest, and is read no faster than the host takes.
//! Elsewhere: outgoing connections (`dial`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::frame::{FRAME_CHARGE_BYTES, FrameError, FrameReader, Kind, header};
use super::link::{Direction, Link, Open};
use super::stats::add;
use super::{Inbound, Lane, Refusal, Shared, lock, stopped, tls};

/// How long to wait when the system gives no socket, as when it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the network stops.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut stop = shared.stop.subscribe();
    let list = Arc::downgrade(&shared);
    // Weak, for the list owns nothing of the handshakes and must not keep the network alive.
    let allowed = move |key: &_| {
        list.upgrade()
            .is_some_and(|shared| shared.book().by_key(key).is_some())
    };
    let acceptor = TlsAcceptor::from(shared.identity.server(allowed));
    let mut handshakes: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        let Ok((socket, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        handshakes.retain(|handshake| !handshake.is_finished());
        if handshakes.len() >= shared.limits.handshakes_max
            && let Some(oldest) = handshakes.pop_front()
        {
            oldest.abort();
            shared.refuse(Refusal::Crowded);
        }
        let handshake = tokio::spawn(shake_hands(shared.clone(), acceptor.clone(), socket));
        handshakes.push_back(handshake.abort_handle());
    }
}

async fn shake_hands(shared: Arc<Shared>, acceptor: TlsAcceptor, socket: TcpStream) {
    // A socket that cannot be told is slower, not wrong.
    let _slow = socket.set_nodelay(true);
    let accepted = timeout(shared.limits.handshake_timeout, acceptor.accept(socket)).await;
    let registered = match accepted {
        Ok(Ok(stream)) => register(&shared, stream),
        Ok(Err(error)) => Err(tls::reason(&error)),
        Err(_) => Err(Refusal::Timeout),
    };
    if let Err(reason) = registered {
        shared.refuse(reason);
    }
}

/// Puts a connection in the place of its peer and lane; what was there before is cut off.
fn register(shared: &Arc<Shared>, stream: TlsStream<TcpStream>) -> Result<(), Refusal> {
    let session = stream.get_ref().1;
    // An end that names no protocol passes the handshake; it ends here.
    let lane = shared.identity.lane(session.alpn_protocol());
    let lane = lane.ok_or(Refusal::WrongChain)?;
    let key = tls::shown_key(session.peer_certificates()).ok_or(Refusal::Malformed)?;
    let link = shared.book().by_key(&key).cloned();
    let link = link.ok_or(Refusal::StrangerKey)?;
    // Told outside the lock below, for the host may answer with a new list.
    let open = Open::new(shared, &link, lane, Direction::In);
    let mut inbound = lock(&shared.inbound);
    // The list may have changed meanwhile; under the lock whoever changes it waits for us.
    match shared.book().by_key(&key) {
        Some(now) if Arc::ptr_eq(now, &link) => {}
        Some(_) | None => return Err(Refusal::StrangerKey),
    }
    link.retry();
    let reader = Reader {
        shared: shared.clone(),
        link: link.clone(),
        lane,
        stop: shared.stop.subscribe(),
        _open: open,
    };
    let task = tokio::spawn(reader.run(stream)).abort_handle();
    if let Some(older) = inbound.insert((link.id, lane), task) {
        older.abort();
    }
    Ok(())
}

/// Reads one connection of a peer.
struct Reader {
    shared: Arc<Shared>,
    link: Arc<Link>,
    lane: Lane,
    stop: watch::Receiver<bool>,
    _open: Open,
}

impl Reader {
    async fn run(self, stream: TlsStream<TcpStream>) {
        let mut stop = self.stop.clone();
        let ended = tokio::select! {
            ended = self.read(stream) => ended,
            () = stopped(&mut stop) => return,
        };
        if ended != FrameError::Ended {
            add(&self.link.lane(self.lane).counters.faults, 1);
            self.shared.changed.send_replace(());
        }
    }

    async fn read(&self, stream: TlsStream<TcpStream>) -> FrameError {
        let mut frames = FrameReader::new(stream, self.lane, self.shared.limits.silence_max);
        if let Err(error) = self.answer(&mut frames, Kind::Welcome).await {
            return error;
        }
        loop {
            if let Err(error) = self.next(&mut frames).await {
                return error;
            }
        }
    }

    async fn next(&self, frames: &mut FrameReader<TlsStream<TcpStream>>) -> Result<(), FrameError> {
        let (kind, length) = frames.header().await?;
        match kind {
            Kind::Payload => {
                let at = self.link.lane(self.lane);
                let credit = self.room(frames, length).await?;
                let payload = frames.payload(length).await?;
                add(&at.counters.received, 1);
                add(&at.counters.received_bytes, length as u64);
                (self.shared.deliver)(Inbound {
                    from: self.link.id,
                    lane: self.lane,
                    payload,
                    _credit: credit,
                });
                Ok(())
            }
            Kind::Ping => self.answer(frames, Kind::Pong).await,
            // A dialer welcomes nobody and is asked nothing.
            Kind::Pong | Kind::Welcome => Err(FrameError::Kind {
                kind: header(kind, self.lane, 0)[4],
            }),
        }
    }

    /// Waits until the host has room for `length` bytes. Room comes before memory: an unread frame
    /// stays with its sender, who is told meanwhile that we live.
    async fn room(
        &self,
        frames: &mut FrameReader<TlsStream<TcpStream>>,
        length: usize,
    ) -> Result<OwnedSemaphorePermit, FrameError> {
        let charge = u32::try_from(length + FRAME_CHARGE_BYTES)
            .expect("a payload within its lane's bound fits 32 bits");
        let credits = self.link.lane(self.lane).credits.clone();
        let mut asked = std::pin::pin!(credits.acquire_many_owned(charge));
        loop {
            if let Ok(given) = timeout(self.shared.limits.ping_interval, &mut asked).await {
                return Ok(given.expect("the credits of a peer are never closed"));
            }
            self.answer(frames, Kind::Pong).await?;
        }
    }

    async fn answer(
        &self,
        frames: &mut FrameReader<TlsStream<TcpStream>>,
        kind: Kind,
    ) -> Result<(), FrameError> {
        let bytes = header(kind, self.lane, 0);
        let answer = async {
            frames.stream().write_all(&bytes).await?;
            frames.stream().flush().await
        };
        match timeout(self.shared.limits.silence_max, answer).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(FrameError::Ended),
        }
    }
}
