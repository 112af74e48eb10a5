//! The records of an established TLS 1.3 session, sealed and opened where they lie.
//!
//! ```text
//! outgoing ─┬─ header 5 ─┬─ plaintext ─┬─ type 1 ─┬─ tag 16 ─┬─ next record
//!           └─ seen by all └─────── sealed ────────┘
//! ```
//!
//! rustls shakes hands, keeps the secrets and the session tickets; but it makes a vector of every
//! record that it seals or opens. Its `kernel` interface, meant for kernels that take the records
//! over, leaves them to us: a record is then sealed in the buffer that is written to the socket and
//! opened in the one that was read into. TLS 1.2 stays with rustls.

use ring::aead;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, Nonce, make_tls13_aad,
};
use rustls::kernel::KernelConnection;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets,
    HandshakeType, PeerMisbehaved, ProtocolVersion, SupportedCipherSuite,
};

use super::end::End;
use crate::io::Buf;

/// Plaintext of one record (RFC 8446 5.1).
const PLAIN_BYTES_MAX: usize = 16 * 1024;

/// What a sealed record may be longer than its plaintext (RFC 8446 5.2).
const EXPANSION_BYTES_MAX: usize = 256;

/// Bytes of a record's header.
const HEADER_BYTES: usize = 5;

/// Records sealed with one key. AES-GCM is safe for 2^24.5 of them (RFC 8446 5.5); nobody notices a
/// new key every eight million.
const RECORDS_PER_KEY: u64 = 1 << 23;

/// Handshake messages after the handshake: tickets, of some hundred bytes. Discord's are 200.
const HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// The `KeyUpdate` that tells of a new key and asks for none (RFC 8446 4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// What a record was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opened {
    /// There is none that is whole.
    Nothing,
    /// One that is dealt with.
    Record,
    /// `close_notify`: nothing more will come.
    End,
}

/// `close_notify` (RFC 8446 6.1).
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// Both directions of one session, at the end `E` of it.
pub(super) struct Records<E: End> {
    kernel: KernelConnection<E::Data>,
    sealing: Sealing,
    opening: Opening,
    /// Handshake messages of which more is to come.
    handshake: Vec<u8>,
    /// The peer asked for a new key of ours; it gets one before the next record, however often it
    /// asked.
    renewal_owed: bool,
}

/// Sealing with one key.
struct Sealing {
    key: aead::LessSafeKey,
    iv: Iv,
    /// The number of the next record, never used twice with a key.
    seq: u64,
}

/// Opening with one key.
struct Opening {
    decrypter: Box<dyn MessageDecrypter>,
    seq: u64,
}

impl<E: End> Records<E> {
    /// Takes over where rustls stopped.
    ///
    /// # Errors
    /// The session is none of TLS 1.3.
    pub(super) fn new(
        secrets: ExtractedSecrets,
        kernel: KernelConnection<E::Data>,
    ) -> Result<Self, Error> {
        let (seq, tx) = secrets.tx;
        let sealing = Sealing::new(seq, tx)?;
        let (seq, rx) = secrets.rx;
        let opening = Opening::new(kernel.negotiated_cipher_suite(), seq, rx)?;
        Ok(Self {
            kernel,
            sealing,
            opening,
            handshake: Vec::new(),
            renewal_owed: false,
        })
    }

    /// Appends `plain` to `outgoing`, sealed.
    ///
    /// # Errors
    /// The session is of no more use.
    pub(super) fn seal(&mut self, plain: &[u8], outgoing: &mut Buf) -> Result<(), Error> {
        if plain.len() > PLAIN_BYTES_MAX {
            // Once, not by doubling: what was too small would go back to the allocator at each step.
            let pieces = plain.len().div_ceil(PLAIN_BYTES_MAX);
            outgoing.reserve(plain.len() + pieces * (HEADER_BYTES + EXPANSION_BYTES_MAX));
        }
        for piece in plain.chunks(PLAIN_BYTES_MAX) {
            if self.renewal_owed || self.sealing.seq >= RECORDS_PER_KEY {
                self.renew(outgoing)?;
            }
            self.sealing
                .seal(ContentType::ApplicationData, piece, outgoing)?;
        }
        Ok(())
    }

    /// Appends a record of another kind.
    #[cfg(test)]
    pub(super) fn seal_as(
        &mut self,
        kind: ContentType,
        plain: &[u8],
        outgoing: &mut Buf,
    ) -> Result<(), Error> {
        self.sealing.seal(kind, plain, outgoing)
    }

    /// Appends `close_notify`: the peer may believe that it has seen all there was.
    ///
    /// # Errors
    /// The session is of no more use.
    pub(super) fn close(&mut self, outgoing: &mut Buf) -> Result<(), Error> {
        self.sealing
            .seal(ContentType::Alert, &CLOSE_NOTIFY, outgoing)
    }

    /// Announces a new key under the old one and uses it from here on.
    fn renew(&mut self, outgoing: &mut Buf) -> Result<(), Error> {
        self.sealing
            .seal(ContentType::Handshake, &KEY_UPDATE, outgoing)?;
        let (seq, secrets) = self.kernel.update_tx_secret()?;
        self.sealing = Sealing::new(seq, secrets)?;
        self.renewal_owed = false;
        Ok(())
    }

    /// Opens the first record of `incoming`, if it is whole, and consumes it. What the peer said is
    /// appended to `plain`.
    ///
    /// # Errors
    /// A record that is not authentic or out of place, or an alert.
    pub(super) fn open(&mut self, incoming: &mut Buf, plain: &mut Buf) -> Result<Opened, Error> {
        let bytes = incoming.as_mut_slice();
        let Some((header, rest)) = bytes.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Ok(Opened::Nothing);
        };
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != u8::from(ContentType::ApplicationData) {
            // After the handshake nothing comes in the clear.
            return Err(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec.into());
        }
        if len > PLAIN_BYTES_MAX + EXPANSION_BYTES_MAX {
            return Err(Error::PeerSentOversizedRecord);
        }
        let Some(sealed) = rest.get_mut(..len) else {
            return Ok(Opened::Nothing);
        };
        let record = self.opening.open(sealed)?;
        let (kind, payload) = (record.typ, record.payload);
        if kind != ContentType::Handshake && !self.handshake.is_empty() {
            return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
        }
        let opened = match kind {
            ContentType::ApplicationData => {
                plain.push(payload);
                Opened::Record
            }
            ContentType::Handshake => {
                self.handshake.extend_from_slice(payload);
                self.shake()?;
                Opened::Record
            }
            ContentType::Alert => match *payload {
                [_, kind] => alert(AlertDescription::from(kind))?,
                _ => return Err(rustls::InvalidMessage::MessageTooShort.into()),
            },
            _ => return Err(rustls::InvalidMessage::InvalidContentType.into()),
        };
        incoming.consume(HEADER_BYTES + len);
        Ok(opened)
    }

    /// Deals with the handshake messages that are whole.
    fn shake(&mut self) -> Result<(), Error> {
        while let [kind, high, middle, low, rest @ ..] = &*self.handshake {
            let len = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if len > HANDSHAKE_BYTES_MAX {
                return Err(rustls::InvalidMessage::HandshakePayloadTooLarge.into());
            }
            let Some(body) = rest.get(..len) else {
                return Ok(());
            };
            match (HandshakeType::from(*kind), body) {
                (HandshakeType::NewSessionTicket, ticket) => {
                    E::keep_ticket(&mut self.kernel, ticket)?;
                }
                (HandshakeType::KeyUpdate, &[asked @ (0 | 1)]) => {
                    if rest.len() > len {
                        return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
                    }
                    self.renewal_owed |= asked == 1;
                    let (seq, secrets) = self.kernel.update_rx_secret()?;
                    self.opening =
                        Opening::new(self.kernel.negotiated_cipher_suite(), seq, secrets)?;
                }
                _ => return Err(rustls::InvalidMessage::UnexpectedMessage("handshake").into()),
            }
            self.handshake.drain(..4 + len);
        }
        if self.handshake.is_empty() {
            // An idle connection holds no memory for it.
            self.handshake = Vec::new();
        }
        Ok(())
    }
}

/// What an alert means. All but two end the session (RFC 8446 6).
fn alert(description: AlertDescription) -> Result<Opened, Error> {
    match description {
        AlertDescription::CloseNotify => Ok(Opened::End),
        AlertDescription::UserCanceled => Ok(Opened::Record),
        description => Err(Error::AlertReceived(description)),
    }
}

impl Sealing {
    fn new(seq: u64, secrets: ConnectionTrafficSecrets) -> Result<Self, Error> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&aead::CHACHA20_POLY1305, key, iv)
            }
            _ => return Err(Error::General("a cipher that is not known".into())),
        };
        // rustls' keys have room for the longest of all ciphers.
        let key = key.as_ref().get(..algorithm.key_len());
        let key = key.and_then(|key| aead::UnboundKey::new(algorithm, key).ok());
        Ok(Self {
            key: aead::LessSafeKey::new(key.ok_or(Error::EncryptError)?),
            iv,
            seq,
        })
    }

    fn seal(&mut self, kind: ContentType, plain: &[u8], outgoing: &mut Buf) -> Result<(), Error> {
        let len = plain.len() + 1 + self.key.algorithm().tag_len();
        // The header of a record and what is authenticated beside it are the same (RFC 8446 5.2).
        let header = make_tls13_aad(len);
        outgoing.reserve(HEADER_BYTES + len);
        let bytes = outgoing.writable();
        bytes.extend_from_slice(&header);
        let start = bytes.len();
        bytes.extend_from_slice(plain);
        bytes.push(u8::from(kind));
        let nonce = aead::Nonce::assume_unique_for_key(Nonce::new(&self.iv, self.seq).0);
        self.seq += 1;
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, aead::Aad::from(header), &mut bytes[start..])
            .map_err(|_| Error::EncryptError)?;
        bytes.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

impl Opening {
    fn new(
        suite: SupportedCipherSuite,
        seq: u64,
        secrets: ConnectionTrafficSecrets,
    ) -> Result<Self, Error> {
        let (key, iv): (AeadKey, Iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
            _ => return Err(Error::General("a cipher that is not known".into())),
        };
        let suite = suite.tls13();
        let suite = suite.ok_or_else(|| Error::General("no cipher of TLS 1.3".into()))?;
        Ok(Self {
            decrypter: suite.aead_alg.decrypter(key, iv),
            seq,
        })
    }

    fn open<'b>(
        &mut self,
        sealed: &'b mut [u8],
    ) -> Result<rustls::crypto::cipher::InboundPlainMessage<'b>, Error> {
        let record = InboundOpaqueMessage::new(
            ContentType::ApplicationData,
            ProtocolVersion::TLSv1_2,
            sealed,
        );
        let seq = self.seq;
        self.seq += 1;
        self.decrypter.decrypt(record, seq)
    }
}
