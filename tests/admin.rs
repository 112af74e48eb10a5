//! The metrics port as a server: who gets a seat, what there is, what every answer carries.

mod support;

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::config;
use support::http::{Answer, Client};
use weir::Handle;

/// More than there are seats.
const SILENT: usize = 40;

/// A weir that nobody sends anything to.
fn idle() -> (Handle, SocketAddr) {
    let mut config = config("http://127.0.0.1:9", None);
    config.workers = Some(1);
    config.forward.port = Some(0);
    let weir = weir::start(config).expect("weir starts");
    let metrics = weir.metrics_addr().expect("metrics are on");
    (weir, metrics)
}

fn ask(metrics: SocketAddr, head: &str, body: &str) -> Answer {
    let length = body.len();
    Client::connect(metrics).ask(&format!(
        "{head} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

#[test]
fn who_says_nothing_keeps_nobody_out() {
    let (_weir, metrics) = idle();
    let mut silent: Vec<_> = (0..SILENT).map(|_| Client::connect(metrics)).collect();
    for half in &mut silent[SILENT / 2..] {
        half.send("GET /metrics HTTP/1.1\r\n");
    }
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(ask(metrics, "GET /nirn/healthz", "").text(), "ok\n");
    }
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(3),
        "{took:?}, not the five seconds of a silent one"
    );
    let pushed_out = |client: &mut Client| {
        client.stream.set_nonblocking(true).unwrap();
        match client.stream.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    };
    let pushed: Vec<_> = silent.iter_mut().map(pushed_out).collect();
    let pushed = pushed.into_iter().filter(|&pushed| pushed);
    assert!(pushed.count() >= SILENT - 16);
}

#[test]
fn what_is_not_there_is_answered_with_what_is() {
    let (_weir, metrics) = idle();
    let missing = ask(metrics, "GET /metric", "");
    assert_eq!(missing.status, 404);
    let text = missing.text();
    for there in [
        "GET /metrics:",
        "GET /nirn/healthz:",
        "PUT /forward/limits/…:",
    ] {
        assert!(text.contains(there), "{there} in {text}");
    }
    let wrong = ask(metrics, "POST /forward/limits", "");
    assert_eq!(wrong.status, 405);
    assert_eq!(wrong.header("allow"), Some("GET, HEAD, PUT"));
    assert_eq!(
        ask(metrics, "GET /metrics?name=x", "").status,
        200,
        "a query is no part of it"
    );
    let head = ask(metrics, "HEAD /metrics", "");
    assert!(head.body.is_empty() && head.header("content-length") != Some("0"));
}

#[test]
fn a_body_is_read_as_far_as_its_page_reads_one() {
    let (_weir, metrics) = idle();
    let put = "PUT /forward/limits";
    assert_eq!(ask(metrics, put, "7\n").status, 200);
    assert_eq!(ask(metrics, put, &"7".repeat(17)).status, 413);
    assert_eq!(ask(metrics, "GET /metrics", "7").status, 413);
    let mut late = Client::connect(metrics);
    late.send(format!(
        "{put} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n1"
    ));
    std::thread::sleep(Duration::from_millis(50));
    late.send("2");
    let answer = late.answer(false);
    assert!(
        answer.text().contains("\"default\":12"),
        "{}",
        answer.text()
    );
    let chunked =
        format!("{put} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(Client::connect(metrics).ask(&chunked).status, 411);
}

#[test]
fn no_page_in_a_browser_changes_anything() {
    let (_weir, metrics) = idle();
    let from_a_page = |method: &str| {
        Client::connect(metrics).ask(&format!(
            "{method} /forward/limits HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n\
             Content-Length: 0\r\n\r\n"
        ))
    };
    assert_eq!(from_a_page("PUT").status, 403);
    assert_eq!(from_a_page("GET").status, 200, "it may look");
}

#[test]
fn every_answer_is_kept_by_nobody_and_framed_by_nobody() {
    let (_weir, metrics) = idle();
    for path in [
        "/metrics",
        "/nirn/healthz",
        "/nirn/cluster",
        "/forward/limits",
        "/nothing",
    ] {
        let answer = ask(metrics, &format!("GET {path}"), "");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
    }
}
