//! The `weir` program as an operator meets it: its start, its end, its words and exit codes.

mod support;

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::http::Client;
use support::program::{Program, command, refuse_io_uring, slow_mock};
use support::{TOKEN, request};

const CHANNEL: u64 = 203_039_963_636_301_824;

/// Runs weir with settings that stop its start.
fn fails(variables: &[(&str, &str)]) -> Output {
    let mut child = command(variables).spawn().expect("weir runs");
    let until = Instant::now() + Duration::from_secs(10);
    while child.try_wait().expect("a child").is_none() {
        if Instant::now() > until {
            child.kill().expect("still there");
            panic!("weir started with {variables:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("its output")
}

/// The one line that tells why weir did not start, and its exit code.
fn complaint(variables: &[(&str, &str)]) -> (String, i32) {
    let output = fails(variables);
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    assert_eq!(lines.len(), 1, "one clear line: {text}");
    (
        lines[0].to_owned(),
        output.status.code().expect("an exit code"),
    )
}

#[test]
fn a_wrong_setting_stops_the_start_with_one_line_and_status_2() {
    for (name, value, allowed) in [
        ("PORT", "abc", "0 to 65535"),
        ("WORKERS", "-1", "number"),
        ("IO_DRIVER", "kqueue", "io_uring"),
        ("UPSTREAM_URL", "discord.com", "http"),
        ("BOT_RATELIMIT_OVERRIDES", "1:2,x", "pairs"),
        ("DEFAULT_BUCKETS", "POST channels/!=5", "without /api"),
        ("REQUEST_TIMEOUT", "soon", "milliseconds"),
        ("BIND_IP", "localhost", "IP"),
        ("LOG_LEVEL", "loud", "debug"),
        ("ENABLE_METRICS", "maybe", "true"),
    ] {
        let (line, code) = complaint(&[(name, value)]);
        assert_eq!(code, 2, "{line}");
        for part in [name, value, allowed] {
            assert!(line.contains(part), "{part:?} is missing: {line}");
        }
    }
}

#[test]
fn a_ca_file_that_cannot_be_used_stops_the_start() {
    let (line, code) = complaint(&[("UPSTREAM_CA_FILE", "/nowhere/ca.pem")]);
    assert_eq!(code, 2);
    assert!(
        line.contains("UPSTREAM_CA_FILE") && line.contains("/nowhere/ca.pem"),
        "{line}"
    );
    let empty = format!("{}/empty.pem", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&empty, "no certificate").expect("a file");
    let (line, code) = complaint(&[("UPSTREAM_CA_FILE", &empty)]);
    assert_eq!(code, 2);
    assert!(line.contains("no certificate"), "{line}");
}

#[test]
fn a_port_in_use_is_found_out_even_if_its_owner_would_share_it() {
    let mock = slow_mock(0.0);
    // Both of another program and of another weir, whose listeners allow sharing.
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let weir = Program::start(&mock, &[("WORKERS", "2")]);
    for port in [other.local_addr().expect("bound").port(), weir.proxy.port()] {
        let (line, code) = complaint(&[("PORT", &port.to_string())]);
        assert_eq!(code, 1, "{line}");
        assert!(line.contains("PORT") && line.contains("in use"), "{line}");
    }
    let (line, code) = complaint(&[("METRICS_PORT", &weir.metrics.port().to_string())]);
    assert_eq!(code, 1, "{line}");
    assert!(
        line.contains("METRICS_PORT") && line.contains("in use"),
        "{line}"
    );
}

#[test]
fn sigterm_lets_running_exchanges_finish_and_ends_with_0() {
    for driver in ["auto", "epoll"] {
        let mock = slow_mock(600.0);
        let mut weir = Program::start(&mock, &[("WORKERS", "2"), ("IO_DRIVER", driver)]);
        let mut running: Vec<_> = (0..8).map(|_| Client::connect(weir.proxy)).collect();
        let mut idle = Client::connect(weir.proxy);
        assert_eq!(
            idle.ask("GET /nirn/healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                .status,
            200
        );
        for (number, client) in (0..).zip(&mut running) {
            let path = format!("/api/v10/channels/{}/messages", CHANNEL + number * 10);
            client.send(request("POST", &path, r#"{"content":"x"}"#));
        }
        thread::sleep(Duration::from_millis(200));
        weir.signal("TERM");
        assert!(idle.is_closed(), "an idle connection is ended");
        for client in &mut running {
            let answer = client.answer(false);
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("connection"), Some("close"));
        }
        assert!(
            std::net::TcpStream::connect(weir.proxy).is_err(),
            "no new connections"
        );
        assert_eq!(
            weir.wait(Duration::from_secs(5)).code(),
            Some(0),
            "{driver}"
        );
        assert_eq!(mock.oracle().violations, 0);
    }
}

#[test]
fn the_shutdown_deadline_and_a_second_signal_cut_what_still_runs() {
    let mock = slow_mock(20_000.0);
    let mut weir = Program::start(
        &mock,
        &[("SHUTDOWN_TIMEOUT", "300"), ("REQUEST_TIMEOUT", "60000")],
    );
    let mut client = Client::connect(weir.proxy);
    client.send(request("GET", "/api/v10/gateway", ""));
    thread::sleep(Duration::from_millis(200));
    weir.signal("TERM");
    assert_eq!(weir.wait(Duration::from_secs(5)).code(), Some(3));

    let mut weir = Program::start(&mock, &[("REQUEST_TIMEOUT", "60000")]);
    let mut client = Client::connect(weir.proxy);
    client.send(request("GET", "/api/v10/gateway", ""));
    thread::sleep(Duration::from_millis(200));
    weir.signal("TERM");
    weir.signal("TERM");
    thread::sleep(Duration::from_millis(400));
    // Signals that come together are one.
    let began = Instant::now();
    weir.signal("INT");
    assert_eq!(weir.wait(Duration::from_secs(5)).code(), Some(3));
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn requests_that_wait_when_draining_begins_are_still_served() {
    let mock = slow_mock(0.0);
    let mut weir = Program::start(&mock, &[("WORKERS", "2")]);
    let path = format!("/api/v10/channels/{CHANNEL}/messages");
    let post = request("POST", &path, r#"{"content":"x"}"#);
    let mut clients: Vec<_> = (0..7).map(|_| Client::connect(weir.proxy)).collect();
    for client in &mut clients {
        client.send(&post);
    }
    thread::sleep(Duration::from_millis(300));
    weir.signal("TERM");
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.try_answer(false);
        let status = answer.map(|answer| answer.status);
        assert_eq!(
            status,
            Some(200),
            "request {number}: {:#?}",
            weir.log_lines()
        );
    }
    assert_eq!(weir.wait(Duration::from_secs(5)).code(), Some(0));
    assert_eq!(mock.oracle().violations, 0);
}

#[test]
fn metrics_have_nirns_names_and_labels_and_no_token() {
    let mock = slow_mock(0.0);
    let weir = Program::start(&mock, &[("WORKERS", "2"), ("LOG_LEVEL", "trace")]);
    let path = format!("/api/v10/channels/{CHANNEL}/messages");
    for _ in 0..6 {
        let post = request("POST", &path, r#"{"content":"x"}"#);
        assert_eq!(Client::connect(weir.proxy).ask(&post).status, 200);
    }
    let scrape = || {
        let answer = Client::connect(weir.metrics).ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(answer.status, 200);
        answer.text()
    };
    // A request is counted right after its answer was sent, so the last one may be a moment late.
    let counted = |text: &str| {
        let mut counts = text
            .lines()
            .filter(|line| line.starts_with("nirn_proxy_requests_count"));
        counts.any(|line| line.ends_with(" 6"))
    };
    let text = (0..200)
        .map(|_| {
            thread::sleep(Duration::from_millis(10));
            scrape()
        })
        .find(|text| counted(text))
        .unwrap_or_else(scrape);
    for line in [
        "# TYPE nirn_proxy_error counter",
        "nirn_proxy_error 0",
        "# TYPE nirn_proxy_requests histogram",
        "# TYPE nirn_proxy_open_connections gauge",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line:?} is missing:\n{text}"
        );
    }
    let count = text
        .lines()
        .find(|line| line.starts_with("nirn_proxy_requests_count"))
        .unwrap_or_else(|| panic!("no requests counted:\n{text}"));
    for part in [
        r#"method="POST""#,
        r#"status="200 OK""#,
        r#"route="/channels/!/messages""#,
        r#"clientId="203039963636301824""#,
    ] {
        assert!(count.contains(part), "{part} is missing: {count}");
    }
    assert!(count.ends_with(" 6"), "{count}");
    for bucket in ["0.1", "0.25", "1", "2.5", "5", "20", "+Inf"] {
        assert!(text.contains(&format!(r#"le="{bucket}""#)), "{bucket}");
    }
    assert!(text.contains("weir_requests_waited_total 1"), "{text}");
    let secret = TOKEN.rsplit('.').next().expect("a token");
    assert!(!text.contains(secret), "the token is in the metrics");
    let log = weir.log_lines().join("\n");
    assert!(!log.contains(secret), "the token is in the log");
    assert_eq!(
        Client::connect(weir.metrics)
            .ask("GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            .status,
        404
    );
}

#[test]
fn io_uring_refused_falls_back_to_epoll_and_says_so_in_one_line() {
    let mock = slow_mock(0.0);
    let weir = Program::start_with(&mock, &[("WORKERS", "2")], refuse_io_uring);
    let said: Vec<_> = weir
        .before_serving
        .iter()
        .filter(|line| line.contains("epoll"))
        .collect();
    assert_eq!(said.len(), 1, "{:?}", weir.before_serving);
    assert!(said[0].contains("io_uring is refused"), "{said:?}");
    let answer = Client::connect(weir.proxy).ask(&request("GET", "/api/v10/gateway", ""));
    assert_eq!(answer.status, 200);

    // Asked for by name, the refusal is an error.
    let mut forced = command(&[("IO_DRIVER", "io_uring")]);
    refuse_io_uring(&mut forced);
    let output = forced.output().expect("weir runs");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("IO_DRIVER") && text.lines().count() == 1,
        "{text}"
    );
}

#[test]
fn an_outbound_ip_of_another_machine_stops_the_start() {
    let (line, code) = complaint(&[("OUTBOUND_IP", "203.0.113.7")]);
    assert_eq!(code, 2, "{line}");
    assert!(
        line.contains("OUTBOUND_IP") && line.contains("203.0.113.7"),
        "{line}"
    );
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let mock = slow_mock(0.0);
    for broken in ["exec \"$0\" 2>/dev/full", "exec \"$0\" 2>&-"] {
        // A port is taken in advance, since weir cannot say which it has.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = port.expect("a port").port();
        let url = mock.url();
        let mut weir = Command::new("sh")
            .args(["-c", broken, env!("CARGO_BIN_EXE_weir")])
            .env_clear()
            .env("PORT", port.to_string())
            .env("METRICS_PORT", "0")
            .env("BIND_IP", "127.0.0.1")
            // Its authority is not trusted, so that every request fails and is logged.
            .env("UPSTREAM_URL", &url)
            .env("LOG_LEVEL", "trace")
            .stdout(Stdio::null())
            .spawn()
            .expect("weir runs");
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let up = (0..500).any(|_| {
            thread::sleep(Duration::from_millis(10));
            std::net::TcpStream::connect(addr).is_ok()
        });
        assert!(up, "{broken}: it does not serve");
        for _ in 0..3 {
            let answer = Client::connect(addr).ask(&request("GET", "/api/v10/gateway", ""));
            assert_eq!(answer.status, 502, "{broken}");
        }
        let pid = weir.id().to_string();
        let killed = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(killed.expect("kill runs").success());
        let ended = (0..500).find_map(|_| {
            thread::sleep(Duration::from_millis(10));
            weir.try_wait().expect("a child")
        });
        assert_eq!(ended.and_then(|status| status.code()), Some(0), "{broken}");
    }
}
