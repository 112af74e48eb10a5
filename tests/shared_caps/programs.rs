//! Three weirs, a real Redis, 500 clients: what the host sees.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::{self, MockConfig, MockHandle};

use crate::redis_server::Redis;
use crate::stage::{PATIENCE, eventually};
use crate::support::http::Client;
use crate::support::program::Program;
use crate::support::target::Target;

const CAP: usize = 25;
const CLIENTS: usize = 500;

/// What `REDIS_MAX_LIFETIME` is where somebody is killed.
const LIFE: Duration = Duration::from_secs(2);

struct Fleet {
    redis: Redis,
    weirs: Vec<Program>,
    _mock: MockHandle,
}

impl Fleet {
    /// Three of them, which share their caps already.
    fn start(queue_timeout_ms: &str) -> Self {
        let redis = Redis::start(&[]);
        let address = format!("unix://{}", redis.socket().display());
        let life = LIFE.as_millis().to_string();
        let mock = mock::start(MockConfig::default()).unwrap();
        let start = |_| {
            Program::start(
                &mock,
                &[
                    ("WORKERS", "2"),
                    ("FORWARD_PORT", "0"),
                    ("FORWARD_ALLOW", "127.0.0.0/8"),
                    ("FORWARD_MAX_CONNECTIONS", &CAP.to_string()),
                    ("FORWARD_QUEUE_TIMEOUT", queue_timeout_ms),
                    ("REDIS_ADDR", &address),
                    ("REDIS_MAX_LIFETIME", &life),
                ],
            )
        };
        let fleet = Self {
            weirs: (0..3).map(start).collect(),
            redis,
            _mock: mock,
        };
        fleet.share();
        fleet
    }

    /// Waits until they share.
    fn share(&self) {
        for weir in &self.weirs {
            eventually("they share", || {
                let text = Client::connect(weir.metrics)
                    .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                    .text();
                let count = self.weirs.len();
                text.contains("weir_forward_redis_standing{standing=\"shared\"} 1")
                    && text.contains(&format!(
                        "weir_forward_redis_proxies{{kind=\"weir\"}} {count}\n"
                    ))
            });
        }
    }

    fn proxy(&self, nth: usize) -> SocketAddr {
        self.weirs[nth % self.weirs.len()].forward.unwrap()
    }
}

/// A tunnel, or the status of who says no; an error if the proxy is not there.
fn open(proxy: SocketAddr, target: SocketAddr) -> std::io::Result<Result<TcpStream, u16>> {
    let mut stream = TcpStream::connect(proxy)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
    )?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(match status.expect("a status") {
        200 => Ok(stream),
        other => Err(other),
    })
}

/// 500 clients at once, each of which asks until it is served, while `meanwhile` is done.
fn crowd(fleet: &mut Fleet, target: &Target, meanwhile: impl FnOnce(&mut Fleet, &AtomicUsize)) {
    let (served, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let proxies: Vec<SocketAddr> = (0..3).map(|nth| fleet.proxy(nth)).collect();
    thread::scope(|scope| {
        for nth in 0..CLIENTS {
            let (proxies, served, over) = (&proxies, &served, &over);
            let run = move || {
                for attempt in nth.. {
                    if let Ok(Ok(mut stream)) = open(proxies[attempt % 3], target.addr) {
                        let mut said = Vec::new();
                        // One that is killed meanwhile says less.
                        if stream.read_to_end(&mut said).is_ok() && said == b"hello" {
                            served.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                    }
                    assert!(!over.load(Ordering::SeqCst), "{nth} was not served");
                    thread::sleep(Duration::from_millis(20));
                }
            };
            let build = thread::Builder::new().stack_size(128 * 1024);
            build.spawn_scoped(scope, run).unwrap();
        }
        meanwhile(fleet, &served);
        let until = Instant::now() + 2 * PATIENCE;
        while served.load(Ordering::SeqCst) < CLIENTS && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        over.store(true, Ordering::SeqCst);
    });
    assert_eq!(served.into_inner(), CLIENTS);
}

/// So many can be opened over all proxies in turn, and no more.
fn fills_to_the_cap(fleet: &Fleet, target: &Target) {
    let mut held = Vec::new();
    eventually("the cap is met", || {
        for nth in 0..3 {
            held.extend(open(fleet.proxy(nth), target.addr).unwrap());
        }
        held.len() >= CAP
    });
    assert_eq!(held.len(), CAP);
    for nth in 0..3 {
        assert_eq!(
            open(fleet.proxy(nth), target.addr).unwrap().err(),
            Some(500)
        );
    }
    drop(held);
    eventually("all are back", || fleet.redis.total() == 0);
}

#[test]
fn of_500_clients_at_once_over_three_weirs_never_more_than_25_are_at_the_host() {
    let mut fleet = Fleet::start("60000");
    let target = Target::brief(Duration::from_millis(5));
    crowd(&mut fleet, &target, |_, _| ());
    assert_eq!(target.ever(), CLIENTS, "nobody had to ask twice");
    assert!(target.most() <= CAP, "{} at once", target.most());
    assert!(target.most() >= 10, "{} use the cap", target.most());
    eventually("all places are back", || fleet.redis.total() == 0);
    for weir in &mut fleet.weirs {
        weir.signal("TERM");
        assert!(weir.wait(PATIENCE).success());
    }
    assert!(fleet.redis.counters().is_empty());
}

#[test]
fn the_places_of_a_weir_that_is_killed_come_back_within_the_life_of_its_counters() {
    let mut fleet = Fleet::start("100");
    let target = Target::echo();
    let held: Vec<_> = (0..20)
        .map(|_| open(fleet.proxy(0), target.addr).unwrap().unwrap())
        .collect();
    thread::sleep(LIFE * 3 / 2);
    assert_eq!(fleet.redis.total(), 20, "renewed for as long as it lives");
    // Dropped, it is killed.
    drop(fleet.weirs.remove(0));
    let killed = Instant::now();
    drop(held);
    eventually("the host has seen that", || target.now() == 0);
    let mut open_now = Vec::new();
    eventually("its places are free", || {
        for nth in 0..2 {
            open_now.extend(open(fleet.proxy(nth), target.addr).unwrap());
        }
        open_now.len() == CAP
    });
    let took = killed.elapsed();
    assert!(took <= LIFE + Duration::from_secs(3), "{took:?}");
    assert!(target.most() <= CAP);
    assert_eq!(fleet.redis.total(), 25);
}

#[test]
fn under_load_neither_a_killed_weir_nor_a_redis_that_starts_anew_stops_or_leaks_anything() {
    let mut fleet = Fleet::start("1000");
    let target = Target::brief(Duration::from_millis(40));
    crowd(&mut fleet, &target, |fleet, served| {
        eventually("some are served", || served.load(Ordering::SeqCst) > 50);
        fleet.redis.kill();
        thread::sleep(Duration::from_millis(200));
        fleet.redis.run();
        eventually("more are", || served.load(Ordering::SeqCst) > 200);
        let before = target.most();
        // While Redis is away each keeps to its part: what was open and the parts of those who had less.
        assert!(before < 2 * CAP, "{before} at once");
        drop(fleet.weirs.remove(0));
    });
    assert!(target.most() < 2 * CAP, "{} at once", target.most());
    eventually("all places are back", || fleet.redis.total() == 0);
    let target = Target::echo();
    fills_to_the_cap(&fleet, &target);
    assert!(target.most() <= CAP);
}
