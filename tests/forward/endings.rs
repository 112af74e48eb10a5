//! However a connection ends, or does not even begin, its slot comes back once.

use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::target::{Target, eventually};
use super::{DRIVERS, SOON, ask, connect_line, echoes, get, start, tunnel};
use crate::support::http::Client;

/// A port on which nobody is accepted: its queue is full.
fn deaf() -> (TcpListener, Vec<std::net::TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let listener: TcpListener = socket.into();
    let addr = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        queued.push(stream);
        assert!(queued.len() < 64, "the queue never fills");
    }
    (listener, queued)
}

#[test]
fn a_host_that_never_accepts_is_given_up_with_504() {
    for driver in DRIVERS {
        let (deaf, _queued) = deaf();
        let addr = deaf.local_addr().unwrap();
        let proxy = start(|options| {
            options.io_driver = driver;
            options.settings.max_connections = 1;
            options.settings.connect_timeout = Duration::from_millis(400);
        });
        let began = Instant::now();
        let (_, refused) = ask(&proxy, addr);
        assert_eq!(refused.status, 504, "{driver:?}");
        assert!(began.elapsed() >= Duration::from_millis(400));
        assert_eq!(proxy.limits().active_connections(&addr.to_string()), 0);
    }
}

#[test]
fn a_client_that_leaves_while_its_host_is_dialled_gives_the_slot_back_at_once() {
    for driver in DRIVERS {
        let (deaf, _queued) = deaf();
        let addr = deaf.local_addr().unwrap();
        let proxy = start(|options| {
            options.io_driver = driver;
            options.settings.connect_timeout = Duration::from_secs(60);
        });
        let mut client = Client::connect(proxy.addr());
        client.send(connect_line(addr));
        let limits = proxy.limits();
        let key = addr.to_string();
        eventually("it is dialled", || limits.active_connections(&key) == 1);
        drop(client);
        eventually("the slot is back", || limits.active_connections(&key) == 0);
    }
}

#[test]
fn a_host_that_refuses_and_one_without_an_address_are_told_with_502() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let proxy = start(|options| options.settings.max_connections = 1);
    for _ in 0..3 {
        let (_, refused) = ask(&proxy, nobody);
        assert_eq!(refused.status, 502);
    }
    assert_eq!(proxy.limits().active_connections(&nobody.to_string()), 0);
    let mut client = Client::connect(proxy.addr());
    client.send("CONNECT does-not-exist.invalid:443 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.answer(true).status, 502);
}

#[test]
fn a_client_that_half_closes_before_its_tunnel_stands_has_left() {
    let (deaf, _queued) = deaf();
    let addr = deaf.local_addr().unwrap();
    let proxy = start(|_| ());
    let mut client = Client::connect(proxy.addr());
    client.send(connect_line(addr));
    client.finish();
    assert!(client.try_answer(true).is_none());
    assert_eq!(proxy.limits().active_connections(&addr.to_string()), 0);
}

#[test]
fn a_client_that_half_closes_behind_a_plain_request_is_answered() {
    for driver in DRIVERS {
        let target = Target::http(Duration::from_millis(300));
        let proxy = start(|options| options.io_driver = driver);
        let mut client = Client::connect(proxy.addr());
        client.send(get(target.addr, "/half"));
        client.finish();
        let answer = client.answer(false);
        assert_eq!(answer.status, 200, "{driver:?}");
        assert!(answer.text().starts_with("GET /half HTTP/1.1\r\n"));
    }
}

#[test]
fn a_client_that_leaves_before_its_answer_gives_the_slot_back() {
    for driver in DRIVERS {
        let target = Target::http(Duration::from_secs(30));
        let proxy = start(|options| options.io_driver = driver);
        let mut client = Client::connect(proxy.addr());
        client.send(get(target.addr, "/"));
        let limits = proxy.limits();
        let key = target.addr.to_string();
        eventually("it is asked", || limits.active_connections(&key) == 1);
        std::thread::sleep(Duration::from_millis(200));
        drop(client);
        eventually("the slot is back", || limits.active_connections(&key) == 0);
    }
}

#[test]
fn stopping_lets_tunnels_finish_and_cuts_those_that_do_not() {
    for driver in DRIVERS {
        let target = Target::echo();
        let proxy = start(|options| options.io_driver = driver);
        let mut finishing = tunnel(&proxy, target.addr);
        let addr = proxy.addr();
        let stopping = std::thread::spawn(move || proxy.stop(SOON));
        eventually("nobody is accepted", || {
            std::net::TcpStream::connect(addr).is_err()
        });
        echoes(&mut finishing, b"still served");
        drop(finishing);
        assert!(stopping.join().unwrap(), "{driver:?}: nothing was cut");

        let proxy = start(|options| options.io_driver = driver);
        let limits = proxy.limits();
        let mut stays = tunnel(&proxy, target.addr);
        let began = Instant::now();
        assert!(!proxy.stop(Duration::from_millis(300)), "it was cut");
        assert!(began.elapsed() < Duration::from_secs(3));
        assert!(matches!(stays.read(&mut [0]), Ok(0) | Err(_)));
        assert_eq!(limits.active_connections(&target.addr.to_string()), 0);
    }
}

#[test]
fn those_in_line_when_it_stops_are_let_go() {
    let target = Target::echo();
    let proxy = start(|options| {
        options.settings.max_connections = 1;
        options.settings.queue_timeout = Some(Duration::from_secs(60));
    });
    let _held = tunnel(&proxy, target.addr);
    let limits = proxy.limits();
    let mut waits = Client::connect(proxy.addr());
    waits.send(connect_line(target.addr));
    eventually("it waits", || {
        let (named, others) = limits.tallies();
        named.iter().map(|(_, tally)| tally.waiting).sum::<u64>() + others.waiting == 1
    });
    assert!(!proxy.stop(Duration::from_millis(200)));
    let told = waits.try_answer(false).expect("it is told so");
    assert_eq!(told.status, 503, "{}", told.text());
    assert_eq!(limits.active_connections(&target.addr.to_string()), 0);
}

#[test]
fn those_in_line_are_still_served_while_it_stops() {
    for driver in DRIVERS {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = silent.local_addr().unwrap();
        let proxy = start(|options| {
            options.io_driver = driver;
            options.settings.max_connections = 1;
            options.settings.queue_timeout = Some(Duration::from_secs(60));
        });
        let held = tunnel(&proxy, addr);
        let limits = proxy.limits();
        let mut waits = Client::connect(proxy.addr());
        waits.send(connect_line(addr));
        eventually("it waits", || {
            let (named, others) = limits.tallies();
            named.iter().map(|(_, tally)| tally.waiting).sum::<u64>() + others.waiting == 1
        });
        let listening = proxy.addr();
        let stopping = std::thread::spawn(move || proxy.stop(SOON));
        eventually("nobody is accepted", || {
            std::net::TcpStream::connect(listening).is_err()
        });
        drop((held, silent.accept().unwrap()));
        assert_eq!(waits.answer(true).status, 200, "{driver:?}");
        drop((waits, silent.accept().unwrap()));
        assert!(stopping.join().unwrap(), "{driver:?}");
    }
}
