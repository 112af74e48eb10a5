//! Discord's limits, kept through a real weir over real TLS: no 429 upstream, nothing held back
//! without need, order kept.

mod support;

use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::http::Client;
use support::{Pair, SHAPES, request};

const CHANNEL: u64 = 203_039_963_636_301_824;

#[test]
fn twenty_posts_at_once_to_a_five_per_five_seconds_channel_all_succeed_in_order() {
    for shape in SHAPES {
        let pair = Pair::start(shape);
        let path = format!("/api/v10/channels/{CHANNEL}/messages");
        let mut clients: Vec<_> = (0..20).map(|_| Client::connect(pair.addr())).collect();
        // The order of arrival at weir is made certain by sending them one after the other, the
        // next as soon as weir has had time to read the one before.
        for (seq, client) in clients.iter_mut().enumerate() {
            client.send(request(
                "POST",
                &path,
                &format!(r#"{{"content":"seq:{seq}"}}"#),
            ));
            thread::sleep(Duration::from_millis(5));
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
        let pair = Pair::start(shape);
        let began = Instant::now();
        let next = Mutex::new(0_u64);
        thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let mut client = Client::connect(pair.addr());
                    loop {
                        let number = {
                            let mut next = next.lock().unwrap();
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
        assert_eq!(pair.violations(), 0, "{shape:?}: {:?}", pair.mock.oracle());
        // 50 at once, then 50 a second: 19 s is what Discord allows; the rest is margin.
        assert!(took < Duration::from_secs(22), "{shape:?}: {took:?}");
        assert!(
            took > Duration::from_secs(18),
            "the mock enforces its global limit: {took:?}"
        );
    }
}

#[test]
fn two_hundred_interaction_callbacks_at_once_are_not_held_by_the_global_limit() {
    for shape in SHAPES {
        let pair = Pair::start(shape);
        let barrier = Barrier::new(200);
        let began = Instant::now();
        thread::scope(|scope| {
            for number in 0..200_u64 {
                let (pair, barrier) = (&pair, &barrier);
                scope.spawn(move || {
                    let id = 1_103_049_420_930_568_322_u64 + number;
                    let mut client = Client::connect(pair.addr());
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
