//! A weir that serves the identify queue, and shards that ask it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::http::{Answer, Client};
use loadtest::mock::settings::{GatewaySettings, Settings};
use loadtest::mock::{self, MockConfig, MockHandle};
use weir::{Config, Handle};

/// What a shard that may go is told.
pub const FREE: &str = "{\"message\": \"You're free to connect now! :)\"}";

/// A mock Discord, and a weir that serves the queue.
pub struct Stage {
    pub mock: MockHandle,
    pub weir: Handle,
}

impl Stage {
    /// A bot of this `max_concurrency`, with all of its 1,000 starts.
    pub fn start(max_concurrency: u32) -> Self {
        Self::with(
            GatewaySettings {
                max_concurrency,
                ..GatewaySettings::default()
            },
            |_| (),
        )
    }

    pub fn with(gateway: GatewaySettings, change: impl FnOnce(&mut Config)) -> Self {
        let mock = mock::start(MockConfig {
            settings: Settings {
                gateway,
                ..Settings::default()
            },
            ..MockConfig::default()
        })
        .expect("the mock starts");
        let mut config = super::config(&mock.url(), super::ca_file(&mock));
        config.workers = Some(2);
        config.gateway_queue_port = Some(0);
        change(&mut config);
        let weir = weir::start(config).expect("weir starts");
        Self { mock, weir }
    }

    pub fn queue(&self) -> SocketAddr {
        self.weir.gateway_queue_addr().expect("the queue is served")
    }

    /// Asks on a connection of its own, without waiting.
    pub fn ask(&self, target: &str) -> Client {
        ask(self.queue(), target)
    }

    pub fn metrics(&self) -> String {
        let addr = self.weir.metrics_addr().expect("metrics are on");
        let mut client = Client::connect(addr);
        client
            .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .text()
    }

    /// Waits until so many shards wait.
    pub fn wait_for_waiting(&self, count: usize) {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let text = self.metrics();
            let waiting = sum(&text, "weir_identify_waiting{");
            if waiting == count as f64 {
                return;
            }
            assert!(Instant::now() < until, "{waiting} wait, not {count}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The sum of all samples whose line begins so.
pub fn sum(metrics: &str, start: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(start));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

pub fn ask(queue: SocketAddr, target: &str) -> Client {
    let mut client = Client::connect(queue);
    client.send(request(target));
    client
}

/// A request of the bot of the tests.
pub fn request(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: queue\r\nAuthorization: {}\r\n\r\n",
        super::TOKEN
    )
}

pub fn assert_free(answer: &Answer) {
    assert_eq!((answer.status, answer.text().as_str()), (200, FREE));
}
