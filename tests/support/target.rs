//! Hosts to be connected to: they count who is connected.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A server on a loopback address.
pub struct Target {
    pub addr: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
    ever: AtomicUsize,
}

impl Target {
    /// Sends back what it is sent, until its client ends.
    pub fn echo() -> Self {
        Self::serving(|mut stream| {
            let mut bytes = [0; 16 * 1024];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..count]).is_err() {
                    return;
                }
            }
        })
    }

    /// Says one thing after a while, and ends.
    pub fn brief(pause: Duration) -> Self {
        Self::serving(move |mut stream| {
            thread::sleep(pause);
            let _ = stream.write_all(b"hello");
        })
    }

    /// Answers each head with its own length and first line, after a while, and goes on.
    pub fn http(pause: Duration) -> Self {
        Self::serving(move |mut stream| {
            let mut seen = Vec::new();
            let mut bytes = [0; 4096];
            loop {
                let end = loop {
                    if let Some(at) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                        break at + 4;
                    }
                    match stream.read(&mut bytes) {
                        Ok(count @ 1..) => seen.extend_from_slice(&bytes[..count]),
                        _ => return,
                    }
                };
                let head = String::from_utf8_lossy(&seen[..end]).into_owned();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("Content-Length: "))
                    .map_or(0, |value| value.parse::<usize>().expect("a length"));
                while seen.len() < end + length {
                    match stream.read(&mut bytes) {
                        Ok(count @ 1..) => seen.extend_from_slice(&bytes[..count]),
                        _ => return,
                    }
                }
                let body: Vec<u8> = seen.drain(..end + length).collect();
                thread::sleep(pause);
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                if stream.write_all(answer.as_bytes()).is_err() || stream.write_all(&body).is_err()
                {
                    return;
                }
            }
        })
    }

    /// Serves each connection on a thread of its own.
    pub fn serving(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let counts = Arc::new(Counts::default());
        let (serve, shared) = (Arc::new(serve), counts.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (serve, counts) = (serve.clone(), shared.clone());
                let now = counts.now.fetch_add(1, Ordering::SeqCst) + 1;
                counts.most.fetch_max(now, Ordering::SeqCst);
                counts.ever.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let kept = stream.try_clone().expect("a descriptor");
                    serve(stream);
                    // Before its end can be seen.
                    counts.now.fetch_sub(1, Ordering::SeqCst);
                    drop(kept);
                });
            }
        });
        Self { addr, counts }
    }

    pub fn now(&self) -> usize {
        self.counts.now.load(Ordering::SeqCst)
    }

    pub fn most(&self) -> usize {
        self.counts.most.load(Ordering::SeqCst)
    }

    pub fn ever(&self) -> usize {
        self.counts.ever.load(Ordering::SeqCst)
    }
}

/// Waits until something is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
