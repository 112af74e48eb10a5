//! `weir check` before a mock Discord that is well, and before each thing that can be wrong.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use loadtest::mock::{self, MockConfig, MockHandle, tls::Tls};

use crate::redis_server::Redis;
use crate::support::program::{Program, command, refuse_io_uring, slow_mock};
use crate::support::tls::Authority;
use crate::support::{ca_file, pem_file};
use crate::{ended, text};

/// What it printed, and how it ended.
struct Checked {
    out: String,
    err: String,
    status: i32,
}

impl Checked {
    /// The lines about one thing, without the columns between.
    fn lines(&self, what: &str) -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines = self.out.lines().map(words);
        lines
            .filter(|line| {
                line.split(' ')
                    .skip(1)
                    .collect::<Vec<_>>()
                    .join(" ")
                    .starts_with(what)
            })
            .collect()
    }

    /// The one line about a thing.
    #[track_caller]
    fn line(&self, what: &str) -> String {
        let lines = self.lines(what);
        assert_eq!(lines.len(), 1, "{what}\n{}", self.out);
        lines[0].clone()
    }

    #[track_caller]
    fn says(&self, what: &str, start: &str, parts: &[&str]) {
        let line = self.line(what);
        assert!(line.starts_with(start), "{line}");
        for part in parts {
            assert!(line.contains(part), "{part:?} in {line}");
        }
    }
}

fn check(variables: &[(&str, &str)]) -> Checked {
    check_by(variables, |_| ())
}

fn check_by(
    variables: &[(&str, &str)],
    change: impl FnOnce(&mut std::process::Command),
) -> Checked {
    let mut command = command(variables);
    command.arg("check");
    change(&mut command);
    let output = ended(&mut command);
    Checked {
        out: text(output.stdout),
        err: text(output.stderr),
        status: output.status.code().unwrap(),
    }
}

fn mock(tls: Tls) -> (MockHandle, Option<String>) {
    let config = MockConfig {
        tls,
        ..MockConfig::default()
    };
    let mock = mock::start(config).unwrap();
    let ca = ca_file(&mock).map(|path| path.to_str().unwrap().to_owned());
    (mock, ca)
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("weir-check-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn before_an_upstream_that_is_well_every_step_is_ok() {
    for driver in ["auto", "epoll"] {
        let (mock, ca) = mock(Tls::Valid);
        let ca = ca.unwrap();
        let url = format!("https://localhost:{}", mock.addr.port());
        let state = folder(driver).join("state");
        let checked = check(&[
            ("UPSTREAM_URL", &url),
            ("UPSTREAM_CA_FILE", &ca),
            ("OUTBOUND_IP", "127.0.0.1"),
            ("IO_DRIVER", driver),
            ("STATE_FILE", state.to_str().unwrap()),
        ]);
        assert_eq!((checked.status, &*checked.err), (0, ""), "{}", checked.out);
        checked.says("DNS", "ok", &["localhost", "127.0.0.1"]);
        checked.says(
            "TCP",
            "ok",
            &[&mock.addr.to_string(), "from 127.0.0.1", " ms "],
        );
        let handshake = checked
            .lines("TLS")
            .into_iter()
            .find(|line| line.contains("TLS 1.3"))
            .unwrap();
        assert!(
            handshake.contains("certificate of mock Discord by ") && handshake.contains(", until "),
            "{handshake}"
        );
        checked.says("HTTP", "ok", &["GET /api/v10/gateway: 200"]);
        checked.says("STATE_FILE", "ok", &["is not there yet"]);
        checked.says("PORT", "ok", &["any free port"]);
        assert!(!state.exists(), "nothing is left behind");
        assert_eq!(fs::read_dir(state.parent().unwrap()).unwrap().count(), 0);
        assert!(!checked.out.contains('\x1b'), "no colours into a pipe");
        assert_eq!(mock.oracle().violations, 0);
    }
}

#[test]
fn plain_http_has_no_step_of_tls() {
    let (mock, _) = mock(Tls::Plain);
    let checked = check(&[("UPSTREAM_URL", &mock.url())]);
    assert_eq!(checked.status, 0, "{}", checked.out);
    checked.says("HTTP", "ok", &["200"]);
    assert!(!checked.out.contains("certificate of"), "{}", checked.out);
}

#[test]
fn a_certificate_that_is_not_believed_is_shown_with_the_reason() {
    for (tls, trusted, parts) in [
        (Tls::Expired, true, ["expired", "until 2021-"]),
        (Tls::WrongName, true, ["not valid for", "certificate of "]),
        (Tls::Valid, false, ["UnknownIssuer", "certificate of "]),
    ] {
        let (mock, ca) = mock(tls);
        let url = format!("https://127.0.0.1:{}", mock.addr.port());
        let mut variables = vec![("UPSTREAM_URL", &*url)];
        let ca = ca.unwrap();
        if trusted {
            variables.push(("UPSTREAM_CA_FILE", &ca));
        }
        let checked = check(&variables);
        assert_eq!(checked.status, 1, "{}", checked.out);
        let line = checked
            .lines("TLS")
            .into_iter()
            .find(|line| line.contains(" ms "))
            .unwrap();
        assert!(line.starts_with("failed"), "{line}");
        for part in parts {
            assert!(line.contains(part), "{part:?} in {line}");
        }
        assert!(checked.lines("HTTP").is_empty(), "{}", checked.out);
    }
}

#[test]
fn an_upstream_that_is_not_there_fails_at_its_step() {
    let checked = check(&[("UPSTREAM_URL", "http://127.0.0.1:1")]);
    assert_eq!(checked.status, 1);
    assert!(
        checked.out.contains("no address can be reached"),
        "{}",
        checked.out
    );
    assert!(
        checked.out.contains("is UPSTREAM_URL right?"),
        "{}",
        checked.out
    );
    let checked = check(&[("UPSTREAM_URL", "https://nobody.invalid")]);
    assert_eq!(checked.status, 1);
    checked.says("DNS", "failed", &["nobody.invalid"]);
    let mock = slow_mock(0.0);
    let url = mock.url();
    let checked = check(&[("UPSTREAM_URL", &url), ("OUTBOUND_IP", "203.0.113.7")]);
    assert_eq!(checked.status, 2, "{}", checked.out);
    checked.says("OUTBOUND_IP", "failed", &["203.0.113.7"]);
    let checked = check(&[("UPSTREAM_URL", &url), ("OUTBOUND_IP", "::1")]);
    assert_eq!(checked.status, 1, "{}", checked.out);
    assert!(
        checked.out.contains("OUTBOUND_IP's kind"),
        "{}",
        checked.out
    );
    // Somebody who is no server of HTTP.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", mute.local_addr().unwrap());
    let talks = std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = mute.accept().unwrap();
        stream.write_all(b"220 mail.example ESMTP\r\n").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
    });
    let checked = check(&[("UPSTREAM_URL", &url)]);
    assert_eq!(checked.status, 1, "{}", checked.out);
    checked.says("HTTP", "failed", &["malformed"]);
    talks.join().unwrap();
}

#[test]
fn a_port_that_is_in_use_fails_unless_a_weir_has_it() {
    let mock = slow_mock(0.0);
    let (url, ca) = (mock.url(), ca_file(&mock).unwrap());
    let upstream = [
        ("UPSTREAM_URL", &*url),
        ("UPSTREAM_CA_FILE", ca.to_str().unwrap()),
    ];
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let checked = check(&[upstream[0], upstream[1], ("FORWARD_PORT", &port)]);
    assert_eq!(checked.status, 1, "{}", checked.out);
    checked.says("FORWARD_PORT", "failed", &["in use", "ss -ltnp"]);
    let weir = Program::start(&mock, &[]);
    let (port, metrics) = (
        weir.proxy.port().to_string(),
        weir.metrics.port().to_string(),
    );
    let checked = check(&[
        upstream[0],
        upstream[1],
        ("PORT", &port),
        ("METRICS_PORT", &metrics),
    ]);
    assert_eq!(checked.status, 0, "{}", checked.out);
    checked.says("PORT", "warning", &["by the weir that runs here"]);
    checked.says("METRICS_PORT", "warning", &["by the weir that runs here"]);
    let checked = check(&[upstream[0], upstream[1], ("BIND_IP", "203.0.113.9")]);
    assert_eq!(checked.status, 2, "{}", checked.out);
    assert!(
        checked
            .out
            .contains("BIND_IP: 203.0.113.9 is no address of this machine"),
        "{}",
        checked.out
    );
}

#[test]
fn what_was_set_is_shown_with_its_place_and_no_secret() {
    let mock = slow_mock(0.0);
    let folder = folder("dot-env");
    fs::write(
        folder.join(".env"),
        "RETRIES=3\nMETRIC_PORT=1\nREDIS_PASSWORD=hunter3\n",
    )
    .unwrap();
    let ca = ca_file(&mock).unwrap();
    let checked = check_by(
        &[
            ("UPSTREAM_URL", &mock.url()),
            ("UPSTREAM_CA_FILE", ca.to_str().unwrap()),
            ("CLUSTER_SECRET", "correct horse battery"),
            ("LOG_LEVEL", "info"),
            ("REQUEST_TIMOUT", "7"),
            ("HOME", "/root"),
        ],
        |command| {
            command.current_dir(&folder).args(["--workers", "1"]);
        },
    );
    let settings: Vec<_> = checked.out.lines().map(str::trim).collect();
    for line in [
        "WORKERS=1  (flag)",
        "RETRIES=3  (file)",
        "CLUSTER_SECRET=…  (environment)",
        "REDIS_PASSWORD=…  (file)",
    ] {
        assert!(settings.contains(&line), "{line}\n{}", checked.out);
    }
    assert!(
        !checked.out.contains("LOG_LEVEL"),
        "it is the default\n{}",
        checked.out
    );
    for part in [
        "REQUEST_TIMOUT is no setting of weir's",
        "METRIC_PORT in the file is no setting of weir's",
        "METRICS_PORT is one; was that meant?",
        "CLUSTER_SECRET has no effect without CLUSTER_MEMBERS",
    ] {
        assert!(checked.out.contains(part), "{part}\n{}", checked.out);
    }
    assert!(!checked.out.contains("HOME "), "{}", checked.out);
    for secret in ["hunter", "horse"] {
        assert!(!checked.out.contains(secret), "{}", checked.out);
    }
    assert_eq!(checked.status, 0, "{}", checked.out);
}

#[test]
fn a_wrong_setting_is_one_line_and_status_2_as_at_a_start() {
    let checked = check(&[("PORT", "x")]);
    assert_eq!((checked.status, &*checked.out), (2, ""));
    assert_eq!(
        checked.err,
        "weir: PORT: \"x\" is not allowed; a port number 0 to 65535\n"
    );
}

#[test]
fn files_that_a_start_would_refuse_are_failures_with_status_2() {
    let mock = slow_mock(0.0);
    let (url, ca) = (mock.url(), ca_file(&mock).unwrap());
    let upstream = [
        ("UPSTREAM_URL", &*url),
        ("UPSTREAM_CA_FILE", ca.to_str().unwrap()),
    ];
    let authority = Authority::new();
    let (one, other) = (authority.server(), authority.server());
    let file = |pem: &str| pem_file(pem).to_str().unwrap().to_owned();
    let (cert, key, wrong_key) = (file(&one.cert), file(&one.key), file(&other.key));
    let expired = authority.expired();
    let (old, old_key) = (file(&expired.cert), file(&expired.key));
    let empty = file("# nobody\n");
    for (extra, status, part) in [
        (
            &[("TLS_CERT_FILE", &*cert), ("TLS_KEY_FILE", &*key)][..],
            0,
            "certificate of ",
        ),
        (
            &[("TLS_CERT_FILE", &cert), ("TLS_KEY_FILE", &wrong_key)],
            2,
            "is not the key of",
        ),
        (
            &[("TLS_CERT_FILE", &old), ("TLS_KEY_FILE", &old_key)],
            1,
            "it has expired",
        ),
        (
            &[("STATE_FILE", "/nowhere/state")],
            2,
            "\"/nowhere/state\" cannot be written",
        ),
        (
            &[("FORWARD_PORT", "0"), ("FORWARD_CREDENTIALS_FILE", &empty)],
            2,
            "names nobody",
        ),
        (
            &[(
                "DEFAULT_BUCKETS",
                "PUT /channels/!/messages/!/reactions/!/@me=2,DELETE /channels/!/messages/!/reactions/!/@me=3",
            )],
            2,
            "another template is the same one",
        ),
    ] {
        let all: Vec<_> = upstream.iter().chain(extra).copied().collect();
        let checked = check(&all);
        assert_eq!(checked.status, status, "{extra:?}\n{}", checked.out);
        assert!(checked.out.contains(part), "{part}\n{}", checked.out);
    }
}

#[test]
fn a_state_that_cannot_be_used_stays_where_it_is() {
    let mock = slow_mock(0.0);
    let ca = ca_file(&mock).unwrap();
    let state = folder("broken").join("state");
    fs::write(&state, "no state of weir's").unwrap();
    let checked = check(&[
        ("UPSTREAM_URL", &mock.url()),
        ("UPSTREAM_CA_FILE", ca.to_str().unwrap()),
        ("STATE_FILE", state.to_str().unwrap()),
    ]);
    assert_eq!(checked.status, 0, "{}", checked.out);
    checked.says("STATE_FILE", "warning", &["cannot be used"]);
    assert_eq!(fs::read(&state).unwrap(), b"no state of weir's");
}

#[test]
fn io_uring_refused_is_a_warning_with_its_likely_reason() {
    let (mock, _) = mock(Tls::Plain);
    let url = mock.url();
    let checked = check_by(&[("UPSTREAM_URL", &url)], refuse_io_uring);
    assert_eq!(checked.status, 0, "{}", checked.out);
    checked.says("IO_DRIVER", "warning", &["epoll", "io_uring is refused"]);
    assert!(checked.out.contains("seccomp"), "{}", checked.out);
    let forced = check_by(
        &[("UPSTREAM_URL", &url), ("IO_DRIVER", "io_uring")],
        refuse_io_uring,
    );
    assert_eq!(forced.status, 1, "{}", forced.out);
    forced.says("IO_DRIVER", "failed", &["io_uring is refused"]);
}

#[test]
fn names_of_nodes_and_redis_are_tried() {
    let (mock, _) = mock(Tls::Plain);
    let url = mock.url();
    let redis = Redis::start(&["--requirepass", "hunter2"]);
    let address = redis.settings().address.to_string();
    let shared = [
        ("UPSTREAM_URL", &*url),
        ("FORWARD_PORT", "0"),
        // A busy machine is no Redis that is away.
        ("REDIS_TIMEOUT", "10000"),
        ("REDIS_ADDR", &*address),
    ];
    let with = |extra: &[(&str, &str)]| {
        let all: Vec<_> = shared.iter().chain(extra).copied().collect();
        check(&all)
    };
    let good = with(&[
        ("REDIS_PASSWORD", "hunter2"),
        ("CLUSTER_MEMBERS", "localhost,nobody.invalid"),
    ]);
    assert_eq!(good.status, 0, "{}", good.out);
    good.says("Redis", "ok", &["lets weir in"]);
    let nodes = good.lines("node");
    assert!(
        nodes[0].starts_with("ok") && nodes[0].contains("localhost: 127.0.0.1:7654"),
        "{nodes:?}"
    );
    assert!(
        nodes[1].starts_with("warning") && nodes[1].contains("nobody.invalid"),
        "{nodes:?}"
    );
    let bad = with(&[("REDIS_PASSWORD", "wrong")]);
    assert_eq!(bad.status, 2, "{}", bad.out);
    bad.says("Redis", "failed", &["refuses: REDIS_PASSWORD"]);
    assert!(bad.out.contains("mend REDIS_PASSWORD"), "{}", bad.out);
    let open = Redis::start_fresh(&[]);
    let clean = check(&[
        shared[0],
        shared[1],
        shared[2],
        ("REDIS_ADDR", &open.settings().address.to_string()),
    ]);
    assert_eq!(clean.status, 0, "{}", clean.out);
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query(&mut open.connect())
        .unwrap();
    assert!(keys.is_empty(), "nothing is left behind: {keys:?}");
    let away = check(&[shared[0], shared[1], ("REDIS_ADDR", "unix:///nowhere.sock")]);
    assert_eq!(away.status, 1, "{}", away.out);
}
