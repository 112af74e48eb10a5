//! A start that fails, or that does less than somebody wished: said once, in one line, by the name of
//! the setting to mend.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::support::pem_file;
use crate::support::program::{Program, command, slow_mock};
use crate::{ended, text};

/// The one line that tells why weir did not start, and its exit status.
#[track_caller]
fn complaint(variables: &[(&str, &str)]) -> (String, i32) {
    let output = ended(&mut command(variables));
    let (out, err) = (text(output.stdout), text(output.stderr));
    let lines: Vec<_> = out.lines().chain(err.lines()).collect();
    let is_complaint = |line: &&&str| !line.contains(" INFO ") && !line.contains(" WARN ");
    let complaints: Vec<_> = lines.iter().filter(is_complaint).collect();
    assert_eq!(complaints.len(), 1, "one clear line: {lines:#?}");
    ((*complaints[0]).to_owned(), output.status.code().unwrap())
}

#[test]
fn the_line_names_the_setting_to_mend() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    let version_1 = pem_file(VERSION_1);
    let version_1 = version_1.to_str().unwrap();
    for (variables, status, start) in [
        (
            &[("BIND_IP", "203.0.113.9")][..],
            2,
            "BIND_IP: 203.0.113.9 is no address of this machine",
        ),
        (
            &[("FORWARD_PORT", "0"), ("FORWARD_BIND_IP", "203.0.113.9")],
            2,
            "FORWARD_BIND_IP: 203.0.113.9 is no address of this machine",
        ),
        (&[("FORWARD_PORT", &*taken)], 1, "FORWARD_PORT: 127.0.0.1:"),
        (
            &[("GATEWAY_QUEUE_PORT", &*taken)],
            1,
            "GATEWAY_QUEUE_PORT: 127.0.0.1:",
        ),
        (
            &[("TLS_CERT_FILE", version_1), ("TLS_KEY_FILE", version_1)],
            2,
            "TLS_CERT_FILE: certificate 1 in ",
        ),
        (
            &[("FORWARD_PORT", "7"), ("METRICS_PORT", "7")],
            2,
            "FORWARD_PORT: 7 is the port of METRICS_PORT, too",
        ),
        (
            &[("BOT_RATELIMIT_OVERRIDES", "1:2,1:3")],
            2,
            "BOT_RATELIMIT_OVERRIDES: \"1:3\" is not allowed",
        ),
    ] {
        let (line, code) = complaint(variables);
        assert!(line.contains(start), "{line}");
        assert_eq!(code, status, "{line}");
        let json: Vec<_> = variables
            .iter()
            .copied()
            .chain([("LOG_FORMAT", "json")])
            .collect();
        let output = ended(&mut command(&json));
        let lines = text(output.stderr);
        let errors: Vec<serde_json::Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .filter(|line: &serde_json::Value| line["level"] == "ERROR")
            .collect();
        assert_eq!(errors.len(), 1, "{lines}");
        assert!(
            errors[0]["message"].as_str().unwrap().starts_with(start),
            "{lines}"
        );
    }
    let (line, _) = complaint(&[("TLS_CERT_FILE", version_1), ("TLS_KEY_FILE", version_1)]);
    assert!(line.contains("X.509 version 1"), "{line}");
}

#[test]
fn a_flag_that_does_not_exist_is_one_line_of_json_where_the_log_is() {
    let output = ended(command(&[("LOG_FORMAT", "json")]).arg("--prot=1"));
    assert_eq!(output.status.code(), Some(2));
    let line: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(line["message"], "unexpected argument '--prot' found");
    let output = ended(command(&[]).arg("--prot=1"));
    assert!(text(output.stderr).contains("--port"), "a tip, for eyes");
}

#[test]
fn what_has_no_effect_is_warned_of_at_the_start() {
    let mock = slow_mock(0.0);
    let weir = Program::start(
        &mock,
        &[
            ("FORWARD_MAX_CONNECTIONS", "3"),
            ("DISCORD_TOKEN", "a.b.c"),
            ("DEFAULT_BUCKETS", "POST /chanels/!/messages=5"),
        ],
    );
    let said = weir.before_serving.join("\n");
    for part in [
        "FORWARD_MAX_CONNECTIONS has no effect without FORWARD_PORT",
        "DISCORD_TOKEN has no effect without GATEWAY_QUEUE_PORT",
        "did you mean \\\"channels\\\"?",
    ] {
        assert_eq!(said.matches(part).count(), 1, "{part}\n{said}");
    }
}

#[test]
fn a_command_and_no_command_serve_alike_and_flags_stand_on_either_side() {
    let mock = slow_mock(0.0);
    for args in [
        &["serve", "--workers", "1"][..],
        &["--workers", "1", "serve"],
        &["--workers=1"],
    ] {
        let weir = Program::start_with(&mock, &[], |command| {
            command.args(args);
        });
        let served = weir.log_lines().join("\n") + &weir.before_serving.join("\n");
        assert!(!served.contains("ERROR"), "{served}");
    }
}

#[test]
fn a_file_of_settings_can_be_named_and_must_then_be_there() {
    let file = pem_file("PORT=x\n");
    let name = file.to_str().unwrap();
    for args in [&["--env-file", name][..], &["check", "--env-file", name]] {
        let output = ended(command(&[]).env_remove("PORT").args(args));
        assert_eq!(output.status.code(), Some(2));
        let expected =
            format!("weir: PORT in {name}: \"x\" is not allowed; a port number 0 to 65535\n");
        assert_eq!(text(output.stderr), expected);
    }
    let output = ended(command(&[]).args(["check", "--env-file", "/nowhere/weir.env"]));
    let said = text(output.stderr);
    assert!(
        said.starts_with("weir: /nowhere/weir.env: cannot be read; "),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_file_of_settings_without_end_is_not_read_to_it() {
    for args in [
        &["--env-file", "/dev/zero"][..],
        &["check", "--env-file", "/dev/zero"],
        &["status", "--env-file", "/dev/zero"],
    ] {
        let output = ended(command(&[]).args(args));
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let expected = "weir: /dev/zero: is no file of settings; it has more than 1048576 bytes\n";
        assert_eq!(text(output.stderr), expected);
    }
}

/// Runs weir with one listening socket handed over, under these variables.
fn handed_over(variables: &str) -> (String, Option<i32>) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut shell = Command::new("sh");
    // By way of stdin, since that is what a child can be given.
    let script = format!("{variables} exec \"$0\" 3<&0 </dev/null");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_weir")]);
    shell
        .env_clear()
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .envs([
            ("PORT", "0"),
            ("METRICS_PORT", "0"),
            ("BIND_IP", "127.0.0.1"),
            ("IO_DRIVER", "epoll"),
        ])
        .stdin(OwnedFd::from(socket))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = ended(&mut shell);
    (text(output.stderr), output.status.code())
}

#[test]
fn sockets_that_are_handed_over_wrongly_are_told_of_by_name() {
    for (variables, part) in [
        (
            "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a:b",
            "LISTEN_FDS: LISTEN_FDNAMES has 2 names for 1 of LISTEN_FDS; one is needed for each",
        ),
        (
            "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web",
            "LISTEN_FDS: a socket is named \"web\", which is none of \"clients\" and \"metrics\"",
        ),
    ] {
        let (said, status) = handed_over(&format!("export {variables};"));
        assert!(said.contains(part), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(status, Some(1), "{said}");
    }
    // Meant for another process: nobody's sockets, so that the start goes on to the next error.
    let (said, status) = handed_over(
        "export LISTEN_PID=1 LISTEN_FDS=1 LISTEN_FDNAMES=web UPSTREAM_URL=http://127.0.0.1:1 \
         STATE_FILE=/nowhere/state;",
    );
    assert!(
        said.contains("LISTEN_FDS has no effect: LISTEN_PID says"),
        "{said}"
    );
    assert_eq!(status, Some(2), "{said}");
}

/// What `openssl x509 -req -signkey` makes without extensions.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBGzCBwwIUD208DYLK5p4awTktjzAYi0LrsqIwCgYIKoZIzj0EAwIwETEPMA0G\n\
A1UEAwwGb2xkLWNhMB4XDTI2MTEyMjE1MDkzOVoXDTI2MTIyMjE1MDkzOVowETEP\n\
MA0GA1UEAwwGb2xkLWNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEe+CZyEJ9\n\
MQRcLsJpP7Dz5uW1LXK+TEnIUPCmIWZcso2nn4nbNuLig85aKxoVn554tfrK9Y1v\n\
eOdiMMG/096vrjAKBggqhkjOPQQDAgNHADBEAiBo7DPB0MX3SZ/ZRg9S4UPN59P+\n\
WsuD4ZUzUvFK1mIMHQIgbXS8OmWuV0YMU85fhURZkODZyULXzJ+d94zLlONCKtc=\n\
-----END CERTIFICATE-----\n";
