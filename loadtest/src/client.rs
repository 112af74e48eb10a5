//! A blocking HTTP/1.1 client for tests and bots: one connection, kept alive, plain or TLS.
//!
//! It says what happened on the wire (an answer, an early end, a reset) instead of hiding it by
//! retrying. Bodies can be streamed both ways with flat memory.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// No answer of a test takes longer, unless it is told to.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer's head at most.
const HEAD_MAX: usize = 64 * 1024;

/// One answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers in order, names as received.
    pub headers: Vec<(String, String)>,
    /// Body, decoded from chunks; empty when it was passed to a sink.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON, `null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// How to reach a server.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its address.
    pub addr: SocketAddr,
    /// The `Host` header.
    pub host: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Target {
    /// A server without TLS.
    pub fn plain(addr: SocketAddr) -> Self {
        Self {
            addr,
            host: addr.to_string(),
            tls: None,
        }
    }

    /// A server with TLS that proves to be `localhost` by a certificate of this authority.
    ///
    /// # Errors
    /// When the PEM holds no certificate.
    pub fn tls(addr: SocketAddr, ca_pem: &str) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots
                .add(cert.map_err(io::Error::other)?)
                .map_err(io::Error::other)?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let host = format!("localhost:{}", addr.port());
        Ok(Self {
            addr,
            host,
            tls: Some((Arc::new(config), name)),
        })
    }

    /// The TLS session to begin a connection with.
    pub(crate) fn session(&self) -> io::Result<Option<ClientConnection>> {
        let Some((config, name)) = &self.tls else {
            return Ok(None);
        };
        let session = ClientConnection::new(Arc::clone(config), name.clone());
        session.map(Some).map_err(io::Error::other)
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A kept-alive connection.
pub struct Client {
    stream: Stream,
    host: String,
    pending: Vec<u8>,
    authorization: String,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// What the socket says.
    pub fn connect(target: &Target) -> io::Result<Self> {
        let tcp = TcpStream::connect(target.addr)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(TIMEOUT))?;
        tcp.set_write_timeout(Some(TIMEOUT))?;
        let stream = match target.session()? {
            Some(session) => Stream::Tls(Box::new(StreamOwned::new(session, tcp))),
            None => Stream::Plain(tcp),
        };
        let (host, authorization) = (target.host.clone(), String::new());
        Ok(Self {
            stream,
            host,
            pending: Vec::new(),
            authorization,
        })
    }

    /// The same connection, sending this `Authorization` with every request.
    #[must_use]
    pub fn authorized(mut self, authorization: &str) -> Self {
        authorization.clone_into(&mut self.authorization);
        self
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// What the socket says; `UnexpectedEof` when the answer ended early.
    pub fn get(&mut self, target: &str) -> io::Result<Response> {
        self.request("GET", target, &[], b"")
    }

    /// Sends a request with a JSON body.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn json(&mut self, method: &str, target: &str, json: &str) -> io::Result<Response> {
        let headers = [("Content-Type", "application/json")];
        self.request(method, target, &headers, json.as_bytes())
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        let mut head = self.head(method, target, headers);
        if !body.is_empty() || !matches!(method, "GET" | "HEAD" | "DELETE") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.write_all(&bytes)?;
        self.stream.flush()?;
        self.response(method)
    }

    /// Sends a request whose body is `blocks` of `block`, in chunks or with its length.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn upload(
        &mut self,
        target: &str,
        block: &[u8],
        blocks: usize,
        chunked: bool,
    ) -> io::Result<Response> {
        let headers = [("Content-Type", "application/octet-stream")];
        let mut head = self.head("POST", target, &headers);
        if chunked {
            head.push_str("Transfer-Encoding: chunked\r\n\r\n");
        } else {
            head.push_str(&format!("Content-Length: {}\r\n\r\n", block.len() * blocks));
        }
        self.stream.write_all(head.as_bytes())?;
        for _ in 0..blocks {
            if chunked {
                self.stream
                    .write_all(format!("{:x}\r\n", block.len()).as_bytes())?;
            }
            self.stream.write_all(block)?;
            if chunked {
                self.stream.write_all(b"\r\n")?;
            }
        }
        if chunked {
            self.stream.write_all(b"0\r\n\r\n")?;
        }
        self.stream.flush()?;
        self.response("POST")
    }

    /// Sends a `GET` and passes the body of its answer to `sink`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn download(&mut self, target: &str, mut sink: impl FnMut(&[u8])) -> io::Result<Response> {
        let head = self.head("GET", target, &[]) + "\r\n";
        self.stream.write_all(head.as_bytes())?;
        self.stream.flush()?;
        self.read_response("GET", &mut sink)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// What the socket says.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Waits for the answer to a request of this method, as after [`Client::send_raw`].
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn response(&mut self, method: &str) -> io::Result<Response> {
        let mut body = Vec::new();
        let response = self.read_response(method, &mut |data| body.extend_from_slice(data))?;
        Ok(Response { body, ..response })
    }

    /// Waits for the head of the answer to a request, and leaves its body.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn response_head(&mut self) -> io::Result<Response> {
        loop {
            let response = self.read_head()?;
            // Interim answers are followed by the answer itself.
            if !(100..200).contains(&response.status) {
                return Ok(response);
            }
        }
    }

    /// Passes the body that follows `response`, the head of an answer to `method`, to `sink`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn response_body(
        &mut self,
        method: &str,
        response: &Response,
        sink: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        if method == "HEAD" || matches!(response.status, 204 | 304) {
            return Ok(());
        }
        if response
            .header("transfer-encoding")
            .is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
        {
            self.read_chunks(sink)
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().map_err(io::Error::other)?;
            self.read_exactly(length, sink)
        } else {
            self.read_to_end(sink)
        }
    }

    /// The socket under it all, to close or to listen to in ways of one's own.
    pub fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    /// Whether the server has ended the connection: waits for at most `time`.
    pub fn is_closed_within(&mut self, time: Duration) -> bool {
        let _ = self.socket().set_read_timeout(Some(time));
        let mut buf = [0; 1024];
        let closed = loop {
            match self.stream.read(&mut buf) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(_) => break true,
            }
        };
        if let Stream::Plain(tcp) = &self.stream {
            let _ = tcp.set_read_timeout(Some(TIMEOUT));
        }
        closed
    }

    fn head(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        if !self.authorization.is_empty() {
            head.push_str(&format!("Authorization: {}\r\n", self.authorization));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    fn read_response(&mut self, method: &str, sink: &mut dyn FnMut(&[u8])) -> io::Result<Response> {
        let response = self.response_head()?;
        self.response_body(method, &response, sink)?;
        Ok(response)
    }

    fn read_head(&mut self) -> io::Result<Response> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 100];
            let mut parsed = httparse::Response::new(&mut headers);
            match parsed.parse(&self.pending) {
                Ok(httparse::Status::Complete(n)) => {
                    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                    let headers = parsed.headers.iter();
                    let response = Response {
                        status: parsed.code.unwrap_or(0),
                        headers: headers
                            .map(|h| (h.name.to_owned(), text(h.value)))
                            .collect(),
                        body: Vec::new(),
                    };
                    self.pending.drain(..n);
                    return Ok(response);
                }
                Ok(httparse::Status::Partial) if self.pending.len() < HEAD_MAX => {}
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let start = self.pending.len();
        self.pending.resize(start + 64 * 1024, 0);
        let read = self.stream.read(&mut self.pending[start..]);
        self.pending
            .truncate(start + read.as_ref().copied().unwrap_or(0));
        match read? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn read_exactly(&mut self, mut length: u64, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        while length > 0 {
            if self.pending.is_empty() {
                self.fill()?;
            }
            let n = usize::try_from(length)
                .unwrap_or(usize::MAX)
                .min(self.pending.len());
            sink(&self.pending[..n]);
            self.pending.drain(..n);
            length -= n as u64;
        }
        Ok(())
    }

    fn read_chunks(&mut self, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        use crate::mock::http::{BodyDecoder, Framing};
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        while !decoder.is_done() {
            if self.pending.is_empty() {
                self.fill()?;
            }
            let used = decoder
                .feed(&self.pending, &mut *sink)
                .map_err(io::Error::other)?;
            self.pending.drain(..used);
        }
        Ok(())
    }

    fn read_to_end(&mut self, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        loop {
            sink(&self.pending);
            self.pending.clear();
            match self.fill() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
