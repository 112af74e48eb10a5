//! An upstream that records every byte it gets and answers as it is told: for tests of what weir
//! really sends.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use loadtest::mock::tls::{Identity, Tls};
use rustls::ServerConnection;

/// An upstream of one script: each connection is served by the same function.
pub struct Recorder {
    pub addr: SocketAddr,
    /// The authority that vouches for it, if it speaks TLS.
    pub ca_pem: Option<String>,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// One connection, as the script sees it.
pub struct Peer {
    pub stream: TcpStream,
    tls: Option<ServerConnection>,
    /// Read and not yet part of a request that [`Peer::read_request`] gave.
    pending: Vec<u8>,
    number: usize,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    /// Serves each connection with `script`, on a thread of its own.
    pub fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        Self::over(Tls::Plain, script)
    }

    /// The same over TLS, or not.
    pub fn over(tls: Tls, script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let identity = Identity::make(tls).expect("a certificate");
        let (ca_pem, tls) = identity.map_or((None, None), |identity| {
            (Some(identity.ca_pem), Some(identity.config))
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(script);
        let shared = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                stream
                    .set_read_timeout(Some(Duration::from_secs(30)))
                    .expect("a timeout");
                // What is said in two pieces arrives when it is said.
                stream.set_nodelay(true).expect("no delay");
                let number = {
                    let mut seen = shared.lock().expect("no script panics with it");
                    seen.push(Vec::new());
                    seen.len() - 1
                };
                let tls = tls.clone().map(ServerConnection::new);
                let mut peer = Peer {
                    stream,
                    tls: tls.map(|session| session.expect("a session")),
                    pending: Vec::new(),
                    number,
                    seen: shared.clone(),
                };
                let script = script.clone();
                thread::spawn(move || script(&mut peer));
            }
        });
        Self { addr, ca_pem, seen }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let scheme = self.ca_pem.as_ref().map_or("http", |_| "https");
        format!("{scheme}://{}", self.addr)
    }

    /// A file with the authority that vouches for it.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.ca_pem.as_deref().map(super::pem_file)
    }

    /// What came over each connection so far; see [`without_via`].
    pub fn seen(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("no script panics with it");
        seen.iter()
            .map(|bytes| String::from_utf8_lossy(&without_via(bytes)).into_owned())
            .collect()
    }
}

/// What weir would have sent to Discord: without the lines that tell other upstreams through which weir a
/// request went, each of which is random.
pub fn without_via(bytes: &[u8]) -> Vec<u8> {
    const BEGINS: &[u8] = b"\r\nVia: 1.1 weir-";
    const ID_BYTES: usize = 16;
    let (mut kept, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(BEGINS.len()).position(|here| here == BEGINS) {
        let after = &rest[at + BEGINS.len()..];
        let id = after.get(..ID_BYTES).unwrap_or_default();
        let is_line = !id.is_empty()
            && id.iter().all(u8::is_ascii_hexdigit)
            && after[ID_BYTES..].starts_with(b"\r\n");
        let end = at + BEGINS.len() + if is_line { ID_BYTES } else { 0 };
        kept.extend_from_slice(&rest[..if is_line { at } else { end }]);
        rest = &rest[end..];
    }
    kept.extend_from_slice(rest);
    kept
}

impl Peer {
    /// Which connection it is, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// What came on this connection so far.
    pub fn heard(&self) -> String {
        let seen = self.seen.lock().expect("no script panics with it");
        String::from_utf8_lossy(&seen[self.number]).into_owned()
    }

    /// Reads until what came on this connection ends with `end`; false if the stream ends before.
    pub fn read_until(&mut self, end: &str) -> bool {
        let mut byte = [0; 4096];
        let mut fresh = Vec::new();
        while !fresh.ends_with(end.as_bytes()) {
            let Ok(count @ 1..) = self.receive(&mut byte) else {
                return false;
            };
            fresh.extend_from_slice(&byte[..count]);
            self.seen.lock().expect("no script panics with it")[self.number]
                .extend_from_slice(&byte[..count]);
        }
        true
    }

    /// Reads one head, and whatever comes along with it.
    pub fn read_head(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let mut fresh = Vec::new();
        while !fresh.windows(4).any(|window| window == b"\r\n\r\n") {
            let Ok(count @ 1..) = self.receive(&mut bytes) else {
                return false;
            };
            fresh.extend_from_slice(&bytes[..count]);
            self.seen.lock().expect("no script panics with it")[self.number]
                .extend_from_slice(&bytes[..count]);
        }
        true
    }

    /// Reads one request to its end; `Err` is what came of one that never ended.
    pub fn read_request(&mut self) -> Result<Vec<u8>, Vec<u8>> {
        let mut bytes = vec![0; 1 << 16];
        loop {
            if let Some(len) = request_len(&self.pending) {
                let rest = self.pending.split_off(len);
                return Ok(std::mem::replace(&mut self.pending, rest));
            }
            let Ok(count @ 1..) = self.receive(&mut bytes) else {
                return Err(std::mem::take(&mut self.pending));
            };
            self.pending.extend_from_slice(&bytes[..count]);
        }
    }

    /// Reads to the end of the next head, whatever it announces; `None` at the end.
    pub fn read_head_only(&mut self) -> Option<String> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(at) = position(&self.pending, b"\r\n\r\n") {
                let rest = self.pending.split_off(at + 4);
                let head = std::mem::replace(&mut self.pending, rest);
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            let count = self.receive(&mut bytes).ok().filter(|&count| count > 0)?;
            self.pending.extend_from_slice(&bytes[..count]);
        }
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.stream.read(bytes),
            Some(session) => rustls::Stream::new(session, &mut self.stream).read(bytes),
        }
    }

    pub fn send(&mut self, bytes: &(impl AsRef<[u8]> + ?Sized)) {
        let bytes = bytes.as_ref();
        // The other side may be gone: that is what some scripts are about.
        let _ = match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(session) => rustls::Stream::new(session, &mut self.stream).write_all(bytes),
        };
    }

    /// Says that nothing follows, as far as TLS has a word for it.
    pub fn say_goodbye(&mut self) {
        if let Some(session) = &mut self.tls {
            session.send_close_notify();
            // The other side may be gone.
            let _ = session.complete_io(&mut self.stream);
        }
    }
}

/// Bytes of the request at the start of `bytes`, once it is whole, by the plainest reading of
/// RFC 9112: what a server sees that accepts nothing else.
fn request_len(bytes: &[u8]) -> Option<usize> {
    let head = position(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let value = |name: &str| -> Option<String> {
        let line = text
            .split("\r\n")
            .find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().to_owned())
    };
    if value("transfer-encoding:").is_some() {
        let mut at = head;
        loop {
            let line = position(&bytes[at..], b"\r\n")?;
            let size = String::from_utf8_lossy(&bytes[at..at + line]).into_owned();
            let size = usize::from_str_radix(size.split(';').next()?, 16).ok()?;
            at += line + 2;
            if size == 0 {
                break;
            }
            at += size + 2;
            bytes.get(at..)?;
        }
        loop {
            let line = position(&bytes[at..], b"\r\n")?;
            at += line + 2;
            if line == 0 {
                return Some(at);
            }
        }
    }
    let length = value("content-length:").map_or(Some(0), |value| value.parse().ok())?;
    (bytes.len() - head >= length).then_some(head + length)
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
