//! The commands of the `weir` program, what it says when it cannot start, and the documents that are
//! made from its flags.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

#[expect(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]
#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/mod.rs"]
mod support;

mod check;
mod documents;
mod package;
mod reload;
mod starts;
mod status;

use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

/// Runs a command that ends by itself, soon.
fn ended(command: &mut Command) -> Output {
    let mut child = command.spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("it does not end: {command:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}
