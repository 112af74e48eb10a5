//! The mock over real sockets: TLS, framing, limits, big bodies, control.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

use std::io::Read;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use loadtest::client::{Client, Target};
use loadtest::mock::settings::Settings;
use loadtest::mock::tls::Tls;
use loadtest::mock::{self, MockConfig, MockHandle};
use loadtest::runtime::Driver;
use serde_json::{Value, json};

const C: &str = "203039963636301824";
const BOT: &str = "Bot MzkyODI3MTY5NDk3Mjg0NjE5.X.y";

fn plain() -> MockHandle {
    mock::start(MockConfig {
        tls: Tls::Plain,
        ..MockConfig::default()
    })
    .unwrap()
}

fn connect(mock: &MockHandle) -> Client {
    let target = if mock.ca_pem.is_empty() {
        Target::plain(mock.addr)
    } else {
        Target::tls(mock.addr, &mock.ca_pem).unwrap()
    };
    Client::connect(&target).unwrap().authorized(BOT)
}

#[test]
fn a_bot_is_served_over_tls_and_its_session_is_resumed() {
    let mock = mock::start(MockConfig::default()).unwrap();
    let target = Target::tls(mock.addr, &mock.ca_pem).unwrap();
    for _ in 0..2 {
        let mut client = Client::connect(&target).unwrap().authorized(BOT);
        let me = client.get("/api/v10/users/@me").unwrap();
        assert_eq!(
            (me.status, me.json()["id"].as_str()),
            (200, Some("392827169497284619"))
        );
        let gateway = client.get("/api/v10/gateway/bot").unwrap().json();
        assert_eq!(gateway["session_start_limit"]["max_concurrency"], 1);
    }
    let report = mock.oracle();
    let c = &report.connections;
    assert_eq!(
        (c.opened, c.tls_full, c.tls_resumed, c.requests_on_reused),
        (2, 1, 1, 2)
    );
    assert_eq!(
        (report.requests, report.violations, report.malformed),
        (4, 0, 0)
    );
}

#[test]
fn the_same_is_served_on_epoll_and_by_several_threads() {
    for (driver, threads) in [(Driver::Epoll, 1), (Driver::Auto, 2)] {
        let mock = mock::start(MockConfig {
            driver,
            threads,
            ..MockConfig::default()
        })
        .unwrap();
        let mut clients: Vec<Client> = (0..8).map(|_| connect(&mock)).collect();
        for client in &mut clients {
            assert_eq!(client.get("/api/v10/users/@me").unwrap().status, 200);
        }
        let c = mock.oracle().connections;
        assert_eq!((c.opened, c.open, c.open_max), (8, 8, 8));
        mock.close_connections();
        for client in &mut clients {
            assert!(client.is_closed_within(Duration::from_secs(5)));
        }
    }
}

#[test]
fn errors_come_compressed_where_that_is_set_and_accepted() {
    let mock = plain();
    mock.patch_settings(&json!({"answers": {"compress_errors": true}}))
        .unwrap();
    let mut client = connect(&mock);
    let target = "/api/v10/webhooks/203039963636301404/token";
    let plain = client.get(target).unwrap();
    assert_eq!(
        (plain.status, plain.header("content-encoding")),
        (404, None)
    );
    assert_eq!(plain.json()["code"], 10_015);
    let accepting = [("Accept-Encoding", "br, gzip;q=0.5")];
    let packed = client.request("GET", target, &accepting, b"").unwrap();
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut json = String::new();
    GzDecoder::new(&packed.body[..])
        .read_to_string(&mut json)
        .unwrap();
    assert_eq!(json.as_bytes(), plain.body);
    let me = "/api/v10/users/@me";
    let served = client.request("GET", me, &accepting, b"").unwrap();
    assert_eq!(
        (served.status, served.header("content-encoding")),
        (200, None)
    );
}

#[test]
fn a_burst_above_the_bucket_draws_429s_that_tell_when_to_come_back() {
    let mock = plain();
    let mut client = connect(&mock);
    let target = format!("/api/v10/channels/{C}/messages");
    for i in 0..5 {
        let body = format!(r#"{{"content":"seq:{i}"}}"#);
        let sent = client.json("POST", &target, &body).unwrap();
        assert_eq!(sent.json()["content"], format!("seq:{i}"));
        assert_eq!(
            sent.header("x-ratelimit-remaining"),
            Some((4 - i).to_string().as_str())
        );
    }
    let refused = client
        .json("POST", &target, r#"{"content":"seq:5"}"#)
        .unwrap();
    assert_eq!(refused.status, 429);
    let wait = refused.json()["retry_after"].as_f64().unwrap();
    assert!(wait > 0.8 && wait <= 1.0, "{wait}");
    std::thread::sleep(Duration::from_secs_f64(wait));
    assert_eq!(
        client
            .json("POST", &target, r#"{"content":"seq:5"}"#)
            .unwrap()
            .status,
        200
    );
    let report = mock.oracle();
    assert_eq!(
        (
            report.violations,
            report.order.tagged,
            report.order.inversions
        ),
        (1, 6, 0)
    );
}

#[test]
fn latency_passes_on_both_sides_of_the_judgement() {
    let settings = Settings {
        latency_ms: 100.0,
        ..Settings::default()
    };
    let mock = mock::start(MockConfig {
        tls: Tls::Plain,
        settings,
        ..MockConfig::default()
    });
    let mock = mock.unwrap();
    let mut client = connect(&mock);
    client.get("/api/v10/users/@me").unwrap();
    let begin = Instant::now();
    client.get("/api/v10/users/@me").unwrap();
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_millis(100) && took < Duration::from_millis(500),
        "{took:?}"
    );
    // The second arrived one whole latency after the first was judged.
    let log = mock.arrivals("users");
    let between = Duration::from_nanos(log[1].at_ns - log[0].at_ns);
    assert!(between >= Duration::from_millis(100), "{between:?}");
    let (half, whole) = (Duration::from_millis(50), Duration::from_millis(100));
    assert!(Duration::from_nanos(log[0].at_ns) > half && took >= whole);
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn large_bodies_stream_both_ways_in_flat_memory() {
    let mock = mock::start(MockConfig::default()).unwrap();
    let mut client = connect(&mock);
    let target = format!("/api/v10/channels/{C}/messages");
    let block = vec![b'z'; 64 * 1024];
    client.upload(&target, &block, 16, true).unwrap();
    let before_kb = resident_kb();
    for chunked in [false, true] {
        assert_eq!(
            client.upload(&target, &block, 512, chunked).unwrap().status,
            200
        );
    }
    for (chunked, bytes) in [(0, 20_000_000u64), (1, 20_000_001)] {
        let path =
            format!("/api/v10/channels/{C}/attachments-test?bytes={bytes}&chunked={chunked}");
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        let mut got = 0;
        let answer = client.download(&path, |data| {
            got += data.len() as u64;
            hash.update(data);
        });
        assert_eq!((answer.unwrap().status, got), (200, bytes));
        let hex: String = hash
            .finish()
            .as_ref()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(hex, mock::download_sha256(bytes));
    }
    let grown_kb = resident_kb().saturating_sub(before_kb);
    assert!(grown_kb < 8 * 1024, "grew by {grown_kb} kB");
    let arrived = mock.oracle().connections.body_bytes_in;
    assert_eq!(arrived, (16 + 2 * 512) * 64 * 1024);
}

#[test]
fn an_upload_shows_its_files_and_keeps_its_place() {
    let mock = plain();
    let mut client = connect(&mock);
    let file = vec![b'-'; 300_000];
    let mut body =
        b"--XX\r\nContent-Disposition: form-data; name=\"files[0]\"; filename=\"a.bin\"\r\n\
        Content-Type: application/octet-stream\r\n\r\n"
            .to_vec();
    body.extend_from_slice(&file);
    body.extend_from_slice(
        b"\r\n--XX\r\nContent-Disposition: form-data; name=\"payload_json\"\r\n\r\n\
          {\"content\":\"seq:7\"}\r\n--XX--\r\n",
    );
    let headers = [("Content-Type", "multipart/form-data; boundary=XX")];
    let target = format!("/api/v10/channels/{C}/messages");
    let message = client
        .request("POST", &target, &headers, &body)
        .unwrap()
        .json();
    assert_eq!(message["attachments"][0]["size"], 300_000);
    assert_eq!(
        (&message["content"], mock.oracle().order.tagged),
        (&"seq:7".into(), 1)
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mock = plain();
    let mut client = connect(&mock);
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    client
        .send_raw((one("/echo/1") + &one("/echo/2") + &one("/echo/3")).as_bytes())
        .unwrap();
    for i in 1..=3 {
        assert_eq!(
            client.response("GET").unwrap().json()["target"],
            format!("/echo/{i}")
        );
    }
}

#[test]
fn a_client_that_expects_it_is_told_to_continue() {
    let mock = plain();
    let mut client = connect(&mock);
    let head =
        "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    client.send_raw(head.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    client.send_raw(b"{}").unwrap();
    let answer = client.response("POST").unwrap();
    assert_eq!(
        (answer.status, &answer.json()["body_bytes"]),
        (200, &json!(2))
    );
}

#[test]
fn what_is_no_request_is_refused_and_counted() {
    let mock = plain();
    let mut client = connect(&mock);
    let smuggled = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\
                    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    client.send_raw(smuggled.as_bytes()).unwrap();
    assert_eq!(client.response("POST").unwrap().status, 400);
    assert!(client.is_closed_within(Duration::from_secs(2)));
    assert_eq!(mock.oracle().malformed, 1);
}

#[test]
fn control_requests_show_and_change_and_are_never_counted() {
    let mock = mock::start(MockConfig::default()).unwrap();
    let mut control = Client::connect(&Target::plain(mock.control_addr)).unwrap();
    let mut client = connect(&mock);
    client.get("/api/v10/users/@me").unwrap();
    let report: Value = control.get("/__mock/oracle").unwrap().json();
    assert_eq!(
        (&report["requests"], &report["connections"]["opened"]),
        (&json!(1), &json!(1))
    );
    let log = control.get("/__mock/log?target=users").unwrap().json();
    assert_eq!(log[0]["target"], "/api/v10/users/@me");

    let patch = r#"{"limits":{"global":{"limit":1}},"faults":[{"times":1,"target":"gateway",
        "action":{"kind":"answer","status":503,"body":"{}"}}]}"#;
    let config = control.json("POST", "/__mock/config", patch).unwrap();
    assert_eq!(config.json()["limits"]["global"]["limit"], 1);
    assert_eq!(client.get("/api/v10/gateway").unwrap().status, 503);
    assert_eq!(mock.settings().limits.global.limit, 1);
    let bad = control
        .json("POST", "/__mock/config", r#"{"limit":1}"#)
        .unwrap();
    assert_eq!(bad.status, 400);
    control.json("POST", "/__mock/reset", "").unwrap();
    assert_eq!(mock.oracle().requests, 0);
}
