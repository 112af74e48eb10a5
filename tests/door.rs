//! Who may come in: addresses, TLS on the listening side, and what becomes of those who may not.

mod support;

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::{self, MockConfig};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, SupportedProtocolVersion};
use socket2::{Domain, SockAddr, Socket, Type};
use support::http::Client;
use support::program::{Program, command};
use support::tls::{Authority, Files, Identity, file};
use support::upstream::{Peer, Recorder};
use support::{SHAPES, Shape, config, request};
use weir::{Config, Handle};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 google\r\n\r\nok";

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

const HEALTH: &str = "GET /nirn/healthz HTTP/1.1\r\nHost: x\r\n\r\n";

/// A weir with a certificate, before a recording upstream of plain HTTP.
struct House {
    recorder: Recorder,
    weir: Handle,
    authority: Authority,
}

impl House {
    fn with(shape: Shape, script: fn(&mut Peer), change: impl FnOnce(&mut Config)) -> Self {
        let recorder = Recorder::start(script);
        let authority = Authority::new();
        let mut config = config(&recorder.url(), None);
        config.workers = Some(shape.workers);
        config.io_driver = shape.driver;
        authority.server().files().apply(&mut config);
        change(&mut config);
        let weir = weir::start(config).expect("weir starts");
        Self {
            recorder,
            weir,
            authority,
        }
    }

    fn start() -> Self {
        Self::with(SHAPES[0], always_ok, |_| ())
    }

    fn addr(&self) -> SocketAddr {
        self.weir.proxy_addr()
    }

    /// A client that believes weir's authority.
    fn believer(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        Arc::new(self.authority.believer(&[version], None))
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> Client {
        Client::secure(self.addr(), &self.believer(version))
    }

    fn metrics(&self) -> String {
        scrape(self.weir.metrics_addr().expect("metrics are on"))
    }

    /// Waits until this line stands in the metrics.
    fn wait_for(&self, line: &str) {
        let until = Instant::now() + Duration::from_secs(10);
        while !self.metrics().contains(&format!("{line}\n")) {
            assert!(Instant::now() < until, "{line}\n{}", self.metrics());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn scrape(addr: SocketAddr) -> String {
    Client::connect(addr)
        .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .text()
}

/// Answers every request without a body.
fn always_ok(peer: &mut Peer) {
    while peer.read_head() {
        peer.send(OK);
    }
}

/// A connection from another of this machine's addresses.
fn from(local: &str, to: SocketAddr) -> Client {
    let local: IpAddr = local.parse().expect("an address");
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::new(local, 0).into())
        .expect("a local address");
    socket
        .connect(&SockAddr::from(to))
        .expect("weir's kernel accepts");
    let stream = TcpStream::from(OwnedFd::from(socket));
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    let mut client = Client::connect(to);
    client.stream = stream;
    client
}

/// Whether the other side closes without a word.
fn is_turned_away(client: &mut Client) -> bool {
    let mut byte = [0];
    matches!(client.stream.read(&mut byte), Ok(0) | Err(_))
}

#[test]
fn requests_and_answers_of_any_size_pass_under_tls() {
    fn much(peer: &mut Peer) {
        let text = "y".repeat(1_000_000);
        while peer.read_head() {
            peer.send(&format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nVia: 1.1 google\r\n\r\nf4240\r\n{text}\r\n0\r\n\r\n"
            ));
        }
    }
    for shape in SHAPES {
        let house = House::with(shape, much, |_| ());
        for version in VERSIONS {
            let mut client = house.client(version);
            for _ in 0..2 {
                let answer = client.ask(&request("GET", "/api/v10/gateway", ""));
                assert_eq!(
                    (answer.status, answer.body.len()),
                    (200, 1_000_000),
                    "{shape:?}"
                );
                assert_eq!(client.ask(HEALTH).text(), "ok\n");
            }
            let session = client.tls.as_ref().expect("TLS");
            assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
            let spoken = if std::ptr::eq(version, &TLS13) {
                ProtocolVersion::TLSv1_3
            } else {
                ProtocolVersion::TLSv1_2
            };
            assert_eq!(session.protocol_version(), Some(spoken));
        }
    }
}

#[test]
fn an_upload_under_tls_arrives_byte_for_byte() {
    fn take(peer: &mut Peer) {
        while peer.read_until("the end") {
            peer.send(OK);
        }
    }
    for shape in SHAPES {
        let house = House::with(shape, take, |_| ());
        for version in VERSIONS {
            let mut client = house.client(version);
            let body: String =
                (0..60_000).map(|n| format!("{n:>6},")).collect::<String>() + "the end";
            let sent = request("POST", "/api/v10/channels/1/messages", &body);
            assert_eq!(client.ask(&sent).status, 200, "{shape:?}");
            let seen = house.recorder.seen();
            assert!(seen.iter().any(|seen| seen.ends_with(&body)), "{shape:?}");
        }
    }
}

#[test]
fn pipelined_requests_and_halves_of_records_are_served() {
    for shape in SHAPES {
        let house = House::with(shape, always_ok, |_| ());
        for version in VERSIONS {
            let mut client = house.client(version);
            // The first comes in one flight with the end of the handshake.
            client.send(HEALTH.repeat(3));
            for _ in 0..3 {
                assert_eq!(client.answer(false).text(), "ok\n");
            }
            let mut sealed = Vec::new();
            {
                let session = client.tls.as_mut().expect("TLS");
                std::io::Write::write_all(&mut session.writer(), HEALTH.as_bytes()).expect("room");
                session.write_tls(&mut sealed).expect("memory");
            }
            for piece in sealed.chunks(7) {
                std::io::Write::write_all(&mut client.stream, piece).expect("weir reads");
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(client.answer(false).text(), "ok\n", "{shape:?}");
        }
    }
}

#[test]
fn a_session_is_resumed_by_its_ticket() {
    let house = House::start();
    for version in VERSIONS {
        let believer = house.believer(version);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = Client::secure(house.addr(), &believer);
            assert_eq!(client.ask(HEALTH).text(), "ok\n");
            let session = client.tls.as_ref().expect("TLS");
            assert_eq!(session.handshake_kind(), Some(kind), "{version:?}");
        }
    }
    house.wait_for("weir_client_tls_handshakes_total{kind=\"full\"} 2");
    house.wait_for("weir_client_tls_handshakes_total{kind=\"resumed\"} 2");
}

#[test]
fn whoever_speaks_no_tls_is_told_so_if_it_is_http_and_turned_away() {
    for shape in SHAPES {
        let house = House::with(shape, always_ok, |_| ());
        let mut client = Client::connect(house.addr());
        client.send(request("GET", "/api/v10/users/@me", ""));
        let answer = client.answer(false);
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("HTTPS"), "{}", answer.text());
        assert!(client.is_closed());
        let mut client = Client::connect(house.addr());
        client.send("\0garbage");
        assert!(is_turned_away(&mut client));
        house.wait_for("weir_client_tls_failures_total{reason=\"plain_http\"} 1");
        house.wait_for("weir_client_tls_failures_total{reason=\"protocol\"} 1");
        house.wait_for("weir_client_connections 0");
        assert_eq!(house.recorder.seen(), [""; 0]);
    }
}

#[test]
fn a_handshake_has_the_time_of_a_head() {
    for shape in SHAPES {
        let house = House::with(shape, always_ok, |config| {
            config.client_header_timeout = Duration::from_millis(200);
        });
        let mut silent = Client::connect(house.addr());
        let mut slow = Client::connect(house.addr());
        slow.send([22, 3, 1, 2]);
        let mut gone = Client::connect(house.addr());
        gone.send([22, 3, 1, 2]);
        drop(gone);
        let since = Instant::now();
        assert!(is_turned_away(&mut silent) && is_turned_away(&mut slow));
        assert!(since.elapsed() < Duration::from_secs(5));
        house.wait_for("weir_client_tls_failures_total{reason=\"timeout\"} 2");
        house.wait_for("weir_client_tls_failures_total{reason=\"gone\"} 1");
        house.wait_for("weir_client_connections 0");
    }
}

#[test]
fn a_client_that_speaks_another_protocol_is_told_so() {
    let house = House::start();
    let mut believer = house.authority.believer(&VERSIONS, None);
    believer.alpn_protocols = vec![b"h2".to_vec()];
    let error = Client::secure(house.addr(), &Arc::new(believer))
        .shake()
        .unwrap_err();
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
    // Whoever asks for nothing speaks HTTP/1.1.
    let mut believer = house.authority.believer(&VERSIONS, None);
    believer.alpn_protocols = Vec::new();
    let mut client = Client::secure(house.addr(), &Arc::new(believer));
    assert_eq!(client.ask(HEALTH).text(), "ok\n");
    // As does whoever prefers HTTP/2 and knows both.
    let mut believer = house.authority.believer(&VERSIONS, None);
    believer.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut client = Client::secure(house.addr(), &Arc::new(believer));
    assert_eq!(client.ask(HEALTH).text(), "ok\n");
}

#[test]
fn with_an_authority_for_clients_only_those_that_it_vouches_for_come_in() {
    let (ours, others) = (Authority::new(), Authority::new());
    let ca = file(&ours.pem());
    for shape in SHAPES {
        let house = House::with(shape, always_ok, |config| {
            config.tls_client_ca_file = Some(ca.clone());
        });
        for version in VERSIONS {
            let believer = |identity: Option<&Identity>| {
                Arc::new(house.authority.believer(&[version], identity))
            };
            let known = believer(Some(&ours.client()));
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let mut client = Client::secure(house.addr(), &known);
                assert_eq!(
                    client.ask(&request("GET", "/api/v10/gateway", "")).status,
                    200
                );
                let session = client.tls.as_ref().expect("TLS");
                assert_eq!(session.handshake_kind(), Some(kind));
            }
            // A server's certificate is none for a client.
            let (stranger, server) = (others.client(), ours.server());
            for identity in [None, Some(&stranger), Some(&server)] {
                let mut client = Client::secure(house.addr(), &believer(identity));
                // With TLS 1.3 the client learns it after its own handshake.
                let refused = client.shake().and_then(|()| {
                    let session = client.tls.as_mut().expect("TLS");
                    let mut stream = rustls::Stream::new(&mut **session, &mut client.stream);
                    std::io::Write::write_all(&mut stream, HEALTH.as_bytes())?;
                    stream.read(&mut [0; 100])
                });
                let error = refused.expect_err("nobody vouches for it").to_string();
                assert!(error.contains("received fatal alert"), "{error}");
            }
        }
        house.wait_for("weir_client_tls_failures_total{reason=\"certificate\"} 6");
    }
}

#[test]
fn the_end_of_a_connection_is_told_under_tls_and_that_of_a_cut_answer_is_not() {
    fn script(peer: &mut Peer) {
        if peer.read_head() {
            let whole = "HTTP/1.1 200 OK\r\nVia: 1.1 google\r\n\r\nwhole";
            let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nVia: 1.1 google\r\n\r\ncut";
            peer.send(if peer.heard().contains("/whole") {
                whole
            } else {
                cut
            });
        }
    }
    for shape in SHAPES {
        let house = House::with(shape, script, |_| ());
        for version in VERSIONS {
            for (path, told) in [("/api/v10/whole", true), ("/api/v10/cut", false)] {
                let mut client = house.client(version);
                client.send(request("GET", path, ""));
                let mut text = String::new();
                let session = client.tls.as_mut().expect("TLS");
                let mut stream = rustls::Stream::new(&mut **session, &mut client.stream);
                let read = stream.read_to_string(&mut text);
                assert_eq!(read.is_ok(), told, "{path} {read:?} {shape:?}");
                assert!(text.ends_with(if told { "whole" } else { "cut" }), "{text}");
            }
        }
        // weir ends one that idles, and one that asked for it.
        let house = House::with(shape, always_ok, |config| {
            config.client_idle_timeout = Duration::from_millis(200);
        });
        for (version, connection) in [
            (&TLS13, "keep-alive"),
            (&TLS12, "keep-alive"),
            (&TLS13, "close"),
        ] {
            let mut client = house.client(version);
            let asked = HEALTH.replace("Host: x", &format!("Host: x\r\nConnection: {connection}"));
            assert_eq!(client.ask(&asked).text(), "ok\n");
            assert!(client.is_closed(), "{shape:?}");
        }
    }
}

#[test]
fn a_client_under_tls_that_leaves_while_it_waits_costs_nothing() {
    fn used_up(peer: &mut Peer) {
        while peer.read_until("}") {
            peer.send(
                "HTTP/1.1 200 OK\r\nX-RateLimit-Bucket: b\r\nX-RateLimit-Limit: 5\r\n\
                 X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset-After: 60\r\nContent-Length: 2\r\n\
                 Via: 1.1 google\r\n\r\nok",
            );
        }
    }
    for shape in SHAPES {
        for version in VERSIONS {
            let house = House::with(shape, used_up, |_| ());
            let mut client = house.client(version);
            let message = request("POST", "/api/v10/channels/11/messages", "{}");
            assert_eq!(client.ask(&message).status, 200);
            client.send(&message);
            house.wait_for("weir_requests_waiting 1");
            thread::sleep(Duration::from_millis(150));
            // As client libraries do: the word of the end first, then FIN.
            let session = client.tls.as_mut().expect("TLS");
            session.send_close_notify();
            session
                .write_tls(&mut client.stream)
                .expect("weir is there");
            drop(client);
            house.wait_for("weir_requests_waiting 0");
            house.wait_for("weir_client_connections 0");
            let seen = house.recorder.seen().concat();
            assert_eq!(seen.matches("POST").count(), 1, "{shape:?}");
        }
    }
}

#[test]
fn a_drain_ends_connections_under_tls_as_it_does_others() {
    for shape in SHAPES {
        let house = House::with(shape, always_ok, |_| ());
        let mut idle = house.client(&TLS13);
        assert_eq!(idle.ask(HEALTH).text(), "ok\n");
        let mut shaking = Client::connect(house.addr());
        shaking.send([22]);
        let ended = thread::spawn(move || house.weir.shutdown(Duration::from_secs(5)));
        assert!(idle.is_closed(), "{shape:?}");
        drop(shaking);
        assert!(ended.join().expect("no panic"), "{shape:?}");
    }
}

#[test]
fn sighup_has_certificate_and_key_read_again_and_keeps_the_old_if_they_are_no_good() {
    let mock = mock::start(MockConfig::default()).expect("the mock starts");
    let authorities = [Authority::new(), Authority::new()];
    let files = authorities[0].server().files();
    let (cert, key) = (path(&files.cert), path(&files.key));
    let weir = Program::start(&mock, &[("TLS_CERT_FILE", &cert), ("TLS_KEY_FILE", &key)]);
    let believers = [0, 1].map(|n| Arc::new(authorities[n].believer(&VERSIONS, None)));
    let accepted = |by: usize| Client::secure(weir.proxy, &believers[by]).shake().is_ok();
    let reloaded = |result: &str, count: u32| {
        let line = format!("weir_tls_reloads_total{{result=\"{result}\"}} {count}\n");
        let until = Instant::now() + Duration::from_secs(10);
        while !scrape(weir.metrics).contains(&line) {
            assert!(Instant::now() < until, "{line}");
            thread::sleep(Duration::from_millis(5));
        }
    };
    let mut old = Client::secure(weir.proxy, &believers[0]);
    assert_eq!(old.ask(HEALTH).text(), "ok\n");
    assert!(accepted(0) && !accepted(1));

    files.replace(&authorities[1].server());
    assert!(accepted(0), "nothing is read before it is asked for");
    weir.signal("HUP");
    reloaded("used", 1);
    assert!(!accepted(0) && accepted(1));
    assert_eq!(old.ask(HEALTH).text(), "ok\n", "it goes on as it began");

    // A key of another certificate, as between two writes.
    std::fs::write(&files.key, authorities[0].server().key).expect("the file is written");
    weir.signal("HUP");
    reloaded("refused", 1);
    assert!(accepted(1), "the good ones are used on");
    let log = weir.log_lines().join("\n");
    assert!(
        log.contains("is not the key of") && log.contains("used on"),
        "{log}"
    );

    files.replace(&authorities[0].server());
    weir.signal("HUP");
    reloaded("used", 2);
    assert!(accepted(0) && !accepted(1));
}

#[test]
fn sighup_without_tls_is_no_end() {
    let mock = mock::start(MockConfig::default()).expect("the mock starts");
    let weir = Program::start(&mock, &[]);
    weir.signal("HUP");
    let until = Instant::now() + Duration::from_secs(10);
    while !weir
        .log_lines()
        .join("")
        .contains("nothing to be read again")
    {
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(Client::connect(weir.proxy).ask(HEALTH).status, 200);
}

#[test]
fn files_that_cannot_be_used_stop_the_start() {
    let authority = Authority::new();
    let (one, other) = (authority.server().files(), authority.server().files());
    let empty = path(&file("nothing here"));
    let broken = path(&file(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ));
    let garbage = path(&file(
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ));
    let (cert, key, wrong) = (path(&one.cert), path(&one.key), path(&other.key));
    for (files, setting, words) in [
        (["/nowhere", &key, ""], "TLS_CERT_FILE", "cannot be read"),
        ([&cert, "/nowhere", ""], "TLS_KEY_FILE", "cannot be read"),
        (
            [&cert, &key, "/nowhere"],
            "TLS_CLIENT_CA_FILE",
            "cannot be read",
        ),
        ([&empty, &key, ""], "TLS_CERT_FILE", "holds no certificate"),
        ([&cert, &empty, ""], "TLS_KEY_FILE", "holds no private key"),
        ([&cert, &cert, ""], "TLS_KEY_FILE", "holds no private key"),
        (
            [&cert, &key, &empty],
            "TLS_CLIENT_CA_FILE",
            "holds no certificate",
        ),
        ([&broken, &key, ""], "TLS_CERT_FILE", "is malformed"),
        ([&cert, &garbage, ""], "TLS_KEY_FILE", "malformed"),
        ([&cert, &key, &broken], "TLS_CLIENT_CA_FILE", "is malformed"),
        ([&cert, &wrong, ""], "TLS_KEY_FILE", "is not the key of"),
        ([&cert, "", ""], "TLS_CERT_FILE", "only beside TLS_KEY_FILE"),
        (["", &key, ""], "TLS_KEY_FILE", "only beside TLS_CERT_FILE"),
        (["", "", &cert], "TLS_CLIENT_CA_FILE", "only beside"),
    ] {
        let output = command(&[
            ("TLS_CERT_FILE", files[0]),
            ("TLS_KEY_FILE", files[1]),
            ("TLS_CLIENT_CA_FILE", files[2]),
        ])
        .output()
        .expect("weir runs");
        let line = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert_eq!(line.trim().lines().count(), 1, "{line}");
        assert!(
            line.contains(setting) && line.contains(words),
            "{words}: {line}"
        );
    }
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let mock = mock::start(MockConfig::default()).expect("the mock starts");
    let authority = Authority::new();
    for (files, warned) in [
        (authority.expired().files(), true),
        (authority.server().files(), false),
    ] {
        let Files { cert, key } = files;
        let files = [
            ("TLS_CERT_FILE", &*path(&cert)),
            ("TLS_KEY_FILE", &*path(&key)),
        ];
        let weir = Program::start(&mock, &files);
        let log = weir.before_serving.join("\n");
        assert_eq!(log.contains("expired"), warned, "{log}");
        assert_eq!(log.contains("WARN"), warned, "{log}");
    }
}

#[test]
fn whose_address_is_not_in_the_list_is_turned_away_unheard() {
    for shape in SHAPES {
        let recorder = Recorder::start(always_ok);
        let mut config = config(&recorder.url(), None);
        config.workers = Some(shape.workers);
        config.io_driver = shape.driver;
        config.allow_from = "127.0.0.1,10.0.0.0/8,127.7.0.0/16"
            .parse()
            .expect("networks");
        let weir = weir::start(config).expect("weir starts");
        let metrics = weir.metrics_addr().expect("metrics are on");
        for stranger in ["127.0.0.2", "127.8.0.1", "127.6.255.255"] {
            for port in [weir.proxy_addr(), metrics] {
                let mut client = from(stranger, port);
                // Sent into the void, or not at all.
                let _ = std::io::Write::write_all(&mut client.stream, HEALTH.as_bytes());
                assert!(is_turned_away(&mut client), "{stranger} {shape:?}");
            }
        }
        for known in ["127.0.0.1", "127.7.255.255"] {
            assert_eq!(from(known, weir.proxy_addr()).ask(HEALTH).text(), "ok\n");
            assert_eq!(from(known, metrics).ask(HEALTH).text(), "ok\n");
        }
        let text = scrape(metrics);
        assert!(
            text.contains("weir_refused_total{status=\"none\",reason=\"address\"} 6\n"),
            "{text}"
        );
        assert!(weir.shutdown(Duration::from_secs(5)));
    }
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_is_known_by_its_ipv4_address() {
    if TcpListener::bind("[::1]:0").is_err() {
        // A machine without IPv6 has no such clients.
        return;
    }
    let recorder = Recorder::start(always_ok);
    let mut config = config(&recorder.url(), None);
    config.bind_ip = "::".parse().expect("an address");
    config.allow_from = "127.0.0.1,::1".parse().expect("networks");
    let weir = weir::start(config).expect("weir starts");
    let port = weir.proxy_addr().port();
    let by_v4 = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    assert_eq!(from("127.0.0.1", by_v4).ask(HEALTH).text(), "ok\n");
    assert!(is_turned_away(&mut from("127.0.0.2", by_v4)));
    let by_v6 = SocketAddr::new("::1".parse().expect("an address"), port);
    assert_eq!(from("::1", by_v6).ask(HEALTH).text(), "ok\n");
}

#[test]
fn a_crowd_of_strangers_is_told_of_once() {
    let mock = mock::start(MockConfig::default()).expect("the mock starts");
    let weir = Program::start(&mock, &[("ALLOW_FROM", "127.0.0.1"), ("WORKERS", "1")]);
    for _ in 0..50 {
        assert!(is_turned_away(&mut from("127.0.0.3", weir.proxy)));
    }
    let told = weir.log_lines();
    let told: Vec<_> = told
        .iter()
        .filter(|line| line.contains("ALLOW_FROM"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("127.0.0.3"), "{told:?}");
    assert!(
        scrape(weir.metrics)
            .contains("weir_refused_total{status=\"none\",reason=\"address\"} 50\n")
    );
}

#[test]
fn a_weir_that_is_open_to_everyone_says_so_once() {
    let mock = mock::start(MockConfig::default()).expect("the mock starts");
    let authority = Authority::new();
    let files = authority.server().files();
    let (cert, key) = (path(&files.cert), path(&files.key));
    let ca = path(&file(&authority.pem()));
    let tls = [
        ("TLS_CERT_FILE", &*cert),
        ("TLS_KEY_FILE", &*key),
        ("TLS_CLIENT_CA_FILE", &*ca),
    ];
    for (settings, warnings) in [
        (&[("BIND_IP", "0.0.0.0"), ("WORKERS", "2")][..], 1),
        (&[("BIND_IP", "0.0.0.0"), tls[0], tls[1]], 1),
        (&[("BIND_IP", "0.0.0.0"), tls[0], tls[1], tls[2]], 0),
        (&[("BIND_IP", "0.0.0.0"), ("ALLOW_FROM", "127.0.0.0/8")], 0),
        (&[("BIND_IP", "127.0.0.1")], 0),
    ] {
        let weir = Program::start(&mock, settings);
        let log = &weir.before_serving;
        let warned = log
            .iter()
            .filter(|line| line.contains("WARN") && line.contains("ALLOW_FROM"));
        assert_eq!(warned.count(), warnings, "{settings:?} {log:?}");
    }
}

#[test]
fn a_descriptor_of_a_stranger_is_closed_and_its_place_is_free() {
    let house = House::with(SHAPES[0], always_ok, |config| {
        config.allow_from = "127.0.0.1".parse().expect("an address");
        config.max_connections = 2;
    });
    for _ in 0..20 {
        let mut client = from("127.0.0.9", house.addr());
        assert!(is_turned_away(&mut client));
    }
    house.wait_for("weir_client_connections 0");
    let mut client = house.client(&TLS13);
    assert_eq!(client.ask(HEALTH).text(), "ok\n");
}

fn path(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}
