//! What it costs to share a cap through Redis: how long one ask takes, and how many a second there
//! are.
//!
//! `cargo bench --bench shared_caps`, with redis-server installed. Everything is on this machine, so
//! what the network adds is not in it: one round trip for each ask, or for all that came meanwhile.
#![expect(clippy::print_stdout, reason = "figures are what it is for")]
#![expect(
    clippy::unwrap_used,
    reason = "a measurement that fails has nothing to say"
)]

#[path = "../tests/support/redis.rs"]
#[expect(dead_code, unreachable_pub, reason = "the tests use more of it")]
mod redis_server;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use redis_server::Redis;
use weir::egress::hosts::HostKey;
use weir::egress::shared::{Fleet, Standing, Verdict};

/// Asks in a series.
const ASKS: usize = 20_000;

fn fleet(redis: &Redis) -> Fleet {
    let fleet = Fleet::start(&redis.settings()).unwrap();
    while fleet.counters().standing != Standing::Shared {
        std::thread::sleep(Duration::from_millis(5));
    }
    fleet
}

/// Keeps `together` asks under way over `hosts`; gives back what it is granted. Times from ask to
/// answer, sorted, and how long it all took.
fn series(fleet: &Fleet, hosts: &[HostKey], together: usize) -> (Vec<Duration>, Duration) {
    let (sender, answers) = mpsc::channel();
    let ask = |number: usize| {
        let (sender, asked) = (sender.clone(), Instant::now());
        let answer = move |verdict| {
            assert_eq!(verdict, Verdict::Granted);
            sender.send((number, asked.elapsed())).unwrap();
        };
        fleet.take(&hosts[number % hosts.len()], 1_000_000, Box::new(answer));
    };
    let began = Instant::now();
    (0..together).for_each(ask);
    let mut times = Vec::with_capacity(ASKS);
    for next in together..ASKS + together {
        let (number, time) = answers.recv().unwrap();
        times.push(time);
        fleet.give_back(&hosts[number % hosts.len()]);
        if next < ASKS {
            ask(next);
        }
    }
    let took = began.elapsed();
    times.sort_unstable();
    (times, took)
}

fn main() {
    let redis = Redis::start(&[]);
    let hosts: Vec<HostKey> = (0..64)
        .map(|number| HostKey::parse(&format!("h{number}.example")).unwrap())
        .collect();
    println!("proxies  hosts  at once   median µs    p99 µs    asks/s");
    for proxies in [1, 3, 20] {
        let fleets: Vec<Fleet> = (0..proxies).map(|_| fleet(&redis)).collect();
        for (hosts, together) in [(&hosts[..1], 1), (&hosts[..1], 64), (&hosts[..], 64)] {
            let (times, took) = series(&fleets[0], hosts, together);
            let micros = |at: usize| times[at].as_secs_f64() * 1e6;
            println!(
                "{proxies:7}{:7}{together:9}{:12.0}{:10.0}{:10.0}",
                hosts.len(),
                micros(ASKS / 2),
                micros(ASKS * 99 / 100),
                ASKS as f64 / took.as_secs_f64(),
            );
        }
    }
}
