//! The metrics port: Prometheus' scrape, and the caps of the forward proxy (`forward`), on threads
//! of its own, never in a worker's way.
//!
//! A handful of connections at a time from people and scrapers: plain blocking sockets serve them
//! best. Each has a time limit and there are at most `CONNECTIONS_MAX`, so a stuck scraper
//! cannot hold the port.

mod forward;
pub mod log;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock;
use crate::config::Config;
use crate::error::StartError;
use crate::http1::{Framing, Method, Parse, Reply, RequestHead, parse_request};
use crate::io::Seldom;
use crate::metrics::Refusal;
use crate::places::Places;
use crate::process::Process;

/// Connections served at once: a scraper, a browser, a few curious operators.
const CONNECTIONS_MAX: usize = 16;

/// How long a request may take to arrive and its answer to leave.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The text format that Prometheus scrapes.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Largest request head here.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Binds `METRICS_PORT`.
///
/// # Errors
/// The port is in use or not ours.
pub fn bind(config: &Config) -> Result<TcpListener, StartError> {
    let address = SocketAddr::new(config.bind_ip, config.metrics_port);
    TcpListener::bind(address)
        .map_err(|source| StartError::listening("METRICS_PORT", address, source))
}

/// The metrics port's listener; it ends when dropped.
pub struct AdminServer {
    addr: SocketAddr,
    /// Closing it ends the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Serves the port that [`bind`] has bound, or that was handed over: then others may accept from
    /// it as well, so that a readiness may come to nothing.
    ///
    /// # Errors
    /// No descriptor is to be had, or no thread.
    pub fn start(listener: TcpListener, process: &Arc<Process>) -> Result<Self, StartError> {
        let addr = listener.local_addr().map_err(|source| StartError::System {
            what: "name the metrics port",
            source,
        })?;
        let set_up = |source| StartError::System {
            what: "set up the metrics port",
            source,
        };
        listener.set_nonblocking(true).map_err(set_up)?;
        let (stop, stopped) = UnixStream::pair().map_err(set_up)?;
        let thread = thread::Builder::new()
            .name("weir-admin".to_owned())
            .spawn({
                let process = process.clone();
                move || accept(&listener, &process, &stopped)
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            addr,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until a client knocks; `false` once the server is to end.
fn knocked(listener: &TcpListener, stopped: &UnixStream) -> bool {
    let of = |fd: RawFd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polled = [of(listener.as_raw_fd()), of(stopped.as_raw_fd())];
    // SAFETY: the pointer and the length name `polled`, which outlives the call.
    let count = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
    count < 0 || polled[1].revents == 0
}

fn accept(listener: &TcpListener, process: &Arc<Process>, stopped: &UnixStream) {
    let places = Places::new(CONNECTIONS_MAX, None);
    let strangers = Seldom::default();
    while knocked(listener, stopped) {
        let (stream, from) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => {
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if !let_in(from.ip(), process, &strangers) {
            continue;
        }
        let Ok(place) = places.take(from.ip()) else {
            continue;
        };
        let process = process.clone();
        let serve = move || {
            let _place = place;
            if let Err(error) = serve(stream, from.ip(), &process) {
                tracing::debug!(%error, "a connection to the metrics port failed");
            }
        };
        if let Err(error) = thread::Builder::new()
            .name("weir-scrape".to_owned())
            .spawn(serve)
        {
            tracing::warn!(%error, "no thread for a connection to the metrics port");
        }
    }
}

/// Whether a connection's address is one of `ALLOW_FROM`.
fn let_in(from: IpAddr, process: &Process, strangers: &Seldom) -> bool {
    let allowed = process.config.allow_from.allows(from);
    if !allowed {
        // Counted where all is counted, although no worker did it.
        process.metrics[0].lock().own.refuse(Refusal::Address);
        if let Some(unsaid) = strangers.happened(clock::now()) {
            tracing::warn!(
                %from,
                unsaid,
                "refused a connection to the metrics port: its address is not in ALLOW_FROM"
            );
        }
    }
    allowed
}

/// Answers one request and closes.
fn serve(mut stream: TcpStream, from: IpAddr, process: &Process) -> io::Result<()> {
    let until = clock::now() + TIMEOUT;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let left = until.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut chunk)?;
        head.extend_from_slice(&chunk[..count]);
        match parse_request(&head) {
            Parse::Complete(request) => {
                // A body here is a number: it is waited for as long as it is one.
                let body = &head[request.len..];
                let declared = match request.framing {
                    Framing::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
                    Framing::None | Framing::Chunked | Framing::UntilClose => 0,
                };
                if body.len() < declared && declared <= forward::BODY_BYTES_MAX && count > 0 {
                    continue;
                }
                let answer = answer(&request, body, from, process);
                return stream.write_all(&answer);
            }
            Parse::Invalid(bad) => {
                let mut out = Vec::new();
                Reply::bad_request(bad).encode(false, &mut out);
                return stream.write_all(&out);
            }
            Parse::Partial if count == 0 || head.len() > HEAD_BYTES_MAX => return Ok(()),
            Parse::Partial => {}
        }
    }
}

fn answer(request: &RequestHead<'_>, body: &[u8], from: IpAddr, process: &Process) -> Vec<u8> {
    let (method, target) = (request.method, request.target);
    let path = target.split(|&byte| byte == b'?').next().unwrap_or(target);
    let mut out = Vec::new();
    if path.starts_with(forward::PREFIX) {
        let verb = match method {
            Method::Get => forward::Verb::Read,
            Method::Put => forward::Verb::Write,
            Method::Delete => forward::Verb::Remove,
            Method::Head
            | Method::Post
            | Method::Patch
            | Method::Options
            | Method::Trace
            | Method::Connect
            | Method::Other => {
                Reply::error(405, "GET, PUT and DELETE are served here").encode(false, &mut out);
                return out;
            }
        };
        if from.to_canonical().is_loopback() {
            forward::answer(verb, path, body, process.forward.as_ref(), &mut out);
        } else {
            Reply::error(403, "this is for this machine alone").encode(false, &mut out);
        }
        return out;
    }
    if !matches!(method, Method::Get | Method::Head) {
        Reply::error(405, "only GET and HEAD are served here").encode(false, &mut out);
        return out;
    }
    let head_only = method == Method::Head;
    match path {
        b"/metrics" => {
            let text = process.metrics_text();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n",
                text.len()
            );
            out.extend_from_slice(head.as_bytes());
            if !head_only {
                out.extend_from_slice(text.as_bytes());
            }
        }
        b"/nirn/cluster" => match &process.cluster {
            Some(members) => {
                let page = members.page();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n",
                    page.len()
                );
                out.extend_from_slice(head.as_bytes());
                if !head_only {
                    out.extend_from_slice(page.as_bytes());
                }
            }
            None => Reply::error(404, "this weir is no node of a cluster (CLUSTER_MEMBERS)")
                .encode(head_only, &mut out),
        },
        b"/nirn/healthz" => Reply::text(200, "ok\n").encode(head_only, &mut out),
        _ => Reply::error(404, "metrics are at /metrics").encode(head_only, &mut out),
    }
    out
}
