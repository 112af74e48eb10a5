//! HTTP/1.1 through weir: what goes upstream, what comes back, how connections go on.

mod support;

use std::thread;
use std::time::Duration;

use loadtest::mock::{self, MockConfig};
use support::http::Client;
use support::upstream::{Peer, Recorder};
use support::{Pair, SHAPES, Shape, config, request, resident_bytes};
use weir::config::IoDriver;
use weir::{Config, Handle};

const CHANNEL: u64 = 203_039_963_636_301_824;
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 google\r\n\r\nok";

/// A weir of one worker before a recording upstream of plain HTTP.
fn before(recorder: &Recorder, change: impl FnOnce(&mut Config)) -> Handle {
    let mut config = config(&recorder.url(), None);
    config.workers = Some(1);
    change(&mut config);
    weir::start(config).expect("weir starts")
}

/// Answers every request without a body.
fn always_ok(peer: &mut Peer) {
    while peer.read_head() {
        peer.send(OK);
    }
}

#[test]
fn a_request_goes_upstream_byte_for_byte_but_for_host_and_hop_by_hop_headers() {
    let recorder = Recorder::start(always_ok);
    let weir = before(&recorder, |_| ());
    let mut client = Client::connect(weir.proxy_addr());
    let answer = client.ask(
        "GET /api/v10/channels/1/messages/2/reactions/%F0%9F%98%8B?&a=b HTTP/1.1\r\n\
         hOsT: weir:8080\r\nX-Odd:   spaced  \r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
         TE: trailers\r\nAuthorization: Bot x\r\nAccept-Encoding: gzip, br\r\n\r\n",
    );
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(
        recorder.seen(),
        [format!(
            "GET /api/v10/channels/1/messages/2/reactions/%F0%9F%98%8B?&a=b HTTP/1.1\r\n\
             hOsT: {}\r\nX-Odd:   spaced  \r\n\
             Authorization: Bot x\r\nAccept-Encoding: gzip, br\r\n\r\n",
            recorder.addr
        )]
    );
}

#[test]
fn an_answer_comes_back_byte_for_byte_but_for_hop_by_hop_headers() {
    let recorder = Recorder::start(|peer| {
        while peer.read_head() {
            peer.send(
                "HTTP/1.1 200 Fine\r\nX-RateLimit-Bucket: abc\r\nset-cookie: a=1\r\n\
                 set-cookie: b=2\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\
                 Content-Encoding: gzip\r\nContent-Length: 3\r\nVia: 1.1 google\r\n\r\nabc",
            );
        }
    });
    let weir = before(&recorder, |_| ());
    let mut client = Client::connect(weir.proxy_addr());
    for _ in 0..2 {
        let answer = client.ask(&request("GET", "/api/v10/users/@me", ""));
        let names: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "X-RateLimit-Bucket",
                "set-cookie",
                "set-cookie",
                "Content-Encoding",
                "Content-Length",
                "Via"
            ]
        );
        assert_eq!(answer.text(), "abc");
    }
    assert_eq!(
        recorder.seen().len(),
        1,
        "one upstream connection serves both"
    );
}

#[test]
fn head_204_and_304_have_no_body_and_the_connection_goes_on() {
    let recorder = Recorder::start(|peer| {
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
            OK,
        ];
        for answer in answers {
            peer.read_head();
            peer.send(answer);
        }
        peer.read_head();
    });
    let weir = before(&recorder, |_| ());
    let mut client = Client::connect(weir.proxy_addr());
    let head = client.ask(&request("HEAD", "/api/v10/gateway", ""));
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("1000"))
    );
    assert_eq!(
        client.ask(&request("GET", "/api/v10/gateway", "")).status,
        204
    );
    assert_eq!(
        client.ask(&request("GET", "/api/v10/gateway", "")).status,
        304
    );
    assert_eq!(
        client.ask(&request("GET", "/api/v10/gateway", "")).text(),
        "ok"
    );
    assert_eq!(recorder.seen().len(), 1);
}

#[test]
fn interim_answers_are_passed_on_and_expectations_are_met_by_weir() {
    let recorder = Recorder::start(|peer| {
        peer.read_head();
        peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        peer.send(OK);
        peer.read_until("hello");
        peer.send(OK);
    });
    let weir = before(&recorder, |_| ());
    let mut client = Client::connect(weir.proxy_addr());
    let answer = client.ask(&request("GET", "/api/v10/gateway", ""));
    assert_eq!((answer.status, answer.interim), (200, vec![103]));
    client.send(
        "POST /api/v10/channels/1/messages HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\
         Content-Length: 5\r\n\r\n",
    );
    thread::sleep(Duration::from_millis(100));
    client.send("hello");
    let answer = client.answer(false);
    assert_eq!((answer.status, answer.interim), (200, vec![100]));
    assert!(
        !recorder.seen()[0].contains("Expect"),
        "the expectation is weir's to meet"
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    for shape in SHAPES {
        let pair = Pair::start(shape);
        let mut client = Client::connect(pair.addr());
        let mut all = String::new();
        for seq in 0..10 {
            let path = format!("/api/v10/channels/{}/messages", CHANNEL + seq);
            all += &request("POST", &path, &format!(r#"{{"content":"number {seq}"}}"#));
        }
        client.send(all);
        for seq in 0..10 {
            let answer = client.answer(false);
            assert_eq!(answer.status, 200);
            assert!(
                answer.text().contains(&format!("number {seq}")),
                "{}",
                answer.text()
            );
        }
    }
}

#[test]
fn chunked_bodies_stay_chunked_and_http_1_0_gets_them_plain() {
    let recorder = Recorder::start(|peer| {
        while peer.read_until("0\r\n\r\n") {
            peer.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n",
            );
        }
    });
    let weir = before(&recorder, |_| ());
    let mut client = Client::connect(weir.proxy_addr());
    let head = "POST /api/v10/channels/1/messages HTTP/1.1\r\nHost: x\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    client.send(head);
    // A body in pieces that end inside a chunk.
    for piece in ["5\r\nhe", "llo\r\n", "6\r\n world\r", "\n0\r\n", "\r\n"] {
        thread::sleep(Duration::from_millis(20));
        client.send(piece);
    }
    let answer = client.answer(false);
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert_eq!(answer.text(), "abcde");
    let seen = &recorder.seen()[0];
    assert!(
        seen.ends_with("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
        "{seen}"
    );

    let recorder = Recorder::start(|peer| {
        peer.read_head();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    });
    let weir = before(&recorder, |_| ());
    let mut old = Client::connect(weir.proxy_addr());
    old.send("GET /api/v10/gateway HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let all = String::from_utf8(old.rest()).unwrap();
    assert!(
        all.ends_with("\r\n\r\nabc") && !all.contains("chunked"),
        "{all}"
    );
}

#[test]
fn an_answer_without_length_ends_with_the_connection() {
    let recorder = Recorder::start(|peer| {
        peer.read_head();
        peer.send("HTTP/1.1 200 OK\r\n\r\nuntil the end");
    });
    let weir = before(&recorder, |_| ());
    let mut client = Client::connect(weir.proxy_addr());
    let answer = client.ask(&request("GET", "/api/v10/gateway", ""));
    assert_eq!(answer.text(), "until the end");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn an_answer_that_comes_before_the_bodys_end_reaches_the_client() {
    let recorder = Recorder::start(|peer| {
        peer.read_head();
        peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
        // It reads no more, but does not reset the connection at once either.
        thread::sleep(Duration::from_secs(1));
    });
    let weir = before(&recorder, |_| ());
    let mut client = Client::connect(weir.proxy_addr());
    client.send(
        "POST /api/v10/channels/1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n",
    );
    let mut writer = client.stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        use std::io::Write;
        // Fails when weir closes: that is the point.
        while writer.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let answer = client.answer(false);
    assert_eq!((answer.status, answer.text().as_str()), (413, "big"));
    assert_eq!(answer.header("connection"), Some("close"));
    sending.join().unwrap();
}

#[test]
fn a_dead_pooled_connection_costs_a_safe_request_nothing_and_repeats_no_unsafe_one() {
    // Each connection answers once and closes a moment later, without having said so.
    let recorder = Recorder::start(|peer| {
        peer.read_head();
        peer.send(OK);
    });
    let weir = before(&recorder, |_| ());
    let mut client = Client::connect(weir.proxy_addr());
    for _ in 0..20 {
        assert_eq!(
            client.ask(&request("GET", "/api/v10/users/@me", "")).status,
            200
        );
    }
    assert_eq!(recorder.seen().len(), 20);
    let twice = recorder
        .seen()
        .iter()
        .filter(|seen| seen.matches("GET ").count() > 1)
        .count();
    assert_eq!(twice, 0);
}

#[test]
fn an_upstream_that_hangs_is_answered_for_with_408_and_one_that_is_down_with_502() {
    let recorder = Recorder::start(|peer| {
        peer.read_head();
        thread::sleep(Duration::from_secs(5));
    });
    let weir = before(&recorder, |config| {
        config.request_timeout = Duration::from_millis(300);
    });
    let mut client = Client::connect(weir.proxy_addr());
    let answer = client.ask(&request("GET", "/api/v10/users/@me", ""));
    assert_eq!(answer.status, 408);
    assert_eq!(answer.header("generated-by-proxy"), Some("true"));
    assert!(answer.header("via").is_some());
    // The connection goes on.
    assert_eq!(
        client.ask(&request("GET", "/api/v10/users/@me", "")).status,
        408
    );

    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut down = config(&format!("http://{closed}"), None);
    down.workers = Some(1);
    let weir = weir::start(down).unwrap();
    let answer = Client::connect(weir.proxy_addr()).ask(&request("GET", "/api/v10/gateway", ""));
    assert_eq!(answer.status, 502);
    assert_eq!(answer.header("generated-by-proxy"), Some("true"));
}

#[test]
fn an_answer_cut_off_in_its_body_ends_the_clients_connection_there() {
    let recorder = Recorder::start(|peer| {
        peer.read_head();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
    });
    let weir = before(&recorder, |_| ());
    let mut client = Client::connect(weir.proxy_addr());
    client.send(request("GET", "/api/v10/gateway", ""));
    let all = String::from_utf8(client.rest()).unwrap();
    assert!(all.ends_with("\r\n\r\nonly this"), "{all}");
}

#[test]
fn malformed_requests_get_400_and_never_reach_the_upstream() {
    let recorder = Recorder::start(always_ok);
    let weir = before(&recorder, |_| ());
    for bad in [
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut client = Client::connect(weir.proxy_addr());
        client.send(bad);
        let answer = client.answer(false);
        assert_eq!(answer.status, 400, "{bad:?}");
        assert!(client.is_closed(), "{bad:?}");
    }
    assert_eq!(recorder.seen(), [] as [String; 0]);
}

#[test]
fn a_head_that_does_not_end_is_given_up_and_idle_connections_are_closed() {
    let recorder = Recorder::start(always_ok);
    let weir = before(&recorder, |config| {
        config.client_header_timeout = Duration::from_millis(200);
        config.client_idle_timeout = Duration::from_millis(300);
    });
    let mut slow = Client::connect(weir.proxy_addr());
    slow.send("GET / HT");
    let answer = slow.answer(false);
    assert_eq!(answer.status, 408);
    assert!(slow.is_closed());
    let mut idle = Client::connect(weir.proxy_addr());
    assert_eq!(
        idle.ask(&request("GET", "/api/v10/gateway", "")).status,
        200
    );
    assert!(idle.is_closed());
}

#[test]
fn health_is_told_on_the_main_port() {
    let recorder = Recorder::start(always_ok);
    let weir = before(&recorder, |_| ());
    let mut client = Client::connect(weir.proxy_addr());
    assert_eq!(
        client
            .ask("GET /nirn/healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            .status,
        200
    );
    assert_eq!(
        client
            .ask("HEAD /nirn/healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            .status,
        200
    );
    assert!(recorder.seen().is_empty());
}

#[test]
fn requests_go_out_from_the_outbound_ip() {
    let recorder = Recorder::start(|peer| {
        let from = peer.stream.peer_addr().expect("connected").ip().to_string();
        while peer.read_head() {
            peer.send(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{from}",
                from.len()
            ));
        }
    });
    let outbound = "127.0.0.9".parse().expect("an address");
    let weir = before(&recorder, |config| config.outbound_ip = Some(outbound));
    let mut client = Client::connect(weir.proxy_addr());
    let answer = client.ask(&request("GET", "/api/v10/gateway", ""));
    assert_eq!(answer.text(), "127.0.0.9");
}

/// Bytes of the large bodies.
const LARGE: usize = 100 * 1024 * 1024;

/// What the process may grow by while a large body passes.
const GROWTH_MAX: u64 = 8 * 1024 * 1024;

#[test]
fn large_bodies_stream_through_both_ways_in_little_memory() {
    // weir runs as a process of its own, so that its memory alone is measured.
    let mock = mock::start(MockConfig::default()).expect("the mock starts");
    for driver in ["auto", "epoll"] {
        let weir = support::program::Program::start(
            &mock,
            &[
                ("WORKERS", "1"),
                ("IO_DRIVER", driver),
                ("REQUEST_TIMEOUT", "30000"),
            ],
        );
        let mut client = Client::connect(weir.proxy);
        assert_eq!(
            client.ask(&request("GET", "/api/v10/gateway", "")).status,
            200
        );
        let before = resident_bytes(weir.pid());
        let peak = weir.watch_memory();

        let path = format!("/api/v10/channels/{CHANNEL}/attachments-test?bytes={LARGE}");
        let answer = client.ask(&request("GET", &path, ""));
        assert_eq!((answer.status, answer.body.len()), (200, LARGE));
        drop(answer);

        let path = format!("/api/v10/channels/{CHANNEL}/attachments-test?bytes={LARGE}&chunked=1");
        let answer = client.ask(&request("GET", &path, ""));
        assert_eq!((answer.status, answer.body.len()), (200, LARGE));
        drop(answer);

        client.send(format!(
            "POST /api/v10/channels/{CHANNEL}/messages HTTP/1.1\r\nHost: x\r\n\
             Authorization: {}\r\nContent-Type: application/octet-stream\r\n\
             Content-Length: {LARGE}\r\n\r\n",
            support::TOKEN
        ));
        let piece = vec![b'x'; 1024 * 1024];
        for _ in 0..LARGE / piece.len() {
            client.send(&piece);
        }
        let answer = client.answer(false);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let growth = peak.stop().saturating_sub(before);
        assert!(
            growth < GROWTH_MAX,
            "{driver}: weir grew by {} KiB",
            growth / 1024
        );
    }
}

#[test]
fn ten_thousand_idle_connections_cost_2_kib_each_and_their_memory_is_used_again() {
    const CONNECTIONS: u64 = 10_000;
    /// Measured: 0.9 KiB.
    const EACH_MAX: u64 = 2 * 1024;
    // Both ends have a descriptor for each, and some more.
    let limit = weir::io::descriptors::raise_limit().expect("the limit of descriptors");
    let connections = CONNECTIONS.min(limit.saturating_sub(500));
    let mock = mock::start(MockConfig::default()).expect("the mock starts");
    for driver in ["auto", "epoll"] {
        let settings = [
            ("WORKERS", "1"),
            ("IO_DRIVER", driver),
            ("MAX_CONNECTIONS", "20000"),
        ];
        let weir = support::program::Program::start(&mock, &settings);
        let health = "GET /nirn/healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        let open = |_| {
            let mut client = Client::connect(weir.proxy);
            assert_eq!(client.ask(health).status, 200);
            client
        };
        let warm: Vec<_> = (0..10).map(open).collect();
        let answer = open(0).ask(&request("GET", "/api/v10/gateway", ""));
        assert_eq!(answer.status, 200);
        let before = resident_bytes(weir.pid());
        let idle: Vec<_> = (0..connections).map(open).collect();
        let full = resident_bytes(weir.pid());
        let each = full.saturating_sub(before) / connections;
        println!("{driver}: {each} bytes each");
        assert!(each < EACH_MAX, "{driver}: {each} bytes each");
        drop(idle);
        let again: Vec<_> = (0..connections).map(open).collect();
        let after = resident_bytes(weir.pid());
        assert!(
            after < full + full / 10,
            "{driver}: {full} bytes became {after}"
        );
        drop((warm, again));
    }
}

#[test]
fn tls_that_cannot_be_trusted_is_502_and_says_so_in_one_line() {
    use loadtest::mock::tls::Tls;
    for (tls, trusted) in [(Tls::WrongName, true), (Tls::Valid, false)] {
        let shape = Shape {
            workers: 1,
            driver: IoDriver::Auto,
        };
        let mock = MockConfig {
            tls,
            ..MockConfig::default()
        };
        let pair = Pair::with(shape, mock, |config| {
            if !trusted {
                config.upstream_ca_file = None;
            }
        });
        let answer = pair.ask(&request("GET", "/api/v10/gateway", ""));
        assert_eq!(answer.status, 502, "{tls:?}");
        assert!(answer.text().contains("certificate"), "{}", answer.text());
        assert_eq!(pair.mock.oracle().requests, 0, "nothing was sent");
    }
}
