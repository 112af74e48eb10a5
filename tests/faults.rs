//! Every fault of the failure table end to end: what the client is told, that nothing is lost or
//! sent twice, and that the bucket moves on afterwards.
//!
//! Elsewhere: an untrusted or misnamed certificate, a hang and a refusal alone (`exchange`), clients
//! that leave while they wait (`limits`), stalls and half heads (`metrics`), SIGTERM (`program`).
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::MockConfig;
use loadtest::mock::faults::{Action, Fault};
use loadtest::mock::settings::OnAccept;
use loadtest::mock::tls::Tls;
use support::http::{Answer, Client};
use support::program::Program;
use support::{Pair, SHAPES, Shape, TOKEN, request};

const CHANNEL: u64 = 203_039_963_636_301_824;

/// What a request takes when nothing is wrong, on a machine that has other things to do.
const NORMAL: Duration = Duration::from_millis(1_000);

/// Short, so that a hanging upstream does not hold a test up.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(400);

/// The number of the next request; the oracle tells by it whether one is processed twice.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A request of a method to the same bucket of its own.
fn numbered(method: &str) -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = format!("/api/v10/channels/{CHANNEL}/messages?request={number}");
    let body = if method == "GET" { "" } else { "{}" };
    request(method, &path, body)
}

fn start(shape: Shape) -> Pair {
    Pair::with(shape, MockConfig::default(), |config| {
        config.request_timeout = REQUEST_TIMEOUT;
    })
}

/// Runs a test in all shapes at once: most of its time is waiting.
fn in_each_shape(test: impl Fn(Shape) + Sync) {
    thread::scope(|scope| {
        for shape in SHAPES {
            let test = &test;
            scope.spawn(move || test(shape));
        }
    });
}

/// What the next request of a bucket takes after one of which nothing was heard: a second more where
/// nothing is known of the bucket yet, for the one that was lost may have taken its only slot.
fn after_a_loss(known: bool) -> Duration {
    let hold = Duration::from_secs(u64::from(!known));
    NORMAL + hold
}

/// The bucket's next request is answered in its normal time, and nothing was sent twice that must
/// not be.
fn moves_on(pair: &Pair, method: &str, what: &str) {
    moves_on_within(pair, method, what, NORMAL);
}

fn moves_on_within(pair: &Pair, method: &str, what: &str, normal: Duration) {
    pair.mock.set_faults(Vec::new());
    let began = Instant::now();
    let answer = pair.ask(&numbered(method));
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    let took = began.elapsed();
    assert!(took < normal, "{what}: {took:?}");
    let report = pair.mock.oracle();
    assert_eq!(report.once.repeated_unsafe, 0, "{what}: {report:?}");
    assert_eq!((report.violations, report.malformed), (0, 0), "{what}");
}

/// Faults of one answer that the client gets none of, each with what weir says instead.
fn unanswered() -> Vec<(Action, u16)> {
    let two_lengths = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk";
    vec![
        (Action::CloseUnprocessed, 502),
        (Action::ResetUnprocessed, 502),
        (Action::CloseAfter { bytes: 0 }, 502),
        (Action::ResetAfter { bytes: 0 }, 502),
        (Action::CloseAfter { bytes: 60 }, 502),
        (Action::ResetAfter { bytes: 60 }, 502),
        (Action::HalfHead, 502),
        (Action::Garbage { bytes: 300 }, 502),
        (
            Action::Raw {
                text: two_lengths.to_owned(),
                close: false,
            },
            502,
        ),
        (Action::Hang { bytes: 0 }, 408),
        (Action::Hang { bytes: 60 }, 408),
    ]
}

#[test]
fn an_unsafe_request_whose_answer_fails_is_told_so_once_and_its_bucket_moves_on() {
    in_each_shape(|shape| {
        for (action, status) in unanswered() {
            for warm in [false, true] {
                let pair = start(shape);
                let what = format!("{shape:?} {action:?} warm {warm}");
                if warm {
                    // A pooled connection: the fault strikes where a safe request would be repeated.
                    assert_eq!(pair.ask(&numbered("POST")).status, 200, "{what}");
                }
                let before = pair.mock.oracle().requests;
                pair.mock
                    .set_faults(vec![Fault::from(action.clone()).times(1)]);
                let answer = pair.ask(&numbered("POST"));
                assert_eq!(answer.status, status, "{what}: {}", answer.text());
                assert_eq!(answer.header("generated-by-proxy"), Some("true"), "{what}");
                let sent = pair.mock.oracle().requests - before;
                assert_eq!(sent, 1, "{what}: it is sent once");
                moves_on_within(&pair, "POST", &what, after_a_loss(warm));
            }
        }
    });
}

#[test]
fn a_safe_request_is_sent_again_where_a_pooled_connection_failed_and_nowhere_else() {
    in_each_shape(|shape| {
        for (action, status) in unanswered() {
            // What says nothing at all, or breaks off, may be a connection that was dead before.
            let again = !matches!(
                action,
                Action::Hang { .. } | Action::Raw { .. } | Action::Garbage { .. }
            );
            for warm in [false, true] {
                let pair = start(shape);
                let what = format!("{shape:?} {action:?} warm {warm}");
                if warm {
                    assert_eq!(pair.ask(&numbered("GET")).status, 200, "{what}");
                    // Pools are per worker: a connection of the other one's would be a fresh one.
                    if shape.workers > 1 {
                        continue;
                    }
                }
                pair.mock
                    .set_faults(vec![Fault::from(action.clone()).times(1)]);
                let answer = pair.ask(&numbered("GET"));
                let expected = if warm && again { 200 } else { status };
                assert_eq!(answer.status, expected, "{what}: {}", answer.text());
                moves_on_within(&pair, "GET", &what, after_a_loss(warm));
            }
        }
    });
}

#[test]
fn a_request_that_is_sent_again_counts_twice_where_the_upstream_counted_it() {
    for shape in SHAPES.into_iter().filter(|shape| shape.workers == 1) {
        let pair = start(shape);
        let first = pair.ask(&numbered("GET"));
        let limit: u32 = first.header("X-RateLimit-Limit").unwrap().parse().unwrap();
        let lost = Fault::from(Action::CloseAfter { bytes: 0 }).times(1);
        pair.mock.set_faults(vec![lost]);
        for _ in 1..limit {
            assert_eq!(pair.ask(&numbered("GET")).status, 200, "{shape:?}");
        }
        let report = pair.mock.oracle();
        assert_eq!(report.violations, 0, "{shape:?}: {report:?}");
    }
}

/// Requests of each client in a race.
const ASKED: u64 = 36;

/// Requests one after the other by some clients at once, on buckets of their own, to an upstream
/// that closes each connection after some answers, just when the next request is on its way.
fn race(shape: Shape, close_delay_ms: u64, method: &'static str) -> (Vec<u16>, Pair) {
    let mut mock = MockConfig::default();
    mock.settings.limits.enforce = false;
    mock.settings.connections.close_after_requests = Some(3);
    mock.settings.connections.close_delay_ms = close_delay_ms;
    let pair = Pair::with(shape, mock, |_| ());
    let addr = pair.addr();
    let clients: Vec<_> = (0..4u64)
        .map(|n| {
            thread::spawn(move || {
                let mut client = Client::connect(addr);
                let ask = |client: &mut Client| {
                    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                    let id = CHANNEL + n * 1_000;
                    let path = format!("/api/v10/channels/{id}/messages?request={number}");
                    let body = if method == "GET" { "" } else { "{}" };
                    client.ask(&request(method, &path, body)).status
                };
                (0..ASKED).map(|_| ask(&mut client)).collect::<Vec<u16>>()
            })
        })
        .collect();
    let statuses = clients.into_iter().flat_map(|c| c.join().unwrap());
    (statuses.collect(), pair)
}

#[test]
fn connections_that_close_while_a_request_is_on_its_way_lose_no_safe_one_and_repeat_no_other() {
    let mut raced = 0;
    for shape in SHAPES {
        // At once, and while what comes next lies unread.
        for close_delay_ms in [0, 2] {
            let (statuses, pair) = race(shape, close_delay_ms, "GET");
            let lost = statuses.iter().filter(|&&s| s != 200).count();
            assert_eq!(lost, 0, "{shape:?}, {close_delay_ms} ms");
            assert!(
                pair.mock.oracle().connections.opened >= 4 * ASKED / 3,
                "{shape:?}"
            );

            let (statuses, pair) = race(shape, close_delay_ms, "POST");
            let report = pair.mock.oracle();
            assert_eq!(report.once.repeated_unsafe, 0, "{shape:?}");
            let served = statuses.iter().filter(|&&s| s == 200).count() as u64;
            // What was processed was also answered: these connections close between two requests.
            assert_eq!(
                report.once.processed, served,
                "{shape:?}, {close_delay_ms} ms"
            );
            let told = statuses.iter().filter(|&&s| s == 502).count() as u64;
            assert_eq!(served + told, 4 * ASKED, "{shape:?}, {close_delay_ms} ms");
            raced += told;
        }
    }
    assert!(
        raced > 0,
        "no request was on its way when its connection closed"
    );
}

#[test]
fn an_upstream_that_is_gone_is_told_at_once_and_its_return_is_noticed_at_once() {
    for shape in SHAPES {
        let pair = start(shape);
        assert_eq!(pair.ask(&numbered("POST")).status, 200);
        pair.mock.set_listening(false);
        pair.mock.close_connections();
        thread::sleep(Duration::from_millis(100));
        for method in ["POST", "GET"] {
            let began = Instant::now();
            let answer = pair.ask(&numbered(method));
            assert_eq!(answer.status, 502, "{shape:?}: {}", answer.text());
            assert!(began.elapsed() < NORMAL, "{shape:?}: {:?}", began.elapsed());
        }
        pair.mock.set_listening(true);
        thread::sleep(Duration::from_millis(100));
        moves_on(&pair, "POST", &format!("{shape:?}"));
    }
}

#[test]
fn connects_that_are_closed_reset_or_never_answered_fail_in_time_and_the_bucket_moves_on() {
    for shape in SHAPES {
        for on_accept in [OnAccept::Close, OnAccept::Reset, OnAccept::Hang] {
            let pair = start(shape);
            let what = format!("{shape:?} {on_accept:?}");
            let set = |on_accept| {
                let mut settings = pair.mock.settings();
                settings.connections.on_accept = on_accept;
                pair.mock.set_settings(settings);
            };
            set(on_accept);
            let began = Instant::now();
            let answer = pair.ask(&numbered("POST"));
            assert_eq!(answer.status, 502, "{what}: {}", answer.text());
            // Opening a connection may take 4 s.
            assert!(began.elapsed() < Duration::from_secs(6), "{what}");
            set(OnAccept::Serve);
            moves_on(&pair, "POST", &what);
        }
    }
}

#[test]
fn an_expired_certificate_is_502_that_names_the_certificate_and_nothing_is_sent() {
    for shape in SHAPES {
        let mock = MockConfig {
            tls: Tls::Expired,
            ..MockConfig::default()
        };
        let pair = Pair::with(shape, mock, |_| ());
        let answer = pair.ask(&numbered("POST"));
        assert_eq!(answer.status, 502);
        let text = answer.text();
        assert!(text.contains("certificate is not valid"), "{text}");
        assert_eq!(pair.mock.oracle().requests, 0);
    }
}

#[test]
fn a_name_that_cannot_be_looked_up_is_502_at_once_and_weir_serves_on() {
    let mut config = support::config("https://does-not-exist.invalid", None);
    config.workers = Some(2);
    let weir = weir::start(config).unwrap();
    for _ in 0..2 {
        let began = Instant::now();
        let answer = Client::connect(weir.proxy_addr()).ask(&numbered("POST"));
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert!(began.elapsed() < NORMAL, "{:?}", began.elapsed());
    }
    let health = "GET /nirn/healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(Client::connect(weir.proxy_addr()).ask(health).status, 200);
}

#[test]
fn a_client_that_leaves_with_a_permit_in_hand_does_not_hold_its_bucket() {
    for shape in SHAPES {
        let mut mock = MockConfig::default();
        mock.settings.latency_ms = 200.0;
        let pair = Pair::with(shape, mock, |_| ());
        // Warm, so that the lane is a bucket of its own.
        assert_eq!(pair.ask(&numbered("POST")).status, 200);
        let body = |bytes: usize, sent: usize| {
            format!(
                "POST /api/v10/channels/{CHANNEL}/messages HTTP/1.1\r\nHost: x\r\n\
                 Authorization: {TOKEN}\r\nContent-Length: {bytes}\r\n\r\n{}",
                "x".repeat(sent)
            )
        };
        // Its answer is under way; in a small body; in one that streams.
        for (what, bytes) in [
            ("its answer", numbered("POST")),
            ("a small body", body(1_000, 10)),
            ("a large body", body(300_000, 100_000)),
        ] {
            let mut leaving = Client::connect(pair.addr());
            leaving.send(bytes);
            thread::sleep(Duration::from_millis(100));
            drop(leaving);
            moves_on(&pair, "POST", &format!("{shape:?} {what}"));
        }
    }
}

#[test]
fn the_bound_on_waiting_requests_is_met_by_503_and_those_that_wait_are_served() {
    for shape in SHAPES {
        let pair = Pair::with(shape, MockConfig::default(), |config| {
            config.max_waiting = 4 * shape.workers;
            config.max_waiting_per_bucket = 4;
        });
        let addr = pair.addr();
        let clients: Vec<_> = (0..20)
            .map(|_| thread::spawn(move || Client::connect(addr).ask(&numbered("POST"))))
            .collect();
        let answers: Vec<Answer> = clients.into_iter().map(|c| c.join().unwrap()).collect();
        let of = |status| answers.iter().filter(|a| a.status == status).count();
        let refused: Vec<_> = answers.iter().filter(|a| a.status != 200).collect();
        assert!(
            of(200) >= 5 && !refused.is_empty(),
            "{shape:?}: {}",
            of(200)
        );
        for answer in refused {
            assert!(matches!(answer.status, 429 | 503), "{}", answer.status);
            assert_eq!(answer.header("generated-by-proxy"), Some("true"));
            assert!(answer.header("retry-after").is_some(), "{}", answer.text());
        }
        // The bucket holds five, a slot a second: it is open again after one.
        thread::sleep(Duration::from_millis(1_100));
        moves_on(&pair, "POST", &format!("{shape:?}"));
    }
}

#[test]
fn without_descriptors_requests_fail_by_themselves_and_all_is_well_when_there_are_some() {
    for driver in ["auto", "epoll"] {
        let mock = loadtest::mock::start(MockConfig::default()).unwrap();
        let variables = [("WORKERS", "1"), ("IO_DRIVER", driver)];
        let weir = Program::start_with(&mock, &variables, |command| {
            use std::os::unix::process::CommandExt;
            // SAFETY: one system call between fork and exec; nothing is allocated or locked.
            unsafe {
                command.pre_exec(|| {
                    let limit = libc::rlimit {
                        rlim_cur: 40,
                        rlim_max: 40,
                    };
                    match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
                        0 => Ok(()),
                        _ => Err(std::io::Error::last_os_error()),
                    }
                });
            }
        });
        let mut first = Client::connect(weir.proxy);
        let health = "GET /nirn/healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(first.ask(health).status, 200);
        // Accepted or left in the kernel's queue, until there is no descriptor for the upstream.
        let crowd: Vec<_> = (0..60).map(|_| Client::connect(weir.proxy)).collect();
        thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        let answer = first.ask(&numbered("POST"));
        assert_eq!(answer.status, 502, "{driver}: {}", answer.text());
        assert!(began.elapsed() < NORMAL, "{driver}");
        assert_eq!(
            first.ask(health).status,
            200,
            "{driver}: who is in is served"
        );
        drop(crowd);
        thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        assert_eq!(first.ask(&numbered("POST")).status, 200, "{driver}");
        assert_eq!(
            Client::connect(weir.proxy).ask(health).status,
            200,
            "{driver}"
        );
        assert!(began.elapsed() < NORMAL, "{driver}");
    }
}

#[test]
fn sigterm_under_load_answers_every_request_that_was_taken() {
    for driver in ["auto", "epoll"] {
        let mut config = MockConfig::default();
        config.settings.limits.enforce = false;
        config.settings.latency_ms = 20.0;
        let mock = loadtest::mock::start(config).unwrap();
        let mut weir = Program::start(&mock, &[("WORKERS", "2"), ("IO_DRIVER", driver)]);
        let (addr, told) = (weir.proxy, Arc::new(AtomicBool::new(false)));
        let clients: Vec<_> = (0..32u64)
            .map(|n| {
                let told = told.clone();
                thread::spawn(move || {
                    let mut client = Client::connect(addr);
                    let path = format!("/api/v10/channels/{}/messages", CHANNEL + n * 1_000);
                    let mut answered = 0;
                    loop {
                        client.send(request("POST", &path, "{}"));
                        let Some(answer) = client.try_answer(false) else {
                            return (answered, false);
                        };
                        answered += u64::from(answer.status == 200);
                        if answer.header("connection") == Some("close") {
                            return (answered, answer.status == 200);
                        }
                        assert!(!told.load(Ordering::Relaxed) || answer.status == 200);
                    }
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(500));
        told.store(true, Ordering::Relaxed);
        weir.signal("TERM");
        let ends: Vec<_> = clients.into_iter().map(|c| c.join().unwrap()).collect();
        let answered: u64 = ends.iter().map(|(answered, _)| answered).sum();
        let clean = ends.iter().filter(|(_, clean)| *clean).count();
        assert_eq!(
            clean, 32,
            "{driver}: each connection ended behind an answer"
        );
        assert_eq!(
            weir.wait(Duration::from_secs(5)).code(),
            Some(0),
            "{driver}"
        );
        assert_eq!(mock.oracle().requests, answered, "{driver}: none was lost");
    }
}
