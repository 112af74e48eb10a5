//! A peer that stops in the middle of a handshake message, right behind the handshake.

use loadtest::mock::tls::{Identity, Tls};
use rustls::ContentType;
use rustls::crypto::ring;

use super::*;
use crate::config::Config;
use crate::tls::{Credentials, pem};

#[test]
fn nothing_is_said_in_the_middle_of_a_message_of_the_peers() {
    let identity = Identity::make(Tls::Valid).unwrap().unwrap();
    let dir = std::env::temp_dir();
    let file = |name: &str, content: &str| {
        let path = dir.join(format!("weir-{}-{name}.pem", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path
    };
    let ca = file("session-ca", &identity.ca_pem);
    let config = Config {
        tls_cert_file: Some(file("session-cert", &identity.cert_pem)),
        tls_key_file: Some(file("session-key", &identity.key_pem)),
        ..Config::default()
    };
    let credentials = Credentials::load(&config, 0).unwrap().unwrap();
    let mut trust = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(pem::roots("CA", &ca).unwrap())
        .with_no_client_auth();
    trust.enable_secret_extraction = true;
    let trust = Arc::new(trust);
    // A whole message is dealt with, half a one is waited for, whatever it would have been.
    for (message, is_whole) in [
        (&[24, 0, 0, 1, 0][..], true),
        (&[24, 0, 0, 1], false),
        (&[24], false),
        (&[4, 0, 1, 0], false),
    ] {
        let mut client =
            ClientSession::connect(trust.clone(), "localhost".try_into().unwrap()).unwrap();
        let mut server = ServerSession::accept(credentials.current()).unwrap();
        let [mut to_client, mut to_server, mut plain] = [const { Buf::new() }; 3];
        while client
            .handshake(&mut to_client, &mut plain, &mut to_server)
            .unwrap()
            != Handshake::Done
        {
            server
                .handshake(&mut to_server, &mut plain, &mut to_client)
                .unwrap();
        }
        let Layer::Ours(records) = &mut client.layer else {
            panic!("its records are weir's own");
        };
        // In one flight with the last of the handshake, so that rustls still reads for the server.
        records
            .seal_as(ContentType::Handshake, message, &mut to_server)
            .unwrap();
        while server
            .handshake(&mut to_server, &mut plain, &mut to_client)
            .unwrap()
            != Handshake::Done
        {}
        let said = server.encrypt(b"x", &mut to_client);
        assert_eq!(said.is_ok(), is_whole, "{message:?} {said:?}");
        server.close(&mut to_client);
        server.complain(&mut to_client);
    }
    for name in ["session-ca", "session-cert", "session-key"] {
        std::fs::remove_file(file(name, "")).unwrap();
    }
}
