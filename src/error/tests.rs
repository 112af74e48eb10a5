//! What follows from each error, and the line that tells of it.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::*;
use crate::config::Wrong;

#[test]
fn each_kind_says_whose_it_is_what_the_client_hears_and_whether_to_try_again() {
    use Side::{Client, Upstream, Us};
    let table = [
        (Kind::ClientGone, Client, None, false),
        (Kind::ClientTimeout, Client, Some(408), false),
        (Kind::BadRequest, Client, Some(400), false),
        (Kind::HeadTooLarge, Client, Some(431), false),
        (Kind::Dns, Upstream, Some(502), true),
        (Kind::ConnectRefused, Upstream, Some(502), true),
        (Kind::ConnectTimeout, Upstream, Some(502), true),
        (Kind::ConnectFailed, Upstream, Some(502), true),
        (Kind::TlsHandshake, Upstream, Some(502), true),
        (Kind::TlsCertificate, Upstream, Some(502), true),
        (Kind::ClosedBeforeAnswer, Upstream, Some(502), false),
        (Kind::Reset, Upstream, Some(502), false),
        (Kind::GarbageAnswer, Upstream, Some(502), false),
        (Kind::AnswerTimeout, Upstream, Some(408), false),
        (Kind::BodyTruncated, Upstream, None, false),
        (Kind::Draining, Us, Some(503), true),
        (Kind::Full, Us, Some(503), true),
    ];
    assert_eq!(table.map(|(kind, ..)| kind), Kind::ALL);
    for (kind, side, status, retry_safe) in table {
        let error = Error::new(kind);
        let is = (error.side(), error.status(), error.retry_safe());
        assert_eq!(is, (side, status, retry_safe), "{kind:?}");
    }
}

#[test]
fn io_errors_become_the_kind_that_fits_the_moment() {
    use io::ErrorKind as Io;
    for (io, connecting, exchanging) in [
        (Io::ConnectionRefused, Kind::ConnectRefused, Kind::Reset),
        (Io::TimedOut, Kind::ConnectTimeout, Kind::AnswerTimeout),
        (Io::NetworkUnreachable, Kind::ConnectFailed, Kind::Reset),
        (
            Io::UnexpectedEof,
            Kind::ConnectFailed,
            Kind::ClosedBeforeAnswer,
        ),
        (Io::ConnectionReset, Kind::ConnectFailed, Kind::Reset),
        (Io::BrokenPipe, Kind::ConnectFailed, Kind::Reset),
        (Io::InvalidData, Kind::ConnectFailed, Kind::GarbageAnswer),
    ] {
        assert_eq!(Error::connecting(io.into()).kind, connecting, "{io}");
        assert_eq!(Error::exchanging(io.into()).kind, exchanging, "{io}");
    }
}

#[test]
fn an_error_is_one_line_with_its_cause() {
    let error = Error::with(Kind::TlsHandshake, io::Error::other("first\n  second\r\n"));
    let line = "the TLS handshake with the upstream failed: first second";
    assert_eq!(error.to_string(), line);
    assert_eq!(
        Error::from(Kind::Full).to_string(),
        "the proxy is at capacity"
    );
}

#[test]
fn a_failed_start_names_the_setting_and_has_its_exit_status() {
    let addr: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let path = || PathBuf::from("/etc/ca.pem");
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let listening = |kind: io::ErrorKind| StartError::listening("PORT", addr, kind.into());
    for (error, status, line) in [
        (
            listening(io::ErrorKind::AddrInUse),
            1,
            "PORT: 127.0.0.1:80 is in use by another socket; `ss -ltnp` tells whose, or take another port",
        ),
        (
            listening(io::ErrorKind::AddrNotAvailable),
            2,
            "BIND_IP: 127.0.0.1 is no address of this machine; `ip addr` lists them, 0.0.0.0 means all",
        ),
        (
            StartError::listening("FORWARD_PORT", addr, io::ErrorKind::AddrNotAvailable.into()),
            2,
            "FORWARD_BIND_IP: 127.0.0.1 is no address of this machine; `ip addr` lists them, 0.0.0.0 means all",
        ),
        (
            StartError::Sockets("the name \"x\" means nothing".to_owned()),
            1,
            "LISTEN_FDS: the name \"x\" means nothing",
        ),
        (
            StartError::CertificateVersion {
                setting: "TLS_CERT_FILE",
                path: path(),
                certificate: 1,
            },
            2,
            "TLS_CERT_FILE: certificate 1 in \"/etc/ca.pem\" is of X.509 version 1, which clients refuse; \
             `openssl req -x509 -addext subjectAltName=DNS:weir.example` makes one of version 3",
        ),
        (
            StartError::Redis {
                setting: "REDIS_DB",
                address: "r:7".to_owned(),
                source: "no such database".into(),
            },
            2,
            "REDIS_DB: Redis at r:7 cannot be used: no such database",
        ),
        (
            listening(io::ErrorKind::PermissionDenied),
            2,
            "PORT: 127.0.0.1:80 cannot be listened on; permission denied; ports below 1024 need CAP_NET_BIND_SERVICE, \
             or a socket of systemd's",
        ),
        (
            StartError::OutboundIp {
                ip: addr.ip(),
                source: denied(),
            },
            2,
            "OUTBOUND_IP: 127.0.0.1 cannot be sent from; permission denied",
        ),
        (
            StartError::FileUnreadable {
                setting: "UPSTREAM_CA_FILE",
                path: path(),
                source: denied(),
            },
            2,
            "UPSTREAM_CA_FILE: \"/etc/ca.pem\" cannot be read; permission denied",
        ),
        (
            StartError::NoCertificate {
                setting: "UPSTREAM_CA_FILE",
                path: path(),
            },
            2,
            "UPSTREAM_CA_FILE: \"/etc/ca.pem\" holds no certificate; PEM is expected",
        ),
        (
            StartError::CertificateMalformed {
                setting: "TLS_CLIENT_CA_FILE",
                path: path(),
                certificate: 2,
            },
            2,
            "TLS_CLIENT_CA_FILE: certificate 2 in \"/etc/ca.pem\" is malformed",
        ),
        (
            StartError::NoKey {
                setting: "TLS_KEY_FILE",
                path: path(),
            },
            2,
            "TLS_KEY_FILE: \"/etc/ca.pem\" holds no private key; PEM without a passphrase is expected",
        ),
        (
            StartError::KeyUnusable {
                setting: "TLS_KEY_FILE",
                path: path(),
            },
            2,
            "TLS_KEY_FILE: the private key in \"/etc/ca.pem\" is malformed or none of RSA, ECDSA and \
             Ed25519",
        ),
        (
            StartError::KeyMismatch {
                certificate: path(),
                key: "/etc/key.pem".into(),
            },
            2,
            "TLS_KEY_FILE: \"/etc/key.pem\" is not the key of the first certificate in \"/etc/ca.pem\"",
        ),
        (
            StartError::UpstreamName { host: "a_b".into() },
            2,
            "UPSTREAM_URL: \"a_b\" is no name that a certificate could be for",
        ),
        (
            StartError::RingRefused(denied()),
            1,
            "IO_DRIVER: \"io_uring\" is refused by the kernel (permission denied); auto or epoll \
             work here",
        ),
        (
            StartError::Thread(denied()),
            1,
            "cannot start a thread; permission denied",
        ),
        (
            StartError::System {
                what: "watch signals",
                source: denied(),
            },
            1,
            "cannot watch signals; permission denied",
        ),
        (
            Wrong::DotEnvLine {
                path: ".env".into(),
                line: 3,
            }
            .into(),
            2,
            ".env: line 3 is not allowed; NAME=value, a comment or nothing",
        ),
    ] {
        assert_eq!(
            (error.exit_code(), error.to_string().as_str()),
            (status, line)
        );
    }
}
