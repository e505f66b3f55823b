//! One link between two members that a test can delay, cut, hold or corrupt, byte by byte.
//!
//! Source: reliability, delay and corruption without `netem`. In: connections to a port of its
//! own. Out: the same bytes at the target, later, changed, or not at all.
//! Holds: bytes keep their order; a connection that is cut is closed at both ends; what is held
//! is not lost. Elsewhere: who dials through it (`members`).

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Pieces of one direction that wait at once; when full, the sender waits.
const PIECES_MAX: usize = 256;
const PIECE_BYTES: usize = 16 << 10;
const LIMIT: Duration = Duration::from_secs(60);

/// What a link does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// They go through at once.
    Open,
    /// Each goes through so much later.
    Late(Duration),
    /// They wait; connections stay.
    Held,
    /// Connections are closed, new ones as well.
    Cut,
    /// One bit of the next piece's last byte is another, then they go through.
    CorruptOnce,
}

/// A listener that passes connections on to one target.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: String,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    way: Way,
    /// Connections that were passed on since the start.
    opened: u64,
    streams: Vec<TcpStream>,
    ends: bool,
}

impl Proxy {
    /// A link to `target`, open.
    pub(crate) fn new(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            target: target.into(),
            state: Mutex::new(State {
                way: Way::Open,
                opened: 0,
                streams: Vec::new(),
                ends: false,
            }),
            changed: Condvar::new(),
        });
        let accepts = Arc::clone(&shared);
        thread::spawn(move || accepts.accept(&listener));
        Self { address, shared }
    }

    /// Where to dial.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn set(&self, way: Way) {
        let mut state = self.shared.state();
        state.way = way;
        if way == Way::Cut {
            close(&mut state.streams);
        }
        self.shared.changed.notify_all();
    }

    /// Connections that were passed on since the start.
    pub(crate) fn opened(&self) -> u64 {
        self.shared.state().opened
    }

    /// Waits until more than `count` connections were passed on since the start.
    pub(crate) fn wait_for_more_than(&self, count: u64) {
        let wait = self
            .shared
            .changed
            .wait_timeout_while(self.shared.state(), LIMIT, |state| state.opened <= count);
        let (state, ended) = wait.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        assert!(!ended.timed_out(), "nobody dials {}", self.shared.target);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ends = true;
        close(&mut state.streams);
        drop(state);
        self.shared.changed.notify_all();
        // The listener looks at the state when somebody comes.
        TcpStream::connect(self.address).ok();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for incoming in listener.incoming() {
            if self.state().ends {
                return;
            }
            if let Ok(incoming) = incoming {
                // A target that is down closes the connection, as without a proxy.
                self.pass_on(incoming).ok();
            }
        }
    }

    fn pass_on(self: &Arc<Self>, incoming: TcpStream) -> io::Result<()> {
        if self.state().way == Way::Cut {
            return Ok(());
        }
        let outgoing = TcpStream::connect(&self.target)?;
        for stream in [&incoming, &outgoing] {
            stream.set_nodelay(true)?;
        }
        let ends = [
            (incoming.try_clone()?, outgoing.try_clone()?),
            (outgoing.try_clone()?, incoming.try_clone()?),
        ];
        let mut state = self.state();
        // It may have been cut since the look above.
        if state.way == Way::Cut || state.ends {
            close(&mut vec![incoming, outgoing]);
            return Ok(());
        }
        state.streams.extend([incoming, outgoing]);
        state.opened += 1;
        drop(state);
        self.changed.notify_all();
        for (from, to) in ends {
            let (give, take) = sync_channel(PIECES_MAX);
            let shared = Arc::clone(self);
            thread::spawn(move || {
                let mut from = from;
                let mut piece = vec![0; PIECE_BYTES];
                while let Ok(count @ 1..) = from.read(&mut piece) {
                    if give
                        .send((Instant::now(), piece[..count].to_vec()))
                        .is_err()
                    {
                        break;
                    }
                }
            });
            thread::spawn(move || shared.write(to, &take));
        }
        Ok(())
    }

    /// Writes what comes when the way lets it, until either end is gone.
    fn write(&self, mut to: TcpStream, pieces: &Receiver<(Instant, Vec<u8>)>) {
        for (at, mut piece) in pieces {
            let is_over = !self.wait(at, &mut piece);
            if is_over || to.write_all(&piece).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Both).ok();
    }

    /// Waits until a piece that came at `at` may go; false where it never may.
    fn wait(&self, at: Instant, piece: &mut [u8]) -> bool {
        let mut state = self.state();
        loop {
            let rest = match state.way {
                _ if state.ends => return false,
                Way::Cut => return false,
                Way::Open => return true,
                Way::CorruptOnce => {
                    state.way = Way::Open;
                    // The last byte is under the record's tag. A record's type and version are
                    // not: TLS takes a record that carries others, and nothing is amiss.
                    *piece.last_mut().expect("a piece has bytes") ^= 1;
                    return true;
                }
                Way::Late(by) => match (at + by).checked_duration_since(Instant::now()) {
                    None => return true,
                    Some(rest) => rest,
                },
                Way::Held => LIMIT,
            };
            let waited = self.changed.wait_timeout(state, rest);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn close(streams: &mut Vec<TcpStream>) {
    for stream in streams.drain(..) {
        stream.shutdown(Shutdown::Both).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::{Proxy, Way};

    /// Both ends of a connection through `proxy`.
    fn connect(proxy: &Proxy, target: &TcpListener) -> (TcpStream, TcpStream) {
        let near = TcpStream::connect(proxy.address()).expect("it listens");
        let (far, _) = target.accept().expect("it is passed on");
        (near, far)
    }

    fn target() -> (TcpListener, Proxy) {
        let target = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let proxy = Proxy::new(&target.local_addr().expect("bound").to_string());
        (target, proxy)
    }

    fn sent(near: &mut TcpStream, far: &mut TcpStream, bytes: [u8; 4]) -> [u8; 4] {
        near.write_all(&bytes).expect("it is open");
        let mut heard = [0; 4];
        far.read_exact(&mut heard).expect("it comes");
        heard
    }

    #[test]
    fn bytes_go_through_late_and_in_order() {
        let (target, proxy) = target();
        let (mut near, mut far) = connect(&proxy, &target);
        assert_eq!(sent(&mut near, &mut far, *b"once"), *b"once");
        let late = Duration::from_millis(30);
        proxy.set(Way::Late(late));
        let start = Instant::now();
        assert_eq!(sent(&mut near, &mut far, *b"late"), *b"late");
        assert!(start.elapsed() >= late);
        assert_eq!(sent(&mut far, &mut near, *b"back"), *b"back");
    }

    #[test]
    fn one_bit_of_one_piece_changes() {
        let (target, proxy) = target();
        let (mut near, mut far) = connect(&proxy, &target);
        proxy.set(Way::CorruptOnce);
        assert_eq!(sent(&mut near, &mut far, *b"abcd"), *b"abce");
        assert_eq!(sent(&mut near, &mut far, *b"abcd"), *b"abcd");
    }

    #[test]
    fn a_cut_closes_and_what_was_held_comes_later() {
        let (target, proxy) = target();
        let (mut near, mut far) = connect(&proxy, &target);
        proxy.set(Way::Held);
        near.write_all(b"held").expect("it is open");
        proxy.set(Way::Open);
        let mut heard = [0; 4];
        far.read_exact(&mut heard).expect("it comes");
        assert_eq!(heard, *b"held");
        proxy.set(Way::Cut);
        assert_eq!(near.read(&mut heard).unwrap_or(0), 0, "closed");
        assert_eq!(proxy.opened(), 1);
        proxy.set(Way::Open);
        let (mut near, mut far) = connect(&proxy, &target);
        assert_eq!(sent(&mut near, &mut far, *b"anew"), *b"anew");
    }
}
