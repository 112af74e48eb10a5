//! What parts go over: a stream, under TLS where the node that is told speaks TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::{ClientConnection, ServerConnection, StreamOwned};

use super::timed::Timed;
use crate::clock::Instant;
use crate::cluster::control::Tls;
use crate::cluster::member::Node;

/// Both directions; reading and writing shake hands first.
pub(super) enum Stream {
    Plain(Timed),
    /// From here.
    Telling(Box<StreamOwned<ClientConnection, Timed>>),
    /// To here.
    Told(Box<StreamOwned<ServerConnection, Timed>>),
}

impl Stream {
    /// The stream to `node` over `socket`.
    ///
    /// # Errors
    /// `node` speaks TLS, and nothing is known of whom to believe.
    pub(super) fn to(node: &Node, socket: TcpStream, tls: &Tls) -> io::Result<Self> {
        let socket = Timed::new(socket, Instant::FAR);
        if !node.tls {
            return Ok(Self::Plain(socket));
        }
        let trust = tls.trust.as_ref().map(|t| t.towards(node.addr.ip()));
        let trust = trust.ok_or_else(|| io::Error::other("there is no CLUSTER_CA_FILE"))?;
        let session = ClientConnection::new(trust.config.now(), trust.name);
        let session = session.map_err(io::Error::other)?;
        Ok(Self::Telling(Box::new(StreamOwned::new(session, socket))))
    }

    /// The stream that came over `socket`, good until then.
    ///
    /// # Errors
    /// rustls refuses the configuration.
    pub(super) fn from(socket: TcpStream, until: Instant, tls: &Tls) -> io::Result<Self> {
        let socket = Timed::new(socket, until);
        let Some(shown) = &tls.shown else {
            return Ok(Self::Plain(socket));
        };
        let session = ServerConnection::new(Arc::clone(&shown.current()));
        let session = session.map_err(io::Error::other)?;
        Ok(Self::Told(Box::new(StreamOwned::new(session, socket))))
    }

    /// The stream is good until then.
    pub(super) fn until(&mut self, until: Instant) {
        match self {
            Self::Plain(stream) => stream.until(until),
            Self::Telling(stream) => stream.sock.until(until),
            Self::Told(stream) => stream.sock.until(until),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(bytes),
            Self::Telling(stream) => stream.read(bytes),
            Self::Told(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Telling(stream) => stream.write(bytes),
            Self::Told(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Telling(stream) => stream.flush(),
            Self::Told(stream) => stream.flush(),
        }
    }
}
