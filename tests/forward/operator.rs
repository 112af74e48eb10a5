//! As a part of weir: its settings, its metrics, the admin port, the log, the end.

use std::io::Read;
use std::time::Duration;

use loadtest::mock::{self, MockConfig};

use super::target::{Target, eventually};
use super::{SOON, connect_line, echoes};
use crate::support::http::{Answer, Client};
use crate::support::program::Program;
use crate::support::{Pair, SHAPES, request};

fn start(variables: &[(&str, &str)]) -> (mock::MockHandle, Program) {
    let mock = mock::start(MockConfig::default()).unwrap();
    let mut all = vec![("FORWARD_PORT", "0"), ("FORWARD_ALLOW", "127.0.0.0/8")];
    all.extend_from_slice(variables);
    let weir = Program::start(&mock, &all);
    (mock, weir)
}

fn admin(weir: &Program, method: &str, path: &str, body: &str) -> Answer {
    let length = body.len();
    Client::connect(weir.metrics).ask(&format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

fn tunnel(weir: &Program, target: &Target) -> (Client, u16) {
    let mut client = Client::connect(weir.forward.unwrap());
    client.send(connect_line(target.addr));
    let status = client.answer(true).status;
    (client, status)
}

#[test]
fn dprls_variables_start_it_and_the_log_tells_of_each_connection_but_of_no_credentials() {
    let users = crate::support::pem_file("someone:topsecret\n");
    let (_mock, mut weir) = start(&[
        ("FORWARD_PORT", ""),
        ("DPRL_PORT", "0"),
        ("DPRL_MAX_CONNECTIONS", "1"),
        ("LOG_LEVEL", "debug"),
        ("FORWARD_CREDENTIALS_FILE", users.to_str().unwrap()),
    ]);
    let target = Target::echo();
    let authorized = || {
        let mut client = Client::connect(weir.forward.unwrap());
        let line = "\r\nProxy-Authorization: Basic c29tZW9uZTp0b3BzZWNyZXQ=\r\n";
        client.send(connect_line(target.addr).replacen("\r\n", line, 1));
        let status = client.answer(true).status;
        (client, status)
    };
    let (mut held, status) = authorized();
    assert_eq!(status, 200);
    echoes(&mut held.stream, b"hello");
    assert_eq!(authorized().1, 500, "one is the limit");
    drop(held);
    let mut lines = Vec::new();
    eventually("both are logged", || {
        lines.extend(weir.log_lines());
        let has = |what: &str| {
            let host = target.addr.to_string();
            lines
                .iter()
                .any(|line| line.contains(what) && line.contains(&host))
        };
        has("connection opened") && has("connection closed")
    });
    weir.signal("TERM");
    weir.wait(Duration::from_secs(10));
    lines.extend(weir.log_lines());
    for secret in ["topsecret", "c29tZW9uZTp0b3BzZWNyZXQ"] {
        assert!(
            !lines.iter().any(|line| line.contains(secret)),
            "{lines:#?}"
        );
    }
}

#[test]
fn limits_are_read_and_changed_at_the_admin_port() {
    let (_mock, weir) = start(&[("FORWARD_MAX_CONNECTIONS", "1")]);
    let target = Target::echo();
    let (held, status) = tunnel(&weir, &target);
    assert_eq!(status, 200);
    assert_eq!(tunnel(&weir, &target).1, 500);
    let host = format!("/forward/limits/{}", target.addr);
    let set = admin(&weir, "PUT", &host, "2\n");
    assert_eq!(set.status, 200, "{}", set.text());
    let (second, status) = tunnel(&weir, &target);
    assert_eq!(status, 200);
    let read = admin(&weir, "GET", "/forward/limits", "").text();
    let read: serde_json::Value = serde_json::from_str(&read).unwrap();
    let key = target.addr.to_string();
    assert_eq!(read["default"], 1);
    assert_eq!(read["hosts"][&key], 2);
    assert_eq!(read["connections"][&key], 2);
    assert_eq!(admin(&weir, "DELETE", &host, "").status, 200);
    assert_eq!(admin(&weir, "DELETE", &host, "").status, 404);
    assert_eq!(tunnel(&weir, &target).1, 500);
    assert_eq!(admin(&weir, "PUT", "/forward/limits", "0").status, 200);
    assert_eq!(tunnel(&weir, &target).1, 200);
    for (method, path, body, status) in [
        ("PUT", "/forward/limits", "x", 400),
        ("PUT", "/forward/limits", "", 400),
        ("PUT", "/forward/limits", "1048577", 400),
        ("PUT", "/forward/limits/a%20b", "1", 400),
        ("DELETE", "/forward/limits", "", 405),
        ("POST", "/forward/limits", "1", 405),
        ("GET", "/forward/nothing", "", 404),
        ("GET", "/forward/limitsx", "", 404),
    ] {
        let answer = admin(&weir, method, path, body);
        assert_eq!(answer.status, status, "{method} {path} {body:?}");
    }
    drop((held, second));
}

#[test]
fn metrics_tell_of_each_host() {
    let (_mock, weir) = start(&[("FORWARD_MAX_CONNECTIONS", "1")]);
    let target = Target::echo();
    let (mut held, _) = tunnel(&weir, &target);
    echoes(&mut held.stream, b"0123456789");
    assert_eq!(tunnel(&weir, &target).1, 500);
    let host = target.addr;
    let expected = [
        format!("weir_forward_connections{{host=\"{host}\"}} 1"),
        format!("weir_forward_opened_total{{host=\"{host}\"}} 1"),
        format!("weir_forward_rejected_total{{host=\"{host}\"}} 1"),
        format!("weir_forward_bytes_total{{host=\"{host}\",direction=\"sent\"}} 10"),
        format!("weir_forward_bytes_total{{host=\"{host}\",direction=\"received\"}} 10"),
        "weir_forward_refused_total{reason=\"full\"} 1".to_owned(),
        "weir_forward_clients 1".to_owned(),
    ];
    // Bytes of a connection that lives are counted within a second.
    let mut text = String::new();
    let until = std::time::Instant::now() + SOON;
    loop {
        let mut client = Client::connect(weir.metrics);
        let answer = client.ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        text.clone_from(&answer.text());
        let has = |line: &String| text.lines().any(|found| found == line);
        if expected.iter().all(has) {
            break;
        }
        assert!(std::time::Instant::now() < until, "{expected:#?}\n{text}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn without_a_port_there_is_no_forward_proxy() {
    let (_mock, weir) = start(&[("FORWARD_PORT", "")]);
    assert_eq!(weir.forward, None);
    assert_eq!(admin(&weir, "GET", "/forward/limits", "").status, 404);
    let mut client = Client::connect(weir.proxy);
    client.send("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n");
    assert_eq!(client.answer(true).status, 501, "the other port is no such");
}

#[test]
fn tunnels_do_not_keep_discords_requests_waiting_and_end_with_weir() {
    for shape in SHAPES {
        let pair = Pair::with(shape, MockConfig::default(), |config| {
            config.forward.port = Some(0);
            config.forward.allow = Some("127.0.0.0/8".parse().unwrap());
        });
        let target = Target::serving(|mut stream| {
            let block = vec![0; 64 * 1024];
            while std::io::Write::write_all(&mut stream, &block).is_ok() {}
        });
        let forward = pair.weir.forward().unwrap();
        let mut flood = super::tunnel(forward, target.addr);
        let reading = std::thread::spawn(move || {
            let mut block = vec![0; 256 * 1024];
            while matches!(flood.read(&mut block), Ok(1..)) {}
        });
        for _ in 0..20 {
            let answer = pair.ask(&request("GET", "/api/v10/users/@me", ""));
            assert_eq!(answer.status, 200, "{shape:?}");
        }
        assert!(
            !pair.weir.shutdown(Duration::from_millis(200)),
            "it was cut"
        );
        reading.join().unwrap();
    }
}
