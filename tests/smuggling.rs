//! Request smuggling (CWE-444): every vector of `vectors/smuggling.http` against the running proxy,
//! before an upstream that records what it gets byte by byte.
//!
//! Each is sent in one write, in writes of one byte, and with a further request behind it. It is
//! either refused, its connection closed and nothing of it sent on, or sent on as exactly the
//! requests that the table names; what stands behind it reaches the upstream only as a request of
//! its own, and only where HTTP allows to pipeline it.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loadtest::mock::tls::Tls;
use support::config;
use support::http::Client;
use support::upstream::{Recorder, without_via};
use support::vectors::Vector;
use weir::Handle;
use weir::config::IoDriver;

const TABLE: &str = include_str!("vectors/smuggling.http");

/// What stands behind a vector: no byte of it may ever be taken for a part of what precedes it.
const POISON: &str = "GET /api/v10/webhooks/1/poison HTTP/1.1\r\nHost: poison\r\n\r\n";

/// How long an answer or the end of a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Vectors that fail before the rest is left out: each may have cost that time.
const FAILED_MAX: usize = 10;

/// How the bytes of a vector reach the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Whole,
    ByteByByte,
    Poisoned,
}

/// What the upstream saw.
#[derive(Clone, PartialEq, Eq)]
enum Seen {
    Request(Vec<u8>),
    /// A request that never ended.
    Part(Vec<u8>),
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, bytes) = match self {
            Self::Request(bytes) => ("request", bytes),
            Self::Part(bytes) => ("part", bytes),
        };
        let shown = &bytes[..bytes.len().min(1000)];
        write!(f, "{kind} of {} \"{}\"", bytes.len(), shown.escape_ascii())
    }
}

struct Bench {
    weir: Handle,
    upstream: Recorder,
    log: Arc<Mutex<Vec<Seen>>>,
}

impl Bench {
    fn start(tls: Tls, driver: IoDriver) -> Self {
        let log: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let shared = log.clone();
        let upstream = Recorder::over(tls, move |peer| {
            loop {
                match peer.read_request() {
                    Ok(request) => {
                        let answer = answer(&request);
                        shared
                            .lock()
                            .expect("no panic")
                            .push(Seen::Request(without_via(&request)));
                        peer.send(&answer);
                    }
                    Err(part) if part.is_empty() => return,
                    Err(part) => return shared.lock().expect("no panic").push(Seen::Part(part)),
                }
            }
        });
        let mut config = config(&upstream.url(), upstream.ca_file());
        config.workers = Some(1);
        config.io_driver = driver;
        config.client_header_timeout = Duration::from_secs(4);
        let weir = weir::start(config).expect("weir starts");
        Self {
            weir,
            upstream,
            log,
        }
    }

    fn run(&self, vector: &Vector, manner: Manner) {
        self.log.lock().expect("no panic").clear();
        let host = self.upstream.addr.to_string();
        let mut bytes = vector.bytes('>', &host).expect("a request");
        let outcome: Vec<&str> = vector.word('=').split(' ').collect();
        let (closes, outcome) = match outcome.split_last() {
            Some((&"close", rest)) => (true, rest),
            _ => (outcome.last() != Some(&"ok"), &outcome[..]),
        };
        let mut wanted: Vec<Vec<u8>> = ['<', '2', '3']
            .iter()
            .filter_map(|&tag| vector.bytes(tag, &host))
            .collect();
        let mut outcome = outcome.to_vec();
        if manner == Manner::Poisoned {
            bytes.extend_from_slice(POISON.as_bytes());
            if !closes {
                outcome.push("ok");
                wanted.push(
                    POISON
                        .replace("Host: poison", &format!("Host: {host}"))
                        .into(),
                );
            }
        }
        let answered = outcome.iter().filter(|&&outcome| outcome == "ok").count();
        assert_eq!(answered, wanted.len(), "the table contradicts itself");

        let mut client = Client::connect(self.weir.proxy_addr());
        client
            .stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
        for piece in pieces(&bytes, manner) {
            // It may be refused before all of it is written.
            if client.stream.write_all(piece).is_err() {
                break;
            }
        }
        let mut requests = wanted.iter();
        for &expected in &outcome {
            match expected {
                "ok" => {
                    let request = requests.next().expect("counted above");
                    let answer = client.try_answer(request.starts_with(b"HEAD "));
                    let answer = answer.expect("an answer");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    if !request.starts_with(b"HEAD ") {
                        assert_eq!(answer.body, target(request), "another's answer");
                    }
                }
                // The client stops in the middle.
                "cut" => client.finish(),
                // An end in the middle of a body that is already on its way.
                "broken" => {}
                status => {
                    let status = if status == "own" { "200" } else { status };
                    let answer = client.try_answer(false).expect("a refusal");
                    assert_eq!(answer.status.to_string(), status, "{}", answer.text());
                    assert_eq!(answer.header("generated-by-proxy"), Some("true"));
                    assert_eq!(answer.header("connection"), Some("close"));
                }
            }
        }
        if !closes {
            client.finish();
        }
        assert!(client.is_closed(), "the connection stays open");
        let seen = if outcome == ["broken"] {
            self.wait_for_part()
        } else {
            self.log.lock().expect("no panic").clone()
        };
        if outcome == ["broken"] {
            let [Seen::Part(part)] = &seen[..] else {
                panic!("the upstream saw {seen:?}");
            };
            assert!(!part.windows(6).any(|window| window == b"poison"));
            return;
        }
        let wanted: Vec<Seen> = wanted.into_iter().map(Seen::Request).collect();
        assert_eq!(seen, wanted, "what the upstream saw (left)");
    }

    fn wait_for_part(&self) -> Vec<Seen> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let seen = self.log.lock().expect("no panic").clone();
            if !seen.is_empty() || Instant::now() > until {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The pieces that `bytes` are written in. Cut to single bytes are the first and the last of them,
/// where heads and ends lie; the middle of a long one says nothing new in 100,000 writes.
fn pieces(bytes: &[u8], manner: Manner) -> impl Iterator<Item = &[u8]> {
    const SINGLE: usize = 1500;
    let (first, rest) = match manner {
        Manner::ByteByByte => bytes.split_at(bytes.len().min(SINGLE)),
        Manner::Whole | Manner::Poisoned => (&[][..], bytes),
    };
    let single = match manner {
        Manner::ByteByByte => rest.len().min(SINGLE),
        Manner::Whole | Manner::Poisoned => 0,
    };
    let (middle, last) = rest.split_at(rest.len() - single);
    let middle = (!middle.is_empty()).then_some(middle);
    first.chunks(1).chain(middle).chain(last.chunks(1))
}

/// The target of a request, as the recording upstream reads it.
fn target(request: &[u8]) -> &[u8] {
    let mut words = request.split(|&byte| byte == b' ');
    words.nth(1).expect("a target")
}

/// An answer that tells which request it is for.
fn answer(request: &[u8]) -> Vec<u8> {
    let target = target(request);
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
        target.len()
    );
    if request.starts_with(b"HEAD ") {
        return answer.into();
    }
    let mut bytes = std::mem::take(&mut answer).into_bytes();
    bytes.extend_from_slice(target);
    bytes
}

/// Runs every vector in every manner and tells of those that fail.
fn run_all(tls: Tls, driver: IoDriver) {
    let bench = Bench::start(tls, driver);
    let mut failed = BTreeMap::new();
    let mut runs = 0;
    for vector in Vector::all(TABLE) {
        for manner in [Manner::Whole, Manner::ByteByByte, Manner::Poisoned] {
            let what = vector.word('=');
            // What is added to a request that is not whole belongs to it.
            if manner == Manner::Poisoned && what.split(' ').any(|word| word == "cut") {
                continue;
            }
            runs += 1;
            if failed.len() >= FAILED_MAX {
                continue;
            }
            let run = catch_unwind(AssertUnwindSafe(|| bench.run(&vector, manner)));
            if let Err(panic) = run {
                let why = panic.downcast_ref::<String>().cloned();
                let why = why.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                let entry = failed.entry(vector.name.clone());
                entry.or_insert((manner, why.unwrap_or_default()));
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {runs} runs: {failed:#?}",
        failed.len()
    );
}

#[test]
fn no_vector_smuggles_over_tcp_on_io_uring() {
    run_all(Tls::Plain, IoDriver::Auto);
}

#[test]
fn no_vector_smuggles_over_tcp_on_epoll() {
    run_all(Tls::Plain, IoDriver::Epoll);
}

#[test]
fn no_vector_smuggles_over_tls_on_io_uring() {
    run_all(Tls::Valid, IoDriver::Auto);
}

#[test]
fn no_vector_smuggles_over_tls_on_epoll() {
    run_all(Tls::Valid, IoDriver::Epoll);
}

#[test]
fn the_table_has_every_published_family() {
    let mut families = BTreeMap::<String, usize>::new();
    for vector in Vector::all(TABLE) {
        *families.entry(vector.family).or_default() += 1;
    }
    let known = [
        "CL.TE",
        "TE.CL",
        "TE.TE",
        "CL.CL",
        "CL.0",
        "0.CL",
        "chunk",
        "trailer",
        "line-end",
        "field",
        "host",
        "target",
        "method",
        "version",
        "connection",
        "pipeline",
        "upgrade",
        "expect",
        "size",
    ];
    assert_eq!(families.len(), known.len(), "{families:?}");
    assert!(
        known.iter().all(|family| families.contains_key(*family)),
        "{families:?}"
    );
    println!("{} vectors: {families:?}", families.values().sum::<usize>());
}
