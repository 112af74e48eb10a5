//! Never more connections to a host than its cap, and those beyond it are told or wait their turn.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use weir::config::forward::RejectStatus;

use super::target::{Target, eventually};
use super::{DRIVERS, SOON, ask, connect_line, echoes, get, start, tunnel};
use crate::support::http::Client;

#[test]
fn beyond_the_cap_a_client_is_told_500_and_served_when_another_has_left() {
    for driver in DRIVERS {
        let target = Target::echo();
        let proxy = start(|options| {
            options.io_driver = driver;
            options.settings.max_connections = 2;
        });
        let mut held: Vec<_> = (0..2).map(|_| tunnel(&proxy, target.addr)).collect();
        let (_, refused) = ask(&proxy, target.addr);
        assert_eq!(refused.status, 500);
        assert_eq!(refused.header("retry-after"), None);
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.ask(&get(target.addr, "/")).status, 500, "plain, too");
        held.iter_mut().for_each(|stream| echoes(stream, b"there"));
        assert_eq!(target.ever(), 2, "nobody was dialled for them");
        drop(held.pop());
        let limits = proxy.limits();
        let key = target.addr.to_string();
        eventually("a slot is free", || limits.active_connections(&key) == 1);
        echoes(&mut tunnel(&proxy, target.addr), b"served");
    }
}

#[test]
fn a_proxy_may_say_503_with_retry_after_instead() {
    let target = Target::echo();
    let proxy = start(|options| {
        options.settings.max_connections = 1;
        options.settings.reject_status = RejectStatus::ServiceUnavailable;
    });
    let _held = tunnel(&proxy, target.addr);
    let (_, refused) = ask(&proxy, target.addr);
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[test]
fn of_500_clients_at_once_never_more_than_25_are_at_the_target() {
    const CLIENTS: usize = 500;
    for driver in DRIVERS {
        let target = Target::brief(Duration::from_millis(5));
        let proxy = start(|options| {
            options.io_driver = driver;
            options.settings.max_connections = 25;
            options.settings.queue_timeout = Some(Duration::from_secs(60));
        });
        let (addr, to) = (proxy.addr(), target.addr);
        let served = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                let build = thread::Builder::new().stack_size(128 * 1024);
                let run = || {
                    let mut client = Client::connect(addr);
                    client.send(connect_line(to));
                    assert_eq!(client.answer(true).status, 200);
                    assert_eq!(client.rest(), b"hello");
                    served.fetch_add(1, Ordering::Relaxed);
                };
                build.spawn_scoped(scope, run).unwrap();
            }
        });
        assert_eq!(served.into_inner(), CLIENTS);
        assert_eq!(target.ever(), CLIENTS);
        assert!(target.most() <= 25, "{driver:?}: {} at once", target.most());
        assert!(target.most() >= 10, "{driver:?}: the cap is used");
        assert!(proxy.stop(SOON));
    }
}

#[test]
fn without_a_line_500_clients_at_once_are_served_or_told_and_never_more_than_25_are_there() {
    const CLIENTS: usize = 500;
    let target = Target::brief(Duration::from_millis(20));
    let proxy = start(|options| options.settings.max_connections = 25);
    let (addr, to) = (proxy.addr(), target.addr);
    let (served, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let build = thread::Builder::new().stack_size(128 * 1024);
            let run = || {
                let mut client = Client::connect(addr);
                client.send(connect_line(to));
                match client.answer(true).status {
                    200 => served.fetch_add(1, Ordering::Relaxed),
                    500 => told.fetch_add(1, Ordering::Relaxed),
                    other => panic!("{other}"),
                };
                client.rest();
            };
            build.spawn_scoped(scope, run).unwrap();
        }
    });
    let (served, told) = (served.into_inner(), told.into_inner());
    assert_eq!(served + told, CLIENTS);
    assert_eq!(target.ever(), served);
    assert!(target.most() <= 25, "{} at once", target.most());
    let key = target.addr.to_string();
    let limits = proxy.limits();
    eventually("all slots are back", || {
        limits.active_connections(&key) == 0
    });
}

#[test]
fn those_in_line_are_served_in_the_order_in_which_they_came() {
    for driver in DRIVERS {
        let target = Target::serving(|mut stream| {
            // Tells whose turn it is, and waits for the end.
            let mut name = [0];
            while let Ok(1) = stream.read(&mut name) {
                if stream.write_all(&name).is_err() {
                    return;
                }
            }
        });
        let proxy = start(|options| {
            options.io_driver = driver;
            options.settings.max_connections = 1;
            options.settings.queue_timeout = Some(Duration::from_secs(30));
        });
        let first = tunnel(&proxy, target.addr);
        let waiting = |count| {
            let limits = proxy.limits();
            eventually("it waits", move || {
                let (_, others) = limits.tallies();
                let (named, _) = limits.tallies();
                let named: u64 = named.iter().map(|(_, tally)| tally.waiting).sum();
                named + others.waiting == count
            });
        };
        let mut line: Vec<Client> = Vec::new();
        for n in 0..6 {
            let mut client = Client::connect(proxy.addr());
            client.send(connect_line(target.addr));
            line.push(client);
            waiting(n + 1);
        }
        let mut last = first;
        for mut client in line {
            // Nobody is served out of turn: the one in front has to end first.
            last.shutdown(Shutdown::Both).unwrap();
            assert_eq!(client.answer(true).status, 200, "{driver:?}");
            last = client.stream;
            echoes(&mut last, b"n");
        }
    }
}

#[test]
fn a_wait_that_is_too_long_ends_with_500() {
    for driver in DRIVERS {
        let target = Target::echo();
        let proxy = start(|options| {
            options.io_driver = driver;
            options.settings.max_connections = 1;
            options.settings.queue_timeout = Some(Duration::from_millis(300));
        });
        let _held = tunnel(&proxy, target.addr);
        let began = Instant::now();
        let (_, refused) = ask(&proxy, target.addr);
        assert_eq!(refused.status, 500, "{driver:?}");
        assert!(began.elapsed() >= Duration::from_millis(300));
    }
}

#[test]
fn a_client_that_leaves_the_line_gives_its_place_up() {
    for driver in DRIVERS {
        let target = Target::echo();
        let proxy = start(|options| {
            options.io_driver = driver;
            options.settings.max_connections = 1;
            options.settings.queue_timeout = Some(Duration::from_secs(60));
        });
        let held = tunnel(&proxy, target.addr);
        let limits = proxy.limits();
        let waiting = || {
            let (named, others) = limits.tallies();
            named.iter().map(|(_, tally)| tally.waiting).sum::<u64>() + others.waiting
        };
        let leaving: Vec<_> = (0..5)
            .map(|n| {
                let mut client = Client::connect(proxy.addr());
                // Some of them have sent their first bytes ahead.
                let ahead = if n % 2 == 0 { "" } else { "ahead" };
                client.send(format!("{}{ahead}", connect_line(target.addr)));
                client
            })
            .collect();
        eventually("all wait", || waiting() == 5);
        let mut stays = Client::connect(proxy.addr());
        stays.send(connect_line(target.addr));
        eventually("one more waits", || waiting() == 6);
        drop(leaving);
        eventually("five have left", || waiting() == 1);
        drop(held);
        assert_eq!(stays.answer(true).status, 200, "{driver:?}");
        // A connection is there before its target has taken it.
        eventually("it was dialled", || target.ever() >= 2);
        assert_eq!(target.ever(), 2, "nobody was dialled for those who left");
    }
}

#[test]
fn caps_can_be_changed_while_it_runs() {
    let target = Target::echo();
    let proxy = start(|options| {
        options.settings.max_connections = 1;
        options.settings.queue_timeout = Some(Duration::from_secs(60));
    });
    let key = target.addr.to_string();
    let limits = proxy.limits();
    let _first = tunnel(&proxy, target.addr);
    let mut waits: TcpStream = {
        let mut client = Client::connect(proxy.addr());
        client.send(connect_line(target.addr));
        client.stream
    };
    waits
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    assert!(waits.read(&mut [0]).is_err(), "it waits");
    limits.set_host_limit(&key, 2).unwrap();
    waits.set_read_timeout(Some(SOON)).unwrap();
    let mut answer = [0; 12];
    waits.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(limits.active_connections(&key), 2);
    assert_eq!(limits.host_limits(), [(key.clone(), 2)]);
    assert!(limits.remove_host_limit(&key));
    limits.set_default_max_connections(0);
    let _more: Vec<_> = (0..10).map(|_| tunnel(&proxy, target.addr)).collect();
    assert_eq!(limits.active_connections(&key), 12);
}
