//! What dprl documents, row by row. docs/forward-proxy.md has the same rows with what came of them.

use std::time::Duration;

use super::target::{Target, eventually};
use super::{SOON, ask, echoes, get, start, tunnel};
use crate::support::http::Client;

/// A behaviour and the test of it.
type Row = (&'static str, fn());

const ROWS: &[Row] = &[
    ("an HTTP proxy for https (CONNECT) and http", || {
        let (echo, http) = (Target::echo(), Target::http(Duration::ZERO));
        let proxy = start(|_| ());
        echoes(&mut tunnel(&proxy, echo.addr), b"anything");
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.ask(&get(http.addr, "/")).status, 200);
    }),
    ("TLS is not looked into", || {
        let target = Target::echo();
        let proxy = start(|_| ());
        // No TLS server would send that back.
        let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00";
        echoes(&mut tunnel(&proxy, target.addr), hello);
    }),
    ("a hard cap on connections to a host, over it 500", || {
        let target = Target::echo();
        let proxy = start(|options| options.settings.max_connections = 2);
        let mut held = [tunnel(&proxy, target.addr), tunnel(&proxy, target.addr)];
        assert_eq!(ask(&proxy, target.addr).1.status, 500);
        held.iter_mut().for_each(|stream| echoes(stream, b"go on"));
    }),
    ("it caps connections, not requests", || {
        let target = Target::http(Duration::ZERO);
        let proxy = start(|options| options.settings.max_connections = 1);
        let mut client = Client::connect(proxy.addr());
        for _ in 0..50 {
            assert_eq!(client.ask(&get(target.addr, "/")).status, 200);
        }
    }),
    ("a default of 0 is no cap", || {
        let target = Target::echo();
        let proxy = start(|options| options.settings.max_connections = 0);
        let held: Vec<_> = (0..40).map(|_| tunnel(&proxy, target.addr)).collect();
        let active = proxy.limits().active_connections(&target.addr.to_string());
        assert_eq!(active as usize, held.len());
    }),
    ("a host's own limit wins over the default", || {
        let (one, other) = (Target::echo(), Target::echo());
        let proxy = start(|options| options.settings.max_connections = 1);
        let limits = proxy.limits();
        limits.set_host_limit(&one.addr.to_string(), 2).unwrap();
        let _held = [tunnel(&proxy, one.addr), tunnel(&proxy, one.addr)];
        assert_eq!(ask(&proxy, one.addr).1.status, 500);
        let _held = tunnel(&proxy, other.addr);
        assert_eq!(ask(&proxy, other.addr).1.status, 500);
    }),
    ("a host's limit of 0 or none is the default again", || {
        let target = Target::echo();
        let proxy = start(|options| options.settings.max_connections = 1);
        let (limits, host) = (proxy.limits(), target.addr.to_string());
        limits.set_host_limit(&host, 5).unwrap();
        limits.set_host_limit(&host, 0).unwrap();
        assert!(!limits.remove_host_limit(&host), "it is gone");
        let _held = tunnel(&proxy, target.addr);
        assert_eq!(ask(&proxy, target.addr).1.status, 500);
    }),
    ("setting all host limits replaces those before", || {
        let proxy = start(|_| ());
        let limits = proxy.limits();
        limits.set_host_limit("a.example", 1).unwrap();
        let new = [("b.example:443", 2), ("c.example", 0)];
        limits.set_host_limits(new).unwrap();
        assert_eq!(limits.host_limits(), [("b.example".to_owned(), 2)]);
    }),
    (
        "ports 80 and 443 are the host itself, others are apart",
        || {
            let proxy = start(|_| ());
            let limits = proxy.limits();
            limits.set_host_limit("a.example:80", 1).unwrap();
            limits.set_host_limit("a.example:443", 2).unwrap();
            limits.set_host_limit("a.example:8443", 3).unwrap();
            let expected = [("a.example", 2), ("a.example:8443", 3)];
            let expected = expected.map(|(host, limit)| (host.to_owned(), limit));
            assert_eq!(limits.host_limits(), expected);
        },
    ),
    (
        "connections of a host can be asked for, and come down as they end",
        || {
            let target = Target::echo();
            let proxy = start(|_| ());
            let (limits, host) = (proxy.limits(), target.addr.to_string());
            assert_eq!(limits.active_connections(&host), 0);
            let held = [tunnel(&proxy, target.addr), tunnel(&proxy, target.addr)];
            assert_eq!(limits.active_connections(&host), 2);
            drop(held);
            eventually("none is left", || limits.active_connections(&host) == 0);
        },
    ),
    ("port 0 takes a free one, and the URL names it", || {
        let target = Target::echo();
        let proxy = start(|options| {
            options.settings.port = Some(0);
            options.settings.bind_ip = [0, 0, 0, 0].into();
        });
        let port = proxy.addr().port();
        assert_ne!(port, 0);
        assert_eq!(proxy.proxy_url(), format!("http://127.0.0.1:{port}"));
        echoes(&mut tunnel(&proxy, target.addr), b"there");
    }),
    ("it starts in the background and stops in order", || {
        let target = Target::echo();
        let proxy = start(|_| ());
        drop(tunnel(&proxy, target.addr));
        assert!(proxy.stop(SOON));
    }),
    ("a connection that cannot be opened takes no slot", || {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = nobody.local_addr().unwrap();
        drop(nobody);
        let proxy = start(|options| options.settings.max_connections = 1);
        for _ in 0..3 {
            assert_eq!(ask(&proxy, addr).1.status, 502);
        }
        assert_eq!(proxy.limits().active_connections(&addr.to_string()), 0);
    }),
];

#[test]
fn what_dprl_documents_holds_row_by_row() {
    for (row, holds) in ROWS {
        println!("{row}");
        holds();
    }
}
