//! What the end-to-end tests share: a mock Discord, a weir in front of it, and a client that shows
//! every byte.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

pub mod cluster;
pub mod http;
pub mod program;
pub mod queue;
pub mod target;
pub mod tls;
pub mod upstream;
pub mod vectors;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::{self, MockConfig, MockHandle};
use weir::config::IoDriver;
use weir::{Config, Handle};

/// A token whose first part is the base64 of the user id 203039963636301824.
pub const TOKEN: &str =
    "Bot MjAzMDM5OTYzNjM2MzAxODI0.GGGGGG.abcdefghijklmnopqrstuvwxyz0123456789AB";

/// A mock Discord and a weir that points at it.
pub struct Pair {
    pub mock: MockHandle,
    pub weir: Handle,
}

/// How many workers, on which driver.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub workers: usize,
    pub driver: IoDriver,
}

/// Every shape that the tests of behaviour run in.
pub const SHAPES: [Shape; 3] = [
    Shape {
        workers: 1,
        driver: IoDriver::Auto,
    },
    Shape {
        workers: 2,
        driver: IoDriver::Auto,
    },
    Shape {
        workers: 2,
        driver: IoDriver::Epoll,
    },
];

impl Pair {
    /// A default mock over TLS, and a weir of this shape.
    pub fn start(shape: Shape) -> Self {
        Self::with(shape, MockConfig::default(), |_| ())
    }

    /// A mock of this configuration, and a weir whose configuration `change` has the last word on.
    pub fn with(shape: Shape, mock: MockConfig, change: impl FnOnce(&mut Config)) -> Self {
        let mock = mock::start(mock).expect("the mock starts");
        let mut config = config(&mock.url(), ca_file(&mock));
        config.workers = Some(shape.workers);
        config.io_driver = shape.driver;
        change(&mut config);
        let weir = weir::start(config).expect("weir starts");
        Self { mock, weir }
    }

    pub fn addr(&self) -> SocketAddr {
        self.weir.proxy_addr()
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: &str) -> http::Answer {
        http::Client::connect(self.addr()).ask(request)
    }

    /// Waits until weir has read `count` requests, answered ones included.
    pub fn wait_until_read(&self, count: usize) {
        let metrics = self.weir.metrics_addr().expect("metrics are on");
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let mut client = http::Client::connect(metrics);
            let text = client
                .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                .text();
            let sum = |name: &str| -> usize {
                let lines = text.lines().filter(|line| line.starts_with(name));
                let values =
                    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
                values.sum()
            };
            let read = sum("nirn_proxy_requests_count") + sum("nirn_proxy_open_connections{");
            if read >= count {
                return;
            }
            assert!(
                Instant::now() < until,
                "weir has read {read} of {count} requests"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The 429s that the mock had to give, and the messages that came out of order.
    pub fn violations(&self) -> u64 {
        self.mock.oracle().violations
    }
}

/// A configuration for tests: loopback, ports of the system's choice.
pub fn config(upstream: &str, ca_file: Option<PathBuf>) -> Config {
    Config {
        bind_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        metrics_port: 0,
        upstream: upstream.parse().expect("an upstream URL"),
        upstream_ca_file: ca_file,
        shutdown_timeout: Duration::from_secs(5),
        // weir's own requests would be among those that tests count.
        disable_global_ratelimit_detection: true,
        ..Config::default()
    }
}

/// The mock's authority in a file of its own; `None` if it speaks plain HTTP.
pub fn ca_file(mock: &MockHandle) -> Option<PathBuf> {
    (!mock.ca_pem.is_empty()).then(|| pem_file(&mock.ca_pem))
}

/// A file of its own with this in it.
pub fn pem_file(pem: &str) -> PathBuf {
    static FILES: AtomicU64 = AtomicU64::new(0);
    let name = format!(
        "ca-{}-{}.pem",
        std::process::id(),
        FILES.fetch_add(1, Ordering::Relaxed)
    );
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, pem).expect("the CA file is written");
    path
}

/// A request with the usual headers of a bot.
pub fn request(method: &str, path: &str, body: &str) -> String {
    let length = match (method, body) {
        ("GET" | "HEAD" | "DELETE", "") => String::new(),
        _ => format!(
            "Content-Length: {}\r\nContent-Type: application/json\r\n",
            body.len()
        ),
    };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: weir\r\nAuthorization: {TOKEN}\r\n\
         User-Agent: DiscordBot (test, 1)\r\n{length}\r\n{body}"
    )
}

/// Resident memory of this process in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number");
    kib * 1024
}
