//! TLS records that weir seals and opens itself, against rustls as the server.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loadtest::mock::tls::{Identity, Tls};
use rustls::crypto::ring::{ALL_CIPHER_SUITES, default_provider};
use rustls::{ServerConfig, ServerConnection, SupportedCipherSuite, SupportedProtocolVersion};
use weir::io::Buf;
use weir::tls::{ClientSession as Session, Handshake};
use weir::upstream::trust;

/// What a record of TLS 1.3 adds to its plaintext, and what an announced key takes.
const RECORD_BYTES: usize = 5 + 1 + 16;
const KEY_UPDATE_BYTES: usize = RECORD_BYTES + 5;

/// weir's end and the server's, and the bytes in between.
struct Ends {
    session: Session,
    server: ServerConnection,
    incoming: Buf,
    plain: Buf,
    outgoing: Buf,
}

impl Ends {
    /// Two ends that have shaken hands with this cipher.
    fn shaken(suite: SupportedCipherSuite) -> Self {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let identity = Identity::make(Tls::Valid)
            .expect("certificates can be made")
            .expect("with TLS there are some");
        let name = format!("records-{}.pem", FILES.fetch_add(1, Ordering::Relaxed));
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&file, &identity.ca_pem).expect("the CA file is written");
        let trust = trust::client_config(Some(&file)).expect("a good CA file");
        let mut provider = default_provider();
        provider.cipher_suites = vec![suite];
        let server = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version(suite)])
            .expect("both ends agree")
            .with_no_client_auth()
            .with_cert_resolver(identity.config.cert_resolver.clone());
        let mut ends = Self {
            session: Session::new(trust, "localhost".try_into().expect("a name"))
                .expect("both ends agree"),
            server: ServerConnection::new(Arc::new(server)).expect("both ends agree"),
            incoming: Buf::new(),
            plain: Buf::new(),
            outgoing: Buf::new(),
        };
        while ends
            .session
            .handshake(&mut ends.incoming, &mut ends.outgoing)
            .expect("both ends agree")
            != Handshake::Done
        {
            ends.deliver();
            ends.fetch();
        }
        ends.deliver();
        ends
    }

    /// Takes to the server what weir has written.
    fn deliver(&mut self) {
        let mut bytes = self.outgoing.as_slice();
        while !bytes.is_empty() {
            self.server.read_tls(&mut bytes).expect("both ends agree");
            self.server.process_new_packets().expect("both ends agree");
        }
        self.outgoing.clear();
    }

    /// Takes to weir what the server has written.
    fn fetch(&mut self) {
        while self.server.wants_write() {
            self.server
                .write_tls(self.incoming.writable())
                .expect("both ends agree");
        }
    }

    fn decrypt(&mut self) -> Result<(), weir::error::Error> {
        self.session
            .decrypt(&mut self.incoming, &mut self.plain, &mut self.outgoing)
    }

    /// Sends both ways, and sees that it comes.
    fn talk(&mut self, len: usize) {
        let bytes: Vec<u8> = (0..len).map(|n| (n * 7) as u8).collect();
        self.session
            .encrypt(&bytes, &mut self.outgoing)
            .expect("both ends agree");
        let mut sealed = std::mem::take(&mut self.outgoing);
        let mut got = Vec::new();
        while !sealed.is_empty() {
            let taken = self
                .server
                .read_tls(&mut sealed.as_slice())
                .expect("both ends agree");
            sealed.consume(taken);
            self.server.process_new_packets().expect("both ends agree");
            let mut piece = [0; 32 * 1024];
            while let Ok(count @ 1..) = self.server.reader().read(&mut piece) {
                got.extend_from_slice(&piece[..count]);
            }
        }
        assert!(got == bytes, "{len} bytes to the server");
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let count = self.server.writer().write(rest).expect("both ends agree");
            rest = &rest[count..];
            self.fetch();
            self.decrypt().expect("both ends agree");
        }
        assert!(self.incoming.is_empty());
        assert!(
            self.plain.as_slice() == bytes,
            "{len} bytes from the server"
        );
        self.plain.clear();
    }
}

fn version(suite: SupportedCipherSuite) -> &'static SupportedProtocolVersion {
    match suite {
        SupportedCipherSuite::Tls13(_) => &rustls::version::TLS13,
        SupportedCipherSuite::Tls12(_) => &rustls::version::TLS12,
    }
}

/// The ciphers of TLS 1.3.
fn ours() -> impl Iterator<Item = SupportedCipherSuite> {
    let all = ALL_CIPHER_SUITES.iter().copied();
    all.filter(|suite| suite.tls13().is_some())
}

#[test]
fn bytes_come_as_they_went_whatever_the_cipher_and_their_number() {
    for &suite in ALL_CIPHER_SUITES {
        // An elliptic curve's certificate is all that the server has.
        if format!("{suite:?}").contains("RSA") {
            continue;
        }
        let mut ends = Ends::shaken(suite);
        ends.fetch();
        for len in [1, 300, 16_384, 16_385, 100_000, 0, 1] {
            ends.talk(len);
        }
    }
}

#[test]
fn a_record_is_opened_when_it_is_whole() {
    for suite in ours() {
        let mut ends = Ends::shaken(suite);
        ends.fetch();
        ends.decrypt().unwrap();
        ends.server.writer().write_all(b"hello").unwrap();
        let mut sealed = Vec::new();
        ends.server.write_tls(&mut sealed).unwrap();
        let (last, first) = sealed.split_last().unwrap();
        for byte in first {
            ends.incoming.push(&[*byte]);
            ends.decrypt().unwrap();
            assert!(ends.plain.is_empty());
        }
        ends.incoming.push(&[*last]);
        ends.decrypt().unwrap();
        assert_eq!(ends.plain.as_slice(), b"hello");
    }
}

#[test]
fn keys_change_when_the_server_changes_its_own() {
    for suite in ours() {
        let mut ends = Ends::shaken(suite);
        for _ in 0..3 {
            ends.talk(1000);
            // Asks for a new key of weir's, too.
            ends.server.refresh_traffic_keys().unwrap();
            ends.server.refresh_traffic_keys().unwrap();
            ends.fetch();
            ends.decrypt().unwrap();
            for announced in [KEY_UPDATE_BYTES, 0] {
                ends.session.encrypt(b"x", &mut ends.outgoing).unwrap();
                let len = ends.outgoing.len();
                assert_eq!(len, RECORD_BYTES + 1 + announced, "announced once");
                ends.deliver();
            }
            let mut bytes = [0; 3];
            assert_eq!(ends.server.reader().read(&mut bytes).unwrap(), 2);
            ends.talk(1000);
        }
    }
}

#[test]
fn nothing_is_believed_that_was_changed_on_its_way() {
    for suite in ours() {
        for at in [0, 4, 5, 20] {
            let mut ends = Ends::shaken(suite);
            ends.fetch();
            ends.decrypt().unwrap();
            ends.server.writer().write_all(&[b'x'; 100]).unwrap();
            ends.fetch();
            ends.incoming.as_mut_slice()[at] ^= 1;
            // A longer length makes the record a part of one.
            ends.incoming.push(&[0; 2]);
            ends.decrypt().unwrap_err();
            assert!(ends.plain.is_empty());
        }
    }
}

#[test]
fn the_end_is_the_peers_word_and_nothing_after_it_is_read() {
    for suite in ours() {
        let mut ends = Ends::shaken(suite);
        ends.server.writer().write_all(b"last").unwrap();
        ends.server.send_close_notify();
        ends.fetch();
        ends.incoming.push(b"garbage");
        ends.decrypt().unwrap();
        assert!(ends.session.peer_closed());
        assert_eq!(ends.plain.as_slice(), b"last");
    }
}
