//! Bytes through tunnels, and how they end.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use super::target::{Target, eventually};
use super::{DRIVERS, SOON, connect_line, echoes, start, tunnel};
use crate::support::http::Client;

#[test]
fn bytes_go_both_ways_whole_and_in_order() {
    for driver in DRIVERS {
        let target = Target::echo();
        let proxy = start(|options| options.io_driver = driver);
        let mut stream = tunnel(&proxy, target.addr);
        for size in [1, 511, 512, 513, 70_000] {
            let bytes: Vec<u8> = (0..size).map(|n| (n * 7 % 251) as u8).collect();
            echoes(&mut stream, &bytes);
        }
        // Many megabytes, written by one thread and read by another, so that every buffer fills.
        let all: Vec<u8> = (0..24_u32 << 20).map(|n| (n / 3 % 253) as u8).collect();
        let mut writer = stream.try_clone().unwrap();
        let sent = all.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == all, "{driver:?}: {} of {}", back.len(), all.len());
        assert!(proxy.stop(SOON));
    }
}

#[test]
fn what_a_client_sends_behind_its_connect_is_the_tunnels() {
    for driver in DRIVERS {
        let target = Target::echo();
        let proxy = start(|options| options.io_driver = driver);
        let mut client = Client::connect(proxy.addr());
        client.send(format!("{}ahead", connect_line(target.addr)));
        assert_eq!(client.answer(true).status, 200);
        client.finish();
        assert_eq!(client.rest(), b"ahead");
    }
}

#[test]
fn an_end_of_one_direction_leaves_the_other() {
    for driver in DRIVERS {
        // Answers only once its client has said all that it has to say.
        let target = Target::serving(|mut stream| {
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).unwrap();
            asked.reverse();
            stream.write_all(&asked).unwrap();
        });
        let proxy = start(|options| options.io_driver = driver);
        let mut stream = tunnel(&proxy, target.addr);
        stream.write_all(b"abc").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"cba", "{driver:?}");

        // The other way round: the host has no more to say and still listens.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = tunnel(&proxy, listener.local_addr().unwrap());
        let (mut host, _) = listener.accept().unwrap();
        host.write_all(b"bye").unwrap();
        host.shutdown(Shutdown::Write).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"bye");
        stream.write_all(b"still here").unwrap();
        drop(stream);
        let mut heard = Vec::new();
        host.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"still here", "{driver:?}");
    }
}

#[test]
fn a_reset_is_passed_on_and_never_looks_like_an_end() {
    for driver in DRIVERS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = start(|options| options.io_driver = driver);
        let mut stream = tunnel(&proxy, listener.local_addr().unwrap());
        let (host, _) = listener.accept().unwrap();
        let socket = socket2::SockRef::from(&host);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        drop(host);
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{driver:?}");
        let key = listener.local_addr().unwrap().to_string();
        let limits = proxy.limits();
        eventually("the slot is back", || limits.active_connections(&key) == 0);
    }
}

#[test]
fn a_tunnel_that_is_silent_both_ways_ends_and_one_that_is_not_lives() {
    for driver in DRIVERS {
        let target = Target::echo();
        let proxy = start(|options| {
            options.io_driver = driver;
            options.settings.idle_timeout = Duration::from_millis(800);
        });
        let mut silent = tunnel(&proxy, target.addr);
        let mut busy = tunnel(&proxy, target.addr);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2_000) {
            echoes(&mut busy, b"ping");
            thread::sleep(Duration::from_millis(50));
        }
        // Not for want of patience: the proxy has ended it.
        assert!(matches!(silent.read(&mut [0]), Ok(0)), "{driver:?}");
        echoes(&mut busy, b"still there");
        eventually("the silent one is gone", || target.now() == 1);
    }
}

#[test]
fn a_reader_that_stalls_holds_up_nobody_else_and_loses_nothing() {
    for driver in DRIVERS {
        const BYTES: usize = 8 << 20;
        let source = Target::serving(|mut stream| {
            let _ = stream.write_all(&vec![b'x'; BYTES]);
        });
        let echo = Target::echo();
        let proxy = start(|options| {
            options.workers = 1;
            options.io_driver = driver;
        });
        let mut stalled: Vec<_> = (0..4).map(|_| tunnel(&proxy, source.addr)).collect();
        let mut other = tunnel(&proxy, echo.addr);
        for _ in 0..100 {
            echoes(&mut other, b"ping");
        }
        for stream in &mut stalled {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), BYTES, "{driver:?}");
        }
    }
}
