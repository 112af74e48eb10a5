//! Response desynchronisation: every lie of `vectors/lies.http`, told by an upstream to the running
//! proxy.
//!
//! Whatever the upstream says, its client gets exactly what the table names, and the next requests
//! on the same client connection, on another one and on whatever connection the pool still holds
//! get their own answers and no byte of the lie.

mod support;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::tls::Tls;
use support::config;
use support::http::Client;
use support::upstream::{Peer, Recorder};
use support::vectors::Vector;
use weir::Handle;
use weir::config::IoDriver;

const TABLE: &str = include_str!("vectors/lies.http");

/// How long the upstream waits before it says more than it was asked for.
const PAUSE: Duration = Duration::from_millis(15);

/// Lies that work before the rest is left out: each may have cost the time of a timeout.
const FAILED_MAX: usize = 10;

/// What the upstream says to requests for `/lie`, in place of an answer.
#[derive(Clone, Debug, Default)]
struct Lie {
    /// As soon as it is connected to.
    greeting: Option<Vec<u8>>,
    answer: Vec<u8>,
    /// Pushed afterwards, when nobody has asked for anything.
    late: Option<Vec<u8>>,
    closes: bool,
}

struct Bench {
    weir: Handle,
    lie: Arc<Mutex<Lie>>,
    /// Lies told to their end.
    told: Arc<AtomicUsize>,
}

impl Bench {
    fn start(tls: Tls, driver: IoDriver) -> Self {
        let lie: Arc<Mutex<Lie>> = Arc::default();
        let told: Arc<AtomicUsize> = Arc::default();
        let (shared, count) = (lie.clone(), told.clone());
        let upstream = Recorder::over(tls, move |peer| {
            let greeting = shared.lock().expect("no panic").greeting.clone();
            if let Some(greeting) = greeting {
                peer.send(&greeting);
            }
            while serve(peer, &shared, &count) {}
        });
        let mut config = config(&upstream.url(), upstream.ca_file());
        config.workers = Some(1);
        config.io_driver = driver;
        config.request_timeout = Duration::from_millis(1500);
        let weir = weir::start(config).expect("weir starts");
        Self { weir, lie, told }
    }

    fn run(&self, vector: &Vector) {
        *self.lie.lock().expect("no panic") = Lie {
            greeting: vector.bytes('^', ""),
            answer: vector.bytes('<', "").unwrap_or_default(),
            late: vector.bytes('+', ""),
            closes: vector.word('.') == "close",
        };
        let told = self.told.load(Ordering::SeqCst);
        let method = match vector.word('?') {
            "" => "GET",
            method => method,
        };
        let mut client = Client::connect(self.weir.proxy_addr());
        client.send(format!(
            "{method} /api/v10/webhooks/1/lie HTTP/1.1\r\nHost: weir\r\n\r\n"
        ));
        let wanted: Vec<&str> = vector.word('=').split(' ').collect();
        let stays = match wanted[..] {
            ["relayed", end] => {
                let bytes = vector.bytes('>', "").expect("what the client sees");
                relayed(&mut client, &bytes, end);
                end == "open"
            }
            [status] => {
                let answer = client.try_answer(method == "HEAD").expect("an answer");
                assert_eq!(answer.status.to_string(), status, "{}", answer.text());
                assert_eq!(answer.header("generated-by-proxy"), Some("true"));
                answer.header("connection").is_none()
            }
            _ => panic!("unknown outcome {wanted:?}"),
        };
        let until = Instant::now() + Duration::from_secs(10);
        while self.told.load(Ordering::SeqCst) == told && Instant::now() < until {
            thread::sleep(Duration::from_micros(200));
        }
        // The last of it has arrived when this thread has slept.
        thread::sleep(Duration::from_millis(2));
        self.lie.lock().expect("no panic").greeting = None;
        let mut other = Client::connect(self.weir.proxy_addr());
        for round in 0..2 {
            if stays {
                own_answer(&mut client, &format!("/api/v10/webhooks/2/same-{round}"));
            }
            own_answer(&mut other, &format!("/api/v10/webhooks/2/other-{round}"));
        }
    }
}

/// Serves one request; false when the connection has ended.
fn serve(peer: &mut Peer, lie: &Mutex<Lie>, told: &AtomicUsize) -> bool {
    let Ok(request) = peer.read_request() else {
        return false;
    };
    let target = request.split(|&byte| byte == b' ').nth(1);
    let target = target.expect("a target").to_vec();
    if !target.ends_with(b"/lie") {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            target.len()
        );
        peer.send(&[head.as_bytes(), &target].concat());
        return true;
    }
    let lie = lie.lock().expect("no panic").clone();
    peer.send(&lie.answer);
    if let Some(late) = lie.late {
        thread::sleep(PAUSE);
        peer.send(&late);
    }
    if lie.closes {
        peer.say_goodbye();
    }
    told.fetch_add(1, Ordering::SeqCst);
    !lie.closes
}

/// The client sees exactly `bytes`, and then its connection is `end`.
fn relayed(client: &mut Client, bytes: &[u8], end: &str) {
    let patience = Some(Duration::from_secs(10));
    client.stream.set_read_timeout(patience).expect("a timeout");
    let mut seen = vec![0; bytes.len()];
    let mut len = 0;
    while len < seen.len() {
        match client.stream.read(&mut seen[len..]) {
            Ok(count @ 1..) => len += count,
            _ => break,
        }
    }
    assert_eq!(
        seen[..len].escape_ascii().to_string(),
        bytes.escape_ascii().to_string(),
        "what the client saw (left)"
    );
    let ended = |client: &mut Client| client.stream.read(&mut [0]).map_err(|error| error.kind());
    match end {
        // The next request on it will show.
        "open" => {}
        "closed" => assert_eq!(ended(client), Ok(0)),
        "reset" => assert_eq!(ended(client), Err(ErrorKind::ConnectionReset)),
        other => panic!("unknown end {other}"),
    }
}

fn own_answer(client: &mut Client, target: &str) {
    let answer = client.ask(&format!("GET {target} HTTP/1.1\r\nHost: weir\r\n\r\n"));
    assert_eq!((answer.status, &*answer.text()), (200, target));
    assert!(answer.interim.is_empty(), "{:?}", answer.interim);
}

fn run_all(tls: Tls, driver: IoDriver) {
    let bench = Bench::start(tls, driver);
    let mut failed = BTreeMap::new();
    for vector in Vector::all(TABLE) {
        // A greeting needs a connection that is new.
        let fresh = vector.bytes('^', "").map(|_| Bench::start(tls, driver));
        let bench = fresh.as_ref().unwrap_or(&bench);
        if failed.len() >= FAILED_MAX {
            break;
        }
        let run = catch_unwind(AssertUnwindSafe(|| bench.run(&vector)));
        if let Err(panic) = run {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            failed.insert(vector.name.clone(), why.unwrap_or_default());
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn no_lie_desynchronises_over_tcp_on_io_uring() {
    run_all(Tls::Plain, IoDriver::Auto);
}

#[test]
fn no_lie_desynchronises_over_tcp_on_epoll() {
    run_all(Tls::Plain, IoDriver::Epoll);
}

#[test]
fn no_lie_desynchronises_over_tls_on_io_uring() {
    run_all(Tls::Valid, IoDriver::Auto);
}

#[test]
fn no_lie_desynchronises_over_tls_on_epoll() {
    run_all(Tls::Valid, IoDriver::Epoll);
}

/// An upstream that reads no body and answers each head it sees, the one behind a body's start only
/// when it has seen another: what a body smuggles is answered to whoever comes next.
fn bodies_ignored() -> Recorder {
    Recorder::start(|peer| {
        let mut held = None;
        while let Some(head) = peer.read_head_only() {
            let target = head.split(' ').nth(1).expect("a target").to_owned();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}",
                target.len()
            );
            if target.ends_with("/smuggled") {
                held = Some(answer);
            } else {
                peer.send(&(held.take().unwrap_or_default() + &answer));
            }
        }
    })
}

#[test]
fn the_body_of_a_get_that_the_upstream_takes_for_a_request_is_answered_to_nobody() {
    for (driver, method) in [
        (IoDriver::Auto, "GET"),
        (IoDriver::Epoll, "GET"),
        (IoDriver::Auto, "DELETE"),
        (IoDriver::Auto, "OPTIONS"),
    ] {
        let upstream = bodies_ignored();
        let mut config = config(&upstream.url(), None);
        config.workers = Some(1);
        config.io_driver = driver;
        let weir = weir::start(config).expect("weir starts");
        let mut client = Client::connect(weir.proxy_addr());
        for framing in ["length", "chunked"] {
            let body = "GET /api/v10/webhooks/1/smuggled HTTP/1.1\r\nHost: evil\r\n\r\n";
            let (field, body) = if framing == "length" {
                (format!("Content-Length: {}", body.len()), body.to_owned())
            } else {
                let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
                ("Transfer-Encoding: chunked".to_owned(), chunk)
            };
            let target = "/api/v10/webhooks/1/t";
            let answer = client.ask(&format!(
                "{method} {target} HTTP/1.1\r\nHost: weir\r\n{field}\r\n\r\n{body}"
            ));
            assert_eq!((answer.status, &*answer.text()), (200, target));
            let mut other = Client::connect(weir.proxy_addr());
            own_answer(&mut other, "/api/v10/webhooks/2/next");
            own_answer(&mut client, "/api/v10/webhooks/2/same");
        }
    }
}

#[test]
fn a_post_leaves_its_upstream_connection_to_the_next_request() {
    let upstream = Recorder::start(|peer| {
        while peer.read_request().is_ok() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let weir = weir::start(config(&upstream.url(), None)).expect("weir starts");
    let mut client = Client::connect(weir.proxy_addr());
    for _ in 0..3 {
        let post =
            "POST /api/v10/webhooks/1/t HTTP/1.1\r\nHost: weir\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(client.ask(post).status, 200);
    }
    assert_eq!(upstream.seen().len(), 1, "one connection");
}
