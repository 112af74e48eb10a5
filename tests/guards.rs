//! What weir does when Discord refuses: retries, bounded waits, locks, and what it finds out by
//! itself.

mod support;

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use loadtest::mock::MockConfig;
use loadtest::mock::faults::{Action, Fault};
use loadtest::mock::settings::{GatewaySettings, Settings};
use support::http::Client;
use support::{Pair, SHAPES, Shape, TOKEN, request};
use weir::config::IoDriver;

const CHANNEL: u64 = 203_039_963_636_301_824;
const ONE: Shape = Shape {
    workers: 1,
    driver: IoDriver::Auto,
};

fn messages() -> String {
    format!("/api/v10/channels/{CHANNEL}/messages")
}

/// A 429 of Discord's, as a fault.
fn limited(scope: &str, retry_after: f64, remaining: u32) -> Action {
    let header = |name: &str, value: String| (name.to_owned(), value);
    Action::Answer {
        status: 429,
        headers: vec![
            header("x-ratelimit-limit", "5".to_owned()),
            header("x-ratelimit-remaining", remaining.to_string()),
            header("x-ratelimit-reset-after", retry_after.to_string()),
            header("x-ratelimit-bucket", "abcd".to_owned()),
            header("x-ratelimit-scope", scope.to_owned()),
            header("retry-after", retry_after.ceil().to_string()),
        ],
        body: format!(r#"{{"message":"limited","retry_after":{retry_after},"global":false}}"#),
        bare: false,
    }
}

#[test]
fn a_429_is_absorbed_and_the_client_sees_one_answer_after_the_wait() {
    for shape in SHAPES {
        let pair = Pair::start(shape);
        pair.mock
            .set_faults(vec![Fault::from(limited("user", 0.5, 0)).times(1)]);
        let began = Instant::now();
        // The body is more than comes along with the head, and small enough to be kept.
        let content = "x".repeat(40_000);
        let body = format!(r#"{{"content":"{content}"}}"#);
        let answer = pair.ask(&request("POST", &messages(), &body));
        assert_eq!(answer.status, 200, "{shape:?}: {}", answer.text());
        assert!(
            began.elapsed() >= Duration::from_millis(500),
            "{:?}",
            began.elapsed()
        );
        assert!(
            began.elapsed() < Duration::from_millis(900),
            "{:?}",
            began.elapsed()
        );
        let arrivals = pair.mock.arrivals("/messages");
        assert_eq!(arrivals.len(), 2);
        assert!(
            arrivals
                .iter()
                .all(|arrival| arrival.status == 429 || arrival.status == 200)
        );
    }
}

#[test]
fn with_no_retries_every_answer_passes_as_it_came() {
    let pair = Pair::with(ONE, MockConfig::default(), |config| config.retries = 0);
    pair.mock
        .set_faults(vec![Fault::from(limited("user", 0.2, 0)).times(1)]);
    let answer = pair.ask(&request("POST", &messages(), r#"{"content":"x"}"#));
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("generated-by-proxy"), None);
    assert!(answer.text().contains("\"retry_after\":0.2"));
}

#[test]
fn a_second_429_is_passed_on_but_shared_ones_are_waited_out() {
    let pair = Pair::start(ONE);
    pair.mock
        .set_faults(vec![Fault::from(limited("user", 0.1, 0)).times(2)]);
    let answer = pair.ask(&request("POST", &messages(), r#"{"content":"x"}"#));
    assert_eq!(answer.status, 429, "RETRIES is 1");
    let pair = Pair::start(ONE);
    pair.mock
        .set_faults(vec![Fault::from(limited("shared", 0.1, 3)).times(4)]);
    let answer = pair.ask(&request("POST", &messages(), r#"{"content":"x"}"#));
    assert_eq!(answer.status, 200, "RETRY_SHARED: {}", answer.text());
}

#[test]
fn a_sub_limit_is_handed_to_the_client_and_does_not_hold_its_bucket() {
    let pair = Pair::start(ONE);
    pair.mock
        .set_faults(vec![Fault::from(limited("user", 300.0, 4)).times(1)]);
    let path = format!("/api/v10/channels/{CHANNEL}");
    let answer = pair.ask(&request("PATCH", &path, r#"{"name":"x"}"#));
    assert_eq!(answer.status, 429);
    let began = Instant::now();
    let answer = pair.ask(&request("PATCH", &path, r#"{"nsfw":true}"#));
    assert_eq!(answer.status, 200);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_large_body_streams_and_its_429_is_passed_on() {
    let pair = Pair::start(ONE);
    pair.mock
        .set_faults(vec![Fault::from(limited("user", 0.1, 0)).times(1)]);
    let body = "x".repeat(300_000);
    let answer = pair.ask(&request("POST", &messages(), &body));
    assert_eq!(answer.status, 429);
}

#[test]
fn a_wait_longer_than_allowed_is_refused_at_once_with_when_to_come_again() {
    for shape in SHAPES {
        let pair = Pair::start(shape);
        let post = request("POST", &messages(), r#"{"content":"x"}"#);
        let mut client = Client::connect(pair.addr());
        for _ in 0..5 {
            assert_eq!(client.ask(&post).status, 200);
        }
        let hurried = post.replace("Host:", "X-RateLimit-Abort-After: 0.2\r\nHost:");
        let began = Instant::now();
        let answer = client.ask(&hurried);
        assert!(
            began.elapsed() < Duration::from_millis(150),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(answer.status, 429);
        assert_eq!(answer.header("generated-by-proxy"), Some("true"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.header("via").is_some());
        let wait: f64 = answer
            .header("x-ratelimit-reset-after")
            .unwrap()
            .parse()
            .unwrap();
        // One slot returns each second.
        assert!((0.5..=1.1).contains(&wait), "{wait}");
        thread::sleep(Duration::from_secs_f64(wait));
        let began = Instant::now();
        assert_eq!(client.ask(&hurried).status, 200, "{shape:?}");
        assert!(began.elapsed() < Duration::from_millis(250));
        assert_eq!(pair.violations(), 0);
        assert!(
            pair.mock.arrivals("/messages").len() == 6,
            "the refused one never went"
        );
    }
}

/// A mock that compresses its errors for whoever accepts it, in chunks or with a length.
fn compressing(chunked: bool) -> MockConfig {
    let mut mock = MockConfig::default();
    mock.settings.answers.compress_errors = true;
    mock.settings.answers.chunked = chunked;
    mock
}

fn accepting(coding: &str, request: &str) -> String {
    request.replace("Host:", &format!("Accept-Encoding: {coding}\r\nHost:"))
}

#[test]
fn a_webhook_whose_404_came_compressed_is_remembered_as_dead() {
    for chunked in [false, true] {
        let pair = Pair::with(ONE, compressing(chunked), |_| ());
        // The third is deflate without zlib's frame, as some servers have it.
        for (number, coding) in ["gzip", "deflate", "x-raw-deflate", "zstd"]
            .iter()
            .enumerate()
        {
            let path = format!("/api/v10/webhooks/20303996363630{number}404/token");
            let post = accepting(coding, &request("POST", &path, r#"{"content":"x"}"#));
            let answer = pair.ask(&post);
            assert_eq!(answer.status, 404);
            assert_eq!(answer.header("generated-by-proxy"), None);
            let named = coding.trim_start_matches("x-raw-");
            assert_eq!(answer.header("content-encoding"), Some(named));
            if *coding == "gzip" {
                let mut text = String::new();
                GzDecoder::new(&answer.body[..])
                    .read_to_string(&mut text)
                    .expect("gzip, as it came");
                assert!(text.contains("10015"), "{text}");
            }
            let again = pair.ask(&post);
            assert_eq!(again.status, 404);
            assert_eq!(
                again.header("generated-by-proxy"),
                Some("true"),
                "{coding}, chunked: {chunked}"
            );
            assert_eq!(pair.mock.arrivals(&path).len(), 1, "{coding}");
        }
    }
}

#[test]
fn a_compressed_429_is_absorbed_and_waited_out_as_precisely_as_its_body_says() {
    for coding in ["gzip", "deflate", "zstd"] {
        let pair = Pair::with(ONE, compressing(false), |_| ());
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let fault = Action::Answer {
            status: 429,
            headers: vec![
                header("x-ratelimit-limit", "5"),
                header("x-ratelimit-remaining", "0"),
                header("x-ratelimit-reset-after", "0.4"),
                header("x-ratelimit-bucket", "abcd"),
                header("x-ratelimit-scope", "user"),
                // In whole seconds, and rounded up generously.
                header("retry-after", "3"),
            ],
            body: r#"{"message":"limited","retry_after":0.4,"global":false}"#.to_owned(),
            bare: false,
        };
        pair.mock.set_faults(vec![Fault::from(fault).times(1)]);
        let began = Instant::now();
        let post = request("POST", &messages(), r#"{"content":"x"}"#);
        let answer = pair.ask(&accepting(coding, &post));
        assert_eq!(answer.status, 200, "{coding}: {}", answer.text());
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(400), "{coding}: {took:?}");
        assert!(took < Duration::from_millis(2_000), "{coding}: {took:?}");
    }
}

#[test]
fn a_dead_token_is_locked_once_it_is_confirmed_and_others_are_not() {
    for shape in SHAPES {
        let pair = Pair::start(shape);
        let dead = "Bot MTAzMDM5OTYzNjM2MzAxODI0.dead-token.x";
        let with = |token: &str| request("POST", &messages(), "{}").replace(TOKEN, token);
        assert_eq!(pair.ask(&with(dead)).status, 401);
        // The confirmation runs in the background.
        let locked = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(20));
            pair.ask(&with(dead)).header("generated-by-proxy").is_some()
        });
        assert!(locked, "{shape:?}");
        let before = pair.mock.oracle().requests;
        for _ in 0..20 {
            assert_eq!(pair.ask(&with(dead)).status, 401);
        }
        assert_eq!(
            pair.mock.oracle().requests,
            before,
            "a locked token costs Discord nothing"
        );
        assert_eq!(pair.ask(&with(TOKEN)).status, 200);
    }
}

#[test]
fn a_large_bots_global_limit_is_found_out_in_the_background() {
    let settings = Settings {
        gateway: GatewaySettings {
            max_concurrency: 16,
            ..GatewaySettings::default()
        },
        ..Settings::default()
    };
    let mut settings = settings;
    settings
        .limits
        .global_by_bot
        .insert("203039963636301824".to_owned(), 500);
    let mock = MockConfig {
        settings,
        ..MockConfig::default()
    };
    let pair = Pair::with(ONE, mock, |config| {
        config.disable_global_ratelimit_detection = false;
    });
    let get = |number: u64| {
        request(
            "GET",
            &format!("/api/v10/channels/{}/messages", CHANNEL + number * 1000),
            "",
        )
    };
    assert_eq!(pair.ask(&get(0)).status, 200);
    thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    let mut client = Client::connect(pair.addr());
    for number in 0..300 {
        assert_eq!(client.ask(&get(number)).status, 200);
    }
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(pair.mock.arrivals("/gateway/bot").len(), 1, "asked once");
    assert_eq!(pair.violations(), 0);
}

#[test]
fn a_request_of_an_unknown_limit_waits_no_longer_than_it_may() {
    let mut mock = MockConfig::default();
    mock.settings.latency_ms = 60.0;
    let pair = Pair::with(ONE, mock, |config| {
        config.max_wait = Some(Duration::from_millis(800));
    });
    // Cold: that the channel takes 5 in 5 s is known only when most of them wait already.
    let addr = pair.weir.proxy_addr();
    let message = request("POST", &messages(), r#"{"content":"x"}"#);
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let message = message.clone();
            thread::spawn(move || {
                let began = Instant::now();
                let answer = Client::connect(addr).ask(&message);
                (answer, began.elapsed())
            })
        })
        .collect();
    let mut refused = 0;
    for client in clients {
        let (answer, took) = client.join().expect("the client ends");
        assert!(took < Duration::from_millis(1_300), "{took:?}");
        if answer.status == 429 {
            refused += 1;
            assert_eq!(answer.header("generated-by-proxy"), Some("true"));
        }
    }
    assert!(refused >= 6, "{refused}");
}

#[test]
fn a_429_that_asks_for_longer_than_a_request_may_wait_is_passed_on() {
    for (asked, allowed) in [(3_600.0, None), (5.0, Some(2))] {
        let pair = Pair::with(ONE, MockConfig::default(), |config| {
            config.max_wait = allowed.map(Duration::from_secs);
        });
        pair.mock
            .set_faults(vec![Fault::from(limited("user", asked, 0)).times(1)]);
        let began = Instant::now();
        let answer = pair.ask(&request("POST", &messages(), r#"{"content":"x"}"#));
        assert_eq!(
            (answer.status, answer.header("generated-by-proxy")),
            (429, None)
        );
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}
