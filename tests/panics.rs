//! A panic takes down its own request, or the whole process at once; nothing hangs in between.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

mod support;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::{self, MockConfig};
use support::http::Client;
use support::program::Program;
use support::request;

const CHANNEL: u64 = 203_039_963_636_301_824;

/// Both drivers, each with two workers.
const DRIVERS: [&str; 2] = ["auto", "epoll"];

fn post(seq: usize) -> String {
    let path = format!("/api/v10/channels/{CHANNEL}/messages");
    request("POST", &path, &format!(r#"{{"content":"seq:{seq}"}}"#))
}

/// The same request, asking for a panic at `place`.
fn planted(request: &str, place: &str) -> String {
    request.replacen("\r\n", &format!("\r\nx-planted-panic: {place}\r\n"), 1)
}

#[test]
fn a_panic_in_a_connection_ends_that_connection_and_no_other() {
    for driver in DRIVERS {
        let mock = mock::start(MockConfig::default()).unwrap();
        let mut weir = Program::start(&mock, &[("WORKERS", "2"), ("IO_DRIVER", driver)]);
        let mut bystanders: Vec<_> = (0..8).map(|_| Client::connect(weir.proxy)).collect();
        for _ in 0..20 {
            let mut client = Client::connect(weir.proxy);
            client.send(planted(&post(0), "connection"));
            assert!(client.try_answer(false).is_none(), "{driver}: it is gone");
        }
        // On both workers, and in the bucket of the request that panicked: nothing is held there.
        let began = Instant::now();
        for (seq, client) in bystanders.iter_mut().take(5).enumerate() {
            assert_eq!(client.ask(&post(seq)).status, 200, "{driver}");
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{driver}");
        for client in &mut bystanders {
            let ask = request("GET", "/api/v10/gateway", "");
            assert_eq!(client.ask(&ask).status, 200, "{driver}");
        }
        let text = Client::connect(weir.metrics)
            .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .text();
        let gauge = |name: &str| -> u64 {
            let lines = text.lines().filter(|line| line.starts_with(name));
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .sum()
        };
        assert_eq!(gauge("nirn_proxy_open_connections{"), 0, "{driver}");
        assert_eq!(gauge("weir_client_connections "), 8, "{driver}");
        assert_eq!(gauge("nirn_proxy_error "), 20, "{driver}");
        assert_eq!(mock.oracle().violations, 0);
        drop(bystanders);
        weir.signal("TERM");
        assert_eq!(
            weir.wait(Duration::from_secs(5)).code(),
            Some(0),
            "{driver}"
        );
        let log = weir.log_lines().join("\n");
        assert!(log.contains("a connection ended in a panic"), "{log}");
    }
}

/// Starts weir with requests under way and waiting on both workers, has one panic at `place`, and
/// returns how long the process took to end, with what it logged.
fn ends_at(place: &str, driver: &str) -> (Duration, String) {
    let mut config = MockConfig::default();
    config.settings.latency_ms = 400.0;
    let mock = mock::start(config).unwrap();
    let variables = [("WORKERS", "2"), ("IO_DRIVER", driver)];
    let mut weir = Program::start_with(&mock, &variables, |command: &mut Command| {
        // No core that could hold a token, whatever happens.
        command.env("RUST_BACKTRACE", "0");
    });
    let mut others: Vec<_> = (0..12).map(|_| Client::connect(weir.proxy)).collect();
    for (seq, client) in others.iter_mut().enumerate() {
        client.send(post(seq));
    }
    thread::sleep(Duration::from_millis(200));
    let mut client = Client::connect(weir.proxy);
    let began = Instant::now();
    client.send(planted(&request("GET", "/api/v10/gateway", ""), place));
    let status = weir.wait(Duration::from_secs(5));
    let took = began.elapsed();
    assert_eq!(status.code(), Some(1), "{place}, {driver}");
    // Nobody is left hanging.
    for client in &mut others {
        while client.try_answer(false).is_some() {}
    }
    thread::sleep(Duration::from_millis(50));
    (took, weir.log_lines().join("\n"))
}

#[test]
fn a_panic_under_a_shards_lock_ends_the_process_at_once() {
    for driver in DRIVERS {
        let (took, log) = ends_at("shard", driver);
        assert!(took < Duration::from_millis(500), "{driver}: {took:?}");
        assert!(log.contains("planted under a shard's lock"), "{log}");
        assert!(log.contains("the limiter's state unknown"), "{log}");
    }
}

#[test]
fn a_panic_of_a_worker_outside_its_connections_ends_the_process() {
    for driver in DRIVERS {
        let (took, log) = ends_at("worker", driver);
        assert!(took < Duration::from_secs(2), "{driver}: {took:?}");
        assert!(log.contains("planted outside a connection"), "{log}");
    }
}

#[test]
fn the_watchdog_hears_of_weir_as_long_as_no_worker_is_stuck() {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("watchdog-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    // Whether there is a sign of life within a second and a half; the start's is another.
    let alive = || {
        let until = Instant::now() + Duration::from_millis(1_500);
        let mut text = [0; 512];
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            socket
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .unwrap();
            let len = socket.recv(&mut text).unwrap_or(0);
            if text[..len].starts_with(b"WATCHDOG=1") {
                return true;
            }
        }
        false
    };
    let mock = mock::start(MockConfig::default()).unwrap();
    let notified = path.to_string_lossy();
    let variables = [
        ("WORKERS", "2"),
        ("NOTIFY_SOCKET", &*notified),
        ("WATCHDOG_USEC", "600000"),
    ];
    let weir = Program::start(&mock, &variables);
    // Nobody asks anything meanwhile: a worker that sleeps is not stuck.
    for _ in 0..5 {
        assert!(alive());
    }
    let mut client = Client::connect(weir.proxy);
    client.send(planted(&post(0), "stuck"));
    thread::sleep(Duration::from_millis(1_000));
    while socket_has(&socket) {}
    assert!(!alive(), "one of two workers does nothing any more");
    drop(weir);
    fs::remove_dir_all(&folder).unwrap();
}

/// Takes a message that is there, if there is one.
fn socket_has(socket: &UnixDatagram) -> bool {
    socket
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    socket.recv(&mut [0; 512]).is_ok()
}

#[test]
fn a_panic_in_a_tunnel_gives_its_slot_back() {
    for driver in DRIVERS {
        let mock = mock::start(MockConfig::default()).unwrap();
        let target = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = target.local_addr().unwrap();
        thread::spawn(move || target.incoming().map_while(Result::ok).collect::<Vec<_>>());
        let weir = Program::start(
            &mock,
            &[
                ("WORKERS", "1"),
                ("IO_DRIVER", driver),
                ("FORWARD_PORT", "0"),
                ("FORWARD_ALLOW", "127.0.0.0/8"),
                ("FORWARD_MAX_CONNECTIONS", "1"),
                ("FORWARD_QUEUE_TIMEOUT", "5000"),
            ],
        );
        let forward = weir.forward.unwrap();
        let connect = format!("CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
        for _ in 0..5 {
            let mut client = Client::connect(forward);
            client.send(format!("{connect}x-planted-panic: connection\r\n"));
            // The slot of the one before is there again, or it would wait and be told 500.
            assert_eq!(client.answer(true).status, 200, "{driver}");
            client.rest();
        }
        let mut client = Client::connect(forward);
        client.send(&connect);
        assert_eq!(client.answer(true).status, 200, "{driver}");
    }
}
