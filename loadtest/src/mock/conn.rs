//! One connection: requests in, judgements, answers out, and what a fault does to them.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpStream;
use rustls::{HandshakeKind, ServerConnection};

use super::answer::{Context, Rest};
use super::body::Body;
use super::control;
use super::faults::Action;
use super::http::{BodyDecoder, Framing, Head, Parsed};
use super::server::Local;
use super::settings::OnAccept;
use super::wire::Wire;
use super::world::Request;

/// Bytes of a download sent at once: few system calls, little memory.
const STEP_BYTES: usize = 64 * PATTERN_PERIOD * 16;

/// Period of the pattern that downloads are made of; a prime, so that no block size hides a gap.
pub(crate) const PATTERN_PERIOD: usize = 251;

/// Whether the connection goes on after a request.
enum Next {
    Request,
    /// Closed in order, without further reading.
    Close,
    /// Reset.
    Reset,
    /// Left as it is until the client ends it.
    Hang,
}

/// Serves `stream` until either side ends it. `number` is zero on the control listener.
pub(super) async fn serve(stream: TcpStream, source: IpAddr, number: u64, local: Rc<Local>) {
    let _ = stream.set_nodelay(true);
    let tls = match &local.shared.tls {
        Some(config) if number > 0 => ServerConnection::new(config.clone()).ok(),
        _ => None,
    };
    let mut wire = Wire::new(stream, tls);
    let on_accept = if number > 0 {
        local.live().connections.on_accept
    } else {
        OnAccept::Serve
    };
    match on_accept {
        OnAccept::Serve => {}
        OnAccept::Close => return wire.finish().await,
        OnAccept::Reset => return wire.reset(),
        OnAccept::Hang => return wire.drain().await,
    }
    let delay = local.live().connections.handshake_delay_ms;
    if number > 0 && delay > 0 {
        monoio::time::sleep(Duration::from_millis(delay)).await;
    }
    let handshake = wire.handshake().await;
    if number > 0 {
        let mut world = local.shared.world();
        let counts = &mut world.oracle.connections;
        match &handshake {
            Ok(Some(HandshakeKind::Resumed)) => counts.tls_resumed += 1,
            Ok(Some(_)) => counts.tls_full += 1,
            Ok(None) => {}
            Err(_) => counts.tls_failed += 1,
        }
    }
    if handshake.is_err() {
        return;
    }
    let mut conn = Conn {
        wire,
        source,
        number,
        ordinal: 0,
        head: Head::default(),
        body: Body::default(),
        out: Vec::with_capacity(2048),
        local,
    };
    loop {
        match conn.exchange().await {
            Ok(Next::Request) => {}
            Ok(Next::Close) => return conn.wire.finish().await,
            Ok(Next::Reset) => return conn.wire.reset(),
            Ok(Next::Hang) => return conn.wire.drain().await,
            Err(_) => return,
        }
    }
}

struct Conn {
    wire: Wire,
    source: IpAddr,
    number: u64,
    ordinal: u32,
    head: Head,
    body: Body,
    out: Vec<u8>,
    local: Rc<Local>,
}

impl Conn {
    /// One request and its answer.
    async fn exchange(&mut self) -> io::Result<Next> {
        if !self.read_head().await? {
            return Ok(Next::Close);
        }
        let live = self.local.live();
        if self.head.target().starts_with(control::PREFIX) {
            self.read_body().await?;
            return self.control().await;
        }
        self.ordinal += 1;
        let fault = if live.faults { self.strike() } else { None };
        match fault {
            Some(Action::CloseUnprocessed) => return Ok(Next::Close),
            Some(Action::ResetUnprocessed) => return Ok(Next::Reset),
            _ => {}
        }
        self.read_body().await?;
        let delay = self.local.delay();
        self.pause(delay / 2).await;
        self.out.clear();
        let (rest, close) = match &fault {
            Some(action) if !action.is_processed() => {
                let close = self.instead(action);
                self.pause(delay / 2).await;
                self.wire.send(&self.out).await?;
                return Ok(if close { Next::Close } else { Next::Request });
            }
            Some(action) => {
                let close = !self.head.keep_alive || *action == Action::ConnectionClose;
                (self.judge(close), close)
            }
            None => (self.judge(!self.head.keep_alive), !self.head.keep_alive),
        };
        self.pause(delay / 2).await;
        if let Some(next) = self.send_struck(fault.as_ref()).await? {
            return Ok(next);
        }
        self.send_rest(rest).await?;
        let limit = live.connections.close_after_requests;
        if self.number > 0 && limit.is_some_and(|n| self.ordinal >= n) {
            self.pause(Duration::from_millis(live.connections.close_delay_ms))
                .await;
            return Ok(Next::Close);
        }
        Ok(if close { Next::Close } else { Next::Request })
    }

    /// Reads the next head; false at the connection's end.
    async fn read_head(&mut self) -> io::Result<bool> {
        loop {
            match self.head.parse(self.wire.pending()) {
                Parsed::Complete(n) => {
                    self.wire.consume(n);
                    return Ok(true);
                }
                Parsed::Invalid(why) => {
                    self.refuse(why).await?;
                    return Ok(false);
                }
                Parsed::Partial => {}
            }
            let idle = self
                .local
                .live()
                .connections
                .idle_ms
                .filter(|_| self.number > 0);
            let got = match idle {
                None => self.wire.fill().await?,
                // The read that is dropped at the end of the time loses nothing that anyone will
                // miss: the connection is closed.
                Some(ms) => monoio::time::timeout(Duration::from_millis(ms), self.wire.fill())
                    .await
                    .unwrap_or(Ok(0))?,
            };
            if got == 0 {
                return Ok(false);
            }
        }
    }

    async fn read_body(&mut self) -> io::Result<()> {
        let length = match self.head.framing {
            Framing::Length(n) => Some(n),
            Framing::Chunked => None,
        };
        self.body.begin(self.head.content_type(), length);
        let mut decoder = BodyDecoder::new(self.head.framing);
        if self.head.expects_continue && !decoder.is_done() && self.wire.pending().is_empty() {
            self.wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        while !decoder.is_done() {
            if self.wire.pending().is_empty() && self.wire.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match decoder.feed(self.wire.pending(), |data| self.body.feed(data)) {
                Ok(used) => self.wire.consume(used),
                Err(why) => {
                    self.refuse(why).await?;
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
        Ok(())
    }

    /// Answers what is no request, or one that can be read in two ways.
    async fn refuse(&mut self, why: &str) -> io::Result<()> {
        self.local.shared.world().oracle.malformed += 1;
        let text = format!(
            "HTTP/1.1 400 Bad Request\r\nServer: cloudflare\r\nConnection: close\r\n\
             Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{why}",
            why.len()
        );
        self.wire.send(text.as_bytes()).await
    }

    fn strike(&self) -> Option<Action> {
        let (method, target) = (self.head.method, self.head.target());
        let mut world = self.local.shared.world();
        let action = world.fault(method, target, self.head.authorization())?;
        if !action.is_processed() {
            let status = match &action {
                Action::Answer { status, .. } => *status,
                _ => 0,
            };
            let now_ns = self.local.shared.clock.now_ns();
            let unix_ms = self.unix_ns(now_ns, world.settings().answers.clock_skew_ms) / 1_000_000;
            world.strike(now_ns, unix_ms, &self.request(), status);
        }
        Some(action)
    }

    /// Lets Discord judge the request now, and prepares the answer.
    fn judge(&mut self, close: bool) -> Rest {
        let now_ns = self.local.shared.clock.now_ns();
        let mut world = self.local.shared.world();
        let unix_ns = self.unix_ns(now_ns, world.settings().answers.clock_skew_ms);
        let outcome = world.judge(now_ns, unix_ns / 1_000_000, &self.request());
        drop(world);
        let cx = Context {
            head: &self.head,
            body: &self.body,
            unix_ns,
            close,
            compress_errors: outcome.answers.compress_errors,
        };
        self.local
            .writer
            .borrow_mut()
            .write(&mut self.out, cx, &outcome)
    }

    fn unix_ns(&self, now_ns: u64, skew_ms: i64) -> u64 {
        self.local.shared.clock.unix_ns(now_ns, skew_ms)
    }

    fn request(&self) -> Request<'_> {
        Request {
            method: self.head.method,
            target: self.head.target(),
            authorization: self.head.authorization(),
            source: self.source,
            json: &self.body.json,
            body_bytes: self.body.bytes,
            connection: (self.number, self.ordinal),
        }
    }

    /// Prepares what a fault sends instead of an answer; true when the connection ends with it.
    fn instead(&mut self, action: &Action) -> bool {
        match action {
            Action::Raw { text, close } => {
                self.out.extend_from_slice(text.as_bytes());
                *close
            }
            Action::Garbage { bytes } => {
                // High bytes are in no token, so that no prefix can pass for an answer.
                self.out
                    .extend((0..*bytes).map(|i| 0x80 | (i.wrapping_mul(37) as u8)));
                true
            }
            Action::HalfHead => {
                self.out
                    .extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: applica");
                true
            }
            Action::Answer {
                status,
                headers,
                body,
                bare,
            } => {
                let unix_ns = self.unix_ns(self.local.shared.clock.now_ns(), 0);
                let close = !self.head.keep_alive;
                let cx = Context {
                    head: &self.head,
                    body: &self.body,
                    unix_ns,
                    close,
                    compress_errors: self.local.live().compress_errors,
                };
                let answer = (*status, headers.as_slice(), body.as_str(), *bare);
                self.local
                    .writer
                    .borrow_mut()
                    .write_injected(&mut self.out, cx, answer);
                close
            }
            Action::CloseUnprocessed
            | Action::ResetUnprocessed
            | Action::CloseAfter { .. }
            | Action::ResetAfter { .. }
            | Action::Hang { .. }
            | Action::Stall { .. }
            | Action::CloseIdle
            | Action::ConnectionClose => true,
        }
    }

    /// Sends the prepared answer as far as the fault lets it.
    async fn send_struck(&mut self, fault: Option<&Action>) -> io::Result<Option<Next>> {
        let cut = |n: usize| n.min(self.out.len());
        Ok(match fault {
            Some(Action::CloseAfter { bytes }) => {
                self.wire.send(&self.out[..cut(*bytes)]).await?;
                Some(Next::Close)
            }
            Some(Action::ResetAfter { bytes }) => {
                self.wire.send(&self.out[..cut(*bytes)]).await?;
                Some(Next::Reset)
            }
            Some(Action::Hang { bytes }) => {
                self.wire.send(&self.out[..cut(*bytes)]).await?;
                Some(Next::Hang)
            }
            Some(Action::Stall { bytes, ms }) => {
                let (first, second) = self.out.split_at(cut(*bytes));
                self.wire.send(first).await?;
                self.pause(Duration::from_millis(*ms)).await;
                self.wire.send(second).await?;
                None
            }
            Some(Action::CloseIdle) => {
                self.wire.send(&self.out).await?;
                Some(Next::Close)
            }
            _ => {
                self.wire.send(&self.out).await?;
                None
            }
        })
    }

    /// Streams what follows the buffered part of an answer.
    async fn send_rest(&mut self, rest: Rest) -> io::Result<()> {
        let Rest::Pattern { bytes, chunked } = rest else {
            return Ok(());
        };
        let block: Vec<u8> = (0..STEP_BYTES)
            .map(|i| (i % PATTERN_PERIOD) as u8)
            .collect();
        let mut left = bytes;
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(STEP_BYTES).min(STEP_BYTES);
            self.out.clear();
            if chunked {
                self.out.extend_from_slice(format!("{n:x}\r\n").as_bytes());
                self.out.extend_from_slice(&block[..n]);
                self.out.extend_from_slice(b"\r\n");
                self.wire.send(&self.out).await?;
            } else {
                self.wire.send(&block[..n]).await?;
            }
            left -= n as u64;
        }
        if chunked {
            self.wire.send(b"0\r\n\r\n").await?;
        }
        self.local.shared.world().oracle.connections.body_bytes_out += bytes;
        self.out = Vec::with_capacity(2048);
        Ok(())
    }

    async fn control(&mut self) -> io::Result<Next> {
        let (method, target) = (self.head.method, self.head.target());
        let (status, json) = control::answer(&self.local.shared, method, target, &self.body.json);
        let unix_ns = self.unix_ns(self.local.shared.clock.now_ns(), 0);
        let close = !self.head.keep_alive;
        let cx = Context {
            head: &self.head,
            body: &self.body,
            unix_ns,
            close,
            compress_errors: false,
        };
        self.out.clear();
        self.local
            .writer
            .borrow_mut()
            .write_control(&mut self.out, cx, status, json.as_bytes());
        self.wire.send(&self.out).await?;
        Ok(if close { Next::Close } else { Next::Request })
    }

    async fn pause(&self, time: Duration) {
        if !time.is_zero() {
            monoio::time::sleep(time).await;
        }
    }
}
