//! 10,000 shards that wait: at most 1 KiB of memory each, and no CPU.
//!
//! `cargo test --release --test identify_memory -- --nocapture` prints both.

mod support;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::settings::{GatewaySettings, Settings};
use loadtest::mock::{self, MockConfig};
use support::http::Client;
use support::program::Program;
use support::queue::{ask, assert_free, sum};
use support::resident_bytes;

const WAITING: usize = 10_000;

/// Resident memory of weir's for each shard that waits.
const BYTES_MAX: u64 = 1_024;

/// How long they are watched, and how much of a core that may take: the turns that come meanwhile, and
/// the machine's other troubles.
const WATCHED: Duration = Duration::from_secs(4);
const CPU_MAX: Duration = Duration::from_millis(40);

/// CPU time of a process.
fn cpu(pid: u32) -> Duration {
    let nanos = fs::read_dir(format!("/proc/{pid}/task"))
        .expect("/proc tells")
        .map(|task| {
            let stat = fs::read_to_string(task.expect("/proc tells").path().join("schedstat"))
                .expect("/proc tells");
            let nanos = stat.split(' ').next().expect("/proc tells");
            nanos.parse::<u64>().expect("/proc tells")
        });
    Duration::from_nanos(nanos.sum())
}

#[test]
fn ten_thousand_shards_wait_at_a_kibibyte_each_and_cost_no_cpu() {
    let limit = weir::io::descriptors::raise_limit().unwrap();
    assert!(limit > WAITING as u64 + 100, "{limit} descriptors");
    let gateway = GatewaySettings {
        max_concurrency: 16,
        ..GatewaySettings::default()
    };
    let mock = mock::start(MockConfig {
        settings: Settings {
            gateway,
            ..Settings::default()
        },
        ..MockConfig::default()
    })
    .unwrap();
    let weir = Program::start(&mock, &[("GATEWAY_QUEUE_PORT", "0"), ("WORKERS", "2")]);
    let queue = weir.queue.unwrap();
    // What the first of all things costs: buffers, the connection to Discord, a round, a scrape.
    let warm: Vec<_> = (0..64)
        .map(|n| ask(queue, &format!("/?shard={n}")))
        .collect();
    Client::connect(weir.metrics).ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    thread::sleep(Duration::from_millis(500));
    drop(warm);
    thread::sleep(Duration::from_millis(500));
    let before = resident_bytes(weir.pid());
    let mut shards: Vec<Client> = (0..WAITING)
        .map(|n| ask(queue, &format!("/?shard={n}")))
        .collect();
    let waiting = |least: f64| {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let mut client = Client::connect(weir.metrics);
            let text = client
                .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                .text();
            let waiting = sum(&text, "weir_identify_waiting{");
            if waiting >= least {
                return waiting as u64;
            }
            assert!(Instant::now() < until, "{waiting} wait");
            thread::sleep(Duration::from_millis(50));
        }
    };
    let count = waiting(WAITING as f64 * 0.98);
    thread::sleep(Duration::from_millis(500));
    let resident = resident_bytes(weir.pid());
    let each = resident.saturating_sub(before) / count;
    let spent = cpu(weir.pid());
    thread::sleep(WATCHED);
    let spent = cpu(weir.pid()) - spent;
    println!(
        "{count} shards wait: {each} bytes each ({before} before, {resident} with them); {spent:?} of CPU in {WATCHED:?}"
    );
    assert!(each <= BYTES_MAX, "{each} bytes each");
    assert!(spent <= CPU_MAX, "{spent:?} of CPU");
    // They are served on: the first that came went first.
    assert_free(&shards[0].answer(false));
    // When all have left at once, nobody waits.
    shards.clear();
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let mut client = Client::connect(weir.metrics);
        let text = client
            .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .text();
        if sum(&text, "weir_identify_waiting{") == 0.0 {
            break;
        }
        assert!(Instant::now() < until, "some wait on");
        thread::sleep(Duration::from_millis(50));
    }
}
