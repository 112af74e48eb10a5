//! One connection to the upstream: a socket, perhaps TLS on it, and the bytes in between.
//!
//! It is used as two sides at once, because an answer may begin while the request's body is still
//! on its way: [`Connection::split`] borrows a [`Sender`] and a [`Receiver`] that share the TLS
//! session and nothing else.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use monoio::io::{OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::TcpStream;

use crate::clock::Instant;
use crate::error::{Error, Kind};
use crate::io::socket::{Half, Peek, peek, read_some, readable, write_all};
use crate::io::{Buf, Deadlines};
use crate::tls::{ClientSession, Handshake, Trust};

/// Room asked for before a read. Small, because a read takes all the spare room there is; a larger
/// demand would make the buffer grow when a nearly complete record lies in it.
const READ_ROOM: usize = 1024;

/// A connection to the upstream.
pub struct Connection {
    fd: RawFd,
    reader: OwnedReadHalf<TcpStream>,
    writer: OwnedWriteHalf<TcpStream>,
    /// `None` when the upstream speaks plain HTTP.
    session: Option<RefCell<ClientSession>>,
    /// Bytes from the socket that are not decrypted yet; unused without TLS.
    incoming: Buf,
    /// Decrypted bytes that nobody has taken yet.
    plain: Buf,
    /// Bytes on their way to the socket.
    outgoing: Buf,
    /// What TLS itself owes the peer; goes out before the next record.
    owed: RefCell<Buf>,
    /// A write was begun and has not ended: if its future was dropped, part of it may be on the
    /// wire, and the connection must not carry another request.
    writing: Cell<bool>,
    /// Counts connections that were closed; `None` until this one counts as opened.
    closed: Option<Rc<Cell<u64>>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(closed) = &self.closed {
            closed.set(closed.get() + 1);
        }
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl Connection {
    /// A connection over `stream`; with a session, [`Connection::handshake`] comes next.
    pub fn new(stream: TcpStream, session: Option<ClientSession>) -> Self {
        let fd = stream.as_raw_fd();
        let (reader, writer) = stream.into_split();
        Self {
            fd,
            reader,
            writer,
            session: session.map(RefCell::new),
            incoming: Buf::new(),
            plain: Buf::new(),
            outgoing: Buf::new(),
            owed: RefCell::new(Buf::new()),
            writing: Cell::new(false),
            closed: None,
        }
    }

    /// One over `stream`, on which hands are shaken before `until` where there is something to prove; and
    /// whether an earlier session was resumed.
    ///
    /// # Errors
    /// The peer is not whom it should be, went away, or takes too long.
    pub async fn open(
        stream: TcpStream,
        trust: Option<&Trust>,
        until: Instant,
        deadlines: &Deadlines,
    ) -> Result<(Box<Self>, bool), Error> {
        let session = trust.map(Trust::session).transpose();
        let session = session.map_err(handshake_error)?;
        let mut connection = Box::new(Self::new(stream, session));
        let deadline = deadlines.arm(&*connection, Half::Both, until);
        let shaken = connection.handshake().await;
        if deadline.expired() {
            return Err(Error::new(Kind::ConnectTimeout));
        }
        Ok((connection, shaken?))
    }

    /// It is open: `closed` is counted up when it ends. One whose handshake failed never was.
    pub fn opened(&mut self, closed: Rc<Cell<u64>>) {
        self.closed = Some(closed);
    }

    /// Shakes hands; returns whether an earlier session was resumed.
    ///
    /// # Errors
    /// The peer is not whom it should be, or went away.
    pub async fn handshake(&mut self) -> Result<bool, Error> {
        let Some(session) = &mut self.session else {
            return Ok(false);
        };
        let session = session.get_mut();
        loop {
            let step = session.handshake(&mut self.incoming, &mut self.plain, &mut self.outgoing);
            match step.map_err(handshake_error)? {
                Handshake::Send => write_all(&mut self.writer, &mut self.outgoing)
                    .await
                    .map_err(|error| Error::with(Kind::TlsHandshake, error))?,
                Handshake::Receive => {
                    let count = read_some(&mut self.reader, &mut self.incoming, READ_ROOM)
                        .await
                        .map_err(|error| Error::with(Kind::TlsHandshake, error))?;
                    if count == 0 {
                        return Err(Error::with(
                            Kind::TlsHandshake,
                            io::ErrorKind::UnexpectedEof.into(),
                        ));
                    }
                }
                // Nobody is answered before asking.
                Handshake::Done if !self.plain.is_empty() => {
                    return Err(Error::new(Kind::TlsHandshake));
                }
                Handshake::Done => return Ok(session.resumed()),
            }
        }
    }

    /// The protocol of TLS that was agreed upon; `None` without.
    pub fn protocol(&self) -> Option<&'static str> {
        self.session.as_ref()?.borrow().protocol()
    }

    /// Borrows both sides at once.
    pub fn split(&mut self) -> (Sender<'_>, Receiver<'_>) {
        let session = self.session.as_ref();
        (
            Sender {
                fd: self.fd,
                half: &mut self.writer,
                session,
                outgoing: &mut self.outgoing,
                owed: &self.owed,
                writing: &self.writing,
            },
            Receiver {
                fd: self.fd,
                half: &mut self.reader,
                session,
                incoming: &mut self.incoming,
                plain: &mut self.plain,
                owed: &self.owed,
            },
        )
    }

    /// Whether an idle connection can carry another request. Session tickets that came while it
    /// idled are taken in; anything else means that it is over.
    pub async fn is_alive(&mut self) -> bool {
        match peek(self) {
            Peek::Quiet => true,
            Peek::Ended | Peek::Broken => false,
            Peek::Bytes => {
                if self.session.is_none() {
                    return false;
                }
                let (_, mut receiver) = self.split();
                receiver.receive().await.is_ok_and(|count| count > 0)
                    && self.plain.is_empty()
                    && self.incoming.is_empty()
                    && self
                        .session
                        .as_ref()
                        .is_some_and(|s| !s.borrow().peer_closed())
                    && peek(self) == Peek::Quiet
            }
        }
    }

    /// Gives its buffers back for the time it idles. False if it must not be used again: a write
    /// did not end, or bytes are left over that no exchange owns.
    pub fn rest(&mut self) -> bool {
        self.incoming.release();
        self.plain.release();
        self.outgoing.release();
        !self.writing.get()
            && self.incoming.is_empty()
            && self.plain.is_empty()
            && self.outgoing.is_empty()
    }
}

/// The sending side of a connection.
pub struct Sender<'c> {
    fd: RawFd,
    half: &'c mut OwnedWriteHalf<TcpStream>,
    session: Option<&'c RefCell<ClientSession>>,
    outgoing: &'c mut Buf,
    owed: &'c RefCell<Buf>,
    writing: &'c Cell<bool>,
}

impl AsRawFd for Sender<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl AsRawFd for Receiver<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl Sender<'_> {
    /// Puts `plain` behind what waits to be sent.
    ///
    /// # Errors
    /// The session has ended.
    pub fn queue(&mut self, plain: &[u8]) -> Result<(), Error> {
        let Some(session) = self.session else {
            self.outgoing.push(plain);
            return Ok(());
        };
        let mut owed = self.owed.borrow_mut();
        if !owed.is_empty() {
            self.outgoing.push(owed.as_slice());
            owed.clear();
            owed.release();
        }
        let sealed = session.borrow_mut().encrypt(plain, self.outgoing);
        sealed.map_err(record_error)
    }

    /// Sends what was queued.
    ///
    /// # Errors
    /// Whatever the socket says.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.writing.set(true);
        write_all(self.half, self.outgoing).await?;
        self.writing.set(false);
        Ok(())
    }
}

/// The receiving side of a connection.
pub struct Receiver<'c> {
    fd: RawFd,
    half: &'c mut OwnedReadHalf<TcpStream>,
    session: Option<&'c RefCell<ClientSession>>,
    incoming: &'c mut Buf,
    plain: &'c mut Buf,
    owed: &'c RefCell<Buf>,
}

impl Receiver<'_> {
    /// Reads from the socket once and decrypts what is complete, into [`Receiver::plain`].
    /// Returns the bytes read from the socket; 0 is the end of the stream, be it by close_notify
    /// or by FIN.
    ///
    /// # Errors
    /// Whatever the socket or TLS says.
    pub async fn receive(&mut self) -> Result<usize, Error> {
        let Some(session) = self.session else {
            return read_some(self.half, self.plain, READ_ROOM)
                .await
                .map_err(Error::exchanging);
        };
        if session.borrow().peer_closed() {
            return Ok(0);
        }
        let count = read_some(self.half, self.incoming, READ_ROOM)
            .await
            .map_err(Error::exchanging)?;
        let before = self.plain.len();
        session
            .borrow_mut()
            .decrypt(self.incoming, self.plain, &mut self.owed.borrow_mut())
            .map_err(record_error)?;
        if session.borrow().peer_closed() && self.plain.len() == before {
            return Ok(0);
        }
        Ok(count)
    }

    /// Waits until there is something to be received, and holds no buffer meanwhile.
    ///
    /// # Errors
    /// Whatever the socket says.
    pub async fn ready(&self) -> io::Result<()> {
        readable(self.half).await
    }

    /// Whether the end of the stream was said and not merely met: by close_notify with TLS
    /// (RFC 8446 6.1), by FIN without. Asked after [`Receiver::receive`] returned 0.
    pub fn ended_cleanly(&self) -> bool {
        self.session
            .is_none_or(|session| session.borrow().peer_closed())
    }

    /// Received and not yet taken.
    pub fn plain(&mut self) -> &mut Buf {
        self.plain
    }
}

/// What a failed handshake was.
pub(crate) fn handshake_error(error: rustls::Error) -> Error {
    let kind = match error {
        rustls::Error::InvalidCertificate(_) => Kind::TlsCertificate,
        _ => Kind::TlsHandshake,
    };
    Error::with(kind, io::Error::other(error))
}

fn record_error(error: rustls::Error) -> Error {
    Error::with(Kind::GarbageAnswer, io::Error::other(error))
}
