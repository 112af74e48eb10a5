//! Discord's limits, kept through a real weir over real TLS: no 429 upstream, nothing held back
//! without need, order kept.

mod support;

use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::http::Client;
use support::{Pair, SHAPES, Shape, request};

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
