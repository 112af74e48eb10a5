//! What happens to requests is counted where an operator looks for it.

use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::MockConfig;
use serde_json::{Value, json};
use weir::{Config, Handle};

use crate::support::http::Client;
use crate::support::{Pair, SHAPES, config, request};

const ME: &str = "/api/v10/users/@me";

/// A weir of one worker before a mock that does this to requests, the first that matches.
fn pair(faults: &Value, change: impl FnOnce(&mut Config)) -> Pair {
    let pair = Pair::with(SHAPES[0], MockConfig::default(), change);
    pair.mock
        .patch_settings(&json!({"faults": faults}))
        .unwrap();
    pair
}

fn scrape(weir: &Handle) -> String {
    let metrics = weir.metrics_addr().unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    Client::connect(metrics).ask(request).text()
}

/// The value of one sample.
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find(|line| {
        line.rsplit_once(' ')
            .is_some_and(|(name, _)| name == sample)
    });
    let line = line.unwrap_or_else(|| panic!("{sample} is missing:\n{text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// Waits until these samples have these values: some are brought up to date a moment later.
fn expect(weir: &Handle, samples: &[(&str, f64)]) -> String {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let text = scrape(weir);
        let wrong: Vec<_> = samples
            .iter()
            .map(|(sample, expected)| (*sample, *expected, value(&text, sample)))
            .filter(|(_, expected, found)| expected != found)
            .collect();
        if wrong.is_empty() {
            return text;
        }
        assert!(Instant::now() < until, "expected, found: {wrong:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A 429 for the first request, which asks for 0.3 s.
fn limited() -> Value {
    json!([{"times": 1, "action": {
        "kind": "answer", "status": 429, "body": "{\"retry_after\": 0.3}",
        "headers": [["X-RateLimit-Scope", "user"], ["Retry-After", "1"]],
    }}])
}

#[test]
fn a_requests_time_is_told_by_where_it_was_spent_and_adds_up() {
    let pair = pair(&limited(), |_| ());
    pair.mock
        .patch_settings(&json!({"latency_ms": 150}))
        .unwrap();
    let began = Instant::now();
    assert_eq!(pair.ask(&request("GET", ME, "")).status, 200);
    let took = began.elapsed().as_secs_f64();
    let text = expect(
        &pair.weir,
        &[
            ("weir_upstream_seconds_count", 2.0),
            ("weir_queue_wait_seconds_count", 1.0),
            ("weir_added_seconds_count", 1.0),
            ("weir_requests_waited_total", 1.0),
            (
                "weir_upstream_429_total{scope=\"user\",outcome=\"absorbed\"}",
                1.0,
            ),
            (
                "weir_upstream_429_total{scope=\"user\",outcome=\"passed\"}",
                0.0,
            ),
            ("weir_retries_total{cause=\"429\"}", 1.0),
        ],
    );
    let waited = value(&text, "weir_queue_wait_seconds_sum");
    let upstream = value(&text, "weir_upstream_seconds_sum");
    let added = value(&text, "weir_added_seconds_sum");
    assert!(waited >= 0.3, "{waited}");
    assert!(upstream >= 0.3, "two attempts of 150 ms: {upstream}");
    assert!(added > 0.0, "a connection was opened");
    let sum = waited + upstream + added;
    assert!(
        sum <= took && sum > took - 0.2,
        "{waited} + {upstream} + {added}, of {took}"
    );
    // Nothing that Discord or a limit took is weir's.
    assert!(added < took - 0.5, "{added} of {took}");
}

#[test]
fn a_request_that_did_not_wait_counts_as_one_that_waited_for_nothing() {
    let pair = pair(&json!([]), |_| ());
    for _ in 0..3 {
        assert_eq!(pair.ask(&request("GET", ME, "")).status, 200);
    }
    expect(
        &pair.weir,
        &[
            ("weir_queue_wait_seconds_bucket{le=\"0.001\"}", 3.0),
            ("weir_queue_wait_seconds_sum", 0.0),
            ("weir_upstream_seconds_count", 3.0),
        ],
    );
}

#[test]
fn a_429_that_the_client_gets_is_no_retry() {
    let pair = pair(&limited(), |config| config.retries = 0);
    assert_eq!(pair.ask(&request("GET", ME, "")).status, 429);
    expect(
        &pair.weir,
        &[
            (
                "weir_upstream_429_total{scope=\"user\",outcome=\"passed\"}",
                1.0,
            ),
            (
                "weir_upstream_429_total{scope=\"user\",outcome=\"absorbed\"}",
                0.0,
            ),
            ("weir_retries_total{cause=\"429\"}", 0.0),
            ("weir_invalid_requests_total{status=\"429\"}", 1.0),
            ("weir_invalid_budget_used", 1.0),
            ("weir_invalid_budget_limit", 9_500.0),
        ],
    );
}

#[test]
fn a_request_that_is_sent_again_for_a_dead_connection_is_a_retry() {
    let dies = json!([{"skip": 1, "times": 1, "action": {"kind": "close_unprocessed"}}]);
    let pair = pair(&dies, |_| ());
    for _ in 0..2 {
        assert_eq!(pair.ask(&request("GET", ME, "")).status, 200);
    }
    expect(
        &pair.weir,
        &[
            ("weir_retries_total{cause=\"connection\"}", 1.0),
            ("weir_upstream_seconds_count", 2.0),
            (
                "weir_upstream_connections_closed_total{reason=\"request\"}",
                1.0,
            ),
        ],
    );
}

#[test]
fn a_token_that_is_refused_shows_as_locked() {
    let pair = pair(&json!([]), |_| ());
    let dead = format!("GET {ME} HTTP/1.1\r\nHost: x\r\nAuthorization: Bot dead-token\r\n\r\n");
    assert_eq!(pair.ask(&dead).status, 401);
    let text = expect(
        &pair.weir,
        &[
            ("weir_guard_events_total{event=\"token_locked\"}", 1.0),
            ("weir_guard_events_total{event=\"token_released\"}", 0.0),
        ],
    );
    let used = value(&text, "weir_invalid_budget_used");
    assert!(
        used >= 2.0,
        "the request's 401 and the one that confirmed it: {used}"
    );
    assert_eq!(pair.ask(&dead).status, 401);
    let locked = "weir_refused_total{status=\"401\",reason=\"token_locked\"}";
    expect(&pair.weir, &[(locked, 1.0)]);
}

#[test]
fn a_dead_webhook_and_cloudflares_block_show() {
    let block = json!([{"target": "blocked", "action": {
        "kind": "answer", "status": 429, "bare": true, "body": "error code: 1015",
        "headers": [["Retry-After", "30"]],
    }}]);
    let pair = pair(&block, |config| config.retries = 0);
    let webhook = request("GET", "/api/v10/webhooks/203039963636304404/token", "");
    assert_eq!(pair.ask(&webhook).status, 404);
    expect(
        &pair.weir,
        &[
            ("weir_webhooks_dead", 1.0),
            ("weir_guard_events_total{event=\"webhook_dead\"}", 1.0),
            ("weir_cloudflare_blocked", 0.0),
            ("weir_cloudflare_block_remaining_seconds", 0.0),
        ],
    );
    assert_eq!(
        pair.ask(&request("GET", "/api/v10/blocked", "")).status,
        429
    );
    let text = expect(
        &pair.weir,
        &[
            ("weir_cloudflare_blocked", 1.0),
            (
                "weir_guard_events_total{event=\"cloudflare_block_began\"}",
                1.0,
            ),
            (
                "weir_upstream_429_total{scope=\"cloudflare\",outcome=\"passed\"}",
                1.0,
            ),
        ],
    );
    let left = value(&text, "weir_cloudflare_block_remaining_seconds");
    assert!(left > 20.0 && left <= 30.0, "{left}");
}

#[test]
fn connections_show_by_what_they_are_at_and_why_they_end() {
    let hangs = json!([{"target": "hang", "action": {"kind": "hang"}}]);
    let pair = pair(&hangs, |config| {
        config.upstream_max_connections = 1;
        config.upstream_idle_timeout = Duration::from_millis(400);
        config.request_timeout = Duration::from_secs(1);
    });
    assert_eq!(pair.ask(&request("GET", ME, "")).status, 200);
    let busy = "weir_upstream_connections{state=\"busy\"}";
    let idle = "weir_upstream_connections{state=\"idle\"}";
    expect(
        &pair.weir,
        &[(busy, 0.0), ("weir_upstream_connections_max", 1.0)],
    );
    // It idles for its 0.4 s, and goes.
    expect(
        &pair.weir,
        &[
            (idle, 0.0),
            (
                "weir_upstream_connections_closed_total{reason=\"idle\"}",
                1.0,
            ),
            ("weir_upstream_tls_handshakes_total{result=\"full\"}", 1.0),
        ],
    );
    let mut holding = Client::connect(pair.addr());
    holding.send(request("GET", "/api/v10/hang", ""));
    expect(&pair.weir, &[(busy, 1.0), ("weir_requests_under_way", 1.0)]);
    let mut waiting = Client::connect(pair.addr());
    // Of another bucket, so that it waits for the connection and for no limit.
    waiting.send(request("GET", "/api/v10/channels/203039963636301824", ""));
    expect(
        &pair.weir,
        &[
            ("weir_upstream_connection_waiting", 1.0),
            ("weir_requests_waiting", 0.0),
            ("weir_requests_under_way", 2.0),
        ],
    );
    assert_eq!(waiting.answer(false).status, 200);
    expect(
        &pair.weir,
        &[
            ("weir_upstream_connection_waiting", 0.0),
            ("weir_requests_under_way", 0.0),
            (
                "weir_upstream_connections_closed_total{reason=\"request\"}",
                1.0,
            ),
            (
                "weir_upstream_tls_handshakes_total{result=\"resumed\"}",
                2.0,
            ),
        ],
    );
}

#[test]
fn what_cannot_be_connected_to_and_what_cannot_be_trusted_are_told_apart() {
    let pair = pair(&json!([]), |config| config.upstream_ca_file = None);
    assert_eq!(pair.ask(&request("GET", ME, "")).status, 502);
    let failed = "weir_upstream_tls_handshakes_total{result=\"failed\"}";
    let refused = "weir_upstream_connections_failed_total";
    expect(&pair.weir, &[(failed, 1.0), (refused, 0.0)]);
    // Nobody listens there.
    let weir = weir::start(config("https://127.0.0.1:9", None)).expect("weir starts");
    let answer = Client::connect(weir.proxy_addr()).ask(&request("GET", ME, ""));
    assert_eq!(answer.status, 502);
    expect(&weir, &[(failed, 0.0), (refused, 1.0)]);
}

#[test]
fn workers_that_nobody_asks_anything_turn_from_scrape_to_scrape() {
    let pair = Pair::start(SHAPES[1]);
    let turns = |text: &str| {
        [0, 1].map(|worker| {
            value(
                text,
                &format!("weir_worker_turns_total{{worker=\"{worker}\"}}"),
            )
        })
    };
    let before = turns(&scrape(&pair.weir));
    thread::sleep(Duration::from_millis(200));
    // What wakes them is the scrape before.
    let after = turns(&scrape(&pair.weir));
    assert!(
        before[0] < after[0] && before[1] < after[1],
        "{before:?} {after:?}"
    );
}

#[test]
fn the_process_tells_what_it_is() {
    let weir = weir::start(config("http://127.0.0.1:9", None)).expect("weir starts");
    let text = scrape(&weir);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let age = now.unwrap().as_secs_f64() - value(&text, "process_start_time_seconds");
    assert!((0.0..60.0).contains(&age), "{age}");
    let (open, most) = (
        value(&text, "process_open_fds"),
        value(&text, "process_max_fds"),
    );
    assert!(open > 3.0 && open < most, "{open} {most}");
    assert!(value(&text, "process_cpu_seconds_total") > 0.0);
    assert!(value(&text, "weir_client_connections_max") > 0.0);
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        text.contains(&format!("weir_build_info{{version=\"{version}\",")),
        "{text}"
    );
    assert!(text.contains("weir_io_driver_info{driver=\""), "{text}");
}
