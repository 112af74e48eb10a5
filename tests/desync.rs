//! What could put two requests or two answers out of step: early answers, retries, truncation,
//! pipelining behind failures, and what is left over when weir ends.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use support::http::Client;
use support::upstream::Recorder;
use support::{config, request};
use weir::config::IoDriver;
use weir::{Config, Handle};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 google\r\n\r\nok";
const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
const DRIVERS: [IoDriver; 2] = [IoDriver::Auto, IoDriver::Epoll];

fn before(url: &str, change: impl FnOnce(&mut Config)) -> Handle {
    let mut config = config(url, None);
    config.workers = Some(1);
    change(&mut config);
    weir::start(config).expect("weir starts")
}

#[test]
fn a_pipelined_request_behind_a_failed_one_is_read_where_it_begins() {
    // Closes at once after each head.
    let recorder = Recorder::start(|peer| {
        peer.read_head();
    });
    let weir = before(&recorder.url(), |_| ());
    let post = request("POST", "/api/v10/channels/1/messages", "hello");
    let mut client = Client::connect(weir.proxy_addr());
    client.send(format!(
        "{post}GET /nirn/healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    ));
    assert_eq!(client.answer(false).status, 502);
    assert_eq!(client.answer(false).status, 200);
    // What hides behind bytes that belong to nothing is not a request.
    let mut client = Client::connect(weir.proxy_addr());
    client.send(format!(
        "{post}XXXXXGET /nirn/healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    ));
    assert_eq!(client.answer(false).status, 502);
    assert_ne!(client.answer(false).status, 200);
    // A body that was read whole does not cost the connection.
    let mut client = Client::connect(weir.proxy_addr());
    for _ in 0..3 {
        let answer = client.ask(&post);
        assert_eq!((answer.status, answer.header("connection")), (502, None));
    }
}

#[test]
fn a_get_whose_body_was_streamed_is_never_sent_again_in_part() {
    let recorder = Recorder::start(|peer| {
        peer.read_head();
        peer.send(OK);
        peer.read_head();
        // Takes the body and closes without an answer.
        let patience = Some(Duration::from_millis(300));
        peer.stream.set_read_timeout(patience).expect("a timeout");
        let mut bytes = vec![0; 1 << 16];
        while let Ok(1..) = peer.stream.read(&mut bytes) {}
    });
    let weir = before(&recorder.url(), |_| ());
    let mut client = Client::connect(weir.proxy_addr());
    assert_eq!(
        client.ask(&request("GET", "/api/v10/gateway", "")).status,
        200
    );
    client.send("GET /api/v10/gateway HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
    client.send("x".repeat(200_000));
    assert_eq!(client.answer(false).status, 502);
    assert_eq!(recorder.seen().len(), 1, "no second attempt");
}

/// For each connection, the length its first request's body was to have, and where in what came the
/// next request began.
type Log = Mutex<Vec<(usize, Option<usize>)>>;

/// An upstream with a small receive buffer. On each connection it reads a head, waits until it is
/// told, answers early, and then reads on. Requests without a body, and those that follow one whole, are
/// the last of their connection.
struct EarlyUpstream {
    addr: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Connections that have ended.
    log: Log,
    /// Requests that have begun, wherever.
    requests: AtomicUsize,
    connections: AtomicUsize,
    /// Answers that were asked for.
    answers: AtomicUsize,
}

impl EarlyUpstream {
    fn start() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        socket.bind(&any.into()).expect("a port");
        socket.listen(16).expect("listening");
        let listener: TcpListener = socket.into();
        let upstream = Self {
            addr: listener.local_addr().expect("bound"),
            seen: Arc::default(),
        };
        let seen = upstream.seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = seen.clone();
                seen.connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || Self::serve(stream, &seen));
            }
        });
        upstream
    }

    fn serve(mut stream: std::net::TcpStream, seen: &Seen) {
        let end = Self::exchange(&mut stream, seen);
        // Before it is told of: nobody can use it then.
        drop(stream);
        seen.log.lock().expect("no panic with it").push(end);
    }

    fn exchange(stream: &mut std::net::TcpStream, seen: &Seen) -> (usize, Option<usize>) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if !matches!(stream.read(&mut byte), Ok(1..)) {
                return (0, None);
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("ASCII");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .map_or(0, |value| value.trim().parse().expect("a length"));
        let told = seen.answers.load(Ordering::SeqCst);
        seen.requests.fetch_add(1, Ordering::SeqCst);
        while seen.answers.load(Ordering::SeqCst) == told {
            thread::sleep(Duration::from_millis(2));
        }
        if length == 0 {
            stream.write_all(LAST.as_bytes()).expect("it is taken");
            return (0, None);
        }
        stream.write_all(OK.as_bytes()).expect("it is taken");
        thread::sleep(Duration::from_millis(50));
        let patience = Some(Duration::from_millis(300));
        stream.set_read_timeout(patience).expect("a timeout");
        let (mut rest, mut bytes, mut next) = (Vec::new(), vec![0; 1 << 16], None);
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            // It may lie across two reads.
            let from = rest.len().saturating_sub(4);
            rest.extend_from_slice(&bytes[..count]);
            let mut windows = rest[from..].windows(5);
            let begins = windows.position(|window| window == b"GET /");
            next = next.or(begins.map(|at| from + at));
            if next == Some(length) && rest.ends_with(b"\r\n\r\n") {
                seen.requests.fetch_add(1, Ordering::SeqCst);
                stream.write_all(LAST.as_bytes()).expect("it is taken");
                break;
            }
        }
        (length, next)
    }

    fn answer(&self) {
        self.seen.answers.fetch_add(1, Ordering::SeqCst);
    }

    fn wait_for_request(&self, number: usize) {
        until("a request comes", || {
            self.seen.requests.load(Ordering::SeqCst) >= number
        });
    }

    /// Until weir has none to use any more.
    fn wait_for_ends(&self) {
        until("all connections end", || {
            let ended = self.seen.log.lock().expect("no panic with it").len();
            ended == self.seen.connections.load(Ordering::SeqCst)
        });
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Sends so many bytes from a thread of its own, and returns when they are sent or no more goes.
fn send_until_it_blocks(mut writer: std::net::TcpStream, length: usize) -> thread::JoinHandle<()> {
    const PIECE: usize = 16 * 1024;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let sending = thread::spawn(move || {
        for left in (1..=length).rev().step_by(PIECE) {
            // Ends when the connection does.
            if writer.write_all(&vec![b'x'; left.min(PIECE)]).is_err() {
                return;
            }
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    loop {
        let before = sent.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(60));
        if sending.is_finished() || sent.load(Ordering::SeqCst) == before {
            return sending;
        }
    }
}

#[test]
fn a_connection_whose_request_was_answered_before_it_was_written_is_not_used_again() {
    for driver in DRIVERS {
        let upstream = EarlyUpstream::start();
        let weir = before(&format!("http://{}", upstream.addr), |config| {
            config.io_driver = driver;
            config.request_timeout = Duration::from_secs(20);
            // Long enough for the next request, short enough to be gone before the next round.
            config.upstream_idle_timeout = Duration::from_millis(100);
        });
        // Lengths around where the write blocks, which depends on the kernel's buffers: somewhere
        // among them the last piece is read from the client and not yet written.
        let lengths = (64..=4096).step_by(192).map(|kib| kib * 1024 + 1);
        for length in lengths.clone() {
            let before = upstream.seen.requests.load(Ordering::SeqCst);
            let mut client = Client::connect(weir.proxy_addr());
            client.send(format!(
                "POST /api/v10/channels/1/messages HTTP/1.1\r\nHost: a\r\n\
                 Content-Length: {length}\r\n\r\n"
            ));
            upstream.wait_for_request(before + 1);
            let writer = client.stream.try_clone().expect("a clone");
            let sending = send_until_it_blocks(writer, length);
            upstream.answer();
            assert_eq!(client.answer(false).status, 200);
            let mut other = Client::connect(weir.proxy_addr());
            other.send("GET /api/v10/gateway HTTP/1.1\r\nHost: a\r\n\r\n");
            upstream.wait_for_request(before + 2);
            upstream.answer();
            assert_eq!(other.answer(false).status, 200);
            drop(client);
            sending.join().expect("the sender");
            upstream.wait_for_ends();
        }
        let log = upstream.seen.log.lock().expect("no panic with it");
        assert!(log.len() >= lengths.count(), "{log:?}");
        for &(length, next) in &*log {
            assert!(
                next.is_none_or(|at| at == length),
                "{driver:?}: a body of {length} bytes, and the next request after {next:?} of them"
            );
        }
    }
}

#[test]
fn an_answer_that_lasts_until_the_end_and_was_cut_off_is_seen_to_break() {
    let recorder = Recorder::start(|peer| {
        peer.read_head();
        peer.send("HTTP/1.1 200 OK\r\n\r\npartial");
        thread::sleep(Duration::from_millis(100));
        SockRef::from(&peer.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("closing resets");
    });
    for driver in DRIVERS {
        let weir = before(&recorder.url(), |config| config.io_driver = driver);
        let mut client = Client::connect(weir.proxy_addr());
        client.send(request("GET", "/api/v10/gateway", ""));
        let mut all = Vec::new();
        let end = client.stream.read_to_end(&mut all);
        assert_eq!(
            end.map_err(|error| error.kind()),
            Err(ErrorKind::ConnectionReset),
            "{driver:?}: {:?}",
            String::from_utf8_lossy(&all)
        );
    }
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("a listing").count()
}

fn threads(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("a listing");
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|comm| comm.trim() == name)
        .count()
}

#[test]
fn a_shutdown_leaves_nothing_behind_and_what_it_cuts_is_seen_to_end() {
    for driver in DRIVERS {
        let recorder = Recorder::start(|peer| {
            peer.read_head();
            thread::sleep(Duration::from_secs(3));
        });
        let url = recorder.url().replace("127.0.0.1", "localhost");
        for _ in 0..3 {
            let weir = before(&url, |config| {
                config.io_driver = driver;
                config.request_timeout = Duration::from_secs(60);
            });
            let mut client = Client::connect(weir.proxy_addr());
            client.send(request("GET", "/api/v10/gateway", ""));
            thread::sleep(Duration::from_millis(100));
            assert!(!weir.shutdown(Duration::from_millis(200)), "one was cut");
            let patience = Some(Duration::from_secs(2));
            client.stream.set_read_timeout(patience).expect("a timeout");
            let mut bytes = [0; 1024];
            let seen = loop {
                match client.stream.read(&mut bytes) {
                    Ok(0) => break None,
                    Ok(_) => {}
                    Err(error) => break Some(error.kind()),
                }
            };
            assert!(
                matches!(seen, None | Some(ErrorKind::ConnectionReset)),
                "{driver:?}: {seen:?}"
            );
        }
    }
    // Other tests of this process open and close descriptors too, so that the count is taken when
    // they have come to rest.
    let rounds = 10;
    let recorder = Recorder::start(|peer| {
        while peer.read_head() {
            peer.send(OK);
        }
    });
    let url = recorder.url().replace("127.0.0.1", "localhost");
    let before_all = descriptors();
    for _ in 0..rounds {
        let weir = before(&url, |_| ());
        let mut client = Client::connect(weir.proxy_addr());
        let answer = client.ask(&request("GET", "/api/v10/gateway", ""));
        assert_eq!(answer.status, 200);
        drop(client);
        assert!(weir.shutdown(Duration::from_secs(5)));
    }
    let rested = (0..500).any(|_| {
        thread::sleep(Duration::from_millis(20));
        threads("weir-dns") == 0 && descriptors() < before_all + rounds
    });
    assert!(
        rested,
        "{} DNS threads and {} descriptors more",
        threads("weir-dns"),
        descriptors().saturating_sub(before_all)
    );
}
