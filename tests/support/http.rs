//! An HTTP/1.1 client for tests, on a blocking socket: it sends what it is told, byte for byte,
//! and reads answers strictly.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection};

/// A connection to weir.
pub struct Client {
    pub stream: TcpStream,
    /// The session on it, if it is not plain HTTP.
    pub tls: Option<Box<ClientConnection>>,
    buffer: Vec<u8>,
}

/// An answer with its body, unchunked.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Interim answers (1xx) that came before.
    pub interim: Vec<u16>,
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("weir accepts");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self {
            stream,
            tls: None,
            buffer: Vec::new(),
        }
    }

    /// A connection under TLS to whoever `config` believes to be `localhost`. The handshake comes with
    /// the first bytes.
    pub fn secure(addr: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let name = "localhost".try_into().expect("a name");
        let session = ClientConnection::new(config.clone(), name).expect("a configuration");
        Self {
            tls: Some(Box::new(session)),
            ..Self::connect(addr)
        }
    }

    /// Shakes hands.
    pub fn shake(&mut self) -> std::io::Result<()> {
        let session = self.tls.as_mut().expect("a connection under TLS");
        while session.is_handshaking() {
            session.complete_io(&mut self.stream)?;
        }
        Ok(())
    }

    /// A connection, if it is not refused.
    pub fn try_connect(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            tls: None,
            buffer: Vec::new(),
        })
    }

    /// Sends a request and reads its answer; `None` if the connection ends before that is whole.
    pub fn try_ask(&mut self, request: &str) -> Option<Answer> {
        self.stream.write_all(request.as_bytes()).ok()?;
        self.try_answer(request.starts_with("HEAD "))
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(session) => rustls::Stream::new(&mut **session, &mut self.stream).write_all(bytes),
        }
        .expect("weir takes the bytes");
    }

    /// Reads what there is; 0 is the end, and under TLS one that weir has told of.
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.tls {
            None => self.stream.read(bytes),
            Some(session) => rustls::Stream::new(&mut **session, &mut self.stream).read(bytes),
        }
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, request: &str) -> Answer {
        self.send(request);
        self.answer(request.starts_with("HEAD "))
    }

    /// Half-closes: nothing more will be sent.
    pub fn finish(&self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("still connected");
    }

    /// Reads one answer.
    pub fn answer(&mut self, head_only: bool) -> Answer {
        self.try_answer(head_only).expect("an answer")
    }

    /// Reads one answer; `None` if the connection ends before it is whole.
    pub fn try_answer(&mut self, head_only: bool) -> Option<Answer> {
        let mut interim = Vec::new();
        loop {
            let (status, headers) = self.head()?;
            if (100..200).contains(&status) {
                interim.push(status);
                continue;
            }
            let mut answer = Answer {
                status,
                headers,
                body: Vec::new(),
                interim,
            };
            let bodiless = head_only || status == 204 || status == 304;
            if !bodiless {
                answer.body = if answer.header("transfer-encoding").is_some() {
                    self.chunks()?
                } else if let Some(length) = answer.header("content-length") {
                    let length = length.parse().expect("a length");
                    self.take(length)?
                } else {
                    self.rest()
                };
            }
            return Some(answer);
        }
    }

    /// Whether the other side ends the connection, without sending anything more.
    pub fn is_closed(&mut self) -> bool {
        assert!(
            self.buffer.is_empty(),
            "unread: {:?}",
            String::from_utf8_lossy(&self.buffer)
        );
        let mut byte = [0];
        match self.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => panic!("a byte after the last answer: {:?}", byte[0] as char),
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// Everything until the connection ends.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let end = loop {
            if let Some(at) = self
                .buffer
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n")
            {
                break at;
            }
            if !self.fill() {
                return None;
            }
        };
        let head = String::from_utf8(self.buffer[..end].to_vec()).expect("an ASCII head");
        self.buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().expect("a status line");
        let status = status
            .split(' ')
            .nth(1)
            .expect("a status")
            .parse()
            .expect("a number");
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a header line");
            (name.to_owned(), value.trim().to_owned())
        });
        Some((status, headers.collect()))
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next()?, 16).expect("a chunk size");
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Some(body);
            }
            body.extend(self.take(size)?);
            assert_eq!(self.take(2)?, b"\r\n");
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|bytes| bytes == b"\r\n") {
                let line = String::from_utf8(self.buffer[..at].to_vec()).expect("ASCII");
                self.buffer.drain(..at + 2);
                return Some(line);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.fill() {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    fn fill(&mut self) -> bool {
        let mut chunk = vec![0; 64 * 1024];
        match self.read(&mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            // Under TLS, an end that weir has not told of.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
            Err(error) => panic!("reading: {error}"),
        }
    }
}
