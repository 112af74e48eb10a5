//! TLS records that weir seals and opens itself, at both ends of a session, against rustls at the other.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loadtest::mock::tls::{Identity, Tls};
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::ring::{ALL_CIPHER_SUITES, default_provider};
use rustls::server::UnbufferedServerConnection;
use rustls::{
    ClientConfig, ClientConnection, Connection, Error, ServerConfig, ServerConnection,
    SupportedCipherSuite, SupportedProtocolVersion,
};
use weir::Config;
use weir::io::Buf;
use weir::tls::{ClientSession, Credentials, End, Handshake, ServerSession, Session, pem};
use weir::upstream::trust;

/// What a record of TLS 1.3 adds to its plaintext, and what an announced key takes.
const RECORD_BYTES: usize = 5 + 1 + 16;
const KEY_UPDATE_BYTES: usize = RECORD_BYTES + 5;

/// weir's end and the peer's, and the bytes in between.
struct Ends<E: End> {
    session: Session<E>,
    peer: Connection,
    incoming: Buf,
    plain: Buf,
    outgoing: Buf,
}

/// Two ends, of which weir's connects, that can only agree on this cipher.
fn connecting(suite: SupportedCipherSuite) -> Ends<UnbufferedClientConnection> {
    let identity = identity();
    let trust = trust::client_config(Some(&file(&identity.ca_pem))).expect("a good CA file");
    let server = ServerConfig::builder_with_provider(provider(suite))
        .with_protocol_versions(&[version(suite)])
        .expect("both ends agree")
        .with_no_client_auth()
        .with_cert_resolver(identity.config.cert_resolver.clone());
    let server = ServerConnection::new(Arc::new(server)).expect("both ends agree");
    let name = "localhost".try_into().expect("a name");
    Ends::new(
        ClientSession::connect(trust, name).expect("both ends agree"),
        server.into(),
    )
}

/// Two ends, of which weir's accepts, that can only agree on this cipher.
fn accepting(suite: SupportedCipherSuite) -> Ends<UnbufferedServerConnection> {
    let identity = identity();
    let config = Config {
        tls_cert_file: Some(file(&identity.cert_pem)),
        tls_key_file: Some(file(&identity.key_pem)),
        ..Config::default()
    };
    let credentials = Credentials::load(&config, 0).expect("good files");
    let credentials = credentials.expect("files are named");
    let roots = pem::roots("CA", &file(&identity.ca_pem)).expect("a good CA file");
    let client = ClientConfig::builder_with_provider(provider(suite))
        .with_protocol_versions(&[version(suite)])
        .expect("both ends agree")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let client = ClientConnection::new(Arc::new(client), name).expect("both ends agree");
    Ends::new(
        ServerSession::accept(credentials.current()).expect("both ends agree"),
        client.into(),
    )
}

fn identity() -> Identity {
    let identity = Identity::make(Tls::Valid).expect("certificates can be made");
    identity.expect("with TLS there are some")
}

/// A file of this content.
fn file(pem: &str) -> PathBuf {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("records-{}.pem", FILES.fetch_add(1, Ordering::Relaxed));
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, pem).expect("the file is written");
    path
}

fn provider(suite: SupportedCipherSuite) -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = default_provider();
    provider.cipher_suites = vec![suite];
    Arc::new(provider)
}

impl<E: End> Ends<E> {
    fn new(session: Session<E>, peer: Connection) -> Self {
        Self {
            session,
            peer,
            incoming: Buf::new(),
            plain: Buf::new(),
            outgoing: Buf::new(),
        }
    }

    /// The same, after their handshake.
    fn shaken(mut self) -> Self {
        self.shake().expect("both ends agree");
        assert!(self.plain.is_empty());
        self
    }

    fn shake(&mut self) -> Result<(), Error> {
        let Self {
            session,
            incoming,
            plain,
            outgoing,
            ..
        } = self;
        if session.handshake(incoming, plain, outgoing)? != Handshake::Done {
            self.deliver()?;
            self.fetch();
            return self.shake();
        }
        self.deliver()
    }

    /// Takes to the peer what weir has written.
    fn deliver(&mut self) -> Result<(), Error> {
        let mut bytes = self.outgoing.as_slice();
        while !bytes.is_empty() {
            self.peer.read_tls(&mut bytes).expect("memory is read");
            self.peer.process_new_packets()?;
        }
        self.outgoing.clear();
        Ok(())
    }

    /// Takes to weir what the peer has written.
    fn fetch(&mut self) {
        while self.peer.wants_write() {
            self.peer
                .write_tls(self.incoming.writable())
                .expect("memory is written");
        }
    }

    fn decrypt(&mut self) -> Result<(), Error> {
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
                .peer
                .read_tls(&mut sealed.as_slice())
                .expect("both ends agree");
            sealed.consume(taken);
            self.peer.process_new_packets().expect("both ends agree");
            let mut piece = [0; 32 * 1024];
            while let Ok(count @ 1..) = self.peer.reader().read(&mut piece) {
                got.extend_from_slice(&piece[..count]);
            }
        }
        assert!(got == bytes, "{len} bytes to the peer");
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let count = self.peer.writer().write(rest).expect("both ends agree");
            rest = &rest[count..];
            self.fetch();
            self.decrypt().expect("both ends agree");
        }
        assert!(self.incoming.is_empty());
        assert!(self.plain.as_slice() == bytes, "{len} bytes from the peer");
        self.plain.clear();
    }
}

fn version(suite: SupportedCipherSuite) -> &'static SupportedProtocolVersion {
    match suite {
        SupportedCipherSuite::Tls13(_) => &rustls::version::TLS13,
        SupportedCipherSuite::Tls12(_) => &rustls::version::TLS12,
    }
}

/// All ciphers that the certificate, of an elliptic curve, is good for.
fn all() -> impl Iterator<Item = SupportedCipherSuite> {
    let all = ALL_CIPHER_SUITES.iter().copied();
    all.filter(|suite| !format!("{suite:?}").contains("RSA"))
}

/// The ciphers of TLS 1.3, whose records are weir's own.
fn ours() -> impl Iterator<Item = SupportedCipherSuite> {
    all().filter(|suite| suite.tls13().is_some())
}

/// A test of both ends, with each of some ciphers.
macro_rules! at_both_ends {
    ($($(#[$attribute:meta])* fn $name:ident($ends:ident: $suites:ident) $body:block)*) => {$(
        #[test]
        $(#[$attribute])*
        fn $name() {
            fn check<E: End>(mut $ends: Ends<E>) $body
            for suite in $suites() {
                check(connecting(suite));
                check(accepting(suite));
            }
        }
    )*};
}

at_both_ends! {
fn bytes_come_as_they_went_whatever_the_cipher_and_their_number(ends: all) {
    ends = ends.shaken();
    ends.fetch();
    for len in [1, 300, 16_384, 16_385, 100_000, 0, 1] {
        ends.talk(len);
    }
}

fn a_record_is_opened_when_it_is_whole(ends: ours) {
    ends = ends.shaken();
    ends.fetch();
    ends.decrypt().unwrap();
    ends.peer.writer().write_all(b"hello").unwrap();
    let mut sealed = Vec::new();
    ends.peer.write_tls(&mut sealed).unwrap();
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

fn keys_change_when_the_peer_changes_its_own(ends: ours) {
    ends = ends.shaken();
    for _ in 0..3 {
        ends.talk(1000);
        // Asks for a new key of weir's, too.
        ends.peer.refresh_traffic_keys().unwrap();
        ends.peer.refresh_traffic_keys().unwrap();
        ends.fetch();
        ends.decrypt().unwrap();
        for announced in [KEY_UPDATE_BYTES, 0] {
            ends.session.encrypt(b"x", &mut ends.outgoing).unwrap();
            let len = ends.outgoing.len();
            assert_eq!(len, RECORD_BYTES + 1 + announced, "announced once");
            ends.deliver().unwrap();
        }
        let mut bytes = [0; 3];
        assert_eq!(ends.peer.reader().read(&mut bytes).unwrap(), 2);
        ends.talk(1000);
    }
}

fn the_end_is_the_peers_word_and_nothing_after_it_is_read(ends: ours) {
    ends = ends.shaken();
    ends.peer.writer().write_all(b"last").unwrap();
    ends.peer.send_close_notify();
    ends.fetch();
    ends.incoming.push(b"garbage");
    ends.decrypt().unwrap();
    assert!(ends.session.peer_closed());
    assert_eq!(ends.plain.as_slice(), b"last");
}

fn the_peer_is_told_of_the_end(ends: all) {
    ends = ends.shaken();
    ends.session.encrypt(b"last", &mut ends.outgoing).unwrap();
    ends.session.close(&mut ends.outgoing);
    ends.deliver().unwrap();
    let mut got = Vec::new();
    // Without the word of the end this would be `UnexpectedEof`.
    assert_eq!(ends.peer.reader().read_to_end(&mut got).unwrap(), 4);
    assert_eq!(got, b"last");
}

fn what_is_said_right_behind_the_handshake_is_heard(ends: all) {
    ends.peer.writer().write_all(b"early").unwrap();
    ends.shake().unwrap();
    ends.fetch();
    ends.decrypt().unwrap();
    assert_eq!(ends.plain.as_slice(), b"early");
    ends.plain.clear();
    ends.talk(1000);
}
}

#[test]
fn nothing_is_believed_that_was_changed_on_its_way() {
    fn check<E: End>(ends: impl Fn() -> Ends<E>) {
        for at in [0, 4, 5, 20] {
            let mut ends = ends().shaken();
            ends.fetch();
            ends.decrypt().unwrap();
            ends.peer.writer().write_all(&[b'x'; 100]).unwrap();
            ends.fetch();
            ends.incoming.as_mut_slice()[at] ^= 1;
            // A longer length makes the record a part of one.
            ends.incoming.push(&[0; 2]);
            ends.decrypt().unwrap_err();
            assert!(ends.plain.is_empty());
        }
    }
    for suite in ours() {
        check(|| connecting(suite));
        check(|| accepting(suite));
    }
}

#[test]
fn a_peer_whose_handshake_fails_is_told_why() {
    let suite = ours().next().unwrap();
    let mut ends = accepting(suite);
    let mut client = ClientConfig::builder_with_provider(provider(suite))
        .with_protocol_versions(&[version(suite)])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let name = "localhost".try_into().unwrap();
    ends.peer = ClientConnection::new(Arc::new(client), name)
        .unwrap()
        .into();
    assert_eq!(ends.shake(), Err(Error::NoApplicationProtocol));
    ends.session.complain(&mut ends.outgoing);
    let told = rustls::AlertDescription::NoApplicationProtocol;
    assert_eq!(ends.deliver(), Err(Error::AlertReceived(told)));
}
