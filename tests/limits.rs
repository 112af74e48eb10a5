//! Discord's limits, kept through a real weir over real TLS: no 429 upstream, nothing held back
//! without need, order kept.

mod support;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::MockConfig;
use loadtest::mock::faults::{Action, Fault};
use support::http::{Answer, Client};
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
        keeps_the_global_limit(|| {
            let pair = Pair::start(shape);
            let took = by_a_hundred_clients(&pair, 1000, get);
            assert!(
                took > Duration::from_secs(18),
                "the mock enforces its global limit: {took:?}"
            );
            pair
        });
    }
}

#[test]
fn requests_whose_connections_take_long_to_open_keep_the_global_limit() {
    for shape in SHAPES {
        keeps_the_global_limit(|| {
            let mut mock = MockConfig::default();
            mock.settings.connections.handshake_delay_ms = 400;
            // One in four requests dials, so that they leave in another order than they were let go.
            mock.settings.connections.close_after_requests = Some(4);
            let pair = Pair::with(shape, mock, |_| ());
            by_a_hundred_clients(&pair, 300, get);
            pair
        });
    }
}

#[test]
fn requests_that_wait_for_a_place_among_the_connections_keep_the_global_limit() {
    keeps_the_global_limit(|| {
        let mut mock = MockConfig::default();
        let stall = Action::Stall { bytes: 0, ms: 600 };
        mock.settings.faults = vec![Fault::from(stall).times(40)];
        // Ten of the first fifty wait until the others are answered.
        let pair = Pair::with(SHAPES[0], mock, |config| {
            config.upstream_max_connections = 40;
        });
        by_a_hundred_clients(&pair, 200, get);
        pair
    });
}

#[test]
fn requests_whose_bodies_come_late_keep_the_global_limit() {
    // One that weir keeps and waits for, and one that it streams.
    for bytes in [10_000, 100_000] {
        let text = "x".repeat(bytes);
        let ask = |client: &mut Client, number: u64| {
            if !number.is_multiple_of(4) {
                return get(client, number);
            }
            let channel = CHANNEL + number * 1000;
            let path = format!("/api/v10/channels/{channel}/messages");
            let whole = request("POST", &path, &format!(r#"{{"content":"{text}"}}"#));
            let (first, rest) = whole.split_at(whole.len() - 1000);
            client.send(first);
            thread::sleep(Duration::from_millis(400));
            client.send(rest);
            client.answer(false)
        };
        keeps_the_global_limit(|| {
            let pair = Pair::start(SHAPES[1]);
            by_a_hundred_clients(&pair, 200, ask);
            pair
        });
    }
}

/// How often a run is made again that the machine spoiled.
const RUNS_MAX: usize = 4;

/// A thread that wanted to sleep for 5 ms and got no CPU for so long: a good part of the 250 ms that
/// weir grants a way.
const STALL: Duration = Duration::from_millis(60);

/// 429s that a run may draw and be made again, although the watch saw no stall: one thread cannot see
/// which of a hundred others got no CPU. Without what these tests are for, each run draws at least 7.
const FEW: u64 = 3;

/// Makes a run and asks its mock for 429s. Requests that left in time and lie for a second in a mock
/// that gets no CPU arrive in one heap with those after them, which no limiter can help: a run that
/// drew a 429 while threads were starved is made again.
fn keeps_the_global_limit(run: impl Fn() -> Pair) {
    for _ in 0..RUNS_MAX {
        let done = AtomicBool::new(false);
        let (pair, stall) = thread::scope(|scope| {
            let watch = scope.spawn(|| longest_stall(&done));
            let pair = {
                let _ends = Ends(&done);
                run()
            };
            (pair, watch.join().expect("it only sleeps"))
        });
        let oracle = pair.mock.oracle();
        if oracle.violations == 0 {
            return;
        }
        let spoiled = stall > STALL || oracle.violations <= FEW;
        assert!(spoiled, "{stall:?}: {oracle:?}");
    }
    panic!("429s in every run, or this machine is too busy to time anything on");
}

/// Ends a watch, even if what is watched panics.
struct Ends<'d>(&'d AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The longest that a sleep took more than it should, until `done`.
fn longest_stall(done: &AtomicBool) -> Duration {
    let nap = Duration::from_millis(5);
    let mut longest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let began = Instant::now();
        thread::sleep(nap);
        longest = longest.max(began.elapsed().saturating_sub(nap));
    }
    longest
}

fn get(client: &mut Client, number: u64) -> Answer {
    let channel = CHANNEL + (number % 200) * 1000;
    let path = format!("/api/v10/channels/{channel}/messages?limit=1");
    client.ask(&request("GET", &path, ""))
}

/// Asks `count` times in all, each client again when it is answered; how long that took.
fn by_a_hundred_clients(
    pair: &Pair,
    count: u64,
    ask: impl Fn(&mut Client, u64) -> Answer + Sync,
) -> Duration {
    let addr = pair.addr();
    let began = Instant::now();
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let mut client = Client::connect(addr);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let answer = ask(&mut client, number);
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            });
        }
    });
    began.elapsed()
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
fn a_client_that_leaves_while_its_connection_is_dialled_is_never_sent_upstream() {
    for shape in [SHAPES[0], SHAPES[2]] {
        let mut mock = MockConfig::default();
        mock.settings.connections.handshake_delay_ms = 600;
        let pair = Pair::with(shape, mock, |config| config.workers = Some(1));
        let path = format!("/api/v10/channels/{CHANNEL}/messages");
        let post = |seq: usize| request("POST", &path, &format!(r#"{{"content":"seq:{seq}"}}"#));
        let mut leaving = Client::connect(pair.addr());
        leaving.send(post(100));
        thread::sleep(Duration::from_millis(250));
        drop(leaving);
        // Its turn and its connection go to the next; who only ended its half is answered.
        let mut half = Client::connect(pair.addr());
        half.send(post(0));
        half.finish();
        assert_eq!(half.answer(false).status, 200, "{shape:?}");
        assert_eq!(pair.mock.arrivals("/messages").len(), 1, "{shape:?}");
        assert_eq!(pair.mock.oracle().connections.opened, 1, "{shape:?}");
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
