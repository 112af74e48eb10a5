//! A client's connection under TLS: its session, and the handshake that comes first.
//!
//! ```text
//! socket ─▶ incoming ─▶ open ─▶ client.inbuf      client.outbuf ─▶ seal ─▶ outgoing ─▶ socket
//! ```
//!
//! A connection without TLS has none of this. One with it holds a [`Secured`] in a box, whose buffers
//! are empty while it idles.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use monoio::net::TcpStream;
use rustls::ServerConfig;
use socket2::SockRef;

use super::Worker;
use super::conn::{self, Client};
use super::elsewhere;
use crate::clock;
use crate::http1::Reply;
use crate::io::Buf;
use crate::io::socket::{Half, borrow, read_some, write_all};
use crate::metrics::HandshakeFailure;
use crate::tls::{Handshake, ServerSession};

/// Room asked for before a read of a handshake: a client's first message is some hundred bytes.
const READ_ROOM: usize = 1024;

/// What every TLS connection begins with: the record type of a handshake (RFC 8446 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What the first request of another node carries right behind its request line.
const PASS: &[u8] = b"\r\nweir-pass: ";

/// The session on a client's connection, and the bytes between it and the socket.
pub(super) struct Secured {
    session: ServerSession,
    /// From the socket and not opened yet.
    pub(super) incoming: Buf,
    /// Sealed and not written yet.
    pub(super) outgoing: Buf,
    /// An answer was broken off, and the client must not be told that it ended well.
    cut: bool,
}

impl Secured {
    /// Opens what has come, into `plain`. False if the client has ended its stream and said no more.
    ///
    /// # Errors
    /// What came is not authentic.
    pub(super) fn open(&mut self, plain: &mut Buf) -> io::Result<bool> {
        let opened = self
            .session
            .decrypt(&mut self.incoming, plain, &mut self.outgoing);
        opened.map_err(invalid)?;
        Ok(!self.session.peer_closed() || !plain.is_empty())
    }

    /// Whether the client has said that it will send nothing more.
    pub(super) fn has_ended(&self) -> bool {
        self.session.peer_closed()
    }

    /// Seals all of `plain` behind what waits to be written.
    ///
    /// # Errors
    /// The session is of no more use.
    pub(super) fn seal(&mut self, plain: &mut Buf) -> io::Result<()> {
        let sealed = self.session.encrypt(plain.as_slice(), &mut self.outgoing);
        plain.clear();
        sealed.map_err(invalid)
    }

    /// Whether nothing of a record has come.
    pub(super) fn is_at_rest(&self) -> bool {
        self.incoming.is_empty()
    }

    /// Gives the buffers back for the time the connection idles.
    pub(super) fn rest(&mut self) {
        self.incoming.release();
        self.outgoing.release();
    }

    /// The answer under way ends before its end.
    pub(super) fn cut(&mut self) {
        self.cut = true;
    }

    /// Tells the client that there is no more, as far as that goes without waiting.
    pub(super) fn farewell(&mut self, stream: &TcpStream) {
        if self.cut {
            return;
        }
        self.outgoing.clear();
        self.session.close(&mut self.outgoing);
        let borrowed = borrow(stream);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // A client that takes nothing now has closed, or will be closed on.
        let _ = SockRef::from(&borrowed).send_with_flags(self.outgoing.as_slice(), flags);
        self.outgoing.clear();
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Why there is no session.
struct Failure {
    kind: HandshakeFailure,
    error: Option<io::Error>,
}

/// Serves one connection to its end by `then`, after its handshake.
pub(super) async fn serve<F: Future<Output = ()>>(
    worker: Rc<Worker>,
    mut client: Client,
    config: Arc<ServerConfig>,
    then: impl FnOnce(Rc<Worker>, Client) -> F,
) {
    // Boxed: it is over soon, and its state would stay part of the connection's task.
    if Box::pin(shake(&worker, &mut client, config)).await {
        then(worker, client).await;
    }
}

/// Shakes hands within `CLIENT_HEADER_TIMEOUT`; false if that came to nothing, which is counted and
/// told of.
async fn shake(worker: &Rc<Worker>, client: &mut Client, config: Arc<ServerConfig>) -> bool {
    let patience = worker.process.config.client_header_timeout;
    let armed = worker
        .deadlines
        .arm_after(&client.stream, Half::Both, patience);
    let shaken = handshake(client, config).await;
    let expired = armed.expired();
    let failure = match shaken {
        Ok(secured) => {
            {
                let mut metrics = worker.metrics();
                match secured.session.resumed() {
                    true => metrics.own.tls.resumed += 1,
                    false => metrics.own.tls.handshakes += 1,
                }
            }
            client.tls = Some(Box::new(secured));
            return true;
        }
        Err(_) if expired => Failure {
            kind: HandshakeFailure::Timeout,
            error: None,
        },
        Err(failure) => failure,
    };
    worker.metrics().own.tls.fail(failure.kind);
    if let Some(unsaid) = worker.process.troubles.unshaken.happened(clock::now()) {
        tracing::debug!(
            kind = ?failure.kind,
            error = failure.error.as_ref().map(tracing::field::display),
            unsaid,
            "a client's TLS handshake came to nothing"
        );
    }
    if matches!(
        failure.kind,
        HandshakeFailure::Timeout | HandshakeFailure::Gone
    ) {
        return false;
    }
    // It may still be sending, and a close with unread bytes could take the reason from it.
    client.inbuf.clear();
    conn::linger(worker, client).await;
    false
}

async fn handshake(client: &mut Client, config: Arc<ServerConfig>) -> Result<Secured, Failure> {
    let session = ServerSession::accept(config).map_err(protocol)?;
    let mut secured = Secured {
        session,
        incoming: Buf::new(),
        outgoing: Buf::new(),
        cut: false,
    };
    let Secured {
        session,
        incoming,
        outgoing,
        ..
    } = &mut secured;
    let mut heard = false;
    loop {
        match session.handshake(incoming, &mut client.inbuf, outgoing) {
            Ok(Handshake::Send) => write_all(&mut client.stream, outgoing)
                .await
                .map_err(gone)?,
            Ok(Handshake::Receive) => {
                let count = read_some(&mut client.stream, incoming, READ_ROOM).await;
                if count.map_err(gone)? == 0 {
                    return Err(gone(io::ErrorKind::UnexpectedEof.into()));
                }
                let first = incoming.as_slice().first().copied();
                if !std::mem::replace(&mut heard, true) && first != Some(HANDSHAKE_RECORD) {
                    return Err(no_tls(client, incoming).await);
                }
            }
            Ok(Handshake::Done) => {
                secured.rest();
                return Ok(secured);
            }
            Err(error) => {
                session.complain(outgoing);
                // It has failed whatever comes of it.
                let _ = write_all(&mut client.stream, outgoing).await;
                return Err(protocol(error));
            }
        }
    }
}

/// Answers a client that speaks no TLS, if it seems to speak HTTP.
async fn no_tls(client: &mut Client, incoming: &mut Buf) -> Failure {
    // Methods are of capital letters; anything else may be anything.
    if !incoming
        .as_slice()
        .first()
        .is_some_and(u8::is_ascii_uppercase)
    {
        return Failure {
            kind: HandshakeFailure::Protocol,
            error: None,
        };
    }
    // Another node that has not heard yet that there is TLS here: it is told, as one that is sent away
    // is, that nothing came of it.
    if incoming
        .as_slice()
        .windows(PASS.len())
        .any(|bytes| bytes == PASS)
    {
        client.outbuf.push(elsewhere::WAITS);
        let _ = write_all(&mut client.stream, &mut client.outbuf).await;
        return Failure {
            kind: HandshakeFailure::PlainHttp,
            error: None,
        };
    }
    let reply = Reply::error(
        400,
        "this port speaks HTTPS, and the request came without TLS",
    );
    reply.encode(false, client.outbuf.writable());
    let _ = write_all(&mut client.stream, &mut client.outbuf).await;
    Failure {
        kind: HandshakeFailure::PlainHttp,
        error: None,
    }
}

fn gone(error: io::Error) -> Failure {
    Failure {
        kind: HandshakeFailure::Gone,
        error: Some(error),
    }
}

fn protocol(error: rustls::Error) -> Failure {
    use rustls::{AlertDescription as Alert, Error};
    let kind = match error {
        Error::NoCertificatesPresented
        | Error::InvalidCertificate(_)
        | Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA,
        ) => HandshakeFailure::Certificate,
        _ => HandshakeFailure::Protocol,
    };
    Failure {
        kind,
        error: Some(io::Error::other(error)),
    }
}
