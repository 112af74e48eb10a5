//! An upstream that records every byte it gets and answers as it is told: for tests of what weir
//! really sends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A plain-HTTP upstream of one script: each connection is served by the same function.
pub struct Recorder {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// One connection, as the script sees it.
pub struct Peer {
    pub stream: TcpStream,
    number: usize,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    /// Serves each connection with `script`, on a thread of its own.
    pub fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(script);
        let shared = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                stream
                    .set_read_timeout(Some(Duration::from_secs(30)))
                    .expect("a timeout");
                let number = {
                    let mut seen = shared.lock().expect("no script panics with it");
                    seen.push(Vec::new());
                    seen.len() - 1
                };
                let mut peer = Peer {
                    stream,
                    number,
                    seen: shared.clone(),
                };
                let script = script.clone();
                thread::spawn(move || script(&mut peer));
            }
        });
        Self { addr, seen }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What came over each connection so far.
    pub fn seen(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("no script panics with it");
        seen.iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }
}

impl Peer {
    /// Which connection it is, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// What came on this connection so far.
    pub fn heard(&self) -> String {
        let seen = self.seen.lock().expect("no script panics with it");
        String::from_utf8_lossy(&seen[self.number]).into_owned()
    }

    /// Reads until what came on this connection ends with `end`; false if the stream ends before.
    pub fn read_until(&mut self, end: &str) -> bool {
        let mut byte = [0; 4096];
        let mut fresh = Vec::new();
        while !fresh.ends_with(end.as_bytes()) {
            let Ok(count @ 1..) = self.stream.read(&mut byte) else {
                return false;
            };
            fresh.extend_from_slice(&byte[..count]);
            self.seen.lock().expect("no script panics with it")[self.number]
                .extend_from_slice(&byte[..count]);
        }
        true
    }

    /// Reads one head, and whatever comes along with it.
    pub fn read_head(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let mut fresh = Vec::new();
        while !fresh.windows(4).any(|window| window == b"\r\n\r\n") {
            let Ok(count @ 1..) = self.stream.read(&mut bytes) else {
                return false;
            };
            fresh.extend_from_slice(&bytes[..count]);
            self.seen.lock().expect("no script panics with it")[self.number]
                .extend_from_slice(&bytes[..count]);
        }
        true
    }

    pub fn send(&mut self, bytes: &str) {
        // The other side may be gone: that is what some scripts are about.
        let _ = self.stream.write_all(bytes.as_bytes());
    }
}
