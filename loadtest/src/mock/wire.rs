//! One connection's bytes: read, decrypted, and written back encrypted.
//!
//! ```text
//! socket ─ net_in ─▶ rustls ─▶ plain [taken │ pending]      plaintext ─▶ rustls ─ net_out ─▶ socket
//! ```
//! Buffers are used again from one request to the next; without TLS the same path skips rustls.

use std::io::{self, Read, Write};
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use rustls::{HandshakeKind, ServerConnection};

/// A connection's first read buffer: a request without an upload fits.
const READ_BYTES: usize = 8 * 1024;

/// Its read buffer once a read has filled the first: uploads need few system calls then.
const READ_BYTES_BUSY: usize = 128 * 1024;

/// How long a closing connection waits for the other side's end, so that what was sent is not lost
/// in a reset: longer than any loopback needs.
const LINGER: Duration = Duration::from_millis(200);

/// A connection of the mock.
pub(super) struct Wire {
    stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
    net_in: Vec<u8>,
    net_out: Vec<u8>,
    plain: Vec<u8>,
    taken: usize,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, tls: Option<ServerConnection>) -> Self {
        let tls = tls.map(|mut tls| {
            // Bounded by what `send` is given, never by a client.
            tls.set_buffer_limit(None);
            Box::new(tls)
        });
        Self {
            stream,
            tls,
            net_in: Vec::with_capacity(READ_BYTES),
            net_out: Vec::new(),
            plain: Vec::new(),
            taken: 0,
        }
    }

    /// Completes the TLS handshake; tells which kind it was, `None` without TLS.
    pub(super) async fn handshake(&mut self) -> io::Result<Option<HandshakeKind>> {
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            if self.read().await?.is_none() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.tls.as_ref().and_then(|tls| tls.handshake_kind()))
    }

    /// What was received and not yet consumed.
    pub(super) fn pending(&self) -> &[u8] {
        &self.plain[self.taken..]
    }

    /// Takes `n` pending bytes away.
    pub(super) fn consume(&mut self, n: usize) {
        self.taken += n;
        if self.taken >= self.plain.len() {
            self.plain.clear();
            self.taken = 0;
        }
    }

    /// Waits for more plaintext; zero means that the connection has ended.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        if self.taken > 0 {
            self.plain.drain(..self.taken);
            self.taken = 0;
        }
        loop {
            match self.read().await? {
                // A ticket or a key update: TLS's own business.
                Some(0) => {}
                Some(n) => return Ok(n),
                None => return Ok(0),
            }
        }
    }

    /// Reads once and tells how much plaintext came; `None` at the end.
    async fn read(&mut self) -> io::Result<Option<usize>> {
        let buf = std::mem::take(&mut self.net_in);
        let (result, buf) = self.stream.read(buf).await;
        self.net_in = buf;
        let n = result?;
        if n == 0 {
            return Ok(None);
        }
        let (got, closed) = self.decrypt(n)?;
        if n == self.net_in.capacity() && n < READ_BYTES_BUSY {
            self.net_in = Vec::with_capacity(READ_BYTES_BUSY);
        }
        self.flush().await?;
        Ok((got > 0 || !closed).then_some(got))
    }

    /// Encrypts and writes all of `data`.
    pub(super) async fn send(&mut self, data: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(data)?,
            None => self.net_out.extend_from_slice(data),
        }
        self.flush().await
    }

    /// Ends the connection in order: what was sent arrives, then its end.
    pub(super) async fn finish(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        if self.flush().await.is_err() || self.stream.shutdown().await.is_err() {
            return;
        }
        let _ = monoio::time::timeout(LINGER, self.drain()).await;
    }

    /// Ends the connection with a reset.
    pub(super) fn reset(self) {
        use std::os::fd::{AsRawFd, BorrowedFd};
        // SAFETY: the stream owns the descriptor and lives until the end of this function.
        let fd = unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) };
        let _ = socket2::SockRef::from(&fd).set_linger(Some(Duration::ZERO));
    }

    /// Reads and forgets until the other side ends the connection.
    pub(super) async fn drain(&mut self) {
        loop {
            let buf = std::mem::take(&mut self.net_in);
            let (result, buf) = self.stream.read(buf).await;
            self.net_in = buf;
            if !matches!(result, Ok(n) if n > 0) {
                return;
            }
        }
    }

    /// Passes the `n` bytes of `net_in` through TLS; tells how much plaintext came of them, and
    /// whether the other side has ended its part.
    fn decrypt(&mut self, n: usize) -> io::Result<(usize, bool)> {
        let mut input = &self.net_in[..n];
        let Some(tls) = &mut self.tls else {
            self.plain.extend_from_slice(input);
            return Ok((n, false));
        };
        let (mut got, mut closed) = (0, false);
        while !input.is_empty() && !closed {
            tls.read_tls(&mut input)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let ready = state.plaintext_bytes_to_read();
            let start = self.plain.len();
            self.plain.resize(start + ready, 0);
            tls.reader().read_exact(&mut self.plain[start..])?;
            got += ready;
            closed = state.peer_has_closed();
        }
        Ok((got, closed))
    }

    async fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.net_out)?;
            }
        }
        if self.net_out.is_empty() {
            return Ok(());
        }
        let (result, mut buf) = self
            .stream
            .write_all(std::mem::take(&mut self.net_out))
            .await;
        buf.clear();
        self.net_out = buf;
        result.map(drop)
    }
}
