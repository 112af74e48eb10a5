//! `weir status` and `weir top` before a weir that serves, and before whatever else may be there.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use crate::support::http::Client;
use crate::support::program::{Program, command, slow_mock};
use crate::support::request;
use crate::{ended, text};

const CHANNEL: u64 = 203_039_963_636_301_824;

fn run(args: &[&str], variables: &[(&str, &str)]) -> (String, String, i32) {
    let output = ended(command(variables).args(args));
    let status = output.status.code().unwrap();
    (text(output.stdout), text(output.stderr), status)
}

#[test]
fn a_weir_that_serves_is_told_of_in_a_screenful() {
    let mock = slow_mock(0.0);
    let weir = Program::start(&mock, &[("WORKERS", "2")]);
    let path = format!("/api/v10/channels/{CHANNEL}/messages");
    for _ in 0..3 {
        let post = request("POST", &path, r#"{"content":"x"}"#);
        assert_eq!(Client::connect(weir.proxy).ask(&post).status, 200);
    }
    let at = weir.metrics.to_string();
    let (out, err, status) = run(&["status", "--at", &at], &[]);
    assert_eq!((status, &*err), (0, ""), "{out}");
    for part in [
        "weir 0.",
        "serving for ",
        "Requests     ",
        "Answered     2xx 3",
        "/s",
        "Guards       ",
        "Workers      ",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    assert!(out.lines().count() < 40 && !out.contains('\x1b'), "{out}");
    // By the settings that weir itself has, and whatever is wrong with the others.
    let port = weir.metrics.port().to_string();
    let (out, _, status) = run(&["status"], &[("METRICS_PORT", &port), ("RETRIES", "x")]);
    assert_eq!(status, 0);
    assert!(out.contains("serving for"), "{out}");
    let (out, _, status) = run(&["top", "--at", &at, "--count", "2"], &[]);
    assert_eq!(status, 0);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 2, "a line a second into a pipe: {out}");
    assert!(lines[1].starts_with("serving answered/s=0 "), "{out}");
}

#[test]
fn nobody_and_strangers_are_told_of_with_status_1_and_wrong_flags_with_2() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = free.local_addr().unwrap().to_string();
    drop(free);
    for name in ["status", "top"] {
        let (out, err, status) = run(&[name, "--at", &gone], &[]);
        assert_eq!((status, &*out), (1, ""));
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(
            err.contains(&format!("nothing listens at {gone}")) && err.contains("is weir running"),
            "{err}"
        );
        for (at, why) in [("nonsense", "is not allowed"), ("a:b", "is not allowed")] {
            let (_, err, status) = run(&[name, "--at", at], &[]);
            assert_eq!(status, 2, "{err}");
            assert!(
                err.starts_with("weir: --at: ") && err.contains(why),
                "{err}"
            );
        }
        // Where the tests' weirs take free ports.
        let (_, err, status) = run(&[name], &[]);
        assert_eq!(status, 2);
        assert!(err.contains("METRICS_PORT is 0"), "{err}");
    }
    let mock = slow_mock(0.0);
    let weir = Program::start(&mock, &[]);
    let (_, err, status) = run(&["status", "--at", &weir.proxy.to_string()], &[]);
    assert_eq!(status, 1);
    assert!(
        err.contains("is no metrics port of a weir") && err.contains("is it PORT"),
        "{err}"
    );
}

#[test]
fn a_weir_that_hangs_or_lets_nobody_in_is_not_taken_for_none() {
    let mock = slow_mock(0.0);
    let weir = Program::start(&mock, &[]);
    let at = weir.metrics.to_string();
    weir.signal("STOP");
    let (_, err, status) = run(&["status", "--at", &at], &[]);
    assert_eq!((status, err.lines().count()), (1, 1), "{err}");
    assert!(
        err.contains(&format!(
            "something listens at {at}, and has said nothing within 3 s"
        )),
        "{err}"
    );
    let closed = Program::start(&mock, &[("ALLOW_FROM", "192.0.2.0/24")]);
    let (_, err, status) = run(&["top", "--at", &closed.metrics.to_string()], &[]);
    assert_eq!((status, err.lines().count()), (1, 1), "{err}");
    assert!(
        err.contains("breaks off") && err.contains("ALLOW_FROM"),
        "{err}"
    );
}

#[test]
fn a_document_of_another_kind_is_not_taken_for_a_status() {
    for (body, why) in [
        ("{\"version\":2}", "in version 2"),
        ("{}", "is no status"),
        ("<html>", "is no status"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let count = stream.read(&mut [0; 4096]).unwrap();
            assert!(count > 0, "a request");
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let (_, err, status) = run(&["status", "--at", &at], &[]);
        assert_eq!(status, 1, "{err}");
        assert!(err.contains(why), "{err}");
        server.join().unwrap();
    }
}

/// What a command writes to a terminal.
fn on_a_terminal(weir: &str) -> String {
    let mut script = Command::new("script");
    script
        .args(["-qec", weir, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    script.stdin(std::process::Stdio::null());
    script
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    String::from_utf8_lossy(&ended(&mut script).stdout).into_owned()
}

#[test]
fn a_terminal_gets_its_screen_back_however_top_ends() {
    const ENTER: &str = "\x1b[?1049h\x1b[?25l";
    const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
    let mock = slow_mock(0.0);
    let weir = Program::start(&mock, &[]);
    let program = env!("CARGO_BIN_EXE_weir");
    let top = format!("{program} top --at {}", weir.metrics);
    let by_itself = on_a_terminal(&format!("{top} --count 1"));
    let by_signals = ["INT", "TERM", "HUP"]
        .map(|signal| on_a_terminal(&format!("timeout --foreground -s {signal} 0.5 {top}")));
    for shown in by_signals.iter().chain([&by_itself]) {
        let (before, behind) = shown
            .split_once(ENTER)
            .unwrap_or_else(|| panic!("{shown:?}"));
        assert!(before.is_empty() && behind.contains("serving"), "{shown:?}");
        assert!(behind.ends_with(LEAVE), "{shown:?}");
        assert!(behind.contains("\x1b[32mserving\x1b[0m"), "{shown:?}");
    }
    let plain = on_a_terminal(&format!("NO_COLOR=1 {top} --count 1"));
    assert!(
        !plain.contains("\x1b[32m") && plain.ends_with(LEAVE),
        "{plain:?}"
    );
}
