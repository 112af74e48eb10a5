//! What went wrong is counted under the kind it was, once.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::{MockConfig, MockHandle};
use support::http::Client;
use support::upstream::{Peer, Recorder};
use support::{Pair, SHAPES, config, request};
use weir::Handle;

const CHANNEL: u64 = 203_039_963_636_301_824;
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 google\r\n\r\nok";

/// A weir with little patience before an upstream of plain HTTP that answers so.
fn before(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> (Recorder, Handle) {
    let recorder = Recorder::start(script);
    let mut config = config(&recorder.url(), None);
    config.workers = Some(1);
    config.client_header_timeout = Duration::from_millis(200);
    config.client_idle_timeout = Duration::from_millis(400);
    let weir = weir::start(config).expect("weir starts");
    (recorder, weir)
}

/// Answers requests without a body; for the end of one it waits for ever.
fn always_ok(peer: &mut Peer) {
    while peer.read_until("\r\n\r\n") {
        peer.send(OK);
    }
}

fn scrape(weir: &Handle) -> String {
    let metrics = weir.metrics_addr().expect("metrics are on");
    let mut client = Client::connect(metrics);
    client
        .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .text()
}

fn count(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is missing:\n{text}"))
}

/// The kinds that were counted, each with how often.
fn errors(text: &str) -> Vec<(&str, u64)> {
    let lines = text.lines().filter_map(|line| {
        let (kind, rest) = line
            .strip_prefix("weir_errors_total{kind=\"")?
            .split_once('"')?;
        Some((kind, rest.rsplit(' ').next()?.parse().ok()?))
    });
    lines.filter(|(_, count)| *count > 0).collect()
}

/// Waits for something that is counted a moment after its answer.
fn until(what: &str, mut is_so: impl FnMut() -> Result<(), String>) {
    let until = Instant::now() + Duration::from_secs(20);
    while let Err(instead) = is_so() {
        assert!(Instant::now() < until, "{what}: {instead}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Closes every connection of the mock's and waits until they are: weir's end hears of it at once.
fn close_connections(mock: &MockHandle) {
    mock.close_connections();
    until("all are closed", || match mock.oracle().connections.open {
        0 => Ok(()),
        open => Err(format!("{open} are open")),
    });
}

/// Waits until these errors have been counted, and none beside.
fn expect_errors(weir: &Handle, expected: &[(&str, u64)]) {
    until("errors", || {
        let text = scrape(weir);
        match errors(&text) {
            counted if counted == expected => Ok(()),
            counted => Err(format!("{counted:?} instead of {expected:?}")),
        }
    });
}

#[test]
fn a_client_that_leaves_is_counted_as_gone_wherever_it_leaves() {
    let (_recorder, weir) = before(always_ok);
    // Before a request there is nothing to go wrong.
    drop(Client::connect(weir.proxy_addr()));
    let mut served = Client::connect(weir.proxy_addr());
    assert_eq!(
        served.ask(&request("GET", "/api/users/@me", "")).status,
        200
    );
    drop(served);
    expect_errors(&weir, &[]);
    let mut in_head = Client::connect(weir.proxy_addr());
    in_head.send("GET /api/users/@me HT");
    drop(in_head);
    expect_errors(&weir, &[("client_gone", 1)]);
    // One body that is short enough to be kept, and one that streams.
    for (seen, length) in [(2, 50_000), (3, 500_000)] {
        let mut in_body = Client::connect(weir.proxy_addr());
        in_body.send(format!(
            "POST /api/users/@me HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nshort"
        ));
        thread::sleep(Duration::from_millis(100));
        drop(in_body);
        expect_errors(&weir, &[("client_gone", seen)]);
    }
}

#[test]
fn a_client_that_leaves_while_its_request_waits_is_counted_as_gone() {
    for shape in SHAPES {
        let pair = Pair::start(shape);
        let path = format!("/api/v10/channels/{CHANNEL}/messages");
        let post = request("POST", &path, "{}");
        let mut client = Client::connect(pair.addr());
        for _ in 0..5 {
            assert_eq!(client.ask(&post).status, 200);
        }
        let mut leaving = Client::connect(pair.addr());
        leaving.send(&post);
        // Longer than a half-close would take.
        thread::sleep(Duration::from_millis(250));
        drop(leaving);
        expect_errors(&pair.weir, &[("client_gone", 1)]);
    }
}

#[test]
fn a_client_that_stalls_is_counted_as_too_slow() {
    let (_recorder, weir) = before(always_ok);
    let mut in_head = Client::connect(weir.proxy_addr());
    in_head.send("GET /api/users/@me HT");
    assert_eq!(in_head.answer(false).status, 408);
    expect_errors(&weir, &[("client_timeout", 1)]);
    for (seen, length) in [(2, 50_000), (3, 500_000)] {
        let mut in_body = Client::connect(weir.proxy_addr());
        in_body.send(format!(
            "POST /api/users/@me HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nshort"
        ));
        expect_errors(&weir, &[("client_timeout", seen)]);
    }
}

#[test]
fn a_request_that_is_no_http_is_counted_by_what_is_wrong_with_it() {
    let (_recorder, weir) = before(always_ok);
    let ask = |text: &str| Client::connect(weir.proxy_addr()).ask(text).status;
    assert_eq!(ask("GET /api HTTP/1.1\r\n\r\n"), 400);
    expect_errors(&weir, &[("bad_request", 1)]);
    let many = "X-Y: z\r\n".repeat(120);
    assert_eq!(
        ask(&format!("GET /api HTTP/1.1\r\nHost: x\r\n{many}\r\n")),
        431
    );
    expect_errors(&weir, &[("bad_request", 1), ("head_too_large", 1)]);
    let mut chunked = Client::connect(weir.proxy_addr());
    chunked.send("POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n");
    expect_errors(&weir, &[("bad_request", 2), ("head_too_large", 1)]);
    let text = scrape(&weir);
    assert_eq!(
        count(
            &text,
            "weir_refused_total{status=\"4xx\",reason=\"malformed\"}"
        ),
        3
    );
    assert_eq!(
        count(&text, "nirn_proxy_error"),
        0,
        "nothing of weir's or Discord's"
    );
}

#[test]
fn an_answer_that_breaks_off_is_counted_and_never_looks_whole() {
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nno size\r\n",
    ];
    for answer in answers {
        for version in ["1.1", "1.0"] {
            let (_recorder, weir) = before(move |peer| {
                peer.read_head();
                peer.send(answer);
            });
            let mut client = Client::connect(weir.proxy_addr());
            client.send(format!("GET /api/a HTTP/{version}\r\nHost: x\r\n\r\n"));
            let mut all = Vec::new();
            let end = std::io::Read::read_to_end(&mut client.stream, &mut all);
            let text = String::from_utf8_lossy(&all);
            // Without a length or chunks only a reset tells the end from a break.
            let marked = text.contains("Content-Length: 9") || text.contains("chunked");
            assert!(marked || end.is_err(), "HTTP/{version}, {answer:?}: {text}");
            assert!(!text.contains("0\r\n\r\n"), "{text}");
            expect_errors(&weir, &[("body_truncated", 1)]);
        }
    }
}

#[test]
fn resumed_sessions_and_dead_pooled_connections_are_counted() {
    let pair = Pair::start(SHAPES[0]);
    let get = request("GET", "/api/v10/users/@me", "");
    let expect = |expected: [u64; 4]| {
        until("connections", || {
            let text = scrape(&pair.weir);
            let counted = [
                "weir_upstream_connections_opened_total",
                "weir_upstream_tls_handshakes_total{result=\"resumed\"}",
                "weir_upstream_connections_reused_total",
                "weir_upstream_connections_stale_total",
            ]
            .map(|name| count(&text, name));
            match counted == expected {
                true => Ok(()),
                false => Err(format!("{counted:?} instead of {expected:?}")),
            }
        });
    };
    assert_eq!(pair.ask(&get).status, 200);
    assert_eq!(pair.ask(&get).status, 200);
    expect([1, 0, 1, 0]);
    close_connections(&pair.mock);
    assert_eq!(pair.ask(&get).status, 200);
    expect([2, 1, 1, 1]);
}

#[test]
fn a_pool_that_loses_all_its_connections_resumes_every_session() {
    const TOGETHER: u64 = 24;
    let mut mock = MockConfig::default();
    // All dial before any of them has shaken hands and brought new tickets.
    mock.settings.connections.handshake_delay_ms = 300;
    let pair = Pair::with(SHAPES[0], mock, |_| ());
    let addr = pair.weir.proxy_addr();
    let callbacks = |first: u64| {
        let callback = |n: u64| {
            let path = format!("/api/v10/interactions/{}/token{n}/callback", CHANNEL + n);
            let body = "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{\"type\":5}";
            let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{body}");
            thread::spawn(move || Client::connect(addr).ask(&request).status)
        };
        let all: Vec<_> = (first..first + TOGETHER).map(callback).collect();
        for each in all {
            let status = each.join().expect("the client ends");
            assert!((200..300).contains(&status), "{status}");
        }
        let mut counted = [0; 2];
        until("every connection is counted", || {
            let text = scrape(&pair.weir);
            counted = [
                "weir_upstream_connections_opened_total",
                "weir_upstream_tls_handshakes_total{result=\"resumed\"}",
            ]
            .map(|name| count(&text, name));
            match pair.mock.oracle().connections.opened {
                opened if opened == counted[0] => Ok(()),
                opened => Err(format!("{} of {opened}", counted[0])),
            }
        });
        counted
    };
    let [opened, resumed] = callbacks(0);
    assert!(opened >= TOGETHER, "{opened}");
    close_connections(&pair.mock);
    let [opened_later, resumed_later] = callbacks(TOGETHER);
    assert!(opened_later >= opened + TOGETHER - 1);
    assert_eq!(resumed_later - resumed, opened_later - opened);
}
