//! Bots behind a load balancer that takes the next node when one cannot be reached.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::http::{Answer, Client};

const CHANNEL: u64 = 203_039_963_636_301_824;
/// Requests of a greedy bot at once: more than it may send in the time that one takes.
const GREEDY: usize = 6;
/// Pause of a modest bot's threads: 20 requests a second together, far below all limits.
const PAUSE: Duration = Duration::from_millis(100);
/// Nodes that are tried for one request.
const TRIES_MAX: usize = 12;

/// What clients have seen so far.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) answered: u64,
    /// 429s, which tell when to come again.
    pub(crate) limited: u64,
    /// Connections that ended without an answer; their requests were made anew.
    pub(crate) cut: u64,
}

struct Shared {
    nodes: Vec<SocketAddr>,
    /// Whether the load balancer sends anybody to a node.
    in_rotation: Vec<AtomicBool>,
    turn: AtomicUsize,
    number: AtomicU64,
    answered: AtomicU64,
    limited: AtomicU64,
    cut: AtomicU64,
    wrong: Mutex<BTreeSet<String>>,
    ending: AtomicBool,
}

/// All bots.
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn new(nodes: Vec<SocketAddr>) -> Self {
        let shared = Arc::new(Shared {
            in_rotation: nodes.iter().map(|_| AtomicBool::new(true)).collect(),
            nodes,
            turn: AtomicUsize::new(0),
            number: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            limited: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            wrong: Mutex::default(),
            ending: AtomicBool::new(false),
        });
        Self {
            shared,
            threads: Vec::new(),
        }
    }

    /// Greedy bots ask for all that they can get, modest ones now and then; of those one request in four
    /// changes something.
    pub(crate) fn begin(&mut self, greedy: Vec<String>, modest: Vec<String>) {
        for token in greedy {
            for _ in 0..GREEDY {
                let (shared, token) = (self.shared.clone(), token.clone());
                self.threads.push(thread::spawn(move || {
                    while !shared.ending.load(Ordering::Relaxed) {
                        let channel = CHANNEL + shared.next() % 64;
                        shared.ask("GET", &format!("/api/v10/channels/{channel}"), &token, "");
                    }
                }));
            }
        }
        for (bot, token) in modest.into_iter().enumerate() {
            for index in 0..2 {
                let (shared, token) = (self.shared.clone(), token.clone());
                let first = CHANNEL + 1_000 * (1 + 2 * bot as u64 + index);
                self.threads
                    .push(thread::spawn(move || shared.modest(first, &token)));
            }
        }
    }

    /// Whether clients are sent to a node.
    pub(crate) fn rotate(&self, n: usize, on: bool) {
        self.shared.in_rotation[n - 1].store(on, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        let shared = &self.shared;
        Counts {
            answered: shared.answered.load(Ordering::Relaxed),
            limited: shared.limited.load(Ordering::Relaxed),
            cut: shared.cut.load(Ordering::Relaxed),
        }
    }

    /// Answers that nobody should get.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.shared.wrong.lock().unwrap().iter().cloned().collect()
    }

    pub(crate) fn end(self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

impl Shared {
    fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    fn modest(&self, first: u64, token: &str) {
        while !self.ending.load(Ordering::Relaxed) {
            let number = self.next();
            // Eight channels, each of which allows five in five seconds.
            let channel = first + number % 8;
            let path = format!("/api/v10/channels/{channel}");
            if number.is_multiple_of(4) {
                let body = format!(r#"{{"content":"id:{number}"}}"#);
                self.ask("POST", &format!("{path}/messages"), token, &body);
            } else {
                self.ask("GET", &path, token, "");
            }
            thread::sleep(PAUSE);
        }
    }

    fn ask(&self, method: &str, path: &str, token: &str, body: &str) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        for _ in 0..TRIES_MAX {
            let place = self.turn.fetch_add(1, Ordering::Relaxed) % self.nodes.len();
            if !self.in_rotation[place].load(Ordering::Relaxed) {
                continue;
            }
            let Ok(mut client) = Client::try_connect(self.nodes[place]) else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            match client.try_ask(&request) {
                Some(answer) => return self.look_at(&answer, method, path),
                None => {
                    self.cut.fetch_add(1, Ordering::Relaxed);
                    if method == "POST" {
                        // Nobody knows whether it was sent.
                        return;
                    }
                }
            }
        }
        self.complain(format!("no node serves {method} {path}"));
    }

    fn look_at(&self, answer: &Answer, method: &str, path: &str) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let when = answer
            .header("retry-after")
            .and_then(|after| after.parse::<u64>().ok());
        match (answer.status, when) {
            (200, _) => {}
            (429, Some(seconds)) => {
                self.limited.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_secs(seconds.min(2)));
            }
            _ => self.complain(format!("{method} {path}: {answer:?}")),
        }
    }

    fn complain(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < 10 {
            wrong.insert(what);
        }
    }
}
