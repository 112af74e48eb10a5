//! A connection that never blocks, plain or TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use rustls::{ClientConnection, StreamOwned};

use crate::client::Target;

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects and shakes hands while blocking, then never blocks again.
    pub(super) fn connect(target: &Target) -> io::Result<Self> {
        let mut tcp = TcpStream::connect(target.addr)?;
        tcp.set_nodelay(true)?;
        let Some(mut session) = target.session()? else {
            tcp.set_nonblocking(true)?;
            return Ok(Self::Plain(tcp));
        };
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        tcp.set_nonblocking(true)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(session, tcp))))
    }

    /// Reads what is there; `None` when nothing is, `Some(0)` at the end.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        let read = match self {
            Self::Plain(stream) => stream.read(buf),
            Self::Tls(stream) => stream.read(buf),
        };
        unblocked(read)
    }

    /// Writes what fits; `None` when nothing does.
    pub(super) fn write(&mut self, buf: &[u8]) -> io::Result<Option<usize>> {
        let written = match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Tls(stream) => stream.write(buf),
        };
        unblocked(written)
    }

    /// Whether TLS holds bytes that the socket did not take yet, after trying again.
    pub(super) fn is_clogged(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(false),
            Self::Tls(stream) => {
                unblocked(stream.flush().map(|()| 0))?;
                Ok(stream.conn.wants_write())
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.sock.as_fd(),
        }
    }
}

fn unblocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
