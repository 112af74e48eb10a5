//! A bot of 32 shards in 8 processes, started at once.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::support::queue::{Stage, ask, assert_free};

const PROCESSES: u64 = 8;
const SHARDS: u64 = 32;
const MAX_CONCURRENCY: u32 = 16;

/// How far the shards of one round may be apart, and rounds from where they should be.
const WITHIN: Duration = Duration::from_millis(50);

/// Rounds that a busy machine has spoilt are looked at again.
const ATTEMPTS: usize = 3;

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// What each process does: asks for its shards at `start`, and prints when each may go.
fn process(queue: &str, first: u64, start: Duration) {
    let queue = queue.parse().unwrap();
    let shards = (first..SHARDS).step_by(PROCESSES as usize);
    let threads: Vec<_> = shards
        .map(|shard| {
            thread::spawn(move || {
                thread::sleep(start.saturating_sub(since_epoch()));
                let mut client = ask(queue, &format!("/?shard={shard}"));
                let answer = client.answer(false);
                let went = since_epoch();
                assert_free(&answer);
                (shard, went)
            })
        })
        .collect();
    for thread in threads {
        let (shard, went) = thread.join().unwrap();
        let after = went.saturating_sub(start);
        println!("\nshard {shard} after {}", after.as_micros());
    }
}

#[test]
fn thirty_two_shards_of_eight_processes_go_in_two_rounds_of_sixteen() {
    if let Ok(queue) = std::env::var("WEIR_TEST_QUEUE") {
        let number = |name| std::env::var(name).unwrap().parse().unwrap();
        let start = Duration::from_micros(number("WEIR_TEST_START"));
        return process(&queue, number("WEIR_TEST_FIRST"), start);
    }
    let mut wrong = String::new();
    for _ in 0..ATTEMPTS {
        match rounds() {
            Ok(()) => return,
            Err(error) => wrong = error,
        }
    }
    panic!("{wrong}");
}

fn rounds() -> Result<(), String> {
    let stage = Stage::start(MAX_CONCURRENCY);
    let start = since_epoch() + Duration::from_millis(1_500);
    let children: Vec<_> = (0..PROCESSES)
        .map(|first| {
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "--nocapture",
                    "fleet::thirty_two_shards_of_eight_processes_go_in_two_rounds_of_sixteen",
                ])
                .env("WEIR_TEST_QUEUE", stage.queue().to_string())
                .env("WEIR_TEST_FIRST", first.to_string())
                .env("WEIR_TEST_START", start.as_micros().to_string())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut went = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        for line in text.lines().filter(|line| line.starts_with("shard ")) {
            let words: Vec<_> = line.split(' ').collect();
            let shard: u64 = words[1].parse().unwrap();
            let after = Duration::from_micros(words[3].parse().unwrap());
            went.push((after, shard));
        }
    }
    went.sort_unstable();
    assert_eq!(went.len(), SHARDS as usize);
    println!("{went:?}");
    let key = |shard: u64| shard % u64::from(MAX_CONCURRENCY);
    let (first, second) = went.split_at(MAX_CONCURRENCY as usize);
    for (round, at) in [(first, Duration::ZERO), (second, Duration::from_secs(5))] {
        let mut keys: Vec<_> = round.iter().map(|&(_, shard)| key(shard)).collect();
        keys.sort_unstable();
        // Whatever the machine does: each key once a round.
        assert_eq!(keys, (0..u64::from(MAX_CONCURRENCY)).collect::<Vec<_>>());
        for &(after, shard) in round {
            if after.abs_diff(at) > WITHIN {
                return Err(format!("shard {shard} went after {after:?}, not {at:?}"));
            }
        }
    }
    Ok(())
}
