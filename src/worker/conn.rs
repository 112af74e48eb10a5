//! One client connection: a head, its exchange, the next head.
//!
//! Requests of one connection are taken one after the other, as HTTP/1.1 has them answered; what a
//! pipelining client sends ahead stays in the socket and the buffer until its turn.

use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::AsyncReadRent;
use monoio::net::TcpStream;

use super::pace::Pace;
use super::peers::{Origin, Unproven};
use super::proxy;
use super::registry::Registered;
use super::request::Request;
use super::secure::Secured;
use super::{Worker, elsewhere, reply};
use crate::clock::{self, Instant};
use crate::error::Kind;
use crate::http1::{
    BadRequest, Framing, Method, Parse, Reply, RequestHead, Version, may_complete, parse_request,
    sane_request_id,
};
use crate::io::socket::{Half, read_now, read_some, reset_at_close, shut, write_all};
use crate::io::{Buf, Turn};
use crate::metrics::Refusal;

/// Room asked for before a read of a head: most heads are below 1 KiB.
const READ_ROOM: usize = 1024;

/// Bytes of the first read of a request, and so what every idle connection holds. Nearly all heads
/// fit (discord.py's: 0.4 KiB); the rest of what has come, a body mostly, is taken after it.
const FIRST_BYTES: usize = 512;

/// How long a connection may stay without a request while weir drains. One that is in use sees its
/// next request within this time, is answered, and told to close: nothing is lost on it. Of the
/// others hardly one sends in the very moment in which its connection ends; that one is lost, as
/// with every server that closes (RFC 9112 9.5).
pub(super) const DRAINING_PATIENCE: Duration = Duration::from_millis(500);

/// Bytes and time granted to a client that still sends when its connection is to be closed: a
/// close with unread bytes would reset it, and it could lose the answer that says why (RFC 9112
/// 9.6).
const LINGER_BYTES_MAX: usize = 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// A client connection and what has been read from it.
pub(super) struct Client {
    /// Before the socket, since it is dropped in this order.
    registered: Registered,
    pub(super) stream: TcpStream,
    /// What is between the socket and the buffers; `None` for plain HTTP.
    pub(super) tls: Option<Box<Secured>>,
    /// Whether it has said anything yet.
    spoke: bool,
    /// It has shown that it is another node.
    node: bool,
    pub(super) turn: Turn,
    /// Where the first bytes of a request are read to; empty but for that moment.
    first: Vec<u8>,
    /// Read and not yet taken.
    pub(super) inbuf: Buf,
    /// On its way to the client; empty between two answers.
    pub(super) outbuf: Buf,
    /// Bytes of the answers to this request that were sent, or nearly.
    pub(super) written: u64,
}

/// How an exchange left the client's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Ready for the next request.
    Request,
    /// To be closed; the client has sent all it was to send.
    Close,
    /// To be closed; the client may still be sending.
    Linger,
}

/// Serves one connection to its end. This is the task that every connection has as long as it
/// lasts, so it does nothing but wait for requests; [`busy`] serves them, in memory that is shared.
pub(super) async fn serve(worker: Rc<Worker>, mut client: Client) {
    while await_request(&worker, &mut client).await {
        match worker.busy.run((worker.clone(), client)).await {
            Some(rested) => client = rested,
            None => return,
        }
        client.turn.round().await;
    }
    client.farewell();
}

/// Serves what a client sends until it has nothing more to say for now, and returns it then, its
/// buffers given back. `None` when its connection has ended.
pub(super) async fn busy((worker, mut client): (Rc<Worker>, Client)) -> Option<Client> {
    loop {
        match requests(&worker, &mut client).await {
            // What it sent ahead is served at once.
            Next::Request if !client.inbuf.is_empty() => client.turn.round().await,
            Next::Request => break,
            Next::Close => {
                client.farewell();
                return None;
            }
            Next::Linger => {
                Box::pin(linger(&worker, &mut client)).await;
                return None;
            }
        }
    }
    client.inbuf.release();
    client.outbuf.release();
    if let Some(tls) = &mut client.tls {
        tls.rest();
    }
    Some(client)
}

/// Takes one request from the connection and answers it.
async fn requests(worker: &Rc<Worker>, client: &mut Client) -> Next {
    let mut request = None;
    let taken = match read_request(worker, client, &mut request).await {
        Ok(Some(taken)) => taken,
        Ok(None) => return Next::Close,
        Err(unread) => {
            let (kind, reply) = match unread {
                Unread::Bad(bad) if bad.status() == 431 => {
                    (Kind::HeadTooLarge, Reply::bad_request(bad))
                }
                Unread::Bad(bad) => (Kind::BadRequest, Reply::bad_request(bad)),
                Unread::Unproven => return Box::pin(turn_away(worker, client)).await,
                Unread::Loop => return Box::pin(break_loop(worker, client)).await,
                Unread::Slow => (
                    Kind::ClientTimeout,
                    Reply::error(408, "the request head did not come in time"),
                ),
            };
            {
                let mut metrics = worker.metrics();
                metrics.own.refuse(Refusal::Malformed);
                metrics.own.fail(kind);
            }
            // The connection ends either way.
            let _ = reply::send(worker, client, &reply, false).await;
            return Next::Linger;
        }
    };
    match taken {
        Taken::Health {
            id,
            version,
            keep_alive,
            head_only,
        } => {
            let draining = worker.process.is_draining();
            let (status, text) = if draining {
                (503, "draining\n")
            } else {
                (200, "ok\n")
            };
            let goes_on = keep_alive && !draining;
            let reply = Reply::text(status, text)
                .request_id(id.as_deref())
                .version(version)
                .keep_alive(goes_on);
            let sent = reply::send(worker, client, &reply, head_only).await;
            match sent {
                Ok(()) if goes_on => Next::Request,
                // It may have a body that is still coming.
                Ok(()) => Next::Linger,
                Err(_) => Next::Close,
            }
        }
        Taken::Request(flight) => match &request {
            Some(request) => proxy::serve(worker, client, request, flight).await,
            None => Next::Close,
        },
    }
}

/// What was asked for.
enum Taken {
    Health {
        /// What its client calls it.
        id: Option<Box<str>>,
        version: Version,
        keep_alive: bool,
        head_only: bool,
    },
    /// What goes upstream of a request that has been put into its place.
    Request(Buf),
}

/// Why a head was not taken.
enum Unread {
    /// It is not one that weir accepts.
    Bad(BadRequest),
    /// It began and did not end within `CLIENT_HEADER_TIMEOUT`.
    Slow,
    /// It claims to be relayed by a node of the cluster, and cannot show it.
    Unproven,
    /// It went through this weir before.
    Loop,
}

/// Ends a request that went through here before, with its connection.
async fn break_loop(worker: &Worker, client: &mut Client) -> Next {
    worker.metrics().own.refuse(Refusal::Loop);
    if let Some(unsaid) = worker.process.troubles.loops.happened(clock::now()) {
        tracing::error!(
            unsaid,
            upstream = %worker.process.target.authority,
            "a request came back to the weir that had sent it on: UPSTREAM_URL, of this weir or of one behind \
             it, leads here"
        );
    }
    let told = "this request has come back to a proxy that had sent it on";
    // The connection ends either way.
    let _ = reply::send(worker, client, &Reply::error(508, told), false).await;
    Next::Linger
}

/// Ends a connection that claims to be another node's and cannot show it.
pub(super) async fn turn_away(worker: &Worker, client: &mut Client) -> Next {
    worker.metrics().own.relay.unproven += 1;
    if let Some(unsaid) = worker.process.troubles.impostors.happened(clock::now()) {
        tracing::warn!(
            unsaid,
            "a connection claims to be another node's and cannot show it: its CLUSTER_SECRET differs, or its clock by more than 30 s"
        );
    }
    elsewhere::send_away(worker, client).await
}

/// Where a request is from that says that it was routed here; `node` tells whether its connection has
/// shown that it is another node's.
#[cold]
fn routed(worker: &Worker, node: &mut bool, head: &RequestHead<'_>) -> Result<Origin, Unread> {
    let origin = match &worker.peers {
        None => Origin::Routed,
        Some(peers) => peers
            .origin(head, *node)
            .map_err(|Unproven| Unread::Unproven)?,
    };
    *node |= origin == Origin::Node;
    if origin != Origin::Client {
        worker.metrics().own.relay.received += 1;
    }
    Ok(origin)
}

/// Reads the rest of a head that has begun. `None` if the connection ended inside it.
async fn read_request(
    worker: &Rc<Worker>,
    client: &mut Client,
    place: &mut Option<Request>,
) -> Result<Option<Taken>, Unread> {
    let config = &worker.process.config;
    let mut seen = 0;
    let mut deadline = None;
    loop {
        let bytes = client.inbuf.as_slice();
        // Nearly every head is whole with the first read.
        if seen == 0 || may_complete(bytes, seen) {
            match parse_request(bytes) {
                Parse::Complete(head) => {
                    let taken = if is_health(head.method, head.target) {
                        // A body would be the next request's beginning: it is not asked for here.
                        let bodiless = matches!(head.framing, Framing::None | Framing::Length(0));
                        Taken::Health {
                            id: head.request_id.and_then(sane_request_id).map(Into::into),
                            version: head.version,
                            keep_alive: head.keep_alive && bodiless,
                            head_only: head.method == Method::Head,
                        }
                    } else {
                        let via = worker.process.via.as_deref();
                        if via.is_some_and(|via| head.went_through(via.as_bytes())) {
                            return Err(Unread::Loop);
                        }
                        let origin = match head.routed_to {
                            None => Origin::Client,
                            Some(_) => routed(worker, &mut client.node, &head)?,
                        };
                        let mut flight = Buf::new();
                        let now = clock::now();
                        *place = Some(Request::new(worker, &head, now, origin, &mut flight));
                        Taken::Request(flight)
                    };
                    let len = head.len;
                    client.inbuf.consume(len);
                    return Ok(Some(taken));
                }
                Parse::Invalid(bad) => return Err(Unread::Bad(bad)),
                Parse::Partial => {}
            }
        }
        seen = bytes.len();
        let until = *deadline.get_or_insert_with(|| clock::now() + config.client_header_timeout);
        let armed = worker.deadlines.arm(&client.stream, Half::Read, until);
        let count = client.read(READ_ROOM).await;
        if armed.expired() {
            tracing::debug!("a client did not finish its request head in time");
            return Err(Unread::Slow);
        }
        if !matches!(count, Ok(1..)) {
            worker.count_lost_client(false);
            return Ok(None);
        }
    }
}

/// Waits, holding no pooled buffer, until the client says something. False if it does not.
pub(super) async fn await_request(worker: &Worker, client: &mut Client) -> bool {
    if client.has_begun() {
        return true;
    }
    loop {
        let config = &worker.process.config;
        let patience = match (client.registered.set_idle(true), client.spoke) {
            (true, true) => config.client_idle_timeout,
            (true, false) => config.client_header_timeout,
            // Draining: a request that is on its way already is still served.
            (false, _) => DRAINING_PATIENCE,
        };
        let armed = worker
            .deadlines
            .arm_after(&client.stream, Half::Read, patience);
        let waiting = std::mem::take(&mut client.first);
        let (read, first) = client.stream.read(waiting).await;
        client.first = first;
        client.registered.set_idle(false);
        if armed.expired() || !matches!(read, Ok(1..)) {
            return false;
        }
        client.spoke = true;
        match client.take_first() {
            Ok(()) if client.has_begun() => return true,
            // Under TLS there is more to be said than requests.
            Ok(()) => {}
            Err(_) => return false,
        }
    }
}

fn is_health(method: Method, target: &[u8]) -> bool {
    let path = target.split(|&byte| byte == b'?').next().unwrap_or(target);
    matches!(method, Method::Get | Method::Head) && path == b"/nirn/healthz"
}

/// Lets the client finish sending, within bounds, after the answer that ends its connection.
pub(super) async fn linger(worker: &Worker, client: &mut Client) {
    client.farewell();
    shut(&client.stream, Half::Write);
    let deadline = worker
        .deadlines
        .arm_after(&client.stream, Half::Both, LINGER);
    let mut drained = 0;
    while drained < LINGER_BYTES_MAX {
        client.inbuf.clear();
        match read_some(&mut client.stream, &mut client.inbuf, READ_ROOM).await {
            Ok(count @ 1..) => drained += count,
            _ => break,
        }
    }
    drop(deadline);
}

impl Client {
    /// A connection that has said nothing yet.
    pub(super) fn new(worker: &Worker, stream: TcpStream) -> Self {
        Self {
            registered: worker.registry.enter(&stream),
            stream,
            tls: None,
            spoke: false,
            node: false,
            turn: Turn::default(),
            first: Vec::with_capacity(FIRST_BYTES),
            inbuf: Buf::new(),
            outbuf: Buf::new(),
            written: 0,
        }
    }

    /// Gives back what a wait of hours needs not; [`Self::wake`] follows it.
    pub(super) fn sleep(&mut self) {
        self.first = Vec::new();
        self.inbuf.release();
        self.outbuf.release();
        if let Some(tls) = &mut self.tls {
            tls.rest();
        }
    }

    /// Makes room for the next request.
    pub(super) fn wake(&mut self) {
        if self.first.capacity() == 0 {
            self.first = Vec::with_capacity(FIRST_BYTES);
        }
    }

    /// Whether there is something of a request: behind the last one or TLS' handshake, or just read.
    fn has_begun(&self) -> bool {
        !self.inbuf.is_empty() || self.tls.as_ref().is_some_and(|tls| !tls.is_at_rest())
    }

    /// Takes what the first read of a request brought.
    ///
    /// # Errors
    /// Under TLS, the client has ended its stream, or what came is not authentic.
    fn take_first(&mut self) -> io::Result<()> {
        let into = match &mut self.tls {
            None => &mut self.inbuf,
            Some(tls) => &mut tls.incoming,
        };
        into.push(&self.first);
        if self.first.len() == self.first.capacity() {
            read_now(&self.stream, into);
        }
        self.first.clear();
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => {
                let goes_on = tls.open(&mut self.inbuf)?;
                tls.rest();
                if goes_on {
                    Ok(())
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
            }
        }
    }

    /// Reads once, or until there is something to be read under TLS, appending to `inbuf`; says how many
    /// bytes came. 0 is the end of the stream.
    ///
    /// # Errors
    /// Whatever the socket says, or what came is not authentic.
    pub(super) async fn read(&mut self, room: usize) -> io::Result<usize> {
        loop {
            let into = match &mut self.tls {
                None => &mut self.inbuf,
                Some(tls) if tls.has_ended() => return Ok(0),
                Some(tls) => &mut tls.incoming,
            };
            let count = read_some(&mut self.stream, into, room).await?;
            let Some(tls) = &mut self.tls else {
                return Ok(count);
            };
            let before = self.inbuf.len();
            tls.open(&mut self.inbuf)?;
            let opened = self.inbuf.len() - before;
            if opened > 0 || count == 0 {
                return Ok(opened);
            }
        }
    }

    /// Tells a client under TLS, before its connection is closed, that nothing was cut off.
    pub(super) fn farewell(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.farewell(&self.stream);
        }
    }

    /// Sends what is in `outbuf` of a longer answer, at the client's `pace`.
    pub(super) async fn flush_at(&mut self, worker: &Worker, pace: &mut Pace) -> io::Result<()> {
        let (client, bytes) = (self.stream.as_raw_fd(), self.outbuf.len());
        let (result, too_slow) = pace.wait(worker, client, Half::Both, self.write()).await;
        match &result {
            Ok(()) => pace.moved(bytes),
            Err(_) => self.lost(worker, too_slow),
        }
        result
    }

    /// Sends what is in `outbuf`; a client that takes nothing for the idle timeout is given up.
    pub(super) async fn flush(&mut self, worker: &Worker) -> io::Result<()> {
        self.flush_from(worker, clock::now()).await
    }

    /// [`Self::flush`] from `now` on.
    pub(super) async fn flush_from(&mut self, worker: &Worker, now: Instant) -> io::Result<()> {
        let until = now + worker.process.config.client_idle_timeout;
        let armed = worker.deadlines.arm(&self.stream, Half::Both, until);
        let result = self.write().await;
        let too_slow = armed.expired();
        if result.is_err() {
            self.lost(worker, too_slow);
        }
        result
    }

    async fn write(&mut self) -> io::Result<()> {
        self.written += self.outbuf.len() as u64;
        let bytes = match &mut self.tls {
            None => &mut self.outbuf,
            Some(tls) => {
                tls.seal(&mut self.outbuf)?;
                &mut tls.outgoing
            }
        };
        write_all(&mut self.stream, bytes).await
    }

    /// The client did not take what it was sent.
    fn lost(&self, worker: &Worker, too_slow: bool) {
        worker.count_lost_client(too_slow);
        if too_slow {
            reset_at_close(&self.stream);
        }
    }
}
