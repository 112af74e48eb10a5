//! Tokens stay between client and Discord: nothing that weir says about itself holds one, whatever goes
//! wrong, and no request leaves with one that it did not bring.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::tls::Tls;
use loadtest::mock::{self, MockConfig, MockHandle};
use support::http::Client;
use support::program::{Program, command};
use support::tls::Authority;
use support::upstream::{Peer, Recorder};
use support::{config, request};

/// In every planted token, so that one search finds all of them; it is no word of HTTP, Rust or ours.
const PLANTED: &str = "pLaNtEd";

/// In base64, at its three offsets: a token is as lost in that form.
const PLANTED_BASE64: [&str; 3] = ["cExhTnRFZ", "BMYU50RW", "wTGFOdEVk"];

/// A bot's token, whose first part is the base64 of its user id, which is public.
fn bot() -> String {
    format!("MjAzMDM5OTYzNjM2MzAxODI0.G{PLANTED}.bot{PLANTED}abcdefghijklmnopqrstuvwxyz0123")
}

/// The lines of `Authorization` that clients send.
fn authorizations() -> Vec<String> {
    vec![
        format!("Authorization: Bot {}\r\n", bot()),
        format!("authorization: bOT   {}\r\n", bot()),
        // Whose user id cannot be read.
        format!("Authorization: Bot {PLANTED}.{PLANTED}\r\n"),
        format!("Authorization: Bearer bearer{PLANTED}0123456789abcde\r\n"),
        // base64 of `client:pLaNtEd`.
        "Authorization: Basic Y2xpZW50OnBMYU50RWQ=\r\n".to_owned(),
        format!("Authorization: Basic basic{PLANTED}\r\n"),
        format!("Authorization: {}\r\n", bot()),
        format!(
            "Authorization: Odd {PLANTED}\r\nX-Api-Token: {PLANTED}\r\nCookie: token={PLANTED}\r\n"
        ),
        String::new(),
    ]
}

/// Paths with tokens in them, in all the ways that they are written. `what` says what is to go wrong.
fn paths(what: &str) -> Vec<String> {
    // Each fault has webhooks of its own, so that it keeps no other from happening.
    let fault = FAULTS.iter().position(|fault| *fault == what).unwrap_or(0);
    let id = 203_039_963_636_301_824 + fault;
    // As long as Discord's own.
    let webhook = format!("webhook{PLANTED}{}", "w".repeat(54));
    let interaction = format!("aW50ZXJhY3Rpb246{PLANTED}{}", "i".repeat(150));
    vec![
        format!("/api/v10/webhooks/{id}/{webhook}?{what}"),
        format!("/api/webhooks/{id}/{webhook}/messages/@original?{what}"),
        format!("/api/v9/webhooks/{id}/{webhook}/slack?wait=true&{what}"),
        format!("/api/v10/webhooks/{id}/{interaction}/messages/1?{what}"),
        format!("/api/v10/interactions/{id}/{interaction}/callback?{what}"),
        format!("/api/v10/interactions/{id}/{interaction}?{what}"),
        format!("/api/v10/Webhooks/{id}/{webhook}?{what}"),
        format!("/api/v10/%77ebhooks/{id}/{webhook}?{what}"),
        format!("//api//v10//webhooks//{id}//{webhook}?{what}"),
        format!("/webhooks/{id}/{webhook}?{what}"),
        format!("/api/v10/webhooks/me/{webhook}?{what}"),
        format!("http://discord.com/api/v10/webhooks/{id}/{webhook}?{what}"),
        format!("/api/v10/channels/{id}/messages?token={PLANTED}&{what}"),
        format!("/api/v10/{}?{what}", bot()),
    ]
}

/// Does to a request what its target asks for.
fn misbehave(peer: &mut Peer) {
    let mut answered = 0;
    while peer.read_head() {
        let heard = peer.heard();
        let heard = heard[answered..].to_owned();
        answered += heard.len();
        let target = heard.split(' ').nth(1).unwrap_or_default().to_owned();
        // The token that is refused is refused when weir asks about it, too.
        let refused = target == "/api/v10/users/@me" && heard.contains("refused");
        let says = |what: &str| target.ends_with(what) || what == "401" && refused;
        let via = "Via: 1.1 google\r\n";
        let echo = format!(
            "{{\"message\":\"{}\",\"code\":0}}",
            heard.replace("\r\n", " ").replace('"', "'")
        );
        let len = echo.len();
        if says("garbage") {
            peer.send(&heard);
        } else if says("bad-header") {
            peer.send(&format!(
                "HTTP/1.1 200 {heard}Content-Length: {heard}\r\n\r\n"
            ));
        } else if says("bad-chunk") {
            peer.send(&format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{via}\r\n{heard}\r\n"
            ));
        } else if says("close") {
            return;
        } else if says("hang") {
            thread::sleep(Duration::from_millis(300));
            return;
        } else if says("cut") {
            peer.send(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n{via}\r\n{echo}"
            ));
            return;
        } else if says("429") {
            peer.send(&format!(
                "HTTP/1.1 429 Too Many Requests\r\nX-RateLimit-Scope: user\r\nRetry-After: 3600\r\nX-RateLimit-Bucket: {PLANTED}\r\n{via}Content-Length: {len}\r\n\r\n{echo}"
            ));
        } else if let Some((status, code)) = [("401", 0), ("403", 50_001), ("404", 10_015)]
            .iter()
            .find(|(status, _)| says(status))
        {
            let echo = echo.replace("\"code\":0", &format!("\"code\":{code}"));
            let len = echo.len();
            peer.send(&format!(
                "HTTP/1.1 {status} {PLANTED}\r\n{via}Content-Length: {len}\r\n\r\n{echo}"
            ));
        } else {
            // `/gateway/bot` and `/users/@me`, which weir asks itself, come here too.
            peer.send(&format!(
                "HTTP/1.1 200 OK\r\nX-Echo: {PLANTED}\r\n{via}Content-Length: {len}\r\n\r\n{echo}"
            ));
        }
    }
}

const FAULTS: [&str; 11] = [
    "ok",
    "garbage",
    "bad-header",
    "bad-chunk",
    "close",
    "hang",
    "cut",
    "429",
    "401",
    "403",
    "404",
];

/// A request with tokens everywhere.
fn asked(method: &str, path: &str, authorization: &str) -> String {
    // A token of its own, so that its lock keeps nothing else from going wrong.
    let refused = authorization.replace(".bot", ".refused");
    let authorization = if path.ends_with("401") {
        &refused
    } else {
        authorization
    };
    let body = format!("{{\"content\":\"{PLANTED}\",\"token\":\"{}\"}}", bot());
    format!(
        "{method} {path} HTTP/1.1\r\nHost: weir\r\nReferer: {path}\r\n{authorization}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A request to the metrics port, with a token.
fn operator(method: &str, page: &str, token: &str) -> String {
    format!("{method} {page} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
}

/// What is sent, whether it is answered or not.
fn provoke(addr: SocketAddr, bytes: &str) {
    let mut client = Client::connect(addr);
    let _ = client.stream.set_read_timeout(Some(Duration::from_secs(3)));
    let _ = client.stream.write_all(bytes.as_bytes());
    let _ = client.stream.shutdown(std::net::Shutdown::Write);
    let _ = client.stream.read_to_end(&mut Vec::new());
}

/// Requests that are none, or not quite.
fn malformed() -> Vec<String> {
    let token = bot();
    let authorization = format!("Authorization: Bot {token}");
    let path = &paths("ok")[0];
    vec![
        format!("GET {path} HTTP/9.9\r\n{authorization}\r\n\r\n"),
        format!("{token} {path} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET {path}\r\n\r\n"),
        format!("GET {token} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET /{token}\0 HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n{authorization}\0\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n{authorization}\n folded\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization {token}\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n{token} : x\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n{authorization}\r\n{authorization}\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: {token}\r\nHost: {token}\r\n\r\n"),
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\n{authorization}\r\nContent-Length: {token}\r\n\r\n"
        ),
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\n{authorization}\r\nTransfer-Encoding: {token}\r\n\r\n"
        ),
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{token}\r\n"),
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\n{authorization}\r\nContent-Length: 900\r\n\r\n{token}"
        ),
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nExpect: {token}\r\nContent-Length: 9\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-RateLimit-Abort-After: {token}\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: {token}\r\n\r\n"),
        format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
            token.repeat(2_000)
        ),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", token.repeat(2_000)),
        // Half a head, and no more.
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n{authorization}"),
        format!("CONNECT {token}:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("{token}\r\n\r\n"),
    ]
}

/// The status document, now and then until nothing more happens: what requests are of is noted only while
/// somebody looks.
fn looks(metrics: SocketAddr, happens: &AtomicBool) -> String {
    let mut said = String::new();
    while happens.load(Ordering::Relaxed) {
        let mut client = Client::connect(metrics);
        client.send("GET /nirn/status.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
        said += &String::from_utf8(client.rest()).expect("UTF-8");
        thread::sleep(Duration::from_millis(250));
    }
    said
}

/// All that a weir says of itself, from its first line to its last.
fn everything_said(mut weir: Program) -> String {
    let mut said = weir.before_serving.join("\n");
    let admin = format!("admin-{PLANTED}-0123456789");
    // Those who guessed have their address closed for a moment.
    thread::sleep(Duration::from_secs(1));
    for page in [
        "/metrics",
        "/nirn/healthz",
        "/",
        "/nirn/status.json",
        "/status",
        "/admin/locks",
        "/admin/overrides",
        "/admin/log-level",
    ] {
        let asked = operator("GET", page, &admin);
        let mut client = Client::connect(weir.metrics);
        client.send(asked);
        said += &String::from_utf8(client.rest()).expect("UTF-8");
    }
    weir.signal("TERM");
    weir.wait(Duration::from_secs(20));
    // What was written last is on its way through the pipe.
    thread::sleep(Duration::from_millis(100));
    said + &weir.log_lines().join("\n")
}

fn assert_nothing_is_planted(said: &str) {
    for secret in [&[PLANTED][..], &PLANTED_BASE64].concat() {
        let found: BTreeSet<_> = said.lines().filter(|line| line.contains(secret)).collect();
        assert!(found.is_empty(), "{secret}: {found:#?}");
    }
}

fn plain_mock() -> MockHandle {
    mock::start(MockConfig {
        tls: Tls::Plain,
        ..MockConfig::default()
    })
    .expect("the mock starts")
}

#[test]
fn no_token_is_in_anything_that_weir_says_whatever_goes_wrong() {
    for format in ["json", "text"] {
        let recorder = Recorder::start(misbehave);
        let mock = plain_mock();
        let url = recorder.url();
        let admin = format!("admin-{PLANTED}-0123456789");
        let mut settings = vec![
            ("UPSTREAM_URL", url.as_str()),
            ("LOG_LEVEL", "trace"),
            ("ACCESS_LOG", "all"),
            ("ADMIN_TOKEN", admin.as_str()),
            ("REQUEST_TIMEOUT", "150"),
            ("CLIENT_HEADER_TIMEOUT", "300"),
            ("CLIENT_IDLE_TIMEOUT", "500"),
            ("MAX_WAIT", "200"),
            ("DISABLE_GLOBAL_RATELIMIT_DETECTION", "false"),
            ("WORKERS", "2"),
        ];
        settings.push(("LOG_FORMAT", format));
        let weir = Program::start(&mock, &settings);
        let (happens, metrics) = (AtomicBool::new(true), weir.metrics);
        let seen = thread::scope(|scope| {
            let looking = scope.spawn(|| looks(metrics, &happens));
            let mut causes = Vec::new();
            for what in FAULTS {
                let proxy = weir.proxy;
                causes.push(scope.spawn(move || {
                    for (number, authorization) in authorizations().iter().enumerate() {
                        for (at, path) in paths(what).iter().enumerate().skip(number % 3).step_by(3)
                        {
                            let method = if at % 2 == 0 { "POST" } else { "GET" };
                            provoke(proxy, &asked(method, path, authorization));
                        }
                    }
                    // What was learned of some is held against the next.
                    for _ in 0..3 {
                        for path in &paths(what)[..2] {
                            provoke(proxy, &asked("POST", path, &authorizations()[0]));
                        }
                    }
                }));
            }
            causes.push(scope.spawn(|| {
                for bytes in malformed() {
                    provoke(weir.proxy, &bytes);
                    provoke(weir.metrics, &bytes);
                }
                for token in [format!("{admin}x"), bot(), PLANTED.to_owned()] {
                    provoke(weir.metrics, &operator("GET", "/admin/locks", &token));
                    provoke(
                        weir.metrics,
                        &operator("PUT", &format!("/admin/{token}"), &token),
                    );
                }
            }));
            for cause in causes {
                cause.join().expect("it has happened");
            }
            happens.store(false, Ordering::Relaxed);
            looking.join().expect("it was looked at")
        });
        assert!(seen.contains("\"busiest\":[{\"method\""), "{seen}");
        let said = everything_said(weir) + &seen;
        assert!(
            said.contains("DEBUG") && said.contains("nirn_proxy_requests"),
            "{said}"
        );
        let of_weir = if format == "json" {
            "\"by\":\"weir\""
        } else {
            "by=weir"
        };
        for needed in [
            "TRACE",
            "access",
            "client_gone",
            of_weir,
            "\"webhooks_count\":",
        ] {
            assert!(said.contains(needed), "{needed}");
        }
        assert!(!recorder.seen().is_empty());
        // Every kind of thing went wrong.
        for counted in [
            "weir_errors_total{kind=\"bad_request\"",
            "weir_errors_total{kind=\"head_too_large\"",
            "weir_errors_total{kind=\"client_gone\"",
            "weir_errors_total{kind=\"closed_before_answer\"",
            "weir_errors_total{kind=\"garbage_answer\"",
            "weir_errors_total{kind=\"answer_timeout\"",
            "weir_errors_total{kind=\"body_truncated\"",
            "weir_refused_total{status=\"429\",reason=\"wait_too_long\"",
            "weir_refused_total{status=\"401\",reason=\"token_locked\"",
            "weir_refused_total{status=\"404\",reason=\"webhook_dead\"",
            "weir_refused_total{status=\"4xx\",reason=\"malformed\"",
        ] {
            let line = said.lines().find(|line| line.starts_with(counted));
            assert!(
                line.is_some_and(|line| !line.ends_with(" 0")),
                "{counted}: {line:?}"
            );
        }
        assert_nothing_is_planted(&said);
    }
}

#[test]
fn no_token_is_said_of_connections_that_fail_or_of_the_handshake() {
    let authority = Authority::new();
    let files = authority.server().files();
    let (cert, key) = (
        files.cert.to_str().expect("UTF-8"),
        files.key.to_str().expect("UTF-8"),
    );
    let mock = plain_mock();
    // Nobody is there; the name has no address; weir's own port speaks TLS.
    for upstream in [
        "http://127.0.0.1:9",
        "http://nowhere.invalid",
        "https://127.0.0.1:9",
    ] {
        let weir = Program::start(
            &mock,
            &[
                ("UPSTREAM_URL", upstream),
                ("LOG_LEVEL", "trace"),
                ("TLS_CERT_FILE", cert),
                ("TLS_KEY_FILE", key),
                ("CLIENT_HEADER_TIMEOUT", "300"),
                ("REQUEST_TIMEOUT", "500"),
                ("DISABLE_GLOBAL_RATELIMIT_DETECTION", "false"),
            ],
        );
        let believer = Arc::new(authority.believer(&[&rustls::version::TLS13], None));
        for authorization in authorizations() {
            for path in &paths("ok")[..3] {
                // Without TLS, and with it.
                provoke(weir.proxy, &asked("GET", path, &authorization));
                let mut client = Client::secure(weir.proxy, &believer);
                client.send(asked("GET", path, &authorization));
                assert!(client.answer(false).status >= 400);
            }
        }
        for bytes in malformed() {
            provoke(weir.proxy, &bytes);
            let mut client = Client::secure(weir.proxy, &believer);
            client.send(bytes);
            client.finish();
            client.rest();
        }
        let said = everything_said(weir);
        assert!(said.contains("plain_http\"} "), "{said}");
        assert_nothing_is_planted(&said);
    }
}

#[test]
fn a_wrong_setting_is_named_without_the_secrets_in_it() {
    let token = bot();
    for (name, value) in [
        (
            "UPSTREAM_URL",
            format!("https://user:{PLANTED}@discord.com"),
        ),
        (
            "UPSTREAM_URL",
            format!("https://discord.com/api/webhooks/1/{token}"),
        ),
        ("BOT_RATELIMIT_OVERRIDES", format!("{token}:100")),
        (
            "BOT_RATELIMIT_OVERRIDES",
            format!("203039963636301824:100,Bot {token}:100"),
        ),
        ("DEFAULT_BUCKETS", format!("GET /webhooks/1/{token}=5")),
        ("PORT", token),
    ] {
        let output = command(&[(name, &value)]).output().expect("weir runs");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(name), "{said}");
        assert_nothing_is_planted(&said);
    }
}

#[test]
fn a_request_that_brought_no_token_leaves_with_none() {
    let recorder = Recorder::start(misbehave);
    let mut config = config(&recorder.url(), None);
    config.workers = Some(1);
    config.disable_global_ratelimit_detection = false;
    let weir = weir::start(config).expect("weir starts");
    let mut client = Client::connect(weir.proxy_addr());
    let heads = || -> Vec<String> {
        let seen = recorder.seen().join("");
        let heads = seen.split("\r\n\r\n").filter(|head| !head.is_empty());
        heads.map(str::to_owned).collect()
    };
    let bare = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: weir\r\n\r\n");
    // A 401 and a bot not seen before, so that weir asks for itself, with that bot's token.
    let known = request("GET", "/api/v10/users/@me?401", "")
        .replace(support::TOKEN, &format!("Bot {}", bot()));
    let mut sent = Vec::new();
    for round in 0..5 {
        client.ask(&known);
        for path in [
            "/api/v10/gateway",
            "/api/v10/webhooks/1/abc",
            "/api/v10/users/@me",
            "/api/v10/gateway/bot",
        ] {
            let path = format!("{path}?bare={round}&ok");
            assert_eq!(client.ask(&bare(&path)).status, 200);
            sent.push(path);
        }
    }
    let until = Instant::now() + Duration::from_secs(10);
    let own = |heads: &[String]| {
        heads
            .iter()
            .filter(|head| head.contains("User-Agent: DiscordBot (https://crates.io"))
            .count()
    };
    while own(&heads()) < 2 {
        assert!(
            Instant::now() < until,
            "weir asks about a bot: {:?}",
            heads()
        );
        thread::sleep(Duration::from_millis(5));
    }
    let heads = heads();
    for path in &sent {
        let head = heads
            .iter()
            .find(|head| head.contains(path.as_str()))
            .expect("it went upstream");
        assert!(
            !head.to_ascii_lowercase().contains("authorization"),
            "{head}"
        );
    }
    // weir asks only about whom it knows: every other request has the token that it came with.
    let with: Vec<_> = heads
        .iter()
        .filter(|head| !head.contains("bare="))
        .collect();
    assert!(
        with.iter()
            .all(|head| head.contains(&format!("Authorization: Bot {}", bot()))),
        "{with:#?}"
    );
}

/// Runs weir where it may leave a core dump, has it abort, and says whether it left one.
fn leaves_a_dump(settings: &[(&str, &str)]) -> bool {
    let mock = plain_mock();
    let dir =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("dumps-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let mut weir = Program::start_with(&mock, settings, |command| {
        command.current_dir(&dir);
        let unlimited = || {
            let limit = libc::rlimit {
                rlim_cur: libc::RLIM_INFINITY,
                rlim_max: libc::RLIM_INFINITY,
            };
            // SAFETY: the pointer names `limit`, which outlives the call.
            unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) };
            Ok(())
        };
        // SAFETY: it makes one system call and allocates nothing.
        unsafe { command.pre_exec(unlimited) };
    });
    // What watches processes from outside still can.
    for file in ["stat", "status"] {
        let path = format!("/proc/{}/{file}", weir.pid());
        assert!(
            std::fs::read_to_string(path)
                .expect("readable")
                .contains("weir")
        );
    }
    weir.signal("ABRT");
    let status = weir.wait(Duration::from_secs(20));
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    let files = std::fs::read_dir(&dir).expect("a listing").count();
    std::fs::remove_dir_all(&dir).expect("ours");
    status.core_dumped() || files > 0
}

#[test]
fn a_crash_leaves_no_core_dump_unless_asked_to() {
    assert!(!leaves_a_dump(&[]));
    // Where nothing is set up for dumps, or a handler takes them, there is nothing to compare with.
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("Linux");
    let root_only = std::fs::read_to_string("/proc/self/limits").expect("Linux");
    let may = root_only
        .lines()
        .any(|l| l.starts_with("Max core file size") && l.contains("unlimited"));
    if pattern.trim() == "core" && may {
        assert!(leaves_a_dump(&[("CORE_DUMPS", "true")]));
    }
}
