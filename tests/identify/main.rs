//! The identify queue, from the outside: over HTTP, from many processes, by real clients.

#[path = "../support/mod.rs"]
mod support;

mod bot;
mod door;
mod fleet;
mod twilight;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use loadtest::mock::settings::{GatewaySettings, Settings};
use loadtest::mock::{self, MockConfig, MockHandle};
use support::http::{Answer, Client};
use weir::{Config, Handle};

/// What a shard that may go is told.
const FREE: &str = "{\"message\": \"You're free to connect now! :)\"}";

/// A mock Discord, and a weir that serves the queue.
struct Stage {
    mock: MockHandle,
    weir: Handle,
}

impl Stage {
    /// A bot of this `max_concurrency`, with all of its 1,000 starts.
    fn start(max_concurrency: u32) -> Self {
        Self::with(
            GatewaySettings {
                max_concurrency,
                ..GatewaySettings::default()
            },
            |_| (),
        )
    }

    fn with(gateway: GatewaySettings, change: impl FnOnce(&mut Config)) -> Self {
        let mock = mock::start(MockConfig {
            settings: Settings {
                gateway,
                ..Settings::default()
            },
            ..MockConfig::default()
        })
        .expect("the mock starts");
        let mut config = support::config(&mock.url(), support::ca_file(&mock));
        config.workers = Some(2);
        config.gateway_queue_port = Some(0);
        change(&mut config);
        let weir = weir::start(config).expect("weir starts");
        Self { mock, weir }
    }

    fn queue(&self) -> SocketAddr {
        self.weir.gateway_queue_addr().expect("the queue is served")
    }

    /// Asks on a connection of its own, without waiting.
    fn ask(&self, target: &str) -> Client {
        ask(self.queue(), target)
    }

    fn metrics(&self) -> String {
        let addr = self.weir.metrics_addr().expect("metrics are on");
        let mut client = Client::connect(addr);
        client.ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").text()
    }

    /// Waits until so many shards wait.
    fn wait_for_waiting(&self, count: usize) {
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
fn sum(metrics: &str, start: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(start));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

fn ask(queue: SocketAddr, target: &str) -> Client {
    let mut client = Client::connect(queue);
    client.send(request(target));
    client
}

/// A request of the bot of the tests.
fn request(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: queue\r\nAuthorization: {}\r\n\r\n",
        support::TOKEN
    )
}

fn assert_free(answer: &Answer) {
    assert_eq!((answer.status, answer.text().as_str()), (200, FREE));
}
