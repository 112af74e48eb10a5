//! One client connection of the forward proxy: a head, what it asks for, the next head.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use monoio::io::{AsyncReadRent, OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::TcpStream;

use super::connect::connect;
use super::exchange::{self, Request};
use super::hosts::Destination;
use super::hub::Hub;
use super::registry::{Entry, Registered, State};
use super::tunnel::Tunnel;
use super::upstream::Up;
use super::watch;
use super::worker::Worker;
use crate::clock::{self, Instant};
use crate::http1::{
    BadRequest, Framing, Parse, Proxied, Reply, Version, may_complete, parse_proxied,
};
use crate::io::Buf;
use crate::io::first::{First, first};
use crate::io::socket::{Half, Peek, peek, read_now, read_some, shut, write_all};
use crate::metrics::ForwardRefusal;

/// Room asked for before a read of a head.
const READ_ROOM: usize = 1024;

/// Bytes of the first read of a request, which every idle connection holds.
const FIRST_BYTES: usize = 512;

/// How long a connection to a host is kept for the client's next request, with its slot. Those who send
/// one request after another do so within it; a slot is too dear to lie idle for longer.
const KEPT: Duration = Duration::from_secs(2);

/// Bytes and time granted to a client that still sends when its connection is to be closed: a close
/// with unread bytes would reset it, and it could lose the answer (RFC 9112 9.6).
const LINGER_BYTES_MAX: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// When a client that is refused for a limit should ask again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What begins a tunnel.
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// A client connection and what has been read from it.
pub(super) struct Client {
    /// Before the sockets, since it is dropped in this order.
    kept: Option<Box<Up>>,
    registered: Registered,
    pub(super) fd: RawFd,
    pub(super) reader: OwnedReadHalf<TcpStream>,
    pub(super) writer: OwnedWriteHalf<TcpStream>,
    from: SocketAddr,
    spoke: bool,
    /// Read and not yet taken.
    pub(super) inbuf: Buf,
    /// On its way to the client.
    pub(super) outbuf: Buf,
}

/// How a request left the connection.
enum Next {
    Request,
    Close,
    /// To be closed; the client may still be sending.
    Linger,
    /// It is a tunnel now.
    Tunnel(Up),
}

/// What a head asks for, taken out of the buffer.
enum Asked {
    Connect(Destination),
    Request(Box<Request>, Destination),
}

impl Client {
    pub(super) fn new(worker: &Worker, stream: TcpStream, from: SocketAddr) -> Self {
        let fd = stream.as_raw_fd();
        let registered = worker.registry.enter(&stream, clock::now());
        let (reader, writer) = stream.into_split();
        Self {
            kept: None,
            registered,
            fd,
            reader,
            writer,
            from,
            spoke: false,
            inbuf: Buf::new(),
            outbuf: Buf::new(),
        }
    }

    pub(super) fn entry(&self) -> &Rc<Entry> {
        &self.registered.entry
    }
}

/// Serves one connection until it ends or becomes a tunnel.
pub(super) async fn serve(worker: Rc<Worker>, mut client: Client) -> Option<Box<Tunnel>> {
    while await_request(&worker, &mut client).await {
        client.entry().set(State::Busy);
        client.entry().touch(clock::now());
        // Boxed, so that a connection that waits for a request does not hold what one needs.
        let next = Box::pin(request(&worker, &mut client)).await;
        match next {
            Next::Request => {}
            Next::Close => return None,
            Next::Linger => {
                Box::pin(linger(&worker, &mut client)).await;
                return None;
            }
            Next::Tunnel(up) => return Some(Tunnel::new(client, up)),
        }
        client.inbuf.release();
        client.outbuf.release();
    }
    None
}

/// Waits, holding no pooled buffer, until the client says something. False if it does not.
async fn await_request(worker: &Rc<Worker>, client: &mut Client) -> bool {
    if !client.inbuf.is_empty() {
        return !worker.hub.is_aborting();
    }
    client.entry().set(State::Idle);
    if worker.hub.is_draining() && client.spoke {
        return false;
    }
    let patience = if client.spoke {
        worker.hub.client_idle_timeout
    } else {
        worker.hub.header_timeout
    };
    let armed = worker.deadlines.arm_after(&client.fd, Half::Read, patience);
    let Client { reader, kept, .. } = client;
    let mut read = pin!(reader.read(Vec::with_capacity(FIRST_BYTES)));
    let (read, bytes) = if kept.is_some() {
        match first(read.as_mut(), Box::pin(monoio::time::sleep(KEPT))).await {
            First::Left(result) => result,
            First::Right(()) => {
                *kept = None;
                read.await
            }
        }
    } else {
        read.await
    };
    if armed.expired() || !matches!(read, Ok(1..)) {
        return false;
    }
    client.spoke = true;
    client.inbuf.push(&bytes);
    if bytes.len() == FIRST_BYTES {
        read_now(&client.fd, &mut client.inbuf);
    }
    true
}

/// Takes one request from the connection and serves it.
async fn request(worker: &Rc<Worker>, client: &mut Client) -> Next {
    let since = clock::now();
    let asked = match read_head(worker, client).await {
        Ok(Some(asked)) => asked,
        Ok(None) => return Next::Close,
        Err(refused) => {
            let Refused { reason, bad } = refused;
            worker.hub.refuse(reason);
            let reply = match bad {
                Some(bad) => Reply::bad_request(bad),
                None => reply(worker, reason),
            };
            send(worker, client, &reply, false).await;
            return Next::Linger;
        }
    };
    match asked {
        Asked::Connect(destination) => tunnel(worker, client, destination).await,
        Asked::Request(request, destination) => {
            exchange::serve(worker, client, &request, destination, since)
                .await
                .into()
        }
    }
}

impl From<exchange::After> for Next {
    fn from(after: exchange::After) -> Self {
        match after {
            exchange::After::Request => Self::Request,
            exchange::After::Close => Self::Close,
            exchange::After::Linger => Self::Linger,
        }
    }
}

/// Why a head is not served.
struct Refused {
    reason: ForwardRefusal,
    bad: Option<BadRequest>,
}

impl Refused {
    fn malformed(bad: BadRequest) -> Self {
        Self {
            reason: ForwardRefusal::Malformed,
            bad: Some(bad),
        }
    }
}

/// Reads the rest of a head that has begun, and judges who sent it. `None` if the connection ended
/// inside it.
async fn read_head(worker: &Rc<Worker>, client: &mut Client) -> Result<Option<Asked>, Refused> {
    let until = clock::now() + worker.hub.header_timeout;
    let mut seen = 0;
    loop {
        let bytes = client.inbuf.as_slice();
        if seen == 0 || may_complete(bytes, seen) {
            match parse_proxied(bytes) {
                Parse::Complete(head) => {
                    let (asked, len) = judge(worker, &head)?;
                    client.inbuf.consume(len);
                    return Ok(Some(asked));
                }
                Parse::Invalid(bad) => return Err(Refused::malformed(bad)),
                Parse::Partial => {}
            }
        }
        seen = bytes.len();
        let armed = worker.deadlines.arm(&client.fd, Half::Read, until);
        let count = read_some(&mut client.reader, &mut client.inbuf, READ_ROOM).await;
        if armed.expired() || !matches!(count, Ok(1..)) {
            return Ok(None);
        }
    }
}

/// Who asks, and where to.
fn judge(worker: &Worker, head: &Proxied<'_>) -> Result<(Asked, usize), Refused> {
    if !worker.hub.lets_in(head.proxy_authorization()) {
        return Err(Refused {
            reason: ForwardRefusal::Unauthorized,
            bad: None,
        });
    }
    let target = || Refused::malformed(BadRequest::Target);
    match head {
        Proxied::Connect(connect) => {
            let destination = Destination::parse(connect.authority, None).ok_or_else(target)?;
            Ok((Asked::Connect(destination), connect.len))
        }
        Proxied::Request(head) => {
            let authority = head.authority.ok_or_else(target)?;
            let destination = Destination::parse(authority, Some(80)).ok_or_else(target)?;
            let request = Request::new(head, authority);
            Ok((Asked::Request(Box::new(request), destination), head.len))
        }
    }
}

/// Opens a tunnel.
async fn tunnel(worker: &Rc<Worker>, client: &mut Client, destination: Destination) -> Next {
    client.kept = None;
    let up = match open(worker, client, destination, None).await {
        None => return Next::Close,
        Some(Ok(up)) => up,
        Some(Err(reason)) => {
            send(worker, client, &reply(worker, reason), false).await;
            return Next::Linger;
        }
    };
    client.outbuf.push(ESTABLISHED);
    match write_all(&mut client.writer, &mut client.outbuf).await {
        Ok(()) => {
            client.outbuf.release();
            Next::Tunnel(*up)
        }
        Err(_) => Next::Close,
    }
}

/// A connection to `destination`: the one that was kept, if it is to there and still stands, or a new
/// one. `None` if the client leaves before. A refusal is counted.
pub(super) async fn open(
    worker: &Rc<Worker>,
    client: &mut Client,
    destination: Destination,
    since: Option<Instant>,
) -> Option<Result<Box<Up>, ForwardRefusal>> {
    if let Some(kept) = client.kept.take()
        && kept.destination == destination
        && peek(&*kept) == Peek::Quiet
    {
        return Some(Ok(kept));
    }
    let entry = client.entry().clone();
    entry.set(State::Waiting);
    let from = client.from;
    let waiting = Waiting::new(&worker.hub);
    let opening = Box::pin(connect(worker, &entry, from, destination));
    let left = watch::left(client, &worker.hub, since);
    let opened = match first(first(opening, left), worker.refusing.heard()).await {
        First::Left(First::Left(opened)) => opened,
        First::Left(First::Right(())) => return None,
        First::Right(()) => Err(ForwardRefusal::Draining),
    };
    drop(waiting);
    entry.set(State::Busy);
    entry.touch(clock::now());
    if let Err(reason) = opened {
        worker.hub.refuse(reason);
        tracing::debug!(from = %client.from, reason = reason.as_str(), "not connected");
    }
    Some(opened.map(Box::new))
}

/// A client that waits for a host, counted until dropped.
struct Waiting<'h>(&'h Hub);

impl<'h> Waiting<'h> {
    fn new(hub: &'h Hub) -> Self {
        hub.waiting.fetch_add(1, Ordering::Relaxed);
        Self(hub)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Client {
    pub(super) fn has_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Keeps a connection for the next request, unless others want its slot.
    pub(super) fn keep(&mut self, up: Box<Up>) {
        if !up.slot.is_wanted() {
            self.kept = Some(up);
        }
    }
}

/// What a client is told that is not served.
pub(super) fn reply(worker: &Worker, reason: ForwardRefusal) -> Reply<'static> {
    let (status, message) = match reason {
        ForwardRefusal::Full => (
            worker.hub.settings.reject_status.code(),
            "the host has as many connections as it may",
        ),
        ForwardRefusal::WaitedTooLong => (
            worker.hub.settings.reject_status.code(),
            "no connection to the host came free in time",
        ),
        ForwardRefusal::Bound => (503, "too many wait, or too many hosts are connected to"),
        ForwardRefusal::Shared => (503, "the count shared with other proxies is out of reach"),
        ForwardRefusal::Forbidden => (403, "this host may not be reached from here"),
        ForwardRefusal::Unauthorized => (407, "name and password are asked for"),
        ForwardRefusal::Address => (403, "this address may not use the proxy"),
        ForwardRefusal::ConnectionsFull => (503, "the proxy has as many clients as it may"),
        ForwardRefusal::Malformed => (400, "the request could not be understood"),
        ForwardRefusal::Dns => (502, "the host has no address"),
        ForwardRefusal::Unreachable => (502, "the host does not accept connections"),
        ForwardRefusal::ConnectTimeout => (504, "the host did not accept in time"),
        ForwardRefusal::Broken => (502, "the host broke the exchange off"),
        ForwardRefusal::Draining => (503, "the proxy is ending"),
    };
    let reply = Reply::error(status, message);
    match status {
        407 => reply.challenge("weir"),
        503 => reply.retry_after(RETRY_AFTER),
        _ => reply,
    }
}

/// Sends an answer of the proxy's own; a client that does not take it is given up.
pub(super) async fn send(
    worker: &Rc<Worker>,
    client: &mut Client,
    reply: &Reply<'_>,
    head_only: bool,
) -> bool {
    reply.encode(head_only, client.outbuf.writable());
    let armed = worker.deadlines.arm_after(&client.fd, Half::Both, LINGER);
    let sent = write_all(&mut client.writer, &mut client.outbuf).await;
    !armed.expired() && sent.is_ok()
}

/// Lets the client finish sending, within bounds.
async fn linger(worker: &Rc<Worker>, client: &mut Client) {
    shut(&client.fd, Half::Write);
    let armed = worker.deadlines.arm_after(&client.fd, Half::Both, LINGER);
    let mut drained = 0;
    while drained < LINGER_BYTES_MAX {
        client.inbuf.clear();
        match read_some(&mut client.reader, &mut client.inbuf, READ_ROOM).await {
            Ok(count @ 1..) => drained += count,
            Ok(0) | Err(_) => break,
        }
    }
    drop(armed);
}

/// Whether a body that was declared has no bytes.
pub(super) fn is_bodiless(framing: Framing) -> bool {
    matches!(framing, Framing::None | Framing::Length(0))
}

/// Whether a client of this version understands interim answers.
pub(super) fn takes_interim(version: Version) -> bool {
    version == Version::Http11
}
