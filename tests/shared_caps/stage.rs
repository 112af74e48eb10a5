//! Asking as tests do: with patience, and with an answer in the hand.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use weir::config::RedisSettings;
use weir::egress::hosts::HostKey;
use weir::egress::shared::{Fleet, Standing, Verdict};

/// Longer than anything takes on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn host(text: &str) -> HostKey {
    HostKey::parse(text).unwrap()
}

/// A fleet that shares its caps already.
pub fn fleet(settings: &RedisSettings) -> Fleet {
    let fleet = Fleet::start(settings).unwrap();
    stands(&fleet, Standing::Shared);
    fleet
}

/// Waits until it stands so.
pub fn stands(fleet: &Fleet, standing: Standing) {
    eventually(&format!("{standing:?}"), || {
        fleet.counters().standing == standing
    });
}

/// Waits until something is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "it never came to: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Asks and waits for the answer.
pub fn ask(fleet: &Fleet, host: &HostKey, cap: u32) -> Verdict {
    ask_all(fleet, host, cap, 1)[0]
}

/// Asks so often at once, and waits for all answers.
pub fn ask_all(fleet: &Fleet, host: &HostKey, cap: u32, count: usize) -> Vec<Verdict> {
    let (sender, answers) = mpsc::channel();
    for _ in 0..count {
        let sender = sender.clone();
        fleet.take(
            host,
            cap,
            Box::new(move |verdict| sender.send(verdict).unwrap()),
        );
    }
    let next = |_| answers.recv_timeout(PATIENCE).expect("an answer");
    (0..count).map(next).collect()
}

pub fn granted(verdicts: &[Verdict]) -> usize {
    let is_granted = |verdict: &&Verdict| **verdict == Verdict::Granted;
    verdicts.iter().filter(is_granted).count()
}
