//! One session: rustls driven by hand over our own buffers.
//!
//! ```text
//! socket ─▶ incoming: ├─ complete records ─┼─ half a record ─┤ ─▶ decrypt ─▶ plain
//! socket ◀─ outgoing ◀─ encrypt ◀─ what is to be said
//! ```
//!
//! The unbuffered API of rustls is used because it reads records where they lie: the connection
//! holds no buffer of its own, so one that idles costs its keys and nothing else. When the handshake
//! is done, the records of TLS 1.3 are ours (`records`). [`Session`] is the state machine, without a
//! socket: bytes in, bytes out.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, Error, HandshakeKind, PeerMisbehaved, ProtocolVersion, ServerConfig};

use super::end::End;
use super::records::{Opened, Records};
use crate::io::Buf;

/// Room tried first for a handshake flight; rustls says how much more it wants.
const FLIGHT_BYTES: usize = 2048;

/// Bytes that a record adds to its plaintext: header 5, content type 1, tag 16 (RFC 8446 5.2), or
/// 5 + 8 + 16 in TLS 1.2; and a KeyUpdate may come before it.
const RECORD_OVERHEAD: usize = 64;

/// Plaintext of one record (RFC 8446 5.1).
const RECORD_PLAIN_BYTES: usize = 16 * 1024;

/// One TLS session, from the first flight to the last record, at the end `E` of it.
pub struct Session<E: End> {
    layer: Layer<E>,
    /// The handshake resumed an earlier session.
    resumed: bool,
    /// The peer sent close_notify: no more plaintext will come.
    peer_closed: bool,
    /// rustls points into `incoming`, at half a handshake message, and must be shown that and nothing
    /// else.
    pinned: bool,
}

/// The end that connects.
pub type ClientSession = Session<UnbufferedClientConnection>;

/// The end that accepts.
pub type ServerSession = Session<UnbufferedServerConnection>;

/// Who seals and opens records.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each TLS connection, which is boxed as a whole"
)]
enum Layer<E: End> {
    /// rustls: during the handshake, and all along with TLS 1.2.
    Rustls(E),
    /// We: TLS 1.3 after the handshake.
    Ours(Records<E>),
    /// Nobody, since the one did not become the other.
    Broken,
}

/// What the handshake needs next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handshake {
    /// `outgoing` holds a flight to be sent.
    Send,
    /// More bytes from the peer.
    Receive,
    /// Done: application data may flow.
    Done,
}

impl ClientSession {
    /// A session that has said nothing yet, with the server of this name.
    ///
    /// # Errors
    /// rustls refuses the configuration.
    pub fn connect(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        UnbufferedClientConnection::new(config, name).map(Self::new)
    }
}

impl ServerSession {
    /// A session that has heard nothing yet.
    ///
    /// # Errors
    /// rustls refuses the configuration.
    pub fn accept(config: Arc<ServerConfig>) -> Result<Self, Error> {
        UnbufferedServerConnection::new(config).map(Self::new)
    }
}

impl<E: End> Session<E> {
    fn new(tls: E) -> Self {
        Self {
            layer: Layer::Rustls(tls),
            resumed: false,
            peer_closed: false,
            pinned: false,
        }
    }

    /// The protocol that was agreed upon, once the handshake is done.
    pub fn protocol(&self) -> Option<&'static str> {
        match &self.layer {
            Layer::Ours(_) => Some("TLS 1.3"),
            Layer::Rustls(tls) => match tls.common().protocol_version()? {
                ProtocolVersion::TLSv1_3 => Some("TLS 1.3"),
                ProtocolVersion::TLSv1_2 => Some("TLS 1.2"),
                _ => None,
            },
            Layer::Broken => None,
        }
    }

    /// Takes the handshake as far as the bytes at hand allow. What the peer said right behind it is
    /// appended to `plain`.
    ///
    /// # Errors
    /// The peer's certificate or protocol is not acceptable; [`Session::complain`] says so to it.
    pub fn handshake(
        &mut self,
        incoming: &mut Buf,
        plain: &mut Buf,
        outgoing: &mut Buf,
    ) -> Result<Handshake, Error> {
        let Layer::Rustls(tls) = &mut self.layer else {
            return Ok(Handshake::Done);
        };
        loop {
            let UnbufferedStatus { mut discard, state } = tls.process(incoming.as_mut_slice());
            let step = match state? {
                ConnectionState::EncodeTlsData(mut flight) => {
                    append(outgoing, FLIGHT_BYTES, |room| flight.encode(room))
                        .map_err(|_| Error::EncryptError)?;
                    None
                }
                ConnectionState::ReadTraffic(mut records) => {
                    while let Some(record) = records.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain.push(record.payload);
                    }
                    None
                }
                ConnectionState::TransmitTlsData(flight) => {
                    // The caller sends `outgoing` before it calls again.
                    flight.done();
                    Some(Handshake::Send)
                }
                ConnectionState::BlockedHandshake => Some(Handshake::Receive),
                ConnectionState::WriteTraffic(_) => Some(Handshake::Done),
                // The peer is gone before it has said anything.
                _ => return Err(Error::HandshakeNotComplete),
            };
            incoming.consume(discard);
            self.pinned = begins_with_record(incoming);
            if let Some(step) = step {
                if step == Handshake::Done {
                    self.resumed = tls.common().handshake_kind() == Some(HandshakeKind::Resumed);
                    self.take_over(incoming)?;
                }
                return Ok(step);
            }
        }
    }

    /// Makes the records ours, if the protocol is TLS 1.3. Done when nothing lies in `incoming`: else
    /// rustls may have opened a part of it.
    fn take_over(&mut self, incoming: &Buf) -> Result<(), Error> {
        if !incoming.is_empty() {
            return Ok(());
        }
        self.layer = match std::mem::replace(&mut self.layer, Layer::Broken) {
            Layer::Rustls(tls)
                if tls.common().protocol_version() == Some(ProtocolVersion::TLSv1_3) =>
            {
                let (secrets, kernel) = tls.into_kernel()?;
                Layer::Ours(Records::new(secrets, kernel)?)
            }
            other => other,
        };
        Ok(())
    }

    /// Decrypts every complete record of `incoming`, appending to `plain`. Answers that TLS itself
    /// owes the peer (a KeyUpdate) are appended to `outgoing`.
    ///
    /// # Errors
    /// A record that is not authentic, or an alert.
    pub fn decrypt(
        &mut self,
        incoming: &mut Buf,
        plain: &mut Buf,
        outgoing: &mut Buf,
    ) -> Result<(), Error> {
        let tls = match &mut self.layer {
            Layer::Rustls(tls) => tls,
            Layer::Ours(records) => {
                while !self.peer_closed {
                    match records.open(incoming, plain)? {
                        Opened::Nothing => break,
                        Opened::Record => {}
                        Opened::End => self.peer_closed = true,
                    }
                }
                return Ok(());
            }
            Layer::Broken => return Err(Error::HandshakeNotComplete),
        };
        loop {
            let UnbufferedStatus { mut discard, state } = tls.process(incoming.as_mut_slice());
            let mut more = true;
            match state? {
                ConnectionState::ReadTraffic(mut records) => {
                    while let Some(record) = records.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain.push(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    append(outgoing, FLIGHT_BYTES, |room| message.encode(room))
                        .map_err(|_| Error::EncryptError)?;
                }
                ConnectionState::TransmitTlsData(message) => message.done(),
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    self.peer_closed = true;
                    more = false;
                }
                ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake => {
                    more = false;
                }
                // The peer begins early data, which is never offered.
                _ => return Err(Error::HandshakeNotComplete),
            }
            incoming.consume(discard);
            if !more {
                self.pinned = begins_with_record(incoming);
                if !self.peer_closed {
                    self.take_over(incoming)?;
                }
                return Ok(());
            }
        }
    }

    /// Encrypts `plain` into `outgoing`.
    ///
    /// # Errors
    /// The session has ended or its keys are used up.
    pub fn encrypt(&mut self, plain: &[u8], outgoing: &mut Buf) -> Result<(), Error> {
        if plain.is_empty() {
            return Ok(());
        }
        let tls = match &mut self.layer {
            // What would have to be said in the middle of a message that is still to come.
            Layer::Rustls(_) if self.pinned => {
                return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
            }
            Layer::Rustls(tls) => tls,
            Layer::Ours(records) => return records.seal(plain, outgoing),
            Layer::Broken => return Err(Error::HandshakeNotComplete),
        };
        loop {
            let UnbufferedStatus { state, .. } = tls.process(&mut []);
            match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let records = plain.len() / RECORD_PLAIN_BYTES + 1;
                    let room = plain.len() + records * RECORD_OVERHEAD;
                    append(outgoing, room, |room| traffic.encrypt(plain, room))
                        .map_err(|_| Error::EncryptError)?;
                    return Ok(());
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    append(outgoing, FLIGHT_BYTES, |room| message.encode(room))
                        .map_err(|_| Error::EncryptError)?;
                }
                ConnectionState::TransmitTlsData(message) => message.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                _ => return Err(Error::HandshakeNotComplete),
            }
        }
    }

    /// Appends `close_notify` to `outgoing`: that nothing more will be said, and nothing was cut off.
    /// Silent where there is no session to close.
    pub fn close(&mut self, outgoing: &mut Buf) {
        match &mut self.layer {
            // The session ends whatever comes of it.
            Layer::Ours(records) => drop(records.close(outgoing)),
            Layer::Rustls(_) if self.pinned => {}
            Layer::Rustls(tls) => {
                let UnbufferedStatus { state, .. } = tls.process(&mut []);
                if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
                    let close = |room: &mut [u8]| traffic.queue_close_notify(room);
                    drop(append(outgoing, RECORD_OVERHEAD, close));
                }
            }
            Layer::Broken => {}
        }
    }

    /// Appends what TLS says to a peer whose handshake failed (RFC 8446 6.2).
    pub fn complain(&mut self, outgoing: &mut Buf) {
        let Layer::Rustls(tls) = &mut self.layer else {
            return;
        };
        // What is to be sent comes before anything is looked at.
        while tls.common().wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut alert)) = tls.process(&mut []).state else {
                return;
            };
            if append(outgoing, FLIGHT_BYTES, |room| alert.encode(room)).is_err() {
                return;
            }
        }
    }

    /// Whether the peer has said that it will send nothing more.
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Whether the handshake resumed an earlier session.
    pub fn resumed(&self) -> bool {
        self.resumed
    }
}

/// Whether the first record is whole. rustls leaves one only if it is a part of a handshake message.
fn begins_with_record(incoming: &Buf) -> bool {
    match incoming.as_slice() {
        [_, _, _, high, low, rest @ ..] => {
            rest.len() >= usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}

/// An encoder that may ask for more room.
trait WantsRoom {
    fn required(&self) -> Option<usize>;
}

impl WantsRoom for EncodeError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl WantsRoom for EncryptError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
            Self::EncryptExhausted => None,
        }
    }
}

/// Appends what `encode` writes, with a second try where it asks for more room.
fn append<E: WantsRoom>(
    outgoing: &mut Buf,
    room: usize,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<usize, E> {
    match outgoing.append_with(room, &mut encode) {
        Err(error) => match error.required() {
            Some(required) => outgoing.append_with(required, encode),
            None => Err(error),
        },
        done => done,
    }
}

#[cfg(test)]
mod tests;
