//! The program as scripts use it.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use loadtest::client::{Client, Target};
use serde_json::Value;

fn mock(args: &[&str]) -> (Child, Value) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .arg("mock")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    (child, serde_json::from_str(&line).unwrap())
}

#[test]
fn a_mock_serves_until_its_stdin_closes() {
    let ca = std::env::temp_dir().join(format!("loadtest-cli-{}.pem", std::process::id()));
    let settings = r#"{"ids":{"unknown_suffix":"@me"},"gateway":{"max_concurrency":16}}"#;
    let args = [
        "--tls",
        "--ca-out",
        ca.to_str().unwrap(),
        "--settings",
        settings,
    ];
    let (mut child, told) = mock(&args);
    let addr = told["addr"].as_str().unwrap().parse().unwrap();
    let target = Target::tls(addr, &std::fs::read_to_string(&ca).unwrap()).unwrap();
    let mut client = Client::connect(&target).unwrap().authorized("Bot x");
    let gateway = client.get("/api/v10/gateway/bot").unwrap().json();
    assert_eq!(gateway["session_start_limit"]["max_concurrency"], 16);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    std::fs::remove_file(ca).unwrap();
}

#[test]
fn a_load_is_reported_as_json() {
    let (mut child, told) = mock(&["--plain", "--unlimited"]);
    let pid = child.id().to_string();
    let addr = told["addr"].as_str().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args([
            "load", addr, "-d", "0.3", "-w", "0", "-r", "200", "-c", "4", "--json",
        ])
        .args(["--pid", &pid])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(
        report["statuses"]["200"].as_u64().unwrap() >= 50,
        "{report}"
    );
    assert_eq!(report["errors"], 0);
    assert!(report["resident_bytes"].as_u64().unwrap() > 0);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    for (args, want) in [
        (["mock", "--settings", r#"{"latensy_ms":1}"#], "latensy_ms"),
        (["load", "192.0.2.1:80", "-w=0"], "no loopback address"),
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(args)
            .output()
            .unwrap();
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(
            (out.status.code(), text.lines().count()),
            (Some(1), 1),
            "{text}"
        );
        assert!(text.contains(want), "{text}");
    }
}

#[test]
fn a_simulated_seed_is_run_alone() {
    let args = ["sim", "--seed", "7", "--seeds", "10", "--requests", "10000"];
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(args)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("avoidable 429s: 0"), "{told}");
}
