//! Discord's limits, kept through a real weir over real TLS: no 429 upstream, nothing held back
//! without need, order kept.

mod support;

use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::MockConfig;
use support::http::Client;
use support::{Pair, SHAPES, Shape, request};
use weir::Config;

const CHANNEL: u64 = 203_039_963_636_301_824;

#[test]
fn twenty_posts_at_once_to_a_five_per_five_seconds_channel_all_succeed_in_order() {
    for shape in SHAPES {
        let pair = Pair::start(shape);
        let path = format!("/api/v10/channels/{CHANNEL}/messages");
        let mut clients: Vec<_> = (0..20).map(|_| Client::connect(pair.addr())).collect();
        // The order of arrival at weir is made certain by sending each when weir has read the one
        // before.
        for (seq, client) in clients.iter_mut().enumerate() {
            client.send(request(
                "POST",
                &path,
                &format!(r#"{{"content":"seq:{seq}"}}"#),
            ));
            pair.wait_until_read(seq + 1);
        }
        for client in &mut clients {
            let answer = client.answer(false);
            assert_eq!(answer.status, 200, "{shape:?}: {}", answer.text());
            assert_eq!(answer.header("generated-by-proxy"), None);
        }
        let oracle = pair.mock.oracle();
        assert_eq!(oracle.violations, 0, "{shape:?}: {oracle:?}");
        assert_eq!(oracle.order.inversions, 0, "{shape:?}");
    }
}

#[test]
fn a_thousand_gets_over_two_hundred_channels_keep_the_global_limit() {
    for shape in SHAPES {
        // On a machine that is busy with other things, requests that left weir in time arrive in
        // heaps, which no limiter can help. Such a run takes longer than it should, says nothing,
        // and is made again.
        let judged = (0..RUNS_MAX).any(|_| a_thousand_gets(shape));
        assert!(judged, "this machine is too busy to time anything on");
    }
}

/// How often a run is made again that the machine spoiled.
const RUNS_MAX: usize = 4;

/// What a run takes: 50 at once and 50 a second are 19 s; weir's margin makes it 20.
const RUN_MAX: Duration = Duration::from_millis(21_500);

/// One run; false if the machine spoiled it.
fn a_thousand_gets(shape: Shape) -> bool {
    let pair = Pair::start(shape);
    let began = Instant::now();
    let next = Mutex::new(0_u64);
    let addr = pair.addr();
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let mut client = Client::connect(addr);
                loop {
                    let number = {
                        let mut next = next.lock().expect("no panic with it");
                        *next += 1;
                        *next - 1
                    };
                    if number >= 1000 {
                        return;
                    }
                    let channel = CHANNEL + (number % 200) * 1000;
                    let path = format!("/api/v10/channels/{channel}/messages?limit=1");
                    let answer = client.ask(&request("GET", &path, ""));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            });
        }
    });
    let took = began.elapsed();
    if took > RUN_MAX {
        return false;
    }
    assert_eq!(pair.violations(), 0, "{shape:?}: {:?}", pair.mock.oracle());
    assert!(
        took > Duration::from_secs(18),
        "the mock enforces its global limit: {took:?}"
    );
    true
}

#[test]
fn two_hundred_interaction_callbacks_at_once_are_not_held_by_the_global_limit() {
    for shape in SHAPES {
        let pair = Pair::start(shape);
        let barrier = Barrier::new(200);
        let began = Instant::now();
        thread::scope(|scope| {
            for number in 0..200_u64 {
                let (addr, barrier) = (pair.addr(), &barrier);
                scope.spawn(move || {
                    // None ends in 403 or 404, which the mock takes as forbidden and unknown.
                    let id = 1_103_049_420_930_560_000_u64 + number * 10;
                    let mut client = Client::connect(addr);
                    barrier.wait();
                    let path = format!("/api/v10/interactions/{id}/aW50ZXJhY3Rpb246x/callback");
                    let answer = client.ask(&request("POST", &path, r#"{"type":1}"#));
                    assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
                });
            }
        });
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{shape:?}: {:?}",
            began.elapsed()
        );
        assert_eq!(pair.violations(), 0);
    }
}

#[test]
fn a_client_that_leaves_while_its_request_waits_is_never_sent_upstream() {
    for shape in SHAPES {
        let pair = Pair::start(shape);
        let path = format!("/api/v10/channels/{CHANNEL}/messages");
        let post = |seq: usize| request("POST", &path, &format!(r#"{{"content":"seq:{seq}"}}"#));
        let mut first = Client::connect(pair.addr());
        for seq in 0..5 {
            assert_eq!(first.ask(&post(seq)).status, 200);
        }
        let mut leaving = Client::connect(pair.addr());
        leaving.send(post(100));
        thread::sleep(Duration::from_millis(250));
        let mut staying = Client::connect(pair.addr());
        staying.send(post(5));
        thread::sleep(Duration::from_millis(50));
        drop(leaving);
        assert_eq!(staying.answer(false).status, 200);
        let sent = pair.mock.arrivals("/messages").len();
        assert_eq!(
            sent, 6,
            "{shape:?}: the request of the client that left was sent"
        );
        assert_eq!(pair.violations(), 0);
    }
}

#[test]
fn a_half_closed_client_is_answered_after_its_wait() {
    for shape in SHAPES {
        let pair = Pair::start(shape);
        let path = format!("/api/v10/channels/{CHANNEL}/messages");
        let post = request("POST", &path, r#"{"content":"x"}"#);
        let mut first = Client::connect(pair.addr());
        for _ in 0..5 {
            assert_eq!(first.ask(&post).status, 200);
        }
        let mut half = Client::connect(pair.addr());
        half.send(&post);
        half.finish();
        assert_eq!(half.answer(false).status, 200, "{shape:?}");
        assert_eq!(pair.violations(), 0);
    }
}

/// Time on the mock's network: what goes out without waiting for an answer arrives well within it.
const DISTANCE: Duration = Duration::from_millis(600);

/// When six requests that are sent at once on a cold channel reach Discord, after the first.
fn arrivals_on_a_cold_channel(
    shape: Shape,
    method: &str,
    change: impl FnOnce(&mut Config),
) -> Vec<Duration> {
    let mut mock = MockConfig::default();
    mock.settings.latency_ms = DISTANCE.as_secs_f64() * 1e3;
    let pair = Pair::with(shape, mock, change);
    let path = format!("/api/v10/channels/{CHANNEL}/messages");
    let body = if method == "GET" { "" } else { "{}" };
    let mut clients: Vec<_> = (0..6).map(|_| Client::connect(pair.addr())).collect();
    for client in &mut clients {
        client.send(request(method, &path, body));
    }
    for client in &mut clients {
        assert_eq!(client.answer(false).status, 200);
    }
    assert_eq!(pair.violations(), 0, "{:?}", pair.mock.oracle());
    let arrivals = pair.mock.arrivals("/messages");
    let first = arrivals[0].at_ns;
    let after_first = |at_ns: u64| Duration::from_nanos(at_ns - first);
    arrivals.iter().map(|a| after_first(a.at_ns)).collect()
}

/// How many arrive before the first answer can be back.
fn together(arrivals: &[Duration]) -> usize {
    arrivals.iter().filter(|after| **after < DISTANCE).count()
}

#[test]
fn a_declared_route_begins_with_its_width_and_an_unknown_one_with_one_request() {
    let declare = |entry: &'static str| {
        move |config: &mut Config| {
            let (template, width) = entry.split_once('=').expect("an entry");
            let template = template.parse().expect("a template");
            config.default_buckets = [(template, width.parse().expect("a number"))].into();
        }
    };
    for shape in SHAPES {
        let cold = arrivals_on_a_cold_channel(shape, "GET", |_| ());
        assert_eq!(together(&cold), 1, "{shape:?}: {cold:?}");
        let other = declare("GET /channels/!/messages/!=5");
        let other = arrivals_on_a_cold_channel(shape, "GET", other);
        assert_eq!(together(&other), 1, "{shape:?}: {other:?}");
        let declared = declare("GET /channels/!/messages=5");
        let declared = arrivals_on_a_cold_channel(shape, "GET", declared);
        assert_eq!(together(&declared), 5, "{shape:?}: {declared:?}");
    }
}

#[test]
fn posts_of_a_declared_route_go_together_only_where_their_order_need_not_be_kept() {
    let declare = |config: &mut Config| {
        let template = "POST /channels/!/messages".parse().expect("a template");
        config.default_buckets = [(template, 5)].into();
    };
    let in_order = arrivals_on_a_cold_channel(SHAPES[1], "POST", declare);
    assert_eq!(together(&in_order), 1, "{in_order:?}");
    let side_by_side = arrivals_on_a_cold_channel(SHAPES[1], "POST", |config| {
        declare(config);
        config.allow_concurrent_requests = true;
    });
    assert_eq!(together(&side_by_side), 5, "{side_by_side:?}");
}

#[test]
fn two_declared_widths_for_one_limit_stop_the_start() {
    let mut config = support::config("http://127.0.0.1:9", None);
    config.default_buckets = [
        ("PUT /channels/!/messages/!/reactions/!/@me", 1),
        ("DELETE /channels/!/messages/!/reactions/!/!", 2),
    ]
    .map(|(template, width)| (template.parse().expect("a template"), width))
    .into();
    let error = weir::start(config)
        .err()
        .expect("they contradict each other");
    assert_eq!(error.exit_code(), 2);
    assert_eq!(
        error.to_string(),
        "DEFAULT_BUCKETS: \"PUT /channels/!/messages/!/reactions/!/@me\" is not allowed; \
         each route once, and another template is the same one"
    );
}
