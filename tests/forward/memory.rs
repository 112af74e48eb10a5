//! What an idle tunnel costs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use loadtest::mock::{self, MockConfig};

use super::connect_line;
use super::target::eventually;
use crate::support::program::Program;
use crate::support::resident_bytes;

/// Tunnels that idle, where the limit of open files has room for as many: each takes two descriptors of
/// the proxy, which gives a quarter of its own to them, and two of this process.
const TUNNELS: usize = 10_000;

/// How many there are to be here.
fn tunnels() -> usize {
    let limit = weir::io::descriptors::raise_limit().unwrap();
    let fit = usize::try_from(limit).unwrap() / 16;
    assert!(
        fit >= 200,
        "too few open files are allowed to measure anything"
    );
    TUNNELS.min(fit)
}

/// Resident bytes that each may take.
const BYTES_EACH_MAX: u64 = 4 * 1024;

/// A listener that takes everybody in and does nothing but keep them.
fn keeper(count: usize) -> (SocketAddr, thread::JoinHandle<Vec<TcpStream>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let kept = thread::spawn(move || {
        let streams = listener.incoming().map_while(Result::ok);
        streams.take(count).collect()
    });
    (addr, kept)
}

/// Tunnels that come and go before anything is measured, so that what is kept for the next ones is there.
const WARM: usize = 200;

fn open(proxy: SocketAddr, target: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(connect_line(target).as_bytes()).unwrap();
    let mut seen = Vec::new();
    let mut bytes = [0; 256];
    while !seen.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "it is refused");
        seen.extend_from_slice(&bytes[..count]);
    }
    assert!(seen.starts_with(b"HTTP/1.1 200 "));
    stream
}

#[test]
fn idle_tunnels_take_4_kib_each_at_the_most() {
    let count = tunnels();
    let mock = mock::start(MockConfig::default()).unwrap();
    let weir = Program::start(
        &mock,
        &[
            ("WORKERS", "2"),
            ("FORWARD_PORT", "0"),
            ("FORWARD_ALLOW", "127.0.0.0/8"),
        ],
    );
    let proxy = weir.forward.expect("it says where it listens");
    let (target, kept) = keeper(count + WARM);
    drop((0..WARM).map(|_| open(proxy, target)).collect::<Vec<_>>());
    thread::sleep(Duration::from_millis(300));
    let before = resident_bytes(weir.pid());
    let tunnels: Vec<_> = (0..count).map(|_| open(proxy, target)).collect();
    let kept = kept.join().unwrap();
    assert!(kept.len() >= count);
    // Pages that were used in passing go back after a while.
    let each = |now: u64| now.saturating_sub(before) / count as u64;
    eventually("4 KiB each", || {
        each(resident_bytes(weir.pid())) <= BYTES_EACH_MAX
    });
    println!(
        "{} bytes for each of {} tunnels",
        each(resident_bytes(weir.pid())),
        tunnels.len()
    );
}
