//! Changing a running weir at its metrics port: who may, and what it does.

mod support;

use std::io::Read;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::MockConfig;
use loadtest::mock::faults::{Action, Fault};
use loadtest::mock::tls::Tls;
use loadtest::mock::{self, MockHandle};
use support::http::{Answer, Client};
use support::program::Program;
use support::{Pair, Shape, request};
use weir::config::{AdminToken, IoDriver};

const TWO: Shape = Shape {
    workers: 2,
    driver: IoDriver::Auto,
};

/// Whose requests [`request`] makes.
const BOT: &str = "203039963636301824";

const SECRET: &str = "correct-horse-battery-staple";

/// A request to the metrics port, from an operator without a browser.
fn admin(metrics: SocketAddr, head: &str, lines: &str, body: &str) -> Answer {
    let length = body.len();
    Client::connect(metrics).ask(&format!(
        "{head} HTTP/1.1\r\nHost: {metrics}\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
    ))
}

fn json(answer: &Answer) -> serde_json::Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_str(&answer.text()).expect("JSON")
}

fn metrics_of(pair: &Pair) -> SocketAddr {
    pair.weir.metrics_addr().expect("metrics are on")
}

fn plain_mock() -> MockHandle {
    mock::start(MockConfig {
        tls: Tls::Plain,
        ..MockConfig::default()
    })
    .expect("the mock starts")
}

fn status(status: u16, body: &str) -> Action {
    Action::Answer {
        status,
        headers: vec![("via".to_owned(), "1.1 google".to_owned())],
        body: body.to_owned(),
        bare: false,
    }
}

#[test]
fn a_body_that_breaks_off_changes_nothing() {
    let pair = Pair::start(TWO);
    let metrics = metrics_of(&pair);
    let mut client = Client::connect(metrics);
    client.send(format!(
        "PUT /admin/overrides/{BOT} HTTP/1.1\r\nHost: {metrics}\r\nContent-Length: 3\r\n\r\n10"
    ));
    client
        .stream
        .shutdown(std::net::Shutdown::Write)
        .expect("it is open");
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest);
    assert!(rest.is_empty(), "there is no answer to half a request");
    let listed = admin(metrics, "GET /admin/overrides", "", "").text();
    assert!(!listed.contains(BOT), "{listed}");
}

#[test]
fn without_a_token_this_machine_may_and_no_browser_on_it() {
    let pair = Pair::start(TWO);
    let metrics = metrics_of(&pair);
    let with = |lines: &str| {
        let asked = format!("GET /admin/overrides HTTP/1.1\r\n{lines}\r\n");
        Client::connect(metrics).ask(&asked).status
    };
    for allowed in ["127.0.0.1", "127.0.0.1:9000", "localhost:1", "[::1]"] {
        assert_eq!(with(&format!("Host: {allowed}\r\n")), 200, "{allowed}");
    }
    let host = format!("Host: {metrics}\r\n");
    for refused in [
        "Host: evil.example\r\n".to_owned(),
        "Host: localhost.evil.example:9000\r\n".to_owned(),
        format!("{host}Origin: http://evil.example\r\n"),
        format!("{host}Sec-Fetch-Site: cross-site\r\n"),
        // Whom a proxy on this machine speaks for need not be on it.
        format!("{host}X-Forwarded-For: 203.0.113.7\r\n"),
        format!("{host}Forwarded: for=203.0.113.7\r\n"),
        format!("{host}Via: 1.1 proxy\r\n"),
    ] {
        assert_eq!(with(&refused), 403, "{refused}");
    }
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    for changes in ["Origin: null\r\n", "Sec-Fetch-Site: same-origin\r\n", form] {
        assert_eq!(
            admin(metrics, "POST /admin/drain", changes, "").status,
            403,
            "{changes}"
        );
    }
    // `curl -d` says that it sends a form.
    assert_eq!(
        admin(metrics, "PUT /admin/overrides/7", form, "70").status,
        200
    );
    assert!(!pair.weir.proxy_addr().ip().is_unspecified());
    assert_eq!(
        pair.ask(&request("GET", "/api/v10/users/@me", "")).status,
        200,
        "it serves on"
    );
    let text = Client::connect(metrics)
        .ask("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        .text();
    assert!(
        text.contains("weir_admin_refused_total{reason=\"browser\"} 7"),
        "{text}"
    );
}

#[test]
fn a_page_whose_name_was_led_here_reads_nothing_of_the_fleet() {
    for token in [None, AdminToken::new(SECRET)] {
        let pair = Pair::with(TWO, MockConfig::default(), |config| {
            config.admin_token = token;
        });
        let metrics = metrics_of(&pair);
        let status = |page: &str, host: &str| {
            let asked = format!("GET {page} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            Client::connect(metrics).ask(&asked).status
        };
        for page in ["/", "/nirn/status.json"] {
            assert_eq!(status(page, "evil.example:9000"), 403, "{page}");
            assert_eq!(status(page, "localhost:9000"), 200, "{page}");
            assert_eq!(status(page, "127.0.0.1"), 200, "{page}");
        }
        assert_eq!(status("/nirn/cluster", "evil.example"), 403);
        assert_eq!(status("/nirn/cluster", "localhost"), 404, "there is none");
        // Scrapers and probes may call it what they like.
        for page in ["/metrics", "/nirn/healthz"] {
            assert_eq!(status(page, "weir.monitoring.svc:9000"), 200, "{page}");
        }
    }
}

#[test]
fn with_a_token_whoever_has_it_may_and_nobody_else_and_guessing_is_slow() {
    let pair = Pair::with(TWO, MockConfig::default(), |config| {
        config.admin_token = AdminToken::new(SECRET);
        config.forward.port = Some(0);
    });
    let metrics = metrics_of(&pair);
    let right = format!("Authorization: Bearer {SECRET}\r\n");
    for page in ["/admin/overrides", "/admin/locks", "/forward/limits"] {
        let asked = format!("GET {page}");
        let without = admin(metrics, &asked, "", "");
        assert_eq!(without.status, 401, "{page}");
        assert_eq!(
            without.header("www-authenticate"),
            Some("Bearer realm=\"weir\"")
        );
        assert_eq!(admin(metrics, &asked, &right, "").status, 200, "{page}");
    }
    // A name is as good as an address: a page that was led here has no token.
    let named = format!("GET /admin/locks HTTP/1.1\r\nHost: weir.internal\r\n{right}\r\n");
    assert_eq!(Client::connect(metrics).ask(&named).status, 200);
    for page in ["/metrics", "/nirn/healthz"] {
        assert_eq!(
            admin(metrics, &format!("GET {page}"), "", "").status,
            200,
            "{page}"
        );
    }
    let wrong = "Authorization: Bearer correct-horse-battery-stapl\r\n";
    assert_eq!(admin(metrics, "GET /admin/locks", wrong, "").status, 401);
    let too_soon = admin(metrics, "GET /admin/locks", &right, "");
    assert_eq!(too_soon.status, 429, "nothing is listened to for a moment");
    assert_eq!(too_soon.header("retry-after"), Some("1"));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(admin(metrics, "GET /admin/locks", &right, "").status, 200);
    let text = admin(metrics, "GET /metrics", "", "").text();
    assert!(
        text.contains("weir_admin_refused_total{reason=\"token\"} 4"),
        "{text}"
    );
    assert!(
        text.contains("weir_admin_refused_total{reason=\"too_many\"} 1"),
        "{text}"
    );
}

#[test]
fn the_log_level_is_changed_while_weir_runs_and_each_change_is_told() {
    let mock = plain_mock();
    let mut weir = Program::start(&mock, &[]);
    let ask = |id: &str| {
        let head = request("GET", "/api/v10/users/@me", "");
        let named = head.replace("Host:", &format!("X-Request-Id: {id}\r\nHost:"));
        assert_eq!(Client::connect(weir.proxy).ask(&named).status, 200);
    };
    let level = |expected: &str| {
        let read = json(&admin(weir.metrics, "GET /admin/log-level", "", ""));
        assert_eq!(read, serde_json::json!({ "level": expected }));
    };
    level("info");
    ask("before");
    // Its end is told a moment after its answer.
    thread::sleep(Duration::from_millis(100));
    let set = |body: &str| admin(weir.metrics, "PUT /admin/log-level", "", body).status;
    assert_eq!((set("loud"), set("")), (400, 400));
    assert_eq!(set("debug\n"), 200);
    level("debug");
    ask("meanwhile");
    thread::sleep(Duration::from_millis(100));
    assert_eq!(set("{\"level\": \"WARNING\"}"), 200);
    level("warn");
    ask("after");
    weir.signal("TERM");
    weir.wait(Duration::from_secs(20));
    thread::sleep(Duration::from_millis(100));
    let lines = weir.log_lines();
    let of = |id: &str| lines.iter().filter(|line| line.contains(id)).count();
    assert_eq!(
        (of("before"), of("\"id\":\"meanwhile\""), of("after")),
        (0, 1, 0),
        "{lines:#?}"
    );
    let changed: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("changed at run time"))
        .collect();
    assert_eq!(
        changed.len(),
        2,
        "also the one after which no news are told: {lines:#?}"
    );
    let changed: serde_json::Value = serde_json::from_str(changed[0]).unwrap();
    for (field, expected) in [
        ("from", "127.0.0.1"),
        ("what", "log level"),
        ("was", "info"),
        ("now", "debug"),
    ] {
        assert_eq!(changed[field], expected, "{changed}");
    }
}

#[test]
fn a_bots_limit_is_set_for_all_workers_and_taken_away_again() {
    let pair = Pair::start(TWO);
    let metrics = metrics_of(&pair);
    let none = json(&admin(metrics, "GET /admin/overrides", "", ""));
    assert_eq!(none["overrides"], serde_json::json!({}));
    let path = format!("/admin/overrides/{BOT}");
    for (head, body, expected) in [
        ("PUT", "0", 400),
        ("PUT", "50001", 400),
        ("PUT", "many", 400),
        ("DELETE", "", 404),
        ("GET", "", 404),
    ] {
        assert_eq!(
            admin(metrics, &format!("{head} {path}"), "", body).status,
            expected,
            "{body}"
        );
    }
    assert_eq!(
        admin(metrics, "PUT /admin/overrides/me", "", "7").status,
        400
    );
    // From several connections, so that both workers take some.
    let ten_at = |addr: SocketAddr| {
        move || {
            let began = Instant::now();
            thread::scope(|scope| {
                for guild in 0..10 {
                    scope.spawn(move || {
                        let path = format!("/api/v10/guilds/20303996363630{guild:04}/channels");
                        let answer = Client::connect(addr).ask(&request("GET", &path, ""));
                        assert!(answer.header("generated-by-proxy").is_none(), "{answer:?}");
                    });
                }
            });
            began.elapsed()
        }
    };
    let ten = ten_at(pair.addr());
    ten();
    assert_eq!(
        json(&admin(metrics, &format!("PUT {path}"), "", "4"))["limit"],
        4
    );
    thread::sleep(Duration::from_millis(1_100));
    let slow = ten();
    assert!(
        slow > Duration::from_millis(1_800),
        "4 + 4 + 2 a second: {slow:?}"
    );
    let all = json(&admin(metrics, "GET /admin/overrides", "", ""));
    assert_eq!(all["overrides"], serde_json::json!({ BOT: 4 }));
    assert_eq!(all["of"], "this weir");
    // Raised, it lets those go who wait for it.
    assert_eq!(admin(metrics, &format!("PUT {path}"), "", "1").status, 200);
    let raised = thread::scope(|scope| {
        let waiting = scope.spawn(ten_at(pair.addr()));
        thread::sleep(Duration::from_millis(500));
        assert!(!waiting.is_finished(), "one a second");
        assert_eq!(
            admin(metrics, &format!("PUT {path}"), "", "100").status,
            200
        );
        waiting.join().expect("all are answered")
    });
    assert!(
        raised < Duration::from_secs(3),
        "not ten seconds: {raised:?}"
    );
    let removed = json(&admin(metrics, &format!("DELETE {path}"), "", ""));
    assert_eq!(removed["limit"], serde_json::Value::Null);
    thread::sleep(Duration::from_millis(1_100));
    let fast = ten();
    assert!(fast < Duration::from_millis(1_500), "50 a second: {fast:?}");
}

#[test]
fn what_is_locked_is_seen_with_the_time_left_and_opened_by_hand() {
    let pair = Pair::start(TWO);
    let metrics = metrics_of(&pair);
    let locks = || json(&admin(metrics, "GET /admin/locks", "", ""));
    let nothing = locks();
    assert_eq!(
        (&nothing["tokens"], &nothing["cloudflare"]),
        (&serde_json::json!([]), &serde_json::Value::Null)
    );

    pair.mock
        .set_faults(vec![Fault::from(status(401, "{\"code\":0}"))]);
    let me = request("GET", "/api/v10/users/@me", "");
    until("it is locked", || {
        pair.ask(&me).header("generated-by-proxy").is_some()
    });
    let webhook = request(
        "POST",
        &format!("/api/v10/webhooks/{BOT}/{}", "w".repeat(68)),
        "{}",
    );
    pair.mock
        .set_faults(vec![Fault::from(status(404, "{\"code\":10015}"))]);
    assert_eq!(pair.ask(&webhook).status, 404);
    let locked = locks();
    let token = &locked["tokens"][0];
    assert_eq!(
        (&token["bot"], &locked["tokens_count"]),
        (&BOT.into(), &1.into())
    );
    assert!(
        (1..=300_000).contains(&token["left_ms"].as_u64().unwrap()),
        "{locked}"
    );
    assert_eq!(locked["webhooks"][0]["webhook"], BOT);
    assert!(
        locked["invalid_requests"]["in_10_minutes"].as_u64() > Some(0),
        "{locked}"
    );

    let open = |path: &str| admin(metrics, &format!("DELETE /admin/locks{path}"), "", "");
    assert_eq!(open("/doors").status, 404);
    assert_eq!(open("/tokens/7").status, 404);
    assert_eq!(open("/tokens/all").status, 400);
    assert_eq!(json(&open(&format!("/tokens/{BOT}")))["opened"], 1);
    let key = locked["webhooks"][0]["key"].as_str().unwrap();
    assert_eq!(json(&open(&format!("/webhooks/{key}")))["opened"], 1);
    pair.mock.set_faults(Vec::new());
    assert_eq!(pair.ask(&me).status, 200);
    let webhook = pair.ask(&webhook);
    assert!(
        webhook.header("generated-by-proxy").is_none(),
        "{webhook:?}"
    );

    let blocked = Action::Answer {
        status: 429,
        headers: vec![("retry-after".to_owned(), "600".to_owned())],
        body: String::new(),
        bare: true,
    };
    pair.mock.set_faults(vec![Fault::from(blocked)]);
    pair.ask(&me);
    pair.mock.set_faults(Vec::new());
    assert_eq!(pair.ask(&me).status, 429);
    assert!(locks()["cloudflare"]["left_ms"].as_u64() > Some(500_000));
    assert_eq!(json(&open(""))["opened"], 1);
    assert_eq!(locks()["cloudflare"], serde_json::Value::Null);
    assert_eq!(pair.ask(&me).status, 200);
    assert_eq!(json(&open("/cloudflare"))["opened"], 0);
}

#[test]
fn a_drain_lets_what_is_under_way_finish_and_ends_weir_as_a_signal_does() {
    let mock = support::program::slow_mock(400.0);
    let mut weir = Program::start(&mock, &[]);
    let proxy = weir.proxy;
    let under_way = thread::spawn(move || {
        Client::connect(proxy).ask(&request("GET", "/api/v10/users/@me", ""))
    });
    thread::sleep(Duration::from_millis(150));
    let told = admin(weir.metrics, "POST /admin/drain", "", "");
    assert_eq!(told.status, 202);
    assert_eq!(
        told.text(),
        "{\"draining\":true,\"ends_within_ms\":30000}\n"
    );
    until("it has begun", || match Client::try_connect(weir.metrics) {
        Ok(mut client) => client
            .try_ask("POST /admin/drain HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .is_none_or(|answer| answer.status == 409),
        Err(_) => true,
    });
    assert_eq!(under_way.join().expect("an answer").status, 200);
    assert_eq!(weir.wait(Duration::from_secs(10)).code(), Some(0));
    let lines = weir.log_lines().join("\n");
    assert!(lines.contains("\"what\":\"draining\""), "{lines}");
}

#[test]
fn the_state_file_is_written_when_somebody_asks_for_it() {
    let pair = Pair::start(TWO);
    assert_eq!(
        admin(metrics_of(&pair), "POST /admin/state", "", "").status,
        404
    );
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("control-state-{}", std::process::id()));
    let pair = Pair::with(TWO, MockConfig::default(), |config| {
        config.state_file = Some(file.clone());
    });
    assert!(!file.exists());
    let written = json(&admin(metrics_of(&pair), "POST /admin/state", "", ""));
    let bytes = file.metadata().expect("it is there").len();
    assert_eq!(written, serde_json::json!({ "bytes": bytes }));
    drop(pair);
    let _ = std::fs::remove_file(&file);
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}
