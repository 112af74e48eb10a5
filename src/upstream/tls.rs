//! TLS to the upstream: rustls driven by hand over our own buffers.
//!
//! ```text
//! socket ─▶ incoming: ├─ complete records ─┼─ half a record ─┤ ─▶ decrypt ─▶ plain
//! socket ◀─ outgoing ◀─ encrypt ◀─ what the exchange sends
//! ```
//!
//! The unbuffered API of rustls is used because it reads records where they lie: the connection
//! holds no buffer of its own, so a pooled one that idles costs its keys and nothing else. When the
//! handshake is done, the records of TLS 1.3 are ours (`records`).
//! [`Session`] is the state machine, without a socket: bytes in, bytes out. The connection around
//! it is [`super::connection::Connection`].

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

use super::records::{Opened, Records};
use crate::error::{Error, Kind};
use crate::io::Buf;

/// Room tried first for a handshake flight; rustls says how much more it wants.
const FLIGHT_BYTES: usize = 2048;

/// Bytes that a record adds to its plaintext: header 5, content type 1, tag 16 (RFC 8446 5.2), or
/// 5 + 8 + 16 in TLS 1.2; and a KeyUpdate may come before it.
const RECORD_OVERHEAD: usize = 64;

/// Plaintext of one record (RFC 8446 5.1).
const RECORD_PLAIN_BYTES: usize = 16 * 1024;

/// One TLS session, from the first flight to the last record.
pub struct Session {
    layer: Layer,
    /// The handshake resumed an earlier session.
    resumed: bool,
    /// The peer sent close_notify: no more plaintext will come.
    peer_closed: bool,
}

/// Who seals and opens records.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each upstream connection, which is boxed as a whole"
)]
enum Layer {
    /// rustls: during the handshake, and all along with TLS 1.2.
    Rustls(UnbufferedClientConnection),
    /// We: TLS 1.3 after the handshake.
    Ours(Records),
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

impl Session {
    /// A session that has said nothing yet.
    ///
    /// # Errors
    /// rustls refuses the configuration.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        let tls = UnbufferedClientConnection::new(config, name).map_err(handshake_error)?;
        Ok(Self {
            layer: Layer::Rustls(tls),
            resumed: false,
            peer_closed: false,
        })
    }

    /// Takes the handshake as far as the bytes at hand allow.
    ///
    /// # Errors
    /// The peer's certificate or protocol is not acceptable.
    pub fn handshake(
        &mut self,
        incoming: &mut Buf,
        outgoing: &mut Buf,
    ) -> Result<Handshake, Error> {
        let Layer::Rustls(tls) = &mut self.layer else {
            return Ok(Handshake::Done);
        };
        loop {
            let UnbufferedStatus { discard, state } =
                tls.process_tls_records(incoming.as_mut_slice());
            let step = match state.map_err(handshake_error)? {
                ConnectionState::EncodeTlsData(mut flight) => {
                    append(outgoing, FLIGHT_BYTES, |room| flight.encode(room))
                        .map_err(|_| Error::new(Kind::TlsHandshake))?;
                    None
                }
                ConnectionState::TransmitTlsData(flight) => {
                    // The caller sends `outgoing` before it calls again.
                    flight.done();
                    Some(Handshake::Send)
                }
                ConnectionState::BlockedHandshake => Some(Handshake::Receive),
                ConnectionState::WriteTraffic(_) => Some(Handshake::Done),
                _ => return Err(Error::new(Kind::TlsHandshake)),
            };
            incoming.consume(discard);
            if let Some(step) = step {
                if step == Handshake::Done {
                    self.resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
                    self.take_over(incoming).map_err(handshake_error)?;
                }
                return Ok(step);
            }
        }
    }

    /// Makes the records ours, if the protocol is TLS 1.3. Done when nothing lies in `incoming`: else
    /// rustls may have opened a part of it.
    fn take_over(&mut self, incoming: &Buf) -> Result<(), rustls::Error> {
        if !incoming.is_empty() {
            return Ok(());
        }
        self.layer = match std::mem::replace(&mut self.layer, Layer::Broken) {
            Layer::Rustls(tls) if tls.protocol_version() == Some(ProtocolVersion::TLSv1_3) => {
                let (secrets, kernel) = tls.dangerous_into_kernel_connection()?;
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
                    match records.open(incoming, plain).map_err(record_error)? {
                        Opened::Nothing => break,
                        Opened::Record => {}
                        Opened::End => self.peer_closed = true,
                    }
                }
                return Ok(());
            }
            Layer::Broken => return Err(Error::new(Kind::GarbageAnswer)),
        };
        loop {
            let UnbufferedStatus { mut discard, state } =
                tls.process_tls_records(incoming.as_mut_slice());
            let mut more = true;
            match state.map_err(record_error)? {
                ConnectionState::ReadTraffic(mut records) => {
                    while let Some(record) = records.next_record() {
                        let record = record.map_err(record_error)?;
                        discard += record.discard;
                        plain.push(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    append(outgoing, FLIGHT_BYTES, |room| message.encode(room))
                        .map_err(|_| Error::new(Kind::GarbageAnswer))?;
                }
                ConnectionState::TransmitTlsData(message) => message.done(),
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    self.peer_closed = true;
                    more = false;
                }
                ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake => {
                    more = false;
                }
                _ => return Err(Error::new(Kind::GarbageAnswer)),
            }
            incoming.consume(discard);
            if !more {
                if !self.peer_closed {
                    self.take_over(incoming).map_err(record_error)?;
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
            Layer::Rustls(tls) => tls,
            Layer::Ours(records) => return records.seal(plain, outgoing).map_err(record_error),
            Layer::Broken => return Err(Error::new(Kind::ClosedBeforeAnswer)),
        };
        loop {
            let UnbufferedStatus { state, .. } = tls.process_tls_records(&mut []);
            match state.map_err(record_error)? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let records = plain.len() / RECORD_PLAIN_BYTES + 1;
                    let room = plain.len() + records * RECORD_OVERHEAD;
                    append(outgoing, room, |room| traffic.encrypt(plain, room))
                        .map_err(|_| Error::new(Kind::ClosedBeforeAnswer))?;
                    return Ok(());
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    append(outgoing, FLIGHT_BYTES, |room| message.encode(room))
                        .map_err(|_| Error::new(Kind::GarbageAnswer))?;
                }
                ConnectionState::TransmitTlsData(message) => message.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                _ => return Err(Error::new(Kind::ClosedBeforeAnswer)),
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

fn handshake_error(error: rustls::Error) -> Error {
    let kind = match error {
        rustls::Error::InvalidCertificate(_) => Kind::TlsCertificate,
        _ => Kind::TlsHandshake,
    };
    Error::with(kind, std::io::Error::other(error))
}

fn record_error(error: rustls::Error) -> Error {
    Error::with(Kind::GarbageAnswer, std::io::Error::other(error))
}
