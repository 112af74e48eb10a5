//! The upstream of a comparison: gives the same answer to every request, as cheaply as it can.
//!
//! One thread on epoll. It serves TLS 1.3 for proxies, and beside it plain messages of the size of
//! TLS records for the [relay](super::relay). It costs about as much as the load generator; the
//! proxy between them does the work of both, and more.
//!
//! It counts what proxies do with connections: how many they open, how many of those resume.

use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use memchr::memmem;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use serde::{Deserialize, Serialize};

use super::traffic::{self, Orders, RECORD_BYTES};
use crate::mock::tls::{Identity, Tls};

/// Events taken from the kernel at once.
const EVENTS: usize = 256;

/// A head this long is no request of ours.
const HEAD_MAX: usize = 16 * 1024;

/// Tokens of the two listeners; connections count from 2.
const TLS: u64 = 0;
const PLAIN: u64 = 1;

/// Where it serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Port of TLS.
    pub tls: u16,
    /// Port of plain messages.
    pub plain: u16,
    /// The authority that vouches for it.
    pub ca_pem: String,
}

/// What it has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Requests over TLS.
    pub requests: u64,
    /// TLS connections with a whole handshake.
    pub full: u64,
    /// TLS connections that resumed a session.
    pub resumed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    full: AtomicU64,
    resumed: AtomicU64,
    orders: Mutex<Orders>,
}

impl Counters {
    fn orders(&self) -> Orders {
        *self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> Seen {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Seen {
            requests: of(&self.requests),
            full: of(&self.full),
            resumed: of(&self.resumed),
        }
    }
}

/// Serves until stdin closes. Prints a [`Place`] as a line of JSON, then a [`Seen`] for every line
/// that comes in. Orders (`life`, `body_bytes`, `limit`, `reset_after_ms`) in such a line hold from a
/// millisecond later on. A TLS connection lives for `life` requests, half more or less, since
/// connections that were opened together should not end together.
///
/// # Errors
/// What sockets, certificates or epoll say.
pub fn serve(mut out: impl Write) -> io::Result<()> {
    let identity = Identity::make(Tls::Valid)?.ok_or(io::ErrorKind::Unsupported)?;
    let (tls, plain) = (listen()?, listen()?);
    let place = Place {
        tls: tls.local_addr()?.port(),
        plain: plain.local_addr()?.port(),
        ca_pem: identity.ca_pem,
    };
    let counters = Arc::new(Counters::default());
    let server = Server {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        listeners: [tls, plain],
        config: identity.config,
        conns: Vec::new(),
        free: Vec::new(),
        counters: Arc::clone(&counters),
        opened: 0,
        answer: Vec::new(),
        rendered_ms: 0,
        orders: Orders::default(),
    };
    std::thread::Builder::new()
        .name("responder".to_owned())
        .spawn(move || server.run())?;
    writeln!(out, "{}", serde_json::to_string(&place)?)?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        if let Ok(orders) = serde_json::from_str(&line?) {
            *counters
                .orders
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = orders;
        }
        writeln!(out, "{}", serde_json::to_string(&counters.seen())?)?;
        out.flush()?;
    }
    Ok(())
}

fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    // The default backlog of 128 is less than the connections that a proxy opens at once.
    rustix::net::listen(&listener, 4096)?;
    Ok(listener)
}

struct Server {
    epoll: OwnedFd,
    listeners: [TcpListener; 2],
    config: Arc<ServerConfig>,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    counters: Arc<Counters>,
    /// TLS connections so far.
    opened: u64,
    /// The answer over TLS; the plain one has the bytes of a record behind it.
    answer: Vec<u8>,
    rendered_ms: u64,
    /// What the answer was written for.
    orders: Orders,
}

struct Conn {
    tcp: TcpStream,
    session: Option<Session>,
    /// Bytes that the socket did not take.
    unsent: Vec<u8>,
}

struct Session {
    tls: ServerConnection,
    /// The request that has not ended yet.
    pending: Vec<u8>,
    /// Bytes of its body that are still to come; they are thrown away.
    body_left: usize,
    /// Its head has been read, and its body not to the end.
    uploading: bool,
    counted: bool,
    /// Requests answered.
    answered: u64,
    /// A number between 0 and 1, another one for each connection.
    chance: f64,
}

impl Server {
    fn run(mut self) -> io::Result<()> {
        for (listener, token) in self.listeners.iter().zip([TLS, PLAIN]) {
            epoll::add(
                &self.epoll,
                listener,
                EventData::new_u64(token),
                EventFlags::IN,
            )?;
        }
        let mut events = Vec::with_capacity(EVENTS);
        let mut scratch = vec![0; 64 * 1024];
        loop {
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, spare, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.render();
            for event in &events {
                match event.data.u64() {
                    token @ (TLS | PLAIN) => self.accept(token)?,
                    token => self.progress(token, &mut scratch),
                }
            }
        }
    }

    /// Brings the answer's `Date` and `Reset` up to date.
    fn render(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(0);
        if now_ms == self.rendered_ms {
            return;
        }
        let orders = self.counters.orders();
        if orders != self.orders || self.rendered_ms == 0 {
            self.answer = traffic::answer(now_ms, &orders);
            self.answer.resize(self.answer.len() + RECORD_BYTES, 0);
            self.orders = orders;
        }
        let head = traffic::head(now_ms, &orders);
        self.answer[..head.len()].copy_from_slice(&head);
        self.rendered_ms = now_ms;
    }

    fn accept(&mut self, token: u64) -> io::Result<()> {
        loop {
            let tcp = match self.listeners[usize::from(token == PLAIN)].accept() {
                Ok((tcp, _)) => tcp,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // A client that left before it was accepted.
                Err(_) => continue,
            };
            tcp.set_nodelay(true)?;
            tcp.set_nonblocking(true)?;
            let session = match token {
                PLAIN => None,
                _ => Some(Session {
                    tls: self.session()?,
                    body_left: 0,
                    uploading: false,
                    pending: Vec::new(),
                    counted: false,
                    answered: 0,
                    chance: self.chance(),
                }),
            };
            let index = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(
                &self.epoll,
                &tcp,
                EventData::new_u64(index as u64 + 2),
                flags,
            )?;
            self.conns[index] = Some(Conn {
                tcp,
                session,
                unsent: Vec::new(),
            });
        }
    }

    fn session(&self) -> io::Result<ServerConnection> {
        let tls = ServerConnection::new(Arc::clone(&self.config));
        let mut tls = tls.map_err(io::Error::other)?;
        // An answer is written in one go, however long it is.
        tls.set_buffer_limit(None);
        Ok(tls)
    }

    /// Numbers spread evenly, however many are drawn: multiples of the golden ratio.
    fn chance(&mut self) -> f64 {
        self.opened += 1;
        (self.opened as f64 * 0.618_033_988_749_894_9).fract()
    }

    fn progress(&mut self, token: u64, scratch: &mut [u8]) {
        let index = usize::try_from(token - 2).unwrap_or(usize::MAX);
        let Some(Some(conn)) = self.conns.get_mut(index) else {
            return;
        };
        let moved = match &mut conn.session {
            Some(session) => session.progress(
                &mut conn.tcp,
                (
                    &self.answer[..self.answer.len() - RECORD_BYTES],
                    self.orders.life,
                ),
                &self.counters,
                scratch,
            ),
            None => conn.echo(&self.answer, scratch),
        };
        match moved {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The proxy closed the connection, or broke it: both end it.
            Ok(()) | Err(_) => {
                self.conns[index] = None;
                self.free.push(index);
            }
        }
    }
}

impl Conn {
    /// Answers a message of any length; `Ok` at the end of the connection.
    fn echo(&mut self, answer: &[u8], scratch: &mut [u8]) -> io::Result<()> {
        loop {
            while !self.unsent.is_empty() {
                let n = self.tcp.write(&self.unsent)?;
                self.unsent.drain(..n);
            }
            let n = self.tcp.read(scratch)?;
            if n == 0 {
                return Ok(());
            }
            let sent = self.tcp.write(answer)?;
            self.unsent.extend_from_slice(&answer[sent..]);
            if self.unsent.is_empty() && n < scratch.len() {
                // The next message is a new event.
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
    }
}

/// What a head says of its body's length.
fn body_bytes(head: &[u8]) -> io::Result<usize> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let head = std::str::from_utf8(head).map_err(|_| invalid())?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    length.map_or(Ok(0), |value| value.trim().parse().map_err(|_| invalid()))
}

impl Session {
    /// Whether it has lived for its share of `life`.
    fn is_over(&self, life: u64) -> bool {
        life > 0 && self.answered as f64 >= (life as f64 * (0.5 + self.chance)).ceil()
    }

    /// Takes a request out of what has come, if the whole of it has.
    fn take_request(&mut self) -> io::Result<bool> {
        if self.body_left > 0 {
            return Ok(false);
        }
        if !self.uploading {
            let Some(end) = memmem::find(&self.pending, b"\r\n\r\n") else {
                return match self.pending.len() {
                    0..=HEAD_MAX => Ok(false),
                    _ => Err(io::ErrorKind::InvalidData.into()),
                };
            };
            // No GET of ours has a body.
            if self.pending[0] != b'G' {
                self.body_left = body_bytes(&self.pending[..end])?;
            }
            self.pending.drain(..end + 4);
            let here = self.body_left.min(self.pending.len());
            self.pending.drain(..here);
            self.body_left -= here;
            self.uploading = self.body_left > 0;
            return Ok(!self.uploading);
        }
        self.uploading = false;
        Ok(true)
    }

    /// Answers what has come; `Ok` at the end of the connection.
    fn progress(
        &mut self,
        tcp: &mut TcpStream,
        (answer, life): (&[u8], u64),
        counters: &Counters,
        scratch: &mut [u8],
    ) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(tcp)?;
        }
        loop {
            if self.tls.read_tls(tcp)? == 0 {
                return Ok(());
            }
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            if let (false, Some(kind)) = (self.counted, self.tls.handshake_kind()) {
                self.counted = true;
                let counter = match kind {
                    HandshakeKind::Resumed => &counters.resumed,
                    HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => {
                        &counters.full
                    }
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let n = self.tls.reader().read(scratch)?;
                left -= n;
                let of_body = self.body_left.min(n);
                self.body_left -= of_body;
                self.pending.extend_from_slice(&scratch[of_body..n]);
            }
            let mut answered = false;
            while self.take_request()? {
                answered = true;
                counters.requests.fetch_add(1, Ordering::Relaxed);
                self.answered += 1;
                if self.is_over(life) {
                    self.tls.writer().write_all(&traffic::closing(answer))?;
                    self.tls.send_close_notify();
                    self.tls.write_tls(tcp)?;
                    return Ok(());
                }
                self.tls.writer().write_all(answer)?;
            }
            while self.tls.wants_write() {
                self.tls.write_tls(tcp)?;
            }
            if answered && state.peer_has_closed() {
                return Ok(());
            }
            if answered {
                // The next request is a new event; to read on now would find nothing.
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
    }
}
